"""Messages as rows: tuples in the order of the columns they are copied to."""

import enum
import json
from dataclasses import dataclass
from typing import Any

from schemas.events import Event
from schemas.fields import ClockState
from schemas.heartbeats import (
    BoardHeartbeat,
    ClusterHeartbeat,
    GatewayHeartbeat,
    Heartbeat,
    Playing,
    SensorHeartbeat,
)
from schemas.readings import Sample
from schemas.wire import to_json
from services.ingest.registry import Registered
from services.ingest.stamps import Stamp, TimeSource, instant

Row = tuple[Any, ...]


class HeardKind(enum.IntEnum):
    """By what a device was last heard; the names stand in `telemetry.heard_kind_name`."""

    HEARTBEAT = 0
    READING = 1
    EVENT = 2
    PRESENCE = 3


class Signature(enum.IntEnum):
    """What a right signature is worth; the names stand in `telemetry.signature_name`. A wrong one is never stored."""

    VERIFIED = 0
    UNTIMELY = 1  # its time is not believed, or it came late: it may be an old one said again


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed a message, by the id of the key, and what that is worth."""

    by: bytes
    signature: Signature


HEARTBEAT_COLUMNS = (
    "at", "received_at", "device_at", "device_no", "principal_no", "clock_state", "time_source",
    "kind", "firmware", "uptime_s", "plan_serial", "config_serial", "journal_pending", "last_error",
    "network_type", "signal_dbm", "network_operator", "power_source", "battery_percent",
    "storage_free_mib", "storage_total_mib",
    "playing_source", "playing_id", "playing_occurrence_at", "playing_item", "playing_since",
    "volume_percent", "temperature_tenths_c", "amplifier_power_w", "faulty_channels",
    "screen_on", "brightness_percent", "devices_assigned", "devices_heard",
)  # fmt: skip

# A sensor's heartbeat has a table of its own, without what only the other kinds have.
SENSOR_COLUMNS = tuple(
    column for column in HEARTBEAT_COLUMNS[: HEARTBEAT_COLUMNS.index("playing_source")] if column != "kind"
)
SENSOR_TYPES = {
    "at": "timestamptz", "received_at": "timestamptz", "device_at": "timestamptz",
    "device_no": "integer", "principal_no": "integer", "clock_state": "smallint", "time_source": "smallint",
    "firmware": "text", "uptime_s": "integer", "plan_serial": "bigint", "config_serial": "bigint",
    "journal_pending": "integer", "last_error": "text", "network_type": "smallint", "signal_dbm": "smallint",
    "network_operator": "text", "power_source": "smallint", "battery_percent": "smallint",
    "storage_free_mib": "integer", "storage_total_mib": "integer",
}  # fmt: skip

READING_COLUMNS = (
    "at", "received_at", "device_at", "device_no", "principal_no", "clock_state", "time_source",
    "quantity", "value", "unit", "quality", "signature", "signer",
)  # fmt: skip

EVENT_COLUMNS = (
    "at", "received_at", "device_at", "device_no", "principal_no", "clock_state", "time_source",
    "principal", "journal", "sequence", "kind", "body", "signer",
)  # fmt: skip

_NOT_PLAYING = (None, None, None, None, None)


def _lead(device: Registered, stamp: Stamp) -> Row:
    """Return the columns every table begins with."""
    return (
        stamp.at,
        stamp.received_at,
        stamp.device_at,
        device.device_no,
        device.principal_no,
        stamp.clock,
        stamp.source,
    )


def heartbeat_row(message: Heartbeat, device: Registered, stamp: Stamp) -> Row:
    """Return the heartbeat in the order of `HEARTBEAT_COLUMNS`, a sensor's in that of `SENSOR_COLUMNS`."""
    if isinstance(message, SensorHeartbeat):
        return (*_lead(device, stamp), *_status(message))
    return (*_lead(device, stamp), message.kind, *_status(message), *_of_kind(message))


def _status(message: Heartbeat) -> Row:
    """Return what heartbeats of all kinds have, from `firmware` on."""
    network, power, storage = message.network, message.power, message.storage
    return (
        message.firmware,
        message.uptime_s,
        message.plan_serial,
        message.config_serial,
        message.journal_pending,
        message.last_error,
        *((network.type, network.signal_dbm, network.operator) if network else (None, None, None)),
        *((power.source, power.battery_percent) if power else (None, None)),
        *((storage.free_mib, storage.total_mib) if storage else (None, None)),
    )


def status_values(message: SensorHeartbeat) -> Row:
    """Return what follows the lead in a row of `SENSOR_COLUMNS`, for a message whose time may be believed or is none."""
    source = TimeSource.CLOCK_UNSYNCHRONISED if message.clock is ClockState.UNSYNCHRONISED else TimeSource.DEVICE
    return (message.clock, source, *_status(message))


def _of_kind(message: ClusterHeartbeat | BoardHeartbeat | GatewayHeartbeat) -> Row:
    """Return the columns from `playing_source` to the end."""
    match message:
        case ClusterHeartbeat():
            return (
                *_playing(message.playing),
                message.volume_percent,
                message.amplifier_temperature_tenths_c,
                message.amplifier_power_w,
                message.faulty_channels or None,
                *(None, None, None, None),
            )
        case BoardHeartbeat():
            return (
                *_playing(message.showing),
                *(None, message.temperature_tenths_c, None, None),
                message.screen_on,
                message.brightness_percent,
                *(None, None),
            )
        case GatewayHeartbeat():
            return (*_NOT_PLAYING, *(None,) * 6, message.devices_assigned, message.devices_heard)


def _playing(playing: Playing | None) -> Row:
    if playing is None:
        return _NOT_PLAYING
    reference = playing.reference
    return (
        reference.source,
        reference.id,
        None if reference.occurrence_at_ms is None else instant(reference.occurrence_at_ms),
        reference.item,
        instant(playing.since_ms),
    )


def reading_row(sample: Sample, device: Registered, stamp: Stamp, signed: Signed | None) -> Row:
    """Return one sample in the order of `READING_COLUMNS`."""
    what = (sample.quantity, sample.value, sample.unit, sample.quality)
    return (*_lead(device, stamp), *what, *((signed.signature, signed.by) if signed else (None, None)))


def event_row(
    event: Event, device: Registered, stamp: Stamp, *, journal: int, sequence: int, signer: bytes | None
) -> Row:
    """Return the event in the order of `EVENT_COLUMNS`; the body as JSON text, and the id of the key that signed it."""
    return (
        *_lead(device, stamp),
        device.principal,
        journal,
        sequence,
        event.type.name.lower(),
        json.dumps(to_json(event), ensure_ascii=False, separators=(",", ":")),
        signer,
    )
