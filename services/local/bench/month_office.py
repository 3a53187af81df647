"""The centre of a simulated month: the real planning, comparing, issuing and signing, with a record in memory.

What `services.control.planner` does with a database is done here with dictionaries, in the same steps: every change is
planned for itself, every night everything is planned a day further, what differs from the record changes it, and who
needs an order gets one, signed.
"""

from __future__ import annotations

import hashlib
import heapq
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas import signing
from schemas.commands import Action, Command
from schemas.configuration import Fallback, Ownership
from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from schemas.keys import KeySet, SigningKey
from schemas.orders import MediaReference, Order, Rank
from schemas.topics import DownlinkKind
from services.control import issuing, orders
from services.control.engine_settings import PlanningSettings
from services.control.issuing import CONFIG, KEYS, PLAN, Issue, PlannedSlot, Standing, Terms
from services.control.orders import Addressee
from services.control.planner import LOOK_AHEAD, LOOK_BACK
from services.control.planning.changes import Changes, EmissionKey, Recorded, changes, fingerprinter
from services.control.planning.model import (
    Answer,
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    Item,
    Media,
    Pause,
    Recurrence,
    RelayItem,
    RelaySource,
    Slot,
    Snapshot,
    SourceId,
    UnitTarget,
    Window,
    from_ms,
    to_ms,
)
from services.control.planning.policies import Policy, Quiet
from services.control.planning.programme import plan
from services.control.trust.keyring import Keyring, parse_key_set
from services.control.units import UnitHistory, UnitVersion
from services.local.bench import month_facts
from services.local.bench.month_facts import DAY, MINUTE, SECOND, ZONE_MS, Ask, Month, Part, Sent, Speech

ASKED_TO_PLANNED_MS = 2 * SECOND  # from an officer's save to the signed plan, as `services.control.planner` is woken
OPENED_BEFORE_MS = 2 * DAY  # the platform runs for so long before the month begins
FIRST_COMMAND = 1

MEDIA_BASE_URL = "http://media.bench/media"
BYTES_PER_SECOND = 16_000  # of sound: 128 kbit/s
VOLUME, VOLUME_CAP = 60, 80
_NAMES = uuid.UUID("1f1a7c62-5f0a-4c38-9d57-3a5b0a3c9d10")


# --- names and files -------------------------------------------------------------------------------------------------


def unit_id(unit: str) -> UnitId:
    """The id of a unit."""
    return UnitId(uuid.uuid5(_NAMES, unit))


def clip_sha256(clip: int) -> bytes:
    """What a clip is known by. Nobody decodes it, so there is no file behind it."""
    return hashlib.sha256(b"clip/%d" % clip).digest()


def clip_bytes(length_ms: int) -> int:
    """The size of a clip."""
    return length_ms * BYTES_PER_SECOND // SECOND


# --- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Downlink:
    """A message to one device. Orders to do something now expire; all others are retained, the newest of a kind."""

    kind: DownlinkKind
    payload: bytes
    serial: int
    sent: Sent


@dataclass(slots=True)
class Row:
    """An emission as it stands on record."""

    slot: Slot
    fingerprint: bytes
    planned_at: datetime
    is_lapsed: bool = False
    is_withdrawn: bool = False
    stopped_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What the platform signs with, and what devices believe."""

    keyring: Keyring
    root_public_key: bytes


def make_keys(*, now_ms: int) -> Keys:
    """Fresh keys and the key set that announces them."""
    root, platform = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public_key = platform.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_set = KeySet(
        issued_at_ms=now_ms,
        valid_from_ms=now_ms - DAY,
        valid_until_ms=now_ms + 730 * DAY,
        serial=1,
        keys=(
            SigningKey(
                kid=signing.key_id(platform.public_key()),
                public_key=public_key,
                not_before_ms=now_ms - DAY,
                not_after_ms=now_ms + 730 * DAY,
            ),
        ),
    )
    announced = parse_key_set(signing.sign(key_set, root), source="the bench")
    return Keys(
        keyring=Keyring(private_key=platform, announced=announced),
        root_public_key=root.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
    )


def turns(month: Month) -> tuple[int, ...]:
    """The instants at which the programme is planned: after every change, and every night."""
    changed = {at_ms for ask in month.asks for at_ms in (ask.asked_ms, ask.until_ms) if at_ms is not None}
    changed |= {each.at_ms for each in month.decisions}
    opened_ms = month.began_ms - OPENED_BEFORE_MS
    nights = range(opened_ms, month.ends_ms + DAY, DAY)
    return tuple(sorted({at_ms + ASKED_TO_PLANNED_MS for at_ms in changed if at_ms > opened_ms} | set(nights)))


# --- the centre ------------------------------------------------------------------------------------------------------


class Office:
    """Plans and issues for the month's devices. `downlinks`, `issued` and `rows` are what comes of it."""

    def __init__(self, month: Month, keys: Keys, settings: PlanningSettings) -> None:
        sites = month.sites
        self._month = month
        self._keyring = keys.keyring
        self._settings = settings
        self._units = _history(month)
        opened_at = from_ms(month.began_ms - OPENED_BEFORE_MS)
        self._devices = tuple(
            DeviceRef(
                device_no=DeviceNo(site.number),
                device_id=DeviceId(site.name),
                kind=DeviceKind.CLUSTER,
                unit_id=unit_id(site.path[-1]),
                registered_at=opened_at,
            )
            for site in sites
        )
        self._addressees = tuple(
            Addressee(
                device_no=device.device_no,
                device_id=device.device_id,
                kind=device.kind,
                principal=device.device_id,
                unit_id=device.unit_id,
                ownership=Ownership.PUBLIC,
                volume_percent=VOLUME,
                volume_cap_percent=VOLUME_CAP,
                heartbeat_interval=timedelta(seconds=60),
                fallback=_fallback(month),
            )
            for device in self._devices
        )
        self._by_no = {each.device_no: each for each in self._addressees}
        self._due: list[tuple[int, DeviceNo]] = []  # when which plan becomes due for renewal, a heap
        self._standings: dict[tuple[DeviceNo, str], Standing] = {}
        self._programmes: dict[DeviceNo, dict[EmissionKey, Row]] = {each.device_no: {} for each in self._devices}
        self._commands: dict[int, int] = defaultdict(lambda: FIRST_COMMAND)
        units = {unit for site in sites for unit in site.path}
        self._asks = tuple(ask for ask in month.asks if units.intersection(ask.units))
        self._decisions = sorted((each for each in month.decisions if each.unit in units), key=lambda each: each.at_ms)
        self._places = {
            (unit_id(unit), BroadcastId(broadcast)): place
            for (unit, broadcast), place in month.places.items()
            if unit in units
        }
        self._policies = {
            unit_id(unit): Policy(unit_id=unit_id(unit), quiet=(Quiet(begin=_time(evening), end=_time(morning)),))
            for unit, (evening, morning) in month.quiet.items()
        }
        self._fingerprints = fingerprinter()
        self.rows: dict[EmissionKey, Row] = {}
        self.downlinks: dict[int, list[Downlink]] = {site.number: [] for site in sites}
        self.planned = 0

    def work(self) -> None:
        """Everything the centre does in the month."""
        day: date | None = None
        for at_ms in turns(self._month):
            self._renew(until_ms=at_ms)
            if _local_day(at_ms) != day:
                day = _local_day(at_ms)
                self._plan(self._asks_at(at_ms), None, at_ms=at_ms, asked_ms=at_ms)
                self._issue(self._addressees, at_ms=at_ms)
                continue
            touched = frozenset(ask.broadcast for ask in self._asks if _is_news(ask, at_ms)).union(
                each.broadcast for each in self._decisions if each.at_ms + ASKED_TO_PLANNED_MS == at_ms
            )
            if touched:
                about = [ask for ask in self._asks_at(at_ms) if ask.broadcast in touched]
                applied = self._plan(about, touched, at_ms=at_ms, asked_ms=at_ms - ASKED_TO_PLANNED_MS)
                self._issue([each for each in self._addressees if each.device_no in applied.devices], at_ms=at_ms)
        self._speak()

    def _renew(self, *, until_ms: int) -> None:
        """Sign anew what becomes due before `until_ms`, each device at its own time."""
        while self._due and self._due[0][0] < until_ms:
            due_ms, number = heapq.heappop(self._due)
            standing = self._standings[number, PLAN]
            if to_ms(standing.renew_at) <= due_ms:
                self._issue([self._by_no[number]], at_ms=due_ms)

    # --- planning ----------------------------------------------------------------------------------------------------

    def _asks_at(self, at_ms: int) -> list[Ask]:
        return [ask for ask in self._asks if ask.stands_at(at_ms)]

    def _plan(self, asks: Iterable[Ask], touched: frozenset[uuid.UUID] | None, *, at_ms: int, asked_ms: int) -> Changes:
        now, asked_at = from_ms(at_ms), from_ms(asked_ms)
        today = _local_day(at_ms)
        window = Window(
            first=_local_day(min(at_ms, asked_ms)) - LOOK_BACK,
            end=today + timedelta(days=self._settings.horizon_days + 1) + LOOK_AHEAD,
        )
        standing = list(asks)
        snapshot = Snapshot(
            broadcasts=tuple(_broadcast(ask, self._month) for ask in standing),
            bulletins=_bulletins(standing, self._month.clips),
            devices=self._devices,
            units=self._units,
            zone=ZoneInfo(month_facts.ZONE),
            relays=_relays(self._month),
            offers={
                (BroadcastId(each.broadcast), unit_id(each.unit)): Answer.ACCEPTED
                if each.is_accepted
                else Answer.DECLINED
                for each in self._decisions
                if each.at_ms <= at_ms
            },
            places=self._places,
            policies=self._policies,
        )
        applied = changes(
            plan(snapshot, window), self._recorded(touched, min(now, asked_at)), now=now, asked_at=asked_at
        )
        self._apply(applied, now=now)
        self.planned += 1
        return applied

    def _recorded(self, touched: frozenset[uuid.UUID] | None, ends_after: datetime) -> list[Recorded]:
        return [
            Recorded(*key, row.slot.starts_at, row.slot.ends_at, row.fingerprint, row.stopped_at is not None)
            for programme in self._programmes.values()
            for key, row in programme.items()
            if (touched is None or key[0] in touched) and row.slot.ends_at > ends_after
        ]

    def _apply(self, applied: Changes, *, now: datetime) -> None:
        for emissions, is_lapsed in ((applied.add, False), (applied.lapsed, True)):
            for emission in emissions:
                slot = emission.slot
                key = (slot.broadcast_id, slot.occurrence_at, slot.item, emission.device_no)
                row = Row(slot, self._fingerprints(slot), now, is_lapsed)
                self.rows[key] = self._programmes[emission.device_no][key] = row
        for gone in applied.withdraw:
            self._programmes[gone.device_no].pop(gone.key).is_withdrawn = True
        for stopped in applied.stop:
            self._programmes[stopped.device_no][stopped.key].stopped_at = now

    # --- issuing -----------------------------------------------------------------------------------------------------

    def _issue(self, addressees: Sequence[Addressee], *, at_ms: int) -> None:
        now = from_ms(at_ms)
        terms = Terms(
            now=now,
            horizon_at=from_ms(_midnight_ms(at_ms) + (self._settings.horizon_days + 1) * DAY),
            renew_left=self._settings.renew_left,
            configuration_validity=self._settings.configuration_validity,
            media_base_url=MEDIA_BASE_URL,
        )
        since = issuing.lookback(addressees, self._standings, now=now)
        programmes = {no: self._slots(no, ends_after, terms.horizon_at) for no, ends_after in since.items()}
        tree = self._units.on(_local_day(at_ms))
        for need in issuing.needs(addressees, self._standings, programmes, tree, self._keyring, terms):
            no = need.addressee.device_no
            serials = {kind: self._next_serial(no, kind) for kind in (PLAN, CONFIG)}
            for made in issuing.issue(need, serials, self._standings, programmes, tree, self._keyring, terms):
                self._put(made, at_ms=at_ms)

    def _slots(self, device_no: DeviceNo, ends_after: datetime, starts_before: datetime) -> list[PlannedSlot]:
        programme = self._programmes[device_no]
        # What ended so long ago is in no plan that stands: it stays on record, and is not looked at again.
        for key in [key for key, row in programme.items() if row.slot.ends_at < ends_after - LOOK_BACK]:
            del programme[key]
        found = [
            PlannedSlot(row.slot, row.fingerprint)
            for row in programme.values()
            if row.slot.ends_at > ends_after
            and row.slot.starts_at < starts_before
            and row.stopped_at is None
            and not row.is_lapsed
        ]
        found.sort(key=lambda planned: planned.slot.order)
        return found

    def _next_serial(self, device_no: DeviceNo, kind: str) -> int:
        standing = self._standings.get((device_no, kind))
        return 1 if standing is None else standing.serial + 1

    def _put(self, made: Issue, *, at_ms: int) -> None:
        self._standings[made.device_no, made.kind] = Standing(
            serial=made.serial,
            issued_at=from_ms(at_ms),
            valid_until=made.valid_until,
            renew_at=made.renew_at,
            topic=f"loa/v1/{made.topic.principal}/down/{made.kind}",
            kid=made.kid,
            content_hash=made.content_hash,
        )
        if made.kind == PLAN:
            heapq.heappush(self._due, (to_ms(made.renew_at) + 1, made.device_no))
        self.downlinks[made.device_no].append(
            Downlink(
                kind=DownlinkKind(made.kind),
                payload=made.message,
                serial=made.serial,
                sent=Sent(
                    at_ms=at_ms,
                    issued_ms=self._keyring.announced.content.issued_at_ms if made.kind == KEYS else at_ms,
                    valid_until_ms=to_ms(made.valid_until),
                    is_plan=made.kind == PLAN,
                ),
            )
        )

    # --- commands ----------------------------------------------------------------------------------------------------

    def _speak(self) -> None:
        """Everything that is ordered instead of planned, device by device in the order of its serials."""
        wanted: dict[int, list[tuple[int, Speech | bool]]] = defaultdict(list)
        for speech in self._month.speeches:
            for number in speech.devices:
                wanted[number].append((speech.at_ms, speech))
        for site in self._month.sites:
            for from_at, to_at in site.luck.hushed:
                wanted[site.number] += [(from_at, True), (to_at, False)]
        for number, downlinks in self.downlinks.items():
            for at_ms, what in sorted(wanted[number], key=lambda each: each[0]):
                downlinks.append(self._command(number, at_ms, what))
            downlinks.sort(key=lambda each: each.sent.at_ms)

    def _command(self, number: int, at_ms: int, what: Speech | bool) -> Downlink:
        serial = self._commands[number]
        self._commands[number] += 1
        speech = None if isinstance(what, bool) else what
        valid_ms = DAY if speech is None else speech.valid_ms
        common = {
            "device": f"month-{number:05d}",
            "serial": serial,
            "issued_at_ms": at_ms,
            "valid_from_ms": at_ms - 5 * MINUTE,
            "valid_until_ms": at_ms + valid_ms,
        }
        order: Order
        if speech is None:
            order = Command.model_validate(
                common
                | {
                    "command_id": uuid.uuid5(_NAMES, f"hush/{number}/{serial}"),
                    "action": Action.SILENCE if what else Action.RELEASE,
                }
            )
        else:
            order = Command.model_validate(
                common
                | {
                    "command_id": speech.order,
                    "action": Action.PLAY,
                    "media": _media_reference(speech.clip, self._month.clips),
                    "duration_ms": speech.length_ms,
                    "rank": Rank(
                        level=Level(speech.level), live=True, issuer_depth=speech.depth, issued_at_ms=speech.at_ms
                    ),
                    "resume": ResumePolicy.RESUME,
                }
            )
        return Downlink(
            kind=DownlinkKind.COMMAND,
            payload=self._keyring.sign(order),
            serial=serial,
            sent=Sent(
                at_ms=at_ms,
                issued_ms=at_ms,
                valid_until_ms=at_ms + valid_ms,
                speech=speech,
                is_hush=what if isinstance(what, bool) else None,
            ),
        )


# --- from plain words to values of planning --------------------------------------------------------------------------


def _fallback(month: Month) -> Fallback | None:
    stand_by = month.stand_by
    if stand_by is None:
        return None
    return Fallback(
        fallback_id=stand_by.order,
        media=_media_reference(stand_by.clip, month.clips),
        at_s=tuple(each // SECOND for each in stand_by.times_ms),
    )


def _media_reference(clip: int, clips: Sequence[int]) -> MediaReference:
    sha256 = clip_sha256(clip)
    return MediaReference(
        sha256=sha256,
        size=clip_bytes(clips[clip]),
        mime="audio/mpeg",
        path=orders.media_path(sha256),
        duration_ms=clips[clip],
    )


def _history(month: Month) -> UnitHistory:
    since = _local_day(month.began_ms) - timedelta(days=365)
    words = ("province", "district", "commune")
    depths: dict[str, int] = {}
    versions = []
    for unit, parent in month.units:
        depths[unit] = 0 if parent is None else depths[parent] + 1
        versions.append(
            UnitVersion(
                unit_id=unit_id(unit),
                valid_from=since,
                parent_id=None if parent is None else unit_id(parent),
                code=unit,
                level=words[depths[unit]],
                name=unit,
            )
        )
    return UnitHistory(versions)


def _broadcast(ask: Ask, month: Month) -> Broadcast:
    first = _local_day(month.began_ms) + timedelta(days=ask.days.start)
    return Broadcast(
        broadcast_id=BroadcastId(ask.broadcast),
        unit_id=unit_id(ask.unit),
        title=f"{ask.unit} {ask.broadcast.hex[:8]}",
        level=Level(ask.level),
        recurrence=Recurrence(
            starts_on=first,
            ends_on=_local_day(month.began_ms) + timedelta(days=ask.days.stop),
            times=tuple(_time(each) for each in ask.times_ms),
            rrule=f"FREQ=DAILY;INTERVAL={ask.days.step}",
        ),
        time_zone=month_facts.ZONE,
        items=tuple(_item(part, month) for part in ask.parts),
        targets=(
            *(UnitTarget(unit_id=unit_id(unit)) for unit in ask.units),
            *(DeviceTarget(device_no=DeviceNo(number), is_excluded=True) for number in sorted(ask.not_devices)),
        ),
        issued_at=from_ms(ask.asked_ms),
        resume=ResumePolicy(ask.resume),
        severity=ask.severity,
        patience=None if ask.patience_ms is None else timedelta(milliseconds=ask.patience_ms),
    )


def _item(part: Part, month: Month) -> Item:
    length = timedelta(milliseconds=part.length_ms)
    if part.source is not None:
        return RelayItem(number=part.number, source_id=SourceId(month.sources[part.source].source), length=length)
    if part.clip is None:
        return Pause(number=part.number, length=length)
    return BulletinItem(number=part.number, bulletin_id=_bulletin_id(part.clip))


def _relays(month: Month) -> tuple[RelaySource, ...]:
    return tuple(
        RelaySource(
            source_id=SourceId(each.source),
            name=f"source {each.number}",
            path=f"relays/{each.source}",
            fallback=None if each.fallback is None else _media(each.fallback, month.clips),
        )
        for each in month.sources
    )


def _media(clip: int, clips: Sequence[int]) -> Media:
    return Media(
        sha256=clip_sha256(clip),
        size=clip_bytes(clips[clip]),
        mime="audio/mpeg",
        duration=timedelta(milliseconds=clips[clip]),
    )


def _bulletin_id(clip: int) -> BulletinId:
    return BulletinId(uuid.uuid5(_NAMES, f"bulletin/{clip}"))


def _bulletins(asks: Iterable[Ask], clips: Sequence[int]) -> tuple[Bulletin, ...]:
    used = {part.clip: part for ask in asks for part in ask.parts if part.clip is not None}
    return tuple(
        Bulletin(
            bulletin_id=_bulletin_id(clip),
            title=f"clip {clip}",
            is_approved=True,
            media=_media(clip, clips),
            expires_at=None if part.expires_ms is None else from_ms(part.expires_ms),
            max_plays=part.most,
        )
        for clip, part in sorted(used.items())
    )


def _is_news(ask: Ask, at_ms: int) -> bool:
    """Whether it is this ask, or its end, that is planned at `at_ms`."""
    return at_ms - ASKED_TO_PLANNED_MS in (ask.asked_ms, ask.until_ms)


def _local_day(at_ms: int) -> date:
    return from_ms(at_ms + ZONE_MS).date()


def _midnight_ms(at_ms: int) -> int:
    return (at_ms + ZONE_MS) // DAY * DAY - ZONE_MS


def _time(time_of_day_ms: int) -> time:
    return from_ms(time_of_day_ms).time()
