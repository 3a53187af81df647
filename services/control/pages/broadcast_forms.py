"""What the form of a broadcast says, from what was typed to the API's body and back. Pure.

What was typed is kept as it was typed, so that a form that is refused comes back whole. What the form cannot say of a
broadcast that was made elsewhere (another rule, single devices, added days) is kept as it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, assert_never

from schemas.identifiers import UnitId
from services.control.broadcast_requests import (
    DAILY,
    ONCE,
    RULE,
    BulletinWish,
    DeviceWish,
    GroupWish,
    ItemWish,
    KindWish,
    PauseWish,
    RelayWish,
    TargetWish,
    UnitWish,
    Wish,
)
from services.control.errors import Fault

WORKDAYS, WEEKLY, KEPT = "workdays", "weekly", "kept"
DAYS = (ONCE, DAILY, WORKDAYS, WEEKLY)
PAUSE, RELAY, LIVE = "pause", "relay", "live"
RELAYED = (RELAY, LIVE)
ITEMS_AT_FIRST, TIMES_AT_FIRST = 2, 3
MAX_ROWS = 50

_CODES = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_WORKDAYS = ("1", "2", "3", "4", "5")
_BY_WEEKDAY = re.compile(r"FREQ=WEEKLY;BYDAY=((?:MO|TU|WE|TH|FR|SA|SU)(?:,(?:MO|TU|WE|TH|FR|SA|SU))*)")
_OTHER_KIND = {"cluster": "board", "board": "cluster"}
_PLACES = {
    "local_times": "times",
    "sessions": "sessions",
    "targets": "targets",
    "rrule": "days",
    "rdates": "days",
    "exdates": "days",
    "recurrence": "days",
    "ends_on": "last_day",
    "length_s": "length",
    "volume_percent": "volume",
}
_NAMED_ALIKE = frozenset({"title", "level", "items", "starts_on", "weekdays", "fit", "fill", "resume"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """One row of items: a bulletin, a pause or a relay, and how long the last two are."""

    what: str = ""
    minutes: str = ""
    seconds: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """Everything in the form, as it was typed.

    `is_whole`: the whole ground of the unit. `others` are targets the form has no field for. `days` is one of `DAYS`, or
    `KEPT`: as stored.
    """

    title: str = ""
    level: str = "normal"
    items: tuple[ItemRow, ...] = (ItemRow(),) * ITEMS_AT_FIRST
    is_whole: bool = True
    units: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    only: str = ""
    days: str = ONCE
    weekdays: tuple[str, ...] = ()
    starts_on: str = ""
    last_day: str = ""
    times: tuple[str, ...] = ("",) * TIMES_AT_FIRST
    sessions: tuple[str, ...] = ()
    length: str = ""
    fit: str = "whole"
    fill: str = "none"
    volume: str = ""
    resume: str = "resume"


# --- from the form, and what its small buttons do --------------------------------------------------------------------


def typed_of(fields: Mapping[str, list[str]]) -> Typed:
    """What a form that was sent says; `fields` are its values by name."""

    def one(name: str, default: str = "") -> str:
        return fields.get(name, [default])[0].strip()

    def every(name: str) -> tuple[str, ...]:
        return tuple(value.strip() for value in fields.get(name, ()) if value.strip())

    return Typed(
        title=one("title"),
        level=one("level", "normal"),
        items=_rows(fields) or (ItemRow(),),
        is_whole=bool(one("whole")),
        units=every("unit"),
        excluded=every("except"),
        groups=every("group"),
        others=every("other"),
        only=one("only"),
        days=one("days", ONCE),
        weekdays=every("weekday"),
        starts_on=one("starts_on"),
        last_day=one("last_day"),
        times=tuple(value.strip() for value in fields.get("time", ())) or ("",),
        sessions=every("session"),
        length=one("length"),
        fit=one("fit", "whole"),
        fill=one("fill", "none"),
        volume=one("volume"),
        resume=one("resume", "resume"),
    )


def _rows(fields: Mapping[str, list[str]]) -> tuple[ItemRow, ...]:
    columns = [fields.get(name, []) for name in ("item", "minutes", "seconds")]
    length = min(max(map(len, columns)), MAX_ROWS)
    return tuple(
        ItemRow(**dict(zip(("what", "minutes", "seconds"), (_at(column, row) for column in columns), strict=True)))
        for row in range(length)
    )


def _at(column: list[str], row: int) -> str:
    return column[row].strip() if row < len(column) else ""


def rearranged(typed: Typed, move: str) -> Typed | None:
    """The form after one of its small buttons: `add`, `time`, or `up`, `down` and `drop` with a row; None: no such one."""
    verb, _, place = move.partition(":")
    items = list(typed.items)
    if move == "add":
        return replace(typed, items=(*items, ItemRow())[:MAX_ROWS])
    if move == "time":
        return replace(typed, times=(*typed.times, "")[:MAX_ROWS])
    if verb not in ("up", "down", "drop") or not re.fullmatch(r"\d{1,2}", place) or int(place) >= len(items):
        return None
    row = int(place)
    if verb == "drop":
        del items[row]
    else:
        other = min(max(row + (1 if verb == "down" else -1), 0), len(items) - 1)
        items[row], items[other] = items[other], items[row]
    return replace(typed, items=tuple(items) or (ItemRow(),))


# --- to the API's body -----------------------------------------------------------------------------------------------


def body_of(typed: Typed, unit_id: UnitId, *, zone: str, stored: Wish | None) -> dict[str, Any]:
    """The body that the form asks for. `stored`: the broadcast that is changed, whose other sides stay as they are."""
    return {
        "unit_id": str(unit_id),
        "title": typed.title,
        "level": typed.level,
        **_when(typed, stored),
        "time_zone": zone if stored is None else stored.time_zone,
        "local_times": [each for each in typed.times if each],
        "sessions": list(typed.sessions),
        "items": [_item(row) for row in typed.items if row.what],
        "targets": list(_targets(typed, unit_id)),
        "volume_percent": _whole_number(typed.volume) if typed.volume else None,
        "resume": typed.resume,
        "length_s": _times_60(typed.length) if typed.length else None,
        "fit": typed.fit,
        "fill": typed.fill,
        "patience_s": None if stored is None or stored.patience is None else stored.patience.total_seconds(),
    }


def own_faults(typed: Typed) -> Iterator[Fault]:
    """What only the form can ask for wrongly."""
    if typed.days == WEEKLY and not typed.weekdays:
        yield Fault("weekdays", "too_few", {"limit": 1})


def _when(typed: Typed, stored: Wish | None) -> dict[str, Any]:
    if typed.days == KEPT and stored is not None:
        return {
            "recurrence": stored.recurrence,
            "rrule": stored.rrule,
            "rdates": [each.isoformat() for each in stored.rdates],
            "exdates": [each.isoformat() for each in stored.exdates],
            "starts_on": stored.starts_on.isoformat(),
            "ends_on": None if stored.ends_on is None else stored.ends_on.isoformat(),
        }
    weekdays = {WORKDAYS: _WORKDAYS, WEEKLY: typed.weekdays}.get(typed.days)
    found: dict[str, Any] = {"recurrence": typed.days if weekdays is None else RULE}
    if weekdays is not None:
        found["rrule"] = "FREQ=WEEKLY;BYDAY=" + ",".join(
            _CODES[int(day) - 1] for day in sorted(weekdays) if _is_day(day)
        )
    if typed.starts_on:
        found["starts_on"] = typed.starts_on
    if typed.last_day and typed.days != ONCE:
        found["ends_on"] = day_after(typed.last_day)
    return found


def _is_day(text: str) -> bool:
    return text in ("1", "2", "3", "4", "5", "6", "7")


def day_after(day: str) -> str:
    """As the API counts ends of intervals; what is no day stays as it is, to be refused as that."""
    try:
        return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return day


def _item(row: ItemRow) -> dict[str, Any]:
    kind, _, named = row.what.partition(":")
    if kind == PAUSE:
        return {"pause_s": _length(row) or 0.0}
    if kind in RELAYED:
        source, _, pinned = named.partition("@")
        starts_after = {"starts_after_s": _number(pinned)} if pinned else {}
        return {"relay_source_id": source, "length_s": _length(row), "live": kind == LIVE, **starts_after}
    return {"bulletin_id": named}


def _length(row: ItemRow) -> float | str | None:
    """In seconds; what is no number as it was typed, to be refused as that."""
    if not row.minutes and not row.seconds:
        return None
    minutes, seconds = (_number(each or "0") for each in (row.minutes, row.seconds))
    if isinstance(minutes, str) or isinstance(seconds, str):
        return row.minutes or row.seconds
    return minutes * 60 + seconds


def _number(text: str) -> float | str:
    return float(text.replace(",", ".")) if re.fullmatch(r"\d{1,9}(?:[.,]\d{1,3})?", text) else text


def _times_60(text: str) -> float | str:
    found = _number(text)
    return found if isinstance(found, str) else found * 60


def _whole_number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else text


def _targets(typed: Typed, unit_id: UnitId) -> Iterator[dict[str, Any]]:
    if typed.is_whole:
        yield {"unit_id": str(unit_id)}
    yield from ({"unit_id": each} for each in typed.units)
    yield from ({"group_id": each} for each in typed.groups)
    yield from ({"unit_id": each, "exclude": True} for each in typed.excluded)
    if typed.only:
        yield {"kind": _OTHER_KIND.get(typed.only, typed.only), "exclude": True}
    for each in typed.others:
        kind, _, named = each.removeprefix("-").partition(":")
        yield {kind if kind == "kind" else f"{kind}_id": named, "exclude": each.startswith("-")}


def place_of(field: str, typed: Typed) -> str:
    """Where in the form the API's field is; "" for what the form has no place for."""
    name, _, rest = field.partition("[")
    number = int(rest.partition("]")[0]) if rest else None
    if name == "items" and number is not None:
        return _place("items", [bool(row.what) for row in typed.items], number)
    if name == "local_times" and number is not None:
        return _place("times", [bool(each) for each in typed.times], number)
    return _PLACES.get(name) or (name if name in _NAMED_ALIKE else "")


def _place(name: str, filled: list[bool], number: int) -> str:
    """Rows left empty are not sent."""
    rows = [row for row, is_filled in enumerate(filled) if is_filled]
    return f"{name}[{rows[number]}]" if number < len(rows) else name


# --- from a broadcast ------------------------------------------------------------------------------------------------


def typed_of_wish(wish: Wish, *, units: Collection[UnitId], groups: Collection[str]) -> Typed:
    """The form filled in with what is stored. `units` and `groups` are those the form has boxes for."""
    targets = [(each, _target_word(each, wish.unit_id, units, groups)) for each in wish.targets]
    days, weekdays = _days_of(wish)
    is_kept = days == KEPT

    def words(kind: str) -> tuple[str, ...]:
        return tuple(word for _, (each, word) in targets if each == kind)

    return Typed(
        title=wish.title,
        level=wish.level,
        items=tuple(map(_row, wish.items)),
        is_whole=bool(words("whole")),
        units=words("unit"),
        excluded=words("except"),
        groups=words("group"),
        others=words("other"),
        only="".join(words("only")[:1]),
        days=days,
        weekdays=weekdays,
        starts_on="" if is_kept else wish.starts_on.isoformat(),
        last_day=""
        if is_kept or wish.ends_on is None or wish.recurrence == ONCE
        else (wish.ends_on - timedelta(days=1)).isoformat(),
        times=tuple(each.isoformat("seconds" if each.second else "minutes") for each in wish.local_times) or ("",),
        sessions=wish.sessions,
        length="" if wish.length is None else f"{wish.length.total_seconds() / 60:g}",
        fit=wish.fit,
        fill=wish.fill,
        volume="" if wish.volume_percent is None else str(wish.volume_percent),
        resume=wish.resume,
    )


def _row(item: ItemWish) -> ItemRow:
    match item:
        case BulletinWish(bulletin_id=bulletin_id):
            return ItemRow(what=f"bulletin:{bulletin_id}")
        case PauseWish(length=length):
            return ItemRow(what=PAUSE, **_minutes_and_seconds(length))
        case RelayWish(source_id=source_id, length=length, starts_after=starts_after, is_live=is_live):
            pinned = "" if starts_after is None else f"@{starts_after.total_seconds():g}"
            kind = LIVE if is_live else RELAY
            return ItemRow(what=f"{kind}:{source_id}{pinned}", **_minutes_and_seconds(length))
        case _:
            assert_never(item)


def _minutes_and_seconds(length: timedelta) -> dict[str, str]:
    minutes, seconds = divmod(length.total_seconds(), 60)
    return {"minutes": f"{minutes:g}" if minutes else "", "seconds": f"{round(seconds, 3):g}" if seconds else ""}


def _target_word(
    target: TargetWish, own: UnitId, units: Collection[UnitId], groups: Collection[str]
) -> tuple[str, str]:
    """Which of the form's boxes a target is, and what that box says."""
    match target:
        case UnitWish(unit_id=unit_id, is_excluded=False) if unit_id == own:
            return "whole", str(unit_id)
        case UnitWish(unit_id=unit_id, is_excluded=is_excluded) if unit_id in units:
            return "except" if is_excluded else "unit", str(unit_id)
        case GroupWish(group_id=group_id, is_excluded=False) if str(group_id) in groups:
            return "group", str(group_id)
        case KindWish(kind=kind, is_excluded=True):
            return "only", _OTHER_KIND[kind]
        case _:
            return "other", other_word(target)


def other_word(target: TargetWish) -> str:
    """What the form says of a target it has no box for."""
    sign = "-" if target.is_excluded else ""
    match target:
        case UnitWish(unit_id=unit_id):
            return f"{sign}unit:{unit_id}"
        case DeviceWish(device_id=device_id):
            return f"{sign}device:{device_id}"
        case GroupWish(group_id=group_id):
            return f"{sign}group:{group_id}"
        case KindWish(kind=kind):
            return f"{sign}kind:{kind}"
        case _:
            assert_never(target)


def _days_of(wish: Wish) -> tuple[str, tuple[str, ...]]:
    if wish.rdates or wish.exdates:
        return KEPT, ()
    if wish.recurrence != RULE:
        return wish.recurrence, ()
    weekly = _BY_WEEKDAY.fullmatch(wish.rrule or "")
    if weekly is None:
        return KEPT, ()
    days = _numbers(weekly.group(1).split(","))
    return (WORKDAYS, ()) if days == _WORKDAYS else (WEEKLY, days)


def _numbers(codes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({str(_CODES.index(code) + 1) for code in codes}))
