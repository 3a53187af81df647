"""The tree of units (administrative units) as it stands on a local day. Pure.

Units are opened, closed, renamed and moved at dates, and codes are reused (2025 reform), so a unit is known by its own
id and the tree exists only per day: `UnitHistory` holds every dated version, `UnitHistory.on(day)` is the tree.

A unit whose version on that day does not lead up to a root (parent closed, unknown or in a circle) is *detached*: it is
in no tree. So nothing sounds there and nobody has rights over it, until somebody mends the data; `detached` names it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from schemas.identifiers import UnitId


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitVersion:
    """What a unit is from `valid_from` until `valid_until` (first local day on which it no longer is; None: open)."""

    unit_id: UnitId
    valid_from: date
    valid_until: date | None = None
    parent_id: UnitId | None = None
    code: str
    level: str
    name: str
    sort_key: str = ""

    def __post_init__(self) -> None:
        if self.valid_until is not None and self.valid_until <= self.valid_from:
            raise ValueError(f"unit {self.unit_id}: valid_until must lie after valid_from")

    def is_valid_on(self, day: date) -> bool:
        """Whether this version holds on local day `day`."""
        return self.valid_from <= day and (self.valid_until is None or day < self.valid_until)


class UnitTree:
    """The units of one day, siblings in order of (sort key, code, id). Immutable."""

    __slots__ = ("_children", "_depth", "_first", "_last", "_order", "_units", "detached", "roots")

    def __init__(self, versions: Iterable[UnitVersion]) -> None:
        """`versions` are those of one day, at most one per unit."""
        units = {version.unit_id: version for version in versions}
        children: dict[UnitId | None, list[UnitVersion]] = defaultdict(list)
        for version in units.values():
            children[version.parent_id].append(version)
        for siblings in children.values():
            siblings.sort(key=lambda unit: (unit.sort_key, unit.code, unit.unit_id))
        self._children = children
        self._units: dict[UnitId, UnitVersion] = {}
        self._order: list[UnitId] = []
        self._first: dict[UnitId, int] = {}
        self._last: dict[UnitId, int] = {}
        self._depth: dict[UnitId, int] = {}
        self._walk(children[None])
        self.roots: tuple[UnitVersion, ...] = tuple(children[None])
        self.detached: tuple[UnitVersion, ...] = tuple(
            sorted((unit for unit in units.values() if unit.unit_id not in self._units), key=lambda unit: unit.unit_id)
        )

    def _walk(self, roots: list[UnitVersion]) -> None:
        """Number the units in pre-order: a subtree is then a slice. A stack, because depth is data."""
        stack: list[tuple[UnitVersion, int, bool]] = [(root, 0, False) for root in reversed(roots)]
        while stack:
            unit, depth, is_done = stack.pop()
            if is_done:
                self._last[unit.unit_id] = len(self._order)
                continue
            self._units[unit.unit_id] = unit
            self._depth[unit.unit_id] = depth
            self._first[unit.unit_id] = len(self._order)
            self._order.append(unit.unit_id)
            stack.append((unit, depth, True))
            stack.extend((child, depth + 1, False) for child in reversed(self.children(unit.unit_id)))

    def __contains__(self, unit_id: object) -> bool:
        """Whether the unit exists on this day and hangs on a root."""
        return unit_id in self._units

    def __iter__(self) -> Iterator[UnitVersion]:
        """Every unit, parents before children, siblings in order."""
        return (self._units[unit_id] for unit_id in self._order)

    def __len__(self) -> int:
        return len(self._order)

    def get(self, unit_id: UnitId) -> UnitVersion | None:
        """The unit's version of this day, or None when it is not in the tree."""
        return self._units.get(unit_id)

    def children(self, unit_id: UnitId) -> tuple[UnitVersion, ...]:
        """Direct children in order."""
        return tuple(self._children.get(unit_id, ()))

    def subtree(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """The unit and everything below it, parents before children; empty when it is not in the tree."""
        if unit_id not in self._units:
            return ()
        return tuple(self._order[self._first[unit_id] : self._last[unit_id]])

    def covers(self, ancestor: UnitId, unit_id: UnitId) -> bool:
        """Whether `unit_id` is `ancestor` or lies below it; False when either is not in the tree."""
        position = self._first.get(unit_id)
        return (
            position is not None
            and ancestor in self._units
            and self._first[ancestor] <= position < self._last[ancestor]
        )

    def path(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """The units from the root down to `unit_id`, both included; empty when it is not in the tree."""
        found: list[UnitId] = []
        unit = self._units.get(unit_id)
        while unit is not None:
            found.append(unit.unit_id)
            unit = self._units.get(unit.parent_id) if unit.parent_id is not None else None
        return tuple(reversed(found))

    def ancestors(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """The units above `unit_id`, root first, itself not included."""
        return self.path(unit_id)[:-1]

    def depth(self, unit_id: UnitId) -> int | None:
        """Levels below the root (0: the root); None when it is not in the tree."""
        return self._depth.get(unit_id)


class UnitHistory:
    """Every dated version of every unit. Immutable; trees are computed once per span between changes."""

    __slots__ = ("_changes", "_trees", "versions")

    def __init__(self, versions: Iterable[UnitVersion]) -> None:
        self.versions: tuple[UnitVersion, ...] = tuple(
            sorted(versions, key=lambda version: (version.unit_id, version.valid_from))
        )
        days = {version.valid_from for version in self.versions}
        days |= {version.valid_until for version in self.versions if version.valid_until is not None}
        self._changes: list[date] = sorted(days)
        self._trees: dict[int, UnitTree] = {}

    def on(self, day: date) -> UnitTree:
        """The tree of local day `day`. Of overlapping versions of one unit the later one counts."""
        span = bisect_right(self._changes, day)
        tree = self._trees.get(span)
        if tree is None:
            tree = self._trees[span] = UnitTree(version for version in self.versions if version.is_valid_on(day))
        return tree

    def overlaps(self) -> tuple[UnitVersion, ...]:
        """Versions that begin before the previous version of the same unit has ended: faults of the data."""
        return tuple(
            later
            for earlier, later in zip(self.versions, self.versions[1:], strict=False)
            if earlier.unit_id == later.unit_id
            and (earlier.valid_until is None or later.valid_from < earlier.valid_until)
        )
