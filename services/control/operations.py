"""Operations that may need a second person (S-07): carried out, kept until another one confirms them, or done alone.

What somebody asks for is carried out to its end in a savepoint, so that it is judged exactly as if nobody else were
needed; only then is it known how many devices it touches. If those are more than a policy lets one person touch, the
savepoint is rolled back and the request is kept: whoever confirms it has the same right over all the ground, is another
account whatever session or token they come with, and names the digest of what they have read. It is then judged anew, by
what both may do and by what there is at that moment, and carried out as the first person's, with the second one named.

One person alone passes with a reason (break-glass). That is told to everybody above and below until somebody else with
the same right has acknowledged it. Works inside the caller's transaction.
"""

from __future__ import annotations

import asyncio
import base64
import enum
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from schemas.alerts import Purpose
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control import account_store, accounts, alerts, audit, operation_store, policy_store
from services.control.alerting import alert_store, cap_intake, cap_reading, proposal_store, reach_store, template_store
from services.control.alerting.addressing import addressed
from services.control.alerting.documents import document_of, draft_of
from services.control.alerting.model import Alert, AlertDraft, State
from services.control.alerting.proposal import Outcome
from services.control.alerting.tones import Tone
from services.control.alerts import By
from services.control.audit import Entry
from services.control.errors import Conflict, Forbidden, Invalid
from services.control.operation_store import Request, RequestState
from services.control.permissions import Permission, Rights
from services.control.planning.policies import Danger, Policies
from services.control.trust.keyring import Keyring
from services.control.units import UnitTree
from services.shared.database.pool import Connection

# Of what an earlier version has kept, which knew no others.
_EARLIER_UNIT_CODES = ("loa:unit-code",)


class Kind(enum.StrEnum):
    """What is asked for. Stable words of the API."""

    ALERT_ISSUE = "alert_issue"
    ALERT_UPDATE = "alert_update"
    CAP = "cap"
    SILENCE = "silence"
    SILENCE_RELEASE = "silence_release"


DANGERS: Mapping[Kind, Danger] = {
    Kind.ALERT_ISSUE: Danger.ALERTS,
    Kind.ALERT_UPDATE: Danger.ALERTS,
    Kind.CAP: Danger.ALERTS,
    Kind.SILENCE: Danger.SILENCES,
    Kind.SILENCE_RELEASE: Danger.SILENCES,
}
PERMISSIONS: Mapping[Danger, Permission] = {
    Danger.ALERTS: Permission.RELEASE_ALERTS,
    Danger.SILENCES: Permission.SILENCE_DEVICES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something to be done, as it can be kept: `document` is all of it, as JSON. `unit_id` is the unit that speaks."""

    kind: Kind
    unit_id: UnitId
    summary: str
    document: Mapping[str, Any]

    @property
    def digest(self) -> bytes:
        """What a second person has read: SHA-256 of kind and document."""
        text = json.dumps([self.kind.value, self.document], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What carrying out takes: the keys that sign, how long a request waits, and the reason of who acts alone."""

    keyring: Keyring
    waits: timedelta
    alone: str | None = None


# --- what there is ---------------------------------------------------------------------------------------------------


def issuing(draft: AlertDraft, *, alert_id: AlertId | None = None) -> Operation:
    """An alert, a test or a silence to be issued; `alert_id` where it stands on record already, as a proposal."""
    return Operation(
        kind=Kind.SILENCE if draft.purpose is Purpose.SILENCE else Kind.ALERT_ISSUE,
        unit_id=draft.unit_id,
        summary=draft.headline,
        document={"alert_id": str(alert_id) if alert_id is not None else None, "draft": document_of(draft)},
    )


def updating(alert: Alert, draft: AlertDraft) -> Operation:
    """Something else to be said in the place of an alert, as it stands."""
    return Operation(
        kind=Kind.ALERT_UPDATE,
        unit_id=alert.draft.unit_id,
        summary=draft.headline,
        document={"alert_id": str(alert.alert_id), "version": alert.version, "draft": document_of(draft)},
    )


def releasing(silence: Alert, *, units: tuple[UnitId, ...], devices: tuple[DeviceId, ...], note: str) -> Operation:
    """The end of a silence, as it stands; for some units and devices, or where none is named for all."""
    return Operation(
        kind=Kind.SILENCE_RELEASE,
        unit_id=silence.draft.unit_id,
        summary=silence.draft.headline,
        document={
            "alert_id": str(silence.alert_id),
            "version": silence.version,
            "units": [str(each) for each in units],
            "devices": list(devices),
            "note": note,
        },
    )


def taking_cap(unit_id: UnitId, document: bytes, *, summary: str, unit_codes: tuple[str, ...]) -> Operation:
    """A CAP message to be taken in as the word of a unit; `unit_codes` as `cap_intake.Taking` has them."""
    return Operation(
        kind=Kind.CAP,
        unit_id=unit_id,
        summary=summary,
        document={"cap": base64.b64encode(document).decode("ascii"), "unit_codes": list(unit_codes)},
    )


# --- carried out, or kept --------------------------------------------------------------------------------------------


async def settle(
    connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime
) -> Alert | Request:
    """Carry it out, or keep it for a second person where a policy asks for one.

    Raises what the operation itself raises; then nothing is kept.
    """
    needed_from = await _needed_from(connection, operation, by.tree)
    if needed_from is None:
        _, alert = await _perform(connection, operation, by=by, keyring=means.keyring, now=now)
        return alert
    if means.alone is not None:
        by = replace(by, note=means.alone)
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        before, alert = await _perform(connection, operation, by=by, keyring=means.keyring, now=now)
        devices = await _devices(connection, operation, before, alert, by.tree)
    except BaseException:
        await savepoint.rollback()
        raise
    if devices >= needed_from and means.alone is None:
        await savepoint.rollback()
        return await _keep(connection, operation, alert, devices, needed_from, by=by, means=means, now=now)
    await savepoint.commit()
    if devices >= needed_from:
        request = _request(operation, alert.alert_id, devices, needed_from, by=by, waits=timedelta(0), now=now)
        request = replace(request, state=RequestState.ALONE, decided_at=now, decided_by=by.account_id, note=means.alone)
        await operation_store.add(connection, request)
        await record(connection, "glass_broken", request, by=by, now=now)
    return alert


async def confirm(
    connection: Connection, request: Request, digest: bytes, *, by: By, means: Means, now: datetime
) -> tuple[Request, Alert]:
    """Carry out what another person asked for; the request has been locked.

    Raises `Forbidden` when it is one's own or not all of the ground is one's own, `Conflict` when it is decided or over,
    or when the first person may not do it any more, and what the operation itself raises by now.
    """
    check_waits(request, now=now)
    if by.account_id == request.asked_by:
        raise Forbidden("second_person_is_the_first")
    operation = operation_of(request)
    if operation.digest != request.digest or digest != request.digest:
        raise Conflict("request_is_another")
    first = await account_store.account(connection, request.asked_by)
    if first.disabled_at is not None:
        raise Conflict("first_person_may_no_longer", facts={"login": first.login})
    # Carried out as the second person's and taken back, to see that they may; what stays is the first person's.
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await _perform(connection, operation, by=by, keyring=means.keyring, now=now)
    finally:
        await savepoint.rollback()
    as_first = By(
        tree=by.tree,
        rights=Rights(first.grants, by.tree, now=now),
        actor=accounts.actor_of(first),
        origin=request.origin,
        second=by.actor,
    )
    try:
        _, alert = await _perform(connection, operation, by=as_first, keyring=means.keyring, now=now)
    except Forbidden as error:
        raise Conflict("first_person_may_no_longer", facts={"login": first.login}) from error
    decided = replace(
        request, state=RequestState.CONFIRMED, alert_id=alert.alert_id, decided_at=now, decided_by=by.account_id
    )
    await operation_store.change(connection, decided)
    await record(connection, "second_person_confirmed", decided, by=by, now=now)
    return decided, alert


async def refuse(connection: Connection, request: Request, *, note: str, by: By, now: datetime) -> Request:
    """Say no, or take one's own request back; the request has been locked. Raises `Conflict` when it is decided or over."""
    check_waits(request, now=now)
    refused = replace(request, state=RequestState.REFUSED, decided_at=now, decided_by=by.account_id, note=note or None)
    await _end(connection, refused, "second_person_refused", by=by, now=now)
    return refused


async def acknowledge(connection: Connection, request: Request, *, by: By, now: datetime) -> Request:
    """Note that another person knows what was done alone; the request has been locked.

    Raises `Forbidden` for one's own, `Conflict` when there is nothing to acknowledge.
    """
    if request.state is not RequestState.ALONE or request.acknowledged_at is not None:
        raise Conflict("nothing_to_acknowledge")
    if by.account_id == request.asked_by:
        raise Forbidden("second_person_is_the_first")
    known = replace(request, acknowledged_at=now, acknowledged_by=by.account_id)
    await operation_store.change(connection, known)
    await record(connection, "broken_glass_acknowledged", known, by=by, now=now)
    return known


async def expire(connection: Connection, *, tree: UnitTree, now: datetime) -> int:
    """End what nobody has confirmed in time; returns how many there were."""
    over = await operation_store.overdue(connection, now=now)
    for request in over:
        expired = replace(request, state=RequestState.EXPIRED, decided_at=now)
        await _end(connection, expired, "second_person_missing", by=By(tree=tree), now=now)
    return len(over)


def permission_of(request: Request) -> Permission:
    """The right that whoever confirms or acknowledges it needs, as who asked for it did."""
    return PERMISSIONS[DANGERS[Kind(request.kind)]]


def operation_of(request: Request) -> Operation:
    """What was asked for."""
    return Operation(
        kind=Kind(request.kind), unit_id=request.unit_id, summary=request.summary, document=request.document
    )


def check_waits(request: Request, *, now: datetime) -> None:
    """Raise `Conflict` unless it can still be decided on."""
    if request.state is RequestState.WAITING and now >= request.expires_at:
        raise Conflict("request_expired", facts={"ended": request.expires_at.isoformat(timespec="seconds")})
    if request.state is not RequestState.WAITING:
        raise Conflict("request_decided", facts={"state": request.state.value})


# --- the parts -------------------------------------------------------------------------------------------------------


async def _needed_from(connection: Connection, operation: Operation, tree: UnitTree) -> int | None:
    if operation.document.get("draft", {}).get("purpose") == "silent_test":
        return None  # nobody hears it
    stated = await policy_store.policies_of(connection, tree.path(operation.unit_id))
    found = Policies(stated).at(operation.unit_id, tree).second_person_from(DANGERS[operation.kind])
    return found[0] if found is not None else None


async def carry_out(connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime) -> Alert:
    """Carry out what needs nobody else, whatever policies say: what only ends something."""
    return (await _perform(connection, operation, by=by, keyring=means.keyring, now=now))[1]


async def _perform(
    connection: Connection, operation: Operation, *, by: By, keyring: Keyring, now: datetime
) -> tuple[Alert | None, Alert]:
    """What it changed, before and after."""
    document = operation.document
    match operation.kind:
        case Kind.ALERT_ISSUE | Kind.SILENCE:
            alert_id = AlertId(uuid.UUID(document["alert_id"])) if document["alert_id"] is not None else None
            draft = draft_of(document["draft"])
            return None, await alerts.issue(connection, draft, by=by, keyring=keyring, now=now, alert_id=alert_id)
        case Kind.ALERT_UPDATE:
            alert = await _as_read(connection, document)
            draft = draft_of(document["draft"])
            return alert, await alerts.update(connection, alert, draft, by=by, keyring=keyring, now=now)
        case Kind.SILENCE_RELEASE:
            silence = await _as_read(connection, document)
            by = replace(by, note=by.note or document["note"] or None)
            units = tuple(UnitId(uuid.UUID(each)) for each in document["units"])
            devices = tuple(map(DeviceId, document["devices"]))
            if not units and not devices:
                return silence, await alerts.cancel(connection, silence, by=by, keyring=keyring, now=now)
            return silence, await alerts.release_part(
                connection, silence, units=units, devices=devices, by=by, keyring=keyring, now=now
            )
        case Kind.CAP:
            return None, await _take_cap(connection, operation, by=by, keyring=keyring, now=now)
        case _:
            assert_never(operation.kind)


async def _take_cap(connection: Connection, operation: Operation, *, by: By, keyring: Keyring, now: datetime) -> Alert:
    content = base64.b64decode(operation.document["cap"])
    reading = cap_reading.parse(content)
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
    return await cap_intake.take(connection, taking, keyring=keyring)


async def _as_read(connection: Connection, document: Mapping[str, Any]) -> Alert:
    """The alert, locked, if it still is the version that was meant."""
    alert = await alert_store.alert_for_update(connection, uuid.UUID(document["alert_id"]))
    if alert.version != document["version"]:
        raise Conflict("request_outdated", facts={"headline": alert.draft.headline})
    return alert


async def _devices(
    connection: Connection, operation: Operation, before: Alert | None, after: Alert, tree: UnitTree
) -> int:
    """How many devices it touches: of a change those that either version means; of a return those that are let go."""
    meant = await _meant(connection, after, tree)
    if before is None:
        return len(meant)
    had = await _meant(connection, before, tree)
    if operation.kind is Kind.SILENCE_RELEASE and after.state is State.IN_FORCE:
        return len(had - meant)
    return len(had | meant)


async def _meant(connection: Connection, alert: Alert, tree: UnitTree) -> set[int]:
    wish = alert.draft.audience
    ground = {below for unit in wish.units for below in tree.subtree(unit)}
    found = await reach_store.candidates(connection, ground, wish.devices)
    return {each.device_no for each in await asyncio.to_thread(addressed, alert, found, tree)}


async def _keep(
    connection: Connection,
    operation: Operation,
    alert: Alert,
    devices: int,
    needed_from: int,
    *,
    by: By,
    means: Means,
    now: datetime,
) -> Request:
    """Put the request on record; an alert that does not stand there yet stands there as waiting from now on."""
    if operation.kind in (Kind.ALERT_ISSUE, Kind.SILENCE):
        waiting = replace(alert, version=0, state=State.AWAITING_SECOND)
        if operation.document["alert_id"] is None:
            await alert_store.add(connection, waiting)
        else:
            await alert_store.change(connection, waiting)
        operation = replace(operation, document={**operation.document, "alert_id": str(alert.alert_id)})
    alert_id = None if operation.kind is Kind.CAP else alert.alert_id
    request = _request(operation, alert_id, devices, needed_from, by=by, waits=means.waits, now=now)
    await operation_store.add(connection, request)
    await alert_store.ring(connection)
    await record(connection, "second_person_asked", request, by=by, now=now)
    return request


def _request(
    operation: Operation,
    alert_id: AlertId | None,
    devices: int,
    needed_from: int,
    *,
    by: By,
    waits: timedelta,
    now: datetime,
) -> Request:
    if by.account_id is None:
        raise ValueError("the platform itself waits for nobody")
    return Request(
        request_id=uuid.uuid4(),
        kind=operation.kind.value,
        unit_id=operation.unit_id,
        alert_id=alert_id,
        summary=operation.summary,
        document=operation.document,
        digest=operation.digest,
        devices=devices,
        needed_from=needed_from,
        asked_at=now,
        asked_by=by.account_id,
        origin=by.origin,
        expires_at=now + waits,
        state=RequestState.WAITING,
    )


async def _end(connection: Connection, request: Request, action: str, *, by: By, now: datetime) -> None:
    """Note that it will not be carried out; what stood waiting for it is refused."""
    await operation_store.change(connection, request)
    if request.alert_id is not None and Kind(request.kind) in (Kind.ALERT_ISSUE, Kind.SILENCE):
        alert = await alert_store.alert_for_update(connection, request.alert_id)
        refused = replace(alert, state=State.REFUSED, ended_at=now, ended_by=by.account_id)
        await alert_store.change(connection, refused)
        await proposal_store.close(
            connection, alert.alert_id, Outcome.REFUSED, by=by.account_id, note=request.note, at=now
        )
    await record(connection, action, request, by=by, now=now)


async def record(connection: Connection, action: str, request: Request, *, by: By, now: datetime) -> None:
    """Write down what became of a request."""
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"request:{request.request_id}",
            unit_id=request.unit_id,
            after={
                "kind": request.kind,
                "summary": request.summary,
                "alert_id": str(request.alert_id) if request.alert_id is not None else None,
                "digest": request.digest.hex(),
                "devices": request.devices,
                "needed_from": request.needed_from,
                "asked_by": str(request.asked_by),
                "note": request.note,
            },
        ),
        actor=by.actor,
        origin=by.origin,
        at=now,
    )
