"""Alerts as CAP 1.2: documents taken in as the word of a unit, what is in force as a feed, and each alert as a document."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control import operation_kinds, operations
from services.control.alerting import (
    alert_store,
    atom,
    cap,
    cap_export,
    cap_intake,
    cap_reading,
    cap_writing,
    cap_xml,
    templates,
)
from services.control.alerting.model import State
from services.control.alerting.templates import Hand
from services.control.api import step_up, uploads
from services.control.api.access import Scope, requires_of_calendars
from services.control.api.alert_bodies import AlertView, alert_view
from services.control.api.context import Caller, Metered, Parts
from services.control.api.errors import language_of
from services.control.api.fields import Answer
from services.control.api.requests import RequestView, by, means, waiting
from services.control.api.routes.alerts import Attempt, Releaser, attempted, seen, told_of
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.catalogue.texts import Language, text
from services.control.errors import Fault, Invalid
from services.control.operation_kinds import left_out
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission

router = APIRouter(prefix="/api/v1", tags=["alerts"])

# What programs read that watch feeds: they know nothing but HTTP Basic.
FeedReader = Annotated[Caller, requires_of_calendars(Permission.SEE_ALERTS, Scope.ANYWHERE)]

_FEED_LENGTH = 500


class CapNoteView(Answer):
    """Something odd in a CAP message that was taken as meant, or a part of it that was left out."""

    field: str
    code: str
    message: str


class CapTakenView(Answer):
    """What became of a CAP message; `remarks` are the codes of its `notes`."""

    taken: bool
    remarks: list[str]
    notes: list[CapNoteView]
    alert: AlertView | None
    alerts: list[AlertView] = Field(description="all that it has become: one for each ground it says something else to")
    request: RequestView | None = Field(description="where it waits for a second person")


def noted(remarks: Iterable[Fault], language: Language) -> dict[str, Any]:
    """Remarks as answers about a CAP message hold them."""
    found = list(remarks)
    return {
        "remarks": [each.code for each in found],
        "notes": [
            CapNoteView(
                field=each.field, code=each.code, message=text(f"fault.{each.code}.message", language, each.facts)
            )
            for each in found
        ],
    }


@router.get(
    "/cap/feed.atom",
    response_class=Response,
    responses={200: {"content": {atom.MEDIA_TYPE: {}}}},
)
async def get_feed(request: Request, caller: FeedReader, services: Parts) -> Response:
    """The alerts in force that one may see, as an Atom feed (RFC 4287), each with a link to it as CAP.

    Feed readers log in with HTTP Basic: the account's login, and an API token as password.
    """
    ground = caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS))
    async with services.database.connection() as connection:
        found = await alert_store.alerts_on(
            connection,
            ground,
            states=(State.IN_FORCE,),
            purposes=(Purpose.ALERT,),
            limit=_FEED_LENGTH,
        )
    document = atom.write(
        atom.Feed(
            title=text("feed.alerts_in_force", language_of(request)),
            address=str(request.url),
            api=f"{request.base_url}api/v1",
            alerts=[each for each in found if not each.is_over(now=caller.now)],
            tree=caller.rights.tree,
            now=caller.now,
        )
    )
    return Response(document, media_type=atom.MEDIA_TYPE, headers={"Cache-Control": "private, no-cache"})


@router.get(
    "/alerts/{alert_id}/cap",
    response_class=Response,
    responses={200: {"content": {cap.MEDIA_TYPE: {}}}},
)
async def get_cap(
    alert_id: uuid.UUID,
    caller: FeedReader,
    services: Parts,
    version: Annotated[int | None, Query(ge=1, le=65_535, description="default: the newest")] = None,
) -> Response:
    """A version of an alert or a test as a CAP 1.2 document. A silence is no message to people, and a stop is none either."""
    async with services.database.connection() as connection:
        alert = await seen(connection, alert_id, caller)
        signed = await alert_store.versions(connection, alert.alert_id)
    told = [] if alert.is_silence else [each for each in signed if each.stopped_in is None]
    chosen = [each for each in told if version is None or each.version == version]
    if not chosen:
        alert_store.none_such(alert_id)
    before = [each for each in told if each.version < chosen[-1].version]
    document = cap_writing.write(
        cap_export.cap_of(chosen[-1], before, caller.rights.tree, unit_code=services.policy.cap_unit_codes[0])
    )
    return Response(document, media_type=cap.MEDIA_TYPE, headers={"Cache-Control": "private, no-cache"})


@router.post(
    "/cap",
    responses={202: {"model": CapTakenView, "description": "it waits for a second person"}},
    openapi_extra=uploads.accepts(cap.MEDIA_TYPE),
)
async def take_cap(
    request: Request,
    unit_id: uuid.UUID,
    caller: Releaser,
    services: Parts,
    response: Response,
    metrics: Metered,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> CapTakenView:
    """Take in a CAP 1.2 document (the body, or the field `file` of a form) as the word of a unit: its Alert, Update or
    Cancel is in force at once.

    Tests, exercises, drafts and acknowledgements are read and left: `taken` is false then. What it says to several
    grounds is several alerts; areas that are not of the unit are left out and noted.
    """
    document = await uploads.file_of(request, limit=cap_xml.MAX_BYTES)
    # A document of a megabyte takes a second to read; nobody else waits for it.
    reading = await asyncio.to_thread(cap_reading.parse, document)
    message = reading.alert
    if message is None:
        raise Invalid(*reading.faults)
    language = language_of(request)
    if not cap_intake.is_for_the_air(message):
        return CapTakenView(taken=False, **noted(reading.remarks, language), alert=None, alerts=[], request=None)
    ending = message.message_type is cap.MessageType.CANCEL
    await step_up.demand(
        services,
        caller,
        Operation.CANCEL_ALERT if ending else Operation.RELEASE_ALERT,
        code=second_factor,
        alone=break_glass,
    )
    hand = Hand(actor=caller.actor, origin=caller.origin, now=caller.now)
    await templates.lay_out_tones(services.database, services.workshop, caller.rights.tree, hand=hand)
    attempt = Attempt(
        action="cap",
        unit_id=UnitId(unit_id),
        facts={"identifier": message.identifier[:200], "sender": message.sender[:200]},
    )
    operation = operation_kinds.taking_cap(
        UnitId(unit_id), document, message, unit_codes=services.policy.cap_unit_codes
    )
    async with attempted(services, caller, metrics, attempt) as connection:
        outcome = await operations.settle(
            connection, operation, by=by(caller), means=means(services, break_glass), now=caller.now
        )
    if isinstance(outcome, Waiting):
        notes = noted((*reading.remarks, *left_out(outcome.document)), language)
        view = await waiting(services, response, outcome)
        return CapTakenView(taken=False, **notes, alert=None, alerts=[], request=view)
    # A cancel of what waited for a second person becomes no alert.
    first = told_of(services, metrics, response, "cap", outcome) if outcome.alerts else None
    notes = noted((*reading.remarks, *outcome.answer), language)
    return CapTakenView(taken=True, **notes, alert=first, alerts=list(map(alert_view, outcome.alerts)), request=None)
