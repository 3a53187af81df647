"""Heartbeats of sensors by the express way, from a gateway's publish to the row: as by the ordinary way, once, and never
lost where the database says no.
"""

import asyncio
from typing import Any

import pytest

from schemas import codec
from schemas.fields import ClockState, NetworkType
from schemas.heartbeats import Network
from tests.integration.ingest.support import BEHIND, GATEWAY, Bench, a_sensor_heartbeat, now_ms
from tests.support.broker import MqttClient

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TOPIC = f"loa/v1/{GATEWAY}/up/heartbeat/{BEHIND}"
COUNT = "SELECT count(*) FROM telemetry.sensor_heartbeats"


async def say(gateway: MqttClient, *payloads: bytes) -> None:
    for payload in payloads:
        assert await asyncio.to_thread(gateway.publish, TOPIC, payload) == 0


def heartbeats(count: int, **changes: Any) -> list[bytes]:
    base = now_ms() - 60_000
    return [codec.encode(a_sensor_heartbeat(device_at_ms=base + number, **changes)) for number in range(count)]


async def test_the_first_of_its_form_teaches_and_the_rest_are_express(bench: Bench) -> None:
    network = Network(type=NetworkType.LORA, signal_dbm=-97)
    async with bench.ingest() as ingest:
        gateway = await bench.device(GATEWAY)
        await say(gateway, *heartbeats(20, network=network))

        await bench.eventually(COUNT, lambda rows: rows[0][0] == 20)
        await ingest.until("ingest_messages_express_total", 19)
        rows = await bench.rows("SELECT * FROM telemetry.sensor_heartbeats ORDER BY at")
        first, *rest = (dict(row) for row in rows)
        for row in rest:
            assert {name for name in row if row[name] != first[name]} == {"at", "received_at"}
        (state,) = await bench.rows(
            "SELECT heartbeat_at, signal_dbm, kind FROM telemetry.fleet_states WHERE device_no = $1",
            bench.numbers[BEHIND],
        )
        assert (state["heartbeat_at"], state["signal_dbm"], state["kind"]) == (rest[-1]["at"], -97, "sensor")


async def test_one_said_twice_is_stored_once_and_all_around_it_too(bench: Bench) -> None:
    async with bench.ingest() as ingest:
        gateway = await bench.device(GATEWAY)
        first, second, third, *rest = heartbeats(20)
        await say(gateway, first, second)
        await bench.eventually(COUNT, lambda rows: rows[0][0] == 2)

        await say(gateway, second, third, third, *rest)

        await bench.eventually(COUNT, lambda rows: rows[0][0] == 20)
        await ingest.until("ingest_duplicates_total", 2)
        assert await ingest.metric("ingest_direct_copies_repeated_total") >= 1
        assert await ingest.metric("ingest_express_batches_refused_total") == 0


async def test_a_row_the_database_refuses_goes_to_quarantine_and_the_others_in(bench: Bench) -> None:
    await bench.owner.execute(
        "ALTER TABLE telemetry.sensor_heartbeats ADD CONSTRAINT no_poison CHECK (uptime_s <> 666)"
    )
    async with bench.ingest() as ingest:
        gateway = await bench.device(GATEWAY)
        before, after = heartbeats(4), heartbeats(8)[4:]
        poison = codec.encode(a_sensor_heartbeat(uptime_s=666))
        taught = codec.encode(a_sensor_heartbeat(device_at_ms=now_ms() - 90_000, uptime_s=667))
        await say(gateway, taught)
        await bench.eventually(COUNT, lambda rows: rows[0][0] == 1)

        await say(gateway, *before, poison, *after)

        await bench.eventually(COUNT, lambda rows: rows[0][0] == 9)
        row = await bench.quarantined("database_refused")
        assert (row["device"], row["messages"]) == (BEHIND, 1)
        assert await ingest.metric("ingest_express_batches_refused_total") >= 1
        await ingest.until("ingest_messages_in_hand", 0)


async def test_a_sensor_that_does_not_know_the_time_is_stored_under_that_of_receipt(bench: Bench) -> None:
    async with bench.ingest() as ingest:
        gateway = await bench.device(GATEWAY)
        said = codec.encode(a_sensor_heartbeat(device_at_ms=1_000, clock=ClockState.UNSYNCHRONISED))
        await say(gateway, *[said] * 10)

        await bench.eventually(COUNT, lambda rows: rows[0][0] == 10)
        await ingest.until("ingest_messages_express_total", 9)
        (row,) = await bench.rows(
            "SELECT count(DISTINCT at) AS times, bool_and(at = received_at) AS are_receipt,"
            " array_agg(DISTINCT extract(epoch FROM device_at)::bigint) AS claimed FROM telemetry.sensor_heartbeats"
        )
        assert (row["times"], row["are_receipt"], row["claimed"]) == (10, True, [1])
