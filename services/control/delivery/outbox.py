"""SQL of the outbox: publishes that a committed transaction has decided on.

A message goes in with the decision it carries out, in the same transaction. It comes out by being claimed with a lease,
published, and removed. Whoever dies in between leaves a lease that runs out, and the message is claimed again: at least
once, never lost.

A retained topic has one row. A newer message takes the row over, whether or not the older one is being published just
then: the row's revision grows, so whoever published the older one does not remove the newer one. The lease is left
alone, so that two dispatchers do not publish to one topic at the same time, in an order nobody chose.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.topics import DownlinkKind, Topic, format_topic, is_retained
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

CHANNEL = "outbox_filled"
ERROR_LENGTH = 200
ALERT = "alert"  # the kind of alerts and of commands that carry one: they have a lane of their own
FIRST = {DownlinkKind.KEYS.value: 0, DownlinkKind.CONFIG.value: 1}

_PUT_RETAINED = """
INSERT INTO control.outbox
       (topic, payload, is_retained, expires_at, device_no, kind, serial, created_at, dispatch_at)
SELECT topic, payload, true, expires_at, device_no, kind, serial, $7, $7
  FROM unnest($1::text[], $2::bytea[], $3::timestamptz[], $4::integer[], $5::text[], $6::bigint[])
       AS m (topic, payload, expires_at, device_no, kind, serial)
 ORDER BY topic
    ON CONFLICT (topic) WHERE is_retained DO UPDATE
   SET payload = excluded.payload,
       expires_at = excluded.expires_at,
       device_no = excluded.device_no,
       kind = excluded.kind,
       serial = excluded.serial,
       revision = outbox.revision + 1,
       created_at = excluded.created_at,
       dispatch_at = excluded.dispatch_at,
       attempts = 0,
       last_error = NULL
"""

_PUT = """
INSERT INTO control.outbox
       (topic, payload, is_retained, expires_at, device_no, kind, serial, created_at, dispatch_at)
SELECT topic, payload, false, expires_at, device_no, kind, serial, $7, $7
  FROM unnest($1::text[], $2::bytea[], $3::timestamptz[], $4::integer[], $5::text[], $6::bigint[])
       AS m (topic, payload, expires_at, device_no, kind, serial)
"""

_RING = f"SELECT pg_notify('{CHANNEL}', '')"

_CLAIM = """
UPDATE control.outbox o
   SET leased_until = $1::timestamptz + $2::interval,
       leased_by = $3,
       attempts = o.attempts + 1
  FROM (SELECT outbox_id
          FROM control.outbox
         WHERE {part}
           AND dispatch_at <= $1
           AND (leased_until IS NULL OR leased_until <= $1)
           AND (expires_at IS NULL OR expires_at > $1)
         ORDER BY dispatch_at, outbox_id
         LIMIT $4
           FOR UPDATE SKIP LOCKED) due
 WHERE o.outbox_id = due.outbox_id
RETURNING o.outbox_id, o.topic, o.payload, o.is_retained, o.expires_at, o.device_no, o.kind, o.serial, o.revision,
          o.attempts, o.created_at
"""


class Part(enum.Enum):
    """What of the outbox a sender takes; the value is a condition of SQL."""

    ALERTS = "kind = 'alert'"
    REST = "kind <> 'alert'"


_CLAIM_OF = {part: _CLAIM.format(part=part.value) for part in Part}

# What the broker has taken is removed, unless a newer message has taken the row over meanwhile: that one is due at once.
_REMOVE = """
WITH taken AS (
    SELECT outbox_id, revision
      FROM unnest($1::bigint[], $2::integer[]) AS t (outbox_id, revision)
),
gone AS (
    DELETE FROM control.outbox o
     USING taken t
     WHERE o.outbox_id = t.outbox_id AND o.revision = t.revision
 RETURNING o.outbox_id, o.device_no, o.kind, o.serial
),
superseded AS (
    UPDATE control.outbox o
       SET leased_until = NULL,
           leased_by = NULL
      FROM taken t
     WHERE o.outbox_id = t.outbox_id AND o.revision <> t.revision AND o.leased_by = $3
),
noted AS (
    UPDATE control.issued_orders i
       SET published_at = $4
      FROM gone g
     WHERE i.device_no = g.device_no AND i.kind = g.kind AND i.serial = g.serial
)
SELECT count(*) FROM gone
"""

_POSTPONE = """
UPDATE control.outbox o
   SET dispatch_at = CASE WHEN o.revision = t.revision THEN t.dispatch_at ELSE o.dispatch_at END,
       last_error = CASE WHEN o.revision = t.revision THEN t.error ELSE o.last_error END,
       leased_until = NULL,
       leased_by = NULL
  FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::text[])
       AS t (outbox_id, revision, dispatch_at, error)
 WHERE o.outbox_id = t.outbox_id AND o.leased_by = $5
"""

_DISCARD = """
DELETE FROM control.outbox o
 USING unnest($1::bigint[], $2::integer[]) AS t (outbox_id, revision)
 WHERE o.outbox_id = t.outbox_id AND o.revision = t.revision
"""

_EXPIRE = """
DELETE FROM control.outbox
 WHERE expires_at <= $1
   AND (leased_until IS NULL OR leased_until <= $1)
RETURNING outbox_id, topic, kind, device_no, attempts, last_error
"""

_DEPTH = """
SELECT count(*) AS waiting, min(created_at) AS oldest_at
  FROM control.outbox
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """A message somebody decided to send. An empty payload on a retained topic clears the topic.

    `device_no`, `kind` and `serial` say which order it carries; `expires_at` is when it becomes worthless.
    """

    topic: Topic
    payload: bytes
    kind: str
    device_no: DeviceNo | None = None
    serial: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A message that is ours until the lease runs out."""

    outbox_id: int
    topic: str
    payload: bytes
    is_retained: bool
    expires_at: datetime | None
    device_no: DeviceNo | None
    kind: str
    serial: int | None
    revision: int
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """A message that could not be published, and when to try again."""

    message: Claimed
    dispatch_at: datetime
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A message that became worthless before the broker took it."""

    topic: str
    kind: str
    device_no: DeviceNo | None
    attempts: int
    last_error: str | None


async def enqueue(connection: Connection, messages: Sequence[Publish], *, at: datetime) -> None:
    """Have messages published once the surrounding transaction commits. Retained or not follows from the topic.

    Of several messages for one retained topic the last counts.
    """
    latest = {message.topic: message for message in messages if is_retained(message.topic)}
    for statement, chosen in (
        (_PUT_RETAINED, list(latest.values())),
        (_PUT, [message for message in messages if not is_retained(message.topic)]),
    ):
        if chosen:
            await connection.execute(
                statement,
                [format_topic(message.topic) for message in chosen],
                [message.payload for message in chosen],
                [message.expires_at for message in chosen],
                [message.device_no for message in chosen],
                [message.kind for message in chosen],
                [message.serial for message in chosen],
                at,
            )
    if messages:
        await ring(connection)


async def ring(connection: Connection) -> None:
    """Wake the dispatchers once the surrounding transaction commits."""
    await connection.execute(_RING)


async def claim(
    connection: Connection, *, by: str, lease: timedelta, limit: int, part: Part = Part.REST, now: datetime
) -> tuple[Claimed, ...]:
    """Take up to `limit` due messages of a part of the outbox; nobody else gets them until the lease has run out.

    They come in the order of the outbox, but keys before configurations before everything else: a device that listens
    can then make use of each as it arrives.
    """
    rows = await connection.fetch(_CLAIM_OF[part], now, lease, by, limit)
    claimed = [Claimed(**dict(row)) for row in rows]
    return tuple(sorted(claimed, key=lambda message: (FIRST.get(message.kind, len(FIRST)), message.outbox_id)))


async def remove(connection: Connection, messages: Sequence[Claimed], *, by: str, now: datetime) -> int:
    """Note that the broker has taken messages; return how many rows were still theirs."""
    removed: int = await connection.fetchval(
        _REMOVE, [message.outbox_id for message in messages], [message.revision for message in messages], by, now
    )
    return removed


async def postpone(connection: Connection, postponed: Sequence[Postponed], *, by: str) -> None:
    """Give messages back, to be tried again later."""
    await connection.execute(
        _POSTPONE,
        [each.message.outbox_id for each in postponed],
        [each.message.revision for each in postponed],
        [each.dispatch_at for each in postponed],
        [each.error[:ERROR_LENGTH] for each in postponed],
        by,
    )


async def discard(connection: Connection, messages: Sequence[Claimed]) -> None:
    """Remove messages that can never be published."""
    await connection.execute(
        _DISCARD, [message.outbox_id for message in messages], [message.revision for message in messages]
    )


async def expire(connection: Connection, *, now: datetime) -> tuple[Expired, ...]:
    """Remove what became worthless and return it: nothing goes silently."""
    return tuple(
        Expired(
            topic=row["topic"],
            kind=row["kind"],
            device_no=row["device_no"],
            attempts=row["attempts"],
            last_error=row["last_error"],
        )
        for row in await connection.fetch(_EXPIRE, now)
    )


async def depth(connection: Connection) -> tuple[int, datetime | None]:
    """How many messages wait, and since when the oldest does."""
    row = await connection.fetchrow(_DEPTH)
    assert row is not None
    return row["waiting"], row["oldest_at"]
