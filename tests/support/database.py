"""Real databases for tests: one server per worker, one migrated template, one clone per test.

The server is embedded, or an external one named by `LOA_TEST_DATABASE_URL` (a superuser's URL of a PostgreSQL or
TimescaleDB; run it with `timescaledb.max_background_workers=0`, because that scheduler keeps sessions on a template
and a template in use cannot be cloned). Roles belong to the whole cluster, so on an external server every worker and
checkout sets the same passwords, derived from its URL; database names are random.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.local.directories import temporary_directory
from services.local.postgres import FAST_AND_FORGETFUL, embedded_postgres
from services.shared.database.migrate import MigrateSettings, migrate
from services.shared.settings import DatabaseSettings

EXTERNAL = "LOA_TEST_DATABASE_URL"
MEMORY = Path("/dev/shm")
ROOM = 4 * 1024**3  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDatabase:
    """One database of one test, as seen by each role."""

    __test__ = False  # not a class of tests

    name: str
    owner: DatabaseSettings
    ingest: DatabaseSettings
    control: DatabaseSettings

    def migrate_settings(self, **changes: object) -> MigrateSettings:
        """Settings with which `migrate` brings this database up to date, passwords included."""
        return _migrate_settings(self, **changes)


class TestServer:
    """A server on which tests make databases."""

    __test__ = False

    def __init__(self, admin_dsn: str, *, clone_by: str = "WAL_LOG") -> None:
        self.admin_dsn = admin_dsn
        self._clone_by = clone_by
        self._prefix = f"loa_test_{secrets.token_hex(4)}"
        self._template: TestDatabase | None = None
        self._made = 0

    def settings(self, database: str, *, user: str | None = None) -> DatabaseSettings:
        """Settings for one database, as the superuser or as a service's role."""
        parts = urlsplit(self.admin_dsn)
        netloc = parts.netloc
        if user is not None:
            netloc = f"{user}:{self.password(user)}@{parts.netloc.rpartition('@')[2]}"
        url = urlunsplit((parts.scheme, netloc, f"/{database}", parts.query, ""))
        return DatabaseSettings.model_validate({"url": url, "pool_max_size": 4})

    def password(self, user: str) -> str:
        """The password of a service's role: the same for everybody who tests on this server."""
        return hashlib.sha256(f"{user} {self.admin_dsn}".encode()).hexdigest()

    async def make(self, *, template: TestDatabase | None = None) -> TestDatabase:
        """A new database: empty, or a clone."""
        self._made += 1
        database = self.describe(f"{self._prefix}_{self._made}")
        source = template.name if template else "template0"
        await self._execute(f'CREATE DATABASE "{database.name}" TEMPLATE "{source}" STRATEGY {self._clone_by}')
        return database

    async def make_migrated(self) -> TestDatabase:
        """A new database with every migration applied: a clone of a template made once."""
        if self._template is None:
            template = await self.make()
            await migrate(template.migrate_settings())
            self._template = template
        database = await self.make(template=self._template)
        # Cloning copies everything but what is said about the database itself.
        await self._execute(f'REVOKE ALL ON DATABASE "{database.name}" FROM PUBLIC')
        await self._execute(f'GRANT CONNECT, TEMPORARY ON DATABASE "{database.name}" TO loa_ingest, loa_control')
        return database

    async def drop(self, database: TestDatabase) -> None:
        """Remove a database, ending whatever sessions a failed test left on it."""
        await self._execute(f'DROP DATABASE IF EXISTS "{database.name}" WITH (FORCE)')

    async def drop_template(self) -> None:
        """Remove the template, at the end."""
        if self._template is not None:
            await self.drop(self._template)
            self._template = None

    def describe(self, name: str) -> TestDatabase:
        """The settings of a database by name."""
        return TestDatabase(
            name=name,
            owner=self.settings(name),
            ingest=self.settings(name, user="loa_ingest"),
            control=self.settings(name, user="loa_control"),
        )

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.admin_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def test_server() -> Iterator[TestServer]:
    """The server of this worker, for as long as the block lasts."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        server = _server()
        running = runner.run(server.__aenter__())
        stack.callback(lambda: runner.run(server.__aexit__(None, None, None)))
        stack.callback(lambda: runner.run(running.drop_template()))
        yield running


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[TestServer]:
    external = os.environ.get(EXTERNAL)
    if external:
        yield TestServer(external)
        return
    place = _quick_place()
    # In memory copying files is quicker than logging their pages, and the checkpoint it asks for costs nothing.
    clone_by = "FILE_COPY" if place else "WAL_LOG"
    with temporary_directory("loa-test-", within=place) as folder:
        async with embedded_postgres(folder / "database", overrides=FAST_AND_FORGETFUL) as embedded:
            yield TestServer(embedded.dsn(), clone_by=clone_by)


def _quick_place() -> Path | None:
    """Memory, where there is enough of it to hold some hundred small databases; None for the usual place.

    Every test's clone is some 300 files: on a disk that is most of what the test takes.
    """
    return MEMORY if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM else None


def _migrate_settings(database: TestDatabase, **changes: object) -> MigrateSettings:
    def password(settings: DatabaseSettings) -> str | None:
        return urlsplit(settings.url.get_secret_value()).password

    return MigrateSettings.model_validate(
        {
            "database": database.owner,
            "ingest_password": password(database.ingest),
            "control_password": password(database.control),
            **changes,
        }
    )
