"""What series of measurements say. Pure; instants are seconds on one monotonic clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field


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


@dataclass(slots=True)
class Progress:
    """A count that grew in steps: what it was at each instant it changed, in order."""

    steps: list[tuple[float, int]] = field(default_factory=list)

    def note(self, at: float, count: int) -> None:
        """Take down that the count is `count` at `at`, if that is news."""
        if not self.steps or self.steps[-1][1] != count:
            self.steps.append((at, count))

    def rate(self, begin: float, end: float) -> float | None:
        """Return the growth per second within a window; None where it is too short to tell.

        From step to step: one that only just falls inside a window or out of it (a batch is thousands) would otherwise
        make the rate look better or worse than it is.
        """
        inside = [step for step in self.steps if begin <= step[0] <= end]
        if len(inside) < 2 or inside[-1][0] == inside[0][0]:
            return None
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def ratio(value: float | None, base: float | None, *, digits: int = 2) -> float | None:
    """Return `value` in terms of `base`; None where one of them was not measured."""
    return round(value / base, digits) if value is not None and base else None
