"""SQL of issuing: which devices need new orders, what their orders are made of, and what stands issued."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from asyncpg import Record

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from schemas.orders import Rank
from schemas.plans import ContentKind
from schemas.topics import format_topic
from services.control import snapshot_rows, snapshot_store
from services.control.issuing import PLAN, Issue, PlannedSlot, Standing
from services.control.orders import Addressee
from services.control.planning.model import (
    MAX_OCCURRENCE_LENGTH,
    DeviceNo,
    Media,
    Programme,
    RelaySource,
    Slot,
    SourceId,
    to_ms,
)
from services.control.planning.reconcile import Reason
from services.shared.database.pool import Connection

# Plans a device had long ago explain nothing any more.
KEEP_PLANS = timedelta(days=60)

_CLAIM = """
DELETE FROM control.issue_requests
 WHERE device_no IN (SELECT device_no
                       FROM control.issue_requests
                      ORDER BY requested_at, device_no
                      LIMIT $1
                        FOR UPDATE SKIP LOCKED)
RETURNING device_no
"""

_ADDRESSEES = """
SELECT d.device_no, d.device_id, d.kind, coalesce(g.device_id, d.device_id) AS principal, d.unit_id, d.ownership,
       d.volume_percent, d.volume_cap_percent, d.heartbeat_interval, d.latitude, d.longitude,
       d.retired_at IS NOT NULL AS is_retired
  FROM control.devices d
  LEFT JOIN control.gateway_assignments a
         ON a.device_no = d.device_no AND a.valid_from <= $2 AND (a.valid_until IS NULL OR a.valid_until > $2)
  LEFT JOIN control.devices g ON g.device_no = a.gateway_no
 WHERE d.device_no = ANY ($1)
 ORDER BY d.device_no
"""

_STANDING = """
SELECT device_no, kind, serial, issued_at, valid_until, renew_at, topic, kid, content_hash
  FROM control.issued_orders
 WHERE device_no = ANY ($1)
"""

# What sounds and was taken back is no part of a plan; neither is what was planned too late to be played. An occurrence
# lasts a day at most, so a range of starts finds all by the index of the device; the end is compared as a difference to
# keep the planner from intersecting that with the index of ends, which holds everybody's future.
_OF_DEVICES = """
SELECT e.device_no, e.broadcast_id, e.occurrence_at, e.item, e.bulletin_id, e.relay_source_id, e.content, e.level,
       e.issuer_depth, e.issued_at, e.severity, e.place, e.is_live, {resume} AS resume, e.volume_percent, e.starts_at,
       {ends_at} AS ends_at, e.latest_start_at, e.fingerprint
  FROM unnest($1::integer[], $2::timestamptz[]) AS wanted (device_no, ends_after)
  JOIN control.emissions e
    ON e.device_no = wanted.device_no
   AND e.starts_at > wanted.ends_after - $5::interval
   AND e.starts_at < $3
 WHERE {ends_at} - wanted.ends_after > interval '0'
   AND e.withdrawn_at IS NULL
   AND {stands}
   AND e.reason IS DISTINCT FROM $4
"""
_EMISSIONS = _OF_DEVICES.format(ends_at="e.ends_at", resume="e.resume", stands="e.stopped_at IS NULL")

# As it sounded: what was stopped ends there, also if it would have begun anew.
_SOUNDED = _OF_DEVICES.format(
    ends_at="least(e.ends_at, e.stopped_at)",
    resume="CASE WHEN e.stopped_at IS NULL THEN e.resume ELSE 'resume' END",
    stands="(e.stopped_at IS NULL OR e.stopped_at > e.starts_at)",
)

# For what was planned before emissions kept all of this themselves.
_BROADCASTS = """
SELECT broadcast_id, volume_percent, resume, issued_at
  FROM control.broadcasts
 WHERE broadcast_id = ANY ($1)
"""

_BULLETINS = """
SELECT b.bulletin_id, b.title, b.board_text, b.media_sha256, m.size, m.mime, m.duration_ms,
       b.board_media_sha256, p.size AS board_size, p.mime AS board_mime, p.duration_ms AS board_duration_ms
  FROM control.bulletins b
  LEFT JOIN control.media m ON m.sha256 = b.media_sha256
  LEFT JOIN control.media p ON p.sha256 = b.board_media_sha256
 WHERE b.bulletin_id = ANY ($1)
"""

_NEXT_SERIALS = """
INSERT INTO control.order_serials (device_no, kind, serial)
SELECT device_no, $2, 1
  FROM unnest($1::integer[]) AS device_no
 ORDER BY device_no
    ON CONFLICT (device_no, kind) DO UPDATE SET serial = order_serials.serial + 1
RETURNING device_no, serial
"""

_ISSUE = """
INSERT INTO control.issued_orders
       (device_no, kind, serial, issued_at, valid_until, renew_at, topic, kid, content_hash, emissions, message)
SELECT device_no, kind, serial, $11, valid_until, renew_at, topic, kid, content_hash, emissions, message
  FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::bytea[],
              $8::bytea[], $9::integer[], $10::bytea[])
       AS o (device_no, kind, serial, valid_until, renew_at, topic, kid, content_hash, emissions, message)
 ORDER BY device_no, kind
    ON CONFLICT (device_no, kind) DO UPDATE
   SET serial = excluded.serial,
       issued_at = excluded.issued_at,
       valid_until = excluded.valid_until,
       renew_at = excluded.renew_at,
       topic = excluded.topic,
       kid = excluded.kid,
       content_hash = excluded.content_hash,
       emissions = excluded.emissions,
       message = excluded.message,
       published_at = NULL,
       republications = 0
"""

_REMEMBER_PLANS = """
INSERT INTO control.issued_plans (device_no, serial, issued_at, valid_until)
SELECT device_no, serial, $4, valid_until
  FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[]) AS p (device_no, serial, valid_until)
"""

_FORGET_PLANS = """
DELETE FROM control.issued_plans p
 WHERE p.valid_until < $1
   AND NOT EXISTS (SELECT FROM control.issued_orders o
                    WHERE o.device_no = p.device_no AND o.kind = 'plan' AND o.serial = p.serial)
"""

# Keys are issued when the key file has changed; asking at their end would ask for the same devices at every turn.
_RENEWALS = """
INSERT INTO control.issue_requests (device_no, requested_at)
SELECT DISTINCT o.device_no, $1::timestamptz
  FROM control.issued_orders o
  JOIN control.devices d USING (device_no)
 WHERE o.renew_at <= $1
   AND o.kind <> 'keys'
   AND d.retired_at IS NULL
    ON CONFLICT (device_no) DO NOTHING
"""

_STRAYS = """
INSERT INTO control.issue_requests (device_no, requested_at)
SELECT d.device_no, $1
  FROM control.devices d
 WHERE d.retired_at IS NULL
   AND (NOT EXISTS (SELECT FROM control.issued_orders o WHERE o.device_no = d.device_no AND o.kind = 'config')
        OR EXISTS (SELECT FROM control.issued_orders o
                    WHERE o.device_no = d.device_no
                      AND CASE o.kind WHEN 'keys' THEN o.content_hash <> $3 ELSE o.kid <> $2 END))
    ON CONFLICT (device_no) DO NOTHING
"""


async def claim_devices(connection: Connection, *, limit: int) -> tuple[DeviceNo, ...]:
    """Take devices whose orders are to be made anew. They are asked for again when the transaction does not commit."""
    return tuple(sorted(DeviceNo(row["device_no"]) for row in await connection.fetch(_CLAIM, limit)))


async def ask_for_renewals(connection: Connection, *, now: datetime) -> None:
    """Have orders made anew that are near their end."""
    await connection.execute(_RENEWALS, now)


async def ask_for_strays(connection: Connection, *, kid: bytes, keys_hash: bytes, now: datetime) -> None:
    """Have orders made for devices that never got any, or whose orders were signed with other keys than ours."""
    await connection.execute(_STRAYS, now, kid, keys_hash)


async def keys_are_out(connection: Connection, *, keys_hash: bytes) -> bool:
    """Whether the broker has taken the present key set for every device that was given any."""
    return bool(
        await connection.fetchval(
            """
            SELECT NOT EXISTS (SELECT FROM control.issued_orders o
                                 JOIN control.devices d USING (device_no)
                                WHERE o.kind = 'keys' AND o.content_hash <> $1 AND d.retired_at IS NULL)
               AND NOT EXISTS (SELECT FROM control.outbox WHERE kind = 'keys')
            """,
            keys_hash,
        )
    )


async def forget_old_plans(connection: Connection, *, now: datetime) -> None:
    """Forget plans that ended long ago."""
    await connection.execute(_FORGET_PLANS, now - KEEP_PLANS)


async def load_addressees(
    connection: Connection, device_nos: Sequence[DeviceNo], *, now: datetime
) -> tuple[Addressee, ...]:
    """Devices as they are configured, in order of their numbers."""
    return tuple(
        Addressee(
            device_no=DeviceNo(row["device_no"]),
            device_id=DeviceId(row["device_id"]),
            kind=DeviceKind[row["kind"].upper()],
            principal=DeviceId(row["principal"]),
            unit_id=UnitId(row["unit_id"]),
            ownership=Ownership[row["ownership"].upper()],
            volume_percent=row["volume_percent"],
            volume_cap_percent=row["volume_cap_percent"],
            heartbeat_interval=row["heartbeat_interval"],
            latitude=row["latitude"],
            longitude=row["longitude"],
            is_retired=row["is_retired"],
        )
        for row in await connection.fetch(_ADDRESSEES, list(device_nos), now)
    )


async def load_sounds(connection: Connection, bulletin_ids: Iterable[BulletinId]) -> dict[BulletinId, Media]:
    """The sound of the bulletins among these that may sound whenever a plan has run out: approved, and without an end."""
    lasting = " AND b.state = 'approved' AND b.expires_at IS NULL AND b.max_plays IS NULL"
    rows = await connection.fetch(_BULLETINS + lasting, list(bulletin_ids))
    sounds = {BulletinId(row["bulletin_id"]): snapshot_rows.media(row) for row in rows}
    return {bulletin_id: sound for bulletin_id, sound in sounds.items() if sound is not None}


async def load_standing(connection: Connection, device_nos: Sequence[DeviceNo]) -> dict[tuple[DeviceNo, str], Standing]:
    """What stands issued, by device and kind."""
    return {
        (DeviceNo(row["device_no"]), row["kind"]): Standing(
            serial=row["serial"],
            issued_at=row["issued_at"],
            valid_until=row["valid_until"],
            renew_at=row["renew_at"],
            topic=row["topic"],
            kid=row["kid"],
            content_hash=row["content_hash"],
        )
        for row in await connection.fetch(_STANDING, list(device_nos))
    }


async def load_slots(
    connection: Connection, ends_after: Mapping[DeviceNo, datetime], *, starts_before: datetime
) -> dict[DeviceNo, list[PlannedSlot]]:
    """The recorded programme of devices: slots that end after an instant of each device's own, sorted.

    Devices that share a slot get the same object.
    """
    return await _load(connection, _EMISSIONS, ends_after, starts_before=starts_before)


async def load_programmes(
    connection: Connection, ends_after: Mapping[DeviceNo, datetime], *, starts_before: datetime
) -> dict[DeviceNo, Programme]:
    """The same as it was, or is, to sound: with what was stopped since, which ends when it was."""
    planned = await _load(connection, _SOUNDED, ends_after, starts_before=starts_before)
    return {device_no: tuple(each.slot for each in theirs) for device_no, theirs in planned.items()}


async def _load(
    connection: Connection, statement: str, ends_after: Mapping[DeviceNo, datetime], *, starts_before: datetime
) -> dict[DeviceNo, list[PlannedSlot]]:
    rows = await connection.fetch(
        statement,
        list(ends_after),
        list(ends_after.values()),
        starts_before,
        Reason.PLANNED_TOO_LATE.value,
        MAX_OCCURRENCE_LENGTH,
    )
    named = await _named(connection, rows)
    known: dict[tuple[object, ...], Slot] = {}
    programmes: dict[DeviceNo, list[PlannedSlot]] = {device_no: [] for device_no in ends_after}
    for row in rows:
        key = tuple(row)[1:]  # everything but the device
        slot = known.get(key)
        if slot is None:
            slot = known[key] = _slot(row, named)
        programmes[row["device_no"]].append(PlannedSlot(slot, row["fingerprint"]))
    for programme in programmes.values():
        programme.sort(key=lambda planned: planned.slot.order)
    return programmes


async def next_serials(connection: Connection, kind: str, device_nos: Iterable[DeviceNo]) -> dict[DeviceNo, int]:
    """The next serial of a kind of order for each device. Whoever else asks waits until this transaction ends."""
    rows = await connection.fetch(_NEXT_SERIALS, sorted(device_nos), kind)
    return {DeviceNo(row["device_no"]): row["serial"] for row in rows}


async def put(connection: Connection, issues: Sequence[Issue], *, now: datetime) -> None:
    """Put orders in place of what stands."""
    await connection.execute(
        _ISSUE,
        [issue.device_no for issue in issues],
        [issue.kind for issue in issues],
        [issue.serial for issue in issues],
        [issue.valid_until for issue in issues],
        [issue.renew_at for issue in issues],
        [format_topic(issue.topic) for issue in issues],
        [issue.kid for issue in issues],
        [issue.content_hash for issue in issues],
        [issue.emissions for issue in issues],
        [issue.message for issue in issues],
        now,
    )
    plans = [issue for issue in issues if issue.kind == PLAN]
    await connection.execute(
        _REMEMBER_PLANS,
        [issue.device_no for issue in plans],
        [issue.serial for issue in plans],
        [issue.valid_until for issue in plans],
        now,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What emissions name: broadcasts, bulletins and relay sources."""

    broadcasts: Mapping[uuid.UUID, Record]
    bulletins: Mapping[uuid.UUID, Record]
    sources: Mapping[SourceId, RelaySource]


async def _named(connection: Connection, rows: Sequence[Record]) -> _Named:
    old = {row["broadcast_id"] for row in rows if row["issued_at"] is None}
    bulletins = {row["bulletin_id"] for row in rows if row["bulletin_id"] is not None}
    sources = {row["relay_source_id"] for row in rows if row["relay_source_id"] is not None}
    return _Named(
        broadcasts={row["broadcast_id"]: row for row in await connection.fetch(_BROADCASTS, list(old))},
        bulletins={row["bulletin_id"]: row for row in await connection.fetch(_BULLETINS, list(bulletins))},
        sources=await snapshot_store.load_sources(connection, sources, with_retired=True),
    )


def _slot(row: Record, named: _Named) -> Slot:
    terms = row if row["issued_at"] is not None else named.broadcasts[row["broadcast_id"]]
    kind = snapshot_rows.content(row["content"])
    bulletin = named.bulletins.get(row["bulletin_id"])
    source = named.sources.get(row["relay_source_id"])
    if source is not None and row["is_live"]:
        source = replace(source, fallback=None)
    return Slot(
        broadcast_id=BroadcastId(row["broadcast_id"]),
        occurrence_at=row["occurrence_at"],
        item=row["item"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        latest_start_at=row["latest_start_at"],
        rank=Rank(
            level=Level[row["level"].upper()],
            live=row["is_live"],
            severity=row["severity"],
            issuer_depth=row["issuer_depth"],
            issued_at_ms=to_ms(terms["issued_at"]),
            place=row["place"],
        ),
        content=kind,
        bulletin_id=BulletinId(row["bulletin_id"]) if bulletin is not None else None,
        title=bulletin["title"] if bulletin is not None else source.name if source is not None else "",
        media=_media(bulletin, kind) if bulletin is not None else None,
        text=bulletin["board_text"] if bulletin is not None and kind in _TEXTS else None,
        relay=source,
        volume_percent=terms["volume_percent"],
        resume=ResumePolicy[terms["resume"].upper()],
    )


_TEXTS = frozenset({ContentKind.TEXT, ContentKind.TICKER})


def _media(bulletin: Record, kind: ContentKind) -> Media | None:
    """The file of a bulletin that an emission of this kind puts out."""
    if kind is ContentKind.AUDIO:
        return snapshot_rows.media(bulletin)
    return None if kind in _TEXTS else snapshot_rows.board_media(bulletin)
