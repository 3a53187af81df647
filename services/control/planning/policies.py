"""What a unit allows to sound on its ground, when and for how long: policies, inherited downwards and only ever tightened.

A `Policy` is what one unit says for itself; `None` or nothing means that it says nothing, so what holds above holds. What
holds on the ground of a unit is every policy on the path from the root to it at once (`effective`): something may sound
only where all of them allow it. That is an intersection, so the order of units does not matter, a unit that repeats its
parent changes nothing, and nobody can loosen what holds above, not even when the unit above tightens later
(R-16, R-18). Only names need an order: a session's code means the slot of the lowest unit that names it.

What it has against something that is to sound is `permission`, what is wrong with a policy `policy_faults`.

Reserved slots ask who issues something: they bind the units below the one that keeps them for itself and those above.

Intervals are half-open, to the millisecond, in local time of the zone of policies (`Snapshot.zone`), whichever zone a
broadcast counts its own times in. Quiet hours and volume caps may cross midnight: they only take away, at any time of any
day. A session may not: its minutes count for one local day and its weekday is that of its beginning, so two sessions, one
until midnight and one from midnight, say the same without leaving open which day is meant. Of what sounds across midnight
weekdays, hours and caps look at both days; its minutes count for the day on which its occurrence begins, and what of it
lies in a session after midnight counts for the session of that name on that day too.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta

from schemas.fields import Level
from schemas.identifiers import BulletinId, UnitId
from services.control.planning.day_spans import Span, end_ms, ms_of_day, union, wrapped
from services.control.units import UnitTree

WEEKDAYS = frozenset(range(1, 8))  # as date.isoweekday() counts: Monday 1, Sunday 7

# A session: its code, begin, end and weekdays.
SessionSlot = tuple[str, int, int, frozenset[int]]


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
class Reserved:
    """A slot for the programmes of a unit and of those above it (R-09): what units below it issue does not sound in it.

    `end` 00:00 is the midnight at the end of the day.
    """

    begin: time
    end: time
    weekdays: frozenset[int] = WEEKDAYS


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


LONGEST_WITHIN = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPerson:
    """From how many devices on an operation needs another person's word; None: this unit does not ask for one.

    What one person has done `within` this long before counts along.
    """

    alerts: int | None = None
    silences: int | None = None
    live: int | None = None
    volume: int | None = None
    keys: int | None = None
    within: timedelta = timedelta(hours=1)

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
    reserved: tuple[Reserved, ...] = ()
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


def limits_time(policies: Iterable[Policy]) -> bool:
    """Whether any of them grants devices so many minutes, which broadcasts then share."""
    return any(policy.max_day is not None or policy.max_session is not None for policy in policies)


@dataclass(frozen=True, slots=True)
class Limits:
    """A policy as sorted spans of milliseconds: `windows` and `reserved` for each weekday from Monday, None without any."""

    policy: Policy
    weekdays: frozenset[int]
    windows: tuple[list[Span], ...] | None
    reserved: tuple[list[Span], ...] | None
    quiet: list[Span]
    caps: tuple[tuple[int, int, int], ...]
    slots: tuple[SessionSlot, ...]

    @classmethod
    def of(cls, policy: Policy) -> Limits:
        """Make a policy ready."""
        return cls(
            policy=policy,
            weekdays=WEEKDAYS if policy.weekdays is None else policy.weekdays,
            windows=_by_weekday(policy.sessions),
            reserved=_by_weekday(policy.reserved),
            quiet=union(span for each in policy.quiet for span in wrapped(each.begin, each.end)),
            caps=tuple((*span, each.percent) for each in policy.volume_caps for span in wrapped(each.begin, each.end)),
            slots=tuple(
                (each.code, ms_of_day(each.begin), end_ms(each.end), each.weekdays) for each in policy.sessions
            ),
        )


def _by_weekday(slots: Iterable[Session | Reserved]) -> tuple[list[Span], ...] | None:
    some = tuple(slots)
    if not some:
        return None
    return tuple(
        union((ms_of_day(each.begin), end_ms(each.end)) for each in some if weekday in each.weekdays)
        for weekday in sorted(WEEKDAYS)
    )


# --- what holds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """Everything that holds on the ground of a unit: the policies on its path that limit something, root first."""

    policies: tuple[Policy, ...] = ()
    limits: tuple[Limits, ...] = field(init=False, repr=False, compare=False)  # the same, ready to be asked
    tightest: timedelta | None = field(init=False, repr=False, compare=False)  # of all limits of minutes
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", tuple(Limits.of(policy) for policy in self.policies))
        minutes = (limit for each in self.policies for limit in (each.max_session, each.max_day) if limit is not None)
        object.__setattr__(self, "tightest", min(minutes, default=None))
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
