"""Why a device sounds what it sounds, at any instant: of what is on record as it was recorded, of later days as planned.

Up to the end of the horizon the record *is* the plan, so it is asked first; what lies beyond is planned on demand for
this one device, by the same function. What the device really did is told beside it, never instead of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.identifiers import BroadcastId
from services.control import (
    airing_store,
    device_media_store,
    emission_store,
    issue_store,
    snapshot_store,
    unit_store,
)
from services.control.device_store import Device
from services.control.emission_store import EmissionRecord, HoldingAlert
from services.control.planning import explanation, targets
from services.control.planning.explanation import Explanation
from services.control.planning.model import MAX_OCCURRENCE_LENGTH, Plan, Problem, Slot, Snapshot, Window
from services.control.planning.programme import plan
from services.control.planning.recurrence import local_day, start_of
from services.shared.database.pool import Connection

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An explanation. `is_recorded`: it rests on the record and not on a plan made for the question.

    `records` are the emissions whose slots hold the instant, also those taken back, with what became of them; `alerts`
    are what stands above every plan then; `titles` are those of the broadcasts that are named.
    """

    explanation: Explanation
    is_recorded: bool
    records: tuple[EmissionRecord, ...]
    alerts: tuple[HoldingAlert, ...]
    titles: Mapping[BroadcastId, str]


async def explain(
    connection: Connection, device: Device, *, at: datetime, now: datetime, zone: ZoneInfo, horizon_days: int
) -> Told:
    """Explain what sounds on a device at an instant, or will, or was to."""
    history = await unit_store.load_units(connection)
    day = local_day(at, zone)
    tree = history.on(day)
    is_recorded = at < start_of(local_day(now, zone) + (horizon_days + 1) * _DAY, zone)
    if is_recorded:
        # A day's look-back holds everything that can have cut, or been cut by, what sounds now.
        recorded = await issue_store.load_programmes(
            connection, {device.device_no: at - 2 * MAX_OCCURRENCE_LENGTH}, starts_before=at + MAX_OCCURRENCE_LENGTH
        )
        programme = recorded[device.device_no]
        problems = await airing_store.problems_on(
            connection,
            device.device_no,
            device.kind,
            targets.naming(device.unit_id, history, tree),
            at=at,
            day=day,
        )
    else:
        planned, problems = await _foreseen(connection, device, at=at, now=now, zone=zone)
        programme = planned.programmes.get(device.device_no, ())
    named = {slot.broadcast_id for slot in programme} | {problem.broadcast_id for problem in problems}
    details = await airing_store.broadcast_details(connection, named)
    absent = await _absent(connection, device, programme) if at >= now else frozenset[bytes]()
    told = explanation.explain(
        programme,
        at,
        day=day,
        device_no=device.device_no,
        path=tree.path(device.unit_id),
        problems=problems,
        lengths={each.broadcast_id: each.length for each in details.values() if each.length is not None},
        absent=absent,
    )
    return Told(
        explanation=told,
        is_recorded=is_recorded,
        records=await emission_store.around(connection, device.device_no, at=at),
        alerts=await emission_store.alerts_holding(connection, device.device_no, at=at),
        titles={each.broadcast_id: each.title for each in details.values()},
    )


async def _absent(connection: Connection, device: Device, programme: Sequence[Slot]) -> frozenset[bytes]:
    """The media of a programme that the device does not hold, if it has ever said what it holds."""
    files = {slot.media.sha256 for slot in programme if slot.media is not None}
    held = await device_media_store.held(connection, [device.device_no], files)
    return frozenset(files - held[device.device_no]) if device.device_no in held else frozenset()


async def _foreseen(
    connection: Connection, device: Device, *, at: datetime, now: datetime, zone: ZoneInfo
) -> tuple[Plan, tuple[Problem, ...]]:
    """The programme of one device around an instant beyond the horizon, and what is wrong with what means it."""
    day = local_day(at, zone)
    window = Window(first=day - 2 * _DAY, end=day + 2 * _DAY)
    snapshot = await snapshot_store.load_snapshot(
        connection,
        window,
        zone=zone,
        there_after=at - 2 * _DAY,
        played_before=now,
        devices=[device.device_no],
        around=device.unit_id,
    )
    planned = await asyncio.to_thread(plan, snapshot, window)
    meant = _meaning(snapshot, device, window)
    return planned, tuple(
        problem
        for problem in planned.problems
        if problem.broadcast_id in meant and problem.kind not in airing_store.SAYS_NOTHING
    )


def _meaning(snapshot: Snapshot, device: Device, window: Window) -> frozenset[BroadcastId]:
    """The broadcasts whose targets mean the device on one of the days."""
    fleet = targets.Fleet(snapshot.devices)
    trees = [snapshot.units.on(first) for first, _ in snapshot.units.spans(window.first, window.end)]
    meant: set[BroadcastId] = set()
    for broadcast in snapshot.broadcasts:
        for tree in trees:
            found = targets.resolve(broadcast.targets, broadcast.unit_id, tree, fleet, snapshot.groups)
            if any(each.device_no == device.device_no for devices in found.audience.values() for each in devices):
                meant.add(broadcast.broadcast_id)
    return frozenset(meant)
