"""What has been taken from the broker and waits for its batch: judged as it arrives, bounded in number and bytes.

Judging at once, not when the batch is written, lets this process decode while the database commits the batch before.
There are two ways in: the express one, for heartbeats of a known form, and the ordinary one for everything.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import mqtt5

from schemas.fields import DeviceKind
from services.ingest.admission import Heartbeat, Quarantined, Reason, claimed_principal, judge
from services.ingest.batch import Part, Taken
from services.ingest.batching import BatchLimits, seconds_left
from services.ingest.express import Express, ExpressRows
from services.ingest.frames import Unreadable
from services.ingest.metrics import Metrics
from services.ingest.registry import Registry
from services.ingest.stamps import TimeWindow

# The resolution of a stored time.
_APART = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """What may be in hand, taken and not yet committed, before reading pauses; and when a batch is due.

    The Receive Maximum is the back-pressure. These bounds hold what it does not: QoS 0, payloads of the largest size,
    and what a lost connection leaves behind while the next one delivers it again.
    """

    batch: BatchLimits
    messages: int
    bytes: int


class Intake:
    """The receiver of a session. Whoever writes takes batches, and says when one is settled."""

    def __init__(
        self,
        registry: Registry,
        *,
        lane: str,
        limits: IntakeLimits,
        window: TimeWindow,
        clock: Callable[[], datetime],
        metrics: Metrics,
        states_per_s: int,
    ) -> None:
        self._registry = registry
        self._express = Express(registry, window=window, states_per_s=states_per_s)
        self._limits = limits
        self._window = window
        self._clock = clock
        self._metrics = metrics
        self._held = metrics.in_hand.labels(lane=lane)
        self._held_bytes = metrics.in_hand_bytes.labels(lane=lane)
        self._paused = metrics.paused.labels(lane=lane)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Taken] = []
        self._opened_at = 0.0  # the loop's time, when the first of `_waiting` came
        self._wake = asyncio.Event()
        self._is_closed = False
        self._taken = 0
        self._in_hand = 0
        self._bytes_in_hand = 0
        self._pace: Callable[[bool], None] = lambda _: None
        self._is_full = False

    @property
    def in_hand(self) -> int:
        """Messages taken and not settled."""
        return self._in_hand

    @property
    def taken(self) -> int:
        """Messages taken since the start."""
        return self._taken

    def set_pace(self, pace: Callable[[bool], None]) -> None:
        """Call `pace(False)` when no more can be taken and `pace(True)` when it can again."""
        self._pace = pace

    def close(self) -> None:
        """Take nothing more; what waits is due at once. What still arrives is not acknowledged, so it comes again."""
        self._is_closed = True
        self._wake.set()

    # --- what the session calls ---

    def take_known(self, data: bytes, start: int, *, connection: int) -> int:
        """Take messages from `start` on as long as they are of a known form; return where the first other packet begins."""
        if self._is_closed:
            return start
        waiting = self._express.waiting
        before, bytes_before = len(waiting), waiting.bytes
        end = self._express.take(data, start, connection=connection, now=self._clock())
        if end > start:
            self._metrics.received.inc(len(waiting) - before)
            self._count_in(len(waiting) - before, waiting.bytes - bytes_before)
        return end

    def take(self, publishes: Sequence[mqtt5.PublishPacket], *, connection: int) -> None:
        """Judge messages and let them wait."""
        if self._is_closed:
            return
        arrived_at = self._clock()
        for index, packet in enumerate(publishes):
            # A time of receipt stands in for a clock nobody can believe, and a row is (device, time): two messages of
            # one device in a chunk must not share it, or the second would count as the first come again.
            taken = self._judged(packet, connection=connection, now=arrived_at + index * _APART)
            self._waiting.append(taken)
            if type(taken.verdict) is Heartbeat and taken.verdict.device.kind is DeviceKind.SENSOR:
                device_no = taken.verdict.device.device_no
                self._express.learn(packet.topic, packet.payload, device_no, now=arrived_at)
        self._metrics.received.inc(len(publishes))
        self._metrics.redelivered.inc(sum(packet.duplicate for packet in publishes))
        self._count_in(len(publishes), sum(len(packet.payload) for packet in publishes))

    def _judged(self, packet: mqtt5.PublishPacket, *, connection: int, now: datetime) -> Taken:
        verdict = judge(
            packet.topic,
            packet.payload,
            is_retained=packet.retain,
            registry=self._registry,
            now=now,
            window=self._window,
        )
        return Taken(
            topic=packet.topic,
            payload=packet.payload,
            is_retained=packet.retain,
            packet_id=packet.packet_id,
            connection=connection,
            received_at=now,
            verdict=verdict,
        )

    def take_unreadable(self, packet: Unreadable, *, connection: int) -> None:
        """Let a message nobody can read wait for quarantine, so that it can be acknowledged and does not come again."""
        if self._is_closed:
            return
        reason = Quarantined(Reason.MALFORMED_PACKET, packet.problem, claimed_principal(packet.topic))
        self._waiting.append(
            Taken(
                topic=packet.topic,
                payload=packet.payload,
                is_retained=packet.is_retained,
                packet_id=packet.packet_id,
                connection=connection,
                received_at=self._clock(),
                verdict=reason,
            )
        )
        self._metrics.received.inc()
        self._count_in(1, len(packet.payload))

    # --- what the writer calls ---

    async def next_batch(self) -> Part:
        """Return what is due, in order of arrival; empty only when closed and nothing waits."""
        while True:
            left = self._seconds_left()
            if left == 0 or (left is None and self._is_closed):
                return self._cut()
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def settled(self, part: Part) -> None:
        """Forget messages that are stored and acknowledged."""
        self._count_in(-len(part), -part.bytes)

    def ordinary(self, express: ExpressRows) -> list[Taken]:
        """Return express messages as judged the ordinary way, for when their rows are refused."""
        taken = []
        for chunk in express.chunks:
            view = memoryview(chunk.data)
            for index, start in enumerate(chunk.starts):
                packet, _ = mqtt5.read(view[start:])
                assert isinstance(packet, mqtt5.PublishPacket)
                now = chunk.received_at + index * _APART
                taken.append(self._judged(packet, connection=chunk.connection, now=now))
        return taken

    @property
    def _due(self) -> int:
        return len(self._waiting) + len(self._express.waiting)

    def _seconds_left(self) -> float | None:
        if self._is_closed and self._due:
            return 0
        return seconds_left(self._due, self._opened_at, now=self._loop.time(), limits=self._limits.batch)

    def _cut(self) -> Part:
        # Express rows go together, however many: the Receive Maximum bounds them, and COPY is the cheaper the longer it is.
        size = self._limits.batch.size
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        self._opened_at = self._loop.time()
        return Part(batch, self._express.cut())

    def _count_in(self, messages: int, payload_bytes: int) -> None:
        if messages > 0 and self._due == messages:
            self._opened_at = self._loop.time()
            self._wake.set()
        elif self._due >= self._limits.batch.size:
            self._wake.set()
        self._taken += max(0, messages)
        self._in_hand += messages
        self._bytes_in_hand += payload_bytes
        self._held.set(self._in_hand)
        self._held_bytes.set(self._bytes_in_hand)
        fullness = max(self._in_hand / self._limits.messages, self._bytes_in_hand / self._limits.bytes)
        # Half-way down before reading goes on, or it would stop and go with every batch.
        if (not self._is_full and fullness >= 1) or (self._is_full and fullness <= 0.5):
            self._is_full = not self._is_full
            self._paused.set(self._is_full)
            self._pace(not self._is_full)
