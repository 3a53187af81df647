from __future__ import annotations

import itertools
import uuid
from datetime import date
from pathlib import Path

import services.control
from services.control.unit_changes import UnitChanges, applied, changes
from services.control.unit_files import parse
from services.control.units import UnitHistory, UnitTree

DATA = Path(services.control.__file__).parent / "data"
FIRST, SECOND = date(2020, 1, 1), date(2025, 7, 1)


def ids() -> itertools.count[int]:
    return itertools.count(1)


def imported(history: UnitHistory, content: str | bytes, day: date, numbers: itertools.count[int]) -> UnitChanges:
    rows = parse(content.encode() if isinstance(content, str) else content)
    return changes(history, rows, valid_from=day, new_id=lambda: uuid.UUID(int=next(numbers)))


def tree_of(*lines: str) -> str:
    return "code,parent_code,level,name\n" + "".join(f"{line}\n" for line in lines)


def shape(tree: UnitTree) -> list[tuple[str, str, int | None]]:
    return [(unit.code, unit.name, tree.depth(unit.unit_id)) for unit in tree]


OLD = tree_of("1,,province,P", "2,1,district,D", "3,2,commune,Xã A", "4,2,commune,Xã B")


def test_the_same_file_again_changes_nothing() -> None:
    numbers = ids()
    history = applied(UnitHistory(()), imported(UnitHistory(()), OLD, FIRST, numbers))
    assert imported(history, OLD, FIRST, numbers).are_none
    assert imported(history, OLD, SECOND, numbers).are_none


def test_a_unit_that_moves_goes_on_under_its_own_id() -> None:
    numbers = ids()
    history = applied(UnitHistory(()), imported(UnitHistory(()), OLD, FIRST, numbers))
    change = imported(history, tree_of("1,,province,P", "3,1,commune,Xã A"), SECOND, numbers)
    history = applied(history, change)
    before, after = history.on(date(2025, 6, 30)), history.on(SECOND)
    commune = next(unit.unit_id for unit in before if unit.code == "3")
    assert commune in after
    assert (before.depth(commune), after.depth(commune)) == (2, 1)
    assert change.kept == 2
    assert {unit.code for unit in before if unit.unit_id in change.closed} == {"2", "4"}


def test_a_code_that_was_given_to_another_unit_is_another_unit() -> None:
    numbers = ids()
    history = applied(UnitHistory(()), imported(UnitHistory(()), OLD, FIRST, numbers))
    change = imported(history, OLD.replace("Xã A", "Phường C"), SECOND, numbers)
    history = applied(history, change)
    old = next(unit for unit in history.on(FIRST) if unit.code == "3")
    new = next(unit for unit in history.on(SECOND) if unit.code == "3")
    assert old.unit_id != new.unit_id
    assert change.closed == {old.unit_id}
    assert old.unit_id not in history.on(SECOND)


def test_a_correction_of_the_same_day_keeps_the_unit_and_mends_its_name() -> None:
    numbers = ids()
    history = applied(UnitHistory(()), imported(UnitHistory(()), OLD, FIRST, numbers))
    before = next(unit for unit in history.on(FIRST) if unit.code == "3")
    history = applied(history, imported(history, OLD.replace("Xã A", "Xã Á"), FIRST, numbers))
    after = next(unit for unit in history.on(FIRST) if unit.code == "3")
    assert (after.unit_id, after.name) == (before.unit_id, "Xã Á")
    assert history.overlaps() == ()


def test_the_real_trees_follow_each_other() -> None:
    numbers = ids()
    old = (DATA / "bac_giang_3_level.csv").read_bytes()
    new = (DATA / "bac_ninh_2_level.csv").read_bytes()
    history = applied(UnitHistory(()), imported(UnitHistory(()), old, FIRST, numbers))
    history = applied(history, imported(history, new, SECOND, numbers))
    assert history.overlaps() == ()
    before, after = history.on(date(2025, 6, 30)), history.on(SECOND)
    assert (len(before), len(after)) == (220, 100)
    assert shape(before) == shape(UnitHistory(imported(UnitHistory(()), old, FIRST, ids()).added).on(FIRST))
    assert shape(after) == shape(UnitHistory(imported(UnitHistory(()), new, SECOND, ids()).added).on(SECOND))
    codes = {unit.code: unit for unit in before}
    shared = [(codes[unit.code], unit) for unit in after if unit.code in codes]
    assert len(shared) == 59
    assert sum(old_unit.name != new_unit.name for old_unit, new_unit in shared) == 44
    for old_unit, new_unit in shared:
        is_same = (old_unit.name, old_unit.level) == (new_unit.name, new_unit.level)
        assert (old_unit.unit_id == new_unit.unit_id) == is_same
