"""SQL that lists emissions with what became of them, for the proof of a broadcast and the history of a device."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Record

from schemas.identifiers import UnitId
from services.control.planning.model import MAX_OCCURRENCE_LENGTH, DeviceNo
from services.control.planning.reconcile import START_TOLERANCE, Outcome
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedAlert:
    """An alert, a test or a silence as people know it: what it said, and the unit that spoke as it was called then."""

    alert_id: uuid.UUID
    purpose: str
    event: str
    headline: str
    unit_id: UnitId
    unit_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingAlert:
    """An alert that means a device at an instant; `began_at` is when the device first let it sound, by its own word."""

    alert: NamedAlert
    since: datetime
    until: datetime
    began_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmissionRecord:
    """One item of one occurrence on one device, and what became of it; `outcome` is None while that is open."""

    broadcast_id: uuid.UUID
    broadcast_title: str
    issuer_id: UnitId
    occurrence_at: datetime
    item: int
    device_no: DeviceNo
    device_id: str
    device_name: str
    unit_id: UnitId
    bulletin_id: uuid.UUID | None
    relay_source_id: uuid.UUID | None
    title: str
    level: str
    content: str
    starts_at: datetime
    ends_at: datetime
    withdrawn_at: datetime | None
    stopped_at: datetime | None
    outcome: str | None
    reason: str | None
    evidence: str | None
    started_at: datetime | None
    ended_at: datetime | None
    sounded_ms: int | None
    fallback_ms: int | None
    cut_by_source: str | None
    cut_by: uuid.UUID | None
    cut_by_alert: NamedAlert | None
    is_resumed: bool | None

    @property
    def late_by(self) -> timedelta | None:
        """How long after its slot it began, of what is late or was cut; None when nobody heard the difference."""
        if self.started_at is None or self.outcome not in {Outcome.LATE, Outcome.CUT}:
            return None
        lateness = self.started_at - self.starts_at
        return lateness if lateness > START_TOLERANCE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a list of emissions was left off."""

    starts_at: datetime
    device_no: int
    item: int


# An alert by name, and its unit by the name it had when it spoke.
_NAMED = """
a.alert_id AS alert_id, a.purpose AS alert_purpose, a.event AS alert_event, a.headline AS alert_headline,
       a.unit_id AS alert_unit_id,
       (SELECT v.name
          FROM control.unit_versions v
         WHERE v.unit_id = a.unit_id AND v.valid_from <= a.first_issued_at::date
         ORDER BY v.valid_from DESC
         LIMIT 1) AS alert_unit_name
"""

_COLUMNS = (
    """
SELECT e.broadcast_id, c.title AS broadcast_title, c.unit_id AS issuer_id, e.occurrence_at, e.item, e.device_no, d.device_id,
       d.name AS device_name, e.unit_id, e.bulletin_id, e.relay_source_id, coalesce(b.title, s.name) AS title, e.level,
       e.content, e.starts_at, e.ends_at, e.withdrawn_at, e.stopped_at, e.outcome, e.reason, e.evidence, e.started_at,
       e.ended_at, e.sounded_ms, e.fallback_ms, e.cut_by_source, e.cut_by, e.is_resumed,
"""
    + _NAMED
    + """
  FROM control.emissions e
  JOIN control.devices d USING (device_no)
  LEFT JOIN control.bulletins b USING (bulletin_id)
  LEFT JOIN control.relay_sources s ON s.source_id = e.relay_source_id
  JOIN control.broadcasts c USING (broadcast_id)
  LEFT JOIN control.alerts a ON e.cut_by_source = 'alert' AND a.alert_id = e.cut_by
"""
)

_HOLDING = (
    """
SELECT a.first_issued_at, coalesce(a.ended_at, a.valid_until) AS until, r.first_start_at,
"""
    + _NAMED
    + """
  FROM control.alert_reach r
  JOIN control.alerts a USING (alert_id)
 WHERE r.device_no = $1
   AND r.is_addressed
   AND a.purpose <> 'silent_test'
   AND a.first_issued_at <= $2
   AND coalesce(a.ended_at, a.valid_until) > $2
 ORDER BY a.first_issued_at, a.alert_id
"""
)


async def of_broadcast(
    connection: Connection,
    broadcast_id: uuid.UUID,
    unit_ids: Iterable[UnitId],
    *,
    outcome: str | None,
    after: Place | None,
    limit: int,
) -> tuple[EmissionRecord, ...]:
    """Emissions of a broadcast on devices of the units, in order of start, device and item, after a place.

    `outcome` may also be `pending`: no verdict yet.
    """
    rows = await connection.fetch(
        _COLUMNS
        + """
         WHERE e.broadcast_id = $1
           AND e.unit_id = ANY ($2)
           AND e.withdrawn_at IS NULL
           AND ($3::text IS NULL OR coalesce(e.outcome, 'pending') = $3)
           AND (e.starts_at, e.device_no, e.item)
             > (coalesce($4::timestamptz, '-infinity'), coalesce($5::integer, 0), coalesce($6::smallint, 0))
         ORDER BY e.starts_at, e.device_no, e.item
         LIMIT $7
        """,
        broadcast_id,
        list(unit_ids),
        outcome,
        after.starts_at if after else None,
        after.device_no if after else None,
        after.item if after else None,
        limit,
    )
    return tuple(map(_record, rows))


async def past_of_device(
    connection: Connection, device_no: DeviceNo, *, since: datetime, until: datetime, limit: int
) -> tuple[EmissionRecord, ...]:
    """Emissions of a device that started in [since, until), newest first."""
    rows = await connection.fetch(
        _COLUMNS
        + """
         WHERE e.device_no = $1 AND e.starts_at >= $2 AND e.starts_at < $3 AND e.withdrawn_at IS NULL
         ORDER BY e.starts_at DESC, e.item DESC
         LIMIT $4
        """,
        device_no,
        since,
        until,
        limit,
    )
    return tuple(map(_record, rows))


async def around(connection: Connection, device_no: DeviceNo, *, at: datetime) -> tuple[EmissionRecord, ...]:
    """Emissions of a device whose slots hold an instant, also those that were taken back, in order of start."""
    rows = await connection.fetch(
        _COLUMNS
        + """
         WHERE e.device_no = $1 AND e.starts_at <= $2 AND e.starts_at > $2 - $3::interval AND e.ends_at > $2
         ORDER BY e.starts_at, e.broadcast_id, e.item
        """,
        device_no,
        at,
        MAX_OCCURRENCE_LENGTH,
    )
    return tuple(map(_record, rows))


async def coming_to_device(
    connection: Connection, device_no: DeviceNo, *, since: datetime, limit: int
) -> tuple[EmissionRecord, ...]:
    """Emissions of a device that start at or after an instant, the nearest first."""
    rows = await connection.fetch(
        _COLUMNS
        + """
         WHERE e.device_no = $1 AND e.starts_at >= $2 AND e.withdrawn_at IS NULL
         ORDER BY e.starts_at, e.item
         LIMIT $3
        """,
        device_no,
        since,
        limit,
    )
    return tuple(map(_record, rows))


async def alerts_holding(connection: Connection, device_no: DeviceNo, *, at: datetime) -> tuple[HoldingAlert, ...]:
    """Alerts, audible tests and silences that mean a device at an instant, in the order in which they were said."""
    rows = await connection.fetch(_HOLDING, device_no, at)
    return tuple(
        HoldingAlert(alert=alert, since=row["first_issued_at"], until=row["until"], began_at=row["first_start_at"])
        for row in rows
        if (alert := _named(row)) is not None
    )


def _named(row: Record) -> NamedAlert | None:
    if row["alert_id"] is None:
        return None
    return NamedAlert(
        alert_id=row["alert_id"],
        purpose=row["alert_purpose"],
        event=row["alert_event"],
        headline=row["alert_headline"],
        unit_id=UnitId(row["alert_unit_id"]),
        unit_name=row["alert_unit_name"] or str(row["alert_unit_id"]),
    )


def _record(row: Record) -> EmissionRecord:
    values = {name: value for name, value in row.items() if not name.startswith("alert_")}
    values["cut_by_alert"] = _named(row)
    values["device_no"] = DeviceNo(values["device_no"])
    values["unit_id"] = UnitId(values["unit_id"])
    values["issuer_id"] = UnitId(values["issuer_id"])
    return EmissionRecord(**values)
