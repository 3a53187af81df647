"""The first promise, and nothing lost: database, broker and ingest itself go away in the middle and come back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from schemas import codec
from services.ingest.ledger import LedgerLimits
from services.ingest.quota import QuarantineQuota
from services.ingest.store import StoreLimits, open_store
from services.local.broker import Broker
from services.local.directories import temporary_directory
from services.local.platform import free_port
from services.local.postgres import EmbeddedPostgres, embedded_postgres
from services.shared.database.migrate import MigrateSettings, migrate
from services.shared.database.pool import connect
from services.shared.settings import DatabaseSettings
from tests.integration.ingest.journal_device import JournalDevice
from tests.integration.ingest.relay import Relay
from tests.integration.ingest.support import (
    CLUSTER,
    OTHER_CLUSTER,
    Bench,
    RunningIngest,
    a_bench,
    a_heartbeat,
    eventually,
    now_ms,
)
from tests.support.broker import MqttClient

PASSWORD = "a-password-for-tests"
DATABASE = "loa"
HEARTBEATS = f"loa/v1/{CLUSTER}/up/heartbeat"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class DurableServer:
    """A database server as deployed: what it says is committed survives its death. Reached through a relay."""

    def __init__(self, folder: Path, relay: Relay) -> None:
        self._folder = folder
        self._relay = relay
        self._running = AsyncExitStack()
        self._server: EmbeddedPostgres

    async def start(self) -> None:
        self._server = await self._running.enter_async_context(embedded_postgres(self._folder / "postgres"))
        self._relay.target = self._server.port

    async def stop(self) -> None:
        self._relay.target = None
        await self._running.aclose()

    async def kill(self) -> None:
        self._server.process.kill()
        await self.stop()

    async def migrate(self) -> None:
        await self._server.ensure_database(DATABASE)
        passwords = {"ingest_password": PASSWORD, "control_password": PASSWORD}
        await migrate(MigrateSettings.model_validate({"database": self.owner, **passwords}))

    @property
    def owner(self) -> DatabaseSettings:
        return DatabaseSettings.model_validate({"url": self._server.dsn(DATABASE)})

    @property
    def ingest(self) -> DatabaseSettings:
        parts = urlsplit(self._server.dsn(DATABASE, user="loa_ingest", password=PASSWORD))
        url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{self._relay.port}"))
        return DatabaseSettings.model_validate({"url": url, "connect_timeout": "2s", "pool_max_size": 4})

    async def count(self, query: str) -> int:
        async with connect(self.owner, application="test") as connection:
            number: int = await connection.fetchval(query)
        return number


@asynccontextmanager
async def durable_server() -> AsyncIterator[tuple[DurableServer, Relay]]:
    with temporary_directory() as folder:
        async with Relay(None) as relay:
            server = DurableServer(folder, relay)
            await server.start()
            try:
                await server.migrate()
                yield server, relay
            finally:
                await server.stop()


@contextmanager
def journal_devices(broker: Broker, *, count: int) -> Iterator[list[JournalDevice]]:
    devices = [
        JournalDevice(broker, name, journal=bytes([number]) * 8, count=count)
        for number, name in enumerate((CLUSTER, OTHER_CLUSTER), start=1)
    ]
    try:
        yield devices
    finally:
        for device in devices:
            device.close()


async def publish_heartbeats(client: MqttClient, first_ms: int, count: int) -> None:
    """Heartbeats of `count` different instants, each acknowledged by the broker."""
    for number in range(count):
        payload = codec.encode(a_heartbeat(device_at_ms=first_ms + number))
        assert await asyncio.to_thread(client.publish, HEARTBEATS, payload) == 0


async def acknowledged(ingest: RunningIngest, wanted: int) -> None:
    await eventually(
        lambda: ingest.metric("ingest_messages_acknowledged_total"),
        lambda count: count == wanted,
        what=f"{wanted} acks",
    )


async def answers(ingest: RunningIngest, status: int) -> None:
    async def ask() -> int:
        return (await ingest.get("/readyz"))[0]

    await eventually(ask, lambda answer: answer == status, what=f"/readyz {status}")


async def test_a_database_killed_in_mid_stream_loses_nothing_and_nothing_is_acknowledged_without_it(
    broker: Broker,
) -> None:
    async with durable_server() as (server, relay), a_bench(server.ingest, server.owner, broker) as bench:
        async with bench.ingest() as ingest:
            client = await bench.device(CLUSTER)
            first_ms = now_ms() - 60_000
            await publish_heartbeats(client, first_ms, 50)
            await acknowledged(ingest, 50)

            await server.kill()
            relay.cut()
            await publish_heartbeats(client, first_ms + 50, 50)
            await answers(ingest, 503)
            await ingest.until("ingest_messages_in_hand", 50)
            assert await ingest.metric("ingest_messages_acknowledged_total") == 50

            await server.start()
            await acknowledged(ingest, 100)
            await answers(ingest, 200)
        assert await server.count("SELECT count(*) FROM telemetry.heartbeats") == 100


async def test_a_database_that_hangs_is_given_up_and_the_batch_goes_in_by_another_connection(broker: Broker) -> None:
    async with (
        durable_server() as (server, relay),
        a_bench(server.ingest, server.owner, broker) as bench,
        bench.ingest(batch={"age": "20ms", "commit_timeout": "1s"}) as ingest,
    ):
        client = await bench.device(CLUSTER)
        async with relay.hanging():
            await publish_heartbeats(client, now_ms() - 60_000, 20)
            await answers(ingest, 503)
            assert await ingest.metric("ingest_messages_acknowledged_total") == 0
        await acknowledged(ingest, 20)
        assert await server.count("SELECT count(*) FROM telemetry.heartbeats") == 20


async def test_a_database_that_answers_and_does_not_store_is_not_readiness(bench: Bench) -> None:
    errors = 'ingest_database_errors_total{kind="DatabaseUnavailable"}'
    async with bench.ingest(batch={"age": "20ms", "commit_timeout": "500ms"}) as ingest:
        client = await bench.device(CLUSTER)
        async with bench.owner.transaction():
            await bench.owner.execute("LOCK TABLE telemetry.heartbeats IN SHARE MODE")
            await publish_heartbeats(client, now_ms() - 60_000, 1)
            await ingest.until(errors, 1)
            while await ingest.metric(errors) < 3:
                assert not await ingest.is_ready()
        await acknowledged(ingest, 1)
        assert await ingest.is_ready()


async def test_ingest_started_before_its_database_waits_for_it(broker: Broker) -> None:
    async with durable_server() as (server, _), a_bench(server.ingest, server.owner, broker) as bench:
        await server.stop()
        async with bench.starting_ingest() as ingest:
            await answers(ingest, 503)
            await server.start()
            await answers(ingest, 200)


async def test_a_broker_killed_in_mid_stream_loses_no_event_and_doubles_none(bench: Bench) -> None:
    async with bench.ingest() as ingest:
        with journal_devices(bench.broker, count=300) as devices:
            done = [asyncio.wrap_future(device.start()) for device in devices]
            for kills, stored in enumerate((40, 200), start=1):
                await bench.until_events(stored)
                await bench.broker.kill()
                await bench.broker.start()
                # The lane that carries events: the other one may still be waiting when the broker dies again.
                await ingest.until('ingest_broker_connections_total{lane="vital"}', kills + 1)
            await asyncio.gather(*done)
    await every_event_is_there_once(bench, 300)


async def test_ingest_killed_under_load_loses_no_event_and_doubles_none(bench: Bench, tmp_path: Path) -> None:
    with journal_devices(bench.broker, count=400) as devices:
        done: list[asyncio.Future[None]] = []
        for stored in (50, 300, 500):
            async with bench.ingest_process(tmp_path / "ingest.log") as process:
                done = done or [asyncio.wrap_future(device.start()) for device in devices]
                await bench.until_events(stored)
                process.kill()
        async with bench.ingest():
            await asyncio.gather(*done)
    await every_event_is_there_once(bench, 400)


async def every_event_is_there_once(bench: Bench, count: int) -> None:
    rows = await bench.rows(
        "SELECT device_no, count(*) AS stored, count(DISTINCT sequence) AS different, max(sequence) AS last"
        "  FROM telemetry.event_log GROUP BY device_no"
    )
    assert sorted(tuple(row) for row in rows) == sorted(
        (bench.numbers[name], count, count, count) for name in (CLUSTER, OTHER_CLUSTER)
    )


async def test_a_graceful_stop_commits_and_acknowledges_what_is_in_hand(bench: Bench) -> None:
    client = await bench.device(CLUSTER)
    first_ms = now_ms() - 60_000
    # A batch that would wait for a minute: only the stop can have written it.
    async with bench.ingest(batch={"age": "60s", "commit_timeout": "5s"}) as ingest:
        await publish_heartbeats(client, first_ms, 30)
        await ingest.until("ingest_messages_in_hand", 30)
    assert len(await bench.rows("SELECT * FROM telemetry.heartbeat_log")) == 30
    async with bench.ingest() as ingest:
        # Nothing comes again: it was acknowledged. What came while nobody was there was kept for this replica.
        await publish_heartbeats(client, first_ms + 30, 1)
        await acknowledged(ingest, 1)


async def test_a_stop_without_a_database_leaves_everything_to_the_broker(broker: Broker) -> None:
    async with durable_server() as (server, relay), a_bench(server.ingest, server.owner, broker) as bench:
        client = await bench.device(CLUSTER)
        async with bench.ingest(stop_deadline="200ms") as ingest:
            await server.kill()
            relay.cut()
            await publish_heartbeats(client, now_ms() - 60_000, 30)
            await ingest.until("ingest_messages_in_hand", 30)
        await server.start()
        async with bench.ingest() as ingest:
            await acknowledged(ingest, 30)
        assert await server.count("SELECT count(*) FROM telemetry.heartbeats") == 30


async def test_a_replica_that_freezes_in_mid_transaction_does_not_hold_up_the_others(bench: Bench) -> None:
    limits = StoreLimits(ledger=LedgerLimits(), quarantine=QuarantineQuota(), clock_ahead=timedelta(minutes=5))
    async with open_store(
        bench.ingest_database, replica="ingest:9", limits=limits, patience=timedelta(milliseconds=300)
    ) as frozen:
        transaction = frozen._connection.transaction()
        await transaction.start()
        await frozen._connection.execute(
            "INSERT INTO telemetry.journals VALUES ($1, $1, $2, DEFAULT, now(), now())",
            bench.numbers[CLUSTER],
            int.from_bytes(bytes([1]) * 8, "big"),
        )
        # The same journal from the same device, by another replica: it has to wait, and then it goes on.
        async with bench.ingest():
            with journal_devices(bench.broker, count=3) as devices:
                await asyncio.gather(*(asyncio.wrap_future(device.start()) for device in devices))
        with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresConnectionError)):
            await frozen._connection.execute("SELECT 1")


async def test_a_terminated_process_commits_what_it_has_and_ends_well(bench: Bench, tmp_path: Path) -> None:
    client = await bench.device(CLUSTER)
    port = free_port()
    async with bench.ingest_process(
        tmp_path / "ingest.log", INGEST_BATCH__AGE="60s", INGEST_HEALTH__PORT=str(port)
    ) as process:
        await publish_heartbeats(client, now_ms() - 60_000, 10)
        # What the broker has acknowledged need not have come here yet.
        await RunningIngest(port).until("ingest_messages_received_total", 10)
        assert await process.stop(grace=timedelta(seconds=20)) == 0
    assert len(await bench.rows("SELECT * FROM telemetry.heartbeat_log")) == 10


async def test_what_arrives_while_ingest_is_stopped_is_kept_by_the_broker(bench: Bench) -> None:
    async with bench.ingest():
        pass
    client = await bench.device(CLUSTER)
    await publish_heartbeats(client, now_ms() - 60_000, 30)
    async with bench.ingest() as ingest:
        await acknowledged(ingest, 30)
    assert len(await bench.rows("SELECT * FROM telemetry.heartbeat_log")) == 30


async def test_a_replica_that_leaves_hands_its_share_to_the_others(bench: Bench) -> None:
    client = await bench.device(CLUSTER)
    first_ms = now_ms() - 60_000
    async with bench.ingest(replica="ingest:1") as staying:
        async with bench.ingest(replica="ingest:2", leave_on_stop=True) as leaving:
            await publish_heartbeats(client, first_ms, 40)

            async def shares() -> list[float]:
                return [await each.metric("ingest_messages_acknowledged_total") for each in (staying, leaving)]

            await eventually(shares, lambda answer: sum(answer) == 40)
            assert all(await shares())
            before = (await shares())[0]
        await publish_heartbeats(client, first_ms + 40, 20)
        await acknowledged(staying, round(before) + 20)
    assert len(await bench.rows("SELECT * FROM telemetry.heartbeat_log")) == 60


async def test_more_than_may_be_in_hand_waits_at_the_broker(bench: Bench) -> None:
    client = await bench.device(CLUSTER)
    async with bench.ingest(receive_maximum=10, batch={"age": "60s", "commit_timeout": "5s", "size": 50_000}) as ingest:
        await publish_heartbeats(client, now_ms() - 60_000, 40)
        await ingest.until("ingest_messages_in_hand", 10)
    assert len(await bench.rows("SELECT * FROM telemetry.heartbeat_log")) == 10
    async with bench.ingest(receive_maximum=10) as ingest:
        await acknowledged(ingest, 30)
    assert len(await bench.rows("SELECT * FROM telemetry.heartbeat_log")) == 40
