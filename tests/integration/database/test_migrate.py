"""The migration runner against a real server."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from services.shared.database.errors import DatabaseOutdated, DatabaseRefused
from services.shared.database.migrate import MIGRATIONS, MigrationError, Report, main, migrate, pending
from services.shared.database.pool import connect, open_database
from services.shared.database.schema_version import demand_current
from services.shared.settings import DatabaseSettings
from tests.support.database import TestDatabase, TestServer

pytestmark = pytest.mark.integration


def write(folder: Path, **files: str) -> Path:
    """Migration files by name without their ending; two underscores stand for the dot before a variant."""
    for name, text in files.items():
        (folder / f"{name.removeprefix('m').replace('__', '.')}.sql").write_text(text)
    return folder


async def value(settings: DatabaseSettings, query: str) -> object:
    async with connect(settings, application="test") as connection:
        return await connection.fetchval(query)


async def test_all_migrations_apply_to_an_empty_database_and_then_there_is_nothing_to_do(
    empty_database: TestDatabase,
) -> None:
    first = await migrate(empty_database.migrate_settings())
    second = await migrate(empty_database.migrate_settings())

    assert first.applied[0] == "0001_create_roles_and_schemas"
    assert first.already == 0
    assert second == Report(mode=first.mode, applied=(), already=len(first.applied))


async def test_pending_names_what_is_missing_and_applies_nothing(empty_database: TestDatabase, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_make_a="CREATE TABLE a ()", m0002_make_b="CREATE TABLE b ()")

    async with connect(empty_database.owner, application="test") as connection:
        assert await pending(connection, folder) == ("0001_make_a", "0002_make_b")
    await migrate(empty_database.migrate_settings(), folder)
    write(tmp_path, m0003_make_c="CREATE TABLE c ()")
    async with connect(empty_database.owner, application="test") as connection:
        assert await pending(connection, folder) == ("0003_make_c",)
        assert await connection.fetchval("SELECT to_regclass('c')") is None


async def test_failing_migration_leaves_nothing_half_done_and_keeps_earlier_ones(
    empty_database: TestDatabase, tmp_path: Path
) -> None:
    folder = write(
        tmp_path,
        m0001_make_a="CREATE TABLE a ()",
        m0002_make_b="CREATE TABLE b ();\nCREATE TABLE c ();\nSELECT no_such_column FROM a;",
        m0003_make_d="CREATE TABLE d ()",
    )

    with pytest.raises(MigrationError, match=r"0002_make_b\.sql:3: .*no_such_column"):
        await migrate(empty_database.migrate_settings(), folder)

    left = await value(
        empty_database.owner, "SELECT array_agg(relname::text) FROM pg_class WHERE relname IN ('a', 'b', 'c', 'd')"
    )
    assert left == ["a"]
    assert await value(empty_database.owner, "SELECT array_agg(number) FROM public.loa_migrations") == [1]


async def test_run_after_the_mend_goes_on_where_it_stopped(empty_database: TestDatabase, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_make_a="CREATE TABLE a ()", m0002_make_b="CREATE TABLE b (")
    with pytest.raises(MigrationError):
        await migrate(empty_database.migrate_settings(), folder)

    report = await migrate(empty_database.migrate_settings(), write(tmp_path, m0002_make_b="CREATE TABLE b ()"))

    assert report.applied == ("0002_make_b",)


async def test_file_changed_after_it_was_applied_is_refused_by_name(
    empty_database: TestDatabase, tmp_path: Path
) -> None:
    folder = write(tmp_path, m0001_make_a="CREATE TABLE a ()")
    await migrate(empty_database.migrate_settings(), folder)

    with pytest.raises(MigrationError, match=r"0001_make_a\.sql was changed after it was applied; restore it"):
        await migrate(empty_database.migrate_settings(), write(tmp_path, m0001_make_a="CREATE TABLE a (n int)"))


async def test_database_of_a_newer_version_is_refused(empty_database: TestDatabase, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_make_a="CREATE TABLE a ()", m0002_make_b="CREATE TABLE b ()")
    await migrate(empty_database.migrate_settings(), folder)
    (tmp_path / "0002_make_b.sql").unlink()

    with pytest.raises(MigrationError, match=r"has migration 0002_make_b, which this version does not know"):
        await migrate(empty_database.migrate_settings(), folder)


async def test_number_filled_in_later_is_applied(empty_database: TestDatabase, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_make_a="CREATE TABLE a ()", m0030_make_z="CREATE TABLE z ()")
    await migrate(empty_database.migrate_settings(), folder)

    report = await migrate(empty_database.migrate_settings(), write(tmp_path, m0010_make_m="CREATE TABLE m ()"))

    assert report.applied == ("0010_make_m",)


async def test_two_runners_at_once_apply_each_migration_once(empty_database: TestDatabase, tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        m0001_make_a="CREATE TABLE a (); SELECT pg_sleep(0.3)",
        m0002_make_b="CREATE TABLE b ()",
    )

    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(migrate(empty_database.migrate_settings(), folder)) for _ in range(4)]

    applied = sorted(run.result().applied for run in runs)
    assert applied == [(), (), (), ("0001_make_a", "0002_make_b")]


async def test_several_databases_of_one_cluster_migrate_at_once(
    empty_database: TestDatabase, database_server: TestServer
) -> None:
    others = [await database_server.make() for _ in range(3)]

    async with asyncio.TaskGroup() as group:
        for each in (empty_database, *others):
            group.create_task(migrate(each.migrate_settings()))

    for each in others:
        assert await value(each.ingest, "SELECT current_user") == "loa_ingest"
        await database_server.drop(each)


async def test_variant_of_the_mode_runs_after_the_plain_file(empty_database: TestDatabase, tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        m0001_make_a="CREATE TABLE a (n int)",
        m0001_make_a__partitioned="INSERT INTO a VALUES (1)",
        m0001_make_a__timescaledb="INSERT INTO a VALUES (2)",
        m0002_only_there__timescaledb="CREATE TABLE there ()",
    )

    report = await migrate(empty_database.migrate_settings(storage="partitioned"), folder)

    assert report.mode == "partitioned"
    assert await value(empty_database.owner, "SELECT array_agg(n) FROM a") == [1]
    assert await value(empty_database.owner, "SELECT to_regclass('there')") is None
    assert report.applied == ("0001_make_a", "0002_only_there")


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({"m0001_Make_a": ""}, "0001_Make_a.sql: the name must be", id="upper_case"),
        pytest.param({"m1_make_a": ""}, "1_make_a.sql: the name must be", id="short_number"),
        pytest.param({"m0001_make_a__oracle": ""}, "the name must be", id="unknown_variant"),
        pytest.param({"m0001_a": "", "m0001_b": ""}, "0001 is taken by a", id="number_twice"),
        pytest.param({"m0001_a": "SELECT 1;\nCOMMIT;\nSELECT 2"}, "must not begin or end transactions", id="commit"),
        pytest.param({"m0001_a": "BEGIN;\nSELECT 1"}, "must not begin or end transactions", id="begin"),
    ],
)
async def test_files_that_cannot_be_migrations_are_refused_before_anything_runs(
    empty_database: TestDatabase, tmp_path: Path, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(MigrationError, match=complaint):
        await migrate(empty_database.migrate_settings(), write(tmp_path, **files))
    assert await value(empty_database.owner, "SELECT count(*) FROM public.loa_migrations") == 0


async def test_block_of_plpgsql_is_no_transaction_control(empty_database: TestDatabase, tmp_path: Path) -> None:
    block = "DO $$\nBEGIN\n    PERFORM 1;\nEND;\n$$;\n-- COMMIT;\n"

    report = await migrate(empty_database.migrate_settings(), write(tmp_path, m0001_do=block))

    assert report.applied == ("0001_do",)


async def test_a_server_too_old_is_refused_before_anything_runs(
    empty_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.shared.database.migrate.OLDEST_SERVER", 99)
    with pytest.raises(MigrationError, match=r"PostgreSQL \d+; Loa needs 99 or newer"):
        await migrate(empty_database.migrate_settings())
    assert await value(empty_database.owner, "SELECT to_regclass('public.loa_migrations')") is None


async def test_extension_asked_for_but_not_there_is_refused(empty_database: TestDatabase, tmp_path: Path) -> None:
    available = await value(
        empty_database.owner, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
    )
    if available:
        pytest.skip("this server has TimescaleDB")
    with pytest.raises(MigrationError, match="does not have the timescaledb extension"):
        await migrate(empty_database.migrate_settings(storage="timescaledb"), tmp_path)


async def test_mode_of_a_migrated_database_stays(empty_database: TestDatabase, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_make_a="CREATE TABLE a ()")
    await migrate(empty_database.migrate_settings(storage="partitioned"), folder)

    with pytest.raises(MigrationError, match="cannot become 'timescaledb'; set MIGRATE_STORAGE=auto"):
        await migrate(empty_database.migrate_settings(storage="timescaledb"), folder)


# --- roles -----------------------------------------------------------------------------------------------------------


async def test_each_role_logs_in_with_its_own_password_only(database: TestDatabase) -> None:
    assert await value(database.ingest, "SELECT current_user") == "loa_ingest"
    assert await value(database.control, "SELECT current_user") == "loa_control"

    swapped = database.ingest.url.get_secret_value().replace("loa_ingest:", "loa_control:")
    with pytest.raises(DatabaseRefused):
        async with open_database(DatabaseSettings.model_validate({"url": swapped}), application="test"):
            pass


@pytest.mark.parametrize("role", ["ingest", "control"])
async def test_service_that_is_newer_than_the_database_says_so(
    database: TestDatabase, role: str, tmp_path: Path
) -> None:
    shutil.copytree(MIGRATIONS, tmp_path / "newer")
    (tmp_path / "newer/9999_make_more.sql").write_text("CREATE TABLE more ()")
    (tmp_path / "older").mkdir()
    (tmp_path / "older/0001_create_roles_and_schemas.sql").touch()

    async with connect(getattr(database, role), application="test") as connection:
        await demand_current(connection)
        await demand_current(connection, tmp_path / "older")
        with pytest.raises(DatabaseOutdated, match="run `migrate` first"):
            await demand_current(connection, tmp_path / "newer")


async def test_database_nobody_has_migrated_is_too_old_as_well(empty_database: TestDatabase) -> None:
    async with connect(empty_database.owner, application="test") as connection:
        with pytest.raises(DatabaseOutdated):
            await demand_current(connection)


@pytest.mark.parametrize("role", ["ingest", "control"])
async def test_services_make_nothing_in_the_schemas_and_are_no_administrators(
    database: TestDatabase, role: str
) -> None:
    settings: DatabaseSettings = getattr(database, role)
    for statement in (
        "CREATE TABLE telemetry.mine ()",
        "CREATE TABLE control.mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "DELETE FROM public.loa_migrations",
    ):
        async with connect(settings, application="test") as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_storage_mode_is_known_to_both_services(database: TestDatabase) -> None:
    modes = {
        await value(settings, "SELECT telemetry.storage_mode()") for settings in (database.ingest, database.control)
    }

    assert len(modes) == 1
    assert modes <= {"partitioned", "timescaledb"}


# --- as a program ----------------------------------------------------------------------------------------------------


def environment(monkeypatch: pytest.MonkeyPatch, database: TestDatabase, **more: str) -> None:
    monkeypatch.setenv("MIGRATE_DATABASE__URL", database.owner.url.get_secret_value())
    for name, text in more.items():
        monkeypatch.setenv(name, text)


async def test_program_migrates_and_says_so_without_any_password(
    empty_database: TestDatabase, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = empty_database.migrate_settings(log={"level": "debug"})
    assert settings.ingest_password
    assert settings.control_password
    secrets = [settings.ingest_password.get_secret_value(), settings.control_password.get_secret_value()]
    environment(
        monkeypatch,
        empty_database,
        MIGRATE_INGEST_PASSWORD=secrets[0],
        MIGRATE_CONTROL_PASSWORD=secrets[1],
        MIGRATE_LOG__LEVEL="debug",
    )

    status = await asyncio.to_thread(_in_a_process, [])

    assert status == 0, capfd.readouterr()
    written = "".join(capfd.readouterr())
    assert "database_migrated" in written
    assert not [secret for secret in secrets if secret in written]


async def test_program_explains_a_wrong_address_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIGRATE_DATABASE__URL", "postgresql://loa_owner:very-secret-password@127.0.0.1:1/loa")

    status = await asyncio.to_thread(_in_a_process, [])

    out, err = capfd.readouterr()
    assert status == 1
    assert err.startswith("services.shared.database.migrate: MIGRATE_DATABASE__URL: ConnectionRefusedError")
    assert err.count("\n") == 1
    assert "very-secret" not in out + err


def test_program_checks_settings_without_touching_the_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIGRATE_DATABASE__URL", "postgresql://loa_owner:very-secret-password@127.0.0.1:1/loa")

    assert main(["--check"]) == 0

    out = capsys.readouterr().out
    assert '"url": "postgresql://loa_owner:**********@127.0.0.1:1/loa"' in out
    assert "very-secret" not in out


def _in_a_process(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "services.shared.database.migrate", *arguments]
    return subprocess.run(command, check=False).returncode
