"""Bytes ⇄ messages: deterministic CBOR out (RFC 8949 section 4.2), strictly checked CBOR in.

Decoding is total: a message, or a `DecodeError` with its reason, for every input. Uplinks may use any definite-length
encoding; what is signed must be in deterministic form, so that one message has one signature input. Map keys are
unsigned integers everywhere, also inside fields a receiver does not know: for those the orders of RFC 8949 section 4.2.1
(bytewise) and 4.2.3 (shorter first), which libraries mix up, are the same.
"""

from __future__ import annotations

import io
from typing import Any, NoReturn, TypeVar

import cbor2

from schemas import limits
from schemas.errors import DecodeError, DecodeReason, EncodeError
from schemas.events import EVENTS, Event, EventEnvelope
from schemas.heartbeats import HEARTBEATS, Heartbeat
from schemas.presence import PresenceReport
from schemas.readings import Reading
from schemas.receipts import Receipt
from schemas.shapes import Message
from schemas.wire import check_version, from_wire, holds_numbers, to_wire

MessageT = TypeVar("MessageT", bound=Message)

_KIND_KEY = 3  # discriminator of heartbeats (device kind) and of event bodies (event type)


def encode(message: Message) -> bytes:
    """Return the deterministic encoding of `message`; raises `EncodeError` above the size limit of its kind."""
    data = to_wire(message)
    # Keys ascend and integers take the least room in any case. All that determinism asks of cbor2 beyond that is the
    # least room for floats, and looking for it takes as long as the rest.
    payload = dumps(data) if holds_numbers(type(message)) else cbor2.dumps(data)
    if len(payload) > message.SIZE_LIMIT:
        raise EncodeError(f"{type(message).__name__} of {len(payload)} bytes, limit {message.SIZE_LIMIT}")
    return payload


def decode(cls: type[MessageT], payload: bytes, *, deterministic: bool = False) -> MessageT:
    """Return `payload` as a `cls`; raises `DecodeError`. With `deterministic`, any other encoding is refused."""
    return from_wire(cls, loads(payload, size_limit=cls.SIZE_LIMIT, deterministic=deterministic))


def decode_heartbeat(payload: bytes) -> Heartbeat:
    """Return the heartbeat in `payload`, of the device kind it names; raises `DecodeError`."""
    data = loads(payload, size_limit=limits.HEARTBEAT_BYTES)
    return from_wire(_member(HEARTBEATS, data, "kind"), data)


def decode_reading(payload: bytes) -> Reading:
    """Return the reading in `payload`; raises `DecodeError`."""
    return decode(Reading, payload)


def decode_envelope(payload: bytes) -> EventEnvelope:
    """Return the outer layer of an event; raises `DecodeError`. The body is decoded by `decode_event`."""
    return decode(EventEnvelope, payload)


def decode_event(body: bytes, *, deterministic: bool = False) -> Event:
    """Return the event in an envelope's body, or in what is signed there (`deterministic`); raises `DecodeError`."""
    data = loads(body, size_limit=limits.EVENT_BYTES, deterministic=deterministic)
    return from_wire(_member(EVENTS, data, "type"), data)


def decode_presence(payload: bytes) -> PresenceReport:
    """Return the presence report in `payload`; raises `DecodeError`."""
    return decode(PresenceReport, payload)


def decode_receipt(payload: bytes) -> Receipt:
    """Return the receipt in `payload`; raises `DecodeError`."""
    return decode(Receipt, payload)


def _member(members: dict[int, type[MessageT]], data: object, field: str) -> type[MessageT]:
    """Return the class the discriminator names. A message of another major version is refused before it is read."""
    if not isinstance(data, dict):
        raise DecodeError(DecodeReason.WRONG_TYPE, "", f"expected a map, got {type(data).__name__}")
    check_version(data)
    kind = data.get(_KIND_KEY)
    if kind is None:
        raise DecodeError(DecodeReason.MISSING_FIELD, field, f"no {field}")
    if type(kind) is not int:
        raise DecodeError(DecodeReason.WRONG_TYPE, field, f"expected an integer, got {type(kind).__name__}")
    if kind not in members:
        raise DecodeError(DecodeReason.INVALID_VALUE, field, f"unknown {field} {kind}")
    return members[kind]


def dumps(data: Any) -> bytes:
    """Return plain CBOR data (map keys unsigned integers) in deterministic form."""
    return cbor2.dumps(data, canonical=True)


class _TagFound(Exception):
    pass


def _refuse_tag(*_: object) -> NoReturn:
    raise _TagFound


# cbor2 gives these tags a meaning of its own before the tag hook is asked, so each is named here. A test sends every tag
# there is room for, so a cbor2 that learns another one is found out.
_BUILT_IN_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 43000, 52, 54, 100, 256, 258, 260, 261, 1004, 55799)
_NO_TAGS = dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag)


def loads(payload: bytes, *, size_limit: int, deterministic: bool = False) -> Any:
    """Return the one CBOR data item in `payload`; raises `DecodeError`.

    Refuses what cbor2 alone lets through: tags, duplicate keys, indefinite lengths, bytes after the item and more than
    `limits.MAX_DEPTH` containers inside each other. A duplicate key is found before the second value is read.
    """
    if len(payload) > size_limit:
        raise DecodeError(DecodeReason.TOO_LARGE, "", f"{len(payload)} bytes, limit {size_limit}")
    stream = io.BytesIO(payload)
    decoder = cbor2.CBORDecoder(
        stream,
        tag_hook=_refuse_tag,
        semantic_decoders=_NO_TAGS,
        max_depth=limits.MAX_DEPTH,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    try:
        data = decoder.decode()
    except cbor2.CBORDecodeEOF as error:
        raise DecodeError(DecodeReason.TRUNCATED, "", str(error)[:120]) from None
    except (cbor2.CBORDecodeError, _TagFound, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DecodeError(_reason(error), "", str(error)[:120]) from None
    if stream.tell() != len(payload):
        raise DecodeError(DecodeReason.TRAILING_BYTES, "", f"item ends at byte {stream.tell()} of {len(payload)}")
    if deterministic and dumps(data) != payload:
        raise DecodeError(DecodeReason.NOT_DETERMINISTIC, "", "not the deterministic encoding of its content")
    return data


def _reason(error: BaseException) -> DecodeReason:
    """Name what cbor2 found; it has one exception class for all of these, so its words and cause are all there is."""
    if isinstance(error, _TagFound) or isinstance(error.__cause__, _TagFound):
        return DecodeReason.FORBIDDEN_TAG
    text = str(error)
    if "Duplicate map key" in text:
        return DecodeReason.DUPLICATE_KEY
    if "nesting depth" in text:
        return DecodeReason.TOO_DEEP
    if "indefinite" in text:
        return DecodeReason.INDEFINITE_LENGTH
    return DecodeReason.NOT_CBOR
