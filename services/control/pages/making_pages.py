"""The pages on which a broadcast is made, changed and withdrawn: what it would do is shown before anything is saved.

A form carries what was shown: the version it changes, and a digest of what it asked for and of what that would do. It is
saved only while that still holds; otherwise it is shown anew, with everything that was typed.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from schemas.identifiers import UnitId
from services.control import (
    broadcast_store,
    broadcasts,
    bulletin_store,
    bulletins,
    group_store,
    idempotency,
    policy_store,
    relay_store,
)
from services.control.api import airing, step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.fields import uuid_of
from services.control.api.routes.broadcasts import BroadcastBody
from services.control.api.what_if import WhatIf
from services.control.broadcast_requests import Wish
from services.control.broadcast_store import StoredBroadcast
from services.control.broadcasts import Accepted
from services.control.bulletin_store import Bulletin
from services.control.errors import Conflict, Refusal
from services.control.group_store import Group
from services.control.pages import broadcast_forms
from services.control.pages.broadcast_forms import KEPT, Typed
from services.control.pages.broadcast_pages import targets_of
from services.control.pages.emergencies import alone_of, asks_second, is_mendable
from services.control.pages.foresight import DEVICES_SHOWN, Foreseen, titles_in
from services.control.pages.forms import MENDABLE, Returned, Sent, checked, form_of, given, only, returned
from services.control.pages.lookups import code_asked, sessions_of, unit_here
from services.control.pages.pages import page, trail_of, wording_of
from services.control.permissions import Permission
from services.control.planning.policies import Danger
from services.control.relay_store import StoredSource
from services.control.units import UnitVersion
from services.shared.database.pool import Connection

router = APIRouter(include_in_schema=False)

Maker = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.UNIT)]
Changer = Annotated[Caller, requires(Permission.MAKE_BROADCASTS, Scope.BROADCAST)]

_CHOICES = 300  # bulletins and groups to choose from
_SAVE = "save"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A form as it is shown: what is typed in it, what it changes, and what it was shown to come to.

    `key` names the request, so that a form sent twice is saved once; `shown` is the digest of what was shown.
    """

    unit_id: UnitId
    typed: Typed
    key: str
    stored: StoredBroadcast | None = None
    shown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What saving something live asks for besides: a code or an app first ("": neither), and whether for a second person."""

    code: str
    asks_second: bool


# --- making and changing ---------------------------------------------------------------------------------------------


@router.get("/units/{unit_id}/broadcasts/new", response_class=HTMLResponse)
async def new_page(unit_id: uuid.UUID, request: Request, caller: Maker, services: Parts) -> Response:
    """An empty form."""
    typed = Typed(starts_on=services.directory.today(now=caller.now).isoformat())
    sheet = Sheet(unit_id=unit_here(caller, unit_id), typed=typed, key=str(uuid.uuid4()))
    return await _form_page(sheet, request, caller, services)


@router.post("/units/{unit_id}/broadcasts/new", response_class=HTMLResponse)
async def make(unit_id: uuid.UUID, request: Request, caller: Maker, services: Parts) -> Response:
    """Show what it would do, or save it."""
    form = await form_of(request)
    return await _answer(_sheet(form, unit_here(caller, unit_id), None), form, request, caller, services)


@router.get("/broadcasts/{broadcast_id}/edit", response_class=HTMLResponse)
async def edit_page(broadcast_id: uuid.UUID, request: Request, caller: Changer, services: Parts) -> Response:
    """The form filled in with what is stored."""
    async with services.database.connection() as connection:
        stored = await broadcast_store.broadcast(connection, broadcast_id)
        groups = await _groups(connection, stored.wish.unit_id, caller)
    if stored.state == broadcasts.WITHDRAWN:
        raise Conflict("broadcast_withdrawn")
    typed = broadcast_forms.typed_of_wish(
        stored.wish,
        units={each.unit_id for each in _below(caller, stored.wish.unit_id)},
        groups={str(each.group_id) for each in groups},
    )
    sheet = Sheet(unit_id=stored.wish.unit_id, typed=typed, stored=stored, key=str(uuid.uuid4()))
    return await _form_page(sheet, request, caller, services)


@router.post("/broadcasts/{broadcast_id}/edit", response_class=HTMLResponse)
async def change(broadcast_id: uuid.UUID, request: Request, caller: Changer, services: Parts) -> Response:
    """Show what the change would do, or save it."""
    form = await form_of(request)
    async with services.database.connection() as connection:
        stored = await broadcast_store.broadcast(connection, broadcast_id)
    return await _answer(_sheet(form, stored.wish.unit_id, stored), form, request, caller, services)


def _sheet(form: FormData, unit_id: UnitId, stored: StoredBroadcast | None) -> Sheet:
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    values = given(form, "key", "shown")
    return Sheet(
        unit_id=unit_id,
        typed=broadcast_forms.typed_of(fields),
        stored=stored,
        key=values.get("key", "")[:64] or str(uuid.uuid4()),
        shown=values.get("shown", ""),
    )


async def _answer(sheet: Sheet, form: FormData, request: Request, caller: Caller, services: Services) -> Response:
    """What a form that was sent is answered with."""
    values = given(form, "do", "detail", "version")
    moved = broadcast_forms.rearranged(sheet.typed, values.get("do", ""))
    if moved is not None:
        return await _form_page(replace(sheet, typed=moved, shown=""), request, caller, services)
    try:
        body = checked(
            BroadcastBody,
            broadcast_forms.body_of(
                sheet.typed,
                sheet.unit_id,
                zone=services.directory.zone.key,
                stored=None if sheet.stored is None else sheet.stored.wish,
            ),
            own_faults=broadcast_forms.own_faults(sheet.typed),
        )
        draft = _Draft(sheet, body, values.get("version"), caller, services)
    except MENDABLE as error:
        return await _given_back(sheet, error, request, caller, services)
    is_save = values.get("do") == _SAVE
    sent = None
    try:
        foreseen = await draft.foreseen(values.get("detail", ""))
        shown = _digest(body, foreseen)
        if is_save and shown == sheet.shown:
            sent = await _let_through(draft, form, request, services)
            if sent is None:
                return RedirectResponse(await draft.save(alone_of(form)), status_code=HTTPStatus.SEE_OTHER)
    except MENDABLE as error:
        if is_save and (saved := await draft.saved_before()) is not None:
            return RedirectResponse(saved, status_code=HTTPStatus.SEE_OTHER)
        return await _given_back(sheet, error, request, caller, services)
    if is_save and (saved := await draft.saved_before()) is not None:
        return RedirectResponse(saved, status_code=HTTPStatus.SEE_OTHER)
    is_news = is_save and bool(sheet.shown) and sent is None
    sheet = replace(sheet, shown=shown)
    live = await draft.live(foreseen)
    return await _form_page(sheet, request, caller, services, foreseen=foreseen, is_news=is_news, live=live, sent=sent)


async def _let_through(draft: _Draft, form: FormData, request: Request, services: Services) -> Sent | None:
    """None, or the form that goes back with what was shown, because the second factor was not."""
    try:
        await draft.step_up(given(form, "code").get("code"), alone_of(form))
    except Refusal as error:
        if not is_mendable(error):
            raise
        back = returned(error, wording_of(request, services).language, place_of=only("code", "alone"))
        return Sent(about=_SAVE, form=form, back=back)
    return None


def _to_broadcast(broadcast_id: uuid.UUID) -> Response:
    return RedirectResponse(f"/broadcasts/{broadcast_id}", status_code=HTTPStatus.SEE_OTHER)


async def _given_back(sheet: Sheet, error: Refusal, request: Request, caller: Caller, services: Services) -> Response:
    """The form with what was typed and what is wrong where; of what has changed meanwhile the present version."""
    if sheet.stored is not None:
        async with services.database.connection() as connection:
            sheet = replace(sheet, stored=await broadcast_store.broadcast(connection, sheet.stored.broadcast_id))
    back = returned(
        error,
        wording_of(request, services).language,
        place_of=lambda field: broadcast_forms.place_of(field, sheet.typed),
    )
    return await _form_page(replace(sheet, shown=""), request, caller, services, back=back)


class _Draft:
    """What a form asks for, by the functions that save it: once to see what it would do, once to do it."""

    def __init__(
        self, sheet: Sheet, body: BroadcastBody, version: str | None, caller: Caller, services: Services
    ) -> None:
        self._sheet = sheet
        self._wish = body.wish()
        self._version = version
        self._caller = caller
        self._services = services
        stored = sheet.stored
        asked = body.model_dump(mode="json")
        # Whoever goes back and changes something asks for something else.
        said = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        self._key = idempotency.key_of(
            f"{sheet.key}-{said}",
            account_id=caller.actor.account_id,
            operation="make_broadcast" if stored is None else f"change_broadcast {stored.broadcast_id}",
            body=asked,
        )

    async def _stands(self, connection: Connection) -> StoredBroadcast | None:
        """What it takes the place of, locked, in the version that was shown."""
        stored = self._sheet.stored
        return None if stored is None else await _as_shown(connection, stored.broadcast_id, self._version)

    async def _try_out(self, connection: Connection) -> Accepted:
        return await airing.try_out(
            connection, self._services, self._caller, self._wish, instead_of=await self._stands(connection)
        )

    async def foreseen(self, detail: str) -> Foreseen:
        unit_text, _, after = detail.partition("/")
        what_if = WhatIf(
            dry_run=True,
            detail_unit=uuid_of(unit_text, field="detail") if unit_text else None,
            detail_after=after[:48],
            detail_limit=DEVICES_SHOWN,
        )
        accepted, outlook = await what_if.carry_out(
            self._services, self._caller, self._try_out, unit_id=self._wish.unit_id, first_day=_first_day
        )
        assert outlook is not None
        own: dict[uuid.UUID, str] = {accepted.broadcast.broadcast_id: self._wish.title}
        return Foreseen(outlook=outlook, titles=await titles_in(self._services, outlook, own), accepted=accepted)

    async def live(self, foreseen: Foreseen) -> Live | None:
        """What saving asks for besides, with something live in it."""
        if not step_up.is_live(self._wish):
            return None
        assert foreseen.accepted is not None, "something is asked for"
        return Live(
            code=await code_asked(self._services, self._caller),
            asks_second=await asks_second(foreseen.accepted.device_nos, Danger.LIVE, self._caller, self._services),
        )

    async def step_up(self, code: str | None, alone: str | None) -> None:
        """Let through whoever may save it now. Raises what the second factor raises."""
        await step_up.demand_live(self._services, self._caller, self._wish, code=code, alone=alone)

    async def save(self, alone: str | None) -> str:
        """Save it once, however often the form is sent; where to go on: its page, or that of what waits for somebody.

        `alone` is why somebody does not wait for a second person.
        """
        async with self._services.database.transaction() as connection:

            async def carry_out() -> str:
                await airing.take_turn(connection, self._caller, self._wish)
                saved = await airing.save(
                    connection,
                    self._services,
                    self._caller,
                    self._wish,
                    instead_of=await self._stands(connection),
                    alone=alone,
                )
                if isinstance(saved, Accepted):
                    return f"/broadcasts/{saved.broadcast.broadcast_id}"
                return f"/alerts/requests/{saved.request_id}"

            saved, _ = await idempotency.once(connection, self._key, carry_out, now=self._caller.now)
        return str(saved)

    async def saved_before(self) -> str | None:
        """Where to go on when this very form was saved before: somebody pressed the button twice."""
        async with self._services.database.connection() as connection:
            answer = await idempotency.answered(connection, self._key, now=self._caller.now)
        return None if answer is None else str(answer)


def _first_day(accepted: Accepted) -> date:
    return accepted.first_day


async def _as_shown(connection: Connection, broadcast_id: uuid.UUID, version: str | None) -> StoredBroadcast:
    """The broadcast, locked. Raises `Conflict` when it is not the version that was shown."""
    stored = await broadcast_store.broadcast_for_update(connection, broadcast_id)
    if version != str(stored.version):
        raise Conflict("changed_meanwhile")
    return stored


def _digest(body: BroadcastBody | None, foreseen: Foreseen) -> str:
    """What was asked for and what it would do to people, as one word; which files devices have already is not in it."""
    outlook, accepted = foreseen.outlook, foreseen.accepted
    told: list[Any] = [
        None if body is None else body.model_dump(mode="json"),
        None if accepted is None else [accepted.broadcast.state, accepted.devices, accepted.first.isoformat()],
        [outlook.add, outlook.withdraw, outlook.stop],
        [[str(each.unit_id), each.devices, each.counts, each.quiet_devices] for each in outlook.units],
        *(
            sorted([each.problem, str(each.unit_id), each.occurrences] for each in some)
            for some in (outlook.findings, outlook.settled)
        ),
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


# --- withdrawing -----------------------------------------------------------------------------------------------------


@router.get("/broadcasts/{broadcast_id}/withdraw", response_class=HTMLResponse)
async def withdraw_page(broadcast_id: uuid.UUID, request: Request, caller: Changer, services: Parts) -> Response:
    """What withdrawing it would do, and the button."""
    async with services.database.connection() as connection:
        stored = await broadcast_store.broadcast(connection, broadcast_id)
    return await _withdrawal_page(stored, request, caller, services)


@router.post("/broadcasts/{broadcast_id}/withdraw", response_class=HTMLResponse)
async def withdraw(broadcast_id: uuid.UUID, request: Request, caller: Changer, services: Parts) -> Response:
    """Withdraw the version that was shown."""
    values = given(await form_of(request), "version")
    try:
        async with services.database.transaction() as connection:
            stored = await _as_shown(connection, broadcast_id, values.get("version"))
            await broadcasts.withdraw(connection, stored, actor=caller.actor, origin=caller.origin, now=caller.now)
    except Conflict as error:
        async with services.database.connection() as connection:
            stored = await broadcast_store.broadcast(connection, broadcast_id)
        if stored.state == broadcasts.WITHDRAWN:
            raise
        back = returned(error, wording_of(request, services).language)
        return await _withdrawal_page(stored, request, caller, services, back=back)
    return _to_broadcast(broadcast_id)


async def _withdrawal_page(
    stored: StoredBroadcast, request: Request, caller: Caller, services: Services, *, back: Returned | None = None
) -> Response:
    async def carry_out(connection: Connection) -> StoredBroadcast:
        found = await broadcast_store.broadcast_for_update(connection, stored.broadcast_id)
        return await broadcasts.withdraw(connection, found, actor=caller.actor, origin=caller.origin, now=caller.now)

    what_if = WhatIf(dry_run=True, detail_unit=None, detail_after="", detail_limit=DEVICES_SHOWN)
    _, outlook = await what_if.carry_out(services, caller, carry_out, unit_id=stored.wish.unit_id)
    assert outlook is not None
    titles = await titles_in(services, outlook, {stored.broadcast_id: stored.wish.title})
    unit_id = stored.wish.unit_id
    return page(
        request,
        services,
        "withdraw.html",
        caller=caller,
        http_status=HTTPStatus.OK if back is None else back.status,
        trail=trail_of(caller, unit_id),
        units=caller.rights.tree,
        stored=stored,
        wish=stored.wish,
        foreseen=Foreseen(outlook=outlook, titles=titles),
        back=back,
    )


# --- the form --------------------------------------------------------------------------------------------------------


async def _form_page(
    sheet: Sheet,
    request: Request,
    caller: Caller,
    services: Services,
    *,
    foreseen: Foreseen | None = None,
    is_news: bool = False,
    live: Live | None = None,
    sent: Sent | None = None,
    back: Returned | None = None,
) -> Response:
    """The form, with everything there is to choose from. `is_news`: what it would do is no longer what was shown.

    `sent`: it was to be saved as it was shown, and whoever did so was not let through.
    """
    back = sent.back if sent is not None else back
    tree, unit_id = caller.rights.tree, sheet.unit_id
    stored = None if sheet.stored is None else sheet.stored.wish
    async with services.database.connection() as connection:
        groups = await _groups(connection, unit_id, caller)
        stated = await policy_store.policies_of(connection, tree.path(unit_id))
        spoken, jingles = await _bulletins(connection, sheet.typed, unit_id, caller)
        sources = await _sources(connection, sheet.typed, unit_id, caller)
        others = () if stored is None else await _others(connection, stored, sheet.typed, caller)
    status = HTTPStatus.CONFLICT if is_news else HTTPStatus.OK
    return page(
        request,
        services,
        "broadcast_form.html",
        caller=caller,
        http_status=status if back is None else back.status,
        trail=trail_of(caller, unit_id),
        unit=tree.get(unit_id),
        unit_id=unit_id,
        units=tree,
        below=[(each, _depth_below(caller, unit_id, each)) for each in _below(caller, unit_id)],
        sheet=sheet,
        typed=sheet.typed,
        stored=sheet.stored,
        days=(*((KEPT,) if stored is not None and _is_kept(sheet.typed, stored) else ()), *broadcast_forms.DAYS),
        spoken=spoken,
        jingles=jingles,
        sources=sources,
        groups=groups,
        others=others,
        sessions=sessions_of(stated, unit_id, tree),
        foreseen=foreseen,
        is_news=is_news,
        live=live,
        sent=sent,
        back=back,
        max_rows=broadcast_forms.MAX_ROWS,
    )


def _is_kept(typed: Typed, stored: Wish) -> bool:
    """Whether the stored days are none the form has a choice for."""
    return typed.days == KEPT or broadcast_forms.typed_of_wish(stored, units=(), groups=()).days == KEPT


def _below(caller: Caller, unit_id: UnitId) -> list[UnitVersion]:
    """The units below, parents before children."""
    tree = caller.rights.tree
    found = (tree.get(each) for each in tree.subtree(unit_id) if tree.stands(each) and each != unit_id)
    return [each for each in found if each is not None]


def _depth_below(caller: Caller, unit_id: UnitId, unit: UnitVersion) -> int:
    tree = caller.rights.tree
    return (tree.depth(unit.unit_id) or 0) - (tree.depth(unit_id) or 0)


async def _groups(connection: Connection, unit_id: UnitId, caller: Caller) -> Sequence[Group]:
    return await group_store.groups_of(connection, caller.rights.tree.subtree(unit_id), limit=_CHOICES)


async def _bulletins(
    connection: Connection, typed: Typed, unit_id: UnitId, caller: Caller
) -> tuple[list[Bulletin], list[Bulletin]]:
    """What may be broadcast, the unit's own first, and the jingles; and what the form names already."""
    seen = caller.rights.reach(Permission.SEE_BULLETINS)
    found = await bulletin_store.bulletins_of(connection, seen, state=bulletins.APPROVED, before=None, limit=_CHOICES)
    usable = {
        each.bulletin_id: each
        for each in sorted(found, key=lambda each: each.unit_id != unit_id)
        if (each.expires_at is None or each.expires_at > caller.now) and each.superseded_by is None
    }
    named = await bulletin_store.bulletins_by_id(connection, _named(typed, "bulletin") - usable.keys())
    readable = [each for each in named.values() if each.unit_id in seen]
    together = [*usable.values(), *readable]
    return (
        [each for each in together if each.kind != "jingle"],
        [each for each in together if each.kind == "jingle"],
    )


async def _sources(
    connection: Connection, typed: Typed, unit_id: UnitId, caller: Caller
) -> list[tuple[str, StoredSource, float | None]]:
    """Relay sources one may use, as the form names them; those with a fixed beginning where the form has one."""
    seen = caller.rights.reach(Permission.SEE_BROADCASTS) | set(caller.rights.tree.ancestors(unit_id))
    found = [each for each in await relay_store.sources(connection, has_retired=False) if each.unit_id in seen]
    by_id = {str(each.source_id): each for each in found}
    named = [row.what.partition(":") for row in typed.items]
    pinned = [(kind, *text.partition("@")) for kind, _, text in named if kind in broadcast_forms.RELAYED]
    return [(f"{kind}:{each.source_id}", each, None) for kind in broadcast_forms.RELAYED for each in found] + [
        (f"{kind}:{source}@{after}", by_id[source], float(after))
        for kind, source, _, after in dict.fromkeys(pinned)
        if source in by_id and after.replace(".", "", 1).isdecimal()
    ]


def _named(typed: Typed, kind: str) -> set[uuid.UUID]:
    found = set()
    for row in typed.items:
        named, _, text = row.what.partition(":")
        if named == kind:
            try:
                found.add(uuid.UUID(text))
            except ValueError:
                continue
    return found


async def _others(connection: Connection, stored: Wish, typed: Typed, caller: Caller) -> list[tuple[str, Any, bool]]:
    """Targets the form has no box for, and whether they are still wanted."""
    named = zip(stored.targets, await targets_of(connection, stored, caller), strict=True)
    boxes = broadcast_forms.typed_of_wish(
        stored,
        units={each.unit_id for each in _below(caller, stored.unit_id)},
        groups={str(each.group_id) for each in await _groups(connection, stored.unit_id, caller)},
    ).others
    words = [(broadcast_forms.other_word(target), shown) for target, shown in named]
    return [(word, shown, word in typed.others) for word, shown in words if word in boxes]
