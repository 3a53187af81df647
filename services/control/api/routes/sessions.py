"""Logging in and out: sessions for browsers, tokens for programs, one's own account."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import account_store, accounts, audit, credentials
from services.control.account_store import Account, Session
from services.control.api import step_up
from services.control.api.access import Scope, check_same_site, cookie_name, requires
from services.control.api.context import Caller, Parts, Services, origin_of
from services.control.api.errors import documented
from services.control.api.fields import Answer, Body, Instant, Name
from services.control.api.step_up import GivenCode, Operation
from services.control.api.views import (
    AccountView,
    EndedView,
    SessionView,
    TokenView,
    account_view,
    session_view,
    token_view,
)
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Narrowing, Permission

router = APIRouter(prefix="/api/v1", tags=["sessions"])

Own = Annotated[Caller, requires(Permission.OWN_ACCOUNT, Scope.ANYWHERE)]


class Credentials(Body):
    """Login and password."""

    login: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=200)


class LoginView(Answer):
    """A new session; the cookie is in the response's headers."""

    session_id: uuid.UUID
    csrf_token: str = Field(description="to be sent as X-CSRF-Token with every POST, PUT, PATCH and DELETE")
    expires_at: datetime
    account: AccountView


class NewToken(Body):
    """What a token is for and until when it holds."""

    name: Name
    expires_at: Instant | None = Field(default=None, description="default: 90 days from now")
    permissions: list[Permission] | None = Field(
        default=None,
        min_length=1,
        max_length=len(Permission),
        description="all it may do; default: what its account may",
    )
    unit_id: uuid.UUID | None = Field(
        default=None, description="where it may do so, there and below; default: wherever its account may"
    )
    password: str | None = Field(
        default=None, min_length=1, max_length=200, description="one's own, in a session: it may have been left open"
    )


class NewTokenView(TokenView):
    """A token just made."""

    token: str = Field(description="shown this once; send it as `Authorization: Bearer …`")


class OwnAccountView(Answer):
    """Who one is, what one may do where, and the CSRF token of the session."""

    account: AccountView
    permissions: dict[str, list[uuid.UUID]] = Field(description="per permission the highest units it holds in")
    csrf_token: str | None


class PasswordChange(Body):
    """The old password and the new one."""

    old_password: str = Field(min_length=1, max_length=200)
    new_password: str = Field(min_length=1, max_length=1_000)


TOKEN_LIFETIME = timedelta(days=90)


def set_cookie(response: Response, services: Services, token: str, session: Session) -> None:
    """Give the browser the session: no script reads it, no other site sends it."""
    response.set_cookie(
        cookie_name(services.http),
        token,
        max_age=int((session.expires_at - session.created_at).total_seconds()),
        path="/",
        secure=services.http.is_https,
        httponly=True,
        samesite="strict",
    )


def clear_cookie(response: Response, services: Services) -> None:
    """Take the session's cookie back."""
    response.delete_cookie(
        cookie_name(services.http), path="/", secure=services.http.is_https, httponly=True, samesite="strict"
    )


@router.post("/sessions", status_code=201, responses=documented([401, 403]))
async def log_in(body: Credentials, request: Request, response: Response, services: Parts) -> LoginView:
    """Log in. Too many failures make one wait (429 with Retry-After)."""
    check_same_site(request)
    logged_in = await accounts.log_in(
        services.database,
        services.passwords,
        login=body.login,
        password=body.password,
        origin=origin_of(request),
        user_agent=request.headers.get("user-agent"),
        lifetime=services.sessions.lifetime,
        now=services.clock(),
    )
    async with services.database.connection() as connection:
        account = await account_store.account(connection, logged_in.session.account_id)
    set_cookie(response, services, logged_in.token, logged_in.session)
    return LoginView(
        session_id=logged_in.session.session_id,
        csrf_token=credentials.csrf_token(logged_in.token),
        expires_at=logged_in.session.expires_at,
        account=account_view(account),
    )


@router.get("/sessions")
async def list_sessions(caller: Own, services: Parts) -> list[SessionView]:
    """One's own open sessions, newest first."""
    async with services.database.connection() as connection:
        found = await account_store.sessions_of(
            connection,
            caller.actor.account_id,
            now=caller.now,
            seen_after=caller.now - services.sessions.idle,
        )
    return [session_view(each, caller.actor.session_id) for each in found]


async def end_session(services: Services, caller: Caller, session_id: uuid.UUID) -> None:
    """End a session of the caller's own, and write it down."""
    async with services.database.transaction() as connection:
        await account_store.end_session(connection, caller.actor.account_id, session_id, at=caller.now)
        await audit.record(
            connection,
            Entry(action="logged_out", subject=f"session:{session_id}", unit_id=caller.actor.unit_id),
            actor=caller.actor,
            origin=caller.origin,
            at=caller.now,
        )


@router.delete("/sessions")
async def end_other_sessions(caller: Own, services: Parts) -> EndedView:
    """End all of one's own sessions but the one this request came with."""
    async with services.database.transaction() as connection:
        ended = await accounts.end_sessions(
            connection,
            caller.actor.account_id,
            caller.actor.unit_id,
            keep=caller.actor.session_id,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return EndedView(ended=ended)


@router.delete("/sessions/current", status_code=204)
async def log_out(caller: Own, response: Response, services: Parts) -> None:
    """Log out: end the session this request came with."""
    if caller.actor.session_id is None:
        raise Conflict("no_session")
    await end_session(services, caller, caller.actor.session_id)
    clear_cookie(response, services)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_one_session(session_id: uuid.UUID, caller: Own, services: Parts) -> None:
    """End one of one's own sessions."""
    await end_session(services, caller, session_id)


@router.get("/account")
async def own_account(caller: Own, services: Parts) -> OwnAccountView:
    """One's own account and rights of today."""
    async with services.database.connection() as connection:
        account: Account = await account_store.account(connection, caller.actor.account_id)
    return OwnAccountView(
        account=account_view(account),
        permissions={
            permission.value: list(units) for permission in Permission if (units := caller.rights.units(permission))
        },
        csrf_token=caller.csrf_token,
    )


@router.put("/account/password", status_code=204)
async def change_password(body: PasswordChange, caller: Own, services: Parts) -> None:
    """Change one's own password; every other session ends, and every token is void."""
    await accounts.change_own_password(
        services.database,
        services.passwords,
        actor=caller.actor,
        old=body.old_password,
        new=body.new_password,
        origin=caller.origin,
        now=caller.now,
    )


@router.get("/tokens")
async def list_tokens(caller: Own, services: Parts) -> list[TokenView]:
    """One's own tokens that still hold."""
    async with services.database.connection() as connection:
        found = await account_store.tokens_of(connection, caller.actor.account_id, now=caller.now)
    return list(map(token_view, found))


@router.post("/tokens", status_code=201)
async def create_token(body: NewToken, caller: Own, services: Parts, second_factor: GivenCode = None) -> NewTokenView:
    """Make a token for a program: it may do what its account may at the time, or less.

    In a session it wants the password again, and the second factor of who has one. Made with a token it may no more than
    that, and does not outlast it.
    """
    if caller.actor.session_id is not None:
        await _prove(body, caller, services, second_factor)
    narrowing = accounts.narrowed(
        Narrowing(
            permissions=frozenset(body.permissions) if body.permissions is not None else None,
            unit_id=UnitId(body.unit_id) if body.unit_id is not None else None,
        ),
        caller.rights,
        caller.actor,
    )
    longest = caller.now + services.sessions.token_lifetime
    if caller.actor.token_expires_at is not None:
        longest = min(longest, caller.actor.token_expires_at)
    expires_at = body.expires_at or min(longest, caller.now + TOKEN_LIFETIME)
    if expires_at <= caller.now:
        raise Invalid(Fault("expires_at", "instant_in_the_past"))
    if expires_at > longest:
        raise Invalid(Fault("expires_at", "instant_too_late", {"latest": longest.isoformat(timespec="minutes")}))
    async with services.database.transaction() as connection:
        token, text = await accounts.create_token(
            connection,
            actor=caller.actor,
            name=body.name,
            expires_at=expires_at,
            narrowing=narrowing,
            origin=caller.origin,
            now=caller.now,
        )
    return NewTokenView(**token_view(token).model_dump(), token=text)


async def _prove(body: NewToken, caller: Caller, services: Services, code: str | None) -> None:
    """Whoever is there is whose session it is. Raises as logging in and showing the second factor do."""
    if body.password is None:
        raise Invalid(Fault("password", "field_missing"))
    await step_up.prove_password(services, caller, body.password)
    await step_up.demand(services, caller, Operation.MAKE_TOKEN, code=code)


@router.delete("/tokens/{token_id}", status_code=204)
async def revoke_token(token_id: uuid.UUID, caller: Own, services: Parts) -> None:
    """Revoke one of one's own tokens."""
    async with services.database.transaction() as connection:
        await accounts.revoke_token(
            connection,
            caller.actor.account_id,
            caller.actor.unit_id,
            token_id,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
