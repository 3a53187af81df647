"""SQL of the audit's chain: entries that wait, links, signed heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from services.control.auditing.chain import BEGINNING, Entry, Link
from services.control.auditing.heads import Head
from services.shared.database.pool import Connection

_LOCK = 0x6C6F61617564  # one sealer at a time, over all replicas

_ENTRY = """a.audit_id, a.at, a.account_id, a.origin, a.action, a.unit_id, a.subject,
       a.before::text AS before, a.after::text AS after"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Entries without a seal, and since when the oldest waits."""

    entries: int
    oldest_at: datetime | None


async def try_lock(connection: Connection) -> bool:
    """Be the only one who seals and signs, until the transaction ends; False while somebody else is."""
    is_ours: bool = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK)
    return is_ours


async def lock(connection: Connection) -> None:
    """The same, after waiting for whoever it is."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def last(connection: Connection) -> tuple[int, bytes]:
    """Number and hash of the last link."""
    row = await connection.fetchrow("SELECT number, hash FROM control.audit_chain ORDER BY number DESC LIMIT 1")
    return (row["number"], row["hash"]) if row else (0, BEGINNING)


async def hash_of(connection: Connection, number: int) -> bytes | None:
    """The hash of a link; None where there is none. Before the first one stands the beginning."""
    if number == 0:
        return BEGINNING
    found: bytes | None = await connection.fetchval("SELECT hash FROM control.audit_chain WHERE number = $1", number)
    return found


async def waiting(connection: Connection, *, limit: int) -> tuple[Entry, ...]:
    """The oldest entries without a seal. One restored without its queue may be sealed already, and is not here."""
    rows = await connection.fetch(
        f"""
        SELECT {_ENTRY}
          FROM control.audit_unsealed q
          JOIN control.audit a USING (audit_id)
          LEFT JOIN control.audit_chain c USING (audit_id)
         WHERE c.audit_id IS NULL
         ORDER BY q.audit_id
         LIMIT $1
        """,  # noqa: S608 - a constant of this module
        limit,
    )
    return tuple(_entry(row) for row in rows)


async def count_waiting(connection: Connection) -> Waiting:
    """How many entries have no seal."""
    row = await connection.fetchrow(
        """
        SELECT count(*) AS entries, min(a.at) AS oldest_at
          FROM control.audit_unsealed q
          LEFT JOIN control.audit a USING (audit_id)
        """
    )
    assert row is not None
    return Waiting(entries=row["entries"], oldest_at=row["oldest_at"])


async def append(connection: Connection, links: Sequence[Link]) -> None:
    """Store links and take their entries out of the queue."""
    await connection.executemany(
        "INSERT INTO control.audit_chain (number, audit_id, sealed_at, digest, hash) VALUES ($1, $2, $3, $4, $5)",
        [(each.number, each.audit_id, each.sealed_at, each.digest, each.hash) for each in links],
    )
    await connection.execute(
        "DELETE FROM control.audit_unsealed q USING control.audit_chain c WHERE c.audit_id = q.audit_id"
    )


async def links(connection: Connection, *, after: int, limit: int) -> tuple[Link, ...]:
    """The links behind a number, in order, each with what stands under its id now."""
    rows = await connection.fetch(
        f"""
        SELECT c.number, c.audit_id AS linked_id, c.sealed_at, c.digest, c.hash, {_ENTRY}
          FROM control.audit_chain c
          LEFT JOIN control.audit a USING (audit_id)
         WHERE c.number > $1
         ORDER BY c.number
         LIMIT $2
        """,  # noqa: S608 - a constant of this module
        after,
        limit,
    )
    return tuple(
        Link(
            number=row["number"],
            audit_id=row["linked_id"],
            sealed_at=row["sealed_at"],
            digest=row["digest"],
            hash=row["hash"],
            entry=_entry(row) if row["audit_id"] is not None else None,
        )
        for row in rows
    )


async def stray(connection: Connection) -> tuple[int, bool] | None:
    """The first entry that has no link and waits for none, or that waits and is gone (True)."""
    row = await connection.fetchrow(
        """
        SELECT coalesce(a.audit_id, q.audit_id) AS stray_id, a.audit_id IS NULL AS is_gone
          FROM control.audit a
          FULL JOIN control.audit_unsealed q USING (audit_id)
          LEFT JOIN control.audit_chain c ON c.audit_id = coalesce(a.audit_id, q.audit_id)
         WHERE c.audit_id IS NULL
           AND (a.audit_id IS NULL OR q.audit_id IS NULL)
         ORDER BY 1
         LIMIT 1
        """
    )
    return (row["stray_id"], row["is_gone"]) if row else None


async def keep_head(connection: Connection, head: Head) -> None:
    """Keep a signed head; one for each number."""
    await connection.execute(
        """
        INSERT INTO control.audit_heads (number, hash, signed_at, kid, message)
        VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (number) DO NOTHING
        """,
        head.number,
        head.hash,
        head.signed_at,
        head.kid,
        head.message,
    )


async def heads(connection: Connection, *, after: int) -> tuple[Head, ...]:
    """The signed heads behind a number, in order."""
    rows = await connection.fetch(
        """
        SELECT number, hash, signed_at, kid, message
          FROM control.audit_heads
         WHERE number > $1
         ORDER BY number
        """,
        after,
    )
    return tuple(Head(**dict(row)) for row in rows)


async def newest_head(connection: Connection) -> Head | None:
    """The head that was signed last."""
    row = await connection.fetchrow(
        """
        SELECT number, hash, signed_at, kid, message
          FROM control.audit_heads
         ORDER BY number DESC
         LIMIT 1
        """
    )
    return Head(**dict(row)) if row else None


def _entry(row: Record) -> Entry:
    return Entry(
        audit_id=row["audit_id"],
        at=row["at"],
        account_id=row["account_id"],
        origin=row["origin"],
        action=row["action"],
        unit_id=row["unit_id"],
        subject=row["subject"],
        before=row["before"],
        after=row["after"],
    )
