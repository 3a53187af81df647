"""What is stored that tells two devices with one certificate from one, and where it is written that there are two."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.ingest.twins import Beat, Note, Verdict
from services.shared.database.pool import Connection

# How long after it was last seen it counts as going on.
FRESH = timedelta(hours=1)

# By the device's own clock, where it is believed; of what it says for itself, not what a gateway says for it.
BEATS = """
SELECT at, received_at, uptime_s
  FROM telemetry.heartbeat_log
 WHERE device_no = $1
   AND at >= $2
   AND principal_no IS NULL
   AND time_source = 'device'
 ORDER BY at DESC
 LIMIT 1000
"""

NOTES = """
SELECT at, received_at, journal
  FROM telemetry.events
 WHERE device_no = $1
   AND received_at >= $2
   AND principal_no IS NULL
   AND time_source = 0
 ORDER BY at DESC
 LIMIT 1000
"""

REPORT = """
INSERT INTO telemetry.shared_certificates AS s (device_no, first_seen_at, last_seen_at, proof, detail)
VALUES ($1, $2, $2, $3, $4)
    ON CONFLICT (device_no) DO UPDATE
   SET last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at),
       proof = excluded.proof,
       detail = excluded.detail
"""

COUNT = """
SELECT count(*)
  FROM telemetry.shared_certificates
 WHERE last_seen_at >= $1
"""


async def evidence(connection: Connection, device_no: int, *, since: datetime) -> tuple[Sequence[Beat], Sequence[Note]]:
    """Return what a device has said for itself since then, as far as it bears on its being one."""
    beats = await connection.fetch(BEATS, device_no, since)
    notes = await connection.fetch(NOTES, device_no, since)
    return [Beat(**dict(row)) for row in beats], [Note(**dict(row)) for row in notes]


async def report(connection: Connection, device_no: int, verdict: Verdict, *, now: datetime) -> None:
    """Write down that a device's certificate is used by two."""
    await connection.execute(REPORT, device_no, now, verdict.proof.value, verdict.detail)


async def count(connection: Connection, *, since: datetime) -> int:
    """Return of how many devices that has been so since then."""
    return int(await connection.fetchval(COUNT, since))
