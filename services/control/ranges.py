"""HTTP byte ranges (RFC 9110, section 14): what part of a file a request asks for. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Whole:
    """The file as it is (status 200)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes [`start`, `end`) of it (status 206)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Nothing of it (status 416)."""


def requested(header: str | None, size: int) -> Whole | Slice | Unsatisfiable:
    """What a Range header asks of a file of `size` bytes.

    Several ranges, other units and malformed headers are answered with the whole, as the RFC allows: a device asks for
    one range, to go on where its download broke off.
    """
    match = _SINGLE.fullmatch(header) if header else None
    if match is None or match.group(1) == match.group(2) == "":
        return Whole()
    first, last = match.groups()
    if first == "":
        length = int(last)
        return Slice(max(0, size - length), size) if length and size else Unsatisfiable()
    start = int(first)
    if last and int(last) < start:
        return Whole()  # an invalid range is ignored
    if start >= size:
        return Unsatisfiable()
    return Slice(start, min(size, int(last) + 1) if last else size)


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names `etag` (weak comparison) or everything."""
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in tags or etag in tags
