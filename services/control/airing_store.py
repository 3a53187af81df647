"""SQL for people: what is on the air, what comes next, what was proven, and how it adds up.

Only emissions that still hold are looked at: what was withdrawn before it began never was.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from asyncpg import Record

from schemas.fields import Level
from schemas.identifiers import BroadcastId, BulletinId, UnitId
from services.control import programme_store
from services.control.planning.lineup import TEXT_LENGTH
from services.control.planning.model import MAX_OCCURRENCE_LENGTH, DeviceNo, Problem, ProblemKind, SlotKey
from services.control.planning.reconcile import VERDICT_WITHIN, Reason
from services.control.planning.targets import Naming
from services.control.planning.timeline import START_GRACE_MS
from services.control.report_store import OVER_AT
from services.shared.database.pool import Connection

_AIRING = """
SELECT e.device_no, e.broadcast_id, c.title AS broadcast_title, e.bulletin_id, e.relay_source_id,
       coalesce(b.title, s.name) AS title, e.level, e.occurrence_at, e.item, e.content, e.starts_at, e.ends_at
"""

_JOINS = """
  JOIN control.broadcasts c USING (broadcast_id)
  LEFT JOIN control.bulletins b USING (bulletin_id)
  LEFT JOIN control.relay_sources s ON s.source_id = e.relay_source_id
"""

# What may sound at an instant: begun, not over even if it was restarted as late as it may be, not taken back, and planned
# in time to be in a plan. Nothing lasts longer than $3.
_CLAIMS = (
    _AIRING
    + "  FROM control.emissions e"
    + _JOINS
    + """
 WHERE e.device_no = ANY ($1)
   AND e.starts_at <= $2
   AND e.starts_at > $2 - $3::interval
   AND e.ends_at + CASE e.resume WHEN 'restart' THEN e.latest_start_at - e.starts_at + $5 ELSE interval '0' END > $2
   AND e.withdrawn_at IS NULL
   AND (e.stopped_at IS NULL OR e.stopped_at > $2)
   AND e.reason IS DISTINCT FROM $4
"""
)

_NEXT = (
    _AIRING  # noqa: S608 - made of constants
    + """
  FROM unnest($1::integer[]) AS wanted (device_no)
 CROSS JOIN LATERAL (SELECT *
                       FROM control.emissions
                      WHERE device_no = wanted.device_no
                        AND starts_at > $2
                        AND withdrawn_at IS NULL
                      ORDER BY starts_at, broadcast_id, occurrence_at, item
                      LIMIT 1) e
"""
    + _JOINS
)

_LAST = (
    _AIRING  # noqa: S608 - made of constants
    + """
       , e.outcome, e.reason, e.evidence, e.started_at, e.ended_at, e.sounded_ms
  FROM unnest($1::integer[]) AS wanted (device_no)
 CROSS JOIN LATERAL (SELECT *
                       FROM control.emissions
                      WHERE device_no = wanted.device_no
                        AND outcome IS NOT NULL
                        AND withdrawn_at IS NULL
                      ORDER BY starts_at DESC, broadcast_id, occurrence_at, item
                      LIMIT 1) e
"""
    + _JOINS
)

# A gateway's word proves nothing about sound, so what rests on it is counted apart, whatever it says.
_TOTALS = (
    """
SELECT count(*) AS planned,
       count(*) FILTER (WHERE e.outcome = 'played' AND e.evidence = 'device') AS played,
       count(*) FILTER (WHERE e.outcome = 'late' AND e.evidence = 'device') AS late,
       count(*) FILTER (WHERE e.outcome = 'cut' AND e.evidence = 'device') AS cut,
       count(*) FILTER (WHERE e.outcome = 'missed' AND e.evidence IS DISTINCT FROM 'gateway') AS missed,
       count(*) FILTER (WHERE e.outcome = 'refused' AND e.evidence IS DISTINCT FROM 'gateway') AS refused,
       count(*) FILTER (WHERE e.outcome = 'unknown' AND e.evidence IS DISTINCT FROM 'gateway') AS unknown,
       count(*) FILTER (WHERE e.evidence = 'gateway') AS by_gateway,
       count(*) FILTER (WHERE e.outcome IS NULL AND """
    + OVER_AT
    + """ > $1) AS pending,
       count(*) FILTER (WHERE e.outcome IS NULL AND """
    + OVER_AT
    + """ <= $1) AS overdue
  FROM control.emissions e
 WHERE e.withdrawn_at IS NULL
   AND ($2::uuid IS NULL OR e.broadcast_id = $2)
   AND ($3::uuid[] IS NULL OR e.unit_id = ANY ($3))
   AND ($4::timestamptz IS NULL OR e.starts_at >= $4)
   AND ($5::timestamptz IS NULL OR e.starts_at < $5)
"""
)


# Problems of broadcasts that mean a device: whose issuer stands above it, and one of whose targets names it, its group,
# its kind or a unit above it, and none leaves it out. What has no time on a day is said of all of it.
_PROBLEMS_ON = """
SELECT p.problem, p.broadcast_id, p.local_day, p.occurrence_at, p.item, p.device_no, p.unit_id, p.detail
  FROM control.planning_problems p
  JOIN control.broadcasts c USING (broadcast_id)
 CROSS JOIN LATERAL (
       SELECT bool_or(NOT t.is_excluded) AND NOT bool_or(t.is_excluded) AS is_meant
         FROM control.broadcast_targets t
         LEFT JOIN control.device_group_members m ON m.group_id = t.group_id AND m.device_no = $1
        WHERE t.broadcast_id = p.broadcast_id
          AND (t.device_no = $1 OR m.device_no IS NOT NULL OR t.device_kind = $2 OR t.unit_id = ANY ($7))) t
 WHERE c.unit_id = ANY ($3)
   AND t.is_meant
   AND CASE
           WHEN p.occurrence_at IS NOT NULL THEN p.occurrence_at > $4::timestamptz - $5::interval AND p.occurrence_at <= $4
           ELSE coalesce(p.local_day = $8, true)
       END
   AND (p.device_no IS NULL OR p.device_no = $1)
   AND p.problem <> ALL ($6::text[])
 ORDER BY p.occurrence_at, p.broadcast_id, p.item NULLS FIRST, p.problem, p.unit_id, p.detail
"""

# That a broadcast found no device for something, or took its present form only later, says nothing about one device.
SAYS_NOTHING = frozenset({ProblemKind.NO_DEVICE, ProblemKind.BEFORE_ISSUE})

# How long one occurrence lasts: as asked for, or as long as its items.
_DETAILS = """
SELECT c.broadcast_id, c.title,
       coalesce(c.length_ms, sum(coalesce(i.pause_ms, i.length_ms, m.duration_ms, v.duration_ms, b.board_length_ms,
                                          $2::integer)))::bigint AS length_ms
  FROM control.broadcasts c
  LEFT JOIN control.broadcast_items i USING (broadcast_id)
  LEFT JOIN control.bulletins b USING (bulletin_id)
  LEFT JOIN control.media m ON m.sha256 = b.media_sha256
  LEFT JOIN control.media v ON v.sha256 = b.board_media_sha256
 WHERE c.broadcast_id = ANY ($1)
 GROUP BY c.broadcast_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastDetails:
    """What a broadcast is called, and about how long one occurrence of it lasts."""

    broadcast_id: BroadcastId
    title: str
    length: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Airing:
    """An emission as people read about it."""

    device_no: DeviceNo
    broadcast_id: BroadcastId
    broadcast_title: str
    bulletin_id: BulletinId | None
    relay_source_id: uuid.UUID | None
    title: str
    level: Level
    occurrence_at: datetime
    item: int
    content: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """An emission and what became of it."""

    airing: Airing
    outcome: str
    reason: str | None
    evidence: str | None
    started_at: datetime | None
    ended_at: datetime | None
    sounded_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofCounts:
    """How emissions ended; the parts add up to `planned`.

    All but `by_gateway` rest on the devices' own word or on nobody's. `pending`: no verdict yet, and none due.
    `overdue`: no verdict although one was due.
    """

    planned: int = 0
    played: int = 0
    late: int = 0
    cut: int = 0
    missed: int = 0
    refused: int = 0
    unknown: int = 0
    by_gateway: int = 0
    pending: int = 0
    overdue: int = 0

    @property
    def unexplained(self) -> int:
        """Emissions of which nobody can say what became of them."""
        return self.unknown + self.overdue


async def claims(
    connection: Connection, device_nos: Sequence[DeviceNo], *, at: datetime
) -> dict[DeviceNo, dict[SlotKey, Airing]]:
    """What may sound on each device at an instant, as far as its own time goes; devices without any are left out."""
    grace = timedelta(milliseconds=START_GRACE_MS)
    rows = await connection.fetch(
        _CLAIMS, list(device_nos), at, MAX_OCCURRENCE_LENGTH, Reason.PLANNED_TOO_LATE.value, grace
    )
    found: dict[DeviceNo, dict[SlotKey, Airing]] = defaultdict(dict)
    for airing in map(_airing, rows):
        found[airing.device_no][airing.broadcast_id, airing.occurrence_at, airing.item] = airing
    return found


async def next_emissions(
    connection: Connection, device_nos: Sequence[DeviceNo], *, now: datetime
) -> dict[DeviceNo, Airing]:
    """What begins next on each device."""
    return {
        airing.device_no: airing
        for airing in (_airing(row) for row in await connection.fetch(_NEXT, list(device_nos), now))
    }


async def last_proven(connection: Connection, device_nos: Sequence[DeviceNo]) -> dict[DeviceNo, Proven]:
    """The latest emission of each device that has a verdict."""
    return {
        DeviceNo(row["device_no"]): Proven(
            airing=_airing(row),
            outcome=row["outcome"],
            reason=row["reason"],
            evidence=row["evidence"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            sounded_ms=row["sounded_ms"],
        )
        for row in await connection.fetch(_LAST, list(device_nos))
    }


async def proof_totals(
    connection: Connection,
    *,
    now: datetime,
    broadcast_id: BroadcastId | None = None,
    unit_ids: Iterable[UnitId] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> ProofCounts:
    """How emissions ended that begin in [since, until), of one broadcast, on devices that belonged to some units."""
    row = await connection.fetchrow(_TOTALS, *_filters(now, broadcast_id, unit_ids, since, until))
    assert row is not None
    return ProofCounts(**dict(row))


async def problems_on(
    connection: Connection, device_no: DeviceNo, kind: str, naming: Naming, *, at: datetime, day: date
) -> tuple[Problem, ...]:
    """What planning noted about occurrences that may hold an instant, of broadcasts that mean a device.

    `naming` is of its unit on the instant's local day.
    """
    rows = await connection.fetch(
        _PROBLEMS_ON,
        device_no,
        kind,
        list(naming.issuers),
        at,
        MAX_OCCURRENCE_LENGTH,
        [each.value for each in SAYS_NOTHING],
        list(naming.targets),
        day,
    )
    return tuple(map(programme_store.problem, rows))


async def broadcast_details(
    connection: Connection, broadcast_ids: Iterable[BroadcastId]
) -> dict[BroadcastId, BroadcastDetails]:
    """Titles and lengths of broadcasts."""
    rows = await connection.fetch(_DETAILS, list(broadcast_ids), TEXT_LENGTH // timedelta(milliseconds=1))
    return {
        BroadcastId(row["broadcast_id"]): BroadcastDetails(
            broadcast_id=BroadcastId(row["broadcast_id"]),
            title=row["title"],
            length=None if row["length_ms"] is None else timedelta(milliseconds=row["length_ms"]),
        )
        for row in rows
    }


def _filters(
    now: datetime,
    broadcast_id: BroadcastId | None,
    unit_ids: Iterable[UnitId] | None,
    since: datetime | None,
    until: datetime | None,
) -> tuple[Any, ...]:
    return (now - VERDICT_WITHIN, broadcast_id, None if unit_ids is None else list(unit_ids), since, until)


def _airing(row: Record) -> Airing:
    return Airing(
        device_no=DeviceNo(row["device_no"]),
        broadcast_id=BroadcastId(row["broadcast_id"]),
        broadcast_title=row["broadcast_title"],
        bulletin_id=BulletinId(row["bulletin_id"]) if row["bulletin_id"] is not None else None,
        relay_source_id=row["relay_source_id"],
        title=row["title"],
        level=Level[row["level"].upper()],
        occurrence_at=row["occurrence_at"],
        item=row["item"],
        content=row["content"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
    )
