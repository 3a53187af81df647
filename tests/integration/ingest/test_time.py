"""Time as devices have it: late, out of order, jumping, told twice, and begun anew with a wiped flash."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from schemas import codec
from tests.integration.ingest.support import (
    CLUSTER,
    Bench,
    a_heartbeat,
    an_event,
    enveloped,
    eventually,
    now_ms,
)
from tests.support.broker import MqttClient

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

EVENTS = f"loa/v1/{CLUSTER}/up/event"
HEARTBEATS = f"loa/v1/{CLUSTER}/up/heartbeat"
HOUR_MS = 3_600_000
OLD_FLASH, NEW_FLASH = b"the old ", b"the new "


def publish_all(client: MqttClient, topic: str, payloads: list[bytes]) -> None:
    for payload in payloads:
        assert client.publish(topic, payload) == 0


async def say(client: MqttClient, topic: str, *payloads: bytes) -> None:
    await asyncio.to_thread(publish_all, client, topic, list(payloads))


async def until_receipted(client: MqttClient, through: int, journal: bytes) -> None:
    async def receipted() -> list[int]:
        found = map(codec.decode_receipt, client.payloads(f"loa/v1/{CLUSTER}/down/receipt"))
        return [each.through for each in found if each.journal == journal]

    await eventually(receipted, lambda answer: through in answer, what=f"a receipt through {through}")


async def a_cluster(bench: Bench) -> MqttClient:
    client = await bench.device(CLUSTER)
    await asyncio.to_thread(client.subscribe, f"loa/v1/{CLUSTER}/down/#")
    return client


async def stored(bench: Bench, journal: bytes) -> list[int]:
    """The numbers of one journal that are stored, each as often as it is there."""
    rows = await bench.rows(
        "SELECT sequence FROM telemetry.event_log WHERE journal_id = $1 ORDER BY sequence", journal.hex()
    )
    return [row["sequence"] for row in rows]


async def test_a_device_that_was_away_for_three_days_sends_its_journal(bench: Bench) -> None:
    now = now_ms()
    times = [now - hours * HOUR_MS for hours in range(72, 0, -1)]
    journal = [
        enveloped(number, codec.encode(an_event(device_at_ms=at_ms, started_at_ms=at_ms)), journal=OLD_FLASH)
        for number, at_ms in enumerate(times, start=1)
    ]
    heartbeats = [codec.encode(a_heartbeat(device_at_ms=at_ms, uptime_s=60)) for at_ms in times[:-3]]
    shuffled = random.Random(3).sample(journal * 2, 2 * len(journal))
    async with bench.ingest(maintenance_interval="200ms") as ingest:
        cluster = await a_cluster(bench)
        await ingest.until("ingest_maintenance_errors_total", 0)
        fresh = a_heartbeat(uptime_s=1)
        await say(cluster, HEARTBEATS, codec.encode(fresh))
        await say(cluster, EVENTS, *shuffled)
        await say(cluster, HEARTBEATS, *heartbeats)
        await until_receipted(cluster, len(journal), OLD_FLASH)

        assert await stored(bench, OLD_FLASH) == list(range(1, len(journal) + 1))
        events = await bench.rows("SELECT sequence, at, time_source FROM telemetry.event_log ORDER BY sequence")
        assert [round(row["at"].timestamp() * 1000) for row in events] == times
        assert {row["time_source"] for row in events} == {"device"}
        # Every hour it was away for is counted anew, and its state is the present one.
        wanted = sorted(
            datetime.fromtimestamp(at_ms / 1000, UTC).replace(minute=0, second=0, microsecond=0) for at_ms in times[:-3]
        )
        hours = await bench.eventually(
            "SELECT hour, heartbeats FROM telemetry.heartbeat_hours ORDER BY hour",
            lambda rows: [row["hour"] for row in rows][: len(wanted)] == wanted,
        )
        assert all(row["heartbeats"] == 1 for row in hours[: len(wanted)])
        await bench.eventually("SELECT count(*) FROM telemetry.late_hours", lambda rows: rows[0][0] == 0)
        (state,) = await bench.rows("SELECT heartbeat_at, uptime_s FROM telemetry.fleet_states")
        assert (round(state["heartbeat_at"].timestamp() * 1000), state["uptime_s"]) == (fresh.device_at_ms, 1)


async def test_a_clock_that_jumps_is_stored_once_and_the_newest_is_the_state(bench: Bench) -> None:
    # By how much the clock is off when it speaks, whether that is believed, and whose state stands afterwards.
    steps = [
        (timedelta(0), "device", 0),
        (timedelta(minutes=4), "device", 1),
        (timedelta(days=1), "clock_absurd", 2),
        (timedelta(hours=-1), "device", 2),
        (timedelta(days=-40), "clock_absurd", 4),
        (timedelta(0), "device", 5),
    ]
    async with bench.ingest() as ingest:
        cluster = await bench.device(CLUSTER)
        repeated = 0
        for number, (off, source, stands) in enumerate(steps):
            at_ms = now_ms() + off // timedelta(milliseconds=1)
            said = codec.encode(a_heartbeat(device_at_ms=at_ms, uptime_s=number))
            # Said twice it is stored once, where it has a time of its own to be known by.
            repeated += source == "device"
            await say(cluster, HEARTBEATS, *[said] * (2 if source == "device" else 1))
            await ingest.until("ingest_duplicates_total", repeated)
            (row,) = await bench.eventually(
                "SELECT at, received_at, time_source FROM telemetry.heartbeat_log WHERE uptime_s = $1", bool, number
            )
            assert row["time_source"] == source
            assert (row["at"] == row["received_at"]) == (source == "clock_absurd")
            (state,) = await bench.rows("SELECT uptime_s FROM telemetry.fleet_states")
            assert state["uptime_s"] == stands


async def test_what_is_said_again_over_restarts_is_stored_once_and_a_wiped_flash_begins_anew(bench: Bench) -> None:
    def events(journal: bytes, first: int, last: int) -> list[bytes]:
        return [enveloped(number, journal=journal) for number in range(first, last + 1)]

    async with bench.ingest():
        cluster = await a_cluster(bench)
        await say(cluster, EVENTS, *events(OLD_FLASH, 1, 5))
        await until_receipted(cluster, 5, OLD_FLASH)
    # It lost power before it had read its receipt, and speaks while ingest is away.
    await asyncio.to_thread(cluster.die)
    cluster = await a_cluster(bench)
    await say(cluster, EVENTS, *events(OLD_FLASH, 3, 8))
    async with bench.ingest():
        await until_receipted(cluster, 8, OLD_FLASH)
        await asyncio.to_thread(cluster.die)
        cluster = await a_cluster(bench)
        await say(cluster, EVENTS, *events(NEW_FLASH, 1, 3), *events(NEW_FLASH, 1, 3))
        await until_receipted(cluster, 3, NEW_FLASH)

        assert await stored(bench, OLD_FLASH) == list(range(1, 9))
        assert await stored(bench, NEW_FLASH) == [1, 2, 3]


async def test_a_journal_whose_events_go_to_two_replicas_is_one_journal(bench: Bench) -> None:
    count = 60
    twice = [enveloped(number, journal=OLD_FLASH) for number in range(1, count + 1) for _ in range(2)]
    async with bench.ingest(replica="ingest:1") as one, bench.ingest(replica="ingest:2") as other:
        cluster = await a_cluster(bench)
        await say(cluster, EVENTS, *random.Random(5).sample(twice, len(twice)))
        await until_receipted(cluster, count, OLD_FLASH)

        async def taken() -> list[float]:
            return [await each.metric('ingest_messages_admitted_total{kind="event"}') for each in (one, other)]

        await eventually(taken, lambda answer: sum(answer) == len(twice))
        assert all(await taken())
        assert await stored(bench, OLD_FLASH) == list(range(1, count + 1))
