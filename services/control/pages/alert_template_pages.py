"""The pages of alert templates: those that hold at a unit, made, heard, changed and retired. By the functions of the API."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from schemas.identifiers import UnitId
from services.control import account_store
from services.control.alerting import template_store
from services.control.alerting.model import Category, Certainty, Severity, Urgency
from services.control.alerting.template import Template
from services.control.alerting.tones import Tone
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.routes import alert_templates as template_routes
from services.control.errors import Conflict, Refusal
from services.control.pages import alert_template_forms as forms
from services.control.pages.alert_template_forms import TypedTemplate
from services.control.pages.emergencies import is_mendable
from services.control.pages.forms import Returned, checked, form_of, given, only, returned
from services.control.pages.lookups import unit_here
from services.control.pages.pages import page, trail_of, wording_of
from services.control.permissions import Permission
from services.control.versions import etag

router = APIRouter(include_in_schema=False)

SeerHere = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.UNIT)]
Reader = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
MakerHere = Annotated[Caller, requires(Permission.MAKE_ALERT_TEMPLATES, Scope.UNIT)]
Keeper = Annotated[Caller, requires(Permission.MAKE_ALERT_TEMPLATES, Scope.ALERT_TEMPLATE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A form as it is shown: whose template, what is typed in it, what it changes, and what is wrong with it."""

    unit_id: UnitId
    typed: TypedTemplate
    stored: Template | None = None
    back: Returned | None = None


# --- what there is ---------------------------------------------------------------------------------------------------


@router.get("/units/{unit_id}/alert-templates", response_class=HTMLResponse)
async def templates_page(unit_id: uuid.UUID, request: Request, caller: SeerHere, services: Parts) -> Response:
    """What can be said at once on a unit's ground: its own templates and those of the units above it."""
    unit, tree = UnitId(unit_id), caller.rights.tree
    async with services.database.connection() as connection:
        found = await template_store.templates_of(connection, tree.path(unit))
    return page(
        request,
        services,
        "alert_templates.html",
        caller=caller,
        trail=trail_of(caller, unit),
        unit=tree.get(unit),
        unit_id=unit,
        units=tree,
        templates=sorted(found, key=lambda each: (each.purpose, -each.severity.number, each.place, each.name)),
        may_make=caller.rights.may(Permission.MAKE_ALERT_TEMPLATES, unit) and tree.stands(unit),
    )


@router.get("/alert-templates/{template_id}", response_class=HTMLResponse)
async def template_page(template_id: uuid.UUID, request: Request, caller: Reader, services: Parts) -> Response:
    """One template: what it says and how it sounds, and how many devices hold it."""
    return await _template_page(template_id, request, caller, services)


async def _template_page(
    template_id: uuid.UUID, request: Request, caller: Caller, services: Services, *, back: Returned | None = None
) -> Response:
    shown = await template_routes.get_template(template_id, caller, Response(), services)
    async with services.database.connection() as connection:
        template = await template_store.template(connection, template_id)
        people = [shown.changed_by] if shown.changed_by is not None else []
        names = await account_store.display_names(connection, people)
    return page(
        request,
        services,
        "alert_template.html",
        caller=caller,
        http_status=HTTPStatus.OK if back is None else back.status,
        trail=trail_of(caller, template.unit_id),
        units=caller.rights.tree,
        prepared=template,
        holders=shown.holders,
        changed_by=names.get(shown.changed_by) if shown.changed_by is not None else None,
        may_change=template.retired_at is None and caller.rights.may(Permission.MAKE_ALERT_TEMPLATES, template.unit_id),
        back=back,
    )


# --- making, changing, retiring --------------------------------------------------------------------------------------


@router.get("/units/{unit_id}/alert-templates/new", response_class=HTMLResponse)
async def new_page(unit_id: uuid.UUID, request: Request, caller: MakerHere, services: Parts) -> Response:
    """An empty form."""
    return _form_page(Sheet(unit_id=unit_here(caller, unit_id), typed=TypedTemplate()), request, caller, services)


@router.post("/units/{unit_id}/alert-templates/new", response_class=HTMLResponse)
async def make(unit_id: uuid.UUID, request: Request, caller: MakerHere, services: Parts) -> Response:
    """Have it spoken, and keep it."""
    return await _answer(unit_here(caller, unit_id), None, request, caller, services)


@router.get("/alert-templates/{template_id}/edit", response_class=HTMLResponse)
async def edit_page(template_id: uuid.UUID, request: Request, caller: Keeper, services: Parts) -> Response:
    """The form filled in with what is stored."""
    stored = await _stored(template_id, services)
    typed = forms.typed_of_template(stored)
    return _form_page(Sheet(unit_id=stored.unit_id, typed=typed, stored=stored), request, caller, services)


@router.post("/alert-templates/{template_id}/edit", response_class=HTMLResponse)
async def change(template_id: uuid.UUID, request: Request, caller: Keeper, services: Parts) -> Response:
    """Put it in the place of the one there is."""
    stored = await _stored(template_id, services)
    return await _answer(stored.unit_id, stored, request, caller, services)


@router.post("/alert-templates/{template_id}/retire", response_class=HTMLResponse)
async def retire(template_id: uuid.UUID, request: Request, caller: Keeper, services: Parts) -> Response:
    """Take it out of use, as it was shown."""
    version = given(await form_of(request), "version").get("version", "")
    try:
        if version != str((await _stored(template_id, services)).version):
            raise Conflict("changed_meanwhile")
        await template_routes.retire_template(template_id, caller, Response(), services)
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=only())
        return await _template_page(template_id, request, caller, services, back=back)
    return RedirectResponse(f"/alert-templates/{template_id}", status_code=HTTPStatus.SEE_OTHER)


async def _stored(template_id: uuid.UUID, services: Services) -> Template:
    async with services.database.connection() as connection:
        stored = await template_store.template(connection, template_id)
    if stored.retired_at is not None:
        raise Conflict("alert_template_retired", facts={"name": stored.name})
    return stored


async def _answer(
    unit_id: UnitId, stored: Template | None, request: Request, caller: Caller, services: Services
) -> Response:
    form = await form_of(request)
    typed = forms.typed_of({name: value for name, value in form.multi_items() if isinstance(value, str)})
    try:
        body = checked(template_routes.AlertTemplateBody, forms.body_of(typed, unit_id))
        if stored is None:
            saved = await template_routes.create_template(body, caller, Response(), services)
        else:
            version = etag(given(form, "version").get("version", ""))
            saved = await template_routes.replace_template(
                stored.template_id, body, caller, Response(), services, if_match=version
            )
    except Refusal as error:
        if not is_mendable(error):
            raise
        language = wording_of(request, services).language
        back = returned(error, language, place_of=lambda field: forms.place_of(field, typed))
        if stored is not None:
            stored = await _stored(stored.template_id, services)
        return _form_page(Sheet(unit_id=unit_id, typed=typed, stored=stored, back=back), request, caller, services)
    return RedirectResponse(f"/alert-templates/{saved.template_id}", status_code=HTTPStatus.SEE_OTHER)


def _form_page(sheet: Sheet, request: Request, caller: Caller, services: Services) -> Response:
    tree = caller.rights.tree
    return page(
        request,
        services,
        "alert_template_form.html",
        caller=caller,
        http_status=HTTPStatus.OK if sheet.back is None else sheet.back.status,
        trail=trail_of(caller, sheet.unit_id),
        unit=tree.get(sheet.unit_id),
        unit_id=sheet.unit_id,
        typed=sheet.typed.with_room,
        stored=sheet.stored,
        back=sheet.back,
        choices={
            "purpose": forms.PURPOSES,
            "severity": tuple(Severity),
            "urgency": tuple(Urgency),
            "certainty": tuple(Certainty),
            "category": tuple(Category),
            "tone": tuple(Tone),
            "resume": ("resume", "restart", "drop"),
        },
    )
