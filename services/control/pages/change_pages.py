"""The pages on which an alert in force is changed: other words, another severity or end; looked at, then said in its place."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from schemas.alerts import Purpose
from services.control import alerts
from services.control.alerting import alert_store, voicing
from services.control.alerting.documents import audience_document
from services.control.alerting.model import Alert, AlertDraft, AlertText, AudienceWish, Severity
from services.control.api.access import Scope, requires
from services.control.api.alert_bodies import AlertView, ContentBody
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.requests import RequestView
from services.control.api.routes import alerts as alert_routes
from services.control.errors import Fault, Invalid, Refusal
from services.control.pages.emergencies import aim_of_alert, alone_of, asks_second, is_mendable, key_of, once
from services.control.pages.forms import Returned, Sent, checked, form_of, given, returned
from services.control.pages.lookups import code_asked
from services.control.pages.pages import page, wording_of
from services.control.permissions import Permission
from services.control.planning.policies import Danger
from services.control.versions import etag

router = APIRouter(include_in_schema=False)

Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.BODY)]

_WORDS = ("headline", "description", "instruction", "board_text")
_TONE = "tone"  # in place of the sound there is


@router.get("/alerts/{alert_id}/change", response_class=HTMLResponse)
async def change_page(alert_id: uuid.UUID, request: Request, caller: Releaser, services: Parts) -> Response:
    """What it says now, to be changed."""
    alert = await _alert(alert_id, services)
    _demand(alert, caller)
    if alert.is_over(now=caller.now):
        return RedirectResponse(f"/alerts/{alert_id}", status_code=HTTPStatus.SEE_OTHER)
    return _form_page(alert, request, caller, services)


@router.post("/alerts/{alert_id}/change", response_class=HTMLResponse)
async def change(
    alert_id: uuid.UUID, request: Request, caller: Releaser, services: Parts, metrics: Metered
) -> Response:
    """Show what would be said in its place; or say it."""
    form = await form_of(request)
    values = given(form, "do", "version")
    # What is said without the right to is refused by the API, which keeps the attempt; nothing is shown before that.
    alert = await _alert(alert_id, services)
    if values.get("do") != "go":
        _demand(alert, caller)

    async def say(code: str | None) -> AlertView | RequestView:
        return await alert_routes.update_alert(
            alert_id,
            _body(form, alert.draft, services.directory.zone),
            caller,
            Response(),
            services,
            metrics,
            if_match=etag(values.get("version", "")),
            second_factor=code,
            break_glass=alone_of(form),
        )

    async def again(sent: Sent) -> Response:
        """The review where what was read still stands and can be said; else the form, beside what stands by now."""
        _demand(alert, caller)
        if sent.back.status == HTTPStatus.CONFLICT:
            return _form_page(await _alert(alert_id, services), request, caller, services, form, sent.back)
        try:
            return await _review_page(alert, form, request, caller, services, sent=sent)
        except Invalid:
            return _form_page(alert, request, caller, services, form, sent.back)

    if values.get("do") == "go":
        return await once(form, [str(alert_id), _asked(form)], say, again, request, caller, services)
    try:
        if values.get("do") == "mend":
            return _form_page(alert, request, caller, services, form)
        return await _review_page(alert, form, request, caller, services)
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language)
        return _form_page(alert, request, caller, services, form, back)


async def _alert(alert_id: uuid.UUID, services: Services) -> Alert:
    """The alert, for nobody's eyes before `_demand`. Raises `NotFound` for a silence or a test."""
    async with services.database.connection() as connection:
        alert = await alert_store.alert(connection, alert_id)
    if alert.draft.purpose is not Purpose.ALERT:
        alert_store.none_such(alert_id)
    return alert


def _demand(alert: Alert, caller: Caller) -> None:
    """Raises `Forbidden` unless the caller may say something else in its place."""
    caller.demand(alerts.PERMISSIONS[alert.draft.purpose], alert.draft.unit_id, field="alert_id")


def _form_page(
    alert: Alert,
    request: Request,
    caller: Caller,
    services: Services,
    form: FormData | None = None,
    back: Returned | None = None,
) -> Response:
    """The form with what it says, or with what was typed into one that was sent."""
    draft = alert.draft
    until = draft.valid_until.astimezone(services.directory.zone)

    def typed(name: str, otherwise: str) -> str:
        return otherwise if form is None else str(form.get(name) or "")

    def words(name: str, place: int, otherwise: str | None) -> str:
        if form is None:
            return otherwise or ""
        said = form.getlist(name)
        return str(said[place]) if place < len(said) else ""

    rows = [row for _, row in _said(draft, with_sound=typed("sound", "") != _TONE)]
    at = {row: rows.index(row) for row in rows}  # where the API finds fault with what is typed in a row
    return page(
        request,
        services,
        "alert_change.html",
        caller=caller,
        http_status=HTTPStatus.OK if back is None else back.status,
        units=caller.rights.tree,
        alert=alert,
        draft=draft,
        texts=[
            {name: words(name, row, getattr(each, name)) for name in _WORDS}
            | {"language": each.language, "at": at[row]}
            for row, (each, _) in enumerate(voicing.folded(draft.texts))
        ],
        severities=[each.value for each in Severity],
        severity=typed("severity", draft.severity.value),
        until=typed("until", _minute(until)),
        sound=typed("sound", ""),
        back=back,
    )


async def _review_page(
    alert: Alert,
    form: FormData,
    request: Request,
    caller: Caller,
    services: Services,
    *,
    sent: Sent | None = None,
) -> Response:
    """What would be said, as it would be said. Raises `Invalid`."""
    body = _body(form, alert.draft, services.directory.zone)
    async with services.database.connection() as connection:
        draft = await alert_routes.with_sound(connection, body.draft(alert.draft.unit_id, alert.draft.purpose))
    aim = await aim_of_alert(replace(alert, draft=draft, stopped_in=()), caller, services)
    return page(
        request,
        services,
        "alert_change_review.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        units=caller.rights.tree,
        alert=alert,
        draft=draft,
        aim=aim,
        carried=[(name, str(value)) for name, value in form.multi_items() if name in _CARRIED],
        version=form.get("version") or alert.version,
        code=await code_asked(services, caller),
        key=key_of(sent),
        asks_second=await asks_second(aim.device_nos, Danger.ALERTS, caller, services),
        sent=sent,
    )


# --- what is typed ---------------------------------------------------------------------------------------------------

_CARRIED = (*_WORDS, "severity", "until", "sound")


def _asked(form: FormData) -> list[str]:
    return [f"{name}={value}" for name, value in form.multi_items() if name in (*_CARRIED, "version")]


def _body(form: FormData, draft: AlertDraft, zone: ZoneInfo) -> ContentBody:
    """What the API is asked for: what was typed, and the rest as it is. Raises `Invalid`."""
    typed: list[dict[str, Any]] = []
    columns: Mapping[str, list[str]] = {name: [str(each) for each in form.getlist(name)] for name in _WORDS}
    with_sound = form.get("sound") != _TONE
    for each, row in _said(draft, with_sound=with_sound):
        sound = each.media_sha256.hex() if with_sound and each.media_sha256 is not None else None
        words = {name: (said[row].strip() if row < len(said) else "") for name, said in columns.items()}
        text = {"language": each.language, "headline": words.pop("headline"), "media_sha256": sound}
        typed.append(text | {name: value or None for name, value in words.items()})
    until, faults = draft.valid_until, []
    if form.get("until") != _minute(until.astimezone(zone)):
        try:
            until = datetime.fromisoformat(str(form.get("until") or "")).replace(tzinfo=zone)
        except ValueError:
            faults.append(Fault("valid_until", "not_a_local_day_or_moment"))
    wanted = {
        **{
            name: getattr(draft, name)
            for name in ("status", "event", "category", "urgency", "certainty", "volume_percent")
        },
        "severity": form.get("severity"),
        "texts": typed,
        "audience": _audience(draft.audience),
        "valid_until": until,
        "repeat_interval_s": round(draft.repeat_interval.total_seconds()) if draft.repeat_interval else None,
        "resume": draft.resume.name.lower(),
    }
    return checked(ContentBody, wanted, own_faults=faults)


def _said(draft: AlertDraft, *, with_sound: bool) -> list[tuple[AlertText, int]]:
    """The texts that go on being said, each with the row its words are typed in.

    What only reads another text aloud is shown in no row of its own, follows its words, and without a sound is left out.
    """
    places = voicing.originals(draft.texts)
    row = {place: number for number, place in enumerate(sorted(set(places)))}
    return [
        (each, row[of])
        for place, (each, of) in enumerate(zip(draft.texts, places, strict=True))
        if of == place or (with_sound and each.media_sha256 is not None)
    ]


def _audience(wish: AudienceWish) -> dict[str, Any]:
    """Whom it means, as the API takes it."""

    def point(pair: list[float]) -> dict[str, float]:
        return {"latitude": pair[0], "longitude": pair[1]}

    said = audience_document(wish)
    areas = [
        {
            **area,
            "polygons": [list(map(point, corners)) for corners in area["polygons"]],
            "circles": [{**circle, "centre": point(circle["centre"])} for circle in area["circles"]],
        }
        for area in said["areas"]
    ]
    return {**said, "areas": areas}


def _minute(local: datetime) -> str:
    """As a browser's field for a day and a time gives and takes it."""
    return f"{local:%Y-%m-%dT%H:%M}"
