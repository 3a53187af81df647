"""Area alerts: one signed message for every device below a unit (OASIS CAP 1.2 terms; R-22)."""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, ClassVar

from pydantic import Field

from schemas import limits
from schemas.configuration import Ownership, Position
from schemas.fields import DeviceKind, DeviceName, ResumePolicy
from schemas.orders import MediaReference, Order, Rank
from schemas.wire import Key, Record


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


class Audience(Record):
    """Whom an alert is for: below one of `units`, not below `except_units`, inside a shape if there is one, and so on."""

    units: Annotated[tuple[uuid.UUID, ...], Key(0), Field(max_length=256)] = ()
    except_units: Annotated[tuple[uuid.UUID, ...], Key(1), Field(max_length=256)] = ()
    except_devices: Annotated[tuple[DeviceName, ...], Key(2), Field(max_length=256)] = ()
    kinds: Annotated[tuple[DeviceKind, ...], Key(3), Field(max_length=4)] = ()
    ownerships: Annotated[tuple[Ownership, ...], Key(4), Field(max_length=3)] = ()
    polygon: Annotated[tuple[Position, ...], Key(5), Field(max_length=256)] = ()
    circle: Annotated[Circle | None, Key(6)] = None


class AlertContent(Record):
    """The alert in one language: what sounds and what is shown."""

    language: Annotated[str, Key(0), Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$")]
    headline: Annotated[str, Key(1), Field(min_length=1, max_length=200)]
    text: Annotated[str | None, Key(2), Field(max_length=2_000)] = None
    media: Annotated[MediaReference | None, Key(3)] = None


class Alert(Order):
    """One version of one alert. A device plays a version once; a higher version replaces it, a cancel ends it."""

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
    volume_percent: Annotated[int | None, Key(19), Field(ge=0, le=100)] = None
