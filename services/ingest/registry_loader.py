"""Keeps the registry in memory like control's views of it.

It is read whole at the start, and then only what changed is: when told of a change, when an assignment begins or ends,
and now and then. Once a day it is read whole again, for the errors nobody has thought of.

What is held is put right in place, a slice at a time, whether all of it is read or little: no second copy is made, and the
event loop goes on in between. Entries do not depend on one another (`registry`), so none waits for the last slice.
"""

import asyncio
import logging
from collections.abc import Collection
from datetime import timedelta
from itertools import islice

from services.ingest import registry_store
from services.ingest.metrics import Metrics
from services.ingest.registry import Registry
from services.ingest.registry_store import SLICE, Version
from services.shared.clock import utc_now
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Connection, Database

CHANNEL = "registry_changed"
KEYS_CHANNEL = "device_keys_changed"
SETTLE = timedelta(milliseconds=200)  # changes come in bursts (an import), and one load serves them all
RETRY = timedelta(seconds=1)
WHOLE_EVERY = timedelta(days=1)

log = logging.getLogger(__name__)


class RegistryLoader:
    """Fills one registry from the database."""

    def __init__(self, database: Database, registry: Registry, *, refresh: timedelta, metrics: Metrics) -> None:
        self._database = database
        self._registry = registry
        self._refresh = refresh
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._version: Version | None = None
        self._next_look = refresh
        self._whole_due_at = 0.0

    def wake(self, channel: str, payload: str | None) -> None:
        """Look for changes soon; called by the listener, also whenever it may have missed something (None)."""
        if channel == KEYS_CHANNEL:
            self._registry.keys.forget(int(payload) if payload else None)
        else:
            self._changed.set()

    async def run(self) -> None:
        """Look for changes when told and every `refresh`, until cancelled. Outages are outlived on what is held."""
        while True:
            try:
                async with asyncio.timeout(self._next_look.total_seconds()):
                    await self._changed.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(SETTLE.total_seconds())
            self._changed.clear()
            try:
                await self.catch_up()
            except DatabaseError as error:
                log.warning("registry_not_loaded", extra={"reason": str(error)})
                self._changed.set()
                await asyncio.sleep(RETRY.total_seconds())

    async def load(self) -> None:
        """Hold what the views say now, whatever is held. Raises the errors of `services.shared.database.errors`."""
        began_at = asyncio.get_running_loop().time()
        async with self._database.transaction(isolation="repeatable_read", readonly=True) as connection:
            version = await registry_store.standing(connection)
            changed, devices = 0, 0
            async for rows in registry_store.load_all(connection):
                devices += len({name for name, _ in rows})
                changed += self._registry.hold(rows)
            if len(self._registry) != devices:
                changed += await self._drop_strangers(connection)
            await self._look_ahead(connection, version)
        self._whole_due_at = began_at + WHOLE_EVERY.total_seconds()
        self._loaded("full", version, began_at)
        log.info("registry_loaded", extra={"devices": len(self._registry), "changed": changed})

    async def catch_up(self) -> None:
        """Hold what changed since the last time; all there is where that cannot be told.

        Raises the errors of `services.shared.database.errors`.
        """
        since = self._version
        if since is None or asyncio.get_running_loop().time() >= self._whole_due_at or not await self._follow(since):
            await self.load()

    async def recheck(self, device_ids: Collection[str]) -> None:
        """Look these up at once, with their keys: one of them may have been registered a second ago.

        Raises the errors of `services.shared.database.errors`.
        """
        async with self._database.connection() as connection:
            self._registry.merge(device_ids, await registry_store.load_some(connection, device_ids))
            numbers = self._registry.numbers(device_ids)
            self._registry.keys.hold(numbers, await registry_store.load_keys(connection, numbers), now=utc_now())
        self._metrics.registered.set(len(self._registry))

    async def _follow(self, since: Version) -> bool:
        """Hold what changed since then; False, with nothing done, when that is not to be had."""
        began_at = asyncio.get_running_loop().time()
        async with self._database.transaction(isolation="repeatable_read", readonly=True) as connection:
            version = await registry_store.standing(connection)
            if not version.follows(since):
                # Restarted, replaced by another, or put back from a backup: what was seen before tells nothing here.
                log.warning("registry_history_ended", extra={"held": since.told(), "found": version.told()})
                return False
            if await registry_store.is_everything_changed(connection, since):
                return False
            await registry_store.look_up(connection)
            changed = 0
            async for names in registry_store.load_names_gone(connection, since):
                changed += self._registry.merge(names, await registry_store.load_some(connection, names))
            async for rows in registry_store.load_changed(connection, since):
                changed += self._registry.hold(rows)
            await self._look_ahead(connection, version)
        self._loaded("changes", version, began_at)
        log.debug("registry_followed", extra={"devices": len(self._registry), "changed": changed})
        return True

    async def _drop_strangers(self, connection: Connection) -> int:
        """Look up every name held; return how many were not as held. Names that are gone are found by nothing else."""
        await registry_store.look_up(connection)
        names, changed = iter(list(self._registry.entries)), 0
        while some := [name.decode() for name in islice(names, SLICE)]:
            changed += self._registry.merge(some, await registry_store.load_some(connection, some))
        return changed

    async def _look_ahead(self, connection: Connection, version: Version) -> None:
        """Settle when to look again: no later than the next assignment begins or ends."""
        instant = await registry_store.next_instant(connection, within=self._refresh)
        self._next_look = self._refresh if instant is None else instant - version.at

    def _loaded(self, kind: str, version: Version, began_at: float) -> None:
        self._version = version
        self._metrics.registered.set(len(self._registry))
        self._metrics.registry_loads.labels(kind=kind).inc()
        self._metrics.registry_load_seconds.labels(kind=kind).observe(asyncio.get_running_loop().time() - began_at)
