"""SQL of proof sheets: emissions of a unit and a month added up, what was not planned, and sheets that were made."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from asyncpg import Record

from schemas.identifiers import UnitId
from services.control import vietnamese
from services.control.proof_sheets import (
    FIGURES,
    BroadcastRow,
    DayRow,
    DeviceRow,
    Figures,
    ProblemRow,
    ReasonRow,
    Uptake,
)
from services.control.units import UnitHistory, UnitTree
from services.shared.database.pool import Connection

# Grouped three ways at once, so that the emissions are read once. Days are those of the province's zone. A gateway's word
# is none of the device's, whatever it says.
_FIGURES = """
SELECT grouping(day, broadcast_id, device_no) AS grouped, day, broadcast_id, device_no, max(unit_id::text)::uuid AS unit_id,
       count(*) AS planned,
       sum(length_ms) AS planned_ms,
       count(*) FILTER (WHERE outcome = 'played' AND is_own) AS played,
       sum(source_ms) FILTER (WHERE outcome = 'played' AND is_own) AS played_ms,
       count(*) FILTER (WHERE outcome = 'late' AND is_own) AS late,
       sum(source_ms) FILTER (WHERE outcome = 'late' AND is_own) AS late_ms,
       sum(late_by_ms) FILTER (WHERE outcome = 'late' AND is_own) AS late_by_ms,
       count(*) FILTER (WHERE outcome = 'cut' AND is_own) AS cut,
       sum(source_ms) FILTER (WHERE outcome = 'cut' AND is_own) AS cut_ms,
       count(*) FILTER (WHERE outcome = 'missed' AND is_own) AS missed,
       sum(length_ms) FILTER (WHERE outcome = 'missed' AND is_own) AS missed_ms,
       count(*) FILTER (WHERE outcome = 'refused' AND is_own) AS refused,
       sum(length_ms) FILTER (WHERE outcome = 'refused' AND is_own) AS refused_ms,
       count(*) FILTER (WHERE outcome = 'unknown' AND is_own) AS unknown,
       sum(length_ms) FILTER (WHERE outcome = 'unknown' AND is_own) AS unknown_ms,
       count(*) FILTER (WHERE NOT is_own) AS by_gateway,
       sum(length_ms) FILTER (WHERE NOT is_own) AS by_gateway_ms,
       count(*) FILTER (WHERE outcome IS NULL) AS open,
       sum(length_ms) FILTER (WHERE outcome IS NULL) AS open_ms,
       sum(fallback_ms) FILTER (WHERE is_own) AS fallback_ms
  FROM (SELECT (e.starts_at AT TIME ZONE $4)::date AS day, e.broadcast_id, e.device_no, e.unit_id, e.outcome,
               e.evidence IS DISTINCT FROM 'gateway' AS is_own,
               (extract(epoch FROM e.ends_at - e.starts_at) * 1000)::bigint AS length_ms,
               greatest(coalesce(e.sounded_ms, 0) - coalesce(e.fallback_ms, 0), 0) AS source_ms,
               coalesce(e.fallback_ms, 0) AS fallback_ms,
               (extract(epoch FROM e.started_at - e.starts_at) * 1000)::bigint AS late_by_ms
          FROM unnest($1::timestamptz[], $2::timestamptz[], $3::uuid[]) AS held (begins_at, ends_at, unit_id)
          JOIN control.emissions e
            ON e.unit_id = held.unit_id AND e.starts_at >= held.begins_at AND e.starts_at < held.ends_at
         WHERE e.withdrawn_at IS NULL) counted
 GROUP BY GROUPING SETS ((day), (broadcast_id), (device_no))
"""

_BULLETINS = """
SELECT count(DISTINCT e.bulletin_id)
  FROM unnest($1::timestamptz[], $2::timestamptz[], $3::uuid[]) AS held (begins_at, ends_at, unit_id)
  JOIN control.emissions e
    ON e.unit_id = held.unit_id AND e.starts_at >= held.begins_at AND e.starts_at < held.ends_at
 WHERE e.withdrawn_at IS NULL
"""

_REASONS = """
SELECT e.outcome, e.reason, e.evidence, count(*) AS emissions, count(DISTINCT e.device_no) AS devices, a.alert_id,
       a.headline, a.unit_id
  FROM unnest($1::timestamptz[], $2::timestamptz[], $3::uuid[]) AS held (begins_at, ends_at, unit_id)
  JOIN control.emissions e
    ON e.unit_id = held.unit_id AND e.starts_at >= held.begins_at AND e.starts_at < held.ends_at
  LEFT JOIN control.alerts a ON e.cut_by_source = 'alert' AND a.alert_id = e.cut_by
 WHERE e.withdrawn_at IS NULL
   AND e.reason IS NOT NULL
   AND e.outcome IS NOT NULL
 GROUP BY e.outcome, e.reason, e.evidence, a.alert_id, a.headline, a.unit_id
 ORDER BY emissions DESC, e.outcome, e.reason, e.evidence, a.alert_id
"""

_BROADCASTS = """
SELECT broadcast_id, title, unit_id, level
  FROM control.broadcasts
 WHERE broadcast_id = ANY ($1)
"""

_DEVICES = """
SELECT device_no, device_id, name, kind, latitude, longitude
  FROM control.devices
 WHERE device_no = ANY ($1)
"""

# A problem concerns the unit when the broadcast is its own, when it is about a device there, or when it names the unit.
_PROBLEMS = """
SELECT p.broadcast_id, b.title, p.problem, count(DISTINCT p.local_day) AS times, min(p.local_day) AS first,
       max(p.local_day) AS last
  FROM control.planning_problems p
  JOIN control.broadcasts b USING (broadcast_id)
  LEFT JOIN control.devices d USING (device_no)
 WHERE p.local_day >= $1
   AND p.local_day < $2
   AND (b.unit_id = ANY ($3) OR d.unit_id = ANY ($3) OR p.unit_id = ANY ($3))
 GROUP BY p.broadcast_id, b.title, p.problem
 ORDER BY b.title COLLATE "C", p.broadcast_id, p.problem
"""

_UPTAKE = """
SELECT count(*) AS offered,
       count(*) FILTER (WHERE state = 'accepted') AS accepted,
       count(*) FILTER (WHERE state = 'declined') AS declined,
       count(*) FILTER (WHERE state = 'scheduled') AS scheduled
  FROM control.uptake
 WHERE unit_id = ANY ($1)
   AND offered_at >= $2
   AND offered_at < $3
"""

_REMEMBER = """
INSERT INTO control.proof_sheets (unit_id, month, digest, made_at, made_by)
VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (unit_id, month, digest) DO NOTHING
"""

_MADE = """
SELECT made_at, made_by
  FROM control.proof_sheets
 WHERE (unit_id, month, digest) = ($1, $2, $3)
"""

_BY_DAY, _BY_BROADCAST, _BY_DEVICE = 0b011, 0b101, 0b110


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A span of time in which some units made up the unit of the sheet."""

    begins_at: datetime
    ends_at: datetime
    unit_ids: tuple[UnitId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Emissions added up three ways, each sorted."""

    days: tuple[DayRow, ...]
    broadcasts: tuple[BroadcastRow, ...]
    devices: tuple[DeviceRow, ...]
    reasons: tuple[ReasonRow, ...]
    bulletins: int


async def add_up(
    connection: Connection, held: Sequence[Held], *, time_zone: str, tree: UnitTree, history: UnitHistory
) -> Added:
    """The emissions that begin in the spans on devices of their units; `tree` and `history` name units."""
    spans = (
        [span.begins_at for span in held for _ in span.unit_ids],
        [span.ends_at for span in held for _ in span.unit_ids],
        [unit_id for span in held for unit_id in span.unit_ids],
    )
    rows = await connection.fetch(_FIGURES, *spans, time_zone)
    by_broadcast = {row["broadcast_id"]: row for row in rows if row["grouped"] == _BY_BROADCAST}
    by_device = {row["device_no"]: row for row in rows if row["grouped"] == _BY_DEVICE}

    def name(unit_id: uuid.UUID) -> str:
        unit = tree.get(UnitId(unit_id)) or history.last(UnitId(unit_id))
        return unit.name if unit is not None else str(unit_id)

    return Added(
        days=tuple(
            sorted(
                (DayRow(day=row["day"], figures=_figures(row)) for row in rows if row["grouped"] == _BY_DAY),
                key=lambda row: row.day,
            )
        ),
        broadcasts=tuple(
            sorted(
                (
                    BroadcastRow(
                        broadcast_id=row["broadcast_id"],
                        title=row["title"],
                        issuer_id=UnitId(row["unit_id"]),
                        issuer=name(row["unit_id"]),
                        level=row["level"],
                        figures=_figures(by_broadcast[row["broadcast_id"]]),
                    )
                    for row in await connection.fetch(_BROADCASTS, list(by_broadcast))
                ),
                key=lambda row: (vietnamese.sort_key(row.title), row.broadcast_id),
            )
        ),
        devices=tuple(
            sorted(
                (
                    DeviceRow(
                        device_id=row["device_id"],
                        name=row["name"],
                        kind=row["kind"],
                        unit=name(by_device[row["device_no"]]["unit_id"]),
                        latitude=row["latitude"],
                        longitude=row["longitude"],
                        figures=_figures(by_device[row["device_no"]]),
                    )
                    for row in await connection.fetch(_DEVICES, list(by_device))
                ),
                key=lambda row: (vietnamese.sort_key(row.unit), vietnamese.sort_key(row.name), row.device_id),
            )
        ),
        reasons=tuple(_reason(row, name) for row in await connection.fetch(_REASONS, *spans)),
        bulletins=await connection.fetchval(_BULLETINS, *spans),
    )


async def problems(
    connection: Connection, unit_ids: Iterable[UnitId], *, first: date, end: date
) -> tuple[ProblemRow, ...]:
    """What was not planned on the days, of broadcasts that concern the units."""
    return tuple(
        ProblemRow(
            broadcast_id=row["broadcast_id"],
            title=row["title"],
            kind=row["problem"],
            times=row["times"],
            first=row["first"],
            last=row["last"],
        )
        for row in await connection.fetch(_PROBLEMS, first, end, list(unit_ids))
    )


async def uptake(
    connection: Connection, unit_ids: Iterable[UnitId], *, begins_at: datetime, ends_at: datetime
) -> Uptake:
    """What was offered to the units in the span, and what they made of it."""
    row = await connection.fetchrow(_UPTAKE, list(unit_ids), begins_at, ends_at)
    assert row is not None
    return Uptake(**dict(row))


async def remember(
    connection: Connection, unit_id: UnitId, month: date, digest: bytes, *, at: datetime, by: uuid.UUID
) -> None:
    """Note that a sheet was made, unless one with the same figures was."""
    await connection.execute(_REMEMBER, unit_id, month, digest, at, by)


async def made_at(connection: Connection, unit_id: UnitId, month: date, digest: bytes) -> datetime | None:
    """When a sheet with these figures was made for the first time; None when it never was."""
    row = await connection.fetchrow(_MADE, unit_id, month, digest)
    return row["made_at"] if row is not None else None


def _reason(row: Record, name: Callable[[uuid.UUID], str]) -> ReasonRow:
    alert = f"{row['headline']} ({name(row['unit_id'])})" if row["alert_id"] is not None else None
    counted = {each: row[each] for each in ("outcome", "reason", "evidence", "emissions", "devices", "alert_id")}
    return ReasonRow(**counted, alert=alert)


def _figures(row: Record) -> Figures:
    return Figures(**{name: int(row[name] or 0) for name in FIGURES})
