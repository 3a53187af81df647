"""Policies: what a unit allows to sound on its ground, its own word and what holds there with everybody's above."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import Field

from schemas.fields import Level
from schemas.identifiers import UnitId
from services.control import policies, policy_changes, policy_store, versions
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.fields import Answer
from services.control.api.step_up import GivenCode, Operation
from services.control.api.views import UnitRef, unit_ref
from services.control.api.what_if import AskedWhatIf, OutlookView, WhatIf
from services.control.errors import NotFound
from services.control.permissions import Permission
from services.control.planning.permission import open_hours
from services.control.planning.policies import WEEKDAYS, Danger, Policies, Policy
from services.control.policies import NOTHING_SAID, FallbackDocument, LocalTime, PolicyDocument
from services.control.policy_changes import Looser, Saved
from services.control.policy_store import StoredPolicy
from services.control.units import UnitTree
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/units/{unit_id}/policy", tags=["policies"])

Reader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.UNIT)]
Setter = Annotated[Caller, requires(Permission.SET_POLICIES, Scope.UNIT)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]

_LOOSER_SHOWN = 50


class SpanView(Answer):
    """A part of the local day; `end` 00:00 is the midnight at its end."""

    begin: LocalTime
    end: LocalTime


class SessionView(SpanView):
    """A slot of the day, and whose it is."""

    unit: UnitRef
    code: str
    name: str
    weekdays: list[int]


class QuietView(SpanView):
    """Hours in which nothing sounds, and who says so."""

    unit: UnitRef


class ReservedView(SpanView):
    """A slot for the programmes of a unit and of those above it, and whose it is."""

    unit: UnitRef
    weekdays: list[int]


class VolumeCapView(SpanView):
    """The loudest that anything is, and who says so."""

    unit: UnitRef
    percent: int


class LimitView(Answer):
    """What holds, and whose word it is; without a unit it is the province's setting, or the rule without any word."""

    value: Any
    unit: UnitRef | None


class FallbackView(FallbackDocument):
    """What devices sound when their plan has run out, and who says so."""

    unit: UnitRef


class EffectiveView(Answer):
    """What holds on the unit's ground: every policy from the root down to it at once, each with whose it is."""

    open_hours: dict[int, list[SpanView]] = Field(
        description="by weekday: when normal and priority content of the unit's own may sound"
    )
    sessions: list[SessionView]
    quiet: list[QuietView]
    reserved: list[ReservedView] = Field(description="for what that unit or one above it issues, and nobody else")
    weekdays: list[LimitView]
    max_session_s: LimitView | None
    max_day_s: LimitView | None
    volume_caps: list[VolumeCapView]
    forbids_self_approval: LimitView
    approved_levels: list[LimitView] = Field(description="levels that wait for a named approver")
    allows_direct_relays: LimitView
    second_person_from: dict[Danger, LimitView] = Field(
        description="operations that wait for a second person, and from how many devices of this unit's ground on; units "
        "below may ask for one from fewer of theirs on"
    )
    second_person_within_s: dict[Danger, int] = Field(
        description="of each of these: how long before what the same person did counts along"
    )
    may_stop_alerts_from_above: LimitView = Field(
        description="whether the unit may end alerts from above on its own ground"
    )
    exceptions_by_approver: list[UnitRef] = Field(description="units that let an approver except from their limits")
    fallback: FallbackView | None


class LooserView(Answer):
    """A unit below that states something looser: it does not count there."""

    unit: UnitRef
    fields: list[str]


class PolicyView(Answer):
    """What a unit says, and what holds on its ground. `version` is the ETag; 0: it never said anything."""

    unit: UnitRef
    version: int
    own: PolicyDocument
    effective: EffectiveView
    changed_at: datetime | None
    changed_by: uuid.UUID | None


class SavedView(PolicyView):
    """A policy just stored; or, of a dry run, what storing it would come to."""

    looser_below: int = Field(description="how many units below state something looser, which counts no longer")
    looser_units: list[LooserView] = Field(description="the first of them")
    outlook: OutlookView | None = Field(description="of a dry run: what it would do; nothing was stored")


@router.get("")
async def get_policy(unit_id: uuid.UUID, caller: Reader, response: Response, services: Parts) -> PolicyView:
    """What the unit says, and what holds there. The ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        stored = await policy_store.policy(connection, UnitId(unit_id))
        view = await _view(connection, stored, caller, services)
    response.headers["ETag"] = versions.etag(stored.version)
    return PolicyView(**view)


@router.put("")
async def put_policy(
    unit_id: uuid.UUID,
    body: PolicyDocument,
    caller: Setter,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
) -> SavedView:
    """Say what holds on the unit's ground, within what holds above; If-Match names the version one has read."""
    await _demand(services, caller, what_if, second_factor)
    return await _put(UnitId(unit_id), body, caller, response, services, what_if, if_match)


@router.delete("")
async def remove_policy(
    unit_id: uuid.UUID,
    caller: Setter,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
) -> SavedView:
    """Say nothing any more: what holds above is all that holds."""
    await _demand(services, caller, what_if, second_factor)
    return await _put(UnitId(unit_id), NOTHING_SAID, caller, response, services, what_if, if_match)


async def _demand(services: Services, caller: Caller, what_if: WhatIf, code: str | None) -> None:
    """What is only tried out asks for nothing."""
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.SET_POLICY, code=code)


async def _put(
    unit_id: UnitId,
    document: PolicyDocument,
    caller: Caller,
    response: Response,
    services: Parts,
    what_if: WhatIf,
    if_match: str | None,
) -> SavedView:
    # A closed unit has no ground: what its heirs allow is theirs to say.
    if not caller.rights.tree.stands(unit_id):
        raise NotFound("unit_not_found", facts={"id": str(unit_id)})

    async def save(connection: Connection) -> tuple[Saved, dict[str, Any]]:
        stored = await policy_store.policy_for_update(connection, unit_id, by=caller.actor.account_id, at=caller.now)
        present = PolicyView(**await _view(connection, stored, caller, services)).model_dump(mode="json")
        versions.check(stored.version, if_match, present, given=document.model_dump(mode="json"))
        saved = await policy_changes.put(
            connection,
            stored,
            document,
            may_approve_own=services.policy.may_approve_own,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
        return saved, await _view(connection, saved.policy, caller, services)

    (saved, view), outlook = await what_if.carry_out(services, caller, save, unit_id=unit_id)
    if outlook is None:
        response.headers["ETag"] = versions.etag(saved.policy.version)
    return SavedView(
        **view,
        looser_below=len(saved.looser_below),
        looser_units=[_looser_view(each, caller.rights.tree) for each in saved.looser_below[:_LOOSER_SHOWN]],
        outlook=outlook,
    )


def _looser_view(looser: Looser, tree: UnitTree) -> LooserView:
    return LooserView(unit=unit_ref(tree, looser.unit_id), fields=list(looser.fields))


async def _view(connection: Connection, stored: StoredPolicy, caller: Caller, services: Parts) -> dict[str, Any]:
    tree = caller.rights.tree
    stated = await policy_store.policies_of(connection, tree.path(stored.unit_id))
    return {
        "unit": unit_ref(tree, stored.unit_id),
        "version": stored.version,
        "own": stored.document,
        "effective": effective_view(stated, stored.unit_id, tree, may_approve_own=services.policy.may_approve_own),
        "changed_at": stored.changed_at if stored.version else None,
        "changed_by": stored.changed_by if stored.version else None,
    }


# --- what holds ------------------------------------------------------------------------------------------------------


def effective_view(
    stated: dict[UnitId, Policy], unit_id: UnitId, tree: UnitTree, *, may_approve_own: bool
) -> EffectiveView:
    """From the root down; where several say something, what decides is the strictest, and of equals the highest."""
    path = [stated[each] for each in tree.path(unit_id) if each in stated]
    effective = Policies(stated).at(unit_id, tree)

    def ref(policy: Policy) -> UnitRef:
        return unit_ref(tree, policy.unit_id)

    forbidding = next((each for each in path if each.forbids_self_approval), None)
    root = path[0] if path and path[0].unit_id in {each.unit_id for each in tree.roots} else None
    allowing = root if root is not None and root.forbids_self_approval is False else None
    self_approval = forbidding or allowing
    may_own = policies.may_approve_own(stated, unit_id, tree, may_approve_own=may_approve_own)
    no_relays = next((each for each in path if each.allows_direct_relays is False), None)
    fallback = next((each for each in reversed(path) if each.fallback is not None), None)
    second_person = {danger: found for danger in Danger if (found := effective.second_person_from(danger)) is not None}
    may_stop = policies.may_stop_alerts(stated, unit_id, tree)
    # What counts against it, or else the word of a unit over it that allows it.
    stopping = next((each for each in path if each.stops_alerts_from_above is may_stop), None)
    return EffectiveView(
        open_hours={
            weekday: [
                SpanView(begin=each.begin, end=each.end)
                for each in open_hours(effective, weekday, above=tree.ancestors(unit_id))
            ]
            for weekday in sorted(WEEKDAYS)
        },
        sessions=[
            SessionView(
                unit=ref(policy),
                code=each.code,
                name=each.name,
                begin=each.begin,
                end=each.end,
                weekdays=sorted(each.weekdays),
            )
            for policy in path
            for each in policy.sessions
        ],
        quiet=[QuietView(unit=ref(policy), begin=each.begin, end=each.end) for policy in path for each in policy.quiet],
        reserved=[
            ReservedView(unit=ref(policy), begin=each.begin, end=each.end, weekdays=sorted(each.weekdays))
            for policy in path
            for each in policy.reserved
        ],
        weekdays=[
            LimitView(value=sorted(policy.weekdays), unit=ref(policy)) for policy in path if policy.weekdays is not None
        ],
        max_session_s=_least(
            (policy.max_session.total_seconds(), ref(policy)) for policy in path if policy.max_session is not None
        ),
        max_day_s=_least(
            (policy.max_day.total_seconds(), ref(policy)) for policy in path if policy.max_day is not None
        ),
        volume_caps=[
            VolumeCapView(unit=ref(policy), begin=each.begin, end=each.end, percent=each.percent)
            for policy in path
            for each in policy.volume_caps
        ],
        forbids_self_approval=LimitView(value=not may_own, unit=ref(self_approval) if self_approval else None),
        approved_levels=[
            LimitView(value=level.name.lower(), unit=ref(policy))
            for level in (Level.NORMAL, Level.PRIORITY)
            for policy in path
            if level in (policy.approved_levels or ())
        ],
        allows_direct_relays=LimitView(value=no_relays is None, unit=ref(no_relays) if no_relays else None),
        second_person_from={
            danger: LimitView(value=least, unit=unit_ref(tree, asking))
            for danger, (least, asking) in second_person.items()
        },
        second_person_within_s={
            danger: round(said.within.total_seconds())
            for danger, (_, asking) in second_person.items()
            if (said := stated[asking].second_person) is not None
        },
        may_stop_alerts_from_above=LimitView(value=may_stop, unit=ref(stopping) if stopping is not None else None),
        exceptions_by_approver=[ref(policy) for policy in path if policy.exceptions_by_approver],
        fallback=FallbackView(
            unit=ref(fallback), bulletin_id=fallback.fallback.bulletin_id, times=fallback.fallback.times
        )
        if fallback is not None and fallback.fallback is not None
        else None,
    )


def _least(limits: Iterable[tuple[float, UnitRef]]) -> LimitView | None:
    seconds, unit = min(limits, key=lambda limit: limit[0], default=(None, None))
    return LimitView(value=int(seconds), unit=unit) if seconds is not None else None
