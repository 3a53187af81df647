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
UNIT_NAMES = (*SERVICES, DRAIN)
ON_THE_SITE = {  # /etc/loa/control.env of the runbook
    "CONTROL_MEDIA__BASE_URL": "https://loa.example.vn",
    "CONTROL_ENROLMENT__BROKER_HOST": "mqtt.example.vn",
}

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


def merged(name: str) -> Mapping[str, Sequence[str]]:
    """Every directive as systemd has it: the unit's file, then all drop-ins by their file's name, wherever they lie.

    The last value of a directive holds, or all since one that is empty; of a file's name the nearest folder's counts.
    """
    stem = name.removesuffix(".service")
    parts = stem.split("-")
    folders = [f"{'-'.join(parts[:count])}-.service.d" for count in range(1, len(parts))] + [f"{name}.d"]
    drop_ins = {path.name: path for folder in folders for path in (UNITS / folder).glob("*.conf")}
    values: defaultdict[str, list[str]] = defaultdict(list)
    for path in (UNITS / name, *(drop_ins[each] for each in sorted(drop_ins))):
        for key, more in read(path).items():
            values[key] += more
    return {key: _since_empty(each) for key, each in values.items()}


def _since_empty(values: Sequence[str]) -> Sequence[str]:
    last = max((number for number, value in enumerate(values) if not value), default=-1)
    return values[last + 1 :] or [""]


def effective(name: str, key: str) -> str | None:
    """What holds of a directive that is no list."""
    return merged(name).get(f"Service.{key}", [None])[-1]


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


def test_every_unit_is_known_here() -> None:
    assert {path.name for path in UNITS.glob("*.service")} == set(UNIT_NAMES)
    # systemd takes the drop-in by the prefix of a unit's name.
    assert all(name.startswith("loa-") for name in UNIT_NAMES)


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_unit_is_hardened_but_for_what_it_needs(name: str) -> None:
    needs = {
        "loa-broker.service": {"DynamicUser": "no"},
        "loa-ingest@.service": {"PrivateUsers": "no"},
    }.get(name, {})

    assert {key: effective(name, key) for key in HARDENED} == HARDENED | needs
    assert merged(name)["Service.SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_what_a_unit_says_is_what_holds(name: str) -> None:
    """A drop-in is read later and wins: a unit that says otherwise says it to nobody."""
    ours = {key: values for key, values in read(UNITS / name).items() if key.startswith("Service.")}

    assert {key: merged(name)[key] for key in ours} == ours


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_unit_is_limited(name: str) -> None:
    assert {"Service.MemoryMax", "Service.TasksMax"} <= merged(name).keys()


def test_services_are_started_again_and_what_is_started_by_hand_is_not() -> None:
    once = {"loa-migrate.service", DRAIN}

    assert {name: effective(name, "Restart") for name in UNIT_NAMES} == {
        name: "no" if name in once else "on-failure" for name in UNIT_NAMES
    }
    assert all(effective(name, "Type") == "oneshot" for name in once)


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
    limit = parse_duration(draining["Service.TimeoutStartSec"][0].removesuffix("in"))
    assert isinstance(limit, timedelta)
    assert limit > drain.WITHIN + drain.STOP_DEADLINE


def test_replicas_of_ingest_differ_in_name_and_port() -> None:
    environment = read(UNITS / "loa-ingest@.service")["Service.Environment"]

    assert {"INGEST_REPLICA=ingest:%i", "INGEST_HEALTH__PORT=910%i"} <= set(environment)


def test_broker_finds_everything_it_is_configured_with(site: Path) -> None:
    link, follow, *_ = read(UNITS / "loa-broker.service")["Service.ExecStartPre"]
    linked = [*re.findall(r"/etc/loa/broker/(\S+)", link), "certificates"]
    assert follow.endswith(" /etc/loa/broker/certificates")
    assert (site / "broker/follow-lists").is_file()
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
