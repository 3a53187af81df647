"""Plausible physics: what thermometers, gauges and modems of the simulated province show.

All of it is invented, deterministic in (device, quantity, time), and shaped by the hour of the day.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from schemas.readings import UNITS

_LOCAL_HOURS_AHEAD = 7  # the simulated province lies in UTC+7; only the shape of curves depends on it
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """A river that rises evenly by `rise_m` metres, beginning at `begins_at_ms`, and stays there."""

    begins_at_ms: int
    rising_ms: int
    rise_m: float

    def above_usual_m(self, at_ms: int) -> float:
        """How far the water stands above what it would be without the flood."""
        return self.rise_m * min(1.0, max(0.0, (at_ms - self.begins_at_ms) / self.rising_ms))


def noise(device: str, what: str, at_ms: int, *, hold_ms: int = _MINUTE_MS) -> float:
    """A number in [-1, 1] that holds for `hold_ms` and differs by device and subject."""
    return zlib.crc32(f"{device}/{what}/{at_ms // hold_ms}".encode()) / 2**31 - 1


def trait(device: str, what: str) -> float:
    """A number in [0, 1) that never changes for this device and subject."""
    return zlib.crc32(f"{device}:{what}".encode()) / 2**32


def _day(at_ms: int, *, peak_hour: float) -> float:
    """A daily wave: 1 at `peak_hour` local time, -1 twelve hours later."""
    hour = (at_ms / 3_600_000 + _LOCAL_HOURS_AHEAD) % 24
    return math.cos((hour - peak_hour) / 24 * 2 * math.pi)


def air_temperature(device: str, at_ms: int) -> float:
    """Degrees Celsius: warmest at two in the afternoon."""
    return 26 + 6 * trait(device, "air") + 5 * _day(at_ms, peak_hour=14) + 0.4 * noise(device, "air", at_ms)


def signal_dbm(device: str, at_ms: int) -> int:
    """Mobile signal: mostly a matter of the place, a little of the moment."""
    return round(-105 + 45 * trait(device, "signal") + 4 * noise(device, "signal", at_ms))


def amplifier_temperature_tenths(device: str, at_ms: int, *, sounding: bool) -> int:
    """Tenths of a degree Celsius in the cabinet of a cluster."""
    return round(10 * (air_temperature(device, at_ms) + (22 if sounding else 6)))


def amplifier_power_w(*, volume_percent: int, sounding: bool) -> int:
    """Watts from the mains: idle draw, and four horns of 25 W driven with the square of the volume."""
    return 4 + (round(100 * (volume_percent / 100) ** 2) if sounding else 0)


def _rain(device: str, at_ms: int) -> float:
    """mm/h: a shower on some afternoons, otherwise none."""
    shower = _day(at_ms, peak_hour=16) + noise(device, "rain", at_ms, hold_ms=30 * _MINUTE_MS) - 1.2
    return max(0.0, 40 * shower)


_CURVES: dict[str, Callable[[str, int], float]] = {
    "water_level": lambda d, t: 2 + 3 * trait(d, "level") + 0.3 * _day(t, peak_hour=20) + 0.02 * noise(d, "level", t),
    "rainfall": lambda d, t: _rain(d, t) / 60,
    "rain_intensity": _rain,
    "air_temperature": air_temperature,
    "water_temperature": lambda d, t: 24 + 2 * _day(t, peak_hour=16) + 0.1 * noise(d, "water", t),
    "relative_humidity": lambda d, t: min(100.0, 78 - 14 * _day(t, peak_hour=14) + 3 * noise(d, "humidity", t)),
    "wind_speed": lambda d, t: max(0.0, 2.5 + 1.5 * _day(t, peak_hour=15) + 1.5 * noise(d, "wind", t)),
    "smoke_obscuration": lambda d, t: max(0.0, 0.2 + 0.2 * noise(d, "smoke", t)),
    "pm25": lambda d, t: max(1.0, 35 + 15 * _day(t, peak_hour=7) + 10 * noise(d, "pm25", t)),
    "sound_level": lambda d, t: 48 + 10 * _day(t, peak_hour=12) + 4 * noise(d, "sound", t),
    "supply_voltage": lambda d, t: 226 - 5 * _day(t, peak_hour=19) + 2 * noise(d, "supply", t),
}


def measure(device: str, quantity: str, at_ms: int, *, flood: Flood | None = None) -> float:
    """The value of a quantity of `schemas.readings.UNITS`, in its unit, to three decimals."""
    value = _CURVES[quantity](device, at_ms)
    if flood is not None and quantity == "water_level":
        value += flood.above_usual_m(at_ms)
    return round(value, 3)


assert _CURVES.keys() == UNITS.keys(), "every known quantity has a curve"
