"""Sound files made on the spot, good ones and bad ones."""

from __future__ import annotations

import array
import io
import math
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

FORMATS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "m4a": ("mp4", "aac"),
    "adpcm": ("wav", "adpcm_ima_wav"),
}


def tone(
    form: str = "mp3",
    *,
    seconds: float = 2.0,
    amplitude: float = 0.2,
    rate: int = 48_000,
    layout: str = "mono",
    hertz: float = 1_000.0,
) -> bytes:
    """A sine tone as a file."""
    container_name, codec = FORMATS[form]
    file = io.BytesIO()
    with av.open(file, "w", format=container_name) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.layout = layout
        resampler = AudioResampler(format=stream.codec_context.format or "s16", layout=layout, rate=rate)
        for start in range(0, int(seconds * rate), 1024):
            count = min(1024, int(seconds * rate) - start)
            samples = array.array(
                "h",
                (int(32_767 * amplitude * math.sin(2 * math.pi * hertz * (start + i) / rate)) for i in range(count)),
            )
            frame = AudioFrame(format="s16", layout="mono", samples=count)
            frame.planes[0].update(samples.tobytes())
            frame.sample_rate = rate
            frame.pts = start
            for resampled in resampler.resample(frame):
                for packet in stream.encode(resampled):
                    container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return file.getvalue()


def video() -> bytes:
    """A file with moving pictures and no sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = number
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return file.getvalue()
