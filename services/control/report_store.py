"""SQL of proof: events to follow, reports kept, emissions to weigh and their verdicts."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Record

from schemas.events import RefusalReason
from schemas.identifiers import BroadcastId
from services.control.planning.changes import EmissionKey
from services.control.planning.model import DeviceNo
from services.control.planning.reconcile import Circumstances, Expected, Outage, Reason, Report, Standing, Verdict
from services.control.planning.reports import PowerReport, read_report
from services.shared.database.pool import Connection

CURSOR = "proof"

log = logging.getLogger(__name__)

_OPEN_CURSOR = """
INSERT INTO control.cursors (name, tx, event_no)
VALUES ($1, '0', 0)
    ON CONFLICT (name) DO NOTHING
"""

_LOCK_CURSOR = """
SELECT tx, event_no, tx >= pg_snapshot_xmax(pg_current_snapshot()) AS is_of_another_life
  FROM control.cursors
 WHERE name = $1
   FOR UPDATE SKIP LOCKED
"""

_MOVE_CURSOR = """
UPDATE control.cursors
   SET tx = $2, event_no = $3
 WHERE name = $1
"""

# Rows of transactions older than every running one, in their order: nothing can still appear before the last one read.
# A gateway's word counts for the time in which the device was assigned to it, also when it arrives later.
_EVENTS = """
SELECT e.tx, e.event_no, e.device_no, e.principal, e.kind, e.at, e.received_at,
       e.clock_state <> 'unsynchronised' AND e.time_source = 'device' AS is_clock_trusted,
       CASE WHEN e.kind = ANY ($4::text[]) THEN e.body END AS body,
       CASE
           WHEN d.device_no IS NULL THEN NULL
           -- What a person corrected is no longer what a device said.
           WHEN EXISTS (SELECT
                          FROM telemetry.quarantine_replay_log c
                         WHERE c.device_no = e.device_no
                           AND c.sequence = e.sequence
                           AND c.journal_id = e.journal_id
                           AND c.is_corrected
                           AND c.result = 'stored') THEN 'foreign'
           WHEN d.device_id = e.principal THEN 'device'
           WHEN EXISTS (SELECT
                          FROM control.gateway_assignments a
                          JOIN control.devices g ON g.device_no = a.gateway_no
                         WHERE a.device_no = e.device_no
                           AND g.device_id = e.principal
                           AND a.valid_from <= e.received_at
                           AND (a.valid_until IS NULL OR a.valid_until > e.at)) THEN 'gateway'
           ELSE 'foreign'
       END AS standing
  FROM telemetry.event_log e
  LEFT JOIN control.devices d ON d.device_no = e.device_no
 WHERE e.tx < pg_snapshot_xmin(pg_current_snapshot())
   AND (e.tx, e.event_no) > ($1, $2)
 ORDER BY e.tx, e.event_no
 LIMIT $3
"""

_UNSETTLED = """
SELECT EXISTS (SELECT
                 FROM telemetry.event_log
                WHERE (tx, event_no) > ($1, $2)
                  AND tx < pg_snapshot_xmax(pg_current_snapshot()))
"""

_KEEP_REPORTS = """
INSERT INTO control.play_reports
       (event_no, device_no, principal, standing, broadcast_id, occurrence_at, item, type, is_clock_trusted, body,
        received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (event_no) DO NOTHING
"""

_KEEP_ANSWERS = """
INSERT INTO control.plan_answers
       (event_no, device_no, principal, standing, serial, is_accepted, reason, at, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (event_no) DO NOTHING
"""

_KEEP_POWER = """
INSERT INTO control.power_events (event_no, device_no, at, is_boot, is_mains, up_until)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (event_no) DO NOTHING
"""

# When an emission is over at the latest (`Expected.over_at`).
OVER_AT = """(e.ends_at + CASE
           WHEN e.started_at IS NOT NULL AND e.resume = 'restart' AND e.content <> 'relay' THEN e.latest_start_at - e.starts_at
           ELSE interval '0'
       END)"""

_EXPECTED = """
SELECT e.broadcast_id, e.occurrence_at, e.item, e.device_no, e.starts_at, e.ends_at, e.latest_start_at, e.planned_at,
       e.stopped_at IS NOT NULL AS is_stopped, e.content = 'relay' AS is_relay,
       coalesce(e.resume = 'restart', false) AND e.content <> 'relay' AS may_restart,
       CASE
           WHEN e.content = 'audio' THEN b.media_sha256
           WHEN e.content IN ('image', 'video') THEN b.board_media_sha256
       END AS media_sha256
  FROM control.emissions e
  LEFT JOIN control.bulletins b USING (bulletin_id)
"""

_NAMED = (
    _EXPECTED
    + """
  JOIN unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[])
       AS k (broadcast_id, occurrence_at, item, device_no)
 USING (broadcast_id, occurrence_at, item, device_no)
 ORDER BY e.broadcast_id, e.occurrence_at, e.item, e.device_no
   FOR UPDATE OF e
"""
)

_OVERDUE = (
    _EXPECTED
    + """
 WHERE e.outcome IS NULL
   AND e.withdrawn_at IS NULL
   AND e.ends_at <= $1
   AND """
    + OVER_AT
    + """ <= $1
 ORDER BY e.ends_at
 LIMIT $2
   FOR UPDATE OF e SKIP LOCKED
"""
)

# What nobody has reported yet, of devices that have just told something that may explain it.
_SILENT = (
    _EXPECTED
    + """
  JOIN unnest($1::integer[], $2::timestamptz[]) AS k (device_no, since)
    ON e.device_no = k.device_no AND e.starts_at >= k.since
 WHERE e.outcome IS NOT NULL
   AND e.withdrawn_at IS NULL
   AND e.started_at IS NULL
   AND e.evidence IS NULL
   AND e.reason IS DISTINCT FROM $3
   AND e.ends_at <= $4
 ORDER BY e.broadcast_id, e.occurrence_at, e.item, e.device_no
 LIMIT $5
   FOR UPDATE OF e
"""
)

_REPORTS = """
SELECT r.broadcast_id, r.occurrence_at, r.item, r.device_no, r.event_no, r.standing, r.type, r.is_clock_trusted, r.body
  FROM control.play_reports r
  JOIN unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[])
       AS k (broadcast_id, occurrence_at, item, device_no)
 USING (broadcast_id, occurrence_at, item, device_no)
"""

# The first plan that held the emission is the first one signed after it took its present form that reaches as far.
_CIRCUMSTANCES = """
SELECT k.place, s.last_heard_at, s.clock_state, s.time_source, held.issued_at,
       EXISTS (SELECT
                 FROM control.plan_answers a
                WHERE a.device_no = k.device_no
                  AND a.is_accepted
                  AND a.standing <> 'foreign'
                  AND a.serial >= held.serial
                  AND a.at < k.ends_at)
       OR coalesce(s.plan_serial >= held.serial, false)
          -- A heartbeat of today says nothing about then, when the plan is known to have been taken only afterwards.
          AND NOT EXISTS (SELECT
                            FROM control.plan_answers a
                           WHERE a.device_no = k.device_no
                             AND a.is_accepted
                             AND a.standing <> 'foreign'
                             AND a.serial >= held.serial
                             AND a.at >= k.ends_at) AS has_plan,
       refused.reason AS refusal, refused.standing AS refused_by,
       down.up_until, down.at AS up_again_at, down.is_mains OR coalesce(was.is_without_mains, false) AS is_of_mains,
       coalesce(newest.is_without_mains, false) AS is_without_mains
  FROM unnest($1::integer[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
       AS k (place, device_no, planned_at, starts_at, ends_at)
  LEFT JOIN telemetry.fleet_states s ON s.device_no = k.device_no
  LEFT JOIN LATERAL (SELECT p.serial, p.issued_at
                       FROM control.issued_plans p
                      WHERE p.device_no = k.device_no
                        AND p.issued_at >= k.planned_at
                        AND p.issued_at < k.ends_at
                        AND p.valid_until > k.starts_at
                      ORDER BY p.serial
                      LIMIT 1) held ON true
  LEFT JOIN LATERAL (SELECT a.reason, a.standing
                       FROM control.plan_answers a
                      WHERE a.device_no = k.device_no
                        AND NOT a.is_accepted
                        AND a.standing <> 'foreign'
                        AND a.at >= held.issued_at
                        AND a.at < k.ends_at
                      ORDER BY a.at DESC
                      LIMIT 1) refused ON true
  LEFT JOIN LATERAL (SELECT p.up_until, p.at, p.is_mains
                       FROM control.power_events p
                      WHERE p.device_no = k.device_no
                        AND p.is_boot
                        AND p.up_until < k.ends_at
                        AND p.at > k.starts_at
                      ORDER BY p.at
                      LIMIT 1) down ON true
  LEFT JOIN LATERAL (SELECT NOT p.is_boot AND NOT p.is_mains AS is_without_mains
                       FROM control.power_events p
                      WHERE p.device_no = k.device_no
                        AND p.at < down.at
                      ORDER BY p.at DESC
                      LIMIT 1) was ON true
  LEFT JOIN LATERAL (SELECT NOT p.is_boot AND NOT p.is_mains AS is_without_mains
                       FROM control.power_events p
                      WHERE p.device_no = k.device_no
                        AND p.at < k.ends_at
                      ORDER BY p.at DESC
                      LIMIT 1) newest ON true
"""

_CONCLUDE = """
UPDATE control.emissions e
   SET outcome = v.outcome,
       reason = v.reason,
       evidence = v.evidence,
       started_at = v.started_at,
       ended_at = v.ended_at,
       sounded_ms = v.sounded_ms,
       cut_by_source = v.cut_by_source,
       cut_by = v.cut_by,
       is_resumed = v.is_resumed,
       fallback_ms = v.fallback_ms,
       reconciled_at = $15
  FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[], $5::text[], $6::text[], $7::text[],
              $8::timestamptz[], $9::timestamptz[], $10::integer[], $11::text[], $12::uuid[], $13::boolean[], $14::integer[])
       AS v (broadcast_id, occurrence_at, item, device_no, outcome, reason, evidence, started_at, ended_at,
             sounded_ms, cut_by_source, cut_by, is_resumed, fallback_ms)
 WHERE (e.broadcast_id, e.occurrence_at, e.item, e.device_no)
     = (v.broadcast_id, v.occurrence_at, v.item, v.device_no)
"""

_NOTE_START = """
UPDATE control.emissions
   SET started_at = $5
 WHERE (broadcast_id, occurrence_at, item, device_no) = ($1, $2, $3, $4)
   AND outcome IS NULL
"""

_COUNT_OVERDUE = (
    """
SELECT count(*)
  FROM control.emissions e
 WHERE e.outcome IS NULL
   AND e.withdrawn_at IS NULL
   AND e.ends_at <= $1
   AND """
    + OVER_AT
    + " <= $1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a reader of committed events stands."""

    tx: int
    event_no: int


BEGINNING = Place(tx=0, event_no=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedEvent:
    """An event as it was committed. `body` only for the kinds that were asked for; no standing: unknown device."""

    place: Place
    device_no: DeviceNo
    principal: str
    standing: Standing | None
    kind: str
    is_clock_trusted: bool
    body: Mapping[str, Any] | None
    at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayReport:
    """What somebody said about an emission."""

    event: FollowedEvent
    key: EmissionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """What somebody said to a plan; a refusal has a reason."""

    event: FollowedEvent
    serial: int | None
    refusal: RefusalReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTold:
    """What a device said about its power."""

    event: FollowedEvent
    report: PowerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An emission to be weighed, locked until the transaction ends."""

    key: EmissionKey
    expected: Expected
    planned_at: datetime


async def lock_cursor(connection: Connection) -> Place | None:
    """Where to read on, ours until the transaction ends; None while somebody else follows.

    A database restored from a dump counts its transactions from the start again, and a cursor that lies ahead of every
    transaction would never see another event. Then reading begins anew: what is kept already is not kept twice.
    """
    await connection.execute(_OPEN_CURSOR, CURSOR)
    row = await connection.fetchrow(_LOCK_CURSOR, CURSOR)
    if row is None:
        return None
    if row["is_of_another_life"]:
        log.error("cursor_of_another_life", extra={"cursor": CURSOR, "tx": row["tx"]})
        return BEGINNING
    return Place(tx=row["tx"], event_no=row["event_no"])


async def move_cursor(connection: Connection, place: Place) -> None:
    """Everything up to `place` has been dealt with once this transaction commits."""
    await connection.execute(_MOVE_CURSOR, CURSOR, place.tx, place.event_no)


async def load_events(
    connection: Connection, after: Place, *, kinds: Collection[str], limit: int
) -> tuple[FollowedEvent, ...]:
    """The next committed events of every kind, in order; bodies only of `kinds`."""
    return tuple(
        FollowedEvent(
            place=Place(tx=row["tx"], event_no=row["event_no"]),
            device_no=DeviceNo(row["device_no"]),
            principal=row["principal"],
            standing=Standing(row["standing"]) if row["standing"] is not None else None,
            kind=row["kind"],
            is_clock_trusted=row["is_clock_trusted"],
            body=row["body"],
            at=row["at"],
            received_at=row["received_at"],
        )
        for row in await connection.fetch(_EVENTS, after.tx, after.event_no, limit, list(kinds))
    )


async def has_unsettled(connection: Connection, after: Place) -> bool:
    """Whether there are events that cannot be read yet, because an older transaction is still running somewhere."""
    unsettled: bool = await connection.fetchval(_UNSETTLED, after.tx, after.event_no)
    return unsettled


async def keep_reports(connection: Connection, reports: Sequence[PlayReport]) -> None:
    """Keep what was said about emissions, whoever said it, also where no such emission is on record."""
    await connection.executemany(
        _KEEP_REPORTS,
        [
            (
                report.event.place.event_no,
                report.event.device_no,
                report.event.principal,
                report.event.standing,
                *report.key[:3],
                report.event.kind,
                report.event.is_clock_trusted,
                report.event.body,
                report.event.received_at,
            )
            for report in reports
        ],
    )


async def keep_answers(connection: Connection, answers: Sequence[PlanAnswer]) -> None:
    """Keep what was said to plans."""
    await connection.executemany(
        _KEEP_ANSWERS,
        [
            (
                answer.event.place.event_no,
                answer.event.device_no,
                answer.event.principal,
                answer.event.standing,
                answer.serial,
                answer.refusal is None,
                answer.refusal.name.lower() if answer.refusal is not None else None,
                answer.event.at,
                answer.event.received_at,
            )
            for answer in answers
        ],
    )


async def keep_power(connection: Connection, told: Sequence[PowerTold]) -> None:
    """Keep what devices said about their power."""
    await connection.executemany(
        _KEEP_POWER,
        [
            (
                each.event.place.event_no,
                each.event.device_no,
                each.event.at,
                each.report.is_boot,
                each.report.is_mains,
                each.report.up_until,
            )
            for each in told
        ],
    )


async def load_silent(
    connection: Connection, since: Mapping[DeviceNo, datetime], *, ended_before: datetime, limit: int
) -> tuple[Candidate, ...]:
    """Emissions of devices, from an instant of each device's own on, whose verdict rests on nobody's word; locked."""
    return tuple(
        _candidate(row)
        for row in await connection.fetch(
            _SILENT, list(since), list(since.values()), Reason.PLANNED_TOO_LATE.value, ended_before, limit
        )
    )


async def load_named(connection: Connection, keys: Collection[EmissionKey]) -> tuple[Candidate, ...]:
    """The emissions of `keys` that are on record, withdrawn or not, locked in order of their keys."""
    return tuple(_candidate(row) for row in await connection.fetch(_NAMED, *_columns(sorted(keys))))


async def load_overdue(connection: Connection, *, ended_before: datetime, limit: int) -> tuple[Candidate, ...]:
    """Emissions without a verdict that were over by an instant, oldest first, locked."""
    return tuple(_candidate(row) for row in await connection.fetch(_OVERDUE, ended_before, limit))


async def load_reports(connection: Connection, keys: Collection[EmissionKey]) -> dict[EmissionKey, list[Report]]:
    """Every report about each emission."""
    reports: dict[EmissionKey, list[Report]] = {key: [] for key in keys}
    for row in await connection.fetch(_REPORTS, *_columns(list(keys))):
        report = read_report(
            row["type"],
            row["body"],
            event_no=row["event_no"],
            standing=Standing(row["standing"]),
            is_clock_trusted=row["is_clock_trusted"],
        )
        if report is not None:
            reports[_key(row)].append(report)
    return reports


async def load_circumstances(
    connection: Connection, candidates: Sequence[Candidate]
) -> dict[EmissionKey, Circumstances]:
    """What is known of the devices apart from their reports."""
    rows = await connection.fetch(
        _CIRCUMSTANCES,
        list(range(len(candidates))),
        [candidate.key[3] for candidate in candidates],
        [candidate.planned_at for candidate in candidates],
        [candidate.expected.starts_at for candidate in candidates],
        [candidate.expected.ends_at for candidate in candidates],
    )
    return {
        candidates[row["place"]].key: Circumstances(
            last_heard_at=row["last_heard_at"],
            issued_at=row["issued_at"],
            has_plan=row["has_plan"],
            refusal=RefusalReason[row["refusal"].upper()] if row["refusal"] is not None else None,
            refused_by=Standing(row["refused_by"] or Standing.DEVICE),
            is_clock_trusted=row["clock_state"] != "unsynchronised" and row["time_source"] in {None, "device"},
            outage=Outage(since=row["up_until"], until=row["up_again_at"], is_mains=row["is_of_mains"])
            if row["up_until"] is not None
            else None,
            is_without_mains=row["is_without_mains"],
        )
        for row in rows
    }


async def conclude(connection: Connection, verdicts: Sequence[tuple[EmissionKey, Verdict]], *, now: datetime) -> None:
    """Put verdicts on record, in place of earlier ones."""
    said = [verdict for _, verdict in verdicts]
    await connection.execute(
        _CONCLUDE,
        *_columns([key for key, _ in verdicts]),
        [verdict.outcome for verdict in said],
        [verdict.reason for verdict in said],
        [verdict.evidence for verdict in said],
        [verdict.started_at for verdict in said],
        [verdict.ended_at for verdict in said],
        [_milliseconds(verdict.sounded) for verdict in said],
        [verdict.cut_by.source.name.lower() if verdict.cut_by else None for verdict in said],
        [verdict.cut_by.id if verdict.cut_by else None for verdict in said],
        [verdict.is_resumed for verdict in said],
        [_milliseconds(verdict.fallback) for verdict in said],
        now,
    )


async def note_starts(connection: Connection, starts: Sequence[tuple[EmissionKey, datetime]]) -> None:
    """Note since when emissions sound that have no verdict yet."""
    await connection.executemany(_NOTE_START, [(*key, started_at) for key, started_at in starts])


async def count_overdue(connection: Connection, *, ended_before: datetime) -> int:
    """How many emissions have no verdict although they were over by an instant."""
    count: int = await connection.fetchval(_COUNT_OVERDUE, ended_before)
    return count


def _candidate(row: Record) -> Candidate:
    return Candidate(
        key=_key(row),
        expected=Expected(
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            latest_start_at=row["latest_start_at"],
            media_sha256=row["media_sha256"],
            is_stopped=row["is_stopped"],
            is_relay=row["is_relay"],
            may_restart=row["may_restart"],
        ),
        planned_at=row["planned_at"],
    )


def _key(row: Record) -> EmissionKey:
    return (BroadcastId(row["broadcast_id"]), row["occurrence_at"], row["item"], DeviceNo(row["device_no"]))


def _columns(keys: Sequence[EmissionKey]) -> tuple[list[uuid.UUID], list[datetime], list[int], list[int]]:
    return (
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
        [key[3] for key in keys],
    )


def _milliseconds(span: timedelta | None) -> int | None:
    return None if span is None else span // timedelta(milliseconds=1)
