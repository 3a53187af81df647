"""What stands before control in a real installation: HTTPS for people and devices, plain HTTP behind.

It asks before it passes an answer on, so that a test can lose one, or do something in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.local.pki import Identity

# Given the path and the status of an answer: whether to pass it on.
Judge = Callable[[str, int], Awaitable[bool]]


@asynccontextmanager
async def https_proxy(identity: Identity, backend_port: int, judge: Judge) -> AsyncIterator[str]:
    """Speak HTTPS with the certificate of `identity` for what answers on `backend_port`; gives the address."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(identity.certificate, identity.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                lengths = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
                body = await reader.readexactly(sum(lengths))
                answer = await _passed_on(head, body, backend_port)
                if await judge(lines[0].split(" ")[1], int(answer.split(b" ", 2)[1])):
                    writer.write(answer)
                    await writer.drain()
            finally:
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


async def _passed_on(head: bytes, body: bytes, port: int) -> bytes:
    """The whole answer; whoever asks has to say `Connection: close`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        first, _, rest = head.partition(b"\r\n")
        writer.write(first + b"\r\nX-Forwarded-Proto: https\r\n" + rest + body)
        return await reader.read(-1)
    finally:
        writer.close()
