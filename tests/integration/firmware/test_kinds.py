"""Boards, sensors, and a gateway that speaks for twenty devices."""

from __future__ import annotations

import av
import pytest
from av.video.frame import VideoFrame

from schemas.events import Booted, MediaStored, PlanAccepted, PlayEnded, PlayOutcome
from schemas.heartbeats import BoardHeartbeat, ClusterHeartbeat, GatewayHeartbeat, SensorHeartbeat
from schemas.orders import MediaReference
from schemas.plans import ContentKind
from schemas.readings import UNITS
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import Centre, make_sound, now_ms
from tests.support.sounds import video
from tests.unit.firmware_sim.builders import a_plan, an_emission, signed

pytestmark = pytest.mark.integration

GATEWAY = "gw-01"
SHOWN_MS = 2_000
WIRED = [f"day-{index:02}" for index in range(18)]
LORA = ["lora-01", "lora-02"]


def test_gateway_receives_plays_and_reports_for_the_devices_behind_it(centre: Centre) -> None:
    sound = centre.folder / "news.mp3"
    make_sound(sound, seconds=1.0)
    media = centre.media.offer(sound)
    children = dict.fromkeys(WIRED, "cluster") | dict.fromkeys(LORA, "sensor")
    centre.provision({GATEWAY: "gateway"}, children={GATEWAY: children})
    centre.greet(GATEWAY)
    for child in children:
        centre.greet(child, principal=GATEWAY)
    centre.start()
    for child in WIRED:
        emission = an_emission(at_ms=now_ms() + 3_000, duration_ms=4_000, media=media.sha256)
        plan = a_plan(emission, device=child, at_ms=now_ms(), files=(media,))
        centre.send(child, DownlinkKind.PLAN, signed(plan), principal=GATEWAY)

    for child in WIRED:
        centre.wait(child, PlanAccepted)
        (ended,) = centre.wait(child, PlayEnded)
        assert ended.outcome is PlayOutcome.COMPLETED
        assert centre.told(child).principals == {GATEWAY}
    journals = [journal for child in (GATEWAY, *children) for journal, _ in centre.told(child).events]
    assert len(set(journals)) == 21  # a journal for each device and one for the gateway itself
    beat = centre.wait_heartbeat(GATEWAY, lambda each: isinstance(each, GatewayHeartbeat))
    assert (beat.devices_assigned, beat.devices_heard) == (20, 20)
    assert isinstance(centre.told(WIRED[0]).heartbeats[0], ClusterHeartbeat)
    for sensor in LORA:
        centre.wait_reading(sensor)
        centre.wait(sensor, Booted)
    assert len(centre.media.requests) == len(WIRED)  # each device has fetched its own file


def test_sensor_measures_in_the_units_of_the_contract(centre: Centre) -> None:
    centre.provision({"cb-01": "sensor"})
    centre.start()
    reading = centre.wait_reading("cb-01")
    assert [sample.quantity for sample in reading.samples] == ["air_temperature", "relative_humidity"]
    assert all(sample.unit == UNITS[sample.quantity] for sample in reading.samples)
    beat = centre.wait_heartbeat("cb-01", lambda _: True)
    assert isinstance(beat, SensorHeartbeat)


def test_board_shows_a_real_video_until_its_last_frame(centre: Centre) -> None:
    film = centre.folder / "film.mp4"
    film.write_bytes(video())
    offered = centre.media.offer(film)
    media = MediaReference(sha256=offered.sha256, size=offered.size, mime="video/mp4", path=offered.path)
    centre.provision({"bang-01": "board"})
    centre.greet("bang-01")
    centre.start()
    centre.wait("bang-01", Booted)
    emission = an_emission(
        "film", at_ms=now_ms() + 2_500, duration_ms=30_000, content=ContentKind.VIDEO, media=media.sha256
    )
    centre.send(
        "bang-01", DownlinkKind.PLAN, signed(a_plan(emission, device="bang-01", at_ms=now_ms(), files=(media,)))
    )

    (ended,) = centre.wait("bang-01", PlayEnded)
    assert (ended.reference, ended.outcome) == (emission.reference, PlayOutcome.COMPLETED)
    late_ms = ended.started_at_ms - emission.starts_at_ms
    assert 1_000 - late_ms <= ended.sounded_ms <= 1_000  # the film, not the slot
    assert ended.samples is None


def test_board_shows_text_and_a_real_image(centre: Centre) -> None:
    picture = centre.folder / "picture.png"
    with av.open(picture, "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "rgb24"
        frame = VideoFrame(64, 32, "rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    offered = centre.media.offer(picture)
    media = MediaReference(sha256=offered.sha256, size=offered.size, mime="image/png", path=offered.path)
    centre.provision({"bang-01": "board"})
    centre.greet("bang-01")
    centre.start()
    centre.wait("bang-01", Booted)
    begin = now_ms() + 2_500
    emissions = (
        an_emission(
            "text", at_ms=begin, duration_ms=SHOWN_MS, content=ContentKind.TEXT, media=None, text="Nước đang lên"
        ),
        an_emission(
            "image", at_ms=begin + SHOWN_MS, duration_ms=SHOWN_MS, content=ContentKind.IMAGE, media=media.sha256
        ),
    )
    plan = a_plan(*emissions, device="bang-01", at_ms=now_ms(), files=(media,))
    centre.send("bang-01", DownlinkKind.PLAN, signed(plan))

    centre.wait("bang-01", MediaStored)
    text, image = centre.wait("bang-01", PlayEnded, count=2)
    for ended, emission in ((text, emissions[0]), (image, emissions[1])):
        assert ended.reference == emission.reference
        assert ended.outcome is PlayOutcome.COMPLETED
        assert ended.samples is None
        late_ms = ended.started_at_ms - emission.starts_at_ms
        # By the clock: it stays until it is taken away.
        assert SHOWN_MS - late_ms - 50 <= ended.sounded_ms <= ended.ended_at_ms - ended.started_at_ms + 50
    beat = centre.wait_heartbeat("bang-01", lambda _: True)
    assert isinstance(beat, BoardHeartbeat)
    assert beat.screen_on
