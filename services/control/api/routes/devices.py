"""The registry of devices and what each does now."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from schemas.identifiers import DeviceId, UnitId
from services.control import device_store, devices, fleet
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.fields import (
    AfterDevice,
    Answer,
    Body,
    DeviceIdText,
    Latitude,
    Longitude,
    Name,
    Percent,
    Whole,
)
from services.control.api.step_up import GivenCode, Operation
from services.control.api.views import (
    DeviceHistoryView,
    DeviceStatusView,
    device_history_view,
    device_status_view,
)
from services.control.api.what_if import AskedWhatIf, OutlookView, WhatIf
from services.control.device_store import Device, NewDevice
from services.control.errors import Fault, Invalid
from services.control.permissions import Permission
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

Kind = Literal["cluster", "board", "sensor", "gateway"]
Ownership = Literal["public", "private", "private_with_public_share"]
ShareMinutes = Annotated[Whole, Field(ge=0, le=1_440)]
Liveness = Literal["online", "offline", "never"]

Lister = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.ANYWHERE)]
Watcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.DEVICE)]
Registrar = Annotated[Caller, requires(Permission.REGISTER_DEVICES, Scope.BODY)]
Keeper = Annotated[Caller, requires(Permission.REGISTER_DEVICES, Scope.DEVICE)]
Operator = Annotated[Caller, requires(Permission.OPERATE_DEVICES, Scope.DEVICE)]


class DeviceBody(Body):
    """A device to be registered."""

    device_id: DeviceIdText = Field(description="name on the wire and in the certificate: a-z, 0-9, inner hyphens")
    kind: Kind
    unit_id: uuid.UUID
    name: Name
    technology: Literal["ip", "fm", "wired", "lora"] = "ip"
    ownership: Ownership = "public"
    public_share_minutes: ShareMinutes | None = Field(
        default=None, description="a day, of a private board whose owner has agreed to it (R-15)"
    )
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    volume_percent: Percent = 30
    volume_cap_percent: Percent = 80
    heartbeat_interval_s: Whole = Field(default=60, ge=1, le=86_400)
    gateway_id: DeviceIdText | None = Field(default=None, description="the gateway that speaks for the device")


class DevicesBody(Body):
    """Devices to be registered, all or none; a gateway among them may already be named by others."""

    devices: list[DeviceBody] = Field(min_length=1, max_length=devices.MAX_AT_ONCE)


class DeviceView(Answer):
    """A registered device."""

    device_id: str
    device_no: int
    kind: str
    unit_id: uuid.UUID
    name: str
    technology: str
    ownership: str
    public_share_minutes: int | None
    latitude: float | None
    longitude: float | None
    volume_percent: int
    volume_cap_percent: int
    heartbeat_interval_s: int
    gateway_id: str | None
    registered_at: datetime
    retired_at: datetime | None


class RegisteredView(Answer):
    """How many devices were registered."""

    registered: int


class DeviceListView(Answer):
    """Devices with their states."""

    devices: list[DeviceStatusView]
    more_after: str | None


class RehearsedDevice(Answer):
    """What registering devices, changing one, moving it or taking it out of service would do to what people hear."""

    outlook: OutlookView


_REHEARSED: dict[int | str, dict[str, Any]] = {
    200: {"model": RehearsedDevice, "description": "of a dry run: what it would do; nothing was stored"}
}


class DeviceChange(Body):
    """What is to be different; what is left out stays."""

    name: Name | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    volume_percent: Percent | None = None
    volume_cap_percent: Percent | None = None
    heartbeat_interval_s: Whole | None = Field(default=None, ge=1, le=86_400)
    ownership: Ownership | None = Field(default=None, description="needs the right to register devices")
    public_share_minutes: ShareMinutes | None = Field(default=None, description="needs the same right")


class Move(Body):
    """Where a device is to belong."""

    unit_id: uuid.UUID


class GatewayAssignment(Body):
    """Which gateway speaks for a device from now on; null: it speaks for itself."""

    gateway_id: DeviceIdText | None


def _new(body: DeviceBody) -> NewDevice:
    return NewDevice(
        device_id=DeviceId(body.device_id),
        kind=body.kind,
        unit_id=UnitId(body.unit_id),
        name=body.name,
        technology=body.technology,
        ownership=body.ownership,
        public_share_minutes=body.public_share_minutes,
        latitude=body.latitude,
        longitude=body.longitude,
        volume_percent=body.volume_percent,
        volume_cap_percent=body.volume_cap_percent,
        heartbeat_interval=timedelta(seconds=body.heartbeat_interval_s),
        gateway_id=DeviceId(body.gateway_id) if body.gateway_id is not None else None,
    )


def device_view(device: Device) -> DeviceView:
    """A registered device."""
    return DeviceView(
        device_id=device.device_id,
        device_no=device.device_no,
        kind=device.kind,
        unit_id=device.unit_id,
        name=device.name,
        technology=device.technology,
        ownership=device.ownership,
        public_share_minutes=device.public_share_minutes,
        latitude=device.latitude,
        longitude=device.longitude,
        volume_percent=device.volume_percent,
        volume_cap_percent=device.volume_cap_percent,
        heartbeat_interval_s=round(device.heartbeat_interval.total_seconds()),
        gateway_id=device.gateway_id,
        registered_at=device.registered_at,
        retired_at=device.retired_at,
    )


@router.get("")
async def list_devices(
    caller: Lister,
    services: Parts,
    unit_id: Annotated[uuid.UUID | None, Query(description="this unit and below; default: all one may see")] = None,
    kind: Annotated[Kind | None, Query()] = None,
    liveness: Annotated[Liveness | None, Query()] = None,
    after: Annotated[AfterDevice | None, Query(description="device id after which to go on")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> DeviceListView:
    """Devices with their live state, in order of their ids."""
    units = caller.rights.reach(Permission.SEE_DEVICES)
    if unit_id is not None:
        if UnitId(unit_id) not in caller.rights.tree:
            raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
        caller.demand(Permission.SEE_DEVICES, UnitId(unit_id), field="unit_id")
        units = frozenset(caller.rights.tree.subtree(UnitId(unit_id)))
    async with services.database.connection() as connection:
        found, more_after = await fleet.device_statuses(
            connection, units, kind=kind, liveness=liveness, after=after, limit=limit, now=caller.now
        )
    return DeviceListView(devices=[device_status_view(each) for each in found], more_after=more_after)


@router.post("", status_code=201, responses=_REHEARSED)
async def register_device(
    body: DeviceBody, caller: Registrar, response: Response, services: Parts, what_if: AskedWhatIf
) -> DeviceView | RehearsedDevice:
    """Register one device."""

    async def save(connection: Connection) -> Device:
        await _register(connection, [_new(body)], "", caller, services)
        return await device_store.device(connection, body.device_id, now=caller.now)

    registered, outlook = await what_if.carry_out(services, caller, save, unit_id=None)
    if outlook is None:
        return device_view(registered)
    response.status_code = HTTPStatus.OK
    return RehearsedDevice(outlook=outlook)


@router.post("/batch", status_code=201, responses=_REHEARSED)
async def register_devices(
    body: DevicesBody, caller: Registrar, response: Response, services: Parts, what_if: AskedWhatIf
) -> RegisteredView | RehearsedDevice:
    """Register many devices: all of them, or none and a list of what is wrong with which."""

    async def save(connection: Connection) -> int:
        return await _register(connection, [_new(each) for each in body.devices], "devices[{}]", caller, services)

    registered, outlook = await what_if.carry_out(services, caller, save, unit_id=None)
    if outlook is None:
        return RegisteredView(registered=registered)
    response.status_code = HTTPStatus.OK
    return RehearsedDevice(outlook=outlook)


async def _register(
    connection: Connection, wanted: Sequence[NewDevice], field: str, caller: Caller, services: Services
) -> int:
    numbers = await devices.register(
        connection,
        wanted,
        field=field,
        zone=services.directory.zone,
        rights=caller.rights,
        actor=caller.actor,
        origin=caller.origin,
        now=caller.now,
    )
    return len(numbers)


@router.get("/{device_id}")
async def get_device(device_id: str, caller: Watcher, services: Parts) -> DeviceView:
    """One device as registered."""
    async with services.database.connection() as connection:
        return device_view(await device_store.device(connection, device_id, now=caller.now))


@router.get("/{device_id}/status")
async def device_status(device_id: str, caller: Watcher, services: Parts) -> DeviceHistoryView:
    """What is on, what is next, and what was played on the device in the last seven days."""
    async with services.database.connection() as connection:
        return device_history_view(await fleet.device_history(connection, device_id, now=caller.now))


@router.patch("/{device_id}")
async def change_device(
    device_id: str,
    body: DeviceChange,
    caller: Operator,
    services: Parts,
    what_if: AskedWhatIf,
    second_factor: GivenCode = None,
) -> DeviceView | RehearsedDevice:
    """Change volume, cap, name, position, heartbeat interval or ownership; the device gets a new signed configuration."""
    if body.model_fields_set & {"volume_percent", "volume_cap_percent"} and not what_if.dry_run:
        await step_up.demand(services, caller, Operation.VOLUME, code=second_factor)
    elif body.model_fields_set & {"latitude", "longitude", "ownership"} and not what_if.dry_run:
        # By these, too, an alert may mean it, or not any more.
        await step_up.demand(services, caller, Operation.MOVE_DEVICES, code=second_factor)

    async def save(connection: Connection) -> Device:
        device = await device_store.device_for_update(connection, device_id, now=caller.now)
        for field in body.model_fields_set & {"ownership", "public_share_minutes"}:
            # Whose screen it is decides who may use it: not an operator's everyday affair.
            caller.demand(Permission.REGISTER_DEVICES, device.unit_id, field=field)
        return await devices.update(
            connection,
            device,
            _changed(device, body),
            zone=services.directory.zone,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    return await _carried_out(services, caller, what_if, save)


async def _carried_out(
    services: Services, caller: Caller, what_if: WhatIf, save: Callable[[Connection], Awaitable[Device]]
) -> DeviceView | RehearsedDevice:
    changed, outlook = await what_if.carry_out(services, caller, save, unit_id=None)
    return device_view(changed) if outlook is None else RehearsedDevice(outlook=outlook)


_MAY_BE_NULL = frozenset({"latitude", "longitude", "public_share_minutes"})


def _changed(device: Device, body: DeviceChange) -> Device:
    values = body.model_dump(exclude_unset=True, exclude={"heartbeat_interval_s"})
    nulls = [name for name, value in values.items() if value is None and name not in _MAY_BE_NULL]
    if nulls:
        raise Invalid(*(Fault(name, "field_missing") for name in nulls))
    if body.heartbeat_interval_s is not None:
        values["heartbeat_interval"] = timedelta(seconds=body.heartbeat_interval_s)
    return replace(device, **values)


@router.post("/{device_id}/move")
async def move_device(
    device_id: str,
    body: Move,
    caller: Keeper,
    services: Parts,
    what_if: AskedWhatIf,
    second_factor: GivenCode = None,
) -> DeviceView | RehearsedDevice:
    """Move the device to another unit; one needs the right over both. An alert that is for its old unit ends on it."""
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.MOVE_DEVICES, code=second_factor)

    async def save(connection: Connection) -> Device:
        device = await device_store.device_for_update(connection, device_id, now=caller.now)
        return await devices.move(
            connection,
            device,
            UnitId(body.unit_id),
            zone=services.directory.zone,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    return await _carried_out(services, caller, what_if, save)


@router.put("/{device_id}/gateway")
async def assign_gateway(
    device_id: str,
    body: GatewayAssignment,
    caller: Keeper,
    services: Parts,
    what_if: AskedWhatIf,
    second_factor: GivenCode = None,
) -> DeviceView | RehearsedDevice:
    """Say which gateway speaks for the device from now on: what it is told goes that way, and what it says comes."""
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.MOVE_DEVICES, code=second_factor)

    async def save(connection: Connection) -> Device:
        device = await device_store.device_for_update(connection, device_id, now=caller.now)
        return await devices.assign_gateway(
            connection,
            device,
            DeviceId(body.gateway_id) if body.gateway_id is not None else None,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    return await _carried_out(services, caller, what_if, save)


@router.post("/{device_id}/retire")
async def retire_device(
    device_id: str, caller: Keeper, services: Parts, what_if: AskedWhatIf, second_factor: GivenCode = None
) -> DeviceView | RehearsedDevice:
    """Take the device out of service for good; its history stays, and its id is not given again."""
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.RETIRE_DEVICE, code=second_factor)

    async def save(connection: Connection) -> Device:
        device = await device_store.device_for_update(connection, device_id, now=caller.now)
        return await devices.retire(connection, device, actor=caller.actor, origin=caller.origin, now=caller.now)

    return await _carried_out(services, caller, what_if, save)
