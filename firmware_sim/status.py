"""How the simulator is doing, over HTTP: `/healthz` for whoever watches the process, `/status` for people and tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

_TIMEOUT_S = 5.0
_REQUEST_BYTES = 4_096


@asynccontextmanager
async def serve_status(
    host: str, port: int, *, report: Callable[[], Mapping[str, object]]
) -> AsyncIterator[tuple[str, int]]:
    """Answer GET /healthz and GET /status while the context is open; yields the address really listened on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, *_ = (*head.split(b"\r\n", 1)[0].split(b" "), b"", b"")
                status, body = _respond(method, path, report)
                payload = json.dumps(body, ensure_ascii=False).encode()
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                    % (status, len(payload), payload)
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone or never asked properly
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_REQUEST_BYTES)
    async with server:
        name = server.sockets[0].getsockname()
        yield name[0], name[1]


def _respond(
    method: bytes, path: bytes, report: Callable[[], Mapping[str, object]]
) -> tuple[bytes, Mapping[str, object]]:
    if method != b"GET":
        return b"405 Method Not Allowed", {"error": "only GET"}
    match path:
        case b"/healthz":
            return b"200 OK", {"status": "ok"}
        case b"/status":
            return b"200 OK", report()
        case _:
            return b"404 Not Found", {"error": "there are /healthz and /status"}
