"""The security log of a process: takes events at once, and hands them to every sink without holding anybody up.

What is answered to a request is *noted*: kept in a bounded queue for each sink, and counted when there is no room. What
stands in the database is *followed* by a position for each sink, which moves only when the sink has taken it: so it is
told at least once, however long the sink was away, by one replica at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.control.engine_settings import SecurityLogSettings
from services.control.metrics import ControlMetrics
from services.control.security import events, position_store
from services.control.security.events import SecurityEvent
from services.control.security.sinks import FileSink, Sink, SinkUnavailable, SyslogSink
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.pool import Database

TURN_EVERY = timedelta(seconds=1)
TRY_AGAIN = timedelta(seconds=1)
BATCH = 200

log = logging.getLogger(__name__)


class SecurityLog:
    """Where events are noted; without sinks nothing is kept."""

    def __init__(self, sinks: Sequence[Sink] = (), *, room: int = 1_000, metrics: ControlMetrics | None = None) -> None:
        self._metrics = metrics
        self._channels = tuple(_Channel(sink, room=room, metrics=metrics) for sink in sinks)

    def note(self, event: SecurityEvent) -> None:
        """Tell every sink, later; never waits."""
        for channel in self._channels:
            channel.note(event)

    async def run(self, database: Database, metrics: ControlMetrics) -> None:
        """Hand over until cancelled."""
        async with asyncio.TaskGroup() as group:
            for channel in self._channels:
                group.create_task(channel.hand_over())
                group.create_task(
                    take_turns(
                        f"security_{channel.sink.name}",
                        lambda channel=channel: channel.follow_once(database, now=utc_now()),  # type: ignore[misc]
                        every=TURN_EVERY,
                        wake=asyncio.Event(),
                        metrics=metrics,
                    )
                )

    async def close(self) -> None:
        """Let go of what sinks hold open."""
        for channel in self._channels:
            await channel.sink.close()


class _Channel:
    """One sink, and what waits for it."""

    def __init__(self, sink: Sink, *, room: int, metrics: ControlMetrics | None) -> None:
        self.sink = sink
        self._queue: asyncio.Queue[SecurityEvent] = asyncio.Queue(room)
        self._metrics = metrics
        self._dropped = 0
        self._is_down = False

    def note(self, event: SecurityEvent) -> None:
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._dropped += 1
            if self._metrics is not None:
                self._metrics.security_events_dropped.labels(self.sink.name).inc()

    async def hand_over(self) -> None:
        """Hand over what is noted, until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            while not await self._sent(batch):
                await asyncio.sleep(TRY_AGAIN.total_seconds())
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                if not await self._sent([events.of_loss(dropped, at=utc_now())]):
                    self._dropped += dropped

    async def follow_once(self, database: Database, *, now: datetime) -> bool:
        """Hand over what is new in the database; says whether there may be more."""
        async with database.connection() as connection:
            if not await position_store.try_lock(connection, self.sink.name):
                return False
            try:
                place = await position_store.position(connection, self.sink.name, now=now)
                found, reached, more = await position_store.since(connection, place, limit=BATCH, now=now)
                if found and not await self._sent(found):
                    return False
                if reached != place:
                    await position_store.move(connection, self.sink.name, reached)
            finally:
                await position_store.unlock(connection, self.sink.name)
        return more

    async def _sent(self, batch: Sequence[SecurityEvent]) -> bool:
        try:
            await self.sink.send(batch)
        except SinkUnavailable as error:
            if not self._is_down:
                log.warning("security_sink_down", extra={"sink": self.sink.name, "reason": str(error)})
            self._tell(is_down=True)
            return False
        self._tell(is_down=False)
        if self._metrics is not None:
            self._metrics.security_events.labels(self.sink.name).inc(len(batch))
        return True

    def _tell(self, *, is_down: bool) -> None:
        self._is_down = is_down
        if self._metrics is not None:
            self._metrics.security_sink_down.labels(self.sink.name).set(is_down)


def make_security_log(settings: SecurityLogSettings, metrics: ControlMetrics) -> SecurityLog:
    """The log that the settings ask for."""
    sinks: list[Sink] = []
    if settings.file is not None:
        sinks.append(FileSink(settings.file))
    if settings.syslog:
        sinks.append(SyslogSink(settings.syslog, facility=settings.facility, ca_file=settings.syslog_ca_file))
    for sink in sinks:
        metrics.security_sink_down.labels(sink.name).set(0)
        metrics.security_events_dropped.labels(sink.name).inc(0)
    return SecurityLog(sinks, room=settings.queue, metrics=metrics)
