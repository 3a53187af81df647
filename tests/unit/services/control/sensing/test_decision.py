"""A turn settles what is old, begins and ends alarms, and proposes at most one alert at a time."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.planning.model import DeviceNo
from services.control.sensing.decision import Allowed, Proposed, Watched, decide, is_releasable
from services.control.sensing.rule import Sample, SensorState
from tests.unit.services.control.sensing.builders import a_minute_apart, a_rule, a_sensor, at, readings, some_limits

ONE = DeviceNo(1)
FLOOD = a_minute_apart([4, 4, 4, 4])


def watched(samples: list[Sample] | None = None, **changes: Any) -> Watched:
    values: dict[str, Any] = {
        "rule": a_rule(),
        "sensors": (a_sensor(1),),
        "samples": {ONE: samples or []},
        "is_whole": True,
        "is_raised": False,
        "is_blind": False,
        "proposed": Proposed(),
    }
    return Watched(**(values | changes))


def test_what_raises_an_alarm_is_settled_so_that_nothing_late_undoes_it() -> None:
    steps = decide(watched(FLOOD), now=at(3.1))
    assert (steps.raises, steps.proposes) == (True, True)
    (settled,) = steps.settled
    assert (settled.until, settled.state.is_raised) == (at(3), True)

    after = watched([*FLOOD, Sample(at(1.5), 1.0)], sensors=(a_sensor(1, settled.state),), is_raised=True)
    unsettled = [each for each in after.samples[ONE] if each.at > settled.until]
    assert decide(replace(after, samples={ONE: unsettled}), now=at(3.2)).clears is False


def test_old_readings_of_an_outage_of_ours_raise_nothing() -> None:
    steps = decide(watched(FLOOD), now=at(600))
    assert (steps.raises, steps.proposes, steps.goes_blind) == (False, False, True)
    assert steps.settled[0].state.is_raised


def test_while_there_is_more_to_read_nothing_is_judged() -> None:
    steps = decide(watched(FLOOD, is_whole=False), now=at(3.1))
    assert steps.standing is None
    assert not steps.raises
    assert steps.settled[0].until == at(3)


def test_a_turn_with_nothing_new_writes_nothing() -> None:
    assert decide(watched(a_minute_apart([1, 1, 1, 1])), now=at(3.1)).is_nothing


def test_readings_are_settled_seldom_and_only_when_nothing_can_come_before_them() -> None:
    calm = a_minute_apart([1.0] * 31)
    assert decide(watched(calm[:20]), now=at(19)).settled == ()
    (settled,) = decide(watched(calm), now=at(30)).settled
    assert settled.until == at(20)
    assert settled.state.last_at == at(20)


@pytest.mark.parametrize(
    ("proposed", "rule", "is_raised", "expected"),
    [
        pytest.param(Proposed(), a_rule(), False, True, id="the first time"),
        pytest.param(Proposed(), a_rule(template_id=None), False, False, id="an alarm only"),
        pytest.param(Proposed(is_open=True, newest_at=at(-500)), a_rule(), False, False, id="never two at a time"),
        pytest.param(Proposed(newest_at=at(-30)), a_rule(), False, False, id="not so soon again"),
        pytest.param(Proposed(newest_at=at(-90)), a_rule(), False, True, id="after the cool-down"),
        pytest.param(Proposed(newest_at=at(-90)), a_rule(), True, True, id="again when nobody decided in time"),
        pytest.param(Proposed(is_answered=True, newest_at=at(-90)), a_rule(), True, False, id="not what was refused"),
        pytest.param(
            Proposed(newest_at=at(0)), a_rule(cool_down=timedelta(0)), False, True, id="without a cool-down at once"
        ),
    ],
)
def test_when_an_alert_is_proposed(proposed: Proposed, rule: Any, is_raised: bool, expected: bool) -> None:
    state = SensorState(is_raised=True, last_at=at(3), last_value=5.0)
    case = watched([], rule=rule, is_raised=is_raised, proposed=proposed, sensors=(a_sensor(1, state),))
    assert decide(case, now=at(3.1)).proposes is expected


@given(
    st.lists(st.floats(0, 8, allow_nan=False), min_size=1, max_size=60),
    st.lists(st.integers(0, 8), min_size=60, max_size=60),
    st.randoms(use_true_random=False),
)
def test_late_readings_end_where_punctual_ones_do(
    values: list[float], delays: list[int], chance: random.Random
) -> None:
    """Turn by turn, with readings up to eight minutes late: the sensor ends as if all had come in order.

    With a hold that no run is long enough for, so that nothing is decided and nothing cut off in between.
    """
    rule = a_rule(some_limits(hold=timedelta(days=1)))
    samples = a_minute_apart(values)
    arrivals = sorted(
        (
            (each.at + timedelta(minutes=delay), chance.random(), each)
            for each, delay in zip(samples, delays, strict=False)
        ),
        key=lambda each: each[:2],
    )
    sensor, unsettled, settled_until = a_sensor(1), [], at(-1)
    for arrived_at, _, sample in arrivals:
        unsettled.append(sample)
        seen = [each for each in unsettled if each.at > settled_until]
        case = watched(seen, rule=rule, sensors=(sensor,), is_blind=True)
        for each in decide(case, now=arrived_at).settled:
            sensor, settled_until = replace(sensor, state=each.state), each.until
    seen = [each for each in unsettled if each.at > settled_until]
    standing = decide(watched(seen, rule=rule, sensors=(sensor,), is_blind=True), now=at(70)).standing
    in_order = decide(watched(samples, rule=rule, is_blind=True), now=at(70)).standing
    assert standing == in_order


def test_a_clock_a_little_ahead_does_not_blind_the_rule() -> None:
    steps = decide(watched(readings((0, 4), (1, 4), (2, 4), (3.5, 4))), now=at(3))
    assert (steps.raises, steps.goes_blind) == (True, False)


# --- released without asking -----------------------------------------------------------------------------------------


def allowed(samples: list[Sample], *, since: float = -60, sensor: DeviceNo = ONE) -> Allowed:
    return Allowed(since=at(since), signed={sensor: samples})


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        pytest.param(None, False, id="nobody allowed it"),
        pytest.param(allowed(FLOOD), True, id="all of it is signed"),
        pytest.param(allowed([]), False, id="none of it is signed"),
        pytest.param(allowed(FLOOD[:3]), False, id="not for long enough"),
        pytest.param(allowed(a_minute_apart([4, 4, 3, 4])), False, id="what is signed says otherwise"),
        pytest.param(allowed(FLOOD, sensor=DeviceNo(2)), False, id="another sensor has signed"),
    ],
)
def test_what_is_proposed_is_released_when_signed_readings_alone_raise_the_rule(
    by: Allowed | None, expected: bool
) -> None:
    steps = decide(watched(FLOOD, allowed=by), now=at(3.1))
    assert (steps.proposes, steps.releases) == (True, expected)


@pytest.mark.parametrize(
    ("proposed", "since", "expected"),
    [
        pytest.param(Proposed(is_open=True, newest_at=at(1)), 0, True, id="it waits"),
        pytest.param(Proposed(is_open=True, newest_at=at(1)), 2, False, id="it was proposed before it was allowed"),
        pytest.param(Proposed(is_answered=True, newest_at=at(1)), 0, False, id="a person has answered"),
        pytest.param(Proposed(newest_at=at(1)), 0, False, id="it ran out, and the next may not come yet"),
    ],
)
def test_what_waits_is_released_as_soon_as_signed_readings_say_the_same(
    proposed: Proposed, since: float, expected: bool
) -> None:
    state = SensorState(is_raised=True, last_at=at(3), last_value=5.0)
    case = watched(
        [], is_raised=True, proposed=proposed, sensors=(a_sensor(1, state),), allowed=allowed(FLOOD, since=since)
    )
    steps = decide(case, now=at(3.1))
    assert (steps.proposes, steps.releases) == (False, expected)
    assert steps.is_nothing is not expected


def test_what_was_signed_before_a_long_silence_releases_nothing_however_much_is_said_unsigned() -> None:
    state = SensorState(is_raised=True, last_at=at(9), last_value=5.0)
    waiting = Proposed(is_open=True, newest_at=at(8))
    case = watched(
        [], is_raised=True, proposed=waiting, sensors=(a_sensor(1, state, joined=8),), allowed=allowed(FLOOD)
    )
    assert not decide(case, now=at(9)).releases  # silent for more than five minutes, by its own hand


@pytest.mark.parametrize(
    ("samples", "changes", "expected"),
    [
        pytest.param(FLOOD, {}, True, id="it proposes now"),
        pytest.param(FLOOD[:3], {}, False, id="it is not raised"),
        pytest.param(FLOOD, {"is_whole": False}, False, id="there is more to read"),
        pytest.param(
            FLOOD, {"is_raised": True, "proposed": Proposed(is_open=True, newest_at=at(1))}, True, id="it waits"
        ),
        pytest.param(
            FLOOD, {"is_raised": True, "proposed": Proposed(is_answered=True)}, False, id="a person has answered"
        ),
    ],
)
def test_who_signed_matters_only_where_something_is_proposed(
    samples: list[Sample], changes: dict[str, Any], expected: bool
) -> None:
    case = watched(samples, **changes)
    if changes.get("is_raised"):
        case = replace(case, sensors=(a_sensor(1, SensorState(is_raised=True)),))
    assert is_releasable(case, now=at(3.1)) is expected
