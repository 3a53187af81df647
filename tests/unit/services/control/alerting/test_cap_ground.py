"""Areas of CAP messages on the ground of a unit: what is ours is found, what is not is told, and nobody waits long for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import date

import pytest

from schemas.identifiers import UnitId
from services.control.alerting import shapes
from services.control.alerting.cap import CapArea, CapCircle, CapInfo, Named
from services.control.alerting.cap_areas import MOST_SHAPES
from services.control.alerting.cap_ground import MAX_PLACES, Ground, Place, places
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
