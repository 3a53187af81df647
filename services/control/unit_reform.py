"""Carrying out a reform of units: a new tree and a mapping from the old one, all of it or nothing.

Works in the caller's transaction. A rehearsal is the same with the transaction rolled back by the caller.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from services.control import (
    audit,
    planning_queue,
    unit_changes,
    unit_files,
    unit_mappings,
    unit_reform_store,
    unit_reforms,
    unit_store,
)
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Actor
from services.control.planning.model import DeviceNo
from services.control.planning.recurrence import local_day, start_of
from services.control.unit_directory import check_nobody_stranded
from services.control.unit_reform_store import Carried
from services.control.unit_reforms import Reform
from services.control.units import UnitHistory, UnitTree
from services.shared.database.pool import Connection

TREE = "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reformed:
    """What a reform came to."""

    valid_from: date
    units: int
    reform: Reform
    carried: Carried
    history: UnitHistory


async def reform(
    connection: Connection,
    tree: bytes,
    mapping: bytes,
    *,
    valid_from: date,
    zone: ZoneInfo,
    actor: Actor | None,
    origin: str | None,
    now: datetime,
) -> Reformed:
    """Make `tree` the tree from `valid_from` on, and let `mapping` say who follows whom.

    Saying it again for the same day takes the place of what was said before. Raises `Invalid` for faulty files, and
    `Conflict` when a newer tree is already there, or when a unit that only an earlier version of this reform held has
    devices or accounts of its own by now.

    What is already on record for the days behind the reform stays in the unit it was planned in until it is planned
    anew: whoever reads the record of such a day takes that unit for its heir.
    """
    rows = unit_files.parse(tree, field=TREE)
    ways = unit_mappings.parse(mapping)
    await unit_store.lock_units(connection)
    before = await unit_store.load_units(connection)
    newest = unit_changes.newest_day(before)
    if newest is None or not before.on(valid_from - timedelta(days=1)).roots:
        raise Invalid(Fault("valid_from", "no_tree_before"))
    if valid_from < newest:
        raise Conflict(
            "unit_tree_is_newer",
            faults=[Fault("valid_from", "before_newest_tree", {"newest": newest.isoformat()})],
            facts={"newest": newest.isoformat()},
        )
    history = unit_reforms.undone(before, valid_from, await unit_reform_store.parts_of(connection, valid_from))
    await unit_reform_store.forget(connection, valid_from)
    decided = unit_reforms.decide(
        history,
        rows,
        ways,
        valid_from=valid_from,
        holdings=await unit_reform_store.holdings(connection, now=now),
        housed=await unit_reform_store.housed(
            connection, [row.device_id for row in ways if row.device_id is not None], valid_from=valid_from
        ),
        new_id=uuid.uuid4,
    )
    never_were = [version.unit_id for version in decided.changes.removed if version.unit_id in decided.changes.closed]
    check_nobody_stranded(await unit_store.stranded(connection, never_were, ()))
    await unit_store.apply(connection, decided.changes, at=now)
    day_starts_at = start_of(valid_from, zone)
    await unit_reform_store.add_parts(connection, decided.parts, valid_from=valid_from, at=now)
    await unit_reform_store.add_heirs(connection, decided.heirs, decided.ended_heirs, day_starts_at=day_starts_at)
    eve = history.on(valid_from - timedelta(days=1))
    pairs = [(each.old.unit_id, each.new.unit_id) for each in decided.successions if each.keeps_rights]
    opening = {new_id for _, new_id in pairs if not eve.stands(new_id)}
    carried = await unit_reform_store.carry(connection, pairs, opening, at=now)
    after = await unit_store.load_units(connection)
    closing = _closing(before, after=local_day(now, zone)).get(valid_from, ())
    await unit_reform_store.forget_requisitions(connection, closing, at=now)
    await unit_reform_store.carry_requisitions(
        connection,
        [
            (unit.unit_id, below)
            for unit in eve
            if not after.on(valid_from).stands(unit.unit_id)
            for below in after.on(valid_from - timedelta(days=1)).subtree(unit.unit_id)
        ],
        day_starts_at=day_starts_at,
        at=now,
    )
    digests = hashlib.sha256(tree).digest(), hashlib.sha256(mapping).digest()
    by = actor.account_id if actor else None
    await unit_store.record_import(
        connection, valid_from=valid_from, file_sha256=digests[0], units=len(rows), at=now, by=by
    )
    await unit_reform_store.record_reform(
        connection, valid_from=valid_from, tree_sha256=digests[0], mapping_sha256=digests[1], at=now, by=by
    )
    await planning_queue.request_everything(connection, at=now)
    reformed = Reformed(valid_from=valid_from, units=len(rows), reform=decided, carried=carried, history=after)
    await audit.record(connection, _entry(reformed, newest, *digests), actor=actor, origin=origin, at=now)
    return reformed


async def carry_on(connection: Connection, unit_id: UnitId, tree: UnitTree, *, now: datetime) -> None:
    """Have units that will follow `unit_id` have what it says now of limits, offers, order and CAP senders; `tree` is
    today's.
    """
    if not tree.stands(unit_id):
        return
    for each in unit_reforms.inheritances(await unit_store.load_units(connection), unit_id):
        ways = [(old_id, each.heir_id) for old_id in each.old_ids]
        await unit_reform_store.carry(connection, ways, (each.heir_id,), at=now)


async def carry_on_orders(connection: Connection, unit_id: UnitId, *, zone: ZoneInfo, now: datetime) -> None:
    """Have orders over a unit that is to be closed stand for its boards from that day on."""
    await unit_store.lock_units(connection)
    history = await unit_store.load_units(connection)
    last = history.last(unit_id)
    if last is None or last.valid_until is None:
        return
    below = history.on(last.valid_until - timedelta(days=1)).subtree(unit_id)
    await unit_reform_store.carry_requisitions(
        connection, [(unit_id, each) for each in below], day_starts_at=start_of(last.valid_until, zone), at=now
    )


async def carry_orders_to(
    connection: Connection, boards: Mapping[DeviceNo, UnitId], *, zone: ZoneInfo, now: datetime
) -> None:
    """Have boards that came into a unit that is to be closed, or left one, be under the orders of its boards, or not.

    `boards` says where each is filed from now on. Orders over the unit itself cover it until that day (R-15).
    """
    await unit_store.lock_units(connection)
    history = await unit_store.load_units(connection)
    for day, closing in _closing(history, after=local_day(now, zone)).items():
        eve = history.on(day - timedelta(days=1))
        await unit_reform_store.forget_requisitions(connection, closing, at=now, boards=boards)
        await unit_reform_store.carry_requisitions(
            connection,
            [(unit, filed) for unit in closing for filed in set(boards.values()) if eve.covers(unit, filed)],
            day_starts_at=start_of(day, zone),
            at=now,
            boards=boards,
        )


def _closing(history: UnitHistory, *, after: date) -> Mapping[date, list[UnitId]]:
    """The units that will be closed after a day, by their first day on which they no longer are."""
    closing: dict[date, list[UnitId]] = defaultdict(list)
    for unit in history.on(after):
        last = history.last(unit.unit_id)
        if last is not None and last.valid_until is not None:
            closing[last.valid_until].append(unit.unit_id)
    return closing


def _entry(reformed: Reformed, newest: date, tree: bytes, mapping: bytes) -> audit.Entry:
    decided = reformed.reform
    return audit.Entry(
        action="units_reformed",
        unit_id=decided.root_id,
        subject=f"units:{reformed.valid_from.isoformat()}",
        before={"newest_tree": newest.isoformat()},
        after={
            "valid_from": reformed.valid_from.isoformat(),
            "units": reformed.units,
            "opened": len(decided.changes.opened),
            "tree_sha256": tree.hex(),
            "mapping_sha256": mapping.hex(),
            "heirs": {str(each.old.unit_id): str(each.new.unit_id) for each in decided.successions},
            "rights_end": [str(each.old.unit_id) for each in decided.successions if not each.keeps_rights],
            "parts": {str(part.version.unit_id): len(part.device_nos) for part in decided.parts},
        },
    )
