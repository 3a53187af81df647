"""SQL of broadcasts: what somebody asked for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import assert_never

from asyncpg import Record

from schemas.identifiers import BroadcastId, UnitId
from services.control.broadcast_requests import (
    BulletinWish,
    DeviceWish,
    GroupWish,
    ItemWish,
    KindWish,
    PauseWish,
    RelayWish,
    Source,
    TargetWish,
    UnitWish,
    Wish,
)
from services.control.errors import NotFound
from services.control.planning.model import DeviceNo
from services.control.snapshot_rows import parse_local
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
    withdrawn_at: datetime | None = None
    withdrawn_by: uuid.UUID | None = None
    offer_of: BroadcastId | None = None  # scheduled by a unit out of this offer


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyException:
    """Rules that a broadcast breaks, each with the unit whose policy it is: what an approver may let pass."""

    pairs: tuple[tuple[str, UnitId], ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """Each of the rules once."""
        return tuple(dict.fromkeys(rule for rule, _ in self.pairs))

    @property
    def unit_ids(self) -> tuple[UnitId, ...]:
        """Each of the units once."""
        return tuple(dict.fromkeys(unit_id for _, unit_id in self.pairs))


_COLUMNS = """
SELECT broadcast_id, unit_id, title, level, recurrence, time_zone, starts_on, ends_on, local_times, sessions, rrule,
       rdates, exdates, volume_percent, resume, length_ms, fit, fill, patience_ms, severity, state, version, issued_at,
       created_by, withdrawn_at, withdrawn_by, offer_of
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
    connection: Connection, broadcast: StoredBroadcast, device_nos: Mapping[str, DeviceNo], *, active_until: date | None
) -> None:
    """Store a new broadcast with its items and targets; `device_nos` are those of the devices it names."""
    await connection.execute(
        """
        INSERT INTO control.broadcasts
               (broadcast_id, unit_id, state, version, issued_at, created_by, offer_of, title, level, recurrence,
                time_zone, starts_on, ends_on, local_times, sessions, rrule, rdates, exdates, active_until,
                volume_percent, resume, length_ms, fit, fill, patience_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                $23, $24, $25)
        """,
        broadcast.broadcast_id,
        broadcast.wish.unit_id,
        broadcast.state,
        broadcast.version,
        broadcast.issued_at,
        broadcast.created_by,
        broadcast.offer_of,
        *_values(broadcast.wish, active_until),
    )
    await _add_parts(connection, broadcast.broadcast_id, broadcast.wish, device_nos)


async def replace_broadcast(
    connection: Connection,
    broadcast_id: BroadcastId,
    wish: Wish,
    device_nos: Mapping[str, DeviceNo],
    *,
    active_until: date | None,
    issued_at: datetime,
) -> None:
    """Put another wish in the place of the one stored, scheduled from now on; its version grows."""
    await connection.execute(
        """
        UPDATE control.broadcasts
           SET state = 'scheduled', version = version + 1, issued_at = $2, title = $3, level = $4, recurrence = $5,
               time_zone = $6, starts_on = $7, ends_on = $8, local_times = $9, sessions = $10, rrule = $11,
               rdates = $12, exdates = $13, active_until = $14, volume_percent = $15, resume = $16, length_ms = $17,
               fit = $18, fill = $19, patience_ms = $20
         WHERE broadcast_id = $1
        """,
        broadcast_id,
        issued_at,
        *_values(wish, active_until),
    )
    await connection.execute("DELETE FROM control.broadcast_items WHERE broadcast_id = $1", broadcast_id)
    await connection.execute("DELETE FROM control.broadcast_targets WHERE broadcast_id = $1", broadcast_id)
    await _add_parts(connection, broadcast_id, wish, device_nos)


def _values(wish: Wish, active_until: date | None) -> tuple[object, ...]:
    """What may change of a broadcast, in the order in which both statements name it."""
    return (
        wish.title,
        wish.level,
        wish.recurrence,
        wish.time_zone,
        wish.starts_on,
        wish.ends_on,
        list(wish.local_times),
        list(wish.sessions),
        wish.rrule,
        [each.isoformat() for each in wish.rdates],
        [each.isoformat() for each in wish.exdates],
        active_until,
        wish.volume_percent,
        wish.resume,
        _ms(wish.length),
        wish.fit,
        wish.fill,
        _ms(wish.patience),
    )


def _ms(length: timedelta | None) -> int | None:
    return None if length is None else length // timedelta(milliseconds=1)


async def set_state(connection: Connection, broadcast_id: BroadcastId, state: str) -> None:
    """Give a broadcast another state; its version stays, because what was asked for does."""
    await connection.execute("UPDATE control.broadcasts SET state = $2 WHERE broadcast_id = $1", broadcast_id, state)


async def _add_parts(
    connection: Connection, broadcast_id: BroadcastId, wish: Wish, device_nos: Mapping[str, DeviceNo]
) -> None:
    await connection.executemany(
        """
        INSERT INTO control.broadcast_items
               (broadcast_id, item, bulletin_id, pause_ms, relay_source_id, length_ms, starts_after_ms, is_live)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        [(broadcast_id, number, *_item_columns(item)) for number, item in enumerate(wish.items)],
    )
    await connection.executemany(
        """
        INSERT INTO control.broadcast_targets
               (broadcast_id, position, is_excluded, unit_id, device_no, group_id, device_kind)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        [
            (broadcast_id, position, target.is_excluded, *_target_columns(target, device_nos))
            for position, target in enumerate(wish.targets)
        ],
    )


def _item_columns(item: ItemWish) -> tuple[object, ...]:
    match item:
        case BulletinWish(bulletin_id=bulletin_id):
            return (bulletin_id, None, None, None, None, False)
        case PauseWish(length=length):
            return (None, _ms(length), None, None, None, False)
        case RelayWish(source_id=source_id, length=length, starts_after=starts_after, is_live=is_live):
            return (None, None, source_id, _ms(length), _ms(starts_after), is_live)
        case _:
            assert_never(item)


def _target_columns(target: TargetWish, device_nos: Mapping[str, DeviceNo]) -> tuple[object, ...]:
    match target:
        case UnitWish(unit_id=unit_id):
            return (unit_id, None, None, None)
        case DeviceWish(device_id=device_id):
            return (None, device_nos[device_id], None, None)
        case GroupWish(group_id=group_id):
            return (None, None, group_id, None)
        case KindWish(kind=kind):
            return (None, None, None, kind)
        case _:
            assert_never(target)


async def ask_for_exception(
    connection: Connection, broadcast: StoredBroadcast, exception: PolicyException, *, by: uuid.UUID, at: datetime
) -> None:
    """Have an approver decide on the rules that this version of a broadcast, made by somebody, breaks."""
    await connection.execute(
        """
        INSERT INTO control.policy_exceptions (broadcast_id, version, rules, unit_ids, asked_at, asked_by)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        broadcast.broadcast_id,
        broadcast.version,
        [rule for rule, _ in exception.pairs],
        [unit_id for _, unit_id in exception.pairs],
        at,
        by,
    )


async def offer(connection: Connection, offers: Iterable[tuple[BroadcastId, UnitId]], *, at: datetime) -> None:
    """Offer broadcasts to units, as they stand at an instant; what is offered already stays as it is.

    What was changed since is left out: whom it means now is found out anew, and nobody would take back an offer of before.
    """
    pairs = list(offers)
    await connection.execute(
        """
        INSERT INTO control.offers (broadcast_id, unit_id, offered_at)
        SELECT o.broadcast_id, o.unit_id, $3
          FROM unnest($1::uuid[], $2::uuid[]) AS o (broadcast_id, unit_id)
          JOIN control.broadcasts b USING (broadcast_id)
         WHERE b.issued_at <= $3
           AND NOT EXISTS (SELECT
                             FROM control.offers f
                            WHERE f.broadcast_id = o.broadcast_id
                              AND f.unit_id = o.unit_id)
         ORDER BY o.broadcast_id, o.unit_id
           FOR SHARE OF b
            ON CONFLICT (broadcast_id, unit_id) DO NOTHING
        """,
        [broadcast_id for broadcast_id, _ in pairs],
        [unit_id for _, unit_id in pairs],
        at,
    )


async def take_back_offers(connection: Connection, broadcast_id: BroadcastId) -> None:
    """Ask nobody any more whom a broadcast was offered to, but for who scheduled it; what they said is kept as said.

    It is another one now: who is still asked is planned anew, and what they said was about something else.
    """
    await connection.execute(
        """
        WITH gone AS (
             DELETE FROM control.offers
              WHERE broadcast_id = $1
                AND state <> 'scheduled'
          RETURNING broadcast_id, unit_id, state, offered_at, decided_at)
        INSERT INTO control.past_offers (broadcast_id, unit_id, state, offered_at, decided_at)
        SELECT broadcast_id, unit_id, state, offered_at, decided_at
          FROM gone
         WHERE state <> 'offered'
        """,
        broadcast_id,
    )


async def sources_by_id(connection: Connection, source_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Source]:
    """The relay sources among these ids that exist, retired or not."""
    rows = await connection.fetch(
        "SELECT source_id, unit_id, name, retired_at FROM control.relay_sources WHERE source_id = ANY ($1)",
        list(source_ids),
    )
    return {row["source_id"]: Source(**dict(row)) for row in rows}


async def content_of(connection: Connection, broadcast_id: BroadcastId) -> frozenset[uuid.UUID]:
    """The bulletins and relay sources that a broadcast holds."""
    rows = await connection.fetch(
        """
        SELECT coalesce(bulletin_id, relay_source_id) AS id
          FROM control.broadcast_items
         WHERE broadcast_id = $1 AND pause_ms IS NULL
        """,
        broadcast_id,
    )
    return frozenset(row["id"] for row in rows)


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


async def broadcasts_by_id(
    connection: Connection, broadcast_ids: Iterable[uuid.UUID]
) -> dict[uuid.UUID, StoredBroadcast]:
    """The broadcasts among these ids that exist."""
    rows = await connection.fetch(_COLUMNS + " WHERE broadcast_id = ANY ($1)", list(broadcast_ids))
    return {each.broadcast_id: each for each in await _whole(connection, rows)}


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
    before_id: uuid.UUID | None = None,
    limit: int,
) -> tuple[StoredBroadcast, ...]:
    """Broadcasts issued by the units, newest first, those of one instant by id.

    `before` leaves out what is not older; with `before_id` what is of that instant and stands behind that id counts too.
    """
    rows = await connection.fetch(
        _COLUMNS
        + """
         WHERE unit_id = ANY ($1)
           AND ($2::text IS NULL OR state = $2)
           AND ($3::timestamptz IS NULL OR issued_at < $3 OR (issued_at = $3 AND broadcast_id > $4))
         ORDER BY issued_at DESC, broadcast_id
         LIMIT $5
        """,
        list(unit_ids),
        state,
        before,
        before_id,
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
    items: dict[uuid.UUID, list[ItemWish]] = {each: [] for each in ids}
    targets: dict[uuid.UUID, list[TargetWish]] = {each: [] for each in ids}
    for row in await connection.fetch(
        """
        SELECT broadcast_id, bulletin_id, pause_ms, relay_source_id, length_ms, starts_after_ms, is_live
          FROM control.broadcast_items
         WHERE broadcast_id = ANY ($1)
         ORDER BY broadcast_id, item
        """,
        ids,
    ):
        items[row["broadcast_id"]].append(_item(row))
    for row in await connection.fetch(
        """
        SELECT t.broadcast_id, t.unit_id, d.device_id, t.group_id, t.device_kind, t.is_excluded
          FROM control.broadcast_targets t
          LEFT JOIN control.devices d USING (device_no)
         WHERE t.broadcast_id = ANY ($1)
         ORDER BY t.broadcast_id, t.position
        """,
        ids,
    ):
        targets[row["broadcast_id"]].append(_target(row))
    return [_stored(row, tuple(items[row["broadcast_id"]]), tuple(targets[row["broadcast_id"]])) for row in rows]


def _item(row: Record) -> ItemWish:
    if row["bulletin_id"] is not None:
        return BulletinWish(bulletin_id=row["bulletin_id"])
    if row["pause_ms"] is not None:
        return PauseWish(length=timedelta(milliseconds=row["pause_ms"]))
    return RelayWish(
        source_id=row["relay_source_id"],
        length=timedelta(milliseconds=row["length_ms"]),
        starts_after=_length(row["starts_after_ms"]),
        is_live=row["is_live"],
    )


def _target(row: Record) -> TargetWish:
    is_excluded = row["is_excluded"]
    if row["unit_id"] is not None:
        return UnitWish(unit_id=UnitId(row["unit_id"]), is_excluded=is_excluded)
    if row["group_id"] is not None:
        return GroupWish(group_id=row["group_id"], is_excluded=is_excluded)
    if row["device_kind"] is not None:
        return KindWish(kind=row["device_kind"], is_excluded=is_excluded)
    return DeviceWish(device_id=row["device_id"], is_excluded=is_excluded)


def _length(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def _stored(row: Record, items: tuple[ItemWish, ...], targets: tuple[TargetWish, ...]) -> StoredBroadcast:
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
            sessions=tuple(row["sessions"]),
            rrule=row["rrule"],
            rdates=tuple(parse_local(each) for each in row["rdates"]),
            exdates=tuple(parse_local(each) for each in row["exdates"]),
            items=items,
            targets=targets,
            volume_percent=row["volume_percent"],
            resume=row["resume"],
            length=_length(row["length_ms"]),
            fit=row["fit"],
            fill=row["fill"],
            patience=_length(row["patience_ms"]),
        ),
        state=row["state"],
        version=row["version"],
        issued_at=row["issued_at"],
        created_by=row["created_by"],
        withdrawn_at=row["withdrawn_at"],
        withdrawn_by=row["withdrawn_by"],
        offer_of=BroadcastId(row["offer_of"]) if row["offer_of"] is not None else None,
    )
