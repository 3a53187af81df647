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
class Allowed:
    """Two officers let what the rule proposes be released at once, since `since`: by readings that are signed.

    `signed` are the newest of these, of each sensor, settled or not: signed by the device with a key that is still good,
    and received when they were made.
    """

    since: datetime
    signed: Mapping[DeviceNo, Sequence[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A rule as stored, with the readings that are not settled; `is_whole` is false while there are more of them.

    `allowed` is None also where nothing could be released now (`is_releasable`), whatever was allowed.
    """

    rule: Rule
    sensors: tuple[Sensor, ...]
    samples: Mapping[DeviceNo, Sequence[Sample]]
    is_whole: bool
    is_raised: bool
    is_blind: bool
    proposed: Proposed
    allowed: Allowed | None = None


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
    signed_by: tuple[
        Sensor, ...
    ] = ()  # whose signed readings alone raise it, where what is proposed may go out by them

    @property
    def releases(self) -> bool:
        """Whether what it proposes now, or what still waits, may go out: readings that are signed say the same."""
        return bool(self.signed_by)

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is to be written."""
        does = (self.raises, self.clears, self.goes_blind, self.sees_again, self.proposes, self.releases)
        return not (self.settled or any(does))


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
    proposes = standing.is_raised and _may_propose(rule, watched.proposed, is_new=raises, now=now)
    return Steps(
        settled=tuple(_settled_whole(sensors) if raises or clears else _settled_old(watched, now=now)),
        standing=standing,
        raises=raises,
        clears=clears,
        goes_blind=standing.is_blind and not watched.is_blind,
        sees_again=watched.is_blind and not standing.is_blind,
        proposes=proposes,
        signed_by=_signed_by(watched, proposes=proposes, now=now) if standing.is_raised else (),
    )


def is_releasable(watched: Watched, *, now: datetime) -> bool:
    """Whether something is proposed now, or waits while the alarm lasts: only then does it matter who signed."""
    steps = decide(watched, now=now)
    is_raised = steps.standing is not None and steps.standing.is_raised
    return steps.proposes or (is_raised and watched.proposed.is_open)


def _may_propose(rule: Rule, proposed: Proposed, *, is_new: bool, now: datetime) -> bool:
    """Never two at a time, not again what a person has answered, and not sooner than the cool-down allows."""
    if rule.template_id is None or proposed.is_open or (proposed.is_answered and not is_new):
        return False
    return proposed.newest_at is None or now >= proposed.newest_at + rule.cool_down


def _signed_by(watched: Watched, *, proposes: bool, now: datetime) -> tuple[Sensor, ...]:
    """Whose signed readings alone raise the rule, where what it proposes is proposed since it was allowed; or nobody's.

    Sensors begin anew for this, with the readings that still count: what unsigned ones made of them says nothing here.
    """
    allowed, proposed, limits = watched.allowed, watched.proposed, watched.rule.limits
    if allowed is None:
        return ()
    is_waiting = proposed.is_open and proposed.newest_at is not None and proposed.newest_at >= allowed.since
    if not (proposes or is_waiting):
        return ()
    sensors = []
    for each in watched.sensors:
        state = follow(SensorState(), allowed.signed.get(each.device_no, ()), limits)
        sensors.append(replace(each, state=state, joined_at=state.last_at or each.joined_at))
    standing = stand(sensors, limits, watched.rule.quorum, is_raised=False, now=now)
    return tuple(each for each in standing.raised if each not in standing.silent) if standing.is_raised else ()


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
