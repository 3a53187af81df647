"""The verb refuses what it cannot measure, and shows what it measured."""

import json
import subprocess
import sys

import pytest

from services.local.bench import command, ingest, storage
from services.local.bench.traffic import Profile


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("egress",),
        ("ingest", "--seconds", "1"),
        ("ingest", "--seconds", "61"),
        ("ingest", "--devices", "10"),
        ("ingest", "--devices", "9000001"),
        ("storage", "--rows", "99999"),
        ("storage", "--rows", "200000001"),
        ("storage", "--rows", "many"),
        ("storage", "--part", "speed"),
        ("ingest", "--profile", "easy"),
        ("chaos", "--kills", "0"),
        ("chaos", "--kills", "many"),
        ("chaos", "--seed", "x"),
        ("overload", "--seconds", "14"),
        ("overload", "--seconds", "181"),
        ("ingest", "--replicas", "0"),
        ("ingest", "--replicas", "5"),
        ("month", "--clusters", "0"),
        ("month", "--clusters", "10001"),
        ("month", "--days", "32"),
        ("month", "--seed", "x"),
        ("month", "--break", "everything"),
        ("planner", "--devices", "999"),
        ("planner", "--devices", "300001"),
        ("planner", "--days", "0"),
        ("planner", "--days", "32"),
        ("emergency", "--clusters", "9"),
        ("emergency", "--clusters", "10001"),
        ("emergency", "--flapping", "0.6"),
        ("emergency", "--flapping", "some"),
        ("emergency", "--rounds", "0"),
        ("emergency", "--processes", "65"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)

    assert stopped.value.code == 2
    assert "usage: ./loa bench" in capsys.readouterr().err


@pytest.mark.parametrize("bench", ["ingest", "chaos", "overload", "storage"])
@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "mysql://root@localhost/loa",
        "postgresql://",
        "postgresql:///loa",
        "postgresql://localhost:port/loa",
    ],
)
def test_what_leads_to_no_database_server_is_refused(bench: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main([bench, "--database", url])

    assert stopped.value.code == 2
    assert "argument --database: must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in capsys.readouterr().err


@pytest.mark.parametrize("bench", ["ingest", "chaos", "overload", "storage"])
def test_an_url_the_driver_cannot_read_is_a_problem_of_the_report(
    bench: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = command.main([bench, "--database", "postgresql://127.0.0.1:1/loa?sslmode=perhaps", "--json"])

    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert status == 1
    assert "sslmode" in problem


def test_a_report_is_readable_before_anything_was_measured() -> None:
    request = ingest.Request(seconds=20, devices=2_800_000, profile=Profile.MIXED, database=None)
    report = ingest.empty_report(request) | {"problems": ["interrupted"], "cpu_us_per_msg": {"ingest": 44.5}}

    text = command.readable(report).splitlines()

    assert "devices                     2,800,000" in text
    assert "loa_msgs_per_s              -" in text
    assert "  ingest                    44.5" in text
    assert text[-1] == "problem: interrupted"


def test_figures_within_figures_are_shown_by_the_names_that_lead_to_them() -> None:
    report = storage.empty_report(storage.Request(rows=100_000, database=None)) | {
        "queries_ms": {"last_day": {"p50": 1.5, "p99": 1234}}
    }

    text = command.readable(report).splitlines()

    assert "  last_day / p50            1.5" in text
    assert "  last_day / p99            1,234" in text


def test_a_bench_that_cannot_be_stopped_says_what_it_has_and_ends() -> None:
    stubborn = """
import asyncio, sys, time
from services.local.bench import command, planner

async def run(request, report):
    report["devices"] = 7
    try:
        await asyncio.sleep(60)
    finally:
        while True:
            time.sleep(0.01)  # a clean-up without an end

command.OVERDUE_S = command.LAST_RESORT_S = 1
planner.run = run
sys.exit(command.main(["planner", "--json"]))
"""
    ended = subprocess.run([sys.executable, "-c", stubborn], capture_output=True, text=True, timeout=60, check=False)

    report = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert report["devices"] == 7
    assert report["problems"] == ["not stopped 1 s after it was overdue; its folder is left"]
