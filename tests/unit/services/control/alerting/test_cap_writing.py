"""What is written is CAP 1.2, the same bytes for the same message, and reads back as what was meant."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.alerting.cap import (
    NAMESPACE,
    CapAlert,
    CapArea,
    CapCircle,
    CapInfo,
    CapResource,
    MessageType,
    Named,
    ResponseType,
    Scope,
    Status,
)
from services.control.alerting.cap_reading import parse
from services.control.alerting.cap_writing import clean, instant, number, write
from services.control.alerting.model import CapReference, Category, Certainty, Point, Severity, Urgency

FILES = Path(__file__).parents[4] / "support" / "cap"

# The order of the standard's schema.
ALERT_ORDER = [
    "identifier",
    "sender",
    "sent",
    "status",
    "msgType",
    "source",
    "scope",
    "restriction",
    "addresses",
    "code",
    "note",
    "references",
    "incidents",
    "info",
]
INFO_ORDER = [
    "language",
    "category",
    "event",
    "responseType",
    "urgency",
    "severity",
    "certainty",
    "audience",
    "eventCode",
    "effective",
    "onset",
    "expires",
    "senderName",
    "headline",
    "description",
    "instruction",
    "web",
    "contact",
    "parameter",
    "resource",
    "area",
]

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
texts = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
    .map(lambda text: clean(text).strip())
    .filter(lambda text: text != "")
)
instants = st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)).map(  # noqa: DTZ001
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
degrees = st.integers(-89_999, 89_999).map(lambda value: value / 1_000)
points = st.builds(Point, latitude=degrees, longitude=degrees)
rings = st.lists(points, min_size=3, max_size=6, unique=True).map(lambda ring: (*ring, ring[0]))


def several(values: st.SearchStrategy[object], *, least: int = 0) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(values, min_size=least, max_size=3).map(tuple)


def maybe(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


named = st.builds(Named, name=texts, value=texts)
areas = st.builds(
    CapArea,
    description=texts,
    polygons=several(rings),
    circles=several(st.builds(CapCircle, centre=points, radius_km=st.floats(0, 1e4))),
    geocodes=several(named),
    altitude=maybe(st.floats(-1e5, 1e5)),
)
infos = st.builds(
    CapInfo,
    language=st.sampled_from(["vi", "vi-VN", "en-US", "zh-Hant-TW"]),
    categories=several(st.sampled_from(Category), least=1),
    event=texts,
    response_types=several(st.sampled_from(ResponseType)),
    urgency=st.sampled_from(Urgency),
    severity=st.sampled_from(Severity),
    certainty=st.sampled_from(Certainty),
    audience=maybe(texts),
    event_codes=several(named),
    effective=maybe(instants),
    onset=maybe(instants),
    expires=maybe(instants),
    sender_name=maybe(texts),
    headline=maybe(texts),
    description=maybe(texts),
    instruction=maybe(texts),
    web=maybe(texts),
    contact=maybe(texts),
    parameters=several(named),
    resources=several(
        st.builds(
            CapResource, description=texts, mime_type=texts, size=maybe(st.integers(0, 10**12)), content=maybe(names)
        )
    ),
    areas=several(areas),
)
messages = st.builds(
    CapAlert,
    identifier=names,
    sender=names,
    sent=instants,
    status=st.sampled_from(Status),
    message_type=st.sampled_from(MessageType),
    source=maybe(texts),
    scope=st.just(Scope.PUBLIC),
    addresses=several(names),
    codes=several(texts),
    note=maybe(texts),
    references=st.lists(st.builds(CapReference, sender=names, identifier=names, sent=instants), unique=True).map(tuple),
    incidents=several(names | st.tuples(names, names).map(" ".join)),
    infos=several(infos),
)


@given(messages)
def test_what_is_written_is_read_back_without_remarks(message: CapAlert) -> None:
    data = write(message)
    reading = parse(data)
    assert reading.faults == ()
    assert reading.remarks == ()
    assert reading.alert == message
    assert write(reading.alert) == data


@given(messages)
def test_parts_stand_in_the_order_of_the_schema(message: CapAlert) -> None:
    root = ET.fromstring(write(message))
    check_order(root, ALERT_ORDER)
    for info in root.findall(f"{{{NAMESPACE}}}info"):
        check_order(info, INFO_ORDER)


def check_order(element: ET.Element, order: list[str]) -> None:
    places = [order.index(child.tag.removeprefix(f"{{{NAMESPACE}}}")) for child in element]
    assert places == sorted(places)


@pytest.mark.parametrize("name", sorted(each.name for each in FILES.glob("*.xml")))
def test_what_feeds_say_survives_being_passed_on(name: str) -> None:
    found = parse((FILES / name).read_bytes()).alert
    assert found is not None
    again = parse(write(found))
    assert again.alert == found
    assert again.remarks == ()


def test_texts_of_any_kind_do_not_break_the_document() -> None:
    assert clean("a\x00b\x1fc\ud800d\ufffee\t\n") == "abcde\t\n"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_numbers_are_written_without_exponents(value: float) -> None:
    text = number(value)
    assert set(text) <= set("-.0123456789")
    assert float(text) == pytest.approx(value, abs=1e-14, rel=1e-15)


def test_times_are_written_in_utc_as_the_standard_writes_it() -> None:
    assert instant(datetime(2026, 11, 29, 1, 2, 3, 999_999, tzinfo=UTC)) == "2026-11-29T01:02:03-00:00"
