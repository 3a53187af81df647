"""The pages of test alerts: when a unit's ground is tested, what tests came to on each device, and which devices fail."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import time
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control import device_store
from services.control.alerting import alert_store, template_store
from services.control.alerting.timetable import AudibleTimes, SilentTimes
from services.control.alerting.weighing import OUTCOMES
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.fields import AfterDevice
from services.control.api.requests import RequestView
from services.control.api.routes import alert_tests as test_routes
from services.control.errors import Refusal
from services.control.pages.emergencies import is_mendable, key_of, once
from services.control.pages.forms import Sent, all_given, checked, form_of, given, returned
from services.control.pages.lookups import code_asked
from services.control.pages.pages import page, trail_of, wording_of
from services.control.permissions import Permission
from services.control.versions import etag

router = APIRouter(include_in_schema=False)

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
SeerHere = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.UNIT)]
SeerOfDevice = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.DEVICE)]
TesterHere = Annotated[Caller, requires(Permission.TEST_ALERTS, Scope.UNIT)]

_TESTS_SHOWN, _FAILING_SHOWN, _DEVICES_SHOWN = 30, 50, 100
_RUNS = {"run_silent": "silent_test", "run_audible": "audible_test"}
# What a unit says of one kind of test; "": nothing, and the nearest unit above is heard.
_ON, _OFF = "on", "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedTimes:
    """What stands in the fields of one kind of test."""

    says: str = ""
    at: str = "10:00"
    days: tuple[str, ...] = tuple("1234567")
    template_id: str = ""


@router.get("/units/{unit_id}/alert-tests", response_class=HTMLResponse)
async def tests_page(unit_id: uuid.UUID, request: Request, caller: SeerHere, services: Parts) -> Response:
    """When the unit's ground is tested, by whose word, what became of it, and which devices fail."""
    return await _tests_page(unit_id, request, caller, services)


@router.post("/units/{unit_id}/alert-tests", response_class=HTMLResponse)
async def act(unit_id: uuid.UUID, request: Request, caller: TesterHere, services: Parts, metrics: Metered) -> Response:
    """Save the timetable; or have a test now."""
    form = await form_of(request)
    values = given(form, "do", "version", "key")

    async def again(sent: Sent) -> Response:
        return await _tests_page(unit_id, request, caller, services, sent=sent)

    purpose = _RUNS.get(values.get("do", ""))
    if purpose is not None:
        body = checked(test_routes.TestRunBody, {"purpose": purpose})

        async def run(code: str | None) -> test_routes.TestIssuedView | RequestView:
            return await test_routes.run_test(unit_id, body, caller, services, metrics, Response(), second_factor=code)

        return await once(
            form, ["test", str(unit_id), purpose], run, again, request, caller, services, places=("purpose",)
        )
    try:
        wanted = checked(test_routes.TimetableBody, {name: _times(form, name) for name in ("silent", "audible")})
        version = etag(values.get("version", ""))
        await test_routes.put_timetable(unit_id, wanted, caller, Response(), services, if_match=version)
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=_place_of)
        return await again(Sent(about="timetable", form=form, back=back))
    return RedirectResponse(f"/units/{unit_id}/alert-tests", status_code=HTTPStatus.SEE_OTHER)


async def _tests_page(
    unit_id: uuid.UUID, request: Request, caller: Caller, services: Services, *, sent: Sent | None = None
) -> Response:
    unit, tree = UnitId(unit_id), caller.rights.tree
    language = wording_of(request, services).language
    timetable = await test_routes.get_timetable(unit_id, caller, Response(), services)
    trend = await test_routes.get_trend(unit_id, caller, services, limit=_TESTS_SHOWN)
    failing = await test_routes.list_failing(caller, services, unit_id=unit, language=language, limit=_FAILING_SHOWN)
    async with services.database.connection() as connection:
        templates = await template_store.templates_of(connection, tree.path(unit))
    may_test = caller.rights.may(Permission.TEST_ALERTS, unit) and tree.stands(unit)
    is_typed = sent is not None and sent.about == "timetable"
    return page(
        request,
        services,
        "alert_tests.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        trail=trail_of(caller, unit),
        unit=tree.get(unit),
        unit_id=unit,
        units=tree,
        timetable=timetable,
        forms_of={
            name: _typed(sent.form, name) if sent is not None and is_typed else _typed_of(said)
            for name, said in (("silent", timetable.silent), ("audible", timetable.audible))
        },
        trend=trend,
        failing=failing.devices,
        are_more_failing=failing.next_after is not None,
        templates=[each for each in templates if each.purpose is Purpose.AUDIBLE_TEST],
        names={each.template_id: each.name for each in templates},
        may_test=may_test,
        code=await code_asked(services, caller) if may_test else "",
        key=key_of(sent),
        sent=sent,
    )


@router.get("/alerts/{alert_id}/test-results", response_class=HTMLResponse)
async def results_page(
    alert_id: uuid.UUID,
    request: Request,
    caller: Seer,
    services: Parts,
    outcome: Annotated[Literal[*OUTCOMES] | None, Query()] = None,  # type: ignore[valid-type]
    after: Annotated[AfterDevice | None, Query()] = None,
) -> Response:
    """What one test came to on each device, and what to do about those that failed."""
    found = await test_routes.get_test_results(
        alert_id,
        caller,
        services,
        outcome=outcome,
        language=wording_of(request, services).language,
        after=after,
        limit=_DEVICES_SHOWN,
    )
    async with services.database.connection() as connection:
        alert = await alert_store.alert(connection, alert_id)
    return page(
        request,
        services,
        "test_results.html",
        caller=caller,
        units=caller.rights.tree,
        alert=alert,
        draft=alert.draft,
        results=found.results,
        next_after=found.next_after,
        outcome=outcome,
        outcomes=OUTCOMES,
        may_see=lambda unit_id: caller.rights.may(Permission.SEE_DEVICES, unit_id),
    )


@router.get("/devices/{device_id}/alert-tests", response_class=HTMLResponse)
async def device_tests_page(device_id: str, request: Request, caller: SeerOfDevice, services: Parts) -> Response:
    """What the latest tests came to on a device."""
    language = wording_of(request, services).language
    results = await test_routes.get_device_results(device_id, caller, services, language=language)
    async with services.database.connection() as connection:
        device = await device_store.device(connection, device_id, now=caller.now)
    return page(
        request,
        services,
        "device_tests.html",
        caller=caller,
        trail=trail_of(caller, UnitId(device.unit_id)),
        units=caller.rights.tree,
        device=device,
        results=results,
    )


# --- what is typed ---------------------------------------------------------------------------------------------------


def _typed(form: FormData, name: str) -> TypedTimes:
    return TypedTimes(
        says=str(form.get(name) or ""),
        at=str(form.get(f"{name}_at") or ""),
        days=tuple(all_given(form, f"{name}_days")),
        template_id=str(form.get(f"{name}_template_id") or ""),
    )


def _typed_of(said: SilentTimes | None) -> TypedTimes:
    if said is None:
        return TypedTimes()
    template = said.template_id if isinstance(said, AudibleTimes) else None
    return TypedTimes(
        says=_ON if said.on else _OFF,
        at=_minute(said.at),
        days=tuple(map(str, said.weekdays)),
        template_id=str(template) if template is not None else "",
    )


def _times(form: FormData, name: str) -> dict[str, Any] | None:
    """What the unit says of a kind of test, as the API takes it; None: nothing."""
    typed = _typed(form, name)
    if not typed.says:
        return None
    # What is neither is refused by the API, as it was sent.
    says = {_ON: True, _OFF: False}.get(typed.says, typed.says)
    wanted: dict[str, Any] = {"on": says, "at": typed.at, "weekdays": _numbers(typed.days)}
    return wanted | {"template_id": typed.template_id or None} if name == "audible" else wanted


def _numbers(days: Iterable[str]) -> list[int | str]:
    return [int(each) if each in "1234567" else each for each in days]


def _place_of(field: str) -> str:
    """Where in the form a field of the API is; "": at its head."""
    kind, _, name = field.partition(".")
    if kind not in ("silent", "audible"):
        return ""
    if name.startswith("weekdays"):
        return f"{kind}_days"
    return f"{kind}_{name}" if name in ("at", "template_id") else ""


def _minute(at: time) -> str:
    return at.isoformat("minutes")
