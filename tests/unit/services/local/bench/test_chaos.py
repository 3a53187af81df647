"""What must not be is a problem, and what may be is none."""

import asyncio
import dataclasses
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from services.local.bench import chaos, command, overload
from services.local.bench.chaos import problems
from services.local.bench.chaos_ledger import Comparison, Loss
from services.local.bench.measurement import BenchFailed
from services.local.bench.reporting import Report

FINE = Comparison(
    events_sent=10,
    events_stored=10,
    events_lost=0,
    events_duplicated=0,
    acked_events_missing=0,
    heartbeats_sent=100,
    heartbeats_taken=98,
    heartbeats_stored=90,
    heartbeats_duplicated=0,
    acked_heartbeats_missing=0,
    unheard=3,
    lost={Loss.CRASH: 4, Loss.FULL_QUEUE: 1},
    unexplained=0,
    foreign=0,
)


def test_what_the_broker_lost_is_no_problem_of_ours() -> None:
    assert problems(FINE) == []


@pytest.mark.parametrize(
    "name",
    [
        "events_lost",
        "events_duplicated",
        "acked_events_missing",
        "heartbeats_duplicated",
        "acked_heartbeats_missing",
        "unexplained",
        "foreign",
    ],
)
def test_what_is_lost_double_or_foreign_is_one(name: str) -> None:
    changed: dict[str, Any] = {name: 3}

    (told,) = problems(dataclasses.replace(FINE, **changed))

    assert told.startswith("3 ")


@pytest.mark.parametrize(("wanted", "done"), [(30, 30), (None, 1), (None, 150)])
def test_as_many_faults_as_asked_for_are_enough(wanted: int | None, done: int) -> None:
    assert chaos.too_few(wanted, done) == []


@pytest.mark.parametrize(
    ("wanted", "done", "told"), [(30, 29, "29 of 30 faults"), (30, 0, "nothing"), (None, 0, "nothing")]
)
def test_fewer_faults_than_asked_for_are_a_problem(wanted: int | None, done: int, told: str) -> None:
    (problem,) = chaos.too_few(wanted, done)

    assert told in problem


def test_what_was_broken_until_the_time_is_over_is_not_wanted_in_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nothing(request: chaos.Request, report: Report) -> None:
        assert request.kills is None

    monkeypatch.setattr(chaos, "run", nothing)

    assert command.main(["chaos", "--until-time-is-over", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kills_wanted"] is None
    with pytest.raises(SystemExit):
        command.main(["chaos", "--until-time-is-over", "--kills", "3"])


def test_an_overload_may_lose_heartbeats_only_in_the_broker() -> None:
    assert overload.problems(FINE, waiting=0, quarantined=0) == []


@pytest.mark.parametrize(
    "name",
    [
        "events_lost",
        "events_duplicated",
        "acked_events_missing",
        "heartbeats_duplicated",
        "acked_heartbeats_missing",
        "foreign",
    ],
)
def test_what_an_overload_lost_or_made_up_is_a_problem(name: str) -> None:
    changed: dict[str, Any] = {name: 3}

    (told,) = overload.problems(dataclasses.replace(FINE, **changed), waiting=0, quarantined=0)

    assert told.startswith("3 ")


def test_only_events_that_their_devices_still_have_may_be_missing() -> None:
    missing = dataclasses.replace(FINE, events_lost=5)

    assert overload.problems(missing, waiting=5, quarantined=0) == []
    assert overload.problems(missing, waiting=4, quarantined=0) == ["1 events receipted and not stored"]


def test_a_good_message_that_was_quarantined_is_a_problem() -> None:
    (told,) = overload.problems(FINE, waiting=0, quarantined=2)

    assert told.startswith("2 messages quarantined")


@pytest.mark.parametrize(("after_s", "is_late"), [(0.5, False), (15.0, False), (15.1, True), (None, True)])
def test_full_speed_has_to_be_back_within_seconds(after_s: float | None, is_late: bool) -> None:
    assert bool(overload.too_late(after_s)) is is_late


async def test_an_ingest_that_ended_during_an_overload_is_said_to_have() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await child.wait()
    process = SimpleNamespace(pid=child.pid, tail=lambda: ": its last words")
    site: Any = SimpleNamespace(replicas=[SimpleNamespace(name="ingest:1", process=process)])

    with pytest.raises(BenchFailed, match="ingest:1 ended during the overload: its last words"):
        async with overload.sampling(site):
            await asyncio.Event().wait()


def test_reports_are_readable_before_anything_was_done() -> None:
    broken = chaos.empty_report(chaos.Request(kills=30, seed=7, database=None)) | {"problems": ["interrupted"]}
    too_much = overload.empty_report(overload.Request(seconds=90, database=None))

    assert "acked_heartbeats_missing    -" in command.readable(broken).splitlines()
    assert command.readable(broken).splitlines()[-1] == "problem: interrupted"
    assert "full_speed_after_s          -" in command.readable(too_much).splitlines()
