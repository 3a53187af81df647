"""Segments have their place in time: without a seam while the source keeps pace, and with an honest gap when it does not."""

from __future__ import annotations

import hashlib
import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, limits
from schemas.relays import RelayState, Segment
from services.control import relay_timeline
from services.control.relay_timeline import MAX_LATE_MS, Form, Heard, Listening, hear, place

LENGTH = 2_000
T0 = 1_763_589_600_000
LOUD, QUIET = -20.0, -70.0
RULE = Listening(silence_dbfs=-50.0, silence_after_ms=5_000)
SOURCE = uuid.UUID(int=7)
FORM = Form(segment_ms=LENGTH, delay_ms=10_000, valid_ms=30_000)


# --- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "previous_end", "now", "starts_at", "wait"),
    [
        ("the first", None, T0 + LENGTH, T0, 0),
        ("on time", T0, T0 + LENGTH, T0, 0),
        ("a little late", T0, T0 + LENGTH + MAX_LATE_MS, T0, 0),
        ("too late", T0, T0 + LENGTH + MAX_LATE_MS + 1, T0 + MAX_LATE_MS + 1, 0),
        ("early", T0, T0 + LENGTH - 700, T0, 700),
        ("as early as it gets", T0, T0, T0, LENGTH),
        ("the clock was set back", T0, T0 - 60_000, T0 - 60_000 - LENGTH, 0),
    ],
)
def test_a_segment_has_its_place(case: str, previous_end: int | None, now: int, starts_at: int, wait: int) -> None:
    placed = place(previous_end, now_ms=now, duration_ms=LENGTH)
    assert (placed.starts_at_ms, placed.wait_ms) == (starts_at, wait), case


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=40))
def test_segments_never_overlap_nor_lie_in_the_future_nor_fall_behind(pauses: list[int]) -> None:
    """Whatever a network does, for a clock that only goes forward."""
    now, end = T0, None
    for pause in pauses:
        now += pause
        placed = place(end, now_ms=now, duration_ms=LENGTH)
        assert end is None or placed.starts_at_ms >= end
        now += placed.wait_ms
        end = placed.starts_at_ms + LENGTH
        assert 0 <= now - end <= MAX_LATE_MS


@given(st.integers(-100, 100), st.integers(2, 60))
def test_a_source_whose_clock_is_off_a_little_makes_no_gap_for_hours(ppm: int, minutes: int) -> None:
    end = None
    gaps = 0
    for number in range(1, minutes * 30):
        placed = place(end, now_ms=T0 + round(number * LENGTH * (1 + ppm / 1e6)), duration_ms=LENGTH)
        gaps += end is not None and placed.starts_at_ms != end
        end = placed.starts_at_ms + LENGTH
    assert gaps == 0


# --- silence -----------------------------------------------------------------------------------------------------------


def levels(pattern: str) -> list[float]:
    """Twenty levels for a pattern such as `s` (sound throughout), `-` (none) or `s-` (sound in the first half)."""
    each = 20 // len(pattern)
    return [LOUD if mark == "s" else QUIET for mark in pattern for _ in range(each)]


def states(*patterns: str, rule: Listening = RULE) -> list[bool]:
    heard = Heard(since_ms=T0)
    found = []
    for number, pattern in enumerate(patterns):
        heard = hear(heard, levels(pattern), rule, starts_at_ms=T0 + number * LENGTH)
        found.append(heard.is_silent)
    return found


def test_silence_counts_once_it_has_lasted() -> None:
    assert states("s", "s-", "-", "-", "-") == [False, False, False, True, True]  # 1, 3, 5 and 7 seconds
    assert states("-", "-", "-") == [False, False, True]  # never a sound since listening began


def test_any_sound_ends_it() -> None:
    assert states("-", "-", "-", "-s", "-", "-", "-") == [False, False, True, False, False, False, True]


def test_what_is_just_at_the_threshold_is_silence() -> None:
    heard = hear(Heard(since_ms=T0), [RULE.silence_dbfs] * 20, RULE, starts_at_ms=T0 + 10_000)
    assert heard.is_silent
    assert heard.last_sound_ms is None


def test_the_last_sound_is_told_to_a_tenth_of_a_second() -> None:
    heard = hear(Heard(since_ms=T0), [*levels("-")[:7], LOUD, *levels("-")[8:]], RULE, starts_at_ms=T0)
    assert heard.last_sound_ms == T0 + 800


# --- lists -------------------------------------------------------------------------------------------------------------


def segment(number: int, *, starts_at_ms: int | None = None) -> Segment:
    sha256 = hashlib.sha256(bytes([number])).digest()
    return Segment(
        sequence=T0 + number,
        sha256=sha256,
        size=16_000,
        mime="audio/ogg",
        path=f"relays/{SOURCE}/{sha256.hex()}",
        starts_at_ms=T0 + number * LENGTH if starts_at_ms is None else starts_at_ms,
        duration_ms=LENGTH,
    )


def test_the_newest_are_shown() -> None:
    segments: tuple[Segment, ...] = ()
    for number in range(20):
        segments = relay_timeline.shown(segments, segment(number), keep=9)
    assert [each.sequence - T0 for each in segments] == list(range(11, 20))


def test_a_clock_that_was_set_back_begins_a_new_list() -> None:
    segments = tuple(map(segment, range(5)))
    newest = segment(9, starts_at_ms=T0 + 2 * LENGTH)
    assert [each.sequence - T0 for each in relay_timeline.shown(segments, newest, keep=9)] == [0, 1, 9]
    listed = relay_timeline.segment_list(SOURCE, RelayState.ON_AIR, (*segments[:2], newest), FORM, now_ms=T0)
    assert codec.decode(type(listed), codec.encode(listed)) == listed


@pytest.mark.parametrize(
    ("delay_ms", "segment_ms"), [(10_000, 2_000), (1_000, 500), (20_000, 1_000), (24_000, 1_000), (60_000, 10_000)]
)
def test_a_list_reaches_back_to_the_position_of_devices(delay_ms: int, segment_ms: int) -> None:
    kept = relay_timeline.kept(delay_ms=delay_ms, segment_ms=segment_ms)
    assert kept <= limits.MAX_SEGMENTS
    assert kept * segment_ms >= delay_ms + 2 * segment_ms


def test_what_nobody_can_need_is_not_listed() -> None:
    segments = tuple(map(segment, range(4)))
    ends = segments[-1].ends_at_ms
    late = relay_timeline.segment_list(SOURCE, RelayState.UNREACHABLE, segments, FORM, now_ms=ends + 39_999)
    assert late.segments == segments[-1:]
    assert (
        relay_timeline.segment_list(SOURCE, RelayState.UNREACHABLE, segments, FORM, now_ms=ends + 40_000).segments == ()
    )
    assert late.valid_until_ms - late.issued_at_ms == FORM.valid_ms


def test_lists_hold_whatever_the_network_did() -> None:
    segments: tuple[Segment, ...] = ()
    for number, (now, end) in enumerate(itertools.pairwise([T0, T0 + 2_000, T0 + 9_000, T0 + 11_100, T0 + 3_000])):
        placed = place(now, now_ms=end, duration_ms=LENGTH)
        segments = relay_timeline.shown(segments, segment(number, starts_at_ms=placed.starts_at_ms), keep=9)
    relay_timeline.segment_list(SOURCE, RelayState.ON_AIR, segments, FORM, now_ms=T0)
