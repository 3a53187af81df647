from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.control.throttle import FORGOTTEN_AFTER, POLICIES, Scope, wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (4, 0), (5, 1), (6, 2), (7, 4), (14, 512), (15, 900), (1_000_000, 900)]
)
def test_each_further_failure_doubles_the_wait_up_to_the_longest(failures: int, seconds: int) -> None:
    assert wait(Scope.LOGIN_AND_ORIGIN, failures, NOW, now=NOW) == timedelta(seconds=seconds)


def test_waiting_is_over_after_the_wait() -> None:
    assert wait(Scope.LOGIN_AND_ORIGIN, 6, NOW, now=NOW + timedelta(seconds=1)) == timedelta(seconds=1)
    assert wait(Scope.LOGIN_AND_ORIGIN, 6, NOW, now=NOW + timedelta(seconds=2)) == timedelta(0)


def test_old_failures_are_forgotten() -> None:
    assert wait(Scope.ORIGIN, 10_000, NOW, now=NOW + FORGOTTEN_AFTER) == timedelta(0)


def test_nobody_can_lock_an_officer_out_for_long_from_elsewhere() -> None:
    assert POLICIES[Scope.LOGIN].longest <= timedelta(minutes=1)
