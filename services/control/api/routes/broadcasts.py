"""Broadcasts: asked for by officers, planned by the platform, proven by devices."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self, assert_never

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field, model_validator

from schemas.identifiers import BroadcastId, UnitId
from services.control import (
    airing_store,
    broadcast_requests,
    broadcast_store,
    broadcasts,
    emission_store,
    idempotency,
    operation_store,
    programme_store,
    versions,
)
from services.control.airing_store import ProofCounts
from services.control.api import airing, step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.faults import FieldFault
from services.control.api.fields import (
    Answer,
    Body,
    Day,
    DeviceIdText,
    Flag,
    Instant,
    LocalDayOrMoment,
    Number,
    Percent,
    SessionCode,
    Title,
)
from services.control.api.places import BeforeId, format_place, link_next, parse_place
from services.control.api.requests import MAY_WAIT, RequestView, waiting
from services.control.api.step_up import BreakGlass, GivenCode
from services.control.api.views import EmissionView, ProofView, emission_view, proof_view
from services.control.api.what_if import AskedWhatIf, FindingView, OutlookView, finding_view
from services.control.broadcast_requests import (
    BulletinWish,
    DeviceWish,
    GroupWish,
    ItemWish,
    KindWish,
    PauseWish,
    RelayWish,
    TargetWish,
    UnitWish,
    Wish,
)
from services.control.broadcast_store import StoredBroadcast
from services.control.broadcasts import Accepted
from services.control.errors import Fault, Invalid
from services.control.idempotency import Key
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.control.policies import LocalTime
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/broadcasts", tags=["broadcasts"])

Lister = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.ANYWHERE)]
Reader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.BROADCAST)]
Maker = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.BODY)]
Changer = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.BROADCAST)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]
IdempotencyKey = Annotated[
    str | None,
    Header(description="a name of the client's own for this request, so that it can be sent again", max_length=210),
]


Seconds = Annotated[Number, Field(gt=0, le=broadcast_requests.MAX_LENGTH.total_seconds())]


class ItemBody(Body):
    """A bulletin (or a jingle, which is one too), a pause or a relay; exactly one of them."""

    bulletin_id: uuid.UUID | None = None
    pause_s: Number | None = Field(default=None, gt=0, le=3_600)
    relay_source_id: uuid.UUID | None = None
    length_s: Seconds | None = Field(default=None, description="of a relay")
    starts_after_s: Number | None = Field(
        default=None,
        ge=0,
        le=broadcast_requests.MAX_LENGTH.total_seconds(),
        description="of a relay that begins a fixed time after the beginning, whatever comes before it",
    )
    live: Flag = Field(
        default=False,
        description="of a relay in which somebody speaks: it goes before priority content, and nothing fills in for it",
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if [self.bulletin_id, self.pause_s, self.relay_source_id].count(None) != 2:
            raise FieldFault("item_is_not_one_thing")
        if (self.relay_source_id is None) != (self.length_s is None):
            raise FieldFault("relay_needs_length")
        if self.relay_source_id is None and self.starts_after_s is not None:
            raise FieldFault("only_relays_are_pinned")
        if self.relay_source_id is None and self.live:
            raise FieldFault("only_relays_are_live")
        return self

    def wish(self) -> ItemWish:
        """The item as asked for."""
        if self.bulletin_id is not None:
            return BulletinWish(bulletin_id=self.bulletin_id)
        if self.relay_source_id is not None:
            return RelayWish(
                source_id=self.relay_source_id,
                length=_span(self.length_s or 0),
                starts_after=None if self.starts_after_s is None else timedelta(seconds=round(self.starts_after_s, 3)),
                is_live=self.live,
            )
        return PauseWish(length=_span(self.pause_s or 0))


def _span(seconds: float) -> timedelta:
    """In whole milliseconds, and never none."""
    return timedelta(milliseconds=max(1, round(seconds * 1000)))


class TargetBody(Body):
    """A unit with everything below it, one device, a group, or a kind; with `exclude` it is left out."""

    unit_id: uuid.UUID | None = None
    device_id: DeviceIdText | None = None
    group_id: uuid.UUID | None = None
    kind: Literal["cluster", "board"] | None = Field(default=None, description="all of it below the issuing unit")
    exclude: Flag = False

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if [self.unit_id, self.device_id, self.group_id, self.kind].count(None) != 3:
            raise FieldFault("target_is_not_one_thing")
        return self

    def wish(self) -> TargetWish:
        """The target as asked for."""
        if self.unit_id is not None:
            return UnitWish(unit_id=UnitId(self.unit_id), is_excluded=self.exclude)
        if self.group_id is not None:
            return GroupWish(group_id=self.group_id, is_excluded=self.exclude)
        if self.kind is not None:
            return KindWish(kind=self.kind, is_excluded=self.exclude)
        return DeviceWish(device_id=self.device_id or "", is_excluded=self.exclude)


class BroadcastBody(Body):
    """What is asked for.

    `once`: on `starts_on`. `daily`: every day from `starts_on` until `ends_on`, the first day on which it no longer
    starts (null: until withdrawn). `rule`: as `rrule` says (RFC 5545), from `starts_on` on. `rdates` add to that and
    `exdates` take from it: a day stands for all its times. Begins at each of `local_times`, and with each of the
    `sessions`, which are slots of the issuing unit's policy. Times are local times of `time_zone`; sessions are held by
    the clock of the province, as all limits are.

    One occurrence lasts as long as its items, or `length_s`: then `fit` says what becomes of what does not fit in
    (sounds `whole`, is cut: `trim`, or is left out: `drop`), and `fill` whether items are repeated until then.
    `patience_s` is how late an item may begin (null: half its length). `resume` is how an item goes on that something
    cut: where it would be by then (`resume`), from its beginning if it still may begin and a policy allows that long
    (`restart`), or not at all (`drop`).
    """

    unit_id: uuid.UUID = Field(description="the unit that issues it; its targets lie in it or below")
    title: Title
    level: Literal["normal", "priority", "emergency"] = "normal"
    recurrence: Literal["once", "daily", "rule"] = "once"
    rrule: str | None = Field(
        default=None,
        min_length=1,
        max_length=broadcast_requests.MAX_RRULE,
        description="counted from each of the times and sessions by itself: COUNT=3 at two times begins six times",
        examples=["FREQ=WEEKLY;BYDAY=MO,WE,FR"],
    )
    rdates: list[LocalDayOrMoment] = Field(default=[], max_length=broadcast_requests.MAX_RDATES)
    exdates: list[LocalDayOrMoment] = Field(default=[], max_length=broadcast_requests.MAX_EXDATES)
    time_zone: str = Field(default="Asia/Ho_Chi_Minh", min_length=1, max_length=64, description="IANA name")
    starts_on: Day
    ends_on: Day | None = None
    local_times: list[LocalTime] = Field(
        default=[], max_length=broadcast_requests.MAX_TIMES, description="HH:MM or HH:MM:SS"
    )
    sessions: list[SessionCode] = Field(default=[], max_length=broadcast_requests.MAX_SESSIONS)
    items: list[ItemBody] = Field(min_length=1, max_length=broadcast_requests.MAX_ITEMS)
    targets: list[TargetBody] = Field(min_length=1, max_length=broadcast_requests.MAX_TARGETS)
    volume_percent: Percent | None = Field(default=None, description="default: the volume of each device")
    resume: Literal["resume", "restart", "drop"] = "resume"
    length_s: Seconds | None = None
    fit: Literal["whole", "trim", "drop"] = "whole"
    fill: Literal["none", "repeat"] = "none"
    patience_s: Number | None = Field(default=None, ge=0, le=broadcast_requests.MAX_LENGTH.total_seconds())

    def wish(self) -> Wish:
        """The broadcast as asked for."""
        return Wish(
            unit_id=UnitId(self.unit_id),
            title=self.title,
            level=self.level,
            recurrence=self.recurrence,
            rrule=self.rrule,
            rdates=tuple(self.rdates),
            exdates=tuple(self.exdates),
            time_zone=self.time_zone,
            starts_on=self.starts_on,
            ends_on=self.ends_on,
            local_times=tuple(self.local_times),
            sessions=tuple(self.sessions),
            items=tuple(item.wish() for item in self.items),
            targets=tuple(target.wish() for target in self.targets),
            volume_percent=self.volume_percent,
            resume=self.resume,
            length=None if self.length_s is None else _span(self.length_s),
            fit=self.fit,
            fill=self.fill,
            patience=None if self.patience_s is None else timedelta(milliseconds=round(self.patience_s * 1000)),
        )


class ItemView(Answer):
    """An item."""

    bulletin_id: uuid.UUID | None = None
    pause_s: float | None = None
    relay_source_id: uuid.UUID | None = None
    length_s: float | None = None
    starts_after_s: float | None = None
    live: bool | None = None


class TargetView(Answer):
    """A target."""

    unit_id: uuid.UUID | None = None
    device_id: str | None = None
    group_id: uuid.UUID | None = None
    kind: str | None = None
    exclude: bool


class BroadcastView(Answer):
    """A broadcast; `version` is its ETag."""

    broadcast_id: uuid.UUID
    version: int
    state: str
    unit_id: uuid.UUID
    title: str
    level: str
    recurrence: str
    rrule: str | None
    rdates: list[str]
    exdates: list[str]
    time_zone: str
    starts_on: date
    ends_on: date | None
    local_times: list[LocalTime]
    sessions: list[str]
    items: list[ItemView]
    targets: list[TargetView]
    volume_percent: int | None
    resume: str
    length_s: float | None
    fit: str
    fill: str
    patience_s: float | None
    issued_at: datetime
    created_by: uuid.UUID
    withdrawn_at: datetime | None
    offer_of: uuid.UUID | None


class ExceptionView(Answer):
    """Rules of policies that stand against a broadcast, which an approver may let pass."""

    rules: list[str]
    unit_ids: list[uuid.UUID]


class AcceptedView(BroadcastView):
    """A broadcast just stored: how many devices it reaches today, how long one occurrence lasts, when the first begins.

    While its state is `awaiting_approval` nothing of it sounds; `exception` says what an approver has to decide on.
    """

    devices: int
    duration_s: float
    starts_at: datetime
    exception: ExceptionView | None
    problems: list[FindingView] = Field(
        description="what planning says about its first days: what does not sound, or not so"
    )


class RehearsedView(Answer):
    """What saving would come to: the state it would have, and what it would do to what people hear."""

    state: str
    devices: int | None = None
    duration_s: float | None = None
    starts_at: datetime | None = None
    exception: ExceptionView | None = None
    outlook: OutlookView


class BroadcastWithProof(BroadcastView):
    """A broadcast and what became of it so far."""

    proof: ProofView


class PlanningProblemView(Answer):
    """Something of the broadcast that is not emitted, or that somebody should look at. `problem` is a stable word."""

    problem: str
    local_day: date | None
    occurrence_at: datetime | None
    item: int | None
    device_no: int | None
    unit_id: uuid.UUID | None = Field(
        description="whose policy it is, whom it is offered to, or where what was named lies"
    )
    detail: str


class ProofSheet(Answer):
    """Emissions counted by what became of them, and what could not be planned and why."""

    broadcast_id: uuid.UUID
    at: datetime
    proof: ProofView
    problems: list[PlanningProblemView]


class EmissionListView(Answer):
    """Emissions one by one."""

    emissions: list[EmissionView]
    more_after: str | None = Field(description="to be given as `after`; null: that was all")


def _described(stored: StoredBroadcast) -> dict[str, Any]:
    wish = stored.wish
    return {
        "broadcast_id": stored.broadcast_id,
        "version": stored.version,
        "state": stored.state,
        "unit_id": wish.unit_id,
        "title": wish.title,
        "level": wish.level,
        "recurrence": wish.recurrence,
        "rrule": wish.rrule,
        "rdates": [each.isoformat() for each in wish.rdates],
        "exdates": [each.isoformat() for each in wish.exdates],
        "time_zone": wish.time_zone,
        "starts_on": wish.starts_on,
        "ends_on": wish.ends_on,
        "local_times": list(wish.local_times),
        "sessions": list(wish.sessions),
        "items": [_item_view(item) for item in wish.items],
        "targets": [_target_view(target) for target in wish.targets],
        "volume_percent": wish.volume_percent,
        "resume": wish.resume,
        "length_s": _seconds(wish.length),
        "fit": wish.fit,
        "fill": wish.fill,
        "patience_s": _seconds(wish.patience),
        "issued_at": stored.issued_at,
        "created_by": stored.created_by,
        "withdrawn_at": stored.withdrawn_at,
        "offer_of": stored.offer_of,
    }


def broadcast_view(stored: StoredBroadcast) -> BroadcastView:
    """A broadcast."""
    return BroadcastView(**_described(stored))


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def _item_view(item: ItemWish) -> ItemView:
    match item:
        case BulletinWish(bulletin_id=bulletin_id):
            return ItemView(bulletin_id=bulletin_id)
        case PauseWish(length=length):
            return ItemView(pause_s=length.total_seconds())
        case RelayWish(source_id=source_id, length=length, starts_after=starts_after, is_live=is_live):
            return ItemView(
                relay_source_id=source_id,
                length_s=length.total_seconds(),
                starts_after_s=_seconds(starts_after),
                live=is_live or None,
            )
        case _:
            assert_never(item)


def _target_view(target: TargetWish) -> TargetView:
    match target:
        case UnitWish(unit_id=unit_id):
            return TargetView(unit_id=unit_id, exclude=target.is_excluded)
        case DeviceWish(device_id=device_id):
            return TargetView(device_id=device_id, exclude=target.is_excluded)
        case GroupWish(group_id=group_id):
            return TargetView(group_id=group_id, exclude=target.is_excluded)
        case KindWish(kind=kind):
            return TargetView(kind=kind, exclude=target.is_excluded)
        case _:
            assert_never(target)


def _accepted_view(accepted: Accepted) -> AcceptedView:
    exception = accepted.exception
    return AcceptedView(
        **_described(accepted.broadcast),
        devices=accepted.devices,
        duration_s=accepted.length.total_seconds(),
        starts_at=accepted.first,
        exception=ExceptionView(rules=list(exception.rules), unit_ids=list(exception.unit_ids)) if exception else None,
        problems=[finding_view(each) for each in accepted.findings],
    )


def _rehearsed_view(accepted: Accepted, outlook: OutlookView) -> RehearsedView:
    view = _accepted_view(accepted)
    return RehearsedView(
        state=view.state,
        devices=view.devices,
        duration_s=view.duration_s,
        starts_at=view.starts_at,
        exception=view.exception,
        outlook=outlook,
    )


def _with_etag(response: Response, stored: StoredBroadcast) -> None:
    response.headers["ETag"] = broadcasts.etag(stored)


@router.get("")
async def list_broadcasts(
    caller: Lister,
    request: Request,
    response: Response,
    services: Parts,
    state: Annotated[Literal["scheduled", "awaiting_approval", "rejected", "withdrawn"] | None, Query()] = None,
    before: Annotated[Instant | None, Query(description="only older ones")] = None,
    before_id: BeforeId = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[BroadcastView]:
    """Broadcasts issued by the units one may see, newest first; those of one instant by their id.

    The header `Link` names the next page (`rel="next"`), if there is one: it begins behind the last one of this page,
    whose `issued_at` and id it gives as `before` and `before_id`.
    """
    async with services.database.connection() as connection:
        found = await broadcast_store.broadcasts_of(
            connection,
            caller.rights.reach(Permission.SEE_BROADCASTS),
            state=state,
            before=before,
            before_id=before_id,
            limit=limit + 1,
        )
    shown = found[:limit]
    if len(found) > limit:
        link_next(request, response, shown[-1].issued_at, shown[-1].broadcast_id)
    return [broadcast_view(each) for each in shown]


@router.post(
    "",
    status_code=201,
    responses=MAY_WAIT
    | {200: {"model": RehearsedView, "description": "of a dry run: what it would do; nothing was stored"}},
)
async def create_broadcast(
    body: BroadcastBody,
    caller: Maker,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    idempotency_key: IdempotencyKey = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AcceptedView | RehearsedView | RequestView:
    """Ask for a broadcast. Everything wrong with it is named at once; nothing is half stored.

    Where a policy is against it and lets an approver except from that, it is stored and waits (`awaiting_approval`).
    With a live source in it, it may wait for a second person.
    With an `Idempotency-Key` it is made once, however often it is sent: for 48 hours the same account gets the first
    answer again, marked `Idempotency-Replayed: true`; another body under the same key is refused.
    """
    unit_id = UnitId(body.unit_id)
    if unit_id not in caller.rights.tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    caller.demand(Permission.MAKE_BROADCASTS, unit_id, field="unit_id")
    wish = body.wish()
    if not what_if.dry_run:
        await step_up.demand_live(services, caller, wish, code=second_factor, alone=break_glass)

    async def save(connection: Connection) -> Accepted | Waiting:
        if what_if.dry_run:
            return await airing.try_out(connection, services, caller, wish)
        return await airing.save(connection, services, caller, wish, alone=break_glass)

    if idempotency_key is not None:
        key = idempotency.key_of(
            idempotency_key,
            account_id=caller.actor.account_id,
            operation="create_broadcast",
            body=body.model_dump(mode="json"),
        )
        if not what_if.dry_run:
            return await _created_once(services, key, save, response, now=caller.now)
    saved, outlook = await what_if.carry_out(services, caller, save, unit_id=unit_id, first_day=_first_day)
    if isinstance(saved, Waiting):
        return await waiting(services, response, saved)
    if outlook is not None:
        response.status_code = HTTPStatus.OK
        return _rehearsed_view(saved, outlook)
    _with_etag(response, saved.broadcast)
    return _accepted_view(saved)


async def _created_once(
    services: Services,
    key: Key,
    save: Callable[[Connection], Awaitable[Accepted | Waiting]],
    response: Response,
    *,
    now: datetime,
) -> AcceptedView | RequestView:
    """Save it, or give the answer that was given when it was saved; of what waits, as it stands by now."""
    async with services.database.transaction() as connection:

        async def carry_out() -> Any:
            saved = await save(connection)
            if isinstance(saved, Waiting):
                return {"request_id": str(saved.request_id)}
            return _accepted_view(saved).model_dump(mode="json")

        answer, is_replayed = await idempotency.once(connection, key, carry_out, now=now)
        request = (
            await operation_store.request(connection, uuid.UUID(answer["request_id"]))
            if "request_id" in answer
            else None
        )
    if is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    if request is not None:
        return await waiting(services, response, request)
    view = AcceptedView.model_validate(answer)
    response.headers["ETag"] = versions.etag(view.version)
    return view


def _first_day(saved: Accepted | Waiting) -> date | None:
    return saved.first_day if isinstance(saved, Accepted) else None


async def _proof(services: Parts, broadcast_id: uuid.UUID, *, now: datetime) -> ProofCounts:
    async with services.database.connection() as connection:
        return await airing_store.proof_totals(connection, now=now, broadcast_id=BroadcastId(broadcast_id))


@router.get("/{broadcast_id}")
async def get_broadcast(
    broadcast_id: uuid.UUID, caller: Reader, response: Response, services: Parts
) -> BroadcastWithProof:
    """One broadcast with the sum of its proof. Its ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        stored = await broadcast_store.broadcast(connection, broadcast_id)
    _with_etag(response, stored)
    return BroadcastWithProof(
        **_described(stored), proof=proof_view(await _proof(services, broadcast_id, now=caller.now))
    )


@router.put("/{broadcast_id}", responses=MAY_WAIT)
async def replace_broadcast(
    broadcast_id: uuid.UUID,
    body: BroadcastBody,
    caller: Changer,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AcceptedView | RehearsedView | RequestView:
    """Put another wish in its place; If-Match must name the version one has read. What is on the air goes on as it was."""
    wish = body.wish()
    if not what_if.dry_run:
        await step_up.demand_live(services, caller, wish, code=second_factor, alone=break_glass)

    async def save(connection: Connection) -> Accepted | Waiting:
        if not what_if.dry_run:
            await airing.take_turn(connection, caller, wish)
        stored = await broadcast_store.broadcast_for_update(connection, broadcast_id)
        _check_version(stored, if_match, given=body.model_dump(mode="json"))
        if what_if.dry_run:
            return await airing.try_out(connection, services, caller, wish, instead_of=stored)
        return await airing.save(connection, services, caller, wish, instead_of=stored, alone=break_glass)

    saved, outlook = await what_if.carry_out(services, caller, save, unit_id=UnitId(body.unit_id), first_day=_first_day)
    if isinstance(saved, Waiting):
        return await waiting(services, response, saved)
    if outlook is not None:
        return _rehearsed_view(saved, outlook)
    _with_etag(response, saved.broadcast)
    return _accepted_view(saved)


def _check_version(stored: StoredBroadcast, if_match: str | None, *, given: Any) -> None:
    present = BroadcastView(**_described(stored)).model_dump(mode="json")
    broadcasts.check_version(stored, if_match, present, given=given)


@router.post("/{broadcast_id}/withdraw")
async def withdraw_broadcast(
    broadcast_id: uuid.UUID,
    caller: Changer,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
) -> BroadcastView | RehearsedView:
    """Withdraw a broadcast: what has not started does not start any more. If-Match is looked at when it is there."""

    async def save(connection: Connection) -> StoredBroadcast:
        stored = await broadcast_store.broadcast_for_update(connection, broadcast_id)
        if if_match is not None:
            _check_version(stored, if_match, given={"state": broadcasts.WITHDRAWN})
        return await broadcasts.withdraw(connection, stored, actor=caller.actor, origin=caller.origin, now=caller.now)

    async with services.database.connection() as connection:
        unit_id = await broadcast_store.unit_of(connection, broadcast_id)
    withdrawn, outlook = await what_if.carry_out(services, caller, save, unit_id=unit_id)
    if outlook is not None:
        return RehearsedView(state=withdrawn.state, outlook=outlook)
    _with_etag(response, withdrawn)
    return BroadcastView(**_described(withdrawn))


@router.get("/{broadcast_id}/proof")
async def proof_of_broadcast(broadcast_id: uuid.UUID, caller: Reader, services: Parts) -> ProofSheet:
    """What became of the broadcast: emissions counted, and what could not be planned and why."""
    counts = await _proof(services, broadcast_id, now=caller.now)
    async with services.database.connection() as connection:
        problems = await programme_store.load_problems(connection, BroadcastId(broadcast_id))
    return ProofSheet(
        broadcast_id=broadcast_id,
        at=caller.now,
        proof=proof_view(counts),
        problems=[
            PlanningProblemView(
                problem=each.kind.value,
                local_day=each.local_day,
                occurrence_at=each.occurrence_at,
                item=each.item,
                device_no=each.device_no,
                unit_id=each.unit_id,
                detail=each.detail,
            )
            for each in problems
        ],
    )


@router.get("/{broadcast_id}/emissions")
async def emissions_of_broadcast(
    broadcast_id: uuid.UUID,
    caller: Reader,
    services: Parts,
    outcome: Annotated[
        Literal["pending", "played", "late", "cut", "missed", "refused", "unknown"] | None, Query()
    ] = None,
    after: Annotated[str | None, Query(max_length=100, description="`more_after` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 500,
) -> EmissionListView:
    """Every emission of the broadcast on devices one may see, with outcome, reason and evidence."""
    place = parse_place(after) if after is not None else None
    async with services.database.connection() as connection:
        found = await emission_store.of_broadcast(
            connection,
            broadcast_id,
            caller.rights.reach(Permission.SEE_BROADCASTS),
            outcome=outcome,
            after=place,
            limit=limit + 1,
        )
    shown = found[:limit]
    return EmissionListView(
        emissions=[emission_view(each) for each in shown],
        more_after=format_place(shown[-1]) if len(found) > limit else None,
    )
