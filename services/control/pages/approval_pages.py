"""The page on which approvers decide: bulletins that were submitted, and broadcasts that a policy stands against."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from schemas.identifiers import UnitId
from services.control import (
    account_store,
    broadcast_store,
    bulletin_store,
    bulletins,
    policies,
    policy_exceptions,
    policy_store,
)
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.routes.bulletins import Decision
from services.control.api.routes.exceptions import ExceptionDecision
from services.control.broadcast_store import StoredBroadcast
from services.control.bulletin_store import Bulletin
from services.control.errors import Conflict, Fault, Invalid, Refusal
from services.control.pages.contents import Part, bulletin_part
from services.control.pages.forms import MENDABLE, Sent, checked, form_of, given, only, returned
from services.control.pages.lookups import contents_of
from services.control.pages.pages import page, wording_of
from services.control.permissions import Permission
from services.control.planning.impact import Finding
from services.control.planning.policies import Policy
from services.control.policy_store import StoredException

router = APIRouter(include_in_schema=False)

Reader = Annotated[Caller, requires(Permission.SEE_BULLETINS, Scope.ANYWHERE)]
BulletinDecider = Annotated[Caller, requires(Permission.DECIDE_BULLETINS, Scope.BULLETIN)]
ExceptionDecider = Annotated[Caller, requires(Permission.ALLOW_EXCEPTIONS, Scope.BODY)]

_SHOWN = 50
_APPROVE, _REJECT = "approve", "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingBulletin:
    """A submitted bulletin. `barred`: a text of the catalogue that says why one may not decide; None: one may."""

    bulletin: Bulletin
    part: Part
    by: str
    may_decide: bool
    barred: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingBroadcast:
    """A broadcast that a policy stands against. `beyond` are the units whose approver has to decide instead."""

    exception: StoredException
    broadcast: StoredBroadcast
    parts: tuple[Part, ...]
    by: str
    may_decide: bool
    is_own: bool
    beyond: tuple[UnitId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What stands against a broadcast although it passes; `shown` is what a form says that it was made for."""

    refusals: tuple[Finding, ...] = ()

    @property
    def shown(self) -> str:
        """The same in one word; how many occurrences it is about is not in it."""
        said = [f"{each.kind.value} {each.unit_id or ''}" for each in self.refusals]
        return hashlib.sha256("\n".join(sorted(said)).encode()).hexdigest() if said else ""


@router.get("/approvals", response_class=HTMLResponse)
async def approvals_page(request: Request, caller: Reader, services: Parts) -> Response:
    """What waits for an approver, of all units one may see; forms where one may decide."""
    return await _approvals_page(request, caller, services)


async def _approvals_page(
    request: Request, caller: Caller, services: Services, *, sent: Sent | None = None, refused: Refused | None = None
) -> Response:
    """What waits; `sent` is a decision that was not taken, `refused` what stands against the broadcast it is about."""
    seen = caller.rights.reach(Permission.SEE_BULLETINS)
    reach = caller.rights.reach(Permission.SEE_BROADCASTS)
    async with services.database.connection() as connection:
        submitted = await bulletin_store.bulletins_of(
            connection, seen, state=bulletins.SUBMITTED, before=None, limit=_SHOWN
        )
        exceptions = await policy_store.exceptions_in(
            connection, issued_in=reach, against=reach, is_open=True, before=None, limit=_SHOWN
        )
        stated = await policy_store.load_policies(connection)
        broadcasts = await broadcast_store.broadcasts_by_id(connection, [each.broadcast_id for each in exceptions])
        contents = await contents_of(connection, broadcasts.values())
        names = await account_store.display_names(
            connection,
            [each.submitted_by or each.created_by for each in submitted] + [each.asked_by for each in exceptions],
        )
        fields = {each.code: each for each in await bulletin_store.subject_fields(connection)}
    return page(
        request,
        services,
        "approvals.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        sent=sent,
        refused=refused,
        bulletins=[_waiting_bulletin(each, stated, names, caller, services) for each in submitted],
        broadcasts=[
            _waiting_broadcast(
                each, broadcasts[each.broadcast_id], contents[each.broadcast_id], stated, names, caller, services
            )
            for each in exceptions
        ],
        units=caller.rights.tree,
        fields=fields,
        shown=_SHOWN,
        may_read=lambda unit_id: caller.rights.may(Permission.SEE_BROADCASTS, unit_id),
    )


def _waiting_bulletin(
    bulletin: Bulletin,
    stated: Mapping[UnitId, Policy],
    names: Mapping[uuid.UUID, str],
    caller: Caller,
    services: Services,
) -> WaitingBulletin:
    may_own = policies.may_approve_own(
        stated, bulletin.unit_id, caller.rights.tree, may_approve_own=services.policy.may_approve_own
    )
    is_own = bulletins.had_a_hand_in(bulletin, caller.actor) and not may_own
    barred = "approvals.own" if is_own else None if bulletins.is_intact(bulletin) else "approvals.altered"
    return WaitingBulletin(
        bulletin=bulletin,
        part=bulletin_part(bulletin),
        by=names.get(bulletin.submitted_by or bulletin.created_by, ""),
        may_decide=caller.rights.may(Permission.DECIDE_BULLETINS, bulletin.unit_id) and barred is None,
        barred=barred,
    )


def _waiting_broadcast(
    exception: StoredException,
    broadcast: StoredBroadcast,
    parts: tuple[Part, ...],
    stated: Mapping[UnitId, Policy],
    names: Mapping[uuid.UUID, str],
    caller: Caller,
    services: Services,
) -> WaitingBroadcast:
    beyond = policy_exceptions.beyond_rights(exception, caller.rights)
    is_own = policy_exceptions.is_barred(
        exception,
        stated,
        actor=caller.actor,
        rights=caller.rights,
        may_approve_own=services.policy.may_approve_own,
    )
    return WaitingBroadcast(
        exception=exception,
        broadcast=broadcast,
        parts=parts,
        by=names.get(exception.asked_by, ""),
        may_decide=not beyond and not is_own,
        is_own=is_own,
        beyond=beyond,
    )


@router.post("/approvals/bulletins/{bulletin_id}")
async def decide_bulletin(
    bulletin_id: uuid.UUID, request: Request, caller: BulletinDecider, services: Parts
) -> Response:
    """Approve a bulletin or not; once submitted its content is frozen, so what was shown is what is decided on."""
    form = await form_of(request)
    try:
        body = checked(Decision, given(form, "note"))
        is_approved = _is_approved(str(form.get("decision") or ""))
        async with services.database.transaction() as connection:
            bulletin = await bulletin_store.bulletin_for_update(connection, bulletin_id)
            stated = await policy_store.policies_of(connection, caller.rights.tree.path(bulletin.unit_id))
            await bulletins.decide(
                connection,
                bulletin,
                bulletins.APPROVED if is_approved else bulletins.REJECTED,
                note=body.note,
                may_decide_own=policies.may_approve_own(
                    stated, bulletin.unit_id, caller.rights.tree, may_approve_own=services.policy.may_approve_own
                ),
                actor=caller.actor,
                origin=caller.origin,
                now=caller.now,
            )
    except MENDABLE as error:
        return await _given_back(f"bulletin-{bulletin_id}", form, error, request, caller, services)
    return RedirectResponse("/approvals", status_code=HTTPStatus.SEE_OTHER)


@router.post("/approvals/broadcasts/{broadcast_id}")
async def decide_broadcast(
    broadcast_id: uuid.UUID, request: Request, caller: ExceptionDecider, services: Parts
) -> Response:
    """Let a broadcast pass or not: the version that was shown, and no other; and with all that would refuse it in view."""
    form = await form_of(request)
    refused = None
    try:
        body = checked(ExceptionDecision, given(form, "note"))
        is_allowed = _is_approved(str(form.get("decision") or ""))
        async with services.database.transaction() as connection:
            stored = await broadcast_store.broadcast_for_update(connection, broadcast_id)
            if form.get("version") != str(stored.version):
                raise Conflict("changed_meanwhile")
            decided = await policy_exceptions.decide(
                connection,
                stored,
                is_allowed=is_allowed,
                note=body.note,
                may_approve_own=services.policy.may_approve_own,
                zone=services.directory.zone,
                rights=caller.rights,
                actor=caller.actor,
                origin=caller.origin,
                now=caller.now,
            )
            if is_allowed and form.get("shown", "") != Refused(refusals=decided.refusals).shown:
                refused = Refused(refusals=decided.refusals)
                raise Conflict("approval_leaves_refusals")
    except MENDABLE as error:
        return await _given_back(f"broadcast-{broadcast_id}", form, error, request, caller, services, refused=refused)
    return RedirectResponse("/approvals", status_code=HTTPStatus.SEE_OTHER)


async def _given_back(
    about: str,
    form: FormData,
    error: Refusal,
    request: Request,
    caller: Caller,
    services: Services,
    *,
    refused: Refused | None = None,
) -> Response:
    back = returned(error, wording_of(request, services).language, place_of=only("note"))
    sent = Sent(about=about, form=form, back=back)
    return await _approvals_page(request, caller, services, sent=sent, refused=refused)


def _is_approved(decision: str) -> bool:
    if decision not in (_APPROVE, _REJECT):
        raise Invalid(Fault("decision", "not_one_of", {"expected": f"{_APPROVE}, {_REJECT}"}))
    return decision == _APPROVE
