"""Watches the broker's own numbers, so that a queue that overflows is counted, whoever's fault it is.

A session of its own, which nothing holds up: while ingest reads nothing because the database is away, this goes on
reading, and that is when queues overflow. The broker forgets the session with each connection.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import mqtt5

from services.ingest import brokerstats
from services.ingest.brokerstats import Drops
from services.ingest.frames import Unreadable
from services.ingest.metrics import Metrics
from services.ingest.mqtt import Session, SessionOptions, Subscription
from services.shared.settings import BrokerSettings

RECEIVE_MAXIMUM = 100  # a round is eight messages
LOOK_EVERY = timedelta(seconds=1)
# Three rounds of a broker that tells every ten seconds. Silence is mostly an access list from before it named $SYS.
SILENCE = timedelta(seconds=35)

log = logging.getLogger(__name__)


class BrokerWatch:
    """Reads `$SYS` into metrics."""

    def __init__(
        self, broker: BrokerSettings, *, replica: str, clock: Callable[[], datetime], metrics: Metrics
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._session = Session(
            SessionOptions(
                broker=broker,
                client_id=f"{replica}-watch",
                subscriptions=tuple(
                    Subscription(topic_filter=each, retained_first=True) for each in brokerstats.TOPICS
                ),
                receive_maximum=RECEIVE_MAXIMUM,
                is_durable=False,
            ),
            self,
        )
        self._drops: Drops | None = None
        self._connection = 0
        self._began_at: datetime | None = None  # of the broker, as this connection has it
        self._numbers: dict[str, int] = {}
        self._heard_at = self._loop.time()

    @property
    def drops(self) -> Drops | None:
        """What was last seen to be dropped, for `remember` of the next process."""
        return self._drops

    def remember(self, drops: Drops | None) -> None:
        """Go on from what an earlier process of this replica has seen: what was dropped since is news."""
        self._drops = drops

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._session.run(), name="broker watch session")
            while True:
                is_told = self._loop.time() - self._heard_at < SILENCE.total_seconds()
                self._metrics.broker_watched.set(is_told and self._session.is_connected)
                await asyncio.sleep(LOOK_EVERY.total_seconds())

    # --- what the session calls ---

    def take_known(self, data: bytes, start: int, *, connection: int) -> int:  # noqa: ARG002 - none is known here
        """Leave every message to the codec: there are few."""
        return start

    def take(self, publishes: Sequence[mqtt5.PublishPacket], *, connection: int) -> None:
        """Take what the broker tells."""
        if connection != self._connection:
            self._connection, self._began_at, self._numbers = connection, None, {}
        for packet in publishes:
            number = brokerstats.number(packet.payload)
            if number is not None:
                self._learn(packet.topic, number, is_old=packet.retain)
        owed = [packet.packet_id for packet in publishes if packet.packet_id is not None]
        self._session.acknowledge(owed, connection=connection)

    def take_unreadable(self, packet: Unreadable, *, connection: int) -> None:
        """Let it be: the broker's own numbers are plain text."""
        log.warning("broker_told_nonsense", extra={"problem": packet.problem, "connection": connection})

    def _learn(self, topic: str, number: int, *, is_old: bool) -> None:
        self._numbers[topic] = number
        match topic:
            case brokerstats.UPTIME:
                self._heard_at = self._loop.time()
                # Once in a connection: a broker cannot begin anew without ending it, but a clock may be put right.
                self._began_at = self._began_at or brokerstats.began_at(number, now=self._clock())
                self._count_drops(is_old=is_old)
            case brokerstats.DROPPED:
                self._count_drops(is_old=is_old)
            case brokerstats.STORED | brokerstats.RETAINED:
                backlog = brokerstats.waiting(
                    self._numbers.get(brokerstats.STORED), self._numbers.get(brokerstats.RETAINED)
                )
                if backlog is not None:
                    self._metrics.broker_waiting.set(backlog)
            case brokerstats.STORED_BYTES:
                self._metrics.broker_stored_bytes.set(number)
            case brokerstats.CONNECTED:
                self._metrics.broker_clients.labels(state="connected").set(number)
            case brokerstats.DISCONNECTED:
                self._metrics.broker_clients.labels(state="away").set(number)
            case brokerstats.HEAP:
                self._metrics.broker_heap_bytes.set(number)
            case _:
                pass  # a broker with more to say

    def _count_drops(self, *, is_old: bool) -> None:
        count = self._numbers.get(brokerstats.DROPPED)
        if count is None or self._began_at is None:
            return
        seen = Drops(broker_began_at=self._began_at, count=count)
        news = brokerstats.newly_dropped(self._drops, seen, is_old=is_old)
        self._drops = seen
        if news:
            self._metrics.broker_dropped.inc(news)
            log.warning("broker_dropped_messages", extra={"messages": news, "since_its_start": count})
