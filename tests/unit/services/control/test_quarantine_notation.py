"""CBOR as people read and write it: reading never fails, writing says where it does."""

from __future__ import annotations

from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from schemas import codec
from services.control.quarantine_notation import NotNotation, described, written

VECTORS = sorted((Path(schemas.__file__).parent / "vectors").glob("*_v1_*.cbor"))


@pytest.mark.parametrize(
    "path", [each for each in VECTORS if not each.name.startswith("tolerated")], ids=lambda p: p.stem
)
def test_every_message_of_the_contract_is_read_and_written_back(path: Path) -> None:
    payload = path.read_bytes()
    assert written(described(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("a10001", "{0: 1}"),
        ("8301820203820405", "[1, [2, 3], [4, 5]]"),
        ("3903e7", "-1000"),
        ("fb3ff199999999999a", "1.1"),
        ("f97e00", "NaN"),
        ("f9fc00", "-Infinity"),
        ("f7", "undefined"),
        ("f0", "simple(16)"),
        ("c11a514b67b0", "1(1363896240)"),
        ("4401020304", "h'01020304'"),
        ("43a10001", "<<{0: 1}>>"),
        ("64f0908591", '"𐅑"'),
        ("62225c", '"\\"\\\\"'),
        ("5f42010243030405ff", "(_ h'0102', h'030405')"),
        ("9f018202039f0405ffff", "[_ 1, [2, 3], [_ 4, 5]]"),
        ("bf00f5ff", "{_ 0: true}"),
    ],
)
def test_what_is_there_is_shown(payload: str, text: str) -> None:
    assert described(bytes.fromhex(payload)) == text


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ("", "byte 0: 1 bytes should follow, 0 do"),
        ("a20001", "{0: 1,  / byte 3"),
        ("1c", "no CBOR begins with 0x1c"),
        ("ff", "no CBOR begins with 0xff"),
        ("9bffffffffffffffff", "byte 9"),
        ("7bffffffffffffffff61", "18446744073709551615 bytes should follow, 1 do"),
        ("0102", "1 / 1 more bytes after the item /"),
        ("62ff00", "text, but not UTF-8"),
        ("81" * 100, "nested too deep"),
        ("c1" * 100, "nested too deep"),
    ],
)
def test_what_cannot_be_read_is_said(payload: str, problem: str) -> None:
    assert problem in described(bytes.fromhex(payload))


def test_bytes_within_bytes_are_not_followed_for_ever() -> None:
    payload = codec.dumps({0: 1})
    for _ in range(400):
        payload = codec.dumps({0: payload})
    assert len(described(payload)) < 3 * len(payload)


@given(st.binary(max_size=400))
def test_any_bytes_can_be_shown_on_one_line(payload: bytes) -> None:
    assert "\n" not in described(payload)


SCALARS = st.one_of(
    st.integers(-(2**64), 2**64 - 1),
    st.booleans(),
    st.none(),
    st.binary(max_size=20),
    st.text(max_size=20),
    st.floats(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 300), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_what_was_read(value: object) -> None:
    payload = codec.dumps(value)
    shown = described(payload)
    if "nested too deep" not in shown:
        assert written(shown) == payload


@given(st.text(max_size=60) | st.text(alphabet="{}[]<>,:\"'h01 /#-.eNa()", max_size=60))
def test_any_text_is_notation_or_said_not_to_be(text: str) -> None:
    refusal = None
    try:
        cbor2.loads(written(text))
    except NotNotation as error:
        refusal = error
    assert refusal is None or 1 <= refusal.position <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 1, "a value is expected here"),
        ("{0: 1", 6, ", is expected here"),
        ("{0 1}", 4, ": is expected here"),
        ("{0: 1, 0: 2}", 8, "key 0 stands here twice"),
        ("{h'00': 1}", 2, "a key is a whole number or a text"),
        ("{1.5: 1}", 2, "a key is a whole number or a text"),
        ("h'0'", 1, "two hexadecimal digits"),
        ("h'0g'", 1, "bytes are written"),
        ('"abc', 1, "not closed"),
        ('"\\q"', 1, "escape"),
        ("99999999999999999999", 1, "64 bits"),
        ("9" * 50, 1, "no number"),
        ("1 2", 3, "nothing more"),
        ("nil", 1, "a value is expected here"),
        ("[" * 100, 18, "nested too deep"),
        ("<<{0: 1}", 9, ">> is expected here"),
        ('"\\ud800"', 1, "cannot be encoded"),
    ],
)
def test_what_is_no_notation_is_named_with_its_place(text: str, position: int, problem: str) -> None:
    with pytest.raises(NotNotation, match=problem.replace("(", r"\(")) as caught:
        written(text)
    assert caught.value.position == position


def test_comments_and_line_breaks_are_for_people() -> None:
    assert written("{ / version / 0: 1, # more\n 1: h'00 ff' }") == bytes.fromhex("a20001014200ff")
