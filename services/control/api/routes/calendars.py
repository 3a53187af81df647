"""Calendar feeds: what is planned in a unit or on a device, for any calendar program (RFC 5545). They only read."""

from __future__ import annotations

import asyncio
import uuid
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from schemas.identifiers import UnitId
from services.control import calendar_store, calendars, device_store
from services.control.api.access import Scope, requires_of_calendars
from services.control.api.context import Caller, Parts, Services
from services.control.api.errors import language_of
from services.control.calendars import Feed, Occurrence
from services.control.catalogue.texts import Language
from services.control.permissions import Permission
from services.control.planning.recurrence import start_of
from services.control.proof_sheet_store import Held
from services.control.units import UnitHistory

SUFFIX = "/calendar.ics"
# How far back a calendar reaches, and how far ahead at most; what is planned ends with the horizon.
PAST = timedelta(days=7)
COMING = timedelta(days=62)
# Items that are read for one calendar at most; a province has so many in a week, and the farthest are left out.
MAX_ITEMS = 20_000

router = APIRouter(prefix="/api/v1", tags=["calendars"])

UnitReader = Annotated[Caller, requires_of_calendars(Permission.SEE_BROADCASTS, Scope.UNIT)]
DeviceReader = Annotated[Caller, requires_of_calendars(Permission.SEE_BROADCASTS, Scope.DEVICE)]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}},
}


@router.get("/units/{unit_id}" + SUFFIX, responses=_ANSWERS, response_class=Response)
async def unit_calendar(unit_id: uuid.UUID, request: Request, caller: UnitReader, services: Parts) -> Response:
    """What is planned on the devices of a unit and below: an event per occurrence, from a week ago to the end of the horizon.

    Calendar programs log in with HTTP Basic: the account's login, and an API token as password. The address of a unit
    that a reform closes goes on with the unit it went over into.
    """
    first, end = _span(services, caller.now)
    zone = services.directory.zone
    async with services.database.connection() as connection:
        history = await services.directory.history(connection)
        held = [
            Held(begins_at=start_of(since, zone), ends_at=start_of(until, zone), unit_ids=units)
            for since, until in history.spans(first, end)
            if (units := history.on(since).subtree(UnitId(unit_id)))
        ]
        occurrences = await calendar_store.of_units(connection, held, limit=MAX_ITEMS)
    unit = caller.rights.tree.get(UnitId(unit_id)) or history.last(UnitId(unit_id))
    feed = _feed(str(unit_id), unit.name if unit is not None else str(unit_id), occurrences, first, services)
    return await _answer(feed, occurrences, history, services, language_of(request), caller.now)


@router.get("/devices/{device_id}" + SUFFIX, responses=_ANSWERS, response_class=Response)
async def device_calendar(device_id: str, request: Request, caller: DeviceReader, services: Parts) -> Response:
    """What is planned on one device: an event per occurrence, from a week ago to the end of the horizon."""
    first, end = _span(services, caller.now)
    zone = services.directory.zone
    async with services.database.connection() as connection:
        device = await device_store.device(connection, device_id, now=caller.now)
        history = await services.directory.history(connection)
        occurrences = await calendar_store.of_device(
            connection, device_id, begins_at=start_of(first, zone), ends_at=start_of(end, zone), limit=MAX_ITEMS
        )
    feed = _feed(
        device_id,
        device.name,
        occurrences,
        first,
        services,
        latitude=device.latitude,
        longitude=device.longitude,
    )
    return await _answer(feed, occurrences, history, services, language_of(request), caller.now)


def _span(services: Services, now: datetime) -> tuple[date, date]:
    today = services.directory.today(now=now)
    return today - PAST, today + COMING


def _feed(
    key: str,
    name: str,
    occurrences: tuple[Occurrence, ...],
    first: date,
    services: Services,
    *,
    latitude: float | None = None,
    longitude: float | None = None,
) -> Feed:
    last = max((each.starts_at for each in occurrences), default=None)
    return Feed(
        key=key,
        name=name,
        first=first,
        last=services.directory.today(now=last) if last is not None else first + PAST,
        latitude=latitude,
        longitude=longitude,
    )


async def _answer(
    feed: Feed,
    occurrences: tuple[Occurrence, ...],
    history: UnitHistory,
    services: Services,
    language: Language,
    now: datetime,
) -> Response:
    issuers = {
        each.issuer_id: unit.name
        for each in occurrences
        if (unit := history.on(services.directory.today(now=each.starts_at)).get(each.issuer_id)) is not None
    }
    # A province's week takes a second to write: beside the event loop.
    content = await asyncio.to_thread(
        calendars.as_ics,
        feed,
        occurrences,
        issuers=issuers,
        zone=services.directory.zone,
        language=language,
        now=now,
    )
    return Response(
        content,
        media_type=calendars.MEDIA_TYPE,
        headers={"Content-Disposition": 'inline; filename="loa.ics"', "Cache-Control": "private, no-cache"},
    )
