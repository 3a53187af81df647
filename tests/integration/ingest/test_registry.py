"""The registry in memory follows control's tables: by what changed, exactly, and whole where that cannot be told."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from schemas.fields import DeviceKind
from services.ingest import registry_loader
from services.ingest.metrics import Metrics
from services.ingest.registry import Registry, kind_of, speaker_of
from services.ingest.registry_loader import CHANNEL, RegistryLoader
from services.shared.database.errors import DatabaseError
from services.shared.database.listener import listen
from services.shared.database.pool import connect, open_database
from tests.integration.ingest.support import eventually
from tests.support.database import TestDatabase, TestServer

if TYPE_CHECKING:
    from typing import TypeAlias

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.integration

LONG = timedelta(hours=1)
LISTENER = "registry listener"


@dataclass(frozen=True, slots=True)
class Follower:
    """A registry that is kept up to date as role ingest."""

    registry: Registry
    loader: RegistryLoader
    metrics: Metrics

    def loads(self, kind: str) -> float:
        """How often it was read so."""
        return float(self.metrics.registry.get_sample_value("ingest_registry_loads_total", {"kind": kind}) or 0)

    def pairs(self) -> set[tuple[str, str]]:
        """Who may speak for whom."""
        names = [name.decode() for name in self.registry.entries]
        return {(one, other) for one in names for other in names if self.registry.find(one, other) is not None}

    async def pairs_now(self) -> set[tuple[str, str]]:
        """The same after looking for changes."""
        await self.loader.catch_up()
        return self.pairs()

    @asynccontextmanager
    async def running(self, database: TestDatabase) -> AsyncIterator[None]:
        """As in ingest: told of changes by the database."""
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.loader.run()),
                tasks.create_task(listen(database.ingest, [CHANNEL], self.loader.wake, application=LISTENER)),
            ]
            try:
                yield
            finally:
                for task in background:
                    task.cancel()

    async def until(self, wanted: Callable[[set[tuple[str, str]]], bool]) -> None:
        """Return when who may speak is as wanted."""

        async def ask() -> set[tuple[str, str]]:
            return self.pairs()

        await eventually(ask, wanted, what="the registry")


@asynccontextmanager
async def following(database: TestDatabase, *, refresh: timedelta = LONG) -> AsyncIterator[Follower]:
    """A registry that has been loaded once."""
    registry, metrics = Registry(), Metrics()
    async with open_database(database.ingest, application="test") as pool:
        loader = RegistryLoader(pool, registry, refresh=refresh, metrics=metrics)
        await loader.load()
        yield Follower(registry, loader, metrics)


@pytest_asyncio.fixture
async def follower(database: TestDatabase) -> AsyncIterator[Follower]:
    """A registry that has been loaded once, and looks for changes when asked to."""
    async with following(database) as made:
        yield made


@pytest_asyncio.fixture
async def control(database: TestDatabase) -> AsyncIterator["Control"]:
    """Control's tables, as control writes them."""
    async with a_control(database) as made:
        yield made


@asynccontextmanager
async def a_control(database: TestDatabase) -> AsyncIterator["Control"]:
    async with connect(database.control, application="test") as connection:
        unit_id = uuid.uuid4()
        await connection.execute("INSERT INTO control.units (unit_id) VALUES ($1)", unit_id)
        yield Control(connection, unit_id)


class Control:
    """One connection that does to the tables what control does."""

    def __init__(self, connection: "Connection", unit_id: uuid.UUID) -> None:
        self.connection = connection
        self.unit_id = unit_id

    async def register(self, device_id: str, kind: str = "sensor", *, behind: str | None = None) -> None:
        await self.connection.execute(
            "INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at)"
            " VALUES ($1, $2, $3, $1, now())",
            device_id,
            kind,
            self.unit_id,
        )
        if behind is not None:
            await self.assign(device_id, behind)

    async def retire(self, device_id: str, *, is_retired: bool = True) -> None:
        await self.connection.execute(
            "UPDATE control.devices SET retired_at = CASE WHEN $2 THEN now() END WHERE device_id = $1",
            device_id,
            is_retired,
        )

    async def rename(self, device_id: str, new_id: str) -> None:
        await self.connection.execute(
            "UPDATE control.devices SET device_id = $2 WHERE device_id = $1", device_id, new_id
        )

    async def delete(self, device_id: str) -> None:
        await self.connection.execute(
            "DELETE FROM control.gateway_assignments a USING control.devices d"
            " WHERE d.device_id = $1 AND d.device_no IN (a.device_no, a.gateway_no)",
            device_id,
        )
        await self.connection.execute("DELETE FROM control.devices WHERE device_id = $1", device_id)

    async def assign(
        self, device_id: str, gateway_id: str, *, begins_in: str = "-1 hour", ends_in: str | None = None
    ) -> None:
        await self.connection.execute(
            "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from, valid_until)"
            " SELECT d.device_no, g.device_no, now() + $3::text::interval, now() + $4::text::interval"
            "   FROM control.devices d, control.devices g WHERE d.device_id = $1 AND g.device_id = $2",
            device_id,
            gateway_id,
            begins_in,
            ends_in,
        )

    async def end_assignment(self, device_id: str) -> None:
        await self.connection.execute(
            "UPDATE control.gateway_assignments SET valid_until = now()"
            " WHERE valid_until IS NULL AND device_no = (SELECT device_no FROM control.devices WHERE device_id = $1)",
            device_id,
        )

    async def changes(self) -> int:
        """How many changes were noted."""
        number: int = await self.connection.fetchval("SELECT count(*) FROM control.registry_changes")
        return number


# --- what control does -----------------------------------------------------------------------------------------------


async def test_devices_come_and_go_by_their_changes(control: Control, follower: Follower) -> None:
    assert follower.pairs() == set()
    await control.register("cluster-1", "cluster")
    await control.register("board-1", "board")
    both = {("cluster-1", "cluster-1"), ("board-1", "board-1")}
    assert await follower.pairs_now() == both
    await control.retire("board-1")
    assert await follower.pairs_now() == {("cluster-1", "cluster-1")}
    await control.retire("board-1", is_retired=False)
    assert await follower.pairs_now() == both
    await control.delete("board-1")
    assert await follower.pairs_now() == {("cluster-1", "cluster-1")}
    assert follower.registry.count(DeviceKind.CLUSTER) == 1
    assert follower.registry.count(DeviceKind.BOARD) == 0
    assert (follower.loads("full"), follower.loads("changes")) == (1, 4)
    assert follower.metrics.registry.get_sample_value("ingest_registry_devices") == 1
    assert follower.metrics.registry.get_sample_value("ingest_registry_load_seconds_count", {"kind": "changes"}) == 4


async def test_a_device_goes_from_gateway_to_gateway_and_back_to_itself(control: Control, follower: Follower) -> None:
    await control.register("gateway-1", "gateway")
    await control.register("gateway-2", "gateway")
    await control.register("sensor-1", behind="gateway-1")
    gateways = {("gateway-1", "gateway-1"), ("gateway-2", "gateway-2")}
    assert await follower.pairs_now() == {*gateways, ("gateway-1", "sensor-1")}
    await control.end_assignment("sensor-1")
    await control.assign("sensor-1", "gateway-2", begins_in="0")
    assert await follower.pairs_now() == {*gateways, ("gateway-2", "sensor-1")}
    await control.assign("sensor-1", "gateway-1", begins_in="-2 hours", ends_in="1 hour")
    assert await follower.pairs_now() == {*gateways, ("gateway-1", "sensor-1"), ("gateway-2", "sensor-1")}
    await control.connection.execute("DELETE FROM control.gateway_assignments")
    assert await follower.pairs_now() == {*gateways, ("sensor-1", "sensor-1")}
    assert follower.loads("full") == 1


async def test_a_gateway_takes_the_devices_behind_it_with_it_and_brings_them_back(
    control: Control, follower: Follower
) -> None:
    await control.register("gateway-1", "gateway")
    await control.register("sensor-1", behind="gateway-1")
    at_work = {("gateway-1", "gateway-1"), ("gateway-1", "sensor-1")}
    assert await follower.pairs_now() == at_work
    await control.retire("gateway-1")
    assert await follower.pairs_now() == set()
    assert follower.registry.knows("sensor-1")
    await control.retire("gateway-1", is_retired=False)
    assert await follower.pairs_now() == at_work
    await control.rename("gateway-1", "gateway-9")
    assert await follower.pairs_now() == {("gateway-9", "gateway-9"), ("gateway-9", "sensor-1")}
    # None of this was said of the device behind it, nor had to be read.
    assert await control.connection.fetchval("SELECT max(upper(numbers)) FROM control.registry_changes") == 3


async def test_names_change_hands(control: Control, follower: Follower) -> None:
    await control.register("sensor-1")
    await control.register("sensor-2", "cluster")
    await follower.pairs_now()
    async with control.connection.transaction():
        await control.rename("sensor-1", "sensor-0")
        await control.rename("sensor-2", "sensor-1")
        await control.rename("sensor-0", "sensor-2")
    assert await follower.pairs_now() == {("sensor-1", "sensor-1"), ("sensor-2", "sensor-2")}
    assert kind_of(follower.registry.entries[b"sensor-1"]) is DeviceKind.CLUSTER
    async with control.connection.transaction():
        await control.delete("sensor-1")
        await control.register("sensor-1", "board")
    await follower.loader.catch_up()
    assert kind_of(follower.registry.entries[b"sensor-1"]) is DeviceKind.BOARD


async def test_what_ingest_does_not_care_about_is_no_change(control: Control, follower: Follower) -> None:
    await control.register("sensor-1")
    before = await control.changes()
    await control.connection.execute("UPDATE control.devices SET volume_percent = 31, name = 'x', latitude = 1")
    await control.connection.execute("UPDATE control.devices SET retired_at = now() WHERE device_id = 'nobody'")
    await control.connection.execute("DELETE FROM control.gateway_assignments")
    assert await control.changes() == before


@pytest.mark.parametrize("kind", DeviceKind)
async def test_kinds_have_the_numbers_of_the_wire(control: Control, follower: Follower, kind: DeviceKind) -> None:
    await control.register("device-1", kind.name.lower())
    await follower.loader.catch_up()
    assert kind_of(follower.registry.entries[b"device-1"]) is kind


async def test_a_large_import_is_a_few_ranges_and_is_followed_in_slices(
    control: Control, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.registry_store.SLICE", 100)
    await control.register("gateway-1", "gateway")
    await control.connection.execute(
        "INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at)"
        " SELECT 'sensor-' || number, 'sensor', $1, 'x', now() FROM generate_series(1, 1000) AS number",
        control.unit_id,
    )
    await control.connection.execute(
        "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from)"
        " SELECT device_no, 1, now() FROM control.devices WHERE kind = 'sensor'"
    )
    # One of them in the hands of two, where a slice ends.
    await control.assign("sensor-200", "gateway-1", ends_in="1 hour")
    await follower.loader.catch_up()
    assert follower.registry.count(DeviceKind.SENSOR) == 1_000
    assert {speaker_of(entry) for entry in follower.registry.entries.values()} == {1}
    assert await control.connection.fetchval("SELECT max(length(numbers::text)) FROM control.registry_changes") < 20
    async with following_the_same(follower) as fresh:
        assert fresh.registry.entries == follower.registry.entries
    await control.connection.execute("UPDATE control.devices SET retired_at = now() WHERE device_no % 3 = 0")
    await follower.loader.catch_up()
    assert follower.registry.count(DeviceKind.SENSOR) == 667
    assert follower.loads("full") == 1


@asynccontextmanager
async def following_the_same(follower: Follower) -> AsyncIterator[Follower]:
    registry, metrics = Registry(), Metrics()
    loader = RegistryLoader(follower.loader._database, registry, refresh=LONG, metrics=metrics)
    await loader.load()
    yield Follower(registry, loader, metrics)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_control_does_adds_up_to_the_whole(control: Control, follower: Follower, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"device-{number}" for number in range(6)]

    async def something() -> None:
        one, other = chance.choice(names), chance.choice(names)
        hours = chance.choice([None, f"{chance.randint(1, 2)} hours"])
        doings: list[Callable[[], Awaitable[None]]] = [
            lambda: control.register(one, chance.choice(["cluster", "sensor", "gateway"])),
            lambda: control.retire(one, is_retired=chance.random() < 0.5),
            lambda: control.rename(one, other),
            lambda: control.delete(one),
            lambda: control.assign(one, other, begins_in=f"{chance.randint(-9, -1)} hours", ends_in=hours),
            lambda: control.end_assignment(one),
        ]
        try:
            async with control.connection.transaction():
                await chance.choice(doings)()
        except asyncpg.IntegrityConstraintViolationError:
            pass  # a name that is taken, a device assigned to itself: refused, as it should be

    for _ in range(12):
        async with control.connection.transaction():
            for _ in range(chance.randint(1, 8)):
                await something()
        pairs = await follower.pairs_now()
        async with following_the_same(follower) as fresh:
            assert pairs == fresh.pairs()
            assert follower.registry.entries.keys() == fresh.registry.entries.keys()
            for kind in DeviceKind:
                assert follower.registry.count(kind) == fresh.registry.count(kind)
    assert follower.loads("full") == 1


async def test_emptied_tables_empty_the_registry(database: TestDatabase, control: Control, follower: Follower) -> None:
    await control.register("sensor-1")
    await follower.loader.catch_up()
    async with connect(database.owner, application="test") as owner:
        await owner.execute("TRUNCATE control.devices CASCADE")
    assert await follower.pairs_now() == set()
    assert len(follower.registry) == 0
    assert follower.loads("full") == 2


# --- time and order --------------------------------------------------------------------------------------------------


async def test_an_assignment_begins_and_ends_though_no_row_changes(database: TestDatabase, control: Control) -> None:
    await control.register("gateway-1", "gateway")
    await control.register("sensor-1")
    await control.assign("sensor-1", "gateway-1", begins_in="700 ms", ends_in="1400 ms")
    async with following(database) as follower, follower.running(database):
        await follower.until(lambda pairs: ("sensor-1", "sensor-1") in pairs)
        await follower.until(lambda pairs: ("gateway-1", "sensor-1") in pairs)
        await follower.until(lambda pairs: ("sensor-1", "sensor-1") in pairs)
        assert follower.loads("full") == 1


async def test_an_instant_that_passed_unnoticed_is_made_up_for(control: Control, follower: Follower) -> None:
    await control.register("gateway-1", "gateway")
    await control.register("sensor-1")
    await control.assign("sensor-1", "gateway-1", begins_in="200 ms")
    assert ("sensor-1", "sensor-1") in await follower.pairs_now()
    await eventually(
        lambda: control.connection.fetchval("SELECT bool_and(valid_from < now()) FROM control.gateway_assignments"),
        bool,
    )
    assert ("gateway-1", "sensor-1") in await follower.pairs_now()


async def test_a_transaction_that_commits_late_is_not_stepped_over(
    database: TestDatabase, control: Control, follower: Follower
) -> None:
    async with a_control(database) as slow:
        late = slow.connection.transaction()
        await late.start()
        await slow.register("late-1")
        for number in range(3):
            await control.register(f"early-{number}")
            # Neither does one change wait for another to end, nor do its readers.
            assert (f"early-{number}", f"early-{number}") in await follower.pairs_now()
        await late.commit()
    assert ("late-1", "late-1") in await follower.pairs_now()
    await control.retire("late-1")
    assert ("late-1", "late-1") not in await follower.pairs_now()
    assert follower.loads("full") == 1


async def test_what_was_rolled_back_never_was(control: Control, follower: Follower) -> None:
    attempt = control.connection.transaction()
    await attempt.start()
    await control.register("sensor-1")
    await attempt.rollback()
    assert await follower.pairs_now() == set()


async def test_old_changes_go_as_new_ones_come(database: TestDatabase, control: Control) -> None:
    await control.register("sensor-1")
    await control.register("sensor-2")
    async with connect(database.owner, application="test") as owner:
        await owner.execute("UPDATE control.registry_changes SET at = at - interval '8 days' WHERE change_no = 1")
    await control.register("sensor-3")
    numbers = await control.connection.fetch("SELECT change_no FROM control.registry_changes ORDER BY change_no")
    assert [row["change_no"] for row in numbers] == [2, 3]


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_what_was_missed_while_nobody_listened_is_asked_for(database: TestDatabase, control: Control) -> None:
    async with following(database) as follower, follower.running(database):
        await control.register("sensor-1")
        await follower.until(lambda pairs: ("sensor-1", "sensor-1") in pairs)
        async with connect(database.owner, application="test") as owner:
            ended = await owner.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", LISTENER
            )
        assert len(ended) == 1
        await control.register("sensor-2")
        await follower.until(lambda pairs: ("sensor-2", "sensor-2") in pairs)
        assert follower.loads("full") == 1


async def test_a_database_that_is_away_is_outlived(
    database: TestDatabase, database_server: TestServer, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(database) as follower, follower.running(database):
        await control.register("sensor-1")
        await follower.until(lambda pairs: ("sensor-1", "sensor-1") in pairs)
        admin = await asyncpg.connect(database_server.admin_dsn)
        try:
            await admin.execute(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT 0')
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = 'loa_ingest'",
                database.name,
            )
            follower.loader.wake(CHANNEL, None)

            async def complaints() -> list[str]:
                return [each.message for each in caplog.records if each.message == "registry_not_loaded"]

            await eventually(complaints, bool)
            await control.register("sensor-2")
            assert follower.registry.knows("sensor-1")
            await admin.execute(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT -1')
        finally:
            await admin.close()
        await follower.until(lambda pairs: ("sensor-2", "sensor-2") in pairs)
        assert follower.loads("full") == 1


async def test_a_database_restored_from_backup_is_read_whole(
    database: TestDatabase, database_server: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_control(database) as control:
        await control.register("sensor-1")
        await control.register("sensor-2")
        await control.retire("sensor-2")
    backup = await database_server.make(template=database)
    async with following(database) as follower:
        async with a_control(database) as control:
            await control.retire("sensor-1")
            await control.retire("sensor-2", is_retired=False)
            await control.register("sensor-3")
        assert {name for name, _ in await follower.pairs_now()} == {"sensor-2", "sensor-3"}
        await put_back(database_server, backup, database)

        async def names() -> set[str]:
            try:
                return {name for name, _ in await follower.pairs_now()}
            except DatabaseError:
                return set()  # the pool's connections were of the database that is gone

        await eventually(names, lambda found: found == {"sensor-1"})
        assert follower.loads("full") == 2
        assert len(follower.registry) == 1
        assert [each.levelname for each in caplog.records if each.message == "registry_history_ended"] == ["WARNING"]
    await database_server.drop(backup)


async def put_back(server: TestServer, backup: TestDatabase, database: TestDatabase) -> None:
    await server.drop(database)
    admin = await asyncpg.connect(server.admin_dsn)
    try:
        await admin.execute(f'CREATE DATABASE "{database.name}" TEMPLATE "{backup.name}"')
    finally:
        await admin.close()


async def test_tables_put_back_within_the_same_database_are_noticed(
    database: TestDatabase, control: Control, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    await control.register("sensor-1")
    await control.register("sensor-2")
    await follower.loader.catch_up()
    async with connect(database.owner, application="test") as owner, owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")  # no trigger runs
        await owner.execute("DELETE FROM control.devices WHERE device_id = 'sensor-2'")
        await owner.execute("DELETE FROM control.registry_changes WHERE change_no = 2")
    assert await follower.pairs_now() == {("sensor-1", "sensor-1")}
    assert "registry_history_ended" in [each.message for each in caplog.records]


async def test_once_a_day_it_is_read_whole_and_put_right(
    database: TestDatabase, control: Control, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    await control.register("sensor-1")
    await control.register("sensor-2")
    await follower.loader.catch_up()
    async with connect(database.owner, application="test") as owner, owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute("UPDATE control.devices SET device_id = 'sensor-9' WHERE device_id = 'sensor-2'")
    assert ("sensor-9", "sensor-9") not in await follower.pairs_now()
    loop = asyncio.get_running_loop()
    tomorrow = loop.time() + registry_loader.WHOLE_EVERY.total_seconds()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: tomorrow)
        await follower.loader.catch_up()
    assert follower.pairs() == {("sensor-1", "sensor-1"), ("sensor-9", "sensor-9")}
    assert follower.loads("full") == 2


async def test_a_recheck_tells_more_than_a_version_and_is_not_undone_by_it(
    control: Control, follower: Follower
) -> None:
    await control.register("sensor-1")
    await follower.loader.recheck(["sensor-1", "nobody-1"])
    assert follower.pairs() == {("sensor-1", "sensor-1")}
    await control.retire("sensor-1")
    await follower.loader.recheck(["sensor-1"])
    assert follower.pairs() == set()
    assert await follower.pairs_now() == set()
    assert follower.registry.count(DeviceKind.SENSOR) == 0


async def test_ingest_reads_changes_through_views_alone(database: TestDatabase) -> None:
    async with connect(database.ingest, application="test") as ingest:
        for view in ("registry_change_log", "assignment_instants"):
            await ingest.fetch(f"SELECT * FROM control.{view}")
        for statement in (
            "SELECT * FROM control.registry_changes",
            "DELETE FROM control.registry_change_log",
            "SELECT control.note_registry_change('{[1,2)}', '{}')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ingest.execute(statement)
