"""Whom an alert is for: the one rule, the same on server and device. Pure and total.

Degrees are taken as a plane for polygons (even-odd rule, edges and corners count as inside) and as a sphere of mean radius
for circles (great circle, the rim counts as inside). No polygon crosses the antimeridian: one that would is written as two.
A device without a position counts as inside every shape: an alert too many is a nuisance, one too few is not.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection

from schemas.alerts import Area, Audience, Circle
from schemas.configuration import Ownership, Position
from schemas.fields import DeviceKind

EARTH_RADIUS_M = 6_371_008.8  # mean radius (IUGG)
_MICRO = 1_000_000


def addresses(
    audience: Audience,
    *,
    device: str,
    kind: DeviceKind,
    ownership: Ownership,
    membership: Collection[uuid.UUID],
    position: Position | None,
) -> bool:
    """Whether the audience holds the device; `membership` are the units it lies in, from the root down."""
    if audience.kinds and kind not in audience.kinds:
        return False
    if audience.ownerships and ownership not in audience.ownerships:
        return False
    if device in audience.except_devices or any(unit in membership for unit in audience.except_units):
        return False
    return device in audience.devices or any(_holds(area, membership, position) for area in audience.areas)


def _holds(area: Area, membership: Collection[uuid.UUID], position: Position | None) -> bool:
    if not any(unit in membership for unit in area.units):
        return False
    if position is None or not (area.polygons or area.circles):
        return True
    return any(is_in_circle(circle, position) for circle in area.circles) or any(
        is_in_polygon(corners, position) for corners in area.polygons
    )


def is_in_circle(circle: Circle, position: Position) -> bool:
    """Whether the position lies in the circle or on its rim."""
    return distance_m(circle.centre, position) <= circle.radius_m


def distance_m(one: Position, other: Position) -> float:
    """Metres along the great circle (haversine)."""
    one_phi, other_phi = (math.radians(each.latitude_e6 / _MICRO) for each in (one, other))
    half_lambda = math.radians((other.longitude_e6 - one.longitude_e6) / _MICRO) / 2
    across = (
        math.sin((other_phi - one_phi) / 2) ** 2 + math.cos(one_phi) * math.cos(other_phi) * math.sin(half_lambda) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(across)))


def is_in_polygon(corners: tuple[Position, ...], position: Position) -> bool:
    """Whether the position lies inside by the even-odd rule, or on an edge. Exact: whole numbers throughout."""
    x, y = position.longitude_e6, position.latitude_e6
    is_inside = False
    for one, other in zip(corners, (*corners[1:], corners[0]), strict=True):
        x1, y1, x2, y2 = one.longitude_e6, one.latitude_e6, other.longitude_e6, other.latitude_e6
        turn = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
        if turn == 0 and min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2):
            return True
        # A ray to the east crosses the edge when the edge begins on one side of it and the point lies west of the edge.
        if (y1 > y) != (y2 > y) and (turn > 0) == (y2 > y1):
            is_inside = not is_inside
    return is_inside
