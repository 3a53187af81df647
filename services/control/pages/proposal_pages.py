"""The pages of proposed alerts: what proposed one, what would sound where, and the word of a person: release or refuse."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from schemas.identifiers import DeviceId
from services.control import account_store, alerts
from services.control.alerting import alert_store, proposal_store
from services.control.alerting.proposal import Proposal
from services.control.alerts import By
from services.control.api.access import Scope, requires
from services.control.api.alert_bodies import AlertView
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.requests import RequestView
from services.control.api.routes import proposals as proposal_routes
from services.control.errors import Fault, Forbidden, Invalid, Refusal
from services.control.pages.emergencies import aim_of_alert, alone_of, asks_second, is_mendable, key_of, once
from services.control.pages.forms import Sent, checked, form_of, given, only, returned
from services.control.pages.lookups import code_asked
from services.control.pages.pages import page, wording_of
from services.control.permissions import Permission
from services.control.planning.policies import Danger
from services.control.versions import etag
from services.shared.database.pool import Connection

router = APIRouter(include_in_schema=False)

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.BODY)]

_WAITING_SHOWN, _DECIDED_SHOWN = 200, 30
_DECISIONS = ("release", "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a sensor said, and since when it has been beyond the threshold."""

    device_id: str
    value: float | None
    at: datetime | None
    since: datetime | None
    may_see: bool


@router.get("/alerts/proposals", response_class=HTMLResponse)
async def proposals_page(request: Request, caller: Seer, services: Parts) -> Response:
    """What waits for somebody's word, and what became of the others."""
    ground = caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS))
    async with services.database.connection() as connection:
        waiting = await proposal_store.on_ground(
            connection, ground, is_waiting=True, now=caller.now, limit=_WAITING_SHOWN
        )
        rest = await proposal_store.on_ground(
            connection, ground, is_waiting=False, now=caller.now, limit=_DECIDED_SHOWN + len(waiting)
        )
    open_ids = {each.alert.alert_id for each in waiting}
    return page(
        request,
        services,
        "proposals.html",
        caller=caller,
        units=caller.rights.tree,
        waiting=sorted(waiting, key=lambda each: (-each.alert.draft.severity.number, each.expires_at)),
        decided=[each for each in rest if each.alert.alert_id not in open_ids][:_DECIDED_SHOWN],
    )


@router.get("/alerts/proposals/{alert_id}", response_class=HTMLResponse)
async def proposal_page(alert_id: uuid.UUID, request: Request, caller: Seer, services: Parts) -> Response:
    """What proposed it, what would be said to whom, and the buttons."""
    return await _proposal_page(alert_id, request, caller, services)


@router.post("/alerts/proposals/{alert_id}", response_class=HTMLResponse)
async def decide(
    alert_id: uuid.UUID, request: Request, caller: Releaser, services: Parts, metrics: Metered
) -> Response:
    """Release it exactly as it was shown, or decide against it with a reason."""
    form = await form_of(request)
    values = given(form, "do", "version", "code")
    version = etag(values.get("version", ""))

    async def again(sent: Sent) -> Response:
        return await _proposal_page(alert_id, request, caller, services, sent=sent)

    async def release(code: str | None) -> AlertView | RequestView:
        return await proposal_routes.release_proposal(
            alert_id,
            proposal_routes.ProposalReleaseBody(),
            caller,
            Response(),
            services,
            metrics,
            if_match=version,
            second_factor=code,
            break_glass=alone_of(form),
        )

    if values.get("do") == "release":
        asked = ["proposal", str(alert_id), values.get("version")]
        return await once(form, asked, release, again, request, caller, services)
    try:
        if values.get("do") != "refuse":
            raise Invalid(Fault("do", "not_one_of", {"expected": ", ".join(_DECISIONS)}))
        body = checked(proposal_routes.ProposalRefusalBody, given(form, "reason"))
        await proposal_routes.refuse_proposal(
            alert_id,
            body,
            caller,
            Response(),
            services,
            metrics,
            if_match=version,
            second_factor=values.get("code"),
        )
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=only("reason", "code"))
        return await again(Sent(about="refuse", form=form, back=back))
    return RedirectResponse("/alerts/proposals", status_code=HTTPStatus.SEE_OTHER)


async def _proposal_page(
    alert_id: uuid.UUID, request: Request, caller: Caller, services: Services, *, sent: Sent | None = None
) -> Response:
    shown = await proposal_routes.get_proposal(alert_id, caller, Response(), services)
    async with services.database.connection() as connection:
        found = await proposal_store.proposal(connection, alert_id)
        people = [shown.decided_by] if shown.decided_by is not None else []
        names = await account_store.display_names(connection, people)
        is_waiting = found.is_waiting(now=caller.now)
        may = is_waiting and await _may_release(connection, found, caller)
        told = await _told(connection, found, caller)
        ends = [await alert_store.alert(connection, each) for each in found.alert.draft.references]
    aim = await aim_of_alert(found.alert, caller, services)
    draft = found.alert.draft
    return page(
        request,
        services,
        "proposal.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        units=caller.rights.tree,
        found=found,
        draft=draft,
        alert=found.alert,
        aim=aim,
        until=caller.now + found.validity if is_waiting and found.validity is not None else draft.valid_until,
        is_waiting=is_waiting,
        may_release=may,
        decided_by=names.get(found.decided_by) if found.decided_by is not None else None,
        told=told,
        said_at=_instant(found.reason["sent"]) if "sent" in found.reason else None,
        ends=ends,
        sees_rule=caller.rights.may(Permission.SEE_ALERTS, draft.unit_id),
        code=await code_asked(services, caller) if may else "",
        key=key_of(sent),
        asks_second=may and await asks_second(aim.device_nos, Danger.ALERTS, caller, services),
        sent=sent,
    )


async def _told(connection: Connection, proposal: Proposal, caller: Caller) -> list[Told]:
    """What the sensors said that the proposal rests on."""
    facts = proposal.reason.get("sensors", ())
    known = await alert_store.named_devices(connection, [DeviceId(each["device_id"]) for each in facts])
    return [
        Told(
            device_id=each["device_id"],
            value=each["value"],
            at=_instant(each["at"]),
            since=_instant(each["since"]),
            may_see=(device := known.get(DeviceId(each["device_id"]))) is not None
            and caller.rights.may(Permission.SEE_DEVICES, device.unit_id),
        )
        for each in facts
    ]


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


async def _may_release(connection: Connection, proposal: Proposal, caller: Caller) -> bool:
    """Whether all of its ground is one's own."""
    by = By(tree=caller.rights.tree, rights=caller.rights, actor=caller.actor, origin=caller.origin)
    try:
        await alerts.demand_ground(connection, proposal.alert.draft, by=by)
    except Forbidden:
        return False
    return True
