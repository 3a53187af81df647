"""The dispatcher: claims what is due in the outbox, publishes it, and then marks it.

Three loops under one roof. *Sending* holds the connection and empties the outbox (`sender`), but for alerts, which have
a lane of their own (`alerting.lane`); *comparing* puts back what devices turn out not to hold (`cache_store`); *tidying*
removes what has become worthless and counts what waits.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from services.control import planning_queue
from services.control.delivery import cache_store, outbox
from services.control.delivery.outbox import Part
from services.control.delivery.sender import Lane, Sender
from services.control.engine_settings import DeliverySettings
from services.control.metrics import ControlMetrics
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.listener import listen
from services.shared.database.pool import Database
from services.shared.settings import BrokerSettings, DatabaseSettings

TIDY_EVERY = timedelta(seconds=15)
COMPARE_LIMIT = 500

log = logging.getLogger(__name__)


async def run_dispatcher(
    database: Database,
    *,
    listening: DatabaseSettings,
    broker: BrokerSettings,
    settings: DeliverySettings,
    metrics: ControlMetrics,
) -> None:
    """Deliver until cancelled. Outages of the broker and of the database are outlived."""
    dispatcher = Dispatcher(database, broker=broker, settings=settings, metrics=metrics)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            listen(listening, [outbox.CHANNEL], lambda *_: dispatcher.wake.set(), application="control-dispatcher")
        )
        group.create_task(dispatcher.send())
        for name, turn, every in (
            ("republisher", dispatcher.compare_once, settings.compare_every),
            ("tidier", dispatcher.tidy_once, TIDY_EVERY),
        ):
            group.create_task(take_turns(name, turn, every=every, wake=asyncio.Event(), metrics=metrics))


class Dispatcher(Sender):
    """The sender of everything but alerts, and the two loops beside it."""

    def __init__(
        self, database: Database, *, broker: BrokerSettings, settings: DeliverySettings, metrics: ControlMetrics
    ) -> None:
        lane = Lane(
            part=Part.REST,
            loop="dispatcher",
            connected=metrics.broker_connected,
            lease=settings.lease,
            publish_timeout=settings.publish_timeout,
            turn_every=settings.turn_every,
        )
        super().__init__(database, broker=broker, settings=settings, metrics=metrics, lane=lane)

    # --- comparing and tidying ---------------------------------------------------------------------------------------

    async def compare_once(self) -> bool:
        """Send again what devices do not show; returns whether there may be more."""
        now = utc_now()
        async with self._database.transaction() as database:
            kinds = await cache_store.requeue_lost(
                database, after=self._settings.republish_after, limit=COMPARE_LIMIT, now=now
            )
            ahead = await cache_store.raise_serials(database, limit=COMPARE_LIMIT, now=now)
            if kinds:
                await outbox.ring(database)
            if ahead:
                await planning_queue.ring(database)
        for kind in kinds:
            self._metrics.republished.labels(kind).inc()
        self._metrics.serials_repaired.inc(len(ahead))
        if kinds:
            log.info("orders_republished", extra={"orders": len(kinds)})
        for each in ahead:
            log.error(
                "serial_behind_device",
                extra={"device_no": each.device_no, "kind": each.kind, "held": each.held},
            )
        return False

    async def tidy_once(self) -> bool:
        """Remove what has become worthless, and count what waits."""
        now = utc_now()
        async with self._database.connection() as database:
            expired = await outbox.expire(database, now=now)
            waiting, oldest_at = await outbox.depth(database)
        for each in expired:
            self._metrics.abandoned.labels(each.kind, "expired").inc()
            log.warning(
                "message_expired",
                extra={"topic": each.topic, "kind": each.kind, "attempts": each.attempts, "error": each.last_error},
            )
        self._metrics.outbox_waiting.set(waiting)
        self._metrics.outbox_oldest_seconds.set((now - oldest_at).total_seconds() if oldest_at else 0)
        return False
