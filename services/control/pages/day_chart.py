"""What may sound through the day, as bars over 24 hours with the same in words beside them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import time
from itertools import groupby, pairwise

from schemas.identifiers import UnitId
from services.control.pages import recurrence_words
from services.control.pages.wording import Wording
from services.control.planning import permission
from services.control.planning.policies import WEEKDAYS, EffectivePolicy

DAY_MIN = 1_440
HEIGHT = 100
HOURS = (0, 6, 12, 18, 24)

_Span = tuple[int, int]  # minutes of the day, half-open


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of the day, `height` in percent of the row's."""

    begin: int
    width: int
    height: int = HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the chart: what it shows, in a class of the style sheet, and the same in words."""

    kind: str
    label: str
    bars: tuple[Bar, ...]
    words: str


def rows(policy: EffectivePolicy, w: Wording, *, above: Collection[UnitId] = frozenset()) -> tuple[Row, ...]:
    """When something of a unit may sound, by weekdays that are alike; when nothing does; and how loud at most.

    Those `above` the unit may keep slots for themselves.
    """
    return (*_open_rows(policy, w, above), *_quiet_row(policy, w), *_volume_row(policy, w))


def _open_rows(policy: EffectivePolicy, w: Wording, above: Collection[UnitId]) -> Iterator[Row]:
    by_day = {day: permission.open_hours(policy, day, above=above) for day in sorted(WEEKDAYS)}
    alike = {held: [day for day in by_day if by_day[day] == held] for held in by_day.values()}
    for held, days in alike.items():
        spans = [_span(each.begin, each.end) for each in held]
        yield Row(
            kind="may",
            label=w.text("policy.may_sound")
            if len(alike) == 1
            else w.text("policy.may_sound_on", days=recurrence_words.weekdays(days, w)),
            bars=_bars(spans),
            words=_words(spans, w) or w.text("policy.never"),
        )


def _quiet_row(policy: EffectivePolicy, w: Wording) -> Iterator[Row]:
    spans = _union(
        span for each in policy.policies for quiet in each.quiet for span in _wrapped(quiet.begin, quiet.end)
    )
    if spans:
        yield Row(kind="hush", label=w.text("policy.quiet"), bars=_bars(spans), words=_words(spans, w))


def _volume_row(policy: EffectivePolicy, w: Wording) -> Iterator[Row]:
    caps = [
        (*span, cap.percent)
        for each in policy.policies
        for cap in each.volume_caps
        for span in _wrapped(cap.begin, cap.end)
    ]
    if not caps:
        return
    cuts = sorted({0, DAY_MIN, *(edge for begin, end, _ in caps for edge in (begin, end))})
    steps = [
        (begin, end, min((percent for first, last, percent in caps if first < end and begin < last), default=HEIGHT))
        for begin, end in pairwise(cuts)
    ]
    louder = [
        (percent, [step[:2] for step in group]) for percent, group in groupby(sorted(steps, key=_loudness), _loudness)
    ]
    yield Row(
        kind="volume",
        label=w.text("policy.volume"),
        bars=tuple(Bar(begin, end - begin, percent) for begin, end, percent in steps),
        words="; ".join(
            w.text("policy.volume_in", percent=percent, hours=_words(_union(spans), w))
            for percent, spans in louder
            if percent < HEIGHT
        ),
    )


def _loudness(step: tuple[int, int, int]) -> int:
    return step[2]


def _bars(spans: Iterable[_Span]) -> tuple[Bar, ...]:
    return tuple(Bar(begin, end - begin) for begin, end in spans)


def _words(spans: Sequence[_Span], w: Wording) -> str:
    if list(spans) == [(0, DAY_MIN)]:
        return w.text("policy.always")
    return ", ".join(recurrence_words.hours(_time(begin), _time(end), w) for begin, end in _over_midnight(spans))


def _over_midnight(spans: Sequence[_Span]) -> Sequence[_Span]:
    """A night as people say it, 22:00–05:00, and not as its two halves."""
    if len(spans) > 1 and spans[0][0] == 0 and spans[-1][1] == DAY_MIN:
        return (*spans[1:-1], (spans[-1][0], spans[0][1]))
    return spans


def _wrapped(begin: time, end: time) -> list[_Span]:
    first, last = _span(begin, end)
    return [(first, last)] if first < last else [span for span in ((0, last), (first, DAY_MIN)) if span[0] < span[1]]


def _span(begin: time, end: time) -> _Span:
    return _minute(begin), _minute(end) or DAY_MIN


def _minute(at: time) -> int:
    return at.hour * 60 + at.minute


def _time(minute: int) -> time:
    return time(minute // 60 % 24, minute % 60)


def _union(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
