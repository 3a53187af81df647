"""SQL of tests of alerts: timetables, what became of each time, and what each device made of them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from schemas.alerts import Purpose
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control.alerting.timetable import AudibleTimes, Due, SilentTimes, Timetable
from services.control.alerting.weighing import Result
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

FAILURES_IN_A_ROW = 2  # that make a device fail

_TIMETABLES = "SELECT unit_id, silent, audible, version, changed_at, changed_by FROM control.alert_timetables"

_TO_WEIGH = """
SELECT alert_id
  FROM control.alerts
 WHERE purpose IN ('silent_test', 'audible_test')
   AND weighed_at IS NULL
   AND version > 0
   AND valid_until <= $1
   AND (resolved_at IS NOT NULL OR valid_until <= $1 - interval '1 hour')
 ORDER BY valid_until
 LIMIT 10
   FOR UPDATE SKIP LOCKED
"""

# Whoever was registered only after the test, or is out of service, could not answer it.
_MEANT = """
SELECT d.device_id, d.device_no
  FROM control.alert_reach r
  JOIN control.devices d USING (device_no)
  JOIN control.alerts a USING (alert_id)
 WHERE r.alert_id = $1
   AND d.retired_at IS NULL
   AND d.registered_at <= a.first_issued_at
"""

_ADD_RESULTS = """
INSERT INTO control.alert_test_results (alert_id, device_no, unit_id, purpose, tested_at, outcome, reason, detail)
SELECT $1, r.device_no, r.unit_id, $2, $3, r.outcome, r.reason, r.detail
  FROM unnest($4::integer[], $5::uuid[], $6::text[], $7::text[], $8::text[])
       AS r (device_no, unit_id, outcome, reason, detail)
 ORDER BY r.device_no
    ON CONFLICT (alert_id, device_no) DO NOTHING
"""

# A word that was spoken in time and came in late, because the platform was away.
_HEARD_AFTERWARDS = """
UPDATE control.alert_test_results t
   SET outcome = CASE coalesce(r.start_told_by, r.told_by) WHEN 'device' THEN 'passed' ELSE 'by_gateway' END,
       reason = CASE coalesce(r.start_told_by, r.told_by) WHEN 'device' THEN 'reached' ELSE 'reached_by_gateway' END,
       detail = NULL
  FROM control.alert_reach r
 WHERE t.outcome = 'failed'
   AND t.tested_at > $1
   AND r.alert_id = t.alert_id
   AND r.device_no = t.device_no
   AND CASE t.purpose
           WHEN 'silent_test' THEN r.told = 'test_passed'
           ELSE r.first_start_at IS NOT NULL AND coalesce(r.last_outcome, '') NOT IN ('failed', 'missed')
       END
"""

# A gateway's word is no failure, and no success of the device either. Nothing is asked of who is silenced.
_FAILING = f"""
SELECT d.device_no, d.device_id, d.unit_id, f.failures, f.since, f.last_at, f.reason, f.detail
  FROM control.devices d
  JOIN LATERAL (
       SELECT count(*) AS failures, min(t.tested_at) AS since, max(t.tested_at) AS last_at,
              (array_agg(t.reason ORDER BY t.tested_at DESC))[1] AS reason,
              (array_agg(t.detail ORDER BY t.tested_at DESC))[1] AS detail
         FROM control.alert_test_results t
        WHERE t.device_no = d.device_no
          AND t.outcome = 'failed'
          AND t.tested_at > coalesce((SELECT max(g.tested_at)
                                        FROM control.alert_test_results g
                                       WHERE g.device_no = d.device_no
                                         AND g.outcome IN ('passed', 'by_gateway')), '-infinity')
       ) f ON f.failures >= {FAILURES_IN_A_ROW}
 WHERE d.retired_at IS NULL
   AND d.unit_id = ANY ($1)
   AND (SELECT n.outcome
          FROM control.alert_test_results n
         WHERE n.device_no = d.device_no
         ORDER BY n.tested_at DESC
         LIMIT 1) <> 'excused'
   AND ($2::text IS NULL OR d.device_id COLLATE "C" > $2)
 ORDER BY d.device_id COLLATE "C"
 LIMIT $3
"""  # noqa: S608 - made of constants

_TESTS = """
SELECT a.alert_id, a.purpose, a.unit_id, a.first_issued_at AS tested_at, a.weighed_at,
       count(r.device_no) AS devices,
       count(*) FILTER (WHERE r.outcome = 'passed') AS passed,
       count(*) FILTER (WHERE r.outcome = 'failed') AS failed,
       count(*) FILTER (WHERE r.outcome = 'by_gateway') AS by_gateway,
       count(*) FILTER (WHERE r.outcome = 'excused') AS excused
  FROM (SELECT alert_id, purpose, unit_id, first_issued_at, weighed_at
          FROM control.alerts
         WHERE purpose = ANY ($1)
           AND unit_ids && $2
           AND version > 0
           AND ($3::timestamptz IS NULL OR first_issued_at < $3)
         ORDER BY first_issued_at DESC, alert_id DESC
         LIMIT $4) a
  LEFT JOIN control.alert_test_results r ON r.alert_id = a.alert_id AND r.unit_id = ANY ($5)
 GROUP BY a.alert_id, a.purpose, a.unit_id, a.first_issued_at, a.weighed_at
 ORDER BY a.first_issued_at DESC, a.alert_id DESC
"""

_RESULTS = """
SELECT d.device_id, r.unit_id, r.alert_id, r.purpose, r.tested_at, r.outcome, r.reason, r.detail
  FROM control.alert_test_results r
  JOIN control.devices d USING (device_no)
"""

_RUNS = """
SELECT purpose, due_at, outcome, detail, alert_id
  FROM control.alert_test_runs
 WHERE unit_id = $1
 ORDER BY due_at DESC, purpose
 LIMIT $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """A device that failed the last tests it was asked for, two or more in a row."""

    device_no: DeviceNo
    device_id: DeviceId
    unit_id: UnitId
    failures: int
    since: datetime
    last_at: datetime
    reason: str
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """A test and what it came to on the devices of some units; `weighed_at` is None while it goes on."""

    alert_id: AlertId
    purpose: str
    unit_id: UnitId
    tested_at: datetime
    weighed_at: datetime | None
    devices: int
    passed: int
    failed: int
    by_gateway: int
    excused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResult:
    """What one test came to on one device."""

    device_id: DeviceId
    unit_id: UnitId
    alert_id: AlertId
    purpose: str
    tested_at: datetime
    outcome: str
    reason: str
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of a time at which a test was due."""

    purpose: str
    due_at: datetime
    outcome: str
    detail: str | None
    alert_id: AlertId | None


# --- timetables ------------------------------------------------------------------------------------------------------


async def timetables(connection: Connection) -> dict[UnitId, Timetable]:
    """What every unit says that says something."""
    rows = await connection.fetch(_TIMETABLES)
    return {UnitId(row["unit_id"]): _timetable(row) for row in rows}


async def timetable(connection: Connection, unit_id: UnitId) -> Timetable:
    """What a unit says."""
    row = await connection.fetchrow(_TIMETABLES + " WHERE unit_id = $1", unit_id)
    return _timetable(row) if row is not None else Timetable(unit_id=unit_id)


async def timetable_for_update(connection: Connection, unit_id: UnitId, *, by: uuid.UUID, at: datetime) -> Timetable:
    """What a unit says, locked until the transaction ends; what says nothing yet is locked as well."""
    await connection.execute(
        """
        INSERT INTO control.alert_timetables (unit_id, version, changed_at, changed_by)
        VALUES ($1, 0, $2, $3)
            ON CONFLICT (unit_id) DO NOTHING
        """,
        unit_id,
        at,
        by,
    )
    row = await connection.fetchrow(_TIMETABLES + " WHERE unit_id = $1 FOR UPDATE", unit_id)
    assert row is not None
    return _timetable(row)


async def put_timetable(connection: Connection, timetable: Timetable) -> None:
    """Store what a unit says from now on; it has been locked."""
    silent, audible = timetable.silent, timetable.audible
    await connection.execute(
        """
        UPDATE control.alert_timetables
           SET silent = $2, audible = $3, version = $4, changed_at = $5, changed_by = $6
         WHERE unit_id = $1
        """,
        timetable.unit_id,
        silent.model_dump(mode="json") if silent is not None else None,
        audible.model_dump(mode="json") if audible is not None else None,
        timetable.version,
        timetable.changed_at,
        timetable.changed_by,
    )


def _timetable(row: Record) -> Timetable:
    silent, audible = row["silent"], row["audible"]
    return Timetable(
        unit_id=UnitId(row["unit_id"]),
        silent=SilentTimes.model_validate(silent) if silent is not None else None,
        audible=AudibleTimes.model_validate(audible) if audible is not None else None,
        version=row["version"],
        changed_at=row["changed_at"],
        changed_by=row["changed_by"],
    )


# --- times at which a test was due -----------------------------------------------------------------------------------


async def is_noted(connection: Connection, due: Due) -> bool:
    """Whether somebody has dealt with it."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM control.alert_test_runs WHERE unit_id = $1 AND purpose = $2 AND due_at = $3)",
            due.unit_id,
            due.purpose.name.lower(),
            due.due_at,
        )
    )


async def has_run_before(connection: Connection, due: Due) -> bool:
    """Whether a test of this unit was ever dealt with: before, nothing was missed."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM control.alert_test_runs WHERE unit_id = $1 AND purpose = $2 AND due_at < $3)",
            due.unit_id,
            due.purpose.name.lower(),
            due.due_at,
        )
    )


async def claim(connection: Connection, due: Due, outcome: str, *, detail: str | None = None, now: datetime) -> bool:
    """Note what becomes of it; False when somebody else has, or does so at this moment and commits."""
    noted = await connection.fetchval(
        """
        INSERT INTO control.alert_test_runs (unit_id, purpose, due_at, outcome, detail, noted_at)
        VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT DO NOTHING
        RETURNING true
        """,
        due.unit_id,
        due.purpose.name.lower(),
        due.due_at,
        outcome,
        detail,
        now,
    )
    return noted is not None


async def note_issued(connection: Connection, due: Due, alert_id: AlertId) -> None:
    """Which alert it became."""
    await connection.execute(
        "UPDATE control.alert_test_runs SET alert_id = $4 WHERE unit_id = $1 AND purpose = $2 AND due_at = $3",
        due.unit_id,
        due.purpose.name.lower(),
        due.due_at,
        alert_id,
    )


async def runs(connection: Connection, unit_id: UnitId, *, limit: int) -> tuple[Run, ...]:
    """What became of the latest times of a unit's own timetable, newest first."""
    return tuple(Run(**dict(row)) for row in await connection.fetch(_RUNS, unit_id, limit))


# --- results ---------------------------------------------------------------------------------------------------------


async def to_weigh(connection: Connection, *, over_before: datetime) -> tuple[uuid.UUID, ...]:
    """Tests that were over by then and have no results yet, locked."""
    return tuple(row["alert_id"] for row in await connection.fetch(_TO_WEIGH, over_before))


async def meant(connection: Connection, alert_id: AlertId) -> dict[DeviceId, DeviceNo]:
    """The devices that a test could expect an answer of."""
    rows = await connection.fetch(_MEANT, alert_id)
    return {DeviceId(row["device_id"]): DeviceNo(row["device_no"]) for row in rows}


async def add_results(
    connection: Connection,
    alert_id: AlertId,
    purpose: Purpose,
    results: Sequence[tuple[DeviceNo, Result]],
    *,
    tested_at: datetime,
    now: datetime,
) -> None:
    """Put on record what a test came to."""
    await connection.execute(
        _ADD_RESULTS,
        alert_id,
        purpose.name.lower(),
        tested_at,
        [no for no, _ in results],
        [each.unit_id for _, each in results],
        [each.outcome for _, each in results],
        [each.reason for _, each in results],
        [each.detail for _, each in results],
    )
    await connection.execute("UPDATE control.alerts SET weighed_at = $2 WHERE alert_id = $1", alert_id, now)


async def take_late_words(connection: Connection, *, tested_after: datetime) -> int:
    """Let pass whose word came in after the test was weighed; how many."""
    status = await connection.execute(_HEARD_AFTERWARDS, tested_after)
    return int(status.rsplit(" ", 1)[-1])


async def forget(connection: Connection, *, before: datetime) -> None:
    """Delete tests that were over by then, with what devices said, a few at a time."""
    await connection.execute(
        """
        DELETE FROM control.alerts
         WHERE alert_id IN (SELECT alert_id
                              FROM control.alerts
                             WHERE purpose IN ('silent_test', 'audible_test')
                               AND weighed_at IS NOT NULL
                               AND holds_until < $1
                             ORDER BY holds_until
                             LIMIT 5)
        """,
        before,
    )


async def failing(
    connection: Connection, unit_ids: Collection[UnitId], *, after: str | None = None, limit: int | None = None
) -> tuple[Failing, ...]:
    """Devices of the units that failed at least the last two tests, in order of their ids."""
    rows = await connection.fetch(_FAILING, list(unit_ids), after, limit)
    return tuple(Failing(**dict(row)) for row in rows)


async def tests(
    connection: Connection,
    over: Collection[UnitId],
    unit_ids: Collection[UnitId],
    *,
    purposes: Collection[Purpose],
    before: datetime | None,
    limit: int,
) -> tuple[Tally, ...]:
    """Tests on the topics of units `over`, newest first, counted on the devices of `unit_ids`."""
    names = [each.name.lower() for each in purposes]
    rows = await connection.fetch(_TESTS, names, list(over), before, limit, list(unit_ids))
    return tuple(Tally(**dict(row)) for row in rows)


async def results_of_test(
    connection: Connection,
    alert_id: AlertId,
    unit_ids: Collection[UnitId],
    *,
    outcome: str | None,
    after: str | None,
    limit: int,
) -> tuple[DeviceResult, ...]:
    """What a test came to on each device of the units."""
    rows = await connection.fetch(
        _RESULTS
        + """
         WHERE r.alert_id = $1
           AND r.unit_id = ANY ($2)
           AND ($3::text IS NULL OR r.outcome = $3)
           AND ($4::text IS NULL OR d.device_id COLLATE "C" > $4)
         ORDER BY d.device_id COLLATE "C"
         LIMIT $5
        """,
        alert_id,
        list(unit_ids),
        outcome,
        after,
        limit,
    )
    return tuple(DeviceResult(**dict(row)) for row in rows)


async def results_of_device(connection: Connection, device_id: DeviceId, *, limit: int) -> tuple[DeviceResult, ...]:
    """What the latest tests came to on a device, newest first."""
    rows = await connection.fetch(
        _RESULTS + " WHERE d.device_id = $1 ORDER BY r.tested_at DESC, r.alert_id LIMIT $2", device_id, limit
    )
    return tuple(DeviceResult(**dict(row)) for row in rows)
