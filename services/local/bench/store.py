"""All SQL of the benches: a registry of millions, a table for the naive, and what there is afterwards.

Everything happens in a database of its own, made for one run and dropped at its end. Ingest logs in as a role of its
own too, a member of `loa_ingest`, so that on a server somebody else uses no password is changed.
"""

import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.local.bench.population import (
    ASSIGNMENT_COLUMNS,
    DEVICE_COLUMNS,
    Population,
    assignment_lines,
    device_lines,
)
from services.shared.database.migrate import MigrateSettings, migrate

if TYPE_CHECKING:
    from typing import TypeAlias

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Record: TypeAlias = asyncpg.Record

FETCH_AT_ONCE = 50_000

INSERT_UNIT = "INSERT INTO control.units (unit_id) VALUES ($1)"

# Every device was heard a minute before, as in a province that is up: a heartbeat then changes a row somewhere in a
# large table instead of adding one at the end of a small one, which is much cheaper.
FILL_STATES = """
INSERT INTO telemetry.device_states
       (device_no, principal, is_through_gateway, last_heard_kind, last_heard_at, heartbeat_at, heartbeat_received_at,
        heartbeat_device_at, uptime_s, kind, clock_state, time_source, firmware)
SELECT device_no, principal, device_id <> principal, 0, $1, $1, $1, $1, 1000,
       CASE kind WHEN 'cluster' THEN 0 WHEN 'board' THEN 1 WHEN 'sensor' THEN 2 ELSE 3 END, 0, 0, '2.4.0'
  FROM control.device_registry
 ORDER BY device_no
"""

# Ours, not left to the server's own time: it would fall into a measurement.
TIDY = (
    "VACUUM (ANALYZE) control.devices, control.gateway_assignments, telemetry.device_states",
    "CHECKPOINT",
)

# As wide as ours and with the same key, and plain: no partitions, no hypertables, nothing beside it to keep.
MAKE_NAIVE = """
CREATE SCHEMA naive;
CREATE SEQUENCE naive.message_numbers;
CREATE TABLE naive.heartbeats (
    LIKE telemetry.heartbeats INCLUDING DEFAULTS,
    message_no  bigint NOT NULL DEFAULT nextval('naive.message_numbers'),
    PRIMARY KEY (device_no, at)
);
CREATE TABLE naive.others (
    at           timestamptz NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    message_no   bigint NOT NULL DEFAULT nextval('naive.message_numbers'),
    device_no    integer NOT NULL,
    uplink       text NOT NULL,
    body         jsonb NOT NULL,
    PRIMARY KEY (device_no, at, uplink)
)
"""

# Drawn numbers, not rows: costs nothing to ask. Nothing fails or is rolled back here, so they are the same but for what
# is in the making.
COUNT_NAIVE = "SELECT coalesce(pg_sequence_last_value('naive.message_numbers'), 0)"

EMPTY_NAIVE = """
TRUNCATE naive.heartbeats, naive.others;
ALTER SEQUENCE naive.message_numbers RESTART
"""

# Between two runs of ingest. States stay: they are of a province that is up.
EMPTY_TELEMETRY = "TRUNCATE telemetry.heartbeats, telemetry.readings, telemetry.events, telemetry.quarantine_counters"
EMPTY_SENSORS = "TRUNCATE telemetry.sensor_heartbeats"

# By replica, messages settled so far; each of its writers counts for itself.
REPLICA_TOTALS = """
SELECT split_part(replica, '/', 1) AS replica,
       sum(heartbeats + readings / 2 + events + quarantined)::bigint AS messages
  FROM telemetry.replica_totals
 GROUP BY 1
"""

COUNT_STORED = """
SELECT (SELECT count(*) FROM (SELECT DISTINCT device_no, at FROM telemetry.heartbeats) h)
     + (SELECT count(*) FROM (SELECT DISTINCT device_no, at FROM telemetry.readings) r)
     + (SELECT count(*) FROM (SELECT DISTINCT device_no, journal, sequence FROM telemetry.events) e)
"""

# A heartbeat that stands in both tables counts once here, and twice in the ledger.
COUNT_STORED_WITH_SENSORS = """
SELECT (SELECT count(*) FROM (SELECT device_no, at FROM telemetry.heartbeats
                              UNION SELECT device_no, at FROM telemetry.sensor_heartbeats) h)
     + (SELECT count(*) FROM (SELECT DISTINCT device_no, at FROM telemetry.readings) r)
     + (SELECT count(*) FROM (SELECT DISTINCT device_no, journal, sequence FROM telemetry.events) e)
"""

HAS_SENSOR_HEARTBEATS = "SELECT to_regclass('telemetry.sensor_heartbeats') IS NOT NULL"

COUNT_QUARANTINED = (
    "SELECT coalesce(sum(messages), 0)::bigint FROM telemetry.quarantine_counters WHERE reason <> 'clock_absurd'"
)

# `tx` is the transaction that stored it, the low half of its number. One transaction is one batch.
HEARTBEATS = """
SELECT device_no, (extract(epoch FROM at) * 1000)::bigint AS at_ms, xmin::text::bigint AS tx
  FROM telemetry.heartbeats
"""

SENSOR_HEARTBEATS = """
SELECT device_no, (extract(epoch FROM at) * 1000)::bigint AS at_ms, xmin::text::bigint AS tx
  FROM telemetry.sensor_heartbeats
"""

READINGS = """
SELECT device_no, (extract(epoch FROM at) * 1000)::bigint AS at_ms, xmin::text::bigint AS tx
  FROM telemetry.readings
"""

EVENTS = """
SELECT device_no, journal, sequence, xmin::text::bigint AS tx
  FROM telemetry.events
"""

ABOUT = """
SELECT current_setting('server_version') AS version,
       (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
       telemetry.storage_mode() AS mode,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('fsync') AS fsync,
       current_setting('shared_buffers') AS shared_buffers,
       current_setting('max_wal_size') AS max_wal_size,
       current_setting('checkpoint_timeout') AS checkpoint_timeout,
       current_setting('wal_level') AS wal_level
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """A database for one run, and how to log in to it."""

    owner_url: str
    ingest_url: str


@asynccontextmanager
async def scratch_database(server: str) -> AsyncIterator[Scratch]:
    """A new, migrated database on the server that a superuser's URL leads to; dropped at the end."""
    name, password = f"loa_bench_{secrets.token_hex(4)}", secrets.token_hex(16)
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            parts = urlsplit(server)._replace(path=f"/{name}")
            owner_url = urlunsplit(parts)
            await migrate(MigrateSettings.model_validate({"database": {"url": owner_url}}))
            await admin.execute(f"CREATE ROLE {name} LOGIN IN ROLE loa_ingest PASSWORD '{password}'")
            netloc = f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"
            yield Scratch(owner_url=owner_url, ingest_url=urlunsplit(parts._replace(netloc=netloc)))
        finally:
            await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await admin.execute(f"DROP ROLE IF EXISTS {name}")
    finally:
        await admin.close()


async def fill_registry(connection: "Connection", population: Population, *, now: datetime) -> None:
    """Register everybody, by COPY, without triggers: keys hold by construction, and nobody is there to be told."""
    await connection.execute(INSERT_UNIT, population.unit)
    await connection.execute("SET session_replication_role = replica")
    for table, columns, lines in (
        ("devices", DEVICE_COLUMNS, device_lines(population, now=now)),
        ("gateway_assignments", ASSIGNMENT_COLUMNS, assignment_lines(population, now=now)),
    ):
        await connection.copy_to_table(table, schema_name="control", columns=columns, source=_source(lines))
    await connection.execute("RESET session_replication_role")


async def fill_states(connection: "Connection", *, now: datetime) -> None:
    """Have everybody heard a minute before `now`."""
    await connection.execute(FILL_STATES, now - timedelta(minutes=1))


async def tidy(connection: "Connection") -> None:
    """Have the server do now what it would do some time after so much was loaded."""
    for statement in TIDY:
        await connection.execute(statement)


async def empty(connection: "Connection") -> None:
    """Remove what a run of ingest has stored, except what is known of each device."""
    await connection.execute(EMPTY_TELEMETRY)
    if await connection.fetchval(HAS_SENSOR_HEARTBEATS):
        await connection.execute(EMPTY_SENSORS)


async def _source(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for each in lines:
        yield each


async def rows(connection: "Connection", query: str) -> "AsyncIterator[list[Record]]":
    """The rows of a query without arguments, many at a time."""
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(query)
        while found := await cursor.fetch(FETCH_AT_ONCE):
            yield found
