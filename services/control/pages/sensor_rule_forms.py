"""What the form of a sensor rule says, from what was typed to the API's body and back. Pure.

What was typed is kept as it was typed, so that a form that is refused comes back whole. Lengths of time are typed in
minutes, numbers with a comma or a point.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.identifiers import UnitId
from services.control.sensing.rule import Rule

# Where in the form a field of the API is.
_PLACES = {
    "hold_s": "hold",
    "silent_after_s": "silent_after",
    "cool_down_s": "cool_down",
    "proposal_validity_s": "open_for",
}
_NAMED_ALIKE = frozenset(
    {
        "name",
        "quantity",
        "direction",
        "raise_at",
        "clear_at",
        "quorum",
        "severity",
        "template_id",
        "sensor_units",
        "sensors",
        "alert_units",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedRule:
    """What stands in the fields. `sensors` are ticked, `others` written by their ids."""

    name: str = ""
    quantity: str = "water_level"
    direction: str = "above"
    raise_at: str = ""
    clear_at: str = ""
    hold: str = "1"
    silent_after: str = "15"
    quorum: str = "1"
    severity: str = "severe"
    template_id: str = ""
    sensor_units: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    others: str = ""
    alert_units: tuple[str, ...] = ()
    cool_down: str = "60"
    open_for: str = "60"
    enabled: bool = True


def typed_of(fields: Mapping[str, list[str]]) -> TypedRule:
    """What was typed."""

    def one(name: str) -> str:
        return next(iter(fields.get(name, ())), "").strip()

    return TypedRule(
        name=one("name"),
        quantity=one("quantity"),
        direction=one("direction"),
        raise_at=one("raise_at"),
        clear_at=one("clear_at"),
        hold=one("hold"),
        silent_after=one("silent_after"),
        quorum=one("quorum"),
        severity=one("severity"),
        template_id=one("template_id"),
        sensor_units=tuple(fields.get("sensor_units", ())),
        sensors=tuple(fields.get("sensors", ())),
        others=next(iter(fields.get("others", ())), ""),
        alert_units=tuple(fields.get("alert_units", ())),
        cool_down=one("cool_down"),
        open_for=one("open_for"),
        enabled="enabled" in fields,
    )


def typed_of_rule(rule: Rule, *, offered: Collection[str]) -> TypedRule:
    """The form of a rule as it stands; sensors that are not `offered` to be ticked are written out."""
    limits = rule.limits
    return TypedRule(
        name=rule.name,
        quantity=rule.quantity,
        direction=limits.direction.value,
        raise_at=_written(limits.raise_at),
        clear_at=_written(limits.clear_at),
        hold=_written(limits.hold.total_seconds() / 60),
        silent_after=_written(limits.silent_after.total_seconds() / 60),
        quorum=str(rule.quorum),
        severity=rule.severity.value,
        template_id=str(rule.template_id) if rule.template_id is not None else "",
        sensor_units=tuple(map(str, rule.sensor_units)),
        sensors=tuple(each for each in rule.sensor_ids if each in offered),
        others="\n".join(each for each in rule.sensor_ids if each not in offered),
        alert_units=tuple(str(each) for each in rule.alert_units if rule.alert_units != (rule.unit_id,)),
        cool_down=_written(rule.cool_down.total_seconds() / 60),
        open_for=_written(rule.proposal_validity.total_seconds() / 60),
        enabled=rule.is_enabled,
    )


def body_of(typed: TypedRule, unit_id: UnitId) -> dict[str, Any]:
    """What the API is asked for; what is no number goes there as it was typed, and is refused there."""
    return {
        "unit_id": unit_id,
        "name": typed.name,
        "quantity": typed.quantity,
        "direction": typed.direction,
        "raise_at": _number(typed.raise_at),
        "clear_at": _number(typed.clear_at),
        "hold_s": _seconds(typed.hold),
        "silent_after_s": _seconds(typed.silent_after),
        "quorum": int(typed.quorum) if re.fullmatch(r"[0-9]{1,6}", typed.quorum) else typed.quorum,
        "severity": typed.severity,
        "template_id": typed.template_id or None,
        "sensor_units": list(typed.sensor_units),
        "sensors": [*typed.sensors, *re.split(r"[\s,;]+", typed.others.strip())]
        if typed.others.strip()
        else list(typed.sensors),
        "alert_units": list(typed.alert_units) or None,
        "cool_down_s": _seconds(typed.cool_down),
        "proposal_validity_s": _seconds(typed.open_for),
        "enabled": typed.enabled,
    }


def place_of(field: str) -> str:
    """Where in the form a field of the API is; "": at its head."""
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    return _PLACES.get(name, name if name in _NAMED_ALIKE else "")


def _number(text: str) -> float | str:
    return float(text.replace(",", ".")) if re.fullmatch(r"-?[0-9]{1,12}(?:[.,][0-9]{1,6})?", text) else text


def _seconds(minutes: str) -> int | str:
    found = _number(minutes)
    return round(found * 60) if isinstance(found, float) else found


def _written(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".").replace(".", ",")
