"""Bulletins: submitted by officers, decided on by approvers."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from schemas.identifiers import BulletinId, UnitId
from services.control import bulletin_store, bulletins
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.errors import documented
from services.control.api.fields import Answer, BoardText, Body, Instant, LanguageTag, Name, Note, Sha256Text, Title
from services.control.bulletin_store import Bulletin
from services.control.errors import Fault, Invalid
from services.control.permissions import Permission

router = APIRouter(prefix="/api/v1", tags=["bulletins"])

Lister = Annotated[Caller, requires(Permission.SEE_BULLETINS, Scope.ANYWHERE)]
Reader = Annotated[Caller, requires(Permission.SEE_BULLETINS, Scope.BULLETIN)]
Maker = Annotated[Caller, requires(Permission.MAKE_BULLETINS, Scope.BODY)]
Withdrawer = Annotated[Caller, requires(Permission.MAKE_BULLETINS, Scope.BULLETIN)]
Decider = Annotated[Caller, requires(Permission.DECIDE_BULLETINS, Scope.BULLETIN)]


class NewBulletin(Body):
    """Content for approval: a sound file uploaded before, a text for boards, or both."""

    unit_id: uuid.UUID
    title: Title
    subject_field: str = Field(max_length=64, description="a code of /api/v1/subject-fields (R-08)")
    language: LanguageTag = "vi"
    author: Name | None = None
    media_sha256: Sha256Text | None = None
    board_text: BoardText | None = None


class Decision(Body):
    """Why, for whoever reads it later."""

    note: Note | None = None


class BulletinView(Answer):
    """A bulletin; its content never changes, its state does."""

    bulletin_id: uuid.UUID
    unit_id: uuid.UUID
    title: str
    subject_field: str
    language: str
    author: str | None
    media_sha256: str | None
    duration_ms: int | None
    is_silent: bool = Field(description="there is a sound file and nothing can be heard in it")
    board_text: str | None
    content_hash: str
    state: str
    created_at: datetime
    created_by: uuid.UUID
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    decision_note: str | None


class SubjectFieldView(Answer):
    """A category of essential information."""

    code: str
    name_vi: str
    name_en: str
    exchange_code: int | None


def bulletin_view(bulletin: Bulletin) -> BulletinView:
    """A bulletin."""
    return BulletinView(
        bulletin_id=bulletin.bulletin_id,
        unit_id=bulletin.unit_id,
        title=bulletin.title,
        subject_field=bulletin.subject_field,
        language=bulletin.language,
        author=bulletin.author,
        media_sha256=bulletin.media_sha256.hex() if bulletin.media_sha256 else None,
        duration_ms=bulletin.duration_ms,
        is_silent=bulletin.is_silent,
        board_text=bulletin.board_text,
        content_hash=bulletin.content_hash.hex(),
        state=bulletin.state,
        created_at=bulletin.created_at,
        created_by=bulletin.created_by,
        decided_at=bulletin.decided_at,
        decided_by=bulletin.decided_by,
        decision_note=bulletin.decision_note,
    )


@router.get("/subject-fields", responses=documented([401, 403]))
async def list_subject_fields(caller: Lister, services: Parts) -> list[SubjectFieldView]:
    """The categories a bulletin may have."""
    del caller
    async with services.database.connection() as connection:
        found = await bulletin_store.subject_fields(connection)
    return [
        SubjectFieldView(code=each.code, name_vi=each.name_vi, name_en=each.name_en, exchange_code=each.exchange_code)
        for each in found
    ]


@router.get("/bulletins", responses=documented([401, 403, 422]))
async def list_bulletins(
    caller: Lister,
    services: Parts,
    state: Annotated[Literal["submitted", "approved", "rejected", "withdrawn"] | None, Query()] = None,
    before: Annotated[Instant | None, Query(description="only older ones")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[BulletinView]:
    """Bulletins of the units one may see, newest first."""
    async with services.database.connection() as connection:
        found = await bulletin_store.bulletins_of(
            connection, caller.rights.reach(Permission.SEE_BULLETINS), state=state, before=before, limit=limit
        )
    return [bulletin_view(each) for each in found]


@router.post("/bulletins", status_code=201, responses=documented([401, 403, 422]))
async def create_bulletin(body: NewBulletin, caller: Maker, services: Parts) -> BulletinView:
    """Submit a bulletin for approval. From here on its content is frozen."""
    unit_id = UnitId(body.unit_id)
    if unit_id not in caller.rights.tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    caller.demand(Permission.MAKE_BULLETINS, unit_id, field="unit_id")
    bulletin = Bulletin(
        bulletin_id=BulletinId(uuid.uuid4()),
        unit_id=unit_id,
        title=body.title,
        subject_field=body.subject_field,
        language=body.language,
        author=body.author,
        media_sha256=bytes.fromhex(body.media_sha256) if body.media_sha256 is not None else None,
        board_text=body.board_text,
        content_hash=b"",
        state=bulletins.SUBMITTED,
        created_at=caller.now,
        created_by=caller.actor.account_id,
    )
    async with services.database.transaction() as connection:
        stored = await bulletins.submit(connection, bulletin, actor=caller.actor, origin=caller.origin, now=caller.now)
    return bulletin_view(stored)


@router.get("/bulletins/{bulletin_id}", responses=documented([401, 403, 404]))
async def get_bulletin(bulletin_id: uuid.UUID, caller: Reader, services: Parts) -> BulletinView:
    """One bulletin."""
    del caller
    async with services.database.connection() as connection:
        return bulletin_view(await bulletin_store.bulletin(connection, bulletin_id))


@router.post("/bulletins/{bulletin_id}/approve", responses=documented([401, 403, 404, 409]))
async def approve_bulletin(
    bulletin_id: uuid.UUID, caller: Decider, services: Parts, body: Decision | None = None
) -> BulletinView:
    """Approve a bulletin: it may be broadcast."""
    return await _decide(bulletin_id, bulletins.APPROVED, body, caller, services)


@router.post("/bulletins/{bulletin_id}/reject", responses=documented([401, 403, 404, 409]))
async def reject_bulletin(
    bulletin_id: uuid.UUID, caller: Decider, services: Parts, body: Decision | None = None
) -> BulletinView:
    """Reject a bulletin."""
    return await _decide(bulletin_id, bulletins.REJECTED, body, caller, services)


async def _decide(
    bulletin_id: uuid.UUID, state: str, body: Decision | None, caller: Caller, services: Parts
) -> BulletinView:
    async with services.database.transaction() as connection:
        bulletin = await bulletin_store.bulletin_for_update(connection, bulletin_id)
        decided = await bulletins.decide(
            connection,
            bulletin,
            state,
            note=body.note if body else None,
            may_decide_own=services.policy.may_approve_own,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return bulletin_view(decided)


@router.post("/bulletins/{bulletin_id}/withdraw", responses=documented([401, 403, 404, 409]))
async def withdraw_bulletin(
    bulletin_id: uuid.UUID, caller: Withdrawer, services: Parts, body: Decision | None = None
) -> BulletinView:
    """Take a bulletin out of use: what is planned with it is not played any more."""
    async with services.database.transaction() as connection:
        bulletin = await bulletin_store.bulletin_for_update(connection, bulletin_id)
        withdrawn = await bulletins.withdraw(
            connection,
            bulletin,
            note=body.note if body else None,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return bulletin_view(withdrawn)
