"""A replica that stops in the middle of a COPY, where no timeout of the server reaches it, does not hold up the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from services.shared.database.pool import connect
from tests.integration.ingest.support import CLUSTER, Bench, eventually
from tests.integration.ingest.test_outages import journal_devices

JOURNAL = int.from_bytes(bytes([1]) * 8, "big")

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


async def endless() -> AsyncIterator[bytes]:
    yield b"1\n"
    await asyncio.Event().wait()


async def test_a_replica_that_freezes_within_a_copy_does_not_hold_up_the_others(bench: Bench) -> None:
    async with (
        connect(bench.ingest_database, application="ingest ingest:9") as frozen,
        asyncio.TaskGroup() as tasks,
    ):
        pid = frozen.get_server_pid()
        await frozen.execute("SET idle_in_transaction_session_timeout = '300ms'")
        await frozen.execute("CREATE TEMPORARY TABLE staged (number integer)")
        await frozen.execute("BEGIN")
        await frozen.execute(
            "INSERT INTO telemetry.journals VALUES ($1, $1, $2, DEFAULT, now(), now())", bench.numbers[CLUSTER], JOURNAL
        )

        async def copy() -> None:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await frozen.copy_to_table("staged", source=endless())

        copying = tasks.create_task(copy())

        async def state() -> str | None:
            query = "SELECT wait_event FROM pg_stat_activity WHERE pid = $1 AND query LIKE 'COPY%'"
            return str(await bench.owner.fetchval(query, pid))

        await eventually(state, lambda event: event == "ClientRead", what="a COPY that waits for its client")
        async with bench.ingest(batch={"age": "20ms", "commit_timeout": "500ms"}):
            # The same journal from the same device: it has to wait for the frozen one, which never ends by itself.
            with journal_devices(bench.broker, count=3) as devices:
                await asyncio.gather(*(asyncio.wrap_future(device.start()) for device in devices))
        assert await bench.owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) == 0
        copying.cancel()


async def test_who_waits_for_its_client_no_longer_than_a_commit_may_is_left_alone(bench: Bench) -> None:
    async with (
        connect(bench.ingest_database, application="ingest ingest:9") as slow,
        bench.ingest(batch={"age": "20ms", "commit_timeout": "60s"}),
        slow.transaction(),
    ):
        with journal_devices(bench.broker, count=3) as devices:
            await asyncio.gather(*(asyncio.wrap_future(device.start()) for device in devices))
        assert await slow.fetchval("SELECT 1") == 1
