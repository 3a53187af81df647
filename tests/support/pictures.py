"""Pictures and films made on the spot, good ones and bad ones."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

_CODECS = {"png": ("png", "rgb24"), "jpeg": ("mjpeg", "yuvj420p")}


def _frame(width: int, height: int, number: int = 0) -> VideoFrame:
    """Something to see: a gradient that moves."""
    frame = VideoFrame(width, height, "rgb24")
    plane = frame.planes[0]
    row = bytes((x * 3 + number * 40 + channel * 80) & 0xFF for x in range(width) for channel in range(3))
    plane.update((row + bytes(plane.line_size - len(row))) * height)
    return frame


def picture(form: str = "png", *, width: int = 64, height: int = 48) -> bytes:
    """A PNG or JPEG."""
    codec, pixels = _CODECS[form]
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base = Fraction(1, 1)
    frame = _frame(width, height).reformat(format=pixels)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def film(
    form: str = "mp4",
    codec: str = "libx264",
    *,
    seconds: float = 1.0,
    width: int = 64,
    height: int = 48,
    sound: str | None = None,
    films: int = 1,
) -> bytes:
    """A film at 10 frames a second, with a silent sound track where a codec is named for it."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        streams: list[Any] = [container.add_stream(codec, rate=10) for _ in range(films)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        heard: Any = container.add_stream(sound, rate=48_000) if sound is not None else None
        if heard is not None:
            heard.layout = "mono"
        for number in range(round(seconds * 10)):
            for stream in streams:
                frame = _frame(width, height, number).reformat(format="yuv420p")
                frame.pts = number
                container.mux(stream.encode(frame))
        if heard is not None:
            for start in range(0, round(seconds * 48_000), 960):
                silence = AudioFrame(format=heard.codec_context.format.name, layout="mono", samples=960)
                silence.planes[0].update(bytes(silence.planes[0].buffer_size))
                silence.sample_rate, silence.pts = 48_000, start
                container.mux(heard.encode(silence))
            container.mux(heard.encode(None))
        for stream in streams:
            container.mux(stream.encode(None))
    return file.getvalue()


# --- by hand ---------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    *, width: int = 16, height: int = 8, rows: bytes | None = None, extra: bytes = b"", packed: bytes | None = None
) -> bytes:
    """A grey PNG put together by hand: `rows` unpacked, or `packed` as they are; `extra` chunks before them."""
    if packed is None:
        packed = zlib.compress(rows if rows is not None else bytes(height * (1 + width)))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), extra, chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
