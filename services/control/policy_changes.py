"""What people do with policies: say what holds on a unit's ground, or take it back. Works in the caller's transaction.

A unit may tighten what holds above it, not loosen it. A unit above that tightens later tightens everybody below at once:
what they state that is looser now counts no longer, and whoever tightens is told how many they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.identifiers import UnitId
from services.control import audit, bulletin_store, planning_queue, policies, policy_store, unit_reform
from services.control.audit import Entry
from services.control.errors import Fault, Invalid
from services.control.permissions import Actor, Permission, Rights
from services.control.planning import policy_faults
from services.control.planning.policies import Policies, Policy
from services.control.policies import FIELDS, PolicyDocument
from services.control.policy_store import StoredPolicy
from services.control.units import UnitTree
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Looser:
    """A unit that states something looser than what holds above it, and in which fields: they do not count there."""

    unit_id: UnitId
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A policy as it was stored, and who below states something that counts no longer."""

    policy: StoredPolicy
    looser_below: tuple[Looser, ...]


async def put(
    connection: Connection,
    stored: StoredPolicy,
    document: PolicyDocument,
    *,
    may_approve_own: bool,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Saved:
    """Have the unit say this from now on.

    `may_approve_own` is the province's setting. Raises `Invalid` naming each field that cannot be as it was sent, and
    for what would loosen something, whose limit that is.
    """
    unit_id, tree = stored.unit_id, rights.tree
    stated = policies.with_province_s_word(
        await policy_store.load_policies(connection), tree, may_approve_own=may_approve_own
    )
    wanted = document.policy(unit_id)
    above = Policies(stated).above(unit_id, tree)
    faults = [
        *(_fault(each, tree) for each in (*policy_faults.faults(wanted), *policy_faults.loosens(wanted, above))),
        *await _faults_of_fallback(connection, wanted, rights),
    ]
    if faults:
        raise Invalid(*faults, code="policy_invalid")
    saved = await policy_store.put(connection, unit_id, document, by=actor.account_id, at=now)
    await unit_reform.carry_on(connection, unit_id, tree, now=now)
    await planning_queue.request_ground(connection, unit_id, at=now)
    await audit.record(
        connection,
        Entry(
            action="policy_removed" if document.says_nothing else "policy_set",
            subject=f"policy:{unit_id}",
            unit_id=unit_id,
            before={"version": stored.version, "policy": stored.document.body()},
            after={"version": saved.version, "policy": document.body()},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return Saved(policy=saved, looser_below=looser_below({**stated, unit_id: wanted}, unit_id, tree))


def looser_below(stated: Mapping[UnitId, Policy], unit_id: UnitId, tree: UnitTree) -> tuple[Looser, ...]:
    """The units below that state something looser than what holds above them, in order of the tree."""
    everybody = Policies(stated)
    found = []
    for below in tree.subtree(unit_id)[1:]:
        own = stated.get(below)
        faults = policy_faults.loosens(own, everybody.above(below, tree)) if own is not None else ()
        if faults:
            fields = dict.fromkeys(FIELDS.get(fault.field, fault.field) for fault in faults)
            found.append(Looser(unit_id=below, fields=tuple(fields)))
    return tuple(found)


_LIMITS = {"forbids_self_approval": "true", "allows_direct_relays": "false"}


def _fault(fault: policy_faults.Fault, tree: UnitTree) -> Fault:
    """In words of the document: planning says what, the catalogue says it to people."""
    field = FIELDS.get(fault.field, fault.field)
    unit = tree.get(fault.unit_id) if fault.unit_id is not None else None
    detail = f"{fault.detail} min" if fault.detail and fault.field in ("max_session", "max_day") else fault.detail
    # What is said by yes or no has no number for a limit, and a day without sessions none at all.
    detail = detail or _LIMITS.get(fault.field, "–")
    return Fault(
        field if fault.index is None else f"{field}[{fault.index}]",
        f"policy_{fault.code.value}",
        {"detail": detail, "unit": unit.name if unit is not None else str(fault.unit_id or "")},
    )


async def _faults_of_fallback(connection: Connection, wanted: Policy, rights: Rights) -> list[Fault]:
    if wanted.fallback is None:
        return []
    bulletin_id = wanted.fallback.bulletin_id
    bulletin = (await bulletin_store.bulletins_by_id(connection, [bulletin_id])).get(bulletin_id)
    field = "fallback.bulletin_id"
    if bulletin is None or not rights.may(Permission.SEE_BULLETINS, bulletin.unit_id):
        return [Fault(field, "unknown_bulletin", {"id": str(bulletin_id)})]
    if bulletin.state != "approved":
        return [Fault(field, "bulletin_not_approved", {"title": bulletin.title, "state": bulletin.state})]
    if bulletin.is_passing:
        return [Fault(field, "fallback_ends", {"title": bulletin.title})]
    if bulletin.media_sha256 is None:
        return [Fault(field, "fallback_without_sound", {"title": bulletin.title})]
    return []
