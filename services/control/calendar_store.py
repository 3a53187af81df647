"""SQL of calendars: planned occurrences of a unit or a device, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from asyncpg import Record

from schemas.identifiers import BroadcastId, UnitId
from services.control.calendars import Item, Occurrence
from services.control.proof_sheet_store import Held
from services.shared.database.pool import Connection

# What was taken back before it began still stands there as cancelled, or calendars would go on showing it.
_ITEMS = """
SELECT e.broadcast_id, e.occurrence_at, e.item, c.title AS broadcast_title, c.level, c.unit_id AS issuer_id, c.version,
       coalesce(min(e.starts_at) FILTER (WHERE e.withdrawn_at IS NULL), min(e.starts_at)) AS starts_at,
       coalesce(max(e.ends_at) FILTER (WHERE e.withdrawn_at IS NULL), max(e.ends_at)) AS ends_at,
       max(greatest(e.planned_at, e.withdrawn_at, e.stopped_at)) AS changed_at,
       bool_and(e.withdrawn_at IS NOT NULL) AS is_cancelled,
       max(coalesce(b.title, s.name)) AS title,
       array_agg(DISTINCT e.device_no) FILTER (WHERE e.withdrawn_at IS NULL) AS device_nos,
       count(*) FILTER (WHERE e.withdrawn_at IS NULL) AS planned,
       count(*) FILTER (WHERE e.outcome IN ('played', 'late') AND e.evidence = 'device') AS played,
       count(*) FILTER (WHERE e.outcome IS NOT NULL) AS weighed
"""

_JOINS = """
  JOIN control.broadcasts c USING (broadcast_id)
  LEFT JOIN control.bulletins b USING (bulletin_id)
  LEFT JOIN control.relay_sources s ON s.source_id = e.relay_source_id
"""

_GROUPED = """
 GROUP BY e.broadcast_id, e.occurrence_at, e.item, c.title, c.level, c.unit_id, c.version
 ORDER BY e.occurrence_at, e.broadcast_id, e.item
 LIMIT $4
"""

_OF_UNITS = (
    _ITEMS
    + """
  FROM unnest($1::timestamptz[], $2::timestamptz[], $3::uuid[]) AS held (begins_at, ends_at, unit_id)
  JOIN control.emissions e
    ON e.unit_id = held.unit_id AND e.starts_at >= held.begins_at AND e.starts_at < held.ends_at
"""
    + _JOINS
    + _GROUPED
)

_OF_DEVICE = (
    _ITEMS
    + "  FROM control.emissions e"
    + _JOINS
    + """
  JOIN control.devices d ON d.device_no = e.device_no
 WHERE d.device_id = $1
   AND e.starts_at >= $2
   AND e.starts_at < $3
"""
    + _GROUPED
)


async def of_units(connection: Connection, held: Sequence[Held], *, limit: int) -> tuple[Occurrence, ...]:
    """Occurrences on devices of the units of each span, the earliest first; of `limit` items at most."""
    rows = await connection.fetch(
        _OF_UNITS,
        [span.begins_at for span in held for _ in span.unit_ids],
        [span.ends_at for span in held for _ in span.unit_ids],
        [unit_id for span in held for unit_id in span.unit_ids],
        limit,
    )
    return _occurrences(rows, limit)


async def of_device(
    connection: Connection, device_id: str, *, begins_at: datetime, ends_at: datetime, limit: int
) -> tuple[Occurrence, ...]:
    """Occurrences on a device that begin in the span, the earliest first; of `limit` items at most."""
    return _occurrences(await connection.fetch(_OF_DEVICE, device_id, begins_at, ends_at, limit), limit)


def _occurrences(rows: Sequence[Record], limit: int) -> tuple[Occurrence, ...]:
    groups: dict[tuple[object, datetime], list[Record]] = {}
    for row in rows:
        groups.setdefault((row["broadcast_id"], row["occurrence_at"]), []).append(row)
    if len(rows) == limit and len(groups) > 1:
        groups.popitem()  # it may be there in part only
    return tuple(_occurrence(group) for group in groups.values())


def _occurrence(rows: Sequence[Record]) -> Occurrence:
    first = rows[0]
    # Items that were taken back are no part of what is left.
    standing = [row for row in rows if not row["is_cancelled"]] or rows
    return Occurrence(
        broadcast_id=BroadcastId(first["broadcast_id"]),
        occurrence_at=first["occurrence_at"],
        title=first["broadcast_title"],
        level=first["level"],
        issuer_id=UnitId(first["issuer_id"]),
        version=first["version"],
        starts_at=min(row["starts_at"] for row in standing),
        ends_at=max(row["ends_at"] for row in standing),
        changed_at=max(row["changed_at"] for row in rows),
        is_cancelled=all(row["is_cancelled"] for row in rows),
        items=tuple(Item(starts_at=row["starts_at"], title=row["title"] or "") for row in standing),
        devices=len({device_no for row in standing for device_no in row["device_nos"] or ()}),
        planned=sum(row["planned"] for row in rows),
        played=sum(row["played"] for row in rows),
        is_weighed=all(row["weighed"] >= row["planned"] for row in rows),
    )
