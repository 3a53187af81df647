"""SQL of relays: sources as officers enter them, and what the relay point knows of each.

Health is written by whoever holds the lease of a source. A lease is taken, kept and given up in one statement each, so
replicas never agree about anything but the row.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Record

from schemas.identifiers import BroadcastId, BulletinId, UnitId
from services.control.errors import NotFound
from services.control.planning.model import MAX_OCCURRENCE_LENGTH, DeviceNo
from services.shared.database.pool import Connection

IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is known of a source: its state and since when, when it last gave a sound, and what is wrong (a stable word)."""

    state: str
    since: datetime
    last_sound_at: datetime | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSource:
    """A source as it is stored."""

    source_id: uuid.UUID
    unit_id: UnitId
    name: str
    kind: str
    url: str
    is_direct: bool
    fallback_bulletin_id: BulletinId | None
    silence_dbfs: float
    silence_after: timedelta
    version: int
    created_at: datetime
    created_by: uuid.UUID
    retired_at: datetime | None = None
    health: Health | None = None  # None: never relayed


@dataclass(frozen=True, slots=True, kw_only=True)
class DueSource:
    """A source that devices want now or in a moment, and what the relay point needs to know of it.

    `on_air_since`: when the earliest of its emissions that sound now began; None: none does yet.
    """

    source_id: uuid.UUID
    name: str
    url: str
    silence_dbfs: float
    silence_after: timedelta
    version: int
    on_air_since: datetime | None
    health: Health | None


_SOURCES = """
SELECT s.source_id, s.unit_id, s.name, s.kind, s.url, s.is_direct, s.fallback_bulletin_id, s.silence_dbfs,
       s.silence_after_ms, s.version, s.created_at, s.created_by, s.retired_at,
       h.state, h.since, h.last_sound_at, h.detail
  FROM control.relay_sources s
  LEFT JOIN control.relay_health h USING (source_id)
"""


async def sources(connection: Connection, *, has_retired: bool) -> tuple[StoredSource, ...]:
    """Every source, by name; with or without those that are out of use."""
    rows = await connection.fetch(
        _SOURCES + " WHERE s.retired_at IS NULL OR $1 ORDER BY s.name, s.source_id", has_retired
    )
    return tuple(map(_source, rows))


async def source(connection: Connection, source_id: uuid.UUID) -> StoredSource:
    """One source. Raises `NotFound`."""
    return _found(await connection.fetchrow(_SOURCES + " WHERE s.source_id = $1", source_id), source_id)


async def source_for_update(connection: Connection, source_id: uuid.UUID) -> StoredSource:
    """One source, locked until the transaction ends. Raises `NotFound`."""
    row = await connection.fetchrow(_SOURCES + " WHERE s.source_id = $1 FOR UPDATE OF s", source_id)
    return _found(row, source_id)


async def unit_of(connection: Connection, source_id: uuid.UUID) -> UnitId:
    """The unit a source belongs to. Raises `NotFound`."""
    return (await source(connection, source_id)).unit_id


async def sources_by_id(connection: Connection, source_ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, StoredSource]:
    """The sources among these ids that exist, those out of use included."""
    rows = await connection.fetch(_SOURCES + " WHERE s.source_id = ANY ($1)", list(source_ids))
    return {row["source_id"]: _source(row) for row in rows}


async def add_source(connection: Connection, source: StoredSource) -> None:
    """Store a new source."""
    await connection.execute(
        """
        INSERT INTO control.relay_sources
               (source_id, unit_id, name, kind, url, is_direct, fallback_bulletin_id, silence_dbfs, silence_after_ms,
                version, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        """,
        source.source_id,
        source.unit_id,
        source.name,
        source.kind,
        source.url,
        source.is_direct,
        source.fallback_bulletin_id,
        source.silence_dbfs,
        source.silence_after // timedelta(milliseconds=1),
        source.version,
        source.created_at,
        source.created_by,
    )


async def replace_source(connection: Connection, source: StoredSource) -> None:
    """Store what a source is from now on, as the version after the stored one."""
    await connection.execute(
        """
        UPDATE control.relay_sources
           SET name = $2, kind = $3, url = $4, is_direct = $5, fallback_bulletin_id = $6, silence_dbfs = $7,
               silence_after_ms = $8, version = version + 1
         WHERE source_id = $1
        """,
        source.source_id,
        source.name,
        source.kind,
        source.url,
        source.is_direct,
        source.fallback_bulletin_id,
        source.silence_dbfs,
        source.silence_after // timedelta(milliseconds=1),
    )


async def retire_source(connection: Connection, source_id: uuid.UUID, *, at: datetime) -> None:
    """Take a source out of use."""
    await connection.execute(
        "UPDATE control.relay_sources SET retired_at = $2, version = version + 1 WHERE source_id = $1", source_id, at
    )


async def broadcasts_with(connection: Connection, source_id: uuid.UUID) -> tuple[BroadcastId, ...]:
    """Scheduled broadcasts that relay the source."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT i.broadcast_id
          FROM control.broadcast_items i
          JOIN control.broadcasts b USING (broadcast_id)
         WHERE i.relay_source_id = $1 AND b.state = 'scheduled'
        """,
        source_id,
    )
    return tuple(BroadcastId(row["broadcast_id"]) for row in rows)


async def issuers_with(connection: Connection, source_id: uuid.UUID) -> tuple[UnitId, ...]:
    """The unit of a source, and those that issue the scheduled broadcasts that relay it."""
    rows = await connection.fetch(
        """
        SELECT unit_id FROM control.relay_sources WHERE source_id = $1
        UNION
        SELECT b.unit_id
          FROM control.broadcast_items i
          JOIN control.broadcasts b USING (broadcast_id)
         WHERE i.relay_source_id = $1 AND b.state = 'scheduled'
        """,
        source_id,
    )
    return tuple(UnitId(row["unit_id"]) for row in rows)


# What sounds the source $1 at $2 or later, as far as is planned; $3 is how long an occurrence can be.
_PLANNED = """
  FROM control.emissions
 WHERE relay_source_id = $1
   AND starts_at > $2::timestamptz - $3::interval
   AND ends_at > $2
   AND withdrawn_at IS NULL
   AND stopped_at IS NULL
"""


async def planned_broadcasts(connection: Connection, source_id: uuid.UUID, *, now: datetime) -> int:
    """How many broadcasts relay the source now or in the days that are planned."""
    found: int = await connection.fetchval(
        f"SELECT count(DISTINCT broadcast_id) {_PLANNED}", source_id, now, MAX_OCCURRENCE_LENGTH
    )
    return found


async def planned_devices(connection: Connection, source_id: uuid.UUID, *, now: datetime) -> frozenset[DeviceNo]:
    """The devices that sound the source now or in the days that are planned."""
    rows = await connection.fetch(f"SELECT DISTINCT device_no {_PLANNED}", source_id, now, MAX_OCCURRENCE_LENGTH)
    return frozenset(DeviceNo(row["device_no"]) for row in rows)


async def standing_broadcasts(connection: Connection, source_id: uuid.UUID, *, now: datetime) -> frozenset[BroadcastId]:
    """The broadcasts with the source in them that may still begin: neither over, nor taken back, nor turned down."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT b.broadcast_id
          FROM control.broadcast_items i
          JOIN control.broadcasts b USING (broadcast_id)
         WHERE i.relay_source_id = $1
           AND b.state IN ('scheduled', 'awaiting_approval')
           AND coalesce(b.active_until, CASE b.recurrence WHEN 'once' THEN b.starts_on + 1 ELSE b.ends_on END,
                        'infinity') > ($2::timestamptz AT TIME ZONE b.time_zone)::date
        """,
        source_id,
        now,
    )
    return frozenset(BroadcastId(row["broadcast_id"]) for row in rows)


# --- the relay point -------------------------------------------------------------------------------------------------


async def due(connection: Connection, *, now: datetime, lead: timedelta) -> tuple[DueSource, ...]:
    """Sources of which an emission sounds now or begins within `lead`; those devices take directly are not ours."""
    rows = await connection.fetch(
        """
        SELECT s.source_id, s.name, s.url, s.silence_dbfs, s.silence_after_ms, s.version, wanted.on_air_since,
               h.state, h.since, h.last_sound_at, h.detail
          FROM control.relay_sources s
          LEFT JOIN control.relay_health h USING (source_id)
         CROSS JOIN LATERAL (SELECT count(*) AS emissions, min(e.starts_at) FILTER (WHERE e.starts_at <= $1) AS on_air_since
                               FROM control.emissions e
                              WHERE e.relay_source_id = s.source_id
                                AND e.starts_at <= $1 + $2::interval
                                AND e.starts_at > $1 - $3::interval
                                AND e.ends_at > $1
                                AND e.withdrawn_at IS NULL
                                AND (e.stopped_at IS NULL OR e.stopped_at > $1)) wanted
         WHERE s.retired_at IS NULL AND NOT s.is_direct AND wanted.emissions > 0
         ORDER BY s.source_id
        """,
        now,
        lead,
        MAX_OCCURRENCE_LENGTH,
    )
    return tuple(
        DueSource(
            source_id=row["source_id"],
            name=row["name"],
            url=row["url"],
            silence_dbfs=row["silence_dbfs"],
            silence_after=timedelta(milliseconds=row["silence_after_ms"]),
            version=row["version"],
            on_air_since=row["on_air_since"],
            health=_health(row),
        )
        for row in rows
    )


async def lease(connection: Connection, source_id: uuid.UUID, *, holder: str, until: datetime, now: datetime) -> bool:
    """Take the lease of a source, or keep it; returns False while somebody else holds it."""
    taken = await connection.fetchval(
        """
        INSERT INTO control.relay_health AS h (source_id, state, since, leased_by, leased_until)
        VALUES ($1, 'connecting', $4, $2, $3)
            ON CONFLICT (source_id) DO UPDATE
           SET leased_by = $2, leased_until = $3
         WHERE h.leased_by = $2 OR h.leased_until IS NULL OR h.leased_until <= $4
        RETURNING true
        """,
        source_id,
        holder,
        until,
        now,
    )
    return bool(taken)


async def note_health(connection: Connection, source_id: uuid.UUID, health: Health, *, holder: str) -> None:
    """Write down what its holder knows of a source."""
    await connection.execute(
        """
        UPDATE control.relay_health
           SET state = $3, since = $4, last_sound_at = coalesce($5, last_sound_at), detail = $6
         WHERE source_id = $1 AND leased_by = $2
        """,
        source_id,
        holder,
        health.state,
        health.since,
        health.last_sound_at,
        health.detail,
    )


async def release(connection: Connection, source_ids: Sequence[uuid.UUID], *, holder: str, at: datetime) -> None:
    """Give up leases: nobody relays these sources any more, or somebody else may at once."""
    await connection.execute(
        """
        UPDATE control.relay_health
           SET state = 'idle', since = $3, detail = NULL, leased_by = NULL, leased_until = NULL
         WHERE source_id = ANY ($1) AND leased_by = $2
        """,
        list(source_ids),
        holder,
        at,
    )


def _found(row: Record | None, source_id: uuid.UUID) -> StoredSource:
    if row is None:
        raise NotFound("relay_source_not_found", facts={"id": str(source_id)})
    return _source(row)


def _source(row: Record) -> StoredSource:
    fallback = row["fallback_bulletin_id"]
    return StoredSource(
        source_id=row["source_id"],
        unit_id=UnitId(row["unit_id"]),
        name=row["name"],
        kind=row["kind"],
        url=row["url"],
        is_direct=row["is_direct"],
        fallback_bulletin_id=BulletinId(fallback) if fallback else None,
        silence_dbfs=row["silence_dbfs"],
        silence_after=timedelta(milliseconds=row["silence_after_ms"]),
        version=row["version"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        retired_at=row["retired_at"],
        health=_health(row),
    )


def _health(row: Record) -> Health | None:
    if row["state"] is None:
        return None
    return Health(state=row["state"], since=row["since"], last_sound_at=row["last_sound_at"], detail=row["detail"])
