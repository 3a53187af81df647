"""One measurement: a generator sends, somebody takes, and both are watched over a window.

The load is held back by how many messages may be under way, sent and not yet taken: whoever takes is never short of
work, and nothing piles up that the measurement would not see. So messages are taken as fast as they can be for good.

A load may also be paced, a fixed number a second whatever becomes of them. Then a backlog that does not grow says
something, and so does the time a message takes; under a full load that time only says how much is under way.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from services.local.bench import generator, usage
from services.local.bench.gateway import CHUNK
from services.local.bench.generator import Orders
from services.local.bench.scoreboard import NO_LIMIT, Scoreboard, Slot, State, open_scoreboard
from services.local.bench.site import Site
from services.local.bench.statistics import rise
from services.local.bench.usage import Crew, Family
from services.local.broker import Broker
from services.local.processes import ManagedProcess

LOOK_EVERY_S = 0.004
SAMPLE_EVERY_S = 0.1
WEIGH_EVERY_S = 1.0
PREPARED_DEADLINE = timedelta(seconds=90)
DONE_DEADLINE = timedelta(seconds=20)
STALLED_S = 15.0  # without one more message taken, what is missing will not come

# Messages of one gateway that the broker has not acknowledged; it is loopback, so this is never what holds.
IN_FLIGHT = 2_000

Counter = Callable[[], Awaitable[int]]


class BenchFailed(Exception):
    """A measurement cannot be made or is worth nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator that is ready to send."""

    board: Scoreboard
    process: ManagedProcess
    ledger: Path

    @property
    def sent(self) -> int:
        """Messages sent so far."""
        return self.board[Slot.SENT]

    def allow(self, messages: int) -> None:
        """Let it have sent so many in all."""
        self.board[Slot.ALLOWED] = messages

    async def stop(self) -> None:
        """Have it send no more, and wait until the broker has acknowledged everything. Raises `BenchFailed`."""
        self.board[Slot.GO] = 2
        await self._until(State.DONE, DONE_DEADLINE)
        sent, acknowledged = self.board[Slot.SENT], self.board[Slot.ACKNOWLEDGED]
        if acknowledged != sent or self.board[Slot.REFUSED]:
            refused = self.board[Slot.REFUSED]
            raise BenchFailed(f"of {sent} messages the broker acknowledged {acknowledged} and refused {refused}")

    async def wait_ready(self) -> None:
        """Return when every message is made and every session stands. Raises `ProcessFailed`."""
        await self._until(State.READY, PREPARED_DEADLINE)

    async def _until(self, state: State, deadline: timedelta) -> None:
        async def is_there() -> bool:
            return self.board[Slot.STATE] >= state

        await self.process.wait_ready(is_there, deadline=deadline)


@asynccontextmanager
async def generating(site: Site, broker: Broker, name: str, *, messages: int) -> AsyncIterator[Generator]:
    """A generator with so many messages made, connected to `broker`, waiting for the word."""
    gateways = site.population.gateways
    files = {suffix: site.folder / f"generator-{name}.{suffix}" for suffix in ("json", "board", "sent")}
    Orders(
        host=broker.host,
        port=broker.device_port,
        ca_file=str(site.pki.service_ca),
        certificates=site.certificates,
        devices=site.population.devices,
        profile=site.profile.value,
        messages=-(-messages // gateways // CHUNK) * CHUNK,
        in_flight=IN_FLIGHT,
        scoreboard=str(files["board"]),
        ledger=str(files["sent"]),
    ).write(files["json"])
    with open_scoreboard(files["board"]) as board:
        async with site.process(f"generator-{name}", site.module(generator.__name__, files["json"])) as process:
            yield Generator(board=board, process=process, ledger=files["sent"])


@dataclass(slots=True, kw_only=True)
class Window:
    """What was seen between two instants (monotonic seconds)."""

    begin: float
    end: float
    taken: int  # messages
    cpu_s: Mapping[str, float | None]
    busy_share: float  # of all cores
    others_share: float  # of all cores, by what is no part of the bench
    held_share: float
    progress: Sequence[tuple[float, int]] = ()  # taken since before the beginning, over time
    backlog: Sequence[tuple[float, int]] = ()  # sent and not taken, over time
    memory: Sequence[tuple[float, float]] = ()  # MiB of whoever takes, over time

    @property
    def rate(self) -> float:
        """Messages taken a second."""
        return self.taken / (self.end - self.begin)

    @property
    def rate_by_half(self) -> tuple[float, float] | None:
        """Messages taken a second in the first half and in the second; None of a window too short."""
        if len(self.progress) < 3:
            return None
        first, middle, last = (self.progress[index] for index in (0, len(self.progress) // 2, -1))
        return (
            (middle[1] - first[1]) / (middle[0] - first[0]),
            (last[1] - middle[1]) / (last[0] - middle[0]),
        )

    @property
    def backlog_growth(self) -> float | None:
        """Messages a second by which the backlog grew."""
        return rise(self.backlog)

    def cores(self, who: str) -> float | None:
        """How many cores a family kept busy on average."""
        used = self.cpu_s.get(who)
        return None if used is None else used / (self.end - self.begin)

    def cpu_us_per_message(self, who: str) -> float | None:
        """CPU time for each message taken, microseconds."""
        used = self.cpu_s.get(who)
        return None if used is None or not self.taken else round(used / self.taken * 1e6, 2)


async def measure(
    load: Generator,
    counter: Counter,
    *,
    under_way: int,
    warm_up_s: float,
    seconds: float,
    families: Mapping[str, Family | Crew],
    pace: float | None = None,
    weighed: Sequence[int] = (),
    look_every_s: float = LOOK_EVERY_S,
) -> Window:
    """Have `load` send, at most `under_way` messages ahead of `counter`, and watch for `seconds` after a warm-up.

    With a `pace` it sends so many a second from now on. It goes on sending when this returns. `weighed` are the processes
    whose memory is noted each second. Raises `BenchFailed` when the load ends or runs out of messages.
    """
    families = {**families, "generator": Family(load.process.pid), _EVERYTHING: Family(os.getpid())}
    progress: list[tuple[float, int]] = []
    backlog: list[tuple[float, int]] = []
    memory: list[tuple[float, float]] = []
    sent_before = load.sent
    load.board[Slot.GO] = 1
    began_at = time.monotonic()
    begin, end = began_at + warm_up_s, began_at + warm_up_s + seconds

    async def follow(until: float) -> int:
        """Let the load follow what is taken; returns what was taken by then."""
        sampled_at = weighed_at = 0.0
        while True:
            taken = await counter()
            now = time.monotonic()
            paced = NO_LIMIT if pace is None else sent_before + round(pace * (now - began_at))
            load.allow(min(paced, taken + under_way))
            if now - sampled_at >= SAMPLE_EVERY_S:
                progress.append((now, taken))
                backlog.append((now, load.sent - taken))
                sampled_at = now
                _check(load)
            if now - weighed_at >= WEIGH_EVERY_S:
                memory.append((now, sum(usage.memory(pid).now_mib for pid in weighed)))
                weighed_at = now
            if now >= until:
                return taken
            await asyncio.sleep(look_every_s)

    taken_before = await follow(begin)
    before, begin = _Snapshot.take(load, families), time.monotonic()
    taken_after = await follow(end)
    after, end = _Snapshot.take(load, families), time.monotonic()
    cpu_s = {who: _difference(before.cpu_s[who], after.cpu_s[who]) for who in families}
    ours = (cpu_s.pop(_EVERYTHING) or 0) + (0 if is_ours(families.get("database")) else cpu_s["database"] or 0)
    cpu_s["bench"] = after.own_s - before.own_s
    everything = (end - begin) * len(os.sched_getaffinity(0))
    return Window(
        begin=begin,
        end=end,
        taken=taken_after - taken_before,
        cpu_s=cpu_s,
        busy_share=(after.busy_s - before.busy_s) / everything,
        others_share=max(0.0, after.busy_s - before.busy_s - ours) / everything,
        held_share=(after.held_ns - before.held_ns) / 1e9 / (end - begin),
        progress=[sample for sample in progress if begin <= sample[0] <= end],
        backlog=[sample for sample in backlog if begin <= sample[0] <= end],
        memory=[sample for sample in memory if begin <= sample[0] <= end],
    )


_EVERYTHING = "everything"  # ourselves, and every process we have started


@dataclass(frozen=True, slots=True)
class _Snapshot:
    cpu_s: Mapping[str, float | None]
    busy_s: float
    held_ns: int
    own_s: float

    @classmethod
    def take(cls, load: Generator, families: Mapping[str, Family | Crew]) -> Self:
        cpu_s = {who: family.cpu_s() for who, family in families.items()}
        return cls(cpu_s, usage.machine_busy_s(), load.board[Slot.HELD_NS], time.process_time())


def is_ours(family: Family | Crew | None) -> bool:
    """Whether a process is one that we have started, so that its time is counted with ours."""
    return not isinstance(family, Family) or family.pid is None or usage.parent_of(family.pid) == os.getpid()


async def drain(load: Generator, counter: Counter, *takers: ManagedProcess) -> bool:
    """Have nothing more sent, and wait until everything sent is taken: False when no more of it comes.

    Raises `BenchFailed` when one of `takers` ends.
    """
    load.allow(0)
    taken, moved_at = -1, time.monotonic()
    while (now := await counter()) < load.sent:
        for taker in takers:
            if taker.returncode is not None:
                raise BenchFailed(f"{taker.name} ended with status {taker.returncode}{taker.tail()}")
        if now != taken:
            taken, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > STALLED_S:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True


def _check(load: Generator) -> None:
    if load.process.returncode is not None:
        raise BenchFailed(f"the generator ended with status {load.process.returncode}{load.process.tail()}")
    if load.board[Slot.STATE] == State.EXHAUSTED:
        raise BenchFailed(f"the generator ran out of messages after {load.sent}")


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
