"""The tree of units (administrative units) as it stands on a local day. Pure.

Units are opened, closed, renamed and moved at dates, and codes are reused (2025 reform), so a unit is known by its own
id and the tree exists only per day: `UnitHistory` holds every dated version, `UnitHistory.on(day)` is the tree.

A unit whose version on that day does not lead up to a root (parent closed, unknown or in a circle) is *detached*: it is
in no tree. So nothing sounds there and nobody has rights over it, until somebody mends the data; `detached` names it.

A unit that was closed by a reform may have an *heir*. From the day of the reform on, the tree takes the old id for the
heir: whatever still names the old unit (devices, bulletins, broadcasts and their targets, accounts, grants) belongs to
the heir on those days and to the old unit on the days before, and no row has to be rewritten for that. Two things do
not follow just any heir: rights, and what a target means. A district that goes over into the province must not make
its officers officers of the province, nor its bulletins sound everywhere; see `rights_in` and `ground`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from schemas.identifiers import UnitId

# The one level whose word means something to us: which unit decides about content from above. How deep it lies does not.
COMMUNE = "commune"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitHeir:
    """From `valid_from` until `valid_until` (None: open) the closed unit `unit_id` is taken for `heir_id`.

    `keeps_rights`: who had rights over the old unit has them over the heir, because both are of one level.
    """

    unit_id: UnitId
    heir_id: UnitId
    valid_from: date
    valid_until: date | None = None
    keeps_rights: bool

    def is_valid_on(self, day: date) -> bool:
        """Whether the old unit is taken for this heir on local day `day`."""
        return self.valid_from <= day and (self.valid_until is None or day < self.valid_until)


NOBODY: Mapping[UnitId, tuple[UnitId, ...]] = {}


class UnitTree:
    """The units of one day, siblings in order of (sort key, code, id). Immutable.

    Every question takes the id of a closed unit for its heir; `stands` tells the two apart.
    """

    __slots__ = (
        "_children",
        "_deciding",
        "_depth",
        "_first",
        "_followers",
        "_heirs",
        "_last",
        "_last_children",
        "_order",
        "_units",
        "detached",
        "roots",
    )

    def __init__(
        self,
        versions: Iterable[UnitVersion],
        heirs: Iterable[UnitHeir] = (),
        last_children: Mapping[UnitId, tuple[UnitId, ...]] = NOBODY,
    ) -> None:
        """`versions` and `heirs` are those of one day, at most one each per unit.

        `last_children` are the units that lay directly below a closed unit when it was closed.
        """
        units = {version.unit_id: version for version in versions}
        self._heirs = {heir.unit_id: heir for heir in heirs if heir.unit_id not in units}
        self._followers: dict[UnitId, list[UnitId]] = defaultdict(list)
        for heir in sorted(self._heirs.values(), key=lambda heir: heir.unit_id):
            self._followers[heir.heir_id].append(heir.unit_id)
        self._last_children = last_children
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
        self._deciding: dict[UnitId, UnitId] = {}
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
            for follower in self._followers.get(unit.unit_id, ()):
                self._first[follower] = len(self._order)
                self._order.append(follower)
            stack.append((unit, depth, True))
            stack.extend((child, depth + 1, False) for child in reversed(self.children(unit.unit_id)))

    def stands(self, unit_id: UnitId) -> bool:
        """Whether the unit itself is in the tree of this day."""
        return unit_id in self._units

    def standing(self, unit_id: UnitId) -> UnitId | None:
        """The unit itself, or the heir it is taken for on this day; None when neither is in the tree."""
        if unit_id in self._units:
            return unit_id
        heir = self._heirs.get(unit_id)
        return heir.heir_id if heir is not None and heir.heir_id in self._units else None

    def rights_in(self, unit_id: UnitId) -> UnitId | None:
        """The unit over which rights over `unit_id` are rights on this day; never one of a higher level."""
        if unit_id in self._units:
            return unit_id
        heir = self._heirs.get(unit_id)
        return heir.heir_id if heir is not None and heir.keeps_rights and heir.heir_id in self._units else None

    def followed_by(self, unit_id: UnitId) -> frozenset[UnitId]:
        """The unit, and the closed ones whose rights it has on this day: what was theirs is its own."""
        return frozenset({unit_id}).union(each for each in self._heirs if self.rights_in(each) == unit_id)

    def __contains__(self, unit_id: object) -> bool:
        """Whether the unit, or its heir, exists on this day and hangs on a root."""
        return unit_id in self._first

    def __iter__(self) -> Iterator[UnitVersion]:
        """Every unit, parents before children, siblings in order."""
        return iter(self._units.values())

    def __len__(self) -> int:
        return len(self._units)

    def get(self, unit_id: UnitId) -> UnitVersion | None:
        """The unit's version of this day, or None when it is not in the tree."""
        unit = self._units.get(unit_id)
        if unit is None and unit_id in self._heirs:
            unit = self._units.get(self._heirs[unit_id].heir_id)
        return unit

    def children(self, unit_id: UnitId) -> tuple[UnitVersion, ...]:
        """Direct children in order."""
        return tuple(self._children.get(self.standing(unit_id) or unit_id, ()))

    def subtree(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """The unit and everything below it, parents before children; empty when it is not in the tree.

        Closed units stand behind their heirs: what is filed under them lies there too.
        """
        unit = self.standing(unit_id)
        if unit is None:
            return ()
        return tuple(self._order[self._first[unit] : self._last[unit]])

    def ground(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """The units in which lies on this day what once lay in `unit_id`: what a target that names it means.

        Of a unit in the tree its subtree. Of a closed one the subtree of an heir of the same level, what it still has
        itself, and the ground of the units that lay below it when it was closed; never more of a higher level's ground.
        """
        found: dict[UnitId, None] = {}
        waiting, seen = [unit_id], set[UnitId]()
        while waiting:
            unit = waiting.pop(0)
            if unit in seen:
                continue
            seen.add(unit)
            over = self.rights_in(unit)
            if over is not None:
                found.update(dict.fromkeys(self.subtree(over)))
            elif unit in self._first:
                found[unit] = None
            if unit not in self._units:
                waiting.extend(self._last_children.get(unit, ()))
        return tuple(found)

    def covers(self, ancestor: UnitId, unit_id: UnitId) -> bool:
        """Whether `unit_id` is `ancestor` or lies below it; False when either is not in the tree."""
        position = self._first.get(unit_id)
        top = self.standing(ancestor)
        return position is not None and top is not None and self._first[top] <= position < self._last[top]

    def path(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """The units from the root down to `unit_id`, both included; empty when it is not in the tree."""
        found: list[UnitId] = []
        unit = self.get(unit_id)
        while unit is not None:
            found.append(unit.unit_id)
            unit = self._units.get(unit.parent_id) if unit.parent_id is not None else None
        return tuple(reversed(found))

    def ancestors(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """The units above `unit_id`, root first, itself not included."""
        return self.path(unit_id)[:-1]

    def with_ancestors(self, unit_ids: Collection[UnitId]) -> frozenset[UnitId]:
        """These units and those above them: what somebody up there does concerns them too."""
        return frozenset(unit_ids).union(*map(self.ancestors, unit_ids))

    def common(self, unit_ids: Iterable[UnitId]) -> UnitId | None:
        """The lowest unit that covers all of them; None when there is none, or they are in no tree."""
        paths = [path for path in map(self.path, unit_ids) if path]
        shared = [same[0] for same in zip(*paths, strict=False) if len(set(same)) == 1]
        return shared[-1] if shared else None

    def depth(self, unit_id: UnitId) -> int | None:
        """Levels below the root (0: the root); None when it is not in the tree."""
        return self._depth.get(self.standing(unit_id) or unit_id)

    def deciding(self, unit_id: UnitId) -> UnitId:
        """The unit that decides about content from above for what stands in `unit_id` (R-17): its commune, else itself."""
        found = self._deciding.get(unit_id)
        if found is None:
            communes = (each for each in self.path(unit_id) if self._units[each].level == COMMUNE)
            found = self._deciding[unit_id] = next(communes, self.standing(unit_id) or unit_id)
        return found


class UnitHistory:
    """Every dated version of every unit, and who follows whom. Immutable; trees are computed once per span of days."""

    __slots__ = ("_changes", "_last_children", "_trees", "heirs", "versions")

    def __init__(self, versions: Iterable[UnitVersion], heirs: Iterable[UnitHeir] = ()) -> None:
        self.versions: tuple[UnitVersion, ...] = tuple(
            sorted(versions, key=lambda version: (version.unit_id, version.valid_from))
        )
        self.heirs: tuple[UnitHeir, ...] = tuple(sorted(heirs, key=lambda heir: (heir.unit_id, heir.valid_from)))
        self._last_children = _last_children(self.versions, {heir.unit_id for heir in self.heirs})
        dated: tuple[UnitVersion | UnitHeir, ...] = (*self.versions, *self.heirs)
        days = {each.valid_from for each in dated}
        days |= {each.valid_until for each in dated if each.valid_until is not None}
        self._changes: list[date] = sorted(days)
        self._trees: dict[int, UnitTree] = {}

    def on(self, day: date) -> UnitTree:
        """The tree of local day `day`. Of overlapping versions of one unit the later one counts."""
        span = bisect_right(self._changes, day)
        tree = self._trees.get(span)
        if tree is None:
            tree = self._trees[span] = UnitTree(
                (version for version in self.versions if version.is_valid_on(day)),
                (heir for heir in self.heirs if heir.is_valid_on(day)),
                self._last_children,
            )
        return tree

    def spans(self, first: date, end: date) -> tuple[tuple[date, date], ...]:
        """The days from `first` until `end`, cut where the tree changes."""
        cuts = [first, *(day for day in self._changes if first < day < end), end]
        return tuple(pairwise(cuts)) if first < end else ()

    def last(self, unit_id: UnitId) -> UnitVersion | None:
        """The newest version of a unit; None when there never was such a unit."""
        at = bisect_right(self.versions, unit_id, key=lambda version: version.unit_id)
        return self.versions[at - 1] if at and self.versions[at - 1].unit_id == unit_id else None

    def overlaps(self) -> tuple[UnitVersion, ...]:
        """Versions that begin before the previous version of the same unit has ended: faults of the data."""
        return tuple(
            later
            for earlier, later in zip(self.versions, self.versions[1:], strict=False)
            if earlier.unit_id == later.unit_id
            and (earlier.valid_until is None or later.valid_from < earlier.valid_until)
        )


def _last_children(versions: Iterable[UnitVersion], closed: Collection[UnitId]) -> Mapping[UnitId, tuple[UnitId, ...]]:
    """The units directly below each of the `closed` ones on its last day."""
    if not closed:
        return NOBODY
    below: dict[UnitId, list[UnitVersion]] = defaultdict(list)
    ends: dict[UnitId, date] = {}
    for version in versions:
        if version.parent_id is not None and version.parent_id in closed:
            below[version.parent_id].append(version)
        if version.unit_id in closed and version.valid_until is not None:
            ends[version.unit_id] = version.valid_until  # versions come in order: the last one stays
    return {
        unit_id: tuple(child.unit_id for child in below[unit_id] if child.is_valid_on(end - timedelta(days=1)))
        for unit_id, end in ends.items()
    }
