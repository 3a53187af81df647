"""The bench of emergencies, small: everybody is reached by both counts, and the parts add up."""

import pytest

from services.local.bench import emergency

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

CLUSTERS = 12


async def test_everybody_is_reached_and_each_part_is_measured() -> None:
    request = emergency.Request(clusters=CLUSTERS, rounds=1, processes=2)
    report = emergency.empty_report(request)

    await emergency.run(request, report)

    # How fast it was is no matter of a test: the goals are for a machine that does nothing else.
    assert [each for each in report["problems"] if not each.startswith("p99 was")] == []
    names = ("reached_by_journal", "reached_by_control", "addressed", "raw_received", "verified_received")
    counts = [report[name] for name in names]
    assert counts == [CLUSTERS] * len(counts)
    (only,) = report["rounds"].values()
    assert (only["told_taken"], only["cancelled"]) == (CLUSTERS, CLUSTERS)  # from the cache, and ended for everybody
    parts = report["parts_ms"]
    assert 0 < parts["request_to_first_packet"]["p50_ms"] < report["max_ms"]
    for way, name in (("raw", "ratio"), ("verified", "ratio_to_verified")):
        assert 0 < report[f"{way}_fanout_p50_ms"] <= report[f"{way}_fanout_p99_ms"]
        assert report[name] == round(report["p99_ms"] / report[f"{way}_fanout_p99_ms"], 2)
