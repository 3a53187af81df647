"""LISTEN on a connection of its own, for ever: notifications wake somebody, and so does every reconnection.

NOTIFY is a doorbell, not a letter: what is sent while the connection is down is lost. So whoever is woken reads the
tables again, and is woken once after each (re)connection too.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from services.shared.database.errors import DatabaseError
from services.shared.database.pool import connect
from services.shared.settings import DatabaseSettings

RECONNECT_AFTER = timedelta(seconds=1)
# A half-dead connection (a firewall that forgot it) raises nothing by itself, so it is asked now and then.
CHECK_EVERY = timedelta(seconds=20)

log = logging.getLogger(__name__)


async def listen(
    settings: DatabaseSettings,
    channels: Sequence[str],
    wake: Callable[[str, str | None], None],
    *,
    application: str,
) -> None:
    """Call `wake(channel, payload)` per notification, and `wake(channel, None)` after each (re)connection.

    Runs until cancelled. Outages are logged and outlived; anything else is a bug and passes through.
    """
    while True:
        try:
            await _listen_once(settings, channels, wake, application)
        except DatabaseError as error:
            log.warning("listener_disconnected", extra={"channels": list(channels), "reason": str(error)})
        await asyncio.sleep(RECONNECT_AFTER.total_seconds())


async def _listen_once(
    settings: DatabaseSettings, channels: Sequence[str], wake: Callable[[str, str | None], None], application: str
) -> None:
    async with connect(settings, application=application) as connection:
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: ended.set())

        def notified(_connection: object, _pid: int, channel: str, payload: object) -> None:
            wake(channel, str(payload))

        for channel in channels:
            await connection.add_listener(channel, notified)
        log.info("listener_connected", extra={"channels": list(channels)})
        for channel in channels:
            wake(channel, None)
        while not ended.is_set():
            try:
                async with asyncio.timeout(CHECK_EVERY.total_seconds()):
                    await ended.wait()
            except TimeoutError:
                await connection.fetchval("SELECT 1", timeout=CHECK_EVERY.total_seconds())
