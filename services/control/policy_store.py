"""SQL of policies: what each unit says for its ground."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from schemas.identifiers import UnitId
from services.control.planning.policies import Policy
from services.control.policies import NOTHING_SAID, PolicyDocument, planning_policy
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicy:
    """What a unit says; a unit that never said anything is at version 0, one that took it back goes on counting."""

    unit_id: UnitId
    document: PolicyDocument = NOTHING_SAID
    version: int = 0
    changed_at: datetime | None = None
    changed_by: uuid.UUID | None = None


_POLICY = """
SELECT unit_id, body, version, changed_at, changed_by
  FROM control.policies
 WHERE unit_id = $1
"""


async def load_policies(connection: Connection) -> dict[UnitId, Policy]:
    """What every unit says that says something."""
    return _policies(await connection.fetch("SELECT unit_id, body FROM control.policies WHERE body <> '{}'"))


async def policies_of(connection: Connection, unit_ids: Iterable[UnitId]) -> dict[UnitId, Policy]:
    """What these units say, those among them that say something."""
    return _policies(
        await connection.fetch(
            "SELECT unit_id, body FROM control.policies WHERE unit_id = ANY ($1) AND body <> '{}'", list(unit_ids)
        )
    )


async def policy(connection: Connection, unit_id: UnitId) -> StoredPolicy:
    """What a unit says."""
    return _stored(await connection.fetchrow(_POLICY, unit_id), unit_id)


async def policy_for_update(connection: Connection, unit_id: UnitId, *, by: uuid.UUID, at: datetime) -> StoredPolicy:
    """What a unit says, locked until the transaction ends; what says nothing yet is locked as well."""
    await connection.execute(
        """
        INSERT INTO control.policies (unit_id, body, version, changed_at, changed_by)
        VALUES ($1, '{}', 0, $2, $3)
            ON CONFLICT (unit_id) DO NOTHING
        """,
        unit_id,
        at,
        by,
    )
    return _stored(await connection.fetchrow(_POLICY + " FOR UPDATE", unit_id), unit_id)


async def put(
    connection: Connection, unit_id: UnitId, document: PolicyDocument, *, by: uuid.UUID, at: datetime
) -> StoredPolicy:
    """Store what a unit says from now on; it has been locked."""
    row = await connection.fetchrow(
        """
        UPDATE control.policies
           SET body = $2, version = version + 1, changed_at = $3, changed_by = $4
         WHERE unit_id = $1
        RETURNING unit_id, body, version, changed_at, changed_by
        """,
        unit_id,
        document.body(),
        at,
        by,
    )
    return _stored(row, unit_id)


def _policies(rows: Iterable[Record]) -> dict[UnitId, Policy]:
    return {UnitId(row["unit_id"]): planning_policy(UnitId(row["unit_id"]), row["body"]) for row in rows}


def _stored(row: Record | None, unit_id: UnitId) -> StoredPolicy:
    if row is None:
        return StoredPolicy(unit_id=unit_id)
    return StoredPolicy(
        unit_id=unit_id,
        document=PolicyDocument.model_validate(row["body"]),
        version=row["version"],
        changed_at=row["changed_at"],
        changed_by=row["changed_by"],
    )
