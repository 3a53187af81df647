"""Keys, configurations and commands: what a device does about them and what it tells."""

from __future__ import annotations

from typing import Any

import pytest

from firmware_sim import effects, inputs
from firmware_sim.downlinks import KEYS_AWAITED_MS
from schemas.commands import Action, Command
from schemas.events import (
    Booted,
    CommandDone,
    CommandResult,
    FaultChanged,
    MediaFailed,
    MessageKind,
    MissReason,
    PlanAccepted,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
    PowerChanged,
    RefusalReason,
    Refused,
)
from schemas.fields import ClockState, DeviceKind, Level, PowerSource, ResumePolicy
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    DAY,
    MINUTE,
    SECOND,
    STRANGER,
    T0,
    Bench,
    a_command,
    a_configuration,
    a_file,
    a_key_set,
    a_plan,
    a_rank,
    an_emission,
    announced,
    by_command,
    signed,
)

NEWS = a_file("news")
START = T0 + MINUTE


def order(bench: Bench, command: Command) -> None:
    bench.receive(DownlinkKind.COMMAND, signed(command))


def play(**fields: Any) -> Command:
    return a_command(Action.PLAY, **{"media": NEWS, "rank": a_rank(Level.PRIORITY), **fields})


def results(bench: Bench) -> list[CommandResult]:
    return [event.result for event in bench.told_of(CommandDone)]


class TestPlay:
    def test_sounds_at_once_and_is_done_when_it_does(self) -> None:
        bench = Bench(media_ms={NEWS.sha256: 8 * SECOND})
        bench.ready()
        command = play()
        order(bench, command)
        bench.advance(MINUTE)
        (started,) = bench.told_of(PlayStarted)
        assert (started.reference, started.started_at_ms) == (by_command(command), T0)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.COMPLETED, 8 * SECOND)
        assert results(bench) == [CommandResult.DONE]

    def test_for_the_ordered_time(self) -> None:
        bench = Bench()
        bench.ready()
        order(bench, play(duration_ms=5 * SECOND))
        bench.advance(MINUTE)
        assert [event.sounded_ms for event in bench.told_of(PlayEnded)] == [5 * SECOND]

    def test_cuts_the_programme_which_then_goes_on(self) -> None:
        bench = Bench()
        bench.ready(an_emission("song"))
        bench.until(START + 10 * SECOND)
        command = play(duration_ms=5 * SECOND, at_ms=bench.at_ms)
        order(bench, command)
        bench.advance(MINUTE)
        ordered, song = bench.told_of(PlayEnded)
        assert ordered.reference == by_command(command)
        assert (song.outcome, song.interruptions, song.sounded_ms) == (PlayOutcome.COMPLETED, 1, 25 * SECOND)
        assert song.cut_by == by_command(command)

    def test_waits_for_its_turn_and_its_media(self) -> None:
        bench = Bench(delivers=False)
        bench.ready()
        order(bench, play(duration_ms=5 * SECOND))
        bench.advance(20 * SECOND)
        assert bench.told_of(CommandDone) == []
        bench.feed(inputs.MediaFetched(sha256=NEWS.sha256, size=NEWS.size))
        bench.advance(MINUTE)
        assert [event.started_at_ms for event in bench.told_of(PlayStarted)] == [T0 + 20 * SECOND]
        assert results(bench) == [CommandResult.DONE]

    def test_lapses_when_its_media_does_not_come_in_time(self) -> None:
        bench = Bench(delivers=False)
        bench.ready()
        order(bench, play(valid_for_ms=MINUTE))
        bench.advance(2 * MINUTE)
        (done,) = bench.told_of(CommandDone)
        assert done.result is CommandResult.EXPIRED
        assert done.detail == "could not begin: media_missing"
        assert bench.told_of(PlayMissed) == []  # nothing was planned

    def test_dropped_when_outranked_if_so_ordered(self) -> None:
        bench = Bench()
        bench.ready(an_emission("siren", at_ms=T0 + 5 * SECOND, rank=a_rank(Level.EMERGENCY)))
        order(bench, play(duration_ms=MINUTE, resume=ResumePolicy.DROP))
        bench.advance(2 * MINUTE)
        (ordered, _) = bench.told_of(PlayEnded)
        assert (ordered.outcome, ordered.sounded_ms) == (PlayOutcome.CUT, 5 * SECOND)

    def test_works_without_a_trusted_clock(self) -> None:
        bench = Bench(clock=ClockState.UNSYNCHRONISED, at_ms=1_000)
        bench.feed(inputs.Connected())
        bench.receive(DownlinkKind.KEYS, signed(a_key_set()))
        bench.receive(DownlinkKind.CONFIG, signed(a_configuration()))
        order(bench, play(duration_ms=5 * SECOND))
        bench.advance(MINUTE)
        assert [event.sounded_ms for event in bench.told_of(PlayEnded)] == [5 * SECOND]

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            pytest.param(DeviceKind.SENSOR, {}, id="sound_on_a_sensor"),
            pytest.param(DeviceKind.BOARD, {}, id="sound_on_a_board"),
            pytest.param(DeviceKind.CLUSTER, {"media": None, "text": "Chào"}, id="text_on_a_loudspeaker"),
            pytest.param(DeviceKind.CLUSTER, {"media": a_file("film", mime="video/mp4")}, id="video_on_a_loudspeaker"),
        ],
    )
    def test_of_what_the_device_cannot_put_out(self, kind: DeviceKind, fields: dict[str, Any]) -> None:
        bench = Bench(kind)
        bench.ready()
        order(bench, play(**fields))
        assert results(bench) == [CommandResult.UNSUPPORTED]

    def test_text_stays_a_minute_on_a_board(self) -> None:
        bench = Bench(DeviceKind.BOARD)
        bench.ready()
        order(bench, play(media=None, text="Chào mừng"))
        bench.advance(5 * MINUTE)
        assert [event.sounded_ms for event in bench.told_of(PlayEnded)] == [MINUTE]

    def test_interrupted_by_a_power_cut_has_failed(self) -> None:
        bench = Bench()
        bench.ready()
        order(bench, play(duration_ms=MINUTE))
        bench.advance(5 * SECOND)
        bench.power_cut(5 * SECOND)
        bench.advance(5 * MINUTE)
        assert [event.outcome for event in bench.told_of(PlayEnded)] == [PlayOutcome.FAILED]
        assert results(bench) == [CommandResult.DONE]

    def test_forgotten_in_a_power_cut_is_answered(self) -> None:
        bench = Bench(delivers=False)
        bench.ready()
        order(bench, play())
        bench.power_cut(5 * SECOND)
        assert results(bench) == [CommandResult.FAILED]
        bench.power_cut(5 * SECOND)
        assert results(bench) == [CommandResult.FAILED]


class TestStopAndSilence:
    def test_stop_ends_what_sounds_for_good_and_later_emissions_stand(self) -> None:
        bench = Bench()
        bench.ready(an_emission(), an_emission("song", at_ms=START + MINUTE))
        bench.until(START + 10 * SECOND)
        order(bench, a_command(Action.STOP, at_ms=bench.at_ms))
        bench.advance(5 * MINUTE)
        first, second = bench.told_of(PlayEnded)
        assert (first.outcome, first.sounded_ms) == (PlayOutcome.STOPPED, 10 * SECOND)
        assert (second.outcome, second.sounded_ms) == (PlayOutcome.COMPLETED, 30 * SECOND)
        assert results(bench) == [CommandResult.DONE]

    def test_stop_with_nothing_sounding_is_done(self) -> None:
        bench = Bench()
        bench.ready()
        order(bench, a_command(Action.STOP))
        assert results(bench) == [CommandResult.DONE]

    def test_silence_holds_over_a_power_cut_until_release(self) -> None:
        bench = Bench()
        bench.ready(an_emission(), an_emission("song", at_ms=START + MINUTE))
        bench.until(START + 10 * SECOND)
        order(bench, a_command(Action.SILENCE, at_ms=bench.at_ms))
        assert [event.outcome for event in bench.told_of(PlayEnded)] == [PlayOutcome.STOPPED]
        bench.power_cut(5 * SECOND)
        bench.until(START + MINUTE + 10 * SECOND)
        assert len(bench.told_of(PlayStarted)) == 1
        order(bench, a_command(Action.RELEASE, at_ms=bench.at_ms, serial=2))
        bench.advance(5 * MINUTE)
        # Within its slot the song joins in progress.
        assert [event.sounded_ms for event in bench.told_of(PlayEnded)] == [10 * SECOND, 20 * SECOND]


class TestOnce:
    def test_the_same_command_again_is_ignored(self) -> None:
        bench = Bench()
        bench.ready()
        command = play(duration_ms=5 * SECOND)
        order(bench, command)
        order(bench, command)
        bench.advance(MINUTE)
        order(bench, command)
        bench.power_cut(5 * SECOND)
        order(bench, command)
        bench.advance(MINUTE)
        assert len(bench.told_of(PlayStarted)) == 1
        assert bench.told_of(Refused) == []

    def test_another_command_with_an_old_serial_is_a_replay(self) -> None:
        bench = Bench()
        bench.ready()
        order(bench, a_command(Action.STOP, serial=7))
        order(bench, a_command(Action.SILENCE, serial=7))
        order(bench, a_command(Action.SILENCE, serial=6))
        assert [event.reason for event in bench.told_of(Refused)] == [RefusalReason.REPLAYED] * 2
        assert not bench.state.is_silenced

    def test_an_expired_command_is_answered_and_not_carried_out(self) -> None:
        bench = Bench()
        bench.ready()
        order(bench, a_command(Action.SILENCE, at_ms=T0 - DAY))
        assert results(bench) == [CommandResult.EXPIRED]
        assert not bench.state.is_silenced

    def test_a_command_from_the_future_is_refused(self) -> None:
        bench = Bench()
        bench.ready()
        order(bench, a_command(Action.SILENCE, at_ms=T0 + DAY))
        assert [event.reason for event in bench.told_of(Refused)] == [RefusalReason.NOT_YET_VALID]

    def test_a_command_for_somebody_else_is_refused(self) -> None:
        bench = Bench()
        bench.ready()
        order(bench, a_command(Action.SILENCE, device="loa-0002"))
        (refused,) = bench.told_of(Refused)
        assert (refused.refused, refused.reason) == (MessageKind.COMMAND, RefusalReason.FOREIGN_AUDIENCE)

    def test_reboot_is_answered_before_it_happens(self) -> None:
        bench = Bench()
        bench.ready()
        bench.told.clear()
        order(bench, a_command(Action.REBOOT))
        kinds = [type(each) for each in bench.told]
        assert kinds == [effects.Record, effects.Remember, effects.Reboot]


class TestKeysAwaited:
    """Retained messages come in no order: what lacks only a key waits for it a moment."""

    def fresh(self) -> Bench:
        bench = Bench()
        bench.feed(inputs.Connected())
        return bench

    def test_refused_when_no_key_comes(self) -> None:
        bench = self.fresh()
        bench.receive(DownlinkKind.PLAN, signed(a_plan()))
        bench.advance(KEYS_AWAITED_MS - 1)
        assert bench.told_of(Refused) == []
        bench.advance(1)
        (refused,) = bench.told_of(Refused)
        assert (refused.refused, refused.reason) == (MessageKind.PLAN, RefusalReason.UNKNOWN_KEY)

    def test_the_newest_of_each_kind_waits(self) -> None:
        bench = self.fresh()
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=1), STRANGER))
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2)))
        assert len(bench.told_of(Refused)) == 1
        bench.receive(DownlinkKind.KEYS, signed(a_key_set()))
        assert [event.serial for event in bench.told_of(PlanAccepted)] == [2]
        bench.advance(MINUTE)
        assert len(bench.told_of(Refused)) == 1

    def test_rotation_in_any_order(self) -> None:
        bench = Bench()
        bench.ready()
        both = a_key_set(announced(STRANGER), announced_platform(), serial=2)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2), STRANGER))
        bench.receive(DownlinkKind.KEYS, signed(both))
        assert [event.serial for event in bench.told_of(PlanAccepted)] == [2]
        assert bench.told_of(Refused) == []


def announced_platform() -> Any:
    (key,) = a_key_set().keys
    return key


def test_stolen_key_stops_what_it_signed() -> None:
    bench = Bench()
    bench.ready(an_emission(), an_emission("song", at_ms=START + MINUTE))
    bench.until(START + 10 * SECOND)
    bench.receive(DownlinkKind.KEYS, signed(a_key_set(announced(STRANGER), serial=2)))
    assert [event.outcome for event in bench.told_of(PlayEnded)] == [PlayOutcome.STOPPED]
    assert {event.refused for event in bench.told_of(Refused)} == {MessageKind.PLAN, MessageKind.CONFIG}
    bench.advance(5 * MINUTE)
    assert len(bench.told_of(PlayStarted)) == 1
    assert "plan" not in bench.files
    bench.power_cut(SECOND)
    # The key may come back in a later set; then the plan may, too, though its serial is the last one.
    bench.receive(DownlinkKind.KEYS, signed(a_key_set(announced_platform(), serial=3)))
    bench.receive(DownlinkKind.PLAN, signed(a_plan(an_emission(at_ms=START + DAY))))
    assert [event.serial for event in bench.told_of(PlanAccepted)] == [1, 1]


def test_identical_retained_orders_are_ignored() -> None:
    bench = Bench()
    bench.ready(an_emission())
    bench.feed(inputs.Disconnected())
    bench.feed(inputs.Connected())
    before = bench.state
    bench.receive(DownlinkKind.KEYS, signed(a_key_set()))
    bench.receive(DownlinkKind.CONFIG, signed(a_configuration()))
    bench.receive(DownlinkKind.PLAN, signed(a_plan(an_emission())))
    assert bench.told_of(Refused) == []
    assert len(bench.told_of(PlanAccepted)) == 1
    assert bench.state.programme == before.programme


def test_older_plan_is_refused_also_after_a_power_cut() -> None:
    bench = Bench()
    bench.ready()
    bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=9)))
    bench.power_cut(SECOND)
    bench.receive(DownlinkKind.PLAN, signed(a_plan(an_emission(), serial=8)))
    assert [event.reason for event in bench.told_of(Refused)] == [RefusalReason.REPLAYED]


def test_tampered_flash_is_no_way_around_a_signature() -> None:
    bench = Bench()
    bench.ready(an_emission())
    bench.files["plan"] = signed(a_plan(an_emission(), serial=2), STRANGER)
    bench.power_cut(SECOND)
    bench.advance(5 * MINUTE)
    (refused,) = bench.told_of(Refused)
    assert (refused.reason, refused.detail) == (RefusalReason.UNKNOWN_KEY, refused.detail)
    assert refused.detail is not None
    assert refused.detail.startswith("on flash")
    assert bench.told_of(PlayStarted) == []


def test_notes_that_are_garbage_cost_nothing_but_what_they_noted() -> None:
    bench = Bench()
    bench.ready(an_emission())
    bench.files["notes"] = b"\x00garbage"
    bench.power_cut(SECOND)
    bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=0)))  # the plan on flash still tells the last serial
    assert [event.reason for event in bench.told_of(Refused)] == [RefusalReason.REPLAYED]
    bench.advance(5 * MINUTE)
    assert len(bench.told_of(PlayEnded)) == 1


def test_emission_whose_time_passed_unseen_is_settled_before_a_newer_plan_withdraws_it() -> None:
    """The machine was suspended: no timer fired, and the first thing it hears is the next plan."""
    bench = Bench(delivers=False)
    bench.ready(an_emission())
    bench.until(START + SECOND)
    bench.at_ms += 5 * MINUTE
    bench.uptime_ms += 5 * MINUTE
    bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2, at_ms=bench.at_ms)))
    assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.MEDIA_MISSING]


class TestMedia:
    def fetches(self, bench: Bench) -> list[effects.Fetch]:
        return [each for each in bench.told if isinstance(each, effects.Fetch)]

    def test_is_fetched_from_the_configured_base_in_the_order_of_need(self) -> None:
        bench = Bench(delivers=False)
        later, sooner = an_emission("song", at_ms=START + DAY), an_emission("news")
        bench.ready(later, sooner)
        assert [each.url for each in self.fetches(bench)] == [
            f"http://media.test/media/{a_file(name).path}" for name in ("news", "song")
        ]

    def test_is_tried_again_ever_more_slowly_and_told_ever_more_rarely(self) -> None:
        bench = Bench(delivers=False)
        bench.ready(an_emission(at_ms=T0 + 30 * DAY, duration_ms=MINUTE))
        for _ in range(20):
            before = len(self.fetches(bench))
            bench.feed(inputs.MediaFailed(sha256=NEWS.sha256, detail="HTTP 503"))
            while len(self.fetches(bench)) == before:
                bench.advance(SECOND)
        assert len(bench.told_of(MediaFailed)) == 3  # the 1st, 4th and 16th
        assert bench.uptime_ms < 4 * 3_600_000

    def test_wrong_hash_is_a_security_event_and_tried_again_later(self) -> None:
        bench = Bench(delivers=False)
        bench.ready(an_emission(at_ms=T0 + DAY))
        bench.feed(inputs.MediaRejected(sha256=NEWS.sha256, detail="got 00"))
        (refused,) = bench.told_of(Refused)
        assert (refused.refused, refused.reason) == (MessageKind.MEDIA, RefusalReason.WRONG_HASH)
        assert len(self.fetches(bench)) == 1
        bench.advance(10 * SECOND)
        assert len(self.fetches(bench)) == 2

    def test_is_not_fetched_without_an_uplink(self) -> None:
        bench = Bench(delivers=False)
        bench.ready()
        bench.feed(inputs.Disconnected())
        bench.receive(DownlinkKind.PLAN, signed(a_plan(an_emission())))
        assert self.fetches(bench) == []
        bench.feed(inputs.Connected())
        assert len(self.fetches(bench)) == 1


class TestTold:
    def test_power(self) -> None:
        bench = Bench()
        bench.feed(inputs.PowerSwitched(source=PowerSource.BATTERY, battery_percent=80))
        assert [(event.source, event.battery_percent) for event in bench.told_of(PowerChanged)] == [
            (PowerSource.BATTERY, 80)
        ]

    def test_lost_events_once_and_then_in_the_heartbeat(self) -> None:
        bench = Bench()
        bench.feed(inputs.EventsLost(count=1))
        bench.feed(inputs.EventsLost(count=4))
        assert len(bench.told_of(FaultChanged)) == 1
        assert bench.state.last_error == "5 events lost"

    def test_unreadable_receipt(self) -> None:
        bench = Bench()
        bench.receive(DownlinkKind.RECEIPT, b"\x00")
        assert [event.refused for event in bench.told_of(Refused)] == [MessageKind.RECEIPT]

    def test_boot(self) -> None:
        bench = Bench()
        bench.boot()
        assert [event.last_up_at_ms for event in bench.told_of(Booted)] == [None]

    def test_connection_numbers_grow_whatever_the_clock_does(self) -> None:
        bench = Bench()
        numbers = []
        for at_ms in (T0, T0 + 5, 0, 0, T0 + 2):
            bench.at_ms = at_ms
            bench.feed(inputs.Connecting())
            numbers.append(bench.state.connection_number)
        assert numbers == [T0, T0 + 5, T0 + 6, T0 + 7, T0 + 8]
        bench.power_cut(0)
        bench.feed(inputs.Connecting())
        assert bench.state.connection_number == T0 + 9
