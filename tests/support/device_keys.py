"""Devices with a certificate of their own, as enrolment leaves them on record."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas import device_signing
from schemas.identifiers import DeviceId
from services.control.trust import certificates
from services.shared.clock import utc_now

_ADD = """
INSERT INTO control.device_certificates
       (serial, device_no, issuer_key, public_key, certificate, origin, issued_at, not_after, renews)
SELECT $1, device_no, '\\x00', sha256($2), $3, $4, $5, $6, $7
  FROM control.devices
 WHERE device_id = $8
"""


async def certify(
    connection: Any,
    device_id: str,
    *,
    renews: ec.EllipticCurvePrivateKey | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
    now: datetime | None = None,
    valid_for: timedelta = timedelta(days=397),
) -> ec.EllipticCurvePrivateKey:
    """Put a certificate of the device on record, after the one of `renews` where that is given; return its key.

    It is over a new key, or over `key`.
    """
    key, at = key or certificates.new_key(), now or utc_now()
    authority = certificates.make_issuing_ca(now=at)
    certificate = certificates.issue_device_certificate(
        authority, DeviceId(device_id), key.public_key(), now=at, valid_for=valid_for
    )
    earlier = None
    if renews is not None:
        earlier = await connection.fetchval(
            "UPDATE control.device_certificates SET replaced_at = $2 WHERE substring(public_key FROM 1 FOR 8) = $1"
            " RETURNING serial",
            device_signing.key_id(renews.public_key()),
            at,
        )
    await connection.execute(
        _ADD,
        certificates.serial_as_stored(certificate.serial_number),
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        certificate.public_bytes(Encoding.DER),
        "claim" if renews is None else "renewal",
        at,
        certificate.not_valid_after_utc,
        earlier,
        device_id,
    )
    return key


async def revoke(connection: Any, key: ec.EllipticCurvePrivateKey, *, reason: str, now: datetime | None = None) -> None:
    """Take back the certificate over a key."""
    await connection.execute(
        "UPDATE control.device_certificates SET revoked_at = $2, reason = $3"
        " WHERE substring(public_key FROM 1 FOR 8) = $1",
        device_signing.key_id(key.public_key()),
        now or utc_now(),
        reason,
    )
