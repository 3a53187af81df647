"""SQL of the order in which a unit wants its priority broadcasts (R-17)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from schemas.identifiers import BroadcastId, UnitId
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityBroadcast:
    """A priority broadcast that is to sound in a unit, and the place the unit has given it, if it has."""

    broadcast_id: BroadcastId
    unit_id: UnitId  # that issues it
    title: str
    issued_at: datetime
    severity: int
    place: int | None
    next_at: datetime | None  # as far as it is planned


# What is planned for the ground of the unit, and what the unit has given a place although its next time lies beyond what
# is planned. An occurrence lasts a day at most: so the index by unit and start finds what is on now.
_STANDING = """
WITH planned AS (
    SELECT broadcast_id, min(starts_at) FILTER (WHERE starts_at > $3) AS next_at
      FROM control.emissions
     WHERE unit_id = ANY ($2)
       AND starts_at > $3::timestamptz - interval '1 day'
       AND ends_at > $3
       AND level = 'priority'
       AND withdrawn_at IS NULL
       AND stopped_at IS NULL
     GROUP BY broadcast_id
)
SELECT b.broadcast_id, b.unit_id, b.title, b.issued_at, b.severity, o.place, p.next_at
  FROM control.broadcasts b
  LEFT JOIN planned p USING (broadcast_id)
  LEFT JOIN control.priority_places o ON o.broadcast_id = b.broadcast_id AND o.unit_id = $1
 WHERE b.level = 'priority'
   AND b.state = 'scheduled'
   AND (p.broadcast_id IS NOT NULL
        OR o.place IS NOT NULL AND (b.active_until IS NULL OR b.active_until > $4))
"""


async def lock(connection: Connection, unit_id: UnitId) -> None:
    """Have others who order the priorities of the unit wait until this transaction ends."""
    await connection.fetchval("SELECT 1 FROM control.units WHERE unit_id = $1 FOR NO KEY UPDATE", unit_id)


async def standing(
    connection: Connection, unit_id: UnitId, ground: Iterable[UnitId], *, today: date, now: datetime
) -> tuple[PriorityBroadcast, ...]:
    """The priority broadcasts that are to sound on the ground of a unit, in no order."""
    rows = await connection.fetch(_STANDING, unit_id, list(ground), now, today)
    return tuple(
        PriorityBroadcast(
            broadcast_id=BroadcastId(row["broadcast_id"]),
            unit_id=UnitId(row["unit_id"]),
            title=row["title"],
            issued_at=row["issued_at"],
            severity=row["severity"],
            place=row["place"],
            next_at=row["next_at"],
        )
        for row in rows
    )


async def put(
    connection: Connection, unit_id: UnitId, order: Sequence[BroadcastId], *, by: uuid.UUID, at: datetime
) -> None:
    """Give each of the broadcasts its place in the order."""
    await connection.execute(
        """
        INSERT INTO control.priority_places (unit_id, broadcast_id, place, set_at, set_by)
        SELECT $1, broadcast_id, position - 1, $3, $4
          FROM unnest($2::uuid[]) WITH ORDINALITY AS o (broadcast_id, position)
            ON CONFLICT (unit_id, broadcast_id) DO UPDATE
           SET place = excluded.place, set_at = excluded.set_at, set_by = excluded.set_by
        """,
        unit_id,
        list(order),
        at,
        by,
    )
