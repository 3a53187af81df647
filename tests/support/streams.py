"""A radio station: a real HTTP server whose streams do what streams do, at the pace of their sound."""

from __future__ import annotations

import array
import asyncio
import io
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import av
from av.audio.frame import AudioFrame

RATE = 48_000
TICK_S = 0.05  # a live encoder sends this much at a time
BURST_S = 1.0  # what it has buffered comes at once, as servers do


def melody(seconds: float, *, amplitude: float = 0.25, seed: int = 1) -> array.array[int]:
    """Sound no stretch of which is like another: a lost, doubled or displaced sample shows."""
    numbers = random.Random(seed)
    phase, samples = 0.0, array.array("h")
    for note in range(math.ceil(seconds * 20)):
        hertz = numbers.uniform(200, 4_000)
        for _ in range(min(RATE // 20, int(seconds * RATE) - note * (RATE // 20))):
            phase += 2 * math.pi * hertz / RATE
            samples.append(int(32_767 * amplitude * math.sin(phase)))
    return samples


def stillness(seconds: float) -> array.array[int]:
    """Digital silence."""
    return array.array("h", bytes(2 * int(seconds * RATE)))


def file_of(samples: array.array[int], codec: str = "flac", form: str | None = None) -> bytes:
    """The samples as a file, mono."""
    file = io.BytesIO()
    with av.open(file, "w", format=form or codec) as container:
        stream: Any = container.add_stream(codec, rate=RATE, layout="mono")
        size = stream.codec_context.frame_size or 1_024
        kind = stream.codec_context.format.name if stream.codec_context.format else "s16"
        resampler = av.AudioResampler(format=kind, layout="mono", rate=RATE, frame_size=size)
        for first in range(0, len(samples), size):
            piece = samples[first : first + size]
            frame = AudioFrame(format="s16", layout="mono", samples=len(piece))
            frame.planes[0].update(piece.tobytes())
            frame.sample_rate, frame.pts = RATE, first
            for resampled in resampler.resample(frame):
                container.mux(stream.encode(resampled))
        for resampled in resampler.resample(None):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return file.getvalue()


def samples_of(content: bytes) -> array.array[float]:
    """What a decoder makes of a file: mono samples from -1 to 1."""
    found = array.array("f")
    with av.open(io.BytesIO(content), "r") as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        for frame in container.decode(audio=0):
            for resampled in resampler.resample(frame):
                found.frombytes(bytes(resampled.planes[0])[: resampled.samples * 4])
    return found


@dataclass
class Programme:
    """What is sent on one path. While `flows` is not set nothing more comes, and nobody hangs up."""

    content: bytes = b""
    seconds: float = 0.0  # of sound in it
    status: str = "HTTP/1.1 200 OK"
    content_type: str = "audio/flac"
    location: str | None = None
    hangs_up: bool = True  # at its end
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: int = 0  # how many there have been

    def __post_init__(self) -> None:
        self.flows.set()


class Station:
    """The server; `programmes` by path may be changed while it runs."""

    def __init__(self) -> None:
        self.programmes: dict[str, Programme] = {}
        self.requests: list[str] = []
        self.port = 0

    def url(self, path: str) -> str:
        """Where a programme is."""
        return f"http://127.0.0.1:{self.port}{path}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readline()).split()[1].decode()
            self.requests.append(path)
            while (await reader.readline()).strip():
                pass
            programme = self.programmes.get(path, Programme(status="HTTP/1.1 404 Not Found", content_type="text/plain"))
            programme.listeners += 1
            await self._send(programme, writer)
        except (ConnectionError, IndexError):
            pass  # the listener has gone
        finally:
            writer.close()

    async def _send(self, programme: Programme, writer: asyncio.StreamWriter) -> None:
        place = f"Location: {programme.location}\r\n" if programme.location else ""
        writer.write(f"{programme.status}\r\nContent-Type: {programme.content_type}\r\n{place}\r\n".encode())
        await writer.drain()
        if not programme.content:
            return
        sent, rate = 0, len(programme.content) / programme.seconds
        due = BURST_S
        while sent < len(programme.content):
            await programme.flows.wait()
            upto = min(len(programme.content), math.ceil(due * rate))
            writer.write(programme.content[sent:upto])
            await writer.drain()
            sent = upto
            due += TICK_S
            await asyncio.sleep(TICK_S)  # the pace of a live source
        if not programme.hangs_up:
            await asyncio.Event().wait()


@asynccontextmanager
async def a_station() -> AsyncIterator[Station]:
    """A station on the air."""
    station = Station()
    tasks: set[asyncio.Task[Any]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await station._answer(reader, writer)
        except asyncio.CancelledError:
            pass  # the station goes off the air
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    station.port = server.sockets[0].getsockname()[1]
    try:
        yield station
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
