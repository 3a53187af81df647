"""Configuration of one device: signed and retained like a plan."""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.fields import Percent
from schemas.orders import DeviceOrder, MediaReference
from schemas.shapes import Key, Record

SecondOfDay = Annotated[int, Field(ge=0, le=86_399)]


class Ownership(enum.IntEnum):
    """Who owns the device (R-15)."""

    PUBLIC = 0
    PRIVATE = 1
    PRIVATE_WITH_PUBLIC_SHARE = 2


class Position(Record):
    """WGS 84, in millionths of a degree."""

    latitude_e6: Annotated[int, Key(0), Field(ge=-90_000_000, le=90_000_000)]
    longitude_e6: Annotated[int, Key(1), Field(ge=-180_000_000, le=180_000_000)]


class Fallback(Record):
    """What a device sounds when its plan has run out: a notice of the station, at these times of the UTC day (R-26)."""

    fallback_id: Annotated[uuid.UUID, Key(0)]
    media: Annotated[MediaReference, Key(1)]
    at_s: Annotated[tuple[SecondOfDay, ...], Key(2), Field(min_length=1, max_length=24)]


class Configuration(DeviceOrder):
    """How a device behaves until the next configuration.

    `volume_cap_percent` bounds every volume but an emergency's; media paths are appended to `media_base_url`.
    `membership` is the path of units from the root of the tree to the device's own unit: the signed ground on which a
    device decides whether an area alert is addressed to it. `alert_media` are files for prepared alerts, which it keeps always.
    """

    SIZE_LIMIT: ClassVar[int] = limits.CONFIG_BYTES

    volume_percent: Annotated[Percent, Key(10)]
    volume_cap_percent: Annotated[Percent, Key(11)]
    heartbeat_interval_s: Annotated[int, Key(12), Field(ge=1, le=86_400)]
    membership: Annotated[tuple[uuid.UUID, ...], Key(13), Field(max_length=16)] = ()
    media_base_url: Annotated[str | None, Key(14), Field(pattern=r"^https?://[!-~]{1,192}$")] = None
    ownership: Annotated[Ownership, Key(15)] = Ownership.PUBLIC
    position: Annotated[Position | None, Key(16)] = None
    fallback: Annotated[Fallback | None, Key(17)] = None
    alert_media: Annotated[tuple[MediaReference, ...], Key(18), Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _volume_respects_cap(self) -> Self:
        if self.volume_percent > self.volume_cap_percent:
            raise ValueError("volume_percent lies above volume_cap_percent")
        return self
