"""Rolls up sensors' heartbeats by the hour, and drops those that are old enough, beside the maintainer.

An hour of a province's sensors is 168 million rows and takes minutes. So this has a connection and a time limit of its
own: in the pool it would be cut off after seconds, and hold up what the maintainer does for everybody else.

A heartbeat may come when it is older than it is kept; it is in its hour before it goes. So dropping comes right after
rolling up, when least is waiting, and is tried again every round of the day until nothing had to be left.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import date, datetime, timedelta

from services.ingest import upkeep_store
from services.ingest.metrics import Metrics
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Connection, connect
from services.shared.settings import DatabaseSettings

ANSWER_GRACE = timedelta(seconds=10)  # after the server's own limit; a server that hangs keeps none

log = logging.getLogger(__name__)


class SensorRoller:
    """Rolls up what is due now and then. Any number of replicas may; the database lets one work at a time."""

    def __init__(
        self,
        database: DatabaseSettings,
        *,
        replica: str,
        interval: timedelta,
        patience: timedelta,
        keep_for: timedelta,
        clock: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database.model_copy(update={"statement_timeout": patience})
        self._replica = replica
        self._interval = interval
        self._patience = patience
        self._keep_for = keep_for
        self._clock = clock
        self._metrics = metrics
        self._dropped_on: date | None = None

    async def run(self) -> None:
        """Do a round at once and then every `interval`, until cancelled. What fails is tried again next time."""
        while True:
            await self.round()
            await asyncio.sleep(self._interval.total_seconds())

    async def round(self) -> None:
        """Roll up every hour that is due, then drop what is old; a late hour that fails holds back only its own rows."""
        for duty in (self._roll_up_sensors, self._drop_sensors):
            try:
                async with connect(self._database, application=f"ingest {self._replica} roll-up") as connection:
                    await duty(connection)
            except (DatabaseError, TimeoutError) as error:
                self._metrics.maintenance_errors.inc()
                log.warning("maintenance_failed", extra={"duty": duty.__name__.strip("_"), "reason": str(error)})

    async def _roll_up_sensors(self, connection: Connection) -> None:
        while True:
            async with asyncio.timeout((self._patience + ANSWER_GRACE).total_seconds()):
                hour = await upkeep_store.roll_up_sensors_next(connection, now=self._clock())
            if hour is None:
                return
            self._metrics.roll_ups.inc()

    async def _drop_sensors(self, connection: Connection) -> None:
        now = self._clock()
        if now.date() == self._dropped_on:
            return
        before = now - self._keep_for
        async with asyncio.timeout((self._patience + ANSWER_GRACE).total_seconds()):
            is_all = await upkeep_store.sensors_rolled_up(connection, before)
            dropped = await upkeep_store.drop_before(connection, "sensor_heartbeats", before)
        if is_all:
            self._dropped_on = now.date()
        if dropped:
            log.info("old_sensor_rows_dropped", extra={"partitions": dropped})
