"""Far more than can be taken: a generator of heartbeats, held to a rate or to what is under way, and how much is taken."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.local.bench import generator
from services.local.bench.chaos_ledger import Ledger
from services.local.bench.chaos_site import ChaosSite
from services.local.bench.gateway import CHUNK
from services.local.bench.generator import Orders
from services.local.bench.measurement import IN_FLIGHT, BenchFailed, Generator
from services.local.bench.scoreboard import Slot, State, open_scoreboard
from services.local.bench.traffic import Profile, Traffic
from services.local.platform import TOP, inherited_environment
from services.local.processes import running

LOOK_EVERY_S = 0.005
KEPT_S = 2.0  # how far back a rate can be asked for


@asynccontextmanager
async def offering(site: ChaosSite, *, messages: int) -> AsyncIterator[Generator]:
    """A generator with so many heartbeats made, connected to the broker; the site's ledger knows them."""
    population = site.ledger.traffic.population
    gateways = [population.gateway_id(each) for each in range(population.gateways)]
    of_gateway = -(-messages // len(gateways) // CHUNK) * CHUNK
    files = {suffix: site.folder / f"generator.{suffix}" for suffix in ("json", "board", "sent", "log")}
    Orders(
        host=site.broker.host,
        port=site.broker.device_port,
        ca_file=str(site.pki.service_ca),
        certificates=[site.certificate(each) for each in gateways],
        devices=population.devices,
        profile=Profile.HEARTBEATS.value,
        messages=of_gateway,
        in_flight=IN_FLIGHT,
        scoreboard=str(files["board"]),
        ledger=str(files["sent"]),
    ).write(files["json"])
    command: list[str | Path] = [sys.executable, "-m", generator.__name__, files["json"]]
    with open_scoreboard(files["board"]) as board:
        async with running("generator", command, log=files["log"], env=inherited_environment(), cwd=TOP) as process:
            load = Generator(board=board, process=process, ledger=files["sent"])
            await load.wait_ready()
            site.ledger.traffic = Traffic(
                population=population, profile=Profile.HEARTBEATS, base_ms=board[Slot.BASE_MS]
            )
            for book in site.ledger.heartbeats:
                book.send(of_gateway)
            board[Slot.GO] = 1
            yield load


@dataclass(slots=True)
class Meter:
    """Counts the heartbeats that ingest acknowledges, as the witness sees them."""

    ledger: Ledger
    taken: int = 0
    _history: deque[tuple[float, int]] = field(default_factory=deque)  # when, and how many by then

    def delivered(self, topic: str, payload: bytes) -> None:
        """The broker gave ingest a message."""
        self.ledger.note_delivered(topic, payload, at=time.monotonic())

    def acknowledged(self, topic: str, payload: bytes, *, session: str) -> None:
        """Ingest acknowledged it."""
        self.ledger.note_acknowledged(topic, payload, at=time.monotonic(), session=session)
        self.taken += "/heartbeat/" in topic

    def look(self, now: float) -> None:
        """Remember how many there are now."""
        self._history.append((now, self.taken))
        while self._history[0][0] < now - KEPT_S:
            self._history.popleft()

    def rate(self, seconds: float) -> float:
        """Return how many were acknowledged a second, over so many seconds before the last look; 0 when that is unknown."""
        if not self._history:
            return 0.0
        now, taken = self._history[-1]
        before = next(((at, count) for at, count in self._history if at >= now - seconds), None)
        if before is None or before[0] >= now or self._history[0][0] > now - seconds:
            return 0.0
        return (taken - before[1]) / (now - before[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What happened between two instants (monotonic seconds)."""

    begin: float
    end: float
    sent: int
    taken: int

    @property
    def offered_rate(self) -> float:
        """Messages sent a second."""
        return self.sent / (self.end - self.begin)

    @property
    def rate(self) -> float:
        """Messages taken a second."""
        return self.taken / (self.end - self.begin)


async def offer(
    load: Generator, meter: Meter, *, seconds: float, pace: float | None = None, under_way: int | None = None
) -> Span:
    """Have messages sent for so long, so many a second, or as long as no more than so many are under way.

    Raises `BenchFailed` when the generator ends or has sent everything it has made.
    """
    begin, sent, taken = time.monotonic(), load.sent, meter.taken
    while (now := time.monotonic()) < begin + seconds:
        meter.look(now)
        load.allow(meter.taken + under_way if under_way is not None else sent + round((pace or 0) * (now - begin)))
        if load.process.returncode is not None:
            raise BenchFailed(f"the generator ended with status {load.process.returncode}{load.process.tail()}")
        if load.board[Slot.STATE] == State.EXHAUSTED:
            raise BenchFailed(f"the generator ran out of messages after {load.sent}")
        await asyncio.sleep(LOOK_EVERY_S)
    return Span(begin=begin, end=now, sent=load.sent - sent, taken=meter.taken - taken)
