"""The audience table: devices, audiences, and which of the devices each one addresses, as a person states it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from schemas.alerts import Area, Audience, Circle
from schemas.configuration import Ownership, Position
from schemas.fields import DeviceKind

# A tree: a province with two districts, one of two communes and one of one; and a commune elsewhere.
PROVINCE, FIRST, SECOND, ELSEWHERE, HILL, SHORE, TOWN = (
    uuid.uuid5(uuid.NAMESPACE_OID, f"audience {name}")
    for name in ("province", "first", "second", "elsewhere", "hill", "shore", "town")
)
HILL_PATH, SHORE_PATH = (PROVINCE, FIRST, HILL), (PROVINCE, FIRST, SHORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A device as its signed configuration describes it."""

    device: str
    kind: DeviceKind = DeviceKind.CLUSTER
    ownership: Ownership = Ownership.PUBLIC
    membership: tuple[uuid.UUID, ...] = HILL_PATH
    position: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """An audience, and whom it addresses (stated by hand, not computed)."""

    name: str
    audience: Audience
    addressed: frozenset[str]


def at(latitude_e6: int, longitude_e6: int) -> Position:
    return Position(latitude_e6=latitude_e6, longitude_e6=longitude_e6)


# A square of a tenth of a degree, a notch cut into it from the north, and points in, on and beside both.
SQUARE = (
    at(20_000_000, 105_000_000),
    at(20_000_000, 105_100_000),
    at(20_100_000, 105_100_000),
    at(20_100_000, 105_000_000),
)
NOTCHED = (*SQUARE[:3], at(20_050_000, 105_050_000), SQUARE[3])
# Five lines that cross: what lies in the middle is crossed twice, and outside by the even-odd rule.
STAR = (
    at(20_100_000, 105_050_000),
    at(20_010_000, 105_080_000),
    at(20_065_000, 105_002_000),
    at(20_065_000, 105_098_000),
    at(20_010_000, 105_020_000),
)
# A degree of latitude is 111,195.08 m on the sphere of mean radius: a tenth of it 11,119.508 m.
RIM = at(20_000_000, 106_000_000)

DEVICES = (
    Addressee(device="in-the-middle", position=at(20_050_000, 105_049_000)),
    Addressee(device="in-the-notch", position=at(20_090_000, 105_050_000)),
    Addressee(device="on-a-corner", position=SQUARE[0]),
    Addressee(device="on-an-edge", position=at(20_000_000, 105_033_333)),
    Addressee(device="on-a-slope", position=at(20_075_000, 105_075_000)),
    Addressee(device="just-outside", position=at(19_999_999, 105_033_333)),
    Addressee(device="beside-an-edge", position=at(20_050_000, 105_100_001)),
    Addressee(device="nowhere", membership=SHORE_PATH),
    Addressee(device="within-the-rim", membership=SHORE_PATH, position=at(20_100_000, 106_000_000)),
    Addressee(device="beyond-the-rim", membership=SHORE_PATH, position=at(20_100_005, 106_000_000)),
    Addressee(device="east-of-the-rim", membership=SHORE_PATH, position=at(20_000_000, 106_107_000)),
    Addressee(device="board", kind=DeviceKind.BOARD, ownership=Ownership.PRIVATE),
    Addressee(device="shared-board", kind=DeviceKind.BOARD, ownership=Ownership.PRIVATE_WITH_PUBLIC_SHARE),
    Addressee(device="gauge", kind=DeviceKind.SENSOR, membership=(PROVINCE, SECOND, TOWN)),
    Addressee(device="stranger", membership=(ELSEWHERE,), position=at(20_050_000, 105_049_000)),
)
EVERYBODY = frozenset(each.device for each in DEVICES)
_HILL = frozenset(each.device for each in DEVICES if each.membership == HILL_PATH)
_SHORE = frozenset(each.device for each in DEVICES if each.membership == SHORE_PATH)
_INSIDE = frozenset({"in-the-middle", "in-the-notch", "on-a-corner", "on-an-edge", "on-a-slope"})
_UNPLACED_BOARDS = frozenset({"board", "shared-board"})  # without a position they are inside every shape


def _areas(
    *units: uuid.UUID, polygons: tuple[tuple[Position, ...], ...] = (), circles: tuple[Circle, ...] = ()
) -> Area:
    return Area(units=units, polygons=polygons, circles=circles)


def audiences() -> tuple[Addressed, ...]:
    """Return the audience table."""
    ours = EVERYBODY - {"stranger"}
    circle = Circle(centre=RIM, radius_m=11_120)
    table: list[tuple[str, Audience, frozenset[str]]] = [
        ("a province is everybody below it", Audience(areas=(_areas(PROVINCE),)), ours),
        ("a commune is its own devices", Audience(areas=(_areas(HILL),)), _HILL),
        ("of two communes both", Audience(areas=(_areas(HILL, SHORE),)), _HILL | _SHORE),
        ("of two areas both", Audience(areas=(_areas(HILL), _areas(ELSEWHERE))), _HILL | {"stranger"}),
        (
            "a unit nobody lies in",
            Audience(areas=(_areas(uuid.uuid5(uuid.NAMESPACE_OID, "audience empty")),)),
            frozenset(),
        ),
        (
            "edges and corners of a polygon are inside, and who has no position",
            Audience(areas=(_areas(FIRST, polygons=(SQUARE,)),)),
            _INSIDE | _UNPLACED_BOARDS | {"nowhere"},
        ),
        (
            "a notch is outside, its edges are not",
            Audience(areas=(_areas(FIRST, polygons=(NOTCHED,)),)),
            (_INSIDE - {"in-the-notch"}) | _UNPLACED_BOARDS | {"nowhere"},
        ),
        (
            "the other way round and from another corner it is the same polygon",
            Audience(areas=(_areas(FIRST, polygons=((*reversed(NOTCHED[2:]), *reversed(NOTCHED[:2])),)),)),
            (_INSIDE - {"in-the-notch"}) | _UNPLACED_BOARDS | {"nowhere"},
        ),
        (
            "what lines cross twice is outside",
            Audience(areas=(_areas(HILL, polygons=(STAR,)),)),
            _UNPLACED_BOARDS | {"in-the-notch"},
        ),
        (
            "of two polygons either",
            Audience(areas=(_areas(HILL, polygons=(STAR, NOTCHED)),)),
            _INSIDE | _UNPLACED_BOARDS,
        ),
        (
            "a polygon only cuts out of its units",
            Audience(areas=(_areas(SHORE, polygons=(SQUARE,)),)),
            frozenset({"nowhere"}),
        ),
        (
            "shapes of one area do not bound another",
            Audience(areas=(_areas(SHORE, polygons=(SQUARE,)), _areas(SECOND))),
            frozenset({"nowhere", "gauge"}),
        ),
        (
            "a circle reaches as far as its radius along the great circle",
            Audience(areas=(_areas(SHORE, circles=(circle,)),)),
            frozenset({"nowhere", "within-the-rim"}),
        ),
        (
            "a metre more, and more to the east, where degrees are shorter",
            Audience(areas=(_areas(SHORE, circles=(circle.model_copy(update={"radius_m": 11_181}),)),)),
            _SHORE,
        ),
        (
            "a circle or a polygon",
            Audience(areas=(_areas(FIRST, polygons=(SQUARE,), circles=(circle,)),)),
            _INSIDE | _UNPLACED_BOARDS | {"nowhere", "within-the-rim"},
        ),
        ("devices by name", Audience(devices=("gauge", "stranger", "unknown")), frozenset({"gauge", "stranger"})),
        (
            "areas or names",
            Audience(areas=(_areas(SHORE),), devices=("gauge",)),
            _SHORE | {"gauge"},
        ),
        (
            "without a unit below",
            Audience(areas=(_areas(PROVINCE),), except_units=(FIRST,)),
            frozenset({"gauge"}),
        ),
        (
            "without devices",
            Audience(areas=(_areas(PROVINCE),), except_devices=("board", "stranger")),
            ours - {"board"},
        ),
        ("an exception counts more than a name", Audience(devices=("board",), except_devices=("board",)), frozenset()),
        (
            "a unit that is excepted counts more than a name",
            Audience(devices=("board", "gauge"), except_units=(HILL,)),
            frozenset({"gauge"}),
        ),
        ("of one kind", Audience(areas=(_areas(PROVINCE),), kinds=(DeviceKind.BOARD,)), _UNPLACED_BOARDS),
        (
            "of two kinds",
            Audience(areas=(_areas(PROVINCE),), kinds=(DeviceKind.BOARD, DeviceKind.SENSOR)),
            _UNPLACED_BOARDS | {"gauge"},
        ),
        (
            "of one ownership",
            Audience(areas=(_areas(PROVINCE),), ownerships=(Ownership.PRIVATE_WITH_PUBLIC_SHARE,)),
            frozenset({"shared-board"}),
        ),
        (
            "kind and ownership bound names too",
            Audience(
                devices=("board", "shared-board", "gauge"), kinds=(DeviceKind.BOARD,), ownerships=(Ownership.PRIVATE,)
            ),
            frozenset({"board"}),
        ),
    ]
    return tuple(Addressed(name=name, audience=audience, addressed=meant) for name, audience, meant in table)
