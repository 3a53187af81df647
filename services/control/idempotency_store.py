"""SQL of idempotency keys: what was answered to a request that a client may send again."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was asked for under a key, as a digest, and the answer as JSON."""

    digest: bytes
    answer: Any


async def lock(connection: Connection, account_id: uuid.UUID, key: str) -> None:
    """Have the same account's requests of this key wait until this transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"idempotency_key:{account_id}:{key}"
    )


async def given(connection: Connection, account_id: uuid.UUID, key: str, *, since: datetime) -> Given | None:
    """What was answered under a key since an instant."""
    row = await connection.fetchrow(
        """
        SELECT digest, answer
          FROM control.idempotency_keys
         WHERE account_id = $1 AND key = $2 AND at >= $3
        """,
        account_id,
        key,
        since,
    )
    return None if row is None else Given(digest=row["digest"], answer=row["answer"])


async def remember(connection: Connection, account_id: uuid.UUID, key: str, given: Given, *, at: datetime) -> None:
    """Keep an answer; one of the same key that is too old to be given again makes room."""
    await connection.execute(
        """
        INSERT INTO control.idempotency_keys AS k
               (account_id, key, digest, answer, at)
        VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (account_id, key)
            DO UPDATE SET digest = excluded.digest, answer = excluded.answer, at = excluded.at
        """,
        account_id,
        key,
        given.digest,
        given.answer,
        at,
    )


async def forget(connection: Connection, *, before: datetime, at_most: int) -> None:
    """Drop answers given before an instant, the oldest first; those that somebody else is dropping are left to them."""
    await connection.execute(
        """
        DELETE FROM control.idempotency_keys
         WHERE (account_id, key) IN (SELECT account_id, key
                                       FROM control.idempotency_keys
                                      WHERE at < $1
                                      ORDER BY at
                                      LIMIT $2
                                        FOR UPDATE SKIP LOCKED)
        """,
        before,
        at_most,
    )
