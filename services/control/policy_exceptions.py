"""What named approvers do with broadcasts that a policy stands against: let them pass, or not. In the caller's transaction.

A broadcast that breaks what units limit, where those units let an approver except from it, waits as `awaiting_approval`;
so does one of a level that wants an approver's word. Who decides must have the right over every unit whose policy it is,
and must not be who made it where self-approval is forbidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from services.control import (
    audit,
    broadcast_requests,
    broadcast_store,
    broadcasts,
    offers,
    planning_queue,
    policies,
    policy_store,
    policy_trial,
)
from services.control.audit import Entry
from services.control.broadcast_store import StoredBroadcast
from services.control.errors import Conflict, Forbidden
from services.control.permissions import Actor, Permission, Rights
from services.control.planning.impact import Finding
from services.control.planning.policies import Policy
from services.control.policy_store import StoredException
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What an approver said. Of what passes, `first_day` is when it begins next, and `findings` is what planning says by
    now about its days from then on: what stands against it that nobody was asked about is refused all the same.
    """

    broadcast: StoredBroadcast
    first_day: date | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """What of it will not sound although it passes."""
        return tuple(each for each in self.findings if each.is_refusal)


async def decide(
    connection: Connection,
    stored: StoredBroadcast,
    *,
    is_allowed: bool,
    note: str | None,
    may_approve_own: bool,
    zone: ZoneInfo,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Decided:
    """Let a broadcast pass, so that it is planned, or reject it.

    `may_approve_own` is the province's setting. Raises `Conflict` when nothing waits for a decision, and when it is to
    pass although nothing of it is to come any more; `Forbidden` without the right over every unit whose policy it is, and
    for one's own where that is not allowed.
    """
    exception = await policy_store.open_exception(connection, stored.broadcast_id)
    if exception is None:
        raise Conflict("broadcast_not_awaiting", facts={"state": stored.state}, members={"state": stored.state})
    beyond = beyond_rights(exception, rights)
    if beyond:
        names = (rights.tree.get(unit_id) for unit_id in beyond)
        facts = {"unit": ", ".join(unit.name if unit is not None else "?" for unit in names)}
        raise Forbidden("not_permitted_here", facts=facts)
    stated = await policy_store.load_policies(connection)
    if is_barred(exception, stated, actor=actor, rights=rights, may_approve_own=may_approve_own):
        raise Forbidden("own_broadcast")
    following = None
    if is_allowed:
        facts_for_times = await offers.facts_for_times(connection, rights.tree, zone)
        following = broadcast_requests.next_occurrence(stored.wish, facts_for_times, now=now)
        if following is None:
            raise Conflict("broadcast_is_over", facts={"title": stored.wish.title})
    await policy_store.decide_exception(
        connection, exception, is_allowed=is_allowed, note=note, by=actor.account_id, at=now
    )
    state = broadcasts.SCHEDULED if is_allowed else broadcasts.REJECTED
    await broadcast_store.set_state(connection, stored.broadcast_id, state)
    await planning_queue.request_broadcast(connection, stored.broadcast_id, at=now)
    await audit.record(
        connection,
        Entry(
            action="broadcast_approved" if is_allowed else "broadcast_rejected",
            subject=f"broadcast:{stored.broadcast_id}",
            unit_id=stored.wish.unit_id,
            before={"state": stored.state, "version": stored.version},
            after={
                "state": state,
                "version": stored.version,
                "rules": list(exception.rules),
                "unit_ids": [str(unit_id) for unit_id in exception.unit_ids],
                "note": note,
            },
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    decided = await broadcast_store.broadcast(connection, stored.broadcast_id)
    if following is None:
        return Decided(broadcast=decided)
    findings = await policy_trial.foresee(connection, decided, following.day, zone=zone, now=now)
    return Decided(broadcast=decided, first_day=following.day, findings=findings)


def beyond_rights(exception: StoredException, rights: Rights) -> tuple[UnitId, ...]:
    """The units whose policy it is, and over which the right to except from it does not hold."""
    return tuple(unit_id for unit_id in exception.unit_ids if not rights.may(Permission.ALLOW_EXCEPTIONS, unit_id))


def is_barred(
    exception: StoredException,
    stated: Mapping[UnitId, Policy],
    *,
    actor: Actor,
    rights: Rights,
    may_approve_own: bool,
) -> bool:
    """Whether it is the actor's own, and one of the units concerned forbids to decide on one's own."""
    if actor.account_id not in exception.makers:
        return False
    return not all(
        policies.may_approve_own(stated, unit_id, rights.tree, may_approve_own=may_approve_own)
        for unit_id in {exception.unit_id, *exception.unit_ids}
    )
