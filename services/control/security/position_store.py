"""SQL of security events: how far each sink has been told, and what has happened since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from services.control.security import events
from services.control.security.events import SecurityEvent
from services.shared.database.pool import Connection

# A row of ingest may be committed a moment after the instant it carries.
SETTLING = timedelta(seconds=10)

_OPEN = """
INSERT INTO control.security_positions (sink, audit_number, tx, event_no, twins_at, signatures_at)
SELECT $1, coalesce(max(number), 0), pg_snapshot_xmin(pg_current_snapshot()), 0, $2, $2
  FROM control.audit_chain
    ON CONFLICT (sink) DO NOTHING
"""

# A database restored from a dump counts its transactions from the start again, and may have lost the end of the chain.
_READ = """
SELECT least(audit_number, (SELECT coalesce(max(number), 0) FROM control.audit_chain)) AS audit_number,
       CASE WHEN tx > pg_snapshot_xmax(pg_current_snapshot()) THEN pg_snapshot_xmin(pg_current_snapshot())
            ELSE tx
       END AS tx,
       event_no, twins_at, signatures_at
  FROM control.security_positions
 WHERE sink = $1
"""

_MOVE = """
UPDATE control.security_positions
   SET audit_number = $2, tx = $3, event_no = $4, twins_at = $5, signatures_at = $6
 WHERE sink = $1
"""

_SEALED = """
SELECT c.number, encode(c.hash, 'hex') AS hash, a.audit_id, a.at, a.account_id::text AS account_id, p.login, a.origin,
       a.action, a.unit_id::text AS unit_id, a.subject, a.before, a.after
  FROM control.audit_chain c
  JOIN control.audit a USING (audit_id)
  LEFT JOIN control.accounts p USING (account_id)
 WHERE c.number > $1
 ORDER BY c.number
 LIMIT $2
"""

_EVENTS = """
SELECT e.tx, e.event_no, e.kind, e.received_at, e.principal, d.device_id,
       CASE WHEN e.kind = 'refused' THEN e.body END AS body
  FROM telemetry.event_log e
  LEFT JOIN control.devices d USING (device_no)
 WHERE e.tx < pg_snapshot_xmin(pg_current_snapshot())
   AND (e.tx, e.event_no) > ($1, $2)
 ORDER BY e.tx, e.event_no
 LIMIT $3
"""

_TWINS = """
SELECT s.first_seen_at, s.proof, s.detail, d.device_id
  FROM telemetry.shared_certificate_log s
  LEFT JOIN control.devices d USING (device_no)
 WHERE s.first_seen_at > $1
   AND s.first_seen_at <= $2
 ORDER BY s.first_seen_at
"""

# The same bytes that come again are one row, and what is beyond the quota of its sender is counted only: who floods tells
# us no more by it.
_SIGNATURES = """
SELECT q.first_seen_at, q.device, q.principal, q.reason, q.detail, q.quarantine_id
  FROM telemetry.quarantine_log q
 WHERE q.last_seen_at > $1
   AND q.first_seen_at > $1
   AND q.first_seen_at <= $2
   AND q.reason IN ('bad_signature', 'unknown_key')
 ORDER BY q.first_seen_at
 LIMIT $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a sink has been told."""

    audit_number: int
    tx: int
    event_no: int
    twins_at: datetime
    signatures_at: datetime


async def try_lock(connection: Connection, sink: str) -> bool:
    """Be the only one who tells this sink, until `unlock`; outside a transaction, which would hold up other readers."""
    is_ours: bool = await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", f"security:{sink}")
    return is_ours


async def unlock(connection: Connection, sink: str) -> None:
    """Let another replica."""
    await connection.execute("SELECT pg_advisory_unlock(hashtext($1))", f"security:{sink}")


async def position(connection: Connection, sink: str, *, now: datetime) -> Position:
    """How far the sink has been told; a new one begins now."""
    await connection.execute(_OPEN, sink, now)
    row = await connection.fetchrow(_READ, sink)
    assert row is not None
    return Position(**dict(row))


async def move(connection: Connection, sink: str, to: Position) -> None:
    """Everything up to there was handed over."""
    await connection.execute(_MOVE, sink, to.audit_number, to.tx, to.event_no, to.twins_at, to.signatures_at)


async def since(
    connection: Connection, place: Position, *, limit: int, now: datetime
) -> tuple[Sequence[SecurityEvent], Position, bool]:
    """What has happened since, how far that reaches, and whether there may be more."""
    found: list[SecurityEvent] = []
    entries = await connection.fetch(_SEALED, place.audit_number, limit)
    told = await connection.fetch(_EVENTS, place.tx, place.event_no, limit)
    for row in entries:
        found += filter(None, [_of_entry(dict(row))])
        place = replace(place, audit_number=row["number"])
    for row in told:
        if row["body"] is not None:
            found.append(
                events.of_device(
                    row["body"],
                    at=row["received_at"],
                    device=row["device_id"],
                    principal=row["principal"],
                    event_no=row["event_no"],
                )
            )
        place = replace(place, tx=row["tx"], event_no=row["event_no"])
    for row in await connection.fetch(_TWINS, place.twins_at, now - SETTLING):
        twin = {"device": row["device_id"], "proof": row["proof"], "detail": row["detail"]}
        found.append(events.of_twin(at=row["first_seen_at"], **twin))
        place = replace(place, twins_at=row["first_seen_at"])
    wrong = await connection.fetch(_SIGNATURES, place.signatures_at, now - SETTLING, limit)
    for row in wrong:
        facts = {name: row[name] for name in ("device", "principal", "reason", "detail", "quarantine_id")}
        found.append(events.of_signature(at=row["first_seen_at"], **facts))
        place = replace(place, signatures_at=row["first_seen_at"])
    return found, place, limit in (len(entries), len(told), len(wrong))


def _of_entry(row: dict[str, Any]) -> SecurityEvent | None:
    action, at = row.pop("action"), row.pop("at")
    after = row["after"] if isinstance(row["after"], dict) else {}
    return events.of_audit(action, at=at, facts={**row, "code": after.get("code"), "purpose": after.get("purpose")})
