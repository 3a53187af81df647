"""The times of the configuration's fallback: what a device sounds when its plan has run out (R-26).

They are seconds of the UTC day, the same every day.
"""

from __future__ import annotations

from schemas.configuration import Fallback

_DAY_MS = 86_400_000


def latest_ms(fallback: Fallback, now_ms: int) -> int:
    """The newest of the fallback's instants that is not after `now_ms`."""
    day_ms = now_ms // _DAY_MS * _DAY_MS
    begun = [at_s for at_s in fallback.at_s if day_ms + 1_000 * at_s <= now_ms]
    return day_ms + 1_000 * max(begun) if begun else day_ms - _DAY_MS + 1_000 * max(fallback.at_s)


def next_ms(fallback: Fallback, now_ms: int) -> int:
    """The first of the fallback's instants after `now_ms`."""
    day_ms = now_ms // _DAY_MS * _DAY_MS
    later = [at_s for at_s in fallback.at_s if day_ms + 1_000 * at_s > now_ms]
    return day_ms + 1_000 * min(later) if later else day_ms + _DAY_MS + 1_000 * min(fallback.at_s)
