"""The SQL of ingest's hot path; `store` says in which order it runs and what it locks.

Column lists come from `rows`, so that a row and the statement it is copied by cannot differ. Nothing else is put
together at run time.
"""

# ruff: noqa: S608 - the lists put into these statements are constants of ours

from collections.abc import Sequence

from schemas.fields import DeviceKind
from services.ingest.rows import EVENT_COLUMNS, HEARTBEAT_COLUMNS, READING_COLUMNS, SENSOR_COLUMNS

_HEARTBEATS = ", ".join(HEARTBEAT_COLUMNS)
_SENSORS = ", ".join(SENSOR_COLUMNS)
_READINGS = ", ".join(READING_COLUMNS)
_EVENTS = ", ".join(EVENT_COLUMNS)

END_WHEN_IDLE = "SELECT set_config('idle_in_transaction_session_timeout', $1, false)"

# Rows that may be there already are copied here first, because COPY knows no ON CONFLICT: measured, 4.9 µs of the
# database's CPU a row, against 2.0 of COPY alone. Made once per connection, emptied by each commit.
STAGE = f"""
CREATE TEMPORARY TABLE staged_heartbeats ON COMMIT DELETE ROWS AS
SELECT {_HEARTBEATS}, NULL::text AS principal
  FROM telemetry.heartbeats
  WITH NO DATA;
CREATE TEMPORARY TABLE staged_sensor_heartbeats ON COMMIT DELETE ROWS AS
SELECT {_SENSORS}
  FROM telemetry.sensor_heartbeats
  WITH NO DATA;
CREATE TEMPORARY TABLE staged_sensor_states ON COMMIT DELETE ROWS AS
SELECT {_SENSORS}, NULL::text AS principal
  FROM telemetry.sensor_heartbeats
  WITH NO DATA;
CREATE TEMPORARY TABLE staged_readings ON COMMIT DELETE ROWS AS
SELECT {_READINGS}
  FROM telemetry.readings
  WITH NO DATA;
CREATE TEMPORARY TABLE staged_events ON COMMIT DELETE ROWS AS
SELECT {_EVENTS.replace("body", "NULL::text AS body")}
  FROM telemetry.events
  WITH NO DATA
"""

# Sorted, so that two replicas given the same redelivered messages meet them in the same order.
INSERT_HEARTBEATS = f"""
INSERT INTO telemetry.heartbeats ({_HEARTBEATS})
SELECT {_HEARTBEATS}
  FROM staged_heartbeats
 ORDER BY device_no, at
    ON CONFLICT (device_no, at) DO NOTHING
"""

INSERT_SENSOR_HEARTBEATS = f"""
INSERT INTO telemetry.sensor_heartbeats ({_SENSORS})
SELECT {_SENSORS}
  FROM staged_sensor_heartbeats
 ORDER BY device_no, at
    ON CONFLICT DO NOTHING
"""

INSERT_READINGS = f"""
INSERT INTO telemetry.readings ({_READINGS})
SELECT {_READINGS}
  FROM staged_readings
 ORDER BY device_no, quantity, at
    ON CONFLICT (device_no, quantity, at) DO NOTHING
"""

INSERT_EVENTS = f"""
INSERT INTO telemetry.events ({_EVENTS})
SELECT {_EVENTS.replace("body", "body::jsonb")}
  FROM staged_events
"""


def _upsert_states(staged: str, columns: Sequence[str], kind: str) -> str:
    """Return the statement that puts the newest staged heartbeats into device states.

    The newest heartbeat wins. A clock that ran a little ahead must not shut out what comes after it was put right, so what
    counts is `at`, but not more than the time of receipt.
    """
    taken = columns[columns.index("clock_state") :]
    names = ", ".join(taken)
    return f"""
INSERT INTO telemetry.device_states AS s
       (device_no, principal, is_through_gateway, last_heard_kind, last_heard_at,
        heartbeat_at, heartbeat_received_at, heartbeat_device_at, kind, {names})
SELECT DISTINCT ON (device_no)
       device_no, principal, principal_no IS NOT NULL, 0, received_at,
       at, received_at, coalesce(device_at, at), {kind}, {names}
  FROM {staged}
 ORDER BY device_no, least(at, received_at) DESC
    ON CONFLICT (device_no) DO UPDATE
   SET principal = excluded.principal,
       is_through_gateway = excluded.is_through_gateway,
       last_heard_kind = CASE WHEN excluded.last_heard_at >= s.last_heard_at THEN 0 ELSE s.last_heard_kind END,
       last_heard_at = greatest(excluded.last_heard_at, s.last_heard_at),
       heartbeat_at = excluded.heartbeat_at,
       heartbeat_received_at = excluded.heartbeat_received_at,
       heartbeat_device_at = excluded.heartbeat_device_at,
       kind = excluded.kind,
       {", ".join(f"{column} = excluded.{column}" for column in taken)}
 WHERE s.heartbeat_at IS NULL
    OR least(excluded.heartbeat_at, excluded.heartbeat_received_at) > least(s.heartbeat_at, s.heartbeat_received_at)
"""


UPSERT_STATES = _upsert_states(
    "staged_heartbeats", [column for column in HEARTBEAT_COLUMNS if column != "kind"], "kind"
)
UPSERT_SENSOR_STATES = _upsert_states("staged_sensor_states", SENSOR_COLUMNS, f"{DeviceKind.SENSOR.value}::smallint")

LOCK_STATES = """
SELECT device_no
  FROM telemetry.device_states
 WHERE device_no = ANY ($1::integer[])
 ORDER BY device_no
   FOR UPDATE
"""

UPSERT_HEARD = """
INSERT INTO telemetry.device_states AS s (device_no, principal, is_through_gateway, last_heard_kind, last_heard_at)
SELECT *
  FROM unnest($1::integer[], $2::text[], $3::boolean[], $4::smallint[], $5::timestamptz[])
    ON CONFLICT (device_no) DO UPDATE
   SET principal = excluded.principal,
       is_through_gateway = excluded.is_through_gateway,
       last_heard_kind = excluded.last_heard_kind,
       last_heard_at = excluded.last_heard_at
 WHERE excluded.last_heard_at >= s.last_heard_at
"""

# A device of which nothing else is known was last heard when it connected, or so it says; the report itself may be the
# broker's, or have lain there for long. The highest connection number wins, and on equal numbers offline wins: a will that comes late cannot overwrite a newer
# connection. Numbers are a device's time in milliseconds where it has one. One that was ahead of the very clock it was
# received by, by more than a believable clock may be ($7, milliseconds), came of a wrong clock, and does not shut out a
# believable one received later.
UPSERT_PRESENCE = """
INSERT INTO telemetry.device_states AS s
       (device_no, principal, is_through_gateway, last_heard_kind, last_heard_at,
        connection_no, online, presence_at, presence_received_at)
VALUES ($1, $2, false, 3, least($3, $6::timestamptz), $4, $5, $6, $3)
    ON CONFLICT (device_no) DO UPDATE
   SET connection_no = excluded.connection_no,
       online = excluded.online,
       presence_at = excluded.presence_at,
       presence_received_at = excluded.presence_received_at
 WHERE s.connection_no IS NULL
    OR excluded.connection_no > s.connection_no
    OR excluded.connection_no = s.connection_no AND NOT excluded.online
    OR s.connection_no > extract(epoch FROM s.presence_received_at) * 1000 + $7::bigint
       AND excluded.connection_no
           BETWEEN extract(epoch FROM s.presence_received_at) * 1000
               AND extract(epoch FROM excluded.presence_received_at) * 1000 + $7::bigint
"""

LOCK_JOURNALS = """
SELECT j.device_no, j.principal_no, j.journal, j.received
  FROM telemetry.journals j
  JOIN unnest($1::integer[], $2::integer[], $3::bigint[]) AS k (device_no, principal_no, journal)
 USING (device_no, principal_no, journal)
 ORDER BY j.device_no, j.principal_no, j.journal
   FOR UPDATE OF j
"""

COUNT_NEW_JOURNALS = """
SELECT device_no, count(*) AS journals
  FROM telemetry.journals
 WHERE device_no = ANY ($1::integer[])
   AND first_seen_at >= $2
 GROUP BY device_no
"""

OPEN_JOURNALS = """
INSERT INTO telemetry.journals (device_no, principal_no, journal, first_seen_at, last_seen_at)
SELECT device_no, principal_no, journal, $4, $4
  FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS k (device_no, principal_no, journal)
 ORDER BY device_no, principal_no, journal
    ON CONFLICT DO NOTHING
"""

UPDATE_JOURNAL = """
UPDATE telemetry.journals
   SET received = $4,
       last_seen_at = $5
 WHERE device_no = $1
   AND principal_no = $2
   AND journal = $3
"""

# Quotas are counted before rows are made, so replicas take turns; this path is not the one that has to be fast. Batches
# that only count (a clock nobody believes, and some device always has one) do not come here.
LOCK_QUARANTINE = "SELECT pg_advisory_xact_lock(hashtext('telemetry.quarantine'))"

KNOWN_PAYLOADS = """
SELECT q.principal, q.sha256
  FROM telemetry.quarantine q
  JOIN unnest($1::text[], $2::bytea[]) AS k (principal, sha256)
 USING (principal, sha256)
"""

KEPT_TODAY = """
SELECT principal, sum(kept)::bigint AS kept
  FROM telemetry.quarantine_counters
 WHERE day = $1
   AND kept > 0
 GROUP BY principal
"""

UPSERT_INMATE = """
INSERT INTO telemetry.quarantine AS q
       (principal, sha256, device, topic, reason, detail, size, payload, is_receipted, messages, first_seen_at,
        last_seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (principal, sha256) DO UPDATE
   SET device = excluded.device,
       topic = excluded.topic,
       reason = excluded.reason,
       detail = excluded.detail,
       is_receipted = q.is_receipted OR excluded.is_receipted,
       messages = q.messages + excluded.messages,
       last_seen_at = greatest(q.last_seen_at, excluded.last_seen_at)
"""

UPSERT_COUNTER = """
INSERT INTO telemetry.quarantine_counters AS c (day, principal, reason, messages, bytes, kept)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (day, principal, reason) DO UPDATE
   SET messages = c.messages + excluded.messages,
       bytes = c.bytes + excluded.bytes,
       kept = c.kept + excluded.kept
"""

INSERT_LATE_HOURS = """
INSERT INTO telemetry.late_hours (hour)
SELECT *
  FROM unnest($1::timestamptz[])
"""

INSERT_LATE_SENSOR_HOURS = """
INSERT INTO telemetry.late_sensor_hours (hour, device_no)
SELECT *
  FROM unnest($1::timestamptz[], $2::integer[])
"""

ADD_TOTALS = """
INSERT INTO telemetry.replica_totals AS t
       (replica, heartbeats, readings, events, quarantined, duplicates, clock_refused)
VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (replica) DO UPDATE
   SET heartbeats = t.heartbeats + excluded.heartbeats,
       readings = t.readings + excluded.readings,
       events = t.events + excluded.events,
       quarantined = t.quarantined + excluded.quarantined,
       duplicates = t.duplicates + excluded.duplicates,
       clock_refused = t.clock_refused + excluded.clock_refused
"""

# With its transaction, which tells the rows of one batch from those of another that committed at the same time.
NOTIFY_COMMITTED = """
SELECT pg_notify('telemetry_committed', left($1, -1) || ',"tx":' || pg_current_xact_id()::text || '}')
"""
