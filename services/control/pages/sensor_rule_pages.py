"""The pages of sensor rules: what is watched, made, changed and retired, and what two officers let the platform release."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from schemas.readings import UNITS
from services.control import account_store, fleet_store
from services.control.alerting import template_store
from services.control.alerting.model import Severity
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.fields import END_OF_DAYS, FIRST_DAY
from services.control.api.routes import sensor_rules as rule_routes
from services.control.errors import Conflict, Fault, Invalid, Refusal
from services.control.pages import sensor_rule_forms
from services.control.pages.emergencies import is_mendable
from services.control.pages.forms import Returned, checked, form_of, given, only, returned
from services.control.pages.lookups import code_asked, unit_here
from services.control.pages.pages import page, trail_of, wording_of
from services.control.pages.sensor_rule_forms import TypedRule
from services.control.permissions import Permission
from services.control.planning.recurrence import start_of
from services.control.sensing import authorisations, rule_store
from services.control.sensing.rule import Rule
from services.control.versions import etag

router = APIRouter(include_in_schema=False)

SeerHere = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.UNIT)]
Reader = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.SENSOR_RULE)]
MakerHere = Annotated[Caller, requires(Permission.MANAGE_SENSOR_RULES, Scope.UNIT)]
Keeper = Annotated[Caller, requires(Permission.MANAGE_SENSOR_RULES, Scope.SENSOR_RULE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.SENSOR_RULE)]

_ALARMS_SHOWN = 50
_ALARMS_SEARCHED = 500  # of the rule's unit, to find those of the rule
_SENSORS_OFFERED = 100  # to be ticked; others are written by their ids
_TRIAL_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A form as it is shown: whose rule, what is typed in it, what it changes, and what is wrong with it."""

    unit_id: UnitId
    typed: TypedRule
    stored: Rule | None = None
    back: Returned | None = None
    trial: rule_routes.TrialView | None = None


# --- what there is ---------------------------------------------------------------------------------------------------


@router.get("/units/{unit_id}/sensor-rules", response_class=HTMLResponse)
async def rules_page(unit_id: uuid.UUID, request: Request, caller: SeerHere, services: Parts) -> Response:
    """The rules on a unit's ground, and the alarms of theirs that last."""
    unit, tree = UnitId(unit_id), caller.rights.tree
    ground = tree.subtree(unit) or (unit,)
    async with services.database.connection() as connection:
        rules = await rule_store.rules_of(connection, ground)
        alarms = await rule_store.alarms(connection, ground, is_active=True, limit=_ALARMS_SHOWN)
        names = {each.template_id: each.name for each in await template_store.templates_of(connection, tree.path(unit))}
    return page(
        request,
        services,
        "sensor_rules.html",
        caller=caller,
        trail=trail_of(caller, unit),
        unit=tree.get(unit),
        unit_id=unit,
        units=tree,
        rules=rules,
        alarms=alarms,
        alarmed={each.rule_id for each in alarms if each.kind == "sensor_threshold"},
        quantity_units=UNITS,
        templates=names,
        may_make=caller.rights.may(Permission.MANAGE_SENSOR_RULES, unit) and tree.stands(unit),
    )


@router.get("/sensor-rules/{sensor_rule_id}", response_class=HTMLResponse)
async def rule_page(sensor_rule_id: uuid.UUID, request: Request, caller: Reader, services: Parts) -> Response:
    """One rule: its limits, its sensors, its alarms, and whether what it proposes is released by itself."""
    return await _rule_page(sensor_rule_id, request, caller, services)


async def _rule_page(
    rule_id: uuid.UUID,
    request: Request,
    caller: Caller,
    services: Services,
    *,
    back: Returned | None = None,
    until: str = "",
) -> Response:
    shown = await rule_routes.get_rule(rule_id, caller, Response(), services)
    async with services.database.connection() as connection:
        rule = await rule_store.rule(connection, rule_id)
        alarms = await rule_store.alarms(connection, [rule.unit_id], is_active=False, limit=_ALARMS_SEARCHED)
        template = await template_store.template(connection, rule.template_id) if rule.template_id else None
        given_by = shown.authorisation
        people = [given_by.asked_by, given_by.confirmed_by] if given_by is not None else []
        names = await account_store.display_names(connection, [each for each in people if each is not None])
    is_in_use = rule.retired_at is None
    releases = is_in_use and rule.template_id is not None and authorisations.may(caller.rights, rule)
    is_own = given_by is not None and given_by.asked_by == caller.actor.account_id
    return page(
        request,
        services,
        "sensor_rule.html",
        caller=caller,
        http_status=HTTPStatus.OK if back is None else back.status,
        trail=trail_of(caller, rule.unit_id),
        units=caller.rights.tree,
        rule=rule,
        limits=rule.limits,
        quantity_unit=UNITS[rule.quantity],
        prepared=template,
        watched=shown.watched or (),
        alarms=[each for each in alarms if each.rule_id == rule_id][:_ALARMS_SHOWN],
        given_by=given_by,
        names=names,
        is_own=is_own,
        releases=releases,
        may_change=is_in_use and caller.rights.may(Permission.MANAGE_SENSOR_RULES, rule.unit_id),
        may_end=is_in_use and caller.rights.may(Permission.RELEASE_ALERTS, rule.unit_id),
        may_see=lambda unit_id: caller.rights.may(Permission.SEE_DEVICES, unit_id),
        code=await code_asked(services, caller, always=True) if releases else "",
        until=until,
        latest=services.directory.today(now=caller.now) + authorisations.LONGEST - timedelta(days=2),
        back=back,
    )


# --- making and changing ---------------------------------------------------------------------------------------------


@router.get("/units/{unit_id}/sensor-rules/new", response_class=HTMLResponse)
async def new_page(unit_id: uuid.UUID, request: Request, caller: MakerHere, services: Parts) -> Response:
    """An empty form."""
    return await _form_page(Sheet(unit_id=unit_here(caller, unit_id), typed=TypedRule()), request, caller, services)


@router.post("/units/{unit_id}/sensor-rules/new", response_class=HTMLResponse)
async def make(unit_id: uuid.UUID, request: Request, caller: MakerHere, services: Parts) -> Response:
    """Show what it would have done in the last days; or make it."""
    return await _answer(unit_here(caller, unit_id), None, request, caller, services)


@router.get("/sensor-rules/{sensor_rule_id}/edit", response_class=HTMLResponse)
async def edit_page(sensor_rule_id: uuid.UUID, request: Request, caller: Keeper, services: Parts) -> Response:
    """The form filled in with what is stored."""
    stored = await _stored(sensor_rule_id, services)
    offered = await _sensors(stored.unit_id, caller, services)
    typed = sensor_rule_forms.typed_of_rule(stored, offered=offered)
    return await _form_page(Sheet(unit_id=stored.unit_id, typed=typed, stored=stored), request, caller, services)


@router.post("/sensor-rules/{sensor_rule_id}/edit", response_class=HTMLResponse)
async def change(sensor_rule_id: uuid.UUID, request: Request, caller: Keeper, services: Parts) -> Response:
    """Show what it would have done in the last days; or put it in the place of the one there is."""
    stored = await _stored(sensor_rule_id, services)
    return await _answer(stored.unit_id, stored, request, caller, services)


@router.post("/sensor-rules/{sensor_rule_id}/retire", response_class=HTMLResponse)
async def retire(sensor_rule_id: uuid.UUID, request: Request, caller: Keeper, services: Parts) -> Response:
    """Take it out of use, as it was shown."""
    version = given(await form_of(request), "version").get("version", "")
    try:
        if version != str((await _stored(sensor_rule_id, services)).version):
            raise Conflict("changed_meanwhile")
        await rule_routes.retire_rule(sensor_rule_id, caller, Response(), services)
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=only())
        return await _rule_page(sensor_rule_id, request, caller, services, back=back)
    return RedirectResponse(f"/sensor-rules/{sensor_rule_id}", status_code=HTTPStatus.SEE_OTHER)


async def _stored(rule_id: uuid.UUID, services: Services) -> Rule:
    async with services.database.connection() as connection:
        stored = await rule_store.rule(connection, rule_id)
    if stored.retired_at is not None:
        raise Conflict("sensor_rule_retired", facts={"name": stored.name})
    return stored


async def _sensors(unit_id: UnitId, caller: Caller, services: Services) -> Mapping[str, str]:
    """Sensors on the unit's ground that are offered to be ticked: id and name."""
    async with services.database.connection() as connection:
        found = await fleet_store.states(
            connection,
            caller.rights.tree.subtree(unit_id),
            kind="sensor",
            liveness=None,
            after=None,
            limit=_SENSORS_OFFERED,
            now=caller.now,
        )
    return {each.device_id: each.name for each in found}


async def _answer(
    unit_id: UnitId, stored: Rule | None, request: Request, caller: Caller, services: Services
) -> Response:
    form = await form_of(request)
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    typed = sensor_rule_forms.typed_of(fields)
    wanted = sensor_rule_forms.body_of(typed, unit_id)
    values = given(form, "do", "version")
    try:
        if values.get("do") == "try":
            trial = await rule_routes.try_rule(
                checked(rule_routes.TrialBody, {**wanted, "days": _TRIAL_DAYS}), caller, services
            )
            sheet = Sheet(unit_id=unit_id, typed=typed, stored=stored, trial=trial)
            return await _form_page(sheet, request, caller, services)
        body = checked(rule_routes.SensorRuleBody, wanted)
        if stored is None:
            saved = await rule_routes.create_rule(body, caller, Response(), services)
        else:
            version = etag(values.get("version", ""))
            saved = await rule_routes.replace_rule(stored.rule_id, body, caller, Response(), services, if_match=version)
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=sensor_rule_forms.place_of)
        return await _form_page(
            Sheet(unit_id=unit_id, typed=typed, stored=stored, back=back), request, caller, services
        )
    return RedirectResponse(f"/sensor-rules/{saved.sensor_rule_id}", status_code=HTTPStatus.SEE_OTHER)


async def _form_page(sheet: Sheet, request: Request, caller: Caller, services: Services) -> Response:
    tree, unit_id = caller.rights.tree, sheet.unit_id
    base = tree.depth(unit_id) or 0
    async with services.database.connection() as connection:
        templates = await template_store.templates_of(connection, tree.path(unit_id))
    return page(
        request,
        services,
        "sensor_rule_form.html",
        caller=caller,
        http_status=HTTPStatus.OK if sheet.back is None else sheet.back.status,
        trail=trail_of(caller, unit_id),
        unit=tree.get(unit_id),
        unit_id=unit_id,
        units=tree,
        sheet=sheet,
        typed=sheet.typed,
        stored=sheet.stored,
        back=sheet.back,
        trial=sheet.trial,
        quantities=UNITS,
        severities=[each.value for each in Severity],
        templates=[each for each in templates if each.purpose is Purpose.ALERT],
        sensors=await _sensors(unit_id, caller, services),
        ground=[
            (unit, (tree.depth(unit.unit_id) or 0) - base)
            for unit in (tree.get(each) for each in tree.subtree(unit_id) if tree.stands(each))
            if unit is not None
        ],
    )


# --- releasing without asking ----------------------------------------------------------------------------------------


@router.post("/sensor-rules/{sensor_rule_id}/authorisation", response_class=HTMLResponse)
async def authorise(sensor_rule_id: uuid.UUID, request: Request, caller: Releaser, services: Parts) -> Response:
    """The first officer's word, the second one's, or the end of what they said."""
    form = await form_of(request)
    values = given(form, "do", "version", "code", "until")
    version, code = etag(values.get("version", "")), values.get("code")
    try:
        match values.get("do"):
            case "ask":
                end = start_of(_day(values.get("until", "")) + timedelta(days=1), services.directory.zone)
                body = checked(rule_routes.AuthorisationBody, {"expires_at": end})
                await rule_routes.ask_for_authorisation(
                    sensor_rule_id, body, caller, services, if_match=version, second_factor=code
                )
            case "confirm":
                await rule_routes.confirm_authorisation(
                    sensor_rule_id, caller, services, if_match=version, second_factor=code
                )
            case "end":
                await rule_routes.end_authorisation(sensor_rule_id, caller, services)
            case _:
                raise Invalid(Fault("do", "not_one_of", {"expected": "ask, confirm, end"}))
    except Refusal as error:
        if not is_mendable(error):
            raise
        language = wording_of(request, services).language
        back = returned(error, language, place_of=only("code", "expires_at"))
        return await _rule_page(sensor_rule_id, request, caller, services, back=back, until=values.get("until", ""))
    return RedirectResponse(f"/sensor-rules/{sensor_rule_id}#authorisation", status_code=HTTPStatus.SEE_OTHER)


def _day(text: str) -> date:
    """The last day on which it holds. Raises `Invalid`."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Invalid(Fault("expires_at", "not_a_date")) from None
    if not FIRST_DAY <= day < END_OF_DAYS:
        facts = {"first": FIRST_DAY.isoformat(), "last": END_OF_DAYS.isoformat()}
        raise Invalid(Fault("expires_at", "day_out_of_bounds", facts))
    return day
