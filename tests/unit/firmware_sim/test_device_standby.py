"""When the plan has run out and no newer one came: the device says so once, and sounds its configuration's fallback."""

from __future__ import annotations

import pytest

from firmware_sim import effects, inputs, standby
from schemas.commands import Action
from schemas.events import PlanExpired, PlayEnded, PlayMissed, PlayOutcome, PlayStarted
from schemas.fields import ClockState, DeviceKind, PlayReference, PlaySource
from schemas.heartbeats import ClusterHeartbeat
from schemas.plans import ContentKind
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    DAY,
    MINUTE,
    SECOND,
    T0,
    Bench,
    a_command,
    a_configuration,
    a_fallback,
    a_file,
    a_plan,
    a_rank,
    an_emission,
    signed,
)

MIDNIGHT = T0 // DAY * DAY
HOUR = 3_600 * SECOND
AT_S = (5 * 3_600, 17 * 3_600)
NOTICE = a_fallback(*AT_S)
LENGTHS = {NOTICE.media.sha256: 20 * SECOND}
BY_FALLBACK = PlayReference(source=PlaySource.FALLBACK, id=NOTICE.fallback_id)


@pytest.mark.parametrize(
    ("at_s", "now_s", "latest_s", "next_s"),
    [
        pytest.param((3_600,), 0, 3_600 - 86_400, 3_600, id="before_the_first"),
        pytest.param((3_600,), 3_600, 3_600, 3_600 + 86_400, id="at_it"),
        pytest.param((3_600,), 3_599.999, 3_600 - 86_400, 3_600, id="a_moment_before"),
        pytest.param((0,), 86_399, 0, 86_400, id="midnight"),
        pytest.param((7_200, 3_600), 5_000, 3_600, 7_200, id="between_two_in_any_order"),
        pytest.param((3_600, 3_600), 4_000, 3_600, 3_600 + 86_400, id="named_twice"),
        pytest.param((86_399,), 86_399.5, 86_399, 86_399 + 86_400, id="last_second"),
    ],
)
def test_times_of_a_fallback(at_s: tuple[int, ...], now_s: float, latest_s: int, next_s: int) -> None:
    fallback, now_ms = a_fallback(*at_s), MIDNIGHT + round(now_s * 1_000)
    assert standby.latest_ms(fallback, now_ms) == MIDNIGHT + latest_s * 1_000
    assert standby.next_ms(fallback, now_ms) == MIDNIGHT + next_s * 1_000


def a_bench(kind: DeviceKind = DeviceKind.CLUSTER, *, valid_for_ms: int = DAY, fallback: object = NOTICE) -> Bench:
    """A device with a plan of one emission, valid for a day, and a fallback at 5:00 and 17:00 UTC."""
    bench = Bench(kind, media_ms=dict(LENGTHS), at_ms=MIDNIGHT, leaps=True)
    bench.ready(an_emission(at_ms=MIDNIGHT + 6 * HOUR), valid_for_ms=valid_for_ms)
    config = a_configuration(at_ms=MIDNIGHT, serial=2, fallback=fallback)  # type: ignore[arg-type]
    bench.receive(DownlinkKind.CONFIG, signed(config))
    bench.feed(inputs.Disconnected())
    return bench


class TestExpiry:
    def test_is_told_once_when_it_comes(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY - 1)
        assert bench.told_of(PlanExpired) == []
        bench.until(MIDNIGHT + DAY)
        bench.advance(3 * DAY)
        (expired,) = bench.told_of(PlanExpired)
        assert (expired.serial, expired.valid_until_ms, expired.device_at_ms) == (
            1,
            MIDNIGHT + DAY,
            MIDNIGHT + DAY,
        )

    def test_is_not_told_again_by_a_reboot(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + HOUR)
        bench.power_cut(MINUTE)
        bench.advance(HOUR)
        assert len(bench.told_of(PlanExpired)) == 1

    def test_is_told_after_a_reboot_that_slept_through_it(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY - HOUR)
        bench.power_cut(2 * HOUR)
        assert len(bench.told_of(PlanExpired)) == 1

    def test_is_told_anew_for_the_next_plan(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + HOUR)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(at_ms=bench.at_ms, serial=2, valid_for_ms=DAY)))
        bench.advance(2 * DAY)
        assert [each.serial for each in bench.told_of(PlanExpired)] == [1, 2]

    def test_newer_plan_in_time_is_no_expiry(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY - HOUR)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(at_ms=bench.at_ms, serial=2)))
        bench.advance(2 * DAY)
        assert bench.told_of(PlanExpired) == []

    def test_is_not_known_without_the_time(self) -> None:
        bench = a_bench()
        bench.clock = ClockState.UNSYNCHRONISED
        bench.until(MIDNIGHT + 2 * DAY)
        assert bench.told_of(PlanExpired) == []
        bench.clock = ClockState.SYNCHRONISED
        bench.feed(inputs.ClockSet(previous=ClockState.UNSYNCHRONISED))
        assert len(bench.told_of(PlanExpired)) == 1

    def test_device_that_never_had_a_plan_has_none_to_run_out(self) -> None:
        bench = Bench(at_ms=MIDNIGHT, media_ms=dict(LENGTHS), leaps=True)
        bench.ready()
        bench.receive(DownlinkKind.CONFIG, signed(a_configuration(at_ms=MIDNIGHT, serial=2, fallback=NOTICE)))
        bench.feed(inputs.Disconnected())
        bench.advance(3 * DAY)
        assert bench.told_of(PlanExpired) == []
        assert bench.told_of(PlayStarted) == []

    def test_heartbeats_say_so_until_a_newer_plan_is_there(self) -> None:
        bench = a_bench()

        def trouble() -> str | None:
            bench.feed(inputs.Connected())
            bench.advance(MINUTE)
            beats = [each.message for each in bench.told if isinstance(each, effects.Send)]
            assert isinstance(beats[-1], ClusterHeartbeat)
            bench.feed(inputs.Disconnected())
            return beats[-1].last_error

        assert trouble() is None
        bench.until(MIDNIGHT + DAY)
        assert trouble() == "plan 1 has run out; no newer one came"
        bench.receive(DownlinkKind.PLAN, signed(a_plan(at_ms=bench.at_ms, serial=2)))
        assert trouble() is None

    def test_emission_that_had_begun_sounds_to_its_end(self) -> None:
        bench = a_bench(valid_for_ms=6 * HOUR + 10 * SECOND)
        bench.until(MIDNIGHT + 7 * HOUR)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.outcome, ended.sounded_ms) == (PlayOutcome.COMPLETED, 30 * SECOND)


class TestFallback:
    def fallbacks(self, bench: Bench) -> list[tuple[int, int, PlayOutcome]]:
        return [
            (each.started_at_ms - MIDNIGHT, each.sounded_ms, each.outcome)
            for each in bench.told_of(PlayEnded)
            if each.reference == BY_FALLBACK
        ]

    def test_sounds_at_its_times_and_only_when_the_plan_has_run_out(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + 3 * DAY)
        assert self.fallbacks(bench) == [
            (day * DAY + at_s * 1_000, 20 * SECOND, PlayOutcome.COMPLETED) for day in (1, 2) for at_s in AT_S
        ]
        # It is told like any play, and nothing of it is ever missed.
        starts = [each for each in bench.told_of(PlayStarted) if each.reference == BY_FALLBACK]
        assert [(each.media, each.volume_percent) for each in starts] == [(NOTICE.media.sha256, 60)] * 4
        assert bench.told_of(PlayMissed) == []

    def test_sounds_at_the_instant_the_plan_ends(self) -> None:
        bench = a_bench(valid_for_ms=17 * HOUR)
        bench.until(MIDNIGHT + 18 * HOUR)
        assert [begun for begun, _, _ in self.fallbacks(bench)] == [17 * HOUR]

    def test_time_at_which_the_plan_still_held_is_the_plans(self) -> None:
        bench = a_bench(valid_for_ms=17 * HOUR + 10 * SECOND)
        bench.until(MIDNIGHT + 18 * HOUR)
        assert self.fallbacks(bench) == []

    def test_is_fetched_long_before_it_is_needed(self) -> None:
        bench = a_bench()
        assert NOTICE.media.sha256 in bench.stored
        bench.receive(DownlinkKind.PLAN, signed(a_plan(at_ms=bench.at_ms, serial=2)))
        assert NOTICE.media.sha256 in bench.stored

    def test_without_its_media_is_silence_that_the_heartbeat_tells(self) -> None:
        bench = Bench(at_ms=MIDNIGHT, delivers=False, leaps=True)
        bench.ready(an_emission(at_ms=MIDNIGHT + 6 * HOUR), valid_for_ms=DAY)
        bench.receive(DownlinkKind.CONFIG, signed(a_configuration(at_ms=MIDNIGHT, serial=2, fallback=NOTICE)))
        bench.feed(inputs.Disconnected())
        bench.until(MIDNIGHT + 3 * DAY)
        assert self.fallbacks(bench) == []
        assert all(each.reference != BY_FALLBACK for each in bench.told_of(PlayMissed))

    def test_ranks_below_everything(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR + 5 * SECOND)
        bench.feed(inputs.Connected())
        command = a_command(Action.PLAY, at_ms=bench.at_ms, media=a_file("song"), rank=a_rank(), duration_ms=40_000)
        bench.receive(DownlinkKind.COMMAND, signed(command))
        bench.advance(HOUR)
        # Cut for good: a notice is not resumed, and not begun again behind its time.
        assert self.fallbacks(bench) == [(DAY + 5 * HOUR, 5 * SECOND, PlayOutcome.CUT)]

    def test_waits_a_moment_for_what_sounds_at_its_time(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR - 10 * SECOND)
        bench.feed(inputs.Connected())
        command = a_command(Action.PLAY, at_ms=bench.at_ms, media=a_file("song"), rank=a_rank(), duration_ms=20_000)
        bench.receive(DownlinkKind.COMMAND, signed(command))
        bench.advance(HOUR)
        assert self.fallbacks(bench) == [(DAY + 5 * HOUR + 10 * SECOND, 20 * SECOND, PlayOutcome.COMPLETED)]

    def test_is_not_caught_up_on(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR - MINUTE)
        bench.power_cut(2 * MINUTE)
        bench.advance(HOUR)
        assert self.fallbacks(bench) == []

    def test_reboot_in_it_does_not_begin_it_again(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR + 5 * SECOND)
        bench.power_cut(5 * SECOND)
        bench.advance(HOUR)
        assert [outcome for _, _, outcome in self.fallbacks(bench)] == [PlayOutcome.FAILED]

    def test_clock_set_back_does_not_begin_it_again(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR + 25 * SECOND)
        bench.at_ms -= 60 * SECOND
        bench.feed(inputs.ClockSet(previous=ClockState.SYNCHRONISED, step_ms=-60 * SECOND))
        bench.advance(HOUR)
        assert len(self.fallbacks(bench)) == 1

    def test_a_plan_that_comes_in_the_middle_lets_it_end(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR + 5 * SECOND)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(at_ms=bench.at_ms, serial=2)))
        bench.advance(DAY)
        assert self.fallbacks(bench) == [(DAY + 5 * HOUR, 20 * SECOND, PlayOutcome.COMPLETED)]

    def test_emission_of_the_new_plan_cuts_it(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR + 5 * SECOND)
        news = an_emission(at_ms=bench.at_ms - SECOND)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(news, at_ms=bench.at_ms, serial=2)))
        bench.advance(MINUTE)
        (cut,) = [each for each in bench.told_of(PlayEnded) if each.reference == BY_FALLBACK]
        assert (cut.outcome, cut.cut_by) == (PlayOutcome.CUT, news.reference)

    def test_configuration_without_it_ends_it(self) -> None:
        bench = a_bench()
        bench.until(MIDNIGHT + DAY + 5 * HOUR + 5 * SECOND)
        bench.receive(DownlinkKind.CONFIG, signed(a_configuration(at_ms=bench.at_ms, serial=3)))
        assert self.fallbacks(bench) == [(DAY + 5 * HOUR, 5 * SECOND, PlayOutcome.STOPPED)]

    @pytest.mark.parametrize(
        ("mime", "content", "duration_ms", "shown_ms"),
        [
            pytest.param("image/png", ContentKind.IMAGE, None, 60 * SECOND, id="image"),
            pytest.param("image/png", ContentKind.IMAGE, 25 * SECOND, 25 * SECOND, id="image_for_its_time"),
            pytest.param("video/mp4", ContentKind.VIDEO, 25 * SECOND, 25 * SECOND, id="video"),
        ],
    )
    def test_on_a_board(self, mime: str, content: ContentKind, duration_ms: int | None, shown_ms: int) -> None:
        notice = a_fallback(*AT_S, name="poster", mime=mime, duration_ms=duration_ms)
        bench = a_bench(DeviceKind.BOARD, fallback=notice)
        bench.until(MIDNIGHT + DAY + 6 * HOUR)
        shown = [each for each in bench.told_of(PlayEnded) if each.reference.source is PlaySource.FALLBACK]
        assert [(each.sounded_ms, each.outcome) for each in shown] == [(shown_ms, PlayOutcome.COMPLETED)]
        parts = [each.content for each in bench.told if isinstance(each, effects.StartPlayback)]
        assert content in parts

    def test_sound_is_nothing_for_a_board(self) -> None:
        bench = a_bench(DeviceKind.BOARD)
        bench.until(MIDNIGHT + 3 * DAY)
        assert self.fallbacks(bench) == []
