"""What-if: a change carried out to its end in a transaction that is rolled back, and what it would mean for devices.

The change is the very function that saves; what is asked for besides is read in the same transaction, before and after
it. Then the transaction ends, nothing was kept and nobody was woken, and the two plans are made and compared beside the
event loop: no lock is held while that computes. Emissions on record are looked at only where time is granted, for what
has begun; what else they say follows from the plan before.

Of what people ask for and decide only what lies below one unit is planned, with every broadcast that reaches devices
there: nothing else can change, and devices and units stay as they are. Where those change themselves, everything is
planned; and once more what can reach the devices that changed, or, where units did, everything again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from schemas.identifiers import BroadcastId, UnitId
from services.control import device_media_store, programme_store, snapshot_store
from services.control.broadcast_requests import MAX_AHEAD
from services.control.planning import impact, programme
from services.control.planning.changes import fingerprinter
from services.control.planning.impact import Ground, Impact
from services.control.planning.model import (
    BulletinItem,
    DeviceNo,
    DeviceRef,
    Media,
    Plan,
    Problem,
    Programme,
    RelayItem,
    Slot,
    Snapshot,
    Window,
)
from services.control.planning.policies import Policies, limits_time
from services.control.units import UnitTree
from services.shared.database.pool import Connection, Database

ResultT = TypeVar("ResultT")

_LOOK_BACK = timedelta(days=1)  # an occurrence lasts a day at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a change is rehearsed: below which unit, on how many days from today on, in which zone days are counted.

    None is everywhere, for a change of devices or of units.
    """

    unit_id: UnitId | None
    zone: ZoneInfo
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many emissions would be recorded or rewritten, taken back, and stopped while they sound."""

    add: int = 0
    withdraw: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a change would come to on some days: the plans, what becomes of emissions, and what people would hear."""

    window: Window
    before: Plan
    after: Plan
    tally: Tally
    impact: Impact
    devices: Mapping[DeviceNo, DeviceRef]
    tree: UnitTree  # of the units that `impact` tells of


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal(Generic[ResultT]):
    """What a change answered, and what planning would have looked at before and after it.

    `touched` are the broadcasts that are not the same in both, `issued` says when each of them that stands took its
    present form, and `stored` which of their media devices hold, of those devices that have said so.
    """

    result: ResultT
    before: Snapshot
    after: Snapshot
    touched: frozenset[BroadcastId]
    issued: Mapping[BroadcastId, datetime]
    stored: Mapping[DeviceNo, frozenset[bytes]]


async def rehearse(
    database: Database,
    change: Callable[[Connection], Awaitable[ResultT]],
    *,
    stage: Stage,
    now: datetime,
    first_day: Callable[[ResultT], date | None] = lambda _: None,
) -> tuple[ResultT, Outlook]:
    """Carry out `change`, undo it, and tell what it would have done. Whatever it raises, it raises.

    `first_day` tells from its result on which day what was changed begins: if nothing changes on the days of the stage
    and that day lies beyond them, as many are looked at from there.
    """
    rehearsed = await _carried_out(database, change, stage, now=now)
    today = now.astimezone(stage.zone).date()
    near = Window(first=today - _LOOK_BACK, end=today + timedelta(days=stage.days))
    outlook = await asyncio.to_thread(look_ahead, rehearsed, near, stage, now)
    begins = first_day(rehearsed.result)
    if outlook.tally == Tally() and begins is not None and begins >= near.end:
        far = Window(first=begins, end=begins + timedelta(days=stage.days))
        outlook = await asyncio.to_thread(look_ahead, rehearsed, far, stage, now)
    return rehearsed.result, outlook


async def _carried_out(
    database: Database, change: Callable[[Connection], Awaitable[ResultT]], stage: Stage, *, now: datetime
) -> Rehearsal[ResultT]:
    today = now.astimezone(stage.zone).date()
    everything = Window(first=today - _LOOK_BACK, end=today + MAX_AHEAD)

    async def look(connection: Connection, ground: Snapshot | None = None) -> Snapshot:
        return await snapshot_store.load_snapshot(
            connection,
            everything,
            zone=stage.zone,
            there_after=now,
            played_before=now,
            around=stage.unit_id,
            ground=ground,
            begun_by=now,
        )

    async with database.connection() as connection:
        # What stood before and what will be are read as of one instant: nobody else's change is told as this one's.
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            before = await look(connection)
            result = await change(connection)
            after = await look(connection, None if stage.unit_id is None else before)
            touched = touched_broadcasts(before, after)
            stored = await device_media_store.held(
                connection, [device.device_no for device in after.devices], _files(after, touched, stage)
            )
            issued = await programme_store.issued_at(connection, touched)
            return Rehearsal(result=result, before=before, after=after, touched=touched, issued=issued, stored=stored)
        finally:
            await transaction.rollback()


# --- pure ------------------------------------------------------------------------------------------------------------


def look_ahead(rehearsed: Rehearsal[ResultT], window: Window, stage: Stage, now: datetime) -> Outlook:
    """Plan both and compare them, as far as what has not ended goes."""
    before, after = rehearsed.before, rehearsed.after
    standing = programme.begin(before, window)
    coming = programme.replan(standing, after, rehearsed.touched)
    trimmed = _Trimmer(now, rehearsed.issued)
    old = trimmed.plan(standing.plan)
    new = _as_recorded(trimmed.plan(coming.plan), old, now=now)
    # The window looks back a day; what is told, is told of the units there are.
    day = max(window.first, now.astimezone(stage.zone).date())
    devices = {device.device_no: device for device in (*before.devices, *after.devices)}
    tree = after.units.on(day)
    return Outlook(
        window=window,
        before=old,
        after=new,
        tally=tally(old, new, now=now),
        impact=impact.compare(
            old, new, grounds=_grounds(devices, after, tree), zone=stage.zone, stored=rehearsed.stored
        ),
        devices=devices,
        tree=tree,
    )


def touched_broadcasts(before: Snapshot, after: Snapshot) -> frozenset[BroadcastId]:
    """The broadcasts that are not the same in both, or that name something, or are named by something, that is not."""
    bulletins = _differing(
        {each.bulletin_id: each for each in before.bulletins}, {each.bulletin_id: each for each in after.bulletins}
    )
    sources = _differing(
        {each.source_id: each for each in before.relays}, {each.source_id: each for each in after.relays}
    )
    changed = _differing(
        {each.broadcast_id: each for each in before.broadcasts}, {each.broadcast_id: each for each in after.broadcasts}
    )
    named = changed | bulletins | sources
    return frozenset(
        each.broadcast_id
        for snapshot in (before, after)
        for each in snapshot.broadcasts
        if each.broadcast_id in changed
        or any(
            getattr(item, "bulletin_id", None) in named or getattr(item, "source_id", None) in named
            for item in each.items
        )
    ).union(
        (broadcast_id for broadcast_id, _ in _differing(before.offers, after.offers)),
        (broadcast_id for _, broadcast_id in _differing(before.places, after.places)),
    )


def _files(snapshot: Snapshot, touched: AbstractSet[BroadcastId], stage: Stage) -> frozenset[bytes]:
    """The files that the change may bring to a device: those of its broadcasts.

    Where time is granted, what it gives back may bring others into the programme, so those count too, and so does
    everything where devices or units change.
    """
    may_bring_others = (
        stage.unit_id is None
        or limits_time(snapshot.policies.values())
        or any(device.public_share is not None for device in snapshot.devices)
    )
    bulletins = {bulletin.bulletin_id: bulletin for bulletin in snapshot.bulletins}
    sources = {source.source_id: source for source in snapshot.relays}
    found: set[Media | None] = set()
    for broadcast in snapshot.broadcasts:
        for item in broadcast.items if may_bring_others or broadcast.broadcast_id in touched else ():
            if isinstance(item, BulletinItem) and item.bulletin_id in bulletins:
                found |= {bulletins[item.bulletin_id].media, bulletins[item.bulletin_id].board_media}
            elif isinstance(item, RelayItem) and item.source_id in sources:
                found.add(sources[item.source_id].fallback)
    return frozenset(media.sha256 for media in found if media is not None)


KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def _differing(before: Mapping[KeyT, ValueT], after: Mapping[KeyT, ValueT]) -> set[KeyT]:
    return {key for key in {**before, **after} if before.get(key) != after.get(key)}


def _grounds(devices: Mapping[DeviceNo, DeviceRef], after: Snapshot, tree: UnitTree) -> dict[DeviceNo, Ground]:
    """Where each device stands in the tree of a day; devices of one unit share one object."""
    policies = Policies(after.policies)
    known: dict[UnitId, Ground] = {}
    for device in devices.values():
        if device.unit_id not in known:
            known[device.unit_id] = Ground(
                unit_id=tree.deciding(device.unit_id), policy=policies.at(device.unit_id, tree)
            )
    return {device_no: known[device.unit_id] for device_no, device in devices.items()}


class _Trimmer:
    """Takes out of plans what is over, and what goes on as it was although its broadcast was changed.

    `issued` are the changed broadcasts that stand after the change: an occurrence of one of them that began before it
    was issued is history, whatever is asked for now.
    """

    def __init__(self, now: datetime, issued: Mapping[BroadcastId, datetime]) -> None:
        self._now = now
        self._issued = issued
        self._known: dict[int, tuple[Programme, Programme]] = {}

    def plan(self, plan: Plan) -> Plan:
        return replace(
            plan,
            programmes={device_no: self._programme(each) for device_no, each in plan.programmes.items()},
            problems=tuple(each for each in plan.problems if not self._is_past(each)),
        )

    def _programme(self, whole: Programme) -> Programme:
        found = self._known.get(id(whole))
        if found is None:
            left = tuple(slot for slot in whole if not self._is_history(slot))
            # Kept beside the whole, so that its id is not given to another one meanwhile; equal ones stay one object.
            found = self._known[id(whole)] = (whole, whole if len(left) == len(whole) else left)
        return found[1]

    def _is_history(self, slot: Slot) -> bool:
        if slot.ends_at <= self._now:
            return True
        issued_at = self._issued.get(slot.broadcast_id)
        return issued_at is not None and slot.occurrence_at < issued_at

    def _is_past(self, problem: Problem) -> bool:
        return problem.occurrence_at is not None and problem.occurrence_at <= self._now


def _as_recorded(after: Plan, before: Plan, *, now: datetime) -> Plan:
    """The plan after a change, as far as it gets on record (`changes`): what has begun goes on as it is.

    What should have begun already when it was asked for is no part of the programme.
    """
    known: dict[tuple[int, int], Programme] = {}
    nobody: Programme = ()

    def recorded(device_no: DeviceNo, programme: Programme) -> Programme:
        old = before.programmes.get(device_no, nobody)
        if old is programme or not any(each and each[0].starts_at <= now for each in (old, programme)):
            return programme
        found = known.get((id(old), id(programme)))
        if found is None:
            was = {slot.key: slot for slot in old}
            found = known[id(old), id(programme)] = tuple(
                sorted(
                    (
                        existing if existing is not None and existing.starts_at <= now else slot
                        for slot in programme
                        if (existing := was.get(slot.key)) is not None or slot.starts_at >= now
                    ),
                    key=lambda slot: slot.order,
                )
            )
        return found

    return replace(after, programmes={no: recorded(no, each) for no, each in after.programmes.items()})


def tally(before: Plan, after: Plan, *, now: datetime) -> Tally:
    """What the record would lose and gain, if it says now what `before` says, and would say what `after` does."""
    prints = fingerprinter()
    known: dict[tuple[int, int], Counter[str]] = {}
    total: Counter[str] = Counter()
    nobody: Programme = ()
    for device_no in {**before.programmes, **after.programmes}:
        old, new = before.programmes.get(device_no, nobody), after.programmes.get(device_no, nobody)
        if old is new:
            continue
        counts = known.get((id(old), id(new)))
        if counts is None:
            counts = known[id(old), id(new)] = Counter(_differences(old, new, prints, now))
        total += counts
    return Tally(**total)


def _differences(old: Programme, new: Programme, prints: Callable[[Slot], bytes], now: datetime) -> Iterator[str]:
    standing = {slot.key: slot for slot in old}
    for slot in new:
        existing = standing.pop(slot.key, None)
        if existing is slot:
            continue
        if existing is None or prints(existing) != prints(slot):
            yield "add"
    for slot in standing.values():
        yield "withdraw" if slot.starts_at > now else "stop"
