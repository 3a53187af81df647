"""The sound of an alert as a file: tone, then words or a recording, at one loudness.

The result is what every player in the field takes: MP3, mono, 32 kHz, 64 kbit/s; the same bytes for the same words. It is
brought to `TARGET_LUFS` by the rules of EBU R 128 and limited below full scale, so no alert is softer than another.

This runs in a process of its own (`renderer`): `python -m services.control.alerting.rendering`, a job as JSON on
standard input, the file on standard output.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.filter import Graph

from services.control.alerting import speech, tones
from services.control.alerting.speech import SpeechFailed
from services.control.alerting.tones import Tone

RATE_HZ = 32_000
BIT_RATE = 64_000
# Loud and clear on a horn; broadcasts are mixed at -23, so an alert stands out by 9 dB.
TARGET_LUFS = -14.0
MAX_GAIN_DB = 40.0
_PEAK = 0.89  # of full scale: -1 dB, what MP3 may overshoot by
MAX_SECONDS = 180
_PAUSE_S = 0.6  # between two paragraphs
_FRAME = 1_152  # samples in a frame of MP3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be heard: the tone, then the words in their language, or the recording instead of them."""

    tone: Tone
    language: str = speech.FALLBACK_VOICE
    words: str = ""
    recording: str | None = None  # path of a file that was measured

    def as_json(self) -> str:
        """As the process takes it."""
        return json.dumps(asdict(self))


class Unrenderable(Exception):
    """There is no sound to be made of it; the message is a code of the catalogue."""


def render(job: Job) -> bytes:
    """The file. Raises `Unrenderable`."""
    sound = tones.samples(job.tone, rate_hz=RATE_HZ)
    if job.recording is not None:
        sound += b"".join(_samples(_decoded(Path(job.recording))))
    elif job.words:
        sound += _spoken(job)
    if len(sound) > 2 * RATE_HZ * MAX_SECONDS:
        raise Unrenderable("alert_sound_too_long")
    loudness = _loudness(sound)
    if loudness is None:
        raise Unrenderable("alert_sound_silent")
    return _encoded(_levelled(sound, min(TARGET_LUFS - loudness, MAX_GAIN_DB)))


def _spoken(job: Job) -> bytes:
    with speech.voice() as voice:
        said = [voice.say(paragraph, job.language) for paragraph in job.words.split("\n") if paragraph.strip()]
        rate = voice.rate_hz
    pause = tones.silence(_PAUSE_S, rate_hz=rate)
    return b"".join(_samples(iter([_frame(pause.join(said), rate)])))


def _decoded(path: Path) -> Iterator[AudioFrame]:
    # Far enough beyond the limit to tell that it is too long, and no further.
    left_s = MAX_SECONDS + 1.0
    with av.open(str(path), metadata_errors="ignore") as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            yield frame
            left_s -= frame.samples / frame.sample_rate
            if left_s < 0:
                return


def _frame(sound: bytes, rate_hz: int) -> AudioFrame:
    frame = AudioFrame(format="s16", layout="mono", samples=len(sound) // 2)
    frame.planes[0].update(sound)
    frame.sample_rate = rate_hz
    return frame


def _samples(frames: Iterable[AudioFrame]) -> Iterator[bytes]:
    """The frames as mono samples at our rate."""
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    for frame in frames:
        if frame.samples:
            for resampled in resampler.resample(frame):
                yield _bytes_of(resampled)
    for resampled in resampler.resample(None):
        yield _bytes_of(resampled)


def _bytes_of(frame: AudioFrame) -> bytes:
    return bytes(frame.planes[0])[: frame.samples * 2]  # a plane may be longer than what is in it


def _loudness(sound: bytes) -> float | None:
    """Integrated loudness in LUFS; None for silence."""
    found: float | None = None
    for frame in _through(sound, ("ebur128", "metadata=1:framelog=quiet")):
        value = frame.metadata.get("lavfi.r128.I")
        if value is not None:
            found = float(value)
    return found if found is not None and math.isfinite(found) and found > -70.0 else None


def _levelled(sound: bytes, gain_db: float) -> bytes:
    return b"".join(
        _samples(
            _through(
                sound,
                ("volume", f"volume={gain_db:.2f}dB:precision=float"),
                ("alimiter", f"limit={_PEAK}:level=0:attack=2:release=50"),
            )
        )
    )


def _through(sound: bytes, *filters: tuple[str, str]) -> Iterator[AudioFrame]:
    graph = Graph()
    chain = [
        graph.add_abuffer(format="s16", layout="mono", sample_rate=RATE_HZ),
        *(graph.add(name, options) for name, options in filters),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*chain).configure()
    step = 2 * RATE_HZ // 10
    for start in range(0, len(sound), step):
        graph.push(_frame(sound[start : start + step], RATE_HZ))
        yield from _pulled(graph)
    graph.push(None)
    yield from _pulled(graph)


def _pulled(graph: Graph) -> Iterator[AudioFrame]:
    while True:
        try:
            frame: Any = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pts = None
        yield frame


def _encoded(sound: bytes) -> bytes:
    file = BytesIO()
    with av.open(file, "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as container:
        stream: Any = container.add_stream("libmp3lame", rate=RATE_HZ)
        stream.layout = "mono"
        stream.bit_rate = BIT_RATE
        resampler = AudioResampler(format="s16p", layout="mono", rate=RATE_HZ, frame_size=_FRAME)
        for frame in (*resampler.resample(_frame(sound, RATE_HZ)), *resampler.resample(None)):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def main(arguments: list[str]) -> int:
    """Make one file within limits of processor seconds and MiB of memory; what cannot be made is told by a word."""
    cpu_s, memory_mib = int(arguments[0]), int(arguments[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib * 1024 * 1024,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wanted = json.loads(sys.stdin.read())
    try:
        sound = render(Job(**{**wanted, "tone": Tone(wanted["tone"])}))
    except Unrenderable as reason:
        return _failed(str(reason))
    except SpeechFailed:
        return _failed("alert_speech_failed")
    except (av.error.FFmpegError, MemoryError):
        return _failed("alert_sound_unreadable")
    sys.stdout.buffer.write(sound)
    return 0


# What the process ends with when it has a word for why.
TOLD = 3


def _failed(code: str) -> int:
    sys.stdout.write(code)
    return TOLD


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
