"""Whether an operation reaches a size from which a policy asks for a second person (S-07).

Each unit on whose ground devices are touched is asked about its own ones and those below, whoever speaks: what is large
for a commune is large there also when the province says it. Devices that the same person touched before, by operations
of the same kind and within the unit's period, count along: many small operations are a large one.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.identifiers import UnitId
from services.control import operation_store
from services.control.operation_store import Earlier
from services.control.planning.model import DeviceNo
from services.control.planning.policies import Danger, SecondPerson
from services.control.units import UnitTree
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The least size that is reached, and how many devices touched before it took to reach it."""

    needed_from: int
    before: int


async def reached(
    connection: Connection,
    asking: Mapping[UnitId, SecondPerson],
    danger: Danger,
    devices: Collection[DeviceNo],
    *,
    account_id: uuid.UUID | None,
    tree: UnitTree,
    now: datetime,
) -> Reached | None:
    """The strictest of the policies of `asking` that is reached; None: one person may do it."""
    if not asking:
        return None
    since = now - max(policy.within for policy in asking.values())
    earlier = (
        await operation_store.done_since(connection, account_id, danger, since=since) if account_id is not None else ()
    )
    known = frozenset(devices).union(*(each.devices for each in earlier))
    units = await operation_store.units_of(connection, known)
    return judge(asking, danger, frozenset(devices), earlier, _grounds(units, tree), now=now)


def judge(
    asking: Mapping[UnitId, SecondPerson],
    danger: Danger,
    devices: frozenset[DeviceNo],
    earlier: Collection[Earlier],
    grounds: Mapping[UnitId, frozenset[DeviceNo]],
    *,
    now: datetime,
) -> Reached | None:
    """The same of values; `grounds` are the devices of each unit and below it. Pure."""
    found = []
    for unit_id, policy in asking.items():
        least, ground = policy.needed_from(danger), grounds.get(unit_id, frozenset())
        touched = devices & ground
        if least is None or not touched:
            continue
        recent = [each.devices for each in earlier if now - each.at < policy.within]
        before = (frozenset[DeviceNo]().union(*recent) & ground) - touched
        if len(touched) + len(before) >= least:
            found.append(Reached(needed_from=least, before=len(before)))
    return min(found, key=lambda each: (each.needed_from, each.before), default=None)


def _grounds(units: Mapping[DeviceNo, UnitId], tree: UnitTree) -> dict[UnitId, frozenset[DeviceNo]]:
    by_unit: defaultdict[UnitId, set[DeviceNo]] = defaultdict(set)
    for device_no, unit_id in units.items():
        by_unit[unit_id].add(device_no)
    grounds: defaultdict[UnitId, set[DeviceNo]] = defaultdict(set)
    for unit_id, some in by_unit.items():
        # The unit itself also where it is closed: its heir's path does not name it.
        for above in {unit_id, *tree.path(tree.standing(unit_id) or unit_id)}:
            grounds[above] |= some
    return {unit_id: frozenset(some) for unit_id, some in grounds.items()}
