"""The routes of the pages. They ask the same questions as the API, with the same permissions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import quote, urlencode, urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from schemas.identifiers import UnitId
from services.control import accounts, airing_store, broadcast_store, fleet, offer_store, operation_store
from services.control.api import errors as api_errors
from services.control.api import step_up
from services.control.api.access import Scope, check_same_site, requires
from services.control.api.context import Caller, Parts, Services, origin_of, services_of
from services.control.api.fields import AfterDevice
from services.control.api.routes.sessions import clear_cookie, end_session, set_cookie
from services.control.catalogue.texts import Language, preferred
from services.control.errors import Conflict, NotFound, Unauthenticated
from services.control.operation_store import RequestState
from services.control.pages.rendering import STATIC, render
from services.control.pages.wording import Wording
from services.control.permissions import Permission
from services.control.units import UnitTree, UnitVersion

router = APIRouter(include_in_schema=False)

Own = Annotated[Caller, requires(Permission.OWN_ACCOUNT, Scope.ANYWHERE)]
UnitWatcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.UNIT)]
DeviceWatcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.DEVICE)]
BroadcastReader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.BROADCAST)]

_ENROL = "/account#factor"
_DEVICES_SHOWN = 100
_BROADCASTS_SHOWN = 10
_ALONE_SHOWN = 10
_HEARD_SINCE = timedelta(days=7)
_LANGUAGE_COOKIE = "loa_language"
_YEAR_S = 31_536_000
_OUTCOMES = ("planned", "played", "late", "cut", "missed", "refused", "unknown", "by_gateway", "pending", "overdue")
# Everything below these is for programs: problems stay documents there, whoever asks.
_FOR_PROGRAMS = ("/api/", "/media/", "/relays/", "/healthz", "/readyz", "/metrics", "/static/")


def _language(request: Request) -> Language:
    """What was chosen on a page, else Vietnamese: browsers here often ask for English without anybody meaning it."""
    chosen = request.query_params.get("lang") or request.cookies.get(_LANGUAGE_COOKIE)
    return preferred(chosen)


def wording_of(request: Request, services: Services) -> Wording:
    """How the page speaks."""
    return Wording(language=_language(request), zone=services.directory.zone, now=services.clock())


def page(
    request: Request,
    services: Services,
    template: str,
    *,
    caller: Caller | None = None,
    http_status: int = HTTPStatus.OK,
    **names: object,
) -> HTMLResponse:
    """A page, with what every page has."""
    wording = wording_of(request, services)
    html = render(
        template,
        wording,
        account=caller.actor if caller else None,
        csrf_token=caller.csrf_token if caller else None,
        here=request.url.path,
        site=f"{request.url.scheme}://{request.url.netloc}",
        decides=caller is not None
        and any(map(caller.rights.may_anywhere, (Permission.DECIDE_BULLETINS, Permission.ALLOW_EXCEPTIONS))),
        sees_alerts=caller is not None and caller.rights.may_anywhere(Permission.SEE_ALERTS),
        sees_inbox=caller is not None and caller.rights.may_in_root(Permission.SEE_QUARANTINE),
        language_address=_with_language(request, wording),
        **names,
    )
    response = HTMLResponse(html, status_code=http_status, headers={"Cache-Control": "no-store"})
    if request.query_params.get("lang") in list(Language):
        response.set_cookie(
            _LANGUAGE_COOKIE,
            wording.language.value,
            max_age=_YEAR_S,
            secure=services.http.is_https,
            httponly=True,
            samesite="lax",
        )
    return response


def _with_language(request: Request, wording: Wording) -> str:
    other = Language.ENGLISH if wording.language is Language.VIETNAMESE else Language.VIETNAMESE
    query = {name: value for name, value in request.query_params.items() if name != "lang"}
    # The query alone: a path that begins with two slashes would name another host.
    return f"?{urlencode({**query, 'lang': other.value})}"


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A file the pages need."""
    file = STATIC.get(name)
    if file is None:
        raise NotFound("no_such_address")
    return Response(
        file.content,
        media_type=file.media_type,
        headers={"ETag": f'"{file.version}"', "Cache-Control": "public, max-age=86400"},
    )


@router.get("/login", response_class=HTMLResponse)
async def login_page(request: Request, services: Parts) -> Response:
    """The form."""
    return page(request, services, "login.html", problem=None, next=_inside(request.query_params.get("next")), login="")


@router.post("/login", response_class=HTMLResponse)
async def log_in(request: Request, services: Parts) -> Response:
    """Log in and go where one wanted to; first to one's own account, while a second factor is still missing there."""
    check_same_site(request)
    form = await request.form(max_files=0, max_fields=10)
    login, password, wanted = (str(form.get(name) or "") for name in ("login", "password", "next"))
    logged_in = await accounts.log_in(
        services.database,
        services.passwords,
        login=login[:200],
        password=password[:1_000],
        origin=origin_of(request),
        user_agent=request.headers.get("user-agent"),
        lifetime=services.sessions.lifetime,
        now=services.clock(),
    )
    enrols_first = await step_up.should_enrol(services, logged_in.account, now=services.clock())
    response = RedirectResponse(_ENROL if enrols_first else _inside(wanted), status_code=HTTPStatus.SEE_OTHER)
    set_cookie(response, services, logged_in.token, logged_in.session)
    return response


@router.post("/logout")
async def log_out(caller: Own, services: Parts) -> Response:
    """End the session."""
    if caller.actor.session_id is None:
        raise Conflict("no_session")
    await end_session(services, caller, caller.actor.session_id)
    response = RedirectResponse("/login", status_code=HTTPStatus.SEE_OTHER)
    clear_cookie(response, services)
    return response


@router.get("/")
async def start(caller: Own) -> Response:
    """The highest unit the account sees, its own unit where it sees that; the account itself where it sees none."""
    own = caller.actor.unit_id
    seen = caller.rights.units(Permission.SEE_DEVICES)
    if not seen:
        return RedirectResponse("/account", status_code=HTTPStatus.SEE_OTHER)
    unit_id = own if caller.rights.may(Permission.SEE_DEVICES, own) else seen[0]
    return RedirectResponse(f"/units/{unit_id}", status_code=HTTPStatus.SEE_OTHER)


@router.get("/units/{unit_id}", response_class=HTMLResponse)
async def unit_page(
    unit_id: uuid.UUID,
    request: Request,
    caller: UnitWatcher,
    services: Parts,
    liveness: Annotated[Literal["online", "offline", "never"] | None, Query()] = None,
    kind: Annotated[Literal["cluster", "board", "sensor", "gateway"] | None, Query()] = None,
    after: Annotated[AfterDevice | None, Query()] = None,
) -> Response:
    """A unit: the units below it, its devices, what sounds, today's proof, and the ways to what it decides about."""
    tree = caller.rights.tree
    watches = caller.rights.may(Permission.SEE_ALERTS, UnitId(unit_id))
    today = services.directory.today(now=caller.now)
    async with services.database.connection() as connection:
        status = await fleet.unit_status(
            connection,
            UnitId(unit_id),
            tree=tree,
            zone=services.directory.zone,
            kind=kind,
            liveness=liveness,
            after=after,
            limit=_DEVICES_SHOWN,
            now=caller.now,
        )
        here = await broadcast_store.broadcasts_here(
            connection,
            tree.subtree(UnitId(unit_id)) or (UnitId(unit_id),),
            since=caller.now - _HEARD_SINCE,
            limit=_BROADCASTS_SHOWN,
        )
        alone = await operation_store.requests_on(
            connection,
            tree.with_ancestors(tree.subtree(UnitId(unit_id))) if watches else (),
            states=(RequestState.ALONE,),
            is_unacknowledged=True,
            limit=_ALONE_SHOWN,
        )
        to_answer = await offer_store.open_count(connection, own_units(UnitId(unit_id), tree), today=today)
    more = {"kind": kind, "liveness": liveness, "after": status.more_after}
    return page(
        request,
        services,
        "unit.html",
        caller=caller,
        unit=tree.get(UnitId(unit_id)),
        unit_id=unit_id,
        trail=trail_of(caller, UnitId(unit_id)),
        status=status,
        units=tree,
        kinds=fleet.KINDS,
        broadcasts=here,
        to_answer=to_answer,
        orders=tree.deciding(UnitId(unit_id)) == unit_id,
        makes=caller.rights.may(Permission.MAKE_BROADCASTS, UnitId(unit_id)),
        sees_work=caller.rights.may(Permission.SEE_BROADCASTS, UnitId(unit_id)),
        watches=watches,
        alone=alone,
        may_break=caller.rights.may(Permission.SILENCE_DEVICES, UnitId(unit_id)),
        may_read=_reading(caller),
        proof=proof_rows(status.proof_today),
        liveness=liveness,
        kind=kind,
        more_query=urlencode({name: value for name, value in more.items() if value is not None}),
    )


@router.get("/devices/{device_id}", response_class=HTMLResponse)
async def device_page(device_id: str, request: Request, caller: DeviceWatcher, services: Parts) -> Response:
    """A device: its state, what comes, and what was."""
    async with services.database.connection() as connection:
        history = await fleet.device_history(connection, device_id, now=caller.now)
    unit_id = history.status.state.unit_id
    return page(
        request,
        services,
        "device.html",
        caller=caller,
        trail=trail_of(caller, unit_id),
        unit=caller.rights.tree.get(unit_id),
        unit_id=unit_id,
        history=history,
        sees_tests=caller.rights.may(Permission.SEE_ALERTS, unit_id),
        status=history.status,
        may_read=_reading(caller),
        state=history.status.state,
    )


def _reading(caller: Caller) -> Callable[[UnitId], bool]:
    """Whether the caller may look at broadcasts of a unit: what sounds here may have been issued above."""
    return lambda unit_id: caller.rights.may(Permission.SEE_BROADCASTS, unit_id)


def trail_of(caller: Caller, unit_id: UnitId) -> tuple[tuple[UnitVersion, bool], ...]:
    """The units from the root down, and which of them the caller may look at."""
    tree = caller.rights.tree
    return tuple(
        (unit, caller.rights.may(Permission.SEE_DEVICES, unit.unit_id))
        for unit in (tree.get(each) for each in tree.path(unit_id))
        if unit is not None
    )


def own_units(unit_id: UnitId, tree: UnitTree) -> tuple[UnitId, ...]:
    """The unit and those closed ones that it follows: their inboxes are one."""
    return tuple(each for each in tree.subtree(unit_id) if tree.standing(each) == unit_id) or (unit_id,)


def proof_rows(counts: airing_store.ProofCounts) -> tuple[tuple[str, int], ...]:
    """Outcomes and their numbers; `planned` is always there, the others where there are any."""
    numbers = ((outcome, int(getattr(counts, outcome))) for outcome in _OUTCOMES)
    return tuple((outcome, number) for outcome, number in numbers if number or outcome == "planned")


# --- errors ----------------------------------------------------------------------------------------------------------


def respond_to_error(request: Request, error: Exception) -> Response:
    """Problem documents for programs; for people a page, or the form to log in."""
    path = request.url.path
    if path.startswith(_FOR_PROGRAMS):
        return api_errors.as_response(request, error)
    services = services_of(request)
    wording = wording_of(request, services)
    document, headers = api_errors.document_of(error, wording.language)
    if document["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        api_errors.note(request, document, error)
    if path == "/login":
        shown = page(
            request, services, "login.html", problem=document, next="/", login="", http_status=document["status"]
        )
    elif isinstance(error, Unauthenticated):
        target = path if request.method == "GET" else "/"
        return RedirectResponse(f"/login?next={quote(target)}", status_code=HTTPStatus.SEE_OTHER)
    else:
        shown = page(
            request, services, "problem.html", problem=document, retry=_again(request), http_status=document["status"]
        )
    shown.headers.update({name: value for name, value in headers.items() if name != "WWW-Authenticate"})
    return shown


def _again(request: Request) -> str:
    """Where one tries again: this address, or the page of ours whose form was refused, as the browser names it."""
    if request.method in ("GET", "HEAD"):
        return ""
    came_from = urlsplit(request.headers.get("referer", ""))
    if came_from.netloc != request.headers.get("host"):
        return "/"
    return _inside(came_from.path + (f"?{came_from.query}" if came_from.query else ""))


def _inside(target: str | None) -> str:
    """A path of ours to go on to; anything that could lead elsewhere is the start page."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable():
        return "/"
    parts = urlsplit(target)
    return "/" if parts.scheme or parts.netloc else target
