"""SQL of replays: what control asks to be judged anew, and what became of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from services.ingest.admission import Numbered
from services.ingest.stamps import Stamp
from services.shared.database.errors import translated
from services.shared.database.pool import Connection

# A request is open until its outcome is written; which of them an inmate has is for control to say.
_OPEN = """
  FROM control.quarantine_requests r
  LEFT JOIN telemetry.quarantine q USING (quarantine_id)
 WHERE NOT EXISTS (SELECT
                     FROM telemetry.quarantine_replays o
                    WHERE o.request_no = r.request_no
                      AND o.quarantine_id = r.quarantine_id)
"""

OPEN_REQUESTS = (
    """
SELECT r.request_no, r.quarantine_id, r.topic AS corrected_topic, r.payload AS corrected_payload,
       q.principal, q.topic, q.payload, q.size, q.first_seen_at
"""
    + _OPEN
    + """
 ORDER BY r.request_no, r.quarantine_id
 LIMIT $1
"""
)

IS_OPEN = (
    """
SELECT q.replayed_at IS NOT NULL AS is_replayed
"""
    + _OPEN
    + """
   AND r.request_no = $1
   AND r.quarantine_id = $2
"""
)

# One replica at a time: what two would do at once they would only do twice.
TAKE_TURN = "SELECT pg_try_advisory_xact_lock(hashtext('telemetry.quarantine_replays'))"

LOCK_JOURNAL = """
SELECT received @> $4::bigint AS has_number
  FROM telemetry.journals
 WHERE device_no = $1
   AND principal_no = $2
   AND journal = $3
   FOR UPDATE
"""

# By the device's own index: some thousand rows at most, on a path that need not be fast.
HAS_EVENT = """
SELECT EXISTS (SELECT
                 FROM telemetry.events
                WHERE device_no = $1
                  AND principal_no IS NOT DISTINCT FROM $2
                  AND journal = $3
                  AND sequence = $4)
"""

TAKE_NUMBER_BACK = """
UPDATE telemetry.journals
   SET received = received - int8multirange(int8range($4, $4, '[]'))
 WHERE device_no = $1
   AND principal_no = $2
   AND journal = $3
"""

RECORD = """
INSERT INTO telemetry.quarantine_replays
       (request_no, quarantine_id, replayed_at, at, journal, sequence, device_no, principal_no, is_corrected, result,
        kind, reason, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""

MARK_REPLAYED = """
UPDATE telemetry.quarantine
   SET replayed_at = $2
 WHERE quarantine_id = $1
"""

MARK_REFUSED = """
UPDATE telemetry.quarantine
   SET reason = $2,
       detail = $3
 WHERE quarantine_id = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inmate:
    """What was received: `payload` is the beginning of `size` bytes."""

    principal: str
    topic: str
    payload: bytes
    size: int
    first_seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The copy to judge instead."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One inmate to be judged anew. `inmate` is None where retention was faster."""

    request_no: int
    quarantine_id: int
    inmate: Inmate | None
    correction: Correction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it.

    `result` is stored, duplicate, refused (with `reason`) or gone. `renames` tells a verdict on the bytes as received,
    which is why they are in quarantine from now on, from a refusal that says nothing about them.
    """

    result: str
    reason: str | None = None
    detail: str | None = None
    renames: bool = False
    kind: str | None = None
    device_no: int | None = None
    principal_no: int | None = None
    stamp: Stamp | None = None
    numbered: Numbered | None = None


async def open_requests(connection: Connection, *, limit: int) -> tuple[Request, ...]:
    """What is to be done, oldest request first, in order of first receipt."""
    with translated():
        rows = await connection.fetch(OPEN_REQUESTS, limit)
    return tuple(
        Request(
            request_no=row["request_no"],
            quarantine_id=row["quarantine_id"],
            inmate=None
            if row["principal"] is None
            else Inmate(
                principal=row["principal"],
                topic=row["topic"],
                payload=row["payload"],
                size=row["size"],
                first_seen_at=row["first_seen_at"],
            ),
            correction=None
            if row["corrected_payload"] is None
            else Correction(topic=row["corrected_topic"], payload=row["corrected_payload"]),
        )
        for row in rows
    )


@asynccontextmanager
async def turn(connection: Connection, request: Request) -> AsyncIterator[bool | None]:
    """A transaction in which the request is ours to settle.

    Gives None when it is not (another replica is at it or has been, or it was taken back), else whether its inmate has
    been replayed before.
    """
    with translated():
        async with connection.transaction():
            if not await connection.fetchval(TAKE_TURN):
                yield None
            else:
                yield await connection.fetchval(IS_OPEN, request.request_no, request.quarantine_id)


async def free_number(connection: Connection, numbered: Numbered) -> None:
    """Let an event be stored whose number counts as received, unless an event is stored under it.

    A number is receipted with the bytes in quarantine, so that a device does not wait for ever; now they have become an
    event, the number is taken back and given again by the very transaction that stores it.
    """
    device = numbered.device
    key = (device.device_no, device.speaker_no, numbered.journal, numbered.sequence)
    if await connection.fetchval(LOCK_JOURNAL, *key) and not await connection.fetchval(
        HAS_EVENT, device.device_no, device.principal_no, numbered.journal, numbered.sequence
    ):
        await connection.execute(TAKE_NUMBER_BACK, *key)


async def record(connection: Connection, request: Request, outcome: Outcome, *, now: datetime) -> None:
    """Write what became of the request, and take its inmate from the inbox where it is stored."""
    await connection.execute(
        RECORD,
        request.request_no,
        request.quarantine_id,
        now,
        outcome.stamp.at if outcome.stamp else None,
        outcome.numbered.journal if outcome.numbered else None,
        outcome.numbered.sequence if outcome.numbered else None,
        outcome.device_no,
        outcome.principal_no,
        request.correction is not None,
        outcome.result,
        outcome.kind,
        outcome.reason,
        outcome.detail,
    )
    if outcome.result in ("stored", "duplicate"):
        await connection.execute(MARK_REPLAYED, request.quarantine_id, now)
    elif outcome.renames:
        await connection.execute(MARK_REFUSED, request.quarantine_id, outcome.reason, outcome.detail)
