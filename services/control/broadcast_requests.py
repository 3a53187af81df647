"""Whether what somebody asks for can be a broadcast: every fault named by its field. Pure.

The same functions that will plan it (`services.control.planning`) answer here, so that what is accepted is what can be
planned. A daily broadcast without an end is planned day by day; here its next two days stand for all.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise

from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, UnitId
from schemas.plans import ContentKind
from services.control.bulletin_store import Bulletin
from services.control.device_store import Device
from services.control.errors import Fault
from services.control.planning import recurrence, targets
from services.control.planning.model import (
    EPOCH,
    Broadcast,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    ProblemKind,
    Target,
    UnitTarget,
    Window,
    daily,
    once,
)
from services.control.planning.programme import TEXT_LENGTH
from services.control.units import UnitTree

MAX_LENGTH = timedelta(hours=23)
MAX_ITEMS = 50
MAX_TARGETS = 2_000
MAX_TIMES = 24
MAX_AHEAD = timedelta(days=366 * 2)

ONCE, DAILY = "once", "daily"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulletinWish:
    """A bulletin at its place."""

    bulletin_id: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseWish:
    """A pause at its place."""

    length: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitWish:
    """A unit with everything below it, or not that."""

    unit_id: UnitId
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWish:
    """One device, or not that."""

    device_id: str
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asks for, in their own words: nothing of it has been looked up."""

    unit_id: UnitId
    title: str
    level: str
    recurrence: str
    time_zone: str
    starts_on: date
    ends_on: date | None
    local_times: tuple[time, ...]
    items: tuple[BulletinWish | PauseWish, ...]
    targets: tuple[UnitWish | DeviceWish, ...]
    volume_percent: int | None
    resume: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was looked up: the tree of today, the devices and bulletins that are named or lie below a target."""

    tree: UnitTree
    reach: frozenset[UnitId]  # units in which the actor may make broadcasts
    readable: frozenset[UnitId]  # units whose bulletins the actor may see
    devices: Mapping[str, Device]
    bulletins: Mapping[uuid.UUID, Bulletin]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Faults of the request, targets beyond the actor's rights, and what it comes to when there are none."""

    faults: tuple[Fault, ...]
    outside: tuple[Fault, ...]
    device_nos: tuple[DeviceNo, ...] = ()
    length: timedelta = timedelta(0)


def judge(wish: Wish, facts: Facts, *, now: datetime) -> Verdict:
    """Everything wrong with the wish. The issuing unit itself has been allowed already."""
    outside = tuple(_outside(wish, facts))
    faults = [
        *_level_faults(wish),
        *_item_faults(wish, facts),
        *_target_faults(wish, facts),
    ]
    length = _length(wish, facts)
    if length > MAX_LENGTH:
        faults.append(Fault("items", "broadcast_too_long", {"hours": round(length / timedelta(hours=1), 1)}))
    faults += _time_faults(wish, length, now=now)
    device_nos: tuple[DeviceNo, ...] = ()
    if not faults and not outside:
        device_nos = _audience(wish, facts)
        if not device_nos:
            faults.append(Fault("targets", "targets_empty"))
    return Verdict(faults=tuple(faults), outside=outside, device_nos=device_nos, length=length)


def _outside(wish: Wish, facts: Facts) -> Iterator[Fault]:
    """Targets that exist and lie beyond what the actor may speak to, or beyond the issuing unit."""
    for position, target in enumerate(wish.targets):
        if isinstance(target, UnitWish):
            field, unit_id, what = "unit_id", target.unit_id, _unit_name(target.unit_id, facts.tree)
        else:
            device = facts.devices.get(target.device_id)
            if device is None:
                continue
            field, unit_id, what = "device_id", device.unit_id, device.device_id
        if unit_id in facts.tree and (unit_id not in facts.reach or not facts.tree.covers(wish.unit_id, unit_id)):
            yield Fault(f"targets[{position}].{field}", "target_outside_own_subtree", {"target": what})


def _unit_name(unit_id: UnitId, tree: UnitTree) -> str:
    unit = tree.get(unit_id)
    return unit.name if unit else str(unit_id)


def _level_faults(wish: Wish) -> Iterator[Fault]:
    if wish.level == "emergency":
        # An emergency must pre-empt at once and reach every device; a plan that devices fetch when they can does not.
        yield Fault("level", "emergency_needs_alert")


def _item_faults(wish: Wish, facts: Facts) -> Iterator[Fault]:
    for position, item in enumerate(wish.items):
        if not isinstance(item, BulletinWish):
            continue
        field = f"items[{position}].bulletin_id"
        bulletin = facts.bulletins.get(item.bulletin_id)
        if bulletin is None or bulletin.unit_id not in facts.readable:
            yield Fault(field, "unknown_bulletin", {"id": str(item.bulletin_id)})
        elif bulletin.state != "approved":
            yield Fault(field, "bulletin_not_approved", {"title": bulletin.title, "state": bulletin.state})
    if not any(isinstance(item, BulletinWish) for item in wish.items):
        yield Fault("items", "items_without_bulletin")


def _target_faults(wish: Wish, facts: Facts) -> Iterator[Fault]:
    for position, target in enumerate(wish.targets):
        if isinstance(target, UnitWish):
            if target.unit_id not in facts.tree:
                yield Fault(f"targets[{position}].unit_id", "unknown_unit", {"unit": str(target.unit_id)})
            continue
        field = f"targets[{position}].device_id"
        device = facts.devices.get(target.device_id)
        if device is None:
            yield Fault(field, "unknown_device", {"id": target.device_id})
        elif device.retired_at is not None:
            yield Fault(field, "device_retired", {"id": target.device_id})
        elif not target.is_excluded and device.kind not in ("cluster", "board"):
            yield Fault(field, "device_cannot_play", {"id": target.device_id, "kind": device.kind})
    if all(target.is_excluded for target in wish.targets):
        yield Fault("targets", "targets_only_exclude")


def _length(wish: Wish, facts: Facts) -> timedelta:
    length = timedelta(0)
    for item in wish.items:
        if isinstance(item, PauseWish):
            length += item.length
            continue
        bulletin = facts.bulletins.get(item.bulletin_id)
        if bulletin is not None:
            has_sound = bulletin.duration_ms is not None
            length += timedelta(milliseconds=bulletin.duration_ms or 0) if has_sound else TEXT_LENGTH
    return length


def _time_faults(wish: Wish, length: timedelta, *, now: datetime) -> Iterator[Fault]:
    zone = recurrence.zone(wish.time_zone)
    if zone is None:
        yield Fault("time_zone", "unknown_time_zone", {"zone": wish.time_zone})
        return
    today = now.astimezone(zone).date()
    if wish.ends_on is not None and wish.ends_on <= wish.starts_on:
        yield Fault("ends_on", "end_before_start", {"starts_on": wish.starts_on.isoformat()})
        return
    if wish.starts_on - today > MAX_AHEAD:
        yield Fault("starts_on", "starts_too_late", {"latest": (today + MAX_AHEAD).isoformat()})
        return
    if len(set(wish.local_times)) != len(wish.local_times):
        yield Fault("local_times", "time_repeated")
        return
    if wish.recurrence == ONCE:
        if wish.ends_on is not None and wish.ends_on != wish.starts_on + timedelta(days=1):
            yield Fault("ends_on", "end_of_once")
            return
        yield from _once_faults(wish, now=now)
        first = last = wish.starts_on
    else:
        first = max(wish.starts_on, today)
        if wish.ends_on is not None and not _occurs(wish, first, wish.ends_on, now=now):
            yield Fault("ends_on", "all_in_the_past", {"today": today.isoformat()})
            return
        last = first + timedelta(days=1)
    yield from _overlap_faults(wish, first, last, length)


def _once_faults(wish: Wish, *, now: datetime) -> Iterator[Fault]:
    expansion = _expansion(wish, wish.starts_on, wish.starts_on + timedelta(days=1))
    positions = {local_time: position for position, local_time in enumerate(wish.local_times)}
    for occurrence in expansion.occurrences:
        if occurrence.at <= now:
            field = f"local_times[{positions[occurrence.local_time]}]"
            yield Fault(field, "time_in_the_past", {"time": occurrence.local_time.isoformat("minutes")})
    for problem in expansion.problems:
        assert problem.local_time is not None
        field = f"local_times[{positions[problem.local_time]}]"
        if problem.kind is not ProblemKind.LOCAL_TIME_REPEATED:  # means the first of the two, as documented
            yield Fault(field, "time_does_not_exist", {"time": problem.local_time.isoformat("minutes")})


def _occurs(wish: Wish, first: date, end: date, *, now: datetime) -> bool:
    """Whether anything is left to sound; the last day decides, because the rule is the same every day."""
    if end <= first:
        return False
    last = end - timedelta(days=1)
    return any(occurrence.at > now for occurrence in _expansion(wish, last, end).occurrences)


def _overlap_faults(wish: Wish, first: date, last: date, length: timedelta) -> Iterator[Fault]:
    """A broadcast must have ended before it begins again."""
    occurrences = _expansion(wish, first, last + timedelta(days=1)).occurrences
    if wish.ends_on is not None:
        occurrences = tuple(each for each in occurrences if each.local_day < wish.ends_on)
    for earlier, later in pairwise(occurrences):
        if later.at - earlier.at < length:
            times = {"first": earlier.local_time.isoformat("minutes"), "second": later.local_time.isoformat("minutes")}
            yield Fault("local_times", "times_overlap", {**times, "minutes": -(-length // timedelta(minutes=1))})
            return


def _expansion(wish: Wish, first: date, end: date) -> recurrence.Expansion:
    return recurrence.expand(_as_broadcast(wish), Window(first=first, end=end))


def _audience(wish: Wish, facts: Facts) -> tuple[DeviceNo, ...]:
    """The devices in service that can put out at least one of the items."""
    numbers = {str(device.device_id): device.device_no for device in facts.devices.values()}
    wanted: list[Target] = [
        UnitTarget(unit_id=target.unit_id, is_excluded=target.is_excluded)
        if isinstance(target, UnitWish)
        else DeviceTarget(device_no=numbers[target.device_id], is_excluded=target.is_excluded)
        for target in wish.targets
        if isinstance(target, UnitWish) or target.device_id in numbers
    ]
    fleet = targets.Fleet(_ref(device) for device in facts.devices.values() if device.retired_at is None)
    resolution = targets.resolve(wanted, wish.unit_id, facts.tree, fleet)
    contents = set(
        _contents(facts.bulletins[item.bulletin_id] for item in wish.items if isinstance(item, BulletinWish))
    )
    return tuple(
        sorted(
            device.device_no
            for content, devices in resolution.audience.items()
            if content in contents
            for device in devices
        )
    )


def _contents(bulletins: Iterable[Bulletin]) -> Iterator[ContentKind]:
    for bulletin in bulletins:
        if bulletin.media_sha256 is not None:
            yield ContentKind.AUDIO
        if bulletin.board_text is not None:
            yield ContentKind.TEXT


def _ref(device: Device) -> DeviceRef:
    return DeviceRef(
        device_no=device.device_no,
        device_id=device.device_id,
        kind=DeviceKind[device.kind.upper()],
        unit_id=device.unit_id,
        registered_at=device.registered_at,
        retired_at=device.retired_at,
    )


def _as_broadcast(wish: Wish) -> Broadcast:
    """The wish as planning sees it, as far as times go."""
    recurrence = (
        once(wish.starts_on, wish.local_times)
        if wish.recurrence == ONCE
        else daily(wish.starts_on, wish.ends_on, wish.local_times)
    )
    return Broadcast(
        broadcast_id=BroadcastId(uuid.UUID(int=0)),
        unit_id=wish.unit_id,
        title=wish.title,
        level=Level.NORMAL,
        recurrence=recurrence,
        time_zone=wish.time_zone,
        items=(),
        targets=(),
        issued_at=EPOCH,
        resume=ResumePolicy.RESUME,
    )
