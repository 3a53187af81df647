"""Putting content out: real decoding of the real file, and a clock instead of a sound card.

What is real. The file that was downloaded and verified is decoded to its last sample by FFmpeg (through PyAV), and
every figure a play claims is taken from what the decoder has returned by then: a play begins when the decoder has
returned the first sample at its position, and at its end it claims the samples that lie between its position and the
time it sounded, never more than have been decoded. A file that stops being decodable half-way ends the play there.

What is virtual. There is no sound card: time passes by the device's own drifting clock instead of by samples leaving a
converter. And one process decodes a file once, for all devices that hold the same verified bytes (equal SHA-256), so
that 418 clusters can play the same news on a fraction of a core; the samples are counted and thrown away. A board has no
screen: text is shown by time passing, an image by decoding it, a video by decoding every frame of it; a video is over
when its last frame is.
"""

from __future__ import annotations

import asyncio
import enum
import io
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

import av
import av.error
from av.audio.frame import AudioFrame

from firmware_sim.errors import NotPlayable
from firmware_sim.programme import Figures

log = logging.getLogger(__name__)

CHUNK_S = 10  # seconds of sound decoded in one go: some 20 ms of processor time, so files take turns
VIDEO_CHUNK_S = 1  # of video, which takes some ten times as long
_VIDEO_RATE_HZ = 1_000  # "samples" of a video are milliseconds
_FRAME_RATE_HZ = 25  # where a file does not say


class Medium(enum.Enum):
    """What a part puts out."""

    SOUND = 0
    IMAGE = 1
    TEXT = 2
    VIDEO = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stretch of output. `speed` is how fast the device's clock runs."""

    token: int
    medium: Medium
    sha256: bytes | None
    file: str | None
    position_ms: int
    speed: float


class Stage(Protocol):
    """Whom the player tells."""

    def started(self, token: int) -> None:
        """The first sample has left the decoder."""

    def finished(self, token: int, figures: Figures) -> None:
        """The content came to its end."""

    def broke(self, token: int, figures: Figures, detail: str) -> None:
        """The decoder gave up; nothing more comes."""


class Decoding:
    """One file being decoded: how far the decoder has come. Steps run in a thread, everything else in the loop.

    The bytes may also be given themselves: what a relay says goes to no flash.
    """

    def __init__(self, file: Path | bytes, medium: Medium) -> None:
        self._file = file
        self._medium = medium
        self._steps: Iterator[int] | None = None
        self.rate_hz = 0
        self.samples = 0
        self.is_over = False
        self.error: str | None = None

    def step(self) -> None:
        """Decode some more; runs in a thread, one at a time per file."""
        if self.is_over:
            return
        try:
            if self._steps is None:
                self._steps = self._open()
            chunk_s = VIDEO_CHUNK_S if self._medium is Medium.VIDEO else CHUNK_S
            target = self.samples + chunk_s * max(self.rate_hz, 1)
            while self.samples < target or not self.rate_hz:
                self.samples += next(self._steps)
        except StopIteration:
            self._end(None if self.samples else "no samples in it")
        except (av.error.FFmpegError, NotPlayable, OSError, ValueError) as error:
            self._end(f"{type(error).__name__}: {error}"[:160])

    def _end(self, error: str | None) -> None:
        self.error = error
        self.is_over = True
        self._steps = None

    def _open(self) -> Iterator[int]:
        match self._medium:
            case Medium.IMAGE:
                return self._image()
            case Medium.VIDEO:
                return self._video()
            case _:
                return self._sound()

    def _source(self) -> Path | io.BytesIO:
        return io.BytesIO(self._file) if isinstance(self._file, bytes) else self._file

    def _sound(self) -> Iterator[int]:
        """Sample counts of the decoded frames, in order."""
        with av.open(self._source(), mode="r") as container:
            if not container.streams.audio:
                raise NotPlayable("no audio in it")
            for frame in container.decode(container.streams.audio[0]):
                assert isinstance(frame, AudioFrame)
                if not self.rate_hz:
                    self.rate_hz = frame.sample_rate
                elif frame.sample_rate != self.rate_hz:
                    raise NotPlayable("the sample rate changes within the file")
                yield frame.samples

    def _image(self) -> Iterator[int]:
        """One decoded picture counts as one sample; it has no rate and no length."""
        with av.open(self._source(), mode="r") as container:
            if not container.streams.video:
                raise NotPlayable("no picture in it")
            next(iter(container.decode(container.streams.video[0])))
            self.rate_hz = 1
            yield 1

    def _video(self) -> Iterator[int]:
        """Milliseconds of the decoded frames, in order: each lasts until the next, the last as long as one does."""
        with av.open(self._source(), mode="r") as container:
            if not container.streams.video:
                raise NotPlayable("no picture in it")
            stream = container.streams.video[0]
            frame_s = 1 / float(stream.average_rate or _FRAME_RATE_HZ)
            begin_s: float | None = None
            shown_ms = 0
            for number, frame in enumerate(container.decode(stream)):
                at_s = number * frame_s if frame.pts is None else frame.time
                begin_s = at_s if begin_s is None else begin_s
                until_ms = max(shown_ms, round((at_s - begin_s + frame_s) * 1_000))
                self.rate_hz = _VIDEO_RATE_HZ
                yield until_ms - shown_ms
                shown_ms = until_ms


class _Showing:
    """A part under way."""

    __slots__ = ("began", "decoding", "offset", "part", "stage", "timer")

    def __init__(self, part: Part, decoding: Decoding | None, stage: Stage) -> None:
        self.part = part
        self.decoding = decoding
        self.stage = stage
        self.began: float | None = None  # loop time
        self.offset = 0  # samples before the part
        self.timer: asyncio.TimerHandle | None = None


def _complain(decoding: Decoding, unreadable: Callable[[str], None]) -> bool:
    """Tell of a file without a single sample; whether it needs no further look."""
    if decoding.is_over and not decoding.samples:
        unreadable(decoding.error or "no samples in it")
    return decoding.is_over or decoding.samples > 0


class Player:
    """Output of a whole fleet. Keys of parts are (device, token)."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Decoding must never take the processor from the fleet's own work, so one thread does all of it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder")
        self._decodings: dict[bytes, Decoding] = {}
        self._waiting: dict[bytes, list[Callable[[], bool]]] = {}
        self._parts: dict[tuple[str, int], _Showing] = {}
        # Pieces live as long as a device holds them.
        self._pieces: WeakValueDictionary[bytes, Decoding] = WeakValueDictionary()
        self._counted: WeakValueDictionary[bytes, Decoding] = WeakValueDictionary()
        self.files_decoded = 0
        self.samples_decoded = 0

    def close(self) -> None:
        """Stop decoding."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def sounding(self) -> int:
        """Parts under way."""
        return sum(1 for showing in self._parts.values() if showing.began is not None)

    def prepare(
        self, sha256: bytes, file: str | Path, medium: Medium, *, unreadable: Callable[[str], None] | None = None
    ) -> None:
        """Begin to decode a file before it is needed, so that its first sample is there when it is.

        `unreadable` is told when there is none: a device that knows that in time cuts nothing for such a file.
        """
        if sha256 not in self._decodings:
            self._decodings[sha256] = Decoding(Path(file), medium)
            self._waiting[sha256] = []
            self._decode(sha256)
        if unreadable is not None:
            decoding = self._decodings[sha256]
            self._when_decoded(sha256, lambda: _complain(decoding, unreadable))

    async def decode(self, sha256: bytes, content: bytes) -> Decoding:
        """Decode a short piece of sound to its end: once for everybody who holds the same verified bytes."""
        decoding = self._pieces.get(sha256)
        if decoding is None:
            decoding = self._pieces[sha256] = Decoding(content, Medium.SOUND)
        while not decoding.is_over:
            await self._loop.run_in_executor(self._thread, decoding.step)
        if sha256 not in self._counted:
            self._counted[sha256] = decoding
            self.files_decoded += 1
            self.samples_decoded += decoding.samples
        return decoding

    def start(self, device: str, part: Part, stage: Stage) -> None:
        """Begin a part as soon as its first sample is decoded; what comes of it is told to `stage`."""
        if part.medium is Medium.TEXT:
            showing = self._parts[device, part.token] = _Showing(part, None, stage)
            showing.began = self._loop.time()
            stage.started(part.token)
            return
        assert part.sha256 is not None
        assert part.file is not None
        if not os.access(part.file, os.R_OK):
            stage.broke(part.token, Figures(sounded_ms=0), "the file is gone")
            return
        self.prepare(part.sha256, part.file, part.medium)
        decoding = self._decodings[part.sha256]
        self._parts[device, part.token] = _Showing(part, decoding, stage)
        self._when_decoded(part.sha256, lambda: self._advance(device, part.token))

    def stop(self, device: str, token: int) -> Figures:
        """End a part now and tell what it really put out."""
        showing = self._parts.pop((device, token), None)
        if showing is None:
            return Figures(sounded_ms=0)
        if showing.timer is not None:
            showing.timer.cancel()
        return self._figures(showing)

    def silence(self, device: str) -> None:
        """Everything a device puts out is gone, with its power."""
        for key in [key for key in self._parts if key[0] == device]:
            self.stop(*key)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _advance(self, device: str, token: int) -> bool:
        """Bring a part forward as far as the decoder has come; whether it needs no further look."""
        showing = self._parts.get((device, token))
        if showing is None:
            return True
        decoding, part = showing.decoding, showing.part
        assert decoding is not None
        if showing.began is None:
            if not decoding.rate_hz:
                return decoding.is_over and self._give_up(device, showing)
            showing.offset = 0 if part.medium is Medium.IMAGE else part.position_ms * decoding.rate_hz // 1_000
            if decoding.samples <= showing.offset:
                return decoding.is_over and self._give_up(device, showing)
            showing.began = self._loop.time()
            showing.stage.started(part.token)
            if (device, token) not in self._parts:
                return True  # stopped by whoever was told
        if not decoding.is_over:
            return False
        if part.medium in (Medium.SOUND, Medium.VIDEO):
            length_s = (decoding.samples - showing.offset) / decoding.rate_hz / part.speed
            showing.timer = self._loop.call_at(showing.began + length_s, self._reach_end, device, token)
        return True

    def _give_up(self, device: str, showing: _Showing) -> bool:
        """A part whose first sample never came: the file is broken, or ends before the position."""
        assert showing.decoding is not None
        del self._parts[device, showing.part.token]
        if showing.decoding.error is not None:
            showing.stage.broke(showing.part.token, Figures(sounded_ms=0), showing.decoding.error)
        else:
            showing.stage.finished(showing.part.token, Figures(sounded_ms=0))
        return True

    def _reach_end(self, device: str, token: int) -> None:
        showing = self._parts.pop((device, token))
        assert showing.decoding is not None
        figures = self._figures(showing, is_whole=True)
        if showing.decoding.error is not None:
            showing.stage.broke(token, figures, showing.decoding.error)
        else:
            showing.stage.finished(token, figures)

    def _figures(self, showing: _Showing, *, is_whole: bool = False) -> Figures:
        if showing.began is None:
            return Figures(sounded_ms=0)
        elapsed_s = (self._loop.time() - showing.began) * showing.part.speed
        if showing.decoding is None or showing.part.medium is Medium.IMAGE:
            return Figures(sounded_ms=round(elapsed_s * 1_000))
        decoded = showing.decoding.samples - showing.offset
        rate_hz = showing.decoding.rate_hz
        samples = decoded if is_whole else min(decoded, round(elapsed_s * rate_hz))
        if showing.part.medium is Medium.VIDEO:
            return Figures(sounded_ms=samples * 1_000 // rate_hz)
        return Figures(sounded_ms=samples * 1_000 // rate_hz, samples=samples, sample_rate_hz=rate_hz)

    def _when_decoded(self, sha256: bytes, look: Callable[[], bool]) -> None:
        """Call `look` now and after every step of the decoder until it returns True."""
        if not look():
            self._waiting[sha256].append(look)

    def _decode(self, sha256: bytes) -> None:
        """Run the next step in the decoder's thread; files queue up there and take turns."""
        future = self._loop.run_in_executor(self._thread, self._decodings[sha256].step)
        future.add_done_callback(lambda done: self._stepped(sha256, done))

    def _stepped(self, sha256: bytes, done: asyncio.Future[None]) -> None:
        if done.cancelled():
            return
        done.result()
        decoding = self._decodings[sha256]
        if decoding.is_over:
            self.files_decoded += 1
            self.samples_decoded += decoding.samples
            if decoding.error is not None:
                log.warning("media_not_decodable", extra={"sha256": sha256.hex(), "error": decoding.error})
        else:
            self._decode(sha256)
        waiting, self._waiting[sha256] = self._waiting[sha256], []
        self._waiting[sha256] += [look for look in waiting if not look()]
