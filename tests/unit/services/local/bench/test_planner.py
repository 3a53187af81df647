"""The bench of the planner measures what it says: a province with everything in force, and a plain loop that agrees."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from schemas.fields import DeviceKind, Level
from services.control.planning.model import DeviceNo, ProblemKind
from services.control.planning.programme import begin
from services.local.bench import planner, planner_naive
from services.local.bench.command import readable
from services.local.bench.planner_province import OCCURRENCES_A_DAY, province

REQUEST = planner.Request(devices=2_000, days=2)


def test_a_province_has_everything_in_force() -> None:
    made = province(2_000)
    planning = begin(made.snapshot, REQUEST.window)

    found = planner.counts(made, planning, REQUEST.days)

    assert (found["communes"], found["broadcasts"]) == (40, 2 + 2 + 80)
    assert found["occurrences_per_device_and_day"] == pytest.approx(OCCURRENCES_A_DAY, abs=0.1)
    assert found["emissions"] > 2_000 * OCCURRENCES_A_DAY * REQUEST.days * 2
    assert found["distinct_programmes"] < 400
    kinds = {problem.kind for problem in planning.plan.problems}
    assert kinds == {ProblemKind.OFFER_PENDING, ProblemKind.OFFER_DECLINED, ProblemKind.SHARE_USED_UP}
    slots = [slot for programme in planning.plan.programmes.values() for slot in programme]
    assert {slot.rank.level for slot in slots} == {Level.NORMAL, Level.PRIORITY}
    assert {slot.rank.place for slot in slots} == {None, 1}
    assert 60 in {slot.volume_percent for slot in slots}


def test_two_provinces_of_one_size_are_alike() -> None:
    one, other = province(1_000).snapshot, province(1_000).snapshot
    assert (one.broadcasts, one.devices, one.policies) == (other.broadcasts, other.devices, other.policies)


def test_the_plain_loop_comes_to_the_times_that_planning_does() -> None:
    made = province(1_000)
    planned = begin(made.snapshot, REQUEST.window).plan
    prepared = planner_naive.prepare(made.snapshot)
    # A cluster of a commune that accepted its district's offer and leaves nobody out.
    device = made.snapshot.devices[2 * 50 + 3]
    assert device.kind is DeviceKind.CLUSTER

    emissions = planner_naive.programme(prepared, device, REQUEST.window)

    assert sorted(emissions) == sorted(
        (slot.broadcast_id, slot.occurrence_at, slot.item, slot.starts_at)
        for slot in planned.programmes[device.device_no]
    )


def test_what_is_signed_is_taken_in_runs_of_neighbours() -> None:
    numbers = [DeviceNo(n) for n in range(10_000)]
    found = planner.sample(numbers)
    assert len(found) == planner.SIGNED_RUNS * planner.SIGNED_RUN
    assert found[: planner.SIGNED_RUN] == numbers[: planner.SIGNED_RUN]
    assert found[planner.SIGNED_RUN] == numbers[1_000]
    assert planner.sample(numbers[:10]) == numbers[:10]


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [("cold_s", 10.0, 0), ("cold_s", 10.1, 1), ("whatif_ms", 501.0, 1), ("one_change_ms", None, 0)],
)
def test_a_missed_goal_is_a_problem(name: str, value: float | None, count: int) -> None:
    assert len(planner.missed(name, value)) == count


def test_the_whole_bench_on_a_small_province() -> None:
    report = planner.empty_report(REQUEST)

    asyncio.run(planner.run(REQUEST, report))

    # How long it takes on a machine that tests something else meanwhile is no matter here.
    assert [problem for problem in report["problems"] if "was to be at most" not in problem] == []
    for name in ("cold_s", "one_change_ms", "whatif_ms", "sign_s", "dateutil_loop_s"):
        assert report[name] > 0
    assert 1_000 < report["bytes_per_plan"]["p50"] <= report["bytes_per_plan"]["p100"]
    assert {"signed", "changed", "dateutil_loop"} <= report["how"].keys()
    assert "emissions" in readable(report)


def test_a_window_is_as_many_days_as_were_asked_for() -> None:
    assert REQUEST.window.end - REQUEST.window.first == timedelta(days=2)
