"""What every signed message has in common, and the pieces that plans, commands and alerts share."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.fields import (
    Count,
    DeviceName,
    Instant,
    Level,
    Serial,
    Sha256,
    Version,
)
from schemas.limits import INT64_MAX
from schemas.shapes import Key, Message, Record


class Order(Message):
    """A signed message: issued at an instant and valid in a half-open window."""

    version: Version = 1
    issued_at_ms: Annotated[Instant, Key(3)]
    valid_from_ms: Annotated[Instant, Key(4)]
    valid_until_ms: Annotated[Instant, Key(5)]

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> Self:
        if self.valid_until_ms <= self.valid_from_ms:
            raise ValueError("valid_until_ms must lie after valid_from_ms")
        return self


class DeviceOrder(Order):
    """A signed message for one device. `serial` grows with every order of the same type to the same device."""

    device: Annotated[DeviceName, Key(1)]
    serial: Annotated[Serial, Key(2)]


# Where priority content stands that the receiving unit has not put in order: room before it and after it.
DEFAULT_PLACE = 128


class Rank(Record):
    """What arbitration compares (`schemas.arbitration`): how much this content matters and who asked for it when.

    `severity` 0 to 4 as in CAP 1.2 (unknown, minor, moderate, severe, extreme); `issuer_depth` counts levels below the
    root of the tree of units, so 0 is the province; `issued_at_ms` is when somebody asked, not when it was signed anew.
    `place` is the order that the receiving unit gives its priority content (R-17): smaller first, `DEFAULT_PLACE` when
    it gave none; other content has no place.
    """

    level: Annotated[Level, Key(0)]
    live: Annotated[bool, Key(1)] = False
    severity: Annotated[int, Key(2), Field(ge=0, le=4)] = 0
    issuer_depth: Annotated[int, Key(3), Field(ge=0, le=15)]
    issued_at_ms: Annotated[Instant, Key(4)]
    place: Annotated[int | None, Key(5), Field(ge=0, le=255)] = None


class MediaReference(Record):
    """A content-addressed file of `size` bytes: believed only if its bytes hash to `sha256`.

    `path` is relative to the media base of the configuration and does not begin with a slash, so that joining the two
    never leads to another host.
    """

    sha256: Annotated[Sha256, Key(0)]
    size: Annotated[int, Key(1), Field(ge=1, le=INT64_MAX)]
    mime: Annotated[str, Key(2), Field(pattern=r"^[a-z]{1,24}/[a-z0-9.+-]{1,64}$")]
    path: Annotated[str, Key(3), Field(pattern=r"^[A-Za-z0-9._~-][A-Za-z0-9._~/-]{0,199}$")]
    duration_ms: Annotated[Count | None, Key(4)] = None
