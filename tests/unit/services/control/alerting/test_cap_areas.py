"""However many shapes and units a CAP message means, its alerts name as many as an alert may, and leave nobody out."""

from __future__ import annotations

import uuid
from datetime import date

from schemas.identifiers import DeviceId, UnitId
from services.control.alerting import shapes
from services.control.alerting.cap_areas import MOST_SHAPES, everybody, of_few_units, united
from services.control.alerting.model import (
    MAX_AREAS,
    MAX_SHAPES,
    MAX_UNITS,
    AreaWish,
    AudienceWish,
    Circle,
    Point,
    Polygon,
)
from services.control.alerting.requests import Known, audience_faults
from services.control.units import UnitHeir, UnitTree, UnitVersion

ROOT = UnitId(uuid.UUID(int=1))
PROVINCES = [UnitId(uuid.UUID(int=1_000 * number)) for number in range(1, 11)]
COMMUNES = [UnitId(uuid.UUID(int=province.int + number)) for province in PROVINCES for number in range(1, 61)]
PARENTS: dict[UnitId, UnitId | None] = {
    ROOT: None,
    **dict.fromkeys(PROVINCES, ROOT),
    **{each: PROVINCES[place // 60] for place, each in enumerate(COMMUNES)},
}
TREE = UnitTree(
    UnitVersion(
        unit_id=unit,
        parent_id=parent,
        valid_from=date(2020, 1, 1),
        code=str(unit.int),
        level="unit",
        name=str(unit.int),
    )
    for unit, parent in PARENTS.items()
)


def square(number: int, size: float = 0.01) -> Polygon:
    south, west = 20 + number / 100, 105 + number / 100
    corners = ((south, west), (south, west + size), (south + size, west + size), (south + size, west))
    return tuple(Point(latitude=latitude, longitude=longitude) for latitude, longitude in corners)


def shaped(number: int, *units: UnitId) -> AreaWish:
    return AreaWish(units=units or (COMMUNES[number],), polygons=(square(number),))


def faults(*areas: AreaWish) -> list[str]:
    return [each.code for each in audience_faults(AudienceWish(areas=areas), Known(tree=TREE, devices={}, media={}))]


def test_as_many_grounds_as_a_message_may_have_become_as_many_areas_as_an_alert_may_have() -> None:
    several = [shaped(number) for number in range(MAX_AREAS * 2)]
    assert faults(*several) == ["too_many"]
    found = united([*several, AreaWish(units=(PROVINCES[8],)), AreaWish(units=(PROVINCES[9],))])
    assert faults(*found) == []
    assert [(len(each.units), len(each.polygons)) for each in found] == [(2, 0), (32, MAX_SHAPES), (32, MAX_SHAPES)]
    assert {each for area in found for each in area.polygons} == {each for area in several for each in area.polygons}
    assert united(reversed(several)) == united(several), "translations mean the same ground in any order"


def test_more_shapes_than_an_alert_holds_become_larger_ones() -> None:
    several = [shaped(number) for number in range(MOST_SHAPES * 2)]
    found = united(several)
    assert faults(*found) == []
    polygons = [each for area in found for each in area.polygons]
    corners = [corner for area in several for polygon in area.polygons for corner in polygon]
    assert all(any(shapes.is_in_polygon(polygon, corner) for polygon in polygons) for corner in corners)


def test_of_more_circles_than_an_alert_holds_the_units_are_warned_as_a_whole() -> None:
    several = [
        AreaWish(units=(COMMUNES[number],), circles=(Circle(centre=square(number)[0], radius_m=100),))
        for number in range(MOST_SHAPES + 3)
    ]
    whole, *rest = united(several)
    assert (whole.units, faults(whole, *rest)) == (tuple(COMMUNES[MOST_SHAPES : MOST_SHAPES + 3]), [])
    assert sum(len(each.circles) for each in rest) == MOST_SHAPES


def test_a_storm_over_more_communes_than_an_alert_names_goes_to_their_provinces_within_its_shape() -> None:
    codes = AreaWish(units=tuple(COMMUNES[:10]))
    storm = shaped(0, *COMMUNES[10:])
    assert "too_many" in faults(codes, storm)
    whole, around = of_few_units((codes, storm), TREE)
    assert whole == codes, "named as a whole: nothing above it was meant"
    assert (around.polygons, faults(whole, around)) == (storm.polygons, [])
    assert len({*whole.units, *around.units}) <= MAX_UNITS
    assert all(any(TREE.covers(above, each) for above in around.units) for each in storm.units)
    assert ROOT not in around.units
    assert of_few_units((codes,), TREE) == (codes,)


def test_more_codes_than_an_alert_names_become_as_few_units_above_as_will_do() -> None:
    many = AreaWish(units=tuple(COMMUNES[: MAX_UNITS + 4]))
    (found,) = of_few_units((many,), TREE)
    assert faults(found) == []
    assert sorted(set(found.units) - set(COMMUNES)) == [PROVINCES[0]], "one province takes the place of its communes"


def test_everybody_is_whom_any_means_and_only_what_all_leave_out_is_left_out() -> None:
    one, other, third = COMMUNES[:3]
    siren, board = DeviceId("siren"), DeviceId("board")
    clusters = AudienceWish(
        areas=(AreaWish(units=(one,)),), except_units=(third, other), except_devices=(siren,), kinds=("cluster",)
    )
    boards = AudienceWish(
        areas=(AreaWish(units=(one,)), AreaWish(units=(other,))),
        devices=(board,),
        except_units=(third,),
        except_devices=(siren, board),
        kinds=("board",),
        ownerships=("public",),
    )
    assert everybody([clusters, boards], TREE) == AudienceWish(
        areas=(AreaWish(units=(one,)), AreaWish(units=(other,))),
        devices=(board,),
        except_units=(third,),
        except_devices=(siren,),
        kinds=("cluster", "board"),
    )
    unlimited = AudienceWish.of_units(other)
    assert everybody([clusters, unlimited], TREE) == AudienceWish(
        areas=(AreaWish(units=(one,)), AreaWish(units=(other,)))
    )
    assert everybody([boards], TREE) == boards


def test_everybody_after_a_reform_is_told_by_the_units_of_today() -> None:
    closed, spared, heir = UnitId(uuid.UUID(int=1)), UnitId(uuid.UUID(int=2)), UnitId(uuid.UUID(int=3))
    day = date(2025, 7, 1)
    tree = UnitTree(
        [UnitVersion(unit_id=heir, parent_id=None, valid_from=day, code="3", level="unit", name="3")],
        [UnitHeir(unit_id=each, heir_id=heir, valid_from=day, keeps_rights=True) for each in (closed, spared)],
    )
    wish = AudienceWish(areas=(AreaWish(units=(closed,)), AreaWish(units=(heir, closed))), except_units=(spared,))
    assert everybody([wish], tree) == AudienceWish.of_units(heir), "the heir of who was spared is more than that"


def test_everybody_of_many_shapes_and_units_is_whole_units_of_few() -> None:
    shaped = [AudienceWish(areas=(AreaWish(units=(each,), polygons=(square(0),)),)) for each in COMMUNES[:MAX_AREAS]]
    assert everybody(shaped, TREE).areas == tuple(each.areas[0] for each in shaped)
    many = everybody([*shaped, AudienceWish.of_units(*COMMUNES[MAX_AREAS:])], TREE)
    assert {(each.polygons, len(each.units) <= MAX_UNITS) for each in many.areas} == {((), True)}
    assert all(any(TREE.covers(unit, each) for unit in many.units) for each in COMMUNES)
