"""Pictures are walked to the last byte, and nothing is unpacked before its size is known."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.picture_files import MAX_PIXELS, BadPicture, Flaw, Picture, inspect
from tests.support import pictures
from tests.support.pictures import chunk, png


@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 48), (48, 64), (321, 7)])
def test_the_size_is_read_off_the_file(form: str, width: int, height: int) -> None:
    picture = inspect(pictures.picture(form, width=width, height=height))
    assert (picture.width, picture.height) == (width, height)


def interlaced(width: int, height: int) -> bytes:
    """A grey picture in seven passes; written out here pixel by pixel."""
    sizes = []
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        columns, rows = len(range(x, width, dx)), len(range(y, height, dy))
        sizes.append(rows * (1 + columns) if columns else 0)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(sum(sizes)))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (17, 33)])
def test_interlaced_rows_are_counted_by_passes(width: int, height: int) -> None:
    assert inspect(interlaced(width, height)) == Picture(width=width, height=height, notes=0)


def test_notes_are_counted_apart_from_the_picture() -> None:
    assert inspect(png(extra=chunk(b"tEXt", b"Title\0x"))).notes == 7


def bomb() -> bytes:
    """A small picture whose rows unpack to 400 MB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    return png(packed=packed)


def jpeg_with(segment: bytes) -> bytes:
    good = pictures.picture("jpeg")
    return good[:2] + segment + good[2:]


REFUSED: dict[str, tuple[Callable[[], bytes], Flaw]] = {
    "png_cut": (lambda: png()[:-5], Flaw.DAMAGED),
    "png_head_only": (lambda: png()[:8], Flaw.DAMAGED),
    "png_flipped_bit": (lambda: png().replace(b"IDAT", b"IDAt"), Flaw.DAMAGED),
    "png_without_rows": (lambda: png(rows=b""), Flaw.DAMAGED),
    "png_missing_row": (lambda: png(rows=bytes(7 * 17)), Flaw.DAMAGED),
    "png_rows_are_noise": (lambda: png(packed=b"nothing packed"), Flaw.DAMAGED),
    "png_row_too_many": (lambda: png(rows=bytes(9 * 17)), Flaw.FOREIGN_BYTES),
    "png_something_behind_the_rows": (lambda: png(packed=zlib.compress(bytes(8 * 17)) + b"PK"), Flaw.FOREIGN_BYTES),
    "png_bomb": (bomb, Flaw.FOREIGN_BYTES),
    "png_archive_behind": (lambda: png() + b"PK\x03\x04", Flaw.FOREIGN_BYTES),
    "png_page_behind": (lambda: png() + b"<script>", Flaw.FOREIGN_BYTES),
    "png_huge": (lambda: png(width=100_000, height=100_000, rows=b""), Flaw.TOO_MANY_PIXELS),
    "png_just_too_large": (lambda: png(width=MAX_PIXELS + 1, height=1, rows=b""), Flaw.TOO_MANY_PIXELS),
    "png_no_width": (lambda: png(width=0, rows=b""), Flaw.DAMAGED),
    "png_animated": (lambda: png(extra=chunk(b"acTL", struct.pack(">II", 2, 0))), Flaw.ANIMATED),
    "png_two_headers": (lambda: png(extra=chunk(b"IHDR", bytes(13))), Flaw.DAMAGED),
    "png_unknown_critical": (lambda: png(extra=chunk(b"ABCD", b"")), Flaw.DAMAGED),
    "jpeg_cut": (lambda: pictures.picture("jpeg")[:-3], Flaw.DAMAGED),
    "jpeg_without_end": (lambda: pictures.picture("jpeg")[:-2], Flaw.DAMAGED),
    "jpeg_archive_behind": (lambda: pictures.picture("jpeg") + b"PK\x03\x04", Flaw.FOREIGN_BYTES),
    "jpeg_second_picture_behind": (lambda: pictures.picture("jpeg") * 2, Flaw.FOREIGN_BYTES),
    "jpeg_huge": (lambda: jpeg_with(b"\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00"), Flaw.TOO_MANY_PIXELS),
    "jpeg_two_frames": (lambda: jpeg_with(b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00"), Flaw.DAMAGED),
    "jpeg_no_size": (lambda: jpeg_with(b"\xff\xc0\x00\x0b\x08\x00\x00\x00\x08\x01\x01\x11\x00"), Flaw.DAMAGED),
    "jpeg_scan_first": (lambda: b"\xff\xd8\xff\xda\x00\x02\x00\xff\xd9", Flaw.DAMAGED),
    "jpeg_nothing_in_it": (lambda: b"\xff\xd8\xff\xd9", Flaw.DAMAGED),
    "jpeg_segment_beyond_the_end": (lambda: b"\xff\xd8\xff\xe0\xff\xff", Flaw.DAMAGED),
    "jpeg_noise": (lambda: b"\xff\xd8\xff" + bytes(100), Flaw.DAMAGED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_honest_picture_is_refused_with_its_flaw(name: str) -> None:
    make, flaw = REFUSED[name]
    content = make()
    begun = time.process_time()
    with pytest.raises(BadPicture) as caught:
        inspect(content)
    assert caught.value.flaw is flaw
    assert time.process_time() - begun < 2, "a bomb is not unpacked"


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", pictures.picture("jpeg")]))
def test_no_bytes_whatever_are_more_than_refused(noise: bytes, head: bytes) -> None:
    try:
        inspect(head + noise)
    except BadPicture:
        return
    assert noise == b"", "nothing may stand behind a picture"


@given(st.data())
def test_no_change_of_a_png_goes_unnoticed(data: st.DataObject) -> None:
    content = bytearray(png(extra=chunk(b"tEXt", b"Title\0x")))
    place = data.draw(st.integers(8, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadPicture):
        inspect(bytes(content))
