"""Builders of planning values with honest defaults: a test names only what matters to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from services.control.orders import Addressee
from services.control.planning import model
from services.control.planning.model import (
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    Item,
    Media,
    Recurrence,
    RelaySource,
    Snapshot,
    SourceId,
    Target,
    UnitTarget,
    Window,
)
from services.control.units import UnitHistory, UnitVersion

ZONE = "Asia/Ho_Chi_Minh"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
DAY = date(2026, 9, 7)  # a Monday


def number(kind: int, n: int) -> uuid.UUID:
    """The n-th UUID of a kind; readable in failures."""
    return uuid.UUID(int=(kind << 64) + n)


def unit_id(n: int) -> UnitId:
    return UnitId(number(1, n))


def broadcast_id(n: int) -> BroadcastId:
    return BroadcastId(number(2, n))


def bulletin_id(n: int) -> BulletinId:
    return BulletinId(number(3, n))


def local(text: str, zone_hours: int = 7) -> datetime:
    """An instant from local time at a fixed offset: `local("2026-09-07 05:30")` is in Việt Nam."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) - timedelta(hours=zone_hours)


def a_unit(n: int, parent: int | None = None, **changes: object) -> UnitVersion:
    values: dict[str, object] = {
        "unit_id": unit_id(n),
        "parent_id": unit_id(parent) if parent is not None else None,
        "valid_from": date(2020, 1, 1),
        "code": f"{n:05}",
        "level": "commune",
        "name": f"Đơn vị {n}",
    }
    return UnitVersion(**(values | changes))  # type: ignore[arg-type]


# Province 1; districts 10 and 20; communes 11, 12 in 10 and 21 in 20.
PROVINCE = UnitHistory((a_unit(1), a_unit(10, 1), a_unit(20, 1), a_unit(11, 10), a_unit(12, 10), a_unit(21, 20)))


def a_device(no: int, unit: int = 11, kind: DeviceKind = DeviceKind.CLUSTER, **changes: object) -> DeviceRef:
    values: dict[str, object] = {
        "device_no": DeviceNo(no),
        "device_id": DeviceId(f"loa-{no:04}"),
        "kind": kind,
        "unit_id": unit_id(unit),
        "registered_at": LONG_AGO,
    }
    return DeviceRef(**(values | changes))  # type: ignore[arg-type]


def a_media(seconds: float | None = 60, n: int = 1, *, mime: str = "audio/mpeg") -> Media:
    duration = timedelta(seconds=seconds) if seconds is not None else None
    return Media(sha256=bytes([n]) * 32, size=480_000, mime=mime, duration=duration)


def source_id(n: int) -> SourceId:
    return SourceId(number(5, n))


def a_relay(n: int = 1, **changes: object) -> RelaySource:
    values: dict[str, object] = {"source_id": source_id(n), "name": f"Nguồn {n}", "path": f"relays/{n}"}
    return RelaySource(**(values | changes))  # type: ignore[arg-type]


def a_bulletin(n: int = 1, seconds: float | None = 60, **changes: object) -> Bulletin:
    values: dict[str, object] = {
        "bulletin_id": bulletin_id(n),
        "title": f"Bản tin {n}",
        "is_approved": True,
        "media": a_media(seconds, n) if seconds is not None else None,
    }
    return Bulletin(**(values | changes))  # type: ignore[arg-type]


def daily(*times: str, starts_on: date = DAY, ends_on: date | None = None) -> Recurrence:
    return model.daily(starts_on, ends_on, map(time.fromisoformat, times))


def once(*times: str, day: date = DAY) -> Recurrence:
    return model.once(day, map(time.fromisoformat, times))


def by_rule(
    rrule: str, *times: str, starts_on: date = DAY, ends_on: date | None = None, **changes: object
) -> Recurrence:
    values: dict[str, object] = {
        "starts_on": starts_on,
        "ends_on": ends_on,
        "times": tuple(map(time.fromisoformat, times)),
        "rrule": rrule,
    }
    return Recurrence(**(values | changes))  # type: ignore[arg-type]


def to_units(*units: int) -> tuple[Target, ...]:
    return tuple(UnitTarget(unit_id=unit_id(each)) for each in units)


def to_devices(*devices: int) -> tuple[Target, ...]:
    return tuple(DeviceTarget(device_no=DeviceNo(each)) for each in devices)


def bulletins(*numbers: int) -> tuple[Item, ...]:
    return tuple(BulletinItem(number=place, bulletin_id=bulletin_id(each)) for place, each in enumerate(numbers))


def a_broadcast(n: int = 1, recurrence: Recurrence | None = None, **changes: object) -> Broadcast:
    values: dict[str, object] = {
        "broadcast_id": broadcast_id(n),
        "unit_id": unit_id(1),
        "title": f"Buổi phát {n}",
        "level": Level.NORMAL,
        "recurrence": recurrence or daily("05:30"),
        "time_zone": ZONE,
        "items": bulletins(1),
        "targets": to_units(1),
        "issued_at": LONG_AGO,
        "resume": ResumePolicy.RESUME,
    }
    return Broadcast(**(values | changes))  # type: ignore[arg-type]


def a_snapshot(
    broadcasts: Iterable[Broadcast] | None = None,
    *,
    bulletins: Iterable[Bulletin] | None = None,
    devices: Iterable[DeviceRef] | None = None,
    units: UnitHistory = PROVINCE,
    zone: str = ZONE,
    **others: object,
) -> Snapshot:
    return Snapshot(
        broadcasts=tuple(broadcasts if broadcasts is not None else (a_broadcast(),)),
        bulletins=tuple(bulletins if bulletins is not None else (a_bulletin(),)),
        devices=tuple(devices if devices is not None else (a_device(1),)),
        units=units,
        zone=ZoneInfo(zone),
        **others,  # type: ignore[arg-type]
    )


def days(count: int, first: date = DAY) -> Window:
    return Window(first=first, end=first + timedelta(days=count))


def an_addressee(**changes: object) -> Addressee:
    values: dict[str, object] = {
        "device_no": DeviceNo(1),
        "device_id": DeviceId("loa-0001"),
        "kind": DeviceKind.CLUSTER,
        "principal": DeviceId("loa-0001"),
        "unit_id": unit_id(11),
        "ownership": Ownership.PUBLIC,
        "volume_percent": 30,
        "volume_cap_percent": 80,
        "heartbeat_interval": timedelta(seconds=60),
        "latitude": 21.2731,
        "longitude": 106.1946,
    }
    return Addressee(**(values | changes))  # type: ignore[arg-type]
