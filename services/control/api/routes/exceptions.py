"""Broadcasts that a policy stands against: what waits for a named approver, and what approvers said."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field

from schemas.identifiers import BroadcastId
from services.control import broadcast_store, policy_exceptions, policy_store, versions
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import Answer, Body, Instant, Limit, Note
from services.control.api.places import BeforeId, link_next
from services.control.api.views import UnitRef, unit_ref
from services.control.api.what_if import AskedWhatIf, FindingView, OutlookView, WhatIf, finding_view
from services.control.permissions import Permission
from services.control.planning.impact import Finding
from services.control.policy_exceptions import Decided
from services.control.policy_store import StoredException
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1", tags=["policies"])

Lister = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.ANYWHERE)]
Approver = Annotated[Caller, requires(Permission.ALLOW_EXCEPTIONS, Scope.BODY)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]

State = Literal["open", "allowed", "refused"]


class ExceptionDecision(Body):
    """Why, for whoever reads it later."""

    note: Note | None = None


class PolicyExceptionView(Answer):
    """Rules of policies that a version of a broadcast breaks, whose policies those are, and what an approver said.

    The rule `approval_required` breaks nothing: the units want an approver's word for every broadcast of that level.
    """

    broadcast_id: uuid.UUID
    version: int
    unit: UnitRef = Field(description="the unit that issues the broadcast")
    title: str
    level: str
    rules: list[str]
    units: list[UnitRef] = Field(description="whose policies those are")
    state: State
    may_decide: bool = Field(description="whether it waits for a decision that one has the right to take")
    asked_at: datetime
    asked_by: uuid.UUID
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    note: str | None
    problems: list[FindingView] = Field(
        default=[],
        description="once it passes: what planning says about its first days, also what refuses it all the same",
    )
    outlook: OutlookView | None = Field(default=None, description="of a dry run: what it would do; nothing was stored")


def _view(
    exception: StoredException,
    caller: Caller,
    *,
    is_barred: bool,
    findings: Iterable[Finding] = (),
    outlook: OutlookView | None = None,
) -> PolicyExceptionView:
    tree = caller.rights.tree
    is_beyond = bool(policy_exceptions.beyond_rights(exception, caller.rights))
    state: State = "open" if exception.is_allowed is None else "allowed" if exception.is_allowed else "refused"
    return PolicyExceptionView(
        broadcast_id=exception.broadcast_id,
        version=exception.version,
        unit=unit_ref(tree, exception.unit_id),
        title=exception.title,
        level=exception.level,
        rules=list(exception.rules),
        units=[unit_ref(tree, unit_id) for unit_id in exception.unit_ids],
        state=state,
        may_decide=exception.is_open and not is_beyond and not is_barred,
        asked_at=exception.asked_at,
        asked_by=exception.asked_by,
        decided_at=exception.decided_at,
        decided_by=exception.decided_by,
        note=exception.note,
        problems=[finding_view(each) for each in findings],
        outlook=outlook,
    )


@router.get("/policy-exceptions")
async def list_exceptions(
    caller: Lister,
    request: Request,
    response: Response,
    services: Parts,
    is_open: Annotated[
        bool | None, Query(description="only what waits for a decision, or only what was decided")
    ] = None,
    before: Annotated[Instant | None, Query(description="only older ones")] = None,
    before_id: BeforeId = None,
    before_version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="with `before_id`: also later versions of that broadcast")
    ] = None,
    limit: Limit = 100,
) -> list[PolicyExceptionView]:
    """What waits for an approver or was decided, newest first: of one's own units' broadcasts, or about their policies.

    The header `Link` names the next page (`rel="next"`), if there is one: it begins behind the last one of this page.
    """
    reach = caller.rights.reach(Permission.SEE_BROADCASTS)
    async with services.database.connection() as connection:
        asked = await policy_store.exceptions_in(
            connection,
            issued_in=reach,
            against=reach,
            is_open=is_open,
            before=before,
            before_id=before_id,
            before_version=before_version,
            limit=limit + 1,
        )
        found = asked[:limit]
        if len(asked) > limit:
            last = found[-1]
            link_next(request, response, last.asked_at, last.broadcast_id, before_version=last.version)
        stated = await policy_store.load_policies(connection)
    return [
        _view(
            each,
            caller,
            is_barred=policy_exceptions.is_barred(
                each,
                stated,
                actor=caller.actor,
                rights=caller.rights,
                may_approve_own=services.policy.may_approve_own,
            ),
        )
        for each in found
    ]


@router.post("/broadcasts/{broadcast_id}/approve")
async def approve_broadcast(
    broadcast_id: uuid.UUID,
    caller: Approver,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    body: ExceptionDecision | None = None,
    if_match: IfMatch = None,
) -> PolicyExceptionView:
    """Let a broadcast pass although policies stand against it; one needs the right over every unit whose they are.

    It passes what was asked. What stands against it only since, as a day that has become full, is in `problems`.
    """
    return await _decide(broadcast_id, body, caller, response, services, what_if, if_match, is_allowed=True)


@router.post("/broadcasts/{broadcast_id}/reject")
async def reject_broadcast(
    broadcast_id: uuid.UUID,
    caller: Approver,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    body: ExceptionDecision | None = None,
    if_match: IfMatch = None,
) -> PolicyExceptionView:
    """Refuse to let a broadcast pass. Who made it may change it, and ask again."""
    return await _decide(broadcast_id, body, caller, response, services, what_if, if_match, is_allowed=False)


async def _decide(
    broadcast_id: uuid.UUID,
    body: ExceptionDecision | None,
    caller: Caller,
    response: Response,
    services: Parts,
    what_if: WhatIf,
    if_match: str | None,
    *,
    is_allowed: bool,
) -> PolicyExceptionView:
    async with services.database.connection() as connection:
        issuer = await broadcast_store.unit_of(connection, broadcast_id)

    async def save(connection: Connection) -> tuple[StoredException, Decided]:
        stored = await broadcast_store.broadcast_for_update(connection, broadcast_id)
        if if_match is not None:
            present = {"state": stored.state, "version": stored.version}
            versions.check(stored.version, if_match, present, given={"is_allowed": is_allowed})
        decided = await policy_exceptions.decide(
            connection,
            stored,
            is_allowed=is_allowed,
            note=body.note if body else None,
            may_approve_own=services.policy.may_approve_own,
            zone=services.directory.zone,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
        version = decided.broadcast.version
        return await policy_store.exception(connection, BroadcastId(broadcast_id), version), decided

    (exception, decided), outlook = await what_if.carry_out(
        services, caller, save, unit_id=issuer, first_day=lambda saved: saved[1].first_day
    )
    response.headers["ETag"] = versions.etag(exception.version)
    return _view(exception, caller, is_barred=False, findings=decided.findings, outlook=outlook)
