"""Who takes part in a bench, and how the registry is told."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.local.bench.population import (
    ASSIGNMENT_COLUMNS,
    DEVICE_COLUMNS,
    FEWEST,
    Mix,
    Population,
    assignment_lines,
    device_lines,
)

NOW = datetime(2030, 3, 1, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(("asked", "got"), [(1, FEWEST), (FEWEST, FEWEST), (4_001, 4_080), (2_800_000, 2_800_000)])
def test_as_many_devices_as_asked_or_a_few_more(asked: int, got: int) -> None:
    assert Population.of(asked).devices == got


def test_numbers_lead_back_to_their_place() -> None:
    population = Population.of(FEWEST)
    places = [(gateway, index) for gateway in range(population.gateways) for index in range(population.per_gateway)]

    numbers = [population.device_no(gateway, index) for gateway, index in places]

    assert [population.place(number) for number in numbers] == places
    assert (
        len({*numbers, *(population.gateway_no(gateway) for gateway in range(population.gateways))}) == len(places) + 4
    )


@pytest.mark.parametrize("number", [0, 1, 4, 4 + FEWEST + 1])
def test_other_numbers_have_no_place(number: int) -> None:
    assert Population.of(FEWEST).place(number) is None


def test_the_registry_is_told_of_everybody_and_of_who_speaks_for_whom() -> None:
    population = Population.of(FEWEST)

    devices = _table(b"".join(device_lines(population, now=NOW)), DEVICE_COLUMNS)
    assignments = _table(b"".join(assignment_lines(population, now=NOW)), ASSIGNMENT_COLUMNS)

    assert len(devices) == FEWEST + population.gateways
    assert len(assignments) == FEWEST
    by_number = {row["device_no"]: row for row in devices}
    assert by_number["1"]["kind"] == "gateway"
    assert by_number["1"]["device_id"] == population.gateway_id(0)
    last = str(population.device_no(3, population.per_gateway - 1))
    assert by_number[last] == {
        "device_no": last,
        "device_id": population.device_id(3, population.per_gateway - 1),
        "kind": population.kind(population.per_gateway - 1).name.lower(),
        "unit_id": str(population.unit),
        "name": "bench",
        "registered_at": "2030-03-01T07:30:00+00:00",
    }
    assert {row["gateway_no"] for row in assignments if row["device_no"] == last} == {"4"}


def test_every_name_is_one_a_certificate_may_bear() -> None:
    population = Population.of(2_800_000)

    for name in (population.gateway_id(3), population.device_id(0, 0), population.device_id(3, 699_999)):
        assert DeviceId.parse(name) == name


@pytest.mark.parametrize("mix", Mix)
def test_kinds_repeat_along_a_gateways_devices(mix: Mix) -> None:
    population = Population.of(2_800_000, mix)

    assert {population.kind(index) for index in range(len(population.cycle))} == set(DeviceKind) - {DeviceKind.GATEWAY}
    assert all(population.kind(index) is kind for index, kind in enumerate(population.cycle * 2))


def test_a_province_has_few_clusters_and_fewer_boards() -> None:
    population = Population.of(2_800_000)

    count = Counter(population.kind(index) for index in range(population.per_gateway))

    assert population.gateways * count[DeviceKind.CLUSTER] == 7_000
    assert population.gateways * count[DeviceKind.BOARD] == 700


def _table(text: bytes, columns: tuple[str, ...]) -> list[dict[str, str]]:
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in text.decode().splitlines()]
