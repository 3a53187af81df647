"""The canonical forms of a bulletin's content, and how far a bulletin has come."""

from __future__ import annotations

import uuid
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from schemas.identifiers import BulletinId, UnitId
from services.control.bulletin_store import Bulletin, Content, Usage
from services.control.bulletins import content_hash, is_intact, stage

NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)
CONTENT = Content(
    title="Lịch tiêm chủng",
    subject_field="health",
    language="vi",
    media_sha256=b"\xab" * 32,
    board_text="Sáng thứ Bảy",
)

# Frozen for ever: what these were taken over stands in databases.
FORM_1 = "698da1472b099bda9d560a428125dc006b952bdd5bcd4ede797cae9f79eca03b"
FORM_2 = "35a88c594e9537a24b63273b6f623c0ded6f03bab26ebd17571e734d65e409db"

CHANGES: dict[str, Any] = {
    "title": "Khác",
    "subject_field": "general",
    "language": "en",
    "author": "Ban văn hóa",
    "kind": "jingle",
    "origin": "province",
    "media_sha256": None,
    "board_text": None,
    "board_style": "ticker",
    "board_media_sha256": b"\xcd" * 32,
    "board_length_ms": 10_000,
    "expires_at": NOW,
    "max_plays": 1,
}


def a_bulletin(**changes: Any) -> Bulletin:
    bulletin = Bulletin(
        title=CONTENT.title,
        subject_field=CONTENT.subject_field,
        language=CONTENT.language,
        media_sha256=CONTENT.media_sha256,
        board_text=CONTENT.board_text,
        bulletin_id=BulletinId(uuid.UUID(int=1)),
        unit_id=UnitId(uuid.UUID(int=2)),
        content_hash=content_hash(CONTENT),
        content_form=2,
        state="approved",
        created_at=NOW,
        created_by=uuid.UUID(int=3),
        edited_by=frozenset(),
    )
    return replace(bulletin, **changes)


@pytest.mark.parametrize(("form", "expected"), [(1, FORM_1), (2, FORM_2)])
def test_a_form_never_changes(form: int, expected: str) -> None:
    assert content_hash(CONTENT, form).hex() == expected


def test_the_newest_form_covers_every_field_of_the_content() -> None:
    assert CHANGES.keys() == {each.name for each in fields(Content)}
    hashes = {content_hash(replace(CONTENT, **{name: value})) for name, value in CHANGES.items()}
    assert len(hashes | {content_hash(CONTENT)}) == len(CHANGES) + 1


def test_the_first_form_knows_nothing_of_what_came_later() -> None:
    later = {name: value for name, value in CHANGES.items() if name in ("kind", "origin", "max_plays", "board_style")}
    assert content_hash(replace(CONTENT, **later), 1).hex() == FORM_1


def test_an_instant_is_the_same_in_every_zone() -> None:
    here = replace(CONTENT, expires_at=NOW)
    there = replace(CONTENT, expires_at=NOW.astimezone(timezone(timedelta(hours=7))))
    assert content_hash(here) == content_hash(there)


def test_content_is_intact_by_the_form_it_was_frozen_in() -> None:
    assert is_intact(a_bulletin())
    assert not is_intact(a_bulletin(title="Khác"))
    assert is_intact(a_bulletin(content_form=1, content_hash=bytes.fromhex(FORM_1)))
    assert not is_intact(a_bulletin(content_form=1))


@pytest.mark.parametrize("state", ["draft", "submitted", "rejected", "withdrawn"])
def test_only_what_is_approved_goes_further(state: str) -> None:
    assert stage(a_bulletin(state=state), Usage(is_scheduled=True, first_played_at=NOW)) == state


@pytest.mark.parametrize(
    ("is_scheduled", "first_played_at", "expected"),
    [(False, None, "approved"), (True, None, "scheduled"), (True, NOW, "scheduled"), (False, NOW, "played")],
)
def test_an_approved_bulletin_is_scheduled_then_played(
    is_scheduled: bool, first_played_at: datetime | None, expected: str
) -> None:
    assert stage(a_bulletin(), Usage(is_scheduled=is_scheduled, first_played_at=first_played_at)) == expected
