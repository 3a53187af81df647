"""`deploy/systemd/`: units that are hardened, name real settings, and are given files that exist."""

import importlib.util
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from services.ingest import drain
from services.shared.settings import parse_duration
from tests.support import site as sites
from tests.support.site import DEPLOY

UNITS = DEPLOY / "systemd"
RUNBOOK = (DEPLOY / "README.md").read_text("utf-8")
PROGRAMS = {
    "loa-ingest@.service": "services.ingest",
    "loa-control.service": "services.control",
    "loa-migrate.service": "services.shared.database.migrate",
}
DRAIN = "loa-drain@.service"
SERVICES = (*PROGRAMS, "loa-broker.service")
ON_THE_SITE = {"CONTROL_MEDIA__BASE_URL": "https://loa.example.vn"}  # /etc/loa/control.env of the runbook

HARDENED = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectControlGroups": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}


def read(path: Path) -> Mapping[str, Sequence[str]]:
    """Every directive of a unit as `Section.Key` with its values in order."""
    section, values = "", defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        assert not line.endswith("\\"), "no continued lines: the reader of this test does not know them"
        key, _, value = line.partition("=")
        values[f"{section}.{key}"].append(value)
    return dict(values)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for /etc/loa."""
    return sites.make_site(tmp_path_factory.mktemp("installation"))


def credentials(unit: Mapping[str, Sequence[str]], site: Path) -> Mapping[str, Path]:
    """The unit's credentials by name, as files of the site."""
    pairs = (each.split(":") for each in unit.get("Service.LoadCredential", ()))
    return {name: site / Path(path).relative_to("/etc/loa") for name, path in pairs}


def test_target_wants_units_that_exist() -> None:
    (wanted,) = read(UNITS / "loa.target")["Unit.Wants"]

    assert all((UNITS / re.sub(r"@\d", "@", name)).is_file() for name in wanted.split())
    assert {re.sub(r"@\d", "@", name) for name in wanted.split()} == set(SERVICES) - {"loa-migrate.service"}


def test_hardening_holds_for_every_unit() -> None:
    hardening = read(UNITS / "loa-.service.d/hardening.conf")

    assert {key: hardening.get(f"Service.{key}") for key in HARDENED} == {
        key: [value] for key, value in HARDENED.items()
    }
    assert hardening["Service.SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    # systemd takes the drop-in by the prefix of a unit's name.
    assert all(path.name.startswith("loa-") for path in UNITS.glob("*.service"))


@pytest.mark.parametrize("name", SERVICES)
def test_unit_gives_back_only_what_it_says_it_needs(name: str) -> None:
    unit = read(UNITS / name)
    given_back = {key: unit[f"Service.{key}"] for key in HARDENED if f"Service.{key}" in unit}

    assert given_back == {
        "loa-broker.service": {"DynamicUser": ["no"]},
        "loa-ingest@.service": {"PrivateUsers": ["no"]},
    }.get(name, {})


@pytest.mark.parametrize("name", SERVICES)
def test_unit_is_limited(name: str) -> None:
    unit = read(UNITS / name)

    assert {"Service.MemoryMax", "Service.TasksMax"} <= unit.keys()


def test_services_are_started_again_and_migrations_are_not() -> None:
    assert read(UNITS / "loa-.service.d/hardening.conf")["Service.Restart"] == ["on-failure"]
    assert {
        name: read(UNITS / name)["Service.Restart"] for name in SERVICES if "Service.Restart" in read(UNITS / name)
    } == {"loa-migrate.service": ["no"]}


@pytest.mark.parametrize(("name", "module"), [each for each in PROGRAMS.items() if "migrate" not in each[0]])
def test_unit_is_not_killed_while_it_stops(name: str, module: str) -> None:
    (limit,) = read(UNITS / name)["Service.TimeoutStopSec"]
    span = parse_duration(limit)

    assert isinstance(span, timedelta)
    assert span.total_seconds() > sites.stop_deadline_s(module)


@pytest.mark.parametrize(("name", "module"), PROGRAMS.items())
def test_unit_runs_a_program_that_exists(name: str, module: str) -> None:
    (command,) = read(UNITS / name)["Service.ExecStart"]

    assert command == f"/opt/loa/current/bin/python -P -m {module}"
    assert importlib.util.find_spec(module) is not None
    assert "/opt/loa/current" in RUNBOOK


@pytest.mark.parametrize("name", PROGRAMS)
def test_credentials_are_files_the_runbook_has_made(name: str, site: Path) -> None:
    unit = read(UNITS / name)

    for path in credentials(unit, site).values():
        assert path.stat().st_size > 0
    used = set(re.findall(r"%d/([\w.-]+)", " ".join(unit["Service.Environment"])))
    assert used == set(credentials(unit, site))


@pytest.mark.parametrize(("name", "module"), PROGRAMS.items())
def test_settings_of_the_unit_hold(name: str, module: str, site: Path, tmp_path: Path) -> None:
    unit = read(UNITS / name)
    places = {f"%d/{each}": str(path) for each, path in credentials(unit, site).items()}
    environment = dict(shlex.split(line)[0].split("=", 1) for line in unit["Service.Environment"])
    resolved = {
        variable: places.get(value, value.replace("%i", "1").replace("%S", str(tmp_path)))
        for variable, value in environment.items()
    }

    sites.check_settings(module, resolved | (ON_THE_SITE if module == "services.control" else {}))


def test_draining_has_the_settings_and_the_secrets_of_ingest_and_the_time_it_gives_itself() -> None:
    draining, ingest = read(UNITS / DRAIN), read(UNITS / "loa-ingest@.service")

    assert draining["Service.ExecStart"] == ["/opt/loa/current/bin/python -P -m services.ingest.drain ingest:%i"]
    assert importlib.util.find_spec("services.ingest.drain") is not None
    assert draining["Service.LoadCredential"] == ingest["Service.LoadCredential"]
    own = {"INGEST_REPLICA", "INGEST_BROKER_LOG", "INGEST_HEALTH__HOST", "INGEST_HEALTH__PORT"}
    assert draining["Service.Environment"] == [
        line for line in ingest["Service.Environment"] if line.partition("=")[0] not in own
    ]
    assert draining["Service.EnvironmentFile"] == ingest["Service.EnvironmentFile"]
    assert draining["Service.Restart"] == ["no"]
    assert {"Service.MemoryMax", "Service.TasksMax"} <= draining.keys()
    assert not {f"Service.{key}" for key in HARDENED} & draining.keys()
    limit = parse_duration(draining["Service.TimeoutStartSec"][0].removesuffix("in"))
    assert isinstance(limit, timedelta)
    assert limit > drain.WITHIN + drain.STOP_DEADLINE


def test_replicas_of_ingest_differ_in_name_and_port() -> None:
    environment = read(UNITS / "loa-ingest@.service")["Service.Environment"]

    assert {"INGEST_REPLICA=ingest:%i", "INGEST_HEALTH__PORT=910%i"} <= set(environment)


def test_broker_finds_everything_it_is_configured_with(site: Path) -> None:
    link, *_ = read(UNITS / "loa-broker.service")["Service.ExecStartPre"]
    linked = re.findall(r"/etc/loa/broker/(\S+)", link)
    used = re.findall(
        r"^(?:cafile|certfile|keyfile|crlfile|acl_file) (\S+)$", (site / "broker/mosquitto.conf").read_text(), re.M
    )

    assert all((site / "broker" / name).exists() for name in linked)
    assert {Path(name).parts[0] for name in used} | {"mosquitto.conf"} == set(linked)


def test_script_for_verbs_of_control_has_the_settings_of_the_service(site: Path) -> None:
    script = (UNITS / "loa-control").read_text("utf-8")
    environment = dict(re.findall(r"^(CONTROL_\w+)=(\S+)$", script, re.M))
    resolved = {name: value.replace("/etc/loa", str(site)) for name, value in environment.items()}

    sites.check_settings("services.control", resolved | ON_THE_SITE)
    assert "/usr/local/sbin/loa-control" in script
    assert "/usr/local/sbin" in RUNBOOK
