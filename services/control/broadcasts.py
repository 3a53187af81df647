"""What people do with broadcasts: ask for one, change it, withdraw it. Works in the caller's transaction.

Whatever changes what should sound asks for planning in the same transaction. What has started is history: planning
keeps it whatever is asked for afterwards.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, assert_never
from zoneinfo import ZoneInfo

from schemas.identifiers import BroadcastId, UnitId
from services.control import (
    audit,
    broadcast_requests,
    broadcast_store,
    bulletin_store,
    device_store,
    group_store,
    planning_queue,
    policy_store,
    policy_trial,
    relay_store,
    snapshot_store,
    unit_store,
    versions,
)
from services.control.audit import Entry
from services.control.broadcast_requests import (
    BulletinWish,
    DeviceWish,
    Facts,
    GroupWish,
    ItemWish,
    KindWish,
    PauseWish,
    RelayWish,
    TargetWish,
    UnitWish,
    Verdict,
    Wish,
)
from services.control.broadcast_store import PolicyException, StoredBroadcast
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.permissions import Actor, Permission, Rights
from services.control.planning.impact import Finding
from services.control.planning.model import DeviceNo, Snapshot
from services.control.planning.policies import Policies
from services.control.units import UnitTree
from services.shared.database.pool import Connection

SCHEDULED, AWAITING_APPROVAL, REJECTED, WITHDRAWN = "scheduled", "awaiting_approval", "rejected", "withdrawn"
_MAX_FAULTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A broadcast that was stored, and what it comes to today.

    `first` is its first occurrence that is still to come. `exception` is what an approver has to let pass before
    anything of it sounds; None when nothing stands against it. `findings` is what planning says about its first days.
    """

    broadcast: StoredBroadcast
    device_nos: frozenset[DeviceNo]
    length: timedelta
    first: datetime
    first_day: date
    exception: PolicyException | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def devices(self) -> int:
        """How many devices are meant."""
        return len(self.device_nos)


async def create(
    connection: Connection,
    wish: Wish,
    *,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
    offer_of: BroadcastId | None = None,
) -> Accepted:
    """Store what is asked for.

    Raises `Forbidden` for targets beyond own rights, else `Invalid` with every fault, or with every rule of a policy
    that it breaks and nobody may let pass. `offer_of` is the broadcast from above that a unit schedules itself.
    """
    verdict, facts = await _judged(connection, wish, offer_of=offer_of, zone=zone, rights=rights, now=now)
    broadcast = StoredBroadcast(
        broadcast_id=BroadcastId(uuid.uuid4()),
        wish=wish,
        state=SCHEDULED,
        version=1,
        issued_at=now,
        created_by=actor.account_id,
        offer_of=offer_of,
    )
    await broadcast_store.add_broadcast(connection, broadcast, _numbers(facts), active_until=verdict.active_until)
    return await _settled(
        connection,
        broadcast.broadcast_id,
        verdict,
        facts,
        None,
        action="broadcast_created",
        actor=actor,
        origin=origin,
        now=now,
    )


async def replace(
    connection: Connection,
    stored: StoredBroadcast,
    wish: Wish,
    *,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Accepted:
    """Put another wish in its place. Raises as `create` does, and `Conflict` when it was withdrawn.

    The issuing unit stays: its rights are what the broadcast rests on. An occurrence that has begun goes on as it was
    planned; the change holds from the next one on. What units decided about it as an offer was about something else.
    """
    _check_stands(stored)
    if wish.unit_id != stored.wish.unit_id:
        raise Invalid(Fault("unit_id", "issuing_unit_is_fixed"))
    verdict, facts = await _judged(connection, wish, offer_of=stored.offer_of, zone=zone, rights=rights, now=now)
    await broadcast_store.replace_broadcast(
        connection, stored.broadcast_id, wish, _numbers(facts), active_until=verdict.active_until, issued_at=now
    )
    await broadcast_store.take_back_offers(connection, stored.broadcast_id)
    return await _settled(
        connection,
        stored.broadcast_id,
        verdict,
        facts,
        stored,
        action="broadcast_changed",
        actor=actor,
        origin=origin,
        now=now,
    )


async def _settled(
    connection: Connection,
    broadcast_id: BroadcastId,
    verdict: Verdict,
    facts: Facts,
    before: StoredBroadcast | None,
    *,
    action: str,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Accepted:
    """Hold what was just stored against the policies, and have it planned or decided on."""
    assert verdict.first is not None
    stored = await broadcast_store.broadcast(connection, broadcast_id)
    ground = Snapshot(broadcasts=(), bulletins=(), devices=facts.fleet, units=facts.history, zone=facts.zone)
    trial = await policy_trial.hold(connection, stored, verdict.first.day, ground, verdict.device_nos, now=now)
    exception = trial.exception
    if exception is not None:
        await broadcast_store.set_state(connection, broadcast_id, AWAITING_APPROVAL)
        await broadcast_store.ask_for_exception(connection, stored, exception, by=actor.account_id, at=now)
        stored = dataclasses.replace(stored, state=AWAITING_APPROVAL)
    await planning_queue.request_broadcast(connection, broadcast_id, at=now)
    await _record(connection, action, before, stored, actor=actor, origin=origin, now=now)
    return Accepted(
        broadcast=stored,
        device_nos=frozenset(verdict.device_nos),
        length=verdict.length,
        first=verdict.first.at,
        first_day=verdict.first.day,
        exception=exception,
        findings=trial.findings,
    )


async def withdraw(
    connection: Connection, stored: StoredBroadcast, *, actor: Actor, origin: str | None, now: datetime
) -> StoredBroadcast:
    """Nothing more of it is to sound. Raises `Conflict` when it was withdrawn already."""
    _check_stands(stored)
    await broadcast_store.withdraw_broadcast(connection, stored.broadcast_id, by=actor.account_id, at=now)
    changed = await broadcast_store.broadcast(connection, stored.broadcast_id)
    await planning_queue.request_broadcast(connection, stored.broadcast_id, at=now)
    await _record(connection, "broadcast_withdrawn", stored, changed, actor=actor, origin=origin, now=now)
    return changed


def etag(stored: StoredBroadcast) -> str:
    """The version as an entity tag."""
    return versions.etag(stored.version)


def check_version(stored: StoredBroadcast, if_match: str | None, present: dict[str, Any], *, given: Any) -> None:
    """Raise unless `if_match` names the stored version: see `versions.check`."""
    versions.check(stored.version, if_match, present, given=given)


def _check_stands(stored: StoredBroadcast) -> None:
    if stored.state == WITHDRAWN:
        raise Conflict("broadcast_withdrawn")


async def _judged(
    connection: Connection, wish: Wish, *, offer_of: BroadcastId | None, zone: ZoneInfo, rights: Rights, now: datetime
) -> tuple[Verdict, Facts]:
    facts = await _facts(connection, wish, offer_of=offer_of, zone=zone, rights=rights, now=now)
    verdict = broadcast_requests.judge(wish, facts, now=now)
    if verdict.outside:
        raise Forbidden("target_outside_own_subtree", faults=verdict.outside[:_MAX_FAULTS])
    if verdict.faults:
        raise Invalid(*verdict.faults[:_MAX_FAULTS], code="broadcast_invalid")
    return verdict, facts


async def sounding_source(
    connection: Connection, source_id: uuid.UUID, *, zone: ZoneInfo, rights: Rights, now: datetime
) -> frozenset[DeviceNo]:
    """The devices that are to sound a live source on any day to come, also on those that nobody has planned yet."""
    ids = await relay_store.standing_broadcasts(connection, source_id, now=now)
    found: set[DeviceNo] = set()
    for stored in (await broadcast_store.broadcasts_by_id(connection, ids)).values():
        items = tuple(each for each in stored.wish.items if isinstance(each, RelayWish) and each.source_id == source_id)
        wish = dataclasses.replace(stored.wish, items=items)
        facts = await _facts(connection, wish, offer_of=None, zone=zone, rights=rights, now=now)
        found.update(broadcast_requests.audience(wish, facts))
    return frozenset(found)


def _numbers(facts: Facts) -> dict[str, DeviceNo]:
    return {device_id: device.device_no for device_id, device in facts.devices.items()}


async def _facts(
    connection: Connection, wish: Wish, *, offer_of: BroadcastId | None, zone: ZoneInfo, rights: Rights, now: datetime
) -> Facts:
    groups = await group_store.groups_by_id(
        connection, [target.group_id for target in wish.targets if isinstance(target, GroupWish)]
    )
    named = [target.device_id for target in wish.targets if isinstance(target, DeviceWish)]
    members = [member for group in groups.values() for member in group.members]
    devices = await device_store.devices_by_id(connection, named, now=now)
    return Facts(
        history=await unit_store.load_units(connection),
        zone=zone,
        tree=rights.tree,
        reach=rights.reach(Permission.MAKE_BROADCASTS),
        readable=rights.reach(Permission.SEE_BULLETINS),
        devices={str(device_id): device for device_id, device in devices.items()},
        fleet=await snapshot_store.load_fleet(
            connection, _units_of(wish, rights.tree), [*named, *members], there_after=now
        ),
        bulletins=await bulletin_store.bulletins_by_id(
            connection, [item.bulletin_id for item in wish.items if isinstance(item, BulletinWish)]
        ),
        groups=groups,
        sources=await broadcast_store.sources_by_id(
            connection, [item.source_id for item in wish.items if isinstance(item, RelayWish)]
        ),
        policies=Policies(await policy_store.load_policies(connection)),
        lent=frozenset() if offer_of is None else await broadcast_store.content_of(connection, offer_of),
    )


def _units_of(wish: Wish, tree: UnitTree) -> set[UnitId]:
    """The units whose devices the targets can mean."""
    units: set[UnitId] = set()
    for target in wish.targets:
        match target:
            case UnitWish(unit_id=unit_id):
                units.update(tree.ground(unit_id))
            case KindWish():
                units.update(tree.ground(wish.unit_id))
            case DeviceWish() | GroupWish():
                pass
            case _:
                assert_never(target)
    return units


async def _record(
    connection: Connection,
    action: str,
    before: StoredBroadcast | None,
    after: StoredBroadcast,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"broadcast:{after.broadcast_id}",
            unit_id=after.wish.unit_id,
            before=described(before) if before else None,
            after=described(after),
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


def described(stored: StoredBroadcast) -> dict[str, Any]:
    """The broadcast as facts of the audit."""
    wish = stored.wish
    return {
        "version": stored.version,
        "state": stored.state,
        "title": wish.title,
        "level": wish.level,
        "recurrence": wish.recurrence,
        "rrule": wish.rrule,
        "rdates": [each.isoformat() for each in wish.rdates],
        "exdates": [each.isoformat() for each in wish.exdates],
        "time_zone": wish.time_zone,
        "starts_on": wish.starts_on.isoformat(),
        "ends_on": wish.ends_on.isoformat() if wish.ends_on else None,
        "local_times": [each.isoformat() for each in wish.local_times],
        "sessions": list(wish.sessions),
        "items": [_described_item(item) for item in wish.items],
        "targets": [{**_described_target(target), "exclude": target.is_excluded} for target in wish.targets],
        "volume_percent": wish.volume_percent,
        "resume": wish.resume,
        "length_ms": _ms(wish.length),
        "fit": wish.fit,
        "fill": wish.fill,
        "patience_ms": _ms(wish.patience),
    }


def _described_item(item: ItemWish) -> dict[str, Any]:
    match item:
        case PauseWish(length=length):
            return {"pause_ms": _ms(length)}
        case BulletinWish(bulletin_id=bulletin_id):
            return {"bulletin_id": str(bulletin_id)}
        case RelayWish(source_id=source_id, length=length, starts_after=starts_after, is_live=is_live):
            return {
                "relay_source_id": str(source_id),
                "length_ms": _ms(length),
                "starts_after_ms": _ms(starts_after),
                "is_live": is_live,
            }
        case _:
            assert_never(item)


def _described_target(target: TargetWish) -> dict[str, Any]:
    match target:
        case UnitWish(unit_id=unit_id):
            return {"unit_id": str(unit_id)}
        case DeviceWish(device_id=device_id):
            return {"device_id": device_id}
        case GroupWish(group_id=group_id):
            return {"group_id": str(group_id)}
        case KindWish(kind=kind):
            return {"kind": kind}
        case _:
            assert_never(target)


def _ms(length: timedelta | None) -> int | None:
    return None if length is None else length // timedelta(milliseconds=1)
