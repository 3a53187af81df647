"""What a message class is made of: map keys and wire types, compiled once from the class itself.

A message is a frozen pydantic model whose fields carry an integer map key (`Key`). `shape_of` reads such a class into a
`Shape` of plain values that the decoder, the encoder and the generators of the CDDL and AsyncAPI documents share, so
none of them can drift from the class. A class that could not be described to a hardware vendor (an integer without
bounds, a text without a pattern) is refused when it is compiled, not when the first odd message arrives.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

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


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer from `low` to `high`, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from `low` to `high`, sent as a float or an integer."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 of `low` to `high` characters (code points; no upper bound of its own when the pattern bounds it)."""

    low: int
    high: int | None
    pattern: str


@dataclass(frozen=True, slots=True)
class Bytes:
    """A byte string of `low` to `high` bytes."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Uuid:
    """A UUID as its 16 bytes."""


@dataclass(frozen=True, slots=True)
class Enumeration:
    """The number of one member of `members`."""

    members: type[enum.IntEnum]


@dataclass(frozen=True, slots=True)
class Constant:
    """One number and no other: the major version, or the member that tells messages of one family apart."""

    value: int


@dataclass(frozen=True, slots=True)
class Array:
    """`low` to `high` items, in order."""

    item: WireType
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Map:
    """A map of its own shape."""

    cls: type[Record]


WireType = Integer | Number | Boolean | Text | Bytes | Uuid | Enumeration | Constant | Array | Map


@dataclass(frozen=True, slots=True)
class FieldShape:
    """One field: its map key, its Python name, its type on the wire, whether it has to be there and what absence means.

    Constants have to be there, although Python fills them in for whoever makes a message.
    """

    key: int
    name: str
    type: WireType
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Shape:
    """The compiled map of one class, its fields in ascending order of their keys."""

    cls: type[Record]
    fields: tuple[FieldShape, ...]
    by_key: Mapping[int, FieldShape]


@functools.cache
def shape_of(cls: type[Record]) -> Shape:
    """Return the compiled shape of `cls`.

    Raises `TypeError` when a field has no key, two fields share one, or a field's type has no (bounded) wire form.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = []
    for name, info in cls.model_fields.items():
        where = f"{cls.__name__}.{name}"
        annotation, metadata = _unwrap(hints[name])
        keys = [meta.number for meta in metadata if isinstance(meta, Key)]
        if len(keys) != 1:
            raise TypeError(f"{where} needs exactly one Key")
        on_wire = _type_of(annotation, metadata, where)
        required = info.is_required() or isinstance(on_wire, Constant)
        fields.append(FieldShape(keys[0], name, on_wire, required, None if required else info.default))
    fields.sort(key=lambda field: field.key)
    by_key = {field.key: field for field in fields}
    if len(by_key) != len(fields) or any(not 0 <= key < CRITICAL_KEY for key in by_key):
        raise TypeError(f"{cls.__name__}: keys must differ and lie in 0 to {CRITICAL_KEY - 1}")
    return Shape(cls, tuple(fields), by_key)


def wire_type(annotation: Any) -> WireType:
    """Return the wire type of an annotation such as `fields.Percent`; raises `TypeError` when it has none."""
    return _type_of(*_unwrap(annotation), str(annotation))


def _unwrap(hint: Any) -> tuple[Any, list[Any]]:
    """Return `hint` without `Annotated` and `| None`, and everything that was annotated on the way."""
    metadata: list[Any] = []
    while True:
        if hasattr(hint, "__metadata__"):
            metadata.extend(hint.__metadata__)
            hint = hint.__origin__
        elif get_origin(hint) in (Union, types.UnionType):
            rest = [argument for argument in get_args(hint) if argument is not type(None)]
            if len(rest) != 1:
                return hint, metadata
            hint = rest[0]
        else:
            return hint, metadata


def _type_of(annotation: Any, metadata: list[Any], where: str) -> WireType:
    if get_origin(annotation) is typing.Literal:
        (value,) = get_args(annotation)
        return Constant(value)
    if get_origin(annotation) is tuple:
        item, ellipsis = get_args(annotation)
        if ellipsis is not Ellipsis:
            raise TypeError(f"{where}: only tuples of one type and any length have a wire form")
        bound = _Bounds(metadata, where)
        return Array(_type_of(*_unwrap(item), f"{where}[]"), bound.least("min_length", 0), bound.must("max_length"))
    if not isinstance(annotation, type):
        raise TypeError(f"{where}: {annotation!r} has no wire form")
    return _plain_type(annotation, _Bounds(metadata, where))


def _plain_type(annotation: type, bound: _Bounds) -> WireType:
    if issubclass(annotation, Record):
        return Map(annotation)
    if issubclass(annotation, enum.IntEnum):
        return Enumeration(annotation)
    if annotation is bool:
        return Boolean()
    if annotation is uuid.UUID:
        return Uuid()
    if annotation is int:
        return Integer(bound.must("ge"), bound.must("le"))
    if annotation is float:
        return Number(bound.must("ge"), bound.must("le"))
    if annotation is bytes:
        return Bytes(bound.least("min_length", 0), bound.must("max_length"))
    if annotation is str:
        return Text(bound.least("min_length", 0), bound.find("max_length"), bound.must("pattern"))
    raise TypeError(f"{bound.where}: {annotation!r} has no wire form")


class _Bounds:
    """The constraints among a field's annotations. A bound given twice is refused: which one holds would be a guess."""

    def __init__(self, metadata: list[Any], where: str) -> None:
        self.where = where
        self._constraints = list(_constraints(metadata))

    def find(self, name: str) -> Any:
        found = [getattr(item, name) for item in self._constraints if getattr(item, name, None) is not None]
        if len(found) > 1:
            raise TypeError(f"{self.where}: {name} is given {len(found)} times")
        return found[0] if found else None

    def must(self, name: str) -> Any:
        if (value := self.find(name)) is None:
            raise TypeError(f"{self.where} needs {name}")
        return value

    def least(self, name: str, default: int) -> int:
        value = self.find(name)
        return default if value is None else int(value)


def _constraints(metadata: list[Any]) -> Iterator[Any]:
    for item in metadata:
        # pydantic's Field(...) keeps its constraints as a list of small objects, one attribute each.
        yield from getattr(item, "metadata", (item,))
