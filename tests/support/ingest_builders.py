"""Values the unit tests of ingest are made of."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from schemas import codec
from schemas.events import EventEnvelope, PlayStarted
from schemas.fields import ClockState, DeviceKind, PlayReference, PlaySource
from schemas.heartbeats import ClusterHeartbeat
from schemas.presence import PresenceReport
from schemas.readings import Reading, Sample
from services.ingest.registry import Registry, Row, pack

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
JOURNAL = bytes.fromhex("8000000000000001")

CLUSTER: Row = (b"cluster-1", pack(DeviceKind.CLUSTER, 1, 1))
GATEWAY: Row = (b"gateway-1", pack(DeviceKind.GATEWAY, 2, 2))
BEHIND: Row = (b"sensor-1", pack(DeviceKind.SENSOR, 3, 2))


def a_registry(*more: Row) -> Registry:
    return Registry((CLUSTER, GATEWAY, BEHIND, *more))


def heartbeat(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "device_at_ms": NOW_MS,
        "clock": ClockState.SYNCHRONISED,
        "firmware": "test",
        "uptime_s": 1,
        "volume_percent": 40,
    }
    return codec.encode(ClusterHeartbeat(**{**fields, **changes}))


def reading(*samples: Sample, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "device_at_ms": NOW_MS,
        "clock": ClockState.SYNCHRONISED,
        "samples": samples or (Sample(quantity="rainfall", value=1.0, unit="mm"),),
    }
    return codec.encode(Reading(**{**fields, **changes}))


def event_body(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "device_at_ms": NOW_MS,
        "clock": ClockState.SYNCHRONISED,
        "reference": PlayReference(source=PlaySource.COMMAND, id=UUID(int=7)),
        "started_at_ms": NOW_MS,
    }
    return codec.encode(PlayStarted(**{**fields, **changes}))


def event(sequence: int = 1, body: bytes | None = None) -> bytes:
    return codec.encode(EventEnvelope(journal=JOURNAL, sequence=sequence, body=event_body() if body is None else body))


def presence(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "connection_number": 5,
        "online": True,
        "device_at_ms": NOW_MS,
        "clock": ClockState.SYNCHRONISED,
    }
    return codec.encode(PresenceReport(**{**fields, **changes}))
