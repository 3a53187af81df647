"""How a message class becomes a CBOR map: the machinery under every message, and nothing about any of them.

A message is a frozen pydantic model whose fields carry an integer map key (`Key`). This module compiles each class once
into a `Shape`, which turns a plain CBOR value into validated field values and back. Three rules keep it simple:

- a field that is not there is absent from the map; CBOR null is never sent and never accepted;
- enumerations travel as unsigned integers, UUIDs as 16-byte strings, everything else as itself;
- integers are accepted where a float is expected, nothing else is converted.
"""

from __future__ import annotations

import enum
import functools
import math
import types
import typing
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import DecodeError, DecodeReason

CRITICAL_KEY = 128  # keys from here on must be understood (see the package docstring)
VERSION = 1


@dataclass(frozen=True, slots=True)
class Key:
    """The integer map key of a field."""

    number: int


class Record(BaseModel):
    """A map inside a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Message(Record):
    """A whole message; field `version` (key 0) is its major version and is always `VERSION`."""

    SIZE_LIMIT: ClassVar[int]


RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True, slots=True)
class FieldShape:
    """One field: its map key, its Python name, how to read it and whether it may be absent."""

    key: int
    name: str
    annotation: Any
    required: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """The compiled map of one class: fields by key."""

    cls: type[Record]
    by_key: Mapping[int, FieldShape]
    by_name: Mapping[str, FieldShape]


@functools.cache
def shape_of(cls: type[Record]) -> Shape:
    """Return the compiled shape of `cls`; raises `TypeError` when a field has no key or two fields share one."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[FieldShape] = []
    for name, info in cls.model_fields.items():
        keys = [meta for meta in _metadata(hints[name]) if isinstance(meta, Key)]
        if len(keys) != 1:
            raise TypeError(f"{cls.__name__}.{name} needs exactly one Key")
        fields.append(FieldShape(keys[0].number, name, _bare(hints[name]), info.is_required()))
    by_key = {field.key: field for field in fields}
    if len(by_key) != len(fields):
        raise TypeError(f"{cls.__name__} uses a key twice")
    return Shape(cls, by_key, {field.name: field for field in fields})


def _metadata(hint: Any) -> tuple[Any, ...]:
    return tuple(getattr(hint, "__metadata__", ()))


def _bare(hint: Any) -> Any:
    """Return `hint` without Annotated and without `| None`."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    if get_origin(hint) in (Union, types.UnionType):
        rest = [argument for argument in get_args(hint) if argument is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else hint
    return hint


def to_wire(value: Any) -> Any:
    """Return `value` (a message, a record or anything inside one) as plain CBOR data with ascending map keys."""
    if isinstance(value, Record):
        shape = shape_of(type(value))
        pairs = (
            (field.key, item)
            for field in shape.by_name.values()
            if (item := getattr(value, field.name)) is not None and item != ()
        )
        return {key: to_wire(item) for key, item in sorted(pairs, key=lambda pair: pair[0])}
    if isinstance(value, enum.IntEnum):
        return int(value)
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, tuple):
        return [to_wire(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value


def from_wire(cls: type[RecordT], data: object, path: str = "") -> RecordT:
    """Return `data`, a decoded CBOR value, as a `cls`; raises `DecodeError` naming the field."""
    if not isinstance(data, dict):
        raise DecodeError(DecodeReason.WRONG_TYPE, path, f"expected a map, got {type(data).__name__}")
    shape = shape_of(cls)
    if issubclass(cls, Message):
        _check_version(data)
    values: dict[str, Any] = {}
    for key, item in data.items():
        field = shape.by_key.get(key) if type(key) is int else None
        if field is not None:
            values[field.name] = _read(field.annotation, item, _join(path, field.name))
        elif type(key) is not int or key < 0:
            raise DecodeError(DecodeReason.WRONG_TYPE, path, "map keys are unsigned integers")
        elif key >= CRITICAL_KEY:
            raise DecodeError(DecodeReason.CRITICAL_FIELD, path, f"field {key} is critical and unknown")
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = _join(path, ".".join(str(part) for part in first["loc"]))
        reason = DecodeReason.MISSING_FIELD if first["type"] == "missing" else DecodeReason.INVALID_VALUE
        raise DecodeError(reason, where, first["msg"]) from None


def _check_version(data: dict[object, object]) -> None:
    if 0 not in data:
        raise DecodeError(DecodeReason.MISSING_FIELD, "version", "no version")
    version = data[0]
    if type(version) is not int:
        raise DecodeError(DecodeReason.WRONG_TYPE, "version", f"expected an integer, got {type(version).__name__}")
    if version != VERSION:
        raise DecodeError(DecodeReason.UNSUPPORTED_VERSION, "version", f"major version {version}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _wrong(path: str, expected: str, item: object) -> DecodeError:
    return DecodeError(DecodeReason.WRONG_TYPE, path, f"expected {expected}, got {type(item).__name__}")


def _read(annotation: Any, item: object, path: str) -> Any:
    origin = get_origin(annotation)
    if origin is tuple:
        return _read_tuple(annotation, item, path)
    if origin is typing.Literal:
        # A literal names one member of an enumeration (the discriminator) or a plain number.
        member = get_args(annotation)[0]
        return _read(type(member), item, path)
    if isinstance(annotation, typing.NewType):
        return _read(annotation.__supertype__, item, path)
    if not isinstance(annotation, type):
        raise TypeError(f"{path}: {annotation!r} has no wire form")
    if issubclass(annotation, Record):
        return from_wire(annotation, item, path)
    if issubclass(annotation, enum.IntEnum):
        return _read_enum(annotation, item, path)
    if annotation is uuid.UUID:
        if type(item) is not bytes or len(item) != 16:
            raise _wrong(path, "16 bytes", item)
        return uuid.UUID(bytes=item)
    if annotation is float:
        return _read_float(item, path)
    expected = annotation if annotation in (int, bool, bytes) else str
    if type(item) is not expected:
        raise _wrong(path, expected.__name__, item)
    return item


def _read_tuple(annotation: Any, item: object, path: str) -> tuple[Any, ...]:
    if not isinstance(item, list):
        raise _wrong(path, "an array", item)
    arguments = get_args(annotation)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        inner = _bare(arguments[0])
        return tuple(_read(inner, part, f"{path}.{index}") for index, part in enumerate(item))
    if len(item) != len(arguments):
        raise DecodeError(DecodeReason.WRONG_TYPE, path, f"expected {len(arguments)} elements, got {len(item)}")
    return tuple(
        _read(_bare(inner), part, f"{path}.{index}")
        for index, (inner, part) in enumerate(zip(arguments, item, strict=True))
    )


def _read_enum(annotation: type[enum.IntEnum], item: object, path: str) -> enum.IntEnum:
    if type(item) is not int:
        raise _wrong(path, "an enumeration number", item)
    try:
        return annotation(item)
    except ValueError:
        raise DecodeError(DecodeReason.INVALID_VALUE, path, f"unknown {annotation.__name__} {item}") from None


def _read_float(item: object, path: str) -> float:
    if type(item) is not float and type(item) is not int:
        raise _wrong(path, "a number", item)
    try:
        number = float(item)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DecodeError(DecodeReason.INVALID_VALUE, path, "not a finite number")
    return number


def to_json(value: Any) -> Any:
    """Return `value` as JSON data for people: field names, enumeration names in lower case, bytes in hex."""
    if isinstance(value, Record):
        shape = shape_of(type(value))
        return {
            field.name: to_json(item)
            for field in shape.by_name.values()
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
