"""Uplinks that are down, processes that are killed, receipts that do not come: nothing is lost and nothing said twice."""

from __future__ import annotations

import pytest

from schemas.commands import Action
from schemas.events import (
    Booted,
    BootReason,
    CommandDone,
    CommandResult,
    MediaFailed,
    MediaStored,
    PlanAccepted,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
)
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import Centre, eventually, make_sound, now_ms
from tests.support.broker import run
from tests.unit.firmware_sim.builders import a_command, a_plan, a_rank, an_emission, signed

pytestmark = pytest.mark.integration

CLUSTER = "loa-0001"


def prepare(centre: Centre, *, in_ms: int, lasting_ms: int = 2_000) -> int:
    """A device with a plan and its media, due in `in_ms`; returns when."""
    sound = centre.folder / "news.mp3"
    make_sound(sound, seconds=lasting_ms / 1_000)
    media = centre.media.offer(sound)
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER)
    centre.start()
    centre.wait(CLUSTER, Booted)
    starts_at_ms = now_ms() + in_ms
    emission = an_emission(at_ms=starts_at_ms, duration_ms=lasting_ms + 2_000, media=media.sha256)
    centre.send(CLUSTER, DownlinkKind.PLAN, signed(a_plan(emission, device=CLUSTER, at_ms=now_ms(), files=(media,))))
    centre.wait(CLUSTER, MediaStored)
    return starts_at_ms


def test_plays_while_the_broker_is_gone_and_reports_when_it_is_back(centre: Centre) -> None:
    starts_at_ms = prepare(centre, in_ms=3_000, lasting_ms=1_000)
    simulator = centre.simulator
    assert simulator is not None
    run(centre.broker.kill())
    eventually(lambda: simulator.status()["connected"] == 0, "the device to notice")
    eventually(lambda: simulator.status().get("event_play_ended"), "the play to end")
    assert now_ms() >= starts_at_ms + 1_000

    run(centre.broker.start())
    centre.reconnect()

    (ended,) = centre.wait(CLUSTER, PlayEnded)
    assert (ended.outcome, ended.started_at_ms >= starts_at_ms) == (PlayOutcome.COMPLETED, True)
    assert len(centre.told(CLUSTER).of(PlayStarted)) == 1


def test_kill_9_in_the_middle_of_a_play_is_survived(centre: Centre) -> None:
    prepare(centre, in_ms=2_500, lasting_ms=6_000)
    centre.wait(CLUSTER, PlayStarted)
    assert centre.simulator is not None

    centre.simulator.kill()
    centre.simulator.start()

    second = centre.wait(CLUSTER, Booted, count=2)[1]
    assert second.reason is BootReason.POWER_ON
    assert second.last_up_at_ms is not None
    (ended,) = centre.wait(CLUSTER, PlayEnded)
    assert (ended.outcome, ended.interruptions) == (PlayOutcome.COMPLETED, 1)
    assert 0 < ended.sounded_ms < 6_000  # only what the second life has decoded and sounded
    assert len(centre.told(CLUSTER).of(PlayStarted)) == 1
    # The plan, the keys and the media were on flash: nothing was asked for again.
    assert len(centre.told(CLUSTER).of(PlanAccepted)) == 1
    assert len(centre.media.requests) == 1


def test_journal_survives_kill_9_and_is_freed_by_receipts(centre: Centre) -> None:
    centre.gives_receipts = False
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER)
    simulator = centre.start()
    for _ in range(3):
        centre.wait(CLUSTER, Booted, count=len(centre.told(CLUSTER).of(Booted)) + 1)
        simulator.kill()
        simulator.start()
    centre.wait(CLUSTER, Booted, count=4)

    told = centre.told(CLUSTER)
    assert {journal for journal, _ in told.events} == {told.envelopes[0].journal}
    assert sorted(sequence for _, sequence in told.events) == [1, 2, 3, 4]
    assert len(told.envelopes) > 4  # every life has sent again what nobody had receipted
    assert centre.wait_heartbeat(CLUSTER, lambda _: True).journal_pending == 4

    centre.gives_receipts = True
    simulator.kill()
    simulator.start()
    centre.wait(CLUSTER, Booted, count=5)
    centre.wait_heartbeat(CLUSTER, lambda each: each.journal_pending == 0)

    simulator.kill()
    simulator.start()
    centre.wait(CLUSTER, Booted, count=6)
    assert sorted(sequence for _, sequence in centre.told(CLUSTER).events) == [1, 2, 3, 4, 5, 6]


def test_wiped_flash_starts_a_new_journal(centre: Centre) -> None:
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER)
    simulator = centre.start()
    centre.wait(CLUSTER, Booted)
    assert simulator.stop() == 0
    (centre.folder / "devices" / CLUSTER / "journal").unlink()
    simulator.start()
    centre.wait(CLUSTER, Booted, count=2)
    assert len({journal for journal, _ in centre.told(CLUSTER).events}) == 2


def test_broken_download_is_resumed(centre: Centre) -> None:
    centre.media.break_after = 5_000
    prepare(centre, in_ms=60_000)
    (failed,) = centre.told(CLUSTER).of(MediaFailed)
    assert failed.detail
    ranges = [wanted for _, wanted in centre.media.requests]
    assert ranges == [None, "bytes=5000-"]


def test_device_that_dies_leaves_its_will_and_comes_back_with_a_higher_number(centre: Centre) -> None:
    centre.provision({CLUSTER: "cluster"})
    simulator = centre.start()
    online = centre.wait_presence(CLUSTER, online=True)

    simulator.kill()

    will = centre.wait_presence(CLUSTER, online=False)
    assert will.connection_number == online.connection_number
    simulator.start()
    assert centre.wait_presence(CLUSTER, online=True).connection_number > online.connection_number


def test_commands_are_carried_out_once(centre: Centre) -> None:
    sound = centre.folder / "siren.mp3"
    make_sound(sound, seconds=1.0)
    media = centre.media.offer(sound)
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER)
    centre.start()
    centre.wait_heartbeat(CLUSTER, lambda each: each.config_serial == 1)

    play = signed(a_command(Action.PLAY, device=CLUSTER, at_ms=now_ms(), serial=1, media=media, rank=a_rank()))
    centre.send(CLUSTER, DownlinkKind.COMMAND, play)
    centre.wait(CLUSTER, PlayEnded)
    centre.send(CLUSTER, DownlinkKind.COMMAND, play)
    late = a_command(Action.STOP, device=CLUSTER, at_ms=now_ms() - 600_000, serial=2)
    centre.send(CLUSTER, DownlinkKind.COMMAND, signed(late))
    centre.send(
        CLUSTER, DownlinkKind.COMMAND, signed(a_command(Action.REBOOT, device=CLUSTER, at_ms=now_ms(), serial=3))
    )

    reboot = centre.wait(CLUSTER, Booted, count=2)[1]
    assert reboot.reason is BootReason.COMMAND
    done = centre.wait(CLUSTER, CommandDone, count=3)
    assert [event.result for event in done] == [CommandResult.DONE, CommandResult.EXPIRED, CommandResult.DONE]
    assert len(centre.told(CLUSTER).of(PlayStarted)) == 1
    assert centre.told(CLUSTER).of(PlayMissed) == []
