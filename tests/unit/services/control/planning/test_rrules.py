"""RFC 5545 in local time: examples of its own, and what people type."""

from __future__ import annotations

import time as clock
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from dateutil import rrule as dateutil_rrule
from hypothesis import given
from hypothesis import strategies as st

from services.control.planning.model import ProblemKind, Recurrence, Window
from services.control.planning.recurrence import expand, fault
from services.control.planning.rrules import (
    MAX_A_DAY,
    MAX_COUNT,
    MAX_INTERVAL,
    MAX_TEXT,
    WEEKDAYS,
    Frequency,
    ParsedRule,
    RuleFault,
    moments,
    parse_rrule,
)
from tests.support.planning import DAY, a_broadcast, by_rule

VIET_NAM = ZoneInfo("Asia/Ho_Chi_Minh")
AT_NINE = datetime.combine(date(1997, 9, 2), time(9))  # DTSTART of the examples in RFC 5545, 3.8.5.3: a Tuesday


def starts(text: str, start: datetime, count: int, *, days: int = 366 * 12) -> list[str]:
    """The first `count` moments, without the time where it is that of `start`."""
    found = islice(moments(text, start, start.date(), start.date() + timedelta(days=days)), count)
    return [f"{each:%Y-%m-%d}" if each.time() == start.time() else f"{each:%Y-%m-%d %H:%M}" for each in found]


RFC = [
    ("daily", "FREQ=DAILY", "1997-09-02 1997-09-03 1997-09-04"),
    ("every_other_day", "FREQ=DAILY;INTERVAL=2", "1997-09-02 1997-09-04 1997-09-06"),
    ("every_ten_days_five_times", "FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02 1997-09-12 1997-09-22 1997-10-02 1997-10-12 end"),
    ("every_day_in_january", "FREQ=YEARLY;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", "1998-01-01 1998-01-02 1998-01-03"),
    ("every_day_in_january_by_days", "FREQ=DAILY;BYMONTH=1", "1998-01-01 1998-01-02 1998-01-03"),
    ("weekly", "FREQ=WEEKLY;COUNT=3", "1997-09-02 1997-09-09 1997-09-16 end"),
    ("every_other_week", "FREQ=WEEKLY;INTERVAL=2;WKST=SU", "1997-09-02 1997-09-16 1997-09-30"),
    ("weekly_on_two_days", "FREQ=WEEKLY;COUNT=4;WKST=SU;BYDAY=TU,TH", "1997-09-02 1997-09-04 1997-09-09 1997-09-11 end"),
    ("every_other_week_on_three_days", "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=MO,WE,FR", "1997-09-03 1997-09-05 1997-09-15 1997-09-17"),
    ("first_friday", "FREQ=MONTHLY;COUNT=4;BYDAY=1FR", "1997-09-05 1997-10-03 1997-11-07 1997-12-05 end"),
    ("first_and_last_sunday_every_other_month", "FREQ=MONTHLY;INTERVAL=2;BYDAY=1SU,-1SU", "1997-09-07 1997-09-28 1997-11-02 1997-11-30"),
    ("second_to_last_monday", "FREQ=MONTHLY;BYDAY=-2MO", "1997-09-22 1997-10-20 1997-11-17"),
    ("third_to_last_day", "FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28 1997-10-29 1997-11-28"),
    ("second_and_fifteenth", "FREQ=MONTHLY;COUNT=4;BYMONTHDAY=2,15", "1997-09-02 1997-09-15 1997-10-02 1997-10-15 end"),
    ("first_and_last_day", "FREQ=MONTHLY;BYMONTHDAY=1,-1", "1997-09-30 1997-10-01 1997-10-31 1997-11-01"),
    ("tenth_to_fifteenth_every_18_months", "FREQ=MONTHLY;INTERVAL=18;BYMONTHDAY=10,11,12", "1997-09-10 1997-09-11 1997-09-12 1999-03-10"),
    ("every_tuesday_every_other_month", "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU", "1997-09-02 1997-09-09 1997-09-16 1997-09-23 1997-09-30 1997-11-04"),
    ("yearly_in_june_and_july", "FREQ=YEARLY;COUNT=4;BYMONTH=6,7", "1998-06-02 1998-07-02 1999-06-02 1999-07-02 end"),
    ("every_other_year_in_winter", "FREQ=YEARLY;INTERVAL=2;BYMONTH=1,2,3", "1999-01-02 1999-02-02 1999-03-02 2001-01-02"),
    ("every_third_year_by_day_of_the_year", "FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,200", "2000-01-01 2000-04-09 2000-07-18 2003-01-01"),
    ("twentieth_monday_of_the_year", "FREQ=YEARLY;BYDAY=20MO", "1998-05-18 1999-05-17 2000-05-15"),
    ("monday_of_week_20", "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1998-05-11 1999-05-17 2000-05-15"),
    ("weekday_of_dtstart_in_week_20", "FREQ=YEARLY;BYWEEKNO=20", "1998-05-12 1999-05-18 2000-05-16"),
    ("every_thursday_in_march", "FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1998-03-05 1998-03-12 1998-03-19 1998-03-26 1999-03-04"),
    ("friday_the_13th", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "1998-02-13 1998-03-13 1998-11-13 1999-08-13"),
    ("saturday_after_the_first_sunday", "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13", "1997-09-13 1997-10-11 1997-11-08"),
    ("election_day", "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", "1997-11-04 2001-11-06 2005-11-08"),
    ("third_of_some_weekdays", "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04 1997-10-07 1997-11-06 end"),
    ("second_to_last_workday", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29 1997-10-30 1997-11-27"),
    ("second_of_two_days_of_the_week", "FREQ=WEEKLY;BYDAY=MO,FR;BYSETPOS=2", "1997-09-05 1997-09-12 1997-09-19"),
    ("last_but_one_of_three_days", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE,SU;BYSETPOS=-2;COUNT=2", "1997-09-03 1997-09-17 end"),
    ("last_workday", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "1997-09-30 1997-10-31 1997-11-28"),
    ("every_three_hours", "FREQ=HOURLY;INTERVAL=3;COUNT=3", "1997-09-02 1997-09-02 12:00 1997-09-02 15:00 end"),
    ("every_twenty_minutes_of_some_hours", "FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,20,40", "1997-09-02 1997-09-02 09:20 1997-09-02 09:40 1997-09-02 10:00"),
    ("fifteenth_and_thirtieth_skip_february", "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "1997-09-15 1997-09-30 1997-10-15 1997-10-30 1997-11-15 end"),
    ("the_31st_only_where_there_is_one", "FREQ=MONTHLY;BYMONTHDAY=31", "1997-10-31 1997-12-31 1998-01-31 1998-03-31"),
    ("last_friday", "FREQ=MONTHLY;BYDAY=-1FR", "1997-09-26 1997-10-31 1997-11-28"),
    ("last_day_of_february", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=-1", "1998-02-28 1999-02-28 2000-02-29"),
    ("no_20th_monday_of_december", "FREQ=YEARLY;BYMONTH=12;BYDAY=20MO,-53TU,5WE", "1997-12-31 1998-12-30 1999-12-29 2003-12-31"),
    ("the_29th_of_february", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2000-02-29 2004-02-29 2008-02-29"),
    ("the_last_day_of_the_year", "FREQ=YEARLY;BYYEARDAY=-1", "1997-12-31 1998-12-31 1999-12-31"),
    ("every_monday_and_the_first_friday", "FREQ=MONTHLY;BYDAY=MO,1FR", "1997-09-05 1997-09-08 1997-09-15 1997-09-22 1997-09-29 1997-10-03"),
    ("every_sunday_and_the_last_monday_of_may", "FREQ=YEARLY;BYMONTH=5;BYDAY=SU,-1MO", "1998-05-03 1998-05-10 1998-05-17 1998-05-24 1998-05-25 1998-05-31"),
    ("hours_that_five_hour_steps_meet", "FREQ=HOURLY;INTERVAL=5;BYHOUR=14,19", "1997-09-02 14:00 1997-09-02 19:00 1997-09-07 14:00"),
    ("hourly_on_sundays", "FREQ=HOURLY;INTERVAL=12;BYDAY=SU", "1997-09-07 1997-09-07 21:00 1997-09-14"),
    ("spaces_and_small_letters", "freq=daily; interval=2", "1997-09-02 1997-09-04"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [pytest.param(text, expected, id=name) for name, text, expected in RFC])
def test_rules_of_the_rfc(text: str, expected: str) -> None:
    words = expected.replace(" 1", "|1").replace(" 2", "|2").replace(" end", "|end").split("|")
    dates: list[str] = []
    for word in words:
        # A time belongs to the date before it.
        if ":" in word and "-" not in word:
            dates[-1] = f"{dates[-1]} {word}"
        elif word != "end":
            dates.append(word)
    assert starts(text, AT_NINE, len(dates) + (words[-1] == "end")) == dates


def test_the_first_day_of_the_week_makes_a_difference() -> None:
    start = datetime.combine(date(1997, 8, 5), time(9))
    rule = "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST="
    assert starts(rule + "MO", start, 9) == ["1997-08-05", "1997-08-10", "1997-08-19", "1997-08-24"]
    assert starts(rule + "SU", start, 9) == ["1997-08-05", "1997-08-17", "1997-08-19", "1997-08-31"]


def test_a_start_that_the_rule_does_not_name_is_no_occurrence() -> None:
    assert starts("FREQ=WEEKLY;BYDAY=FR;COUNT=2", AT_NINE, 9) == ["1997-09-05", "1997-09-12"]


ALIKE = [
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=DAILY;BYMONTH=2,9;BYDAY=MO,WE",
    "FREQ=WEEKLY;INTERVAL=3;BYDAY=SA,MO;WKST=WE",
    "FREQ=MONTHLY;INTERVAL=5;BYDAY=-1TH,2MO",
    "FREQ=MONTHLY;BYMONTHDAY=31,-1",
    "FREQ=YEARLY;INTERVAL=3;BYMONTH=2;BYMONTHDAY=28",
    "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=MO",
    "FREQ=HOURLY;INTERVAL=7;BYMONTH=9",
    "FREQ=DAILY;BYHOUR=5,17;BYMINUTE=30;COUNT=77",
]


@given(
    text=st.sampled_from(ALIKE),
    start=st.datetimes(datetime(2001, 1, 1), datetime(2008, 1, 1)),  # noqa: DTZ001 - local times
    offset=st.integers(0, 4000),
)
def test_what_is_asked_month_by_month_is_what_dateutil_counts_from_the_start(
    text: str, start: datetime, offset: int
) -> None:
    start = start.replace(microsecond=0)
    first = start.date() + timedelta(days=offset)
    end = first + timedelta(days=40)
    whole = dateutil_rrule.rrulestr(text + ";WKST=MO" * ("WKST" not in text), dtstart=start)
    expected = whole.between(
        datetime.combine(first, time(0)), datetime.combine(end, time(0)) - timedelta(microseconds=1), inc=True
    )
    assert list(moments(text, start, first, end)) == expected


# --- what is no rule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "facts"),
    [
        ("", "rrule_not_readable", {"part": ""}),
        ("DAILY", "rrule_not_readable", {"part": "DAILY"}),
        ("FREQ=", "rrule_not_readable", {"part": "FREQ="}),
        ("FREQ=DAILY;", "rrule_not_readable", {"part": ""}),
        ("INTERVAL=2", "rrule_without_freq", {}),
        ("FREQ=DAILY;FREQ=DAILY", "rrule_part_repeated", {"part": "FREQ"}),
        ("FREQ=DAILY;BYEASTER=1", "rrule_part_unknown", {"part": "BYEASTER"}),
        ("FREQ=DAILY;X-LOA=1", "rrule_part_unknown", {"part": "X-LOA"}),
        ("RRULE:FREQ=DAILY", "rrule_part_unknown", {"part": "RRULE:FREQ"}),
        ("FREQ=MINUTELY", "rrule_freq_too_fine", {"freq": "MINUTELY"}),
        ("FREQ=SECONDLY", "rrule_freq_too_fine", {"freq": "SECONDLY"}),
        ("FREQ=FORTNIGHTLY", "rrule_freq_unknown", {"freq": "FORTNIGHTLY"}),
        ("FREQ=DAILY;INTERVAL=0", "rrule_value_out_of_range", {"part": "INTERVAL", "value": "0", "low": 1, "high": MAX_INTERVAL}),
        ("FREQ=DAILY;INTERVAL=-1", "rrule_value_out_of_range", {"part": "INTERVAL", "value": "-1", "low": 1, "high": MAX_INTERVAL}),
        ("FREQ=DAILY;COUNT=1000000", "rrule_value_out_of_range", {"part": "COUNT", "value": "1000000", "low": 1, "high": MAX_COUNT}),
        ("FREQ=DAILY;COUNT=٣", "rrule_value_out_of_range", {"part": "COUNT", "value": "٣", "low": 1, "high": MAX_COUNT}),
        ("FREQ=DAILY;BYHOUR=24", "rrule_value_out_of_range", {"part": "BYHOUR", "value": "24", "low": 0, "high": 23}),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "rrule_value_out_of_range", {"part": "BYMONTHDAY", "value": "0", "low": -31, "high": 31}),
        ("FREQ=MONTHLY;BYMONTHDAY=1,,2", "rrule_value_out_of_range", {"part": "BYMONTHDAY", "value": "", "low": -31, "high": 31}),
        ("FREQ=WEEKLY;BYDAY=T2", "rrule_day_not_readable", {"value": "T2"}),
        ("FREQ=MONTHLY;BYDAY=0MO", "rrule_day_not_readable", {"value": "0MO"}),
        ("FREQ=WEEKLY;WKST=1", "rrule_day_not_readable", {"value": "1"}),
        ("FREQ=DAILY;UNTIL=2026-12-31", "rrule_until_not_readable", {"value": "2026-12-31"}),
        ("FREQ=DAILY;UNTIL=20260230", "rrule_until_not_readable", {"value": "20260230"}),
        ("FREQ=DAILY;UNTIL=20261231T250000Z", "rrule_until_not_readable", {"value": "20261231T250000Z"}),
        ("FREQ=DAILY;COUNT=2;UNTIL=20261231", "rrule_count_and_until", {}),
        ("FREQ=MONTHLY;BYWEEKNO=20", "rrule_part_out_of_place", {"part": "BYWEEKNO", "freq": "MONTHLY"}),
        ("FREQ=DAILY;BYYEARDAY=20", "rrule_part_out_of_place", {"part": "BYYEARDAY", "freq": "DAILY"}),
        ("FREQ=WEEKLY;BYMONTHDAY=20", "rrule_part_out_of_place", {"part": "BYMONTHDAY", "freq": "WEEKLY"}),
        ("FREQ=WEEKLY;BYDAY=1MO", "rrule_ordinal_out_of_place", {"freq": "WEEKLY"}),
        ("FREQ=YEARLY;BYWEEKNO=3;BYDAY=1MO", "rrule_ordinal_out_of_place", {"freq": "YEARLY"}),
        ("FREQ=DAILY;BYSETPOS=1", "rrule_setpos_alone", {}),
        ("FREQ=HOURLY;BYMINUTE=0,30", "rrule_too_many_a_day", {"limit": MAX_A_DAY}),
        ("FREQ=DAILY;BYHOUR=5,6;BYMINUTE=0,1,2,3,4,5,6,7,8,9,10,11,12", "rrule_too_many_a_day", {"limit": MAX_A_DAY}),
        ("FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=3", "rrule_never_occurs", {}),
        ("X" * 1001, "rrule_too_long", {"limit": MAX_TEXT}),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_named(text: str, code: str, facts: dict[str, str | int]) -> None:
    assert parse_rrule(text) == RuleFault(code=code, facts=facts)


def some_numbers(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.one_of(st.integers(low, high), st.sampled_from([low, high])).filter(lambda each: each or low == 0)
    return st.lists(numbers, min_size=1, max_size=3).map(lambda each: ",".join(map(str, each)))


some_weekdays = st.lists(
    st.builds(lambda ordinal, day: f"{ordinal or ''}{day}", st.integers(-53, 53), st.sampled_from(WEEKDAYS)),
    min_size=1,
    max_size=3,
).map(",".join)
some_rules = st.fixed_dictionaries(
    {"FREQ": st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"])},
    optional={
        "BYDAY": some_weekdays,
        "BYMONTH": some_numbers(1, 12),
        "BYMONTHDAY": some_numbers(-31, 31),
        "BYYEARDAY": some_numbers(-366, 366),
        "BYWEEKNO": some_numbers(-53, 53),
        "BYHOUR": some_numbers(0, 23),
        "BYSETPOS": some_numbers(-5, 5),
        "INTERVAL": st.integers(1, 30).map(str),
        "WKST": st.sampled_from(WEEKDAYS),
    },
).map(lambda parts: ";".join(f"{name}={value}" for name, value in parts.items()))


@given(text=some_rules, start=st.dates(date(1970, 1, 1), date(2040, 1, 1)), offset=st.integers(0, 2_000))
def test_what_is_a_rule_can_be_expanded(text: str, start: date, offset: int) -> None:
    """Whatever dateutil thinks of it: a rule that is stored must never end a turn of the planner."""
    if isinstance(parse_rrule(text), ParsedRule):
        first, end = start + timedelta(days=offset), start + timedelta(days=offset + 40)
        found = list(moments(text, datetime.combine(start, time(5, 30)), first, end))
        assert found == sorted(set(found))
        assert all(first <= each.date() < end for each in found)


@given(text=st.one_of(st.text(max_size=60), st.from_regex(r"(FREQ|COUNT|BY[A-Z]{3,5}|UNTIL)=[A-Z0-9,;=+-]{0,40}")))
def test_reading_never_fails(text: str) -> None:
    assert isinstance(parse_rrule(text), ParsedRule | RuleFault)


def test_until_has_three_forms() -> None:
    def until(value: str) -> object:
        rule = parse_rrule(f"FREQ=DAILY;UNTIL={value}")
        assert isinstance(rule, ParsedRule)
        assert rule.frequency is Frequency.DAILY
        return rule.until

    assert until("20261231") == date(2026, 12, 31)
    assert until("20261231T170000") == datetime.combine(date(2026, 12, 31), time(17))
    assert until("20261231T170000Z") == datetime(2026, 12, 31, 17, tzinfo=UTC)


# --- recurrences: rules, dates, several times -------------------------------------------------------------------------


def days_of(recurrence: Recurrence, count: int = 14, zone: str = "Asia/Ho_Chi_Minh") -> list[str]:
    window = Window(first=recurrence.starts_on, end=recurrence.starts_on + timedelta(days=count))
    found = expand(a_broadcast(recurrence=recurrence, time_zone=zone), window, ZoneInfo(zone)).occurrences
    return [f"{each.local_day:%d} {each.local_time:%H:%M}" for each in found]


MOMENT = datetime.combine(DAY + timedelta(days=1), time(17))


@pytest.mark.parametrize(
    ("recurrence", "expected"),
    [
        pytest.param(
            by_rule("FREQ=DAILY;COUNT=2", "05:30", "17:00"),
            ["07 05:30", "07 17:00", "08 05:30", "08 17:00"],
            id="each_time_counts_for_itself",
        ),
        pytest.param(by_rule("FREQ=DAILY;UNTIL=20260908", "05:30"), ["07 05:30", "08 05:30"], id="until_a_day_with_it"),
        pytest.param(
            by_rule("FREQ=DAILY;UNTIL=20260908T053000", "05:30"), ["07 05:30", "08 05:30"], id="until_a_moment_with_it"
        ),
        pytest.param(
            by_rule("FREQ=DAILY;UNTIL=20260907T223000Z", "05:30"), ["07 05:30", "08 05:30"], id="until_an_instant_with_it"
        ),
        pytest.param(by_rule("FREQ=DAILY;UNTIL=20260907T222959Z", "05:30"), ["07 05:30"], id="until_a_second_before"),
        pytest.param(
            by_rule("FREQ=DAILY;COUNT=2", "05:30", "17:00", exdates=(DAY + timedelta(days=1),)),
            ["07 05:30", "07 17:00"],
            id="without_a_day_that_was_counted",
        ),
        pytest.param(
            by_rule("FREQ=DAILY;COUNT=2", "05:30", "17:00", exdates=(MOMENT,)),
            ["07 05:30", "07 17:00", "08 05:30"],
            id="without_one_time_of_a_day",
        ),
        pytest.param(
            by_rule("FREQ=DAILY;COUNT=1", "05:30", "17:00", rdates=(DAY + timedelta(days=3), MOMENT, MOMENT)),
            ["07 05:30", "07 17:00", "08 17:00", "10 05:30", "10 17:00"],
            id="with_a_day_and_a_moment_that_is_named_twice",
        ),
        pytest.param(
            by_rule("FREQ=DAILY;COUNT=2", "17:00", rdates=(DAY, MOMENT)),
            ["07 17:00", "08 17:00"],
            id="what_the_rule_has_already_is_not_added",
        ),
        pytest.param(
            by_rule("FREQ=DAILY", "17:00", rdates=(MOMENT,), exdates=(MOMENT,), ends_on=DAY + timedelta(days=3)),
            ["07 17:00", "09 17:00"],
            id="taking_out_wins_over_adding",
        ),
        pytest.param(
            by_rule("FREQ=DAILY;COUNT=1", "17:00", rdates=(DAY - timedelta(days=1), DAY + timedelta(days=9)), ends_on=DAY + timedelta(days=9)),
            ["07 17:00"],
            id="nothing_before_the_start_nor_after_the_end",
        ),
        pytest.param(
            by_rule("FREQ=DAILY;BYHOUR=6,18;COUNT=2", "05:30", "17:30"), ["07 06:30", "07 18:30", "08 06:30"], id="hours_of_the_rule_win"
        ),
        pytest.param(by_rule("FREQ=WEEKLY;BYDAY=FR", "05:30"), ["11 05:30", "18 05:30"], id="weekly"),
    ],
)  # fmt: skip
def test_rules_dates_and_times_together(recurrence: Recurrence, expected: list[str]) -> None:
    assert days_of(recurrence) == expected


SHIFTING = [
    ("Europe/Berlin", date(2026, 3, 27), "02:30", [(29, ProblemKind.LOCAL_TIME_SKIPPED)], "29 01:30"),
    ("Europe/Berlin", date(2026, 10, 24), "02:30", [(25, ProblemKind.LOCAL_TIME_REPEATED)], "25 00:30"),
    ("Australia/Lord_Howe", date(2026, 10, 3), "02:15", [(4, ProblemKind.LOCAL_TIME_SKIPPED)], "03 15:45"),
    ("Australia/Lord_Howe", date(2026, 4, 4), "01:45", [(5, ProblemKind.LOCAL_TIME_REPEATED)], "04 14:45"),
    ("Pacific/Apia", date(2011, 12, 29), "10:00", [(30, ProblemKind.LOCAL_DAY_SKIPPED)], None),
]


@pytest.mark.parametrize(
    ("zone", "starts_on", "at", "problems", "instant"), SHIFTING, ids=[f"{s[0]} {s[1]}" for s in SHIFTING]
)
def test_zones_that_shift(
    zone: str, starts_on: date, at: str, problems: list[tuple[int, ProblemKind]], instant: str | None
) -> None:
    recurrence = by_rule("FREQ=DAILY;COUNT=4", at, starts_on=starts_on)
    window = Window(first=starts_on, end=starts_on + timedelta(days=9))
    found = expand(a_broadcast(recurrence=recurrence, time_zone=zone), window, ZoneInfo(zone))

    assert [(each.local_day.day, each.kind) for each in found.problems if each.local_day] == problems
    # What is asked for is counted, also on a day that never was.
    assert len(found.occurrences) == 4 - (instant is None)
    odd = [f"{each.at:%d %H:%M}" for each in found.occurrences if each.local_day.day == problems[0][0]]
    assert odd == ([instant] if instant else [])


# --- what must not take for ever --------------------------------------------------------------------------------------

QUICK_S = 20.0  # of CPU, far more than any of it takes: what is endless takes hours


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYYEARDAY=366;BYMONTH=1",
        "FREQ=YEARLY;BYWEEKNO=1;BYMONTH=6",
        "FREQ=YEARLY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=29;UNTIL=20271231",
        "FREQ=MONTHLY;BYDAY=6MO",
        "FREQ=MONTHLY;BYDAY=20MO",
        "FREQ=YEARLY;BYMONTH=12;BYDAY=53SU,-20MO",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6",
        "FREQ=HOURLY;INTERVAL=2;BYHOUR=6",
        "FREQ=DAILY;UNTIL=20200101",
    ],
)
def test_what_never_occurs_is_named_at_once(text: str) -> None:
    began_at = clock.process_time()
    recurrence = by_rule(text, "05:30")

    assert fault(recurrence, VIET_NAM, VIET_NAM) == RuleFault(code="rrule_never_occurs")
    (problem,) = expand(
        a_broadcast(recurrence=recurrence), Window(first=DAY, end=DAY + timedelta(days=7)), VIET_NAM
    ).problems

    assert (problem.kind, problem.detail) == (ProblemKind.BAD_RECURRENCE, "rrule_never_occurs")
    assert clock.process_time() - began_at < QUICK_S


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("FREQ=DAILY;INTERVAL=97;BYMONTH=2;BYMONTHDAY=29", None),
        ("FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=5;COUNT=9999", None),
        ("FREQ=DAILY;COUNT=10000", "07 05:30"),
        ("FREQ=HOURLY;COUNT=10000", "07 05:30"),
        ("FREQ=WEEKLY;INTERVAL=9999;BYDAY=MO", "07 05:30"),
    ],
)
def test_rules_that_seldom_or_often_occur_are_quick(text: str, first: str | None) -> None:
    began_at = clock.process_time()
    assert days_of(by_rule(text, "05:30"), 7)[:1] == ([first] if first else [])
    assert clock.process_time() - began_at < QUICK_S


def test_what_started_long_ago_and_leaves_ten_thousand_days_out_is_quick() -> None:
    exdates = tuple(date(2006, 1, 1) + timedelta(days=2 * n) for n in range(10_000))
    recurrence = by_rule("FREQ=DAILY", "05:30", starts_on=date(2006, 1, 1), exdates=exdates)
    broadcast = a_broadcast(recurrence=recurrence)
    began_at = clock.process_time()

    spans = [expand(broadcast, Window(first=DAY, end=DAY + timedelta(days=7)), VIET_NAM) for _ in range(20)]

    found = spans[0]
    left = [day for day in range(7) if DAY + timedelta(days=day) not in set(exdates)]
    assert [each.local_day for each in found.occurrences] == [DAY + timedelta(days=day) for day in left]
    assert clock.process_time() - began_at < QUICK_S


@pytest.mark.parametrize(
    ("recurrence", "code"),
    [
        (by_rule("FREQ=DAILY"), "recurrence_without_time"),
        (by_rule("FREQ=HOURLY", "05:00", sessions=("sang",)), "rrule_names_times_beside_sessions"),
        (by_rule("FREQ=DAILY;BYHOUR=5", sessions=("sang",)), "rrule_names_times_beside_sessions"),
        (by_rule("FREQ=HOURLY", "05:00", "05:30"), "rrule_too_many_a_day"),
        (by_rule("FREQ=DAILY;COUNT=1", "05:00", rdates=tuple(datetime.combine(DAY, time(5, n)) for n in range(25))), "rrule_too_many_a_day"),
        (by_rule("FREQ=DAILY", "05:00", exdates=tuple(DAY for _ in range(10_001))), "too_many_dates"),
        (by_rule("FREQ=DAILY", "05:00", starts_on=date(1, 1, 1)), "starts_on_out_of_range"),
        (by_rule("FREQ=DAILY", "05:00", ends_on=DAY), "rrule_never_occurs"),
        (by_rule("FREQ=MINUTELY", "05:00"), "rrule_freq_too_fine"),
    ],
)  # fmt: skip
def test_what_is_no_recurrence_is_named(recurrence: Recurrence, code: str) -> None:
    found = fault(recurrence, VIET_NAM, VIET_NAM)
    assert found is not None
    assert found.code == code


def test_dates_make_up_for_a_rule_that_never_occurs() -> None:
    recurrence = by_rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "05:30", rdates=(DAY + timedelta(days=2),))
    assert days_of(recurrence) == ["09 05:30"]


@pytest.mark.parametrize("zone_name", ["Asia/Ho_Chi_Minh", "America/New_York", "UTC"])
@pytest.mark.parametrize(
    ("until", "code"),
    [
        ("99991231T235959Z", None),
        ("99991231T235959", None),
        ("99991231", None),
        ("00010101T000000Z", "rrule_never_occurs"),
        ("00010101", "rrule_never_occurs"),
    ],
)
def test_an_end_at_the_edge_of_the_calendar_is_an_end_in_every_zone(
    zone_name: str, until: str, code: str | None
) -> None:
    found = fault(by_rule(f"FREQ=DAILY;UNTIL={until}", "05:30"), ZoneInfo(zone_name), ZoneInfo(zone_name))
    assert (found.code if found is not None else None) == code
