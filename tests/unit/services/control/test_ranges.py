from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.ranges import Slice, Unsatisfiable, Whole, matches, requested


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Whole()),
        ("", Whole()),
        ("bytes=0-9", Slice(0, 10)),
        ("bytes=0-0", Slice(0, 1)),
        ("bytes=90-", Slice(90, 100)),
        ("bytes=90-1000", Slice(90, 100)),
        ("bytes=-10", Slice(90, 100)),
        ("bytes=-1000", Slice(0, 100)),
        ("BYTES=5-6", Slice(5, 7)),
        ("bytes=100-", Unsatisfiable()),
        ("bytes=100-200", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=9-5", Whole()),
        ("bytes=-", Whole()),
        ("bytes=0-1,5-6", Whole()),
        ("lines=0-5", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=0-9999999999999999999999", Whole()),
        ("bytes=٠-٩", Whole()),
    ],
)
def test_what_a_header_asks_of_a_hundred_bytes(header: str | None, expected: object) -> None:
    assert requested(header, 100) == expected


@given(st.text(max_size=40), st.integers(min_value=1, max_value=10**12))
def test_whatever_is_asked_lies_within_the_file(header: str, size: int) -> None:
    wanted = requested("bytes=" + header, size)
    if isinstance(wanted, Slice):
        assert 0 <= wanted.start < wanted.end <= size


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_if_none_match_compares_weakly(header: str | None, expected: bool) -> None:
    assert matches(header, '"a"') is expected
