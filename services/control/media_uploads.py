"""Taking in a sound, picture or film: copied, named by its bytes, measured, stored; or refused without a trace."""

from __future__ import annotations

from datetime import datetime
from typing import BinaryIO

from schemas.identifiers import UnitId
from services.control import audit, bulletin_store
from services.control.audit import Entry
from services.control.bulletin_store import MediaFile
from services.control.errors import Fault, UnsupportedContent
from services.control.measurement import Refused
from services.control.measurer import Measurer
from services.control.media_files import MediaFiles, Staged
from services.control.permissions import Actor
from services.shared.database.pool import Database


async def take(
    database: Database,
    files: MediaFiles,
    measurer: Measurer,
    source: BinaryIO,
    *,
    unit_id: UnitId,
    limit: int,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> tuple[MediaFile, bool]:
    """The stored file, and whether it is new. Raises `TooLarge` or `UnsupportedContent` with the reason.

    The file has its name on disk before the database knows of it, so what the database knows of is always there.
    """
    staged = await files.stage(source, limit=limit)
    try:
        async with database.connection() as connection:
            known = await bulletin_store.media(connection, staged.sha256)
        media = known or await _measured(measurer, staged, now=now)
        await files.commit(staged)
    finally:
        await files.discard(staged)
    async with database.transaction() as connection:
        is_new = await bulletin_store.add_media(connection, media, by=actor.account_id)
        await audit.record(
            connection,
            Entry(
                action="media_uploaded",
                subject=f"media:{media.sha256.hex()}",
                unit_id=unit_id,
                after={
                    "size": media.size,
                    "mime": media.measures.mime,
                    "duration_ms": media.measures.duration_ms,
                    "is_new": is_new,
                },
            ),
            actor=actor,
            origin=origin,
            at=now,
        )
    return media, is_new


async def _measured(measurer: Measurer, staged: Staged, *, now: datetime) -> MediaFile:
    try:
        measures = await measurer.measure(staged.path)
    except Refused as refused:
        raise UnsupportedContent("media_refused", faults=[Fault("file", refused.refusal.value)]) from refused
    return MediaFile(sha256=staged.sha256, size=staged.size, measures=measures, stored_at=now)
