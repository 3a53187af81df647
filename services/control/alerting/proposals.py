"""Proposals of alerts: prepared by a rule or a CAP sender, released or refused by a person. In the caller's transaction.

A proposal is an alert on record that nobody has signed: it reaches no device. Whoever releases it needs the right over
all of its ground, as for an alert of one's own, and may say something else than was proposed.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from schemas.identifiers import AlertId
from services.control import alerts, audit
from services.control.alerting import alert_store, messages, proposal_store
from services.control.alerting.model import Alert, AlertDraft, State
from services.control.alerting.proposal import Outcome, Proposal
from services.control.alerts import By
from services.control.audit import Entry
from services.control.errors import Conflict
from services.shared.database.pool import Connection

# As the audit names it; a person who decides against one has been refused nothing.
_ACTIONS = {
    Outcome.REFUSED: "alert_proposal_rejected",
    Outcome.EXPIRED: "alert_proposal_expired",
    Outcome.WITHDRAWN: "alert_proposal_withdrawn",
}
_STATES = {Outcome.REFUSED: State.REFUSED, Outcome.EXPIRED: State.EXPIRED, Outcome.WITHDRAWN: State.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Who or what proposes, and what it rests on."""

    reason: Mapping[str, Any]
    rule_id: uuid.UUID | None = None
    rule_version: int | None = None
    alarm_id: uuid.UUID | None = None


async def propose(
    connection: Connection,
    draft: AlertDraft,
    why: Why,
    *,
    by: By,
    validity: timedelta | None,
    expires_at: datetime,
    now: datetime,
) -> Proposal:
    """Lay an alert before people. `validity` is how long it holds once released; None: as the draft says."""
    alert = Alert(
        alert_id=AlertId(uuid.uuid4()),
        version=0,
        state=State.PROPOSED,
        draft=draft,
        first_issued_at=now,
        issued_at=now,
        holds_until=draft.valid_until,
        topics=messages.units_of(draft.audience, ()),
        created_by=by.account_id,
    )
    proposal = Proposal(
        alert=alert,
        rule_id=why.rule_id,
        rule_version=why.rule_version,
        alarm_id=why.alarm_id,
        reason=why.reason,
        validity=validity,
        proposed_at=now,
        expires_at=expires_at,
    )
    await proposal_store.add(connection, proposal)
    await alert_store.ring(connection)
    after = {**alerts.described(alert), "reason": dict(why.reason), "expires_at": expires_at.isoformat()}
    await _audit(connection, "alert_proposed", alert, after, by=by, now=now)
    return proposal


def to_release(proposal: Proposal, wanted: AlertDraft | None, *, now: datetime) -> AlertDraft:
    """What is to be issued: what was proposed, or what somebody `wanted` in its place. `alerts.issue` does it.

    It stays the word of the unit it was proposed for, says where it came from, and ends what it was to end. Raises `Conflict` when it is decided
    already or too old.
    """
    _check_waiting(proposal, now=now)
    proposed = proposal.alert.draft
    if wanted is not None:
        return replace(
            wanted,
            unit_id=proposed.unit_id,
            purpose=proposed.purpose,
            origin=proposed.origin,
            template_id=proposed.template_id,
            cap=proposed.cap,
            references=tuple(dict.fromkeys((*proposed.references, *wanted.references))),
        )
    return replace(proposed, valid_until=now + proposal.validity) if proposal.validity is not None else proposed


async def refuse(connection: Connection, proposal: Proposal, *, by: By, now: datetime) -> Proposal:
    """Decide against it; `by.note` says why. It has been locked. Raises `Conflict`, or `Forbidden` as for releasing it."""
    await alerts.demand_ground(connection, proposal.alert.draft, by=by)
    _check_waiting(proposal, now=now)
    return await _end(connection, proposal, Outcome.REFUSED, by=by, now=now)


async def withdraw(connection: Connection, proposal: Proposal, *, by: By, now: datetime) -> Proposal:
    """Take it back, on the part of who proposed it; `by.note` says why. It has been locked. Raises `Conflict`."""
    _check_waiting(proposal, now=now)
    return await _end(connection, proposal, Outcome.WITHDRAWN, by=by, now=now)


async def expire(connection: Connection, *, by: By, now: datetime) -> tuple[Proposal, ...]:
    """Note of those about which nobody decided in time that it is over."""
    due = await proposal_store.expired(connection, now=now)
    return tuple(
        [
            await _end(connection, await proposal_store.proposal(connection, each), Outcome.EXPIRED, by=by, now=now)
            for each in due
        ]
    )


async def _end(connection: Connection, proposal: Proposal, outcome: Outcome, *, by: By, now: datetime) -> Proposal:
    ended = replace(proposal.alert, state=_STATES[outcome], ended_at=now, ended_by=by.account_id)
    await alert_store.change(connection, ended)
    await proposal_store.close(connection, ended.alert_id, outcome, by=by.account_id, note=by.note, at=now)
    after = {"state": ended.state.value, **({"note": by.note} if by.note is not None else {})}
    await _audit(connection, _ACTIONS[outcome], ended, after, by=by, now=now)
    return await proposal_store.proposal(connection, ended.alert_id)


def _check_waiting(proposal: Proposal, *, now: datetime) -> None:
    if not proposal.is_waiting(now=now):
        at = proposal.decided_at or proposal.expires_at
        facts = {"headline": proposal.alert.draft.headline, "at": at.isoformat(timespec="seconds")}
        raise Conflict("proposal_decided", facts=facts)


async def _audit(
    connection: Connection, action: str, alert: Alert, after: Mapping[str, Any], *, by: By, now: datetime
) -> None:
    await audit.record(
        connection,
        Entry(action=action, subject=f"alert:{alert.alert_id}", unit_id=alert.draft.unit_id, after=after),
        actor=by.actor,
        origin=by.origin,
        at=now,
    )
