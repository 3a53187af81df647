"""The laws of planning, held against generated provinces. Examples will not find what these find."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.arbitration import Contender, Precedence, precedence, winner
from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, PlayReference, PlaySource
from schemas.identifiers import UnitId
from schemas.plans import ContentKind
from services.control.planning import permission, policies, recurrence, wall_clock
from services.control.planning.changes import Changes, Recorded, changes, fingerprint
from services.control.planning.ground import surroundings
from services.control.planning.model import (
    EVERY_DAY,
    Broadcast,
    DeviceNo,
    Pause,
    Plan,
    Problem,
    ProblemKind,
    Recurrence,
    Slot,
    Snapshot,
    to_ms,
)
from services.control.planning.policies import Quiet
from services.control.planning.programme import begin, later_problems, plan, replan
from services.control.units import UnitHeir, UnitHistory
from tests.support.planning import (
    LONG_AGO,
    a_broadcast,
    a_device,
    a_snapshot,
    a_unit,
    broadcast_id,
    bulletins,
    daily,
    local,
    to_units,
    unit_id,
)
from tests.support.provinces import (
    BROADCASTS,
    DAYS,
    DEVICES,
    FIRST,
    POLICIES,
    STOCK,
    UNITS,
    WEEK,
    begun_by,
    some_broadcast,
    some_bulletins,
    some_device,
    some_instants,
    some_snapshot,
    window,
)

# A province takes a tenth of a second to generate; after a change to planning, try many more.
FEW = settings(max_examples=40)

T = TypeVar("T")
V = TypeVar("V")

# What keeps a whole occurrence from some or all of its devices.
WHOLE = frozenset(
    {
        ProblemKind.BEFORE_ISSUE,
        ProblemKind.ISSUER_CLOSED,
        ProblemKind.AWAITING_APPROVAL,
        ProblemKind.TOO_LONG,
        ProblemKind.BULLETIN_MISSING,
        ProblemKind.OFFER_PENDING,
        ProblemKind.OFFER_DECLINED,
        ProblemKind.OFFER_SCHEDULED,
        ProblemKind.OUTSIDE_SESSION,
        ProblemKind.QUIET_HOURS,
        ProblemKind.WEEKDAY_NOT_ALLOWED,
        ProblemKind.SESSION_TOO_LONG,
        ProblemKind.DAY_FULL,
        ProblemKind.RESERVED_SLOT,
        ProblemKind.RELAY_NOT_ALLOWED,
        ProblemKind.PRIVATE_BOARD,
        ProblemKind.SHARE_USED_UP,
    }
)


def record(planned: Plan) -> tuple[Recorded, ...]:
    """What the database holds after a plan was applied to an empty one."""
    return tuple(recorded(each.slot, each.device_no) for each in planned.emissions)


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


# --- plan and record -------------------------------------------------------------------------------------------------


@FEW
@given(before=some_snapshot(), after=some_snapshot(), now=some_instants, asked_at=some_instants)
def test_planning_is_idempotent(before: Snapshot, after: Snapshot, now: datetime, asked_at: datetime) -> None:
    standing = record(plan(before, WEEK))
    first = changes(plan(after, WEEK), standing, now=now, asked_at=asked_at)

    again = changes(plan(after, WEEK), apply(standing, first), now=now, asked_at=asked_at)

    assert again.is_empty


@FEW
@given(before=some_snapshot(), after=some_snapshot(), now=some_instants, asked_at=some_instants)
def test_what_has_begun_is_history(before: Snapshot, after: Snapshot, now: datetime, asked_at: datetime) -> None:
    standing = record(plan(before, WEEK))

    change = changes(plan(after, WEEK), standing, now=now, asked_at=asked_at)

    begun = {each.key for each in standing if each.starts_at <= now}
    assert begun.isdisjoint(each.key for each in change.withdraw)
    assert begun.isdisjoint((*each.slot.key, each.device_no) for each in (*change.add, *change.lapsed))
    assert begun <= {each.key for each in (*change.keep, *change.stop)}
    assert all(each.ends_at > now for each in change.stop)


@FEW
@given(before=some_snapshot(), after=some_snapshot(), now=some_instants)
def test_nothing_vanishes_between_plan_and_record(before: Snapshot, after: Snapshot, now: datetime) -> None:
    standing = record(plan(before, WEEK))
    planned = plan(after, WEEK)

    # Asked for before everything: whatever is planned must be in the record afterwards.
    rows = apply(standing, changes(planned, standing, now=now, asked_at=LONG_AGO))

    assert {(*each.slot.key, each.device_no) for each in planned.emissions} <= {each.key for each in rows}


# --- windows, order, completeness ------------------------------------------------------------------------------------


@FEW
@given(snapshot=some_snapshot(), cut=st.integers(1, DAYS - 1))
def test_windows_compose(snapshot: Snapshot, cut: int) -> None:
    whole, early, late = plan(snapshot, WEEK), plan(snapshot, window(0, cut)), plan(snapshot, window(cut, DAYS))

    assert joined(early, late) == whole.programmes
    # What is wrong with a whole broadcast is said once for each window.
    dated = [problem for problem in (*early.problems, *late.problems) if problem.local_day is not None]
    assert sorted(dated, key=lambda problem: problem.order) == [p for p in whole.problems if p.local_day is not None]
    assert {*early.offers, *late.offers} == set(whole.offers)


# Zones that never shift: the same instants can be said in words of each.
STEADY = ["Asia/Ho_Chi_Minh", "UTC", "Asia/Tokyo", "Pacific/Kiritimati", "America/Bogota", "Pacific/Pago_Pago"]


@FEW
@given(snapshot=some_snapshot(), moments=st.lists(some_instants, min_size=1, max_size=6, unique=True), data=st.data())
def test_it_does_not_matter_in_words_of_which_zone_instants_are_asked_for(
    snapshot: Snapshot, moments: list[datetime], data: st.DataObject
) -> None:
    """Limits are those of the clock where devices hang, or they could be passed by naming another zone."""

    def said(zones: Sequence[str]) -> Snapshot:
        pairs = zip(snapshot.broadcasts, zones, strict=True)
        return replace(snapshot, broadcasts=tuple(asked_at(moments, each, zone) for each, zone in pairs))

    count = len(snapshot.broadcasts)
    some, others = (data.draw(st.lists(st.sampled_from(STEADY), min_size=count, max_size=count)) for _ in range(2))
    one, other = plan(said(some), WEEK), plan(said(others), WEEK)

    assert other.programmes == one.programmes
    assert other.used == one.used
    assert Counter(map(without_words, other.problems)) == Counter(map(without_words, one.problems))


def asked_at(moments: Sequence[datetime], broadcast: Broadcast, zone: str) -> Broadcast:
    """A broadcast at the same instants, and in its sessions every day, in words of a zone."""
    sessions = broadcast.recurrence.sessions
    recurrence = Recurrence(
        starts_on=FIRST - timedelta(days=30),
        times=() if sessions else (time(5, 30),),
        sessions=sessions,
        rrule=EVERY_DAY if sessions else None,
        rdates=tuple(each.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for each in moments),
    )
    return replace(broadcast, recurrence=recurrence, time_zone=zone)


def without_words(problem: Problem) -> Problem:
    """What a problem says but for the local time that was asked for."""
    detail = "" if problem.kind is ProblemKind.SAME_INSTANT else problem.detail
    return replace(problem, local_time=None, detail=detail)


def joined(early: Plan, late: Plan) -> Mapping[DeviceNo, tuple[Slot, ...]]:
    return {
        no: tuple(sorted((*programme, *late.programmes[no]), key=lambda slot: slot.order))
        for no, programme in early.programmes.items()
    }


@FEW
@given(snapshot=some_snapshot(), data=st.data())
def test_shuffling_changes_nothing(snapshot: Snapshot, data: st.DataObject) -> None:
    def shuffled(values: Sequence[T]) -> tuple[T, ...]:
        return tuple(data.draw(st.permutations(values)))

    def turned(values: Mapping[T, V]) -> dict[T, V]:
        return {key: values[key] for key in reversed(list(values))}

    other = replace(
        snapshot,
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
        relays=shuffled(snapshot.relays),
        groups=turned(snapshot.groups),
        policies=turned(snapshot.policies),
        offers=turned(snapshot.offers),
        places=turned(snapshot.places),
        requisitions=shuffled(snapshot.requisitions),
        begun=shuffled(snapshot.begun),
    )

    assert plan(other, WEEK) == plan(snapshot, WEEK)
    assert list(plan(other, WEEK).programmes) == list(plan(snapshot, WEEK).programmes)


@FEW
@given(snapshot=some_snapshot())
def test_every_occurrence_ends_as_emissions_or_a_named_problem(snapshot: Snapshot) -> None:
    planned = plan(snapshot, WEEK)

    emitted = {slot.key for programme in planned.programmes.values() for slot in programme}
    for broadcast in snapshot.broadcasts:
        asked = {item.number for item in broadcast.items if not isinstance(item, Pause)}
        about: dict[datetime | None, set[int | ProblemKind]] = defaultdict(set)
        for problem in planned.problems:
            if problem.broadcast_id == broadcast.broadcast_id:
                about[problem.occurrence_at].add(problem.kind if problem.item is None else problem.item)
        for occurrence in recurrence.expand(
            broadcast, WEEK, snapshot.zone, session_begins(snapshot, broadcast)
        ).occurrences:
            named = about[occurrence.at]
            if named & WHOLE:
                continue
            for item in asked:
                assert (broadcast.broadcast_id, occurrence.at, item) in emitted or item in named


def session_begins(snapshot: Snapshot, broadcast: Broadcast) -> recurrence.SessionBegins:
    known = policies.Policies(snapshot.policies)

    def begins(code: str, day: date) -> time | ProblemKind:
        tree = snapshot.units.on(day)
        held = permission.session(known.at(broadcast.unit_id, tree), code, day, above=tree.ancestors(broadcast.unit_id))
        return held.begin if isinstance(held, permission.Held) else ProblemKind.UNKNOWN_SESSION

    return begins


# Commune 21 moves from district 20 to district 10 within the week, or closes with the other district as its heir.
MOVED = FIRST + timedelta(days=2)
BELOW_ONE_DISTRICT = (a_unit(1), a_unit(10, 1), a_unit(20, 1), a_unit(12, 10), a_unit(21, 20, valid_until=MOVED))
OF_THE_OTHER_DISTRICT = a_snapshot(
    [a_broadcast(1, daily("05:30", starts_on=FIRST), unit_id=unit_id(10), level=Level.PRIORITY, targets=to_units(10))],
    devices=[a_device(1, 21), a_device(2, 12)],
    units=UnitHistory((*BELOW_ONE_DISTRICT, a_unit(21, 10, valid_from=MOVED))),
)
INHERITED = replace(
    OF_THE_OTHER_DISTRICT,
    units=UnitHistory(
        BELOW_ONE_DISTRICT,
        [UnitHeir(unit_id=unit_id(21), heir_id=unit_id(12), valid_from=MOVED, keeps_rights=True)],
    ),
)


@FEW
@example(snapshot=OF_THE_OTHER_DISTRICT, place=20, says={"quiet": (Quiet(begin=time(22), end=time(23)),)})
@example(snapshot=INHERITED, place=20, says={"quiet": (Quiet(begin=time(22), end=time(23)),)})
@given(snapshot=some_snapshot(), place=st.sampled_from(UNITS), says=st.sampled_from([*POLICIES, {}]))
def test_a_policy_changes_nothing_but_what_lies_around_its_unit(
    snapshot: Snapshot, place: int, says: dict[str, object]
) -> None:
    """Its ground alone is planned anew, and comes to what planning everything comes to."""
    unit = unit_id(place)
    tightened = replace(snapshot, policies=snapshot.policies | {unit: policies.Policy(unit_id=unit, **says)})  # type: ignore[operator,arg-type]
    issuers, units = surroundings([unit], snapshot.units, WEEK)
    around = replace(tightened, broadcasts=tuple(each for each in snapshot.broadcasts if each.unit_id in issuers))
    on_it = {device.device_no for device in snapshot.devices if device.unit_id in units}
    reaching = {each.broadcast_id for each in around.broadcasts}

    before, after, alone = plan(snapshot, WEEK), plan(tightened, WEEK), plan(around, WEEK)

    for no in after.programmes:
        same = alone if no in on_it else before
        assert same.programmes[no] == after.programmes[no]
        assert same.used.get(no) == after.used.get(no)
    assert [each for each in before.problems if each.broadcast_id not in reaching] == [
        each for each in after.problems if each.broadcast_id not in reaching
    ]
    assert {each for each in before.offers if each[0] not in reaching} | set(alone.offers) == set(after.offers)
    if not after.used:
        assert alone.problems == tuple(each for each in after.problems if each.broadcast_id in reaching)


# What stands against an occurrence whatever else there is on its day.
ALONE = frozenset(
    {
        ProblemKind.OUTSIDE_SESSION,
        ProblemKind.QUIET_HOURS,
        ProblemKind.WEEKDAY_NOT_ALLOWED,
        ProblemKind.RESERVED_SLOT,
        ProblemKind.RELAY_NOT_ALLOWED,
        ProblemKind.SHORTENED,
    }
)


@FEW
@given(snapshot=some_snapshot(), near=st.integers(1, 8), issued=st.one_of(st.none(), some_instants))
def test_what_only_later_stands_against_a_broadcast_is_found_among_occurrences_unlike_those_before(
    snapshot: Snapshot, near: int, issued: datetime | None
) -> None:
    """As if each of them were planned, with the first of them named, and nothing that is not so."""
    long, since = window(0, 45), FIRST + timedelta(days=near)
    for each in snapshot.broadcasts:
        broadcast = each if issued is None else replace(each, issued_at=issued)
        alone = replace(snapshot, broadcasts=(broadcast,), begun=())

        found = later_problems(alone, broadcast.broadcast_id, long, since=since)

        whole = plan(alone, long).problems
        before, after = first_of_each(whole, end=since), first_of_each(whole)
        assert {**first_of_each(found), **before} == after


def first_of_each(
    problems: Sequence[Problem], end: date = date.max
) -> dict[tuple[ProblemKind, UnitId | None], datetime | None]:
    first: dict[tuple[ProblemKind, UnitId | None], datetime | None] = {}
    for each in problems:
        if each.kind in ALONE and each.local_day is not None and each.local_day < end:
            first.setdefault((each.kind, each.unit_id), each.occurrence_at)
    return first


# --- one broadcast and the others ------------------------------------------------------------------------------------


@FEW
@given(snapshot=some_snapshot(), newcomer=some_broadcast(50))
def test_adding_a_broadcast_never_changes_what_one_that_outranks_it_gets(
    snapshot: Snapshot, newcomer: Broadcast
) -> None:
    fuller = replace(snapshot, broadcasts=(*snapshot.broadcasts, newcomer))

    before, after = plan(snapshot, WEEK), plan(fuller, WEEK)

    for no, programme in after.programmes.items():
        best = min((rank_of(slot) for slot in programme if slot.broadcast_id == newcomer.broadcast_id), default=None)
        others = {slot.key: slot for slot in programme if slot.broadcast_id != newcomer.broadcast_id}
        # On the record: nobody gets anything new, and who comes first keeps every slot, exactly.
        assert others.items() <= {slot.key: slot for slot in before.programmes[no]}.items()
        for slot in before.programmes[no]:
            if best is None or rank_of(slot) < best:
                assert others[slot.key] == slot
        # And on the air: what sounded at a higher level sounds still.
        for slot in before.programmes[no]:
            if slot.rank.level <= newcomer.level:
                continue
            for at in (slot.starts_at, slot.ends_at - timedelta(milliseconds=1)):
                if on_air(before.programmes[no], at) is slot:
                    assert on_air(programme, at) == slot


def contender(slot: Slot) -> Contender:
    return Contender(
        reference=PlayReference(
            source=PlaySource.EMISSION,
            id=slot.broadcast_id,
            occurrence_at_ms=to_ms(slot.occurrence_at),
            item=slot.item,
        ),
        rank=slot.rank,
    )


def rank_of(slot: Slot) -> Precedence:
    return precedence(contender(slot))


def on_air(programme: tuple[Slot, ...], at: datetime) -> Slot | None:
    contenders = {contender(slot): slot for slot in programme if slot.starts_at <= at < slot.ends_at}
    best = winner(contenders)
    return contenders[best] if best is not None else None


some_programmes = st.lists(
    st.builds(
        lambda n, times, bulletin, unit: a_broadcast(
            n,
            daily(*times, starts_on=FIRST),
            level=Level.PRIORITY,
            unit_id=unit_id(unit),
            targets=to_units(unit),
            items=bulletins(bulletin),
        ),
        st.integers(0, 4),
        st.lists(st.sampled_from(["05:00", "06:00", "12:00", "17:00", "23:59"]), min_size=1, max_size=3, unique=True),
        st.sampled_from([1, 2]),
        st.sampled_from([1, 10, 11]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda each: each.broadcast_id,
)


@FEW
@given(
    before=some_programmes, after=some_programmes, hour=st.integers(0, 48), share=st.sampled_from([60, 80, 120, 200])
)
def test_what_was_heard_of_a_day_stays_heard_whatever_is_asked_for_since(
    before: list[Broadcast], after: list[Broadcast], hour: int, share: int
) -> None:
    """Of what had begun when everything was changed and what is still to come together nobody hears too much."""
    now = local(f"{FIRST} 00:30") + timedelta(hours=hour)
    limit = policies.Policy(unit_id=unit_id(11), max_day=timedelta(seconds=share))
    board = a_device(
        2, 12, DeviceKind.BOARD, ownership=Ownership.PRIVATE_WITH_PUBLIC_SHARE, public_share=timedelta(seconds=share)
    )
    ground: dict[str, Any] = {"devices": (a_device(1), board), "policies": {unit_id(11): limit}, "bulletins": STOCK}
    asked = a_snapshot(before, **ground)
    standing = plan(asked, WEEK)

    since = a_snapshot([replace(each, issued_at=now) for each in after], begun=begun_by(now, standing, asked), **ground)
    planned = plan(since, WEEK)

    for no in (DeviceNo(1), DeviceNo(2)):
        heard: dict[date, timedelta] = defaultdict(timedelta)
        begun = [slot for slot in standing.programmes[no] if slot.occurrence_at <= now]
        for slot in {slot.key: slot for slot in (*planned.programmes[no], *begun)}.values():
            heard[(slot.occurrence_at + timedelta(hours=7)).date()] += slot.ends_at - slot.starts_at
        assert max(heard.values(), default=timedelta(0)) <= timedelta(seconds=share)


@FEW
@given(snapshot=some_snapshot(), data=st.data())
def test_planning_a_change_comes_to_the_same_as_planning_everything(snapshot: Snapshot, data: st.DataObject) -> None:
    before = begin(snapshot, WEEK)
    n = data.draw(st.sampled_from(BROADCASTS))
    others = tuple(each for each in snapshot.broadcasts if each.broadcast_id != broadcast_id(n))
    changed = replace(
        snapshot,
        broadcasts=(*others, data.draw(some_broadcast(n))) if data.draw(st.booleans()) else others,
        bulletins=data.draw(st.one_of(st.just(snapshot.bulletins), some_bulletins())),
        offers={key: is_accepted for key, is_accepted in snapshot.offers.items() if key[0] != broadcast_id(n)},
        begun=tuple(each for each in snapshot.begun if data.draw(st.booleans())),
    )
    touched = {broadcast_id(n)}
    if changed.bulletins != snapshot.bulletins:
        touched |= {each.broadcast_id for each in changed.broadcasts}

    after = replan(before, changed, touched)

    assert after.plan == plan(changed, WEEK)
    assert list(after.plan.programmes) == list(plan(changed, WEEK).programmes)
    # And back again: nothing of the way there is left.
    everything = {each.broadcast_id for each in (*snapshot.broadcasts, *changed.broadcasts)}
    assert replan(after, snapshot, everything).plan == before.plan


@FEW
@given(snapshot=some_snapshot(), n=st.sampled_from(BROADCASTS), data=st.data())
def test_planning_a_change_of_devices_comes_to_the_same_as_planning_everything(
    snapshot: Snapshot, n: int, data: st.DataObject
) -> None:
    """Some go, come, move, or become others; and a broadcast is changed with them."""
    changing = data.draw(st.sets(st.sampled_from(DEVICES), min_size=1, max_size=3))
    newcomers = tuple(data.draw(some_device(no)) for no in sorted(changing) if data.draw(st.booleans()))
    others = tuple(each for each in snapshot.devices if each.device_no not in changing)
    standing = tuple(each for each in snapshot.broadcasts if each.broadcast_id != broadcast_id(n))
    is_also_said = data.draw(st.booleans())
    changed = replace(
        snapshot,
        devices=(*others, *newcomers),
        broadcasts=(*standing, data.draw(some_broadcast(n))) if is_also_said else snapshot.broadcasts,
    )
    touched = {broadcast_id(n)} if is_also_said else set()
    before = begin(snapshot, WEEK)

    after = replan(before, changed, touched)

    everything = begin(changed, WEEK)
    assert after.plan == everything.plan
    assert list(after.plan.programmes) == list(everything.plan.programmes)
    assert replan(after, snapshot, touched).plan == before.plan


@FEW
@given(before=some_snapshot(), after=some_snapshot())
def test_planning_a_change_of_units_or_policies_plans_everything(before: Snapshot, after: Snapshot) -> None:
    everything = {each.broadcast_id for each in (*before.broadcasts, *after.broadcasts)}
    assert replan(begin(before, WEEK), after, everything).plan == plan(after, WEEK)


# --- what devices get ------------------------------------------------------------------------------------------------

SHOWN = {
    DeviceKind.CLUSTER: {ContentKind.AUDIO, ContentKind.RELAY},
    DeviceKind.BOARD: {ContentKind.TEXT, ContentKind.TICKER, ContentKind.IMAGE, ContentKind.VIDEO},
}


@FEW
@given(snapshot=some_snapshot())
def test_devices_get_only_what_they_can_put_out_and_programmes_are_sorted(snapshot: Snapshot) -> None:
    planned = plan(snapshot, WEEK)

    devices = {device.device_no: device for device in snapshot.devices}
    for no, programme in planned.programmes.items():
        assert {slot.content for slot in programme} <= SHOWN[devices[no].kind]
        assert list(programme) == sorted(programme, key=lambda slot: slot.order)
        assert len({slot.key for slot in programme}) == len(programme)
        for slot in programme:
            assert slot.starts_at < slot.ends_at
            assert slot.starts_at <= slot.latest_start_at <= slot.ends_at
            assert 0 <= slot.item <= 255
            assert devices[no].is_there(slot.starts_at)
    assert list(planned.problems) == sorted(planned.problems, key=lambda problem: problem.order)
    assert len(set(planned.problems)) == len(planned.problems)


@FEW
@given(snapshot=some_snapshot())
def test_nobody_hears_what_a_unit_or_an_owner_did_not_let_in(snapshot: Snapshot) -> None:
    planned = plan(snapshot, WEEK)

    devices = {device.device_no: device for device in snapshot.devices}
    known = policies.Policies(snapshot.policies)
    asked = {broadcast.broadcast_id: broadcast for broadcast in snapshot.broadcasts}
    for no, programme in planned.programmes.items():
        device = devices[no]
        shown: dict[date, timedelta] = defaultdict(timedelta)
        sounded: dict[date, timedelta] = defaultdict(timedelta)
        history = [had for had in snapshot.begun if no in had.devices]
        for had in history:
            day = recurrence.local_day(had.occurrence_at, snapshot.zone)
            if had.level is not Level.EMERGENCY and WEEK.holds(day):
                sounded[day] += had.ends_at - had.begins_at
        begun = {(had.broadcast_id, had.occurrence_at) for had in history}
        for slot in programme:
            broadcast = asked[slot.broadcast_id]
            day = recurrence.local_day(slot.occurrence_at, snapshot.zone)
            tree = snapshot.units.on(day)
            deciding = tree.deciding(device.unit_id)
            own = known.own(deciding)
            if broadcast.level is Level.NORMAL and deciding != broadcast.unit_id:
                accepts = own is not None and own.accepts_normal
                is_from_above = tree.covers(broadcast.unit_id, deciding)
                assert accepts or not is_from_above or snapshot.offers[slot.broadcast_id, deciding]
            if broadcast.level is Level.PRIORITY:
                assert slot.rank.place == snapshot.places.get((deciding, slot.broadcast_id))
            is_private = device.kind is DeviceKind.BOARD and device.ownership is not Ownership.PUBLIC
            if is_private and not is_ordered(snapshot, device.device_no, slot, day):
                assert device.ownership is Ownership.PRIVATE_WITH_PUBLIC_SHARE
                shown[day] += slot.ends_at - slot.starts_at
            if broadcast.level is Level.EMERGENCY:
                continue
            policy = known.at(device.unit_id, tree)
            pieces = wall_clock.stretches([(slot.starts_at, slot.ends_at)], snapshot.zone)
            assert not permission.check(policy, pieces, level=broadcast.level, allowed=broadcast.allowed_rules)
            cap = permission.volume_cap(policy, pieces, level=broadcast.level)
            loud = slot.volume_percent if slot.volume_percent is not None else device.volume_percent
            assert cap is None or loud <= cap or loud == slot.volume_percent == cap
            assert slot.volume_percent is None or slot.volume_percent <= (broadcast.volume_percent or 100)
            if (slot.broadcast_id, slot.occurrence_at) not in begun:
                sounded[day] += slot.ends_at - slot.starts_at
            if broadcast.volume_percent is None:
                assert loud <= device.volume_percent
        for day, minutes in sounded.items():
            for each in known.at(device.unit_id, snapshot.units.on(day)).policies:
                if each.max_day is not None:
                    assert minutes <= each.max_day
                    assert planned.used[device.device_no][each.unit_id, day, None] == minutes
        assert all(minutes <= (device.public_share or timedelta(0)) for minutes in shown.values())


def is_ordered(snapshot: Snapshot, device_no: DeviceNo, slot: Slot, day: date) -> bool:
    tree = snapshot.units.on(day)
    (device,) = (each for each in snapshot.devices if each.device_no == device_no)
    return any(
        each.valid_from <= slot.starts_at
        and slot.ends_at <= each.expires_at
        and (each.device_no == device_no or (each.unit_id is not None and tree.covers(each.unit_id, device.unit_id)))
        for each in snapshot.requisitions
    )
