"""One device through a simulated month: the real pure core and journal, under a clock, a network and an output of air.

Time is virtual: the device is woken when its core says that something is due, and whatever lies between does not happen.
The loop does what `firmware_sim.performer` and `firmware_sim.steward` do, and like them decides nothing. It notes what
sounded (from the effects the core asked for, not from what the device tells), what reached the device, and what of its
reports reached the centre.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from firmware_sim import device, effects, inputs, memory
from firmware_sim.clock import Moment
from firmware_sim.journal import ID_BYTES, Entry, Journal
from firmware_sim.profile import Profile
from firmware_sim.programme import Figures
from firmware_sim.state import NOTED_ALIVE_EVERY_MS, DeviceState, Rhythm
from schemas import codec
from schemas.events import BootReason, EventEnvelope
from schemas.fields import ClockState, DeviceKind, PlayReference
from schemas.heartbeats import Heartbeat
from schemas.identifiers import DeviceId
from schemas.readings import Reading
from schemas.receipts import Receipt
from schemas.topics import DownlinkKind
from services.ingest import ledger
from services.local.bench import month_facts
from services.local.bench.month_facts import DAY, SECOND, Came, Clock, Month, Site, Sound, Source, Span, Stocked, Tuned
from services.local.bench.month_office import OPENED_BEFORE_MS, Downlink, clip_sha256

# Thinned out from one a minute: nothing but the proof of silence rests on heartbeats, and connecting sends one as well.
HEARTBEAT_S = 6 * 3600
DRAINED_MS = DAY  # the time after the month in which late reports still come

POLL_MS = 1_024 * SECOND  # how often a clock is set; NTP's usual longest interval
PATH_MS, PATH_JITTER_MS = 20.0, 12.0  # one way over 4G: the least, and the mean of what comes on top
SAMPLES = 4  # exchanges of which the quickest sets the clock, as NTP's filter picks it
CONNECTS_MS = 9 * SECOND  # from power or network to a session
HEARS_TIME_MS = 6 * SECOND  # from there to the time
STALLED_SHARE, STALLED_MS = 0.01, 8 * SECOND  # messages that wait for the radio
LOST_SHARE, DOUBLED_SHARE = 0.01, 0.003  # uplinks that never come, or come twice
DOWNLOAD_BYTES_PER_MS = 250  # 2 Mbit/s
FAILED_SHARE = 0.02  # downloads that break off
TIMEOUT_MS = 20 * SECOND  # of a download that brings nothing
NOTICED_MS = 4 * SECOND  # how long a device listens before it knows that a live source has sound, or has none
DECODER_MS, DECODER_JITTER_MS = 6.0, 14.0  # from the order to play to the first sample
RATE_HZ = 44_100
COMPARED_MS = 120 * SECOND  # after which a plan that a heartbeat shows to be missing is published again


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """An event as the centre stores it, once."""

    at_ms: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A heartbeat as the centre stores it."""

    at_ms: int
    plan_serial: int | None
    clock: ClockState
    device_at_ms: int


@dataclass(slots=True)
class Story:
    """What became of one device in the month."""

    clock: Clock
    sessions: tuple[Span, ...]
    sounded: list[Sound] = field(default_factory=list)
    came: list[Came] = field(default_factory=list)
    stocked: list[Stocked] = field(default_factory=list)
    tuned: list[Tuned] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    turns: int = 0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # of the network, as they came
    events_left: int = 0  # never received by the centre


class Setting:
    """By how much clocks are off when they have been set over 4G; drawn beforehand, for drawing costs more than using."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(f"setting/{seed}")  # noqa: S311 - bad luck, not secrets
        self._errors = [self._error(draw) for _ in range(10_007)]

    @staticmethod
    def _error(draw: random.Random) -> int:
        """Half of what the way there takes longer than the way back, of the quickest of some exchanges."""
        ways = [(draw.expovariate(1 / PATH_JITTER_MS), draw.expovariate(1 / PATH_JITTER_MS)) for _ in range(SAMPLES)]
        there, back = min(ways, key=sum)
        return round((there - back) / 2)

    def settings(self, number: int, *, since_ms: int, until_ms: int) -> list[tuple[int, int]]:
        """When the clock of a device would be set, and how wrong."""
        first = since_ms + number * 7_919 * SECOND % POLL_MS
        return [
            (at_ms, self._errors[(number * 31 + index * 7) % len(self._errors)])
            for index, at_ms in enumerate(range(first, until_ms, POLL_MS))
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all devices of a month share."""

    month: Month
    root_public_key: bytes
    setting: Setting
    clips: Mapping[bytes, int]  # by their hash


def common(month: Month, root_public_key: bytes) -> Common:
    """What all devices of `month` share."""
    return Common(
        month=month,
        root_public_key=root_public_key,
        setting=Setting(month.seed),
        clips={clip_sha256(clip): clip for clip in range(len(month.clips))},
    )


def live(shared: Common, site: Site, downlinks: Sequence[Downlink]) -> Story:
    """The month of one device. `downlinks` are in the order in which they are published."""
    return _Device(shared, site, downlinks).run()


# What comes first at one instant.
_POWER, _CLOCK, _NETWORK, _MESSAGE, _OUTPUT, _UPLINK = range(6)


class _Device:
    """The shell around the core."""

    def __init__(self, shared: Common, site: Site, downlinks: Sequence[Downlink]) -> None:
        month, luck = shared.month, site.luck
        self._since_ms = month.began_ms - OPENED_BEFORE_MS
        self._until_ms = month.ends_ms + DRAINED_MS
        sessions = month_facts.online(luck, since_ms=self._since_ms, until_ms=self._until_ms, connects_ms=CONNECTS_MS)
        self._clock = month_facts.clock(
            luck,
            sessions,
            shared.setting.settings(site.number, since_ms=self._since_ms, until_ms=self._until_ms),
            since_ms=self._since_ms,
            hears_after_ms=HEARS_TIME_MS,
        )
        self.story = Story(clock=self._clock, sessions=sessions)
        self._luck = luck
        self._downlinks = downlinks
        self._clips = shared.clips
        self._sources = {source.source: source for source in month.sources}
        self._tuned: set[int] = set()
        self._sounding: set[int] = set()
        self._lengths = month.clips
        self._draw = random.Random(f"device/{month.seed}/{site.number}").random  # noqa: S311 - bad luck, not secrets
        self._profile = Profile(
            id=DeviceId(site.name),
            kind=DeviceKind.CLUSTER,
            principal=DeviceId(site.name),
            root_public_key=shared.root_public_key,
        )
        self._withheld = [(clip_sha256(clip), from_ms, to_ms) for clip, from_ms, to_ms in luck.withheld]
        # What lies on the flash.
        self._files: dict[str, bytes] = {}
        self._notes: memory.Notes | None = None
        self._stored: dict[bytes, int] = {}
        self._alive_ms: int | None = None
        self._journal = Journal(site.number.to_bytes(ID_BYTES, "big"))
        # What a power cut takes.
        self._state: DeviceState | None = None
        self._inbox: deque[inputs.Input] = deque()
        self._is_busy = False
        self._parts: dict[int, _Playing] = {}
        self._booted_ms = self._since_ms
        self._life = 0
        # The world around it.
        self._now_ms = self._since_ms
        self._piece = 0  # of the clock
        self._is_online = False
        self._agenda: list[tuple[int, int, int, int | None, Callable[[], None]]] = []
        self._count = itertools.count()
        self._duty_ms: int | None = None  # when the core wants to be woken
        self._repeat_ms: int | None = None  # when the journal wants to
        self._free_ms = 0  # messages do not overtake each other
        self._retained: dict[DownlinkKind, Downlink] = {}
        self._received: ledger.Ranges = ledger.NOTHING

    def run(self) -> Story:
        """Live until the last late report has come."""
        self._at(self._since_ms, _POWER, lambda: self._boot(BootReason.POWER_ON))
        self._foresee()
        agenda = self._agenda
        while True:
            if self._parts and self._corrected():
                continue
            wake_ms = self._wake_ms
            if agenda and (wake_ms is None or agenda[0][0] <= wake_ms):
                at_ms, _, _, life, happen = heapq.heappop(agenda)
                if at_ms > self._until_ms:
                    break
                self._now_ms = at_ms
                if life is None or life == self._life:
                    happen()
            elif wake_ms is not None and wake_ms <= self._until_ms:
                self._wake(wake_ms)
            else:
                break
        self.story.events_left = len(self._journal.entries)
        return self.story

    @property
    def _wake_ms(self) -> int | None:
        return min((each for each in (self._duty_ms, self._repeat_ms) if each is not None), default=None)

    def _wake(self, at_ms: int) -> None:
        self._now_ms = at_ms
        if self._duty_ms is not None and self._duty_ms <= at_ms:
            self._duty_ms = None
            self._feed(inputs.Tick(journal_pending=len(self._journal.entries)))
        else:
            self._pump()

    def _corrected(self) -> bool:
        """Take in a small correction of the clock while something sounds, if that comes next.

        Without sound the core finds nothing to do about one, so it is left out: there is one every few minutes.
        """
        clock, piece = self._clock, self._clock.piece(self._now_ms) + 1
        if piece == len(clock.since):
            return False
        at_ms = clock.since[piece]
        step_ms = clock.shown[piece] - clock.read(at_ms, piece - 1)
        wake_ms = self._wake_ms
        ahead_ms = min(self._agenda[0][0], at_ms if wake_ms is None else wake_ms)
        if (
            at_ms > ahead_ms
            or abs(step_ms) >= device.STEP_WORTH_TELLING_MS
            or clock.state[piece] != clock.state[piece - 1]
        ):
            return False
        self._now_ms = at_ms
        self._feed(inputs.ClockSet(previous=ClockState(clock.state[piece - 1]), step_ms=step_ms))
        return True

    # --- what the month has in store ---------------------------------------------------------------------------------

    def _foresee(self) -> None:
        for down in self._luck.downs:
            if not down.is_orderly:
                # The last note of being alive is as old as it would be had there been one every thirty seconds.
                age_ms = int(self._draw() * NOTED_ALIVE_EVERY_MS)
                self._at(down.from_ms - age_ms, _POWER, lambda: self._feed(inputs.Tick()))
            self._at(down.from_ms, _POWER, self._go_down if down.is_orderly else self._lose_power)
            reason = BootReason.COMMAND if down.is_orderly else BootReason.POWER_ON
            self._at(down.to_ms, _POWER, partial(self._boot, reason))
        for from_ms, to_ms in self.story.sessions:
            self._at(from_ms, _NETWORK, self._connect)
            self._at(to_ms, _NETWORK, self._disconnect)
        for at_ms, step_ms, previous in self._clock.changes(least_ms=device.STEP_WORTH_TELLING_MS):
            happened = inputs.ClockSet(previous=ClockState(previous), step_ms=step_ms)
            self._at(at_ms, _CLOCK, partial(self._feed, happened))
        for source in self._sources.values():
            for at_ms in {at_ms for span in (*source.silent, *self.story.sessions) for at_ms in span}:
                self._at(at_ms + NOTICED_MS, _MESSAGE, partial(self._listen, source))
        for downlink in self._downlinks:
            self._at(downlink.sent.at_ms, _MESSAGE, partial(self._publish, downlink))

    def _at(self, at_ms: int, rank: int, happen: Callable[[], None], *, life: int | None = None) -> None:
        heapq.heappush(self._agenda, (at_ms, rank, next(self._count), life, happen))

    # --- power -------------------------------------------------------------------------------------------------------

    @property
    def _is_up(self) -> bool:
        return self._state is not None

    def _boot(self, reason: BootReason) -> None:
        self._booted_ms = self._now_ms
        files = dict(self._files)
        if self._notes is not None:
            files[memory.NOTES] = memory.dump(self._notes)
        found = memory.Recollection(files=files, media=dict(self._stored), last_up_at_ms=self._alive_ms)
        self._is_busy = True
        self._state, wanted = device.boot(
            self._profile, Rhythm(heartbeat_s=HEARTBEAT_S), found, reason=reason, now=self._now()
        )
        self._carry_out(wanted)
        self._is_busy = False
        self._drain()

    def _lose_power(self) -> None:
        for token in tuple(self._parts):
            self._silence(token)
        for source in self._sources.values():
            self._untune(source)
        self._state = None
        self._inbox.clear()
        self._duty_ms = self._repeat_ms = None
        self._life += 1
        self._is_online = False

    def _go_down(self) -> None:
        self._feed(inputs.PoweringOff())
        self._lose_power()

    # --- the core ----------------------------------------------------------------------------------------------------

    def _now(self) -> Moment:
        clock, at_ms = self._clock, self._now_ms
        since, piece = clock.since, self._piece
        while piece + 1 < len(since) and since[piece + 1] <= at_ms:
            piece += 1
        self._piece = piece
        return Moment(
            at_ms=max(0, clock.read(at_ms, piece)),
            clock=ClockState(clock.state[piece]),
            uptime_ms=int((at_ms - self._booted_ms) * clock.speed),
        )

    def _feed(self, happened: inputs.Input) -> None:
        if self._state is None:
            return
        self._inbox.append(happened)
        if not self._is_busy:
            self._drain()

    def _drain(self) -> None:
        """Take in what has happened, what comes of that, and then look when to wake."""
        self._is_busy = True
        while self._inbox and self._state is not None:
            self.story.turns += 1
            self._state, wanted = device.step(self._state, self._inbox.popleft(), now=self._now())
            self._carry_out(wanted)
        self._is_busy = False
        self._settle()

    def _settle(self) -> None:
        """Publish what the journal owes, and find out when the core wants to be woken."""
        if self._state is None:
            return
        self._pump()
        now = self._now()
        # A clock below the floor comes to be trusted as time passes: then the device has to look as often as ever.
        is_below = self._state.trusted_since_ms is None and now.clock is not ClockState.UNSYNCHRONISED
        wait_ms = (device.next_wake_ms if is_below else device.next_duty_ms)(self._state, now=now)
        if wait_ms is None:
            self._duty_ms = None
        elif is_below or self._state.programme.orders:
            self._duty_ms = self._now_ms + max(1, math.ceil(wait_ms / self._clock.speed))
        else:
            self._duty_ms = self._clock.when(now.at_ms + wait_ms, after_ms=self._now_ms + 1)

    def _carry_out(self, wanted: Iterable[effects.Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.Record(event=event):
                    entry = self._journal.append(codec.encode(event))
                    assert entry is not None, "a month fits into a journal"
                    self.story.events += 1
                case effects.Persist(name=name, content=content):
                    if content is None:
                        self._files.pop(name, None)
                    else:
                        self._files[name] = content
                case effects.Remember(notes=notes):
                    self._notes = notes
                case effects.NoteAlive(at_ms=at_ms):
                    self._alive_ms = at_ms
                case effects.StartPlayback():
                    self._play(effect)
                case effects.StopPlayback(token=token):
                    self._inbox.append(inputs.PlaybackStopped(token=token, figures=self._silence(token)))
                case effects.Fetch():
                    self._fetch(effect)
                case effects.DeleteMedia(sha256=sha256):
                    del self._stored[sha256]
                    self.story.stocked.append(Stocked(at_ms=self._now_ms, clip=self._clips[sha256], is_there=False))
                case effects.Send(message=message):
                    self._beat(message)
                case effects.Tune(source=source):
                    self._tune(self._sources[source.source_id])
                case effects.Untune(source_id=source_id):
                    self._untune(self._sources[source_id])
                case effects.RememberAlerts():
                    raise AssertionError("nobody raises an alert in a month")
                case effects.Reboot():
                    raise AssertionError("nobody orders a reboot in a month")
                case _:
                    assert_never(effect)

    # --- the output --------------------------------------------------------------------------------------------------

    def _play(self, effect: effects.StartPlayback) -> None:
        """Begin a part: its first sample comes a little later, as from any decoder."""
        sounding = self.state.programme.sounding
        assert sounding is not None
        assert sounding.token == effect.token
        if effect.relay is not None:
            playing = _Playing(sounding.reference, self._sources[effect.relay.source_id].clip, 0, None)
        else:
            assert effect.media is not None
            clip = self._clips[effect.media]
            playing = _Playing(sounding.reference, clip, effect.position_ms, self._lengths[clip])
        self._parts[effect.token] = playing
        delay_ms = round(DECODER_MS + self._draw() * DECODER_JITTER_MS)
        self._at(self._now_ms + delay_ms, _OUTPUT, partial(self._begin, effect.token), life=self._life)

    @property
    def state(self) -> DeviceState:
        """What the device knows; it must be up."""
        assert self._state is not None
        return self._state

    def _begin(self, token: int) -> None:
        playing = self._parts.get(token)
        if playing is None:
            return
        left_ms = playing.left_ms
        if left_ms is not None and left_ms <= 0:
            del self._parts[token]
            self._feed(inputs.PlaybackFinished(token=token, figures=Figures(sounded_ms=0)))
            return
        playing.began_ms = self._now_ms
        if left_ms is not None:
            ends_ms = self._now_ms + math.ceil(left_ms / self._clock.speed)
            self._at(ends_ms, _OUTPUT, partial(self._finish, token), life=self._life)
        self._feed(inputs.PlaybackStarted(token=token, at_ms=self._now().at_ms))

    def _finish(self, token: int) -> None:
        if token in self._parts:
            self._feed(inputs.PlaybackFinished(token=token, figures=self._silence(token)))

    def _silence(self, token: int) -> Figures:
        """End a part, and tell what came out of it."""
        playing = self._parts.pop(token, None)
        if playing is None or playing.began_ms is None:
            return Figures(sounded_ms=0)
        self.story.sounded.append(
            Sound(
                key=(playing.reference.id, playing.reference.occurrence_at_ms, playing.reference.item),
                clip=playing.clip,
                position_ms=playing.position_ms,
                from_ms=playing.began_ms,
                to_ms=self._now_ms,
            )
        )
        sounded_ms = int((self._now_ms - playing.began_ms) * self._clock.speed)
        if playing.left_ms is not None:
            sounded_ms = min(playing.left_ms, sounded_ms)
        return Figures(sounded_ms=sounded_ms, samples=sounded_ms * RATE_HZ // SECOND, sample_rate_hz=RATE_HZ)

    # --- live sources ------------------------------------------------------------------------------------------------

    def _tune(self, source: Source) -> None:
        self._tuned.add(source.number)
        self._at(self._now_ms + NOTICED_MS, _MESSAGE, partial(self._listen, source), life=self._life)

    def _untune(self, source: Source) -> None:
        self._tuned.discard(source.number)
        self._hear(source, is_heard=False)

    def _listen(self, source: Source) -> None:
        """Notice whether a source that is listened to has sound."""
        if source.number not in self._tuned:
            return
        is_silent = not self._is_online or month_facts.holds(source.silent, self._now_ms)
        if is_silent == (source.number in self._sounding):
            self._hear(source, is_heard=not is_silent)
            self.story.faults["source_silent"] += is_silent
            self._feed(
                inputs.SourceSilent(source_id=source.source, detail="nothing came")
                if is_silent
                else inputs.SourceSounds(source_id=source.source)
            )

    def _hear(self, source: Source, *, is_heard: bool) -> None:
        if is_heard != (source.number in self._sounding):
            (self._sounding.add if is_heard else self._sounding.discard)(source.number)
            self.story.tuned.append(Tuned(at_ms=self._now_ms, source=source.number, is_heard=is_heard))

    # --- files -------------------------------------------------------------------------------------------------------

    def _fetch(self, effect: effects.Fetch) -> None:
        sha256 = effect.media.sha256
        takes_ms = self._path_ms() + effect.media.size // DOWNLOAD_BYTES_PER_MS
        ends_ms = self._now_ms + takes_ms
        is_withheld = any(sha256 == clip and from_ms <= ends_ms < to_ms for clip, from_ms, to_ms in self._withheld)
        is_there = month_facts.holds(self.story.sessions, self._now_ms) and month_facts.holds(
            self.story.sessions, ends_ms
        )
        if is_withheld:
            self._at(self._now_ms + self._path_ms(), _MESSAGE, partial(self._failed, sha256, "404"), life=self._life)
        elif not is_there or self._draw() < FAILED_SHARE:
            self._at(self._now_ms + TIMEOUT_MS, _MESSAGE, partial(self._failed, sha256, "timeout"), life=self._life)
        else:
            self._at(ends_ms, _MESSAGE, partial(self._fetched, sha256, effect.media.size), life=self._life)

    def _fetched(self, sha256: bytes, size: int) -> None:
        self._stored[sha256] = size
        self.story.stocked.append(Stocked(at_ms=self._now_ms, clip=self._clips[sha256], is_there=True))
        self._feed(inputs.MediaFetched(sha256=sha256, size=size))

    def _failed(self, sha256: bytes, detail: str) -> None:
        self.story.faults["download_failed"] += 1
        self._feed(inputs.MediaFailed(sha256=sha256, detail=detail))

    # --- the network -------------------------------------------------------------------------------------------------

    def _path_ms(self) -> int:
        """How long a message takes, once the radio lets it go."""
        draw = self._draw
        stalled_ms = 0.0
        if draw() < STALLED_SHARE:
            stalled_ms = STALLED_MS * draw()
            self.story.faults["message_stalled"] += 1
        return round(PATH_MS - PATH_JITTER_MS * math.log(1 - draw()) + stalled_ms)

    def _connect(self) -> None:
        if self._state is None:
            return
        self._is_online = True
        self._feed(inputs.Connecting())
        self._journal.reconnected()
        self._feed(inputs.Connected())
        # The first heartbeat of a session goes out at once.
        self._feed(inputs.Tick(journal_pending=len(self._journal.entries)))
        for kind in (DownlinkKind.KEYS, DownlinkKind.CONFIG, DownlinkKind.PLAN):
            if kind in self._retained:
                self._send_down(self._retained[kind])

    def _disconnect(self) -> None:
        self._is_online = False
        self._feed(inputs.Disconnected())

    def _publish(self, downlink: Downlink) -> None:
        """The broker takes a message: it goes to the device when there is a session, at once or at the next one."""
        if downlink.kind is not DownlinkKind.COMMAND:
            self._retained[downlink.kind] = downlink
            if self._is_online:
                self._send_down(downlink)
        elif self._is_online:
            self._send_down(downlink)
        else:
            comes_ms = next((from_ms for from_ms, _ in self.story.sessions if from_ms > self._now_ms), None)
            if comes_ms is not None and comes_ms < downlink.sent.valid_until_ms:
                self._at(comes_ms, _MESSAGE, partial(self._send_down, downlink))

    def _send_down(self, downlink: Downlink) -> None:
        self._free_ms = max(self._free_ms + 1, self._now_ms + self._path_ms())
        self._at(self._free_ms, _MESSAGE, partial(self._receive, downlink, self._free_ms - self._now_ms))

    def _receive(self, downlink: Downlink, took_ms: int) -> None:
        # What is under way when the session breaks is lost; the next session brings what is retained.
        if self._state is None or not month_facts.holds(self.story.sessions, self._now_ms - took_ms):
            return
        if not self._is_online:
            return
        self.story.came.append(Came(at_ms=self._now_ms, sent=downlink.sent))
        self._feed(inputs.Received(kind=downlink.kind, payload=downlink.payload))

    # --- the uplink --------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Publish what is due, and find out when the next is."""
        journal = self._journal
        self._repeat_ms = None
        if not self._is_online or not journal.entries:
            return
        uptime_ms = self._now().uptime_ms
        for entry in journal.due(uptime_ms=uptime_ms):
            journal.published(entry, uptime_ms=uptime_ms, draw=self._profile.phase)
            if self._draw() < LOST_SHARE:
                self.story.faults["event_lost_on_its_way"] += 1
                continue
            self._send_up(entry)
            if self._draw() < DOUBLED_SHARE:
                self._send_up(entry)
        due_ms = journal.next_due_ms(uptime_ms=uptime_ms)
        assert due_ms is not None
        self._repeat_ms = self._now_ms + max(1, math.ceil(due_ms / self._clock.speed))

    def _send_up(self, entry: Entry) -> None:
        payload = codec.encode(EventEnvelope(journal=self._journal.id, sequence=entry.sequence, body=entry.body))
        self._at(self._now_ms + self._path_ms(), _UPLINK, partial(self._arrive, payload))

    def _arrive(self, payload: bytes) -> None:
        """The centre stores an event that it has not got yet, and says what it has."""
        envelope = codec.decode(EventEnvelope, payload)
        if ledger.contains(self._received, envelope.sequence):
            self.story.faults["event_came_twice"] += 1
        else:
            self._received = ledger.entered(self._received, envelope.sequence)
            self.story.arrived.append(Arrived(at_ms=self._now_ms, body=envelope.body))
        receipt = ledger.receipt(int.from_bytes(envelope.journal, "big", signed=True), self._received)
        self._at(self._now_ms + self._path_ms(), _UPLINK, partial(self._receipted, receipt))

    def _receipted(self, receipt: Receipt) -> None:
        if self._state is not None and self._is_online and self._journal.acknowledge(receipt):
            self._pump()

    def _beat(self, message: Heartbeat | Reading) -> None:
        assert not isinstance(message, Reading)
        at_ms = self._now_ms + self._path_ms()
        self._at(at_ms, _UPLINK, partial(self._heard, message))

    def _heard(self, message: Heartbeat) -> None:
        self.story.heard.append(
            Heard(
                at_ms=self._now_ms,
                plan_serial=message.plan_serial,
                clock=message.clock,
                device_at_ms=message.device_at_ms,
            )
        )
        issued = self._retained.get(DownlinkKind.PLAN)
        if issued is not None and message.plan_serial != issued.serial:
            self._at(self._now_ms + COMPARED_MS, _MESSAGE, partial(self._publish_again, issued))

    def _publish_again(self, downlink: Downlink) -> None:
        if self._is_online and self._retained.get(DownlinkKind.PLAN) is downlink:
            held = None if self._state is None or self._state.plan is None else self._state.plan.order.serial
            if held != downlink.serial:
                self._send_down(downlink)


@dataclass(slots=True)
class _Playing:
    """A part under way; without a first sample so far while `began_ms` is None, without an end while `length_ms` is."""

    reference: PlayReference
    clip: int
    position_ms: int
    length_ms: int | None
    began_ms: int | None = None

    @property
    def left_ms(self) -> int | None:
        return None if self.length_ms is None else self.length_ms - self.position_ms
