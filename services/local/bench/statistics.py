"""What series of measurements say. Pure; instants are seconds on one monotonic clock."""

from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return the smallest of the ascending values that at least `percent` of all are not above; None of nothing."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the slope of the straight line nearest (least squares) to `points`; None where there is none."""
    if len(points) < 2:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else None


def ratio(value: float | None, base: float | None, *, digits: int = 2) -> float | None:
    """Return `value` in terms of `base`; None where one of them was not measured."""
    return round(value / base, digits) if value is not None and base else None
