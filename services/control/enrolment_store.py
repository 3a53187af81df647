"""SQL of enrolment: claim codes, and the certificates of devices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.identifiers import DeviceId, UnitId
from services.control.permissions import Actor
from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

CHANNEL = "certificates_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim code, as far as it is stored, and the device it is for."""

    device_no: DeviceNo
    device_id: DeviceId
    unit_id: UnitId
    is_retired: bool
    code_hash: bytes
    made_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_for: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was issued to a device."""

    serial: bytes
    device_no: DeviceNo
    device_id: DeviceId
    unit_id: UnitId
    is_retired: bool
    issuer_key: bytes
    public_key: bytes
    certificate: bytes
    origin: str
    issued_at: datetime
    not_after: datetime
    renews: bytes | None
    replaced_at: datetime | None
    revoked_at: datetime | None
    reason: str | None
    in_force_at: datetime | None
    thrown_out_at: datetime | None


async def set_claim(
    connection: Connection,
    device_no: DeviceNo,
    code_hash: bytes,
    *,
    made_by: Actor | None,
    at: datetime,
    expires_at: datetime,
) -> None:
    """Give the device a code; an earlier one, used or not, is void."""
    await connection.execute(
        """
        INSERT INTO control.device_claims (device_no, code_hash, made_at, made_by, expires_at)
        VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (device_no)
            DO UPDATE SET code_hash = EXCLUDED.code_hash, made_at = EXCLUDED.made_at, made_by = EXCLUDED.made_by,
                          expires_at = EXCLUDED.expires_at, used_at = NULL, used_for = NULL
        """,
        device_no,
        code_hash,
        at,
        made_by.account_id if made_by else None,
        expires_at,
    )


async def delete_claim(connection: Connection, device_no: DeviceNo) -> bool:
    """Make the device's code void; says whether there was one that could still be used."""
    status = await connection.execute(
        "DELETE FROM control.device_claims WHERE device_no = $1 AND used_at IS NULL", device_no
    )
    return bool(status == "DELETE 1")


_CLAIMS = """
SELECT c.device_no, d.device_id, d.unit_id, d.retired_at IS NOT NULL AS is_retired,
       c.code_hash, c.made_at, c.expires_at, c.used_at, c.used_for
  FROM control.device_claims c
  JOIN control.devices d USING (device_no)
"""


async def claim_by_code(connection: Connection, code_hash: bytes) -> Claim | None:
    """The claim with this code, locked together with its device until the transaction ends."""
    row = await connection.fetchrow(f"{_CLAIMS} WHERE c.code_hash = $1 FOR UPDATE", code_hash)
    return None if row is None else Claim(**_typed(dict(row)))


async def claim_of(connection: Connection, device_no: DeviceNo) -> Claim | None:
    """The claim of a device."""
    row = await connection.fetchrow(f"{_CLAIMS} WHERE c.device_no = $1", device_no)
    return None if row is None else Claim(**_typed(dict(row)))


async def use_claim(connection: Connection, device_no: DeviceNo, public_key: bytes, *, at: datetime) -> None:
    """Note that the device's code was used, and for which key."""
    await connection.execute(
        "UPDATE control.device_claims SET used_at = $2, used_for = $3 WHERE device_no = $1", device_no, at, public_key
    )


_ISSUED = """
SELECT c.serial, c.device_no, d.device_id, d.unit_id, d.retired_at IS NOT NULL AS is_retired,
       c.issuer_key, c.public_key, c.certificate, c.origin, c.issued_at, c.not_after, c.renews, c.replaced_at,
       c.revoked_at, c.reason, c.in_force_at, c.thrown_out_at
  FROM control.device_certificates c
  JOIN control.devices d USING (device_no)
"""


async def add_certificate(
    connection: Connection,
    *,
    serial: bytes,
    device_no: DeviceNo,
    issuer_key: bytes,
    public_key: bytes,
    certificate: bytes,
    origin: str,
    issued_at: datetime,
    not_after: datetime,
    renews: bytes | None,
) -> None:
    """Put a certificate on record; one it renews counts as replaced from now on."""
    await connection.execute(
        """
        INSERT INTO control.device_certificates
               (serial, device_no, issuer_key, public_key, certificate, origin, issued_at, not_after, renews)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        serial,
        device_no,
        issuer_key,
        public_key,
        certificate,
        origin,
        issued_at,
        not_after,
        renews,
    )
    if renews is not None:
        await connection.execute(
            "UPDATE control.device_certificates SET replaced_at = $2 WHERE serial = $1", renews, issued_at
        )


async def certificate_for_update(connection: Connection, serial: bytes) -> Issued | None:
    """The certificate with this serial, locked together with its device until the transaction ends."""
    row = await connection.fetchrow(f"{_ISSUED} WHERE c.serial = $1 FOR UPDATE", serial)
    return None if row is None else Issued(**_typed(dict(row)))


async def certificate_that_renews(connection: Connection, serial: bytes) -> Issued | None:
    """The certificate that was issued in place of the one with this serial."""
    row = await connection.fetchrow(f"{_ISSUED} WHERE c.renews = $1", serial)
    return None if row is None else Issued(**_typed(dict(row)))


async def certificate_over(connection: Connection, device_no: DeviceNo, public_key: bytes) -> Issued | None:
    """The newest certificate of a device over this key."""
    row = await connection.fetchrow(
        f"{_ISSUED} WHERE c.device_no = $1 AND c.public_key = $2 ORDER BY c.issued_at DESC LIMIT 1",
        device_no,
        public_key,
    )
    return None if row is None else Issued(**_typed(dict(row)))


async def other_holder(connection: Connection, device_no: DeviceNo, public_key: bytes) -> DeviceId | None:
    """Another device in service with a certificate over this key that was not revoked, if there is one."""
    found = await connection.fetchval(
        """
        SELECT d.device_id
          FROM control.device_certificates c
          JOIN control.devices d USING (device_no)
         WHERE c.public_key = $2 AND c.device_no <> $1 AND c.revoked_at IS NULL AND d.retired_at IS NULL
         ORDER BY d.device_id
         LIMIT 1
        """,
        device_no,
        public_key,
    )
    return None if found is None else DeviceId(found)


async def certificates_of(connection: Connection, device_no: DeviceNo) -> tuple[Issued, ...]:
    """Every certificate of a device, the newest first."""
    rows = await connection.fetch(f"{_ISSUED} WHERE c.device_no = $1 ORDER BY c.issued_at DESC, c.serial", device_no)
    return tuple(Issued(**_typed(dict(row))) for row in rows)


async def revoke(
    connection: Connection, device_no: DeviceNo, *, reason: str, by: Actor | None, at: datetime
) -> tuple[bytes, ...]:
    """Revoke what a device holds and is still good; returns the serials and tells whoever publishes lists."""
    rows = await connection.fetch(
        """
        UPDATE control.device_certificates
           SET revoked_at = $2, reason = $3, revoked_by = $4
         WHERE device_no = $1 AND revoked_at IS NULL AND not_after > $2
        RETURNING serial
        """,
        device_no,
        at,
        reason,
        by.account_id if by else None,
    )
    if rows:
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    return tuple(row["serial"] for row in rows)


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    values["device_no"] = DeviceNo(values["device_no"])
    values["device_id"] = DeviceId(values["device_id"])
    values["unit_id"] = UnitId(values["unit_id"])
    return values
