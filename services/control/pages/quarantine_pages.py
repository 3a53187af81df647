"""The pages of the quarantine inbox: the same questions and decisions as its API, with the same permissions."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from services.control import quarantine, quarantine_store
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.routes.quarantine import CorrectionBody, DecisionBody, QuarantineId, by, bytes_view
from services.control.errors import Refusal
from services.control.pages.forms import MENDABLE, Sent, checked, form_of, given, only, returned
from services.control.pages.pages import page, wording_of
from services.control.permissions import Permission
from services.control.quarantine_corrections import Edit
from services.control.quarantine_forecast import Reason
from services.control.quarantine_store import STANDINGS, Filter

router = APIRouter(include_in_schema=False)

Reader = Annotated[Caller, requires(Permission.SEE_QUARANTINE, Scope.ROOT)]
Decider = Annotated[Caller, requires(Permission.DECIDE_QUARANTINE, Scope.ROOT)]
Corrector = Annotated[Caller, requires(Permission.CORRECT_QUARANTINE, Scope.ROOT)]

_SHOWN = 100


@router.get("/quarantine", response_class=HTMLResponse)
async def inbox_page(
    request: Request,
    caller: Reader,
    services: Parts,
    standing: Annotated[Literal["open", "waiting", "replayed", "discarded"], Query()] = "open",
    reason: Annotated[Reason | None, Query()] = None,
    after: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Response:
    """What is in quarantine, and how much for which reason."""
    return await _inbox_page(request, caller, services, standing=standing, reason=reason, after=after)


async def _inbox_page(
    request: Request,
    caller: Caller,
    services: Services,
    *,
    standing: str = "open",
    reason: str | None = None,
    after: int | None = None,
    sent: Sent | None = None,
) -> Response:
    """The inbox; `sent` is a decision that was not taken."""
    async with services.database.connection() as connection:
        counts = await quarantine_store.counts(connection)
        found, more_after = await quarantine_store.inmates(
            connection, Filter(standing=standing, reason=reason), after=after, limit=_SHOWN
        )
    more = {"standing": standing, "reason": reason, "after": more_after}
    return page(
        request,
        services,
        "quarantine.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        sent=sent,
        counts=counts,
        inmates=found,
        standing=standing,
        standings=STANDINGS,
        reason=reason,
        may_decide=caller.rights.may_in_root(Permission.DECIDE_QUARANTINE),
        more_query=urlencode({name: each for name, each in more.items() if each is not None}) if more_after else "",
    )


@router.post("/quarantine/replay")
async def replay_reason(request: Request, caller: Decider, services: Parts, metrics: Metered) -> Response:
    """Have everything that is open for one reason judged anew."""
    form = await form_of(request)
    try:
        body = checked(DecisionBody, {"matching": given(form, "reason"), **given(form, "why")})
        assert body.matching is not None
        async with services.database.transaction() as connection:
            made = await quarantine.replay_matching(
                connection, Filter(reason=body.matching.reason), limit=body.limit, why=body.why, by=by(caller)
            )
    except MENDABLE as error:
        sent = _sent("replay", form, error, request, services)
        reason = sent.typed("reason") if sent.typed("reason") in set(Reason) else None
        return await _inbox_page(request, caller, services, reason=reason, sent=sent)
    metrics.quarantine_decisions.labels("replay").inc(made.inmates)
    return RedirectResponse("/quarantine?standing=waiting", status_code=HTTPStatus.SEE_OTHER)


@router.get("/quarantine/{quarantine_id}", response_class=HTMLResponse)
async def inmate_page(quarantine_id: QuarantineId, request: Request, caller: Reader, services: Parts) -> Response:
    """One inmate: what it says, why it is here, what can be done."""
    return await _inmate_page(quarantine_id, request, caller, services)


async def _inmate_page(
    quarantine_id: int, request: Request, caller: Caller, services: Services, *, sent: Sent | None = None
) -> Response:
    """One inmate; `sent` is a decision or a correction that was not taken."""
    async with services.database.connection() as connection:
        inmate = await quarantine_store.inmate(connection, quarantine_id)
        corrections = await quarantine_store.corrections(connection, quarantine_id)
        outcomes = await quarantine_store.outcomes(connection, quarantine_id)
        foreseen = await quarantine.foresee(connection, inmate, corrections[0] if corrections else None)
        decision = (
            await quarantine_store.decision(connection, inmate.decision_id) if inmate.decision_id is not None else None
        )
        known = await quarantine_store.known(connection, [inmate.device_id] if inmate.device_id else [])
    return page(
        request,
        services,
        "inmate.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        sent=sent,
        address=f"/quarantine/{quarantine_id}",
        inmate=inmate,
        is_registered=bool(known),
        original=bytes_view(inmate.topic, inmate.payload),
        corrections=[(each, bytes_view(each.topic, each.payload)) for each in corrections],
        outcomes=outcomes,
        decision=decision,
        foreseen=foreseen,
        may_decide=caller.rights.may_in_root(Permission.DECIDE_QUARANTINE),
        may_correct=caller.rights.may_in_root(Permission.CORRECT_QUARANTINE),
    )


@router.post("/quarantine/{quarantine_id}")
async def decide(
    quarantine_id: QuarantineId, request: Request, caller: Decider, services: Parts, metrics: Metered
) -> Response:
    """Replay or discard one inmate."""
    form = await form_of(request)
    is_replay = form.get("decision") == "replay"
    act = quarantine.replay if is_replay else quarantine.discard
    try:
        body = checked(DecisionBody, {"quarantine_ids": [quarantine_id], **given(form, "why")})
        async with services.database.transaction() as connection:
            await act(connection, [quarantine_id], why=body.why, by=by(caller))
    except MENDABLE as error:
        sent = _sent("decide", form, error, request, services)
        return await _inmate_page(quarantine_id, request, caller, services, sent=sent)
    metrics.quarantine_decisions.labels("replay" if is_replay else "discard").inc()
    return RedirectResponse(f"/quarantine/{quarantine_id}", status_code=HTTPStatus.SEE_OTHER)


@router.post("/quarantine/{quarantine_id}/correct")
async def correct(
    quarantine_id: QuarantineId, request: Request, caller: Corrector, services: Parts, metrics: Metered
) -> Response:
    """Keep a corrected copy."""
    form = await form_of(request)
    values = given(form, "device_id", "payload_diagnostic", "version", "why")
    # The button that sets the version says nothing of what was typed beside it.
    wanted = {**values, "version": 1, "payload_diagnostic": None} if "version" in values else values
    try:
        body = checked(CorrectionBody, wanted)
        async with services.database.transaction() as connection:
            edit = Edit(**body.model_dump(exclude={"why"}))
            await quarantine.correct(connection, quarantine_id, edit, why=body.why, by=by(caller))
    except MENDABLE as error:
        sent = _sent("correct", form, error, request, services)
        return await _inmate_page(quarantine_id, request, caller, services, sent=sent)
    metrics.quarantine_decisions.labels("correct").inc()
    return RedirectResponse(f"/quarantine/{quarantine_id}", status_code=HTTPStatus.SEE_OTHER)


def _sent(about: str, form: FormData, error: Refusal, request: Request, services: Services) -> Sent:
    language = wording_of(request, services).language
    back = returned(error, language, place_of=only("why", "device_id", "payload_diagnostic"))
    return Sent(about=about, form=form, back=back)
