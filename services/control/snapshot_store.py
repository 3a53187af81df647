"""SQL of what planning looks at: broadcasts with all they name, devices, units, policies, and what has begun."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from asyncpg import Record

from schemas.fields import Level
from schemas.identifiers import BroadcastId, BulletinId, UnitId
from services.control import policy_store, snapshot_rows, unit_store
from services.control.planning.ground import surroundings
from services.control.planning.model import (
    LONGEST_DAY,
    Answer,
    Begun,
    DeviceNo,
    DeviceRef,
    GroupId,
    Plays,
    RelaySource,
    Requisition,
    Snapshot,
    SourceId,
    Window,
)
from services.control.planning.policies import limits_time
from services.control.planning.recurrence import AROUND
from services.control.units import UnitHistory
from services.shared.database.pool import Connection

_FLEET = """
SELECT device_no, device_id, kind, unit_id, registered_at, retired_at, ownership, public_share_minutes, volume_percent
  FROM control.devices
 WHERE (unit_id = ANY ($1) OR device_id = ANY ($2))
   AND kind IN ('cluster', 'board')
   AND (retired_at IS NULL OR retired_at > $3)
"""

# Those with an occurrence on the days of a window, or with one that nobody can rule out without expanding the rule.
_BROADCASTS = """
SELECT b.broadcast_id, b.unit_id, b.title, b.level, b.recurrence, b.time_zone, b.starts_on, b.ends_on, b.local_times,
       b.sessions, b.rrule, b.rdates, b.exdates, b.volume_percent, b.resume, b.length_ms, b.fit, b.fill, b.patience_ms,
       b.severity, b.issued_at, b.state = 'awaiting_approval' AS is_awaiting,
       coalesce(x.rules, '{}') AS allowed_rules, coalesce(x.unit_ids, '{}') AS allowed_by
  FROM control.broadcasts b
  LEFT JOIN control.policy_exceptions x
         ON x.broadcast_id = b.broadcast_id AND x.version = b.version AND x.is_allowed
 WHERE b.state IN ('scheduled', 'awaiting_approval')
   AND (b.starts_on < $2 OR cardinality(b.rdates) > 0)
   AND (b.active_until IS NULL OR b.active_until > $1)
   AND ($3::uuid[] IS NULL OR b.broadcast_id = ANY ($3))
   AND ($4::uuid[] IS NULL OR b.unit_id = ANY ($4))
"""

_ITEMS = """
SELECT i.broadcast_id, i.item, i.bulletin_id, i.pause_ms, i.relay_source_id, i.length_ms, i.starts_after_ms, i.is_live,
       coalesce(b.kind = 'jingle', false) AS is_jingle
  FROM control.broadcast_items i
  LEFT JOIN control.bulletins b USING (bulletin_id)
 WHERE i.broadcast_id = ANY ($1)
 ORDER BY i.broadcast_id, i.item
"""

_TARGETS = """
SELECT broadcast_id, unit_id, device_no, group_id, device_kind, is_excluded
  FROM control.broadcast_targets
 WHERE broadcast_id = ANY ($1)
 ORDER BY broadcast_id, position
"""

_BULLETINS = """
SELECT b.bulletin_id, b.title, b.state, b.board_text, b.board_style, b.board_length_ms, b.expires_at, b.max_plays,
       b.media_sha256, m.size, m.mime, m.duration_ms,
       b.board_media_sha256, p.size AS board_size, p.mime AS board_mime, p.duration_ms AS board_duration_ms
  FROM control.bulletins b
  LEFT JOIN control.media m ON m.sha256 = b.media_sha256
  LEFT JOIN control.media p ON p.sha256 = b.board_media_sha256
 WHERE b.bulletin_id = ANY ($1)
"""

# What sounded, or was to, before an instant. Occurrences are found one after the other by the key, each has thousands of
# rows, and no more of them than a bulletin may have plays.
_PLAYS = """
SELECT i.broadcast_id, i.bulletin_id, p.so_far
  FROM (SELECT DISTINCT broadcast_id, bulletin_id
          FROM control.broadcast_items
         WHERE broadcast_id = ANY ($1)) i
  JOIN control.bulletins l ON l.bulletin_id = i.bulletin_id AND l.max_plays IS NOT NULL AND l.state = 'approved'
 CROSS JOIN LATERAL (
       WITH RECURSIVE begun AS (
            SELECT (SELECT min(e.occurrence_at)
                      FROM control.emissions e
                     WHERE e.broadcast_id = i.broadcast_id
                       AND e.occurrence_at < $2) AS at,
                   0 AS plays
             UNION ALL
            SELECT (SELECT min(e.occurrence_at)
                      FROM control.emissions e
                     WHERE e.broadcast_id = i.broadcast_id
                       AND e.occurrence_at > begun.at
                       AND e.occurrence_at < $2),
                   begun.plays + EXISTS (SELECT
                                           FROM control.emissions e
                                          WHERE e.broadcast_id = i.broadcast_id
                                            AND e.occurrence_at = begun.at
                                            AND e.bulletin_id = i.bulletin_id
                                            AND e.withdrawn_at IS NULL)::int
              FROM begun
             WHERE begun.at IS NOT NULL
               AND begun.plays < l.max_plays)
       SELECT max(plays) AS so_far
         FROM begun) p
"""

# What has begun by now and still counts for a day on which something can begin; no device had what was planned too late. What was withdrawn ended then, at the
# latest; of what was only changed the occurrence goes on to its end. Devices are told times in milliseconds.
_BEGUN = """
SELECT e.broadcast_id, e.occurrence_at, e.level, e.allowed_rules, e.allowed_by, e.starts_at, e.ends_at,
       array_agg(e.device_no) AS devices
  FROM (SELECT e.broadcast_id, e.occurrence_at, e.device_no, e.level, e.starts_at,
               coalesce(x.rules, '{}') AS allowed_rules, coalesce(x.unit_ids, '{}') AS allowed_by,
               least(e.ends_at, e.stopped_at, CASE WHEN b.state = 'withdrawn' THEN $1::timestamptz END) AS ends_at
          FROM control.broadcasts b
          JOIN control.emissions e
            ON e.broadcast_id = b.broadcast_id
           AND e.occurrence_at > $1::timestamptz - $2::interval
           AND e.occurrence_at <= $1::timestamptz
           AND e.withdrawn_at IS NULL
           AND e.reason IS DISTINCT FROM 'planned_too_late'
          LEFT JOIN control.policy_exceptions x
                 ON x.broadcast_id = b.broadcast_id
                AND x.is_allowed
                AND date_trunc('milliseconds', x.asked_at) = e.issued_at
         WHERE (b.active_until IS NULL
                OR b.active_until >= ($1::timestamptz - $2::interval)::date - 1
                OR greatest(b.issued_at, b.withdrawn_at) > $1::timestamptz - $2::interval)
           AND ($3::integer[] IS NULL OR e.device_no = ANY ($3))) e
 WHERE e.ends_at > e.starts_at
 GROUP BY e.broadcast_id, e.occurrence_at, e.level, e.allowed_rules, e.allowed_by, e.starts_at, e.ends_at
"""

# A bulletin that ends some day is no fallback: who falls back asks nobody whether it still holds.
_SOURCES = """
SELECT s.source_id, s.name, s.url, s.is_direct, m.sha256 AS media_sha256, m.size, m.mime, m.duration_ms
  FROM control.relay_sources s
  LEFT JOIN control.bulletins b ON b.bulletin_id = s.fallback_bulletin_id AND b.state = 'approved'
         AND b.expires_at IS NULL AND b.max_plays IS NULL
  LEFT JOIN control.media m ON m.sha256 = b.media_sha256
 WHERE s.source_id = ANY ($1)
   AND ($2 OR s.retired_at IS NULL)
"""

_GROUPS = """
SELECT g.group_id, coalesce(array_agg(m.device_no) FILTER (WHERE m.device_no IS NOT NULL), '{}') AS device_nos
  FROM control.device_groups g
  LEFT JOIN control.device_group_members m USING (group_id)
 WHERE g.group_id = ANY ($1)
   AND g.closed_at IS NULL
 GROUP BY g.group_id
"""

_SHARED_BOARDS = """
SELECT EXISTS (SELECT
                 FROM control.devices
                WHERE ownership = 'private_with_public_share'
                  AND retired_at IS NULL)
"""

_OFFERS = """
SELECT broadcast_id, unit_id, state
  FROM control.offers
 WHERE broadcast_id = ANY ($1)
   AND state <> 'offered'
"""

_PLACES = """
SELECT unit_id, broadcast_id, place
  FROM control.priority_places
 WHERE broadcast_id = ANY ($1)
"""

_REQUISITIONS = """
SELECT unit_id, device_no, valid_from, coalesce(least(expires_at, revoked_at), expires_at) AS expires_at
  FROM control.requisitions
 WHERE expires_at > $1
   AND (revoked_at IS NULL OR revoked_at > greatest(valid_from, $1))
"""

# Sensors and gateways put out nothing, and there may be millions: they are loaded only where somebody named them.
_DEVICES = """
SELECT device_no, device_id, kind, unit_id, registered_at, retired_at, ownership, public_share_minutes, volume_percent
  FROM control.devices
 WHERE (kind IN ('cluster', 'board') OR device_no = ANY ($1))
   AND (retired_at IS NULL OR retired_at > $2)
   AND ($3::integer[] IS NULL OR device_no = ANY ($3))
   AND ($4::uuid[] IS NULL OR unit_id = ANY ($4))
"""


async def load_snapshot(
    connection: Connection,
    window: Window,
    *,
    zone: ZoneInfo,
    there_after: datetime,
    played_before: datetime,
    broadcasts: Sequence[BroadcastId] | None = None,
    devices: Sequence[DeviceNo] | None = None,
    issuers: Collection[UnitId] | None = None,
    around: UnitId | None = None,
    ground: Snapshot | None = None,
    begun_by: datetime | None = None,
) -> Snapshot:
    """What `plan` looks at: broadcasts that are scheduled or wait for an approver, with occurrences on the days of `window`, and devices in service.

    `zone` is the one that policies hold in, and whose days the window is made of.
    `broadcasts`, `issuers` and `devices` narrow it down; `around` a unit to the devices that lie below it on one of the
    days, and to the broadcasts that can reach them. Devices that were retired by `there_after` are left out. Devices and units are
    taken from `ground`, if there is one: read a moment ago, and known to be the same. Plays of bulletins that may only
    have some are those on record before `played_before`. Where time is granted, what has begun by `begun_by` draws on it.
    """
    units = await unit_store.load_units(connection) if ground is None else ground.units
    grounds: Collection[UnitId] | None = None
    if around is not None:
        issuers, grounds = surroundings([around], units, window)
    rows = await connection.fetch(
        _BROADCASTS,
        window.first - AROUND,
        window.end + AROUND,
        None if broadcasts is None else list(broadcasts),
        None if issuers is None else list(issuers),
    )
    ids = [row["broadcast_id"] for row in rows]
    items = _grouped(await connection.fetch(_ITEMS, ids))
    targets = _grouped(await connection.fetch(_TARGETS, ids))
    wanted = _named(items, "bulletin_id")
    named = list(_named(targets, "device_no"))
    fleet = await _load_devices(connection, named, there_after, devices, grounds) if ground is None else ground.devices
    stated = await policy_store.load_policies(connection)
    return Snapshot(
        broadcasts=tuple(
            snapshot_rows.broadcast(
                row, items.get(row["broadcast_id"], ()), targets.get(row["broadcast_id"], ()), units
            )
            for row in rows
        ),
        bulletins=tuple(snapshot_rows.bulletin(row) for row in await connection.fetch(_BULLETINS, list(wanted))),
        devices=fleet,
        units=units,
        zone=zone,
        relays=tuple((await load_sources(connection, _named(items, "relay_source_id"))).values()),
        groups=await _load_groups(connection, _named(targets, "group_id")),
        policies=stated,
        offers={
            (BroadcastId(row["broadcast_id"]), UnitId(row["unit_id"])): Answer(row["state"])
            for row in await connection.fetch(_OFFERS, ids)
        },
        places={
            (UnitId(row["unit_id"]), BroadcastId(row["broadcast_id"])): row["place"]
            for row in await connection.fetch(_PLACES, ids)
        },
        requisitions=tuple(
            Requisition(
                unit_id=UnitId(row["unit_id"]) if row["unit_id"] is not None else None,
                device_no=DeviceNo(row["device_no"]) if row["device_no"] is not None else None,
                valid_from=row["valid_from"],
                expires_at=row["expires_at"],
            )
            for row in await connection.fetch(_REQUISITIONS, there_after)
        ),
        plays={
            (BroadcastId(row["broadcast_id"]), BulletinId(row["bulletin_id"])): Plays(row["so_far"], played_before)
            for row in await connection.fetch(_PLAYS, ids, played_before)
        },
        asked_at=played_before,
        begun=()
        if begun_by is None or not (limits_time(stated.values()) or any(each.public_share for each in fleet))
        else await _load_begun(connection, begun_by, units, None if around is None and devices is None else fleet),
    )


async def _load_begun(
    connection: Connection, now: datetime, units: UnitHistory, fleet: Sequence[DeviceRef] | None
) -> tuple[Begun, ...]:
    device_nos = None if fleet is None else [device.device_no for device in fleet]
    return tuple(
        Begun(
            broadcast_id=BroadcastId(row["broadcast_id"]),
            occurrence_at=row["occurrence_at"],
            level=Level[row["level"].upper()],
            allowed_rules=snapshot_rows.allowed(row, units),
            begins_at=row["starts_at"],
            ends_at=row["ends_at"],
            devices=frozenset(map(DeviceNo, row["devices"])),
        )
        for row in await connection.fetch(_BEGUN, now, LONGEST_DAY, device_nos)
    )


async def is_time_granted(connection: Connection) -> bool:
    """Whether broadcasts share anything: minutes that a policy grants devices, or the public share of a private board."""
    if limits_time((await policy_store.load_policies(connection)).values()):
        return True
    return bool(await connection.fetchval(_SHARED_BOARDS))


async def load_sources(
    connection: Connection, source_ids: Iterable[uuid.UUID], *, with_retired: bool = False
) -> dict[SourceId, RelaySource]:
    """The relay sources among these ids, as planning sees them."""
    rows = await connection.fetch(_SOURCES, list(source_ids), with_retired)
    return {SourceId(row["source_id"]): snapshot_rows.source(row) for row in rows}


async def _load_devices(
    connection: Connection,
    named: Sequence[DeviceNo],
    there_after: datetime,
    devices: Sequence[DeviceNo] | None,
    grounds: Collection[UnitId] | None,
) -> tuple[DeviceRef, ...]:
    rows = await connection.fetch(
        _DEVICES,
        list(named),
        there_after,
        None if devices is None else list(devices),
        None if grounds is None else list(grounds),
    )
    return tuple(snapshot_rows.device(row) for row in rows)


async def _load_groups(connection: Connection, group_ids: Iterable[uuid.UUID]) -> dict[GroupId, frozenset[DeviceNo]]:
    """The members of the groups among these ids that are not closed."""
    rows = await connection.fetch(_GROUPS, list(group_ids))
    return {GroupId(row["group_id"]): frozenset(map(DeviceNo, row["device_nos"])) for row in rows}


def _named(rows: Mapping[uuid.UUID, Sequence[Record]], column: str) -> set[Any]:
    return {row[column] for group in rows.values() for row in group if row[column] is not None}


async def load_fleet(
    connection: Connection, unit_ids: Iterable[UnitId], device_ids: Iterable[str], *, there_after: datetime
) -> tuple[DeviceRef, ...]:
    """The devices of some units, and some by name, that put something out and were in service after an instant."""
    return tuple(
        snapshot_rows.device(row)
        for row in await connection.fetch(_FLEET, list(unit_ids), list(device_ids), there_after)
    )


def _grouped(rows: Iterable[Record]) -> dict[uuid.UUID, list[Record]]:
    groups: dict[uuid.UUID, list[Record]] = {}
    for row in rows:
        groups.setdefault(row["broadcast_id"], []).append(row)
    return groups
