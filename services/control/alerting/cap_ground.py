"""Where CAP messages mean, on the ground of the unit that takes them in.

Codes of units are looked up in the tree of the day, because they are used again over the years. A shape without a code
counts for the speaking unit's ground, and only if a device of that ground is known to stand inside: a warning of another
country must not sound on the devices whose place nobody entered. What is not ours is left out and told, because warnings
of a whole country name its provinces by the dozen.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpg import Record

from schemas.identifiers import UnitId
from services.control.alerting import alert_store, cap_areas, shapes
from services.control.alerting.cap import CapArea, CapCircle, CapInfo
from services.control.alerting.cap_areas import MOST_SHAPES
from services.control.alerting.model import MAX_RADIUS_M, AreaWish, Circle, Point, Polygon
from services.control.errors import Fault, Invalid
from services.control.units import UnitTree
from services.shared.database.pool import Connection

MAX_PLACES = 10_000  # areas, shapes and codes of a message; the largest feeds send some hundred
MOST_WORK = 5_000_000  # devices looked at and corners held against them: some seconds
_A_CIRCLE = 4  # is as much work as so many corners
_METRES_A_DEGREE = 110_000  # of latitude, at least
_MOST_TOLD = 40

_Bounds = tuple[float, float, float, float]  # south, north, west, east


class Ground:
    """What lies below the unit that speaks, looked up once for a message: units by code, and where devices stand.

    `names` are those of geocodes that hold codes of units, in any case.
    """

    def __init__(
        self, tree: UnitTree, unit_id: UnitId, names: Sequence[str], devices: Mapping[UnitId, Sequence[Point | None]]
    ) -> None:
        self.codes = {unit.code: unit.unit_id for unit in map(tree.get, tree.subtree(unit_id)) if unit is not None}
        self.name = names[0]
        self._names = {each.casefold() for each in names}
        self._devices = devices
        self._known = sorted(
            ((point, unit) for unit, points in devices.items() for point in points if point is not None),
            key=lambda each: each[0].latitude,
        )
        self._latitudes = [point.latitude for point, _ in self._known]
        longitudes = [point.longitude for point, _ in self._known]
        self._west, self._east = (min(longitudes), max(longitudes)) if longitudes else (math.inf, -math.inf)
        self._around: dict[Circle, tuple[UnitId, ...]] = {}
        self.work = 0  # what has been looked at for the message
        # Units in which nobody has a place are warned with the others: they may well lie inside.
        self.blank = [unit for unit, points in devices.items() if all(point is None for point in points)]

    def codes_of(self, area: CapArea) -> list[str]:
        """What it says are codes of units."""
        return [each.value for each in area.geocodes if each.name.casefold() in self._names]

    def is_near(self, polygon: Polygon) -> bool:
        """Whether anybody of ours stands within its bounds: quick, and never wrong about one inside."""
        return any(True for _ in self._within(_bounds_of_polygon(polygon)))

    def units_in_polygon(self, polygon: Polygon, *, but: Iterable[UnitId] = ()) -> Iterator[UnitId]:
        """Units of which a device is known to stand inside; `but` are known already."""
        seen = set(but)
        outline = shapes.Outline(polygon)
        for point, unit in self._within(_bounds_of_polygon(polygon)):
            if unit in seen:
                continue
            self.work += len(polygon)
            if outline.holds(point):
                seen.add(unit)
                yield unit

    def units_around(self, circle: Circle) -> tuple[UnitId, ...]:
        """Units of which a device is known to stand in the circle; looked up once, as translations repeat it."""
        if circle not in self._around:
            self._around[circle] = tuple(self._units_in_circle(circle))
        return self._around[circle]

    def _units_in_circle(self, circle: Circle) -> Iterator[UnitId]:
        seen: set[UnitId] = set()
        for point, unit in self._within(_bounds_of_circle(circle)):
            if unit in seen:
                continue
            self.work += _A_CIRCLE
            if shapes.is_in_circle(circle, point):
                seen.add(unit)
                yield unit

    def units_inside(self, polygons: Sequence[Polygon], circles: Sequence[Circle]) -> tuple[UnitId, ...]:
        """The units of which somebody is known to stand in any of the shapes, and the blank ones; none where nobody does."""
        units: dict[UnitId, None] = {}
        for polygon in polygons:
            units.update(dict.fromkeys(self.units_in_polygon(polygon, but=units)))
        for circle in circles:
            units.update(dict.fromkeys(self.units_around(circle)))
        return (*units, *self.blank) if units else ()

    def _within(self, bounds: _Bounds) -> Iterator[tuple[Point, UnitId]]:
        """Who stands between them. Raises `Invalid` where a message has asked for too much."""
        south, north, west, east = bounds
        if east < self._west or self._east < west:
            return
        if self.work > MOST_WORK:
            raise Invalid(Fault("alert.info.area", "cap_too_many", {"limit": MAX_PLACES, "name": "area"}))
        first, last = bisect.bisect_left(self._latitudes, south), bisect.bisect_right(self._latitudes, north)
        for place in range(first, last):
            self.work += 1
            if west <= self._known[place][0].longitude <= east:
                yield self._known[place]


def _bounds_of_polygon(polygon: Polygon) -> _Bounds:
    latitudes, longitudes = [each.latitude for each in polygon], [each.longitude for each in polygon]
    return min(latitudes), max(latitudes), min(longitudes), max(longitudes)


def _bounds_of_circle(circle: Circle) -> _Bounds:
    reach, centre = circle.radius_m / _METRES_A_DEGREE, circle.centre
    south, north = centre.latitude - reach, centre.latitude + reach
    if south <= -90 or north >= 90:
        return south, north, -180, 180
    # Where the meridians that touch it do so; both are a little too far, as a degree is taken a little too short.
    across = math.degrees(math.asin(min(1, math.sin(math.radians(reach)) / math.cos(math.radians(centre.latitude)))))
    west, east = centre.longitude - across, centre.longitude + across
    return (south, north, west, east) if west >= -180 and east <= 180 else (south, north, -180, 180)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whom an info block means of ours, and what was left out of it because it is not."""

    wishes: tuple[AreaWish, ...]
    left_out: tuple[Fault, ...]


async def ground_of(connection: Connection, tree: UnitTree, unit_id: UnitId, names: Sequence[str]) -> Ground:
    """The ground of the unit, as it stands."""
    rows: list[Record] = await alert_store.positions(connection, tree.subtree(unit_id))
    devices: dict[UnitId, list[Point | None]] = {}
    for row in rows:
        point = Point(latitude=row["latitude"], longitude=row["longitude"]) if row["latitude"] is not None else None
        devices.setdefault(tree.standing(UnitId(row["unit_id"])) or UnitId(row["unit_id"]), []).append(point)
    return Ground(tree, unit_id, names, devices)


def places(infos: Sequence[CapInfo], ground: Ground) -> list[Place]:
    """The place of each; one that names no area means wherever the others do. Raises `Invalid` where there are too many.

    Takes as long as there are corners near: off the event loop.
    """
    areas = [area for info in infos for area in info.areas]
    if sum(1 + len(each.polygons) + len(each.circles) + len(each.geocodes) for each in areas) > MAX_PLACES:
        raise Invalid(Fault("alert.info.area", "cap_too_many", {"limit": MAX_PLACES, "name": "area"}))
    known: dict[object, Place] = {}
    found: list[Place | None] = []
    for number, info in enumerate(infos):
        # Translations name the same ground.
        where = tuple((each.geocodes, each.polygons, each.circles) for each in info.areas)
        if info.areas and where not in known:
            known[where] = _Search(ground).place(info.areas, f"alert.info[{number}]")
        found.append(known.get(where))
    everywhere = _everywhere(list(known.values())) if None in found else ()
    return [each if each is not None else Place(wishes=everywhere, left_out=()) for each in found]


def _everywhere(several: Sequence[Place]) -> tuple[AreaWish, ...]:
    if len(several) == 1:
        return several[0].wishes
    return cap_areas.united(wish for place in several for wish in place.wishes)


@dataclass(slots=True)
class _Search:
    """Goes through the areas of one info block and gathers what is ours."""

    ground: Ground
    units: dict[UnitId, None] = field(default_factory=dict)
    polygons: dict[Polygon, None] = field(default_factory=dict)
    circles: dict[Circle, None] = field(default_factory=dict)
    near: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    outside: list[tuple[str, str]] = field(default_factory=list)

    def place(self, areas: Sequence[CapArea], path: str) -> Place:
        for number, area in enumerate(areas):
            self._look_at(area, f"{path}.area[{number}]")
        shaped = self._shaped()
        if not shaped:
            self.outside += self.near
        by_code = (AreaWish(units=tuple(self.units)),) if self.units else ()
        return Place(wishes=by_code + shaped, left_out=tuple(self._left_out()))

    def _look_at(self, area: CapArea, path: str) -> None:
        codes = self.ground.codes_of(area)
        ours = [code for code in codes if code in self.ground.codes]
        self.units.update((self.ground.codes[code], None) for code in ours)
        self.unknown += ((f"{path}.geocode", code) for code in codes if code not in self.ground.codes)
        if not area.polygons and not area.circles:
            if not codes:
                self.unknown.append((path, _coded(area) or _called(area)))
            return
        holds_us = any([*map(self._take_circle, area.circles)]) or bool(ours)
        is_near = any([*map(self._take_polygon, area.polygons)])
        if not holds_us:
            (self.near if is_near else self.outside).append((path, _called(area)))

    def _take_polygon(self, polygon: Polygon) -> bool:
        is_near = polygon in self.polygons or self.ground.is_near(polygon)
        if is_near:
            self.polygons[polygon] = None
        return is_near

    def _take_circle(self, given: CapCircle) -> bool:
        circle = Circle(centre=given.centre, radius_m=max(1, round(given.radius_km * 1_000)))
        units = self.ground.units_around(circle)
        if units and circle.radius_m <= MAX_RADIUS_M and len(self.circles) < MOST_SHAPES:
            self.circles[circle] = None
        else:  # larger than devices take it, or one too many: the whole units
            self.units.update(dict.fromkeys((*units, *self.ground.blank) if units else ()))
        return bool(units)

    def _shaped(self) -> tuple[AreaWish, ...]:
        polygons, circles = cap_areas.covered(list(self.polygons)), list(self.circles)
        units = self.ground.units_inside(polygons, circles)
        return tuple(cap_areas.packed(units, polygons, circles)) if units else ()

    def _left_out(self) -> Iterator[Fault]:
        if self.unknown:
            facts = {"value": _listed(name for _, name in self.unknown), "name": self.ground.name}
            yield Fault(self.unknown[0][0], "cap_area_unknown", facts)
        if self.outside:
            facts = {"value": _listed(name for _, name in self.outside)}
            yield Fault(self.outside[0][0], "cap_area_outside", facts)


def _coded(area: CapArea) -> str:
    return ", ".join(f"{each.name}={each.value}" for each in area.geocodes[:10])


def _called(area: CapArea) -> str:
    return area.description or _coded(area) or "–"


def _listed(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(name[:80] for name in names))
    return ", ".join(found[:_MOST_TOLD]) + (f" … (+{len(found) - _MOST_TOLD})" if len(found) > _MOST_TOLD else "")
