"""Which list of a relay is believed, which of its segments are fetched, and what sounds at an instant."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim import relay_reading
from firmware_sim.clock import Moment
from firmware_sim.relay_reading import FIRST_ASK_MS, RETRY_MS, UNREACHABLE_ASK_MS, Reading
from firmware_sim.trust import Held, Refusal, Trust
from schemas.events import RefusalReason
from schemas.fields import ClockState
from schemas.relays import RelayState, Segment, SegmentList
from tests.unit.firmware_sim.builders import (
    PLATFORM,
    ROOT,
    SECOND,
    STRANGER,
    T0,
    a_key_set,
    a_plan,
    a_relay,
    public,
    signed,
)

VOV = a_relay("vov")
DELAY_MS = 12 * SECOND
LENGTH_MS = 4 * SECOND
KEYS = a_key_set()
TRUST = Trust(root=public(ROOT), keys=Held(raw=signed(KEYS), order=KEYS))


def a_segment(number: int, *, silent: bool = False, starts_at_ms: int | None = None) -> Segment:
    """Segment `number` of a source that began at T0: four seconds each."""
    return Segment(
        sequence=number,
        sha256=hashlib.sha256(str(number).encode()).digest(),
        size=1_000,
        mime="audio/ogg",
        path=f"relays/{VOV.source_id}/{number}",
        starts_at_ms=T0 + number * LENGTH_MS if starts_at_ms is None else starts_at_ms,
        duration_ms=LENGTH_MS,
        silent=silent,
    )


def a_list(
    *segments: Segment,
    at_ms: int = T0,
    valid_for_ms: int = 30 * SECOND,
    state: RelayState = RelayState.ON_AIR,
    source_id: uuid.UUID = VOV.source_id,
) -> SegmentList:
    return SegmentList(
        issued_at_ms=at_ms,
        valid_from_ms=at_ms,
        valid_until_ms=at_ms + valid_for_ms,
        source_id=source_id,
        state=state,
        segment_ms=LENGTH_MS,
        delay_ms=DELAY_MS,
        segments=segments,
    )


def a_moment(after_ms: int, *, clock: ClockState = ClockState.SYNCHRONISED) -> Moment:
    return Moment(at_ms=T0 + after_ms, clock=clock, uptime_ms=60 * SECOND + after_ms)


def a_reading(*segments: Segment, ready: tuple[int, ...] = (), at_ms: int = T0) -> Reading:
    reading, refusal = relay_reading.listed(
        Reading(source=VOV, phase=0.0), signed(a_list(*segments, at_ms=at_ms)), TRUST, now=a_moment(at_ms - T0)
    )
    assert refusal is None
    return dataclasses.replace(reading, ready=frozenset(ready))


class TestBelief:
    def refused(self, message: bytes, *, reading: Reading | None = None, now: Moment | None = None) -> Refusal | None:
        before = reading or Reading(source=VOV, phase=0.0)
        after, refusal = relay_reading.listed(before, message, TRUST, now=now or a_moment(0))
        if refusal is not None:
            assert (after.newest, after.ready) == (before.newest, before.ready)
        return refusal

    def reason(self, message: bytes, **given: object) -> RefusalReason | None:
        refusal = self.refused(message, **given)  # type: ignore[arg-type]
        return None if refusal is None else refusal.reason

    def test_signed_and_fresh(self) -> None:
        assert self.refused(signed(a_list(a_segment(0)))) is None

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            pytest.param(b"", RefusalReason.MALFORMED, id="nothing"),
            pytest.param(b"<html>login</html>", RefusalReason.MALFORMED, id="a_login_page"),
            pytest.param(signed(a_list(), STRANGER), RefusalReason.UNKNOWN_KEY, id="key_of_a_stranger"),
            pytest.param(signed(a_list(), PLATFORM)[:-1] + b"\0", RefusalReason.BAD_SIGNATURE, id="one_byte_changed"),
            pytest.param(signed(a_plan()), RefusalReason.WRONG_TYPE, id="a_plan"),
            pytest.param(
                signed(a_list(source_id=a_relay("other").source_id)),
                RefusalReason.FOREIGN_AUDIENCE,
                id="of_another_source",
            ),
            pytest.param(signed(a_list(at_ms=T0 - 31 * SECOND)), RefusalReason.EXPIRED, id="yesterdays_news"),
            pytest.param(signed(a_list(at_ms=T0 + 600 * SECOND)), RefusalReason.NOT_YET_VALID, id="of_the_future"),
            pytest.param(b"\x84" + bytes(32_000), RefusalReason.TOO_LARGE, id="too_large"),
        ],
    )
    def test_refused(self, message: bytes, reason: RefusalReason) -> None:
        assert self.reason(message) is reason

    def test_older_than_the_last_one(self) -> None:
        reading = a_reading(a_segment(1), at_ms=T0 + 4 * SECOND)
        older = signed(a_list(a_segment(0), at_ms=T0))
        assert self.reason(older, reading=reading, now=a_moment(5 * SECOND)) is RefusalReason.REPLAYED
        same = signed(a_list(a_segment(1), at_ms=T0 + 4 * SECOND))
        assert self.reason(same, reading=reading, now=a_moment(5 * SECOND)) is None

    def test_before_any_keys(self) -> None:
        _, refusal = relay_reading.listed(
            Reading(source=VOV, phase=0.0), signed(a_list()), Trust(root=public(ROOT)), now=a_moment(0)
        )
        assert refusal is not None
        assert refusal.reason is RefusalReason.UNKNOWN_KEY


class TestAsking:
    def test_once_per_segment_at_a_moment_of_its_own(self) -> None:
        for phase, wait_ms in ((0.0, 4_000), (0.5, 2_000), (0.25, 1_000)):
            reading, _ = relay_reading.listed(
                Reading(source=VOV, phase=phase), signed(a_list()), TRUST, now=a_moment(0)
            )
            assert reading.ask_at_ms - a_moment(0).uptime_ms == wait_ms
            assert not reading.is_asking

    @pytest.mark.parametrize("is_reachable", [True, False])
    def test_again_after_no_answer(self, is_reachable: bool) -> None:
        asking = relay_reading.asked(Reading(source=VOV, phase=0.0))
        assert relay_reading.next_look_ms(asking, now=a_moment(0)) is None
        reading = relay_reading.unanswered(asking, "HTTP 404", is_reachable=is_reachable, now=a_moment(0))
        wait_ms = FIRST_ASK_MS if is_reachable else UNREACHABLE_ASK_MS
        assert relay_reading.next_look_ms(reading, now=a_moment(0)) == wait_ms
        assert reading.trouble == "HTTP 404"

    @pytest.mark.parametrize(
        ("delay_ms", "wait_ms"), [(DELAY_MS, DELAY_MS // 2), (60_000, UNREACHABLE_ASK_MS), (LENGTH_MS, LENGTH_MS)]
    )
    def test_rarely_while_the_relay_point_does_not_reach_the_source_but_soon_enough_to_be_back_in_step(
        self, delay_ms: int, wait_ms: int
    ) -> None:
        out = signed(a_list(state=RelayState.UNREACHABLE).model_copy(update={"delay_ms": delay_ms}))
        reading, _ = relay_reading.listed(Reading(source=VOV, phase=0.0), out, TRUST, now=a_moment(0))
        assert reading.ask_at_ms - a_moment(0).uptime_ms == wait_ms


class TestFetching:
    def numbers(self, reading: Reading, after_ms: int) -> tuple[Reading, list[int]]:
        reading, begun = relay_reading.begin_fetch(reading, now=a_moment(after_ms))
        return reading, [segment.sequence for segment in begun]

    def test_two_at_once_the_first_to_sound_first(self) -> None:
        reading, begun = self.numbers(a_reading(*(a_segment(n) for n in range(4))), 0)
        assert begun == [0, 1]
        reading, begun = self.numbers(reading, 0)
        assert begun == []
        reading = relay_reading.fetched(reading, a_segment(0))
        assert self.numbers(reading, 0)[1] == [2]

    def test_what_has_sounded_is_not_fetched(self) -> None:
        segments = [a_segment(n) for n in range(4)]
        assert self.numbers(a_reading(*segments), DELAY_MS + 4 * SECOND - 1)[1] == [0, 1]
        assert self.numbers(a_reading(*segments), DELAY_MS + 4 * SECOND)[1] == [1, 2]

    def test_silence_is_not_fetched(self) -> None:
        assert self.numbers(a_reading(a_segment(0, silent=True), a_segment(1)), 0)[1] == [1]

    def test_nothing_of_a_list_that_is_out_of_date(self) -> None:
        assert self.numbers(a_reading(*(a_segment(n) for n in range(9))), 30 * SECOND)[1] == []

    def test_failure_is_tried_again_and_holds_nobody_up(self) -> None:
        reading, _ = self.numbers(a_reading(*(a_segment(n) for n in range(4))), 0)
        reading = relay_reading.failed(reading, a_segment(0), "HTTP 500", now=a_moment(0))
        reading, begun = self.numbers(reading, 0)
        assert begun == [2]
        reading = relay_reading.fetched(reading, a_segment(1))
        assert relay_reading.next_look_ms(reading, now=a_moment(0)) == RETRY_MS
        assert self.numbers(reading, RETRY_MS)[1] == [0]

    def test_what_is_listed_no_longer_is_forgotten(self) -> None:
        reading, _ = self.numbers(a_reading(a_segment(0), a_segment(1)), 0)
        later = signed(a_list(a_segment(1), a_segment(2), at_ms=T0 + 4 * SECOND))
        reading, _ = relay_reading.listed(reading, later, TRUST, now=a_moment(4 * SECOND))
        assert reading.fetching == {1}
        assert relay_reading.fetched(reading, a_segment(0)) == reading


class TestPosition:
    @pytest.mark.parametrize(
        ("after_ms", "expected"),
        [
            pytest.param(DELAY_MS - 1, None, id="before_the_first"),
            pytest.param(DELAY_MS, 0, id="at_its_start"),
            pytest.param(DELAY_MS + 3_999, 0, id="at_its_end"),
            pytest.param(DELAY_MS + 4_000, None, id="not_fetched"),
            pytest.param(DELAY_MS + 8_000, None, id="silent"),
            pytest.param(DELAY_MS + 12_000, 3, id="back"),
            pytest.param(DELAY_MS + 16_000, None, id="gap"),
            pytest.param(DELAY_MS + 17_500, 5, id="behind_the_gap"),
            pytest.param(30_000, None, id="list_out_of_date"),
        ],
    )
    def test_decides_what_sounds(self, after_ms: int, expected: int | None) -> None:
        segments = [
            a_segment(0),
            a_segment(1),
            a_segment(2, silent=True),
            a_segment(3),
            a_segment(5, starts_at_ms=T0 + 17_000),
        ]
        reading = a_reading(*segments, ready=(0, 2, 3, 5))
        segment = relay_reading.at_position(reading, now=a_moment(after_ms))
        assert (None if segment is None else segment.sequence) == expected

    def test_is_the_same_for_devices_that_fetched_at_different_moments(self) -> None:
        segments = [a_segment(n) for n in range(4)]
        early, late = a_reading(*segments, ready=(0, 1, 2, 3)), a_reading(*segments, at_ms=T0 + 3_000, ready=(1, 2))
        now = a_moment(DELAY_MS + 5_000)
        assert relay_reading.at_position(early, now=now) == relay_reading.at_position(late, now=now) == segments[1]

    @given(after_ms=st.integers(0, 40_000), ready=st.sets(st.integers(0, 5)))
    def test_nothing_changes_before_the_next_look(self, after_ms: int, ready: set[int]) -> None:
        reading = a_reading(*(a_segment(n, silent=n == 2) for n in range(6)), ready=tuple(ready))
        wait_ms = relay_reading.next_look_ms(reading, now=a_moment(after_ms))
        assert wait_ms is not None
        now = relay_reading.at_position(reading, now=a_moment(after_ms))
        assert relay_reading.at_position(reading, now=a_moment(after_ms + wait_ms - 1)) == now
