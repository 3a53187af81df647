"""SQL of units: their dated versions, and the trees imported from files."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from schemas.identifiers import UnitId
from services.control import vietnamese
from services.control.unit_changes import UnitChanges
from services.control.units import UnitHeir, UnitHistory, UnitVersion
from services.shared.database.pool import Connection

_VERSIONS = """
SELECT unit_id, valid_from, valid_until, parent_id, code, level, name, sort_key
  FROM control.unit_versions
"""

_HEIRS = """
SELECT unit_id, heir_id, valid_from, valid_until, keeps_rights
  FROM control.unit_heirs
"""

# Imports take turns: what one decides rests on the history it has read.
_LOCK = """
SELECT revision
  FROM control.units_revision
   FOR UPDATE
"""

# What is filed under a unit that was closed earlier lies with its heir.
_STRANDED = """
SELECT u.unit_id, coalesce(sum(d.devices), 0)::integer AS devices, coalesce(sum(a.accounts), 0)::integer AS accounts
  FROM unnest($1::uuid[], $2::uuid[]) AS u (unit_id, filed_under)
 CROSS JOIN LATERAL (SELECT count(*) AS devices
                       FROM control.devices
                      WHERE unit_id = u.filed_under AND retired_at IS NULL) d
 CROSS JOIN LATERAL (SELECT count(*) AS accounts
                       FROM control.accounts
                      WHERE unit_id = u.filed_under AND disabled_at IS NULL) a
 GROUP BY u.unit_id
"""

_END_HEIRS = """
UPDATE control.unit_heirs
   SET valid_until = $2, ends_at = $3
 WHERE heir_id = ANY ($1)
   AND valid_from < $2
   AND (valid_until IS NULL OR valid_until > $2)
"""

_FORGET_HEIRS = """
DELETE FROM control.unit_heirs
 WHERE heir_id = ANY ($1)
   AND valid_from >= $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrandedUnit:
    """A unit that would be in no tree any more, and what still belongs to it."""

    unit_id: UnitId
    devices: int
    accounts: int


async def load_units(connection: Connection) -> UnitHistory:
    """Every version of every unit, and who follows whom."""
    rows = await connection.fetch(_VERSIONS)
    heirs = await connection.fetch(_HEIRS)
    return UnitHistory(
        (
            UnitVersion(
                unit_id=UnitId(row["unit_id"]),
                valid_from=row["valid_from"],
                valid_until=row["valid_until"],
                parent_id=UnitId(row["parent_id"]) if row["parent_id"] is not None else None,
                code=row["code"],
                level=row["level"],
                name=row["name"],
                sort_key=row["sort_key"],
            )
            for row in rows
        ),
        (
            UnitHeir(
                unit_id=UnitId(row["unit_id"]),
                heir_id=UnitId(row["heir_id"]),
                valid_from=row["valid_from"],
                valid_until=row["valid_until"],
                keeps_rights=row["keeps_rights"],
            )
            for row in heirs
        ),
    )


async def revision(connection: Connection) -> int:
    """A number that grows with every change to a version."""
    value: int = await connection.fetchval("SELECT revision FROM control.units_revision")
    return value


async def lock_units(connection: Connection) -> None:
    """Keep other imports out until this transaction ends."""
    await connection.fetchval(_LOCK)


async def stranded(
    connection: Connection, closed: Iterable[UnitId], heirs: Iterable[UnitHeir]
) -> tuple[StrandedUnit, ...]:
    """Which of the units to be closed still have devices in service or accounts in use, as their own or as an heir."""
    filed = {(unit_id, unit_id) for unit_id in closed}
    filed |= {(heir.heir_id, heir.unit_id) for heir in heirs if (heir.heir_id, heir.heir_id) in filed}
    rows = await connection.fetch(_STRANDED, [unit for unit, _ in filed], [under for _, under in filed])
    return tuple(
        StrandedUnit(unit_id=UnitId(row["unit_id"]), devices=row["devices"], accounts=row["accounts"])
        for row in rows
        if row["devices"] or row["accounts"]
    )


async def end_heirs(connection: Connection, closed: Iterable[UnitId], *, day: date, starts_at: datetime) -> None:
    """From `day`, which begins at `starts_at`, on nobody is taken for one of the closed units any more."""
    units = list(closed)
    await connection.execute(_FORGET_HEIRS, units, day)
    await connection.execute(_END_HEIRS, units, day, starts_at)


async def apply(connection: Connection, changes: UnitChanges, *, at: datetime) -> None:
    """Carry out the changes."""
    await connection.executemany(
        "INSERT INTO control.units (unit_id, created_at) VALUES ($1, $2)",
        [(unit_id, at) for unit_id in sorted(changes.opened)],
    )
    await connection.executemany(
        "DELETE FROM control.unit_versions WHERE unit_id = $1 AND valid_from = $2",
        [(version.unit_id, version.valid_from) for version in changes.removed],
    )
    await connection.executemany(
        "UPDATE control.unit_versions SET valid_until = $3 WHERE unit_id = $1 AND valid_from = $2",
        [(version.unit_id, version.valid_from, version.valid_until) for version in changes.ended],
    )
    await connection.executemany(
        """
        INSERT INTO control.unit_versions
               (unit_id, valid_from, valid_until, parent_id, code, level, name, sort_key, search_text)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        [
            (
                version.unit_id,
                version.valid_from,
                version.valid_until,
                version.parent_id,
                version.code,
                version.level,
                version.name,
                version.sort_key,
                vietnamese.search_text(version.name),
            )
            for version in changes.added
        ],
    )


async def record_import(
    connection: Connection, *, valid_from: date, file_sha256: bytes, units: int, at: datetime, by: uuid.UUID | None
) -> None:
    """Note which file made which tree."""
    await connection.execute(
        """
        INSERT INTO control.unit_imports (valid_from, file_sha256, units, imported_at, imported_by)
        VALUES ($1, $2, $3, $4, $5)
        """,
        valid_from,
        file_sha256,
        units,
        at,
        by,
    )


async def matching(connection: Connection, words: str, code: str, *, day: date, limit: int) -> tuple[UnitId, ...]:
    """Units whose name without diacritics holds `words` (already bare), or whose code is `code`; best first."""
    pattern = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = await connection.fetch(
        """
        SELECT unit_id
          FROM control.unit_versions
         WHERE valid_from <= $4
           AND (valid_until IS NULL OR valid_until > $4)
           AND ($2 <> '' AND search_text LIKE '%' || $1 || '%' OR code = $3)
         ORDER BY code = $3 DESC,
                  search_text = $2 DESC,
                  ' ' || search_text LIKE '% ' || $1 || '%' DESC,
                  sort_key COLLATE "C", code COLLATE "C"
         LIMIT $5
        """,
        pattern,
        words,
        code,
        day,
        limit,
    )
    return tuple(UnitId(row["unit_id"]) for row in rows)
