"""What a change would do, as an answer: numbers per unit first, device by device on demand.

Every route that changes what sounds takes `dry_run`: then nothing is stored and this is the answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import date, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query
from pydantic import Field

from schemas.identifiers import DeviceId, UnitId
from services.control.api.context import Caller, Services
from services.control.api.fields import AfterDevice, Answer
from services.control.planning.impact import Change, DayUse, Finding, UnitImpact
from services.control.planning.model import Slot
from services.control.planning.timeline import Sounding
from services.control.rehearsal import Outlook, Stage, rehearse
from services.control.units import UnitTree
from services.shared.database.pool import Connection

DryRun = Annotated[bool, Query(description="only tell what it would do; nothing is stored, nobody is woken")]
DetailUnit = Annotated[uuid.UUID | None, Query(description="of a dry run: also device by device, in this unit")]
DetailAfter = Annotated[AfterDevice, Query(description="`more_after` of the page before")]
DetailLimit = Annotated[int, Query(ge=1, le=500)]


ResultT = TypeVar("ResultT")


class WhatIf:
    """What a request asks for besides a change: to be told what it would do instead of doing it, and how much of that."""

    def __init__(
        self,
        dry_run: DryRun = False,
        detail_unit: DetailUnit = None,
        detail_after: DetailAfter = "",
        detail_limit: DetailLimit = 50,
    ) -> None:
        self.dry_run = dry_run
        self._unit = detail_unit
        self._after = detail_after
        self._limit = detail_limit

    async def carry_out(
        self,
        services: Services,
        caller: Caller,
        save: Callable[[Connection], Awaitable[ResultT]],
        *,
        unit_id: UnitId | None,
        first_day: Callable[[ResultT], date | None] = lambda _: None,
    ) -> tuple[ResultT, OutlookView | None]:
        """Save in a transaction; or save, undo it, and tell what it would have done below the unit.

        Without a unit it tells of everybody: for what changes devices or units themselves.
        `first_day` tells from the result on which day what was saved begins, which may lie beyond the horizon.
        """
        if not self.dry_run:
            async with services.database.transaction() as connection:
                return await save(connection), None
        result, outlook = await rehearse(
            services.database, save, stage=stage(services, unit_id), now=caller.now, first_day=first_day
        )
        view = outlook_view(outlook, detail_unit=self._unit, after=self._after, limit=self._limit)
        return result, view


AskedWhatIf = Annotated[WhatIf, Depends()]


class DayUseView(Answer):
    """Planned minutes of a day on the fullest device, and how many a unit grants."""

    day: date
    limit_minutes: float
    limited_by: uuid.UUID
    minutes_before: float
    minutes_after: float


class UnitImpactView(Answer):
    """What happens in one unit, in emissions: a slot on ten devices counts ten.

    `counts` holds `added`, `removed`, `refused`, `cut`, `shortened`, `moved`, `missed`, `regained` and `changed`, those
    that are not zero.
    """

    unit_id: uuid.UUID
    name: str
    devices: int
    counts: dict[str, int]
    quiet_devices: int = Field(description="would sound something new in quiet hours")
    lacking_devices: int = Field(description="do not have all the media yet")
    unknown_devices: int = Field(description="have not said which media they have")
    days: list[DayUseView]


class FindingView(Answer):
    """Occurrences of a broadcast that planning says something about; `problem` is a stable word."""

    problem: str
    broadcast_id: uuid.UUID
    unit_id: uuid.UUID | None = Field(
        description="whose policy it is, whom it is offered to, or where what was named lies"
    )
    occurrences: int
    is_refusal: bool


class SoundingView(Answer):
    """When something sounds."""

    fate: str = Field(description="whole, late, cut, moved or missed")
    parts: list[tuple[datetime, datetime]]


class ChangeView(Answer):
    """What becomes of one item on a device. `by` is the broadcast in its way, and `decided_by` what settled that."""

    kind: str
    broadcast_id: uuid.UUID
    occurrence_at: datetime
    item: int
    title: str
    starts_at: datetime
    ends_at: datetime
    before: SoundingView | None
    after: SoundingView | None
    by: uuid.UUID | None
    decided_by: str | None
    rule: str | None


class DeviceImpactView(Answer):
    """What happens on one device, in order of time."""

    device_id: str
    changes: list[ChangeView]


class DetailView(Answer):
    """The devices of one unit to which something happens."""

    unit_id: uuid.UUID
    devices: list[DeviceImpactView]
    more_after: str | None = Field(description="to be given as `detail_after`; null: that was all")


class OutlookView(Answer):
    """What a change would do on the days from `first` until before `end`.

    `add`, `withdraw` and `stop` count emissions that would be planned or get another form, be taken back before they
    begin, and be stopped while they sound. `findings` is what planning would say anew, `settled` what it no longer says.
    """

    first: date
    end: date
    add: int
    withdraw: int
    stop: int
    counts: dict[str, int]
    units: list[UnitImpactView]
    findings: list[FindingView]
    settled: list[FindingView]
    detail: DetailView | None


def stage(services: Services, unit_id: UnitId | None) -> Stage:
    """Where a change in a unit is rehearsed: on all days that are recorded, one more than plans go out for."""
    return Stage(unit_id=unit_id, zone=services.directory.zone, days=services.horizon_days + 2)


def outlook_view(outlook: Outlook, *, detail_unit: uuid.UUID | None, after: str, limit: int) -> OutlookView:
    """What a change would do; units in the order of their tree, as people have them everywhere else."""
    found = outlook.impact
    places: dict[UnitId | None, int] = {unit.unit_id: number for number, unit in enumerate(outlook.tree)}
    units = sorted(found.units, key=lambda each: places.get(each.unit_id, len(places)))
    findings, settled = (
        sorted(some, key=lambda each: (each.kind, each.broadcast_id, places.get(each.unit_id, len(places))))
        for some in (found.findings, found.settled)
    )
    return OutlookView(
        first=outlook.window.first,
        end=outlook.window.end,
        add=outlook.tally.add,
        withdraw=outlook.tally.withdraw,
        stop=outlook.tally.stop,
        counts=_counts(found.counts),
        units=[_unit_view(each, outlook.tree) for each in units],
        findings=[finding_view(each) for each in findings],
        settled=[finding_view(each) for each in settled],
        detail=None if detail_unit is None else _detail(outlook, UnitId(detail_unit), after=after, limit=limit),
    )


def _counts(counts: Any) -> dict[str, int]:
    return {kind.value: number for kind, number in sorted(counts.items()) if number}


def _unit_view(unit: UnitImpact, tree: UnitTree) -> UnitImpactView:
    known = tree.get(unit.unit_id)
    return UnitImpactView(
        unit_id=unit.unit_id,
        name=known.name if known is not None else str(unit.unit_id),
        devices=unit.devices,
        counts=_counts(unit.counts),
        quiet_devices=unit.quiet_devices,
        lacking_devices=unit.lacking_devices,
        unknown_devices=unit.unknown_devices,
        days=[_day_view(each) for each in unit.days],
    )


def _day_view(use: DayUse) -> DayUseView:
    return DayUseView(
        day=use.day,
        limit_minutes=use.limit.total_seconds() / 60,
        limited_by=use.limited_by,
        minutes_before=use.before.total_seconds() / 60,
        minutes_after=use.after.total_seconds() / 60,
    )


def finding_view(finding: Finding) -> FindingView:
    """What planning says."""
    return FindingView(
        problem=finding.kind.value,
        broadcast_id=finding.broadcast_id,
        unit_id=finding.unit_id,
        occurrences=finding.occurrences,
        is_refusal=finding.is_refusal,
    )


def _detail(outlook: Outlook, unit_id: UnitId, *, after: str, limit: int) -> DetailView:
    devices = sorted(_devices(outlook, unit_id), key=lambda each: each[0])
    left = [each for each in devices if each[0] > after]
    shown = left[:limit]
    return DetailView(
        unit_id=unit_id,
        devices=[
            DeviceImpactView(device_id=device_id, changes=[_change_view(change) for change in changes])
            for device_id, changes in shown
        ],
        more_after=shown[-1][0] if len(left) > limit else None,
    )


def _devices(outlook: Outlook, unit_id: UnitId) -> Iterator[tuple[DeviceId, Iterable[Change]]]:
    for group in outlook.impact.of_unit(unit_id):
        for device_no in group.devices:
            yield outlook.devices[device_no].device_id, group.changes


def _change_view(change: Change) -> ChangeView:
    slot: Slot = change.slot
    return ChangeView(
        kind=change.kind.value,
        broadcast_id=slot.broadcast_id,
        occurrence_at=slot.occurrence_at,
        item=slot.item,
        title=slot.title,
        starts_at=slot.starts_at,
        ends_at=slot.ends_at,
        before=_sounding_view(change.before),
        after=_sounding_view(change.after),
        by=change.by.broadcast_id if change.by is not None else None,
        decided_by=change.decided_by,
        rule=change.rule.value if change.rule is not None else None,
    )


def _sounding_view(sounding: Sounding | None) -> SoundingView | None:
    return None if sounding is None else SoundingView(fate=sounding.fate.value, parts=list(sounding.parts))
