"""All SQL of the storage bench: made-up devices, what they send, candidates for where to keep it, and how much it takes.

Rows are made inside the database, in the order in which they would arrive: everybody once a minute, each at a moment of
its own, in batches sorted as ingest sorts them. So what is measured is the database and nothing in front of it.
"""

# ruff: noqa: S608 - the names put into these statements are constants of ours

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import datetime

    from services.local.bench.store import Connection

SETTINGS = {"timezone": "UTC", "timescaledb.max_tuples_decompressed_per_dml_transaction": "0"}

COLUMNS = (
    "at", "received_at", "device_at", "config_serial", "device_no", "principal_no", "uptime_s", "journal_pending",
    "clock_state", "time_source", "network_type", "signal_dbm", "power_source", "battery_percent", "firmware",
    "network_operator", "last_error",
)  # fmt: skip
_COLUMNS = ", ".join(COLUMNS)

SCHEMA = "CREATE SCHEMA bench"

# One row per device, in the order in which they send within a minute. `phase` is when, seconds; in batches of
# `batch` rows, each sorted by device, as ingest writes them. Four in five are behind one of many gateways.
DEVICES = """
CREATE UNLOGGED TABLE bench.{name} AS
SELECT device_no, phase, booted_s, signal,
       CASE WHEN luck < 0.8 THEN (1 + device_no / 500)::integer END AS principal_no,
       (CASE WHEN luck < 0.8 THEN 6 ELSE 4 END)::smallint AS network_type,
       CASE WHEN luck >= 0.8 THEN (ARRAY['Viettel', 'VinaPhone', 'MobiFone'])[1 + device_no % 3] END AS network_operator,
       (ARRAY[0, 1, 1, 2, 2])[1 + device_no % 5]::smallint AS power_source,
       (3 + device_no % 3)::bigint AS config_serial,
       (CASE WHEN other < 0.01 THEN 2 WHEN other < 0.04 THEN 1 ELSE 0 END)::smallint AS clock_state,
       (ARRAY['2.4.1', '2.4.1', '2.4.1', '2.4.0', '2.3.7'])[1 + device_no % 5] AS firmware,
       CASE WHEN other > 0.995 THEN 'probe does not answer' END AS last_error,
       (40 + 60 * luck)::smallint AS battery
  FROM (SELECT (k * batches + b + 1 + $3)::integer AS device_no,
               60 * (b + random()) / batches AS phase,
               (1e6 * random())::integer AS booted_s,
               (-60 - 50 * random())::integer AS signal,
               random() AS luck,
               random() AS other
          FROM (SELECT ceil($1::float8 / $2)::integer AS batches) n,
               generate_series(0, batches - 1) b,
               generate_series(0, $2 - 1) k
         WHERE k * batches + b < $1
         ORDER BY b, k) d
"""

# What they send from `$1` on, minute by minute, `$2` minutes; one message in a hundred does not arrive. A device's time
# has milliseconds, that of receipt microseconds. Who does not know the time is stored under that of receipt.
SENT = """
SELECT CASE clock_state WHEN 2 THEN received_at ELSE device_at END AS at,
       received_at,
       CASE clock_state WHEN 2 THEN device_at END AS device_at,
       config_serial, device_no, principal_no,
       booted_s + extract(epoch FROM device_at - timestamptz '2026-01-01 00:00:00+00')::integer AS uptime_s,
       0 AS journal_pending,
       clock_state,
       (CASE clock_state WHEN 2 THEN 1 ELSE 0 END)::smallint AS time_source,
       network_type,
       (signal + 6 * random() * random())::smallint AS signal_dbm,
       power_source,
       CASE WHEN power_source > 0
            THEN (battery - (extract(epoch FROM device_at - $1::timestamptz) / 43200)::integer)::smallint
       END AS battery_percent,
       firmware, network_operator, last_error
  FROM (SELECT *, device_at + make_interval(secs => 0.08 - 0.1 * ln(1 - random())) AS received_at
          FROM (SELECT d.*, $1::timestamptz + make_interval(mins => minute)
                            + make_interval(secs => round((phase + 0.05 * random())::numeric, 3)::float8) AS device_at
                  FROM generate_series(0, $2::integer - 1) minute, bench.{devices} d
                 WHERE random() >= 0.01) s) r
"""

MAKE_STAGE = f"""
CREATE UNLOGGED TABLE bench.staged WITH (autovacuum_enabled = off) AS
SELECT {_COLUMNS}
  FROM telemetry.sensor_heartbeats
  WITH NO DATA
"""
EMPTY_STAGE = "TRUNCATE bench.staged"
FILL_STAGE = f"INSERT INTO bench.staged ({_COLUMNS}) {SENT.format(devices='province')}"

INSERT_STAGED = f"INSERT INTO {{table}} ({_COLUMNS}) SELECT {_COLUMNS} FROM bench.staged ON CONFLICT DO NOTHING"
INSERT_SENT = (
    f"INSERT INTO telemetry.sensor_heartbeats ({_COLUMNS}) {SENT.format(devices='residents')} ON CONFLICT DO NOTHING"
)

WAL = "SELECT pg_current_wal_insert_lsn()"
WAL_SINCE = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::bigint"

# A partitioned table, a hypertable and a plain one alike.
SIZES_PARTITIONED = """
SELECT sum(pg_table_size(relid))::bigint AS heap, sum(pg_indexes_size(relid))::bigint AS index
  FROM pg_partition_tree($1::regclass)
 WHERE isleaf
"""
SIZES_TIMESCALEDB = """
SELECT table_bytes + toast_bytes AS heap, index_bytes AS index
  FROM hypertable_detailed_size($1::regclass)
"""

# How else a redelivered heartbeat could be told. The chosen key is the table's own.
KEYS = {
    "device_no, at": "CREATE UNIQUE INDEX ON {table} (device_no, at)",
    "at, device_no": "CREATE UNIQUE INDEX ON {table} (at, device_no)",
}

CUT_TIMESCALEDB = (
    "CREATE TABLE {table} (LIKE telemetry.sensor_heartbeats)",
    "SELECT create_hypertable('{table}', by_range('at', interval '{width}'), create_default_indexes => false)",
)
CUT_PARTITIONED = (
    "CREATE TABLE {table} (LIKE telemetry.sensor_heartbeats) PARTITION BY RANGE (at)",
    "CREATE TABLE {table}_part PARTITION OF {table} DEFAULT",
)

ONE_DEVICE = "SELECT * FROM {table} WHERE device_no = $1 AND at >= $2 ORDER BY at DESC"
LAST_DAY = """
SELECT at, time_source, uptime_s, signal_dbm, power_source, battery_percent, firmware, last_error
  FROM telemetry.heartbeat_log
 WHERE device_no = $1
   AND at >= $2
 ORDER BY at DESC
"""
DEVICE_NUMBERS = "SELECT device_no FROM bench.{devices} ORDER BY random() LIMIT $1"

# --- compression ---

COMPRESSED = """
ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = '{segment}',
                         timescaledb.compress_orderby = '{order}')
"""
FILL_PACKED = f"""
INSERT INTO {{table}} ({_COLUMNS})
SELECT {_COLUMNS.replace("received_at", "{received_at}")}
  FROM telemetry.sensor_heartbeats
 WHERE at >= $1
   AND device_no IN (SELECT device_no FROM bench.residents WHERE device_no % $2 = 0)
"""
CHUNKS = "SELECT c::text FROM show_chunks($1::regclass, newer_than => $2::timestamptz) c ORDER BY 1"
COMPRESS = "SELECT compress_chunk($1::regclass)"
COMPRESSED_BYTES = """
SELECT sum(before_compression_total_bytes)::bigint AS before, sum(after_compression_total_bytes)::bigint AS after
  FROM chunk_compression_stats($1::regclass)
 WHERE compression_status = 'Compressed'
"""
# Late: some of what did not arrive. Again: what is there.
LATE = f"""
INSERT INTO telemetry.sensor_heartbeats ({_COLUMNS})
SELECT {_COLUMNS.replace("at, received_at", "at + interval '1 microsecond', now()", 1)}
  FROM telemetry.sensor_heartbeats
 WHERE device_no = ANY ($1)
   AND at >= $2 AND at < $2 + interval '1 minute'
    ON CONFLICT DO NOTHING
"""
AGAIN = f"""
INSERT INTO telemetry.sensor_heartbeats ({_COLUMNS})
SELECT {_COLUMNS}
  FROM telemetry.sensor_heartbeats
 WHERE device_no = ANY ($1)
   AND at >= $2 AND at < $2 + interval '1 minute'
    ON CONFLICT DO NOTHING
"""

# --- roll-ups, the fleet, a month ---

MAKE_ROOM = "SELECT telemetry.ensure_partitions($1, $2)"
ROLL_UP = "SELECT telemetry.roll_up_sensors($1, NULL)"
ROLL_UP_ONE = "SELECT telemetry.roll_up_sensors($1, $2)"
COUNT_OF_HOUR = """
SELECT count(*) AS rows, count(DISTINCT device_no) AS devices
  FROM telemetry.sensor_heartbeats
 WHERE at >= $1 AND at < $1 + interval '1 hour'
"""

INSERT_UNITS = "INSERT INTO control.units (unit_id) SELECT * FROM unnest($1::uuid[])"
# Numbered as in a province that registers commune by commune.
FILL_FLEET = (
    "SET session_replication_role = replica",
    """
    INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at)
    SELECT 'fleet-' || (unit_no * 1000000 + i),
           CASE WHEN i % 400 = 0 THEN 'cluster' ELSE 'sensor' END,
           unit_id,
           'bench',
           now()
      FROM bench.communes, generate_series(1, devices) i
     ORDER BY unit_no, i
    """,
    """
    INSERT INTO telemetry.device_states
           (device_no, principal, is_through_gateway, last_heard_kind, last_heard_at, heartbeat_at,
            heartbeat_received_at, heartbeat_device_at, kind, clock_state, time_source, uptime_s, firmware, network_type,
            signal_dbm, power_source, battery_percent, config_serial)
    SELECT device_no, device_id, false, 0, heard_at, heard_at, heard_at, heard_at,
           CASE kind WHEN 'cluster' THEN 0 ELSE 2 END, 0, 0, 1000, '2.4.1', 6, -80, 1, 50, 3
      FROM (SELECT *, now() - make_interval(secs => 60 * random()) AS heard_at FROM control.devices) d
     ORDER BY random()
    """,
    "RESET session_replication_role",
)
MAKE_COMMUNES = """
CREATE TABLE bench.communes AS
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS c (unit_id, unit_no, devices)
"""

# A month of hours: of a commune's sensors and, one in two and a half, clusters. One hour in two misses a minute.
FILL_SENSOR_HOURS = """
INSERT INTO telemetry.sensor_heartbeats_hourly
       (hour, minutes, device_no, heartbeats, first_s, last_s, signal_min_dbm, battery_min_percent)
SELECT hour,
       CASE WHEN random() < 0.45 THEN ((1::bigint << 60) - 1) # (1::bigint << (60 * random())::integer % 60)
            ELSE (1::bigint << 60) - 1 END,
       device_no, 60 - (random() < 0.45)::integer, device_no % 60, 3540 + device_no % 60,
       (-80 - 10 * random())::smallint, 50
  FROM generate_series($1::timestamptz - interval '720 hours', $1::timestamptz - interval '1 hour', '1 hour') hour,
       generate_series(1, $2::integer) device_no
"""
FILL_CLUSTER_HOURS = """
INSERT INTO telemetry.heartbeats_hourly
       (hour, first_at, last_at, device_no, heartbeats, longest_gap_s, minutes_heard, minutes_playing)
SELECT hour, hour, hour + interval '59 minutes', device_no, 60, 61, 60, 12
  FROM generate_series($1::timestamptz - interval '720 hours', $1::timestamptz - interval '1 hour', '1 hour') hour,
       generate_series($2::integer + 1, $2::integer + $3::integer) device_no
"""
AVAILABILITY = """
SELECT hour, sum(minutes_heard) / (60.0 * cardinality($1::integer[])) AS share
  FROM telemetry.heartbeat_hours
 WHERE device_no = ANY ($1)
   AND hour >= $2 AND hour < $3
 GROUP BY hour
 ORDER BY hour
"""
TIDY = (
    "ANALYZE telemetry.sensor_heartbeats",
    "ANALYZE telemetry.sensor_heartbeats_hourly",
    "VACUUM (ANALYZE) telemetry.heartbeats_hourly",
    "VACUUM (ANALYZE) telemetry.device_states",
    "VACUUM (ANALYZE) control.devices",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Bytes of a table's rows and of its indexes."""

    heap: int
    index: int


async def make_devices(connection: Connection, name: str, *, devices: int, batch: int, first_no: int) -> None:
    """Have so many devices in `bench.NAME`, which send in batches of so many."""
    await connection.execute(
        DEVICES.format(name=name).replace("$1", str(devices)).replace("$2", str(batch)).replace("$3", str(first_no))
    )
    await connection.execute(f"ANALYZE bench.{name}")


async def make_cut(connection: Connection, table: str, *, timescaledb: bool, width: str) -> None:
    """A table like the one of sensors, without its indexes, cut by time the way of this server."""
    for statement in CUT_TIMESCALEDB if timescaledb else CUT_PARTITIONED:
        await connection.execute(statement.format(table=table, width=width))


async def size_of(connection: Connection, table: str, *, timescaledb: bool) -> Size:
    """What a cut table takes on disk, compressed or not."""
    row = await connection.fetchrow(SIZES_TIMESCALEDB if timescaledb else SIZES_PARTITIONED, table)
    return Size(heap=row["heap"] or 0, index=row["index"] or 0) if row else Size(heap=0, index=0)


async def device_numbers(connection: Connection, devices: str, count: int) -> list[int]:
    """So many devices, drawn at random."""
    return [row["device_no"] for row in await connection.fetch(DEVICE_NUMBERS.format(devices=devices), count)]


async def insert(connection: Connection, statement: str, *arguments: object) -> int:
    """Run an INSERT; return how many rows went in."""
    return int((await connection.execute(statement, *arguments)).rpartition(" ")[2])


async def fill_fleet(connection: Connection, communes: Sequence[tuple[uuid.UUID, int]]) -> None:
    """Register communes of so many devices, all of them heard within the last minute."""
    units = [unit for unit, _ in communes]
    await connection.execute(INSERT_UNITS, units)
    await connection.execute(MAKE_COMMUNES, units, list(range(len(units))), [devices for _, devices in communes])
    for statement in FILL_FLEET:
        await connection.execute(statement)


async def compress(connection: Connection, table: str, *, since: datetime) -> int:
    """Compress every chunk newer than that; return how many."""
    chunks = await connection.fetch(CHUNKS, table, since)
    for row in chunks:
        await connection.execute(COMPRESS, row["c"])
    return len(chunks)
