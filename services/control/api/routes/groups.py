"""Groups: devices that are addressed together, whatever unit they belong to."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import group_store, groups, versions
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import Answer, Body, DeviceIdText, Name
from services.control.api.what_if import AskedWhatIf, OutlookView
from services.control.errors import Fault, Invalid
from services.control.group_store import Group
from services.control.groups import GroupWish
from services.control.permissions import Permission
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1/groups", tags=["groups"])

Lister = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.ANYWHERE)]
Reader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.GROUP)]
Maker = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.BODY)]
Changer = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.GROUP)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]


class GroupBody(Body):
    """A group: clusters and boards that lie in its unit or below."""

    unit_id: uuid.UUID = Field(description="the unit that keeps it")
    name: Name
    members: list[DeviceIdText] = Field(max_length=groups.MAX_MEMBERS)

    def wish(self) -> GroupWish:
        """The group as asked for."""
        return GroupWish(unit_id=UnitId(self.unit_id), name=self.name, members=tuple(self.members))


class GroupView(Answer):
    """A group; `version` is its ETag."""

    group_id: uuid.UUID
    version: int
    unit_id: uuid.UUID
    name: str
    members: list[str]
    created_at: datetime
    created_by: uuid.UUID
    closed_at: datetime | None


class RehearsedGroup(Answer):
    """What saving a group, or closing it, would do to what people hear."""

    outlook: OutlookView


def group_view(group: Group) -> GroupView:
    """A group."""
    return GroupView(
        group_id=group.group_id,
        version=group.version,
        unit_id=group.unit_id,
        name=group.name,
        members=list(group.members),
        created_at=group.created_at,
        created_by=group.created_by,
        closed_at=group.closed_at,
    )


def _answer(response: Response, group: Group) -> GroupView:
    response.headers["ETag"] = versions.etag(group.version)
    return group_view(group)


@router.get("")
async def list_groups(
    caller: Lister, services: Parts, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[GroupView]:
    """Open groups of the units one may see, in order of names."""
    async with services.database.connection() as connection:
        found = await group_store.groups_of(connection, caller.rights.reach(Permission.SEE_BROADCASTS), limit=limit)
    return [group_view(each) for each in found]


@router.post("", status_code=201)
async def create_group(body: GroupBody, caller: Maker, response: Response, services: Parts) -> GroupView:
    """Make a group."""
    unit_id = UnitId(body.unit_id)
    if unit_id not in caller.rights.tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    caller.demand(Permission.MAKE_BROADCASTS, unit_id, field="unit_id")
    async with services.database.transaction() as connection:
        made = await groups.create(
            connection, body.wish(), rights=caller.rights, actor=caller.actor, origin=caller.origin, now=caller.now
        )
    return _answer(response, made)


@router.get("/{group_id}")
async def get_group(group_id: uuid.UUID, caller: Reader, response: Response, services: Parts) -> GroupView:
    """One group, also a closed one. Its ETag is what If-Match wants."""
    del caller
    async with services.database.connection() as connection:
        return _answer(response, await group_store.group(connection, group_id))


@router.put("/{group_id}")
async def replace_group(
    group_id: uuid.UUID,
    body: GroupBody,
    caller: Changer,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
) -> GroupView | RehearsedGroup:
    """Change name and members; what is broadcast to the group reaches the new members from its next occurrence on."""

    async def save(connection: Connection) -> Group:
        stored = await group_store.group_for_update(connection, group_id)
        versions.check(
            stored.version,
            if_match,
            group_view(stored).model_dump(mode="json"),
            given=body.model_dump(mode="json"),
        )
        return await groups.change(
            connection,
            stored,
            body.wish(),
            rights=caller.rights,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    changed, outlook = await what_if.carry_out(services, caller, save, unit_id=UnitId(body.unit_id))
    if outlook is not None:
        return RehearsedGroup(outlook=outlook)
    return _answer(response, changed)


@router.delete("/{group_id}")
async def close_group(
    group_id: uuid.UUID,
    caller: Changer,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
) -> GroupView | RehearsedGroup:
    """Close a group. 409 while a broadcast addresses it that stands, or waits to. If-Match is looked at when it is there."""

    async def save(connection: Connection) -> Group:
        stored = await group_store.group_for_update(connection, group_id)
        if if_match is not None:
            versions.check(
                stored.version, if_match, group_view(stored).model_dump(mode="json"), given={"closed_at": "now"}
            )
        return await groups.close(connection, stored, actor=caller.actor, origin=caller.origin, now=caller.now)

    async with services.database.connection() as connection:
        unit_id = await group_store.unit_of(connection, group_id)
    closed, outlook = await what_if.carry_out(services, caller, save, unit_id=unit_id)
    if outlook is not None:
        return RehearsedGroup(outlook=outlook)
    return _answer(response, closed)
