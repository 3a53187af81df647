"""SQL of the fleet as it is now: what devices last said, counted and listed. Reads telemetry's views, writes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Record

from schemas.identifiers import DeviceId, UnitId
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

# Longer than a replica of ingest takes to be started again.
_REPLICA_SILENCE = timedelta(minutes=2)

# A device is heard from once a heartbeat interval; after three silent ones (never less than 90 s) it counts as offline,
# and at once when the broker has told us so and nothing was heard since.
_LIVENESS = """
    CASE
        WHEN s.last_heard_at IS NULL THEN 'never'
        WHEN s.online IS FALSE AND s.presence_received_at >= s.last_heard_at THEN 'offline'
        WHEN s.last_heard_at < $1::timestamptz - greatest(3 * d.heartbeat_interval, interval '90 seconds') THEN 'offline'
        ELSE 'online'
    END
"""

_STATES = f"""
SELECT d.device_no, d.device_id, d.kind, d.unit_id, d.name, d.volume_percent AS volume_set_percent,
       d.volume_cap_percent, d.retired_at, g.device_id AS gateway_id,
       {_LIVENESS} AS liveness,
       s.last_heard_at, s.presence_at, s.online, s.principal, s.is_through_gateway, s.clock_state, s.firmware,
       s.network_type, s.signal_dbm, s.power_source, s.battery_percent, s.plan_serial, s.config_serial,
       s.journal_pending, s.last_error, s.volume_percent, s.temperature_tenths_c, s.screen_on, s.brightness_percent,
       s.playing_source, s.playing_id, s.playing_since, s.state,
       coalesce(playing.title, broadcast.title) AS playing_title
  FROM control.devices d
  LEFT JOIN telemetry.fleet_states s USING (device_no)
  LEFT JOIN control.gateway_assignments a
         ON a.device_no = d.device_no AND a.valid_from <= $1 AND (a.valid_until IS NULL OR a.valid_until > $1)
  LEFT JOIN control.devices g ON g.device_no = a.gateway_no
  LEFT JOIN control.broadcast_items item
         ON s.playing_source = 'emission' AND item.broadcast_id = s.playing_id AND item.item = s.playing_item
  LEFT JOIN control.bulletins playing ON playing.bulletin_id = item.bulletin_id
  LEFT JOIN control.broadcasts broadcast ON s.playing_source = 'emission' AND broadcast.broadcast_id = s.playing_id
"""  # noqa: S608 - made of constants

_ONLINE_AMONG = f"""
SELECT count(*)
  FROM control.devices d
  JOIN telemetry.fleet_states s USING (device_no)
 WHERE d.device_no = ANY ($2)
   AND {_LIVENESS} = 'online'
"""  # noqa: S608 - made of constants

_COUNTS = f"""
SELECT d.unit_id, d.kind, {_LIVENESS} AS liveness, count(*) AS devices,
       count(*) FILTER (WHERE s.playing_id IS NOT NULL) AS playing
  FROM control.devices d
  LEFT JOIN telemetry.fleet_states s USING (device_no)
 WHERE d.unit_id = ANY ($2)
   AND d.retired_at IS NULL
 GROUP BY 1, 2, 3
"""  # noqa: S608 - made of constants


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """A device and what it last said of itself. `liveness` is never, online or offline; the rest may be unknown.

    `volume_set_percent` is what it was told, `volume_percent` what it says it has.
    """

    device_no: DeviceNo
    device_id: DeviceId
    kind: str
    unit_id: UnitId
    name: str
    volume_set_percent: int
    volume_cap_percent: int
    retired_at: datetime | None
    gateway_id: str | None
    liveness: str
    last_heard_at: datetime | None
    presence_at: datetime | None
    online: bool | None
    principal: str | None
    is_through_gateway: bool | None
    clock_state: str | None
    firmware: str | None
    network_type: str | None
    signal_dbm: int | None
    power_source: str | None
    battery_percent: int | None
    plan_serial: int | None
    config_serial: int | None
    journal_pending: int | None
    last_error: str | None
    volume_percent: int | None
    temperature_tenths_c: int | None
    screen_on: bool | None
    brightness_percent: int | None
    playing_source: str | None
    playing_id: uuid.UUID | None
    playing_since: datetime | None
    state: Mapping[str, Any] | None
    playing_title: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many devices of a kind in a unit are online, offline or were never heard, and how many are on the air."""

    unit_id: UnitId
    kind: str
    liveness: str
    devices: int
    playing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryTotals:
    """What ingest has stored since the database was made."""

    heartbeats_stored: int
    readings_stored: int
    events_stored: int
    quarantined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The newest value of one quantity of a sensor."""

    quantity: str
    value: float
    unit: str
    quality: str
    at: datetime


async def states(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    kind: str | None,
    liveness: str | None,
    after: str | None,
    limit: int,
    now: datetime,
) -> tuple[DeviceState, ...]:
    """Devices in service of the units with their states, in order of their ids, after id `after`."""
    # Who is on the page comes first: what is shown of a device is made for these, not for all of a commune.
    rows = await connection.fetch(
        f"""
          WITH page AS MATERIALIZED (
               SELECT d.device_no
                 FROM control.devices d
                 LEFT JOIN telemetry.fleet_states s USING (device_no)
                WHERE d.unit_id = ANY ($2)
                  AND d.retired_at IS NULL
                  AND ($3::text IS NULL OR d.kind = $3)
                  AND ($4::text IS NULL OR {_LIVENESS} = $4)
                  AND ($5::text IS NULL OR d.device_id COLLATE "C" > $5)
                ORDER BY d.device_id COLLATE "C"
                LIMIT $6)
        SELECT *
          FROM ({_STATES}) AS states
         WHERE device_no IN (SELECT device_no FROM page)
         ORDER BY device_id COLLATE "C"
        """,  # noqa: S608 - made of constants
        now,
        list(unit_ids),
        kind,
        liveness,
        after,
        limit,
    )
    return tuple(map(_state, rows))


async def state(connection: Connection, device_id: str, *, now: datetime) -> DeviceState | None:
    """One device with its state, retired or not."""
    row = await connection.fetchrow(_STATES + " WHERE d.device_id = $2", now, device_id)
    return _state(row) if row else None


async def counts(connection: Connection, unit_ids: Iterable[UnitId], *, now: datetime) -> tuple[Count, ...]:
    """Devices in service of the units by unit, kind and liveness."""
    rows = await connection.fetch(_COUNTS, now, list(unit_ids))
    return tuple(Count(**dict(row)) for row in rows)


async def online_among(connection: Connection, device_nos: Collection[DeviceNo], *, now: datetime) -> int:
    """How many of these devices are online."""
    found: int = await connection.fetchval(_ONLINE_AMONG, now, list(device_nos))
    return found


async def telemetry_totals(connection: Connection) -> TelemetryTotals:
    """What ingest has stored."""
    row = await connection.fetchrow(
        "SELECT heartbeats_stored, readings_stored, events_stored, quarantined FROM telemetry.totals"
    )
    return (
        TelemetryTotals(**dict(row))
        if row
        else TelemetryTotals(heartbeats_stored=0, readings_stored=0, events_stored=0, quarantined=0)
    )


async def storage_mode(connection: Connection) -> str:
    """`timescaledb` or `partitioned`."""
    mode: str = await connection.fetchval("SELECT telemetry.storage_mode()")
    return mode


async def certificate_shared_at(connection: Connection, device_no: DeviceNo, *, since: datetime) -> datetime | None:
    """When what this device says last proved that two use its certificate, if that was since then."""
    at: datetime | None = await connection.fetchval(
        "SELECT last_seen_at FROM telemetry.shared_certificate_log WHERE device_no = $1 AND last_seen_at >= $2",
        device_no,
        since,
    )
    return at


async def silent_replicas(connection: Connection) -> tuple[str, ...]:
    """Replicas of ingest that are gone and have not left, by name."""
    rows = await connection.fetch(
        "SELECT replica FROM telemetry.replica_states WHERE left_at IS NULL AND silent_for > $1 ORDER BY replica",
        _REPLICA_SILENCE,
    )
    return tuple(row["replica"] for row in rows)


async def newest_readings(connection: Connection, device_no: DeviceNo, *, since: datetime) -> tuple[Reading, ...]:
    """The newest reading of each quantity since an instant."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (quantity) quantity, value, unit, quality, at
          FROM telemetry.reading_log
         WHERE device_no = $1 AND at >= $2
         ORDER BY quantity, at DESC
        """,
        device_no,
        since,
    )
    return tuple(Reading(**dict(row)) for row in rows)


def _state(row: Record) -> DeviceState:
    values = dict(row)
    values["device_no"] = DeviceNo(values["device_no"])
    values["device_id"] = DeviceId(values["device_id"])
    values["unit_id"] = UnitId(values["unit_id"])
    return DeviceState(**values)
