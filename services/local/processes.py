"""Child processes that end when we end.

A child gets a process group of its own (Ctrl-C at the terminal reaches only us, and we stop children in order), a log
file, and a signal from the kernel when its parent dies, however it dies. Only processes started here are ever
signalled, by number.
"""

import asyncio
import ctypes
import http.client
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

POLL_EVERY_S = 0.05
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 8192

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

Probe = Callable[[], Awaitable[bool]]


class ProcessFailed(Exception):
    """A child ended when it should have run, or did not become ready in time; the message holds the end of its log."""


class ManagedProcess:
    """One running child."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; afterwards its status, or minus the signal that ended it."""
        return self._popen.poll()

    async def wait_ready(self, probe: Probe | str, *, deadline: timedelta) -> None:
        """Return when `probe` (an async question, or a URL that must answer 200) says yes.

        Raises `ProcessFailed` when the process ends before, or when the deadline passes.
        """
        ask = _url_probe(probe) if isinstance(probe, str) else probe
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline.total_seconds()
        while not await ask():
            if self.returncode is not None:
                raise ProcessFailed(f"{self.name} ended with status {self.returncode} before it was ready{self.tail()}")
            if loop.time() > until:
                raise ProcessFailed(f"{self.name} was not ready after {deadline.total_seconds():g} s{self.tail()}")
            await asyncio.sleep(POLL_EVERY_S)

    async def wait(self) -> int:
        """Its status, once it has ended."""
        while (status := self.returncode) is None:
            await asyncio.sleep(POLL_EVERY_S)
        return status

    async def stop(self, *, grace: timedelta, stop_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait for `grace`, then kill its whole group; returns its status."""
        if self.returncode is None:
            self._popen.send_signal(stop_signal)
            # No asyncio.timeout: before Python 3.11.3 it fails in a task that is being cancelled, where this often runs.
            loop = asyncio.get_running_loop()
            until = loop.time() + grace.total_seconds()
            while self._popen.poll() is None and loop.time() < until:
                await asyncio.sleep(POLL_EVERY_S)
        return self.kill()

    def kill(self) -> int:
        """End it and whatever it has started in its group, at once; returns its status."""
        try:
            # Also after its own end: a grandchild may be left, and while one is, the group's number is not reused.
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._popen.kill()
        return self._popen.wait()  # a killed process ends at once

    def tail(self) -> str:
        """The last lines of its log, set off for a message; empty when it logged nothing."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            return ""
        return "".join(f"\n    {line}" for line in lines)


@asynccontextmanager
async def running(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    grace: timedelta = timedelta(seconds=20),
    stop_signal: signal.Signals = signal.SIGTERM,
    death_signal: signal.Signals = signal.SIGKILL,
) -> AsyncIterator[ManagedProcess]:
    """A child that runs inside the block; its output is appended to `log`.

    `env` is its whole environment, ours when not given. Raises OSError when the program cannot be started.
    """
    process = start(name, argv, log=log, env=env, cwd=cwd, death_signal=death_signal)
    try:
        yield process
    finally:
        try:
            await process.stop(grace=grace, stop_signal=stop_signal)
        finally:
            process.kill()  # also when the wait above is cancelled


def start(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    user: tuple[int, int] | None = None,
) -> ManagedProcess:
    """Start a child and return at once; `user` is a user and group id to run as, for root.

    `env` is its whole environment, ours when not given. The caller stops it. Raises OSError when the program cannot be started.
    """
    # The kernel's parent is the *thread* that forked: from a worker thread the child would die with that thread.
    assert threading.current_thread() is threading.main_thread(), "children are started from the main thread"
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
            preexec_fn=_die_with_parent(death_signal),  # noqa: PLW1509 - a single prctl call, which is safe
        )
    return ManagedProcess(name, popen, log)


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def arrange() -> None:
        # Runs in the child after it changed user: the kernel forgets the setting when the user changes.
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return arrange


def _url_probe(url: str) -> Probe:
    async def ask() -> bool:
        return await asyncio.to_thread(_answers_ok, url)

    return ask


def _answers_ok(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.scheme == "http", "probes speak plain HTTP to this machine"
    assert parts.hostname, "a probe needs a host"
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=2)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
