"""Proposed alerts: what a sensor rule or a CAP sender lays before people, and what they decide about it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from services.control import alerts, operation_kinds, operations, versions
from services.control.alerting import proposal_store, proposals
from services.control.alerting.proposal import Outcome, Proposal
from services.control.alerts import By
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.alert_bodies import AlertView, ContentBody, alert_view
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts
from services.control.api.fields import Answer, Body, Limit, Why
from services.control.api.requests import MAY_WAIT, RequestView
from services.control.api.routes.alerts import Attempt, settled, with_sound
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.errors import NotFound
from services.control.permissions import Permission
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/proposals", tags=["proposed alerts"])

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.BODY)]
IfMatch = Annotated[str | None, Header(description="ETag of the proposal that was read")]


class ProposalReleaseBody(Body):
    """Nothing said: exactly what was proposed."""

    content: ContentBody | None = Field(default=None, description="what is issued in place of what was proposed")


class ProposalRefusalBody(Body):
    """Why not."""

    reason: Why


class ProposalView(Answer):
    """An alert that waits for a person, or waited; `version` is its ETag."""

    version: int
    alert: AlertView = Field(description="the alert with its whole content; nothing of it has reached any device")
    origin: str = Field(description="rule | cap")
    reason: dict[str, Any] = Field(description="sensors, values and thresholds; or the CAP message")
    reason_over_since: datetime | None = Field(description="when the alarm behind it ended; null: it lasts")
    sensor_rule_id: uuid.UUID | None
    validity_s: int | None = Field(description="how long the alert holds from its release; null: until valid_until")
    proposed_at: datetime
    waited_s: float
    expires_at: datetime
    outcome: Outcome | None
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    note: str | None


@router.get("")
async def list_proposals(
    caller: Seer,
    services: Parts,
    waiting: Annotated[bool, Query(description="only those about which nobody has decided")] = True,
    limit: Limit = 100,
) -> list[ProposalView]:
    """Proposed alerts for the ground one may see, and those of units above that touch it; newest first."""
    ground = caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS))
    async with services.database.connection() as connection:
        found = await proposal_store.on_ground(
            connection,
            ground,
            is_waiting=waiting,
            now=caller.now,
            limit=limit,
        )
    return [_view(each, caller) for each in found]


@router.get("/{alert_id}")
async def get_proposal(alert_id: uuid.UUID, caller: Seer, response: Response, services: Parts) -> ProposalView:
    """One of them. The ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        found = await proposal_store.proposal(connection, alert_id)
    if not _is_seen(found, caller):
        raise NotFound("proposal_not_found", facts={"id": str(alert_id)})
    response.headers["ETag"] = versions.etag(found.version)
    return _view(found, caller)


@router.post("/{alert_id}/release", responses=MAY_WAIT)
async def release_proposal(
    alert_id: uuid.UUID,
    body: ProposalReleaseBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """Issue it, as it was proposed or otherwise: when this returns 200, it is on its way."""
    await step_up.demand(services, caller, Operation.RELEASE_ALERT, code=second_factor, alone=break_glass)

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        proposed = (await proposal_store.proposal(connection, alert_id)).alert.draft.references  # which never change
        await operations.lock_waiting(connection, (*proposed, *(body.content.references if body.content else ())))
        found = await _locked(connection, alert_id, caller, if_match, body)
        draft = found.alert.draft
        said = (
            await with_sound(connection, body.content.draft(draft.unit_id, draft.purpose))
            if body.content is not None
            else None
        )
        return operation_kinds.issuing(proposals.to_release(found, said, now=caller.now), alert_id=found.alert.alert_id)

    attempt = Attempt(action="proposal_release", alert_id=alert_id)
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


@router.post("/{alert_id}/refuse")
async def refuse_proposal(
    alert_id: uuid.UUID,
    body: ProposalRefusalBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
) -> ProposalView:
    """Decide against it, with a reason. The rule proposes nothing more while the same alarm lasts."""
    await step_up.demand(services, caller, Operation.CANCEL_ALERT, code=second_factor)
    async with (
        on_record(
            services,
            caller,
            metrics,
            action="proposal_refusal",
            subject=f"alert:{alert_id}",
            unit_id=caller.actor.unit_id,
            facts={},
        ),
        services.database.transaction() as connection,
    ):
        found = await _locked(connection, alert_id, caller, if_match, body)
        refused = await proposals.refuse(connection, found, by=_by(caller, body.reason), now=caller.now)
    response.headers["ETag"] = versions.etag(refused.version)
    return _view(refused, caller)


async def _locked(
    connection: Connection, alert_id: uuid.UUID, caller: Caller, if_match: str | None, body: Body
) -> Proposal:
    """The proposal, locked, of whoever has the right over its ground and has read it as it stands."""
    found = await proposal_store.proposal_for_update(connection, alert_id)
    await alerts.demand_ground(connection, found.alert.draft, by=_by(caller))
    shown = _view(found, caller).model_dump(mode="json")
    versions.check(found.version, if_match, shown, given=body.model_dump(mode="json"))
    return found


def _by(caller: Caller, note: str = "") -> By:
    return By(
        tree=caller.rights.tree, rights=caller.rights, actor=caller.actor, origin=caller.origin, note=note or None
    )


def _is_seen(proposal: Proposal, caller: Caller) -> bool:
    """Whether it touches ground one may see, or comes from above it."""
    seen = caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS))
    return not seen.isdisjoint((*proposal.alert.topics, proposal.alert.draft.unit_id))


def _view(proposal: Proposal, caller: Caller) -> ProposalView:
    return ProposalView(
        version=proposal.version,
        alert=alert_view(proposal.alert),
        origin=proposal.alert.draft.origin.value,
        reason=dict(proposal.reason),
        reason_over_since=proposal.reason_over_since,
        sensor_rule_id=proposal.rule_id,
        validity_s=round(proposal.validity.total_seconds()) if proposal.validity is not None else None,
        proposed_at=proposal.proposed_at,
        waited_s=((proposal.decided_at or caller.now) - proposal.proposed_at).total_seconds(),
        expires_at=proposal.expires_at,
        outcome=proposal.outcome,
        decided_at=proposal.decided_at,
        decided_by=proposal.decided_by,
        note=proposal.note,
    )
