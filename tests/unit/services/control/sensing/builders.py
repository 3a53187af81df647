"""Rules and readings for tests of what rules make of readings."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.identifiers import DeviceId, UnitId
from services.control.alerting.model import Severity
from services.control.planning.model import DeviceNo
from services.control.sensing.rule import Direction, Limits, Rule, Sample, Sensor, SensorState

T0 = datetime(2026, 9, 8, 3, 0, tzinfo=UTC)
UNIT = UnitId(uuid.UUID(int=1))


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def some_limits(**changes: Any) -> Limits:
    """A river above 4.0 m for three minutes, until it is at 3.5 m for three minutes."""
    values: dict[str, Any] = {
        "direction": Direction.ABOVE,
        "raise_at": 4.0,
        "clear_at": 3.5,
        "hold": timedelta(minutes=3),
        "silent_after": timedelta(minutes=5),
    }
    return Limits(**(values | changes))


def a_rule(limits: Limits | None = None, **changes: Any) -> Rule:
    values: dict[str, Any] = {
        "rule_id": uuid.UUID(int=7),
        "unit_id": UNIT,
        "name": "Sông",
        "quantity": "water_level",
        "limits": limits or some_limits(),
        "quorum": 1,
        "severity": Severity.SEVERE,
        "template_id": uuid.UUID(int=9),
        "sensor_units": (UNIT,),
        "sensor_ids": (),
        "alert_units": (UNIT,),
        "cool_down": timedelta(hours=1),
        "proposal_validity": timedelta(hours=1),
        "created_at": T0,
        "changed_at": T0,
    }
    return Rule(**(values | changes))


def readings(*values: tuple[float, float]) -> list[Sample]:
    """Samples as (minute, value)."""
    return [Sample(at(minute), value) for minute, value in values]


def a_minute_apart(values: Iterable[float], *, start: float = 0) -> list[Sample]:
    return [Sample(at(start + minute), value) for minute, value in enumerate(values)]


def a_sensor(number: int = 1, state: SensorState | None = None, *, joined: float = 0) -> Sensor:
    return Sensor(
        device_no=DeviceNo(number),
        device_id=DeviceId(f"sensor-{number}"),
        joined_at=at(joined),
        state=state or SensorState(),
    )
