"""Presence: a retained message per principal, and the last will of its session."""

from __future__ import annotations

from typing import Annotated, ClassVar

from schemas import limits
from schemas.fields import ClockState, Instant, Serial, Version
from schemas.shapes import Key, Message


class PresenceReport(Message):
    """Online or offline, with the number of the connection it speaks of; the will carries the same number, offline.

    The highest connection number wins, and on equal numbers offline wins, so a will that arrives late cannot overwrite
    a newer connection. A device takes `max(last number + 1, its time in ms)`, which survives a wiped flash.
    """

    SIZE_LIMIT: ClassVar[int] = limits.PRESENCE_BYTES

    version: Version = 1
    connection_number: Annotated[Serial, Key(1)]
    online: Annotated[bool, Key(2)]
    device_at_ms: Annotated[Instant, Key(3)]
    clock: Annotated[ClockState, Key(4)]
