"""The relay point with a real station, database and disk: what a device reads of a source that comes, goes and is silent."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas.relays import RelayState
from services.control import relay_store
from services.control.metrics import ControlMetrics
from services.control.planning.model import from_ms
from services.control.relay_files import KEPT_FOR, RelayFiles
from services.control.relay_reader import Options
from services.control.trust.keyring import Keyring
from services.shared.clock import utc_now
from tests.support.control import Province
from tests.support.relays import SETTINGS, Listener, a_relay_point, add_source, want
from tests.support.streams import RATE, Programme, Station, a_station, file_of, melody, samples_of, stillness

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

DEVICE = "cum-loa-1"


@pytest_asyncio.fixture
async def station() -> AsyncIterator[Station]:
    async with a_station() as on_air:
        yield on_air


@pytest_asyncio.fixture
async def commune(province: Province) -> Province:
    await province.unit("xa")
    await province.device(DEVICE, "xa")
    return province


@pytest.fixture
def files(tmp_path: Path) -> RelayFiles:
    return RelayFiles(tmp_path)


def live(samples: Any, **changes: Any) -> Programme:
    content = file_of(samples, "libmp3lame", "mp3")
    return Programme(content=content, seconds=len(samples) / RATE, content_type="audio/mpeg", hangs_up=False, **changes)


async def health(commune: Province, source_id: uuid.UUID) -> dict[str, Any]:
    rows = await commune.rows("SELECT * FROM control.relay_health WHERE source_id = $1", source_id)
    return rows[0] if rows else {}


async def eventually(ask: Callable[[], Awaitable[bool]], *, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not await ask():
            await asyncio.sleep(0.05)


async def test_a_source_becomes_segments_that_follow_each_other(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring
) -> None:
    station.programmes["/vov1"] = live(melody(30))
    source_id = await add_source(commune, station.url("/vov1"))
    await want(commune, source_id, DEVICE)
    listener = Listener(files, source_id, keyring)
    async with a_relay_point(commune.control, files, keyring):
        await listener.until(lambda listed: len(listed.segments) == 8)
        listed = await listener.until(lambda _: len(listener.segments) >= 10)
        await eventually(lambda: _is(commune, source_id, "on_air"))
        known = await health(commune, source_id)

    assert listed.state is RelayState.ON_AIR
    assert (listed.segment_ms, listed.delay_ms) == (500, 2_000)
    assert listed.valid_until_ms - listed.issued_at_ms == 30_000
    heard = [listener.segments[number] for number in sorted(listener.segments)]
    assert len(heard) >= 10
    for earlier, later in itertools.pairwise(heard):
        assert later.sequence == earlier.sequence + 1
        assert later.starts_at_ms == earlier.ends_at_ms
    assert not any(segment.silent for segment in heard)
    # Nothing is listed before its sound is over, and the last is no older than a network makes it.
    newest = listed.segments[-1]
    assert 0 <= listed.issued_at_ms - newest.ends_at_ms < 2_000
    for number in sorted(listener.sound):
        assert len(samples_of(listener.sound[number])) == RATE // 2
    assert known["last_sound_at"] > utc_now() - timedelta(seconds=10)


async def _is(commune: Province, source_id: uuid.UUID, state: str) -> bool:
    return (await health(commune, source_id)).get("state") == state


async def test_silence_is_marked_where_it_lies_and_ends_where_sound_does(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring
) -> None:
    station.programmes["/vov1"] = live(melody(2) + stillness(3) + melody(20, seed=2))
    source_id = await add_source(commune, station.url("/vov1"))
    await want(commune, source_id, DEVICE)
    listener = Listener(files, source_id, keyring)
    async with a_relay_point(commune.control, files, keyring):
        silent = await listener.until(lambda listed: listed.state is RelayState.SILENT)
        await eventually(lambda: _is(commune, source_id, "silent"))
        quiet_since = (await health(commune, source_id))["since"]
        again = await listener.until(
            lambda listed: listed.state is RelayState.ON_AIR and listed.issued_at_ms > silent.issued_at_ms
        )

    heard = [listener.segments[number] for number in sorted(listener.segments)]
    first = heard[0].starts_at_ms
    marked = [segment.starts_at_ms - first for segment in heard if segment.silent]
    # Two seconds of sound; a second of silence may pass; the third second of it is over when sound returns.
    assert marked == list(range(marked[0], marked[-1] + 1, 500))
    assert marked[0] in (2_500, 3_000)
    assert marked[-1] in (4_000, 4_500)
    assert not again.segments[-1].silent
    assert abs(quiet_since - from_ms(first + marked[0] + 500)) <= timedelta(milliseconds=1)


async def test_a_source_that_stalls_is_given_up_and_taken_up_again(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring
) -> None:
    programme = station.programmes["/vov1"] = live(melody(60))
    source_id = await add_source(commune, station.url("/vov1"))
    await want(commune, source_id, DEVICE)
    listener = Listener(files, source_id, keyring)
    metrics = ControlMetrics(registry := CollectorRegistry())
    async with a_relay_point(commune.control, files, keyring, metrics=metrics):
        before = await listener.until(lambda listed: len(listed.segments) >= 2)
        programme.flows.clear()
        lost = await listener.until(lambda listed: listed.state is RelayState.UNREACHABLE)
        await eventually(lambda: _is(commune, source_id, "unreachable"))
        assert (await health(commune, source_id))["detail"] == "stalled"
        assert lost.segments[-1].ends_at_ms >= before.segments[-1].ends_at_ms  # what there was is still there
        await eventually(lambda: _soundless(registry))
        programme.flows.set()
        again = await listener.until(lambda listed: listed.state is RelayState.ON_AIR)
        await eventually(lambda: _is(commune, source_id, "on_air"))
        assert (await health(commune, source_id))["detail"] is None

    assert programme.listeners >= 2
    assert again.segments[-1].sequence > lost.segments[-1].sequence
    assert again.segments[-1].starts_at_ms >= lost.issued_at_ms - 1_000
    assert registry.get_sample_value("control_relay_losses_total", {"trouble": "stalled"})


async def _soundless(registry: CollectorRegistry) -> bool:
    return (registry.get_sample_value("control_relay_soundless_seconds", {"source": "VOV1"}) or 0) > 0


@pytest.mark.parametrize(
    ("programme", "trouble"),
    [
        (Programme(status="HTTP/1.1 302 Found", location="http://169.254.169.254/x"), "forbidden"),
        (Programme(content=b"\x00garbage" * 20_000, seconds=1.0, content_type="audio/mpeg"), "not_sound"),
        (Programme(status="HTTP/1.1 403 Forbidden"), "refused"),
    ],
    ids=["redirects_inside", "garbage", "refuses"],
)
async def test_a_source_that_gives_nothing_says_why(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring, programme: Programme, trouble: str
) -> None:
    station.programmes["/x"] = replace(programme, flows=asyncio.Event())
    source_id = await add_source(commune, station.url("/x"))
    await want(commune, source_id, DEVICE)
    listener = Listener(files, source_id, keyring)
    async with a_relay_point(commune.control, files, keyring):
        await eventually(lambda: _is(commune, source_id, "unreachable"))
        known = await health(commune, source_id)
        listed = await listener.look()
    assert known["detail"] == trouble
    assert listed is not None
    assert (listed.state, listed.segments) == (RelayState.UNREACHABLE, ())


async def test_only_what_is_wanted_is_relayed(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring
) -> None:
    now = utc_now()
    for path in ("/soon", "/later", "/over", "/withdrawn", "/direct", "/retired"):
        station.programmes[path] = live(melody(5))
    wanted: dict[str, dict[str, Any]] = {
        "/soon": {"starts_at": now + timedelta(seconds=50)},
        "/later": {"starts_at": now + timedelta(minutes=5)},
        "/over": {"starts_at": now - timedelta(minutes=5), "ends_at": now - timedelta(seconds=1)},
        "/withdrawn": {"withdrawn_at": now},
        "/direct": {},
        "/retired": {},
    }
    sources = {}
    for path, columns in wanted.items():
        own: dict[str, Any] = {"is_direct": path == "/direct", "retired_at": now if path == "/retired" else None}
        sources[path] = await add_source(commune, station.url(path), **own)
        latest = {"latest_start_at": now + timedelta(minutes=10)}
        await want(commune, sources[path], DEVICE, **latest | columns)
    async with a_relay_point(commune.control, files, keyring):
        await eventually(lambda: _is(commune, sources["/soon"], "on_air"))
    assert set(station.requests) == {"/soon"}


async def test_a_relay_ends_with_its_emission_and_leaves_nothing(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring, tmp_path: Path
) -> None:
    station.programmes["/vov1"] = live(melody(30))
    source_id = await add_source(commune, station.url("/vov1"))
    await want(commune, source_id, DEVICE)
    listener = Listener(files, source_id, keyring)
    async with a_relay_point(commune.control, files, keyring):
        await listener.until(lambda listed: bool(listed.segments))
        await commune.execute("UPDATE control.emissions SET stopped_at = now() WHERE relay_source_id = $1", source_id)
        await eventually(lambda: _is(commune, source_id, "idle"))
        assert (await health(commune, source_id))["leased_by"] is None
        assert await listener.look() is None
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def readers(url: str) -> list[int]:
    """Processes that read this address."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes() if folder.name.isdecimal() else b""
        except OSError:
            continue  # it has just ended
        if b"services.control.relay_reader" in command.split(b"\0") and url.encode() in command:
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("is_stalled", [False, True], ids=["on_air", "stalled"])
async def test_a_stop_is_prompt_and_leaves_no_reader_behind(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring, is_stalled: bool
) -> None:
    station.programmes["/vov1"] = live(melody(30))
    source_id = await add_source(commune, station.url("/vov1"))
    await want(commune, source_id, DEVICE)
    listener = Listener(files, source_id, keyring)
    patient = SETTINGS.model_copy(update={"stall_after": timedelta(minutes=1)})
    async with a_relay_point(commune.control, files, keyring, settings=patient):
        await listener.until(lambda listed: bool(listed.segments))
        if is_stalled:
            station.programmes["/vov1"].flows.clear()
        assert len(readers(station.url("/vov1"))) == 1
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert readers(station.url("/vov1")) == []
    assert (await health(commune, source_id))["leased_by"] is None
    assert await listener.look() is not None  # devices go on with what there is while another replica takes over


async def test_a_reader_whose_relay_point_was_killed_ends_by_itself(station: Station) -> None:
    station.programmes["/vov1"] = live(melody(30))
    options = Options(
        url=station.url("/vov1"), hosts=(), networks=("127.0.0.0/8",), segment_ms=500, timeout_s=1.0, memory_mib=512
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'services.control.relay_reader', sys.argv[1]], stdout=subprocess.PIPE)\n"
        "time.sleep(60)",
        json.dumps(asdict(options)),
    )

    async def is_reading() -> bool:
        return len(readers(station.url("/vov1"))) == 1

    async def is_gone() -> bool:
        return not readers(station.url("/vov1"))

    try:
        await eventually(is_reading)
    finally:
        parent.kill()
        await parent.wait()
    await eventually(is_gone)


async def test_a_changed_source_is_connected_to_anew(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring
) -> None:
    for path in ("/old", "/new"):
        station.programmes[path] = live(melody(30))
    source_id = await add_source(commune, station.url("/old"))
    await want(commune, source_id, DEVICE)
    listener = Listener(files, source_id, keyring)
    async with a_relay_point(commune.control, files, keyring):
        await listener.until(lambda listed: bool(listed.segments))
        await commune.execute(
            "UPDATE control.relay_sources SET url = $2, version = version + 1 WHERE source_id = $1",
            source_id,
            station.url("/new"),
        )
        seen = len(listener.segments)
        await listener.until(lambda _: "/new" in station.requests and len(listener.segments) > seen + 1)


async def test_replicas_share_sources_and_take_over(
    commune: Province, station: Station, files: RelayFiles, keyring: Keyring
) -> None:
    sources = []
    for path in ("/a", "/b"):
        station.programmes[path] = live(melody(60))
        sources.append(await add_source(commune, station.url(path), name=path))
        await want(commune, sources[-1], DEVICE)
    alone = SETTINGS.model_copy(update={"at_once": 1})
    listeners = [Listener(files, source_id, keyring) for source_id in sources]

    async with a_relay_point(commune.control, files, keyring, settings=alone):
        async with a_relay_point(commune.control, files, keyring, settings=alone):
            for listener in listeners:
                await listener.until(lambda listed: len(listed.segments) >= 2)
            holders = {(await health(commune, source_id))["leased_by"] for source_id in sources}
            assert len(holders) == 2
            assert len(station.requests) == 2
        # One leaves: its source is nobody's, and the other is full.
        left = [each for each in sources if (await health(commune, each))["leased_by"] is None]
        assert len(left) == 1
        mine = listeners[sources.index(left[0])]
        before = max(mine.segments)
        async with a_relay_point(commune.control, files, keyring):
            await mine.until(lambda listed: bool(listed.segments) and listed.segments[-1].sequence > before)
    assert {(await health(commune, source_id))["leased_by"] for source_id in sources} == {None}


async def test_a_lease_is_one_replicas_until_it_runs_out(commune: Province) -> None:
    source_id = await add_source(commune, "http://127.0.0.1:1/x")
    now = utc_now()

    async def take(holder: str, at: datetime) -> bool:
        async with commune.control.connection() as connection:
            until = at + timedelta(seconds=15)
            return await relay_store.lease(connection, source_id, holder=holder, until=until, now=at)

    assert await take("a", now)
    assert not await take("b", now + timedelta(seconds=14))
    assert await take("a", now + timedelta(seconds=10))
    assert not await take("b", now + timedelta(seconds=24))
    assert await take("b", now + timedelta(seconds=25))
    async with commune.control.connection() as connection:
        await relay_store.release(connection, [source_id], holder="a", at=now)
    assert not await take("a", now + timedelta(seconds=26))


async def test_old_segments_are_swept_whoever_wrote_them(files: RelayFiles, tmp_path: Path) -> None:
    source_id = uuid.uuid4()
    old, new = await files.add_segment(source_id, b"old"), await files.add_segment(source_id, b"new")
    await files.put_list(source_id, b"list")
    now = utc_now()
    past = (now - KEPT_FOR - timedelta(seconds=1)).timestamp()
    os.utime(tmp_path / "relays" / str(source_id) / old.hex(), (past, past))
    await files.sweep(now=now)
    assert await files.read_segment(source_id, old) is None
    assert await files.read_segment(source_id, new) == b"new"
    assert await files.read_list(source_id, not_before=now - timedelta(seconds=30)) == b"list"
    assert await files.read_list(source_id, not_before=now + timedelta(seconds=30)) is None


async def test_a_full_disk_is_said_and_ends_nothing(
    commune: Province, station: Station, keyring: Keyring, tmp_path: Path
) -> None:
    station.programmes["/vov1"] = live(melody(60))
    source_id = await add_source(commune, station.url("/vov1"))
    await want(commune, source_id, DEVICE)
    blocked = tmp_path / "relays"
    blocked.write_bytes(b"")  # nothing can be written below a file, whoever one is
    files = RelayFiles(tmp_path)
    async with a_relay_point(commune.control, files, keyring):
        await eventually(lambda: _has_trouble(commune, source_id, "not_stored"))
        blocked.unlink()
        await Listener(files, source_id, keyring).until(lambda listed: listed.state is RelayState.ON_AIR)


async def _has_trouble(commune: Province, source_id: uuid.UUID, trouble: str) -> bool:
    return (await health(commune, source_id)).get("detail") == trouble
