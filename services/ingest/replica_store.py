"""The rows by which replicas of ingest know of one another. Times are the database's."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.ingest.brokerstats import Drops
from services.shared.database.pool import Connection

# What asked an earlier process to leave is done with: whoever starts a replica wants it.
ENTER = """
INSERT INTO telemetry.replicas AS r (replica, started_at, seen_at)
VALUES ($1, clock_timestamp(), clock_timestamp())
    ON CONFLICT (replica) DO UPDATE
   SET started_at = excluded.started_at,
       seen_at = excluded.seen_at,
       stopped_at = NULL,
       leave_asked_at = NULL,
       left_at = NULL,
       drained = NULL
RETURNING started_at, broker_began_at, broker_dropped
"""

BEAT = """
UPDATE telemetry.replicas
   SET seen_at = clock_timestamp(),
       broker_began_at = coalesce($3, broker_began_at),
       broker_dropped = coalesce($4, broker_dropped)
 WHERE replica = $1
   AND started_at = $2
RETURNING leave_asked_at IS NOT NULL
"""

STOP = """
UPDATE telemetry.replicas
   SET seen_at = clock_timestamp(),
       stopped_at = clock_timestamp(),
       broker_began_at = coalesce($3, broker_began_at),
       broker_dropped = coalesce($4, broker_dropped)
 WHERE replica = $1
   AND started_at = $2
"""

LEAVE = """
UPDATE telemetry.replicas
   SET seen_at = clock_timestamp(),
       left_at = clock_timestamp(),
       drained = $3
 WHERE replica = $1
   AND started_at = $2
"""

ASK_TO_LEAVE = """
UPDATE telemetry.replicas
   SET leave_asked_at = clock_timestamp()
 WHERE replica = $1
   AND left_at IS NULL
   AND stopped_at IS NULL
"""

FIND = """
SELECT replica,
       started_at,
       stopped_at IS NOT NULL AS is_stopped,
       left_at IS NOT NULL AS has_left,
       clock_timestamp() - seen_at AS silent_for,
       drained
  FROM telemetry.replicas
 WHERE replica = $1
"""

SILENT = """
SELECT replica
  FROM telemetry.replicas
 WHERE left_at IS NULL
   AND seen_at < clock_timestamp() - $1::interval
 ORDER BY replica
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """What a replica finds when it enters: the instant that names this process, and what the one before it saw."""

    started_at: datetime
    drops: Drops | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """What is known of a replica."""

    replica: str
    started_at: datetime
    is_stopped: bool
    has_left: bool
    silent_for: timedelta
    drained: int | None


async def enter(connection: Connection, replica: str) -> Entered:
    """Begin a life of this replica."""
    row = await connection.fetchrow(ENTER, replica)
    assert row is not None
    began_at, dropped = row["broker_began_at"], row["broker_dropped"]
    return Entered(
        started_at=row["started_at"],
        drops=None if began_at is None else Drops(broker_began_at=began_at, count=dropped),
    )


async def beat(connection: Connection, replica: str, started_at: datetime, drops: Drops | None) -> bool | None:
    """Give a sign of life; return whether somebody asks it to leave, None when another process is this replica now."""
    asked: bool | None = await connection.fetchval(BEAT, replica, started_at, *_columns(drops))
    return asked


async def stop(connection: Connection, replica: str, started_at: datetime, drops: Drops | None) -> None:
    """Say that this process has ended in good order."""
    await connection.execute(STOP, replica, started_at, *_columns(drops))


async def leave(connection: Connection, replica: str, started_at: datetime, *, drained: int) -> None:
    """Say that this replica is no more."""
    await connection.execute(LEAVE, replica, started_at, drained)


async def ask_to_leave(connection: Connection, replica: str) -> None:
    """Ask it to leave, if it is there."""
    await connection.execute(ASK_TO_LEAVE, replica)


async def find(connection: Connection, replica: str) -> Replica | None:
    """Return what is known of a replica."""
    row = await connection.fetchrow(FIND, replica)
    return None if row is None else Replica(**dict(row))


async def silent(connection: Connection, *, longer_than: timedelta) -> tuple[str, ...]:
    """Return the replicas that have not left and have been silent for so long."""
    return tuple(row["replica"] for row in await connection.fetch(SILENT, longer_than))


def _columns(drops: Drops | None) -> tuple[datetime | None, int | None]:
    return (None, None) if drops is None else (drops.broker_began_at, drops.count)
