"""The pool and the listener against a real server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from services.shared.database.errors import (
    ConstraintViolated,
    DatabaseRefused,
    DatabaseUnavailable,
    TransactionConflict,
)
from services.shared.database.listener import listen
from services.shared.database.pool import Database, connect, open_database
from services.shared.settings import DatabaseSettings
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def pool(empty_database: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(empty_database.owner, application="test") as opened:
        yield opened


async def test_jsonb_is_python(pool: Database) -> None:
    value = {"unit": "Yên Dũng", "codes": [1, 2.5, None, True]}
    async with pool.connection() as connection:
        assert await connection.fetchval("SELECT $1::jsonb", value) == value


async def test_session_is_named_and_in_utc(pool: Database) -> None:
    async with pool.connection() as connection:
        assert await connection.fetchval("SHOW application_name") == "test"
        assert await connection.fetchval("SHOW timezone") == "UTC"
        assert await connection.fetchval("SHOW statement_timeout") == "30s"


async def test_transaction_is_kept_whole_or_not_at_all(pool: Database) -> None:
    async with pool.transaction() as connection:
        await connection.execute("CREATE TABLE kept (n int)")
    with pytest.raises(RuntimeError, match="stop"):
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO kept VALUES (1)")
            raise RuntimeError("stop")
    async with pool.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0


async def test_readonly_transaction_writes_nothing(pool: Database) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with pool.transaction(readonly=True) as connection:
            await connection.execute("CREATE TABLE t ()")


async def test_broken_constraint_is_told_by_name(pool: Database) -> None:
    async with pool.connection() as connection:
        await connection.execute("CREATE TABLE t (n int CONSTRAINT n_is_positive CHECK (n > 0))")
    with pytest.raises(ConstraintViolated) as caught:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (0)")
    assert caught.value.constraint == "n_is_positive"
    assert isinstance(caught.value.__cause__, asyncpg.CheckViolationError)


async def test_statement_that_takes_too_long_is_a_conflict(empty_database: TestDatabase) -> None:
    hasty = empty_database.owner.model_copy(update={"statement_timeout": timedelta(milliseconds=50)})
    async with open_database(hasty, application="test") as database:
        with pytest.raises(TransactionConflict):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_sleep(10)")


async def test_two_serialisable_transactions_in_each_others_way_conflict(pool: Database) -> None:
    async with pool.connection() as connection:
        await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (0)")
    with pytest.raises(TransactionConflict):
        async with pool.transaction(isolation="repeatable_read") as first:
            await first.fetchval("SELECT n FROM t")
            async with pool.transaction() as second:
                await second.execute("UPDATE t SET n = 1")
            await first.execute("UPDATE t SET n = 2")


async def test_mistake_in_sql_is_a_bug_and_passes_through(pool: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with pool.connection() as connection:
            await connection.fetchval("SELECT * FROM no_such_table")


async def test_nobody_listening_is_unavailable() -> None:
    nowhere = DatabaseSettings.model_validate({"url": "postgresql://a:b@127.0.0.1:1/c"})
    with pytest.raises(DatabaseUnavailable):
        async with open_database(nowhere, application="test"):
            pass


@pytest.mark.parametrize(("part", "other"), [("loa_owner:", "nobody:"), ("/loa_test", "/other")])
async def test_server_that_does_not_let_us_in_refuses(empty_database: TestDatabase, part: str, other: str) -> None:
    url = empty_database.owner.url.get_secret_value()
    if part not in url:
        pytest.skip("an external server's owner has another name")
    wrong = DatabaseSettings.model_validate({"url": url.replace(part, other)})
    with pytest.raises(DatabaseRefused):
        async with open_database(wrong, application="test"):
            pass


async def test_ended_session_is_unavailable_and_the_next_one_works(
    pool: Database, empty_database: TestDatabase
) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with pool.connection() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            async with connect(empty_database.owner, application="other") as other:
                await other.execute("SELECT pg_terminate_backend($1)", pid)
            await connection.fetchval("SELECT 1")
    await pool.ping()


async def test_connection_not_given_back_does_not_hang_the_stop(empty_database: TestDatabase) -> None:
    hasty = empty_database.owner.model_copy(update={"connect_timeout": timedelta(milliseconds=200)})
    async with open_database(hasty, application="test") as database:
        await database.pool.acquire()


# --- listening -------------------------------------------------------------------------------------------------------


async def test_listener_wakes_on_connecting_on_notice_and_on_connecting_again(empty_database: TestDatabase) -> None:
    heard: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()

    def wake(channel: str, payload: str | None) -> None:
        heard.put_nowait((channel, payload))

    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        listening = group.create_task(listen(empty_database.owner, ["bell"], wake, application="listener"))
        assert await heard.get() == ("bell", None)
        async with connect(empty_database.owner, application="test") as connection:
            await connection.execute("SELECT pg_notify('bell', 'ding')")
            assert await heard.get() == ("bell", "ding")
            ended = await connection.fetchval(
                "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'listener'"
                " AND datname = current_database()"
            )
            assert ended
            assert await heard.get() == ("bell", None)
        listening.cancel()
