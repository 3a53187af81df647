"""Replicas that leave, replicas that are gone, and what waits for them at the broker."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from services.control.trust.certificates import ServiceName
from services.ingest.drain import Report, Standing, drain
from services.local.platform import inherited_environment
from tests.integration.ingest.support import CLUSTER, TOP, Bench, a_heartbeat, enveloped, now_ms
from tests.support.broker import NEVER_EXPIRES, MqttClient, connect_service

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

HEARTBEATS = f"loa/v1/{CLUSTER}/up/heartbeat"
EVENTS = f"loa/v1/{CLUSTER}/up/event"
LEAVING = "ingest:2"
SILENCE = timedelta(seconds=3)


class Stream:
    """Heartbeats of one device, each of another instant."""

    def __init__(self, client: MqttClient) -> None:
        self._client = client
        self._at_ms = now_ms() - 600_000
        self.sent = 0

    async def publish(self, count: int) -> None:
        for _ in range(count):
            payload = codec.encode(a_heartbeat(device_at_ms=self._at_ms + self.sent))
            assert await asyncio.to_thread(self._client.publish, HEARTBEATS, payload) == 0
            self.sent += 1

    async def publish_events(self, count: int) -> None:
        for sequence in range(1, count + 1):
            assert await asyncio.to_thread(self._client.publish, EVENTS, enveloped(sequence)) == 0


@pytest.fixture
async def stream(bench: Bench) -> Stream:
    return Stream(await bench.device(CLUSTER))


async def leave(bench: Bench, *, within: timedelta = timedelta(seconds=60), **changes: Any) -> Report:
    return await drain(bench.settings(replica=LEAVING, **changes), asyncio.Event(), within=within)


async def stored(bench: Bench, count: int) -> None:
    rows = await bench.eventually("SELECT count(*) FROM telemetry.heartbeats", lambda rows: rows[0][0] >= count)
    assert rows[0][0] == count


async def strand(bench: Bench, log: Path, stream: Stream, count: int) -> None:
    """Have a replica of that name take its share of what comes, kill it, and let that share pile up."""
    async with bench.ingest_process(log, INGEST_REPLICA=LEAVING) as process:
        process.kill()
    await stream.publish(count)


async def grow_old(bench: Bench) -> None:
    """As if the killed replica had been gone for some minutes."""
    await bench.owner.execute(
        "UPDATE telemetry.replicas SET seen_at = seen_at - interval '5 minutes' WHERE replica = $1", LEAVING
    )


async def broker_knows(bench: Bench, client_id: str) -> bool:
    client = await asyncio.to_thread(
        connect_service,
        bench.broker,
        ServiceName.INGEST,
        client_id=client_id,
        clean_start=False,
        session_expiry_s=NEVER_EXPIRES,
        receive_maximum=1,
        manual_ack=True,
    )
    await asyncio.to_thread(client.close)
    return client.session_present


async def forgotten(bench: Bench) -> None:
    """No session of that replica is left, whichever it had."""
    assert not await broker_knows(bench, LEAVING)
    assert not await broker_knows(bench, f"{LEAVING}-vital")


@asynccontextmanager
async def locked(bench: Bench) -> AsyncIterator[None]:
    """A database that answers and takes no heartbeat inside the block."""
    async with bench.owner.transaction():
        await bench.owner.execute("LOCK TABLE telemetry.heartbeats IN SHARE MODE")
        yield


async def heard_the_request(bench: Bench) -> None:
    await bench.eventually(
        "SELECT replica FROM telemetry.replicas WHERE seen_at > leave_asked_at", lambda rows: len(rows) == 1
    )


async def test_a_running_replica_that_is_asked_to_leave_takes_what_is_its_own_and_hands_on_its_share(
    bench: Bench, stream: Stream
) -> None:
    async with (
        bench.ingest(replica="ingest:1") as staying,
        bench.ingest(replica=LEAVING, receive_maximum=5) as leaving,
        asyncio.TaskGroup() as tasks,
    ):
        async with locked(bench):
            await stream.publish(100)
            await leaving.until("ingest_messages_in_hand", 5)
            report = tasks.create_task(leave(bench))
            await heard_the_request(bench)
        told = await report
        assert (told.found, told.left, told.session_known) == (Standing.RUNNING, True, None)
        assert told.drained == 45, "of its fifty messages five were in its hand when it was asked"
        assert leaving.task is not None
        await leaving.task
        await stored(bench, 100)

        before = await staying.metric("ingest_messages_acknowledged_total")
        await stream.publish(20)
        await staying.until("ingest_messages_acknowledged_total", before + 20)
    await stored(bench, 120)
    await forgotten(bench)


async def test_a_replica_that_is_gone_for_ever_is_told_of_and_what_piled_up_for_it_is_stored(
    bench: Bench, stream: Stream, tmp_path: Path
) -> None:
    stranded = f'ingest_replicas_stranded{{replica="{LEAVING}"}}'
    async with bench.ingest(replica="ingest:1", replica_silence=SILENCE, receive_maximum=5) as staying:
        await strand(bench, tmp_path / "ingest.log", stream, 100)
        await stream.publish_events(20)
        await staying.until("ingest_messages_acknowledged_total", 50 + 10)
        await staying.until(stranded, 1)
        await stored(bench, 50)

        await grow_old(bench)
        told = await leave(bench)
        assert (told.found, told.left, told.drained, told.session_known) == (Standing.SILENT, True, 50 + 10, True)
        await stored(bench, 100)
        await bench.until_events(20)
        await staying.until(stranded, 0)
        assert "stranded" not in (await staying.get("/metrics"))[1].replace(
            "# HELP ingest_replicas_stranded", ""
        ).replace("# TYPE ingest_replicas_stranded", "")
    await forgotten(bench)


async def test_draining_one_message_at_a_time_finds_the_end_of_the_queue(
    bench: Bench, stream: Stream, tmp_path: Path
) -> None:
    await strand(bench, tmp_path / "ingest.log", stream, 60)
    await grow_old(bench)

    told = await leave(bench, receive_maximum=1)

    assert (told.left, told.drained) == (True, 60)
    await stored(bench, 60)


async def test_draining_that_is_not_done_in_time_has_lost_nothing_and_is_done_by_the_next(
    bench: Bench, stream: Stream, tmp_path: Path
) -> None:
    await strand(bench, tmp_path / "ingest.log", stream, 30)
    await grow_old(bench)

    async with locked(bench):
        told = await leave(bench, within=timedelta(seconds=1), stop_deadline="200ms")
        assert (told.found, told.left, told.drained) == (Standing.SILENT, False, None)
        assert await broker_knows(bench, LEAVING)

    told = await leave(bench)
    assert (told.found, told.left, told.session_known) == (Standing.STOPPED, True, True)
    await stored(bench, 30)
    await forgotten(bench)


async def test_a_broker_that_dies_while_a_replica_leaves_costs_nothing(
    bench: Bench, stream: Stream, tmp_path: Path
) -> None:
    await strand(bench, tmp_path / "ingest.log", stream, 30)
    await grow_old(bench)
    async with asyncio.TaskGroup() as tasks:
        async with locked(bench):
            report = tasks.create_task(leave(bench))
            await bench.eventually(
                "SELECT 1 FROM telemetry.replicas WHERE replica = $1 AND seen_at > now() - interval '1 minute'",
                lambda rows: len(rows) == 1,
                LEAVING,
            )
            # In good order, so that it remembers what waits: what a broker forgets is another test's subject.
            await bench.broker.stop()
            await bench.broker.start()
        told = await report
    assert told.left
    await stored(bench, 30)
    await forgotten(bench)


async def test_a_replica_nobody_has_heard_of_leaves_nothing_behind(bench: Bench) -> None:
    told = await leave(bench)

    assert (told.found, told.left, told.drained, told.session_known) == (Standing.UNKNOWN, True, 0, False)
    await forgotten(bench)


async def test_draining_again_does_no_harm_and_a_replica_may_come_back(bench: Bench, stream: Stream) -> None:
    assert (await leave(bench)).left
    again = await leave(bench)
    assert (again.found, again.left, again.drained) == (Standing.LEFT, True, 0)

    async with bench.ingest(replica=LEAVING):
        await stream.publish(5)
        await stored(bench, 5)
        (row,) = await bench.rows("SELECT left_at, stopped_at FROM telemetry.replicas WHERE replica = $1", LEAVING)
        assert (row["left_at"], row["stopped_at"]) == (None, None)


async def test_a_replica_that_stops_in_good_order_is_no_stranded_one_until_it_stays_away(bench: Bench) -> None:
    stranded = f'ingest_replicas_stranded{{replica="{LEAVING}"}}'
    async with bench.ingest(replica="ingest:1", replica_silence=SILENCE) as staying:
        async with bench.ingest(replica=LEAVING):
            pass
        (row,) = await bench.rows("SELECT stopped_at, left_at FROM telemetry.replicas WHERE replica = $1", LEAVING)
        assert row["stopped_at"] is not None
        assert row["left_at"] is None
        assert await staying.metric(stranded) == 0
        await staying.until(stranded, 1)
        async with bench.ingest(replica=LEAVING):
            await staying.until(stranded, 0)


async def test_the_verb_tells_what_it_did_as_json(bench: Bench, stream: Stream, tmp_path: Path) -> None:
    await strand(bench, tmp_path / "ingest.log", stream, 10)
    await grow_old(bench)

    status, told = await verb(bench, LEAVING)
    assert status == 0
    assert told.pop("seconds") >= 0
    assert told == {"replica": LEAVING, "found": "silent", "left": True, "drained": 10, "session_known": True}
    await stored(bench, 10)


async def test_the_verb_that_is_interrupted_says_so_and_can_be_repeated(
    bench: Bench, stream: Stream, tmp_path: Path
) -> None:
    await strand(bench, tmp_path / "ingest.log", stream, 10)
    await grow_old(bench)

    async with locked(bench):
        status, told = await verb(bench, LEAVING, "--within", "1s", INGEST_STOP_DEADLINE="200ms")
    assert (status, told["left"]) == (1, False)

    status, told = await verb(bench, LEAVING)
    assert (status, told["left"]) == (0, True)
    await stored(bench, 10)


async def test_the_verb_without_a_database_changes_nothing(bench: Bench, stream: Stream, tmp_path: Path) -> None:
    await strand(bench, tmp_path / "ingest.log", stream, 3)

    status, told = await verb(bench, LEAVING, INGEST_DATABASE__URL="postgresql://loa_ingest:x@127.0.0.1:1/loa")

    assert (status, told) == (1, {})
    assert await broker_knows(bench, LEAVING)


async def verb(bench: Bench, *arguments: str, **extra: str) -> tuple[int, dict[str, Any]]:
    """Status and report of `./loa drain`, run as an operator runs it: with the settings of an ingest."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "services.ingest.drain", *arguments],
        env=inherited_environment() | bench.environment() | extra,
        cwd=TOP,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(output or b"{}")
