"""Sending: holds one connection to the broker and empties the outbox, or a part of it, through it.

Publish first, mark afterwards: killed in between it publishes twice, which devices ignore, and never not at all. Any
number of senders may run; leases keep them apart. What a sender takes is the affair of whoever makes it: the dispatcher
takes everything but alerts, and alerts have a sender of their own, so that nothing ever stands before them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Gauge

from schemas import limits, signing
from services.control.delivery import outbox
from services.control.delivery.connection import (
    BrokerError,
    BrokerUnreachable,
    Connection,
    PublishRefused,
    PublishTimedOut,
    connected,
)
from services.control.delivery.outbox import Claimed, Part, Postponed
from services.control.delivery.retry import Failure, GiveUp, RetryAt, decide
from services.control.engine_settings import DeliverySettings
from services.control.metrics import ControlMetrics
from services.control.turns import take_turns
from services.shared.clock import utc_now
from services.shared.database.pool import Connection as DatabaseConnection
from services.shared.database.pool import Database
from services.shared.settings import BrokerSettings

LARGEST_PAYLOAD = limits.DOWNLINK_BYTES + signing.OVERHEAD_BYTES
FIRST_WAIT = timedelta(seconds=0.5)
LONGEST_WAIT = timedelta(seconds=30)

log = logging.getLogger(__name__)

Hook = Callable[[], Awaitable[None]]
Noted = Callable[[DatabaseConnection, Sequence[Claimed], datetime], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Failed:
    """A message that was not taken, and why."""

    message: Claimed
    failure: Failure
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Which part of the outbox a sender empties, and how hasty it is about it."""

    part: Part
    loop: str  # name in metrics
    connected: Gauge
    lease: timedelta  # longer than publishing takes: until then what a killed sender had is nobody else's
    publish_timeout: timedelta
    turn_every: timedelta
    longest_wait: timedelta = LONGEST_WAIT  # between two attempts to connect


class Sender:
    """One sender of one process. Its name is new in every life, so a lease of an earlier one is somebody else's.

    `at_connection` is done after each connection, before anything is sent; `noted` in the transaction of the marks, with
    what the broker has taken.
    """

    def __init__(
        self,
        database: Database,
        *,
        broker: BrokerSettings,
        settings: DeliverySettings,
        metrics: ControlMetrics,
        lane: Lane,
        at_connection: Hook | None = None,
        noted: Noted | None = None,
    ) -> None:
        # A colon keeps the client id out of the name space of devices (broker_config/README.md).
        self.name = f"control:{secrets.token_hex(4)}"
        self.wake = asyncio.Event()
        self._database = database
        self._broker = broker
        self._settings = settings
        self._metrics = metrics
        self._lane = lane
        self._at_connection = at_connection
        self._noted = noted

    async def send(self) -> None:
        """Hold a connection to the broker and empty the outbox through it, for ever."""
        wait = FIRST_WAIT
        while True:
            try:
                async with connected(
                    self._broker,
                    client_id=self.name,
                    inflight=self._settings.inflight,
                    publish_timeout=self._lane.publish_timeout,
                ) as connection:
                    log.info("broker_connected", extra={"client_id": self.name})
                    self._lane.connected.set(1)
                    wait = FIRST_WAIT
                    if self._at_connection is not None:
                        await self._at_connection()
                    await self._send_while_connected(connection)
                log.warning("broker_connection_lost", extra={"client_id": self.name})
            except BrokerError as error:
                log.warning("broker_unreachable", extra={"reason": str(error)})
            finally:
                self._lane.connected.set(0)
            # Half of the wait is drawn, so that replicas do not come back in step.
            await asyncio.sleep(wait.total_seconds() * (0.5 + secrets.randbelow(1000) / 2000))
            wait = min(wait * 2, self._lane.longest_wait)

    async def _send_while_connected(self, connection: Connection) -> None:
        """Send until the connection is gone. A turn under way ends by itself then, so that it gives back what it has."""

        async def wake_when_lost() -> None:
            await connection.lost()
            self.wake.set()

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(wake_when_lost())
            await take_turns(
                self._lane.loop,
                lambda: self.send_once(connection),
                every=self._lane.turn_every,
                wake=self.wake,
                metrics=self._metrics,
                is_over=lambda: connection.is_lost,
            )
            watching.cancel()

    async def send_once(self, connection: Connection) -> bool:
        """Publish what is due, up to one batch; returns whether there may be more."""
        async with self._database.connection() as database:
            claimed = await outbox.claim(
                database,
                by=self.name,
                lease=self._lane.lease,
                limit=self._settings.batch,
                part=self._lane.part,
                now=utc_now(),
            )
        if not claimed:
            return False
        try:
            failed = await self._publish(connection, claimed)
        except asyncio.CancelledError:
            # A stop. What was under way is due at once for whoever comes next, instead of when the lease runs out.
            await self._settle([], [_Failed(message, Failure.DISCONNECTED, "stopped") for message in claimed])
            raise
        not_taken = {each.message.outbox_id for each in failed}
        await self._settle([message for message in claimed if message.outbox_id not in not_taken], failed)
        # After a failure the turn ends: the connection is gone, or what failed is due again only later.
        return not failed and len(claimed) == self._settings.batch

    async def _publish(self, connection: Connection, claimed: Sequence[Claimed]) -> list[_Failed]:
        """Publish all at once, as far as the window allows; packets leave in order of the outbox."""
        window = asyncio.Semaphore(self._settings.inflight)

        async def publish(message: Claimed) -> _Failed | None:
            if len(message.payload) > LARGEST_PAYLOAD:
                return _Failed(message, Failure.TOO_LARGE, f"{len(message.payload)} bytes")
            async with window:
                try:
                    await connection.publish(
                        message.topic,
                        message.payload,
                        is_retained=message.is_retained,
                        expires_at=message.expires_at,
                        now=utc_now(),
                    )
                except PublishRefused as error:
                    return _Failed(message, Failure.REFUSED, str(error))
                except PublishTimedOut as error:
                    return _Failed(message, Failure.TIMED_OUT, str(error))
                except BrokerUnreachable as error:
                    return _Failed(message, Failure.DISCONNECTED, str(error))
            return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(publish(message)) for message in claimed]
        return [failed for task in tasks if (failed := task.result()) is not None]

    async def _settle(self, taken: Sequence[Claimed], failed: Sequence[_Failed]) -> None:
        """Mark what the broker has taken, and give the rest back or up."""
        now = utc_now()
        postponed: list[Postponed] = []
        given_up: list[Claimed] = []
        for each in failed:
            self._metrics.publish_failures.labels(each.failure.value).inc()
            decision = decide(each.failure, each.message.attempts, expires_at=each.message.expires_at, now=now)
            match decision:
                case RetryAt(at=at):
                    postponed.append(Postponed(message=each.message, dispatch_at=at, error=each.detail))
                case GiveUp(reason=reason):
                    given_up.append(each.message)
                    self._metrics.abandoned.labels(each.message.kind, reason).inc()
            if each.failure is not Failure.DISCONNECTED:
                log.warning(
                    "publish_failed",
                    extra={
                        "topic": each.message.topic,
                        "failure": each.failure.value,
                        "detail": each.detail,
                        "attempts": each.message.attempts,
                        "given_up": isinstance(decision, GiveUp),
                    },
                )
        async with self._database.connection() as database:
            if taken:
                await outbox.remove(database, taken, by=self.name, now=now)
                if self._noted is not None:
                    await self._noted(database, taken, now)
            if postponed:
                await outbox.postpone(database, postponed, by=self.name)
            if given_up:
                await outbox.discard(database, given_up)
        for message in taken:
            self._metrics.published.labels(message.kind).inc()
            self._metrics.delivery_seconds.observe((now - message.created_at).total_seconds())
