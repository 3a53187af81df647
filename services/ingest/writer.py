"""Batches into the database, and only then acknowledgements to the broker.

The database being away is not the messages' fault: the batch is kept, nothing is acknowledged, and it is tried again
until it goes in. A message the database refuses is not the other messages' fault: the batch is cut in two until the one
is found, and that one goes to quarantine.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from services.ingest.admission import REGISTRY_REASONS, Cleared, Event, Quarantined, Reason, claimed_principal, judge
from services.ingest.batch import Batch, Part, Taken, assemble
from services.ingest.batching import halves
from services.ingest.errors import DataRefused, PartitionMissing, StoredAlready
from services.ingest.intake import Intake
from services.ingest.metrics import Metrics
from services.ingest.registry import Registry
from services.ingest.sender import Sender
from services.ingest.stamps import TimeSource, TimeWindow
from services.ingest.store import BatchStore, Committed
from services.shared.database.errors import DatabaseError

SHORTEST_BACKOFF = timedelta(milliseconds=100)
LONGEST_BACKOFF = timedelta(seconds=5)
# How long express rows are looked up before they are stored, after one was there already: devices repeat themselves in
# bursts, when their network is bad, and a sensor that always does shall not make everybody pay.
LOOKS_FOR = timedelta(seconds=2)
# Express rows are fresh when they are taken. Should they still be here after this, the hour they belong to may be rolled
# up already, and the ordinary way, which looks, has to say so.
FRESH_FOR = timedelta(minutes=2)

log = logging.getLogger(__name__)


class Acknowledger(Protocol):
    """The session's acknowledging side."""

    def acknowledge(self, packet_ids: Iterable[int], *, connection: int) -> None:
        """Acknowledge messages that came over the numbered connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaborators:
    """What the writer works with."""

    intake: Intake
    registry: Registry
    recheck: Callable[[Collection[str]], Awaitable[None]]
    open_store: Callable[[], AbstractAsyncContextManager[BatchStore]]
    make_partitions: Callable[[], Awaitable[None]]
    session: Acknowledger
    sender: Sender
    clock: Callable[[], datetime]
    metrics: Metrics
    able: Callable[[], None] = lambda: None  # is told that some writer has become able or unable to write
    committed: Callable[[Sequence[Taken]], None] = lambda _: None  # is shown what is stored and acknowledged


class Writer:
    """Settles one batch after the other."""

    def __init__(self, collaborators: Collaborators, *, window: TimeWindow) -> None:
        self._with = collaborators
        self._window = window
        # What is being settled, the next part last. A part leaves when it is committed and acknowledged, and never comes
        # back: a second acknowledgement could be taken for that of a later message with the same packet id.
        self._parts: list[Part] = []
        self._is_able = False
        self._looks_until = 0.0  # the loop's time; a row was there already a little while ago, and others may be

    @property
    def is_able(self) -> bool:
        """Whether the last thing tried with the database worked."""
        return self._is_able

    async def run(self) -> None:
        """Settle batches until the intake is closed and empty."""
        failures = 0
        while True:
            try:
                async with self._with.open_store() as store:
                    self._mark(is_able=not self._parts)  # what failed before is yet to succeed
                    while await self._refill():
                        await self._settle(store)
                        failures = 0
                    return
            except (DatabaseError, PartitionMissing) as error:
                self._mark(is_able=False)
                self._with.metrics.database_errors.labels(kind=type(error).__name__).inc()
                log.warning("batch_not_written", extra={"reason": str(error), "kind": type(error).__name__})
                if isinstance(error, PartitionMissing):
                    await self._try_to_make_partitions()
            await asyncio.sleep(min(SHORTEST_BACKOFF * 2 ** min(failures, 10), LONGEST_BACKOFF).total_seconds())
            failures += 1

    async def _refill(self) -> bool:
        """Make sure there is a part to settle; False when there never will be one again."""
        if not self._parts and (batch := await self._with.intake.next_batch()):
            self._parts.append(batch)
        return bool(self._parts)

    async def _settle(self, store: BatchStore) -> None:
        """Commit and acknowledge the next part, or make it smaller."""
        part = self._parts[-1]
        now = self._with.clock()
        if part.express and now - part.express.chunks[0].received_at > FRESH_FOR:
            part = self._parts[-1] = Part([*part.messages, *self._with.intake.ordinary(part.express)])
        part.messages = await self._look_again(part.messages)
        batch = assemble(part.messages, now=now)
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        may_be_stored = part.may_be_stored or began_at < self._looks_until
        part.may_be_stored = True  # until it is known that the batch is in: a lost connection tells nothing
        try:
            done = await store.commit(batch, part.express, now=now, may_be_stored=may_be_stored)
        except StoredAlready:
            self._looks_until = began_at + LOOKS_FOR.total_seconds()
            self._with.metrics.direct_copies_repeated.inc()
            return
        except DataRefused as error:
            self._find_poison(part, error)
            return
        if may_be_stored and done.duplicates:
            self._looks_until = began_at + LOOKS_FOR.total_seconds()
        self._parts.pop()
        self._acknowledge(part)
        self._with.sender.receipt(done.journals)
        for topic in {
            each.topic for each in part.messages if isinstance(each.verdict, Quarantined) and each.verdict.must_clear
        }:
            self._with.sender.clear(topic)
        self._with.intake.settled(part)
        self._with.committed(part.messages)
        self._mark(is_able=True)
        self._count(part, batch, done, loop.time() - began_at)

    def _find_poison(self, part: Part, error: DataRefused) -> None:
        if part.express:
            # Their rows were made of what the codec has accepted, so it should be another's; but if it is one of them, the
            # ordinary way finds it.
            log.error("express_rows_refused", extra={"rows": len(part.express), "reason": str(error)})
            self._with.metrics.express_refused.inc()
            self._parts[-1:] = [Part([*part.messages, *self._with.intake.ordinary(part.express)])]
            return
        if len(part) > 1:
            left, right = halves(part.messages)
            self._parts[-1:] = [Part(right), Part(left)]
            return
        (message,) = part.messages
        if isinstance(message.verdict, Quarantined):
            raise error  # quarantine takes any bytes, so this is a bug, and not of the message
        numbered = message.verdict.numbered if isinstance(message.verdict, Event) else None
        device_id = None if isinstance(message.verdict, Cleared) else message.verdict.device.device_id
        verdict = Quarantined(
            Reason.DATABASE_REFUSED, str(error), claimed_principal(message.topic), device_id, numbered
        )
        self._parts[-1] = Part([replace(message, verdict=verdict)])
        log.warning("message_refused_by_database", extra={"topic": message.topic, "reason": str(error)})

    async def _look_again(self, part: Sequence[Taken]) -> Sequence[Taken]:
        """Judge again, by the database's own registry, what the one in memory does not let in."""
        names = {
            name
            for message in part
            if isinstance(message.verdict, Quarantined) and message.verdict.reason in REGISTRY_REASONS
            for name in (message.verdict.principal, message.verdict.device_id)
            if name is not None
        }
        if not names:
            return part
        await self._with.recheck(names)
        return [self._judge_again(message) for message in part]

    def _judge_again(self, message: Taken) -> Taken:
        if not (isinstance(message.verdict, Quarantined) and message.verdict.reason in REGISTRY_REASONS):
            return message
        verdict = judge(
            message.topic,
            message.payload,
            is_retained=message.is_retained,
            registry=self._with.registry,
            now=message.received_at,
            window=self._window,
        )
        return replace(message, verdict=verdict)

    def _acknowledge(self, part: Part) -> None:
        by_connection = part.express.packet_ids
        for message in part.messages:
            if message.packet_id is not None:
                by_connection.setdefault(message.connection, []).append(message.packet_id)
        for connection, packet_ids in by_connection.items():
            self._with.session.acknowledge(packet_ids, connection=connection)
            self._with.metrics.acknowledged.inc(len(packet_ids))

    async def _try_to_make_partitions(self) -> None:
        try:
            await self._with.make_partitions()
        except DatabaseError as error:
            log.warning("partitions_not_made", extra={"reason": str(error)})

    def _mark(self, *, is_able: bool) -> None:
        self._is_able = is_able
        self._with.able()

    def _count(self, part: Part, batch: Batch, done: Committed, seconds: float) -> None:
        metrics = self._with.metrics
        metrics.batches.observe(len(part))
        metrics.commit_seconds.observe(seconds)
        metrics.stored.labels(table="heartbeats").inc(done.heartbeats)
        metrics.stored.labels(table="readings").inc(done.readings)
        metrics.stored.labels(table="events").inc(done.events)
        metrics.duplicates.inc(done.duplicates)
        metrics.quarantine_rows.inc(done.kept)
        metrics.clock_refused.inc(batch.clock_refused)
        metrics.express.inc(len(part.express))
        if part.express:
            metrics.admitted.labels(kind="heartbeat").inc(len(part.express))
        for kind, number in batch.admitted.items():
            metrics.admitted.labels(kind=kind).inc(number)
        for reason, number in batch.quarantined.items():
            metrics.quarantined.labels(reason=reason).inc(number)
        for reason, number in done.deferred.items():
            metrics.events_deferred.labels(reason=reason).inc(number)
        now = self._with.clock()
        if part.express.latest:
            metrics.lag_seconds.observe(max(0.0, now.timestamp() - part.express.latest / 1000))
        for message in (*part.messages[:1], *part.messages[-1:]):
            if not isinstance(message.verdict, Quarantined | Cleared):
                stamp = message.verdict.stamp
                if stamp.source is TimeSource.DEVICE:
                    metrics.lag_seconds.observe(max(0.0, (now - stamp.at).total_seconds()))
