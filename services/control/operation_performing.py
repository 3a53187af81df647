"""Operations that may need a second person, carried out: what was done, and how many devices it touches.

Works inside the caller's transaction, and judges by what there is at that moment.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

from schemas.alerts import Purpose
from schemas.identifiers import AlertId, BroadcastId, DeviceId, UnitId
from services.control import (
    alerts,
    broadcast_store,
    broadcasts,
    device_store,
    devices,
    enrolments,
    offer_store,
    offers,
    relay_sources,
    relay_store,
)
from services.control.alerting import (
    alert_store,
    cap_intake,
    cap_reading,
    reach_store,
    template_store,
    testing,
    timetable,
    timetable_store,
)
from services.control.alerting.addressing import addressed
from services.control.alerting.cap_intake import Taken
from services.control.alerting.documents import draft_of
from services.control.alerting.model import Alert, AudienceWish, Origin, State
from services.control.alerting.tones import Tone
from services.control.alerts import By
from services.control.errors import Conflict, Fault, Forbidden, Invalid, NotFound
from services.control.offer_store import Offer
from services.control.operation_kinds import PERMISSIONS, Kind, Means, Operation
from services.control.permissions import Actor, Rights
from services.control.planning.model import DeviceNo
from services.control.units import UnitTree
from services.control.wish_documents import source_wish_of, wish_of
from services.shared.database.pool import Connection

# Of what an earlier version has kept, which knew no others.
_EARLIER_UNIT_CODES = ("loa:unit-code",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was carried out. Alerts say themselves whom they mean; of what is none, `devices` are those it touches.

    `before` are the alerts it changed or ended, `answer` what whoever asked for it is told, `subject` what it is about in the audit.
    """

    alerts: tuple[Alert, ...] = ()
    before: tuple[Alert, ...] = ()
    devices: frozenset[DeviceNo] = frozenset()
    subject: str | None = None
    answer: Any = None

    @property
    def alert(self) -> Alert | None:
        """The first of its alerts, which is the only one of all but a CAP message."""
        return self.alerts[0] if self.alerts else None


async def perform(connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime) -> Done:
    """Carry it out as the word of whoever `by` is. Raises what the operation itself raises."""
    document, keyring = operation.document, means.keyring
    match operation.kind:
        case Kind.ALERT_ISSUE | Kind.SILENCE:
            alert_id = AlertId(uuid.UUID(document["alert_id"])) if document["alert_id"] is not None else None
            draft = draft_of(document["draft"])
            issued = await alerts.issue(connection, draft, by=by, keyring=keyring, now=now, alert_id=alert_id)
            return Done(alerts=(issued,))
        case Kind.ALERT_UPDATE:
            alert = await _as_read(connection, document)
            draft = draft_of(document["draft"])
            changed = await alerts.update(connection, alert, draft, by=by, keyring=keyring, now=now)
            return Done(before=(alert,), alerts=(changed,))
        case Kind.SILENCE_RELEASE:
            silence = await _as_read(connection, document)
            released = await _let_go(connection, silence, document, by=by, means=means, now=now)
            return Done(before=(silence,), alerts=(released,))
        case Kind.CAP:
            taken = await _take_cap(connection, operation, by=by, means=means, now=now)
            return Done(before=taken.before, alerts=taken.alerts, answer=taken.remarks)
        case Kind.AUDIBLE_TEST:
            return Done(alerts=(await _test_aloud(connection, operation, by=by, means=means, now=now),))
        case Kind.LIVE | Kind.LIVE_CHANGE:
            return await _air(connection, operation, by=by, means=means, now=now)
        case Kind.RELAY_CHANGE:
            return await _retune(connection, operation, by=by, means=means, now=now)
        case Kind.VOLUME:
            return await _set_volume(connection, operation, by=by, now=now)
        case Kind.CLAIMS:
            return await _claim(connection, operation, by=by, now=now)
        case _:
            assert_never(operation.kind)


async def touched(connection: Connection, operation: Operation, done: Done, tree: UnitTree) -> frozenset[DeviceNo]:
    """The devices it touches: of a change those that either version means; of a return those that are let go."""
    if done.alert is None:
        return done.devices
    meant = await _meant(connection, done.alerts, tree)
    had = await _meant(connection, done.before, tree)
    if operation.kind is Kind.SILENCE_RELEASE and done.alert.state is State.IN_FORCE:
        return had - meant
    return had | meant


async def _meant(connection: Connection, several: Iterable[Alert], tree: UnitTree) -> frozenset[DeviceNo]:
    found: set[DeviceNo] = set()
    for alert in several:
        wish = alert.draft.audience
        ground = {below for unit in wish.units for below in tree.subtree(unit)}
        near = await reach_store.candidates(connection, ground, wish.devices)
        found.update(each.device_no for each in await asyncio.to_thread(addressed, alert, near, tree))
    return frozenset(found)


# --- alerts, tests, silences -----------------------------------------------------------------------------------------


async def _let_go(
    connection: Connection, silence: Alert, document: Mapping[str, Any], *, by: By, means: Means, now: datetime
) -> Alert:
    by = replace(by, note=by.note or document["note"] or None)
    units = tuple(UnitId(uuid.UUID(each)) for each in document["units"])
    named = tuple(map(DeviceId, document["devices"]))
    if not units and not named:
        return await alerts.cancel(connection, silence, by=by, keyring=means.keyring, now=now)
    return await alerts.release_part(
        connection, silence, units=units, devices=named, by=by, keyring=means.keyring, now=now
    )


async def _take_cap(connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime) -> Taken:
    content = base64.b64decode(operation.document["cap"])
    reading = await asyncio.to_thread(cap_reading.parse, content)  # a megabyte takes a second
    if reading.alert is None:
        raise Invalid(*reading.faults)
    taking = cap_intake.Taking(
        message=reading.alert,
        document=content,
        unit_id=operation.unit_id,
        tone=(await template_store.tones(connection))[Tone.WARNING],
        unit_codes=tuple(operation.document.get("unit_codes", _EARLIER_UNIT_CODES)),
        by=by,
        now=now,
    )
    return await cap_intake.take(connection, taking, keyring=means.keyring)


async def _test_aloud(connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime) -> Alert:
    """Held against the policies of everybody there at the moment it would sound."""
    audience = AudienceWish.of_units(operation.unit_id)
    await testing.check_hours(connection, audience, by.tree, means.zone, now=now)
    said = await timetable_store.timetables(connection)
    draft = await testing.draft(
        connection,
        operation.unit_id,
        Purpose.AUDIBLE_TEST,
        audience,
        times=timetable.in_force(said, operation.unit_id, by.tree, Purpose.AUDIBLE_TEST).times,
        origin=Origin.CONSOLE,
        now=now,
    )
    return await alerts.issue(connection, draft, by=by, keyring=means.keyring, now=now)


async def _as_read(connection: Connection, document: Mapping[str, Any]) -> Alert:
    """The alert, locked, if it still is the version that was meant."""
    alert = await alert_store.alert_for_update(connection, uuid.UUID(document["alert_id"]))
    if alert.version != document["version"]:
        raise Conflict("request_outdated", facts={"headline": alert.draft.headline})
    return alert


# --- what is live, how loud, who it is -------------------------------------------------------------------------------


async def _air(connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime) -> Done:
    rights, actor = _person(operation, by)
    wish = wish_of(operation.document["wish"])
    taken_up = operation.document.get("offer")
    if taken_up is not None:
        scheduled = await offers.schedule(
            connection,
            await _offer_as_read(connection, taken_up, operation.unit_id),
            lambda _: wish,
            note=taken_up["note"],
            zone=means.zone,
            rights=rights,
            actor=actor,
            origin=by.origin,
            now=now,
        )
        own = scheduled.accepted
        return Done(devices=own.device_nos, subject=f"broadcast:{own.broadcast.broadcast_id}", answer=scheduled)
    if operation.kind is Kind.LIVE:
        accepted = await broadcasts.create(
            connection, wish, zone=means.zone, rights=rights, actor=actor, origin=by.origin, now=now
        )
    else:
        broadcast_id = BroadcastId(uuid.UUID(operation.document["broadcast_id"]))
        stored = await broadcast_store.broadcast_for_update(connection, broadcast_id)
        if stored.version != operation.document["version"]:
            raise Conflict("request_outdated", facts={"headline": stored.wish.title})
        accepted = await broadcasts.replace(
            connection, stored, wish, zone=means.zone, rights=rights, actor=actor, origin=by.origin, now=now
        )
    return Done(devices=accepted.device_nos, subject=f"broadcast:{accepted.broadcast.broadcast_id}", answer=accepted)


async def _offer_as_read(connection: Connection, taken_up: Mapping[str, Any], unit_id: UnitId) -> Offer:
    """The offer, locked, if what is offered still is the version that was meant: a change takes offers back."""
    broadcast_id = uuid.UUID(taken_up["broadcast_id"])

    async def check_version() -> None:
        offered = await broadcast_store.broadcast(connection, broadcast_id)
        if offered.version != taken_up["version"]:
            raise Conflict("request_outdated", facts={"headline": offered.wish.title})

    try:
        offer = await offer_store.offer_for_update(connection, broadcast_id, unit_id)
    except NotFound:
        await check_version()
        raise
    await check_version()
    return offer


async def _retune(connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime) -> Done:
    """It touches the devices that are to sound it, now or on any day to come, if it will say something else there."""
    rights, actor = _person(operation, by)
    stored = await relay_store.source_for_update(connection, uuid.UUID(operation.document["source_id"]))
    if stored.version != operation.document["version"]:
        raise Conflict("request_outdated", facts={"headline": stored.name})
    wish = source_wish_of(operation.document["wish"])
    changed = await relay_sources.change(
        connection, stored, wish, rules=means.rules, actor=actor, origin=by.origin, now=now
    )
    says_the_same = all(
        getattr(stored, name) == getattr(changed, name) for name in ("kind", "url", "is_direct", "fallback_bulletin_id")
    )
    touches: frozenset[DeviceNo] = frozenset()
    if not says_the_same:
        touches = await relay_store.planned_devices(connection, stored.source_id, now=now)
        touches |= await broadcasts.sounding_source(
            connection, stored.source_id, zone=means.zone, rights=rights, now=now
        )
    return Done(
        devices=touches,
        subject=f"relay_source:{stored.source_id}",
        answer=changed,
    )


async def _set_volume(connection: Connection, operation: Operation, *, by: By, now: datetime) -> Done:
    _, actor = _person(operation, by)
    changed = await devices.set_volume(
        connection,
        operation.unit_id,
        operation.document["volume_percent"],
        kinds=operation.document["kinds"],
        tree=by.tree,
        actor=actor,
        origin=by.origin,
        now=now,
    )
    return Done(devices=changed, subject=f"unit:{operation.unit_id}", answer=len(changed))


async def _claim(connection: Connection, operation: Operation, *, by: By, now: datetime) -> Done:
    rights, actor = _who(by)
    expires_at = datetime.fromisoformat(operation.document["expires_at"])
    claimed = set()
    for position, each in enumerate(operation.document["claims"]):
        device = await device_store.device_for_update(connection, each["device_id"], now=now)
        if not rights.may(PERMISSIONS[operation.kind], device.unit_id):
            raise _not_here(f"device_ids[{position}]", device.unit_id, by.tree)
        await enrolments.make_claim(
            connection,
            device,
            code_hash=bytes.fromhex(each["code_hash"]),
            expires_at=expires_at,
            actor=actor,
            origin=by.origin,
            now=now,
        )
        claimed.add(DeviceNo(device.device_no))
    return Done(devices=frozenset(claimed), subject=f"unit:{operation.unit_id}")


def _person(operation: Operation, by: By) -> tuple[Rights, Actor]:
    """Who does it, with the right in the unit that speaks. Raises `Forbidden`."""
    rights, actor = _who(by)
    if not rights.may(PERMISSIONS[operation.kind], operation.unit_id):
        raise _not_here("unit_id", operation.unit_id, by.tree)
    return rights, actor


def _who(by: By) -> tuple[Rights, Actor]:
    if by.rights is None or by.actor is None:
        raise ValueError("the platform itself does none of these")
    return by.rights, by.actor


def _not_here(field: str, unit_id: UnitId, tree: UnitTree) -> Forbidden:
    unit = tree.get(unit_id)
    facts = {"unit": unit.name if unit is not None else str(unit_id)}
    return Forbidden("not_permitted_here", faults=[Fault(field, "unit_outside_own_subtree", facts)], facts=facts)
