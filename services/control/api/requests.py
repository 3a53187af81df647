"""Operations that wait for a second person, or were done by one alone, as the API shows them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Response
from pydantic import Field

from services.control import account_store
from services.control.alerts import By
from services.control.api.context import Caller, Services
from services.control.api.fields import Answer
from services.control.operation_kinds import Kind, Means
from services.control.operation_store import Request, RequestState


class RequestView(Answer):
    """What somebody asked for, how it stands, and what a second person confirms: `digest` is that of what is shown."""

    request_id: uuid.UUID
    kind: Kind
    unit_id: uuid.UUID
    alert_id: uuid.UUID | None
    summary: str
    content: dict[str, Any] = Field(description="all of what is carried out once it is confirmed")
    digest: str
    devices: int = Field(description="how many devices it touched when it was asked for")
    devices_before: int = Field(
        description="how many others the same person had touched before, within the policy's period: they count along"
    )
    needed_from: int = Field(description="from how many on policy asked for a second person")
    asked_at: datetime
    asked_by: uuid.UUID
    asked_by_name: str
    expires_at: datetime
    state: RequestState
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    decided_by_name: str | None
    note: str | None
    acknowledged_at: datetime | None
    acknowledged_by: uuid.UUID | None


MAY_WAIT: dict[int | str, dict[str, Any]] = {202: {"model": RequestView, "description": "it waits for a second person"}}


def means(services: Services, alone: str | None = None) -> Means:
    """What carrying out takes here; `alone` is why somebody does not wait for a second person."""
    return Means(
        keyring=services.keyring,
        zone=ZoneInfo(services.policy.time_zone),
        rules=services.relays.rules,
        waits=services.policy.second_person_waits,
        alone=alone,
    )


def by(caller: Caller) -> By:
    """Who asks, or decides."""
    return By(tree=caller.rights.tree, rights=caller.rights, actor=caller.actor, origin=caller.origin)


async def waiting(services: Services, response: Response, request: Request) -> RequestView:
    """The answer of what waits for a second person: 202, and where it stands."""
    response.status_code = HTTPStatus.ACCEPTED
    response.headers["Location"] = f"/api/v1/operation-requests/{request.request_id}"
    return await request_view(services, request)


async def request_view(services: Services, request: Request) -> RequestView:
    """One of them."""
    (view,) = await request_views(services, [request])
    return view


async def request_views(services: Services, requests: Iterable[Request]) -> list[RequestView]:
    """Several, with the names of who asked and who decided."""
    found = list(requests)
    people = {each for request in found for each in (request.asked_by, request.decided_by) if each is not None}
    names: Mapping[uuid.UUID, str] = {}
    if people:
        async with services.database.connection() as connection:
            names = await account_store.display_names(connection, people)
    return [_view(each, names) for each in found]


def _view(request: Request, names: Mapping[uuid.UUID, str]) -> RequestView:
    return RequestView(
        request_id=request.request_id,
        kind=Kind(request.kind),
        unit_id=request.unit_id,
        alert_id=request.alert_id,
        summary=request.summary,
        content=dict(request.document),
        digest=request.digest.hex(),
        devices=request.devices,
        devices_before=request.devices_before,
        needed_from=request.needed_from,
        asked_at=request.asked_at,
        asked_by=request.asked_by,
        asked_by_name=names[request.asked_by],
        expires_at=request.expires_at,
        state=request.state,
        decided_at=request.decided_at,
        decided_by=request.decided_by,
        decided_by_name=names[request.decided_by] if request.decided_by is not None else None,
        note=request.note,
        acknowledged_at=request.acknowledged_at,
        acknowledged_by=request.acknowledged_by,
    )
