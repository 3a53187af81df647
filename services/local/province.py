"""What the demonstration's province is made of: which devices hang where. Values in, values out.

The units are real; the devices are invented, but laid out as the field has them: clusters spread evenly over the
communes (R-20 addresses each singly), a public board per district or large commune (R-14), sensors at rivers, and one
commune whose old FM horns and LoRa sensors sit behind a gateway (R-28).
"""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BEHIND_GATEWAY = 20
BEHIND_GATEWAY_CLUSTERS = 16  # the rest of the twenty are sensors
DEVICES_PER_BOARD = 20
DEVICES_PER_SENSOR = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRow:
    """One line of a unit file."""

    code: str
    parent_code: str
    level: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """One device to be registered; `gateway` names the device that speaks for it."""

    device_id: str
    kind: str
    unit_code: str
    name: str
    technology: str = "ip"
    gateway: str | None = None
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Province:
    """The tree, the unit that will broadcast in the demonstration, and every device."""

    root: UnitRow
    host: UnitRow
    units: tuple[UnitRow, ...]
    devices: tuple[DeviceSpec, ...]


def read_units(path: Path) -> tuple[UnitRow, ...]:
    """The lines of a unit file we ship."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            UnitRow(code=row["code"], parent_code=row["parent_code"], level=row["level"], name=row["name"])
            for row in csv.DictReader(file)
        )


def lay_out(units: Sequence[UnitRow], clusters: int) -> Province:
    """A province of `clusters` clusters (at least one) and, beside them, boards, sensors and one gateway.

    The host is the unit right below the root with the most units below it; in a two-level tree that is any commune,
    so the first is taken. The gateway stands in the host's first commune; up to sixteen of the clusters, but not more
    than half, are old FM horns behind it. Clusters are dealt out from the host on, so that a small fleet is there too.
    """
    root = next(unit for unit in units if not unit.parent_code)
    below = {unit.code: [child for child in units if child.parent_code == unit.code] for unit in units}
    communes = [unit for unit in units if not below[unit.code]]
    host = max(below[root.code], key=lambda unit: len(below[unit.code]))
    gateway_home = below[host.code][0] if below[host.code] else host
    place = {unit.code: _position(index) for index, unit in enumerate(units)}
    behind = min(BEHIND_GATEWAY_CLUSTERS, clusters // 2)
    first = communes.index(gateway_home)
    homes = [communes[(first + index) % len(communes)] for index in range(clusters - behind)]
    devices = [
        *_numbered("cl", "cluster", "Cụm loa", homes, place),
        *_numbered("bd", "board", "Bảng điện tử", _spread(communes, math.ceil(clusters / DEVICES_PER_BOARD)), place),
        *_numbered("sn", "sensor", "Trạm đo", _spread(communes, math.ceil(clusters / DEVICES_PER_SENSOR)), place),
        *_behind_gateway(gateway_home, behind, place),
    ]
    return Province(root=root, host=host, units=tuple(units), devices=tuple(devices))


def _spread(communes: Sequence[UnitRow], count: int) -> list[UnitRow]:
    """`count` communes, evenly apart."""
    return [communes[index * len(communes) // count % len(communes)] for index in range(count)]


def _numbered(
    prefix: str, kind: str, noun: str, homes: Iterable[UnitRow], place: dict[str, tuple[float, float]]
) -> Iterable[DeviceSpec]:
    used: dict[str, int] = {}
    for home in homes:
        number = used[home.code] = used.get(home.code, 0) + 1
        latitude, longitude = place[home.code]
        yield DeviceSpec(
            device_id=f"{prefix}-{home.code}-{number:02d}",
            kind=kind,
            unit_code=home.code,
            name=f"{noun} số {number}, {home.name}",
            latitude=latitude + 0.002 * number,
            longitude=longitude,
        )


def _behind_gateway(home: UnitRow, clusters: int, place: dict[str, tuple[float, float]]) -> Iterable[DeviceSpec]:
    latitude, longitude = place[home.code]
    gateway = DeviceSpec(
        device_id=f"gw-{home.code}-01",
        kind="gateway",
        unit_code=home.code,
        name=f"Bộ tích hợp, {home.name}",
        latitude=latitude,
        longitude=longitude,
    )
    yield gateway
    horn, probe = ("fm", "cluster", "fm", "Cụm loa FM"), ("lr", "sensor", "lora", "Cảm biến LoRa")
    kinds = [horn] * clusters + [probe] * (BEHIND_GATEWAY - clusters)
    for number, (prefix, kind, technology, noun) in enumerate(kinds, start=1):
        yield DeviceSpec(
            device_id=f"{prefix}-{home.code}-{number:02d}",
            kind=kind,
            unit_code=home.code,
            name=f"{noun} số {number}, {home.name}",
            technology=technology,
            gateway=gateway.device_id,
            latitude=latitude,
            longitude=longitude + 0.001 * number,
        )


def _position(index: int) -> tuple[float, float]:
    """A spot for the `index`-th unit on a grid over the province's bounding box (WGS 84 degrees); not its real place."""
    rows = 16
    return round(21.15 + 0.03 * (index % rows), 5), round(105.9 + 0.05 * (index // rows), 5)
