"""The telemetry schema: names, rights, the cursor that skips nothing, roll-ups and partitions, in both storage modes."""

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

import asyncpg
import pytest

from schemas.fields import ClockState, DeviceKind, NetworkType, PlaySource, PowerSource
from schemas.readings import Quality
from services.ingest.maintainer import Maintainer
from services.ingest.metrics import Metrics
from services.ingest.rows import HeardKind
from services.ingest.settings import RetentionSettings
from services.ingest.stamps import TimeSource, TimeWindow
from services.shared.database.errors import DatabaseRefused
from services.shared.database.pool import connect, open_database
from tests.support.database import TestDatabase

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
VIEWS = (
    "fleet_states",
    "event_log",
    "heartbeat_log",
    "reading_log",
    "quarantine_log",
    "quarantine_counts",
    "totals",
    "heartbeat_hours",
    "reading_hours",
)
READ_EVENTS = """
SELECT tx, event_no, sequence
  FROM telemetry.event_log
 WHERE tx < pg_snapshot_xmin(pg_current_snapshot())
   AND (tx, event_no) > ($1, $2)
 ORDER BY tx, event_no
"""


def an_hour_of_today() -> datetime:
    """The beginning of an hour that is over and lies within the partitions made at first."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 3 * HOUR  # noqa: TID251 - a test's own clock


async def insert_heartbeats(
    connection: "Connection", *instants: datetime, device_no: int = 1, tenths_c: int = 400
) -> None:
    await connection.executemany(
        "INSERT INTO telemetry.heartbeats (at, received_at, device_no, kind, clock_state, time_source, uptime_s, firmware,"
        " temperature_tenths_c) VALUES ($1, $1, $2, 0, 0, 0, 1, 'test', $3)",
        [(at, device_no, tenths_c) for at in instants],
    )


async def insert_readings(connection: "Connection", *samples: tuple[datetime, float, Quality]) -> None:
    await connection.executemany(
        "INSERT INTO telemetry.readings (at, received_at, value, device_no, quality, clock_state, time_source, quantity,"
        " unit) VALUES ($1, $1, $2, 1, $3, 0, 0, 'water_level', 'm')",
        samples,
    )


async def insert_event(connection: "Connection", sequence: int, at: datetime) -> None:
    await connection.execute(
        "INSERT INTO telemetry.events (journal, sequence, at, received_at, device_no, clock_state, time_source, kind,"
        " principal, body) VALUES (1, $1, $2, $2, 1, 0, 0, 'booted', 'cluster-1', '{}')",
        sequence,
        at,
    )


# --- names and rights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "enumeration"),
    [
        ("kind_name", DeviceKind),
        ("clock_state_name", ClockState),
        ("network_type_name", NetworkType),
        ("power_source_name", PowerSource),
        ("play_source_name", PlaySource),
        ("quality_name", Quality),
        ("time_source_name", TimeSource),
        ("heard_kind_name", HeardKind),
    ],
)
async def test_numbers_have_the_names_of_the_contract(
    database: TestDatabase, function: str, enumeration: type[IntEnum]
) -> None:
    async with connect(database.control, application="test") as connection:
        for member in enumeration:
            name = await connection.fetchval(f"SELECT telemetry.{function}($1::smallint)", int(member))
            assert name == member.name.lower()
        assert await connection.fetchval(f"SELECT telemetry.{function}($1::smallint)", len(enumeration)) is None


async def test_control_reads_the_views_and_nothing_else(database: TestDatabase) -> None:
    async with connect(database.owner, application="test") as owner:
        tables = [
            row["relname"]
            for row in await owner.fetch(
                "SELECT relname FROM pg_class WHERE relnamespace = 'telemetry'::regnamespace AND relkind IN ('r', 'p')"
            )
        ]
    assert "heartbeats" in tables
    async with connect(database.control, application="test") as control:
        for view in VIEWS:
            await control.fetch(f"SELECT * FROM telemetry.{view} LIMIT 1")
            with pytest.raises(asyncpg.PostgresError):
                await control.execute(f"DELETE FROM telemetry.{view}")
        for table in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await control.fetch(f'SELECT * FROM telemetry."{table}" LIMIT 1')
        for call in ("ensure_partitions(now(), now())", "drop_older(now(), now(), now())", "roll_up_next(now())"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await control.fetch(f"SELECT telemetry.{call}")


async def test_ingest_reads_the_registry_of_control_and_nothing_else(database: TestDatabase) -> None:
    async with connect(database.ingest, application="test") as ingest:
        await ingest.fetch("SELECT * FROM control.device_registry")
        for table in ("devices", "accounts", "emissions", "gateway_assignments"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ingest.fetch(f"SELECT * FROM control.{table}")
        for statement in ("DELETE FROM telemetry.events", "UPDATE telemetry.heartbeats SET uptime_s = 0"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ingest.execute(statement)
    with pytest.raises(DatabaseRefused):
        async with connect(database.ingest, application="test") as ingest:
            await ingest.execute("CREATE TABLE telemetry.mine (number integer)")


async def test_a_reader_of_events_steps_over_none_that_commits_late(database: TestDatabase) -> None:
    at = an_hour_of_today()
    async with (
        connect(database.owner, application="test") as slow,
        connect(database.owner, application="test") as fast,
        connect(database.control, application="test") as reader,
    ):
        await insert_event(slow, 0, at)  # whoever is first makes the chunk, and others wait for that
        (row,) = await reader.fetch(READ_EVENTS, 0, 0)
        cursor = (row["tx"], row["event_no"])
        transaction = slow.transaction()
        await transaction.start()
        await insert_event(slow, 1, at)
        await insert_event(fast, 2, at)
        # Event 2 is committed and has the higher number; who went by number would never come back for event 1.
        assert await reader.fetch(READ_EVENTS, *cursor) == []
        await transaction.commit()
        rows = await reader.fetch(READ_EVENTS, *cursor)
        assert [row["sequence"] for row in rows] == [1, 2]
        assert await reader.fetch(READ_EVENTS, rows[-1]["tx"], rows[-1]["event_no"]) == []


# --- roll-ups --------------------------------------------------------------------------------------------------------


async def roll_up_all(connection: "Connection", now: datetime) -> list[datetime]:
    """Everything that is due at `now`, as ingest asks for it."""
    hours = []
    while (hour := await connection.fetchval("SELECT telemetry.roll_up_next($1)", now)) is not None:
        hours.append(hour)
    return hours


async def test_an_hour_is_rolled_up_when_it_is_over_and_again_when_rows_come_late(database: TestDatabase) -> None:
    hour = an_hour_of_today()
    minute = timedelta(minutes=1)
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        # The first call only notes where it begins: what is stored earlier is announced as late by who stores it.
        assert await roll_up_all(ingest, hour + 10 * minute) == []
        await insert_heartbeats(owner, hour, hour + minute, hour + minute * 1.5, tenths_c=380)
        await insert_heartbeats(owner, hour + 30 * minute, tenths_c=420)
        await insert_heartbeats(owner, hour + HOUR)  # of the next hour
        await insert_readings(owner, (hour, 1.0, Quality.GOOD), (hour + minute, 3.0, Quality.UNCERTAIN))
        await insert_readings(owner, (hour + 2 * minute, 99.0, Quality.BAD))

        assert await roll_up_all(ingest, hour + HOUR + 4 * minute) == []
        assert await roll_up_all(ingest, hour + HOUR + 5 * minute) == [hour]
        (row,) = await ingest.fetch("SELECT * FROM telemetry.heartbeat_hours")
        assert (row["heartbeats"], row["minutes_heard"], row["longest_gap_s"]) == (4, 3, 30 * 60)
        assert (row["temperature_min_tenths_c"], row["temperature_max_tenths_c"]) == (380, 420)
        assert (row["first_at"], row["last_at"]) == (hour, hour + 30 * minute)
        (row,) = await ingest.fetch("SELECT * FROM telemetry.reading_hours")
        assert (row["samples"], row["mean"], row["minimum"], row["maximum"], row["unit"]) == (2, 2.0, 1.0, 3.0, "m")

        await insert_heartbeats(owner, hour + 45 * minute)
        await owner.executemany("INSERT INTO telemetry.late_hours VALUES ($1)", [(hour,), (hour,)])
        assert await roll_up_all(ingest, hour + HOUR + 6 * minute) == [hour]
        (row,) = await ingest.fetch("SELECT * FROM telemetry.heartbeat_hours")
        assert (row["heartbeats"], row["longest_gap_s"]) == (5, round(28.5 * 60))
        assert await roll_up_all(ingest, hour + HOUR + 7 * minute) == []


async def test_one_replica_at_a_time_rolls_up(database: TestDatabase) -> None:
    now = an_hour_of_today()
    async with (
        connect(database.ingest, application="test") as first,
        connect(database.ingest, application="test") as second,
    ):
        await roll_up_all(first, now)
        async with first.transaction():
            assert await first.fetchval("SELECT telemetry.roll_up_next($1)", now + HOUR) is not None
            assert await second.fetchval("SELECT telemetry.roll_up_next($1)", now + HOUR) is None


# --- partitions, retention -------------------------------------------------------------------------------------------


async def test_maintenance_makes_room_and_drops_what_is_old_enough(database: TestDatabase) -> None:
    now = datetime.now(UTC)  # noqa: TID251 - a test's own clock
    clock = now
    metrics = Metrics()
    async with (
        connect(database.owner, application="test") as owner,
        open_database(database.ingest, application="test") as pool,
    ):
        maintainer = Maintainer(
            pool,
            window=TimeWindow(),
            retention=RetentionSettings(
                heartbeats=timedelta(days=40), readings=timedelta(days=35), events=timedelta(days=60)
            ),
            keep_quarantine_for=timedelta(days=10),
            interval=HOUR,
            clock=lambda: clock,
            metrics=metrics,
        )
        await maintainer.round()
        oldest = now - timedelta(days=31)
        await insert_heartbeats(owner, oldest, now)
        await insert_readings(owner, (oldest, 1.0, Quality.GOOD), (now, 1.0, Quality.GOOD))
        await insert_event(owner, 1, now)

        # Days and weeks go as a whole, so a little more than the retention is kept.
        clock = now + timedelta(days=11)
        await maintainer.round()
        assert await owner.fetchval("SELECT count(*) FROM telemetry.heartbeats") == 1
        assert await owner.fetchval("SELECT count(*) FROM telemetry.readings") == 1
        assert await owner.fetchval("SELECT count(*) FROM telemetry.events") == 1
        clock = now + timedelta(days=70)
        await maintainer.round()
        assert await owner.fetchval("SELECT count(*) FROM telemetry.heartbeats") == 0
        assert await owner.fetchval("SELECT count(*) FROM telemetry.events") == 0
        # What was rolled up meanwhile stays.
        assert await owner.fetchval("SELECT count(*) FROM telemetry.heartbeats_hourly") == 1


async def test_what_maintenance_cannot_do_holds_up_nothing_else(database: TestDatabase) -> None:
    metrics = Metrics()
    async with (
        connect(database.owner, application="test") as owner,
        open_database(database.ingest, application="test") as pool,
    ):
        await owner.execute("REVOKE EXECUTE ON FUNCTION telemetry.roll_up_next(timestamptz) FROM loa_ingest")
        await owner.execute("INSERT INTO telemetry.quarantine_counters VALUES ('2026-01-01', 'x', 'y', 1, 1, 0)")
        maintainer = Maintainer(
            pool,
            window=TimeWindow(),
            retention=RetentionSettings(),
            keep_quarantine_for=timedelta(days=1),
            interval=HOUR,
            clock=lambda: datetime(2026, 1, 3, tzinfo=UTC),
            metrics=metrics,
        )
        await maintainer.round()
        assert metrics.registry.get_sample_value("ingest_maintenance_errors_total") == 1
        assert await owner.fetchval("SELECT count(*) FROM telemetry.quarantine_counters") == 0


async def test_partitions_are_made_once_and_not_without_end(database: TestDatabase) -> None:
    async with connect(database.ingest, application="test") as ingest:
        if await ingest.fetchval("SELECT telemetry.storage_mode()") != "partitioned":
            pytest.skip("TimescaleDB makes its chunks by itself")
        made = "SELECT telemetry.ensure_partitions(now() + interval '30 days', now() + $1::interval)"
        assert await ingest.fetchval(made, timedelta(days=32)) >= 6
        assert await ingest.fetchval(made, timedelta(days=32)) == 0
        with pytest.raises(asyncpg.RaiseError, match="too wide"):
            await ingest.fetchval(made, timedelta(days=4_000))
