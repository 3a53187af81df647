"""Shapes with fewer corners leave nobody out."""

from __future__ import annotations

import itertools
import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.alerting.model import Circle, Point
from services.control.alerting.shapes import (
    cover,
    cover_all,
    crosses_itself,
    distance_m,
    is_in_circle,
    is_in_polygon,
)


def at(latitude: float, longitude: float) -> Point:
    return Point(latitude=latitude, longitude=longitude)


SQUARE = (at(21, 106), at(21, 107), at(22, 107), at(22, 106))
# A bay reaches into it from the north.
BAY = (at(21, 106), at(21, 107), at(22, 107), at(21.2, 106.5), at(22, 106))
BOW_TIE = (at(21, 106), at(22, 107), at(22, 106), at(21, 107))


def star(seed: int, corners: int) -> tuple[Point, ...]:
    """A ragged ring around a point: simple, as every ray from the middle meets it once."""
    draw = random.Random(seed)
    turns = [2 * math.pi * each / corners for each in range(corners)]
    sizes = [0.1 + 0.3 * draw.random() for _ in turns]
    return tuple(
        at(21.3 + size * math.sin(turn), 106.4 + size * math.cos(turn)) for turn, size in zip(turns, sizes, strict=True)
    )


@pytest.mark.parametrize(
    ("polygon", "point", "inside"),
    [
        (SQUARE, at(21.5, 106.5), True),
        (SQUARE, at(21, 106.5), True),  # on an edge
        (SQUARE, at(22, 107), True),  # on a corner
        (SQUARE, at(20.999, 106.5), False),
        (BAY, at(21.6, 106.5), False),
        (BAY, at(21.1, 106.5), True),
        (BAY, at(21.9, 106.02), True),
    ],
)
def test_inside(polygon: tuple[Point, ...], point: Point, inside: bool) -> None:
    assert is_in_polygon(polygon, point) is inside


def test_distances_are_great_circles() -> None:
    assert distance_m(at(0, 0), at(0, 1)) == pytest.approx(111_195, rel=1e-3)
    assert distance_m(at(21, 106), at(21, 106)) == 0
    assert distance_m(at(90, 0), at(-90, 0)) == pytest.approx(math.pi * 6_371_008.8)
    assert is_in_circle(Circle(centre=at(21, 106), radius_m=1_000), at(21.008, 106))
    assert not is_in_circle(Circle(centre=at(21, 106), radius_m=1_000), at(21.01, 106))


def test_what_is_simple_and_small_stays_as_it_is() -> None:
    assert cover((*SQUARE, SQUARE[0]), limit=4) == SQUARE
    assert cover(BAY, limit=5) == BAY


def test_a_ring_that_crosses_itself_is_taken_by_its_hull() -> None:
    assert crosses_itself(BOW_TIE)
    assert not crosses_itself(BAY)
    assert set(cover(BOW_TIE, limit=256)) == set(SQUARE)


def test_touching_is_not_crossing() -> None:
    """Parts joined by a way there and back, as programs write several islands in one ring."""
    islands = (at(0, 0), at(0, 1), at(1, 1), at(1, 0), at(0, 0), at(-1, 0), at(-1, -1), at(-2, 0), at(-1, 0))
    assert not crosses_itself(islands)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=14))
def test_crossings_are_those_of_any_two_edges(pairs: list[tuple[int, int]]) -> None:
    def turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    edges = list(zip(pairs, [*pairs[1:], pairs[0]], strict=True))
    crossing = any(
        turn(a, b, c) * turn(a, b, d) < 0 and turn(c, d, a) * turn(c, d, b) < 0
        for (a, b), (c, d) in itertools.combinations(edges, 2)
    )
    assert crosses_itself([at(y, x) for x, y in pairs]) is crossing


def combs(teeth: int) -> tuple[Point, ...]:
    """A comb that points north and one that points east, joined: simple, but every tooth stands beside every other."""
    north = [
        (x, y) for each in range(teeth) for x, y in ((each, 0), (each, 1_000), (each + 0.5, 1_000), (each + 0.5, 0))
    ]
    east = [
        (x, -y) for each in range(teeth) for x, y in ((0, each), (1_000, each), (1_000, each + 0.5), (0, each + 0.5))
    ]
    ring = [
        *[(x + 10, y) for x, y in north],
        (teeth + 20, 0),
        (teeth + 20, -1),
        *[(x + teeth + 30, y - 2) for x, y in east],
    ]
    return tuple(at(20 + y / 1_000, 105 + x / 1_000) for x, y in [*ring, (0, -teeth - 10), (0, 0)])


def test_what_nobody_draws_is_not_searched_for_ever_and_leaves_nobody_out() -> None:
    assert not crosses_itself(combs(50))
    tangled = combs(250)
    assert crosses_itself(tangled)
    covered = cover(tangled, limit=16)
    assert all(is_in_polygon(covered, each) for each in tangled)


def test_a_coast_is_drawn_after_however_many_corners_it_has() -> None:
    bay = star(3, 4_000)
    middle = at(21.3, 106.4)
    reach = max(math.dist((each.latitude, each.longitude), (21.3, 106.4)) for each in bay)
    around = [
        at(middle.latitude + reach * 0.99 * math.sin(turn), middle.longitude + reach * 0.99 * math.cos(turn))
        for turn in (2 * math.pi * each / 360 for each in range(360))
    ]
    covered = cover(bay, limit=256)
    assert not all(is_in_polygon(covered, each) for each in around)  # as its hull would


@given(seed=st.integers(0, 2**32), corners=st.integers(4, 120), limit=st.integers(3, 40))
def test_a_cover_holds_every_corner_and_every_point_between(seed: int, corners: int, limit: int) -> None:
    ring = star(seed, corners)
    covered = cover(ring, limit=limit)
    assert len(covered) <= limit
    assert not crosses_itself(covered)
    for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
        for share in (0, 0.25, 0.5, 0.75):
            between = at(
                one.latitude + share * (other.latitude - one.latitude),
                one.longitude + share * (other.longitude - one.longitude),
            )
            assert is_in_polygon(covered, between)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=40, unique=True))
def test_any_corners_whatever_are_covered(pairs: list[tuple[int, int]]) -> None:
    ring = tuple(at(y / 10, x / 10) for x, y in pairs)
    spread = max(
        abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
        for a in pairs[:1]
        for b in pairs
        for c in pairs
    )
    covered = cover(ring, limit=16)
    if spread:  # all in one line have no inside
        assert len(covered) <= 16
        assert all(is_in_polygon(covered, each) for each in ring)


def test_ten_thousand_corners_take_a_moment() -> None:
    ring = star(1, 10_000)
    began = time.process_time()
    covered = cover(ring, limit=256)
    assert time.process_time() - began < 5
    assert len(covered) <= 256
    assert all(is_in_polygon(covered, each) for each in ring[::50])


def test_too_many_polygons_become_fewer_that_hold_them_all() -> None:
    squares = [tuple(at(y, x) for y, x in ((0, i), (0, i + 0.5), (0.5, i + 0.5), (0.5, i))) for i in range(40)]

    found = cover_all(squares, most=16, limit=256)

    assert len(found) <= 16
    assert all(any(is_in_polygon(each, corner) for each in found) for square in squares for corner in square)
    assert cover_all(squares[:3], most=16, limit=256) == tuple(squares[:3])
