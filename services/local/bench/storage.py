"""`./loa bench storage`: what a sensor's heartbeat costs to store, and what the questions asked of it cost to answer.

Candidates stand beside each other in one run, on rows made in the database: which key, which width, compressed how.
Whatever happens it ends in time and says how far it got.
"""

import contextlib
import enum
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg

from schemas.identifiers import UnitId
from services.control import fleet_store
from services.ingest import upkeep_store
from services.local.bench import storage_store as sql
from services.local.bench import store, usage
from services.local.bench.reporting import Report, reported, say
from services.local.bench.statistics import percentile
from services.local.directories import temporary_directory
from services.local.postgres import embedded_postgres
from services.shared.clock import utc_now

if TYPE_CHECKING:
    from services.local.bench.store import Connection

# Nine minutes less what dropping a database of many gigabytes may take.
DEADLINE = timedelta(seconds=480)
# Keys come last and get as many minutes of heartbeats as there is time for; then they are asked and rolled up.
AFTER_KEYS_S = 90.0

FEWEST_ROWS, MOST_ROWS = 100_000, 200_000_000
PROVINCE = 2_800_000  # devices
BATCH = 5_000
BATCHES_A_SECOND = 10  # where a batch does not fill before it is due
BEYOND = 100_000_000  # device numbers of the second population
HOURS = 24
CHECKPOINT_EVERY = 5  # minutes, as a server left to itself

EXECUTIONS = 300
SLOW_EXECUTIONS = 3  # of what takes as long as reading everything
COMMUNE = 28_000  # devices: a hundredth of a province's
RADIO_COMMUNE_SENSORS, RADIO_COMMUNE_CLUSTERS = 67, 50  # a province of commune radio, by 150 communes
RADIO_COMMUNES = 20
PAGE = 200  # devices on a page of the console
PACKED_PART = 6  # candidates of compression get one device in so many
GOAL_BYTES = 16  # a heartbeat, compressed: a tenth of what a point takes ThingsBoard in PostgreSQL (152 GiB a billion)


class Part(enum.Enum):
    """What can be measured by itself."""

    KEYS = "keys"
    COMPRESSION = "compression"
    QUERIES = "queries"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """One way to compress."""

    width: str
    segment: str
    order: str
    received_at: str = "received_at"


PACKINGS = {
    "1 h, by device and time": Packing(width="1 hour", segment="", order="device_no, at"),
    "1 h, by time": Packing(width="1 hour", segment="", order="at"),
    "1 h, segment device": Packing(width="1 hour", segment="device_no", order="at DESC"),
    "3 h, by device and time": Packing(width="3 hours", segment="", order="device_no, at"),
    "1 d, by device and time": Packing(width="1 day", segment="", order="device_no, at"),
    "1 d, segment device": Packing(width="1 day", segment="device_no", order="at DESC"),
    "1 h, by device and time, receipt in ms": Packing(
        width="1 hour", segment="", order="device_no, at", received_at="date_trunc('milliseconds', received_at)"
    ),
    "1 h, by device and time, receipt as offset": Packing(
        width="1 hour",
        segment="",
        order="device_no, at",
        received_at="timestamptz '2000-01-01 00:00:00+00' + (received_at - at)",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be measured."""

    rows: int
    database: str | None
    parts: frozenset[Part] = frozenset(Part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A database to measure in, and the times its rows are of."""

    connection: "Connection"
    timescaledb: bool
    keys_from: datetime  # an hour of its own, before
    day_from: datetime

    async def size(self, table: str) -> sql.Size:
        """What a table takes on disk."""
        return await sql.size_of(self.connection, table, timescaledb=self.timescaledb)


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not measured anything yet."""
    return {
        "bench": "storage",
        "rows": request.rows,
        **dict.fromkeys(
            (
                "heartbeat_bytes_raw", "heartbeat_bytes_compressed", "goal_bytes_compressed", "keys", "day", "packings",
                "late_rows", "roll_up", "sensor_hours", "queries_ms", "busy_cores", "database",
            )
        ),
        "machine": {},
        "warnings": [],  # what the figures should not be taken for
        "problems": [],  # why they are worth nothing
    }  # fmt: skip


async def run(request: Request, report: Report) -> None:
    """Measure, filling in `report` as far as it goes; what went wrong stands in its `problems`."""
    began_at, busy = time.monotonic(), usage.machine_busy_s()
    async with reported(report, deadline=DEADLINE, mend=": ask for fewer --rows"):
        await _measure(request, report, began_at=began_at)
    took_s = time.monotonic() - began_at
    report["took_s"] = round(took_s, 1)
    report["busy_cores"] = round((usage.machine_busy_s() - busy) / took_s, 2)
    report["warnings"] += _warnings(report)


async def _measure(request: Request, report: Report, *, began_at: float) -> None:
    report["machine"] = usage.machine()
    report["goal_bytes_compressed"] = GOAL_BYTES
    async with _bench(request.database) as bench:
        report["database"] = dict(await bench.connection.fetchrow(store.ABOUT) or {})
        if request.parts & {Part.COMPRESSION, Part.QUERIES}:
            await _fill_day(bench, request.rows, report)
        if Part.QUERIES in request.parts:
            await _ask_of_the_fleet(bench, report)
            await _ask_of_a_month(bench, report)
            await _ask_of_one(bench, report, "last_day_of_one_raw")
        if Part.COMPRESSION in request.parts and bench.timescaledb:
            await _compare_packings(bench, report)
            await _compress_day(bench, report)
            if Part.QUERIES in request.parts:
                await _ask_of_one(bench, report, "last_day_of_one_compressed")
        if Part.KEYS in request.parts:
            await _compare_keys(bench, request.rows, report, until=began_at + DEADLINE.total_seconds() - AFTER_KEYS_S)


def _warnings(report: Report) -> list[str]:
    found = []
    database = report["database"] or {}
    lax = [name for name in ("fsync", "synchronous_commit", "full_page_writes") if database.get(name) == "off"]
    if lax:
        found.append(f"{' and '.join(lax)} off: inserts are faster and write less WAL than where a power cut may come")
    if database and database.get("timescaledb") is None:
        found.append("no TimescaleDB: nothing is compressed")
    heartbeat = report["heartbeat_bytes_compressed"]
    if heartbeat is not None and heartbeat > GOAL_BYTES:
        found.append(
            f"goal missed: a heartbeat takes {heartbeat:g} bytes compressed, not {GOAL_BYTES} or less; few --rows leave"
            " chunks small, and each has a fixed cost"
        )
    return found


# --- the database ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _bench(url: str | None) -> AsyncIterator[Bench]:
    """A database of this run's own: on a server of its own, or on the one a superuser's URL leads to."""
    async with AsyncExitStack() as stack:
        if url is None:
            folder = stack.enter_context(temporary_directory("loa-bench-"))
            url = (await stack.enter_async_context(embedded_postgres(folder / "postgres"))).dsn()
        scratch = await stack.enter_async_context(store.scratch_database(url))
        # No limits: what takes too long is ended by the run's own deadline.
        connection = await asyncpg.connect(scratch.owner_url, server_settings=sql.SETTINGS)
        stack.push_async_callback(_close, connection)
        await connection.execute(sql.SCHEMA)
        this_hour = utc_now().replace(minute=0, second=0, microsecond=0)
        yield Bench(
            connection=connection,
            timescaledb=await upkeep_store.storage_mode(connection) == "timescaledb",
            keys_from=this_hour - timedelta(hours=HOURS + 2),
            day_from=this_hour - timedelta(hours=HOURS),
        )


async def _close(connection: "Connection") -> None:
    # Also in the middle of a statement that is being given up.
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        await connection.close(timeout=5)


# --- keys ------------------------------------------------------------------------------------------------------------


async def _compare_keys(bench: Bench, rows: int, report: Report, *, until: float) -> None:
    """Everybody's heartbeats, minute after minute, into one table for each key, `until` then (monotonic)."""
    connection = bench.connection
    devices = min(PROVINCE, max(1_000, rows // 7))
    minutes = min(58, -(-rows // devices))
    say(f"keys: {devices:,} devices for {minutes} minutes")
    await sql.make_devices(connection, "province", devices=devices, batch=_batch(devices), first_no=0)
    tables = {"as migrated": "telemetry.sensor_heartbeats"}
    for number, (name, statement) in enumerate(sql.KEYS.items()):
        tables[name] = f"bench.keyed_{number}"
        await sql.make_cut(connection, tables[name], timescaledb=bench.timescaledb, width="1 hour")
        await connection.execute(statement.format(table=tables[name]))
    await connection.execute(sql.MAKE_STAGE)
    figures: dict[str, dict[str, Any]] = {name: {"insert_us_by_minute": [], "wal": 0, "rows": 0} for name in tables}
    for minute in range(minutes):
        if minute % CHECKPOINT_EVERY == 0:
            await connection.execute("CHECKPOINT")
        await connection.execute(sql.EMPTY_STAGE)
        await sql.insert(connection, sql.FILL_STAGE, bench.keys_from + timedelta(minutes=minute), 1)
        for name, table in tables.items():
            await _insert_staged(connection, table, figures[name])
        if time.monotonic() > until and minute + 1 < minutes:
            report["warnings"].append(
                f"keys: only {minute + 1} of {minutes} minutes, for want of time; --part keys has more"
            )
            break
    report["keys"] = {}
    for name, table in tables.items():
        report["keys"][name] = await _key_figures(bench, table, figures[name], slow=name == "at, device_no")
    await _measure_roll_up(bench, report, "province", bench.keys_from)
    for name, table in tables.items():
        if name != "as migrated":
            await connection.execute(f"DROP TABLE {table}")


async def _insert_staged(connection: "Connection", table: str, figures: dict[str, Any]) -> None:
    wal = await connection.fetchval(sql.WAL)
    began_at = time.perf_counter()
    stored = await sql.insert(connection, sql.INSERT_STAGED.format(table=table))
    figures["insert_us_by_minute"].append(round((time.perf_counter() - began_at) * 1e6 / stored, 2))
    figures["wal"] += await connection.fetchval(sql.WAL_SINCE, wal)
    figures["rows"] += stored


async def _key_figures(bench: Bench, table: str, figures: dict[str, Any], *, slow: bool) -> dict[str, Any]:
    rows, by_minute = figures["rows"], figures["insert_us_by_minute"]
    size = await bench.size(table)
    await bench.connection.execute(f"ANALYZE {table}")
    numbers = await sql.device_numbers(bench.connection, "province", SLOW_EXECUTIONS if slow else EXECUTIONS)
    statement = sql.ONE_DEVICE.format(table=table)
    took = await _timed(
        lambda number: bench.connection.fetch(statement, number, bench.keys_from), numbers, warm_up=0 if slow else 10
    )
    return {
        "rows": rows,
        "insert_us_per_row": round(sum(by_minute) / len(by_minute), 2),
        "insert_us_per_row_by_minute": by_minute,
        "wal_bytes_per_row": round(figures["wal"] / rows, 1),
        "heap_bytes_per_row": round(size.heap / rows, 1),
        "index_bytes_per_row": round(size.index / rows, 1),
        "one_device_ms": _distribution(took),
    }


# --- a day -----------------------------------------------------------------------------------------------------------


async def _fill_day(bench: Bench, rows: int, report: Report) -> None:
    """A day of fewer devices, into the table ingest writes to."""
    devices = max(200, rows // (HOURS * 60))
    say(f"a day: {devices:,} devices for {HOURS} hours")
    await sql.make_devices(bench.connection, "residents", devices=devices, batch=_batch(devices), first_no=BEYOND)
    before = await bench.size("telemetry.sensor_heartbeats")
    began_at = time.perf_counter()
    stored = 0
    for hour in range(HOURS):
        stored += await sql.insert(bench.connection, sql.INSERT_SENT, bench.day_from + timedelta(hours=hour), 60)
    took_s = time.perf_counter() - began_at
    after = await bench.size("telemetry.sensor_heartbeats")
    await bench.connection.execute(sql.TIDY[0])
    report["heartbeat_bytes_raw"] = round((after.heap + after.index - before.heap - before.index) / stored, 1)
    report["day"] = {
        "rows": stored,
        "devices": devices,
        "made_and_inserted_us_per_row": round(took_s * 1e6 / stored, 2),
        "heap_bytes_per_row": round((after.heap - before.heap) / stored, 1),
        "index_bytes_per_row": round((after.index - before.index) / stored, 1),
    }
    await _measure_roll_up(bench, report, "few_devices", bench.day_from + timedelta(hours=1))


async def _measure_roll_up(bench: Bench, report: Report, name: str, hour: datetime) -> None:
    say("roll-up")
    found = await bench.connection.fetchrow(sql.COUNT_OF_HOUR, hour)
    assert found is not None
    began_at = time.perf_counter()
    await bench.connection.execute(sql.ROLL_UP, hour)
    took_s = time.perf_counter() - began_at
    report["roll_up"] = (report["roll_up"] or {}) | {
        name: {
            "rows": found["rows"],
            "devices": found["devices"],
            "seconds": round(took_s, 2),
            "us_per_row": round(took_s * 1e6 / found["rows"], 3),
        }
    }


# --- compression -----------------------------------------------------------------------------------------------------


async def _compare_packings(bench: Bench, report: Report) -> None:
    connection = bench.connection
    report["packings"] = {}
    for number, (name, packing) in enumerate(PACKINGS.items()):
        say(f"compression: {name}")
        table = f"bench.packed_{number}"
        await sql.make_cut(connection, table, timescaledb=True, width=packing.width)
        await connection.execute(sql.COMPRESSED.format(table=table, segment=packing.segment, order=packing.order))
        stored = await sql.insert(
            connection,
            sql.FILL_PACKED.format(table=table, received_at=packing.received_at),
            bench.day_from,
            PACKED_PART,
        )
        began_at = time.perf_counter()
        chunks = await sql.compress(connection, table, since=bench.day_from - timedelta(days=2))
        took_s = time.perf_counter() - began_at
        sizes = await connection.fetchrow(sql.COMPRESSED_BYTES, table)
        assert sizes is not None
        report["packings"][name] = {
            "rows": stored,
            "chunks": chunks,
            "bytes_per_row": round(sizes["after"] / stored, 2),
            "compress_us_per_row": round(took_s * 1e6 / stored, 2),
        }
        await connection.execute(f"DROP TABLE {table}")


async def _compress_day(bench: Bench, report: Report) -> None:
    """Compress the day as migrations have set it up; then rows that come late, or again."""
    say("compressing the day")
    connection, table, stored = bench.connection, "telemetry.sensor_heartbeats", report["day"]["rows"]
    began_at = time.perf_counter()
    chunks = await sql.compress(connection, table, since=bench.day_from)
    took_s = time.perf_counter() - began_at
    sizes = await connection.fetchrow(sql.COMPRESSED_BYTES, table)
    assert sizes is not None
    report["heartbeat_bytes_compressed"] = round(sizes["after"] / stored, 2)
    report["day"] |= {"chunks": chunks, "compress_us_per_row": round(took_s * 1e6 / stored, 2)}
    numbers = await sql.device_numbers(connection, "residents", EXECUTIONS)
    late = await _inserted(connection, sql.LATE, numbers, bench.day_from + timedelta(hours=3, minutes=7))
    again = await _inserted(connection, sql.AGAIN, numbers, bench.day_from + timedelta(hours=5, minutes=7))
    report["late_rows"] = {
        "stored": late.rows,
        "ms_per_row": late.ms_per_row(len(numbers)),
        "stored_again": again.rows,
        "again_ms_per_row": again.ms_per_row(len(numbers)),
    }
    hour = bench.day_from + timedelta(hours=3)
    took = await _timed(lambda number: connection.execute(sql.ROLL_UP_ONE, hour, number), numbers, warm_up=0)
    report["roll_up"]["straggler_of_a_compressed_hour_ms"] = _distribution(took)
    if again.rows:
        report["problems"].append(f"{again.rows} heartbeats that were there, compressed, have been stored again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inserted:
    rows: int
    seconds: float

    def ms_per_row(self, rows: int) -> float:
        return round(self.seconds * 1e3 / rows, 3)


async def _inserted(connection: "Connection", statement: str, numbers: Sequence[int], minute: datetime) -> _Inserted:
    began_at = time.perf_counter()
    rows = await sql.insert(connection, statement, numbers, minute)
    return _Inserted(rows=rows, seconds=time.perf_counter() - began_at)


# --- questions -------------------------------------------------------------------------------------------------------


async def _ask_of_one(bench: Bench, report: Report, name: str) -> None:
    say(name.replace("_", " "))
    numbers = await sql.device_numbers(bench.connection, "residents", EXECUTIONS)
    took = await _timed(lambda number: bench.connection.fetch(sql.LAST_DAY, number, bench.day_from), numbers)
    _answered(report, name, took)


async def _ask_of_the_fleet(bench: Bench, report: Report) -> None:
    """Counts of a commune and one page of its devices, by control's own queries."""
    say("the state of a fleet")
    large = [(_unit(number), min(COMMUNE, report["rows"] // 100)) for number in range(10)]
    radio = [(_unit(number), RADIO_COMMUNE_SENSORS + RADIO_COMMUNE_CLUSTERS) for number in range(10, 20)]
    await sql.fill_fleet(bench.connection, large + radio)
    for statement in sql.TIDY[2:]:
        await bench.connection.execute(statement)
    now = utc_now()

    async def count(unit: uuid.UUID) -> object:
        return await fleet_store.counts(bench.connection, [UnitId(unit)], now=now)

    async def page(unit: uuid.UUID) -> object:
        return await fleet_store.states(
            bench.connection, [UnitId(unit)], kind=None, liveness=None, after=None, limit=PAGE, now=now
        )

    for size, communes in ((large[0][1], large), (radio[0][1], radio)):
        units = [communes[number % len(communes)][0] for number in range(EXECUTIONS)]
        _answered(report, f"commune_of_{size}_counts", await _timed(count, units))
        _answered(report, f"commune_of_{size}_page_of_{PAGE}", await _timed(page, units))


def _unit(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"commune-{number}.invalid")


async def _ask_of_a_month(bench: Bench, report: Report) -> None:
    """Availability by the hour, of a commune of commune radio and of all of them together."""
    say("a month by the hour")
    connection = bench.connection
    sensors, clusters = RADIO_COMMUNES * RADIO_COMMUNE_SENSORS, RADIO_COMMUNES * RADIO_COMMUNE_CLUSTERS
    until = bench.day_from - timedelta(hours=4)  # rolled-up hours of this run's own rows lie behind
    await connection.execute(sql.MAKE_ROOM, until - timedelta(days=31), until)
    before = await bench.size("telemetry.sensor_heartbeats_hourly")
    stored = await sql.insert(connection, sql.FILL_SENSOR_HOURS, until, sensors)
    after = await bench.size("telemetry.sensor_heartbeats_hourly")
    await sql.insert(connection, sql.FILL_CLUSTER_HOURS, until, sensors, clusters)
    for statement in sql.TIDY[1:3]:
        await connection.execute(statement)
    report["sensor_hours"] = {
        "rows": stored,
        "bytes_raw": round((after.heap + after.index - before.heap - before.index) / stored, 1),
    }
    communes = [_numbers_of_commune(commune, sensors) for commune in range(RADIO_COMMUNES)]
    everybody = [number for commune in communes for number in commune]
    since = until - timedelta(days=30)

    async def ask(numbers: Sequence[int]) -> object:
        return await connection.fetch(sql.AVAILABILITY, numbers, since, until)

    async def ask_all(suffix: str) -> None:
        asked = [communes[number % RADIO_COMMUNES] for number in range(EXECUTIONS)]
        _answered(report, f"month_of_a_commune_of_{len(communes[0])}{suffix}", await _timed(ask, asked))
        took = await _timed(ask, [everybody] * SLOW_EXECUTIONS, warm_up=1)
        _answered(report, f"month_of_{len(everybody)}_devices{suffix}", took)

    await ask_all("")
    if bench.timescaledb:
        await sql.compress(connection, "telemetry.sensor_heartbeats_hourly", since=since - timedelta(days=30))
        packed = await bench.size("telemetry.sensor_heartbeats_hourly")
        report["sensor_hours"]["bytes_compressed"] = round((packed.heap + packed.index) / stored, 2)
        await ask_all("_compressed")


def _numbers_of_commune(commune: int, sensors: int) -> list[int]:
    """Its sensors, then its clusters, which are numbered behind all sensors."""
    first_sensor = 1 + commune * RADIO_COMMUNE_SENSORS
    first_cluster = 1 + sensors + commune * RADIO_COMMUNE_CLUSTERS
    return [
        *range(first_sensor, first_sensor + RADIO_COMMUNE_SENSORS),
        *range(first_cluster, first_cluster + RADIO_COMMUNE_CLUSTERS),
    ]


# --- small change ----------------------------------------------------------------------------------------------------


async def _timed(
    ask: Callable[[Any], Awaitable[object]], arguments: Sequence[object], *, warm_up: int = 10
) -> list[float]:
    """How long each took, ms, ascending; the first few are asked once more before."""
    for argument in arguments[:warm_up]:
        await ask(argument)
    took = []
    for argument in arguments:
        began_at = time.perf_counter()
        await ask(argument)
        took.append((time.perf_counter() - began_at) * 1e3)
    return sorted(took)


def _distribution(took: Sequence[float]) -> dict[str, Any]:
    return {
        "executions": len(took),
        **{f"p{percent}": round(percentile(took, percent) or 0.0, 2) for percent in (50, 99)},
    }


def _answered(report: Report, name: str, took: Sequence[float]) -> None:
    report["queries_ms"] = (report["queries_ms"] or {}) | {name: _distribution(took)}


def _batch(devices: int) -> int:
    """Rows of a batch of ingest: it is written when it is full, or due."""
    return max(1, min(BATCH, devices // (60 * BATCHES_A_SECOND)))


def is_server_url(text: str) -> bool:
    """Whether it looks like the URL of a database on a PostgreSQL server."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"postgresql", "postgres"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
