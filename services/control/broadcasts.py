"""What people do with broadcasts: ask for one, change it, withdraw it. Works in the caller's transaction.

Whatever changes what should sound asks for planning in the same transaction. What has started is history: planning
keeps it whatever is asked for afterwards.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from schemas.identifiers import BroadcastId, DeviceId, UnitId
from services.control import (
    audit,
    broadcast_requests,
    broadcast_store,
    bulletin_store,
    device_store,
    planning_queue,
    versions,
)
from services.control.audit import Entry
from services.control.broadcast_requests import BulletinWish, DeviceWish, Facts, PauseWish, UnitWish, Verdict, Wish
from services.control.broadcast_store import StoredBroadcast
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.permissions import Actor, Permission, Rights
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

SCHEDULED, WITHDRAWN = "scheduled", "withdrawn"
_MAX_FAULTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A broadcast that was stored, and what it comes to today."""

    broadcast: StoredBroadcast
    devices: int
    length: timedelta


async def create(
    connection: Connection, wish: Wish, *, rights: Rights, actor: Actor, origin: str | None, now: datetime
) -> Accepted:
    """Store what is asked for. Raises `Forbidden` for targets beyond own rights, else `Invalid` with every fault."""
    verdict, device_nos = await _judged(connection, wish, rights=rights, now=now)
    broadcast = StoredBroadcast(
        broadcast_id=BroadcastId(uuid.uuid4()),
        wish=wish,
        state=SCHEDULED,
        version=1,
        issued_at=now,
        created_by=actor.account_id,
        withdrawn_at=None,
        withdrawn_by=None,
    )
    await broadcast_store.add_broadcast(connection, broadcast, device_nos)
    await planning_queue.request_broadcast(connection, broadcast.broadcast_id, at=now)
    await _record(connection, "broadcast_created", None, broadcast, actor=actor, origin=origin, now=now)
    return Accepted(broadcast=broadcast, devices=len(verdict.device_nos), length=verdict.length)


async def replace(
    connection: Connection,
    stored: StoredBroadcast,
    wish: Wish,
    *,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Accepted:
    """Put another wish in its place. Raises as `create` does, and `Conflict` when it was withdrawn or is on the air.

    The issuing unit stays: its rights are what the broadcast rests on. A change is issued now, so what began before it
    would be no part of it any more and would be cut in the middle of a sentence; it has to wait until that is over.
    """
    _check_scheduled(stored)
    if await broadcast_store.is_on_air(connection, stored.broadcast_id, now=now):
        raise Conflict("broadcast_on_air")
    if wish.unit_id != stored.wish.unit_id:
        raise Invalid(Fault("unit_id", "issuing_unit_is_fixed"))
    verdict, device_nos = await _judged(connection, wish, rights=rights, now=now)
    await broadcast_store.replace_broadcast(connection, stored.broadcast_id, wish, device_nos, issued_at=now)
    changed = await broadcast_store.broadcast(connection, stored.broadcast_id)
    await planning_queue.request_broadcast(connection, stored.broadcast_id, at=now)
    await _record(connection, "broadcast_changed", stored, changed, actor=actor, origin=origin, now=now)
    return Accepted(broadcast=changed, devices=len(verdict.device_nos), length=verdict.length)


async def withdraw(
    connection: Connection, stored: StoredBroadcast, *, actor: Actor, origin: str | None, now: datetime
) -> StoredBroadcast:
    """Nothing more of it is to sound. Raises `Conflict` when it was withdrawn already."""
    _check_scheduled(stored)
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


def _check_scheduled(stored: StoredBroadcast) -> None:
    if stored.state == WITHDRAWN:
        raise Conflict("broadcast_withdrawn")


async def _judged(
    connection: Connection, wish: Wish, *, rights: Rights, now: datetime
) -> tuple[Verdict, dict[DeviceId, DeviceNo]]:
    facts = await _facts(connection, wish, rights=rights, now=now)
    verdict = broadcast_requests.judge(wish, facts, now=now)
    if verdict.outside:
        raise Forbidden("target_outside_own_subtree", faults=verdict.outside[:_MAX_FAULTS])
    if verdict.faults:
        raise Invalid(*verdict.faults[:_MAX_FAULTS], code="broadcast_invalid")
    named = {target.device_id for target in wish.targets if isinstance(target, DeviceWish)}
    return verdict, {
        device.device_id: device.device_no for device in facts.devices.values() if device.device_id in named
    }


async def _facts(connection: Connection, wish: Wish, *, rights: Rights, now: datetime) -> Facts:
    units: set[UnitId] = set()
    for target in wish.targets:
        if isinstance(target, UnitWish):
            units.update(rights.tree.subtree(target.unit_id))
    named = [target.device_id for target in wish.targets if isinstance(target, DeviceWish)]
    devices = dict(await device_store.devices_by_id(connection, named, now=now))
    devices |= await device_store.devices_in(connection, units, now=now)
    bulletin_ids = [item.bulletin_id for item in wish.items if isinstance(item, BulletinWish)]
    return Facts(
        tree=rights.tree,
        reach=rights.reach(Permission.MAKE_BROADCASTS),
        readable=rights.reach(Permission.SEE_BULLETINS),
        devices={str(device_id): device for device_id, device in devices.items()},
        bulletins=await bulletin_store.bulletins_by_id(connection, bulletin_ids),
    )


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
        "time_zone": wish.time_zone,
        "starts_on": wish.starts_on.isoformat(),
        "ends_on": wish.ends_on.isoformat() if wish.ends_on else None,
        "local_times": [each.isoformat() for each in wish.local_times],
        "items": [
            {"pause_ms": item.length // timedelta(milliseconds=1)}
            if isinstance(item, PauseWish)
            else {"bulletin_id": str(item.bulletin_id)}
            for item in wish.items
        ],
        "targets": [
            {"unit_id": str(target.unit_id), "exclude": target.is_excluded}
            if isinstance(target, UnitWish)
            else {"device_id": target.device_id, "exclude": target.is_excluded}
            for target in wish.targets
        ],
        "volume_percent": wish.volume_percent,
        "resume": wish.resume,
    }
