"""Reforms of units: mappings read, decided on, and what the tree of a day makes of them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from datetime import date, timedelta

import pytest

from schemas.identifiers import UnitId
from services.control import unit_files, unit_mappings
from services.control.errors import Invalid
from services.control.permissions import Grant, Permission, Rights, Role
from services.control.planning.model import DeviceNo
from services.control.unit_changes import applied, changes
from services.control.unit_reforms import Holdings, Housed, Reform, decide, undone
from services.control.units import UnitHeir, UnitHistory, UnitTree
from tests.support.planning import LONG_AGO

FIRST, DAY = date(2020, 1, 1), date(2025, 7, 1)
EVE = DAY - timedelta(days=1)

OLD = """code,parent_code,level,name
24,,province,Tỉnh Bắc Giang
1,24,district,Huyện Bắc
2,24,district,Huyện Nam
11,1,commune,Xã Một
12,1,commune,Xã Hai
21,2,commune,Xã Ba
22,2,commune,Xã Bốn
"""
# Xã Hai goes on; code 11 is given to another commune; Xã Một and Xã Ba become Xã Mới.
NEW = """code,parent_code,level,name
24,,province,Bắc Ninh
11,24,commune,Xã Mới
12,24,commune,Xã Hai
22,24,commune,Phường Bốn
"""
MAPPING = """old_code,new_code
24,24
1,24
2,24
11,11
21,11
22,22
"""


def history() -> UnitHistory:
    numbers = itertools.count(1)
    empty = UnitHistory(())
    return applied(
        empty,
        changes(
            empty,
            unit_files.parse(OLD.encode()),
            valid_from=FIRST,
            new_id=lambda: uuid.UUID(int=next(numbers)),
        ),
    )


def unit(code: str, on: date = EVE, within: UnitHistory | None = None) -> UnitId:
    return next(each.unit_id for each in (within or history()).on(on) if each.code == code)


def decided(
    mapping: str = MAPPING,
    new: str = NEW,
    *,
    holdings: Mapping[UnitId, Holdings] | None = None,
    housed: Mapping[str, Housed] | None = None,
    before: UnitHistory | None = None,
    day: date = DAY,
) -> Reform:
    numbers = itertools.count(1000 * day.year + day.month)
    return decide(
        before or history(),
        unit_files.parse(new.encode(), field="tree"),
        unit_mappings.parse(mapping.encode()),
        valid_from=day,
        holdings=holdings if holdings is not None else {unit("11"): Holdings(devices=3)},
        housed=housed or {},
        new_id=lambda: uuid.UUID(int=next(numbers)),
    )


def after(reform: Reform, before: UnitHistory | None = None) -> UnitHistory:
    done = applied(before or history(), reform.changes)
    ended = {(heir.unit_id, heir.valid_from) for heir in reform.ended_heirs}
    kept = [heir for heir in done.heirs if (heir.unit_id, heir.valid_from) not in ended]
    return UnitHistory(
        (*done.versions, *(part.version for part in reform.parts)), (*kept, *reform.ended_heirs, *reform.heirs)
    )


def faults(mapping: str | bytes, **changes: object) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as raised:
        if isinstance(mapping, bytes):
            unit_mappings.parse(mapping)
        else:
            decided(mapping, **changes)  # type: ignore[arg-type]
    return [(fault.field, fault.code) for fault in raised.value.faults]


HEAD = "old_code,new_code\n"
WITH_DEVICES = "old_code,new_code,device_id\n"
LOUD = {"loa-1": Housed(device_no=DeviceNo(1), unit_id=UnitId(uuid.UUID(int=4)))}  # in Xã Một


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        pytest.param(HEAD + "99,11\n11,11\n", [("mapping.lines[2].old_code", "unknown_old_code")], id="unknown_old"),
        pytest.param(HEAD + "11,99\n", [("mapping.lines[2].new_code", "unknown_new_code")], id="unknown_new"),
        pytest.param(HEAD + "21,11\n", [("mapping", "old_unit_unmapped")], id="unit_in_use_unmapped"),
        pytest.param(HEAD + "11,11\n11,22\n", [("mapping.lines[3].old_code", "old_unit_twice")], id="twice"),
        pytest.param(HEAD + "11,\n,11\n", [("mapping.lines[2].new_code", "cell_is_empty"), ("mapping.lines[3].old_code", "cell_is_empty")], id="empty_cells"),
        pytest.param(HEAD + "11,11,loa-1\n", [("mapping.lines[2]", "wrong_cell_count")], id="too_many_cells"),
        pytest.param("old,new\n11,11\n", [("mapping", "bad_header")], id="wrong_columns"),
        pytest.param("old_code,new_code,old_code\n11,11,11\n", [("mapping", "bad_header")], id="column_twice"),
        pytest.param(HEAD, [("mapping", "file_is_empty")], id="no_lines"),
        pytest.param("", [("mapping", "file_is_empty")], id="empty"),
        pytest.param("old_code,new_code\nXã,11\n".encode("utf-16"), [("mapping", "not_utf8")], id="utf16"),
        pytest.param("old_code,new_code\nXã,11\n".encode("cp1258", "replace").replace(b"?", b"\xe3"), [("mapping", "not_utf8")], id="cp1258"),
        pytest.param(b'old_code,new_code\n"11,11\n', [("mapping", "not_csv")], id="open_quote"),
        pytest.param(WITH_DEVICES + "11,22,loa-1\n", [("mapping.lines[2].old_code", "split_without_heir")], id="split_only"),
        pytest.param(WITH_DEVICES + "11,11,\n11,22,loa-9\n", [("mapping.lines[3].device_id", "unknown_mapped_device")], id="unknown_device"),
        pytest.param(WITH_DEVICES + "11,11,\n12,22,loa-1\n", [("mapping.lines[3].device_id", "device_in_other_unit")], id="device_elsewhere"),
        pytest.param(WITH_DEVICES + "11,11,\n11,22,loa-1\n11,12,loa-1\n", [("mapping.lines[4].device_id", "device_twice")], id="device_twice"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_line_and_column(mapping: str | bytes, expected: list[tuple[str, str]]) -> None:
    assert faults(mapping, housed=LOUD) == expected


def test_units_that_both_trees_call_alike_cannot_go_over_into_one_another() -> None:
    same = OLD.replace("Xã Bốn", "Xã Năm")
    circle = HEAD + "11,12\n12,21\n21,11\n"
    assert faults(circle, new=same) == [(f"mapping.lines[{line}].new_code", "mapping_circle") for line in (2, 3, 4)]


def test_codes_that_change_hands_are_no_circle() -> None:
    swapped = OLD.replace("11,1,commune,Xã Một", "11,1,commune,Xã Hai").replace(
        "12,1,commune,Xã Hai", "12,1,commune,Xã Một", 1
    )
    history_ = after(decided(HEAD + "11,12\n12,11\n", swapped))
    assert history_.on(DAY).standing(unit("11")) == unit("12", DAY, history_)


def test_a_unit_that_both_trees_call_alike_goes_over_when_the_mapping_says_so() -> None:
    reform = decided(MAPPING + "12,11\n")
    history_ = after(reform)
    tree = history_.on(DAY)
    assert not tree.stands(unit("12"))
    assert tree.standing(unit("12")) == unit("11", DAY, history_)
    assert unit("12", DAY, history_) != unit("12")


def test_old_units_are_taken_for_their_heirs_from_the_day_on_and_not_before() -> None:
    history_ = after(decided())
    old, new = unit("11"), unit("11", DAY, history_)
    eve, tree = history_.on(EVE), history_.on(DAY)
    assert old != new
    assert (eve.standing(old), tree.standing(old)) == (old, new)
    assert (eve.path(old)[-1], tree.path(old)[-1]) == (old, new)
    assert new not in eve
    assert set(tree.subtree(new)) == {new, old, unit("21")}
    assert tree.covers(new, unit("21"))
    assert tree.covers(unit("21"), new)
    assert [tree.depth(old), tree.depth(unit("1"))] == [1, 0]
    assert {each.code for each in tree} == {"24", "11", "12", "22"}
    assert len(tree) == 4


def rights(role: Role, code: str, tree: UnitTree) -> Rights:
    return Rights([Grant(unit_id=unit(code), role=role)], tree, now=LONG_AGO)


def test_rights_follow_to_a_unit_of_the_same_level() -> None:
    history_ = after(decided())
    new = unit("11", DAY, history_)
    before, then = (rights(Role.OFFICER, "11", history_.on(day)) for day in (EVE, DAY))
    assert before.units(Permission.MAKE_BROADCASTS) == (unit("11"),)
    assert then.units(Permission.MAKE_BROADCASTS) == (new,)
    assert then.may(Permission.MAKE_BROADCASTS, unit("21"))  # filed under a unit that became part of the same one
    assert then.reach(Permission.SEE_BULLETINS) == {new, unit("11"), unit("21")}
    assert not before.may(Permission.MAKE_BROADCASTS, unit("21"))
    root = rights(Role.ADMINISTRATOR, "24", history_.on(DAY))
    assert root.may_in_root(Permission.IMPORT_UNITS)


def test_rights_never_rise_to_a_higher_level() -> None:
    history_ = after(decided())
    assert rights(Role.ADMINISTRATOR, "1", history_.on(EVE)).may(Permission.REGISTER_DEVICES, unit("12"))
    then = rights(Role.ADMINISTRATOR, "1", history_.on(DAY))
    assert not then.may_anywhere(Permission.REGISTER_DEVICES)
    assert not then.may(Permission.REGISTER_DEVICES, unit("12"))


def test_a_target_keeps_its_ground() -> None:
    history_ = after(decided())
    tree = history_.on(DAY)
    new, hai = unit("11", DAY, history_), unit("12")
    assert set(tree.ground(unit("11"))) == {new, unit("11"), unit("21")}
    # The district's ground: its communes' heirs, itself for what hangs there, and nothing else of the province.
    assert set(tree.ground(unit("1"))) == {unit("1"), new, unit("11"), unit("21"), hai}
    assert set(tree.ground(unit("2"))) == {
        unit("2"),
        new,
        unit("11"),
        unit("21"),
        unit("22", DAY, history_),
        unit("22"),
    }
    assert set(history_.on(EVE).ground(unit("1"))) == {unit("1"), unit("11"), hai}
    assert tree.ground(UnitId(uuid.UUID(int=77))) == ()


def test_a_split_unit_gives_single_devices_to_another_heir() -> None:
    reform = decided(
        "old_code,new_code,device_id\n24,24,\n1,24,\n2,24,\n11,11,\n21,11,\n22,22,\n11,22,loa-1\n", housed=LOUD
    )
    (part,) = reform.parts
    history_ = after(reform)
    eve, tree = history_.on(EVE), history_.on(DAY)
    assert part.device_nos == (DeviceNo(1),)
    assert eve.covers(unit("11"), part.version.unit_id)
    assert tree.standing(part.version.unit_id) == unit("22", DAY, history_)
    # Who targeted the old commune still means the device, but not all of the commune it went to.
    assert part.version.unit_id in tree.ground(unit("11"))
    assert unit("22", DAY, history_) not in tree.ground(unit("11"))
    assert not rights(Role.OFFICER, "11", tree).may(Permission.MAKE_BROADCASTS, part.version.unit_id)


def test_an_heir_that_is_closed_in_its_turn_is_followed() -> None:
    first = after(decided())
    later = date(2026, 7, 1)
    reform = decided(
        HEAD + "11,12\n", NEW.replace("11,24,commune,Xã Mới\n", ""), before=first, day=later, holdings={unit("11"): Holdings(devices=1)}
    )  # fmt: skip
    second = after(reform, first)
    assert second.on(later).standing(unit("11")) == unit("12")
    assert second.on(DAY).standing(unit("11")) == unit("11", DAY, first)
    assert second.on(later).standing(unit("21")) == unit("12")


def test_what_is_filed_under_a_unit_closed_long_ago_counts_for_its_heir() -> None:
    first = after(decided())
    mapping = HEAD + "22,12\n"
    with pytest.raises(Invalid) as raised:
        decided(mapping, NEW.replace("11,24,commune,Xã Mới\n", ""), before=first, day=date(2026, 7, 1))
    (fault,) = raised.value.faults
    assert (fault.code, fault.facts["unit"], fault.facts["devices"]) == ("old_unit_unmapped", "Xã Mới", 3)


def test_a_reform_that_is_undone_leaves_the_heirs_of_before() -> None:
    first = after(decided())
    later = date(2026, 7, 1)
    second = after(decided(HEAD + "11,12\n", NEW.replace("11,24,commune,Xã Mới\n", ""), before=first, day=later), first)
    assert undone(second, later, ()).heirs == first.heirs


def test_an_heir_of_the_other_days_is_nobody() -> None:
    heir = UnitHeir(unit_id=unit("11"), heir_id=unit("12"), valid_from=DAY, keeps_rights=True)
    tree = UnitHistory(history().versions, [heir]).on(DAY)
    assert tree.standing(unit("11")) == unit("11")  # it stands itself
