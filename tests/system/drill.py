"""A small province for drills: the whole platform, devices that write down what they did, people with their own logins."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from services.local import demo, factory
from services.local.bench.emergency_site import lay_out
from services.local.bench.emergency_trace import AlertTrace, FleetTrace, whole_lines
from services.local.office import Authenticator, Desk, desk
from services.local.platform import DATABASE, IPV4, Platform, free_port, platform
from services.local.processes import ManagedProcess
from services.local.province import DeviceSpec, Province, read_units
from services.shared.clock import utc_now

DEADLINE_S = 90.0
LONG = timedelta(minutes=10)


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str) -> None:
    """Wait at most until the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class Person:
    """Somebody who is logged in; the session holds at every replica of control."""

    client: httpx.AsyncClient

    async def ask(self, url: str, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Any:
        """The answer of one replica, whatever it is."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, f"{url}/api/v1{path}", json=body, headers=named)

    async def done(
        self, url: str, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str
    ) -> Any:
        """The JSON of what has to succeed."""
        answer = await self.ask(url, method, path, body, **headers)
        assert answer.is_success, answer.text
        return answer.json()


@dataclass(slots=True, kw_only=True)
class Drill:
    """Everything up; devices are started by `fleet`."""

    site: Platform
    province: Province
    database: Any
    units: Mapping[str, str]  # id by code
    sound: str = ""
    trace: FleetTrace = field(default_factory=FleetTrace)
    _files: dict[Path, int] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The province."""
        return self.units[self.province.root.code]

    @asynccontextmanager
    async def fleet(self, name: str, devices: Sequence[DeviceSpec]) -> AsyncIterator[ManagedProcess]:
        """These devices in a process of their own, as often as wanted: their memory is kept."""
        manifest, trace = self.site.data / f"{name}.json", self.site.data / f"{name}.trace"
        factory.equip(self.site.pki, devices, manifest, now=utc_now())
        self._files.setdefault(trace, 0)
        settings = {
            **demo.FAST_HEARTBEATS,
            "SIM_TRACE": str(trace),
            "SIM_BROKER__BACKOFF_CAP": "1s",
            "SIM_RAMP": "10ms",
        }
        async with self.site.fleet(manifest, settings, name=name, folder=name) as process:
            yield process

    def look(self, alert_id: str) -> AlertTrace:
        """What devices have written down of an alert by now."""
        for file, at in self._files.items():
            if file.exists():
                with file.open("rb") as lines:
                    lines.seek(at)
                    found, length = whole_lines(lines.read().decode("ascii"))
                self._files[file] = at + length
                self.trace.take(found)
        return self.trace.alert(alert_id)

    def starts(self, alert_id: str) -> dict[str, int]:
        """How often each device has begun an alert by now."""
        return {device: len(starts) for device, starts in self.look(alert_id).started.items()}

    @asynccontextmanager
    async def person(self, unit_id: str, role: str) -> AsyncIterator[Person]:
        """Somebody new with a role in a unit, logged in."""
        login, password = f"{role}-{secrets.token_hex(3)}", secrets.token_urlsafe(15)
        grants = [{"unit_id": unit_id, "role": role}]
        async with demo.person(self.site, demo.ADMINISTRATOR) as administrator:
            account = {"login": login, "display_name": login, "unit_id": unit_id, "password": password}
            await administrator.post("/accounts", {**account, "grants": grants})
        async with httpx.AsyncClient(base_url=self.site.url, timeout=60, trust_env=False) as client:
            answer = await client.post("/api/v1/sessions", json={"login": login, "password": password})
            client.headers["X-CSRF-Token"] = answer.raise_for_status().json()["csrf_token"]
            await Desk(client, password, Authenticator()).enrol()
            yield Person(client)

    def alert(self, unit_id: str, valid: timedelta = LONG, **changes: Any) -> dict[str, Any]:
        """An alert for a unit, with a sound that its devices keep."""
        return {
            "unit_id": unit_id,
            "event": "Lũ",
            "severity": "extreme",
            "texts": [{"headline": "Lũ khẩn cấp", "board_text": "Lũ khẩn cấp", "media_sha256": self.sound}],
            "audience": {"areas": [{"units": [unit_id]}]},
            "valid_until": (utc_now() + valid).isoformat(),
            **changes,
        }

    async def prepare(self, operator: Person, everybody: Sequence[DeviceSpec]) -> None:
        """Have every device of `everybody`, which are running, hold the sound: a first alert tells, and is cancelled."""
        body = self.alert(self.root)
        url = self.site.url
        alert_id = (await operator.done(url, "POST", "/alerts", body))["alert_id"]
        await until(lambda: len(self.starts(alert_id)) == len(everybody), "every device has sounded a first alert")
        await operator.done(url, "POST", f"/alerts/{alert_id}/cancel", If_Match="*")
        await until(lambda: self.over(alert_id, 2) == len(everybody), "the first alert is over everywhere")

    def over(self, alert_id: str, version: int) -> int:
        """How many devices have said that a version ended it."""
        return self.look(alert_id).results(version)["cancelled"]

    async def prepare_sound(self, operator: Person) -> None:
        """An alert prepared beforehand, whose sound devices fetch and keep."""
        template = {"unit_id": self.root, "name": "Lũ", "event": "Lũ", "texts": [{"headline": "Lũ", "spoken": ""}]}
        made = await operator.done(self.site.url, "POST", "/alert-templates", template)
        self.sound = made["texts"][0]["media_sha256"]

    @asynccontextmanager
    async def second_control(self) -> AsyncIterator[tuple[str, ManagedProcess]]:
        """One more replica of control, and where it answers."""
        other = replace(self.site, http_port=free_port())
        # What devices are told of addresses must not change with who tells it.
        async with other.control(CONTROL_MEDIA__BASE_URL=self.site.url) as process:
            yield other.url, process


@asynccontextmanager
async def a_drill(folder: Path, *, clusters: int, boards: int = 0, address: str = IPV4) -> AsyncIterator[Drill]:
    """The platform with a province of so many clusters and boards, all registered and none running."""
    file, valid_from = demo.TREES[False]
    async with AsyncExitStack() as stack:
        path = stack.enter_context(resources.as_file(resources.files("services.control") / "data" / file))
        province = lay_out(read_units(path), clusters)
        shown = tuple(
            replace(each, device_id=f"bd-{index:05d}", kind="board", name="Bảng điện tử")
            for index, each in enumerate(province.devices[:boards])
        )
        province = replace(province, devices=(*province.devices, *shown))
        site = await stack.enter_async_context(platform(folder / "province", http_port=free_port(), address=address))
        await demo.found(site, path, valid_from)
        await stack.enter_async_context(site.ingest())
        await stack.enter_async_context(site.control())
        await demo.settle(site, province)
        async with desk(site.url, demo.ADMINISTRATOR, site.secrets.administrator_password) as administrator:
            units = {unit["code"]: unit["unit_id"] for unit in await administrator.get("/units/tree")}
        database = await asyncpg.connect(site.postgres.dsn(DATABASE))
        stack.push_async_callback(database.close)
        yield Drill(site=site, province=province, database=database, units=units)
