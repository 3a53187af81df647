"""What becomes of one uplink: admitted with its rows, or quarantined with its reason. Pure: bytes in, verdict out.

A message is admitted when its topic is one of ours, whoever published it is a registered device that may speak for the
device it names, its bytes are a message of version 1, and its kind is the registered one. A time nobody can believe
does not keep a message out: it is stored under the time of receipt and marked (`stamps`).
"""

import enum
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from schemas import codec, device_signing, readings, topics
from schemas.errors import DecodeError, InvalidTopic, SignatureError
from services.ingest.registry import Registered, Registry
from services.ingest.rows import Row, Signature, Signed, event_row, heartbeat_row, reading_row
from services.ingest.stamps import Stamp, TimeSource, TimeWindow, sample_stamp, stamp

_PRINCIPAL_LEVEL = 2  # of any topic our subscriptions let through: loa/v1/{principal}/…

# How long after its own time a signed reading may come and still be taken for news: later, whoever has kept it back or
# recorded it may be saying it again. A device that was offline sends no less, but it fires nothing by itself.
TIMELY = timedelta(minutes=5)


class Reason(enum.StrEnum):
    """Why an uplink is not admitted, besides the reasons of `schemas.errors.DecodeReason`. Stable words."""

    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_PRINCIPAL = "unknown_principal"  # a valid certificate, but no such device is registered
    UNKNOWN_DEVICE = "unknown_device"
    NOT_ALLOWED = "not_allowed"  # the principal may not speak for this device (now)
    WRONG_KIND = "wrong_kind"  # a heartbeat of another kind than the device is registered as
    RETAINED = "retained"  # an uplink published with the retain flag
    MALFORMED_PACKET = "malformed_packet"
    DATABASE_REFUSED = "database_refused"
    UNKNOWN_KEY = "unknown_key"  # signed, but by no key in a good certificate of the device
    BAD_SIGNATURE = "bad_signature"  # signed, but not so, not by that key, not as this, or in another device's name


# What a fresher look at the registry may turn into an admission.
REGISTRY_REASONS = frozenset(
    {Reason.UNKNOWN_PRINCIPAL, Reason.UNKNOWN_DEVICE, Reason.NOT_ALLOWED, Reason.WRONG_KIND, Reason.UNKNOWN_KEY}
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Where an event stands in the journal of a device. `journal` is the id as a signed big-endian integer."""

    device: Registered
    journal: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """An admitted heartbeat."""

    device: Registered
    stamp: Stamp
    row: Row


@dataclass(frozen=True, slots=True)
class Reading:
    """An admitted reading: one row a sample."""

    device: Registered
    stamp: Stamp
    rows: tuple[tuple[Stamp, Row], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """An admitted event; whether it is new is for the ledger to say."""

    numbered: Numbered
    stamp: Stamp
    row: Row

    @property
    def device(self) -> Registered:
        """The device it is about."""
        return self.numbered.device


@dataclass(frozen=True, slots=True)
class Presence:
    """An admitted presence report; whether it counts is for the connection number to say."""

    device: Registered
    stamp: Stamp
    connection_no: int
    online: bool


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Not admitted. `numbered` stands where the event's envelope could be read: its number then counts as received."""

    reason: str
    detail: str
    principal: str
    device_id: str | None = None
    numbered: Numbered | None = None
    must_clear: bool = False  # a retained copy lies at the broker under this topic


@dataclass(frozen=True, slots=True)
class Cleared:
    """An empty retained message: somebody (ourselves, mostly) has cleared a retained uplink. Nothing to store."""


Admitted = Heartbeat | Reading | Event | Presence
Verdict = Admitted | Quarantined | Cleared


def judge(
    topic: str, payload: bytes, *, is_retained: bool, registry: Registry, now: datetime, window: TimeWindow
) -> Verdict:
    """Return what becomes of one uplink received at `now`. Total: a verdict for any topic and any bytes."""
    if is_retained and not payload:
        return Cleared()
    try:
        parsed = topics.parse_topic(topic)
    except InvalidTopic as error:
        # A device may write any last level (the ACL checks its name only), so this is where it could fill the broker.
        return Quarantined(Reason.UNKNOWN_TOPIC, str(error), claimed_principal(topic), must_clear=is_retained)
    match parsed:
        case topics.Uplink(principal, _, device_id):
            verdict = _judge_uplink(parsed, payload, registry, now, window)
            return _refuse_retained(verdict, principal, device_id) if is_retained else verdict
        case topics.Presence(principal):
            # A cleared presence, as it passes by, does not show the retain flag (`mqtt.Subscription`).
            return _judge_presence(principal, payload, registry, now, window) if payload else Cleared()
        case topics.Downlink() | topics.AreaAlert():
            return Quarantined(Reason.UNKNOWN_TOPIC, "not an uplink", claimed_principal(topic))
        case _:
            assert_never(parsed)


def claimed_principal(topic: str) -> str:
    """Return the principal's place in any topic, "" where there is none; the broker's ACL has made it true."""
    levels = topic.split("/")
    return levels[_PRINCIPAL_LEVEL] if len(levels) > _PRINCIPAL_LEVEL else ""


def _judge_uplink(
    topic: topics.Uplink, payload: bytes, registry: Registry, now: datetime, window: TimeWindow
) -> Admitted | Quarantined:
    principal, device_id = topic.principal, topic.device
    device = registry.find(principal, device_id)
    if device is None:
        return _refuse_stranger(principal, device_id, registry)
    try:
        match topic.kind:
            case topics.UplinkKind.HEARTBEAT:
                return _admit_heartbeat(device, payload, now, window)
            case topics.UplinkKind.READING:
                return _admit_reading(device, payload, registry, now, window)
            case topics.UplinkKind.EVENT:
                return _admit_event(device, payload, registry, now, window)
            case _:
                assert_never(topic.kind)
    except DecodeError as error:
        return Quarantined(error.reason, _where(error), principal, device_id)


def _refuse_stranger(principal: str, device_id: str, registry: Registry) -> Quarantined:
    if not registry.knows(principal):
        return Quarantined(Reason.UNKNOWN_PRINCIPAL, f"{principal} is not registered", principal, device_id)
    if not registry.knows(device_id):
        return Quarantined(Reason.UNKNOWN_DEVICE, f"{device_id} is not registered", principal, device_id)
    return Quarantined(Reason.NOT_ALLOWED, f"{principal} may not speak for {device_id}", principal, device_id)


def _admit_heartbeat(device: Registered, payload: bytes, now: datetime, window: TimeWindow) -> Heartbeat | Quarantined:
    message = codec.decode_heartbeat(payload)
    if message.kind is not device.kind:
        detail = f"heartbeat of a {message.kind.name.lower()}, registered as a {device.kind.name.lower()}"
        return Quarantined(Reason.WRONG_KIND, detail, device.principal, device.device_id)
    when = stamp(message.device_at_ms, message.clock, now=now, window=window)
    return Heartbeat(device, when, heartbeat_row(message, device, when))


def _admit_reading(
    device: Registered, payload: bytes, registry: Registry, now: datetime, window: TimeWindow
) -> Reading | Quarantined:
    signer = None
    if device_signing.is_signed(payload):
        opened = _opened(device, device_signing.READING, payload, registry, now)
        if isinstance(opened, Quarantined):
            return opened
        signer, payload = opened
    message = codec.decode(readings.Reading, payload, deterministic=signer is not None)
    when = stamp(message.device_at_ms, message.clock, now=now, window=window)
    rows = []
    for sample in message.samples:
        of_sample = sample_stamp(when, message.device_at_ms, sample.at_ms, window=window)
        signed = None if signer is None else Signed(signer, _worth(when, of_sample, now))
        rows.append((of_sample, reading_row(sample, device, of_sample, signed)))
    return Reading(device, when, tuple(rows))


def _opened(
    device: Registered, media_type: str, payload: bytes, registry: Registry, now: datetime
) -> tuple[bytes, bytes] | Quarantined:
    """Return the id of the key that signed what should be of `media_type`, and what it says."""
    try:
        sealed = device_signing.unseal(media_type, payload, device.device_id)
        key = registry.keys.find(device.device_no, sealed.kid, now=now)
        if key is None:
            detail = f"key {sealed.kid.hex()} is in no good certificate of {device.device_id}"
            return Quarantined(Reason.UNKNOWN_KEY, detail, device.principal, device.device_id)
        sealed.verify(key)
    except SignatureError as error:
        return Quarantined(Reason.BAD_SIGNATURE, str(error), device.principal, device.device_id)
    return sealed.kid, sealed.payload


def _worth(message: Stamp, sample: Stamp, now: datetime) -> Signature:
    """A signature says that this was said once; only a time that is believed, and now, says that it was not long ago."""
    is_believed = message.source is sample.source is TimeSource.DEVICE
    return Signature.VERIFIED if is_believed and now - message.at <= TIMELY else Signature.UNTIMELY


def _admit_event(
    device: Registered, payload: bytes, registry: Registry, now: datetime, window: TimeWindow
) -> Event | Quarantined:
    envelope = codec.decode_envelope(payload)
    journal = int.from_bytes(envelope.journal, "big", signed=True)
    numbered = Numbered(device, journal, envelope.sequence)
    body, signer = envelope.body, None
    if device_signing.is_signed(body):
        opened = _opened(device, device_signing.EVENT, body, registry, now)
        if isinstance(opened, Quarantined):
            return replace(opened, numbered=numbered)
        signer, body = opened
    try:
        message = codec.decode_event(body, deterministic=signer is not None)
    except DecodeError as error:
        detail = f"body: {_where(error)}"
        return Quarantined(error.reason, detail, device.principal, device.device_id, numbered)
    when = stamp(message.device_at_ms, message.clock, now=now, window=window)
    row = event_row(message, device, when, journal=journal, sequence=envelope.sequence, signer=signer)
    return Event(numbered, when, row)


def _judge_presence(
    principal: str, payload: bytes, registry: Registry, now: datetime, window: TimeWindow
) -> Presence | Quarantined:
    device = registry.find(principal, principal)
    if device is None:
        return _refuse_stranger(principal, principal, registry)
    try:
        message = codec.decode_presence(payload)
    except DecodeError as error:
        return Quarantined(error.reason, _where(error), principal, principal)
    when = stamp(message.device_at_ms, message.clock, now=now, window=window)
    return Presence(device, when, message.connection_number, message.online)


def _refuse_retained(verdict: Admitted | Quarantined, principal: str, device_id: str) -> Quarantined:
    """A retained uplink would be served to any later subscriber as if it were news, so it is cleared, and its sender
    shows up in quarantine until it stops. An event among them counts as received: its bytes are kept here.
    """
    if isinstance(verdict, Quarantined):
        return replace(verdict, must_clear=True)
    numbered = verdict.numbered if isinstance(verdict, Event) else None
    detail = "published with the retain flag"
    return Quarantined(Reason.RETAINED, detail, principal, device_id, numbered, must_clear=True)


def _where(error: DecodeError) -> str:
    return f"{error.field}: {error.detail}" if error.field else error.detail
