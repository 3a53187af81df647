"""From a recurrence in local time to instants. The only module that knows zones; what rules ask for is in `rrules`.

Local times exist in a zone, the zone is a parameter, and zones change their clocks:

- A local time that the clock jumps over (a *gap*) is kept, as much later as the clock jumps: 02:30 in a night that goes
  from 02:00 to 03:00 begins at 03:30 by the new clock. It is reported.
- A local time that the clock shows twice (a *fold*) means the first of the two. It is reported.
- A gap may swallow a whole day (Samoa, 2011-12-30). What would land on another local day is not emitted: that day has
  a programme of its own. It is reported.
- If two local times of one broadcast fall on the same instant, one is emitted, and the other is reported.

So every (day, local time) that a recurrence asks for becomes an occurrence or a problem. Days that are planned, and the
sessions that policies hold on them, are days of the zone of policies; a broadcast may count its own times in another. What
it asks for belongs to the day on which it begins there, so windows of whole days compose. COUNT counts what is asked for,
on whatever instant it falls. Asia/Ho_Chi_Minh never shifts; nothing here relies on it.

A recurrence that cannot be one (`fault`) is a problem of the whole broadcast and has no occurrences.

A zone's transitions come from the time-zone database through `zoneinfo`, a constant of the installation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.control.planning import rrules
from services.control.planning.model import (
    Broadcast,
    LocalDate,
    LocalMoment,
    Occurrence,
    Problem,
    ProblemKind,
    Recurrence,
    Window,
)
from services.control.planning.rrules import ParsedRule, RuleFault, parse_rrule

MAX_DATES = 10_000  # added, and taken out, each
EARLIEST_START, LATEST_START = date(1970, 1, 1), date(8999, 1, 1)

_NOT_EMITTED = frozenset({ProblemKind.SAME_INSTANT, ProblemKind.LOCAL_DAY_SKIPPED})
_MIDNIGHT = time(0)

# A local day may be over in another zone before it has begun here, and the clock may jump over a whole one.
AROUND = timedelta(days=2)

# When the session slot of a code begins on a local day, or why it does not take place.
SessionBegins = Callable[[str, date], time | ProblemKind]


def no_sessions(_code: str, _day: date) -> time | ProblemKind:
    """Where no policy names a session."""
    return ProblemKind.UNKNOWN_SESSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """Occurrences in order of their instants, and what is to be said about them."""

    occurrences: tuple[Occurrence, ...]
    problems: tuple[Problem, ...]


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo | None:
    """The zone of an IANA name, or None when there is none."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # ZoneInfoNotFoundError is a KeyError; odd names raise the others
        return None


# --- what can be a recurrence ----------------------------------------------------------------------------------------


def fault(recurrence: Recurrence, zone_info: ZoneInfo, days_in: ZoneInfo) -> RuleFault | None:
    """What keeps `recurrence` from being one, whose times are those of `zone_info` and whose sessions are of `days_in`.

    What it may ask for and what it never does is looked at; whether it lies in the past is not.
    """
    if len(recurrence.rdates) > MAX_DATES or len(recurrence.exdates) > MAX_DATES:
        return RuleFault(code="too_many_dates", facts={"limit": MAX_DATES})
    found = _fault_of_rule(
        recurrence.starts_on,
        recurrence.ends_on,
        recurrence.times,
        recurrence.sessions,
        recurrence.rrule,
        zone_info,
        days_in,
    )
    if found is None or found.code == _NEVER.code:
        added = Counter(_day_of(each) for each in recurrence.rdates if isinstance(each, datetime))
        if added and added.most_common(1)[0][1] > rrules.MAX_A_DAY:
            return RuleFault(code="rrule_too_many_a_day", facts={"limit": rrules.MAX_A_DAY})
        days = (
            each for each in recurrence.rdates if isinstance(each, datetime) or recurrence.times or recurrence.sessions
        )
        if found is not None and any(_is_between(_day_of(each), recurrence) for each in days):
            return None
    return found


_NEVER = RuleFault(code="rrule_never_occurs")


@lru_cache(maxsize=4_096)
def _fault_of_rule(
    starts_on: date,
    ends_on: date | None,
    times: tuple[time, ...],
    sessions: tuple[str, ...],
    text: str | None,
    zone_info: ZoneInfo,
    days_in: ZoneInfo,
) -> RuleFault | None:
    if not EARLIEST_START <= starts_on < LATEST_START:
        return RuleFault(
            code="starts_on_out_of_range", facts={"low": EARLIEST_START.isoformat(), "high": LATEST_START.isoformat()}
        )
    if not times and not sessions:
        return RuleFault(code="recurrence_without_time")
    if text is None:
        too_many = len(times) + len(sessions) > rrules.MAX_A_DAY
        if not too_many:
            return _NEVER if ends_on is not None and ends_on <= starts_on else None
        return RuleFault(code="rrule_too_many_a_day", facts={"limit": rrules.MAX_A_DAY})
    rule = parse_rrule(text)
    if isinstance(rule, RuleFault):
        return rule
    if sessions and rule.names_times:
        return RuleFault(code="rrule_names_times_beside_sessions")
    if _most_a_day(rule, times) + len(sessions) > rrules.MAX_A_DAY:
        return RuleFault(code="rrule_too_many_a_day", facts={"limit": rrules.MAX_A_DAY})
    begins = [*((each, zone_info) for each in times), *([(_MIDNIGHT, days_in)] if sessions else [])]
    for local_time, own_zone in begins:
        moment = rrules.first_moment(text, datetime.combine(starts_on, local_time))
        if moment is None or (ends_on is not None and moment.date() >= ends_on):
            continue
        if moment <= _until_moment(rule, own_zone):
            return None
    return _NEVER


def _most_a_day(rule: ParsedRule, times: Sequence[time]) -> int:
    """The most occurrences that the rule can have on one day, counted from each of `times`."""
    if rule.frequency is rrules.Frequency.HOURLY or rule.by_set_pos:
        return rule.most_a_day * len(times)
    return len(
        {
            (hour, minute, second)
            for each in times
            for hour in rule.by_hour or (each.hour,)
            for minute in rule.by_minute or (each.minute,)
            for second in rule.by_second or ((each.second, each.microsecond),)
        }
    )


def _until_moment(rule: ParsedRule, zone_info: ZoneInfo) -> datetime:
    """The last local moment before or at which the rule may have an occurrence."""
    match rule.until:
        case None:
            return datetime.combine(date.max, time.max)
        case datetime(tzinfo=None) as moment:
            return moment
        case datetime() as instant:
            return instant.astimezone(zone_info).replace(tzinfo=None)
        case day:
            return datetime.combine(day, time.max)


# --- expanding -------------------------------------------------------------------------------------------------------


def expand(
    broadcast: Broadcast, window: Window, days_in: ZoneInfo, session_begins: SessionBegins = no_sessions
) -> Expansion:
    """Every occurrence that `broadcast` asks for on the days of `window`, which are days of the zone `days_in`."""
    zone_info = zone(broadcast.time_zone)
    if zone_info is None:
        return _nothing(broadcast, ProblemKind.UNKNOWN_TIME_ZONE, broadcast.time_zone[:64])
    recurrence = broadcast.recurrence
    if (wrong := fault(recurrence, zone_info, days_in)) is not None:
        return _nothing(broadcast, ProblemKind.BAD_RECURRENCE, wrong.code)
    wanted: dict[_Moment, str | None] = {}
    problems: dict[Problem, None] = {}
    for day, begins, code in _sessions(recurrence, window, days_in, session_begins):
        if isinstance(begins, ProblemKind):
            told = Problem(kind=begins, broadcast_id=broadcast.broadcast_id, local_day=day, detail=code[:64])
            problems[told] = None
        else:
            wanted.setdefault(_Moment(days_in, day, begins), code)
    for moment in _times(recurrence, _around(window, zone_info, days_in), zone_info):
        wanted.setdefault(_Moment(zone_info, moment.date(), moment.time()), None)
    resolved = [
        found for moment, code in wanted.items() if (found := _beginning(moment, code, window, days_in)) is not None
    ]
    occurrences: dict[datetime, Occurrence] = {}
    # Regular times come first, so that one of them, not a shifted one, keeps an instant that both fall on; of a session
    # and a time of the broadcast itself the session.
    for each in sorted(resolved, key=lambda each: (each.oddity is not None, each.session is None, each.at)):
        kind = each.oddity
        if each.at in occurrences and kind is not ProblemKind.LOCAL_DAY_SKIPPED:
            if kind is None:
                continue  # the same time in words of another zone
            kind = ProblemKind.SAME_INSTANT
        occurrence = _occurrence(broadcast, each)
        if kind is not None:
            problems[Problem.about(occurrence, kind, detail=each.asked.zone.key)] = None
        if kind not in _NOT_EMITTED:
            occurrences[each.at] = occurrence
    return Expansion(occurrences=tuple(occurrences[at] for at in sorted(occurrences)), problems=tuple(problems))


def _nothing(broadcast: Broadcast, kind: ProblemKind, detail: str) -> Expansion:
    problem = Problem(kind=kind, broadcast_id=broadcast.broadcast_id, detail=detail)
    return Expansion(occurrences=(), problems=(problem,))


class _Moment(NamedTuple):
    """A local day and time of a zone."""

    zone: ZoneInfo
    day: date
    at: time


class _Resolved(NamedTuple):
    """What begins within the window: as it was asked for, the instant and its day, and what is odd about it."""

    asked: _Moment
    session: str | None
    at: datetime
    day: date
    oddity: ProblemKind | None


def _beginning(asked: _Moment, session: str | None, window: Window, days_in: ZoneInfo) -> _Resolved | None:
    """What was asked for, if it begins on a day of the window."""
    at, oddity = _resolve(asked.day, asked.at, asked.zone)
    if asked.zone is days_in:
        # Days of this zone were asked for, so it is one of them.
        return _Resolved(asked, session, at, asked.day, oddity)
    day = local_day(at, days_in)
    return _Resolved(asked, session, at, day, oddity) if window.holds(day) else None


def _occurrence(broadcast: Broadcast, found: _Resolved) -> Occurrence:
    return Occurrence(
        broadcast_id=broadcast.broadcast_id,
        local_day=found.asked.day,
        local_time=found.asked.at,
        at=found.at,
        day=found.day,
        session=found.session,
    )


def _around(window: Window, zone_info: ZoneInfo, days_in: ZoneInfo) -> Window:
    """Local days of a zone that hold everything which can begin on the days of a window."""
    return window if zone_info is days_in else Window(first=window.first - AROUND, end=window.end + AROUND)


def _times(recurrence: Recurrence, window: Window, zone_info: ZoneInfo) -> Iterator[datetime]:
    """The local moments that rule and dates ask for on some days."""
    days = _within(recurrence, window)
    if days is None:
        return
    left_out = _left_out(recurrence, days)

    def all_of_it() -> Iterator[datetime]:
        yield from _by_rule(recurrence, recurrence.times, days.first, days.end, zone_info)
        for each in recurrence.rdates:
            if not days.holds(_day_of(each)):
                continue
            if isinstance(each, datetime):
                yield datetime.combine(each.date(), _truncated_time(each.time()))
            else:
                yield from (datetime.combine(each, _truncated_time(at)) for at in recurrence.times)

    for moment in all_of_it():
        if moment.date() not in left_out and moment not in left_out:
            yield moment


def _sessions(
    recurrence: Recurrence, window: Window, days_in: ZoneInfo, session_begins: SessionBegins
) -> Iterator[tuple[date, time | ProblemKind, str]]:
    """The sessions that rule and dates ask for on some days: when each begins, or why it does not take place."""
    days = _within(recurrence, window) if recurrence.sessions else None
    if days is None:
        return
    left_out = _left_out(recurrence, days)
    by_rule = (moment.date() for moment in _by_rule(recurrence, (_MIDNIGHT,), days.first, days.end, days_in))
    added = (each for each in recurrence.rdates if not isinstance(each, datetime) and days.holds(each))
    for day in sorted({*by_rule, *added}):
        if day in left_out:
            continue
        for code in recurrence.sessions:
            begins = session_begins(code, day)
            if (
                isinstance(begins, ProblemKind)
                or datetime.combine(day, begins := _truncated_time(begins)) not in left_out
            ):
                yield day, begins, code


def _within(recurrence: Recurrence, window: Window) -> Window | None:
    """The days of a window on which the recurrence lets something begin; None: none of them."""
    first = max(window.first, recurrence.starts_on)
    end = window.end if recurrence.ends_on is None else min(window.end, recurrence.ends_on)
    return Window(first=first, end=end) if first < end else None


def _left_out(recurrence: Recurrence, days: Window) -> frozenset[LocalDate | LocalMoment]:
    return frozenset(_truncated(each) for each in recurrence.exdates if days.holds(_day_of(each)))


def _by_rule(
    recurrence: Recurrence, times: Sequence[time], first: date, end: date, zone_info: ZoneInfo
) -> Iterator[datetime]:
    """The local moments of the rule, counted from each of `times`."""
    if recurrence.rrule is None:
        if first == recurrence.starts_on:
            yield from (datetime.combine(first, _truncated_time(each)) for each in times)
        return
    rule = parse_rrule(recurrence.rrule)
    assert isinstance(rule, ParsedRule), "a fault was looked for before"
    for each in times:
        for moment in rrules.moments(
            recurrence.rrule, datetime.combine(recurrence.starts_on, _truncated_time(each)), first, end
        ):
            if rule.until is None or _is_by(moment, rule.until, zone_info):
                yield moment


def _is_by(moment: datetime, until: date | datetime, zone_info: ZoneInfo) -> bool:
    """Whether a moment is not after UNTIL, in whichever form that is."""
    if not isinstance(until, datetime):
        return moment.date() <= until
    if until.tzinfo is None:
        return moment <= until
    return _resolve(moment.date(), moment.time(), zone_info)[0] <= until


def _day_of(each: LocalDate | LocalMoment) -> date:
    return each.date() if isinstance(each, datetime) else each


def _is_between(day: date, recurrence: Recurrence) -> bool:
    return recurrence.starts_on <= day and (recurrence.ends_on is None or day < recurrence.ends_on)


def _truncated(each: LocalDate | LocalMoment) -> LocalDate | LocalMoment:
    return datetime.combine(each.date(), _truncated_time(each.time())) if isinstance(each, datetime) else each


def _truncated_time(each: time) -> time:
    """In whole milliseconds and without an offset: an occurrence is known by its milliseconds, in its zone."""
    return each.replace(microsecond=each.microsecond // 1000 * 1000, tzinfo=None, fold=0)


def _resolve(day: date, local_time: time, zone_info: ZoneInfo) -> tuple[datetime, ProblemKind | None]:
    """The instant of a local time, and what is odd about it."""
    local = datetime.combine(day, local_time, tzinfo=zone_info)
    # With fold=0 Python reads a time inside a gap by the offset before it, which is the rule stated above.
    at = local.astimezone(UTC)
    back = at.astimezone(zone_info)
    if back.replace(fold=0, tzinfo=None) != local.replace(tzinfo=None):
        is_same_day = back.date() == day
        return at, ProblemKind.LOCAL_TIME_SKIPPED if is_same_day else ProblemKind.LOCAL_DAY_SKIPPED
    if local.replace(fold=1).utcoffset() != local.utcoffset():
        return at, ProblemKind.LOCAL_TIME_REPEATED
    return at, None


def moment_of(day: date, local_time: time, zone_info: ZoneInfo) -> datetime:
    """The instant of a local time; inside a gap of the clock by the offset before it, of two equal ones the first."""
    return _resolve(day, local_time, zone_info)[0]


def local_day(at: datetime, zone_info: ZoneInfo) -> date:
    """The local day of an instant."""
    return at.astimezone(zone_info).date()


def start_of(day: date, zone_info: ZoneInfo) -> datetime:
    """The instant at which a local day begins, in UTC; where the clock jumps over midnight, the instant of the jump."""
    return datetime.combine(day, time(0), tzinfo=zone_info).astimezone(UTC)
