from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.units import UnitHeir, UnitHistory, UnitTree
from tests.support.planning import DAY, PROVINCE, a_unit, unit_id


def tree() -> UnitTree:
    return PROVINCE.on(DAY)


def test_a_subtree_is_the_unit_and_everything_below_it() -> None:
    assert tree().subtree(unit_id(1)) == tuple(map(unit_id, (1, 10, 11, 12, 20, 21)))
    assert tree().subtree(unit_id(10)) == tuple(map(unit_id, (10, 11, 12)))
    assert tree().subtree(unit_id(99)) == ()


def test_the_way_from_the_root() -> None:
    assert tree().path(unit_id(21)) == tuple(map(unit_id, (1, 20, 21)))
    assert tree().ancestors(unit_id(21)) == tuple(map(unit_id, (1, 20)))
    assert tree().with_ancestors([unit_id(21), unit_id(20)]) == set(map(unit_id, (1, 20, 21)))
    assert tree().with_ancestors([]) == frozenset()
    assert [tree().depth(unit_id(n)) for n in (1, 20, 21, 99)] == [0, 1, 2, None]


@pytest.mark.parametrize(
    ("units", "expected"),
    [([11], 11), ([11, 12], 10), ([11, 10], 10), ([11, 21], 1), ([11, 99], 11), ([99], None), ([], None)],
)
def test_the_lowest_unit_above_several(units: list[int], expected: int | None) -> None:
    assert tree().common(map(unit_id, units)) == (unit_id(expected) if expected is not None else None)


def test_covers_answers_the_question_of_rights() -> None:
    assert tree().covers(unit_id(10), unit_id(11))
    assert tree().covers(unit_id(10), unit_id(10))
    assert not tree().covers(unit_id(10), unit_id(21))
    assert not tree().covers(unit_id(11), unit_id(10))
    assert not tree().covers(unit_id(99), unit_id(10))
    assert not tree().covers(unit_id(10), unit_id(99))


def test_siblings_stand_in_order_of_their_sort_keys() -> None:
    history = UnitHistory((a_unit(1), a_unit(2, 1, sort_key="b"), a_unit(3, 1, sort_key="a")))
    assert [unit.unit_id for unit in history.on(DAY)] == [unit_id(1), unit_id(3), unit_id(2)]


def test_a_code_may_be_used_again() -> None:
    history = UnitHistory(
        (a_unit(1), a_unit(2, 1, code="07201", valid_until=DAY), a_unit(3, 1, code="07201", valid_from=DAY))
    )
    assert unit_id(2) in history.on(DAY - timedelta(days=1))
    assert unit_id(3) not in history.on(DAY - timedelta(days=1))
    assert unit_id(2) not in history.on(DAY)
    assert unit_id(3) in history.on(DAY)


DETACHED = [
    pytest.param((a_unit(1), a_unit(2, 77)), {2}, id="unknown_parent"),
    pytest.param((a_unit(1), a_unit(2, 1, valid_until=DAY), a_unit(3, 2)), {3}, id="closed_parent"),
    pytest.param((a_unit(1), a_unit(2, 3), a_unit(3, 2)), {2, 3}, id="a_circle"),
    pytest.param((a_unit(1), a_unit(2, 3), a_unit(3, 2), a_unit(4, 3)), {2, 3, 4}, id="below_a_circle"),
]


@pytest.mark.parametrize(("versions", "detached"), DETACHED)
def test_what_hangs_on_no_root_is_in_no_tree(versions: tuple[object, ...], detached: set[int]) -> None:
    day_tree = UnitHistory(versions).on(DAY)  # type: ignore[arg-type]
    assert {unit.unit_id for unit in day_tree.detached} == set(map(unit_id, detached))
    for n in detached:
        assert unit_id(n) not in day_tree
        assert day_tree.path(unit_id(n)) == ()
        assert day_tree.depth(unit_id(n)) is None
        assert not day_tree.covers(unit_id(1), unit_id(n))


def test_overlapping_versions_are_found_and_the_later_one_counts() -> None:
    earlier, later = a_unit(2, 1, name="cũ"), a_unit(2, 1, name="mới", valid_from=DAY)
    history = UnitHistory((a_unit(1), earlier, later))
    assert history.overlaps() == (later,)
    unit = history.on(DAY).get(unit_id(2))
    assert unit is not None
    assert unit.name == "mới"


def test_a_very_deep_tree_is_walked_without_recursion() -> None:
    history = UnitHistory((a_unit(0), *(a_unit(n, n - 1) for n in range(1, 5000))))
    assert history.on(DAY).depth(unit_id(4999)) == 4999


def test_a_version_without_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="valid_until"):
        a_unit(1, valid_from=DAY, valid_until=DAY)


@given(parents=st.lists(st.integers(-1, 12), min_size=1, max_size=12), data=st.data())
def test_subtree_path_and_covers_agree(parents: list[int], data: st.DataObject) -> None:
    versions = [a_unit(n, parent if parent >= 0 else None) for n, parent in enumerate(parents)]
    day_tree = UnitHistory(data.draw(st.permutations(versions))).on(date(2026, 9, 7))
    assert len(day_tree) + len(day_tree.detached) == len(versions)
    for unit in day_tree:
        path = day_tree.path(unit.unit_id)
        assert day_tree.depth(unit.unit_id) == len(path) - 1
        for other in day_tree:
            is_below = other.unit_id in path
            assert day_tree.covers(other.unit_id, unit.unit_id) == is_below
            assert (unit.unit_id in day_tree.subtree(other.unit_id)) == is_below


# --- heirs -----------------------------------------------------------------------------------------------------------


@st.composite
def reformed(draw: st.DrawFn) -> UnitHistory:
    """Units 0 to 11 below one another in any way; some are closed on the day, and are taken for others or nobody."""
    count = draw(st.integers(2, 12))
    closed = draw(st.sets(st.integers(1, count - 1)))
    standing = [n for n in range(count) if n not in closed]
    versions = [
        a_unit(
            n,
            draw(st.integers(0, n - 1)) if n else None,
            **({"valid_until": DAY} if n in closed else {}),
        )
        for n in range(count)
    ]
    heirs = [
        UnitHeir(
            unit_id=unit_id(n),
            heir_id=unit_id(draw(st.sampled_from(standing))),
            valid_from=DAY,
            keeps_rights=draw(st.booleans()),
        )
        for n in sorted(closed)
        if draw(st.booleans())
    ]
    return UnitHistory(versions, heirs)


@given(reformed())
def test_closed_units_lie_exactly_where_their_heirs_lie(history: UnitHistory) -> None:
    tree = history.on(DAY)
    ids = {version.unit_id for version in history.versions}
    for unit in ids:
        over = tree.standing(unit)
        assert (unit in tree) == (over is not None)
        assert over is None or tree.stands(over)
        assert tree.path(unit) == (tree.path(over) if over is not None else ())
        assert tree.depth(unit) == (tree.depth(over) if over is not None else None)
        assert tree.rights_in(unit) in {over, None}
    for root in tree.roots:
        below = tree.subtree(root.unit_id)
        assert len(below) == len(set(below))
        assert set(below) == {unit for unit in ids if unit in tree}
    for top in ids:
        assert set(tree.subtree(top)) == {unit for unit in ids if tree.covers(top, unit)}


@given(reformed())
def test_nothing_changes_on_the_days_before(history: UnitHistory) -> None:
    eve = DAY - timedelta(days=1)
    with_heirs, without = history.on(eve), UnitHistory(history.versions).on(eve)
    for version in history.versions:
        assert (
            with_heirs.subtree(version.unit_id)
            == without.subtree(version.unit_id)
            == with_heirs.ground(version.unit_id)
        )
        assert with_heirs.path(version.unit_id) == without.path(version.unit_id)


@given(reformed())
def test_a_ground_never_holds_what_nobody_put_there(history: UnitHistory) -> None:
    eve, tree = history.on(DAY - timedelta(days=1)), history.on(DAY)
    for version in history.versions:
        # Where what lay there may be by now: itself, and heirs of one level.
        reach: set[object] = set()
        for below in eve.subtree(version.unit_id):
            over = tree.rights_in(below)
            reach |= {below} | (set(tree.subtree(over)) if over is not None else set())
        assert set(tree.ground(version.unit_id)) <= reach
