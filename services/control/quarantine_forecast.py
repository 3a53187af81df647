"""What ingest would say to an uplink now: the rules of its admission, told without storing anything. Pure.

Ingest alone decides, when it is asked to. A test holds this module to `services.ingest.admission`, which control must
not import: the two services are deployed apart.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from schemas import codec, device_signing, topics
from schemas.errors import DecodeError, InvalidTopic, SignatureError
from schemas.events import Event
from schemas.fields import DeviceKind
from schemas.heartbeats import Heartbeat
from schemas.presence import PresenceReport
from schemas.readings import Reading


class Reason(enum.StrEnum):
    """Why an uplink is in quarantine: the words of ingest."""

    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_PRINCIPAL = "unknown_principal"
    UNKNOWN_DEVICE = "unknown_device"
    NOT_ALLOWED = "not_allowed"
    WRONG_KIND = "wrong_kind"
    RETAINED = "retained"
    MALFORMED_PACKET = "malformed_packet"
    DATABASE_REFUSED = "database_refused"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    NOT_CBOR = "not_cbor"
    FORBIDDEN_TAG = "forbidden_tag"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    INDEFINITE_LENGTH = "indefinite_length"
    TRAILING_BYTES = "trailing_bytes"
    NOT_DETERMINISTIC = "not_deterministic"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    INVALID_VALUE = "invalid_value"
    UNSUPPORTED_VERSION = "unsupported_version"
    CRITICAL_FIELD = "critical_field"


# Why a replay is refused besides; they say nothing about the bytes, so no inmate stands in quarantine for them.
PAYLOAD_CUT = "payload_cut"
REPLAY_REASONS = (PAYLOAD_CUT, "too_old", "other_principal", "too_many_journals", "too_many_gaps", "quarantine_full")

Message = Heartbeat | Reading | Event | PresenceReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A registered device: its kind, who may speak for it now, and the keys by which it may sign, by their ids."""

    kind: DeviceKind
    principals: frozenset[str]
    keys: Mapping[bytes, EllipticCurvePublicKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`reason` is None when it would be admitted; else why not, in the words of quarantine, with the detail."""

    reason: str | None = None
    field: str = ""
    detail: str = ""


def named(topic: str) -> tuple[str, ...]:
    """The device ids a topic speaks of, principal first; nothing for what is no topic of an uplink."""
    try:
        parsed = topics.parse_topic(topic)
    except InvalidTopic:
        return ()
    match parsed:
        case topics.Uplink(principal, _, device):
            return (principal, device)
        case topics.Presence(principal):
            return (principal,)
        case topics.Downlink() | topics.AreaAlert():
            return ()
        case _:
            assert_never(parsed)


def forecast(topic: str, payload: bytes, *, registry: Mapping[str, Known]) -> Forecast:
    """What would become of the uplink; `registry` holds at least those it names that are registered."""
    ids = named(topic)
    if not ids:
        return Forecast(reason=Reason.UNKNOWN_TOPIC, detail="no topic of an uplink")
    stranger = _stranger(ids[0], ids[-1], registry)
    if stranger is not None:
        return stranger
    try:
        message = message_of(topic, payload, keys=registry[ids[-1]].keys)
    except DecodeError as error:
        return Forecast(reason=error.reason, field=error.field, detail=error.detail)
    except UnknownKey as error:
        return Forecast(reason=Reason.UNKNOWN_KEY, detail=str(error))
    except SignatureError as error:
        return Forecast(reason=Reason.BAD_SIGNATURE, detail=str(error))
    kind = registry[ids[-1]].kind
    if isinstance(message, Heartbeat) and message.kind is not kind:
        detail = f"heartbeat of a {message.kind.name.lower()}, registered as a {kind.name.lower()}"
        return Forecast(reason=Reason.WRONG_KIND, field="kind", detail=detail)
    return Forecast()


def _stranger(principal: str, device: str, registry: Mapping[str, Known]) -> Forecast | None:
    if principal not in registry:
        return Forecast(reason=Reason.UNKNOWN_PRINCIPAL, detail=f"{principal} is not registered")
    if device not in registry:
        return Forecast(reason=Reason.UNKNOWN_DEVICE, detail=f"{device} is not registered")
    if principal not in registry[device].principals:
        return Forecast(reason=Reason.NOT_ALLOWED, detail=f"{principal} may not speak for {device}")
    return None


class UnknownKey(Exception):
    """A signature by a key that is in no good certificate of its device."""


def message_of(topic: str, payload: bytes, *, keys: Mapping[bytes, EllipticCurvePublicKey] | None = None) -> Message:
    """The message on an uplink's topic; of an event, what is in its envelope. Without `keys` no signature is checked.

    Raises `DecodeError`, of a body with its field below `body`; `InvalidTopic` for what is no topic of an uplink;
    `SignatureError` and `UnknownKey` for what is signed and wrongly so.
    """
    parsed = topics.parse_topic(topic)
    match parsed:
        case topics.Presence():
            return codec.decode_presence(payload)
        case topics.Uplink(kind=topics.UplinkKind.HEARTBEAT):
            return codec.decode_heartbeat(payload)
        case topics.Uplink(kind=topics.UplinkKind.READING, device=device) if device_signing.is_signed(payload):
            return codec.decode(Reading, _opened(payload, device_signing.READING, device, keys), deterministic=True)
        case topics.Uplink(kind=topics.UplinkKind.READING):
            return codec.decode_reading(payload)
        case topics.Uplink(device=device):
            body, is_signed = codec.decode_envelope(payload).body, False
            if device_signing.is_signed(body):
                body, is_signed = _opened(body, device_signing.EVENT, device, keys), True
            try:
                return codec.decode_event(body, deterministic=is_signed)
            except DecodeError as error:
                raise error.inside("body") from None
        case topics.Downlink() | topics.AreaAlert():
            raise InvalidTopic(f"{topic[:200]!r} is no topic of an uplink")
        case _:
            assert_never(parsed)


def _opened(payload: bytes, media_type: str, device: str, keys: Mapping[bytes, EllipticCurvePublicKey] | None) -> bytes:
    """What was signed as `media_type` by the device."""
    sealed = device_signing.unseal(media_type, payload, device)
    if keys is not None:
        if (key := keys.get(sealed.kid)) is None:
            raise UnknownKey(f"key {sealed.kid.hex()} is in no good certificate of {device}")
        sealed.verify(key)
    return sealed.payload
