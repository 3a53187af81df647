"""SQL of policies: what each unit says for its ground, and what approvers let pass all the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from schemas.identifiers import BroadcastId, UnitId
from services.control.planning.policies import Danger, Policy, SecondPerson
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredException:
    """Rules that a version of a broadcast breaks, whose policies those are, and what became of asking to let it pass.

    Each rule and each unit is there once, whichever belong together.
    `makers` are everybody who made a version of it. `is_open`: it is the broadcast as it stands, and nobody has decided.
    """

    broadcast_id: BroadcastId
    version: int
    unit_id: UnitId  # the unit that issues it
    title: str
    level: str
    rules: tuple[str, ...]
    unit_ids: tuple[UnitId, ...]
    asked_at: datetime
    asked_by: uuid.UUID
    makers: frozenset[uuid.UUID]
    is_open: bool
    decided_at: datetime | None
    decided_by: uuid.UUID | None
    is_allowed: bool | None
    note: str | None


_POLICY = """
SELECT unit_id, body, version, changed_at, changed_by
  FROM control.policies
 WHERE unit_id = $1
"""


_EXCEPTIONS = """
SELECT x.broadcast_id, x.version, b.unit_id, b.title, b.level, x.rules, x.unit_ids, x.asked_at, x.asked_by,
       (SELECT array_agg(DISTINCT each.asked_by) || b.created_by
          FROM control.policy_exceptions each
         WHERE each.broadcast_id = x.broadcast_id) AS makers,
       x.decided_at IS NULL AND x.version = b.version AND b.state = 'awaiting_approval' AS is_open,
       x.decided_at, x.decided_by, x.is_allowed, x.note
  FROM control.policy_exceptions x
  JOIN control.broadcasts b USING (broadcast_id)
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


async def asking_for_second(connection: Connection, danger: Danger) -> dict[UnitId, SecondPerson]:
    """The units that ask for a second person for operations of this kind, and from what sizes on."""
    rows = await connection.fetch(
        "SELECT unit_id, body FROM control.policies WHERE body -> 'second_person_from' ->> $1 IS NOT NULL", danger.value
    )
    return {
        unit_id: policy.second_person for unit_id, policy in _policies(rows).items() if policy.second_person is not None
    }


async def units_falling_back_on(connection: Connection, bulletin_id: uuid.UUID) -> tuple[UnitId, ...]:
    """The units whose policies name a bulletin as what sounds when a plan has run out."""
    rows = await connection.fetch(
        "SELECT unit_id FROM control.policies WHERE body -> 'fallback' ->> 'bulletin_id' = $1 ORDER BY unit_id",
        str(bulletin_id),
    )
    return tuple(UnitId(row["unit_id"]) for row in rows)


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


async def exceptions_in(
    connection: Connection,
    *,
    issued_in: Iterable[UnitId],
    against: Iterable[UnitId],
    is_open: bool | None,
    before: datetime | None,
    before_id: uuid.UUID | None = None,
    before_version: int | None = None,
    limit: int,
) -> tuple[StoredException, ...]:
    """What was asked to let pass, newest first: of broadcasts issued in some units, or against the policies of some.

    `before` leaves out what is not older; with a broadcast's id and a version what is of that instant and stands behind
    that one counts too.

    What was asked for a version that stands no more, and never decided on, is left out.
    """
    rows = await connection.fetch(
        f"""
        SELECT *
          FROM ({_EXCEPTIONS}) e
         WHERE (unit_id = ANY ($1) OR unit_ids && $2)
           AND (is_open OR decided_at IS NOT NULL)
           AND ($3::boolean IS NULL OR is_open = $3)
           AND ($4::timestamptz IS NULL
                OR asked_at < $4
                OR (asked_at = $4 AND broadcast_id > $5)
                OR (asked_at = $4 AND broadcast_id = $5 AND version > $6))
         ORDER BY asked_at DESC, broadcast_id, version
         LIMIT $7
        """,  # noqa: S608 - made of constants
        list(issued_in),
        list(against),
        is_open,
        before,
        before_id,
        before_version,
        limit,
    )
    return tuple(map(_exception, rows))


async def open_exception(connection: Connection, broadcast_id: BroadcastId) -> StoredException | None:
    """What an approver has to decide on before the broadcast, as it stands, is planned."""
    row = await connection.fetchrow(
        f"SELECT * FROM ({_EXCEPTIONS}) e WHERE broadcast_id = $1 AND is_open",  # noqa: S608 - made of constants
        broadcast_id,
    )
    return _exception(row) if row is not None else None


async def exceptions_of(connection: Connection, broadcast_id: BroadcastId) -> tuple[StoredException, ...]:
    """Everything that was asked to let pass of a broadcast, the newest version first."""
    rows = await connection.fetch(
        f"SELECT * FROM ({_EXCEPTIONS}) e WHERE broadcast_id = $1 ORDER BY version DESC",  # noqa: S608 - made of constants
        broadcast_id,
    )
    return tuple(map(_exception, rows))


async def exception(connection: Connection, broadcast_id: BroadcastId, version: int) -> StoredException:
    """What was asked for a version of a broadcast; there must have been something to ask for."""
    row = await connection.fetchrow(
        f"SELECT * FROM ({_EXCEPTIONS}) e WHERE broadcast_id = $1 AND version = $2",  # noqa: S608 - made of constants
        broadcast_id,
        version,
    )
    assert row is not None
    return _exception(row)


async def decide_exception(
    connection: Connection,
    exception: StoredException,
    *,
    is_allowed: bool,
    note: str | None,
    by: uuid.UUID,
    at: datetime,
) -> None:
    """Note what an approver said."""
    await connection.execute(
        """
        UPDATE control.policy_exceptions
           SET is_allowed = $3, note = $4, decided_by = $5, decided_at = $6
         WHERE broadcast_id = $1 AND version = $2
        """,
        exception.broadcast_id,
        exception.version,
        is_allowed,
        note,
        by,
        at,
    )


def _exception(row: Record) -> StoredException:
    values = dict(row)
    values["broadcast_id"] = BroadcastId(values["broadcast_id"])
    values["unit_id"] = UnitId(values["unit_id"])
    values["rules"] = tuple(dict.fromkeys(values["rules"]))
    values["unit_ids"] = tuple(dict.fromkeys(map(UnitId, values["unit_ids"])))
    values["makers"] = frozenset(values["makers"])
    return StoredException(**values)


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
