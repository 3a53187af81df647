"""SQL of second factors: sealed secrets, steps that were used, recovery codes, and what sessions have shown."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """The second factor of an account; in force once it is confirmed."""

    sealed: bytes
    confirmed_at: datetime | None


async def factor(connection: Connection, account_id: uuid.UUID) -> Factor | None:
    """What the account has, confirmed or not."""
    return await _factor(connection, account_id, "")


async def factor_to_judge(connection: Connection, account_id: uuid.UUID) -> Factor | None:
    """The same, held as it is until the end of the transaction."""
    return await _factor(connection, account_id, "FOR UPDATE")


async def _factor(connection: Connection, account_id: uuid.UUID, lock: str) -> Factor | None:
    query = f"SELECT sealed, confirmed_at FROM control.second_factors WHERE account_id = $1 {lock}"  # noqa: S608
    row = await connection.fetchrow(query, account_id)
    return Factor(**dict(row)) if row else None


async def put_unconfirmed(connection: Connection, account_id: uuid.UUID, sealed: bytes, *, at: datetime) -> bool:
    """Keep a secret until it is confirmed, in place of another that never was; False when one is in force."""
    kept: bool | None = await connection.fetchval(
        """
        INSERT INTO control.second_factors (account_id, sealed, created_at)
        VALUES ($1, $2, $3)
            ON CONFLICT (account_id)
            DO UPDATE SET sealed = EXCLUDED.sealed, created_at = EXCLUDED.created_at
             WHERE control.second_factors.confirmed_at IS NULL
        RETURNING true
        """,
        account_id,
        sealed,
        at,
    )
    return bool(kept)


async def reseal(connection: Connection, account_id: uuid.UUID, sealed: bytes) -> None:
    """Keep the same secret under another key."""
    await connection.execute("UPDATE control.second_factors SET sealed = $2 WHERE account_id = $1", account_id, sealed)


async def forget_unconfirmed(connection: Connection, *, before: datetime) -> None:
    """Drop secrets that nobody has confirmed since an instant."""
    await connection.execute(
        "DELETE FROM control.second_factors WHERE confirmed_at IS NULL AND created_at < $1", before
    )


async def use_step(connection: Connection, account_id: uuid.UUID, step: int) -> bool:
    """Take a step of time out of use, and every older one; False when it was. Of two at once one gets it."""
    taken: bool | None = await connection.fetchval(
        """
        UPDATE control.second_factors SET last_step = $2 WHERE account_id = $1 AND last_step < $2 RETURNING true
        """,
        account_id,
        step,
    )
    return bool(taken)


async def confirm(
    connection: Connection, account_id: uuid.UUID, recovery_hashes: Iterable[bytes], *, at: datetime
) -> None:
    """Put the secret in force, with these recovery codes."""
    await connection.execute(
        "UPDATE control.second_factors SET confirmed_at = $2 WHERE account_id = $1", account_id, at
    )
    await connection.executemany(
        "INSERT INTO control.recovery_codes (account_id, code_hash) VALUES ($1, $2)",
        [(account_id, each) for each in recovery_hashes],
    )


async def use_recovery_code(connection: Connection, account_id: uuid.UUID, code_hash: bytes, *, at: datetime) -> bool:
    """Use up a recovery code; False when there is no such code or it was used."""
    used: bool | None = await connection.fetchval(
        """
        UPDATE control.recovery_codes
           SET used_at = $3
         WHERE account_id = $1 AND code_hash = $2 AND used_at IS NULL
        RETURNING true
        """,
        account_id,
        code_hash,
        at,
    )
    return bool(used)


async def recovery_codes_left(connection: Connection, account_id: uuid.UUID) -> int:
    """How many recovery codes were not used yet."""
    left: int = await connection.fetchval(
        "SELECT count(*) FROM control.recovery_codes WHERE account_id = $1 AND used_at IS NULL", account_id
    )
    return left


async def remove(connection: Connection, account_id: uuid.UUID) -> bool:
    """Remove the account's factor and what its sessions have shown of it; False when there was none in force."""
    removed: bool | None = await connection.fetchval(
        "DELETE FROM control.second_factors WHERE account_id = $1 RETURNING confirmed_at IS NOT NULL", account_id
    )
    await connection.execute("UPDATE control.sessions SET second_factor_at = NULL WHERE account_id = $1", account_id)
    return bool(removed)


async def note_shown(connection: Connection, session_id: uuid.UUID, *, at: datetime) -> None:
    """Note that the session has shown the factor."""
    await connection.execute("UPDATE control.sessions SET second_factor_at = $2 WHERE session_id = $1", session_id, at)
