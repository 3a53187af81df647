"""Media over HTTP/1.1: one GET per file and device, resumed with Range, hashed while it is written. And small answers.

A small client of its own on asyncio streams: a device needs one method, one connection per file and no cookies, no
redirects and no compression, and every device of the fleet really downloads its own bytes. Only after its own download
has hashed right may a device share the disk blocks of an identical file with its neighbours (a hard link); that saves
the simulator's disk and changes nothing of what the device did.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from firmware_sim.errors import DownloadFailed, NotServed, WrongHash

CHUNK = 64 * 1024
CHUNK_LIMIT = 1024 * 1024  # of chunked transfer encoding: a chunk is held in memory whole
HEADER_BYTES = 16 * 1024
TIMEOUT_S = 30.0  # without a single byte
ANSWER_S = 8.0  # for a small answer as a whole: what a relay says is worth nothing later
ANSWERS_AT_ONCE = 64  # apart from files: a fleet that fetches its media must not make a relay stutter


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file: where it is, what it must be, and where it goes."""

    url: str
    sha256: bytes
    size: int
    part: Path  # where it grows; what is there already is continued
    file: Path  # where it ends up, whole and verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A small body, and the tag by which to ask whether it has changed."""

    content: bytes
    etag: str | None


class Downloader:
    """Downloads for a whole fleet, a bounded number at a time."""

    def __init__(
        self,
        *,
        at_once: int,
        pool: Path | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._gate = asyncio.Semaphore(at_once)
        self._answers = asyncio.Semaphore(ANSWERS_AT_ONCE)
        self._pool = pool
        self._headers = dict(headers or {})
        self._tls = tls
        self.bytes_received = 0
        if pool is not None:
            pool.mkdir(parents=True, exist_ok=True)

    async def fetch(self, wanted: Wanted) -> None:
        """Bring a file in; raises `DownloadFailed` (try again later) or `WrongHash` (what came was deleted)."""
        async with self._gate:
            try:
                await self._fetch(wanted)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise DownloadFailed(f"{type(error).__name__}: {error}"[:160]) from error

    async def ask(self, url: str, *, limit: int, etag: str | None = None) -> Answer | None:
        """Return a body of at most `limit` bytes, or None when it is still the one with `etag`.

        Raises `DownloadFailed`; `NotServed` when it is the server that says no.
        """
        async with self._answers:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._ask(url, limit=limit, etag=etag)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise DownloadFailed(f"{type(error).__name__}: {error}"[:160]) from error

    async def post(self, url: str, content: bytes, *, limit: int) -> tuple[int, float, bytes]:
        """Send JSON; returns the status, how many seconds to wait before asking again if that was said, and the body.

        Raises `DownloadFailed`.
        """
        async with self._answers:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    reader, writer = await self._open(url)
                    try:
                        await self._request(writer, url, {"Content-Type": "application/json"}, content=content)
                        response = await _head(reader)
                        body = b"".join([piece async for piece in _body(reader, response, limit)])
                    finally:
                        writer.close()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise DownloadFailed(f"{type(error).__name__}: {error}"[:160]) from error
        wait = response.headers.get("retry-after", "")
        return response.status, float(wait) if wait.isdigit() and len(wait) < 6 else 0.0, body

    async def _ask(self, url: str, *, limit: int, etag: str | None) -> Answer | None:
        reader, writer = await self._open(url)
        try:
            await self._request(writer, url, {"If-None-Match": etag} if etag else {})
            response = await _head(reader)
            if response.status == 304 and etag:
                return None
            if response.status != 200:
                raise NotServed(f"HTTP {response.status}")
            content = b"".join([piece async for piece in _body(reader, response, limit)])
        finally:
            writer.close()
        length = response.headers.get("content-length")
        if length is not None and length.isdigit() and len(content) < int(length):
            raise DownloadFailed(f"ended after {len(content)} of {length} bytes")
        self.bytes_received += len(content)
        return Answer(content=content, etag=response.headers.get("etag"))

    def forget(self, sha256: bytes) -> None:
        """Free the disk blocks of a file that a device has deleted, if it was the last to have it."""
        if self._pool is not None:
            shared = self._pool / sha256.hex()
            try:
                if shared.stat().st_nlink == 1:
                    shared.unlink()
            except FileNotFoundError:
                return

    async def _fetch(self, wanted: Wanted) -> None:
        digest, have = _begun(wanted)
        if have < wanted.size:
            reader, writer = await self._open(wanted.url)
            try:
                await self._request(writer, wanted.url, {"Range": f"bytes={have}-"} if have else {})
                response = await _head(reader)
                begin = _begin(response, wanted, have)
                if begin == 0 and have:
                    digest, have = hashlib.sha256(), 0
                with wanted.part.open("r+b" if have else "wb") as file:
                    file.seek(have)
                    async for chunk in _body(reader, response, wanted.size - have):
                        file.write(chunk)
                        digest.update(chunk)
                        have += len(chunk)
                        self.bytes_received += len(chunk)
            finally:
                writer.close()
        if have < wanted.size:
            raise DownloadFailed(f"ended after {have} of {wanted.size} bytes")
        if digest.digest() != wanted.sha256:
            wanted.part.unlink()
            raise WrongHash(f"got {digest.hexdigest()[:16]}…, signed was {wanted.sha256.hex()[:16]}…")
        self._keep(wanted)

    async def _open(self, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise DownloadFailed(f"not an http address: {url[:100]}")
        tls = (self._tls or ssl.create_default_context()) if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        async with asyncio.timeout(TIMEOUT_S):
            return await asyncio.open_connection(parts.hostname, port, ssl=tls, limit=HEADER_BYTES)

    async def _request(
        self, writer: asyncio.StreamWriter, url: str, asking: Mapping[str, str], *, content: bytes | None = None
    ) -> None:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": "loa-sim",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **asking,
            **self._headers,
        }
        if content is not None:
            headers["Content-Length"] = str(len(content))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        method = "GET" if content is None else "POST"
        writer.write(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("ascii") + (content or b""))
        async with asyncio.timeout(TIMEOUT_S):
            await writer.drain()

    def _keep(self, wanted: Wanted) -> None:
        """Give the verified file its name, as a link to a neighbour's identical one where there is one."""
        if self._pool is not None:
            shared = self._pool / wanted.sha256.hex()
            try:
                os.link(shared, wanted.file)
            except FileExistsError:
                pass
            except OSError:
                # Nobody has it yet, or the file system knows no links (or no more of them): keep our own.
                wanted.part.replace(wanted.file)
                _share(wanted.file, shared)
                return
            wanted.part.unlink()
            return
        wanted.part.replace(wanted.file)


def _share(file: Path, shared: Path) -> None:
    """Offer a verified file to the neighbours; that this fails takes nothing from anybody."""
    try:
        os.link(file, shared)
    except OSError:
        return


def _begun(wanted: Wanted) -> tuple[hashlib._Hash, int]:
    """The hash over what an earlier attempt left, and its length; nothing when it cannot be the file."""
    digest = hashlib.sha256()
    try:
        have = wanted.part.stat().st_size
        if have > wanted.size:
            wanted.part.unlink()
            return digest, 0
        with wanted.part.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        return digest, 0
    return digest, have


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    status: int
    headers: Mapping[str, str]


async def _head(reader: asyncio.StreamReader) -> _Response:
    async with asyncio.timeout(TIMEOUT_S):
        head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise DownloadFailed(f"not an HTTP response: {lines[0][:60]}")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return _Response(status=int(rest[:3]), headers={name.strip().lower(): value.strip() for name, _, value in pairs})


def _begin(response: _Response, wanted: Wanted, have: int) -> int:
    """Where in the file the body begins; raises `DownloadFailed` when there is none of use."""
    if response.status == 200:
        return 0
    if response.status == 206 and response.headers.get("content-range", "").startswith(f"bytes {have}-"):
        return have
    if response.status in (206, 416):
        # What we have does not fit what is there: begin anew next time.
        wanted.part.unlink(missing_ok=True)
    raise NotServed(f"HTTP {response.status}")


async def _body(reader: asyncio.StreamReader, response: _Response, room: int) -> AsyncIterator[bytes]:
    """The body in pieces, never more than `room` bytes: no server may fill a device's flash."""
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        pieces = _chunked(reader)
    else:
        length = response.headers.get("content-length")
        pieces = _plain(reader, int(length) if length is not None and length.isdigit() else None)
    async for piece in pieces:
        if len(piece) > room:
            raise DownloadFailed("longer than the signed size")
        room -= len(piece)
        yield piece


async def _plain(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    left = length
    while left is None or left > 0:
        async with asyncio.timeout(TIMEOUT_S):
            piece = await reader.read(CHUNK if left is None else min(CHUNK, left))
        if not piece:
            return  # whether that was all, the caller knows from the signed size
        left = None if left is None else left - len(piece)
        yield piece


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(TIMEOUT_S):
            line = await reader.readuntil(b"\r\n")
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise DownloadFailed("malformed chunk") from None
            if size > CHUNK_LIMIT:
                raise DownloadFailed(f"chunk of {size} bytes")
            piece = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield piece[:-2]
