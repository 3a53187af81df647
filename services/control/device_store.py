"""SQL of the registry of devices: what they are, where they belong, who speaks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Record

from schemas.identifiers import DeviceId, UnitId
from services.control.errors import NotFound
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A registered device; `gateway_id` is the gateway that speaks for it now."""

    device_no: DeviceNo
    device_id: DeviceId
    kind: str
    unit_id: UnitId
    name: str
    technology: str
    ownership: str
    public_share_minutes: int | None = None  # a day
    latitude: float | None
    longitude: float | None
    volume_percent: int
    volume_cap_percent: int
    heartbeat_interval: timedelta
    registered_at: datetime
    retired_at: datetime | None
    gateway_id: DeviceId | None

    def described(self) -> dict[str, Any]:
        """The device as facts of the audit."""
        return {
            "device_id": self.device_id,
            "kind": self.kind,
            "unit_id": str(self.unit_id),
            "name": self.name,
            "ownership": self.ownership,
            "public_share_minutes": self.public_share_minutes,
            "volume_percent": self.volume_percent,
            "volume_cap_percent": self.volume_cap_percent,
            "gateway_id": self.gateway_id,
            "is_retired": self.retired_at is not None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDevice:
    """A device to be registered."""

    device_id: DeviceId
    kind: str
    unit_id: UnitId
    name: str
    technology: str = "ip"
    ownership: str = "public"
    public_share_minutes: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    volume_percent: int = 30
    volume_cap_percent: int = 80
    heartbeat_interval: timedelta = timedelta(seconds=60)
    gateway_id: DeviceId | None = None


_COLUMNS = """
       d.device_no, d.device_id, d.kind, d.unit_id, d.name, d.technology, d.ownership, d.public_share_minutes,
       d.latitude, d.longitude,
       d.volume_percent, d.volume_cap_percent, d.heartbeat_interval, d.registered_at, d.retired_at,
       g.device_id AS gateway_id
"""

_FROM = """
  FROM control.devices d
  LEFT JOIN control.gateway_assignments a
         ON a.device_no = d.device_no AND a.valid_from <= $1 AND (a.valid_until IS NULL OR a.valid_until > $1)
  LEFT JOIN control.devices g ON g.device_no = a.gateway_no
"""

_DEVICES_BY_ID = f"SELECT {_COLUMNS} {_FROM} WHERE d.device_id = ANY ($2)"


async def device(connection: Connection, device_id: str, *, now: datetime) -> Device:
    """One device, retired or not. Raises `NotFound`."""
    found = await devices_by_id(connection, [device_id], now=now)
    if device_id not in found:
        raise NotFound("device_not_found", facts={"id": device_id[:64]})
    return found[DeviceId(device_id)]


async def device_for_update(connection: Connection, device_id: str, *, now: datetime) -> Device:
    """One device, locked until the transaction ends. Raises `NotFound`."""
    await connection.fetchval("SELECT 1 FROM control.devices WHERE device_id = $1 FOR UPDATE", device_id)
    return await device(connection, device_id, now=now)


async def unit_of(connection: Connection, device_id: str) -> UnitId:
    """The unit a device belongs to. Raises `NotFound`."""
    unit_id = await connection.fetchval("SELECT unit_id FROM control.devices WHERE device_id = $1", device_id)
    if unit_id is None:
        raise NotFound("device_not_found", facts={"id": device_id[:64]})
    return UnitId(unit_id)


async def devices_by_id(
    connection: Connection, device_ids: Iterable[str], *, now: datetime
) -> Mapping[DeviceId, Device]:
    """The devices among these ids that exist."""
    rows = await connection.fetch(_DEVICES_BY_ID, now, list(device_ids))
    return {DeviceId(row["device_id"]): _device(row) for row in rows}


async def add_devices(connection: Connection, devices: Sequence[NewDevice], *, at: datetime) -> tuple[DeviceNo, ...]:
    """Register devices; ids must be free (`ConstraintViolated` on `devices_id_is_unique`). Numbers in order."""
    rows = await connection.fetch(
        """
        WITH added AS (
            INSERT INTO control.devices
                   (device_id, kind, unit_id, name, technology, ownership, latitude, longitude, volume_percent,
                    volume_cap_percent, heartbeat_interval, public_share_minutes, registered_at)
            SELECT n.*, $13
              FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::float8[],
                          $8::float8[], $9::int2[], $10::int2[], $11::interval[], $12::int2[]) AS n
            RETURNING device_id, device_no
        )
        SELECT added.device_no
          FROM added
          JOIN unnest($1::text[]) WITH ORDINALITY AS o (device_id, position) USING (device_id)
         ORDER BY o.position
        """,
        [each.device_id for each in devices],
        [each.kind for each in devices],
        [each.unit_id for each in devices],
        [each.name for each in devices],
        [each.technology for each in devices],
        [each.ownership for each in devices],
        [each.latitude for each in devices],
        [each.longitude for each in devices],
        [each.volume_percent for each in devices],
        [each.volume_cap_percent for each in devices],
        [each.heartbeat_interval for each in devices],
        [each.public_share_minutes for each in devices],
        at,
    )
    return tuple(DeviceNo(row["device_no"]) for row in rows)


async def assign_gateways(connection: Connection, pairs: Iterable[tuple[DeviceNo, DeviceNo]], *, at: datetime) -> None:
    """From `at` on the second device of each pair, a gateway, speaks for the first."""
    for device_no, gateway_no in pairs:
        await end_assignment(connection, device_no, at=at)
        await connection.execute(
            """
            INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from)
            VALUES ($1, $2, $3)
                ON CONFLICT (device_no, valid_from)
                DO UPDATE SET gateway_no = EXCLUDED.gateway_no, valid_until = NULL
            """,
            device_no,
            gateway_no,
            at,
        )


async def end_assignment(connection: Connection, device_no: DeviceNo, *, at: datetime) -> None:
    """From `at` on the device speaks for itself."""
    await connection.execute(
        "DELETE FROM control.gateway_assignments WHERE device_no = $1 AND valid_until IS NULL AND valid_from >= $2",
        device_no,
        at,
    )
    await connection.execute(
        "UPDATE control.gateway_assignments SET valid_until = $2 WHERE device_no = $1 AND valid_until IS NULL",
        device_no,
        at,
    )


async def assigned_to(connection: Connection, gateway_no: DeviceNo) -> tuple[DeviceNo, ...]:
    """The devices a gateway speaks for."""
    rows = await connection.fetch(
        "SELECT device_no FROM control.gateway_assignments WHERE gateway_no = $1 AND valid_until IS NULL", gateway_no
    )
    return tuple(DeviceNo(row["device_no"]) for row in rows)


async def set_volume(
    connection: Connection, unit_ids: Iterable[UnitId], kinds: Collection[str], percent: int
) -> tuple[Record, ...]:
    """Set the volume of devices in service, each as loud as its own cap lets it be.

    Returns those that changed: `device_no`, `device_id`, `unit_id`, `before` and `after`, in percent.
    """
    rows = await connection.fetch(
        """
        WITH changing AS (SELECT device_no, volume_percent AS before
                            FROM control.devices
                           WHERE unit_id = ANY ($1)
                             AND kind = ANY ($2)
                             AND retired_at IS NULL
                             AND volume_percent <> least($3::integer, volume_cap_percent)
                           ORDER BY device_no
                             FOR UPDATE)
        UPDATE control.devices d
           SET volume_percent = least($3::integer, d.volume_cap_percent)
          FROM changing c
         WHERE d.device_no = c.device_no
        RETURNING d.device_no, d.device_id, d.unit_id, c.before, d.volume_percent AS after
        """,
        list(unit_ids),
        list(kinds),
        percent,
    )
    return tuple(rows)


async def update_device(connection: Connection, device: Device) -> None:
    """Store what may change of a device: unit, name, place, volumes, interval, whose it is."""
    await connection.execute(
        """
        UPDATE control.devices
           SET unit_id = $2, name = $3, latitude = $4, longitude = $5, volume_percent = $6, volume_cap_percent = $7,
               heartbeat_interval = $8, ownership = $9, public_share_minutes = $10
         WHERE device_no = $1
        """,
        device.device_no,
        device.unit_id,
        device.name,
        device.latitude,
        device.longitude,
        device.volume_percent,
        device.volume_cap_percent,
        device.heartbeat_interval,
        device.ownership,
        device.public_share_minutes,
    )


async def retire_device(connection: Connection, device_no: DeviceNo, *, at: datetime) -> None:
    """Take a device out of service; its history stays."""
    await connection.execute("UPDATE control.devices SET retired_at = $2 WHERE device_no = $1", device_no, at)


def _device(row: Record) -> Device:
    values = dict(row)
    values["device_no"] = DeviceNo(values["device_no"])
    values["device_id"] = DeviceId(values["device_id"])
    values["unit_id"] = UnitId(values["unit_id"])
    gateway_id = values["gateway_id"]
    values["gateway_id"] = DeviceId(gateway_id) if gateway_id is not None else None
    return Device(**values)
