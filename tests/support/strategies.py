"""Hypothesis strategies for every message of the wire contract, drawn from the classes' own shapes.

`messages(cls)` gives valid messages of one class, `heartbeats()`, `events()`, `orders()` … one of several. Rules between
fields, which a shape does not know, are repaired in `_REPAIRS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar, assert_never

from hypothesis import strategies as st

from schemas import codec, identifiers, readings
from schemas.alerts import Alert, Audience, Purpose
from schemas.commands import Action, Command
from schemas.configuration import Configuration
from schemas.errors import EncodeError
from schemas.events import EVENTS, Event, EventEnvelope
from schemas.fields import NO_NUL, Level, PlayReference, PlaySource
from schemas.heartbeats import HEARTBEATS, Heartbeat
from schemas.keys import KeySet, SigningKey, key_id
from schemas.orders import MediaReference, Order, Rank
from schemas.plans import ContentKind, Emission, Plan, RelayReference
from schemas.presence import PresenceReport
from schemas.receipts import Receipt
from schemas.relays import Segment, SegmentList
from schemas.shapes import (
    Array,
    Boolean,
    Bytes,
    Constant,
    Enumeration,
    Integer,
    Map,
    Message,
    Number,
    Record,
    Text,
    Uuid,
    WireType,
    shape_of,
)

RecordT = TypeVar("RecordT", bound=Record)
MessageT = TypeVar("MessageT", bound=Message)

ORDERS: tuple[type[Order], ...] = (Plan, Configuration, KeySet, Command, Alert, SegmentList)
UPLINKS: tuple[type[Message], ...] = (
    *HEARTBEATS.values(),
    *EVENTS.values(),
    EventEnvelope,
    readings.Reading,
    PresenceReport,
)
MESSAGES: tuple[type[Message], ...] = (*UPLINKS, Receipt, *ORDERS)

_CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


def records(cls: type[RecordT]) -> st.SearchStrategy[RecordT]:
    """Return valid records of `cls`, optional fields filled or not."""
    fields = shape_of(cls).fields
    drawn = st.fixed_dictionaries(
        {field.name: _values(field.type) for field in fields if field.required},
        optional={field.name: _values(field.type) for field in fields if not field.required},
    )
    repair: Callable[[Any], Any] = _REPAIRS.get(cls, lambda values: values)
    return drawn.map(repair).map(lambda values: cls(**values))


def messages(cls: type[MessageT]) -> st.SearchStrategy[MessageT]:
    """Return valid messages of `cls` that fit into its size limit."""
    return records(cls).filter(_fits)


def heartbeats() -> st.SearchStrategy[Heartbeat]:
    """Return heartbeats of all four kinds."""
    return st.sampled_from(list(HEARTBEATS.values())).flatmap(messages)


def events() -> st.SearchStrategy[Event]:
    """Return events of every type."""
    return st.sampled_from(list(EVENTS.values())).flatmap(messages)


def envelopes() -> st.SearchStrategy[EventEnvelope]:
    """Return envelopes that hold a readable event."""

    def wrap(journal: bytes, sequence: int, event: Event) -> EventEnvelope:
        return EventEnvelope(journal=journal, sequence=sequence, body=codec.encode(event))

    sequences = st.integers(1, 2**63 - 2)
    return st.builds(wrap, st.binary(min_size=8, max_size=8), sequences, events()).filter(_fits)


def orders() -> st.SearchStrategy[Order]:
    """Return everything that is signed."""
    return st.sampled_from(ORDERS).flatmap(messages)


def any_message() -> st.SearchStrategy[Message]:
    """Return messages of every class; an envelope's body is any bytes."""
    return st.sampled_from(MESSAGES).flatmap(messages)


def device_ids() -> st.SearchStrategy[identifiers.DeviceId]:
    """Return names devices may have."""
    names = st.from_regex(identifiers.DEVICE_ID_PATTERN, fullmatch=True)
    return names.filter(lambda name: name not in identifiers.RESERVED).map(identifiers.DeviceId.parse)


def _fits(message: Message) -> bool:
    try:
        codec.encode(message)
    except EncodeError:
        return False
    return True


def _values(wire_type: WireType) -> st.SearchStrategy[Any]:
    match wire_type:
        case Integer(low, high):
            return st.integers(low, high)
        case Number(low, high):
            return st.floats(low, high) | st.integers(-1000, 1000).map(float)
        case Boolean():
            return st.booleans()
        case Text(low, high, pattern):
            return st.text(_CHARACTERS, min_size=low, max_size=high) if pattern == NO_NUL else _matching(pattern)
        case Bytes(low, high):
            return st.binary(min_size=low, max_size=min(high, max(low, 64)))
        case Uuid():
            return st.uuids()
        case Enumeration(members):
            return st.sampled_from(members)
        case Constant(value):
            return st.just(value)
        case Array(item, low, high):
            return st.lists(_values(item), min_size=low, max_size=min(high, 4)).map(tuple)
        case Map(cls):
            return records(cls)
        case _:
            assert_never(wire_type)


def _matching(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern.removeprefix("^").removesuffix("$"), fullmatch=True)


# --- rules between fields ----------------------------------------------------------------------------------------------

_Values = dict[str, Any]


def _window(values: _Values) -> _Values:
    low, high = sorted((values["valid_from_ms"], values["valid_until_ms"]))
    return {**values, "valid_from_ms": max(0, low - 1), "valid_until_ms": max(high, 1)}


def _reference(values: _Values) -> _Values:
    values = {name: value for name, value in values.items() if name not in {"occurrence_at_ms", "item"}}
    if values["source"] in (PlaySource.EMISSION, PlaySource.ALERT):
        values |= {"occurrence_at_ms": values["id"].int % 4_102_444_800_000, "item": values["id"].int % 256}
    return values


def _sample(values: _Values) -> _Values:
    return {**values, "unit": readings.UNITS.get(values["quantity"], values["unit"])}


def _receipt(values: _Values) -> _Values:
    floor, ranges = min(values["through"], 2**62), []
    for span in values.get("ranges", ()):
        first = floor + 2 + span.first % 2**40
        ranges.append(span.model_copy(update={"first": first, "last": first + span.last % 2**40}))
        floor = ranges[-1].last
    return {**values, "through": min(values["through"], 2**62), "ranges": tuple(ranges)}


def _emission(values: _Values) -> _Values:
    values = {**values, "latest_start_ms": max(values["latest_start_ms"], values["starts_at_ms"])}
    if values["content"] is ContentKind.RELAY:
        return {"relay": RelayReference(source_id=values["broadcast_id"], path="relays/vov1"), **values}
    values = {name: value for name, value in values.items() if name not in {"relay", "fallback"}}
    if values["content"] in (ContentKind.TEXT, ContentKind.TICKER):
        return {"text": "chữ", **values}
    return {"media": values["broadcast_id"].bytes * 2, **values}


def _relay(values: _Values) -> _Values:
    if "path" in values:
        values.pop("url", None)
    return values if "url" in values else {"path": "relays/vov1", **values}


def _plan(values: _Values) -> _Values:
    emissions = {(e.broadcast_id, e.occurrence_at_ms, e.item): e for e in values.get("emissions", ())}.values()
    named = {sha256 for e in emissions for sha256 in (e.media, e.fallback) if sha256}
    media = {m.sha256: m for m in values.get("media", ())}
    for sha256 in sorted(named - media.keys()):
        media[sha256] = MediaReference(sha256=sha256, size=1, mime="audio/ogg", path=sha256.hex())
    key = lambda e: (e.starts_at_ms, e.broadcast_id.bytes, e.occurrence_at_ms, e.item)  # noqa: E731
    return _window({**values, "emissions": tuple(sorted(emissions, key=key)), "media": tuple(media.values())})


def _configuration(values: _Values) -> _Values:
    low, high = sorted((values["volume_percent"], values["volume_cap_percent"]))
    return _window({**values, "volume_percent": low, "volume_cap_percent": high})


def _signing_key(values: _Values) -> _Values:
    low, high = sorted((values["not_before_ms"], values["not_after_ms"]))
    public_key = hashlib.sha256(values["public_key"]).digest()
    window = {"not_before_ms": max(0, low - 1), "not_after_ms": max(high, 1)}
    return {**values, **window, "public_key": public_key, "kid": key_id(public_key)}


def _key_set(values: _Values) -> _Values:
    return _window({**values, "keys": tuple({key.kid: key for key in values.get("keys", ())}.values())})


def _command(values: _Values) -> _Values:
    values = _window(values)
    values.pop("alert", None)
    if values["action"] is Action.ALERT:
        return {**values, "alert": b"signed"}
    if values["action"] is Action.SET_VOLUME:
        return {"volume_percent": 40, **values}
    if values["action"] is Action.PLAY:
        values = {"rank": Rank(level=Level.NORMAL, issuer_depth=0, issued_at_ms=0), **values}
        values.pop("media" if "text" in values else "text", None)
        return values if "media" in values else {"text": "chữ", **values}
    return values


def _audience(values: _Values) -> _Values:
    """An audience means somebody."""
    return values if values.get("areas") or values.get("devices") else {**values, "devices": ("loa-cum-1",)}


def _alert(values: _Values) -> _Values:
    values = _window(values)
    audible = values["purpose"] in (Purpose.ALERT, Purpose.AUDIBLE_TEST)
    if not audible:
        values.pop("repeat_interval_s", None)
    elif not values.get("contents"):
        values["purpose"] = Purpose.SILENT_TEST
        values.pop("repeat_interval_s", None)
    return values


def _segment_list(values: _Values) -> _Values:
    segments: list[Segment] = []
    for number, segment in enumerate(values.get("segments", ())):
        begins = max(segment.starts_at_ms % 10**12, segments[-1].ends_at_ms if segments else 0)
        segments.append(segment.model_copy(update={"sequence": number, "starts_at_ms": begins}))
    return _window({**values, "segments": tuple(segments)})


_REPAIRS: dict[type[Record], Callable[[_Values], _Values]] = {
    PlayReference: _reference,
    readings.Sample: _sample,
    Receipt: _receipt,
    Emission: _emission,
    RelayReference: _relay,
    Plan: _plan,
    Configuration: _configuration,
    SigningKey: _signing_key,
    KeySet: _key_set,
    Command: _command,
    Audience: _audience,
    Alert: _alert,
    SegmentList: _segment_list,
}
