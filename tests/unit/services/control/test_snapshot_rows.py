"""What the programme store makes of rows without asking the database."""

from __future__ import annotations

from datetime import date

from services.control.snapshot_rows import let_pass
from services.control.units import UnitHeir, UnitHistory
from tests.support.planning import unit_id


def an_heir(old: int, new: int) -> UnitHeir:
    return UnitHeir(unit_id=unit_id(old), heir_id=unit_id(new), valid_from=date(2026, 7, 1), keeps_rights=True)


def test_what_a_unit_let_pass_stays_so_where_another_stands_for_it() -> None:
    """Also after a second reform, and where two units stand for one another in turn; of nobody else."""
    reformed = UnitHistory((), [an_heir(11, 21), an_heir(21, 31), an_heir(31, 11), an_heir(12, 22)])
    allowed = let_pass([("quiet_hours", unit_id(11))], reformed)
    assert allowed == {("quiet_hours", unit_id(each)) for each in (11, 21, 31)}
    assert let_pass([], reformed) == frozenset()


def test_a_rule_is_let_pass_for_the_unit_whose_it_is_and_for_no_other() -> None:
    pairs = {("quiet_hours", unit_id(11)), ("day_full", unit_id(1))}
    assert let_pass(pairs, UnitHistory((), [an_heir(1, 2)])) == {*pairs, ("day_full", unit_id(2))}
