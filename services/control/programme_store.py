"""SQL of the programme: what is planned, as it stands on record, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from asyncpg import Record

from schemas.identifiers import BroadcastId, UnitId
from services.control.planning.changes import Changes, Recorded, fingerprinter, is_history
from services.control.planning.model import (
    MAX_OCCURRENCE_LENGTH,
    DeviceNo,
    Emission,
    Problem,
    ProblemKind,
    from_ms,
)
from services.control.planning.reconcile import Outcome, Reason
from services.shared.database.pool import Connection

# Rows written by one statement: large enough to be quick, small enough for the statement's time limit.
CHUNK = 10_000
# Devices whose future is gone through by one statement: each has dozens of rows ahead.
DEVICES_AT_ONCE = 200

# One planner at a time: programmes are made of all broadcasts, so two planners would each miss what the other adds.
# Taken without waiting; any number, as long as nobody else uses it.
_LOCK = "SELECT pg_try_advisory_xact_lock(4021707201)"

_ISSUED = """
SELECT broadcast_id, issued_at
  FROM control.broadcasts
 WHERE broadcast_id = ANY ($1)
   AND state <> 'withdrawn'
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
        issuer_depth, issued_at, severity, place, is_live, resume, volume_percent, starts_at, ends_at, latest_start_at,
        fingerprint, planned_at, outcome, reason, reconciled_at)
SELECT e.broadcast_id, e.occurrence_at, e.item, e.device_no, coalesce(h.heir_id, d.unit_id), e.bulletin_id,
       e.relay_source_id, e.content, e.level, e.issuer_depth, e.issued_at, e.severity, e.place, e.is_live,
       e.resume, e.volume_percent, e.starts_at, e.ends_at, e.latest_start_at, e.fingerprint, $20::timestamptz, $21::text,
       $22::text, CASE WHEN $21 IS NULL THEN NULL ELSE $20 END
  FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[], $5::uuid[], $6::uuid[], $7::text[],
              $8::text[], $9::smallint[], $10::timestamptz[], $11::smallint[], $12::smallint[],
              $13::boolean[], $14::text[], $15::smallint[], $16::timestamptz[], $17::timestamptz[], $18::timestamptz[],
              $19::bytea[])
       AS e (broadcast_id, occurrence_at, item, device_no, bulletin_id, relay_source_id, content, level, issuer_depth,
             issued_at, severity, place, is_live, resume, volume_percent, starts_at, ends_at, latest_start_at,
             fingerprint)
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
       is_live = excluded.is_live,
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
         WHERE e.device_no = ANY ($2)
           AND e.starts_at > $1
           AND e.withdrawn_at IS NULL
           AND e.unit_id <> coalesce(h.heir_id, d.unit_id)) filed
 WHERE (e.broadcast_id, e.occurrence_at, e.item, e.device_no)
     = (filed.broadcast_id, filed.occurrence_at, filed.item, filed.device_no)
"""

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
            [slot.rank.live for slot in slots],
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
        device_nos = [row["device_no"] for row in await connection.fetch("SELECT device_no FROM control.devices")]
    for part in _chunks(sorted(device_nos), DEVICES_AT_ONCE):
        await connection.execute(_REFILE, now, list(part))


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


def _chunks(values: Sequence[Any], size: int = CHUNK) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))
