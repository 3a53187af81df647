"""The order in which a unit wants the priority broadcasts that sound in it (R-17)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import Field

from schemas.identifiers import BroadcastId, UnitId
from services.control import priorities, priority_store, versions
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.errors import documented
from services.control.api.fields import Answer, Body
from services.control.api.views import UnitRef, unit_ref
from services.control.api.what_if import AskedWhatIf, OutlookView
from services.control.permissions import Permission
from services.control.priority_store import PriorityBroadcast
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/units/{unit_id}/priority-order", tags=["priorities"])

Reader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.UNIT)]
Orderer = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.UNIT)]
IfMatch = Annotated[str | None, Header(description="ETag of the order that is meant")]


class PriorityOrder(Body):
    """Every priority broadcast that sounds in the unit, the first to win first."""

    order: list[uuid.UUID] = Field(max_length=priorities.MAX_ORDERED)


class PriorityView(Answer):
    """A priority broadcast that sounds in the unit."""

    broadcast_id: uuid.UUID
    title: str
    issued_by: UnitRef
    issued_at: datetime
    next_at: datetime | None = Field(description="when it begins next, as far as it is planned")
    place: int | None = Field(
        description="that the unit has given it; null: none yet, it stands behind those that have"
    )


class PriorityOrderView(Answer):
    """The priority broadcasts that sound in a unit, the first to win first."""

    unit: UnitRef
    order: list[PriorityView]


class OrderedView(PriorityOrderView):
    """The order as it is now, or, of a dry run, as it would be."""

    outlook: OutlookView | None = Field(description="of a dry run: what it would do; nothing was stored")


@router.get("", responses=documented([409]))
async def get_priority_order(
    unit_id: uuid.UUID, caller: Reader, response: Response, services: Parts
) -> PriorityOrderView:
    """In which order priority broadcasts win over one another here. The ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        order = await priorities.ordered(connection, UnitId(unit_id), **_when(caller, services))
    response.headers["ETag"] = versions.etag(priorities.version(order))
    return _view(UnitId(unit_id), order, caller)


@router.put("")
async def put_priority_order(
    unit_id: uuid.UUID,
    body: PriorityOrder,
    caller: Orderer,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
) -> OrderedView:
    """Order them all anew; none can be left out. 409 when another one has come in since it was read."""
    unit = UnitId(unit_id)

    async def save(connection: Connection) -> Sequence[PriorityBroadcast]:
        await priority_store.lock(connection, unit)
        present = await priorities.ordered(connection, unit, **_when(caller, services))
        shown = _view(unit, present, caller).model_dump(mode="json")
        versions.check(priorities.version(present), if_match, shown, given=body.model_dump(mode="json"))
        await priorities.put(
            connection,
            unit,
            present,
            [BroadcastId(each) for each in body.order],
            caller.rights.tree,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
        return await priorities.ordered(connection, unit, **_when(caller, services))

    order, outlook = await what_if.carry_out(services, caller, save, unit_id=unit)
    if outlook is None:
        response.headers["ETag"] = versions.etag(priorities.version(order))
    view = _view(unit, order, caller)
    return OrderedView(unit=view.unit, order=view.order, outlook=outlook)


def _when(caller: Caller, services: Parts) -> dict[str, Any]:
    return {"tree": caller.rights.tree, "today": services.directory.today(now=caller.now), "now": caller.now}


def _view(unit_id: UnitId, order: Sequence[PriorityBroadcast], caller: Caller) -> PriorityOrderView:
    tree = caller.rights.tree
    return PriorityOrderView(
        unit=unit_ref(tree, unit_id),
        order=[
            PriorityView(
                broadcast_id=each.broadcast_id,
                title=each.title,
                issued_by=unit_ref(tree, each.unit_id),
                issued_at=each.issued_at,
                next_at=each.next_at,
                place=each.place,
            )
            for each in order
        ],
    )
