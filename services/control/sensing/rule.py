"""What a rule makes of readings: sensors that are raised, alarms, blindness. Pure.

A reading's time is the one ingest found to be good (`at`): a device whose clock nobody believes is counted by receipt.
Readings are folded in order of that time, so it does not matter in which order they come. Silence is no reading: it
never raises a sensor, never clears it, and does not count as time in which a threshold was held.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.identifiers import DeviceId, UnitId
from services.control.alerting.model import Severity
from services.control.planning.model import DeviceNo

THRESHOLD, BLIND = "sensor_threshold", "sensor_rule_blind"  # kinds of alarms
MAX_SENSORS = 200  # of one rule
NEWEST = timedelta(minutes=10)  # readings that come later than this are history: they change nothing any more


class Direction(enum.StrEnum):
    """On which side of the threshold the danger lies."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When one sensor is raised and cleared; values in the quantity's unit (`schemas.readings.UNITS`)."""

    direction: Direction
    raise_at: float
    clear_at: float
    hold: timedelta  # how long readings must say so, without a gap
    silent_after: timedelta  # a longer gap breaks a run; a sensor from which nothing came for so long is silent

    def is_raising(self, value: float) -> bool:
        """Whether the value lies on the dangerous side."""
        return value >= self.raise_at if self.direction is Direction.ABOVE else value <= self.raise_at

    def is_clearing(self, value: float) -> bool:
        """Whether the value lies on the safe side."""
        return value <= self.clear_at if self.direction is Direction.ABOVE else value >= self.clear_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule as it stands. With `template_id` an alarm proposes an alert for the ground of `alert_units`."""

    rule_id: uuid.UUID
    unit_id: UnitId
    name: str
    quantity: str
    limits: Limits
    quorum: int
    severity: Severity
    template_id: uuid.UUID | None
    sensor_units: tuple[UnitId, ...]
    sensor_ids: tuple[DeviceId, ...]
    alert_units: tuple[UnitId, ...]
    cool_down: timedelta
    proposal_validity: timedelta
    is_enabled: bool = True
    version: int = 1
    created_at: datetime
    created_by: uuid.UUID | None = None
    changed_at: datetime
    changed_by: uuid.UUID | None = None
    retired_at: datetime | None = None
    looked_up_at: datetime | None = None


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """A value of the rule's quantity, at the time to use."""

    at: datetime
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorState:
    """What readings so far make of a sensor."""

    is_raised: bool = False
    since: datetime | None = None  # of the first of the readings that brought it where it is
    run_since: datetime | None = None  # since when they have said the opposite
    last_at: datetime | None = None
    last_value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A sensor of a rule, waited for since `joined_at`."""

    device_no: DeviceNo
    device_id: DeviceId
    joined_at: datetime
    state: SensorState = SensorState()

    def is_silent(self, limits: Limits, *, now: datetime) -> bool:
        """Whether nothing came for too long."""
        return now - max(self.joined_at, self.state.last_at or self.joined_at) > limits.silent_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a rule stands at an instant."""

    is_raised: bool
    is_blind: bool  # so few sensors speak that it could not be raised
    raised: tuple[Sensor, ...]  # silent ones too: the last thing they said was danger
    silent: tuple[Sensor, ...]


def told(state: SensorState, sample: Sample, limits: Limits) -> SensorState:
    """The state after one more reading, which is newer than all before it; an older one changes nothing."""
    if state.last_at is not None and sample.at <= state.last_at:
        return state
    seen = replace(state, last_at=sample.at, last_value=sample.value)
    is_opposite = limits.is_clearing(sample.value) if state.is_raised else limits.is_raising(sample.value)
    if not is_opposite:
        return replace(seen, run_since=None)
    is_after_gap = state.last_at is None or sample.at - state.last_at > limits.silent_after
    began = sample.at if state.run_since is None or is_after_gap else state.run_since
    if sample.at - began < limits.hold:
        return replace(seen, run_since=began)
    return replace(seen, is_raised=not state.is_raised, since=began, run_since=None)


def follow(state: SensorState, samples: Iterable[Sample], limits: Limits) -> SensorState:
    """The state after readings, in whatever order they came."""
    for sample in sorted(samples):
        state = told(state, sample, limits)
    return state


def stand(sensors: Iterable[Sensor], limits: Limits, quorum: int, *, is_raised: bool, now: datetime) -> Standing:
    """How a rule stands: `is_raised` is how it stood. It takes `quorum` sensors that speak to raise it.

    A silent sensor keeps what it said last: it cannot help to raise a rule, nor does its silence clear one.
    """
    everyone = tuple(sensors)
    raised = tuple(each for each in everyone if each.state.is_raised)
    silent = tuple(each for each in everyone if each.is_silent(limits, now=now))
    quiet = {each.device_no for each in silent}
    speaking = sum(each.device_no not in quiet for each in raised)
    return Standing(
        is_raised=len(raised) >= quorum if is_raised else speaking >= quorum,
        is_blind=len(everyone) - len(silent) < quorum,
        raised=raised,
        silent=silent,
    )
