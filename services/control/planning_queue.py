"""Asking the planner for work. Append-only: whoever asks never waits for the planner, nor the planner for them.

A request is written in the transaction that makes it necessary, so it is there exactly when the change is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.identifiers import BroadcastId, UnitId
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

CHANNEL = "planning_requested"

_ASK = """
INSERT INTO control.planning_requests (broadcast_id, unit_id, requested_at)
VALUES ($1, $2, $3)
"""

_ASK_FLEET = """
INSERT INTO control.planning_requests (device_no, unit_id, requested_at)
SELECT device_no, NULL::uuid, $3::timestamptz
  FROM unnest($1::integer[]) AS device_no
 UNION ALL
SELECT DISTINCT NULL::integer, unit_id, $3
  FROM unnest($2::uuid[]) AS unit_id
"""

_RING = f"SELECT pg_notify('{CHANNEL}', '')"

_TAKE = """
DELETE FROM control.planning_requests
RETURNING broadcast_id, device_no, unit_id, requested_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What changed: some broadcasts, some devices, what holds on the ground of some units, or everything; since when.

    `asked_at` is when the first of it was asked for.
    """

    asked_at: datetime
    broadcasts: tuple[BroadcastId, ...] = ()
    devices: tuple[DeviceNo, ...] = ()
    units: tuple[UnitId, ...] = ()
    is_everything: bool = False


async def request_broadcast(connection: Connection, broadcast_id: BroadcastId, *, at: datetime) -> None:
    """A broadcast was created, changed or withdrawn."""
    await connection.execute(_ASK, broadcast_id, None, at)
    await ring(connection)


async def request_devices(connection: Connection, device_nos: Sequence[DeviceNo], *, at: datetime) -> None:
    """Devices are set otherwise, or given to another gateway: plan and sign for them anew."""
    await request_fleet(connection, device_nos, (), at=at)


async def request_fleet(
    connection: Connection, device_nos: Sequence[DeviceNo], unit_ids: Iterable[UnitId], *, at: datetime
) -> None:
    """Devices came to units, left them, or may be used there otherwise: others may be the only ones there, or none be."""
    await connection.execute(_ASK_FLEET, list(device_nos), list(unit_ids), at)
    await ring(connection)


async def request_ground(connection: Connection, unit_id: UnitId, *, at: datetime) -> None:
    """What holds on the ground of a unit changed: its policy, or which devices are there."""
    await connection.execute(_ASK, None, unit_id, at)
    await ring(connection)


async def request_everything(connection: Connection, *, at: datetime) -> None:
    """Something changed that may touch any programme: the tree of units, a bulletin."""
    await connection.execute(_ASK, None, None, at)
    await ring(connection)


async def ring(connection: Connection) -> None:
    """Wake the planners once the surrounding transaction commits."""
    await connection.execute(_RING)


async def take_all(connection: Connection) -> Scope | None:
    """Remove every committed request and return what they ask for together, or None when there is none.

    They are gone when the transaction commits, and back when it does not.
    """
    asked = await connection.fetch(_TAKE)
    if not asked:
        return None
    broadcasts, devices, units = (
        sorted({row[column] for row in asked} - {None}) for column in ("broadcast_id", "device_no", "unit_id")
    )
    return Scope(
        asked_at=min(row["requested_at"] for row in asked),
        broadcasts=tuple(map(BroadcastId, broadcasts)),
        devices=tuple(map(DeviceNo, devices)),
        units=tuple(map(UnitId, units)),
        is_everything=any(
            (row["broadcast_id"], row["device_no"], row["unit_id"]) == (None, None, None) for row in asked
        ),
    )
