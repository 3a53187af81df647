"""Manifest, scenario and settings: every problem named, the field in front."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import manifest, scenario, settings
from firmware_sim.errors import InvalidInput
from firmware_sim.runner import SCENARIOS, demand_office, load_scenario, load_stations
from schemas.fields import DeviceKind

CLUSTER = {"id": "loa-0001", "kind": "cluster", "certificate": "a.crt", "key": "a.key"}
GATEWAY = {
    "id": "gw-01",
    "kind": "gateway",
    "certificate": "/b.crt",
    "key": "b.key",
    "children": [{"id": "day-01", "kind": "cluster"}, {"id": "lora-01", "kind": "sensor", "quantities": ["rainfall"]}],
}


def a_manifest(*devices: dict[str, Any], **changes: Any) -> str:
    return json.dumps({"version": 1, "root_public_key": "ab" * 32, "devices": devices} | changes)


def test_manifest_becomes_stations() -> None:
    cluster, gateway = manifest.parse(a_manifest(CLUSTER, GATEWAY), folder=Path("/fleet"))
    assert (cluster.certificate, cluster.key) == (Path("/fleet/a.crt"), Path("/fleet/a.key"))
    assert (cluster.profile.kind, cluster.profile.principal) == (DeviceKind.CLUSTER, "loa-0001")
    assert cluster.profile.root_public_key == b"\xab" * 32
    assert gateway.certificate == Path("/b.crt")
    assert gateway.profile.children == 2
    assert [(child.id, child.principal) for child in gateway.children] == [("day-01", "gw-01"), ("lora-01", "gw-01")]
    assert gateway.children[1].quantities == ("rainfall",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("{", "manifest: Invalid JSON", id="not_json"),
        pytest.param(a_manifest(), "devices: ", id="no_devices"),
        pytest.param(a_manifest(CLUSTER, root_public_key="ab"), "root_public_key: ", id="short_root_key"),
        pytest.param(a_manifest(CLUSTER, version=2), "version: ", id="another_version"),
        pytest.param(a_manifest(CLUSTER | {"id": "ingest"}), "devices.0.id: ", id="reserved_name"),
        pytest.param(a_manifest(CLUSTER | {"id": "a/b"}), "devices.0.id: ", id="name_with_a_slash"),
        pytest.param(a_manifest(CLUSTER | {"kind": "toaster"}), "devices.0.kind: ", id="unknown_kind"),
        pytest.param(a_manifest(CLUSTER | {"volume": 3}), "devices.0.volume: ", id="unknown_field"),
        pytest.param(a_manifest(CLUSTER | {"quantities": ["joy"]}), "devices.0.quantities.0: ", id="unknown_quantity"),
        pytest.param(
            a_manifest(CLUSTER | {"children": GATEWAY["children"]}), "devices.0: ", id="children_of_a_cluster"
        ),
        pytest.param(a_manifest({"id": "loa-0002", "kind": "cluster"}), "devices.0: ", id="no_way_to_a_certificate"),
        pytest.param(a_manifest(CLUSTER | {"claim_code": "X"}), "devices.0: ", id="certificate_and_claim_code"),
        pytest.param(a_manifest(CLUSTER | {"key": None}), "devices.0: ", id="certificate_without_key"),
        pytest.param(a_manifest(CLUSTER, CLUSTER), "loa-0001: named more than once", id="named_twice"),
    ],
)
def test_manifest_problem_names_its_field(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(text, folder=Path("/fleet"))
    assert any(each.startswith(problem) for each in caught.value.problems), caught.value.problems


def test_who_is_to_enrol_needs_to_be_told_where(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(a_manifest({"id": "loa-0001", "kind": "cluster", "claim_code": "ABCDE"}))
    (tmp_path / "ca.pem").touch()
    environ = TestSettings().environ(tmp_path, SIM_MANIFEST=str(path))
    path.write_text(a_manifest({"id": "loa-0001", "kind": "cluster", "claim_code": "ABCDE"}))
    (station,) = load_stations(path)
    assert (station.certificate, station.claim_code) == (None, "ABCDE")
    with pytest.raises(InvalidInput, match="SIM_ENROLMENT__URL: must be set, because loa-0001 has a claim code"):
        demand_office(settings.load(environ), (station,))
    told = settings.load(
        environ | {"SIM_ENROLMENT__URL": "https://loa.test", "SIM_ENROLMENT__CA_FILE": str(tmp_path / "ca.pem")}
    )
    demand_office(told, (station,))


def test_missing_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(a_manifest(CLUSTER))
    (tmp_path / "a.crt").touch()
    with pytest.raises(InvalidInput, match=r"loa-0001: there is no file .*a\.key"):
        load_stations(path)
    with pytest.raises(InvalidInput, match="No such file"):
        load_stations(tmp_path / "other.json")


NAMED = (
    "flaky_uplink",
    "missing_media",
    "offline_beyond_horizon",
    "offline_three_days",
    "power_cuts",
    "quiet_day",
    "reconnect_storm",
    "river_flood",
    "wrong_clocks",
)


@pytest.mark.parametrize("name", NAMED)
def test_named_scenario_loads(name: str) -> None:
    assert load_scenario(name).description


def test_there_are_no_other_named_scenarios() -> None:
    assert tuple(sorted(each.stem for each in SCENARIOS.glob("*.toml"))) == NAMED


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("description =", "not TOML", id="not_toml"),
        pytest.param("", "description: ", id="no_description"),
        pytest.param('description = "x"\n[uplink]\ndrop = 1.5', "uplink.drop: ", id="probability_above_one"),
        pytest.param('description = "x"\n[uplink]\nlose = 0.5', "uplink.lose: ", id="unknown_field"),
        pytest.param('description = "x"\n[outages]\nmean_gap_s = 5', "outages.mean_length_s: ", id="half_a_table"),
        pytest.param('description = "x"\n[downlink]\ndrop = -1', "downlink.drop: ", id="probability_below_zero"),
        pytest.param('description = "x"\n[enrolment]\nlost_answers = 2', "enrolment.lost_answers: ", id="all_lost"),
        pytest.param('description = "x"\n[clocks]\nbehind_ms = -1', "clocks.behind_ms: ", id="ahead"),
        pytest.param('description = "x"\n[downloads]\nspoilt = 2', "downloads.spoilt: ", id="more_than_all"),
        pytest.param('description = "x"\n[cuts]\nmean_gap_s = 1', "cuts.mean_length_s: ", id="cuts_without_length"),
        pytest.param(
            'description = "x"\n[clocks.jumps]\nmean_gap_s = 1\nmax_ms = 0', "clocks.jumps.max_ms: ", id="no_jump"
        ),
        pytest.param(
            'description = "x"\n[flood]\nafter_s = 0\nrising_s = 0\nrise_m = 1',
            "flood.rising_s: ",
            id="a_wall_of_water",
        ),
        pytest.param(
            'description = "x"\n[storm]\nfirst_after_s = 0\nevery_s = 1', "storm.first_after_s: ", id="at_once"
        ),
    ],
)
def test_scenario_problem_names_its_field(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        scenario.parse(text)
    assert caught.value.problems[0].startswith(problem)


def test_unknown_scenario_names_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=", ".join(NAMED)):
        load_scenario("sunny_day")


class TestSettings:
    def environ(self, tmp_path: Path, **changes: str) -> dict[str, str]:
        (tmp_path / "fleet.json").touch()
        (tmp_path / "ca.pem").touch()
        return {
            "SIM_MANIFEST": str(tmp_path / "fleet.json"),
            "SIM_DATA": str(tmp_path / "data"),
            "SIM_BROKER__HOST": "localhost",
            "SIM_BROKER__CA_FILE": str(tmp_path / "ca.pem"),
            "PATH": "/bin",
        } | changes

    def test_from_the_environment(self, tmp_path: Path) -> None:
        loaded = settings.load(
            self.environ(tmp_path, SIM_HEARTBEAT_INTERVAL="500ms", SIM_BROKER__PORT="1884", SIM_SEED="")
        )
        assert loaded.heartbeat_interval == timedelta(milliseconds=500)
        assert (loaded.broker.port, loaded.broker.keepalive) == (1884, timedelta(minutes=1))
        assert loaded.scenario == "quiet_day"
        assert json.loads(settings.printable(loaded))["broker"]["port"] == 1884

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            pytest.param({"SIM_RAMP": "5"}, "SIM_RAMP: a duration needs its unit", id="number_without_unit"),
            pytest.param({"SIM_RAMP": "soon"}, "SIM_RAMP: ", id="not_a_duration"),
            pytest.param({"SIM_BROKER__PORT": "70000"}, "SIM_BROKER__PORT: ", id="port_out_of_range"),
            pytest.param({"SIM_CLUSTERS": "5"}, "SIM_CLUSTERS: there is no such setting", id="unknown_variable"),
            pytest.param({"SIM_BROKER__CA_FILE": "/nowhere"}, "SIM_BROKER__CA_FILE: the file", id="no_such_file"),
            pytest.param({"SIM_ENROLMENT__URL": "http://x.test"}, "SIM_ENROLMENT__URL: ", id="not_https"),
            pytest.param({"SIM_ENROLMENT__URL": "https://x.test"}, "SIM_ENROLMENT__CA_FILE: must", id="trusts_nobody"),
            pytest.param(
                {"SIM_ENROLMENT__URL": "https://x.test", "SIM_ENROLMENT__CA_FILE": "/nowhere"},
                "SIM_ENROLMENT__CA_FILE: the file",
                id="no_such_authority",
            ),
            pytest.param({"SIM_BROKER__HOST": ""}, "SIM_BROKER__HOST: must be set", id="empty_is_missing"),
        ],
    )
    def test_problem_names_its_variable(self, tmp_path: Path, changes: dict[str, str], problem: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            settings.load(self.environ(tmp_path, **changes))
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].startswith(problem)

    def test_all_problems_at_once(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            settings.load({})
        assert caught.value.problems == tuple(
            f"{name}: must be set" for name in ("SIM_MANIFEST", "SIM_DATA", "SIM_BROKER__HOST", "SIM_BROKER__CA_FILE")
        )
