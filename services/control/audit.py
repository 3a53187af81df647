"""The append-only record of who changed what (S-08), written in the transaction of the change itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.identifiers import UnitId
from services.control.permissions import Actor
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change: `subject` names the thing as `kind:id`; secrets and hashes of secrets are never facts."""

    action: str
    subject: str
    unit_id: UnitId | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An entry as it was recorded."""

    audit_id: int
    at: datetime
    account_id: uuid.UUID | None
    login: str | None
    origin: str | None
    action: str
    unit_id: UnitId | None
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


async def record(
    connection: Connection, entry: Entry, *, actor: Actor | None, origin: str | None, at: datetime
) -> None:
    """Append the entry; without an actor it was the platform, or somebody at its own keyboard."""
    await record_all(connection, [entry], actor=actor, origin=origin, at=at)


async def record_all(
    connection: Connection, entries: Iterable[Entry], *, actor: Actor | None, origin: str | None, at: datetime
) -> None:
    """Append several entries at once."""
    await connection.executemany(
        """
        INSERT INTO control.audit (at, account_id, origin, action, unit_id, subject, before, after)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        [
            (
                at,
                actor.account_id if actor else None,
                origin,
                entry.action,
                entry.unit_id,
                entry.subject,
                entry.before,
                entry.after,
            )
            for entry in entries
        ],
    )


async def of_subject(connection: Connection, subject: str, unit_id: UnitId, *, limit: int) -> tuple[Recorded, ...]:
    """The newest entries about one thing of a unit."""
    rows = await connection.fetch(
        """
        SELECT a.audit_id, a.at, a.account_id, p.login, a.origin, a.action, a.unit_id, a.subject, a.before, a.after
          FROM control.audit a
          LEFT JOIN control.accounts p USING (account_id)
         WHERE a.unit_id = $1
           AND a.subject = $2
         ORDER BY a.audit_id DESC
         LIMIT $3
        """,
        unit_id,
        subject,
        limit,
    )
    return tuple(Recorded(**dict(row)) for row in rows)


async def entries(
    connection: Connection, unit_ids: frozenset[UnitId], *, before: int | None, limit: int
) -> tuple[Recorded, ...]:
    """The newest entries about these units, older than entry number `before`."""
    rows = await connection.fetch(
        """
        SELECT a.audit_id, a.at, a.account_id, p.login, a.origin, a.action, a.unit_id, a.subject, a.before, a.after
          FROM control.audit a
          LEFT JOIN control.accounts p USING (account_id)
         WHERE a.unit_id = ANY ($1)
           AND ($2::bigint IS NULL OR a.audit_id < $2)
         ORDER BY a.audit_id DESC
         LIMIT $3
        """,
        list(unit_ids),
        before,
        limit,
    )
    return tuple(Recorded(**dict(row)) for row in rows)
