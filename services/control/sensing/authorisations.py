"""Two officers let the platform release what a rule proposes, without asking anybody first. In the caller's transaction.

Each of them has the right over all the ground, names the version of the rule that was read, and is another account.
Whether it still holds is asked when the rule fires, by what there is then; what does not hold is ended, and the alert is
proposed to people as if there were none.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from schemas.identifiers import UnitId
from services.control import account_store, audit
from services.control.account_store import Account
from services.control.alerting import template_store
from services.control.alerts import By
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.permissions import Permission, Rights
from services.control.sensing import authorisation_store
from services.control.sensing.authorisation_store import Authorisation
from services.control.sensing.rule import Rule
from services.control.units import UnitTree
from services.shared.database.pool import Connection

LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """An authorisation that holds, with the two who gave it."""

    authorisation: Authorisation
    officers: tuple[Account, Account]


async def ask(connection: Connection, rule: Rule, *, expires_at: datetime, by: By, now: datetime) -> Authorisation:
    """The first officer's word, for the rule as it stands; the rule has been locked.

    Raises `Invalid`, `Forbidden`, or `Conflict` when there is one already or the rule proposes nothing.
    """
    _demand(rule, by)
    if rule.template_id is None or rule.retired_at is not None:
        raise Conflict("sensor_rule_proposes_nothing", facts={"name": rule.name})
    if not now < expires_at <= now + LONGEST:
        raise Invalid(Fault("expires_at", "authorisation_too_long", {"latest": (now + LONGEST).date().isoformat()}))
    if await authorisation_store.of_rule(connection, rule.rule_id) is not None:
        raise Conflict("authorisation_there_already", facts={"name": rule.name})
    assert by.account_id is not None, "a person asks"
    authorisation = Authorisation(
        authorisation_id=uuid.uuid4(),
        rule_id=rule.rule_id,
        rule_version=rule.version,
        template_id=rule.template_id,
        template_version=(await template_store.template(connection, rule.template_id)).version,
        asked_at=now,
        asked_by=by.account_id,
        expires_at=expires_at,
    )
    await authorisation_store.add(connection, authorisation)
    await record(
        connection, "release_authorisation_asked", rule, {"expires_at": expires_at.isoformat()}, by=by, now=now
    )
    return authorisation


async def confirm(connection: Connection, rule: Rule, *, by: By, now: datetime) -> None:
    """The second officer's word: from now on it holds. The rule has been locked.

    Raises `Forbidden` when it is one's own, and `Conflict` when there is none to confirm.
    """
    _demand(rule, by)
    waiting = await authorisation_store.of_rule(connection, rule.rule_id)
    if waiting is None or waiting.confirmed_at is not None or now >= waiting.expires_at:
        raise Conflict("no_authorisation_to_confirm", facts={"name": rule.name})
    assert by.account_id is not None, "a person confirms"
    if waiting.asked_by == by.account_id:
        raise Forbidden("second_person_is_the_first")
    if not await _is_of_what_stands(connection, waiting, rule):
        raise Conflict("authorisation_of_another_version", facts={"name": rule.name})
    await authorisation_store.confirm(connection, waiting.authorisation_id, by=by.account_id, at=now)
    await record(
        connection, "release_authorisation_confirmed", rule, {"asked_by": str(waiting.asked_by)}, by=by, now=now
    )


async def revoke(connection: Connection, rule: Rule, *, reason: str, by: By, now: datetime) -> None:
    """End what there is, if anything: what fires next is proposed to people."""
    found = await authorisation_store.of_rule(connection, rule.rule_id)
    if found is not None:
        await authorisation_store.end(connection, found.authorisation_id, reason=reason, by=by.account_id, at=now)
        await record(connection, "release_authorisation_ended", rule, {"reason": reason}, by=by, now=now)


async def holding(connection: Connection, rule: Rule, *, by: By, now: datetime) -> Holding | None:
    """The authorisation by which the rule's alert may be released now; one that does not hold is ended."""
    found = await authorisation_store.of_rule(connection, rule.rule_id)
    if found is None:
        return None
    reason = await why_void(connection, found, rule, by.tree, now=now)
    if reason is not None:
        await revoke(connection, rule, reason=reason, by=by, now=now)
        return None
    assert found.confirmed_by is not None, "what holds is confirmed"
    return Holding(
        authorisation=found,
        officers=(
            await account_store.account(connection, found.asked_by),
            await account_store.account(connection, found.confirmed_by),
        ),
    )


async def why_void(
    connection: Connection, found: Authorisation, rule: Rule, tree: UnitTree, *, now: datetime
) -> str | None:
    """Why an authorisation does not hold; None: it does."""
    if found.confirmed_by is None:
        return "not_confirmed"
    if now >= found.expires_at:
        return "expired"
    if not await _is_of_what_stands(connection, found, rule):
        return "changed_since"
    for account_id in (found.asked_by, found.confirmed_by):
        officer = await account_store.account(connection, account_id)
        rights = Rights(officer.grants, tree, now=now)
        if officer.disabled_at is not None or not may(rights, rule):
            return "officer_without_right"
    return None


async def _is_of_what_stands(connection: Connection, found: Authorisation, rule: Rule) -> bool:
    """Whether rule and template are still those that were read."""
    if rule.template_id != found.template_id or rule.version != found.rule_version:
        return False
    return (await template_store.template(connection, found.template_id)).version == found.template_version


def _ground(rule: Rule) -> tuple[UnitId, ...]:
    return (rule.unit_id, *rule.alert_units)


def may(rights: Rights, rule: Rule) -> bool:
    """Whether somebody may release alerts on all of the rule's ground."""
    return all(rights.may(Permission.RELEASE_ALERTS, unit) for unit in _ground(rule))


def _demand(rule: Rule, by: By) -> None:
    if by.rights is not None and not may(by.rights, rule):
        raise Forbidden("not_permitted_here", facts={"unit": rule.name})


async def record(
    connection: Connection, action: str, rule: Rule, facts: Mapping[str, Any], *, by: By, now: datetime
) -> None:
    """Write down what became of an authorisation, or was done by it."""
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"sensor_rule:{rule.rule_id}",
            unit_id=rule.unit_id,
            after={"rule_version": rule.version, **facts},
        ),
        actor=by.actor,
        origin=by.origin,
        at=now,
    )
