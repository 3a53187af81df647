"""Relays: the source while it has sound, the fallback while it has none, and never dead air that nobody is told of."""

from __future__ import annotations

import pytest

from firmware_sim import effects, inputs
from firmware_sim.trust import Refusal
from schemas.commands import Action
from schemas.events import (
    MessageKind,
    MissReason,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
    RefusalReason,
    Refused,
)
from schemas.fields import ClockState, DeviceKind, Level, ResumePolicy
from schemas.plans import ContentKind
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    MINUTE,
    RATE,
    SECOND,
    T0,
    Bench,
    a_command,
    a_configuration,
    a_file,
    a_plan,
    a_rank,
    a_relay,
    an_emission,
    signed,
)

START = T0 + 2 * MINUTE
VOV = a_relay("vov")
SONG = a_file("song").sha256
URL = f"http://media.test/media/{VOV.path}"


def parts(bench: Bench) -> list[tuple[ContentKind, bytes | None, int]]:
    """What the player was asked to put out, with the position."""
    return [(e.content, e.media, e.position_ms) for e in bench.told if isinstance(e, effects.StartPlayback)]


def a_bench(**fields: object) -> Bench:
    """A cluster with a relay of half a minute in its plan, whose source has sound unless told otherwise."""
    bench = Bench(sounding={VOV.source_id})
    emission = an_emission("relay", at_ms=START, relay=VOV, **fields)  # type: ignore[arg-type]
    bench.ready(emission)
    return bench


def only_end(bench: Bench) -> PlayEnded:
    (ended,) = bench.told_of(PlayEnded)
    return ended


def test_source_is_sounded_for_the_whole_slot() -> None:
    bench = a_bench()
    bench.advance(5 * MINUTE)
    (started,) = bench.told_of(PlayStarted)
    assert (started.started_at_ms, started.media) == (START, None)
    ended = only_end(bench)
    assert (ended.outcome, ended.sounded_ms, ended.samples) == (PlayOutcome.COMPLETED, 30 * SECOND, 30 * RATE)
    assert (ended.fallback_ms, ended.interruptions, ended.media) == (None, None, None)
    (start,) = [each for each in bench.told if isinstance(each, effects.StartPlayback)]
    assert (start.relay, start.content) == (VOV, ContentKind.RELAY)


def test_source_is_listened_to_a_minute_ahead_and_no_longer_than_needed() -> None:
    bench = a_bench()
    bench.until(START - MINUTE - 1)
    assert bench.tuned == {}
    bench.until(START - MINUTE)
    assert bench.tuned == {VOV.source_id: URL}
    bench.until(START + 30 * SECOND)
    assert bench.tuned == {}


def test_direct_source_is_taken_from_its_own_address() -> None:
    direct = a_relay("abroad", url="http://radio.test/stream")
    bench = Bench(sounding={direct.source_id})
    bench.ready(an_emission("relay", at_ms=START, relay=direct))
    bench.until(START)
    assert bench.tuned == {direct.source_id: "http://radio.test/stream"}
    bench.advance(MINUTE)
    assert only_end(bench).outcome is PlayOutcome.COMPLETED


def test_another_media_address_is_listened_to_at_once() -> None:
    bench = a_bench()
    bench.until(START + SECOND)
    config = a_configuration(serial=2, media_base_url="https://other.test/m/")
    bench.receive(DownlinkKind.CONFIG, signed(config))
    assert bench.tuned == {VOV.source_id: f"https://other.test/m/{VOV.path}"}
    # It has sound from there, and goes on.
    bench.advance(MINUTE)
    assert (only_end(bench).outcome, only_end(bench).interruptions) == (PlayOutcome.COMPLETED, 1)


def test_silent_source_without_fallback_is_missed() -> None:
    bench = a_bench()
    bench.source(VOV, sounds=False)
    bench.advance(5 * MINUTE)
    assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.SOURCE_SILENT]
    assert bench.told_of(PlayStarted) == []


def test_relay_without_any_sound_cuts_nobody() -> None:
    bench = Bench()
    song = an_emission("song", at_ms=START, duration_ms=MINUTE)
    relay = an_emission("relay", at_ms=START + 10 * SECOND, relay=VOV, rank=a_rank(Level.PRIORITY))
    bench.ready(song, relay)
    bench.advance(5 * MINUTE)
    ended = only_end(bench)
    assert (ended.reference, ended.interruptions, ended.sounded_ms) == (song.reference, None, MINUTE)
    assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.SOURCE_SILENT]


def test_relay_cuts_as_soon_as_it_has_sound() -> None:
    bench = Bench()
    song = an_emission("song", at_ms=START, duration_ms=MINUTE)
    relay = an_emission("relay", at_ms=START + 10 * SECOND, relay=VOV, rank=a_rank(Level.PRIORITY))
    bench.ready(song, relay)
    bench.until(START + 20 * SECOND)
    bench.source(VOV, sounds=True)
    bench.advance(5 * MINUTE)
    relayed, cut = bench.told_of(PlayEnded)
    assert (relayed.reference, relayed.started_at_ms) == (relay.reference, START + 20 * SECOND)
    assert (cut.cut_by, cut.sounded_ms, cut.outcome) == (relay.reference, 40 * SECOND, PlayOutcome.COMPLETED)


class TestFallback:
    def test_fills_in_from_the_start_and_in_step(self) -> None:
        bench = a_bench(fallback="song")
        bench.media_ms = {SONG: 8 * SECOND}
        bench.source(VOV, sounds=False)
        bench.until(START + 10 * SECOND)
        bench.source(VOV, sounds=True)
        bench.advance(MINUTE)
        assert parts(bench) == [
            (ContentKind.AUDIO, SONG, 0),
            (ContentKind.AUDIO, SONG, 0),  # again from its beginning: never dead air
            (ContentKind.RELAY, None, 10 * SECOND),
        ]
        ended = only_end(bench)
        assert (ended.outcome, ended.sounded_ms, ended.fallback_ms) == (
            PlayOutcome.COMPLETED,
            30 * SECOND,
            10 * SECOND,
        )
        assert (ended.samples, ended.interruptions) == (30 * RATE, None)
        assert len(bench.told_of(PlayStarted)) == 1

    def test_round_that_ends_with_the_slot_has_not_failed(self) -> None:
        bench = a_bench(fallback="song")
        bench.media_ms = {SONG: 10 * SECOND}
        bench.source(VOV, sounds=False)
        bench.advance(5 * MINUTE)
        ended = only_end(bench)
        assert (ended.outcome, ended.fallback_ms) == (PlayOutcome.COMPLETED, 30 * SECOND)

    def test_joins_where_it_would_be_by_now(self) -> None:
        bench = Bench(sounding={VOV.source_id}, media_ms={SONG: 8 * SECOND})
        file = a_file("song").model_copy(update={"duration_ms": 8 * SECOND})
        bench.ready(an_emission("relay", at_ms=START, relay=VOV, fallback="song"), files=(file,))
        bench.until(START + 11 * SECOND)
        bench.source(VOV, sounds=False)
        bench.until(START + 15 * SECOND)
        bench.source(VOV, sounds=True)
        bench.until(START + 20 * SECOND)
        bench.source(VOV, sounds=False)
        bench.advance(MINUTE)
        assert [(media, position_ms) for _, media, position_ms in parts(bench)] == [
            (None, 0),
            (SONG, 3 * SECOND),
            (None, 15 * SECOND),
            (SONG, 4 * SECOND),
            (SONG, 0),  # at 24 s, the end of its third round
        ]
        assert (only_end(bench).sounded_ms, only_end(bench).fallback_ms) == (30 * SECOND, 14 * SECOND)

    @pytest.mark.parametrize("trouble", ["missing", "corrupt"])
    def test_that_is_not_at_hand_fills_nothing(self, trouble: str) -> None:
        bench = a_bench(fallback="song") if trouble == "corrupt" else Bench(delivers=False)
        if trouble == "corrupt":
            bench.corrupt = {SONG}
        else:
            bench.ready(an_emission("relay", at_ms=START, relay=VOV, fallback="song"))
        bench.source(VOV, sounds=False)
        bench.advance(5 * MINUTE)
        assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.SOURCE_SILENT]
        assert bench.told_of(PlayStarted) == []

    def test_without_a_single_sample_is_not_begun_for_ever(self) -> None:
        bench = a_bench(fallback="song")
        bench.media_ms = {SONG: 0}
        bench.until(START + 10 * SECOND)
        bench.source(VOV, sounds=False)
        bench.advance(MINUTE)
        ended = only_end(bench)
        assert (ended.outcome, ended.sounded_ms, ended.fallback_ms) == (PlayOutcome.FAILED, 10 * SECOND, None)
        assert len(parts(bench)) == 2

    def test_ranks_like_the_relay_it_fills_in_for(self) -> None:
        bench = Bench()
        song = an_emission("other", at_ms=START, duration_ms=MINUTE)
        relay = an_emission("relay", at_ms=START + 10 * SECOND, relay=VOV, fallback="song", rank=a_rank(Level.PRIORITY))
        bench.ready(song, relay)
        bench.advance(5 * MINUTE)
        relayed, cut = bench.told_of(PlayEnded)
        assert (relayed.reference, relayed.fallback_ms) == (relay.reference, 30 * SECOND)
        assert (cut.reference, cut.cut_by) == (song.reference, relay.reference)

    def test_is_fetched_with_the_plan(self) -> None:
        bench = a_bench(fallback="song")
        assert SONG in bench.stored


class TestSourceFallsSilent:
    def test_without_fallback_the_rest_is_free_and_the_relay_comes_back(self) -> None:
        bench = a_bench()
        bench.until(START + 10 * SECOND)
        bench.source(VOV, sounds=False)
        assert bench.parts == {}
        bench.until(START + 15 * SECOND)
        bench.source(VOV, sounds=True)
        bench.advance(MINUTE)
        ended = only_end(bench)
        assert (ended.outcome, ended.sounded_ms, ended.interruptions) == (PlayOutcome.COMPLETED, 25 * SECOND, 1)
        assert ended.cut_by is None

    def test_for_good_has_failed(self) -> None:
        bench = a_bench()
        bench.until(START + 10 * SECOND)
        bench.source(VOV, sounds=False)
        bench.advance(MINUTE)
        ended = only_end(bench)
        assert (ended.outcome, ended.sounded_ms, ended.ended_at_ms) == (
            PlayOutcome.FAILED,
            10 * SECOND,
            START + 10 * SECOND,
        )
        assert bench.state.last_error is not None
        assert "silent" in bench.state.last_error

    def test_lets_what_ranks_below_sound(self) -> None:
        bench = Bench(sounding={VOV.source_id})
        relay = an_emission("relay", at_ms=START, relay=VOV, duration_ms=MINUTE, rank=a_rank(Level.PRIORITY))
        song = an_emission("song", at_ms=START, duration_ms=MINUTE)
        bench.ready(relay, song)
        bench.until(START + 10 * SECOND)
        bench.source(VOV, sounds=False)
        bench.until(START + 40 * SECOND)
        bench.source(VOV, sounds=True)
        bench.advance(5 * MINUTE)
        relayed, sung = sorted(bench.told_of(PlayEnded), key=lambda each: each.media is not None)
        assert (relayed.sounded_ms, relayed.interruptions, relayed.cut_by) == (30 * SECOND, 1, None)
        assert (sung.sounded_ms, sung.started_at_ms, sung.outcome) == (
            30 * SECOND,
            START + 10 * SECOND,
            PlayOutcome.CUT,
        )

    def test_after_a_cut_it_is_the_silence_that_ended_it(self) -> None:
        bench = Bench(sounding={VOV.source_id})
        relay = an_emission("relay", at_ms=START, relay=VOV, duration_ms=MINUTE, resume=ResumePolicy.RESTART)
        siren = an_emission("siren", at_ms=START + 10 * SECOND, duration_ms=10 * SECOND, rank=a_rank(Level.EMERGENCY))
        bench.ready(relay, siren)
        bench.until(START + 30 * SECOND)
        bench.source(VOV, sounds=False)
        bench.advance(5 * MINUTE)
        relayed = bench.told_of(PlayEnded)[1]
        # A source cannot be restarted: it came back where it was by then.
        assert (relayed.sounded_ms, relayed.interruptions, relayed.outcome) == (20 * SECOND, 2, PlayOutcome.FAILED)

    def test_before_its_first_sample_is_no_play(self) -> None:
        bench = a_bench()
        bench.decodes = False
        bench.until(START + 10 * SECOND)
        bench.source(VOV, sounds=False)
        bench.advance(MINUTE)
        assert not bench.told_of(PlayStarted)
        assert not bench.told_of(PlayEnded)
        assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.SOURCE_SILENT]

    def test_its_end_is_silence_too(self) -> None:
        bench = a_bench(fallback="song")
        bench.until(START + 10 * SECOND)
        (token,) = bench.parts
        bench.feed(inputs.PlaybackFinished(token=token, figures=bench._figures(token)))
        bench.advance(MINUTE)
        assert (only_end(bench).sounded_ms, only_end(bench).fallback_ms) == (30 * SECOND, 20 * SECOND)

    def test_a_decoder_that_gives_up_on_it_is_silence_too(self) -> None:
        bench = a_bench(fallback="song")
        bench.until(START + 10 * SECOND)
        (token,) = bench.parts
        bench.feed(inputs.PlaybackBroke(token=token, figures=bench._figures(token), detail="not decodable"))
        bench.advance(MINUTE)
        assert (only_end(bench).sounded_ms, only_end(bench).fallback_ms) == (30 * SECOND, 20 * SECOND)
        assert bench.state.shelf.corrupt == frozenset()


class TestPlanReplaced:
    def test_another_source_is_another_content(self) -> None:
        bench = a_bench()
        bench.until(START + 10 * SECOND)
        other = an_emission("relay", at_ms=START, relay=a_relay("province"))
        bench.receive(DownlinkKind.PLAN, signed(a_plan(other, serial=2)))
        assert (only_end(bench).outcome, only_end(bench).sounded_ms) == (PlayOutcome.STOPPED, 10 * SECOND)

    def test_the_same_source_goes_on(self) -> None:
        bench = a_bench()
        bench.until(START + 10 * SECOND)
        same = an_emission("relay", at_ms=START, relay=VOV, fallback="song")
        bench.receive(DownlinkKind.PLAN, signed(a_plan(same, serial=2)))
        bench.until(START + 20 * SECOND)
        bench.source(VOV, sounds=False)
        bench.advance(MINUTE)
        assert (only_end(bench).outcome, only_end(bench).fallback_ms) == (PlayOutcome.COMPLETED, 10 * SECOND)


def test_reboot_joins_in_progress() -> None:
    bench = a_bench(fallback="song")
    bench.until(START + 5 * SECOND)
    bench.source(VOV, sounds=False)
    bench.until(START + 10 * SECOND)
    bench.feed(inputs.PoweringOff())
    assert bench.tuned == {}
    bench.power_cut(5 * SECOND)
    bench.source(VOV, sounds=True)
    bench.advance(MINUTE)
    ended = only_end(bench)
    assert (ended.outcome, ended.sounded_ms, ended.fallback_ms) == (PlayOutcome.COMPLETED, 25 * SECOND, 5 * SECOND)
    assert len(bench.told_of(PlayStarted)) == 1


def test_silence_stops_a_relay_like_everything_else() -> None:
    bench = a_bench(fallback="song")
    bench.until(START + 10 * SECOND)
    bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SILENCE, at_ms=bench.at_ms)))
    assert (only_end(bench).outcome, only_end(bench).sounded_ms) == (PlayOutcome.STOPPED, 10 * SECOND)
    assert bench.parts == {}


def test_device_without_the_time_listens_to_nothing() -> None:
    bench = Bench(sounding={VOV.source_id}, clock=ClockState.UNSYNCHRONISED)
    bench.ready(an_emission("relay", at_ms=START, relay=VOV))
    bench.until(START + SECOND)
    assert bench.tuned == {}


def test_board_cannot_put_out_a_relay() -> None:
    bench = Bench(DeviceKind.BOARD, sounding={VOV.source_id})
    bench.ready(an_emission("relay", at_ms=START, relay=VOV))
    bench.advance(5 * MINUTE)
    assert [event.reason for event in bench.told_of(PlayMissed)] == [MissReason.UNSUPPORTED]


def test_refused_list_is_a_security_event_that_names_the_source() -> None:
    bench = a_bench()
    bench.until(START)
    refusal = Refusal(reason=RefusalReason.BAD_SIGNATURE)
    bench.feed(inputs.SourceRefused(source_id=VOV.source_id, kind=MessageKind.SEGMENTS, refusal=refusal))
    (refused,) = bench.told_of(Refused)
    assert (refused.refused, refused.reason) == (MessageKind.SEGMENTS, RefusalReason.BAD_SIGNATURE)
    assert str(VOV.source_id) in (refused.detail or "")


def test_samples_of_parts_with_different_rates_are_counted_at_one() -> None:
    bench = a_bench(fallback="song")
    bench.until(START + 10 * SECOND)
    (token,) = bench.parts
    figures = bench._figures(token)
    assert figures.samples is not None
    slower = type(figures)(sounded_ms=figures.sounded_ms, samples=figures.samples // 2, sample_rate_hz=RATE // 2)
    bench.feed(inputs.PlaybackFinished(token=token, figures=slower))
    bench.advance(MINUTE)
    ended = only_end(bench)
    assert ended.samples is not None
    assert ended.sample_rate_hz is not None
    assert ended.samples * 1_000 // ended.sample_rate_hz == ended.sounded_ms == 30 * SECOND
