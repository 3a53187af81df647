"""When tests of alerts are due, and whom each of them means. Pure.

A unit says when its ground is tested; where it says nothing, the word of the nearest unit above holds, and where nobody
says anything, there is a silent test every day. A test is the word of the unit whose timetable it is, for everything below
it that has no word of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from schemas.alerts import Purpose
from schemas.fields import Level
from schemas.identifiers import UnitId
from services.control.alerting.model import AudienceWish
from services.control.planning import permission
from services.control.planning.permission import Breach
from services.control.planning.policies import Policies
from services.control.planning.recurrence import local_day, moment_of
from services.control.planning.wall_clock import Stretch
from services.control.policies import LocalTime, Weekday
from services.control.units import UnitTree

TESTS = (Purpose.SILENT_TEST, Purpose.AUDIBLE_TEST)
RUN_OUTCOMES = ("issued", "missed", "not_allowed", "refused")
# A test that could not be issued by then (control was away) is missed: nobody expects it at another time of the day.
GRACE = timedelta(minutes=15)
# What may sound in an audible test, three minutes at most, must lie within the hours that policies allow.
AUDIBLE_LENGTH_MS = 180_000
_DAY_MS = 86_400_000


class SilentTimes(BaseModel):
    """When devices confirm, without a sound, that an alert would be heard and seen; local time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Annotated[bool, Field(strict=True)] = True
    at: LocalTime = time(10, 0)
    weekdays: tuple[Weekday, ...] = Field(default=(1, 2, 3, 4, 5, 6, 7), min_length=1, max_length=7)


class AudibleTimes(SilentTimes):
    """When a test sounds, by the words and sounds of a template; without one it is the bare test tone."""

    template_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """What a unit says for its ground; None says nothing. Version 0: it never said anything."""

    unit_id: UnitId
    silent: SilentTimes | None = None
    audible: AudibleTimes | None = None
    version: int = 0
    changed_at: datetime | None = None
    changed_by: uuid.UUID | None = None

    def times(self, purpose: Purpose) -> SilentTimes | None:
        """What it says about one kind of test."""
        return self.silent if purpose is Purpose.SILENT_TEST else self.audible


Timetables = Mapping[UnitId, Timetable]

_UNSAID: Mapping[Purpose, SilentTimes] = {
    Purpose.SILENT_TEST: SilentTimes(),
    Purpose.AUDIBLE_TEST: AudibleTimes(on=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The times that hold on the ground of a unit, and whose word they are; None: nobody's, the rule without any."""

    times: SilentTimes
    unit_id: UnitId | None
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A test at the time it was due last: on the ground of a unit, without the units that have a word of their own."""

    unit_id: UnitId
    purpose: Purpose
    times: SilentTimes
    due_at: datetime
    without: tuple[UnitId, ...]

    def is_missed(self, *, now: datetime) -> bool:
        """Whether it is too late for it."""
        return now >= self.due_at + GRACE

    def audience(self, *objecting: UnitId) -> AudienceWish:
        """Whom it means, without the units that object as well."""
        wish = AudienceWish.of_units(self.unit_id)
        return AudienceWish(areas=wish.areas, except_units=(*self.without, *objecting))


def in_force(said: Timetables, unit_id: UnitId, tree: UnitTree, purpose: Purpose) -> InForce:
    """What holds on the ground of a unit."""
    for each in reversed(tree.path(unit_id)):
        own = said.get(each)
        times = own.times(purpose) if own is not None else None
        if own is not None and times is not None:
            return InForce(times=times, unit_id=each, since=own.changed_at)
    return InForce(times=_UNSAID[purpose], unit_id=None)


def due(said: Timetables, tree: UnitTree, zone: ZoneInfo, *, now: datetime) -> Iterator[Due]:
    """Every test that was due in the last day, at its latest time; none from before its timetable was made."""
    for purpose in TESTS:
        for unit_id in _owners(said, tree, purpose):
            holds = in_force(said, unit_id, tree, purpose)
            due_at = last_due(holds.times, zone, now=now)
            if due_at is None or (holds.since is not None and due_at < holds.since):
                continue
            yield Due(
                unit_id=unit_id,
                purpose=purpose,
                times=holds.times,
                due_at=due_at,
                without=apart(said, unit_id, tree, purpose),
            )


def apart(said: Timetables, unit_id: UnitId, tree: UnitTree, purpose: Purpose) -> tuple[UnitId, ...]:
    """The highest units below this one that have a word of their own, in order of the tree."""
    owners = set(_owners(said, tree, purpose)) - {unit_id}
    return tuple(
        each
        for each in tree.subtree(unit_id)
        if each in owners and owners.isdisjoint(set(tree.ancestors(each)) - set(tree.path(unit_id)))
    )


def _owners(said: Timetables, tree: UnitTree, purpose: Purpose) -> list[UnitId]:
    roots = [root.unit_id for root in tree.roots]
    others = (
        each for each, own in said.items() if own.times(purpose) is not None and tree.stands(each) and each in tree
    )
    return list(dict.fromkeys((*roots, *others)))


def last_due(times: SilentTimes, zone: ZoneInfo, *, now: datetime) -> datetime | None:
    """When it was due last, within a day; None when it was not."""
    today = local_day(now, zone)
    found = (_at(times, day, zone) for day in (today, today - timedelta(days=1)))
    return next((at for at in found if at is not None and now - timedelta(days=1) < at <= now), None)


def next_due(times: SilentTimes, zone: ZoneInfo, *, now: datetime) -> datetime | None:
    """When it is due next; None when it is off."""
    today = local_day(now, zone)
    found = (_at(times, today + timedelta(days=ahead), zone) for ahead in range(9))
    return next((at for at in found if at is not None and at > now), None)


def _at(times: SilentTimes, day: date, zone: ZoneInfo) -> datetime | None:
    is_on = times.on and day.isoweekday() in times.weekdays
    return moment_of(day, times.at, zone) if is_on else None


# --- the hours in which a test may sound -----------------------------------------------------------------------------


def breaches(unit_id: UnitId, tree: UnitTree, said: Policies, day: date, at: time) -> tuple[Breach, ...]:
    """What the policies of a unit have against a test that sounds then."""
    begin_ms = ((at.hour * 60 + at.minute) * 60 + at.second) * 1000
    end_ms = begin_ms + AUDIBLE_LENGTH_MS
    stretches = [Stretch(day, begin_ms, min(end_ms, _DAY_MS))]
    if end_ms > _DAY_MS:
        stretches.append(Stretch(day + timedelta(days=1), 0, end_ms - _DAY_MS))
    return permission.check(said.at(unit_id, tree), stretches, level=Level.PRIORITY)


def objecting(each: Due, tree: UnitTree, said: Policies, zone: ZoneInfo) -> tuple[UnitId, ...]:
    """The highest units on the ground of an audible test whose policies are against it at that time."""
    if each.purpose is not Purpose.AUDIBLE_TEST:
        return ()
    local = each.due_at.astimezone(zone)
    found: list[UnitId] = []
    for unit_id in tree.subtree(each.unit_id):
        is_left_out = any(tree.covers(top, unit_id) for top in (*each.without, *found))
        if tree.stands(unit_id) and not is_left_out and breaches(unit_id, tree, said, local.date(), local.time()):
            found.append(unit_id)
    return tuple(found)
