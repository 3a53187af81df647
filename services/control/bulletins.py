"""What people do with bulletins (R-12): draft, submit, approve, reject, withdraw. Works in the caller's transaction.

    draft ──► submitted ──► approved ──► withdrawn
                       └──► rejected

Content changes in a draft only. From submission on it is frozen by a hash, and what was decided on is opened again only
as a new version: a bulletin of its own that names the one it supersedes. The old one stays as it is, and stays in the
broadcasts that hold it, until somebody withdraws it or puts the new one in its place: nothing that was approved is
swapped behind anybody's back. Nobody decides on what they had a hand in themselves, unless that has been allowed.

Whether an approved bulletin is scheduled or was played is not stored: it follows from broadcasts and emissions
(`stage`).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.identifiers import BulletinId, UnitId
from services.control import audit, bulletin_store, planning_queue, policy_store
from services.control.audit import Entry
from services.control.bulletin_store import Bulletin, Content, MediaFile, Usage
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.permissions import Actor
from services.shared.database.pool import Connection

DRAFT, SUBMITTED, APPROVED, REJECTED, WITHDRAWN = "draft", "submitted", "approved", "rejected", "withdrawn"
SCHEDULED, PLAYED = "scheduled", "played"

_DECIDED = frozenset({APPROVED, REJECTED, WITHDRAWN})
_MAX_LIFE = timedelta(days=366 * 2)  # as far ahead as a broadcast may begin

# The canonical form that new hashes are taken over. Form 1 is what bulletins were until pictures, films and limits of
# use came: a form never changes once something was frozen in it.
FORM = 2
_FORM_1 = ("title", "subject_field", "language", "author", "media_sha256", "board_text")
_FORM_2 = (
    *_FORM_1,
    "kind",
    "origin",
    "board_style",
    "board_media_sha256",
    "board_length_ms",
    "expires_at",
    "max_plays",
)


def content_hash(content: Content, form: int = FORM) -> bytes:
    """SHA-256 over everything that is said and shown, in one canonical form."""
    names = _FORM_1 if form == 1 else ("form", *_FORM_2)
    plain = {name: _plain(form if name == "form" else getattr(content, name)) for name in names}
    canonical = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def is_intact(bulletin: Bulletin) -> bool:
    """Whether the content still is what was frozen."""
    return content_hash(bulletin, bulletin.content_form) == bulletin.content_hash


def stage(bulletin: Bulletin, usage: Usage) -> str:
    """How far a bulletin has come: its state, and for an approved one whether it is scheduled or was played.

    What has been heard and is still to come again is scheduled.
    """
    if bulletin.state != APPROVED:
        return bulletin.state
    if usage.is_scheduled:
        return SCHEDULED
    return PLAYED if usage.first_played_at is not None else APPROVED


# --- what is wrong with it -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was looked up for a bulletin's content."""

    subject_fields: tuple[str, ...]
    media: MediaFile | None
    board_media: MediaFile | None


def faults(content: Content, facts: Facts, *, is_final: bool, now: datetime) -> tuple[Fault, ...]:
    """Everything wrong with the content; what is only missing yet is no fault before it `is_final`. Pure."""
    return (
        *_faults_of_references(content, facts),
        *_faults_of_boards(content, facts),
        *(_faults_of_completeness(content, now=now) if is_final else ()),
    )


def _faults_of_references(content: Content, facts: Facts) -> Iterator[Fault]:
    if content.subject_field not in facts.subject_fields:
        yield Fault("subject_field", "unknown_subject_field", {"known": ", ".join(facts.subject_fields)})
    for field, sha256, media in (
        ("media_sha256", content.media_sha256, facts.media),
        ("board_media_sha256", content.board_media_sha256, facts.board_media),
    ):
        if sha256 is not None and media is None:
            yield Fault(field, "unknown_media", {"sha256": sha256.hex()})
    if facts.media is not None and not facts.media.measures.mime.startswith("audio/"):
        yield Fault("media_sha256", "not_a_sound", {"mime": facts.media.measures.mime})
    if facts.board_media is not None and not facts.board_media.measures.mime.startswith(("image/", "video/")):
        yield Fault("board_media_sha256", "not_a_picture", {"mime": facts.board_media.measures.mime})


def _faults_of_boards(content: Content, facts: Facts) -> Iterator[Fault]:
    if content.board_text is not None and content.board_media_sha256 is not None:
        yield Fault("board_media_sha256", "board_shows_two_things")
    if content.board_style == "ticker" and "\n" in (content.board_text or ""):
        yield Fault("board_text", "ticker_of_several_lines")
    is_film = facts.board_media is not None and facts.board_media.measures.mime.startswith("video/")
    if content.board_length_ms is not None and is_film:
        yield Fault("board_length_s", "film_has_its_own_length")


def _faults_of_completeness(content: Content, *, now: datetime) -> Iterator[Fault]:
    shows = content.board_text is not None or content.board_media_sha256 is not None
    if content.media_sha256 is None and not shows:
        yield Fault("media_sha256", "bulletin_without_content")
    elif content.kind == "jingle" and content.media_sha256 is None:
        yield Fault("media_sha256", "jingle_without_sound")
    if content.board_style == "ticker" and content.board_text is None:
        yield Fault("board_style", "ticker_without_text")
    if content.board_length_ms is not None and not shows:
        yield Fault("board_length_s", "nothing_shown_that_long")
    if content.expires_at is not None and content.expires_at <= now:
        yield Fault("expires_at", "instant_in_the_past")
    elif content.expires_at is not None and content.expires_at > now + _MAX_LIFE:
        yield Fault("expires_at", "instant_too_late", {"latest": (now + _MAX_LIFE).isoformat(timespec="minutes")})


async def _check(connection: Connection, content: Content, *, is_final: bool, now: datetime) -> None:
    found = faults(content, await _facts(connection, content), is_final=is_final, now=now)
    if found:
        raise Invalid(*found)


async def _facts(connection: Connection, content: Content) -> Facts:
    async def media(sha256: bytes | None) -> MediaFile | None:
        return await bulletin_store.media(connection, sha256) if sha256 is not None else None

    return Facts(
        subject_fields=tuple(sorted(field.code for field in await bulletin_store.subject_fields(connection))),
        media=await media(content.media_sha256),
        board_media=await media(content.board_media_sha256),
    )


# --- what is done with it --------------------------------------------------------------------------------------------


async def create(
    connection: Connection,
    content: Content,
    *,
    unit_id: UnitId,
    is_draft: bool,
    supersedes: uuid.UUID | None,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Bulletin:
    """Store a bulletin, as a draft or handed in for approval.

    Raises `Invalid` for an unknown category or file and for what can be no bulletin, `Conflict` when what it is to
    supersede is still open or has a successor.
    """
    await _check(connection, content, is_final=not is_draft, now=now)
    if supersedes is not None:
        await _check_superseded(connection, supersedes, unit_id=unit_id)
    bulletin = Bulletin(
        **_values(content),
        bulletin_id=BulletinId(uuid.uuid4()),
        unit_id=unit_id,
        content_hash=content_hash(content),
        content_form=FORM,
        state=DRAFT if is_draft else SUBMITTED,
        supersedes=BulletinId(supersedes) if supersedes is not None else None,
        created_at=now,
        created_by=actor.account_id,
        edited_by=frozenset({actor.account_id}),
        submitted_at=None if is_draft else now,
        submitted_by=None if is_draft else actor.account_id,
    )
    await bulletin_store.add_bulletin(connection, bulletin)
    action = "bulletin_drafted" if is_draft else "bulletin_submitted"
    await _record(connection, action, None, bulletin, actor=actor, origin=origin, now=now)
    return await bulletin_store.bulletin(connection, bulletin.bulletin_id)


async def _check_superseded(connection: Connection, bulletin_id: uuid.UUID, *, unit_id: UnitId) -> None:
    """Locks the old version, so that two people who open it again at once meet here."""
    known = await bulletin_store.bulletins_by_id(connection, [bulletin_id])
    if bulletin_id not in known or known[bulletin_id].unit_id != unit_id:
        raise Invalid(Fault("supersedes", "unknown_bulletin", {"id": str(bulletin_id)}))
    await bulletin_store.bulletin_for_update(connection, bulletin_id)
    old = await bulletin_store.bulletin(connection, bulletin_id)  # with the successor that stood in the way, if one did
    if old.state not in _DECIDED:
        raise Conflict("bulletin_still_open", facts={"state": old.state}, members={"state": old.state})
    if old.superseded_by is not None:
        successor = str(old.superseded_by)
        raise Conflict("bulletin_superseded", facts={"id": successor}, members={"superseded_by": successor})


async def edit(
    connection: Connection,
    bulletin: Bulletin,
    content: Content,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Bulletin:
    """Put other content into a draft. Raises `Conflict` when it is none any more, `Invalid` as `create` does."""
    _check_draft(bulletin)
    await _check(connection, content, is_final=False, now=now)
    wanted = replace(
        bulletin,
        **_values(content),
        content_hash=content_hash(content),
        content_form=FORM,
        edited_by=bulletin.edited_by | {actor.account_id},
    )
    await bulletin_store.replace_content(connection, wanted)
    return await _changed(connection, "bulletin_edited", bulletin, actor=actor, origin=origin, now=now)


async def submit(
    connection: Connection, bulletin: Bulletin, *, actor: Actor, origin: str | None, now: datetime
) -> Bulletin:
    """Hand a draft in for approval: from here on its content is frozen.

    Raises `Conflict` when it is no draft any more, `Invalid` when something is missing.
    """
    _check_draft(bulletin)
    await _check(connection, bulletin, is_final=True, now=now)
    await bulletin_store.submit(connection, bulletin.bulletin_id, by=actor.account_id, at=now)
    return await _changed(connection, "bulletin_submitted", bulletin, actor=actor, origin=origin, now=now)


async def decide(
    connection: Connection,
    bulletin: Bulletin,
    state: str,
    *,
    note: str | None,
    may_decide_own: bool,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Bulletin:
    """Approve or reject a submitted bulletin.

    Raises `Forbidden` for what one had a hand in, where that is not allowed; `Conflict` when it is a draft, was decided
    on already, or is not what was submitted.
    """
    if had_a_hand_in(bulletin, actor) and not may_decide_own:
        raise Forbidden("own_bulletin")
    if bulletin.state == DRAFT:
        raise Conflict("bulletin_not_submitted")
    if bulletin.state != SUBMITTED:
        raise Conflict("bulletin_already_decided", facts={"state": bulletin.state}, members={"state": bulletin.state})
    if not is_intact(bulletin):
        raise Conflict("bulletin_not_as_submitted")
    await bulletin_store.set_state(connection, bulletin.bulletin_id, state, by=actor.account_id, at=now, note=note)
    return await _changed(connection, f"bulletin_{state}", bulletin, actor=actor, origin=origin, now=now)


async def withdraw(
    connection: Connection, bulletin: Bulletin, *, note: str | None, actor: Actor, origin: str | None, now: datetime
) -> Bulletin:
    """Take a bulletin out of use, or give a draft up: what is planned with it is not played any more.

    Nor do devices sound it when their plan has run out (R-26). Raises `Conflict` when it was withdrawn already, or rejected.
    """
    if bulletin.state in (WITHDRAWN, REJECTED):
        raise Conflict("bulletin_already_decided", facts={"state": bulletin.state}, members={"state": bulletin.state})
    await bulletin_store.set_state(connection, bulletin.bulletin_id, WITHDRAWN, by=actor.account_id, at=now, note=note)
    for broadcast_id in await bulletin_store.broadcasts_with(connection, bulletin.bulletin_id):
        await planning_queue.request_broadcast(connection, broadcast_id, at=now)
    for unit_id in await policy_store.units_falling_back_on(connection, bulletin.bulletin_id):
        await planning_queue.request_ground(connection, unit_id, at=now)
    return await _changed(connection, "bulletin_withdrawn", bulletin, actor=actor, origin=origin, now=now)


def had_a_hand_in(bulletin: Bulletin, actor: Actor) -> bool:
    """Whether it is somebody's own: made, changed or handed in by them."""
    return actor.account_id in bulletin.edited_by | {bulletin.created_by, bulletin.submitted_by}


def _check_draft(bulletin: Bulletin) -> None:
    if bulletin.state != DRAFT:
        raise Conflict("bulletin_frozen", facts={"state": bulletin.state}, members={"state": bulletin.state})


def _values(content: Content) -> dict[str, Any]:
    return {each.name: getattr(content, each.name) for each in fields(Content)}


async def _changed(
    connection: Connection, action: str, before: Bulletin, *, actor: Actor, origin: str | None, now: datetime
) -> Bulletin:
    after = await bulletin_store.bulletin(connection, before.bulletin_id)
    await _record(connection, action, before, after, actor=actor, origin=origin, now=now)
    return after


async def _record(
    connection: Connection,
    action: str,
    before: Bulletin | None,
    after: Bulletin,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"bulletin:{after.bulletin_id}",
            unit_id=after.unit_id,
            before=_described(before) if before else None,
            after=_described(after),
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


def _described(bulletin: Bulletin) -> dict[str, Any]:
    """The bulletin as facts of the audit; texts of boards are in the hash and not repeated."""
    return {
        "version": bulletin.version,
        "state": bulletin.state,
        "title": bulletin.title,
        "content_hash": bulletin.content_hash.hex(),
        "supersedes": str(bulletin.supersedes) if bulletin.supersedes else None,
        "note": bulletin.decision_note,
    }
