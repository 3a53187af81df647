"""The pages on which an emergency is said, and devices are silenced and let go again: where, a look at it, and once more.

Every one of them ends in the same functions as the API, with the same rights and the same second factor. What is sent
carries what was shown (the version of the template, the ground), and a key, so that a button pressed twice speaks once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import FormData

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control import alerts, policy_store
from services.control.alerting import alert_store, template_store
from services.control.alerting.template import Template
from services.control.api.access import Scope, requires
from services.control.api.alert_bodies import AlertBody, AlertView, ReleaseBody, SilenceBody
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.requests import RequestView
from services.control.api.routes import alerts as alert_routes
from services.control.errors import Conflict, Fault, Invalid, NotFound
from services.control.pages.emergencies import aim_of_units, alone_of, asks_second, key_of, once
from services.control.pages.forms import Sent, all_given, checked, form_of, given
from services.control.pages.lookups import code_asked, unit_here
from services.control.pages.pages import page, wording_of
from services.control.permissions import Permission
from services.control.planning.policies import Danger
from services.control.versions import etag

router = APIRouter(include_in_schema=False)

Speaker = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.ANYWHERE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.BODY)]
SomeSilencer = Annotated[Caller, requires(Permission.SILENCE_DEVICES, Scope.ANYWHERE)]
Silencer = Annotated[Caller, requires(Permission.SILENCE_DEVICES, Scope.BODY)]

_GO = "go"


# --- broken glass ----------------------------------------------------------------------------------------------------


@router.get("/alerts/glass", response_class=HTMLResponse)
async def glass_page(
    request: Request, caller: SomeSilencer, services: Parts, unit: Annotated[uuid.UUID | None, Query()] = None
) -> Response:
    """What it means to do alone what policy wants a second person for, and the ways there."""
    rights = caller.rights
    unit_id = _speaker(caller, Permission.SILENCE_DEVICES, unit)
    wording = wording_of(request, services)
    limits = []
    async with services.database.connection() as connection:
        for danger in (Danger.ALERTS, Danger.SILENCES):
            asking = await policy_store.asking_for_second(connection, danger)
            limits += [
                wording.text(
                    "glass.limit",
                    what=wording.text(f"policy.second_person.{danger.value}"),
                    devices=asking[each].needed_from(danger),
                    unit=stating.name,
                )
                for each in (*rights.tree.ancestors(unit_id), *rights.tree.subtree(unit_id))
                if each in asking and (stating := rights.tree.get(each)) is not None
            ]
    return page(
        request,
        services,
        "glass.html",
        caller=caller,
        unit=rights.tree.get(unit_id),
        unit_id=unit_id,
        limits=limits or [wording.text("glass.no_limit")],
        is_needed=bool(limits),
        may_release=rights.may(Permission.RELEASE_ALERTS, unit_id),
        may_silence=rights.may(Permission.SILENCE_DEVICES, unit_id),
        code=await code_asked(services, caller, always=True),
        sent=None,
    )


def _is_alone(form: FormData) -> bool:
    """Whether one came to break the glass: the field for the reason stands open then."""
    return bool(form.get("breaks"))


# --- an alert from a template ----------------------------------------------------------------------------------------


@router.get("/alerts/new", response_class=HTMLResponse)
async def new_page(
    request: Request,
    caller: Speaker,
    services: Parts,
    unit: Annotated[uuid.UUID | None, Query()] = None,
    template: Annotated[uuid.UUID | None, Query()] = None,
    alone: Annotated[bool, Query(description="whether one comes to break the glass")] = False,
) -> Response:
    """First the template; then where. Where there is nothing to choose, what is going to be said."""
    unit_id = _speaker(caller, Permission.RELEASE_ALERTS, unit)
    async with services.database.connection() as connection:
        templates = [
            each
            for each in await template_store.templates_of(connection, caller.rights.tree.path(unit_id))
            if each.purpose is Purpose.ALERT
        ]
    chosen = next((each for each in templates if each.template_id == template), None)
    if chosen is not None and not caller.rights.tree.children(unit_id):
        return await _review(unit_id, chosen, (unit_id,), request, caller, services, is_alone=alone)
    return page(
        request,
        services,
        "alert_new.html",
        caller=caller,
        **_choice(caller, Permission.RELEASE_ALERTS, unit_id),
        templates=sorted(templates, key=lambda each: (-each.severity.number, each.place, each.name)),
        chosen=chosen,
        is_alone=alone,
        sent=None,
    )


@router.post("/alerts/new", response_class=HTMLResponse)
async def issue(request: Request, caller: Releaser, services: Parts, metrics: Metered) -> Response:
    """Show what is going to be said to whom; or say it."""
    form = await form_of(request)
    values = given(form, "unit", "template", "do")
    unit_id = _speaker(caller, Permission.RELEASE_ALERTS, _uuid(values, "unit"), is_judged=values.get("do") == _GO)
    units = _units(form, unit_id)
    async with services.database.connection() as connection:
        template = await template_store.template(connection, _uuid(values, "template") or uuid.UUID(int=0))
    if template.unit_id not in caller.rights.tree.path(unit_id) or template.retired_at is not None:
        raise NotFound("alert_template_not_found", facts={"id": str(template.template_id)})
    if values.get("do") != _GO:
        return await _review(unit_id, template, units, request, caller, services, is_alone=_is_alone(form))

    async def say(code: str | None) -> AlertView | RequestView:
        if form.get("template_version") != str(template.version):
            raise Conflict("changed_meanwhile")
        wanted = {
            "unit_id": unit_id,
            "template_id": template.template_id,
            "audience": {"areas": [{"units": list(units)}]},
        }
        body = checked(AlertBody, wanted)
        return await alert_routes.issue_alert(
            body, caller, Response(), services, metrics, second_factor=code, break_glass=alone_of(form)
        )

    async def again(sent: Sent) -> Response:
        return await _review(unit_id, template, units, request, caller, services, is_alone=_is_alone(form), sent=sent)

    asked = ["alert", str(template.template_id), template.version, str(unit_id), sorted(map(str, units))]
    return await once(form, asked, say, again, request, caller, services)


async def _review(
    unit_id: UnitId,
    template: Template,
    units: tuple[UnitId, ...],
    request: Request,
    caller: Caller,
    services: Services,
    *,
    is_alone: bool = False,
    sent: Sent | None = None,
) -> Response:
    """What is going to be said to whom, with the button. `is_alone`: the field for the reason stands open."""
    for each in units:
        caller.demand(Permission.RELEASE_ALERTS, each, field="unit")
    aim = await aim_of_units(unit_id, units, caller, services)
    return page(
        request,
        services,
        "alert_review.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        units=caller.rights.tree,
        aim=aim,
        prepared=template,
        is_alone=is_alone,
        until=caller.now + template.validity,
        code=await code_asked(services, caller),
        key=key_of(sent),
        asks_second=await asks_second(aim.device_nos, Danger.ALERTS, caller, services),
        sent=sent,
    )


# --- the kill switch -------------------------------------------------------------------------------------------------


@router.get("/alerts/silence", response_class=HTMLResponse)
async def silence_page(
    request: Request,
    caller: SomeSilencer,
    services: Parts,
    unit: Annotated[uuid.UUID | None, Query()] = None,
    alone: Annotated[bool, Query(description="whether one comes to break the glass")] = False,
) -> Response:
    """Where devices are to fall silent, and why."""
    unit_id = _speaker(caller, Permission.SILENCE_DEVICES, unit)
    return page(
        request,
        services,
        "silence.html",
        caller=caller,
        **_choice(caller, Permission.SILENCE_DEVICES, unit_id),
        is_alone=alone,
        sent=None,
    )


@router.post("/alerts/silence", response_class=HTMLResponse)
async def silence(request: Request, caller: Silencer, services: Parts, metrics: Metered) -> Response:
    """Show what is going to fall silent; or silence it (S-04)."""
    form = await form_of(request)
    values = given(form, "unit", "reason", "do")
    unit_id = _speaker(caller, Permission.SILENCE_DEVICES, _uuid(values, "unit"), is_judged=values.get("do") == _GO)
    units = _units(form, unit_id)

    async def again(sent: Sent | None) -> Response:
        for each in units:
            caller.demand(Permission.SILENCE_DEVICES, each, field="unit")
        aim = await aim_of_units(unit_id, units, caller, services)
        return page(
            request,
            services,
            "silence_review.html",
            caller=caller,
            http_status=HTTPStatus.OK if sent is None else sent.back.status,
            units=caller.rights.tree,
            aim=aim,
            reason=values.get("reason", ""),
            is_alone=_is_alone(form),
            code=await code_asked(services, caller),
            key=key_of(sent),
            asks_second=await asks_second(aim.device_nos, Danger.SILENCES, caller, services),
            sent=sent,
        )

    if values.get("do") != _GO:
        return await again(None)

    async def order(code: str | None) -> AlertView | RequestView:
        wanted = {
            "unit_id": unit_id,
            "audience": {"areas": [{"units": list(units)}]},
            "reason": values.get("reason", ""),
        }
        body = checked(SilenceBody, wanted)
        return await alert_routes.silence(
            body, caller, Response(), services, metrics, second_factor=code, break_glass=alone_of(form)
        )

    asked = ["silence", str(unit_id), sorted(map(str, units)), values.get("reason")]
    return await once(form, asked, order, again, request, caller, services)


@router.get("/alerts/{alert_id}/release", response_class=HTMLResponse)
async def release_page(alert_id: uuid.UUID, request: Request, caller: Silencer, services: Parts) -> Response:
    """Who may sound again first."""
    return await _release_page(alert_id, request, caller, services)


@router.post("/alerts/{alert_id}/release", response_class=HTMLResponse)
async def release(
    alert_id: uuid.UUID, request: Request, caller: Silencer, services: Parts, metrics: Metered
) -> Response:
    """Controlled return: the units that were ticked, or with the other button everybody."""
    form = await form_of(request)
    values = given(form, "version", "note", "do")
    units = all_given(form, "let_go") if values.get("do") != "all" else []

    async def let_go(code: str | None) -> AlertView | RequestView:
        if not units and values.get("do") != "all":
            raise Invalid(Fault("units", "too_few", {"limit": 1}))
        body = checked(ReleaseBody, {"except_units": units, "note": values.get("note", "")})
        version = etag(values.get("version", ""))
        return await alert_routes.release(
            alert_id,
            body,
            caller,
            Response(),
            services,
            metrics,
            if_match=version,
            second_factor=code,
            break_glass=alone_of(form),
        )

    async def again(sent: Sent) -> Response:
        return await _release_page(alert_id, request, caller, services, sent=sent)

    asked = ["release", str(alert_id), values.get("version"), sorted(units)]
    return await once(form, asked, let_go, again, request, caller, services)


async def _release_page(
    alert_id: uuid.UUID, request: Request, caller: Caller, services: Services, *, sent: Sent | None = None
) -> Response:
    tree = caller.rights.tree
    async with services.database.connection() as connection:
        silence = await alert_store.alert(connection, alert_id)
    if not silence.is_silence:
        alert_store.none_such(alert_id)
    caller.demand(alerts.PERMISSIONS[Purpose.SILENCE], silence.draft.unit_id, field="alert_id")
    wish = silence.draft.audience
    let_go = {below for unit in wish.except_units for below in tree.subtree(unit)}
    ground = [
        each
        for each in dict.fromkeys(below for unit in wish.units for below in tree.subtree(unit))
        if tree.stands(each) and each not in let_go
    ]
    aim = await aim_of_units(silence.draft.unit_id, wish.units, caller, services)
    return page(
        request,
        services,
        "silence_release.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        units=tree,
        silence=silence,
        draft=silence.draft,
        is_over=silence.is_over(now=caller.now),
        ground=ground,
        released=wish.except_units,
        code=await code_asked(services, caller),
        key=key_of(sent),
        asks_second=await asks_second(aim.device_nos, Danger.SILENCES, caller, services),
        sent=sent,
    )


# --- what they share -------------------------------------------------------------------------------------------------


def _speaker(caller: Caller, permission: Permission, unit: uuid.UUID | None, *, is_judged: bool = False) -> UnitId:
    """The unit that speaks: the one that was chosen, else one's own, else the highest in which one may.

    `is_judged`: whether one may is asked afterwards, where a refusal is put on record.
    """
    if unit is not None:
        if not is_judged:
            caller.demand(permission, UnitId(unit), field="unit")
        return unit_here(caller, unit)
    own = caller.rights.tree.standing(caller.actor.unit_id)
    return own if own is not None and caller.rights.may(permission, own) else caller.rights.units(permission)[0]


def _choice(caller: Caller, permission: Permission, unit_id: UnitId) -> dict[str, Any]:
    """The units one may choose from: the ground of the one that speaks, and others that one may speak for."""
    tree = caller.rights.tree
    base = tree.depth(unit_id) or 0
    return {
        "units": tree,
        "unit_id": unit_id,
        "unit": tree.get(unit_id),
        "speakers": [tree.get(each) for each in caller.rights.units(permission)],
        "below": [
            (unit, (tree.depth(unit.unit_id) or 0) - base)
            for unit in (tree.get(each) for each in tree.subtree(unit_id) if tree.stands(each) and each != unit_id)
            if unit is not None
        ],
    }


def _uuid(values: Mapping[str, str], name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(values[name]) if name in values else None
    except ValueError:
        raise Invalid(Fault(name, "not_a_uuid")) from None


def _units(form: FormData, unit_id: UnitId) -> tuple[UnitId, ...]:
    """The units that were ticked; none: all of the speaking unit's ground."""
    ticked = (_uuid({"where": each}, "where") for each in all_given(form, "where"))
    found = tuple(dict.fromkeys(UnitId(each) for each in ticked if each is not None))
    return found if found and not form.get("whole") else (unit_id,)
