"""Inmates of quarantine, put there as ingest does."""

from __future__ import annotations

import hashlib
import itertools
from datetime import datetime
from typing import Any

from schemas import codec
from schemas.events import EventEnvelope, PowerChanged
from schemas.fields import ClockState, PowerSource
from schemas.heartbeats import ClusterHeartbeat
from tests.support.control_api import Api

JOURNAL = bytes.fromhex("8000000000000001")
GATEWAY, STRANGER = "cong-la-1", "cum-la-1"
_serial = itertools.count(1)


def heartbeat(*, at: datetime, **changes: Any) -> bytes:
    """A cluster's heartbeat, different from every other one."""
    fields = {
        "device_at_ms": round(at.timestamp() * 1000),
        "clock": ClockState.SYNCHRONISED,
        "firmware": "test",
        "uptime_s": next(_serial),
        "volume_percent": 40,
    }
    return codec.encode(ClusterHeartbeat(**{**fields, **changes}))


def event(sequence: int = 1, *, at: datetime, journal: bytes = JOURNAL) -> bytes:
    """An event as it travels."""
    body = PowerChanged(
        device_at_ms=round(at.timestamp() * 1000), clock=ClockState.SYNCHRONISED, source=PowerSource.BATTERY
    )
    return codec.encode(EventEnvelope(journal=journal, sequence=sequence, body=codec.encode(body)))


async def add_inmate(
    api: Api,
    payload: bytes | None = None,
    *,
    reason: str = "unknown_device",
    principal: str = GATEWAY,
    device_id: str | None = STRANGER,
    kind: str = "heartbeat",
    at: datetime | None = None,
    **changes: Any,
) -> int:
    """An inmate: a heartbeat of a device nobody has registered, behind a gateway. Returns its number."""
    when = at or api.clock.now
    content = payload if payload is not None else heartbeat(at=when)
    columns = {
        "messages": 1,
        "first_seen_at": when,
        "last_seen_at": when,
        "size": len(content),
        "is_receipted": False,
        "principal": principal,
        "device": device_id,
        "topic": f"loa/v1/{principal}/up/{kind}" + (f"/{device_id}" if device_id not in (None, principal) else ""),
        "reason": reason,
        "detail": f"{device_id} is not registered",
        "sha256": hashlib.sha256(content).digest(),
        "payload": content[:8_192],
        **changes,
    }
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    async with api.telemetry.connection() as connection:
        number: int = await connection.fetchval(
            f"INSERT INTO telemetry.quarantine ({', '.join(columns)}) VALUES ({places}) RETURNING quarantine_id",
            *columns.values(),
        )
    return number


async def settle(api: Api, request_id: int, quarantine_id: int, result: str, *, reason: str | None = None) -> None:
    """What ingest writes when it has worked off a request."""
    async with api.telemetry.connection() as connection:
        await connection.execute(
            "INSERT INTO telemetry.quarantine_replays (request_no, quarantine_id, replayed_at, is_corrected, result, reason)"
            " VALUES ($1, $2, $3, false, $4, $5)",
            request_id,
            quarantine_id,
            api.clock.now,
            result,
            reason,
        )
        if result in ("stored", "duplicate"):
            await connection.execute(
                "UPDATE telemetry.quarantine SET replayed_at = $2 WHERE quarantine_id = $1",
                quarantine_id,
                api.clock.now,
            )
