"""How often somebody may ask: token buckets by key, so many keys at most. Pure; time is passed."""

from __future__ import annotations

from collections import OrderedDict

# A bucket that has not been touched for longer than others is forgotten, and with it what was taken.
MOST_KEYS = 50_000
# What may come at once is what may come within so many seconds.
BURST_S = 10


class RateLimit:
    """Lets `per_minute` requests through for each key, and a burst; 0 lets everything through."""

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60
        self._room = max(1.0, self._rate * BURST_S)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str, *, now: float) -> float:
        """Take one request of this key: 0 when it may be made, else the seconds after which one may."""
        if not self._rate:
            return 0.0
        left, at = self._buckets.pop(key, (self._room, now))
        left = min(self._room, left + (now - at) * self._rate)
        is_let_through = left >= 1.0
        self._buckets[key] = (left - 1.0 if is_let_through else left, now)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        return 0.0 if is_let_through else (1.0 - left) / self._rate
