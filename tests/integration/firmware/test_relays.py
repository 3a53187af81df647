"""Relays, from the plan on the wire to samples out of the decoder: over a real broker, real HTTP and real sound."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schemas.events import (
    Booted,
    MediaStored,
    MessageKind,
    MissReason,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
    RefusalReason,
    Refused,
)
from schemas.orders import MediaReference
from schemas.plans import Emission, RelayReference
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import Centre, eventually, make_sound, now_ms
from tests.integration.firmware.relay_point import RelayPoint
from tests.support.sounds import tone
from tests.unit.firmware_sim.builders import STRANGER, a_plan, a_relay, an_emission, signed

pytestmark = pytest.mark.integration

CLUSTER = "loa-0001"
VOV = a_relay("vov")


def prepare(
    centre: Centre,
    *,
    relay: RelayReference = VOV,
    in_ms: int = 6_000,
    lasting_ms: int = 6_000,
    fallback: bool = False,
    clusters: tuple[str, ...] = (CLUSTER,),
) -> Emission:
    """Devices with a relay in their plan, and its fallback of two seconds on flash if it has one."""
    centre.provision(dict.fromkeys(clusters, "cluster"))
    for cluster in clusters:
        centre.greet(cluster)
    centre.start()
    files: tuple[MediaReference, ...] = ()
    if fallback:
        sound = centre.folder / "song.mp3"
        make_sound(sound, seconds=2.0)
        offered = centre.media.offer(sound)
        files = (offered.model_copy(update={"duration_ms": 2_000}),)
    for cluster in clusters:
        centre.wait(cluster, Booted)
    starts_at_ms = now_ms() + in_ms
    emission = an_emission(at_ms=starts_at_ms, duration_ms=lasting_ms, relay=relay)
    if fallback:
        emission = emission.model_copy(update={"fallback": files[0].sha256})
    for cluster in clusters:
        plan = a_plan(emission, device=cluster, at_ms=now_ms(), files=files)
        centre.send(cluster, DownlinkKind.PLAN, signed(plan))
        if fallback:
            centre.wait(cluster, MediaStored)
    return emission


def test_relay_is_sounded_out_of_signed_segments_and_in_step(centre: Centre) -> None:
    clusters = tuple(f"loa-{number:04}" for number in range(1, 6))
    RelayPoint(centre, VOV)
    emission = prepare(centre, clusters=clusters)

    starts = [centre.wait(cluster, PlayStarted)[0] for cluster in clusters]
    assert all(0 <= start.started_at_ms - emission.starts_at_ms < 300 for start in starts)
    assert all(start.media is None for start in starts)
    for cluster in clusters:
        (ended,) = centre.wait(cluster, PlayEnded)
        assert (ended.outcome, ended.fallback_ms, ended.interruptions) == (PlayOutcome.COMPLETED, None, None)
        assert ended.samples is not None
        # What is claimed rests on what was decoded of the segments: 24,000 samples a second.
        assert ended.sample_rate_hz == 24_000
        assert abs(ended.sounded_ms - ended.samples / 24) < 2
        assert 5_500 <= ended.sounded_ms <= 6_050
    assert centre.simulator is not None
    status = centre.simulator.status()
    assert status["relay_segments"] >= 5 * 6
    # Every device has asked for its own; the process has decoded the one sound all segments share once at a time.
    lists = [path for path, _ in centre.media.requests if path == f"/{VOV.path}"]
    assert len(lists) >= 5 * 6


def test_fallback_fills_in_while_the_source_is_gone_and_the_source_comes_back(centre: Centre) -> None:
    point = RelayPoint(centre, VOV)
    emission = prepare(centre, in_ms=5_000, lasting_ms=14_000, fallback=True)
    centre.wait(CLUSTER, PlayStarted)
    eventually(lambda: now_ms() >= emission.starts_at_ms + 2_000, "two seconds of the source")

    point.stopped_ms = now_ms()
    beat = centre.wait_heartbeat(CLUSTER, lambda each: each.last_error is not None)
    assert "silent" in beat.last_error
    eventually(lambda: now_ms() >= emission.starts_at_ms + 8_000, "some seconds of the fallback")
    point.stopped_ms = None

    (ended,) = centre.wait(CLUSTER, PlayEnded, deadline_s=40)
    assert (ended.outcome, ended.interruptions) == (PlayOutcome.COMPLETED, None)
    assert ended.fallback_ms is not None
    assert 1_500 <= ended.fallback_ms <= 8_000
    assert ended.sounded_ms >= 13_000, "there was hardly any dead air"
    assert ended.sounded_ms - ended.fallback_ms >= 4_000


@pytest.mark.parametrize("trouble", ["silent", "unreachable", "404"])
def test_source_without_sound_and_fallback_is_missed_by_its_reason(centre: Centre, trouble: str) -> None:
    point = RelayPoint(centre, VOV, is_silent=trouble == "silent", is_reachable=trouble != "404")
    if trouble == "unreachable":
        del centre.media.answers[f"/{VOV.path}"]
        centre.media.is_down = True
    prepare(centre, in_ms=3_000, lasting_ms=2_000)
    (missed,) = centre.wait(CLUSTER, PlayMissed)
    assert missed.reason is MissReason.SOURCE_SILENT
    assert centre.told(CLUSTER).of(PlayStarted) == []
    assert point.relay is VOV


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"signer": STRANGER}, RefusalReason.UNKNOWN_KEY, id="signed_by_a_stranger"),
        pytest.param({"aged_ms": 60_000}, RefusalReason.EXPIRED, id="recorded_a_minute_ago"),
    ],
)
def test_list_that_is_not_to_be_believed_sounds_nothing(
    centre: Centre, fields: dict[str, object], reason: RefusalReason
) -> None:
    RelayPoint(centre, VOV, began_ms=now_ms() - 120_000, **fields)  # type: ignore[arg-type]
    prepare(centre, in_ms=3_000, lasting_ms=2_000)
    refused = centre.wait(CLUSTER, Refused)[0]
    assert (refused.refused, refused.reason) == (MessageKind.SEGMENTS, reason)
    assert [event.reason for event in centre.wait(CLUSTER, PlayMissed)] == [MissReason.SOURCE_SILENT]


def test_segment_with_other_bytes_than_were_signed_sounds_nothing(centre: Centre) -> None:
    point = RelayPoint(centre, VOV)
    point.serve(tone("flac", seconds=1.0, rate=24_000, hertz=300)[: len(point.sound)].ljust(len(point.sound), b"\0"))
    prepare(centre, in_ms=4_000, lasting_ms=2_000)
    refused = centre.wait(CLUSTER, Refused)[0]
    assert (refused.refused, refused.reason) == (MessageKind.MEDIA, RefusalReason.WRONG_HASH)
    assert [event.reason for event in centre.wait(CLUSTER, PlayMissed)] == [MissReason.SOURCE_SILENT]
    assert centre.told(CLUSTER).of(PlayStarted) == []


# --- taken directly --------------------------------------------------------------------------------------------------


@contextmanager
def a_station(sound: bytes, *, half_way_s: float | None = None) -> Iterator[str]:
    """An Internet radio: gives its sound at the speed it sounds, and after `half_way_s` nothing more; yields its URL."""
    leaving = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "audio/mpeg")
            self.end_headers()
            size = len(sound) // 40  # forty pieces of a quarter of a second
            for number in range(40):
                if half_way_s is not None and number * 0.25 >= half_way_s:
                    return
                self.wfile.write(sound[number * size : (number + 1) * size])
                if leaving.wait(0.0 if number < 4 else 0.25):
                    return

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # whoever listened has turned it off
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live.mp3"
    finally:
        leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_stream_that_the_plan_allows_is_really_decoded(centre: Centre) -> None:
    sound = tone("mp3", seconds=10.0, rate=24_000)
    with a_station(sound) as url:
        relay = a_relay("abroad", url=url)
        prepare(centre, relay=relay, in_ms=2_500, lasting_ms=3_000)
        (ended,) = centre.wait(CLUSTER, PlayEnded)
    assert (ended.outcome, ended.sample_rate_hz) == (PlayOutcome.COMPLETED, 24_000)
    assert ended.samples is not None
    assert 2_500 <= ended.sounded_ms <= 3_050
    assert abs(ended.sounded_ms - ended.samples / 24) < 2


def test_stream_that_breaks_off_is_silent_and_the_fallback_fills_in(centre: Centre) -> None:
    sound = tone("mp3", seconds=10.0, rate=24_000)
    with a_station(sound, half_way_s=4.0) as url:
        relay = a_relay("abroad", url=url)
        prepare(centre, relay=relay, in_ms=3_000, lasting_ms=6_000, fallback=True)
        (ended,) = centre.wait(CLUSTER, PlayEnded)
    assert ended.outcome is PlayOutcome.COMPLETED
    assert ended.fallback_ms is not None
    assert 0 < ended.fallback_ms < ended.sounded_ms
    assert ended.sounded_ms >= 5_000


def test_there_is_no_fm_receiver(centre: Centre) -> None:
    prepare(centre, relay=a_relay("fm", url="fm://101.5"), in_ms=2_000, lasting_ms=1_000)
    assert [event.reason for event in centre.wait(CLUSTER, PlayMissed)] == [MissReason.SOURCE_SILENT]
