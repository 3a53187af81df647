"""A report says itself what it is not worth."""

import pytest

from services.local.bench import ingest
from services.local.bench.ingest import Report
from services.local.bench.traffic import Profile

DURABLE = {"fsync": "on", "synchronous_commit": "on"}


def a_report(**facts: object) -> Report:
    request = ingest.Request(seconds=20, devices=4_000, profile=Profile.HEARTBEATS, database=None)
    return ingest.empty_report(request) | facts


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="nothing_measured"),
        pytest.param({"others_cpu_share": {"ceiling": 0.02, "loa": 0.1}, "database": DURABLE}, id="quiet_and_durable"),
    ],
)
def test_nothing_to_warn_of(facts: dict[str, object]) -> None:
    assert ingest.warnings(a_report(**facts)) == []


def test_a_busy_machine_is_named_with_what_it_spoilt() -> None:
    (warning,) = ingest.warnings(a_report(others_cpu_share={"ceiling": 0.02, "naive": 0.87, "loa": 0.633}))

    assert "87% during naive, 63% during loa" in warning
    assert "ceiling" not in warning


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fsync": "off"}, "fsync off"),
        ({"synchronous_commit": "off"}, "synchronous_commit off"),
        ({"fsync": "off", "synchronous_commit": "off"}, "fsync and synchronous_commit off"),
    ],
)
def test_a_database_that_may_forget_is_named(changes: dict[str, str], named: str) -> None:
    (warning,) = ingest.warnings(a_report(database=DURABLE | changes))

    assert warning.startswith(named)
