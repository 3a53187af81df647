"""What a sound file really is: decoded to the end and measured, or refused with a reason.

Nothing a file says of itself is believed. The container is told by its first bytes and opened as that and nothing else;
duration is what was decoded, never what a header promises; decoding stops at the limits. Loudness is measured by the
rules of EBU R 128. This runs in a process of its own (`services.control.measurer`), because decoders are C code fed by
strangers; `python -m services.control.measurement FILE LIMITS` prints its answer as JSON.
"""

from __future__ import annotations

import enum
import json
import math
import resource
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph
from av.stream import Disposition

_MIN_DURATION_MS = 400  # one block of EBU R 128: anything shorter has no loudness
_SILENCE_LUFS = -70.0  # the absolute gate of EBU R 128: below it nothing counts as sound
_DAMAGED_SHARE = 0.02  # of packets that may be undecodable: a torn first or last frame is common in honest files
_FOREIGN_BYTES = 256 * 1024  # that belong to no packet: headers, tags, seek tables
_FOREIGN_SHARE = 0.2


class Refusal(enum.StrEnum):
    """Why a file is not taken. Stable words: codes of the catalogue."""

    EMPTY = "media_empty"
    NOT_AUDIO = "media_not_audio"
    HAS_VIDEO = "media_has_video"
    SEVERAL_SOUNDS = "media_several_sounds"
    CODEC = "media_codec"
    LAYOUT = "media_layout"
    RATE = "media_rate"
    TOO_SHORT = "media_too_short"
    TOO_LONG = "media_too_long"
    DAMAGED = "media_damaged"
    FOREIGN_BYTES = "media_foreign_bytes"
    UNMEASURABLE = "media_unmeasurable"  # it crashed the decoder, or took more time or memory than there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What was measured: of sounds and films how long they last, of pictures and films how large they are.

    `loudness_lufs` is None for silence, and where there is no sound at all.
    """

    mime: str
    duration_ms: int | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    loudness_lufs: float | None = None
    true_peak_dbtp: float | None = None
    width: int | None = None
    height: int | None = None

    @property
    def is_silent(self) -> bool:
        """Whether there is a sound in which nothing can be heard."""
        return self.sample_rate_hz is not None and self.loudness_lufs is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a file may be, in seconds, and how much its measuring may cost."""

    max_duration_s: int
    max_cpu_s: int
    max_memory_mib: int


class Refused(Exception):
    """The file is not taken."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal.value} {detail}".strip())
        self.refusal = refusal
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Container:
    demuxer: str
    mime: str
    codecs: frozenset[str]


_PCM = frozenset({"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8"})
_WAV = _Container("wav", "audio/wav", _PCM)
_FLAC = _Container("flac", "audio/flac", frozenset({"flac"}))
_OGG = _Container("ogg", "audio/ogg", frozenset({"opus", "vorbis", "flac"}))
_MP3 = _Container("mp3", "audio/mpeg", frozenset({"mp3", "mp3float"}))
_MP4 = _Container("mp4", "audio/mp4", frozenset({"aac"}))

_MIN_RATE, _MAX_RATE = 8_000, 192_000


def container_of(head: bytes) -> _Container | None:
    """The container a file claims to be by its first bytes, if it is one we take."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _WAV
    if head[:4] == b"fLaC":
        return _FLAC
    if head[:4] == b"OggS":
        return _OGG
    if head[:3] == b"ID3" or _is_mpeg_layer_3(head[:3]):
        return _MP3
    if head[4:8] == b"ftyp":
        return _MP4
    return None


def _is_mpeg_layer_3(head: bytes) -> bool:
    """Whether an MPEG audio frame header of layer III begins here (eleven set bits; version, layer, rates not reserved)."""
    return (
        len(head) == 3
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] >> 3 & 3 != 1
        and head[1] >> 1 & 3 == 1
        and head[2] >> 4 not in (0, 15)
        and head[2] >> 2 & 3 != 3
    )


def measure(path: Path, limits: Limits) -> Measures:
    """Decode the whole file and measure it. Raises `Refused`."""
    size = path.stat().st_size
    if size == 0:
        raise Refused(Refusal.EMPTY)
    with path.open("rb") as file:
        kind = container_of(file.read(12))
    if kind is None:
        raise Refused(Refusal.NOT_AUDIO)
    try:
        with av.open(str(path), format=kind.demuxer, metadata_errors="ignore") as container:
            stream = _the_only_sound(container, kind)
            return _measured(container, stream, kind, size, limits)
    except MemoryError as error:
        raise Refused(Refusal.UNMEASURABLE, "memory") from error
    except av.error.FFmpegError as error:
        raise Refused(Refusal.DAMAGED, type(error).__name__) from error


def _the_only_sound(container: InputContainer, kind: _Container) -> AudioStream:
    for stream in container.streams:
        # A cover picture is a video stream of one attached picture.
        if stream.type == "video" and not stream.disposition & Disposition.attached_pic:
            raise Refused(Refusal.HAS_VIDEO)
        if stream.type not in ("audio", "video"):
            raise Refused(Refusal.NOT_AUDIO, stream.type)
    sounds = container.streams.audio
    if not sounds:
        raise Refused(Refusal.NOT_AUDIO)
    if len(sounds) > 1:
        raise Refused(Refusal.SEVERAL_SOUNDS)
    context = sounds[0].codec_context
    if context.name not in kind.codecs:
        raise Refused(Refusal.CODEC, context.name)
    if not _MIN_RATE <= context.sample_rate <= _MAX_RATE:
        raise Refused(Refusal.RATE, str(context.sample_rate))
    if context.layout.nb_channels not in (1, 2):
        raise Refused(Refusal.LAYOUT, str(context.layout.nb_channels))
    return sounds[0]


class _Meter:
    """An EBU R 128 meter: frames in, integrated loudness and true peak out."""

    def __init__(self, stream: AudioStream) -> None:
        self._graph = Graph()
        source = self._graph.add_abuffer(template=stream)
        meter = self._graph.add("ebur128", "peak=true:metadata=1:framelog=quiet")
        sink = self._graph.add("abuffersink")
        source.link_to(meter)
        meter.link_to(sink)
        self._graph.configure()
        self.integrated_lufs: float | None = None
        self.true_peak: float = 0.0

    def push(self, frame: AudioFrame | None) -> None:
        self._graph.push(frame)
        while True:
            try:
                out = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._note(dict(out.metadata))

    def _note(self, metadata: dict[str, str]) -> None:
        if "lavfi.r128.I" in metadata:
            self.integrated_lufs = float(metadata["lavfi.r128.I"])
        peaks = [float(value) for key, value in metadata.items() if key.startswith("lavfi.r128.true_peaks_ch")]
        self.true_peak = max([self.true_peak, *peaks])


def _measured(container: InputContainer, stream: AudioStream, kind: _Container, size: int, limits: Limits) -> Measures:
    meter = _Meter(stream)
    form: tuple[str, int, int] | None = None
    rate = stream.codec_context.sample_rate
    channels = stream.codec_context.layout.nb_channels
    samples = 0
    tally = _Tally()
    for frame in _frames(container, stream, tally):
        if form is None:
            form = (frame.format.name, frame.sample_rate, frame.layout.nb_channels)
            rate, channels = frame.sample_rate, frame.layout.nb_channels
        elif form != (frame.format.name, frame.sample_rate, frame.layout.nb_channels):
            raise Refused(Refusal.DAMAGED, "its form changes")
        samples += frame.samples
        if samples > limits.max_duration_s * rate:
            raise Refused(Refusal.TOO_LONG)
        frame.pts = None  # time stamps of strangers make the meter stumble; the samples are what counts
        meter.push(frame)
    if tally.bad > max(2, tally.packets * _DAMAGED_SHARE):
        raise Refused(Refusal.DAMAGED, f"{tally.bad} of {tally.packets} packets")
    if size - tally.size > max(_FOREIGN_BYTES, size * _FOREIGN_SHARE):
        raise Refused(Refusal.FOREIGN_BYTES)
    if samples == 0:
        raise Refused(Refusal.EMPTY)
    if samples * 1000 < _MIN_DURATION_MS * rate:
        raise Refused(Refusal.TOO_SHORT)
    meter.push(None)
    loudness = meter.integrated_lufs
    has_sound = loudness is not None and math.isfinite(loudness) and loudness > _SILENCE_LUFS
    return Measures(
        mime=kind.mime,
        duration_ms=max(1, round(samples * 1000 / rate)),
        sample_rate_hz=rate,
        channels=channels,
        loudness_lufs=round(loudness, 1) if has_sound and loudness is not None else None,
        true_peak_dbtp=round(20 * math.log10(meter.true_peak), 1) if meter.true_peak > 0 else None,
    )


@dataclass(slots=True)
class _Tally:
    packets: int = 0  # of sound
    bad: int = 0  # of them, those that cannot be decoded
    size: int = 0  # bytes of the others, and of pictures


def _frames(container: InputContainer, stream: AudioStream, tally: _Tally) -> Iterator[AudioFrame]:
    for packet in container.demux():
        if packet.stream.index != stream.index:
            tally.size += packet.size
            continue  # a cover picture: its bytes are accounted for, its content is nobody's business
        tally.packets += 1
        try:
            yield from _decoded(packet.decode())
            tally.size += packet.size
        except av.error.InvalidDataError:
            tally.bad += 1


def _decoded(frames: Iterable[Any]) -> Iterator[AudioFrame]:
    return (frame for frame in frames if isinstance(frame, AudioFrame))


def main(arguments: list[str]) -> int:
    """Measure one file within limits and print the answer as one JSON object."""
    path, limits = Path(arguments[0]), Limits(**json.loads(arguments[1]))
    memory = limits.max_memory_mib * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.max_cpu_s, limits.max_cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer: dict[str, Any] = asdict(measure(path, limits))
    except Refused as refused:
        answer = {"refused": refused.refusal.value, "detail": refused.detail}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
