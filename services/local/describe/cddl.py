"""The contract in CDDL (RFC 8610).

Every named field stands with a colon, which cuts: a named field with a wrong value is never excused as an extension.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import assert_never

from schemas import fields
from schemas.events import EventEnvelope
from schemas.fields import NO_NUL
from schemas.shapes import (
    CRITICAL_KEY,
    Array,
    Boolean,
    Bytes,
    Constant,
    Enumeration,
    FieldShape,
    Integer,
    Map,
    Number,
    Record,
    Text,
    Uuid,
    WireType,
    shape_of,
    wire_type,
)
from services.local.describe import catalogue
from services.local.describe.catalogue import Entry, dashed

_HEADER = """\
; Wire contract of Loa, version 1, in CDDL (RFC 8610).
; Made from the message classes by `python -m services.local.describe`; a test compares it, so do not edit it.
;
; What CDDL cannot say stands in README.md beside this file and in the comments: deterministic encoding of what is signed,
; definite lengths, no duplicate keys, no tags, sizes, rules between fields, and that no text holds U+0000.
; Times are milliseconds since 1970-01-01T00:00:00Z. Lengths of texts count characters.
"""

# Types that several messages share, by the name they carry in the document.
_NAMED: dict[WireType, str] = {
    wire_type(fields.Instant): "instant",
    wire_type(fields.Percent): "percent",
    wire_type(fields.TenthsCelsius): "tenths-celsius",
    wire_type(fields.Sha256): "sha256",
    wire_type(fields.Label): "label",
    wire_type(fields.Note): "note",
    wire_type(fields.Title): "title",
    wire_type(fields.Body): "body",
    wire_type(fields.DeviceName): "device-name",
    Uuid(): "uuid",
}

# A byte string that holds a message of its own.
_EMBEDDED: dict[tuple[type[Record], str], str] = {(EventEnvelope, "body"): "said-event"}


def document() -> str:
    """Return the whole document."""
    return "\n".join([_HEADER, *_payloads(), *_bodies(), *_parts(), *_scalars(), _extensions()])


def _payloads() -> Iterator[str]:
    """Yield the roots: what a payload of each kind is."""
    yield _title("Payloads")
    for entry in catalogue.UNSIGNED:
        yield f"; At most {entry.size_limit} bytes."
        yield from _choice(f"{entry.name}-message", entry)
        yield ""
    for entry in (*catalogue.DEVICE_SIGNED, catalogue.SIGNED_BODIES):
        content = dashed(entry.classes[0].__name__) if len(entry.classes) == 1 else catalogue.EVENT_BODIES.name
        yield f"; In the place of {content}, by a device that has enrolled. COSE_Sign1 (RFC"
        yield f"; 9052), untagged, ES256. At most {entry.size_limit} bytes, signature (r and s, 32 bytes each) included."
        yield f"{entry.name}-message = ["
        yield f"  protected: bstr .cbor {entry.name}-header,"
        yield "  unprotected: {},"
        yield f"  payload: bstr .cbor {content},"
        yield "  signature: bstr .size 64,"
        yield "]"
        yield f"{entry.name}-header = {{"
        yield "  1: -7,                ; alg: ES256"
        yield "  4: bstr .size 8,      ; kid: first 8 bytes of SHA-256 over the key's SubjectPublicKeyInfo (DER)"
        yield "  15: {2: device-name}, ; CWT claims (RFC 9597), sub: the device that says it"
        yield f'  16: "{entry.media_type}"'
        yield "}"
        yield ""
    for entry in catalogue.SIGNED:
        name = f"{entry.name}-message"
        yield f"; COSE_Sign1 (RFC 9052), untagged, Ed25519. At most {entry.size_limit} bytes."
        yield f"{name} = ["
        yield f"  protected: bstr .cbor {entry.name}-header,"
        yield "  unprotected: {},"
        yield f"  payload: bstr .cbor {dashed(entry.classes[0].__name__)},"
        yield "  signature: bstr .size 64,"
        yield "]"
        yield f"{entry.name}-header = {{"
        yield "  1: -8,                ; alg: EdDSA"
        yield "  4: bstr .size 8,      ; kid: first 8 bytes of SHA-256 over the public key"
        yield f'  16: "{entry.media_type}"'
        yield "}"
        yield ""


def _bodies() -> Iterator[str]:
    yield _title("Messages")
    yield from _choice(catalogue.EVENT_BODIES.name, catalogue.EVENT_BODIES)
    yield ""
    yield f"said-event = {catalogue.EVENT_BODIES.name} / {catalogue.SIGNED_BODIES.name}-message"
    yield ""
    for cls in catalogue.message_classes():
        yield from _map(cls)


def _parts() -> Iterator[str]:
    yield _title("Parts of messages")
    for part in catalogue.parts():
        if issubclass(part, enum.IntEnum):
            yield from _enumeration(part)
        else:
            yield from _map(part)


def _scalars() -> Iterator[str]:
    yield _title("Values")
    for named, name in _NAMED.items():
        yield f"{name} = {_spelled_out(named)}"
    yield ""


def _extensions() -> str:
    return f"""\
; Keys of fields a newer minor version may add: who does not know them ignores them. A key from {CRITICAL_KEY} on is critical:
; who does not know it refuses the message.
extension = uint .lt {CRITICAL_KEY}
"""


def _title(text: str) -> str:
    return f"; --- {text} {'-' * (112 - len(text))}\n"


def _choice(name: str, entry: Entry) -> Iterator[str]:
    names = [dashed(cls.__name__) for cls in entry.classes]
    if len(names) == 1:
        yield f"{name} = {names[0]}"
        return
    yield f"{name} ="
    for index, alternative in enumerate(names):
        yield f"  {alternative}{' /' if index < len(names) - 1 else ''}"


def _map(cls: type[Record]) -> Iterator[str]:
    for line in catalogue.promise_lines(cls):
        yield f"; {line}".rstrip()
    yield f"{dashed(cls.__name__)} = {{"
    for field in shape_of(cls).fields:
        mark = "" if field.required else "? "
        entry = f"  {mark}{field.key}: {_field_type(cls, field)},"
        yield f"{entry:<56}; {_remark(field)}"
    yield "  * extension => any"
    yield "}"
    yield ""


def _field_type(cls: type[Record], field: FieldShape) -> str:
    if embedded := _EMBEDDED.get((cls, field.name)):
        return f"bstr .cbor {embedded}"
    return _spelled(field.type)


def _remark(field: FieldShape) -> str:
    match field.type:
        case Constant(enum.IntEnum() as member):
            return f"{field.name}: {dashed(member.name)}"
        case _ if field.default is None or field.default == ():
            return field.name
        case _:
            default = field.default
            shown = dashed(default.name) if isinstance(default, enum.IntEnum) else str(default).lower()
            return f"{field.name}; {shown} when absent"


def _enumeration(members: type[enum.IntEnum]) -> Iterator[str]:
    for line in catalogue.promise_lines(members):
        yield f"; {line}".rstrip()
    # Not `&(name: 0, …)`, which says the same and which tools for microcontrollers (zcbor) do not read.
    yield f"{dashed(members.__name__)} ="
    *others, last = members
    for member in others:
        yield f"{f'  {member.value} /':<8}; {dashed(member.name)}"
    yield f"{f'  {last.value}':<8}; {dashed(last.name)}"
    yield ""


def _spelled(value: WireType) -> str:
    return _NAMED.get(value) or _spelled_out(value)


def _spelled_out(value: WireType) -> str:
    match value:
        case Integer(low, high):
            return f"{low}..{high}"
        case Number(low, high):
            return f"{_decimal(low)}..{_decimal(high)} / {int(low)}..{int(high)}"
        case Boolean():
            return "bool"
        case Text():
            return f'tstr .regexp "{_regexp(value)}"'
        case Bytes(low, high):
            return f"bstr .size {low}" if low == high else f"bstr .size ({low}..{high})"
        case Uuid():
            return "bstr .size 16"
        case Enumeration(members):
            return dashed(members.__name__)
        case Constant(number):
            return str(int(number))
        case Array(item, low, high):
            return f"[{low}*{high} {_spelled(item)}]"
        case Map(cls):
            return dashed(cls.__name__)
        case _:
            assert_never(value)


def _regexp(text: Text) -> str:
    """Return the XSD regular expression (always anchored, RFC 8610 section 3.8.3) of `text`."""
    if text.pattern == NO_NUL:
        # XSD's dot leaves line ends out; the escapes are CDDL's, so the expression holds the characters themselves.
        return rf"(.|\n|\r){{{text.low},{text.high}}}"
    expression = text.pattern.removeprefix("^").removesuffix("$")
    if "\\" in expression or "(?" in expression or text.high is not None or text.low:
        raise ValueError(f"no portable CDDL regular expression for {text}")
    return expression


def _decimal(number: float) -> str:
    """Return `number` without an exponent: `1e12` is CDDL, but not for every parser."""
    return f"{number:.1f}"
