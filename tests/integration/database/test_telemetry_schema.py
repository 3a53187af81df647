"""The telemetry schema: names, rights, the cursor that skips nothing, roll-ups and partitions, in both storage modes."""

import asyncio
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

import asyncpg
import pytest

from schemas.fields import ClockState, DeviceKind, NetworkType, PlaySource, PowerSource
from schemas.readings import Quality
from services.ingest.maintainer import Maintainer
from services.ingest.metrics import Metrics
from services.ingest.rows import HeardKind, Signature
from services.ingest.sensor_roller import SensorRoller
from services.ingest.settings import RetentionSettings
from services.ingest.stamps import TimeSource, TimeWindow
from services.shared.database.errors import DatabaseRefused
from services.shared.database.pool import connect, open_database
from tests.support.database import TestDatabase

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
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


async def insert_of_sensors(connection: "Connection", *instants: datetime, device_no: int = 7, dbm: int = -80) -> None:
    await connection.executemany(
        "INSERT INTO telemetry.sensor_heartbeats (at, received_at, device_no, clock_state, time_source, uptime_s, firmware,"
        " signal_dbm, battery_percent) VALUES ($1, $1, $2, 0, 0, 1, 'test', $3, 50) ON CONFLICT DO NOTHING",
        [(at, device_no, dbm) for at in instants],
    )


async def note_rolled_up(owner: "Connection", *, until: datetime) -> None:
    """As if every hour of sensors before that had been rolled up, without asking for each."""
    await owner.execute(
        "INSERT INTO telemetry.sensor_roll_up_watermark (until) VALUES (date_trunc('hour', $1::timestamptz, 'UTC'))"
        " ON CONFLICT (is_single) DO UPDATE SET until = excluded.until",
        until,
    )


async def note_late(owner: "Connection", *instants: datetime, device_no: int = 7) -> None:
    """What ingest stores beside rows of hours that are over."""
    await owner.executemany(
        "INSERT INTO telemetry.late_sensor_hours VALUES (date_trunc('hour', $1::timestamptz, 'UTC'), $2)",
        [(at, device_no) for at in instants],
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
        ("signature_name", Signature),
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
        for call in (
            "ensure_partitions(now(), now())",
            "drop_older(now(), now(), now())",
            "drop_before('events', now())",
            "roll_up_next(now())",
            "roll_up_sensors_next(now())",
        ):
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


async def roll_up_all(connection: "Connection", now: datetime, *, function: str = "roll_up_next") -> list[datetime]:
    """Everything that is due at `now`, as ingest asks for it."""
    hours = []
    while (hour := await connection.fetchval(f"SELECT telemetry.{function}($1)", now)) is not None:
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


async def test_an_hour_of_sensors_is_rolled_up_by_itself_and_stragglers_one_by_one(database: TestDatabase) -> None:
    hour, minute = an_hour_of_today(), timedelta(minutes=1)
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):

        async def rolled_up(now: datetime) -> list[datetime]:
            return await roll_up_all(ingest, now, function="roll_up_sensors_next")

        async def hours(device_no: int) -> list[tuple[object, ...]]:
            rows = await ingest.fetch(
                "SELECT heartbeats, minutes_heard, longest_gap_s, first_at, last_at, signal_min_dbm, minutes_playing"
                " FROM telemetry.heartbeat_hours WHERE device_no = $1",
                device_no,
            )
            return [tuple(row) for row in rows]

        assert await rolled_up(hour + 10 * minute) == []
        # The first and the last millisecond of a minute, and of the hour.
        ends = (hour, hour + minute - timedelta(milliseconds=1), hour + HOUR - timedelta(milliseconds=1))
        await insert_of_sensors(owner, *ends, hour + 20 * minute, hour + HOUR)
        await insert_of_sensors(owner, hour + 30 * minute, device_no=8, dbm=-90)
        assert await rolled_up(hour + HOUR + 4 * minute) == []
        assert await rolled_up(hour + HOUR + 5 * minute) == [hour]
        last = hour + HOUR - timedelta(seconds=1)
        assert await hours(7) == [(4, 3, 38 * 60, hour, last, -80, 0)]
        assert await hours(8) == [(1, 1, 30 * 60, hour + 30 * minute, hour + 30 * minute, -90, 0)]

        # Both come late; only one of them is announced.
        await insert_of_sensors(owner, hour + 40 * minute, dbm=-70)
        await insert_of_sensors(owner, hour + 40 * minute, device_no=8)
        await owner.executemany("INSERT INTO telemetry.late_sensor_hours VALUES ($1, 7)", [(hour,), (hour,)])
        assert await rolled_up(hour + HOUR + 6 * minute) == [hour]
        assert await rolled_up(hour + HOUR + 7 * minute) == []
        assert await hours(7) == [(5, 4, 19 * 60, hour, last, -80, 0)]
        assert (await hours(8))[0][0] == 1


async def test_readers_of_events_do_not_wait_for_an_hour_being_read(database: TestDatabase) -> None:
    hour = an_hour_of_today()
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        await roll_up_all(ingest, hour + timedelta(minutes=10), function="roll_up_sensors_next")
        await insert_of_sensors(owner, hour)
        waits = "SELECT cardinality(pg_blocking_pids($1)) > 0"
        async with owner.transaction(), asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            await owner.execute("LOCK TABLE telemetry.sensor_heartbeats_hourly")
            pid = ingest.get_server_pid()
            rolling = tasks.create_task(roll_up_all(ingest, hour + 2 * HOUR, function="roll_up_sensors_next"))
            while not await owner.fetchval(waits, pid):
                await asyncio.sleep(0.01)
            assert await owner.fetchval("SELECT backend_xid IS NULL FROM pg_stat_activity WHERE pid = $1", pid)
            await owner.execute("COMMIT; BEGIN")
        assert await rolling == [hour]


async def test_what_comes_after_its_hour_was_dropped_is_added_to_what_is_known(database: TestDatabase) -> None:
    hour, minute = an_hour_of_today(), timedelta(minutes=1)
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        await insert_of_sensors(owner, *(hour + n * minute for n in range(10)))
        await ingest.execute("SELECT telemetry.roll_up_sensors($1, NULL)", hour)
        await note_rolled_up(owner, until=hour + timedelta(days=2))
        await ingest.execute("SELECT telemetry.drop_before('sensor_heartbeats', $1)", hour + timedelta(days=2))
        assert await owner.fetchval("SELECT count(*) FROM telemetry.sensor_heartbeats") == 0
        await insert_of_sensors(owner, hour + 30 * minute, hour + 31 * minute)
        await ingest.execute("SELECT telemetry.roll_up_sensors($1, 7)", hour)
        (row,) = await ingest.fetch("SELECT * FROM telemetry.heartbeat_hours")
        assert (row["heartbeats"], row["minutes_heard"], row["first_at"]) == (12, 12, hour)


async def test_an_hour_of_sensors_has_a_time_limit_of_its_own(database: TestDatabase) -> None:
    metrics = Metrics()
    hour = an_hour_of_today()
    clock = hour

    def roller(patience: timedelta) -> SensorRoller:
        return SensorRoller(
            database.ingest, replica="ingest:1", interval=HOUR, patience=patience, keep_for=timedelta(days=4),
            clock=lambda: clock, metrics=metrics,
        )  # fmt: skip

    def counted(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"ingest_{name}_total")

    async with connect(database.owner, application="test") as owner:
        await roller(HOUR).round()
        clock = hour + HOUR
        async with owner.transaction():
            await owner.execute("LOCK TABLE telemetry.sensor_heartbeats_hourly")
            await roller(timedelta(milliseconds=50)).round()
        assert (counted("hours_rolled_up"), counted("maintenance_errors")) == (0, 1)
        await roller(HOUR).round()
        assert (counted("hours_rolled_up"), counted("maintenance_errors")) == (1, 1)


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


# --- sensors' heartbeats ---------------------------------------------------------------------------------------------


async def test_heartbeats_of_sensors_are_read_wherever_they_are(database: TestDatabase) -> None:
    at = an_hour_of_today()
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.control, application="test") as control,
    ):
        await owner.execute(
            "INSERT INTO telemetry.heartbeats (at, received_at, device_no, kind, clock_state, time_source, uptime_s, firmware)"
            " VALUES ($1, $1, 7, 2, 0, 0, 1, 'before')",
            at,
        )
        await insert_of_sensors(owner, at + HOUR)
        rows = await control.fetch(
            "SELECT kind, firmware, battery_percent, device_at, volume_percent, faulty_channels"
            " FROM telemetry.heartbeat_log WHERE device_no = 7 AND at >= $1 ORDER BY at",
            at,
        )
        assert [tuple(row) for row in rows] == [
            ("sensor", "before", None, at, None, None),
            ("sensor", "test", 50, at + HOUR, None, None),
        ]


async def test_one_sensor_is_found_by_the_key(database: TestDatabase) -> None:
    hour = an_hour_of_today()
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.control, application="test") as control,
    ):
        await owner.execute(
            "INSERT INTO telemetry.sensor_heartbeats (at, received_at, device_no, clock_state, time_source, uptime_s, firmware)"
            " SELECT at, at, device_no, 0, 0, 1, 'test'"
            "   FROM generate_series(1, 500) device_no,"
            "        generate_series($1::timestamptz, $1::timestamptz + interval '1 hour', '1 minute') at",
            hour,
        )
        await owner.execute("ANALYZE telemetry.sensor_heartbeats")
        plan = await control.fetch(
            "EXPLAIN SELECT * FROM telemetry.heartbeat_log WHERE device_no = 250 AND at >= $1 AND at < $2",
            hour,
            hour + HOUR,
        )
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan on sensor_heartbeats" not in text
        assert "device_no = 250" in text


async def test_a_heartbeat_of_a_sensor_is_stored_once(database: TestDatabase) -> None:
    at = an_hour_of_today()
    async with connect(database.ingest, application="test") as ingest:
        for device_no in (7, 7, 8):
            await insert_of_sensors(ingest, at, at + timedelta(microseconds=1), device_no=device_no)
        rows = await ingest.fetch("SELECT device_no, count(*) AS rows FROM telemetry.sensor_heartbeats GROUP BY 1")
        assert {row["device_no"]: row["rows"] for row in rows} == {7: 2, 8: 2}
        with pytest.raises(asyncpg.UniqueViolationError):
            await ingest.execute(
                "INSERT INTO telemetry.sensor_heartbeats"
                " (at, received_at, device_no, clock_state, time_source, uptime_s, firmware)"
                " VALUES ($1, now(), 7, 0, 0, 1, 'test')",
                at,
            )


async def test_compressed_heartbeats_are_read_added_to_and_still_unique(database: TestDatabase) -> None:
    hour, minute = an_hour_of_today(), timedelta(minutes=1)
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        if await ingest.fetchval("SELECT telemetry.storage_mode()") != "timescaledb":
            pytest.skip("only TimescaleDB compresses")
        # Of 100 batches touched a transaction would be refused, and with it whatever else came with them.
        limit = await ingest.fetchval("SHOW timescaledb.max_tuples_decompressed_per_dml_transaction")
        assert limit == "0"
        instants = [hour + n * minute for n in range(60) if n != 30]
        for device_no in range(1, 50):
            await insert_of_sensors(ingest, *instants, device_no=device_no)
        await owner.execute("SELECT compress_chunk(c) FROM show_chunks('telemetry.sensor_heartbeats') c")
        await insert_of_sensors(ingest, *instants)  # come again
        assert await owner.fetchval("SELECT count(*) FROM telemetry.sensor_heartbeats") == 49 * 59
        await insert_of_sensors(ingest, hour + 30 * minute)  # comes late
        of_one = "SELECT count(*) FROM telemetry.heartbeat_log WHERE device_no = 7 AND at >= $1"
        assert await owner.fetchval(of_one, hour) == 60
        await ingest.execute("SELECT telemetry.roll_up_sensors($1, 7)", hour)
        assert await owner.fetchval("SELECT minutes_heard FROM telemetry.heartbeat_hours") == 60
        # An hourly row that is compressed can be added to as well.
        await owner.execute("SELECT compress_chunk(c) FROM show_chunks('telemetry.sensor_heartbeats_hourly') c")
        await insert_of_sensors(ingest, hour + 30 * minute + timedelta(seconds=1))
        await ingest.execute("SELECT telemetry.roll_up_sensors($1, 7)", hour)
        assert await owner.fetchval("SELECT heartbeats FROM telemetry.heartbeat_hours") == 61


async def test_a_sensor_believed_for_longer_than_its_rows_are_kept_has_a_place(database: TestDatabase) -> None:
    """They are stored under their own time, rolled up, and gone with the next round of a day."""
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
            retention=RetentionSettings(),
            keep_quarantine_for=HOUR,
            interval=HOUR,
            clock=lambda: clock,
            metrics=metrics,
        )
        roller = SensorRoller(
            database.ingest, replica="ingest:1", interval=HOUR, patience=HOUR, keep_for=timedelta(days=2),
            clock=lambda: clock, metrics=metrics,
        )  # fmt: skip

        async def a_day(later: timedelta) -> None:
            nonlocal clock
            clock = now + later
            await note_rolled_up(owner, until=clock)
            await maintainer.round()
            await roller.round()

        await a_day(timedelta(0))
        oldest = now - timedelta(days=31)
        await insert_of_sensors(owner, oldest, oldest, now - timedelta(days=1), now)
        assert await owner.fetchval("SELECT count(*) FROM telemetry.sensor_heartbeats") == 3
        await owner.execute("SELECT telemetry.roll_up_sensors(date_trunc('hour', $1, 'UTC'), 7)", oldest)
        await a_day(timedelta(days=4))  # by now the first partition begins where rows are kept
        assert (
            await owner.fetchval("SELECT count(*) FROM telemetry.sensor_heartbeats WHERE at < $1", now - 2 * DAY) == 0
        )
        await insert_of_sensors(owner, oldest)
        await a_day(timedelta(days=40))
        assert await owner.fetchval("SELECT count(*) FROM telemetry.sensor_heartbeats") == 0
        assert await owner.fetchval("SELECT count(*) FROM telemetry.sensor_heartbeats_hourly") == 1
        await insert_of_sensors(owner, now, clock)  # the time dropped has a place still
        assert metrics.registry.get_sample_value("ingest_maintenance_errors_total") == 0


DROP_SENSORS = "SELECT telemetry.drop_before('sensor_heartbeats', $1)"
COUNT_SENSORS = "SELECT count(*) FROM telemetry.sensor_heartbeats"


async def test_late_rows_of_sensors_are_in_their_hours_before_they_are_dropped(database: TestDatabase) -> None:
    now = datetime.now(UTC)  # noqa: TID251 - a test's own clock
    late = now - 3 * DAY, now - 10 * DAY
    before = now + 6 * DAY  # all of it is older: of the partition for one day, and of the one for what is older
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        await owner.execute("SELECT telemetry.ensure_partitions($1, $2)", late[-1], now + DAY)
        await note_rolled_up(owner, until=before + HOUR)
        await insert_of_sensors(owner, *late, now - DAY)
        await note_late(owner, *late)
        await ingest.fetchval(DROP_SENSORS, before)
        assert await owner.fetchval(COUNT_SENSORS) == 2  # the one nobody waits for is gone
        assert not await ingest.fetchval("SELECT telemetry.sensors_rolled_up('-infinity', $1)", before)

        assert len(await roll_up_all(ingest, before, function="roll_up_sensors_next")) == 2
        rows = await ingest.fetch("SELECT hour, heartbeats FROM telemetry.heartbeat_hours WHERE device_no = 7")
        hours = {at.replace(minute=0, second=0, microsecond=0) for at in late}
        assert {row["hour"]: row["heartbeats"] for row in rows} == dict.fromkeys(hours, 1)
        assert await ingest.fetchval("SELECT telemetry.sensors_rolled_up('-infinity', $1)", before)
        await ingest.fetchval(DROP_SENSORS, before)
        assert await owner.fetchval(COUNT_SENSORS) == 0


async def test_hours_of_sensors_not_rolled_up_yet_are_not_dropped(database: TestDatabase) -> None:
    at = an_hour_of_today()
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        await insert_of_sensors(owner, at)
        for until in (None, at):  # nothing was ever rolled up; not this hour
            if until:
                await note_rolled_up(owner, until=until)
            await ingest.fetchval(DROP_SENSORS, at + 5 * DAY)
            assert await owner.fetchval(COUNT_SENSORS) == 1
        await note_rolled_up(owner, until=at + 2 * DAY)
        await ingest.fetchval(DROP_SENSORS, at + 5 * DAY)
        assert await owner.fetchval(COUNT_SENSORS) == 0


async def test_a_late_row_being_stored_while_its_time_is_dropped_is_waited_for(database: TestDatabase) -> None:
    at = an_hour_of_today()
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        await insert_of_sensors(owner, at)
        await note_rolled_up(owner, until=at + 2 * DAY)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            storing = owner.transaction()
            await storing.start()
            await insert_of_sensors(owner, at + timedelta(minutes=1))
            await note_late(owner, at)
            dropping = tasks.create_task(ingest.fetchval(DROP_SENSORS, at + 5 * DAY))
            pid = ingest.get_server_pid()
            while not await owner.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
                await asyncio.sleep(0.01)
            await storing.commit()
        await dropping
        assert await owner.fetchval(COUNT_SENSORS) == 2


@pytest.mark.parametrize("kept_for", [4, 10])
async def test_rows_of_sensors_younger_than_they_are_kept_stay(database: TestDatabase, kept_for: int) -> None:
    """From the first day on, and when they are to be kept for longer than before."""
    now = datetime.now(UTC)  # noqa: TID251 - a test's own clock
    young = now - kept_for * DAY + timedelta(minutes=1)
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as ingest,
    ):
        await note_rolled_up(owner, until=now)
        if kept_for > 4:
            await ingest.fetchval(DROP_SENSORS, now - 4 * DAY)
        await insert_of_sensors(owner, young)
        for _ in range(2):
            await ingest.fetchval(DROP_SENSORS, now - kept_for * DAY)
            assert await owner.fetchval(COUNT_SENSORS) == 1
        await note_rolled_up(owner, until=now + 2 * DAY)
        await ingest.fetchval(DROP_SENSORS, now + 2 * DAY)
        assert await owner.fetchval(COUNT_SENSORS) == 0


async def test_the_roller_drops_what_it_has_rolled_up_and_tries_again_what_it_had_to_leave(
    database: TestDatabase,
) -> None:
    now = datetime.now(UTC)  # noqa: TID251 - a test's own clock
    metrics = Metrics()
    roller = SensorRoller(
        database.ingest, replica="ingest:1", interval=HOUR, patience=HOUR, keep_for=4 * DAY, clock=lambda: now,
        metrics=metrics,
    )  # fmt: skip
    old = now - 20 * DAY
    async with (
        connect(database.owner, application="test") as owner,
        connect(database.ingest, application="test") as other,
    ):
        await owner.execute("SELECT telemetry.ensure_partitions($1, $2)", old, now + DAY)
        await note_rolled_up(owner, until=now - HOUR / 12)
        await insert_of_sensors(owner, old)
        await note_late(owner, old)
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(hashtext('telemetry.roll_up_sensors'))")
            await roller.round()  # another replica is at it
            assert await owner.fetchval("SELECT count(*) FROM telemetry.late_sensor_hours") == 1
            assert await owner.fetchval(COUNT_SENSORS) == 1
        await roller.round()
        assert await owner.fetchval("SELECT heartbeats FROM telemetry.heartbeat_hours WHERE device_no = 7") == 1
        assert await owner.fetchval(COUNT_SENSORS) == 0
        assert metrics.registry.get_sample_value("ingest_maintenance_errors_total") == 0


async def test_nothing_is_dropped_of_a_table_that_is_not_cut(database: TestDatabase) -> None:
    async with connect(database.ingest, application="test") as ingest:
        for table in ("device_states", "no_such_table", "journals; DROP TABLE telemetry.journals"):
            with pytest.raises(asyncpg.RaiseError, match="nothing is dropped"):
                await ingest.fetchval("SELECT telemetry.drop_before($1, now())", table)


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
