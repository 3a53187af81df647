"""The device's side of the whole loop: a signed plan arrives, its media is fetched, it sounds, and that is told."""

from __future__ import annotations

import pytest

from schemas.events import (
    Booted,
    BootReason,
    MediaStored,
    PlanAccepted,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
)
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import Centre, make_sound, now_ms
from tests.unit.firmware_sim.builders import a_plan, an_emission, signed

pytestmark = pytest.mark.integration

CLUSTER = "loa-0001"


def test_plan_sounds_from_real_media_and_is_proven_by_decoded_samples(centre: Centre) -> None:
    sound = centre.folder / "news.mp3"
    samples = make_sound(sound, seconds=2.0)
    media = centre.media.offer(sound)
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER)
    simulator = centre.start()
    (booted,) = centre.wait(CLUSTER, Booted)
    assert booted.reason is BootReason.POWER_ON

    starts_at_ms = now_ms() + 3_000
    emission = an_emission(at_ms=starts_at_ms, duration_ms=3_000, media=media.sha256)
    centre.send(CLUSTER, DownlinkKind.PLAN, signed(a_plan(emission, device=CLUSTER, at_ms=now_ms(), files=(media,))))

    (accepted,) = centre.wait(CLUSTER, PlanAccepted)
    assert (accepted.emissions, accepted.media_missing) == (1, 1)
    (stored,) = centre.wait(CLUSTER, MediaStored)
    assert (stored.media, stored.size) == (media.sha256, media.size)
    (started,) = centre.wait(CLUSTER, PlayStarted)
    assert started.reference == emission.reference
    assert 0 <= started.started_at_ms - starts_at_ms < 2_000  # on time, but for a machine that is busy with other tests
    beat = centre.wait_heartbeat(CLUSTER, lambda each: each.playing is not None)
    assert beat.playing.reference == emission.reference
    assert beat.plan_serial == 1
    (ended,) = centre.wait(CLUSTER, PlayEnded)
    assert ended.outcome is PlayOutcome.COMPLETED
    # The whole file but for what a start a few milliseconds late skipped.
    late = started.started_at_ms - starts_at_ms
    assert ended.sample_rate_hz == 24_000
    assert ended.samples is not None
    assert samples - (late + 100) * 24 <= ended.samples <= samples
    assert ended.sounded_ms == ended.samples * 1_000 // 24_000
    assert centre.told(CLUSTER).of(PlayMissed) == []
    assert simulator.stop() == 0
    presence = centre.latest_presence(CLUSTER)
    assert presence is not None
    assert not presence.online
