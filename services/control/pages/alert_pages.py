"""The pages of alerts: what is in force, whom it reached and whom not, and how it is ended. By the functions of the API."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from schemas.identifiers import UnitId
from services.control import alerts, operation_store, policies, policy_store
from services.control.alerting import alert_store, proposal_store
from services.control.alerting.model import Alert, State
from services.control.alerting.reach import REASONS
from services.control.api.access import Scope, requires
from services.control.api.alert_bodies import StopBody
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.fields import uuid_of
from services.control.api.routes import alert_reach
from services.control.api.routes import alerts as alert_routes
from services.control.errors import Refusal
from services.control.operation_store import RequestState
from services.control.pages.emergencies import is_mendable
from services.control.pages.forms import Sent, form_of, given, only, returned
from services.control.pages.lookups import code_asked
from services.control.pages.pages import page, wording_of
from services.control.permissions import Permission
from services.control.versions import etag

router = APIRouter(include_in_schema=False)

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.BODY)]

_STANDING, _OVER_SHOWN, _REQUESTS_SHOWN = 200, 30, 50
_DEVICES_SHOWN = 100


@router.get("/alerts", response_class=HTMLResponse)
async def alerts_page(request: Request, caller: Seer, services: Parts) -> Response:
    """What is in force on the ground one may see and above it, and what was."""
    rights = caller.rights
    ground = rights.tree.with_ancestors(rights.reach(Permission.SEE_ALERTS))
    over = (State.CANCELLED, State.EXPIRED)
    async with services.database.connection() as connection:
        standing = await alert_store.alerts_on(connection, ground, states=(State.IN_FORCE,), limit=_STANDING)
        past = await alert_store.alerts_on(connection, ground, states=over, limit=_OVER_SHOWN)
        waiting = await operation_store.requests_on(
            connection, ground, states=(RequestState.WAITING,), limit=_REQUESTS_SHOWN
        )
        alone = await operation_store.requests_on(
            connection, ground, states=(RequestState.ALONE,), is_unacknowledged=True, limit=_REQUESTS_SHOWN
        )
        proposed = await proposal_store.waiting(
            connection, ground, patience=services.sensing.proposal_patience, now=caller.now
        )
    return page(
        request,
        services,
        "alerts.html",
        caller=caller,
        units=rights.tree,
        standing=sorted(standing, key=lambda each: (-each.draft.severity.number, -each.issued_at.timestamp())),
        # What was proposed and never said has a page of its own.
        past=[each for each in past if each.version],
        waiting=[each for each in waiting if caller.now < each.expires_at],
        alone=alone,
        proposals=sum(each.proposals for each in proposed),
        top=rights.units(Permission.SEE_ALERTS)[0],
        may_release=rights.may_anywhere(Permission.RELEASE_ALERTS),
        may_silence=rights.may_anywhere(Permission.SILENCE_DEVICES),
    )


@router.get("/alerts/{alert_id}", response_class=HTMLResponse)
async def alert_page(
    alert_id: uuid.UUID,
    request: Request,
    caller: Seer,
    services: Parts,
    reason: Annotated[Literal[*REASONS] | None, Query()] = None,  # type: ignore[valid-type]
    after: Annotated[str | None, Query(max_length=48, pattern="^[a-z0-9-]*$")] = None,
) -> Response:
    """One alert, as it stands this moment: whom it reached, whom not and why, and what to do about those."""
    language = wording_of(request, services).language
    # Those that it did not reach are what somebody has to do something about.
    reached = await alert_reach.get_reach(
        alert_id,
        caller,
        services,
        language=language,
        reached=None if reason else False,
        reason=reason,
        after=after,
        limit=_DEVICES_SHOWN,
    )
    async with services.database.connection() as connection:
        alert = await alert_store.alert(connection, alert_id)
    if alert.state is State.PROPOSED:
        return RedirectResponse(f"/alerts/proposals/{alert_id}", status_code=HTTPStatus.SEE_OTHER)
    return page(
        request,
        services,
        "alert.html",
        caller=caller,
        units=caller.rights.tree,
        alert=alert,
        draft=alert.draft,
        is_over=alert.is_over(now=caller.now),
        reached=reached,
        reason=reason,
        may_end=_may_change(alert, caller),
        stoppable=await _stoppable(alert, caller, services),
        may_see=lambda unit_id: caller.rights.may(Permission.SEE_DEVICES, unit_id),
    )


def _may_change(alert: Alert, caller: Caller) -> bool:
    return caller.rights.may(alerts.PERMISSIONS[alert.draft.purpose], alert.draft.unit_id)


async def _stoppable(alert: Alert, caller: Caller, services: Services) -> tuple[UnitId, ...]:
    """The units of one's own in which one may stop an alert from above."""
    if alert.is_silence or alert.is_over(now=caller.now) or _may_change(alert, caller):
        return ()
    tree = caller.rights.tree
    own = [
        unit
        for unit in caller.rights.units(alerts.PERMISSIONS[alert.draft.purpose])
        if unit not in alert.stopped_in
        and any(tree.covers(topic, unit) or tree.covers(unit, topic) for topic in alert.topics)
    ]
    async with services.database.connection() as connection:
        stated = await policy_store.load_policies(connection)
    return tuple(unit for unit in own if policies.may_stop_alerts(stated, unit, tree))


# --- ending ----------------------------------------------------------------------------------------------------------


@router.get("/alerts/{alert_id}/end", response_class=HTMLResponse)
async def end_page(
    alert_id: uuid.UUID,
    request: Request,
    caller: Releaser,
    services: Parts,
    unit: Annotated[uuid.UUID | None, Query(description="only on the ground of this unit")] = None,
) -> Response:
    """What would be ended, and the button."""
    return await _end_page(alert_id, unit, request, caller, services)


@router.post("/alerts/{alert_id}/end", response_class=HTMLResponse)
async def end(alert_id: uuid.UUID, request: Request, caller: Releaser, services: Parts, metrics: Metered) -> Response:
    """End the version that was shown, everywhere; or what there is on the ground of one unit."""
    form = await form_of(request)
    values = given(form, "version", "unit", "code")
    unit_id = None
    try:
        unit_id = uuid_of(values["unit"], field="unit") if "unit" in values else None
        if unit_id is None:
            await alert_routes.cancel_alert(
                alert_id,
                caller,
                Response(),
                services,
                metrics,
                if_match=etag(values.get("version", "")),
                second_factor=values.get("code"),
            )
        else:
            await alert_routes.stop_alert(
                alert_id,
                StopBody(unit_id=unit_id),
                caller,
                Response(),
                services,
                metrics,
                second_factor=values.get("code"),
            )
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=only("code"))
        sent = Sent(about="end", form=form, back=back)
        return await _end_page(alert_id, unit_id, request, caller, services, sent=sent)
    return RedirectResponse(f"/alerts/{alert_id}", status_code=HTTPStatus.SEE_OTHER)


async def _end_page(
    alert_id: uuid.UUID,
    unit: uuid.UUID | None,
    request: Request,
    caller: Caller,
    services: Services,
    *,
    sent: Sent | None = None,
) -> Response:
    async with services.database.connection() as connection:
        alert = await alert_store.alert(connection, alert_id)
    where = UnitId(unit) if unit is not None else alert.draft.unit_id
    caller.demand(alerts.PERMISSIONS[alert.draft.purpose], where, field="alert_id")
    return page(
        request,
        services,
        "alert_end.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        units=caller.rights.tree,
        alert=alert,
        draft=alert.draft,
        unit_id=unit,
        code=await code_asked(services, caller),
        sent=sent,
    )
