"""How long to wait before the next attempt: doubling, bounded, and spread so that a fleet does not march in step."""

from __future__ import annotations


def delay_ms(attempt: int, *, base_ms: int, cap_ms: int, draw: float) -> int:
    """The wait before attempt `attempt` (1 is the first repetition), between half of the doubled base and all of it.

    `draw` lies in [0, 1) and is the caller's: a random draw for connections, a property of the device for the rest.
    """
    # 2**40 is far above every cap; without the bound the power itself would grow without end.
    full = min(cap_ms, base_ms << min(max(attempt - 1, 0), 40))
    return max(1, round(full * (0.5 + 0.5 * draw)))
