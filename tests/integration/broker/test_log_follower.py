"""Refusals counted from the log of a broker that makes them, rotations included."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.ingest.brokerlog import Refusal, RefusalKind
from services.ingest.log_follower import Tail, follow
from services.local.broker import Broker
from services.local.pki import Pki
from tests.support.broker import DEADLINE_S, MqttClient, NotConnected, connect_device

pytestmark = pytest.mark.integration

OVERSIZED = "2026-11-20T22:19:01+0000: Client {} disconnected due to oversize packet.\n"


class Told(list[Refusal]):
    """What the follower told, and a way to wait for it."""

    async def until(self, condition: Callable[["Told"], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition(self):
                await asyncio.sleep(0.01)

    def clients(self) -> list[str | None]:
        return [refusal.client for refusal in self]


@asynccontextmanager
async def following(path: Path) -> AsyncIterator[Told]:
    told = Told()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow(path, told.append, poll_every=timedelta(milliseconds=5)))
        await asyncio.sleep(0)  # it is now at the end of the file
        yield told
        task.cancel()


def offend(broker: Broker, pki: Pki) -> None:
    """Commit one of each of the offences a device can."""
    with connect_device(broker, "cluster-a") as device:
        device.publish("loa/v1/cluster-b/up/event", b"forged")
        with pytest.raises(NotConnected):
            device.publish("loa/v1/cluster-a/up/event", bytes(10_000_000))
    with pytest.raises(NotConnected):
        MqttClient(broker.device_port, pki, None, client_id="anonymous")


async def test_what_the_broker_refuses_is_counted_as_it_happens(broker: Broker, pki: Pki) -> None:
    await asyncio.to_thread(offend, broker, pki)
    async with following(broker.log) as told:
        await asyncio.to_thread(offend, broker, pki)
        expected = {RefusalKind.FOREIGN_TOPIC, RefusalKind.OVERSIZED_PACKET, RefusalKind.UNTRUSTED_CERTIFICATE}
        await told.until(lambda told: {refusal.kind for refusal in told} >= expected)
        assert Counter(refusal.kind for refusal in told) == dict.fromkeys(expected, 1)

        broker.trim_log(limit=1)
        await asyncio.to_thread(offend, broker, pki)
        await told.until(lambda told: len(told) == 2 * len(expected))


async def test_a_log_may_come_later_and_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mosquitto.log"
    async with following(path) as told:
        path.write_text(OVERSIZED.format("one"))
        await told.until(lambda told: told.clients() == ["one"])

        path.rename(tmp_path / "mosquitto.log.1")
        path.write_text(OVERSIZED.format("two"))
        await told.until(lambda told: told.clients() == ["one", "two"])

        path.write_text(OVERSIZED.format("3"))
        await told.until(lambda told: told.clients() == ["one", "two", "3"])


def test_a_line_may_come_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "mosquitto.log"
    path.write_text("")
    told = Told()
    line = OVERSIZED.format("one")
    with Tail(path) as tail:
        for piece in (line[:5], line[5:40], line[40:]):
            assert told == []
            with path.open("a") as file:
                file.write(piece)
            assert tail.read(told.append)
        assert told.clients() == ["one"]
        assert not tail.read(told.append)


async def test_a_line_without_end_costs_no_memory_and_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mosquitto.log"
    path.write_text("")
    async with following(path) as told:
        with path.open("a") as file:
            for _ in range(64):
                file.write("x" * 2**20)
            file.write("\n" + OVERSIZED.format("after"))
        await told.until(lambda told: told.clients() == ["after"])
