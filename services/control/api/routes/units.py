"""The tree of units, as it is on a day: read, searched, imported from a file, and what goes on in one of them."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile

from schemas.identifiers import UnitId
from services.control import fleet, unit_directory, unit_files, unit_store, vietnamese
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.errors import documented
from services.control.api.fields import AfterDevice, Answer, Day, SearchText
from services.control.api.views import (
    UnitRef,
    UnitStatusView,
    UnitView,
    unit_ref,
    unit_status_view,
    unit_view,
)
from services.control.errors import Fault, Invalid, NotFound, TooLarge
from services.control.permissions import Permission
from services.control.units import UnitTree

router = APIRouter(prefix="/api/v1/units", tags=["units"])

Reader = Annotated[Caller, requires(Permission.SEE_UNITS, Scope.ANYWHERE)]
Importer = Annotated[Caller, requires(Permission.IMPORT_UNITS, Scope.ROOT)]
Watcher = Annotated[Caller, requires(Permission.SEE_DEVICES, Scope.UNIT)]

_FOUND = 50

On = Annotated[Day | None, Query(description="the local day; default: today")]


class ImportedView(Answer):
    """What an import did."""

    valid_from: date
    units: int
    opened: int
    closed: int
    kept: int
    root: UnitRef
    stranded: list[UnitRef]


async def _tree(services: Services, on: date | None, caller: Caller) -> UnitTree:
    async with services.database.connection() as connection:
        history = await services.directory.history(connection)
    return history.on(on or services.directory.today(now=caller.now))


@router.get("", responses=documented([401, 403, 422]))
async def list_units(
    caller: Reader,
    services: Parts,
    parent_id: Annotated[uuid.UUID | None, Query(description="children of this unit; default: the roots")] = None,
    q: Annotated[SearchText | None, Query(description="part of a name, with or without accents, or a code")] = None,
    on: On = None,
) -> list[UnitView]:
    """Units in Vietnamese alphabetical order: children of a unit, or those a search finds (50 at most)."""
    tree = await _tree(services, on, caller)
    if q is not None and q.strip():
        day = on or services.directory.today(now=caller.now)
        async with services.database.connection() as connection:
            ids = await unit_store.matching(connection, vietnamese.search_text(q), q.strip(), day=day, limit=_FOUND)
        return [unit_view(tree, unit_id) for unit_id in ids if unit_id in tree]
    if parent_id is None:
        return [unit_view(tree, root.unit_id) for root in tree.roots]
    if UnitId(parent_id) not in tree:
        raise NotFound("unit_not_found", facts={"id": str(parent_id)})
    return [unit_view(tree, child.unit_id) for child in tree.children(UnitId(parent_id))]


@router.get("/tree", responses=documented([401, 403, 422]))
async def whole_tree(caller: Reader, services: Parts, on: On = None) -> list[UnitView]:
    """Every unit of a day, parents before children, siblings in Vietnamese alphabetical order."""
    tree = await _tree(services, on, caller)
    return [unit_view(tree, unit.unit_id) for unit in tree]


@router.post(
    "/import",
    responses=documented([401, 403, 409, 413, 422]),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                },
            },
        }
    },
)
async def import_units(
    request: Request,
    caller: Importer,
    services: Parts,
    valid_from: Annotated[Day, Query(description="first local day of this tree")],
    may_strand: Annotated[
        bool, Query(description="whether units that still have devices or accounts may be closed")
    ] = False,
) -> ImportedView:
    """Make a CSV file (`code,parent_code,level,name`, UTF-8) the whole tree from a day on; all of it or nothing."""
    content = await _file_of(request)
    async with services.database.transaction() as connection:
        imported = await unit_directory.import_units(
            connection,
            content,
            valid_from=valid_from,
            may_strand=may_strand,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    tree = await _tree(services, valid_from, caller)
    return ImportedView(
        valid_from=imported.valid_from,
        units=imported.units,
        opened=imported.opened,
        closed=imported.closed,
        kept=imported.kept,
        root=unit_ref(tree, imported.root_id),
        stranded=[unit_ref(caller.rights.tree, each.unit_id) for each in imported.stranded],
    )


async def _file_of(request: Request) -> bytes:
    """The file of the body, which is the CSV itself or a form with the field `file`."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=4) as form:
        file: Any = form.get("file")
        if not isinstance(file, UploadFile):
            raise Invalid(Fault("file", "field_missing"))
        content = await file.read(unit_files.MAX_BYTES + 1)
    if len(content) > unit_files.MAX_BYTES:
        raise TooLarge("body_too_large")
    return content


@router.get("/{unit_id}", responses=documented([401, 403, 404, 422]))
async def get_unit(unit_id: uuid.UUID, caller: Reader, services: Parts, on: On = None) -> UnitView:
    """One unit as it is on a day, with its path from the root."""
    tree = await _tree(services, on, caller)
    if UnitId(unit_id) not in tree:
        raise NotFound("unit_not_found", facts={"id": str(unit_id)})
    return unit_view(tree, UnitId(unit_id))


@router.get("/{unit_id}/status", responses=documented([401, 403, 404]))
async def unit_status(
    unit_id: uuid.UUID,
    caller: Watcher,
    services: Parts,
    limit: Annotated[int, Query(ge=1, le=500, description="devices at most")] = 100,
    after: Annotated[AfterDevice | None, Query(description="device id after which to go on")] = None,
) -> UnitStatusView:
    """What is on, what is next and what was played on each device of the unit and below, and today's proof."""
    async with services.database.connection() as connection:
        status = await fleet.unit_status(
            connection,
            UnitId(unit_id),
            tree=caller.rights.tree,
            zone=services.directory.zone,
            kind=None,
            liveness=None,
            after=after,
            limit=limit,
            now=caller.now,
        )
    return unit_status_view(status, caller.rights.tree)
