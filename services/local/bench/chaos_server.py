"""The database server of a bench that breaks things: one of our own, to be killed, or one that was given by URL."""

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from services.local.bench import chaos_store, store
from services.local.bench.chaos_gate import Address
from services.local.bench.usage import Family
from services.local.postgres import EmbeddedPostgres, embedded_postgres
from services.shared.database.migrate import MigrateSettings, migrate

DATABASE = "loa"
ROLE = "loa_bench_ingest"

# A small log, so that a small disk holds it; everything else as the embedded server always has it, fsync included.
SETTINGS = {"max_wal_size": "192MB", "min_wal_size": "80MB"}

DISK_MIB = 3_072  # the most the run may need; memory is only used as far as it is written to
FULL_STEP_KIB = 64
_CLONE_NEWNS = 0x0002_0000  # linux/sched.h


class Server(ABC):
    """A server with a migrated database."""

    why_no_disk: str | None = "the server's disk is not ours"

    @property
    @abstractmethod
    def owner_url(self) -> str:
        """A superuser's way in, past every relay."""

    @property
    @abstractmethod
    def address(self) -> Address:
        """Where it listens now."""

    @abstractmethod
    def ingest_url(self, port: int) -> str:
        """Ingest's way in, through a relay on `port`."""

    @property
    def family(self) -> Family:
        """Its processes, where they are known."""
        return Family(None)

    async def terminate_sessions(self) -> int:
        """End every session of ingest as an administrator can; returns how many there were."""
        async with chaos_store.connected(self.owner_url) as connection:
            return int(await connection.fetchval(chaos_store.TERMINATE))


class GivenServer(Server):
    """A server that somebody else runs. A database is made there and dropped."""

    def __init__(self, scratch: store.Scratch) -> None:
        self._scratch = scratch

    @property
    def owner_url(self) -> str:
        """A superuser's way in."""
        return self._scratch.owner_url

    @property
    def address(self) -> Address:
        """Where it listens."""
        parts = urlsplit(self._scratch.owner_url)
        return parts.hostname or "127.0.0.1", parts.port or 5432

    def ingest_url(self, port: int) -> str:
        """Ingest's way in."""
        return _through(self._scratch.ingest_url, port)


class OwnServer(Server):
    """An embedded server that can be killed and started again. Where the machine allows it, on a small disk of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._password = secrets.token_hex(16)
        self._running = AsyncExitStack()
        self._server: EmbeddedPostgres | None = None
        self.why_no_disk = _own_disk(folder)

    @property
    def owner_url(self) -> str:
        """A superuser's way in."""
        return self._postgres.dsn(DATABASE)

    @property
    def address(self) -> Address:
        """Where it listens now; a new port after each start."""
        return "127.0.0.1", self._postgres.port

    @property
    def family(self) -> Family:
        """Its processes."""
        return Family(self._postgres.pid)

    def ingest_url(self, port: int) -> str:
        """Ingest's way in."""
        return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{port}/{DATABASE}"

    @property
    def is_running(self) -> bool:
        """Whether the server's first process is there."""
        return self._server is not None and self._server.process.returncode is None

    @property
    def _postgres(self) -> EmbeddedPostgres:
        assert self._server is not None, "the server has been started"
        return self._server

    async def prepare(self) -> None:
        """Start it for the first time and make the database."""
        await self.start()
        await self._postgres.ensure_database(DATABASE)
        await migrate(MigrateSettings.model_validate({"database": {"url": self.owner_url}}))
        async with chaos_store.connected(self.owner_url) as connection:
            await chaos_store.make_login(connection, ROLE, self._password)

    async def start(self) -> None:
        """Start it, recover what a crash left, and return when it lets us in."""
        self._server = await self._running.enter_async_context(embedded_postgres(self._folder, overrides=SETTINGS))

    async def stop(self) -> None:
        """Stop it well."""
        await self._running.aclose()

    async def kill(self) -> None:
        """`kill -9` of every process of it."""
        os.kill(self._postgres.pid, signal.SIGSTOP)  # so that no child is born while we count them
        for pid in self.processes():
            _send(pid, signal.SIGKILL)
        await self._postgres.process.wait()
        await self._running.aclose()

    async def kill_session(self, which: int) -> bool:
        """`kill -9` of the process of one session of ingest; False when there is none."""
        async with chaos_store.connected(self.owner_url) as connection:
            rows = await connection.fetch(chaos_store.SESSIONS)
        ours = set(self.processes())
        pids = sorted(row["pid"] for row in rows if row["pid"] in ours)
        if not pids:
            return False
        _send(pids[which % len(pids)], signal.SIGKILL)
        return True

    def processes(self) -> list[int]:
        """Every process of it."""
        pid = self._postgres.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    # --- its disk ---

    def fill_disk(self) -> None:
        """Leave no room on its disk."""
        while True:
            status = os.statvfs(self._folder)
            used_kib = (status.f_blocks - status.f_bfree) * status.f_frsize // 1024
            # It is being written to, so what is used may be more by the time the kernel looks.
            if _mounted(self._folder, f"remount,size={used_kib + FULL_STEP_KIB}k"):
                return

    def empty_disk(self) -> None:
        """Make room again."""
        if not _mounted(self._folder, f"remount,size={DISK_MIB}m"):
            raise OSError(f"{self._folder} could not be given its room back")


def _own_disk(folder: Path) -> str | None:
    """Put a small disk in memory at `folder`; returns why that is not possible, None where it was.

    In a namespace of our own, so that nobody else sees it, and that it is gone when we are, however we end.
    """
    if os.geteuid() != 0:
        return "a disk of its own can only be mounted by root"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        return f"mounting is not allowed here: {os.strerror(ctypes.get_errno())}"
    folder.mkdir(parents=True, exist_ok=True)
    private = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    if private.returncode:
        return f"mounting is not allowed here: {private.stderr.decode().strip()}"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0711", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    return f"a small disk cannot be mounted: {made.stderr.decode().strip()}" if made.returncode else None


def _mounted(folder: Path, options: str) -> bool:
    return subprocess.run(["mount", "-o", options, folder], capture_output=True, check=False).returncode == 0


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may just have ended
        os.kill(pid, number)


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))


@asynccontextmanager
async def server(folder: Path, url: str | None) -> AsyncIterator[Server]:
    """A server of our own, or a database on the one that a superuser's URL leads to."""
    if url is not None:
        async with store.scratch_database(url) as scratch:
            yield GivenServer(scratch)
        return
    own = OwnServer(folder / "postgres")
    try:
        await own.prepare()
        yield own
    finally:
        await own.stop()
        if own.why_no_disk is None:
            unmounting = await asyncio.create_subprocess_exec("umount", "--lazy", folder / "postgres")
            await unmounting.wait()
