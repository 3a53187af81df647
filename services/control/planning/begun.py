"""What has begun draws on granted time before anything else, by what is on record of it.

A broadcast that was changed or withdrawn asks for its earlier occurrences no more, and one that is new may outrank them:
what devices have sounded is heard all the same, so its minutes are nobody else's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from schemas.configuration import Ownership
from schemas.fields import DeviceKind
from schemas.identifiers import BroadcastId, UnitId
from services.control.planning import permission, recurrence, wall_clock
from services.control.planning.ground import Ground
from services.control.planning.model import Begun, DeviceNo, DeviceRef, GrantKey
from services.control.planning.policies import EffectivePolicy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spent:
    """What the occurrences that have begun on a device have of each grant; devices to which the same applies share it."""

    used: Mapping[GrantKey, timedelta]
    occurrences: frozenset[tuple[BroadcastId, datetime]]


def spent(begun: Sequence[Begun], ground: Ground) -> Mapping[DeviceNo, Spent]:
    """What is spent on each device that is granted some time, on the days of the window."""
    # Its minutes count for the day on which its occurrence began.
    days_of = ((each, recurrence.local_day(each.occurrence_at, ground.zone)) for each in begun)
    dated = [(each, day) for each, day in days_of if ground.window.holds(day)]
    places: dict[DeviceNo, list[int]] = defaultdict(list)
    for place, (each, _) in enumerate(dated):
        for device_no in each.devices:
            places[device_no].append(place)
    days = sorted({day for _, day in dated})
    rules: dict[UnitId, tuple[EffectivePolicy, ...]] = {}
    known: dict[tuple[object, ...], Spent | None] = {}
    found: dict[DeviceNo, Spent] = {}
    for device_no, theirs in places.items():
        device = ground.fleet.by_no.get(device_no)
        if device is None:
            continue
        if device.unit_id not in rules:
            rules[device.unit_id] = tuple(ground.policies.at(device.unit_id, ground.units.on(day)) for day in days)
        key = (rules[device.unit_id], device_no if _is_shared(device) else None, *theirs)
        if key not in known:
            known[key] = _spent([dated[place] for place in theirs], device, ground)
        if (what := known[key]) is not None:
            found[device_no] = what
    return found


def _spent(dated: Sequence[tuple[Begun, date]], device: DeviceRef, ground: Ground) -> Spent | None:
    used: dict[GrantKey, timedelta] = defaultdict(timedelta)
    for each, day in dated:
        for key, wanted in _draws(each, day, device, ground):
            used[key] += wanted
    if not used:
        return None
    occurrences = frozenset((each.broadcast_id, each.occurrence_at) for each, _ in dated)
    return Spent(used=dict(used), occurrences=occurrences)


def _draws(begun: Begun, day: date, device: DeviceRef, ground: Ground) -> Iterator[tuple[GrantKey, timedelta]]:
    """What something draws on the grants of policies and owners, as it did when it was planned (`Hearing.grants`)."""
    tree = ground.units.on(day)
    sounded = wall_clock.stretches([(begun.begins_at, begun.ends_at)], ground.zone)
    policy = ground.policies.at(device.unit_id, tree)
    for budget in permission.budgets(policy, sounded, level=begun.level, allowed=begun.allowed_rules):
        yield (budget.unit_id, day, budget.session), budget.wanted
    if _is_shared(device) and not ground.is_requisitioned(device, tree, begun.occurrence_at, begun.ends_at):
        yield (None, day, None), begun.ends_at - begun.begins_at


def _is_shared(device: DeviceRef) -> bool:
    return device.kind is DeviceKind.BOARD and device.ownership is Ownership.PRIVATE_WITH_PUBLIC_SHARE
