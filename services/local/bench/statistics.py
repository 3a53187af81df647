"""What series of measurements say. Pure; instants are seconds on one monotonic clock."""

from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return the smallest of the ascending values that at least `percent` of all are not above; None of nothing."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def rise(points: Sequence[tuple[float, float]]) -> float | None:
    """Return how fast (a second) the floor of `points`, ascending in time, rises; None of fewer than six.

    The floor is the least of the first third, and of the last. A line through all points would follow what comes and goes:
    a backlog moves up and down by a batch, and a pause of a second near the end, soon made up for, tilts the line. What
    is really too much does not come down again, and lifts the floor.
    """
    third = len(points) // 3
    if third < 2:
        return None
    first, last = points[:third], points[-third:]
    middle = (last[0][0] + last[-1][0] - first[0][0] - first[-1][0]) / 2
    return (min(y for _, y in last) - min(y for _, y in first)) / middle if middle > 0 else None


def ratio(value: float | None, base: float | None, *, digits: int = 2) -> float | None:
    """Return `value` in terms of `base`; None where one of them was not measured."""
    return round(value / base, digits) if value is not None and base else None


def rounded(value: float | None) -> float | None:
    """Return `value` with one digit; None where nothing was measured."""
    return None if value is None else round(value, 1)


def percentiles(ordered: Sequence[float]) -> dict[str, float | None]:
    """Return what a report says of the ascending milliseconds of a measurement."""
    return {
        "p50_ms": rounded(percentile(ordered, 50)),
        "p99_ms": rounded(percentile(ordered, 99)),
        "max_ms": rounded(ordered[-1] if ordered else None),
    }
