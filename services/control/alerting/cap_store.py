"""SQL of CAP messages that units have taken in, and of the senders they trust to propose alerts."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.identifiers import AlertId, UnitId
from services.control.alerting.model import CapReference
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class CapSender:
    """A sender whose messages a unit takes from one account."""

    unit_id: UnitId
    sender: str
    account_id: uuid.UUID
    trusted_since: datetime
    trusted_by: uuid.UUID | None


_SENDERS = "SELECT unit_id, sender, account_id, trusted_since, trusted_by FROM control.cap_senders WHERE unit_id = $1"


async def senders(connection: Connection, unit_id: UnitId) -> tuple[CapSender, ...]:
    """The senders a unit trusts, by name."""
    return tuple(CapSender(**dict(row)) for row in await connection.fetch(_SENDERS + " ORDER BY sender", unit_id))


async def sender(connection: Connection, unit_id: UnitId, name: str) -> CapSender | None:
    """One of them."""
    row = await connection.fetchrow(_SENDERS + " AND sender = $2", unit_id, name)
    return CapSender(**dict(row)) if row is not None else None


async def sender_for_update(connection: Connection, unit_id: UnitId, name: str) -> CapSender | None:
    """One of them, locked: what it says is taken one after the other."""
    row = await connection.fetchrow(_SENDERS + " AND sender = $2 FOR UPDATE", unit_id, name)
    return CapSender(**dict(row)) if row is not None else None


async def put(connection: Connection, sender: CapSender) -> None:
    """Trust a sender from now on, or another account to deliver for it."""
    await connection.execute(
        """
        INSERT INTO control.cap_senders (unit_id, sender, account_id, trusted_since, trusted_by)
        VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (unit_id, sender) DO UPDATE
           SET account_id = excluded.account_id, trusted_since = excluded.trusted_since,
               trusted_by = excluded.trusted_by
        """,
        sender.unit_id,
        sender.sender,
        sender.account_id,
        sender.trusted_since,
        sender.trusted_by,
    )


async def remove(connection: Connection, unit_id: UnitId, name: str) -> None:
    """Trust it no longer."""
    await connection.execute("DELETE FROM control.cap_senders WHERE unit_id = $1 AND sender = $2", unit_id, name)


async def waiting(connection: Connection, unit_ids: Collection[UnitId], name: str) -> int:
    """How many messages of a sender wait for somebody in these units, whole or in part."""
    found: int = await connection.fetchval(
        """
        SELECT count(*)
          FROM control.cap_messages k
         WHERE k.unit_id = ANY ($1)
           AND k.sender = $2
           AND EXISTS (SELECT FROM control.alert_proposals p
                         JOIN control.alerts a USING (alert_id)
                        WHERE alert_id = ANY (k.alert_ids) AND p.outcome IS NULL AND a.state = 'proposed')
        """,
        list(unit_ids),
        name,
    )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCap:
    """A CAP message that a unit has taken in: what became of it, and the document as it came."""

    alert_ids: tuple[AlertId, ...]
    document: bytes


async def cap_message(connection: Connection, unit_ids: Collection[UnitId], message: CapReference) -> KeptCap | None:
    """A CAP message, if one of the units has taken it in; several may have, before they became one."""
    row = await connection.fetchrow(
        """
        SELECT alert_ids, document
          FROM control.cap_messages
         WHERE unit_id = ANY ($1) AND sender = $2 AND identifier = $3 AND sent = $4
         ORDER BY unit_id
         LIMIT 1
        """,
        list(unit_ids),
        message.sender,
        message.identifier,
        message.sent,
    )
    return KeptCap(alert_ids=tuple(row["alert_ids"]), document=row["document"]) if row is not None else None


async def replacing(connection: Connection, unit_ids: Collection[UnitId], message: CapReference) -> str | None:
    """The identifier of the newest message that replaces this one or takes it back, if one of the units has taken it in."""
    found: str | None = await connection.fetchval(
        """
        SELECT k.identifier
          FROM control.cap_messages k
         WHERE k.unit_id = ANY ($1)
           AND k.sender = $2
           AND EXISTS (SELECT FROM unnest(k.replaced_identifiers, k.replaced_sent) AS replaced (identifier, sent)
                        WHERE replaced.identifier = $3 AND replaced.sent = $4)
         ORDER BY k.sent DESC
         LIMIT 1
        """,
        list(unit_ids),
        message.sender,
        message.identifier,
        message.sent,
    )
    return found


async def one_after_the_other(connection: Connection, unit_id: UnitId, sender: str) -> None:
    """Until the transaction ends nobody else takes in a message of the sender for the unit: which came first is known."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"cap_message:{unit_id}:{sender}")


async def alerts_of(
    connection: Connection, unit_ids: Collection[UnitId], sender: str, messages: Sequence[CapReference]
) -> set[AlertId]:
    """The alerts that those of these messages of a sender have become which one of the units has taken in."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT unnest(k.alert_ids) AS alert_id
          FROM control.cap_messages k
          JOIN unnest($3::text[], $4::timestamptz[]) AS named (identifier, sent) USING (identifier, sent)
         WHERE k.unit_id = ANY ($1) AND k.sender = $2
        """,
        list(unit_ids),
        sender,
        [each.identifier for each in messages],
        [each.sent for each in messages],
    )
    return {AlertId(row["alert_id"]) for row in rows}


async def keep_cap(
    connection: Connection,
    message: CapReference,
    message_type: str,
    replaced: Sequence[CapReference],
    alert_ids: Sequence[AlertId],
    unit_id: UnitId,
    document: bytes,
    *,
    by: uuid.UUID | None,
    at: datetime,
) -> bool:
    """Keep a CAP message as it came, and which of its sender it replaces; False if the unit has it already."""
    kept = await connection.fetchval(
        """
        INSERT INTO control.cap_messages
               (sender, identifier, sent, alert_ids, message_type, unit_id, received_at, received_by, document,
                replaced_identifiers, replaced_sent)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            ON CONFLICT DO NOTHING
        RETURNING true
        """,
        message.sender,
        message.identifier,
        message.sent,
        list(alert_ids),
        message_type,
        unit_id,
        at,
        by,
        document,
        [each.identifier for each in replaced],
        [each.sent for each in replaced],
    )
    return kept is not None
