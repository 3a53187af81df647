"""What the tests of ingest share: a bench to run it on, a registry to judge by, devices that speak, honest messages."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas import codec, events, heartbeats, presence, readings
from schemas.fields import ClockState, NetworkType, PlayReference, PlaySource, PowerSource
from services.control.trust.certificates import ServiceName
from services.ingest import app
from services.ingest.settings import Settings
from services.local.broker import Broker
from services.local.platform import free_port, inherited_environment
from services.local.processes import ManagedProcess, running
from services.shared.clock import utc_now
from services.shared.database.pool import connect
from services.shared.settings import DatabaseSettings
from tests.support.broker import MqttClient, connect_device

if TYPE_CHECKING:
    import asyncpg

DEADLINE_S = 20.0
TOP = Path(__file__).resolve().parents[3]
GROUP = "a-secret-group-name"

# The registry of the tests: who exists, and who speaks for whom.
CLUSTER, OTHER_CLUSTER, BOARD, GATEWAY, OTHER_GATEWAY = "cluster-1", "cluster-2", "board-1", "gateway-1", "gateway-2"
BEHIND = "sensor-1"  # behind GATEWAY

JOURNAL = bytes.fromhex("8899aabbccddeeff")


async def eventually(
    ask: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], *, what: str = "", deadline_s: float = DEADLINE_S
) -> Any:
    """Ask until the answer is as wanted, and return it; fail with the last answer at the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        answer = await ask()
        if wanted(answer):
            return answer
        assert loop.time() < end, f"waited {deadline_s:g} s in vain for {what or 'an answer'}; the last was {answer!r}"
        await asyncio.sleep(0.02)


@dataclass(slots=True)
class Bench:
    """Where ingest is tried out."""

    broker: Broker
    ingest_database: DatabaseSettings
    owner: "asyncpg.Connection[asyncpg.Record]"
    numbers: Mapping[str, int]
    clients: list[MqttClient] = field(default_factory=list)

    # --- ingest ---

    def settings(self, **changes: Any) -> Settings:
        """Settings of an ingest on this bench."""
        identity = self.broker.pki.service(ServiceName.INGEST)
        return Settings.model_validate(
            {
                "database": self.ingest_database,
                "broker": {
                    "host": "127.0.0.1",
                    "port": self.broker.service_port,
                    "ca_file": self.broker.pki.service_ca,
                    "cert_file": identity.certificate,
                    "key_file": identity.key,
                },
                "shared_group": GROUP,
                "batch": {"age": "20ms", "commit_timeout": "5s"},
                "receipt_interval": "20ms",
                **changes,
            }
        )

    @asynccontextmanager
    async def ingest(self, **changes: Any) -> AsyncIterator["RunningIngest"]:
        """Ingest in this process, ready; stopped gracefully at the end."""
        async with self.starting_ingest(**changes) as ingest:
            await eventually(ingest.is_ready, bool, what="a ready ingest")
            yield ingest

    @asynccontextmanager
    async def starting_ingest(self, **changes: Any) -> AsyncIterator["RunningIngest"]:
        """Ingest in this process, just begun; stopped gracefully at the end."""
        port = free_port()
        settings = self.settings(health={"port": port}, **changes)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(app.run(settings, stop), name="ingest under test")
            try:
                yield RunningIngest(port=port, stop=stop, task=task)
            finally:
                stop.set()

    def environment(self) -> dict[str, str]:
        """The settings of an ingest on this bench as a process gets them."""
        identity = self.broker.pki.service(ServiceName.INGEST)
        return {
            "INGEST_DATABASE__URL": self.ingest_database.url.get_secret_value(),
            "INGEST_BROKER__HOST": "127.0.0.1",
            "INGEST_BROKER__PORT": str(self.broker.service_port),
            "INGEST_BROKER__CA_FILE": str(self.broker.pki.service_ca),
            "INGEST_BROKER__CERT_FILE": str(identity.certificate),
            "INGEST_BROKER__KEY_FILE": str(identity.key),
            "INGEST_SHARED_GROUP": GROUP,
            "INGEST_BATCH__AGE": "20ms",
            "INGEST_RECEIPT_INTERVAL": "20ms",
        }

    @asynccontextmanager
    async def ingest_process(self, log: Path, **extra: str) -> AsyncIterator[ManagedProcess]:
        """Ingest as a process of its own, ready; it may be killed."""
        port = int(extra.pop("INGEST_HEALTH__PORT", "0")) or free_port()
        environment = self.environment() | {"INGEST_HEALTH__PORT": str(port), **extra}
        async with running(
            "ingest",
            [sys.executable, "-m", "services.ingest"],
            log=log,
            env=inherited_environment() | environment,
            cwd=TOP,
        ) as process:
            await process.wait_ready(f"http://127.0.0.1:{port}/readyz", deadline=timedelta(seconds=30))
            yield process

    # --- devices ---

    async def device(self, device_id: str, **options: Any) -> MqttClient:
        """A connection of that device, closed with the bench."""
        client = await asyncio.to_thread(connect_device, self.broker, device_id, **options)
        self.clients.append(client)
        return client

    # --- what was stored ---

    async def rows(self, query: str, *arguments: object) -> list["asyncpg.Record"]:
        """What a query finds, as the owner."""
        return await self.owner.fetch(query, *arguments)

    async def eventually(self, query: str, wanted: Callable[[Any], bool], *arguments: object) -> list["asyncpg.Record"]:
        """Ask the database until the answer is as wanted."""

        async def ask() -> list["asyncpg.Record"]:
            return await self.rows(query, *arguments)

        answer: list[asyncpg.Record] = await eventually(ask, wanted, what=query)
        return answer

    async def until_events(self, count: int) -> None:
        """Return when at least that many events are stored."""
        await self.eventually("SELECT count(*) FROM telemetry.events", lambda rows: rows[0][0] >= count)

    async def quarantined(self, reason: str, *, messages: int = 1) -> "asyncpg.Record":
        """The row of quarantine with that reason, once it counts that many messages."""
        found = await self.eventually(
            "SELECT * FROM telemetry.quarantine_log WHERE reason = $1",
            lambda rows: sum(row["messages"] for row in rows) >= messages,
            reason,
        )
        return found[0]


@dataclass(frozen=True, slots=True)
class RunningIngest:
    """An ingest by its health server; in this process, where it can be stopped from here."""

    port: int
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of its health server; (0, "") when it does not answer."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return 0, ""
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            return int(head.split()[1]), body
        finally:
            writer.close()

    async def is_ready(self) -> bool:
        """Whether it says that it can do its work."""
        assert self.task is None or not self.task.done(), "ingest has ended"
        return (await self.get("/readyz"))[0] == 200

    async def until(self, name: str, value: float) -> None:
        """Return when the metric has exactly that value."""
        await eventually(lambda: self.metric(name), lambda answer: answer == value, what=f"{name} {value:g}")

    async def metric(self, name: str) -> float:
        """The value of one metric, written with its labels as Prometheus shows it, or the sum of all that have its name.

        0 where it is not there yet.
        """
        _, body = await self.get("/metrics")
        return sum(
            float(line.rpartition(" ")[2]) for line in body.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
        )


@asynccontextmanager
async def a_bench(
    ingest_database: DatabaseSettings, owner_database: DatabaseSettings, broker: Broker
) -> AsyncIterator[Bench]:
    """A bench with the registry of the tests."""
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(connect(owner_database, application="test"))
        bench = Bench(broker, ingest_database, owner, await register_everybody(owner))
        try:
            yield bench
        finally:
            for client in bench.clients:
                await asyncio.to_thread(client.close)


async def register_everybody(owner: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """Fill the registry; return the devices' numbers by name."""
    numbers = {}
    for device_id, kind in (
        (CLUSTER, "cluster"),
        (OTHER_CLUSTER, "cluster"),
        (BOARD, "board"),
        (GATEWAY, "gateway"),
        (OTHER_GATEWAY, "gateway"),
        (BEHIND, "sensor"),
    ):
        numbers[device_id] = await register(owner, device_id, kind)
    await assign(owner, numbers[BEHIND], numbers[GATEWAY])
    return numbers


async def register(owner: "asyncpg.Connection[asyncpg.Record]", device_id: str, kind: str) -> int:
    """Register one device in a unit of its own; return its number."""
    unit_id = uuid.uuid4()
    await owner.execute("INSERT INTO control.units (unit_id) VALUES ($1)", unit_id)
    number: int = await owner.fetchval(
        "INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at)"
        " VALUES ($1, $2, $3, $1, now()) RETURNING device_no",
        device_id,
        kind,
        unit_id,
    )
    return number


async def assign(owner: "asyncpg.Connection[asyncpg.Record]", device_no: int, gateway_no: int) -> None:
    """Let a gateway speak for a device from now on."""
    await owner.execute(
        "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from)"
        " VALUES ($1, $2, now() - interval '1 hour')",
        device_no,
        gateway_no,
    )


# --- honest messages ---


def now_ms() -> int:
    """The present instant as devices write it."""
    return int(utc_now().timestamp() * 1000)


def a_heartbeat(**changes: Any) -> heartbeats.ClusterHeartbeat:
    """A cluster's heartbeat of this moment."""
    return heartbeats.ClusterHeartbeat(
        **{
            "device_at_ms": now_ms(),
            "clock": ClockState.SYNCHRONISED,
            "firmware": "test-1",
            "uptime_s": 60,
            "network": heartbeats.Network(type=NetworkType.CELLULAR_4G, signal_dbm=-80, operator="Viettel"),
            "power": heartbeats.Power(source=PowerSource.MAINS),
            "volume_percent": 40,
            "faulty_channels": (2,),
            **changes,
        }
    )


def a_sensor_heartbeat(**changes: Any) -> heartbeats.SensorHeartbeat:
    """A sensor's heartbeat of this moment."""
    return heartbeats.SensorHeartbeat(
        **{
            "device_at_ms": now_ms(),
            "clock": ClockState.SYNCHRONISED,
            "firmware": "test-1",
            "uptime_s": 60,
            **changes,
        }
    )


def a_reading(**changes: Any) -> readings.Reading:
    """A reading of two quantities at this moment."""
    return readings.Reading(
        **{
            "device_at_ms": now_ms(),
            "clock": ClockState.SYNCHRONISED,
            "samples": (
                readings.Sample(quantity="water_level", value=2.5, unit="m"),
                readings.Sample(quantity="rainfall", value=12, unit="mm"),
            ),
            **changes,
        }
    )


def an_event(**changes: Any) -> events.PlayStarted:
    """A play that started at this moment."""
    at_ms = now_ms()
    return events.PlayStarted(
        **{
            "device_at_ms": at_ms,
            "clock": ClockState.SYNCHRONISED,
            "reference": PlayReference(source=PlaySource.COMMAND, id=uuid.UUID(int=7)),
            "started_at_ms": at_ms,
            "volume_percent": 40,
            **changes,
        }
    )


def enveloped(sequence: int, body: bytes | None = None, *, journal: bytes = JOURNAL) -> bytes:
    """An event as it travels; an honest one unless a body is given."""
    body = codec.encode(an_event()) if body is None else body
    return codec.encode(events.EventEnvelope(journal=journal, sequence=sequence, body=body))


def a_presence(number: int, *, online: bool, **changes: Any) -> bytes:
    """An encoded presence report."""
    report = presence.PresenceReport(
        **{
            "connection_number": number,
            "online": online,
            "device_at_ms": now_ms(),
            "clock": ClockState.SYNCHRONISED,
            **changes,
        }
    )
    return codec.encode(report)
