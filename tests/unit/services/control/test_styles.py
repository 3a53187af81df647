"""Words on the pages can be read: contrast of 4.5 to 1 at least (WCAG 2.1, 1.4.3), for every pair of colours in use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import services.control

CSS = (Path(services.control.__file__).parent / "pages" / "static" / "loa.css").read_text()
COLOURS = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", CSS))

PAIRS = [
    ("ink", "paper"),
    ("ink", "ground"),
    ("soft", "paper"),
    ("soft", "ground"),
    ("blue", "paper"),
    ("blue", "ground"),
    ("paper", "blue"),
    ("amber", "paper"),
    ("green", "green-ground"),
    ("red", "red-ground"),
    ("amber", "amber-ground"),
    ("violet", "violet-ground"),
]


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("words", "ground"), PAIRS, ids=[f"{words} on {ground}" for words, ground in PAIRS])
def test_words_stand_out_from_their_ground(words: str, ground: str) -> None:
    assert contrast(COLOURS[words], COLOURS[ground]) >= 4.5


@pytest.mark.parametrize(
    ("words", "ground"),
    [("#fff", "#0f2f4f"), ("#c6d5e5", "#0f2f4f"), ("#3a4753", COLOURS["grey-ground"]), (COLOURS["soft"], "#eaeff4")],
)
def test_and_where_colours_are_written_out(words: str, ground: str) -> None:
    assert words in CSS
    assert ground in CSS
    assert contrast(words, ground) >= 4.5


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert "url(" not in CSS
    assert "@import" not in CSS
