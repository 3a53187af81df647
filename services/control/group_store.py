"""SQL of groups: devices that are addressed together (R-20)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from schemas.identifiers import BroadcastId, DeviceId, UnitId
from services.control.errors import NotFound
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of a unit; `version` grows with every change, members stand in order of their ids."""

    group_id: uuid.UUID
    unit_id: UnitId
    name: str
    members: tuple[DeviceId, ...]
    version: int
    created_at: datetime
    created_by: uuid.UUID
    closed_at: datetime | None = None


_GROUPS = """
SELECT g.group_id, g.unit_id, g.name, g.version, g.created_at, g.created_by, g.closed_at,
       (SELECT coalesce(array_agg(d.device_id ORDER BY d.device_id), '{}')
          FROM control.device_group_members m
          JOIN control.devices d USING (device_no)
         WHERE m.group_id = g.group_id) AS members
  FROM control.device_groups g
"""


async def add_group(connection: Connection, group: Group, device_nos: Iterable[DeviceNo]) -> None:
    """Store a new group; `device_nos` are its members."""
    await connection.execute(
        """
        INSERT INTO control.device_groups (group_id, unit_id, name, version, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        group.group_id,
        group.unit_id,
        group.name,
        group.version,
        group.created_at,
        group.created_by,
    )
    await _add_members(connection, group.group_id, device_nos)


async def replace_group(connection: Connection, group_id: uuid.UUID, name: str, device_nos: Iterable[DeviceNo]) -> None:
    """Give the group another name and other members; its version grows."""
    await connection.execute(
        "UPDATE control.device_groups SET name = $2, version = version + 1 WHERE group_id = $1", group_id, name
    )
    await connection.execute("DELETE FROM control.device_group_members WHERE group_id = $1", group_id)
    await _add_members(connection, group_id, device_nos)


async def close_group(connection: Connection, group_id: uuid.UUID, *, at: datetime) -> None:
    """Nobody can address the group any more; who was in it stays on record."""
    await connection.execute(
        "UPDATE control.device_groups SET closed_at = $2, version = version + 1 WHERE group_id = $1", group_id, at
    )


async def group(connection: Connection, group_id: uuid.UUID) -> Group:
    """One group, closed or not. Raises `NotFound`."""
    row = await connection.fetchrow(_GROUPS + " WHERE g.group_id = $1", group_id)
    if row is None:
        raise NotFound("group_not_found", facts={"id": str(group_id)})
    return _group(row)


async def group_for_update(connection: Connection, group_id: uuid.UUID) -> Group:
    """One group, locked until the transaction ends. Raises `NotFound`."""
    await connection.execute("SELECT FROM control.device_groups WHERE group_id = $1 FOR UPDATE", group_id)
    return await group(connection, group_id)


async def groups_of(connection: Connection, unit_ids: Iterable[UnitId], *, limit: int) -> tuple[Group, ...]:
    """The open groups of the units, in order of names."""
    rows = await connection.fetch(
        _GROUPS + " WHERE g.unit_id = ANY ($1) AND g.closed_at IS NULL ORDER BY g.name, g.group_id LIMIT $2",
        list(unit_ids),
        limit,
    )
    return tuple(map(_group, rows))


async def groups_by_id(connection: Connection, group_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Group]:
    """The groups among these ids that exist, closed or not."""
    rows = await connection.fetch(_GROUPS + " WHERE g.group_id = ANY ($1)", list(group_ids))
    return {row["group_id"]: _group(row) for row in rows}


async def unit_of(connection: Connection, group_id: uuid.UUID) -> UnitId:
    """The unit a group belongs to. Raises `NotFound`."""
    unit_id = await connection.fetchval("SELECT unit_id FROM control.device_groups WHERE group_id = $1", group_id)
    if unit_id is None:
        raise NotFound("group_not_found", facts={"id": str(group_id)})
    return UnitId(unit_id)


async def broadcasts_to(connection: Connection, group_id: uuid.UUID) -> Sequence[BroadcastId]:
    """The broadcasts that address the group and stand, or wait for an approver's word to."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT t.broadcast_id
          FROM control.broadcast_targets t
          JOIN control.broadcasts b USING (broadcast_id)
         WHERE t.group_id = $1 AND b.state IN ('scheduled', 'awaiting_approval')
         ORDER BY t.broadcast_id
        """,
        group_id,
    )
    return [BroadcastId(row["broadcast_id"]) for row in rows]


async def _add_members(connection: Connection, group_id: uuid.UUID, device_nos: Iterable[DeviceNo]) -> None:
    await connection.execute(
        "INSERT INTO control.device_group_members (group_id, device_no) SELECT $1, unnest($2::integer[])",
        group_id,
        sorted(device_nos),
    )


def _group(row: Record) -> Group:
    return Group(
        group_id=row["group_id"],
        unit_id=UnitId(row["unit_id"]),
        name=row["name"],
        members=tuple(DeviceId(member) for member in row["members"]),
        version=row["version"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        closed_at=row["closed_at"],
    )
