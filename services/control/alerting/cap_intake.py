"""CAP messages from elsewhere become alerts: what they say, whom they mean here, and what they refer to.

Only what is meant in earnest and for the public goes on air; tests, exercises, drafts and acknowledgements are read and
left. What a message says to several grounds is several alerts. That something is over is no warning and sounds no siren:
an update that says nothing else here ends what it refers to, as a cancel does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.identifiers import UnitId
from services.control import alerts, operation_store
from services.control.alerting import (
    alert_store,
    cap_areas,
    cap_ground,
    cap_sayings,
    cap_store,
    proposal_store,
    proposals,
)
from services.control.alerting.cap import CapAlert, CapInfo, MessageType, Scope, Status
from services.control.alerting.cap_sayings import Saying
from services.control.alerting.model import LONGEST, Alert, AlertDraft, AudienceWish, CapOrigin, Origin, State
from services.control.alerting.model import Status as Earnest
from services.control.alerts import By
from services.control.errors import Fault, Forbidden, Invalid
from services.control.operation_kinds import named_cap
from services.control.permissions import Permission
from services.control.trust.keyring import Keyring
from services.control.units import UnitTree
from services.shared.database.pool import Connection

UNSAID_VALIDITY = timedelta(hours=1)  # of a message that does not say when it ends
UNSAID_OVER_AFTER = timedelta(days=1)  # since it was sent
REPEAT_INTERVAL = timedelta(seconds=60)
MAX_ALERTS = 8  # of one message: more is a list to be read, not a warning
_MOST_TOLD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """A message to be taken in: by whom, said by which unit of ours, with which sound before words are spoken.

    `unit_codes` are the names of geocodes that hold codes of administrative units of the day, in any case.
    """

    message: CapAlert
    document: bytes
    unit_id: UnitId
    tone: bytes
    unit_codes: tuple[str, ...]
    by: By
    now: datetime

    @property
    def own_units(self) -> frozenset[UnitId]:
        """The unit, and those before it since a reform: what they took in, it has taken in."""
        return self.by.tree.followed_by(self.unit_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a message says here: alerts to be, none where it says only that something is over; and what was left out.

    `against` is why an update says nothing here any more: it has left our ground, or is over.
    """

    drafts: tuple[AlertDraft, ...] = ()
    against: tuple[Fault, ...] = ()
    remarks: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The alerts that a message began, changed or ended; `before` is what it referred to, as it was."""

    alerts: tuple[Alert, ...]
    before: tuple[Alert, ...]
    remarks: tuple[Fault, ...] = ()


def is_for_the_air(message: CapAlert) -> bool:
    """Whether anything is to be done about it."""
    return message.status is Status.ACTUAL and message.message_type not in (MessageType.ACK, MessageType.ERROR)


async def take(connection: Connection, taking: Taking, *, keyring: Keyring) -> Taken:
    """Put it in force. Raises `Invalid` with what stands against it, and what `alerts` raises.

    An update of what was never taken in here says what holds all the same: it is put in force as a new alert would be.
    """
    message, by, now = taking.message, taking.by, taking.now
    check_public(message)
    _demand_word(taking)
    await cap_store.one_after_the_other(connection, taking.unit_id, message.sender)
    if await cap_store.cap_message(connection, taking.own_units, message.reference) is not None:
        raise known_already(message)
    await check_not_superseded(connection, taking)
    said = await said_by(connection, taking)
    referred = await referred_by(connection, taking)
    before = [each for each in referred if not each.is_over(now=now)]
    withdrawn = await withdraw(connection, taking, referred)
    remarks = list(said.remarks)
    if message.message_type is not MessageType.ALERT and not before and not withdrawn:
        is_awaited = any(each.state is State.AWAITING_SECOND for each in referred) or await waits(connection, taking)
        if not said.drafts and not is_awaited:
            raise Invalid(*said.against or [Fault("alert.references", "cap_reference_unknown")])
        if said.drafts and not is_awaited:
            remarks.append(Fault("alert.references", "cap_update_taken_as_new"))
    over = list(before)
    made = []
    for draft, replaced in successors(said.drafts, before, by.tree):
        over = [each for each in over if each not in replaced[:1]]
        made.append(
            await alerts.update(connection, replaced[0], draft, by=by, keyring=keyring, now=now)
            if replaced
            else await alerts.issue(connection, draft, by=by, keyring=keyring, now=now)
        )
    ended = [await alerts.cancel(connection, each, by=by, keyring=keyring, now=now) for each in over]
    taken = Taken(alerts=tuple(made or ended or withdrawn), before=tuple(before), remarks=tuple(remarks))
    await keep(connection, taking, taken.alerts)
    return taken


async def withdraw(connection: Connection, taking: Taking, referred: Sequence[Alert]) -> tuple[Alert, ...]:
    """Take back those of the alerts that are proposed and that nobody has decided about; returns them as they stand."""
    found = []
    for each in referred:
        if each.state is State.PROPOSED:
            proposal = await proposal_store.proposal(connection, each.alert_id)
            if proposal.is_waiting(now=taking.now):
                ended = await proposals.withdraw(connection, proposal, by=taking.by, now=taking.now)
                found.append(ended.alert)
    return tuple(found)


async def waits(connection: Connection, taking: Taking) -> bool:
    """Whether what it replaces or takes back waits for a second person still."""
    named = [named_cap(each) for each in taking.message.replaced]
    return await operation_store.waits_for_cap(connection, taking.own_units, named)


def _demand_word(taking: Taking) -> None:
    """Raise `Forbidden` unless the speaker may release alerts in the unit: also who only takes back what waits."""
    rights = taking.by.rights
    if rights is not None and not rights.may(Permission.RELEASE_ALERTS, taking.unit_id):
        unit = taking.by.tree.get(taking.unit_id)
        raise Forbidden("not_permitted_here", facts={"unit": unit.name if unit is not None else str(taking.unit_id)})


async def check_not_superseded(connection: Connection, taking: Taking) -> None:
    """Raise `Invalid` for a message that comes after its own update or cancel."""
    replacing = await cap_store.replacing(connection, taking.own_units, taking.message.reference)
    if replacing is not None:
        raise Invalid(Fault("alert.identifier", "cap_superseded", {"value": replacing}))


def check_public(message: CapAlert) -> None:
    """Raise `Invalid` unless everybody is meant to be told."""
    if message.scope is not Scope.PUBLIC:
        raise Invalid(Fault("alert.scope", "cap_not_public", {"value": message.scope.value}))


def known_already(message: CapAlert) -> Invalid:
    """What is said of a message whose sender, identifier and instant the unit has seen before."""
    return Invalid(Fault("alert.identifier", "cap_known_already", {"value": message.identifier}))


async def referred_by(connection: Connection, taking: Taking) -> list[Alert]:
    """The alerts of the unit that an update or a cancel means, however they stand, locked in order of their ids.

    Raises `Invalid` where it means a message of another sender, or nothing but itself.
    """
    message = taking.message
    if message.message_type is MessageType.ALERT:
        return []
    if message.references and not message.replaced:
        raise Invalid(Fault("alert.references[0]", "cap_self_reference"))
    for place, each in enumerate(message.references):
        if each.sender != message.sender:
            raise Invalid(Fault(f"alert.references[{place}]", "cap_of_another_sender", {"value": each.sender[:80]}))
    known = await cap_store.alerts_of(connection, taking.own_units, message.sender, message.replaced)
    return list((await alert_store.lock_all(connection, known)).values())


def successors(
    drafts: Sequence[AlertDraft], before: Sequence[Alert], tree: UnitTree
) -> list[tuple[AlertDraft, tuple[Alert, ...]]]:
    """Each draft with the alerts it takes the place of: of each alert the draft that shares most of its ground.

    Those that share most come first.
    """
    found: list[list[tuple[int, Alert]]] = [[] for _ in drafts]
    grounds = [_ground(draft, tree) for draft in drafts]
    for each in before if drafts else ():
        had = _ground(each.draft, tree)
        shared = [len(had & ground) for ground in grounds]
        found[shared.index(max(shared))].append((max(shared), each))
    return [
        (draft, tuple(each for _, each in sorted(pairs, key=lambda pair: -pair[0])))
        for draft, pairs in zip(drafts, found, strict=True)
    ]


def _ground(draft: AlertDraft, tree: UnitTree) -> set[UnitId]:
    """Its units and those below, as they stand today."""
    return {below for unit in draft.audience.units for below in tree.subtree(unit)}


async def said_by(connection: Connection, taking: Taking) -> Said:
    """What a message says, as alerts of ours; of a cancel nothing. Raises `Invalid` with what stands against it."""
    message = taking.message
    if message.message_type is MessageType.CANCEL:
        return Said()
    if not message.infos:
        raise Invalid(Fault("alert.info", "cap_says_nothing"))
    ground = await cap_ground.ground_of(connection, taking.by.tree, taking.unit_id, taking.unit_codes)
    # Off the event loop: ten thousand corners take half a second.
    places = await asyncio.to_thread(cap_ground.places, message.infos, ground)
    remarks = {(each.code, str(each.facts)): each for place in places for each in place.left_out}
    ours = [(info, place.wishes) for info, place in zip(message.infos, places, strict=True) if place.wishes]
    if not ours:
        against = list(remarks.values())[:_MOST_TOLD] or [Fault("alert.info.area", "cap_area_without_place")]
        return _nothing(message, against)
    warnings = [(info, wishes) for info, wishes in ours if not cap_sayings.is_all_clear(info)]
    if not warnings and message.message_type is MessageType.ALERT:
        raise Invalid(Fault("alert.info", "cap_all_clear_only"))
    found = list(remarks.values())
    if len(warnings) < len(ours):
        found.append(Fault("alert.info", "cap_all_clear_left"))
    said, over = _holding(cap_sayings.sayings(warnings), sent=message.sent, now=taking.now)
    if over is not None and not said:
        return _nothing(message, [over])
    return Said(
        drafts=tuple(_draft(each, taking) for each in said), remarks=(*found[:_MOST_TOLD], *([over] if over else []))
    )


def _nothing(message: CapAlert, against: Sequence[Fault]) -> Said:
    """It says nothing here: an update may end what was said before. Raises `Invalid` for an alert."""
    if message.message_type is MessageType.ALERT:
        raise Invalid(*against)
    return Said(remarks=tuple(against), against=tuple(against))


def origin_of(message: CapAlert) -> CapOrigin:
    """The message as an alert of ours remembers it."""
    return CapOrigin(
        identifier=message.identifier, sender=message.sender, sent=message.sent, references=message.references
    )


def _holding(said: Sequence[Saying], *, sent: datetime, now: datetime) -> tuple[list[Saying], Fault | None]:
    """Those that are not over, and when the last of the others was. Raises `Invalid` where too many hold.

    What does not say when it ends is over a day after it was sent: else it would begin anew whenever it is found again.
    """
    holding = [each for each in said if (each.expires or sent + UNSAID_OVER_AFTER) > now]
    ends = [each.expires for each in said if each.expires is not None and each.expires <= now]
    over = None
    if ends:
        over = Fault("alert.info.expires", "cap_expired", {"value": max(ends).isoformat(timespec="seconds")})
    elif len(holding) < len(said):
        over = Fault("alert.info.expires", "cap_without_end", {"value": sent.isoformat(timespec="seconds")})
    if len(holding) > MAX_ALERTS:
        raise Invalid(Fault("alert.info", "cap_infos_differ", {"count": len(holding), "limit": MAX_ALERTS}))
    return holding, over


def _draft(said: Saying, taking: Taking) -> AlertDraft:
    main: CapInfo = said.main
    return AlertDraft(
        unit_id=taking.unit_id,
        status=Earnest.ACTUAL,
        event=cap_sayings.short_event(main),
        category=main.categories[0],
        urgency=main.urgency,
        severity=main.severity,
        certainty=main.certainty,
        texts=said.texts(taking.tone),
        audience=AudienceWish(areas=cap_areas.of_few_units(said.areas, taking.by.tree)),
        repeat_interval=REPEAT_INTERVAL,
        valid_until=min(said.expires or taking.now + UNSAID_VALIDITY, taking.now + LONGEST),
        origin=Origin.CAP,
        cap=origin_of(taking.message),
    )


async def keep(connection: Connection, taking: Taking, became: Sequence[Alert]) -> None:
    """Keep the message as it came. Raises `Invalid` where somebody else has taken it in meanwhile."""
    is_first = await cap_store.keep_cap(
        connection,
        taking.message.reference,
        taking.message.message_type.value,
        taking.message.replaced,
        [each.alert_id for each in became],
        taking.unit_id,
        taking.document,
        by=taking.by.account_id,
        at=taking.now,
    )
    if not is_first:
        raise known_already(taking.message)
