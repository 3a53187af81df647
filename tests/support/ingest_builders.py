"""Values the unit tests of ingest are made of."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from schemas import codec, device_signing
from schemas.events import EventEnvelope, PlayStarted
from schemas.fields import ClockState, DeviceKind, PlayReference, PlaySource
from schemas.heartbeats import ClusterHeartbeat
from schemas.presence import PresenceReport
from schemas.readings import Reading, Sample
from services.ingest.device_keys import DeviceKey
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


DEVICE_KEY = ec.derive_private_key(11, ec.SECP256R1())
GATEWAY_KEY = ec.derive_private_key(12, ec.SECP256R1())


def keys_of(
    *keys: ec.EllipticCurvePrivateKey, device_no: int = 1, not_after: datetime = NOW + timedelta(days=1)
) -> dict[int, list[DeviceKey]]:
    """What the database knows of the keys of one device."""
    public = [each.public_key() for each in keys]
    return {device_no: [DeviceKey(kid=device_signing.key_id(each), key=each, not_after=not_after) for each in public]}


def a_signing_registry() -> Registry:
    """The registry, with a key of the cluster and another one of the gateway."""
    registry = a_registry()
    registry.keys.hold([1], keys_of(DEVICE_KEY), now=NOW)
    registry.keys.hold([2], keys_of(GATEWAY_KEY, device_no=2), now=NOW)
    return registry


def signed_reading(
    *samples: Sample,
    device: str = "cluster-1",
    key: ec.EllipticCurvePrivateKey = DEVICE_KEY,
    media_type: str = device_signing.MEDIA_TYPES[Reading],
    **changes: Any,
) -> bytes:
    return device_signing.seal(reading(*samples, **changes), device=device, media_type=media_type, key=key)


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
