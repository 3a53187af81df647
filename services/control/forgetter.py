"""Drops what nobody will ask for again: sessions and tokens long over, old failures, old answers, secrets never confirmed.

A little at a time, so that a day with a million of them locks nobody out; what was done is in the audit, which stays.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from services.control import account_store, idempotency_store, second_factor_store
from services.control.idempotency import KEPT
from services.control.metrics import ControlMetrics
from services.control.throttle import FORGOTTEN_AFTER
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.pool import Database

EVERY = timedelta(hours=1)
AT_ONCE = 1_000
OVER_FOR = timedelta(days=30)  # long enough to look up where a session of last month came from
UNCONFIRMED_FOR = timedelta(days=1)


async def run_forgetter(database: Database, *, metrics: ControlMetrics) -> None:
    """Forget until cancelled."""
    await take_turns(
        "forgetter", lambda: forget(database, now=utc_now()), every=EVERY, wake=asyncio.Event(), metrics=metrics
    )


async def forget(database: Database, *, now: datetime) -> bool:
    """Drop some of what is old; returns whether there may be more of it."""
    async with database.transaction() as connection:
        dropped = await account_store.forget_what_is_over(connection, before=now - OVER_FOR, at_most=AT_ONCE)
        await account_store.forget_failures(connection, before=now - FORGOTTEN_AFTER)
        await second_factor_store.forget_unconfirmed(connection, before=now - UNCONFIRMED_FOR)
        await idempotency_store.forget(connection, before=now - KEPT, at_most=AT_ONCE)
    return dropped >= AT_ONCE
