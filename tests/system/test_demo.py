"""What a new user does: start the demonstration, look, stop it, start it again; or have it checked."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

TOP = Path(__file__).resolve().parents[2]
DEADLINE_S = 150.0

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def processes_of(data: Path) -> dict[int, str]:
    """Command lines of living processes that have to do with the folder `data`, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (folder / "environ").read_bytes().decode(errors="replace")
            directory = str((folder / "cwd").readlink())
        except OSError:
            continue
        if str(data) in command + environment + directory:
            found[int(folder.name)] = command
    return found


def errors_of(data: Path) -> Path:
    return data.parent / f"{data.name}.err"


@contextmanager
def demo(data: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOA_")}
    with (
        errors_of(data).open("a") as errors,
        subprocess.Popen(
            [TOP / "loa", "demo", "--data", data, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def welcome(process: "subprocess.Popen[str]", data: Path) -> str:
    """What the demonstration prints when it is up."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if "Ctrl-C" in line:
            return text
    raise AssertionError(f"ended with {process.wait()} before it was up: {text}\n{errors_of(data).read_text()}")


def interrupt(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=60)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def wait_until_gone(data: Path) -> None:
    wait_until(lambda: not processes_of(data))


@pytest.mark.parametrize("tree", [(), ("--two-level",)], ids=["three_levels", "two_levels"])
def test_a_checked_demonstration_closes_the_loop_and_leaves_nothing_behind(
    passable_tmp: Path, tree: tuple[str, ...]
) -> None:
    data = passable_tmp / "province"

    with demo(data, "--check", "--clusters", "12", *tree) as process:
        output, _ = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, f"{output}\n{errors_of(data).read_text()}"
    result = json.loads(output)
    assert result["ok"] is True
    assert result["clusters"] == 12
    sounded = ("emissions_played", "emissions_late", "emissions_reported_by_gateway")
    assert sum(result[key] for key in sounded) == result["emissions_planned"] > 0
    assert result["emissions_reported_by_gateway"] >= 6
    assert result["emissions_unexplained"] == result["quarantined"] == 0
    assert min(result["heartbeats_stored"], result["readings_stored"], result["events_stored"]) > 0
    assert result["database"] in {"partitioned", "timescaledb"}
    wait_until_gone(data)


def test_a_person_looks_at_the_page_kills_ingest_stops_with_ctrl_c_and_starts_again(passable_tmp: Path) -> None:
    data = passable_tmp / "province"

    with demo(data, "--clusters", "4") as process:
        text = welcome(process, data)
        (address,) = re.findall(r"address +(\S+)", text)
        logins = dict(re.findall(r"login +(\S+).*\n +password +(\S+)", text))
        with httpx.Client(base_url=address, follow_redirects=True) as browser:
            assert browser.get("/").status_code == 200
            answered = browser.post("/api/v1/sessions", json={"login": "canbo", "password": logins["canbo"]})
            assert answered.status_code == 201
            page = browser.get("/")
            assert "Cụm loa" in page.text
        (ingest,) = [pid for pid, command in processes_of(data).items() if "services.ingest" in command]
        os.kill(ingest, signal.SIGKILL)
        wait_until(lambda: "starting it again" in errors_of(data).read_text())
        wait_until(lambda: any("services.ingest" in command for command in processes_of(data).values()))
        assert interrupt(process) == 0
    wait_until_gone(data)

    with demo(data, "--clusters", "4") as process:
        again = welcome(process, data)
        assert dict(re.findall(r"login +(\S+).*\n +password +(\S+)", again)) == logins
        assert interrupt(process) == 0
    wait_until_gone(data)

    with demo(data, "--clusters", "5") as process:
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "another province" in errors_of(data).read_text()
