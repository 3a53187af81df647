"""How policies are spelled, and whose word counts on approving one's own."""

from __future__ import annotations

import json
import uuid
from datetime import date, time, timedelta

import pytest

from schemas.fields import Level
from schemas.identifiers import BulletinId, UnitId
from services.control.planning.policies import Fallback, Policy, Quiet, SecondPerson, Session, VolumeCap
from services.control.policies import NOTHING_SAID, PolicyDocument, may_approve_own, planning_policy
from services.control.units import UnitTree, UnitVersion

ROOT, DISTRICT, COMMUNE, ELSEWHERE = (UnitId(uuid.UUID(int=number)) for number in range(1, 5))


def a_unit(unit_id: UnitId, parent_id: UnitId | None) -> UnitVersion:
    return UnitVersion(
        unit_id=unit_id, parent_id=parent_id, valid_from=date(2020, 1, 1), code="1", level="commune", name="Xã"
    )


TREE = UnitTree([a_unit(ROOT, None), a_unit(DISTRICT, ROOT), a_unit(COMMUNE, DISTRICT)])

BODY = {
    "sessions": [{"code": "sang", "name": "Sáng", "begin": "05:00", "end": "07:00:30", "weekdays": [1, 7]}],
    "quiet": [{"begin": "22:00", "end": "05:00"}],
    "weekdays": [1, 2, 3],
    "max_session_s": 900,
    "max_day_s": 3_600,
    "volume_caps": [{"begin": "05:00", "end": "06:00", "percent": 40}],
    "forbids_self_approval": True,
    "approved_levels": ["priority"],
    "allows_direct_relays": False,
    "second_person_from": {"alerts": 500},
    "exceptions_by_approver": True,
    "accepts_normal": True,
    "fallback": {"bulletin_id": str(uuid.UUID(int=9)), "times": ["06:00"]},
}


def test_a_document_says_what_planning_reads() -> None:
    assert planning_policy(COMMUNE, BODY) == Policy(
        unit_id=COMMUNE,
        sessions=(Session(code="sang", name="Sáng", begin=time(5), end=time(7, 0, 30), weekdays=frozenset({1, 7})),),
        quiet=(Quiet(begin=time(22), end=time(5)),),
        weekdays=frozenset({1, 2, 3}),
        max_session=timedelta(minutes=15),
        max_day=timedelta(hours=1),
        volume_caps=(VolumeCap(begin=time(5), end=time(6), percent=40),),
        forbids_self_approval=True,
        approved_levels=frozenset({Level.PRIORITY}),
        allows_direct_relays=False,
        second_person=SecondPerson(alerts=500),
        exceptions_by_approver=True,
        accepts_normal=True,
        fallback=Fallback(bulletin_id=BulletinId(uuid.UUID(int=9)), times=(time(6),)),
    )


def test_what_is_stored_reads_back_as_the_same_document() -> None:
    document = PolicyDocument.model_validate(BODY)
    assert PolicyDocument.model_validate(json.loads(json.dumps(document.body()))) == document
    assert NOTHING_SAID.body() == {}
    assert NOTHING_SAID.says_nothing
    assert not document.says_nothing
    assert not PolicyDocument(forbids_self_approval=False).says_nothing


@pytest.mark.parametrize(
    ("root", "district", "commune", "setting", "expected"),
    [
        (None, None, None, False, False),
        (None, None, None, True, True),
        (False, None, None, False, True),  # the root's own word comes before the setting
        (True, None, None, True, False),
        (None, True, None, True, False),
        (None, False, None, False, False),  # only a root speaks for the province
        (False, None, True, False, False),
        (True, False, False, True, False),  # nobody loosens what holds above
    ],
)
def test_whose_word_counts_on_approving_one_s_own(
    root: bool | None, district: bool | None, commune: bool | None, setting: bool, expected: bool
) -> None:
    stated = {
        unit_id: Policy(unit_id=unit_id, forbids_self_approval=word)
        for unit_id, word in ((ROOT, root), (DISTRICT, district), (COMMUNE, commune))
        if word is not None
    }
    assert may_approve_own(stated, COMMUNE, TREE, may_approve_own=setting) is expected


@pytest.mark.parametrize("setting", [False, True])
def test_of_a_unit_in_no_tree_only_the_setting_knows(setting: bool) -> None:
    stated = {ROOT: Policy(unit_id=ROOT, forbids_self_approval=not setting)}
    assert may_approve_own(stated, ELSEWHERE, TREE, may_approve_own=setting) is setting
