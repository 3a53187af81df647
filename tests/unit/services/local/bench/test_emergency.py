"""What the emergency bench concludes from what devices wrote down, and what it holds against the goals."""

from typing import Any

import pytest

from services.local.bench import emergency, emergency_site
from services.local.bench.emergency import Request, empty_report, missed
from services.local.bench.emergency_trace import FleetTrace, Sounded, sounded, spread, whole_lines
from services.local.province import UnitRow

FLOOD = "5f0c2c3e-0000-4000-8000-000000000001"
S = 1_000_000
VALID = (100 * S, 130 * S)


def traced(*lines: str) -> FleetTrace:
    trace = FleetTrace()
    trace.take("\t".join(line.split()) for line in lines)
    return trace


def judged(trace: FleetTrace, *devices: str, period_s: int | None = None) -> Sounded:
    period_us = None if period_s is None else period_s * S
    return sounded(trace, FLOOD, devices, valid=VALID, margin_us=2 * S, period_us=period_us)


def test_whoever_had_an_uplink_in_time_and_sounded_it_once_is_counted_as_such() -> None:
    trace = traced(
        f"up a {50 * S}",
        f"up b {50 * S}",
        f"down b {90 * S}",
        f"up b {110 * S}",  # came back within the validity
        f"came a {100 * S + 1} {FLOOD}",
        f"started a {100 * S + 5} {FLOOD} 1 0",
        f"started b {110 * S + 5} {FLOOD} 1 0",
        f"up c {50 * S}",
        f"down c {99 * S}",  # away all the time
        f"up d {129 * S}",  # back when it was as good as over, and sounds it all the same
        f"started d {129 * S} {FLOOD} 1 0",
        "ended a 101000000 x 1 0 completed",
    )

    found = judged(trace, "a", "b", "c", "d")

    assert found == Sounded(online=2, once=2, never=0, twice=0, skipped=0, repetitions=3, others={})
    assert found.is_exact
    assert trace.dropped("abc", (80 * S, 95 * S)) == 1


@pytest.mark.parametrize("device", ["a", "late"])
def test_sounding_twice_is_never_missed(device: str) -> None:
    trace = traced(
        f"up a {50 * S}",
        f"up late {129 * S}",
        f"started a {101 * S} {FLOOD} 1 0",
        f"started {device} {128 * S} {FLOOD} 2 0",
        f"started {device} {129 * S} {FLOOD} 3 0",
    )

    found = judged(trace, "a", "late")

    assert found.twice == 1
    assert not found.is_exact


def test_who_was_there_and_sounded_nothing_is_never() -> None:
    found = judged(traced(f"up a {50 * S}", f"handled a {101 * S} {FLOOD} 1 killed"), "a")

    did = {"verdict": "never", "uplink": ["-50.00 up"], "started": [], "handled": ["1.00 killed"]}
    assert found == Sounded(online=1, once=0, never=1, twice=0, skipped=0, repetitions=0, others={"a": did})
    assert not found.is_exact


@pytest.mark.parametrize(
    ("starts", "verdict"),
    [
        ((100, 110, 120), "once"),
        ((105, 115, 125), "once"),
        ((100, 120), "skipped"),
        ((100, 110), "skipped"),  # and nothing more until the end
        ((100, 110, 111, 120), "twice"),
    ],
)
def test_each_repetition_that_is_due_sounds_once(starts: tuple[int, ...], verdict: str) -> None:
    trace = traced(f"up a {50 * S}", *(f"started a {at * S} {FLOOD} {at} 0" for at in starts))

    found = judged(trace, "a", period_s=10)

    counts = {"once": found.once, "twice": found.twice, "skipped": found.skipped}
    assert [name for name, count in counts.items() if count] == [verdict]
    assert found.is_exact is (verdict == "once")


def test_words_are_counted_by_version() -> None:
    trace = traced(f"handled a 5 {FLOOD} 1 taken", f"handled b 6 {FLOOD} 1 taken", f"handled a 9 {FLOOD} 2 cancelled")

    alert = trace.alert(FLOOD)
    assert alert.results(1) == {"taken": 2}
    assert alert.told_at(2, "cancelled") == [9]
    assert trace.alert("another").results(1) == {}


def test_half_a_line_is_left_for_the_next_look_and_nonsense_is_told() -> None:
    assert whole_lines("up\ta\t1\ndown\ta") == (["up\ta\t1"], 7)
    assert whole_lines("up") == ([], 0)
    with pytest.raises(ValueError, match="'sideways a' is no line of a trace"):
        FleetTrace().take(["sideways a"])


def test_a_part_is_of_those_who_have_both_ends() -> None:
    assert spread({"a": 3_000, "b": 9_000}, {"a": 1_000, "c": 1}) == [2.0]


def a_report(**changes: Any) -> dict[str, Any]:
    fine = {
        "p99_ms": 480.0,
        "ratio": 1.4,
        "reached_by_journal": 2_090,
        "reached_by_control": 2_090,
        "raw_received": 2_090,
        "verified_received": 2_090,
    }
    return empty_report(Request(clusters=2_090)) | fine | changes


def test_goals_that_are_met_are_no_problem() -> None:
    assert missed(a_report()) == []
    counts = ("clusters", "reached_by_journal", "reached_by_control", "raw_received", "verified_received")
    many = dict.fromkeys(counts, 10_000)
    assert missed(a_report(**many, p99_ms=1_999.0)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"p99_ms": 501.0}, "p99 was 501.0 ms, and not within 500 ms"),
        ({"p99_ms": None}, "p99 was None ms, and not within 500 ms"),
        ({"ratio": 1.51}, "p99 was 1.51 times the broker's own, and not within 1.5 times"),
        ({"reached_by_journal": 2_089}, "by devices' own journals 2089 of 2090 were reached"),
        ({"reached_by_control": 2_089}, "by control's reach 2089 of 2090 were reached"),
        ({"raw_received": 2_000}, "2000 of 2090 simple receivers got what the broker was given"),
        ({"verified_received": 9}, "9 of 2090 simple receivers verified what the broker was given"),
    ],
)
def test_each_goal_that_is_missed_is_told(changes: dict[str, Any], problem: str) -> None:
    assert missed(a_report(**changes)) == [problem]


def test_clusters_are_dealt_out_over_the_communes() -> None:
    units = [
        UnitRow(code="1", parent_code="", level="province", name="P"),
        UnitRow(code="2", parent_code="1", level="district", name="D"),
        UnitRow(code="3", parent_code="2", level="commune", name="A"),
        UnitRow(code="4", parent_code="2", level="commune", name="B"),
    ]

    province = emergency_site.lay_out(units, 3)

    assert [device.unit_code for device in province.devices] == ["3", "4", "3"]
    assert len({device.device_id for device in province.devices}) == 3
    assert province.root.code == "1"


def test_every_size_that_may_be_asked_for_has_a_goal() -> None:
    assert max(emergency.GOAL_MS) == emergency.MOST
