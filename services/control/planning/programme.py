"""What should sound where: the front door of planning.

`plan` answers for a window of local days. Every occurrence that a broadcast asks for there ends as slots on devices or
as a problem that names it. Overlaps are not resolved here: both emissions are planned, each with its rank, and the
device decides at play time by `schemas.arbitration`, as the server does when it explains.

What one broadcast gets depends on another only where time is granted: the minutes a policy allows a day or a session,
and the public share of a private board. There what has begun is served first, as it is on record (`begun`), and then
broadcasts in the order that decides who sounds, occurrence by occurrence; what no longer fits is left out as a whole. So
a broadcast can only ever lose time to what has been heard already and to one that outranks it.

Slots are made once per occurrence and class of devices and shared (`drafts`); devices with equal programmes share one
tuple. A nation's week then costs one list entry per device and broadcast.

`begin` and `replan` do the same step by step: `Planning` remembers what a plan was made of, so that after a change of
broadcasts only their own drafts, and the devices those reach before or after, are looked at again; after one of devices
the drafts of whatever can mean these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple, TypeVar

from schemas.identifiers import BroadcastId, UnitId
from services.control.planning.begun import Spent, spent
from services.control.planning.drafts import draft, draft_of_news
from services.control.planning.ground import Ground, surroundings
from services.control.planning.lineup import Stock
from services.control.planning.model import (
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    GrantKey,
    Plan,
    Problem,
    ProblemKind,
    Programme,
    Snapshot,
    Window,
)
from services.control.planning.shares import Draft, Grant, Part, Share
from services.control.planning.targets import PLAYS

ValueT = TypeVar("ValueT")


def plan(snapshot: Snapshot, window: Window) -> Plan:
    """Return what should sound on every device that can play, on the days of `window`, and what is wrong."""
    return begin(snapshot, window).plan


def later_problems(
    snapshot: Snapshot, broadcast_id: BroadcastId, window: Window, *, since: date
) -> tuple[Problem, ...]:
    """Return what stands against one broadcast by itself from `since` on, and not before, to the end of a long window.

    Each is named with the first occurrence it stands against. What is granted together with others is not looked at, nor
    is what comes after very many occurrences that are all unlike one another: planning names it when its day comes near.
    """
    (broadcast,) = (each for each in snapshot.broadcasts if each.broadcast_id == broadcast_id)
    return draft_of_news(broadcast, Ground(snapshot, window), snapshot, _stock(snapshot), since=since).problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """A plan, and what it was made of."""

    snapshot: Snapshot
    window: Window
    plan: Plan
    ground: Ground
    drafts: Mapping[BroadcastId, Draft]
    shares: Mapping[DeviceNo, tuple[Share, ...]]
    refusals: Mapping[DeviceNo, tuple[_Refusal, ...]]  # only of devices that have some
    spent: Mapping[DeviceNo, Spent]  # only on devices that are granted some time


class _Refusal(NamedTuple):
    """An occurrence that is left out on a device because what is granted does not suffice."""

    part: Part
    grant: Grant


class _Outcome(NamedTuple):
    """What comes of some shares on one device."""

    programme: Programme
    used: Mapping[GrantKey, timedelta]
    refusals: tuple[_Refusal, ...] = ()


def begin(snapshot: Snapshot, window: Window) -> Planning:
    """Plan everything."""
    ground = Ground(snapshot, window)
    stock = _stock(snapshot)
    made = {each.broadcast_id: draft(each, ground, snapshot, stock) for each in snapshot.broadcasts}
    given: dict[DeviceNo, list[Share]] = {
        device.device_no: [] for device in ground.fleet.by_no.values() if device.kind in PLAYS
    }
    for each in made.values():
        for share in each.shares:
            for device_no in share.devices:
                given[device_no].append(share)
    shares = {device_no: tuple(theirs) for device_no, theirs in given.items()}
    gone = spent(snapshot.begun, ground)
    return _planning(snapshot, ground, made, shares, gone, _settled(shares, gone, snapshot.asked_at))


def replan(planning: Planning, snapshot: Snapshot, touched: Collection[BroadcastId]) -> Planning:
    """Return what `begin(snapshot, planning.window)` would, with the work that a few changed broadcasts or devices cost.

    `touched` are the broadcasts that were added, taken away or changed since `planning`, or that name a bulletin or
    relay source, or are named by an offer or a place, that was. Which devices were is seen here. Units, groups or policies
    that changed cost a plan anew.
    """
    if not planning.ground.is_same(snapshot):
        return begin(snapshot, planning.window)
    ground = planning.ground
    moved = ground.moved(snapshot)
    if moved:
        ground = Ground(snapshot, planning.window)
        touched = {*touched, *_reaching(moved, planning, snapshot)}
    stock = _stock(snapshot)
    made = {each: found for each, found in planning.drafts.items() if each not in touched}
    gone = {share for each in touched if each in planning.drafts for share in planning.drafts[each].shares}
    added: dict[DeviceNo, list[Share]] = defaultdict(list)
    for broadcast in snapshot.broadcasts:
        if broadcast.broadcast_id in touched:
            made[broadcast.broadcast_id] = found = draft(broadcast, ground, snapshot, stock)
            for share in found.shares:
                for device_no in share.devices:
                    added[device_no].append(share)
    now_spent, differing = _spent_anew(planning, snapshot, ground, moved)
    affected = {device_no for share in gone for device_no in share.devices}.union(added, differing)
    there = [device.device_no for device in ground.fleet.by_no.values() if device.kind in PLAYS]
    shares = {
        device_no: planning.shares[device_no]
        if device_no not in affected
        else (
            *(each for each in planning.shares.get(device_no, ()) if each not in gone),
            *added.get(device_no, ()),
        )
        for device_no in there
    }
    changed = {device_no: shares[device_no] for device_no in there if device_no in affected}
    settled = _settled(changed, now_spent, snapshot.asked_at)
    earlier = planning.plan.programmes
    return _planning(
        snapshot,
        ground,
        made,
        shares,
        now_spent,
        _Settled(
            programmes={no: settled.programmes[no] if no in affected else earlier[no] for no in there},
            used=_without(planning.plan.used, affected) | settled.used,
            refusals=_without(planning.refusals, affected) | settled.refusals,
        ),
    )


def _reaching(moved: Collection[DeviceRef], planning: Planning, snapshot: Snapshot) -> Iterator[BroadcastId]:
    """The broadcasts that can mean some devices, or name them where they cannot: then that is what is wrong with them."""
    numbers = {device.device_no for device in moved}
    issuers, _ = surroundings({device.unit_id for device in moved}, snapshot.units, planning.window)
    for broadcast in (*planning.snapshot.broadcasts, *snapshot.broadcasts):
        if broadcast.unit_id in issuers or any(
            isinstance(target, DeviceTarget) and target.device_no in numbers for target in broadcast.targets
        ):
            yield broadcast.broadcast_id


def _spent_anew(
    planning: Planning, snapshot: Snapshot, ground: Ground, moved: Collection[DeviceRef]
) -> tuple[Mapping[DeviceNo, Spent], set[DeviceNo]]:
    """What is spent by a snapshot, and the devices on which that may not be what it was."""
    if snapshot.begun == planning.snapshot.begun and not moved:
        return planning.spent, set()
    differing = {no for each in {*snapshot.begun} ^ {*planning.snapshot.begun} for no in each.devices}
    return spent(snapshot.begun, ground), differing | {device.device_no for device in moved}


def _without(theirs: Mapping[DeviceNo, ValueT], devices: AbstractSet[DeviceNo]) -> dict[DeviceNo, ValueT]:
    return {device_no: value for device_no, value in theirs.items() if device_no not in devices}


def _stock(snapshot: Snapshot) -> Stock:
    return Stock(
        bulletins={bulletin.bulletin_id: bulletin for bulletin in snapshot.bulletins},
        relays={source.source_id: source for source in snapshot.relays},
        plays=snapshot.plays,
    )


def _planning(
    snapshot: Snapshot,
    ground: Ground,
    made: Mapping[BroadcastId, Draft],
    shares: Mapping[DeviceNo, tuple[Share, ...]],
    gone: Mapping[DeviceNo, Spent],
    settled: _Settled,
) -> Planning:
    return Planning(
        snapshot=snapshot,
        window=ground.window,
        plan=Plan(
            programmes=settled.programmes,
            problems=_problems(made, settled.refusals),
            offers=_offers(made),
            used=settled.used,
        ),
        ground=ground,
        drafts=made,
        shares=shares,
        refusals=settled.refusals,
        spent=gone,
    )


# --- sharing what is granted -----------------------------------------------------------------------------------------


class _Settled(NamedTuple):
    """What comes of all shares: `used` and `refusals` only of devices that have some."""

    programmes: dict[DeviceNo, Programme]
    used: dict[DeviceNo, Mapping[GrantKey, timedelta]]
    refusals: dict[DeviceNo, tuple[_Refusal, ...]]


def _settled(
    shares: Mapping[DeviceNo, tuple[Share, ...]], gone: Mapping[DeviceNo, Spent], asked_at: datetime | None
) -> _Settled:
    """What comes of the shares of each device, in the order given; equal ones come to the same programme."""
    known: dict[tuple[tuple[Share, ...], Spent | None], _Outcome] = {}
    settled = _Settled({}, {}, {})
    for device_no, theirs in shares.items():
        key = (theirs, gone.get(device_no))
        outcome = known.get(key)
        if outcome is None:
            outcome = known[key] = _settle(*key, asked_at)
        settled.programmes[device_no] = outcome.programme
        if outcome.used:
            settled.used[device_no] = outcome.used
        if outcome.refusals:
            settled.refusals[device_no] = outcome.refusals
    return settled


def _settle(shares: Sequence[Share], gone: Spent | None, asked_at: datetime | None) -> _Outcome:
    """Put together what every share holds, without what time is not granted for.

    What would have begun before anybody asked for it, and is not on record, did not sound and takes no time.
    """
    wanted = _wanted(shares) if gone is None else None
    if wanted is not None:
        slots = [slot for share in shares for slot in share.slots]
        slots.sort(key=_ORDER)
        return _Outcome(tuple(slots), wanted)
    begun = frozenset() if gone is None else gone.occurrences
    used: dict[GrantKey, timedelta] = defaultdict(timedelta, {} if gone is None else gone.used)
    slots, drawing = [], []
    for part in (part for share in shares for part in share.parts):
        if not part.grants or (part.occurrence.broadcast_id, part.occurrence.at) in begun:
            slots.extend(part.slots)
        elif asked_at is None or part.slots[-1].starts_at >= asked_at:
            drawing.append(part)
    drawing.sort(key=_PRECEDENCE)
    refusals: list[_Refusal] = []
    for part in drawing:
        # Each gets everything it wants, or is left out.
        scarce = next((each for each in part.grants if used[each.key] + each.wanted > each.limit), None)
        if scarce is not None:
            refusals.append(_Refusal(part, scarce))
            continue
        for grant in part.grants:
            used[grant.key] += grant.wanted
        slots.extend(part.slots)
    slots.sort(key=_ORDER)
    return _Outcome(tuple(slots), dict(used), tuple(refusals))


def _wanted(shares: Iterable[Share]) -> Mapping[GrantKey, timedelta] | None:
    """What everybody wants of each grant if that suffices, so that nobody has to be served first; None if it does not."""
    wanted: dict[GrantKey, timedelta] = {}
    for share in shares:
        for key, (theirs, limit) in share.wants.items():
            before = wanted.get(key)
            wanted[key] = theirs if before is None else before + theirs
            if wanted[key] > limit:
                return None
    return wanted


_ORDER = attrgetter("order")
_PRECEDENCE = attrgetter("precedence")


# --- what is wrong, and what is offered ------------------------------------------------------------------------------


def _problems(
    made: Mapping[BroadcastId, Draft], refusals: Mapping[DeviceNo, tuple[_Refusal, ...]]
) -> tuple[Problem, ...]:
    """Everything that is wrong, sorted: `Problem.order` begins with the broadcast, and drafts have theirs in order."""
    refused = _refused(made, refusals)
    found: list[Problem] = []
    for broadcast_id in sorted(made, key=lambda each: each.bytes):
        own = made[broadcast_id].problems
        if broadcast_id in refused:
            own = tuple(sorted({*own, *refused[broadcast_id]}, key=lambda problem: problem.order))
        found.extend(own)
    return tuple(found)


# An occurrence, and the rule of a unit that left it out.
_Rule = tuple[datetime, ProblemKind, UnitId]


def _refused(
    made: Mapping[BroadcastId, Draft], refusals: Mapping[DeviceNo, tuple[_Refusal, ...]]
) -> Mapping[BroadcastId, set[Problem]]:
    """What grants left out: said of a unit once where it is so on every device under it, else device by device."""
    devices: dict[BroadcastId, dict[_Rule, dict[DeviceNo, Part]]] = defaultdict(lambda: defaultdict(dict))
    for device_no, theirs in refusals.items():
        for part, grant in theirs:
            rule = (part.occurrence.at, grant.kind, grant.unit_id)
            devices[part.occurrence.broadcast_id][rule][device_no] = part
    problems: dict[BroadcastId, set[Problem]] = {}
    for broadcast_id, by_rule in devices.items():
        drawing = _drawing(made[broadcast_id].shares)
        found = problems[broadcast_id] = set()
        for rule, parts in by_rule.items():
            _, kind, unit_id = rule
            is_whole = kind is not ProblemKind.SHARE_USED_UP and len(parts) == drawing[rule]
            for device_no, part in parts.items():
                about = None if is_whole else device_no
                found.add(Problem.about(part.occurrence, kind, device_no=about, unit_id=unit_id))
    return problems


def _drawing(shares: Iterable[Share]) -> Mapping[_Rule, int]:
    """How many devices draw on the grants of a rule of a unit, by occurrence."""
    counts: dict[_Rule, int] = defaultdict(int)
    for share in shares:
        for part in share.parts:
            for rule in {(part.occurrence.at, grant.kind, grant.unit_id) for grant in part.grants}:
                counts[rule] += len(share.devices)
    return counts


def _offers(made: Mapping[BroadcastId, Draft]) -> tuple[tuple[BroadcastId, UnitId], ...]:
    return tuple(
        (broadcast_id, unit_id)
        for broadcast_id in sorted(made, key=lambda each: each.bytes)
        for unit_id in sorted(made[broadcast_id].offers, key=lambda each: each.bytes)
    )
