"""Hours of a local day as spans of milliseconds, half-open, and how they are said in words that need no language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import time, timedelta

DAY_MS = 86_400_000

# [begin, end) in milliseconds of a local day.
Span = tuple[int, int]


def ms_of_day(at: time) -> int:
    """A time of day in milliseconds since midnight."""
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000


def end_ms(at: time) -> int:
    """The end of something on one day: midnight is the one at its end."""
    return ms_of_day(at) or DAY_MS


def wrapped(begin: time, end: time) -> list[Span]:
    """Hours of every day that may cross midnight, as what of them lies in any one day."""
    first, last = ms_of_day(begin), end_ms(end)
    if first < last:
        return [(first, last)]
    return [span for span in ((0, last), (first, DAY_MS)) if span[0] < span[1]]


def time_of_day(ms: int) -> time:
    """The time of day so many milliseconds after midnight; the end of the day is 00:00."""
    seconds, rest = divmod(ms % DAY_MS, 1000)
    minutes, second = divmod(seconds, 60)
    return time(minutes // 60, minutes % 60, second, rest * 1000)


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time in as few spans as possible, in order."""
    merged: list[Span] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def intersection(these: Sequence[Span], those: Sequence[Span]) -> list[Span]:
    """The time that is in both."""
    return union((max(a, c), min(b, d)) for a, b in these for c, d in those)


def difference(these: Sequence[Span], those: Sequence[Span]) -> list[Span]:
    """The time of `these` that is not in `those`."""
    for begin, end in those:
        these = union(part for a, b in these for part in ((a, min(b, begin)), (max(a, end), b)))
    return list(these)


def covers(spans: Sequence[Span], span: Span) -> bool:
    """Whether all of `span` lies in one of `spans`."""
    return any(begin <= span[0] and span[1] <= end for begin, end in spans)


def around(spans: Sequence[Span]) -> list[Span]:
    """Hours of every day, as they follow on one another over two midnights: a night is one span and not two halves."""
    turned = union((begin + shift, end + shift) for begin, end in spans for shift in (0, DAY_MS, 2 * DAY_MS))
    # What is cut off at either end of the three days stands whole in the middle.
    return [span for span in turned if span[1] > DAY_MS and span[0] < 2 * DAY_MS]


# --- facts in words that need no language ------------------------------------------------------------------------------


def clock_text(ms: int) -> str:
    """A time of day: `05:30`, with seconds and less only where it has some."""
    at = time_of_day(ms)
    return at.isoformat("minutes" if at.second == at.microsecond == 0 else "auto")


def spans_text(spans: Sequence[Span]) -> str:
    """Hours of a day: `05:00-06:30 17:00-18:00`."""
    return " ".join(f"{clock_text(begin)}-{clock_text(end)}" for begin, end in spans)


def minutes_text(length: timedelta) -> str:
    """A length in minutes: `30`, `7.5`."""
    return f"{length / timedelta(minutes=1):g}"


def numbers_text(weekdays: Iterable[int]) -> str:
    """Weekdays by their ISO numbers, in order: `1 3 5`."""
    return " ".join(str(weekday) for weekday in sorted(weekdays))
