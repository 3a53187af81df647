"""What CAP senders deliver by themselves: laid before people, who decide. In the caller's transaction.

A sender's credential lies on somebody else's server, so it can begin nothing and end nothing that sounds. What an Update
replaces or a Cancel takes back goes by itself only while nobody has released it; what is in force ends when a person
releases what the sender proposes in its place, and of a Cancel that is the all-clear. Each sender has its own messages
only, and of those the ones it has delivered to the same unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from schemas.identifiers import AlertId
from services.control import alerts
from services.control.alerting import alert_store, cap_areas, cap_intake, cap_store, proposals, requests
from services.control.alerting.cap import CapAlert, MessageType
from services.control.alerting.cap_intake import Taking
from services.control.alerting.model import (
    Alert,
    AlertDraft,
    AlertText,
    Origin,
    Severity,
    State,
    Urgency,
)
from services.control.alerting.proposals import Why
from services.control.catalogue.texts import Language, text
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.shared.database.pool import Connection

MOST_WAITING = 50  # messages of one sender in one unit: more hide the one that matters
_OPEN = (State.PROPOSED, State.AWAITING_SECOND, State.IN_FORCE)
_NOT_HERE = frozenset({"cap_area_unknown", "cap_area_outside"})
_ALL_CLEAR_HOLDS = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a message has become: alerts as they stand, and whether the same message had been delivered before."""

    alerts: tuple[Alert, ...]
    remarks: tuple[Fault, ...] = ()
    is_repeated: bool = False


async def deliver(connection: Connection, taking: Taking, *, all_clear: bytes) -> Delivered:
    """Lay before people what a trusted sender says; `all_clear` is the sound of the end of something.

    The same document once more changes nothing, so a sender that missed the answer asks again. Raises `Forbidden` for a
    sender that the unit does not trust with this account, `Invalid` with what stands against the message, and `Conflict`
    when too many wait.
    """
    message = taking.message
    await cap_store.one_after_the_other(connection, taking.unit_id, message.sender)
    trusted = await cap_store.sender_for_update(connection, taking.unit_id, message.sender)
    if trusted is None or trusted.account_id != taking.by.account_id:
        raise Forbidden("cap_sender_not_trusted", facts={"sender": message.sender[:80]})
    cap_intake.check_public(message)
    known = await cap_store.cap_message(connection, taking.own_units, message.reference)
    if known is not None:
        if known.document != taking.document:
            raise cap_intake.known_already(message)
        return Delivered(alerts=await _as_they_stand(connection, known.alert_ids), is_repeated=True)
    await cap_intake.check_not_superseded(connection, taking)
    said = await cap_intake.said_by(connection, taking)
    referred = await cap_intake.referred_by(connection, taking)
    if not said.drafts and not referred and not await cap_intake.waits(connection, taking):
        raise Invalid(*said.against or [Fault("alert.references", "cap_reference_unknown")])
    remarks = said.remarks
    if message.message_type is not MessageType.ALERT and not any(each.state in _OPEN for each in referred):
        remarks = (*remarks, Fault("alert.references", "cap_update_taken_as_new"))
    await cap_intake.withdraw(connection, taking, referred)
    released = [each for each in referred if each.state in (State.IN_FORCE, State.AWAITING_SECOND)]
    holding = [each for each in released if taking.now < each.draft.valid_until]
    if said.drafts:
        validity, drafts = None, said.drafts
    else:
        validity, drafts = _ALL_CLEAR_HOLDS, (_all_clear(taking, holding, all_clear),) if holding else ()
    if drafts and await cap_store.waiting(connection, taking.own_units, message.sender) >= MOST_WAITING:
        raise Conflict("cap_too_many_waiting", facts={"sender": message.sender[:80], "limit": MOST_WAITING})
    made = [
        await _propose(
            connection,
            taking,
            replace(draft, references=tuple(each.alert_id for each in replaced)),
            _why(message, referred, remarks),
            validity,
        )
        for draft, replaced in cap_intake.successors(drafts, holding, taking.by.tree)
    ]
    became = tuple(made) or await _as_they_stand(connection, [each.alert_id for each in referred])
    await cap_intake.keep(connection, taking, became)
    return Delivered(alerts=became, remarks=remarks)


async def _as_they_stand(connection: Connection, alert_ids: Sequence[AlertId]) -> tuple[Alert, ...]:
    return tuple([await alert_store.alert(connection, each) for each in alert_ids])


async def _propose(
    connection: Connection, taking: Taking, draft: AlertDraft, why: Why, validity: timedelta | None
) -> Alert:
    faults = requests.faults_of(draft, await alerts.known_of(connection, draft, taking.by.tree), now=taking.now)
    if faults:  # nobody could release it
        raise Invalid(*faults)
    proposal = await proposals.propose(
        connection, draft, why, by=taking.by, validity=validity, expires_at=draft.valid_until, now=taking.now
    )
    return proposal.alert


def _why(message: CapAlert, referred: Sequence[Alert], remarks: Sequence[Fault]) -> Why:
    """What people read beside the proposal; `not_here` are areas that the message names and the unit does not have."""
    return Why(
        reason={
            "kind": "cap",
            "message_type": message.message_type.value,
            "sender": message.sender,
            "identifier": message.identifier,
            "sent": message.sent.isoformat(),
            "replaces": [str(each.alert_id) for each in referred],
            "is_taken_as_new": any(each.code == "cap_update_taken_as_new" for each in remarks),
            "not_here": "; ".join(str(each.facts["value"]) for each in remarks if each.code in _NOT_HERE),
        }
    )


def _all_clear(taking: Taking, holding: Sequence[Alert], sound: bytes) -> AlertDraft:
    """What tells people that alerts are over, and ends them: said to whom the alerts were said, for as long as they hold."""
    first = holding[0].draft
    return AlertDraft(
        unit_id=taking.unit_id,
        event=first.event,
        category=first.category,
        urgency=Urgency.PAST,
        severity=Severity.MINOR,
        certainty=first.certainty,
        texts=tuple(
            AlertText(
                language=language.value,
                headline=text("cap.cancelled", language, {"headline": _headline(first, language)}),
                media_sha256=sound if place == 0 else None,
                event=first.event,
            )
            for place, language in enumerate(Language)
        ),
        audience=cap_areas.everybody([each.draft.audience for each in holding], taking.by.tree),
        valid_until=max(taking.now + _ALL_CLEAR_HOLDS, *(each.draft.valid_until for each in holding)),
        origin=Origin.CAP,
        cap=cap_intake.origin_of(taking.message),
    )


def _headline(draft: AlertDraft, language: Language) -> str:
    return next((each.headline for each in draft.texts if each.language == language.value), draft.headline)
