"""What units do with normal broadcasts from above (R-17): accept, decline, or schedule at times of their own.

Works in the caller's transaction. What is accepted sounds as its issuer planned it; what is scheduled sounds as a
broadcast of the unit's own with the same items, and the unit answers for its times. A decision may be changed as long as
something is still to come, but not in the middle of an occurrence: what has begun is not cut off by a change of mind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

from schemas.identifiers import BroadcastId, UnitId
from services.control import (
    audit,
    broadcast_requests,
    broadcast_store,
    broadcasts,
    offer_store,
    planning_queue,
    policy_store,
    policy_trial,
    unit_reform,
    unit_store,
)
from services.control.audit import Entry
from services.control.broadcast_requests import Facts, UnitWish, Wish
from services.control.broadcast_store import StoredBroadcast
from services.control.broadcasts import Accepted
from services.control.errors import Conflict
from services.control.offer_store import Offer
from services.control.permissions import Actor, Rights
from services.control.planning.impact import Finding
from services.control.planning.policies import Policies
from services.control.planning.recurrence import local_day
from services.control.units import UnitTree
from services.shared.database.pool import Connection

OFFERED, ACCEPTED, DECLINED, SCHEDULED = "offered", "accepted", "declined", "scheduled"

# What of the offered broadcast is to be different in the unit's own: its times, targets, title and volume.
Own = Callable[[Wish], Wish]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a unit said about what begins next on `first_day`. Where it accepts, `findings` are what keeps some of it, or
    all, from sounding there in its first days.
    """

    offer: Offer
    first_day: date
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """An offer that was scheduled, and the broadcast that came of it."""

    offer: Offer
    accepted: Accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """An offer with what one must know to decide about it. `next_at`: None when nothing is to come any more."""

    offer: Offer
    broadcast: StoredBroadcast
    next_at: datetime | None


async def described(
    connection: Connection, found: Iterable[Offer], tree: UnitTree, *, zone: ZoneInfo, now: datetime
) -> tuple[Described, ...]:
    """The offers with what was offered, in the same order."""
    some = tuple(found)
    offered = await broadcast_store.broadcasts_by_id(connection, {each.broadcast_id for each in some})
    facts = await facts_for_times(connection, tree, zone)
    coming = {each.broadcast_id: next_at(each, facts, now=now) for each in offered.values()}
    return tuple(
        Described(offer=each, broadcast=offered[each.broadcast_id], next_at=coming[each.broadcast_id]) for each in some
    )


async def decide(
    connection: Connection,
    offer: Offer,
    state: str,
    *,
    note: str | None,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Decided:
    """Accept or decline. What the unit had scheduled of it before is withdrawn.

    Raises `Conflict` when nothing is to come any more, or while it is on the air.
    """
    _, following = await _check_may_change(connection, offer, rights.tree, zone=zone, now=now)
    own = await _own(connection, offer)
    if own is not None and own.state != broadcasts.WITHDRAWN:
        await broadcasts.withdraw(connection, own, actor=actor, origin=origin, now=now)
    decided = await offer_store.decide(
        connection, offer, state, scheduled_as=None, note=note, by=actor.account_id, at=now
    )
    await _changed(connection, offer, decided, rights.tree, actor=actor, origin=origin, now=now)
    first_day = local_day(following, zone)
    if state != ACCEPTED:
        return Decided(offer=decided, first_day=first_day)
    coming = {BroadcastId(offer.broadcast_id): first_day}
    unit_id = rights.tree.standing(offer.unit_id) or offer.unit_id
    (findings,) = (await policy_trial.hold_offers(connection, coming, unit_id, zone=zone, now=now)).values()
    return Decided(offer=decided, first_day=first_day, findings=findings)


async def schedule(
    connection: Connection,
    offer: Offer,
    own: Own,
    *,
    note: str | None,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Scheduled:
    """Make a broadcast of the unit's own out of what is offered.

    Raises as `decide` and `broadcasts.create` do, and `Conflict` when the unit has one already.
    """
    offered, _ = await _check_may_change(connection, offer, rights.tree, zone=zone, now=now)
    standing = await _own(connection, offer)
    if standing is not None and standing.state not in (broadcasts.WITHDRAWN, broadcasts.REJECTED):
        own_id = str(standing.broadcast_id)
        raise Conflict("offer_scheduled_already", facts={"id": own_id}, members={"scheduled_as": own_id})
    wish = own(here(offered.wish, offer.unit_id))
    accepted = await broadcasts.create(
        connection, wish, zone=zone, rights=rights, actor=actor, origin=origin, now=now, offer_of=offer.broadcast_id
    )
    decided = await offer_store.decide(
        connection,
        offer,
        SCHEDULED,
        scheduled_as=accepted.broadcast.broadcast_id,
        note=note,
        by=actor.account_id,
        at=now,
    )
    await _changed(connection, offer, decided, rights.tree, actor=actor, origin=origin, now=now)
    return Scheduled(offer=decided, accepted=accepted)


def here(offered: Wish, unit_id: UnitId) -> Wish:
    """What is offered as a broadcast of the unit's own, everywhere in it."""
    return replace(offered, unit_id=unit_id, level="normal", targets=(UnitWish(unit_id=unit_id),))


async def facts_for_times(connection: Connection, tree: UnitTree, zone: ZoneInfo) -> Facts:
    """What `next_at` looks at besides the broadcast: units and policies, which say when sessions are."""
    return Facts(
        history=await unit_store.load_units(connection),
        zone=zone,
        tree=tree,
        reach=frozenset(),
        readable=frozenset(),
        devices={},
        bulletins={},
        policies=Policies(await policy_store.load_policies(connection)),
    )


def next_at(offered: StoredBroadcast, facts: Facts, *, now: datetime) -> datetime | None:
    """When the broadcast begins next; None when it is over, does not stand, or is no longer one that is offered."""
    if offered.state != broadcasts.SCHEDULED or offered.wish.level != "normal":
        return None
    following = broadcast_requests.next_occurrence(offered.wish, facts, now=now)
    return following.at if following is not None else None


async def _check_may_change(
    connection: Connection, offer: Offer, tree: UnitTree, *, zone: ZoneInfo, now: datetime
) -> tuple[StoredBroadcast, datetime]:
    """What is offered, and when it begins next."""
    offered = await broadcast_store.broadcast(connection, offer.broadcast_id)
    following = next_at(offered, await facts_for_times(connection, tree, zone), now=now)
    if following is None:
        raise Conflict("offer_is_over", facts={"title": offered.wish.title})
    if offer.state == ACCEPTED and await offer_store.is_on_air(
        connection, offer.broadcast_id, _ground(offer.unit_id, tree), now=now
    ):
        raise Conflict("offer_on_air", facts={"title": offered.wish.title})
    return offered, following


def _ground(unit_id: UnitId, tree: UnitTree) -> tuple[UnitId, ...]:
    return (*tree.subtree(unit_id), unit_id)


async def _own(connection: Connection, offer: Offer) -> StoredBroadcast | None:
    """What the unit has scheduled of it before, locked."""
    if offer.scheduled_as is None:
        return None
    return await broadcast_store.broadcast_for_update(connection, offer.scheduled_as)


async def _changed(
    connection: Connection,
    before: Offer,
    after: Offer,
    tree: UnitTree,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    await unit_reform.carry_on(connection, after.unit_id, tree, now=now)
    await planning_queue.request_broadcast(connection, BroadcastId(after.broadcast_id), at=now)
    await audit.record(
        connection,
        Entry(
            action=f"offer_{after.state}",
            subject=f"offer:{after.broadcast_id}:{after.unit_id}",
            unit_id=after.unit_id,
            before={"state": before.state, "scheduled_as": _text(before.scheduled_as)},
            after={"state": after.state, "scheduled_as": _text(after.scheduled_as), "note": after.note},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


def _text(broadcast_id: BroadcastId | None) -> str | None:
    return str(broadcast_id) if broadcast_id is not None else None
