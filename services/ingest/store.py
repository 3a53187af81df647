"""What ingest does with the database on its hot path: one batch, one transaction.

Locks are taken in one order, so that replicas (and the writers of one) with overlapping batches wait for one another
instead of dying: journals by key, then the quarantine (one at a time), heartbeats and readings by key, device states by
number, the counters of quarantine by key, and last the writer's own row. Express rows are copied in no order; two
transactions with the same ones may die of each other, which one of them survives and the other repeats, looking first.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg

from services.ingest import ledger, quota, statements
from services.ingest.batch import Batch, Digest, Entry
from services.ingest.errors import DataRefused, PartitionMissing, StoredAlready
from services.ingest.express import ExpressRows
from services.ingest.ledger import LedgerLimits, Ranges
from services.ingest.quota import QuarantineQuota
from services.ingest.registry import Registered
from services.ingest.rows import HEARTBEAT_COLUMNS, SENSOR_COLUMNS, Row
from services.shared.database.errors import DatabaseError, translated
from services.shared.database.pool import Connection, connect
from services.shared.settings import DatabaseSettings

# COPY's binary format: signature, flags, no header extension; a row count of -1 at the end.
_COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_TRAILER = b"\xff\xff"

NO_ROWS = ExpressRows()

JournalKey: TypeAlias = tuple[int, int, int]  # device, principal, journal

# --- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What the store holds devices to."""

    ledger: LedgerLimits
    quarantine: QuarantineQuota
    clock_ahead: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What is committed of one journal, for its receipt."""

    device: Registered
    journal: int
    received: Ranges


@dataclass(slots=True)
class Committed:
    """What one transaction stored."""

    heartbeats: int = 0
    readings: int = 0
    events: int = 0
    presences: int = 0
    duplicates: int = 0
    kept: int = 0  # new rows in quarantine
    made: Counter[tuple[str, str]] = field(default_factory=Counter)  # the same by principal and reason
    deferred: Counter[str] = field(default_factory=Counter)  # events not taken for now, by reason
    journals: list[Journal] = field(default_factory=list)


# --- the store -------------------------------------------------------------------------------------------------------


class BatchStore:
    """Writes batches over one connection of its own."""

    def __init__(self, connection: Connection, *, account: str, limits: StoreLimits, patience: timedelta) -> None:
        self._connection = connection
        self._account = account
        self._limits = limits
        self._patience = patience

    @property
    def connection(self) -> Connection:
        """The store's own connection: a transaction opened on it goes around `commit`, which then is part of it."""
        return self._connection

    async def commit(
        self, batch: Batch, express: ExpressRows = NO_ROWS, *, now: datetime, may_be_stored: bool = True
    ) -> Committed:
        """Store the batch and the express rows, all of it or nothing.

        Express rows go straight into their table when the caller takes it that none of them is there already, and raise
        `StoredAlready` when one is.

        Raises `DataRefused` (some message in it is poison), `PartitionMissing`, or the errors of
        `services.shared.database.errors`, after which this store is used up and it is not known whether the batch is in.
        """
        with _refusals(), _given_up_after(self._patience, self._connection):
            async with self._connection.transaction():
                return await self._write(batch, express, now, may_be_stored=may_be_stored)

    async def _write(self, batch: Batch, express: ExpressRows, now: datetime, *, may_be_stored: bool) -> Committed:
        done = Committed()
        journals = await self._open_journals(batch, now) if batch.entries else {}
        today = now.astimezone(UTC).date()
        kept_digests = await self._quarantine(batch, done, today) if batch.inmates else frozenset[Digest]()
        if batch.entries:
            await self._enter_events(batch, journals, kept_digests, done, now)
        if batch.heartbeats:
            done.heartbeats = await self._insert("heartbeats", batch.heartbeats, statements.INSERT_HEARTBEATS)
        done.heartbeats += await self._insert_sensors(batch, express, may_be_stored=may_be_stored)
        done.duplicates += len(batch.heartbeats) + len(batch.sensor_heartbeats) + len(express) - done.heartbeats
        if batch.readings:
            done.readings = await self._insert("readings", batch.readings, statements.INSERT_READINGS)
            done.duplicates += len(batch.readings) - done.readings
        await self._update_states(batch, express)
        done.presences = len(batch.presences)
        if batch.late_hours:
            await self._connection.execute(statements.INSERT_LATE_HOURS, sorted(batch.late_hours))
        if batch.late_sensor_hours:
            await self._connection.execute(
                statements.INSERT_LATE_SENSOR_HOURS, *_columns(sorted(batch.late_sensor_hours))
            )
        # Last, because batches of one principal (a gateway with a clock nobody believes) would wait here for one another.
        await self._connection.executemany(
            statements.UPSERT_COUNTER,
            [
                (today, principal, reason, tally.messages, tally.bytes, done.made[principal, reason])
                for (principal, reason), tally in sorted(batch.tallies.items(), key=_first)
            ],
        )
        await self._connection.execute(
            statements.ADD_TOTALS,
            self._account,
            done.heartbeats,
            done.readings,
            done.events,
            done.kept,
            done.duplicates,
            batch.clock_refused,
        )
        await self._connection.execute(statements.NOTIFY_COMMITTED, _news(batch, done))
        return done

    async def _insert(self, table: str, rows: Sequence[Row], insert: str) -> int:
        """Copy to the staging table, insert from there, return how many rows were new."""
        await self._connection.copy_records_to_table(f"staged_{table}", records=rows)
        return _affected(await self._connection.execute(insert))

    async def _insert_sensors(self, batch: Batch, express: ExpressRows, *, may_be_stored: bool) -> int:
        """Store sensors' heartbeats; return how many were new."""
        new = 0
        if express.rows and not may_be_stored:
            await self._copy("sensor_heartbeats", SENSOR_COLUMNS, express.rows, schema="telemetry")
            new = len(express.rows)
        elif express.rows:
            await self._copy("staged_sensor_heartbeats", SENSOR_COLUMNS, express.rows)
        if batch.sensor_heartbeats:
            rows = [row[:-1] for row in batch.sensor_heartbeats]
            await self._connection.copy_records_to_table("staged_sensor_heartbeats", records=rows)
        if batch.sensor_heartbeats or (express.rows and may_be_stored):
            new += _affected(await self._connection.execute(statements.INSERT_SENSOR_HEARTBEATS))
        return new

    async def _copy(
        self, table: str, columns: Sequence[str], rows: Sequence[bytes], *, schema: str | None = None
    ) -> None:
        """Copy rows that are in COPY's binary format already."""

        async def source() -> AsyncIterator[bytes]:
            yield b"".join([_COPY_HEADER, *rows, _COPY_TRAILER])

        try:
            await self._connection.copy_to_table(
                table, source=source(), columns=columns, schema_name=schema, format="binary"
            )
        except asyncpg.UniqueViolationError as error:
            raise StoredAlready(table) from error

    # --- device states ---

    async def _update_states(self, batch: Batch, express: ExpressRows) -> None:
        # Several statements may touch the same rows, each in order but not together, so mixed batches lock first.
        sensors = bool(batch.sensor_heartbeats or express.states)
        if sum((bool(batch.heard), bool(batch.heartbeats), sensors, bool(batch.presences))) > 1 or batch.presences:
            numbers = {row[HEARTBEAT_COLUMNS.index("device_no")] for row in batch.heartbeats}
            numbers.update(row[SENSOR_COLUMNS.index("device_no")] for row in batch.sensor_heartbeats)
            numbers.update(express.state_numbers, batch.heard)
            numbers.update(presence.device.device_no for presence in batch.presences)
            await self._connection.execute(statements.LOCK_STATES, sorted(numbers))
        if batch.heartbeats:
            await self._connection.execute(statements.UPSERT_STATES)
        if batch.sensor_heartbeats:
            await self._connection.copy_records_to_table("staged_sensor_states", records=batch.sensor_heartbeats)
        if express.states:
            await self._copy("staged_sensor_states", (*SENSOR_COLUMNS, "principal"), express.states)
        if sensors:
            await self._connection.execute(statements.UPSERT_SENSOR_STATES)
        if batch.heard:
            await self._connection.execute(
                statements.UPSERT_HEARD,
                *zip(
                    *(
                        (number, device.principal, device.principal_no is not None, kind, heard_at)
                        for number, (device, kind, heard_at) in sorted(batch.heard.items(), key=_first)
                    ),
                    strict=True,
                ),
            )
        if batch.presences:
            await self._connection.executemany(
                statements.UPSERT_PRESENCE,
                [
                    (
                        presence.device.device_no,
                        presence.device.principal,
                        presence.stamp.received_at,
                        presence.connection_no,
                        presence.online,
                        presence.stamp.at,
                        self._limits.clock_ahead // timedelta(milliseconds=1),
                    )
                    for presence in sorted(batch.presences, key=lambda each: each.device.device_no)
                ],
            )

    # --- the ledger ---

    async def _open_journals(self, batch: Batch, now: datetime) -> dict[JournalKey, Ranges]:
        """Lock the journals of this batch, opening new ones as far as their device may; return what each has."""
        wanted = {_key(entry): None for entry in batch.entries}
        held = await self._lock_journals(wanted)
        missing = sorted(key for key in wanted if key not in held)
        if missing:
            allowed = await self._allowed_journals(missing, now)
            if allowed:
                await self._connection.execute(statements.OPEN_JOURNALS, *_columns(allowed), now)
                held |= await self._lock_journals(dict.fromkeys(allowed))
        return held

    async def _lock_journals(self, keys: Mapping[JournalKey, None]) -> dict[JournalKey, Ranges]:
        rows = await self._connection.fetch(statements.LOCK_JOURNALS, *_columns(sorted(keys)))
        return {(row["device_no"], row["principal_no"], row["journal"]): _ranges(row["received"]) for row in rows}

    async def _allowed_journals(self, missing: Sequence[JournalKey], now: datetime) -> list[JournalKey]:
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        rows = await self._connection.fetch(
            statements.COUNT_NEW_JOURNALS, sorted({key[0] for key in missing}), midnight
        )
        opened = Counter({row["device_no"]: row["journals"] for row in rows})
        allowed = []
        for key in missing:
            if opened[key[0]] < self._limits.ledger.journals_a_day:
                opened[key[0]] += 1
                allowed.append(key)
        return allowed

    async def _enter_events(
        self,
        batch: Batch,
        journals: dict[JournalKey, Ranges],
        kept_digests: frozenset[Digest],
        done: Committed,
        now: datetime,
    ) -> None:
        rows: list[Row] = []
        devices: dict[JournalKey, Registered] = {}
        for entry in batch.entries:
            key = _key(entry)
            received = journals.get(key)
            if received is None:
                done.deferred["too_many_journals"] += 1
                continue
            devices[key] = entry.numbered.device
            sequence = entry.numbered.sequence
            if ledger.contains(received, sequence):
                done.duplicates += 1
                continue
            if entry.digest is not None and entry.digest not in kept_digests:
                done.deferred["quarantine_full"] += 1  # neither stored nor kept, so it must not be receipted
                continue
            grown = ledger.entered(received, sequence)
            if len(grown) > max(len(received), self._limits.ledger.ranges):
                done.deferred["too_many_gaps"] += 1
                continue
            journals[key] = grown
            if entry.row is not None:
                rows.append(entry.row)
        if rows:
            done.events = await self._insert("events", rows, statements.INSERT_EVENTS)
        await self._connection.executemany(
            statements.UPDATE_JOURNAL, [(*key, _multirange(journals[key]), now) for key in sorted(devices)]
        )
        done.journals = [
            Journal(device=device, journal=key[2], received=journals[key]) for key, device in devices.items()
        ]

    # --- quarantine ---

    async def _quarantine(self, batch: Batch, done: Committed, today: date) -> frozenset[Digest]:
        """Keep what the quota allows; return what is kept, now or already."""
        kept: frozenset[Digest] = frozenset()
        if batch.inmates:
            await self._connection.execute(statements.LOCK_QUARANTINE)
            known = frozenset(
                (row["principal"], row["sha256"])
                for row in await self._connection.fetch(statements.KNOWN_PAYLOADS, *_columns(list(batch.inmates)))
            )
            by_principal = {
                row["principal"]: row["kept"] for row in await self._connection.fetch(statements.KEPT_TODAY, today)
            }
            kept = quota.kept(
                batch.inmates,
                known=known,
                today=by_principal,
                in_all_today=sum(by_principal.values()),
                quota=self._limits.quarantine,
            )
            done.made = Counter(
                (digest[0], batch.inmates[digest].reason) for digest in batch.inmates if digest in kept - known
            )
            done.kept = done.made.total()
            await self._connection.executemany(
                statements.UPSERT_INMATE,
                [
                    (
                        inmate.principal,
                        sha256,
                        inmate.device_id,
                        inmate.topic,
                        inmate.reason,
                        inmate.detail,
                        inmate.size,
                        inmate.payload,
                        inmate.is_numbered,
                        inmate.messages,
                        inmate.first_seen_at,
                        inmate.last_seen_at,
                    )
                    for (principal, sha256), inmate in sorted(batch.inmates.items(), key=_first)
                    if (principal, sha256) in kept
                ],
            )
        return kept


@asynccontextmanager
async def open_store(
    settings: DatabaseSettings, *, replica: str, writer: str = "", limits: StoreLimits, patience: timedelta
) -> AsyncIterator[BatchStore]:
    """A store on a connection of its own (`writer` tells those of one replica apart), which is given up when a commit takes longer than `patience`.

    Raises the errors of `services.shared.database.errors`, when connecting and for whatever is done inside.
    """
    async with connect(settings, application=f"ingest {replica}") as connection:
        with _given_up_after(patience, connection):
            # The same from the other side: a replica that froze or lost its network in mid-transaction must not hold its
            # locks, nor hold back the readers of events, who wait for the oldest transaction to end.
            await connection.execute(statements.END_WHEN_IDLE, f"{round(patience.total_seconds() * 1000)}ms")
            await connection.execute(statements.STAGE)
        yield BatchStore(connection, account=f"{replica}{writer and '/'}{writer}", limits=limits, patience=patience)


# --- small change ----------------------------------------------------------------------------------------------------


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell what a message is to blame for from what is wrong with the database."""
    try:
        with translated():
            yield
    except Exception as error:
        if isinstance(error, StoredAlready):
            raise
        cause = error.__cause__ if isinstance(error, DatabaseError) else error
        if isinstance(cause, asyncpg.CheckViolationError) and cause.constraint_name is None:
            raise PartitionMissing(str(cause)) from error
        if isinstance(cause, _POISON):
            raise DataRefused(f"{type(cause).__name__}: {cause}") from error
        raise


@contextmanager
def _given_up_after(patience: timedelta, connection: Connection) -> Iterator[None]:
    """Drop the connection when the block takes longer.

    Not `asyncio.timeout`: what it cancels would first be rolled back, by the very server that does not answer.
    """
    timer = asyncio.get_running_loop().call_later(patience.total_seconds(), connection.terminate)
    try:
        yield
    finally:
        timer.cancel()


# Class 22 (data exception), class 23 (a constraint), "row is too big"; and what the driver cannot even encode.
_POISON = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    UnicodeEncodeError,
)


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _key(entry: Entry) -> JournalKey:
    device = entry.numbered.device
    return (device.device_no, device.speaker_no, entry.numbered.journal)


def _columns(rows: Sequence[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """Return rows, of which there is at least one, as columns for `unnest`."""
    return tuple(zip(*rows, strict=True))


def _ranges(received: Sequence["asyncpg.Range[int]"]) -> Ranges:
    # int8 ranges come in one form, [first, last + 1), and ours have both ends.
    return tuple((each.lower or 0, (each.upper or 0) - 1) for each in received)


def _multirange(ranges: Ranges) -> list["asyncpg.Range[int]"]:
    return [asyncpg.Range(first, last + 1) for first, last in ranges]


def _affected(status: str) -> int:
    """Return the row count of a command status such as `INSERT 0 42`."""
    return int(status.rpartition(" ")[2])


def _news(batch: Batch, done: Committed) -> str:
    return json.dumps(
        {
            "heartbeats": done.heartbeats,
            "readings": done.readings,
            "events": done.events,
            "presences": done.presences,
            "quarantined": batch.quarantined.total(),
        },
        separators=(",", ":"),
    )
