"""What a sound file says of itself, where that can be held against what it is: WAV and FLAC heads, and other files inside. Pure.

Our decoder believes no header; those of devices are many, and some do. A file that holds a second sound, or says another
rate than it has, may be heard by whoever approves it as one thing and sound as another. And a sound with an archive at
its end is an archive to whoever opens it as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

# An archive (ZIP, and what is made of it) is found by its last record, which lies in the last 64 KiB of the file.
ARCHIVE_TAIL = 65_535 + 22
# A document (PDF) may begin anywhere in here.
DOCUMENT_HEAD = 1_024

# Readers differ in what else of the record they ask for. Chance leaves these bytes in one file of 65,000.
_END_OF_ARCHIVE = b"PK\x05\x06"
# Forms of WAV in which a block is one sample of each channel: PCM, floating point, A-law, mu-law, and "see below".
_SAMPLE_BY_SAMPLE = frozenset({1, 3, 6, 7, 0xFFFE})
_MOST_PARTS = 1_000  # a walk over millions of empty ones would cost minutes
_TO_THE_END = frozenset({0, 0xFFFFFFFF})  # of a file that was written while nobody knew how long it would be


class Dishonest(Exception):
    """The file says something of itself that is not so; the message is for whoever looks into it."""


class Foreign(Exception):
    """The file holds something that is no part of the sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the head of a FLAC file says it holds; `samples` is None where it says nothing."""

    rate_hz: int
    channels: int
    samples: int | None


def check_no_other_file(head: bytes, tail: bytes) -> None:
    """Raise `Foreign` where a file is an archive or a document besides; its first and last bytes tell."""
    if b"%PDF-" in head[:DOCUMENT_HEAD]:
        raise Foreign("a document")
    if _END_OF_ARCHIVE in tail[-ARCHIVE_TAIL:]:
        raise Foreign("an archive")


def check_wav(file: BinaryIO, size: int) -> None:
    """Walk a WAV file part by part: one format, one sound of that format behind it, nothing after the end.

    The sound may be shorter than was promised, as in a recording that broke off: it ends with the file then. Raises
    `Dishonest` or `Foreign`.
    """
    file.seek(4)
    promised = int.from_bytes(file.read(4), "little")
    end = size if promised in _TO_THE_END else min(size, 8 + promised)
    has_format, has_sound = False, False
    place, parts = 12, 0
    while place + 8 <= end:
        parts += 1
        if parts > _MOST_PARTS:
            raise Foreign("more parts than a sound has")
        file.seek(place)
        kind, length = file.read(4), int.from_bytes(file.read(4), "little")
        if kind == b"fmt ":
            if has_format:
                raise Foreign("a second format")
            _check_format(file.read(min(length, 40)))
            has_format = True
        elif kind == b"data":
            if has_sound:
                raise Foreign("a second sound")
            if not has_format or length == 0:
                raise Dishonest("a sound without a format, or without a length")
            has_sound = True
        place += 8 + length + length % 2
    if not has_sound:
        raise Dishonest("no sound")
    if end < size - 1:  # not all writers count the filling byte at the end
        raise Foreign("behind the end")


def _check_format(body: bytes) -> None:
    if len(body) < 16:
        raise Dishonest("format")
    tag, channels, rate, a_second, block, bits = (
        int.from_bytes(body[begin:end], "little")
        for begin, end in ((0, 2), (2, 4), (4, 8), (8, 12), (12, 14), (14, 16))
    )
    if tag not in _SAMPLE_BY_SAMPLE:
        return  # packed in blocks of a size of its own
    if block != channels * -(-bits // 8) or a_second != rate * block:
        raise Dishonest(f"{channels} channels of {bits} bits are not {block} bytes, or not {a_second} a second")


def promise_of_flac(head: bytes) -> Promise:
    """What STREAMINFO says (RFC 9639, 8.2), which comes first. Raises `Dishonest`."""
    if len(head) < 42 or head[4] & 0x7F != 0 or head[5:8] != b"\0\0\x22":
        raise Dishonest("no stream information")
    fields = int.from_bytes(head[18:26])
    return Promise(
        rate_hz=fields >> 44,
        channels=(fields >> 41 & 0b111) + 1,
        samples=fields & 0xF_FFFF_FFFF or None,
    )
