"""A platform in miniature for the simulator's tests: keys, signed orders, and a device to send them to.

`Bench` drives `firmware_sim.device` the way `performer` does, with a player that is arithmetic.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_sim import device, effects, inputs, memory, standing
from firmware_sim.alerts import foresee
from firmware_sim.clock import Moment
from firmware_sim.profile import Profile
from firmware_sim.programme import Figures
from firmware_sim.state import DeviceState, Rhythm
from schemas import signing
from schemas.alerts import Alert, AlertContent, Area, Audience, Purpose
from schemas.commands import Action, Command
from schemas.configuration import Configuration, Fallback, Position
from schemas.events import BootReason, Event
from schemas.fields import ClockState, DeviceKind, Level, PlayReference, PlaySource, ResumePolicy
from schemas.identifiers import DeviceId
from schemas.keys import KeySet, SigningKey
from schemas.orders import MediaReference, Order, Rank
from schemas.plans import ContentKind, Emission, Plan, RelayReference
from schemas.topics import DownlinkKind

T0 = 1_790_000_000_000  # the instant most tests begin at
SECOND = 1_000
MINUTE = 60_000
DAY = 86_400_000

DEVICE = DeviceId("loa-0001")
RATE = 48_000

EventT = TypeVar("EventT", bound=Event)


def a_key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


ROOT = a_key(1)
PLATFORM = a_key(2)
STRANGER = a_key(3)


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def announced(key: Ed25519PrivateKey, *, not_before_ms: int = 0, not_after_ms: int = 4_000_000_000_000) -> SigningKey:
    return SigningKey(
        kid=signing.key_id(key.public_key()),
        public_key=public(key),
        not_before_ms=not_before_ms,
        not_after_ms=not_after_ms,
    )


def a_key_set(*keys: SigningKey, serial: int = 1, at_ms: int = T0, valid_for_ms: int = 365 * DAY) -> KeySet:
    return KeySet(
        issued_at_ms=at_ms,
        valid_from_ms=at_ms,
        valid_until_ms=at_ms + valid_for_ms,
        serial=serial,
        keys=keys or (announced(PLATFORM),),
    )


def a_configuration(
    *,
    device: str = DEVICE,
    serial: int = 1,
    at_ms: int = T0,
    volume: int = 60,
    cap: int = 80,
    heartbeat_s: int = 30,
    media_base_url: str | None = "http://media.test/media",
    fallback: Fallback | None = None,
    membership: tuple[uuid.UUID, ...] = (),
    alert_media: tuple[MediaReference, ...] = (),
    position: Position | None = None,
) -> Configuration:
    return Configuration(
        device=device,
        serial=serial,
        issued_at_ms=at_ms,
        valid_from_ms=at_ms,
        valid_until_ms=at_ms + 365 * DAY,
        volume_percent=volume,
        volume_cap_percent=cap,
        heartbeat_interval_s=heartbeat_s,
        media_base_url=media_base_url,
        fallback=fallback,
        membership=membership,
        alert_media=alert_media,
        position=position,
    )


def a_fallback(*at_s: int, name: str = "notice", mime: str = "audio/mpeg", duration_ms: int | None = None) -> Fallback:
    """What sounds at these seconds of the UTC day when the plan has run out."""
    media = a_file(name, mime=mime).model_copy(update={"duration_ms": duration_ms})
    return Fallback(fallback_id=uuid.uuid5(uuid.NAMESPACE_OID, name), media=media, at_s=at_s)


def a_relay(name: str = "vov", *, url: str | None = None) -> RelayReference:
    source_id = uuid.uuid5(uuid.NAMESPACE_OID, name)
    return RelayReference(source_id=source_id, path=None if url else f"relays/{source_id}", url=url)


def a_file(name: str = "news", *, size: int = 480_000, mime: str = "audio/mpeg") -> MediaReference:
    sha256 = hashlib.sha256(name.encode()).digest()
    return MediaReference(sha256=sha256, size=size, mime=mime, path=f"{sha256.hex()}/{name}")


def a_rank(
    level: Level = Level.NORMAL,
    *,
    live: bool = False,
    severity: int = 0,
    depth: int = 2,
    issued_at_ms: int = T0,
    place: int | None = None,
) -> Rank:
    return Rank(level=level, live=live, severity=severity, issuer_depth=depth, issued_at_ms=issued_at_ms, place=place)


def an_emission(
    name: str = "news",
    *,
    at_ms: int = T0 + MINUTE,
    duration_ms: int = 30 * SECOND,
    latest_ms: int | None = None,
    rank: Rank | None = None,
    content: ContentKind = ContentKind.AUDIO,
    media: bytes | str | None = "",
    text: str | None = None,
    volume: int | None = None,
    resume: ResumePolicy = ResumePolicy.RESUME,
    offset_ms: int = 0,
    item: int = 0,
    relay: RelayReference | None = None,
    fallback: str | None = None,
) -> Emission:
    """An emission of the broadcast called `name`, whose media is the file of the same name unless told otherwise.

    One with a `relay` sounds that and has no media; `fallback` is the name of the file that fills in.
    """
    if relay is not None:
        content, media = ContentKind.RELAY, None
    sha256 = a_file(name).sha256 if media == "" else media
    assert not isinstance(sha256, str)
    return Emission(
        broadcast_id=uuid.uuid5(uuid.NAMESPACE_OID, name),
        occurrence_at_ms=at_ms,
        item=item,
        starts_at_ms=at_ms,
        duration_ms=duration_ms,
        latest_start_ms=at_ms + duration_ms - 1 if latest_ms is None else latest_ms,
        rank=rank or a_rank(),
        content=content,
        media=sha256,
        text=text,
        volume_percent=volume,
        resume=resume,
        offset_ms=offset_ms,
        relay=relay,
        fallback=None if fallback is None else a_file(fallback).sha256,
    )


def a_plan(
    *emissions: Emission,
    device: str = DEVICE,
    serial: int = 1,
    at_ms: int = T0,
    valid_for_ms: int = 7 * DAY,
    valid_from_ms: int | None = None,
    files: tuple[MediaReference, ...] | None = None,
) -> Plan:
    if files is None:
        names = {a_file(name).sha256: a_file(name) for name in ("news", "song", "siren", "other")}
        used = dict.fromkeys(sha for each in emissions for sha in (each.media, each.fallback) if sha is not None)
        files = tuple(names[sha256] for sha256 in used)
    return Plan(
        device=device,
        serial=serial,
        issued_at_ms=at_ms,
        valid_from_ms=at_ms if valid_from_ms is None else valid_from_ms,
        valid_until_ms=at_ms + valid_for_ms,
        emissions=tuple(
            sorted(emissions, key=lambda e: (e.starts_at_ms, e.broadcast_id.bytes, e.occurrence_at_ms, e.item))
        ),
        media=files,
    )


def a_command(
    action: Action,
    *,
    device: str = DEVICE,
    serial: int = 1,
    at_ms: int = T0,
    valid_for_ms: int = 5 * MINUTE,
    **fields: Any,
) -> Command:
    return Command(
        device=device,
        serial=serial,
        issued_at_ms=at_ms,
        valid_from_ms=at_ms,
        valid_until_ms=at_ms + valid_for_ms,
        command_id=fields.pop("command_id", uuid.uuid5(uuid.NAMESPACE_OID, f"{action}/{serial}")),
        action=action,
        **fields,
    )


PROVINCE, COMMUNE, ELSEWHERE = (uuid.uuid5(uuid.NAMESPACE_OID, name) for name in ("province", "commune", "elsewhere"))
STORM = uuid.uuid5(uuid.NAMESPACE_OID, "storm")


def a_content(
    name: str | None = "siren",
    *,
    language: str = "vi",
    text: str | None = None,
    mime: str = "audio/mpeg",
    duration_ms: int | None = None,
) -> AlertContent:
    """What sounds is the file called `name`; without one there is only text."""
    media = None if name is None else a_file(name, mime=mime).model_copy(update={"duration_ms": duration_ms})
    return AlertContent(language=language, headline="Bão số 5", text=text, media=media)


def an_alert(
    *contents: AlertContent,
    alert_id: uuid.UUID = STORM,
    version: int = 1,
    purpose: Purpose = Purpose.ALERT,
    at_ms: int = T0,
    valid_for_ms: int = 30 * MINUTE,
    rank: Rank | None = None,
    units: tuple[uuid.UUID, ...] = (PROVINCE,),
    **fields: Any,
) -> Alert:
    if not contents and purpose in (Purpose.ALERT, Purpose.AUDIBLE_TEST):
        contents = (a_content(),)
    level = Level.PRIORITY if purpose is Purpose.AUDIBLE_TEST else Level.EMERGENCY
    return Alert(
        issued_at_ms=at_ms,
        valid_from_ms=at_ms - 5 * MINUTE,
        valid_until_ms=at_ms + valid_for_ms,
        alert_id=alert_id,
        alert_version=version,
        purpose=purpose,
        audience=fields.pop("audience", None) or Audience(areas=(Area(units=units),)),
        rank=rank or a_rank(level, severity=3, depth=0, issued_at_ms=at_ms),
        contents=contents,
        **fields,
    )


def signed(order: Order, key: Ed25519PrivateKey = PLATFORM) -> bytes:
    return signing.sign(order, ROOT if isinstance(order, KeySet) and key is PLATFORM else key)


def a_profile(kind: DeviceKind = DeviceKind.CLUSTER, *, device: DeviceId = DEVICE, children: int = 0) -> Profile:
    return Profile(
        id=device,
        kind=kind,
        principal=device,
        root_public_key=public(ROOT),
        quantities=("water_level", "rainfall") if kind is DeviceKind.SENSOR else (),
        children=children,
    )


def by_command(command: Command) -> PlayReference:
    return PlayReference(source=PlaySource.COMMAND, id=command.command_id)


@dataclass
class Bench:
    """A device on the bench: feed it, move time, look at what it told. The player decodes as fast as time passes."""

    kind: DeviceKind = DeviceKind.CLUSTER
    clock: ClockState = ClockState.SYNCHRONISED
    at_ms: int = T0
    uptime_ms: int = 10 * SECOND
    media_ms: dict[bytes, int] = field(default_factory=dict)  # length of a file; 1 hour when absent
    corrupt: set[bytes] = field(default_factory=set)
    delivers: bool = True  # whether downloads succeed at once
    decodes: bool = True  # whether the first sample comes at once
    leaps: bool = False  # over time in which nothing is due; notes of being alive are then rare
    sounding: set[uuid.UUID] = field(default_factory=set)  # relay sources that have sound when they are listened to
    tuned: dict[uuid.UUID, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    told: list[effects.Effect] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    stored: dict[bytes, int] = field(default_factory=dict)
    alive_ms: int | None = None
    parts: dict[int, tuple[effects.StartPlayback, int]] = field(default_factory=dict)
    foreseen: effects.StartPlayback | None = None  # of the last alert that was heard
    state: DeviceState = field(init=False)

    def __post_init__(self) -> None:
        self.boot(BootReason.POWER_ON)
        self.events.clear()

    @property
    def now(self) -> Moment:
        return Moment(at_ms=self.at_ms, clock=self.clock, uptime_ms=self.uptime_ms)

    def boot(self, reason: BootReason = BootReason.POWER_ON) -> None:
        """Start from flash; whatever the player held is gone, and nobody listens to a source any more."""
        self.parts.clear()
        self.tuned.clear()
        found = memory.Recollection(files=dict(self.files), media=dict(self.stored), last_up_at_ms=self.alive_ms)
        self.state, wanted = device.boot(a_profile(self.kind), Rhythm(reading_s=60), found, reason=reason, now=self.now)
        self._perform(wanted)

    def feed(self, happened: inputs.Input) -> None:
        self.state, wanted = device.step(self.state, happened, now=self.now)
        self._perform(wanted)

    def receive(self, kind: DownlinkKind, payload: bytes) -> None:
        self.feed(inputs.Received(kind=kind, payload=payload))

    def ready(self, *emissions: Emission, **fields: Any) -> None:
        """Give the device keys, configuration and a plan, connected and with all media on flash."""
        self.feed(inputs.Connected())
        self.receive(DownlinkKind.KEYS, signed(a_key_set(at_ms=self.at_ms)))
        self.receive(DownlinkKind.CONFIG, signed(a_configuration(at_ms=self.at_ms)))
        if emissions:
            self.receive(DownlinkKind.PLAN, signed(a_plan(*emissions, at_ms=self.at_ms, **fields)))

    def hear(self, *alerts: Alert | bytes) -> None:
        """Messages come on the topic of an area."""
        for each in alerts:
            payload = each if isinstance(each, bytes) else signed(each)
            self.foreseen = foresee(self.state, payload, now=self.now)
            _, wanted = device.step(self.state, inputs.AlertReceived(payload=payload), now=self.now)
            starts = [effect for effect in wanted if isinstance(effect, effects.StartPlayback)]
            assert self.foreseen is None or starts == [self.foreseen], "what is foreseen is what the device does"
            self.feed(inputs.AlertReceived(payload=payload))

    def advance(self, by_ms: int) -> None:
        """Let time pass as the device's own timers see it: wake it whenever it asked to be woken."""
        end_ms = self.uptime_ms + by_ms
        while True:
            look_ahead = device.next_duty_ms if self.leaps else device.next_wake_ms
            wake_ms = look_ahead(self.state, now=self.now)
            assert wake_ms is None or wake_ms >= 1
            over = self._next_part_end_ms()
            stride = min(each for each in (wake_ms, over, end_ms - self.uptime_ms) if each is not None)
            self.at_ms += stride
            self.uptime_ms += stride
            self._finish_parts()
            self.feed(inputs.Tick())
            if self.uptime_ms >= end_ms:
                return

    def until(self, at_ms: int) -> None:
        self.advance(at_ms - self.at_ms)

    def power_cut(self, for_ms: int, *, clock: ClockState | None = None) -> None:
        """Gone without a word, and up again later."""
        self.at_ms += for_ms
        self.uptime_ms = 0
        self.clock = clock or self.clock
        self.boot()

    def source(self, relay: RelayReference, *, sounds: bool) -> None:
        """A relay source begins to have sound, or falls silent; who listens to it hears that."""
        (self.sounding.add if sounds else self.sounding.discard)(relay.source_id)
        if relay.source_id in self.tuned:
            self.feed(
                inputs.SourceSounds(source_id=relay.source_id)
                if sounds
                else inputs.SourceSilent(source_id=relay.source_id, detail="nothing new came")
            )

    def told_of(self, cls: type[EventT]) -> list[EventT]:
        return [event for event in self.events if isinstance(event, cls)]

    def _perform(self, wanted: tuple[effects.Effect, ...]) -> None:
        for effect in wanted:
            self.told.append(effect)
            match effect:
                case effects.Record(event=event):
                    self.events.append(event)
                case effects.Persist(name=name, content=content):
                    if content is None:
                        self.files.pop(name, None)
                    else:
                        self.files[name] = content
                case effects.Remember(notes=notes):
                    self.files[memory.NOTES] = memory.dump(notes)
                case effects.RememberAlerts(alerts=alerts, uptime_ms=uptime_ms):
                    self.files[memory.ALERTS] = standing.dump(alerts, uptime_ms=uptime_ms)
                case effects.NoteAlive(at_ms=at_ms):
                    self.alive_ms = at_ms
                case effects.DeleteMedia(sha256=sha256):
                    del self.stored[sha256]
                case _:
                    pass
        for effect in wanted:
            match effect:
                case effects.StartPlayback():
                    self._start(effect)
                case effects.StopPlayback(token=token):
                    self.feed(inputs.PlaybackStopped(token=token, figures=self._figures(token)))
                case effects.Tune(source=source, url=url):
                    self.tuned[source.source_id] = url
                    if source.source_id in self.sounding:
                        self.feed(inputs.SourceSounds(source_id=source.source_id))
                case effects.Untune(source_id=source_id):
                    del self.tuned[source_id]
                case effects.Fetch(media=media) if self.delivers:
                    self.stored[media.sha256] = media.size
                    self.feed(inputs.MediaFetched(sha256=media.sha256, size=media.size))
                case _:
                    pass

    def _start(self, part: effects.StartPlayback) -> None:
        if part.media in self.corrupt:
            nothing = Figures(sounded_ms=0, samples=0, sample_rate_hz=None)
            self.feed(inputs.PlaybackBroke(token=part.token, figures=nothing, detail="not decodable"))
            return
        self.parts[part.token] = (part, self.uptime_ms)
        if self.decodes:
            self.feed(inputs.PlaybackStarted(token=part.token, at_ms=self.at_ms))

    def _length_ms(self, part: effects.StartPlayback) -> int:
        if part.media is None:
            return DAY  # text and relays go on until they are stopped
        return max(0, self.media_ms.get(part.media, 3_600_000) - part.position_ms)

    def _next_part_end_ms(self) -> int | None:
        ends = [begun + self._length_ms(part) - self.uptime_ms for part, begun in self.parts.values()]
        return max(1, min(ends)) if ends else None

    def _finish_parts(self) -> None:
        for token, (part, begun) in list(self.parts.items()):
            if part.media is not None and self.uptime_ms - begun >= self._length_ms(part):
                self.feed(inputs.PlaybackFinished(token=token, figures=self._figures(token)))

    def _figures(self, token: int) -> Figures:
        part, begun = self.parts.pop(token)
        sounded_ms = min(self.uptime_ms - begun, self._length_ms(part))
        if part.text is not None:
            return Figures(sounded_ms=sounded_ms)
        return Figures(sounded_ms=sounded_ms, samples=sounded_ms * RATE // 1_000, sample_rate_hz=RATE)
