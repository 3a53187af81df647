"""Area alerts: one signed message for every device below a unit (OASIS CAP 1.2 terms; R-22)."""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.configuration import Ownership, Position
from schemas.fields import Body, DeviceKind, DeviceName, Percent, ResumePolicy, Title
from schemas.orders import MediaReference, Order, Rank
from schemas.shapes import Key, Record


class Purpose(enum.IntEnum):
    """What an area message asks for."""

    ALERT = 0
    CANCEL = 1
    SILENT_TEST = 2
    AUDIBLE_TEST = 3
    SILENCE = 4  # area kill switch (S-04)
    RELEASE = 5


class Circle(Record):
    """All points within `radius_m` metres of a centre."""

    centre: Annotated[Position, Key(0)]
    radius_m: Annotated[int, Key(1), Field(ge=1, le=1_000_000)]


Corners = Annotated[tuple[Position, ...], Field(min_length=3, max_length=256)]


class Area(Record):
    """The ground of `units`; where there are shapes, of it what lies inside any of them.

    A polygon's last corner is joined to its first, which is not repeated.
    """

    units: Annotated[tuple[uuid.UUID, ...], Key(0), Field(min_length=1, max_length=256)]
    polygons: Annotated[tuple[Corners, ...], Key(1), Field(max_length=16)] = ()
    circles: Annotated[tuple[Circle, ...], Key(2), Field(max_length=16)] = ()


class Audience(Record):
    """Whom an alert is for: `schemas.audience.addresses` is the rule, the same on server and device.

    A device is meant when it is among `devices` or lies in any of `areas`; it is addressed when besides its membership
    holds none of `except_units`, it is not among `except_devices`, and its kind and ownership are named (where any is).
    """

    areas: Annotated[tuple[Area, ...], Key(0), Field(max_length=16)] = ()
    devices: Annotated[tuple[DeviceName, ...], Key(1), Field(max_length=256)] = ()
    except_units: Annotated[tuple[uuid.UUID, ...], Key(2), Field(max_length=256)] = ()
    except_devices: Annotated[tuple[DeviceName, ...], Key(3), Field(max_length=256)] = ()
    kinds: Annotated[tuple[DeviceKind, ...], Key(4), Field(max_length=4)] = ()
    ownerships: Annotated[tuple[Ownership, ...], Key(5), Field(max_length=3)] = ()

    @model_validator(mode="after")
    def _means_somebody(self) -> Self:
        if not self.areas and not self.devices:
            raise ValueError("an audience needs areas or devices")
        return self


class AlertContent(Record):
    """The alert in one language: what sounds and what is shown."""

    language: Annotated[str, Key(0), Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$")]
    headline: Annotated[Title, Key(1)]
    text: Annotated[Body | None, Key(2)] = None
    media: Annotated[MediaReference | None, Key(3)] = None


class Alert(Order):
    """One version of one alert. A device plays a version once; a higher version replaces it, a cancel ends it.

    Of one alert the highest version counts, on whatever topic it came; one that does not address the device any more ends
    what it had of the alert. A message that neither addresses the device nor is about something in force there is none of
    its business, and no refusal.

    Without `repeat_interval_s` it sounds once; with it, again after that pause until `valid_until_ms`. `references` are
    the ids of earlier alerts this one updates or cancels besides its own (CAP 1.2, `references`).
    """

    SIZE_LIMIT: ClassVar[int] = limits.ALERT_BYTES

    alert_id: Annotated[uuid.UUID, Key(10)]
    alert_version: Annotated[int, Key(11), Field(ge=1, le=65_535)]
    purpose: Annotated[Purpose, Key(12)]
    audience: Annotated[Audience, Key(13)]
    rank: Annotated[Rank, Key(14)]
    contents: Annotated[tuple[AlertContent, ...], Key(15), Field(max_length=8)] = ()
    references: Annotated[tuple[uuid.UUID, ...], Key(16), Field(max_length=16)] = ()
    repeat_interval_s: Annotated[int | None, Key(17), Field(ge=1, le=86_400)] = None
    resume: Annotated[ResumePolicy, Key(18)] = ResumePolicy.RESUME
    volume_percent: Annotated[Percent | None, Key(19)] = None

    @model_validator(mode="after")
    def _has_what_its_purpose_needs(self) -> Self:
        if self.purpose in (Purpose.ALERT, Purpose.AUDIBLE_TEST) and not self.contents:
            raise ValueError("an alert that shall be heard or seen needs contents")
        if self.repeat_interval_s is not None and self.purpose not in (Purpose.ALERT, Purpose.AUDIBLE_TEST):
            raise ValueError("only what sounds can be repeated")
        return self
