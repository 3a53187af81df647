"""What one turn does about a rule: which readings are settled, whether an alarm begins or ends, whether to propose. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.control.planning.model import DeviceNo
from services.control.sensing.rule import NEWEST, Rule, Sample, Sensor, SensorState, Standing, follow, stand


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What the rule has proposed so far."""

    is_open: bool = False  # one waits for a person
    is_answered: bool = False  # a person has decided about the present alarm
    newest_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A rule as stored, with the readings that are not settled; `is_whole` is false while there are more of them."""

    rule: Rule
    sensors: tuple[Sensor, ...]
    samples: Mapping[DeviceNo, Sequence[Sample]]
    is_whole: bool
    is_raised: bool
    is_blind: bool
    proposed: Proposed


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The state of a sensor from all readings up to `until`; what comes from before that is history."""

    device_no: DeviceNo
    state: SensorState
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What is to be done. `standing` is None while readings are still being caught up with."""

    settled: tuple[Settled, ...] = ()
    standing: Standing | None = None
    raises: bool = False
    clears: bool = False
    goes_blind: bool = False
    sees_again: bool = False
    proposes: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is to be written."""
        return not (self.settled or self.raises or self.clears or self.goes_blind or self.sees_again or self.proposes)


def decide(watched: Watched, *, now: datetime) -> Steps:
    """What is to be done about the rule.

    Once an alarm begins or ends, the readings that led to it are settled: what comes late does not undo it.
    """
    rule = watched.rule
    if not watched.is_whole:
        return Steps(settled=tuple(_caught_up(watched)))
    sensors = tuple(
        replace(each, state=follow(each.state, watched.samples.get(each.device_no, ()), rule.limits))
        for each in watched.sensors
    )
    standing = stand(sensors, rule.limits, rule.quorum, is_raised=watched.is_raised, now=now)
    raises = standing.is_raised and not watched.is_raised
    clears = watched.is_raised and not standing.is_raised
    return Steps(
        settled=tuple(_settled_whole(sensors) if raises or clears else _settled_old(watched, now=now)),
        standing=standing,
        raises=raises,
        clears=clears,
        goes_blind=standing.is_blind and not watched.is_blind,
        sees_again=watched.is_blind and not standing.is_blind,
        proposes=standing.is_raised and _may_propose(rule, watched.proposed, is_new=raises, now=now),
    )


def _may_propose(rule: Rule, proposed: Proposed, *, is_new: bool, now: datetime) -> bool:
    """Never two at a time, not again what a person has answered, and not sooner than the cool-down allows."""
    if rule.template_id is None or proposed.is_open or (proposed.is_answered and not is_new):
        return False
    return proposed.newest_at is None or now >= proposed.newest_at + rule.cool_down


def _settled_whole(sensors: Sequence[Sensor]) -> list[Settled]:
    return [
        Settled(device_no=each.device_no, state=each.state, until=each.state.last_at)
        for each in sensors
        if each.state.last_at is not None
    ]


def _settled_old(watched: Watched, *, now: datetime) -> list[Settled]:
    """Readings that nothing can come before any more, where some are twice as old: so a sensor is seldom written."""
    until = now - NEWEST
    found = []
    for each in watched.sensors:
        samples = watched.samples.get(each.device_no, ())
        if samples and min(samples).at < until - NEWEST:
            old = [sample for sample in samples if sample.at <= until]
            state = follow(each.state, old, watched.rule.limits)
            found.append(Settled(device_no=each.device_no, state=state, until=until))
    return found


def _caught_up(watched: Watched) -> list[Settled]:
    """After an outage of ours: what was read, so that the next turn goes on from there."""
    return [
        Settled(
            device_no=each.device_no,
            state=follow(each.state, samples, watched.rule.limits),
            until=max(samples).at,
        )
        for each in watched.sensors
        if (samples := watched.samples.get(each.device_no))
    ]
