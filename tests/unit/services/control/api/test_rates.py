"""Token buckets: what is let through, and for whom an address counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.api.rates import BURST_S, MOST_KEYS, RateLimit
from services.control.throttle import network_of


def test_a_burst_is_let_through_then_one_at_a_time() -> None:
    limit = RateLimit(60)
    assert [limit.wait("a", now=100.0) for _ in range(BURST_S)] == [0.0] * BURST_S
    assert limit.wait("a", now=100.0) == pytest.approx(1.0)
    assert limit.wait("a", now=100.4) == pytest.approx(0.6)
    assert limit.wait("a", now=101.0) == 0.0
    assert limit.wait("a", now=101.0) > 0
    assert limit.wait("b", now=101.0) == 0.0


def test_no_limit_is_none_and_the_smallest_one_lets_one_through() -> None:
    free, slow = RateLimit(0), RateLimit(1)
    assert {free.wait("a", now=0.0) for _ in range(10_000)} == {0.0}
    assert slow.wait("a", now=0.0) == 0.0
    assert slow.wait("a", now=0.0) == pytest.approx(60.0)


@given(st.lists(st.floats(0, 5), max_size=200), st.integers(1, 600))
def test_never_more_than_the_rate_and_one_burst(gaps: list[float], per_minute: int) -> None:
    limit, now, passed = RateLimit(per_minute), 0.0, 0
    for gap in gaps:
        now += gap
        passed += limit.wait("a", now=now) == 0.0
        assert passed <= max(1.0, per_minute / 60 * BURST_S) + now * per_minute / 60 + 1e-6


def test_memory_does_not_grow_with_those_who_ask() -> None:
    limit = RateLimit(60)
    for number in range(MOST_KEYS + 100):
        limit.wait(str(number), now=0.0)
    assert len(limit._buckets) == MOST_KEYS


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_address_counts_for_its_network(address: str, counted: str) -> None:
    assert network_of(address) == counted
