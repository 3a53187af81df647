"""A class that cannot be described to a vendor is refused when it is compiled."""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, create_model

from schemas import fields, shapes
from schemas.shapes import (
    Array,
    Boolean,
    Bytes,
    Constant,
    Enumeration,
    Integer,
    Key,
    Map,
    Message,
    Number,
    Record,
    Text,
    Uuid,
    shape_of,
    wire_type,
)
from tests.support.strategies import MESSAGES


class Colour(enum.IntEnum):
    RED = 0


class Inner(Record):
    number: Annotated[int, Key(0), Field(ge=0, le=9)]


def one_field(annotation: Any) -> type[Record]:
    return create_model("Odd", __base__=Record, field=(annotation, ...))


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Annotated[int, Field(ge=-5, le=9)], Integer(-5, 9)),
        (Annotated[int | None, Field(ge=0, le=9)], Integer(0, 9)),
        (fields.Percent, Integer(0, 100)),
        (fields.Percent | None, Integer(0, 100)),
        (Annotated[fields.Label | None, Key(3)], Text(1, 48, fields.NO_NUL)),
        (Annotated[float, Field(ge=-1.5, le=2.0)], Number(-1.5, 2.0)),
        (bool, Boolean()),
        (uuid.UUID, Uuid()),
        (fields.Sha256, Bytes(32, 32)),
        (Annotated[str, Field(pattern="^a$")], Text(0, None, "^a$")),
        (Colour, Enumeration(Colour)),
        (Literal[1], Constant(1)),
        (Inner, Map(Inner)),
        (
            Annotated[tuple[Annotated[int, Field(ge=1, le=2)], ...], Field(max_length=3)],
            Array(Integer(1, 2), 0, 3),
        ),
        (Annotated[tuple[Inner, ...], Field(min_length=1, max_length=3)], Array(Map(Inner), 1, 3)),
    ],
)
def test_an_annotation_has_one_wire_type(annotation: Any, expected: shapes.WireType) -> None:
    assert wire_type(annotation) == expected


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (Annotated[int, Key(0)], "needs ge"),
        (Annotated[int, Key(0), Field(ge=0)], "needs le"),
        (Annotated[fields.Percent, Key(0), Field(ge=1)], "given 2 times"),
        (Annotated[float, Key(0), Field(ge=0)], "needs le"),
        (Annotated[str, Key(0), Field(max_length=5)], "needs pattern"),
        (Annotated[bytes, Key(0)], "needs max_length"),
        (Annotated[tuple[Inner, ...], Key(0)], "needs max_length"),
        (Annotated[tuple[int, int], Key(0)], "tuples of one type"),
        (Annotated[tuple[int, ...], Key(0), Field(max_length=3)], "needs ge"),
        (Annotated[int | bool, Key(0)], "no wire form"),
        (Annotated[object, Key(0)], "no wire form"),
        (Annotated[complex, Key(0)], "no wire form"),
        (int, "exactly one Key"),
        (Annotated[bool, Key(0), Key(1)], "exactly one Key"),
        (Annotated[bool, Key(128)], "keys must differ"),
        (Annotated[bool, Key(-1)], "keys must differ"),
    ],
)
def test_a_field_without_a_bounded_wire_form_is_refused(annotation: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        shape_of(one_field(annotation))


def test_two_fields_cannot_share_a_key() -> None:
    class Twice(Record):
        one: Annotated[bool, Key(1)]
        two: Annotated[bool, Key(1)]

    with pytest.raises(TypeError, match="keys must differ"):
        shape_of(Twice)


def test_fields_stand_in_the_order_of_their_keys() -> None:
    class Shuffled(Record):
        late: Annotated[bool, Key(9)]
        early: Annotated[bool, Key(2)] = False

    assert [field.name for field in shape_of(Shuffled).fields] == ["early", "late"]


def test_constants_are_required_although_python_fills_them_in() -> None:
    class Marked(Message):
        SIZE_LIMIT: ClassVar[int] = 10
        version: fields.Version = 1
        maybe: Annotated[bool, Key(1)] = True

    version, maybe = shape_of(Marked).fields
    assert (version.required, version.default) == (True, None)
    assert (maybe.required, maybe.default) == (False, True)


@pytest.mark.parametrize("cls", MESSAGES)
def test_every_message_begins_with_its_version(cls: type[Message]) -> None:
    first = shape_of(cls).fields[0]
    assert (first.key, first.name, first.type) == (0, "version", Constant(1))
    assert cls.SIZE_LIMIT > 0
