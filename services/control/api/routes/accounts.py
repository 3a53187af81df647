"""Accounts of other people: made, granted roles, disabled by administrators of their units."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import account_store, accounts, passwords
from services.control.account_store import Account
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import Body, Instant, Login, Name
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
from services.control.errors import Fault, Forbidden, Invalid
from services.control.permissions import Grant, Permission, Role
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/accounts", tags=["accounts"])

Seer = Annotated[Caller, requires(Permission.SEE_ACCOUNTS, Scope.ANYWHERE)]
Manager = Annotated[Caller, requires(Permission.MANAGE_ACCOUNTS, Scope.BODY)]
# An account belongs to several units at once; `accounts.check_may_manage` looks at all of them.
ManagerOfAccount = Annotated[Caller, requires(Permission.MANAGE_ACCOUNTS, Scope.BODY)]


class NewGrant(Body):
    """A role in a unit and everything below it."""

    unit_id: uuid.UUID
    role: Role
    expires_at: Instant | None = Field(default=None, description="default: as long as the granter's own right lasts")


class NewAccount(Body):
    """A person's account. There is no default password."""

    login: Login
    display_name: Name
    unit_id: uuid.UUID = Field(description="the unit whose administrators answer for the account")
    password: str = Field(min_length=1, max_length=1_000, description=f"at least {passwords.MIN_LENGTH} characters")
    grants: list[NewGrant] = Field(default_factory=list, max_length=50)


def _grant(body: NewGrant, caller: Caller) -> Grant:
    unit_id = UnitId(body.unit_id)
    expires_at = body.expires_at
    if expires_at is None and caller.rights.may(Permission.MANAGE_ACCOUNTS, unit_id):
        expires_at = caller.rights.lasts_until(Permission.MANAGE_ACCOUNTS, unit_id)
    return Grant(unit_id=unit_id, role=body.role, expires_at=expires_at)


def _grant_faults(body: NewGrant, caller: Caller, field: str) -> list[Fault]:
    prefix = f"{field}." if field else ""
    faults = []
    if UnitId(body.unit_id) not in caller.rights.tree:
        faults.append(Fault(f"{prefix}unit_id", "unknown_unit", {"unit": str(body.unit_id)}))
    if body.expires_at is not None and body.expires_at <= caller.now:
        faults.append(Fault(f"{prefix}expires_at", "instant_in_the_past"))
    return faults


@router.get("")
async def list_accounts(caller: Seer, services: Parts) -> list[AccountView]:
    """Accounts of the units one administers, and accounts that were granted something there."""
    async with services.database.connection() as connection:
        found = await account_store.accounts_of(connection, caller.rights.reach(Permission.SEE_ACCOUNTS))
    return [account_view(each) for each in found]


@router.post("", status_code=201)
async def create_account(
    body: NewAccount, caller: Manager, services: Parts, second_factor: GivenCode = None
) -> AccountView:
    """Make an account with its first grants, all below one's own administration."""
    await step_up.demand(services, caller, Operation.MANAGE_ACCOUNTS, code=second_factor)
    unit_id = UnitId(body.unit_id)
    faults = [
        Fault("password", code, {"minimum": passwords.MIN_LENGTH, "maximum": passwords.MAX_LENGTH})
        for code in passwords.faults_of(body.password, login=body.login)
    ]
    if unit_id not in caller.rights.tree:
        faults.append(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    for position, each in enumerate(body.grants):
        faults += _grant_faults(each, caller, f"grants[{position}]")
    if faults:
        raise Invalid(*faults)
    caller.demand(Permission.MANAGE_ACCOUNTS, unit_id, field="unit_id")
    account = Account(
        account_id=uuid.uuid4(),
        unit_id=unit_id,
        login=body.login,
        display_name=body.display_name,
        created_at=caller.now,
        disabled_at=None,
        grants=tuple(_grant(each, caller) for each in body.grants),
    )
    accounts.check_grants(account.grants, caller.rights, field="grants")
    password_hash = await services.passwords.hash(body.password)
    async with services.database.transaction() as connection:
        await accounts.create_account(
            connection,
            account=account,
            password_hash=password_hash,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return account_view(account)


@router.get("/{account_id}")
async def get_account(account_id: uuid.UUID, caller: Seer, services: Parts) -> AccountView:
    """One account that belongs to a unit one administers, or was granted something there."""
    async with services.database.connection() as connection:
        account = await account_store.account(connection, account_id)
    units = {account.unit_id, *(grant.unit_id for grant in account.grants)}
    if not any(caller.rights.may(Permission.SEE_ACCOUNTS, unit_id) for unit_id in units):
        raise Forbidden("account_beyond_own_rights", facts={"login": account.login})
    return account_view(account)


@router.post("/{account_id}/grants")
async def grant_role(
    account_id: uuid.UUID,
    body: NewGrant,
    caller: ManagerOfAccount,
    services: Parts,
    second_factor: GivenCode = None,
) -> AccountView:
    """Grant a role; granting it again sets its new end."""
    await step_up.demand(services, caller, Operation.MANAGE_ACCOUNTS, code=second_factor)
    faults = _grant_faults(body, caller, "")
    if faults:
        raise Invalid(*faults)
    async with services.database.transaction() as connection:
        account = await account_store.account(connection, account_id)
        changed = await accounts.grant_role(
            connection,
            account,
            _grant(body, caller),
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return account_view(changed)


@router.delete("/{account_id}/grants/{unit_id}/{role}")
async def revoke_role(
    account_id: uuid.UUID, unit_id: uuid.UUID, role: Role, caller: ManagerOfAccount, services: Parts
) -> AccountView:
    """Take a role back."""
    async with services.database.transaction() as connection:
        account = await account_store.account(connection, account_id)
        changed = await accounts.revoke_role(
            connection,
            account,
            Grant(unit_id=UnitId(unit_id), role=role),
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return account_view(changed)


@router.post("/{account_id}/disable")
async def disable_account(account_id: uuid.UUID, caller: ManagerOfAccount, services: Parts) -> AccountView:
    """Disable an account: its sessions end and its tokens are void from this moment."""
    return await _set_disabled(account_id, caller, services, disabled=True)


@router.post("/{account_id}/enable")
async def enable_account(
    account_id: uuid.UUID, caller: ManagerOfAccount, services: Parts, second_factor: GivenCode = None
) -> AccountView:
    """Let a disabled account log in again."""
    await step_up.demand(services, caller, Operation.MANAGE_ACCOUNTS, code=second_factor)
    return await _set_disabled(account_id, caller, services, disabled=False)


async def _set_disabled(account_id: uuid.UUID, caller: Caller, services: Parts, *, disabled: bool) -> AccountView:
    async with services.database.transaction() as connection:
        account = await account_store.account(connection, account_id)
        changed = await accounts.set_disabled(
            connection,
            account,
            disabled=disabled,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return account_view(changed)


@router.get("/{account_id}/sessions")
async def list_sessions(account_id: uuid.UUID, caller: ManagerOfAccount, services: Parts) -> list[SessionView]:
    """Open sessions of an account one administers, newest first."""
    async with services.database.connection() as connection:
        await _managed(connection, account_id, caller)
        found = await account_store.sessions_of(
            connection, account_id, now=caller.now, seen_after=caller.now - services.sessions.idle
        )
    return [session_view(each, caller.actor.session_id) for each in found]


@router.delete("/{account_id}/sessions")
async def end_sessions(account_id: uuid.UUID, caller: ManagerOfAccount, services: Parts) -> EndedView:
    """End every session of an account one administers."""
    async with services.database.transaction() as connection:
        account = await _managed(connection, account_id, caller)
        ended = await accounts.end_sessions(
            connection, account_id, account.unit_id, actor=caller.actor, origin=caller.origin, now=caller.now
        )
    return EndedView(ended=ended)


@router.get("/{account_id}/tokens")
async def list_tokens(account_id: uuid.UUID, caller: ManagerOfAccount, services: Parts) -> list[TokenView]:
    """Tokens of an account one administers that still hold, and when each was last used."""
    async with services.database.connection() as connection:
        await _managed(connection, account_id, caller)
        found = await account_store.tokens_of(connection, account_id, now=caller.now)
    return list(map(token_view, found))


@router.delete("/{account_id}/tokens/{token_id}", status_code=204)
async def revoke_token(account_id: uuid.UUID, token_id: uuid.UUID, caller: ManagerOfAccount, services: Parts) -> None:
    """Make a token of an account one administers void."""
    async with services.database.transaction() as connection:
        account = await _managed(connection, account_id, caller)
        await accounts.revoke_token(
            connection, account_id, account.unit_id, token_id, actor=caller.actor, origin=caller.origin, now=caller.now
        )


async def _managed(connection: Connection, account_id: uuid.UUID, caller: Caller) -> Account:
    account = await account_store.account(connection, account_id)
    accounts.check_may_manage(account, caller.rights, caller.actor)
    return account
