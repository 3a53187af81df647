"""Children: ready, stopped, and never left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from services.local.processes import ProcessFailed, running

pytestmark = pytest.mark.integration

SOON = timedelta(seconds=10)
PYTHON = sys.executable

IGNORES_TERM = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ignoring', flush=True)\ntime.sleep(600)"
)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition: Callable[[], bool], *, deadline_s: float = 20) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.02)


def logs(log: Path, text: str) -> Callable[[], bool]:
    return lambda: log.exists() and text in log.read_text()


async def test_child_runs_inside_the_block_with_its_environment_and_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import os, time; print(os.environ['NAME'], os.getcwd(), flush=True); time.sleep(600)"
    async with running(
        "child", [PYTHON, "-c", code], log=log, env={"NAME": "loa", "LC_ALL": "C"}, cwd=tmp_path
    ) as child:
        until(logs(log, f"loa {tmp_path}"))
        assert child.returncode is None
    assert not is_running(child.pid)
    assert child.returncode == -signal.SIGTERM


async def test_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with running("child", [PYTHON, "-c", IGNORES_TERM], log=log, grace=timedelta(milliseconds=100)) as child:
        until(logs(log, "ignoring"))
    assert child.returncode == -signal.SIGKILL


async def test_what_the_child_started_goes_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import subprocess, time; print('p', subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    async with running("child", [PYTHON, "-c", code], log=log):
        until(logs(log, "p "))
        grandchild = int(log.read_text().split()[1])
        assert is_running(grandchild)
    until(lambda: not is_running(grandchild))


async def test_ready_is_what_the_probe_says(tmp_path: Path) -> None:
    flag = tmp_path / "flag"

    async def probe() -> bool:
        return flag.exists()

    code = f"import pathlib, time; pathlib.Path({str(flag)!r}).touch(); time.sleep(600)"
    async with running("child", [PYTHON, "-c", code], log=tmp_path / "log") as child:
        await child.wait_ready(probe, deadline=SOON)


async def test_ready_is_a_url_that_answers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import http.server\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "print('port', server.server_port, flush=True)\n"
        "server.serve_forever()"
    )
    async with running("web", [PYTHON, "-c", code], log=log, cwd=tmp_path) as child:
        until(logs(log, "port "))
        port = log.read_text().split()[1]
        await child.wait_ready(f"http://127.0.0.1:{port}/", deadline=SOON)
        with pytest.raises(ProcessFailed, match=r"web was not ready after 0\.1 s"):
            await child.wait_ready(f"http://127.0.0.1:{port}/absent", deadline=timedelta(milliseconds=100))


async def test_child_that_ends_before_it_is_ready_shows_its_log(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with running("child", [PYTHON, "-c", "raise SystemExit('port is taken')"], log=tmp_path / "log") as child:
        with pytest.raises(ProcessFailed, match=r"child ended with status 1 before it was ready\n    port is taken"):
            await child.wait_ready(never, deadline=SOON)


async def test_cancelled_block_leaves_no_child(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            async with running(
                "child", [PYTHON, "-c", IGNORES_TERM], log=log, grace=timedelta(milliseconds=200)
            ) as child:
                await asyncio.Event().wait()
    assert not is_running(child.pid)


def test_child_of_a_parent_killed_outright_goes_with_it(tmp_path: Path) -> None:
    """Nobody is left to clean up, so the kernel does."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from services.local.processes import running\n"
        "async def main():\n"
        f"    async with running('child', [sys.executable, '-c', {IGNORES_TERM!r}], log=Path(sys.argv[1])) as child:\n"
        "        print(child.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    log = tmp_path / "log"
    with subprocess.Popen([PYTHON, "-c", code, log], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            until(logs(log, "ignoring"))
            parent.kill()
            parent.wait()
            until(lambda: not is_running(child))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
