"""What an alert is in control: drafts, audiences as people ask for them, and what stands on record. Pure.

The words are those of OASIS CAP 1.2 (section 3.2), in lower case. What devices are told is made of them in `messages`;
CAP documents are made of them, and into them, elsewhere.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import AlertId, DeviceId, UnitId

MAX_TEXTS = 8
MAX_AREAS = 16
MAX_UNITS = 256  # of all areas; as many topics are published to
MAX_NAMED = 256  # devices named, devices excepted, units excepted
MAX_REFERENCES = 256  # alerts that one ends; the all-clear of an event with many messages names all of them
MAX_SHAPES = 16  # of one area
MAX_CORNERS = 256
MAX_RADIUS_M = 1_000_000
LONGEST = timedelta(days=7)  # an alert that still holds after this is news; it can be updated to hold on
SHORTEST = timedelta(seconds=10)
# A kill switch holds until somebody releases it, and for this long at most.
LONGEST_SILENCE = timedelta(days=366)


class Status(enum.StrEnum):
    """Whether it is meant in earnest (CAP 1.2, `status`)."""

    ACTUAL = "actual"
    EXERCISE = "exercise"
    TEST = "test"


class Category(enum.StrEnum):
    """What kind of event (CAP 1.2, `category`)."""

    GEO = "geo"
    MET = "met"
    SAFETY = "safety"
    SECURITY = "security"
    RESCUE = "rescue"
    FIRE = "fire"
    HEALTH = "health"
    ENV = "env"
    TRANSPORT = "transport"
    INFRA = "infra"
    CBRNE = "cbrne"
    OTHER = "other"


class Urgency(enum.StrEnum):
    """How soon to act (CAP 1.2, `urgency`)."""

    IMMEDIATE = "immediate"
    EXPECTED = "expected"
    FUTURE = "future"
    PAST = "past"
    UNKNOWN = "unknown"


class Severity(enum.StrEnum):
    """How bad (CAP 1.2, `severity`)."""

    EXTREME = "extreme"
    SEVERE = "severe"
    MODERATE = "moderate"
    MINOR = "minor"
    UNKNOWN = "unknown"

    @property
    def number(self) -> int:
        """As devices compare it (`schemas.orders.Rank`)."""
        return _SEVERITY_NUMBERS[self]


_SEVERITY_NUMBERS = {
    Severity.UNKNOWN: 0,
    Severity.MINOR: 1,
    Severity.MODERATE: 2,
    Severity.SEVERE: 3,
    Severity.EXTREME: 4,
}


class Certainty(enum.StrEnum):
    """How sure (CAP 1.2, `certainty`)."""

    OBSERVED = "observed"
    LIKELY = "likely"
    POSSIBLE = "possible"
    UNLIKELY = "unlikely"
    UNKNOWN = "unknown"


class Origin(enum.StrEnum):
    """Where an alert came from."""

    CONSOLE = "console"  # somebody through the API or the pages
    CAP = "cap"
    RULE = "rule"  # a threshold on readings
    SCHEDULE = "schedule"  # tests by the calendar


class State(enum.StrEnum):
    """Where an alert stands."""

    PROPOSED = "proposed"  # prepared by a rule; nobody has released it
    AWAITING_SECOND = "awaiting_second"  # a second person has not spoken yet
    IN_FORCE = "in_force"
    CANCELLED = "cancelled"  # of a silence: released
    EXPIRED = "expired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """WGS 84, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """All points within `radius_m` metres of a centre."""

    centre: Point
    radius_m: int


Polygon = tuple[Point, ...]  # corners in order, the last one joined to the first, which is not repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaWish:
    """The ground of `units`; where there are shapes, of it what lies inside any of them."""

    units: tuple[UnitId, ...]
    polygons: tuple[Polygon, ...] = ()
    circles: tuple[Circle, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AudienceWish:
    """Whom somebody wants to reach: any of the areas and any of the devices, without the exceptions.

    `kinds` are `cluster` and `board`, `ownerships` those of the registry; where any is named, only those.
    """

    areas: tuple[AreaWish, ...] = ()
    devices: tuple[DeviceId, ...] = ()
    except_units: tuple[UnitId, ...] = ()
    except_devices: tuple[DeviceId, ...] = ()
    kinds: tuple[str, ...] = ()
    ownerships: tuple[str, ...] = ()

    @property
    def units(self) -> tuple[UnitId, ...]:
        """The units of all areas, each once, in the order they are named."""
        return tuple(dict.fromkeys(unit for area in self.areas for unit in area.units))

    @classmethod
    def of_units(cls, *units: UnitId) -> AudienceWish:
        """Everything below the units."""
        return cls(areas=(AreaWish(units=units),))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertText:
    """An alert in one language: what is told, what stands on boards, and the file that sounds or is shown."""

    language: str
    headline: str
    description: str | None = None
    instruction: str | None = None
    board_text: str | None = None  # None: the headline and the instruction
    media_sha256: bytes | None = None
    # What CAP says of the sender in this language, kept to be exported again.
    event: str | None = None
    sender_name: str | None = None
    area_description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapReference:
    """A CAP message as another one names it (CAP 1.2, `references`)."""

    sender: str
    identifier: str
    sent: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CapOrigin:
    """The CAP message that an alert, or a version of it, came by."""

    identifier: str
    sender: str
    sent: datetime
    references: tuple[CapReference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertDraft:
    """An alert as somebody wants it. `references` are other alerts of ours that end when this one begins."""

    unit_id: UnitId  # that speaks; its height in the tree ranks the alert
    purpose: Purpose = Purpose.ALERT
    status: Status = Status.ACTUAL
    event: str
    category: Category = Category.OTHER
    urgency: Urgency = Urgency.UNKNOWN
    severity: Severity = Severity.UNKNOWN
    certainty: Certainty = Certainty.UNKNOWN
    texts: tuple[AlertText, ...] = ()
    audience: AudienceWish
    repeat_interval: timedelta | None = None  # pause between two repetitions; None: once
    valid_until: datetime
    resume: ResumePolicy = ResumePolicy.RESUME
    volume_percent: int | None = None
    template_id: uuid.UUID | None = None
    origin: Origin = Origin.CONSOLE
    cap: CapOrigin | None = None
    references: tuple[AlertId, ...] = ()

    @property
    def headline(self) -> str:
        """What lists call it."""
        return self.texts[0].headline if self.texts else self.event


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert on record, in its present version. `draft` is what holds, also where it has ended."""

    alert_id: AlertId
    version: int
    state: State
    draft: AlertDraft
    first_issued_at: datetime
    issued_at: datetime  # of this version
    holds_until: datetime  # the latest end of any version that devices were given: until then a cancel is retained
    topics: tuple[UnitId, ...]  # where any version was published
    created_by: uuid.UUID | None = None
    ended_at: datetime | None = None
    ended_by: uuid.UUID | None = None
    stopped_in: tuple[UnitId, ...] = ()  # units that stopped this version on their own ground

    @property
    def is_silence(self) -> bool:
        """Whether it is a kill switch."""
        return self.draft.purpose is Purpose.SILENCE

    def is_over(self, *, now: datetime) -> bool:
        """Whether nothing of it can sound or hold any more."""
        return self.state is not State.IN_FORCE or now >= self.draft.valid_until


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertVersion:
    """One version of an alert as it was signed."""

    alert_id: AlertId
    version: int
    purpose: Purpose
    issued_at: datetime
    valid_until: datetime
    message: bytes
    topics: tuple[UnitId, ...]
    draft: AlertDraft
    issued_by: uuid.UUID | None = None
    approved_by: uuid.UUID | None = None  # the second person
    stopped_in: UnitId | None = None  # of a stop: the unit that gave it for its own ground
    published_at: datetime | None = None  # when the broker first took it


def units_named(wish: AudienceWish) -> Iterator[UnitId]:
    """Every unit that the wish names, excepted ones too."""
    yield from wish.units
    yield from wish.except_units


def distinct(units: Iterable[UnitId]) -> tuple[UnitId, ...]:
    """The units, each once, in order of first mention."""
    return tuple(dict.fromkeys(units))
