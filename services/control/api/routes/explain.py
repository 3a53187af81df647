"""Why a device sounds what it sounds: at any instant, past or to come."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from schemas.identifiers import BroadcastId
from services.control import device_store, explanations
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import END_OF_DAYS, FIRST_DAY, Answer
from services.control.api.views import AiringView, EmissionView, NamedAlertView, emission_view, named_alert_view
from services.control.emission_store import EmissionRecord
from services.control.errors import Fault, Invalid
from services.control.explanations import Told
from services.control.permissions import Permission
from services.control.planning.explanation import Loser, OnAir, Turn
from services.control.planning.model import Problem, Slot

router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

Watcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.DEVICE)]


class OnAirView(AiringView):
    """What sounds: since when without a break, until when, and when it first began."""

    since: datetime
    until: datetime
    first_began_at: datetime


class LoserView(AiringView):
    """What wanted the instant and does not sound.

    `standing`: it `waits` to join in progress, was `interrupted` and goes on at `goes_on_at`, was `cut` for good, is
    `missed`, or is `absent` from the device. `by` is the broadcast that outranks it and `decided_by` the criterion that
    settled it: level, live, place, severity, issuer_depth, issued_at_ms or identity.
    """

    standing: str
    by: uuid.UUID | None
    decided_by: str | None
    goes_on_at: datetime | None


class TurnView(AiringView):
    """Something that sounds without a break at another time."""

    begins_at: datetime
    stops_at: datetime
    is_resumption: bool


class RefusedView(Answer):
    """An occurrence that is not in the programme, or not as it was asked for. `problem` is a stable word.

    `unit_id` names whose policy it is, or to whom it was offered, where that is what stands in the way.
    """

    problem: str
    broadcast_id: uuid.UUID
    broadcast_title: str
    local_day: date | None
    occurrence_at: datetime | None
    item: int | None
    unit_id: uuid.UUID | None
    detail: str


class RecordView(EmissionView):
    """What is on record about the instant: taken back before it began, or stopped, or what became of it."""

    withdrawn_at: datetime | None
    stopped_at: datetime | None


class HoldingAlertView(Answer):
    """An alert that means the device at the instant, and when the device first let it sound, by its own word."""

    alert: NamedAlertView
    since: datetime
    until: datetime
    began_at: datetime | None


class ExplanationView(Answer):
    """What sounds at an instant and why, as far as the plan goes; `records` say what became of it.

    `alerts` hold at the instant and stand above every plan: while one sounds nothing else does, and a silence lets
    nothing sound.

    `contenders` are all that want the instant, the winner first. `is_recorded` is false for days that are not planned
    yet: then it is what would be planned now.
    """

    at: datetime
    is_recorded: bool
    on_air: OnAirView | None
    losers: list[LoserView]
    previous: TurnView | None
    next: TurnView | None
    refused: list[RefusedView] = Field(description="kept out of the programme, by a rule or because it is impossible")
    offered: list[RefusedView] = Field(description="waits for the unit's word, or was declined")
    noted: list[RefusedView] = Field(description="in the programme, in another form than was asked for")
    records: list[RecordView]
    alerts: list[HoldingAlertView]
    contenders: list[AiringView]


@router.get("/{device_id}/explanation")
async def explain(
    device_id: str,
    caller: Watcher,
    services: Parts,
    at: Annotated[datetime | None, Query(description="an instant with its offset; default: now")] = None,
) -> ExplanationView:
    """What should sound on the device at an instant, what lost to it and by what, and what was refused by which rule."""
    instant = at or caller.now
    if instant.tzinfo is None:
        raise Invalid(Fault("at", "not_an_instant"))
    if not FIRST_DAY <= instant.date() < END_OF_DAYS:
        raise Invalid(
            Fault("at", "day_out_of_bounds", {"first": FIRST_DAY.isoformat(), "last": END_OF_DAYS.isoformat()})
        )
    async with services.database.connection() as connection:
        device = await device_store.device(connection, device_id, now=caller.now)
        told = await explanations.explain(
            connection,
            device,
            at=instant,
            now=caller.now,
            zone=services.directory.zone,
            horizon_days=services.horizon_days,
        )
    return _view(told)


def _view(told: Told) -> ExplanationView:
    found = told.explanation
    slots = ([found.on_air.slot] if found.on_air is not None else []) + [each.slot for each in found.losers]
    return ExplanationView(
        at=found.at,
        is_recorded=told.is_recorded,
        on_air=None if found.on_air is None else _on_air(found.on_air, told.titles),
        losers=[_loser(each, told.titles) for each in found.losers],
        previous=None if found.previous is None else _turn(found.previous, told.titles),
        next=None if found.next is None else _turn(found.next, told.titles),
        refused=[_refused(each, told.titles) for each in found.refused],
        offered=[_refused(each, told.titles) for each in found.offered],
        noted=[_refused(each, told.titles) for each in found.noted],
        records=[_record(each) for each in told.records],
        alerts=[
            HoldingAlertView(
                alert=named_alert_view(each.alert), since=each.since, until=each.until, began_at=each.began_at
            )
            for each in told.alerts
        ],
        contenders=[AiringView.model_validate(_slot(each, told.titles)) for each in slots],
    )


def _slot(slot: Slot, titles: Mapping[BroadcastId, str]) -> dict[str, object]:
    return {
        "broadcast_id": slot.broadcast_id,
        "broadcast_title": titles.get(slot.broadcast_id, ""),
        "bulletin_id": slot.bulletin_id,
        "relay_source_id": slot.relay.source_id if slot.relay is not None else None,
        "title": slot.title,
        "level": slot.rank.level.name.lower(),
        "occurrence_at": slot.occurrence_at,
        "item": slot.item,
        "content": slot.content.name.lower(),
        "starts_at": slot.starts_at,
        "ends_at": slot.ends_at,
    }


def _on_air(on_air: OnAir, titles: Mapping[BroadcastId, str]) -> OnAirView:
    return OnAirView.model_validate(
        {
            **_slot(on_air.slot, titles),
            "since": on_air.since,
            "until": on_air.until,
            "first_began_at": on_air.first_began_at,
        }
    )


def _loser(loser: Loser, titles: Mapping[BroadcastId, str]) -> LoserView:
    return LoserView.model_validate(
        {
            **_slot(loser.slot, titles),
            "standing": loser.standing.value,
            "by": loser.by.broadcast_id if loser.by is not None else None,
            "decided_by": loser.decided_by,
            "goes_on_at": loser.goes_on_at,
        }
    )


def _turn(turn: Turn, titles: Mapping[BroadcastId, str]) -> TurnView:
    return TurnView.model_validate(
        {
            **_slot(turn.slot, titles),
            "begins_at": turn.begins_at,
            "stops_at": turn.ends_at,
            "is_resumption": turn.is_resumption,
        }
    )


def _refused(problem: Problem, titles: Mapping[BroadcastId, str]) -> RefusedView:
    return RefusedView(
        problem=problem.kind.value,
        broadcast_id=problem.broadcast_id,
        broadcast_title=titles.get(problem.broadcast_id, ""),
        local_day=problem.local_day,
        occurrence_at=problem.occurrence_at,
        item=problem.item,
        unit_id=problem.unit_id,
        detail=problem.detail,
    )


def _record(record: EmissionRecord) -> RecordView:
    return RecordView(
        **emission_view(record).model_dump(), withdrawn_at=record.withdrawn_at, stopped_at=record.stopped_at
    )
