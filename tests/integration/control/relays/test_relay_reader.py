"""The process that reads a live source, against a real station: what it hands out is what was sent, and where it connects."""

from __future__ import annotations

import array
import asyncio
import itertools
import json
import math
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest
import pytest_asyncio

from services.control.planning.model import to_ms
from services.control.relay_reader import Options
from services.shared.clock import utc_now
from tests.support.streams import RATE, Programme, Station, a_station, file_of, melody, samples_of, stillness

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

SEGMENT_MS = 500
SECONDS = 4
LOCAL = ("127.0.0.0/8",)


@pytest_asyncio.fixture
async def station() -> AsyncIterator[Station]:
    async with a_station() as on_air:
        yield on_air


async def read(url: str, **changes: Any) -> tuple[list[tuple[dict[str, Any], bytes]], dict[str, Any], int]:
    """Every segment, the last word and the exit status of a reader."""
    values: dict[str, Any] = {
        "url": url,
        "hosts": (),
        "networks": LOCAL,
        "segment_ms": SEGMENT_MS,
        "timeout_s": 1.0,
        "memory_mib": 512,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.control.relay_reader",
        json.dumps(asdict(Options(**{**values, **changes}))),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    segments, last = [], {}
    try:
        while head := await process.stdout.read(4):
            message = json.loads(await process.stdout.readexactly(int.from_bytes(head, "big")))
            if "trouble" in message:
                last = message
            else:
                segments.append((message, await process.stdout.readexactly(message["size"])))
    finally:
        if process.returncode is None and not last:
            process.kill()
        status = await process.wait()
    return segments, last, status


def programme_of(samples: array.array[int], codec: str = "flac", form: str | None = None, **changes: Any) -> Programme:
    return Programme(content=file_of(samples, codec, form), seconds=len(samples) / RATE, **changes)


def signal_to_noise_db(sent: array.array[int], heard: array.array[float], first: int, count: int) -> float:
    """How far what was heard in these samples is like what was sent in the same place."""
    signal = sum((sent[i] / 32_768) ** 2 for i in range(first, first + count))
    noise = sum((sent[i] / 32_768 - heard[i]) ** 2 for i in range(first, first + count))
    return 10 * math.log10(signal / noise)


async def test_no_sample_is_lost_or_doubled_at_a_seam(station: Station) -> None:
    sent = melody(SECONDS)
    station.programmes["/live"] = programme_of(sent)
    started_ms = to_ms(utc_now())
    segments, last, status = await read(station.url("/live"))

    assert (last["trouble"], status) == ("ended", 0)
    cuts = [cut for cut, _ in segments]
    assert len(cuts) == SECONDS * 1000 // SEGMENT_MS
    # One behind the other in time, not ahead of it.
    for earlier, later in itertools.pairwise(cuts):
        assert later["starts_at_ms"] == earlier["starts_at_ms"] + SEGMENT_MS
    assert cuts[0]["starts_at_ms"] >= started_ms - SEGMENT_MS
    assert cuts[-1]["starts_at_ms"] + SEGMENT_MS <= to_ms(utc_now())
    # And in samples: each is exactly as long as it says.
    decoded = [samples_of(content) for _, content in segments]
    assert {len(each) for each in decoded} == {RATE * SEGMENT_MS // 1000}
    heard = array.array("f", (sample for each in decoded for sample in each))
    # One sample too many or too few would leave nothing alike behind it: below 10 dB by far.
    step = RATE * SEGMENT_MS // 1000
    for seam in range(step, len(heard), step):
        assert signal_to_noise_db(sent, heard, seam - 480, 480) > 20
        assert signal_to_noise_db(sent, heard, seam, 480) > 14
        assert signal_to_noise_db(sent, heard, seam + 480, 480) > 20
    displaced = array.array("f", [*heard[1:], 0.0])
    assert signal_to_noise_db(sent, displaced, step, RATE) < 14


@pytest.mark.parametrize(
    ("codec", "form", "content_type"),
    [
        ("libmp3lame", "mp3", "audio/mpeg"),
        ("aac", "adts", "audio/aacp"),
        ("libopus", "ogg", "application/ogg"),
        ("flac", "flac", ""),
        ("libmp3lame", "mp3", "application/octet-stream"),
    ],
)
async def test_streams_are_read_in_the_forms_there_are(
    station: Station, codec: str, form: str, content_type: str
) -> None:
    programme = programme_of(melody(SECONDS), codec, form, content_type=content_type)
    station.programmes["/live"] = programme
    segments, last, _ = await read(station.url("/live"))

    assert last["trouble"] == "ended"
    assert len(segments) >= SECONDS * 1000 // SEGMENT_MS - 1
    assert all(abs(level - -15.05) < 1.5 for level in segments[2][0]["levels_dbfs"])


@pytest.mark.parametrize(("amplitude", "level"), [(1.0, -3.0), (0.1, -23.0), (0.01, -43.0)])
async def test_levels_are_those_of_the_sound(station: Station, amplitude: float, level: float) -> None:
    station.programmes["/live"] = programme_of(melody(1.0, amplitude=amplitude))
    segments, _, _ = await read(station.url("/live"))

    levels = [each for cut, _ in segments for each in cut["levels_dbfs"]]
    assert len(levels) == 10
    assert all(abs(each - level) < 0.3 for each in levels)


async def test_silence_has_the_lowest_level(station: Station) -> None:
    station.programmes["/live"] = programme_of(stillness(1.0))
    segments, _, _ = await read(station.url("/live"))
    assert [cut["levels_dbfs"] for cut, _ in segments] == [[-120.0] * 5] * 2


async def test_an_old_icecast_is_understood(station: Station) -> None:
    station.programmes["/live"] = programme_of(melody(1.0), status="ICY 200 OK")
    segments, last, _ = await read(station.url("/live"))
    assert (len(segments), last["trouble"]) == (2, "ended")


async def test_a_source_that_falls_silent_on_the_line_is_left(station: Station) -> None:
    programme = programme_of(melody(2.0), "libmp3lame", "mp3", content_type="audio/mpeg", hangs_up=False)
    station.programmes["/live"] = programme
    segments, last, _ = await read(station.url("/live"))
    assert last["trouble"] == "stalled"
    assert len(segments) >= 2  # a decoder keeps the last frames back until it sees what follows


@pytest.mark.parametrize("content_type", ["", "audio/mpeg", "audio/flac", "application/ogg", "video/mp2t"])
async def test_garbage_is_no_sound(station: Station, content_type: str) -> None:
    content = random.Random(7).randbytes(400_000)
    station.programmes["/live"] = Programme(content=content, seconds=1.0, content_type=content_type)
    segments, last, status = await read(station.url("/live"))
    assert last["trouble"] in {"not_sound", "damaged", "ended"}, last
    assert status == 0
    assert len(segments) <= 2  # random bytes may hold what passes for a frame


async def test_endless_noise_is_left_soon(station: Station) -> None:
    noise = bytes(range(1, 128)) * 40_000
    station.programmes["/live"] = Programme(content=noise, seconds=1.0, content_type="audio/mpeg", hangs_up=False)
    segments, last, _ = await read(station.url("/live"))
    assert (segments, last["trouble"]) == ([], "not_sound")


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/secret\n#EXT-X-ENDLIST\n"
SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (PLAYLIST, "application/vnd.apple.mpegurl"),
        (PLAYLIST, "audio/mpeg"),
        (b"ffconcat version 1.0\nfile http://127.0.0.1:{port}/secret\n", "text/plain"),
        (SDP, "application/sdp"),
    ],
)
async def test_a_stream_leads_nowhere_else(station: Station, content: bytes, content_type: str) -> None:
    station.programmes["/live"] = Programme(
        content=content.replace(b"{port}", str(station.port).encode()), seconds=0.5, content_type=content_type
    )
    station.programmes["/secret"] = programme_of(melody(1.0))
    segments, last, _ = await read(station.url("/live"))
    assert segments == []
    assert last["trouble"] == "not_sound"
    assert station.requests == ["/live"]


# --- where it connects -------------------------------------------------------------------------------------------------


async def test_a_redirect_is_followed(station: Station) -> None:
    station.programmes["/live"] = Programme(status="HTTP/1.1 302 Found", location="/other")
    station.programmes["/other"] = programme_of(melody(1.0))
    segments, _, _ = await read(station.url("/live"))
    assert len(segments) == 2


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::1]:{port}/secret",
        "http://[::ffff:10.0.0.1]/",
        "file:///etc/passwd",
        "http://me:secret@127.0.0.1:{port}/secret",
    ],
)
async def test_a_redirect_does_not_lead_inside(station: Station, location: str) -> None:
    target = location.replace("{port}", str(station.port))
    station.programmes["/live"] = Programme(status="HTTP/1.1 302 Found", location=target)
    segments, last, _ = await read(station.url("/live"))
    assert (segments, last["trouble"]) == ([], "forbidden")
    assert station.requests == ["/live"]


async def test_nothing_inside_is_connected_to_unless_it_was_allowed(station: Station) -> None:
    station.programmes["/live"] = programme_of(melody(1.0))
    for url in (station.url("/live"), f"http://localhost:{station.port}/live"):
        _, last, _ = await read(url, networks=())
        assert (last["trouble"], last["detail"]) == ("forbidden", "relay_address_not_allowed")
    _, last, _ = await read(station.url("/live"), hosts=(".vov.vn",))
    assert (last["trouble"], last["detail"]) == ("forbidden", "relay_host_not_allowed")
    assert station.requests == []


async def test_redirects_in_a_circle_end(station: Station) -> None:
    station.programmes["/live"] = Programme(status="HTTP/1.1 302 Found", location="/live")
    _, last, _ = await read(station.url("/live"))
    assert last["trouble"] == "refused"
    assert len(station.requests) == 6


async def test_what_is_not_there_is_said(station: Station) -> None:
    _, last, _ = await read(station.url("/nothing"))
    assert (last["trouble"], last["detail"]) == ("refused", "status 404")
    station.programmes["/page"] = Programme(content=b"<html>" * 100, seconds=0.1, content_type="text/html")
    _, last, _ = await read(station.url("/page"))
    assert last["trouble"] == "not_sound"
    port = station.port
    _, last, _ = await read(f"http://127.0.0.1:{port - 1 if port > 1024 else 1}/x")
    assert last["trouble"] in {"no_answer", "refused"}
    _, last, _ = await read("http://no-such-host.invalid/x")
    assert last["trouble"] == "no_answer"


async def test_a_server_that_never_answers_is_left(station: Station) -> None:
    never = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        _, last, _ = await read(f"http://127.0.0.1:{port}/live")
        never.set()
    assert last["trouble"] == "no_answer"
