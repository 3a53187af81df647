"""Which time counts, as a table."""

from datetime import timedelta

import pytest

from schemas.fields import ClockState
from services.ingest.stamps import Stamp, TimeSource, TimeWindow, instant, sample_stamp, stamp
from tests.support.ingest_builders import NOW, NOW_MS

WINDOW = TimeWindow(ahead=timedelta(minutes=5), behind=timedelta(days=31))
MINUTE_MS = 60_000
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("device_at_ms", "clock", "source"),
    [
        pytest.param(NOW_MS, ClockState.SYNCHRONISED, TimeSource.DEVICE, id="now"),
        pytest.param(NOW_MS - DAY_MS, ClockState.HOLDOVER, TimeSource.DEVICE, id="a_day_late_in_holdover"),
        pytest.param(NOW_MS + 5 * MINUTE_MS, ClockState.SYNCHRONISED, TimeSource.DEVICE, id="just_not_too_early"),
        pytest.param(NOW_MS + 5 * MINUTE_MS + 1, ClockState.SYNCHRONISED, TimeSource.CLOCK_ABSURD, id="too_early"),
        pytest.param(NOW_MS - 31 * DAY_MS, ClockState.SYNCHRONISED, TimeSource.DEVICE, id="just_not_too_late"),
        pytest.param(NOW_MS - 31 * DAY_MS - 1, ClockState.SYNCHRONISED, TimeSource.CLOCK_ABSURD, id="too_late"),
        pytest.param(0, ClockState.SYNCHRONISED, TimeSource.CLOCK_ABSURD, id="1970"),
        pytest.param(4_102_444_800_000, ClockState.HOLDOVER, TimeSource.CLOCK_ABSURD, id="2100"),
        pytest.param(NOW_MS, ClockState.UNSYNCHRONISED, TimeSource.CLOCK_UNSYNCHRONISED, id="right_by_chance"),
        pytest.param(0, ClockState.UNSYNCHRONISED, TimeSource.CLOCK_UNSYNCHRONISED, id="1970_and_says_so"),
    ],
)
def test_whose_time_is_used(device_at_ms: int, clock: ClockState, source: TimeSource) -> None:
    made = stamp(device_at_ms, clock, now=NOW, window=WINDOW)
    if source is TimeSource.DEVICE:
        assert made == Stamp(instant(device_at_ms), None, NOW, clock, source)
    else:
        assert made == Stamp(NOW, instant(device_at_ms), NOW, clock, source)


@pytest.mark.parametrize(
    ("message_ms", "clock", "sample_ms", "at", "source"),
    [
        pytest.param(NOW_MS, ClockState.SYNCHRONISED, None, NOW, TimeSource.DEVICE, id="of_the_message"),
        pytest.param(
            NOW_MS,
            ClockState.SYNCHRONISED,
            NOW_MS - MINUTE_MS,
            NOW - timedelta(minutes=1),
            TimeSource.DEVICE,
            id="a_minute_before",
        ),
        pytest.param(
            MINUTE_MS,
            ClockState.UNSYNCHRONISED,
            0,
            NOW - timedelta(minutes=1),
            TimeSource.CLOCK_UNSYNCHRONISED,
            id="a_minute_before_on_a_dead_clock",
        ),
        pytest.param(NOW_MS, ClockState.SYNCHRONISED, 0, NOW, TimeSource.CLOCK_ABSURD, id="1970_in_a_message_of_today"),
    ],
)
def test_a_sample_keeps_its_distance_from_the_message(
    message_ms: int, clock: ClockState, sample_ms: int | None, at: object, source: TimeSource
) -> None:
    message = stamp(message_ms, clock, now=NOW, window=WINDOW)
    made = sample_stamp(message, message_ms, sample_ms, window=WINDOW)
    assert (made.at, made.source) == (at, source)
    assert made.device_at == (None if source is TimeSource.DEVICE else instant(sample_ms or 0))
