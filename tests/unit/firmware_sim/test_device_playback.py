"""What a device sounds from its plan, and what it tells of it."""

from __future__ import annotations

import pytest

from firmware_sim import inputs
from schemas.commands import Action
from schemas.events import (
    Booted,
    BootReason,
    ClockChanged,
    MediaStored,
    MissReason,
    PlanAccepted,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
)
from schemas.fields import ClockState, DeviceKind, Level, ResumePolicy
from schemas.plans import ContentKind
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    DAY,
    MINUTE,
    RATE,
    SECOND,
    T0,
    Bench,
    a_command,
    a_configuration,
    a_file,
    a_key_set,
    a_plan,
    a_rank,
    an_emission,
    signed,
)

START = T0 + MINUTE
NEWS = a_file("news").sha256


def test_planned_emission_sounds_in_its_slot_and_is_proven() -> None:
    bench = Bench()
    news = an_emission()
    bench.ready(news)

    bench.advance(2 * MINUTE)

    (accepted,) = bench.told_of(PlanAccepted)
    assert (accepted.serial, accepted.emissions, accepted.media_missing) == (1, 1, 1)
    assert [event.media for event in bench.told_of(MediaStored)] == [NEWS]
    (started,) = bench.told_of(PlayStarted)
    assert (started.reference, started.started_at_ms, started.media) == (news.reference, START, NEWS)
    assert started.volume_percent == 60
    (ended,) = bench.told_of(PlayEnded)
    assert ended.outcome is PlayOutcome.COMPLETED
    assert (ended.started_at_ms, ended.ended_at_ms) == (START, START + 30 * SECOND)
    assert (ended.sounded_ms, ended.samples, ended.sample_rate_hz) == (30 * SECOND, 30 * RATE, RATE)
    assert ended.interruptions is None
    assert bench.told_of(PlayMissed) == []


def test_emission_ends_with_its_media_when_that_is_shorter_than_the_slot() -> None:
    bench = Bench(media_ms={NEWS: 12 * SECOND})
    bench.ready(an_emission())

    bench.advance(2 * MINUTE)

    (ended,) = bench.told_of(PlayEnded)
    assert (ended.outcome, ended.sounded_ms, ended.ended_at_ms) == (
        PlayOutcome.COMPLETED,
        12 * SECOND,
        START + 12 * SECOND,
    )


def test_plays_with_the_uplink_down() -> None:
    bench = Bench()
    bench.ready(an_emission())
    bench.feed(inputs.Disconnected())

    bench.advance(2 * MINUTE)

    assert [event.outcome for event in bench.told_of(PlayEnded)] == [PlayOutcome.COMPLETED]


def test_late_device_joins_in_progress() -> None:
    bench = Bench(delivers=False)
    bench.ready(an_emission(latest_ms=START + 20 * SECOND))
    bench.until(START + 10 * SECOND)
    bench.stored[NEWS] = 1
    bench.feed(inputs.MediaFetched(sha256=NEWS, size=1))

    bench.advance(2 * MINUTE)

    (started,) = bench.told_of(PlayStarted)
    assert started.started_at_ms == START + 10 * SECOND
    (ended,) = bench.told_of(PlayEnded)
    assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.COMPLETED, 20 * SECOND)


def test_device_that_is_ready_after_the_latest_start_misses() -> None:
    bench = Bench(delivers=False)
    bench.ready(an_emission(latest_ms=START + 5 * SECOND))
    bench.until(START + 10 * SECOND)
    bench.feed(inputs.MediaFetched(sha256=NEWS, size=1))

    bench.advance(2 * MINUTE)

    (missed,) = bench.told_of(PlayMissed)
    assert missed.reason is MissReason.MEDIA_MISSING
    assert bench.told_of(PlayStarted) == []


def test_start_survives_a_timer_that_fires_a_little_late() -> None:
    bench = Bench()
    bench.ready(an_emission(latest_ms=START))
    bench.at_ms = START + 20
    bench.uptime_ms += MINUTE + 20

    bench.feed(inputs.Tick())

    assert [event.started_at_ms for event in bench.told_of(PlayStarted)] == [START + 20]


class TestMissed:
    """Every emission that never sounded is told with its reason, once."""

    def check(self, bench: Bench, reason: MissReason) -> PlayMissed:
        (missed,) = bench.told_of(PlayMissed)
        assert missed.reason is reason
        assert bench.told_of(PlayStarted) == []
        bench.advance(DAY)
        assert len(bench.told_of(PlayMissed)) == 1
        return missed

    def test_media_never_came(self) -> None:
        bench = Bench(delivers=False)
        bench.ready(an_emission())
        bench.advance(2 * MINUTE)
        self.check(bench, MissReason.MEDIA_MISSING)

    def test_media_cannot_be_decoded(self) -> None:
        bench = Bench(corrupt={NEWS})
        bench.ready(an_emission())
        bench.advance(2 * MINUTE)
        self.check(bench, MissReason.MEDIA_CORRUPT)

    def test_volume_zero(self) -> None:
        bench = Bench()
        bench.ready(an_emission(volume=0))
        bench.advance(2 * MINUTE)
        self.check(bench, MissReason.SILENCED)

    def test_silenced_by_order(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SILENCE)))
        bench.advance(2 * MINUTE)
        self.check(bench, MissReason.SILENCED)

    @pytest.mark.parametrize(
        ("kind", "content", "text"),
        [
            pytest.param(DeviceKind.CLUSTER, ContentKind.TEXT, "Chào", id="text_on_a_loudspeaker"),
            pytest.param(DeviceKind.CLUSTER, ContentKind.VIDEO, None, id="video_on_a_loudspeaker"),
            pytest.param(DeviceKind.BOARD, ContentKind.AUDIO, None, id="sound_on_a_board"),
            pytest.param(DeviceKind.SENSOR, ContentKind.AUDIO, None, id="sound_on_a_sensor"),
        ],
    )
    def test_content_the_device_cannot_put_out(self, kind: DeviceKind, content: ContentKind, text: str | None) -> None:
        bench = Bench(kind)
        bench.ready(an_emission(content=content, text=text, media=None if text else NEWS))
        bench.advance(2 * MINUTE)
        self.check(bench, MissReason.UNSUPPORTED)

    def test_clock_not_trusted_until_it_was_too_late(self) -> None:
        bench = Bench(clock=ClockState.UNSYNCHRONISED)
        bench.ready(an_emission())
        bench.advance(2 * MINUTE)
        assert bench.told_of(PlayMissed) == []  # it does not know that the time has come

        bench.clock = ClockState.SYNCHRONISED
        bench.feed(inputs.ClockSet(previous=ClockState.UNSYNCHRONISED))

        assert len(bench.told_of(ClockChanged)) == 1
        self.check(bench, MissReason.CLOCK_UNTRUSTED)

    def test_powered_off(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.power_cut(2 * MINUTE)
        self.check(bench, MissReason.POWERED_OFF)

    def test_plan_came_too_late(self) -> None:
        bench = Bench()
        bench.ready(an_emission(at_ms=T0 - MINUTE))
        bench.advance(SECOND)
        self.check(bench, MissReason.TOO_LATE)

    def test_plan_had_expired_when_it_should_begin(self) -> None:
        bench = Bench()
        bench.ready(an_emission(), valid_for_ms=30 * SECOND)
        bench.advance(2 * MINUTE)
        self.check(bench, MissReason.TOO_LATE)


class TestCut:
    """Two contents want the same instant: the arbitration order decides, the resume policy says how the loser goes on."""

    def cut(self, resume: ResumePolicy, *, latest_ms: int | None = None, siren_ms: int = 10 * SECOND) -> Bench:
        """A 30 s song, cut by a siren from its 10th second on."""
        bench = Bench()
        song = an_emission("song", resume=resume, latest_ms=latest_ms)
        siren = an_emission("siren", at_ms=START + 10 * SECOND, duration_ms=siren_ms, rank=a_rank(Level.EMERGENCY))
        bench.ready(song, siren)
        bench.advance(3 * MINUTE)
        return bench

    def song_of(self, bench: Bench) -> PlayEnded:
        return next(e for e in bench.told_of(PlayEnded) if e.media == a_file("song").sha256)

    def siren_of(self, bench: Bench) -> PlayEnded:
        return next(e for e in bench.told_of(PlayEnded) if e.media == a_file("siren").sha256)

    def test_resume_goes_on_where_it_would_be(self) -> None:
        bench = self.cut(ResumePolicy.RESUME)
        song, siren = self.song_of(bench), self.siren_of(bench)
        assert siren.outcome is PlayOutcome.COMPLETED
        assert siren.sounded_ms == 10 * SECOND
        assert (song.outcome, song.interruptions, song.cut_by) == (PlayOutcome.COMPLETED, 1, siren.reference)
        assert (song.sounded_ms, song.ended_at_ms) == (20 * SECOND, START + 30 * SECOND)
        assert len(bench.told_of(PlayStarted)) == 2  # one play is one start, however many parts it has

    def test_restart_begins_anew_and_sounds_whole(self) -> None:
        song = self.song_of(self.cut(ResumePolicy.RESTART))
        assert (song.outcome, song.interruptions) == (PlayOutcome.COMPLETED, 1)
        assert (song.sounded_ms, song.ended_at_ms) == (40 * SECOND, START + 50 * SECOND)

    def test_restart_is_given_up_after_the_latest_start(self) -> None:
        song = self.song_of(self.cut(ResumePolicy.RESTART, latest_ms=START + 15 * SECOND))
        assert (song.outcome, song.sounded_ms, song.ended_at_ms) == (
            PlayOutcome.CUT,
            10 * SECOND,
            START + 10 * SECOND,
        )

    def test_drop_ends_at_once(self) -> None:
        bench = self.cut(ResumePolicy.DROP)
        song, siren = self.song_of(bench), self.siren_of(bench)
        assert (song.outcome, song.cut_by, song.sounded_ms) == (PlayOutcome.CUT, siren.reference, 10 * SECOND)
        assert song.device_at_ms == START + 10 * SECOND

    def test_cut_for_the_rest_of_its_slot(self) -> None:
        bench = self.cut(ResumePolicy.RESUME, siren_ms=60 * SECOND)
        song = self.song_of(bench)
        assert (song.outcome, song.ended_at_ms) == (PlayOutcome.CUT, START + 10 * SECOND)
        assert song.device_at_ms == START + 30 * SECOND

    def test_outranked_from_beginning_to_end_is_missed(self) -> None:
        bench = Bench()
        siren = an_emission("siren", rank=a_rank(Level.EMERGENCY), duration_ms=MINUTE)
        bench.ready(an_emission("song"), siren)
        bench.advance(3 * MINUTE)
        (missed,) = bench.told_of(PlayMissed)
        assert (missed.reason, missed.cut_by) == (MissReason.OUTRANKED, siren.reference)

    def test_loser_at_the_start_joins_when_the_winner_is_through(self) -> None:
        bench = Bench()
        bench.ready(an_emission("song"), an_emission("siren", rank=a_rank(Level.PRIORITY), duration_ms=10 * SECOND))
        bench.advance(3 * MINUTE)
        song = self.song_of(bench)
        assert (song.outcome, song.started_at_ms, song.sounded_ms) == (
            PlayOutcome.COMPLETED,
            START + 10 * SECOND,
            20 * SECOND,
        )

    def test_priority_items_sound_in_the_order_their_unit_gave_them(self) -> None:
        """The unit's word goes before severity, issuer and age (R-17)."""
        bench = Bench()
        later = a_rank(Level.PRIORITY, place=2, severity=4, depth=0, issued_at_ms=T0 - DAY)
        siren = an_emission("siren", duration_ms=20 * SECOND, rank=a_rank(Level.PRIORITY, place=1))
        bench.ready(an_emission("song", rank=later), siren)
        bench.advance(3 * MINUTE)
        assert (self.siren_of(bench).started_at_ms, self.siren_of(bench).interruptions) == (START, None)
        assert self.song_of(bench).started_at_ms == START + 20 * SECOND

    def test_absent_content_cuts_nothing(self) -> None:
        bench = Bench(delivers=False)
        bench.stored = {a_file("song").sha256: 1}
        bench.boot()
        bench.ready(an_emission("song"), an_emission("siren", at_ms=START + 10 * SECOND, rank=a_rank(Level.EMERGENCY)))
        bench.advance(3 * MINUTE)
        assert self.song_of(bench).interruptions is None
        assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.MEDIA_MISSING]

    def test_content_known_to_be_undecodable_cuts_nothing(self) -> None:
        bench = Bench()
        bench.ready(an_emission("song"), an_emission("siren", at_ms=START + 10 * SECOND, rank=a_rank(Level.EMERGENCY)))
        bench.feed(inputs.MediaUnreadable(sha256=a_file("siren").sha256, detail="no samples in it"))
        bench.advance(3 * MINUTE)
        assert self.song_of(bench).interruptions is None
        assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.MEDIA_CORRUPT]

    def test_undecodable_content_gives_the_slot_back(self) -> None:
        bench = Bench(corrupt={a_file("siren").sha256})
        bench.ready(an_emission("song"), an_emission("siren", at_ms=START + 10 * SECOND, rank=a_rank(Level.EMERGENCY)))
        bench.advance(3 * MINUTE)
        song = self.song_of(bench)
        # The decoder is asked, fails at once, and the song goes on.
        assert (song.outcome, song.sounded_ms) == (PlayOutcome.COMPLETED, 30 * SECOND)
        assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.MEDIA_CORRUPT]


class TestPlanReplaced:
    def test_what_sounds_goes_on_when_the_new_plan_still_holds_it(self) -> None:
        bench = Bench()
        news = an_emission()
        bench.ready(news)
        bench.until(START + 10 * SECOND)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(news, an_emission("song", at_ms=START + DAY), serial=2)))
        bench.advance(2 * MINUTE)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms, ended.interruptions) == (PlayOutcome.COMPLETED, 30 * SECOND, None)

    def test_what_sounds_stops_when_the_new_plan_does_not(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.until(START + 10 * SECOND)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2)))
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.STOPPED, 10 * SECOND)

    def test_what_began_again_sounds_beyond_its_slot_though_newer_plans_no_longer_hold_it(self) -> None:
        bench = Bench()
        song = an_emission("song", resume=ResumePolicy.RESTART)
        siren = an_emission("siren", at_ms=START + 5 * SECOND, duration_ms=5 * SECOND, rank=a_rank(Level.EMERGENCY))
        bench.ready(song, siren)
        bench.until(START + 35 * SECOND)  # five seconds after the slot, five seconds before the end
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2, at_ms=bench.at_ms)))
        bench.advance(MINUTE)
        ended = next(each for each in bench.told_of(PlayEnded) if each.media == a_file("song").sha256)
        assert (ended.outcome, ended.ended_at_ms) == (PlayOutcome.COMPLETED, START + 40 * SECOND)

    def test_a_device_whose_clock_is_behind_still_comes_to_what_a_newer_plan_takes_for_over(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        issued_ms = START + 90 * SECOND  # a minute after the slot, and by the device's clock before it
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2, at_ms=issued_ms)))
        bench.advance(3 * MINUTE)
        (ended,) = bench.told_of(PlayEnded)
        assert ended.outcome is PlayOutcome.COMPLETED

    def test_withdrawn_emission_that_has_not_begun_leaves_no_trace(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=2)))
        bench.advance(2 * MINUTE)
        assert bench.told_of(PlayStarted) == []
        assert bench.told_of(PlayMissed) == []

    def test_what_was_played_is_not_played_again_by_a_newer_plan(self) -> None:
        bench = Bench(media_ms={NEWS: 5 * SECOND})
        news = an_emission()
        bench.ready(news)
        bench.until(START + 10 * SECOND)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(news, serial=2)))
        bench.power_cut(SECOND)
        bench.advance(2 * MINUTE)
        assert len(bench.told_of(PlayStarted)) == 1
        assert bench.told_of(PlayMissed) == []

    def test_what_sounds_goes_on_when_the_clock_is_set_back_before_its_start(self) -> None:
        bench = Bench(media_ms={NEWS: 30 * SECOND})
        bench.ready(an_emission())
        bench.until(START)
        bench.at_ms -= 10  # an everyday correction
        bench.feed(inputs.ClockSet(previous=ClockState.SYNCHRONISED, step_ms=-10))
        bench.advance(2 * MINUTE)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.COMPLETED, 30 * SECOND)

    def test_what_was_played_is_not_played_again_when_the_clock_is_set_back(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.advance(2 * MINUTE)
        bench.at_ms -= 90 * SECOND  # still above the floor and its tolerance
        bench.feed(inputs.ClockSet(previous=ClockState.SYNCHRONISED, step_ms=-90 * SECOND))
        bench.advance(5 * MINUTE)
        assert len(bench.told_of(PlayStarted)) == 1


class TestPowerCut:
    def test_reboot_within_the_slot_joins_in_progress(self) -> None:
        bench = Bench()
        bench.ready(an_emission(latest_ms=START))  # it has started: the latest start is behind it
        bench.until(START + 10 * SECOND)
        bench.power_cut(5 * SECOND)
        bench.advance(2 * MINUTE)
        assert len(bench.told_of(PlayStarted)) == 1
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.interruptions) == (PlayOutcome.COMPLETED, 1)
        # Nobody wrote down what sounded before the cut, so only the last 15 seconds are claimed.
        assert (ended.sounded_ms, ended.samples) == (15 * SECOND, 15 * RATE)

    def test_off_for_the_rest_of_the_slot_has_failed(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.until(START + 10 * SECOND)
        bench.power_cut(MINUTE)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.FAILED, 0)
        assert ended.ended_at_ms <= START + 10 * SECOND

    def test_orderly_stop_keeps_what_sounded(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.until(START + 10 * SECOND)
        bench.feed(inputs.PoweringOff())
        assert bench.parts == {}
        bench.power_cut(5 * SECOND)
        bench.advance(2 * MINUTE)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms, ended.interruptions) == (PlayOutcome.COMPLETED, 25 * SECOND, 1)

    def test_tells_when_it_was_last_up(self) -> None:
        bench = Bench()
        bench.ready()
        bench.advance(10 * MINUTE)
        last = bench.at_ms
        bench.power_cut(DAY)
        (booted,) = bench.told_of(Booted)
        assert booted.reason is BootReason.POWER_ON
        assert booted.last_up_at_ms is not None
        assert last - 31 * SECOND <= booted.last_up_at_ms <= last


class TestVolume:
    @pytest.mark.parametrize(
        ("emission", "override", "expected"),
        [
            pytest.param(None, None, 60, id="as_configured"),
            pytest.param(35, None, 35, id="as_the_emission_says"),
            pytest.param(100, None, 80, id="never_above_the_cap"),
            pytest.param(None, 25, 25, id="as_commanded"),
            pytest.param(None, 95, 80, id="command_above_the_cap"),
            pytest.param(35, 25, 35, id="the_emission_says_more_than_the_command"),
        ],
    )
    def test_of_a_play(self, emission: int | None, override: int | None, expected: int) -> None:
        bench = Bench()
        bench.ready(an_emission(volume=emission))
        if override is not None:
            bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SET_VOLUME, volume_percent=override)))
        bench.advance(2 * MINUTE)
        assert [event.volume_percent for event in bench.told_of(PlayStarted)] == [expected]

    def test_command_holds_until_the_next_configuration(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SET_VOLUME, volume_percent=25)))
        bench.receive(DownlinkKind.CONFIG, signed(a_configuration(serial=2, volume=70)))
        bench.advance(2 * MINUTE)
        assert [event.volume_percent for event in bench.told_of(PlayStarted)] == [70]

    def test_turned_to_zero_stops_what_sounds(self) -> None:
        bench = Bench()
        bench.ready(an_emission())
        bench.until(START + 10 * SECOND)
        bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SET_VOLUME, volume_percent=0)))
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.STOPPED, 10 * SECOND)


class TestBoard:
    def test_text_is_shown_for_its_time_and_rests_on_no_samples(self) -> None:
        bench = Bench(DeviceKind.BOARD)
        bench.ready(an_emission(content=ContentKind.TICKER, media=None, text="Nước sông đang lên"))
        bench.advance(2 * MINUTE)
        (started,) = bench.told_of(PlayStarted)
        assert (started.volume_percent, started.media) == (None, None)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms, ended.samples) == (PlayOutcome.COMPLETED, 30 * SECOND, None)

    def test_image_needs_its_file(self) -> None:
        bench = Bench(DeviceKind.BOARD, delivers=False)
        bench.ready(an_emission(content=ContentKind.IMAGE))
        bench.advance(2 * MINUTE)
        assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.MEDIA_MISSING]


def test_first_sample_that_never_comes_is_not_reported_as_a_play() -> None:
    bench = Bench(decodes=False)
    bench.ready(an_emission())
    bench.advance(2 * MINUTE)
    assert bench.told_of(PlayStarted) == []
    assert bench.told_of(PlayEnded) == []
    assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.TOO_LATE]


def test_keys_after_the_plan_make_it_readable() -> None:
    bench = Bench()
    bench.feed(inputs.Connected())
    bench.receive(DownlinkKind.PLAN, signed(a_plan(an_emission())))
    bench.receive(DownlinkKind.CONFIG, signed(a_configuration()))
    assert bench.events == []
    bench.receive(DownlinkKind.KEYS, signed(a_key_set()))
    bench.advance(2 * MINUTE)
    assert [event.outcome for event in bench.told_of(PlayEnded)] == [PlayOutcome.COMPLETED]
