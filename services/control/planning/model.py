"""Values of planning: frozen, keyword-only, without a serialiser. Store and wire have types of their own.

Instants are aware and in UTC, days are local days, intervals are half-open.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NewType

from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from schemas.orders import Rank
from schemas.plans import ContentKind
from services.control.units import UnitHistory

DeviceNo = NewType("DeviceNo", int)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    """Milliseconds since 1970, as the wire counts; exact, because it never goes through a float."""
    return (instant - EPOCH) // _MILLISECOND


def from_ms(at_ms: int) -> datetime:
    """The instant that the wire calls `at_ms`."""
    return EPOCH + at_ms * _MILLISECOND


# --- what was asked for ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """On one local day, at each of `times`."""

    day: date
    times: tuple[time, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """Every local day from `starts_on` until `ends_on` (the first day on which it no longer starts; None: for ever)."""

    starts_on: date
    ends_on: date | None = None
    times: tuple[time, ...]


Rule = Once | Daily


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A file named by the SHA-256 of its bytes."""

    sha256: bytes
    size: int
    mime: str
    duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulletin:
    """Content: sound for clusters, text for boards, or both."""

    bulletin_id: BulletinId
    title: str
    is_approved: bool
    media: Media | None = None
    board_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulletinItem:
    """A bulletin at its place in the broadcast."""

    number: int
    bulletin_id: BulletinId


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Silence of a length at its place in the broadcast."""

    number: int
    length: timedelta


Item = BulletinItem | Pause


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTarget:
    """Every device in the subtree of a unit, as the tree is on the day."""

    unit_id: UnitId
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTarget:
    """One device."""

    device_no: DeviceNo
    is_excluded: bool = False


Target = UnitTarget | DeviceTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """What somebody asked for. `time_zone` is an IANA name; local times mean nothing without it."""

    broadcast_id: BroadcastId
    unit_id: UnitId
    title: str
    level: Level
    rule: Rule
    time_zone: str
    items: tuple[Item, ...]
    targets: tuple[Target, ...]
    issued_at: datetime
    volume_percent: int | None = None
    resume: ResumePolicy = ResumePolicy.RESUME

    def __post_init__(self) -> None:
        numbers = [item.number for item in self.items]
        if numbers != sorted(set(numbers)):
            raise ValueError("items must be in ascending order of their numbers, each number once")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRef:
    """A device as planning sees it: what it is, where it belongs and since when it is there."""

    device_no: DeviceNo
    device_id: DeviceId
    kind: DeviceKind
    unit_id: UnitId
    registered_at: datetime
    retired_at: datetime | None = None

    def is_there(self, at: datetime) -> bool:
        """Whether the device is registered at an instant."""
        return self.registered_at <= at and (self.retired_at is None or at < self.retired_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything `plan` looks at. Order means nothing; ids are unique in each tuple."""

    broadcasts: tuple[Broadcast, ...]
    bulletins: tuple[Bulletin, ...]
    devices: tuple[DeviceRef, ...]
    units: UnitHistory

    def __post_init__(self) -> None:
        for name, ids in (
            ("broadcast", [broadcast.broadcast_id for broadcast in self.broadcasts]),
            ("bulletin", [bulletin.bulletin_id for bulletin in self.bulletins]),
            ("device", [device.device_no for device in self.devices]),
        ):
            if len(set(ids)) != len(ids):
                raise ValueError(f"a {name} stands twice in the snapshot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Whole local days: from `first` until `end`, which is not part of it. Each broadcast reads them in its own zone."""

    first: date
    end: date

    def __post_init__(self) -> None:
        if self.end <= self.first:
            raise ValueError("a window has at least one day")

    @property
    def days(self) -> tuple[date, ...]:
        """The days in order."""
        return tuple(self.first + timedelta(days=offset) for offset in range((self.end - self.first).days))

    def holds(self, day: date) -> bool:
        """Whether `day` is one of the window's."""
        return self.first <= day < self.end


# --- what should be --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One dated instance of a broadcast: the local day and time it was asked for, and the instant it begins."""

    broadcast_id: BroadcastId
    local_day: date
    local_time: time
    at: datetime


SlotKey = tuple[BroadcastId, datetime, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One item of one occurrence, in the form that one kind of device puts it out.

    Sounds in [`starts_at`, `ends_at`); who is ready later joins in progress, but not after `latest_start_at`. Devices
    share slots; an emission is a slot on a device.
    """

    broadcast_id: BroadcastId
    occurrence_at: datetime
    item: int
    starts_at: datetime
    ends_at: datetime
    latest_start_at: datetime
    rank: Rank
    content: ContentKind
    bulletin_id: BulletinId
    title: str
    media: Media | None = None
    text: str | None = None
    volume_percent: int | None = None
    resume: ResumePolicy = ResumePolicy.RESUME

    @property
    def key(self) -> SlotKey:
        """Identity of the slot; with a device it is the identity of an emission."""
        return (self.broadcast_id, self.occurrence_at, self.item)

    @property
    def order(self) -> tuple[datetime, bytes, datetime, int]:
        """Where the slot stands in a programme; the order of emissions in a signed plan."""
        return (self.starts_at, self.broadcast_id.bytes, self.occurrence_at, self.item)


Programme = tuple[Slot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """A slot on a device."""

    device_no: DeviceNo
    slot: Slot


class ProblemKind(enum.StrEnum):
    """What a person should know about an occurrence. Stable words: they stand in the database and in the API."""

    # The occurrence, or its part, is not emitted:
    UNKNOWN_TIME_ZONE = "unknown_time_zone"
    LOCAL_DAY_SKIPPED = "local_day_skipped"  # the clock jumped over the whole day
    SAME_INSTANT = "same_instant"  # another local time of this broadcast falls on the same instant
    BEFORE_ISSUE = "before_issue"  # lies before somebody asked for it
    ISSUER_CLOSED = "issuer_closed"  # the issuing unit does not exist on that day
    TOO_LONG = "too_long"
    BULLETIN_MISSING = "bulletin_missing"
    BULLETIN_NOT_APPROVED = "bulletin_not_approved"
    TARGET_UNIT_CLOSED = "target_unit_closed"
    TARGET_OUTSIDE_ISSUER = "target_outside_issuer"  # not below the issuing unit on that day
    TARGET_DEVICE_GONE = "target_device_gone"
    CANNOT_PLAY = "cannot_play"  # a device that was named cannot put this content out
    NO_DEVICE = "no_device"
    # It is emitted, and somebody should look:
    LOCAL_TIME_SKIPPED = "local_time_skipped"  # the clock jumps over it: emitted as much later as the clock jumps
    LOCAL_TIME_REPEATED = "local_time_repeated"  # the clock shows it twice: emitted the first time


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something somebody should know; a value, not an exception. `detail` holds facts, not a sentence."""

    kind: ProblemKind
    broadcast_id: BroadcastId
    local_day: date | None = None
    occurrence_at: datetime | None = None
    local_time: time | None = None
    item: int | None = None
    device_no: DeviceNo | None = None
    detail: str = ""

    @property
    def order(self) -> tuple[object, ...]:
        """Where the problem stands in a plan."""
        return (
            self.broadcast_id.bytes,
            self.local_day or date.min,
            self.local_time or time.min,
            self.occurrence_at or EPOCH,
            -1 if self.item is None else self.item,
            -1 if self.device_no is None else self.device_no,
            self.kind.value,
            self.detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The programme of every device that can play, and what is wrong.

    Programmes are sorted by `Slot.order`; devices with the same programme share one tuple. Problems are sorted.
    """

    programmes: Mapping[DeviceNo, Programme]
    problems: tuple[Problem, ...]

    @property
    def emissions(self) -> Iterator[Emission]:
        """Every emission, device by device. Derived on demand: a nation has tens of millions."""
        for device_no, programme in self.programmes.items():
            for slot in programme:
                yield Emission(device_no=device_no, slot=slot)
