"""SQL of reach: whom alerts are meant for, what devices said about them, and how that stands now."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control.alerting.model import Alert
from services.control.alerting.reach import Facts, Reach, judge
from services.control.planning.model import DeviceNo
from services.control.report_store import BEGINNING, Place
from services.shared.database.pool import Connection

CURSOR = "alerts"
_ENDS = frozenset({"cancelled", "released"})  # words by which a device has nothing more of an alert

_OPEN_CURSOR = "INSERT INTO control.cursors (name, tx, event_no) VALUES ($1, '0', 0) ON CONFLICT (name) DO NOTHING"

_LOCK_CURSOR = """
SELECT tx, event_no, tx >= pg_snapshot_xmax(pg_current_snapshot()) AS is_of_another_life
  FROM control.cursors
 WHERE name = $1
   FOR UPDATE SKIP LOCKED
"""

_CANDIDATES = """
SELECT d.device_no, d.device_id, d.kind, d.unit_id, d.ownership, d.latitude, d.longitude
  FROM control.devices d
 WHERE d.retired_at IS NULL
   AND d.kind IN ('cluster', 'board')
   AND (d.unit_id = ANY ($1) OR d.device_id = ANY ($2))
"""

# Whom a version means when it is first looked up, it has meant since it was issued; who is found later came there since.
_PUT = """
INSERT INTO control.alert_reach AS r (alert_id, device_no, unit_id, is_addressed, addressed_at)
SELECT a.alert_id, t.device_no, t.unit_id, true, CASE WHEN a.resolved_at IS NULL THEN v.issued_at ELSE $5 END
  FROM control.alerts a
  JOIN control.alert_versions v ON v.alert_id = a.alert_id AND v.alert_version = $2
 CROSS JOIN unnest($3::integer[], $4::uuid[]) AS t (device_no, unit_id)
 WHERE a.alert_id = $1
 ORDER BY t.device_no
    ON CONFLICT (alert_id, device_no) DO UPDATE
   SET is_addressed = true, addressed_at = CASE WHEN r.is_addressed THEN r.addressed_at ELSE excluded.addressed_at END
"""

_NO_MORE = "UPDATE control.alert_reach SET is_addressed = false WHERE alert_id = $1 AND device_no <> ALL ($2)"

_RESOLVED = "UPDATE control.alerts SET resolved_at = $3 WHERE alert_id = $1 AND version = $2"

_TO_RESOLVE = """
SELECT alert_id
  FROM control.alerts
 WHERE version > 0
   AND issued_at <= $3
   AND (state = 'in_force' AND (resolved_at IS NULL OR resolved_at < $1)
        OR state <> 'in_force' AND resolved_at IS NULL AND holds_until > $2)
 ORDER BY issued_at
 LIMIT 20
"""

_EXPIRED = """
SELECT alert_id
  FROM control.alerts
 WHERE state = 'in_force' AND valid_until <= $1
 ORDER BY valid_until
 LIMIT 50
   FOR UPDATE SKIP LOCKED
"""

# What nothing is retained of any more, although rows say so: the broker forgets by itself, we make sure.
_FORGOTTEN = """
DELETE FROM control.alert_topics t
 USING control.alerts a
 WHERE a.alert_id = t.alert_id
   AND a.holds_until <= $1
RETURNING t.alert_id, t.unit_id
"""

# A word about an alert of ours counts from whoever may speak for the device, if the device is one that alerts mean: a
# sensor or gateway hears what is said to its whole area, too. `tx` keeps order across replicas of ingest.
_EVENTS = """
SELECT e.tx, e.event_no, e.device_no, e.kind, e.at, e.device_at, e.body, d.unit_id,
       EXISTS (SELECT
                 FROM control.good_signers g
                WHERE g.device_no = e.device_no
                  AND g.kid = e.signer
                  AND e.received_at > g.good_from
                  AND e.received_at <= g.good_until) AS is_signed,
       CASE WHEN d.device_id = e.principal THEN 'device' ELSE 'gateway' END AS told_by,
       d.kind IN ('cluster', 'board')
       AND (d.device_id = e.principal
            OR EXISTS (SELECT
                         FROM control.gateway_assignments a
                         JOIN control.devices g ON g.device_no = a.gateway_no
                        WHERE a.device_no = e.device_no
                          AND g.device_id = e.principal
                          AND a.valid_from <= e.received_at
                          AND (a.valid_until IS NULL OR a.valid_until > e.at))) AS counts
  FROM telemetry.event_log e
  JOIN control.devices d ON d.device_no = e.device_no
 WHERE e.tx < pg_snapshot_xmin(pg_current_snapshot())
   AND (e.tx, e.event_no) > ($1, $2)
 ORDER BY e.tx, e.event_no
 LIMIT $3
"""

_NOTE_WORD = """
INSERT INTO control.alert_reach AS r
       (alert_id, device_no, unit_id, is_addressed, told_version, told, told_detail, told_at, told_by)
SELECT a.alert_id, $2, $3, false, $4, $5, $6, $7, $8
  FROM control.alerts a
 WHERE a.alert_id = $1
    ON CONFLICT (alert_id, device_no) DO UPDATE
   SET told_version = excluded.told_version, told = excluded.told, told_detail = excluded.told_detail,
       told_at = excluded.told_at, told_by = excluded.told_by
 WHERE r.told_version IS NULL OR r.told_version <= excluded.told_version
"""

# That a device has nothing of an alert any more is kept beside its last word, which says how it stood until then.
_NOTE_END = """
INSERT INTO control.alert_reach AS r (alert_id, device_no, unit_id, is_addressed, ended_version)
SELECT a.alert_id, $2, $3, false, $4
  FROM control.alerts a
 WHERE a.alert_id = $1
    ON CONFLICT (alert_id, device_no) DO UPDATE SET ended_version = greatest(r.ended_version, excluded.ended_version)
"""

_NOTE_SIGNED_WORD = """
UPDATE control.alert_reach
   SET signed_told_version = $3, signed_told = $4
 WHERE alert_id = $1 AND device_no = $2 AND coalesce(signed_told_version, 0) <= $3
"""

# A play says of which alert it is and not of which version: it is of the newest one that the device had been given by
# then, both by the device's own time. What begins before any word belongs to the first version.
_NOTE_GIVEN = """
UPDATE control.alert_reach r
   SET given_version = g.alert_version, given_at = CASE WHEN g.alert_version > 1 THEN g.device_at END
  FROM (SELECT DISTINCT ON (alert_id, device_no) alert_id, device_no, alert_version, device_at
          FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::timestamptz[])
               AS t (alert_id, device_no, alert_version, device_at)
         ORDER BY alert_id, device_no, alert_version DESC, device_at) g
 WHERE r.alert_id = g.alert_id
   AND r.device_no = g.device_no
   AND coalesce(r.given_version, 0) < g.alert_version
"""

# The same by words that were signed, whatever else was said.
_NOTE_SIGNED_GIVEN = """
UPDATE control.alert_reach r
   SET signed_given_version = g.alert_version, signed_given_at = CASE WHEN g.alert_version > 1 THEN g.device_at END
  FROM (SELECT DISTINCT ON (alert_id, device_no) alert_id, device_no, alert_version, device_at
          FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::timestamptz[])
               AS t (alert_id, device_no, alert_version, device_at)
         ORDER BY alert_id, device_no, alert_version DESC, device_at) g
 WHERE r.alert_id = g.alert_id
   AND r.device_no = g.device_no
   AND coalesce(r.signed_given_version, 0) < g.alert_version
"""

_NOTE_PLAY = """
INSERT INTO control.alert_plays AS p
       (alert_id, device_no, occurrence_at, item, started_at, ended_at, outcome, reason, sounded_ms, told_by,
        signed_started_at)
SELECT a.alert_id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
  FROM control.alerts a
 WHERE a.alert_id = $1
    ON CONFLICT (alert_id, device_no, occurrence_at, item) DO UPDATE
   SET started_at = coalesce(p.started_at, excluded.started_at),
       ended_at = coalesce(excluded.ended_at, p.ended_at),
       outcome = coalesce(excluded.outcome, p.outcome),
       reason = coalesce(excluded.reason, p.reason),
       sounded_ms = coalesce(excluded.sounded_ms, p.sounded_ms),
       signed_started_at = coalesce(p.signed_started_at, excluded.signed_started_at),
       told_by = CASE WHEN 'device' IN (p.told_by, excluded.told_by) THEN 'device' ELSE 'gateway' END
"""

_SUM_UP = """
INSERT INTO control.alert_reach AS r (alert_id, device_no, unit_id, is_addressed, starts, first_start_at, last_start_at,
                                      last_end_at, last_outcome, start_told_by, signed_start_at)
SELECT p.alert_id, p.device_no, d.unit_id, false, count(DISTINCT p.occurrence_at) FILTER (WHERE p.started_at IS NOT NULL),
       min(p.started_at) FILTER (WHERE p.is_of_given), max(p.started_at), max(p.ended_at),
       (array_agg(p.outcome ORDER BY p.occurrence_at DESC, p.item DESC) FILTER (WHERE p.is_of_given))[1],
       min(p.told_by) FILTER (WHERE p.is_of_given),
       min(p.signed_started_at) FILTER (WHERE p.is_of_signed)
  FROM (SELECT each.*, each.occurrence_at >= coalesce(g.given_at, '-infinity') AS is_of_given,
               each.occurrence_at >= coalesce(g.signed_given_at, '-infinity') AS is_of_signed
          FROM control.alert_plays each
          JOIN unnest($1::uuid[], $2::integer[]) AS k (alert_id, device_no) USING (alert_id, device_no)
          LEFT JOIN control.alert_reach g USING (alert_id, device_no)) p
  JOIN control.devices d USING (device_no)
 GROUP BY p.alert_id, p.device_no, d.unit_id
    ON CONFLICT (alert_id, device_no) DO UPDATE
   SET starts = excluded.starts, first_start_at = excluded.first_start_at, last_start_at = excluded.last_start_at,
       last_end_at = excluded.last_end_at, last_outcome = excluded.last_outcome, start_told_by = excluded.start_told_by,
       signed_start_at = excluded.signed_start_at
"""

# Online as the fleet's pages have it (`fleet_store`).
_REACH = """
SELECT d.device_id, r.unit_id, r.is_addressed, r.addressed_at, r.told, r.told_detail, r.told_by, r.told_version,
       r.signed_told, r.signed_told_version, r.signed_given_version, r.signed_start_at,
       r.ended_version, r.given_version, r.starts, r.first_start_at, r.start_told_by, r.last_outcome, s.last_heard_at,
       coalesce(s.clock_state <> 'unsynchronised', true) AS is_clock_trusted,
       CASE
           WHEN s.last_heard_at IS NULL THEN 'never'
           WHEN s.online IS FALSE AND s.presence_received_at >= s.last_heard_at THEN 'offline'
           WHEN s.last_heard_at < $3::timestamptz - greatest(3 * d.heartbeat_interval, interval '90 seconds')
           THEN 'offline'
           ELSE 'online'
       END AS liveness
  FROM control.alert_reach r
  JOIN control.devices d USING (device_no)
  LEFT JOIN telemetry.fleet_states s USING (device_no)
 WHERE r.alert_id = $1
   AND r.unit_id = ANY ($2)
   AND (r.is_addressed OR r.told IS NOT NULL OR r.first_start_at IS NOT NULL)
 ORDER BY d.device_id COLLATE "C"
"""

# What holds is the last version that said something: ends say nothing new, nor does what is signed anew.
_STANDING = """
SELECT a.resolved_at IS NOT NULL AS is_counted, v.alert_version AS version, v.published_at
  FROM control.alerts a
  LEFT JOIN control.alert_versions v
    ON v.alert_id = a.alert_id AND v.issued_at = a.issued_at AND v.stopped_in IS NULL
       AND v.purpose NOT IN ('cancel', 'release')
 WHERE a.alert_id = $1
 ORDER BY v.alert_version DESC
 LIMIT 1
"""

_REPETITIONS = """
SELECT number, count(*) FILTER (WHERE is_started) AS started, count(*) FILTER (WHERE is_whole) AS completed
  FROM (SELECT dense_rank() OVER (PARTITION BY p.device_no ORDER BY p.occurrence_at) AS number,
               bool_or(p.started_at IS NOT NULL) AS is_started,
               bool_and(p.outcome IS NOT DISTINCT FROM 'completed') AS is_whole
          FROM control.alert_plays p
          JOIN control.alert_reach r USING (alert_id, device_no)
         WHERE p.alert_id = $1 AND r.unit_id = ANY ($2)
         GROUP BY p.device_no, p.occurrence_at) each
 GROUP BY number
 ORDER BY number
 LIMIT 1000
"""

_IN_EARNEST = """
SELECT alert_id
  FROM control.alerts
 WHERE state = 'in_force' AND purpose = 'alert' AND status = 'actual' AND valid_until > $1
 ORDER BY first_issued_at DESC
 LIMIT 20
"""

_COUNTS = """
SELECT purpose, count(*) AS alerts FROM control.alerts WHERE state = 'in_force' AND valid_until > $1 GROUP BY purpose
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A device on the ground of an alert."""

    device_no: DeviceNo
    device_id: DeviceId
    kind: str
    unit_id: UnitId
    ownership: str
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A committed event that may be about an alert."""

    place: Place
    device_no: DeviceNo
    unit_id: UnitId
    kind: str
    at: datetime
    device_at: datetime  # by its own clock, whether that is believed or not
    body: dict[str, Any]
    told_by: str
    counts: bool
    is_signed: bool  # by the device itself, with a key that nobody has called bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What was said of one content of one repetition."""

    alert_id: uuid.UUID
    device_no: DeviceNo
    occurrence_at: datetime
    item: int
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    reason: str | None
    sounded_ms: int | None
    told_by: str
    is_signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How an alert stands with every device of some units."""

    is_counted: bool
    published_at: datetime | None
    end_confirmed: int
    devices: tuple[Reach, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """One repetition, numbered from 1 on each device: how many began it, and how many ended it whole."""

    number: int
    started: int
    completed: int


async def lock_cursor(connection: Connection) -> Place | None:
    """Where to read on, ours until the transaction ends; None while another replica follows."""
    await connection.execute(_OPEN_CURSOR, CURSOR)
    row = await connection.fetchrow(_LOCK_CURSOR, CURSOR)
    if row is None:
        return None
    return BEGINNING if row["is_of_another_life"] else Place(tx=row["tx"], event_no=row["event_no"])


async def move_cursor(connection: Connection, place: Place) -> None:
    """Everything up to `place` has been dealt with once this transaction commits."""
    await connection.execute(
        "UPDATE control.cursors SET tx = $2, event_no = $3 WHERE name = $1", CURSOR, place.tx, place.event_no
    )


async def load_told(connection: Connection, after: Place, *, limit: int) -> tuple[Told, ...]:
    """The next committed events, in order."""
    rows = await connection.fetch(_EVENTS, after.tx, after.event_no, limit)
    return tuple(
        Told(
            place=Place(tx=row["tx"], event_no=row["event_no"]),
            device_no=DeviceNo(row["device_no"]),
            unit_id=UnitId(row["unit_id"]),
            kind=row["kind"],
            at=row["at"],
            device_at=row["device_at"],
            body=row["body"] or {},
            told_by=row["told_by"],
            counts=row["counts"],
            is_signed=row["is_signed"],
        )
        for row in rows
    )


async def note_words(connection: Connection, words: Sequence[tuple[uuid.UUID, Told, int, str, str | None]]) -> None:
    """Keep the newest word of each device about an alert, and which version it has: (alert, event, version, word, detail)."""
    said = [each for each in words if each[3] not in _ENDS]
    await connection.executemany(
        _NOTE_WORD,
        [
            (alert_id, told.device_no, told.unit_id, version, word, detail, told.at, told.told_by)
            for alert_id, told, version, word, detail in said
        ],
    )
    await connection.executemany(
        _NOTE_END,
        [
            (alert_id, told.device_no, told.unit_id, version)
            for alert_id, told, version, word, _ in words
            if word in _ENDS
        ],
    )
    signed = [each for each in said if each[1].is_signed]
    await connection.executemany(
        _NOTE_SIGNED_WORD, [(alert_id, told.device_no, version, word) for alert_id, told, version, word, _ in signed]
    )
    for statement, some in ((_NOTE_GIVEN, said), (_NOTE_SIGNED_GIVEN, signed)):
        given = [(alert_id, told.device_no, version, told.device_at) for alert_id, told, version, *_ in some]
        if given:
            await connection.execute(statement, *map(list, zip(*given, strict=True)))


async def note_plays(connection: Connection, plays: Sequence[Play]) -> None:
    """Keep what was said of repetitions."""
    await connection.executemany(
        _NOTE_PLAY,
        [
            (
                each.alert_id,
                each.device_no,
                each.occurrence_at,
                each.item,
                each.started_at,
                each.ended_at,
                each.outcome,
                each.reason,
                each.sounded_ms,
                each.told_by,
                each.started_at if each.is_signed else None,
            )
            for each in plays
        ],
    )


async def sum_up(connection: Connection, keys: Collection[tuple[uuid.UUID, DeviceNo]]) -> None:
    """Sum up anew what devices said of repetitions, and of those of the version that they were given last: (alert, device)."""
    ordered = sorted(keys)
    await connection.execute(_SUM_UP, [key[0] for key in ordered], [key[1] for key in ordered])


async def to_resolve(
    connection: Connection, *, looked_up_before: datetime, issued_before: datetime, now: datetime
) -> tuple[uuid.UUID, ...]:
    """Alerts whose audience is to be looked up, oldest first."""
    rows = await connection.fetch(_TO_RESOLVE, looked_up_before, now, issued_before)
    return tuple(row["alert_id"] for row in rows)


async def candidates(
    connection: Connection, unit_ids: Collection[UnitId], device_ids: Collection[str]
) -> tuple[Candidate, ...]:
    """Devices in service that sound or show, of the units or by name."""
    rows = await connection.fetch(_CANDIDATES, list(unit_ids), list(device_ids))
    return tuple(Candidate(**dict(row)) for row in rows)


async def put_audience(
    connection: Connection,
    alert_id: AlertId,
    version: int,
    addressed: Sequence[tuple[DeviceNo, UnitId]],
    *,
    at: datetime,
) -> None:
    """Note whom the present version means."""
    nos = [each[0] for each in addressed]
    await connection.execute(_PUT, alert_id, version, nos, [each[1] for each in addressed], at)
    await connection.execute(_NO_MORE, alert_id, nos)
    await connection.execute(_RESOLVED, alert_id, version, at)


async def expired(connection: Connection, *, now: datetime) -> tuple[uuid.UUID, ...]:
    """Alerts whose time is over and that still count as in force, locked."""
    return tuple(row["alert_id"] for row in await connection.fetch(_EXPIRED, now))


async def forget_topics(connection: Connection, *, now: datetime) -> tuple[tuple[AlertId, UnitId], ...]:
    """The topics of alerts nothing of which holds any more; they are noted no longer."""
    rows = await connection.fetch(_FORGOTTEN, now)
    return tuple((AlertId(row["alert_id"]), UnitId(row["unit_id"])) for row in rows)


async def reach(connection: Connection, alert: Alert, unit_ids: Collection[UnitId], *, now: datetime) -> Reached:
    """How the version that holds stands with every device of the units that it means, or that said something about it."""
    standing = await connection.fetchrow(_STANDING, alert.alert_id)
    rows = await connection.fetch(_REACH, alert.alert_id, list(unit_ids), now)
    version = standing["version"] if standing is not None and standing["version"] is not None else 1
    return Reached(
        is_counted=standing is not None and standing["is_counted"],
        published_at=standing["published_at"] if standing is not None else None,
        end_confirmed=sum((row["ended_version"] or 0) >= max(row["told_version"] or 0, 1) for row in rows),
        devices=tuple(
            judge(
                Facts(**{name: row[name] for name in Facts.__slots__}),
                alert.draft.purpose,
                version=version,
                issued_at=alert.issued_at,
                is_over=alert.is_over(now=now),
                now=now,
            )
            for row in rows
        ),
    )


async def repetitions(
    connection: Connection, alert_id: AlertId, unit_ids: Collection[UnitId]
) -> tuple[Repetition, ...]:
    """How many devices of the units began and ended each repetition."""
    return tuple(Repetition(**dict(row)) for row in await connection.fetch(_REPETITIONS, alert_id, list(unit_ids)))


async def in_earnest(connection: Connection, *, now: datetime) -> tuple[uuid.UUID, ...]:
    """The alerts in force that are meant in earnest, newest first."""
    rows = await connection.fetch(_IN_EARNEST, now)
    return tuple(row["alert_id"] for row in rows)


async def in_force(connection: Connection, *, now: datetime) -> dict[str, int]:
    """How many are in force, by what they ask for."""
    return {row["purpose"]: row["alerts"] for row in await connection.fetch(_COUNTS, now)}
