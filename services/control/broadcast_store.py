"""SQL of broadcasts: what somebody asked for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Record

from schemas.identifiers import BroadcastId, DeviceId, UnitId
from services.control.broadcast_requests import BulletinWish, DeviceWish, PauseWish, UnitWish, Wish
from services.control.errors import NotFound
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBroadcast:
    """A broadcast with everything it was asked for; `version` grows with every change."""

    broadcast_id: BroadcastId
    wish: Wish
    state: str
    version: int
    issued_at: datetime
    created_by: uuid.UUID
    withdrawn_at: datetime | None
    withdrawn_by: uuid.UUID | None


_COLUMNS = """
SELECT broadcast_id, unit_id, title, level, recurrence, time_zone, starts_on, ends_on, local_times, volume_percent,
       resume, state, version, issued_at, created_by, withdrawn_at, withdrawn_by
  FROM control.broadcasts
"""

_HERE = (
    _COLUMNS  # noqa: S608 - made of constants
    + """
 WHERE unit_id = ANY ($1)
    OR broadcast_id IN (SELECT DISTINCT broadcast_id
                          FROM control.emissions
                         WHERE unit_id = ANY ($1) AND starts_at >= $2 AND withdrawn_at IS NULL)
 ORDER BY issued_at DESC, broadcast_id
 LIMIT $3
"""
)


async def add_broadcast(
    connection: Connection, broadcast: StoredBroadcast, device_nos: dict[DeviceId, DeviceNo]
) -> None:
    """Store a new broadcast with its items and targets; `device_nos` are those of the devices it names."""
    wish = broadcast.wish
    await connection.execute(
        """
        INSERT INTO control.broadcasts
               (broadcast_id, unit_id, title, level, recurrence, time_zone, starts_on, ends_on, local_times,
                volume_percent, resume, state, version, issued_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        """,
        broadcast.broadcast_id,
        wish.unit_id,
        wish.title,
        wish.level,
        wish.recurrence,
        wish.time_zone,
        wish.starts_on,
        wish.ends_on,
        list(wish.local_times),
        wish.volume_percent,
        wish.resume,
        broadcast.state,
        broadcast.version,
        broadcast.issued_at,
        broadcast.created_by,
    )
    await _add_parts(connection, broadcast.broadcast_id, wish, device_nos)


async def replace_broadcast(
    connection: Connection,
    broadcast_id: BroadcastId,
    wish: Wish,
    device_nos: dict[DeviceId, DeviceNo],
    *,
    issued_at: datetime,
) -> None:
    """Put another wish in the place of the one stored; its version grows."""
    await connection.execute(
        """
        UPDATE control.broadcasts
           SET title = $2, level = $3, recurrence = $4, time_zone = $5, starts_on = $6, ends_on = $7,
               local_times = $8, volume_percent = $9, resume = $10, issued_at = $11, version = version + 1
         WHERE broadcast_id = $1
        """,
        broadcast_id,
        wish.title,
        wish.level,
        wish.recurrence,
        wish.time_zone,
        wish.starts_on,
        wish.ends_on,
        list(wish.local_times),
        wish.volume_percent,
        wish.resume,
        issued_at,
    )
    await connection.execute("DELETE FROM control.broadcast_items WHERE broadcast_id = $1", broadcast_id)
    await connection.execute("DELETE FROM control.broadcast_targets WHERE broadcast_id = $1", broadcast_id)
    await _add_parts(connection, broadcast_id, wish, device_nos)


async def _add_parts(
    connection: Connection, broadcast_id: BroadcastId, wish: Wish, device_nos: dict[DeviceId, DeviceNo]
) -> None:
    await connection.executemany(
        "INSERT INTO control.broadcast_items (broadcast_id, item, bulletin_id, pause_ms) VALUES ($1, $2, $3, $4)",
        [
            (broadcast_id, number, item.bulletin_id, None)
            if isinstance(item, BulletinWish)
            else (broadcast_id, number, None, item.length // timedelta(milliseconds=1))
            for number, item in enumerate(wish.items)
        ],
    )
    await connection.executemany(
        """
        INSERT INTO control.broadcast_targets (broadcast_id, position, unit_id, device_no, is_excluded)
        VALUES ($1, $2, $3, $4, $5)
        """,
        [
            (broadcast_id, position, target.unit_id, None, target.is_excluded)
            if isinstance(target, UnitWish)
            else (broadcast_id, position, None, device_nos[DeviceId(target.device_id)], target.is_excluded)
            for position, target in enumerate(wish.targets)
        ],
    )


async def is_on_air(connection: Connection, broadcast_id: BroadcastId, *, now: datetime) -> bool:
    """Whether one of its occurrences has begun somewhere and is not over everywhere; between two items too."""
    return bool(
        await connection.fetchval(
            """
            SELECT EXISTS (
                SELECT
                  FROM control.emissions
                 WHERE broadcast_id = $1
                   AND withdrawn_at IS NULL
                 GROUP BY occurrence_at
                HAVING min(starts_at) <= $2 AND max(ends_at) > $2
            )
            """,
            broadcast_id,
            now,
        )
    )


async def withdraw_broadcast(connection: Connection, broadcast_id: BroadcastId, *, by: uuid.UUID, at: datetime) -> None:
    """Note that nothing more of it is to sound."""
    await connection.execute(
        """
        UPDATE control.broadcasts
           SET state = 'withdrawn', withdrawn_by = $2, withdrawn_at = $3, version = version + 1
         WHERE broadcast_id = $1
        """,
        broadcast_id,
        by,
        at,
    )


async def broadcast(connection: Connection, broadcast_id: uuid.UUID) -> StoredBroadcast:
    """One broadcast. Raises `NotFound`."""
    row = await connection.fetchrow(_COLUMNS + " WHERE broadcast_id = $1", broadcast_id)
    return (await _whole(connection, [_found(row, broadcast_id)]))[0]


async def broadcast_for_update(connection: Connection, broadcast_id: uuid.UUID) -> StoredBroadcast:
    """One broadcast, locked until the transaction ends. Raises `NotFound`."""
    row = await connection.fetchrow(_COLUMNS + " WHERE broadcast_id = $1 FOR UPDATE", broadcast_id)
    return (await _whole(connection, [_found(row, broadcast_id)]))[0]


async def broadcasts_of(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    state: str | None,
    before: datetime | None,
    limit: int,
) -> tuple[StoredBroadcast, ...]:
    """Broadcasts issued by the units, newest first."""
    rows = await connection.fetch(
        _COLUMNS
        + """
         WHERE unit_id = ANY ($1)
           AND ($2::text IS NULL OR state = $2)
           AND ($3::timestamptz IS NULL OR issued_at < $3)
         ORDER BY issued_at DESC, broadcast_id
         LIMIT $4
        """,
        list(unit_ids),
        state,
        before,
        limit,
    )
    return tuple(await _whole(connection, rows))


async def broadcasts_here(
    connection: Connection, unit_ids: Iterable[UnitId], *, since: datetime, limit: int
) -> tuple[StoredBroadcast, ...]:
    """Broadcasts that the units issued, or that are heard in them since an instant, newest first."""
    rows = await connection.fetch(_HERE, list(unit_ids), since, limit)
    return tuple(await _whole(connection, rows))


async def unit_of(connection: Connection, broadcast_id: uuid.UUID) -> UnitId:
    """The unit that issued a broadcast. Raises `NotFound`."""
    unit_id = await connection.fetchval("SELECT unit_id FROM control.broadcasts WHERE broadcast_id = $1", broadcast_id)
    if unit_id is None:
        raise NotFound("broadcast_not_found", facts={"id": str(broadcast_id)})
    return UnitId(unit_id)


def _found(row: Record | None, broadcast_id: uuid.UUID) -> Record:
    if row is None:
        raise NotFound("broadcast_not_found", facts={"id": str(broadcast_id)})
    return row


async def _whole(connection: Connection, rows: list[Record]) -> list[StoredBroadcast]:
    """The broadcasts of `rows` with their items and targets."""
    ids = [row["broadcast_id"] for row in rows]
    items: dict[uuid.UUID, list[BulletinWish | PauseWish]] = {each: [] for each in ids}
    targets: dict[uuid.UUID, list[UnitWish | DeviceWish]] = {each: [] for each in ids}
    for row in await connection.fetch(
        """
        SELECT broadcast_id, bulletin_id, pause_ms
          FROM control.broadcast_items
         WHERE broadcast_id = ANY ($1)
         ORDER BY broadcast_id, item
        """,
        ids,
    ):
        items[row["broadcast_id"]].append(
            BulletinWish(bulletin_id=row["bulletin_id"])
            if row["bulletin_id"] is not None
            else PauseWish(length=timedelta(milliseconds=row["pause_ms"]))
        )
    for row in await connection.fetch(
        """
        SELECT t.broadcast_id, t.unit_id, d.device_id, t.is_excluded
          FROM control.broadcast_targets t
          LEFT JOIN control.devices d USING (device_no)
         WHERE t.broadcast_id = ANY ($1)
         ORDER BY t.broadcast_id, t.position
        """,
        ids,
    ):
        targets[row["broadcast_id"]].append(
            UnitWish(unit_id=UnitId(row["unit_id"]), is_excluded=row["is_excluded"])
            if row["unit_id"] is not None
            else DeviceWish(device_id=row["device_id"], is_excluded=row["is_excluded"])
        )
    return [_stored(row, tuple(items[row["broadcast_id"]]), tuple(targets[row["broadcast_id"]])) for row in rows]


def _stored(
    row: Record, items: tuple[BulletinWish | PauseWish, ...], targets: tuple[UnitWish | DeviceWish, ...]
) -> StoredBroadcast:
    return StoredBroadcast(
        broadcast_id=BroadcastId(row["broadcast_id"]),
        wish=Wish(
            unit_id=UnitId(row["unit_id"]),
            title=row["title"],
            level=row["level"],
            recurrence=row["recurrence"],
            time_zone=row["time_zone"],
            starts_on=row["starts_on"],
            ends_on=row["ends_on"],
            local_times=tuple(row["local_times"]),
            items=items,
            targets=targets,
            volume_percent=row["volume_percent"],
            resume=row["resume"],
        ),
        state=row["state"],
        version=row["version"],
        issued_at=row["issued_at"],
        created_by=row["created_by"],
        withdrawn_at=row["withdrawn_at"],
        withdrawn_by=row["withdrawn_by"],
    )
