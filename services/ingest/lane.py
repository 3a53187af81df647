"""One way through ingest, from a session of its own to a connection of its own: uplinks of some kinds, and nobody else's.

There are two. What comes in masses (heartbeats, readings) may be late when there is too much of it; what must not be
(events, which are alarms and proofs of play, and presence) is never behind it: not in the broker's queue, not among the
unacknowledged, not in a batch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from services.ingest.batch import Taken
from services.ingest.intake import Intake, IntakeLimits
from services.ingest.metrics import Metrics
from services.ingest.mqtt import Session, SessionOptions
from services.ingest.registry import Registry
from services.ingest.sender import Sender
from services.ingest.stamps import TimeWindow
from services.ingest.store import BatchStore
from services.ingest.writer import Collaborators, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What lanes share."""

    registry: Registry
    recheck: Callable[[Collection[str]], Awaitable[None]]
    make_partitions: Callable[[], Awaitable[None]]
    open_store: Callable[[str], AbstractAsyncContextManager[BatchStore]]
    window: TimeWindow
    limits: IntakeLimits
    states_per_s: int
    receipt_interval: timedelta
    receipt_expiry: timedelta
    clock: Callable[[], datetime]
    metrics: Metrics
    committed: Callable[[Sequence[Taken]], None]


class Lane:
    """A session, what it hands its messages to, and who writes them."""

    def __init__(self, name: str, options: SessionOptions, surroundings: Surroundings, *, writers: int) -> None:
        self.name = name
        self._metrics = surroundings.metrics
        self.intake = Intake(
            surroundings.registry,
            lane=name,
            limits=surroundings.limits,
            window=surroundings.window,
            clock=surroundings.clock,
            metrics=surroundings.metrics,
            states_per_s=surroundings.states_per_s,
        )
        self.session = Session(options, self.intake)
        self.intake.set_pace(lambda goes_on: self.session.resume() if goes_on else self.session.pause())
        self.sender = Sender(
            self.session,
            interval=surroundings.receipt_interval,
            expiry=surroundings.receipt_expiry,
            metrics=surroundings.metrics,
        )
        self.session.watch(connected=self._connected, writable=self.sender.wake)
        # More than one hide the commit's wait for the disk: one batch is on its way in while the next is copied.
        self._writers = [
            Writer(
                Collaborators(
                    intake=self.intake,
                    registry=surroundings.registry,
                    recheck=surroundings.recheck,
                    open_store=partial(surroundings.open_store, f"{name}-{number}"),
                    make_partitions=surroundings.make_partitions,
                    session=self.session,
                    sender=self.sender,
                    clock=surroundings.clock,
                    metrics=surroundings.metrics,
                    able=self._able,
                    committed=surroundings.committed,
                ),
                window=surroundings.window,
            )
            for number in range(writers)
        ]

    @property
    def is_able(self) -> bool:
        """Whether the last thing every writer tried with the database worked."""
        return all(writer.is_able for writer in self._writers)

    async def run(self) -> None:
        """Take until cancelled; `write` does the rest."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.session.run(), name=f"{self.name} session")
            tasks.create_task(self.sender.run(), name=f"{self.name} sender")

    async def write(self) -> None:
        """Write and acknowledge until the intake is closed and empty."""
        async with asyncio.TaskGroup() as tasks:
            for number, writer in enumerate(self._writers):
                tasks.create_task(writer.run(), name=f"{self.name} writer {number}")

    def _able(self) -> None:
        self._metrics.database_up.labels(lane=self.name).set(self.is_able)

    def _connected(self, is_connected: bool) -> None:
        self._metrics.broker_connected.labels(lane=self.name).set(is_connected)
        if is_connected:
            self._metrics.connections.labels(lane=self.name).inc()
