"""`deploy/compose.yaml`: every container confined, every file there, every setting real.

There is no container engine where the tests run. What can be held without one is held here; whether the file follows
the published schema of compose files is a check by hand (deploy/README.md).
"""

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.local import installation
from services.shared.settings import parse_duration
from tests.support import site as sites
from tests.support.site import DEPLOY, TOP

RUNBOOK = (DEPLOY / "README.md").read_text("utf-8")
OUR_PROGRAMS = {
    "migrate": "services.shared.database.migrate",
    "ingest-1": "services.ingest",
    "ingest-2": "services.ingest",
    "control": "services.control",
    "simulator": "firmware_sim",
}
LONG_RUNNING = {"database", "broker", "ingest-1", "ingest-2", "control", "prometheus", "simulator"}


class StrictLoader(yaml.SafeLoader):
    """A key that stands twice is a fault, not a last word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
        return super().construct_mapping(node, deep)


COMPOSE: Mapping[str, Any] = yaml.load((DEPLOY / "compose.yaml").read_text("utf-8"), StrictLoader)
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]

every_service = pytest.mark.parametrize("name", sorted(SERVICES))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the runbook has an operator make first, as ${LOA_HOME}."""
    return sites.make_site(tmp_path_factory.mktemp("installation"))


def interpolated(text: str, site: Path) -> str:
    """The text as compose reads it with the variables of `deploy/.env`."""
    values = {
        "LOA_HOME": str(site),
        "LOA_URL": "https://loa.example.vn",
        "LOA_BROKER": "mqtt.example.vn",
        "LOA_VERSION": "0.1.0",
    }
    return re.sub(r"\$\{([A-Z_]+)(?::[?-][^}]*)?\}", lambda match: values[match[1]], text).replace("$$", "$")


def seconds(text: str) -> float:
    span = parse_duration(text)
    assert isinstance(span, timedelta)
    return span.total_seconds()


def mounts(name: str) -> Iterator[tuple[str, str, bool]]:
    """Source, target and whether it is read-only."""
    for volume in SERVICES[name].get("volumes", []):
        if isinstance(volume, str):
            source, target = volume.split(":")
            yield source, target, False
        else:
            yield volume["source"], volume["target"], volume.get("read_only", False)


# --- what is run -----------------------------------------------------------------------------------------------------------


def test_the_services_are_those_the_runbook_describes() -> None:
    assert set(SERVICES) == LONG_RUNNING | {"migrate"}
    assert all(f"`{name}`" in RUNBOOK for name in SERVICES)


@every_service
def test_image_has_a_version(name: str) -> None:
    image = SERVICES[name]["image"]

    if "build" in SERVICES[name]:
        assert re.fullmatch(r"loa-[a-z]+:\$\{LOA_VERSION:\?.+\}", image)
    else:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-pg18)?", image)


@pytest.mark.parametrize("name", OUR_PROGRAMS)
def test_our_containers_run_a_program_of_their_image(name: str) -> None:
    build = SERVICES[name]["build"]
    folder = "firmware_sim" if name == "simulator" else "services"

    assert SERVICES[name]["command"] == [OUR_PROGRAMS[name]]
    assert OUR_PROGRAMS[name].startswith(folder)
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert build["args"]["EXTRA"] == {"simulator": "sim", "control": "control"}.get(name, "ingest")


# --- how it is confined ----------------------------------------------------------------------------------------------------


@every_service
def test_container_has_no_rights_it_does_not_need(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    forbidden = {
        "privileged",
        "cap_add",
        "network_mode",
        "pid",
        "ipc",
        "userns_mode",
        "devices",
        "cgroup_parent",
        "env_file",
    }
    assert forbidden & service.keys() == set()
    assert not any("docker.sock" in source for source, _, _ in mounts(name))


@every_service
def test_container_is_not_root(name: str) -> None:
    user = SERVICES[name].get("user")
    if "build" in SERVICES[name]:
        assert user is None  # the image's own, held by test_deploy.py
    else:
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user or "")


def test_files_belong_to_the_users_that_read_them() -> None:
    def user(name: str) -> tuple[int, int]:
        uid, gid = SERVICES[name]["user"].split(":")
        return int(uid), int(gid)

    image_user = re.findall(r"^USER (\d+):(\d+)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    owners = installation.IN_CONTAINERS.owners

    assert owners.broker == user("broker")
    assert owners.database == user("database")
    assert [owners.services] == [(int(uid), int(gid)) for uid, gid in image_user]


@every_service
def test_container_is_limited(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]

    assert limits.keys() == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_container_is_started_again_and_watched(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert seconds(SERVICES[name]["healthcheck"]["timeout"]) < seconds(SERVICES[name]["healthcheck"]["interval"])


@every_service
def test_container_waits_for_what_it_needs(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if other in LONG_RUNNING:
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[other]
        else:
            assert how == {"condition": "service_completed_successfully"}
            assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize(("name", "module"), [("ingest-1", "services.ingest"), ("control", "services.control")])
def test_container_is_not_killed_while_it_stops(name: str, module: str) -> None:
    assert seconds(SERVICES[name]["stop_grace_period"]) > sites.stop_deadline_s(module)


# --- who sees whom ---------------------------------------------------------------------------------------------------------


def test_networks_keep_apart_what_has_nothing_to_say_to_each_other() -> None:
    assert {name: set(service["networks"]) for name, service in SERVICES.items()} == {
        "database": {"database"},
        "migrate": {"database"},
        "ingest-1": {"services", "database"},
        "ingest-2": {"services", "database"},
        "control": {"web", "services", "database"},
        "broker": {"devices", "services"},
        "prometheus": {"web", "services"},
        "simulator": {"devices", "web"},
    }


def test_inner_networks_have_no_way_out_and_outer_ones_speak_ipv6() -> None:
    networks = COMPOSE["networks"]

    assert {name for name, network in networks.items() if network.get("internal")} == {"services", "database"}
    assert {name for name, network in networks.items() if network.get("enable_ipv6")} == {"devices", "web"}


def test_only_devices_come_in_from_everywhere() -> None:
    published = {(name, port) for name, service in SERVICES.items() for port in service.get("ports", [])}

    assert {(name, port) for name, port in published if not port.startswith(("127.0.0.1:", "[::1]:"))} == {
        ("broker", "8883:8883")
    }


def test_trusted_proxy_is_this_machine_as_control_sees_it() -> None:
    gateways = [each["gateway"] for each in COMPOSE["networks"]["web"]["ipam"]["config"]]

    assert json.loads(SERVICES["control"]["environment"]["CONTROL_HTTP__TRUSTED_PROXIES"]) == gateways


def test_ports_agree_with_the_broker_and_the_scraper(site: Path) -> None:
    configuration = (site / "broker/mosquitto.conf").read_text()
    listeners = re.findall(r"^listener (\d+)$", configuration, re.M)
    environments = {name: SERVICES[name].get("environment", {}) for name in SERVICES}

    assert SERVICES["broker"]["ports"] == [f"{listeners[0]}:{listeners[0]}"]
    assert environments["simulator"]["SIM_BROKER__PORT"] == listeners[0]
    assert {environments[name][f"{prefix}_BROKER__PORT"] for name, prefix in (
        ("ingest-1", "INGEST"), ("ingest-2", "INGEST"), ("control", "CONTROL"),
    )} == {listeners[1]}  # fmt: skip
    scraped = {
        target
        for job in yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
        for target in job["static_configs"][0]["targets"]
    }
    assert scraped == {
        f"ingest-1:{environments['ingest-1']['INGEST_HEALTH__PORT']}",
        f"ingest-2:{environments['ingest-2']['INGEST_HEALTH__PORT']}",
        f"control:{environments['control']['CONTROL_HTTP__PORT']}",
        "localhost:9090",
    }


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("ingest-1", "INGEST_HEALTH__PORT"),
        ("ingest-2", "INGEST_HEALTH__PORT"),
        ("control", "CONTROL_HTTP__PORT"),
        ("simulator", "SIM_STATUS__PORT"),
    ],
)
def test_health_is_asked_for_where_it_is_answered(name: str, variable: str) -> None:
    port = SERVICES[name]["environment"][variable]

    assert f"http://127.0.0.1:{port}/healthz" in SERVICES[name]["healthcheck"]["test"][-1]


def test_replicas_of_ingest_have_names_of_their_own() -> None:
    assert [SERVICES[name]["environment"]["INGEST_REPLICA"] for name in ("ingest-1", "ingest-2")] == [
        "ingest:1",
        "ingest:2",
    ]


# --- files and settings ------------------------------------------------------------------------------------------------------


def test_every_secret_is_used_and_every_used_one_is_declared() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}

    assert used == set(COMPOSE["secrets"])


@pytest.mark.parametrize("secret", sorted(COMPOSE["secrets"]))
def test_secret_is_a_file_the_runbook_has_made(secret: str, site: Path) -> None:
    file = Path(interpolated(COMPOSE["secrets"][secret]["file"], site))

    assert file.is_relative_to(site)
    assert file.stat().st_size > 0


@every_service
def test_what_is_mounted_exists(name: str, site: Path) -> None:
    for source, _, is_read_only in mounts(name):
        if source in COMPOSE["volumes"]:
            continue
        assert is_read_only
        assert (DEPLOY / interpolated(source, site)).is_dir()


def test_every_volume_is_used() -> None:
    assert {source for name in SERVICES for source, _, _ in mounts(name)} >= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OUR_PROGRAMS)
def test_settings_of_our_containers_hold(name: str, site: Path) -> None:
    """As `--check` in the container would say, with each mounted path put back to where it comes from."""
    secrets = {
        f"/run/secrets/{each}": interpolated(COMPOSE["secrets"][each]["file"], site)
        for each in SERVICES[name]["secrets"]
    }
    folders = {target: interpolated(source, site) for source, target, _ in mounts(name)}
    environment = {
        variable: outside(interpolated(value, site), secrets, folders)
        for variable, value in SERVICES[name]["environment"].items()
    }

    sites.check_settings(OUR_PROGRAMS[name], environment)
    unused = {path for path in secrets.values() if path not in environment.values()}
    assert unused == set(), "given to the container for nothing"


def outside(value: str, secrets: Mapping[str, str], folders: Mapping[str, str]) -> str:
    """A path in the container as the path that is mounted there."""
    assert not value.startswith("/run/secrets/") or value in secrets, f"{value} is not given to this container"
    for target, source in folders.items():
        if value.startswith(f"{target}/"):
            return source + value.removeprefix(target)
    return secrets.get(value, value)


def test_no_password_stands_in_the_file() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    variables = {name for service in SERVICES.values() for name in service.get("environment", {})}

    assert {name for name in variables if "PASSWORD" in name and not name.endswith("_FILE")} == set()
    assert "postgresql://" not in text


def test_settings_of_the_installation_are_in_the_runbook() -> None:
    named = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))

    assert named == {"LOA_HOME", "LOA_URL", "LOA_BROKER", "LOA_VERSION"}
    assert all(f"{name}=" in RUNBOOK for name in named)


def test_configuration_the_broker_is_started_with_is_all_made(site: Path) -> None:
    linked = re.findall(r"/etc/loa/broker/(\S+)", SERVICES["broker"]["command"][0])

    assert linked == ["mosquitto.conf", "access.acl", "follow-lists", "certificates"]
    assert all((site / "broker" / name).exists() for name in linked)
    needed = re.findall(
        r"^(?:cafile|certfile|keyfile|crlfile|acl_file) (\S+)$", (site / "broker/mosquitto.conf").read_text(), re.M
    )
    assert len(needed) >= 7
    assert all((site / "broker" / name).is_file() for name in needed)


def test_checkout_is_the_build_context() -> None:
    assert {(DEPLOY / SERVICES[name]["build"]["context"]).resolve() for name in OUR_PROGRAMS} == {TOP}
