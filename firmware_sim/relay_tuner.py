"""Listens to the relay sources a device is told to listen to, and puts out what they say while they are played.

Decides nothing about what is believed and what sounds: that is `relay_reading`. Lists and segments come over HTTP, every
device asks for its own; a segment is decoded by FFmpeg before it counts as being there. Nothing of it goes to flash.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Coroutine
from typing import Protocol

from firmware_sim import effects, inputs, relay_reading, relay_stream
from firmware_sim.clock import Moment
from firmware_sim.errors import DownloadFailed, NotServed
from firmware_sim.player import Decoding
from firmware_sim.programme import Figures
from firmware_sim.relay_reading import Reading
from firmware_sim.relay_stream import Station, Stream
from firmware_sim.trust import Refusal, Trust
from firmware_sim.workshop import Workshop
from schemas import limits, signing
from schemas.events import MessageKind, RefusalReason
from schemas.relays import Segment

LIST_BYTES = limits.SEGMENT_LIST_BYTES + signing.OVERHEAD_BYTES


class Listener(Protocol):
    """The device that listens."""

    @property
    def believes(self) -> Trust:
        """Whom it believes right now."""

    @property
    def speed(self) -> float:
        """How fast its clock runs."""

    def now(self) -> Moment:
        """The present moment as it sees it."""

    def feed(self, happened: inputs.Input) -> None:
        """Let it know."""

    def started(self, token: int) -> None:
        """Tell it that the first sample of a part was put out."""


class Tuner:
    """The relay sources of one device. Parts are known by their token."""

    def __init__(self, listener: Listener, workshop: Workshop, *, phase: float) -> None:
        self._listener = listener
        self._workshop = workshop
        self._phase = phase
        self._tuned: dict[uuid.UUID, _Relayed | _Direct] = {}
        self._parts: dict[int, _Relayed | _Direct] = {}

    def tune(self, wanted: effects.Tune) -> None:
        """Begin to listen to a source."""
        source_id = wanted.source.source_id
        self.untune(source_id)
        if wanted.source.is_authenticated:
            self._tuned[source_id] = _Relayed(wanted, self._listener, self._workshop, self._phase)
        else:
            self._tuned[source_id] = _Direct(wanted, self._listener, self._workshop)

    def untune(self, source_id: uuid.UUID) -> None:
        """Listen to a source no longer. A part of it that is still under way has its figures."""
        tuned = self._tuned.pop(source_id, None)
        if tuned is not None:
            tuned.close()

    def close(self) -> None:
        """Listen to nothing."""
        for source_id in tuple(self._tuned):
            self.untune(source_id)
        self._parts.clear()

    def start(self, token: int, source_id: uuid.UUID) -> None:
        """Put out a source from now on; the device is told when its first sample was."""
        tuned = self._tuned[source_id]
        self._parts[token] = tuned
        tuned.start(token)

    def plays(self, token: int) -> bool:
        """Whether this part is one of a relay."""
        return token in self._parts

    def stop(self, token: int) -> Figures:
        """End a part now and tell what it really put out."""
        return self._parts.pop(token).stop(token)


class _Relayed:
    """A source that comes through the relay point."""

    def __init__(self, wanted: effects.Tune, listener: Listener, workshop: Workshop, phase: float) -> None:
        self._url = wanted.url
        self._base = wanted.url.removesuffix(wanted.source.path or "")
        self._listener = listener
        self._workshop = workshop
        self._reading = Reading(source=wanted.source, phase=phase)
        self._etag: str | None = None
        self._pieces: dict[int, Decoding] = {}  # decoded segments by number
        self._parts: dict[int, _Part] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_heard = False
        self._is_closed = False
        self._look_soon()

    def close(self) -> None:
        self._credit(self._listener.now())
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def start(self, token: int) -> None:
        self._parts[token] = _Part()
        self._look_soon()

    def stop(self, token: int) -> Figures:
        self._credit(self._listener.now())
        return self._parts.pop(token).figures()

    # --- one look ----------------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        """Never within a call of the device's: it is told something then, and is in the middle of saying something."""
        self._look_in(0)

    def _look_in(self, wait_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_closed:
            wait_s = wait_ms / 1_000 / self._listener.speed
            self._timer = self._workshop.loop.call_later(wait_s, self._look)

    def _look(self) -> None:
        now = self._listener.now()
        self._credit(now)
        if not self._reading.is_asking and now.uptime_ms >= self._reading.ask_at_ms:
            self._reading = relay_reading.asked(self._reading)
            self._go(self._ask())
        self._reading, begun = relay_reading.begin_fetch(self._reading, now=now)
        for segment in begun:
            self._go(self._fetch(segment))
        self._pieces = {number: piece for number, piece in self._pieces.items() if number in self._reading.ready}
        self._begin_parts(now)
        wait_ms = relay_reading.next_look_ms(self._reading, now=now)
        if wait_ms is not None:
            self._look_in(wait_ms)
        # Last, because the device may begin or end a part at once, and then wants another look.
        self._tell(is_heard=relay_reading.at_position(self._reading, now=now) is not None)

    def _credit(self, now: Moment) -> None:
        """Count what was put out since the last look."""
        position_ms = relay_reading.position_ms(self._reading, now=now)
        if position_ms is None or self._is_closed:
            return
        for part in self._parts.values():
            part.credit(self._reading, self._pieces, position_ms)

    def _begin_parts(self, now: Moment) -> None:
        if relay_reading.at_position(self._reading, now=now) is None:
            return
        for token, part in tuple(self._parts.items()):
            if part.position_ms is None:
                part.position_ms = relay_reading.position_ms(self._reading, now=now)
                self._listener.started(token)

    def _tell(self, *, is_heard: bool) -> None:
        if is_heard == self._is_heard:
            return
        self._is_heard = is_heard
        source_id = self._reading.source.source_id
        self._listener.feed(
            inputs.SourceSounds(source_id=source_id)
            if is_heard
            else inputs.SourceSilent(source_id=source_id, detail=self._reading.trouble)
        )

    # --- over HTTP ---------------------------------------------------------------------------------------------------

    def _go(self, work: Coroutine[None, None, None]) -> None:
        task = self._workshop.tasks.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self) -> None:
        refusal: Refusal | None = None
        try:
            answer = await self._workshop.downloader.ask(self._url, limit=LIST_BYTES, etag=self._etag)
        except DownloadFailed as error:
            self._reading = relay_reading.unanswered(
                self._reading, str(error), is_reachable=isinstance(error, NotServed), now=self._listener.now()
            )
        else:
            now = self._listener.now()
            if answer is None:
                self._reading = relay_reading.unchanged(self._reading, now=now)
            else:
                self._reading, refusal = relay_reading.listed(
                    self._reading, answer.content, self._listener.believes, now=now
                )
                self._etag = answer.etag if refusal is None else None
                self._workshop.tally["relay_lists"] += 1
        if refusal is not None:
            self._refuse(MessageKind.SEGMENTS, refusal)
        self._look_soon()

    async def _fetch(self, segment: Segment) -> None:
        try:
            answer = await self._workshop.downloader.ask(f"{self._base}{segment.path}", limit=segment.size)
        except DownloadFailed as error:
            self._reading = relay_reading.failed(self._reading, segment, str(error), now=self._listener.now())
        else:
            assert answer is not None, "nothing was asked about with a tag"
            await self._take(segment, answer.content)
        self._look_soon()

    async def _take(self, segment: Segment, content: bytes) -> None:
        """Take in a segment: by its hash, and only if the decoder can read it."""
        if len(content) != segment.size or hashlib.sha256(content).digest() != segment.sha256:
            detail = f"segment {segment.sequence} is not what was signed"
            self._reading = relay_reading.failed(self._reading, segment, detail, now=self._listener.now())
            self._refuse(MessageKind.MEDIA, Refusal(reason=RefusalReason.WRONG_HASH, detail=detail))
            return
        piece = await self._workshop.player.decode(segment.sha256, content)
        if piece.error is not None:
            detail = f"segment {segment.sequence} cannot be decoded: {piece.error}"
            self._reading = relay_reading.failed(self._reading, segment, detail, now=self._listener.now())
            return
        self._pieces[segment.sequence] = piece
        self._reading = relay_reading.fetched(self._reading, segment)
        self._workshop.tally["relay_segments"] += 1

    def _refuse(self, kind: MessageKind, refusal: Refusal) -> None:
        source_id = self._reading.source.source_id
        self._listener.feed(inputs.SourceRefused(source_id=source_id, kind=kind, refusal=refusal))


class _Part:
    """What was put out of a relayed source, segment by segment."""

    def __init__(self) -> None:
        self.position_ms: int | None = None  # of the source, up to which it is counted; None before the first sample
        self._sounded_ms = 0
        self._samples = 0
        self._rate_hz: int | None = None

    def credit(self, reading: Reading, pieces: dict[int, Decoding], position_ms: int) -> None:
        if self.position_ms is None or reading.newest is None:
            return
        for segment in reading.newest.segments:
            piece = pieces.get(segment.sequence)
            begin_ms = max(self.position_ms, segment.starts_at_ms)
            sounded_ms = min(position_ms, segment.ends_at_ms) - begin_ms
            if piece is not None and sounded_ms > 0:
                self._sounded_ms += sounded_ms
                self._samples += piece.samples * sounded_ms // segment.duration_ms
                self._rate_hz = piece.rate_hz
        self.position_ms = max(self.position_ms, position_ms)

    def figures(self) -> Figures:
        if self._rate_hz is None:
            return Figures(sounded_ms=0)
        sounded_ms = min(self._sounded_ms, self._samples * 1_000 // self._rate_hz)
        return Figures(sounded_ms=sounded_ms, samples=self._samples, sample_rate_hz=self._rate_hz)


class _Direct:
    """A source taken from its own address."""

    def __init__(self, wanted: effects.Tune, listener: Listener, workshop: Workshop) -> None:
        self._source_id = wanted.source.source_id
        self._listener = listener
        self._loop = workshop.loop
        self._parts: dict[int, tuple[Stream, float] | None] = {}  # the stream and where it was when the part began
        self._is_heard = False
        self._station: Station | None = None
        if wanted.url.startswith("fm://"):
            silent = inputs.SourceSilent(source_id=self._source_id, detail="no FM receiver in this simulation")
            self._loop.call_soon(listener.feed, silent)
        else:
            self._station = workshop.streams.station(wanted.url)
            self._loop.call_soon(self._join, self._station)

    def _join(self, station: Station) -> None:
        if self._station is station:
            station.join(self, self._look)
            self._look()

    def close(self) -> None:
        if self._station is not None:
            self._station.leave(self)
            self._station = None

    def start(self, token: int) -> None:
        self._parts[token] = None
        self._loop.call_soon(self._look)

    def stop(self, token: int) -> Figures:
        begun = self._parts.pop(token)
        return Figures(sounded_ms=0) if begun is None else relay_stream.figures(*begun)

    def _look(self) -> None:
        station = self._station
        if station is None:
            return
        stream = station.stream if station.is_heard else None
        if stream is not None:
            for token, begun in tuple(self._parts.items()):
                if begun is None:
                    self._parts[token] = (stream, stream.position_s())
                    self._listener.started(token)
        if self._is_heard is not (stream is not None):
            self._is_heard = stream is not None
            self._listener.feed(
                inputs.SourceSounds(source_id=self._source_id)
                if self._is_heard
                else inputs.SourceSilent(source_id=self._source_id, detail=station.trouble)
            )
