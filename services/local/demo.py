"""`./loa demo`: the whole platform with a simulated province on one machine, for people to look at or for a check.

Everything is real: PostgreSQL, Mosquitto with our configuration, TLS with certificates of our own, ingest, control,
devices that verify, fetch, decode and report. Only the devices' sound cards and the province's people are missing; the
people are played through the public API, each with a login of their own.

Progress goes to standard error. With `--check`, standard output is one JSON object and the exit status is 0 only if a
broadcast made through the API has sounded on every device it was for and each emission is accounted for.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from services.local import factory
from services.local.broker import BrokerFailed
from services.local.chime import chime
from services.local.directories import STATE, make_passable, temporary_directory
from services.local.office import Authenticator, Desk, OfficeFailed, desk
from services.local.pki import PkiDamaged
from services.local.platform import TOP, Platform, inherited_environment, platform
from services.local.postgres import PostgresFailed
from services.local.processes import ManagedProcess, ProcessFailed
from services.local.province import Province, lay_out, read_units
from services.shared.clock import utc_now

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
CLUSTERS = 418
TREES = {False: ("bac_giang_3_level.csv", date(2021, 1, 1)), True: ("bac_ninh_2_level.csv", date(2025, 7, 1))}

ADMINISTRATOR, OFFICER, APPROVER, OPERATOR = "quantri", "canbo", "duyet", "truc"

# From the officer's request to the first sample: planning, signing, delivery, and every device fetching the file.
LEAD = timedelta(seconds=20)
CHECK_LENGTH = timedelta(seconds=6)
SHOW_LENGTH = timedelta(seconds=60)
CHECK_DEADLINE = timedelta(minutes=5)
POLL_EVERY_S = 0.5
BATCH = 5_000  # devices registered in one request
FAST_HEARTBEATS = {"SIM_HEARTBEAT_INTERVAL": "10s", "SIM_READING_INTERVAL": "15s"}


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for."""

    clusters: int
    is_two_level: bool
    data: Path
    is_check: bool


def main(arguments: Sequence[str]) -> int:
    """Run the demonstration; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.clusters < 1 or given.clusters > 20_000:
        parser.error("--clusters must be between 1 and 20000")
    with contextlib.ExitStack() as stack:
        data = given.data or (
            stack.enter_context(temporary_directory("loa-check-")) if given.check else _default_data()
        )
        options = Options(
            clusters=given.clusters, is_two_level=given.two_level, data=data.absolute(), is_check=given.check
        )
        status = 1
        try:
            status = asyncio.run(_run(options))
        except* (DemoFailed, PostgresFailed, BrokerFailed, ProcessFailed, OfficeFailed, PkiDamaged) as failures:
            for failure in _leaves(failures):
                _say(f"failed: {failure}")
        return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./loa demo", description="The whole platform with a simulated province.")
    parser.add_argument("--check", action="store_true", help="prove the loop unattended, print one JSON object, exit")
    parser.add_argument("--clusters", type=int, default=CLUSTERS, metavar="N", help=f"how many (default {CLUSTERS})")
    parser.add_argument("--two-level", action="store_true", help="the 99 communes of the new province, no districts")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where everything is kept (default: a folder of its own)"
    )
    return parser


def _default_data() -> Path:
    """A folder for this checkout that the database's and the broker's users can reach."""
    name = "demo-" + hashlib.sha256(str(TOP).encode()).hexdigest()[:12]
    if os.geteuid() == 0:
        return make_passable(STATE) / name
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "loa" / name


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for member in group.exceptions
        for leaf in (_leaves(member) if isinstance(member, BaseExceptionGroup) else [member])
    ]


# --- running ---------------------------------------------------------------------------------------------------------


async def _run(options: Options) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await _check(options) if options.is_check else await _show(options)
    except asyncio.CancelledError:
        _say("stopped")
        return 130 if options.is_check else 0


async def _check(options: Options) -> int:
    started = time.monotonic()
    async with _running_province(options) as (site, province):
        _say("an officer makes a bulletin, an approver approves it, the officer schedules a broadcast")
        result = await asyncio.wait_for(_prove(site, province), CHECK_DEADLINE.total_seconds())
    result["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(result), flush=True)
    return 0 if result["ok"] else 1


async def _show(options: Options) -> int:
    started = time.monotonic()
    async with _running_province(options) as (site, province):
        async with person(site, OPERATOR) as operator:
            await operator.enrol()
        async with person(site, OFFICER) as officer, person(site, APPROVER) as approver:
            broadcast = await schedule(officer, approver, province, SHOW_LENGTH)
        seconds = time.monotonic() - started
        _print_welcome(site, province, datetime.fromisoformat(broadcast["starts_at"]), seconds)
        await asyncio.get_running_loop().create_future()  # until Ctrl-C
    return 0


@asynccontextmanager
async def _running_province(options: Options) -> AsyncIterator[tuple[Platform, Province]]:
    """Everything up: services, devices registered, certified and connected."""
    file, valid_from = TREES[options.is_two_level]
    with resources.as_file(resources.files("services.control") / "data" / file) as path:
        units = read_units(path)
        province = lay_out(units, options.clusters)
        _step(f"data in {options.data}")
        try:
            make_passable(options.data)
        except OSError as error:
            raise DemoFailed(f"{error.filename}: {error.strerror}; name another folder with --data") from error
        async with platform(options.data) as site, asyncio.TaskGroup() as tasks:
            _refuse_other_province(options)
            _step(f"PostgreSQL on port {site.postgres.port}, Mosquitto on ports"
                  f" {site.broker.device_port} (devices) and {site.broker.service_port} (services)")  # fmt: skip
            if not _marker(options).exists():
                await found(site, path, valid_from)
            keeper = _Keeper(tasks, restarts=not options.is_check)
            await keeper.keep("ingest", site.ingest)
            await keeper.keep("control", site.control)
            _step(f"ingest and control, answering at {site.url}")
            async with person(site, ADMINISTRATOR) as administrator:
                await administrator.enrol()
                if _marker(options).exists():
                    await staff(site, province, administrator)  # a folder of an earlier release lacks somebody
            manifest = options.data / "fleet.json"
            if not _marker(options).exists():
                await settle(site, province)
                _marker(options).write_text(json.dumps(_shape(options)) + "\n")
            factory.equip(site.pki, province.devices, manifest, now=utc_now())
            await keeper.keep("fleet", lambda: site.fleet(manifest, FAST_HEARTBEATS))
            await until_connected(site, province)
            try:
                yield site, province
            finally:
                keeper.stop()


class _Keeper:
    """Starts parts of the platform and, in a demonstration somebody looks at, starts again what ended by itself."""

    def __init__(self, tasks: asyncio.TaskGroup, *, restarts: bool) -> None:
        self._tasks = tasks
        self._restarts = restarts
        self._kept: list[asyncio.Task[None]] = []

    async def keep(self, name: str, start: Callable[[], AbstractAsyncContextManager[ManagedProcess]]) -> None:
        """Start a part and return when it is ready."""
        ready = asyncio.Event()
        self._kept.append(self._tasks.create_task(self._keep(name, start, ready)))
        await ready.wait()

    async def _keep(
        self, name: str, start: Callable[[], AbstractAsyncContextManager[ManagedProcess]], ready: asyncio.Event
    ) -> None:
        while True:
            async with start() as process:
                ready.set()
                status = await process.wait()
            if not self._restarts:
                raise DemoFailed(f"{name} ended with status {status}; its log is {process.log}\n{process.tail()}")
            _say(f"{name} ended with status {status}; starting it again")

    def stop(self) -> None:
        """End every part, the last started first."""
        for task in reversed(self._kept):
            task.cancel()


# --- founding a province ---------------------------------------------------------------------------------------------


def _shape(options: Options) -> dict[str, Any]:
    return {"clusters": options.clusters, "two_level": options.is_two_level}


def _marker(options: Options) -> Path:
    return options.data / "province.json"


def _refuse_other_province(options: Options) -> None:
    marker = _marker(options)
    if marker.exists() and json.loads(marker.read_text()) != _shape(options):
        raise DemoFailed(
            f"{options.data} holds another province ({marker.read_text().strip()});"
            " ask for the same one, name another folder with --data, or remove this one"
        )


async def found(site: Platform, units: Path, valid_from: date) -> None:
    """What must be there before anybody can log in: the tree of units and a first administrator."""
    await _control_verb(site, "import-units", str(units), "--valid-from", valid_from.isoformat())
    await _control_verb(
        site,
        *("create-administrator", "--login", ADMINISTRATOR, "--name", "Quản trị hệ thống", "--unit", "root"),
        entered=site.secrets.administrator_password,
    )


async def _control_verb(site: Platform, *arguments: str, entered: str = "") -> None:
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.control", *arguments],
        input=entered,
        env=inherited_environment() | site.control_settings(),
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise DemoFailed(f"control {arguments[0]}: {ran.stderr.strip() or ran.stdout.strip()}")


async def staff(site: Platform, province: Province, administrator: Desk) -> None:
    """Accounts for the people of the host unit, and for whoever is on duty for the province; those that are missing."""
    unit_ids = {unit["code"]: unit["unit_id"] for unit in await administrator.get("/units/tree")}
    present = {account["login"] for account in await administrator.get("/accounts")}
    for login, name, role, password, unit in (
        (OFFICER, "Cán bộ văn hoá", "officer", site.secrets.officer_password, province.host),
        (APPROVER, "Người duyệt", "approver", site.secrets.approver_password, province.host),
        (OPERATOR, "Trực ban", "operator", site.secrets.operator_password, province.root),
    ):
        if login not in present:
            unit_id = unit_ids[unit.code]
            await administrator.post(
                "/accounts",
                {
                    "login": login,
                    "display_name": f"{name}, {unit.name}",
                    "unit_id": unit_id,
                    "password": password,
                    "grants": [{"unit_id": unit_id, "role": role}],
                },
            )


async def settle(site: Platform, province: Province) -> None:
    """Accounts for people, and every device in the registry."""
    async with person(site, ADMINISTRATOR) as administrator:
        await staff(site, province, administrator)
        unit_ids = {unit["code"]: unit["unit_id"] for unit in await administrator.get("/units/tree")}
        # A gateway is named by the devices behind it, so it is registered in the same batch or an earlier one.
        rows = factory.registrations(sorted(province.devices, key=lambda device: device.gateway is not None), unit_ids)
        for start in range(0, len(rows), BATCH):
            await administrator.post("/devices/batch", {"devices": rows[start : start + BATCH]})
    _step(f"{len(province.units)} units, {len(province.devices)} devices and four accounts")


async def until_connected(site: Platform, province: Province) -> None:
    """Wait until every device, also those behind the gateway, has been heard."""
    deadline = time.monotonic() + CHECK_DEADLINE.total_seconds()
    async with person(site, ADMINISTRATOR) as administrator:
        while True:
            tallies = (await administrator.get("/totals"))["devices"]
            missing = sum(tally["offline"] + tally["never"] for tally in tallies)
            if not missing:
                break
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{missing} of {len(province.devices)} devices were not heard; see {site.data / 'logs'}"
                )
            await asyncio.sleep(POLL_EVERY_S)
    _step(f"{len(province.devices)} devices connected and heard")


def person(site: Platform, login: str) -> AbstractAsyncContextManager[Desk]:
    """A session of one of the demonstration's people."""
    passwords = {
        ADMINISTRATOR: site.secrets.administrator_password,
        OFFICER: site.secrets.officer_password,
        OPERATOR: site.secrets.operator_password,
        APPROVER: site.secrets.approver_password,
    }
    return desk(site.url, login, passwords[login], app=authenticator(site, login))


def authenticator(site: Platform, login: str) -> Authenticator:
    """The app on the telephone of one of these people."""
    return Authenticator(site.data / f"authenticator-{login}.json")


# --- a broadcast -----------------------------------------------------------------------------------------------------


async def schedule(officer: Desk, approver: Desk, province: Province, length: timedelta) -> dict[str, Any]:
    """Bulletin, approval, broadcast to the officer's whole unit; returns the broadcast with `starts_at` added."""
    (host,) = [
        unit["unit_id"]
        for unit in await officer.get("/units/tree")
        if unit["code"] == province.host.code and unit["name"] == province.host.name
    ]
    sound = await officer.upload(await asyncio.to_thread(chime, length), unit_id=host)
    bulletin = await officer.post(
        "/bulletins",
        {
            "unit_id": host,
            "title": "Chuông thử hệ thống truyền thanh",
            "subject_field": "general",
            "media_sha256": sound["sha256"],
            "board_text": f"{province.host.name}: thử hệ thống thông tin nguồn",
        },
    )
    await approver.post(f"/bulletins/{bulletin['bulletin_id']}/approve", {})
    starts_at = (utc_now() + LEAD).astimezone(ZONE).replace(microsecond=0)
    broadcast: dict[str, Any] = await officer.post(
        "/broadcasts",
        {
            "unit_id": host,
            "title": "Thử toàn đơn vị",
            # What a district says normally is offered to its communes; what has priority enters their programme.
            "level": "priority",
            "recurrence": "once",
            "starts_on": starts_at.date().isoformat(),
            "local_times": [starts_at.strftime("%H:%M:%S")],
            "items": [{"bulletin_id": bulletin["bulletin_id"]}],
            "targets": [{"unit_id": host}],
        },
    )
    return broadcast | {"starts_at": starts_at.isoformat()}


async def _prove(site: Platform, province: Province) -> dict[str, Any]:
    """Make a broadcast as a district officer, wait until every emission has its verdict, and say what happened."""
    async with person(site, OFFICER) as officer, person(site, APPROVER) as approver:
        broadcast = await schedule(officer, approver, province, CHECK_LENGTH)
        _step(f"it sounds at {broadcast['starts_at']} on {broadcast['devices']} devices")
        while True:
            proof = (await officer.get(f"/broadcasts/{broadcast['broadcast_id']}"))["proof"]
            if proof["planned"] >= broadcast["devices"] and not proof["pending"]:
                break
            await asyncio.sleep(POLL_EVERY_S)
    async with person(site, ADMINISTRATOR) as administrator:
        totals = await administrator.get("/totals")
    stored = {key: totals[key] for key in ("heartbeats_stored", "readings_stored", "events_stored")}
    devices = broadcast["devices"]
    # On a machine that is busy with other things a device may begin late; it has sounded all the same.
    sounded = proof["played"] + proof["late"] + proof["by_gateway"]
    _step(
        f"{proof['played']} devices played it, {proof['late']} began late, a gateway reports {proof['by_gateway']} more"
    )
    return {
        "ok": 0 < devices == proof["planned"] == sounded
        and not proof["unexplained"]
        and not totals["quarantined"]
        and all(stored.values()),
        "clusters": sum(device.kind == "cluster" for device in province.devices),
        "devices": len(province.devices),
        **stored,
        "emissions_planned": proof["planned"],
        "emissions_played": proof["played"],
        "emissions_late": proof["late"],
        "emissions_reported_by_gateway": proof["by_gateway"],
        "emissions_unexplained": proof["unexplained"],
        "quarantined": totals["quarantined"],
        "database": totals["database"],
    }


# --- telling ---------------------------------------------------------------------------------------------------------


def _print_welcome(site: Platform, province: Province, starts_at: datetime, seconds: float) -> None:
    print(
        f"""
Loa is running ({seconds:.0f} s to start): {len(province.units)} units of {province.root.name}, {len(province.devices)} devices.

  address      {site.url}
  login        {OFFICER}  (officer of {province.host.name})
  password     {site.secrets.officer_password}
  login        {APPROVER}  (approves the officer's bulletins)
  password     {site.secrets.approver_password}
  login        {OPERATOR}  (on duty for the province: alerts, tests, silences)
  password     {site.secrets.operator_password}
  second factor  {_second_factor(site, OPERATOR)}
  login        {ADMINISTRATOR}  (administrator of the province: accounts, policies, devices)
  password     {site.secrets.administrator_password}
  second factor  {_second_factor(site, ADMINISTRATOR)}
                 (for an authenticator app; its code is asked for before what is dangerous)

Look at
  {site.url}/            the unit's clusters, boards and sensors: last heard, on air, next, proof
                                  a test broadcast sounds on all of {province.host.name} at {starts_at:%H:%M:%S}, Việt Nam time
  {site.url}/alerts         emergencies: as {OPERATOR}, issue one from a template and see whom it reaches
  {site.url}/api/v1/openapi.json    the API
  ./loa quarantine list --login {OPERATOR}    what devices sent that was not admitted
  ./loa audit verify --database {site.control_settings()["CONTROL_DATABASE__URL"]}
                                  whether the record of who did what is whole
  {site.data / "logs"}/    what each part says; kill one and it is started again

Ctrl-C stops everything; what was stored stays in {site.data}.
""",
        flush=True,
    )


def _second_factor(site: Platform, login: str) -> str:
    return authenticator(site, login).address or "the one you enrolled"


_STARTED = time.monotonic()


def _step(text: str) -> None:
    _say(f"[{time.monotonic() - _STARTED:5.1f} s] {text}")


def _say(text: str) -> None:
    print(f"loa: {text}", file=sys.stderr, flush=True)
