"""What is made of series of measurements."""

import pytest

from services.local.bench.statistics import percentile, percentiles, ratio, rise


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile(range(1, 101), percent) == value


def test_few_values_have_percentiles_too() -> None:
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([], 50) is None


def test_a_report_holds_three_figures_with_one_digit() -> None:
    assert percentiles([1.04, 2.06, 3.0]) == {"p50_ms": 2.1, "p99_ms": 3.0, "max_ms": 3.0}
    assert percentiles([]) == dict.fromkeys(("p50_ms", "p99_ms", "max_ms"))


SAW = [(float(at), 1_000.0 * (at % 5)) for at in range(30)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param([(float(at), 5.0) for at in range(9)], 0, id="flat"),
        pytest.param([(float(at), 7.0 + 100 * at) for at in range(9)], 100, id="growing"),
        pytest.param([(float(at), 700.0 - 100 * at) for at in range(6)], -100, id="shrinking"),
        pytest.param(SAW, 0, id="batches"),
        pytest.param([(at, size + 50 * at) for at, size in SAW], 50, id="batches_that_grow"),
        pytest.param([*SAW[:26], (26.0, 9_000.0), (27.0, 9_000.0), *SAW[28:]], 0, id="a_pause_near_the_end"),
        pytest.param([(1.0, 1.0)] * 5, None, id="too_few"),
        pytest.param([(1.0, 1.0)] * 6, None, id="one_instant"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_the_floor_rises_or_not(points: list[tuple[float, float]], expected: float | None) -> None:
    assert rise(points) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("value", "base", "expected"), [(50.0, 40.0, 1.25), (None, 40.0, None), (50.0, None, None), (50.0, 0.0, None)]
)
def test_ratio(value: float | None, base: float | None, expected: float | None) -> None:
    assert ratio(value, base) == expected
