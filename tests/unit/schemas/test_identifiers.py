"""Names are parsed once, and nothing that means something elsewhere is one."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidIdentifier
from schemas.identifiers import RESERVED, DeviceId, parse_uuid
from tests.support.strategies import device_ids

CANONICAL = "0198f3c2-5e00-7000-8000-00000000000a"


@pytest.mark.parametrize("text", ["abc", "a-b", "0-0", "cum-loa-0142", "x" * 48, "a--b", "area1", "my-area", "007"])
def test_a_device_id_is_kept_as_it_is(text: str) -> None:
    assert DeviceId.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "ab",
        "x" * 49,
        "-ab",
        "ab-",
        "---",
        "Abc",
        "aBc",
        "a_b",
        "a.b",
        "a b",
        " abc",
        "abc ",
        "abc\n",
        "\nabc",
        "abc\0",
        "a/b",
        "a+b",
        "a#b",
        "+",
        "#",
        "$share",
        "cụm-loa",
        "аbc",  # a Cyrillic а
        "abc٣",  # an Arabic digit: \d would take it
        "ａbc",  # a full-width a
        "a\u200bc",
        "a,cn=ingest",
        "%u",
        "*",
        *sorted(RESERVED),
    ],
)
def test_a_text_against_the_grammar_is_no_device_id(text: str) -> None:
    with pytest.raises(InvalidIdentifier):
        DeviceId.parse(text)


def test_no_service_or_topic_level_is_a_device() -> None:
    assert {"area", "ingest", "control", "monitor", "up", "down", "presence"} <= RESERVED


@given(st.text(max_size=60))
def test_whatever_is_a_device_id_is_safe_in_a_topic_and_a_certificate(text: str) -> None:
    try:
        device = DeviceId.parse(text)
    except InvalidIdentifier:
        return
    assert 3 <= len(device) <= 48
    assert set(device) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert device[0] != "-" != device[-1]


@given(device_ids())
def test_generated_names_are_device_ids(device: DeviceId) -> None:
    assert DeviceId.parse(str(device)) == device


def test_a_uuid_is_read_in_canonical_form() -> None:
    assert parse_uuid(CANONICAL) == uuid.UUID(CANONICAL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        CANONICAL.upper(),
        CANONICAL.replace("-", ""),
        f"{{{CANONICAL}}}",
        f"urn:uuid:{CANONICAL}",
        f"{CANONICAL} ",
        f"{CANONICAL}0",
        CANONICAL[:-1],
        CANONICAL.replace("a", "g"),
        "x" * 10_000,
    ],
)
def test_a_uuid_in_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidIdentifier) as refusal:
        parse_uuid(text)
    assert len(str(refusal.value)) < 200
