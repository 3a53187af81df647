from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.vietnamese import search_text, sort_key


@pytest.mark.parametrize(
    "ordered",
    [
        ["an", "ăn", "ân"],
        ["da", "đa", "ea", "êa"],
        ["oa", "ôa", "ơa", "pa"],
        ["tu", "tư", "va"],
        ["ma", "mà", "mả", "mã", "má", "mạ"],
        ["tuân thủ", "tuần chay"],  # the tone of the first syllable comes before the letters of the second
        ["ba", "ba má", "bá ba"],
        ["Xã An Lạc", "Xã Đại Sơn", "Xã Tân Tiến"],
        ["Phường Dĩnh Kế", "Phường Đa Mai", "Phường Hoàng Văn Thụ", "Thị trấn An Châu", "Xã An Bá"],
        ["Thôn 2", "Thôn 10", "Thôn 10A"],
        ["Xã Lục Nam", "Xã Lục Ngạn", "Xã Lương Tài"],
        ["hoa", "hòa", "hoà bình", "hỏa"],
        ["Bắc Giang", "Bắc Lũng", "Bắc Ninh", "Bằng An", "Bình Sơn"],
    ],
)
def test_names_stand_in_the_order_of_vietnamese_dictionaries(ordered: list[str]) -> None:
    shuffled = ordered[:]
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=sort_key) == ordered


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("Xã Đại Sơn", "xa dai son"),
        ("  Phường   Thọ  Xương ", "phuong tho xuong"),
        ("THỊ TRẤN NẾNH", "thi tran nenh"),
        ("Bố Hạ (cũ)", "bo ha cu"),
        ("ĐỒNG ƯỚC", "dong uoc"),
        ("", ""),
    ],
)
def test_search_text_has_no_accents(name: str, bare: str) -> None:
    assert search_text(name) == bare


@given(st.text(alphabet="aăâbcdđeêghiklmnoôơpqrstuưvxyáàảãạấầẩẫậ ốồ0123456789-", max_size=40))
def test_composed_and_decomposed_texts_are_the_same(text: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    assert sort_key(decomposed) == sort_key(text)
    assert search_text(decomposed) == search_text(text)


@given(st.text(max_size=60))
def test_any_text_has_a_key_and_a_bare_form(text: str) -> None:
    assert isinstance(sort_key(text), str)
    assert not any(unicodedata.combining(character) for character in search_text(text))
