"""Messages ⇄ plain CBOR data: the machinery under every message, and nothing about any of them.

Three rules keep it simple:

- a field that is not there is absent from the map; CBOR null is never sent and never accepted, an empty array is the
  same as an absent one and is not sent;
- enumerations travel as unsigned integers, UUIDs as 16-byte strings, everything else as itself;
- integers are accepted where a float is expected, nothing else is converted.
"""

from __future__ import annotations

import enum
import functools
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, assert_never

from pydantic import ValidationError

from schemas.errors import DecodeError, DecodeReason
from schemas.shapes import (
    CRITICAL_KEY,
    VERSION,
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

_Reader = Callable[[object], Any]  # one decoded CBOR value → the Python value of the field; raises DecodeError


def from_wire(cls: type[RecordT], data: object) -> RecordT:
    """Return `data`, a decoded CBOR value, as a `cls`; raises `DecodeError` naming the field.

    Unknown fields below `CRITICAL_KEY` are ignored, whatever they hold.
    """
    if type(data) is not dict:
        raise _wrong("a map", data)
    if issubclass(cls, Message):
        check_version(data)
    readers = _readers(cls)
    values: dict[str, Any] = {}
    for key, item in data.items():
        if type(key) is not int or key < 0:
            raise DecodeError(DecodeReason.WRONG_TYPE, "", "map keys are unsigned integers")
        field = readers.get(key)
        if field is not None:
            name, read = field
            try:
                values[name] = read(item)
            except DecodeError as error:
                raise error.inside(name) from None
        elif key >= CRITICAL_KEY:
            raise DecodeError(DecodeReason.CRITICAL_FIELD, "", f"field {key} is critical and unknown")
    for name in _constants(cls):
        if name not in values:
            raise DecodeError(DecodeReason.MISSING_FIELD, name, f"no {name}")
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = DecodeReason.MISSING_FIELD if first["type"] == "missing" else DecodeReason.INVALID_VALUE
        raise DecodeError(reason, where, first["msg"]) from None


def check_version(data: dict[object, object]) -> None:
    """Refuse another major version before anything else is read: its fields may mean something else."""
    version = data.get(0)
    if type(version) is int and version != VERSION:
        raise DecodeError(DecodeReason.UNSUPPORTED_VERSION, "version", f"major version {version}")


@functools.cache
def _readers(cls: type[Record]) -> Mapping[int, tuple[str, _Reader]]:
    return {field.key: (field.name, _reader(field.type)) for field in shape_of(cls).fields}


@functools.cache
def _constants(cls: type[Record]) -> tuple[str, ...]:
    """Return the fields Python would fill in, but the wire has to name."""
    return tuple(field.name for field in shape_of(cls).fields if isinstance(field.type, Constant))


def _reader(wire_type: WireType) -> _Reader:
    """Return the function that reads a value of `wire_type`. Bounds and patterns are pydantic's to check."""
    match wire_type:
        case Integer():
            return _exactly(int, "an integer")
        case Constant(value):
            return _constant(value)
        case Boolean():
            return _exactly(bool, "true or false")
        case Text():
            return _exactly(str, "a text string")
        case Bytes():
            return _exactly(bytes, "a byte string")
        case Number():
            return _read_number
        case Uuid():
            return _read_uuid
        case Enumeration(members):
            return _enumeration(members)
        case Array(item):
            return _array(_reader(item))
        case Map(cls):
            return functools.partial(from_wire, cls)
        case _:
            assert_never(wire_type)


def _wrong(expected: str, item: object) -> DecodeError:
    return DecodeError(DecodeReason.WRONG_TYPE, "", f"expected {expected}, got {type(item).__name__}")


def _exactly(expected: type, name: str) -> _Reader:
    def read(item: object) -> Any:
        # `type() is`, not isinstance: True is an int for Python and is none on the wire.
        if type(item) is not expected:
            raise _wrong(name, item)
        return item

    return read


def _constant(value: int) -> _Reader:
    def read(item: object) -> int:
        if type(item) is not int:
            raise _wrong("an integer", item)
        if item != value:
            raise DecodeError(DecodeReason.INVALID_VALUE, "", f"expected {int(value)}, got {item}")
        return value  # the member of the enumeration, where there is one

    return read


def _read_number(item: object) -> float:
    if type(item) is int:
        item = float(item)  # at most 64 bits wide: larger ones are tagged, and tags do not get here
    if type(item) is not float:
        raise _wrong("a number", item)
    return item  # NaN and infinities are pydantic's to refuse, like every other value out of bounds


def _read_uuid(item: object) -> uuid.UUID:
    if type(item) is not bytes:
        raise _wrong("16 bytes", item)
    if len(item) != 16:
        raise DecodeError(DecodeReason.INVALID_VALUE, "", f"expected 16 bytes, got {len(item)}")
    return uuid.UUID(bytes=item)


def _enumeration(members: type[enum.IntEnum]) -> _Reader:
    by_number: dict[int, enum.IntEnum] = {member.value: member for member in members}

    def read(item: object) -> enum.IntEnum:
        if type(item) is not int:
            raise _wrong("an enumeration number", item)
        member = by_number.get(item)
        if member is None:
            raise DecodeError(DecodeReason.INVALID_VALUE, "", f"unknown {members.__name__} {item}")
        return member

    return read


def _array(read_item: _Reader) -> _Reader:
    def read(item: object) -> tuple[Any, ...]:
        if type(item) is not list:
            raise _wrong("an array", item)
        values = []
        for index, part in enumerate(item):
            try:
                values.append(read_item(part))
            except DecodeError as error:
                raise error.inside(str(index)) from None
        return tuple(values)

    return read


def to_wire(value: Any) -> Any:
    """Return `value` (a message, a record or anything inside one) as plain CBOR data with ascending map keys."""
    if isinstance(value, Record):
        data = {}
        for key, name, write in _writers(type(value)):
            item = getattr(value, name)
            if item is not None and item != _EMPTY:
                data[key] = item if write is None else write(item)
        return data
    if isinstance(value, enum.IntEnum):
        return int(value)
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, tuple):
        return [to_wire(item) for item in value]
    return value


_EMPTY: tuple[object, ...] = ()


@functools.cache
def _writers(cls: type[Record]) -> tuple[tuple[int, str, Callable[[Any], Any] | None], ...]:
    """Key and name of every field, and what turns its value into CBOR data; None where it is that already."""
    return tuple((field.key, field.name, _writer(field.type)) for field in shape_of(cls).fields)


def _writer(wire_type: WireType) -> Callable[[Any], Any] | None:
    match wire_type:
        case Integer() | Boolean() | Text() | Bytes() | Number():
            return None
        case Constant() | Enumeration():
            return int
        case Uuid():
            return _bytes_of
        case Array() | Map():
            return to_wire
        case _:
            assert_never(wire_type)


def _bytes_of(identity: uuid.UUID) -> bytes:
    return identity.bytes


@functools.cache
def holds_numbers(cls: type[Record]) -> bool:
    """Whether a float may stand anywhere in a `cls`."""
    return any(_holds_numbers(field.type) for field in shape_of(cls).fields)


def _holds_numbers(wire_type: WireType) -> bool:
    match wire_type:
        case Number():
            return True
        case Array(item):
            return _holds_numbers(item)
        case Map(cls):
            return holds_numbers(cls)
        case _:
            return False


def to_json(value: Any) -> Any:
    """Return `value` as JSON data for people: field names, enumeration names in lower case, bytes in hex."""
    if isinstance(value, Record):
        return {
            field.name: to_json(item)
            for field in shape_of(type(value)).fields
            if (item := getattr(value, field.name)) is not None and item != ()
        }
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value
