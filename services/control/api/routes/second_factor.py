"""One's second factor: enrolled with an authenticator app, shown, removed; by an administrator where it is lost."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from services.control import account_store, accounts, second_factor_store, second_factors
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import Answer, Body
from services.control.api.step_up import GivenCode, Operation
from services.control.errors import Conflict
from services.control.permissions import Permission

router = APIRouter(prefix="/api/v1", tags=["sessions"])

Own = Annotated[Caller, requires(Permission.OWN_ACCOUNT, Scope.ANYWHERE)]
# An account belongs to several units at once; `accounts.check_may_manage` looks at all of them.
ManagerOfAccount = Annotated[Caller, requires(Permission.MANAGE_ACCOUNTS, Scope.BODY)]


class Code(Body):
    """A code of the app, or a recovery code."""

    code: str = Field(min_length=1, max_length=64)


class Proof(Body):
    """Who is there knows the password, and does not only hold a session that somebody left open."""

    password: str = Field(min_length=1, max_length=200)


class FactorView(Answer):
    """Whether a second factor is in force."""

    is_in_force: bool
    recovery_codes_left: int


class EnrolmentView(Answer):
    """A secret for an authenticator app, shown this once; in force once a code of it was given."""

    secret: str = Field(description="base32, to be typed into the app")
    address: str = Field(description="otpauth address, to be shown as a QR code")


class RecoveryView(Answer):
    """Codes for the day the app is lost, each for one use, shown this once."""

    recovery_codes: list[str]


@router.get("/account/second-factor")
async def own_factor(caller: Own, services: Parts) -> FactorView:
    """Whether one has a second factor."""
    async with services.database.connection() as connection:
        factor = await second_factor_store.factor(connection, caller.actor.account_id)
        left = await second_factor_store.recovery_codes_left(connection, caller.actor.account_id)
    return FactorView(is_in_force=factor is not None and factor.confirmed_at is not None, recovery_codes_left=left)


@router.post("/account/second-factor", status_code=201)
async def begin(body: Proof, caller: Own, services: Parts) -> EnrolmentView:
    """Begin to enrol a second factor; asking again gives a new secret until one is confirmed."""
    _refuse_programs(caller)
    await step_up.prove_password(services, caller, body.password)
    async with services.database.transaction() as connection:
        enrolment = await second_factors.begin(
            connection, services.secret_box, actor=caller.actor, origin=caller.origin, now=caller.now
        )
    return EnrolmentView(secret=enrolment.secret, address=enrolment.address)


@router.post("/account/second-factor/confirm")
async def confirm(body: Code, caller: Own, services: Parts) -> RecoveryView:
    """Put the secret in force by a code of it."""
    _refuse_programs(caller)
    codes = await second_factors.confirm(
        services.database,
        services.secret_box,
        actor=caller.actor,
        code=body.code,
        origin=caller.origin,
        now=caller.now,
    )
    return RecoveryView(recovery_codes=list(codes))


@router.post("/account/second-factor/remove", status_code=204)
async def remove(body: Code, caller: Own, services: Parts) -> None:
    """Remove one's second factor; a code of it is needed once more."""
    _refuse_programs(caller)
    await _show(body, caller, services)
    async with services.database.transaction() as connection:
        account = await account_store.account(connection, caller.actor.account_id)
        await second_factors.remove(connection, account, actor=caller.actor, origin=caller.origin, now=caller.now)


@router.post("/sessions/current/second-factor", status_code=204)
async def show(body: Code, caller: Own, services: Parts) -> None:
    """Show the second factor; it counts for the next ten minutes of this session."""
    _refuse_programs(caller)
    await _show(body, caller, services)


@router.delete("/accounts/{account_id}/second-factor", status_code=204)
async def remove_of_account(
    account_id: uuid.UUID, caller: ManagerOfAccount, services: Parts, second_factor: GivenCode = None
) -> None:
    """Remove the second factor of somebody who has lost it; they enrol another."""
    await step_up.demand(services, caller, Operation.MANAGE_ACCOUNTS, code=second_factor)
    async with services.database.transaction() as connection:
        account = await account_store.account(connection, account_id)
        accounts.check_may_manage(account, caller.rights, caller.actor)
        await second_factors.remove(connection, account, actor=caller.actor, origin=caller.origin, now=caller.now)


def _refuse_programs(caller: Caller) -> None:
    """A stolen token must not be able to set up the factor that would be asked of it."""
    if caller.actor.session_id is None:
        raise Conflict("no_session")


async def _show(body: Code, caller: Caller, services: Parts) -> None:
    await second_factors.show(
        services.database,
        services.secret_box,
        actor=caller.actor,
        code=body.code,
        origin=caller.origin,
        now=caller.now,
    )
