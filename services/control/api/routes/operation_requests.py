"""What waits for a second person, and what one person did alone: read, confirmed, refused, acknowledged."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import operation_performing, operation_store, operations, relay_store
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.fields import Answer, Body, Limit, Note, Sha256Text
from services.control.api.requests import RequestView, by, means, request_view, request_views
from services.control.api.step_up import GivenCode
from services.control.api.what_if import AskedWhatIf, OutlookView, WhatIf
from services.control.broadcasts import Accepted
from services.control.errors import Conflict, Forbidden
from services.control.metrics import ControlMetrics
from services.control.offers import Scheduled
from services.control.operation_kinds import Kind
from services.control.operation_performing import Done
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


class RehearsedRequest(Answer):
    """What confirming a request would do: how many devices it touches by now, and what people would hear otherwise."""

    devices: int
    outlook: OutlookView


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
    what_if: AskedWhatIf,
    second_factor: GivenCode = None,
) -> RequestView | RehearsedRequest:
    """Be the second person: it is carried out at once, judged by what there is now. Never one's own request.

    A dry run tells of what changes something that is planned; alerts, silences, tests and codes do not.
    """
    if what_if.dry_run:
        return await rehearse(request_id, body, caller, services, what_if)
    return await confirm(request_id, body, caller, services, metrics, second_factor=second_factor)


async def confirm(
    request_id: uuid.UUID,
    body: Confirmation,
    caller: Caller,
    services: Services,
    metrics: ControlMetrics,
    *,
    second_factor: str | None,
) -> RequestView:
    """Carry it out with the second person's word."""
    await _demand_right(services, caller, request_id)
    await step_up.demand(services, caller, step_up.Operation.SECOND_PERSON, code=second_factor)
    async with _deciding(services, caller, metrics, request_id, "second_person_confirm") as (connection, request):
        confirmed = await operations.confirm(
            connection, request, bytes.fromhex(body.digest), by=by(caller), means=means(services), now=caller.now
        )
    decided = confirmed.request
    if decided.alert_id is not None:
        services.wake_alerts()
        metrics.alerts_issued.labels(decided.kind).inc()
    return await request_view(services, decided)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What confirming would carry out, and how many devices it touches by now."""

    done: Done
    devices: int


async def rehearse(
    request_id: uuid.UUID, body: Confirmation, caller: Caller, services: Services, what_if: WhatIf
) -> RehearsedRequest:
    """What confirming it would do. Nobody is the second person by that, so nobody is asked for a factor.

    Raises `Conflict` for what changes nothing that is planned: no alert is signed, and no lock of alerts held, to tell so.
    """
    await _demand_right(services, caller, request_id)
    ground = await _ground(request_id, caller, services)

    async def save(connection: Connection) -> _Tried:
        request = await _locked(connection, request_id, caller)
        digest = bytes.fromhex(body.digest)
        confirmed = await operations.confirm(
            connection, request, digest, by=by(caller), means=means(services), now=caller.now
        )
        operation = operations.operation_of(request)
        devices = await operation_performing.touched(connection, operation, confirmed.done, caller.rights.tree)
        return _Tried(done=confirmed.done, devices=len(devices))

    tried, outlook = await what_if.carry_out(services, caller, save, unit_id=ground, first_day=_first_day)
    assert outlook is not None, "it was a dry run"
    return RehearsedRequest(devices=tried.devices, outlook=outlook)


async def _ground(request_id: uuid.UUID, caller: Caller, services: Services) -> UnitId | None:
    """Below which unit carrying it out can change what is planned; None is everywhere, where it changes devices."""
    async with services.database.connection() as connection:
        request = await operation_store.request(connection, request_id)
        match request.kind:
            case Kind.LIVE | Kind.LIVE_CHANGE:
                return request.unit_id
            case Kind.RELAY_CHANGE:
                concerned = await relay_store.issuers_with(connection, uuid.UUID(request.document["source_id"]))
                return caller.rights.tree.common(concerned) or concerned[0]
            case Kind.VOLUME:
                return None
            case _:
                raise Conflict("request_plans_nothing")


def _first_day(tried: _Tried) -> date | None:
    match tried.done.answer:
        case Accepted(first_day=day) | Scheduled(accepted=Accepted(first_day=day)):
            return day
        case _:
            return None


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
        yield connection, await _locked(connection, request_id, caller)


async def _locked(connection: Connection, request_id: uuid.UUID, caller: Caller) -> Request:
    """The request until the transaction ends, where one has the right over the unit that speaks."""
    request = await operations.locked(connection, request_id, tree=caller.rights.tree)
    caller.demand(operations.permission_of(request), request.unit_id, field="request_id")
    return request
