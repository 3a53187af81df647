"""What people do with private boards by order (R-15): note a requisition, and revoke it. In the caller's transaction.

The province has no general control over other people's screens: only an order with number, issuer and expiry gives the
right to take one over, for as long as it says and no longer. Whose board it is and what share of its day was agreed is
the registry's affair (`devices`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.identifiers import DeviceId, UnitId
from services.control import audit, device_store, planning_queue, requisition_store, unit_reform
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Actor, Permission, Rights
from services.control.planning.model import DeviceNo
from services.control.requisition_store import StoredRequisition
from services.control.units import UnitTree
from services.shared.database.pool import Connection

MAX_LENGTH = timedelta(days=366)  # an order without an end in sight is no order


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an order says: over every private board below a unit, or over one board."""

    unit_id: UnitId | None
    device_id: DeviceId | None
    order_number: str
    issuer: str
    valid_from: datetime
    expires_at: datetime


async def note(
    connection: Connection,
    order: Order,
    *,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> StoredRequisition:
    """Note an order; the right over the unit it names has been checked. Raises `Invalid` for what can be none.

    Where a reform will close the unit (on a day of `zone`), it goes on for the boards that lie below it until then.
    """
    faults = [*_faults_of_time(order, now=now)]
    device_no: DeviceNo | None = None
    device_unit: UnitId | None = None
    if order.unit_id is not None and not rights.tree.stands(order.unit_id):
        faults.append(Fault("unit_id", "unknown_unit", {"unit": str(order.unit_id)}))
    if order.device_id is not None:
        found = (await device_store.devices_by_id(connection, [order.device_id], now=now)).get(order.device_id)
        if found is None or not rights.may(Permission.REQUISITION_BOARDS, found.unit_id):
            faults.append(Fault("device_id", "unknown_device", {"id": order.device_id}))
        elif found.retired_at is not None:
            faults.append(Fault("device_id", "device_retired", {"id": order.device_id}))
        elif found.kind != "board" or found.ownership == "public":
            faults.append(Fault("device_id", "not_a_private_board", {"id": order.device_id}))
        else:
            device_no, device_unit = found.device_no, found.unit_id
    if faults:
        raise Invalid(*faults)
    requisition = StoredRequisition(
        requisition_id=uuid.uuid4(),
        unit_id=order.unit_id,
        device_id=order.device_id,
        device_unit_id=device_unit,
        order_number=order.order_number,
        issuer=order.issuer,
        valid_from=order.valid_from,
        expires_at=order.expires_at,
        created_at=now,
        created_by=actor.account_id,
    )
    await requisition_store.add(connection, requisition, device_no)
    if requisition.unit_id is not None:
        await unit_reform.carry_on_orders(connection, requisition.unit_id, zone=zone, now=now)
    await _changed(connection, "requisition_noted", None, requisition, rights.tree, actor=actor, origin=origin, now=now)
    return requisition


def _faults_of_time(order: Order, *, now: datetime) -> Sequence[Fault]:
    if order.expires_at <= order.valid_from:
        return [Fault("expires_at", "expires_before_valid")]
    if order.expires_at <= now:
        return [Fault("expires_at", "instant_in_the_past")]
    latest = order.valid_from + MAX_LENGTH
    if order.expires_at > latest:
        return [Fault("expires_at", "instant_too_late", {"latest": latest.isoformat(timespec="minutes")})]
    return []


async def revoke(
    connection: Connection,
    requisition: StoredRequisition,
    *,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> StoredRequisition:
    """From now on it gives no right any more, nor what stands for it on boards. Raises `Conflict` when it gives none already."""
    if requisition.ends_at() <= now:
        ended = requisition.ends_at().isoformat(timespec="minutes")
        raise Conflict("requisition_over", facts={"number": requisition.order_number, "ended": ended})
    await requisition_store.revoke(connection, requisition.requisition_id, by=actor.account_id, at=now)
    revoked = replace(requisition, revoked_at=now, revoked_by=actor.account_id)
    await _changed(
        connection, "requisition_revoked", requisition, revoked, rights.tree, actor=actor, origin=origin, now=now
    )
    return revoked


async def _changed(
    connection: Connection,
    action: str,
    before: StoredRequisition | None,
    after: StoredRequisition,
    tree: UnitTree,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    boards = await _boards(connection, after, tree, now=now)
    await planning_queue.request_fleet(connection, boards, [after.place], at=now)
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"requisition:{after.requisition_id}",
            unit_id=after.place,
            before=_described(before) if before else None,
            after=_described(after),
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


async def _boards(
    connection: Connection, requisition: StoredRequisition, tree: UnitTree, *, now: datetime
) -> Sequence[DeviceNo]:
    """The boards it is about."""
    if requisition.device_id is not None:
        return [(await device_store.device(connection, requisition.device_id, now=now)).device_no]
    return await requisition_store.private_boards(connection, tree.subtree(requisition.place))


def _described(requisition: StoredRequisition) -> dict[str, str | None]:
    """The requisition as facts of the audit."""
    return {
        "unit_id": str(requisition.unit_id) if requisition.unit_id else None,
        "device_id": requisition.device_id,
        "order_number": requisition.order_number,
        "issuer": requisition.issuer,
        "valid_from": requisition.valid_from.isoformat(),
        "expires_at": requisition.expires_at.isoformat(),
        "revoked_at": requisition.revoked_at.isoformat() if requisition.revoked_at else None,
    }
