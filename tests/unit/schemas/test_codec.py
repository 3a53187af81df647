"""Bytes ⇄ messages: round trips, strictness, totality."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from schemas import codec, limits, wire
from schemas.errors import DecodeError, DecodeReason, EncodeError
from schemas.events import EVENTS, EventEnvelope
from schemas.fields import ClockState
from schemas.heartbeats import HEARTBEATS, ClusterHeartbeat, SensorHeartbeat
from schemas.orders import Order
from schemas.plans import Plan
from schemas.readings import Reading, Sample
from schemas.shapes import Message
from tests.support import strategies
from tests.support.vectors import downlinks, uplinks
from tests.support.vectors.committed import COMMITTED

DECODERS: list[Callable[[bytes], object]] = [
    codec.decode_heartbeat,
    codec.decode_reading,
    codec.decode_envelope,
    codec.decode_event,
    codec.decode_presence,
    codec.decode_receipt,
    *(lambda payload, cls=cls: codec.decode(cls, payload, deterministic=True) for cls in strategies.ORDERS),
]

HEARTBEAT = ClusterHeartbeat(device_at_ms=0, clock=ClockState.HOLDOVER, firmware="1", uptime_s=0, volume_percent=50)
PLAIN: dict[int, Any] = wire.to_wire(HEARTBEAT)


def reason_of(decode: Callable[[bytes], object], payload: bytes) -> DecodeReason:
    with pytest.raises(DecodeError) as refusal:
        decode(payload)
    return refusal.value.reason


# --- round trips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", strategies.MESSAGES)
def test_what_is_encoded_decodes_to_the_same(cls: type[Message]) -> None:
    @settings(max_examples=40)
    @given(strategies.messages(cls))
    def holds(message: Message) -> None:
        payload = codec.encode(message)
        decoded = codec.decode(cls, payload, deterministic=True)
        assert decoded == message
        assert codec.encode(decoded) == payload

    holds()


@settings(max_examples=40)
@given(strategies.heartbeats())
def test_a_heartbeat_decodes_to_the_class_its_kind_names(heartbeat: Message) -> None:
    assert codec.decode_heartbeat(codec.encode(heartbeat)) == heartbeat


@settings(max_examples=40)
@given(strategies.envelopes())
def test_an_event_decodes_in_two_steps(envelope: EventEnvelope) -> None:
    assert codec.decode_envelope(codec.encode(envelope)) == envelope
    event = codec.decode_event(envelope.body)
    assert codec.encode(event) == envelope.body


def test_discriminators_are_complete_and_name_their_class() -> None:
    for number, heartbeat in HEARTBEATS.items():
        assert heartbeat.model_fields["kind"].default == number
    for number, event in EVENTS.items():
        assert event.model_fields["type"].default == number


@settings(max_examples=40)
@given(strategies.any_message())
def test_json_is_plain_and_holds_no_absent_field(message: Message) -> None:
    def check(value: object) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                assert type(key) is str
                check(item)
        elif isinstance(value, list):
            assert value
            for item in value:
                check(item)
        else:
            assert type(value) in {str, int, float, bool}

    check(wire.to_json(message))


# --- deterministic form ------------------------------------------------------------------------------------------------


def shortest_float(number: float) -> bytes:
    """Encode by RFC 8949 section 4.2.2: the shortest of the three widths that keeps the value."""
    for head, width in ((b"\xf9", ">e"), (b"\xfa", ">f"), (b"\xfb", ">d")):
        try:
            packed = struct.pack(width, number)
        except OverflowError:
            continue
        if struct.unpack(width, packed)[0] == number:
            return head + packed
    raise AssertionError


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(65504.0)
@example(65505.0)
@example(-0.0)
@example(5.960464477539063e-08)
@example(3.4028234663852886e38)
@example(1e-310)
def test_floats_take_the_shortest_form(number: float) -> None:
    assert codec.dumps(number) == shortest_float(number)


@pytest.mark.parametrize(
    "number", [0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, -1, -24, -25, -(2**63)]
)
def test_integers_take_the_shortest_head(number: int) -> None:
    argument = number if number >= 0 else -1 - number
    major = 0x00 if number >= 0 else 0x20
    if argument < 24:
        expected = bytes([major | argument])
    else:
        width = next(width for width in (1, 2, 4, 8) if argument < 256**width)
        expected = bytes([major | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + argument.to_bytes(width, "big")
    assert codec.dumps(number) == expected


@given(st.dictionaries(st.integers(0, 300), st.none(), max_size=20))
def test_map_keys_ascend(data: dict[int, None]) -> None:
    encoded = codec.dumps(data)
    assert list(cbor2.loads(encoded)) == sorted(data)


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("long head of an integer", bytes.fromhex("a1001801")),
        ("long head of a map", bytes.fromhex("b8010001")),
        ("long head of a text", bytes.fromhex("a10078016f")),
        ("keys not ascending", bytes.fromhex("a201010001")),
        ("a float that fits into two bytes", bytes.fromhex("a100fa3fc00000")),
        ("a float of eight bytes", bytes.fromhex("a100fb3ff8000000000000")),
        ("a NaN with a payload", bytes.fromhex("a100fb7ff8000000000001")),
    ],
)
def test_signed_input_has_one_encoding(name: str, payload: bytes) -> None:
    assert codec.loads(payload, size_limit=100) is not None
    with pytest.raises(DecodeError) as refusal:
        codec.loads(payload, size_limit=100, deterministic=True)
    assert refusal.value.reason is DecodeReason.NOT_DETERMINISTIC


# --- strictness of the encoding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("nothing", "", DecodeReason.TRUNCATED),
        ("an array longer than the payload", "9bffffffffffffffff", DecodeReason.TRUNCATED),
        ("a map longer than the payload", "bbffffffffffffffff", DecodeReason.TRUNCATED),
        ("bytes longer than the payload", "5b7fffffffffffffff", DecodeReason.TRUNCATED),
        ("a text longer than the payload", "7b7fffffffffffffff", DecodeReason.TRUNCATED),
        ("half a head", "19ff", DecodeReason.TRUNCATED),
        ("reserved additional information", "1c", DecodeReason.NOT_CBOR),
        ("a reserved float width", "fc", DecodeReason.NOT_CBOR),
        ("a simple value written too long", "f814", DecodeReason.NOT_CBOR),
        ("a break outside anything", "ff", DecodeReason.NOT_CBOR),
        ("invalid UTF-8", "61ff", DecodeReason.NOT_CBOR),
        ("an overlong UTF-8 form", "62c080", DecodeReason.NOT_CBOR),
        ("a UTF-16 surrogate in UTF-8", "63eda080", DecodeReason.NOT_CBOR),
        ("a duplicate key", "a201020103", DecodeReason.DUPLICATE_KEY),
        ("a duplicate text key", "a2616102616103", DecodeReason.DUPLICATE_KEY),
        ("a duplicate key further in", "a100a201020103", DecodeReason.DUPLICATE_KEY),
        ("an indefinite array", "9fff", DecodeReason.INDEFINITE_LENGTH),
        ("an indefinite map", "bfff", DecodeReason.INDEFINITE_LENGTH),
        ("indefinite bytes", "5f4100ff", DecodeReason.INDEFINITE_LENGTH),
        ("indefinite text", "7f6161ff", DecodeReason.INDEFINITE_LENGTH),
        ("a byte behind the item", "a000", DecodeReason.TRAILING_BYTES),
        ("a second item", "a0a0", DecodeReason.TRAILING_BYTES),
    ],
)
def test_bytes_that_are_not_one_strict_item_are_refused(name: str, payload: str, reason: DecodeReason) -> None:
    for decode in (lambda payload: codec.loads(payload, size_limit=100), codec.decode_heartbeat):
        assert reason_of(decode, bytes.fromhex(payload)) is reason


def tagged(tag: int) -> bytes:
    if tag < 24:
        return bytes([0xC0 | tag])
    if tag < 256:
        return bytes([0xD8, tag])
    return b"\xd9" + tag.to_bytes(2, "big") if tag < 65_536 else b"\xda" + tag.to_bytes(4, "big")


# What each tag with a meaning could hold, so that a decoder which knows it would find nothing to complain about.
TAGGED_CONTENT = [
    b"\x01",
    b"\x41\x01",
    b"\x61a",
    b"\x80",
    b"\x82\x01\x02",
    b"\xa0",
    bytes.fromhex("6a323032352d31312d3230"),
]


def test_every_tag_is_refused_whatever_it_holds() -> None:
    for tag in [*range(1_100), 43_000, *range(55_700, 55_900), 65_535, 65_536, 2**32 - 1]:
        for content in TAGGED_CONTENT:
            payload = tagged(tag) + content
            assert (
                reason_of(lambda payload: codec.loads(payload, size_limit=100), payload) is DecodeReason.FORBIDDEN_TAG
            )


def test_a_tag_inside_an_unknown_field_is_refused_too() -> None:
    payload = codec.dumps(PLAIN).replace(b"\xa7", b"\xa8", 1) + b"\x18\x64\xc1\x00"
    assert reason_of(codec.decode_heartbeat, payload) is DecodeReason.FORBIDDEN_TAG


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b"\x81" * depth + b"\x00"

    assert codec.loads(nested(limits.MAX_DEPTH), size_limit=100)
    for depth in (limits.MAX_DEPTH + 1, 50, 99):
        with pytest.raises(DecodeError) as refusal:
            codec.loads(nested(depth), size_limit=100)
        assert refusal.value.reason is DecodeReason.TOO_DEEP


@pytest.mark.parametrize("cls", strategies.MESSAGES)
def test_a_payload_may_be_as_large_as_its_limit_and_no_larger(cls: type[Message]) -> None:
    example_of = {type(message): message for message in [*uplinks.messages().values(), *downlinks.orders().values()]}
    data = wire.to_wire(example_of[cls])

    # The head of a byte string grows with its length, so the right length is searched for.
    room = cls.SIZE_LIMIT - len(codec.dumps(data))
    fits = max(n for n in range(room - 12, room) if len(codec.dumps({**data, 127: bytes(n)})) <= cls.SIZE_LIMIT)
    exact = codec.dumps({**data, 127: bytes(fits)})
    assert cls.SIZE_LIMIT - 1 <= len(exact) <= cls.SIZE_LIMIT
    assert codec.decode(cls, exact) == example_of[cls]
    too_large = codec.dumps({**data, 127: bytes(fits + 2)})
    assert reason_of(lambda payload: codec.decode(cls, payload), too_large) is DecodeReason.TOO_LARGE


def test_what_is_too_large_is_not_encoded() -> None:
    heartbeat = HEARTBEAT.model_copy(update={"last_error": "\U0001f50a" * 160, "firmware": "\U0001f50a" * 48})
    assert len(codec.encode(heartbeat)) <= limits.HEARTBEAT_BYTES
    envelope = EventEnvelope(journal=bytes(8), sequence=1, body=bytes(limits.EVENT_BYTES))
    with pytest.raises(EncodeError, match="EventEnvelope of"):
        codec.encode(envelope)


# --- strictness of the fields ------------------------------------------------------------------------------------------

ABSENT = object()


@pytest.mark.parametrize(
    ("name", "changes", "reason", "field"),
    [
        ("no version", {0: ABSENT}, DecodeReason.MISSING_FIELD, "version"),
        ("version 0", {0: 0}, DecodeReason.UNSUPPORTED_VERSION, "version"),
        ("version 2", {0: 2}, DecodeReason.UNSUPPORTED_VERSION, "version"),
        ("version 2 of an unknown kind", {0: 2, 3: 77}, DecodeReason.UNSUPPORTED_VERSION, "version"),
        ("a huge version", {0: 2**64 - 1}, DecodeReason.UNSUPPORTED_VERSION, "version"),
        ("version as a float", {0: 1.0}, DecodeReason.WRONG_TYPE, "version"),
        ("version as a boolean", {0: True}, DecodeReason.WRONG_TYPE, "version"),
        ("version as a text", {0: "1"}, DecodeReason.WRONG_TYPE, "version"),
        ("no kind", {3: ABSENT}, DecodeReason.MISSING_FIELD, "kind"),
        ("kind null", {3: None}, DecodeReason.MISSING_FIELD, "kind"),
        ("kind as a boolean", {3: False}, DecodeReason.WRONG_TYPE, "kind"),
        ("an unknown kind", {3: 4}, DecodeReason.INVALID_VALUE, "kind"),
        ("another kind's fields are unknown, its own missing", {3: 1}, DecodeReason.MISSING_FIELD, "screen_on"),
        ("a missing field", {20: ABSENT}, DecodeReason.MISSING_FIELD, "volume_percent"),
        ("null", {20: None}, DecodeReason.WRONG_TYPE, "volume_percent"),
        ("null in an optional field", {12: None}, DecodeReason.WRONG_TYPE, "last_error"),
        ("undefined", {20: cbor2.undefined}, DecodeReason.WRONG_TYPE, "volume_percent"),
        ("a simple value", {20: cbor2.CBORSimpleValue(50)}, DecodeReason.WRONG_TYPE, "volume_percent"),
        ("a boolean for an integer", {20: True}, DecodeReason.WRONG_TYPE, "volume_percent"),
        ("a float for an integer", {20: 50.0}, DecodeReason.WRONG_TYPE, "volume_percent"),
        ("a text for an integer", {20: "50"}, DecodeReason.WRONG_TYPE, "volume_percent"),
        ("an integer for a boolean", {3: 1, 30: 1, 31: 5}, DecodeReason.WRONG_TYPE, "screen_on"),
        ("a negative percentage", {20: -1}, DecodeReason.INVALID_VALUE, "volume_percent"),
        ("more than everything", {20: 101}, DecodeReason.INVALID_VALUE, "volume_percent"),
        ("64 bits", {5: 2**64 - 1}, DecodeReason.INVALID_VALUE, "uptime_s"),
        ("-64 bits", {5: -(2**64)}, DecodeReason.INVALID_VALUE, "uptime_s"),
        ("a serial of 64 bits", {8: 2**63}, DecodeReason.INVALID_VALUE, "plan_serial"),
        ("after 2100", {1: 4_102_444_800_001}, DecodeReason.INVALID_VALUE, "device_at_ms"),
        ("before 1970", {1: -1}, DecodeReason.INVALID_VALUE, "device_at_ms"),
        ("an unknown clock state", {2: 3}, DecodeReason.INVALID_VALUE, "clock"),
        ("a clock state by name", {2: "synchronised"}, DecodeReason.WRONG_TYPE, "clock"),
        ("a clock state as a boolean", {2: True}, DecodeReason.WRONG_TYPE, "clock"),
        ("bytes for a text", {4: b"1.0"}, DecodeReason.WRONG_TYPE, "firmware"),
        ("an empty text", {4: ""}, DecodeReason.INVALID_VALUE, "firmware"),
        ("49 characters", {4: "đ" * 49}, DecodeReason.INVALID_VALUE, "firmware"),
        ("U+0000", {4: "1\0"}, DecodeReason.INVALID_VALUE, "firmware"),
        ("a map for a record's field", {6: {0: {0: 1}}}, DecodeReason.WRONG_TYPE, "network.type"),
        ("an array for a record", {6: [0]}, DecodeReason.WRONG_TYPE, "network"),
        ("a nested missing field", {6: {}}, DecodeReason.MISSING_FIELD, "network.type"),
        ("a nested value", {6: {0: 0, 1: 1}}, DecodeReason.INVALID_VALUE, "network.signal_dbm"),
        ("a map for an array", {24: {0: 1}}, DecodeReason.WRONG_TYPE, "faulty_channels"),
        ("a wrong item", {24: [1, "2"]}, DecodeReason.WRONG_TYPE, "faulty_channels.1"),
        ("an item out of range", {24: [1, 17]}, DecodeReason.INVALID_VALUE, "faulty_channels.1"),
        ("too many items", {24: [1] * 17}, DecodeReason.INVALID_VALUE, "faulty_channels"),
        ("a short UUID", {21: {0: {0: 1, 1: bytes(15)}, 1: 0}}, DecodeReason.INVALID_VALUE, "playing.reference.id"),
        ("a UUID as text", {21: {0: {0: 1, 1: "a" * 16}, 1: 0}}, DecodeReason.WRONG_TYPE, "playing.reference.id"),
        ("a critical field", {128: 0}, DecodeReason.CRITICAL_FIELD, ""),
        ("a nested critical field", {6: {0: 0, 500: 0}}, DecodeReason.CRITICAL_FIELD, "network"),
        ("a negative key", {-1: 0}, DecodeReason.WRONG_TYPE, ""),
        ("a text key", {"volume": 0}, DecodeReason.WRONG_TYPE, ""),
        ("a float key", {99.5: 0}, DecodeReason.WRONG_TYPE, ""),
        ("a key that is null", {None: 0}, DecodeReason.WRONG_TYPE, ""),
        ("a key that is an array", {(1, 2): 0}, DecodeReason.WRONG_TYPE, ""),
    ],
)
def test_a_wrong_field_is_named(name: str, changes: dict[Any, Any], reason: DecodeReason, field: str) -> None:
    data = {key: value for key, value in (PLAIN | changes).items() if value is not ABSENT}
    with pytest.raises(DecodeError) as refusal:
        codec.decode_heartbeat(cbor2.dumps(data))
    assert (refusal.value.reason, refusal.value.field) == (reason, field)


def test_a_boolean_key_is_not_an_integer_key() -> None:
    # For Python, True and 1 are one key of a dictionary.
    payload = codec.dumps(PLAIN).replace(b"\x02\x01\x03", b"\x02\x01\xf5", 1)
    with pytest.raises(DecodeError):
        codec.decode_heartbeat(payload)
    assert reason_of(codec.decode_presence, bytes.fromhex("a1f501")) is DecodeReason.WRONG_TYPE


@pytest.mark.parametrize("value", [None, cbor2.undefined, 1.5, math.nan, "?", b"", [], {}, {"x": [None]}, 2**64 - 1])
def test_an_unknown_field_is_ignored_whatever_it_holds(value: object) -> None:
    for key in (9_9, 127):
        assert codec.decode_heartbeat(codec.dumps({**PLAIN, key: value})) == HEARTBEAT
    nested = codec.dumps({**PLAIN, 6: {0: 0, 127: value}})
    assert codec.decode_heartbeat(nested) == codec.decode_heartbeat(codec.dumps({**PLAIN, 6: {0: 0}}))


def test_an_empty_array_is_an_absent_one() -> None:
    assert codec.decode_heartbeat(codec.dumps({**PLAIN, 24: []})) == HEARTBEAT
    assert 24 not in wire.to_wire(HEARTBEAT)


@pytest.mark.parametrize("payload", ["00", "f6", "80", "60", "40", "f5", "f93c00", "81a0"])
@pytest.mark.parametrize("decode", DECODERS)
def test_a_message_is_a_map(decode: Callable[[bytes], object], payload: str) -> None:
    assert reason_of(decode, bytes.fromhex(payload)) is DecodeReason.WRONG_TYPE


def test_a_message_without_its_kind_is_not_filled_in() -> None:
    without_kind = codec.dumps({key: value for key, value in PLAIN.items() if key != 3})
    with pytest.raises(DecodeError, match="missing_field: kind"):
        codec.decode(ClusterHeartbeat, without_kind)
    with pytest.raises(DecodeError, match="invalid_value: kind"):
        codec.decode(SensorHeartbeat, codec.dumps(PLAIN))


@pytest.mark.parametrize("value", [0, -273, 2**53, 1e12, -1e12, 3.25, -0.0])
def test_an_integer_may_stand_for_a_float(value: float) -> None:
    sample = Sample(quantity="own", value=0.0, unit="1")
    data = wire.to_wire(Reading(device_at_ms=0, clock=ClockState.HOLDOVER, samples=(sample,)))
    data[3][0][1] = value
    if abs(value) > 1e12:
        assert reason_of(codec.decode_reading, codec.dumps(data)) is DecodeReason.INVALID_VALUE
    else:
        read = codec.decode_reading(codec.dumps(data)).samples[0].value
        assert (type(read), read) == (float, value)


# --- totality ----------------------------------------------------------------------------------------------------------


def refusal_of(decode: Callable[[bytes], object], payload: bytes) -> DecodeError | None:
    """Return why `payload` is refused, or None when it is read; every other exception is a failure."""
    try:
        decode(payload)
    except DecodeError as error:
        return error
    return None


def refuses_or_reads(payload: bytes) -> None:
    for decode in DECODERS:
        refusal = refusal_of(decode, payload)
        assert refusal is None or len(str(refusal)) < 1_000


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_decode_error(payload: bytes) -> None:
    refuses_or_reads(payload)


# Plain CBOR data of every shape, so that decoding gets past the bytes and into the fields.
PLAIN_DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=40)
    | st.just(cbor2.undefined)
    | st.integers(0, 19).map(cbor2.CBORSimpleValue),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(0, 130) | st.text(max_size=3) | st.booleans(), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(st.dictionaries(st.integers(0, 130), PLAIN_DATA, max_size=12), st.sampled_from([None, 1, 2]), st.integers(0, 13))
def test_any_cbor_is_a_message_or_a_decode_error(data: dict[Any, Any], version: int | None, kind: int) -> None:
    refuses_or_reads(cbor2.dumps(data | {0: version, 3: kind} if version else data))


VECTORS = sorted(name for name in COMMITTED if name.endswith(".cbor"))


@settings(max_examples=500)
@given(st.sampled_from(VECTORS), st.data())
def test_a_damaged_vector_is_a_message_or_a_decode_error(name: str, data: st.DataObject) -> None:
    payload = bytearray(COMMITTED[name])
    assume(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(payload) - 1))
        match data.draw(st.sampled_from(["flip", "set", "insert", "delete", "truncate"])):
            case "flip":
                payload[place] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                payload[place] = data.draw(
                    st.sampled_from([0x00, 0x1B, 0x5B, 0x7F, 0x9F, 0xBB, 0xC2, 0xF6, 0xFB, 0xFF])
                )
            case "insert":
                payload.insert(place, data.draw(st.integers(0, 255)))
            case "delete":
                del payload[place]
            case _:
                del payload[place:]
        if not payload:
            break
    refuses_or_reads(bytes(payload))


@settings(max_examples=100)
@given(strategies.orders(), st.dictionaries(st.integers(100, 127), PLAIN_DATA, min_size=1, max_size=3))
def test_a_signed_message_with_any_extension_is_read_or_refused(order: Order, extension: dict[int, Any]) -> None:
    payload = codec.dumps({**wire.to_wire(order), **extension})
    refusal = refusal_of(lambda payload: codec.decode(type(order), payload, deterministic=True), payload)
    # True and 1 are two keys for CBOR and one for Python, which refuses what it cannot hold.
    allowed = {DecodeReason.TOO_DEEP, DecodeReason.TOO_LARGE, DecodeReason.DUPLICATE_KEY}
    assert refusal is None or refusal.reason in allowed
    if refusal is None:
        assert codec.decode(type(order), payload) == order


def test_a_plan_of_the_largest_size_is_read() -> None:
    emission = downlinks.orders()["plan_v1_board"]
    assert isinstance(emission, Plan)
    base = emission.emissions[0].model_copy(update={"text": "chữ"})
    many = tuple(
        base.model_copy(update={"item": n % 256, "occurrence_at_ms": n, "starts_at_ms": n}) for n in range(2_000)
    )
    data = wire.to_wire(emission) | {10: [wire.to_wire(one) for one in many], 11: []}
    payload = codec.dumps(data)
    assert len(payload) < limits.PLAN_BYTES
    assert len(codec.decode(Plan, payload, deterministic=True).emissions) == limits.MAX_EMISSIONS
