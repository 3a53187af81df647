"""XML from strangers as a small tree, or the reason why not. Pure.

Document type declarations are refused where they begin, so there are no entities of anybody's making: nothing external is
ever looked at, and nothing can grow. Size, depth and the number of elements are bounded. Comments, processing
instructions and attributes are passed over. What stands in another namespace than the one asked for is kept apart under
its whole name: a signature is nothing to the reader, but a word in bold is part of the sentence.
"""

from __future__ import annotations

import codecs
import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_BYTES = 4 * 1024 * 1024  # with a sound or picture inside; the largest weather warnings are about 1 MiB
MAX_DEPTH = 32
MAX_ELEMENTS = 100_000
# Elements of markup that part words which stand on both sides of them.
_PARTING = frozenset(
    {"br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "li", "ol", "p", "table", "td", "th", "tr", "ul"}
)
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
    """An element: its name, and the text and elements within, in document order. `foreign` is its namespace, if another."""

    name: str
    line: int
    foreign: str | None = None
    parts: list[str | Element] = field(default_factory=list)

    @property
    def children(self) -> Iterator[Element]:
        """The elements of the namespace asked for directly within."""
        return (each for each in self.parts if isinstance(each, Element) and each.foreign is None)

    @property
    def strangers(self) -> Iterator[Element]:
        """The elements of other namespaces directly within."""
        return (each for each in self.parts if isinstance(each, Element) and each.foreign is not None)

    @property
    def text(self) -> str:
        """All words within, those of elements too, in document order: whoever reads a sentence drops none of it."""
        return "".join(_words(self)).strip()

    @property
    def own_text(self) -> str:
        """The words that stand in no element within."""
        return "".join(each for each in self.parts if isinstance(each, str)).strip()

    def all(self, name: str) -> Iterator[Element]:
        """The elements of that name directly within."""
        return (child for child in self.children if child.name == name)


def _words(element: Element) -> Iterator[str]:
    for each in element.parts:
        if isinstance(each, str):
            yield each
            continue
        parts_words = each.name.lower() in _PARTING
        yield "\n" if parts_words else ""
        yield from _words(each)
        yield "\n" if parts_words else ""


def read(data: bytes, *, namespace: str, root: str) -> Element:
    """The outermost element of the document, which is `root` of that namespace. Raises `BadXml`."""
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
    return builder.root


def _without_blank_head(data: bytes) -> bytes:
    """Without white space before the declaration: not well-formed, but common, and it means nothing."""
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    return mark + data.removeprefix(mark).lstrip(b" \t\r\n")


class _Builder:
    """Takes a parser's events and keeps the tree."""

    def __init__(self, namespace: str, root: str) -> None:
        self._namespace = namespace
        self._root_name = root
        self._open: list[Element] = []
        self._elements = 0
        self.root: Element | None = None

    def doctype(self, *_: object) -> None:
        raise BadXml(Flaw.HAS_DTD)

    def start(self, qualified: str, line: int) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise BadXml(Flaw.TOO_MANY, limit=MAX_ELEMENTS)
        if len(self._open) >= MAX_DEPTH:
            raise BadXml(Flaw.TOO_DEEP, limit=MAX_DEPTH)
        namespace, _, name = qualified.rpartition(_SEPARATOR)
        element = Element(name, line, namespace if namespace != self._namespace else None)
        if self.root is None:
            self._check_root(namespace, name)
            self.root = element
        else:
            self._open[-1].parts.append(element)
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        if self._open:
            self._open[-1].parts.append(data)

    def _check_root(self, namespace: str, name: str) -> None:
        if name != self._root_name:
            raise BadXml(Flaw.WRONG_ROOT, name=name[:64], expected=self._root_name)
        if namespace != self._namespace:
            raise BadXml(Flaw.WRONG_NAMESPACE, namespace=namespace[:100] or "–", expected=self._namespace)
