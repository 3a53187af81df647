"""What is made of series of measurements."""

import pytest

from services.local.bench.statistics import percentile, ratio, slope


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile(range(1, 101), percent) == value


def test_few_values_have_percentiles_too() -> None:
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([], 50) is None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param([(0, 5), (1, 5), (2, 5)], 0, id="flat"),
        pytest.param([(10, 0), (11, 100), (12, 200)], 100, id="growing"),
        pytest.param([(0, 30), (1, 0), (2, 30), (3, 0)], -6, id="to_and_fro"),
        pytest.param([(1, 1)], None, id="one_point"),
        pytest.param([(1, 1), (1, 2)], None, id="one_instant"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_slope(points: list[tuple[float, float]], expected: float | None) -> None:
    assert slope(points) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("value", "base", "expected"), [(50.0, 40.0, 1.25), (None, 40.0, None), (50.0, None, None), (50.0, 0.0, None)]
)
def test_ratio(value: float | None, base: float | None, expected: float | None) -> None:
    assert ratio(value, base) == expected
