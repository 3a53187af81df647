"""Logging in and out: sessions for browsers, tokens for programs, one's own account."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from services.control import account_store, accounts, audit, credentials
from services.control.account_store import Account, Session
from services.control.api.access import COOKIE, Scope, requires
from services.control.api.context import Caller, Parts, Services, origin_of
from services.control.api.errors import documented
from services.control.api.fields import Answer, Body, Instant, Name
from services.control.api.views import AccountView, account_view
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Permission

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


class SessionView(Answer):
    """An open session of one's own."""

    session_id: uuid.UUID
    is_current: bool
    origin: str | None
    user_agent: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class NewToken(Body):
    """What a token is for and until when it holds."""

    name: Name
    expires_at: Instant | None = Field(default=None, description="default: 90 days from now")


class TokenView(Answer):
    """A token; the token itself is shown once, when it is made."""

    token_id: uuid.UUID
    name: str
    created_at: datetime
    expires_at: datetime


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
        COOKIE,
        token,
        max_age=int((session.expires_at - session.created_at).total_seconds()),
        path="/",
        secure=services.http.is_https,
        httponly=True,
        samesite="strict",
    )


def clear_cookie(response: Response, services: Services) -> None:
    """Take the session's cookie back."""
    response.delete_cookie(COOKIE, path="/", secure=services.http.is_https, httponly=True, samesite="strict")


@router.post("/sessions", status_code=201, responses=documented([400, 401, 422, 429]))
async def log_in(body: Credentials, request: Request, response: Response, services: Parts) -> LoginView:
    """Log in. Too many failures make one wait (429 with Retry-After)."""
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


@router.get("/sessions", responses=documented([401]))
async def list_sessions(caller: Own, services: Parts) -> list[SessionView]:
    """One's own open sessions, newest first."""
    async with services.database.connection() as connection:
        found = await account_store.sessions_of(
            connection,
            caller.actor.account_id,
            now=caller.now,
            seen_after=caller.now - services.sessions.idle,
        )
    return [
        SessionView(
            session_id=each.session_id,
            is_current=each.session_id == caller.actor.session_id,
            origin=each.origin,
            user_agent=each.user_agent,
            created_at=each.created_at,
            last_seen_at=each.last_seen_at,
            expires_at=each.expires_at,
        )
        for each in found
    ]


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


@router.delete("/sessions/current", status_code=204, responses=documented([401, 403, 409]))
async def log_out(caller: Own, response: Response, services: Parts) -> None:
    """Log out: end the session this request came with."""
    if caller.actor.session_id is None:
        raise Conflict("no_session")
    await end_session(services, caller, caller.actor.session_id)
    clear_cookie(response, services)


@router.delete("/sessions/{session_id}", status_code=204, responses=documented([401, 403, 404]))
async def end_one_session(session_id: uuid.UUID, caller: Own, services: Parts) -> None:
    """End one of one's own sessions."""
    await end_session(services, caller, session_id)


@router.get("/account", responses=documented([401]))
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


@router.put("/account/password", status_code=204, responses=documented([401, 403, 422, 429]))
async def change_password(body: PasswordChange, caller: Own, services: Parts) -> None:
    """Change one's own password; every other session ends."""
    await accounts.change_own_password(
        services.database,
        services.passwords,
        actor=caller.actor,
        old=body.old_password,
        new=body.new_password,
        origin=caller.origin,
        now=caller.now,
    )


@router.get("/tokens", responses=documented([401]))
async def list_tokens(caller: Own, services: Parts) -> list[TokenView]:
    """One's own tokens that still hold."""
    async with services.database.connection() as connection:
        found = await account_store.tokens_of(connection, caller.actor.account_id, now=caller.now)
    return [
        TokenView(token_id=each.token_id, name=each.name, created_at=each.created_at, expires_at=each.expires_at)
        for each in found
    ]


@router.post("/tokens", status_code=201, responses=documented([401, 403, 422]))
async def create_token(body: NewToken, caller: Own, services: Parts) -> NewTokenView:
    """Make a token for a program; it may do what its account may. One made with a token does not outlast that."""
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
            origin=caller.origin,
            now=caller.now,
        )
    return NewTokenView(
        token_id=token.token_id,
        name=token.name,
        created_at=token.created_at,
        expires_at=token.expires_at,
        token=text,
    )


@router.delete("/tokens/{token_id}", status_code=204, responses=documented([401, 403, 404]))
async def revoke_token(token_id: uuid.UUID, caller: Own, services: Parts) -> None:
    """Revoke one of one's own tokens."""
    async with services.database.transaction() as connection:
        await account_store.revoke_token(connection, caller.actor.account_id, token_id, at=caller.now)
        await audit.record(
            connection,
            Entry(action="token_revoked", subject=f"token:{token_id}", unit_id=caller.actor.unit_id),
            actor=caller.actor,
            origin=caller.origin,
            at=caller.now,
        )
