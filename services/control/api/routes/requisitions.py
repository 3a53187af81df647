"""Requisitions of private boards (R-15): orders noted and revoked, and what private boards gave to the public."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import Field, model_validator

from schemas.identifiers import DeviceId, UnitId
from services.control import device_store, requisition_store, requisitions
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.errors import documented
from services.control.api.faults import FieldFault
from services.control.api.fields import Answer, Body, DeviceIdText, Limit, Name, PlannedInstant
from services.control.api.months import month_of
from services.control.api.what_if import AskedWhatIf, OutlookView
from services.control.permissions import Permission
from services.control.requisition_store import ShareOfDay, StoredRequisition
from services.control.requisitions import Order
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1", tags=["requisitions"])

Lister = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.ANYWHERE)]
Watcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.DEVICE)]
Maker = Annotated[Caller, requires(Permission.REQUISITION_BOARDS, Scope.BODY)]


class RequisitionBody(Body):
    """An order over every private board below a unit, or over one board."""

    unit_id: uuid.UUID | None = None
    device_id: DeviceIdText | None = None
    order_number: Name
    issuer: Name = Field(description="who gave the order")
    valid_from: PlannedInstant
    expires_at: PlannedInstant

    @model_validator(mode="after")
    def _is_of_one_thing(self) -> Self:
        if (self.unit_id is None) == (self.device_id is None):
            raise FieldFault("requisition_is_not_of_one_thing")
        return self

    def order(self) -> Order:
        """The order as noted."""
        return Order(
            unit_id=UnitId(self.unit_id) if self.unit_id is not None else None,
            device_id=DeviceId(self.device_id) if self.device_id is not None else None,
            order_number=self.order_number,
            issuer=self.issuer,
            valid_from=self.valid_from.astimezone(UTC),
            expires_at=self.expires_at.astimezone(UTC),
        )


class RequisitionView(Answer):
    """An order over private boards; `holds` now."""

    requisition_id: uuid.UUID
    unit_id: uuid.UUID | None
    device_id: str | None
    order_number: str
    issuer: str
    valid_from: datetime
    expires_at: datetime
    holds: bool
    created_at: datetime
    created_by: uuid.UUID
    revoked_at: datetime | None
    revoked_by: uuid.UUID | None
    outlook: OutlookView | None = Field(default=None, description="of a dry run: what it would do; nothing was stored")


class ShareOfDayView(Answer):
    """A local day: minutes agreed, minutes shown for the public, and what of them an order took."""

    day: date
    agreed_minutes: int
    shown_minutes: float
    requisitioned_minutes: float


class PublicShareView(Answer):
    """What a private board gave to the public in a month, by its own word, beside what was agreed.

    What an order took is shown beside and does not count towards the agreement. Days on which the board was not in
    service, and days to come, are left out.
    """

    device_id: str
    month: str
    ownership: str
    public_share_minutes: int | None = Field(description="a day, as agreed now")
    agreed_minutes: int
    shown_minutes: float
    requisitioned_minutes: float
    days: list[ShareOfDayView]


def _view(requisition: StoredRequisition, *, now: datetime, outlook: OutlookView | None = None) -> RequisitionView:
    return RequisitionView(
        requisition_id=requisition.requisition_id,
        unit_id=requisition.unit_id,
        device_id=requisition.device_id,
        order_number=requisition.order_number,
        issuer=requisition.issuer,
        valid_from=requisition.valid_from,
        expires_at=requisition.expires_at,
        holds=requisition.valid_from <= now < requisition.ends_at(),
        created_at=requisition.created_at,
        created_by=requisition.created_by,
        revoked_at=requisition.revoked_at,
        revoked_by=requisition.revoked_by,
        outlook=outlook,
    )


@router.get("/requisitions")
async def list_requisitions(
    caller: Lister,
    services: Parts,
    at: Annotated[PlannedInstant | None, Query(description="only those that hold at this instant")] = None,
    limit: Limit = 100,
) -> list[RequisitionView]:
    """Orders over boards one may see, newest first, also those that units above gave for all of theirs."""
    rights = caller.rights
    over = {above for top in rights.units(Permission.SEE_DEVICES) for above in rights.tree.ancestors(top)}
    async with services.database.connection() as connection:
        found = await requisition_store.requisitions_in(
            connection, rights.reach(Permission.SEE_DEVICES), over=over, at=at, limit=limit
        )
    return [_view(each, now=caller.now) for each in found]


@router.post("/requisitions", status_code=201, responses=documented([404]))
async def note_requisition(
    body: RequisitionBody, caller: Maker, services: Parts, what_if: AskedWhatIf
) -> RequisitionView:
    """Note an order: from `valid_from` until `expires_at` the boards put out what is planned for them."""
    if body.unit_id is not None:
        unit_id, field = UnitId(body.unit_id), "unit_id"
    else:
        async with services.database.connection() as connection:
            unit_id, field = await device_store.unit_of(connection, body.device_id or ""), "device_id"
    caller.demand(Permission.REQUISITION_BOARDS, unit_id, field=field)

    async def save(connection: Connection) -> StoredRequisition:
        return await requisitions.note(
            connection,
            body.order(),
            zone=services.directory.zone,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    noted, outlook = await what_if.carry_out(services, caller, save, unit_id=unit_id)
    return _view(noted, now=caller.now, outlook=outlook)


@router.post("/requisitions/{requisition_id}/revoke")
async def revoke_requisition(
    requisition_id: uuid.UUID, caller: Maker, services: Parts, what_if: AskedWhatIf
) -> RequisitionView:
    """The order gives no right any more: what is planned by it is taken back."""
    async with services.database.connection() as connection:
        unit_id = (await requisition_store.requisition(connection, requisition_id)).place
    caller.demand(Permission.REQUISITION_BOARDS, unit_id, field="requisition_id")

    async def save(connection: Connection) -> StoredRequisition:
        requisition = await requisition_store.requisition_for_update(connection, requisition_id)
        return await requisitions.revoke(
            connection,
            requisition,
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    revoked, outlook = await what_if.carry_out(services, caller, save, unit_id=unit_id)
    return _view(revoked, now=caller.now, outlook=outlook)


@router.get("/devices/{device_id}/public-share")
async def public_share(
    device_id: str,
    caller: Watcher,
    services: Parts,
    month: Annotated[str | None, Query(max_length=20, description="YEAR-MONTH; default: the present one")] = None,
) -> PublicShareView:
    """What a private board gave to the public in a month, day by day, beside what was agreed."""
    asked = month_of(month, services.directory.zone, now=caller.now)
    async with services.database.connection() as connection:
        device = await device_store.device(connection, device_id, now=caller.now)
        shown = await requisition_store.share_by_day(
            connection,
            device.device_no,
            caller.rights.tree.path(device.unit_id),
            since=asked.since,
            until=asked.until,
            time_zone=services.directory.zone.key,
        )
    by_day = {each.day: each for each in shown}
    first, last = _service(device.registered_at, device.retired_at or caller.now, services)
    agreed = device.public_share_minutes or 0
    days = [_share_view(day, by_day.get(day), agreed) for day in asked.days() if first <= day <= last or day in by_day]
    return PublicShareView(
        device_id=device.device_id,
        month=asked.name,
        ownership=device.ownership,
        public_share_minutes=device.public_share_minutes,
        agreed_minutes=agreed * len(days),
        shown_minutes=_minutes(sum((each.shown for each in shown), timedelta(0))),
        requisitioned_minutes=_minutes(sum((each.requisitioned for each in shown), timedelta(0))),
        days=days,
    )


def _service(since: datetime, until: datetime, services: Parts) -> tuple[date, date]:
    """The local days from one instant to another."""
    return services.directory.today(now=since), services.directory.today(now=until)


def _share_view(day: date, share: ShareOfDay | None, agreed: int) -> ShareOfDayView:
    nothing = timedelta(0)
    return ShareOfDayView(
        day=day,
        agreed_minutes=agreed,
        shown_minutes=_minutes(share.shown if share else nothing),
        requisitioned_minutes=_minutes(share.requisitioned if share else nothing),
    )


def _minutes(length: timedelta) -> float:
    return round(length / timedelta(minutes=1), 2)
