"""The storage bench on a small scale: that it measures what it says, and ends with a reason where it cannot."""

import asyncio
import json
import os
from datetime import timedelta

import pytest

from services.local.bench import command, storage
from services.local.bench.reporting import Report
from tests.support.database import EXTERNAL

pytestmark = pytest.mark.integration


def measured(request: storage.Request) -> Report:
    report = storage.empty_report(request)
    asyncio.run(storage.run(request, report))
    return report


def test_a_small_run_measures_everything_this_server_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "EXECUTIONS", 20)
    monkeypatch.setattr(storage, "RADIO_COMMUNES", 3)
    url = os.environ.get(EXTERNAL)
    report = measured(storage.Request(rows=storage.FEWEST_ROWS, database=url))
    assert report["problems"] == []
    keys = report["keys"]
    assert set(keys) == {"as migrated", "device_no, at", "at, device_no"}
    # The same rows in all of them.
    assert len({figures["rows"] for figures in keys.values()}) == 1
    assert 0.97 < keys["as migrated"]["rows"] / storage.FEWEST_ROWS < 1.2
    assert 100 < report["heartbeat_bytes_raw"] < 250
    assert report["roll_up"]["province"]["devices"] > 0.9 * storage.FEWEST_ROWS / 7
    asked = report["queries_ms"]
    assert {"last_day_of_one_raw", "month_of_a_commune_of_117", "commune_of_117_counts"} <= set(asked)
    assert all(0 < figures["p50"] <= figures["p99"] for figures in asked.values())
    if report["database"]["timescaledb"]:
        assert report["heartbeat_bytes_compressed"] < report["heartbeat_bytes_raw"]
        assert set(report["packings"]) == set(storage.PACKINGS)
        assert report["late_rows"]["stored"] > 0
        assert report["roll_up"]["straggler_of_a_compressed_hour_ms"]["p50"] > 0
        assert report["late_rows"]["stored_again"] == 0
    else:
        assert report["heartbeat_bytes_compressed"] is None
        assert any("nothing is compressed" in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://nobody:wrong@127.0.0.1:1/postgres", "Connect"),
        ("postgresql://nobody:wrong@no-such-host.invalid/postgres", "gaierror"),
    ],
)
def test_a_server_that_is_not_there_is_said_to_be_not_there(
    url: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["storage", "--rows", "100000", "--database", url, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["problems"]) == 1
    assert reason in report["problems"][0]


@pytest.mark.parametrize(("heartbeat", "is_missed"), [(None, False), (16.0, False), (16.01, True)])
def test_a_goal_missed_is_said(heartbeat: float | None, is_missed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def measure(request: storage.Request, report: Report, *, began_at: float) -> None:
        del request, began_at
        report["heartbeat_bytes_compressed"] = heartbeat

    monkeypatch.setattr(storage, "_measure", measure)
    report = measured(storage.Request(rows=storage.FEWEST_ROWS, database=None))
    assert any("goal missed" in warning for warning in report["warnings"]) is is_missed


def test_what_is_not_finished_in_time_says_how_far_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "DEADLINE", timedelta(seconds=0.01))
    report = measured(storage.Request(rows=storage.FEWEST_ROWS, database=None))
    assert report["keys"] is None
    assert any("ask for fewer --rows" in problem for problem in report["problems"])
