"""CAP messages as values: the Common Alerting Protocol 1.2 (OASIS, July 2010; ITU-T X.1303 bis). Pure.

Names and order are those of the standard's data dictionary (section 3.2). `cap_reading` makes these values of documents,
`cap_writing` makes documents of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from services.control.alerting.model import CapReference, Category, Certainty, Point, Severity, Urgency

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
MEDIA_TYPE = "application/cap+xml"

# What the standard takes an info block to be written in that does not say (3.2.2, `language`).
DEFAULT_LANGUAGE = "en-US"


class Status(enum.StrEnum):
    """How a message is to be handled."""

    ACTUAL = "Actual"
    EXERCISE = "Exercise"
    SYSTEM = "System"
    TEST = "Test"
    DRAFT = "Draft"


class MessageType(enum.StrEnum):
    """What a message does."""

    ALERT = "Alert"
    UPDATE = "Update"
    CANCEL = "Cancel"
    ACK = "Ack"
    ERROR = "Error"


class Scope(enum.StrEnum):
    """Whom a message is meant to be told."""

    PUBLIC = "Public"
    RESTRICTED = "Restricted"
    PRIVATE = "Private"


class ResponseType(enum.StrEnum):
    """What people are to do."""

    SHELTER = "Shelter"
    EVACUATE = "Evacuate"
    PREPARE = "Prepare"
    EXECUTE = "Execute"
    AVOID = "Avoid"
    MONITOR = "Monitor"
    ASSESS = "Assess"
    ALL_CLEAR = "AllClear"
    NONE = "None"


# The words of `model` as CAP writes them, where a capital letter is not all there is to it.
WRITTEN: dict[enum.StrEnum, str] = {
    each: "CBRNE" if each is Category.CBRNE else each.value.capitalize()
    for words in (Category, Urgency, Severity, Certainty)
    for each in words
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A value under a name from somebody's list: an event code, a parameter, a geocode."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapCircle:
    """All points within `radius_km` of a centre."""

    centre: Point
    radius_km: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CapArea:
    """Where: the union of everything named. Polygons are closed: their last corner is their first."""

    description: str  # empty of what is only drawn or coded
    polygons: tuple[tuple[Point, ...], ...] = ()
    circles: tuple[CapCircle, ...] = ()
    geocodes: tuple[Named, ...] = ()
    altitude: float | None = None  # feet above mean sea level
    ceiling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapResource:
    """A file that belongs to an info block. `content` is its Base64 form, where it came along."""

    description: str
    mime_type: str
    size: int | None = None
    uri: str | None = None
    content: str | None = None
    digest: str | None = None  # SHA-1


@dataclass(frozen=True, slots=True, kw_only=True)
class CapInfo:
    """What is told, in one language."""

    language: str = DEFAULT_LANGUAGE
    categories: tuple[Category, ...]
    event: str
    response_types: tuple[ResponseType, ...] = ()
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    audience: str | None = None
    event_codes: tuple[Named, ...] = ()
    effective: datetime | None = None
    onset: datetime | None = None
    expires: datetime | None = None
    sender_name: str | None = None
    headline: str | None = None
    description: str | None = None
    instruction: str | None = None
    web: str | None = None
    contact: str | None = None
    parameters: tuple[Named, ...] = ()
    resources: tuple[CapResource, ...] = ()
    areas: tuple[CapArea, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CapAlert:
    """A CAP message."""

    identifier: str
    sender: str
    sent: datetime
    status: Status
    message_type: MessageType
    source: str | None = None
    scope: Scope
    restriction: str | None = None
    addresses: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    note: str | None = None
    references: tuple[CapReference, ...] = ()
    incidents: tuple[str, ...] = ()
    infos: tuple[CapInfo, ...] = ()

    @property
    def reference(self) -> CapReference:
        """As other messages name this one."""
        return CapReference(sender=self.sender, identifier=self.identifier, sent=self.sent)

    @property
    def replaced(self) -> tuple[CapReference, ...]:
        """The messages it takes the place of, or takes back; an alert only mentions others, and none replaces itself."""
        if self.message_type is MessageType.ALERT:
            return ()
        return tuple(each for each in self.references if each != self.reference)
