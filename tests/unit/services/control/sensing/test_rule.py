"""Sensors are raised and cleared by readings that last, whatever order they come in, and never by silence."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.sensing.rule import Direction, Limits, Sample, Sensor, SensorState, follow, stand, told
from tests.unit.services.control.sensing.builders import a_minute_apart, a_sensor, at, readings, some_limits

START = SensorState()
BELOW = some_limits(direction=Direction.BELOW, raise_at=1.0, clear_at=1.5)
AT_ONCE = some_limits(hold=timedelta(0))


@pytest.mark.parametrize(
    ("limits", "samples", "is_raised"),
    [
        pytest.param(some_limits(), [], False, id="nothing came"),
        pytest.param(some_limits(), a_minute_apart([4, 4, 4]), False, id="two minutes are not three"),
        pytest.param(
            some_limits(), a_minute_apart([4, 4, 4, 4]), True, id="the threshold itself counts, for as long as asked"
        ),
        pytest.param(some_limits(), a_minute_apart([4, 4, 3.9, 4, 4]), False, id="one that says otherwise begins anew"),
        pytest.param(some_limits(), a_minute_apart([4, 4, 3.9, 4, 4, 4, 4]), True, id="and then counts from there"),
        pytest.param(some_limits(), readings((0, 5), (60, 5)), False, id="an hour of silence is no hour of flood"),
        pytest.param(some_limits(), readings((0, 5), (60, 5), (64, 5)), True, id="after a gap it counts from the next"),
        pytest.param(some_limits(), readings((0, 5), (5, 5)), True, id="as long as the gap may be is no gap"),
        pytest.param(some_limits(), readings((0, 5), (5.01, 5)), False, id="longer is one"),
        pytest.param(
            some_limits(),
            a_minute_apart([4, 4, 4, 4, 3.6, 3.9, 3.6, 3.6, 3.6]),
            True,
            id="between the thresholds nothing changes",
        ),
        pytest.param(
            some_limits(), a_minute_apart([4, 4, 4, 4, 3.5, 3.5, 3.5]), True, id="clearing takes as long as raising"
        ),
        pytest.param(
            some_limits(), a_minute_apart([4, 4, 4, 4, 3.5, 3.5, 3.5, 3.5]), False, id="and then it is cleared"
        ),
        pytest.param(
            some_limits(), readings((0, 5), (1, 5), (2, 5), (3, 5), (4, 1), (60, 1)), True, id="silence clears nothing"
        ),
        pytest.param(AT_ONCE, readings((0, 4)), True, id="smoke does not wait"),
        pytest.param(AT_ONCE, readings((0, 4), (1, 3.5)), False, id="nor does its end"),
        pytest.param(BELOW, a_minute_apart([0.9, 1.0, 0.5, 1.0]), True, id="low water"),
        pytest.param(BELOW, a_minute_apart([1.1, 1.1, 1.1, 1.1]), False, id="not low enough"),
        pytest.param(BELOW, a_minute_apart([1, 1, 1, 1, 1.5, 2, 2, 2]), False, id="low water ends"),
    ],
)
def test_what_readings_make_of_a_sensor(limits: Limits, samples: list[Sample], is_raised: bool) -> None:
    assert follow(START, samples, limits).is_raised is is_raised


def test_a_raised_sensor_says_since_when_and_what_it_last_said() -> None:
    state = follow(START, a_minute_apart([1, 4, 5, 6, 7]), some_limits())
    assert (state.since, state.last_at, state.last_value) == (at(1), at(4), 7)


def test_what_comes_behind_the_newest_changes_nothing() -> None:
    state = follow(START, a_minute_apart([4, 4, 4, 4]), some_limits())
    assert told(state, Sample(at(1.5), 0), some_limits()) == state


values = st.lists(st.floats(min_value=-10, max_value=10, allow_nan=False), max_size=40)
gaps = st.lists(st.integers(min_value=1, max_value=20 * 60), min_size=40, max_size=40)
limits_ = st.builds(
    lambda hold, silent: some_limits(hold=timedelta(seconds=hold), silent_after=timedelta(seconds=silent)),
    st.integers(0, 900),
    st.integers(10, 900),
)


def spread(values: list[float], gaps: list[int]) -> list[Sample]:
    seconds, found = 0, []
    for value, gap in zip(values, gaps, strict=False):
        seconds += gap
        found.append(Sample(at(seconds / 60), value))
    return found


@given(values, gaps, limits_, st.randoms(use_true_random=False))
def test_the_order_in_which_readings_come_is_no_matter(
    values: list[float], gaps: list[int], limits: Limits, chance: random.Random
) -> None:
    samples = spread(values, gaps)
    shuffled = list(samples)
    chance.shuffle(shuffled)
    assert follow(START, shuffled, limits) == follow(START, samples, limits)


@given(values, gaps, limits_, st.integers(0, 40))
def test_settling_some_of_the_past_changes_nothing(
    values: list[float], gaps: list[int], limits: Limits, cut: int
) -> None:
    samples = spread(values, gaps)
    assert follow(follow(START, samples[:cut], limits), samples[cut:], limits) == follow(START, samples, limits)


@given(values, gaps, limits_)
def test_it_never_flaps(values: list[float], gaps: list[int], limits: Limits) -> None:
    """Between two changes lie readings, without a gap and for as long as asked, that all say the second one."""
    state, run = START, list[Sample]()
    for sample in spread(values, gaps):
        before, state = state, told(state, sample, limits)
        says_so = limits.is_clearing if before.is_raised else limits.is_raising
        is_gap = bool(run) and sample.at - run[-1].at > limits.silent_after
        run = [*([] if is_gap else run), sample] if says_so(sample.value) else []
        if before.is_raised != state.is_raised:
            assert run[-1].at - run[0].at >= limits.hold
            assert state.since is not None
            assert state.since >= run[0].at
            run = []


def raised(number: int, *, last: float) -> Sensor:
    return a_sensor(number, SensorState(is_raised=True, last_at=at(last), last_value=5))


def calm(number: int, *, last: float) -> Sensor:
    return a_sensor(number, SensorState(last_at=at(last), last_value=1))


@pytest.mark.parametrize(
    ("sensors", "quorum", "was", "expected"),
    [
        pytest.param([raised(1, last=59)], 1, False, (True, False), id="one is enough"),
        pytest.param([raised(1, last=59), calm(2, last=59)], 2, False, (False, False), id="two must agree"),
        pytest.param([raised(1, last=59), raised(2, last=58)], 2, False, (True, False), id="and do"),
        pytest.param(
            [raised(1, last=59), raised(2, last=10)], 2, False, (False, True), id="a silent one does not help"
        ),
        pytest.param([raised(1, last=59), raised(2, last=10)], 2, True, (True, True), id="nor does its silence clear"),
        pytest.param([raised(1, last=10)], 1, False, (False, True), id="old news raise nothing"),
        pytest.param([calm(1, last=59), raised(2, last=10)], 2, True, (False, True), id="a calm one clears"),
        pytest.param([], 1, False, (False, True), id="without sensors it is blind"),
        pytest.param([calm(1, last=59), calm(2, last=1)], 1, False, (False, False), id="one of two is enough to see"),
    ],
)
def test_how_a_rule_stands(sensors: list[Sensor], quorum: int, was: bool, expected: tuple[bool, bool]) -> None:
    found = stand(sensors, some_limits(), quorum, is_raised=was, now=at(60))
    assert (found.is_raised, found.is_blind) == expected


@given(st.integers(0, 500))
def test_a_sensor_is_waited_for_before_it_counts_as_silent(minutes: int) -> None:
    sensor = a_sensor(joined=0)
    assert sensor.is_silent(some_limits(), now=at(minutes)) is (minutes > 5)
    heard = replace(sensor, state=SensorState(last_at=at(-100)))
    assert heard.is_silent(some_limits(), now=at(minutes)) is (minutes > 5)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 90)), max_size=8), st.integers(1, 4), st.booleans())
def test_time_alone_raises_and_clears_nothing(told_by: list[tuple[bool, int]], quorum: int, was: bool) -> None:
    sensors = [
        a_sensor(number, SensorState(is_raised=is_raised, last_at=at(minute), last_value=0))
        for number, (is_raised, minute) in enumerate(told_by)
    ]
    first = stand(sensors, some_limits(), quorum, is_raised=was, now=at(90))
    later = stand(sensors, some_limits(), quorum, is_raised=first.is_raised, now=at(10_000))
    assert later.is_raised is first.is_raised
    assert later.is_blind
