"""Who takes messages: nobody, the stock C subscriber, the naive scripts, and Loa's ingest. Each against a fresh broker."""

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg

from schemas import topics
from services.control.trust.certificates import ServiceName
from services.local.bench import naive, store
from services.local.bench.measurement import BenchFailed, Window, drain, generating, measure
from services.local.bench.scoreboard import NO_LIMIT, Slot
from services.local.bench.site import Site, ingest_settings
from services.local.bench.usage import Crew, Family, Memory, Unread, memory
from services.local.bench.verification import Batch, Verified, verify
from services.local.broker import Broker
from services.local.platform import free_port
from services.local.processes import ManagedProcess

# Messages under way, sent and not taken. Ingest may hold 20,000 unacknowledged (its Receive Maximum), so with half as
# many again it always has all it wants. The naive scripts want far less; more would only make them start later.
UNDER_WAY = 30_000
UNDER_WAY_NAIVE = 2_000
# What the ceiling has taken is known up to a tenth of a second late (`Unread`) and in steps of the C library's buffer. With
# ingest's 30,000 the broker was kept waiting: 51,300 messages a second with 0.94 cores, 55,000 with 60,000 and 0.97.
UNDER_WAY_CEILING = 60_000

LOOK_AT_NAIVE_EVERY_S = 0.02  # a query of its own each time, on the cores they share

FASTEST = 250_000  # messages a second, more than a generator can send
WARM_UP_S = 3.0
PACE = 0.9  # of its full rate, where latency and backlog are looked at
PACED_SHARE = 0.75  # of the time the full rate is measured for
PACED_AT_LEAST_S = (
    6.0  # thirds of less would hold too few batches to tell a backlog that grows from one that comes and goes
)
REGISTRY_DEADLINE = timedelta(seconds=240)
SUBSCRIBED_DEADLINE = timedelta(seconds=15)

PUBACK_RECORD_BYTES = 26  # four bytes in a TLS 1.3 record of their own, which is how libmosquitto sends them

_RECEIVE_MAXIMUM = 20_000  # as ingest's; mosquitto_sub would ask for 20
_CLIENT = "bench:ceiling"
_NEVER = "4294967295"


# --- nobody ----------------------------------------------------------------------------------------------------------


async def generator_alone(site: Site, *, seconds: float) -> Window:
    """How fast the generator is where nobody subscribes and nothing holds it: what it and the broker's front can do."""
    async with (
        site.broker("alone") as broker,
        generating(site, broker, "alone", messages=round(FASTEST * (seconds + 1))) as load,
    ):
        await load.wait_ready()

        async def acknowledged() -> int:
            return load.board[Slot.ACKNOWLEDGED]

        return await measure(load, acknowledged, under_way=NO_LIMIT // 2, warm_up_s=0.5, seconds=seconds, families={})


# --- the ceiling -----------------------------------------------------------------------------------------------------


async def ceiling(site: Site, name: str, *, seconds: float, messages: int) -> Window:
    """The broker alone to `mosquitto_sub` at QoS 1: a persistent session like ingest's, and as wide a window.

    A message counts when the broker has the subscriber's acknowledgement, as it does for ingest. Counting what the
    subscriber was given flatters it: the broker reads one acknowledgement each time it reads one message from every
    publisher, and Mosquitto up to 2.0.12 sends on regardless of the window. So acknowledgements pile up unread, until
    after a million the broker's queue is full and it drops what comes.
    """
    async with site.broker(name) as broker, generating(site, broker, name, messages=messages) as load:
        command = _mosquitto_sub(site, broker)
        # Subscribes and leaves; what comes from now on waits in the session, so that the first message counts too.
        async with site.process(f"{name}-subscribe", [*command, "-E"]) as subscribing:
            await asyncio.wait_for(subscribing.wait(), SUBSCRIBED_DEADLINE.total_seconds())
        # One character for each message is the least it can be made to say; its output is buffered by the C library.
        async with site.process(name, [*command, "-N", "-F", "."]) as subscriber:
            output = site.log(name)
            await load.wait_ready()

            unread = Unread(broker.service_port)

            async def acknowledged() -> int:
                return output.stat().st_size - unread.bytes() // PUBACK_RECORD_BYTES

            window = await measure(
                load,
                acknowledged,
                under_way=UNDER_WAY_CEILING,
                warm_up_s=WARM_UP_S,
                seconds=seconds,
                families={"broker": Family(broker.process.pid), "subscriber": Family(subscriber.pid)},
            )
            if not await drain(load, acknowledged, subscriber):
                raise BenchFailed(f"of {load.sent} messages mosquitto_sub was given {await acknowledged()}")
            return window


def _mosquitto_sub(site: Site, broker: Broker) -> list[str]:
    program = shutil.which("mosquitto_sub")
    if program is None:
        raise BenchFailed("mosquitto_sub is not installed; please install it: apt-get install mosquitto-clients")
    identity = site.pki.service(ServiceName.INGEST)
    return [
        program, "-h", broker.host, "-p", str(broker.service_port), "-V", "mqttv5", "-q", "1",
        "--cafile", str(site.pki.service_ca), "--cert", str(identity.certificate), "--key", str(identity.key),
        "-i", _CLIENT, "-c", "-x", _NEVER, "-D", "connect", "receive-maximum", str(_RECEIVE_MAXIMUM),
        *(part for each in topics.uplink_filters() for part in ("-t", each)),
    ]  # fmt: skip


# --- the naive -------------------------------------------------------------------------------------------------------


async def naively(site: Site, *, in_batches: bool, seconds: float, messages: int) -> Window:
    """The scripts of `naive`: aiomqtt and asyncpg, into a table of their own on the same database."""
    name = "naive-batch" if in_batches else "naive"
    identity = site.pki.service(ServiceName.INGEST)
    async with site.broker(name) as broker, generating(site, broker, name, messages=messages) as load:
        task = site.folder / f"{name}.json"
        naive.Task(
            host=broker.host,
            port=broker.service_port,
            ca_file=str(site.pki.service_ca),
            cert_file=str(identity.certificate),
            key_file=str(identity.key),
            database=site.scratch.owner_url,
            filters=topics.uplink_filters(),
            in_batches=in_batches,
        ).write(task)
        async with site.process(name, site.module(naive.__name__, task)) as script:
            await load.wait_ready()

            async def is_subscribed() -> bool:
                return naive.SUBSCRIBED in site.log(name).read_text()

            async def stored() -> int:
                return int(await site.owner.fetchval(store.COUNT_NAIVE))

            await script.wait_ready(is_subscribed, deadline=SUBSCRIBED_DEADLINE)
            window = await measure(
                load,
                stored,
                under_way=UNDER_WAY_NAIVE,
                warm_up_s=WARM_UP_S,
                seconds=seconds,
                look_every_s=LOOK_AT_NAIVE_EVERY_S,
                families={
                    "broker": Family(broker.process.pid),
                    "script": Family(script.pid),
                    "database": site.database,
                },
            )
            if script.returncode is not None:
                raise BenchFailed(f"the naive script ended with status {script.returncode}{script.tail()}")
        await site.owner.execute(store.EMPTY_NAIVE)
        return window


# --- Loa -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaRun:
    """What ingest did."""

    full: Window
    paced: Window
    pace: float  # messages a second
    ready_s: float  # from its start until it took messages, the registry loaded
    memory_before: tuple[Memory, ...]  # by replica
    memory_after: tuple[Memory, ...]
    by_replica: Mapping[str, float]  # messages a second under the full load
    quarantined: int
    verified: Verified


async def loa(site: Site, *, seconds: float, messages: int, replicas: int = 1) -> LoaRun:
    """Loa's ingest: everything it promises, with the settings a province gets; so many replicas on one subscription."""
    group, under_way = secrets.token_hex(16), replicas * UNDER_WAY
    async with site.broker(f"loa-{replicas}") as broker, committed(site) as batches, AsyncExitStack() as stack:
        began_at = time.monotonic()
        ports = [free_port() for _ in range(replicas)]
        ingests = [
            await stack.enter_async_context(_replica(site, broker, f"ingest:{1 + which}", port, group))
            for which, port in enumerate(ports)
        ]
        for ingest, port in zip(ingests, ports, strict=True):
            await ingest.wait_ready(f"http://127.0.0.1:{port}/readyz", deadline=REGISTRY_DEADLINE)
        ready_s = round(time.monotonic() - began_at, 1)
        # Made now and not before: a device time that is minutes old would be a late one.
        load = await stack.enter_async_context(generating(site, broker, f"loa-{replicas}", messages=messages))
        await load.wait_ready()
        pids = [ingest.pid for ingest in ingests]
        families: dict[str, Family | Crew] = {
            "broker": Family(broker.process.pid),
            "ingest": Crew(tuple(Family(pid) for pid in pids)),
            "database": site.database,
        }
        memory_before = tuple(memory(pid) for pid in pids)
        totals_before = await _totals(site)
        full = await measure(
            load,
            batches.messages,
            under_way=under_way,
            warm_up_s=WARM_UP_S,
            seconds=seconds,
            families=families,
            weighed=pids,
        )
        await drain(load, batches.messages, *ingests)
        totals = {name: total - totals_before.get(name, 0) for name, total in (await _totals(site)).items()}
        pace = PACE * full.rate
        paced = await measure(
            load,
            batches.messages,
            under_way=NO_LIMIT // 2,
            warm_up_s=WARM_UP_S / 2,
            seconds=paced_s(seconds),
            families=families,
            pace=pace,
        )
        memory_after = tuple(memory(pid) for pid in pids)
        await load.stop()
        await drain(load, batches.messages, *ingests)  # what does not come is lost, and the ledger finds it
        return LoaRun(
            full=full,
            paced=paced,
            pace=pace,
            ready_s=ready_s,
            memory_before=memory_before,
            memory_after=memory_after,
            by_replica={
                name: full.rate * total / sum(totals.values()) for name, total in sorted(totals.items()) if total
            },
            quarantined=await site.owner.fetchval(store.COUNT_QUARANTINED),
            verified=await verify(site, load, batches.batches, full=full, paced=paced),
        )


def paced_s(seconds: float) -> float:
    """Return how long the paced load is measured where the full one is for so many seconds."""
    return max(PACED_AT_LEAST_S, PACED_SHARE * seconds)


def _replica(
    site: Site, broker: Broker, name: str, port: int, group: str
) -> AbstractAsyncContextManager[ManagedProcess]:
    settings = ingest_settings(site, broker, health_port=port, shared_group=group, replica=name)
    return site.process(name.replace(":", "-"), site.module("services.ingest"), settings=settings)


async def _totals(site: Site) -> dict[str, int]:
    """By replica, messages settled so far; a replica may have several sessions, named after it."""
    totals: dict[str, int] = {}
    for row in await site.owner.fetch(store.REPLICA_TOTALS):
        replica = row["replica"].partition("-")[0]
        totals[replica] = totals.get(replica, 0) + row["messages"]
    return totals


@dataclass(slots=True)
class Batches:
    """What ingest has told of its commits."""

    batches: list[Batch] = field(default_factory=list)
    stored: int = 0

    def take(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        """Note one `telemetry_committed`."""
        batch = Batch.parse(time.monotonic(), str(payload))
        self.batches.append(batch)
        self.stored += batch.messages

    async def messages(self) -> int:
        """Messages committed so far."""
        return self.stored


@asynccontextmanager
async def committed(site: Site) -> AsyncIterator[Batches]:
    """What ingest commits, from now on."""
    batches = Batches()
    connection = await asyncpg.connect(site.scratch.owner_url)
    try:
        await connection.add_listener("telemetry_committed", batches.take)
        yield batches
    finally:
        connection.terminate()
