"""The devices of a bench: who they are, who speaks for whom, and how they stand in the registry. Pure.

All of them stand behind a few gateways, as the province's sensors will: a session of its own for each of 2.8 million
devices is another bench. Names have one length, so that one gateway's messages of one kind differ in bytes, not in
layout, and can be put together fast.
"""

import enum
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId

GATEWAYS = 4
FEWEST = GATEWAYS * 1_000
_STEP = GATEWAYS * 20  # populations are multiples of this, so that habits come in whole cycles

_UNIT = uuid.UUID("0b9f7e5c-6f0e-4c7a-9c2e-6d1f5b3a2c41")
_NAME = b"bench-"
DIGITS = 7  # at the end of a device's name
_LINES_AT_ONCE = 10_000


class Mix(enum.Enum):
    """Of which kinds the devices are."""

    PROVINCE = "province"  # nearly all of them sensors
    HEAVY = "heavy"  # far more clusters and boards than anywhere, whose heartbeats are the longest


def _province() -> tuple[DeviceKind, ...]:
    """Of 4,000 devices ten clusters, one board, the rest sensors.

    So 7,000 clusters and 700 boards among the 2.8 million devices forecast for 2030: a province of 209 communes with 10
    to 36 clusters each has 2,000 to 7,500 clusters and a few hundred boards (sizes in the architecture and domain briefs,
    which take them from the forecast and the press).
    """
    kinds = [DeviceKind.SENSOR] * 4_000
    kinds[::400] = [DeviceKind.CLUSTER] * 10
    kinds[12] = DeviceKind.BOARD
    return tuple(kinds)


def _heavy() -> tuple[DeviceKind, ...]:
    """Of twenty devices four clusters, one board, the rest sensors."""
    kinds = [DeviceKind.SENSOR] * 20
    for index in (0, 5, 9, 19):
        kinds[index] = DeviceKind.CLUSTER
    kinds[12] = DeviceKind.BOARD
    return tuple(kinds)


# Along a gateway's devices, again and again.
CYCLES: Mapping[Mix, tuple[DeviceKind, ...]] = {Mix.PROVINCE: _province(), Mix.HEAVY: _heavy()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """So many devices behind so many gateways, each gateway with an equal part of them."""

    devices: int
    gateways: int = GATEWAYS
    mix: Mix = Mix.PROVINCE

    def __post_init__(self) -> None:
        if self.devices < FEWEST or self.devices % _STEP or self.devices >= 10**DIGITS:
            raise ValueError(f"{self.devices} devices: use Population.of, with {FEWEST} to {10**DIGITS - 1} devices")

    @classmethod
    def of(cls, devices: int, mix: Mix = Mix.PROVINCE) -> "Population":
        """Return the smallest population of at least `devices`."""
        return cls(devices=max(FEWEST, -(-devices // _STEP) * _STEP), mix=mix)

    @property
    def cycle(self) -> tuple[DeviceKind, ...]:
        """The kinds of a gateway's first devices; behind the last they start again."""
        return CYCLES[self.mix]

    def kind(self, index: int) -> DeviceKind:
        """Kind of the device with this index behind any gateway."""
        return self.cycle[index % len(self.cycle)]

    @property
    def unit(self) -> uuid.UUID:
        """The one unit they all belong to."""
        return _UNIT

    @property
    def per_gateway(self) -> int:
        """Devices behind each gateway."""
        return self.devices // self.gateways

    def gateway_id(self, gateway: int) -> DeviceId:
        """Name of a gateway, 0 to `gateways` - 1."""
        return DeviceId(f"bench-gateway-{gateway}")

    def gateway_no(self, gateway: int) -> int:
        """Number of a gateway in the registry."""
        return 1 + gateway

    def device_id(self, gateway: int, index: int) -> DeviceId:
        """Name of the device with this index behind a gateway."""
        return DeviceId((_NAME + self.device_digits(gateway, index)).decode())

    def device_digits(self, gateway: int, index: int) -> bytes:
        """What stands in the name behind `bench-`."""
        return b"%07d" % (gateway * self.per_gateway + index)

    def device_no(self, gateway: int, index: int) -> int:
        """Number of that device in the registry."""
        return 1 + self.gateways + gateway * self.per_gateway + index

    def place(self, device_no: int) -> tuple[int, int] | None:
        """Return gateway and index of a registry number, None for one that is no device of ours."""
        position = device_no - 1 - self.gateways
        return divmod(position, self.per_gateway) if 0 <= position < self.devices else None


# --- the registry, as text for COPY ----------------------------------------------------------------------------------

DEVICE_COLUMNS = ("device_no", "device_id", "kind", "unit_id", "name", "registered_at")
ASSIGNMENT_COLUMNS = ("device_no", "gateway_no", "valid_from")


def device_lines(population: Population, *, now: datetime) -> Iterator[bytes]:
    """Return the rows of `control.devices` in the order of `DEVICE_COLUMNS`, many lines at a time."""
    tail = f"\t{population.unit}\tbench\t{now.isoformat()}\n".encode()
    yield b"".join(
        b"%d\t%b\tgateway%b" % (population.gateway_no(gateway), population.gateway_id(gateway).encode(), tail)
        for gateway in range(population.gateways)
    )
    kinds = [kind.name.lower().encode() for kind in population.cycle]
    for gateway, part in _parts(population):
        yield b"".join(
            b"%d\tbench-%b\t%b%b"
            % (
                population.device_no(gateway, index),
                population.device_digits(gateway, index),
                kinds[index % len(kinds)],
                tail,
            )
            for index in part
        )


def assignment_lines(population: Population, *, now: datetime) -> Iterator[bytes]:
    """Return the rows of `control.gateway_assignments` in the order of `ASSIGNMENT_COLUMNS`, many lines at a time."""
    since = now.isoformat().encode()
    for gateway, part in _parts(population):
        gateway_no = population.gateway_no(gateway)
        yield b"".join(b"%d\t%d\t%b\n" % (population.device_no(gateway, index), gateway_no, since) for index in part)


def _parts(population: Population) -> Iterator[tuple[int, range]]:
    for gateway in range(population.gateways):
        for first in range(0, population.per_gateway, _LINES_AT_ONCE):
            yield gateway, range(first, min(first + _LINES_AT_ONCE, population.per_gateway))
