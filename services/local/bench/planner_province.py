"""A province for `bench planner`: devices, units, and what is broadcast to them in a week, with everything in force.

Made of numbers alone, so that two runs plan the same. Every device has 6 occurrences a day: two of the province, which
have priority, one of its district, which is normal and so offered to its communes, and three of its commune, one of them
in a session. A commune that has not accepted its district's broadcast makes one more of its own.

What is in force, as shares of all: the province's own policy everywhere (quiet hours, volume by time, minutes a day), a
policy of its own in three of ten communes (sessions, minutes a session), an order of priority content in one of ten, an
answer to the district's offer in nineteen of twenty. One device in twenty is a board, one board in twenty is private with
a public share, one device in two hundred comes within the week, one broadcast in ten leaves a device or a unit out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from services.control.planning.model import (
    EVERY_DAY,
    Answer,
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    Item,
    Media,
    Recurrence,
    RelayItem,
    RelaySource,
    Snapshot,
    SourceId,
    Target,
    UnitTarget,
)
from services.control.planning.policies import Policy, Quiet, Session, VolumeCap
from services.control.units import UnitHistory, UnitVersion

FIRST_DAY = date(2026, 9, 7)  # a Monday
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
ZONE = "Asia/Ho_Chi_Minh"
OCCURRENCES_A_DAY = 6
DEVICES_A_COMMUNE = 50
COMMUNES_A_DISTRICT = 20

_MORNING, _NOON, _EVENING = "sang", "trua", "chieu"


@dataclass(frozen=True, slots=True)
class Province:
    """A snapshot to plan, and the broadcast of the province that is changed when one is."""

    snapshot: Snapshot
    changed: Broadcast

    @property
    def communes(self) -> int:
        """How many communes there are."""
        return sum(version.level == "commune" for version in self.snapshot.units.versions)


def province(devices: int) -> Province:
    """A province of so many devices."""
    communes = max(1, devices // DEVICES_A_COMMUNE)
    districts = -(-communes // COMMUNES_A_DISTRICT)
    places = [(commune, commune // COMMUNES_A_DISTRICT) for commune in range(communes)]
    snapshot = Snapshot(
        broadcasts=(
            *_of_the_province(),
            *(_of_a_district(district, communes) for district in range(districts)),
            *(each for commune, _ in places for each in _of_a_commune(commune)),
        ),
        bulletins=tuple(_bulletins(communes, districts)),
        devices=tuple(_device(number, number * communes // devices) for number in range(devices)),
        units=UnitHistory(_units(places, districts)),
        zone=ZoneInfo(ZONE),
        relays=(RelaySource(source_id=SourceId(_id("relay", 0)), name="VOV1", path="relays/vov1"),),
        policies=dict(_policies(communes)),
        offers={
            (_broadcast_id("district", district), _unit("commune", commune)): Answer.ACCEPTED
            if _answer(commune)
            else Answer.DECLINED
            for commune, district in places
            if _answer(commune) is not None
        },
        places={
            (_unit("commune", commune), _broadcast_id("province", 1)): 1 for commune, _ in places if commune % 10 == 3
        },
    )
    return Province(snapshot, snapshot.broadcasts[0])


def _answer(commune: int) -> bool | None:
    """What a commune said to its district's offer: accepted by nine of ten, declined, or not decided yet."""
    return {0: None, 1: False}.get(commune % 20, True)


# --- units and what they say -----------------------------------------------------------------------------------------


def _units(places: list[tuple[int, int]], districts: int) -> Iterator[UnitVersion]:
    yield _version(_unit("province", 0), None, "province", "24")
    for district in range(districts):
        yield _version(_unit("district", district), _unit("province", 0), "district", f"{district:03}")
    for commune, district in places:
        yield _version(_unit("commune", commune), _unit("district", district), "commune", f"{commune:05}")


def _version(unit_id: UnitId, parent_id: UnitId | None, level: str, code: str) -> UnitVersion:
    return UnitVersion(
        unit_id=unit_id, valid_from=LONG_AGO.date(), parent_id=parent_id, code=code, level=level, name=code
    )


def _policies(communes: int) -> Iterator[tuple[UnitId, Policy]]:
    root = _unit("province", 0)
    yield (
        root,
        Policy(
            unit_id=root,
            sessions=(
                _session(_MORNING, time(4, 30), time(8)),
                _session(_NOON, time(10, 30), time(13)),
                _session(_EVENING, time(16), time(19, 30)),
            ),
            quiet=(Quiet(begin=time(22), end=time(4, 30)),),
            volume_caps=(VolumeCap(begin=time(4, 30), end=time(6), percent=60),),
            max_day=timedelta(hours=4),
        ),
    )
    for commune in range(communes):
        if commune % 10 < 3:
            unit_id = _unit("commune", commune)
            yield (
                unit_id,
                Policy(
                    unit_id=unit_id,
                    sessions=(
                        _session(_MORNING, time(4, 45), time(7, 30)),
                        _session(_NOON, time(11), time(12, 30)),
                        _session(_EVENING, time(16, 30), time(19)),
                    ),
                    max_session=timedelta(minutes=90),
                ),
            )


def _session(code: str, begin: time, end: time) -> Session:
    return Session(code=code, name=code, begin=begin, end=end)


# --- devices ---------------------------------------------------------------------------------------------------------


def _device(number: int, commune: int) -> DeviceRef:
    is_board = number % 20 == 7
    is_private = number % 400 == 7
    comes = number % 200 == 11
    return DeviceRef(
        device_no=DeviceNo(number + 1),
        device_id=DeviceId(f"dev-{number:07}"),
        kind=DeviceKind.BOARD if is_board else DeviceKind.CLUSTER,
        unit_id=_unit("commune", commune),
        registered_at=datetime.combine(FIRST_DAY, time(5), tzinfo=UTC) + timedelta(days=2) if comes else LONG_AGO,
        ownership=Ownership.PRIVATE_WITH_PUBLIC_SHARE if is_private else Ownership.PUBLIC,
        public_share=timedelta(minutes=30) if is_private else None,
        volume_percent=(30, 50, 70)[number % 3],
    )


# --- what is broadcast -----------------------------------------------------------------------------------------------


def _of_the_province() -> tuple[Broadcast, ...]:
    everywhere: tuple[Target, ...] = (UnitTarget(unit_id=_unit("province", 0)),)
    relay = RelayItem(number=3, source_id=SourceId(_id("relay", 0)), length=timedelta(minutes=10))
    morning = _broadcast("province", 0, (*_items("province", 0), relay), everywhere, _daily(time(5)))
    weekly = Recurrence(
        starts_on=LONG_AGO.date(), times=(time(17),), rrule="FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;WKST=MO"
    )
    return morning, _broadcast("province", 1, _items("province", 1), everywhere, weekly)


def _of_a_district(district: int, communes: int) -> Broadcast:
    targets: tuple[Target, ...] = (UnitTarget(unit_id=_unit("district", district)),)
    if district % 10 == 0:
        left_out = min(district * COMMUNES_A_DISTRICT + COMMUNES_A_DISTRICT - 1, communes - 1)
        targets += (UnitTarget(unit_id=_unit("commune", left_out), is_excluded=True),)
    return _broadcast("district", district, _items("district", district), targets, _daily(time(5, 30)), Level.NORMAL)


def _of_a_commune(commune: int) -> Iterator[Broadcast]:
    targets: tuple[Target, ...] = (UnitTarget(unit_id=_unit("commune", commune)),)
    if commune % 10 == 0:
        first = DeviceNo(commune * DEVICES_A_COMMUNE + 1)
        targets += (DeviceTarget(device_no=first, is_excluded=True),)
    items = _items("commune", commune)
    own = (time(6), time(11, 15)) if _answer(commune) else (time(6), time(11, 15), time(11, 40))
    yield _broadcast("commune", 2 * commune, items, targets, _daily(*own), Level.NORMAL)
    evening = Recurrence(
        starts_on=LONG_AGO.date(),
        sessions=(_EVENING,),
        rrule=EVERY_DAY,
        exdates=(FIRST_DAY - timedelta(days=5), FIRST_DAY + timedelta(days=60)),
    )
    yield _broadcast("commune", 2 * commune + 1, items, targets, evening, Level.NORMAL)


def _broadcast(
    kind: str,
    number: int,
    items: tuple[Item, ...],
    targets: tuple[Target, ...],
    recurrence: Recurrence,
    level: Level = Level.PRIORITY,
) -> Broadcast:
    owner = number // 2 if kind == "commune" else number if kind == "district" else 0
    return Broadcast(
        broadcast_id=_broadcast_id(kind, number),
        unit_id=_unit(kind, owner),
        title=f"{kind} {number}",
        level=level,
        recurrence=recurrence,
        time_zone=ZONE,
        items=items,
        targets=targets,
        issued_at=LONG_AGO,
    )


def _daily(*times: time) -> Recurrence:
    return Recurrence(starts_on=LONG_AGO.date(), times=times, rrule=EVERY_DAY)


def _items(kind: str, number: int) -> tuple[Item, ...]:
    """A signature tune, and two bulletins of the issuer."""
    jingle = BulletinItem(number=0, bulletin_id=BulletinId(_id("jingle", 0)), is_jingle=True)
    return (
        jingle,
        *(
            BulletinItem(number=place, bulletin_id=BulletinId(_id(f"bulletin {kind}", 2 * number + place)))
            for place in (1, 2)
        ),
    )


def _bulletins(communes: int, districts: int) -> Iterator[Bulletin]:
    yield _bulletin("jingle", 0, timedelta(seconds=15), None)
    for kind, count in (("province", 2), ("district", districts), ("commune", communes)):
        for number in range(count):
            for place in (1, 2):
                text = f"{kind} {number}: thông báo {place}"
                yield _bulletin(f"bulletin {kind}", 2 * number + place, timedelta(minutes=3 * place), text)


def _bulletin(kind: str, number: int, length: timedelta, text: str | None) -> Bulletin:
    return Bulletin(
        bulletin_id=BulletinId(_id(kind, number)),
        title=f"Bản tin {number}",
        is_approved=True,
        media=Media(
            sha256=_id(kind, number).bytes * 2,
            size=16_000 * int(length.total_seconds()),
            mime="audio/ogg",
            duration=length,
        ),
        board_text=text,
    )


# --- names -----------------------------------------------------------------------------------------------------------

_NAMESPACE = uuid.UUID("6f1d0f0e-0f35-4c9e-8a2b-6c1f6f0b7a11")


def _id(kind: str, number: int) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, f"{kind} {number}")


def _unit(level: str, number: int) -> UnitId:
    return UnitId(_id(level, number))


def _broadcast_id(kind: str, number: int) -> BroadcastId:
    return BroadcastId(_id(f"broadcast {kind}", number))
