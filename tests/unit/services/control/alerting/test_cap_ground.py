"""Areas of CAP messages on the ground of a unit: what is ours is found, what is not is told, and nobody waits long for it."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from schemas.identifiers import UnitId
from services.control.alerting import shapes
from services.control.alerting.cap import CapArea, CapCircle, CapInfo, Named
from services.control.alerting.cap_areas import MOST_SHAPES
from services.control.alerting.cap_ground import MAX_PLACES, MOST_WORK, Ground, Place, places
from services.control.alerting.model import AreaWish, Category, Certainty, Circle, Point, Severity, Urgency
from services.control.errors import Invalid
from services.control.units import UnitTree, UnitVersion

PROVINCE, NORTH, SOUTH, VILLAGE, ELSEWHERE = (UnitId(uuid.UUID(int=number)) for number in range(1, 6))
PARENTS = {PROVINCE: None, NORTH: PROVINCE, SOUTH: PROVINCE, VILLAGE: NORTH, ELSEWHERE: None}
TREE = UnitTree(
    UnitVersion(
        unit_id=unit_id,
        parent_id=parent,
        valid_from=date(2020, 1, 1),
        code=f"{unit_id.int:02}",
        level="unit",
        name=str(unit_id.int),
    )
    for unit_id, parent in PARENTS.items()
)


def at(latitude: float, longitude: float) -> Point:
    return Point(latitude=latitude, longitude=longitude)


def square(south: float, west: float, size: float = 0.1) -> tuple[Point, ...]:
    north, east = south + size, west + size
    return (at(south, west), at(south, east), at(north, east), at(north, west), at(south, west))


GROUND = Ground(
    TREE,
    PROVINCE,
    ("loa:unit-code", "DVHC"),
    {NORTH: [at(21.5, 106.5), None], SOUTH: [at(21.0, 106.0)], VILLAGE: [None]},
)


def area(
    *codes: str,
    polygons: Sequence[tuple[Point, ...]] = (),
    circles: Sequence[CapCircle] = (),
    name: str = "dvhc",
    description: str = "X",
) -> CapArea:
    return CapArea(
        description=description,
        polygons=tuple(polygons),
        circles=tuple(circles),
        geocodes=tuple(Named(name=name, value=code) for code in codes),
    )


def info(*areas: CapArea) -> CapInfo:
    return CapInfo(
        language="vi",
        categories=(Category.MET,),
        event="Lũ",
        urgency=Urgency.IMMEDIATE,
        severity=Severity.SEVERE,
        certainty=Certainty.LIKELY,
        areas=areas,
    )


def place_of(*areas: CapArea) -> Place:
    (found,) = places([info(*areas)], GROUND)
    return found


def told(place: Place) -> list[tuple[str, str, object]]:
    return [(each.field, each.code, each.facts["value"]) for each in place.left_out]


def test_codes_of_ours_are_taken_and_the_others_named() -> None:
    found = place_of(area("02", "99"), area("03"), area("05"), area("NVC001", name="SAME"))
    assert [each.units for each in found.wishes] == [(NORTH, SOUTH)]
    assert told(found) == [("alert.info[0].area[0].geocode", "cap_area_unknown", "99, 05, SAME=NVC001")]


def test_a_list_of_all_the_provinces_is_told_in_one_remark() -> None:
    found = place_of(*(area(f"{number}") for number in range(100, 163)), area("02"))
    ((_, _, value),) = told(found)
    assert str(value).startswith("100, 101, ")
    assert str(value).endswith("… (+23)")


def test_a_shape_means_the_units_known_to_be_inside_and_those_nobody_knows_of() -> None:
    found = place_of(area(polygons=[square(21.45, 106.45)]), area(polygons=[square(38, -98)], description="Kansas"))
    (wish,) = found.wishes
    assert (wish.units, len(wish.polygons)) == ((NORTH, VILLAGE), 1)
    assert told(found) == [("alert.info[0].area[1]", "cap_area_outside", "Kansas")]


def test_an_area_without_a_name_is_told_by_its_codes() -> None:
    found = place_of(
        area("02"),
        area(polygons=[square(38, -98)], description=""),
        area("KSC001", name="SAME", polygons=[square(39, -98)], description=""),
    )
    assert told(found) == [("alert.info[0].area[1]", "cap_area_outside", "–, SAME=KSC001")]


def test_a_shape_around_us_that_holds_nobody_is_outside() -> None:
    ring = (at(20, 105), at(20, 108), at(22, 108), at(22, 107), at(20.5, 107), at(20.5, 105), at(20, 105))
    found = place_of(area(polygons=[ring], description="Biển"))
    assert (found.wishes, [each[2] for each in told(found)]) == ((), ["Biển"])


@pytest.mark.parametrize("radius_km", [1_500, 20_038, 1e99])
def test_a_circle_larger_than_devices_take_it_means_the_units_inside_as_a_whole(radius_km: float) -> None:
    found = place_of(area(circles=[CapCircle(centre=at(10, 106), radius_km=radius_km)]))
    (wish,) = found.wishes
    assert (set(wish.units), wish.circles, found.left_out) == ({NORTH, SOUTH, VILLAGE}, (), ())


def test_circles_find_who_stands_in_them() -> None:
    found = place_of(area(circles=[CapCircle(centre=at(21.0, 106.0), radius_km=0)]))
    assert found.wishes[0].circles == (Circle(centre=at(21.0, 106.0), radius_m=1),)
    many = [CapCircle(centre=at(21.0, 106.0 + step / 1e6), radius_km=1) for step in range(MOST_SHAPES + 10)]
    found = place_of(area(circles=many))
    assert sum(len(each.circles) for each in found.wishes) == MOST_SHAPES
    assert found.wishes[0].units == (SOUTH, VILLAGE), "one circle too many: the whole unit"


def test_an_info_without_areas_means_where_the_others_do() -> None:
    vietnamese, english, bare = places([info(area("02")), info(area("03")), info()], GROUND)
    assert (vietnamese.wishes, english.wishes) == ((AreaWish(units=(NORTH,)),), (AreaWish(units=(SOUTH,)),))
    assert bare.wishes == (AreaWish(units=(NORTH, SOUTH)),)


def test_a_unit_s_code_beside_a_shape_of_another_country_counts_by_the_code() -> None:
    found = place_of(area("02", polygons=[square(38, -98)]))
    assert ([each.units for each in found.wishes], found.left_out) == ([(NORTH,)], ())


def test_as_many_areas_as_are_taken_cost_little_and_more_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was simplified and looked up by itself; 20,000 took minutes within a transaction."""
    covered: list[int] = []
    cover_all = shapes.cover_all

    def counted(polygons: Sequence[tuple[Point, ...]], *, most: int, limit: int) -> object:
        covered.append(len(polygons))
        return cover_all(polygons, most=most, limit=limit)

    monkeypatch.setattr(shapes, "cover_all", counted)
    ground = Ground(
        TREE, PROVINCE, ("DVHC",), {NORTH: [at(21 + step / 10_000, 106 + step / 10_000) for step in range(10_000)]}
    )
    areas = [area(polygons=[square(21.2 + step / 1e5, 106.2 + step / 1e5)]) for step in range(MAX_PLACES // 2)]
    began = time.process_time()
    found, again = places([info(*areas[:2_500]), info(*areas[:2_500])], ground)
    assert time.process_time() - began < 20
    assert covered == [2_500], "once, and not for the translation again"
    assert found is again
    assert sum(len(each.polygons) for each in found.wishes) <= MOST_SHAPES
    with pytest.raises(Invalid) as refused:
        places([info(*areas), info(area("02"))], ground)
    assert refused.value.faults[0].code == "cap_too_many"


def of_a_province() -> Ground:
    """Ten thousand devices of as many places, as a whole province or more has them."""
    spread = [at(20 + step // 100 / 50, 105 + step % 100 / 50) for step in range(10_000)]
    return Ground(TREE, PROVINCE, ("DVHC",), {NORTH: spread})


def test_shapes_of_our_latitude_far_away_cost_nothing() -> None:
    """Each of 10,000 circles was held against each of 10,000 devices: two minutes within a transaction."""
    ground = of_a_province()
    far = [CapCircle(centre=at(21 + step / 1e5, 150), radius_km=300) for step in range(MAX_PLACES // 4)]
    rings = [square(20.5 + step / 1e5, -60) for step in range(MAX_PLACES // 4)]
    (found,) = places(
        [info(*(area(circles=[one], polygons=[two]) for one, two in zip(far, rings, strict=True)))], ground
    )
    assert (found.wishes, ground.work) == ((), 0)


def test_the_same_circle_is_looked_up_once() -> None:
    ground = of_a_province()
    near = CapCircle(centre=at(21.011, 106.011), radius_km=1.3)  # between the devices
    places([info(area(circles=[near]))], ground)
    once = ground.work
    assert 0 < once < 1_000
    places([info(area(circles=[near] * 500)), info(area(circles=[near]), area(circles=[near]))], ground)
    assert ground.work == once


def test_a_message_that_means_to_keep_us_busy_is_refused_by_name() -> None:
    ground = of_a_province()
    holes = [CapCircle(centre=at(21.011 + step / 1e6, 106.011), radius_km=1) for step in range(5)]
    rings = [
        (at(19, 104), at(19, 108), at(23, 108), at(23, 107.99 + step / 1e6), at(19.01, 107.99), at(19.01, 104))
        for step in range(MAX_PLACES // 4)
    ]
    infos = [replace(info(area(polygons=rings[step : step + 60])), event=str(step)) for step in range(0, 2_400, 60)]
    with pytest.raises(Invalid) as refused:
        places([info(area(circles=holes)), *infos], ground)
    assert refused.value.faults[0].code == "cap_too_many"
    assert ground.work < MOST_WORK + 10_000 * 10


@pytest.mark.parametrize("centre", [at(21, 106), at(-60, 20), at(84, -179.9), at(89.9, 5), at(0, 180), at(66, -30)])
@pytest.mark.parametrize("radius_km", [0.001, 3, 250, 990, 4_000])
def test_bounds_of_a_circle_leave_nobody_out(centre: Point, radius_km: float) -> None:
    """Held against every degree of the world, and against the edge of the circle all around."""
    radius_m = max(1, round(radius_km * 1_000))
    world = [at(latitude, longitude) for latitude in range(-90, 91, 3) for longitude in range(-180, 181, 5)]
    edge = [on_the_edge(centre, radius_m * 0.999_999, turn) for turn in range(0, 360, 5)]
    circle = Circle(centre=centre, radius_m=radius_m)
    points = [*world, *edge]
    units = {UnitId(uuid.UUID(int=100 + number)): [point] for number, point in enumerate(points)}
    found = Ground(TREE, PROVINCE, ("DVHC",), units).units_around(circle)
    assert set(found) == {unit for unit, (point,) in units.items() if shapes.is_in_circle(circle, point)}
    assert len(found) >= len(edge)


def on_the_edge(centre: Point, metres: float, bearing: float) -> Point:
    """Where one comes to who goes so far that way (great circle)."""
    turn, angle, latitude = math.radians(bearing), metres / shapes.EARTH_RADIUS_M, math.radians(centre.latitude)
    end = math.asin(math.sin(latitude) * math.cos(angle) + math.cos(latitude) * math.sin(angle) * math.cos(turn))
    across = math.atan2(
        math.sin(turn) * math.sin(angle) * math.cos(latitude), math.cos(angle) - math.sin(latitude) * math.sin(end)
    )
    return at(math.degrees(end), (centre.longitude + math.degrees(across) + 540) % 360 - 180)
