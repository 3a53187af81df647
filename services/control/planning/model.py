"""Values of planning: frozen, keyword-only, without a serialiser. Store and wire have types of their own.

Instants are aware and in UTC, days are local days, intervals are half-open.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, NewType
from zoneinfo import ZoneInfo

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from schemas.orders import Rank
from schemas.plans import ContentKind
from services.control.planning.policies import Policy
from services.control.units import UnitHistory

DeviceNo = NewType("DeviceNo", int)
GroupId = NewType("GroupId", uuid.UUID)
SourceId = NewType("SourceId", uuid.UUID)

# Local time has no offset of its own: it means something in the zone of a broadcast only. A moment is a naive datetime.
LocalDate = date
LocalMoment = datetime

# An occurrence stays within a day, so that whoever looks two days back has seen all that can still sound.
MAX_OCCURRENCE_LENGTH = timedelta(hours=24)
# A day by the clock on the wall lasts longer where the clock is set back.
LONGEST_DAY = timedelta(hours=26)

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
class Recurrence:
    """When something is to begin, in local time (RFC 5545).

    Each of `times` is a DTSTART of its own on `starts_on`; what the rule makes of each of them is united, together with
    `rdates` and without `exdates`, where a date stands for all times of that day. `sessions` are codes of session slots
    in the policy of the issuing unit: on every day of the rule one begins when its slot does, in the zone of policies.
    `ends_on` is the first day on which nothing begins any more, whatever rule and dates say.
    """

    starts_on: date
    ends_on: date | None = None
    times: tuple[time, ...] = ()
    sessions: tuple[str, ...] = ()
    rrule: str | None = None  # the value of an RRULE; None: on `starts_on` only
    rdates: tuple[LocalDate | LocalMoment, ...] = ()
    exdates: tuple[LocalDate | LocalMoment, ...] = ()


EVERY_DAY = "FREQ=DAILY"


def once(day: date, times: Iterable[time]) -> Recurrence:
    """On one local day, at each of `times`."""
    return Recurrence(starts_on=day, times=tuple(times))


def daily(starts_on: date, ends_on: date | None, times: Iterable[time]) -> Recurrence:
    """Every local day from `starts_on` until `ends_on`, at each of `times`."""
    return Recurrence(starts_on=starts_on, ends_on=ends_on, times=tuple(times), rrule=EVERY_DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A file named by the SHA-256 of its bytes. A picture has no duration."""

    sha256: bytes
    size: int
    mime: str
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulletin:
    """Content: sound for clusters (`media`), and one thing to show on boards: text, a picture or a film.

    From `expires_at` on it is stale: nothing of it begins any more. `max_plays` is how many occurrences of one broadcast
    that could sound may hold it (`Plays`). `board_length` is how long boards show what has no length of its own.
    """

    bulletin_id: BulletinId
    title: str
    is_approved: bool
    media: Media | None = None
    board_text: str | None = None
    board_style: ContentKind = ContentKind.TEXT
    board_media: Media | None = None
    board_length: timedelta | None = None
    expires_at: datetime | None = None
    max_plays: int | None = None

    def __post_init__(self) -> None:
        if self.board_style not in (ContentKind.TEXT, ContentKind.TICKER):
            raise ValueError("board_style is text or ticker")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySource:
    """A live source: at the relay point under `path`, where what it says is signed, or taken directly from `url`.

    `fallback` fills in while the source is silent.
    """

    source_id: SourceId
    name: str
    path: str | None = None
    url: str | None = None
    fallback: Media | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.url is None):
            raise ValueError("a relay source has either a path at the relay point or a url of its own")

    @property
    def is_direct(self) -> bool:
        """Whether devices take it themselves, so that nobody signs what it says."""
        return self.url is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulletinItem:
    """A bulletin at its place in the broadcast. A jingle is one that frames the others."""

    number: int
    bulletin_id: BulletinId
    is_jingle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Silence of a length at its place in the broadcast."""

    number: int
    length: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayItem:
    """A live source for a length, at its place in the broadcast or a fixed time after the beginning of the occurrence.

    `is_live`: somebody speaks there, and goes before priority content. Nothing fills in for who says nothing.
    """

    number: int
    source_id: SourceId
    length: timedelta
    starts_after: timedelta | None = None
    is_live: bool = False


Item = BulletinItem | Pause | RelayItem


class Fit(enum.StrEnum):
    """What becomes of what does not fit into the length of a broadcast."""

    WHOLE = "whole"  # sounds to its end
    TRIM = "trim"  # is cut there
    DROP = "drop"  # is left out


class Fill(enum.StrEnum):
    """What becomes of the time that is left until the length of a broadcast."""

    NONE = "none"  # stays silent
    REPEAT = "repeat"  # the items again from the first


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


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTarget:
    """The devices of a group, as it is now."""

    group_id: GroupId
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KindTarget:
    """Every device of a kind in the subtree of the issuing unit."""

    kind: DeviceKind
    is_excluded: bool = False


Target = UnitTarget | DeviceTarget | GroupTarget | KindTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """What somebody asked for. `time_zone` is an IANA name; local times mean nothing without it.

    It says when something begins and nothing else: what holds then is read in the zone of policies (`Snapshot.zone`).
    `length` is how long one occurrence is to last (None: as long as its items), `patience` how late an item may begin
    (None: half its length). `allowed_rules` are rules of units' policies that an approver let it pass; while one has yet
    to decide (`is_awaiting`) nothing of it sounds.
    """

    broadcast_id: BroadcastId
    unit_id: UnitId
    title: str
    level: Level
    recurrence: Recurrence
    time_zone: str
    items: tuple[Item, ...]
    targets: tuple[Target, ...]
    issued_at: datetime
    volume_percent: int | None = None
    resume: ResumePolicy = ResumePolicy.RESUME
    length: timedelta | None = None
    fit: Fit = Fit.WHOLE
    fill: Fill = Fill.NONE
    patience: timedelta | None = None
    severity: int = 0
    allowed_rules: frozenset[tuple[str, UnitId]] = frozenset()
    is_awaiting: bool = False

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
    ownership: Ownership = Ownership.PUBLIC
    public_share: timedelta | None = None  # a day, of a private board with a public share
    volume_percent: int = 100  # as configured: what sounds without a volume of its own

    def is_there(self, at: datetime) -> bool:
        """Whether the device is registered at an instant."""
        return self.registered_at <= at and (self.retired_at is None or at < self.retired_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requisition:
    """The right to use private boards, every one below a unit or one of them, in [`valid_from`, `expires_at`) (R-15)."""

    unit_id: UnitId | None = None
    device_no: DeviceNo | None = None
    valid_from: datetime
    expires_at: datetime

    def __post_init__(self) -> None:
        if (self.unit_id is None) == (self.device_no is None):
            raise ValueError("a requisition is of either a unit or a device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Something that is on record of an occurrence that has begun, on the devices that had the same of it.

    It goes on as it is, or has sounded already, whatever is asked for now. `level` and `allowed_rules` (which an approver
    let pass) are those it was planned with.
    """

    broadcast_id: BroadcastId
    occurrence_at: datetime
    level: Level
    allowed_rules: frozenset[tuple[str, UnitId]] = frozenset()
    begins_at: datetime
    ends_at: datetime
    devices: frozenset[DeviceNo]


class Answer(enum.StrEnum):
    """What a unit said to an offer (R-17), in the words of the database."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    SCHEDULED = "scheduled"


class Plays(NamedTuple):
    """How often a bulletin that may be played so often was on in a broadcast before `since`: what is past is on record.

    Of what begins from then on every occurrence counts. Those that then come to nothing are not on record, so what they
    took is free again for later ones.
    """

    so_far: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything `plan` looks at. Order means nothing; ids are unique in each tuple.

    `zone` is where the devices hang: days of units and policies, hours, minutes of a day and sessions are those of its
    clocks, whichever zone a broadcast counts its own times in.
    `offers` holds what units decided about normal broadcasts from above, `places` the order a unit
    gives its priority broadcasts (R-17). `plays` need not name broadcasts in which nothing was played before they were
    issued, nor `begun` what draws on no time that is granted. What would have begun before `asked_at` and is not in `begun`
    did not sound, so it takes no time; None: nothing of that is known.
    """

    broadcasts: tuple[Broadcast, ...]
    bulletins: tuple[Bulletin, ...]
    devices: tuple[DeviceRef, ...]
    units: UnitHistory
    zone: ZoneInfo
    relays: tuple[RelaySource, ...] = ()
    groups: Mapping[GroupId, frozenset[DeviceNo]] = field(default_factory=dict)
    policies: Mapping[UnitId, Policy] = field(default_factory=dict)
    offers: Mapping[tuple[BroadcastId, UnitId], Answer] = field(default_factory=dict)
    places: Mapping[tuple[UnitId, BroadcastId], int] = field(default_factory=dict)
    requisitions: tuple[Requisition, ...] = ()
    plays: Mapping[tuple[BroadcastId, BulletinId], Plays] = field(default_factory=dict)
    begun: tuple[Begun, ...] = ()
    asked_at: datetime | None = None

    def __post_init__(self) -> None:
        for name, ids in (
            ("broadcast", [broadcast.broadcast_id for broadcast in self.broadcasts]),
            ("bulletin", [bulletin.bulletin_id for bulletin in self.bulletins]),
            ("device", [device.device_no for device in self.devices]),
            ("relay source", [source.source_id for source in self.relays]),
        ):
            if len(set(ids)) != len(ids):
                raise ValueError(f"a {name} stands twice in the snapshot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Whole local days of the zone of policies: from `first` until `end`, which is not part of it."""

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
    """One dated instance of a broadcast: the local day and time it was asked for, and the instant it begins.

    `day` is the day of that instant where policies hold: the day whose units and limits it meets, and whose minutes it
    draws on. `session` is the code of the session slot it was asked for in, if it was.
    """

    broadcast_id: BroadcastId
    local_day: date
    local_time: time
    at: datetime
    day: date
    session: str | None = None


# Whose grant of time it is (None: the owner's), the day where policies hold, and the session or None for all of the day.
GrantKey = tuple[UnitId | None, date, str | None]

SlotKey = tuple[BroadcastId, datetime, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One item of one occurrence, in the form that one kind of device puts it out: a bulletin or a relay.

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
    bulletin_id: BulletinId | None
    title: str
    media: Media | None = None
    text: str | None = None
    relay: RelaySource | None = None
    volume_percent: int | None = None
    resume: ResumePolicy = ResumePolicy.RESUME
    # Where the slot stands in a programme; the order of emissions in a signed plan. Programmes are sorted all the time.
    order: tuple[datetime, bytes, datetime, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        order = (self.starts_at, self.broadcast_id.bytes, self.occurrence_at, self.item)
        object.__setattr__(self, "order", order)

    @property
    def key(self) -> SlotKey:
        """Identity of the slot; with a device it is the identity of an emission."""
        return (self.broadcast_id, self.occurrence_at, self.item)


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
    AWAITING_APPROVAL = "awaiting_approval"  # an approver has not decided whether units' limits let it pass (R-18)
    TOO_LONG = "too_long"
    BULLETIN_MISSING = "bulletin_missing"
    BULLETIN_NOT_APPROVED = "bulletin_not_approved"
    TARGET_UNIT_CLOSED = "target_unit_closed"
    TARGET_OUTSIDE_ISSUER = "target_outside_issuer"  # not below the issuing unit on that day
    TARGET_DEVICE_GONE = "target_device_gone"
    CANNOT_PLAY = "cannot_play"  # a device that was named cannot put this content out
    NO_DEVICE = "no_device"
    BAD_RECURRENCE = "bad_recurrence"  # detail: which fault of `recurrence`
    UNKNOWN_SESSION = "unknown_session"  # by the policy of that day no session of this code takes place
    EXPIRED = "expired"
    PLAYS_USED_UP = "plays_used_up"  # the bulletin has been in as many occurrences as it may
    NO_ROOM = "no_room"  # what does not fit is left out
    JINGLE_ALONE = "jingle_alone"  # nothing is left that it could frame
    SOURCE_MISSING = "source_missing"
    RESERVED_SLOT = "reserved_slot"  # kept for the programmes of a unit above the issuer
    RELAY_NOT_ALLOWED = "relay_not_allowed"  # taken directly, and a policy is against it
    GROUP_CLOSED = "group_closed"
    OFFER_PENDING = "offer_pending"  # offered to a unit that has not decided
    OFFER_DECLINED = "offer_declined"
    OFFER_SCHEDULED = "offer_scheduled"  # the unit puts it out at times of its own
    OUTSIDE_SESSION = "outside_session"
    QUIET_HOURS = "quiet_hours"
    WEEKDAY_NOT_ALLOWED = "weekday_not_allowed"
    SESSION_TOO_LONG = "session_too_long"
    DAY_FULL = "day_full"  # the minutes a day are used up
    PRIVATE_BOARD = "private_board"  # no requisition covers it
    SHARE_USED_UP = "share_used_up"  # the public share of a private board
    # It is emitted, and somebody should look:
    LOCAL_TIME_SKIPPED = "local_time_skipped"  # the clock jumps over it: emitted as much later as the clock jumps
    LOCAL_TIME_REPEATED = "local_time_repeated"  # the clock shows it twice: emitted the first time
    SHORTENED = "shortened"  # cut at the end of its session
    TOO_MANY_ITEMS = (
        "too_many_items"  # filled up by repeating, it has more items than can be numbered: the rest is silent
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something somebody should know; a value, not an exception. `detail` holds facts, not a sentence.

    `unit_id` is the unit it is about: whose policy it is, who has not accepted, where a board or a target lies. Who is not
    in that unit or below it is not concerned.
    `local_day` is a day of the zone of policies, as those of a window are; `local_time` the time that was asked for.
    """

    kind: ProblemKind
    broadcast_id: BroadcastId
    local_day: date | None = None
    occurrence_at: datetime | None = None
    local_time: time | None = None
    item: int | None = None
    device_no: DeviceNo | None = None
    unit_id: UnitId | None = None
    detail: str = ""

    @classmethod
    def about(
        cls,
        occurrence: Occurrence,
        kind: ProblemKind,
        *,
        item: int | None = None,
        device_no: DeviceNo | None = None,
        unit_id: UnitId | None = None,
        detail: str = "",
    ) -> Problem:
        """Something about one occurrence."""
        return cls(
            kind=kind,
            broadcast_id=occurrence.broadcast_id,
            local_day=occurrence.day,
            local_time=occurrence.local_time,
            occurrence_at=occurrence.at,
            item=item,
            device_no=device_no,
            unit_id=unit_id,
            detail=detail,
        )

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
            b"" if self.unit_id is None else self.unit_id.bytes,
            self.detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The programme of every device that can play, and what is wrong.

    Programmes are sorted by `Slot.order`; devices with the same programme share one tuple. Problems are sorted.
    `offers` names every unit that a normal broadcast from above is offered to (R-17), sorted. `used` is how much of each
    grant of time is used up, on devices that draw on any.
    """

    programmes: Mapping[DeviceNo, Programme]
    problems: tuple[Problem, ...]
    offers: tuple[tuple[BroadcastId, UnitId], ...] = ()
    used: Mapping[DeviceNo, Mapping[GrantKey, timedelta]] = field(default_factory=dict)

    @property
    def emissions(self) -> Iterator[Emission]:
        """Every emission, device by device. Derived on demand: a nation has tens of millions."""
        for device_no, programme in self.programmes.items():
            for slot in programme:
                yield Emission(device_no=device_no, slot=slot)
