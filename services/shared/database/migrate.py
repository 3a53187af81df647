"""Forward-only SQL migrations: `python -m services.shared.database.migrate [--check]`.

A migration is `migrations/NNNN_verb_object.sql`, run whole in one transaction together with the line that records it,
so a failing one leaves nothing half done. Beside or instead of the plain file there may be one for each storage mode
(`NNNN_verb_object.timescaledb.sql`, `NNNN_verb_object.partitioned.sql`); it runs right after the plain file. Which
mode a database has is decided when the first migration runs, and stays.

What has been applied is never edited: the runner compares checksums and refuses. Numbers may be filled in later (two
services own two ranges); what is missing is applied in order of number. Two runners at once take turns.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import asyncpg
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from services.shared import lifecycle
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import connect
from services.shared.settings import DatabaseSettings, Duration, PlainLogSettings, ServiceSettings

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

MIGRATIONS = Path(__file__).parent / "migrations"

StorageMode = Literal["timescaledb", "partitioned"]

log = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)(?:\.(?P<mode>timescaledb|partitioned))?\.sql")
# A file that ends the runner's transaction would take its all-or-nothing away. PL/pgSQL's BEGIN has no semicolon.
_TRANSACTION_CONTROL = re.compile(r"^\s*(BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|END)\b[^;\n]*;", re.I | re.M)
# One sensor's rows are found by skip scan, which older ones do not have: they would read the whole index for a page.
OLDEST_SERVER = 18
# Any number, the same for every runner: "loa" as a big-endian integer.
_LOCK_KEY = int.from_bytes(b"loa", "big")
_ROLE_ATTEMPTS = 5


class MigrationError(DatabaseError):
    """The migrations cannot be applied as they are; the message names the file and the mend."""


class MigrateSettings(ServiceSettings):
    """Settings of `./loa migrate`."""

    model_config = SettingsConfigDict(env_prefix="MIGRATE_")

    database: DatabaseSettings = Field(description="the database, as the role that is to own everything in it")
    ingest_password: SecretStr | None = Field(
        default=None, description="password to set for the role loa_ingest; unset leaves it as it is"
    )
    control_password: SecretStr | None = Field(
        default=None, description="password to set for the role loa_control; unset leaves it as it is"
    )
    storage: Literal["auto", "timescaledb", "partitioned"] = Field(
        default="auto",
        description="how telemetry is stored in a database not migrated yet; auto is timescaledb where it is available",
    )
    lock_timeout: Duration = Field(
        default=timedelta(seconds=15), description="how long a statement waits for a table somebody uses"
    )
    migration_timeout: Duration = Field(
        default=timedelta(minutes=30), description="how long one migration, or waiting for another runner, may take"
    )
    log: PlainLogSettings = Field(default_factory=PlainLogSettings, description="the log")

    @field_validator("ingest_password", "control_password")
    @classmethod
    def _is_a_usable_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            text = value.get_secret_value()
            if len(text) < 12 or not text.isascii() or not text.isprintable():
                raise ValueError("must be at least 12 printable ASCII characters")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered step, with the files that make it up for one storage mode."""

    number: int
    name: str
    sql: tuple[tuple[str, str], ...]
    """File name and content, in the order they run; may be empty in the mode the step does not concern."""

    @property
    def label(self) -> str:
        """Number and name, as in the file name."""
        return f"{self.number:04d}_{self.name}"

    @property
    def sha256(self) -> str:
        """Checksum of everything that runs."""
        digest = hashlib.sha256()
        for name, text in self.sql:
            digest.update(f"{name}\n{len(text)}\n{text}".encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run did."""

    mode: StorageMode
    applied: tuple[str, ...]
    already: int


def load_migrations(mode: StorageMode, folder: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """The migrations for one storage mode, by number. Raises `MigrationError` for names and numbers that do not fit."""
    names: dict[int, str] = {}
    parts: dict[int, list[tuple[str, str]]] = {}
    # The plain file sorts before its variants: "x.sql" after "x.partitioned.sql" by letter, so by length.
    for path in sorted(folder.glob("*.sql"), key=lambda each: (each.name.partition(".")[0], len(each.name))):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: the name must be NNNN_verb_object.sql, with lower-case letters")
        number = int(match["number"])
        if names.setdefault(number, match["name"]) != match["name"]:
            raise MigrationError(
                f"{path.name}: number {number:04d} is taken by {names[number]}; take the next free one"
            )
        parts.setdefault(number, [])
        if match["mode"] in (None, mode):
            text = path.read_text(encoding="utf-8")
            if _TRANSACTION_CONTROL.search(_without_bodies(text)):
                raise MigrationError(f"{path.name}: must not begin or end transactions; the runner makes one for it")
            parts[number].append((path.name, text))
    return tuple(Migration(number=n, name=names[n], sql=tuple(parts[n])) for n in sorted(names))


async def migrate(settings: MigrateSettings, folder: Path = MIGRATIONS) -> Report:
    """Apply what is missing and set the roles' passwords.

    Raises `MigrationError` (nothing of the offending migration is kept, earlier ones are), `DatabaseUnavailable` or
    `DatabaseRefused`.
    """
    patient = settings.database.model_copy(update={"statement_timeout": settings.migration_timeout})
    async with connect(patient, application="loa-migrate") as connection:
        if (major := connection.get_server_version().major) < OLDEST_SERVER:
            raise MigrationError(f"the server is PostgreSQL {major}; Loa needs {OLDEST_SERVER} or newer")
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        # Another runner's waiting must not be cut short, but ours for tables in use is, so as not to block writers.
        await connection.execute(
            "SELECT set_config('lock_timeout', $1, false)", f"{round(settings.lock_timeout.total_seconds() * 1000)}ms"
        )
        await connection.execute(
            """
            CREATE TABLE IF NOT EXISTS public.loa_migrations (
                number integer PRIMARY KEY,
                name text NOT NULL,
                sha256 text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
        applied = await _applied(connection)
        mode = await _storage_mode(connection, settings, is_new=not applied)
        migrations = load_migrations(mode, folder)
        missing = _missing(migrations, applied)
        for migration in missing:
            await _apply(connection, migration)
        await _set_passwords(connection, settings)
        return Report(mode=mode, applied=tuple(each.label for each in missing), already=len(applied))


async def pending(connection: "Connection", folder: Path = MIGRATIONS) -> tuple[str, ...]:
    """Labels of the migrations a database lacks, without applying any."""
    if await connection.fetchval("SELECT to_regclass('public.loa_migrations') IS NULL"):
        applied: dict[int, tuple[str, str]] = {}
    else:
        applied = await _applied(connection)
    return tuple(each.label for each in _missing(load_migrations(await _present_mode(connection), folder), applied))


def scram_verifier(password: str, *, salt: bytes, iterations: int = 4096) -> str:
    """What PostgreSQL stores for a SCRAM-SHA-256 password (RFC 5803).

    Sent instead of the password, so that the password itself is in no statement, no server log and no activity view.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (
        base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client_key).digest(), server_key)
    )
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


def _without_bodies(text: str) -> str:
    """The SQL without dollar-quoted bodies and comments, where BEGIN and END mean something else."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    return re.sub(r"(\$\w*\$).*?\1", "''", text, flags=re.S)


async def _applied(connection: "Connection") -> dict[int, tuple[str, str]]:
    rows = await connection.fetch("SELECT number, name, sha256 FROM public.loa_migrations ORDER BY number")
    return {row["number"]: (row["name"], row["sha256"]) for row in rows}


def _missing(migrations: Iterable[Migration], applied: dict[int, tuple[str, str]]) -> tuple[Migration, ...]:
    known = {each.number: each for each in migrations}
    for number, (name, sha256) in applied.items():
        label = f"{number:04d}_{name}"
        if number not in known:
            raise MigrationError(
                f"the database has migration {label}, which this version does not know; use a newer one"
            )
        if known[number].sha256 != sha256:
            raise MigrationError(
                f"{known[number].label}.sql was changed after it was applied; restore it and put the change into a"
                " new migration"
            )
    return tuple(each for number, each in sorted(known.items()) if number not in applied)


async def _present_mode(connection: "Connection") -> StorageMode:
    present = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
    return "timescaledb" if present else "partitioned"


async def _storage_mode(connection: "Connection", settings: MigrateSettings, *, is_new: bool) -> StorageMode:
    """The mode of the database; for a new one as settings ask, installing the extension where that is wanted."""
    present = await _present_mode(connection)
    if not is_new:
        if settings.storage not in ("auto", present):
            raise MigrationError(
                f"the database was made with storage {present!r} and cannot become {settings.storage!r};"
                " set MIGRATE_STORAGE=auto, or use a new database"
            )
        return present
    if settings.storage == "partitioned":
        if present == "timescaledb":
            await connection.execute("DROP EXTENSION timescaledb")
        return "partitioned"
    if present == "timescaledb":
        return present
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"):
        if settings.storage == "timescaledb":
            raise MigrationError("MIGRATE_STORAGE=timescaledb, but this server does not have the timescaledb extension")
        return "partitioned"
    await _create_timescaledb(settings)
    return "timescaledb"


async def _create_timescaledb(settings: MigrateSettings) -> None:
    # The extension insists on being created by the first command of a session, so it gets a session of its own.
    try:
        async with connect(settings.database, application="loa-migrate") as fresh:
            await fresh.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except (asyncpg.PostgresError, DatabaseError) as error:
        raise MigrationError(
            "the timescaledb extension is there but cannot be created: is it in shared_preload_libraries, and may this"
            f" role create it? ({type(error).__name__}); MIGRATE_STORAGE=partitioned does without"
        ) from error


async def _apply(connection: "Connection", migration: Migration) -> None:
    async def run() -> None:
        async with connection.transaction():
            for file_name, text in migration.sql:
                try:
                    await connection.execute(text)
                except asyncpg.PostgresError as error:
                    if error.sqlstate == _TUPLE_CONCURRENTLY_UPDATED:
                        raise
                    raise MigrationError(f"{file_name}{_place(text, error)}: {error}") from error
            await connection.execute(
                "INSERT INTO public.loa_migrations (number, name, sha256) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.sha256,
            )

    await _retried(run)
    log.info("migration_applied", extra={"migration": migration.label})


async def _set_passwords(connection: "Connection", settings: MigrateSettings) -> None:
    for role, password in (("loa_ingest", settings.ingest_password), ("loa_control", settings.control_password)):
        if password is None:
            continue
        verifier = scram_verifier(password.get_secret_value(), salt=os.urandom(16))
        # A verifier is base64 and punctuation without quotes; ALTER ROLE takes no parameters.
        statement = f"ALTER ROLE {role} PASSWORD '{verifier}'"

        async def run(statement: str = statement) -> None:
            await connection.execute(statement)

        await _retried(run)


# Roles belong to the cluster: two databases migrated at once may touch the same catalogue row, and PostgreSQL answers
# with an internal error rather than with waiting.
_TUPLE_CONCURRENTLY_UPDATED = "XX000"


async def _retried(run: Callable[[], Awaitable[None]]) -> None:
    for attempt in range(1, _ROLE_ATTEMPTS + 1):
        try:
            return await run()
        except asyncpg.InternalServerError:
            if attempt == _ROLE_ATTEMPTS:
                raise
            await asyncio.sleep(0.05 * attempt)
    return None


def _place(text: str, error: asyncpg.PostgresError) -> str:
    """`:LINE` where the server said at which character it stumbled."""
    position = getattr(error, "position", None)
    return f":{text.count(chr(10), 0, int(position) - 1) + 1}" if position else ""


async def _run(settings: MigrateSettings, stop: asyncio.Event) -> None:
    del stop  # a migration is one transaction: an interrupt rolls it back
    report = await migrate(settings)
    log.info(
        "database_migrated",
        extra={"storage": report.mode, "applied": len(report.applied), "already": report.already},
    )


def main(arguments: list[str]) -> int:
    """Run as a program; returns the exit status, 1 with one line of explanation when the migrations do not apply."""
    try:
        return lifecycle.run_program("services.shared.database.migrate", MigrateSettings, _run, arguments)
    except DatabaseError as error:
        print(f"migrate: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - for the person who ran it
        return lifecycle.EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
