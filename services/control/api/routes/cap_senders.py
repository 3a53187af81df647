"""CAP senders that a unit trusts: their messages, delivered by an account that may do nothing else, propose alerts."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import account_store, audit, unit_reform
from services.control.alerting import (
    cap_deliveries,
    cap_intake,
    cap_reading,
    cap_store,
    cap_xml,
    template_store,
    templates,
)
from services.control.alerting.cap import MEDIA_TYPE
from services.control.alerting.cap_store import CapSender
from services.control.alerting.model import State
from services.control.alerting.templates import Hand
from services.control.alerting.tones import Tone
from services.control.alerts import By
from services.control.api import step_up, uploads
from services.control.api.access import Scope, requires
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts
from services.control.api.errors import language_of
from services.control.api.fields import Answer, Body, Name
from services.control.api.routes.cap_messages import CapNoteView, noted
from services.control.api.step_up import GivenCode, Operation
from services.control.audit import Entry
from services.control.errors import Fault, Invalid, NotFound
from services.control.permissions import Permission, Rights
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1", tags=["proposed alerts"])

Reader = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.UNIT)]
Setter = Annotated[Caller, requires(Permission.SET_POLICIES, Scope.UNIT)]
Deliverer = Annotated[Caller, requires(Permission.DELIVER_CAP, Scope.BODY)]


class CapSenderBody(Body):
    """A sender as its messages name it, and who delivers them."""

    sender: Name = Field(description="`sender` of the CAP messages, exactly")
    account_id: uuid.UUID = Field(description="the account with the role cap_source that may deliver them")


class CapSenderNameBody(Body):
    """Which of them."""

    sender: Name


class CapSenderView(Answer):
    """A sender that a unit trusts."""

    sender: str
    account_id: uuid.UUID
    trusted_since: datetime
    trusted_by: uuid.UUID | None


class CapAlertView(Answer):
    """An alert that a delivered message has become."""

    alert_id: uuid.UUID
    state: State


class CapDeliveryView(Answer):
    """What became of a delivered message; `remarks` are the codes of its `notes`."""

    taken: bool
    remarks: list[str]
    notes: list[CapNoteView]
    alert_id: uuid.UUID | None
    state: State | None = Field(description="proposed: people decide; cancelled: it was taken back")
    alerts: list[CapAlertView] = Field(
        description="all that it has become: one for each ground it says something else to"
    )


@router.get("/units/{unit_id}/cap-senders")
async def list_senders(unit_id: uuid.UUID, caller: Reader, services: Parts) -> list[CapSenderView]:
    """The senders the unit trusts to propose alerts."""
    del caller
    async with services.database.connection() as connection:
        return await _views(connection, UnitId(unit_id))


@router.put("/units/{unit_id}/cap-senders")
async def trust_sender(
    unit_id: uuid.UUID, body: CapSenderBody, caller: Setter, services: Parts, second_factor: GivenCode = None
) -> list[CapSenderView]:
    """Trust a sender to propose alerts for the ground of the unit, by way of one account."""
    await step_up.demand(services, caller, Operation.SET_POLICY, code=second_factor)
    sender = CapSender(
        unit_id=UnitId(unit_id),
        sender=body.sender,
        account_id=body.account_id,
        trusted_since=caller.now,
        trusted_by=caller.actor.account_id,
    )
    async with services.database.transaction() as connection:
        await _check_delivers(connection, body.account_id, sender.unit_id, caller)
        before = await cap_store.sender(connection, sender.unit_id, sender.sender)
        await cap_store.put(connection, sender)
        await _record(connection, "cap_sender_trusted", before, sender, caller)
        await unit_reform.carry_on(connection, sender.unit_id, caller.rights.tree, now=caller.now)
        return await _views(connection, sender.unit_id)


@router.post("/units/{unit_id}/cap-senders/remove")
async def remove_sender(
    unit_id: uuid.UUID, body: CapSenderNameBody, caller: Setter, services: Parts, second_factor: GivenCode = None
) -> list[CapSenderView]:
    """Trust a sender no longer; what it has proposed stays."""
    await step_up.demand(services, caller, Operation.SET_POLICY, code=second_factor)
    async with services.database.transaction() as connection:
        before = await cap_store.sender(connection, UnitId(unit_id), body.sender)
        if before is None:
            raise NotFound("cap_sender_not_found", facts={"sender": body.sender})
        await cap_store.remove(connection, UnitId(unit_id), body.sender)
        await _record(connection, "cap_sender_removed", before, None, caller)
        await unit_reform.carry_on(connection, UnitId(unit_id), caller.rights.tree, now=caller.now)
        return await _views(connection, UnitId(unit_id))


@router.post(
    "/cap/deliveries",
    openapi_extra=uploads.accepts(MEDIA_TYPE),
)
async def deliver_cap(
    request: Request, unit_id: uuid.UUID, caller: Deliverer, services: Parts, metrics: Metered
) -> CapDeliveryView:
    """Deliver a CAP 1.2 document (the body, or the field `file` of a form) of a sender the unit trusts. An Alert or Update is laid before people as a
    proposal. An Update or a Cancel takes back what nobody has released; for what is in force it proposes what ends it.

    Tests, exercises, drafts and acknowledgements are read and left: `taken` is false then. The same document delivered
    once more answers like the first time, with what has become of it.
    """
    tree = caller.rights.tree
    # A sender goes on naming the unit that it was told of, also once that has become another one.
    where = tree.rights_in(UnitId(unit_id)) or UnitId(unit_id)
    document = await uploads.file_of(request, limit=cap_xml.MAX_BYTES)
    facts: dict[str, str] = {}
    async with on_record(
        services, caller, metrics, action="cap_delivery", subject="alert:new", unit_id=where, facts=facts
    ):
        if where not in tree:
            raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(where)}))
        caller.demand(Permission.DELIVER_CAP, where, field="unit_id")
        # A document of a megabyte takes a second to read; nobody else waits for it.
        reading = await asyncio.to_thread(cap_reading.parse, document)
        message = reading.alert
        if message is None:
            raise Invalid(*reading.faults)
        facts |= {"identifier": message.identifier[:200], "sender": message.sender[:200]}
        language = language_of(request)
        if not cap_intake.is_for_the_air(message):
            notes = noted(reading.remarks, language)
            return CapDeliveryView(taken=False, **notes, alert_id=None, state=None, alerts=[])
        hand = Hand(actor=caller.actor, origin=caller.origin, now=caller.now)
        await templates.lay_out_tones(services.database, services.workshop, caller.rights.tree, hand=hand)
        async with services.database.transaction() as connection:
            tones = await template_store.tones(connection)
            taking = cap_intake.Taking(
                message=message,
                document=document,
                unit_id=where,
                tone=tones[Tone.WARNING],
                unit_codes=services.policy.cap_unit_codes,
                by=By(
                    tree=caller.rights.tree,
                    actor=caller.actor,
                    origin=caller.origin,
                    note="cap",
                    is_messenger=True,
                ),
                now=caller.now,
            )
            delivered = await cap_deliveries.deliver(connection, taking, all_clear=tones[Tone.NOTICE])
    if not delivered.is_repeated:
        proposed = sum(each.state is State.PROPOSED for each in delivered.alerts)
        metrics.alerts_proposed.labels("cap").inc(proposed)
    # A cancel of what waits for a second person becomes no alert; what waits cannot be confirmed any more.
    first = delivered.alerts[0] if delivered.alerts else None
    return CapDeliveryView(
        taken=True,
        **noted((*reading.remarks, *delivered.remarks), language),
        alert_id=first.alert_id if first is not None else None,
        state=first.state if first is not None else None,
        alerts=[CapAlertView(alert_id=each.alert_id, state=each.state) for each in delivered.alerts],
    )


async def _check_delivers(connection: Connection, account_id: uuid.UUID, unit_id: UnitId, caller: Caller) -> None:
    try:
        account = await account_store.account(connection, account_id)
    except NotFound:
        raise Invalid(Fault("account_id", "unknown_account", {"id": str(account_id)})) from None
    tree = caller.rights.tree
    if not Rights(account.grants, tree, now=caller.now).may(Permission.DELIVER_CAP, unit_id):
        unit = tree.get(unit_id)
        facts = {"login": account.login, "unit": unit.name if unit is not None else str(unit_id)}
        raise Invalid(Fault("account_id", "account_is_no_cap_source", facts))


async def _views(connection: Connection, unit_id: UnitId) -> list[CapSenderView]:
    return [
        CapSenderView(
            sender=each.sender,
            account_id=each.account_id,
            trusted_since=each.trusted_since,
            trusted_by=each.trusted_by,
        )
        for each in await cap_store.senders(connection, unit_id)
    ]


async def _record(
    connection: Connection, action: str, before: CapSender | None, after: CapSender | None, caller: Caller
) -> None:
    named = after or before
    assert named is not None, "something changed"
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"cap_sender:{named.sender}",
            unit_id=named.unit_id,
            before=_facts(before),
            after=_facts(after),
        ),
        actor=caller.actor,
        origin=caller.origin,
        at=caller.now,
    )


def _facts(sender: CapSender | None) -> dict[str, Any] | None:
    return {"sender": sender.sender, "account_id": str(sender.account_id)} if sender is not None else None
