"""Downloads from a real HTTP server that behaves, and from one that does not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_sim import downloader
from firmware_sim.downloader import Answer, Downloader, Wanted
from firmware_sim.errors import DownloadFailed, NotServed, WrongHash

pytestmark = pytest.mark.integration

CONTENT = bytes(range(256)) * 1_000
SHA256 = hashlib.sha256(CONTENT).digest()


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these raw answers, one per connection, and closes; yields its URL and what it was asked."""
    asked: list[bytes] = []
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(left.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/media/x?v=1", asked


def ok(body: bytes = CONTENT, *, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


def partial(begin: int) -> bytes:
    return ok(
        CONTENT[begin:],
        status="206 Partial Content",
        headers=f"Content-Range: bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}\r\n",
    )


def wanted(url: str, folder: Path, name: str = "file") -> Wanted:
    folder.mkdir(exist_ok=True)
    return Wanted(url=url, sha256=SHA256, size=len(CONTENT), part=folder / f"{name}.part", file=folder / name)


async def test_whole_file(tmp_path: Path) -> None:
    async with serving(ok()) as (url, asked):
        it = wanted(url, tmp_path)
        await Downloader(at_once=1, headers={"Authorization": "Device x"}).fetch(it)
    assert it.file.read_bytes() == CONTENT
    assert not it.part.exists()
    assert asked[0].startswith(b"GET /media/x?v=1 HTTP/1.1\r\n")
    assert b"Authorization: Device x\r\n" in asked[0]
    assert b"Range" not in asked[0]


async def test_chunked(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x;note=1\r\n%s\r\n" % (len(c), c) for c in (CONTENT[:1_000], CONTENT[1_000:])) + b"0\r\n\r\n"
    async with serving(head + chunks) as (url, _):
        it = wanted(url, tmp_path)
        await Downloader(at_once=1).fetch(it)
    assert it.file.read_bytes() == CONTENT


async def test_resumes_where_it_broke_off(tmp_path: Path) -> None:
    async with serving(ok(CONTENT[:100_000], length=len(CONTENT)), partial(100_000)) as (url, asked):
        it = wanted(url, tmp_path)
        with pytest.raises(DownloadFailed, match="ended after 100000"):
            await Downloader(at_once=1).fetch(it)
        assert it.part.stat().st_size == 100_000
        await Downloader(at_once=1).fetch(it)  # a new process: the hash over the first part is made again
    assert it.file.read_bytes() == CONTENT
    assert b"Range: bytes=100000-\r\n" in asked[1]


async def test_server_without_ranges_starts_over(tmp_path: Path) -> None:
    async with serving(ok(CONTENT[:100_000], length=len(CONTENT)), ok()) as (url, _):
        it = wanted(url, tmp_path)
        with pytest.raises(DownloadFailed):
            await Downloader(at_once=1).fetch(it)
        await Downloader(at_once=1).fetch(it)
    assert it.file.read_bytes() == CONTENT


async def test_file_that_came_in_whole_before_the_power_cut_is_not_asked_for_again(tmp_path: Path) -> None:
    async with serving() as (url, asked):
        it = wanted(url, tmp_path)
        it.part.write_bytes(CONTENT)
        await Downloader(at_once=1).fetch(it)
    assert it.file.read_bytes() == CONTENT
    assert asked == []


@pytest.mark.parametrize(
    "part",
    [pytest.param(b"\0" * len(CONTENT), id="garbage"), pytest.param(CONTENT + b"x", id="longer_than_the_file")],
)
async def test_part_that_cannot_be_the_file_is_thrown_away(tmp_path: Path, part: bytes) -> None:
    async with serving(ok()) as (url, _):
        it = wanted(url, tmp_path)
        it.part.write_bytes(part)
        try:
            await Downloader(at_once=1).fetch(it)
        except WrongHash:
            await Downloader(at_once=1).fetch(it)
    assert it.file.read_bytes() == CONTENT


async def test_wrong_hash_leaves_nothing(tmp_path: Path) -> None:
    async with serving(ok(CONTENT[:-1] + b"x")) as (url, _):
        it = wanted(url, tmp_path)
        with pytest.raises(WrongHash):
            await Downloader(at_once=1).fetch(it)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ok(b"", status="404 Not Found"), id="not_found"),
        pytest.param(ok(b"", status="503 Service Unavailable"), id="unavailable"),
        pytest.param(
            ok(b"", status="302 Found", headers="Location: http://elsewhere/\r\n"), id="redirects_are_not_followed"
        ),
        pytest.param(b"220 smtp ready\r\n\r\n", id="not_http"),
        pytest.param(b"", id="hangs_up"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000, id="endless_header"),
        pytest.param(ok(CONTENT + b"more"), id="longer_than_signed"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + CONTENT + b"more", id="longer_than_signed_without_length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", id="chunk_of_a_tebibyte"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="malformed_chunk"),
        pytest.param(ok(CONTENT[:-1]), id="shorter_than_signed"),
    ],
)
async def test_bad_server_is_a_failure_to_try_again(tmp_path: Path, answer: bytes) -> None:
    async with serving(answer) as (url, _):
        it = wanted(url, tmp_path)
        with pytest.raises(DownloadFailed):
            await Downloader(at_once=1).fetch(it)
    assert not it.file.exists()
    assert not it.part.exists() or it.part.stat().st_size <= len(CONTENT)


@pytest.mark.parametrize("status", ["206 Partial Content", "416 Range Not Satisfiable"])
async def test_answer_that_does_not_fit_the_part_starts_over_next_time(tmp_path: Path, status: str) -> None:
    odd = ok(CONTENT[7:], status=status, headers="Content-Range: bytes 7-255999/256000\r\n")
    async with serving(odd, ok()) as (url, asked):
        it = wanted(url, tmp_path)
        it.part.write_bytes(CONTENT[:5])
        with pytest.raises(DownloadFailed):
            await Downloader(at_once=1).fetch(it)
        await Downloader(at_once=1).fetch(it)
    assert b"Range" not in asked[1]
    assert it.file.read_bytes() == CONTENT


async def test_silent_server_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloader, "TIMEOUT_S", 0.05)
    stop = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DownloadFailed, match="TimeoutError"):
            await Downloader(at_once=1).fetch(wanted(f"http://127.0.0.1:{port}/x", tmp_path))
        stop.set()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        await Downloader(at_once=1).fetch(wanted("http://127.0.0.1:1/x", tmp_path))
    with pytest.raises(DownloadFailed, match="not an http address"):
        await Downloader(at_once=1).fetch(wanted("ftp://127.0.0.1/x", tmp_path))


async def test_every_device_downloads_its_own_and_shares_the_disk(tmp_path: Path) -> None:
    async with serving(ok(), ok()) as (url, asked):
        fetcher = Downloader(at_once=2, pool=tmp_path / "pool")
        first, second = wanted(url, tmp_path / "a"), wanted(url, tmp_path / "b")
        await fetcher.fetch(first)
        await fetcher.fetch(second)
    assert len(asked) == 2
    assert first.file.samefile(second.file)
    assert not second.part.exists()


async def test_bounded_number_at_once(tmp_path: Path) -> None:
    under_way = most = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.01)
        under_way -= 1
        writer.write(ok())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        it = wanted(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x", tmp_path)
        fetcher = Downloader(at_once=3)
        await asyncio.gather(
            *(fetcher.fetch(replace(it, part=tmp_path / f"{n}.part", file=tmp_path / str(n))) for n in range(12))
        )
    assert most == 3


class TestAsk:
    """Small answers, which are held in memory and never resumed."""

    async def test_whole_body_and_its_tag(self) -> None:
        async with serving(ok(b"list", headers='ETag: "7"\r\n')) as (url, asked):
            answer = await Downloader(at_once=1).ask(url, limit=4)
        assert answer == Answer(content=b"list", etag='"7"')
        assert b"If-None-Match" not in asked[0]

    async def test_what_has_not_changed_is_not_sent_again(self) -> None:
        async with serving(ok(b"", status="304 Not Modified")) as (url, asked):
            assert await Downloader(at_once=1).ask(url, limit=4, etag='"7"') is None
        assert b'If-None-Match: "7"\r\n' in asked[0]

    @pytest.mark.parametrize("status", ["404 Not Found", "429 Too Many Requests", "503 Busy", "304 Not Modified"])
    async def test_server_that_says_no_is_there(self, status: str) -> None:
        async with serving(ok(b"", status=status)) as (url, _):
            with pytest.raises(NotServed, match=f"HTTP {status[:3]}"):
                await Downloader(at_once=1).ask(url, limit=4)

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(ok(b"listed"), id="longer_than_allowed"),
            pytest.param(ok(b"li", length=4), id="cut_short"),
            pytest.param(b"220 mail ready\r\n\r\n", id="not_http"),
            pytest.param(b"", id="nothing"),
        ],
    )
    async def test_answer_that_is_none(self, answer: bytes) -> None:
        async with serving(answer) as (url, _):
            with pytest.raises(DownloadFailed) as caught:
                await Downloader(at_once=1).ask(url, limit=4)
        assert not isinstance(caught.value, NotServed)
