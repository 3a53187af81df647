"""What a message says to each ground is said apart; what it says in several languages, or in parts, is said together."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.identifiers import UnitId
from services.control.alerting.cap import CapArea, CapInfo, ResponseType
from services.control.alerting.cap_sayings import is_all_clear, sayings
from services.control.alerting.model import AreaWish, Category, Certainty, Severity, Urgency

NORTH, SOUTH = (AreaWish(units=(UnitId(uuid.UUID(int=number)),)) for number in (1, 2))
LATER = datetime(2026, 11, 29, 12, tzinfo=UTC)


def info(language: str = "vi", headline: str = "Lũ lên", **changes: Any) -> CapInfo:
    plain = CapInfo(
        language=language,
        categories=(Category.MET,),
        event="Lũ",
        urgency=Urgency.IMMEDIATE,
        severity=Severity.SEVERE,
        certainty=Certainty.LIKELY,
        headline=headline,
        areas=(CapArea(description=headline),),
    )
    return replace(plain, **changes)


def said(*told: tuple[CapInfo, tuple[AreaWish, ...]]) -> list[tuple[list[str], tuple[AreaWish, ...]]]:
    return [([each.headline for each in saying.texts(b"x")], saying.areas) for saying in sayings(told)]


def test_one_ground_in_several_languages_is_one_saying_and_begins_in_vietnamese() -> None:
    (saying,) = sayings([(info("en-US", "Flood", expires=LATER), (NORTH,)), (info("vi-VN"), (NORTH,))])
    assert [(each.language, each.media_sha256) for each in saying.texts(b"x")] == [("vi", b"x"), ("en", None)]
    assert (saying.main.headline, saying.expires) == ("Lũ lên", LATER)


def test_translations_that_judge_otherwise_are_no_second_alert() -> None:
    assert said((info(), (NORTH,)), (info("en", "Flood", severity=Severity.UNKNOWN), (NORTH,))) == [
        (["Lũ lên", "Flood"], (NORTH,))
    ]


def test_other_words_for_other_ground_are_said_apart() -> None:
    leave, over = info(headline="SƠ TÁN NGAY"), info(headline="ĐÃ HẾT MƯA", severity=Severity.MINOR)
    assert said(
        (leave, (NORTH,)), (info("en", "LEAVE NOW"), (NORTH,)), (over, (SOUTH,)), (info("en", "IT IS OVER"), (SOUTH,))
    ) == [(["SƠ TÁN NGAY", "LEAVE NOW"], (NORTH,)), (["ĐÃ HẾT MƯA", "IT IS OVER"], (SOUTH,))]


def test_the_same_words_for_several_grounds_are_one_saying() -> None:
    (saying,) = sayings([(info(), (NORTH,)), (info(), (SOUTH,))])
    assert [each.units for each in saying.areas] == [NORTH.units + SOUTH.units]


def test_several_of_one_language_for_one_ground_are_told_together_if_they_judge_alike() -> None:
    first, second = info(description="Nước lên."), info(headline="Lũ lên", description="Tránh xa sông.")
    (saying,) = sayings([(first, (NORTH,)), (second, (NORTH,))])
    (words,) = saying.texts(b"x")
    assert (words.headline, words.description) == ("Lũ lên", "Nước lên.\n\nTránh xa sông.")


@pytest.mark.parametrize(
    "change", [{"severity": Severity.MINOR}, {"urgency": Urgency.FUTURE}, {"expires": LATER}, {"certainty": Certainty.POSSIBLE}]
)  # fmt: skip
def test_and_apart_if_they_do_not(change: dict[str, Any]) -> None:
    found = said((info(headline="Gió"), (NORTH,)), (info(headline="Mưa", **change), (NORTH,)))
    assert found == [(["Gió"], (NORTH,)), (["Mưa"], (NORTH,))]


@pytest.mark.parametrize(
    ("change", "is_over"),
    [
        ({"urgency": Urgency.PAST}, True),
        ({"response_types": (ResponseType.ALL_CLEAR,)}, True),
        ({"response_types": (ResponseType.EVACUATE, ResponseType.ALL_CLEAR)}, False),
        ({"response_types": (ResponseType.MONITOR,)}, False),
        ({}, False),
    ],
)
def test_what_says_that_something_is_over(change: dict[str, Any], is_over: bool) -> None:
    assert is_all_clear(info(**change)) is is_over


def test_whatever_a_sender_writes_fits_into_an_alert() -> None:
    areas = tuple(CapArea(description=f"Khu vực {number}") for number in range(10_000))
    long = info("klingonese", "L" * 100_000, event="E" * 100_000, sender_name="S" * 100_000, areas=areas)
    ((words,),) = ([*each.texts(b"x")] for each in sayings([(long, (NORTH,))]))
    assert words.language == "und"
    assert words.area_description is not None
    assert len(words.area_description) == 2_000
    assert (len(words.headline), len(words.event or ""), len(words.sender_name or "")) == (200, 200, 200)
