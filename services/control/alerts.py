"""Alerts, tests and silences: issue, update, cancel, stop on one's own ground. In the caller's transaction.

Between a person's word and the broker lies one transaction: what is named is looked up, signed, put on record and into
the outbox. No device is resolved before; whom it reaches is `alerting.keeper`'s to find out afterwards.

Of two changes to one alert the second waits for the first (the alert's row is locked) and sees it: whoever meant the
earlier version is told so (If-Match), and whoever wants it ended whatever it says by now (`*`) ends what there is. So a
race of an update and a cancel has one end, and devices see it as versions that grow.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from schemas.alerts import Purpose
from schemas.errors import EncodeError
from schemas.identifiers import AlertId, DeviceId, UnitId
from schemas.topics import AreaAlert
from services.control import audit
from services.control.alerting import alert_store, messages, proposal_store, requests
from services.control.alerting.documents import document_of
from services.control.alerting.model import (
    Alert,
    AlertDraft,
    AlertVersion,
    AudienceWish,
    State,
    distinct,
)
from services.control.alerting.proposal import Outcome
from services.control.alerting.requests import Known, NamedDevice
from services.control.audit import Entry
from services.control.delivery import outbox
from services.control.delivery.outbox import Publish
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.permissions import Actor, Permission, Rights
from services.control.planning.model import Media
from services.control.trust.keyring import Keyring
from services.control.units import UnitTree
from services.shared.database.pool import Connection

LAST_VERSION = 65_535
MOST_EXCEPTED = 256  # units that an audience on the wire may except (schemas.alerts)

# What a person must be allowed to do on all the ground an order touches.
PERMISSIONS: Mapping[Purpose, Permission] = {
    Purpose.ALERT: Permission.RELEASE_ALERTS,
    Purpose.SILENT_TEST: Permission.TEST_ALERTS,
    Purpose.AUDIBLE_TEST: Permission.TEST_ALERTS,
    Purpose.SILENCE: Permission.SILENCE_DEVICES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who speaks. Without `rights` it is the platform itself, by what somebody has set (a test by the calendar).

    A messenger has an account, and no rights: what it may bring has been asked, it proposes, and nothing is signed for it.
    `second` is the other person where one was asked for; `note` is why, where somebody had to say so (break-glass).
    """

    tree: UnitTree
    rights: Rights | None = None
    actor: Actor | None = None
    origin: str | None = None
    second: Actor | None = None
    note: str | None = None
    is_messenger: bool = False

    def __post_init__(self) -> None:
        has_account, has_rights = self.actor is not None, self.rights is not None
        if has_account is not (has_rights or self.is_messenger):
            raise ValueError("who has no rights passes for the platform")
        if has_rights and self.is_messenger:
            raise ValueError("a messenger has no rights")

    @property
    def account_id(self) -> uuid.UUID | None:
        """The account, where it is a person."""
        return self.actor.account_id if self.actor is not None else None


async def issue(
    connection: Connection,
    draft: AlertDraft,
    *,
    by: By,
    keyring: Keyring,
    now: datetime,
    alert_id: AlertId | None = None,
) -> Alert:
    """Issue an alert, a test or a silence: once the transaction commits, it is on its way.

    `alert_id` is given where it stands on record already, proposed or waiting for a second person. Raises `Invalid` with
    every fault, `Forbidden` when any of the ground it touches is not the speaker's, and `Conflict` when what stands on
    record has been decided.
    """
    known = await known_of(connection, draft, by.tree)
    _demand(draft.purpose, draft, known, by)
    _check(draft, known, now=now)
    waiting = await _waiting(connection, alert_id) if alert_id is not None else None
    ended = await _referenced(connection, draft, by)
    topics = messages.units_of(draft.audience, _device_units(draft.audience, known))
    alert = Alert(
        alert_id=alert_id or AlertId(uuid.uuid4()),
        version=1,
        state=State.IN_FORCE,
        draft=draft,
        first_issued_at=now,
        issued_at=now,
        holds_until=draft.valid_until,
        topics=topics,
        created_by=by.account_id,
    )
    version = _signed(alert, draft.purpose, draft.audience, known, by, keyring, topics, now=now)
    if waiting is None:
        await alert_store.add(connection, alert)
    else:
        await alert_store.change(connection, alert)
        await proposal_store.close(connection, alert.alert_id, Outcome.RELEASED, by=by.account_id, note=by.note, at=now)
    await _send(connection, alert, version, now=now)
    await _audit(connection, "alert_issued", alert, before=waiting, by=by, now=now)
    for each in ended:
        await cancel(connection, each, by=by, keyring=keyring, now=now)
    return alert


async def update(
    connection: Connection, alert: Alert, draft: AlertDraft, *, by: By, keyring: Keyring, now: datetime
) -> Alert:
    """Say something else in its place; the alert has been locked (`alert_store.alert_for_update`).

    It is a new word: it sounds also where somebody had stopped the version before. What it does not address any more ends
    there. Raises `Conflict` when it is over.
    """
    _check_holds(alert, now=now)
    draft = replace(draft, unit_id=alert.draft.unit_id, purpose=alert.draft.purpose)
    known = await known_of(connection, draft, by.tree)
    _demand_over(alert, by)
    _demand(draft.purpose, draft, known, by)
    _check(draft, known, now=now)
    ended = [each for each in await _referenced(connection, draft, by) if each.alert_id != alert.alert_id]
    # Also where earlier versions went: devices there have to learn that it is not for them any more.
    topics = distinct((*messages.units_of(draft.audience, _device_units(draft.audience, known)), *alert.topics))
    changed = replace(
        alert,
        version=_next(alert),
        draft=draft,
        issued_at=now,
        holds_until=max(alert.holds_until, draft.valid_until),
        topics=topics,
        stopped_in=(),
    )
    version = _signed(changed, draft.purpose, draft.audience, known, by, keyring, topics, now=now)
    await alert_store.change(connection, changed)
    await _send(connection, changed, version, now=now)
    await _audit(connection, "alert_updated", changed, before=alert, by=by, now=now)
    for each in ended:
        await cancel(connection, each, by=by, keyring=keyring, now=now)
    return changed


async def cancel(connection: Connection, alert: Alert, *, by: By, keyring: Keyring, now: datetime) -> Alert:
    """End it everywhere; of a silence: release it. The alert has been locked. Raises `Conflict` when it is over.

    The word stays retained until the latest end that any device may have been told.
    """
    _check_holds(alert, now=now)
    _demand_over(alert, by)
    return await _end(connection, alert, State.CANCELLED, by=by, keyring=keyring, now=now)


async def release_part(
    connection: Connection,
    silence: Alert,
    *,
    units: tuple[UnitId, ...],
    devices: tuple[DeviceId, ...],
    by: By,
    keyring: Keyring,
    now: datetime,
) -> Alert:
    """Let units or devices sound again while the rest stays silent: the controlled return. It has been locked."""
    wish = silence.draft.audience
    audience = replace(
        wish,
        except_units=distinct((*wish.except_units, *units)),
        except_devices=tuple(dict.fromkeys((*wish.except_devices, *devices))),
    )
    return await update(connection, silence, replace(silence.draft, audience=audience), by=by, keyring=keyring, now=now)


async def expire(connection: Connection, alert: Alert, *, tree: UnitTree, keyring: Keyring, now: datetime) -> Alert:
    """Note that its time is over. Where an earlier version had promised a longer one, devices are told as well."""
    if now < alert.holds_until:
        return await _end(connection, alert, State.EXPIRED, by=By(tree=tree), keyring=keyring, now=now)
    expired = replace(alert, state=State.EXPIRED, ended_at=alert.draft.valid_until)
    await alert_store.change(connection, expired)
    return expired


async def sign_anew(connection: Connection, alert: Alert, *, tree: UnitTree, keyring: Keyring, now: datetime) -> Alert:
    """Say the same once more, as the next version, because devices do not believe the key that signed it any longer.

    The alert has been locked. Where it was stopped it is not said, so that it stays stopped: a version that does not
    address a device does nothing there. What has ended stays ended.
    """
    draft = alert.draft
    purpose, until = draft.purpose, draft.valid_until
    if alert.state is not State.IN_FORCE:
        purpose, until = (Purpose.RELEASE if alert.is_silence else Purpose.CANCEL), alert.holds_until
    spared = distinct((*draft.audience.except_units, *alert.stopped_in))[:MOST_EXCEPTED]
    audience = replace(draft.audience, except_units=spared)
    by = By(tree=tree)
    known = await known_of(connection, draft, tree)
    renewed = replace(alert, version=_next(alert))
    version = _signed(renewed, purpose, audience, known, by, keyring, alert.topics, until=until, now=now)
    await alert_store.change(connection, renewed)
    await _send(connection, renewed, version, now=now)
    await _audit(connection, "alert_signed_anew", renewed, before=alert, by=by, now=now)
    return renewed


async def stop(
    connection: Connection,
    alert: Alert,
    unit_id: UnitId,
    *,
    by: By,
    may_stop: bool,
    keyring: Keyring,
    now: datetime,
) -> Alert:
    """End it on the ground of one unit below, which is not the speaker's to cancel as a whole. The alert has been locked.

    `may_stop` is what the unit's policies say of it (default: no). An update from above sounds there again: it is a new
    word. Raises `Forbidden`, or `Conflict` when it is over or does not sound there.
    """
    _check_holds(alert, now=now)
    if by.rights is not None and not by.rights.may(PERMISSIONS[alert.draft.purpose], unit_id):
        raise _not_here("unit_id", unit_id, by)
    if not any(by.tree.covers(topic, unit_id) or by.tree.covers(unit_id, topic) for topic in alert.topics):
        raise Conflict("alert_not_here", facts={"unit": _name(unit_id, by.tree)})
    if alert.is_silence or not may_stop:
        raise Forbidden("alert_from_above", facts={"unit": _name(alert.draft.unit_id, by.tree)})
    audience = AudienceWish.of_units(unit_id)
    stopped = replace(alert, version=_next(alert), topics=distinct((*alert.topics, unit_id)))
    known = Known(tree=by.tree, devices={}, media={})
    version = replace(
        _signed(stopped, Purpose.CANCEL, audience, known, by, keyring, (unit_id,), until=alert.holds_until, now=now),
        stopped_in=unit_id,
    )
    await alert_store.change(connection, stopped)
    await _send(connection, stopped, version, now=now)
    await audit.record(
        connection,
        Entry(
            action="alert_stopped",
            subject=f"alert:{alert.alert_id}",
            unit_id=unit_id,
            before={"version": alert.version, "headline": alert.draft.headline},
            after={"version": stopped.version, "stopped_in": str(unit_id)},
        ),
        actor=by.actor,
        origin=by.origin,
        at=now,
    )
    return replace(stopped, stopped_in=distinct((*alert.stopped_in, unit_id)))


async def _end(connection: Connection, alert: Alert, state: State, *, by: By, keyring: Keyring, now: datetime) -> Alert:
    ended = replace(alert, version=_next(alert), state=state, ended_at=now, ended_by=by.account_id)
    purpose = Purpose.RELEASE if alert.is_silence else Purpose.CANCEL
    known = Known(tree=by.tree, devices={}, media={})
    version = _signed(
        ended, purpose, alert.draft.audience, known, by, keyring, alert.topics, until=alert.holds_until, now=now
    )
    await alert_store.change(connection, ended)
    await _send(connection, ended, version, now=now)
    action = {State.CANCELLED: "alert_cancelled", State.EXPIRED: "alert_expired"}[state]
    await _audit(connection, action, ended, before=alert, by=by, now=now)
    return ended


async def demand_ground(connection: Connection, draft: AlertDraft, *, by: By) -> None:
    """Raise `Forbidden` unless the speaker has the right over all the ground the draft touches."""
    _demand(draft.purpose, draft, await known_of(connection, draft, by.tree), by)


# --- what stands against it ------------------------------------------------------------------------------------------


def _check(draft: AlertDraft, known: Known, *, now: datetime) -> None:
    faults = requests.faults_of(draft, known, now=now)
    if faults:
        raise Invalid(*faults)


def _check_holds(alert: Alert, *, now: datetime) -> None:
    if alert.is_over(now=now):
        ended = (alert.ended_at or alert.draft.valid_until).isoformat(timespec="seconds")
        raise Conflict("alert_over", facts={"headline": alert.draft.headline, "ended": ended})


def _demand(purpose: Purpose, draft: AlertDraft, known: Known, by: By) -> None:
    """The right is needed in the unit that speaks, and over all the ground that is touched."""
    if by.rights is None:
        return
    permission = PERMISSIONS[purpose]
    named: list[tuple[str, UnitId]] = [("unit_id", draft.unit_id)]
    for place, area in enumerate(draft.audience.areas):
        named += [(f"audience.areas[{place}].units[{index}]", unit) for index, unit in enumerate(area.units)]
    named += [
        (f"audience.devices[{place}]", known.devices[device_id].unit_id)
        for place, device_id in enumerate(draft.audience.devices)
        if device_id in known.devices
    ]
    outside = [(field, unit) for field, unit in named if not by.rights.may(permission, unit)]
    if outside:
        faults = [
            Fault(field, "unit_outside_own_subtree", {"unit": _name(unit, by.tree)}) for field, unit in outside[:50]
        ]
        raise Forbidden("not_permitted_here", faults=faults, facts={"unit": _name(outside[0][1], by.tree)})


def _demand_over(alert: Alert, by: By) -> None:
    """Whoever changes or ends an alert needs the right in the unit that spoke: its own people, or those above."""
    if by.rights is not None and not by.rights.may(PERMISSIONS[alert.draft.purpose], alert.draft.unit_id):
        raise _not_here("alert_id", alert.draft.unit_id, by)


def _not_here(field: str, unit_id: UnitId, by: By) -> Forbidden:
    facts = {"unit": _name(unit_id, by.tree)}
    return Forbidden("not_permitted_here", faults=[Fault(field, "unit_outside_own_subtree", facts)], facts=facts)


def _name(unit_id: UnitId, tree: UnitTree) -> str:
    unit = tree.get(unit_id)
    return unit.name if unit is not None else str(unit_id)


def _next(alert: Alert) -> int:
    if alert.version >= LAST_VERSION:
        raise Conflict("alert_changed_too_often")
    return alert.version + 1


async def _waiting(connection: Connection, alert_id: AlertId) -> Alert:
    """What nobody has released yet, locked. Raises `Conflict` when somebody has, or decided against it."""
    alert = await alert_store.alert_for_update(connection, alert_id)
    if alert.state not in (State.PROPOSED, State.AWAITING_SECOND):
        at = (alert.ended_at or alert.issued_at).isoformat(timespec="seconds")
        raise Conflict("proposal_decided", facts={"headline": alert.draft.headline, "at": at})
    return alert


async def _referenced(connection: Connection, draft: AlertDraft, by: By) -> list[Alert]:
    """The alerts that end when this one begins, locked in order of their ids; those that are over are no matter."""
    found = await alert_store.lock_all(connection, sorted(set(draft.references)))
    faults = [
        Fault(f"references[{place}]", "unknown_alert", {"id": str(each)})
        for place, each in enumerate(draft.references)
        if each not in found
    ]
    if faults:
        raise Invalid(*faults)
    for alert in found.values():
        _demand_over(alert, by)
    return [alert for alert in found.values() if alert.state is State.IN_FORCE]


# --- looking up, signing, sending ------------------------------------------------------------------------------------


async def known_of(connection: Connection, draft: AlertDraft, tree: UnitTree) -> Known:
    """What the draft names: nothing is asked that it does not name."""
    audience = draft.audience
    devices: Mapping[DeviceId, NamedDevice] = {}
    media: Mapping[bytes, Media] = {}
    if audience.devices or audience.except_devices:
        devices = await alert_store.named_devices(connection, (*audience.devices, *audience.except_devices))
    files = {text.media_sha256 for text in draft.texts if text.media_sha256 is not None}
    if files:
        media = await alert_store.media(connection, files)
    return Known(tree=tree, devices=devices, media=media)


def _device_units(wish: AudienceWish, known: Known) -> tuple[UnitId, ...]:
    """Where the devices it names stand today."""
    return tuple(
        known.tree.standing(known.devices[each].unit_id) or known.devices[each].unit_id for each in wish.devices
    )


def _signed(
    alert: Alert,
    purpose: Purpose,
    audience: AudienceWish,
    known: Known,
    by: By,
    keyring: Keyring,
    topics: tuple[UnitId, ...],
    *,
    now: datetime,
    until: datetime | None = None,
) -> AlertVersion:
    if by.is_messenger:
        raise ValueError("what a messenger brings is proposed")
    draft = alert.draft
    valid_until = until or draft.valid_until
    is_end = purpose in (Purpose.CANCEL, Purpose.RELEASE)
    try:
        message = keyring.sign(
            messages.alert_message(
                draft,
                alert_id=alert.alert_id,
                version=alert.version,
                purpose=purpose,
                audience=audience,
                issuer_depth=known.tree.depth(draft.unit_id) or 0,
                first_issued_at=alert.first_issued_at,
                issued_at=now,
                valid_until=valid_until,
                media=known.media,
                references=() if is_end else draft.references,
            )
        )
    except EncodeError as error:
        raise Invalid(Fault("", "alert_too_large")) from error
    return AlertVersion(
        alert_id=alert.alert_id,
        version=alert.version,
        purpose=purpose,
        issued_at=now,
        valid_until=valid_until,
        message=message,
        topics=topics,
        draft=draft,
        issued_by=by.account_id,
        approved_by=by.second.account_id if by.second is not None else None,
    )


async def _send(connection: Connection, alert: Alert, version: AlertVersion, *, now: datetime) -> None:
    """Put a version on record and into the outbox."""
    await alert_store.add_version(connection, version)
    await outbox.enqueue(
        connection,
        [
            Publish(
                topic=AreaAlert(unit_id, alert.alert_id),
                payload=version.message,
                kind=outbox.ALERT,
                serial=version.version,
                expires_at=version.valid_until,
            )
            for unit_id in version.topics
        ],
        at=now,
    )
    await alert_store.ring(connection)


async def _audit(
    connection: Connection, action: str, alert: Alert, *, before: Alert | None, by: By, now: datetime
) -> None:
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"alert:{alert.alert_id}",
            unit_id=alert.draft.unit_id,
            before=described(before) if before is not None else None,
            after={
                **described(alert),
                **({"second_person": by.second.login} if by.second is not None else {}),
                **({"note": by.note} if by.note is not None else {}),
            },
        ),
        actor=by.actor,
        origin=by.origin,
        at=now,
    )


def described(alert: Alert) -> dict[str, Any]:
    """The alert as facts of the audit."""
    return {
        "version": alert.version,
        "state": alert.state.value,
        "holds_until": alert.holds_until.isoformat(),
        **document_of(alert.draft),
    }
