"""The page that answers why a device sounds what it sounds, now or at an instant that somebody chooses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from schemas.identifiers import UnitId
from services.control import device_store, explanations
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import END_OF_DAYS, FIRST_DAY
from services.control.pages.pages import page, trail_of
from services.control.permissions import Permission
from services.control.planning.model import Problem

router = APIRouter(include_in_schema=False)

DeviceWatcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.DEVICE)]

_LONGEST = 40  # characters of an instant as browsers send it


@router.get("/devices/{device_id}/why", response_class=HTMLResponse)
async def why_page(
    device_id: str,
    request: Request,
    caller: DeviceWatcher,
    services: Parts,
    at: Annotated[str | None, Query(max_length=_LONGEST)] = None,
) -> Response:
    """What should sound at an instant, what lost to it and by what, and what was refused by which rule."""
    zone = services.directory.zone
    chosen = _instant(at) if at else caller.now.astimezone(zone).replace(tzinfo=None)
    instant = caller.now if chosen is None or not at else chosen.replace(tzinfo=zone)
    async with services.database.connection() as connection:
        device = await device_store.device(connection, device_id, now=caller.now)
        told = await explanations.explain(
            connection, device, at=instant, now=caller.now, zone=zone, horizon_days=services.horizon_days
        )
    tree = caller.rights.tree

    def unit_name(problem: Problem) -> str:
        unit = tree.get(problem.unit_id) if problem.unit_id is not None else None
        return unit.name if unit is not None else ""

    return page(
        request,
        services,
        "why.html",
        caller=caller,
        trail=trail_of(caller, UnitId(device.unit_id)),
        unit=tree.get(device.unit_id),
        unit_id=device.unit_id,
        device=device,
        told=told,
        found=told.explanation,
        titles=told.titles,
        unit_name=unit_name,
        is_bad=chosen is None,
        field=(at or "") if chosen is None else chosen.isoformat(timespec="minutes"),
    )


def _instant(text: str) -> datetime | None:
    """A local day and time as a browser's field gives them; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    is_local = found.tzinfo is None and FIRST_DAY <= found.date() < END_OF_DAYS
    return found if is_local else None
