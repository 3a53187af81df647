"""What stands between two parts and can be shut: what the relay to the database and the witness at the broker have alike."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

LAST_S = 5.0  # for what is under way at the end

Address = tuple[str, int]


class Passage(Protocol):
    """One connection through a gate."""

    def end(self) -> None:
        """End both its sides, without what is still to be sent."""


PassageT = TypeVar("PassageT", bound=Passage)


class Gate(ABC, Generic[PassageT]):
    """Listens on a port of its own, and lets nobody in while there is no `target`.

    What passes waits for `_flows` and is among `_open` for as long as it is open.
    """

    def __init__(
        self, target: Address | None = None, *, tls: ssl.SSLContext | None = None, chunk_bytes: int = 65_536
    ) -> None:
        self.target = target
        self._tls = tls
        self._chunk_bytes = chunk_bytes
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[PassageT] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._let_in, "127.0.0.1", 0, ssl=self._tls, limit=self._chunk_bytes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._flows.set()
        self._server.close()
        self.cut()
        await self._server.wait_closed()
        if self._serving:
            await asyncio.wait(self._serving, timeout=LAST_S)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """Connections there are now."""
        return len(self._open)

    def cut(self) -> None:
        """End every connection now."""
        for passage in tuple(self._open):
            passage.end()

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

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "streams are served in tasks"
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._serving.discard(task)

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes over one connection, until it ends."""
