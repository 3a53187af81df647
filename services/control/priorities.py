"""How a unit orders the priority broadcasts that sound in it (R-17). Works in the caller's transaction.

A priority bulletin from above enters the programme whether the unit likes it or not; where two of them collide, the unit
says which comes first. It orders and does not drop: the order names every one of them, and what comes in later stands
behind, until it is given a place as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime

from schemas.arbitration import Contender, Precedence, precedence
from schemas.fields import Level, PlayReference, PlaySource
from schemas.identifiers import BroadcastId, UnitId
from schemas.orders import DEFAULT_PLACE, Rank
from services.control import audit, planning_queue, priority_store, unit_reform
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Actor
from services.control.planning.model import to_ms
from services.control.priority_store import PriorityBroadcast
from services.control.units import UnitTree
from services.shared.database.pool import Connection

MAX_ORDERED = DEFAULT_PLACE  # what has no place yet comes behind all of them


async def ordered(
    connection: Connection, unit_id: UnitId, tree: UnitTree, *, today: date, now: datetime
) -> tuple[PriorityBroadcast, ...]:
    """The priority broadcasts that sound in the unit, in the order in which they would win over one another.

    Raises `Conflict` naming the unit that decides, when it is another one.
    """
    deciding = tree.deciding(unit_id)
    if deciding != unit_id:
        unit = tree.get(deciding)
        raise Conflict("unit_does_not_decide", facts={"unit": unit.name if unit is not None else str(deciding)})
    ground = [each for each in tree.subtree(unit_id) if tree.deciding(each) == unit_id]
    found = await priority_store.standing(connection, unit_id, ground, today=today, now=now)
    return tuple(sorted(found, key=lambda each: _precedence(each, tree)))


def _precedence(broadcast: PriorityBroadcast, tree: UnitTree) -> Precedence:
    """By the same function that devices decide with."""
    rank = Rank(
        level=Level.PRIORITY,
        severity=broadcast.severity,
        issuer_depth=tree.depth(broadcast.unit_id) or 0,
        issued_at_ms=to_ms(broadcast.issued_at),
        place=broadcast.place,
    )
    # Which occurrence and item it is settles nothing between two broadcasts.
    reference = PlayReference(source=PlaySource.EMISSION, id=broadcast.broadcast_id, occurrence_at_ms=0, item=0)
    return precedence(Contender(reference, rank))


def version(order: Sequence[PriorityBroadcast]) -> str:
    """Changes with the order and with what there is to be ordered, so that nobody orders what they have not seen."""
    return hashlib.sha256(b"".join(each.broadcast_id.bytes for each in order)).hexdigest()[:16]


async def put(
    connection: Connection,
    unit_id: UnitId,
    present: Sequence[PriorityBroadcast],
    wanted: Sequence[BroadcastId],
    tree: UnitTree,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    """Have the broadcasts win over one another in this order. Raises `Invalid` for what is not there, or left out."""
    faults = tuple(_faults(present, wanted))
    if faults:
        raise Invalid(*faults)
    await priority_store.put(connection, unit_id, wanted, by=actor.account_id, at=now)
    await unit_reform.carry_on(connection, unit_id, tree, now=now)
    before = {each.broadcast_id: each.place for each in present}
    for place, broadcast_id in enumerate(wanted):
        if before[broadcast_id] != place:
            await planning_queue.request_broadcast(connection, broadcast_id, at=now)
    await audit.record(
        connection,
        Entry(
            action="priorities_ordered",
            subject=f"unit:{unit_id}",
            unit_id=unit_id,
            before={"order": [str(each.broadcast_id) for each in present]},
            after={"order": [str(broadcast_id) for broadcast_id in wanted]},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


def _faults(present: Sequence[PriorityBroadcast], wanted: Sequence[BroadcastId]) -> Iterator[Fault]:
    there = {each.broadcast_id for each in present}
    seen: set[BroadcastId] = set()
    for position, broadcast_id in enumerate(wanted):
        if broadcast_id not in there:
            yield Fault(f"order[{position}]", "priority_not_here", {"id": str(broadcast_id)})
        elif broadcast_id in seen:
            yield Fault(f"order[{position}]", "priority_repeated")
        seen.add(broadcast_id)
    for each in present:
        if each.broadcast_id not in seen:
            yield Fault("order", "priority_left_out", {"title": each.title})
