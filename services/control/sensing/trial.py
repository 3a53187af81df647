"""What a rule would have done over readings of the past. Pure.

It is judged as it would have been at work: after every reading that brings a sensor elsewhere, and whenever one falls
silent or speaks again. Readings count at their own time; what came late in truth came in time here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.identifiers import DeviceId
from services.control.planning.model import DeviceNo
from services.control.sensing.rule import BLIND, THRESHOLD, Direction, Rule, Sample, Sensor, Standing, stand, told

_JUST_AFTER = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """An alarm that there would have been; `ended_at` is None where it still lasted at the end."""

    kind: str
    began_at: datetime
    ended_at: datetime | None
    sensors: tuple[DeviceId, ...]  # raised, or silent, when it began
    peak: float | None  # the value furthest on the dangerous side while it lasted
    proposed_at: datetime | None = None


def episodes(
    rule: Rule,
    names: Mapping[DeviceNo, DeviceId],
    samples: Mapping[DeviceNo, Sequence[Sample]],
    *,
    since: datetime,
    until: datetime,
) -> tuple[Episode, ...]:
    """The alarms of an otherwise unused rule between two instants, in the order in which they began."""
    trial = _Trial(rule, {no: Sensor(device_no=no, device_id=name, joined_at=since) for no, name in names.items()})
    for at, no, sample in _moments(samples, since, rule.limits.silent_after, names):
        if at > until:
            break
        trial.take(at, no, sample)
    return tuple(_with_proposals(rule, trial.ended(), until=until))


def _with_proposals(rule: Rule, found: Sequence[Episode], *, until: datetime) -> Iterator[Episode]:
    """The episodes with the instants of proposals: at once, or when the cool-down is over and the alarm still lasts."""
    newest: datetime | None = None
    for each in found:
        at = each.began_at if newest is None else max(each.began_at, newest + rule.cool_down)
        if rule.template_id is None or each.kind != THRESHOLD or at >= (each.ended_at or until):
            yield each
            continue
        newest = at
        yield replace(each, proposed_at=at)


def _moments(
    samples: Mapping[DeviceNo, Sequence[Sample]],
    since: datetime,
    silent_after: timedelta,
    names: Mapping[DeviceNo, object],
) -> Iterator[tuple[datetime, DeviceNo, Sample | None]]:
    """Every reading, and for each the instant at which its sensor is silent if nothing follows; in order."""
    streams: list[list[tuple[datetime, DeviceNo, Sample | None]]] = []
    for no in names:
        own = sorted(samples.get(no, ()))
        streams.append([(each.at, no, each) for each in own])
        streams.append([(at + silent_after + _JUST_AFTER, no, None) for at in (since, *(each.at for each in own))])
    return heapq.merge(*streams, key=lambda moment: (moment[0], moment[1]))


class _Trial:
    """The rule at work."""

    def __init__(self, rule: Rule, sensors: dict[DeviceNo, Sensor]) -> None:
        self._rule = rule
        self._sensors = sensors
        self._quiet: set[DeviceNo] = set()
        self._standing = Standing(is_raised=False, is_blind=False, raised=(), silent=())
        self._open: dict[str, Episode] = {}
        self._over: list[Episode] = []

    def take(self, at: datetime, no: DeviceNo, sample: Sample | None) -> None:
        before = self._sensors[no]
        after = before if sample is None else replace(before, state=told(before.state, sample, self._rule.limits))
        self._sensors[no] = after
        if sample is not None:
            self._note_peak(sample.value)
        was_quiet, is_quiet = no in self._quiet, after.is_silent(self._rule.limits, now=at)
        (self._quiet.add if is_quiet else self._quiet.discard)(no)
        # Nothing else can change how the rule stands, and most readings do not.
        if was_quiet != is_quiet or before.state.is_raised != after.state.is_raised:
            self._judge(at)

    def ended(self) -> tuple[Episode, ...]:
        return tuple(sorted((*self._over, *self._open.values()), key=lambda each: (each.began_at, each.kind)))

    def _judge(self, at: datetime) -> None:
        rule = self._rule
        standing = stand(self._sensors.values(), rule.limits, rule.quorum, is_raised=self._standing.is_raised, now=at)
        self._turn(THRESHOLD, self._standing.is_raised, standing.is_raised, standing.raised, at)
        self._turn(BLIND, self._standing.is_blind, standing.is_blind, standing.silent, at)
        self._standing = standing

    def _turn(self, kind: str, was: bool, is_now: bool, sensors: Sequence[Sensor], at: datetime) -> None:
        if is_now and not was:
            values = [each.state.last_value for each in sensors if each.state.last_value is not None]
            self._open[kind] = Episode(
                kind=kind,
                began_at=at,
                ended_at=None,
                sensors=tuple(each.device_id for each in sensors),
                peak=self._worst(values) if kind == THRESHOLD else None,
            )
        elif was and not is_now:
            self._over.append(replace(self._open.pop(kind), ended_at=at))

    def _note_peak(self, value: float) -> None:
        running = self._open.get(THRESHOLD)
        if running is not None and running.peak is not None:
            self._open[THRESHOLD] = replace(running, peak=self._worst([running.peak, value]))

    def _worst(self, values: Sequence[float]) -> float | None:
        if not values:
            return None
        return max(values) if self._rule.limits.direction is Direction.ABOVE else min(values)
