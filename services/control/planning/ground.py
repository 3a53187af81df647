"""Where devices stand: units, policies and crowds of devices, and what a change of broadcasts leaves as it is.

Devices of one unit mostly are alike in everything that matters to planning (`Crowd`), and units under the same policies
are alike too, so a broadcast for a whole province is looked at a few times, not once per device.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple

from schemas.configuration import Ownership
from schemas.fields import DeviceKind
from schemas.identifiers import UnitId
from services.control.planning.model import DeviceNo, DeviceRef, Snapshot, Window
from services.control.planning.policies import EffectivePolicy, Policies
from services.control.planning.targets import PLAYS, Fleet, Groups
from services.control.units import UnitHistory, UnitTree

# Zones are at most a day ahead of UTC or behind it, and an occurrence lasts a day.
_AROUND = timedelta(days=3)


class Traits(NamedTuple):
    """Everything about a device that makes a difference here.

    `above` is the highest volume cap of its policies that it is set louder than, and a private board is always by itself.
    """

    kind: DeviceKind
    deciding: UnitId
    policy: EffectivePolicy
    above: int
    private: DeviceNo | None


class Crowd(NamedTuple):
    """Devices of one unit that are alike; those that come or go within the window apart."""

    traits: Traits
    devices: tuple[DeviceNo, ...]
    passing: tuple[DeviceRef, ...]


class Ground:
    """Devices, units and what holds there: what a change of broadcasts leaves as it is."""

    __slots__ = (
        "_crowds",
        "_end",
        "_first",
        "fleet",
        "groups",
        "policies",
        "requisitions",
        "snapshot",
        "units",
        "window",
        "zone",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, window: Window) -> None:
        self.snapshot = snapshot
        self.window = window
        self.fleet = Fleet(snapshot.devices)
        self.units: UnitHistory = snapshot.units
        self.zone = snapshot.zone
        self.groups: Groups = snapshot.groups
        self.policies = Policies(snapshot.policies)
        self.requisitions = snapshot.requisitions
        self._first = datetime.combine(window.first, time(0), tzinfo=UTC) - _AROUND
        self._end = datetime.combine(window.end, time(0), tzinfo=UTC) + _AROUND
        # A tree is kept alive by the history, so its id is its own.
        self._crowds: dict[tuple[int, UnitId], tuple[Crowd, ...]] = {}

    def is_same(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot differs at most in what is broadcast, and in devices."""
        ours = self.snapshot
        return (
            ours.units.versions == snapshot.units.versions
            and ours.units.heirs == snapshot.units.heirs
            and ours.zone == snapshot.zone
            and ours.groups == snapshot.groups
            and ours.policies == snapshot.policies
            and ours.requisitions == snapshot.requisitions
            and ours.asked_at == snapshot.asked_at
        )

    def moved(self, snapshot: Snapshot) -> frozenset[DeviceRef]:
        """The devices of either that are not the same in both, as they are in each."""
        if self.snapshot.devices == snapshot.devices:
            return frozenset()
        return frozenset(self.snapshot.devices).symmetric_difference(snapshot.devices)

    def crowds(self, unit_id: UnitId, tree: UnitTree) -> tuple[Crowd, ...]:
        """The devices of a unit that can put something out."""
        key = (id(tree), unit_id)
        found = self._crowds.get(key)
        if found is None:
            found = self._crowds[key] = self.sorted_out(self.fleet.by_unit.get(unit_id, ()), tree)
        return found

    def sorted_out(self, devices: Iterable[DeviceRef], tree: UnitTree) -> tuple[Crowd, ...]:
        """Devices that can put something out, by their traits."""
        alike: dict[Traits, tuple[list[DeviceNo], list[DeviceRef]]] = {}
        homes: dict[UnitId, tuple[UnitId, EffectivePolicy, tuple[int, ...]]] = {}
        for device in devices:
            if device.kind not in PLAYS:
                continue
            home = homes.get(device.unit_id)
            if home is None:
                policy = self.policies.at(device.unit_id, tree)
                home = homes[device.unit_id] = (tree.deciding(device.unit_id), policy, _caps(policy))
            deciding, policy, caps = home
            is_private = device.kind is DeviceKind.BOARD and device.ownership is not Ownership.PUBLIC
            traits = Traits(
                kind=device.kind,
                deciding=deciding,
                policy=policy,
                above=max((cap for cap in caps if cap < device.volume_percent), default=0),
                private=device.device_no if is_private else None,
            )
            steady, passing = alike.setdefault(traits, ([], []))
            if device.is_there(self._first) and device.is_there(self._end):
                steady.append(device.device_no)
            else:
                passing.append(device)
        return tuple(Crowd(traits, tuple(steady), tuple(passing)) for traits, (steady, passing) in alike.items())

    def is_requisitioned(self, device: DeviceRef, tree: UnitTree, begin: datetime, end: datetime) -> bool:
        """Whether a private board may be used from `begin` to `end` by somebody's order."""
        return any(
            each.valid_from <= begin
            and end <= each.expires_at
            and (
                each.device_no == device.device_no
                # An order over a unit that was closed is none over the boards of its heir.
                or (
                    each.unit_id is not None and tree.stands(each.unit_id) and tree.covers(each.unit_id, device.unit_id)
                )
            )
            for each in self.requisitions
        )


def surroundings(
    unit_ids: Collection[UnitId], units: UnitHistory, window: Window
) -> tuple[frozenset[UnitId], frozenset[UnitId]]:
    """Whose broadcasts can reach devices below some units on the days of a window, and the units those devices lie in.

    Closed units count where their heirs do.
    """
    known = {version.unit_id for version in units.versions} | {heir.unit_id for heir in units.heirs}
    trees = [units.on(first) for first, _ in units.spans(window.first, window.end)]
    ground = set(unit_ids)
    for tree in trees:
        ground.update(*(tree.subtree(each) for each in unit_ids), *(tree.ground(each) for each in unit_ids))
    # What lies there on one day is reached on the others by whoever is above it then: units move.
    issuers = set(ground)
    for tree in trees:
        above = {each for unit in ground for each in tree.path(unit)}
        issuers.update(unit for unit in known if tree.standing(unit) in above)
    return frozenset(issuers), frozenset(ground)


def _caps(policy: EffectivePolicy) -> tuple[int, ...]:
    return tuple({cap.percent for each in policy.policies for cap in each.volume_caps})
