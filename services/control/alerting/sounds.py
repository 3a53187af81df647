"""Sounds of alerts that were made: rendered, measured like any other file, and kept under their hash."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from services.control import bulletin_store
from services.control.alerting.renderer import Renderer
from services.control.alerting.rendering import Job, Unrenderable
from services.control.bulletin_store import MediaFile
from services.control.measurement import Refused
from services.control.measurer import Measurer
from services.control.media_files import MediaFiles
from services.shared.database.pool import Connection, Database

_LIMIT = 8 * 1024 * 1024  # three minutes are 1.4 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What it takes to make a sound and to keep it."""

    renderer: Renderer
    measurer: Measurer
    files: MediaFiles

    async def make(self, database: Database, job: Job, *, by: uuid.UUID | None, now: datetime) -> MediaFile:
        """The sound, on disk and in the database. Raises `Unrenderable`."""
        sound = await self.renderer.render(job)
        staged = await self.files.stage(BytesIO(sound), limit=_LIMIT)
        try:
            try:
                measures = await self.measurer.measure(staged.path)
            except Refused as refused:
                raise Unrenderable("alert_sound_unreadable") from refused
            media = MediaFile(sha256=staged.sha256, size=staged.size, measures=measures, stored_at=now)
            await self.files.commit(staged)
        finally:
            await self.files.discard(staged)
        async with database.transaction() as connection:
            await bulletin_store.add_media(connection, media, by=by)
        return media

    async def recording(self, connection: Connection, sha256: bytes) -> MediaFile | None:
        """The file of that name if it is known and there is something to hear in it."""
        known = await bulletin_store.media(connection, sha256)
        if known is None or known.measures.sample_rate_hz is None or known.measures.is_silent:
            return None
        return known
