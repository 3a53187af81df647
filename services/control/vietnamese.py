"""Vietnamese alphabetical order and accent-free search text, as plain strings that compare by code point. Pure.

Computed here because the embedded database has no ICU. The order is that of Vietnamese dictionaries: syllable by
syllable, in each first the letters (a ă â b c d đ e ê … y z), then the tone (level, huyền, hỏi, ngã, sắc, nặng), so
"tuân thủ" stands before "tuần chay". Runs of digits compare as numbers, so village 2 stands before village 10.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator

_ALPHABET = "aăâbcdđeêfghijklmnoôơpqrstuưvwxyz"
# One code point per letter, above the digits and above the mark that ends a syllable's letters.
_RANK = {letter: chr(ord("A") + position) for position, letter in enumerate(_ALPHABET)}

_TONES = {"\u0300": "1", "\u0309": "2", "\u0303": "3", "\u0301": "4", "\u0323": "5"}
_LEVEL_TONE = "0"
_QUALITIES = {"\u0302", "\u0306", "\u031b"}  # circumflex, breve, horn: they make another letter, not another tone

_END_OF_LETTERS = " "
_DIGITS = 12  # longest number compared as one; a longer one is cut into pieces
_WORD = re.compile(rf"[0-9]{{1,{_DIGITS}}}|[^\W\d_]+")


def sort_key(text: str) -> str:
    """A text whose code-point order is the Vietnamese alphabetical order of `text`; case does not count."""
    return "".join(_syllable_key(word) for word in _WORD.findall(_composed(text)))


def search_text(text: str) -> str:
    """`text` in lower case without diacritics, words separated by single blanks: "Xã Đại Sơn" gives "xa dai son"."""
    return " ".join("".join(_bare(word)) for word in re.findall(r"\w+", _composed(text)))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def _bare(word: str) -> Iterator[str]:
    for character in unicodedata.normalize("NFKD", word):
        if character == "đ":
            yield "d"
        elif not unicodedata.combining(character):
            yield character


def _syllable_key(word: str) -> str:
    if word[0].isdigit():
        return word.rjust(_DIGITS, "0") + _END_OF_LETTERS + _LEVEL_TONE
    tone = _LEVEL_TONE
    letters = []
    for base, marks in _letters(word):
        letters.append(_RANK.get(base, base))
        tone = next((_TONES[mark] for mark in marks if mark in _TONES), tone)
    return "".join(letters) + _END_OF_LETTERS + tone


def _letters(word: str) -> Iterator[tuple[str, str]]:
    """Each letter of the alphabet in `word` with its remaining marks: `ấ` is `â` and an acute."""
    decomposed = unicodedata.normalize("NFD", word)
    for is_mark, group in itertools.groupby(_clusters(decomposed), key=lambda cluster: not cluster[0].isalpha()):
        if is_mark:
            continue
        for cluster in group:
            base, marks = cluster[0], cluster[1:]
            qualities = "".join(mark for mark in marks if mark in _QUALITIES)
            letter = unicodedata.normalize("NFC", base + qualities)
            yield letter, "".join(mark for mark in marks if mark not in _QUALITIES)


def _clusters(decomposed: str) -> list[str]:
    """Base characters, each together with the combining marks that follow it."""
    clusters: list[str] = []
    for character in decomposed:
        if unicodedata.combining(character) and clusters:
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters
