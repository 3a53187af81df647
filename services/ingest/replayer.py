"""Judges quarantined uplinks anew when control asks for it, and stores what is admitted as if it had been from the start.

The bytes are judged by the registry of now and under the time at which they were received; who sent them stays who the
broker said it was. A message goes the way of live ones (`judge`, `assemble`, `BatchStore.commit`), alone in a transaction
that also writes what became of it: a replay killed in the middle has not happened, one that has does not happen again.
The same bytes that came many times are one message, received when they first came.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol, assert_never

from schemas import topics
from schemas.errors import InvalidTopic
from schemas.fields import DeviceKind
from services.ingest import replay_store, upkeep_store
from services.ingest.admission import (
    Admitted,
    Cleared,
    Event,
    Heartbeat,
    Presence,
    Quarantined,
    Reading,
    Reason,
    Verdict,
    claimed_principal,
    judge,
)
from services.ingest.batch import DETAIL_KEPT_CHARACTERS, Taken, assemble
from services.ingest.errors import DataRefused, PartitionMissing
from services.ingest.metrics import Metrics
from services.ingest.registry import Registry
from services.ingest.replay_store import Outcome, Request
from services.ingest.settings import RetentionSettings
from services.ingest.stamps import TimeWindow
from services.ingest.store import BatchStore, Committed, Journal
from services.shared.database.errors import DatabaseError
from services.shared.database.listener import listen
from services.shared.database.pool import Database
from services.shared.settings import DatabaseSettings

CHANNEL = "quarantine_decided"
EVERY = timedelta(seconds=30)  # a notification may be lost
RETRY = timedelta(seconds=2)
AT_ONCE = 200  # requests read together; each is settled in a transaction of its own

# Why a replay is refused besides the reasons of quarantine. Stable words.
PAYLOAD_CUT = "payload_cut"
TOO_OLD = "too_old"
OTHER_PRINCIPAL = "other_principal"

log = logging.getLogger(__name__)


class _Deferred(Exception):
    """The store did not take the event for now."""

    def __init__(self, reasons: Counter[str]) -> None:
        super().__init__()
        self.reason = next(iter(reasons))


class Receipts(Protocol):
    """Who tells devices what is committed."""

    def receipt(self, journals: Collection[Journal]) -> None:
        """Tell the devices of these journals."""


class Replayer:
    """Works off control's requests."""

    def __init__(
        self,
        database: Database,
        *,
        listening: DatabaseSettings,
        open_store: Callable[[], AbstractAsyncContextManager[BatchStore]],
        registry: Registry,
        recheck: Callable[[Collection[str]], Awaitable[None]],
        receipts: Receipts,
        window: TimeWindow,
        retention: RetentionSettings,
        clock: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._listening = listening
        self._open_store = open_store
        self._registry = registry
        self._recheck = recheck
        self._receipts = receipts
        self._window = window
        self._retention = retention
        self._clock = clock
        self._metrics = metrics
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work off what is asked for, whenever told and every now and then, until cancelled. Outages are outlived."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                listen(self._listening, [CHANNEL], lambda *_: self._wake.set(), application="ingest replayer"),
                name="replay listener",
            )
            tasks.create_task(self._work(), name="replays")

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            pause = EVERY
            try:
                await self.round()
            except (DatabaseError, PartitionMissing) as error:
                log.warning("replays_interrupted", extra={"reason": str(error), "kind": type(error).__name__})
                pause = RETRY
            try:
                async with asyncio.timeout(pause.total_seconds()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def round(self) -> None:
        """Settle every open request. Raises the errors of `services.shared.database.errors`; what is settled is."""
        async with self._database.connection() as connection:
            if not await replay_store.open_requests(connection, limit=1):
                return
        async with self._open_store() as store:
            while True:
                requests = await replay_store.open_requests(store.connection, limit=AT_ONCE)
                await self._recheck({name for request in requests for name in _names(request)})
                settled = [await self._settle(store, request) for request in requests]
                if not any(settled):  # nothing to do, or another replica is at it
                    return

    async def _settle(self, store: BatchStore, request: Request) -> bool:
        try:
            try:
                return await self._settle_once(store, request)
            except PartitionMissing:
                # It was received before the oldest partition that live messages need.
                await self._make_partitions(request)
                return await self._settle_once(store, request)
        except (DatabaseError, PartitionMissing):
            raise
        except Exception as error:  # whatever one message sets off, those behind it have their turn
            log.exception(
                "replay_failed", extra={"request": request.request_no, "quarantine_id": request.quarantine_id}
            )
            # Its name only: what an error says may hold what no text of the database may.
            failed = Outcome(result="refused", reason=Reason.DATABASE_REFUSED, detail=type(error).__name__)
            return await self._settle_once(store, request, failed)

    async def _settle_once(self, store: BatchStore, request: Request, known: Outcome | None = None) -> bool:
        """Settle one request, all of it or nothing; False where it is not ours to settle."""
        now = self._clock()
        journals: list[Journal] = []
        async with replay_store.turn(store.connection, request) as is_replayed:
            if is_replayed is None:
                return False
            outcome = known or await self._outcome(store, request, journals, is_replayed=is_replayed, now=now)
            await replay_store.record(store.connection, request, outcome, now=now)
        self._receipts.receipt(journals)
        self._metrics.replays.labels(result=outcome.result).inc()
        log.info(
            "quarantine_replayed",
            extra={
                "request": request.request_no,
                "quarantine_id": request.quarantine_id,
                "result": outcome.result,
                "reason": outcome.reason,
            },
        )
        return True

    async def _outcome(
        self, store: BatchStore, request: Request, journals: list[Journal], *, is_replayed: bool, now: datetime
    ) -> Outcome:
        inmate = request.inmate
        if inmate is None:
            return Outcome(result="gone")
        if is_replayed:
            return Outcome(result="duplicate", detail="replayed before")
        if request.correction is None and inmate.size > len(inmate.payload):
            kept = f"{len(inmate.payload)} of {inmate.size} bytes were kept"
            return Outcome(result="refused", reason=PAYLOAD_CUT, detail=kept)
        message = self._taken(request)
        verdict = message.verdict
        if claimed_principal(message.topic) != inmate.principal and request.correction is not None:
            return Outcome(result="refused", reason=OTHER_PRINCIPAL, detail=f"received from {inmate.principal}")
        match verdict:
            case Quarantined(reason=reason, detail=detail):
                renames = request.correction is None
                return Outcome(result="refused", reason=reason, detail=detail[:DETAIL_KEPT_CHARACTERS], renames=renames)
            case Cleared():
                return Outcome(result="refused", reason=Reason.RETAINED, detail="empty: it only cleared a topic")
            case Heartbeat() | Reading() | Event() | Presence():
                pass
            case _:
                assert_never(verdict)
        if self._is_forgotten(verdict, now):
            return Outcome(result="refused", reason=TOO_OLD, detail="older than what retention keeps")
        try:
            done = await _stored(store, message, now=now)
        except DataRefused as error:
            detail = str(error)[:DETAIL_KEPT_CHARACTERS]
            return Outcome(result="refused", reason=Reason.DATABASE_REFUSED, detail=detail)
        except _Deferred as deferred:
            return Outcome(result="refused", reason=deferred.reason, detail="ask again later")
        journals.extend(done.journals)
        is_new = done.heartbeats or done.readings or done.events or done.presences
        return Outcome(
            result="stored" if is_new else "duplicate",
            kind=type(verdict).__name__.lower(),
            device_no=verdict.device.device_no,
            principal_no=verdict.device.principal_no,
            stamp=verdict.stamp,
            numbered=verdict.numbered if isinstance(verdict, Event) else None,
        )

    def _taken(self, request: Request) -> Taken:
        """The message as it would be taken today, received when it first was."""
        assert request.inmate is not None
        source = request.correction or request.inmate
        verdict: Verdict = judge(
            source.topic,
            source.payload,
            is_retained=False,  # whatever lay at the broker has been cleared; what it says is judged by itself
            registry=self._registry,
            now=request.inmate.first_seen_at,
            window=self._window,
        )
        return Taken(
            topic=source.topic,
            payload=source.payload,
            is_retained=False,
            packet_id=None,
            connection=0,
            received_at=request.inmate.first_seen_at,
            verdict=verdict,
        )

    def _is_forgotten(self, verdict: Admitted, now: datetime) -> bool:
        """Whether its raw rows are no longer kept. Rolling its hour up again would then undo what was rolled up."""
        match verdict:
            case Heartbeat(device=device, stamp=stamp):
                is_sensor = device.kind is DeviceKind.SENSOR
                kept_for = self._retention.sensor_heartbeats if is_sensor else self._retention.heartbeats
                return stamp.at < now - kept_for
            case Reading(rows=rows):
                return any(stamp.at < now - self._retention.readings for stamp, _ in rows)
            case Event(stamp=stamp):
                return stamp.received_at < now - self._retention.events
            case Presence():
                return False
            case _:
                assert_never(verdict)

    async def _make_partitions(self, request: Request) -> None:
        verdict = self._taken(request).verdict
        async with self._database.connection() as connection:
            for at in sorted(set(_instants(verdict))):
                await upkeep_store.ensure_partitions(connection, from_at=at, until_at=at)


async def _stored(store: BatchStore, message: Taken, *, now: datetime) -> Committed:
    """Store it as if it had just come. A number that was taken back for it is given again whatever comes of it."""
    async with store.connection.transaction():
        if isinstance(message.verdict, Event):
            await replay_store.free_number(store.connection, message.verdict.numbered)
        done = await store.commit(assemble([message], now=now), now=now)
        if done.deferred:
            raise _Deferred(done.deferred)
        return done


def _instants(verdict: Verdict) -> Iterator[datetime]:
    """Every instant a row of the message is laid down by."""
    match verdict:
        case Heartbeat(stamp=stamp) | Event(stamp=stamp) | Presence(stamp=stamp):
            yield from (stamp.at, stamp.received_at)
        case Reading(rows=rows):
            yield from (stamp.at for stamp, _ in rows)
        case Quarantined() | Cleared():
            return
        case _:
            assert_never(verdict)


def _names(request: Request) -> Iterator[str]:
    """The device ids on which the verdict rests."""
    if request.inmate is None:
        return
    topic = (request.correction or request.inmate).topic
    try:
        parsed = topics.parse_topic(topic)
    except InvalidTopic:
        return
    match parsed:
        case topics.Uplink(principal, _, device):
            yield from (principal, device)
        case topics.Presence(principal):
            yield principal
        case topics.Downlink() | topics.AreaAlert():
            return
        case _:
            assert_never(parsed)
