from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.brokerstats import SAME_LIFE, Drops, began_at, newly_dropped, number, waiting

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = BEGAN + timedelta(hours=3)


def drops(count: int, began: datetime = BEGAN) -> Drops:
    return Drops(broker_began_at=began, count=count)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"42", 42),
        (b"42 seconds", 42),
        (b"0", 0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"many", None),
        (b" 1", None),
        ("٤٢".encode(), None),
        (b"9" * 18, int("9" * 18)),
        (b"9" * 19, None),
        (b"1\x00", None),
    ],
)
def test_a_number_is_read_and_nothing_else(payload: bytes, expected: int | None) -> None:
    assert number(payload) == expected


@given(st.binary(max_size=64))
def test_any_bytes_are_a_number_the_database_holds_or_none(payload: bytes) -> None:
    read = number(payload)
    assert read is None or 0 <= read < 2**63


@pytest.mark.parametrize(
    ("before", "now", "is_old", "expected"),
    [
        pytest.param(None, drops(70), True, 0, id="kept_from_before_anybody_looked"),
        pytest.param(None, drops(70), False, 70, id="told_just_now_after_an_unknown_past"),
        pytest.param(drops(70), drops(70), True, 0, id="seen_before"),
        pytest.param(drops(70), drops(70), False, 0, id="told_again"),
        pytest.param(drops(70), drops(95), True, 25, id="dropped_while_we_were_away"),
        pytest.param(drops(70), drops(95), False, 25, id="dropped_just_now"),
        pytest.param(drops(70), drops(3, LATER), False, 3, id="the_broker_began_anew"),
        pytest.param(drops(70), drops(95, LATER), True, 95, id="the_broker_began_anew_and_dropped_more_than_before"),
        pytest.param(drops(70), drops(0, LATER), True, 0, id="the_broker_began_anew_and_dropped_nothing"),
        pytest.param(drops(70), drops(3), False, 3, id="a_new_life_so_soon_that_only_the_number_tells"),
        pytest.param(drops(70), drops(72, BEGAN + SAME_LIFE), True, 2, id="an_uptime_as_old_as_may_be"),
        pytest.param(drops(70), drops(72, BEGAN - SAME_LIFE), True, 2, id="a_clock_put_back_a_little"),
    ],
)
def test_what_is_news_about_drops(before: Drops | None, now: Drops, is_old: bool, expected: int) -> None:
    assert newly_dropped(before, now, is_old=is_old) == expected


@given(st.lists(st.integers(0, 1_000), max_size=30), st.booleans())
def test_what_is_counted_in_one_life_is_what_was_dropped_in_it(steps: list[int], is_old: bool) -> None:
    seen, counted, total = drops(0), 0, 0
    for step in steps:
        total += step
        counted += newly_dropped(seen, drops(total), is_old=is_old)
        seen = drops(total)
    assert counted == total


def test_a_broker_that_claims_to_run_since_before_the_calendar_is_believed_to_be_old() -> None:
    assert began_at(60, now=LATER) == LATER - timedelta(minutes=1)
    assert began_at(10**17, now=LATER) == datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("stored", "retained", "expected"),
    [(None, None, None), (60, None, None), (None, 10, None), (60, 10, 50), (10, 10, 0), (9, 10, 0)],
)
def test_what_waits_is_what_is_held_and_not_retained(
    stored: int | None, retained: int | None, expected: int | None
) -> None:
    assert waiting(stored, retained) == expected
