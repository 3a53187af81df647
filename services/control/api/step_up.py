"""Operations that ask for more than a password: a second factor shown a moment ago, or with the request itself."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Header, Query

from services.control import accounts, second_factor_store, second_factors
from services.control.account_store import Account
from services.control.api.context import Caller, Services
from services.control.api.fields import Reason
from services.control.broadcast_requests import RelayWish, Wish
from services.control.errors import Forbidden
from services.control.permissions import PERMISSIONS, Permission

HEADER = "Loa-Second-Factor"
GivenCode = Annotated[
    str | None, Header(alias=HEADER, max_length=64, description="a code of the second factor, for this request alone")
]
BreakGlass = Annotated[
    Reason | None,
    Query(
        description="do alone what policy wants a second person for, and why: told to everybody above and below until "
        "another person has acknowledged it; needs a second factor in any case"
    ),
]
HOLDS = timedelta(minutes=10)  # how long a session that showed its factor need not show it again


class Operation(enum.StrEnum):
    """What asks for it."""

    RELEASE_ALERT = "release_alert"
    CANCEL_ALERT = "cancel_alert"  # also one that is only proposed
    KILL_SWITCH = "kill_switch"
    END_SILENCE = "end_silence"
    LIVE = "live"
    VOLUME = "volume"
    SET_POLICY = (
        "set_policy"  # how loud it is, when it is quiet, who proposes alerts, when a second person is asked for
    )
    RETIRE_DEVICE = "retire_device"  # it is silent for good
    MOVE_DEVICES = (
        "move_devices"  # what holds on its old ground ends on it at once, alerts too; or another speaks for it
    )
    MANAGE_ACCOUNTS = "manage_accounts"  # a new account has no factor yet: who makes one shows theirs
    MANAGE_KEYS = "manage_keys"
    BREAK_GLASS = "break_glass"
    SECOND_PERSON = "second_person"
    AUTHORISE_RELEASE = "authorise_release"
    MAKE_TOKEN = "make_token"  # noqa: S105 - no password; it outlasts the session by far


# Whoever holds one of these is asked sooner or later.
_ASKED_OF = frozenset(
    {
        Permission.RELEASE_ALERTS,
        Permission.SILENCE_DEVICES,
        Permission.MANAGE_RELAYS,
        Permission.SET_POLICIES,
        Permission.OPERATE_DEVICES,
        Permission.REGISTER_DEVICES,
        Permission.ENROL_DEVICES,
        Permission.MANAGE_ACCOUNTS,
    }
)


async def should_enrol(services: Services, account: Account, *, now: datetime) -> bool:
    """Whether an account that has no second factor holds rights that are of no use without one."""
    held = {each for grant in account.grants if grant.holds(now=now) for each in PERMISSIONS[grant.role]}
    if not services.policy.second_factor_needed or services.secret_box is None or held.isdisjoint(_ASKED_OF):
        return False
    async with services.database.connection() as connection:
        factor = await second_factor_store.factor(connection, account.account_id)
    return factor is None or factor.confirmed_at is None


async def prove_password(services: Services, caller: Caller, password: str) -> None:
    """Whoever is there is whose session it is. Raises as logging in does."""
    await accounts.prove_password(
        services.database,
        services.passwords,
        actor=caller.actor,
        password=password,
        origin=caller.origin,
        now=caller.now,
    )


async def demand(
    services: Services, caller: Caller, operation: Operation, *, code: str | None, alone: str | None = None
) -> None:
    """Let through who has shown the second factor, in the session or by `code`, which is then used up.

    An account without a factor is refused, unless the province has decided otherwise; it makes tokens all the same, for
    they are asked again. Whoever acts `alone`, or lets the platform release alerts, needs one whatever it has decided.
    Raises `Forbidden`, or what a wrong code raises.
    """
    if alone is not None:
        operation = Operation.BREAK_GLASS
    if code is not None:
        await second_factors.show(
            services.database,
            services.secret_box,
            actor=caller.actor,
            code=code,
            origin=caller.origin,
            now=caller.now,
        )
        return
    shown_at = caller.actor.second_factor_at
    if shown_at is not None and caller.now - shown_at < HOLDS:
        return
    async with services.database.connection() as connection:
        factor = await second_factor_store.factor(connection, caller.actor.account_id)
    if factor is not None and factor.confirmed_at is not None:
        raise Forbidden("second_factor_needed", members={"operation": operation.value})
    if operation is Operation.MAKE_TOKEN:
        return
    is_needed = alone is not None or operation is Operation.AUTHORISE_RELEASE
    if services.policy.second_factor_needed or is_needed:
        raise Forbidden("second_factor_not_enrolled", members={"operation": operation.value})


async def demand_live(
    services: Services, caller: Caller, wish: Wish, *, code: str | None, alone: str | None = None
) -> None:
    """What is said live was approved by nobody: who lets it on the air shows a second factor (S-07)."""
    if is_live(wish):
        await demand(services, caller, Operation.LIVE, code=code, alone=alone)


def is_live(wish: Wish) -> bool:
    """Whether something live is in it."""
    return any(isinstance(item, RelayWish) for item in wish.items)
