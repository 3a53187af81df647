"""What of an alert is spoken, and how the voice stands beside the tone."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.identifiers import UnitId
from services.control.alerting import voicing
from services.control.alerting.model import AlertDraft, AlertText, AudienceWish
from services.control.alerting.tones import Tone

TONE, VOICE, RECORDING = b"t" * 32, b"v" * 32, b"r" * 32
UNIT = UnitId(uuid.UUID(int=1))


def a_draft(*texts: AlertText) -> AlertDraft:
    return AlertDraft(
        unit_id=UNIT,
        event="Lũ",
        texts=texts or (a_text(media_sha256=TONE), a_text("en", headline="Flood")),
        audience=AudienceWish.of_units(UNIT),
        valid_until=datetime(2026, 3, 10, tzinfo=UTC),
    )


def a_text(language: str = "vi", **changes: Any) -> AlertText:
    return replace(AlertText(language=language, headline="Lũ khẩn cấp", event="Lũ"), **changes)


@pytest.mark.parametrize(
    ("texts", "wants"),
    [
        ((a_text(media_sha256=TONE),), True),
        ((a_text(media_sha256=TONE), a_text("en")), True),
        ((a_text(media_sha256=RECORDING),), False),
        ((a_text(),), False),
        ((a_text(media_sha256=TONE), a_text("vi-001", media_sha256=VOICE)), False),
        ((a_text(media_sha256=TONE), a_text("en", media_sha256=TONE)), False),
        ((a_text(media_sha256=TONE, event=None), a_text("en")), False),
        ((a_text(media_sha256=TONE), *(a_text(f"x{letter}") for letter in "abcdef")), True),
        ((a_text(media_sha256=TONE), *(a_text(f"x{letter}") for letter in "abcdefg")), False),
    ],
    ids=["tone", "in-one-of-two", "recording", "boards-only", "voiced", "in-both", "reworded", "room-for-one", "full"],
)
def test_only_what_is_a_bare_tone_wants_a_voice(texts: tuple[AlertText, ...], wants: bool) -> None:
    assert voicing.wants_a_voice(a_draft(*texts), {TONE}) is wants


def test_the_voice_stands_beside_the_tone_and_says_the_same_to_boards() -> None:
    first = a_text(media_sha256=TONE, instruction="Lên cao", board_text="LŨ")
    voiced = voicing.with_voice(a_draft(first, a_text("en")), VOICE)
    assert [(each.language, each.media_sha256) for each in voiced.texts] == [
        ("vi", TONE), ("vi-001", VOICE), ("en", None),
    ]  # fmt: skip
    assert replace(voiced.texts[1], language="vi", media_sha256=TONE) == first
    assert not voicing.wants_a_voice(voiced, {TONE})


@pytest.mark.parametrize(
    ("languages", "voice"),
    [
        (("vi",), "vi-001"),
        (("vi-VN", "en"), "vi"),
        (("vi-VN", "vi"), "vi-001"),
        (("vi", "VI-001", "vi-XA"), "vi-XB"),
        (("vi", "vi-001", *(f"vi-X{letter}" for letter in "ABCDE")), "vi-XF"),
    ],
)
def test_the_voice_takes_a_tag_that_is_free_and_no_text_from_its_place(languages: tuple[str, ...], voice: str) -> None:
    texts = (a_text(languages[0], media_sha256=TONE), *map(a_text, languages[1:]))
    voiced = voicing.with_voice(a_draft(*texts), VOICE).texts
    assert (voiced[0], voiced[1].language, voiced[2:]) == (texts[0], voice, texts[1:])


def test_a_voice_is_folded_into_the_text_it_reads_and_other_words_stay() -> None:
    first = a_text(media_sha256=TONE, board_text="LŨ")
    voiced = voicing.with_voice(a_draft(first, a_text("en", headline="Flood")), VOICE).texts
    assert voicing.originals(voiced) == (0, 0, 2)
    assert voicing.folded(voiced) == ((first, (TONE, VOICE)), (voiced[2], ()))
    others = (first, replace(voiced[1], board_text="KHÁC"), a_text("en", board_text="LŨ"))
    assert voicing.originals(others) == (0, 1, 2)


def test_what_is_the_matter_comes_first_then_what_to_do_and_no_sentence_is_cut() -> None:
    description = "Mực nước  lên\nnhanh. " * 100
    job = voicing.job_of(a_draft(a_text(media_sha256=TONE, instruction="Lên chỗ cao.", description=description)))
    headline, instruction, rest = job.words.split("\n")
    assert (headline, instruction, job.tone, job.language) == ("Lũ khẩn cấp", "Lên chỗ cao.", Tone.NONE, "vi")
    assert rest.startswith("Mực nước lên nhanh. Mực")
    assert rest.endswith("nhanh.")
    assert voicing.MOST_SPOKEN - 30 < len(job.words) <= voicing.MOST_SPOKEN + 2


def test_a_part_without_a_sentence_that_fits_is_left_out() -> None:
    job = voicing.job_of(a_draft(a_text(media_sha256=TONE, instruction="a" * 1_300, description="Ngắn.")))
    assert job.words == "Lũ khẩn cấp\nNgắn."
