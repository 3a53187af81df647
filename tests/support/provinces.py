"""Generated provinces with everything in them that planning knows, small enough for conflicts to be frequent."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level
from schemas.plans import ContentKind
from services.control.planning.model import (
    Answer,
    Begun,
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    Fill,
    Fit,
    GroupId,
    GroupTarget,
    Item,
    KindTarget,
    Pause,
    Plan,
    Recurrence,
    RelayItem,
    RelaySource,
    Requisition,
    Snapshot,
    UnitTarget,
    Window,
)
from services.control.planning.policies import Policy, Quiet, Reserved, Session, VolumeCap
from services.control.planning.programme import plan
from services.control.units import UnitHistory, UnitVersion
from tests.support.planning import (
    LONG_AGO,
    a_broadcast,
    a_bulletin,
    a_device,
    a_media,
    a_relay,
    broadcast_id,
    bulletin_id,
    number,
    source_id,
    unit_id,
)

# Days around the night on which Europe/Berlin shifts its clocks back, and Asia/Beirut too.
FIRST = date(2026, 10, 23)
DAYS = 6
# The right thing stands often in these lists: a province in which nothing sounds obeys every law.
ZONES = [*["Asia/Ho_Chi_Minh"] * 6, "Europe/Berlin", "Europe/Berlin", "Asia/Beirut", "Pacific/Kiritimati", "No/Where"]
# Where the devices hang: that is what policies, days and minutes are counted in.
GROUND_ZONES = [*["Asia/Ho_Chi_Minh"] * 5, "Europe/Berlin", "Asia/Beirut"]
UNITS = [1, 10, 20, 11, 12, 21]
DEVICES = range(1, 9)
GROUPS = [1, 2]
EVERY_FEW_HOURS = [time(0), time(0, 30), time(2, 30), time(3, 30), time(5, 30), time(17), time(23, 59, 30)]
RRULES = [
    None,
    *["FREQ=DAILY"] * 4,
    "FREQ=DAILY;INTERVAL=2",
    "FREQ=DAILY;COUNT=3",
    "FREQ=DAILY;UNTIL=20261026T003000Z",
    "FREQ=WEEKLY;BYDAY=SU,MO;WKST=SU",
    "FREQ=MONTHLY;BYDAY=-1SU",
    "FREQ=HOURLY;INTERVAL=7",
    "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=30",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
]


def group(n: int) -> GroupId:
    return GroupId(number(4, n))


some_days = st.integers(0, DAYS - 1).map(lambda offset: FIRST + timedelta(days=offset))
some_instants = st.integers(-24, 24 * DAYS).map(
    lambda hours: datetime.combine(FIRST, time(0), tzinfo=LONG_AGO.tzinfo) + timedelta(hours=hours)
)
some_times = st.lists(st.sampled_from(EVERY_FEW_HOURS), min_size=1, max_size=3, unique=True).map(tuple)
some_moments = st.builds(datetime.combine, some_days, st.sampled_from(EVERY_FEW_HOURS))
some_dates = st.one_of(st.just(()), st.lists(st.one_of(some_days, some_moments), max_size=2).map(tuple))
some_recurrences = st.builds(
    Recurrence,
    starts_on=st.integers(-3, 2).map(lambda offset: FIRST + timedelta(days=offset)),
    ends_on=st.sampled_from([None, None, FIRST + timedelta(days=4)]),
    times=some_times,
    sessions=st.sampled_from([(), (), ("sang",), ("chieu",)]),
    rrule=st.sampled_from(RRULES),
    rdates=some_dates,
    exdates=some_dates,
)
more_targets = st.one_of(
    st.builds(UnitTarget, unit_id=st.sampled_from([*UNITS, 99]).map(unit_id), is_excluded=st.booleans()),
    st.builds(DeviceTarget, device_no=st.sampled_from([*DEVICES, 99]).map(DeviceNo), is_excluded=st.booleans()),
    st.builds(GroupTarget, group_id=st.sampled_from([*GROUPS, 9]).map(group), is_excluded=st.booleans()),
    st.builds(KindTarget, kind=st.sampled_from(DeviceKind), is_excluded=st.booleans()),
)
seconds = st.sampled_from([5, 20, 45, 60, 90]).map(lambda n: timedelta(seconds=n))


def window(first: int, end: int) -> Window:
    return Window(first=FIRST + timedelta(days=first), end=FIRST + timedelta(days=end))


WEEK = window(0, DAYS)

STOCK = (
    a_bulletin(1, 60, board_text="chữ"),
    a_bulletin(2, 20),
    a_bulletin(3, 20, is_approved=False),
    # number 4 is missing
    a_bulletin(5, 20, board_media=a_media(None, 50, mime="image/png")),
    a_bulletin(6, None, board_media=a_media(30, 60, mime="video/mp4")),
    a_bulletin(7, None, board_text="chạy", board_style=ContentKind.TICKER, board_length=timedelta(seconds=40)),
)
RELAYS: tuple[RelaySource, ...] = (a_relay(1, fallback=a_media(30, 70)), a_relay(2, path=None, url="fm://102.7"))


@st.composite
def some_bulletins(draw: st.DrawFn) -> tuple[Bulletin, ...]:
    """The stock, some of it stale at some time."""
    places = st.integers(0, len(STOCK) - 1)
    expiry = draw(st.dictionaries(places, some_instants, max_size=1))
    plays = draw(st.dictionaries(places, st.integers(1, 3), max_size=1))
    return tuple(
        replace(each, expires_at=expiry.get(place), max_plays=plays.get(place)) for place, each in enumerate(STOCK)
    )


# Bulletins by their numbers; a pause; relays.
ITEMS = [1, 1, 1, 2, 2, 3, 4, 5, 5, 6, 7, 0, 8, 8, 9, 10]


@st.composite
def some_items(draw: st.DrawFn) -> tuple[Item, ...]:
    items: list[Item] = []
    for place, kind in enumerate(draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=4))):
        if kind == 0:
            items.append(Pause(number=place, length=timedelta(seconds=5)))
        elif kind >= 8:
            pin = draw(st.sampled_from([None, timedelta(seconds=30)]))
            source = source_id({8: 1, 9: 2, 10: 9}[kind])
            items.append(RelayItem(number=place, source_id=source, length=timedelta(seconds=45), starts_after=pin))
        else:
            items.append(BulletinItem(number=place, bulletin_id=bulletin_id(kind), is_jingle=kind == 2))
    return tuple(items)


@st.composite
def some_units(draw: st.DrawFn) -> UnitHistory:
    """A province whose communes may move to the other district, close, or be cut off on some day."""
    versions = [_unit(1, None, "province"), _unit(10, 1, "district"), _unit(20, 1, "district")]
    for commune, home in ((11, 10), (12, 10), (21, 20)):
        fate = draw(st.sampled_from(["stays", "stays", "stays", "moves", "closes", "is_cut_off"]))
        if fate == "stays":
            versions.append(_unit(commune, home, "commune"))
            continue
        on = draw(some_days.filter(lambda day: day > FIRST))
        versions.append(_unit(commune, home, "commune", valid_until=on))
        if fate != "closes":
            versions.append(_unit(commune, 30 - home if fate == "moves" else 77, "commune", valid_from=on))
    return UnitHistory(versions)


def _unit(n: int, parent: int | None, level: str, **dates: Any) -> UnitVersion:
    return UnitVersion(
        unit_id=unit_id(n),
        parent_id=unit_id(parent) if parent is not None else None,
        code=str(n),
        level=level,
        name=str(n),
        **{"valid_from": date(2020, 1, 1), **dates},
    )


MORNING = Session(code="sang", name="Buổi sáng", begin=time(0), end=time(5, 31))
WORKDAYS = replace(MORNING, end=time(7), weekdays=frozenset({1, 2, 3, 4, 5}))
POLICIES: list[dict[str, Any]] = [
    {"sessions": (MORNING,), "accepts_normal": True},
    {"sessions": (WORKDAYS,), "max_session": timedelta(seconds=70)},
    {"quiet": (Quiet(begin=time(22), end=time(2)),), "max_day": timedelta(seconds=100)},
    {"quiet": (Quiet(begin=time(17), end=time(17, 1)),), "accepts_normal": True},
    {"weekdays": frozenset({1, 3, 5, 7}), "allows_direct_relays": False},
    {"max_day": timedelta(seconds=200), "volume_caps": (VolumeCap(begin=time(0), end=time(6), percent=30),)},
    {"max_session": timedelta(seconds=120), "accepts_normal": True},
    {"max_day": timedelta(seconds=60), "accepts_normal": True},
    {
        "reserved": (Reserved(begin=time(5, 30), end=time(5, 40), weekdays=frozenset({1, 2, 3})),),
        "accepts_normal": True,
    },
]


@st.composite
def some_broadcast(draw: st.DrawFn, n: int) -> Broadcast:
    issuer = draw(st.sampled_from([1, 1, 1, 10, 11, 99]))
    home = UnitTarget(unit_id=unit_id(issuer))
    targets = draw(st.one_of(st.just([]), st.lists(more_targets, max_size=3)))
    return a_broadcast(
        n,
        draw(some_recurrences),
        unit_id=unit_id(issuer),
        level=draw(st.sampled_from([Level.NORMAL, Level.NORMAL, Level.PRIORITY, Level.EMERGENCY])),
        time_zone=draw(st.sampled_from(ZONES)),
        items=draw(some_items()),
        targets=tuple([*targets, home] if draw(st.integers(0, 5)) else targets),
        issued_at=draw(st.one_of(st.just(LONG_AGO), st.just(LONG_AGO), some_instants)),
        volume_percent=draw(st.sampled_from([None, 50])),
        length=draw(st.one_of(st.none(), seconds)),
        fit=draw(st.sampled_from(Fit)),
        fill=draw(st.sampled_from(Fill)),
        patience=draw(st.one_of(st.none(), seconds)),
        severity=draw(st.integers(0, 4)),
        allowed_rules=draw(st.sampled_from([frozenset(), frozenset(), SOME_ALLOWED])),
        is_awaiting=draw(st.sampled_from([False, False, False, True])),
    )


BOARD: dict[str, Any] = {"kind": DeviceKind.BOARD}
PROFILES: list[dict[str, Any]] = [
    {"volume_percent": 20},
    {"volume_percent": 60},
    {"volume_percent": 60},
    BOARD,
    BOARD | {"ownership": Ownership.PRIVATE},
    BOARD | {"ownership": Ownership.PRIVATE_WITH_PUBLIC_SHARE, "public_share": timedelta(seconds=90)},
    {"kind": DeviceKind.SENSOR},
    {"registered_at": datetime.combine(FIRST, time(23), tzinfo=LONG_AGO.tzinfo)},
    {"retired_at": datetime.combine(FIRST + timedelta(days=2), time(22, 30, 30), tzinfo=LONG_AGO.tzinfo)},
]


@st.composite
def some_device(draw: st.DrawFn, no: int) -> DeviceRef:
    values = draw(st.sampled_from(PROFILES))
    return a_device(no, draw(st.sampled_from(UNITS)), **values)


@st.composite
def some_requisition(draw: st.DrawFn) -> Requisition:
    begin = draw(some_instants)
    end = begin + timedelta(hours=draw(st.integers(1, 72)))
    if draw(st.booleans()):
        return Requisition(unit_id=unit_id(draw(st.sampled_from(UNITS))), valid_from=begin, expires_at=end)
    return Requisition(device_no=DeviceNo(draw(st.sampled_from(DEVICES))), valid_from=begin, expires_at=end)


SOME_ALLOWED = frozenset(
    (rule, unit_id(each)) for rule in ("quiet_hours", "outside_session") for each in (1, 10, 11, 12)
)
BROADCASTS = range(4)


@st.composite
def some_snapshot(draw: st.DrawFn) -> Snapshot:
    """A province, in half of all cases one where something has begun of broadcasts of which one was changed since."""
    before = draw(fresh_snapshot())
    if not before.broadcasts or draw(st.booleans()):
        return before
    now = draw(some_instants)
    others = before.broadcasts[1:]
    anew = [replace(draw(some_broadcast(0)), issued_at=now)] if draw(st.booleans()) else []
    return replace(before, broadcasts=(*anew, *others), begun=begun_by(now, plan(before, WEEK), before))


def begun_by(now: datetime, planned: Plan, snapshot: Snapshot) -> tuple[Begun, ...]:
    """What is on record at an instant of occurrences that have begun, when a snapshot was planned in time."""
    asked = {each.broadcast_id: each for each in snapshot.broadcasts}
    return tuple(
        Begun(
            broadcast_id=slot.broadcast_id,
            occurrence_at=slot.occurrence_at,
            level=slot.rank.level,
            allowed_rules=asked[slot.broadcast_id].allowed_rules,
            begins_at=slot.starts_at,
            ends_at=slot.ends_at,
            devices=frozenset({emission.device_no}),
        )
        for emission in planned.emissions
        if (slot := emission.slot).occurrence_at <= now
    )


@st.composite
def fresh_snapshot(draw: st.DrawFn) -> Snapshot:
    deciding = [unit_id(each) for each in UNITS]
    ids = [broadcast_id(n) for n in BROADCASTS]
    answers = draw(
        st.lists(
            st.sampled_from([*[Answer.ACCEPTED] * 3, Answer.DECLINED, Answer.SCHEDULED, None]), min_size=24, max_size=24
        )
    )
    says_of = draw(st.dictionaries(st.sampled_from(UNITS), st.sampled_from(POLICIES), max_size=3))
    offers = dict(zip(((each, unit) for each in ids for unit in deciding), answers, strict=True))
    return Snapshot(
        broadcasts=tuple(draw(some_broadcast(n)) for n in range(draw(st.sampled_from([0, 1, 2, 3, 3, 4])))),
        bulletins=draw(some_bulletins()),
        devices=tuple(draw(some_device(no)) for no in DEVICES),
        units=draw(some_units()),
        zone=ZoneInfo(draw(st.sampled_from(GROUND_ZONES))),
        relays=RELAYS,
        groups={group(n): frozenset(map(DeviceNo, draw(st.sets(st.sampled_from([*DEVICES, 99]))))) for n in GROUPS},
        policies={unit_id(each): Policy(unit_id=unit_id(each), **says) for each, says in says_of.items()},
        offers={key: answer for key, answer in offers.items() if answer is not None},
        places=draw(
            st.dictionaries(st.tuples(st.sampled_from(deciding), st.sampled_from(ids)), st.integers(0, 255), max_size=4)
        ),
        requisitions=tuple(draw(st.lists(some_requisition(), max_size=2))),
    )
