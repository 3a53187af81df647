"""From a recurrence in local time to instants. The only module that knows zones; what rules ask for is in `rrules`.

Local times exist in a zone, the zone is a parameter, and zones change their clocks:

- A local time that the clock jumps over (a *gap*) is kept, as much later as the clock jumps: 02:30 in a night that goes
  from 02:00 to 03:00 begins at 03:30 by the new clock. It is reported.
- A local time that the clock shows twice (a *fold*) means the first of the two. It is reported.
- A gap may swallow a whole day (Samoa, 2011-12-30). What would land on another local day is not emitted: that day has
  a programme of its own. It is reported.
- If two local times of one broadcast fall on the same instant, one is emitted, and the other is reported.

So every (day, local time) that a recurrence asks for becomes an occurrence or a problem, and belongs to the day it was
asked for: this is why windows of whole days compose. COUNT counts what is asked for, on whatever instant it falls.
Asia/Ho_Chi_Minh never shifts; nothing here relies on it.

A recurrence that cannot be one (`fault`) is a problem of the whole broadcast and has no occurrences.

A zone's transitions come from the time-zone database through `zoneinfo`, a constant of the installation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
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


def fault(recurrence: Recurrence, zone_info: ZoneInfo) -> RuleFault | None:
    """What keeps `recurrence` from being one; None when nothing does.

    What it may ask for and what it never does is looked at; whether it lies in the past is not.
    """
    if len(recurrence.rdates) > MAX_DATES or len(recurrence.exdates) > MAX_DATES:
        return RuleFault(code="too_many_dates", facts={"limit": MAX_DATES})
    found = _fault_of_rule(
        recurrence.starts_on, recurrence.ends_on, recurrence.times, recurrence.sessions, recurrence.rrule, zone_info
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
    until = _until_moment(rule, zone_info)
    for local_time in (*times, *([_MIDNIGHT] if sessions else [])):
        moment = rrules.first_moment(text, datetime.combine(starts_on, local_time))
        if moment is not None and moment <= until and (ends_on is None or moment.date() < ends_on):
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


def expand(broadcast: Broadcast, window: Window, session_begins: SessionBegins = no_sessions) -> Expansion:
    """Every occurrence that `broadcast` asks for on the days of `window`."""
    zone_info = zone(broadcast.time_zone)
    if zone_info is None:
        return _nothing(broadcast, ProblemKind.UNKNOWN_TIME_ZONE, broadcast.time_zone[:64])
    recurrence = broadcast.recurrence
    if (wrong := fault(recurrence, zone_info)) is not None:
        return _nothing(broadcast, ProblemKind.BAD_RECURRENCE, wrong.code)
    wanted: dict[date, dict[time, str | None]] = defaultdict(dict)
    problems: dict[Problem, None] = {}
    for each in _asked_for(recurrence, window, zone_info, session_begins):
        if isinstance(each.at, ProblemKind):
            detail = (each.session or "")[:64]
            kind, broadcast_id = each.at, broadcast.broadcast_id
            problems[Problem(kind=kind, broadcast_id=broadcast_id, local_day=each.day, detail=detail)] = None
        elif wanted[each.day].get(each.at) is None:
            wanted[each.day][each.at] = each.session
    occurrences: list[Occurrence] = []
    for day in sorted(wanted):
        expansion = _expand_day(broadcast, day, wanted[day], zone_info)
        occurrences.extend(expansion.occurrences)
        problems |= dict.fromkeys(expansion.problems)
    return Expansion(occurrences=tuple(occurrences), problems=tuple(problems))


def _nothing(broadcast: Broadcast, kind: ProblemKind, detail: str) -> Expansion:
    problem = Problem(kind=kind, broadcast_id=broadcast.broadcast_id, detail=detail)
    return Expansion(occurrences=(), problems=(problem,))


class _Wanted(NamedTuple):
    """Something to begin on a local day, or in a session that does not take place then."""

    day: date
    at: time | ProblemKind
    session: str | None = None


def _asked_for(
    recurrence: Recurrence, window: Window, zone_info: ZoneInfo, session_begins: SessionBegins
) -> Iterator[_Wanted]:
    """What rule and dates ask for on the days of the window."""
    first = max(window.first, recurrence.starts_on)
    end = window.end if recurrence.ends_on is None else min(window.end, recurrence.ends_on)
    if end <= first:
        return
    left_out = {_truncated(each) for each in recurrence.exdates if first <= _day_of(each) < end}

    def on(day: date) -> Iterator[_Wanted]:
        """Everything that has a time of its own on `day`."""
        yield from (_Wanted(day, _truncated_time(each)) for each in recurrence.times)
        yield from in_sessions(day)

    def in_sessions(day: date) -> Iterator[_Wanted]:
        for code in recurrence.sessions:
            begins = session_begins(code, day)
            yield _Wanted(day, begins if isinstance(begins, ProblemKind) else _truncated_time(begins), code)

    def all_of_it() -> Iterator[_Wanted]:
        for moment in _by_rule(recurrence, recurrence.times, first, end, zone_info):
            yield _Wanted(moment.date(), moment.time())
        if recurrence.sessions:
            for moment in _by_rule(recurrence, (_MIDNIGHT,), first, end, zone_info):
                yield from in_sessions(moment.date())
        for each in recurrence.rdates:
            if first <= _day_of(each) < end:
                if isinstance(each, datetime):
                    yield _Wanted(each.date(), _truncated_time(each.time()))
                else:
                    yield from on(each)

    for each in all_of_it():
        if each.day not in left_out and (
            isinstance(each.at, ProblemKind) or datetime.combine(each.day, each.at) not in left_out
        ):
            yield each


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


def _expand_day(broadcast: Broadcast, day: date, wanted: dict[time, str | None], zone_info: ZoneInfo) -> Expansion:
    occurrences: dict[datetime, Occurrence] = {}
    problems: list[Problem] = []
    resolved = [(local_time, *_resolve(day, local_time, zone_info)) for local_time in sorted(wanted)]
    # Regular times come first, so that one of them, not a shifted one, keeps an instant that both fall on.
    for local_time, at, oddity in sorted(resolved, key=lambda each: each[2] is not None):
        kind = ProblemKind.SAME_INSTANT if at in occurrences else oddity
        if kind is not None:
            problems.append(
                Problem(
                    kind=kind,
                    broadcast_id=broadcast.broadcast_id,
                    local_day=day,
                    local_time=local_time,
                    occurrence_at=at,
                    detail=broadcast.time_zone,
                )
            )
        if kind not in _NOT_EMITTED:
            occurrences[at] = Occurrence(
                broadcast_id=broadcast.broadcast_id,
                local_day=day,
                local_time=local_time,
                at=at,
                session=wanted[local_time],
            )
    return Expansion(occurrences=tuple(occurrences[at] for at in sorted(occurrences)), problems=tuple(problems))


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
