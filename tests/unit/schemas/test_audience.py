"""Whom an alert is for: table and laws of the one rule."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.alerts import Area, Audience, Circle
from schemas.audience import addresses, distance_m, is_in_circle, is_in_polygon
from schemas.configuration import Ownership, Position
from schemas.fields import DeviceKind

PROVINCE, NORTH, SOUTH = (uuid.UUID(int=n) for n in (1, 2, 3))


def at(latitude: float, longitude: float) -> Position:
    return Position(latitude_e6=round(latitude * 1e6), longitude_e6=round(longitude * 1e6))


SQUARE = (at(21, 106), at(21, 107), at(22, 107), at(22, 106))
INSIDE, OUTSIDE = at(21.5, 106.5), at(21.5, 107.5)
DEVICE: dict[str, Any] = {
    "device": "loa-1",
    "kind": DeviceKind.CLUSTER,
    "ownership": Ownership.PUBLIC,
    "membership": (PROVINCE, NORTH),
    "position": INSIDE,
}
EVERYWHERE = (Area(units=(PROVINCE,)),)


@pytest.mark.parametrize(
    ("audience", "device", "is_addressed"),
    [
        pytest.param({"areas": EVERYWHERE}, {}, True, id="whole_province"),
        pytest.param({"areas": (Area(units=(SOUTH,)),)}, {}, False, id="another_unit"),
        pytest.param({"areas": (Area(units=(SOUTH,)), Area(units=(NORTH,)))}, {}, True, id="any_of_two_areas"),
        pytest.param({"areas": EVERYWHERE, "except_units": (NORTH,)}, {}, False, id="unit_excepted"),
        pytest.param({"areas": EVERYWHERE, "except_devices": ("loa-1",)}, {}, False, id="device_excepted"),
        pytest.param({"devices": ("loa-1",)}, {}, True, id="named"),
        pytest.param({"devices": ("loa-2",)}, {}, False, id="another_one_named"),
        pytest.param({"devices": ("loa-1",), "except_units": (NORTH,)}, {}, False, id="named_on_excepted_ground"),
        pytest.param({"areas": EVERYWHERE, "kinds": (DeviceKind.BOARD,)}, {}, False, id="another_kind"),
        pytest.param({"areas": EVERYWHERE, "ownerships": (Ownership.PRIVATE,)}, {}, False, id="another_owner"),
        pytest.param({"areas": (Area(units=(PROVINCE,), polygons=(SQUARE,)),)}, {}, True, id="inside"),
        pytest.param(
            {"areas": (Area(units=(PROVINCE,), polygons=(SQUARE,)),)}, {"position": OUTSIDE}, False, id="outside"
        ),
        pytest.param(
            {"areas": (Area(units=(SOUTH,), polygons=(SQUARE,)),)}, {}, False, id="inside_but_of_another_unit"
        ),
        pytest.param(
            {"areas": (Area(units=(PROVINCE,), polygons=(SQUARE,)),)}, {"position": None}, True, id="nobody_knows_where"
        ),
        pytest.param(
            {"areas": (Area(units=(PROVINCE,), polygons=(SQUARE,), circles=(Circle(centre=OUTSIDE, radius_m=10),)),)},
            {"position": OUTSIDE},
            True,
            id="any_of_two_shapes",
        ),
    ],
)
def test_who_is_addressed(audience: dict[str, Any], device: dict[str, Any], is_addressed: bool) -> None:
    assert addresses(Audience(**audience), **{**DEVICE, **device}) is is_addressed


@pytest.mark.parametrize("edge", [at(21, 106), at(22, 107), at(21, 106.5), at(21.5, 106), at(21.5, 107)])
def test_edges_and_corners_lie_inside(edge: Position) -> None:
    assert is_in_polygon(SQUARE, edge)
    assert is_in_polygon(SQUARE[::-1], edge)


def test_a_circle_is_measured_along_the_great_circle() -> None:
    one, other = at(21.0, 106.0), at(21.1, 106.0)
    away = distance_m(one, other)

    assert away == pytest.approx(11_119.5, abs=0.5)  # a tenth of a degree of a meridian
    assert is_in_circle(Circle(centre=one, radius_m=11_120), other)
    assert not is_in_circle(Circle(centre=one, radius_m=11_119), other)


positions = st.builds(
    Position, latitude_e6=st.integers(-90_000_000, 90_000_000), longitude_e6=st.integers(-180_000_000, 180_000_000)
)


@given(st.lists(positions, min_size=3, max_size=8), positions, st.integers(0, 7))
def test_where_a_polygon_begins_and_which_way_it_goes_does_not_matter(
    corners: list[Position], point: Position, turn: int
) -> None:
    turned = (*corners[turn:], *corners[:turn])

    assert is_in_polygon(tuple(corners), point) == is_in_polygon(turned, point) == is_in_polygon(turned[::-1], point)


@given(st.integers(1, 999), st.integers(1, 999))
def test_inside_a_convex_ring_is_inside(x: int, y: int) -> None:
    corners = (at(0, 0), at(0, 0.001), at(0.001, 0.001), at(0.001, 0))

    assert is_in_polygon(corners, Position(latitude_e6=y, longitude_e6=x))
    assert not is_in_polygon(corners, Position(latitude_e6=y + 1_000, longitude_e6=x))
