"""Ends the transactions of replicas that froze, or lost their network, in the middle of a COPY.

The server itself ends a session that is idle within a transaction (`statements.END_WHEN_IDLE`), but none of its timeouts
reaches one that waits for the rest of a COPY. For as long as such a connection looks alive, which for a frozen process is
for ever, it would keep the journals of its batch locked, and every other replica would wait for them. So each replica looks
for them now and then. What it ends is given up already: no commit is waited for longer than `patience`.
"""

import asyncio
import logging
from datetime import timedelta

from services.ingest import ghost_store
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Database

GRACE = timedelta(seconds=1)  # a replica that lives gives up its connection itself
LOOKS = 4  # within `patience`
MOST_OFTEN = timedelta(milliseconds=100)

log = logging.getLogger(__name__)


class GhostWatch:
    """Looks for transactions without an owner."""

    def __init__(self, database: Database, *, patience: timedelta) -> None:
        self._database = database
        self._patience = patience

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(max(MOST_OFTEN, self._patience / LOOKS).total_seconds())
            try:
                async with self._database.connection() as connection:
                    ended = await ghost_store.end_ghosts(connection, older_than=self._patience + GRACE)
            except DatabaseError:
                continue  # the writers tell of it
            if ended:
                log.warning("abandoned_transactions_ended", extra={"sessions": ended})
