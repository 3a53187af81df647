"""CBOR as people read and write it: diagnostic notation (RFC 8949 section 8, and `<< >>` of RFC 8610 appendix G). Pure.

Reading is for bytes that may be anything: it goes as far as they can be read and says where they cannot. Writing takes
what a person typed and gives the deterministic encoding, or says where it stopped making sense.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any, Final, NamedTuple

import cbor2

from schemas import codec
from schemas.errors import DecodeError

_DEEPEST: Final = 16  # twice what any message nests: beyond it nobody reads on
_SIMPLE: Final = {20: "false", 21: "true", 22: "null", 23: "undefined"}
_INDEFINITE: Final = 31
_MAP: Final = 5  # major type


# --- bytes to text ---------------------------------------------------------------------------------------------------


class _Unreadable(Exception):
    """Where and why no more can be read, and what was read until then."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(problem)
        self.position = position
        self.problem = problem


class _Reader:
    def __init__(self, payload: bytes, *, depth: int) -> None:
        self._payload = payload
        self._outside = depth
        self.position = 0
        self.written: list[str] = []

    def item(self, depth: int = 0) -> None:
        """Write one data item; raises `_Unreadable`, with what came before it written."""
        at = self.position
        if self._outside + depth > _DEEPEST:
            raise _Unreadable(at, "nested too deep")
        major, info, argument = self._head()
        match major:
            case 0:
                self._write(str(argument))
            case 1:
                self._write(str(-1 - argument))
            case 2 | 3 if info == _INDEFINITE:
                self._items("(_ ", ")", None, depth)
            case 2:
                self._write(_bytes(self._take(argument), depth=self._outside + depth + 1))
            case 3:
                self._write(_text(self._take(argument)))
            case 4:
                self._items("[_ " if info == _INDEFINITE else "[", "]", self._count(info, argument), depth)
            case 5:
                self._items("{_ " if info == _INDEFINITE else "{", "}", self._count(info, argument), depth, pairs=True)
            case 6:
                self._write(f"{argument}(")
                self.item(depth + 1)
                self._write(")")
            case _:
                self._write(_float_or_simple(info, argument))

    def _items(self, start: str, end: str, count: int | None, depth: int, *, pairs: bool = False) -> None:
        self._write(start)
        done = 0
        while done != count:
            if count is None and self.position < len(self._payload) and self._payload[self.position] == 0xFF:
                self.position += 1
                break
            if done:
                self._write(", ")
            self.item(depth + 1)
            if pairs:
                self._write(": ")
                self.item(depth + 1)
            done += 1
        self._write(end)

    @staticmethod
    def _count(info: int, argument: int) -> int | None:
        return None if info == _INDEFINITE else argument

    def _head(self) -> tuple[int, int, int]:
        at = self.position
        (first,) = self._take(1)
        major, info = first >> 5, first & 0x1F
        if info < 24:
            return major, info, info
        if info < 28:
            return major, info, int.from_bytes(self._take(1 << info - 24), "big")
        if info == _INDEFINITE and major in (2, 3, 4, 5):
            return major, info, 0
        raise _Unreadable(at, f"no CBOR begins with 0x{first:02x}")

    def _take(self, count: int) -> bytes:
        taken = self._payload[self.position : self.position + count]
        if len(taken) < count:
            raise _Unreadable(self.position, f"{count} bytes should follow, {len(taken)} do")
        self.position += count
        return taken

    def _write(self, text: str) -> None:
        self.written.append(text)


def described(payload: bytes, *, depth: int = 0) -> str:
    """What the bytes say, as far as it can be read; the rest is named in a comment. They stand inside `depth` others."""
    reader = _Reader(payload, depth=depth)
    try:
        reader.item()
    except _Unreadable as error:
        reader.written.append(f" / byte {error.position}: {error.problem} /")
    else:
        left = len(payload) - reader.position
        if left:
            reader.written.append(f" / {left} more bytes after the item /")
    return "".join(reader.written).strip()


def _bytes(content: bytes, *, depth: int) -> str:
    """As CBOR where that is what the bytes hold (the body of an event does), else as hex."""
    if depth <= _DEEPEST and content[:1] and content[0] >> 5 == _MAP:
        try:
            if codec.dumps(codec.loads(content, size_limit=len(content))) == content:
                return f"<<{described(content, depth=depth)}>>"
        except DecodeError:
            pass
    return f"h'{content.hex()}'"


def _text(content: bytes) -> str:
    try:
        return json.dumps(content.decode("utf-8"), ensure_ascii=False)
    except UnicodeDecodeError:
        return f"h'{content.hex()}' / text, but not UTF-8 /"


def _float_or_simple(info: int, argument: int) -> str:
    match info:
        case 25:
            return _number(struct.unpack(">e", argument.to_bytes(2, "big"))[0])
        case 26:
            return _number(struct.unpack(">f", argument.to_bytes(4, "big"))[0])
        case 27:
            return _number(struct.unpack(">d", argument.to_bytes(8, "big"))[0])
        case _:
            return _SIMPLE.get(argument, f"simple({argument})")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


# --- text to bytes ---------------------------------------------------------------------------------------------------


class NotNotation(ValueError):
    """The text is no diagnostic notation; `position` counts characters from 1, `problem` says what is wrong there."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"character {position}: {problem}")
        self.position = position
        self.problem = problem


class _Word(NamedTuple):
    value: object


_WORDS: Final = {
    "true": _Word(True),
    "false": _Word(False),
    "null": _Word(None),
    "undefined": _Word(cbor2.undefined),
    "NaN": _Word(math.nan),
    "Infinity": _Word(math.inf),
    "-Infinity": _Word(-math.inf),
}
_BLANK = re.compile(r"(?:\s|/[^/]*/|\#[^\n]*)*")
_WORD = re.compile(r"-?[A-Za-z]+")
_NUMBER = re.compile(r"-?(?:0x[0-9a-fA-F]+|[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?)")
_HEX = re.compile(r"h'([0-9a-fA-F\s]*)'")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_LONGEST_NUMBER: Final = 40  # digits; 64 bits have 20


class _Writer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Any:
        value = self._item(0)
        self._skip()
        if self._at < len(self._text):
            raise self._wrong("nothing more is expected here")
        return value

    def _item(self, depth: int) -> Any:
        self._skip()
        if depth > _DEEPEST:
            raise self._wrong("nested too deep")
        rest = self._text[self._at : self._at + 2]
        if not rest:
            raise self._wrong("a value is expected here")
        if rest == "<<":
            return self._embedded(depth)
        match rest[0]:
            case "{":
                return self._map(depth)
            case "[":
                return self._array(depth)
            case '"':
                return self._string()
            case "h":
                return bytes.fromhex(self._hex())
            case character if character.isdigit() or (character == "-" and rest[1:].isdigit()):
                return self._number(depth)
            case _:
                return self._word()

    def _map(self, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for _ in self._members("{", "}"):
            self._skip()
            at = self._at
            key = self._item(depth + 1)
            if type(key) not in (int, str):
                raise NotNotation(at + 1, "a key is a whole number or a text")
            if key in result:
                raise NotNotation(at + 1, f"key {key!r} stands here twice")
            self._expect(":")
            result[key] = self._item(depth + 1)
        return result

    def _array(self, depth: int) -> list[Any]:
        return [self._item(depth + 1) for _ in self._members("[", "]")]

    def _members(self, start: str, end: str) -> Any:
        self._expect(start)
        if self._found(end):
            return
        while True:
            yield
            if self._found(end):
                return
            self._expect(",")

    def _embedded(self, depth: int) -> bytes:
        self._expect("<<")
        content = _encoded(self._item(depth + 1), at=self._at + 1)
        self._expect(">>")
        return content

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise self._wrong("this text is not closed with a quotation mark")
        try:
            value = json.loads(match.group())
        except ValueError:
            raise self._wrong("this text has an escape that does not exist") from None
        self._at = match.end()
        return str(value)

    def _hex(self) -> str:
        match = _HEX.match(self._text, self._at)
        if match is None:
            raise self._wrong("bytes are written h'0123ab'")
        digits = "".join(match.group(1).split())
        if len(digits) % 2:
            raise self._wrong("bytes have two hexadecimal digits each")
        self._at = match.end()
        return digits

    def _number(self, depth: int) -> Any:
        at = self._at
        match = _NUMBER.match(self._text, at)
        if match is None or len(match.group()) > _LONGEST_NUMBER:
            raise self._wrong("this is no number")
        self._at = match.end()
        if match.group(1) or match.group(2):
            return float(match.group())
        value = int(match.group(), 0 if "0x" in match.group() else 10)
        if not -(2**64) <= value < 2**64:
            raise NotNotation(at + 1, "whole numbers have 64 bits")
        if value >= 0 and self._found("("):
            tagged = cbor2.CBORTag(value, self._item(depth + 1))
            self._expect(")")
            return tagged
        return value

    def _word(self) -> Any:
        match = _WORD.match(self._text, self._at)
        found = _WORDS.get(match.group()) if match else None
        if match is None or found is None:
            raise self._wrong("a value is expected here")
        self._at = match.end()
        return found.value

    def _skip(self) -> None:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _found(self, token: str) -> bool:
        self._skip()
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _expect(self, token: str) -> None:
        if not self._found(token):
            raise self._wrong(f"{token} is expected here")

    def _wrong(self, problem: str) -> NotNotation:
        return NotNotation(self._at + 1, problem)


def written(text: str) -> bytes:
    """The deterministic encoding of what the notation says. Raises `NotNotation`."""
    return _encoded(_Writer(text).whole(), at=1)


def _encoded(value: Any, *, at: int) -> bytes:
    try:
        return codec.dumps(value)
    except (cbor2.CBOREncodeError, ValueError, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise NotNotation(at, f"this cannot be encoded: {str(error)[:80]}") from None
