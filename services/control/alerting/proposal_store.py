"""SQL of proposed alerts: why they were proposed, and what came of them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Record

from schemas.identifiers import AlertId, UnitId
from services.control.alerting import alert_store
from services.control.alerting.model import Alert
from services.control.alerting.proposal import Outcome, Proposal
from services.control.errors import NotFound
from services.shared.database.pool import Connection

_PROPOSALS = """
SELECT p.alert_id, p.version, p.rule_id, p.rule_version, p.alarm_id, p.reason, p.validity_s, p.proposed_at, p.expires_at,
       p.outcome, p.decided_at, p.decided_by, p.note, s.cleared_at AS reason_over_since
  FROM control.alert_proposals p
  LEFT JOIN control.sensor_alarms s USING (alarm_id)
"""

_ADD = """
INSERT INTO control.alert_proposals
       (alert_id, rule_id, rule_version, alarm_id, reason, validity_s, proposed_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

_CLOSE = """
UPDATE control.alert_proposals
   SET outcome = $2, decided_at = $3, decided_by = $4, note = $5, version = version + 1
 WHERE alert_id = $1
   AND outcome IS NULL
"""

_ON_GROUND = """
SELECT p.alert_id
  FROM control.alert_proposals p
  JOIN control.alerts a USING (alert_id)
 WHERE (a.unit_ids && $1 OR a.unit_id = ANY ($1))
   AND (NOT $2 OR p.outcome IS NULL AND p.expires_at > $3 AND a.state = 'proposed')
 ORDER BY p.proposed_at DESC, p.alert_id
 LIMIT $4
"""

_WAITING = """
SELECT a.origin, count(*) AS proposals, count(*) FILTER (WHERE p.proposed_at <= $2) AS overdue,
       min(p.proposed_at) AS oldest_at
  FROM control.alert_proposals p
  JOIN control.alerts a USING (alert_id)
 WHERE p.outcome IS NULL
   AND p.expires_at > $1
   AND a.state = 'proposed'
   AND ($3::uuid[] IS NULL OR a.unit_ids && $3 OR a.unit_id = ANY ($3))
 GROUP BY a.origin
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many proposals of an origin wait, how many for longer than they should, and since when the oldest does."""

    origin: str
    proposals: int
    overdue: int
    oldest_at: datetime


async def add(connection: Connection, proposal: Proposal) -> None:
    """Put a proposal and its alert on record. One rule has one open proposal at most: the database holds it."""
    await alert_store.add(connection, proposal.alert)
    await connection.execute(
        _ADD,
        proposal.alert.alert_id,
        proposal.rule_id,
        proposal.rule_version,
        proposal.alarm_id,
        proposal.reason,
        round(proposal.validity.total_seconds()) if proposal.validity is not None else None,
        proposal.proposed_at,
        proposal.expires_at,
    )


async def proposal(connection: Connection, alert_id: uuid.UUID) -> Proposal:
    """One proposal. Raises `NotFound`."""
    row = await connection.fetchrow(_PROPOSALS + " WHERE p.alert_id = $1", alert_id)
    if row is None:
        raise NotFound("proposal_not_found", facts={"id": str(alert_id)})
    return _proposal(row, await alert_store.alert(connection, alert_id))


async def proposal_for_update(connection: Connection, alert_id: uuid.UUID) -> Proposal:
    """One proposal, its alert locked until the transaction ends: of two decisions one is first. Raises `NotFound`."""
    await connection.execute("SELECT FROM control.alerts WHERE alert_id = $1 FOR UPDATE", alert_id)
    return await proposal(connection, alert_id)


async def close(
    connection: Connection,
    alert_id: AlertId,
    outcome: Outcome,
    *,
    by: uuid.UUID | None,
    note: str | None,
    at: datetime,
) -> None:
    """Note what came of an alert, if it was proposed."""
    await connection.execute(_CLOSE, alert_id, outcome, at, by, note)


async def on_ground(
    connection: Connection, unit_ids: Iterable[UnitId], *, is_waiting: bool, now: datetime, limit: int
) -> tuple[Proposal, ...]:
    """Proposals of units or for their ground, newest first: those that wait, or all."""
    rows = await connection.fetch(_ON_GROUND, list(unit_ids), is_waiting, now, limit)
    return tuple([await proposal(connection, row["alert_id"]) for row in rows])


async def expired(connection: Connection, *, now: datetime) -> tuple[uuid.UUID, ...]:
    """Those about which nobody decided in time, locked."""
    rows = await connection.fetch(
        """
        SELECT p.alert_id
          FROM control.alert_proposals p
          JOIN control.alerts a USING (alert_id)
         WHERE p.outcome IS NULL AND p.expires_at <= $1 AND a.state = 'proposed'
         ORDER BY p.expires_at
         LIMIT 50
           FOR UPDATE SKIP LOCKED
        """,
        now,
    )
    return tuple(row["alert_id"] for row in rows)


async def open_of(connection: Connection, rule_id: uuid.UUID) -> uuid.UUID | None:
    """The proposal of a rule about which nobody has decided."""
    found: uuid.UUID | None = await connection.fetchval(
        "SELECT alert_id FROM control.alert_proposals WHERE rule_id = $1 AND outcome IS NULL", rule_id
    )
    return found


async def waiting(
    connection: Connection, unit_ids: Collection[UnitId] | None = None, *, patience: timedelta, now: datetime
) -> tuple[Waiting, ...]:
    """What waits, by origin: on the ground of the units, or anywhere."""
    rows = await connection.fetch(_WAITING, now, now - patience, list(unit_ids) if unit_ids is not None else None)
    return tuple(Waiting(**dict(row)) for row in rows)


def _proposal(row: Record, alert: Alert) -> Proposal:
    return Proposal(
        alert=alert,
        version=row["version"],
        rule_id=row["rule_id"],
        rule_version=row["rule_version"],
        alarm_id=row["alarm_id"],
        reason=row["reason"],
        validity=timedelta(seconds=row["validity_s"]) if row["validity_s"] is not None else None,
        proposed_at=row["proposed_at"],
        expires_at=row["expires_at"],
        outcome=Outcome(row["outcome"]) if row["outcome"] is not None else None,
        decided_at=row["decided_at"],
        decided_by=row["decided_by"],
        note=row["note"],
        reason_over_since=row["reason_over_since"],
    )
