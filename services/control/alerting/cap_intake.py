"""CAP messages from elsewhere become alerts: what they say, whom they mean here, and what they refer to.

Only what is meant in earnest and for the public goes on air; tests, exercises, drafts and acknowledgements are read and
left. Codes of units are looked up in the tree of the day, because they are used again over the years. A shape without a
code counts for the speaking unit's ground, and only if a device of that ground is known to stand inside: a warning of
another country must not sound on the devices whose place nobody entered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Record

from schemas.identifiers import AlertId, UnitId
from services.control import alerts
from services.control.alerting import alert_store, cap_store, shapes
from services.control.alerting.cap import CapAlert, CapArea, CapInfo, MessageType, Scope, Status
from services.control.alerting.model import (
    LONGEST,
    MAX_AREAS,
    MAX_CORNERS,
    MAX_SHAPES,
    Alert,
    AlertDraft,
    AlertText,
    AreaWish,
    AudienceWish,
    CapOrigin,
    Circle,
    Origin,
    Point,
)
from services.control.alerting.model import Status as Earnest
from services.control.alerts import By
from services.control.errors import Fault, Invalid
from services.control.trust.keyring import Keyring
from services.shared.database.pool import Connection

UNSAID_VALIDITY = timedelta(hours=1)  # of a message that does not say when it ends
REPEAT_INTERVAL = timedelta(seconds=60)
_TITLE, _BODY = 200, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """A message to be taken in: by whom, said by which unit of ours, with which sound before words are spoken.

    `unit_codes` are the names of geocodes that hold codes of administrative units of the day, in any case.
    """

    message: CapAlert
    document: bytes
    unit_id: UnitId
    tone: bytes
    unit_codes: tuple[str, ...]
    by: By
    now: datetime


def is_for_the_air(message: CapAlert) -> bool:
    """Whether anything is to be done about it."""
    return message.status is Status.ACTUAL and message.message_type not in (MessageType.ACK, MessageType.ERROR)


async def take(connection: Connection, taking: Taking, *, keyring: Keyring) -> Alert:
    """The alert that it began, changed or ended. Raises `Invalid` with what stands against it, and what `alerts` raises."""
    message = taking.message
    check_public(message)
    if await cap_store.cap_message(connection, taking.unit_id, message.reference) is not None:
        raise known_already(message)
    referred = [each for each in await referred_by(connection, taking) if not each.is_over(now=taking.now)]
    if message.message_type is not MessageType.ALERT and not referred:
        raise Invalid(Fault("alert.references", "cap_reference_unknown"))
    if message.message_type is MessageType.CANCEL:
        ended = [
            await alerts.cancel(connection, each, by=taking.by, keyring=keyring, now=taking.now) for each in referred
        ]
        await keep(connection, taking, ended[0])
        return ended[0]
    draft = await draft_of(connection, taking)
    if referred:
        first, *others = referred
        alert = await alerts.update(connection, first, draft, by=taking.by, keyring=keyring, now=taking.now)
        for each in others:
            await alerts.cancel(connection, each, by=taking.by, keyring=keyring, now=taking.now)
    else:
        alert = await alerts.issue(connection, draft, by=taking.by, keyring=keyring, now=taking.now)
    await keep(connection, taking, alert)
    return alert


def check_public(message: CapAlert) -> None:
    """Raise `Invalid` unless everybody is meant to be told."""
    if message.scope is not Scope.PUBLIC:
        raise Invalid(Fault("alert.scope", "cap_not_public", {"value": message.scope.value}))


def known_already(message: CapAlert) -> Invalid:
    """What is said of a message whose sender, identifier and instant the unit has seen before."""
    return Invalid(Fault("alert.identifier", "cap_known_already", {"value": message.identifier}))


async def referred_by(connection: Connection, taking: Taking) -> list[Alert]:
    """The alerts of the unit that an update or a cancel means, however they stand, locked.

    Raises `Invalid` where it means a message of another sender, or itself.
    """
    message = taking.message
    if message.message_type is MessageType.ALERT:
        return []
    found: dict[AlertId, Alert] = {}
    for place, each in enumerate(message.references):
        field = f"alert.references[{place}]"
        if each == message.reference:
            raise Invalid(Fault(field, "cap_self_reference"))
        if each.sender != message.sender:
            raise Invalid(Fault(field, "cap_of_another_sender", {"value": each.sender[:80]}))
        known = await cap_store.cap_message(connection, taking.unit_id, each)
        if known is not None:
            found[known.alert_id] = await alert_store.alert_for_update(connection, known.alert_id, silence=False)
    return list(found.values())


async def draft_of(connection: Connection, taking: Taking) -> AlertDraft:
    """What an Alert or an Update says, as an alert of ours. Raises `Invalid` with what stands against it."""
    message, now = taking.message, taking.now
    if not message.infos:
        raise Invalid(Fault("alert.info", "cap_says_nothing"))
    main = _main(message)
    ends = [info.expires for info in message.infos if info.expires is not None]
    until = min(max(ends) if ends else now + UNSAID_VALIDITY, now + LONGEST)
    if until <= now:
        raise Invalid(Fault("alert.info.expires", "cap_expired", {"value": until.isoformat(timespec="seconds")}))
    return AlertDraft(
        unit_id=taking.unit_id,
        status=Earnest.ACTUAL,
        event=main.event[:120],
        category=main.categories[0],
        urgency=main.urgency,
        severity=main.severity,
        certainty=main.certainty,
        texts=tuple(_texts(message, main, taking.tone)),
        audience=AudienceWish(areas=tuple(await _areas(connection, taking))),
        repeat_interval=REPEAT_INTERVAL,
        valid_until=until,
        origin=Origin.CAP,
        cap=origin_of(message),
    )


def origin_of(message: CapAlert) -> CapOrigin:
    """The message as an alert of ours remembers it."""
    return CapOrigin(
        identifier=message.identifier, sender=message.sender, sent=message.sent, references=message.references
    )


def _main(message: CapAlert) -> CapInfo:
    """The one in the country's language, or the first."""
    return next((info for info in message.infos if info.language.lower().startswith("vi")), message.infos[0])


def _texts(message: CapAlert, main: CapInfo, tone: bytes) -> Iterator[AlertText]:
    seen: set[str] = set()
    for info in (main, *message.infos):
        language = info.language.partition("-")[0].lower()
        if language in seen or len(seen) == 8:
            continue
        yield AlertText(
            language=language,
            headline=_short(info.headline or info.event, _TITLE),
            description=_short(info.description, _BODY) if info.description else None,
            instruction=_short(info.instruction, _BODY) if info.instruction else None,
            media_sha256=tone if not seen else None,
            event=info.event,
            sender_name=info.sender_name,
            area_description="; ".join(area.description for area in info.areas) or None,
        )
        seen.add(language)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


# --- whom it means -----------------------------------------------------------------------------------------------------


async def _areas(connection: Connection, taking: Taking) -> list[AreaWish]:
    tree = taking.by.tree
    devices = await _positions(connection, tree.subtree(taking.unit_id))
    found: dict[AreaWish, None] = {}
    faults: list[Fault] = []
    places = [
        (f"alert.info[{i}].area[{j}]", area)
        for i, info in enumerate(taking.message.infos)
        for j, area in enumerate(info.areas)
    ]
    for field, area in places:
        try:
            # Made simpler off the event loop: ten thousand corners take half a second.
            wishes = await asyncio.to_thread(list, _of_area(area, field, taking, devices))
            found.update(dict.fromkeys(wishes))
        except Invalid as invalid:
            faults.extend(invalid.faults)
    if faults:
        raise Invalid(*faults[:20])
    if not found:
        raise Invalid(Fault("alert.info.area", "cap_area_without_place"))
    if len(found) > MAX_AREAS:
        raise Invalid(Fault("alert.info.area", "too_many", {"limit": MAX_AREAS}))
    return list(found)


def _of_area(
    area: CapArea, field: str, taking: Taking, devices: Mapping[UnitId, list[Point | None]]
) -> Iterator[AreaWish]:
    """The union of what it names: units by code, and shapes where somebody of ours is known to stand inside."""
    tree = taking.by.tree
    codes = {unit.code: unit.unit_id for unit in map(tree.get, tree.subtree(taking.unit_id)) if unit is not None}
    names = {each.casefold() for each in taking.unit_codes}
    ours = [each.value for each in area.geocodes if each.name.casefold() in names]
    unknown = [code for code in ours if code not in codes]
    if unknown:
        raise Invalid(
            Fault(
                f"{field}.geocode", "cap_area_unknown", {"value": ", ".join(unknown[:10]), "name": taking.unit_codes[0]}
            )
        )
    if not ours and not area.polygons and not area.circles:
        named = ", ".join(f"{each.name}={each.value}" for each in area.geocodes[:10]) or area.description[:80]
        raise Invalid(Fault(field, "cap_area_unknown", {"value": named, "name": taking.unit_codes[0]}))
    if ours:
        yield AreaWish(units=tuple(codes[code] for code in dict.fromkeys(ours)))
    if not area.polygons and not area.circles:
        return
    # Feeds send the shapes of whole countries: those with nobody of ours near them are left out before anything is
    # counted, or made simpler, which takes time.
    known = [point for points in devices.values() for point in points if point is not None]
    near = [corners for corners in area.polygons if shapes.may_hold_any(corners, known)]
    polygons = shapes.cover_all(near, most=MAX_SHAPES, limit=MAX_CORNERS)
    circles = tuple(
        circle
        for each in area.circles
        for circle in [Circle(centre=each.centre, radius_m=max(1, round(each.radius_km * 1_000)))]
        if any(shapes.is_in_circle(circle, point) for point in known)
    )
    if len(circles) > MAX_SHAPES:
        raise Invalid(Fault(field, "too_many", {"limit": MAX_SHAPES}))
    units = [
        unit
        for unit, points in devices.items()
        if any(
            point is not None
            and (
                any(shapes.is_in_polygon(polygon, point) for polygon in polygons)
                or any(shapes.is_in_circle(circle, point) for circle in circles)
            )
            for point in points
        )
    ]
    if units:
        # Units in which nobody has a place are warned too: they may well lie inside.
        blank = [unit for unit, points in devices.items() if all(point is None for point in points)]
        yield AreaWish(units=(*units, *blank), polygons=polygons, circles=circles)
    elif not ours:
        raise Invalid(Fault(field, "cap_area_outside", {"value": area.description[:80]}))


async def _positions(connection: Connection, unit_ids: tuple[UnitId, ...]) -> dict[UnitId, list[Point | None]]:
    rows: list[Record] = await alert_store.positions(connection, unit_ids)
    found: dict[UnitId, list[Point | None]] = {}
    for row in rows:
        point = Point(latitude=row["latitude"], longitude=row["longitude"]) if row["latitude"] is not None else None
        found.setdefault(UnitId(row["unit_id"]), []).append(point)
    return found


async def keep(connection: Connection, taking: Taking, alert: Alert) -> None:
    """Keep the message as it came. Raises `Invalid` where somebody else has taken it in meanwhile."""
    is_first = await cap_store.keep_cap(
        connection,
        taking.message.reference,
        taking.message.message_type.value,
        alert.alert_id,
        taking.unit_id,
        taking.document,
        by=taking.by.account_id,
        at=taking.now,
    )
    if not is_first:
        raise known_already(taking.message)
