"""From a rule in local time to instants. The only module that knows local time.

Local times exist in a zone, the zone is a parameter, and zones change their clocks:

- A local time that the clock jumps over (a *gap*) is kept, as much later as the clock jumps: 02:30 in a night that goes
  from 02:00 to 03:00 begins at 03:30 by the new clock. It is reported.
- A local time that the clock shows twice (a *fold*) means the first of the two. It is reported.
- A gap may swallow a whole day (Samoa, 2011-12-30). What would land on another local day is not emitted: that day has
  a programme of its own. It is reported.
- If two local times of one broadcast fall on the same instant, one is emitted, and the other is reported.

So every (day, local time) that a rule asks for becomes an occurrence or a problem, and belongs to the day it was asked
for: this is why windows of whole days compose. Asia/Ho_Chi_Minh never shifts; nothing here relies on it.

A zone's transitions come from the time-zone database through `zoneinfo`, a constant of the installation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import assert_never
from zoneinfo import ZoneInfo

from services.control.planning.model import Broadcast, Daily, Occurrence, Once, Problem, ProblemKind, Rule, Window

_NOT_EMITTED = frozenset({ProblemKind.SAME_INSTANT, ProblemKind.LOCAL_DAY_SKIPPED})


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


def expand(broadcast: Broadcast, window: Window) -> Expansion:
    """Every occurrence that `broadcast` asks for on the days of `window`."""
    zone_info = zone(broadcast.time_zone)
    if zone_info is None:
        problem = Problem(
            kind=ProblemKind.UNKNOWN_TIME_ZONE, broadcast_id=broadcast.broadcast_id, detail=broadcast.time_zone[:64]
        )
        return Expansion(occurrences=(), problems=(problem,))
    expansions = [_expand_day(broadcast, day, zone_info) for day in _days(broadcast.rule, window)]
    return Expansion(
        occurrences=tuple(occurrence for each in expansions for occurrence in each.occurrences),
        problems=tuple(problem for each in expansions for problem in each.problems),
    )


def _expand_day(broadcast: Broadcast, day: date, zone_info: ZoneInfo) -> Expansion:
    occurrences: dict[datetime, Occurrence] = {}
    problems: list[Problem] = []
    resolved = [(local_time, *_resolve(day, local_time, zone_info)) for local_time in _times(broadcast.rule)]
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
                broadcast_id=broadcast.broadcast_id, local_day=day, local_time=local_time, at=at
            )
    return Expansion(occurrences=tuple(occurrences[at] for at in sorted(occurrences)), problems=tuple(problems))


def _days(rule: Rule, window: Window) -> tuple[date, ...]:
    match rule:
        case Once(day=day):
            return (day,) if window.holds(day) else ()
        case Daily(starts_on=starts_on, ends_on=ends_on):
            return tuple(day for day in window.days if starts_on <= day and (ends_on is None or day < ends_on))
        case _:
            assert_never(rule)


def _times(rule: Rule) -> tuple[time, ...]:
    """The rule's local times in order, each once, in whole milliseconds: an occurrence is known by its milliseconds."""
    match rule:
        case Once(times=times) | Daily(times=times):
            return tuple(sorted({each.replace(microsecond=each.microsecond // 1000 * 1000) for each in times}))
        case _:
            assert_never(rule)


def _resolve(day: date, local_time: time, zone_info: ZoneInfo) -> tuple[datetime, ProblemKind | None]:
    """The instant of a local time, and what is odd about it."""
    local = datetime.combine(day, local_time.replace(tzinfo=None, fold=0), tzinfo=zone_info)
    # With fold=0 Python reads a time inside a gap by the offset before it, which is the rule stated above.
    at = local.astimezone(UTC)
    back = at.astimezone(zone_info)
    if back.replace(fold=0, tzinfo=None) != local.replace(tzinfo=None):
        is_same_day = back.date() == day
        return at, ProblemKind.LOCAL_TIME_SKIPPED if is_same_day else ProblemKind.LOCAL_DAY_SKIPPED
    if local.replace(fold=1).utcoffset() != local.utcoffset():
        return at, ProblemKind.LOCAL_TIME_REPEATED
    return at, None


def local_day(at: datetime, zone_info: ZoneInfo) -> date:
    """The local day of an instant."""
    return at.astimezone(zone_info).date()


def start_of(day: date, zone_info: ZoneInfo) -> datetime:
    """The instant at which a local day begins, in UTC; where the clock jumps over midnight, the instant of the jump."""
    return datetime.combine(day, time(0), tzinfo=zone_info).astimezone(UTC)
