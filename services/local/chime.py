"""A real audio file for the demonstration: a chime, made from sine waves and encoded by the media library."""

import io
import math
from array import array
from datetime import timedelta

import av

SAMPLE_RATE_HZ = 48_000
NOTES_HZ = (523.25, 659.25, 783.99, 1046.5)  # C major, upwards
NOTE = timedelta(milliseconds=400)
PEAK = 0.35  # of full scale: about -9 dBFS, loud enough to be measured and far from clipping


def chime(length: timedelta) -> bytes:
    """Ogg/Opus bytes of `length`: the four notes over and over, each fading out."""
    samples = array("h", (_sample(index) for index in range(int(length.total_seconds() * SAMPLE_RATE_HZ))))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = 32_000
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples))
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.planes[0].update(samples.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _sample(index: int) -> int:
    seconds = index / SAMPLE_RATE_HZ
    note, within = divmod(seconds, NOTE.total_seconds())
    fade = 1 - within / NOTE.total_seconds()
    wave = math.sin(2 * math.pi * NOTES_HZ[int(note) % len(NOTES_HZ)] * within)
    return round(32_767 * PEAK * fade * wave)
