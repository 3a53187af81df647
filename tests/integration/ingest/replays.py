"""What the tests of replays share: a replayer on a database of its own, and somebody who decides."""

import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from schemas.identifiers import DeviceId
from schemas.topics import Uplink, UplinkKind, format_topic
from services.control import quarantine_store
from services.ingest import upkeep_store
from services.ingest.admission import judge
from services.ingest.batch import Taken, assemble
from services.ingest.ledger import LedgerLimits
from services.ingest.metrics import Metrics
from services.ingest.quota import QuarantineQuota
from services.ingest.registry import Registry
from services.ingest.registry_loader import RegistryLoader
from services.ingest.replayer import Replayer
from services.ingest.settings import RetentionSettings
from services.ingest.stamps import TimeWindow
from services.ingest.store import Committed, Journal, StoreLimits, open_store
from services.shared.database.pool import Database, connect, open_database
from tests.integration.ingest.support import register, register_everybody
from tests.support.database import TestDatabase

if TYPE_CHECKING:
    import asyncpg

NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - a test's own clock; partitions are made around today
LIMITS = StoreLimits(ledger=LedgerLimits(), quarantine=QuarantineQuota(), clock_ahead=timedelta(minutes=5))


async def an_account(owner: "asyncpg.Connection[asyncpg.Record]") -> uuid.UUID:
    """Somebody who may decide, as far as the database asks."""
    account_id, unit_id = uuid.uuid4(), uuid.uuid4()
    await owner.execute("INSERT INTO control.units (unit_id) VALUES ($1)", unit_id)
    await owner.execute(
        "INSERT INTO control.accounts (account_id, unit_id, login, display_name, password_hash, created_at)"
        " VALUES ($1, $2, 'truc', 'Trực', '-', now())",
        account_id,
        unit_id,
    )
    return account_id


@dataclass(slots=True)
class Office:
    """Ingest's store and replayer, control's decisions, and a look at what is stored."""

    database: TestDatabase
    owner: "asyncpg.Connection[asyncpg.Record]"
    control: Database
    ingest: Database
    account_id: uuid.UUID
    registry: Registry
    loader: RegistryLoader
    replayer: Replayer
    metrics: Metrics
    receipts: list[Journal] = field(default_factory=list)
    now: datetime = NOW

    def receipt(self, journals: Collection[Journal]) -> None:
        """What a device would be told."""
        self.receipts.extend(journals)

    def clock(self) -> datetime:
        """The test's clock."""
        return self.now

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Any]:
        """The store of live messages."""
        async with open_store(
            self.database.ingest, replica="ingest:1", limits=LIMITS, patience=timedelta(seconds=20)
        ) as store:
            yield store

    async def take(
        self,
        name: str,
        kind: UplinkKind,
        payload: bytes,
        *,
        principal: str | None = None,
        at: datetime | None = None,
        topic: str | None = None,
        is_retained: bool = False,
    ) -> Committed:
        """A live message: judged by the registry of now and committed."""
        topic = topic or format_topic(Uplink(DeviceId(principal or name), kind, DeviceId(name)))
        await self.loader.recheck([name, principal or name])
        when = at or self.now
        verdict = judge(topic, payload, is_retained=is_retained, registry=self.registry, now=when, window=TimeWindow())
        message = Taken(
            topic=topic,
            payload=payload,
            is_retained=is_retained,
            packet_id=1,
            connection=1,
            received_at=when,
            verdict=verdict,
        )
        async with self.store() as store:
            done: Committed = await store.commit(assemble([message], now=self.now), now=self.now)
        return done

    async def inmates(self) -> list["asyncpg.Record"]:
        """Everything in quarantine."""
        return await self.owner.fetch("SELECT * FROM telemetry.quarantine ORDER BY quarantine_id")

    async def inmate(self) -> "asyncpg.Record":
        """The one that is there."""
        (found,) = await self.inmates()
        return found

    async def count(self, table: str) -> int:
        """How many rows a table of telemetry has."""
        number: int = await self.owner.fetchval(f"SELECT count(*) FROM telemetry.{table}")
        return number

    async def correct(self, quarantine_id: int, *, topic: str, payload: bytes) -> int:
        """A corrected copy, as control keeps it."""
        async with self.control.transaction() as connection:
            return await quarantine_store.add_correction(
                connection, quarantine_id, topic=topic, payload=payload, why="x", by=self.account_id, at=self.now
            )

    async def ask(self, *quarantine_ids: int, correction: int | None = None, decision: str = "replay") -> int:
        """A decision, as control writes it."""
        async with self.control.transaction() as connection:
            return await quarantine_store.decide(
                connection,
                decision,
                [(each, "whatever", correction) for each in quarantine_ids],
                why="x",
                by=self.account_id,
                at=self.now,
            )

    async def replay(self, *quarantine_ids: int, correction: int | None = None) -> list["asyncpg.Record"]:
        """Ask for it and work it off; what became of each."""
        request = await self.ask(*quarantine_ids, correction=correction)
        await self.replayer.round()
        return await self.outcomes(request)

    async def outcomes(self, request: int) -> list["asyncpg.Record"]:
        """What became of each inmate of a request."""
        return await self.owner.fetch(
            "SELECT * FROM telemetry.quarantine_replay_log WHERE request_no = $1 ORDER BY quarantine_id", request
        )

    async def register(self, device_id: str, kind: str = "cluster") -> int:
        """A new device of the registry."""
        return await register(self.owner, device_id, kind)


def a_replayer(office: Office, database: TestDatabase) -> Replayer:
    """A replayer of a replica of its own."""
    return Replayer(
        office.ingest,
        listening=database.ingest,
        open_store=office.store,
        registry=office.registry,
        recheck=office.loader.recheck,
        receipts=office,
        window=TimeWindow(),
        retention=RetentionSettings(),
        clock=office.clock,
        metrics=office.metrics,
    )


@asynccontextmanager
async def an_office(database: TestDatabase) -> AsyncIterator[Office]:
    """An office over a database with the registry of the tests."""
    async with (
        connect(database.owner, application="test") as owner,
        open_database(database.ingest, application="ingest-test") as ingest,
        open_database(database.control, application="control-test") as control,
    ):
        await register_everybody(owner)
        registry, metrics = Registry(), Metrics()
        loader = RegistryLoader(ingest, registry, refresh=timedelta(minutes=1), metrics=metrics)
        office = Office(
            database=database,
            owner=owner,
            control=control,
            ingest=ingest,
            account_id=await an_account(owner),
            registry=registry,
            loader=loader,
            replayer=None,  # type: ignore[arg-type] # set below: it reports to the office
            metrics=metrics,
        )
        office.replayer = a_replayer(office, database)
        async with ingest.connection() as connection:
            await upkeep_store.ensure_partitions(
                connection, from_at=NOW - timedelta(days=2), until_at=NOW + timedelta(days=1)
            )
        yield office
