"""Keeps the registry in memory like control's view of it: at the start, when told of a change, and now and then."""

import asyncio
import logging
from collections.abc import Collection
from datetime import timedelta

from services.ingest import registry_store
from services.ingest.metrics import Metrics
from services.ingest.registry import Registry
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Database

CHANNEL = "registry_changed"
SETTLE = timedelta(milliseconds=200)  # changes come in bursts (an import), and one load serves them all
RETRY = timedelta(seconds=1)

log = logging.getLogger(__name__)


class RegistryLoader:
    """Fills one registry from the database."""

    def __init__(self, database: Database, registry: Registry, *, refresh: timedelta, metrics: Metrics) -> None:
        self._database = database
        self._registry = registry
        self._refresh = refresh
        self._metrics = metrics
        self._changed = asyncio.Event()

    def wake(self, _channel: str, _payload: str | None) -> None:
        """Load again soon; called by the listener, also whenever it may have missed something."""
        self._changed.set()

    async def run(self) -> None:
        """Load on every change and every `refresh`, until cancelled. Outages are outlived on what is held."""
        while True:
            try:
                async with asyncio.timeout(self._refresh.total_seconds()):
                    await self._changed.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(SETTLE.total_seconds())
            self._changed.clear()
            try:
                await self.load()
            except DatabaseError as error:
                log.warning("registry_not_loaded", extra={"reason": str(error)})
                self._changed.set()
                await asyncio.sleep(RETRY.total_seconds())

    async def load(self) -> None:
        """Hold what the view says now. Raises the errors of `services.shared.database.errors`."""
        async with self._database.transaction(readonly=True) as connection:
            rows = await registry_store.load_all(connection)
        self._registry.replace(rows)
        self._metrics.registered.set(len(self._registry))
        self._metrics.registry_loads.inc()
        log.debug("registry_loaded", extra={"devices": len(self._registry)})

    async def recheck(self, device_ids: Collection[str]) -> None:
        """Look these up at once: one of them may have been registered a second ago.

        Raises the errors of `services.shared.database.errors`.
        """
        async with self._database.connection() as connection:
            rows = await registry_store.load_some(connection, device_ids)
        self._registry.merge(device_ids, rows)
        self._metrics.registered.set(len(self._registry))
