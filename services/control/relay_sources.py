"""What people do with relay sources: enter one, change it, take it out of use (R-21). Works in the caller's transaction.

What is changed reaches devices with their next plan: broadcasts that relay the source are planned anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from schemas.identifiers import BulletinId, UnitId
from services.control import audit, bulletin_store, planning_queue, relay_addresses, relay_store
from services.control.audit import Entry
from services.control.bulletins import APPROVED
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Actor
from services.control.relay_addresses import Rules
from services.control.relay_store import StoredSource
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A source as somebody wants it."""

    unit_id: UnitId
    name: str
    kind: str
    url: str
    is_direct: bool
    fallback_bulletin_id: BulletinId | None
    silence_dbfs: float
    silence_after: timedelta


async def create(
    connection: Connection,
    source: StoredSource,
    *,
    rules: Rules,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> StoredSource:
    """Store a new source. Raises `Invalid` with everything wrong with it."""
    await _check(connection, source, rules=rules)
    await relay_store.add_source(connection, source)
    await _record(connection, "relay_source_created", None, source, actor=actor, origin=origin, now=now)
    return await relay_store.source(connection, source.source_id)


async def change(
    connection: Connection,
    stored: StoredSource,
    wish: Wish,
    *,
    rules: Rules,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> StoredSource:
    """Put another wish in its place. Raises `Conflict` when it is out of use, `Invalid` as `create` does.

    It stays where it belongs: the rights of its unit are what it rests on.
    """
    _check_in_use(stored)
    if wish.unit_id != stored.unit_id:
        raise Invalid(Fault("unit_id", "owning_unit_is_fixed"))
    wanted = replace(
        stored,
        name=wish.name,
        kind=wish.kind,
        url=wish.url,
        is_direct=wish.is_direct,
        fallback_bulletin_id=wish.fallback_bulletin_id,
        silence_dbfs=wish.silence_dbfs,
        silence_after=wish.silence_after,
    )
    await _check(connection, wanted, rules=rules)
    await relay_store.replace_source(connection, wanted)
    changed = await relay_store.source(connection, stored.source_id)
    for broadcast_id in await relay_store.broadcasts_with(connection, stored.source_id):
        await planning_queue.request_broadcast(connection, broadcast_id, at=now)
    await _record(connection, "relay_source_changed", stored, changed, actor=actor, origin=origin, now=now)
    return changed


async def retire(
    connection: Connection, stored: StoredSource, *, actor: Actor, origin: str | None, now: datetime
) -> StoredSource:
    """Take a source out of use. Raises `Conflict` when it is already, or while broadcasts with it are planned."""
    _check_in_use(stored)
    if planned := await relay_store.planned_broadcasts(connection, stored.source_id, now=now):
        raise Conflict("relay_source_in_use", facts={"name": stored.name, "broadcasts": planned})
    await relay_store.retire_source(connection, stored.source_id, at=now)
    changed = await relay_store.source(connection, stored.source_id)
    for broadcast_id in await relay_store.broadcasts_with(connection, stored.source_id):
        await planning_queue.request_broadcast(connection, broadcast_id, at=now)
    await _record(connection, "relay_source_retired", stored, changed, actor=actor, origin=origin, now=now)
    return changed


def _check_in_use(stored: StoredSource) -> None:
    if stored.retired_at is not None:
        raise Conflict("relay_source_retired", facts={"name": stored.name})


async def _check(connection: Connection, source: StoredSource, *, rules: Rules) -> None:
    faults = []
    fault = relay_addresses.fault_of(source.url, source.kind, is_direct=source.is_direct, rules=rules)
    if fault is not None:
        faults.append(fault)
    if source.fallback_bulletin_id is not None:
        fault = await _fallback_fault(connection, source.fallback_bulletin_id)
        if fault is not None:
            faults.append(fault)
    if faults:
        raise Invalid(*faults)


async def _fallback_fault(connection: Connection, bulletin_id: BulletinId) -> Fault | None:
    """A fallback sounds when nobody is there to look, so it is approved and lasts, and there is something to hear in it."""
    bulletin = (await bulletin_store.bulletins_by_id(connection, [bulletin_id])).get(bulletin_id)
    if bulletin is None:
        return Fault("fallback_bulletin_id", "unknown_bulletin", {"id": str(bulletin_id)})
    if bulletin.state != APPROVED:
        return Fault("fallback_bulletin_id", "fallback_not_approved", {"title": bulletin.title})
    if bulletin.is_passing:
        return Fault("fallback_bulletin_id", "fallback_ends", {"title": bulletin.title})
    if bulletin.media_sha256 is None or bulletin.is_silent:
        return Fault("fallback_bulletin_id", "fallback_without_sound", {"title": bulletin.title})
    return None


async def _record(
    connection: Connection,
    action: str,
    before: StoredSource | None,
    after: StoredSource,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"relay_source:{after.source_id}",
            unit_id=after.unit_id,
            before=None if before is None else _described(before),
            after=_described(after),
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


def _described(source: StoredSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "kind": source.kind,
        "url": source.url,
        "direct": source.is_direct,
        "fallback_bulletin_id": str(source.fallback_bulletin_id) if source.fallback_bulletin_id else None,
        "silence_dbfs": source.silence_dbfs,
        "silence_after_s": source.silence_after.total_seconds(),
        "retired": source.retired_at is not None,
    }
