"""Whom a device believes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim import trust
from firmware_sim.clock import Moment
from firmware_sim.trust import BURST, REFILL_MS, SKEW_MS, Held, Refusal, Refusals, Trust, Unchanged
from schemas.events import MessageKind, RefusalReason
from schemas.fields import ClockState
from schemas.plans import Plan
from tests.unit.firmware_sim.builders import (
    DAY,
    DEVICE,
    PLATFORM,
    ROOT,
    STRANGER,
    T0,
    a_key_set,
    a_plan,
    an_emission,
    announced,
    public,
    signed,
)

NOW = Moment(at_ms=T0, clock=ClockState.SYNCHRONISED, uptime_ms=60_000)
LOST = Moment(at_ms=1_000, clock=ClockState.UNSYNCHRONISED, uptime_ms=60_000)


def known(*, floor_ms: int = T0 - DAY, serial: int | None = None, **window: int) -> Trust:
    """A device's trust after it was told the platform's key (valid in `window`) and, with `serial`, had a plan."""
    keys = a_key_set(announced(PLATFORM, **window))
    return Trust(
        root=public(ROOT),
        keys=Held(raw=signed(keys), order=keys),
        serials={} if serial is None else {MessageKind.PLAN: serial},
        floor_ms=floor_ms,
    )


def judge(
    message: bytes, trusted: Trust, *, now: Moment = NOW, held: Held[Plan] | None = None
) -> Held[Plan] | Refusal | Unchanged:
    return trust.judge(Plan, message, trusted, kind=MessageKind.PLAN, device=DEVICE, held=held, now=now)


def check_refused(verdict: object, reason: RefusalReason) -> None:
    assert isinstance(verdict, Refusal)
    assert verdict.reason is reason


class TestWindow:
    @pytest.mark.parametrize(
        ("now", "issued_ms", "from_ms", "valid_ms", "refused"),
        [
            pytest.param(NOW, T0, T0, DAY, None, id="issued_now"),
            pytest.param(NOW, T0 - DAY, T0 - DAY, DAY, RefusalReason.EXPIRED, id="ends_at_this_very_instant"),
            pytest.param(NOW, T0 - DAY, T0 - DAY, DAY + 1, None, id="ends_in_a_millisecond"),
            pytest.param(NOW, T0 + SKEW_MS, T0 + SKEW_MS, DAY, None, id="platform_two_minutes_ahead"),
            pytest.param(NOW, T0 + SKEW_MS + 1, T0 + SKEW_MS + 1, DAY, RefusalReason.NOT_YET_VALID, id="further_ahead"),
            pytest.param(NOW, T0, T0 + DAY, 2 * DAY, RefusalReason.NOT_YET_VALID, id="valid_from_tomorrow"),
            pytest.param(LOST, T0, T0, DAY, None, id="no_clock_but_above_the_floor"),
            pytest.param(
                LOST, T0 - 3 * DAY, T0 - 3 * DAY, DAY, RefusalReason.EXPIRED, id="no_clock_and_below_the_floor"
            ),
            pytest.param(LOST, T0 + 9 * DAY, T0 + 9 * DAY, DAY, None, id="no_clock_cannot_tell_the_future"),
        ],
    )
    def test_of_a_plan(
        self, now: Moment, issued_ms: int, from_ms: int, valid_ms: int, refused: RefusalReason | None
    ) -> None:
        plan = a_plan(at_ms=issued_ms, valid_from_ms=from_ms, valid_for_ms=valid_ms)
        verdict = judge(signed(plan), known(), now=now)
        if refused is None:
            assert isinstance(verdict, Held)
        else:
            check_refused(verdict, refused)

    def test_of_the_key_that_signed(self) -> None:
        message = signed(a_plan())
        assert isinstance(judge(message, known(not_before_ms=T0, not_after_ms=T0 + 1)), Held)
        check_refused(judge(message, known(not_before_ms=T0 + 1)), RefusalReason.UNKNOWN_KEY)
        check_refused(judge(message, known(not_after_ms=T0)), RefusalReason.UNKNOWN_KEY)

    def test_clock_set_back_does_not_bring_yesterday_back(self) -> None:
        """The floor is what was seen signed; a clock far below it is not believed, however sure it is of itself."""
        set_back = Moment(at_ms=T0 - 10 * DAY, clock=ClockState.SYNCHRONISED, uptime_ms=1)
        yesterday = a_plan(at_ms=T0 - 10 * DAY, valid_for_ms=DAY)
        assert not trust.is_trusted(set_back, T0)
        check_refused(judge(signed(yesterday), known(floor_ms=T0), now=set_back), RefusalReason.EXPIRED)


class TestSerial:
    @pytest.mark.parametrize(
        ("last", "serial", "holds", "refused"),
        [
            pytest.param(None, 0, False, None, id="the_first_may_be_zero"),
            pytest.param(5, 6, True, None, id="the_next"),
            pytest.param(5, 600, True, None, id="gaps_are_fine"),
            pytest.param(5, 5, True, RefusalReason.REPLAYED, id="the_same_with_other_bytes"),
            pytest.param(5, 4, True, RefusalReason.REPLAYED, id="an_older_one"),
            pytest.param(5, 5, False, None, id="the_last_one_when_flash_has_lost_it"),
            pytest.param(5, 4, False, RefusalReason.REPLAYED, id="an_older_one_when_flash_has_lost_the_last"),
        ],
    )
    def test_must_grow(self, last: int | None, serial: int, holds: bool, refused: RefusalReason | None) -> None:
        held = None
        if holds:
            earlier = a_plan(an_emission(), serial=last or 0)
            held = Held(raw=signed(earlier), order=earlier)
        verdict = judge(signed(a_plan(serial=serial)), known(serial=last), held=held)
        if refused is None:
            assert isinstance(verdict, Held)
        else:
            check_refused(verdict, refused)

    def test_the_same_bytes_again_are_no_replay(self) -> None:
        plan = a_plan(serial=5)
        held = Held(raw=signed(plan), order=plan)
        assert judge(held.raw, known(serial=5), held=held) is Unchanged.UNCHANGED
        expired = replace(NOW, at_ms=T0 + 100 * DAY)
        assert judge(held.raw, known(serial=5), held=held, now=expired) is Unchanged.UNCHANGED


class TestKeys:
    def test_only_root_announces_keys(self) -> None:
        fresh = Trust(root=public(ROOT))
        assert isinstance(trust.judge_keys(signed(a_key_set()), fresh, now=NOW), Held)
        check_refused(trust.judge_keys(signed(a_key_set(), STRANGER), fresh, now=NOW), RefusalReason.UNKNOWN_KEY)

    def test_older_key_set_does_not_bring_a_stolen_key_back(self) -> None:
        old, new = a_key_set(serial=1), a_key_set(announced(STRANGER), serial=2)
        trusted = Trust(
            root=public(ROOT), keys=Held(raw=signed(new), order=new), serials={MessageKind.KEYS: 2}, floor_ms=T0
        )
        check_refused(trust.judge_keys(signed(old), trusted, now=NOW), RefusalReason.REPLAYED)
        check_refused(judge(signed(a_plan()), trusted), RefusalReason.UNKNOWN_KEY)

    def test_without_keys_nothing_is_believed(self) -> None:
        check_refused(judge(signed(a_plan()), Trust(root=public(ROOT))), RefusalReason.UNKNOWN_KEY)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_altered_bit_is_believed(data: st.DataObject) -> None:
    message = bytearray(signed(a_plan(an_emission())))
    position = data.draw(st.integers(0, 8 * len(message) - 1))
    message[position // 8] ^= 1 << position % 8
    assert isinstance(judge(bytes(message), known()), Refusal)


@settings(max_examples=200, deadline=None)
@given(message=st.binary(max_size=300))
def test_no_noise_is_believed(message: bytes) -> None:
    assert isinstance(judge(message, known()), Refusal)
    assert isinstance(trust.judge_keys(message, known(), now=NOW), Refusal)


def test_oversized_message_is_refused_before_it_is_read() -> None:
    check_refused(judge(b"\0" * (Plan.SIZE_LIMIT + 1_000), known()), RefusalReason.TOO_LARGE)


class TestRefusalsTold:
    def tell(self, times: int, bucket: Refusals, uptime_ms: int) -> tuple[Refusals, int]:
        told = 0
        for _ in range(times):
            bucket, is_told = bucket.tell(uptime_ms)
            told += is_told
        return bucket, told

    def test_flood_is_told_in_part_and_counted_in_full(self) -> None:
        bucket, told = self.tell(1_000, Refusals(), 500_000)
        assert told == BURST
        assert bucket.untold == 1_000 - BURST

    def test_one_more_each_minute(self) -> None:
        bucket, _ = self.tell(BURST, Refusals(), 0)
        bucket, told = self.tell(100, bucket, REFILL_MS)
        assert told == 1
        bucket, told = self.tell(100, bucket, 3 * REFILL_MS)
        assert told == 2

    def test_calm_fills_the_bucket_and_no_further(self) -> None:
        bucket, _ = self.tell(BURST, Refusals(), 0)
        assert self.tell(100, bucket, 10_000 * REFILL_MS)[1] == BURST

    @given(gaps=st.lists(st.integers(0, 3 * REFILL_MS), max_size=80))
    def test_never_more_than_a_burst_and_one_a_minute(self, gaps: list[int]) -> None:
        bucket, told, uptime_ms = Refusals(), 0, 0
        for gap_ms in gaps:
            uptime_ms += gap_ms
            bucket, is_told = bucket.tell(uptime_ms)
            told += is_told
        assert told <= BURST + uptime_ms // REFILL_MS


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_has_its_length_where_libsodium_reads_it_and_what_it_signs_in_one(length: int) -> None:
    data = b"what is signed"
    whole = PLATFORM.sign(data) + data
    key = trust._Sodium(public(PLATFORM))
    key.verify(whole[:64], whole[64:])
    with pytest.raises(InvalidSignature):
        key.verify(whole[:length], whole[length:])
