"""The page of what waits for a second person, or was done by one alone: read, then confirmed, refused or acknowledged."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from schemas.identifiers import UnitId
from services.control.alerting.documents import draft_of
from services.control.alerting.model import AlertDraft
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.requests import RequestView
from services.control.api.routes import operation_requests as request_routes
from services.control.api.what_if import WhatIf
from services.control.catalogue.texts import Language, text
from services.control.errors import Fault, Invalid, Refusal
from services.control.operation_kinds import PERMISSIONS, Kind, left_out
from services.control.operation_store import RequestState
from services.control.pages.broadcast_pages import targets_of
from services.control.pages.emergencies import is_mendable
from services.control.pages.foresight import Foreseen, titles_in
from services.control.pages.forms import Sent, checked, form_of, given, only, returned
from services.control.pages.lookups import code_asked, contents_of_wishes
from services.control.pages.pages import page, wording_of
from services.control.permissions import Permission
from services.control.wish_documents import wish_of

router = APIRouter(include_in_schema=False)

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
# The right that is needed depends on what is asked for: `operations.permission_of` knows.
Decider = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.BODY)]

# What changes something that is planned, so that one can be told what.
_PLANNED = frozenset({Kind.LIVE, Kind.LIVE_CHANGE, Kind.RELAY_CHANGE, Kind.VOLUME})
_DECISIONS = ("confirm", "refuse", "acknowledge")


@router.get("/alerts/requests/{request_id}", response_class=HTMLResponse)
async def request_page(request_id: uuid.UUID, request: Request, caller: Seer, services: Parts) -> Response:
    """What was asked for by whom, all of it, and the buttons."""
    return await _request_page(request_id, request, caller, services)


@router.post("/alerts/requests/{request_id}", response_class=HTMLResponse)
async def decide(
    request_id: uuid.UUID, request: Request, caller: Decider, services: Parts, metrics: Metered
) -> Response:
    """Confirm what was shown (its digest says so), refuse it, or acknowledge what was done alone."""
    form = await form_of(request)
    values = given(form, "do", "digest", "note", "code")
    try:
        match values.get("do"):
            case "confirm":
                body = checked(request_routes.Confirmation, given(form, "digest"))
                answer = await request_routes.confirm(
                    request_id, body, caller, services, metrics, second_factor=values.get("code")
                )
            case "refuse":
                refusal = checked(request_routes.Refusal, given(form, "note"))
                answer = await request_routes.refuse_request(request_id, refusal, caller, services, metrics)
            case "acknowledge":
                answer = await request_routes.acknowledge_request(request_id, caller, services, metrics)
            case _:
                raise Invalid(Fault("do", "not_one_of", {"expected": ", ".join(_DECISIONS)}))
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=only("code", "note"))
        sent = Sent(about="request", form=form, back=back)
        return await _request_page(request_id, request, caller, services, sent=sent)
    return RedirectResponse(_next_page(answer), status_code=HTTPStatus.SEE_OTHER)


def _next_page(answer: RequestView) -> str:
    """The alert that is on its way now; else the request as it was decided."""
    if answer.state is RequestState.CONFIRMED and answer.alert_id is not None:
        return f"/alerts/{answer.alert_id}"
    return f"/alerts/requests/{answer.request_id}"


async def _request_page(
    request_id: uuid.UUID, request: Request, caller: Caller, services: Services, *, sent: Sent | None = None
) -> Response:
    found = await request_routes.get_request(request_id, caller, services)
    permission = PERMISSIONS[Kind(found.kind)]
    is_own = found.asked_by == caller.actor.account_id
    may = caller.rights.may(permission, UnitId(found.unit_id))
    is_waiting = found.state is RequestState.WAITING and caller.now < found.expires_at
    wish = wish_of(found.content["wish"]) if found.kind in (Kind.LIVE, Kind.LIVE_CHANGE) else None
    may_confirm = is_waiting and may and not is_own
    foreseen, hindrance = None, None
    if may_confirm and found.kind in _PLANNED:
        try:
            foreseen = await _foreseen(found, caller, services)
        except Refusal as error:
            hindrance = returned(error, wording_of(request, services).language)
    async with services.database.connection() as connection:
        contents = () if wish is None else (await contents_of_wishes(connection, [wish]))[0]
        targets = () if wish is None else await targets_of(connection, wish, caller)
    return page(
        request,
        services,
        "request.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        units=caller.rights.tree,
        found=found,
        drafts=_drafts(found),
        wish=wish,
        contents=contents,
        targets=targets,
        claimed=[each["device_id"] for each in found.content.get("claims", ())],
        released=[UnitId(uuid.UUID(each)) for each in found.content.get("units", ())],
        left_out=_left_out(found, wording_of(request, services).language),
        is_own=is_own,
        is_waiting=is_waiting,
        foreseen=foreseen,
        hindrance=hindrance,
        may_confirm=may_confirm,
        may_refuse=is_waiting and may,
        may_acknowledge=may and not is_own and found.state is RequestState.ALONE and found.acknowledged_at is None,
        code=await code_asked(services, caller) if is_waiting else "",
        sent=sent,
    )


async def _foreseen(found: RequestView, caller: Caller, services: Services) -> Foreseen:
    """What confirming it would do. Raises what confirming it would raise."""
    body = request_routes.Confirmation(digest=found.digest)
    what_if = WhatIf(dry_run=True)
    tried = await request_routes.rehearse(found.request_id, body, caller, services, what_if)
    # A broadcast that is not stored yet is called as it asks to be.
    titles = await titles_in(services, tried.outlook, {})
    named = {each.broadcast_id for each in (*tried.outlook.findings, *tried.outlook.settled)}
    return Foreseen(outlook=tried.outlook, titles={**dict.fromkeys(named - titles.keys(), found.summary), **titles})


def _left_out(found: RequestView, language: Language) -> list[str]:
    """What of a CAP message is said to nobody here."""
    return [text(f"fault.{each.code}.message", language, each.facts) for each in left_out(found.content)]


def _drafts(found: RequestView) -> list[AlertDraft]:
    """What would be said: of a CAP message to each of its grounds; nothing of what is no alert in words."""
    alone = found.content.get("draft")
    return [draft_of(each) for each in ([alone] if alone is not None else found.content.get("drafts", ()))]
