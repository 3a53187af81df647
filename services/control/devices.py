"""What people do with the registry: register, assign to a gateway, move, set, retire. Works in the caller's transaction.

Whatever changes a device's programme or configuration asks for planning in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from schemas.identifiers import DeviceId, UnitId
from services.control import audit, device_store, enrolment_store, planning_queue, unit_reform
from services.control.audit import Entry
from services.control.device_store import Device, NewDevice
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.permissions import Actor, Permission, Rights
from services.control.planning.model import DeviceNo
from services.control.planning.targets import PLAYS
from services.control.units import UnitTree
from services.shared.database.pool import Connection

MAX_AT_ONCE = 10_000
SHARED = "private_with_public_share"  # of a board whose owner has agreed to a share of its day for the public
_MAX_FAULTS = 100
_PLAYING = frozenset(kind.name.lower() for kind in PLAYS)


async def register(
    connection: Connection,
    devices: Sequence[NewDevice],
    *,
    field: str,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> tuple[DeviceNo, ...]:
    """Register all of them or none. Reforms of units begin with a day of `zone`.

    `field` is where a device stands in the request, with `{}` for its position. Raises `Forbidden` when a unit lies
    outside the actor's rights, else `Invalid` naming every device that cannot be registered.
    """
    outside = [
        Fault(_at(field, position, "unit_id"), "unit_outside_own_subtree", {"unit": str(each.unit_id)})
        for position, each in enumerate(devices)
        if each.unit_id in rights.tree and not rights.may(Permission.REGISTER_DEVICES, each.unit_id)
    ]
    if outside:
        raise Forbidden("target_outside_own_subtree", faults=outside[:_MAX_FAULTS])
    named = {each.device_id for each in devices} | {each.gateway_id for each in devices if each.gateway_id}
    known = await device_store.devices_by_id(connection, named, now=now)
    faults = _faults(devices, field=field, rights=rights, known=known)
    if faults:
        raise Invalid(*faults[:_MAX_FAULTS], code="devices_invalid")
    numbers = await device_store.add_devices(connection, devices, at=now)
    boards = {no: each.unit_id for no, each in zip(numbers, devices, strict=True) if _is_private_board(each)}
    if boards:
        await unit_reform.carry_orders_to(connection, boards, zone=zone, now=now)
    gateways = {device_id: device.device_no for device_id, device in known.items()}
    gateways |= {each.device_id: number for each, number in zip(devices, numbers, strict=True)}
    await device_store.assign_gateways(
        connection,
        [
            (number, gateways[each.gateway_id])
            for each, number in zip(devices, numbers, strict=True)
            if each.gateway_id is not None
        ],
        at=now,
    )
    places = [each.unit_id for each in devices if each.kind in _PLAYING]
    await planning_queue.request_fleet(connection, numbers, places, at=now)
    await audit.record_all(
        connection,
        [
            Entry(
                action="device_registered",
                subject=f"device:{each.device_id}",
                unit_id=each.unit_id,
                after={"kind": each.kind, "name": each.name, "gateway_id": each.gateway_id},
            )
            for each in devices
        ],
        actor=actor,
        origin=origin,
        at=now,
    )
    return numbers


def _at(field: str, position: int, name: str) -> str:
    return ".".join(part for part in (field.format(position), name) if part)


def _faults(
    devices: Sequence[NewDevice], *, field: str, rights: Rights, known: Mapping[DeviceId, Device]
) -> list[Fault]:
    faults: list[Fault] = []
    first: dict[DeviceId, int] = {}
    kinds = {device_id: device.kind for device_id, device in known.items() if device.retired_at is None}
    kinds |= {each.device_id: each.kind for each in devices}
    for position, each in enumerate(devices):

        def fault(name: str, code: str, position: int = position, **facts: object) -> None:
            faults.append(Fault(_at(field, position, name), code, facts))

        if each.unit_id not in rights.tree:
            fault("unit_id", "unknown_unit", unit=str(each.unit_id))
        if each.device_id in known:
            fault("device_id", "device_id_taken", id=each.device_id)
        elif each.device_id in first:
            fault("device_id", "device_id_repeated", id=each.device_id, first=first[each.device_id])
        else:
            first[each.device_id] = position
        if each.volume_percent > each.volume_cap_percent:
            fault("volume_percent", "volume_above_cap", cap=each.volume_cap_percent)
        if each.public_share_minutes is not None and each.ownership != SHARED:
            fault("public_share_minutes", "share_without_agreement")
        if (each.latitude is None) != (each.longitude is None):
            fault("latitude" if each.latitude is None else "longitude", "position_incomplete")
        if each.gateway_id is None:
            continue
        if each.kind == "gateway":
            fault("gateway_id", "gateway_behind_gateway")
        elif kinds.get(each.gateway_id) is None:
            fault("gateway_id", "unknown_device", id=each.gateway_id)
        elif kinds[each.gateway_id] != "gateway":
            fault("gateway_id", "not_a_gateway", id=each.gateway_id)
        elif each.gateway_id in known and not rights.may(Permission.REGISTER_DEVICES, known[each.gateway_id].unit_id):
            fault("gateway_id", "gateway_outside_own_subtree", id=each.gateway_id)
    return faults


async def assign_gateway(
    connection: Connection,
    device: Device,
    gateway_id: DeviceId | None,
    *,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Device:
    """From now on the gateway speaks for the device; with None it speaks for itself.

    Raises `Invalid` when there is no such gateway, `Forbidden` when it lies outside the actor's rights.
    """
    _check_in_service(device)
    if gateway_id is not None:
        if device.kind == "gateway":
            raise Invalid(Fault("gateway_id", "gateway_behind_gateway"))
        known = await device_store.devices_by_id(connection, [gateway_id], now=now)
        gateway = known.get(gateway_id)
        if gateway is None or gateway.retired_at is not None:
            raise Invalid(Fault("gateway_id", "unknown_device", {"id": gateway_id}))
        if gateway.kind != "gateway":
            raise Invalid(Fault("gateway_id", "not_a_gateway", {"id": gateway_id}))
        if not rights.may(Permission.REGISTER_DEVICES, gateway.unit_id):
            raise Forbidden(
                "target_outside_own_subtree",
                faults=[Fault("gateway_id", "gateway_outside_own_subtree", {"id": gateway_id})],
            )
        await device_store.assign_gateways(connection, [(device.device_no, gateway.device_no)], at=now)
    else:
        await device_store.end_assignment(connection, device.device_no, at=now)
    return await _changed(connection, device, "gateway_assigned", actor=actor, origin=origin, now=now)


async def move(
    connection: Connection,
    device: Device,
    unit_id: UnitId,
    *,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Device:
    """Move the device to another unit. Raises `Invalid` for an unknown unit, `Forbidden` for one beyond own rights."""
    _check_in_service(device)
    if unit_id not in rights.tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    if not rights.may(Permission.REGISTER_DEVICES, unit_id):
        raise Forbidden(
            "target_outside_own_subtree", faults=[Fault("unit_id", "unit_outside_own_subtree", {"unit": str(unit_id)})]
        )
    await device_store.update_device(connection, replace(device, unit_id=unit_id))
    if _is_private_board(device):
        await unit_reform.carry_orders_to(connection, {device.device_no: unit_id}, zone=zone, now=now)
    return await _changed(connection, device, "device_moved", actor=actor, origin=origin, now=now)


async def update(
    connection: Connection,
    device: Device,
    wanted: Device,
    *,
    zone: ZoneInfo,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Device:
    """Store new settings of a device. Raises `Invalid` when they do not fit together, as a volume above its cap."""
    _check_in_service(device)
    if wanted.volume_percent > wanted.volume_cap_percent:
        raise Invalid(Fault("volume_percent", "volume_above_cap", {"cap": wanted.volume_cap_percent}))
    if wanted.public_share_minutes is not None and wanted.ownership != SHARED:
        raise Invalid(Fault("public_share_minutes", "share_without_agreement"))
    if (wanted.latitude is None) != (wanted.longitude is None):
        raise Invalid(Fault("latitude" if wanted.latitude is None else "longitude", "position_incomplete"))
    await device_store.update_device(connection, wanted)
    if _is_private_board(device) != _is_private_board(wanted):
        await unit_reform.carry_orders_to(connection, {device.device_no: device.unit_id}, zone=zone, now=now)
    return await _changed(connection, device, "device_changed", actor=actor, origin=origin, now=now)


async def set_volume(
    connection: Connection,
    unit_id: UnitId,
    percent: int,
    *,
    kinds: Collection[str],
    tree: UnitTree,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> frozenset[DeviceNo]:
    """Set the volume of all devices below a unit, each as loud as its own cap lets it be; returns those that changed."""
    changed = await device_store.set_volume(connection, tree.subtree(unit_id), kinds, percent)
    numbers = frozenset(DeviceNo(each["device_no"]) for each in changed)
    await planning_queue.request_devices(connection, sorted(numbers), at=now)
    await audit.record_all(
        connection,
        [
            Entry(
                action="device_changed",
                subject=f"device:{each['device_id']}",
                unit_id=UnitId(each["unit_id"]),
                before={"volume_percent": each["before"]},
                after={"volume_percent": each["after"]},
            )
            for each in changed
        ]
        + [
            Entry(
                action="area_volume_set",
                subject=f"unit:{unit_id}",
                unit_id=unit_id,
                after={"volume_percent": percent, "kinds": sorted(kinds), "changed": len(changed)},
            )
        ],
        actor=actor,
        origin=origin,
        at=now,
    )
    return numbers


async def retire(connection: Connection, device: Device, *, actor: Actor, origin: str | None, now: datetime) -> Device:
    """Take the device out of service. Raises `Conflict` for a gateway that still speaks for devices."""
    _check_in_service(device)
    spoken_for = await device_store.assigned_to(connection, device.device_no)
    if spoken_for:
        raise Conflict("gateway_in_use", facts={"id": device.device_id, "devices": len(spoken_for)})
    await device_store.end_assignment(connection, device.device_no, at=now)
    await device_store.retire_device(connection, device.device_no, at=now)
    await enrolment_store.delete_claim(connection, device.device_no)
    await enrolment_store.revoke(connection, device.device_no, reason="retired", by=actor, at=now)
    return await _changed(connection, device, "device_retired", actor=actor, origin=origin, now=now)


def _is_private_board(device: NewDevice | Device) -> bool:
    """Whether only an order, or a share by agreement, gives the public a right to it (R-15)."""
    return device.kind == "board" and device.ownership != "public"


def _standing(device: Device) -> tuple[object, ...]:
    """What of a device decides whether broadcasts reach anybody where it lies."""
    return (device.unit_id, device.retired_at, device.ownership, device.public_share_minutes)


def _check_in_service(device: Device) -> None:
    if device.retired_at is not None:
        raise Conflict("device_retired", facts={"id": device.device_id})


async def _changed(
    connection: Connection, before: Device, action: str, *, actor: Actor, origin: str | None, now: datetime
) -> Device:
    after = await device_store.device(connection, before.device_id, now=now)
    is_elsewhere = after.kind in _PLAYING and _standing(before) != _standing(after)
    places = {before.unit_id, after.unit_id} if is_elsewhere else set()
    await planning_queue.request_fleet(connection, [before.device_no], places, at=now)
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"device:{before.device_id}",
            unit_id=after.unit_id,
            before=before.described(),
            after=after.described(),
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return after
