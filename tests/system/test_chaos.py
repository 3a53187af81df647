"""The bench that breaks things, as a person runs it: short, with a fixed seed.

Not the one that asks too much: it has to find out first what can be sustained at full speed, with a slow database and with
little to do, so that its shortest run takes minutes. What it judges is tried in `tests/unit/services/local/bench`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
SEED = "25"
KILLS = 8

pytestmark = [pytest.mark.system, pytest.mark.timeout(540)]


def bench(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Status and report; the bench says on standard error how far it is."""
    done = subprocess.run(
        [sys.executable, "-m", "services.local", "bench", *arguments, "--json"],
        cwd=TOP,
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
        timeout=530,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def test_whatever_is_killed_no_event_is_lost_and_what_was_acknowledged_is_stored() -> None:
    status, report = bench("chaos", "--kills", str(KILLS), "--seed", SEED)

    assert report["problems"] == []
    assert status == 0
    assert report["kills_in_all"] == sum(report["kills"].values()) == KILLS
    assert report["killed_with_signal_9"] > 0
    assert report["events_sent"] > 0
    assert report["events_lost"] == report["events_duplicated"] == report["acked_events_missing"] == 0
    assert report["heartbeats_stored"] > 0
    assert report["acked_heartbeats_missing"] == report["heartbeats_duplicated"] == 0
    assert report["heartbeats_unexplained"] == report["rows_nobody_sent"] == report["quarantined"] == 0
    # A full queue cost what the broker said it cost, and ingest raised its alarm.
    overflow = report["overflow"]
    assert overflow["dropped_by_broker"] == overflow["missing_by_ledger"] > 0
    assert overflow["alarmed"]
