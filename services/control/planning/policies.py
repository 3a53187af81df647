"""What a unit allows to sound on its ground, when and for how long: policies, inherited downwards and only ever tightened.

A `Policy` is what one unit says for itself; `None` or nothing means that it says nothing, so what holds above holds. What
holds on the ground of a unit is every policy on the path from the root to it at once (`effective`): something may sound
only where all of them allow it. That is an intersection, so the order of units does not matter, a unit that repeats its
parent changes nothing, and nobody can loosen what holds above, not even when the unit above tightens later
(R-16, R-18). Only names need an order: a session's code means the slot of the lowest unit that names it.

Emergencies pass everything here (R-22). Normal and priority content obey alike (R-18).

Intervals are half-open, to the millisecond, in local time; this module reads local times off instants and never makes
instants of them. Quiet hours and volume caps may cross midnight: they only take away, at any time of any day. A session
may not: its minutes count for one local day and its weekday is that of its beginning, so two sessions, one until
midnight and one from midnight, say the same without leaving open which day is meant. What sounds across midnight is
held against both days.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo

from schemas.fields import Level
from schemas.identifiers import BulletinId, UnitId
from services.control.units import UnitTree

_DAY_MS = 86_400_000
_MS = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
WEEKDAYS = frozenset(range(1, 8))  # as date.isoweekday() counts: Monday 1, Sunday 7
_LOUDEST = 100

# [begin, end) in milliseconds of a local day.
_Span = tuple[int, int]
# A session: its code, begin, end and weekdays.
_Slot = tuple[str, int, int, frozenset[int]]


# --- what one unit says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A slot of the day in which a unit broadcasts (khung giờ). `end` 00:00 is the midnight at the end of the day."""

    code: str
    name: str
    begin: time
    end: time
    weekdays: frozenset[int] = WEEKDAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """Hours in which nothing sounds, every day; over midnight when `end` does not lie after `begin`."""

    begin: time
    end: time


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCap:
    """Nothing is louder than `percent` in these hours, every day; over midnight when `end` does not lie after `begin`."""

    begin: time
    end: time
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What devices sound at these local times when their plan has run out (R-26)."""

    bulletin_id: BulletinId
    times: tuple[time, ...]


class Danger(enum.StrEnum):
    """What a second person may be asked for. Stable words of the API."""

    ALERTS = "alerts"  # to issue or change one
    SILENCES = "silences"  # the kill switch and its end
    LIVE = "live"  # what nobody has approved beforehand
    VOLUME = "volume"  # of an area at once
    KEYS = "keys"  # codes that devices enrol with


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPerson:
    """From how many devices on an operation needs another person's word; None: this unit does not ask for one."""

    alerts: int | None = None
    silences: int | None = None
    live: int | None = None
    volume: int | None = None
    keys: int | None = None

    def needed_from(self, danger: Danger) -> int | None:
        """The least size that needs one."""
        value: int | None = getattr(self, danger.value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one unit says for its ground; None, or nothing, where it says nothing.

    `max_session` and `max_day` count what is planned to sound on one device. `approved_levels` need a named approver
    before a broadcast of the unit or of a unit below it is scheduled. `exceptions_by_approver`: a named approver may let a
    broadcast pass that breaks what *this* unit limits. `accepts_normal`: normal content from above enters without being
    accepted one by one (R-09, R-17); the unit's own choice, neither inherited nor a limit.
    """

    unit_id: UnitId
    sessions: tuple[Session, ...] = ()
    quiet: tuple[Quiet, ...] = ()
    weekdays: frozenset[int] | None = None
    max_session: timedelta | None = None
    max_day: timedelta | None = None
    volume_caps: tuple[VolumeCap, ...] = ()
    forbids_self_approval: bool | None = None
    approved_levels: frozenset[Level] | None = None
    allows_direct_relays: bool | None = None
    stops_alerts_from_above: bool | None = None  # units below may end an alert on their own ground (default: no)
    second_person: SecondPerson | None = None
    exceptions_by_approver: bool = False
    accepts_normal: bool = False
    fallback: Fallback | None = None


class FaultCode(enum.StrEnum):
    """What is wrong with a policy. Stable words of the API."""

    CROSSES_MIDNIGHT = "crosses_midnight"
    IS_EMPTY = "is_empty"
    CODE_TWICE = "code_twice"
    OVERLAP = "overlap"
    WEEKDAY_UNKNOWN = "weekday_unknown"
    NO_WEEKDAY = "no_weekday"
    NOT_POSITIVE = "not_positive"
    NOT_A_VOLUME = "not_a_volume"
    EMERGENCY_CANNOT_WAIT = "emergency_cannot_wait"
    NO_TIME = "no_time"
    IN_QUIET_HOURS = "in_quiet_hours"
    LOOSENS = "loosens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a policy cannot be as it was sent.

    `field` is a field of `Policy`, `index` the place in it where it is a list. `unit_id` is whose limit would be loosened,
    and `detail` that limit, as facts: times, minutes, percent, weekdays.
    """

    field: str
    code: FaultCode
    index: int | None = None
    unit_id: UnitId | None = None
    detail: str = ""


def faults(policy: Policy) -> tuple[Fault, ...]:
    """What is wrong with a policy by itself, in the order of its fields."""
    return tuple(_faults(policy))


def _faults(policy: Policy) -> Iterator[Fault]:
    yield from _session_faults(policy.sessions)
    hours: tuple[tuple[str, Sequence[Quiet | VolumeCap]], ...] = (
        ("quiet", policy.quiet),
        ("volume_caps", policy.volume_caps),
    )
    for name, spans in hours:
        for index, span in enumerate(spans):
            # The same time twice could mean never or always.
            if span.begin == span.end:
                yield Fault(field=name, code=FaultCode.IS_EMPTY, index=index)
    for index, cap in enumerate(policy.volume_caps):
        # Silence is what quiet hours are for: an emission at volume 0 would count as missed.
        if not 1 <= cap.percent <= _LOUDEST:
            yield Fault(field="volume_caps", code=FaultCode.NOT_A_VOLUME, index=index, detail=str(cap.percent))
    if policy.weekdays is not None:
        yield from _weekday_faults("weekdays", policy.weekdays, None)
    for name, limit in (("max_session", policy.max_session), ("max_day", policy.max_day)):
        if limit is not None and limit <= timedelta(0):
            yield Fault(field=name, code=FaultCode.NOT_POSITIVE)
    if policy.approved_levels is not None and Level.EMERGENCY in policy.approved_levels:
        yield Fault(field="approved_levels", code=FaultCode.EMERGENCY_CANNOT_WAIT)
    if policy.fallback is not None and not policy.fallback.times:
        yield Fault(field="fallback", code=FaultCode.NO_TIME)
    if policy.fallback is not None and (at := _quiet_time(policy.fallback, _Limits.of(policy))) is not None:
        yield Fault(field="fallback", code=FaultCode.IN_QUIET_HOURS, detail=at)


def _session_faults(sessions: Sequence[Session]) -> Iterator[Fault]:
    for index, session in enumerate(sessions):
        begin, end = _ms(session.begin), _end_ms(session.end)
        if begin == _ms(session.end) and begin != 0:
            yield Fault(field="sessions", code=FaultCode.IS_EMPTY, index=index)
        elif end < begin:
            yield Fault(field="sessions", code=FaultCode.CROSSES_MIDNIGHT, index=index)
        yield from _weekday_faults("sessions", session.weekdays, index)
        for other in sessions[:index]:
            if other.code == session.code:
                yield Fault(field="sessions", code=FaultCode.CODE_TWICE, index=index, detail=session.code)
            is_shared_time = begin < _end_ms(other.end) and _ms(other.begin) < end
            if is_shared_time and other.weekdays & session.weekdays:
                yield Fault(field="sessions", code=FaultCode.OVERLAP, index=index, detail=other.code)


def _weekday_faults(name: str, weekdays: frozenset[int], index: int | None) -> Iterator[Fault]:
    if not weekdays:
        yield Fault(field=name, code=FaultCode.NO_WEEKDAY, index=index)
    if unknown := weekdays - WEEKDAYS:
        yield Fault(field=name, code=FaultCode.WEEKDAY_UNKNOWN, index=index, detail=_numbers(unknown))


# --- what holds ------------------------------------------------------------------------------------------------------


class Rule(enum.StrEnum):
    """What a policy refuses. Stable words: they stand in the database, in problems of planning and in the API."""

    WEEKDAY_NOT_ALLOWED = "weekday_not_allowed"
    OUTSIDE_SESSION = "outside_session"
    QUIET_HOURS = "quiet_hours"
    SESSION_TOO_LONG = "session_too_long"  # alone, or together with what is in the session already
    DAY_FULL = "day_full"  # alone, or together with what is on that day already
    RELAY_NOT_ALLOWED = "relay_not_allowed"
    UNKNOWN_SESSION = "unknown_session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A rule of a unit's policy that stands against a broadcast.

    `detail` holds the limit, as facts: the first local time or weekday that is not allowed, or the minutes that are.
    """

    rule: Rule
    unit_id: UnitId
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Time that a unit's policy grants a device, on a local day or in one session of it, and what is wanted of it."""

    rule: Rule  # DAY_FULL or SESSION_TOO_LONG
    unit_id: UnitId
    day: date
    session: str | None
    limit: timedelta
    wanted: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A session as it takes place on a day: what of it everybody above allows, up to the first thing that is not."""

    begin: time
    end: time  # 00:00: the midnight at the end of the day
    ended_by: UnitId | None = None  # whose limit the end is


@dataclass(frozen=True, slots=True)
class Piece:
    """What sounds on one local day without a break, in milliseconds of that day by the clock on the wall."""

    day: date
    begin_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """Everything that holds on the ground of a unit: the policies on its path that limit something, root first."""

    policies: tuple[Policy, ...] = ()
    _limits: tuple[_Limits, ...] = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_limits", tuple(_Limits.of(policy) for policy in self.policies))
        # Planning keeps what it found out in dictionaries by policy; hashing every session anew would cost more.
        object.__setattr__(self, "_hash", hash(self.policies))

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_empty(self) -> bool:
        """Whether nobody says anything here."""
        return not self.policies

    @property
    def forbids_self_approval(self) -> bool:
        """Whether a bulletin needs another person's approval."""
        return any(policy.forbids_self_approval for policy in self.policies)

    @property
    def allows_direct_relays(self) -> bool:
        """Whether devices may take a relay from a source that nobody signs."""
        return all(policy.allows_direct_relays is not False for policy in self.policies)

    def second_person_from(self, danger: Danger) -> tuple[int, UnitId] | None:
        """From how many devices on an operation of this unit needs a second person, and who says so; None: never."""
        said = (
            (least, policy.unit_id)
            for policy in self.policies
            if policy.second_person is not None and (least := policy.second_person.needed_from(danger)) is not None
        )
        return min(said, key=lambda each: each[0], default=None)

    @property
    def fallback(self) -> Fallback | None:
        """What sounds when a plan has run out: the word of the lowest unit that has one."""
        return next((policy.fallback for policy in reversed(self.policies) if policy.fallback is not None), None)

    def approvers_for(self, level: Level) -> tuple[UnitId, ...]:
        """The units that want a named approver for a broadcast of this level issued here, root first."""
        return tuple(
            policy.unit_id
            for policy in self.policies
            if level is not Level.EMERGENCY and level in (policy.approved_levels or ())
        )


NOTHING_LIMITED = EffectivePolicy()


def effective(policies: Iterable[Policy]) -> EffectivePolicy:
    """What holds under all of these policies, the root's first. Each unit counts once, however often it is named."""
    return EffectivePolicy(tuple({policy.unit_id: policy for policy in policies}.values()))


class Policies:
    """The policies of all units, and what holds where; units that have the same policies above them share one object."""

    __slots__ = ("_by_path", "_by_unit")

    def __init__(self, policies: Mapping[UnitId, Policy]) -> None:
        self._by_unit = policies
        self._by_path: dict[tuple[UnitId, ...], EffectivePolicy] = {(): NOTHING_LIMITED}

    def own(self, unit_id: UnitId) -> Policy | None:
        """What the unit itself says."""
        return self._by_unit.get(unit_id)

    def at(self, unit_id: UnitId, tree: UnitTree) -> EffectivePolicy:
        """What holds on the ground of a unit in the tree of a day."""
        return self._of(tree.path(unit_id))

    def above(self, unit_id: UnitId, tree: UnitTree) -> EffectivePolicy:
        """What the unit may tighten and not loosen."""
        return self._of(tree.ancestors(unit_id))

    def _of(self, path: Iterable[UnitId]) -> EffectivePolicy:
        key = tuple(unit_id for unit_id in path if unit_id in self._by_unit)
        found = self._by_path.get(key)
        if found is None:
            found = self._by_path[key] = effective(self._by_unit[unit_id] for unit_id in key)
        return found


# --- may it sound ----------------------------------------------------------------------------------------------------


def local_pieces(spans: Iterable[tuple[datetime, datetime]], zone: tzinfo) -> tuple[Piece, ...]:
    """What sounds in `spans` of instants, as local days and times. Made once for all policies that it is held against."""
    pieces: list[Piece] = []
    for begin, end in _joined(spans):
        for wall in _walls(begin, end, zone):
            pieces.extend(_by_day(*wall))
    return tuple(pieces)


def until(wall: Iterable[Piece], day: date, at_ms: int) -> timedelta:
    """How long it takes until the clock on the wall shows a local time, or has jumped over it; `wall` follows it."""
    passed_ms = 0
    for piece in wall:
        if piece.day > day or (piece.day == day and piece.end_ms > at_ms):
            return (passed_ms + (max(at_ms - piece.begin_ms, 0) if piece.day == day else 0)) * _MS
        passed_ms += piece.end_ms - piece.begin_ms
    return passed_ms * _MS


def _joined(spans: Iterable[tuple[datetime, datetime]]) -> Iterator[tuple[datetime, datetime]]:
    """Spans that follow on one another as one: items nearly always do."""
    joined: tuple[datetime, datetime] | None = None
    for begin, end in spans:
        if joined is not None and joined[1] == begin:
            joined = (joined[0], end)
            continue
        if joined is not None:
            yield joined
        joined = (begin, end)
    if joined is not None:
        yield joined


def check(
    policy: EffectivePolicy,
    pieces: Sequence[Piece],
    *,
    level: Level,
    has_direct_relay: bool = False,
    allowed: frozenset[str] = frozenset(),
) -> tuple[Breach, ...]:
    """Return what stands against one occurrence that sounds in `pieces`, by units from the root and by `Rule`.

    That is when it sounds, and what; how long is `excesses`. `allowed` names the rules an approver has let pass.
    """
    if level is Level.EMERGENCY:
        return ()
    found: list[Breach] = []
    for limits in policy._limits:  # noqa: SLF001 — a value's own functions stand beside it
        found.extend(limits.breach(rule, detail) for rule, detail in limits.refusals(pieces))
        if has_direct_relay and limits.policy.allows_direct_relays is False:
            found.append(limits.breach(Rule.RELAY_NOT_ALLOWED))
    return tuple(breach for breach in found if breach.rule not in allowed)


def excesses(
    policy: EffectivePolicy, pieces: Sequence[Piece], *, level: Level, allowed: frozenset[str] = frozenset()
) -> tuple[Breach, ...]:
    """Return what stands against an occurrence that puts out `pieces` on a device, because by itself it is too long.

    What it shares a day or a session with is `budgets`.
    """
    if level is Level.EMERGENCY:
        return ()
    found = (limits.breach(rule, detail) for limits in policy._limits for rule, detail in limits.excesses(pieces))  # noqa: SLF001
    return tuple(breach for breach in found if breach.rule not in allowed)


def budgets(
    policy: EffectivePolicy, pieces: Sequence[Piece], *, level: Level, allowed: frozenset[str] = frozenset()
) -> tuple[Budget, ...]:
    """Return every grant of time that an occurrence draws on, and how much; in a fixed order."""
    if level is Level.EMERGENCY or not pieces:
        return ()
    found: list[Budget] = []
    for place, own in enumerate(policy.policies):
        if own.max_day is not None:
            found.extend(_budget(Rule.DAY_FULL, own, own.max_day, key, wanted) for key, wanted in _by_days(pieces))
        if own.max_session is not None:
            grid = _grid(policy._limits, place)  # noqa: SLF001
            found.extend(
                _budget(Rule.SESSION_TOO_LONG, own, own.max_session, key, wanted)
                for key, wanted in _by_sessions(pieces, grid)
            )
    return tuple(budget for budget in found if budget.rule not in allowed)


def is_quiet(policy: EffectivePolicy, pieces: Iterable[Piece]) -> bool:
    """Whether any of `pieces` lies in somebody's quiet hours: an emergency passes them, and people should know."""
    return any(
        _first_common(limits.quiet, piece) is not None
        for piece in pieces
        for limits in policy._limits  # noqa: SLF001
    )


def volume_cap(policy: EffectivePolicy, pieces: Iterable[Piece], *, level: Level) -> int | None:
    """The loudest that something that sounds in `pieces` may be at any time of it; None where nothing is said."""
    if level is Level.EMERGENCY:
        return None
    caps = [
        percent
        for limits in policy._limits  # noqa: SLF001
        if limits.caps
        for piece in pieces
        for begin, end, percent in limits.caps
        if begin < piece.end_ms and piece.begin_ms < end
    ]
    return min(caps, default=None)


def session(policy: EffectivePolicy, code: str, day: date) -> Held | Rule:
    """Return when the session called `code` takes place on a local day, or the rule that keeps it from taking place.

    The code is the lowest unit's that names it. What of the session lies before everybody above allows it is left out,
    and it ends with the first moment that somebody does not allow.
    """
    named = next(
        ((own.unit_id, each) for own in reversed(policy.policies) for each in own.sessions if each.code == code), None
    )
    if named is None:
        return Rule.UNKNOWN_SESSION
    unit_id, slot = named
    weekday = day.isoweekday()
    if weekday not in slot.weekdays:
        return Rule.WEEKDAY_NOT_ALLOWED
    left: list[_Span] = [(_ms(slot.begin), _end_ms(slot.end))]
    for limits in policy._limits:  # noqa: SLF001
        if weekday not in limits.weekdays:
            return Rule.WEEKDAY_NOT_ALLOWED
        if limits.windows is not None:
            left = _intersection(left, limits.windows[weekday - 1])
    if not left:
        return Rule.OUTSIDE_SESSION
    for limits in policy._limits:  # noqa: SLF001
        left = _difference(left, limits.quiet)
    if not left:
        return Rule.QUIET_HOURS
    begin, end = left[0]
    if end != _end_ms(slot.end):
        unit_id = next(
            limits.policy.unit_id
            for limits in policy._limits  # noqa: SLF001
            if any(span[0] == end for span in limits.quiet)
            or (limits.windows is not None and any(span[1] == end for span in limits.windows[weekday - 1]))
        )
    return Held(begin=_time(begin), end=_time(end), ended_by=unit_id)


def open_hours(policy: EffectivePolicy, weekday: int) -> tuple[Held, ...]:
    """Return when something may sound on a weekday (ISO number), all limits of time taken together, in order."""
    left: list[_Span] = [(0, _DAY_MS)]
    for limits in policy._limits:  # noqa: SLF001
        if weekday not in limits.weekdays:
            return ()
        if limits.windows is not None:
            left = _intersection(left, limits.windows[weekday - 1])
        left = _difference(left, limits.quiet)
    return tuple(Held(begin=_time(begin), end=_time(end)) for begin, end in left)


def open_until(policy: EffectivePolicy, day: date, at_ms: int) -> tuple[int, UnitId] | None:
    """Until which millisecond of a local day the session goes on that covers `at_ms`, and whose session that is.

    None where there is none to end: where no policy has sessions, nothing ends one.
    """
    ends = [
        (end, limits.policy.unit_id)
        for limits in policy._limits  # noqa: SLF001
        if limits.windows is not None
        for begin, end in limits.windows[day.isoweekday() - 1]
        if begin <= at_ms < end
    ]
    return min(ends, key=lambda each: each[0], default=None)


# --- may a unit say so -----------------------------------------------------------------------------------------------


def loosens(policy: Policy, above: EffectivePolicy) -> tuple[Fault, ...]:
    """Return each field in which a policy says less than what holds above, and whose limit that is.

    A field that says nothing loosens nothing. Quiet hours apart from those above add to them; quiet hours that touch on
    some of those above must cover them, or the unit would believe that its shorter night holds.
    """
    own = _Limits.of(policy)
    return tuple(fault for limits in above._limits for fault in _loosens(own, limits))  # noqa: SLF001


def _loosens(own: _Limits, above: _Limits) -> Iterator[Fault]:
    mine, theirs = own.policy, above.policy

    def loosening(name: str, detail: str = "", index: int | None = None) -> Fault:
        return Fault(field=name, code=FaultCode.LOOSENS, index=index, unit_id=theirs.unit_id, detail=detail)

    for index, slot in enumerate(mine.sessions):
        span = (_ms(slot.begin), _end_ms(slot.end))
        for weekday in sorted(slot.weekdays & WEEKDAYS):
            if weekday not in above.weekdays:
                yield loosening("sessions", _numbers(above.weekdays), index)
                break
            if above.windows is not None and not _covers(above.windows[weekday - 1], span):
                yield loosening("sessions", _times(above.windows[weekday - 1]), index)
                break
    if mine.quiet:
        mine_round, theirs_round = _around(own.quiet), _around(above.quiet)
        for span in theirs_round:
            common = _intersection(mine_round, [span])
            if common and common != [span]:
                yield loosening("quiet", _times([(span[0] % _DAY_MS, (span[1] - 1) % _DAY_MS + 1)]))
                break
    if mine.weekdays is not None and not mine.weekdays <= above.weekdays:
        yield loosening("weekdays", _numbers(above.weekdays))
    for name, limit, bound in (
        ("max_session", mine.max_session, theirs.max_session),
        ("max_day", mine.max_day, theirs.max_day),
    ):
        if limit is not None and bound is not None and limit > bound:
            yield loosening(name, _minutes(bound))
    for index, cap in enumerate(mine.volume_caps):
        bounds = [
            percent
            for span in _wrapped(cap.begin, cap.end)
            for begin, end, percent in above.caps
            if begin < span[1] and span[0] < end and percent < cap.percent
        ]
        if bounds:
            yield loosening("volume_caps", str(min(bounds)), index)
    if mine.forbids_self_approval is False and theirs.forbids_self_approval:
        yield loosening("forbids_self_approval")
    if mine.allows_direct_relays and theirs.allows_direct_relays is False:
        yield loosening("allows_direct_relays")
    if mine.second_person is not None and theirs.second_person is not None:
        for danger in Danger:
            wanted, least = mine.second_person.needed_from(danger), theirs.second_person.needed_from(danger)
            if wanted is not None and least is not None and wanted > least:
                yield loosening("second_person", f"{danger.value} {least}")
    if mine.approved_levels is not None and (missing := (theirs.approved_levels or frozenset()) - mine.approved_levels):
        yield loosening("approved_levels", " ".join(level.name.lower() for level in sorted(missing)))
    if mine.fallback is not None and (at := _quiet_time(mine.fallback, above)) is not None:
        yield loosening("fallback", at)


def _quiet_time(fallback: Fallback, limits: _Limits) -> str | None:
    """The first time of a fallback that lies in quiet hours."""
    return next((_clock(_ms(at)) for at in fallback.times if _covers(limits.quiet, (_ms(at), _ms(at) + 1))), None)


# --- one policy, made ready to be asked -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Limits:
    """A policy as sorted spans of milliseconds: `windows` for each weekday from Monday, None without sessions."""

    policy: Policy
    weekdays: frozenset[int]
    windows: tuple[list[_Span], ...] | None
    quiet: list[_Span]
    caps: tuple[tuple[int, int, int], ...]
    slots: tuple[_Slot, ...]

    @classmethod
    def of(cls, policy: Policy) -> _Limits:
        windows = None
        if policy.sessions:
            windows = tuple(
                _union((_ms(each.begin), _end_ms(each.end)) for each in policy.sessions if weekday in each.weekdays)
                for weekday in sorted(WEEKDAYS)
            )
        return cls(
            policy=policy,
            weekdays=WEEKDAYS if policy.weekdays is None else policy.weekdays,
            windows=windows,
            quiet=_union(span for each in policy.quiet for span in _wrapped(each.begin, each.end)),
            caps=tuple((*span, each.percent) for each in policy.volume_caps for span in _wrapped(each.begin, each.end)),
            slots=tuple((each.code, _ms(each.begin), _end_ms(each.end), each.weekdays) for each in policy.sessions),
        )

    def breach(self, rule: Rule, detail: str = "") -> Breach:
        return Breach(rule=rule, unit_id=self.policy.unit_id, detail=detail)

    def refusals(self, pieces: Sequence[Piece]) -> Iterator[tuple[Rule, str]]:
        """What this policy has against `pieces`: each rule once, with the first place or the limit."""
        weekday = next(
            (piece.day.isoweekday() for piece in pieces if piece.day.isoweekday() not in self.weekdays), None
        )
        if weekday is not None:
            yield Rule.WEEKDAY_NOT_ALLOWED, str(weekday)
        if self.windows is not None:
            outside = next((at for piece in pieces if (at := self._outside(piece)) is not None), None)
            if outside is not None:
                yield Rule.OUTSIDE_SESSION, _clock(outside)
        if self.quiet:
            quiet = next((at for piece in pieces if (at := _first_common(self.quiet, piece)) is not None), None)
            if quiet is not None:
                yield Rule.QUIET_HOURS, _clock(quiet)

    def excesses(self, pieces: Sequence[Piece]) -> Iterator[tuple[Rule, str]]:
        """Which limits of this policy `pieces` go beyond by themselves, each once, with the limit."""
        own = self.policy
        if (
            own.max_session is not None
            and sum(piece.end_ms - piece.begin_ms for piece in pieces) * _MS > own.max_session
        ):
            # Longer than any session may be, however the day is divided.
            yield Rule.SESSION_TOO_LONG, _minutes(own.max_session)
        if own.max_day is not None and any(wanted * _MS > own.max_day for _, wanted in _by_days(pieces)):
            yield Rule.DAY_FULL, _minutes(own.max_day)

    def _outside(self, piece: Piece) -> int | None:
        """The first moment of a piece in no session."""
        assert self.windows is not None
        windows = self.windows[piece.day.isoweekday() - 1]
        place = bisect_right(windows, (piece.begin_ms, _DAY_MS + 1)) - 1
        end = windows[place][1] if place >= 0 else 0
        if end <= piece.begin_ms:
            return piece.begin_ms
        return None if piece.end_ms <= end else end


def _first_common(spans: Sequence[_Span], piece: Piece) -> int | None:
    return next(
        (max(begin, piece.begin_ms) for begin, end in spans if begin < piece.end_ms and piece.begin_ms < end), None
    )


# What is drawn on: a local day, and the code of a session in it or None for all of the day.
_Share = tuple[date, str | None]


def _budget(rule: Rule, own: Policy, limit: timedelta, share: _Share, wanted_ms: int) -> Budget:
    return Budget(
        rule=rule,
        unit_id=own.unit_id,
        day=share[0],
        session=share[1],
        limit=limit,
        wanted=wanted_ms * _MS,
    )


def _by_days(pieces: Iterable[Piece]) -> Iterable[tuple[_Share, int]]:
    shares: dict[_Share, int] = defaultdict(int)
    for piece in pieces:
        shares[piece.day, None] += piece.end_ms - piece.begin_ms
    return shares.items()


def _by_sessions(pieces: Iterable[Piece], grid: Sequence[_Slot]) -> Iterable[tuple[_Share, int]]:
    shares: dict[_Share, int] = defaultdict(int)
    for piece in pieces:
        for code, begin, end, weekdays in grid:
            common = min(piece.end_ms, end) - max(piece.begin_ms, begin)
            if common > 0 and piece.day.isoweekday() in weekdays:
                shares[piece.day, code] += common
    return shares.items()


def _grid(limits: Sequence[_Limits], place: int) -> Sequence[_Slot]:
    """The sessions that the minutes of a session are counted in for the policy at `place` on a path.

    Its own, else those of the nearest above, else of the nearest below. So a unit that divides the sessions from above
    more finely gains no minutes by it.
    """
    order = (*reversed(limits[: place + 1]), *limits[place + 1 :])
    return next((each.slots for each in order if each.slots), ())


# --- local time ------------------------------------------------------------------------------------------------------


def _walls(begin: datetime, end: datetime, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """What the clock on the wall shows in [begin, end): parts in which it runs on evenly, as naive local times."""
    while begin < end:
        wall = begin.astimezone(zone)
        is_even = wall.utcoffset() == _offset(end - _MS, zone)
        until = end if is_even else _shift(begin, end, zone)
        shown = wall.replace(tzinfo=None, fold=0)
        yield shown, shown + (until - begin)
        begin = until


def _shift(begin: datetime, end: datetime, zone: tzinfo) -> datetime:
    """The first instant after `begin` at which the clock runs by another offset; there is one before `end`."""
    before = _offset(begin, zone)
    low, high = 0, (end - begin) // _MS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(begin + middle * _MS, zone) == before else (low, middle)
    return begin + high * _MS


def _offset(at: datetime, zone: tzinfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()


def _by_day(begin: datetime, end: datetime) -> Iterator[Piece]:
    while begin < end:
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
        until = min(end, midnight + _DAY)
        yield Piece(begin.date(), (begin - midnight) // _MS, -((midnight - until) // _MS))
        begin = until


def _ms(at: time) -> int:
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000


def _end_ms(at: time) -> int:
    """The end of something on one day: midnight is the one at its end."""
    return _ms(at) or _DAY_MS


def _wrapped(begin: time, end: time) -> list[_Span]:
    """Hours of every day that may cross midnight, as what of them lies in any one day."""
    first, last = _ms(begin), _end_ms(end)
    if first < last:
        return [(first, last)]
    return [span for span in ((0, last), (first, _DAY_MS)) if span[0] < span[1]]


def _time(ms: int) -> time:
    seconds, rest = divmod(ms % _DAY_MS, 1000)
    minutes, second = divmod(seconds, 60)
    return time(minutes // 60, minutes % 60, second, rest * 1000)


# --- spans -----------------------------------------------------------------------------------------------------------


def _union(spans: Iterable[_Span]) -> list[_Span]:
    """The same time in as few spans as possible, in order."""
    merged: list[_Span] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _intersection(these: Sequence[_Span], those: Sequence[_Span]) -> list[_Span]:
    return _union((max(a, c), min(b, d)) for a, b in these for c, d in those)


def _difference(these: Sequence[_Span], those: Sequence[_Span]) -> list[_Span]:
    for begin, end in those:
        these = _union(part for a, b in these for part in ((a, min(b, begin)), (max(a, end), b)))
    return list(these)


def _covers(spans: Sequence[_Span], span: _Span) -> bool:
    return any(begin <= span[0] and span[1] <= end for begin, end in spans)


def _around(spans: Sequence[_Span]) -> list[_Span]:
    """Hours of every day, as they follow on one another over two midnights: a night is one span and not two halves."""
    turned = _union((begin + shift, end + shift) for begin, end in spans for shift in (0, _DAY_MS, 2 * _DAY_MS))
    # What is cut off at either end of the three days stands whole in the middle.
    return [span for span in turned if span[1] > _DAY_MS and span[0] < 2 * _DAY_MS]


# --- facts in words that need no language ------------------------------------------------------------------------------


def _clock(ms: int) -> str:
    at = _time(ms)
    return at.isoformat("minutes" if at.second == at.microsecond == 0 else "auto")


def _times(spans: Sequence[_Span]) -> str:
    return " ".join(f"{_clock(begin)}-{_clock(end)}" for begin, end in spans)


def _minutes(length: timedelta) -> str:
    return f"{length / timedelta(minutes=1):g}"


def _numbers(weekdays: Iterable[int]) -> str:
    return " ".join(str(weekday) for weekday in sorted(weekdays))
