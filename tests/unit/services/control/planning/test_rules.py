"""What may sound where: offers, order, policies, granted time, private boards, stale news, groups and kinds."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.plans import ContentKind
from services.control.planning.drafts import MAX_FORESEEN
from services.control.planning.model import (
    Answer,
    Broadcast,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    Fill,
    Fit,
    GroupId,
    GroupTarget,
    KindTarget,
    Pause,
    Plan,
    Plays,
    Recurrence,
    RelayItem,
    Requisition,
    Snapshot,
    UnitTarget,
)
from services.control.planning.policies import Policy, Quiet, Reserved, Session, VolumeCap
from services.control.planning.programme import later_problems, plan
from services.control.planning.timeline import Fate, sounding
from services.control.units import UnitHeir, UnitHistory
from tests.support.planning import (
    DAY,
    LONG_AGO,
    a_broadcast,
    a_bulletin,
    a_device,
    a_media,
    a_relay,
    a_snapshot,
    a_unit,
    broadcast_id,
    bulletin_id,
    bulletins,
    by_rule,
    daily,
    days,
    local,
    number,
    once,
    source_id,
    to_devices,
    to_units,
    unit_id,
)

BOARD = DeviceKind.BOARD
MINUTE = timedelta(minutes=1)
TREE = UnitHistory(
    (
        a_unit(1, level="province"),
        a_unit(10, 1, level="district"),
        a_unit(11, 10),
        a_unit(12, 10),
        a_unit(111, 11, level="village"),
    )
)
# In two communes, and in a village of one of them.
FLEET = (a_device(1, 11), a_device(2, 12), a_device(3, 111))


def province(
    *broadcasts: Broadcast, devices: tuple[DeviceRef, ...] = FLEET, says: Any = None, **others: Any
) -> Snapshot:
    policies = {unit_id(n): Policy(unit_id=unit_id(n), **each) for n, each in (says or {}).items()}
    return a_snapshot(broadcasts, devices=devices, units=TREE, policies=policies, **others)


def heard(planned: Plan) -> dict[int, list[str]]:
    """What each device puts out: broadcast, and day and time in Việt Nam."""
    return {
        no: [f"{slot.broadcast_id.int & 0xFF} {slot.starts_at + timedelta(hours=7):%d %H:%M}" for slot in programme]
        for no, programme in planned.programmes.items()
    }


def wrong(planned: Plan) -> list[str]:
    """What is wrong, with the unit, item and device it is about."""
    units = {unit_id(n): str(n) for n in (1, 10, 11, 12, 111)}
    return [
        " ".join(
            [
                each.kind.value,
                *([units[each.unit_id]] if each.unit_id is not None else []),
                *([each.detail] if each.detail else []),
                *([f"item {each.item}"] if each.item is not None else []),
                *([f"device {each.device_no}"] if each.device_no is not None else []),
            ]
        )
        for each in planned.problems
    ]


# --- whose clock it is -----------------------------------------------------------------------------------------------


def in_words_of(zone: str, *times: str, n: int = 1, **changes: Any) -> Broadcast:
    """A broadcast at times of the Monday in Việt Nam, asked for by the clocks of another zone."""
    moments = tuple(local(f"{DAY} {each}").astimezone(ZoneInfo(zone)).replace(tzinfo=None) for each in times)
    before = Recurrence(starts_on=DAY - timedelta(days=30), times=(time(5, 30),), rdates=moments)
    values: dict[str, Any] = {"unit_id": unit_id(11), "targets": to_units(11), "time_zone": zone}
    return a_broadcast(n, before, **(values | changes))


FOREIGN = pytest.mark.parametrize(
    "zone", ["Asia/Ho_Chi_Minh", "Europe/London", "Pacific/Kiritimati", "Pacific/Pago_Pago"]
)


@FOREIGN
@pytest.mark.parametrize(
    ("says", "at", "problem"),
    [
        ({"quiet": (Quiet(begin=time(22), end=time(5)),)}, "03:15", "quiet_hours 1"),
        ({"weekdays": frozenset(range(2, 8))}, "03:15", "weekday_not_allowed 1"),
        (
            {"sessions": (Session(code="trua", name="Trưa", begin=time(11), end=time(13)),)},
            "05:30",
            "outside_session 1",
        ),
        ({"quiet": (Quiet(begin=time(22), end=time(5)),)}, "05:30", None),
        ({"weekdays": frozenset({1})}, "03:15", None),
        ({"sessions": (Session(code="trua", name="Trưa", begin=time(11), end=time(13)),)}, "12:00", None),
    ],
)
def test_limits_of_time_are_those_of_the_clock_where_devices_hang(
    zone: str, says: dict[str, Any], at: str, problem: str | None
) -> None:
    planned = plan(province(in_words_of(zone, at), says={1: says}), days(1))
    assert wrong(planned) == ([] if problem is None else [problem])
    assert heard(planned)[1] == ([f"1 07 {at}"] if problem is None else [])


@FOREIGN
def test_minutes_of_a_day_are_those_of_the_day_where_devices_hang(zone: str) -> None:
    """Until midnight and from midnight on: two days here, and one and the same day somewhere else."""
    says = {1: {"max_day": MINUTE}}
    own = a_broadcast(1, once("23:30"), unit_id=unit_id(11), targets=to_units(11))
    same_day = in_words_of(zone, "00:10", n=2, issued_at=LONG_AGO + MINUTE)
    planned = plan(province(own, same_day, says=says), days(2, DAY - timedelta(days=1)))
    assert (heard(planned)[1], wrong(planned)) == (["1 07 23:30"], ["day_full 1"])
    next_day = replace(own, recurrence=once("23:30", day=DAY - timedelta(days=1)))
    planned = plan(province(next_day, same_day, says=says), days(2, DAY - timedelta(days=1)))
    assert (heard(planned)[1], wrong(planned)) == (["1 06 23:30", "2 07 00:10"], [])


@FOREIGN
def test_volumes_are_capped_by_the_clock_where_devices_hang(zone: str) -> None:
    cap = VolumeCap(begin=time(4), end=time(6), percent=30)
    planned = plan(province(in_words_of(zone, "05:30", "12:00"), says={1: {"volume_caps": (cap,)}}), days(1))
    assert [slot.volume_percent for slot in planned.programmes[DeviceNo(1)]] == [30, None]


@FOREIGN
def test_a_session_is_held_where_devices_hang(zone: str) -> None:
    morning = Session(code="sang", name="Sáng", begin=time(4), end=time(6), weekdays=frozenset({1}))
    asked = a_broadcast(
        1, by_rule("FREQ=DAILY", sessions=("sang",)), unit_id=unit_id(11), targets=to_units(11), time_zone=zone
    )
    planned = plan(province(asked, says={11: {"sessions": (morning,)}}), days(7))
    assert heard(planned)[1] == ["1 07 04:00"]
    assert wrong(planned) == ["unknown_session sang"] * 6


@FOREIGN
def test_a_day_that_is_planned_holds_what_begins_on_it_whatever_day_it_is_elsewhere(zone: str) -> None:
    asked = in_words_of(zone, "00:00", "23:59")
    assert heard(plan(province(asked), days(1)))[1] == ["1 07 00:00", "1 07 23:59"]
    for neighbour in (DAY - timedelta(days=1), DAY + timedelta(days=1)):
        assert heard(plan(province(asked), days(1, neighbour)))[1] == []


def test_a_session_and_a_time_of_another_zone_are_not_emitted_twice_at_once() -> None:
    morning = Session(code="sang", name="Sáng", begin=time(4), end=time(6))
    for zone, at in (("Asia/Ho_Chi_Minh", "04:00"), ("Asia/Tokyo", "06:00")):
        both = by_rule("FREQ=DAILY", at, sessions=("sang",))
        asked = a_broadcast(1, both, unit_id=unit_id(11), targets=to_units(11), time_zone=zone)
        planned = plan(province(asked, says={11: {"sessions": (morning,)}}), days(1))
        assert (heard(planned)[1], wrong(planned)) == (["1 07 04:00"], [])


# --- offers and order (R-17) -----------------------------------------------------------------------------------------

YES, NO = Answer.ACCEPTED, Answer.DECLINED


@pytest.mark.parametrize(
    ("level", "issuer", "answers", "expected", "problems"),
    [
        (Level.NORMAL, 1, {}, set(), ["offer_pending 11", "offer_pending 12"]),
        (Level.NORMAL, 10, {11: YES}, {1, 3}, ["offer_pending 12"]),
        (Level.NORMAL, 10, {11: YES, 12: NO}, {1, 3}, ["offer_declined 12"]),
        (Level.NORMAL, 10, {11: YES, 12: Answer.SCHEDULED}, {1, 3}, ["offer_scheduled 12"]),
        (Level.PRIORITY, 1, {11: NO}, {1, 2, 3}, []),
        (Level.EMERGENCY, 1, {}, {1, 2, 3}, []),
        (Level.NORMAL, 11, {}, {1, 3}, ["target_outside_issuer 1"]),
    ],
)
def test_normal_content_from_above_is_offered(
    level: Level, issuer: int, answers: dict[int, Answer], expected: set[int], problems: list[str]
) -> None:
    targets = to_units(1) if issuer == 11 else to_units(issuer)
    asked = a_broadcast(1, once("05:30"), unit_id=unit_id(issuer), level=level, targets=(*targets, *to_units(11)))
    snapshot = province(asked, offers={(broadcast_id(1), unit_id(n)): answer for n, answer in answers.items()})

    planned = plan(snapshot, days(1))

    assert {no for no, programme in planned.programmes.items() if programme} == expected
    assert wrong(planned) == problems


def test_what_waits_for_an_approver_is_named_and_takes_nothing_from_anybody() -> None:
    says = {1: {"max_day": MINUTE}}
    own = a_broadcast(1, once("05:30"), unit_id=unit_id(11), targets=to_units(11))
    waiting = a_broadcast(2, daily("05:00"), level=Level.PRIORITY, is_awaiting=True)
    offered = a_broadcast(3, once("05:10"), is_awaiting=True)

    planned = plan(province(own, waiting, offered, says=says), days(2))

    assert planned.programmes == plan(province(own, says=says), days(2)).programmes
    assert (heard(planned)[1], planned.offers) == (["1 07 05:30"], ())
    assert [(each.kind.value, each.local_day.day if each.local_day else None) for each in planned.problems] == [
        ("awaiting_approval", 7),
        ("awaiting_approval", 8),
        ("awaiting_approval", 7),
    ]
    # Let pass, the same draws on the minute before anybody else.
    passed = plan(province(own, replace(waiting, is_awaiting=False), says=says), days(1))
    assert (heard(passed)[1], wrong(passed)) == (["2 07 05:00"], ["day_full 1"])


def test_every_deciding_unit_is_named_whatever_it_said_unless_it_takes_everything() -> None:
    asked = a_broadcast(1, daily("05:30"))
    snapshot = province(asked, says={12: {"accepts_normal": True}}, offers={(broadcast_id(1), unit_id(11)): NO})

    planned = plan(snapshot, days(2))

    assert planned.offers == ((broadcast_id(1), unit_id(11)),)
    assert heard(planned) == {1: [], 2: ["1 07 05:30", "1 08 05:30"], 3: []}


def test_a_unit_orders_priority_content_and_nothing_else() -> None:
    asked = [a_broadcast(n, once("05:30"), level=level) for n, level in ((1, Level.PRIORITY), (2, Level.EMERGENCY))]
    places = {(unit_id(11), broadcast_id(n)): 7 for n in (1, 2)}

    planned = plan(province(*asked, places=places), days(1))

    found = {no: [slot.rank.place for slot in programme] for no, programme in planned.programmes.items()}
    assert found == {1: [7, None], 2: [None, None], 3: [7, None]}


# --- policies (R-18) -------------------------------------------------------------------------------------------------

MORNING = Session(code="sang", name="Buổi sáng", begin=time(5), end=time(7))
HELD: dict[str, Any] = {"sessions": (MORNING,)}


@pytest.mark.parametrize(
    ("at", "says", "expected"),
    [
        ("05:30", HELD, []),
        ("07:00", HELD, ["outside_session 11"]),
        ("05:30", {"quiet": (Quiet(begin=time(22), end=time(6)),)}, ["quiet_hours 11"]),
        ("05:30", {"weekdays": frozenset({2, 3})}, ["weekday_not_allowed 11"]),
        ("05:30", {"max_session": 2 * MINUTE}, []),
        ("05:30", {"max_session": timedelta(seconds=59)}, ["session_too_long 11"]),
        ("05:30", {"max_day": timedelta(seconds=59)}, ["day_full 11"]),
    ],
)
@pytest.mark.parametrize("level", [Level.NORMAL, Level.PRIORITY, Level.EMERGENCY])
def test_what_a_policy_refuses_is_named(at: str, says: Any, expected: list[str], level: Level) -> None:
    asked = a_broadcast(1, once(at), unit_id=unit_id(11), targets=to_units(11), level=level)
    planned = plan(province(asked, says={11: says}), days(1))
    if level is Level.EMERGENCY:
        expected = []
    assert wrong(planned) == expected
    assert [bool(planned.programmes[DeviceNo(no)]) for no in (1, 2, 3)] == [not expected, False, not expected]


@pytest.mark.parametrize(
    ("at", "says", "issuer", "expected"),
    [
        ("05:30", {10: True}, 1, []),
        ("05:30", {10: True}, 10, []),
        ("05:30", {10: True}, 11, ["reserved_slot 10"]),
        ("05:30", {1: True, 10: True}, 11, ["reserved_slot 1", "reserved_slot 10"]),
        ("05:30", {11: True}, 11, []),
        ("05:24:30", {10: True}, 11, ["reserved_slot 10"]),  # sounds into it
        ("05:40", {10: True}, 11, []),
        ("05:30", {12: True}, 11, []),
    ],
)
@pytest.mark.parametrize("level", [Level.NORMAL, Level.PRIORITY, Level.EMERGENCY])
def test_a_slot_is_kept_for_the_programmes_of_a_unit_and_of_those_above_it(
    at: str, says: dict[int, bool], issuer: int, expected: list[str], level: Level
) -> None:
    """R-09: what a district makes for its communes at a regular time is not talked over by them."""
    kept = {n: {"reserved": (Reserved(begin=time(5, 25), end=time(5, 40)),), "accepts_normal": True} for n in says}
    accepts = {11: {"accepts_normal": True}} | kept
    asked = a_broadcast(1, once(at), unit_id=unit_id(issuer), targets=to_units(11), level=level)
    planned = plan(province(asked, devices=(a_device(1, 11),), says=accepts), days(1))
    assert wrong(planned) == ([] if level is Level.EMERGENCY else expected)
    assert bool(planned.programmes[DeviceNo(1)]) == (not wrong(planned))


@pytest.mark.parametrize(("before", "expected"), [(MAX_FORESEEN - 1, 1), (MAX_FORESEEN, 0)])
def test_of_what_comes_later_so_many_unlike_occurrences_are_looked_at(before: int, expected: int) -> None:
    """In the order of days: the rest is named by planning when it comes."""
    later = datetime.combine(DAY + timedelta(days=20), time(6))
    rdates = (
        *(later + n * timedelta(days=1, minutes=1) for n in range(before)),
        later + timedelta(days=250, hours=16.5),
    )
    asked = a_broadcast(
        1, replace(once("05:30"), rdates=tuple(reversed(rdates))), unit_id=unit_id(11), targets=to_units(11)
    )
    snapshot = province(asked, says={11: {"quiet": (Quiet(begin=time(22), end=time(5)),)}})

    found = later_problems(snapshot, broadcast_id(1), days(300), since=DAY + timedelta(days=8))

    assert [each.kind.value for each in found] == ["quiet_hours"] * expected


def test_a_rule_that_an_approver_let_pass_is_no_rule() -> None:
    asked = a_broadcast(1, once("07:30"), unit_id=unit_id(11), targets=to_units(11))
    allowed = replace(asked, allowed_rules=frozenset({("outside_session", unit_id(11))}))
    assert wrong(plan(province(allowed, says={11: HELD}), days(1))) == []


def test_what_a_unit_lets_pass_breaks_no_rule_of_another() -> None:
    """The province says something later, or the targets grow: nobody there has been asked."""
    allowed = frozenset({("quiet_hours", unit_id(11))})
    asked = a_broadcast(1, once("03:15"), unit_id=unit_id(10), targets=to_units(10), level=Level.PRIORITY)
    says: dict[int, Any] = {each: {"quiet": (Quiet(begin=time(22), end=time(5)),)} for each in (1, 11, 12)}
    planned = [
        plan(province(replace(asked, allowed_rules=allowed), says=dict(some)), days(1))
        for some in ([(11, says[11])], [(11, says[11]), (12, says[12])], says.items())
    ]
    assert [wrong(each) for each in planned] == [[], ["quiet_hours 12"], ["quiet_hours 1", "quiet_hours 12"]]
    assert [[no for no in (1, 2, 3) if each.programmes[DeviceNo(no)]] for each in planned] == [[1, 2, 3], [1, 3], []]


def test_a_session_begins_when_its_policy_says_and_on_its_days() -> None:
    session = replace(MORNING, weekdays=frozenset({1, 3}))
    asked = a_broadcast(1, by_rule("FREQ=DAILY", sessions=("sang", "trua")), unit_id=unit_id(11), targets=to_units(11))
    planned = plan(province(asked, says={11: {"sessions": (session,)}}), days(3))
    assert heard(planned)[1] == ["1 07 05:00", "1 09 05:00"]
    assert wrong(planned) == [
        "unknown_session trua",
        "unknown_session sang",
        "unknown_session trua",
        "unknown_session trua",
    ]


@pytest.mark.parametrize(
    ("fit", "fill", "seconds", "problems"),
    [
        (Fit.WHOLE, Fill.NONE, [], ["outside_session 11"]),
        (Fit.TRIM, Fill.NONE, [60, 30], ["shortened 11"]),
        (Fit.DROP, Fill.NONE, [60], ["no_room item 1"]),
        (Fit.DROP, Fill.REPEAT, [60], ["no_room item 1"]),
    ],
)
def test_the_end_of_the_session_of_who_hears_it(fit: Fit, fill: Fill, seconds: list[int], problems: list[str]) -> None:
    asked = a_broadcast(
        1, once("06:58:30"), unit_id=unit_id(11), targets=to_units(11), items=bulletins(1, 1), fit=fit, fill=fill
    )
    planned = plan(province(asked, says={11: HELD}), days(1))
    found = [(slot.ends_at - slot.starts_at).total_seconds() for slot in planned.programmes[DeviceNo(1)]]
    assert (found, wrong(planned)) == (seconds, problems)


@pytest.mark.parametrize("length", [None, 5 * MINUTE])
def test_what_is_filled_up_by_repeating_ends_with_the_session(length: timedelta | None) -> None:
    asked = a_broadcast(
        1,
        once("06:56:30"),
        unit_id=unit_id(11),
        targets=to_units(11, 12),
        items=bulletins(1, 1),
        fill=Fill.REPEAT,
        length=length,
    )
    planned = plan(
        province(
            replace(asked, unit_id=unit_id(10)),
            says={10: {}, 11: HELD},
            offers={(broadcast_id(1), unit_id(n)): YES for n in (11, 12)},
        ),
        days(1),
    )
    assert len(planned.programmes[DeviceNo(1)]) == 3
    # Where no session ends, a length does.
    assert len(planned.programmes[DeviceNo(2)]) == (2 if length is None else 5)
    assert wrong(planned) == []


def test_a_pause_is_neither_heard_nor_counted() -> None:
    """In quiet hours nothing sounds, and minutes are those in which something does."""
    noon = {"quiet": (Quiet(begin=time(12), end=time(13)),), "max_day": 2 * MINUTE, "max_session": 2 * MINUTE}
    first, second = bulletins(1, 1)
    items = (first, Pause(number=1, length=61 * MINUTE), replace(second, number=2))
    asked = a_broadcast(1, once("11:59"), unit_id=unit_id(11), targets=to_units(11), items=items)
    planned = plan(province(asked, says={11: noon}), days(1))
    assert heard(planned)[1] == ["1 07 11:59", "1 07 13:01"]
    assert (wrong(planned), set(planned.used[DeviceNo(1)].values())) == ([], {2 * MINUTE})
    early = replace(asked, items=(first, replace(items[1], length=59 * MINUTE), items[2]))
    assert wrong(plan(province(early, says={11: noon}), days(1))) == ["quiet_hours 11"]


@pytest.mark.parametrize(("too_long", "problems"), [(timedelta(0), []), (timedelta(milliseconds=1), ["too_long"])])
@pytest.mark.parametrize("says", [{}, HELD])
def test_an_occurrence_lasts_a_day_at_most(too_long: timedelta, problems: list[str], says: Any) -> None:
    source = a_relay(2)
    relay = RelayItem(number=0, source_id=source_id(2), length=timedelta(days=1) + too_long)
    asked = a_broadcast(
        1, once("05:30"), unit_id=unit_id(11), targets=to_units(11), level=Level.EMERGENCY, items=(relay,)
    )
    assert wrong(plan(province(asked, relays=(source,), says={11: says}), days(1))) == problems


def test_what_shortens_an_occurrence_is_named() -> None:
    """Not the lowest unit that says anything, but the one whose session ends."""
    asked = a_broadcast(
        1, once("06:58:30"), unit_id=unit_id(11), targets=to_units(11), items=bulletins(1, 1), fit=Fit.TRIM
    )
    assert wrong(plan(province(asked, says={10: HELD, 11: {"max_day": 5 * MINUTE}}), days(1))) == ["shortened 10"]
    in_session = replace(asked, recurrence=by_rule("FREQ=DAILY", sessions=("ngan",), ends_on=date(2026, 9, 8)))
    short = Session(code="ngan", name="Ngắn", begin=time(6, 58, 30), end=time(7, 30))
    assert wrong(plan(province(in_session, says={10: HELD, 11: {"sessions": (short,)}}), days(1))) == ["shortened 10"]
    early = replace(short, end=time(6, 59, 45))
    assert wrong(plan(province(in_session, says={10: HELD, 11: {"sessions": (early,)}}), days(1))) == ["shortened 11"]


@pytest.mark.parametrize(
    ("quiet", "seconds"),
    [
        pytest.param(("07:00:00", "07:10:00"), [60, 30], id="before_its_own_end"),
        pytest.param(("06:59:00.5", "07:10:00"), [30.5], id="to_the_millisecond"),
        pytest.param(("08:00:00", "09:00:00"), [60, 60], id="after_it"),
    ],
)
def test_a_session_ends_where_nothing_may_sound_any_more(quiet: tuple[str, str], seconds: list[float]) -> None:
    """Whoever hears it: a session is its unit's, and so are the hours that end it."""
    long = Session(code="dai", name="Dài", begin=time(6, 58, 30), end=time(8))
    silence = Quiet(begin=time.fromisoformat(quiet[0]), end=time.fromisoformat(quiet[1]))
    recurrence = by_rule("FREQ=DAILY", sessions=("dai",), ends_on=date(2026, 9, 8))
    asked = a_broadcast(1, recurrence, unit_id=unit_id(11), targets=to_units(11), items=bulletins(1, 1), fit=Fit.TRIM)
    planned = plan(province(asked, says={11: {"sessions": (long,), "quiet": (silence,)}}), days(1))
    found = [(slot.ends_at - slot.starts_at).total_seconds() for slot in planned.programmes[DeviceNo(1)]]
    shortened = [] if seconds == [60, 60] else ["shortened 11", *(["no_room item 1"] if len(seconds) == 1 else [])]
    assert (found, wrong(planned)) == (seconds, shortened)


NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"


@pytest.mark.parametrize(
    ("zone", "day", "at", "session", "minutes"),
    [
        pytest.param(NEW_YORK, date(2026, 3, 8), "01:30", ("01:00", "03:30"), 60, id="an_hour_is_left_out"),
        pytest.param(NEW_YORK, date(2026, 3, 8), "01:30", ("01:00", "02:30"), 30, id="it_ends_in_the_gap"),
        pytest.param(NEW_YORK, date(2026, 3, 8), "02:30", ("02:30", "04:00"), 30, id="it_begins_in_the_gap"),
        pytest.param(NEW_YORK, date(2026, 11, 1), "00:30", ("00:30", "02:30"), 180, id="an_hour_comes_twice"),
        pytest.param(NEW_YORK, date(2026, 11, 1), "01:00", ("01:00", "01:30"), 30, id="it_ends_in_the_first_hour"),
        pytest.param(NEW_YORK, date(2026, 11, 1), "22:00", ("22:00", "00:00"), 120, id="after_the_shift"),
        pytest.param(LORD_HOWE, date(2026, 10, 4), "01:30", ("01:00", "03:00"), 60, id="half_an_hour_is_left_out"),
        pytest.param(LORD_HOWE, date(2026, 4, 5), "01:00", ("01:00", "03:00"), 150, id="half_an_hour_comes_twice"),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_session_ends_when_the_clock_says_so(
    zone: str, day: date, at: str, session: tuple[str, str], minutes: int, is_named: bool
) -> None:
    begin, end = map(time.fromisoformat, session)
    slot = Session(code="dem", name="Đêm", begin=time.fromisoformat(at) if is_named else begin, end=end)
    recurrence = replace(once(day=day), sessions=("dem",)) if is_named else once(at, day=day)
    asked = a_broadcast(
        1,
        recurrence,
        unit_id=unit_id(11),
        targets=to_units(11),
        time_zone=zone,
        items=bulletins(*[1] * 240),
        fit=Fit.TRIM,
    )
    planned = plan(province(asked, says={11: {"sessions": (slot,)}}, zone=zone), days(1, first=day))
    assert len(planned.programmes[DeviceNo(1)]) == minutes
    assert {each.split()[0] for each in wrong(planned)} <= {"no_room", "local_time_skipped", "local_time_repeated"}


@pytest.mark.parametrize(
    ("wanted", "configured", "expected"), [(None, 20, None), (None, 60, 40), (30, 60, 30), (50, 20, 40)]
)
def test_volume_by_time_makes_nobody_louder(wanted: int | None, configured: int, expected: int | None) -> None:
    asked = a_broadcast(1, once("05:30", "12:00"), unit_id=unit_id(11), targets=to_units(11), volume_percent=wanted)
    cap = VolumeCap(begin=time(5), end=time(6), percent=40)
    fleet = (a_device(1, 11, volume_percent=configured),)

    early, late = plan(province(asked, devices=fleet, says={11: {"volume_caps": (cap,)}}), days(1)).programmes[
        DeviceNo(1)
    ]

    assert (early.volume_percent, late.volume_percent) == (expected, wanted)


@pytest.mark.parametrize(
    ("at", "gap", "expected"),
    [
        pytest.param("05:57:30", 0, [40, 40, 40, None], id="the_last_one_begins_after_the_cap"),
        pytest.param("05:58", 0, [40, 40, None, None], id="to_the_second"),
        pytest.param("04:58", 0, [None, None, 40, 40], id="before_and_in_it"),
        pytest.param("04:56", 3, [None, 40, 40, 40], id="the_pause_reaches_into_it"),
        pytest.param("23:58", 0, [30, 30, 20, 20], id="over_midnight"),
        pytest.param("23:56", 3, [30, 20, 20, 20], id="over_midnight_with_a_pause"),
    ],
)
def test_each_item_is_as_loud_as_its_own_time_allows(at: str, gap: int, expected: list[int | None]) -> None:
    caps = tuple(
        VolumeCap(begin=time.fromisoformat(begin), end=time.fromisoformat(end), percent=percent)
        for begin, end, percent in (("05:00", "06:00", 40), ("23:00", "00:00", 30), ("00:00", "01:00", 20))
    )
    first, *rest = bulletins(1, 1, 1, 1)
    pause = (Pause(number=1, length=gap * MINUTE),) if gap else ()
    items = (first, *pause, *(replace(each, number=each.number + 1) for each in rest))
    asked = a_broadcast(1, once(at), unit_id=unit_id(11), targets=to_units(11), items=items)
    planned = plan(province(asked, says={11: {"volume_caps": caps}}), days(1))
    assert [slot.volume_percent for slot in planned.programmes[DeviceNo(1)]] == expected


def test_a_source_taken_directly_needs_leave() -> None:
    relay = RelayItem(number=0, source_id=source_id(2), length=MINUTE)
    asked = [
        a_broadcast(1, once("05:30"), unit_id=unit_id(10), level=Level.PRIORITY, targets=to_units(10), items=(relay,))
    ]
    source = a_relay(2, path=None, url="fm://102.7", fallback=a_media(30, 9))

    planned = plan(province(*asked, relays=(source,), says={12: {"allows_direct_relays": False}}), days(1))

    (slot,) = planned.programmes[DeviceNo(1)]
    assert (slot.content, slot.relay, slot.bulletin_id, slot.title) == (ContentKind.RELAY, source, None, "Nguồn 2")
    assert heard(planned)[2] == []
    assert wrong(planned) == ["relay_not_allowed 12"]


def test_who_speaks_live_goes_before_priority_content_and_nothing_fills_in() -> None:
    """Regulation section 5: live by an authorised user, then priority, then normal. A jingle before it is no live word."""
    jingle = BulletinItem(number=0, bulletin_id=bulletin_id(1), is_jingle=True)
    live, relayed = (
        RelayItem(number=number, source_id=source_id(2), length=5 * MINUTE, is_live=is_live)
        for number, is_live in ((1, True), (2, False))
    )
    ours = {"unit_id": unit_id(11), "targets": to_units(11)}
    speech = a_broadcast(1, once("05:30"), items=(jingle, live, relayed), **ours)
    urgent = a_broadcast(2, once("05:30:30", "05:33", "05:40"), level=Level.PRIORITY, targets=to_units(1))
    planned = plan(
        province(speech, urgent, devices=(a_device(1, 11),), relays=(a_relay(2, fallback=a_media(30, 9)),)), days(1)
    )

    told = [
        (each.slot.broadcast_id.int & 0xFF, each.slot.item, each.fate)
        for each in sounding(planned.programmes[DeviceNo(1)])
    ]
    assert told == [
        (1, 0, Fate.CUT),  # its jingle, by the priority item
        (2, 0, Fate.CUT),  # which the live word cuts a minute in
        (1, 1, Fate.WHOLE),
        (2, 0, Fate.MISSED),
        (1, 2, Fate.CUT),  # what is only relayed
        (2, 0, Fate.WHOLE),
    ]
    slots = [slot for slot in planned.programmes[DeviceNo(1)] if slot.relay is not None]
    assert [(slot.rank.live, slot.relay.fallback is None) for slot in slots if slot.relay] == [
        (True, True),
        (False, False),
    ]


def test_of_granted_time_who_speaks_live_has_what_the_level_gives() -> None:
    live = RelayItem(number=0, source_id=source_id(2), length=MINUTE, is_live=True)
    ours = {"unit_id": unit_id(11), "targets": to_units(11)}
    asked = (
        a_broadcast(1, once("05:30"), items=(live,), **ours),
        a_broadcast(2, once("05:40"), level=Level.PRIORITY, **ours),
    )
    planned = plan(province(*asked, relays=(a_relay(2),), says={11: {"max_day": MINUTE}}), days(1))
    assert heard(planned)[1] == ["2 07 05:40"]
    assert wrong(planned) == ["day_full 11"]


# --- granted time ----------------------------------------------------------------------------------------------------


def test_minutes_of_a_day_go_to_who_outranks_the_others() -> None:
    asked = [
        a_broadcast(1, daily("05:00"), unit_id=unit_id(11), targets=to_units(11), level=Level.NORMAL),
        a_broadcast(2, daily("06:00"), unit_id=unit_id(11), targets=to_units(11), level=Level.NORMAL, severity=2),
        a_broadcast(3, daily("19:00"), unit_id=unit_id(10), targets=to_units(11), level=Level.PRIORITY),
        a_broadcast(4, daily("20:00"), unit_id=unit_id(11), targets=to_units(11), level=Level.EMERGENCY),
    ]
    planned = plan(province(*asked, says={11: {"max_day": 2 * MINUTE}}), days(1))
    assert heard(planned)[1] == ["2 07 06:00", "3 07 19:00", "4 07 20:00"]
    assert wrong(planned) == ["day_full 11"]


def test_what_lay_before_the_issue_on_its_first_day_is_held_against_policies_when_it_comes_again() -> None:
    fortnightly = by_rule("FREQ=WEEKLY;INTERVAL=2", "04:00", "18:00")
    asked = a_broadcast(1, fortnightly, unit_id=unit_id(11), targets=to_units(11), issued_at=local("2026-09-07 10:00"))
    snapshot = province(asked, says={11: {"quiet": (Quiet(begin=time(22), end=time(5)),)}})
    (problem,) = later_problems(snapshot, broadcast_id(1), days(60), since=DAY + timedelta(days=8))
    assert (problem.kind.value, problem.occurrence_at) == ("quiet_hours", local("2026-09-21 04:00"))


@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [
        pytest.param("2026-09-07 05:00", ["2 07 05:00"], id="asked_just_in_time"),
        pytest.param("2026-09-07 10:00", ["1 07 18:00"], id="asked_too_late"),
    ],
)
def test_what_was_asked_for_too_late_takes_no_minutes_of_what_is_to_come(asked_at: str, expected: list[str]) -> None:
    """As when an approver lets it pass, or a unit accepts it, after it would have begun: nobody heard it."""
    asked = [
        a_broadcast(1, once("18:00"), unit_id=unit_id(11), targets=to_units(11)),
        a_broadcast(2, once("05:00"), unit_id=unit_id(10), targets=to_units(11), level=Level.PRIORITY),
    ]
    snapshot = province(*asked, says={11: {"max_day": MINUTE}}, asked_at=local(asked_at))
    assert heard(plan(snapshot, days(1)))[1] == expected


def test_a_day_that_is_full_on_some_devices_only_is_said_of_them() -> None:
    asked = [
        a_broadcast(1, once("05:00"), unit_id=unit_id(11), targets=to_units(11), severity=1),
        a_broadcast(2, once("06:00"), unit_id=unit_id(11), targets=to_units(111), severity=2),
    ]
    planned = plan(province(*asked, says={11: {"max_day": MINUTE}}), days(1))
    assert heard(planned) == {1: ["1 07 05:00"], 2: [], 3: ["2 07 06:00"]}
    assert wrong(planned) == ["day_full 11 device 3"]


def test_a_device_draws_on_its_day_for_what_it_puts_out_itself() -> None:
    """What only boards show is no minute of a loudspeaker, and a text that stays longer than its sound is one of a board."""
    contents = (
        a_bulletin(1),
        a_bulletin(2, None, board_text="chữ", board_length=2 * MINUTE),
        a_bulletin(3, 60, board_text="chữ", board_media=a_media(90, 9, mime="video/mp4")),
    )
    fleet = (a_device(1, 11), a_device(2, 11, BOARD))

    def planned(limit: float, *broadcasts: tuple[int, str, tuple[int, ...]]) -> Plan:
        asked = [
            a_broadcast(n, once(at), unit_id=unit_id(11), targets=to_units(11), items=bulletins(*items), severity=4 - n)
            for n, at, items in broadcasts
        ]
        says = {11: {"max_day": limit * MINUTE}}
        return plan(province(*asked, devices=fleet, says=says, bulletins=contents), days(1))

    def used(planned: Plan) -> dict[int, float]:
        return {no: sum(each.values(), timedelta(0)) / MINUTE for no, each in planned.used.items()}

    both = planned(2, (1, "05:00", (1, 2)), (2, "06:00", (1,)))
    assert heard(both) == {1: ["1 07 05:00", "2 07 06:00"], 2: ["1 07 05:01"]}
    assert (used(both), wrong(both)) == ({1: 2, 2: 2}, [])
    # By itself too long on boards alone.
    text = planned(1, (1, "05:00", (1, 2)))
    assert heard(text) == {1: ["1 07 05:00"], 2: []}
    assert (used(text), wrong(text)) == ({1: 1}, ["day_full 11"])
    film = planned(1.5, (1, "05:00", (3,)), (2, "06:00", (3,)))
    assert heard(film) == {1: ["1 07 05:00"], 2: ["1 07 05:00"]}
    assert (used(film), wrong(film)) == ({1: 1, 2: 1.5}, ["day_full 11"])


def test_what_an_approver_let_pass_draws_on_nothing() -> None:
    asked = [
        a_broadcast(n, once(at), unit_id=unit_id(11), targets=to_units(11), severity=4 - n, **changes)
        for n, at, changes in (
            (1, "05:00", {"allowed_rules": frozenset({("day_full", unit_id(11))})}),
            (2, "06:00", {}),
            (3, "07:00", {"level": Level.EMERGENCY}),
        )
    ]
    planned = plan(province(*asked, says={11: {"max_day": MINUTE}}), days(1))
    assert heard(planned)[1] == ["1 07 05:00", "2 07 06:00", "3 07 07:00"]
    assert planned.used[DeviceNo(1)] == {(unit_id(11), date(2026, 9, 7), None): MINUTE}
    assert DeviceNo(2) not in planned.used


def test_minutes_of_a_session_are_shared() -> None:
    asked = [
        a_broadcast(n, once(at), unit_id=unit_id(11), targets=to_units(11), severity=4 - n)
        for n, at in ((1, "05:00"), (2, "06:00"), (3, "06:30"))
    ]
    planned = plan(province(*asked, says={11: HELD | {"max_session": 2 * MINUTE}}), days(1))
    assert heard(planned)[1] == ["1 07 05:00", "2 07 06:00"]
    assert wrong(planned) == ["session_too_long 11"]


def test_what_sounds_after_midnight_counts_for_the_day_it_begins_on() -> None:
    asked = [
        a_broadcast(1, daily("23:59:30"), unit_id=unit_id(11), targets=to_units(11), severity=1),
        a_broadcast(2, daily("00:00:30"), unit_id=unit_id(11), targets=to_units(11)),
    ]
    planned = plan(province(*asked, says={11: {"max_day": 2 * MINUTE}}), days(2))
    assert heard(planned)[1] == ["2 07 00:00", "1 07 23:59", "2 08 00:00", "1 08 23:59"]
    assert wrong(planned) == []


# --- what begins anew ------------------------------------------------------------------------------------------------

ANEW = {"unit_id": unit_id(11), "targets": to_units(11), "resume": ResumePolicy.RESTART, "items": bulletins(1, 1)}


def begin_anew(planned: Plan, device: int = 1) -> list[bool]:
    """Which slots of a device begin anew when they were cut."""
    return [slot.resume is ResumePolicy.RESTART for slot in planned.programmes[DeviceNo(device)]]


@pytest.mark.parametrize(
    ("at", "says", "patience", "expected"),
    [
        pytest.param("20:56", {}, None, [True, True], id="nothing_limits_it"),
        pytest.param("20:56", {"quiet": (Quiet(begin=time(21), end=time(5)),)}, None, [True, True], id="long_before"),
        # Of a minute each, which may begin half a minute late, and a little for the timer.
        pytest.param("20:57:30", {"quiet": (Quiet(begin=time(21), end=time(5)),)}, None, [True, False], id="late"),
        pytest.param("20:57:29", {"quiet": (Quiet(begin=time(21), end=time(5)),)}, None, [True, True], id="just_not"),
        pytest.param("20:57:30", {"quiet": (Quiet(begin=time(21), end=time(5)),)}, 29, [True, True], id="impatient"),
        pytest.param("23:58", {"weekdays": frozenset({1})}, None, [True, False], id="into_another_day"),
        pytest.param(
            "05:58",
            {"sessions": (Session(code="sang", name="Sáng", begin=time(5), end=time(6)),)},
            None,
            [True, False],
            id="out_of_the_session",
        ),
        pytest.param(
            "20:58",
            {"volume_caps": (VolumeCap(begin=time(21), end=time(5), percent=20),)},
            None,
            [True, False],
            id="cap",
        ),
        pytest.param(
            "20:58",
            {"volume_caps": (VolumeCap(begin=time(20), end=time(22), percent=20),)},
            None,
            [True, True],
            id="same",
        ),
    ],
)
def test_nothing_begins_anew_that_would_then_leave_what_policies_allow(
    at: str, says: dict[str, Any], patience: int | None, expected: list[bool]
) -> None:
    """It goes on within its slot instead: nobody hears it in quiet hours because something came between."""
    asked = a_broadcast(1, once(at), patience=None if patience is None else timedelta(seconds=patience), **ANEW)
    assert begin_anew(plan(province(asked, says={1: says}), days(1))) == expected


def test_what_an_approver_let_pass_may_begin_anew() -> None:
    quiet = {"quiet": (Quiet(begin=time(21), end=time(5)),)}
    asked = a_broadcast(1, once("20:58"), allowed_rules=frozenset({("quiet_hours", unit_id(1))}), **ANEW)
    assert begin_anew(plan(province(asked, says={1: quiet}), days(1))) == [True, True]


def test_what_outranks_it_never_pushes_it_into_quiet_hours() -> None:
    news = a_broadcast(1, once("20:30", "20:50"), **{**ANEW, "items": bulletins(2)})
    above = a_broadcast(2, once("20:33", "20:53"), unit_id=unit_id(1), level=Level.PRIORITY)
    planned = plan(
        province(
            news,
            above,
            bulletins=[a_bulletin(1, 60), a_bulletin(2, 600)],
            says={11: {"quiet": (Quiet(begin=time(21), end=time(5)),)}},
        ),
        days(1),
    )
    told = [each for each in sounding(planned.programmes[DeviceNo(1)]) if each.slot.broadcast_id == broadcast_id(1)]
    assert [(each.fate, each.parts[-1][1]) for each in told] == [
        (Fate.MOVED, local("2026-09-07 20:44")),
        (Fate.CUT, local("2026-09-07 21:00")),
    ]


# --- private boards (R-15) -------------------------------------------------------------------------------------------

TEXT = a_bulletin(1, None, board_text="chữ")
OURS = a_device(1, 11, BOARD)
THEIRS = a_device(2, 11, BOARD, ownership=Ownership.PRIVATE)
SHARED = a_device(3, 11, BOARD, ownership=Ownership.PRIVATE_WITH_PUBLIC_SHARE, public_share=MINUTE)
BOARDS = (OURS, THEIRS, SHARED)


def shown(*broadcasts: Broadcast, requisitions: tuple[Requisition, ...] = ()) -> Plan:
    return plan(province(*broadcasts, devices=BOARDS, bulletins=[TEXT], requisitions=requisitions), days(1))


def test_private_boards_show_their_public_share_and_no_more() -> None:
    asked = a_broadcast(1, once("05:30", "06:30"), unit_id=unit_id(11), targets=to_units(11))
    planned = shown(asked)
    assert {no: len(programme) for no, programme in planned.programmes.items()} == {1: 2, 2: 0, 3: 1}
    assert wrong(planned) == ["private_board 11", "private_board 11", "share_used_up 11 device 3"]


def test_a_private_board_lies_in_the_unit_that_its_own_went_over_into() -> None:
    closed, heir = (a_unit(n, 10, level="commune", **dates) for n, dates in ((11, {"valid_until": DAY}), (12, {})))
    history = UnitHistory(
        (a_unit(1, level="province"), a_unit(10, 1, level="district"), closed, heir),
        [UnitHeir(unit_id=unit_id(11), heir_id=unit_id(12), valid_from=DAY, keeps_rights=True)],
    )
    asked = a_broadcast(1, once("05:30", "06:30"), unit_id=unit_id(10), level=Level.PRIORITY, targets=to_units(10))
    snapshot = a_snapshot([asked], devices=(THEIRS, SHARED), bulletins=[TEXT], units=history)
    assert wrong(plan(snapshot, days(1))) == ["private_board 12", "private_board 12", "share_used_up 12 device 3"]


def test_who_names_a_private_board_hears_of_it() -> None:
    asked = a_broadcast(1, once("05:30"), unit_id=unit_id(11), targets=to_devices(2))
    assert wrong(shown(asked)) == ["private_board 11 device 2"]


@pytest.mark.parametrize("limit", ["max_day", "max_session"])
def test_a_board_that_is_not_ours_meets_no_limit_of_its_unit(limit: str) -> None:
    devices = (OURS, replace(THEIRS, unit_id=unit_id(111)))
    asked = a_broadcast(1, once("05:30"), unit_id=unit_id(11), targets=to_units(11))
    planned = plan(
        province(asked, devices=devices, bulletins=[TEXT], says={111: {limit: timedelta(seconds=1)}}), days(1)
    )
    assert heard(planned)[1] == ["1 07 05:30"]
    assert wrong(planned) == ["private_board 111"]


@pytest.mark.parametrize("whose", [{"unit_id": unit_id(10)}, {"device_no": DeviceNo(2)}])
def test_a_requisition_opens_a_private_board_while_it_lasts(whose: Any) -> None:
    asked = a_broadcast(1, once("05:30", "06:30"), unit_id=unit_id(11), targets=to_devices(2))
    order = Requisition(**whose, valid_from=local("2026-09-07 05:00"), expires_at=local("2026-09-07 05:31"))
    planned = shown(asked, requisitions=(order,))
    assert heard(planned)[2] == ["1 07 05:30"]
    assert wrong(planned) == ["private_board 11 device 2"]


def test_a_requisition_does_not_use_the_public_share_up() -> None:
    asked = a_broadcast(1, once("05:30", "06:30"), unit_id=unit_id(11), targets=to_devices(3))
    order = Requisition(
        device_no=DeviceNo(3), valid_from=local("2026-09-07 05:00"), expires_at=local("2026-09-07 06:00")
    )
    assert wrong(shown(asked, requisitions=(order,))) == []


@pytest.mark.parametrize(("device", "expected"), [(1, [True]), (2, [False]), (3, [False])])
def test_on_a_board_of_others_nothing_begins_anew(device: int, expected: list[bool]) -> None:
    """An order, and a share of the day, is for the slot: what comes after it is the owner's."""
    asked = a_broadcast(1, once("05:30"), **{**ANEW, "items": bulletins(1)})
    order = Requisition(
        device_no=DeviceNo(2), valid_from=local("2026-09-07 05:00"), expires_at=local("2026-09-07 05:31")
    )
    assert begin_anew(shown(asked, requisitions=(order,)), device) == expected


# --- stale news ------------------------------------------------------------------------------------------------------


def test_a_bulletin_that_expires_is_in_no_occurrence_from_then_on() -> None:
    stock = [a_bulletin(1, 60, expires_at=local("2026-09-08 05:30")), a_bulletin(2, 30)]
    asked = a_broadcast(1, daily("05:30"), unit_id=unit_id(11), targets=to_units(11), items=bulletins(1, 2))
    planned = plan(province(asked, bulletins=stock), days(2))
    assert [(slot.item, slot.starts_at) for slot in planned.programmes[DeviceNo(1)]] == [
        (0, local("2026-09-07 05:30")),
        (1, local("2026-09-07 05:31")),
        (1, local("2026-09-08 05:30")),
    ]
    assert wrong(planned) == ["expired item 0"]


def test_nothing_begins_from_the_instant_it_expires() -> None:
    """Neither a repetition nor a later item of an occurrence that had begun, nor who comes late."""
    stock = [a_bulletin(1, 60, expires_at=local("2026-09-07 05:32"))]
    asked = a_broadcast(
        1,
        once("05:30"),
        unit_id=unit_id(11),
        targets=to_units(11),
        items=bulletins(1),
        length=10 * MINUTE,
        fill=Fill.REPEAT,
        patience=MINUTE,
    )
    planned = plan(province(asked, bulletins=stock), days(1))
    assert [(slot.starts_at, slot.latest_start_at) for slot in planned.programmes[DeviceNo(1)]] == [
        (local("2026-09-07 05:30"), local("2026-09-07 05:31")),
        (local("2026-09-07 05:31"), local("2026-09-07 05:31:59.999")),
    ]
    assert wrong(planned) == []


@pytest.mark.parametrize(
    ("so_far", "since", "expected"),
    [
        pytest.param(None, None, ["1 08 17:00", "1 09 05:30"], id="since_it_was_issued"),
        pytest.param(1, "2026-09-08 16:00", ["1 08 17:00"], id="played_before_it_was_changed"),
        pytest.param(0, "2026-09-08 17:00", ["1 08 17:00", "1 09 05:30"], id="at_the_instant_it_was_let_pass"),
        pytest.param(0, "2026-09-08 17:00:00.001", ["1 09 05:30", "1 09 17:00"], id="after_it"),
        pytest.param(2, "2026-09-08 16:00", [], id="used_up"),
        pytest.param(7, "2026-09-08 16:00", [], id="more_than_used_up"),
    ],
)
def test_only_what_could_sound_counts_as_a_play(so_far: int | None, since: str | None, expected: list[str]) -> None:
    asked = a_broadcast(
        1,
        daily("05:30", "17:00", starts_on=date(2026, 9, 1)),
        unit_id=unit_id(11),
        targets=to_units(11),
        issued_at=local("2026-09-08 16:00"),
    )
    plays = {} if so_far is None else {(broadcast_id(1), bulletin_id(1)): Plays(so_far, local(str(since)))}
    planned = plan(province(asked, bulletins=[a_bulletin(1, 60, max_plays=2)], plays=plays), days(4))
    # What lies before somebody let it pass is planned by nobody: the record takes what was asked for by then.
    began = local(since) if since is not None else asked.issued_at
    found = [slot for slot in planned.programmes[DeviceNo(1)] if slot.starts_at >= began]
    assert [f"1 {slot.starts_at + timedelta(hours=7):%d %H:%M}" for slot in found] == expected


@pytest.mark.parametrize(
    ("starts_on", "times", "expected"),
    [
        (date(2026, 9, 7), ("05:30", "17:00"), ["1 07 05:30", "1 07 17:00", "1 08 05:30"]),
        (date(2026, 9, 6), ("05:30",), ["1 07 05:30", "1 08 05:30"]),
        (date(2006, 9, 6), ("05:30",), []),
    ],
)
def test_a_bulletin_is_in_the_first_occurrences_of_a_broadcast(
    starts_on: date, times: tuple[str, ...], expected: list[str]
) -> None:
    asked = a_broadcast(1, daily(*times, starts_on=starts_on), unit_id=unit_id(11), targets=to_units(11))
    planned = plan(province(asked, bulletins=[a_bulletin(1, 60, max_plays=3)]), days(4))
    assert heard(planned)[1] == expected
    assert len(wrong(planned)) == 4 * len(times) - len(expected)
    assert set(wrong(planned)) == {"plays_used_up item 0"}


# --- groups, kinds, other items --------------------------------------------------------------------------------------

GROUP = GroupId(number(4, 1))


@pytest.mark.parametrize(
    ("targets", "expected", "problems"),
    [
        ((GroupTarget(group_id=GROUP),), {1, 2}, []),
        ((GroupTarget(group_id=GroupId(number(4, 9))), *to_devices(1)), {1}, ["group_closed " + str(number(4, 9))]),
        ((UnitTarget(unit_id=unit_id(10)), GroupTarget(group_id=GROUP, is_excluded=True)), {3}, []),
        ((KindTarget(kind=DeviceKind.CLUSTER),), {1, 2, 3}, []),
        ((KindTarget(kind=DeviceKind.CLUSTER), UnitTarget(unit_id=unit_id(11), is_excluded=True)), {2}, []),
        ((UnitTarget(unit_id=unit_id(10)), KindTarget(kind=DeviceKind.CLUSTER, is_excluded=True)), set(), ["no_device item 0"]),
    ],
)  # fmt: skip
def test_groups_and_kinds(targets: Any, expected: set[int], problems: list[str]) -> None:
    asked = a_broadcast(1, once("05:30"), unit_id=unit_id(10), level=Level.PRIORITY, targets=targets)
    groups = {GROUP: frozenset({DeviceNo(1), DeviceNo(2), DeviceNo(77)})}
    planned = plan(province(asked, groups=groups), days(1))
    assert {no for no, programme in planned.programmes.items() if programme} == expected
    assert wrong(planned) == problems


@pytest.mark.parametrize(
    ("patience", "expected"), [(None, 30), (timedelta(0), 0), (timedelta(seconds=45), 45), (timedelta(hours=1), 60)]
)
def test_patience_is_how_late_an_item_may_begin(patience: timedelta | None, expected: int) -> None:
    asked = a_broadcast(1, once("05:30"), unit_id=unit_id(11), targets=to_units(11), patience=patience)
    (slot,) = plan(province(asked), days(1)).programmes[DeviceNo(1)]
    assert slot.latest_start_at - slot.starts_at == timedelta(seconds=expected)


def test_boards_show_what_they_can_beside_what_sounds() -> None:
    stock = [
        a_bulletin(1, 60, board_media=a_media(None, 50, mime="image/png")),
        a_bulletin(2, 20, board_media=a_media(45, 51, mime="video/mp4")),
    ]
    asked = a_broadcast(
        1,
        once("05:30"),
        unit_id=unit_id(11),
        targets=to_units(11),
        items=(*bulletins(1, 2), BulletinItem(number=5, bulletin_id=bulletin_id(1))),
    )
    planned = plan(province(asked, devices=(a_device(1, 11), a_device(2, 11, BOARD)), bulletins=stock), days(1))
    start = local("2026-09-07 05:30")

    def told(no: int) -> list[tuple[ContentKind, float, float]]:
        return [
            (slot.content, (slot.starts_at - start).total_seconds(), (slot.ends_at - start).total_seconds())
            for slot in planned.programmes[DeviceNo(no)]
        ]

    assert told(1) == [(ContentKind.AUDIO, 0, 60), (ContentKind.AUDIO, 60, 80), (ContentKind.AUDIO, 105, 165)]
    assert told(2) == [(ContentKind.IMAGE, 0, 60), (ContentKind.VIDEO, 60, 105), (ContentKind.IMAGE, 105, 165)]


def test_the_end_of_a_session_does_not_shorten_an_emergency() -> None:
    morning = {"sessions": (Session(code="s", name="Sáng", begin=time(5), end=time(5, 30, 30)),)}
    asked = a_broadcast(
        1, once("05:30"), unit_id=unit_id(11), targets=to_units(11), level=Level.EMERGENCY, fit=Fit.TRIM
    )
    planned = plan(province(asked, says={11: morning}), days(1))
    assert [slot.ends_at for slot in planned.programmes[DeviceNo(1)]] == [local("2026-09-07 05:31")]
    assert wrong(planned) == []
