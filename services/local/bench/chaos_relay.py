"""A relay between ingest and its database that can break the way between them: cut, silent, slow, or lost in the middle.

It passes bytes on and knows only so much of PostgreSQL as it takes to lose a connection inside a transaction.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from services.local.bench.chaos_packets import COPY_DATA, FromClient, FromServer

CHUNK_BYTES = 65_536
HELD_BACK = 256  # pieces on their way in one direction; beyond them the sender waits

Address = tuple[str, int]


class Relay:
    """Passes bytes both ways between whoever connects and `target`; without a target, nobody is let in."""

    def __init__(self, target: Address | None = None, *, reads_postgresql: bool = False) -> None:
        self.target = target
        self._reads_postgresql = reads_postgresql
        self.delay_s = 0.0  # by which everything the target says is held back
        self._flows = asyncio.Event()
        self._flows.set()
        self._links: set[Link] = set()
        self._trap: asyncio.Future[Link] | None = None
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._flows.set()
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """End every connection now, as a reset."""
        for link in tuple(self._links):
            link.end()

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        """Inside, nothing passes and nothing is closed; what was sent meanwhile passes afterwards."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Inside, every connection is ended and no new one is let in."""
        target, self.target = self.target, None
        self.cut()
        try:
            yield
        finally:
            self.target = target

    async def lose_one(self, *, within_s: float) -> "Link | None":
        """Lose the next connection that is in the middle of a COPY in a transaction; None when none is in time.

        From then on nothing passes over it, and neither side is told.
        """
        self._trap = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(self._trap, within_s)
        except TimeoutError:
            return None
        finally:
            self._trap = None

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
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._up(reader, link))
                tasks.create_task(self._down(there, link, tasks))
        finally:
            self._links.discard(link)
            link.end()

    async def _up(self, reader: asyncio.StreamReader, link: "Link") -> None:
        """Client to server."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                is_in_copy = self._reads_postgresql and link.is_in_copy(data)
                if is_in_copy and self._trap is not None and not self._trap.done():
                    self._lose(self._trap, link, data)
                elif not link.is_lost:
                    link.server.write(data)
                    await link.server.drain()
        except OSError:
            pass
        if not link.is_lost:
            link.end()

    def _lose(self, trap: "asyncio.Future[Link]", link: "Link", data: bytes) -> None:
        link.is_lost = True
        link.server.write(data[: len(data) // 2])
        trap.set_result(link)

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

    def is_in_copy(self, data: bytes) -> bool:
        """Whether `data`, which the client sends next, is part of a COPY inside a transaction."""
        return COPY_DATA in self._from_client.feed(data) and self.from_server.is_in_transaction

    def end(self) -> None:
        """Reset both sides."""
        for writer in (self.client, self.server):
            writer.transport.abort()
