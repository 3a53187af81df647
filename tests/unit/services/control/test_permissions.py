from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

import pytest

from schemas.identifiers import UnitId
from services.control.permissions import NO_NARROWING, PERMISSIONS, Grant, Narrowing, Permission, Rights, Role
from services.control.units import UnitTree, UnitVersion

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT, NORTH, SOUTH, VILLAGE = (UnitId(uuid.UUID(int=number)) for number in range(1, 5))
GONE = UnitId(uuid.UUID(int=9))
PARENTS = {ROOT: None, NORTH: ROOT, SOUTH: ROOT, VILLAGE: NORTH}
TREE = UnitTree(
    UnitVersion(unit_id=unit, valid_from=date(2020, 1, 1), parent_id=parent, code=str(unit), level="x", name="x")
    for unit, parent in PARENTS.items()
)


def rights(*grants: Grant) -> Rights:
    return Rights(grants, TREE, now=NOW)


@pytest.mark.parametrize(
    ("granted", "unit", "expected"),
    [
        (NORTH, NORTH, True),
        (NORTH, VILLAGE, True),
        (NORTH, ROOT, False),
        (NORTH, SOUTH, False),
        (ROOT, VILLAGE, True),
        (VILLAGE, NORTH, False),
        (ROOT, GONE, True),
        (NORTH, GONE, False),
        (GONE, GONE, False),
        (GONE, NORTH, False),
    ],
)
def test_a_grant_reaches_down_and_never_up_or_aside(granted: UnitId, unit: UnitId, expected: bool) -> None:
    assert rights(Grant(unit_id=granted, role=Role.OFFICER)).may(Permission.MAKE_BROADCASTS, unit) is expected


def test_no_grant_gives_nothing_but_ones_own() -> None:
    nobody = rights()
    assert [permission for permission in Permission if nobody.may_anywhere(permission)] == [Permission.OWN_ACCOUNT]


def test_a_grant_ends_at_the_instant_it_says() -> None:
    grant = Grant(unit_id=ROOT, role=Role.OFFICER, expires_at=NOW)
    assert not rights(grant).may(Permission.MAKE_BROADCASTS, ROOT)
    later = Grant(unit_id=ROOT, role=Role.OFFICER, expires_at=NOW + timedelta(microseconds=1))
    assert rights(later).may(Permission.MAKE_BROADCASTS, ROOT)


def test_only_the_highest_units_are_named() -> None:
    both = rights(Grant(unit_id=VILLAGE, role=Role.OFFICER), Grant(unit_id=NORTH, role=Role.VIEWER))
    assert both.units(Permission.SEE_DEVICES) == (NORTH,)
    assert both.units(Permission.MAKE_BROADCASTS) == (VILLAGE,)
    assert both.reach(Permission.SEE_DEVICES) == {NORTH, VILLAGE}


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((None,), None),
        ((NOW + timedelta(days=1), None), None),
        ((NOW + timedelta(days=1), NOW + timedelta(days=3)), NOW + timedelta(days=3)),
    ],
)
def test_a_right_lasts_as_long_as_its_longest_grant(
    ends: tuple[datetime | None, ...], expected: datetime | None
) -> None:
    units = (NORTH, ROOT)
    grants = [
        Grant(unit_id=unit, role=Role.ADMINISTRATOR, expires_at=end) for unit, end in zip(units, ends, strict=False)
    ]
    assert rights(*grants).lasts_until(Permission.MANAGE_ACCOUNTS, VILLAGE) == expected


def test_in_a_tree_without_units_nobody_has_rights() -> None:
    empty = Rights([Grant(unit_id=ROOT, role=Role.ADMINISTRATOR)], UnitTree(()), now=NOW)
    assert not empty.may_in_root(Permission.IMPORT_UNITS)
    assert not empty.may(Permission.IMPORT_UNITS, ROOT)


@pytest.mark.parametrize(
    ("granted", "narrowed", "expected"),
    [
        (ROOT, NORTH, {NORTH, VILLAGE}),
        (NORTH, ROOT, {NORTH, VILLAGE}),
        (NORTH, SOUTH, set()),
        (VILLAGE, NORTH, {VILLAGE}),
        (ROOT, None, {ROOT, NORTH, SOUTH, VILLAGE}),
        (ROOT, GONE, set()),
    ],
)
def test_a_narrowed_token_reaches_what_both_reach(
    granted: UnitId, narrowed: UnitId | None, expected: set[UnitId]
) -> None:
    held = Rights((Grant(unit_id=granted, role=Role.OFFICER),), TREE, now=NOW, narrowing=Narrowing(unit_id=narrowed))
    assert held.reach(Permission.MAKE_BROADCASTS) == expected
    assert {unit for unit in PARENTS if held.may(Permission.MAKE_BROADCASTS, unit)} == expected


def test_a_narrowed_token_is_for_what_it_names_and_for_one_s_own_only_where_it_names_that() -> None:
    grants = (Grant(unit_id=ROOT, role=Role.ADMINISTRATOR),)

    def allowed(narrowing: Narrowing) -> set[Permission]:
        held = Rights(grants, TREE, now=NOW, narrowing=narrowing)
        return {each for each in Permission if held.may_anywhere(each)}

    assert allowed(NO_NARROWING) == PERMISSIONS[Role.ADMINISTRATOR]
    assert allowed(Narrowing(unit_id=NORTH)) == PERMISSIONS[Role.ADMINISTRATOR] - {Permission.OWN_ACCOUNT}
    for each in Permission:
        named = allowed(Narrowing(permissions=frozenset({each})))
        assert named == ({each} & PERMISSIONS[Role.ADMINISTRATOR])
    assert not Rights(grants, TREE, now=NOW, narrowing=Narrowing(unit_id=NORTH)).may_in_root(Permission.SEE_AUDIT)
