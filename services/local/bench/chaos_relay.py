"""A relay between ingest and its database that can break the way between them: cut, silent, slow, or lost in the middle.

It passes bytes on and knows only so much of PostgreSQL as it takes to lose a connection inside a transaction.
"""

import asyncio
from collections.abc import Callable

from services.local.bench.chaos_gate import Address, Gate
from services.local.bench.chaos_packets import COPY_DATA, FromClient, FromServer

CHUNK_BYTES = 65_536
HELD_BACK = 256  # pieces on their way in one direction; beyond them the sender waits

# In a COPY, in a transaction: where a connection has to be to be lost.
_NOWHERE = (False, False)
_IN_BOTH, _IN_EITHER = all, any


class Relay(Gate["Link"]):
    """Passes bytes both ways between whoever connects and `target`; without a target, nobody is let in."""

    def __init__(self, target: Address | None = None, *, reads_postgresql: bool = False) -> None:
        super().__init__(target)
        self._reads_postgresql = reads_postgresql
        self.delay_s = 0.0  # by which everything the target says is held back
        self._trap: _Trap | None = None

    async def lose_one(self, *, within_s: float) -> "Link | None":
        """Lose a connection in the middle of something; None when there is nothing in time.

        Best of all the middle of a COPY in a transaction, where locks may be held; where none comes, because the client
        does without, a COPY or a transaction. From then on nothing passes over it, and neither side is told.
        """
        for is_wanted in (_IN_BOTH, _IN_EITHER):
            self._trap = _Trap(is_wanted)
            try:
                return await asyncio.wait_for(self._trap.sprung, within_s / 2)
            except TimeoutError:
                continue
            finally:
                self._trap = None
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.target is None:
            writer.transport.abort()
            return
        try:
            there, to_there = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, to_there)
        self._open.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._up(reader, link))
                tasks.create_task(self._down(there, link, tasks))
        finally:
            self._open.discard(link)
            link.end()

    async def _up(self, reader: asyncio.StreamReader, link: "Link") -> None:
        """Client to server."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                where = link.feed(data) if self._reads_postgresql else _NOWHERE
                if self._trap is not None and self._trap.takes(where):
                    self._lose(self._trap, link, data)
                elif not link.is_lost:
                    link.server.write(data)
                    await link.server.drain()
        except OSError:
            pass
        if not link.is_lost:
            link.end()

    def _lose(self, trap: "_Trap", link: "Link", data: bytes) -> None:
        link.is_lost = True
        link.server.write(data[: len(data) // 2])
        trap.sprung.set_result(link)

    async def _down(self, reader: asyncio.StreamReader, link: "Link", tasks: asyncio.TaskGroup) -> None:
        """Server to client."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_BACK)
        loop = asyncio.get_running_loop()
        delivering = tasks.create_task(self._deliver(on_the_way, link))
        try:
            while data := await reader.read(CHUNK_BYTES):
                if self._reads_postgresql:
                    link.from_server.feed(data)
                await on_the_way.put((loop.time() + self.delay_s, data))
        except OSError:
            pass
        link.server_ended_at = loop.time()
        await on_the_way.put((loop.time() + self.delay_s, b""))
        await delivering
        link.end()

    async def _deliver(self, on_the_way: "asyncio.Queue[tuple[float, bytes]]", link: "Link") -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._flows.wait()
            if not data:
                return
            if not link.is_lost:
                link.client.write(data)
                try:
                    await link.client.drain()
                except OSError:
                    continue  # nobody there any more; the other direction ends the link


class _Trap:
    """Waits for a connection that is where it is wanted."""

    def __init__(self, is_wanted: Callable[[tuple[bool, bool]], bool]) -> None:
        self.sprung: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._is_wanted = is_wanted

    def takes(self, where: tuple[bool, bool]) -> bool:
        """Whether this is the one."""
        return not self.sprung.done() and self._is_wanted(where)


class Link:
    """One connection through the relay."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.from_server = FromServer()
        self.is_lost = False
        self.server_ended_at: float | None = None
        self._from_client = FromClient()

    @property
    def application(self) -> str:
        """The name the client gave itself."""
        return self._from_client.application

    def feed(self, data: bytes) -> tuple[bool, bool]:
        """Take what the client sends next; returns whether it is part of a COPY, and whether in a transaction."""
        return COPY_DATA in self._from_client.feed(data), self.from_server.is_in_transaction

    def end(self) -> None:
        """End both sides, without what is still to be sent."""
        for writer in (self.client, self.server):
            writer.transport.abort()
