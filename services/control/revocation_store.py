"""SQL of revocation: the lists, what has to be on them, and how far each revocation has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.shared.database.pool import Connection

_LOCK = 0x6C6F6163726C  # one list at a time, over all replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A list as signed, and the certificate that tells whether it is in force at the broker."""

    number: int
    list: str
    issued_at: datetime
    next_update: datetime
    canary_serial: bytes
    canary_certificate: str
    canary_key: str
    in_force_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A certificate that is to be on the list."""

    serial: bytes
    revoked_at: datetime


async def lock(connection: Connection) -> None:
    """Be the only one who makes a list, until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def revoke_renewed(connection: Connection, *, overlap: timedelta, now: datetime) -> int:
    """Revoke what was renewed longer ago than `overlap`; returns how many."""
    status = await connection.execute(
        """
        UPDATE control.device_certificates SET revoked_at = $2, reason = 'superseded'
         WHERE replaced_at <= $2::timestamptz - $1::interval AND revoked_at IS NULL AND not_after > $2
        """,
        overlap,
        now,
    )
    return int(status.rpartition(" ")[2])


async def newest(connection: Connection, issuer_key: bytes) -> RevocationList | None:
    """The newest list of an authority."""
    row = await connection.fetchrow(
        """
        SELECT number, list, issued_at, next_update, canary_serial, canary_certificate, canary_key, in_force_at
          FROM control.revocation_lists WHERE issuer_key = $1 ORDER BY number DESC LIMIT 1
        """,
        issuer_key,
    )
    return None if row is None else RevocationList(**dict(row))


async def revoked(connection: Connection, issuer_key: bytes, *, now: datetime) -> tuple[Revoked, ...]:
    """What has to be on a list now: devices' certificates and earlier canaries that have not ended by themselves."""
    rows = await connection.fetch(
        """
        SELECT serial, revoked_at FROM control.device_certificates
         WHERE issuer_key = $1 AND revoked_at IS NOT NULL AND not_after > $2
        UNION ALL
        SELECT canary_serial, issued_at FROM control.revocation_lists WHERE issuer_key = $1 AND next_update > $2
        """,
        issuer_key,
        now,
    )
    return tuple(Revoked(**dict(row)) for row in rows)


async def add(connection: Connection, issuer_key: bytes, made: RevocationList) -> None:
    """Put a list on record, and forget those that have long run out."""
    await connection.execute(
        """
        INSERT INTO control.revocation_lists
               (issuer_key, number, list, issued_at, next_update, canary_serial, canary_certificate, canary_key)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        issuer_key,
        made.number,
        made.list,
        made.issued_at,
        made.next_update,
        made.canary_serial,
        made.canary_certificate,
        made.canary_key,
    )
    await connection.execute(
        "DELETE FROM control.revocation_lists WHERE issuer_key = $1 AND next_update < $2",
        issuer_key,
        made.issued_at - timedelta(days=1),
    )


async def note_in_force(
    connection: Connection, issuer_key: bytes, made: RevocationList, serials: Sequence[bytes], *, at: datetime
) -> None:
    """The broker goes by this list, which names these certificates."""
    await connection.execute(
        "UPDATE control.revocation_lists SET in_force_at = $3"
        " WHERE issuer_key = $1 AND number = $2 AND in_force_at IS NULL",
        issuer_key,
        made.number,
        at,
    )
    await connection.execute(
        """
        UPDATE control.device_certificates SET in_force_at = $3
         WHERE issuer_key = $1 AND serial = ANY ($2) AND revoked_at IS NOT NULL AND in_force_at IS NULL
        """,
        issuer_key,
        list(serials),
        at,
    )


# Ends with its session: what the broker refuses by our list; what it cannot refuse by it (of another authority) or refuses
# anyway (run out). Who has renewed comes back with the newer one and is left in peace: nobody took the older one away.
_ENDS_SESSIONS = """
       c.revoked_at IS NOT NULL
       AND c.thrown_out_at IS NULL
       AND c.reason <> 'superseded'
       AND (c.in_force_at IS NOT NULL OR c.issuer_key <> $1 OR c.not_after <= $2)
"""

_TO_THROW_OUT = f"""
SELECT DISTINCT d.device_id
  FROM control.device_certificates c
  JOIN control.devices d USING (device_no)
 WHERE {_ENDS_SESSIONS}
 ORDER BY d.device_id
 LIMIT $3
"""  # noqa: S608 - made of constants

_THROWN_OUT = f"""
UPDATE control.device_certificates c SET thrown_out_at = $4
  FROM control.devices d
 WHERE d.device_no = c.device_no
   AND d.device_id = ANY ($3)
   AND {_ENDS_SESSIONS}
"""  # noqa: S608 - made of constants


async def to_throw_out(connection: Connection, issuer_key: bytes, *, limit: int, now: datetime) -> tuple[str, ...]:
    """Devices that may still be connected with a certificate that was revoked, and that our list lets in no longer."""
    rows = await connection.fetch(_TO_THROW_OUT, issuer_key, now, limit)
    return tuple(row["device_id"] for row in rows)


async def note_thrown_out(
    connection: Connection, issuer_key: bytes, device_ids: Sequence[str], *, now: datetime, at: datetime
) -> None:
    """The sessions of those that were to be thrown out at `now` were ended."""
    await connection.execute(_THROWN_OUT, issuer_key, now, list(device_ids), at)


async def pending(connection: Connection, issuer_key: bytes, *, now: datetime) -> tuple[int, datetime | None]:
    """Revocations that do not hold yet at the broker, and since when the oldest waits."""
    row = await connection.fetchrow(
        """
        SELECT count(*) AS waiting, min(revoked_at) AS oldest
          FROM control.device_certificates
         WHERE revoked_at IS NOT NULL AND thrown_out_at IS NULL
           AND (reason <> 'superseded' OR in_force_at IS NULL AND issuer_key = $1 AND not_after > $2)
        """,
        issuer_key,
        now,
    )
    return (row["waiting"], row["oldest"]) if row is not None else (0, None)
