"""What people do with groups: make one, change it, close it. Works in the caller's transaction.

Whoever may make broadcasts in a unit may make groups there: a group is a way of naming targets, no more. Its members
lie below its unit when they are put in; where one is moved elsewhere, planning says so and nothing is emitted there.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from schemas.identifiers import UnitId
from services.control import audit, device_store, group_store, planning_queue
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.group_store import Group
from services.control.permissions import Actor, Permission, Rights
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

MAX_MEMBERS = 5_000
_MAX_FAULTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupWish:
    """What a group is to be."""

    unit_id: UnitId
    name: str
    members: tuple[str, ...]


async def create(
    connection: Connection, wish: GroupWish, *, rights: Rights, actor: Actor, origin: str | None, now: datetime
) -> Group:
    """Store a group. Raises `Forbidden` for members beyond own rights, else `Invalid` with every fault."""
    device_nos = await _members(connection, wish, rights=rights, now=now)
    made = Group(
        group_id=uuid.uuid4(),
        unit_id=wish.unit_id,
        name=wish.name,
        members=(),
        version=1,
        created_at=now,
        created_by=actor.account_id,
    )
    await group_store.add_group(connection, made, device_nos)
    stored = await group_store.group(connection, made.group_id)
    await _record(connection, "group_created", None, stored, actor=actor, origin=origin, now=now)
    return stored


async def change(
    connection: Connection,
    stored: Group,
    wish: GroupWish,
    *,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Group:
    """Give it another name and other members; broadcasts that address it are planned anew. Raises as `create` does."""
    _check_open(stored)
    if wish.unit_id != stored.unit_id:
        raise Invalid(Fault("unit_id", "issuing_unit_is_fixed"))
    device_nos = await _members(connection, wish, rights=rights, now=now)
    await group_store.replace_group(connection, stored.group_id, wish.name, device_nos)
    changed = await group_store.group(connection, stored.group_id)
    await _plan_anew(connection, stored, now=now)
    await _record(connection, "group_changed", stored, changed, actor=actor, origin=origin, now=now)
    return changed


async def close(connection: Connection, stored: Group, *, actor: Actor, origin: str | None, now: datetime) -> Group:
    """Nobody can address it any more. Raises `Conflict` while a broadcast does that stands, or waits to."""
    _check_open(stored)
    used_by = await group_store.broadcasts_to(connection, stored.group_id)
    if used_by:
        raise Conflict(
            "group_in_use",
            facts={"count": len(used_by)},
            members={"broadcasts": [str(each) for each in used_by[:_MAX_FAULTS]]},
        )
    await group_store.close_group(connection, stored.group_id, at=now)
    closed = replace(stored, closed_at=now, version=stored.version + 1)
    await _record(connection, "group_closed", stored, closed, actor=actor, origin=origin, now=now)
    return closed


async def _plan_anew(connection: Connection, stored: Group, *, now: datetime) -> None:
    for broadcast_id in await group_store.broadcasts_to(connection, stored.group_id):
        await planning_queue.request_broadcast(connection, broadcast_id, at=now)


def _check_open(stored: Group) -> None:
    if stored.closed_at is not None:
        raise Conflict("group_closed")


async def _members(connection: Connection, wish: GroupWish, *, rights: Rights, now: datetime) -> Sequence[DeviceNo]:
    known = await device_store.devices_by_id(connection, wish.members, now=now)
    devices = {str(device_id): device for device_id, device in known.items()}
    faults: list[Fault] = []
    outside: list[Fault] = []
    seen: set[str] = set()
    for position, device_id in enumerate(wish.members):
        field = f"members[{position}]"
        device = devices.get(device_id)
        if device_id in seen:
            faults.append(Fault(field, "member_repeated", {"id": device_id}))
        elif device is None:
            faults.append(Fault(field, "unknown_device", {"id": device_id}))
        elif device.retired_at is not None:
            faults.append(Fault(field, "device_retired", {"id": device_id}))
        elif device.kind not in ("cluster", "board"):
            faults.append(Fault(field, "device_cannot_play", {"id": device_id, "kind": device.kind}))
        elif not (
            rights.may(Permission.MAKE_BROADCASTS, device.unit_id) and rights.tree.covers(wish.unit_id, device.unit_id)
        ):
            outside.append(Fault(field, "target_outside_own_subtree", {"target": device_id}))
        seen.add(device_id)
    if outside:
        raise Forbidden("target_outside_own_subtree", faults=outside[:_MAX_FAULTS])
    if faults:
        raise Invalid(*faults[:_MAX_FAULTS], code="group_invalid")
    return [device.device_no for device in known.values()]


async def _record(
    connection: Connection,
    action: str,
    before: Group | None,
    after: Group,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"group:{after.group_id}",
            unit_id=after.unit_id,
            before=described(before) if before else None,
            after=described(after),
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


def described(group: Group) -> dict[str, Any]:
    """The group as facts of the audit."""
    return {
        "version": group.version,
        "name": group.name,
        "members": list(group.members),
        "is_closed": group.closed_at is not None,
    }
