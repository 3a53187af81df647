"""What a sound, picture or film really is: decoded to the end and measured, or refused with a reason.

Nothing a file says of itself is believed. The container is told by its first bytes and opened as that and nothing else;
duration is what was decoded, never what a header promises; decoding stops at the limits. Loudness is measured by the
rules of EBU R 128. Pictures are walked to their last byte before a decoder sees them (`picture_files`), and what heads of
sounds say is held against what was heard (`sound_files`), because devices have other decoders. This runs in a process of
its own (`services.control.measurer`), because decoders are C code fed by strangers; `python -m services.control.measurement FILE LIMITS` prints its answer as JSON.
"""

from __future__ import annotations

import enum
import json
import math
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.filter import Graph
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.control import picture_files, sound_files
from services.control.media_containers import FLAC, WAV, Container, Film, container_of
from services.control.picture_files import BadPicture, Flaw
from services.control.sound_files import Dishonest, Foreign, Promise

_MIN_DURATION_MS = 400  # one block of EBU R 128: anything shorter has no loudness
_SILENCE_LUFS = -70.0  # the absolute gate of EBU R 128: below it nothing counts as sound
_DAMAGED_SHARE = 0.02  # of packets that may be undecodable: a torn first or last frame is common in honest files
_FOREIGN_BYTES = 256 * 1024  # that belong to no packet: headers, tags, seek tables
_FOREIGN_SHARE = 0.2
_MAX_FILM_PIXELS = 3_840 * 2_160  # 4K UHD, either way round
_MAX_FRAMES_A_SECOND = 120
_NO_NUMBERS = ("Number of NaNs", "Number of Infs")  # how the filter calls its counts
_MAX_PEAK = 16.0  # times full scale: floating point holds more, loudspeakers do not


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
    ANIMATED = "media_animated"
    TOO_MANY_PIXELS = "media_too_many_pixels"
    SEVERAL_FILMS = "media_several_films"
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
    max_film_s: int
    max_cpu_s: int
    max_memory_mib: int


class Refused(Exception):
    """The file is not taken."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal.value} {detail}".strip())
        self.refusal = refusal
        self.detail = detail


_MIN_RATE, _MAX_RATE = 8_000, 192_000


def measure(path: Path, limits: Limits) -> Measures:
    """Decode the whole file and measure it. Raises `Refused`."""
    size = path.stat().st_size
    if size == 0:
        raise Refused(Refusal.EMPTY)
    with path.open("rb") as file:
        head = file.read(sound_files.DOCUMENT_HEAD)
        file.seek(max(0, size - sound_files.ARCHIVE_TAIL))
        tail = file.read()
    try:
        sound_files.check_no_other_file(head, tail)
        if head.startswith((picture_files.PNG_HEAD, picture_files.JPEG_HEAD)):
            return _measured_picture(path, size)
        kind = container_of(head[:64])
        if kind is None:
            raise Refused(Refusal.NOT_AUDIO)
        promise = _promise(path, head, size, kind)
        with av.open(str(path), format=kind.demuxer, metadata_errors="ignore") as container:
            if kind.film is not None and any(map(_moves, container.streams)):
                return _measured_film(container, kind.film, size, limits)
            stream = _the_only_sound(container, kind)
            return _measured(container, stream, kind, size, limits, promise)
    except Dishonest as error:
        raise Refused(Refusal.DAMAGED, str(error)) from error
    except Foreign as error:
        raise Refused(Refusal.FOREIGN_BYTES, str(error)) from error
    except MemoryError as error:
        raise Refused(Refusal.UNMEASURABLE, "memory") from error
    except av.error.FFmpegError as error:
        raise Refused(Refusal.DAMAGED, type(error).__name__) from error


def _promise(path: Path, head: bytes, size: int, kind: Container) -> Promise | None:
    if kind is WAV:
        with path.open("rb") as file:
            sound_files.check_wav(file, size)
    return sound_files.promise_of_flac(head) if kind is FLAC else None


def _moves(stream: Any) -> bool:
    """Whether a stream is moving pictures: a cover is a video stream of one attached picture."""
    return stream.type == "video" and not stream.disposition & Disposition.attached_pic


def _the_only_sound(container: InputContainer, kind: Container) -> AudioStream:
    for stream in container.streams:
        if _moves(stream):
            raise Refused(Refusal.HAS_VIDEO)
        if stream.type not in ("audio", "video"):
            raise Refused(Refusal.NOT_AUDIO, stream.type)
    sounds = container.streams.audio
    if not sounds:
        raise Refused(Refusal.NOT_AUDIO)
    _check_sound(sounds, kind.codecs)
    return sounds[0]


def _check_sound(sounds: Sequence[AudioStream], codecs: frozenset[str]) -> None:
    if len(sounds) > 1:
        raise Refused(Refusal.SEVERAL_SOUNDS)
    context = sounds[0].codec_context
    _check_codec(context, codecs)
    if not _MIN_RATE <= context.sample_rate <= _MAX_RATE:
        raise Refused(Refusal.RATE, str(context.sample_rate))
    if context.layout.nb_channels not in (1, 2):
        raise Refused(Refusal.LAYOUT, str(context.layout.nb_channels))


def _check_codec(context: CodecContext | None, codecs: frozenset[str]) -> None:
    # There is no context where there is no decoder: a codec nobody knows, or a header that was cut off.
    if context is None or context.name not in codecs:
        raise Refused(Refusal.CODEC, "unknown" if context is None else context.name)


class _Meter:
    """An EBU R 128 meter: frames in, integrated loudness and true peak out."""

    def __init__(self, stream: AudioStream) -> None:
        self._graph = Graph()
        source = self._graph.add_abuffer(template=stream)
        meter = self._graph.add("ebur128", "peak=true:metadata=1:framelog=quiet")
        sink = self._graph.add("abuffersink")
        source.link_to(meter)
        last = meter
        if stream.codec_context.name == "pcm_f32le":  # the only one of ours that can hold what is no number
            last = self._graph.add("astats", "metadata=1:reset=1:measure_perchannel=none")
            meter.link_to(last)
        last.link_to(sink)
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
        if any(key.endswith(_NO_NUMBERS) and float(value) for key, value in metadata.items()):
            raise Refused(Refusal.DAMAGED, "samples that are no numbers")
        if "lavfi.r128.I" in metadata:
            self.integrated_lufs = float(metadata["lavfi.r128.I"])
        peaks = [float(value) for key, value in metadata.items() if key.startswith("lavfi.r128.true_peaks_ch")]
        self.true_peak = max([self.true_peak, *peaks])
        if self.true_peak > _MAX_PEAK:
            raise Refused(Refusal.DAMAGED, "louder than anything is")


class _Heard:
    """The sound of a file as it is decoded: frames in, what was measured out."""

    def __init__(self, stream: AudioStream, max_duration_s: int) -> None:
        self._meter = _Meter(stream)
        self._max_duration_s = max_duration_s
        self._form: tuple[str, int, int] | None = None
        self.rate = stream.codec_context.sample_rate
        self.channels = stream.codec_context.layout.nb_channels
        self.samples = 0

    def take(self, frame: AudioFrame) -> None:
        """Raises `Refused` beyond the limit, and when the form changes on the way."""
        form = (frame.format.name, frame.sample_rate, frame.layout.nb_channels)
        if self._form is None:
            self._form = form
            self.rate, self.channels = form[1:]
        elif self._form != form:
            raise Refused(Refusal.DAMAGED, "its form changes")
        self.samples += frame.samples
        if self.samples > self._max_duration_s * self.rate:
            raise Refused(Refusal.TOO_LONG)
        frame.pts = None  # time stamps of strangers make the meter stumble; the samples are what counts
        self._meter.push(frame)

    @property
    def duration_ms(self) -> int:
        return round(self.samples * 1000 / self.rate)

    def measures(self, mime: str, duration_ms: int) -> Measures:
        """What was heard, all in all."""
        self._meter.push(None)
        loudness = self._meter.integrated_lufs
        has_sound = loudness is not None and math.isfinite(loudness) and loudness > _SILENCE_LUFS
        peak = self._meter.true_peak
        return Measures(
            mime=mime,
            duration_ms=max(1, duration_ms),
            sample_rate_hz=self.rate,
            channels=self.channels,
            loudness_lufs=round(loudness, 1) if has_sound and loudness is not None else None,
            true_peak_dbtp=round(20 * math.log10(peak), 1) if peak > 0 else None,
        )


def _measured(
    container: InputContainer,
    stream: AudioStream,
    kind: Container,
    size: int,
    limits: Limits,
    promise: Promise | None,
) -> Measures:
    heard = _Heard(stream, limits.max_duration_s)
    tally = _Tally()
    for frame in _frames(container, stream, tally):
        heard.take(frame)
    _check_tally(tally, size)
    if heard.samples == 0:
        raise Refused(Refusal.EMPTY)
    if heard.duration_ms < _MIN_DURATION_MS:
        raise Refused(Refusal.TOO_SHORT)
    if promise is not None and not _is_kept(promise, heard):
        raise Refused(Refusal.DAMAGED, f"promised {promise}")
    return heard.measures(kind.mime, heard.duration_ms)


def _is_kept(promise: Promise, heard: _Heard) -> bool:
    is_so_long = promise.samples in (None, heard.samples)
    return is_so_long and (promise.rate_hz, promise.channels) == (heard.rate, heard.channels)


def _check_tally(tally: _Tally, size: int) -> None:
    if tally.bad > max(2, tally.packets * _DAMAGED_SHARE):
        raise Refused(Refusal.DAMAGED, f"{tally.bad} of {tally.packets} packets")
    _check_foreign(size - tally.size, size)


def _check_foreign(foreign: int, size: int) -> None:
    if foreign > max(_FOREIGN_BYTES, size * _FOREIGN_SHARE):
        raise Refused(Refusal.FOREIGN_BYTES)


@dataclass(slots=True)
class _Tally:
    packets: int = 0  # of what is measured
    bad: int = 0  # of them, those that cannot be decoded
    size: int = 0  # bytes of the others, and of covers


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


# --- pictures and films ----------------------------------------------------------------------------------------------

_FLAWS = {
    Flaw.DAMAGED: Refusal.DAMAGED,
    Flaw.FOREIGN_BYTES: Refusal.FOREIGN_BYTES,
    Flaw.ANIMATED: Refusal.ANIMATED,
    Flaw.TOO_MANY_PIXELS: Refusal.TOO_MANY_PIXELS,
}


def _measured_picture(path: Path, size: int) -> Measures:
    data = path.read_bytes()
    try:
        picture = picture_files.inspect(data)
    except BadPicture as bad:
        raise Refused(_FLAWS[bad.flaw], bad.detail) from bad
    _check_foreign(picture.notes, size)
    is_png = data.startswith(picture_files.PNG_HEAD)
    sizes = []
    with av.open(str(path), format="png_pipe" if is_png else "jpeg_pipe", metadata_errors="ignore") as container:
        for frame in container.decode(video=0):
            if frame.is_corrupt:
                raise Refused(Refusal.DAMAGED, "corrupt")
            sizes.append((frame.width, frame.height))
    if sizes != [(picture.width, picture.height)]:
        raise Refused(Refusal.DAMAGED, f"decoded to {sizes[:2]}")
    return Measures(mime="image/png" if is_png else "image/jpeg", width=picture.width, height=picture.height)


class _Seen:
    """The moving pictures of a film as they are decoded."""

    def __init__(self, max_film_s: int) -> None:
        self._max_s = max_film_s
        self.size: tuple[int, int] | None = None
        self._frames = 0
        self._begin: float | None = None
        self._end = 0.0

    def take(self, frame: VideoFrame, step_s: float) -> None:
        """A frame that stands for `step_s` seconds unless it says otherwise. Raises `Refused` beyond the limits."""
        size = (frame.width, frame.height)
        if size[0] * size[1] > _MAX_FILM_PIXELS:
            raise Refused(Refusal.TOO_MANY_PIXELS, f"{size[0]}x{size[1]}")
        if self.size is None:
            self.size = size
        elif self.size != size:
            raise Refused(Refusal.DAMAGED, "its form changes")
        at = frame.time
        if at is None:
            raise Refused(Refusal.DAMAGED, "a picture without a time")
        shown = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else step_s
        self._begin = at if self._begin is None else min(self._begin, at)
        self._end = max(self._end, at + shown)
        self._frames += 1
        # Frames as well as seconds: a bomb may hold any number of them at the same instant.
        if self.duration_s > self._max_s or self._frames > self._max_s * _MAX_FRAMES_A_SECOND:
            raise Refused(Refusal.TOO_LONG)

    @property
    def duration_s(self) -> float:
        return 0.0 if self._begin is None else self._end - self._begin


def _measured_film(container: InputContainer, film: Film, size: int, limits: Limits) -> Measures:
    moving, sounds = _streams_of_film(container, film)
    context = moving.codec_context
    context.thread_count = 1  # each thread of a decoder keeps frames of its own
    step_s = float(1 / moving.average_rate) if moving.average_rate else 0.0
    seen = _Seen(limits.max_film_s)
    heard = _Heard(sounds[0], limits.max_film_s) if sounds else None
    wanted = {moving.index} | {each.index for each in sounds}
    tally = _Tally()
    for packet in container.demux():
        if packet.stream.index not in wanted:
            continue  # data of cameras, such as positions: nobody's business, and foreign bytes like any other
        tally.packets += 1
        try:
            for frame in packet.decode():
                if isinstance(frame, VideoFrame):
                    seen.take(frame, step_s)
                elif isinstance(frame, AudioFrame) and heard is not None:
                    heard.take(frame)
            tally.size += packet.size
        except av.error.InvalidDataError:
            tally.bad += 1
    _check_tally(tally, size)
    if seen.size is None:
        raise Refused(Refusal.EMPTY)
    duration_ms = max(round(seen.duration_s * 1000), heard.duration_ms if heard else 0)
    if duration_ms < _MIN_DURATION_MS:
        raise Refused(Refusal.TOO_SHORT)
    measures = heard.measures(film.mime, duration_ms) if heard else Measures(mime=film.mime, duration_ms=duration_ms)
    return replace(measures, width=seen.size[0], height=seen.size[1])


def _streams_of_film(container: InputContainer, film: Film) -> tuple[VideoStream, Sequence[AudioStream]]:
    for stream in container.streams:
        if stream.type not in ("audio", "video", "data"):
            raise Refused(Refusal.NOT_AUDIO, stream.type)
    moving = [stream for stream in container.streams.video if _moves(stream)]
    if len(moving) > 1:
        raise Refused(Refusal.SEVERAL_FILMS)
    context = moving[0].codec_context
    _check_codec(context, film.codecs)
    if context.width * context.height > _MAX_FILM_PIXELS:
        raise Refused(Refusal.TOO_MANY_PIXELS, f"{context.width}x{context.height}")
    sounds = container.streams.audio
    if sounds:
        _check_sound(sounds, film.sound_codecs)
    return moving[0], sounds


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
