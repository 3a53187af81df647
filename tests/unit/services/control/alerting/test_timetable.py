"""When tests of alerts are due, whom each means, and at which hours one may sound."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from schemas.alerts import Purpose
from schemas.identifiers import DeviceId, UnitId
from services.control.alerting import timetable
from services.control.alerting.model import AudienceWish
from services.control.alerting.reach import REASONS, Reach
from services.control.alerting.timetable import AudibleTimes, Due, SilentTimes, Timetable
from services.control.alerting.weighing import weigh
from services.control.planning.policies import Policies, Policy, Quiet, Session
from services.control.units import UnitTree, UnitVersion

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
PROVINCE, NORTH, SOUTH, VILLAGE, TOWN = (UnitId(uuid.UUID(int=number)) for number in range(1, 6))
PARENTS = {PROVINCE: None, NORTH: PROVINCE, SOUTH: PROVINCE, VILLAGE: NORTH, TOWN: NORTH}
TREE = UnitTree(
    UnitVersion(
        unit_id=unit_id,
        parent_id=parent,
        valid_from=date(2020, 1, 1),
        code=str(unit_id.int),
        level="unit",
        name=str(unit_id.int),
    )
    for unit_id, parent in PARENTS.items()
)
SILENT, AUDIBLE = Purpose.SILENT_TEST, Purpose.AUDIBLE_TEST
MONDAY = datetime(2026, 3, 9, tzinfo=ZONE)


def local(hour: int, minute: int = 0, *, days: int = 0) -> datetime:
    return MONDAY.replace(hour=hour, minute=minute) + timedelta(days=days)


def said(**times: SilentTimes) -> dict[UnitId, Timetable]:
    """Silent times by the name of a unit, as its own word since long ago."""
    units = {"province": PROVINCE, "north": NORTH, "south": SOUTH, "village": VILLAGE, "town": TOWN}
    return {
        units[name]: Timetable(unit_id=units[name], silent=each, changed_at=datetime(2026, 1, 1, tzinfo=UTC))
        for name, each in times.items()
    }


def dues(timetables: dict[UnitId, Timetable], now: datetime) -> dict[UnitId, Due]:
    return {each.unit_id: each for each in timetable.due(timetables, TREE, ZONE, now=now) if each.purpose is SILENT}


def test_without_anybody_s_word_there_is_a_silent_test_every_day_and_none_that_sounds() -> None:
    (due,) = timetable.due({}, TREE, ZONE, now=local(12))

    assert (due.unit_id, due.purpose, due.due_at) == (PROVINCE, SILENT, local(10))
    assert due.audience() == AudienceWish.of_units(PROVINCE)


def test_the_nearest_word_above_holds_and_each_word_is_tested_apart() -> None:
    words = said(province=SilentTimes(at=time(9)), north=SilentTimes(at=time(10)), village=SilentTimes(at=time(11)))

    found = dues(words, local(12))

    assert {unit: (due.due_at, due.without) for unit, due in found.items()} == {
        PROVINCE: (local(9), (NORTH,)),
        NORTH: (local(10), (VILLAGE,)),
        VILLAGE: (local(11), ()),
    }
    assert timetable.in_force(words, TOWN, TREE, SILENT).unit_id == NORTH
    assert timetable.in_force(words, SOUTH, TREE, SILENT).unit_id == PROVINCE


def test_a_unit_that_wants_none_is_left_out_and_nothing_is_due_there() -> None:
    found = dues(said(north=SilentTimes(on=False), town=SilentTimes(at=time(8))), local(12))

    assert set(found) == {PROVINCE, TOWN}
    assert found[PROVINCE].without == (NORTH,)


@pytest.mark.parametrize(
    ("now", "due_at"),
    [
        (local(9, 59), local(10, days=-2)),  # Saturday; more than a day ago
        (local(10), local(10)),
        (local(23, 59), local(10)),
        (local(9, days=1), local(10)),
        (local(10, days=1), None),
    ],
)
def test_what_was_due_in_the_last_day_is_due_and_nothing_older(now: datetime, due_at: datetime | None) -> None:
    times = SilentTimes(at=time(10), weekdays=(1, 6))

    found = timetable.last_due(times, ZONE, now=now)

    assert found == (due_at if due_at is not None and now - due_at < timedelta(days=1) else None)


def test_it_is_missed_a_quarter_of_an_hour_later_and_not_before() -> None:
    due = dues({}, local(10, 14))[PROVINCE]

    assert not due.is_missed(now=local(10, 14))
    assert due.is_missed(now=local(10, 15))


def test_nothing_was_due_before_the_timetable_was_made() -> None:
    words = {PROVINCE: Timetable(unit_id=PROVINCE, silent=SilentTimes(at=time(10)), changed_at=local(10, 5))}

    assert dues(words, local(11)) == {}
    assert set(dues(words, local(10, days=1))) == {PROVINCE}


def test_the_next_time_is_on_an_allowed_weekday_and_none_while_it_is_off() -> None:
    assert timetable.next_due(SilentTimes(at=time(10), weekdays=(1,)), ZONE, now=local(10)) == local(10, days=7)
    assert timetable.next_due(SilentTimes(at=time(10)), ZONE, now=local(9)) == local(10)
    assert timetable.next_due(SilentTimes(on=False), ZONE, now=local(9)) is None


@pytest.mark.parametrize(
    ("at", "policy", "rules"),
    [
        (time(9), Policy(unit_id=PROVINCE), []),
        (time(22), Policy(unit_id=PROVINCE, quiet=(Quiet(begin=time(22), end=time(5)),)), ["quiet_hours"]),
        (time(21, 58), Policy(unit_id=PROVINCE, quiet=(Quiet(begin=time(22), end=time(5)),)), ["quiet_hours"]),
        (time(21, 57), Policy(unit_id=PROVINCE, quiet=(Quiet(begin=time(22), end=time(5)),)), []),
        (
            time(8),
            Policy(unit_id=PROVINCE, sessions=(Session(code="s", name="", begin=time(5), end=time(7)),)),
            ["outside_session"],
        ),
        (time(23, 59), Policy(unit_id=PROVINCE, weekdays=frozenset({1})), ["weekday_not_allowed"]),
    ],
)
def test_a_test_that_sounds_keeps_to_sessions_quiet_hours_and_weekdays(
    at: time, policy: Policy, rules: list[str]
) -> None:
    found = timetable.breaches(VILLAGE, TREE, Policies({PROVINCE: policy}), MONDAY.date(), at)

    assert [each.rule.value for each in found] == rules


def test_only_the_units_that_object_are_left_out_of_a_test_that_sounds() -> None:
    quiet = (Quiet(begin=time(9), end=time(11)),)
    due = Due(unit_id=PROVINCE, purpose=AUDIBLE, times=AudibleTimes(at=time(10)), due_at=local(10), without=(SOUTH,))

    found = timetable.objecting(due, TREE, Policies({NORTH: Policy(unit_id=NORTH, quiet=quiet)}), ZONE)

    assert found == (NORTH,)
    assert due.audience(*found).except_units == (SOUTH, NORTH)
    everybody = Policies({PROVINCE: Policy(unit_id=PROVINCE, quiet=quiet)})
    assert timetable.objecting(due, TREE, everybody, ZONE) == (PROVINCE,)
    silent = Due(unit_id=PROVINCE, purpose=SILENT, times=SilentTimes(), due_at=local(10), without=())
    assert timetable.objecting(silent, TREE, everybody, ZONE) == ()


@pytest.mark.parametrize("reason", REASONS)
def test_only_a_device_s_own_word_is_a_pass(reason: str) -> None:
    reach = Reach(
        device_id=DeviceId("loa-1"),
        unit_id=VILLAGE,
        is_reached=reason in ("reached", "reached_late"),
        is_signed=False,
        reason=reason,
        version=1,
        told_by=None,
        detail=None,
        first_start_at=None,
        after_s=None,
        is_late=False,
        starts=0,
        offline_since=None,
    )
    expected = {
        "reached": "passed",
        "reached_late": "passed",
        "reached_by_gateway": "by_gateway",
        "silenced": "excused",
        "stopped_here": "excused",
    }

    assert weigh(reach).outcome == expected.get(reason, "failed")
