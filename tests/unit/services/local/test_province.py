"""The demonstration's province, laid out over the real trees."""

from collections import Counter
from importlib import resources

import pytest

from schemas.identifiers import DeviceId
from services.local.province import BEHIND_GATEWAY, Province, lay_out, read_units

TREES = ("bac_giang_3_level.csv", "bac_ninh_2_level.csv")


def the_province(tree: str, clusters: int) -> Province:
    with resources.as_file(resources.files("services.control") / "data" / tree) as path:
        return lay_out(read_units(path), clusters)


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("clusters", [1, 2, 12, 418, 2_090])
def test_holds_exactly_the_clusters_asked_for_and_one_of_everything_else(tree: str, clusters: int) -> None:
    province = the_province(tree, clusters)

    kinds = Counter(device.kind for device in province.devices)
    assert kinds["cluster"] == clusters
    assert kinds["gateway"] == 1
    assert kinds["board"] >= 1
    assert kinds["sensor"] >= 5
    assert sum(device.gateway is not None for device in province.devices) == BEHIND_GATEWAY


@pytest.mark.parametrize("tree", TREES)
def test_every_device_has_a_legal_name_of_its_own_and_hangs_in_a_commune(tree: str) -> None:
    province = the_province(tree, 418)

    names = [DeviceId.parse(device.device_id) for device in province.devices]
    assert len(set(names)) == len(names)
    parents = {unit.parent_code for unit in province.units}
    assert {device.unit_code for device in province.devices} <= {unit.code for unit in province.units} - parents


def test_two_clusters_stand_in_each_commune_of_the_three_level_tree() -> None:
    province = the_province("bac_giang_3_level.csv", 418 + 16)

    connected = Counter(d.unit_code for d in province.devices if d.kind == "cluster" and d.gateway is None)
    assert len(connected) == 209
    assert set(connected.values()) == {2}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("clusters", [4, 418])
def test_the_host_unit_has_a_cluster_a_board_and_the_gateway(tree: str, clusters: int) -> None:
    province = the_province(tree, clusters)

    below = {unit.code for unit in province.units if unit.parent_code == province.host.code} | {province.host.code}
    hosted = {device.kind for device in province.devices if device.unit_code in below}
    assert {"cluster", "gateway"} <= hosted
