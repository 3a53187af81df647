"""Asking the planner for work. Append-only: whoever asks never waits for the planner, nor the planner for them.

A request is written in the transaction that makes it necessary, so it is there exactly when the change is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.identifiers import BroadcastId
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

CHANNEL = "planning_requested"

_ASK = """
INSERT INTO control.planning_requests (broadcast_id, device_no, requested_at)
VALUES ($1, $2, $3)
"""

_ASK_DEVICES = """
INSERT INTO control.planning_requests (device_no, requested_at)
SELECT device_no, $2
  FROM unnest($1::integer[]) AS device_no
"""

_RING = f"SELECT pg_notify('{CHANNEL}', '')"

_TAKE = """
DELETE FROM control.planning_requests
RETURNING broadcast_id, device_no, requested_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What changed: some broadcasts, some devices, or everything; and since when that was asked for."""

    asked_at: datetime
    broadcasts: tuple[BroadcastId, ...] = ()
    devices: tuple[DeviceNo, ...] = ()
    is_everything: bool = False


async def request_broadcast(connection: Connection, broadcast_id: BroadcastId, *, at: datetime) -> None:
    """A broadcast was created, changed or withdrawn."""
    await connection.execute(_ASK, broadcast_id, None, at)
    await ring(connection)


async def request_devices(connection: Connection, device_nos: Sequence[DeviceNo], *, at: datetime) -> None:
    """Devices were registered, changed, moved, retired or given to another gateway: plan and sign for them anew."""
    await connection.execute(_ASK_DEVICES, list(device_nos), at)
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
    return _scope(
        [(row["broadcast_id"], row["device_no"], row["requested_at"]) for row in await connection.fetch(_TAKE)]
    )


def _scope(requests: Iterable[tuple[BroadcastId | None, DeviceNo | None, datetime]]) -> Scope | None:
    asked = list(requests)
    if not asked:
        return None
    return Scope(
        asked_at=min(at for _, _, at in asked),
        broadcasts=tuple(sorted({broadcast for broadcast, _, _ in asked if broadcast is not None})),
        devices=tuple(sorted({device for _, device, _ in asked if device is not None})),
        is_everything=any(broadcast is None and device is None for broadcast, device, _ in asked),
    )
