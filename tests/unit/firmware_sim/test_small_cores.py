"""Clock, backoff, faults, media shelf, memory, physics: the small pure parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim import backoff, clock, effects, faults, inputs, media, memory, physics
from firmware_sim.clock import DriftingClock
from firmware_sim.faults import BreakLink, Episodes, Later, LineFaults, disturb
from firmware_sim.media import Shelf
from firmware_sim.memory import Notes
from firmware_sim.programme import Play
from schemas.events import MessageKind
from schemas.fields import ClockState, PlayReference, PlaySource
from schemas.identifiers import CommandId
from schemas.readings import UNITS, Sample
from tests.unit.firmware_sim.builders import DAY, T0, a_file

# --- clock -----------------------------------------------------------------------------------------------------------


class TestClock:
    def test_drifts(self) -> None:
        fast = DriftingClock(set_at_ms=T0, shown_ms=T0, ppm=20)
        assert fast.read(T0 + DAY) == T0 + DAY + 1_728  # 20 millionths of a day

    def test_is_set(self) -> None:
        wrong = DriftingClock(set_at_ms=T0, shown_ms=T0 - 5_000, ppm=20)
        right = wrong.synchronised(T0 + DAY)
        assert right.read(T0 + DAY) == T0 + DAY
        assert right.ppm == 20

    def test_steps_and_changes_its_mind_without_jumping(self) -> None:
        before = DriftingClock(set_at_ms=T0, shown_ms=T0, ppm=20)
        stepped = before.stepped(T0 + DAY, by_ms=-3_000)
        assert stepped.read(T0 + DAY) == before.read(T0 + DAY) - 3_000
        doubtful = before.in_state(T0 + DAY, ClockState.HOLDOVER)
        assert doubtful.read(T0 + DAY) == before.read(T0 + DAY)
        assert doubtful.state is ClockState.HOLDOVER

    def test_lost_begins_in_1970(self) -> None:
        lost = clock.lost(T0)
        assert (lost.read(T0), lost.read(T0 + 5_000), lost.state) == (0, 5_000, ClockState.UNSYNCHRONISED)

    def test_never_shows_a_time_before_1970(self) -> None:
        assert clock.lost(T0).stepped(T0, by_ms=-DAY).read(T0) == 0


# --- backoff ---------------------------------------------------------------------------------------------------------


class TestBackoff:
    def test_doubles_up_to_the_cap(self) -> None:
        waits = [backoff.delay_ms(attempt, base_ms=1_000, cap_ms=8_000, draw=0.999_999) for attempt in range(1, 7)]
        assert waits == [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]

    @given(attempt=st.integers(0, 10**9), draw=st.floats(0, 1, exclude_max=True))
    def test_stays_between_half_and_all(self, attempt: int, draw: float) -> None:
        wait_ms = backoff.delay_ms(attempt, base_ms=1_000, cap_ms=60_000, draw=draw)
        assert 500 <= wait_ms <= 60_000


# --- faults ----------------------------------------------------------------------------------------------------------

MESSAGE = effects.Publish(topic="t", payload=b"x")
SOME = LineFaults(drop=0.1, duplicate=0.1, delay=0.5, delay_max_ms=1_000, disconnect=0.1)


@pytest.mark.parametrize(
    ("lost", "doubled", "delayed", "broken", "expected"),
    [
        pytest.param(0.5, 0.5, 0.9, 0.5, [Later(message=MESSAGE)], id="unharmed"),
        pytest.param(0.0, 0.5, 0.9, 0.5, [], id="lost"),
        pytest.param(0.5, 0.0, 0.9, 0.5, [Later(message=MESSAGE)] * 2, id="doubled"),
        pytest.param(0.5, 0.5, 0.25, 0.5, [Later(message=MESSAGE, delay_ms=500)], id="late"),
        pytest.param(0.5, 0.5, 0.9, 0.0, [Later(message=MESSAGE), BreakLink()], id="last_before_the_link_broke"),
        pytest.param(0.0, 0.0, 0.0, 0.0, [BreakLink()], id="everything_at_once"),
    ],
)
def test_fate_of_a_message(
    lost: float, doubled: float, delayed: float, broken: float, expected: list[Later[effects.Publish] | BreakLink]
) -> None:
    assert list(disturb((MESSAGE,), SOME, iter([lost, doubled, delayed, broken]))) == expected


def test_harmless_uplink_takes_no_draws() -> None:
    assert disturb((MESSAGE, MESSAGE), LineFaults(), iter(())) == (Later(message=MESSAGE),) * 2


def test_every_message_takes_the_same_number_of_draws() -> None:
    draws = iter([0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    assert disturb((MESSAGE, MESSAGE), SOME, draws) == (Later(message=MESSAGE),)


def test_any_message_can_be_disturbed() -> None:
    assert disturb((b"downlink",), SOME, iter([0.5, 0.5, 0.0, 0.5])) == (Later(message=b"downlink", delay_ms=0),)


@pytest.mark.parametrize(
    ("share", "draw", "is_spoilt"),
    [
        pytest.param(0.0, 0.0, False, id="never"),
        pytest.param(1.0, 0.999, True, id="always"),
        pytest.param(0.5, 0.499, True, id="below"),
        pytest.param(0.5, 0.5, False, id="at_the_share"),
    ],
)
def test_fate_of_a_download(share: float, draw: float, is_spoilt: bool) -> None:
    fetch = effects.Fetch(media=a_file("a"), url="http://media.test/a")
    happened = faults.spoil(fetch, share=share, draw=draw)
    if is_spoilt:
        assert isinstance(happened, inputs.MediaFailed)
        assert happened.sha256 == fetch.media.sha256
    else:
        assert happened is fetch


@pytest.mark.parametrize(("draw", "expected"), [(0.0, -600), (0.5, 0), (0.75, 300)])
def test_clock_errors_lie_around_zero(draw: float, expected: int) -> None:
    assert faults.within_ms(600, draw) == expected


@given(draw=st.floats(0, 1, exclude_max=True))
def test_episodes_come_and_go(draw: float) -> None:
    episodes = Episodes(mean_gap_s=600, mean_length_s=60)
    assert 1 <= episodes.next_length_ms(draw) <= episodes.next_gap_ms(draw) + 1


# --- media shelf -----------------------------------------------------------------------------------------------------

A, B, C = a_file("a"), a_file("b"), a_file("c")


class TestShelf:
    def test_two_downloads_at_once_in_the_order_wanted(self) -> None:
        shelf, begun = media.to_fetch(Shelf(), [A, A, B, C], uptime_ms=0)
        assert begun == (A, B)
        assert media.to_fetch(shelf, [A, B, C], uptime_ms=0)[1] == ()
        shelf = media.fetched(shelf, A.sha256, A.size)
        assert media.to_fetch(shelf, [A, B, C], uptime_ms=0)[1] == (C,)

    def test_failure_waits_and_does_not_hold_others_up(self) -> None:
        shelf, _ = media.to_fetch(Shelf(), [A], uptime_ms=0)
        shelf, failure = media.failed(shelf, A.sha256, uptime_ms=0, draw=0.5)
        assert media.to_fetch(shelf, [A, B], uptime_ms=failure.retry_at_ms - 1)[1] == (B,)
        assert media.to_fetch(shelf, [A, B], uptime_ms=failure.retry_at_ms)[1] == (A, B)
        assert media.to_fetch(media.retry_at_once(shelf), [A], uptime_ms=0)[1] == (A,)

    def test_nothing_is_waited_for_that_is_under_way_again_or_no_longer_wanted(self) -> None:
        shelf, _ = media.to_fetch(Shelf(), [A], uptime_ms=0)
        shelf, failure = media.failed(shelf, A.sha256, uptime_ms=0, draw=0.5)
        assert media.next_retry_ms(shelf, [A], uptime_ms=0) == failure.retry_at_ms
        assert media.next_retry_ms(shelf, [B], uptime_ms=0) is None
        shelf, _ = media.to_fetch(shelf, [A], uptime_ms=failure.retry_at_ms)
        assert media.next_retry_ms(shelf, [A, B], uptime_ms=failure.retry_at_ms + 1) is None

    def test_unneeded_files_are_kept_up_to_a_number_the_oldest_go_first(self) -> None:
        files = [a_file(f"file-{index}") for index in range(media.UNUSED_KEPT + 2)]
        shelf = Shelf(stored={each.sha256: each.size for each in files})
        shelf, _ = media.keep(shelf, frozenset(each.sha256 for each in files[1:]))
        assert shelf.unused == (files[0].sha256,)
        shelf, dropped = media.keep(shelf, frozenset({files[1].sha256}))
        assert dropped == (files[0].sha256,)
        assert files[1].sha256 in shelf.stored
        assert len(shelf.stored) == media.UNUSED_KEPT + 1

    def test_failures_of_files_nobody_wants_are_forgotten(self) -> None:
        shelf, _ = media.failed(Shelf(), A.sha256, uptime_ms=0, draw=0)
        assert media.keep(shelf, frozenset())[0].failures == {}


# --- memory ----------------------------------------------------------------------------------------------------------

REFERENCES = st.one_of(
    st.builds(
        PlayReference,
        source=st.just(PlaySource.EMISSION),
        id=st.uuids(),
        occurrence_at_ms=st.integers(0, 2**40),
        item=st.integers(0, 255),
    ),
    st.builds(PlayReference, source=st.just(PlaySource.COMMAND), id=st.uuids()),
)
PLAYS = st.builds(
    Play,
    reference=REFERENCES,
    token=st.none(),
    media=st.none() | st.binary(min_size=32, max_size=32),
    volume_percent=st.none() | st.integers(0, 100),
    started_at_ms=st.none() | st.integers(0, 2**40),
    sounded_ms=st.integers(0, 2**31),
    samples=st.none() | st.integers(0, 2**40),
    sample_rate_hz=st.none() | st.integers(1, 384_000),
    interruptions=st.integers(0, 99),
    cut_by=st.none() | REFERENCES,
    paused_at_ms=st.none() | st.integers(0, 2**40),
    shifted_ms=st.integers(0, 2**31),
)
IDS = st.lists(st.uuids().map(CommandId), max_size=3).map(tuple)
NOTES = st.builds(
    Notes,
    serials=st.dictionaries(st.sampled_from(MessageKind), st.integers(0, 2**63 - 1)),
    floor_ms=st.integers(0, 2**41),
    plan_accepted_at_ms=st.integers(0, 2**41),
    connection_number=st.integers(0, 2**63 - 1),
    is_silenced=st.booleans(),
    volume_override=st.none() | st.integers(0, 100),
    executed=IDS,
    unfinished=IDS,
    settled=st.dictionaries(REFERENCES, st.integers(0, 2**41), max_size=4),
    plays=st.lists(PLAYS, max_size=3).map(tuple),
)


@given(notes=NOTES)
def test_notes_survive_the_flash(notes: Notes) -> None:
    assert memory.load(memory.dump(notes)) == notes


@given(content=st.binary(max_size=100))
def test_garbage_is_no_notes(content: bytes) -> None:
    assert memory.load(content) == Notes()


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b'{"serials": 1}', b"\xff"])
def test_other_json_is_no_notes(content: bytes) -> None:
    assert memory.load(content) == Notes()


# --- physics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", UNITS)
def test_measurements_are_plausible_and_of_the_contract(quantity: str) -> None:
    values = [physics.measure("cb-01", quantity, T0 + hour * 3_600_000) for hour in range(48)]
    for value in values:
        Sample(quantity=quantity, value=value, unit=UNITS[quantity])
    low, high = {
        "water_level": (1, 6),
        "rainfall": (0, 2),
        "rain_intensity": (0, 80),
        "air_temperature": (15, 45),
        "water_temperature": (15, 35),
        "relative_humidity": (40, 100),
        "wind_speed": (0, 10),
        "smoke_obscuration": (0, 1),
        "pm25": (1, 100),
        "sound_level": (30, 70),
        "supply_voltage": (210, 240),
    }[quantity]
    assert low <= min(values)
    assert max(values) <= high


def test_a_flood_lifts_the_river_evenly_and_nothing_else() -> None:
    flood = physics.Flood(begins_at_ms=T0, rising_ms=100_000, rise_m=2.0)

    def lifted(quantity: str, at_ms: int) -> float:
        usual = physics.measure("sn-01", quantity, at_ms)
        return physics.measure("sn-01", quantity, at_ms, flood=flood) - usual

    levels = [lifted("water_level", T0 + seconds * 1_000) for seconds in (-60, 0, 50, 100, 86_400)]
    assert levels == pytest.approx([0, 0, 1, 2, 2], abs=0.002)
    assert lifted("rainfall", T0 + 100_000) == 0


def test_afternoons_are_warmer_than_nights() -> None:
    day = T0 - T0 % DAY
    at_two, at_two_in_the_night = day + 7 * 3_600_000, day + 19 * 3_600_000  # UTC of 14:00 and 02:00 local time
    for device in (f"cb-{number:02}" for number in range(20)):
        assert physics.air_temperature(device, at_two) > physics.air_temperature(device, at_two_in_the_night) + 5
