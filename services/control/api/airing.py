"""Broadcasts saved for somebody, of their own making or out of what they were offered: one with something live in it may wait for a second person (S-07)."""

from __future__ import annotations

import uuid

from schemas.identifiers import UnitId
from services.control import (
    account_store,
    broadcast_store,
    broadcasts,
    offer_store,
    offers,
    operation_kinds,
    operations,
)
from services.control.api.context import Caller, Services
from services.control.api.requests import by, means
from services.control.api.step_up import is_live
from services.control.broadcast_requests import Wish
from services.control.broadcast_store import StoredBroadcast
from services.control.broadcasts import Accepted
from services.control.errors import Conflict
from services.control.offer_store import Offer
from services.control.offers import Own, Scheduled
from services.control.operation_store import Request
from services.shared.database.pool import Connection


async def try_out(
    connection: Connection, services: Services, caller: Caller, wish: Wish, *, instead_of: StoredBroadcast | None = None
) -> Accepted:
    """Save it, whoever else would be asked: for who rolls it back, or where nothing in it is live."""
    if instead_of is not None:
        return await broadcasts.replace(
            connection,
            instead_of,
            wish,
            zone=services.directory.zone,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return await broadcasts.create(
        connection,
        wish,
        zone=services.directory.zone,
        rights=caller.rights,
        actor=caller.actor,
        origin=caller.origin,
        now=caller.now,
    )


async def try_out_offer(
    connection: Connection, services: Services, caller: Caller, offer: Offer, own: Own, *, note: str | None
) -> Scheduled:
    """Put on what was offered, whoever else would be asked: for who rolls it back, or where nothing in it is live."""
    return await offers.schedule(
        connection,
        offer,
        own,
        note=note,
        zone=services.directory.zone,
        rights=caller.rights,
        actor=caller.actor,
        origin=caller.origin,
        now=caller.now,
    )


async def take_turn(connection: Connection, caller: Caller, wish: Wish) -> None:
    """Lock who asks, when it may wait for a second person: `operations.settle` does too, and whoever had locked what is to
    be changed by then could hold what another request of the same person wants.
    """
    if is_live(wish):
        await account_store.lock(connection, caller.actor.account_id)


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
        return await try_out(connection, services, caller, wish, instead_of=instead_of)
    stands = (instead_of.broadcast_id, instead_of.version) if instead_of is not None else None
    operation = operation_kinds.airing(wish, instead_of=stands)
    outcome = await operations.settle(
        connection, operation, by=by(caller), means=means(services, alone), now=caller.now
    )
    if isinstance(outcome, Request):
        return outcome
    accepted: Accepted = outcome.answer
    return accepted


async def offered(services: Services, broadcast_id: uuid.UUID, unit_id: UnitId) -> StoredBroadcast:
    """What the unit was offered. Raises `NotFound`."""
    async with services.database.transaction() as connection:
        offer = await offer_store.offer_for_update(connection, broadcast_id, unit_id)
        return await broadcast_store.broadcast(connection, offer.broadcast_id)


async def save_offer(
    connection: Connection,
    services: Services,
    caller: Caller,
    offer: Offer,
    own: Own,
    *,
    read: StoredBroadcast,
    note: str | None,
    alone: str | None = None,
) -> Scheduled | Request:
    """Put on what was offered, at the unit's own times; or keep the request, as `save` does.

    `read` is what was offered when a second factor was asked for. Raises `Conflict` when it was changed since.
    """
    found = await broadcast_store.broadcast(connection, offer.broadcast_id)
    if found.version != read.version:
        raise Conflict("changed_meanwhile")
    wish = own(offers.here(found.wish, offer.unit_id))
    if not is_live(wish):
        return await try_out_offer(connection, services, caller, offer, own, note=note)
    taken_up = operation_kinds.TakenUp(broadcast_id=found.broadcast_id, version=found.version, note=note)
    outcome = await operations.settle(
        connection,
        operation_kinds.airing(wish, offer=taken_up),
        by=by(caller),
        means=means(services, alone),
        now=caller.now,
    )
    if isinstance(outcome, Request):
        return outcome
    scheduled: Scheduled = outcome.answer
    return scheduled
