"""Bulletins: drafted and submitted by officers, decided on by approvers."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field

from schemas.identifiers import UnitId
from services.control import bulletin_store, bulletins, policies, policy_store, versions
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import (
    Answer,
    BoardText,
    Body,
    Instant,
    LanguageTag,
    Name,
    Note,
    Number,
    PlannedInstant,
    Sha256Text,
    Title,
    Whole,
)
from services.control.api.places import BeforeId, link_next
from services.control.api.views import UnitRef, unit_ref
from services.control.api.what_if import AskedWhatIf, OutlookView
from services.control.bulletin_store import Bulletin, Content, Usage
from services.control.errors import Fault, Invalid
from services.control.permissions import Permission
from services.control.units import UnitTree
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1", tags=["bulletins"])

Lister = Annotated[Caller, requires(Permission.SEE_BULLETINS, Scope.ANYWHERE)]
Reader = Annotated[Caller, requires(Permission.SEE_BULLETINS, Scope.BULLETIN)]
Maker = Annotated[Caller, requires(Permission.MAKE_BULLETINS, Scope.BODY)]
Editor = Annotated[Caller, requires(Permission.MAKE_BULLETINS, Scope.BULLETIN)]
Decider = Annotated[Caller, requires(Permission.DECIDE_BULLETINS, Scope.BULLETIN)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]

Origin = Literal["commune", "district", "province", "centre", "relay"]
State = Literal["draft", "submitted", "approved", "rejected", "withdrawn"]

MAX_PLAYS = 10_000
MAX_BOARD_LENGTH = timedelta(hours=1)


class BulletinContent(Body):
    """What is said and shown: sound for clusters; for boards a text, or a picture or film; files uploaded before."""

    title: Title
    subject_field: str = Field(max_length=64, description="a code of /api/v1/subject-fields (R-08)")
    language: LanguageTag = "vi"
    author: Name | None = None
    kind: Literal["bulletin", "jingle"] = Field(default="bulletin", description="a jingle goes around bulletins")
    origin: Origin | None = Field(default=None, description="whose it is (R-09); default: the level of the unit")
    media_sha256: Sha256Text | None = Field(default=None, description="a sound")
    board_text: BoardText | None = None
    board_style: Literal["text", "ticker"] = Field(default="text", description="standing, or running in one line")
    board_media_sha256: Sha256Text | None = Field(default=None, description="a picture or film, instead of a text")
    board_length_s: Number | None = Field(
        default=None,
        ge=1,
        le=MAX_BOARD_LENGTH.total_seconds(),
        description="how long a text or picture stands when there is no sound beside it",
    )
    expires_at: PlannedInstant | None = Field(default=None, description="stale news: nothing of it begins from here on")
    max_plays: Whole | None = Field(
        default=None, ge=1, le=MAX_PLAYS, description="only in so many occurrences of a broadcast, the first ones"
    )

    def content(self, unit_id: UnitId, tree: UnitTree) -> Content:
        """The content as it is stored."""
        return Content(
            title=self.title,
            subject_field=self.subject_field,
            language=self.language,
            author=self.author,
            kind=self.kind,
            origin=self.origin or _origin_of(unit_id, tree),
            media_sha256=bytes.fromhex(self.media_sha256) if self.media_sha256 is not None else None,
            board_text=self.board_text,
            board_style=self.board_style,
            board_media_sha256=bytes.fromhex(self.board_media_sha256) if self.board_media_sha256 is not None else None,
            board_length_ms=round(self.board_length_s * 1000) if self.board_length_s is not None else None,
            expires_at=self.expires_at,
            max_plays=self.max_plays,
        )


class NewBulletin(BulletinContent):
    """A bulletin for approval at once, or a draft to work on. Content changes in drafts only."""

    unit_id: uuid.UUID
    state: Literal["draft", "submitted"] = "submitted"
    supersedes: uuid.UUID | None = Field(
        default=None, description="a bulletin of the unit that was decided on, of which this is the new version"
    )


class Decision(Body):
    """Why, for whoever reads it later."""

    note: Note | None = None


class BulletinView(Answer):
    """A bulletin; `version` is its ETag. `stage` is its state, and for an approved one how far it has come since."""

    bulletin_id: uuid.UUID
    version: int
    unit_id: uuid.UUID
    title: str
    subject_field: str
    language: str
    author: str | None
    kind: str
    origin: str
    media_sha256: str | None
    duration_ms: int | None
    is_silent: bool = Field(description="there is a sound file and nothing can be heard in it")
    board_text: str | None
    board_style: str
    board_media_sha256: str | None
    board_mime: str | None
    board_duration_ms: int | None = Field(description="of a film")
    board_length_s: float | None
    expires_at: datetime | None
    max_plays: int | None
    content_hash: str = Field(description="SHA-256 over the content, frozen from submission on")
    is_intact: bool = Field(description="whether the content still has this hash")
    state: str
    stage: str = Field(description="draft, submitted, rejected, withdrawn, approved, scheduled or played")
    first_played_at: datetime | None = Field(description="by devices' own word")
    supersedes: uuid.UUID | None
    superseded_by: uuid.UUID | None
    created_at: datetime
    created_by: uuid.UUID
    edited_by: list[uuid.UUID] = Field(description="everybody who had a hand in the content")
    submitted_at: datetime | None
    submitted_by: uuid.UUID | None
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    decision_note: str | None


class WithdrawnView(BulletinView):
    """A bulletin that was taken out of use."""

    fallback_of: list[UnitRef] = Field(
        description="units whose policy names it: nothing sounds there any more when a device has run out of its plan"
    )
    outlook: OutlookView | None = Field(description="of a dry run: what it would do; nothing was stored")


class SubjectFieldView(Answer):
    """A category of essential information."""

    code: str
    name_vi: str
    name_en: str
    exchange_code: int | None


def bulletin_view(bulletin: Bulletin, usage: Usage | None = None) -> BulletinView:
    """A bulletin and what is done with it."""
    use = usage or Usage()
    board_media = bulletin.board_media_sha256
    return BulletinView(
        bulletin_id=bulletin.bulletin_id,
        version=bulletin.version,
        unit_id=bulletin.unit_id,
        title=bulletin.title,
        subject_field=bulletin.subject_field,
        language=bulletin.language,
        author=bulletin.author,
        kind=bulletin.kind,
        origin=bulletin.origin,
        media_sha256=bulletin.media_sha256.hex() if bulletin.media_sha256 else None,
        duration_ms=bulletin.duration_ms,
        is_silent=bulletin.is_silent,
        board_text=bulletin.board_text,
        board_style=bulletin.board_style,
        board_media_sha256=board_media.hex() if board_media else None,
        board_mime=bulletin.board_mime,
        board_duration_ms=bulletin.board_duration_ms,
        board_length_s=bulletin.board_length_ms / 1000 if bulletin.board_length_ms is not None else None,
        expires_at=bulletin.expires_at,
        max_plays=bulletin.max_plays,
        content_hash=bulletin.content_hash.hex(),
        is_intact=bulletins.is_intact(bulletin),
        state=bulletin.state,
        stage=bulletins.stage(bulletin, use),
        first_played_at=use.first_played_at,
        supersedes=bulletin.supersedes,
        superseded_by=bulletin.superseded_by,
        created_at=bulletin.created_at,
        created_by=bulletin.created_by,
        edited_by=sorted(bulletin.edited_by),
        submitted_at=bulletin.submitted_at,
        submitted_by=bulletin.submitted_by,
        decided_at=bulletin.decided_at,
        decided_by=bulletin.decided_by,
        decision_note=bulletin.decision_note,
    )


def _origin_of(unit_id: UnitId, tree: UnitTree) -> str:
    """What the level of the unit makes it; where the tree has other levels, the lowest."""
    unit = tree.get(unit_id)
    return unit.level if unit is not None and unit.level in ("district", "province") else "commune"


def _answer(response: Response, bulletin: Bulletin, usage: Usage | None = None) -> BulletinView:
    response.headers["ETag"] = versions.etag(bulletin.version)
    return bulletin_view(bulletin, usage)


def _check_version(bulletin: Bulletin, if_match: str | None, *, given: object) -> None:
    versions.check(bulletin.version, if_match, bulletin_view(bulletin).model_dump(mode="json"), given=given)


@router.get("/subject-fields")
async def list_subject_fields(caller: Lister, services: Parts) -> list[SubjectFieldView]:
    """The categories a bulletin may have."""
    del caller
    async with services.database.connection() as connection:
        found = await bulletin_store.subject_fields(connection)
    return [
        SubjectFieldView(code=each.code, name_vi=each.name_vi, name_en=each.name_en, exchange_code=each.exchange_code)
        for each in found
    ]


@router.get("/bulletins")
async def list_bulletins(
    caller: Lister,
    request: Request,
    response: Response,
    services: Parts,
    state: Annotated[State | None, Query()] = None,
    before: Annotated[Instant | None, Query(description="only older ones")] = None,
    before_id: BeforeId = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[BulletinView]:
    """Bulletins of the units one may see, newest first; those of one instant by their id.

    The header `Link` names the next page (`rel="next"`), if there is one: it begins behind the last one of this page.
    """
    today = services.directory.today(now=caller.now)
    async with services.database.connection() as connection:
        found = await bulletin_store.bulletins_of(
            connection,
            caller.rights.reach(Permission.SEE_BULLETINS),
            state=state,
            before=before,
            before_id=before_id,
            limit=limit + 1,
        )
        shown = found[:limit]
        usage = await bulletin_store.usage_of(
            connection, [each.bulletin_id for each in shown], today=today, now=caller.now
        )
    if len(found) > limit:
        link_next(request, response, shown[-1].created_at, shown[-1].bulletin_id)
    return [bulletin_view(each, usage.get(each.bulletin_id)) for each in shown]


@router.post("/bulletins", status_code=201)
async def create_bulletin(body: NewBulletin, caller: Maker, response: Response, services: Parts) -> BulletinView:
    """Submit a bulletin for approval: from here on its content is frozen. Or keep it as a draft."""
    unit_id = UnitId(body.unit_id)
    if not caller.rights.tree.stands(unit_id):
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    caller.demand(Permission.MAKE_BULLETINS, unit_id, field="unit_id")
    async with services.database.transaction() as connection:
        stored = await bulletins.create(
            connection,
            body.content(unit_id, caller.rights.tree),
            unit_id=unit_id,
            is_draft=body.state == bulletins.DRAFT,
            supersedes=body.supersedes,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return _answer(response, stored)


@router.get("/bulletins/{bulletin_id}")
async def get_bulletin(bulletin_id: uuid.UUID, caller: Reader, response: Response, services: Parts) -> BulletinView:
    """One bulletin. Its ETag is what If-Match wants."""
    today = services.directory.today(now=caller.now)
    async with services.database.connection() as connection:
        found = await bulletin_store.bulletin(connection, bulletin_id)
        usage = await bulletin_store.usage_of(connection, [bulletin_id], today=today, now=caller.now)
    return _answer(response, found, usage.get(bulletin_id))


@router.put("/bulletins/{bulletin_id}")
async def edit_bulletin(
    bulletin_id: uuid.UUID,
    body: BulletinContent,
    caller: Editor,
    response: Response,
    services: Parts,
    if_match: IfMatch = None,
) -> BulletinView:
    """Put other content into a draft; If-Match must name the version one has read. 409 once it was submitted."""
    async with services.database.transaction() as connection:
        bulletin = await bulletin_store.bulletin_for_update(connection, bulletin_id)
        _check_version(bulletin, if_match, given=body.model_dump(mode="json"))
        edited = await bulletins.edit(
            connection,
            bulletin,
            body.content(bulletin.unit_id, caller.rights.tree),
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return _answer(response, edited)


@router.post("/bulletins/{bulletin_id}/submit")
async def submit_bulletin(
    bulletin_id: uuid.UUID, caller: Editor, response: Response, services: Parts, if_match: IfMatch = None
) -> BulletinView:
    """Hand a draft in for approval: from here on its content is frozen. If-Match is looked at when it is there."""
    async with services.database.transaction() as connection:
        bulletin = await bulletin_store.bulletin_for_update(connection, bulletin_id)
        if if_match is not None:
            _check_version(bulletin, if_match, given={"state": bulletins.SUBMITTED})
        submitted = await bulletins.submit(
            connection, bulletin, actor=caller.actor, origin=caller.origin, now=caller.now
        )
    return _answer(response, submitted)


@router.post("/bulletins/{bulletin_id}/approve")
async def approve_bulletin(
    bulletin_id: uuid.UUID, caller: Decider, response: Response, services: Parts, body: Decision | None = None
) -> BulletinView:
    """Approve a bulletin: it may be broadcast."""
    return await _decide(bulletin_id, bulletins.APPROVED, body, caller, response, services)


@router.post("/bulletins/{bulletin_id}/reject")
async def reject_bulletin(
    bulletin_id: uuid.UUID, caller: Decider, response: Response, services: Parts, body: Decision | None = None
) -> BulletinView:
    """Reject a bulletin. It is opened again as a new version, which `supersedes` it."""
    return await _decide(bulletin_id, bulletins.REJECTED, body, caller, response, services)


async def _decide(
    bulletin_id: uuid.UUID, state: str, body: Decision | None, caller: Caller, response: Response, services: Parts
) -> BulletinView:
    async with services.database.transaction() as connection:
        bulletin = await bulletin_store.bulletin_for_update(connection, bulletin_id)
        stated = await policy_store.policies_of(connection, caller.rights.tree.path(bulletin.unit_id))
        decided = await bulletins.decide(
            connection,
            bulletin,
            state,
            note=body.note if body else None,
            may_decide_own=policies.may_approve_own(
                stated, bulletin.unit_id, caller.rights.tree, may_approve_own=services.policy.may_approve_own
            ),
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
    return _answer(response, decided)


@router.post("/bulletins/{bulletin_id}/withdraw")
async def withdraw_bulletin(
    bulletin_id: uuid.UUID,
    caller: Editor,
    response: Response,
    services: Parts,
    what_if: AskedWhatIf,
    body: Decision | None = None,
) -> WithdrawnView:
    """Take a bulletin out of use, or give a draft up: what is planned with it is not played any more."""
    async with services.database.connection() as connection:
        concerned = await bulletin_store.issuers_with(connection, bulletin_id)
        falling_back = await policy_store.units_falling_back_on(connection, bulletin_id)

    async def save(connection: Connection) -> Bulletin:
        bulletin = await bulletin_store.bulletin_for_update(connection, bulletin_id)
        return await bulletins.withdraw(
            connection,
            bulletin,
            note=body.note if body else None,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )

    # Whoever broadcasts it: what is planned below the lowest unit above all of them is all that can change.
    below = caller.rights.tree.common(concerned) or concerned[0]
    withdrawn, outlook = await what_if.carry_out(services, caller, save, unit_id=below)
    if outlook is None:
        response.headers["ETag"] = versions.etag(withdrawn.version)
    fallback_of = [unit_ref(caller.rights.tree, each) for each in falling_back]
    return WithdrawnView(**bulletin_view(withdrawn).model_dump(), fallback_of=fallback_of, outlook=outlook)
