"""Which alert of a CAP message takes the place of which: the one that is said to most of the same ground."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime

from schemas.identifiers import AlertId, UnitId
from services.control.alerting.cap_intake import successors
from services.control.alerting.model import Alert, AlertDraft, AudienceWish, State
from services.control.units import UnitHeir, UnitTree, UnitVersion

NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)
ROOT, NORTH, SOUTH, HILL, RIVER, LAKE, OLD_HILL, OLD_LAKE = (UnitId(uuid.UUID(int=number)) for number in range(1, 9))
PARENTS = {ROOT: None, NORTH: ROOT, SOUTH: ROOT, HILL: NORTH, RIVER: NORTH, LAKE: SOUTH}
TREE = UnitTree(
    [
        UnitVersion(
            unit_id=unit,
            parent_id=parent,
            valid_from=date(2026, 3, 10),
            code=str(unit.int),
            level="unit",
            name=str(unit.int),
        )
        for unit, parent in PARENTS.items()
    ],
    [
        UnitHeir(unit_id=old, heir_id=heir, valid_from=date(2026, 3, 10), keeps_rights=True)
        for old, heir in ((OLD_HILL, HILL), (OLD_LAKE, LAKE))
    ],
)


def a_draft(*units: UnitId) -> AlertDraft:
    return AlertDraft(unit_id=ROOT, event="Lũ", audience=AudienceWish.of_units(*units), valid_until=NOW)


def an_alert(*units: UnitId) -> Alert:
    return Alert(
        alert_id=AlertId(uuid.uuid4()),
        version=1,
        state=State.IN_FORCE,
        draft=a_draft(*units),
        first_issued_at=NOW,
        issued_at=NOW,
        holds_until=NOW,
        topics=units,
    )


def test_each_ground_goes_on_where_it_was_said() -> None:
    north, south = an_alert(HILL, RIVER), an_alert(LAKE)
    drafts = [a_draft(LAKE), a_draft(HILL, RIVER)]
    assert successors(drafts, [north, south], TREE) == [(drafts[0], (south,)), (drafts[1], (north,))]


def test_who_shares_most_comes_first_and_nobody_is_left_over() -> None:
    hill, both, elsewhere = an_alert(HILL), an_alert(HILL, RIVER), an_alert(LAKE)
    draft = a_draft(HILL, RIVER)
    assert successors([draft], [hill, elsewhere, both], TREE) == [(draft, (both, hill, elsewhere))]
    assert successors([], [hill], TREE) == []


def test_ground_is_shared_with_the_units_above_and_below_too() -> None:
    province, commune = an_alert(NORTH), an_alert(LAKE)
    drafts = [a_draft(SOUTH), a_draft(HILL, RIVER)]
    assert successors(drafts, [province, commune], TREE) == [(drafts[0], (commune,)), (drafts[1], (province,))]


def test_ground_is_shared_over_a_reform() -> None:
    lake, hill = an_alert(OLD_LAKE), an_alert(OLD_HILL)
    drafts = [a_draft(HILL), a_draft(LAKE)]
    assert successors(drafts, [lake, hill], TREE) == [(drafts[0], (hill,)), (drafts[1], (lake,))]
