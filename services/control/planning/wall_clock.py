"""What the clock on the wall shows while something sounds: instants as local days and times, never the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

_MS = timedelta(milliseconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What sounds on one local day without a break, in milliseconds of that day by the clock on the wall."""

    day: date
    begin_ms: int
    end_ms: int


def stretches(spans: Iterable[tuple[datetime, datetime]], zone: tzinfo) -> tuple[Stretch, ...]:
    """What sounds in `spans` of instants, as local days and times. Made once for all policies that it is held against."""
    found: list[Stretch] = []
    for begin, end in _joined(spans):
        for wall in _walls(begin, end, zone):
            found.extend(_by_day(*wall))
    return tuple(found)


def until(wall: Iterable[Stretch], day: date, at_ms: int) -> timedelta:
    """How long it takes until the clock on the wall shows a local time, or has jumped over it; `wall` follows it."""
    passed_ms = 0
    for stretch in wall:
        if stretch.day > day or (stretch.day == day and stretch.end_ms > at_ms):
            return (passed_ms + (max(at_ms - stretch.begin_ms, 0) if stretch.day == day else 0)) * _MS
        passed_ms += stretch.end_ms - stretch.begin_ms
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


def _by_day(begin: datetime, end: datetime) -> Iterator[Stretch]:
    while begin < end:
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
        until = min(end, midnight + _DAY)
        yield Stretch(begin.date(), (begin - midnight) // _MS, -((midnight - until) // _MS))
        begin = until
