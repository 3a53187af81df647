"""SQL of content: media files (their measures), bulletins and the categories of essential information."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from schemas.identifiers import BroadcastId, BulletinId, UnitId
from services.control.errors import NotFound
from services.control.measurement import Measures
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """A stored sound file and what was measured of it."""

    sha256: bytes
    size: int
    measures: Measures
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulletin:
    """A bulletin as it was stored; only its state changes."""

    bulletin_id: BulletinId
    unit_id: UnitId
    title: str
    subject_field: str
    language: str
    author: str | None
    media_sha256: bytes | None
    board_text: str | None
    content_hash: bytes
    state: str
    created_at: datetime
    created_by: uuid.UUID
    decided_at: datetime | None = None
    decided_by: uuid.UUID | None = None
    decision_note: str | None = None
    duration_ms: int | None = None  # of the sound
    is_silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectField:
    """A category of essential information (R-08)."""

    code: str
    name_vi: str
    name_en: str
    exchange_code: int | None


_BULLETINS = """
SELECT b.bulletin_id, b.unit_id, b.title, b.subject_field, b.language, b.author, b.media_sha256, b.board_text,
       b.content_hash, b.state, b.created_at, b.created_by, b.decided_at, b.decided_by, b.decision_note,
       m.duration_ms, coalesce(m.sha256 IS NOT NULL AND m.loudness_lufs IS NULL, false) AS is_silent
  FROM control.bulletins b
  LEFT JOIN control.media m ON m.sha256 = b.media_sha256
"""


async def subject_fields(connection: Connection) -> tuple[SubjectField, ...]:
    """The categories offered, in order."""
    rows = await connection.fetch(
        "SELECT code, name_vi, name_en, exchange_code FROM control.subject_fields WHERE is_offered ORDER BY position"
    )
    return tuple(SubjectField(**dict(row)) for row in rows)


async def add_media(connection: Connection, media: MediaFile, *, by: uuid.UUID) -> bool:
    """Store the measures of a file; returns False when the same bytes were known already."""
    measures = media.measures
    added = await connection.fetchval(
        """
        INSERT INTO control.media
               (sha256, size, mime, duration_ms, sample_rate_hz, channels, loudness_lufs, true_peak_dbtp, stored_at,
                stored_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            ON CONFLICT (sha256) DO NOTHING
        RETURNING true
        """,
        media.sha256,
        media.size,
        measures.mime,
        measures.duration_ms,
        measures.sample_rate_hz,
        measures.channels,
        measures.loudness_lufs,
        measures.true_peak_dbtp,
        media.stored_at,
        by,
    )
    return bool(added)


async def media(connection: Connection, sha256: bytes) -> MediaFile | None:
    """What is known of a file."""
    row = await connection.fetchrow(
        """
        SELECT sha256, size, mime, duration_ms, sample_rate_hz, channels, loudness_lufs, true_peak_dbtp, stored_at
          FROM control.media
         WHERE sha256 = $1
        """,
        sha256,
    )
    if row is None:
        return None
    return MediaFile(
        sha256=row["sha256"],
        size=row["size"],
        measures=Measures(
            mime=row["mime"],
            duration_ms=row["duration_ms"],
            sample_rate_hz=row["sample_rate_hz"],
            channels=row["channels"],
            loudness_lufs=row["loudness_lufs"],
            true_peak_dbtp=row["true_peak_dbtp"],
        ),
        stored_at=row["stored_at"],
    )


async def add_bulletin(connection: Connection, bulletin: Bulletin) -> None:
    """Store a new bulletin."""
    await connection.execute(
        """
        INSERT INTO control.bulletins
               (bulletin_id, unit_id, title, subject_field, language, author, media_sha256, board_text, content_hash,
                state, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        """,
        bulletin.bulletin_id,
        bulletin.unit_id,
        bulletin.title,
        bulletin.subject_field,
        bulletin.language,
        bulletin.author,
        bulletin.media_sha256,
        bulletin.board_text,
        bulletin.content_hash,
        bulletin.state,
        bulletin.created_at,
        bulletin.created_by,
    )


async def bulletin(connection: Connection, bulletin_id: uuid.UUID) -> Bulletin:
    """One bulletin. Raises `NotFound`."""
    row = await connection.fetchrow(_BULLETINS + " WHERE b.bulletin_id = $1", bulletin_id)
    if row is None:
        raise NotFound("bulletin_not_found", facts={"id": str(bulletin_id)})
    return _bulletin(row)


async def bulletin_for_update(connection: Connection, bulletin_id: uuid.UUID) -> Bulletin:
    """One bulletin, locked until the transaction ends. Raises `NotFound`."""
    row = await connection.fetchrow(_BULLETINS + " WHERE b.bulletin_id = $1 FOR UPDATE OF b", bulletin_id)
    if row is None:
        raise NotFound("bulletin_not_found", facts={"id": str(bulletin_id)})
    return _bulletin(row)


async def bulletins_by_id(connection: Connection, bulletin_ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, Bulletin]:
    """The bulletins among these ids that exist."""
    rows = await connection.fetch(_BULLETINS + " WHERE b.bulletin_id = ANY ($1)", list(bulletin_ids))
    return {row["bulletin_id"]: _bulletin(row) for row in rows}


async def bulletins_of(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    state: str | None,
    before: datetime | None,
    limit: int,
) -> tuple[Bulletin, ...]:
    """Bulletins of the units, newest first."""
    rows = await connection.fetch(
        _BULLETINS
        + """
         WHERE b.unit_id = ANY ($1)
           AND ($2::text IS NULL OR b.state = $2)
           AND ($3::timestamptz IS NULL OR b.created_at < $3)
         ORDER BY b.created_at DESC, b.bulletin_id
         LIMIT $4
        """,
        list(unit_ids),
        state,
        before,
        limit,
    )
    return tuple(map(_bulletin, rows))


async def set_state(
    connection: Connection, bulletin_id: uuid.UUID, state: str, *, by: uuid.UUID, at: datetime, note: str | None
) -> None:
    """Note a decision about a bulletin."""
    await connection.execute(
        """
        UPDATE control.bulletins
           SET state = $2, decided_by = $3, decided_at = $4, decision_note = $5
         WHERE bulletin_id = $1
        """,
        bulletin_id,
        state,
        by,
        at,
        note,
    )


async def broadcasts_with(connection: Connection, bulletin_id: uuid.UUID) -> tuple[BroadcastId, ...]:
    """Scheduled broadcasts that hold the bulletin."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT i.broadcast_id
          FROM control.broadcast_items i
          JOIN control.broadcasts b USING (broadcast_id)
         WHERE i.bulletin_id = $1 AND b.state = 'scheduled'
        """,
        bulletin_id,
    )
    return tuple(BroadcastId(row["broadcast_id"]) for row in rows)


def _bulletin(row: Record) -> Bulletin:
    values = dict(row)
    values["bulletin_id"] = BulletinId(values["bulletin_id"])
    values["unit_id"] = UnitId(values["unit_id"])
    return Bulletin(**values)
