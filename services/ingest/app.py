"""Ingest put together: the order in which it starts, what runs side by side, and how it stops."""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from schemas import topics
from schemas.topics import UplinkKind
from services.ingest import upkeep_store
from services.ingest.batching import BatchLimits
from services.ingest.broker_watch import BrokerWatch
from services.ingest.brokerlog import Refusal
from services.ingest.ghost_watch import GhostWatch
from services.ingest.intake import IntakeLimits
from services.ingest.lane import Lane, Surroundings
from services.ingest.leaver import Queue, drain
from services.ingest.ledger import LedgerLimits
from services.ingest.log_follower import follow
from services.ingest.maintainer import Maintainer
from services.ingest.metrics import Metrics
from services.ingest.mqtt import SessionOptions, Subscription
from services.ingest.quota import QuarantineQuota
from services.ingest.registry import Registry
from services.ingest.registry_loader import CHANNEL, KEYS_CHANNEL, RegistryLoader
from services.ingest.replayer import Replayer
from services.ingest.replicas import Replicas
from services.ingest.sensor_roller import SensorRoller
from services.ingest.settings import Settings
from services.ingest.stamps import TimeWindow
from services.ingest.store import BatchStore, StoreLimits, open_store
from services.ingest.twin_watch import TwinWatch
from services.shared import garbage
from services.shared.clock import utc_now
from services.shared.database.errors import DatabaseError
from services.shared.database.listener import listen
from services.shared.database.pool import Database, open_database
from services.shared.database.schema_version import demand_current
from services.shared.http import Readiness, serve_health
from services.shared.lifecycle import CannotStart

RETRY = timedelta(seconds=1)
PING_EVERY = timedelta(seconds=1)
ANSWERS_WITHIN = timedelta(seconds=4)

BULK = (UplinkKind.HEARTBEAT, UplinkKind.READING)
VITAL = (UplinkKind.EVENT,)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a replica took while it left, and whether the broker had kept a session of it at all."""

    drained: int
    was_known: bool


class Ingest:
    """The parts of one running ingest, wired together."""

    def __init__(self, settings: Settings, metrics: Metrics, database: Database, storage_mode: str) -> None:
        self._settings = settings
        self._metrics = metrics
        self._database = database
        self._storage_mode = storage_mode
        window = TimeWindow(ahead=settings.time.ahead, behind=settings.time.behind)
        self._registry = Registry()
        self._loader = RegistryLoader(database, self._registry, refresh=settings.registry_refresh, metrics=metrics)
        self._maintainer = Maintainer(
            database,
            window=window,
            retention=settings.retention,
            keep_quarantine_for=settings.quarantine.keep_for,
            interval=settings.maintenance_interval,
            clock=utc_now,
            metrics=metrics,
        )
        self._sensor_roller = SensorRoller(
            settings.database,
            replica=settings.replica,
            interval=settings.maintenance_interval,
            patience=settings.roll_up_timeout,
            keep_for=settings.retention.sensor_heartbeats,
            clock=utc_now,
            metrics=metrics,
        )
        self._twin_watch = TwinWatch(database, clock=utc_now, metrics=metrics)
        surroundings = Surroundings(
            registry=self._registry,
            recheck=self._loader.recheck,
            make_partitions=self._maintainer.make_partitions,
            open_store=store_opener(settings),
            window=window,
            limits=IntakeLimits(
                batch=BatchLimits(size=settings.batch.size, age_s=settings.batch.age.total_seconds()),
                messages=2 * settings.receive_maximum,
                bytes=settings.bytes_in_hand,
            ),
            states_per_s=settings.sensor_states_per_s,
            receipt_interval=settings.receipt_interval,
            receipt_expiry=settings.receipt_expiry,
            clock=utc_now,
            metrics=metrics,
            committed=self._twin_watch.note,
        )
        group = settings.shared_group.get_secret_value()
        bulk, vital = subscriptions(group, BULK), (*subscriptions(group, VITAL), PRESENCE)
        self._bulk = Lane(
            "bulk", self._session(settings.replica, bulk, vital), surroundings, writers=settings.batch.writers
        )
        self._vital = Lane("vital", self._session(f"{settings.replica}-vital", vital, bulk), surroundings, writers=1)
        self._lanes = (self._bulk, self._vital)
        self._broker_watch = BrokerWatch(settings.broker, replica=settings.replica, clock=utc_now, metrics=metrics)
        self._replicas = Replicas(
            database,
            replica=settings.replica,
            silence=settings.replica_silence,
            drops=lambda: self._broker_watch.drops,
            metrics=metrics,
        )
        self._replayer = Replayer(
            database,
            listening=settings.database,
            open_store=partial(store_opener(settings), "replayer"),
            registry=self._registry,
            recheck=self._loader.recheck,
            receipts=self._vital.sender,
            window=window,
            retention=settings.retention,
            clock=utc_now,
            metrics=metrics,
        )
        self._answered_at = asyncio.get_running_loop().time()

    def _session(
        self, client_id: str, takes: tuple[Subscription, ...], leaves: tuple[Subscription, ...]
    ) -> SessionOptions:
        return SessionOptions(
            broker=self._settings.broker,
            client_id=client_id,
            subscriptions=takes,
            given_up=tuple(each.topic_filter for each in leaves),
            receive_maximum=self._settings.receive_maximum,
        )

    async def prepare(self) -> None:
        """What has to be so before the first message comes: a place for rows, and the registry."""
        await self._maintainer.make_partitions()
        await self._loader.load()
        self._broker_watch.remember(await self._replicas.enter())
        garbage.settle()

    def leave(self) -> None:
        """Only drain what waits for this replica, without taking a share of what comes; `run` then ends by itself."""
        for lane in self._lanes:
            lane.session.leave()
        self._replicas.ask_to_leave()

    async def run(self, stop: asyncio.Event) -> Left | None:
        """Take, store and acknowledge until `stop` is set, then wind up; or until asked to leave, and leave.

        Returns what came of leaving; None where the replica keeps its place and its session.
        """
        settings = self._settings
        async with asyncio.TaskGroup() as tasks:
            background = [
                *(tasks.create_task(lane.run(), name=lane.name) for lane in self._lanes),
                tasks.create_task(self._loader.run(), name="registry"),
                tasks.create_task(self._maintainer.run(), name="maintenance"),
                tasks.create_task(self._sensor_roller.run(), name="sensor roll-up"),
                tasks.create_task(self._watch_database(), name="database watch"),
                tasks.create_task(self._broker_watch.run(), name="broker watch"),
                tasks.create_task(self._replicas.run(), name="replicas"),
                tasks.create_task(self._twin_watch.run(), name="twin watch"),
                tasks.create_task(self._replayer.run(), name="replayer"),
                tasks.create_task(
                    GhostWatch(self._database, patience=settings.batch.commit_timeout).run(), name="ghost watch"
                ),
                tasks.create_task(
                    listen(
                        settings.database,
                        [CHANNEL, KEYS_CHANNEL],
                        self._loader.wake,
                        application=f"ingest {settings.replica}",
                    ),
                    name="listener",
                ),
            ]
            if settings.broker_log is not None:
                background.append(
                    tasks.create_task(follow(settings.broker_log, self._broker_refused), name="broker log")
                )
            writing = [tasks.create_task(lane.write(), name=f"{lane.name} writers") for lane in self._lanes]
            drained = await self._until_told(stop)
            left = await self._wind_up(writing, drained)
            for task in background:
                task.cancel()
        return left

    async def ready(self) -> Readiness:
        """Whether messages are being taken and can be stored."""
        since_answer = asyncio.get_running_loop().time() - self._answered_at
        facts = {
            "replica": self._settings.replica,
            "database": self._storage_mode,
            "database_answers": since_answer < ANSWERS_WITHIN.total_seconds(),
            "can_store": all(lane.is_able for lane in self._lanes),
            "broker_connected": all(lane.session.is_connected for lane in self._lanes),
            "registered_devices": len(self._registry),
            "messages_in_hand": self._in_hand,
        }
        is_ready = all(facts[name] for name in ("database_answers", "can_store", "broker_connected"))
        return Readiness(is_ready=is_ready, facts=facts)

    async def _watch_database(self) -> None:
        """Ask the database now and then. Who asks for readiness cannot wait for the answer of one that hangs."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._database.ping()
                self._answered_at = loop.time()
            except DatabaseError:
                self._answered_at = -math.inf
            await asyncio.sleep(PING_EVERY.total_seconds())

    @property
    def _in_hand(self) -> int:
        return sum(lane.intake.in_hand for lane in self._lanes)

    def _broker_refused(self, refusal: Refusal) -> None:
        self._metrics.broker_refusals.labels(kind=refusal.kind.value).inc()

    # --- the end ---

    async def _until_told(self, stop: asyncio.Event) -> int | None:
        """Return when nothing more shall be taken: told to stop (None), or having left, with the number taken meanwhile."""
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(stop.wait(), name="stop")
            leaving = tasks.create_task(self._leave_when_asked(), name="leave")
            await asyncio.wait([stopping, leaving], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            leaving.cancel()
        if not leaving.cancelled():
            return leaving.result()
        if not self._settings.leave_on_stop:
            return None
        try:
            async with asyncio.timeout(self._settings.stop_deadline.total_seconds()):
                return await self._drain()
        except TimeoutError:
            log.warning("subscription_not_left")
            return None

    async def _leave_when_asked(self) -> int:
        await self._replicas.until_asked_to_leave()
        log.info("leaving", extra={"replica": self._settings.replica})
        return await self._drain()

    async def _drain(self) -> int:
        return await drain([Queue(lane.session, lane.intake) for lane in self._lanes])

    async def _wind_up(self, writing: Collection["asyncio.Task[None]"], drained: int | None) -> Left | None:
        """Commit and acknowledge what is in hand, send the last receipts, and go; with the sessions, if they are drained.

        What cannot be committed by the deadline stays unacknowledged: the broker keeps it for the next start.
        """
        for lane in self._lanes:
            lane.intake.close()
        _, unfinished = await asyncio.wait(writing, timeout=self._settings.stop_deadline.total_seconds())
        for task in unfinished:
            task.cancel()
        if unfinished:
            log.warning("stopped_with_messages_in_hand", extra={"messages": self._in_hand})
        was_known = any(lane.session.was_known for lane in self._lanes)
        for lane in self._lanes:
            lane.sender.send()
            await lane.session.close(ends_session=drained is not None and not unfinished)
        if drained is None or unfinished:
            await self._replicas.stopped()
            log.info("ingest_stopped", extra={"replica": self._settings.replica})
            return None
        await self._replicas.left(drained=drained)
        log.info("ingest_left", extra={"replica": self._settings.replica, "drained": drained})
        return Left(drained=drained, was_known=was_known)


def subscriptions(group: str, kinds: Iterable[UplinkKind]) -> tuple[Subscription, ...]:
    """Return the subscriptions to uplinks of these kinds, shared among the replicas of a group."""
    return tuple(
        Subscription(topic_filter=topics.shared(group, each)) for kind in kinds for each in topics.kind_filters(kind)
    )


# Presence each replica gets for itself. It is retained, and only a subscription that is not shared is given what is
# retained: so a first start, or one after the broker lost the session, learns who is connected. That every replica gets it
# does no harm, because the highest connection number wins whoever writes it.
PRESENCE = Subscription(topic_filter=topics.presence_filter(), retained_first=True)


def store_opener(settings: Settings) -> Callable[[str], AbstractAsyncContextManager[BatchStore]]:
    """Return what opens the store of a writer of that name. Each has totals of its own, or they would wait for one another."""
    limits = StoreLimits(
        ledger=LedgerLimits(journals_a_day=settings.ledger.journals_a_day, ranges=settings.ledger.ranges),
        quarantine=QuarantineQuota(per_principal=settings.quarantine.per_principal, in_all=settings.quarantine.in_all),
        clock_ahead=settings.time.ahead,
    )
    return lambda writer: open_store(
        settings.database,
        replica=settings.replica,
        writer=writer,
        limits=limits,
        patience=settings.batch.commit_timeout,
    )


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run ingest until `stop` is set. An unreachable database or broker is waited for; bugs pass through."""
    metrics = Metrics()
    ingest: Ingest | None = None

    async def ready() -> Readiness:
        if ingest is None:
            return Readiness(is_ready=False, facts={"replica": settings.replica, "database": "not reached yet"})
        return await ingest.ready()

    async with AsyncExitStack() as stack:
        try:
            serving = serve_health(settings.health, ready=ready, registry=metrics.registry)
            health = await stack.enter_async_context(serving)
        except OSError as error:
            where = f"{settings.health.port} on {settings.health.host}"
            raise CannotStart(f"INGEST_HEALTH__PORT: {where}: {error.strerror or error}") from error
        log.info("ingest_started", extra={"replica": settings.replica, "health": health.url})
        ingest = await _reach_database(stack, settings, metrics, stop)
        if ingest is not None:
            await ingest.run(stop)


async def leave(settings: Settings, stop: asyncio.Event) -> Left | None:
    """Be the replica of these settings for as long as it takes to drain what waits for it, and end its session.

    Returns None when `stop` was set before that was done; then nothing is lost, and it may be tried again.
    """
    async with AsyncExitStack() as stack:
        ingest = await _reach_database(stack, settings, Metrics(), stop)
        if ingest is None:
            return None
        ingest.leave()
        return await ingest.run(stop)


async def _reach_database(
    stack: AsyncExitStack, settings: Settings, metrics: Metrics, stop: asyncio.Event
) -> Ingest | None:
    """Return ingest, prepared, over a database opened on `stack`; None when told to stop before there was one."""
    while not stop.is_set():
        try:
            async with AsyncExitStack() as attempt:
                database = await attempt.enter_async_context(
                    open_database(settings.database, application=f"ingest {settings.replica}")
                )
                async with database.connection() as connection:
                    await demand_current(connection)
                    mode = await upkeep_store.storage_mode(connection)
                ingest = Ingest(settings, metrics, database, mode)
                await ingest.prepare()
                metrics.storage_mode.labels(mode=mode).set(1)
                stack.push_async_exit(attempt.pop_all())
                return ingest
        except DatabaseError as error:
            log.warning("database_not_reached", extra={"reason": str(error)})
        try:
            async with asyncio.timeout(RETRY.total_seconds()):
                await stop.wait()
        except TimeoutError:
            pass
    return None
