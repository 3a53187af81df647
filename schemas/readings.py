"""Readings: what a sensor measures. Units are UCUM codes; a quantity we know has exactly one unit."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.fields import ClockState, Instant, Version
from schemas.shapes import Key, Message, Record

# Quantity → UCUM code. A reading of one of these in another unit is refused: a metre read as a centimetre is a flood.
UNITS: dict[str, str] = {
    "water_level": "m",
    "rainfall": "mm",
    "rain_intensity": "mm/h",
    "air_temperature": "Cel",
    "water_temperature": "Cel",
    "relative_humidity": "%",
    "wind_speed": "m/s",
    "smoke_obscuration": "%/m",
    "pm25": "ug/m3",
    "sound_level": "dB[SPL]",
    "supply_voltage": "V",
}


class Quality(enum.IntEnum):
    """What the sensor thinks of its own value."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


class Sample(Record):
    """One value of one quantity. `at_ms` stands only where it differs from the message's device time."""

    quantity: Annotated[str, Key(0), Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    value: Annotated[float, Key(1), Field(ge=-1e12, le=1e12)]
    unit: Annotated[str, Key(2), Field(pattern=r"^[!-~]{1,24}$")]
    quality: Annotated[Quality, Key(3)] = Quality.GOOD
    at_ms: Annotated[Instant | None, Key(4)] = None

    @model_validator(mode="after")
    def _unit_belongs_to_quantity(self) -> Self:
        expected = UNITS.get(self.quantity)
        if expected is not None and self.unit != expected:
            raise ValueError(f"{self.quantity} is measured in {expected}, not {self.unit}")
        return self


class Reading(Message):
    """One or more samples of one sensor."""

    SIZE_LIMIT: ClassVar[int] = limits.READING_BYTES

    version: Version = 1
    device_at_ms: Annotated[Instant, Key(1)]
    clock: Annotated[ClockState, Key(2)]
    samples: Annotated[tuple[Sample, ...], Key(3), Field(min_length=1, max_length=limits.MAX_SAMPLES)]
