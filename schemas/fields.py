"""Field types and enumerations that several messages share.

Instants are integers, milliseconds since 1970-01-01T00:00:00Z, in fields named `…_at_ms`. Percentages are 0 to 100.
Temperatures are tenths of a degree Celsius. Lengths of texts count characters (Unicode code points), not bytes; no text
holds U+0000, which ends a string in C and cannot be stored in PostgreSQL. Enumeration numbers are part of the contract
and are never reused.
"""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.identifiers import DEVICE_ID_PATTERN
from schemas.limits import INT64_MAX
from schemas.shapes import Key, Record

NO_NUL = r"^[^\x00]*$"

Version = Annotated[Literal[1], Key(0)]

# 4102444800000 is 2100-01-01T00:00:00Z. A device may well believe it is 1970, so 0 is a legal instant on the wire;
# whether it is believed is decided by admission, not by the codec.
Instant = Annotated[int, Field(ge=0, le=4_102_444_800_000)]
Serial = Annotated[int, Field(ge=0, le=INT64_MAX)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Milliseconds = Annotated[int, Field(ge=0, le=2**31 - 1)]
Percent = Annotated[int, Field(ge=0, le=100)]
TenthsCelsius = Annotated[int, Field(ge=-1_000, le=2_500)]
Sha256 = Annotated[bytes, Field(min_length=32, max_length=32)]
Label = Annotated[str, Field(min_length=1, max_length=48, pattern=NO_NUL)]
Note = Annotated[str, Field(min_length=1, max_length=160, pattern=NO_NUL)]
Title = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
Body = Annotated[str, Field(min_length=1, max_length=2_000, pattern=NO_NUL)]
DeviceName = Annotated[str, Field(pattern=f"^{DEVICE_ID_PATTERN}$")]


class ClockState(enum.IntEnum):
    """What a device knows of its own clock."""

    SYNCHRONISED = 0  # disciplined by NTP, GNSS or the network within the last day
    HOLDOVER = 1  # was synchronised, runs on its own since; the error is bounded by its oscillator
    UNSYNCHRONISED = 2  # never set since power-up, or not believed by the device itself


class DeviceKind(enum.IntEnum):
    """The four kinds of device."""

    CLUSTER = 0
    BOARD = 1
    SENSOR = 2
    GATEWAY = 3


class Level(enum.IntEnum):
    """Urgency of content (R-17; Circular 39/2020). Larger is more urgent."""

    NORMAL = 0
    PRIORITY = 1
    EMERGENCY = 2


class ResumePolicy(enum.IntEnum):
    """What happens to content that was cut when the cutter ends."""

    RESUME = 0  # go on where it would be by now
    RESTART = 1  # from the beginning
    DROP = 2  # not at all


class PlaySource(enum.IntEnum):
    """Where the order for a play came from."""

    EMISSION = 0
    COMMAND = 1
    ALERT = 2
    FALLBACK = 3


class NetworkType(enum.IntEnum):
    """How a device reaches the platform (R-23)."""

    ETHERNET = 0
    WIFI = 1
    CELLULAR_2G = 2
    CELLULAR_3G = 3
    CELLULAR_4G = 4
    CELLULAR_5G = 5
    LORA = 6
    WIRED_BUS = 7
    FM = 8


class PowerSource(enum.IntEnum):
    """What a device runs on (R-27)."""

    MAINS = 0
    BATTERY = 1
    SOLAR = 2


class PlayReference(Record):
    """Identity of a play on one device: the order it obeys.

    For an emission: broadcast id, occurrence start and item index; together with the device they are its identity. For an
    alert: its id, when this repetition began by the device's schedule, and which of its contents. For everything else: the
    id of the command or the fallback alone; `item` and `occurrence_at_ms` are absent.
    """

    source: Annotated[PlaySource, Key(0)]
    id: Annotated[uuid.UUID, Key(1)]
    occurrence_at_ms: Annotated[Instant | None, Key(2)] = None
    item: Annotated[int | None, Key(3), Field(ge=0, le=255)] = None

    @model_validator(mode="after")
    def _only_what_recurs_has_an_occurrence(self) -> Self:
        recurs = self.source in (PlaySource.EMISSION, PlaySource.ALERT)
        if (self.occurrence_at_ms is not None) != recurs or (self.item is not None) != recurs:
            raise ValueError(
                "occurrence_at_ms and item stand in the reference of an emission or an alert, nowhere else"
            )
        return self
