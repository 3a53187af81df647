"""What a change does to what people hear, held against looking at every device and every millisecond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.fields import Level, ResumePolicy
from services.control.planning import timeline
from services.control.planning.impact import Change, DayUse, Finding, Ground, Impact, Kind, compare
from services.control.planning.model import DeviceNo, Plan, Problem, ProblemKind, Slot
from services.control.planning.policies import Policy, Quiet, effective
from tests.support.planning import a_media, broadcast_id, unit_id
from tests.support.programmes import a_slot, programme, second

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NORMAL, PRIORITY, EMERGENCY = Level
RESUME, RESTART, DROP = ResumePolicy
COMMUNE, NEIGHBOUR = Ground(unit_id=unit_id(11)), Ground(unit_id=unit_id(12))


def a_plan(programmes: Mapping[int, Iterable[Slot]], problems: Iterable[Problem] = ()) -> Plan:
    return Plan(
        programmes={DeviceNo(no): programme(*slots) for no, slots in programmes.items()}, problems=tuple(problems)
    )


def compared(before: Plan, after: Plan, *, ground: Ground = COMMUNE, **known: object) -> Impact:
    grounds = dict.fromkeys((*before.programmes, *after.programmes), ground)
    return compare(before, after, **({"grounds": grounds, "zone": ZONE} | known))  # type: ignore[arg-type]


def number(slot: Slot | None) -> int | None:
    return None if slot is None else slot.broadcast_id.int & 0xFFFF


def told(changes: Iterable[Change]) -> list[tuple[object, ...]]:
    return [(change.kind.value, number(change.slot), number(change.by), change.decided_by) for change in changes]


def on_one(before: Iterable[Slot], after: Iterable[Slot]) -> list[tuple[object, ...]]:
    return told(compared(a_plan({1: before}), a_plan({1: after})).of_device(DeviceNo(1)))


NEWS = a_slot(1, 0, 30)
ALERT = a_slot(2, 10, 20, level=PRIORITY)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param([NEWS], [NEWS], [], id="nothing"),
        pytest.param([NEWS], [replace(NEWS)], [], id="equal_but_made_anew"),
        pytest.param([], [NEWS], [("added", 1, None, None)], id="added"),
        pytest.param([NEWS], [], [("removed", 1, None, None)], id="removed"),
        pytest.param(
            [NEWS], [NEWS, ALERT], [("shortened", 1, 2, "level"), ("added", 2, None, None)], id="resumes_after_it"
        ),
        pytest.param(
            [replace(NEWS, resume=DROP)],
            [replace(NEWS, resume=DROP), ALERT],
            # The slot itself is another object, and equal; only what it sounds differs.
            [("cut", 1, 2, "level"), ("added", 2, None, None)],
            id="cut",
        ),
        pytest.param(
            [a_slot(1, 0, 30, resume=RESTART, latest=25)],
            [a_slot(1, 0, 30, resume=RESTART, latest=25), ALERT],
            [("moved", 1, 2, "level"), ("added", 2, None, None)],
            id="moved_behind_it",
        ),
        pytest.param(
            [a_slot(1, 0, 30, resume=RESTART, latest=25), ALERT],
            [a_slot(1, 0, 30, resume=RESTART, latest=25)],
            [("regained", 1, None, None), ("removed", 2, None, None)],
            id="moved_back",
        ),
        pytest.param(
            [NEWS],
            [NEWS, a_slot(2, 0, 40, level=PRIORITY)],
            [("missed", 1, 2, "level"), ("added", 2, None, None)],
            id="silenced",
        ),
        pytest.param(
            [NEWS], [NEWS, a_slot(2, 0, 30)], [("added", 2, None, None), ("missed", 2, 1, "identity")], id="in_vain"
        ),
        pytest.param([NEWS, ALERT], [NEWS], [("regained", 1, None, None), ("removed", 2, None, None)], id="taken_back"),
        pytest.param([NEWS], [replace(NEWS, volume_percent=20)], [("changed", 1, None, None)], id="softer"),
        pytest.param([NEWS], [replace(NEWS, ends_at=second(20))], [("shortened", 1, None, None)], id="trimmed"),
        pytest.param([NEWS], [replace(NEWS, ends_at=second(40))], [("regained", 1, None, None)], id="longer"),
        pytest.param(
            [NEWS],
            [replace(NEWS, starts_at=second(5), ends_at=second(35), latest_start_at=second(20))],
            [("moved", 1, None, None)],
            id="later_in_its_occurrence",
        ),
    ],
)
def test_what_happens_to_each_slot(before: list[Slot], after: list[Slot], expected: list[tuple[object, ...]]) -> None:
    assert on_one(before, after) == expected


def test_counts_come_by_unit_and_detail_on_demand() -> None:
    devices = range(1, 6)
    before = a_plan({no: [NEWS] for no in devices})
    after = a_plan({no: [NEWS, ALERT] if no < 5 else [NEWS] for no in devices})
    grounds = {DeviceNo(no): COMMUNE if no < 4 else NEIGHBOUR for no in devices}

    found = compare(before, after, grounds=grounds, zone=ZONE)

    assert [(unit.unit_id, unit.devices, dict(unit.counts)) for unit in found.units] == [
        (unit_id(11), 3, {Kind.SHORTENED: 3, Kind.ADDED: 3}),
        (unit_id(12), 1, {Kind.SHORTENED: 1, Kind.ADDED: 1}),
    ]
    assert found.counts == {Kind.SHORTENED: 4, Kind.ADDED: 4}
    (group,) = found.of_unit(unit_id(12))
    assert group.devices == (4,)
    assert found.of_device(DeviceNo(4)) == group.changes
    assert found.of_device(DeviceNo(5)) == ()
    assert found.of_unit(unit_id(99)) == ()


def test_devices_that_come_and_go_are_told_too() -> None:
    found = compared(a_plan({1: [NEWS]}), a_plan({2: [NEWS]}))

    assert told(found.of_device(DeviceNo(1))) == [("removed", 1, None, None)]
    assert told(found.of_device(DeviceNo(2))) == [("added", 1, None, None)]


def a_problem(kind: ProblemKind, n: int = 1, *, minute: int = 0, **facts: object) -> Problem:
    values: dict[str, object] = {
        "local_day": date(2026, 9, 7),
        "local_time": time(6, minute),
        "occurrence_at": second(60 * minute),
    }
    return Problem(kind=kind, broadcast_id=broadcast_id(n), **(values | facts))  # type: ignore[arg-type]


class TestRefused:
    """What is gone although it is still asked for has a rule against it."""

    def check(
        self, problem: Problem, expected: list[tuple[Kind, ProblemKind | None]], ground: Ground = COMMUNE
    ) -> None:
        found = compared(a_plan({1: [NEWS]}), a_plan({1: []}, [problem]), ground=ground)
        assert [(change.kind, change.rule) for change in found.of_device(DeviceNo(1))] == expected

    def test_by_the_units_policy(self) -> None:
        problem = a_problem(ProblemKind.DAY_FULL, unit_id=unit_id(11))
        self.check(problem, [(Kind.REFUSED, ProblemKind.DAY_FULL)])

    def test_by_a_policy_above(self) -> None:
        ground = Ground(unit_id=unit_id(11), policy=effective([Policy(unit_id=unit_id(1))]))
        problem = a_problem(ProblemKind.QUIET_HOURS, unit_id=unit_id(1))
        self.check(problem, [(Kind.REFUSED, ProblemKind.QUIET_HOURS)], ground)

    def test_somebody_elses_policy_is_no_reason(self) -> None:
        self.check(a_problem(ProblemKind.DAY_FULL, unit_id=unit_id(12)), [(Kind.REMOVED, None)])

    def test_another_occurrence_is_no_reason(self) -> None:
        self.check(a_problem(ProblemKind.DAY_FULL, minute=5), [(Kind.REMOVED, None)])

    def test_another_device_is_no_reason(self) -> None:
        self.check(a_problem(ProblemKind.SHARE_USED_UP, device_no=DeviceNo(7)), [(Kind.REMOVED, None)])

    def test_another_item_is_no_reason(self) -> None:
        self.check(a_problem(ProblemKind.EXPIRED, item=3), [(Kind.REMOVED, None)])
        self.check(a_problem(ProblemKind.EXPIRED, item=0), [(Kind.REFUSED, ProblemKind.EXPIRED)])


def test_findings_tell_what_the_plan_newly_says_and_no_longer_says() -> None:
    stays = a_problem(ProblemKind.NO_DEVICE, 5)
    gone = a_problem(ProblemKind.OFFER_PENDING, 6, unit_id=unit_id(11))
    new = [a_problem(ProblemKind.QUIET_HOURS, 2, minute=minute, unit_id=unit_id(1)) for minute in (1, 2)]
    note = a_problem(ProblemKind.SHORTENED, 2)
    group = a_problem(ProblemKind.GROUP_CLOSED, 2, detail=str(unit_id(9)))

    found = compared(a_plan({}, [stays, gone]), a_plan({}, [replace(stays), *new, note, group]))

    assert found.findings == (
        Finding(kind=ProblemKind.GROUP_CLOSED, broadcast_id=broadcast_id(2), unit_id=None, occurrences=1),
        Finding(kind=ProblemKind.QUIET_HOURS, broadcast_id=broadcast_id(2), unit_id=unit_id(1), occurrences=2),
        Finding(kind=ProblemKind.SHORTENED, broadcast_id=broadcast_id(2), unit_id=None, occurrences=1),
    )
    assert [finding.is_refusal for finding in found.findings] == [True, True, False]
    assert [(finding.kind, finding.is_refusal) for finding in found.settled] == [(ProblemKind.OFFER_PENDING, False)]
    assert found.units == ()


def test_media_that_are_not_on_devices_yet() -> None:
    """Only what the change brings is looked at, on the devices it comes to."""
    before = a_plan({no: [NEWS] for no in (1, 2, 3, 4)})
    after = a_plan({no: [NEWS, a_slot(2, 40, 50)] if no < 4 else [NEWS] for no in (1, 2, 3, 4)})
    stored = {DeviceNo(1): frozenset({a_media(1, 2).sha256}), DeviceNo(2): frozenset[bytes]()}

    (unit,) = compared(before, after, stored=stored).units

    assert (unit.lacking_devices, unit.unknown_devices) == (1, 1)
    (taken_back,) = compared(after, before, stored=stored).units
    assert (taken_back.lacking_devices, taken_back.unknown_devices) == (0, 0)


def test_devices_that_would_sound_in_quiet_hours() -> None:
    """An emergency may; the officer should know before it does."""
    night = effective([Policy(unit_id=unit_id(11), quiet=(Quiet(begin=time(6), end=time(6, 0, 15)),))])
    quiet = Ground(unit_id=unit_id(11), policy=night)
    before = a_plan({1: [], 2: [a_slot(1, 30, 50)]})
    after = a_plan(
        {1: [a_slot(2, 10, 20, level=EMERGENCY)], 2: [a_slot(1, 30, 50), a_slot(2, 35, 40, level=EMERGENCY)]}
    )

    (unit,) = compared(before, after, ground=quiet).units

    assert (unit.devices, unit.quiet_devices) == (2, 1)
    assert [unit.quiet_devices for unit in compared(after, before, ground=quiet).units] == [0]
    assert [unit.quiet_devices for unit in compared(before, after).units] == [0]


def test_minutes_of_the_day_are_those_of_the_fullest_device() -> None:
    policy = Policy(unit_id=unit_id(1), max_day=timedelta(minutes=2))
    limited = Ground(unit_id=unit_id(11), policy=effective([policy, Policy(unit_id=unit_id(11))]))
    today, tomorrow = date(2026, 9, 7), date(2026, 9, 8)

    def used(plan: Plan, *seconds: Mapping[date, int]) -> Plan:
        return replace(
            plan,
            used={
                DeviceNo(no): {(unit_id(1), day, None): timedelta(seconds=each) for day, each in theirs.items()}
                for no, theirs in enumerate(seconds, 1)
            },
        )

    before = used(a_plan({1: [NEWS], 2: [NEWS]}), {today: 90, tomorrow: 30}, {today: 30})
    after = used(a_plan({1: [NEWS, ALERT], 2: [NEWS, ALERT]}), {today: 100, tomorrow: 30}, {today: 40})

    (unit,) = compared(before, after, ground=limited).units

    # Days on which nothing changes are not told.
    told_of = DayUse(
        day=today,
        limit=timedelta(minutes=2),
        limited_by=unit_id(1),
        before=timedelta(seconds=90),
        after=timedelta(seconds=100),
    )
    assert unit.days == (told_of,)
    # What is counted for another day than ours, by the clock of its own zone, is told all the same.
    (unit,) = compared(before, used(after, {today: 90, tomorrow: 40}, {today: 30}), ground=limited).units
    assert unit.days == (
        replace(told_of, after=timedelta(seconds=90)),
        replace(told_of, day=tomorrow, before=timedelta(seconds=30), after=timedelta(seconds=40)),
    )
    # An emergency draws on nothing; on its day it is told what is used all the same.
    (unit,) = compared(before, replace(after, used=before.used), ground=limited).units
    assert unit.days == (replace(told_of, after=timedelta(seconds=90)),)


# --- against looking at everything -----------------------------------------------------------------------------------

some_slots = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.integers(1, 15),
        st.sampled_from(Level),
        st.sampled_from(ResumePolicy),
        st.integers(0, 20),
    ),
    max_size=6,
)


def slots_of(drawn: Iterable[tuple[int, int, Level, ResumePolicy, int]], first: int) -> list[Slot]:
    return [
        a_slot(first + n, begin, begin + length, latest=begin + latest, level=level, resume=resume)
        for n, (begin, length, level, resume, latest) in enumerate(drawn)
    ]


@given(kept=some_slots, taken=some_slots, given_=some_slots, is_anew=st.booleans())
@settings(max_examples=300)
def test_changes_are_exactly_the_differences_of_the_whole_timelines(
    kept: list[tuple[int, int, Level, ResumePolicy, int]],
    taken: list[tuple[int, int, Level, ResumePolicy, int]],
    given_: list[tuple[int, int, Level, ResumePolicy, int]],
    is_anew: bool,
) -> None:
    """Looking only near the differences finds what comparing everything finds, whether slots are shared or made anew."""
    stay = slots_of(kept, 10)
    before = programme(*stay, *slots_of(taken, 20))
    after = programme(*(map(replace, stay) if is_anew else stay), *slots_of(given_, 30))

    changes = compared(a_plan({1: before}), a_plan({1: after})).of_device(DeviceNo(1))

    old = {each.slot.key: each for each in timeline.sounding(before)}
    new = {each.slot.key: each for each in timeline.sounding(after)}
    expected = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    # What is cut by somebody else for the same length is no change to who listens.
    same_parts = {key for key in expected if key in old and key in new and old[key].parts == new[key].parts}
    assert {change.slot.key for change in changes} == expected - same_parts
    for change in changes:
        assert change.before == old.get(change.slot.key)
        assert change.after == new.get(change.slot.key)
        assert (change.by is None) == (change.decided_by is None)
    assert [change.slot.order for change in changes] == sorted(change.slot.order for change in changes)


@given(kept=some_slots, given_=some_slots, data=st.data())
@settings(max_examples=50)
def test_numbers_are_those_of_every_device_by_itself(
    kept: list[tuple[int, int, Level, ResumePolicy, int]],
    given_: list[tuple[int, int, Level, ResumePolicy, int]],
    data: st.DataObject,
) -> None:
    stay, come = slots_of(kept, 10), slots_of(given_, 30)
    devices = [DeviceNo(no) for no in range(1, 7)]
    grounds = {no: data.draw(st.sampled_from([COMMUNE, NEIGHBOUR])) for no in devices}
    parts = {no: data.draw(st.sets(st.sampled_from(come))) if come else set() for no in devices}
    before = Plan(programmes=dict.fromkeys(devices, programme(*stay)), problems=())
    after = a_plan({no: [*stay, *parts[no]] for no in devices})

    found = compare(before, after, grounds=grounds, zone=ZONE)

    for unit in found.units:
        expected: Counter[Kind] = Counter()
        for no in devices:
            if grounds[no].unit_id == unit.unit_id:
                alone = compared(a_plan({no: stay}), a_plan({no: [*stay, *parts[no]]})).of_device(no)
                expected.update(change.kind for change in alone)
                assert found.of_device(no) == alone
        assert unit.counts == expected
        assert unit.devices == sum(len(group.devices) for group in found.of_unit(unit.unit_id))
