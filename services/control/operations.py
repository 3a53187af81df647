"""Operations that may need a second person (S-07): carried out, kept until another one confirms them, or done alone.

What somebody asks for is carried out to its end in a savepoint, so that it is judged exactly as if nobody else were
needed; only then is it known which devices it touches. If those are more than a policy lets one person touch
(`operation_sizes`), the savepoint is rolled back and the request is kept: whoever confirms it has the same right over all the ground, is another
account whatever session or token they come with, and names the digest of what they have read. It is then judged anew, by
what both may do and by what there is at that moment, and carried out as the first person's, with the second one named.

One person alone passes with a reason (break-glass). That is told to everybody above and below until somebody else with
the same right has acknowledged it. Works inside the caller's transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.identifiers import AlertId
from services.control import account_store, accounts, audit, operation_store, policy_store
from services.control.alerting import alert_store, cap_store, proposal_store
from services.control.alerting.model import CapReference, State
from services.control.alerting.proposal import Outcome
from services.control.alerts import By
from services.control.audit import Entry
from services.control.errors import Conflict, Forbidden
from services.control.operation_kinds import DANGERS, PERMISSIONS, Kind, Means, Operation, as_read, says_as_read
from services.control.operation_performing import Done, perform, touched
from services.control.operation_sizes import Reached, reached
from services.control.operation_store import Request, RequestState
from services.control.permissions import Permission, Rights
from services.control.units import UnitTree
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A request that another person has confirmed, and what was carried out."""

    request: Request
    done: Done


# --- carried out, or kept --------------------------------------------------------------------------------------------


async def settle(
    connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime
) -> Done | Request:
    """Carry it out, or keep it for a second person where a policy asks for one.

    Raises what the operation itself raises; then nothing is kept.
    """
    danger = DANGERS[operation.kind]
    asking = await policy_store.asking_for_second(connection, danger)
    if not asking or operation.document.get("draft", {}).get("purpose") == "silent_test":  # nobody hears that
        return await _carry_out(connection, operation, by=by, means=means, now=now)
    if by.account_id is not None:
        await account_store.lock(connection, by.account_id)  # two at once would each be as if the other were not
    if means.alone is not None:
        by = replace(by, note=means.alone)
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        done = await _carry_out(connection, operation, by=by, means=means, now=now)
        if operation.kind is Kind.CAP and all(each.state is State.CANCELLED for each in done.alerts):
            await savepoint.commit()  # what only ends something waits for nobody
            return done
        devices = await touched(connection, operation, done, by.tree)
        size = await reached(connection, asking, danger, devices, account_id=by.account_id, tree=by.tree, now=now)
    except BaseException:
        await savepoint.rollback()
        raise
    if operation.kind is Kind.CAP:
        operation = as_read(operation, [each.draft for each in done.alerts], done.answer)
    if size is not None and means.alone is None:
        await savepoint.rollback()
        return await _keep(connection, operation, done, len(devices), size, by=by, means=means, now=now)
    await savepoint.commit()
    if by.account_id is not None:
        await operation_store.note_done(connection, by.account_id, danger, devices, at=now)
    if size is not None:
        request = _request(operation, _alert_id(done), len(devices), size, by=by, waits=timedelta(0), now=now)
        request = replace(request, state=RequestState.ALONE, decided_at=now, decided_by=by.account_id, note=means.alone)
        await operation_store.add(connection, request)
        await record(connection, "glass_broken", request, done, by=by, now=now)
    return done


async def confirm(
    connection: Connection, request: Request, digest: bytes, *, by: By, means: Means, now: datetime
) -> Confirmed:
    """Carry out what another person asked for; the request has been locked.

    Raises `Forbidden` when it is one's own or not all of the ground is one's own, `Conflict` when it is decided or over,
    when it would say something else by now than what was read, or when the first person may not do it any more, and what
    the operation itself raises by now.
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
        tried = await _carry_out(connection, operation, by=by, means=means, now=now)
    finally:
        await savepoint.rollback()
    if operation.kind is Kind.CAP and not says_as_read(operation, [each.draft for each in tried.alerts]):
        raise Conflict("request_reads_otherwise", facts={"headline": operation.summary})
    as_first = By(
        tree=by.tree,
        rights=Rights(first.grants, by.tree, now=now),
        actor=accounts.actor_of(first),
        origin=request.origin,
        second=by.actor,
    )
    try:
        done = await _carry_out(connection, operation, by=as_first, means=means, now=now)
    except Forbidden as error:
        raise Conflict("first_person_may_no_longer", facts={"login": first.login}) from error
    decided = replace(
        request, state=RequestState.CONFIRMED, alert_id=_alert_id(done), decided_at=now, decided_by=by.account_id
    )
    await operation_store.change(connection, decided)
    await record(connection, "second_person_confirmed", decided, done, by=by, now=now)
    return Confirmed(request=decided, done=done)


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
    return PERMISSIONS[Kind(request.kind)]


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


async def _carry_out(connection: Connection, operation: Operation, *, by: By, means: Means, now: datetime) -> Done:
    """Carry it out. What it ends ends also where that waits for a second person still: nobody can confirm it any more."""
    waiting = await _lock(connection, operation, by.tree)  # before any alert, see `locked`
    done = await perform(connection, operation, by=by, means=means, now=now)
    for request in waiting:
        if request.alert_id is None or request.alert_id != _alert_id(done):
            over = replace(
                request,
                state=RequestState.REFUSED,
                decided_at=now,
                decided_by=by.account_id,
                note=operation.summary,
            )
            await _end(connection, over, "second_person_refused", by=by, now=now)
    return done


async def locked(connection: Connection, request_id: uuid.UUID, *, tree: UnitTree) -> Request:
    """A request, and with it what waits about all that it would end: of two who decide at once the second sees the first.

    Requests are locked before alerts, and together, so that nobody holds one of them and waits for who waits for it.
    Raises `NotFound`.
    """
    operation = operation_of(await operation_store.request(connection, request_id))  # what was asked for never changes
    both = await _lock(connection, operation, tree, request_id=request_id)
    return next(each for each in both if each.request_id == request_id)


async def lock_waiting(connection: Connection, ended: Iterable[uuid.UUID]) -> None:
    """Lock what waits about alerts that are to end: for who locks an alert before it is known what is asked for."""
    await operation_store.lock(connection, ended)


async def _lock(
    connection: Connection, operation: Operation, tree: UnitTree, *, request_id: uuid.UUID | None = None
) -> tuple[Request, ...]:
    """What waits about the alerts that the operation ends, and about CAP messages that it replaces or takes back; locked."""
    document = operation.document
    named = {AlertId(uuid.UUID(each)) for each in document.get("draft", {}).get("references", ())}
    replaced, units = document.get("replaced", ()), tree.followed_by(operation.unit_id)
    if replaced:
        references = [CapReference(**{**each, "sent": datetime.fromisoformat(each["sent"])}) for each in replaced]
        named |= await cap_store.alerts_of(connection, units, document["message"]["sender"], references)
    return await operation_store.lock(connection, named, units, replaced, request_id=request_id)


async def _keep(
    connection: Connection,
    operation: Operation,
    done: Done,
    devices: int,
    size: Reached,
    *,
    by: By,
    means: Means,
    now: datetime,
) -> Request:
    """Put the request on record; an alert that does not stand there yet stands there as waiting from now on."""
    if operation.kind in (Kind.ALERT_ISSUE, Kind.SILENCE) and done.alert is not None:
        waiting = replace(done.alert, version=0, state=State.AWAITING_SECOND)
        if operation.document["alert_id"] is None:
            await alert_store.add(connection, waiting)
        else:
            await alert_store.change(connection, waiting)
        operation = replace(operation, document={**operation.document, "alert_id": str(waiting.alert_id)})
    # What makes an alert of its own once it is confirmed has none that stands for it until then.
    alert_id = None if operation.kind in (Kind.CAP, Kind.AUDIBLE_TEST) else _alert_id(done)
    request = _request(operation, alert_id, devices, size, by=by, waits=means.waits, now=now)
    await operation_store.add(connection, request)
    await alert_store.ring(connection)
    await record(connection, "second_person_asked", request, by=by, now=now)
    return request


def _alert_id(done: Done) -> AlertId | None:
    return done.alert.alert_id if done.alert is not None else None


def _request(
    operation: Operation,
    alert_id: AlertId | None,
    devices: int,
    size: Reached,
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
        needed_from=size.needed_from,
        devices_before=size.before,
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


async def record(
    connection: Connection, action: str, request: Request, done: Done | None = None, *, by: By, now: datetime
) -> None:
    """Write down what became of a request; `done` is what was carried out."""
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
                **({"carried_out": done.subject} if done is not None and done.subject is not None else {}),
                "digest": request.digest.hex(),
                "devices": request.devices,
                "devices_before": request.devices_before,
                "needed_from": request.needed_from,
                "asked_by": str(request.asked_by),
                "note": request.note,
            },
        ),
        actor=by.actor,
        origin=by.origin,
        at=now,
    )
