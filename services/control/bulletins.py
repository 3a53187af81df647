"""What people do with bulletins: submit, approve, reject, withdraw (R-12). Works in the caller's transaction.

Content is frozen by a hash when it is submitted; what changes afterwards is the state only. Nobody decides on what they
made themselves, unless the province has said so in its settings.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime

from services.control import audit, bulletin_store, planning_queue
from services.control.audit import Entry
from services.control.bulletin_store import Bulletin
from services.control.errors import Conflict, Fault, Forbidden, Invalid
from services.control.permissions import Actor
from services.shared.database.pool import Connection

APPROVED, REJECTED, SUBMITTED, WITHDRAWN = "approved", "rejected", "submitted", "withdrawn"


def content_hash(bulletin: Bulletin) -> bytes:
    """SHA-256 over everything that is said and shown, in one canonical form."""
    content = {
        "title": bulletin.title,
        "subject_field": bulletin.subject_field,
        "language": bulletin.language,
        "author": bulletin.author,
        "media_sha256": bulletin.media_sha256.hex() if bulletin.media_sha256 else None,
        "board_text": bulletin.board_text,
    }
    canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()


async def submit(
    connection: Connection, bulletin: Bulletin, *, actor: Actor, origin: str | None, now: datetime
) -> Bulletin:
    """Store a bulletin for approval. Raises `Invalid` for an unknown category or file, or without any content."""
    faults = []
    offered = {field.code for field in await bulletin_store.subject_fields(connection)}
    if bulletin.subject_field not in offered:
        faults.append(Fault("subject_field", "unknown_subject_field", {"known": ", ".join(sorted(offered))}))
    if bulletin.media_sha256 is None and bulletin.board_text is None:
        faults.append(Fault("media_sha256", "bulletin_without_content"))
    if bulletin.media_sha256 is not None and await bulletin_store.media(connection, bulletin.media_sha256) is None:
        faults.append(Fault("media_sha256", "unknown_media", {"sha256": bulletin.media_sha256.hex()}))
    if faults:
        raise Invalid(*faults)
    frozen = replace(bulletin, content_hash=content_hash(bulletin))
    await bulletin_store.add_bulletin(connection, frozen)
    await audit.record(
        connection,
        Entry(
            action="bulletin_submitted",
            subject=f"bulletin:{bulletin.bulletin_id}",
            unit_id=bulletin.unit_id,
            after={"title": bulletin.title, "content_hash": frozen.content_hash.hex()},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return await bulletin_store.bulletin(connection, bulletin.bulletin_id)


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

    Raises `Forbidden` for one's own bulletin where that is not allowed, `Conflict` when it was decided on already.
    """
    if bulletin.created_by == actor.account_id and not may_decide_own:
        raise Forbidden("own_bulletin")
    if bulletin.state != SUBMITTED:
        raise Conflict("bulletin_already_decided", facts={"state": bulletin.state}, members={"state": bulletin.state})
    return await _set_state(connection, bulletin, state, note=note, actor=actor, origin=origin, now=now)


async def withdraw(
    connection: Connection, bulletin: Bulletin, *, note: str | None, actor: Actor, origin: str | None, now: datetime
) -> Bulletin:
    """Take a bulletin out of use: what is planned with it is not played any more. Raises `Conflict` when it was."""
    if bulletin.state in (WITHDRAWN, REJECTED):
        raise Conflict("bulletin_already_decided", facts={"state": bulletin.state}, members={"state": bulletin.state})
    changed = await _set_state(connection, bulletin, WITHDRAWN, note=note, actor=actor, origin=origin, now=now)
    for broadcast_id in await bulletin_store.broadcasts_with(connection, bulletin.bulletin_id):
        await planning_queue.request_broadcast(connection, broadcast_id, at=now)
    return changed


async def _set_state(
    connection: Connection,
    bulletin: Bulletin,
    state: str,
    *,
    note: str | None,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Bulletin:
    await bulletin_store.set_state(connection, bulletin.bulletin_id, state, by=actor.account_id, at=now, note=note)
    await audit.record(
        connection,
        Entry(
            action=f"bulletin_{state}",
            subject=f"bulletin:{bulletin.bulletin_id}",
            unit_id=bulletin.unit_id,
            before={"state": bulletin.state},
            after={"state": state, "note": note},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return await bulletin_store.bulletin(connection, bulletin.bulletin_id)
