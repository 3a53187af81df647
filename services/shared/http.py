"""A tiny HTTP server for `/healthz`, `/readyz` and `/metrics`, so that a service without an API needs no framework.

It answers GET and HEAD on those three paths, one request per connection, with bounded size and time; anything else is
refused. It is for supervisors and scrapers on a private address, not for the internet.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from services.shared.settings import HealthSettings

REQUEST_LIMIT_BYTES = 8192
REQUEST_TIMEOUT = timedelta(seconds=5)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether a service can do its work now, and the facts it rests on."""

    is_ready: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthServer:
    """A running server and where it listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    status: HTTPStatus
    content_type: str
    body: bytes


@asynccontextmanager
async def serve_health(
    settings: HealthSettings,
    *,
    ready: Callable[[], Awaitable[Readiness]],
    registry: CollectorRegistry,
    request_timeout: timedelta = REQUEST_TIMEOUT,
) -> AsyncIterator[HealthServer]:
    """Serve inside the block; `ready` is asked for each `/readyz` and its exceptions count as not ready.

    Raises OSError when the address cannot be listened on.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(request_timeout.total_seconds()):
                await _answer(reader, writer, ready, registry)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that went away or never finished asking is owed nothing
        finally:
            writer.close()

    server = await asyncio.start_server(answer, settings.host, settings.port, limit=REQUEST_LIMIT_BYTES)
    async with server:
        yield HealthServer(host=settings.host, port=server.sockets[0].getsockname()[1])


async def _answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    ready: Callable[[], Awaitable[Readiness]],
    registry: CollectorRegistry,
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    response = await _respond(method, path, ready, registry)
    writer.write(
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
        f"content-type: {response.content_type}\r\ncontent-length: {len(response.body)}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n".encode("latin-1")
    )
    if method != "HEAD":
        writer.write(response.body)
    await writer.drain()


async def _respond(
    method: str, path: str, ready: Callable[[], Awaitable[Readiness]], registry: CollectorRegistry
) -> _Response:
    if method not in {"GET", "HEAD"}:
        return _text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n")
    match path:
        case "/healthz":
            return _text(HTTPStatus.OK, "ok\n")
        case "/readyz":
            readiness = await _ask(ready)
            status = HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
            body = json.dumps({"ready": readiness.is_ready, **readiness.facts}, default=str) + "\n"
            return _Response(status=status, content_type="application/json", body=body.encode())
        case "/metrics":
            return _Response(status=HTTPStatus.OK, content_type=CONTENT_TYPE_LATEST, body=generate_latest(registry))
        case _:
            return _text(HTTPStatus.NOT_FOUND, "only /healthz, /readyz and /metrics\n")


async def _ask(ready: Callable[[], Awaitable[Readiness]]) -> Readiness:
    try:
        return await ready()
    except Exception as error:
        log.warning("readiness_check_failed", exc_info=error)
        return Readiness(is_ready=False, facts={"error": type(error).__name__})


def _text(status: HTTPStatus, text: str) -> _Response:
    return _Response(status=status, content_type="text/plain; charset=utf-8", body=text.encode())
