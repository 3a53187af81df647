"""The inbox of a unit: normal broadcasts from above, to accept, decline or schedule (R-17); and how they are taken up."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import broadcast_requests, broadcast_store, bulletin_store, offer_store, offers
from services.control.api import airing, step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import (
    Answer,
    Body,
    Day,
    Instant,
    Limit,
    LocalDayOrMoment,
    Note,
    Percent,
    SessionCode,
    Title,
)
from services.control.api.months import month_of
from services.control.api.places import BeforeId, link_next
from services.control.api.requests import MAY_WAIT, RequestView, waiting
from services.control.api.routes.broadcasts import BroadcastView, TargetBody, broadcast_view
from services.control.api.step_up import BreakGlass, GivenCode
from services.control.api.views import UnitRef, unit_ref
from services.control.api.what_if import AskedWhatIf, FindingView, OutlookView, WhatIf, finding_view
from services.control.broadcast_requests import BulletinWish, Wish
from services.control.broadcast_store import StoredBroadcast
from services.control.bulletin_store import Bulletin
from services.control.errors import Fault, Invalid
from services.control.offer_store import Offer
from services.control.offers import Decided, Scheduled
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.control.policies import LocalTime
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/offers", tags=["offers"])

Lister = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.ANYWHERE)]
Decider = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.UNIT)]

State = Literal["offered", "accepted", "declined", "scheduled"]
_STATES: dict[str, State] = {
    "offered": "offered",
    "accepted": "accepted",
    "declined": "declined",
    "scheduled": "scheduled",
}


class OfferDecision(Body):
    """Why, for whoever offered it and whoever reads it later."""

    note: Note | None = None


class OwnTimes(Body):
    """When the unit puts on itself what it was offered; as in a broadcast. Without targets: everywhere in the unit."""

    title: Title | None = Field(default=None, description="default: as offered")
    recurrence: Literal["once", "daily", "rule"] = "once"
    rrule: str | None = Field(default=None, min_length=1, max_length=broadcast_requests.MAX_RRULE)
    rdates: list[LocalDayOrMoment] = Field(default=[], max_length=broadcast_requests.MAX_RDATES)
    exdates: list[LocalDayOrMoment] = Field(default=[], max_length=broadcast_requests.MAX_EXDATES)
    time_zone: str = Field(default="Asia/Ho_Chi_Minh", min_length=1, max_length=64, description="IANA name")
    starts_on: Day
    ends_on: Day | None = None
    local_times: list[LocalTime] = Field(default=[], max_length=broadcast_requests.MAX_TIMES)
    sessions: list[SessionCode] = Field(default=[], max_length=broadcast_requests.MAX_SESSIONS)
    targets: list[TargetBody] = Field(default=[], max_length=broadcast_requests.MAX_TARGETS)
    volume_percent: Percent | None = None
    note: Note | None = None

    def own(self, offered: Wish) -> Wish:
        """What is offered, at these times."""
        return replace(
            offered,
            title=self.title or offered.title,
            recurrence=self.recurrence,
            rrule=self.rrule,
            rdates=tuple(self.rdates),
            exdates=tuple(self.exdates),
            time_zone=self.time_zone,
            starts_on=self.starts_on,
            ends_on=self.ends_on,
            local_times=tuple(self.local_times),
            sessions=tuple(self.sessions),
            targets=tuple(target.wish() for target in self.targets) or offered.targets,
            volume_percent=self.volume_percent,
        )


class OfferedBulletinView(Answer):
    """What of a bulletin one must know to decide about it; its files are fetched by their hashes."""

    bulletin_id: uuid.UUID
    title: str
    kind: str
    language: str
    subject_field: str
    media_sha256: str | None
    duration_ms: int | None
    board_text: str | None
    board_media_sha256: str | None
    board_mime: str | None


class OfferView(Answer):
    """A normal broadcast from above, and what the unit decided about it."""

    broadcast_id: uuid.UUID
    unit: UnitRef
    state: State
    offered_at: datetime
    offered_by: UnitRef
    next_at: datetime | None = Field(description="when it begins next; null: it is over, or was taken back")
    broadcast: BroadcastView
    bulletins: list[OfferedBulletinView]
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    note: str | None
    scheduled_as: uuid.UUID | None = Field(description="the unit's own broadcast of it")


class DecidedView(Answer):
    """What the unit decided."""

    broadcast_id: uuid.UUID
    unit_id: uuid.UUID
    state: State
    decided_at: datetime
    decided_by: uuid.UUID
    note: str | None
    scheduled_as: uuid.UUID | None
    problems: list[FindingView] = Field(
        default=[],
        description="what of it does not sound in its first days although the unit has it sound, and why",
    )
    outlook: OutlookView | None = Field(description="of a dry run: what it would do; nothing was stored")


class ScheduledView(DecidedView):
    """What the unit decided, and its own broadcast that came of it; it may wait for an approver like any other."""

    broadcast: BroadcastView
    starts_at: datetime


class UptakeView(Answer):
    """What became of what was offered to a unit in a month: each offer is counted once."""

    unit: UnitRef
    offered: int
    accepted: int
    declined: int
    scheduled: int
    undecided: int


@router.get("")
async def list_offers(
    caller: Lister,
    request: Request,
    response: Response,
    services: Parts,
    unit: Annotated[uuid.UUID | None, Query(description="this unit and below; default: all one may see")] = None,
    state: Annotated[State | None, Query()] = None,
    before: Annotated[Instant | None, Query(description="only older ones")] = None,
    before_id: BeforeId = None,
    before_unit: Annotated[
        uuid.UUID | None, Query(description="with `before_id`: also offers of that broadcast to units behind this one")
    ] = None,
    limit: Limit = 50,
) -> list[OfferView]:
    """What was offered, newest first, with what one must know to decide about it; of one instant by broadcast and unit.

    The header `Link` names the next page (`rel="next"`), if there is one: it begins behind the last one of this page.
    """
    units = _units(caller, unit)
    async with services.database.connection() as connection:
        asked = await offer_store.offers_of(
            connection,
            units,
            state=state,
            before=before,
            before_id=before_id,
            before_unit=before_unit,
            limit=limit + 1,
        )
        found = asked[:limit]
        if len(asked) > limit:
            last = found[-1]
            link_next(request, response, last.offered_at, last.broadcast_id, before_unit=last.unit_id)
        offered = await broadcast_store.broadcasts_by_id(connection, {each.broadcast_id for each in found})
        bulletins = await bulletin_store.bulletins_by_id(
            connection,
            {
                item.bulletin_id
                for each in offered.values()
                for item in each.wish.items
                if isinstance(item, BulletinWish)
            },
        )
        facts = await offers.facts_for_times(connection, caller.rights.tree, services.directory.zone)
    coming = {each.broadcast_id: offers.next_at(each, facts, now=caller.now) for each in offered.values()}
    return [
        _offer_view(each, offered[each.broadcast_id], bulletins, coming[each.broadcast_id], caller) for each in found
    ]


def _units(caller: Caller, unit: uuid.UUID | None) -> frozenset[UnitId]:
    if unit is None:
        return caller.rights.reach(Permission.SEE_BROADCASTS)
    if UnitId(unit) not in caller.rights.tree:
        raise Invalid(Fault("unit", "unknown_unit", {"unit": str(unit)}))
    caller.demand(Permission.SEE_BROADCASTS, UnitId(unit), field="unit")
    return frozenset(caller.rights.tree.subtree(UnitId(unit)))


def _offer_view(
    offer: Offer,
    offered: StoredBroadcast,
    bulletins: Mapping[uuid.UUID, Bulletin],
    next_at: datetime | None,
    caller: Caller,
) -> OfferView:
    tree = caller.rights.tree
    held = [
        bulletins[item.bulletin_id]
        for item in offered.wish.items
        if isinstance(item, BulletinWish) and item.bulletin_id in bulletins
    ]
    return OfferView(
        broadcast_id=offer.broadcast_id,
        unit=unit_ref(tree, offer.unit_id),
        state=_state(offer),
        offered_at=offer.offered_at,
        offered_by=unit_ref(tree, offered.wish.unit_id),
        next_at=next_at,
        broadcast=broadcast_view(offered),
        bulletins=[_bulletin_view(each) for each in held],
        decided_at=offer.decided_at,
        decided_by=offer.decided_by,
        note=offer.note,
        scheduled_as=offer.scheduled_as,
    )


def _state(offer: Offer) -> State:
    return _STATES[offer.state]


def _bulletin_view(bulletin: Bulletin) -> OfferedBulletinView:
    return OfferedBulletinView(
        bulletin_id=bulletin.bulletin_id,
        title=bulletin.title,
        kind=bulletin.kind,
        language=bulletin.language,
        subject_field=bulletin.subject_field,
        media_sha256=bulletin.media_sha256.hex() if bulletin.media_sha256 else None,
        duration_ms=bulletin.duration_ms,
        board_text=bulletin.board_text,
        board_media_sha256=bulletin.board_media_sha256.hex() if bulletin.board_media_sha256 else None,
        board_mime=bulletin.board_mime,
    )


@router.get("/counts")
async def count_offers(
    caller: Lister,
    services: Parts,
    unit: Annotated[uuid.UUID | None, Query(description="this unit and below; default: all one may see")] = None,
    month: Annotated[str | None, Query(max_length=20, description="YEAR-MONTH; default: the present one")] = None,
) -> list[UptakeView]:
    """How what came from above in a month was taken up, per unit; in order of the tree."""
    units = _units(caller, unit)
    asked = month_of(month, services.directory.zone, now=caller.now)
    async with services.database.connection() as connection:
        found = await offer_store.uptake(connection, units, since=asked.since, until=asked.until)
    tree = caller.rights.tree
    by_unit = {each.unit_id: each for each in found}
    return [
        UptakeView(
            unit=unit_ref(tree, each.unit_id),
            offered=each.offered,
            accepted=each.accepted,
            declined=each.declined,
            scheduled=each.scheduled,
            undecided=each.undecided,
        )
        for version in tree
        if (each := by_unit.get(version.unit_id)) is not None
    ]


@router.post("/{broadcast_id}/{unit_id}/accept")
async def accept_offer(
    broadcast_id: uuid.UUID,
    unit_id: uuid.UUID,
    caller: Decider,
    services: Parts,
    what_if: AskedWhatIf,
    body: OfferDecision | None = None,
) -> DecidedView:
    """Have it sound in the unit as it was planned above. What the unit had scheduled of it is withdrawn.

    What limits of the unit, or whose devices those are, keep from sounding does not sound all the same: `problems` names it.
    """
    return await _decide(broadcast_id, unit_id, offers.ACCEPTED, body, caller, services, what_if)


@router.post("/{broadcast_id}/{unit_id}/decline")
async def decline_offer(
    broadcast_id: uuid.UUID,
    unit_id: uuid.UUID,
    caller: Decider,
    services: Parts,
    what_if: AskedWhatIf,
    body: OfferDecision | None = None,
) -> DecidedView:
    """Have it not sound in the unit. What the unit had scheduled of it is withdrawn."""
    return await _decide(broadcast_id, unit_id, offers.DECLINED, body, caller, services, what_if)


async def _decide(
    broadcast_id: uuid.UUID,
    unit_id: uuid.UUID,
    state: str,
    body: OfferDecision | None,
    caller: Caller,
    services: Parts,
    what_if: WhatIf,
) -> DecidedView:
    async def save(connection: Connection) -> Decided:
        offer = await offer_store.offer_for_update(connection, broadcast_id, UnitId(unit_id))
        return await offers.decide(
            connection,
            offer,
            state,
            note=body.note if body else None,
            zone=services.directory.zone,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    decided, outlook = await what_if.carry_out(
        services, caller, save, unit_id=UnitId(unit_id), first_day=lambda decided: decided.first_day
    )
    problems = [finding_view(each) for each in decided.findings]
    return DecidedView(**_decided(decided.offer), problems=problems, outlook=outlook)


@router.post("/{broadcast_id}/{unit_id}/schedule", responses=MAY_WAIT)
async def schedule_offer(
    broadcast_id: uuid.UUID,
    unit_id: uuid.UUID,
    body: OwnTimes,
    caller: Decider,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> ScheduledView | RequestView:
    """Put it on at times of the unit's own: a broadcast of the unit with the items that were offered.

    With a live source in it, it may wait for a second person.
    """
    read = await airing.offered(services, broadcast_id, UnitId(unit_id))
    if not what_if.dry_run:
        await step_up.demand_live(services, caller, read.wish, code=second_factor, alone=break_glass)

    async def save(connection: Connection) -> Scheduled | Waiting:
        if not what_if.dry_run:
            await airing.take_turn(connection, caller, read.wish)
        offer = await offer_store.offer_for_update(connection, broadcast_id, UnitId(unit_id))
        if what_if.dry_run:
            return await airing.try_out_offer(connection, services, caller, offer, body.own, note=body.note)
        return await airing.save_offer(
            connection, services, caller, offer, body.own, read=read, note=body.note, alone=break_glass
        )

    scheduled, outlook = await what_if.carry_out(services, caller, save, unit_id=UnitId(unit_id), first_day=_first_day)
    if isinstance(scheduled, Waiting):
        return await waiting(services, response, scheduled)
    return ScheduledView(
        **_decided(scheduled.offer),
        problems=[finding_view(each) for each in scheduled.accepted.findings],
        broadcast=broadcast_view(scheduled.accepted.broadcast),
        starts_at=scheduled.accepted.first,
        outlook=outlook,
    )


def _first_day(scheduled: Scheduled | Waiting) -> date | None:
    return scheduled.accepted.first_day if isinstance(scheduled, Scheduled) else None


def _decided(offer: Offer) -> dict[str, Any]:
    return {
        "broadcast_id": offer.broadcast_id,
        "unit_id": offer.unit_id,
        "state": _state(offer),
        "decided_at": offer.decided_at,
        "decided_by": offer.decided_by,
        "note": offer.note,
        "scheduled_as": offer.scheduled_as,
    }
