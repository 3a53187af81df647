"""SQL of operations that wait for a second person, and of those that were carried out alone."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Record

from schemas.identifiers import AlertId, UnitId
from services.control.errors import NotFound
from services.control.planning.model import DeviceNo
from services.control.planning.policies import LONGEST_WITHIN, Danger
from services.shared.database.pool import Connection


class RequestState(enum.StrEnum):
    """What became of it."""

    WAITING = "waiting"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    EXPIRED = "expired"
    ALONE = "alone"  # carried out at once by one person, for the reason in `note`


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """Devices that somebody touched at an instant."""

    at: datetime
    devices: frozenset[DeviceNo]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody asked for something that one person alone may not do."""

    request_id: uuid.UUID
    kind: str
    unit_id: UnitId  # that speaks
    alert_id: AlertId | None
    summary: str
    document: Mapping[str, Any]
    digest: bytes
    devices: int
    needed_from: int
    asked_at: datetime
    asked_by: uuid.UUID
    origin: str | None
    expires_at: datetime
    state: RequestState
    decided_at: datetime | None = None
    decided_by: uuid.UUID | None = None
    note: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: uuid.UUID | None = None
    devices_before: int = 0  # that the same person touched before, and that counted along


_REQUESTS = """
SELECT request_id, kind, unit_id, alert_id, summary, document, digest, devices, needed_from, asked_at, asked_by, origin,
       expires_at, state, decided_at, decided_by, note, acknowledged_at, acknowledged_by, devices_before
  FROM control.operation_requests
"""


async def add(connection: Connection, request: Request) -> None:
    """Put a request on record."""
    await connection.execute(
        """
        INSERT INTO control.operation_requests
               (request_id, kind, unit_id, alert_id, summary, document, digest, devices, needed_from, asked_at, asked_by,
                origin, expires_at, state, decided_at, decided_by, note, devices_before)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        """,
        request.request_id,
        request.kind,
        request.unit_id,
        request.alert_id,
        request.summary,
        request.document,
        request.digest,
        request.devices,
        request.needed_from,
        request.asked_at,
        request.asked_by,
        request.origin,
        request.expires_at,
        request.state.value,
        request.decided_at,
        request.decided_by,
        request.note,
        request.devices_before,
    )


async def change(connection: Connection, request: Request) -> None:
    """Store what became of a request that has been locked; what was asked for never changes."""
    await connection.execute(
        """
        UPDATE control.operation_requests
           SET state = $2, alert_id = $3, decided_at = $4, decided_by = $5, note = $6, acknowledged_at = $7,
               acknowledged_by = $8
         WHERE request_id = $1
        """,
        request.request_id,
        request.state.value,
        request.alert_id,
        request.decided_at,
        request.decided_by,
        request.note,
        request.acknowledged_at,
        request.acknowledged_by,
    )


async def request(connection: Connection, request_id: uuid.UUID) -> Request:
    """One request. Raises `NotFound`."""
    return _found(await connection.fetchrow(_REQUESTS + " WHERE request_id = $1", request_id), request_id)


async def lock(
    connection: Connection,
    alert_ids: Iterable[uuid.UUID],
    unit_ids: Collection[UnitId] = (),
    messages: Sequence[Mapping[str, str]] = (),
    *,
    request_id: uuid.UUID | None = None,
) -> tuple[Request, ...]:
    """What waits about one of these alerts, or would take in one of these CAP messages (`operation_kinds.named_cap`) for
    one of the units; and the request, whatever became of it. Locked in one order until the transaction ends.
    """
    rows = await connection.fetch(
        _REQUESTS
        + """
         WHERE request_id = $1
            OR (state = 'waiting' AND alert_id = ANY ($2))
            OR (state = 'waiting' AND kind = 'cap' AND unit_id = ANY ($3) AND document->'message' = ANY ($4::jsonb[]))
         ORDER BY request_id
           FOR UPDATE
        """,
        request_id,
        list(alert_ids),
        list(unit_ids),
        list(messages),
    )
    return tuple(map(_request, rows))


async def waits_for_cap(
    connection: Connection, unit_ids: Collection[UnitId], messages: Sequence[Mapping[str, str]]
) -> bool:
    """Whether any such request waits."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM control.operation_requests
             WHERE state = 'waiting' AND kind = 'cap' AND unit_id = ANY ($1) AND document->'message' = ANY ($2::jsonb[])
        )
        """,
        list(unit_ids),
        list(messages),
    )
    return found


async def requests_on(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    states: Collection[RequestState],
    is_unacknowledged: bool = False,
    limit: int,
) -> tuple[Request, ...]:
    """Requests of these units, newest first; with `is_unacknowledged` only those that nobody has acknowledged."""
    rows = await connection.fetch(
        _REQUESTS
        + """
         WHERE unit_id = ANY ($1)
           AND state = ANY ($2)
           AND (acknowledged_at IS NULL OR NOT $3)
         ORDER BY asked_at DESC, request_id
         LIMIT $4
        """,
        list(unit_ids),
        [each.value for each in states],
        is_unacknowledged,
        limit,
    )
    return tuple(map(_request, rows))


async def overdue(connection: Connection, *, now: datetime) -> tuple[Request, ...]:
    """Requests that waited in vain, locked; what somebody decides on at this moment is left to them."""
    rows = await connection.fetch(
        _REQUESTS
        + """
         WHERE state = 'waiting' AND expires_at <= $1
         ORDER BY expires_at
         LIMIT 50
           FOR UPDATE SKIP LOCKED
        """,
        now,
    )
    return tuple(map(_request, rows))


async def open_counts(connection: Connection) -> tuple[int, int]:
    """How many requests wait, and how many were carried out alone and not acknowledged by anybody."""
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM control.operation_requests WHERE state = 'waiting') AS waiting,
               (SELECT count(*) FROM control.operation_requests WHERE state = 'alone' AND acknowledged_at IS NULL) AS alone
        """
    )
    return (row["waiting"], row["alone"]) if row is not None else (0, 0)


async def note_done(
    connection: Connection, account_id: uuid.UUID, danger: Danger, devices: Collection[DeviceNo], *, at: datetime
) -> None:
    """Note what one person did without a second one; what no policy asks of it about any more is forgotten.

    What others did is left alone: two who act at the same time would wait for one another.
    """
    await connection.execute(
        "DELETE FROM control.operations_done WHERE account_id = $1 AND done_at <= $2", account_id, at - LONGEST_WITHIN
    )
    await connection.execute(
        "INSERT INTO control.operations_done (account_id, danger, done_at, devices) VALUES ($1, $2, $3, $4)",
        account_id,
        danger.value,
        at,
        list(devices),
    )


async def done_since(
    connection: Connection, account_id: uuid.UUID, danger: Danger, *, since: datetime
) -> tuple[Earlier, ...]:
    """What one person has done after an instant."""
    rows = await connection.fetch(
        """
        SELECT done_at, devices
          FROM control.operations_done
         WHERE account_id = $1
           AND danger = $2
           AND done_at > $3
        """,
        account_id,
        danger.value,
        since,
    )
    return tuple(Earlier(at=row["done_at"], devices=frozenset(row["devices"])) for row in rows)


async def units_of(connection: Connection, devices: Collection[DeviceNo]) -> dict[DeviceNo, UnitId]:
    """The unit of each of these devices."""
    rows = await connection.fetch(
        "SELECT device_no, unit_id FROM control.devices WHERE device_no = ANY ($1)", list(devices)
    )
    return {DeviceNo(row["device_no"]): UnitId(row["unit_id"]) for row in rows}


def none_such(request_id: uuid.UUID) -> NotFound:
    """There is no such request, for whoever asks."""
    return NotFound("request_not_found", facts={"id": str(request_id)})


def _found(row: Record | None, request_id: uuid.UUID) -> Request:
    if row is None:
        raise none_such(request_id)
    return _request(row)


def _request(row: Record) -> Request:
    values = dict(row)
    return Request(
        **{
            **values,
            "unit_id": UnitId(row["unit_id"]),
            "alert_id": AlertId(row["alert_id"]) if row["alert_id"] is not None else None,
            "state": RequestState(row["state"]),
        }
    )
