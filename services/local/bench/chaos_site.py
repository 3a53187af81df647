"""Where things are broken: database, broker, two replicas of ingest and devices, each behind a relay of the bench.

devices ──relay──▶ broker ◀──witness── ingest:1, ingest:2 ──relay──▶ database
"""

import asyncio
import http.client
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName
from services.local import processes
from services.local.bench import chaos_store
from services.local.bench.chaos_devices import REPEAT_S, Door, EventSpeaker, HeartbeatSpeaker
from services.local.bench.chaos_ledger import Heartbeats, JournalKey, Ledger, Loss, Outage
from services.local.bench.chaos_relay import Relay
from services.local.bench.chaos_server import Server, server
from services.local.bench.chaos_witness import Witness
from services.local.bench.population import FEWEST, Mix, Population
from services.local.bench.traffic import Profile, Traffic
from services.local.broker import Broker, Options
from services.local.directories import temporary_directory
from services.local.pki import Identity, Pki, issue_devices, prepare
from services.local.platform import TOP, free_port, inherited_environment
from services.local.processes import ManagedProcess
from services.shared.clock import utc_now

REPLICAS = ("ingest:1", "ingest:2")
READY_DEADLINE = timedelta(seconds=60)
STOP_GRACE = timedelta(seconds=5)

# As `./loa demo`; a province has 60 s. The shorter, the more often ingest meets what it has acknowledged before.
AUTOSAVE = timedelta(seconds=5)
CLOCK_SLACK_S = 0.05  # between the time in a file's status and the clock

EVENT_GATEWAYS = 2
EVENT_DEVICES = 100  # behind each of them
SMALL = Population.of(FEWEST, Mix.HEAVY)  # all kinds of devices, each of them often
_FIRST_EVENT_DEVICE = 9_600_001  # beyond every population


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much the devices say a second."""

    heartbeats: float
    events: float


class Replica:
    """One ingest process, however often it is started."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.health_port = free_port()
        self._is_down = True  # because it was never started, or because we ended it
        self._log = folder / f"{name.replace(':', '-')}.log"
        self._environment = inherited_environment() | {
            **environment,
            "INGEST_REPLICA": name,
            "INGEST_HEALTH__PORT": str(self.health_port),
        }
        self._process: ManagedProcess | None = None

    @property
    def process(self) -> ManagedProcess:
        """The process of the last start."""
        assert self._process is not None, "the replica has been started"
        return self._process

    @property
    def sessions(self) -> tuple[str, str]:
        """The client ids of its sessions that take messages of devices."""
        return self.name, f"{self.name}-vital"

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    def start(self, **settings: str) -> None:
        """Start it and return at once."""
        self._is_down = False
        self._process = processes.start(
            self.name,
            [sys.executable, "-m", "services.ingest"],
            log=self._log,
            env=self._environment | settings,
            cwd=TOP,
        )

    @property
    def has_given_up(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and not self._is_down and self._process.returncode is not None

    async def wait_ready(self) -> None:
        """Return when it takes messages. Raises `ProcessFailed`."""
        await self.process.wait_ready(f"http://127.0.0.1:{self.health_port}/readyz", deadline=READY_DEADLINE)

    def kill(self) -> None:
        """`kill -9`."""
        self._is_down = True
        if self.is_running:
            self.process.kill()

    async def stop(self) -> None:
        """Have it end well."""
        self._is_down = True
        if self.is_running:
            await self.process.stop(grace=STOP_GRACE)

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.is_running:
            os.kill(self.process.pid, signal.SIGCONT)

    async def metric(self, name: str) -> float | None:
        """The value of one metric, of all its labels together; None where it has none or does not answer."""
        text = await asyncio.to_thread(_get, self.health_port, "/metrics")
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(map(float, values)) if values else None


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


@dataclass(slots=True, kw_only=True)
class ChaosSite:
    """Everything there is, and the ways to break it."""

    folder: Path
    pki: Pki
    server: Server
    ledger: Ledger
    to_database: Relay
    to_broker: Relay  # of the devices
    witness: Witness
    identities: Mapping[DeviceId, Identity]
    event_gateways: "Sequence[EventGateway]"
    group: str = field(default_factory=lambda: secrets.token_hex(16))
    _broker: Broker | None = None
    _broker_began_at: float = 0.0
    replicas: list[Replica] = field(default_factory=list)
    last_words: list[str] = field(default_factory=list)  # of each ingest that ended by itself
    heartbeats: list[HeartbeatSpeaker] = field(default_factory=list)
    events: list[EventSpeaker] = field(default_factory=list)

    def end(self) -> None:
        """End what was started, however it may hang."""
        for replica in self.replicas:
            replica.kill()
        if self._broker is not None:
            self._broker.process.kill()

    # --- the broker ---

    @property
    def broker(self) -> Broker:
        """The broker everybody is led to."""
        assert self._broker is not None, "a broker has been opened"
        return self._broker

    async def open_broker(self, broker: Broker) -> None:
        """Start a broker, which from now on is the one everybody is led to."""
        self._broker = broker
        self._broker_began_at = time.monotonic()
        await broker.start()
        self._lead_to_broker()

    def _lead_to_broker(self) -> None:
        self.to_broker.target = (self.broker.host, self.broker.device_port)
        self.witness.target = (self.broker.host, self.broker.service_port)

    async def kill_broker(self) -> float:
        """`kill -9` of the broker; returns the monotonic time from which what it took is gone.

        That is when it last saved, or when it was started, where it has not saved since.
        """
        await self.broker.kill()
        try:
            saved_at = self.broker.database.stat().st_mtime
        except FileNotFoundError:
            return self._broker_began_at
        return max(self._broker_began_at, time.monotonic() - (utc_now().timestamp() - saved_at) - CLOCK_SLACK_S)

    async def start_broker(self, *, saved_at: float) -> float:
        """Start it again after `kill_broker`; returns when that was, before it was ready."""
        self._broker_began_at = began_at = time.monotonic()
        await self.broker.start()
        self.ledger.outages.append(Outage(Loss.CRASH, saved_at, time.monotonic()))
        return began_at

    # --- ingest ---

    def add_replicas(self, names: Sequence[str], **settings: str) -> None:
        """Have so many replicas, not started."""
        identity = self.pki.service(ServiceName.INGEST)
        environment = {
            "INGEST_DATABASE__URL": self.server.ingest_url(self.to_database.port),
            "INGEST_BROKER__HOST": "127.0.0.1",
            "INGEST_BROKER__PORT": str(self.witness.port),
            "INGEST_BROKER__CA_FILE": str(self.pki.service_ca),
            "INGEST_BROKER__CERT_FILE": str(identity.certificate),
            "INGEST_BROKER__KEY_FILE": str(identity.key),
            "INGEST_BROKER_LOG": str(self.broker.log),
            "INGEST_SHARED_GROUP": self.group,
            **settings,
        }
        self.replicas = [Replica(name, self.folder, environment) for name in names]

    async def start_replicas(self) -> None:
        """Start all of them and wait until they take messages."""
        for replica in self.replicas:
            replica.start()
        for replica in self.replicas:
            await replica.wait_ready()

    def restart_fallen(self) -> None:
        """Start again what has ended by itself, as a supervisor does, and keep its last words."""
        for replica in self.replicas:
            if replica.has_given_up:
                self.last_words.append(
                    f"{replica.name} ended with status {replica.process.returncode}{replica.process.tail()}"
                )
                replica.start()

    # --- devices ---

    def add_devices(self, load: Load, *, repeat_s: float = REPEAT_S) -> None:
        """Have the devices, silent until their `run`; events without a receipt are repeated after `repeat_s`."""
        population = self.ledger.traffic.population
        share = load.heartbeats / population.gateways
        self.heartbeats = [
            HeartbeatSpeaker(
                gateway,
                self.ledger.traffic,
                self.ledger,
                share,
                self._door,
                self.certificate(population.gateway_id(gateway)),
            )
            for gateway in range(population.gateways if load.heartbeats else 0)
        ]
        self.events = [
            EventSpeaker(
                each.gateway_id,
                each.devices,
                self.ledger,
                load.events / len(self.event_gateways),
                self._door,
                self.certificate(each.gateway_id),
                repeat_s=repeat_s,
            )
            for each in self.event_gateways
        ]

    def _door(self) -> Door:
        return Door(host="127.0.0.1", port=self.to_broker.port, ca_file=str(self.pki.service_ca))

    def certificate(self, gateway: DeviceId) -> tuple[str, str]:
        """Certificate and key of a gateway, as files."""
        identity = self.identities[gateway]
        return str(identity.certificate), str(identity.key)

    @asynccontextmanager
    async def speaking(self) -> AsyncIterator[None]:
        """Inside, the devices live."""
        async with meanwhile(*(each.run() for each in (*self.heartbeats, *self.events))):
            yield

    def say_no_more(self) -> None:
        """Have the devices say nothing new; events are repeated all the same."""
        for each in (*self.heartbeats, *self.events):
            each.say_no_more()

    def say_on(self) -> None:
        """Have them say new things again."""
        for each in (*self.heartbeats, *self.events):
            each.say_on()

    @property
    def is_connected(self) -> bool:
        """Whether every gateway is."""
        return all(each.is_connected for each in (*self.heartbeats, *self.events))

    @property
    def events_waiting(self) -> int:
        """Events no receipt has come for."""
        return sum(each.waiting for each in self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventGateway:
    """A gateway whose devices have events to tell."""

    gateway_no: int
    gateway_id: DeviceId
    devices: Sequence[tuple[DeviceId, JournalKey]]

    @classmethod
    def make(cls, which: int) -> "EventGateway":
        """Return the gateway with this index."""
        first = _FIRST_EVENT_DEVICE + which * (EVENT_DEVICES + 1)
        journal = int.from_bytes(secrets.token_bytes(8), "big", signed=True)
        return cls(
            gateway_no=first,
            gateway_id=DeviceId(f"bench-reporter-{which}"),
            devices=[
                (DeviceId(f"bench-speaker-{which}-{index:03}"), (first + 1 + index, journal))
                for index in range(EVENT_DEVICES)
            ],
        )


class _Told:
    """Takes what the witness tells to the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def delivered(self, topic: str, payload: bytes) -> None:
        self._ledger.note_delivered(topic, payload, at=time.monotonic())

    def acknowledged(self, topic: str, payload: bytes, *, session: str) -> None:
        self._ledger.note_acknowledged(topic, payload, at=time.monotonic(), session=session)


@asynccontextmanager
async def chaos_site(database: str | None, population: Population = SMALL) -> AsyncIterator[ChaosSite]:
    """A site with everybody registered, no broker and nothing running yet but the database."""
    gateways = [EventGateway.make(which) for which in range(EVENT_GATEWAYS)]
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_directory("loa-chaos-"))
        now = utc_now()
        pki = prepare(folder / "pki", now=now)
        names = [population.gateway_id(each) for each in range(population.gateways)]
        identities = issue_devices(pki, [*names, *(each.gateway_id for each in gateways)], now=now)
        there = await stack.enter_async_context(server(folder, database))
        async with chaos_store.connected(there.owner_url) as owner:
            registered = [
                ((each.gateway_no, each.gateway_id), [(key[0], name) for name, key in each.devices])
                for each in gateways
            ]
            await chaos_store.register(owner, population, registered, now=now)
        ledger = Ledger(
            traffic=Traffic(population=population, profile=Profile.HEARTBEATS, base_ms=round(now.timestamp() * 1000)),
            heartbeats=[Heartbeats() for _ in range(population.gateways)],
            journals={},
            event_devices={name: key[0] for each in gateways for name, key in each.devices},
        )
        to_database = await stack.enter_async_context(Relay(there.address, reads_postgresql=True))
        site = ChaosSite(
            folder=folder,
            pki=pki,
            server=there,
            ledger=ledger,
            to_database=to_database,
            to_broker=await stack.enter_async_context(Relay()),
            witness=await stack.enter_async_context(Witness(pki, pki.service(ServiceName.INGEST), _Told(ledger))),
            identities=identities,
            event_gateways=gateways,
        )
        stack.callback(site.end)
        yield site


@asynccontextmanager
async def meanwhile(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have `work` done for as long as the block runs. What goes wrong, there or in the block, is raised as it is."""
    problem: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            doing = [tasks.create_task(each) for each in work]
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised below, outside the group, which would wrap it
                problem = error
            finally:
                for each in doing:
                    each.cancel()
    except ExceptionGroup as group:
        problem = problem or group.exceptions[0]
    if problem is not None:
        raise problem


def broker_of(site: ChaosSite, name: str, options: Options | None = None) -> Broker:
    """A broker that is not started, with a folder of its own."""
    return Broker(
        site.folder / f"broker-{name}",
        site.pki,
        options or Options(autosave=AUTOSAVE, logs_denied_publishes=False),
    )
