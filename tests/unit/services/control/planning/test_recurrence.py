from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from services.control.planning.model import Problem, ProblemKind, Recurrence, Window
from services.control.planning.recurrence import expand, start_of, zone
from tests.support.planning import DAY, ZONE, a_broadcast, daily, days, local, once


def check_expansion(
    recurrence: Recurrence,
    window: Window,
    starts: list[datetime],
    problems: list[tuple[ProblemKind, str]],
    *,
    zone_name: str,
) -> None:
    days_in = zone(zone_name)
    assert days_in is not None
    expansion = expand(a_broadcast(recurrence=recurrence, time_zone=zone_name), window, days_in)
    assert [occurrence.at for occurrence in expansion.occurrences] == starts
    assert [(problem.kind, f"{problem.local_time:%H:%M}") for problem in expansion.problems] == problems


VIET_NAM = [
    pytest.param(once("05:30"), days(2), [local("2026-09-07 05:30")], id="once_on_its_day"),
    pytest.param(once("05:30"), days(1, date(2026, 9, 8)), [], id="once_on_another_day"),
    pytest.param(
        daily("17:00", "05:30"),
        days(2),
        [
            local("2026-09-07 05:30"),
            local("2026-09-07 17:00"),
            local("2026-09-08 05:30"),
            local("2026-09-08 17:00"),
        ],
        id="daily_twice_in_order",
    ),
    pytest.param(
        daily("05:30", starts_on=date(2026, 9, 8), ends_on=date(2026, 9, 9)),
        days(7),
        [local("2026-09-08 05:30")],
        id="daily_between_its_dates_the_end_not_included",
    ),
    pytest.param(daily("00:00"), days(1), [local("2026-09-07 00:00")], id="midnight_belongs_to_the_day_it_begins"),
    pytest.param(daily("05:30", "05:30"), days(1), [local("2026-09-07 05:30")], id="the_same_time_twice_is_one"),
    pytest.param(
        daily("05:30:00.123456"),
        days(1),
        [local("2026-09-07 05:30:00.123")],
        id="whole_milliseconds_because_the_wire_counts_them",
    ),
]


@pytest.mark.parametrize(("recurrence", "window", "starts"), VIET_NAM)
def test_local_times_become_instants(recurrence: Recurrence, window: Window, starts: list[datetime]) -> None:
    check_expansion(recurrence, window, starts, [], zone_name="Asia/Ho_Chi_Minh")


# Europe/Berlin: 2026-03-29 02:00 → 03:00, 2026-10-25 03:00 → 02:00. Asia/Beirut: 2026-03-29 00:00 → 01:00.
SHIFTS = [
    pytest.param(
        "Europe/Berlin",
        once("02:30", day=date(2026, 3, 29)),
        [datetime(2026, 3, 29, 1, 30, tzinfo=UTC)],
        [(ProblemKind.LOCAL_TIME_SKIPPED, "02:30")],
        id="a_skipped_time_begins_as_much_later_as_the_clock_jumps",
    ),
    pytest.param(
        "Europe/Berlin",
        once("02:30", "03:30", day=date(2026, 3, 29)),
        [datetime(2026, 3, 29, 1, 30, tzinfo=UTC)],
        [(ProblemKind.SAME_INSTANT, "02:30")],
        id="the_regular_time_keeps_an_instant_two_fall_on",
    ),
    pytest.param(
        "Europe/Berlin",
        once("02:30", day=date(2026, 10, 25)),
        [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)],
        [(ProblemKind.LOCAL_TIME_REPEATED, "02:30")],
        id="a_repeated_time_means_the_first",
    ),
    pytest.param(
        "Asia/Beirut",
        once("00:15", day=date(2026, 3, 29)),
        [datetime(2026, 3, 28, 22, 15, tzinfo=UTC)],
        [(ProblemKind.LOCAL_TIME_SKIPPED, "00:15")],
        id="a_gap_at_midnight_stays_within_the_day",
    ),
    pytest.param(
        "Pacific/Apia",
        once("10:00", day=date(2011, 12, 30)),
        [],
        [(ProblemKind.LOCAL_DAY_SKIPPED, "10:00")],
        id="a_day_that_never_was_has_no_programme",
    ),
]


@pytest.mark.parametrize(("zone_name", "recurrence", "starts", "problems"), SHIFTS)
def test_a_shifting_zone_is_survived_and_reported(
    zone_name: str, recurrence: Recurrence, starts: list[datetime], problems: list[tuple[ProblemKind, str]]
) -> None:
    check_expansion(recurrence, days(1, recurrence.starts_on), starts, problems, zone_name=zone_name)


@pytest.mark.parametrize("name", ["Asia/Ha_Noi", "", "../../etc/passwd", "a\0b", "x" * 300])
def test_an_unknown_zone_is_a_problem_not_an_error(name: str) -> None:
    broadcast = a_broadcast(time_zone=name)

    expansion = expand(broadcast, days(7), ZoneInfo(ZONE))

    assert expansion.occurrences == ()
    assert expansion.problems == (
        Problem(kind=ProblemKind.UNKNOWN_TIME_ZONE, broadcast_id=broadcast.broadcast_id, detail=name[:64]),
    )


def test_an_occurrence_knows_the_day_it_was_asked_for() -> None:
    # 05:30 in Việt Nam is still the day before in UTC.
    (occurrence,) = expand(a_broadcast(recurrence=once("05:30")), days(1), ZoneInfo(ZONE)).occurrences
    assert (occurrence.local_day, occurrence.local_time) == (DAY, time(5, 30))
    assert occurrence.at.date() == date(2026, 9, 6)


@pytest.mark.parametrize(
    ("name", "day", "expected"),
    [
        ("Asia/Ho_Chi_Minh", DAY, datetime(2026, 9, 6, 17, tzinfo=UTC)),
        ("Asia/Beirut", date(2026, 3, 29), datetime(2026, 3, 28, 22, tzinfo=UTC)),
    ],
    ids=["plain", "the_clock_jumps_over_midnight"],
)
def test_a_day_begins_at_one_instant(name: str, day: date, expected: datetime) -> None:
    zone_info = zone(name)
    assert zone_info is not None
    assert start_of(day, zone_info) == expected
