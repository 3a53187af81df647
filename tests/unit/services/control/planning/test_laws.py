"""The laws of planning, held against generated provinces. Examples will not find what these find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.arbitration import Contender, winner
from schemas.fields import DeviceKind, Level, PlayReference, PlaySource
from schemas.plans import ContentKind
from services.control.planning import recurrence
from services.control.planning.changes import Changes, Recorded, changes, fingerprint
from services.control.planning.model import (
    Broadcast,
    BulletinItem,
    DeviceNo,
    DeviceTarget,
    Pause,
    Plan,
    ProblemKind,
    Recurrence,
    Slot,
    Snapshot,
    UnitTarget,
    Window,
    to_ms,
)
from services.control.planning.programme import plan
from services.control.units import UnitHistory, UnitVersion
from tests.support.planning import (
    LONG_AGO,
    a_broadcast,
    a_bulletin,
    a_device,
    broadcast_id,
    bulletin_id,
    unit_id,
)

T = TypeVar("T")

# Days around the night on which Europe/Berlin shifts its clocks back, and Asia/Beirut too.
FIRST = date(2026, 10, 23)
ZONES = ["Asia/Ho_Chi_Minh", "Europe/Berlin", "Asia/Beirut", "Pacific/Kiritimati", "Atlantis/Capital"]
UNITS = [1, 10, 20, 11, 12, 21]
DEVICES = range(1, 7)
EVERY_FEW_HOURS = [time(0), time(0, 30), time(2, 30), time(3, 30), time(5, 30), time(17), time(23, 59, 30)]

some_days = st.integers(0, 5).map(lambda offset: FIRST + timedelta(days=offset))
some_instants = st.integers(-24, 24 * 6).map(
    lambda hours: datetime.combine(FIRST, time(0), tzinfo=LONG_AGO.tzinfo) + timedelta(hours=hours)
)
some_times = st.lists(st.sampled_from(EVERY_FEW_HOURS), min_size=1, max_size=3, unique=True).map(tuple)
RRULES = [
    None,
    "FREQ=DAILY",
    "FREQ=DAILY;INTERVAL=2",
    "FREQ=DAILY;COUNT=3",
    "FREQ=DAILY;UNTIL=20261026T003000Z",
    "FREQ=WEEKLY;BYDAY=SU,MO;WKST=SU",
    "FREQ=MONTHLY;BYDAY=-1SU",
    "FREQ=YEARLY;BYMONTH=10;BYMONTHDAY=-7",
    "FREQ=HOURLY;INTERVAL=7",
    "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=30",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MINUTELY",
]
some_moments = st.builds(datetime.combine, some_days, st.sampled_from(EVERY_FEW_HOURS))
some_dates = st.lists(st.one_of(some_days, some_moments), max_size=3).map(tuple)
some_recurrences = st.builds(
    Recurrence,
    starts_on=some_days,
    ends_on=st.one_of(st.none(), st.just(FIRST + timedelta(days=6))),
    times=some_times,
    rrule=st.sampled_from(RRULES),
    rdates=some_dates,
    exdates=some_dates,
)
some_targets = st.lists(
    st.one_of(
        st.builds(UnitTarget, unit_id=st.sampled_from([*UNITS, 99]).map(unit_id), is_excluded=st.booleans()),
        st.builds(DeviceTarget, device_no=st.sampled_from([*DEVICES, 99]).map(DeviceNo), is_excluded=st.booleans()),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


@st.composite
def some_items(draw: st.DrawFn) -> tuple[object, ...]:
    kinds = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    return tuple(
        Pause(number=place, length=timedelta(seconds=5))
        if kind == 0
        else BulletinItem(number=place, bulletin_id=bulletin_id(kind))
        for place, kind in enumerate(kinds)
    )


@st.composite
def some_units(draw: st.DrawFn) -> UnitHistory:
    """A province whose communes may move to the other district, close, or be cut off on some day."""
    versions = [_unit(1, None), _unit(10, 1), _unit(20, 1)]
    for commune, home in ((11, 10), (12, 10), (21, 20)):
        fate = draw(st.sampled_from(["stays", "stays", "moves", "closes", "is_cut_off"]))
        if fate == "stays":
            versions.append(_unit(commune, home))
            continue
        on = draw(some_days.filter(lambda day: day > FIRST))
        versions.append(_unit(commune, home, valid_until=on))
        if fate != "closes":
            versions.append(_unit(commune, 30 - home if fate == "moves" else 77, valid_from=on))
    return UnitHistory(versions)


def _unit(
    n: int, parent: int | None, *, valid_from: date = date(2020, 1, 1), valid_until: date | None = None
) -> UnitVersion:
    return UnitVersion(
        unit_id=unit_id(n),
        parent_id=unit_id(parent) if parent is not None else None,
        valid_from=valid_from,
        valid_until=valid_until,
        code=str(n),
        level="unit",
        name=str(n),
    )


@st.composite
def some_broadcast(draw: st.DrawFn, n: int, levels: tuple[Level, ...] = tuple(Level)) -> Broadcast:
    return a_broadcast(
        n,
        draw(some_recurrences),
        unit_id=unit_id(draw(st.sampled_from([1, 1, 10, 11, 99]))),
        level=draw(st.sampled_from(levels)),
        time_zone=draw(st.sampled_from(ZONES)),
        items=draw(some_items()),
        targets=draw(some_targets),
        issued_at=draw(st.one_of(st.just(LONG_AGO), some_instants)),
    )


@st.composite
def some_snapshot(draw: st.DrawFn) -> Snapshot:
    stock = (
        a_bulletin(1, 60, board_text="chữ"),
        a_bulletin(2, 20),
        a_bulletin(3, 20, is_approved=False),
    )  # number 4 is missing
    devices = [
        a_device(
            no,
            draw(st.sampled_from(UNITS)),
            draw(st.sampled_from([DeviceKind.CLUSTER, DeviceKind.CLUSTER, DeviceKind.BOARD, DeviceKind.SENSOR])),
            registered_at=draw(st.one_of(st.just(LONG_AGO), some_instants)),
            retired_at=draw(st.one_of(st.none(), some_instants)),
        )
        for no in DEVICES
    ]
    return Snapshot(
        broadcasts=tuple(draw(some_broadcast(n)) for n in range(draw(st.integers(0, 3)))),
        bulletins=stock,
        devices=tuple(devices),
        units=draw(some_units()),
    )


def window(first: int, end: int) -> Window:
    return Window(first=FIRST + timedelta(days=first), end=FIRST + timedelta(days=end))


WEEK = window(0, 6)


def record(planned: Plan, kept: tuple[Recorded, ...] = ()) -> tuple[Recorded, ...]:
    """What the database holds after a plan was applied to an empty one."""
    return kept + tuple(recorded(each.slot, each.device_no) for each in planned.emissions)


def recorded(slot: Slot, device_no: DeviceNo) -> Recorded:
    return Recorded(
        broadcast_id=slot.broadcast_id,
        occurrence_at=slot.occurrence_at,
        item=slot.item,
        device_no=device_no,
        starts_at=slot.starts_at,
        ends_at=slot.ends_at,
        fingerprint=fingerprint(slot),
    )


def apply(standing: tuple[Recorded, ...], change: Changes) -> tuple[Recorded, ...]:
    """What the store does with changes."""
    rows = {each.key: each for each in standing}
    for emission in (*change.add, *change.lapsed):
        row = recorded(emission.slot, emission.device_no)
        rows[row.key] = row
    for gone in change.withdraw:
        del rows[gone.key]
    for stopped in change.stop:
        rows[stopped.key] = stopped._replace(is_stopped=True)
    return tuple(rows.values())


@given(before=some_snapshot(), after=some_snapshot(), now=some_instants, asked_at=some_instants)
def test_planning_is_idempotent(before: Snapshot, after: Snapshot, now: datetime, asked_at: datetime) -> None:
    standing = record(plan(before, WEEK))
    first = changes(plan(after, WEEK), standing, now=now, asked_at=asked_at)

    again = changes(plan(after, WEEK), apply(standing, first), now=now, asked_at=asked_at)

    assert again.is_empty


@given(before=some_snapshot(), after=some_snapshot(), now=some_instants, asked_at=some_instants)
def test_what_has_begun_is_history(before: Snapshot, after: Snapshot, now: datetime, asked_at: datetime) -> None:
    standing = record(plan(before, WEEK))

    change = changes(plan(after, WEEK), standing, now=now, asked_at=asked_at)

    begun = {each.key for each in standing if each.starts_at <= now}
    assert begun.isdisjoint(each.key for each in change.withdraw)
    assert begun.isdisjoint((*each.slot.key, each.device_no) for each in (*change.add, *change.lapsed))
    assert begun <= {each.key for each in (*change.keep, *change.stop)}
    assert all(each.ends_at > now for each in change.stop)


@given(before=some_snapshot(), after=some_snapshot(), now=some_instants)
def test_nothing_vanishes_between_plan_and_record(before: Snapshot, after: Snapshot, now: datetime) -> None:
    standing = record(plan(before, WEEK))
    planned = plan(after, WEEK)

    # Asked for before everything: whatever is planned must be in the record afterwards.
    rows = apply(standing, changes(planned, standing, now=now, asked_at=LONG_AGO))

    assert {(*each.slot.key, each.device_no) for each in planned.emissions} <= {each.key for each in rows}


@given(snapshot=some_snapshot(), cut=st.integers(1, 5))
def test_windows_compose(snapshot: Snapshot, cut: int) -> None:
    whole, early, late = plan(snapshot, WEEK), plan(snapshot, window(0, cut)), plan(snapshot, window(cut, 6))

    assert joined(early, late) == whole.programmes
    # What is wrong with a whole broadcast is said once for each window.
    dated = [problem for problem in (*early.problems, *late.problems) if problem.local_day is not None]
    assert sorted(dated, key=lambda problem: problem.order) == [p for p in whole.problems if p.local_day is not None]


def joined(early: Plan, late: Plan) -> Mapping[DeviceNo, tuple[Slot, ...]]:
    return {
        no: tuple(sorted((*programme, *late.programmes[no]), key=lambda slot: slot.order))
        for no, programme in early.programmes.items()
    }


@given(snapshot=some_snapshot(), data=st.data())
def test_shuffling_changes_nothing(snapshot: Snapshot, data: st.DataObject) -> None:
    def shuffled(values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(data.draw(st.permutations(values)))

    other = Snapshot(
        broadcasts=tuple(
            replace(
                each,
                targets=shuffled(each.targets),
                recurrence=replace(
                    each.recurrence,
                    times=shuffled(each.recurrence.times),
                    rdates=shuffled(each.recurrence.rdates),
                    exdates=shuffled(each.recurrence.exdates),
                ),
            )
            for each in shuffled(snapshot.broadcasts)
        ),
        bulletins=shuffled(snapshot.bulletins),
        devices=shuffled(snapshot.devices),
        units=UnitHistory(shuffled(snapshot.units.versions)),
    )

    assert plan(other, WEEK) == plan(snapshot, WEEK)
    assert list(plan(other, WEEK).programmes) == list(plan(snapshot, WEEK).programmes)


@given(snapshot=some_snapshot())
def test_every_occurrence_ends_as_emissions_or_a_named_problem(snapshot: Snapshot) -> None:
    planned = plan(snapshot, WEEK)

    emitted = {(slot.broadcast_id, slot.occurrence_at, slot.item) for p in planned.programmes.values() for slot in p}
    for broadcast in snapshot.broadcasts:
        asked = {item.number for item in broadcast.items if isinstance(item, BulletinItem)}
        wrong = [each for each in planned.problems if each.broadcast_id == broadcast.broadcast_id]
        for occurrence in recurrence.expand(broadcast, WEEK).occurrences:
            day, local_time, at = occurrence.local_day, occurrence.local_time, occurrence.at
            about = [p for p in wrong if (p.local_day, p.local_time) in {(day, local_time), (None, None)}]
            if {p.kind for p in about if p.item is None} & {
                ProblemKind.BEFORE_ISSUE,
                ProblemKind.ISSUER_CLOSED,
                ProblemKind.BULLETIN_MISSING,
            }:
                continue
            named = {p.item for p in about}
            for item in asked:
                assert (broadcast.broadcast_id, at, item) in emitted or item in named


@given(snapshot=some_snapshot(), newcomer=some_broadcast(50, (Level.NORMAL,)))
def test_adding_a_lower_level_never_changes_what_a_higher_one_gets(snapshot: Snapshot, newcomer: Broadcast) -> None:
    fuller = replace(snapshot, broadcasts=(*snapshot.broadcasts, newcomer))

    before, after = plan(snapshot, WEEK), plan(fuller, WEEK)

    for no, programme in after.programmes.items():
        # On the record: the others keep every slot, exactly.
        assert tuple(slot for slot in programme if slot.broadcast_id != newcomer.broadcast_id) == before.programmes[no]
        # And on the air: what sounded at a higher level sounds still.
        for slot in before.programmes[no]:
            if slot.rank.level is Level.NORMAL:
                continue
            for at in (slot.starts_at, slot.ends_at - timedelta(milliseconds=1)):
                if on_air(before.programmes[no], at) is slot:
                    assert on_air(programme, at) == slot


def on_air(programme: tuple[Slot, ...], at: datetime) -> Slot | None:
    contenders = {
        Contender(
            reference=PlayReference(
                source=PlaySource.EMISSION,
                id=slot.broadcast_id,
                occurrence_at_ms=to_ms(slot.occurrence_at),
                item=slot.item,
            ),
            rank=slot.rank,
        ): slot
        for slot in programme
        if slot.starts_at <= at < slot.ends_at
    }
    best = winner(contenders)
    return contenders[best] if best is not None else None


@given(snapshot=some_snapshot())
@settings(max_examples=50)
def test_devices_get_only_what_they_can_put_out_and_programmes_are_sorted(snapshot: Snapshot) -> None:
    planned = plan(snapshot, WEEK)

    kinds = {device.device_no: device.kind for device in snapshot.devices}
    for no, programme in planned.programmes.items():
        expected = ContentKind.AUDIO if kinds[no] is DeviceKind.CLUSTER else ContentKind.TEXT
        assert {slot.content for slot in programme} <= {expected}
        assert list(programme) == sorted(programme, key=lambda slot: slot.order)
        assert len({slot.key for slot in programme}) == len(programme)
    assert list(planned.problems) == sorted(planned.problems, key=lambda problem: problem.order)
    assert broadcast_id(50) not in {problem.broadcast_id for problem in planned.problems}
