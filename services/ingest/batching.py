"""When a batch is due, and how one is cut in two. Instants are seconds on the loop's monotonic clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """A batch is due when it has `size` messages, or when its first has waited `age_s` seconds."""

    size: int
    age_s: float


def seconds_left(count: int, opened_at: float, *, now: float, limits: BatchLimits) -> float | None:
    """Return how long a batch of `count` messages may still wait: 0 when it is due, None when there is nothing in it."""
    if count == 0:
        return None
    if count >= limits.size:
        return 0.0
    return max(0.0, opened_at + limits.age_s - now)


def halves(batch: Sequence[ItemT]) -> tuple[Sequence[ItemT], Sequence[ItemT]]:
    """Return `batch` in two parts, neither of them empty; the caller has at least two items."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]
