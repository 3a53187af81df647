"""Operations that ask for more than a password: a second factor shown a moment ago, or with the request itself."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Annotated

from fastapi import Header, Query

from services.control import second_factor_store, second_factors
from services.control.api.context import Caller, Services
from services.control.api.fields import Reason
from services.control.broadcast_requests import RelayWish, Wish
from services.control.errors import Forbidden

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
    CANCEL_ALERT = "cancel_alert"
    KILL_SWITCH = "kill_switch"
    END_SILENCE = "end_silence"
    LIVE = "live"
    VOLUME = "volume"
    SET_POLICY = "set_policy"  # how loud an area is, when it is quiet, and when a second person is asked for
    RETIRE_DEVICE = "retire_device"  # it is silent for good
    MANAGE_ACCOUNTS = "manage_accounts"  # a new account has no factor yet: who makes one shows theirs
    MANAGE_KEYS = "manage_keys"
    BREAK_GLASS = "break_glass"
    SECOND_PERSON = "second_person"
    AUTHORISE_RELEASE = "authorise_release"


async def demand(
    services: Services, caller: Caller, operation: Operation, *, code: str | None, alone: str | None = None
) -> None:
    """Let through who has shown the second factor, in the session or by `code`, which is then used up.

    An account without a factor is let through unless the province's policy asks everybody for one. Whoever acts `alone`,
    or lets the platform release alerts, needs one whatever the policy.
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
    is_needed = alone is not None or operation is Operation.AUTHORISE_RELEASE
    if services.policy.second_factor_needed or is_needed:
        raise Forbidden("second_factor_not_enrolled", members={"operation": operation.value})


async def demand_live(services: Services, caller: Caller, wish: Wish, *, code: str | None) -> None:
    """What is said live was approved by nobody: who lets it on the air shows a second factor (S-07)."""
    if any(isinstance(item, RelayWish) for item in wish.items):
        await demand(services, caller, Operation.LIVE, code=code)
