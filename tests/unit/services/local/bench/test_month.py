"""A small month comes out right, a spoilt rule is noticed, and the report says so."""

import asyncio
import json
import multiprocessing
from dataclasses import asdict
from datetime import timedelta

import pytest

from services.local.bench import command, month
from services.local.bench.month import Request, Tally, live_part

SMALL = Request(clusters=14, days=4, seed=6)


@pytest.fixture(scope="module")
def lived() -> Tally:
    return live_part(SMALL, 0)


def test_every_cluster_plays_what_it_should_and_every_emission_is_explained(lived: Tally) -> None:
    report = month.empty_report(SMALL)

    month.fill_in(lived, report)

    assert report["problems"] == []
    assert (report["wrong_plays"], report["emissions_unexplained"], report["dead_air_unexplained_s"]) == (0, 0, 0)
    assert report["emissions"] > 14 * 4 * 4
    assert 0 < report["start_skew_ms_p99"] <= month.SKEW_GOAL_MS
    assert sum(report["verdicts"].values()) == report["emissions"]


def test_much_goes_wrong_in_it(lived: Tally) -> None:
    assert {"offline_for_hours", "power_cut_mid_item", "clock_lost"} <= lived.faults.keys()
    assert {"cut: outranked", "missed: powered_off"} <= lived.proof.reasons.keys()
    assert lived.late["outranked"] > 0


def test_equal_seeds_are_equal_months(lived: Tally) -> None:
    def facts(tally: Tally) -> dict[str, object]:
        return {name: value for name, value in asdict(tally).items() if name != "cpu_s"}

    assert facts(live_part(SMALL, 0)) == facts(lived)
    assert facts(live_part(Request(clusters=14, days=4, seed=2), 0)) != facts(lived)


@pytest.mark.parametrize("breaks", [month.TIE_BREAK, month.STALE_NEWS])
def test_a_rule_that_is_broken_is_noticed(breaks: str) -> None:
    request = Request(clusters=14, days=4, seed=6, breaks=breaks)
    report = month.empty_report(request)

    month.fill_in(live_part(request, 0), report)

    assert report["wrong_plays"] > 0
    assert any("wrong plays: month-" in problem for problem in report["problems"])
    assert live_part(Request(clusters=3, days=1, seed=6), 0).wrong == {}  # and is in order again afterwards


def test_parts_of_a_province_add_up_to_it(monkeypatch: pytest.MonkeyPatch, lived: Tally) -> None:
    monkeypatch.setattr(month, "SITES_AT_ONCE", 9)
    total = Tally()

    for part in range(2):
        total.add(live_part(SMALL, part))

    assert (total.devices, total.emissions, total.plays) == (lived.devices, lived.emissions, lived.plays)
    assert total.proof.outcomes == lived.proof.outcomes
    assert total.faults == lived.faults


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"unsent": 2}, "2 changes did not become a plan"),
        ({"events_lost": 3}, "3 events never arrived"),
        ({"emissions": 0}, "nothing was planned"),
        ({"skews_ms": {"synchronised": [10] * 90 + [80] * 10}}, "80 ms apart"),
    ],
)
def test_what_must_not_be_is_a_problem(spoilt: dict[str, object], said: str) -> None:
    tally = Tally(emissions=1)
    for name, value in spoilt.items():
        setattr(tally, name, value)
    report = month.empty_report(SMALL)

    month.fill_in(tally, report)

    (problem,) = report["problems"]
    assert said in problem


def test_the_verb_ends_with_status_1_when_the_oracle_finds_something(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["month", "--clusters", "10", "--days", "3", "--seed", "3", "--json"]

    assert command.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["what_is_virtual"] == list(month.VIRTUAL)
    assert told["elapsed_s"] > 0
    assert command.main([*arguments, "--break", "tie-break"]) == 1
    assert json.loads(capsys.readouterr().out)["wrong_plays"] > 0


def test_processes_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(clusters=month.SITES_AT_ONCE + 1, days=1, seed=3)
    report = month.empty_report(request)

    asyncio.run(month.run(request, report))

    assert report["problems"] == []
    assert report["devices"] == month.SITES_AT_ONCE + 1


def test_a_month_that_takes_too_long_ends_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(month, "DEADLINE", timedelta(seconds=2))
    request = Request(clusters=5_000, days=30, seed=1)
    report = month.empty_report(request)

    asyncio.run(month.run(request, report))

    assert report["problems"] == ["not finished after 2 s; ask for fewer clusters or days"]
    assert report["wrong_plays"] is None
    assert multiprocessing.active_children() == []
