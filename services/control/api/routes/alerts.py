"""Alerts: an emergency in force within a blink, changed, cancelled, stopped on one's own ground; and the kill switch."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Header, Query, Response

from schemas.alerts import Purpose
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control import account_store, alerts, operation_kinds, operations, policies, policy_store, versions
from services.control.alerting import (
    alert_store,
    template_store,
    testing,
)
from services.control.alerting.model import (
    LONGEST_SILENCE,
    Alert,
    AlertDraft,
    Severity,
    State,
    Status,
)
from services.control.alerting.template import Template
from services.control.alerting.tones import Tone
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.alert_bodies import (
    AlertBody,
    AlertView,
    ContentBody,
    ReleaseBody,
    SilenceBody,
    StopBody,
    alert_view,
)
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.errors import documented
from services.control.api.fields import (
    Body,
    Limit,
    PlannedInstant,
)
from services.control.api.requests import MAY_WAIT, RequestView, by, means, waiting
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.errors import Fault, Invalid
from services.control.metrics import ControlMetrics
from services.control.operation_performing import Done
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.control.units import UnitTree
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1", tags=["alerts"])

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.BODY)]
Silencer = Annotated[Caller, requires(Permission.SILENCE_DEVICES, Scope.BODY)]
IfMatch = Annotated[
    str | None, Header(description="ETag of the version that is meant; * : whatever it says by now, for ending it")
]


@router.post("/alerts", status_code=201, responses=MAY_WAIT | documented([404]))
async def issue_alert(
    body: AlertBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """Issue it: when this returns 201, it is on its way to every device of the areas."""
    await step_up.demand(services, caller, Operation.RELEASE_ALERT, code=second_factor, alone=break_glass)
    unit_id = UnitId(body.unit_id)

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        template = await _template(connection, body, caller.rights.tree)
        said = await with_sound(connection, body.draft(template, now=caller.now))
        if said.purpose is Purpose.AUDIBLE_TEST:
            zone = ZoneInfo(services.policy.time_zone)
            await testing.check_hours(connection, said.audience, caller.rights.tree, zone, now=caller.now)
        return operation_kinds.issuing(said)

    attempt = Attempt(action="alert_issue", unit_id=unit_id, facts=body.facts())
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


@router.post("/alerts/{alert_id}/update", responses=MAY_WAIT)
async def update_alert(
    alert_id: uuid.UUID,
    body: ContentBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """Say something else in its place; If-Match names the version that was read."""
    await step_up.demand(services, caller, Operation.RELEASE_ALERT, code=second_factor, alone=break_glass)

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        await operations.lock_waiting(connection, body.references)
        alert = await _locked(connection, alert_id, if_match, body, silence=False)
        draft = await with_sound(connection, body.draft(alert.draft.unit_id, alert.draft.purpose))
        return operation_kinds.updating(alert, draft)

    attempt = Attempt(action="alert_update", alert_id=alert_id, facts={"headline": body.texts[0].headline})
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


@router.post("/alerts/{alert_id}/cancel")
async def cancel_alert(
    alert_id: uuid.UUID,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
) -> AlertView:
    """End it everywhere. `If-Match: *` ends whatever it says by now."""
    await step_up.demand(services, caller, Operation.CANCEL_ALERT, code=second_factor)

    async def do(connection: Connection) -> Alert:
        alert = await _locked(connection, alert_id, if_match, None, silence=False)
        return await alerts.cancel(connection, alert, by=by(caller), keyring=services.keyring, now=caller.now)

    attempt = Attempt(action="alert_cancel", alert_id=alert_id)
    return await _carried_out(services, caller, metrics, response, attempt, do)


@router.post("/alerts/{alert_id}/stop")
async def stop_alert(
    alert_id: uuid.UUID,
    body: StopBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    second_factor: GivenCode = None,
) -> AlertView:
    """End an alert from above on one's own ground, where policy lets units do so (default: it does not)."""
    await step_up.demand(services, caller, Operation.CANCEL_ALERT, code=second_factor)
    unit_id = UnitId(body.unit_id)
    tree = caller.rights.tree

    async def do(connection: Connection) -> Alert:
        alert = await _locked(connection, alert_id, "*", None, silence=False)
        said = await policy_store.policies_of(connection, tree.path(unit_id))
        return await alerts.stop(
            connection,
            alert,
            unit_id,
            by=by(caller),
            may_stop=policies.may_stop_alerts(said, unit_id, tree),
            keyring=services.keyring,
            now=caller.now,
        )

    attempt = Attempt(action="alert_stop", alert_id=alert_id, unit_id=unit_id, facts={"unit_id": str(unit_id)})
    return await _carried_out(services, caller, metrics, response, attempt, do)


@router.get("/alerts")
async def list_alerts(
    caller: Seer,
    services: Parts,
    state: Annotated[list[State] | None, Query(max_length=len(State))] = None,
    before: Annotated[PlannedInstant | None, Query(description="only those first issued earlier")] = None,
    before_id: Annotated[uuid.UUID | None, Query(description="with `before`: the last one seen")] = None,
    limit: Limit = 100,
) -> list[AlertView]:
    """Alerts, tests and silences on the ground one may see, and those of units above that touch it; newest first."""
    ground = caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS))
    async with services.database.connection() as connection:
        found = await alert_store.alerts_on(
            connection,
            ground,
            states=state or tuple(State),
            before=(before, AlertId(before_id or uuid.UUID(int=0))) if before is not None else None,
            limit=limit,
        )
    return [alert_view(each) for each in found]


@router.get("/alerts/{alert_id}")
async def get_alert(alert_id: uuid.UUID, caller: Seer, response: Response, services: Parts) -> AlertView:
    """One of them. The ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        alert = await seen(connection, alert_id, caller)
    response.headers["ETag"] = versions.etag(alert.version)
    return alert_view(alert)


@router.post("/silences", status_code=201, responses=MAY_WAIT | documented([404]))
async def silence(
    body: SilenceBody,
    caller: Silencer,
    response: Response,
    services: Parts,
    metrics: Metered,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """The kill switch (S-04): one device, a unit's subtree, or everything below the root. At once, signed, retained."""
    await step_up.demand(services, caller, Operation.KILL_SWITCH, code=second_factor, alone=break_glass)
    unit_id = UnitId(body.unit_id)
    until = body.valid_until.astimezone(UTC) if body.valid_until is not None else caller.now + LONGEST_SILENCE
    draft = AlertDraft(
        unit_id=unit_id,
        purpose=Purpose.SILENCE,
        event=body.reason,
        severity=Severity.EXTREME,
        audience=body.audience.wish(),
        valid_until=until,
    )

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        del connection
        return operation_kinds.issuing(draft)

    attempt = Attempt(action="silence", unit_id=unit_id, facts={"reason": body.reason})
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


@router.post("/silences/{alert_id}/release", responses=MAY_WAIT)
async def release(
    alert_id: uuid.UUID,
    body: ReleaseBody,
    caller: Silencer,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """Controlled return: first the units and devices named, and the rest with a release that names none."""
    await step_up.demand(services, caller, Operation.END_SILENCE, code=second_factor, alone=break_glass)

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        return operation_kinds.releasing(
            await _locked(connection, alert_id, if_match, body, silence=True),
            units=tuple(map(UnitId, body.except_units)),
            devices=tuple(map(DeviceId, body.except_devices)),
            note=body.note,
        )

    attempt = Attempt(action="silence_release", alert_id=alert_id)
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


# --- carrying out ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is tried, as the audit names it if it is refused."""

    action: str
    alert_id: uuid.UUID | None = None
    unit_id: UnitId | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def attempted(
    services: Services, caller: Caller, metrics: ControlMetrics, attempt: Attempt
) -> AsyncIterator[Connection]:
    """One transaction; what is refused in it is on record too."""
    async with (
        on_record(
            services,
            caller,
            metrics,
            action=attempt.action,
            subject=f"alert:{attempt.alert_id}" if attempt.alert_id is not None else "alert:new",
            unit_id=attempt.unit_id if attempt.unit_id is not None else caller.actor.unit_id,
            facts=attempt.facts,
        ),
        services.database.transaction() as connection,
    ):
        # Before any alert: `operations.settle` asks for it too, and two requests of one person must not hold what the other wants.
        await account_store.lock(connection, caller.actor.account_id)
        yield connection


async def _carried_out(
    services: Services,
    caller: Caller,
    metrics: ControlMetrics,
    response: Response,
    attempt: Attempt,
    do: Callable[[Connection], Awaitable[Alert]],
) -> AlertView:
    async with attempted(services, caller, metrics, attempt) as connection:
        alert = await do(connection)
    return told_of(services, metrics, response, attempt.action, Done(alerts=(alert,)))


async def settled(
    services: Services,
    caller: Caller,
    metrics: ControlMetrics,
    response: Response,
    attempt: Attempt,
    wanted: Callable[[Connection], Awaitable[operation_kinds.Operation]],
    alone: str | None,
) -> AlertView | RequestView:
    """Carried out; or, where a policy asks for a second person, 202 and the address at which it waits for one."""
    async with attempted(services, caller, metrics, attempt) as connection:
        operation = await wanted(connection)
        outcome = await operations.settle(
            connection, operation, by=by(caller), means=means(services, alone), now=caller.now
        )
    if isinstance(outcome, Waiting):
        return await waiting(services, response, outcome)
    return told_of(services, metrics, response, attempt.action, outcome)


def told_of(services: Services, metrics: ControlMetrics, response: Response, action: str, done: Done) -> AlertView:
    """The lane of this process is woken, and the answer says what stands now."""
    alert = done.alert
    if alert is None:
        raise TypeError(f"{action} makes no alert")
    services.wake_alerts()
    metrics.alerts_issued.labels(action).inc(len(done.alerts))
    response.headers["ETag"] = versions.etag(alert.version)
    return alert_view(alert)


async def _template(connection: Connection, body: AlertBody, tree: UnitTree) -> Template | None:
    """The template that is named, where it is in use. Raises `Invalid`."""
    if body.template_id is None:
        return None
    above = await template_store.templates_of(connection, tree.path(UnitId(body.unit_id)))
    found = next((each for each in above if each.template_id == body.template_id), None)
    if found is None:
        raise Invalid(Fault("template_id", "no_alert_template_here", {"id": str(body.template_id)}))
    return found


async def with_sound(connection: Connection, draft: AlertDraft) -> AlertDraft:
    """The draft, sounding a bare tone where it is only words: every device holds the tones already."""
    if draft.purpose is Purpose.SILENT_TEST or any(each.media_sha256 is not None for each in draft.texts):
        return draft
    wanted = Tone.WARNING if draft.purpose is Purpose.ALERT and draft.status is Status.ACTUAL else Tone.TEST
    tone = (await template_store.tones(connection)).get(wanted)
    if tone is None:
        return draft
    first, *rest = draft.texts
    return replace(draft, texts=(replace(first, media_sha256=tone), *rest))


async def _locked(
    connection: Connection, alert_id: uuid.UUID, if_match: str | None, body: Body | None, *, silence: bool
) -> Alert:
    alert = await alert_store.alert_for_update(connection, alert_id, silence=silence)
    shown = alert_view(alert).model_dump(mode="json")
    versions.check(alert.version, if_match, shown, given=body.model_dump(mode="json") if body is not None else {})
    return alert


async def seen(connection: Connection, alert_id: uuid.UUID, caller: Caller) -> Alert:
    """An alert that touches ground one may see. Raises `NotFound` as if there were none."""
    alert = await alert_store.alert(connection, alert_id)
    rights, tree = caller.rights, caller.rights.tree
    tops = rights.units(Permission.SEE_ALERTS)
    is_seen = any(
        tree.covers(top, unit) or tree.covers(unit, top)
        for top in tops
        for unit in (*alert.topics, alert.draft.unit_id)
    )
    return alert if is_seen else alert_store.none_such(alert_id)
