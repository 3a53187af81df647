"""From targets to devices, on one local day.

A unit means its whole subtree as the tree is on that day, a kind means every device of it below the issuing unit;
exclusions win, whatever their order. Nothing is ever emitted outside the subtree of the issuing unit: units move at
dates, and the right to speak there moves with them.

Most broadcasts are for whole units, and a unit has hundreds of devices, so a choice names units where it can.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from schemas.fields import DeviceKind
from schemas.identifiers import UnitId
from schemas.plans import ContentKind
from services.control.planning.model import (
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    GroupId,
    GroupTarget,
    KindTarget,
    ProblemKind,
    Target,
    UnitTarget,
)
from services.control.units import UnitHistory, UnitTree

# The kinds of device that put something out, by what clusters sound and boards at least show. Sensors and gateways put
# out nothing.
PLAYS: Mapping[DeviceKind, ContentKind] = {
    DeviceKind.CLUSTER: ContentKind.AUDIO,
    DeviceKind.BOARD: ContentKind.TEXT,
}

Groups = Mapping[GroupId, frozenset[DeviceNo]]


class Fleet:
    """The devices of a snapshot, found by number and by unit."""

    __slots__ = ("by_no", "by_unit")

    def __init__(self, devices: Iterable[DeviceRef]) -> None:
        ordered = sorted(devices, key=lambda device: device.device_no)
        self.by_no: dict[DeviceNo, DeviceRef] = {device.device_no: device for device in ordered}
        self.by_unit: dict[UnitId, list[DeviceRef]] = defaultdict(list)
        for device in ordered:
            self.by_unit[device.unit_id].append(device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A target that does not lead where it should."""

    kind: ProblemKind
    device_no: DeviceNo | None = None
    unit_id: UnitId | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What targets mean: units with every device in them, and devices of other units, in order of their numbers.

    `named` are the devices that were named one by one.
    """

    units: tuple[UnitId, ...]
    devices: tuple[DeviceRef, ...]
    named: tuple[DeviceRef, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Units whose broadcasts can reach a unit's devices, and units that mean those when a target names them."""

    issuers: frozenset[UnitId]
    targets: frozenset[UnitId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Devices by what they can put out, in order of their numbers; those that were named one by one; and faults."""

    audience: Mapping[ContentKind, tuple[DeviceRef, ...]]
    named: tuple[DeviceRef, ...]
    faults: tuple[Fault, ...]


def resolve(
    targets: Iterable[Target], issuer: UnitId, tree: UnitTree, fleet: Fleet, groups: Groups | None = None
) -> Resolution:
    """Return the devices that `targets` of a broadcast issued by `issuer` mean on the day of `tree`."""
    choice = choose(targets, issuer, tree, fleet, groups or {})
    devices = sorted(
        (*(device for unit in choice.units for device in fleet.by_unit.get(unit, ())), *choice.devices),
        key=lambda device: device.device_no,
    )
    return Resolution(
        audience={
            content: tuple(device for device in devices if device.kind is kind) for kind, content in PLAYS.items()
        },
        named=choice.named,
        faults=choice.faults,
    )


def naming(unit_id: UnitId, units: UnitHistory, tree: UnitTree) -> Naming:
    """Return by whom and by what the devices of a unit can be meant in one of the trees of `units`."""
    path = tree.path(unit_id)
    known = {version.unit_id for version in units.versions} | {heir.unit_id for heir in units.heirs}
    # What is asked for by the names of closed units is meant for the ground they went over into.
    closed = [each for each in known if not tree.stands(each)]
    return Naming(
        issuers=frozenset(path).union(each for each in closed if tree.standing(each) in path),
        targets=frozenset(path).union(each for each in closed if unit_id in tree.ground(each)),
    )


def choose(targets: Iterable[Target], issuer: UnitId, tree: UnitTree, fleet: Fleet, groups: Groups) -> Choice:
    """Return what `targets` of a broadcast issued by `issuer` mean on the day of `tree`."""
    included, excluded = _Reach(), _Reach()
    named: set[DeviceNo] = set()
    faults: set[Fault] = set()
    for target in targets:
        reach = excluded if target.is_excluded else included
        fault = reach.add(target, issuer, tree, fleet, groups)
        if fault is not None:
            faults.add(fault)
        elif isinstance(target, DeviceTarget) and not target.is_excluded:
            named.add(target.device_no)
    # Units with somebody left out are not whole: their devices are chosen one by one.
    broken = {fleet.by_no[device_no].unit_id for device_no in excluded.devices}
    units = included.units - excluded.units
    single = {device.device_no for unit in units & broken for device in fleet.by_unit.get(unit, ())}
    single |= {each for each in included.devices if fleet.by_no[each].unit_id not in units}
    single -= excluded.devices
    devices = [fleet.by_no[device_no] for device_no in sorted(single)]
    return Choice(
        units=tuple(sorted(units - broken)),
        devices=tuple(device for device in devices if device.unit_id not in excluded.units),
        named=tuple(
            fleet.by_no[device_no]
            for device_no in sorted(named - excluded.devices)
            if fleet.by_no[device_no].unit_id not in excluded.units
        ),
        faults=tuple(sorted(faults, key=_fault_order)),
    )


def _fault_order(fault: Fault) -> tuple[object, ...]:
    return (fault.kind.value, fault.device_no or 0, fault.unit_id.bytes if fault.unit_id else b"", fault.detail)


class _Reach:
    """Units with all their devices, and single devices."""

    def __init__(self) -> None:
        self.units: set[UnitId] = set()
        self.devices: set[DeviceNo] = set()

    def add(self, target: Target, issuer: UnitId, tree: UnitTree, fleet: Fleet, groups: Groups) -> Fault | None:
        """Add what a target means, as far as it lies below the issuer; or say what is wrong with it."""
        match target:
            case UnitTarget(unit_id=unit_id):
                ground = tree.ground(unit_id)
                if not ground:
                    return Fault(kind=ProblemKind.TARGET_UNIT_CLOSED, unit_id=unit_id)
                outside = Fault(kind=ProblemKind.TARGET_OUTSIDE_ISSUER, unit_id=unit_id)
                over = tree.rights_in(unit_id)
                if over is not None and not tree.covers(issuer, over):
                    return outside
                # What once lay in a unit that was closed may lie outside by now, in part.
                inside = [unit for unit in ground if tree.covers(issuer, unit)]
                self.units.update(inside)
                return outside if len(inside) < len(ground) else None
            case DeviceTarget(device_no=device_no):
                device = fleet.by_no.get(device_no)
                if device is None:
                    return Fault(kind=ProblemKind.TARGET_DEVICE_GONE, device_no=device_no)
                if device.unit_id not in tree:
                    return Fault(kind=ProblemKind.TARGET_UNIT_CLOSED, device_no=device_no, unit_id=device.unit_id)
                if not tree.covers(issuer, device.unit_id):
                    return Fault(kind=ProblemKind.TARGET_OUTSIDE_ISSUER, device_no=device_no)
                self.devices.add(device_no)
            case GroupTarget(group_id=group_id):
                members = groups.get(group_id)
                if members is None:
                    return Fault(kind=ProblemKind.GROUP_CLOSED, detail=str(group_id))
                self.devices.update(
                    device_no
                    for device_no in members
                    if (device := fleet.by_no.get(device_no)) is not None and tree.covers(issuer, device.unit_id)
                )
            case KindTarget(kind=kind):
                self.devices.update(
                    device.device_no
                    for unit in tree.ground(issuer)
                    for device in fleet.by_unit.get(unit, ())
                    if device.kind is kind
                )
            case _:
                assert_never(target)
        return None
