"""A device's own clock: it drifts, is set, loses its time and knows how far to trust itself.

Pure: the true time is an argument. Instants are milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.fields import ClockState


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An instant as a device sees it: its clock, what it thinks of its clock, and the time since it started.

    Intervals and deadlines count on `uptime_ms`, which no setting of the clock moves.
    """

    at_ms: int
    clock: ClockState
    uptime_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftingClock:
    """A clock that showed `shown_ms` at the true time `set_at_ms` and has gained `ppm` millionths since."""

    set_at_ms: int
    shown_ms: int
    ppm: float = 0.0
    state: ClockState = ClockState.SYNCHRONISED

    @property
    def speed(self) -> float:
        """Seconds the clock counts in one true second."""
        return 1.0 + self.ppm / 1_000_000

    def read(self, true_ms: int) -> int:
        """What the clock shows at `true_ms`, never before 1970."""
        return max(0, self.shown_ms + round((true_ms - self.set_at_ms) * self.speed))

    def synchronised(self, true_ms: int, *, error_ms: int = 0) -> DriftingClock:
        """The clock after it was set from the network, off by `error_ms`."""
        return replace(self, set_at_ms=true_ms, shown_ms=true_ms + error_ms, state=ClockState.SYNCHRONISED)

    def stepped(self, true_ms: int, *, by_ms: int) -> DriftingClock:
        """The clock after something moved it by `by_ms`; what it thinks of itself stays."""
        return replace(self, set_at_ms=true_ms, shown_ms=max(0, self.read(true_ms) + by_ms))

    def in_state(self, true_ms: int, state: ClockState) -> DriftingClock:
        """The clock with another opinion of itself, showing the same time."""
        return replace(self, set_at_ms=true_ms, shown_ms=self.read(true_ms), state=state)


def lost(true_ms: int, *, ppm: float = 0.0) -> DriftingClock:
    """A clock without battery after a power cut: it begins in 1970 and knows that it knows nothing."""
    return DriftingClock(set_at_ms=true_ms, shown_ms=0, ppm=ppm, state=ClockState.UNSYNCHRONISED)
