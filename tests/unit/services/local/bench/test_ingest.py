"""A report says itself what it is not worth."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from services.local.bench import ingest, usage
from services.local.bench.measurement import Window
from services.local.bench.reporting import Report
from services.local.bench.site import DATABASE_SETTINGS
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


def test_ceilings_that_differ_are_named() -> None:
    (warning,) = ingest.warnings(a_report(ceiling_spread=0.23))

    assert "differ by 23%" in warning
    assert ingest.warnings(a_report(ceiling_spread=0.03)) == []


def a_window(
    *, per_s: Sequence[int] = (1_000,) * 20, backlog: Sequence[int] = (300,) * 20, mib: Sequence[float] = (100.0,) * 20
) -> Window:
    """Twenty seconds, looked at each second."""
    return Window(
        begin=0.0,
        end=20.0,
        taken=sum(per_s),
        cpu_s={"broker": 19.5, "ingest": 16.0, "bench": 0.4},
        busy_share=0.9,
        others_share=0.0,
        held_share=1.0,
        progress=[(float(at), total) for at, total in enumerate(itertools.accumulate(per_s))],
        backlog=[(float(at), each) for at, each in enumerate(backlog)],
        memory=[(float(at), each) for at, each in enumerate(mib)],
    )


@pytest.mark.parametrize(
    ("full", "paced", "expected"),
    [
        pytest.param(a_window(), a_window(), True, id="level"),
        pytest.param(a_window(), a_window(backlog=(300,) * 16 + (9_000,) * 2 + (300,) * 2), True, id="a_pause"),
        pytest.param(a_window(), a_window(backlog=range(0, 2_000, 100)), False, id="a_backlog_that_grows"),
        pytest.param(a_window(per_s=(1_000,) * 10 + (800,) * 10), a_window(), False, id="a_rate_that_falls"),
        pytest.param(a_window(), a_window(backlog=()), False, id="nothing_seen"),
    ],
)
def test_what_can_be_held(full: Window, paced: Window, expected: bool) -> None:
    assert ingest.is_sustained(full, paced) is expected


def test_memory_that_grows_is_told_from_memory_that_comes_and_goes() -> None:
    growing, breathing = a_window(mib=range(100, 140, 2)), a_window(mib=(100.0, 130.0) * 10)

    assert ingest.memory_growth_mib(growing) == pytest.approx(40)
    assert ingest.memory_growth_mib(breathing) == 0
    assert ingest.memory_course(growing) == {"first": 100, "last": 138, "max": 138, "rise_per_minute": 120}


@pytest.mark.parametrize(
    ("used", "replicas", "expected"),
    [
        ({"idle": 0.4, "broker": 0.5, "ingest": 0.97}, 1, ["ingest"]),
        ({"idle": 0.4, "broker": 0.5, "ingest": 0.97}, 2, []),
        ({"idle": 0.0, "broker": 0.6, "ingest": 1.2}, 2, ["the machine's cores"]),
        ({"idle": 0.4, "broker": 0.99, "ingest": 0.4}, 1, ["broker"]),
    ],
)
def test_what_can_do_no_more_is_named(used: dict[str, float], replicas: int, expected: list[str]) -> None:
    assert ingest.saturated(used, replicas) == expected


def test_what_nobody_used_is_idle() -> None:
    assert ingest.cores(a_window()) == {
        "broker": 0.975,
        "ingest": 0.8,
        "bench": 0.02,
        "idle": pytest.approx(0.1 * usage.cores()),
    }


def test_the_database_is_set_as_it_is_deployed() -> None:
    compose = yaml.safe_load((Path(__file__).resolve().parents[5] / "deploy" / "compose.yaml").read_text())
    deployed = dict(
        argument.removeprefix("--").split("=", 1)
        for argument in compose["services"]["database"]["command"]
        if argument.startswith("--")
    )
    defaults = {"wal_level": "replica", "max_wal_senders": "10"}

    assert {name: deployed.get(name, defaults.get(name)) for name in DATABASE_SETTINGS} == DATABASE_SETTINGS
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & deployed.keys()
