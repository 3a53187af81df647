"""Calendars as files: what a calendar program reads in them, and the form RFC 5545 asks for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.calendars import Feed, Item, Occurrence, as_ics, uid
from services.control.catalogue.texts import Language
from tests.support.planning import broadcast_id, local, unit_id

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
START = local("2026-10-01 06:00")
NOW = local("2026-10-03 00:00")
FEED = Feed(key=str(unit_id(11)), name="Xã Đại Sơn", first=date(2026, 9, 26), last=date(2026, 10, 10))
OCCURRENCE = Occurrence(
    broadcast_id=broadcast_id(1),
    occurrence_at=START,
    title="Bản tin sáng",
    level="priority",
    issuer_id=unit_id(1),
    version=3,
    starts_at=START,
    ends_at=START + timedelta(minutes=30),
    changed_at=START - timedelta(days=1),
    is_cancelled=False,
    items=(
        Item(starts_at=START, title="Nhạc hiệu"),
        Item(starts_at=START + timedelta(seconds=20), title="Tiêm chủng; mở rộng, đợt 2"),
    ),
    devices=12,
    planned=24,
    played=20,
    is_weighed=True,
)


def ics(*occurrences: Occurrence, zone: ZoneInfo = ZONE, feed: Feed = FEED) -> bytes:
    return as_ics(
        feed, occurrences, issuers={unit_id(1): "Tỉnh Bắc Ninh"}, zone=zone, language=Language.VIETNAMESE, now=NOW
    )


def read(content: bytes) -> Any:
    """As a calendar program reads it."""
    return icalendar.Calendar.from_ical(content)


def event(*occurrences: Occurrence) -> Any:
    (found,) = read(ics(*occurrences)).walk("VEVENT")
    return found


def test_an_event_says_what_sounds_when_and_on_whose_word() -> None:
    found = event(OCCURRENCE)
    assert found["SUMMARY"] == "[Ưu tiên] Bản tin sáng"
    assert (found.start, found.end) == (START, START + timedelta(minutes=30))
    assert found["DTSTART"].params["TZID"] == "Asia/Ho_Chi_Minh"
    assert (found["STATUS"], found["SEQUENCE"], found["PRIORITY"], found["TRANSP"]) == (
        "CONFIRMED",
        2,
        3,
        "TRANSPARENT",
    )
    assert str(found["DESCRIPTION"]).split("\n") == [
        "Đơn vị phát hành: Tỉnh Bắc Ninh",
        "06:00:00 Nhạc hiệu",
        "06:00:20 Tiêm chủng; mở rộng, đợt 2",
        "Số thiết bị: 12",
        "Đã phát 20 trên 24 lượt",
    ]
    assert found["DTSTAMP"].dt == found["LAST-MODIFIED"].dt == OCCURRENCE.changed_at


def test_what_was_taken_back_is_cancelled_under_the_same_name() -> None:
    before, after = event(OCCURRENCE), event(replace(OCCURRENCE, is_cancelled=True, version=4))
    assert after["STATUS"] == "CANCELLED"
    assert after["UID"] == before["UID"] == uid(FEED, OCCURRENCE)
    assert after["SEQUENCE"] > before["SEQUENCE"]


def test_nothing_is_said_of_proof_before_it_is_there() -> None:
    coming = replace(OCCURRENCE, starts_at=NOW, ends_at=NOW + timedelta(minutes=1))
    assert "Đã phát" not in event(coming)["DESCRIPTION"]
    assert "Đã phát" not in event(replace(OCCURRENCE, is_weighed=False))["DESCRIPTION"]


def test_events_of_different_calendars_have_different_names() -> None:
    assert uid(FEED, OCCURRENCE) != uid(replace(FEED, key="loa-1"), OCCURRENCE)
    moved = replace(OCCURRENCE, occurrence_at=START + timedelta(days=1))
    assert uid(FEED, moved) != uid(FEED, OCCURRENCE)


def test_a_calendar_says_whose_it_is_and_when_to_come_again() -> None:
    calendar = read(ics(OCCURRENCE))
    assert calendar["X-WR-CALNAME"] == calendar["NAME"] == "Lịch phát: Xã Đại Sơn"
    assert b"REFRESH-INTERVAL;VALUE=DURATION:PT15M" in ics()
    assert [zone["TZID"] for zone in calendar.walk("VTIMEZONE")] == ["Asia/Ho_Chi_Minh"]


def test_a_device_has_a_place() -> None:
    feed = replace(FEED, key="loa-1", latitude=21.27, longitude=106.19)
    assert b"GEO:21.27;106.19" in ics(OCCURRENCE, feed=feed)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Ho_Chi_Minh", "Australia/Lord_Howe"])
@pytest.mark.parametrize("hours", [0, 24 * 24, 24 * 25, 24 * 31, 24 * 32])
def test_instants_survive_zones_that_shift(zone: str, hours: int) -> None:
    at = datetime(2026, 10, 1, 0, 30, tzinfo=UTC) + timedelta(hours=hours)
    feed = replace(FEED, first=date(2026, 9, 26), last=date(2026, 11, 10))
    content = ics(replace(OCCURRENCE, starts_at=at, ends_at=at + timedelta(hours=1)), zone=ZoneInfo(zone), feed=feed)
    calendar = read(content)
    # Read with the rules that the file itself brings, not with those of this machine.
    (described,) = calendar.timezones
    (found,) = calendar.events
    tz = described.to_tz(lookup_tzid=False)
    assert found.start.replace(tzinfo=tz).astimezone(UTC) == at


some_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], include_characters='\n;,\\:"'), max_size=300
)


@given(title=some_texts, item=some_texts)
def test_any_text_arrives_as_it_was_typed_in_lines_of_75_bytes(title: str, item: str) -> None:
    content = ics(replace(OCCURRENCE, title=title, level="normal", items=(Item(starts_at=START, title=item),)))
    assert content.endswith(b"END:VCALENDAR\r\n")
    lines = content.split(b"\r\n")
    assert all(len(line) <= 75 for line in lines)
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    for line in lines:
        line.decode("utf-8")  # no character is torn apart
    (found,) = read(content).walk("VEVENT")
    assert str(found["SUMMARY"]) == title
    assert item in str(found["DESCRIPTION"])


def test_thousands_of_events_keep_their_order() -> None:
    many = [replace(OCCURRENCE, occurrence_at=START + timedelta(minutes=n)) for n in range(500)]
    found = read(ics(*many)).walk("VEVENT")
    assert [each["UID"] for each in found] == [uid(FEED, each) for each in many]
