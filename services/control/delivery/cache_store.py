"""SQL of the cache check: what devices hold against what was issued.

The broker's retained messages are a cache. A broker killed, restored or emptied has lost some, and nobody tells us; but
every heartbeat says which plan and configuration the device goes by. Where that is not what stands issued, and the
device has had time, the order is put into the outbox again as it was signed. Again and again at growing intervals, so
that a device that cannot take it does not fill its line with it.

A device may also hold a serial above ours: our database was restored from a backup. It would refuse everything we sign
as replayed, so our counter is raised above it and its orders are made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

# No counter of ours gets here in a million years; a device that claims more would only wear its own counter out.
HIGHEST_BELIEVED = 2**62
# Waits between two attempts double up to 2 ** 5 times the first one: about an hour.
MAX_DOUBLINGS = 5

# An order that was given up before the broker took it has no time of publishing; its issue stands for it. What a device
# shows counts only if it was said well after the last attempt: heartbeats on their way then say nothing about it.
_BEHIND = """
SELECT o.device_no, o.kind
  FROM control.issued_orders o
 CROSS JOIN LATERAL (SELECT coalesce(o.published_at, o.issued_at) AS at,
                            $2::interval * power(2, least(o.republications, $3)) AS wait) tried
  JOIN control.devices d ON d.device_no = o.device_no AND d.retired_at IS NULL
  JOIN telemetry.fleet_states s ON s.device_no = o.device_no
 WHERE o.kind IN ('plan', 'config')
   AND o.valid_until > $1
   AND tried.at + tried.wait <= $1
   AND s.heartbeat_received_at > tried.at + tried.wait / 2
   AND coalesce(CASE o.kind WHEN 'plan' THEN s.plan_serial ELSE s.config_serial END, -1) < o.serial
   AND NOT EXISTS (SELECT FROM control.outbox w WHERE w.topic = o.topic AND w.is_retained)
 ORDER BY tried.at
 LIMIT $4
   FOR UPDATE OF o SKIP LOCKED
"""

# With an order go the keys of whoever receives it: a device without them believes nothing.
_REQUEUE = """
WITH behind AS (
    SELECT device_no, kind
      FROM unnest($1::integer[], $2::text[]) AS b (device_no, kind)
),
counted AS (
    UPDATE control.issued_orders o
       SET republications = o.republications + 1,
           published_at = $3
      FROM behind b
     WHERE o.device_no = b.device_no AND o.kind = b.kind
 RETURNING o.device_no, o.kind, o.serial, o.topic, o.valid_until, o.message
),
keys AS (
    SELECT DISTINCT k.device_no, k.kind, k.serial, k.topic, k.valid_until, k.message
      FROM counted c
      JOIN control.devices d ON d.device_no = c.device_no
      LEFT JOIN control.gateway_assignments a
             ON a.device_no = c.device_no AND a.valid_from <= $3 AND (a.valid_until IS NULL OR a.valid_until > $3)
      JOIN control.issued_orders k ON k.device_no = coalesce(a.gateway_no, d.device_no) AND k.kind = 'keys'
)
INSERT INTO control.outbox
       (topic, payload, is_retained, expires_at, device_no, kind, serial, created_at, dispatch_at)
SELECT topic, message, true, valid_until, device_no, kind, serial, $3, $3
  FROM (SELECT * FROM keys UNION ALL SELECT * FROM counted) again
 ORDER BY CASE kind WHEN 'keys' THEN 0 WHEN 'config' THEN 1 ELSE 2 END, topic
    ON CONFLICT (topic) WHERE is_retained DO NOTHING
RETURNING kind
"""

_AHEAD = """
SELECT o.device_no, o.kind,
       CASE o.kind WHEN 'plan' THEN s.plan_serial ELSE s.config_serial END AS held
  FROM control.issued_orders o
  JOIN telemetry.fleet_states s ON s.device_no = o.device_no
 WHERE o.kind IN ('plan', 'config')
   AND CASE o.kind WHEN 'plan' THEN s.plan_serial ELSE s.config_serial END > o.serial
   AND CASE o.kind WHEN 'plan' THEN s.plan_serial ELSE s.config_serial END <= $2
   AND s.heartbeat_received_at > o.issued_at
 LIMIT $1
"""

_RAISE_SERIALS = """
UPDATE control.order_serials c
   SET serial = greatest(c.serial, a.held)
  FROM unnest($1::integer[], $2::text[], $3::bigint[]) AS a (device_no, kind, held)
 WHERE c.device_no = a.device_no AND c.kind = a.kind AND c.serial < a.held
RETURNING c.device_no
"""

_MAKE_DUE = """
UPDATE control.issued_orders o
   SET renew_at = $3
  FROM unnest($1::integer[], $2::text[]) AS a (device_no, kind)
 WHERE o.device_no = a.device_no AND o.kind = a.kind
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A device that holds a higher serial than the one we remember having issued."""

    device_no: DeviceNo
    kind: str
    held: int


async def requeue_lost(connection: Connection, *, after: timedelta, limit: int, now: datetime) -> tuple[str, ...]:
    """Put orders that devices do not show into the outbox again; returns the kind of each."""
    behind = await connection.fetch(_BEHIND, now, after, MAX_DOUBLINGS, limit)
    if not behind:
        return ()
    rows = await connection.fetch(_REQUEUE, [row["device_no"] for row in behind], [row["kind"] for row in behind], now)
    return tuple(row["kind"] for row in rows)


async def raise_serials(connection: Connection, *, limit: int, now: datetime) -> tuple[Ahead, ...]:
    """Count on from the serials that devices hold, where they are above ours, and have those orders made anew."""
    ahead = tuple(
        Ahead(device_no=DeviceNo(row["device_no"]), kind=row["kind"], held=row["held"])
        for row in await connection.fetch(_AHEAD, limit, HIGHEST_BELIEVED)
    )
    if ahead:
        device_nos, kinds = [each.device_no for each in ahead], [each.kind for each in ahead]
        await connection.execute(_RAISE_SERIALS, device_nos, kinds, [each.held for each in ahead])
        await connection.execute(_MAKE_DUE, device_nos, kinds, now)
    return ahead
