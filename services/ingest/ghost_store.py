"""Transactions of ingest that nobody finishes any more."""

from datetime import timedelta

from services.shared.database.pool import Connection

# Waiting for the rest of a COPY, in a transaction older than any of ours that writes may become (the registry is read in
# longer ones, in slices). A role may end its own sessions.
END_GHOSTS = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
  FROM pg_stat_activity
 WHERE usename = current_user
   AND datname = current_database()
   AND application_name LIKE 'ingest %'
   AND pid <> pg_backend_pid()
   AND wait_event = 'ClientRead'
   AND query LIKE 'COPY %'
   AND xact_start < clock_timestamp() - $1::interval
"""


async def end_ghosts(connection: Connection, *, older_than: timedelta) -> int:
    """End every session of ours whose transaction waits for its client and began that long ago; return how many."""
    ended: int = await connection.fetchval(END_GHOSTS, older_than)
    return ended
