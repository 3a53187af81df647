"""Keeps the numbers of the quarantine inbox, and forgets decisions about what ingest has forgotten."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from services.control import quarantine_store
from services.control.metrics import ControlMetrics
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.pool import Database

COUNT_EVERY = timedelta(seconds=30)
FORGET_EVERY = timedelta(hours=1)


async def run_quarantine_keeper(database: Database, *, metrics: ControlMetrics) -> None:
    """Count and forget until cancelled."""
    keeper = QuarantineKeeper(database, metrics=metrics)
    await take_turns(
        "quarantine",
        lambda: keeper.turn(now=utc_now()),
        every=COUNT_EVERY,
        wake=asyncio.Event(),
        metrics=metrics,
    )


class QuarantineKeeper:
    """One keeper of one process."""

    def __init__(self, database: Database, *, metrics: ControlMetrics) -> None:
        self._database = database
        self._metrics = metrics
        self._reasons: set[str] = set()
        self._forgot_at: datetime | None = None

    async def turn(self, *, now: datetime) -> bool:
        """Count what is open; now and then forget. There is never more to do at once."""
        async with self._database.connection() as connection:
            counts = await quarantine_store.counts(connection)
            if self._forgot_at is None or now - self._forgot_at >= FORGET_EVERY:
                await quarantine_store.forget(connection)
                self._forgot_at = now
        open_now = {each.reason: each.inmates for each in counts}
        self._reasons |= open_now.keys()
        for reason in self._reasons:  # one that is worked off says 0, and does not vanish
            self._metrics.quarantine_inbox.labels(reason).set(open_now.get(reason, 0))
        oldest = min((each.oldest_at for each in counts), default=now)
        self._metrics.quarantine_oldest_seconds.set(max(0.0, (now - oldest).total_seconds()))
        return False
