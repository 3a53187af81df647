"""Corrected copies of quarantined uplinks: what may be changed, and what the copy then is. Pure.

A correction mends the form of a message. It never changes who sent it, nor the number an event has in its device's
journal: a number given to something else would make the device's own event of that number pass for a duplicate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas import codec, limits, topics
from schemas.errors import DecodeError, InvalidIdentifier, InvalidTopic, SignatureError
from schemas.identifiers import DeviceId
from schemas.shapes import VERSION
from services.control.errors import Fault, Invalid
from services.control.quarantine_forecast import message_of
from services.control.quarantine_notation import NotNotation, written

_VERSION_KEY, _JOURNAL_KEY, _SEQUENCE_KEY, _BODY_KEY = 0, 1, 2, 3
_JOURNAL_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What a person wants to be different: of the topic at most one, of the payload at most one."""

    device_id: str | None = None
    topic: str | None = None
    version: int | None = None
    payload_hex: str | None = None
    payload_diagnostic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Topic and payload of an uplink."""

    topic: str
    payload: bytes


def corrected(original: Copy, edit: Edit, *, principal: str, is_cut: bool) -> Copy:
    """The corrected copy. Raises `Invalid`, naming the field and what is wrong with it.

    `is_cut` says that only the beginning of the payload was kept: then it can only be replaced as a whole.
    """
    _check_one("device_id", "topic", edit)
    _check_one("version", "payload_hex", edit)
    _check_one("version", "payload_diagnostic", edit)
    _check_one("payload_hex", "payload_diagnostic", edit)
    copy = Copy(topic=_topic(original, edit, principal), payload=_payload(original, edit, is_cut=is_cut))
    if copy == original:
        raise Invalid(Fault("", "correction_changes_nothing"))
    field = _payload_field(edit)
    try:
        message_of(copy.topic, copy.payload)
    except DecodeError as error:
        place = f"{field}.{error.field}" if error.field else field
        raise Invalid(Fault(place, "payload_refused", {"reason": error.reason.value, "detail": error.detail})) from None
    except SignatureError as error:  # nobody but its device can sign a copy
        raise Invalid(Fault(field, "payload_refused", {"reason": "bad_signature", "detail": str(error)})) from None
    if _is_event(copy.topic) and _number(original.payload) != _number(copy.payload):
        raise Invalid(Fault(field, "event_number_changed"))
    return copy


def _check_one(first: str, second: str, edit: Edit) -> None:
    if getattr(edit, first) is not None and getattr(edit, second) is not None:
        raise Invalid(Fault(second, "only_one_of_two", {"first": first, "second": second}))


def _payload_field(edit: Edit) -> str:
    if edit.payload_hex is not None:
        return "payload_hex"
    return "payload_diagnostic" if edit.payload_diagnostic is not None else "payload"


# --- the topic ---


def _topic(original: Copy, edit: Edit, principal: str) -> str:
    if edit.device_id is not None:
        return _for_device(original.topic, edit.device_id, principal)
    topic = original.topic if edit.topic is None else edit.topic
    try:
        parsed = topics.parse_topic(topic)
    except InvalidTopic:
        parsed = None
    if not isinstance(parsed, topics.Uplink | topics.Presence):
        raise Invalid(Fault("topic", "not_an_uplink_topic", {"principal": principal}))
    if parsed.principal != principal:
        raise Invalid(Fault("topic", "principal_changed", {"principal": principal}))
    return topic


def _for_device(topic: str, device_id: str, principal: str) -> str:
    """The topic with another device behind the same principal."""
    try:
        parsed = topics.parse_topic(topic)
        device = DeviceId.parse(device_id)
    except InvalidIdentifier:
        raise Invalid(Fault("device_id", "bad_device_id", {"value": device_id[:64]})) from None
    except InvalidTopic:
        parsed, device = None, None
    if not isinstance(parsed, topics.Uplink) or parsed.principal != principal or device is None:
        raise Invalid(Fault("topic", "not_an_uplink_topic", {"principal": principal}))
    return topics.format_topic(topics.Uplink(parsed.principal, parsed.kind, device))


def _is_event(topic: str) -> bool:
    parsed = topics.parse_topic(topic)
    return isinstance(parsed, topics.Uplink) and parsed.kind is topics.UplinkKind.EVENT


# --- the payload ---


def _payload(original: Copy, edit: Edit, *, is_cut: bool) -> bytes:
    if edit.payload_hex is not None:
        try:
            return bytes.fromhex(edit.payload_hex)
        except ValueError:
            raise Invalid(Fault("payload_hex", "not_hex")) from None
    if edit.payload_diagnostic is not None:
        try:
            return written(edit.payload_diagnostic)
        except NotNotation as error:
            facts = {"position": error.position, "problem": error.problem}
            raise Invalid(Fault("payload_diagnostic", "not_diagnostic_notation", facts)) from None
    if is_cut:
        raise Invalid(Fault("payload_hex", "payload_was_cut", {"limit": limits.UPLINK_BYTES}))
    if edit.version is not None:
        return _with_version(original.payload)
    return original.payload


def _with_version(payload: bytes) -> bytes:
    """The payload as one of our major version, its body too where it is an event's envelope."""
    data = _map_in(payload)
    if data is None:
        raise Invalid(Fault("version", "payload_is_no_map"))
    data[_VERSION_KEY] = VERSION
    body = data.get(_BODY_KEY)
    inside = _map_in(body) if isinstance(body, bytes) else None
    if inside is not None:
        inside[_VERSION_KEY] = VERSION
        data[_BODY_KEY] = codec.dumps(inside)
    return codec.dumps(data)


def _map_in(payload: bytes) -> dict[Any, Any] | None:
    """The map the bytes hold, by the codec's own rules for CBOR; None for anything else."""
    try:
        data = codec.loads(payload, size_limit=limits.UPLINK_BYTES)
    except DecodeError:
        return None
    return data if isinstance(data, dict) else None


def _number(payload: bytes) -> tuple[bytes, int] | None:
    """Journal and sequence of an event's envelope, of whatever version; None where they cannot be read."""
    data = _map_in(payload)
    if data is None:
        return None
    journal, sequence = data.get(_JOURNAL_KEY), data.get(_SEQUENCE_KEY)
    if not isinstance(journal, bytes) or len(journal) != _JOURNAL_BYTES or type(sequence) is not int:
        return None
    return journal, sequence
