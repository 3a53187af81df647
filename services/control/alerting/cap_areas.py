"""Areas of alerts from CAP messages in as few as an alert may have, of as many units and shapes as devices take. Pure.

Whatever is changed here only ever grows: one loudspeaker too many is a nuisance, one too few is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from schemas.identifiers import UnitId
from services.control.alerting import shapes
from services.control.alerting.model import (
    MAX_AREAS,
    MAX_CORNERS,
    MAX_SHAPES,
    MAX_UNITS,
    AreaWish,
    AudienceWish,
    Circle,
    Polygon,
)
from services.control.units import UnitTree

MOST_SHAPES = 4 * MAX_SHAPES  # of one alert: more polygons become the hulls of neighbours
_MOST_CORNERS = 2_000  # of all of these, so that the message that devices get stays small
_FEWEST_CORNERS = 16

_Name = TypeVar("_Name")


def united(areas: Iterable[AreaWish]) -> tuple[AreaWish, ...]:
    """The same ground in few areas: one without shapes, and as few with shapes as hold them.

    The units of one with shapes are those of which somebody stands inside, so that together they mean nobody else. Of
    more circles than go into an alert those left over count as the whole units.
    """
    several = tuple(dict.fromkeys(areas))
    whole = {unit for each in several if not _is_shaped(each) for unit in each.units}
    shaped = [each for each in several if _is_shaped(each)]
    if len(shaped) > 1:
        circles = sorted({circle for each in shaped for circle in each.circles}, key=_place_of_circle)
        left_over = set(circles[MOST_SHAPES:])
        whole.update(unit for each in shaped if left_over.intersection(each.circles) for unit in each.units)
        shaped = packed(
            tuple(sorted({unit for each in shaped for unit in each.units})),
            covered(sorted({polygon for each in shaped for polygon in each.polygons}, key=_place_of_polygon)),
            circles[:MOST_SHAPES],
        )
    return (*([AreaWish(units=tuple(sorted(whole)))] if whole else []), *shaped)


def everybody(wishes: Sequence[AudienceWish], tree: UnitTree) -> AudienceWish:
    """Whom any of them means, by the units of today; whole units where there are too many shapes for one alert.

    Only what all of them leave out is left out, and only where all of them name kinds others are not meant.
    """
    areas = tuple(dict.fromkeys(area for wish in wishes for area in wish.areas))
    if len(areas) > MAX_AREAS:
        areas = (AreaWish(units=tuple(dict.fromkeys(unit for area in areas for unit in area.units))),)
    # What was said before a reform names units that stand no more. The heir of one that was spared is more than that.
    today = [
        replace(area, units=tuple(dict.fromkeys(tree.standing(each) or each for each in area.units))) for area in areas
    ]
    return AudienceWish(
        areas=of_few_units(tuple(dict.fromkeys(today)), tree),
        devices=tuple(dict.fromkeys(device for wish in wishes for device in wish.devices)),
        except_units=tuple(each for each in _of_all([wish.except_units for wish in wishes]) if tree.stands(each)),
        except_devices=_of_all([wish.except_devices for wish in wishes]),
        kinds=_of_any([wish.kinds for wish in wishes]),
        ownerships=_of_any([wish.ownerships for wish in wishes]),
    )


def covered(polygons: Sequence[Polygon]) -> tuple[Polygon, ...]:
    """As many polygons and corners as go into an alert, which hold all of these."""
    if not polygons:
        return ()
    limit = max(_FEWEST_CORNERS, min(MAX_CORNERS, _MOST_CORNERS // len(polygons)))
    return shapes.cover_all(polygons, most=MOST_SHAPES, limit=limit)


def packed(units: tuple[UnitId, ...], polygons: Sequence[Polygon], circles: Sequence[Circle]) -> list[AreaWish]:
    """Shapes in as few areas of these units as hold them."""
    return [
        AreaWish(
            units=units,
            polygons=tuple(polygons[start : start + MAX_SHAPES]),
            circles=tuple(circles[start : start + MAX_SHAPES]),
        )
        for start in range(0, max(len(polygons), len(circles)), MAX_SHAPES)
    ]


def of_few_units(areas: Sequence[AreaWish], tree: UnitTree) -> tuple[AreaWish, ...]:
    """The areas with as many units as an alert may name: those above them take their place where there are more.

    First where shapes say besides who is meant. What nothing above covers keeps its units.
    """
    if len(_units(areas)) <= MAX_UNITS:
        return tuple(areas)
    shaped, whole = ([each for each in areas if _is_shaped(each) is is_shaped] for is_shaped in (True, False))
    above = _above(_units(shaped), tree, most=max(1, MAX_UNITS - len(_units(whole))))
    shaped = [_lifted(each, above) for each in shaped]
    above = _above(_units([*whole, *shaped]), tree, most=MAX_UNITS)
    return tuple(_lifted(each, above) for each in (*whole, *shaped))


def _above(units: Collection[UnitId], tree: UnitTree, *, most: int) -> Mapping[UnitId, UnitId]:
    """For each unit itself or one above it, so that there are at most `most`: the lowest first, the largest groups first."""
    above = {unit: unit for unit in units}
    named = set(units)
    for depth in range(max((tree.depth(unit) or 0 for unit in units), default=0), 0, -1):
        groups: dict[UnitId, list[UnitId]] = defaultdict(list)
        for unit in named:
            if tree.depth(unit) == depth:
                groups[tree.path(unit)[-2]].append(unit)
        gone: dict[UnitId, UnitId] = {}
        for parent, below in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
            if len(named) <= most:
                break
            named.difference_update(below)
            named.add(parent)
            gone.update(dict.fromkeys(below, parent))
        above = {unit: gone.get(top, top) for unit, top in above.items()}
    return above


def _lifted(area: AreaWish, above: Mapping[UnitId, UnitId]) -> AreaWish:
    return replace(area, units=tuple(dict.fromkeys(above[unit] for unit in area.units)))


def _units(areas: Iterable[AreaWish]) -> set[UnitId]:
    return {unit for each in areas for unit in each.units}


def _is_shaped(area: AreaWish) -> bool:
    return bool(area.polygons or area.circles)


def _place_of_polygon(polygon: Polygon) -> list[tuple[float, float]]:
    return [(corner.longitude, corner.latitude) for corner in polygon]


def _place_of_circle(circle: Circle) -> tuple[float, float, int]:
    return circle.centre.longitude, circle.centre.latitude, circle.radius_m


def _of_all(several: Sequence[tuple[_Name, ...]]) -> tuple[_Name, ...]:
    return tuple(each for each in several[0] if all(each in others for others in several))


def _of_any(several: Sequence[tuple[_Name, ...]]) -> tuple[_Name, ...]:
    return tuple(dict.fromkeys(each for names in several for each in names)) if all(several) else ()
