"""The database's own functions for keeping telemetry in order, the same in both storage modes; and their statements."""

from datetime import datetime
from typing import Literal

from services.shared.database.pool import Connection

STORAGE_MODE = "SELECT telemetry.storage_mode()"
ENSURE_PARTITIONS = "SELECT telemetry.ensure_partitions($1, $2)"
ROLL_UP_NEXT = "SELECT telemetry.roll_up_next($1)"
ROLL_UP_SENSORS_NEXT = "SELECT telemetry.roll_up_sensors_next($1)"
DROP_BEFORE = "SELECT telemetry.drop_before($1, $2)"
SENSORS_ROLLED_UP = "SELECT telemetry.sensors_rolled_up('-infinity', $1)"

DELETE_INMATES = """
DELETE FROM telemetry.quarantine
 WHERE last_seen_at < $1
"""

# They grow by a row a day for every device with a wrong clock.
DELETE_COUNTERS = """
DELETE FROM telemetry.quarantine_counters
 WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date
"""

# What became an event through a replay is told apart for as long as the event is kept.
DELETE_REPLAYS = """
DELETE FROM telemetry.quarantine_replays
 WHERE replayed_at < $1
"""

# A journal outlives its last event by as long as events are kept: what a device still repeats after that is stored again.
DELETE_JOURNALS = """
DELETE FROM telemetry.journals
 WHERE last_seen_at < $1
"""

# Tables cut by time, of which the oldest parts go.
CutTable = Literal["heartbeats", "sensor_heartbeats", "readings", "events", "sensor_heartbeats_hourly"]


async def storage_mode(connection: Connection) -> str:
    """Return `timescaledb` or `partitioned`."""
    return str(await connection.fetchval(STORAGE_MODE))


async def ensure_partitions(connection: Connection, *, from_at: datetime, until_at: datetime) -> int:
    """Have a place for rows of every instant of the span; return how many partitions had to be made."""
    return int(await connection.fetchval(ENSURE_PARTITIONS, from_at, until_at))


async def roll_up_next(connection: Connection, *, now: datetime) -> datetime | None:
    """Roll up the next hour that is due and return it; None when none is, or another replica is at it."""
    hour: datetime | None = await connection.fetchval(ROLL_UP_NEXT, now)
    return hour


async def roll_up_sensors_next(connection: Connection, *, now: datetime) -> datetime | None:
    """The same for sensors, of whom an hour may take minutes."""
    hour: datetime | None = await connection.fetchval(ROLL_UP_SENSORS_NEXT, now)
    return hour


async def drop_before(connection: Connection, table: CutTable, before: datetime) -> int:
    """Remove the parts of a table that are wholly older; return how many partitions or chunks went.

    Of sensors' heartbeats only those that are rolled up.
    """
    return int(await connection.fetchval(DROP_BEFORE, table, before))


async def sensors_rolled_up(connection: Connection, before: datetime) -> bool:
    """Whether every heartbeat of a sensor from before that instant is in its hour."""
    return bool(await connection.fetchval(SENSORS_ROLLED_UP, before))


async def delete_old(connection: Connection, *, inmates: datetime, journals: datetime) -> None:
    """Remove quarantine rows (and counters) and journals last seen before these instants."""
    await connection.execute(DELETE_INMATES, inmates)
    await connection.execute(DELETE_COUNTERS, inmates)
    await connection.execute(DELETE_REPLAYS, journals)
    await connection.execute(DELETE_JOURNALS, journals)
