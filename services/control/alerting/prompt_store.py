"""SQL of prompting: devices that are online and have said nothing about an alert in force."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.identifiers import AlertId, DeviceId
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

# Each device once for a version, and for one alert at a time: the gravest. A stop is a word for other ground.
# Locked, so that of several replicas one prompts a device.
_SILENT = """
SELECT r.alert_id, r.device_no, d.device_id, coalesce(g.principal, d.device_id) AS principal, v.alert_version, v.message,
       a.valid_until
  FROM control.alerts a
  JOIN LATERAL (SELECT alert_version, message, published_at, issued_at
                  FROM control.alert_versions
                 WHERE alert_id = a.alert_id
                   AND stopped_in IS NULL
                 ORDER BY alert_version DESC
                 LIMIT 1) v ON v.published_at <= $1::timestamptz - $2::interval
  JOIN control.alert_reach r USING (alert_id)
  JOIN control.devices d USING (device_no)
  JOIN telemetry.fleet_states s USING (device_no)
  LEFT JOIN LATERAL (SELECT p.device_id AS principal
                       FROM control.gateway_assignments t
                       JOIN control.devices p ON p.device_no = t.gateway_no
                      WHERE t.device_no = d.device_no
                        AND t.valid_from <= $1
                        AND (t.valid_until IS NULL OR t.valid_until > $1)
                      LIMIT 1) g ON true
 WHERE a.state = 'in_force'
   AND a.purpose IN ('alert', 'silence')
   AND a.valid_until > $1
   AND a.resolved_at IS NOT NULL
   AND r.is_addressed
   AND greatest(r.told_version, r.ended_version, 0) < v.alert_version
   AND coalesce(r.commanded_version, 0) < v.alert_version
   AND (v.alert_version > 1 OR r.first_start_at IS NULL)
   AND d.retired_at IS NULL
   AND s.last_heard_at >= $1::timestamptz - greatest(3 * d.heartbeat_interval, interval '90 seconds')
   AND NOT (s.online IS FALSE AND s.presence_received_at >= s.last_heard_at)
   AND octet_length(v.message) <= $3
 ORDER BY array_position(ARRAY['extreme', 'severe', 'moderate', 'minor', 'unknown'], a.severity), a.issued_at,
          r.device_no
 LIMIT $4
   FOR UPDATE OF r SKIP LOCKED
"""

_SERIALS = """
INSERT INTO control.command_serials AS c (device_no, serial)
SELECT device_no, $2
  FROM unnest($1::integer[]) AS t (device_no)
 ORDER BY device_no
    ON CONFLICT (device_no) DO UPDATE SET serial = greatest(c.serial + 1, excluded.serial)
RETURNING device_no, serial
"""

_NOTE = """
UPDATE control.alert_reach r
   SET command_id = t.command_id, commanded_version = t.alert_version, commanded_at = $5
  FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::integer[]) AS t (alert_id, device_no, command_id, alert_version)
 WHERE r.alert_id = t.alert_id
   AND r.device_no = t.device_no
"""

# The device's answer to the command: it would not have the alert. What it says about the alert itself comes as its word.
_REFUSED = """
UPDATE control.alert_reach r
   SET told = 'refused', told_version = r.commanded_version, told_detail = t.detail, told_at = t.at, told_by = t.told_by
  FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::timestamptz[], $5::text[])
       AS t (command_id, device_no, detail, at, told_by)
 WHERE r.command_id = t.command_id
   AND r.device_no = t.device_no
   AND coalesce(r.told_version, 0) < r.commanded_version
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """A device that should have answered, and the message it should have had."""

    alert_id: AlertId
    device_no: DeviceNo
    device_id: DeviceId
    principal: DeviceId
    alert_version: int
    message: bytes
    valid_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A device's answer to a command that it refuses what was in it."""

    command_id: uuid.UUID
    device_no: DeviceNo
    detail: str
    at: datetime
    told_by: str


async def silent(
    connection: Connection, *, for_at_least: timedelta, largest: int, limit: int, now: datetime
) -> tuple[Silent, ...]:
    """Devices that are heard from, are meant by an alert in force and have said nothing about it; locked, each once."""
    rows = await connection.fetch(_SILENT, now, for_at_least, largest, limit)
    found: dict[DeviceNo, Silent] = {}
    for row in rows:
        found.setdefault(DeviceNo(row["device_no"]), Silent(**dict(row)))
    return tuple(found.values())


async def serials(connection: Connection, devices: Collection[DeviceNo], *, at_least: int) -> dict[DeviceNo, int]:
    """The next serial of a command for each device."""
    rows = await connection.fetch(_SERIALS, list(devices), at_least)
    return {DeviceNo(row["device_no"]): row["serial"] for row in rows}


async def note(connection: Connection, prompted: Sequence[tuple[Silent, uuid.UUID]], *, at: datetime) -> None:
    """Which command each device was prompted by."""
    await connection.execute(
        _NOTE,
        [each.alert_id for each, _ in prompted],
        [each.device_no for each, _ in prompted],
        [command_id for _, command_id in prompted],
        [each.alert_version for each, _ in prompted],
        at,
    )


async def note_refused(connection: Connection, refused: Iterable[Refused]) -> None:
    """Keep that devices refused what they were prompted with."""
    words = list(refused)
    if words:
        await connection.execute(
            _REFUSED,
            [each.command_id for each in words],
            [each.device_no for each in words],
            [each.detail for each in words],
            [each.at for each in words],
            [each.told_by for each in words],
        )
