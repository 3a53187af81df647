"""What devices keep for alerts: the tones, then what is gravest and most shared, whole templates only."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control.alerting.model import AudienceWish, Category, Certainty, Severity, Status, Urgency
from services.control.alerting.template import MAX_FILES, Template, TemplateText, files_at
from services.control.alerting.tones import Tone

NOW = datetime(2026, 9, 10, tzinfo=UTC)
PROVINCE, COMMUNE, OTHER = (UnitId(uuid.UUID(int=number)) for number in (1, 2, 3))
PATH = (PROVINCE, COMMUNE)


def file(number: int) -> bytes:
    return number.to_bytes(32, "big")


def a_template(*files: int, severity: Severity = Severity.SEVERE, place: int = 0, number: int = 0) -> Template:
    return Template(
        template_id=uuid.UUID(int=number or files[0] if files else number),
        unit_id=PROVINCE,
        name="Lũ",
        event="Lũ",
        category=Category.MET,
        urgency=Urgency.IMMEDIATE,
        severity=severity,
        certainty=Certainty.LIKELY,
        tone=Tone.WARNING,
        texts=tuple(TemplateText(language="vi", headline="Lũ", media_sha256=file(each)) for each in files),
        repeat_interval=timedelta(seconds=30),
        validity=timedelta(hours=1),
        place=place,
        created_at=NOW,
        changed_at=NOW,
    )


def test_the_gravest_comes_first_and_what_more_units_share() -> None:
    kept = {
        PROVINCE: [a_template(1), a_template(2, severity=Severity.EXTREME), a_template(3, place=1)],
        COMMUNE: [a_template(4), a_template(5, severity=Severity.EXTREME)],
        OTHER: [a_template(6)],
    }
    assert files_at(PATH, kept, [file(9)]) == tuple(map(file, (9, 2, 5, 1, 3, 4)))
    assert files_at((), kept, []) == ()


def test_what_does_not_fit_whole_is_left_out() -> None:
    full = a_template(*range(100, 100 + MAX_FILES - 1), severity=Severity.EXTREME, number=1)
    kept = {PROVINCE: [full, a_template(1, 2, severity=Severity.SEVERE), a_template(3, severity=Severity.MINOR)]}
    found = files_at(PATH, kept, [])
    assert len(found) == MAX_FILES
    assert found[-1] == file(3)


@given(st.lists(st.lists(st.integers(1, 200), min_size=1, max_size=8), max_size=60), st.integers(0, 4))
def test_never_more_than_a_configuration_holds_and_each_once(sounds: list[list[int]], tones: int) -> None:
    kept = {PROVINCE: [a_template(*each, number=number + 1) for number, each in enumerate(sounds)]}
    found = files_at(PATH, kept, [file(1_000 + each) for each in range(tones)])
    assert len(found) == len(set(found)) <= MAX_FILES
    assert found[:tones] == tuple(file(1_000 + each) for each in range(tones))


def test_a_template_is_an_alert_but_for_its_audience() -> None:
    template = replace(
        a_template(7), texts=(TemplateText(language="vi", headline="Lũ", instruction="Chạy", media_sha256=file(7)),)
    )
    draft = template.draft(unit_id=COMMUNE, audience=AudienceWish.of_units(COMMUNE), now=NOW)
    assert (draft.unit_id, draft.template_id, draft.status) == (COMMUNE, template.template_id, Status.ACTUAL)
    assert draft.valid_until == NOW + timedelta(hours=1)
    assert draft.texts[0].media_sha256 == file(7)
    assert template.texts[0].words == "Lũ\nChạy"
    test = replace(template, purpose=Purpose.AUDIBLE_TEST)
    assert test.draft(unit_id=COMMUNE, audience=AudienceWish(), now=NOW).status is Status.TEST
