"""Drafts as JSON: what was stored is what was asked for, to the last field."""

import json
import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control.alerting.documents import document_of, draft_of
from services.control.alerting.model import (
    AlertDraft,
    AlertText,
    AreaWish,
    AudienceWish,
    CapOrigin,
    CapReference,
    Category,
    Certainty,
    Circle,
    Origin,
    Point,
    Severity,
    Status,
    Urgency,
)

NOW = datetime(2026, 9, 10, 3, 0, tzinfo=UTC)
UNIT = UnitId(uuid.UUID(int=1))

units = st.uuids().map(UnitId)
points = st.builds(Point, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
areas = st.builds(
    AreaWish,
    units=st.lists(units, min_size=1, max_size=3).map(tuple),
    polygons=st.lists(st.lists(points, min_size=3, max_size=5).map(tuple), max_size=2).map(tuple),
    circles=st.lists(st.builds(Circle, centre=points, radius_m=st.integers(1, 10**6)), max_size=2).map(tuple),
)
audiences = st.builds(
    AudienceWish,
    areas=st.lists(areas, max_size=3).map(tuple),
    devices=st.just((DeviceId("loa-1"),)) | st.just(()),
    except_units=st.lists(units, max_size=2).map(tuple),
    kinds=st.sampled_from([(), ("cluster",), ("cluster", "board")]),
)
texts = st.builds(
    AlertText,
    language=st.sampled_from(["vi", "en"]),
    headline=st.text(min_size=1),
    description=st.none() | st.text(),
    media_sha256=st.none() | st.binary(min_size=32, max_size=32),
)
drafts = st.builds(
    AlertDraft,
    unit_id=units,
    purpose=st.sampled_from(Purpose),
    event=st.text(min_size=1),
    status=st.sampled_from(Status),
    category=st.sampled_from(Category),
    urgency=st.sampled_from(Urgency),
    severity=st.sampled_from(Severity),
    certainty=st.sampled_from(Certainty),
    texts=st.lists(texts, max_size=3).map(tuple),
    audience=audiences,
    repeat_interval=st.none() | st.integers(1, 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    valid_until=st.integers(1, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    resume=st.sampled_from(ResumePolicy),
    volume_percent=st.none() | st.integers(0, 100),
    template_id=st.none() | st.uuids(),
    origin=st.sampled_from(Origin),
    cap=st.none()
    | st.just(
        CapOrigin(
            identifier="VN-1",
            sender="kttv@example.vn",
            sent=NOW,
            references=(CapReference(sender="kttv@example.vn", identifier="VN-0", sent=NOW - timedelta(hours=1)),),
        )
    ),
    references=st.lists(st.uuids().map(AlertId), max_size=2).map(tuple),
)


@given(drafts)
def test_what_was_stored_is_what_was_asked_for(draft: AlertDraft) -> None:
    assert draft_of(json.loads(json.dumps(document_of(draft)))) == draft


def test_lists_call_an_alert_by_the_headline_of_its_first_language_and_else_by_its_event() -> None:
    bare = AlertDraft(unit_id=UNIT, event="Lũ", audience=AudienceWish.of_units(UNIT), valid_until=NOW)

    assert bare.headline == "Lũ"
    spoken = AlertText(language="vi", headline="Lũ trên sông Thương")
    assert AlertDraft(
        unit_id=UNIT, event="Lũ", texts=(spoken,), audience=AudienceWish.of_units(UNIT), valid_until=NOW
    ).headline == ("Lũ trên sông Thương")


def test_severities_are_ordered_on_the_wire_as_in_cap() -> None:
    assert [each.number for each in Severity] == [4, 3, 2, 1, 0]
