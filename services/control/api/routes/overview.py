"""Totals over everything one may see, and the audit."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import airing_store, audit, fleet, fleet_store, operation_store
from services.control.alerting import proposal_store
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import Answer
from services.control.api.requests import RequestView, request_views
from services.control.api.views import ProofView, TallyView, proof_view, tally_views
from services.control.errors import Fault, Invalid
from services.control.operation_store import RequestState
from services.control.permissions import Permission
from services.control.sensing import rule_store

router = APIRouter(prefix="/api/v1", tags=["overview"])

Watcher = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.ANYWHERE)]
Auditor = Annotated[Caller, requires(Permission.SEE_AUDIT, Scope.ANYWHERE)]
_BROKEN_GLASS_SHOWN = 20


class TotalsView(Answer):
    """What is stored in all, and emissions and devices of the units one may see."""

    at: datetime
    database: str
    heartbeats_stored: int
    readings_stored: int
    events_stored: int
    quarantined: int
    devices: list[TallyView]
    replicas_stranded: list[str] = Field(
        description="replicas of ingest that are gone and have not left: their share of uplinks waits unread"
    )
    emissions_planned: int
    emissions_played: int
    emissions_unexplained: int
    proof: ProofView
    broken_glass: list[RequestView] = Field(
        description="what one person did alone, on this ground or above it, and nobody else has acknowledged yet"
    )
    proposals_waiting: int = Field(description="proposed alerts about which nobody has decided: see /proposals")
    proposals_overdue: int = Field(description="of those, the ones that have waited longer than they should")
    sensor_alarms: dict[str, int] = Field(description="alarms of sensor rules that last, by kind: see /sensor-alarms")


class AuditView(Answer):
    """Who changed what, when and from where."""

    audit_id: int
    at: datetime
    account_id: uuid.UUID | None
    login: str | None
    origin: str | None
    action: str
    unit_id: uuid.UUID | None
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@router.get("/totals")
async def totals(
    caller: Watcher,
    services: Parts,
    unit_id: Annotated[uuid.UUID | None, Query(description="this unit and below; default: all one may see")] = None,
) -> TotalsView:
    """What ingest stored in all; devices and emissions of a unit and below."""
    units = caller.rights.reach(Permission.SEE_BROADCASTS)
    if unit_id is not None:
        if UnitId(unit_id) not in caller.rights.tree:
            raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
        caller.demand(Permission.SEE_BROADCASTS, UnitId(unit_id), field="unit_id")
        units = frozenset(caller.rights.tree.subtree(UnitId(unit_id)))
    async with services.database.connection() as connection:
        stored = await fleet_store.telemetry_totals(connection)
        proof = await airing_store.proof_totals(connection, now=caller.now, unit_ids=tuple(units))
        tally = fleet.tally_of(await fleet_store.counts(connection, units, now=caller.now))
        database = await fleet_store.storage_mode(connection)
        stranded = await fleet_store.silent_replicas(connection)
        alone = await operation_store.requests_on(
            connection,
            caller.rights.tree.with_ancestors(units),
            states=(RequestState.ALONE,),
            is_unacknowledged=True,
            limit=_BROKEN_GLASS_SHOWN,
        )
        waiting = await proposal_store.waiting(
            connection, units, patience=services.sensing.proposal_patience, now=caller.now
        )
        alarms = await rule_store.active_alarms(connection, units)
    return TotalsView(
        at=caller.now,
        database=database,
        heartbeats_stored=stored.heartbeats_stored,
        readings_stored=stored.readings_stored,
        events_stored=stored.events_stored,
        quarantined=stored.quarantined,
        devices=tally_views(tally),
        replicas_stranded=list(stranded),
        emissions_planned=proof.planned,
        emissions_played=proof.played,
        emissions_unexplained=proof.unexplained,
        proof=proof_view(proof),
        broken_glass=await request_views(services, alone),
        proposals_waiting=sum(each.proposals for each in waiting),
        proposals_overdue=sum(each.overdue for each in waiting),
        sensor_alarms=alarms,
    )


@router.get("/audit")
async def read_audit(
    caller: Auditor,
    services: Parts,
    before: Annotated[int | None, Query(ge=1, description="only entries older than this number")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[AuditView]:
    """Entries about the units one administers, newest first."""
    async with services.database.connection() as connection:
        found = await audit.entries(connection, caller.rights.reach(Permission.SEE_AUDIT), before=before, limit=limit)
    return [
        AuditView(
            audit_id=each.audit_id,
            at=each.at,
            account_id=each.account_id,
            login=each.login,
            origin=each.origin,
            action=each.action,
            unit_id=each.unit_id,
            subject=each.subject,
            before=dict(each.before) if each.before is not None else None,
            after=dict(each.after) if each.after is not None else None,
        )
        for each in found
    ]
