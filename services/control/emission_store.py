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


_COLUMNS = """
SELECT e.broadcast_id, c.title AS broadcast_title, c.unit_id AS issuer_id, e.occurrence_at, e.item, e.device_no, d.device_id,
       d.name AS device_name, e.unit_id, e.bulletin_id, e.relay_source_id, coalesce(b.title, s.name) AS title, e.level,
       e.content, e.starts_at, e.ends_at, e.withdrawn_at, e.stopped_at, e.outcome, e.reason, e.evidence, e.started_at,
       e.ended_at, e.sounded_ms, e.fallback_ms, e.cut_by_source, e.cut_by, e.is_resumed
  FROM control.emissions e
  JOIN control.devices d USING (device_no)
  LEFT JOIN control.bulletins b USING (bulletin_id)
  LEFT JOIN control.relay_sources s ON s.source_id = e.relay_source_id
  JOIN control.broadcasts c USING (broadcast_id)
"""


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


def _record(row: Record) -> EmissionRecord:
    values = dict(row)
    values["device_no"] = DeviceNo(values["device_no"])
    values["unit_id"] = UnitId(values["unit_id"])
    values["issuer_id"] = UnitId(values["issuer_id"])
    return EmissionRecord(**values)
