"""Figures of a play rest on what the media library has decoded of real files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from firmware_sim.player import Medium, Part, Player
from firmware_sim.programme import Figures
from tests.integration.firmware.centre import make_sound
from tests.support.sounds import video

pytestmark = pytest.mark.integration

RATE = 24_000


class Audience:
    """A stage that remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[tuple[int, Figures, str | None]] = []
        self.changed = asyncio.Event()

    def started(self, token: int) -> None:
        self.begun.append(token)
        self.changed.set()

    def finished(self, token: int, figures: Figures) -> None:
        self.ended.append((token, figures, None))
        self.changed.set()

    def broke(self, token: int, figures: Figures, detail: str) -> None:
        self.ended.append((token, figures, detail))
        self.changed.set()

    async def until(self, *, begun: int = 0, ended: int = 0) -> None:
        async with asyncio.timeout(10):
            while len(self.begun) < begun or len(self.ended) < ended:
                self.changed.clear()
                await self.changed.wait()


@pytest_asyncio.fixture
async def player() -> AsyncIterator[Player]:
    made = Player()
    yield made
    made.close()


def a_part(
    file: Path, *, token: int = 1, position_ms: int = 0, medium: Medium = Medium.SOUND, speed: float = 1.0
) -> Part:
    sha256 = hashlib.sha256(file.read_bytes()).digest()
    return Part(token=token, medium=medium, sha256=sha256, file=str(file), position_ms=position_ms, speed=speed)


async def test_file_is_decoded_to_its_last_sample_and_ends_by_itself(player: Player, tmp_path: Path) -> None:
    samples = make_sound(tmp_path / "a.mp3", seconds=0.5)
    audience = Audience()
    loop = asyncio.get_running_loop()
    began = loop.time()
    player.start("loa-1", a_part(tmp_path / "a.mp3"), audience)
    await audience.until(ended=1)
    assert audience.begun == [1]
    assert audience.ended == [
        (1, Figures(sounded_ms=samples * 1_000 // RATE, samples=samples, sample_rate_hz=RATE), None)
    ]
    assert loop.time() - began >= samples / RATE
    assert (player.files_decoded, player.samples_decoded, player.sounding) == (1, samples, 0)


async def test_stopped_part_claims_what_it_sounded(player: Player, tmp_path: Path) -> None:
    make_sound(tmp_path / "a.mp3", seconds=5)
    audience = Audience()
    loop = asyncio.get_running_loop()
    player.start("loa-1", a_part(tmp_path / "a.mp3"), audience)
    await audience.until(begun=1)
    began = loop.time()
    await asyncio.sleep(0.2)
    figures = player.stop("loa-1", 1)
    elapsed_ms = (loop.time() - began) * 1_000
    assert figures.samples is not None
    assert figures.sounded_ms == figures.samples * 1_000 // RATE
    assert abs(figures.sounded_ms - elapsed_ms) < 60
    assert player.stop("loa-1", 1) == Figures(sounded_ms=0)  # asked twice


async def test_never_claims_more_than_was_decoded(player: Player, tmp_path: Path) -> None:
    """The clock runs a thousand times too fast: the claim ends with the file all the same."""
    samples = make_sound(tmp_path / "a.mp3", seconds=1)
    audience = Audience()
    player.start("loa-1", a_part(tmp_path / "a.mp3", speed=1_000.0), audience)
    await audience.until(ended=1)
    ((_, figures, _),) = audience.ended
    assert figures.samples == samples


async def test_joins_in_progress(player: Player, tmp_path: Path) -> None:
    samples = make_sound(tmp_path / "a.mp3", seconds=1)
    audience = Audience()
    player.start("loa-1", a_part(tmp_path / "a.mp3", position_ms=600), audience)
    await audience.until(ended=1)
    ((_, figures, _),) = audience.ended
    assert figures.samples == samples - 600 * RATE // 1_000


async def test_position_behind_the_end_sounds_nothing(player: Player, tmp_path: Path) -> None:
    make_sound(tmp_path / "a.mp3", seconds=0.5)
    audience = Audience()
    player.start("loa-1", a_part(tmp_path / "a.mp3", position_ms=60_000), audience)
    await audience.until(ended=1)
    assert audience.begun == []
    assert audience.ended == [(1, Figures(sounded_ms=0), None)]


async def test_a_fleet_decodes_a_file_once_and_each_device_counts_for_itself(player: Player, tmp_path: Path) -> None:
    samples = make_sound(tmp_path / "a.mp3", seconds=0.5)
    audience = Audience()
    for number in range(100):
        player.start(f"loa-{number}", a_part(tmp_path / "a.mp3"), audience)
    await audience.until(ended=100)
    assert player.files_decoded == 1
    assert {figures.samples for _, figures, _ in audience.ended} == {samples}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\0" * 5_000, id="zeros"),
        pytest.param(b"not a sound at all", id="text"),
        pytest.param(b"", id="empty"),
    ],
)
async def test_what_cannot_be_decoded_never_begins(player: Player, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    audience = Audience()
    player.start("loa-1", a_part(tmp_path / "a.mp3"), audience)
    await audience.until(ended=1)
    assert audience.begun == []
    ((_, figures, detail),) = audience.ended
    assert figures == Figures(sounded_ms=0)
    assert detail


async def test_file_that_came_in_unreadable_is_told_of_before_anybody_plays_it(player: Player, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"not a sound at all")
    make_sound(tmp_path / "good.mp3", seconds=0.5)
    told: asyncio.Queue[str] = asyncio.Queue()
    bad, good = a_part(tmp_path / "bad.mp3"), a_part(tmp_path / "good.mp3")
    for part in (good, bad):
        assert part.sha256 is not None
        assert part.file is not None
        player.prepare(part.sha256, part.file, Medium.SOUND, unreadable=told.put_nowait)
    assert await asyncio.wait_for(told.get(), 10)
    assert bad.sha256 is not None
    assert bad.file is not None
    player.prepare(bad.sha256, bad.file, Medium.SOUND, unreadable=told.put_nowait)  # by the next device
    assert told.get_nowait()
    assert told.empty()


async def test_file_that_is_gone_never_begins(player: Player, tmp_path: Path) -> None:
    make_sound(tmp_path / "a.mp3", seconds=0.5)
    part = a_part(tmp_path / "a.mp3")
    (tmp_path / "a.mp3").unlink()
    audience = Audience()
    player.start("loa-1", part, audience)
    assert [detail for _, _, detail in audience.ended] == ["the file is gone"]


async def test_video_is_decoded_to_its_last_frame_and_rests_on_no_samples(player: Player, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video())  # five frames, a fifth of a second each
    audience = Audience()
    loop = asyncio.get_running_loop()
    began = loop.time()
    player.start("bang-1", a_part(tmp_path / "a.mp4", medium=Medium.VIDEO), audience)
    await audience.until(ended=1)
    assert audience.ended == [(1, Figures(sounded_ms=1_000), None)]
    assert loop.time() - began >= 1.0


async def test_video_joins_in_progress_and_stops_when_told(player: Player, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video())
    audience = Audience()
    player.start("bang-1", a_part(tmp_path / "a.mp4", medium=Medium.VIDEO, position_ms=700), audience)
    await audience.until(ended=1)
    assert audience.ended == [(1, Figures(sounded_ms=300), None)]
    player.start("bang-1", a_part(tmp_path / "a.mp4", medium=Medium.VIDEO, token=2, speed=0.001), audience)
    await audience.until(begun=2)
    assert player.stop("bang-1", 2).sounded_ms < 100


async def test_sound_is_no_video(player: Player, tmp_path: Path) -> None:
    make_sound(tmp_path / "a.mp3", seconds=0.5)
    audience = Audience()
    player.start("bang-1", a_part(tmp_path / "a.mp3", medium=Medium.VIDEO), audience)
    await audience.until(ended=1)
    assert audience.ended[0][2] == "NotPlayable: no picture in it"


async def test_sound_is_no_image(player: Player, tmp_path: Path) -> None:
    make_sound(tmp_path / "a.mp3", seconds=0.5)
    audience = Audience()
    player.start("bang-1", a_part(tmp_path / "a.mp3", medium=Medium.IMAGE), audience)
    await audience.until(ended=1)
    assert audience.begun == []
    assert audience.ended[0][2] == "NotPlayable: no picture in it"
