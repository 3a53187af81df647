"""When a broadcast begins, in words: the common rules said as people say them, any other rule shown as it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta

from services.control.broadcast_requests import DAILY, ONCE, Wish
from services.control.pages.wording import Wording
from services.control.planning import recurrence, rrules
from services.control.planning.rrules import Frequency, ParsedRule

_SHOWN = 6  # dates added or left out; more are counted
_WORKDAYS_SHOWN_AS_SPAN = 3  # so many weekdays on end are said as from … to
_ORDINALS = (1, 2, 3, 4, -1)
_EVERY_DAY = tuple(range(1, 8))


def schedule(wish: Wish, w: Wording) -> tuple[str, ...]:
    """On which days it begins: the rule first, then what was added and what was left out."""
    lines = [_rule_line(wish, w)]
    if wish.rdates:
        lines.append(w.text("recurrence.also", days=_dates(wish.rdates, w)))
    if wish.exdates:
        lines.append(w.text("recurrence.except", days=_dates(wish.exdates, w)))
    return tuple(lines)


def times(wish: Wish, w: Wording) -> str:
    """At which local times it begins, and with which sessions."""
    sessions = (w.text("times.session", name=code) for code in wish.sessions)
    return ", ".join([*map(clock, wish.local_times), *sessions])


def weekdays(days: Iterable[int], w: Wording) -> str:
    """Weekdays (ISO numbers) as one says them, those on end as a span; all of them as every day."""
    ordered = sorted(days)
    if tuple(ordered) == _EVERY_DAY:
        return w.text("recurrence.daily").lower()
    names = [w.text(f"weekday.{day}") for day in ordered]
    is_on_end = bool(ordered) and ordered[-1] - ordered[0] == len(ordered) - 1
    if is_on_end and len(ordered) >= _WORKDAYS_SHOWN_AS_SPAN:
        return w.text("list.from_to", first=names[0], last=names[-1])
    return listed(names, w)


def listed(words: Sequence[str], w: Wording) -> str:
    """Words one after another, the last with an and."""
    if len(words) < 2:
        return "".join(words)
    return w.text("list.last", rest=", ".join(words[:-1]), last=words[-1])


def clock(at: time) -> str:
    """A local time, seconds only where there are some."""
    return at.strftime("%H:%M:%S" if at.second else "%H:%M")


def hours(begin: time, end: time, w: Wording) -> str:
    """A part of the day; midnight at its end is 24:00."""
    return w.text("list.hours", begin=clock(begin), end="24:00" if end == time(0) else clock(end))


def _rule_line(wish: Wish, w: Wording) -> str:
    first = w.day(wish.starts_on)
    if wish.recurrence == ONCE:
        return w.text("recurrence.once", day=first)
    rule = None
    if wish.recurrence == DAILY:
        base = w.text("recurrence.daily")
    else:
        parsed = rrules.parse_rrule(wish.rrule or "")
        rule = parsed if isinstance(parsed, ParsedRule) else None
        said = None if rule is None else _said(rule, wish.starts_on, w)
        if said is None:
            # Counts and ends stand in the rule, which is shown whole.
            rule, said = None, w.text("recurrence.rule", rule=wish.rrule or "")
        base = _capitalised(said)
    if rule is not None and rule.count is not None:
        each = "times" if len(wish.local_times) + len(wish.sessions) == 1 else "times_each"
        base = w.text(f"recurrence.{each}", base=base, count=rule.count)
    base = w.text("recurrence.from", base=base, day=first)
    last = _last_day(wish, rule)
    return base if last is None else w.text("recurrence.until", base=base, day=w.day(last))


def _last_day(wish: Wish, rule: ParsedRule | None) -> date | None:
    ends = [] if wish.ends_on is None else [wish.ends_on - timedelta(days=1)]
    until = None if rule is None else rule.until
    if isinstance(until, datetime):
        zone = recurrence.zone(wish.time_zone)
        ends.append((until if until.tzinfo is None else until.astimezone(zone)).date())
    elif until is not None:
        ends.append(until)
    return min(ends, default=None)


def _said(rule: ParsedRule, start: date, w: Wording) -> str | None:
    """The rule in words; None where that would be longer, or less exact, than the rule itself."""
    if rule.by_week_no or rule.by_year_day or rule.by_set_pos or rule.by_hour or rule.by_minute or rule.by_second:
        return None
    match rule.frequency:
        case Frequency.DAILY:
            base = _daily(rule, w)
        case Frequency.WEEKLY:
            days = [day + 1 for ordinal, day in rule.by_day if ordinal == 0] or [start.isoweekday()]
            base = _weekly(days, rule.interval, w)
        case Frequency.MONTHLY:
            base = _monthly(rule, start, w)
        case Frequency.YEARLY:
            return _yearly(rule, start, w)
        case _:
            return None
    if base is not None and rule.by_month:
        months = listed([w.text(f"month.{each}") for each in rule.by_month], w)
        base = w.text("recurrence.in_months", base=base, months=months)
    return base


def _daily(rule: ParsedRule, w: Wording) -> str | None:
    if rule.by_month_day or (rule.by_day and rule.interval > 1):
        return None
    if rule.by_day:
        return _weekly([day + 1 for _, day in rule.by_day], 1, w)
    return w.text("recurrence.daily") if rule.interval == 1 else w.text("recurrence.every_days", count=rule.interval)


def _weekly(days: Iterable[int], interval: int, w: Wording) -> str:
    some = sorted(set(days))
    if interval > 1:
        return w.text("recurrence.every_weeks", days=weekdays(some, w), count=interval)
    said = weekdays(some, w)
    return said if tuple(some) == _EVERY_DAY else w.text("recurrence.weekly", days=said)


def _monthly(rule: ParsedRule, start: date, w: Wording) -> str | None:
    if rule.by_day and rule.by_month_day:
        return None
    if rule.by_day:
        if any(ordinal not in _ORDINALS for ordinal, _ in rule.by_day):
            return None
        days = [w.text(f"recurrence.nth.{n}", weekday=w.text(f"weekday.{day + 1}")) for n, day in rule.by_day]
    else:
        numbers = rule.by_month_day or (start.day,)
        if any(number < -1 for number in numbers):
            return None
        # The last day is asked for as the day before the first of the next month: it stands at the end.
        ordered = sorted(numbers, key=lambda number: (number < 0, number))
        days = [
            w.text("recurrence.last_day_of_month") if number < 0 else w.text("recurrence.day_of_month", day=number)
            for number in ordered
        ]
    said = listed(days, w)
    if rule.interval > 1:
        return w.text("recurrence.every_months", days=said, count=rule.interval)
    return w.text("recurrence.monthly", days=said)


def _yearly(rule: ParsedRule, start: date, w: Wording) -> str | None:
    numbers = rule.by_month_day or (start.day,)
    if rule.by_day or any(number < 0 for number in numbers) or (rule.by_month_day and not rule.by_month):
        return None
    days = [
        w.text("recurrence.day_of_year", day=number, month=w.text(f"month.{month}"))
        for month in rule.by_month or (start.month,)
        for number in numbers
    ]
    said = listed(days, w)
    if rule.interval > 1:
        return w.text("recurrence.every_years", days=said, count=rule.interval)
    return w.text("recurrence.yearly", days=said)


def _dates(dates: Sequence[date | datetime], w: Wording) -> str:
    said = [
        w.text("recurrence.moment", time=clock(each.time()), day=w.day(each.date()))
        if isinstance(each, datetime)
        else w.day(each)
        for each in dates[:_SHOWN]
    ]
    left = len(dates) - len(said)
    together = ", ".join(said)
    return together if not left else w.text("recurrence.more", days=together, count=left)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
