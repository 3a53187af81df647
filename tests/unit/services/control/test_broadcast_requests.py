from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.fields import DeviceKind
from schemas.identifiers import BulletinId, DeviceId, UnitId
from services.control.broadcast_requests import (
    BulletinWish,
    DeviceWish,
    Facts,
    GroupWish,
    KindWish,
    PauseWish,
    RelayWish,
    Source,
    UnitWish,
    Verdict,
    Wish,
    active_until,
    judge,
)
from services.control.bulletin_store import Bulletin
from services.control.device_store import Device
from services.control.group_store import Group
from services.control.planning.model import DeviceNo, DeviceRef
from services.control.planning.policies import Policies, Policy, Session
from services.control.units import UnitHistory, UnitVersion

NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)  # 09:00 on the tenth in Việt Nam
ROOT, NORTH, SOUTH, VILLAGE, ELSEWHERE = (UnitId(uuid.UUID(int=number)) for number in range(1, 6))
NEWS, TEXT, DRAFT, LONG, FOREIGN, UNKNOWN = (uuid.UUID(int=number) for number in range(101, 107))
CLOSING = UnitId(uuid.UUID(int=7))  # a unit of NORTH until the fifteenth
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
HISTORY = UnitHistory(
    UnitVersion(
        unit_id=unit,
        valid_from=date(2020, 1, 1),
        valid_until=until,
        parent_id=parent,
        code="x",
        level="x",
        name=name,
    )
    for unit, parent, name, until in (
        (ROOT, None, "Tỉnh", None),
        (NORTH, ROOT, "Bắc", None),
        (SOUTH, ROOT, "Nam", None),
        (VILLAGE, NORTH, "Xã", None),
        (CLOSING, NORTH, "Xã sắp giải thể", date(2026, 3, 15)),
    )
)
TREE = HISTORY.on(date(2026, 3, 10))
MARKET, CLOSED_GROUP, SOUTHERN, VOV, OLD_SOURCE, JINGLE, STALE, PICTURE = (
    uuid.UUID(int=number) for number in range(201, 209)
)
FOLLOWING = (
    Session(code="dau", name="Đầu giờ", begin=time(6), end=time(6, 5)),
    Session(code="tiep", name="Tiếp theo", begin=time(6, 5), end=time(7)),
)
MORNING = Session(code="sang", name="Buổi sáng", begin=time(5), end=time(5, 45), weekdays=frozenset(range(1, 7)))
POLICIES = Policies({ROOT: Policy(unit_id=ROOT, sessions=(MORNING, *FOLLOWING))})


def a_device(number: int, kind: str, unit: UnitId, **changes: Any) -> Device:
    return replace(
        Device(
            device_no=DeviceNo(number),
            device_id=DeviceId(f"{kind}-{number}"),
            kind=kind,
            unit_id=unit,
            name="x",
            technology="ip",
            ownership="public",
            latitude=None,
            longitude=None,
            volume_percent=30,
            volume_cap_percent=80,
            heartbeat_interval=timedelta(seconds=60),
            registered_at=NOW - timedelta(days=9),
            retired_at=None,
            gateway_id=None,
        ),
        **changes,
    )


DEVICES = (
    a_device(1, "cluster", NORTH),
    a_device(2, "cluster", VILLAGE),
    a_device(3, "board", VILLAGE),
    a_device(4, "sensor", NORTH),
    a_device(5, "cluster", SOUTH),
    a_device(6, "cluster", NORTH, retired_at=NOW),
    a_device(7, "cluster", CLOSING),
)


def a_group(group_id: uuid.UUID, *members: str, **changes: Any) -> Group:
    return replace(
        Group(
            group_id=group_id,
            unit_id=NORTH,
            name="Nhóm chợ",
            members=tuple(map(DeviceId, members)),
            version=1,
            created_at=NOW,
            created_by=uuid.UUID(int=0),
        ),
        **changes,
    )


GROUPS = {
    MARKET: a_group(MARKET, "cluster-2", "board-3"),
    CLOSED_GROUP: a_group(CLOSED_GROUP, "cluster-2", closed_at=NOW),
    SOUTHERN: a_group(SOUTHERN, "cluster-5", unit_id=SOUTH),
}
SOURCES = {
    VOV: Source(source_id=VOV, unit_id=ROOT, name="VOV1"),
    OLD_SOURCE: Source(source_id=OLD_SOURCE, unit_id=NORTH, name="Đài cũ", retired_at=NOW),
}


def a_bulletin(bulletin_id: uuid.UUID, **changes: Any) -> Bulletin:
    return replace(
        Bulletin(
            bulletin_id=BulletinId(bulletin_id),
            unit_id=NORTH,
            title="Bản tin",
            subject_field="general",
            language="vi",
            author=None,
            media_sha256=bytes(32),
            board_text=None,
            content_hash=bytes(32),
            content_form=2,
            state="approved",
            created_at=NOW,
            created_by=uuid.UUID(int=0),
            edited_by=frozenset(),
            duration_ms=600_000,
        ),
        **changes,
    )


BULLETINS: dict[uuid.UUID, Bulletin] = {
    each.bulletin_id: each
    for each in (
        a_bulletin(NEWS),
        a_bulletin(TEXT, media_sha256=None, duration_ms=None, board_text="Chữ"),
        a_bulletin(DRAFT, state="submitted"),
        a_bulletin(LONG, duration_ms=3_600_000),
        a_bulletin(FOREIGN, unit_id=SOUTH),
        a_bulletin(JINGLE, kind="jingle", duration_ms=5_000),
        a_bulletin(STALE, expires_at=datetime(2026, 3, 10, 22, 30, tzinfo=UTC)),
        a_bulletin(PICTURE, media_sha256=None, duration_ms=None, board_media_sha256=bytes(32), board_length_ms=8_000),
    )
}
FACTS = Facts(
    history=HISTORY,
    zone=ZONE,
    tree=TREE,
    reach=frozenset({NORTH, VILLAGE, CLOSING}),
    readable=frozenset({NORTH, VILLAGE, CLOSING}),
    groups=GROUPS,
    sources=SOURCES,
    policies=POLICIES,
    devices={device.device_id: device for device in DEVICES},
    fleet=tuple(
        DeviceRef(
            device_no=device.device_no,
            device_id=device.device_id,
            kind=DeviceKind[device.kind.upper()],
            unit_id=device.unit_id,
            registered_at=device.registered_at,
        )
        for device in DEVICES
        if device.retired_at is None and device.kind in ("cluster", "board")
    ),
    bulletins=BULLETINS,
)
WISH = Wish(
    unit_id=NORTH,
    title="Bản tin sáng",
    level="normal",
    recurrence="once",
    time_zone="Asia/Ho_Chi_Minh",
    starts_on=date(2026, 3, 11),
    ends_on=None,
    local_times=(time(5, 30),),
    items=(BulletinWish(bulletin_id=NEWS),),
    targets=(UnitWish(unit_id=NORTH),),
    volume_percent=None,
    resume="resume",
)


def verdict(**changes: Any) -> Verdict:
    return judge(replace(WISH, **changes), FACTS, now=NOW)


def news(count: int) -> tuple[BulletinWish, ...]:
    return (BulletinWish(bulletin_id=NEWS),) * count


def test_a_sound_wish_reaches_the_devices_that_can_play_it() -> None:
    found = verdict()
    assert (found.faults, found.outside) == ((), ())
    assert found.device_nos == (1, 2, 7)
    assert found.length == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("items", "targets", "expected"),
    [
        ((NEWS,), (UnitWish(unit_id=VILLAGE),), (2,)),
        ((TEXT,), (UnitWish(unit_id=NORTH),), (3,)),
        ((NEWS, TEXT), (UnitWish(unit_id=NORTH),), (1, 2, 3, 7)),
        ((PICTURE,), (UnitWish(unit_id=NORTH),), (3,)),
        ((NEWS, TEXT), (GroupWish(group_id=MARKET),), (2, 3)),
        ((NEWS, TEXT), (UnitWish(unit_id=NORTH), GroupWish(group_id=MARKET, is_excluded=True)), (1, 7)),
        ((NEWS, TEXT), (KindWish(kind="board"),), (3,)),
        ((NEWS, TEXT), (UnitWish(unit_id=NORTH), KindWish(kind="cluster", is_excluded=True)), (3,)),
        ((NEWS,), (DeviceWish(device_id="cluster-2"),), (2,)),
        ((NEWS,), (UnitWish(unit_id=NORTH), DeviceWish(device_id="cluster-1", is_excluded=True)), (2, 7)),
        ((NEWS,), (UnitWish(unit_id=NORTH), UnitWish(unit_id=VILLAGE, is_excluded=True)), (1, 7)),
    ],
)
def test_targets_mean_what_can_play_in_them(items: Any, targets: Any, expected: tuple[int, ...]) -> None:
    found = verdict(items=tuple(BulletinWish(bulletin_id=item) for item in items), targets=targets)
    assert (found.faults, found.device_nos) == ((), expected)


def rule(text: str) -> dict[str, Any]:
    return {"recurrence": "rule", "rrule": text}


def a_relay(source_id: uuid.UUID, *, hours: float = 0.5, starts_after: timedelta | None = None) -> RelayWish:
    return RelayWish(source_id=source_id, length=timedelta(hours=hours), starts_after=starts_after)


FAULTY: dict[str, tuple[dict[str, Any], str, str]] = {
    "emergency": ({"level": "emergency"}, "level", "emergency_needs_alert"),
    "no_such_zone": ({"time_zone": "Asia/Bac_Giang"}, "time_zone", "unknown_time_zone"),
    "zone_is_a_path": ({"time_zone": "../../etc/passwd"}, "time_zone", "unknown_time_zone"),
    "zone_is_absolute": ({"time_zone": "/etc/passwd"}, "time_zone", "unknown_time_zone"),
    "zone_is_empty": ({"time_zone": ""}, "time_zone", "unknown_time_zone"),
    "zone_with_zero_byte": ({"time_zone": "Asia\x00"}, "time_zone", "unknown_time_zone"),
    "end_before_start": (
        {"recurrence": "daily", "ends_on": date(2026, 3, 1)},
        "ends_on",
        "end_before_start",
    ),
    "end_on_the_start": ({"recurrence": "daily", "ends_on": date(2026, 3, 11)}, "ends_on", "end_before_start"),
    "once_with_another_end": ({"ends_on": date(2026, 3, 20)}, "ends_on", "end_of_once"),
    "yesterday": ({"starts_on": date(2026, 3, 9)}, "local_times[0]", "time_in_the_past"),
    "earlier_today": ({"starts_on": date(2026, 3, 10)}, "local_times[0]", "time_in_the_past"),
    "this_very_minute": (
        {"starts_on": date(2026, 3, 10), "local_times": (time(9, 0),)},
        "local_times[0]",
        "time_in_the_past",
    ),
    "second_time_past": (
        {"starts_on": date(2026, 3, 10), "local_times": (time(17), time(8))},
        "local_times[1]",
        "time_in_the_past",
    ),
    "daily_but_over": (
        {"recurrence": "daily", "starts_on": date(2026, 3, 1), "ends_on": date(2026, 3, 10)},
        "ends_on",
        "all_in_the_past",
    ),
    "daily_and_over_since_this_morning": (
        {"recurrence": "daily", "starts_on": date(2026, 3, 1), "ends_on": date(2026, 3, 11)},
        "ends_on",
        "all_in_the_past",
    ),
    "in_a_hundred_years": ({"starts_on": date(2126, 1, 1)}, "starts_on", "starts_too_late"),
    "clock_jumps_over_it": (
        {"time_zone": "Europe/Berlin", "starts_on": date(2026, 3, 29), "local_times": (time(2, 30),)},
        "local_times[0]",
        "time_does_not_exist",
    ),
    "a_time_twice": ({"local_times": (time(5), time(5))}, "local_times", "time_repeated"),
    "times_overlap": ({"local_times": (time(5), time(5, 9))}, "local_times", "times_overlap"),
    "daily_over_midnight": (
        {
            "recurrence": "daily",
            "local_times": (time(23, 55), time(0, 1)),
        },
        "local_times",
        "times_overlap",
    ),
    "too_long": (
        {"items": (BulletinWish(bulletin_id=LONG),) * 23 + (PauseWish(length=timedelta(seconds=1)),)},
        "items",
        "broadcast_too_long",
    ),
    "unknown_bulletin": ({"items": (BulletinWish(bulletin_id=UNKNOWN),)}, "items[0].bulletin_id", "unknown_bulletin"),
    "bulletin_of_others": (
        {"items": (*news(1), BulletinWish(bulletin_id=FOREIGN))},
        "items[1].bulletin_id",
        "unknown_bulletin",
    ),
    "not_approved": ({"items": (BulletinWish(bulletin_id=DRAFT),)}, "items[0].bulletin_id", "bulletin_not_approved"),
    "pauses_only": ({"items": (PauseWish(length=timedelta(seconds=5)),)}, "items", "items_without_bulletin"),
    "unknown_unit": ({"targets": (UnitWish(unit_id=ELSEWHERE),)}, "targets[0].unit_id", "unknown_unit"),
    "unknown_device": ({"targets": (DeviceWish(device_id="nobody"),)}, "targets[0].device_id", "unknown_device"),
    "retired_device": ({"targets": (DeviceWish(device_id="cluster-6"),)}, "targets[0].device_id", "device_retired"),
    "sensor": ({"targets": (DeviceWish(device_id="sensor-4"),)}, "targets[0].device_id", "device_cannot_play"),
    "only_exclusions": ({"targets": (UnitWish(unit_id=NORTH, is_excluded=True),)}, "targets", "targets_only_exclude"),
    "everything_excluded": (
        {"targets": (UnitWish(unit_id=NORTH), UnitWish(unit_id=NORTH, is_excluded=True))},
        "targets",
        "targets_empty",
    ),
    "no_time_at_all": ({"local_times": ()}, "local_times", "too_few"),
    "rule_without_rrule": ({"recurrence": "rule"}, "rrule", "field_missing"),
    "rrule_without_rule": ({"rrule": "FREQ=DAILY"}, "rrule", "rrule_without_rule"),
    "nonsense": (rule("every day please"), "rrule", "rrule_not_readable"),
    "no_frequency": (rule("BYDAY=MO"), "rrule", "rrule_without_freq"),
    "every_second": (rule("FREQ=SECONDLY"), "rrule", "rrule_freq_too_fine"),
    "count_and_until": (rule("FREQ=DAILY;COUNT=3;UNTIL=20260401"), "rrule", "rrule_count_and_until"),
    "thirtieth_of_february": (rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "rrule", "rrule_never_occurs"),
    "until_before_start": (rule("FREQ=DAILY;UNTIL=20260101"), "rrule", "rrule_never_occurs"),
    "over_since_last_year": (
        rule("FREQ=DAILY;COUNT=10") | {"starts_on": date(2025, 1, 1)},
        "rrule",
        "all_in_the_past",
    ),
    "too_dense": (rule("FREQ=HOURLY") | {"local_times": (time(0), time(0, 30))}, "rrule", "rrule_too_many_a_day"),
    "runs_into_itself": (
        rule("FREQ=HOURLY") | {"items": (BulletinWish(bulletin_id=LONG), PauseWish(length=timedelta(seconds=1)))},
        "rrule",
        "times_overlap",
    ),
    "everything_taken_out": (
        {"exdates": (date(2026, 3, 11),), "rdates": (date(2026, 3, 11),)},
        "exdates",
        "exdates_leave_nothing",
    ),
    "added_before_the_start": ({"rdates": (date(2026, 3, 1),)}, "rdates[0]", "rdate_outside"),
    "unknown_session": ({"local_times": (), "sessions": ("toi",)}, "sessions[0]", "unknown_session"),
    "session_on_sunday": (
        {"local_times": (), "sessions": ("sang",), "starts_on": date(2026, 3, 15)},
        "sessions[0]",
        "session_not_held",
    ),
    "session_of_this_morning": (
        {"local_times": (), "sessions": ("sang",), "starts_on": date(2026, 3, 10)},
        "sessions[0]",
        "time_in_the_past",
    ),
    "unit_closed_on_the_day": (
        {"starts_on": date(2026, 3, 15), "targets": (UnitWish(unit_id=NORTH), UnitWish(unit_id=CLOSING))},
        "targets[1].unit_id",
        "unit_closed_that_day",
    ),
    "issuer_closed_on_the_day": (
        {"unit_id": CLOSING, "starts_on": date(2026, 3, 16), "targets": (KindWish(kind="cluster"),)},
        "unit_id",
        "unit_closed_that_day",
    ),
    "unknown_group": ({"targets": (GroupWish(group_id=UNKNOWN),)}, "targets[0].group_id", "unknown_group"),
    "group_of_others": ({"targets": (GroupWish(group_id=SOUTHERN),)}, "targets[0].group_id", "unknown_group"),
    "closed_group": ({"targets": (GroupWish(group_id=CLOSED_GROUP),)}, "targets[0].group_id", "target_group_closed"),
    "unknown_source": ({"items": (a_relay(UNKNOWN),)}, "items[0].relay_source_id", "unknown_relay_source"),
    "retired_source": ({"items": (a_relay(OLD_SOURCE),)}, "items[0].relay_source_id", "relay_source_retired"),
    "relay_on_boards_only": (
        {"items": (a_relay(VOV),), "targets": (KindWish(kind="board"),)},
        "targets",
        "targets_empty",
    ),
    "relay_of_thirty_hours": ({"items": (a_relay(VOV, hours=30),)}, "items", "broadcast_too_long"),
    "pinned_after_the_end": (
        {"items": (*news(1), a_relay(VOV, starts_after=timedelta(hours=1))), "length": timedelta(hours=1)},
        "items[1].starts_after_s",
        "pinned_after_the_end",
    ),
    "jingles_only": ({"items": (BulletinWish(bulletin_id=JINGLE),)}, "items", "items_without_bulletin"),
    "stale_before_it_is_heard": (
        {"items": (BulletinWish(bulletin_id=STALE),)},
        "items[0].bulletin_id",
        "bulletin_expired",
    ),
    "filled_up_without_end": ({"fill": "repeat"}, "fill", "fill_needs_length"),
    "cut_nowhere": ({"fit": "trim"}, "fit", "fit_needs_length"),
    "nothing_fits": ({"length": timedelta(minutes=5), "fit": "drop"}, "length_s", "nothing_fits"),
    "added_times_overlap_next_year": (
        rule("FREQ=YEARLY")
        | {"rdates": tuple(map(datetime.fromisoformat, ("2028-05-01T05:00", "2028-05-01T05:09", "2028-06-01T05:00")))},
        "rrule",
        "times_overlap",
    ),
    "an_added_time_runs_into_the_midnight_after_it": (
        {
            "recurrence": "daily",
            "local_times": (time(0, 0),),
            "rdates": (datetime.fromisoformat("2028-05-01T23:55"),),
        },
        "local_times",
        "times_overlap",
    ),
    "the_last_of_a_month_overlaps_the_first_of_the_next": (
        rule("FREQ=MONTHLY;BYMONTHDAY=1,31") | {"local_times": (time(0, 0), time(23, 55))},
        "local_times",
        "times_overlap",
    ),
    "weeks_apart_and_then_over_midnight": (
        rule("FREQ=WEEKLY;INTERVAL=10;BYDAY=SA,SU")
        | {"starts_on": date(2026, 3, 15), "local_times": (time(0, 0), time(23, 55))},
        "local_times",
        "times_overlap",
    ),
    "a_session_that_nothing_ends_runs_into_the_next": (
        {"local_times": (), "sessions": ("dau", "tiep")},
        "sessions",
        "times_overlap",
    ),
    "a_session_that_nothing_ends_runs_into_a_time": (
        {"local_times": (time(6, 5),), "sessions": ("dau",)},
        "local_times",
        "times_overlap",
    ),
    "a_session_that_ends_it_only_later_runs_into_a_time_in_it": (
        {"local_times": (time(5, 5),), "sessions": ("sang",), "fit": "trim"},
        "local_times",
        "times_overlap",
    ),
    "what_is_repeated_until_its_session_ends_runs_into_a_time_in_it": (
        {"local_times": (time(5, 30),), "sessions": ("sang",), "fill": "repeat"},
        "local_times",
        "times_overlap",
    ),
    "what_is_repeated_from_a_time_on_runs_into_another": (
        {"local_times": (time(5, 10), time(5, 30)), "sessions": ("dau",), "fill": "repeat"},
        "local_times",
        "times_overlap",
    ),
    "sound_for_boards": ({"targets": (DeviceWish(device_id="board-3"),)}, "targets", "targets_empty"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_each_fault_is_named(name: str) -> None:
    changes, field, code = FAULTY[name]
    assert [(fault.field, fault.code) for fault in verdict(**changes).faults] == [(field, code)]


def test_all_faults_are_named_at_once() -> None:
    found = verdict(level="emergency", time_zone="Mars/Base", targets=(DeviceWish(device_id="nobody"),))
    assert {fault.field for fault in found.faults} == {"level", "time_zone", "targets[0].device_id"}


@pytest.mark.parametrize(
    ("targets", "fields"),
    [
        ((UnitWish(unit_id=SOUTH),), ["targets[0].unit_id"]),
        ((UnitWish(unit_id=NORTH), DeviceWish(device_id="cluster-5")), ["targets[1].device_id"]),
        ((UnitWish(unit_id=ROOT),), ["targets[0].unit_id"]),
        ((UnitWish(unit_id=NORTH), UnitWish(unit_id=SOUTH, is_excluded=True)), ["targets[1].unit_id"]),
    ],
)
def test_targets_beyond_own_rights_are_named_apart(targets: Any, fields: list[str]) -> None:
    found = verdict(targets=targets)
    assert [fault.field for fault in found.outside] == fields
    assert found.device_nos == ()


def test_targets_lie_below_the_issuing_unit_even_where_one_may_speak() -> None:
    found = verdict(unit_id=VILLAGE, targets=(UnitWish(unit_id=NORTH),))
    assert [fault.code for fault in found.outside] == ["target_outside_own_subtree"]


@pytest.mark.parametrize(
    "changes",
    [
        {"local_times": (time(5), time(5, 10))},  # one ends as the other begins
        {"recurrence": "daily", "ends_on": date(2026, 3, 12)},
        {"recurrence": "daily", "starts_on": date(2020, 1, 1)},
        {
            "recurrence": "daily",
            "starts_on": date(2026, 3, 10),
            "ends_on": date(2026, 3, 11),
            "local_times": (time(17),),
        },
        {"ends_on": date(2026, 3, 12)},
        {"starts_on": date(2026, 3, 10), "local_times": (time(9, 0, 1),)},
        {"time_zone": "Europe/Berlin", "starts_on": date(2026, 10, 25), "local_times": (time(2, 30),)},  # shown twice
        {"time_zone": "UTC", "starts_on": date(2026, 3, 10), "local_times": (time(2, 1),)},
        {"items": (BulletinWish(bulletin_id=LONG),) * 23},
        {"level": "priority"},
        rule("FREQ=WEEKLY;BYDAY=MO,WE"),
        rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"),  # next in 2028
        rule("FREQ=DAILY") | {"starts_on": date(2006, 3, 10)},
        rule("FREQ=MONTHLY;BYDAY=-1SU;UNTIL=20260501T000000Z"),
        {"local_times": (), "sessions": ("sang",)},
        {"local_times": (time(17),), "sessions": ("sang",), "recurrence": "daily"},
        {"local_times": (), "sessions": ("sang",), "fill": "repeat", "fit": "trim"},
        {"local_times": (), "sessions": ("dau", "tiep"), "fit": "trim"},
        {"local_times": (), "sessions": ("dau", "tiep"), "fit": "drop"},
        {"local_times": (time(5, 10),), "sessions": ("sang",), "fit": "trim"},  # it is over by then
        {"local_times": (time(5, 40), time(5, 46)), "sessions": ("tiep",), "fit": "trim"},  # cut at a quarter to six
        {"rdates": (date(2026, 3, 20), datetime.fromisoformat("2026-03-21T17:00")), "exdates": (date(2026, 3, 11),)},
        {"recurrence": "daily", "exdates": tuple(date(2026, 3, 11) + timedelta(days=2 * n) for n in range(10_000))},
        {"items": (a_relay(VOV), *news(1))},
        {"items": (*news(1), a_relay(VOV, starts_after=timedelta(minutes=30)))},
        {"items": (BulletinWish(bulletin_id=JINGLE), *news(1), BulletinWish(bulletin_id=JINGLE))},
        {"length": timedelta(hours=1), "fill": "repeat", "fit": "drop"},
        {"starts_on": date(2026, 3, 14), "targets": (UnitWish(unit_id=CLOSING),)},  # its last day
        {"patience": timedelta(0)},
        {"rdates": (datetime.fromisoformat("2028-05-01T05:00"), datetime.fromisoformat("2028-05-01T05:10"))},
        {
            "recurrence": "daily",
            "local_times": (time(0, 0),),
            "rdates": (datetime.fromisoformat("2028-05-01T23:55"),),
            "exdates": (date(2028, 5, 2),),
        },
    ],
)
def test_what_is_unusual_but_sound_is_taken(changes: dict[str, Any]) -> None:
    assert verdict(**changes).faults == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "2026-03-11 05:30"),
        ({"recurrence": "daily", "starts_on": date(2020, 1, 1)}, "2026-03-11 05:30"),
        (
            {"recurrence": "daily", "starts_on": date(2020, 1, 1), "local_times": (time(5), time(17))},
            "2026-03-10 17:00",
        ),
        (rule("FREQ=WEEKLY;BYDAY=MO") | {"starts_on": date(2026, 1, 1)}, "2026-03-16 05:30"),
        (rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"), "2028-02-29 05:30"),
        ({"local_times": (), "sessions": ("sang",)}, "2026-03-11 05:00"),
        (
            {"exdates": (date(2026, 3, 11),), "rdates": (datetime.fromisoformat("2026-04-01T17:00"),)},
            "2026-04-01 17:00",
        ),
    ],
)
def test_the_first_occurrence_is_found_however_far_it_is(changes: dict[str, Any], expected: str) -> None:
    found = verdict(**changes)
    assert found.faults == ()
    assert found.first is not None
    assert found.first.at == datetime.fromisoformat(expected + "+07:00")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, date(2026, 3, 12)),
        ({"rdates": (date(2026, 5, 1),)}, date(2026, 5, 2)),
        ({"recurrence": "daily"}, None),
        ({"recurrence": "daily", "ends_on": date(2026, 4, 1)}, date(2026, 4, 1)),
        (rule("FREQ=WEEKLY"), None),
        (rule("FREQ=WEEKLY;COUNT=3"), None),  # counted where it is expanded
        (rule("FREQ=WEEKLY;UNTIL=20260401"), date(2026, 4, 3)),  # a day more than said: UTC may be another day
        (rule("FREQ=WEEKLY;UNTIL=20260401") | {"rdates": (date(2026, 6, 1),)}, date(2026, 6, 2)),
        (rule("FREQ=WEEKLY;UNTIL=20260401") | {"ends_on": date(2026, 3, 20)}, date(2026, 3, 20)),
    ],
)
def test_nothing_of_it_begins_from_the_day_on_which_it_is_over(changes: dict[str, Any], expected: date | None) -> None:
    assert active_until(replace(WISH, **changes), ZONE) == expected


@pytest.mark.parametrize(
    ("changes", "minutes"),
    [
        ({"items": (BulletinWish(bulletin_id=LONG),)}, 60),
        ({"items": (*news(1), a_relay(VOV))}, 40),
        ({"items": (*news(1), a_relay(VOV, starts_after=timedelta(minutes=30)))}, 60),
        ({"items": (BulletinWish(bulletin_id=TEXT),)}, 1),
        ({"items": news(3), "length": timedelta(minutes=15), "fit": "trim"}, 15),
        ({"items": news(1), "length": timedelta(minutes=15), "fit": "trim"}, 10),
        ({"items": news(1), "length": timedelta(minutes=15), "fit": "trim", "fill": "repeat"}, 15),
        ({"items": news(3), "length": timedelta(minutes=15)}, 30),
        ({"items": news(2), "length": timedelta(minutes=15), "fit": "drop"}, 10),
        ({"items": news(1), "length": timedelta(minutes=15), "fill": "repeat"}, 20),
        # The relay is joined late, and ends when it was to end.
        ({"items": (*news(1), a_relay(VOV, starts_after=timedelta(minutes=4)))}, 34),
    ],
)
def test_an_occurrence_is_as_long_as_its_items_or_as_it_may_be(changes: dict[str, Any], minutes: int) -> None:
    assert verdict(**changes).length == timedelta(minutes=minutes)
