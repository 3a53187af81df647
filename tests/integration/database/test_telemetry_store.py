"""Ingest's store against a real database: duplicates, newest wins, replicas side by side, poison told from outage."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from schemas import codec
from schemas.fields import ClockState, DeviceKind
from schemas.heartbeats import ClusterHeartbeat
from schemas.identifiers import DeviceId
from schemas.topics import Uplink, UplinkKind, format_topic
from services.ingest.admission import Heartbeat, judge
from services.ingest.batch import Taken, assemble
from services.ingest.errors import DataRefused, PartitionMissing
from services.ingest.ledger import LedgerLimits
from services.ingest.quota import QuarantineQuota
from services.ingest.registry import Registry, pack
from services.ingest.rows import HEARTBEAT_COLUMNS
from services.ingest.stamps import TimeWindow
from services.ingest.statements import LOCK_QUARANTINE
from services.ingest.store import BatchStore, Committed, StoreLimits, open_store
from services.shared.database.errors import DatabaseUnavailable
from services.shared.database.pool import connect
from tests.integration.ingest.support import a_reading, an_event, enveloped
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - a test's own clock; partitions are made around today
NAMES = [f"cluster-{number}" for number in range(1, 41)]
REGISTRY = Registry(
    (name.encode(), pack(DeviceKind.CLUSTER, number, number)) for number, name in enumerate(NAMES, start=1)
)


@asynccontextmanager
async def a_store(database: TestDatabase, replica: str = "ingest:1") -> AsyncIterator[BatchStore]:
    limits = StoreLimits(ledger=LedgerLimits(), quarantine=QuarantineQuota(), clock_ahead=timedelta(minutes=5))
    async with open_store(database.ingest, replica=replica, limits=limits, patience=timedelta(seconds=20)) as store:
        yield store


def taken(name: str, kind: UplinkKind, payload: bytes, *, received_at: datetime = NOW) -> Taken:
    topic = format_topic(Uplink(DeviceId(name), kind, DeviceId(name)))
    verdict = judge(topic, payload, is_retained=False, registry=REGISTRY, now=received_at, window=TimeWindow())
    return Taken(
        topic=topic,
        payload=payload,
        is_retained=False,
        packet_id=1,
        connection=1,
        received_at=received_at,
        verdict=verdict,
    )


def heartbeat(name: str, at: datetime, *, received_at: datetime = NOW, uptime_s: int = 1) -> Taken:
    message = ClusterHeartbeat(
        device_at_ms=round(at.timestamp() * 1000),
        clock=ClockState.SYNCHRONISED,
        firmware="test",
        uptime_s=uptime_s,
        volume_percent=40,
    )
    return taken(name, UplinkKind.HEARTBEAT, codec.encode(message), received_at=received_at)


async def commit(store: BatchStore, *messages: Taken, now: datetime = NOW) -> Committed:
    return await store.commit(assemble(messages, now=now), now=now)


async def test_the_same_heartbeat_twice_is_one_row(database: TestDatabase) -> None:
    async with a_store(database) as store:
        first = await commit(store, heartbeat("cluster-1", NOW), heartbeat("cluster-1", NOW))
        again = await commit(store, heartbeat("cluster-1", NOW))
    assert (first.heartbeats, first.duplicates) == (1, 1)
    assert (again.heartbeats, again.duplicates) == (0, 1)


async def test_the_newest_heartbeat_is_the_state_in_whatever_order_they_come(database: TestDatabase) -> None:
    second = timedelta(seconds=1)
    async with a_store(database) as store, connect(database.control, application="test") as control:

        async def state() -> tuple[int, datetime]:
            (row,) = await control.fetch("SELECT uptime_s, last_heard_at FROM telemetry.fleet_states")
            return row["uptime_s"], row["last_heard_at"]

        await commit(
            store,
            heartbeat("cluster-1", NOW, uptime_s=10),
            heartbeat("cluster-1", NOW - 2 * second, uptime_s=8),
        )
        assert (await state())[0] == 10
        await commit(store, heartbeat("cluster-1", NOW - second, uptime_s=9))
        assert (await state())[0] == 10
        # Offline for long, it sends what it kept: old news of a device that is heard now.
        later = NOW + timedelta(minutes=10)
        await commit(store, heartbeat("cluster-1", NOW - timedelta(hours=5), received_at=later), now=later)
        assert await state() == (10, later)


async def test_a_clock_put_right_does_not_freeze_the_state(database: TestDatabase) -> None:
    minute = timedelta(minutes=1)
    async with a_store(database) as store, connect(database.control, application="test") as control:
        await commit(store, heartbeat("cluster-1", NOW + 4 * minute, uptime_s=10))
        later = NOW + minute
        await commit(store, heartbeat("cluster-1", later, received_at=later, uptime_s=70), now=later)
        assert await control.fetchval("SELECT uptime_s FROM telemetry.fleet_states") == 70


async def test_replicas_with_overlapping_batches_wait_for_one_another(database: TestDatabase) -> None:
    """What a broker redelivers to another replica: the same messages, in another order, at the same time."""
    rounds = 8
    reading = codec.encode(a_reading())

    def batch(number: int, *, backwards: bool) -> list[Taken]:
        messages = [
            message
            for name in NAMES
            for message in (
                heartbeat(name, NOW - timedelta(seconds=number)),
                taken(name, UplinkKind.READING, reading),
                taken(name, UplinkKind.EVENT, enveloped(number + 1)),
                taken(name, UplinkKind.EVENT, enveloped(number + 2)),
                taken(name, UplinkKind.EVENT, b"\xffgarbage" + bytes([number])),
            )
        ]
        return messages[::-1] if backwards else messages

    async def replica(name: str, *, backwards: bool) -> None:
        async with a_store(database, name) as store:
            for number in range(rounds):
                await commit(store, *batch(number, backwards=backwards))

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(replica(f"ingest:{number}", backwards=number % 2 == 1))
    async with connect(database.owner, application="test") as owner:
        assert await owner.fetchval("SELECT count(*) FROM telemetry.heartbeats") == rounds * len(NAMES)
        assert await owner.fetchval("SELECT count(*) FROM telemetry.readings") == 2 * len(NAMES)
        events = await owner.fetch(
            "SELECT device_no, count(*) AS stored, count(DISTINCT sequence) AS different FROM telemetry.events GROUP BY 1"
        )
        assert {(row["stored"], row["different"]) for row in events} == {(rounds + 1, rounds + 1)}
        assert len(events) == len(NAMES)
        totals = await owner.fetchrow("SELECT * FROM telemetry.totals")
        assert totals is not None
        assert (totals["events_stored"], totals["heartbeats_stored"]) == (
            (rounds + 1) * len(NAMES),
            rounds * len(NAMES),
        )
        assert totals["quarantined"] == rounds * len(NAMES)


async def test_a_clock_nobody_believes_does_not_make_replicas_take_turns(database: TestDatabase) -> None:
    async with a_store(database) as store, connect(database.ingest, application="test") as other, other.transaction():
        await other.execute(LOCK_QUARANTINE)
        absurd = heartbeat("cluster-1", NOW - timedelta(days=3_000))
        async with asyncio.timeout(5):
            assert (await commit(store, absurd)).heartbeats == 1


async def test_listeners_hear_once_of_each_batch(database: TestDatabase) -> None:
    heard: list[dict[str, int]] = []
    async with a_store(database) as store, connect(database.control, application="test") as control:
        await control.add_listener("telemetry_committed", lambda *news: heard.append(json.loads(str(news[-1]))))
        await commit(store, heartbeat("cluster-1", NOW), taken("cluster-1", UplinkKind.EVENT, enveloped(1)))
        await control.fetchval("SELECT 1")  # what was notified before arrives before the answer
    (news,) = heard
    assert news.pop("tx") > 0
    assert news == {"heartbeats": 1, "readings": 0, "events": 1, "presences": 0, "quarantined": 0}


async def test_poison_a_missing_partition_and_an_outage_are_told_apart(database: TestDatabase) -> None:
    async with a_store(database) as store, connect(database.owner, application="test") as owner:
        await owner.execute("ALTER TABLE telemetry.heartbeats ADD CONSTRAINT no_poison CHECK (uptime_s <> 666)")
        with pytest.raises(DataRefused, match="no_poison"):
            await commit(store, heartbeat("cluster-1", NOW), heartbeat("cluster-2", NOW, uptime_s=666))
        # What no column can hold is poison too, though the driver says so and not the server.
        huge = heartbeat("cluster-1", NOW)
        assert isinstance(huge.verdict, Heartbeat)
        row = tuple(
            2**40 if column == "uptime_s" else value
            for column, value in zip(HEARTBEAT_COLUMNS, huge.verdict.row, strict=True)
        )
        with pytest.raises(DataRefused, match="OverflowError"):
            await commit(store, replace(huge, verdict=replace(huge.verdict, row=row)))
        if await owner.fetchval("SELECT telemetry.storage_mode()") == "partitioned":
            with pytest.raises(PartitionMissing):
                await commit(store, heartbeat("cluster-1", NOW - timedelta(days=30)))
        # The connection is good for the next batch, and nothing of the failed ones is left.
        assert (await commit(store, heartbeat("cluster-1", NOW))).heartbeats == 1
        assert await owner.fetchval("SELECT count(*) FROM telemetry.heartbeats") == 1
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ingest ingest:1'"
        )
        with pytest.raises(DatabaseUnavailable):
            await commit(store, heartbeat("cluster-3", NOW))


async def test_events_of_one_batch_are_numbered_in_the_order_they_came(database: TestDatabase) -> None:
    bodies = [codec.encode(an_event(volume_percent=number)) for number in range(5)]
    async with a_store(database) as store, connect(database.control, application="test") as control:
        await commit(
            store,
            *(taken("cluster-1", UplinkKind.EVENT, enveloped(number + 1, body)) for number, body in enumerate(bodies)),
        )
        rows = await control.fetch("SELECT sequence, body FROM telemetry.event_log ORDER BY event_no")
    assert [row["sequence"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["body"]["volume_percent"] for row in rows] == [0, 1, 2, 3, 4]
