"""One device come alive: holds its state, feeds it what happens, carries out what it wants.

Decides nothing. Effects are carried out in the order the core gives them: events into the journal, memory to flash,
then everything the outside can see.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from pydantic import ValidationError

from firmware_sim import alerts, device, effects, faults, inputs, memory, standing
from firmware_sim.clock import Moment
from firmware_sim.downloader import Wanted
from firmware_sim.errors import DownloadFailed, WrongHash
from firmware_sim.flash import Flash
from firmware_sim.journal import Entry
from firmware_sim.player import Medium, Part
from firmware_sim.profile import Profile
from firmware_sim.programme import Figures
from firmware_sim.relay_tuner import Tuner
from firmware_sim.session import Taken
from firmware_sim.state import DeviceState, Rhythm
from firmware_sim.trust import Trust
from firmware_sim.workshop import Workshop
from schemas import codec, device_signing, events, topics
from schemas.errors import DecodeError, EncodeError
from schemas.events import BootReason, EventEnvelope, Fault
from schemas.fields import ClockState
from schemas.heartbeats import Heartbeat
from schemas.plans import ContentKind
from schemas.readings import Reading
from schemas.topics import DownlinkKind, Uplink, UplinkKind

_MEDIA = {
    ContentKind.AUDIO: Medium.SOUND,
    ContentKind.IMAGE: Medium.IMAGE,
    ContentKind.TEXT: Medium.TEXT,
    ContentKind.TICKER: Medium.TEXT,
    ContentKind.VIDEO: Medium.VIDEO,
}
_SOUND = (effects.StopPlayback, effects.StartPlayback)
_FAMILIES = {"image": Medium.IMAGE, "video": Medium.VIDEO}


class Surroundings(Protocol):
    """What a device needs of the station it belongs to."""

    @property
    def is_up(self) -> bool:
        """Whether there is an uplink."""

    @property
    def speed(self) -> float:
        """How fast the clock runs."""

    @property
    def devices_heard(self) -> int:
        """How many devices behind this station are alive."""

    def read_clock(self) -> tuple[int, ClockState]:
        """What the clock shows, and what it thinks of itself."""

    def publish(self, topic: str, payload: bytes) -> Taken:
        """Send a message upwards."""

    def sever(self) -> None:
        """Break the link."""

    def restart(self, performer: Performer) -> None:
        """Take a device down and bring it up again."""


@dataclass(frozen=True, slots=True)
class _Foreseen:
    """An alert that sounds before the device has thought it through."""

    payload: bytes
    now: Moment
    start: effects.StartPlayback


class Performer:
    """Runs one device; a `Stage` for the player."""

    def __init__(
        self,
        profile: Profile,
        rhythm: Rhythm,
        flash: Flash,
        surroundings: Surroundings,
        workshop: Workshop,
        draws: Iterator[float],
    ) -> None:
        self.profile = profile
        self._rhythm = rhythm
        self._flash = flash
        self._surroundings = surroundings
        self._workshop = workshop
        self._draws = draws
        self._tuner = Tuner(self, workshop, phase=profile.phase)
        self._journal = flash.open_journal()
        self._inbox: deque[inputs.Input] = deque()
        self._postponed: list[effects.Effect] = []
        self._begun: deque[inputs.PlaybackStarted] = deque()  # stamped, and not dealt with yet
        self._foreseen: _Foreseen | None = None  # sounds already, and the step is still owed
        self._is_busy = False
        self._is_off = True
        self._timer: asyncio.TimerHandle | None = None
        self._fetching: set[bytes] = set()
        self._booted_at = workshop.loop.time()
        self._state: DeviceState | None = None
        self._key: EllipticCurvePrivateKey | None = None
        self._looked = Moment(at_ms=0, clock=ClockState.UNSYNCHRONISED, uptime_ms=0)  # when it was last stepped
        self._event_topic = topics.format_topic(Uplink(profile.principal, UplinkKind.EVENT, profile.id))
        self._heartbeat_topic = topics.format_topic(Uplink(profile.principal, UplinkKind.HEARTBEAT, profile.id))
        self._reading_topic = topics.format_topic(Uplink(profile.principal, UplinkKind.READING, profile.id))

    # --- life --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> DeviceState:
        """What the device knows; it must have been booted."""
        assert self._state is not None
        return self._state

    @property
    def is_off(self) -> bool:
        """Whether the device is down."""
        return self._is_off

    @property
    def journal_pending(self) -> int:
        """Events waiting for a receipt."""
        return len(self._journal.entries)

    def provision(self, root: bytes, *, is_other: bool) -> None:
        """Believe this root key from the next boot on; orders of another root, and their serials, are forgotten."""
        self.profile = replace(self.profile, root_public_key=root)
        if is_other:
            notes = memory.load(self._flash.recollect().files.get(memory.NOTES))
            self._flash.save(memory.NOTES, memory.dump(replace(notes, serials={})))
            for name in (memory.KEYS, memory.CONFIG, memory.PLAN, memory.ALERTS):
                self._flash.save(name, None)

    def certify(self, key: EllipticCurvePrivateKey) -> None:
        """Sign what the device says with this key, the one in its certificate."""
        self._key = key

    def boot(self, reason: BootReason) -> None:
        """Come up from flash."""
        self._booted_at = self._workshop.loop.time()
        self._inbox.clear()
        self._postponed.clear()
        self._begun.clear()
        self._foreseen = None
        self._tuner.close()
        self._is_off = False
        self._looked = self.now()
        self._state, wanted = device.boot(
            self.profile, self._rhythm, self._flash.recollect(), reason=reason, now=self._looked
        )
        self._is_busy = True
        try:
            for effect in wanted:
                self._perform(effect)
        finally:
            self._is_busy = False
        self._settle()

    def power_off(self) -> None:
        """Go down in order; nothing happens to the device until it boots."""
        if self._is_off:
            return
        self.feed(inputs.PoweringOff())
        self._is_off = True
        if self._timer is not None:
            self._timer.cancel()

    @property
    def believes(self) -> Trust:
        """Whom the device believes right now."""
        return self.state.trust

    @property
    def speed(self) -> float:
        """How fast its clock runs."""
        return self._surroundings.speed

    def lose_power(self) -> None:
        """Go down without a word: what was sounding is gone, and so is everything that is not on flash."""
        self._is_off = True
        self._inbox.clear()
        self._begun.clear()
        self._foreseen = None
        self._tuner.close()
        self._workshop.player.silence(self.profile.id)
        if self._timer is not None:
            self._timer.cancel()

    def now(self) -> Moment:
        """The present moment as the device sees it."""
        at_ms, state = self._surroundings.read_clock()
        uptime_ms = round((self._workshop.loop.time() - self._booted_at) * self._surroundings.speed * 1_000)
        return Moment(at_ms=at_ms, clock=state, uptime_ms=uptime_ms)

    def feed(self, happened: inputs.Input) -> None:
        """Let something happen to the device. What comes of it is carried out before this returns."""
        if self._is_off:
            return
        self._take_begun()
        self._inbox.append(happened)
        self._deal()

    def _deal(self) -> None:
        """Carry out what was postponed and deal with what has happened, in order, and with what comes of it."""
        if self._is_busy:
            return  # it came of an effect; the loop below takes it when the effects before it are through
        self._is_busy = True
        try:
            self._catch_up()
            while self._inbox:
                wanted = self._step(self._inbox.popleft(), self.now())
                for effect in wanted:
                    self._perform(effect)
        finally:
            self._is_busy = False
        self._settle()

    def _step(self, happened: inputs.Input, now: Moment) -> tuple[effects.Effect, ...]:
        self._looked = now
        self._state, wanted = device.step(self.state, happened, now=now)
        return wanted

    def receive(self, kind: DownlinkKind, payload: bytes) -> None:
        """Take in a downlink for this device. Receipts are the journal's; all else is judged by the core."""
        if self._is_off:
            return
        if kind is DownlinkKind.RECEIPT:
            try:
                receipt = codec.decode_receipt(payload)
            except DecodeError:
                self.feed(inputs.Received(kind=kind, payload=payload))
                return
            self._workshop.tally["receipts"] += 1
            if self._journal.acknowledge(receipt):
                self._flash.write_receipt(self._journal, receipt)
                self._settle()
            return
        self.feed(inputs.Received(kind=kind, payload=payload))

    def receive_alert(self, payload: bytes) -> None:
        """Take in what came on the topic of an area this device lies in: sound now, everything else afterwards."""
        if self._is_off or self._is_busy or self._begun or self._foreseen is not None:
            self.feed(inputs.AlertReceived(payload=payload))
            return
        now = self.now()
        start = None if self._postponed else alerts.foresee(self.state, payload, now=now)
        if start is not None:
            self._foreseen = _Foreseen(payload, now, start)
            self._start(start)
            self._workshop.aftermath.add(self._take_stock)
            return
        self._is_busy = True
        try:
            self._catch_up()
            wanted = self._step(inputs.AlertReceived(payload=payload), now)
            self._postponed = [effect for effect in wanted if not isinstance(effect, _SOUND)]
            for effect in wanted:
                if isinstance(effect, _SOUND):
                    self._perform(effect)
        finally:
            self._is_busy = False
        self._workshop.aftermath.add(self._take_stock)

    def _take_stock(self) -> None:
        """Write down and tell what an alert led to, and go on with what came of it."""
        if not self._is_off:
            self._take_begun()
            self._deal()

    def _take_begun(self) -> None:
        """What has begun did so before whatever comes now: its end, above all, when chores took longer than the sound."""
        self._inbox.extend(self._begun)
        self._begun.clear()

    def _catch_up(self) -> None:
        """Carry out what was postponed, before anything else happens to the device."""
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is not None:
            wanted = self._step(inputs.AlertReceived(payload=foreseen.payload), foreseen.now)
            if foreseen.start not in wanted:  # a bug of `alerts.foresee`; the device's own word counts
                self._stop(foreseen.start.token)
                self._begun.clear()
            self._postponed = [effect for effect in wanted if effect != foreseen.start]
        postponed, self._postponed = self._postponed, []
        for effect in postponed:
            self._perform(effect)

    @property
    def units(self) -> tuple[uuid.UUID, ...]:
        """The units whose alerts concern this device: its signed membership."""
        config = None if self._is_off or self._state is None else self._state.config
        return () if config is None else config.order.membership

    def connected(self) -> None:
        """The uplink is there."""
        self._journal.reconnected()
        self.feed(inputs.Connected())

    # --- the player's side (Stage) -----------------------------------------------------------------------------------

    def started(self, token: int) -> None:
        """The first sample has left the decoder: stamped now, dealt with when the fleet's other starts are stamped too,
        by the chore that writes down what led to it.

        Hundreds of devices begin at the same instant and share this one thread, which no real fleet does.
        """
        self._workshop.tally["parts_started"] += 1
        happened = inputs.PlaybackStarted(token=token, at_ms=self._surroundings.read_clock()[0])
        if self._postponed or self._foreseen is not None:
            self._begun.append(happened)
        else:
            self._workshop.loop.call_soon(self.feed, happened)

    def finished(self, token: int, figures: Figures) -> None:
        """The content came to its end."""
        self.feed(inputs.PlaybackFinished(token=token, figures=figures))

    def broke(self, token: int, figures: Figures, detail: str) -> None:
        """The decoder gave up."""
        self.feed(inputs.PlaybackBroke(token=token, figures=figures, detail=detail))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Record(event=event):
                self._record(event)
            case effects.Persist(name=name, content=content):
                self._flash.save(name, content)
            case effects.Remember(notes=notes):
                self._flash.save(memory.NOTES, memory.dump(notes))
            case effects.RememberAlerts(alerts=alerts, uptime_ms=uptime_ms):
                self._flash.save(memory.ALERTS, standing.dump(alerts, uptime_ms=uptime_ms))
            case effects.Send(message=message):
                self._send(message)
            case effects.NoteAlive(at_ms=at_ms):
                self._flash.note_alive(at_ms)
            case effects.Fetch():
                self._begin_fetch(effect)
            case effects.DeleteMedia(sha256=sha256):
                self._flash.delete_media(sha256)
                self._workshop.downloader.forget(sha256)
            case effects.StartPlayback():
                self._start(effect)
            case effects.StopPlayback(token=token):
                self._inbox.append(inputs.PlaybackStopped(token=token, figures=self._stop(token)))
            case effects.Tune():
                self._tuner.tune(effect)
            case effects.Untune(source_id=source_id):
                self._tuner.untune(source_id)
            case effects.Reboot():
                self._workshop.loop.call_soon(self._surroundings.restart, self)

    def _record(self, event: events.Event) -> None:
        """Number an event and write it down. What cannot be written is counted, and takes no number."""
        self._workshop.tally[f"event_{event.type.name.lower()}"] += 1
        if self._workshop.trace is not None:
            self._workshop.trace.recorded(self.profile.id, event)
        try:
            body = codec.encode(event)
        except EncodeError:
            self._inbox.append(inputs.EventsLost(count=1))
            return
        entry = self._journal.append(body)
        if entry is not None:
            try:
                self._flash.write_event(entry)
            except OSError:
                self._journal.take_back(entry)
                entry = None
        if entry is None:
            self._workshop.tally["events_lost"] += 1
            if not isinstance(event, events.FaultChanged):
                self._inbox.append(inputs.EventsLost(count=1))

    def _send(self, message: Heartbeat | Reading) -> None:
        is_reading = isinstance(message, Reading)
        self._workshop.tally["readings" if is_reading else "heartbeats"] += 1
        if isinstance(message, Reading):
            self._publish(self._reading_topic, self._spoken(message))
        else:
            self._publish(self._heartbeat_topic, codec.encode(message))

    def _spoken(self, message: Reading) -> bytes:
        """As it goes over the wire: signed, by a device that has enrolled, unless that is more than the broker takes."""
        if self._key is not None:
            with contextlib.suppress(EncodeError):
                return device_signing.sign(message, self.profile.id, self._key)
        return codec.encode(message)

    def _start(self, effect: effects.StartPlayback) -> None:
        if effect.relay is not None:
            self._tuner.start(effect.token, effect.relay.source_id)
            return
        part = Part(
            token=effect.token,
            medium=_MEDIA[effect.content],
            sha256=effect.media,
            file=None if effect.media is None else self._flash.media_name(effect.media),
            position_ms=effect.position_ms,
            speed=self._surroundings.speed,
        )
        self._workshop.player.start(self.profile.id, part, self)

    def _stop(self, token: int) -> Figures:
        if self._tuner.plays(token):
            return self._tuner.stop(token)
        return self._workshop.player.stop(self.profile.id, token)

    def _begin_fetch(self, effect: effects.Fetch) -> None:
        if effect.media.sha256 in self._fetching:
            return
        share = self._workshop.spoilt_downloads
        match faults.spoil(effect, share=share, draw=next(self._draws)) if share else effect:
            case effects.Fetch():
                self._fetching.add(effect.media.sha256)
                self._workshop.tasks.create_task(self._fetch(effect))
            case inputs.MediaFailed() as spoilt:
                self._workshop.tally["downloads_spoilt"] += 1
                self._inbox.append(spoilt)

    async def _fetch(self, effect: effects.Fetch) -> None:
        sha256 = effect.media.sha256
        wanted = Wanted(
            url=effect.url,
            sha256=sha256,
            size=effect.media.size,
            part=self._flash.media_part(sha256),
            file=self._flash.media_file(sha256),
        )
        happened: inputs.Input
        try:
            await self._workshop.downloader.fetch(wanted)
        except DownloadFailed as error:
            happened = inputs.MediaFailed(sha256=sha256, detail=str(error))
        except WrongHash as error:
            happened = inputs.MediaRejected(sha256=sha256, detail=str(error))
        else:
            happened = inputs.MediaFetched(sha256=sha256, size=effect.media.size)
            family = effect.media.mime.partition("/")[0]
            medium = _FAMILIES.get(family, Medium.SOUND)
            self._workshop.player.prepare(
                sha256, wanted.file, medium, unreadable=lambda detail: self._unreadable(sha256, detail)
            )
        self._fetching.discard(sha256)
        self.feed(happened)

    def _unreadable(self, sha256: bytes, detail: str) -> None:
        # After what is being dealt with: a file that is known already to be unreadable has just come in.
        self._workshop.loop.call_soon(self.feed, inputs.MediaUnreadable(sha256=sha256, detail=detail))

    # --- uplink ------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After anything that happened: publish what the journal owes, and set the timer for the next look."""
        self._pump()
        if self._is_off:
            return
        # Seen from the last look, not from now: what has come due in between would be taken for dealt with.
        now = self.now()
        wait_ms = device.next_wake_ms(self.state, now=self._looked) - (now.uptime_ms - self._looked.uptime_ms)
        wait_ms = max(1, wait_ms)
        if self._surroundings.is_up:
            due_ms = self._journal.next_due_ms(uptime_ms=now.uptime_ms)
            if due_ms is not None:
                wait_ms = min(wait_ms, max(1, due_ms))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._workshop.loop.call_later(wait_ms / 1_000 / self._surroundings.speed, self._wake)

    def _wake(self) -> None:
        self.feed(inputs.Tick(journal_pending=self.journal_pending, devices_heard=self._surroundings.devices_heard))

    def _pump(self) -> None:
        if not self._surroundings.is_up or not self._journal.entries:
            return
        uptime_ms = self.now().uptime_ms
        for entry in self._journal.due(uptime_ms=uptime_ms):
            self._journal.published(entry, uptime_ms=uptime_ms, draw=self.profile.phase)
            self._workshop.tally["events_published"] += 1
            self._publish(self._event_topic, self._enveloped(entry), entry=entry)

    def _enveloped(self, entry: Entry) -> bytes:
        """As it goes over the wire: signed when it is sent, since the journal may be older than the key."""
        envelope = EventEnvelope(journal=self._journal.id, sequence=entry.sequence, body=entry.body)
        if self._key is not None:
            with contextlib.suppress(EncodeError, ValidationError):
                body = device_signing.seal(
                    entry.body, device=self.profile.id, media_type=device_signing.EVENT, key=self._key
                )
                return codec.encode(EventEnvelope(journal=envelope.journal, sequence=entry.sequence, body=body))
        return codec.encode(envelope)

    def _publish(self, topic: str, payload: bytes, *, entry: Entry | None = None) -> None:
        """Hand a message to the uplink, through whatever the scenario does to it."""
        publish = effects.Publish(topic=topic, payload=payload)
        for fate in faults.disturb((publish,), self._workshop.uplink_faults, self._draws):
            match fate:
                case faults.Later(delay_ms=0):
                    self._hand_over(topic, payload, entry)
                case faults.Later(delay_ms=delay_ms):
                    self._workshop.loop.call_later(delay_ms / 1_000, self._hand_over, topic, payload, entry)
                case faults.BreakLink():
                    self._workshop.tally["links_broken"] += 1
                    self._workshop.loop.call_soon(self._surroundings.sever)

    def _hand_over(self, topic: str, payload: bytes, entry: Entry | None) -> None:
        taken = self._surroundings.publish(topic, payload)
        if taken is Taken.NOT_NOW:
            self._workshop.tally["sends_dropped"] += 1
        elif taken is Taken.TOO_LARGE and entry is not None:
            self._replace_oversized(entry)

    def _replace_oversized(self, entry: Entry) -> None:
        """The broker will never take this event: put a small one under its number, so that the journal goes on."""
        self._workshop.tally["events_oversized"] += 1
        now = self.now()
        entry.body = codec.encode(
            events.FaultChanged(
                device_at_ms=now.at_ms,
                clock=now.clock,
                fault=Fault.MODEM,
                present=False,
                detail=f"dropped an event of {len(entry.body)} bytes",
            )
        )
        self._flash.write_event(entry)
