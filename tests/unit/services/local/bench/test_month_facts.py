"""Clocks, sessions and spans of a simulated month."""

import pytest

from services.local.bench import month_facts
from services.local.bench.month_facts import (
    DAY,
    HOLDOVER,
    HOUR,
    MINUTE,
    SECOND,
    SYNCHRONISED,
    UNSYNCHRONISED,
    Down,
    Jump,
    Luck,
)

SINCE_MS = 1_700_000_000_000
UNTIL_MS = SINCE_MS + 10 * DAY


def a_clock(luck: Luck, *, every_ms: int = HOUR, error_ms: int = 0) -> month_facts.Clock:
    sessions = month_facts.online(luck, since_ms=SINCE_MS, until_ms=UNTIL_MS, connects_ms=SECOND)
    settings = [(at_ms, error_ms) for at_ms in range(SINCE_MS + MINUTE, UNTIL_MS, every_ms)]
    return month_facts.clock(luck, sessions, settings, since_ms=SINCE_MS, hears_after_ms=SECOND)


def test_a_clock_drifts_between_two_settings() -> None:
    clock = a_clock(Luck(ppm=20), error_ms=3)
    just_before_ms = SINCE_MS + 5 * HOUR + MINUTE - 1
    assert clock.read(just_before_ms) - just_before_ms == 3 + 72 - 1  # rounded down
    assert clock.read(just_before_ms + 1) - just_before_ms - 1 == 3


def test_a_clock_nobody_sets_for_a_day_doubts_itself() -> None:
    luck = Luck(offline=((SINCE_MS + HOUR, SINCE_MS + 3 * DAY),))
    clock = a_clock(luck)
    states = [clock.state[clock.piece(SINCE_MS + at_ms)] for at_ms in (HOUR, 23 * HOUR, 2 * DAY, 3 * DAY + MINUTE)]
    assert states == [SYNCHRONISED, SYNCHRONISED, HOLDOVER, SYNCHRONISED]


@pytest.mark.parametrize("is_cold", [True, False])
def test_power_takes_the_time_of_a_clock_without_a_battery(is_cold: bool) -> None:
    off_ms, on_ms = SINCE_MS + 5 * HOUR, SINCE_MS + 6 * HOUR
    luck = Luck(downs=(Down(from_ms=off_ms, to_ms=on_ms, is_cold=is_cold),), offline=((off_ms - MINUTE, on_ms + HOUR),))
    clock = a_clock(luck)
    at_ms = on_ms + 10 * MINUTE
    assert clock.state[clock.piece(at_ms)] == (UNSYNCHRONISED if is_cold else HOLDOVER)
    assert clock.read(at_ms) == (10 * MINUTE if is_cold else at_ms)


def test_a_jump_lasts_until_the_right_time_is_heard_again() -> None:
    at_ms = SINCE_MS + 5 * HOUR
    clock = a_clock(Luck(jumps=(Jump(at_ms=at_ms, by_ms=-3 * HOUR, deaf_until_ms=at_ms + 2 * HOUR),)))
    off = [
        (clock.read(each) - each, clock.is_off[clock.piece(each)]) for each in (at_ms, at_ms + HOUR, at_ms + 3 * HOUR)
    ]
    assert off == [(-3 * HOUR, True), (-3 * HOUR, True), (0, False)]


@pytest.mark.parametrize("ppm", [-20.0, 0.0, 20.0])
def test_when_a_clock_shows_something_is_the_first_instant_at_which_it_does(ppm: float) -> None:
    jump = Jump(at_ms=SINCE_MS + 5 * HOUR, by_ms=-10 * MINUTE, deaf_until_ms=SINCE_MS + 7 * HOUR)
    clock = a_clock(Luck(ppm=ppm, jumps=(jump,)), error_ms=5)
    for after_ms in range(SINCE_MS, SINCE_MS + 9 * HOUR, 11 * MINUTE):
        for shown_ms in range(SINCE_MS + HOUR, SINCE_MS + 9 * HOUR, 17 * MINUTE):
            at_ms = clock.when(shown_ms, after_ms=after_ms)
            assert at_ms is not None
            assert clock.read(at_ms) >= shown_ms
            earlier = range(after_ms, at_ms, max(1, (at_ms - after_ms) // 50))
            assert all(clock.read(each) < shown_ms for each in earlier)
            assert at_ms == after_ms or clock.read(at_ms - 1) < shown_ms


def test_what_a_clock_never_shows_is_never() -> None:
    clock = month_facts.Clock(speed=1.0)
    clock.begin(SINCE_MS, SINCE_MS, SYNCHRONISED, is_off=False, set_ms=SINCE_MS)
    clock.begin(SINCE_MS + HOUR, 0, UNSYNCHRONISED, is_off=False, set_ms=SINCE_MS)
    assert clock.when(SINCE_MS + 30 * MINUTE, after_ms=SINCE_MS) == SINCE_MS + 30 * MINUTE
    assert clock.when(HOUR, after_ms=SINCE_MS + 90 * MINUTE) == SINCE_MS + 2 * HOUR


def test_a_session_takes_power_network_and_a_moment() -> None:
    luck = Luck(
        downs=(Down(from_ms=SINCE_MS + 300, to_ms=SINCE_MS + 400),), offline=((SINCE_MS + 350, SINCE_MS + 500),)
    )
    sessions = month_facts.online(luck, since_ms=SINCE_MS, until_ms=SINCE_MS + 1_000, connects_ms=50)
    assert [(from_ms - SINCE_MS, to_ms - SINCE_MS) for from_ms, to_ms in sessions] == [(50, 300), (550, 1_000)]
    assert month_facts.holds(sessions, SINCE_MS + 50)
    assert not month_facts.holds(sessions, SINCE_MS + 300)


def test_spans_unite_and_intersect() -> None:
    assert month_facts.united([(5, 7), (1, 3), (2, 5)]) == [(1, 7)]
    assert month_facts.common([(0, 10), (20, 30)], [(5, 25), (26, 40)]) == [(5, 10), (20, 25), (26, 30)]
    assert month_facts.length_ms([(5, 10), (20, 25)]) == 10
