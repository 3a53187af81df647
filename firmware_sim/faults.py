"""A bad uplink, as arithmetic: what becomes of messages on their way out, and when links and mains fail.

Pure: the random draws are arguments (numbers in [0, 1), in the order they are used), so a flaky network is a table in a
test and a seed in a scenario.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from firmware_sim import effects


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkFaults:
    """Probabilities, per message, of losing, doubling and delaying it, and of the link breaking after it."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_max_ms: int = 0
    disconnect: float = 0.0

    @property
    def is_harmless(self) -> bool:
        """Whether nothing can go wrong."""
        return not (self.drop or self.duplicate or self.delay or self.disconnect)


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A message to publish after a delay; 0 is now."""

    publish: effects.Publish
    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakLink:
    """The link breaks."""


def disturb(
    wanted: Iterable[effects.Publish], faults: UplinkFaults, draws: Iterator[float]
) -> tuple[Later | BreakLink, ...]:
    """What really happens to these publishes on a bad uplink."""
    if faults.is_harmless:
        return tuple(Later(publish=publish) for publish in wanted)
    happening: list[Later | BreakLink] = []
    for publish in wanted:
        # Four draws for every message, used or not, so that one fault does not shift the fate of all later messages.
        lost, doubled, delayed, broken = (next(draws) for _ in range(4))
        if lost >= faults.drop:
            delay_ms = 0
            if delayed < faults.delay:
                delay_ms = round(faults.delay_max_ms * delayed / faults.delay)
            happening.append(Later(publish=publish, delay_ms=delay_ms))
            if doubled < faults.duplicate:
                happening.append(Later(publish=publish, delay_ms=delay_ms))
        if broken < faults.disconnect:
            happening.append(BreakLink())
    return tuple(happening)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """Something that comes and goes: exponential gaps and lengths with these means, in seconds."""

    mean_gap_s: float
    mean_length_s: float

    def next_gap_ms(self, draw: float) -> int:
        """How long until the next episode."""
        return _exponential_ms(self.mean_gap_s, draw)

    def next_length_ms(self, draw: float) -> int:
        """How long it lasts."""
        return _exponential_ms(self.mean_length_s, draw)


def _exponential_ms(mean_s: float, draw: float) -> int:
    return max(1, round(-mean_s * 1_000 * math.log1p(-draw)))
