"""A replica's sign of life, and its look at those of the others.

A replica that is gone without having left keeps its share: the broker goes on dealing messages to its session, and
nobody takes them. The others see its row grow old and say so. Hearing goes the same way: who wants a replica to leave
writes it into its row.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from services.ingest import replica_store
from services.ingest.brokerstats import Drops
from services.ingest.metrics import Metrics
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Connection, Database

BEAT_EVERY = timedelta(seconds=5)
# Without a sign of life for so long, nobody is there who could still answer.
GONE_AFTER = 3 * BEAT_EVERY
LAST_WORD = timedelta(seconds=5)  # a database that is away must not hold up a stop

log = logging.getLogger(__name__)


class Replicas:
    """Keeps this replica's row, and tells of silent ones."""

    def __init__(
        self,
        database: Database,
        *,
        replica: str,
        silence: timedelta,
        drops: Callable[[], Drops | None],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._replica = replica
        self._silence = silence
        self._drops = drops
        self._metrics = metrics
        self._beat_every = min(BEAT_EVERY, silence / 4)
        self._started_at: datetime | None = None
        self._is_asked = asyncio.Event()
        self._is_usurped = False

    async def enter(self) -> Drops | None:
        """Begin; return what the process before this one has seen of the broker's drops.

        Raises the errors of `services.shared.database.errors`.
        """
        async with self._database.connection() as connection:
            entered = await replica_store.enter(connection, self._replica)
        self._started_at = entered.started_at
        return entered.drops

    def ask_to_leave(self) -> None:
        """As if it had been asked to leave."""
        self._is_asked.set()

    async def until_asked_to_leave(self) -> None:
        """Return when somebody wants this replica to leave."""
        await self._is_asked.wait()

    async def run(self) -> None:
        """Give a sign of life now and then, until cancelled. While the database is away there is nobody to give it to."""
        while True:
            try:
                await self._beat()
            except DatabaseError as error:
                log.warning("replica_not_seen", extra={"reason": str(error)})
            await asyncio.sleep(self._beat_every.total_seconds())

    async def stopped(self) -> None:
        """Say that this process ends and its replica may come back."""
        await self._say(
            "stopped", lambda connection, since: replica_store.stop(connection, self._replica, since, self._drops())
        )

    async def left(self, *, drained: int) -> bool:
        """Say that this replica is no more, having taken so many messages at last; False when it cannot be said."""
        return await self._say(
            "left", lambda connection, since: replica_store.leave(connection, self._replica, since, drained=drained)
        )

    async def _beat(self) -> None:
        assert self._started_at is not None, "a replica enters before it runs"
        async with self._database.connection() as connection:
            asked = await replica_store.beat(connection, self._replica, self._started_at, self._drops())
            silent = await replica_store.silent(connection, longer_than=self._silence)
        if asked:
            self._is_asked.set()
        self._note_usurped(is_usurped=asked is None)
        self._metrics.replicas_stranded.clear()
        for replica in silent:
            self._metrics.replicas_stranded.labels(replica=replica).set(1)

    def _note_usurped(self, *, is_usurped: bool) -> None:
        if is_usurped and not self._is_usurped:
            log.error("another_process_is_this_replica", extra={"replica": self._replica})
        self._is_usurped = is_usurped

    async def _say(self, what: str, say: Callable[[Connection, datetime], Awaitable[None]]) -> bool:
        assert self._started_at is not None, "a replica enters before it ends"
        try:
            async with asyncio.timeout(LAST_WORD.total_seconds()), self._database.connection() as connection:
                await say(connection, self._started_at)
        except (DatabaseError, TimeoutError) as error:
            log.warning("replica_not_seen", extra={"what": what, "reason": str(error) or type(error).__name__})
            return False
        return True
