from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from schemas.identifiers import BulletinId, DeviceId, UnitId
from services.control.broadcast_requests import (
    BulletinWish,
    DeviceWish,
    Facts,
    PauseWish,
    UnitWish,
    Verdict,
    Wish,
    judge,
)
from services.control.bulletin_store import Bulletin
from services.control.device_store import Device
from services.control.planning.model import DeviceNo
from services.control.units import UnitTree, UnitVersion

NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)  # 09:00 on the tenth in Việt Nam
ROOT, NORTH, SOUTH, VILLAGE, ELSEWHERE = (UnitId(uuid.UUID(int=number)) for number in range(1, 6))
NEWS, TEXT, DRAFT, LONG, FOREIGN, UNKNOWN = (uuid.UUID(int=number) for number in range(101, 107))
TREE = UnitTree(
    UnitVersion(unit_id=unit, valid_from=date(2020, 1, 1), parent_id=parent, code="x", level="x", name=name)
    for unit, parent, name in (
        (ROOT, None, "Tỉnh"),
        (NORTH, ROOT, "Bắc"),
        (SOUTH, ROOT, "Nam"),
        (VILLAGE, NORTH, "Xã"),
    )
)


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
)


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
    )
}
FACTS = Facts(
    tree=TREE,
    reach=frozenset({NORTH, VILLAGE}),
    readable=frozenset({NORTH, VILLAGE}),
    devices={device.device_id: device for device in DEVICES},
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
    assert found.device_nos == (1, 2)
    assert found.length == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("items", "targets", "expected"),
    [
        ((NEWS,), (UnitWish(unit_id=VILLAGE),), (2,)),
        ((TEXT,), (UnitWish(unit_id=NORTH),), (3,)),
        ((NEWS, TEXT), (UnitWish(unit_id=NORTH),), (1, 2, 3)),
        ((NEWS,), (DeviceWish(device_id="cluster-2"),), (2,)),
        ((NEWS,), (UnitWish(unit_id=NORTH), DeviceWish(device_id="cluster-1", is_excluded=True)), (2,)),
        ((NEWS,), (UnitWish(unit_id=NORTH), UnitWish(unit_id=VILLAGE, is_excluded=True)), (1,)),
    ],
)
def test_targets_mean_what_can_play_in_them(items: Any, targets: Any, expected: tuple[int, ...]) -> None:
    found = verdict(items=tuple(BulletinWish(bulletin_id=item) for item in items), targets=targets)
    assert (found.faults, found.device_nos) == ((), expected)


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
    ],
)
def test_what_is_unusual_but_sound_is_taken(changes: dict[str, Any]) -> None:
    assert verdict(**changes).faults == ()
