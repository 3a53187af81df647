"""The province's relay point: live sources in, signed lists of short segments out (R-21).

One process relays a source at a time, by a lease in the database; a source is relayed while one of its emissions sounds
or begins within a minute. Reading and decoding happen in a process per source (`relay_reader`); this side stores what it
hands out, signs, and writes down how the source does. While the database is away relays go on: nobody else can take the
lease then either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from schemas import limits
from schemas.relays import RelayState, Segment
from services.control import relay_store, relay_timeline
from services.control.engine_settings import RelaySettings
from services.control.metrics import ControlMetrics
from services.control.planning.model import from_ms, to_ms
from services.control.relay_files import RelayFiles
from services.control.relay_reader import MIME, Cut, Options
from services.control.relay_store import DueSource, Health
from services.control.relay_timeline import Form, Heard, Listening
from services.control.relay_troubles import Trouble, Troubled
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Database

LEAD = timedelta(minutes=1)  # a source is found out to be silent before its emission begins, not by its audience
LEASE = timedelta(seconds=15)
LIST_VALID = timedelta(seconds=30)
SIGN_EVERY = timedelta(seconds=10)  # when nothing new comes: a list that runs out would tell devices less than we know
SWEEP_EVERY = timedelta(seconds=30)
FIRST_BACK_OFF = timedelta(seconds=1)
LONGEST_BACK_OFF = timedelta(seconds=30)
RELEASE_WITHIN = timedelta(seconds=2)
# What a reader may take beyond its own time-outs until something must have come: connecting, probing, a busy machine.
_GRACE = timedelta(seconds=10)
_HEADER_BYTES = 64 * 1024
_FAR_MS = 60_000  # from now: no segment of a reader that does its work

CONNECTING, ON_AIR, SILENT, UNREACHABLE = "connecting", "on_air", "silent", "unreachable"

log = logging.getLogger(__name__)


async def run_relay_point(
    database: Database, *, files: RelayFiles, settings: RelaySettings, keyring: Keyring, metrics: ControlMetrics
) -> None:
    """Relay what is due until cancelled; then stop every reader and leave the sources to others."""
    async with asyncio.TaskGroup() as group:
        point = RelayPoint(database, group, files=files, settings=settings, keyring=keyring, metrics=metrics)
        try:
            await take_turns(
                "relays",
                lambda: point.turn(now=utc_now()),
                every=settings.turn_every,
                wake=asyncio.Event(),
                metrics=metrics,
            )
        finally:
            await point.leave(now=utc_now())


class RelayPoint:
    """The relays of one process. `group` is where their tasks live."""

    def __init__(
        self,
        database: Database,
        group: asyncio.TaskGroup,
        *,
        files: RelayFiles,
        settings: RelaySettings,
        keyring: Keyring,
        metrics: ControlMetrics,
    ) -> None:
        self._database = database
        self._group = group
        self._files = files
        self._settings = settings
        self._keyring = keyring
        self._metrics = metrics
        self._holder = str(uuid.uuid4())
        self._running: dict[uuid.UUID, _Running] = {}
        self._swept_at: datetime | None = None
        self._told: set[str] = set()

    async def turn(self, *, now: datetime) -> bool:
        """Start what is due and free, stop what is over, write down how each does. There is never more to do at once."""
        async with self._database.connection() as connection:
            due = await relay_store.due(connection, now=now, lead=LEAD)
            held: set[uuid.UUID] = set()
            # Those that run here first: a source keeps its reader, whatever else becomes due.
            for source in sorted(due, key=lambda each: each.source_id not in self._running):
                has_room = source.source_id in self._running or len(held) < self._settings.at_once
                if has_room and await relay_store.lease(
                    connection, source.source_id, holder=self._holder, until=now + LEASE, now=now
                ):
                    held.add(source.source_id)
        await self._stop([source_id for source_id in self._running if source_id not in held])
        for source in due:
            if source.source_id in held:
                await self._start(source)
        await self._note(due, now=now)
        if self._swept_at is None or now - self._swept_at >= SWEEP_EVERY:
            await self._files.sweep(now=now)
            self._swept_at = now
        return False

    async def leave(self, *, now: datetime) -> None:
        """Stop everything and give the leases up, if the database is there to take them."""
        held = list(self._running)
        await self._stop(held, gone=True)
        with contextlib.suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(RELEASE_WITHIN.total_seconds()), self._database.connection() as connection:
                await relay_store.release(connection, held, holder=self._holder, at=now)

    async def _start(self, source: DueSource) -> None:
        running = self._running.get(source.source_id)
        if running is not None and running.relay.source.version != source.version:
            await self._end(running)  # it was changed: connect to what it is now
            running = None
        if running is None:
            relay = Relay(
                source, files=self._files, settings=self._settings, keyring=self._keyring, metrics=self._metrics
            )
            task = self._group.create_task(relay.run())
            self._running[source.source_id] = _Running(relay=relay, task=task)
            log.info("relay_started", extra={"source": str(source.source_id), "source_name": source.name})

    async def _stop(self, source_ids: Sequence[uuid.UUID], *, gone: bool = False) -> None:
        """End relays; unless all this process does is over (`gone`), say in the database that they are idle."""
        for source_id in source_ids:
            running = self._running.pop(source_id)
            await self._end(running)
            if not gone:
                await self._files.clear(source_id)
            log.info("relay_stopped", extra={"source": str(source_id), "source_name": running.relay.source.name})
        if source_ids and not gone:
            async with self._database.connection() as connection:
                await relay_store.release(connection, source_ids, holder=self._holder, at=utc_now())

    async def _end(self, running: _Running) -> None:
        running.task.cancel()
        await asyncio.wait([running.task])

    async def _note(self, due: Sequence[DueSource], *, now: datetime) -> None:
        async with self._database.connection() as connection:
            for source_id, running in self._running.items():
                await relay_store.note_health(connection, source_id, running.relay.health, holder=self._holder)
        told = set()
        for source in due:
            own = self._running.get(source.source_id)
            health = own.relay.health if own is not None else source.health
            told.add(source.name)
            self._metrics.relay_soundless_seconds.labels(source.name).set(_soundless_s(source, health, now=now))
        for name in self._told - told:
            self._metrics.relay_soundless_seconds.remove(name)
        self._told = told


def _soundless_s(source: DueSource, health: Health | None, *, now: datetime) -> float:
    """For how long devices that want the source have had no sound of it; also when nobody relays it at all."""
    if source.on_air_since is None or (health is not None and health.state == ON_AIR):
        return 0.0
    heard = health.last_sound_at if health is not None else None
    since = source.on_air_since if heard is None else max(heard, source.on_air_since)
    return max(0.0, (now - since).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    relay: Relay
    task: asyncio.Task[None]


class Relay:
    """One source being relayed. `health` is what is known of it at any moment."""

    def __init__(
        self,
        source: DueSource,
        *,
        files: RelayFiles,
        settings: RelaySettings,
        keyring: Keyring,
        metrics: ControlMetrics,
    ) -> None:
        self.source = source
        self._files = files
        self._settings = settings
        self._keyring = keyring
        self._metrics = metrics
        self._form = Form(
            segment_ms=settings.segment // timedelta(milliseconds=1),
            delay_ms=settings.delay // timedelta(milliseconds=1),
            valid_ms=LIST_VALID // timedelta(milliseconds=1),
        )
        self._keep = relay_timeline.kept(delay_ms=self._form.delay_ms, segment_ms=self._form.segment_ms)
        self._listening = Listening(
            silence_dbfs=source.silence_dbfs, silence_after_ms=source.silence_after // timedelta(milliseconds=1)
        )
        self._segments: tuple[Segment, ...] = ()
        self._heard: Heard | None = None
        self._signing = asyncio.Lock()
        self.health = Health(state=CONNECTING, since=utc_now(), last_sound_at=None, detail=None)

    async def run(self) -> None:
        """Relay until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sign_again())
            await self._follow()

    async def _follow(self) -> None:
        back_off = FIRST_BACK_OFF
        while True:
            got = 0
            try:
                async with self._reader() as output:
                    async for cut, content in _messages(output, self._patience()):
                        await self._take(cut, content)
                        got += 1
            except Troubled as troubled:
                await self._lost(troubled)
            back_off = FIRST_BACK_OFF if got else min(back_off * 2, LONGEST_BACK_OFF)
            await asyncio.sleep(back_off.total_seconds())

    def _patience(self) -> timedelta:
        return self._settings.stall_after + self._settings.segment + _GRACE

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[asyncio.StreamReader]:
        options = Options(
            url=self.source.url,
            hosts=self._settings.hosts,
            networks=tuple(map(str, self._settings.networks)),
            segment_ms=self._form.segment_ms,
            timeout_s=self._settings.stall_after.total_seconds(),
            memory_mib=self._settings.memory_mib,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.control.relay_reader",
            json.dumps(asdict(options)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # decoders talk about every torn frame
            # The rest of the environment holds passwords; a decoder has no business with them.
            env={
                name: value
                for name, value in os.environ.items()
                if name in ("PATH", "PYTHONPATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR")
            },
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _take(self, cut: Cut, content: bytes) -> None:
        """Store a segment and list it. A disk that does not take it is no reason to stop listening."""
        starts_at_ms = cut.starts_at_ms
        if abs(to_ms(utc_now()) - starts_at_ms) > _FAR_MS or cut.duration_ms != self._form.segment_ms:
            raise Troubled(Trouble.CRASHED, "a segment out of time")
        heard = self._heard or Heard(since_ms=starts_at_ms)
        self._heard = relay_timeline.hear(heard, cut.levels_dbfs, self._listening, starts_at_ms=starts_at_ms)
        try:
            sha256 = await self._files.add_segment(self.source.source_id, content)
        except OSError as error:
            log.warning("segment_not_stored", extra={"source": str(self.source.source_id), "reason": str(error)})
            await self._lost(Troubled(Trouble.NOT_STORED))
            return
        segment = Segment(
            # Larger than any this source had, also after another process relayed it: none is shorter than a millisecond.
            sequence=self._segments[-1].sequence + 1 if self._segments else starts_at_ms,
            sha256=sha256,
            size=len(content),
            mime=MIME,
            path=f"relays/{self.source.source_id}/{sha256.hex()}",
            starts_at_ms=starts_at_ms,
            duration_ms=cut.duration_ms,
            silent=self._heard.is_silent,
        )
        self._segments = relay_timeline.shown(self._segments, segment, keep=self._keep)
        self._metrics.relay_segments.inc()
        self._note(SILENT if self._heard.is_silent else ON_AIR, at_ms=segment.ends_at_ms)
        await self._sign()

    async def _lost(self, troubled: Troubled) -> None:
        self._metrics.relay_losses.labels(troubled.trouble.value).inc()
        log.warning(
            "relay_lost",
            extra={
                "source": str(self.source.source_id),
                "source_name": self.source.name,
                "trouble": troubled.trouble.value,
                "reason": troubled.detail,
            },
        )
        self._heard = None  # silence is counted from when it is heard again
        self._note(UNREACHABLE, at_ms=to_ms(utc_now()), detail=troubled.trouble.value)
        await self._sign()

    def _note(self, state: str, *, at_ms: int, detail: str | None = None) -> None:
        heard = self._heard.last_sound_ms if self._heard is not None else None
        self.health = Health(
            state=state,
            since=self.health.since if state == self.health.state else from_ms(at_ms),
            last_sound_at=from_ms(heard) if heard is not None else self.health.last_sound_at,
            detail=detail,
        )

    async def _sign_again(self) -> None:
        while True:
            await self._sign()
            await asyncio.sleep(SIGN_EVERY.total_seconds())

    async def _sign(self) -> None:
        """Hand out the list as it is now; none before anything is known: who is told "unreachable" asks less often."""
        if self.health.state == CONNECTING:
            return
        states = {ON_AIR: RelayState.ON_AIR, SILENT: RelayState.SILENT}
        async with self._signing:  # two lists under way at once could arrive in the wrong order
            now_ms = to_ms(utc_now())
            state = states.get(self.health.state, RelayState.UNREACHABLE)
            listed = relay_timeline.segment_list(
                self.source.source_id, state, self._segments, self._form, now_ms=now_ms
            )
            try:
                await self._files.put_list(self.source.source_id, self._keyring.sign(listed))
            except OSError as error:
                log.warning("list_not_stored", extra={"source": str(self.source.source_id), "reason": str(error)})


async def _messages(output: asyncio.StreamReader, patience: timedelta) -> AsyncIterator[tuple[Cut, bytes]]:
    """What a reader hands out, until it says what ended it. Raises `Troubled`, also when it says nothing for too long.

    A reader whose decoder was taken over says what it likes, so nothing of it is believed that was not looked at.
    """
    while True:
        try:
            async with asyncio.timeout(patience.total_seconds()):
                length = int.from_bytes(await output.readexactly(4), "big")
                if length > _HEADER_BYTES:
                    raise Troubled(Trouble.CRASHED, f"a header of {length} bytes")
                cut = _cut(await output.readexactly(length))
                content = await output.readexactly(cut.size)
        except TimeoutError as error:
            raise Troubled(Trouble.STALLED, "no segment") from error
        except asyncio.IncompleteReadError as error:
            raise Troubled(Trouble.CRASHED) from error
        yield cut, content


def _cut(header: bytes) -> Cut:
    """The segment a header announces. Raises `Troubled`: what it says instead, or that it makes no sense."""
    try:
        message = json.loads(header)
        if "trouble" in message:
            raise Troubled(Trouble(message["trouble"]), str(message["detail"])[:200])
        cut = Cut(
            starts_at_ms=int(message["starts_at_ms"]),
            duration_ms=int(message["duration_ms"]),
            levels_dbfs=tuple(map(float, message["levels_dbfs"])),
            size=int(message["size"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise Troubled(Trouble.CRASHED, type(error).__name__) from error
    if not 0 < cut.size <= limits.SEGMENT_BYTES or len(cut.levels_dbfs) * relay_timeline.LEVEL_MS != cut.duration_ms:
        raise Troubled(Trouble.CRASHED, "a segment out of bounds")
    return cut
