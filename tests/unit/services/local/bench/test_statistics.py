"""What is made of series of measurements."""

import pytest

from services.local.bench.statistics import Progress, percentile, ratio, slope


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


def a_progress(*steps: tuple[float, int]) -> Progress:
    progress = Progress()
    for at, count in steps:
        progress.note(at, count)
    return progress


def test_a_rate_goes_from_step_to_step() -> None:
    # 5,000 every half second, seen from a window that holds five steps, and from one that holds four of them.
    progress = a_progress(*((step / 2, 5_000 * step) for step in range(10)))

    assert progress.rate(0.9, 3.1) == pytest.approx(10_000)
    assert progress.rate(1.1, 3.1) == pytest.approx(10_000)


def test_what_does_not_change_is_no_step() -> None:
    progress = a_progress((0, 0), (1, 0), (2, 100), (3, 100), (4, 300))

    assert progress.steps == [(0, 0), (2, 100), (4, 300)]


def test_a_window_with_one_step_has_no_rate() -> None:
    assert a_progress((0, 0), (10, 100)).rate(5, 15) is None
    assert a_progress().rate(0, 10) is None


@pytest.mark.parametrize(
    ("value", "base", "expected"), [(50.0, 40.0, 1.25), (None, 40.0, None), (50.0, None, None), (50.0, 0.0, None)]
)
def test_ratio(value: float | None, base: float | None, expected: float | None) -> None:
    assert ratio(value, base) == expected
