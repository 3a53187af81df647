"""A rule tried on the past does what it would have done."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import DeviceId
from services.control.planning.model import DeviceNo
from services.control.sensing.decision import Proposed, Watched, decide
from services.control.sensing.rule import Sample
from services.control.sensing.trial import Episode, episodes
from tests.unit.services.control.sensing.builders import a_minute_apart, a_rule, a_sensor, at, some_limits

ONE, TWO = DeviceNo(1), DeviceNo(2)
NAMES = {ONE: DeviceId("sensor-1")}
BOTH = {**NAMES, TWO: DeviceId("sensor-2")}


def test_a_flood_is_one_alarm_with_its_peak_and_one_proposal() -> None:
    flood = a_minute_apart([1, 4, 5, 6, 7.5, 6, 3, 3, 3, 3, 1])
    (found,) = episodes(a_rule(), NAMES, {ONE: flood}, since=at(0), until=at(12))
    assert found == Episode(
        kind="sensor_threshold",
        began_at=at(4),
        ended_at=at(9),
        sensors=(DeviceId("sensor-1"),),
        peak=7.5,
        proposed_at=at(4),
    )


def test_silence_is_told_and_ends_with_the_next_word() -> None:
    found = episodes(
        a_rule(), NAMES, {ONE: a_minute_apart([1], start=2) + a_minute_apart([1], start=30)}, since=at(0), until=at(60)
    )
    assert [(each.kind, each.ended_at) for each in found] == [
        ("sensor_rule_blind", at(30)),
        ("sensor_rule_blind", None),
    ]
    assert found[0].began_at - at(7) < timedelta(milliseconds=1)


def test_a_second_flood_within_the_cool_down_is_proposed_when_that_is_over_or_not_at_all() -> None:
    calm, high = [1.0] * 5, [5.0] * 5
    long = a_minute_apart(high + calm + [5.0] * 80)
    short = a_minute_apart(high + calm + high + calm + [1.0] * 50)
    found = episodes(a_rule(), NAMES, {ONE: long}, since=at(0), until=at(90))
    assert [each.proposed_at for each in found] == [at(3), at(63)]
    found = episodes(a_rule(), NAMES, {ONE: short}, since=at(0), until=at(70))
    assert [each.proposed_at for each in found] == [at(3), None]


def test_two_have_to_agree() -> None:
    high, low = a_minute_apart([5.0] * 10), a_minute_apart([1.0] * 5 + [5.0] * 5)
    (found,) = episodes(a_rule(quorum=2), BOTH, {ONE: high, TWO: low}, since=at(0), until=at(10))
    assert (found.began_at, found.sensors) == (at(8), ("sensor-1", "sensor-2"))


@given(st.lists(st.sampled_from([1.0, 3.7, 5.0]), min_size=1, max_size=50))
def test_it_begins_and_ends_alarms_where_the_watcher_would(values: list[float]) -> None:
    """Turn by turn with the watcher's own decision, against the trial over the whole."""
    samples = a_minute_apart(values)
    rule = a_rule(some_limits(hold=timedelta(minutes=2)), template_id=None)
    is_raised, changes = False, []
    for place, sample in enumerate(samples):
        case = Watched(
            rule=rule,
            sensors=(a_sensor(1),),
            samples={ONE: samples[: place + 1]},
            is_whole=True,
            is_raised=is_raised,
            is_blind=False,
            proposed=Proposed(),
        )
        steps = decide(case, now=sample.at)
        if steps.raises or steps.clears:
            is_raised = steps.raises
            changes.append(sample.at)
    found = episodes(rule, NAMES, {ONE: samples}, since=at(0), until=samples[-1].at)
    instants = [each for episode in found for each in (episode.began_at, episode.ended_at) if each is not None]
    assert instants == changes


def test_readings_after_the_end_are_not_looked_at() -> None:
    assert episodes(a_rule(), NAMES, {ONE: [Sample(at(9), 9)]}, since=at(0), until=at(1)) == ()
