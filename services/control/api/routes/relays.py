"""Relay sources, kept by operators; and what the relay point hands out of them to devices (R-21).

Devices read lists and segments without a login: what is relayed is public the moment it sounds, and they believe nothing
but what is signed. Who may see broadcasts may see every source, also those of other units: any unit may relay the
province's.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field, model_validator

from schemas.identifiers import BulletinId, UnitId
from services.control import (
    account_store,
    operation_kinds,
    operations,
    ranges,
    relay_addresses,
    relay_sources,
    relay_store,
    versions,
)
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.errors import language_of
from services.control.api.faults import FieldFault
from services.control.api.fields import Answer, Body, Flag, Name
from services.control.api.requests import MAY_WAIT, RequestView, by, means, waiting
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.api.what_if import AskedWhatIf, OutlookView, WhatIf
from services.control.catalogue.texts import Language, text
from services.control.errors import Fault, Invalid, NotFound
from services.control.operation_performing import Done
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.control.relay_point import LIST_VALID
from services.control.relay_reader import MIME
from services.control.relay_store import IDLE, StoredSource
from services.shared.database.pool import Connection

router = APIRouter(tags=["relays"])

Reader = Annotated[Caller, requires(Permission.SEE_BROADCASTS, Scope.ANYWHERE)]
Maker = Annotated[Caller, requires(Permission.MANAGE_RELAYS, Scope.BODY)]
Keeper = Annotated[Caller, requires(Permission.MANAGE_RELAYS, Scope.RELAY_SOURCE)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]

_LIST_TYPE = 'application/cose; cose-type="cose-sign1"'


class RelaySourceBody(Body):
    """A live source.

    `stream` and `encoder` are read over HTTP by the province's relay point, which signs every segment of their sound.
    With `direct` devices take the source themselves and nobody signs what it says: such a source is unauthenticated, and
    sounds only where the policy of a unit allows that. `fm` is always direct.
    """

    unit_id: uuid.UUID = Field(description="the unit that keeps it")
    name: Name
    kind: Literal["stream", "encoder", "fm"]
    url: str = Field(
        min_length=1, max_length=1_000, description="http:// or https:// address of the sound; of fm: fm://103.5 (MHz)"
    )
    direct: Flag = Field(default=False, description="devices take it themselves: unauthenticated")
    fallback_bulletin_id: uuid.UUID | None = Field(
        default=None, description="an approved bulletin with sound, which fills in while the source is silent or away"
    )
    silence_dbfs: float = Field(default=-50.0, ge=-90, le=-10, description="level (RMS) below which it is silent")
    silence_after_s: float = Field(default=5.0, ge=1, le=600, description="for how long, until that counts")

    @model_validator(mode="after")
    def _devices_can_read_a_direct_address(self) -> Self:
        if self.direct and len(self.url) > relay_addresses.MAX_LENGTH:
            raise FieldFault("relay_url_malformed", limit=relay_addresses.MAX_LENGTH)
        return self

    def wish(self) -> relay_sources.Wish:
        """The source as asked for."""
        return relay_sources.Wish(
            unit_id=UnitId(self.unit_id),
            name=self.name,
            kind=self.kind,
            url=self.url,
            is_direct=self.direct,
            fallback_bulletin_id=BulletinId(self.fallback_bulletin_id) if self.fallback_bulletin_id else None,
            silence_dbfs=self.silence_dbfs,
            silence_after=timedelta(milliseconds=round(self.silence_after_s * 1000)),
        )


class RelayHealthView(Answer):
    """How a source does. It is listened to while one of its emissions is on the air or begins within a minute."""

    state: str = Field(description="idle, connecting, on_air, silent or unreachable")
    since: datetime | None = Field(description="null: it was never relayed")
    last_sound_at: datetime | None
    trouble: str | None = Field(description="why nothing comes from it, a stable word")
    message: str | None = Field(description="the same for people")


class RelaySourceView(Answer):
    """A source; `version` is its ETag."""

    relay_source_id: uuid.UUID
    version: int
    unit_id: uuid.UUID
    name: str
    kind: str
    url: str
    direct: bool
    authenticated: bool = Field(description="whether what it says is signed; false for what devices take themselves")
    fallback_bulletin_id: uuid.UUID | None
    silence_dbfs: float
    silence_after_s: float
    created_at: datetime
    created_by: uuid.UUID
    retired_at: datetime | None
    health: RelayHealthView | None = Field(description="null where devices take the source themselves")


class RehearsedSource(Answer):
    """What changing a source, or taking it out of use, would do to what people hear."""

    outlook: OutlookView


def _view(source: StoredSource, language: Language) -> RelaySourceView:
    return RelaySourceView(
        relay_source_id=source.source_id,
        version=source.version,
        unit_id=source.unit_id,
        name=source.name,
        kind=source.kind,
        url=source.url,
        direct=source.is_direct,
        authenticated=not source.is_direct,
        fallback_bulletin_id=source.fallback_bulletin_id,
        silence_dbfs=source.silence_dbfs,
        silence_after_s=source.silence_after.total_seconds(),
        created_at=source.created_at,
        created_by=source.created_by,
        retired_at=source.retired_at,
        health=None if source.is_direct else _health(source, language),
    )


def _health(source: StoredSource, language: Language) -> RelayHealthView:
    health = source.health
    if health is None:
        return RelayHealthView(state=IDLE, since=None, last_sound_at=None, trouble=None, message=None)
    return RelayHealthView(
        state=health.state,
        since=health.since,
        last_sound_at=health.last_sound_at,
        trouble=health.detail,
        message=text(f"relay.trouble.{health.detail}", language) if health.detail else None,
    )


@router.get("/api/v1/relay-sources")
async def list_sources(
    request: Request,
    caller: Reader,
    services: Parts,
    retired: Annotated[bool, Query(description="also those out of use")] = False,
) -> list[RelaySourceView]:
    """Every source, with its health."""
    del caller
    async with services.database.connection() as connection:
        found = await relay_store.sources(connection, has_retired=retired)
    return [_view(each, language_of(request)) for each in found]


@router.post("/api/v1/relay-sources", status_code=201)
async def create_source(
    request: Request,
    body: RelaySourceBody,
    caller: Maker,
    response: Response,
    services: Parts,
    second_factor: GivenCode = None,
) -> RelaySourceView:
    """Enter a source. Where it may be is a matter of the platform's settings; everything wrong is named at once."""
    unit_id = UnitId(body.unit_id)
    if unit_id not in caller.rights.tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    caller.demand(Permission.MANAGE_RELAYS, unit_id, field="unit_id")
    await step_up.demand(services, caller, Operation.LIVE, code=second_factor)
    wish = body.wish()
    async with services.database.transaction() as connection:
        source = await relay_sources.create(
            connection,
            StoredSource(
                source_id=uuid.uuid4(),
                unit_id=wish.unit_id,
                name=wish.name,
                kind=wish.kind,
                url=wish.url,
                is_direct=wish.is_direct,
                fallback_bulletin_id=wish.fallback_bulletin_id,
                silence_dbfs=wish.silence_dbfs,
                silence_after=wish.silence_after,
                version=1,
                created_at=caller.now,
                created_by=caller.actor.account_id,
            ),
            rules=services.relays.rules,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    response.headers["ETag"] = versions.etag(source.version)
    return _view(source, language_of(request))


@router.get("/api/v1/relay-sources/{relay_source_id}")
async def get_source(
    request: Request, relay_source_id: uuid.UUID, caller: Reader, response: Response, services: Parts
) -> RelaySourceView:
    """One source with its health. Its ETag is what If-Match wants."""
    del caller
    async with services.database.connection() as connection:
        source = await relay_store.source(connection, relay_source_id)
    response.headers["ETag"] = versions.etag(source.version)
    return _view(source, language_of(request))


@router.put("/api/v1/relay-sources/{relay_source_id}", responses=MAY_WAIT)
async def replace_source(
    request: Request,
    relay_source_id: uuid.UUID,
    body: RelaySourceBody,
    caller: Keeper,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> RelaySourceView | RehearsedSource | RequestView:
    """Change a source; If-Match must name the version one has read. A relay under way connects anew within seconds.

    Where devices are to sound it and it would say something else, it may wait for a second person.
    """
    language = language_of(request)
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.LIVE, code=second_factor, alone=break_glass)

    async def save(connection: Connection) -> StoredSource | Waiting:
        if not what_if.dry_run:
            # Before the source, as `operations.settle` does: another request of the same person may want it by then.
            await account_store.lock(connection, caller.actor.account_id)
        stored = await relay_store.source_for_update(connection, relay_source_id)
        present = _view(stored, language).model_dump(mode="json")
        versions.check(stored.version, if_match, present, given=body.model_dump(mode="json"))
        if what_if.dry_run:
            return await relay_sources.change(
                connection,
                stored,
                body.wish(),
                rules=services.relays.rules,
                actor=caller.actor,
                origin=caller.origin,
                now=caller.now,
            )
        outcome = await operations.settle(
            connection,
            operation_kinds.retuning(stored, body.wish()),
            by=by(caller),
            means=means(services, break_glass),
            now=caller.now,
        )
        return outcome if isinstance(outcome, Waiting) else _source_of(outcome)

    changed, outlook = await what_if.carry_out(
        services, caller, save, unit_id=await _relaying(services, caller, relay_source_id, what_if)
    )
    if isinstance(changed, Waiting):
        return await waiting(services, response, changed)
    if outlook is not None:
        return RehearsedSource(outlook=outlook)
    response.headers["ETag"] = versions.etag(changed.version)
    return _view(changed, language)


def _source_of(done: Done) -> StoredSource:
    changed: StoredSource = done.answer
    return changed


async def _relaying(services: Services, caller: Caller, source_id: uuid.UUID, what_if: WhatIf) -> UnitId | None:
    """The lowest unit above all that relay a source: what is planned below it is all that a change of it can touch.

    None for what is saved: only who asks what would be is told of units.
    """
    if not what_if.dry_run:
        return None
    async with services.database.connection() as connection:
        concerned = await relay_store.issuers_with(connection, source_id)
    return caller.rights.tree.common(concerned) or concerned[0]


@router.post("/api/v1/relay-sources/{relay_source_id}/retire")
async def retire_source(
    request: Request,
    relay_source_id: uuid.UUID,
    caller: Keeper,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    second_factor: GivenCode = None,
) -> RelaySourceView | RehearsedSource:
    """Take a source out of use. 409 while broadcasts that relay it are planned."""
    if not what_if.dry_run:
        await step_up.demand(services, caller, Operation.LIVE, code=second_factor)

    async def save(connection: Connection) -> StoredSource:
        stored = await relay_store.source_for_update(connection, relay_source_id)
        return await relay_sources.retire(connection, stored, actor=caller.actor, origin=caller.origin, now=caller.now)

    retired, outlook = await what_if.carry_out(
        services, caller, save, unit_id=await _relaying(services, caller, relay_source_id, what_if)
    )
    if outlook is not None:
        return RehearsedSource(outlook=outlook)
    response.headers["ETag"] = versions.etag(retired.version)
    return _view(retired, language_of(request))


# --- for devices -----------------------------------------------------------------------------------------------------


@router.get(
    "/relays/{source_id}",
    response_class=Response,
    responses={200: {"content": {_LIST_TYPE: {}}}, 304: {"description": "Not Modified"}},
)
async def segments_of(source_id: str, request: Request, services: Parts) -> Response:
    """The signed list of the newest segments of a source; 404 while nothing is relayed. For devices."""
    name = _source_id(source_id)
    # One that nobody renews is out of date for devices too; they are not to go by it, but to know that there is none.
    message = await services.relay_files.read_list(name, not_before=services.clock() - LIST_VALID)
    if message is None:
        raise _not_relayed(source_id)
    etag = f'"{hashlib.sha256(message).hexdigest()[:32]}"'
    # A second, so that a proxy in front asks once for all devices.
    headers = {"ETag": etag, "Cache-Control": "public, max-age=1", "X-Content-Type-Options": "nosniff"}
    if ranges.matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(message, media_type=_LIST_TYPE, headers=headers)


@router.get("/relays/{source_id}/{sha256}", response_class=Response, responses={200: {"content": {MIME: {}}}})
async def segment(source_id: str, sha256: str, services: Parts) -> Response:
    """The bytes of a segment. For devices, which believe them by their hash."""
    name = _source_id(source_id)
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise _not_relayed(source_id)
    content = await services.relay_files.read_segment(name, bytes.fromhex(sha256))
    if content is None:
        raise _not_relayed(source_id)
    headers = {
        "Cache-Control": "public, max-age=60, immutable",
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=MIME, headers=headers)


def _source_id(text_: str) -> uuid.UUID:
    try:
        return uuid.UUID(text_)
    except ValueError:
        raise _not_relayed(text_) from None


def _not_relayed(source_id: str) -> NotFound:
    return NotFound("nothing_relayed", facts={"id": source_id[:64]})
