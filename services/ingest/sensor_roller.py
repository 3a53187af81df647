"""Rolls up sensors' heartbeats by the hour, beside the maintainer.

An hour of a province's sensors is 168 million rows and takes minutes. So this has a connection and a time limit of its
own: in the pool it would be cut off after seconds, and hold up what the maintainer does for everybody else.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from services.ingest import upkeep_store
from services.ingest.metrics import Metrics
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import connect
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
        clock: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database.model_copy(update={"statement_timeout": patience})
        self._replica = replica
        self._interval = interval
        self._patience = patience
        self._clock = clock
        self._metrics = metrics

    async def run(self) -> None:
        """Do a round at once and then every `interval`, until cancelled. What fails is tried again next time."""
        while True:
            await self.round()
            await asyncio.sleep(self._interval.total_seconds())

    async def round(self) -> None:
        """Roll up every hour that is due."""
        try:
            async with connect(self._database, application=f"ingest {self._replica} roll-up") as connection:
                while True:
                    async with asyncio.timeout((self._patience + ANSWER_GRACE).total_seconds()):
                        hour = await upkeep_store.roll_up_sensors_next(connection, now=self._clock())
                    if hour is None:
                        return
                    self._metrics.roll_ups.inc()
        except (DatabaseError, TimeoutError) as error:
            self._metrics.maintenance_errors.inc()
            log.warning("maintenance_failed", extra={"duty": "roll_up_sensors", "reason": str(error)})
