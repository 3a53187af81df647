"""What goes on in a unit and on a device: states, what is on, what is next, what was played, and the day's proof."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from services.control import airing_store, emission_store, fleet_store, issue_store
from services.control.airing_store import Airing, ProofCounts, Proven
from services.control.emission_store import EmissionRecord
from services.control.errors import NotFound
from services.control.fleet_store import Count, DeviceState, Reading
from services.control.planning import recurrence, timeline
from services.control.planning.model import MAX_OCCURRENCE_LENGTH, DeviceNo, Slot
from services.control.units import UnitTree
from services.shared.database.pool import Connection

KINDS = ("cluster", "board", "sensor", "gateway")
LIVENESS = ("online", "offline", "never")

_HISTORY = timedelta(days=7)
_HISTORY_LENGTH = 100
_COMING_LENGTH = 50
_READINGS_SINCE = timedelta(days=1)
# Both were online then; one of them may be looked for, or switched off for the night.
_SHARED_SINCE = timedelta(days=1)


@dataclass(slots=True)
class Tally:
    """Devices by kind and liveness, and how many are on the air."""

    by_kind: dict[str, dict[str, int]] = field(default_factory=dict)
    playing: int = 0

    def add(self, count: Count) -> None:
        """Count devices in."""
        kind = self.by_kind.setdefault(count.kind, dict.fromkeys(LIVENESS, 0))
        kind[count.liveness] += count.devices
        # What a device said before it fell silent is believed no longer.
        self.playing += count.playing if count.liveness == "online" else 0

    def total(self, kind: str | None = None, liveness: str | None = None) -> int:
        """How many devices of a kind (default: any) are in a state (default: any)."""
        return sum(
            number
            for each_kind, states in self.by_kind.items()
            for each_state, number in states.items()
            if kind in (None, each_kind) and liveness in (None, each_state)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """A device: what it said last, what should be on now, what comes next, and the last verdict."""

    state: DeviceState
    due: Airing | None
    next: Airing | None
    last: Proven | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStatus:
    """A unit with everything below it; `more_after` is the device id to go on after, if there is more."""

    unit_id: UnitId
    tally: Tally
    children: Mapping[UnitId, Tally]
    devices: tuple[DeviceStatus, ...]
    more_after: str | None
    proof_today: ProofCounts
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHistory:
    """A device with what comes and what was. `certificate_shared_at` is when two were last seen to use its certificate."""

    status: DeviceStatus
    certificate_shared_at: datetime | None
    coming: tuple[EmissionRecord, ...]
    past: tuple[EmissionRecord, ...]
    readings: tuple[Reading, ...]
    at: datetime


async def unit_status(
    connection: Connection,
    unit_id: UnitId,
    *,
    tree: UnitTree,
    zone: ZoneInfo,
    kind: str | None,
    liveness: str | None,
    after: str | None,
    limit: int,
    now: datetime,
) -> UnitStatus:
    """What goes on in the unit and below."""
    # A unit that is in no tree today still has its devices.
    units = tree.subtree(unit_id) or (unit_id,)
    counts = await fleet_store.counts(connection, units, now=now)
    devices, more_after = await device_statuses(
        connection, units, kind=kind, liveness=liveness, after=after, limit=limit, now=now
    )
    today = recurrence.local_day(now, zone)
    proof = await airing_store.proof_totals(
        connection,
        now=now,
        unit_ids=units,
        since=recurrence.start_of(today, zone),
        until=recurrence.start_of(today + timedelta(days=1), zone),
    )
    return UnitStatus(
        unit_id=unit_id,
        tally=tally_of(counts),
        children=_by_child(tree, unit_id, counts),
        devices=devices,
        more_after=more_after,
        proof_today=proof,
        at=now,
    )


async def device_statuses(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    kind: str | None,
    liveness: str | None,
    after: str | None,
    limit: int,
    now: datetime,
) -> tuple[tuple[DeviceStatus, ...], str | None]:
    """Devices of the units in order of their ids after id `after`, and the id to go on after if there is more."""
    states = await fleet_store.states(
        connection, unit_ids, kind=kind, liveness=liveness, after=after, limit=limit + 1, now=now
    )
    shown = states[:limit]
    more_after = shown[-1].device_id if len(states) > limit else None
    return await _statuses(connection, shown, now=now), more_after


async def device_history(connection: Connection, device_id: str, *, now: datetime) -> DeviceHistory:
    """What comes on a device and what was. Raises `NotFound`."""
    state = await fleet_store.state(connection, device_id, now=now)
    if state is None:
        raise NotFound("device_not_found", facts={"id": device_id[:64]})
    status = (await _statuses(connection, (state,), now=now))[0]
    return DeviceHistory(
        status=status,
        certificate_shared_at=await fleet_store.certificate_shared_at(
            connection, state.device_no, since=now - _SHARED_SINCE
        ),
        coming=await emission_store.coming_to_device(connection, state.device_no, since=now, limit=_COMING_LENGTH),
        past=await emission_store.past_of_device(
            connection, state.device_no, since=now - _HISTORY, until=now, limit=_HISTORY_LENGTH
        ),
        readings=await fleet_store.newest_readings(connection, state.device_no, since=now - _READINGS_SINCE)
        if state.kind == "sensor"
        else (),
        at=now,
    )


async def _statuses(
    connection: Connection, states: Iterable[DeviceState], *, now: datetime
) -> tuple[DeviceStatus, ...]:
    shown = tuple(states)
    numbers: list[DeviceNo] = [state.device_no for state in shown]
    due = await due_now(connection, numbers, now=now)
    coming = await airing_store.next_emissions(connection, numbers, now=now)
    last = await airing_store.last_proven(connection, numbers)
    return tuple(
        DeviceStatus(
            state=state,
            due=due.get(state.device_no),
            next=coming.get(state.device_no),
            last=last.get(state.device_no),
        )
        for state in shown
    )


async def due_now(connection: Connection, device_nos: Sequence[DeviceNo], *, now: datetime) -> dict[DeviceNo, Airing]:
    """What should sound on each device now, by plan and arbitration; devices that should be silent are left out.

    Who is cut for good or came too late does not sound although its slot is not over, so what was before is asked too.
    """
    claims = await airing_store.claims(connection, device_nos, at=now)
    programmes = await issue_store.load_programmes(
        connection, dict.fromkeys(claims, now - 2 * MAX_OCCURRENCE_LENGTH), starts_before=now + timedelta.resolution
    )
    ranks = timeline.Ranks()
    # Thousands of devices share slots, and most of a page the whole programme.
    known: dict[tuple[int, ...], Slot | None] = {}
    due: dict[DeviceNo, Airing] = {}
    for device_no, programme in programmes.items():
        key = tuple(map(id, programme))
        if key not in known:
            known[key] = timeline.on_air(programme, now, ranks=ranks)
        slot = known[key]
        airing = claims[device_no].get(slot.key) if slot is not None else None
        if airing is not None:
            due[device_no] = airing
    return due


def tally_of(counts: Iterable[Count]) -> Tally:
    """Everything counted together."""
    tally = Tally()
    for count in counts:
        tally.add(count)
    return tally


def _by_child(tree: UnitTree, unit_id: UnitId, counts: Iterable[Count]) -> Mapping[UnitId, Tally]:
    """The tallies of the children's subtrees; children without devices have an empty one."""
    child_of = {below: child.unit_id for child in tree.children(unit_id) for below in tree.subtree(child.unit_id)}
    tallies: dict[UnitId, Tally] = defaultdict(Tally)
    for count in counts:
        child = child_of.get(count.unit_id)
        if child is not None:
            tallies[child].add(count)
    return {child.unit_id: tallies[child.unit_id] for child in tree.children(unit_id)}
