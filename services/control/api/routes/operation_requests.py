"""What waits for a second person, and what one person did alone: read, confirmed, refused, acknowledged."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from services.control import operation_store, operations
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.fields import Body, Limit, Note, Sha256Text
from services.control.api.requests import RequestView, by, means, request_view, request_views
from services.control.api.step_up import GivenCode
from services.control.errors import Forbidden
from services.control.metrics import ControlMetrics
from services.control.operation_store import Request, RequestState
from services.control.permissions import Permission
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/operation-requests", tags=["alerts"])

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
# The right that is needed depends on what is asked for: `operations.permission_of` knows.
Decider = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.BODY)]


class Confirmation(Body):
    """What one has read."""

    digest: Sha256Text = Field(description="`digest` of the request as it was shown")


class Refusal(Body):
    """Why not."""

    note: Note = ""


@router.get("")
async def list_requests(
    caller: Seer,
    services: Parts,
    state: Annotated[list[RequestState] | None, Query(max_length=len(RequestState))] = None,
    unacknowledged: Annotated[bool, Query(description="only what nobody has acknowledged")] = False,
    limit: Limit = 100,
) -> list[RequestView]:
    """What waits on the ground one sees and above it, by default; or what became of it. Newest first."""
    async with services.database.connection() as connection:
        found = await operation_store.requests_on(
            connection,
            caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS)),
            states=state or (RequestState.WAITING,),
            is_unacknowledged=unacknowledged,
            limit=limit,
        )
    return await request_views(services, found)


@router.get("/{request_id}")
async def get_request(request_id: uuid.UUID, caller: Seer, services: Parts) -> RequestView:
    """One of them, with all of what is carried out once it is confirmed."""
    async with services.database.connection() as connection:
        found = await operation_store.request(connection, request_id)
    if found.unit_id not in caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS)):
        raise operation_store.none_such(request_id)
    return await request_view(services, found)


@router.post("/{request_id}/confirm")
async def confirm_request(
    request_id: uuid.UUID,
    body: Confirmation,
    caller: Decider,
    services: Parts,
    metrics: Metered,
    second_factor: GivenCode = None,
) -> RequestView:
    """Be the second person: it is carried out at once, judged by what there is now. Never one's own request."""
    await _demand_right(services, caller, request_id)
    await step_up.demand(services, caller, step_up.Operation.SECOND_PERSON, code=second_factor)
    async with _deciding(services, caller, metrics, request_id, "second_person_confirm") as (connection, request):
        decided = await operations.confirm(
            connection, request, bytes.fromhex(body.digest), by=by(caller), means=means(services), now=caller.now
        )
    if decided.alert_id is not None:
        services.wake_alerts()
        metrics.alerts_issued.labels(decided.kind).inc()
    return await request_view(services, decided)


@router.post("/{request_id}/refuse")
async def refuse_request(
    request_id: uuid.UUID, body: Refusal, caller: Decider, services: Parts, metrics: Metered
) -> RequestView:
    """Say no to it, or take one's own back: it is not carried out."""
    await _demand_right(services, caller, request_id)
    async with _deciding(services, caller, metrics, request_id, "second_person_refuse") as (connection, request):
        decided = await operations.refuse(connection, request, note=body.note, by=by(caller), now=caller.now)
    return await request_view(services, decided)


@router.post("/{request_id}/acknowledge")
async def acknowledge_request(request_id: uuid.UUID, caller: Decider, services: Parts, metrics: Metered) -> RequestView:
    """Say that one knows what somebody else did alone (break-glass); it is not told to everybody any more."""
    await _demand_right(services, caller, request_id)
    async with _deciding(services, caller, metrics, request_id, "acknowledge") as (connection, request):
        decided = await operations.acknowledge(connection, request, by=by(caller), now=caller.now)
    return await request_view(services, decided)


async def _demand_right(services: Services, caller: Caller, request_id: uuid.UUID) -> None:
    """The right of the kind somewhere at least: who has it nowhere has nothing to do with it."""
    async with services.database.connection() as connection:
        request = await operation_store.request(connection, request_id)
    permission = operations.permission_of(request)
    if not caller.rights.may_anywhere(permission):
        raise Forbidden("not_permitted", facts={"permission": permission.value})


@asynccontextmanager
async def _deciding(
    services: Services, caller: Caller, metrics: ControlMetrics, request_id: uuid.UUID, action: str
) -> AsyncIterator[tuple[Connection, Request]]:
    """The request, locked, where one has the right over the unit that speaks; what is refused is on record."""
    async with services.database.connection() as connection:
        unit_id = (await operation_store.request(connection, request_id)).unit_id
    subject = f"request:{request_id}"
    async with (
        on_record(services, caller, metrics, action=action, subject=subject, unit_id=unit_id, facts={}),
        services.database.transaction() as connection,
    ):
        request = await operation_store.request_for_update(connection, request_id)
        caller.demand(operations.permission_of(request), request.unit_id, field="request_id")
        yield connection, request
