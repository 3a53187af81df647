"""Hard days over the real shells: the fleet as a process, a real broker, real files, and a scenario full of bad luck.

`tests/unit/firmware_sim/test_hard_days.py` says in virtual time what exactly comes of each kind of it.
"""

from __future__ import annotations

import uuid

import pytest

from schemas.configuration import Fallback
from schemas.events import (
    Booted,
    BootReason,
    ClockChanged,
    MediaFailed,
    MissReason,
    PlanAccepted,
    PlanExpired,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
)
from schemas.fields import PlayReference, PlaySource
from schemas.plans import Emission
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import Centre, Simulator, eventually, make_sound, now_ms
from tests.unit.firmware_sim.builders import a_configuration, a_plan, an_emission, signed

pytestmark = pytest.mark.integration

CLUSTERS = [f"loa-{number:04}" for number in range(6)]
IN_MS = 5_000

POWER_CUTS = """
description = "The mains fail every few seconds, in the middle of what sounds, and half of the clocks have then lost the time."
[cuts]
mean_gap_s = 4
mean_length_s = 0.7
dead_clocks = 0.5
[clocks]
ppm = 20
synchronised_every_s = 1
error_ms = 20
"""
WRONG_CLOCKS = """
description = "Clocks jump by up to ten minutes every few seconds, and are set right again soon after."
[clocks]
ppm = 20
synchronised_every_s = 1
error_ms = 20
[clocks.jumps]
mean_gap_s = 4
max_ms = 600000
"""
BAD_LINE = """
description = "Towards the device as well every third message is lost, and links break all the time."
[uplink]
drop = 0.2
delay = 0.5
delay_max_ms = 300
[downlink]
drop = 0.3
duplicate = 0.2
delay = 0.5
delay_max_ms = 300
disconnect = 0.02
[storm]
first_after_s = 1.5
every_s = 1.5
share = 0.7
length_s = 0.2
[downloads]
spoilt = 0.2
"""
MISSING_MEDIA = """
description = "No download ever brings anything."
[downloads]
spoilt = 1.0
"""


def suffer(centre: Centre, scenario: str, *, lasting_ms: int) -> tuple[Simulator, Emission]:
    """A fleet under a scenario, with one emission of a real file in its plans."""
    sound = centre.folder / "news.mp3"
    make_sound(sound, seconds=lasting_ms / 1_000)
    media = centre.media.offer(sound)
    path = centre.folder / "scenario.toml"
    path.write_text(scenario)
    centre.provision(dict.fromkeys(CLUSTERS, "cluster"))
    emission = an_emission(at_ms=now_ms() + IN_MS, duration_ms=lasting_ms, media=media.sha256)
    for cluster in CLUSTERS:
        centre.greet(cluster)
        plan = a_plan(emission, device=cluster, at_ms=now_ms(), files=(media,))
        centre.send(cluster, DownlinkKind.PLAN, signed(plan))
    return centre.start(SIM_SCENARIO=str(path), SIM_SEED="11"), emission


def wait_for_the_end(centre: Centre, cluster: str) -> PlayEnded | PlayMissed:
    """Wait until the one emission is explained, and see that it is explained once."""

    def ends() -> list[PlayEnded | PlayMissed]:
        told = centre.told(cluster)
        return [*told.of(PlayEnded), *told.of(PlayMissed)]

    eventually(ends, f"the end of {cluster}'s emission", deadline_s=60)
    (end,) = ends()
    assert len(centre.told(cluster).of(PlayStarted)) == isinstance(end, PlayEnded)
    return end


def test_power_cuts_in_the_middle_of_everything_leave_nothing_unexplained(centre: Centre) -> None:
    simulator, _ = suffer(centre, POWER_CUTS, lasting_ms=12_000)
    ends = [wait_for_the_end(centre, cluster) for cluster in CLUSTERS]

    assert simulator.status()["power_cuts"] >= len(CLUSTERS)
    boots = [event for cluster in CLUSTERS for event in centre.told(cluster).of(Booted)]
    assert len(boots) > len(CLUSTERS)
    assert {boot.reason for boot in boots} == {BootReason.POWER_ON}
    played = [end for end in ends if isinstance(end, PlayEnded)]
    assert any(end.interruptions for end in played), "somebody was cut off and joined in progress"
    # Whatever a life had put out without writing it down counts as nothing: never more than the slot.
    assert all(end.sounded_ms <= 12_100 for end in played)
    assert simulator.stop() == 0


def test_jumping_clocks_leave_nothing_unexplained(centre: Centre) -> None:
    simulator, _ = suffer(centre, WRONG_CLOCKS, lasting_ms=8_000)
    for cluster in CLUSTERS:
        wait_for_the_end(centre, cluster)
    steps = [abs(event.step_ms) for cluster in CLUSTERS for event in centre.told(cluster).of(ClockChanged)]
    assert max(steps) > 10_000
    assert simulator.stop() == 0


def test_line_that_loses_messages_both_ways_only_delays(centre: Centre) -> None:
    simulator, emission = suffer(centre, BAD_LINE, lasting_ms=15_000)
    for cluster in CLUSTERS:
        centre.wait(cluster, PlanAccepted, deadline_s=60)  # a retained plan comes again with every connection
        end = wait_for_the_end(centre, cluster)
        assert isinstance(end, PlayEnded)
        assert end.outcome is PlayOutcome.COMPLETED
        assert end.started_at_ms >= emission.starts_at_ms
    # Receipts get lost like everything else, and the journals become empty all the same.
    eventually(
        lambda: all(
            beats and beats[-1].journal_pending == 0
            for beats in (centre.told(cluster).heartbeats for cluster in CLUSTERS)
        ),
        "all journals to be receipted",
        deadline_s=60,
    )
    assert simulator.status()["disconnections"] > len(CLUSTERS)
    assert simulator.stop() == 0


def test_media_that_never_comes_is_missed_by_that_reason(centre: Centre) -> None:
    simulator, _ = suffer(centre, MISSING_MEDIA, lasting_ms=5_000)
    for cluster in CLUSTERS:
        end = wait_for_the_end(centre, cluster)
        assert isinstance(end, PlayMissed)
        assert end.reason is MissReason.MEDIA_MISSING
        assert len(centre.told(cluster).of(MediaFailed)) == 1  # told once, though tried again and again
    assert simulator.status()["downloads_spoilt"] >= len(CLUSTERS)
    assert centre.media.requests == []


def test_plan_that_runs_out_is_told_and_the_fallback_sounds_at_its_time(centre: Centre) -> None:
    cluster = CLUSTERS[0]
    sound = centre.folder / "notice.mp3"
    samples = make_sound(sound, seconds=1.0)
    notice = centre.media.offer(sound)
    centre.provision({cluster: "cluster"})
    centre.greet(cluster)
    centre.start()
    centre.wait(cluster, Booted)
    due_ms = (now_ms() // 1_000 + 6) * 1_000
    fallback = Fallback(fallback_id=uuid.uuid4(), media=notice, at_s=(due_ms // 1_000 % 86_400,))
    configuration = a_configuration(
        device=cluster,
        serial=centre.next_serial(cluster, "config"),
        at_ms=now_ms(),
        heartbeat_s=1,
        media_base_url=centre.media.url,
        fallback=fallback,
    )
    centre.send(cluster, DownlinkKind.CONFIG, signed(configuration))
    plan = a_plan(device=cluster, at_ms=now_ms(), valid_for_ms=3_000)
    centre.send(cluster, DownlinkKind.PLAN, signed(plan))

    (expired,) = centre.wait(cluster, PlanExpired)
    assert (expired.serial, expired.valid_until_ms) == (plan.serial, plan.valid_until_ms)
    beat = centre.wait_heartbeat(cluster, lambda each: each.last_error is not None)
    assert beat.last_error.startswith("plan 1 has run out")
    (ended,) = centre.wait(cluster, PlayEnded)
    assert ended.reference == PlayReference(source=PlaySource.FALLBACK, id=fallback.fallback_id)
    assert 0 <= ended.started_at_ms - due_ms < 500
    assert (ended.outcome, ended.samples, ended.media) == (PlayOutcome.COMPLETED, samples, notice.sha256)
    assert len(centre.told(cluster).of(PlanExpired)) == 1
