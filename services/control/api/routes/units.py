"""The tree of units, as it is on a day: read, searched, imported from a file, and what goes on in one of them."""

from __future__ import annotations

import uuid
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.datastructures import UploadFile

from schemas.identifiers import UnitId
from services.control import csv_tables, fleet, unit_directory, unit_reform, unit_store, vietnamese
from services.control.api import step_up, uploads
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.errors import documented
from services.control.api.fields import AfterDevice, Answer, Day, SearchText
from services.control.api.step_up import GivenCode, Operation
from services.control.api.views import (
    UnitRef,
    UnitStatusView,
    UnitView,
    unit_ref,
    unit_status_view,
    unit_view,
)
from services.control.api.what_if import AskedWhatIf, OutlookView
from services.control.errors import Fault, Invalid, NotFound, TooLarge, UnsupportedContent
from services.control.permissions import Permission
from services.control.unit_directory import Imported
from services.control.unit_reform import Reformed
from services.control.unit_reforms import PART
from services.control.units import UnitHeir, UnitHistory, UnitTree
from services.shared.database.pool import Connection

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
    outlook: OutlookView | None = Field(description="of a dry run: what people would hear")


async def _tree(services: Services, on: date | None, caller: Caller) -> UnitTree:
    async with services.database.connection() as connection:
        history = await services.directory.history(connection)
    return history.on(on or services.directory.today(now=caller.now))


@router.get("")
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
    if not tree.stands(UnitId(parent_id)):
        raise NotFound("unit_not_found", facts={"id": str(parent_id)})
    return [unit_view(tree, child.unit_id) for child in tree.children(UnitId(parent_id))]


@router.get("/tree")
async def whole_tree(caller: Reader, services: Parts, on: On = None) -> list[UnitView]:
    """Every unit of a day, parents before children, siblings in Vietnamese alphabetical order."""
    tree = await _tree(services, on, caller)
    return [unit_view(tree, unit.unit_id) for unit in tree]


@router.post(
    "/import",
    openapi_extra=uploads.accepts("text/csv"),
)
async def import_units(
    request: Request,
    caller: Importer,
    services: Parts,
    what_if: AskedWhatIf,
    valid_from: Annotated[Day, Query(description="first local day of this tree")],
    may_strand: Annotated[
        bool, Query(description="whether units that still have devices or accounts may be closed")
    ] = False,
    second_factor: GivenCode = None,
) -> ImportedView:
    """Make a CSV file (`code,parent_code,level,name`, UTF-8) the whole tree from a day on; all of it or nothing."""
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.MOVE_DEVICES, code=second_factor)
    content = await uploads.file_of(request, limit=csv_tables.MAX_BYTES)

    async def save(connection: Connection) -> tuple[Imported, UnitTree]:
        imported = await unit_directory.import_units(
            connection,
            content,
            valid_from=valid_from,
            zone=services.directory.zone,
            may_strand=may_strand,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
        return imported, (await unit_store.load_units(connection)).on(valid_from)

    (imported, tree), outlook = await what_if.carry_out(
        services, caller, save, unit_id=None, first_day=lambda _: valid_from
    )
    return ImportedView(
        valid_from=imported.valid_from,
        units=imported.units,
        opened=imported.opened,
        closed=imported.closed,
        kept=imported.kept,
        root=unit_ref(tree, imported.root_id),
        stranded=[unit_ref(caller.rights.tree, each.unit_id) for each in imported.stranded],
        outlook=outlook,
    )


class SuccessionView(Answer):
    """An old unit, whom it goes over into, and what goes with it. Without `keeps_rights` its grants end on the day."""

    old: UnitRef
    new: UnitRef
    keeps_rights: bool
    devices: int
    accounts: int
    grants: int
    bulletins: int
    broadcasts: int
    groups: int
    relay_sources: int


class PartView(Answer):
    """Devices of an old unit that go elsewhere than the rest; until the day they are a unit of their own below it."""

    part: UnitRef
    of: UnitRef
    new: UnitRef
    devices: int


class TrustView(Answer):
    """A CAP sender, and the unit that trusts it or is to say whether it does."""

    unit: UnitRef
    sender: str


class ReformedView(Answer):
    """What a reform does, or would do.

    `rights_end`: old units whose grants end because no unit of their level follows. `policies_to_decide`: new units that
    follow units with different policies and therefore have none of their own. `cap_senders_to_renew`: senders that not all
    the units before trusted alike, so that nothing of theirs is taken until the new unit trusts them.
    """

    is_dry_run: bool
    valid_from: date
    units: int
    opened: int
    closed: int
    kept: int
    root: UnitRef
    successions: list[SuccessionView]
    parts: list[PartView]
    rights_end: list[UnitRef]
    policies_carried: list[UnitRef]
    policies_to_decide: list[UnitRef]
    offers_carried: int
    cap_senders_carried: list[TrustView]
    cap_senders_to_renew: list[TrustView]
    outlook: OutlookView | None = Field(description="of a dry run: what people would hear")


@router.post(
    "/reform",
    responses=documented([415]),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["tree", "mapping"],
                        "properties": {
                            "tree": {"type": "string", "format": "binary"},
                            "mapping": {"type": "string", "format": "binary"},
                        },
                    }
                }
            },
        }
    },
)
async def reform_units(
    request: Request,
    caller: Importer,
    services: Parts,
    what_if: AskedWhatIf,
    valid_from: Annotated[Day, Query(description="first local day of the new tree")],
    second_factor: GivenCode = None,
) -> ReformedView:
    """Make `tree` (as for import) the tree from a day on; `mapping` says which old unit goes over into which new one.

    `mapping` is CSV in UTF-8: `old_code,new_code[,device_id]`. Codes of old units are those of the day before. Several
    old units may go over into one; a line with a device has this device of the old unit go elsewhere. From the day on
    devices, content, broadcasts and their targets, accounts, groups, and rights of units of one level belong to the new
    unit; what was planned and proven before stays with the old one. All of it or nothing.
    """
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.MOVE_DEVICES, code=second_factor)
    tree, mapping = await _files_of(request, "tree", "mapping")

    async def save(connection: Connection) -> Reformed:
        return await unit_reform.reform(
            connection,
            tree,
            mapping,
            valid_from=valid_from,
            zone=services.directory.zone,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    reformed, outlook = await what_if.carry_out(services, caller, save, unit_id=None, first_day=lambda _: valid_from)
    return _reformed_view(reformed, outlook)


def _reformed_view(reformed: Reformed, outlook: OutlookView | None) -> ReformedView:
    decided = reformed.reform
    eve = reformed.history.on(reformed.valid_from - timedelta(days=1))
    tree = reformed.history.on(reformed.valid_from)
    return ReformedView(
        is_dry_run=outlook is not None,
        valid_from=reformed.valid_from,
        units=reformed.units,
        opened=len(decided.changes.opened),
        closed=sum(not tree.stands(unit.unit_id) and unit.level != PART for unit in eve),
        kept=sum(tree.stands(unit.unit_id) for unit in eve),
        root=unit_ref(tree, decided.root_id),
        successions=[
            SuccessionView(
                old=unit_ref(eve, each.old.unit_id),
                new=unit_ref(tree, each.new.unit_id),
                keeps_rights=each.keeps_rights,
                devices=each.holdings.devices,
                accounts=each.holdings.accounts,
                grants=each.holdings.grants,
                bulletins=each.holdings.bulletins,
                broadcasts=each.holdings.broadcasts,
                groups=each.holdings.groups,
                relay_sources=each.holdings.relay_sources,
            )
            for each in decided.successions
        ],
        parts=[
            PartView(
                part=unit_ref(eve, part.version.unit_id),
                of=unit_ref(eve, part.of),
                new=unit_ref(tree, part.heir_id),
                devices=len(part.device_nos),
            )
            for part in decided.parts
        ],
        rights_end=[
            unit_ref(eve, each.old.unit_id)
            for each in decided.successions
            if not each.keeps_rights and each.holdings.grants
        ],
        policies_carried=[unit_ref(tree, unit_id) for unit_id in reformed.carried.policies],
        policies_to_decide=[unit_ref(tree, unit_id) for unit_id in reformed.carried.policies_that_differ],
        offers_carried=reformed.carried.offers,
        cap_senders_carried=[
            TrustView(unit=unit_ref(tree, unit_id), sender=sender) for unit_id, sender in reformed.carried.cap_senders
        ],
        cap_senders_to_renew=[
            TrustView(unit=unit_ref(tree, unit_id), sender=sender)
            for unit_id, sender in reformed.carried.cap_senders_to_renew
        ],
        outlook=outlook,
    )


async def _files_of(request: Request, *names: str) -> tuple[bytes, ...]:
    """The files of a form, by the names of its fields."""
    if not uploads.is_form(request):
        raise UnsupportedContent("two_files_expected")
    contents: list[bytes] = []
    async with request.form(max_files=len(names), max_fields=4) as form:
        missing = [name for name in names if not isinstance(form.get(name), UploadFile)]
        if missing:
            raise Invalid(*(Fault(name, "field_missing") for name in missing))
        for name in names:
            file: Any = form[name]
            contents.append(await file.read(csv_tables.MAX_BYTES + 1))
    if any(len(content) > csv_tables.MAX_BYTES for content in contents):
        raise TooLarge("body_too_large")
    return tuple(contents)


@router.get("/{unit_id}")
async def get_unit(unit_id: uuid.UUID, caller: Reader, services: Parts, on: On = None) -> UnitView:
    """One unit as it is on a day, with its path from the root."""
    tree = await _tree(services, on, caller)
    if not tree.stands(UnitId(unit_id)):
        raise NotFound("unit_not_found", facts={"id": str(unit_id)})
    return unit_view(tree, UnitId(unit_id))


class HeirView(Answer):
    """A unit that is taken for another from a day on, until a day (None: open)."""

    unit: UnitRef
    valid_from: date
    valid_until: date | None
    keeps_rights: bool = Field(description="rights over the closed unit are rights over the other")


class LineageView(Answer):
    """Where a unit came from in reforms, and where it went."""

    unit: UnitRef
    before: list[HeirView] = Field(description="closed units that are taken for this one")
    after: list[HeirView] = Field(description="what this one is taken for since it was closed")


@router.get("/{unit_id}/lineage")
async def unit_lineage(unit_id: uuid.UUID, caller: Reader, services: Parts) -> LineageView:
    """The units that went over into a unit in reforms, and those it went over into, by day: to compare old with new."""
    del caller
    async with services.database.connection() as connection:
        history = await services.directory.history(connection)
    if history.last(UnitId(unit_id)) is None:
        raise NotFound("unit_not_found", facts={"id": str(unit_id)})
    return LineageView(
        unit=_last_ref(history, UnitId(unit_id)),
        before=[_heir_view(history, heir, heir.unit_id) for heir in history.heirs if heir.heir_id == unit_id],
        after=[_heir_view(history, heir, heir.heir_id) for heir in history.heirs if heir.unit_id == unit_id],
    )


def _heir_view(history: UnitHistory, heir: UnitHeir, shown: UnitId) -> HeirView:
    return HeirView(
        unit=_last_ref(history, shown),
        valid_from=heir.valid_from,
        valid_until=heir.valid_until,
        keeps_rights=heir.keeps_rights,
    )


def _last_ref(history: UnitHistory, unit_id: UnitId) -> UnitRef:
    """A unit as it was called last."""
    unit = history.last(unit_id)
    return UnitRef(unit_id=unit_id, code=unit.code if unit else None, name=unit.name if unit else str(unit_id))


@router.get("/{unit_id}/status")
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
