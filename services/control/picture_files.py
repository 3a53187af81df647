"""What a picture file is made of: PNG (ISO/IEC 15948) and JPEG (ITU-T T.81), walked part by part. Pure.

Decoders are lenient: they stop at the end of the picture and never look at what lies behind it, so a file may be a
picture to us and an archive, a page or a second picture to somebody else. Here every byte must belong to the picture,
and what the picture would unpack to is known and bounded before anything is unpacked.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
JPEG_HEAD = b"\xff\xd8\xff"

# 8K: more than any board shows, and what a frame of it takes is still modest. A larger picture is a slip or a bomb.
MAX_PIXELS = 7_680 * 4_320

_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type of a PNG
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
# Where each pass of an interlaced PNG begins and how far its pixels lie apart: (x, y, dx, dy).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATED_AT_ONCE = 1 << 20
# Each costs a decoder the whole picture once more; cameras write one, careful encoders a dozen.
_MAX_SCANS = 100
# Notes that are packed: whoever reads them unpacks them, so they count by what they unpack to.
_PACKED_NOTES = frozenset({b"iCCP", b"zTXt", b"iTXt"})
_MAX_NOTES = 4 << 20  # unpacked; colour profiles are the largest honest ones


class Flaw(enum.Enum):
    """Why a file is no honest picture."""

    DAMAGED = enum.auto()
    FOREIGN_BYTES = enum.auto()  # bytes that belong to no part of the picture
    ANIMATED = enum.auto()
    TOO_MANY_PIXELS = enum.auto()


class BadPicture(Exception):
    """The file is not taken; `detail` is for whoever looks into it."""

    def __init__(self, flaw: Flaw, detail: str) -> None:
        super().__init__(f"{flaw.name} {detail}")
        self.flaw = flaw
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The size in pixels, and how many bytes of the file say something about the picture instead of being it."""

    width: int
    height: int
    notes: int


def inspect(data: bytes) -> Picture:
    """Walk a PNG or JPEG to its last byte. Raises `BadPicture`."""
    return _png(data) if data.startswith(PNG_HEAD) else _jpeg(data)


def _check_size(width: int, height: int) -> None:
    if width == 0 or height == 0:
        raise BadPicture(Flaw.DAMAGED, "no size")
    if width * height > MAX_PIXELS:
        raise BadPicture(Flaw.TOO_MANY_PIXELS, f"{width}x{height}")


# --- PNG -------------------------------------------------------------------------------------------------------------


def _png(data: bytes) -> Picture:
    header: bytes | None = None
    packed: list[bytes] = []
    notes = unpacked = 0
    for kind, body in _chunks(data):
        if (header is None) != (kind == b"IHDR"):
            raise BadPicture(Flaw.DAMAGED, "IHDR is not first, or not alone")
        if kind == b"IHDR":
            header = body
            if len(header) != 13:
                raise BadPicture(Flaw.DAMAGED, "IHDR")
            _check_size(int.from_bytes(header[:4]), int.from_bytes(header[4:8]))
        elif kind == b"IDAT":
            packed.append(body)
        elif kind in _ANIMATION:
            raise BadPicture(Flaw.ANIMATED, kind.decode())
        elif kind[0] & 0x20:  # ancillary
            notes += len(body)
            unpacked += _unpacked(kind, body, _MAX_NOTES - unpacked)
        elif kind not in (b"PLTE", b"IEND"):
            raise BadPicture(Flaw.DAMAGED, "unknown critical chunk")
    if header is None:
        raise BadPicture(Flaw.DAMAGED, "no IHDR")
    _check_unpacked(packed, _raw_size(header))
    return Picture(width=int.from_bytes(header[:4]), height=int.from_bytes(header[4:8]), notes=notes)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk with its checksum checked; the last one is IEND and ends the file."""
    place = len(PNG_HEAD)
    while True:
        length = int.from_bytes(data[place : place + 4])
        end = place + 12 + length
        if end > len(data) or len(data) < place + 12:
            raise BadPicture(Flaw.DAMAGED, "it ends in the middle")
        kind, body = data[place + 4 : place + 8], data[place + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end]):
            raise BadPicture(Flaw.DAMAGED, "checksum")
        yield kind, body
        place = end
        if kind == b"IEND":
            break
    if place != len(data):
        raise BadPicture(Flaw.FOREIGN_BYTES, f"{len(data) - place} behind the end")


def _unpacked(kind: bytes, body: bytes, room: int) -> int:
    """How many bytes a note unpacks to. Raises `BadPicture` when it is no stream, or beyond `room`."""
    if kind not in _PACKED_NOTES:
        return 0
    _, _, rest = body.partition(b"\0")  # its name; then how it is packed, of which there is one way
    if kind == b"iTXt":
        flags, rest = rest[:2], rest[2:]
        if flags[:1] != b"\1":
            return 0
        packed = rest.split(b"\0", 2)[-1]  # behind its language and the name in it
    else:
        packed = rest[1:]
    stream = zlib.decompressobj()
    try:
        size = len(stream.decompress(packed, room + 1))
    except zlib.error as error:
        raise BadPicture(Flaw.DAMAGED, kind.decode()) from error
    if size > room:
        raise BadPicture(Flaw.FOREIGN_BYTES, f"{kind.decode()} unpacks to more than {_MAX_NOTES}")
    return size


def _raw_size(header: bytes) -> int:
    """How many bytes the rows of the picture are, each with its filter byte."""
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    depth, colour, compression, filtering, interlace = header[8:13]
    if depth not in _DEPTHS.get(colour, ()) or compression != 0 or filtering != 0 or interlace > 1:
        raise BadPicture(Flaw.DAMAGED, "IHDR")
    bits = depth * _CHANNELS[colour]

    def size(columns: int, rows: int) -> int:
        return rows * (1 + -(-columns * bits // 8)) if columns else 0

    if not interlace:
        return size(width, height)
    return sum(size(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _PASSES)


def _check_unpacked(packed: list[bytes], expected: int) -> None:
    """The packed rows must be exactly one stream that unpacks to exactly the picture."""
    stream = zlib.decompressobj()
    size = 0
    try:
        for part in packed:
            rest = part
            while rest and not stream.eof:
                size += len(stream.decompress(rest, _INFLATED_AT_ONCE))
                rest = stream.unconsumed_tail
                if size > expected:
                    raise BadPicture(Flaw.FOREIGN_BYTES, "more rows than the picture has")
            if stream.eof and (stream.unused_data or rest):
                raise BadPicture(Flaw.FOREIGN_BYTES, "behind the rows")
    except zlib.error as error:
        raise BadPicture(Flaw.DAMAGED, "rows") from error
    if not stream.eof or size != expected:
        raise BadPicture(Flaw.DAMAGED, "rows are missing")


# --- JPEG ------------------------------------------------------------------------------------------------------------

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NOTES = frozenset({*range(0xE0, 0xF0), 0xFE})
_START_OF_SCAN, _END = 0xDA, 0xD9


def _jpeg(data: bytes) -> Picture:
    size: tuple[int, int] | None = None
    notes, scans = 0, 0
    place = 2
    while True:
        marker, place = _marker(data, place)
        if marker == _END:
            break
        length = int.from_bytes(data[place : place + 2])
        if length < 2 or place + length > len(data):
            raise BadPicture(Flaw.DAMAGED, "it ends in the middle")
        body = data[place + 2 : place + length]
        place += length
        if marker in _NOTES:
            notes += length
        elif marker in _FRAMES:
            if size is not None or len(body) < 6:
                raise BadPicture(Flaw.DAMAGED, "frame")
            size = int.from_bytes(body[3:5]), int.from_bytes(body[1:3])
            _check_size(*size)
        elif marker == _START_OF_SCAN:
            if size is None:
                raise BadPicture(Flaw.DAMAGED, "a scan before its frame")
            scans += 1
            if scans > _MAX_SCANS:
                raise BadPicture(Flaw.FOREIGN_BYTES, "more scans than a picture has")
            place = _end_of_scan(data, place)
    if size is None or not scans:
        raise BadPicture(Flaw.DAMAGED, "no picture in it")
    if place != len(data):
        raise BadPicture(Flaw.FOREIGN_BYTES, f"{len(data) - place} behind the end")
    return Picture(width=size[0], height=size[1], notes=notes)


def _marker(data: bytes, place: int) -> tuple[int, int]:
    """The marker at `place` and where its segment begins; markers may be preceded by filling bytes."""
    if data[place : place + 1] != b"\xff":
        raise BadPicture(Flaw.DAMAGED, "no marker")
    while data[place : place + 1] == b"\xff":
        place += 1
    if place >= len(data):
        raise BadPicture(Flaw.DAMAGED, "it ends in the middle")
    return data[place], place + 1


def _end_of_scan(data: bytes, place: int) -> int:
    """Where the entropy-coded data ends: at the first marker that is neither a stuffed byte nor a restart."""
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            raise BadPicture(Flaw.DAMAGED, "it ends in the middle")
        following = data[place + 1]
        if following != 0 and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return place
        place += 1 if following == 0xFF else 2
