"""A connection pool whose errors are ours and whose `jsonb` is Python.

It adds three things to asyncpg's pool: settings in one place, `jsonb` and `json` decoded to Python values, and the
driver's errors translated to those of `services.shared.database.errors`. It hides nothing else: stores speak asyncpg.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

import asyncpg

from services.shared.database.errors import translated
from services.shared.settings import DatabaseSettings

if TYPE_CHECKING:
    # asyncpg's classes are generic for the type checker only.
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

CLOSE_TIMEOUT_S = 5.0

Isolation = Literal["read_committed", "repeatable_read", "serializable"]


async def prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Teach one connection our codecs; the pool does it for each of its own."""
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


def server_settings(settings: DatabaseSettings, application: str) -> dict[str, str]:
    """What every connection of ours asks of the server: its name, the statement limit and UTC."""
    return {
        "application_name": application,
        "statement_timeout": str(round(settings.statement_timeout.total_seconds() * 1000)),
        "timezone": "UTC",
        # TimescaleDB refuses a transaction that touches more than 100 batches of compressed rows: a device back after days
        # sends that many, and nothing could be stored any more. Without the extension it is a name nobody reads.
        "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    }


class Database:
    """A pool of connections; every error that leaves its contexts is ours or a bug."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection, outside any transaction.

        Raises the errors of `services.shared.database.errors`, also for what the caller runs on it.
        """
        with translated():
            async with self.pool.acquire() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation = "read_committed", readonly: bool = False
    ) -> AsyncIterator[Connection]:
        """One connection inside one transaction: committed when the block ends, rolled back when it raises."""
        with translated():
            async with (
                self.pool.acquire() as connection,
                connection.transaction(isolation=isolation, readonly=readonly),
            ):
                yield connection

    async def ping(self) -> None:
        """Return when the database answers; raise `DatabaseUnavailable` or `DatabaseRefused` otherwise."""
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")


@asynccontextmanager
async def open_database(settings: DatabaseSettings, *, application: str) -> AsyncIterator[Database]:
    """A pool, open inside the block.

    Raises `DatabaseUnavailable` or `DatabaseRefused` at once when the first connection cannot be made: whoever starts
    a service decides whether to wait for its database.
    """
    with translated():
        pool = await asyncpg.create_pool(
            settings.url.get_secret_value(),
            min_size=settings.pool_min_size,
            max_size=settings.pool_max_size,
            timeout=settings.connect_timeout.total_seconds(),
            command_timeout=settings.statement_timeout.total_seconds() + 5,
            server_settings=server_settings(settings, application),
            init=prepare,
        )
    try:
        yield Database(pool)
    finally:
        # A connection somebody failed to give back must not hang the stop of a whole process.
        # wait_for rather than asyncio.timeout, which before Python 3.11.3 fails in a task that is being cancelled.
        try:
            await asyncio.wait_for(pool.close(), settings.connect_timeout.total_seconds())
        except TimeoutError:
            pool.terminate()


@asynccontextmanager
async def connect(
    settings: DatabaseSettings, *, application: str
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """One connection of its own, outside any pool, with our codecs; for listening and for migrations."""
    with translated():
        connection = await asyncpg.connect(
            settings.url.get_secret_value(),
            timeout=settings.connect_timeout.total_seconds(),
            server_settings=server_settings(settings, application),
        )
        try:
            await prepare(connection)
            yield connection
        finally:
            await _close(connection)


async def _close(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    try:
        await connection.close(timeout=CLOSE_TIMEOUT_S)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()  # the server is gone or silent: there is nothing left to say goodbye to
