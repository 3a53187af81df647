"""Hard days of a device, whole: its clock, its mains, its line and its media fail, and what it sounds stays explained.

Here in virtual time on the pure core; `tests/integration/firmware/test_hard_days.py` has the same over real shells.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim import clock, effects, faults, inputs
from firmware_sim.clock import DriftingClock
from firmware_sim.journal import CAPACITY, Journal
from schemas import codec
from schemas.events import (
    ClockChanged,
    MediaFailed,
    MissReason,
    PlanExpired,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
)
from schemas.fields import PlayReference, PlaySource
from schemas.plans import Emission
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    DAY,
    MINUTE,
    SECOND,
    T0,
    Bench,
    a_configuration,
    a_fallback,
    a_file,
    a_plan,
    an_emission,
    signed,
)

HOUR = 60 * MINUTE
PPM = 20
START = T0 + HOUR


@dataclass
class Adrift(Bench):
    """A device whose clock is not the true one; it knows only its own, and time is told to it in that."""

    wall: DriftingClock = field(default_factory=lambda: DriftingClock(set_at_ms=T0, shown_ms=T0))

    @property
    def true_ms(self) -> int:
        return self.true_of(self.at_ms)

    def true_of(self, at_ms: int) -> int:
        """The true time at which the clock, as it goes now, shows this one."""
        return self.wall.set_at_ms + round((at_ms - self.wall.shown_ms) / self.wall.speed)

    def until_true(self, true_ms: int) -> None:
        self.until(self.wall.read(true_ms))

    def set_clock(self, wall: DriftingClock) -> None:
        """The clock becomes this one; the device is told by how much it moved."""
        step_ms, previous = wall.read(wall.set_at_ms) - self.at_ms, self.clock
        self.wall, self.clock = wall, wall.state
        self.at_ms += step_ms
        self.feed(inputs.ClockSet(previous=previous, step_ms=step_ms))


def each_ended_once(bench: Bench, planned: list[Emission]) -> None:
    """Every emission has ended in exactly one of two ways, and began at most once."""
    ended = Counter[PlayReference](event.reference for event in bench.told_of(PlayEnded))
    missed = Counter[PlayReference](event.reference for event in bench.told_of(PlayMissed))
    emitted = Counter({key: times for key, times in (ended + missed).items() if key.source is PlaySource.EMISSION})
    assert emitted == Counter(each.reference for each in planned)
    assert Counter(event.reference for event in bench.told_of(PlayStarted)) == ended


def a_day(*, days: int = 1, per_day: int = 6) -> list[Emission]:
    """Emissions of half a minute, evenly over the days, the first an hour from now."""
    step_ms = DAY // per_day
    return [an_emission("news", at_ms=START + number * step_ms) for number in range(days * per_day)]


# --- clocks ----------------------------------------------------------------------------------------------------------


class TestDrift:
    @pytest.mark.parametrize("ppm", [-PPM, 0, PPM])
    def test_starts_are_as_wrong_as_the_clock_and_no_more(self, ppm: int) -> None:
        """Set every hour over a jittery line, a clock is off by its drift of an hour and the error of its setting."""
        draws = random.Random(ppm)
        planned = a_day(per_day=24)
        bench = Adrift(wall=DriftingClock(set_at_ms=T0, shown_ms=T0, ppm=ppm), leaps=True)
        bench.ready(*planned)
        bench.feed(inputs.Disconnected())
        errors_ms: list[int] = []
        for hour in range(1, 26):
            bench.until_true(T0 + hour * HOUR + 30 * MINUTE)
            errors_ms += [
                bench.true_of(event.started_at_ms) - event.reference.occurrence_at_ms
                for event in bench.told_of(PlayStarted)[len(errors_ms) :]
                if event.reference.occurrence_at_ms is not None
            ]
            error_ms = faults.within_ms(20, draws.random())
            bench.set_clock(bench.wall.synchronised(bench.true_ms, error_ms=error_ms))
        assert len(errors_ms) == len(planned)
        assert max(map(abs, errors_ms)) <= PPM * HOUR // 1_000_000 + 20 + 1
        assert bench.told_of(ClockChanged) == [], "everyday synchronisation is no event"
        each_ended_once(bench, planned)

    @pytest.mark.parametrize("ppm", [-PPM, PPM])
    def test_three_days_without_being_set(self, ppm: int) -> None:
        planned = a_day(days=3)
        bench = Adrift(wall=DriftingClock(set_at_ms=T0, shown_ms=T0, ppm=ppm), leaps=True)
        bench.ready(*planned)
        bench.feed(inputs.Disconnected())
        bench.until_true(T0 + 3 * DAY + 2 * HOUR)
        last = bench.told_of(PlayStarted)[-1]
        off_ms = bench.true_of(last.started_at_ms) - planned[-1].starts_at_ms
        assert abs(off_ms + ppm * (planned[-1].starts_at_ms - T0) / 1_000_000) <= 2
        each_ended_once(bench, planned)


class TestJump:
    def session(self) -> tuple[Adrift, list[Emission]]:
        """Three items of five minutes, one after the other."""
        planned = [
            an_emission(name, at_ms=START + item * 5 * MINUTE, duration_ms=5 * MINUTE, item=item)
            for item, name in enumerate(("news", "song", "other"))
        ]
        bench = Adrift(leaps=True)
        bench.ready(*planned)
        bench.feed(inputs.Disconnected())
        bench.until_true(START + MINUTE)
        return bench, planned

    def jump(self, bench: Adrift, by_ms: int) -> None:
        bench.set_clock(bench.wall.stepped(bench.true_ms, by_ms=by_ms))

    def put_right(self, bench: Adrift) -> None:
        bench.set_clock(bench.wall.synchronised(bench.true_ms))

    def test_forward_goes_on_where_the_clock_says(self) -> None:
        bench, planned = self.session()
        self.jump(bench, 10 * MINUTE + 30 * SECOND)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.reference, ended.sounded_ms) == (planned[0].reference, MINUTE)
        assert [(each.reference, each.reason) for each in bench.told_of(PlayMissed)] == [
            (planned[1].reference, MissReason.TOO_LATE)
        ]
        start = [each for each in bench.told if isinstance(each, effects.StartPlayback)][-1]
        assert (start.media, start.position_ms) == (a_file("other").sha256, 90 * SECOND)
        assert [each.step_ms for each in bench.told_of(ClockChanged)] == [10 * MINUTE + 30 * SECOND]

    def test_put_right_again_what_came_too_early_waits_for_its_time(self) -> None:
        bench, planned = self.session()
        self.jump(bench, 10 * MINUTE + 30 * SECOND)
        bench.advance(30 * SECOND)
        self.put_right(bench)
        assert bench.parts == {}
        bench.advance(HOUR)
        early = bench.told_of(PlayEnded)[1]
        assert (early.reference, early.outcome, early.interruptions) == (
            planned[2].reference,
            PlayOutcome.COMPLETED,
            1,
        )
        assert early.sounded_ms == 5 * MINUTE + 30 * SECOND
        assert early.ended_at_ms == planned[2].ends_at_ms
        each_ended_once(bench, planned)

    def test_back_does_not_sound_anything_twice(self) -> None:
        bench, planned = self.session()
        bench.until_true(START + 6 * MINUTE)
        self.jump(bench, -90 * SECOND)
        assert bench.parts == {}, "the second item is not on by this clock"
        bench.until_true(START + 7 * MINUTE)
        self.put_right(bench)
        bench.advance(HOUR)
        assert [each.outcome for each in bench.told_of(PlayEnded)] == [PlayOutcome.COMPLETED] * 3
        each_ended_once(bench, planned)

    @pytest.mark.parametrize("by_ms", [-1_000, -20, 20])
    def test_correction_right_after_the_start_is_not_to_be_heard(self, by_ms: int) -> None:
        bench, planned = self.session()
        bench.until_true(START + 5 * MINUTE)
        self.jump(bench, by_ms)
        bench.advance(HOUR)
        second = bench.told_of(PlayEnded)[1]
        assert (second.reference, second.interruptions) == (planned[1].reference, None)
        assert second.sounded_ms == 5 * MINUTE - by_ms

    @settings(max_examples=100, deadline=None)
    @given(
        jumps=st.lists(
            st.tuples(st.integers(1, 20 * 60), st.integers(-1_200_000, 1_200_000), st.booleans()), max_size=5
        ).map(sorted)
    )
    def test_however_it_jumps_each_ends_once(self, jumps: list[tuple[int, int, bool]]) -> None:
        bench, planned = self.session()
        for after_s, by_ms, is_put_right in jumps:
            if START + after_s * SECOND > bench.true_ms:
                bench.until_true(START + after_s * SECOND)
            if is_put_right:
                self.put_right(bench)
            else:
                self.jump(bench, by_ms)
        self.put_right(bench)
        bench.advance(2 * HOUR)
        each_ended_once(bench, planned)
        assert bench.parts == {}


class TestDeadClock:
    def booted_in_1970(self, *, after_ms: int = 10 * SECOND) -> tuple[Adrift, list[Emission]]:
        """A device whose mains failed a minute into an item of ten, and whose clock has lost the time."""
        planned = [
            an_emission("news", at_ms=START, duration_ms=10 * MINUTE),
            an_emission("song", at_ms=START + 10 * MINUTE, duration_ms=MINUTE, latest_ms=START + 10 * MINUTE),
        ]
        bench = Adrift(leaps=True)
        bench.ready(*planned)
        bench.until_true(START + MINUTE)
        bench.at_ms += after_ms
        lost = clock.lost(bench.true_ms)
        bench.wall, bench.clock, bench.uptime_ms, bench.at_ms = lost, lost.state, 0, 0
        bench.boot()
        return bench, planned

    def test_plays_nothing_by_it(self) -> None:
        bench, _ = self.booted_in_1970()
        bench.feed(inputs.Connected())
        bench.advance(2 * DAY)
        assert bench.parts == {}
        assert bench.told_of(PlayEnded) == []
        assert bench.told_of(PlayMissed) == [], "it does not know that their time has come"
        assert bench.told_of(PlanExpired) == []

    def test_joins_in_progress_once_it_is_told_the_time(self) -> None:
        bench, planned = self.booted_in_1970()
        bench.advance(20 * SECOND)
        bench.set_clock(bench.wall.synchronised(bench.true_ms))
        assert len(bench.parts) == 1
        ((part, _),) = bench.parts.values()
        assert part.position_ms == bench.at_ms - START == 90 * SECOND
        bench.advance(HOUR)
        first, second = bench.told_of(PlayEnded)
        assert (first.outcome, first.interruptions) == (PlayOutcome.COMPLETED, 1)
        assert second.outcome is PlayOutcome.COMPLETED
        each_ended_once(bench, planned)

    def test_what_it_slept_through_is_missed_for_that(self) -> None:
        bench, planned = self.booted_in_1970()
        bench.advance(HOUR)
        bench.set_clock(bench.wall.synchronised(bench.true_ms))
        assert [each.outcome for each in bench.told_of(PlayEnded)] == [PlayOutcome.FAILED]
        assert [(each.reference, each.reason) for each in bench.told_of(PlayMissed)] == [
            (planned[1].reference, MissReason.CLOCK_UNTRUSTED)
        ]


# --- mains -----------------------------------------------------------------------------------------------------------


class TestRebootInASession:
    def test_the_item_under_way_is_joined_and_the_others_are_whole(self) -> None:
        planned = [
            an_emission(name, at_ms=START + item * MINUTE, duration_ms=MINUTE, item=item)
            for item, name in enumerate(("news", "song", "other"))
        ]
        bench = Bench(leaps=True)
        bench.ready(*planned)
        bench.until(START + 90 * SECOND)
        bench.power_cut(10 * SECOND)
        ((part, _),) = bench.parts.values()
        assert (part.media, part.position_ms) == (a_file("song").sha256, 40 * SECOND)
        bench.advance(HOUR)
        assert [(each.sounded_ms, each.outcome, each.interruptions) for each in bench.told_of(PlayEnded)] == [
            (MINUTE, PlayOutcome.COMPLETED, None),
            (20 * SECOND, PlayOutcome.COMPLETED, 1),
            (MINUTE, PlayOutcome.COMPLETED, None),
        ]
        each_ended_once(bench, planned)

    @pytest.mark.parametrize("cuts_s", [(50,), (5, 55, 60, 118), (61, 62, 63), (0, 60, 120, 180)])
    def test_again_and_again(self, cuts_s: tuple[int, ...]) -> None:
        planned = [
            an_emission(name, at_ms=START + item * MINUTE, duration_ms=MINUTE, item=item)
            for item, name in enumerate(("news", "song", "other"))
        ]
        bench = Bench(leaps=True)
        bench.ready(*planned)
        for at_s in cuts_s:
            if START + at_s * SECOND > bench.at_ms:
                bench.until(START + at_s * SECOND)
            bench.power_cut(SECOND)
        bench.advance(HOUR)
        each_ended_once(bench, planned)
        assert all(each.outcome is PlayOutcome.COMPLETED for each in bench.told_of(PlayEnded))


class TestDayBoundary:
    @pytest.mark.parametrize(
        "boundary_ms",
        [
            pytest.param(T0 // DAY * DAY + DAY, id="midnight_utc"),
            pytest.param(T0 // DAY * DAY + 17 * HOUR + DAY, id="midnight_in_viet_nam"),
        ],
    )
    def test_item_over_midnight_is_one_play(self, boundary_ms: int) -> None:
        bench = Bench(leaps=True)
        over = an_emission("news", at_ms=boundary_ms - 5 * MINUTE, duration_ms=10 * MINUTE)
        after = an_emission("song", at_ms=boundary_ms + 5 * MINUTE, duration_ms=MINUTE)
        bench.ready(over, after)
        bench.until(boundary_ms - MINUTE)
        bench.power_cut(2 * MINUTE)  # dark exactly at midnight
        bench.advance(HOUR)
        first, second = bench.told_of(PlayEnded)
        assert (first.reference, first.sounded_ms, first.interruptions) == (over.reference, 4 * MINUTE, 1)
        assert (second.reference, second.sounded_ms) == (after.reference, MINUTE)
        each_ended_once(bench, [over, after])

    def test_new_plan_at_midnight_takes_over_what_sounds(self) -> None:
        midnight = T0 // DAY * DAY + DAY
        bench = Bench(leaps=True)
        over = an_emission("news", at_ms=midnight - 5 * MINUTE, duration_ms=10 * MINUTE)
        bench.ready(over)
        bench.until(midnight)
        bench.receive(DownlinkKind.PLAN, signed(a_plan(over, at_ms=midnight, serial=2)))
        bench.advance(HOUR)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.sounded_ms, ended.interruptions) == (10 * MINUTE, None)


# --- lines and media -------------------------------------------------------------------------------------------------


class TestOffline:
    def test_three_days_are_played_and_told_afterwards(self) -> None:
        planned = a_day(days=3)
        bench = Bench(leaps=True)
        bench.ready(*planned)
        bench.feed(inputs.Disconnected())
        told_before = len(bench.events)
        bench.until(T0 + 3 * DAY + 2 * HOUR)

        assert [each.outcome for each in bench.told_of(PlayEnded)] == [PlayOutcome.COMPLETED] * len(planned)
        each_ended_once(bench, planned)
        assert bench.told_of(PlanExpired) == []
        assert not [each for each in bench.told if isinstance(each, effects.Send)][1:], "nobody hears it"
        # All of it waits in the journal, in order, and comes out when the line is back.
        journal = Journal(bytes(8))
        for event in bench.events[told_before:]:
            assert journal.append(codec.encode(event)) is not None
        assert 2 * len(planned) <= len(journal.entries) < CAPACITY
        told = []
        while due := journal.due(uptime_ms=0):
            told += [codec.decode_event(each.body) for each in due]
            for each in due:
                del journal.entries[each.sequence]
        assert told == bench.events[told_before:]

    def test_beyond_the_horizon_the_fallback_sounds_and_it_says_so(self) -> None:
        planned = a_day(days=7)
        notice = a_fallback(22 * 3_600)  # five in the morning in Việt Nam
        bench = Bench(leaps=True, media_ms={notice.media.sha256: 20 * SECOND})
        bench.ready(*planned)
        bench.receive(DownlinkKind.CONFIG, signed(a_configuration(serial=2, fallback=notice)))
        bench.feed(inputs.Disconnected())
        bench.until(T0 + 10 * DAY)

        (expired,) = bench.told_of(PlanExpired)
        assert expired.device_at_ms == T0 + 7 * DAY
        within = [each for each in planned if each.starts_at_ms < T0 + 7 * DAY]
        emitted = [each for each in bench.told_of(PlayEnded) if each.reference.source is PlaySource.EMISSION]
        assert len(emitted) == len(within)
        fallbacks = [each for each in bench.told_of(PlayEnded) if each.reference.source is PlaySource.FALLBACK]
        assert [each.outcome for each in fallbacks] == [PlayOutcome.COMPLETED] * 3
        each_ended_once(bench, planned)

        # The line is back: the next plan is taken, and the fallback rests.
        bench.feed(inputs.Connected())
        fresh = [an_emission("song", at_ms=bench.at_ms + HOUR)]
        bench.receive(DownlinkKind.PLAN, signed(a_plan(*fresh, at_ms=bench.at_ms, serial=2)))
        bench.advance(DAY)
        assert bench.told_of(PlayEnded)[-1].reference == fresh[0].reference
        assert len(bench.told_of(PlanExpired)) == 1


class TestMissingMedia:
    def test_is_tried_again_for_days_and_cuts_nobody(self) -> None:
        song, news = (
            an_emission("song", at_ms=START, duration_ms=2 * MINUTE),
            an_emission("news", at_ms=START + MINUTE, duration_ms=MINUTE),
        )
        bench = Bench(delivers=False, leaps=True)
        bench.stored = {a_file("song").sha256: 1}
        bench.boot()
        bench.ready(song, news)
        fetch = next(each for each in bench.told if isinstance(each, effects.Fetch))
        spoilt = faults.spoil(fetch, share=1.0, draw=0.5)
        assert isinstance(spoilt, inputs.MediaFailed)
        bench.feed(spoilt)
        bench.advance(2 * HOUR)
        (ended,) = bench.told_of(PlayEnded)
        assert (ended.reference, ended.sounded_ms, ended.interruptions) == (song.reference, 2 * MINUTE, None)
        assert [(each.reference, each.reason) for each in bench.told_of(PlayMissed)] == [
            (news.reference, MissReason.MEDIA_MISSING)
        ]
        assert len(bench.told_of(MediaFailed)) == 1
        assert len([each for each in bench.told if isinstance(each, effects.Fetch)]) == 2
