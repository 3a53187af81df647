"""Where a bench takes place: a folder, certificates, a database with everybody registered, brokers and processes."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from services.control.trust.certificates import ServiceName
from services.local import installation
from services.local.bench import store, usage
from services.local.bench.population import Population
from services.local.bench.traffic import Profile
from services.local.bench.usage import Family
from services.local.broker import Broker, Options, running_broker
from services.local.directories import temporary_directory
from services.local.pki import Pki, issue_devices, prepare
from services.local.platform import TOP, inherited_environment
from services.local.postgres import embedded_postgres
from services.local.processes import ManagedProcess, running
from services.shared.clock import utc_now

if TYPE_CHECKING:
    from services.local.bench.store import Connection, Scratch


# What deploy/compose.yaml gives the database of a province; what is not here is PostgreSQL's default in both. The server
# of the demonstration (services.local.postgres) is smaller, and keeps less of a log than a back-up needs.
DATABASE_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_level": "replica",
    "max_wal_senders": "10",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that stays the same from one measurement to the next."""

    folder: Path
    population: Population
    profile: Profile
    pki: Pki
    owner: "Connection"
    scratch: "Scratch"
    database: Family
    certificates: Sequence[tuple[str, str]]  # of the gateways
    setup_s: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def broker(self, name: str) -> AsyncIterator[Broker]:
        """A broker as `./loa installation` sets it up for a province, with no past of its own."""
        options = Options(autosave=installation.AUTOSAVE, logs_denied_publishes=False)
        async with running_broker(self.folder / f"broker-{name}", self.pki, options) as broker:
            yield broker

    @asynccontextmanager
    async def process(
        self, name: str, argv: Sequence[str | Path], *, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator[ManagedProcess]:
        """A child of ours; its log is `NAME.log` in the folder."""
        environment = inherited_environment() | dict(settings or {})
        log = self.log(name)
        async with running(name, argv, log=log, env=environment, cwd=TOP) as child:
            yield child

    def module(self, module: str, *arguments: str | Path) -> list[str | Path]:
        """The command that runs one of our modules."""
        return [sys.executable, "-m", module, *arguments]

    def log(self, name: str) -> Path:
        """Where a child's output goes."""
        return self.folder / f"{name}.log"


@asynccontextmanager
async def site(*, devices: int, profile: Profile, database: str | None) -> AsyncIterator[Site]:
    """A site with everybody registered: on a database server of its own, or on the one a superuser's URL leads to."""
    population = Population.of(devices, profile.mix)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_directory("loa-bench-"))
        now = utc_now()
        pki = prepare(folder / "pki", now=now)
        gateways = [population.gateway_id(gateway) for gateway in range(population.gateways)]
        identities = issue_devices(pki, gateways, now=now)
        if database is None:
            postgres = await stack.enter_async_context(
                embedded_postgres(folder / "postgres", overrides=DATABASE_SETTINGS)
            )
            database = postgres.dsn()
        scratch = await stack.enter_async_context(store.scratch_database(database))
        owner = await asyncpg.connect(scratch.owner_url)
        stack.push_async_callback(_close, owner)
        made = Site(
            folder=folder,
            population=population,
            profile=profile,
            pki=pki,
            owner=owner,
            scratch=scratch,
            database=_server_of(owner, scratch.owner_url),
            certificates=[(str(identities[each].certificate), str(identities[each].key)) for each in gateways],
        )
        await _fill(made)
        yield made


async def _fill(made: Site) -> None:
    now = utc_now()
    for name, work in (
        ("registry", store.fill_registry(made.owner, made.population, now=now)),
        ("states", store.fill_states(made.owner, now=now)),
        ("tidying", store.tidy(made.owner)),
    ):
        began_at = time.monotonic()
        await work
        made.setup_s[name] = round(time.monotonic() - began_at, 1)


async def _close(connection: "Connection") -> None:
    try:
        await asyncio.wait_for(connection.close(), 5)
    except TimeoutError:
        connection.terminate()


def _server_of(connection: "Connection", url: str) -> Family:
    """The server's processes, where they run on this machine."""
    if urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}:
        parent = usage.parent_of(connection.get_server_pid())
        if parent is not None and usage.name_of(parent).startswith("postgres"):
            return Family(parent)
    return Family(None)


def ingest_settings(
    made: Site, broker: Broker, *, health_port: int, shared_group: str, replica: str = "ingest:1"
) -> dict[str, str]:
    """The environment of an ingest as a province runs it: what has no default, and nothing else."""
    identity = made.pki.service(ServiceName.INGEST)
    return {
        "INGEST_DATABASE__URL": made.scratch.ingest_url,
        "INGEST_BROKER__HOST": broker.host,
        "INGEST_BROKER__PORT": str(broker.service_port),
        "INGEST_BROKER__CA_FILE": str(made.pki.service_ca),
        "INGEST_BROKER__CERT_FILE": str(identity.certificate),
        "INGEST_BROKER__KEY_FILE": str(identity.key),
        "INGEST_BROKER_LOG": str(broker.log),
        "INGEST_REPLICA": replica,
        "INGEST_SHARED_GROUP": shared_group,
        "INGEST_HEALTH__PORT": str(health_port),
    }
