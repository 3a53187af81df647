"""Looks after what is stored: partitions ahead of time, hourly roll-ups, and the end of what is old enough.

Except sensors' heartbeats, which go when they are rolled up, so by the hand that does that (`sensor_roller`).
The same for both storage modes: what differs is inside the database's own functions. Any number of replicas may do it at
once; the database lets one work at a time.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import date, datetime, timedelta

from services.ingest import upkeep_store
from services.ingest.metrics import Metrics
from services.ingest.settings import RetentionSettings
from services.ingest.stamps import TimeWindow
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Database

AHEAD = timedelta(days=3)  # so that a maintenance that fails over a weekend does not stop the stream
MARGIN = timedelta(days=1)  # partitions are whole days

log = logging.getLogger(__name__)


class Maintainer:
    """Does a round of maintenance now and then."""

    def __init__(
        self,
        database: Database,
        *,
        window: TimeWindow,
        retention: RetentionSettings,
        keep_quarantine_for: timedelta,
        interval: timedelta,
        clock: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._window = window
        self._retention = retention
        self._keep_quarantine_for = keep_quarantine_for
        self._interval = interval
        self._clock = clock
        self._metrics = metrics
        self._dropped_on: date | None = None

    async def run(self) -> None:
        """Do a round at once and then every `interval`, until cancelled. What fails is tried again next time."""
        while True:
            await self.round()
            await asyncio.sleep(self._interval.total_seconds())

    async def round(self) -> None:
        """Everything there is to do now. What fails holds up nothing else: an hour too big to roll up must not fill the disk."""
        for duty in (self.make_partitions, self._roll_up, self._drop_old):
            try:
                await duty()
            except DatabaseError as error:
                self._metrics.maintenance_errors.inc()
                log.warning("maintenance_failed", extra={"duty": duty.__name__.strip("_"), "reason": str(error)})

    async def make_partitions(self) -> None:
        """Have a place for every time admission lets through. Raises the errors of `services.shared.database.errors`."""
        now = self._clock()
        async with self._database.connection() as connection:
            made = await upkeep_store.ensure_partitions(
                connection, from_at=now - self._window.behind - MARGIN, until_at=now + AHEAD
            )
        if made:
            log.info("partitions_made", extra={"partitions": made})

    async def _roll_up(self) -> None:
        while True:
            async with self._database.connection() as connection:
                hour = await upkeep_store.roll_up_next(connection, now=self._clock())
            if hour is None:
                return
            self._metrics.roll_ups.inc()

    async def _drop_old(self) -> None:
        """Once a day: nothing is kept by the hour, and finding old journals means reading all of them."""
        now = self._clock()
        if now.date() == self._dropped_on:
            return
        keep = self._retention
        ends: dict[upkeep_store.CutTable, timedelta] = {
            "heartbeats": keep.heartbeats,
            "readings": keep.readings,
            "events": keep.events,
            "sensor_heartbeats_hourly": keep.sensor_hours,
        }
        async with self._database.connection() as connection:
            dropped = 0
            for table, kept_for in ends.items():
                dropped += await upkeep_store.drop_before(connection, table, now - kept_for)
            await upkeep_store.delete_old(
                connection, inmates=now - self._keep_quarantine_for, journals=now - keep.events
            )
        self._dropped_on = now.date()
        if dropped:
            log.info("old_rows_dropped", extra={"partitions": dropped})
