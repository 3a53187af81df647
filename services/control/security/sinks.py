"""Where security events go: a file of JSON lines, and a syslog receiver over UDP, TCP or TLS."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from services.control.security import syslog
from services.control.security.events import SecurityEvent
from services.control.security.syslog import Header

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=1)
TIMEOUT = timedelta(seconds=5)


class SinkUnavailable(Exception):
    """The events were not taken, or not all; they may be given again."""


class Sink(Protocol):
    """One place. `send` returns when all events were handed over, in order; raises `SinkUnavailable`."""

    @property
    def name(self) -> str:
        """Which: its position in the database goes by this name."""

    async def send(self, events: Sequence[SecurityEvent]) -> None:
        """Hand events over."""

    async def close(self) -> None:
        """Let go of what is open."""


class FileSink:
    """JSON lines at the end of a file, which is opened each time: whoever rotates it need not tell us."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()

    async def send(self, events: Sequence[SecurityEvent]) -> None:
        """Append; on the disk when it returns."""
        lines = "".join(json.dumps(each.as_dict(), ensure_ascii=False) + "\n" for each in events).encode(
            "utf-8", "replace"
        )
        async with self._lock:
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError as error:
                raise SinkUnavailable(f"{self._path}: {error}") from error

    async def close(self) -> None:
        """Nothing is open."""

    def _append(self, lines: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class SyslogSink:
    """A syslog receiver. After a failure it is left alone for a while, doubled each time."""

    name = "syslog"

    def __init__(self, url: str, *, facility: int, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        self._scheme, self._host, self._port = parts.scheme, parts.hostname or "", parts.port or 0
        self._ca_file = ca_file
        self._header = Header(facility=facility, host=socket.gethostname(), process=os.getpid())
        self._lock = asyncio.Lock()
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._wait = FIRST_WAIT
        self._not_before = 0.0

    async def send(self, events: Sequence[SecurityEvent]) -> None:
        """Send; over a stream all are given again when it broke while they were sent."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before:
                raise SinkUnavailable(f"{self._host}:{self._port} is left alone for a moment")
            try:
                async with asyncio.timeout(TIMEOUT.total_seconds()):
                    if self._scheme == "udp":
                        await self._send_datagrams(events)
                    else:
                        await self._send_stream(events)
            except (OSError, ssl.SSLError, TimeoutError) as error:
                await self._drop()
                self._not_before = loop.time() + self._wait.total_seconds()
                self._wait = min(self._wait * 2, LONGEST_WAIT)
                where = f"{self._host}:{self._port}"
                raise SinkUnavailable(f"{where}: {str(error) or type(error).__name__}") from error
            self._wait = FIRST_WAIT

    async def close(self) -> None:
        """Close the stream."""
        async with self._lock:
            await self._drop()

    async def _send_datagrams(self, events: Sequence[SecurityEvent]) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as sending:
            sending.setblocking(False)
            for each in events:
                await loop.sock_sendto(sending, syslog.message(each, self._header, limit=syslog.UDP_BYTES), address)

    async def _send_stream(self, events: Sequence[SecurityEvent]) -> None:
        if self._stream is not None and self._stream[0].at_eof():
            await self._drop()  # they have closed: what is written now would be lost in silence
        if self._stream is None:
            context = ssl.create_default_context(cafile=self._ca_file) if self._scheme == "tls" else None
            self._stream = await asyncio.open_connection(self._host, self._port, ssl=context)
        writer = self._stream[1]
        writer.write(syslog.framed([syslog.message(each, self._header) for each in events]))
        await writer.drain()

    async def _drop(self) -> None:
        if self._stream is not None:
            self._stream[1].transport.abort()
            self._stream = None
