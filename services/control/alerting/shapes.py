"""Shapes on the map: what lies inside, and shapes with fewer corners that leave nobody out. Pure.

Degrees are taken as a plane, as devices take them; no shape crosses the antimeridian. Whatever is changed here only ever
grows: one loudspeaker too many is a nuisance, one too few is not.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from services.control.alerting.model import Circle, Point, Polygon

EARTH_RADIUS_M = 6_371_008.8  # mean radius (IUGG)
_TOLERANCE = 1e-9  # degrees: a tenth of a millimetre
# Pairs of edges that a ring is searched for crossings by: all of 400 corners, of more so many for each. What is drawn of
# the world takes a handful for each; what is more tangled counts as crossing itself, so nobody has us try for minutes.
_LEAST_PAIRS, _PAIRS_A_CORNER = 80_000, 100

_Corner = tuple[float, float]  # longitude, latitude: x, y
_Ends = tuple[float, float]  # the lower and the higher of two numbers
_Edge = tuple[_Ends, _Ends, _Corner, _Corner]  # along one axis, along the other, from, to


def distance_m(one: Point, other: Point) -> float:
    """Metres between two points, along the great circle."""
    one_phi, other_phi = math.radians(one.latitude), math.radians(other.latitude)
    half_lambda = math.radians(other.longitude - one.longitude) / 2
    across = (
        math.sin((other_phi - one_phi) / 2) ** 2 + math.cos(one_phi) * math.cos(other_phi) * math.sin(half_lambda) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(across)))


def is_in_circle(circle: Circle, point: Point) -> bool:
    """Whether the point lies in the circle or on it."""
    return distance_m(circle.centre, point) <= circle.radius_m


class Outline:
    """A polygon, made ready to be held against many points."""

    def __init__(self, polygon: Polygon) -> None:
        ring = [_corner(each) for each in polygon]
        self._edges = [
            (min(a[1], b[1]) - _TOLERANCE, max(a[1], b[1]) + _TOLERANCE, a, b)
            for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)
        ]

    def holds(self, point: Point) -> bool:
        """Whether the point lies inside by the even-odd rule, or on an edge."""
        x, y = corner = _corner(point)
        is_odd = False
        for low, high, a, b in self._edges:
            if not low <= y <= high:
                continue  # nine edges of ten, and all there is to say of them
            if _is_on(a, b, corner):
                return True
            if (a[1] > y) != (b[1] > y) and x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0]:
                is_odd = not is_odd
        return is_odd


def is_in_polygon(polygon: Polygon, point: Point) -> bool:
    """Whether the point lies inside by the even-odd rule, or on an edge."""
    return Outline(polygon).holds(point)


def cover(corners: Sequence[Point], *, limit: int) -> Polygon:
    """A simple polygon of at most `limit` corners that holds all of this one. At least 3 different corners are needed.

    What is simple and small enough stays as it is. A ring that crosses itself has no inside that everybody agrees on:
    its hull is taken.
    """
    ring = _ring(map(_corner, corners))
    if not _crosses(ring):
        simpler = ring if len(ring) <= limit else _grown(ring, limit)
        if simpler is ring or (len(simpler) <= limit and not _crosses(simpler) and _holds(simpler, ring)):
            return _polygon(simpler)
    return _polygon(_grown(_hull(ring), limit))


def cover_all(polygons: Sequence[Polygon], *, most: int, limit: int) -> tuple[Polygon, ...]:
    """At most `most` simple polygons of at most `limit` corners that hold all of these: neighbours become their hull."""
    if len(polygons) <= most:
        return tuple(cover(each, limit=limit) for each in polygons)
    in_order = sorted(polygons, key=lambda each: (min(p.longitude for p in each), min(p.latitude for p in each)))
    size = -(-len(in_order) // most)
    groups = (in_order[start : start + size] for start in range(0, len(in_order), size))
    return tuple(
        _polygon(_grown(_hull(_corner(point) for polygon in group for point in polygon), limit)) for group in groups
    )


def crosses_itself(corners: Sequence[Point]) -> bool:
    """Whether two edges of the ring cross; touching is not crossing. Also where it is too tangled to tell."""
    return _crosses(_ring(map(_corner, corners)))


def _corner(point: Point) -> _Corner:
    return (point.longitude, point.latitude)


def _polygon(ring: Iterable[_Corner]) -> Polygon:
    return tuple(Point(latitude=y, longitude=x) for x, y in ring)


def _ring(corners: Iterable[_Corner]) -> list[_Corner]:
    """The corners without repetitions next to each other, the first not repeated at the end."""
    ring = [corner for corner, _ in itertools.groupby(corners)]
    while len(ring) > 1 and ring[0] == ring[-1]:
        ring.pop()
    return ring


def _turn(a: _Corner, b: _Corner, c: _Corner) -> float:
    """Twice the area of the triangle; positive where the way turns left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _is_on(a: _Corner, b: _Corner, point: _Corner) -> bool:
    """Whether the point lies on the edge, within the tolerance."""
    length = math.dist(a, b)
    if abs(_turn(a, b, point)) > _TOLERANCE * max(length, _TOLERANCE):
        return False
    return all(min(a[i], b[i]) - _TOLERANCE <= point[i] <= max(a[i], b[i]) + _TOLERANCE for i in (0, 1))


def _holds(ring: Sequence[_Corner], corners: Iterable[_Corner]) -> bool:
    outline = Outline(_polygon(ring))
    return all(map(outline.holds, _polygon(corners)))


def _crosses(ring: Sequence[_Corner]) -> bool:
    edges = list(zip(ring, [*ring[1:], ring[0]], strict=True))
    # Along the axis on which they are shorter, so that few of them stand side by side.
    along = min((0, 1), key=lambda axis: sum(abs(a[axis] - b[axis]) for a, b in edges))
    pairs = _side_by_side(sorted((_ends(a, b, along), _ends(a, b, 1 - along), a, b) for a, b in edges))
    for (_, (low, high), a, b), (_, (other_low, other_high), c, d) in itertools.islice(
        pairs, max(_LEAST_PAIRS, _PAIRS_A_CORNER * len(ring))
    ):
        if other_low <= high and low <= other_high and _cross(a, b, c, d):
            return True
    return next(pairs, None) is not None


def _side_by_side(edges: Sequence[_Edge]) -> Iterator[tuple[_Edge, _Edge]]:
    """Of edges in the order in which they begin each with those that begin before it ends."""
    for place, one in enumerate(edges, start=1):
        for after in range(place, len(edges)):
            if edges[after][0][0] > one[0][1]:
                break
            yield one, edges[after]


def _ends(a: _Corner, b: _Corner, axis: int) -> _Ends:
    return (a[axis], b[axis]) if a[axis] <= b[axis] else (b[axis], a[axis])


def _cross(a: _Corner, b: _Corner, c: _Corner, d: _Corner) -> bool:
    """Whether the edges cross in a point that is an end of neither."""
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _hull(ring: Iterable[_Corner]) -> list[_Corner]:
    """The convex hull, counter-clockwise (monotone chain)."""
    corners = sorted(set(ring))

    def half(ordered: Iterable[_Corner]) -> list[_Corner]:
        chain: list[_Corner] = []
        for corner in ordered:
            while len(chain) >= 2 and _turn(chain[-2], chain[-1], corner) <= 0:
                chain.pop()
            chain.append(corner)
        return chain[:-1]

    return half(corners) + half(reversed(corners))


def _grown(ring: Sequence[_Corner], limit: int) -> list[_Corner]:
    """The ring with corners taken away where that adds the least area and takes none, until `limit` are left.

    A corner that points inwards is left out; two that point outwards become the one in which the edges around them meet.
    More than `limit` are left where neither can be done.
    """
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
    return _Growth(ring if area > 0 else ring[::-1]).until(limit)


class _Growth:
    """A ring, counter-clockwise, as a linked list, and what each step to fewer corners would add."""

    def __init__(self, ring: Sequence[_Corner]) -> None:
        count = len(ring)
        self._corners = list(ring)
        self._next = [(each + 1) % count for each in range(count)]
        self._previous = [each - 1 if each else count - 1 for each in range(count)]
        self._stamps = [0] * count
        self._is_gone = [False] * count
        self._left = count
        self._steps: list[tuple[float, int, int, _Corner | None]] = []
        for each in range(count):
            self._offer(each)

    def until(self, limit: int) -> list[_Corner]:
        """The corners once there are at most `limit`, or no step is left."""
        while self._left > max(3, limit) and self._steps:
            _, each, stamp, meeting = heapq.heappop(self._steps)
            if self._is_gone[each] or stamp != self._stamps[each]:
                continue
            self._take(each, meeting)
        first = self._is_gone.index(False)
        order = [first]
        while (following := self._next[order[-1]]) != first:
            order.append(following)
        return [self._corners[each] for each in order]

    def _offer(self, each: int) -> None:
        """Note the cheapest step that begins at a corner."""
        a, b = self._corners[self._previous[each]], self._corners[each]
        c = self._corners[self._next[each]]
        turn = _turn(a, b, c)
        if turn <= 0:
            heapq.heappush(self._steps, (-turn, each, self._stamps[each], None))
            return
        d = self._corners[self._next[self._next[each]]]
        meeting = _meeting(a, b, c, d) if _turn(b, c, d) > 0 else None
        if meeting is not None:
            heapq.heappush(self._steps, (abs(_turn(b, meeting, c)), each, self._stamps[each], meeting))

    def _take(self, each: int, meeting: _Corner | None) -> None:
        before, after = self._previous[each], self._next[each]
        if meeting is None:
            self._is_gone[each] = True
            self._next[before], self._previous[after] = after, before
        else:
            self._corners[each] = meeting
            self._is_gone[after] = True
            self._next[each] = self._next[after]
            self._previous[self._next[after]] = each
        self._left -= 1
        around = self._next[before]
        for touched in {self._previous[before], before, around, self._next[around]}:
            self._stamps[touched] += 1
            self._offer(touched)


def _meeting(a: _Corner, b: _Corner, c: _Corner, d: _Corner) -> _Corner | None:
    """Where the way from `a` through `b` meets the way from `d` through `c`, beyond both; None where it does not."""
    along, against = (b[0] - a[0], b[1] - a[1]), (c[0] - d[0], c[1] - d[1])
    spread = along[0] * against[1] - along[1] * against[0]
    if spread >= 0:
        return None  # they part, or run side by side
    share = ((c[0] - b[0]) * against[1] - (c[1] - b[1]) * against[0]) / spread
    x, y = b[0] + share * along[0], b[1] + share * along[1]
    return (x, y) if share >= 0 and abs(x) <= 180 and abs(y) <= 90 else None
