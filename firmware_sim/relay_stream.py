"""A source taken directly: a foreign stream over HTTP, really decoded as it comes. Nobody signs what it says (R-21).

What is virtual: one process takes a stream once for all its devices, and there is no FM receiver.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import av
import av.error
from av.audio.frame import AudioFrame

from firmware_sim.programme import Figures

log = logging.getLogger(__name__)

OPEN_S, READ_S = 5.0, 3.0  # until a server that says nothing is given up, and a stream that stopped coming
AHEAD_S = 5.0  # decoded before it is needed: a server that gives a file gives it at once
STARVED_S = 1.0  # behind the last decoded sample: the stream has stopped
AGAIN_S = 5.0  # before a stream that ended is tried again
STREAMS = 8  # different ones at once


class Stream:
    """One stream, from the first sample to where it ends or breaks. Decoded in a thread, asked about in the loop."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        self._url = url
        self._loop = loop
        self._changed = changed
        self._leaving = threading.Event()
        self.began = 0.0  # loop time of the first sample
        self.rate_hz = 0
        self.samples = 0
        self.ending: str | None = None  # why nothing more comes

    def close(self) -> None:
        """Let the thread end."""
        self._leaving.set()

    def position_s(self) -> float:
        """Seconds of the stream that have passed; never more than were decoded."""
        return min(self._loop.time() - self.began, self.decoded_s) if self.rate_hz else 0.0

    @property
    def decoded_s(self) -> float:
        """Seconds of the stream that are decoded."""
        return self.samples / self.rate_hz if self.rate_hz else 0.0

    @property
    def silent_in_s(self) -> float:
        """Seconds until there is nothing to put out unless more comes; 0 or less when it is so."""
        if not self.rate_hz:
            return 0.0
        grace_s = 0.0 if self.ending is not None else STARVED_S
        return self.began + self.decoded_s + grace_s - self._loop.time()

    def run(self) -> None:
        """Decode until the stream ends or nobody listens any more; runs in a thread."""
        try:
            with av.open(self._url, timeout=(OPEN_S, READ_S)) as container:
                if not container.streams.audio:
                    self._end("no audio in it")
                    return
                begun_s = time.monotonic()
                for frame in container.decode(container.streams.audio[0]):
                    assert isinstance(frame, AudioFrame)
                    if self.rate_hz not in (0, frame.sample_rate):
                        self._end("the sample rate changes within the stream")
                        return
                    self.samples += frame.samples
                    if not self.rate_hz:
                        self.rate_hz = frame.sample_rate
                        begun_s = time.monotonic()
                        self._loop.call_soon_threadsafe(self._begin)
                    ahead_s = self.decoded_s - (time.monotonic() - begun_s) - AHEAD_S
                    if self._leaving.wait(max(0.0, ahead_s)):
                        return
            self._end("it ended")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._end(f"{type(error).__name__}: {error}")

    def _begin(self) -> None:
        self.began = self._loop.time()
        self._changed()

    def _end(self, reason: str) -> None:
        self.ending = reason[:100]
        if not self._leaving.is_set():
            self._loop.call_soon_threadsafe(self._changed)


class Station:
    """Everybody who listens to one address, and the stream they hear while there is one."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, threads: ThreadPoolExecutor) -> None:
        self._url = url
        self._loop = loop
        self._threads = threads
        self._listeners: dict[object, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.stream: Stream | None = None
        self.trouble = "nothing was heard of it yet"

    @property
    def is_deserted(self) -> bool:
        """Whether nobody listens."""
        return not self._listeners

    @property
    def is_heard(self) -> bool:
        """Whether there is sound right now."""
        return self.stream is not None and self.stream.silent_in_s > 0

    def join(self, who: object, look: Callable[[], None]) -> None:
        """Listen from now on; `look` is called whenever sound begins or ends."""
        self._listeners[who] = look
        if self.stream is None and self._timer is None:
            self._tune_in()

    def leave(self, who: object) -> None:
        """Listen no longer; the last one to leave turns it off."""
        self._listeners.pop(who, None)
        if self.is_deserted:
            self._turn_off()

    def _tune_in(self) -> None:
        self._timer = None
        stream = Stream(self._url, self._loop, lambda: self._look(stream))
        self.stream = stream
        running = self._loop.run_in_executor(self._threads, stream.run)
        running.add_done_callback(lambda done: done.cancelled() or done.result())  # a bug must not vanish in a thread

    def _look(self, stream: Stream) -> None:
        """The stream began, ended, or may have run dry."""
        if stream is not self.stream:
            return
        wait_s = stream.silent_in_s
        if self._timer is not None:
            self._timer.cancel()
        if wait_s > 0:
            self._timer = self._loop.call_later(wait_s, self._look, stream)
        else:
            self.trouble = stream.ending or "the stream stopped coming"
            log.info("stream_silent", extra={"url": self._url, "detail": self.trouble})
            stream.close()
            self.stream = None
            self._timer = self._loop.call_later(AGAIN_S, self._tune_in)
        for look in tuple(self._listeners.values()):
            look()

    def _turn_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class Streams:
    """All streams a process takes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(max_workers=STREAMS, thread_name_prefix="stream")
        self._stations: dict[str, Station] = {}

    def close(self) -> None:
        """Turn everything off."""
        for station in self._stations.values():
            if station.stream is not None:
                station.stream.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def station(self, url: str) -> Station:
        """Where to join the listeners of an address."""
        self._stations = {known: each for known, each in self._stations.items() if not each.is_deserted}
        if url not in self._stations:
            self._stations[url] = Station(url, self._loop, self._threads)
        return self._stations[url]


def figures(stream: Stream, from_s: float) -> Figures:
    """What was put out of a stream since its position was `from_s`."""
    samples = max(0, round((stream.position_s() - from_s) * stream.rate_hz))
    return Figures(sounded_ms=samples * 1_000 // stream.rate_hz, samples=samples, sample_rate_hz=stream.rate_hz)
