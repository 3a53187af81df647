from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.control.catalogue.texts import Language
from services.control.pages.wording import Wording

NOW = datetime(2026, 3, 10, 18, 0, tzinfo=UTC)  # 01:00 on the eleventh in Việt Nam
VI = Wording(language=Language.VIETNAMESE, zone=ZoneInfo("Asia/Ho_Chi_Minh"), now=NOW)
EN = Wording(language=Language.ENGLISH, zone=ZoneInfo("Asia/Ho_Chi_Minh"), now=NOW)


@pytest.mark.parametrize(
    ("seconds", "vietnamese", "english"),
    [
        (-30, "vừa xong", "just now"),  # a clock that is ahead
        (4, "vừa xong", "just now"),
        (5, "5 giây trước", "5 s ago"),
        (59, "59 giây trước", "59 s ago"),
        (60, "1 phút trước", "1 min ago"),
        (3_599, "59 phút trước", "59 min ago"),
        (3_600, "1 giờ trước", "1 h ago"),
        (86_400 * 3, "3 ngày trước", "3 days ago"),
    ],
)
def test_how_long_ago(seconds: int, vietnamese: str, english: str) -> None:
    then = NOW - timedelta(seconds=seconds)
    assert (VI.ago(then), EN.ago(then)) == (vietnamese, english)


def test_instants_are_local_and_name_the_day_unless_it_is_today() -> None:
    assert VI.instant(NOW) == "01:00"
    assert VI.instant(NOW + timedelta(seconds=7)) == "01:00:07"
    assert VI.instant(NOW - timedelta(hours=2)) == "23:00 ngày 10/03/2026"
    assert EN.instant(NOW - timedelta(hours=2)) == "2026-03-10, 23:00"


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (timedelta(seconds=0.4), "0 giây"),
        (timedelta(seconds=59), "59 giây"),
        (timedelta(seconds=60), "1 phút"),
        (timedelta(seconds=62), "1 phút 02 giây"),
        (timedelta(hours=2), "2 giờ"),
        (timedelta(minutes=59, seconds=59), "59 phút 59 giây"),
        (timedelta(hours=1, minutes=5), "1 giờ 05 phút"),
    ],
)
def test_lengths(length: timedelta, expected: str) -> None:
    assert VI.span(length) == expected


def test_what_is_not_known_is_a_dash() -> None:
    assert {VI.instant(None), VI.span(None), VI.percent(None), VI.milliseconds(None), VI.word("outcome", None)} == {"–"}
    assert VI.ago(None) == "chưa có"


def test_numbers_and_days_follow_the_language() -> None:
    assert (VI.number(4.036), EN.number(4.036), VI.number(0.0)) == ("4,036", "4.036", "0")
    assert (VI.day(date(2025, 7, 1)), EN.day(date(2025, 7, 1))) == ("01/07/2025", "2025-07-01")


def test_a_word_the_catalogue_does_not_know_is_shown_as_it_is() -> None:
    assert VI.word("quantity", "radon") == "radon"


@pytest.mark.parametrize(
    ("now", "offset", "expected"),
    [
        ("2026-10-31T17:30:00+00:00", 0, "2026-11"),  # it is November already in Việt Nam
        ("2026-01-05T00:00:00+00:00", -1, "2025-12"),
        ("2026-12-05T00:00:00+00:00", 1, "2027-01"),
    ],
)
def test_months_are_those_of_the_zone(now: str, offset: int, expected: str) -> None:
    words = Wording(language=Language.ENGLISH, zone=ZoneInfo("Asia/Ho_Chi_Minh"), now=datetime.fromisoformat(now))
    assert words.month(offset) == expected


def test_numbers_on_paper_are_written_as_they_are_here() -> None:
    zone, now = ZoneInfo("Asia/Ho_Chi_Minh"), datetime(2026, 11, 2, 3, tzinfo=UTC)
    vietnamese = Wording(language=Language.VIETNAMESE, zone=zone, now=now)
    english = Wording(language=Language.ENGLISH, zone=zone, now=now)
    assert (vietnamese.decimal(12345.67), english.decimal(12345.67)) == ("12.345,7", "12,345.7")
    assert (vietnamese.share(0.5), english.share(None)) == ("50,0%", english.text("value.none"))
    assert (vietnamese.minutes(0), vietnamese.minutes(90_000)) == ("", "1,5")
    assert vietnamese.stamp(now) == "10:00:00 02/11/2026 (UTC+0700)"
