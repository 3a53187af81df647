"""The alert lane: a sender of its own, with a connection of its own, that takes alerts out of the outbox and nothing else.

Ten thousand plans may wait in the outbox; an alert waits for none of them. Whoever issues one wakes the lane of its own
process, and the database those of all others; whichever is first sends it. What a killed lane had taken is free again
after seconds.

The broker's retained messages are a cache. What holds is sent again after every connection of ours, because a broker
that was away may have lost it, and every few minutes, because a broker can lose it without our noticing. Devices ignore
what they have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from schemas.topics import AreaAlert, parse_topic
from services.control.alerting import alert_store
from services.control.delivery import outbox
from services.control.delivery.outbox import Claimed, Part
from services.control.delivery.sender import Lane, Sender
from services.control.engine_settings import DeliverySettings
from services.control.metrics import ControlMetrics
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.listener import listen
from services.shared.database.pool import Connection, Database
from services.shared.settings import BrokerSettings, DatabaseSettings

LEASE = timedelta(seconds=5)  # a broker that takes longer than PUBLISH_TIMEOUT is tried again anyway
PUBLISH_TIMEOUT = timedelta(seconds=3)
TURN_EVERY = timedelta(seconds=1)  # what a killed lane had taken waits for this at most, after its lease
LONGEST_WAIT = timedelta(seconds=5)  # between two attempts to reach the broker

log = logging.getLogger(__name__)


async def run_alert_lane(
    database: Database,
    *,
    listening: DatabaseSettings,
    broker: BrokerSettings,
    settings: DeliverySettings,
    metrics: ControlMetrics,
    wake: asyncio.Event,
) -> None:
    """Deliver alerts until cancelled; `wake` is set by whoever issues one in this process."""
    lane = AlertLane(database, broker=broker, settings=settings, metrics=metrics, wake=wake)
    async with asyncio.TaskGroup() as group:
        group.create_task(listen(listening, [outbox.CHANNEL], lambda *_: wake.set(), application="control-alert-lane"))
        group.create_task(lane.sender.send())
        group.create_task(
            take_turns(
                "alert_republisher",
                lane.republish_once,
                every=settings.republish_alerts_every,
                wake=asyncio.Event(),
                metrics=metrics,
            )
        )


class AlertLane:
    """The alert lane of one process."""

    def __init__(
        self,
        database: Database,
        *,
        broker: BrokerSettings,
        settings: DeliverySettings,
        metrics: ControlMetrics,
        wake: asyncio.Event | None = None,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self.sender = Sender(
            database,
            broker=broker,
            settings=settings,
            metrics=metrics,
            lane=Lane(
                part=Part.ALERTS,
                loop="alert_lane",
                connected=metrics.alert_lane_connected,
                lease=LEASE,
                publish_timeout=PUBLISH_TIMEOUT,
                turn_every=TURN_EVERY,
                longest_wait=LONGEST_WAIT,
            ),
            at_connection=self._republish,
            noted=self._note,
        )
        if wake is not None:
            self.sender.wake = wake

    async def republish_once(self) -> bool:
        """Send what holds once more; there is never more of it."""
        await self._republish()
        return False

    async def _republish(self) -> None:
        now = utc_now()
        async with self._database.transaction() as connection:
            again = await alert_store.requeue_what_holds(connection, now=now)
            if again:
                await outbox.ring(connection)
        self._metrics.alerts_republished.inc(again)
        if again:
            log.info("alerts_republished", extra={"messages": again})

    async def _note(self, connection: Connection, taken: Sequence[Claimed], now: datetime) -> None:
        """Note when the broker first took each version, which is what its reach is measured from."""
        versions = {(topic.alert, each.serial or 0) for each in taken if (topic := _area(each)) is not None}
        if versions:
            await alert_store.note_published(connection, versions, at=now)
        for each in taken:
            if each.attempts == 1 and each.payload:
                self._metrics.alert_publish_seconds.observe((now - each.created_at).total_seconds())


def _area(message: Claimed) -> AreaAlert | None:
    """The area topic of a message; a command for one device has none."""
    topic = parse_topic(message.topic)
    return topic if isinstance(topic, AreaAlert) and message.payload else None
