"""XML from strangers as a small tree, or the reason why not. Pure.

Document type declarations are refused where they begin, so there are no entities of anybody's making: nothing external is
ever looked at, and nothing can grow. Size, depth and the number of elements are bounded. Comments, processing
instructions and attributes are passed over; what stands in another namespace than the one asked for is passed over whole
(a signature, say) and its names are told.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_BYTES = 4 * 1024 * 1024  # with a sound or picture inside; the largest weather warnings are about 1 MiB
MAX_DEPTH = 32
MAX_ELEMENTS = 100_000
_MAX_FOREIGN_NAMES = 16
# Joins namespace and name in what expat hands out; neither can hold it.
_SEPARATOR = "\n"


class Flaw(enum.StrEnum):
    """Why a document is no tree of ours."""

    TOO_LARGE = "cap_too_large"
    MALFORMED = "cap_malformed"
    HAS_DTD = "cap_has_dtd"
    TOO_DEEP = "cap_too_deep"
    TOO_MANY = "cap_too_many_elements"
    WRONG_NAMESPACE = "cap_wrong_namespace"
    WRONG_ROOT = "cap_wrong_root"


class BadXml(ValueError):
    """The document cannot be taken; `facts` are what a text about it names."""

    def __init__(self, flaw: Flaw, **facts: object) -> None:
        self.flaw = flaw
        self.facts = facts
        super().__init__(f"{flaw} {facts}")


@dataclass(slots=True)
class Element:
    """An element of the namespace asked for: its name, its own text, and the elements within, in document order."""

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Element]:
        """The elements of that name directly within."""
        return (child for child in self.children if child.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A document: its outermost element, and the foreign elements that were passed over, as `{namespace}name`."""

    root: Element
    foreign: tuple[str, ...]


def read(data: bytes, *, namespace: str, root: str) -> Tree:
    """The document whose outermost element is `root` of that namespace. Raises `BadXml`."""
    if len(data) > MAX_BYTES:
        raise BadXml(Flaw.TOO_LARGE, limit=MAX_BYTES // (1024 * 1024))
    builder = _Builder(namespace, root)
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.StartElementHandler = lambda name, _: builder.start(name, parser.CurrentLineNumber)
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(_without_blank_head(data), True)
    except expat.ExpatError as error:
        raise BadXml(Flaw.MALFORMED, line=error.lineno, reason=expat.ErrorString(error.code)) from None
    except (LookupError, ValueError) as error:  # an encoding nobody knows, or one that is not of single bytes
        if isinstance(error, BadXml):
            raise
        raise BadXml(Flaw.MALFORMED, line=1, reason="unknown encoding") from None
    assert builder.root is not None
    return Tree(root=builder.root, foreign=tuple(builder.foreign))


def _without_blank_head(data: bytes) -> bytes:
    """Without white space before the declaration: not well-formed, but common, and it means nothing."""
    return data.lstrip(b" \t\r\n")


class _Builder:
    """Takes a parser's events and keeps the tree."""

    def __init__(self, namespace: str, root: str) -> None:
        self._namespace = namespace
        self._root_name = root
        self._open: list[Element] = []
        self._skipping = 0  # how deep inside something foreign
        self._elements = 0
        self._chunks: list[list[str]] = []
        self.root: Element | None = None
        self.foreign: dict[str, None] = {}

    def doctype(self, *_: object) -> None:
        raise BadXml(Flaw.HAS_DTD)

    def start(self, qualified: str, line: int) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise BadXml(Flaw.TOO_MANY, limit=MAX_ELEMENTS)
        if len(self._open) + self._skipping >= MAX_DEPTH:
            raise BadXml(Flaw.TOO_DEEP, limit=MAX_DEPTH)
        namespace, _, name = qualified.rpartition(_SEPARATOR)
        if self.root is None:
            self._check_root(namespace, name)
        if self._skipping or namespace != self._namespace:
            self._skip(namespace, name)
            return
        element = Element(name, line)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._chunks.append([])

    def end(self, _: str) -> None:
        if self._skipping:
            self._skipping -= 1
            return
        self._open.pop().text = "".join(self._chunks.pop()).strip()

    def text(self, data: str) -> None:
        if not self._skipping and self._chunks:
            self._chunks[-1].append(data)

    def _check_root(self, namespace: str, name: str) -> None:
        if name != self._root_name:
            raise BadXml(Flaw.WRONG_ROOT, name=name[:64], expected=self._root_name)
        if namespace != self._namespace:
            raise BadXml(Flaw.WRONG_NAMESPACE, namespace=namespace[:100] or "–", expected=self._namespace)

    def _skip(self, namespace: str, name: str) -> None:
        if not self._skipping and len(self.foreign) < _MAX_FOREIGN_NAMES:
            self.foreign[f"{{{namespace[:100]}}}{name[:64]}"] = None
        self._skipping += 1
