"""What people do with the quarantine inbox: correct, ask for a replay, discard. Works in the caller's transaction.

Nothing here writes telemetry: a replay is a request that ingest carries out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.control import audit, quarantine_store
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Actor, Rights
from services.control.quarantine_corrections import Copy, Edit, corrected
from services.control.quarantine_forecast import PAYLOAD_CUT, Forecast, forecast, named
from services.control.quarantine_store import REPLAYED, Correction, Filter, Inmate
from services.shared.database.pool import Connection

MAX_AT_ONCE = 10_000
_IDS_IN_AUDIT = 200

Chosen = Sequence[tuple[int, str, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision as it was made."""

    decision_id: int
    inmates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who decides, with which rights, from where and when."""

    actor: Actor
    rights: Rights
    origin: str | None
    now: datetime


async def foresee(connection: Connection, inmate: Inmate, correction: Correction | None) -> Forecast:
    """What would become of the inmate if it were replayed now: of its corrected copy where there is one."""
    if correction is None and inmate.is_cut:
        return Forecast(reason=PAYLOAD_CUT, detail=f"{len(inmate.payload)} of {inmate.size} bytes were kept")
    topic, payload = (correction or inmate).topic, (correction or inmate).payload
    registry = await quarantine_store.known(connection, named(topic))
    return forecast(topic, payload, registry=registry)


async def correct(connection: Connection, quarantine_id: int, edit: Edit, *, why: str, by: By) -> Correction:
    """Keep a corrected copy beside the original. Raises `NotFound`, `Conflict`, `Invalid`."""
    inmate = await quarantine_store.inmate(connection, quarantine_id)
    _check_undone([inmate], field="quarantine_id")
    original = Copy(topic=inmate.topic, payload=inmate.payload)
    copy = corrected(original, edit, principal=inmate.principal, is_cut=inmate.is_cut)
    correction_id = await quarantine_store.add_correction(
        connection,
        quarantine_id,
        topic=copy.topic,
        payload=copy.payload,
        why=why,
        by=by.actor.account_id,
        at=by.now,
    )
    await _record(
        connection,
        Entry(
            action="quarantine_corrected",
            subject=f"quarantine:{quarantine_id}",
            before=_described(original),
            after={**_described(copy), "why": why, "correction_id": correction_id},
        ),
        by,
    )
    (newest, *_) = await quarantine_store.corrections(connection, quarantine_id)
    return newest


async def replay(connection: Connection, quarantine_ids: Sequence[int], *, why: str, by: By) -> Decided:
    """Ask ingest to judge these anew: their newest corrected copies, or what was received.

    Raises `Conflict` for one that is stored already, `Invalid` for one that is not there or whose bytes are not.
    """
    found = await _named(connection, quarantine_ids)
    _check_undone(found, field="quarantine_ids")
    copies = await quarantine_store.newest_corrections(connection, quarantine_ids)
    place = {number: position for position, number in enumerate(quarantine_ids)}
    cut = [
        Fault(f"quarantine_ids[{place[each.quarantine_id]}]", "inmate_cut", {"size": each.size})
        for each in found
        if each.is_cut and each.quarantine_id not in copies
    ]
    if cut:
        raise Invalid(*cut[:100])
    chosen = [(each.quarantine_id, each.reason, copies.get(each.quarantine_id)) for each in found]
    return await _decide(connection, "replay", chosen, {}, why=why, by=by)


async def discard(connection: Connection, quarantine_ids: Sequence[int], *, why: str, by: By) -> Decided:
    """Take these out of the inbox. Raises `Conflict` for one that is stored already, `Invalid` for one not there."""
    found = await _named(connection, quarantine_ids)
    _check_undone(found, field="quarantine_ids")
    chosen = [(each.quarantine_id, each.reason, None) for each in found]
    return await _decide(connection, "discard", chosen, {}, why=why, by=by)


async def replay_matching(connection: Connection, wanted: Filter, *, limit: int, why: str, by: By) -> Decided:
    """Ask for all open inmates that match and have all their bytes, the oldest `limit` of them."""
    chosen = await quarantine_store.choose(connection, wanted, with_cut=False, limit=limit)
    copies = await quarantine_store.newest_corrections(connection, [number for number, _, _ in chosen])
    corrected_too = [(number, reason, copies.get(number)) for number, reason, _ in chosen]
    return await _decide(connection, "replay", corrected_too, _filter_facts(wanted), why=why, by=by)


async def discard_matching(connection: Connection, wanted: Filter, *, limit: int, why: str, by: By) -> Decided:
    """Take all open inmates that match out of the inbox, the oldest `limit` of them."""
    chosen = await quarantine_store.choose(connection, wanted, with_cut=True, limit=limit)
    plain = [(number, reason, None) for number, reason, _ in chosen]
    return await _decide(connection, "discard", plain, _filter_facts(wanted), why=why, by=by)


# --- details ---------------------------------------------------------------------------------------------------------


async def _named(connection: Connection, quarantine_ids: Sequence[int]) -> tuple[Inmate, ...]:
    found = await quarantine_store.some(connection, quarantine_ids)
    there = {each.quarantine_id for each in found}
    missing = [
        Fault(f"quarantine_ids[{position}]", "unknown_inmate", {"id": number})
        for position, number in enumerate(quarantine_ids)
        if number not in there
    ]
    if missing:
        raise Invalid(*missing[:100])
    return found


def _check_undone(found: Sequence[Inmate], *, field: str) -> None:
    done = [each for each in found if each.standing == REPLAYED]
    if done:
        raise Conflict(
            "inmate_replayed",
            faults=[Fault(field, "inmate_is_stored", {"id": each.quarantine_id}) for each in done[:100]],
            facts={"count": len(done)},
        )


async def _decide(
    connection: Connection, decision: str, chosen: Chosen, filter_facts: dict[str, Any], *, why: str, by: By
) -> Decided:
    if not chosen:
        raise Conflict("nothing_to_decide")
    decision_id = await quarantine_store.decide(
        connection, decision, chosen, why=why, by=by.actor.account_id, at=by.now
    )
    numbers = [number for number, _, _ in chosen]
    is_one = len(numbers) == 1
    await _record(
        connection,
        Entry(
            action="quarantine_replay_requested" if decision == "replay" else "quarantine_discarded",
            subject=f"quarantine:{numbers[0]}" if is_one else f"quarantine_decision:{decision_id}",
            before={"reasons": sorted({reason for _, reason, _ in chosen})},
            after={
                "decision_id": decision_id,
                "inmates": len(numbers),
                "quarantine_ids": numbers[:_IDS_IN_AUDIT],
                "corrections": [each for _, _, each in chosen if each is not None][:_IDS_IN_AUDIT],
                "why": why,
                **filter_facts,
            },
        ),
        by,
    )
    return Decided(decision_id=decision_id, inmates=len(numbers))


async def _record(connection: Connection, entry: Entry, by: By) -> None:
    # What nobody has registered belongs to no unit, so it is the root's.
    roots = by.rights.tree.roots
    of_root = dataclasses.replace(entry, unit_id=roots[0].unit_id if roots else None)
    await audit.record(connection, of_root, actor=by.actor, origin=by.origin, at=by.now)


def _described(copy: Copy) -> dict[str, Any]:
    return {"topic": copy.topic, "payload": copy.payload.hex()}


def _filter_facts(wanted: Filter) -> dict[str, Any]:
    given = {
        "reason": wanted.reason,
        "principal": wanted.principal,
        "device_id": wanted.device_id,
        "units": len(wanted.units) if wanted.units is not None else None,
        "since": wanted.since.isoformat() if wanted.since else None,
    }
    return {"filter": {name: value for name, value in given.items() if value is not None}}
