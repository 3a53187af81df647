"""Where the emergency bench takes place: the whole platform and a province of simulated clusters.

Everything is a real process of its own, as in the demonstration: database, broker, ingest, control, fleets. What the
bench is told by devices it reads from their trace, not from the platform.
"""

import secrets
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import httpx

from services.control.trust.certificates import ServiceName
from services.local import demo, factory
from services.local.bench.emergency_trace import FleetTrace, whole_lines
from services.local.bench.measurement import BenchFailed
from services.local.bench.usage import Family
from services.local.directories import temporary_directory
from services.local.office import Desk, desk
from services.local.platform import Platform, free_port, platform
from services.local.processes import ManagedProcess
from services.local.province import DeviceSpec, Province, UnitRow, read_units
from services.shared.clock import utc_now
from services.shared.settings import BrokerSettings

OPERATOR = "truc"
UPLINK_BACK_S = 5  # the longest a device of a flapping fleet waits before it tries again
CONNECTS_PER_S = 500  # on which first connections are spread

_EXACT_CLOCKS = 'description = "Exact clocks, good uplinks: what is measured is the platform."\n'
_FLAPPING = (
    'description = "Exact clocks; uplinks that come and go."\n'
    "[outages]\nmean_gap_s = {gap_s}\nmean_length_s = {length_s}\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetGroup:
    """One process of simulated devices."""

    name: str
    devices: tuple[str, ...]
    process: ManagedProcess
    status_url: str
    trace: Path


@dataclass(slots=True, kw_only=True)
class EmergencySite:
    """Everything up. `steady` and `flapping` are the devices by how their uplinks are."""

    platform: Platform
    root: uuid.UUID
    operator: Desk
    families: dict[str, Family]
    client: httpx.AsyncClient
    steady: tuple[str, ...]
    flapping: tuple[str, ...]
    groups: list[FleetGroup] = field(default_factory=list)
    trace: FleetTrace = field(default_factory=FleetTrace)
    _read: dict[Path, int] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[str, ...]:
        """All of them."""
        return self.steady + self.flapping

    def look(self) -> FleetTrace:
        """Read what devices have written since the last look."""
        for group in self.groups:
            if group.process.returncode is not None:
                raise BenchFailed(f"{group.name} ended{group.process.tail()}")
            at = self._read.get(group.trace, 0)
            if not group.trace.exists():
                continue
            with group.trace.open("rb") as file:
                file.seek(at)
                lines, length = whole_lines(file.read().decode("ascii"))
            self._read[group.trace] = at + length
            self.trace.take(lines)
        return self.trace

    async def statuses(self) -> list[Mapping[str, Any]]:
        """How each process of devices is doing."""
        return [(await self.client.get(f"{group.status_url}/status")).json() for group in self.groups]

    def broker_settings(self) -> BrokerSettings:
        """How control connects, and the bench when it publishes itself."""
        identity = self.platform.pki.service(ServiceName.CONTROL)
        return BrokerSettings(
            host="127.0.0.1",
            port=self.platform.broker.service_port,
            ca_file=self.platform.pki.service_ca,
            cert_file=identity.certificate,
            key_file=identity.key,
        )

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU used so far, by part."""
        return {name: used for name, family in self.families.items() if (used := family.cpu_s()) is not None}


@asynccontextmanager
async def emergency_site(*, clusters: int, flapping: int, setup_s: dict[str, float]) -> AsyncIterator[EmergencySite]:
    """The platform with `clusters` devices registered and certified; none runs yet. Fills in how long things took."""
    file, valid_from = demo.TREES[False]
    async with AsyncExitStack() as stack:
        began = utc_now()
        folder = stack.enter_context(temporary_directory("loa-bench-"))
        units = stack.enter_context(resources.as_file(resources.files("services.control") / "data" / file))
        province = lay_out(read_units(units), clusters)
        place = await stack.enter_async_context(platform(folder / "platform", http_port=free_port()))
        await demo.found(place, units, valid_from)
        ingest = await stack.enter_async_context(place.ingest())
        # The alert that is measured is prepared by the bench: others' sounds would only take long to fetch.
        control = await stack.enter_async_context(place.control(CONTROL_POLICY__PREPARES_ALERTS="false"))
        setup_s["platform"] = _since(began)
        began = utc_now()
        password = secrets.token_urlsafe(15)
        root = await _register(place, province, password)
        setup_s["registry"] = _since(began)
        names = tuple(each.device_id for each in province.devices)
        operator = await stack.enter_async_context(desk(place.url, OPERATOR, password))
        await operator.enrol()
        yield EmergencySite(
            platform=place,
            root=root,
            operator=operator,
            families={
                "broker": Family(place.broker.process.pid),
                "database": Family(place.postgres.pid),
                "ingest": Family(ingest.pid),
                "control": Family(control.pid),
            },
            client=await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False)),
            steady=names[flapping:],
            flapping=names[:flapping],
        )


def lay_out(units: Sequence[UnitRow], clusters: int) -> Province:
    """So many clusters with a session each, dealt out over the communes of a province."""
    root = next(unit for unit in units if not unit.parent_code)
    parents = {unit.parent_code for unit in units}
    communes = [unit for unit in units if unit.code not in parents]
    devices = tuple(
        DeviceSpec(
            device_id=f"cl-{index:05d}",
            kind="cluster",
            unit_code=communes[index % len(communes)].code,
            name=f"Cụm loa số {1 + index // len(communes)}",
            latitude=21.2,
            longitude=106.2,
        )
        for index in range(clusters)
    )
    return Province(root=root, host=root, units=tuple(units), devices=devices)


async def _register(place: Platform, province: Province, password: str) -> uuid.UUID:
    async with demo.person(place, demo.ADMINISTRATOR) as administrator:
        unit_ids = {unit["code"]: unit["unit_id"] for unit in await administrator.get("/units/tree")}
        root = unit_ids[province.root.code]
        await administrator.post(
            "/accounts",
            {
                "login": OPERATOR,
                "display_name": "Trực ban",
                "unit_id": root,
                "password": password,
                "grants": [{"unit_id": root, "role": "operator"}],
            },
        )
        rows = factory.registrations(province.devices, unit_ids)
        for start in range(0, len(rows), demo.BATCH):
            await administrator.post("/devices/batch", {"devices": rows[start : start + demo.BATCH]})
    return uuid.UUID(root)


# --- devices ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def fleets(site: EmergencySite, *, processes: int, gap_s: float, length_s: float) -> AsyncIterator[None]:
    """All devices in so many processes, and those with flapping uplinks in one of their own."""
    place = site.platform
    scenarios = {False: place.data / "exact.toml", True: place.data / "flapping.toml"}
    scenarios[False].write_text(_EXACT_CLOCKS)
    scenarios[True].write_text(_FLAPPING.format(gap_s=gap_s, length_s=length_s))
    parts = [(f"fleet-{which}", site.steady[which::processes], False) for which in range(processes)]
    parts.append(("fleet-flapping", site.flapping, True))
    async with AsyncExitStack() as stack:
        for name, devices, flaps in parts:
            if not devices:
                continue
            manifest, trace, port = place.data / f"{name}.json", place.data / f"{name}.trace", free_port()
            factory.equip(place.pki, [_spec(each) for each in devices], manifest, now=utc_now())
            process = await stack.enter_async_context(
                place.fleet(
                    manifest,
                    {
                        "SIM_SCENARIO": str(scenarios[flaps]),
                        "SIM_TRACE": str(trace),
                        "SIM_RAMP": f"{1 + len(site.devices) // CONNECTS_PER_S}s",
                        **({"SIM_BROKER__BACKOFF_CAP": f"{UPLINK_BACK_S}s"} if flaps else {}),
                    },
                    name=name,
                    folder=name,
                    status_port=port,
                )
            )
            site.groups.append(
                FleetGroup(
                    name=name, devices=devices, process=process, status_url=f"http://127.0.0.1:{port}", trace=trace
                )
            )
            site.families[name] = Family(process.pid)
        yield


def _spec(device_id: str) -> DeviceSpec:
    """As much of a device as a factory has to know."""
    return DeviceSpec(device_id=device_id, kind="cluster", unit_code="", name="", latitude=21.2, longitude=106.2)


def _since(began: datetime) -> float:
    return round((utc_now() - began) / timedelta(seconds=1), 1)
