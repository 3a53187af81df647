"""The pages on which a unit decides: its inbox, the order of its priority broadcasts, and what holds on its ground."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from schemas.identifiers import BroadcastId, UnitId
from services.control import (
    broadcast_store,
    bulletin_store,
    offer_store,
    offers,
    policy_store,
    policy_trial,
    priorities,
    priority_store,
)
from services.control.api import airing, step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.fields import Instant, uuid_of
from services.control.api.places import BeforeId
from services.control.api.routes.offers import OfferDecision, OwnTimes
from services.control.api.routes.policies import effective_view
from services.control.api.routes.priorities import PriorityOrder
from services.control.broadcast_store import StoredBroadcast
from services.control.errors import Conflict, Fault, Invalid, Refusal
from services.control.offer_store import Offer
from services.control.operation_store import Request as Waiting
from services.control.pages import day_chart
from services.control.pages.broadcast_forms import Typed, day_after, place_of
from services.control.pages.emergencies import alone_of, is_mendable
from services.control.pages.forms import Sent, all_given, checked, form_of, given, returned
from services.control.pages.lookups import code_asked, contents_of, sessions_of, unit_here
from services.control.pages.pages import own_units, page, trail_of, wording_of
from services.control.permissions import Permission
from services.control.planning.policies import Danger, Policies
from services.control.planning.recurrence import local_day, start_of
from services.control.priority_store import PriorityBroadcast
from services.control.proof_sheets import Month
from services.shared.database.pool import Connection

router = APIRouter(include_in_schema=False)

Reader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.UNIT)]
Decider = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.UNIT)]

_OPEN_SHOWN = 200
_DECIDED_SHOWN = 30
# Offers of which the page says which limits would keep them from sounding: each is planned for that.
_FORESEEN = 20
_ANSWERS = {"accept": offers.ACCEPTED, "decline": offers.DECLINED}
_SCHEDULE = "schedule"
_OWN_TIMES = 3  # fields for times of one's own


@router.get("/units/{unit_id}/inbox", response_class=HTMLResponse)
async def inbox_page(
    unit_id: uuid.UUID,
    request: Request,
    caller: Reader,
    services: Parts,
    before: Annotated[Instant | None, Query()] = None,
    before_id: BeforeId = None,
    before_unit: Annotated[uuid.UUID | None, Query()] = None,
) -> Response:
    """What was offered to a unit: what waits for its word, what it said, and how much was taken up this month."""
    last = (before, before_id, before_unit)
    return await _inbox_page(unit_id, request, caller, services, last=last)


async def _inbox_page(
    unit_id: uuid.UUID,
    request: Request,
    caller: Caller,
    services: Services,
    *,
    last: tuple[datetime | None, uuid.UUID | None, uuid.UUID | None] = (None, None, None),
    sent: Sent | None = None,
) -> Response:
    """The inbox behind the `last` offer seen; `sent` is an answer that was not taken."""
    before, before_id, before_unit = last
    tree = caller.rights.tree
    here = tree.standing(UnitId(unit_id)) or UnitId(unit_id)
    own = own_units(here, tree)
    below = tree.subtree(here) or (here,)
    zone = services.directory.zone
    today = services.directory.today(now=caller.now)
    month = Month(year=today.year, month=today.month)
    async with services.database.connection() as connection:
        waiting = await offer_store.inbox(
            connection, own, is_open=True, today=today, before=None, limit=_OPEN_SHOWN if before is None else 0
        )
        rest = await offer_store.inbox(
            connection,
            own,
            is_open=False,
            today=today,
            before=before,
            before_id=before_id,
            before_unit=before_unit,
            limit=_DECIDED_SHOWN + 1,
        )
        described = await offers.described(
            connection, (*waiting, *rest[:_DECIDED_SHOWN]), tree, zone=zone, now=caller.now
        )
        coming = {
            each.offer.broadcast_id: local_day(each.next_at, zone)
            for each in described
            if each.next_at is not None and each.offer.state in (offers.OFFERED, offers.ACCEPTED)
        }
        against = await policy_trial.hold_offers(
            connection, dict(itertools.islice(coming.items(), _FORESEEN)), here, zone=zone, now=caller.now
        )
        contents = await contents_of(connection, (each.broadcast for each in described))
        stated = await policy_store.policies_of(connection, tree.path(here))
        asking = await policy_store.asking_for_second(connection, Danger.LIVE)
        counts = await offer_store.uptake(
            connection, below, since=start_of(month.first, zone), until=start_of(month.end, zone)
        )
    by_unit = {each.unit_id: each for each in counts}
    still_open = [each for each in described if each.offer.state == offers.OFFERED and each.next_at is not None]
    more = rest[_DECIDED_SHOWN - 1] if len(rest) > _DECIDED_SHOWN else None
    return page(
        request,
        services,
        "inbox.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        sent=sent,
        inbox=f"/units/{here}/inbox",
        trail=trail_of(caller, here),
        unit=tree.get(here),
        unit_id=here,
        waiting=sorted(still_open, key=lambda each: (each.next_at, each.offer.broadcast_id)),
        decided=[each for each in described if each not in still_open],
        contents=contents,
        against=against,
        units=tree,
        may_decide=caller.rights.may(Permission.MAKE_BROADCASTS, here),
        may_read=lambda issuer: caller.rights.may(Permission.SEE_BROADCASTS, issuer),
        accepts_normal=(policy := stated.get(here)) is not None and policy.accepts_normal,
        sessions=sessions_of(stated, here, tree),
        counts=[(each, by_unit[each.unit_id]) for each in tree if each.unit_id in by_unit],
        month=f"{month.month}/{month.year}",
        own_times=range(1, _OWN_TIMES + 1),
        today=today,
        shown=shown,
        more_query="" if more is None else _behind(more),
        is_live=step_up.is_live,
        code=await code_asked(services, caller),
        asks_second=not asking.keys().isdisjoint((*tree.path(here), *below)),
    )


def _behind(offer: Offer) -> str:
    return urlencode(
        {"before": offer.placed_at.isoformat(), "before_id": offer.broadcast_id, "before_unit": offer.unit_id}
    )


@router.post("/units/{unit_id}/inbox/{broadcast_id}")
async def decide_offer(
    unit_id: uuid.UUID, broadcast_id: uuid.UUID, request: Request, caller: Decider, services: Parts
) -> Response:
    """Accept, decline, or put on at times of one's own; of what was shown, and not of what it has become since."""
    form = await form_of(request)
    try:
        address = await _decide(unit_id, broadcast_id, form, caller, services)
    except Refusal as error:
        if not is_mendable(error):
            raise
        times = Typed(times=tuple(str(each) for each in form.getlist("local_time")))
        back = returned(
            error,
            wording_of(request, services).language,
            place_of=lambda field: field if field in ("note", "code", "alone") else place_of(field, times),
        )
        sent = Sent(about=str(broadcast_id), form=form, back=back)
        return await _inbox_page(unit_id, request, caller, services, sent=sent)
    return RedirectResponse(address, status_code=HTTPStatus.SEE_OTHER)


async def _decide(
    unit_id: uuid.UUID, broadcast_id: uuid.UUID, form: FormData, caller: Caller, services: Services
) -> str:
    """Where to go on: its place in the inbox, or the page of what waits for a second person."""
    decision = str(form.get("decision") or "")
    if decision not in (*_ANSWERS, _SCHEDULE):
        raise Invalid(Fault("decision", "not_one_of", {"expected": ", ".join((*_ANSWERS, _SCHEDULE))}))
    answer = checked(OfferDecision, given(form, "note"))
    own = checked(OwnTimes, _own_times(form)) if decision == _SCHEDULE else None
    read = await airing.offered(services, broadcast_id, UnitId(unit_id))
    alone = alone_of(form)
    if own is not None:
        code = given(form, "code").get("code")
        await step_up.demand_live(services, caller, read.wish, code=code, alone=alone)
    async with services.database.transaction() as connection:
        if own is not None:
            await airing.take_turn(connection, caller, read.wish)
        offer = await offer_store.offer_for_update(connection, broadcast_id, UnitId(unit_id))
        await _check_shown(connection, offer, form)
        if own is not None:
            saved = await airing.save_offer(
                connection, services, caller, offer, own.own, read=read, note=own.note, alone=alone
            )
            if isinstance(saved, Waiting):
                return f"/alerts/requests/{saved.request_id}"
        else:
            await offers.decide(
                connection,
                offer,
                _ANSWERS[decision],
                note=answer.note,
                zone=services.directory.zone,
                rights=caller.rights,
                actor=caller.actor,
                origin=caller.origin,
                now=caller.now,
            )
    return f"/units/{unit_id}/inbox#offer-{broadcast_id}"


async def _check_shown(connection: Connection, offer: Offer, form: FormData) -> None:
    """Raise `Conflict` when the offer is not what the form was made for: it was changed above, or answered meanwhile."""
    offered = await broadcast_store.broadcast(connection, offer.broadcast_id)
    if form.get("shown") != shown(offered, offer):
        raise Conflict("changed_meanwhile")


def shown(offered: StoredBroadcast, offer: Offer) -> str:
    """What a form says that it was made for."""
    return f"{offered.version}-{offer.state}"


def _own_times(form: FormData) -> dict[str, object]:
    """One day, or every day until a last one, at some times and with some sessions."""
    values = given(form, "starts_on", "note")
    last = given(form, "last_day").get("last_day")
    return {
        **values,
        "recurrence": "once" if last is None else "daily",
        "ends_on": None if last is None else day_after(last),
        "local_times": all_given(form, "local_time"),
        "sessions": all_given(form, "session"),
    }


@router.get("/units/{unit_id}/order", response_class=HTMLResponse)
async def order_page(unit_id: uuid.UUID, request: Request, caller: Reader, services: Parts) -> Response:
    """In which order priority broadcasts win over one another in a unit."""
    here = unit_here(caller, unit_id)
    async with services.database.connection() as connection:
        order = await _order(connection, here, caller, services)
    return _order_page(here, order, request, caller, services)


@router.post("/units/{unit_id}/order", response_class=HTMLResponse)
async def move_priority(unit_id: uuid.UUID, request: Request, caller: Decider, services: Parts) -> Response:
    """Move one broadcast up or down by one. When the order is not the one that was shown, it is shown as it is now."""
    here = unit_here(caller, unit_id)
    form = await form_of(request)
    async with services.database.transaction() as connection:
        await priority_store.lock(connection, here)
        order = await _order(connection, here, caller, services)
        is_as_shown = form.get("version") == priorities.version(order)
        if is_as_shown:
            wanted = _moved([each.broadcast_id for each in order], form)
            body = checked(PriorityOrder, {"order": wanted})
            await priorities.put(
                connection,
                here,
                order,
                [BroadcastId(each) for each in body.order],
                caller.rights.tree,
                actor=caller.actor,
                origin=caller.origin,
                now=caller.now,
            )
    if not is_as_shown:
        return _order_page(here, order, request, caller, services, http_status=HTTPStatus.CONFLICT)
    return RedirectResponse(f"/units/{here}/order", status_code=HTTPStatus.SEE_OTHER)


async def _order(
    connection: Connection, unit_id: UnitId, caller: Caller, services: Services
) -> tuple[PriorityBroadcast, ...]:
    today = services.directory.today(now=caller.now)
    return await priorities.ordered(connection, unit_id, caller.rights.tree, today=today, now=caller.now)


def _moved(order: list[BroadcastId], form: FormData) -> list[BroadcastId]:
    """The order with one broadcast a place nearer to the top or to the end. Raises `Invalid`."""
    values = given(form, "up", "down")
    direction = next(iter(values), None)
    if len(values) != 1 or direction is None:
        raise Invalid(Fault("up", "field_missing"))
    wanted = uuid_of(values[direction], field=direction)
    if wanted not in order:
        raise Invalid(Fault(direction, "priority_not_here", {"id": str(wanted)}))
    place = order.index(BroadcastId(wanted))
    other = min(max(place + (-1 if direction == "up" else 1), 0), len(order) - 1)
    moved = list(order)
    moved[place], moved[other] = moved[other], moved[place]
    return moved


def _order_page(
    unit_id: UnitId,
    order: Sequence[PriorityBroadcast],
    request: Request,
    caller: Caller,
    services: Services,
    *,
    http_status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    return page(
        request,
        services,
        "order.html",
        caller=caller,
        http_status=http_status,
        trail=trail_of(caller, unit_id),
        unit=caller.rights.tree.get(unit_id),
        unit_id=unit_id,
        order=order,
        version=priorities.version(order),
        has_changed=http_status is not HTTPStatus.OK,
        units=caller.rights.tree,
        may_decide=caller.rights.may(Permission.MAKE_BROADCASTS, unit_id),
        may_read=lambda issuer: caller.rights.may(Permission.SEE_BROADCASTS, issuer),
    )


@router.get("/units/{unit_id}/policy", response_class=HTMLResponse)
async def policy_page(unit_id: uuid.UUID, request: Request, caller: Reader, services: Parts) -> Response:
    """What holds on the ground of a unit, and whose word each limit is. To be read; it is set through the API."""
    tree = caller.rights.tree
    here = tree.standing(UnitId(unit_id)) or UnitId(unit_id)
    async with services.database.connection() as connection:
        stated = await policy_store.policies_of(connection, tree.path(here))
        effective = effective_view(stated, here, tree, may_approve_own=services.policy.may_approve_own)
        fallbacks = [] if effective.fallback is None else [effective.fallback.bulletin_id]
        titles = [each.title for each in (await bulletin_store.bulletins_by_id(connection, fallbacks)).values()]
    wording = wording_of(request, services)
    return page(
        request,
        services,
        "policy.html",
        caller=caller,
        trail=trail_of(caller, here),
        unit=tree.get(here),
        unit_id=here,
        effective=effective,
        rows=day_chart.rows(Policies(stated).at(here, tree), wording, above=tree.ancestors(here)),
        chart_hours=day_chart.HOURS,
        fallback_title="".join(titles),
        accepts_normal=(policy := stated.get(here)) is not None and policy.accepts_normal,
    )
