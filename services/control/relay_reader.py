"""Reads one live source in a process of its own and hands out segments on standard output, until something ends it.

Decoders are C code fed by strangers, so this process has no secrets, no files and bounded memory, and whoever started it
may kill it at any moment. `python -m services.control.relay_reader OPTIONS` writes messages: four bytes of length, a JSON
object, and behind a segment its bytes.

Each segment is a file of its own, encoded from nothing: a device that missed the one before plays it all the same, and
its length is exact, because Ogg says how many samples belong to it (RFC 7845).
"""

from __future__ import annotations

import io
import json
import math
import operator
import resource
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from typing import Any, BinaryIO

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from services.control import relay_timeline
from services.control.planning.model import to_ms
from services.control.relay_addresses import Rules
from services.control.relay_timeline import LEVEL_MS, SILENCE_DBFS
from services.control.relay_troubles import Trouble, Troubled
from services.control.relay_tuner import Stream, tune_in
from services.shared.clock import utc_now

RATE_HZ = 48_000  # of Opus, whatever the source has
MIME = "audio/ogg"
_BIT_RATE = 64_000  # of speech and music, mono: what loudspeakers on poles make of more cannot be heard
_BYTES_A_SAMPLE = 2
_FRAME = RATE_HZ // 50  # Opus encodes 20 ms at a time
_FULL_SCALE = 32_768.0
_UNHEARD_BYTES = 2 * 1024 * 1024  # several seconds of the richest stream there is
_BAD_IN_A_ROW = 50  # packets nobody can decode: about a second

# Demuxers of plain streams. None that opens further addresses (hls, dash, concat, sdp).
_DEMUXERS = "mp3,aac,ogg,flac,wav,mpegts"
_BY_TYPE = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/aac": "aac",
    "audio/aacp": "aac",
    "audio/ogg": "ogg",
    "application/ogg": "ogg",
    "audio/flac": "flac",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "video/mp2t": "mpegts",
}
# A second or so of a stream, not the megabytes FFmpeg would rather look at before it says anything.
_PROBE = {"probesize": "32768", "analyzeduration": "500000", "format_whitelist": _DEMUXERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to read and how; travels as JSON."""

    url: str
    hosts: tuple[str, ...]
    networks: tuple[str, ...]
    segment_ms: int
    timeout_s: float
    memory_mib: int

    @property
    def rules(self) -> Rules:
        """Where the source may be."""
        return Rules(hosts=tuple(self.hosts), networks=tuple(ip_network(each) for each in self.networks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A segment as it is handed out, without its bytes."""

    starts_at_ms: int
    duration_ms: int
    levels_dbfs: tuple[float, ...]  # one for every `LEVEL_MS`
    size: int


def sound(stream: Stream) -> Iterator[array[int]]:
    """The samples of a stream as they come: mono, 48 kHz, 16 bits. Raises `Troubled` at its end, whatever that is."""
    # Which demuxer a type names is taken at its word; the wrong one finds no sound, and that is said.
    form = _BY_TYPE.get(stream.content_type)
    source = _Source(stream)
    is_heard = False
    try:
        with av.open(source, "r", format=form, options=_PROBE, metadata_errors="ignore") as container:
            for samples in _samples(container):
                source.unheard, is_heard = 0, True
                yield samples
    except TimeoutError as error:
        raise Troubled(Trouble.STALLED) from error
    except ConnectionError as error:
        raise Troubled(Trouble.ENDED, type(error).__name__) from error
    except av.error.FFmpegError as error:
        raise Troubled(Trouble.NOT_SOUND, type(error).__name__) from error
    except OSError as error:
        raise Troubled(Trouble.ENDED, type(error).__name__) from error
    raise Troubled(Trouble.ENDED if is_heard or not source.unheard else Trouble.NOT_SOUND)


class _Source:
    """A file for the demuxer that can be read and nothing else: it asks for no further one, and cannot go back.

    `unheard`: the bytes that were read since there was a sound. Without a bound on them a demuxer would look for a frame
    in noise for as long as noise comes.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.unheard = 0

    def read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self.unheard += len(found)
        if self.unheard > _UNHEARD_BYTES:
            raise Troubled(Trouble.NOT_SOUND, f"{self.unheard} bytes without a frame")
        return found


def _samples(container: InputContainer) -> Iterator[array[int]]:
    sounds = container.streams.audio
    if not sounds:
        raise Troubled(Trouble.NOT_SOUND, "no sound in it")
    chosen = sounds[0]
    chosen.codec_context.thread_count = 1
    form: tuple[str, str, int] | None = None
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    for frame in _frames(container, chosen):
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form not in (None, found):  # stations change between programmes
            resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        form = found
        frame.pts = None  # the samples are what counts, whatever time stamps strangers give them
        for resampled in resampler.resample(frame):
            samples = array("h")
            samples.frombytes(bytes(resampled.planes[0])[: resampled.samples * _BYTES_A_SAMPLE])
            yield samples


def _frames(container: InputContainer, chosen: AudioStream) -> Iterator[AudioFrame]:
    bad = 0
    for packet in container.demux(chosen):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            bad += 1
            if bad >= _BAD_IN_A_ROW:
                raise Troubled(Trouble.DAMAGED, f"{bad} packets in a row") from error
            continue
        bad = 0 if frames else bad
        yield from frames


def encoded(samples: array[int]) -> bytes:
    """The samples as an Ogg Opus file that decodes to as many."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE_HZ, layout="mono")
        stream.bit_rate = _BIT_RATE
        for first in range(0, len(samples), _FRAME):
            piece = samples[first : first + _FRAME]
            frame = AudioFrame(format="s16", layout="mono", samples=len(piece))
            frame.planes[0].update(piece.tobytes())
            frame.sample_rate = RATE_HZ
            frame.pts = first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def levels_dbfs(samples: array[int]) -> tuple[float, ...]:
    """Root mean square of every `LEVEL_MS`, in decibels below full scale (a full-scale sine has −3)."""
    step = RATE_HZ * LEVEL_MS // 1000
    return tuple(_level(samples[first : first + step]) for first in range(0, len(samples), step))


def _level(samples: array[int]) -> float:
    power = sum(map(operator.mul, samples, samples)) / len(samples)
    return round(10 * math.log10(power / _FULL_SCALE**2), 1) if power else SILENCE_DBFS


def read(options: Options, out: BinaryIO) -> None:
    """Write segments until the source ends. Raises `Troubled`."""
    pending = array("h")
    wanted = RATE_HZ * options.segment_ms // 1000
    end_ms: int | None = None
    for samples in sound(tune_in(options.url, options.rules, timeout_s=options.timeout_s)):
        pending.extend(samples)
        while len(pending) >= wanted:
            piece, pending = pending[:wanted], pending[wanted:]
            placed = relay_timeline.place(end_ms, now_ms=to_ms(utc_now()), duration_ms=options.segment_ms)
            end_ms = placed.starts_at_ms + options.segment_ms
            content = encoded(piece)
            # Not before its sound is over: who sends ahead of time is held back by not being read.
            time.sleep(placed.wait_ms / 1000)
            cut = Cut(
                starts_at_ms=placed.starts_at_ms,
                duration_ms=options.segment_ms,
                levels_dbfs=levels_dbfs(piece),
                size=len(content),
            )
            _write(out, asdict(cut), content)


def _write(out: BinaryIO, message: dict[str, Any], content: bytes = b"") -> None:
    header = json.dumps(message).encode()
    out.write(len(header).to_bytes(4, "big") + header + content)
    out.flush()


def main(arguments: list[str]) -> int:
    """Read within limits; the last message says what ended it."""
    options = Options(**json.loads(arguments[0]))
    memory = options.memory_mib * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        read(options, sys.stdout.buffer)
    except Troubled as troubled:
        _write(sys.stdout.buffer, {"trouble": troubled.trouble.value, "detail": troubled.detail})
    except BrokenPipeError:
        return 1  # whoever wanted it is gone
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
