"""What people do with rules on readings: make one, change one, take one out of use. In the caller's transaction.

A changed rule is another rule: its alarms end, what it proposed is taken back, and it begins with the readings of the
last while.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from schemas.readings import UNITS
from services.control import audit
from services.control.alerting import alert_store, proposal_store, proposals, template_store
from services.control.alerts import By
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Invalid, NotFound
from services.control.sensing import authorisations, rule_store
from services.control.sensing.rule import BLIND, MAX_SENSORS, THRESHOLD, Direction, Rule
from services.control.units import UnitTree
from services.shared.database.pool import Connection

MAX_BELOW = 5_000  # sensors below the units a rule names: each is looked at once a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who changes a rule, and when."""

    by: By
    now: datetime


async def create(connection: Connection, rule: Rule, change: Change) -> Rule:
    """Store a new rule. Raises `Invalid` with everything wrong with it."""
    await check(connection, rule, change.by.tree, now=change.now)
    await rule_store.put(connection, rule)
    await _record(connection, "sensor_rule_created", None, rule, change)
    return await rule_store.rule(connection, rule.rule_id)


async def replace_with(connection: Connection, stored: Rule, wanted: Rule, change: Change) -> Rule:
    """Put another in its place; the stored one has been locked. Raises `Conflict` when it is out of use, and `Invalid`."""
    _check_in_use(stored)
    if wanted.unit_id != stored.unit_id:
        raise Invalid(Fault("unit_id", "owning_unit_is_fixed"))
    changed = replace(wanted, version=stored.version + 1)
    await check(connection, changed, change.by.tree, now=change.now)
    await _begin_anew(connection, stored, change, cleared_by="change")
    await rule_store.put(connection, changed)
    await _record(connection, "sensor_rule_changed", stored, changed, change)
    return await rule_store.rule(connection, stored.rule_id)


async def retire(connection: Connection, stored: Rule, change: Change) -> Rule:
    """Take it out of use; it has been locked. Raises `Conflict` when it is already."""
    _check_in_use(stored)
    retired = replace(
        stored,
        version=stored.version + 1,
        retired_at=change.now,
        changed_at=change.now,
        changed_by=change.by.account_id,
    )
    await _begin_anew(connection, stored, change, cleared_by="retirement")
    await rule_store.put(connection, retired)
    await _record(connection, "sensor_rule_retired", stored, retired, change)
    return await rule_store.rule(connection, stored.rule_id)


async def _begin_anew(connection: Connection, stored: Rule, change: Change, *, cleared_by: str) -> None:
    await authorisations.revoke(connection, stored, reason=cleared_by, by=change.by, now=change.now)
    kinds = (THRESHOLD, BLIND)
    await rule_store.clear_alarms(connection, stored.rule_id, kinds, by=cleared_by, at=change.now)
    await rule_store.forget_sensors(connection, stored.rule_id)
    waiting = await proposal_store.open_of(connection, stored.rule_id)
    if waiting is not None:
        proposal = await proposal_store.proposal_for_update(connection, waiting)
        if proposal.is_waiting(now=change.now):
            await proposals.withdraw(connection, proposal, by=change.by, now=change.now)


def _check_in_use(stored: Rule) -> None:
    if stored.retired_at is not None:
        raise Conflict("sensor_rule_retired", facts={"name": stored.name})


# --- what is wrong with a rule ---------------------------------------------------------------------------------------


async def check(connection: Connection, rule: Rule, tree: UnitTree, *, now: datetime) -> None:
    """Raise `Invalid` with everything that stands against the rule."""
    faults = [
        *_value_faults(rule),
        *_unit_faults(rule, tree),
        *await _sensor_faults(connection, rule, tree),
        *await _template_faults(connection, rule, tree),
    ]
    if not faults:
        below = below_of(rule, tree)
        if await rule_store.sensors_below(connection, below) > MAX_BELOW:
            faults.append(Fault("sensor_units", "too_many_sensors_below", {"limit": MAX_BELOW}))
        else:
            own = tree.subtree(rule.unit_id)
            meant = await rule_store.meant(connection, rule, own=own, below=below, now=now)
            if len(meant) > MAX_SENSORS:
                faults.append(Fault("sensor_units", "too_many_sensors", {"limit": MAX_SENSORS}))
    if faults:
        raise Invalid(*faults)


def below_of(rule: Rule, tree: UnitTree) -> tuple[UnitId, ...]:
    """The units below which every sensor that gives the quantity belongs to the rule."""
    return tuple(dict.fromkeys(below for unit in rule.sensor_units for below in tree.subtree(unit)))


def _value_faults(rule: Rule) -> Iterator[Fault]:
    limits = rule.limits
    if rule.quantity not in UNITS:
        yield Fault("quantity", "not_one_of", {"expected": " | ".join(UNITS)})
    if limits.direction is Direction.ABOVE and limits.clear_at >= limits.raise_at:
        yield Fault("clear_at", "clear_not_below_raise", {"raise_at": limits.raise_at})
    if limits.direction is Direction.BELOW and limits.clear_at <= limits.raise_at:
        yield Fault("clear_at", "clear_not_above_raise", {"raise_at": limits.raise_at})
    if not rule.sensor_units and not rule.sensor_ids:
        yield Fault("sensor_units", "rule_without_sensors")
    if not rule.sensor_units and rule.quorum > len(set(rule.sensor_ids)) > 0:
        yield Fault("quorum", "quorum_never_met", {"sensors": len(set(rule.sensor_ids))})


def _unit_faults(rule: Rule, tree: UnitTree) -> Iterator[Fault]:
    if not tree.stands(rule.unit_id):
        yield Fault("unit_id", "unknown_unit", {"unit": str(rule.unit_id)})
        return
    for field, units in (("sensor_units", rule.sensor_units), ("alert_units", rule.alert_units)):
        for place, unit_id in enumerate(units):
            unit = tree.get(unit_id)
            if unit is None or not tree.stands(unit_id):
                yield Fault(f"{field}[{place}]", "unknown_unit", {"unit": str(unit_id)})
            elif not tree.covers(rule.unit_id, unit_id):
                yield Fault(f"{field}[{place}]", "outside_the_rules_unit", {"unit": unit.name})


async def _sensor_faults(connection: Connection, rule: Rule, tree: UnitTree) -> list[Fault]:
    known = await alert_store.named_devices(connection, rule.sensor_ids)
    faults = []
    for place, device_id in enumerate(rule.sensor_ids):
        field, device = f"sensors[{place}]", known.get(device_id)
        if device is None:
            faults.append(Fault(field, "unknown_device", {"id": device_id}))
        elif device.is_retired:
            faults.append(Fault(field, "device_retired", {"id": device_id}))
        elif device.kind != "sensor":
            faults.append(Fault(field, "device_measures_nothing", {"id": device_id}))
        elif not tree.covers(rule.unit_id, device.unit_id):
            unit = tree.get(device.unit_id)
            name = unit.name if unit is not None else str(device.unit_id)
            faults.append(Fault(field, "outside_the_rules_unit", {"unit": name}))
    return faults


async def _template_faults(connection: Connection, rule: Rule, tree: UnitTree) -> list[Fault]:
    if rule.template_id is None:
        return []
    if not rule.alert_units:
        return [Fault("alert_units", "nobody_addressed")]
    try:
        template = await template_store.template(connection, rule.template_id)
    except NotFound:
        return [Fault("template_id", "unknown_alert_template", {"id": str(rule.template_id)})]
    if template.retired_at is not None or template.purpose is not Purpose.ALERT:
        return [Fault("template_id", "alert_template_not_for_rules", {"name": template.name})]
    if template.unit_id not in tree.path(rule.unit_id):
        return [Fault("template_id", "unknown_alert_template", {"id": str(rule.template_id)})]
    return []


# --- the record ------------------------------------------------------------------------------------------------------


def described(rule: Rule) -> dict[str, Any]:
    """The rule as facts of the audit."""
    limits = rule.limits
    return {
        "name": rule.name,
        "quantity": rule.quantity,
        "direction": limits.direction.value,
        "raise_at": limits.raise_at,
        "clear_at": limits.clear_at,
        "hold_s": limits.hold.total_seconds(),
        "silent_after_s": limits.silent_after.total_seconds(),
        "quorum": rule.quorum,
        "severity": rule.severity.value,
        "template_id": str(rule.template_id) if rule.template_id is not None else None,
        "sensor_units": [str(each) for each in rule.sensor_units],
        "sensors": list(rule.sensor_ids),
        "alert_units": [str(each) for each in rule.alert_units],
        "cool_down_s": rule.cool_down.total_seconds(),
        "proposal_validity_s": rule.proposal_validity.total_seconds(),
        "enabled": rule.is_enabled,
        "retired": rule.retired_at is not None,
    }


async def _record(connection: Connection, action: str, before: Rule | None, after: Rule, change: Change) -> None:
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"sensor_rule:{after.rule_id}",
            unit_id=after.unit_id,
            before=described(before) if before is not None else None,
            after=described(after),
        ),
        actor=change.by.actor,
        origin=change.by.origin,
        at=change.now,
    )
