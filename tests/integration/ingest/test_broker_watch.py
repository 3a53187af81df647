"""A queue of the broker that really overflows, and what ingest reads of it in `$SYS`."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from schemas import codec
from schemas.topics import shared
from services.control.trust.certificates import ServiceName
from services.ingest.broker_watch import BrokerWatch
from services.ingest.brokerstats import Drops
from services.ingest.metrics import Metrics
from services.local.broker import Broker, Options
from services.local.pki import Pki
from services.local.platform import free_port
from services.shared.clock import utc_now
from services.shared.settings import BrokerSettings
from tests.integration.ingest.support import CLUSTER, Bench, RunningIngest, a_heartbeat, eventually, now_ms
from tests.support.broker import NEVER_EXPIRES, MqttClient, broker_for, connect_device, connect_service

pytestmark = pytest.mark.integration

QUEUE = 50
OPTIONS = Options(queued_messages=QUEUE, sys_interval=timedelta(seconds=1))
HEARTBEATS = "loa/v1/cluster-a/up/heartbeat"
GROUP = shared("group", "loa/v1/+/up/heartbeat")


@pytest.fixture
def broker(pki: Pki) -> Iterator[Broker]:
    with broker_for(pki, OPTIONS) as running:
        yield running


class Watched:
    """A watch at work, and what it has counted."""

    def __init__(self, broker: Broker, replica: str) -> None:
        identity = broker.pki.service(ServiceName.INGEST)
        settings = BrokerSettings(
            host="127.0.0.1",
            port=broker.service_port,
            ca_file=broker.pki.service_ca,
            cert_file=identity.certificate,
            key_file=identity.key,
        )
        self.metrics = Metrics()
        self.watch = BrokerWatch(settings, replica=replica, clock=utc_now, metrics=self.metrics)

    async def value(self, name: str) -> float:
        for line in generate_latest(self.metrics.registry).decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"there is no {name}")

    async def until(self, name: str, wanted: float) -> None:
        await eventually(lambda: self.value(name), lambda value: value == wanted, what=f"{name} {wanted:g}")

    async def dropped(self) -> float:
        return await self.value("ingest_broker_messages_dropped_total")


@asynccontextmanager
async def watching(
    broker: Broker, remembered: Drops | None = None, *, replica: str = "ingest:1"
) -> AsyncIterator[Watched]:
    watched = Watched(broker, replica)
    watched.watch.remember(remembered)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watched.watch.run())
        await watched.until("ingest_broker_watched", 1)
        try:
            yield watched
        finally:
            task.cancel()


def absent_replica(broker: Broker) -> None:
    """A session of ingest that is away, and for which the broker goes on queueing."""
    replica = connect_service(
        broker, ServiceName.INGEST, client_id="ingest:2", clean_start=False, session_expiry_s=NEVER_EXPIRES
    )
    replica.subscribe(GROUP)
    replica.close()


def returned_replica(broker: Broker) -> MqttClient:
    return connect_service(
        broker, ServiceName.INGEST, client_id="ingest:2", clean_start=False, session_expiry_s=NEVER_EXPIRES
    )


def publish(broker: Broker, count: int, name: str = "n") -> None:
    with connect_device(broker, "cluster-a") as device:
        for number in range(count):
            assert device.publish(HEARTBEATS, f"{name} {number}".encode()) == 0


async def test_what_is_counted_is_what_was_lost(broker: Broker) -> None:
    await asyncio.to_thread(absent_replica, broker)
    async with watching(broker) as watched:
        await asyncio.to_thread(publish, broker, 120)
        await watched.until("ingest_broker_messages_dropped_total", 120 - QUEUE)
        await watched.until("ingest_broker_messages_waiting", QUEUE)
        await watched.until('ingest_broker_clients{state="away"}', 1)

        replica = await asyncio.to_thread(returned_replica, broker)
        await asyncio.to_thread(replica.wait_for, f"n {QUEUE - 1}".encode())
        await asyncio.to_thread(publish, broker, 1, "after")
        await asyncio.to_thread(replica.wait_for, b"after 0")
        lost = 120 + 1 - len(replica.payloads())
        await watched.until("ingest_broker_messages_waiting", 0)
        await watched.until('ingest_broker_clients{state="away"}', 0)
        assert await watched.dropped() == lost
        await asyncio.to_thread(replica.close)


async def test_what_the_broker_has_kept_from_before_is_no_news_and_what_comes_after_it_is(broker: Broker) -> None:
    await asyncio.to_thread(absent_replica, broker)
    async with watching(broker) as first:
        await asyncio.to_thread(publish, broker, 70)
        await first.until("ingest_broker_messages_dropped_total", 20)
        remembered = first.watch.drops

    async with watching(broker) as stranger, watching(broker, remembered, replica="ingest:9") as heir:
        for watched in (stranger, heir):
            await watched.until("ingest_broker_messages_waiting", QUEUE)
            assert await watched.dropped() == 0
        await asyncio.to_thread(publish, broker, 5)
        for watched in (stranger, heir):
            await watched.until("ingest_broker_messages_dropped_total", 5)


async def test_what_was_dropped_while_nobody_watched_is_counted_by_who_remembers(broker: Broker) -> None:
    await asyncio.to_thread(absent_replica, broker)
    async with watching(broker) as first:
        await asyncio.to_thread(publish, broker, 60)
        await first.until("ingest_broker_messages_dropped_total", 10)
        remembered = first.watch.drops

    await asyncio.to_thread(publish, broker, 30)

    async with watching(broker, remembered) as second:
        await second.until("ingest_broker_messages_dropped_total", 30)


async def test_a_broker_that_begins_anew_counts_from_nothing(broker: Broker) -> None:
    await asyncio.to_thread(absent_replica, broker)
    async with watching(broker) as watched:
        await asyncio.to_thread(publish, broker, 60)
        await watched.until("ingest_broker_messages_dropped_total", 10)

        await broker.stop()
        await watched.until("ingest_broker_watched", 0)
        await broker.start()
        await watched.until("ingest_broker_watched", 1)
        await asyncio.to_thread(rejoined, broker)
        await asyncio.to_thread(publish, broker, 7)

        await watched.until("ingest_broker_messages_dropped_total", 17)


def rejoined(broker: Broker) -> None:
    """Mosquitto 2.0.11 forgets shared subscriptions with its own end; what is queued stays, and there is a full queue of it."""
    replica = connect_service(
        broker,
        ServiceName.INGEST,
        client_id="ingest:2",
        clean_start=False,
        session_expiry_s=NEVER_EXPIRES,
        receive_maximum=1,
        manual_ack=True,
    )
    replica.subscribe(GROUP)
    replica.close()


async def test_a_device_reads_nothing_of_what_the_broker_tells(broker: Broker) -> None:
    device = await asyncio.to_thread(connect_device, broker, "cluster-a")
    for topic_filter in ("$SYS/#", "$SYS/broker/uptime", shared("group", "$SYS/#"), "#"):
        await asyncio.to_thread(device.subscribe, topic_filter)
    async with watching(broker) as watched:
        # Rounds told while the device is subscribed: its own coming is one of the news in them.
        await watched.until('ingest_broker_clients{state="connected"}', 2)
    with_word = await asyncio.to_thread(connect_service, broker, ServiceName.CONTROL)
    await asyncio.to_thread(with_word.publish, "loa/v1/cluster-a/down/command", b"after")
    await asyncio.to_thread(device.wait_for, b"after")

    assert device.payloads() == [b"after"] * len(device.payloads())
    await asyncio.to_thread(with_word.close)
    await asyncio.to_thread(device.close)


async def test_a_frozen_ingest_tells_what_it_cost_when_it_comes_to_itself(bench: Bench, tmp_path: Path) -> None:
    """The queue in front of ingest itself: nobody can count while it overflows, and nothing is silent afterwards."""
    count, first_ms = 200, now_ms() - 600_000
    device = await bench.device(CLUSTER)
    port = free_port()
    async with bench.ingest_process(
        tmp_path / "ingest.log", INGEST_RECEIVE_MAXIMUM="10", INGEST_HEALTH__PORT=str(port)
    ) as process:
        ingest = RunningIngest(port=port)
        await eventually(ingest.is_ready, bool)
        await ingest.until("ingest_broker_watched", 1)

        os.kill(process.pid, signal.SIGSTOP)
        try:
            for number in range(count):
                heartbeat = codec.encode(a_heartbeat(device_at_ms=first_ms + number))
                assert await asyncio.to_thread(device.publish, f"loa/v1/{CLUSTER}/up/heartbeat", heartbeat) == 0
        finally:
            os.kill(process.pid, signal.SIGCONT)

        await eventually(
            lambda: ingest.metric("ingest_broker_messages_dropped_total"), lambda dropped: dropped > 0, what="drops"
        )
        await ingest.until("ingest_broker_messages_waiting", 0)
        (row,) = await bench.eventually("SELECT count(*) FROM telemetry.heartbeats", lambda rows: rows[0][0] >= QUEUE)
        dropped = await ingest.metric("ingest_broker_messages_dropped_total")
        assert dropped == count - row[0] == count - QUEUE - 10

        # Over its own end, however sudden: what was dropped before is told once.
        await bench.eventually("SELECT broker_dropped FROM telemetry.replicas", lambda rows: rows[0][0] == dropped)
        process.kill()
    async with bench.ingest() as again:
        await again.until("ingest_broker_watched", 1)
        await again.until("ingest_broker_messages_waiting", 0)
        assert await again.metric("ingest_broker_messages_dropped_total") == 0
