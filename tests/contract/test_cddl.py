"""`contract.cddl` and the decoder say the same, as judged by a CDDL validator that is not ours (pycddl).

pycddl 0.6 understands less than RFC 8610, so `prepared` says the same in the words it knows, and two things are judged
piece by piece: the items of an array (it does not look for unknown keys in them) and the parts of a COSE_Sign1 array (it
does not descend into `.cbor` there). What CDDL cannot say (`NOT_IN_CDDL`) is our decoder's alone to refuse, and listed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pycddl  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from schemas import codec, wire
from schemas.errors import DecodeError
from schemas.events import EVENTS, EventEnvelope
from schemas.heartbeats import HEARTBEATS
from schemas.presence import PresenceReport
from schemas.readings import Reading
from schemas.receipts import Receipt
from schemas.shapes import CRITICAL_KEY, Array, Constant, FieldShape, Integer, Map, Message, Record, shape_of
from services.local.describe import catalogue, documents
from services.local.describe.catalogue import dashed
from tests.support import strategies
from tests.support.vectors.committed import COMMITTED, DEVICE_SIGNED, GOLDEN, MALFORMED, SIGNED, TOLERATED, kind

CONTRACT = (Path(schemas.__file__).parent / "contract.cddl").read_text(encoding="utf-8")


def prepared(contract: str) -> str:
    """Return the contract as pycddl understands it; each line names what it gets wrong."""
    # Regular expressions are XSD's and therefore anchored (RFC 8610 section 3.8.3.1); pycddl searches.
    contract = re.sub(r'\.regexp "(.*)"', r'.regexp "^(\1)$"', contract)
    # Ranges of anything but unsigned integers are an error to it.
    contract = re.sub(r"(-\d+\.\d+)\.\.(\d+\.\d+)", r"(float .ge \1) .and (float .le \2)", contract)
    contract = re.sub(r"(-\d+)\.\.(\d+)(?!\.)", r"(int .ge \1) .and (int .le \2)", contract)
    # A choice of numbers inside an array is compared with its first number only.
    contract = re.sub(r"=\n  0 /(?:.*\n)(?:  \d+ /.*\n)*  (\d+) .*\n", r"= 0..\1\n", contract)
    # A computed key matches nothing, so the free ones are listed.
    return re.sub(
        r"^[a-z0-9-]+ = \{\n(?:.*\n)*?  \* extension => any\n", _with_listed_keys, contract, flags=re.MULTILINE
    )


def _with_listed_keys(match: re.Match[str]) -> str:
    named = {int(key) for key in re.findall(r"^  (?:\? )?(\d+):", match[0], re.MULTILINE)}
    free = "".join(f"  ? {key}: any,\n" for key in range(CRITICAL_KEY) if key not in named)
    return match[0].replace("  * extension => any\n", free)


PREPARED = prepared(CONTRACT)

ROOTS = {
    "heartbeat": "heartbeat-message",
    "reading": "reading-message",
    "event": "event-message",
    "event_body": "event-body",
    "presence": "presence-message",
    "receipt": "receipt-message",
}

# Golden bytes our decoder refuses and CDDL, which sees decoded values only, does not.
NOT_IN_CDDL = {
    # form of the encoding
    "malformed_duplicate_key",
    "malformed_indefinite_map",
    "malformed_indefinite_text",
    "malformed_tag",
    "malformed_too_deep",
    "malformed_too_large",
    "malformed_trailing_byte",
    "malformed_bignum",
    # values and rules between fields
    "malformed_nul_in_text",
    "malformed_receipt_ranges_touch",
    "malformed_reference_without_item",
    "malformed_unit",
}
# CDDL says these are wrong (zcbor agrees); pycddl takes text for `bstr .size 8` and an array for a choice of maps.
NOT_SEEN_BY_PYCDDL = {"malformed_text_for_bytes", "malformed_not_a_map"}
# Nor does it look at keys that are no numbers in a map whose own keys may all be absent, nor count arrays of arrays.
MUTANTS_NOT_SEEN_BY_PYCDDL = {"Alert.audience of a wrong type", "Area.polygons too long"}


@functools.cache
def validator(rule: str) -> pycddl.Schema:
    return pycddl.Schema(f"judged = {rule}\n{PREPARED}")


def accepts(rule: str, payload: bytes) -> bool:
    try:
        validator(rule).validate_cbor(payload)
    except pycddl.ValidationError:
        return False
    cls = CLASSES.get(rule)
    return cls is None or all(accepts(name, item) for name, item in items(cls, cbor2.loads(payload)))


def items(cls: type[Record], data: dict[int, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield the maps inside the arrays of a valid `data`, each with its rule."""
    for field in shape_of(cls).fields:
        match field.type:
            case Map(inner) if field.key in data:
                yield from items(inner, data[field.key])
            case Array(Map(inner)):
                for item in data.get(field.key, ()):
                    yield dashed(inner.__name__), codec.dumps(item)
            case _:
                pass


def signed_rule(message: str) -> str:
    """Return the rule of what is inside a signed message."""
    if message in DEVICE_SIGNED:
        return message.removeprefix("signed_").replace("_", "-")
    return dashed(SIGNED[message].__name__)


def accepts_signed(message: str, payload: bytes) -> bool:
    """Judge the parts of a COSE_Sign1 array one by one."""
    parts = cbor2.loads(payload)
    if not (isinstance(parts, list) and len(parts) == 4 and parts[1] == {}):
        return False
    protected, _, content, signature = parts
    if not (isinstance(protected, bytes) and isinstance(content, bytes) and isinstance(signature, bytes)):
        return False
    rule = signed_rule(message)
    return accepts(f"{dashed(message)}-header", protected) and accepts(rule, content) and len(signature) == 64


CLASSES: dict[str, type[Record]] = {
    dashed(cls.__name__): cls for cls in (*strategies.MESSAGES, *catalogue.parts()) if issubclass(cls, Record)
}


def judge(message: str, payload: bytes) -> bool:
    return accepts(ROOTS[message], payload) if message in ROOTS else accepts_signed(message, payload)


def test_the_document_is_what_the_generator_makes() -> None:
    for path, content in documents.documents().items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name}: run python -m services.local.describe"


def test_every_payload_has_a_root() -> None:
    for entry in (*catalogue.UNSIGNED, *catalogue.DEVICE_SIGNED, *catalogue.SIGNED):
        assert re.search(rf"^{entry.name}-message =", CONTRACT, re.MULTILINE)


def test_the_signed_wrapper_is_stated() -> None:
    for name in (*SIGNED, *DEVICE_SIGNED):
        message = dashed(name)
        wrapper = (
            f"{message}-message = [\n  protected: bstr .cbor {message}-header,\n  unprotected: {{}},\n"
            f"  payload: bstr .cbor {signed_rule(name)},\n  signature: bstr .size 64,\n]\n"
        )
        assert wrapper in CONTRACT


@pytest.mark.parametrize("file", GOLDEN)
def test_the_validator_accepts_every_vector(file: str) -> None:
    assert judge(kind(file), COMMITTED[file])


@pytest.mark.parametrize("file", sorted(TOLERATED))
def test_the_validator_accepts_what_is_tolerated(file: str) -> None:
    assert judge(kind(TOLERATED[file]["like"]), COMMITTED[file])


JUDGED = sorted(
    file
    for file, expected in MALFORMED.items()
    if expected["message"] in ROOTS and file.removesuffix(".cbor") not in NOT_IN_CDDL | NOT_SEEN_BY_PYCDDL
)


@pytest.mark.parametrize("file", JUDGED)
def test_the_validator_refuses_malformed_vectors(file: str) -> None:
    # "malformed_event" vectors spoil the envelope; the body inside is fine.
    assert not judge(MALFORMED[file]["message"], COMMITTED[file])


@pytest.mark.parametrize(
    "case",
    [
        "not_signed",
        "short_signature",
        "es256",
        "no_algorithm",
        "is_a_command",
        "no_type",
        "crit_header",
        "unprotected_header",
        "detached",
        "critical_field",
    ],
)
def test_the_validator_refuses_malformed_signed_messages(case: str) -> None:
    assert not judge("plan", COMMITTED[f"malformed_plan_{case}.cbor"])


@pytest.mark.parametrize(
    "case", ["short_signature", "no_device", "other_type", "eddsa", "no_algorithm", "crit_header", "unprotected_header"]
)
def test_the_validator_refuses_what_no_device_signs(case: str) -> None:
    assert not judge("signed_reading", COMMITTED[f"malformed_signed_reading_{case}.cbor"])


# --- agreement on generated messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [cls for cls in strategies.MESSAGES if cls is not EventEnvelope])
def test_what_we_encode_the_validator_accepts(cls: type[Message]) -> None:
    @settings(max_examples=25)
    @given(strategies.messages(cls))
    def holds(message: Message) -> None:
        assert accepts(dashed(cls.__name__), codec.encode(message))

    holds()


@settings(max_examples=40)
@given(strategies.envelopes())
def test_an_envelope_is_judged_with_its_body(envelope: EventEnvelope) -> None:
    assert accepts("event-message", codec.encode(envelope))
    spoilt = envelope.model_copy(update={"body": envelope.body[:-1]})
    assert not accepts("event-message", codec.encode(spoilt))
    with pytest.raises(DecodeError):
        codec.decode_event(spoilt.body)


# --- agreement on mutants ----------------------------------------------------------------------------------------------


def mutants(cls: type[Record], data: dict[int, Any]) -> Iterator[tuple[str, dict[int, Any]]]:
    """Yield every way to break one field of `data`, a valid map of `cls`, and of the maps inside it."""
    for field in shape_of(cls).fields:
        if field.key not in data:
            continue
        name, value = f"{cls.__name__}.{field.name}", data[field.key]
        if field.required:
            yield f"{name} dropped", {key: item for key, item in data.items() if key != field.key}
        for what, bad in wrong_values(field, value):
            yield f"{name} {what}", {**data, field.key: bad}
        if isinstance(field.type, Map):
            for what, inner in mutants(field.type.cls, value):
                yield what, {**data, field.key: inner}
        if isinstance(field.type, Array) and isinstance(field.type.item, Map) and value:
            for what, inner in mutants(field.type.item.cls, value[0]):
                yield what, {**data, field.key: [inner, *value[1:]]}
    yield f"{cls.__name__} with a critical field", {**data, 128: 1}
    yield f"{cls.__name__} with a negative key", {**data, -1: 1}


def wrong_values(field: FieldShape, value: object) -> Iterator[tuple[str, object]]:
    yield "null", None
    yield "of a wrong type", {"text": 1}
    match field.type:
        case Integer(low, high):
            yield "below", low - 1
            yield "above", high + 1
            yield "a float", float(low)
            yield "a boolean", True
        case Constant(number):
            yield "another constant", int(number) + 90
        case wire_type if hasattr(wire_type, "members"):
            yield "an unknown number", 90
        case wire_type if hasattr(wire_type, "low"):
            yield from wrong_lengths(wire_type, value)
        case _:
            pass


def wrong_lengths(wire_type: Any, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, float):
        yield "above", wire_type.high * 2
        yield "below", wire_type.low * 2
        yield "not a number", float("nan")
        yield "infinite", float("inf")
    elif isinstance(value, (str, bytes, list)) and wire_type.high is not None:
        filler: Any = {str: "x", bytes: b"x", list: value[:1]}[type(value)]
        yield "too long", filler * (wire_type.high + 1)
        if wire_type.low:
            yield "too short", filler * (wire_type.low - 1)
    elif isinstance(value, str):
        yield "against its pattern", value + "\n"
        yield "empty", ""


OTHERS: tuple[type[Message], ...] = (Reading, PresenceReport, Receipt, *strategies.ORDERS)
DECODERS: dict[str, Callable[[bytes], object]] = {
    **{dashed(cls.__name__): codec.decode_heartbeat for cls in HEARTBEATS.values()},
    **{dashed(cls.__name__): codec.decode_event for cls in EVENTS.values()},
    **{dashed(cls.__name__): functools.partial(codec.decode, cls) for cls in OTHERS},
}

SAMPLES = [file for file in GOLDEN if kind(file) != "event"]


def plain(file: str) -> tuple[str, type[Message], dict[int, Any]]:
    """Return the rule, the class and the decoded map of a golden vector, without its signature."""
    name, payload = kind(file), COMMITTED[file]
    if name in DEVICE_SIGNED:
        payload = cbor2.loads(payload)[2]
    if name in SIGNED:
        cls: type[Message] = SIGNED[name]
        payload = cbor2.loads(payload)[2]
    else:
        cls = next(cls for cls in strategies.MESSAGES if _reads(cls, payload))
    return dashed(cls.__name__), cls, cbor2.loads(payload)


def _reads(cls: type[Message], payload: bytes) -> bool:
    try:
        codec.decode(cls, payload)
    except DecodeError:
        return False
    return True


@pytest.mark.parametrize("file", SAMPLES)
def test_decoder_and_validator_refuse_the_same_mutants(file: str) -> None:
    rule, cls, data = plain(file)
    assert accepts(rule, codec.dumps(data))
    for what, mutant in mutants(cls, data):
        payload = codec.dumps(mutant)
        if what not in MUTANTS_NOT_SEEN_BY_PYCDDL:
            assert not accepts(rule, payload), f"CDDL accepts {what}"
        with pytest.raises(DecodeError):
            DECODERS[rule](payload)
            pytest.fail(f"the decoder accepts {what}")


@settings(max_examples=150)
@given(strategies.heartbeats() | strategies.events(), st.data())
def test_decoder_and_validator_refuse_the_same_mutants_of_any_uplink(message: Message, data: st.DataObject) -> None:
    rule = dashed(type(message).__name__)
    choices = list(mutants(type(message), wire.to_wire(message)))
    what, mutant = data.draw(st.sampled_from(choices))
    payload = codec.dumps(mutant)
    assert not accepts(rule, payload), f"CDDL accepts {what}"
    with pytest.raises(DecodeError):
        DECODERS[rule](payload)


@pytest.mark.parametrize("file", SAMPLES)
def test_decoder_and_validator_accept_unknown_fields(file: str) -> None:
    rule, cls, data = plain(file)
    unknown = next(key for key in range(127, 0, -1) if key not in shape_of(cls).by_key)
    payload = codec.dumps({**data, unknown: {"any": [None, 1.5, "thing"]}})
    if len(payload) <= cls.SIZE_LIMIT:
        assert accepts(rule, payload)
        assert DECODERS[rule](payload) == codec.decode(cls, codec.dumps(data))
