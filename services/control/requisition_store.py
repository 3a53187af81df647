"""SQL of requisitions of private boards (R-15), and of what private boards gave to the public."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from asyncpg import Record

from schemas.identifiers import DeviceId, UnitId
from services.control.errors import NotFound
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequisition:
    """An order over the private boards below a unit, or over one, as it was noted."""

    requisition_id: uuid.UUID
    unit_id: UnitId | None
    device_id: DeviceId | None
    device_unit_id: UnitId | None
    order_number: str
    issuer: str
    valid_from: datetime
    expires_at: datetime
    created_at: datetime
    created_by: uuid.UUID
    revoked_at: datetime | None = None
    revoked_by: uuid.UUID | None = None

    @property
    def place(self) -> UnitId:
        """The unit whose rights it rests on: the one it names, or the board's."""
        unit_id = self.unit_id or self.device_unit_id
        assert unit_id is not None
        return unit_id

    def ends_at(self) -> datetime:
        """From when on it gives no right any more."""
        return self.expires_at if self.revoked_at is None else min(self.expires_at, self.revoked_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareOfDay:
    """What a board put out for the public on a local day, as it says itself; `requisitioned` is what of it an order took."""

    day: date
    shown: timedelta
    requisitioned: timedelta


_REQUISITIONS = """
SELECT r.requisition_id, r.unit_id, d.device_id, d.unit_id AS device_unit_id, r.order_number, r.issuer, r.valid_from,
       r.expires_at, r.created_at, r.created_by, r.revoked_at, r.revoked_by
  FROM control.requisitions r
  LEFT JOIN control.devices d USING (device_no)
"""

# By the board's own word: what only a gateway reports is no proof.
_SHARE = """
SELECT (e.started_at AT TIME ZONE $4)::date AS day,
       sum(e.sounded_ms)::bigint AS shown_ms,
       coalesce(sum(e.sounded_ms) FILTER (WHERE EXISTS (
           SELECT
             FROM control.requisitions r
            WHERE (r.device_no = e.device_no OR r.unit_id = ANY ($5))
              AND e.occurrence_at >= r.valid_from
              AND e.occurrence_at < coalesce(least(r.expires_at, r.revoked_at), r.expires_at))), 0)::bigint AS taken_ms
  FROM control.emissions e
 WHERE e.device_no = $1
   AND e.starts_at >= $2
   AND e.starts_at < $3
   AND e.outcome IN ('played', 'late', 'cut')
   AND e.evidence = 'device'
   AND e.started_at IS NOT NULL
 GROUP BY day
 ORDER BY day
"""


async def add(connection: Connection, requisition: StoredRequisition, device_no: DeviceNo | None) -> None:
    """Note an order."""
    await connection.execute(
        """
        INSERT INTO control.requisitions
               (requisition_id, unit_id, device_no, order_number, issuer, valid_from, expires_at, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        requisition.requisition_id,
        requisition.unit_id,
        device_no,
        requisition.order_number,
        requisition.issuer,
        requisition.valid_from,
        requisition.expires_at,
        requisition.created_at,
        requisition.created_by,
    )


async def requisition(connection: Connection, requisition_id: uuid.UUID) -> StoredRequisition:
    """One requisition. Raises `NotFound`."""
    return _found(
        await connection.fetchrow(_REQUISITIONS + " WHERE r.requisition_id = $1", requisition_id), requisition_id
    )


async def requisition_for_update(connection: Connection, requisition_id: uuid.UUID) -> StoredRequisition:
    """One requisition, locked until the transaction ends. Raises `NotFound`."""
    return _found(
        await connection.fetchrow(_REQUISITIONS + " WHERE r.requisition_id = $1 FOR UPDATE OF r", requisition_id),
        requisition_id,
    )


async def revoke(connection: Connection, requisition_id: uuid.UUID, *, by: uuid.UUID, at: datetime) -> None:
    """From now on it gives no right any more, nor do those that were carried from it."""
    await connection.execute(
        """
        UPDATE control.requisitions
           SET revoked_at = $2, revoked_by = $3
         WHERE (requisition_id = $1 OR carried_from = $1)
           AND revoked_at IS NULL
        """,
        requisition_id,
        at,
        by,
    )


async def requisitions_in(
    connection: Connection, unit_ids: Iterable[UnitId], *, over: Iterable[UnitId], at: datetime | None, limit: int
) -> tuple[StoredRequisition, ...]:
    """Requisitions of the units, of their boards, and of the units `over` them; those that hold at an instant, or all."""
    rows = await connection.fetch(
        _REQUISITIONS
        + """
         WHERE (r.unit_id = ANY ($1) OR r.unit_id = ANY ($2) OR d.unit_id = ANY ($1))
           AND ($3::timestamptz IS NULL
                OR r.valid_from <= $3 AND r.expires_at > $3 AND (r.revoked_at IS NULL OR r.revoked_at > $3))
         ORDER BY r.created_at DESC, r.requisition_id
         LIMIT $4
        """,
        list(unit_ids),
        list(over),
        at,
        limit,
    )
    return tuple(map(_requisition, rows))


async def private_boards(connection: Connection, unit_ids: Iterable[UnitId]) -> tuple[DeviceNo, ...]:
    """The boards in service in the units that belong to somebody else."""
    rows = await connection.fetch(
        """
        SELECT device_no
          FROM control.devices
         WHERE unit_id = ANY ($1) AND kind = 'board' AND ownership <> 'public' AND retired_at IS NULL
         ORDER BY device_no
        """,
        list(unit_ids),
    )
    return tuple(DeviceNo(row["device_no"]) for row in rows)


async def share_by_day(
    connection: Connection,
    device_no: DeviceNo,
    unit_ids: Iterable[UnitId],
    *,
    since: datetime,
    until: datetime,
    time_zone: str,
) -> tuple[ShareOfDay, ...]:
    """What a board put out for the public, by local days on which it put out something; `unit_ids` are on its path."""
    rows = await connection.fetch(_SHARE, device_no, since, until, time_zone, list(unit_ids))
    return tuple(
        ShareOfDay(
            day=row["day"],
            shown=timedelta(milliseconds=row["shown_ms"]),
            requisitioned=timedelta(milliseconds=row["taken_ms"]),
        )
        for row in rows
    )


def _found(row: Record | None, requisition_id: uuid.UUID) -> StoredRequisition:
    if row is None:
        raise NotFound("requisition_not_found", facts={"id": str(requisition_id)})
    return _requisition(row)


def _requisition(row: Record) -> StoredRequisition:
    values = dict(row)
    for name in ("unit_id", "device_unit_id"):
        values[name] = UnitId(values[name]) if values[name] is not None else None
    values["device_id"] = DeviceId(values["device_id"]) if values["device_id"] is not None else None
    return StoredRequisition(**values)
