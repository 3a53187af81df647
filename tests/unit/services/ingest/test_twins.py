from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.twins import Beat, Note, Proof, boot_returns, journal_returns, judge

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def beat(second: float, boot: float, *, clock_ahead: float = 0, late: float = 0) -> Beat:
    """What a device that booted at `boot` says at `second`, both in true time."""
    return Beat(at=at(second + clock_ahead), received_at=at(second + late), uptime_s=int(second - boot))


def beats_of(boots: list[int], *, starts: int = 0, every: int = 60, count: int = 10) -> list[Beat]:
    """Heartbeats of one device that boots at these seconds."""
    return [
        beat(second, max(boot for boot in boots if boot <= second))
        for second in range(starts, starts + every * count, every)
    ]


def test_one_device_that_never_boots_is_one() -> None:
    assert boot_returns(beats_of([-5_000])) == 0


def test_one_device_that_boots_over_and_over_is_one() -> None:
    assert boot_returns(beats_of([-5_000, 30, 95, 140, 150, 400])) == 0


def test_two_devices_are_two_however_their_heartbeats_come_in() -> None:
    together = beats_of([-90_000]) + beats_of([-300], starts=7)

    assert boot_returns(together) == boot_returns(reversed(together)) == 9
    verdict = judge(together, (), 0)
    assert verdict is not None
    assert verdict.proof is Proof.BOOTS


def test_two_devices_booted_at_once_are_not_told_apart_by_that() -> None:
    assert boot_returns(beats_of([-300]) + beats_of([-305], starts=7)) == 0


@pytest.mark.parametrize("minutes", [1, 3, 5, 60])
def test_a_clock_that_is_put_right_is_no_proof(minutes: int) -> None:
    for ahead in (minutes * 60, -minutes * 60):
        beats = [beat(second, -5_000, clock_ahead=ahead if second < 600 else 0) for second in range(0, 1200, 60)]

        assert boot_returns(beats) <= 1
        assert judge(beats, (), 0) is None


@given(
    st.lists(st.integers(-10_000, 600), max_size=20),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 3_600)), max_size=60),
)
def test_however_often_it_boots_and_however_late_it_is_heard_one_device_is_one(
    boots: list[int], heard: list[tuple[int, int]]
) -> None:
    boots = [-20_000, *boots]
    beats = [beat(second, max(boot for boot in boots if boot <= second), late=late) for second, late in heard]

    assert boot_returns(beats) == 0
    assert judge(beats, (), 0) is None


@given(st.integers(20, 100_000), st.integers(1, 59), st.integers(4, 12))
def test_two_devices_booted_apart_are_two(apart: int, shift: int, count: int) -> None:
    beats = [
        *(beat(60 * number, -100_000) for number in range(count)),
        *(beat(60 * number + shift, -100_000 + apart) for number in range(count)),
    ]

    assert judge(beats, (), 0) is not None


def notes(*journals: int) -> list[Note]:
    return [
        Note(at=at(10 * number), received_at=at(10 * number), journal=journal)
        for number, journal in enumerate(journals)
    ]


def test_journals() -> None:
    for expected, said in (
        (0, notes()),
        (0, notes(1, 1, 1)),
        (0, notes(1, 1, 2, 2)),  # wiped flash
        (0, notes(1, 2, 3, 4)),  # wiped again and again
        (1, notes(1, 2, 1)),
        (3, notes(1, 2, 1, 2, 1)),
        (2, notes(1, 2, 3, 1, 2)),
    ):
        assert journal_returns(said) == expected
        assert journal_returns(reversed(said)) == expected
        assert (judge((), said, 0) is not None) == (expected >= 2)


def test_what_an_old_journal_held_back_is_no_proof_when_it_comes_late() -> None:
    old = [Note(at=at(number), received_at=at(1_000 + 20 * number), journal=1) for number in range(10)]
    new = [Note(at=at(500 + 20 * number), received_at=at(1_010 + 20 * number), journal=2) for number in range(10)]

    assert journal_returns([*old, *new]) == 0


def test_one_number_with_two_bodies_is_two_devices() -> None:
    verdict = judge((), (), 1)

    assert verdict is not None
    assert verdict.proof is Proof.CLASHES


def test_nothing_said_proves_nothing() -> None:
    assert judge((), (), 0) is None
