"""SQL of authorisations by which the platform releases what a rule proposes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from services.shared.database.pool import Connection

_AUTHORISATIONS = """
SELECT authorisation_id, rule_id, rule_version, template_id, template_version, asked_at, asked_by, confirmed_at,
       confirmed_by, expires_at
  FROM control.release_authorisations
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """What two officers have allowed, or the first of them so far; for one version of a rule and of its template."""

    authorisation_id: uuid.UUID
    rule_id: uuid.UUID
    rule_version: int
    template_id: uuid.UUID
    template_version: int
    asked_at: datetime
    asked_by: uuid.UUID
    confirmed_at: datetime | None = None
    confirmed_by: uuid.UUID | None = None
    expires_at: datetime


async def of_rule(connection: Connection, rule_id: uuid.UUID) -> Authorisation | None:
    """The authorisation of a rule that nobody has ended."""
    row = await connection.fetchrow(_AUTHORISATIONS + " WHERE rule_id = $1 AND ended_at IS NULL", rule_id)
    return Authorisation(**dict(row)) if row is not None else None


async def add(connection: Connection, authorisation: Authorisation) -> None:
    """Put what the first officer said on record."""
    await connection.execute(
        """
        INSERT INTO control.release_authorisations
               (authorisation_id, rule_id, rule_version, template_id, template_version, asked_at, asked_by, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        authorisation.authorisation_id,
        authorisation.rule_id,
        authorisation.rule_version,
        authorisation.template_id,
        authorisation.template_version,
        authorisation.asked_at,
        authorisation.asked_by,
        authorisation.expires_at,
    )


async def confirm(connection: Connection, authorisation_id: uuid.UUID, *, by: uuid.UUID, at: datetime) -> None:
    """The second officer has spoken."""
    await connection.execute(
        """
        UPDATE control.release_authorisations
           SET confirmed_by = $2, confirmed_at = $3
         WHERE authorisation_id = $1
        """,
        authorisation_id,
        by,
        at,
    )


async def end(
    connection: Connection, authorisation_id: uuid.UUID, *, reason: str, by: uuid.UUID | None, at: datetime
) -> None:
    """It holds no longer."""
    await connection.execute(
        """
        UPDATE control.release_authorisations
           SET ended_at = $2, ended_by = $3, end_reason = $4
         WHERE authorisation_id = $1
        """,
        authorisation_id,
        at,
        by,
        reason,
    )
