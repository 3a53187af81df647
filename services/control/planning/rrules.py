"""Values of RRULE (RFC 5545, 3.3.10): read, judged, and expanded in local time, a month at a time.

Reading is total: what cannot be a rule here is a `RuleFault` that names the part and what would do. Expanding is left to
python-dateutil, which however looks for the next occurrence until the year 9999 if it has to. So it is never given a
question that may have no answer:

- *YEARLY* and *MONTHLY* rules are asked about one year, or one month, at a time.
- *DAILY* and *HOURLY* rules are expanded without the parts that only leave days out (BYMONTH and the like); those are
  applied to what comes back.
- *WEEKLY* rules cannot be empty for longer than the months they leave out.

Periods are counted from DTSTART by arithmetic, so a rule that started twenty years ago costs what one costs that started
today. Only COUNT has to be counted: once per rule and start, and it is then the moment of its last occurrence. Nothing
is looked for later than `REACH_YEARS` after the start.

Where RFC 5545 leaves it open: DTSTART is an occurrence only if the rule says so, and a BYWEEKNO without a day means the
weekday of DTSTART; BYSETPOS counts in whole periods, also in the one that DTSTART lies in.
"""

from __future__ import annotations

import calendar
import enum
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, assert_never

from dateutil import rrule as dateutil_rrule

MAX_TEXT = 1_000
MAX_INTERVAL = 9_999
MAX_COUNT = 10_000
MAX_A_DAY = 24  # occurrences on one local day
MAX_TIMES_A_DAY = 24 * 60  # that BYHOUR, BYMINUTE and BYSECOND may name before BYSETPOS chooses among them
REACH_YEARS = 100
# Before and after these years nothing begins; and what lies there may be no day at all in another zone.
FIRST_YEAR, LAST_YEAR = 1_900, 9_000
# One step of a rule this long leads out of dateutil's calendar: it answers for one period and ends.
_YEARS_OUT = 10_000

WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_MONDAY = 0


class Frequency(enum.IntEnum):
    """How long a period of the rule is; the numbers are dateutil's."""

    YEARLY = dateutil_rrule.YEARLY
    MONTHLY = dateutil_rrule.MONTHLY
    WEEKLY = dateutil_rrule.WEEKLY
    DAILY = dateutil_rrule.DAILY
    HOURLY = dateutil_rrule.HOURLY


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFault:
    """What keeps a text from being a rule: a stable code, and the facts that its words name."""

    code: str
    facts: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRule:
    """A rule. `until` is the last local day, the last local moment or the last instant (aware), itself included.

    `by_day` holds (ordinal, weekday), ordinal 0 for every one in the period.
    """

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: date | datetime | None = None
    by_month: tuple[int, ...] = ()
    by_week_no: tuple[int, ...] = ()
    by_year_day: tuple[int, ...] = ()
    by_month_day: tuple[int, ...] = ()
    by_day: tuple[tuple[int, int], ...] = ()
    by_hour: tuple[int, ...] = ()
    by_minute: tuple[int, ...] = ()
    by_second: tuple[int, ...] = ()
    by_set_pos: tuple[int, ...] = ()
    week_start: int = _MONDAY

    @property
    def names_times(self) -> bool:
        """Whether it says itself at which times of the day something begins."""
        return bool(self.frequency is Frequency.HOURLY or self.by_hour or self.by_minute or self.by_second)

    @property
    def times_a_period_day(self) -> int:
        """How many times of day the rule names for one day, or for one hour, before BYSETPOS chooses."""
        hours = 1 if self.frequency is Frequency.HOURLY else len(self.by_hour) or 1
        return hours * (len(self.by_minute) or 1) * (len(self.by_second) or 1)

    @property
    def most_a_day(self) -> int:
        """The most occurrences that one DTSTART can have on one local day."""
        most = self.times_a_period_day
        if self.by_set_pos:
            most = min(most, len(self.by_set_pos))
        if self.frequency is Frequency.HOURLY:
            most *= len(self.by_hour) or -(-24 // self.interval)
        return most


# --- reading ---------------------------------------------------------------------------------------------------------

_NUMBERS: Mapping[str, tuple[int, int]] = {
    "BYMONTH": (1, 12),
    "BYWEEKNO": (-53, 53),
    "BYYEARDAY": (-366, 366),
    "BYMONTHDAY": (-31, 31),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSECOND": (0, 59),
    "BYSETPOS": (-366, 366),
}
_FIELDS: Mapping[str, str] = {
    "BYMONTH": "by_month",
    "BYWEEKNO": "by_week_no",
    "BYYEARDAY": "by_year_day",
    "BYMONTHDAY": "by_month_day",
    "BYHOUR": "by_hour",
    "BYMINUTE": "by_minute",
    "BYSECOND": "by_second",
    "BYSETPOS": "by_set_pos",
}
_PARTS = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS})
# RFC 5545, 3.3.10, the table of what each part does by frequency: here it may not stand.
_OUT_OF_PLACE: Mapping[str, frozenset[Frequency]] = {
    "BYWEEKNO": frozenset(Frequency) - {Frequency.YEARLY},
    "BYYEARDAY": frozenset({Frequency.MONTHLY, Frequency.WEEKLY, Frequency.DAILY}),
    "BYMONTHDAY": frozenset({Frequency.WEEKLY}),
}
_TOO_FINE = frozenset({"SECONDLY", "MINUTELY"})
_NUMBER = re.compile(r"[+-]?[0-9]{1,6}", re.ASCII)
_DAY = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_UNTIL = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:T([0-9]{2})([0-9]{2})([0-9]{2})(Z?))?", re.ASCII)


class _Faulty(Exception):
    """Carries a fault out of reading; never leaves this module."""

    def __init__(self, code: str, **facts: str | int) -> None:
        super().__init__(code)
        self.fault = RuleFault(code=code, facts=facts)


@lru_cache(maxsize=4_096)
def parse_rrule(text: str) -> ParsedRule | RuleFault:
    """Read the value of an RRULE: what follows `RRULE:`, without DTSTART. Never raises."""
    try:
        rule = _read(text)
        _judge(rule)
    except _Faulty as faulty:
        return faulty.fault
    return rule


def _read(text: str) -> ParsedRule:
    if len(text) > MAX_TEXT:
        raise _Faulty("rrule_too_long", limit=MAX_TEXT)
    parts = _parts(text)
    rule = ParsedRule(
        frequency=_frequency(parts),
        interval=_number(parts, "INTERVAL", 1, MAX_INTERVAL) or 1,
        count=_number(parts, "COUNT", 1, MAX_COUNT),
        until=_until(parts),
        by_day=_days(parts),
        week_start=_week_start(parts),
    )
    lists: dict[str, Any] = {_FIELDS[part]: _numbers(parts, part) for part in _NUMBERS if part in parts}
    return replace(rule, **lists)


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for piece in text.split(";"):
        name, equals, value = piece.strip().partition("=")
        name, value = name.strip().upper(), value.strip().upper()
        if not name or not equals or not value:
            raise _Faulty("rrule_not_readable", part=piece[:40])
        if name not in _PARTS:
            raise _Faulty("rrule_part_unknown", part=name[:40])
        if name in parts:
            raise _Faulty("rrule_part_repeated", part=name)
        parts[name] = value
    return parts


def _frequency(parts: Mapping[str, str]) -> Frequency:
    value = parts.get("FREQ")
    if value is None:
        raise _Faulty("rrule_without_freq")
    if value in _TOO_FINE:
        raise _Faulty("rrule_freq_too_fine", freq=value)
    if value not in Frequency.__members__:
        raise _Faulty("rrule_freq_unknown", freq=value[:40])
    return Frequency[value]


def _number(parts: Mapping[str, str], part: str, low: int, high: int) -> int | None:
    value = parts.get(part)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or not low <= int(value) <= high:
        raise _Faulty("rrule_value_out_of_range", part=part, value=value[:40], low=low, high=high)
    return int(value)


def _numbers(parts: Mapping[str, str], part: str) -> tuple[int, ...]:
    low, high = _NUMBERS[part]
    found: set[int] = set()
    for value in parts[part].split(","):
        # Where counting from the end is possible, nothing is the zeroth.
        if not _NUMBER.fullmatch(value) or not low <= int(value) <= high or (low < 0 and int(value) == 0):
            raise _Faulty("rrule_value_out_of_range", part=part, value=value[:40], low=low, high=high)
        found.add(int(value))
    return tuple(sorted(found))


def _days(parts: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    if "BYDAY" not in parts:
        return ()
    found: set[tuple[int, int]] = set()
    for value in parts["BYDAY"].split(","):
        match = _DAY.fullmatch(value)
        if match is None or (match[1] is not None and not 1 <= abs(int(match[1])) <= 53):
            raise _Faulty("rrule_day_not_readable", value=value[:40])
        found.add((int(match[1] or 0), WEEKDAYS.index(match[2])))
    return tuple(sorted(found))


def _week_start(parts: Mapping[str, str]) -> int:
    value = parts.get("WKST", WEEKDAYS[_MONDAY])
    if value not in WEEKDAYS:
        raise _Faulty("rrule_day_not_readable", value=value[:40])
    return WEEKDAYS.index(value)


def _until(parts: Mapping[str, str]) -> date | datetime | None:
    value = parts.get("UNTIL")
    if value is None:
        return None
    match = _UNTIL.fullmatch(value)
    try:
        if match is None:
            raise ValueError
        day = date(int(match[1]), int(match[2]), int(match[3]))
        day = min(max(day, date(FIRST_YEAR, 1, 1)), date(LAST_YEAR, 12, 31))
        if match[4] is None:
            return day
        # A leap second is the last second of its minute: nothing else can be told from it.
        moment = datetime(  # noqa: DTZ001 - local, as long as it does not end in Z
            day.year, day.month, day.day, int(match[4]), int(match[5]), min(int(match[6]), 59)
        )
    except ValueError:
        raise _Faulty("rrule_until_not_readable", value=value[:40]) from None
    return moment.replace(tzinfo=UTC) if match[7] else moment


def _judge(rule: ParsedRule) -> None:
    """Refuse what is no rule by RFC 5545, what begins more often than anybody can want, and what never begins."""
    if rule.count is not None and rule.until is not None:
        raise _Faulty("rrule_count_and_until")
    for part, frequencies in _OUT_OF_PLACE.items():
        if getattr(rule, _FIELDS[part]) and rule.frequency in frequencies:
            raise _Faulty("rrule_part_out_of_place", part=part, freq=rule.frequency.name)
    if any(ordinal for ordinal, _ in rule.by_day) and (
        rule.frequency not in (Frequency.MONTHLY, Frequency.YEARLY) or rule.by_week_no
    ):
        raise _Faulty("rrule_ordinal_out_of_place", freq=rule.frequency.name)
    others = (rule.by_month, rule.by_week_no, rule.by_year_day, rule.by_month_day, rule.by_day)
    if rule.by_set_pos and not any((*others, rule.by_hour, rule.by_minute, rule.by_second)):
        raise _Faulty("rrule_setpos_alone")
    if rule.most_a_day > MAX_A_DAY or rule.times_a_period_day > MAX_TIMES_A_DAY:
        raise _Faulty("rrule_too_many_a_day", limit=MAX_A_DAY)
    if not _has_positions(rule):
        raise _Faulty("rrule_never_occurs")


def _has_positions(rule: ParsedRule) -> bool:
    """Whether BYSETPOS leaves anything of a short period; what long ones hold depends on the calendar."""
    if not rule.by_set_pos or rule.frequency in (Frequency.YEARLY, Frequency.MONTHLY):
        return True
    days = len(rule.by_day) or 1 if rule.frequency is Frequency.WEEKLY else 1
    return min(abs(position) for position in rule.by_set_pos) <= days * rule.times_a_period_day


# --- expanding -------------------------------------------------------------------------------------------------------


def moments(text: str, start: datetime, first: date, end: date) -> Iterator[datetime]:
    """The local moments that the rule asks for on the days from `first` to before `end`, when it begins at `start`.

    UNTIL is not looked at: it may be an instant, which means something in a zone only. `text` must be a rule.
    """
    last = _last(text, start)
    first = max(first, start.date())
    year, month = first.year, first.month
    while (year, month) <= (end.year, end.month) and (last is None or (year, month) <= (last.year, last.month)):
        for moment in _month(text, start, year, month):
            if first <= moment.date() < end and (last is None or moment <= last):
                yield moment
        year, month = _next_month(year, month)


def first_moment(text: str, start: datetime) -> datetime | None:
    """The first moment that the rule asks for within its reach; None when there is none."""
    return next(_from_start(text, start), None)


@lru_cache(maxsize=4_096)
def _last(text: str, start: datetime) -> datetime | None:
    """The moment after which the rule asks for nothing, because COUNT is reached; None when it has no COUNT."""
    count = _parsed(text).count
    if count is None:
        return None
    last = start
    for number, moment in enumerate(_from_start(text, start), 1):
        last = moment
        if number == count:
            break
    return last


def _from_start(text: str, start: datetime) -> Iterator[datetime]:
    year, month = start.year, start.month
    for _ in range(12 * REACH_YEARS):
        yield from _in_month(text, start, year, month)
        year, month = _next_month(year, month)


def _next_month(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


def _parsed(text: str) -> ParsedRule:
    rule = parse_rrule(text)
    assert isinstance(rule, ParsedRule), "only rules are expanded"
    return rule


@lru_cache(maxsize=4_096)
def _month(text: str, start: datetime, year: int, month: int) -> tuple[datetime, ...]:
    """Remember some months: broadcasts of equal rules, and windows that follow one another, ask again."""
    return _in_month(text, start, year, month)


def _in_month(text: str, start: datetime, year: int, month: int) -> tuple[datetime, ...]:
    """What the rule asks for in one month, COUNT and UNTIL apart, in order."""
    if year > min(LAST_YEAR, start.year + REACH_YEARS):
        return ()
    rule = _parsed(text)
    if rule.by_month and month not in rule.by_month:
        return ()
    match rule.frequency:
        case Frequency.YEARLY:
            found = tuple(moment for moment in _year(text, start, year) if moment.month == month)
        case Frequency.MONTHLY:
            found = tuple(_one_month(rule, start, year, month))
        case Frequency.WEEKLY:
            found = tuple(_weeks(rule, start, year, month))
        case Frequency.DAILY:
            found = tuple(_some_days(rule, start, year, month, timedelta(days=rule.interval)))
        case Frequency.HOURLY:
            found = tuple(_some_days(rule, start, year, month, timedelta(hours=rule.interval)))
        case _:
            assert_never(rule.frequency)
    # dateutil counts whole seconds.
    part = timedelta(microseconds=start.microsecond)
    return tuple(moment + part for moment in found if moment + part >= start)


@lru_cache(maxsize=1_024)
def _year(text: str, start: datetime, year: int) -> tuple[datetime, ...]:
    rule = _parsed(text)
    if (year - start.year) % rule.interval:
        return ()
    by_month, by_month_day, by_day = rule.by_month, rule.by_month_day, rule.by_day
    if rule.by_week_no and not (by_day or by_month_day or rule.by_year_day):
        by_day = ((0, start.weekday()),)
    elif not (rule.by_week_no or rule.by_year_day or by_month_day or by_day):
        by_month, by_month_day = by_month or (start.month,), (start.day,)
    alike = _alike(by_day, 5 if by_month else 53)
    if by_day and not alike:
        return ()
    rule = replace(rule, by_month=by_month, by_month_day=by_month_day, by_day=alike)
    return tuple(_dateutil(rule, start, date(year, 1, 1), interval=_YEARS_OUT))


def _one_month(rule: ParsedRule, start: datetime, year: int, month: int) -> Iterator[datetime]:
    if ((year - start.year) * 12 + month - start.month) % rule.interval:
        return iter(())
    by_month_day = rule.by_month_day or (() if rule.by_day else (start.day,))
    alike = _alike(rule.by_day, 5)
    if rule.by_day and not alike:
        return iter(())
    rule = replace(rule, by_month_day=by_month_day, by_day=alike)
    return iter(_dateutil(rule, start, date(year, month, 1), interval=12 * _YEARS_OUT))


def _alike(by_day: tuple[tuple[int, int], ...], most: int) -> tuple[tuple[int, int], ...]:
    """Name every one of a weekday where another has an ordinal: dateutil wants a day to be one of both kinds at once.

    Of an ordinal that no period has, `most` being the highest, it looks beyond the end of its calendar: it is left out.
    """
    if not any(ordinal for ordinal, _ in by_day):
        return by_day
    return tuple(
        (each, weekday)
        for ordinal, weekday in by_day
        if abs(ordinal) <= most
        for each in ((ordinal,) if ordinal else range(1, most + 1))
    )


def _weeks(rule: ParsedRule, start: datetime, year: int, month: int) -> Iterator[datetime]:
    first, end = _bounds(year, month)
    began = _week_of(start.date(), rule.week_start)
    step = 7 * rule.interval
    steps = max(0, (_week_of(first, rule.week_start) - began) // step)
    rule = replace(rule, by_day=rule.by_day or ((0, start.weekday()),))
    for moment in _dateutil(rule, start, date.fromordinal(began + steps * step), interval=rule.interval):
        if moment.date() >= end:
            return
        if moment.date() >= first:
            yield moment


def _week_of(day: date, week_start: int) -> int:
    return day.toordinal() - (day.weekday() - week_start) % 7


def _some_days(rule: ParsedRule, start: datetime, year: int, month: int, step: timedelta) -> Iterator[datetime]:
    is_meant = _day_filter(rule)
    first, end = _bounds(year, month)
    days = {day for number in range(first.toordinal(), end.toordinal()) if is_meant(day := date.fromordinal(number))}
    if not days:
        return
    began = start.replace(microsecond=0)
    steps = max(0, -((began - datetime.combine(min(days), datetime.min.time())) // step) - 1)
    bare = replace(rule, by_month=(), by_year_day=(), by_month_day=(), by_day=())
    last = max(days)
    for moment in _dateutil(bare, began + steps * step, None, interval=rule.interval):
        day = moment.date()
        if day > last:
            return
        if day in days:
            yield moment


def _day_filter(rule: ParsedRule) -> Callable[[date], bool]:
    weekdays = {weekday for _, weekday in rule.by_day}

    def is_meant(day: date) -> bool:
        length = calendar.monthrange(day.year, day.month)[1]
        year_day = day.timetuple().tm_yday
        year_length = 366 if calendar.isleap(day.year) else 365
        return (
            (not rule.by_month or day.month in rule.by_month)
            and (not rule.by_month_day or not {day.day, day.day - length - 1}.isdisjoint(rule.by_month_day))
            and (not rule.by_year_day or not {year_day, year_day - year_length - 1}.isdisjoint(rule.by_year_day))
            and (not weekdays or day.weekday() in weekdays)
        )

    return is_meant


def _bounds(year: int, month: int) -> tuple[date, date]:
    return date(year, month, 1), date(*_next_month(year, month), 1)


def _dateutil(rule: ParsedRule, start: datetime, first: date | None, *, interval: int) -> Iterator[datetime]:
    """What dateutil makes of the rule from `first` on, at the time of day of `start`."""
    dtstart = (start if first is None else datetime.combine(first, start.time())).replace(microsecond=0)
    # Times of the day are given in full: dtstart must not be taken for what begins a period later than its first hour.
    is_hourly = rule.frequency is Frequency.HOURLY
    try:
        expanded = dateutil_rrule.rrule(
            rule.frequency.value,
            dtstart=dtstart if is_hourly else dtstart.replace(hour=0, minute=0, second=0),
            interval=interval,
            wkst=rule.week_start,
            bysetpos=rule.by_set_pos or None,
            bymonth=rule.by_month or None,
            bymonthday=rule.by_month_day or None,
            byyearday=rule.by_year_day or None,
            byweekno=rule.by_week_no or None,
            byweekday=[dateutil_rrule.weekday(weekday, ordinal or None) for ordinal, weekday in rule.by_day] or None,
            byhour=rule.by_hour or (None if is_hourly else start.hour),
            byminute=rule.by_minute or start.minute,
            bysecond=rule.by_second or start.second,
        )
    except ValueError:  # hours that no step from the start ever leads to
        return iter(())
    return iter(expanded)
