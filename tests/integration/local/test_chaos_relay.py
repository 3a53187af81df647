"""The relay breaks the way between two parties as a network would, and only when told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from services.local.bench.chaos_relay import Relay

pytestmark = [pytest.mark.integration, pytest.mark.timeout(30)]

STARTUP = (4 + 4 + 17 + 2 + 1).to_bytes(4, "big") + b"\x00\x03\x00\x00application_name\x00x\x00\x00"
BEGIN = b"Q\x00\x00\x00\x0aBEGIN\x00"
IN_TRANSACTION = b"Z\x00\x00\x00\x05T"
ROW = b"d\x00\x00\x00\x08row\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)


@asynccontextmanager
async def relayed(serve: Serve, *, reads_postgresql: bool = False) -> AsyncIterator[Relay]:
    serving: set[asyncio.Task[None]] = set()

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(let_in, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    try:
        async with Relay((address[0], address[1]), reads_postgresql=reads_postgresql) as relay:
            yield relay
    finally:
        server.close()
        if serving:
            await asyncio.wait(serving, timeout=5)


@asynccontextmanager
async def connection(relay: Relay) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def passes(relay: Relay, word: bytes) -> bool:
    async with connection(relay) as (reader, writer):
        writer.write(word)
        return await reader.readexactly(len(word)) == word


async def ends(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_what_is_sent_passes_and_comes_back() -> None:
    async with relayed(echo) as relay:
        assert await passes(relay, b"hello")


async def test_a_cut_ends_what_there_is_and_a_new_connection_passes() -> None:
    async with relayed(echo) as relay:
        async with connection(relay) as (reader, writer):
            writer.write(b"hello")
            await reader.readexactly(5)
            relay.cut()
            assert await ends(reader)
        assert await passes(relay, b"again")


async def test_who_is_refused_is_let_in_afterwards() -> None:
    async with relayed(echo) as relay:
        async with relay.refusing(), connection(relay) as (reader, _):
            assert await ends(reader)
        assert await passes(relay, b"again")


async def test_in_silence_nothing_passes_and_nothing_is_lost() -> None:
    async with relayed(echo) as relay, connection(relay) as (reader, writer):
        async with relay.silent():
            writer.write(b"hello")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(5), 0.2)
        assert await reader.readexactly(5) == b"hello"


async def test_answers_are_held_back_and_keep_their_order() -> None:
    loop = asyncio.get_running_loop()
    async with relayed(echo) as relay, connection(relay) as (reader, writer):
        relay.delay_s = 0.2
        began_at = loop.time()
        for part in (b"one", b"two", b"six"):
            writer.write(part)
            await writer.drain()
        assert await reader.readexactly(9) == b"onetwosix"
        assert loop.time() - began_at >= 0.2


async def test_a_connection_is_lost_in_the_middle_of_a_copy_and_neither_side_is_told() -> None:
    heard = bytearray()
    has_ended = asyncio.Event()

    async def database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                heard.extend(data)
                if data.endswith(BEGIN):
                    writer.write(IN_TRANSACTION)
        finally:
            has_ended.set()

    async with relayed(database, reads_postgresql=True) as relay, asyncio.TaskGroup() as tasks:
        losing = tasks.create_task(relay.lose_one(within_s=10))
        async with connection(relay) as (reader, writer):
            writer.write(STARTUP)
            writer.write(BEGIN)
            assert await reader.readexactly(6) == IN_TRANSACTION
            writer.write(ROW)
            link = await losing
            writer.write(ROW)
        assert link is not None
        assert link.application == "x"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(has_ended.wait(), 0.2)
        assert bytes(heard).endswith(BEGIN + ROW[: len(ROW) // 2])
        link.end()
        await has_ended.wait()


async def test_where_nothing_is_under_way_nothing_is_lost() -> None:
    async with relayed(echo, reads_postgresql=True) as relay:
        assert await relay.lose_one(within_s=0.1) is None
