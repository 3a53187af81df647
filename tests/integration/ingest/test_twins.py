"""Two real devices with one certificate against the real broker and ingest; and one device on a bad line, which is not two."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from schemas import codec
from services.ingest import twin_watch
from tests.integration.ingest.support import (
    CLUSTER,
    OTHER_CLUSTER,
    Bench,
    a_heartbeat,
    a_presence,
    an_event,
    enveloped,
    now_ms,
)
from tests.support.broker import MqttClient, Will

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ROUNDS = 8
SHARED = "SELECT device_no, proof FROM telemetry.shared_certificate_log ORDER BY device_no"


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_watch, "LOOK_EVERY", timedelta(milliseconds=200))


@dataclass(slots=True)
class Device:
    """A device as far as it can be told from its twin: when it booted, its journal, how far that is."""

    device_id: str
    booted_ms: int
    journal: bytes
    sequence: int = 0

    async def connect(self, bench: Bench) -> MqttClient:
        """Come (back), throwing out whoever has this name, and say what a device says then."""
        number = now_ms()
        client = await bench.device(
            self.device_id,
            will=Will(topic=f"loa/v1/{self.device_id}/presence", payload=a_presence(number, online=False)),
        )
        await self._say(client, "presence", a_presence(number, online=True), retain=True)
        at_ms = now_ms()
        heartbeat = a_heartbeat(device_at_ms=at_ms, uptime_s=(at_ms - self.booted_ms) // 1000)
        await self._say(client, "up/heartbeat", codec.encode(heartbeat))
        self.sequence += 1
        body = codec.encode(an_event(volume_percent=self.booted_ms % 100))
        await self._say(client, "up/event", enveloped(self.sequence, body, journal=self.journal))
        return client

    async def _say(self, client: MqttClient, end: str, payload: bytes, **options: Any) -> None:
        assert await asyncio.to_thread(client.publish, f"loa/v1/{self.device_id}/{end}", payload, **options) == 0


async def take_turns(bench: Bench, *devices: Device, rounds: int = ROUNDS) -> None:
    for _ in range(rounds):
        for device in devices:
            await device.connect(bench)


async def found(bench: Bench, *expected: tuple[str, str]) -> None:
    wanted = sorted((bench.numbers[device_id], proof) for device_id, proof in expected)
    await bench.eventually(SHARED, lambda rows: [tuple(row) for row in rows] == wanted)


def minutes_ago(minutes: float) -> int:
    return now_ms() - round(minutes * 60_000)


async def test_a_copied_key_is_found_by_uptimes_that_go_back_and_forth(bench: Bench) -> None:
    async with bench.ingest(broker_log=bench.broker.log) as ingest:
        # A gateway's word would show the same; and of one journal, as if only heartbeats were ever sent.
        original = Device(CLUSTER, minutes_ago(5_000), journal=b"original")
        copy = Device(CLUSTER, minutes_ago(3), journal=b"original")
        for _ in range(ROUNDS):
            await original.connect(bench)
            copy.sequence = original.sequence
            await copy.connect(bench)
            original.sequence = copy.sequence

        await found(bench, (CLUSTER, "boots"))
        await ingest.until("ingest_certificates_shared", 1)
        await ingest.until('ingest_broker_refusals_total{kind="taken_over"}', 2 * ROUNDS - 1)


async def test_a_copied_key_is_found_by_journals_that_alternate(bench: Bench) -> None:
    async with bench.ingest():
        booted = minutes_ago(3)
        await take_turns(
            bench, Device(CLUSTER, booted, journal=b"original"), Device(CLUSTER, booted, journal=b"the copy")
        )

        await found(bench, (CLUSTER, "journals"))


async def test_a_copied_flash_is_found_by_one_number_with_two_bodies(bench: Bench) -> None:
    async with bench.ingest() as ingest:
        booted = minutes_ago(3)
        original, copy = (Device(CLUSTER, each, journal=b"the same") for each in (booted, booted + 1_000))
        await take_turns(bench, original, copy)
        await ingest.until("ingest_devices_reconnecting", 1)
        await take_turns(bench, original, copy, rounds=2)

        await found(bench, (CLUSTER, "clashes"))


async def test_one_device_on_a_bad_line_that_boots_and_loses_its_flash_is_one(bench: Bench) -> None:
    async with bench.ingest() as ingest:
        device = Device(CLUSTER, minutes_ago(60), journal=b"at first")
        for number in range(3 * ROUNDS):
            client = await device.connect(bench)
            if number % 2:
                await asyncio.to_thread(client.die)
            if number == ROUNDS:
                device.booted_ms = now_ms()
            if number == 2 * ROUNDS:
                device.journal, device.sequence, device.booted_ms = b"at last!", 0, now_ms()
        await ingest.until("ingest_devices_reconnecting", 1)
        await bench.until_events(3 * ROUNDS)

        # Somebody else's copied key, looked into after all that: whoever is found is found, and the device is not.
        await take_turns(
            bench,
            Device(OTHER_CLUSTER, minutes_ago(5_000), journal=b"original"),
            Device(OTHER_CLUSTER, minutes_ago(3), journal=b"the copy"),
        )
        await found(bench, (OTHER_CLUSTER, "journals"))
        await ingest.until("ingest_devices_reconnecting", 2)
        await ingest.until("ingest_certificates_shared", 1)
