"""Loops that take turns: woken by somebody, at the latest after a while, for ever.

A turn that meets an outage is counted and taken again; anything else it raises is a bug and ends the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from services.control.metrics import ControlMetrics
from services.shared.database.errors import DatabaseError
from services.shared.database.listener import listen
from services.shared.settings import DatabaseSettings

# How long to leave a database alone that has just failed us; doubled up to the longest wait.
FIRST_WAIT = timedelta(seconds=0.5)
LONGEST_WAIT = timedelta(seconds=15)

log = logging.getLogger(__name__)


async def take_turns(
    name: str,
    turn: Callable[[], Awaitable[bool]],
    *,
    every: timedelta,
    wake: asyncio.Event,
    metrics: ControlMetrics,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Call `turn` whenever `wake` is set, and at least `every` so often; at once again when it says there is more.

    Between two turns it asks whether `is_over`, and returns when it is.
    """
    wait = FIRST_WAIT
    while not is_over():
        # Cleared before the turn: who wakes us during the turn may have come too late for it.
        wake.clear()
        try:
            has_more = await turn()
        except DatabaseError as error:
            metrics.loop_failures.labels(name).inc()
            log.warning("turn_failed", extra={"loop": name, "error": type(error).__name__, "reason": str(error)})
            await asyncio.sleep(wait.total_seconds())
            wait = min(wait * 2, LONGEST_WAIT)
            continue
        wait = FIRST_WAIT
        if not has_more:
            await wait_for(wake, at_most=every)


async def wait_for(wake: asyncio.Event, *, at_most: timedelta) -> None:
    """Return when `wake` is set, or after a while."""
    try:
        async with asyncio.timeout(at_most.total_seconds()):
            await wake.wait()
    except TimeoutError:
        pass


async def take_turns_listening(
    name: str,
    turn: Callable[[], Awaitable[bool]],
    *,
    every: timedelta,
    listening: DatabaseSettings,
    channels: Sequence[str],
    metrics: ControlMetrics,
) -> None:
    """`take_turns`, woken by notifications of the database. Runs until cancelled."""
    wake = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(listen(listening, channels, lambda *_: wake.set(), application=f"control-{name}"))
        group.create_task(take_turns(name, turn, every=every, wake=wake, metrics=metrics))
