"""SQL of content: media files (their measures), bulletins and the categories of essential information."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from asyncpg import Record

from schemas.identifiers import BroadcastId, BulletinId, UnitId
from services.control.errors import NotFound
from services.control.measurement import Measures
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """A stored file and what was measured of it."""

    sha256: bytes
    size: int
    measures: Measures
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a bulletin says and shows, and how it may be used: everything that approval is about.

    `board_length_ms` is how long a board shows what has no length of its own.
    """

    title: str
    subject_field: str
    language: str
    author: str | None = None
    kind: str = "bulletin"
    origin: str = "commune"
    media_sha256: bytes | None = None
    board_text: str | None = None
    board_style: str = "text"
    board_media_sha256: bytes | None = None
    board_length_ms: int | None = None
    expires_at: datetime | None = None
    max_plays: int | None = None

    @property
    def is_passing(self) -> bool:
        """Whether it comes to an end: it goes stale, or is used up."""
        return self.expires_at is not None or self.max_plays is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulletin(Content):
    """A bulletin as it was stored. Content changes in a draft only; afterwards its state does.

    `content_hash` was taken over the canonical form number `content_form`; `edited_by` is everybody who had a hand in
    the content. What a bulletin's media are is known once it is read: `duration_ms` and `is_silent` are of the sound,
    `board_mime` and `board_duration_ms` of the picture or film.
    """

    bulletin_id: BulletinId
    unit_id: UnitId
    content_hash: bytes
    content_form: int
    state: str
    created_at: datetime
    created_by: uuid.UUID
    edited_by: frozenset[uuid.UUID]
    version: int = 1
    supersedes: BulletinId | None = None
    superseded_by: BulletinId | None = None
    submitted_at: datetime | None = None
    submitted_by: uuid.UUID | None = None
    decided_at: datetime | None = None
    decided_by: uuid.UUID | None = None
    decision_note: str | None = None
    duration_ms: int | None = None
    is_silent: bool = False
    board_mime: str | None = None
    board_duration_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is done with a bulletin: whether something holds it that is still to come, and when it was first heard.

    `first_played_at` is of the broadcasts that hold it now, by devices' own word: what only a gateway reports is no
    proof (R-28).
    """

    is_scheduled: bool = False
    first_played_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectField:
    """A category of essential information (R-08)."""

    code: str
    name_vi: str
    name_en: str
    exchange_code: int | None


_BULLETINS = """
SELECT b.bulletin_id, b.unit_id, b.title, b.subject_field, b.language, b.author, b.kind, b.origin, b.media_sha256,
       b.board_text, b.board_style, b.board_media_sha256, b.board_length_ms, b.expires_at, b.max_plays,
       b.content_hash, b.content_form, b.state, b.version, b.supersedes, s.bulletin_id AS superseded_by,
       b.created_at, b.created_by, b.edited_by, b.submitted_at, b.submitted_by, b.decided_at, b.decided_by,
       b.decision_note, m.duration_ms, coalesce(m.sha256 IS NOT NULL AND m.loudness_lufs IS NULL, false) AS is_silent,
       p.mime AS board_mime, p.duration_ms AS board_duration_ms
  FROM control.bulletins b
  LEFT JOIN control.media m ON m.sha256 = b.media_sha256
  LEFT JOIN control.media p ON p.sha256 = b.board_media_sha256
  LEFT JOIN control.bulletins s ON s.supersedes = b.bulletin_id AND s.state NOT IN ('rejected', 'withdrawn')
"""

# The record of plays is long: what sounded is looked for in the order of its key, and the first find is enough.
_USAGE = """
SELECT i.bulletin_id,
       bool_or(c.state = 'scheduled'
               AND coalesce(c.active_until, CASE c.recurrence WHEN 'once' THEN c.starts_on + 1 ELSE c.ends_on END,
                            'infinity') > $2) AS is_scheduled,
       min(e.started_at) AS first_played_at
  FROM control.broadcast_items i
  JOIN control.broadcasts c USING (broadcast_id)
  LEFT JOIN LATERAL (SELECT started_at
                       FROM control.emissions
                      WHERE broadcast_id = i.broadcast_id
                        AND bulletin_id = i.bulletin_id
                        AND occurrence_at <= $3
                        AND outcome IN ('played', 'late', 'cut')
                        AND evidence = 'device'
                      ORDER BY occurrence_at
                      LIMIT 1) e ON true
 WHERE i.bulletin_id = ANY ($1)
 GROUP BY i.bulletin_id
"""


async def subject_fields(connection: Connection) -> tuple[SubjectField, ...]:
    """The categories offered, in order."""
    rows = await connection.fetch(
        "SELECT code, name_vi, name_en, exchange_code FROM control.subject_fields WHERE is_offered ORDER BY position"
    )
    return tuple(SubjectField(**dict(row)) for row in rows)


async def add_media(connection: Connection, media: MediaFile, *, by: uuid.UUID | None) -> bool:
    """Store the measures of a file; returns False when the same bytes were known already."""
    measures = media.measures
    added = await connection.fetchval(
        """
        INSERT INTO control.media
               (sha256, size, mime, duration_ms, sample_rate_hz, channels, loudness_lufs, true_peak_dbtp, width, height,
                stored_at, stored_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
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
        measures.width,
        measures.height,
        media.stored_at,
        by,
    )
    return bool(added)


async def media(connection: Connection, sha256: bytes) -> MediaFile | None:
    """What is known of a file."""
    row = await connection.fetchrow(
        """
        SELECT sha256, size, mime, duration_ms, sample_rate_hz, channels, loudness_lufs, true_peak_dbtp, width, height,
               stored_at
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
            width=row["width"],
            height=row["height"],
        ),
        stored_at=row["stored_at"],
    )


async def add_bulletin(connection: Connection, bulletin: Bulletin) -> None:
    """Store a new bulletin."""
    await connection.execute(
        """
        INSERT INTO control.bulletins
               (bulletin_id, unit_id, title, subject_field, language, author, kind, origin, media_sha256, board_text,
                board_style, board_media_sha256, board_length_ms, expires_at, max_plays, content_hash, content_form,
                state, supersedes, created_at, created_by, edited_by, submitted_at, submitted_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                $23, $24)
        """,
        bulletin.bulletin_id,
        bulletin.unit_id,
        bulletin.title,
        bulletin.subject_field,
        bulletin.language,
        bulletin.author,
        bulletin.kind,
        bulletin.origin,
        bulletin.media_sha256,
        bulletin.board_text,
        bulletin.board_style,
        bulletin.board_media_sha256,
        bulletin.board_length_ms,
        bulletin.expires_at,
        bulletin.max_plays,
        bulletin.content_hash,
        bulletin.content_form,
        bulletin.state,
        bulletin.supersedes,
        bulletin.created_at,
        bulletin.created_by,
        sorted(bulletin.edited_by),
        bulletin.submitted_at,
        bulletin.submitted_by,
    )


async def replace_content(connection: Connection, bulletin: Bulletin) -> None:
    """Store the content of a draft as `bulletin` has it; what is no draft stays as it is."""
    await connection.execute(
        """
        UPDATE control.bulletins
           SET title = $2, subject_field = $3, language = $4, author = $5, kind = $6, origin = $7, media_sha256 = $8,
               board_text = $9, board_style = $10, board_media_sha256 = $11, board_length_ms = $12, expires_at = $13,
               max_plays = $14, content_hash = $15, content_form = $16, edited_by = $17, version = version + 1
         WHERE bulletin_id = $1 AND state = 'draft'
        """,
        bulletin.bulletin_id,
        bulletin.title,
        bulletin.subject_field,
        bulletin.language,
        bulletin.author,
        bulletin.kind,
        bulletin.origin,
        bulletin.media_sha256,
        bulletin.board_text,
        bulletin.board_style,
        bulletin.board_media_sha256,
        bulletin.board_length_ms,
        bulletin.expires_at,
        bulletin.max_plays,
        bulletin.content_hash,
        bulletin.content_form,
        sorted(bulletin.edited_by),
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
    before_id: uuid.UUID | None = None,
    limit: int,
) -> tuple[Bulletin, ...]:
    """Bulletins of the units, newest first, those of one instant by id.

    `before` leaves out what is not older; with `before_id` what is of that instant and stands behind that id counts too.
    """
    rows = await connection.fetch(
        _BULLETINS
        + """
         WHERE b.unit_id = ANY ($1)
           AND ($2::text IS NULL OR b.state = $2)
           AND ($3::timestamptz IS NULL OR b.created_at < $3 OR (b.created_at = $3 AND b.bulletin_id > $4))
         ORDER BY b.created_at DESC, b.bulletin_id
         LIMIT $5
        """,
        list(unit_ids),
        state,
        before,
        before_id,
        limit,
    )
    return tuple(map(_bulletin, rows))


async def usage_of(
    connection: Connection, bulletin_ids: Iterable[uuid.UUID], *, today: date, now: datetime
) -> Mapping[uuid.UUID, Usage]:
    """What is done with each of the bulletins; those that stand in no broadcast are left out."""
    rows = await connection.fetch(_USAGE, list(bulletin_ids), today, now)
    return {
        row["bulletin_id"]: Usage(is_scheduled=row["is_scheduled"], first_played_at=row["first_played_at"])
        for row in rows
    }


async def submit(connection: Connection, bulletin_id: uuid.UUID, *, by: uuid.UUID, at: datetime) -> None:
    """Hand a draft in."""
    await connection.execute(
        """
        UPDATE control.bulletins
           SET state = 'submitted', submitted_by = $2, submitted_at = $3, version = version + 1
         WHERE bulletin_id = $1
        """,
        bulletin_id,
        by,
        at,
    )


async def set_state(
    connection: Connection, bulletin_id: uuid.UUID, state: str, *, by: uuid.UUID, at: datetime, note: str | None
) -> None:
    """Note a decision about a bulletin."""
    await connection.execute(
        """
        UPDATE control.bulletins
           SET state = $2, decided_by = $3, decided_at = $4, decision_note = $5, version = version + 1
         WHERE bulletin_id = $1
        """,
        bulletin_id,
        state,
        by,
        at,
        note,
    )


async def broadcasts_with(connection: Connection, bulletin_id: uuid.UUID) -> tuple[BroadcastId, ...]:
    """Scheduled broadcasts that hold the bulletin, or relay a source it fills in for."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT i.broadcast_id
          FROM control.broadcast_items i
          JOIN control.broadcasts b USING (broadcast_id)
          LEFT JOIN control.relay_sources s ON s.source_id = i.relay_source_id
         WHERE b.state = 'scheduled'
           AND (i.bulletin_id = $1 OR s.fallback_bulletin_id = $1)
        """,
        bulletin_id,
    )
    return tuple(BroadcastId(row["broadcast_id"]) for row in rows)


async def issuers_with(connection: Connection, bulletin_id: uuid.UUID) -> tuple[UnitId, ...]:
    """The unit of a bulletin, and those that issue the scheduled broadcasts that hold it."""
    rows = await connection.fetch(
        """
        SELECT unit_id FROM control.bulletins WHERE bulletin_id = $1
        UNION
        SELECT b.unit_id
          FROM control.broadcast_items i
          JOIN control.broadcasts b USING (broadcast_id)
         WHERE i.bulletin_id = $1 AND b.state = 'scheduled'
        """,
        bulletin_id,
    )
    return tuple(UnitId(row["unit_id"]) for row in rows)


def _bulletin(row: Record) -> Bulletin:
    values = dict(row)
    values["bulletin_id"] = BulletinId(values["bulletin_id"])
    values["unit_id"] = UnitId(values["unit_id"])
    values["edited_by"] = frozenset(values["edited_by"])
    return Bulletin(**values)
