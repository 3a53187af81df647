"""SQL of the programme: what planning looks at, what it decided, and what stands in the way."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from asyncpg import Record

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from schemas.plans import ContentKind
from services.control import policy_store, unit_store
from services.control.planning.changes import Changes, Recorded, fingerprinter, is_history
from services.control.planning.ground import surroundings
from services.control.planning.model import (
    EVERY_DAY,
    LONGEST_DAY,
    MAX_OCCURRENCE_LENGTH,
    Answer,
    Begun,
    Broadcast,
    Bulletin,
    BulletinItem,
    DeviceNo,
    DeviceRef,
    DeviceTarget,
    Emission,
    Fill,
    Fit,
    GroupId,
    GroupTarget,
    Item,
    KindTarget,
    Media,
    Pause,
    Plays,
    Problem,
    ProblemKind,
    Recurrence,
    RelayItem,
    RelaySource,
    Requisition,
    Snapshot,
    SourceId,
    Target,
    UnitTarget,
    Window,
    from_ms,
)
from services.control.planning.policies import limits_time
from services.control.planning.reconcile import Outcome, Reason
from services.control.planning.recurrence import AROUND
from services.control.units import UnitHistory
from services.shared.database.pool import Connection

# Rows written by one statement: large enough to be quick, small enough for the statement's time limit.
CHUNK = 10_000

# One planner at a time: programmes are made of all broadcasts, so two planners would each miss what the other adds.
# Taken without waiting; any number, as long as nobody else uses it.
_LOCK = "SELECT pg_try_advisory_xact_lock(4021707201)"

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
       b.severity, b.issued_at, coalesce(x.rules, '{}') AS allowed_rules, coalesce(x.unit_ids, '{}') AS allowed_by
  FROM control.broadcasts b
  LEFT JOIN control.policy_exceptions x
         ON x.broadcast_id = b.broadcast_id AND x.version = b.version AND x.is_allowed
 WHERE b.state = 'scheduled'
   AND (b.starts_on < $2 OR cardinality(b.rdates) > 0)
   AND (b.active_until IS NULL OR b.active_until > $1)
   AND ($3::uuid[] IS NULL OR b.broadcast_id = ANY ($3))
   AND ($4::uuid[] IS NULL OR b.unit_id = ANY ($4))
"""

_ISSUED = """
SELECT broadcast_id, issued_at
  FROM control.broadcasts
 WHERE broadcast_id = ANY ($1)
   AND state <> 'withdrawn'
"""

_ITEMS = """
SELECT i.broadcast_id, i.item, i.bulletin_id, i.pause_ms, i.relay_source_id, i.length_ms, i.starts_after_ms,
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

# What has begun by now and still counts for a day on which something can begin. What was withdrawn ended then, at the
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

_RECORDED = """
SELECT broadcast_id, occurrence_at, item, device_no, starts_at, ends_at, fingerprint, stopped_at IS NOT NULL
  FROM control.emissions
 WHERE withdrawn_at IS NULL
   AND ends_at > $1
"""

# An occurrence lasts a day at most: with a range of starts beside it, the end is found by the keys of the broadcast or
# of the device instead of among everybody's future.
_RECORDED_OF_BROADCASTS = _RECORDED + "   AND broadcast_id = ANY ($2) AND occurrence_at > $1 - $3::interval"
_RECORDED_OF_DEVICES = _RECORDED + "   AND device_no = ANY ($2) AND starts_at > $1 - $3::interval"

_RECORD = """
INSERT INTO control.emissions
       (broadcast_id, occurrence_at, item, device_no, unit_id, bulletin_id, relay_source_id, content, level,
        issuer_depth, issued_at, severity, place, resume, volume_percent, starts_at, ends_at, latest_start_at,
        fingerprint, planned_at, outcome, reason, reconciled_at)
SELECT e.broadcast_id, e.occurrence_at, e.item, e.device_no, coalesce(h.heir_id, d.unit_id), e.bulletin_id,
       e.relay_source_id, e.content, e.level, e.issuer_depth, e.issued_at, e.severity, e.place, e.resume,
       e.volume_percent, e.starts_at, e.ends_at, e.latest_start_at, e.fingerprint, $19::timestamptz, $20::text, $21::text,
       CASE WHEN $20 IS NULL THEN NULL ELSE $19 END
  FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[], $5::uuid[], $6::uuid[], $7::text[],
              $8::text[], $9::smallint[], $10::timestamptz[], $11::smallint[], $12::smallint[], $13::text[],
              $14::smallint[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::bytea[])
       AS e (broadcast_id, occurrence_at, item, device_no, bulletin_id, relay_source_id, content, level, issuer_depth,
             issued_at, severity, place, resume, volume_percent, starts_at, ends_at, latest_start_at, fingerprint)
  JOIN control.devices d ON d.device_no = e.device_no
  LEFT JOIN control.unit_heirs h
         ON h.unit_id = d.unit_id AND e.starts_at >= h.begins_at AND (h.ends_at IS NULL OR e.starts_at < h.ends_at)
    ON CONFLICT ON CONSTRAINT emissions_once_per_device DO UPDATE
   SET unit_id = excluded.unit_id,
       bulletin_id = excluded.bulletin_id,
       relay_source_id = excluded.relay_source_id,
       content = excluded.content,
       level = excluded.level,
       issuer_depth = excluded.issuer_depth,
       issued_at = excluded.issued_at,
       severity = excluded.severity,
       place = excluded.place,
       resume = excluded.resume,
       volume_percent = excluded.volume_percent,
       starts_at = excluded.starts_at,
       ends_at = excluded.ends_at,
       latest_start_at = excluded.latest_start_at,
       fingerprint = excluded.fingerprint,
       planned_at = excluded.planned_at,
       withdrawn_at = NULL,
       stopped_at = NULL,
       outcome = excluded.outcome,
       reason = excluded.reason,
       evidence = NULL,
       started_at = NULL,
       ended_at = NULL,
       sounded_ms = NULL,
       cut_by_source = NULL,
       cut_by = NULL,
       is_resumed = NULL,
       fallback_ms = NULL,
       reconciled_at = excluded.reconciled_at
"""

# What has not begun, of devices that lie elsewhere by now or will on its day. What has begun stays where it began.
_REFILE = """
UPDATE control.emissions e
   SET unit_id = filed.unit_id
  FROM (SELECT e.broadcast_id, e.occurrence_at, e.item, e.device_no, coalesce(h.heir_id, d.unit_id) AS unit_id
          FROM control.emissions e
          JOIN control.devices d USING (device_no)
          LEFT JOIN control.unit_heirs h
                 ON h.unit_id = d.unit_id AND e.starts_at >= h.begins_at AND (h.ends_at IS NULL OR e.starts_at < h.ends_at)
         WHERE {which}
           AND e.starts_at > $1
           AND e.withdrawn_at IS NULL
           AND e.unit_id <> coalesce(h.heir_id, d.unit_id)) filed
 WHERE (e.broadcast_id, e.occurrence_at, e.item, e.device_no)
     = (filed.broadcast_id, filed.occurrence_at, filed.item, filed.device_no)
"""
_REFILE_ALL = _REFILE.replace("{which}", "e.ends_at > $1")  # the index of ends holds what is to come
_REFILE_DEVICES = _REFILE.replace("{which}", "e.device_no = ANY ($2)")

_WITHDRAW = """
UPDATE control.emissions e
   SET withdrawn_at = $5
  FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[])
       AS gone (broadcast_id, occurrence_at, item, device_no)
 WHERE (e.broadcast_id, e.occurrence_at, e.item, e.device_no)
     = (gone.broadcast_id, gone.occurrence_at, gone.item, gone.device_no)
"""

_STOP = _WITHDRAW.replace("withdrawn_at", "stopped_at")

_FORGET_PROBLEMS = """
DELETE FROM control.planning_problems
 WHERE CASE WHEN occurrence_at IS NULL THEN local_day IS NULL OR local_day >= $2 ELSE occurrence_at >= $1 END
   AND ($3 OR broadcast_id = ANY ($4::uuid[]) OR device_no = ANY ($5::integer[]))
"""

# What lay before the present form of its broadcast may have sounded in another.
_NOTE_PROBLEMS = """
INSERT INTO control.planning_problems
       (broadcast_id, local_day, occurrence_at, item, device_no, unit_id, problem, detail, found_at)
SELECT p.broadcast_id, p.local_day, p.occurrence_at, p.item, p.device_no, p.unit_id, p.problem, p.detail, $9
  FROM unnest($1::uuid[], $2::date[], $3::timestamptz[], $4::smallint[], $5::integer[], $6::uuid[], $7::text[],
              $8::text[])
       AS p (broadcast_id, local_day, occurrence_at, item, device_no, unit_id, problem, detail)
 WHERE p.problem <> $10
    OR NOT EXISTS (SELECT
                     FROM control.emissions e
                    WHERE e.broadcast_id = p.broadcast_id
                      AND e.occurrence_at = p.occurrence_at
                      AND e.withdrawn_at IS NULL)
"""

# An unclaimed row is updated rather than left alone: leaving it alone would not wait for whoever is just taking it, and
# what the taker does not see yet would be forgotten.
_ASK_TO_ISSUE = """
INSERT INTO control.issue_requests (device_no, requested_at)
SELECT device_no, $2
  FROM unnest($1::integer[]) AS device_no
 ORDER BY device_no
    ON CONFLICT (device_no) DO UPDATE SET requested_at = excluded.requested_at
"""

_ASK_TO_ISSUE_TO_ALL = """
INSERT INTO control.issue_requests (device_no, requested_at)
SELECT device_no, $1
  FROM control.devices
 WHERE retired_at IS NULL
 ORDER BY device_no
    ON CONFLICT (device_no) DO UPDATE SET requested_at = excluded.requested_at
"""

_ROLL = """
INSERT INTO control.planning_rolls (rolled_on, rolled_at, planned_until)
VALUES ($1, $2, $3)
    ON CONFLICT (rolled_on) DO NOTHING
RETURNING (SELECT max(planned_until) FROM control.planning_rolls)
"""

_PROBLEMS_OF = """
SELECT problem, broadcast_id, local_day, occurrence_at, item, device_no, unit_id, detail
  FROM control.planning_problems
 WHERE broadcast_id = $1
 ORDER BY local_day NULLS FIRST, occurrence_at NULLS FIRST, item NULLS FIRST, device_no NULLS FIRST, problem,
          unit_id, detail
"""


class Reach(NamedTuple):
    """Which part of the record something is about: everything, some broadcasts, or some devices."""

    is_everything: bool
    broadcasts: Sequence[BroadcastId] = ()
    devices: Sequence[DeviceNo] = ()


async def try_lock(connection: Connection) -> bool:
    """Whether this transaction is now the only one that plans; held until it ends."""
    locked: bool = await connection.fetchval(_LOCK)
    return locked


async def roll(connection: Connection, day: date, *, planned_until: datetime, now: datetime) -> datetime | None:
    """Claim the roll of the horizon on `day`; None when that is done already.

    Returns since when something may be missing from the record: now, or where the horizon of the last roll ended if
    that is longer ago. Before that, what was not planned was not asked for.
    """
    row = await connection.fetchrow(_ROLL, day, now, planned_until)
    if row is None:
        return None
    previous: datetime | None = row[0]  # the statement sees the table as it was before
    return now if previous is None else min(previous, now)


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
    """What `plan` looks at: scheduled broadcasts with occurrences on the days of `window`, and devices in service.

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
            _broadcast(row, items.get(row["broadcast_id"], ()), targets.get(row["broadcast_id"], ()), units)
            for row in rows
        ),
        bulletins=tuple(_bulletin(row) for row in await connection.fetch(_BULLETINS, list(wanted))),
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
            allowed_rules=_allowed(row, units),
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
    return {SourceId(row["source_id"]): _source(row) for row in rows}


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
    return tuple(_device(row) for row in rows)


async def _load_groups(connection: Connection, group_ids: Iterable[uuid.UUID]) -> dict[GroupId, frozenset[DeviceNo]]:
    """The members of the groups among these ids that are not closed."""
    rows = await connection.fetch(_GROUPS, list(group_ids))
    return {GroupId(row["group_id"]): frozenset(map(DeviceNo, row["device_nos"])) for row in rows}


def _named(rows: Mapping[uuid.UUID, Sequence[Record]], column: str) -> set[Any]:
    return {row[column] for group in rows.values() for row in group if row[column] is not None}


async def load_recorded(connection: Connection, reach: Reach, *, ends_after: datetime) -> list[Recorded]:
    """The emissions on record, not withdrawn, that end after an instant; of broadcasts or of devices, or all."""
    if reach.is_everything:
        rows = await connection.fetch(_RECORDED, ends_after)
    elif reach.broadcasts:
        rows = await connection.fetch(
            _RECORDED_OF_BROADCASTS, ends_after, list(reach.broadcasts), MAX_OCCURRENCE_LENGTH
        )
    else:
        rows = await connection.fetch(_RECORDED_OF_DEVICES, ends_after, list(reach.devices), MAX_OCCURRENCE_LENGTH)
    return [Recorded(*row) for row in rows]


async def load_fleet(
    connection: Connection, unit_ids: Iterable[UnitId], device_ids: Iterable[str], *, there_after: datetime
) -> tuple[DeviceRef, ...]:
    """The devices of some units, and some by name, that put something out and were in service after an instant."""
    return tuple(_device(row) for row in await connection.fetch(_FLEET, list(unit_ids), list(device_ids), there_after))


async def issued_at(connection: Connection, broadcast_ids: Iterable[BroadcastId]) -> dict[BroadcastId, datetime]:
    """When broadcasts took their present form; those that were withdrawn are left out."""
    rows = await connection.fetch(_ISSUED, list(broadcast_ids))
    return {BroadcastId(row["broadcast_id"]): row["issued_at"] for row in rows}


async def apply(connection: Connection, changes: Changes, *, now: datetime) -> None:
    """Make the record say what the plan says."""
    await _record(connection, changes.add, now=now)
    await _record(connection, changes.lapsed, now=now, outcome=Outcome.MISSED, reason=Reason.PLANNED_TOO_LATE)
    for statement, gone in ((_WITHDRAW, changes.withdraw), (_STOP, changes.stop)):
        for part in _chunks(gone):
            await connection.execute(
                statement,
                [each.broadcast_id for each in part],
                [each.occurrence_at for each in part],
                [each.item for each in part],
                [each.device_no for each in part],
                now,
            )


async def _record(
    connection: Connection,
    emissions: Sequence[Emission],
    *,
    now: datetime,
    outcome: Outcome | None = None,
    reason: Reason | None = None,
) -> None:
    fingerprint = fingerprinter()
    for part in _chunks(emissions):
        slots = [each.slot for each in part]
        await connection.execute(
            _RECORD,
            [slot.broadcast_id for slot in slots],
            [slot.occurrence_at for slot in slots],
            [slot.item for slot in slots],
            [each.device_no for each in part],
            [slot.bulletin_id for slot in slots],
            [slot.relay.source_id if slot.relay is not None else None for slot in slots],
            [slot.content.name.lower() for slot in slots],
            [slot.rank.level.name.lower() for slot in slots],
            [slot.rank.issuer_depth for slot in slots],
            [from_ms(slot.rank.issued_at_ms) for slot in slots],
            [slot.rank.severity for slot in slots],
            [slot.rank.place for slot in slots],
            [slot.resume.name.lower() for slot in slots],
            [slot.volume_percent for slot in slots],
            [slot.starts_at for slot in slots],
            [slot.ends_at for slot in slots],
            [slot.latest_start_at for slot in slots],
            [fingerprint(slot) for slot in slots],
            now,
            outcome,
            reason,
        )


async def refile(connection: Connection, device_nos: Sequence[DeviceNo] | None, *, now: datetime) -> None:
    """File what has not begun under the units that devices lie in on its day; of all of them if none are named."""
    if device_nos is None:
        await connection.execute(_REFILE_ALL, now)
    else:
        await connection.execute(_REFILE_DEVICES, now, list(device_nos))


async def replace_problems(
    connection: Connection,
    reach: Reach,
    problems: Sequence[Problem],
    *,
    asked_at: datetime,
    asked_on: date,
    now: datetime,
) -> None:
    """Note what stands in the way, instead of what was noted about the same part; history stays as it is (`is_history`)."""
    await connection.execute(
        _FORGET_PROBLEMS, asked_at, asked_on, reach.is_everything, list(reach.broadcasts), list(reach.devices)
    )
    news = [problem for problem in problems if not is_history(problem, asked_at=asked_at, asked_on=asked_on)]
    for part in _chunks(news):
        await connection.execute(
            _NOTE_PROBLEMS,
            [problem.broadcast_id for problem in part],
            [problem.local_day for problem in part],
            [problem.occurrence_at for problem in part],
            [problem.item for problem in part],
            [problem.device_no for problem in part],
            [problem.unit_id for problem in part],
            [problem.kind.value for problem in part],
            [problem.detail for problem in part],
            now,
            ProblemKind.BEFORE_ISSUE.value,
        )


async def ask_to_issue(connection: Connection, device_nos: Iterable[DeviceNo], *, at: datetime) -> None:
    """Have the orders of these devices made anew."""
    for part in _chunks(sorted(device_nos)):
        await connection.execute(_ASK_TO_ISSUE, list(part), at)


async def ask_to_issue_to_all(connection: Connection, *, at: datetime) -> None:
    """Have the orders of every device in service made anew; where nothing changed, nothing is sent."""
    await connection.execute(_ASK_TO_ISSUE_TO_ALL, at)


async def load_problems(connection: Connection, broadcast_id: BroadcastId) -> tuple[Problem, ...]:
    """What stands in the way of a broadcast, in order of days."""
    return tuple(map(problem, await connection.fetch(_PROBLEMS_OF, broadcast_id)))


# --- rows to values --------------------------------------------------------------------------------------------------


def problem(row: Record) -> Problem:
    """A problem as it was noted."""
    return Problem(
        kind=ProblemKind(row["problem"]),
        broadcast_id=BroadcastId(row["broadcast_id"]),
        local_day=row["local_day"],
        occurrence_at=row["occurrence_at"],
        item=row["item"],
        device_no=row["device_no"],
        unit_id=UnitId(row["unit_id"]) if row["unit_id"] is not None else None,
        detail=row["detail"],
    )


def let_pass(rules: Iterable[str], asked: Iterable[UnitId], units: UnitHistory) -> frozenset[tuple[str, UnitId]]:
    """What approvers let pass: of the units that were asked, and of those that stand for them after a reform."""
    found = set(asked)
    heirs = found
    while heirs:
        heirs = {heir.heir_id for heir in units.heirs if heir.unit_id in heirs} - found
        found = found | heirs
    return frozenset((rule, unit_id) for rule in rules for unit_id in found)


def _allowed(row: Record, units: UnitHistory) -> frozenset[tuple[str, UnitId]]:
    return let_pass(row["allowed_rules"], map(UnitId, row["allowed_by"]), units)


def _broadcast(row: Record, items: Sequence[Record], targets: Sequence[Record], units: UnitHistory) -> Broadcast:
    return Broadcast(
        broadcast_id=BroadcastId(row["broadcast_id"]),
        unit_id=UnitId(row["unit_id"]),
        title=row["title"],
        level=Level[row["level"].upper()],
        recurrence=_recurrence(row),
        time_zone=row["time_zone"],
        items=tuple(_item(each) for each in items),
        targets=tuple(_target(each) for each in targets),
        issued_at=row["issued_at"],
        volume_percent=row["volume_percent"],
        resume=ResumePolicy[row["resume"].upper()],
        length=_span(row["length_ms"]),
        fit=Fit(row["fit"]),
        fill=Fill(row["fill"]),
        patience=_span(row["patience_ms"]),
        severity=row["severity"],
        allowed_rules=_allowed(row, units),
    )


def _recurrence(row: Record) -> Recurrence:
    return Recurrence(
        starts_on=row["starts_on"],
        ends_on=row["ends_on"],
        times=tuple(row["local_times"]),
        sessions=tuple(row["sessions"]),
        rrule=EVERY_DAY if row["recurrence"] == "daily" else row["rrule"],
        rdates=tuple(map(parse_local, row["rdates"])),
        exdates=tuple(map(parse_local, row["exdates"])),
    )


def parse_local(text: str) -> date | datetime:
    """A local day, or a local day and time of it, as it is stored: ISO 8601 without an offset."""
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def _item(row: Record) -> Item:
    if row["bulletin_id"] is not None:
        return BulletinItem(number=row["item"], bulletin_id=BulletinId(row["bulletin_id"]), is_jingle=row["is_jingle"])
    if row["pause_ms"] is not None:
        return Pause(number=row["item"], length=timedelta(milliseconds=row["pause_ms"]))
    return RelayItem(
        number=row["item"],
        source_id=SourceId(row["relay_source_id"]),
        length=timedelta(milliseconds=row["length_ms"]),
        starts_after=_span(row["starts_after_ms"]),
    )


def _target(row: Record) -> Target:
    is_excluded = row["is_excluded"]
    if row["unit_id"] is not None:
        return UnitTarget(unit_id=UnitId(row["unit_id"]), is_excluded=is_excluded)
    if row["group_id"] is not None:
        return GroupTarget(group_id=GroupId(row["group_id"]), is_excluded=is_excluded)
    if row["device_kind"] is not None:
        return KindTarget(kind=DeviceKind[row["device_kind"].upper()], is_excluded=is_excluded)
    return DeviceTarget(device_no=DeviceNo(row["device_no"]), is_excluded=is_excluded)


def _bulletin(row: Record) -> Bulletin:
    return Bulletin(
        bulletin_id=BulletinId(row["bulletin_id"]),
        title=row["title"],
        is_approved=row["state"] == "approved",
        media=media(row),
        board_text=row["board_text"],
        board_style=content(row["board_style"]),
        board_media=board_media(row),
        board_length=_span(row["board_length_ms"]),
        expires_at=row["expires_at"],
        max_plays=row["max_plays"],
    )


def _source(row: Record) -> RelaySource:
    is_direct = row["is_direct"]
    return RelaySource(
        source_id=SourceId(row["source_id"]),
        name=row["name"],
        path=None if is_direct else f"relays/{row['source_id']}",
        url=row["url"] if is_direct else None,
        fallback=media(row),
    )


def _span(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def media(row: Record) -> Media | None:
    """The media file in a row that joins bulletin and media, if the bulletin has one."""
    if row["media_sha256"] is None:
        return None
    return Media(sha256=row["media_sha256"], size=row["size"], mime=row["mime"], duration=_span(row["duration_ms"]))


def board_media(row: Record) -> Media | None:
    """The picture or film in a row that joins bulletin and media, if the bulletin has one."""
    if row["board_media_sha256"] is None:
        return None
    return Media(
        sha256=row["board_media_sha256"],
        size=row["board_size"],
        mime=row["board_mime"],
        duration=_span(row["board_duration_ms"]),
    )


def content(text: str) -> ContentKind:
    """What the word in a row stands for."""
    return ContentKind[text.upper()]


def _device(row: Record) -> DeviceRef:
    return DeviceRef(
        device_no=DeviceNo(row["device_no"]),
        device_id=DeviceId(row["device_id"]),
        kind=DeviceKind[row["kind"].upper()],
        unit_id=UnitId(row["unit_id"]),
        registered_at=row["registered_at"],
        retired_at=row["retired_at"],
        ownership=Ownership[row["ownership"].upper()],
        public_share=None if row["public_share_minutes"] is None else timedelta(minutes=row["public_share_minutes"]),
        volume_percent=row["volume_percent"],
    )


def _grouped(rows: Iterable[Record]) -> dict[uuid.UUID, list[Record]]:
    groups: dict[uuid.UUID, list[Record]] = {}
    for row in rows:
        groups.setdefault(row["broadcast_id"], []).append(row)
    return groups


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
