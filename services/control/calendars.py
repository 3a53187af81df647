"""Programmes as calendars (RFC 5545): one event per planned occurrence, as it really is planned. Pure.

Why not the rules themselves: an occurrence can be moved by a policy's session, shortened, left out or waiting for a
commune's decision, and a calendar that expands the rule would show what will not sound. An event keeps its UID for ever,
so a changed plan changes it in place; what was taken back is shown as cancelled, because a program that is told nothing
goes on showing what it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event

from schemas.identifiers import BroadcastId, UnitId
from services.control.catalogue.texts import Language, text

MEDIA_TYPE = "text/calendar; charset=utf-8"
REFRESH = timedelta(minutes=15)
# RFC 5545, 3.8.1.9: 1 is the highest, 9 the lowest.
_PRIORITIES: Mapping[str, int] = {"emergency": 1, "priority": 3, "normal": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that sounds in an occurrence."""

    starts_at: datetime
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One dated instance of a broadcast on the devices of a calendar."""

    broadcast_id: BroadcastId
    occurrence_at: datetime
    title: str
    level: str
    issuer_id: UnitId
    version: int
    starts_at: datetime
    ends_at: datetime
    changed_at: datetime
    is_cancelled: bool
    items: tuple[Item, ...]
    devices: int
    planned: int
    played: int
    is_weighed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Whose calendar it is: `key` is part of its events' UIDs and never changes."""

    key: str
    name: str
    first: date
    last: date
    latitude: float | None = None
    longitude: float | None = None


def as_ics(
    feed: Feed,
    occurrences: Iterable[Occurrence],
    *,
    issuers: Mapping[UnitId, str],
    zone: ZoneInfo,
    language: Language,
    now: datetime,
) -> bytes:
    """The calendar as a file. Times are local to `zone`, which it describes."""
    calendar = Calendar()
    calendar.add("prodid", f"-//Loa//Loa//{language.value.upper()}")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    name = text("calendar.of", language, {"name": feed.name})
    about = text("calendar.about", language, {"first": _day(feed.first, language), "last": _day(feed.last, language)})
    # RFC 7986, and what programs understood before it.
    for key, value in (("name", name), ("x-wr-calname", name), ("description", about), ("x-wr-caldesc", about)):
        calendar.add(key, value)
    calendar.add("x-wr-timezone", zone.key)
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", f"PT{REFRESH // timedelta(minutes=1)}M")
    for occurrence in occurrences:
        calendar.add_component(_event(feed, occurrence, issuers, zone, language, now))
    calendar.add_missing_timezones(first_date=feed.first, last_date=feed.last + timedelta(days=1))
    content: bytes = calendar.to_ical()
    return content


def uid(feed: Feed, occurrence: Occurrence) -> str:
    """The name of an event for ever: the broadcast, the instant it was asked for, and whose calendar it is in."""
    at = occurrence.occurrence_at
    return f"{occurrence.broadcast_id}.{round(at.timestamp())}.{feed.key}@loa"


def _event(
    feed: Feed,
    occurrence: Occurrence,
    issuers: Mapping[UnitId, str],
    zone: ZoneInfo,
    language: Language,
    now: datetime,
) -> Event:
    event = Event()
    event.add("uid", uid(feed, occurrence))
    # Without a METHOD both say when the event last changed (RFC 5545, 3.8.7.2).
    event.add("dtstamp", occurrence.changed_at)
    event.add("last-modified", occurrence.changed_at)
    event.add("sequence", occurrence.version - 1)
    event.add("dtstart", occurrence.starts_at.astimezone(zone))
    event.add("dtend", occurrence.ends_at.astimezone(zone))
    title = occurrence.title
    if occurrence.level != "normal":
        level = text(f"level_of.{occurrence.level}", language)
        title = text("calendar.of_level", language, {"level": level, "title": title})
    event.add("summary", title)
    event.add("description", "\n".join(_lines(occurrence, issuers, zone, language, now)))
    event.add("location", feed.name)
    if feed.latitude is not None and feed.longitude is not None:
        event.add("geo", (feed.latitude, feed.longitude))
    event.add("categories", [text(f"level_of.{occurrence.level}", language)])
    event.add("priority", _PRIORITIES[occurrence.level])
    event.add("status", "CANCELLED" if occurrence.is_cancelled else "CONFIRMED")
    event.add("transp", "TRANSPARENT")  # nobody is busy because a loudspeaker plays
    return event


def _lines(
    occurrence: Occurrence, issuers: Mapping[UnitId, str], zone: ZoneInfo, language: Language, now: datetime
) -> Iterable[str]:
    issuer = issuers.get(occurrence.issuer_id, str(occurrence.issuer_id))
    yield text("calendar.issued_by", language, {"unit": issuer})
    for item in occurrence.items:
        time = item.starts_at.astimezone(zone).strftime("%H:%M:%S")
        yield text("calendar.item", language, {"time": time, "title": item.title})
    if occurrence.is_cancelled:
        return
    yield text("calendar.devices", language, {"count": occurrence.devices})
    if occurrence.ends_at <= now and occurrence.is_weighed:
        yield text("calendar.proven", language, {"played": occurrence.played, "planned": occurrence.planned})


def _day(day: date, language: Language) -> str:
    return day.strftime("%d/%m/%Y" if language is Language.VIETNAMESE else "%Y-%m-%d")
