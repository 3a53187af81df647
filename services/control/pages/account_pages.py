"""The page of one's own account: password, second factor, sessions and API tokens. By the functions of the API."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.routes import second_factor as factor_routes
from services.control.api.routes import sessions as session_routes
from services.control.errors import Fault, Invalid, Refusal
from services.control.pages.forms import Sent, checked, form_of, given, only, returned
from services.control.pages.lookups import code_asked
from services.control.pages.pages import page, wording_of
from services.control.pages.qr import code_of
from services.control.permissions import Permission

router = APIRouter(include_in_schema=False)

Own = Annotated[Caller, requires(Permission.OWN_ACCOUNT, Scope.ANYWHERE)]

# For how many days a token may be made here.
LIFETIMES = (30, 90, 365)
_ADDRESS = "otpauth://totp/"
_LONGEST_ADDRESS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown this once: a secret to be confirmed, recovery codes, a token; `done` is what has just been done."""

    secret: str = ""
    address: str = ""
    recovery_codes: tuple[str, ...] = ()
    token: str = ""
    done: str = ""


@router.get("/account", response_class=HTMLResponse)
async def account_page(request: Request, caller: Own, services: Parts) -> Response:
    """One's own account."""
    return await _account_page(request, caller, services)


@router.post("/account/password", response_class=HTMLResponse)
async def change_password(request: Request, caller: Own, services: Parts) -> Response:
    """Change one's own password; every other session ends."""
    form = await form_of(request)
    # Passwords are taken as they were typed, blanks at their ends included.
    values = {name: str(form.get(name) or "") for name in ("old_password", "new_password")}

    async def change() -> Shown:
        if form.get("again") != values["new_password"]:
            raise Invalid(Fault("again", "password_not_repeated"))
        body = checked(session_routes.PasswordChange, values)
        await session_routes.change_password(body, caller, services)
        return Shown(done="account.password_changed")

    return await _tried("password", form, change, request, caller, services)


@router.post("/account/second-factor", response_class=HTMLResponse)
async def begin_factor(request: Request, caller: Own, services: Parts) -> Response:
    """Show a secret for an authenticator app."""
    form = await form_of(request)

    async def begin() -> Shown:
        body = checked(factor_routes.Proof, {"password": str(form.get("password") or "")})
        enrolment = await factor_routes.begin(body, caller, services)
        return Shown(secret=enrolment.secret, address=enrolment.address)

    return await _tried("factor", form, begin, request, caller, services)


@router.post("/account/second-factor/confirm", response_class=HTMLResponse)
async def confirm_factor(request: Request, caller: Own, services: Parts) -> Response:
    """Put the secret in force by a code of it."""
    form = await form_of(request)

    async def confirm() -> Shown:
        body = checked(factor_routes.Code, given(form, "code"))
        return Shown(recovery_codes=tuple((await factor_routes.confirm(body, caller, services)).recovery_codes))

    values = given(form, "secret", "address")
    address = values.get("address", "")
    is_ours = address.startswith(_ADDRESS) and len(address) <= _LONGEST_ADDRESS
    # With a wrong code the secret is still there to be looked at: the browser has it.
    kept = Shown(secret=values.get("secret", "")[:64], address=address) if is_ours else Shown()
    return await _tried("factor", form, confirm, request, caller, services, kept=kept)


@router.post("/account/second-factor/remove", response_class=HTMLResponse)
async def remove_factor(request: Request, caller: Own, services: Parts) -> Response:
    """Remove one's second factor by a code of it."""
    form = await form_of(request)

    async def remove() -> Shown:
        await factor_routes.remove(checked(factor_routes.Code, given(form, "code")), caller, services)
        return Shown(done="account.factor_removed")

    return await _tried("factor", form, remove, request, caller, services)


@router.post("/account/sessions/{session_id}/end")
async def end_session(session_id: uuid.UUID, caller: Own, services: Parts) -> Response:
    """End one of one's own sessions."""
    await session_routes.end_one_session(session_id, caller, services)
    return RedirectResponse("/account#sessions", status_code=HTTPStatus.SEE_OTHER)


@router.post("/account/tokens", response_class=HTMLResponse)
async def make_token(request: Request, caller: Own, services: Parts) -> Response:
    """Make a token for a program; it is shown this once."""
    form = await form_of(request)

    async def make() -> Shown:
        values = given(form, "name", "days")
        if values.get("days", "") not in {str(each) for each in LIFETIMES}:
            raise Invalid(Fault("days", "not_one_of", {"expected": ", ".join(map(str, LIFETIMES))}))
        expires_at = caller.now + timedelta(days=int(values["days"]))
        wanted = {**given(form, "name"), "expires_at": expires_at, "password": str(form.get("password") or "")}
        body = checked(session_routes.NewToken, wanted)
        made = await session_routes.create_token(body, caller, services, second_factor=given(form, "code").get("code"))
        return Shown(token=made.token)

    return await _tried("token", form, make, request, caller, services)


@router.post("/account/tokens/{token_id}/end")
async def end_token(token_id: uuid.UUID, caller: Own, services: Parts) -> Response:
    """End one of one's own tokens."""
    await session_routes.revoke_token(token_id, caller, services)
    return RedirectResponse("/account#tokens", status_code=HTTPStatus.SEE_OTHER)


async def _tried(
    about: str,
    form: FormData,
    do: Callable[[], Awaitable[Shown]],
    request: Request,
    caller: Caller,
    services: Services,
    *,
    kept: Shown | None = None,
) -> Response:
    """The page with what was done, or with the form as it was typed; passwords and codes are typed anew."""
    try:
        shown = await do()
    except Refusal as error:
        place_of = only("old_password", "new_password", "again", "password", "code", "name", "days", "expires_at")
        back = returned(error, wording_of(request, services).language, place_of=place_of)
        sent = Sent(about=about, form=form, back=back)
        return await _account_page(request, caller, services, sent=sent, shown=kept or Shown())
    return await _account_page(request, caller, services, shown=shown)


async def _account_page(
    request: Request,
    caller: Caller,
    services: Services,
    *,
    sent: Sent | None = None,
    shown: Shown | None = None,
) -> Response:
    factor = await factor_routes.own_factor(caller, services)
    own: Any = await session_routes.own_account(caller, services)
    return page(
        request,
        services,
        "account.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        units=caller.rights.tree,
        own=own.account,
        factor=factor,
        is_offered=services.secret_box is not None,
        is_needed=services.policy.second_factor_needed,
        sessions=await session_routes.list_sessions(caller, services),
        tokens=await session_routes.list_tokens(caller, services),
        lifetimes=LIFETIMES,
        code=await code_asked(services, caller),
        shown=shown or Shown(),
        qr=code_of(shown.address) if shown is not None and shown.address else None,
        sent=sent,
    )
