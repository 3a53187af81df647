"""The volume of all devices of an area at once."""

from __future__ import annotations

import uuid
from contextlib import nullcontext
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import operation_kinds, operation_performing, operations
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts
from services.control.api.fields import Answer, Body, Percent
from services.control.api.requests import MAY_WAIT, RequestView, by, means, waiting
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.api.what_if import AskedWhatIf, OutlookView
from services.control.errors import NotFound
from services.control.operation_performing import Done
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/units/{unit_id}/volume", tags=["devices"])

OperatorHere = Annotated[Caller, requires(Permission.OPERATE_DEVICES, Scope.UNIT)]


class VolumeBody(Body):
    """How loud, and which devices."""

    volume_percent: Percent
    kinds: list[Literal["cluster", "board"]] = Field(default=["cluster"], min_length=1, max_length=2)


class VolumeView(Answer):
    """How many devices have another volume now."""

    changed: int


class RehearsedVolume(Answer):
    """How many devices would have another volume, and what that would do to what people hear."""

    changed: int
    outlook: OutlookView


@router.post("", responses=MAY_WAIT)
async def set_volume(
    unit_id: uuid.UUID,
    body: VolumeBody,
    caller: OperatorHere,
    response: Response,
    services: Parts,
    metrics: Metered,
    what_if: AskedWhatIf,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> VolumeView | RehearsedVolume | RequestView:
    """Set the volume of all devices below the unit, each as loud as its own cap lets it be; it may wait for a second
    person.
    """
    unit = caller.rights.tree.get(UnitId(unit_id))
    # A closed unit has no ground.
    if unit is None or not caller.rights.tree.stands(unit.unit_id):
        raise NotFound("unit_not_found", facts={"id": str(unit_id)})
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.VOLUME, code=second_factor, alone=break_glass)
    operation = operation_kinds.setting_volume(unit.unit_id, body.volume_percent, set(body.kinds), name=unit.name)

    async def save(connection: Connection) -> Done | Waiting:
        who, carrying = by(caller), means(services, break_glass)
        if what_if.dry_run:
            return await operation_performing.perform(connection, operation, by=who, means=carrying, now=caller.now)
        return await operations.settle(connection, operation, by=who, means=carrying, now=caller.now)

    facts = {"volume_percent": body.volume_percent}
    subject = f"unit:{unit_id}"
    attempt = on_record(services, caller, metrics, action="volume", subject=subject, unit_id=unit.unit_id, facts=facts)
    async with nullcontext() if what_if.dry_run else attempt:
        outcome, outlook = await what_if.carry_out(services, caller, save, unit_id=None)
    if isinstance(outcome, Waiting):
        return await waiting(services, response, outcome)
    if outlook is not None:
        return RehearsedVolume(changed=outcome.answer, outlook=outlook)
    return VolumeView(changed=outcome.answer)
