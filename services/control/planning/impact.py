"""What a change does to what people hear: two plans for the same devices and days, held against each other.

The answer of what-if before anything is saved, and of the save itself. It is about soundings and not about slots: a new
broadcast changes what its neighbours sound, so every slot near a difference is looked at on both timelines, and what is
told is what becomes of it.

Nothing here is done once per device: devices with the same two programmes on ground with the same rules are one group,
programmes are looked at only where they differ, and what the stretch around a difference sounds is found out once for
all programmes that share it.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from operator import attrgetter

from schemas.fields import ResumePolicy
from schemas.identifiers import BroadcastId, UnitId
from schemas.plans import ContentKind
from services.control.planning import permission, policies, timeline, wall_clock
from services.control.planning.explanation import NOTES, UNDECIDED
from services.control.planning.model import DeviceNo, Plan, Problem, ProblemKind, Programme, Slot
from services.control.planning.policies import EffectivePolicy
from services.control.planning.timeline import Fate, Sounding
from services.control.planning.wall_clock import Stretch

_GRACE = timedelta(milliseconds=timeline.START_GRACE_MS)
_MS = timedelta(milliseconds=1)
_AUDIBLE = frozenset({ContentKind.AUDIO, ContentKind.RELAY, ContentKind.VIDEO})


class Kind(enum.StrEnum):
    """What a change does to one emission. Stable words of the API."""

    ADDED = "added"
    REMOVED = "removed"  # no longer asked for
    REFUSED = "refused"  # still asked for, and a rule is now against it
    CUT = "cut"  # ends before its time, and did not so early
    SHORTENED = "shortened"  # less of it sounds, to its end: it joins in progress, or something comes between
    MOVED = "moved"  # sounds at another time
    MISSED = "missed"  # no longer sounds at all
    REGAINED = "regained"  # more of it sounds than before
    CHANGED = "changed"  # other content, volume or rank at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one slot, with what it sounded before and what it sounds after.

    `by` is what is in its way after the change, and `decided_by` the criterion of arbitration that settles it; `rule` is
    why it is refused. What is new and does not sound whole is told twice: that it is added, and what becomes of it.
    """

    kind: Kind
    slot: Slot
    before: Sounding | None
    after: Sounding | None
    by: Slot | None = None
    decided_by: str | None = None
    rule: ProblemKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where devices stand: the unit that decides there, and what holds. Devices of one unit share one object."""

    unit_id: UnitId
    policy: EffectivePolicy = policies.NOTHING_LIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Devices of one unit to which the same happens."""

    ground: Ground
    devices: tuple[DeviceNo, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUse:
    """How much of what a unit grants a day is used on the fullest device, before and after: as planning counts it."""

    day: date
    limit: timedelta
    limited_by: UnitId
    before: timedelta
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitImpact:
    """What happens on the ground of one deciding unit, in numbers.

    `counts` counts emissions, so one slot on ten devices is ten. `quiet_devices` would sound something new in quiet hours.
    `lacking_devices` do not have some media that the change needs yet, `unknown_devices` have not said what they have.
    """

    unit_id: UnitId
    devices: int
    counts: Mapping[Kind, int]
    quiet_devices: int
    lacking_devices: int
    unknown_devices: int
    days: tuple[DayUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Occurrences of a broadcast about which the plan now says something, or no longer does, all of one kind and unit."""

    kind: ProblemKind
    broadcast_id: BroadcastId
    unit_id: UnitId | None  # whose policy it is, or whom it was offered to
    occurrences: int

    @property
    def is_refusal(self) -> bool:
        """Whether it keeps something from being emitted: neither a decision to come nor a note about what is emitted."""
        return self.kind not in UNDECIDED | NOTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What a change does: numbers first, detail on demand. `units` are sorted by id, `findings` by kind, broadcast, unit."""

    units: tuple[UnitImpact, ...]
    findings: tuple[Finding, ...]
    settled: tuple[Finding, ...]
    groups: tuple[Group, ...] = field(repr=False)

    @property
    def counts(self) -> Mapping[Kind, int]:
        """All units together."""
        total: Counter[Kind] = Counter()
        for unit in self.units:
            total.update(unit.counts)
        return total

    def of_unit(self, unit_id: UnitId) -> tuple[Group, ...]:
        """What happens on the ground of a unit, to which devices."""
        return tuple(group for group in self.groups if group.ground.unit_id == unit_id)

    def of_device(self, device_no: DeviceNo) -> tuple[Change, ...]:
        """What happens on a device, in order of time."""
        return next((group.changes for group in self.groups if device_no in group.devices), ())


def compare(
    before: Plan,
    after: Plan,
    *,
    grounds: Mapping[DeviceNo, Ground],
    zone: tzinfo,
    stored: Mapping[DeviceNo, frozenset[bytes]] | None = None,
) -> Impact:
    """Return what happens when `after` takes the place of `before`; both answer for the same devices and days.

    `grounds` says where each of them stands, `zone` is the one that policies hold in, and `stored` which media a device
    has, where that is known.
    """
    comparison = _Comparison(before, after, zone)
    groups = comparison.groups(grounds)
    by_unit: dict[UnitId, list[Group]] = defaultdict(list)
    for group in groups:
        by_unit[group.ground.unit_id].append(group)
    return Impact(
        units=tuple(comparison.unit_impact(unit_id, by_unit[unit_id], stored or {}) for unit_id in sorted(by_unit)),
        findings=findings(after.problems, before.problems),
        settled=findings(before.problems, after.problems),
        groups=groups,
    )


class _Comparison:
    """What is found out once for many devices. Lives for one call of `compare`."""

    def __init__(self, before: Plan, after: Plan, zone: tzinfo) -> None:
        self._before = before
        self._after = after
        self._zone = zone
        self._ranks = timeline.Ranks()
        self._stretches: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[Change, ...]] = {}
        self._by_clock: dict[tuple[datetime, datetime], tuple[Stretch, ...]] = {}
        # By the id of a slot, which the plans keep: thousands of programmes share it.
        self._reaches: dict[int, datetime] = {}
        self._reasons = _reasons(_new(after.problems, before.problems))

    def groups(self, grounds: Mapping[DeviceNo, Ground]) -> tuple[Group, ...]:
        """Devices by what happens to them, without those to which nothing does."""
        devices: dict[tuple[int, int, int], list[DeviceNo]] = {}
        nobody: Programme = ()
        earlier = self._before.programmes
        for device_no in dict.fromkeys((*self._after.programmes, *earlier)):
            old, new = earlier.get(device_no, nobody), self._after.programmes.get(device_no, nobody)
            if old is not new:
                devices.setdefault((id(old), id(new), id(grounds[device_no])), []).append(device_no)
        found: list[Group] = []
        known: dict[tuple[int, int], tuple[Change, ...]] = {}
        for (old_id, new_id, _), numbers in devices.items():
            ground = grounds[numbers[0]]
            changes = known.get((old_id, new_id))
            if changes is None:
                old, new = earlier.get(numbers[0], nobody), self._after.programmes.get(numbers[0], nobody)
                changes = known[old_id, new_id] = tuple(self._changes(old, new))
            if changes:
                refused = tuple(self._with_reason(change, ground, numbers) for change in changes)
                found.append(Group(ground=ground, devices=tuple(sorted(numbers)), changes=refused))
        return tuple(sorted(found, key=lambda group: (group.ground.unit_id, group.devices[0])))

    # --- what changes on a device ---

    def _changes(self, old: Programme, new: Programme) -> Iterator[Change]:
        for earlier, later in _stretches(old, new, self._reaches):
            key = (tuple(map(id, earlier)), tuple(map(id, later)))
            changes = self._stretches.get(key)
            if changes is None:
                changes = self._stretches[key] = tuple(self._told(earlier, later))
            yield from changes

    def _told(self, earlier: Sequence[Slot], later: Sequence[Slot]) -> Iterator[Change]:
        """What becomes of each slot of a stretch, in order of time."""
        old = {told.slot.key: told for told in timeline.sounding(earlier, ranks=self._ranks)}
        new = {told.slot.key: told for told in timeline.sounding(later, ranks=self._ranks)}
        slots = sorted(
            (told.slot for told in (new | {k: v for k, v in old.items() if k not in new}).values()), key=_order
        )
        for slot in slots:
            was, becomes = old.get(slot.key), new.get(slot.key)
            for kind in _kinds(was, becomes):
                by = None if becomes is None or kind in {Kind.ADDED, Kind.CHANGED} else becomes.by
                yield Change(
                    kind=kind,
                    slot=slot,
                    before=was,
                    after=becomes,
                    by=by,
                    decided_by=None if by is None else timeline.decided_by(by, slot),
                )

    def _with_reason(self, change: Change, ground: Ground, devices: Sequence[DeviceNo]) -> Change:
        """The change as it is: what is gone although it is still asked for was refused."""
        if change.kind is not Kind.REMOVED:
            return change
        reasons = self._reasons.get((change.slot.broadcast_id, change.slot.occurrence_at)) if self._reasons else None
        if not reasons:
            return change
        units = {ground.unit_id, *(policy.unit_id for policy in ground.policy.policies)}
        for problem in reasons:
            if (
                problem.item in (None, change.slot.item)
                and (problem.unit_id is None or problem.unit_id in units)
                and (problem.device_no is None or problem.device_no in devices)
            ):
                return Change(kind=Kind.REFUSED, slot=change.slot, before=change.before, after=None, rule=problem.kind)
        return change

    # --- in numbers ---

    def unit_impact(
        self, unit_id: UnitId, groups: Sequence[Group], stored: Mapping[DeviceNo, frozenset[bytes]]
    ) -> UnitImpact:
        counts: Counter[Kind] = Counter()
        quiet = lacking = unknown = 0
        days: dict[tuple[date, UnitId], DayUse] = {}
        for group in groups:
            count = len(group.devices)
            for kind, number in Counter(change.kind for change in group.changes).items():
                counts[kind] += number * count
            quiet += count if self._is_quiet(group) else 0
            needed = _needed(group.changes)
            if needed:
                held = [stored.get(device_no) for device_no in group.devices]
                unknown += held.count(None)
                lacking += sum(1 for each in held if each is not None and not needed <= each)
            for use in self._day_uses(group):
                fullest = days.get((use.day, use.limited_by))
                if fullest is None or (use.after, use.before) > (fullest.after, fullest.before):
                    days[use.day, use.limited_by] = use
        return UnitImpact(
            unit_id=unit_id,
            devices=sum(len(group.devices) for group in groups),
            counts=counts,
            quiet_devices=quiet,
            lacking_devices=lacking,
            unknown_devices=unknown,
            days=tuple(days[key] for key in sorted(days)),
        )

    def _is_quiet(self, group: Group) -> bool:
        """Whether something sounds in quiet hours that did not before."""
        return not group.ground.policy.is_empty and any(
            permission.is_quiet(group.ground.policy, self._local(part))
            for change in group.changes
            if change.after is not None and change.slot.content in _AUDIBLE
            for part in change.after.parts
            if change.before is None or part not in change.before.parts
        )

    def _day_uses(self, group: Group) -> Iterator[DayUse]:
        """The use of each day on which something of a group changes, where a unit limits it."""
        limits = [(policy.unit_id, policy.max_day) for policy in group.ground.policy.policies if policy.max_day]
        if not limits:
            return
        # Who has the same programmes has the same shares, and so the same use.
        old, new = (plan.used.get(group.devices[0], {}) for plan in (self._before, self._after))
        days = {change.slot.occurrence_at.astimezone(self._zone).date() for change in group.changes}
        # What draws on minutes otherwise and sounds as it did changes the use too.
        days |= {
            day
            for unit_id, day, session in old.keys() | new.keys()
            if unit_id is not None
            and session is None
            and old.get((unit_id, day, None)) != new.get((unit_id, day, None))
        }
        for day in days:
            for unit_id, limit in limits:
                key = (unit_id, day, None)
                yield DayUse(
                    day=day,
                    limit=limit,
                    limited_by=unit_id,
                    before=old.get(key, timedelta(0)),
                    after=new.get(key, timedelta(0)),
                )

    def _local(self, interval: tuple[datetime, datetime]) -> tuple[Stretch, ...]:
        found = self._by_clock.get(interval)
        if found is None:
            found = self._by_clock[interval] = wall_clock.stretches([interval], self._zone)
        return found


# --- where two programmes differ -------------------------------------------------------------------------------------


def _stretches(
    old: Programme, new: Programme, reaches: dict[int, datetime]
) -> Iterator[tuple[tuple[Slot, ...], tuple[Slot, ...]]]:
    """The parts of two programmes around their differences, each wide enough that nothing outside touches it.

    `reaches` remembers how far each slot reaches, by its id.
    """
    was, becomes = {id(slot): slot for slot in old}, {id(slot): slot for slot in new}
    differing = was.keys() ^ becomes.keys()
    if not differing:
        return
    stretch: list[int] = []
    is_differing = False
    until: datetime | None = None
    for slot in sorted((was | becomes).values(), key=_begin):
        if until is not None and slot.starts_at >= until:
            if is_differing:
                yield from _split(stretch, was, becomes)
            stretch, is_differing, until = [], False, None
        slot_id = id(slot)
        reach = reaches.get(slot_id)
        if reach is None:
            reach = reaches[slot_id] = _reach(slot)
        if until is None or reach > until:
            until = reach
        stretch.append(slot_id)
        is_differing = is_differing or slot_id in differing
    if is_differing:
        yield from _split(stretch, was, becomes)


def _split(
    stretch: Sequence[int], was: Mapping[int, Slot], becomes: Mapping[int, Slot]
) -> Iterator[tuple[tuple[Slot, ...], tuple[Slot, ...]]]:
    earlier, later = (
        tuple(sorted((slots[each] for each in stretch if each in slots), key=_order)) for slots in (was, becomes)
    )
    # Made anew, but equal.
    if earlier != later:
        yield earlier, later


_begin = attrgetter("starts_at")
_order = attrgetter("order")


def _reach(slot: Slot) -> datetime:
    """Until when a slot may sound at the latest: one that is restarted sounds for its whole length from then on."""
    if slot.resume is not ResumePolicy.RESTART:
        return slot.ends_at
    return max(slot.ends_at, slot.latest_start_at + _GRACE + (slot.ends_at - slot.starts_at))


def _kinds(was: Sounding | None, becomes: Sounding | None) -> Iterator[Kind]:
    """What to call what happens to one slot."""
    if becomes is None:
        yield Kind.REMOVED
        return
    if was is None:
        yield Kind.ADDED
        if becomes.fate is not Fate.WHOLE:
            yield _loss(becomes)
        return
    if was.parts == becomes.parts:
        if was.slot != becomes.slot:
            yield Kind.CHANGED
        return
    if was.slot.starts_at != becomes.slot.starts_at and becomes.parts:
        yield Kind.MOVED
    elif _is_better(was, becomes):
        yield Kind.REGAINED
    else:
        yield _loss(becomes)


def _is_better(was: Sounding, becomes: Sounding) -> bool:
    if becomes.fate is Fate.WHOLE and was.fate is not Fate.WHOLE:
        return True
    # What was restarted sounded its beginning twice: that is not more than once.
    return Fate.MOVED not in (was.fate, becomes.fate) and becomes.sounded > was.sounded


def _loss(told: Sounding) -> Kind:
    """What became of a slot that sounds less, or otherwise, than it was to."""
    if told.fate is Fate.MISSED:
        return Kind.MISSED
    if told.fate is Fate.MOVED:
        return Kind.MOVED
    return Kind.CUT if told.fate is Fate.CUT and not told.is_resumed else Kind.SHORTENED


def _needed(changes: Iterable[Change]) -> frozenset[bytes]:
    """The media that the change brings to a device."""
    slots = [change.after.slot for change in changes if change.kind in {Kind.ADDED, Kind.CHANGED} and change.after]
    files = [media for slot in slots for media in (slot.media, slot.relay.fallback if slot.relay else None)]
    return frozenset(media.sha256 for media in files if media is not None)


# --- what the plan says ----------------------------------------------------------------------------------------------


def _new(problems: Iterable[Problem], known: Iterable[Problem]) -> list[Problem]:
    """The problems that were not known. Two plans share most of them as objects."""
    before = tuple(known)
    same = {id(problem) for problem in before}
    left = [problem for problem in problems if id(problem) not in same]
    if not left:
        return []
    equal = set(before)
    return [problem for problem in left if problem not in equal]


def _reasons(problems: Iterable[Problem]) -> Mapping[tuple[BroadcastId, datetime], list[Problem]]:
    reasons: dict[tuple[BroadcastId, datetime], list[Problem]] = defaultdict(list)
    for problem in problems:
        if problem.occurrence_at is not None and problem.kind not in NOTES:
            reasons[problem.broadcast_id, problem.occurrence_at].append(problem)
    return reasons


def findings(problems: Iterable[Problem], known: Iterable[Problem] = ()) -> tuple[Finding, ...]:
    """What planning says and did not say before: each kind of each broadcast and unit once, with its occurrences."""
    occurrences: dict[tuple[ProblemKind, BroadcastId, UnitId | None], set[tuple[object, ...]]] = defaultdict(set)
    for problem in _new(problems, known):
        when = (problem.local_day, problem.local_time, problem.occurrence_at)
        occurrences[problem.kind, problem.broadcast_id, problem.unit_id].add(when)
    return tuple(
        Finding(
            kind=kind,
            broadcast_id=broadcast_id,
            unit_id=unit_id,
            occurrences=len(occurrences[kind, broadcast_id, unit_id]),
        )
        for kind, broadcast_id, unit_id in sorted(occurrences, key=lambda key: (key[0], key[1], str(key[2] or "")))
    )
