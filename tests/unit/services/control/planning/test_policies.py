"""What units allow on their ground: tables of limits, and the laws of tightening held against generated policies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import Level
from schemas.identifiers import UnitId
from services.control.planning import permission, policies, policy_faults, wall_clock
from services.control.planning.day_spans import end_ms, ms_of_day
from services.control.planning.permission import Budget, Held, Rule
from services.control.planning.policies import (
    WEEKDAYS,
    Danger,
    EffectivePolicy,
    Fallback,
    Policies,
    Policy,
    Quiet,
    Reserved,
    SecondPerson,
    Session,
    VolumeCap,
    effective,
)
from services.control.planning.policy_faults import Fault, FaultCode
from services.control.planning.wall_clock import Stretch
from tests.support.planning import PROVINCE, bulletin_id, local, unit_id

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
MONDAY = date(2026, 9, 7)
SUNDAY = date(2026, 9, 13)
WORKDAYS = frozenset({1, 2, 3, 4, 5})
MINUTE = timedelta(minutes=1)


def at(text: str) -> time:
    return time.fromisoformat(text)


def a_slot(begin: str = "17:00", end: str = "17:30", weekdays: frozenset[int] = WEEKDAYS) -> Reserved:
    return Reserved(begin=at(begin), end=at(end), weekdays=weekdays)


def a_session(
    begin: str = "05:00", end: str = "07:00", code: str = "sang", weekdays: frozenset[int] = WEEKDAYS
) -> Session:
    return Session(code=code, name="Buổi sáng", begin=at(begin), end=at(end), weekdays=weekdays)


def quiet(begin: str, end: str) -> tuple[Quiet, ...]:
    return (Quiet(begin=at(begin), end=at(end)),)


def a_policy(unit: int = 1, /, **says: object) -> Policy:
    return Policy(unit_id=unit_id(unit), **says)  # type: ignore[arg-type]


def heard(*spans: tuple[str, str], day: str = "2026-09-07") -> tuple[Stretch, ...]:
    """What sounds at these local times of a day (of the day after, when the end does not lie after the beginning)."""
    instants = []
    for begin, end in spans:
        first, last = local(f"{day} {begin}"), local(f"{day} {end}")
        instants.append((first, last if first < last else last + timedelta(days=1)))
    return wall_clock.stretches(instants, ZONE)


def rules(policy: Policy | EffectivePolicy, pieces: tuple[Stretch, ...], level: Level = Level.NORMAL) -> list[str]:
    held = policy if isinstance(policy, EffectivePolicy) else effective([policy])
    found = (*permission.check(held, pieces, level=level), *permission.excesses(held, pieces, level=level))
    return [f"{breach.rule} {breach.detail}".strip() for breach in found]


# --- what stands against a broadcast ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "spans", "expected"),
    [
        pytest.param({}, [("03:15", "03:20")], [], id="nothing_said"),
        pytest.param({"sessions": (a_session(),)}, [("05:00", "07:00")], [], id="fills_the_session"),
        pytest.param({"sessions": (a_session(),)}, [("04:59", "05:10")], ["outside_session 04:59"], id="begins_before"),
        pytest.param({"sessions": (a_session(),)}, [("06:50", "07:10")], ["outside_session 07:00"], id="ends_after"),
        pytest.param({"sessions": (a_session(),)}, [("07:00", "07:10")], ["outside_session 07:00"], id="begins_at_end"),
        pytest.param(
            {"sessions": (a_session(), a_session("07:00", "08:00", "sau"))},
            [("06:50", "07:10")],
            [],
            id="over_the_seam_of_two_sessions",
        ),
        pytest.param(
            {"sessions": (a_session(), a_session("11:00", "12:00", "trua"))},
            [("05:00", "05:10"), ("10:59", "11:05")],
            ["outside_session 10:59"],
            id="one_item_of_two_outside",
        ),
        pytest.param(
            {"sessions": (a_session(weekdays=WEEKDAYS - {1}),)},
            [("05:00", "05:10")],
            ["outside_session 05:00"],
            id="session_of_other_weekdays",
        ),
        pytest.param(
            {"sessions": (a_session("22:00", "00:00", "dem"), a_session("00:00", "01:00", "khuya"))},
            [("23:50", "00:10")],
            [],
            id="over_midnight_where_both_days_allow",
        ),
        pytest.param(
            {"sessions": (a_session("22:00", "00:00"),)},
            [("23:50", "00:10")],
            ["outside_session 00:00"],
            id="over_midnight_into_a_closed_day",
        ),
        pytest.param({"quiet": quiet("21:00", "05:00")}, [("05:00", "21:00")], [], id="between_two_nights"),
        pytest.param({"quiet": quiet("21:00", "05:00")}, [("03:15", "03:20")], ["quiet_hours 03:15"], id="at_03_15"),
        pytest.param(
            {"quiet": quiet("21:00", "05:00")}, [("20:59", "21:01")], ["quiet_hours 21:00"], id="into_the_night"
        ),
        pytest.param({"quiet": quiet("12:00", "13:00")}, [("11:00", "14:00")], ["quiet_hours 12:00"], id="across_noon"),
        pytest.param({"quiet": quiet("21:00", "00:00")}, [("00:00", "01:00")], [], id="quiet_until_midnight"),
        pytest.param({"weekdays": WEEKDAYS - {1}}, [("05:00", "05:10")], ["weekday_not_allowed 1"], id="no_mondays"),
        pytest.param(
            {"weekdays": WEEKDAYS - {2}}, [("23:59", "00:01")], ["weekday_not_allowed 2"], id="reaches_into_tuesday"
        ),
        pytest.param({"max_session": 15 * MINUTE}, [("05:00", "05:15")], [], id="as_long_as_a_session_may_be"),
        pytest.param(
            {"max_session": 15 * MINUTE},
            [("05:00", "05:10"), ("05:20", "05:26")],
            ["session_too_long 15"],
            id="items_count_pauses_do_not",
        ),
        pytest.param({"max_day": 60 * MINUTE}, [("05:00", "06:01")], ["day_full 60"], id="longer_than_a_day_allows"),
        pytest.param({"max_day": 60 * MINUTE}, [("23:00", "01:00")], [], id="minutes_count_for_the_day_they_sound_on"),
        pytest.param(
            {"sessions": (a_session(),), "quiet": quiet("21:00", "05:30"), "weekdays": frozenset({7})},
            [("03:15", "03:20")],
            ["weekday_not_allowed 1", "outside_session 03:15", "quiet_hours 03:15"],
            id="every_rule_is_named",
        ),
        pytest.param({"sessions": (a_session(),)}, [], [], id="nothing_sounds"),
    ],
)
def test_check_names_the_rule_and_the_place(
    says: dict[str, object], spans: list[tuple[str, str]], expected: list[str]
) -> None:
    assert rules(a_policy(1, **says), heard(*spans)) == expected


def test_normal_and_priority_obey_and_emergency_passes() -> None:
    strict = effective([a_policy(quiet=quiet("21:00", "05:00"), max_day=MINUTE, allows_direct_relays=False)])
    night = heard(("03:00", "03:30"))

    def breaks(level: Level) -> list[Rule]:
        found = permission.check(strict, night, level=level, has_direct_relay=True)
        return [breach.rule for breach in (*found, *permission.excesses(strict, night, level=level))]

    assert breaks(Level.NORMAL) == breaks(Level.PRIORITY)
    assert breaks(Level.NORMAL) == [Rule.QUIET_HOURS, Rule.RELAY_NOT_ALLOWED, Rule.DAY_FULL]
    assert breaks(Level.EMERGENCY) == []
    assert permission.budgets(strict, night, level=Level.EMERGENCY) == ()


def test_a_breach_says_whose_limit_it_is_and_what_an_approver_allowed_is_none() -> None:
    held = effective(
        [
            a_policy(1, quiet=quiet("21:00", "05:00"), exceptions_by_approver=True),
            a_policy(11, quiet=quiet("20:00", "05:00"), sessions=(a_session(),)),
        ]
    )
    breaches = permission.check(held, heard(("04:00", "04:10")), level=Level.PRIORITY)

    assert [(breach.unit_id, breach.rule) for breach in breaches] == [
        (unit_id(1), Rule.QUIET_HOURS),
        (unit_id(11), Rule.OUTSIDE_SESSION),
        (unit_id(11), Rule.QUIET_HOURS),
    ]
    left = permission.check(
        held, heard(("04:00", "04:10")), level=Level.PRIORITY, allowed=frozenset({("quiet_hours", unit_id(1))})
    )
    # What one unit lets pass, another has not been asked about.
    assert [(breach.unit_id, breach.rule) for breach in left] == [
        (unit_id(11), Rule.OUTSIDE_SESSION),
        (unit_id(11), Rule.QUIET_HOURS),
    ]


def test_direct_relays_need_the_word_of_every_unit() -> None:
    held = effective([a_policy(1, allows_direct_relays=False), a_policy(11, allows_direct_relays=True)])
    (breach,) = permission.check(held, heard(("05:00", "05:10")), level=Level.NORMAL, has_direct_relay=True)

    assert (breach.rule, breach.unit_id) == (Rule.RELAY_NOT_ALLOWED, unit_id(1))
    assert not held.allows_direct_relays
    assert policies.NOTHING_LIMITED.allows_direct_relays


def test_approval_is_asked_for_by_every_unit_that_wants_it_but_emergencies_do_not_wait() -> None:
    held = effective(
        [
            a_policy(1, approved_levels=frozenset({Level.PRIORITY})),
            a_policy(11, approved_levels=frozenset({Level.PRIORITY, Level.NORMAL}), forbids_self_approval=True),
        ]
    )

    assert held.approvers_for(Level.PRIORITY) == (unit_id(1), unit_id(11))
    assert held.approvers_for(Level.NORMAL) == (unit_id(11),)
    assert held.approvers_for(Level.EMERGENCY) == ()
    assert held.forbids_self_approval


# --- clocks that jump ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        # Berlin, 2026-03-29: 02:00 becomes 03:00.
        pytest.param("2026-03-29T00:50", "2026-03-29T01:10", [("01:50", "02:00"), ("03:00", "03:10")], id="jumps_over"),
        # 2026-10-25: 03:00 becomes 02:00; the hour from 02:00 sounds twice by the clock on the wall.
        pytest.param("2026-10-25T00:50", "2026-10-25T01:20", [("02:50", "03:00"), ("02:00", "02:20")], id="falls_back"),
        pytest.param("2026-06-01T21:59:59.5", "2026-06-01T22:00", [("23:59:59.5", "00:00")], id="ends_with_the_day"),
        pytest.param("2026-06-01T10:00", "2026-06-01T10:00", [], id="empty"),
    ],
)
def test_pieces_show_what_the_clock_on_the_wall_shows(begin: str, end: str, expected: list[tuple[str, str]]) -> None:
    first, last = (datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (begin, end))

    pieces = wall_clock.stretches([(first, last)], ZoneInfo("Europe/Berlin"))

    assert [(piece.begin_ms, piece.end_ms) for piece in pieces] == [
        (ms_of_day(at(a)), end_ms(at(b))) for a, b in expected
    ]


# --- minutes of the day and of the session ---------------------------------------------------------------------------


def drawn_on(found: Iterable[Budget]) -> set[tuple[UnitId, date, str | None, timedelta]]:
    return {(each.unit_id, each.day, each.session, each.limit) for each in found}


def drawn(found: Iterable[Budget]) -> list[tuple[str, int, str | None, float, float]]:
    return [
        (each.rule.value, each.unit_id.int & 0xFFFF, each.session, each.limit / MINUTE, each.wanted / MINUTE)
        for each in found
    ]


def test_budgets_count_by_day_and_by_session() -> None:
    held = effective(
        [
            a_policy(1, max_day=60 * MINUTE),
            a_policy(
                11,
                sessions=(a_session(), a_session("07:00", "08:00", "sau")),
                max_session=15 * MINUTE,
                exceptions_by_approver=True,
            ),
        ]
    )

    found = permission.budgets(held, heard(("06:50", "07:10"), ("07:20", "07:25")), level=Level.NORMAL)

    assert drawn(found) == [
        ("day_full", 1, None, 60, 25),
        ("session_too_long", 11, "sang", 15, 10),
        ("session_too_long", 11, "sau", 15, 15),
    ]
    assert {each.day for each in found} == {MONDAY}
    for asked, left in (((1, 11), []), ((1,), [11]), ((11,), [1])):
        allowed = frozenset((rule, unit_id(each)) for rule in Rule for each in asked)
        found = permission.budgets(held, heard(("06:50", "07:10")), level=Level.NORMAL, allowed=allowed)
        assert {each.unit_id for each in found} == {unit_id(each) for each in left}


def test_what_sounds_over_midnight_draws_on_both_days() -> None:
    held = effective([a_policy(max_day=60 * MINUTE)])

    found = permission.budgets(held, heard(("23:50", "00:05")), level=Level.PRIORITY)

    assert [(each.day, each.wanted) for each in found] == [
        (MONDAY, 10 * MINUTE),
        (MONDAY + timedelta(days=1), 5 * MINUTE),
    ]


@pytest.mark.parametrize(
    ("province", "commune", "expected"),
    [
        pytest.param((), (a_session(),), "sang", id="the_commune_divides_what_nobody_above_did"),
        pytest.param(
            (a_session(code="tinh"),),
            (a_session("05:00", "06:00", "a"), a_session("06:00", "07:00", "b")),
            "tinh",
            id="dividing_more_finely_gains_no_minutes",
        ),
    ],
)
def test_whose_sessions_are_counted_in(
    province: tuple[Session, ...], commune: tuple[Session, ...], expected: str
) -> None:
    held = effective([a_policy(1, sessions=province, max_session=15 * MINUTE), a_policy(11, sessions=commune)])

    assert [each.session for each in permission.budgets(held, heard(("05:00", "05:10")), level=Level.NORMAL)] == [
        expected
    ]


# --- volume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([("12:00", "12:10")], None, id="no_cap_by_day"),
        pytest.param([("05:10", "05:20")], 40, id="the_quieter_of_two"),
        pytest.param([("05:50", "06:10")], 40, id="the_cap_of_any_part_of_it"),
        pytest.param([("06:00", "06:10")], 60, id="from_the_end_of_a_cap_on"),
        pytest.param([("22:59", "23:00")], 30, id="over_midnight_before"),
        pytest.param([("03:00", "03:10")], 30, id="over_midnight_after"),
        pytest.param([("12:00", "12:10"), ("05:50", "05:55")], 40, id="any_item"),
    ],
)
def test_volume_is_capped_by_time_of_day(spans: list[tuple[str, str]], expected: int | None) -> None:
    held = effective(
        [
            a_policy(
                1,
                volume_caps=(
                    VolumeCap(begin=at("05:00"), end=at("07:00"), percent=60),
                    VolumeCap(begin=at("22:00"), end=at("05:00"), percent=30),
                ),
            ),
            a_policy(11, volume_caps=(VolumeCap(begin=at("05:00"), end=at("06:00"), percent=40),)),
        ]
    )

    assert permission.volume_cap(held, heard(*spans), level=Level.NORMAL) == expected
    assert permission.volume_cap(held, heard(*spans), level=Level.EMERGENCY) is None


# --- sessions by name ------------------------------------------------------------------------------------------------

PROVINCIAL = a_policy(1, sessions=(a_session("05:00", "08:00"), a_session("16:00", "19:00", "chieu")))


@pytest.mark.parametrize(
    ("commune", "code", "day", "expected"),
    [
        pytest.param({}, "sang", MONDAY, ("05:00", "08:00", 1), id="inherited"),
        pytest.param({}, "trua", MONDAY, Rule.UNKNOWN_SESSION, id="unknown"),
        pytest.param({"sessions": (a_session("05:30", "06:30"),)}, "sang", MONDAY, ("05:30", "06:30", 11), id="own"),
        pytest.param(
            {"sessions": (a_session("04:30", "06:30"),)},
            "sang",
            MONDAY,
            ("05:00", "06:30", 11),
            id="tightened_above_later",
        ),
        pytest.param(
            {"sessions": (a_session("05:30", "06:30"),)},
            "chieu",
            MONDAY,
            Rule.OUTSIDE_SESSION,
            id="left_out_by_commune",
        ),
        pytest.param({"quiet": quiet("21:00", "05:30")}, "sang", MONDAY, ("05:30", "08:00", 1), id="after_the_night"),
        pytest.param({"quiet": quiet("06:00", "06:30")}, "sang", MONDAY, ("05:00", "06:00", 11), id="until_a_break"),
        pytest.param({"quiet": quiet("04:00", "09:00")}, "sang", MONDAY, Rule.QUIET_HOURS, id="all_quiet"),
        pytest.param({"weekdays": WORKDAYS}, "sang", SUNDAY, Rule.WEEKDAY_NOT_ALLOWED, id="not_on_sundays"),
        pytest.param(
            {"sessions": (a_session(weekdays=WORKDAYS),)},
            "sang",
            SUNDAY,
            Rule.WEEKDAY_NOT_ALLOWED,
            id="not_its_weekday",
        ),
        pytest.param(
            {"sessions": (a_session("05:00", "07:00", "sang"),), "reserved": (a_slot("05:00", "07:00"),)},
            "sang",
            MONDAY,
            ("05:00", "07:00", 11),
            id="nobody_keeps_a_slot_from_itself",
        ),
        pytest.param(
            {"sessions": (a_session("18:00", "00:00", "toi"),)},
            "toi",
            MONDAY,
            ("18:00", "19:00", 1),
            id="until_midnight",
        ),
    ],
)
def test_session_means_the_lowest_units_slot_as_far_as_everybody_allows(
    commune: dict[str, object], code: str, day: date, expected: tuple[str, str, int] | Rule
) -> None:
    held = effective([PROVINCIAL, a_policy(11, **commune)])

    found = permission.session(held, code, day, above=[unit_id(1)])

    if isinstance(expected, Rule):
        assert found == expected
    else:
        begin, end, by = expected
        assert found == Held(begin=at(begin), end=at(end), ended_by=unit_id(by))


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ("06:30", "07:00", Held(begin=at("05:00"), end=at("06:30"), ended_by=unit_id(1))),
        ("04:00", "05:10", Held(begin=at("05:10"), end=at("07:00"), ended_by=unit_id(11))),
        ("05:00", "07:00", Rule.RESERVED_SLOT),
    ],
)
def test_a_session_gives_way_to_a_slot_that_is_kept_above(begin: str, end: str, expected: Held | Rule) -> None:
    held = effective([a_policy(1, reserved=(a_slot(begin, end),)), a_policy(11, sessions=(a_session(),))])
    assert permission.session(held, "sang", MONDAY, above=[unit_id(1)]) == expected


def test_open_until_tells_where_the_session_ends() -> None:
    held = effective([PROVINCIAL, a_policy(11, sessions=(a_session("05:30", "06:30"),))])

    def until(text: str) -> tuple[int, UnitId] | None:
        return permission.open_until(held, MONDAY, ms_of_day(at(text)))

    assert until("06:00") == (ms_of_day(at("06:30")), unit_id(11))
    assert until("07:00") == (ms_of_day(at("08:00")), unit_id(1))
    assert until("12:00") is None
    assert permission.open_until(policies.NOTHING_LIMITED, MONDAY, 0) is None


# --- where ----------------------------------------------------------------------------------------------------------


def test_units_with_the_same_policies_above_them_share_what_holds() -> None:
    tree = PROVINCE.on(MONDAY)
    book = Policies({unit_id(1): a_policy(1, weekdays=WORKDAYS), unit_id(11): a_policy(11, accepts_normal=True)})

    assert book.at(unit_id(12), tree) is book.at(unit_id(21), tree)
    assert book.at(unit_id(12), tree) is book.above(unit_id(11), tree)
    assert [policy.unit_id for policy in book.at(unit_id(11), tree).policies] == [unit_id(1), unit_id(11)]
    assert book.at(unit_id(99), tree) == policies.NOTHING_LIMITED
    own = book.own(unit_id(11))
    assert own is not None
    assert own.accepts_normal
    assert book.own(unit_id(12)) is None


def test_the_lowest_fallback_counts() -> None:
    notice = Fallback(bulletin_id=bulletin_id(1), times=(at("06:00"),))
    other = Fallback(bulletin_id=bulletin_id(2), times=(at("17:00"),))

    assert effective([a_policy(1, fallback=notice), a_policy(11)]).fallback == notice
    assert effective([a_policy(1, fallback=notice), a_policy(11, fallback=other)]).fallback == other
    assert policies.NOTHING_LIMITED.fallback is None


# --- what cannot be said ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        pytest.param({"sessions": (a_session("22:00", "01:00"),)}, ("sessions", "crosses_midnight", 0, ""), id="night"),
        pytest.param({"sessions": (a_session("05:00", "05:00"),)}, ("sessions", "is_empty", 0, ""), id="zero_length"),
        pytest.param(
            {"sessions": (a_session(), a_session("11:00", "12:00"))}, ("sessions", "code_twice", 1, "sang"), id="twice"
        ),
        pytest.param(
            {"sessions": (a_session(), a_session("06:59", "08:00", "sau"))},
            ("sessions", "overlap", 1, "sang"),
            id="overlapping_sessions",
        ),
        pytest.param(
            {"sessions": (a_session(weekdays=frozenset()),)}, ("sessions", "no_weekday", 0, ""), id="never_a_session"
        ),
        pytest.param({"weekdays": frozenset()}, ("weekdays", "no_weekday", None, ""), id="never"),
        pytest.param({"reserved": (a_slot("17:00", "17:00"),)}, ("reserved", "is_empty", 0, ""), id="nothing_kept"),
        pytest.param(
            {"reserved": (a_slot("23:00", "01:00"),)}, ("reserved", "crosses_midnight", 0, ""), id="night_kept"
        ),
        pytest.param(
            {"reserved": (a_slot(), a_slot(weekdays=frozenset()))},
            ("reserved", "no_weekday", 1, ""),
            id="kept_on_no_day",
        ),
        pytest.param({"weekdays": frozenset({0, 8})}, ("weekdays", "weekday_unknown", None, "0 8"), id="eighth_day"),
        pytest.param({"quiet": quiet("05:00", "05:00")}, ("quiet", "is_empty", 0, ""), id="always_or_never_quiet"),
        pytest.param(
            {"volume_caps": (VolumeCap(begin=at("05:00"), end=at("06:00"), percent=0),)},
            ("volume_caps", "not_a_volume", 0, "0"),
            id="silence_by_volume",
        ),
        pytest.param({"max_day": timedelta(0)}, ("max_day", "not_positive", None, ""), id="no_minute_a_day"),
        pytest.param({"max_session": -MINUTE}, ("max_session", "not_positive", None, ""), id="less_than_none"),
        pytest.param(
            {"approved_levels": frozenset({Level.EMERGENCY})},
            ("approved_levels", "emergency_cannot_wait", None, ""),
            id="emergency_waits",
        ),
        pytest.param(
            {"fallback": Fallback(bulletin_id=bulletin_id(1), times=())},
            ("fallback", "no_time", None, ""),
            id="no_time",
        ),
        pytest.param(
            {
                "fallback": Fallback(bulletin_id=bulletin_id(1), times=(at("04:59"),)),
                "quiet": quiet("21:00", "05:00"),
            },
            ("fallback", "in_quiet_hours", None, "04:59"),
            id="fallback_at_night",
        ),
    ],
)
def test_faults_name_the_field(says: dict[str, object], expected: tuple[str, str, int | None, str]) -> None:
    name, code, index, detail = expected
    assert policy_faults.faults(a_policy(1, **says)) == (
        Fault(field=name, code=FaultCode(code), index=index, detail=detail),
    )


def test_sessions_of_different_weekdays_do_not_overlap_and_a_whole_day_is_a_session() -> None:
    weekend = frozenset({6, 7})
    assert (
        policy_faults.faults(
            a_policy(sessions=(a_session(weekdays=WORKDAYS), a_session("06:00", "09:00", "cuoi tuan", weekend)))
        )
        == ()
    )
    assert policy_faults.faults(a_policy(sessions=(a_session("00:00", "00:00"),))) == ()


ABOVE = effective(
    [
        a_policy(
            1,
            sessions=(a_session("05:00", "08:00"), a_session("16:00", "19:00", "chieu")),
            quiet=quiet("21:00", "05:00"),
            weekdays=WEEKDAYS - {7},
            max_session=30 * MINUTE,
            max_day=60 * MINUTE,
            volume_caps=(VolumeCap(begin=at("05:00"), end=at("06:00"), percent=50),),
            forbids_self_approval=True,
            approved_levels=frozenset({Level.PRIORITY}),
            allows_direct_relays=False,
            second_person=SecondPerson(alerts=100),
        )
    ]
)
WITHIN = WEEKDAYS - {7}


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        pytest.param({}, [], id="says_nothing"),
        pytest.param({"sessions": (a_session("05:30", "06:30", "x", WITHIN),)}, [], id="narrower_session"),
        pytest.param(
            {"sessions": (a_session("04:30", "06:30", "x", WITHIN),)},
            ["sessions[0] 05:00-08:00 16:00-19:00"],
            id="earlier_session",
        ),
        pytest.param(
            {"sessions": (a_session("07:00", "17:00", "x", WITHIN),)},
            ["sessions[0] 05:00-08:00 16:00-19:00"],
            id="session_over_a_gap",
        ),
        pytest.param({"sessions": (a_session("05:30", "06:30"),)}, ["sessions[0] 1 2 3 4 5 6"], id="session_on_sunday"),
        pytest.param({"quiet": quiet("20:00", "05:00")}, [], id="longer_night"),
        pytest.param({"quiet": quiet("12:00", "13:00")}, [], id="noon_besides"),
        pytest.param({"quiet": quiet("22:00", "05:00")}, ["quiet 21:00-05:00"], id="later_night"),
        pytest.param({"quiet": quiet("20:00", "04:00")}, ["quiet 21:00-05:00"], id="earlier_morning"),
        pytest.param({"quiet": quiet("20:00", "21:00")}, [], id="evening_before_the_night"),
        pytest.param({"quiet": quiet("21:00", "00:00") + quiet("00:00", "05:00")}, [], id="night_in_halves"),
        pytest.param({"weekdays": WORKDAYS}, [], id="fewer_weekdays"),
        pytest.param({"weekdays": WEEKDAYS}, ["weekdays 1 2 3 4 5 6"], id="sunday_too"),
        pytest.param({"max_session": 30 * MINUTE, "max_day": 10 * MINUTE}, [], id="shorter"),
        pytest.param({"max_session": 45 * MINUTE}, ["max_session 30"], id="longer_session"),
        pytest.param({"max_day": 61 * MINUTE}, ["max_day 60"], id="longer_day"),
        pytest.param({"volume_caps": (VolumeCap(begin=at("05:30"), end=at("09:00"), percent=50),)}, [], id="as_loud"),
        pytest.param(
            {"volume_caps": (VolumeCap(begin=at("06:00"), end=at("09:00"), percent=90),)}, [], id="louder_later"
        ),
        pytest.param(
            {"volume_caps": (VolumeCap(begin=at("22:00"), end=at("05:01"), percent=51),)},
            ["volume_caps[0] 50"],
            id="louder",
        ),
        pytest.param({"forbids_self_approval": False}, ["forbids_self_approval"], id="own_approval"),
        pytest.param({"approved_levels": frozenset(Level) - {Level.EMERGENCY}}, [], id="more_approval"),
        pytest.param({"approved_levels": frozenset({Level.NORMAL})}, ["approved_levels priority"], id="less_approval"),
        pytest.param({"allows_direct_relays": True}, ["allows_direct_relays"], id="direct_relays"),
        pytest.param({"second_person": SecondPerson(alerts=100, silences=1)}, [], id="as_small_and_another"),
        pytest.param({"second_person": SecondPerson(alerts=101)}, ["second_person alerts 100"], id="larger_alone"),
        pytest.param({"accepts_normal": True, "exceptions_by_approver": True}, [], id="its_own_choices"),
        pytest.param(
            {"fallback": Fallback(bulletin_id=bulletin_id(1), times=(at("05:00"), at("04:00")))},
            ["fallback 04:00"],
            id="fallback_at_night",
        ),
    ],
)
def test_loosens_names_the_field_and_the_limit(says: dict[str, object], expected: list[str]) -> None:
    found = policy_faults.loosens(a_policy(11, **says), ABOVE)

    assert {fault.unit_id for fault in found} <= {unit_id(1)}
    assert {fault.code for fault in found} <= {FaultCode.LOOSENS}
    assert [
        f"{fault.field}{'' if fault.index is None else f'[{fault.index}]'} {fault.detail}".strip() for fault in found
    ] == expected


def test_loosens_names_every_unit_above_whose_limit_it_is() -> None:
    above = effective([a_policy(1, max_day=60 * MINUTE), a_policy(10, max_day=30 * MINUTE)])

    found = policy_faults.loosens(a_policy(11, max_day=90 * MINUTE), above)

    assert [(fault.unit_id, fault.detail) for fault in found] == [(unit_id(1), "60"), (unit_id(10), "30")]


# --- laws ------------------------------------------------------------------------------------------------------------

some_times = st.integers(0, 47).map(lambda half: time(half // 2, 30 * (half % 2)))
some_weekdays = st.frozensets(st.integers(1, 7), min_size=1)
some_lengths = st.integers(5, 240).map(lambda minutes: timedelta(minutes=minutes))
some_sessions = st.lists(
    st.builds(
        lambda code, begin, end, weekdays: Session(
            code=code, name=code, begin=min(begin, end), end=max(begin, end), weekdays=weekdays
        ),
        code=st.sampled_from("abc"),
        begin=some_times,
        end=some_times,
        weekdays=some_weekdays,
    ),
    max_size=3,
).map(tuple)


def some_policy(unit: int) -> st.SearchStrategy[Policy]:
    return st.builds(
        Policy,
        unit_id=st.just(unit_id(unit)),
        sessions=some_sessions,
        quiet=st.lists(st.builds(Quiet, begin=some_times, end=some_times), max_size=2).map(tuple),
        reserved=some_sessions.map(
            lambda slots: tuple(Reserved(begin=each.begin, end=each.end, weekdays=each.weekdays) for each in slots)
        ),
        weekdays=st.none() | some_weekdays,
        max_session=st.none() | some_lengths,
        max_day=st.none() | some_lengths,
        volume_caps=st.lists(
            st.builds(VolumeCap, begin=some_times, end=some_times, percent=st.integers(1, 100)), max_size=2
        ).map(tuple),
        forbids_self_approval=st.none() | st.booleans(),
        approved_levels=st.none() | st.frozensets(st.sampled_from([Level.NORMAL, Level.PRIORITY])),
        allows_direct_relays=st.none() | st.booleans(),
        exceptions_by_approver=st.booleans(),
        second_person=st.none()
        | st.builds(SecondPerson, alerts=st.none() | st.integers(1, 9), silences=st.none() | st.integers(1, 9)),
    )


some_paths = st.tuples(some_policy(1), some_policy(10), some_policy(11))
some_spans = st.lists(
    st.tuples(st.integers(0, 3 * 24 * 4), st.integers(1, 20)).map(
        lambda quarter: (
            local("2026-09-07 00:00") + timedelta(minutes=15 * quarter[0]),
            local("2026-09-07 00:00") + timedelta(minutes=15 * (quarter[0] + quarter[1])),
        )
    ),
    min_size=1,
    max_size=2,
)


# As of a commune that the others stand above.
THOSE_ABOVE = frozenset({unit_id(1), unit_id(10)})


def refused(held: EffectivePolicy, pieces: tuple[Stretch, ...], *, relay: bool = False) -> frozenset[permission.Breach]:
    return frozenset(
        (
            *permission.check(held, pieces, level=Level.PRIORITY, above=THOSE_ABOVE, has_direct_relay=relay),
            *permission.excesses(held, pieces, level=Level.PRIORITY),
        )
    )


@given(path=some_paths, spans=some_spans, relay=st.booleans())
def test_who_comes_below_never_allows_what_is_forbidden_above(
    path: tuple[Policy, ...], spans: list[tuple[datetime, datetime]], relay: bool
) -> None:
    pieces = wall_clock.stretches(spans, ZONE)
    for depth in range(len(path)):
        above, below = effective(path[:depth]), effective(path[: depth + 1])

        assert refused(above, pieces, relay=relay) <= refused(below, pieces, relay=relay)
        loud, quieter = (permission.volume_cap(each, pieces, level=Level.NORMAL) for each in (above, below))
        assert loud is None or (quieter is not None and quieter <= loud)
        granted, left = (permission.budgets(each, pieces, level=Level.NORMAL) for each in (above, below))
        # Every grant from above stands, for the same minutes or, once somebody divides the day, for more of them.
        assert drawn_on(granted) <= drawn_on(left)
        assert set(above.approvers_for(Level.NORMAL)) <= set(below.approvers_for(Level.NORMAL))
        assert below.forbids_self_approval or not above.forbids_self_approval
        assert above.allows_direct_relays or not below.allows_direct_relays
        for danger in Danger:
            wider, narrower = above.second_person_from(danger), below.second_person_from(danger)
            assert wider is None or (narrower is not None and narrower[0] <= wider[0])


@given(path=some_paths, spans=some_spans, data=st.data())
def test_the_order_of_units_does_not_matter_and_saying_it_twice_changes_nothing(
    path: tuple[Policy, ...], spans: list[tuple[datetime, datetime]], data: st.DataObject
) -> None:
    pieces = wall_clock.stretches(spans, ZONE)
    held = effective(path)

    shuffled = effective(data.draw(st.permutations(path)))
    assert refused(shuffled, pieces) == refused(held, pieces)
    assert permission.volume_cap(shuffled, pieces, level=Level.NORMAL) == permission.volume_cap(
        held, pieces, level=Level.NORMAL
    )
    assert shuffled.allows_direct_relays == held.allows_direct_relays
    assert effective([*path, *path]) == held
    # Tightening in two steps is tightening in one.
    assert effective([*effective(path[:2]).policies, path[2]]) == effective([path[0], *effective(path[1:]).policies])


@given(path=some_paths, spans=some_spans)
def test_check_is_what_looking_at_every_minute_finds(
    path: tuple[Policy, ...], spans: list[tuple[datetime, datetime]]
) -> None:
    """The windows against brute force: a minute is allowed when every unit allows it, by its words alone."""
    found = {breach.rule for breach in refused(effective(path), wall_clock.stretches(spans, ZONE))}

    minutes = {
        (begin + step * MINUTE).astimezone(ZONE) for begin, end in spans for step in range((end - begin) // MINUTE)
    }
    assert (Rule.WEEKDAY_NOT_ALLOWED in found) == any(
        own.weekdays is not None and minute.isoweekday() not in own.weekdays for own in path for minute in minutes
    )
    assert (Rule.QUIET_HOURS in found) == any(
        is_within(minute.time(), each.begin, each.end) for own in path for each in own.quiet for minute in minutes
    )
    assert (Rule.RESERVED_SLOT in found) == any(
        minute.isoweekday() in each.weekdays
        and each.begin <= minute.time()
        and (minute.time() < each.end or each.end == time(0))
        for own in path
        if own.unit_id in THOSE_ABOVE
        for each in own.reserved
        for minute in minutes
    )
    assert (Rule.OUTSIDE_SESSION in found) == any(
        own.sessions
        and not any(
            minute.isoweekday() in each.weekdays
            and each.begin <= minute.time()
            and (minute.time() < each.end or each.end == time(0))
            for each in own.sessions
        )
        for own in path
        for minute in minutes
    )


def is_within(minute: time, begin: time, end: time) -> bool:
    return begin <= minute < end if begin < end else minute >= begin or minute < end


@given(above=some_policy(1), own=some_policy(11), spans=some_spans)
def test_what_loosens_nothing_is_at_least_as_strict_by_itself(
    above: Policy, own: Policy, spans: list[tuple[datetime, datetime]]
) -> None:
    """Where a policy says something and loosens nothing, its own word refuses whatever the word above refuses."""
    faulty = {fault.field for fault in policy_faults.loosens(own, effective([above]))}
    pieces = wall_clock.stretches(spans, ZONE)
    above_rules = {breach.rule for breach in refused(effective([above]), pieces, relay=True)}
    own_rules = {breach.rule for breach in refused(effective([own]), pieces, relay=True)}

    for rule, name in (
        (Rule.OUTSIDE_SESSION, "sessions"),
        (Rule.WEEKDAY_NOT_ALLOWED, "weekdays"),
        (Rule.SESSION_TOO_LONG, "max_session"),
        (Rule.DAY_FULL, "max_day"),
        (Rule.RELAY_NOT_ALLOWED, "allows_direct_relays"),
    ):
        says_something = getattr(own, name) not in (None, ())
        if says_something and name not in faulty and rule in above_rules:
            assert rule in own_rules


@given(own=some_policy(11))
def test_nobody_loosens_what_they_repeat(own: Policy) -> None:
    valid = replace(
        own, sessions=own.sessions if policy_faults.faults(replace(own, quiet=(), volume_caps=())) == () else ()
    )
    assert [
        fault
        for fault in policy_faults.loosens(valid, effective([replace(valid, unit_id=unit_id(1))]))
        # A session on a weekday that its own unit does not have is loose by its own measure.
        if fault.field not in {"sessions", "volume_caps"}
    ] == []
