"""Whether what somebody asks for can be a broadcast: every fault named by its field. Pure.

The same functions that will plan it (`services.control.planning`) answer here, so that what is accepted is what can be
planned. What policies have against it is asked of planning itself, once it is stored (`services.control.policy_trial`).
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import NamedTuple, assert_never
from zoneinfo import ZoneInfo

from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, UnitId
from services.control.bulletin_store import Bulletin
from services.control.device_store import Device
from services.control.errors import Fault
from services.control.group_store import Group
from services.control.planning import hearings, model, permission, recurrence, rrules, targets, wall_clock
from services.control.planning.lineup import Lineup, Stock, line_up
from services.control.planning.model import (
    EPOCH,
    EVERY_DAY,
    Broadcast,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    Fill,
    Fit,
    GroupId,
    GroupTarget,
    Item,
    KindTarget,
    Occurrence,
    Pause,
    ProblemKind,
    Recurrence,
    RelayItem,
    SourceId,
    Target,
    UnitTarget,
    Window,
)
from services.control.planning.policies import Policies
from services.control.planning.recurrence import AROUND
from services.control.units import UnitHistory, UnitTree

MAX_LENGTH = timedelta(hours=23)
MAX_ITEMS = 50
MAX_TARGETS = 2_000
MAX_TIMES = 24
MAX_SESSIONS = 24
MAX_RDATES = 1_000
MAX_EXDATES = 10_000
MAX_RRULE = 1_000  # characters; the longest that says something is a few hundred
MAX_AHEAD = timedelta(days=366 * 2)
# How far ahead a rule is looked at to find its first occurrence: the 29th of February may be eight years away.
MAX_SEARCH = timedelta(days=366 * 9)
# Whether it runs into itself is looked at for a year and a month, in which everything that follows the calendar comes
# round, or for so many occurrences: what begins that often comes round in them.
OVERLAP_SPAN = timedelta(days=366 + 36)
OVERLAP_OCCURRENCES = 1_000

_DAY, _MONTH = timedelta(days=1), timedelta(days=31)

ONCE, DAILY, RULE = "once", "daily", "rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulletinWish:
    """A bulletin, or a jingle, at its place."""

    bulletin_id: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseWish:
    """A pause at its place."""

    length: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayWish:
    """A live source for a length, at its place or a fixed time after the beginning of the occurrence.

    `is_live`: somebody speaks there, and goes before priority content.
    """

    source_id: uuid.UUID
    length: timedelta
    starts_after: timedelta | None = None
    is_live: bool = False


ItemWish = BulletinWish | PauseWish | RelayWish


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
class GroupWish:
    """The devices of a group, or not those."""

    group_id: uuid.UUID
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KindWish:
    """Every cluster, or every board, below the issuing unit, or not those."""

    kind: str
    is_excluded: bool = False


TargetWish = UnitWish | DeviceWish | GroupWish | KindWish


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
    items: tuple[ItemWish, ...]
    targets: tuple[TargetWish, ...]
    volume_percent: int | None
    resume: str
    sessions: tuple[str, ...] = ()
    rrule: str | None = None
    rdates: tuple[date | datetime, ...] = ()
    exdates: tuple[date | datetime, ...] = ()
    length: timedelta | None = None
    fit: str = "whole"
    fill: str = "none"
    patience: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A relay source, as far as asking for it goes."""

    source_id: uuid.UUID
    unit_id: UnitId
    name: str
    retired_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was looked up: the trees, and the devices, groups, bulletins and sources that are named or lie below a target."""

    history: UnitHistory
    zone: ZoneInfo  # in which days of units and policies are counted
    tree: UnitTree  # of today: what rights rest on
    reach: frozenset[UnitId]  # units in which the actor may make broadcasts
    readable: frozenset[UnitId]  # units whose bulletins and groups the actor may see
    devices: Mapping[str, Device]  # that are named, by id
    bulletins: Mapping[uuid.UUID, Bulletin]
    groups: Mapping[uuid.UUID, Group] = field(default_factory=dict)
    sources: Mapping[uuid.UUID, Source] = field(default_factory=dict)
    policies: Policies
    fleet: tuple[DeviceRef, ...] = ()  # in service, of all kinds that put something out
    lent: frozenset[uuid.UUID] = frozenset()  # bulletins and sources that come with an offer, whoever may see them


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Faults of the request, targets beyond the actor's rights, and what it comes to when there are none.

    `first` is the first occurrence that is still to come; `active_until` a day from which on none begins any more, None
    when it goes on until withdrawn.
    """

    faults: tuple[Fault, ...]
    outside: tuple[Fault, ...]
    device_nos: tuple[DeviceNo, ...] = ()
    length: timedelta = timedelta(0)
    first: Occurrence | None = None
    active_until: date | None = None


def judge(wish: Wish, facts: Facts, *, now: datetime) -> Verdict:
    """Everything wrong with the wish. The issuing unit itself has been allowed already."""
    outside = tuple(_outside(wish, facts))
    composition = _composition(wish, facts)
    lineup = line_up(*composition)
    length = lineup.length
    times = _judge_times(wish, facts, composition, now=now)
    faults = [
        *_level_faults(wish),
        *_item_faults(wish, facts),
        *_shape_faults(wish, lineup),
        *_target_faults(wish, facts),
        *times.faults,
    ]
    device_nos: tuple[DeviceNo, ...] = ()
    if times.first is not None:
        faults += _closed_faults(wish, facts, times.first.day)
        faults += _expiry_faults(wish, facts, times.first)
    if not faults and not outside:
        device_nos = audience(wish, facts)
        if not device_nos:
            faults.append(Fault("targets", "targets_empty"))
    return Verdict(
        faults=tuple(faults),
        outside=outside,
        device_nos=device_nos,
        length=length,
        first=times.first,
        active_until=None if faults else active_until(wish, facts.zone),
    )


def _outside(wish: Wish, facts: Facts) -> Iterator[Fault]:
    """Targets that exist and lie beyond what the actor may speak to, or beyond the issuing unit."""
    for position, target in enumerate(wish.targets):
        match target:
            case UnitWish(unit_id=unit_id):
                field_name, what = "unit_id", _unit_name(unit_id, facts.tree)
            case DeviceWish(device_id=device_id):
                device = facts.devices.get(device_id)
                if device is None:
                    continue
                field_name, unit_id, what = "device_id", device.unit_id, device.device_id
            case GroupWish(group_id=group_id):
                group = facts.groups.get(group_id)
                if group is None or group.unit_id not in facts.readable:
                    continue
                field_name, unit_id, what = "group_id", group.unit_id, group.name
            case KindWish():
                continue  # everything of a kind below the issuing unit, and nothing else
            case _:
                assert_never(target)
        if unit_id in facts.tree and (unit_id not in facts.reach or not facts.tree.covers(wish.unit_id, unit_id)):
            yield Fault(f"targets[{position}].{field_name}", "target_outside_own_subtree", {"target": what})


def _unit_name(unit_id: UnitId, tree: UnitTree) -> str:
    unit = tree.get(unit_id)
    return unit.name if unit else str(unit_id)


def _level_faults(wish: Wish) -> Iterator[Fault]:
    if wish.level == "emergency":
        # An emergency must pre-empt at once and reach every device; a plan that devices fetch when they can does not.
        yield Fault("level", "emergency_needs_alert")


# --- items -----------------------------------------------------------------------------------------------------------


def _item_faults(wish: Wish, facts: Facts) -> Iterator[Fault]:
    for position, item in enumerate(wish.items):
        match item:
            case BulletinWish(bulletin_id=bulletin_id):
                yield from _bulletin_faults(f"items[{position}].bulletin_id", bulletin_id, facts)
            case RelayWish(source_id=source_id):
                yield from _source_faults(f"items[{position}].relay_source_id", source_id, wish, facts)
            case PauseWish():
                pass
            case _:
                assert_never(item)
    if not any(_says_something(item, facts) for item in wish.items):
        yield Fault("items", "items_without_bulletin")


def _says_something(item: ItemWish, facts: Facts) -> bool:
    """Pauses and jingles frame something; by themselves they tell nobody anything."""
    match item:
        case PauseWish():
            return False
        case RelayWish():
            return True
        case BulletinWish(bulletin_id=bulletin_id):
            bulletin = facts.bulletins.get(bulletin_id)
            return bulletin is None or bulletin.kind != "jingle"
        case _:
            assert_never(item)


def _bulletin_faults(field_name: str, bulletin_id: uuid.UUID, facts: Facts) -> Iterator[Fault]:
    bulletin = facts.bulletins.get(bulletin_id)
    if bulletin is None or (bulletin.unit_id not in facts.readable and bulletin_id not in facts.lent):
        yield Fault(field_name, "unknown_bulletin", {"id": str(bulletin_id)})
    elif bulletin.state != "approved":
        yield Fault(field_name, "bulletin_not_approved", {"title": bulletin.title, "state": bulletin.state})


def _source_faults(field_name: str, source_id: uuid.UUID, wish: Wish, facts: Facts) -> Iterator[Fault]:
    """A source is there for its unit, for every unit below it, and for those who may see it."""
    source = facts.sources.get(source_id)
    if source is None or not (source.unit_id in facts.readable or source.unit_id in facts.tree.ancestors(wish.unit_id)):
        yield Fault(field_name, "unknown_relay_source", {"id": str(source_id)})
    elif source.retired_at is not None:
        yield Fault(field_name, "relay_source_retired", {"name": source.name})


def _shape_faults(wish: Wish, lineup: Lineup) -> Iterator[Fault]:
    """Whether lengths fit together."""
    if lineup.length > MAX_LENGTH:
        # Rounded up: what is too long must not read as if it were not.
        hours = -(-lineup.length // timedelta(minutes=6)) / 10
        yield Fault("items", "broadcast_too_long", {"hours": hours})
    if not lineup.pieces and any(kind is ProblemKind.NO_ROOM for _, kind in lineup.gaps):
        yield Fault("length_s", "nothing_fits")
    if wish.length is None and not wish.sessions:
        if wish.fill != "none":
            yield Fault("fill", "fill_needs_length")
        if wish.fit != "whole":
            yield Fault("fit", "fit_needs_length")
    for position, item in enumerate(wish.items):
        if isinstance(item, RelayWish) and item.starts_after is not None:
            latest = MAX_LENGTH if wish.length is None else wish.length
            if item.starts_after >= latest:
                yield Fault(
                    f"items[{position}].starts_after_s", "pinned_after_the_end", {"seconds": latest.total_seconds()}
                )


class _Composition(NamedTuple):
    """What an occurrence consists of, as planning lines it up; what is not approved yet counts with its length."""

    broadcast: Broadcast
    stock: Stock


def _composition(wish: Wish, facts: Facts) -> _Composition:
    items: list[Item] = []
    bulletins: dict[BulletinId, model.Bulletin] = {}
    relays: dict[SourceId, model.RelaySource] = {}
    for number, item in enumerate(wish.items):
        match item:
            case PauseWish(length=length):
                items.append(Pause(number=number, length=length))
            case RelayWish(source_id=source_id, length=length, starts_after=starts_after):
                source = SourceId(source_id)
                relays[source] = model.RelaySource(source_id=source, name="", path="relays")
                items.append(RelayItem(number=number, source_id=source, length=length, starts_after=starts_after))
            case BulletinWish(bulletin_id=bulletin_id):
                stored, named = facts.bulletins.get(bulletin_id), BulletinId(bulletin_id)
                if stored is not None:
                    bulletins[named] = _as_bulletin(stored)
                is_jingle = stored is not None and stored.kind == "jingle"
                items.append(BulletinItem(number=number, bulletin_id=named, is_jingle=is_jingle))
            case _:
                assert_never(item)
    broadcast = replace(
        _as_broadcast(wish), items=tuple(items), length=wish.length, fit=Fit(wish.fit), fill=Fill(wish.fill)
    )
    return _Composition(broadcast, Stock(bulletins=bulletins, relays=relays))


def _as_bulletin(stored: Bulletin) -> model.Bulletin:
    """A bulletin as planning sees it, as far as lengths go."""

    def file(sha256: bytes | None, mime: str | None, duration_ms: int | None) -> model.Media | None:
        if sha256 is None:
            return None
        duration = None if duration_ms is None else timedelta(milliseconds=duration_ms)
        return model.Media(sha256=sha256, size=0, mime=mime or "", duration=duration)

    return model.Bulletin(
        bulletin_id=stored.bulletin_id,
        title=stored.title,
        is_approved=True,
        media=file(stored.media_sha256, None, stored.duration_ms),
        board_text=stored.board_text,
        board_media=file(stored.board_media_sha256, stored.board_mime, stored.board_duration_ms),
        board_length=None if stored.board_length_ms is None else timedelta(milliseconds=stored.board_length_ms),
    )


# --- targets ---------------------------------------------------------------------------------------------------------


def _target_faults(wish: Wish, facts: Facts) -> Iterator[Fault]:
    for position, target in enumerate(wish.targets):
        at = f"targets[{position}]"
        match target:
            case UnitWish(unit_id=unit_id):
                if not facts.tree.ground(unit_id):
                    yield Fault(f"{at}.unit_id", "unknown_unit", {"unit": str(unit_id)})
            case DeviceWish():
                yield from _device_faults(f"{at}.device_id", target, facts)
            case GroupWish(group_id=group_id):
                group = facts.groups.get(group_id)
                if group is None or group.unit_id not in facts.readable:
                    yield Fault(f"{at}.group_id", "unknown_group", {"id": str(group_id)})
                elif group.closed_at is not None:
                    yield Fault(f"{at}.group_id", "target_group_closed", {"name": group.name})
            case KindWish():
                pass
            case _:
                assert_never(target)
    if all(target.is_excluded for target in wish.targets):
        yield Fault("targets", "targets_only_exclude")


def _device_faults(field_name: str, target: DeviceWish, facts: Facts) -> Iterator[Fault]:
    device = facts.devices.get(target.device_id)
    if device is None:
        yield Fault(field_name, "unknown_device", {"id": target.device_id})
    elif device.retired_at is not None:
        yield Fault(field_name, "device_retired", {"id": target.device_id})
    elif not target.is_excluded and device.kind not in ("cluster", "board"):
        yield Fault(field_name, "device_cannot_play", {"id": target.device_id, "kind": device.kind})


def _closed_faults(wish: Wish, facts: Facts, day: date) -> Iterator[Fault]:
    """Units that are there today and no longer on the day of the first occurrence."""
    tree, when = facts.history.on(day), {"day": day.isoformat()}
    if wish.unit_id in facts.tree and wish.unit_id not in tree:
        yield Fault("unit_id", "unit_closed_that_day", {"unit": _unit_name(wish.unit_id, facts.tree), **when})
    for position, target in enumerate(wish.targets):
        if isinstance(target, UnitWish) and facts.tree.ground(target.unit_id) and not tree.ground(target.unit_id):
            names = {"unit": _unit_name(target.unit_id, facts.tree)}
            yield Fault(f"targets[{position}].unit_id", "unit_closed_that_day", {**names, **when})


def _expiry_faults(wish: Wish, facts: Facts, first: Occurrence) -> Iterator[Fault]:
    """Bulletins that are stale before they are heard once."""
    for position, item in enumerate(wish.items):
        bulletin = facts.bulletins.get(item.bulletin_id) if isinstance(item, BulletinWish) else None
        if bulletin is not None and bulletin.expires_at is not None and bulletin.expires_at <= first.at:
            when = {"title": bulletin.title, "expires_at": bulletin.expires_at.isoformat()}
            yield Fault(f"items[{position}].bulletin_id", "bulletin_expired", when)


def audience(wish: Wish, facts: Facts) -> tuple[DeviceNo, ...]:
    """The devices in service that can put out at least one of the items, whatever their units decide about it."""
    numbers: dict[str, DeviceNo] = {each.device_id: each.device_no for each in facts.fleet}
    numbers |= {device_id: device.device_no for device_id, device in facts.devices.items()}
    groups = {
        GroupId(group_id): frozenset(numbers[member] for member in group.members if member in numbers)
        for group_id, group in facts.groups.items()
    }
    wanted = [_as_target(target, numbers) for target in wish.targets]
    resolution = targets.resolve(wanted, wish.unit_id, facts.tree, targets.Fleet(facts.fleet), groups)
    kinds = set(_kinds(wish, facts))
    return tuple(
        sorted(
            device.device_no for devices in resolution.audience.values() for device in devices if device.kind in kinds
        )
    )


def _kinds(wish: Wish, facts: Facts) -> Iterator[DeviceKind]:
    """The kinds of device that can put out something of it."""
    for item in wish.items:
        match item:
            case RelayWish():
                yield DeviceKind.CLUSTER
            case BulletinWish(bulletin_id=bulletin_id):
                bulletin = facts.bulletins[bulletin_id]
                if bulletin.media_sha256 is not None:
                    yield DeviceKind.CLUSTER
                if bulletin.board_text is not None or bulletin.board_media_sha256 is not None:
                    yield DeviceKind.BOARD
            case PauseWish():
                pass
            case _:
                assert_never(item)


def _as_target(target: TargetWish, numbers: Mapping[str, DeviceNo]) -> Target:
    is_excluded = target.is_excluded
    match target:
        case UnitWish(unit_id=unit_id):
            return UnitTarget(unit_id=unit_id, is_excluded=is_excluded)
        case DeviceWish(device_id=device_id):
            return DeviceTarget(device_no=numbers[device_id], is_excluded=is_excluded)
        case GroupWish(group_id=group_id):
            return GroupTarget(group_id=GroupId(group_id), is_excluded=is_excluded)
        case KindWish(kind=kind):
            return KindTarget(kind=DeviceKind[kind.upper()], is_excluded=is_excluded)
        case _:
            assert_never(target)


# --- times -----------------------------------------------------------------------------------------------------------


class _Times(NamedTuple):
    """What is wrong with the times, and the first occurrence that is still to come."""

    faults: tuple[Fault, ...]
    first: Occurrence | None = None


def _judge_times(wish: Wish, facts: Facts, composition: _Composition, *, now: datetime) -> _Times:
    zone = recurrence.zone(wish.time_zone)
    if zone is None:
        return _Times((Fault("time_zone", "unknown_time_zone", {"zone": wish.time_zone}),))
    today = recurrence.local_day(now, zone)
    faults = tuple(_form_faults(wish, today)) or tuple(_session_faults(wish, facts, max(wish.starts_on, today)))
    if not faults and (fault := recurrence.fault(as_recurrence(wish), zone, facts.zone)) is not None:
        faults = (Fault(_field_of(fault, wish), fault.code, fault.facts),)
    if not faults and wish.recurrence == ONCE and not wish.rdates:
        faults = tuple(_once_faults(wish, facts, now=now))
    if faults:
        return _Times(faults)
    first = _first_occurrence(wish, facts, now=now)
    if first is None:
        return _Times((_nothing_left(wish, facts, today, now=now),))
    return _Times(tuple(_overlap_faults(wish, facts, first, composition)), first)


def _form_faults(wish: Wish, today: date) -> Iterator[Fault]:
    """What can be said without looking at a calendar."""
    if not wish.local_times and not wish.sessions:
        yield Fault("local_times", "too_few", {"limit": 1})
    if len(set(wish.local_times)) != len(wish.local_times):
        yield Fault("local_times", "time_repeated")
    if len(set(wish.sessions)) != len(wish.sessions):
        yield Fault("sessions", "time_repeated")
    if wish.recurrence == RULE and wish.rrule is None:
        yield Fault("rrule", "field_missing")
    if wish.recurrence != RULE and wish.rrule is not None:
        yield Fault("rrule", "rrule_without_rule")
    if wish.ends_on is not None and wish.ends_on <= wish.starts_on:
        yield Fault("ends_on", "end_before_start", {"starts_on": wish.starts_on.isoformat()})
    elif (
        wish.recurrence == ONCE
        and not wish.rdates
        and wish.ends_on is not None
        and wish.ends_on != wish.starts_on + timedelta(days=1)
    ):
        yield Fault("ends_on", "end_of_once")
    for position, each in enumerate(wish.rdates):
        if _day_of(each) < wish.starts_on or (wish.ends_on is not None and _day_of(each) >= wish.ends_on):
            yield Fault(f"rdates[{position}]", "rdate_outside", {"day": _day_of(each).isoformat()})
    if wish.starts_on - today > MAX_AHEAD:
        yield Fault("starts_on", "starts_too_late", {"latest": (today + MAX_AHEAD).isoformat()})


def _session_faults(wish: Wish, facts: Facts, day: date) -> Iterator[Fault]:
    """Sessions that no policy of the issuing unit, or of one above it, names."""
    tree = facts.history.on(day)
    policy, above = facts.policies.at(wish.unit_id, tree), tree.ancestors(wish.unit_id)
    for position, code in enumerate(wish.sessions):
        if permission.session(policy, code, day, above=above) is permission.Rule.UNKNOWN_SESSION:
            unit = _unit_name(wish.unit_id, facts.tree)
            yield Fault(f"sessions[{position}]", "unknown_session", {"code": code, "unit": unit})


def _held(wish: Wish, facts: Facts, code: str, day: date) -> permission.Held | permission.Rule:
    """How a session takes place on a day for the issuing unit, or what keeps it from it."""
    tree = facts.history.on(day)
    policy, above = facts.policies.at(wish.unit_id, tree), tree.ancestors(wish.unit_id)
    return permission.session(policy, code, day, above=above)


def _session_begins(wish: Wish, facts: Facts) -> recurrence.SessionBegins:
    def begins(code: str, day: date) -> time | ProblemKind:
        held = _held(wish, facts, code, day)
        return held.begin if isinstance(held, permission.Held) else ProblemKind(held.value)

    return begins


def _field_of(fault: rrules.RuleFault, wish: Wish) -> str:
    if fault.code.startswith("starts_on"):
        return "starts_on"
    return "rrule" if wish.recurrence == RULE else "local_times"


def _once_faults(wish: Wish, facts: Facts, *, now: datetime) -> Iterator[Fault]:
    expansion = _expansion(wish, facts, wish.starts_on - AROUND, wish.starts_on + AROUND)
    begins = _session_begins(wish, facts)
    fields = {local_time: f"local_times[{position}]" for position, local_time in enumerate(wish.local_times)}
    for position, code in enumerate(wish.sessions):
        at = begins(code, wish.starts_on)
        if isinstance(at, time):
            fields.setdefault(at, f"sessions[{position}]")
        else:  # it has a name, and does not take place on that day
            day = wish.starts_on.isoformat()
            yield Fault(f"sessions[{position}]", "session_not_held", {"code": code, "day": day})
    for occurrence in expansion.occurrences:
        if occurrence.at <= now:
            text = occurrence.local_time.isoformat("minutes")
            yield Fault(fields[occurrence.local_time], "time_in_the_past", {"time": text})
    for problem in expansion.problems:
        if problem.kind in (ProblemKind.LOCAL_TIME_SKIPPED, ProblemKind.LOCAL_DAY_SKIPPED, ProblemKind.SAME_INSTANT):
            assert problem.local_time is not None
            text = problem.local_time.isoformat("minutes")
            yield Fault(fields[problem.local_time], "time_does_not_exist", {"time": text})


def _first_occurrence(wish: Wish, facts: Facts, *, now: datetime) -> Occurrence | None:
    """The first occurrence after `now`, looked for in ever longer spans."""
    today = recurrence.local_day(now, facts.zone)
    start = max(min((wish.starts_on, *map(_day_of, wish.rdates))) - AROUND, today)
    limit, span = start + MAX_SEARCH, timedelta(days=8)
    if wish.ends_on is not None:
        limit = min(limit, wish.ends_on + AROUND)
    while start < limit:
        end = min(start + span, limit)
        for occurrence in _expansion(wish, facts, start, end).occurrences:
            if occurrence.at > now:
                return occurrence
        start, span = end, span * 2
    return None


def _nothing_left(wish: Wish, facts: Facts, today: date, *, now: datetime) -> Fault:
    """Why a recurrence that has been one has nothing to come."""
    if wish.exdates and _first_occurrence(replace(wish, exdates=()), facts, now=now) is not None:
        return Fault("exdates", "exdates_leave_nothing", {"years": MAX_SEARCH // timedelta(days=366)})
    field_name = "ends_on" if wish.ends_on is not None else "rrule" if wish.recurrence == RULE else "starts_on"
    return Fault(field_name, "all_in_the_past", {"today": today.isoformat()})


def _overlap_faults(wish: Wish, facts: Facts, first: Occurrence, composition: _Composition) -> Iterator[Fault]:
    """A broadcast must have ended before it begins again."""
    whole = line_up(*composition).length
    is_ended_by_session = wish.fit != "whole" or wish.fill == "repeat"
    known: dict[timedelta | None, timedelta] = {None: whole}
    for earlier, later in _neighbours(wish, facts, first):
        length = whole
        if is_ended_by_session:
            closes = _closes(wish, facts, earlier)
            if closes not in known:
                known[closes] = line_up(*composition, closes=closes).length
            length = known[closes]
        if later.at - earlier.at < length:
            times = {"first": earlier.local_time.isoformat("minutes"), "second": later.local_time.isoformat("minutes")}
            field_name = "rrule" if wish.recurrence == RULE and len(wish.local_times) == 1 else "local_times"
            field_name = "sessions" if not wish.local_times else field_name
            yield Fault(field_name, "times_overlap", {**times, "minutes": -(-length // timedelta(minutes=1))})
            return


def _closes(wish: Wish, facts: Facts, occurrence: Occurrence) -> timedelta | None:
    """When the session ends that an occurrence begins in, wherever it sounds: units below may end it earlier, never later."""
    policy = facts.policies.at(wish.unit_id, facts.history.on(occurrence.day))
    held = None if occurrence.session is None else _held(wish, facts, occurrence.session, occurrence.day)
    wall = wall_clock.stretches([(occurrence.at, occurrence.at + MAX_LENGTH)], facts.zone)
    found = hearings.closing(policy, wall, held, occurrence.day)
    return None if found is None else found[0]


def _neighbours(wish: Wish, facts: Facts, first: Occurrence) -> Iterator[tuple[Occurrence, Occurrence]]:
    """Occurrences that follow one another: those to come, and those around every added day that lies farther away."""
    last: tuple[Occurrence, ...] = ()
    start, end, seen = first.day, first.day + OVERLAP_SPAN, 0
    while start < end and seen < OVERLAP_OCCURRENCES:
        until = min(start + _MONTH, end)
        found = [each for each in _expansion(wish, facts, start, until).occurrences if each.at >= first.at]
        yield from pairwise([*last, *found])
        last, start, seen = tuple(found[-1:]) or last, until, seen + len(found)
    added, taken_out = _by_day(wish.rdates), _by_day(wish.exdates)
    for day in sorted(each for each in added if each + AROUND >= start):
        # An occurrence lasts a day at most. Only the dates of these days are handed on: there may be thousands.
        days = (day - _DAY, day, day + _DAY)
        rdates = tuple(each for nearby in days for each in added.get(nearby, ()))
        exdates = tuple(each for nearby in days for each in taken_out.get(nearby, ()))
        around = replace(wish, rdates=rdates, exdates=exdates)
        near = _expansion(around, facts, day - _DAY - AROUND, day + _DAY + AROUND).occurrences
        yield from pairwise(each for each in near if each.local_day in days)


def _by_day(dates: Iterable[date | datetime]) -> dict[date, list[date | datetime]]:
    by_day: dict[date, list[date | datetime]] = defaultdict(list)
    for each in dates:
        by_day[_day_of(each)].append(each)
    return by_day


def _expansion(wish: Wish, facts: Facts, first: date, end: date) -> recurrence.Expansion:
    window = Window(first=first, end=end)
    return recurrence.expand(_as_broadcast(wish), window, facts.zone, _session_begins(wish, facts))


def _day_of(value: date | datetime) -> date:
    return value.date() if isinstance(value, datetime) else value


def next_occurrence(wish: Wish, facts: Facts, *, now: datetime) -> Occurrence | None:
    """When what was accepted before begins next; None when it is over. Of the facts only units and policies count."""
    return _first_occurrence(wish, facts, now=now)


def active_until(wish: Wish, zone: ZoneInfo) -> date | None:
    """A day from which on none of it begins any more; None when it goes on until it is withdrawn.

    It is one of the broadcast's own days; sessions are held in `zone`. Only so exact as is cheap: planning looks at
    whatever may still have something to begin.
    """
    last = _ends_by_itself(wish)
    # Where sessions are held the day may not have begun yet that is over in the zone of the broadcast.
    return last + AROUND if last is not None and wish.sessions and wish.time_zone != zone.key else last


def _ends_by_itself(wish: Wish) -> date | None:
    ends = [] if wish.ends_on is None else [wish.ends_on]
    if wish.recurrence == ONCE:
        last = wish.starts_on
    elif wish.recurrence == RULE and wish.rrule is not None:
        rule = rrules.parse_rrule(wish.rrule)
        until = None if isinstance(rule, rrules.RuleFault) else rule.until
        if until is None:
            return min(ends, default=None)
        # An instant may be another day than that of UTC.
        last = _day_of(until) + timedelta(days=1)
    else:
        return min(ends, default=None)
    return min([*ends, max((last, *map(_day_of, wish.rdates))) + timedelta(days=1)])


def as_recurrence(wish: Wish) -> Recurrence:
    """When the wish is to begin, as planning sees it."""
    return Recurrence(
        starts_on=wish.starts_on,
        ends_on=wish.ends_on,
        times=wish.local_times,
        sessions=wish.sessions,
        rrule=EVERY_DAY if wish.recurrence == DAILY else wish.rrule,
        rdates=wish.rdates,
        exdates=wish.exdates,
    )


def _as_broadcast(wish: Wish) -> Broadcast:
    """The wish as planning sees it, as far as times go."""
    return Broadcast(
        broadcast_id=BroadcastId(uuid.UUID(int=0)),
        unit_id=wish.unit_id,
        title=wish.title,
        level=Level.NORMAL,
        recurrence=as_recurrence(wish),
        time_zone=wish.time_zone,
        items=(),
        targets=(),
        issued_at=EPOCH,
        resume=ResumePolicy.RESUME,
    )
