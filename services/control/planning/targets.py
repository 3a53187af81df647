"""From targets to devices, on one local day.

A unit means its whole subtree as the tree is on that day, a kind means every device of it below the issuing unit;
exclusions win, whatever their order. Nothing is ever emitted outside the subtree of the issuing unit: units move at
dates, and the right to speak there moves with them.
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
from services.control.units import UnitTree

# What each kind of device can put out today. Sensors and gateways put out nothing.
PLAYS: Mapping[DeviceKind, ContentKind] = {
    DeviceKind.CLUSTER: ContentKind.AUDIO,
    DeviceKind.BOARD: ContentKind.TEXT,
}


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
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Devices by what they can put out, in order of their numbers; those that were named one by one; and faults."""

    audience: Mapping[ContentKind, tuple[DeviceRef, ...]]
    named: tuple[DeviceRef, ...]
    faults: tuple[Fault, ...]


Groups = Mapping[GroupId, frozenset[DeviceNo]]


def resolve(
    targets: Iterable[Target], issuer: UnitId, tree: UnitTree, fleet: Fleet, groups: Groups | None = None
) -> Resolution:
    """Return the devices that `targets` of a broadcast issued by `issuer` mean on the day of `tree`."""
    included: set[DeviceNo] = set()
    excluded: set[DeviceNo] = set()
    named: set[DeviceNo] = set()
    faults: set[Fault] = set()
    for target in targets:
        found, fault = _devices(target, issuer, tree, fleet, groups or {})
        if fault is not None:
            faults.add(fault)
        if target.is_excluded:
            excluded |= found
            continue
        included |= found
        if isinstance(target, DeviceTarget):
            named |= found
    devices = [fleet.by_no[device_no] for device_no in sorted(included - excluded)]
    return Resolution(
        audience={
            content: tuple(device for device in devices if device.kind is kind) for kind, content in PLAYS.items()
        },
        named=tuple(device for device in devices if device.device_no in named),
        faults=tuple(sorted(faults, key=lambda fault: (fault.kind.value, fault.device_no or 0, fault.detail))),
    )


def _devices(
    target: Target, issuer: UnitId, tree: UnitTree, fleet: Fleet, groups: Groups
) -> tuple[frozenset[DeviceNo], Fault | None]:
    nobody: frozenset[DeviceNo] = frozenset()
    match target:
        case UnitTarget(unit_id=unit_id):
            ground = tree.ground(unit_id)
            if not ground:
                return nobody, Fault(kind=ProblemKind.TARGET_UNIT_CLOSED, detail=str(unit_id))
            outside = Fault(kind=ProblemKind.TARGET_OUTSIDE_ISSUER, detail=str(unit_id))
            over = tree.rights_in(unit_id)
            if over is not None and not tree.covers(issuer, over):
                return nobody, outside
            # What once lay in a unit that was closed may lie outside by now, in part.
            units = [unit for unit in ground if tree.covers(issuer, unit)]
            return (
                frozenset(device.device_no for unit in units for device in fleet.by_unit.get(unit, ())),
                outside if len(units) < len(ground) else None,
            )
        case DeviceTarget(device_no=device_no):
            device = fleet.by_no.get(device_no)
            if device is None:
                return nobody, Fault(kind=ProblemKind.TARGET_DEVICE_GONE, device_no=device_no)
            if device.unit_id not in tree:
                return nobody, Fault(
                    kind=ProblemKind.TARGET_UNIT_CLOSED, device_no=device_no, detail=str(device.unit_id)
                )
            if not tree.covers(issuer, device.unit_id):
                return nobody, Fault(kind=ProblemKind.TARGET_OUTSIDE_ISSUER, device_no=device_no)
            return frozenset({device_no}), None
        case GroupTarget(group_id=group_id):
            members = groups.get(group_id)
            if members is None:
                return nobody, Fault(kind=ProblemKind.GROUP_CLOSED, detail=str(group_id))
            return frozenset(
                device_no
                for device_no in members
                if (device := fleet.by_no.get(device_no)) is not None and tree.covers(issuer, device.unit_id)
            ), None
        case KindTarget(kind=kind):
            return frozenset(
                device.device_no
                for unit in tree.ground(issuer)
                for device in fleet.by_unit.get(unit, ())
                if device.kind is kind
            ), None
        case _:
            assert_never(target)
