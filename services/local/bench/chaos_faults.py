"""What is done to the system, fault by fault. Each returns the instant from which recovery counts: when the fault is over.

A process that was killed is over with the fault as soon as it is started again, as a supervisor would: that it takes time
to start is part of the recovery.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import asyncpg

from services.local.bench.chaos_relay import Link
from services.local.bench.chaos_schedule import NEEDS_OWN_SERVER, Fault, Kind
from services.local.bench.chaos_server import OwnServer
from services.local.bench.chaos_site import ChaosSite, Replica

# A COPY comes at least ten times a second while everything works.
TRAP_S = 4.0
# A lost connection that still holds others up after so long holds them up for ever. Not sooner: a broker goes on giving a
# frozen replica its share, so each time a device repeats an event, every two seconds, half of those left come through.
GHOST_LIMIT_S = 60.0
# A full disk has to be felt: nothing is acknowledged for so long, within so long.
FELT_AFTER_S = 0.7
FELT_WITHIN_S = 12.0
# What a supervisor does about a database that gave up on a full disk.
DATABASE_DOWN_S = 0.5

_UNREACHABLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Inside, these processes stand still."""
    _signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal_all(pids, signal.SIGCONT)


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it has just ended


@dataclass(slots=True)
class Ghosts:
    """Connections that were lost within a transaction."""

    seen: int = 0
    ended_by_server: int = 0  # while we looked
    ended_by_bench: int = 0  # because nothing else went on


@dataclass(slots=True)
class Breaker:
    """Breaks things."""

    site: ChaosSite
    done: dict[Kind, int] = field(default_factory=dict)
    killed: int = 0  # processes or servers that were ended by kill -9
    database_restarts: int = 0  # after it gave up by itself
    ghosts: Ghosts = field(default_factory=Ghosts)
    ghost: Link | None = None  # one that is still there
    absent: Replica | None = None  # frozen; to be killed and started again once the rest has recovered

    @property
    def is_occupied(self) -> bool:
        """Whether something was left away or lost, that has to be tidied up."""
        return self.absent is not None or self.ghost is not None

    def unavailable(self) -> dict[Kind, str]:
        """Return what cannot be done here, and why."""
        if not isinstance(self.site.server, OwnServer):
            return dict.fromkeys(NEEDS_OWN_SERVER, "the server's processes and disk are not ours")
        why = self.site.server.why_no_disk
        return {} if why is None else {Kind.DISK_FULL: why}

    async def do(self, fault: Fault) -> float | None:
        """Do it; returns when it was over, None when there was nothing to do it to."""
        over_at = await _DEEDS[fault.kind](self, fault)
        if over_at is not None:
            self.done[fault.kind] = self.done.get(fault.kind, 0) + 1
        return over_at

    def tidy(self) -> bool:
        """Bring back what was left away, after the rest has recovered; returns whether there is somebody to wait for."""
        is_back = self.absent is not None
        if self.absent is not None:
            self.killed += self.absent.is_running  # the frozen one
            self.absent.kill()
            self.absent.start()
            self.absent = None
        if self.ghost is not None:
            if self.ghost.server_ended_at is not None:
                self.ghosts.ended_by_server += 1
            self.ghost.end()
            self.ghost = None
        return is_back

    def give_up_ghost(self) -> None:
        """End a lost connection that holds everybody up."""
        if self.ghost is not None:
            self.ghosts.ended_by_bench += 1
            self.ghost.end()
            self.ghost = None

    # --- ingest ---

    async def kill_one(self, fault: Fault) -> float:
        """One of the two replicas."""
        replica = self.site.replicas[fault.replica]
        replica.kill()
        self.killed += 1
        await asyncio.sleep(fault.hold_s / 4)
        over_at = time.monotonic()
        replica.start()
        return over_at

    async def kill_all(self, fault: Fault) -> float:
        """Both."""
        for replica in self.site.replicas:
            replica.kill()
            self.killed += 1
        await asyncio.sleep(fault.hold_s / 4)
        over_at = time.monotonic()
        for replica in self.site.replicas:
            replica.start()
        return over_at

    # --- the broker ---

    async def kill_broker(self, fault: Fault) -> float:
        """And start it again."""
        saved_at = await self.site.kill_broker()
        self.killed += 1
        await asyncio.sleep(fault.hold_s / 2)
        return await self.site.start_broker(saved_at=saved_at)

    async def cut_broker(self, fault: Fault) -> float:
        """From devices and ingest."""
        async with self.site.witness.refusing(), self.site.to_broker.refusing():
            await asyncio.sleep(fault.hold_s)
        return time.monotonic()

    async def freeze_broker(self, fault: Fault) -> float:
        """And let it go on."""
        process = self.site.broker.process
        with frozen([process.pid]):
            await asyncio.sleep(fault.hold_s)
        return time.monotonic()

    # --- the database ---

    async def kill_database(self, fault: Fault) -> float:
        """All of it."""
        server = self._own()
        async with self.site.to_database.refusing():
            await server.kill()
            self.killed += 1
            await asyncio.sleep(fault.hold_s / 2)
            over_at = time.monotonic()
            await server.start()
        self.site.to_database.target = server.address
        return over_at

    async def kill_session(self, fault: Fault) -> float | None:
        """Of ingest; none where the server is still recovering from the fault before."""
        with suppress(*_UNREACHABLE):
            if await self._own().kill_session(fault.replica):
                self.killed += 1
                return time.monotonic()
        return None

    async def terminate_sessions(self, _fault: Fault) -> float | None:
        """All of ingest's; none where the server is still recovering from the fault before."""
        with suppress(*_UNREACHABLE):
            if await self.site.server.terminate_sessions():
                return time.monotonic()
        return None

    async def cut_database(self, fault: Fault) -> float:
        """From ingest."""
        async with self.site.to_database.refusing():
            await asyncio.sleep(fault.hold_s)
        return time.monotonic()

    async def silence_database(self, fault: Fault) -> float:
        """And, every other time, lose what was under way."""
        async with self.site.to_database.silent():
            await asyncio.sleep(2 * fault.hold_s)
            if fault.replica:
                self.site.to_database.cut()
        return time.monotonic()

    async def freeze_database(self, fault: Fault) -> float:
        """And let it go on."""
        with frozen(self._own().processes()):
            await asyncio.sleep(2 * fault.hold_s)
        return time.monotonic()

    async def fill_disk(self, fault: Fault) -> float | None:
        """Until it is felt, and some more; then there is room again, and a database that gave up is started again.

        None where it was not felt.
        """
        server = self._own()
        server.fill_disk()
        try:
            until = time.monotonic() + FELT_WITHIN_S
            while time.monotonic() < until and not self._is_felt:
                await asyncio.sleep(0.05)
            was_felt = self._is_felt
            if was_felt:
                await asyncio.sleep(fault.hold_s)
        finally:
            server.empty_disk()
        over_at = time.monotonic()
        await asyncio.sleep(DATABASE_DOWN_S)
        if not server.is_running:
            self.database_restarts += 1
            await server.stop()
            await server.start()
            self.site.to_database.target = server.address
        return over_at if was_felt else None

    @property
    def _is_felt(self) -> bool:
        """Whether nothing is acknowledged any more."""
        return time.monotonic() - self.site.ledger.last_acknowledged_at >= FELT_AFTER_S

    # --- a replica and its transaction ---

    async def lose_connection(self, fault: Fault) -> float | None:
        """The replica lives and connects again; the database is not told that the connection before is dead."""
        link = await self._lose_one()
        if link is None:
            return None
        await asyncio.sleep(fault.hold_s)
        return time.monotonic()

    async def freeze_replica(self, _fault: Fault) -> float | None:
        """The one in the middle of a COPY stops, and is killed and started again when the other has gone on."""
        link = await self._lose_one()
        if link is None:
            return None
        self.absent = next(each for each in self.site.replicas if link.application.startswith(f"ingest {each.name}"))
        self.absent.freeze()
        return time.monotonic()

    async def _lose_one(self) -> Link | None:
        link = await self.site.to_database.lose_one(within_s=TRAP_S)
        if link is not None:
            self.ghosts.seen += 1
            self.ghost = link
        return link

    def _own(self) -> OwnServer:
        server = self.site.server
        assert isinstance(server, OwnServer), "the schedule leaves out what needs a server of our own"
        return server


_DEEDS: Mapping[Kind, Callable[[Breaker, Fault], Awaitable[float | None]]] = {
    Kind.INGEST_KILLED: Breaker.kill_one,
    Kind.ALL_INGEST_KILLED: Breaker.kill_all,
    Kind.BROKER_KILLED: Breaker.kill_broker,
    Kind.BROKER_UNREACHABLE: Breaker.cut_broker,
    Kind.BROKER_HUNG: Breaker.freeze_broker,
    Kind.DATABASE_KILLED: Breaker.kill_database,
    Kind.BACKEND_KILLED: Breaker.kill_session,
    Kind.BACKEND_TERMINATED: Breaker.terminate_sessions,
    Kind.DATABASE_UNREACHABLE: Breaker.cut_database,
    Kind.DATABASE_SILENT: Breaker.silence_database,
    Kind.DATABASE_HUNG: Breaker.freeze_database,
    Kind.DISK_FULL: Breaker.fill_disk,
    Kind.LOST_IN_TRANSACTION: Breaker.lose_connection,
    Kind.FROZEN_IN_TRANSACTION: Breaker.freeze_replica,
}
