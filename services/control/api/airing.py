"""Broadcasts saved for somebody: one with something live in it may wait for a second person (S-07)."""

from __future__ import annotations

from services.control import broadcasts, operation_kinds, operations
from services.control.api.context import Caller, Services
from services.control.api.requests import by, means
from services.control.api.step_up import is_live
from services.control.broadcast_requests import Wish
from services.control.broadcast_store import StoredBroadcast
from services.control.broadcasts import Accepted
from services.control.operation_store import Request
from services.shared.database.pool import Connection


async def try_out(
    connection: Connection, caller: Caller, wish: Wish, *, instead_of: StoredBroadcast | None = None
) -> Accepted:
    """Save it, whoever else would be asked: for who rolls it back, or where nothing in it is live."""
    if instead_of is not None:
        return await broadcasts.replace(
            connection,
            instead_of,
            wish,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return await broadcasts.create(
        connection, wish, rights=caller.rights, actor=caller.actor, origin=caller.origin, now=caller.now
    )


async def save(
    connection: Connection,
    services: Services,
    caller: Caller,
    wish: Wish,
    *,
    instead_of: StoredBroadcast | None = None,
    alone: str | None = None,
) -> Accepted | Request:
    """Save it; or, with something live in it and where a policy asks for a second person, keep the request."""
    if not is_live(wish):
        return await try_out(connection, caller, wish, instead_of=instead_of)
    stands = (instead_of.broadcast_id, instead_of.version) if instead_of is not None else None
    operation = operation_kinds.airing(wish, instead_of=stands)
    outcome = await operations.settle(
        connection, operation, by=by(caller), means=means(services, alone), now=caller.now
    )
    if isinstance(outcome, Request):
        return outcome
    accepted: Accepted = outcome.answer
    return accepted
