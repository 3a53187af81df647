"""What policies have against something that is to sound, and the time they grant it.

Emergencies pass everything here (R-22). Normal and priority content obey alike (R-18).
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta

from schemas.fields import Level
from schemas.identifiers import UnitId
from services.control.planning.day_spans import (
    DAY_MS,
    Span,
    clock_text,
    difference,
    end_ms,
    intersection,
    minutes_text,
    ms_of_day,
    time_of_day,
)
from services.control.planning.policies import EffectivePolicy, Limits, Policy, SessionSlot
from services.control.planning.wall_clock import Stretch

_MS = timedelta(milliseconds=1)


class Rule(enum.StrEnum):
    """What a policy refuses. Stable words: they stand in the database, in problems of planning and in the API."""

    WEEKDAY_NOT_ALLOWED = "weekday_not_allowed"
    OUTSIDE_SESSION = "outside_session"
    QUIET_HOURS = "quiet_hours"
    SESSION_TOO_LONG = "session_too_long"  # alone, or together with what is in the session already
    DAY_FULL = "day_full"  # alone, or together with what is on that day already
    RESERVED_SLOT = "reserved_slot"  # for the programmes of a unit above the issuer
    RELAY_NOT_ALLOWED = "relay_not_allowed"
    UNKNOWN_SESSION = "unknown_session"


# What an approver has let pass: rules, each of the unit whose it is. Who was not asked, or set a limit only later, has not.
Allowed = frozenset[tuple[str, UnitId]]


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


# --- may it sound ----------------------------------------------------------------------------------------------------


def check(
    policy: EffectivePolicy,
    stretches: Sequence[Stretch],
    *,
    level: Level,
    above: Collection[UnitId] = frozenset(),
    has_direct_relay: bool = False,
    allowed: Allowed = frozenset(),
) -> tuple[Breach, ...]:
    """Return what stands against one occurrence that sounds in `stretches`, by units from the root and by `Rule`.

    That is when it sounds, and what; how long is `excesses`. `above` are the units above its issuer, and `allowed` is
    what an approver has let pass.
    """
    if level is Level.EMERGENCY:
        return ()
    found: list[Breach] = []
    for limits in policy.limits:
        found.extend(_refusals(limits, stretches, is_below=limits.policy.unit_id in above))
        if has_direct_relay and limits.policy.allows_direct_relays is False:
            found.append(_breach(limits, Rule.RELAY_NOT_ALLOWED))
    return tuple(breach for breach in found if (breach.rule, breach.unit_id) not in allowed)


def excesses(
    policy: EffectivePolicy, stretches: Sequence[Stretch], *, level: Level, allowed: Allowed = frozenset()
) -> tuple[Breach, ...]:
    """Return what stands against an occurrence that puts out `stretches` on a device, because by itself it is too long.

    What it shares a day or a session with is `budgets`.
    """
    if level is Level.EMERGENCY:
        return ()
    total = sum(stretch.end_ms - stretch.begin_ms for stretch in stretches) * _MS
    if policy.tightest is None or total <= policy.tightest:
        return ()
    found = (breach for limits in policy.limits for breach in _excesses(limits, stretches, total))
    return tuple(breach for breach in found if (breach.rule, breach.unit_id) not in allowed)


def budgets(
    policy: EffectivePolicy, stretches: Sequence[Stretch], *, level: Level, allowed: Allowed = frozenset()
) -> tuple[Budget, ...]:
    """Return every grant of time that an occurrence draws on, and how much; in a fixed order."""
    if level is Level.EMERGENCY or not stretches:
        return ()
    found: list[Budget] = []
    for place, own in enumerate(policy.policies):
        if own.max_day is not None:
            found.extend(_budget(Rule.DAY_FULL, own, own.max_day, key, wanted) for key, wanted in _by_days(stretches))
        if own.max_session is not None:
            grid = _grid(policy.limits, place)
            found.extend(
                _budget(Rule.SESSION_TOO_LONG, own, own.max_session, key, wanted)
                for key, wanted in _by_sessions(stretches, grid)
            )
    return tuple(budget for budget in found if (budget.rule, budget.unit_id) not in allowed)


def is_quiet(policy: EffectivePolicy, stretches: Iterable[Stretch]) -> bool:
    """Whether any of `stretches` lies in somebody's quiet hours: an emergency passes them, and people should know."""
    return any(_first_common(limits.quiet, stretch) is not None for stretch in stretches for limits in policy.limits)


def volume_cap(policy: EffectivePolicy, stretches: Iterable[Stretch], *, level: Level) -> int | None:
    """The loudest that something that sounds in `stretches` may be at any time of it; None where nothing is said."""
    if level is Level.EMERGENCY:
        return None
    caps = [
        percent
        for limits in policy.limits
        if limits.caps
        for stretch in stretches
        for begin, end, percent in limits.caps
        if begin < stretch.end_ms and stretch.begin_ms < end
    ]
    return min(caps, default=None)


def session(policy: EffectivePolicy, code: str, day: date, *, above: Collection[UnitId]) -> Held | Rule:
    """Return when the session called `code` takes place on a local day, or the rule that keeps it from taking place.

    That is for the programmes of a unit with `policy` and the units `above` it, which keep slots for themselves.
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
    left: list[Span] = [(ms_of_day(slot.begin), end_ms(slot.end))]
    for limits in policy.limits:
        if weekday not in limits.weekdays:
            return Rule.WEEKDAY_NOT_ALLOWED
        if limits.windows is not None:
            left = intersection(left, limits.windows[weekday - 1])
    if not left:
        return Rule.OUTSIDE_SESSION
    for limits in policy.limits:
        left = difference(left, limits.quiet)
    if not left:
        return Rule.QUIET_HOURS
    for limits in policy.limits:
        left = difference(left, _reserved(limits, weekday, above))
    if not left:
        return Rule.RESERVED_SLOT
    begin, end = left[0]
    if end != end_ms(slot.end):
        unit_id = next(
            limits.policy.unit_id
            for limits in policy.limits
            if any(span[0] == end for span in (*limits.quiet, *_reserved(limits, weekday, above)))
            or (limits.windows is not None and any(span[1] == end for span in limits.windows[weekday - 1]))
        )
    return Held(begin=time_of_day(begin), end=time_of_day(end), ended_by=unit_id)


def open_hours(policy: EffectivePolicy, weekday: int, *, above: Collection[UnitId] = frozenset()) -> tuple[Held, ...]:
    """Return when something may sound on a weekday (ISO number), all limits of time taken together, in order.

    That is something issued by a unit which those `above` stand above.
    """
    left: list[Span] = [(0, DAY_MS)]
    for limits in policy.limits:
        if weekday not in limits.weekdays:
            return ()
        if limits.windows is not None:
            left = intersection(left, limits.windows[weekday - 1])
        left = difference(difference(left, limits.quiet), _reserved(limits, weekday, above))
    return tuple(Held(begin=time_of_day(begin), end=time_of_day(end)) for begin, end in left)


def open_until(policy: EffectivePolicy, day: date, at_ms: int) -> tuple[int, UnitId] | None:
    """Until which millisecond of a local day the session goes on that covers `at_ms`, and whose session that is.

    None where there is none to end: where no policy has sessions, nothing ends one.
    """
    ends = [
        (end, limits.policy.unit_id)
        for limits in policy.limits
        if limits.windows is not None
        for begin, end in limits.windows[day.isoweekday() - 1]
        if begin <= at_ms < end
    ]
    return min(ends, key=lambda each: each[0], default=None)


# --- one policy of a path --------------------------------------------------------------------------------------------


def _breach(limits: Limits, rule: Rule, detail: str = "") -> Breach:
    return Breach(rule=rule, unit_id=limits.policy.unit_id, detail=detail)


def _reserved(limits: Limits, weekday: int, above: Collection[UnitId]) -> Sequence[Span]:
    """What of a weekday a policy keeps from units that those `above` stand above."""
    if limits.reserved is None or limits.policy.unit_id not in above:
        return ()
    return limits.reserved[weekday - 1]


def _refusals(limits: Limits, stretches: Sequence[Stretch], *, is_below: bool) -> Iterator[Breach]:
    """What one policy has against when `stretches` sound: each rule once, with the first place or the limit."""
    weekday = next((day for stretch in stretches if (day := stretch.day.isoweekday()) not in limits.weekdays), None)
    if weekday is not None:
        yield _breach(limits, Rule.WEEKDAY_NOT_ALLOWED, str(weekday))
    if limits.windows is not None:
        outside = next((at for stretch in stretches if (at := _outside(limits.windows, stretch)) is not None), None)
        if outside is not None:
            yield _breach(limits, Rule.OUTSIDE_SESSION, clock_text(outside))
    quiet = next((at for stretch in stretches if (at := _first_common(limits.quiet, stretch)) is not None), None)
    if quiet is not None:
        yield _breach(limits, Rule.QUIET_HOURS, clock_text(quiet))
    if is_below and limits.reserved is not None:
        by_day = ((limits.reserved[stretch.day.isoweekday() - 1], stretch) for stretch in stretches)
        reserved = next((at for spans, each in by_day if (at := _first_common(spans, each)) is not None), None)
        if reserved is not None:
            yield _breach(limits, Rule.RESERVED_SLOT, clock_text(reserved))


def _excesses(limits: Limits, stretches: Sequence[Stretch], total: timedelta) -> Iterator[Breach]:
    """Which limits of one policy `stretches` go beyond by themselves, each once, with the limit."""
    own = limits.policy
    if own.max_session is not None and total > own.max_session:
        # Longer than any session may be, however the day is divided.
        yield _breach(limits, Rule.SESSION_TOO_LONG, minutes_text(own.max_session))
    if own.max_day is not None and any(wanted * _MS > own.max_day for _, wanted in _by_days(stretches)):
        yield _breach(limits, Rule.DAY_FULL, minutes_text(own.max_day))


def _outside(windows: Sequence[Sequence[Span]], stretch: Stretch) -> int | None:
    """The first moment of a stretch in no session of its weekday."""
    sessions = windows[stretch.day.isoweekday() - 1]
    place = bisect_right(sessions, (stretch.begin_ms, DAY_MS + 1)) - 1
    end = sessions[place][1] if place >= 0 else 0
    if end <= stretch.begin_ms:
        return stretch.begin_ms
    return None if stretch.end_ms <= end else end


def _first_common(spans: Sequence[Span], stretch: Stretch) -> int | None:
    return next(
        (max(begin, stretch.begin_ms) for begin, end in spans if begin < stretch.end_ms and stretch.begin_ms < end),
        None,
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


def _by_days(stretches: Iterable[Stretch]) -> Iterable[tuple[_Share, int]]:
    shares: dict[_Share, int] = defaultdict(int)
    for stretch in stretches:
        shares[stretch.day, None] += stretch.end_ms - stretch.begin_ms
    return shares.items()


def _by_sessions(stretches: Iterable[Stretch], grid: Sequence[SessionSlot]) -> Iterable[tuple[_Share, int]]:
    shares: dict[_Share, int] = defaultdict(int)
    for stretch in stretches:
        for code, begin, end, weekdays in grid:
            common = min(stretch.end_ms, end) - max(stretch.begin_ms, begin)
            if common > 0 and stretch.day.isoweekday() in weekdays:
                shares[stretch.day, code] += common
    return shares.items()


def _grid(limits: Sequence[Limits], place: int) -> Sequence[SessionSlot]:
    """The sessions that the minutes of a session are counted in for the policy at `place` on a path.

    Its own, else those of the nearest above, else of the nearest below. So a unit that divides the sessions from above
    more finely gains no minutes by it.
    """
    order = (*reversed(limits[: place + 1]), *limits[place + 1 :])
    return next((each.slots for each in order if each.slots), ())
