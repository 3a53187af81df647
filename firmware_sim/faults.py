"""Bad luck, as arithmetic: what becomes of messages and downloads on a bad line, and when lines, mains and clocks fail.

Pure: the random draws are arguments (numbers in [0, 1), in the order they are used), so a flaky network is a table in a
test and a seed in a scenario.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from firmware_sim import effects, inputs

MessageT = TypeVar("MessageT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFaults:
    """Probabilities, per message, of losing, doubling and delaying it, and of the link breaking after it.

    The same in both directions: a message towards the device is lost behind the broker's back, as by a modem that
    acknowledges what it then has no room for.
    """

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
class Later(Generic[MessageT]):
    """A message that gets through after a delay; 0 is now."""

    message: MessageT
    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakLink:
    """The link breaks."""


def disturb(
    wanted: Iterable[MessageT], faults: LineFaults, draws: Iterator[float]
) -> tuple[Later[MessageT] | BreakLink, ...]:
    """What really happens to these messages on a bad line."""
    if faults.is_harmless:
        return tuple(Later(message=message) for message in wanted)
    happening: list[Later[MessageT] | BreakLink] = []
    for message in wanted:
        # Four draws for every message, used or not, so that one fault does not shift the fate of all later messages.
        lost, doubled, delayed, broken = (next(draws) for _ in range(4))
        if lost >= faults.drop:
            delay_ms = 0
            if delayed < faults.delay:
                delay_ms = round(faults.delay_max_ms * delayed / faults.delay)
            happening.append(Later(message=message, delay_ms=delay_ms))
            if doubled < faults.duplicate:
                happening.append(Later(message=message, delay_ms=delay_ms))
        if broken < faults.disconnect:
            happening.append(BreakLink())
    return tuple(happening)


def spoil(fetch: effects.Fetch, *, share: float, draw: float) -> effects.Fetch | inputs.MediaFailed:
    """What becomes of a download of which `share` bring nothing."""
    if draw >= share:
        return fetch
    return inputs.MediaFailed(sha256=fetch.media.sha256, detail="the line broke before the first byte")


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


def within_ms(bound_ms: int, draw: float) -> int:
    """A number of milliseconds between -`bound_ms` and `bound_ms`: how far a clock jumps, or is set wrong."""
    return round(bound_ms * (2 * draw - 1))


def _exponential_ms(mean_s: float, draw: float) -> int:
    return max(1, round(-mean_s * 1_000 * math.log1p(-draw)))
