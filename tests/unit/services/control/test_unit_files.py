from __future__ import annotations

from pathlib import Path

import pytest

import services.control
from services.control.csv_tables import MAX_BYTES
from services.control.errors import Invalid
from services.control.unit_files import parse

HEADER = "code,parent_code,level,name\n"
ROOT = HEADER + "1,,province,Tỉnh\n"
DATA = Path(services.control.__file__).parent / "data"


def faults(content: str | bytes) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        parse(content.encode() if isinstance(content, str) else content)
    return [(fault.field, fault.code) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", [("file", "file_is_empty")], id="empty"),
        pytest.param("\n\n", [("file", "file_is_empty")], id="blank_lines"),
        pytest.param(HEADER, [("file", "file_is_empty")], id="header_only"),
        pytest.param("code,parent,level,name\n1,,province,T\n", [("file", "bad_header")], id="bad_header"),
        pytest.param("code;parent_code;level;name\n1;;province;T\n", [("file", "bad_header")], id="semicolons"),
        pytest.param("1,,province,T\n", [("file", "bad_header")], id="no_header"),
        pytest.param("code,code,level,name\n", [("file", "bad_header")], id="column_twice"),
        pytest.param(ROOT.encode("utf-16"), [("file", "not_utf8")], id="utf_16"),
        pytest.param(ROOT.encode() + "2,1,commune,Bình".encode("latin-1"), [("file", "not_utf8")], id="latin_1"),
        pytest.param(ROOT + "2,1,commune,X\x00Y\n", [("file", "not_text")], id="zero_byte"),
        pytest.param(ROOT + '2,1,commune,"X\n', [("file", "not_csv")], id="open_quote"),
        pytest.param(ROOT + "2,1,commune\n", [("lines[3]", "wrong_cell_count")], id="cell_missing"),
        pytest.param(ROOT + "2,1,commune,Xã A, Xã B\n", [("lines[3]", "wrong_cell_count")], id="comma_in_name"),
        pytest.param(ROOT + ",1,commune,X\n", [("lines[3].code", "cell_is_empty")], id="no_code"),
        pytest.param(ROOT + "2,1,,X\n", [("lines[3].level", "cell_is_empty")], id="no_level"),
        pytest.param(ROOT + "2,1,commune,  \n", [("lines[3].name", "cell_is_empty")], id="no_name"),
        pytest.param(ROOT + "2 3,1,commune,X\n", [("lines[3].code", "bad_unit_code")], id="bad_code"),
        pytest.param(ROOT + "2,1,Xã,X\n", [("lines[3].level", "bad_unit_level")], id="bad_level"),
        pytest.param(ROOT + "2,1,commune," + "x" * 201 + "\n", [("lines[3].name", "text_too_long")], id="long_name"),
        pytest.param(ROOT + "2,1,commune,X\x07\n", [("lines[3].name", "text_has_control_characters")], id="bell"),
        pytest.param(ROOT + "1,1,commune,X\n", [("lines[3].code", "duplicate_unit_code")], id="duplicate_code"),
        pytest.param(ROOT + "2,9,commune,X\n", [("lines[3].parent_code", "unknown_parent_code")], id="unknown_parent"),
        pytest.param(ROOT + "2,,province,X\n", [("lines[3].parent_code", "second_root")], id="two_roots"),
        pytest.param(
            HEADER + "1,2,a,X\n2,1,a,Y\n",
            [("file", "no_root"), ("lines[2].parent_code", "unit_circle"), ("lines[3].parent_code", "unit_circle")],
            id="no_root_but_a_circle",
        ),
        pytest.param(
            ROOT + "2,3,a,X\n3,2,a,Y\n",
            [("lines[3].parent_code", "unit_circle"), ("lines[4].parent_code", "unit_circle")],
            id="circle_beside_the_tree",
        ),
        pytest.param(ROOT + "2,2,a,X\n", [("lines[3].parent_code", "unit_circle")], id="its_own_parent"),
        pytest.param(b"x" * (MAX_BYTES + 1), [("file", "file_too_large")], id="too_large"),
    ],
)
def test_each_fault_is_named_with_its_line_and_column(content: str | bytes, expected: list[tuple[str, str]]) -> None:
    assert faults(content) == expected


def test_every_fault_is_named_at_once() -> None:
    assert faults(ROOT + "1,,province,X\n2,9,commune,\n") == [
        ("lines[4].name", "cell_is_empty"),
        ("lines[3].code", "duplicate_unit_code"),
        ("lines[4].parent_code", "unknown_parent_code"),
        ("lines[3].parent_code", "second_root"),
    ]


def test_very_many_faults_are_counted_rather_than_listed() -> None:
    found = faults(ROOT + "".join(f"{number},nowhere,commune,X\n" for number in range(2, 200)))
    assert len(found) == 51
    assert found[-1] == ("file", "more_faults")


def test_a_chain_deeper_than_the_wire_can_say_is_refused() -> None:
    chain = "".join(f"{number},{number - 1},a,X\n" for number in range(2, 18))
    assert faults(ROOT + chain) == [("lines[18].parent_code", "unit_too_deep")]


@pytest.mark.parametrize(
    "content",
    [
        ("\ufeff" + ROOT).encode(),
        ROOT.replace("\n", "\r\n").encode(),
        (ROOT + "\n\n").encode(),
        "name,level,parent_code,code\nTỉnh,province,,1\n".encode(),
        'code,parent_code,level,name\n1,,province,"Tỉnh"'.encode(),
    ],
    ids=["byte_order_mark", "crlf", "blank_lines", "other_order_of_columns", "no_last_newline"],
)
def test_harmless_differences_are_tolerated(content: bytes) -> None:
    (row,) = parse(content)
    assert (row.code, row.parent_code, row.level, row.name) == ("1", None, "province", "Tỉnh")


def test_parents_come_before_children_whatever_the_order_of_lines() -> None:
    rows = parse((HEADER + "3,2,commune,C\n2,1,district,B\n1,,province,A\n").encode())
    assert [row.code for row in rows] == ["1", "2", "3"]


def test_names_are_composed_and_tidied() -> None:
    (row,) = parse((HEADER + "1,,province, Xa\u0303   Sơn \n").encode())
    assert row.name == "Xã Sơn"


@pytest.mark.parametrize(
    ("name", "units", "districts"), [("bac_giang_3_level.csv", 220, 10), ("bac_ninh_2_level.csv", 100, 0)]
)
def test_the_trees_we_ship_are_sound(name: str, units: int, districts: int) -> None:
    rows = parse((DATA / name).read_bytes())
    assert len(rows) == units
    assert sum(row.level == "district" for row in rows) == districts
