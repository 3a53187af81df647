"""SQL of offers: normal broadcasts from above that a unit decides about (R-17), and how they were taken up."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from asyncpg import Record

from schemas.identifiers import BroadcastId, UnitId
from services.control.errors import NotFound
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A broadcast from above, and what a unit decided about it; `scheduled_as` is the unit's own broadcast of it."""

    broadcast_id: BroadcastId
    unit_id: UnitId
    state: str
    offered_at: datetime
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    note: str | None
    scheduled_as: BroadcastId | None

    @property
    def placed_at(self) -> datetime:
        """Where it stands in an inbox: when it was decided about, else when it came."""
        return self.decided_at or self.offered_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptake:
    """What became of what was offered to a unit in some time."""

    unit_id: UnitId
    offered: int
    accepted: int
    declined: int
    scheduled: int

    @property
    def undecided(self) -> int:
        """Offers nobody has decided about."""
        return self.offered - self.accepted - self.declined - self.scheduled


_OFFERS = """
SELECT broadcast_id, unit_id, state, offered_at, decided_at, decided_by, note, scheduled_as
  FROM control.offers
"""

# $3: today. A broadcast that is over, or does not stand, wants no answer any more.
_IS_OPEN = """(o.state = 'offered' AND EXISTS (
       SELECT
         FROM control.broadcasts b
        WHERE b.broadcast_id = o.broadcast_id
          AND b.state = 'scheduled'
          AND coalesce(b.active_until, CASE b.recurrence WHEN 'once' THEN b.starts_on + 1 ELSE b.ends_on END,
                       'infinity') > $3))"""


async def offers_of(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    state: str | None,
    before: datetime | None,
    before_id: uuid.UUID | None = None,
    before_unit: uuid.UUID | None = None,
    limit: int,
) -> tuple[Offer, ...]:
    """Offers to the units, newest first, those of one instant by broadcast and unit.

    `before` leaves out what is not older; with the ids of a broadcast and a unit what is of that instant and stands
    behind that offer counts too.
    """
    rows = await connection.fetch(
        _OFFERS
        + """
         WHERE unit_id = ANY ($1)
           AND ($2::text IS NULL OR state = $2)
           AND ($3::timestamptz IS NULL
                OR offered_at < $3
                OR (offered_at = $3 AND broadcast_id > $4)
                OR (offered_at = $3 AND broadcast_id = $4 AND unit_id > $5))
         ORDER BY offered_at DESC, broadcast_id, unit_id
         LIMIT $6
        """,
        list(unit_ids),
        state,
        before,
        before_id,
        before_unit,
        limit,
    )
    return tuple(map(_offer, rows))


async def of_broadcast(connection: Connection, broadcast_id: uuid.UUID, *, limit: int) -> tuple[Offer, ...]:
    """Offers of one broadcast, by unit."""
    rows = await connection.fetch(_OFFERS + " WHERE broadcast_id = $1 ORDER BY unit_id LIMIT $2", broadcast_id, limit)
    return tuple(map(_offer, rows))


async def inbox(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    is_open: bool,
    today: date,
    before: datetime | None,
    before_id: uuid.UUID | None = None,
    before_unit: uuid.UUID | None = None,
    limit: int,
) -> tuple[Offer, ...]:
    """Offers to the units that wait for an answer and may have something to come, or all the others.

    Newest first by `Offer.placed_at`, those of one instant by broadcast and unit; `before` and the ids as in `offers_of`.
    """
    rows = await connection.fetch(
        f"""
        SELECT *
          FROM ({_OFFERS}) o
         WHERE unit_id = ANY ($1)
           AND {_IS_OPEN} = $2
           AND ($4::timestamptz IS NULL
                OR coalesce(decided_at, offered_at) < $4
                OR (coalesce(decided_at, offered_at) = $4 AND (broadcast_id, unit_id) > ($5::uuid, $6::uuid)))
         ORDER BY coalesce(decided_at, offered_at) DESC, broadcast_id, unit_id
         LIMIT $7
        """,  # noqa: S608 - made of constants
        list(unit_ids),
        is_open,
        today,
        before,
        before_id,
        before_unit,
        limit,
    )
    return tuple(map(_offer, rows))


async def open_count(connection: Connection, unit_ids: Iterable[UnitId], *, today: date) -> int:
    """How many offers to the units wait for an answer and may have something to come."""
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM control.offers o WHERE unit_id = ANY ($1) AND {_IS_OPEN} = $2",  # noqa: S608 - as above
        list(unit_ids),
        True,
        today,
    )
    return count


async def offer_for_update(connection: Connection, broadcast_id: uuid.UUID, unit_id: UnitId) -> Offer:
    """One offer, locked until the transaction ends. Raises `NotFound`.

    What is offered is held first, as whoever changes it does: scheduling wants it in the end, for what comes of it.
    """
    await connection.execute("SELECT FROM control.broadcasts WHERE broadcast_id = $1 FOR KEY SHARE", broadcast_id)
    row = await connection.fetchrow(
        _OFFERS + " WHERE broadcast_id = $1 AND unit_id = $2 FOR UPDATE", broadcast_id, unit_id
    )
    if row is None:
        raise NotFound("offer_not_found", facts={"id": str(broadcast_id)})
    return _offer(row)


async def decide(
    connection: Connection,
    offer: Offer,
    state: str,
    *,
    scheduled_as: BroadcastId | None,
    note: str | None,
    by: uuid.UUID,
    at: datetime,
) -> Offer:
    """Note what the unit decided."""
    row = await connection.fetchrow(
        """
        UPDATE control.offers
           SET state = $3, scheduled_as = $4, note = $5, decided_by = $6, decided_at = $7
         WHERE broadcast_id = $1 AND unit_id = $2
        RETURNING broadcast_id, unit_id, state, offered_at, decided_at, decided_by, note, scheduled_as
        """,
        offer.broadcast_id,
        offer.unit_id,
        state,
        scheduled_as,
        note,
        by,
        at,
    )
    assert row is not None
    return _offer(row)


async def is_on_air(
    connection: Connection, broadcast_id: BroadcastId, unit_ids: Iterable[UnitId], *, now: datetime
) -> bool:
    """Whether the broadcast is to sound now on a device of the units."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT
                         FROM control.emissions
                        WHERE broadcast_id = $1
                          AND occurrence_at > $3::timestamptz - interval '1 day'
                          AND occurrence_at <= $3
                          AND ends_at > $3
                          AND unit_id = ANY ($2)
                          AND withdrawn_at IS NULL
                          AND stopped_at IS NULL)
        """,
        broadcast_id,
        list(unit_ids),
        now,
    )
    return found


async def uptake(
    connection: Connection, unit_ids: Iterable[UnitId], *, since: datetime, until: datetime
) -> tuple[Uptake, ...]:
    """What became of what was offered to each of the units in [`since`, `until`); units with no offer are left out."""
    rows = await connection.fetch(
        """
        SELECT unit_id,
               count(*) AS offered,
               count(*) FILTER (WHERE state = 'accepted') AS accepted,
               count(*) FILTER (WHERE state = 'declined') AS declined,
               count(*) FILTER (WHERE state = 'scheduled') AS scheduled
          FROM control.uptake
         WHERE unit_id = ANY ($1)
           AND offered_at >= $2
           AND offered_at < $3
         GROUP BY unit_id
        """,
        list(unit_ids),
        since,
        until,
    )
    return tuple(
        Uptake(
            unit_id=UnitId(row["unit_id"]),
            offered=row["offered"],
            accepted=row["accepted"],
            declined=row["declined"],
            scheduled=row["scheduled"],
        )
        for row in rows
    )


def _offer(row: Record) -> Offer:
    scheduled_as = row["scheduled_as"]
    return Offer(
        broadcast_id=BroadcastId(row["broadcast_id"]),
        unit_id=UnitId(row["unit_id"]),
        state=row["state"],
        offered_at=row["offered_at"],
        decided_at=row["decided_at"],
        decided_by=row["decided_by"],
        note=row["note"],
        scheduled_as=BroadcastId(scheduled_as) if scheduled_as is not None else None,
    )
