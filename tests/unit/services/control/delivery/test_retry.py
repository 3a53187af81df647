from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.delivery.retry import LONGEST_WAIT, Failure, GiveUp, RetryAt, decide

NOW = datetime(2026, 9, 7, 5, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("failure", "attempts", "wait"),
    [
        pytest.param(Failure.DISCONNECTED, 1, 0, id="a_lost_connection_is_waited_for_elsewhere"),
        pytest.param(Failure.DISCONNECTED, 50, 0, id="however_often"),
        pytest.param(Failure.TIMED_OUT, 1, 1, id="first_wait"),
        pytest.param(Failure.TIMED_OUT, 3, 4, id="waits_double"),
        pytest.param(Failure.REFUSED, 9, 256, id="refusals_too"),
        pytest.param(Failure.REFUSED, 10, 300, id="up_to_the_longest"),
        pytest.param(Failure.REFUSED, 10_000, 300, id="for_ever"),
    ],
)
def test_waits(failure: Failure, attempts: int, wait: int) -> None:
    assert decide(failure, attempts, expires_at=None, now=NOW) == RetryAt(NOW + wait * SECOND)


def test_what_would_be_worthless_by_then_is_given_up() -> None:
    assert decide(Failure.TIMED_OUT, 3, expires_at=NOW + 4 * SECOND, now=NOW) == GiveUp("expired")
    assert decide(Failure.TIMED_OUT, 3, expires_at=NOW + 5 * SECOND, now=NOW) == RetryAt(NOW + 4 * SECOND)


def test_what_would_end_the_connection_is_never_tried_again() -> None:
    assert decide(Failure.TOO_LARGE, 1, expires_at=None, now=NOW) == GiveUp("too_large")


@given(failure=st.sampled_from(Failure), attempts=st.integers(1, 10**9), expires_in=st.integers(-10, 1000))
def test_a_retry_is_never_past_its_end_nor_far_away(failure: Failure, attempts: int, expires_in: int) -> None:
    expires_at = NOW + expires_in * SECOND
    match decide(failure, attempts, expires_at=expires_at, now=NOW):
        case RetryAt(at=at):
            assert NOW <= at < expires_at
            assert at - NOW <= LONGEST_WAIT
        case GiveUp(reason=reason):
            assert reason
