"""Heartbeats: what a device is and does right now (R-24, R-27). Newest wins; they are not journalled."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas import limits
from schemas.fields import (
    ClockState,
    Count,
    DeviceKind,
    Instant,
    Label,
    NetworkType,
    Note,
    Percent,
    PlayReference,
    PowerSource,
    Serial,
    TenthsCelsius,
    Version,
)
from schemas.shapes import Key, Message, Record


class Network(Record):
    """Uplink of a device (R-23)."""

    type: Annotated[NetworkType, Key(0)]
    signal_dbm: Annotated[int | None, Key(1), Field(ge=-150, le=0)] = None
    operator: Annotated[Label | None, Key(2)] = None


class Power(Record):
    """Supply of a device; a device on battery has lost its mains (R-27)."""

    source: Annotated[PowerSource, Key(0)]
    battery_percent: Annotated[Percent | None, Key(1)] = None


class Storage(Record):
    """Room for plans and media, in MiB."""

    free_mib: Annotated[Count, Key(0)]
    total_mib: Annotated[Count, Key(1)]


class Playing(Record):
    """What is on the air now, and since when."""

    reference: Annotated[PlayReference, Key(0)]
    since_ms: Annotated[Instant, Key(1)]


class _Heartbeat(Message):
    SIZE_LIMIT: ClassVar[int] = limits.HEARTBEAT_BYTES

    version: Version = 1
    device_at_ms: Annotated[Instant, Key(1)]
    clock: Annotated[ClockState, Key(2)]
    firmware: Annotated[Label, Key(4)]
    uptime_s: Annotated[Count, Key(5)]
    network: Annotated[Network | None, Key(6)] = None
    power: Annotated[Power | None, Key(7)] = None
    plan_serial: Annotated[Serial | None, Key(8)] = None
    config_serial: Annotated[Serial | None, Key(9)] = None
    storage: Annotated[Storage | None, Key(10)] = None
    journal_pending: Annotated[Count | None, Key(11)] = None
    last_error: Annotated[Note | None, Key(12)] = None


class ClusterHeartbeat(_Heartbeat):
    """A loudspeaker cluster. Amplifier power in watts; faulty channels are numbered from 1."""

    kind: Annotated[Literal[DeviceKind.CLUSTER], Key(3)] = DeviceKind.CLUSTER
    volume_percent: Annotated[Percent, Key(20)]
    playing: Annotated[Playing | None, Key(21)] = None
    amplifier_temperature_tenths_c: Annotated[TenthsCelsius | None, Key(22)] = None
    amplifier_power_w: Annotated[int | None, Key(23), Field(ge=0, le=10_000)] = None
    faulty_channels: Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Key(24), Field(max_length=16)] = ()


class BoardHeartbeat(_Heartbeat):
    """A public LED board (R-14)."""

    kind: Annotated[Literal[DeviceKind.BOARD], Key(3)] = DeviceKind.BOARD
    screen_on: Annotated[bool, Key(30)]
    brightness_percent: Annotated[Percent, Key(31)]
    showing: Annotated[Playing | None, Key(32)] = None
    temperature_tenths_c: Annotated[TenthsCelsius | None, Key(33)] = None


class SensorHeartbeat(_Heartbeat):
    """A sensor; what it measures travels in readings."""

    kind: Annotated[Literal[DeviceKind.SENSOR], Key(3)] = DeviceKind.SENSOR


class GatewayHeartbeat(_Heartbeat):
    """A gateway: how many devices it is assigned and how many of them it heard within the last interval (R-28)."""

    kind: Annotated[Literal[DeviceKind.GATEWAY], Key(3)] = DeviceKind.GATEWAY
    devices_assigned: Annotated[Count, Key(40)]
    devices_heard: Annotated[Count, Key(41)]


Heartbeat = ClusterHeartbeat | BoardHeartbeat | SensorHeartbeat | GatewayHeartbeat

HEARTBEATS: dict[int, type[Heartbeat]] = {
    DeviceKind.CLUSTER: ClusterHeartbeat,
    DeviceKind.BOARD: BoardHeartbeat,
    DeviceKind.SENSOR: SensorHeartbeat,
    DeviceKind.GATEWAY: GatewayHeartbeat,
}
