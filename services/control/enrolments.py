"""Devices come by their certificates: claim codes, enrolment, renewal, revocation. Works inside the caller's transaction.

Whoever holds a device's claim code becomes that device, once: the code is void with its first use, and giving the device
another code revokes what it held when that one is used, so a replaced device keeps its id and its history while the old
hardware is shut out. A lost answer costs nothing: the same code with the same key, or the same renewal, is answered with
the same certificate.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from schemas.identifiers import DeviceId, UnitId
from services.control import account_store, audit, enrolment_store, throttle
from services.control.audit import Entry
from services.control.device_store import Device
from services.control.enrolment_store import Claim, Issued
from services.control.errors import Conflict, Fault, Invalid, NotFound, TooManyAttempts, Unauthenticated
from services.control.permissions import Actor
from services.control.throttle import Scope
from services.control.trust import certificates, claims, renewals
from services.control.trust.certificates import CertificateRefused, RefusalReason
from services.control.trust.issuer import Issuer
from services.shared.database.pool import Connection, Database

log = logging.getLogger(__name__)

MAX_CODES_AT_ONCE = 500
RENEWALS_APART = timedelta(hours=1)  # whoever has a device's key shall not fill our tables with it

CSR_FAULTS = {
    RefusalReason.MALFORMED: "csr_malformed",
    RefusalReason.NO_PROOF_OF_POSSESSION: "csr_not_signed_by_its_key",
    RefusalReason.UNSUPPORTED_KEY: "csr_key_not_p256",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What a device is answered: its name and its certificate."""

    device_id: DeviceId
    certificate: x509.Certificate

    @property
    def renew_after(self) -> datetime:
        """When the device should ask for the next one: a third of the life is left for that."""
        begins, ends = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return begins + (ends - begins) * 2 / 3


async def make_claim(
    connection: Connection,
    device: Device,
    *,
    code_hash: bytes,
    expires_at: datetime,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    """Give the device the claim code behind `code_hash`; the code itself is kept nowhere. Raises `Conflict`."""
    if device.retired_at is not None:
        raise Conflict("device_retired", facts={"id": device.device_id})
    if device.gateway_id is not None:
        raise Conflict("device_has_no_session", facts={"id": device.device_id, "gateway": device.gateway_id})
    await enrolment_store.set_claim(
        connection, device.device_no, code_hash, made_by=actor, at=now, expires_at=expires_at
    )
    entry = Entry(
        action="claim_code_made",
        subject=f"device:{device.device_id}",
        unit_id=device.unit_id,
        after={"expires_at": expires_at.isoformat()},
    )
    await audit.record(connection, entry, actor=actor, origin=origin, at=now)


async def withdraw_claim(
    connection: Connection, device: Device, *, actor: Actor, origin: str | None, now: datetime
) -> None:
    """Make the device's unused code void. Raises `NotFound` when there is none."""
    if not await enrolment_store.delete_claim(connection, device.device_no):
        raise NotFound("claim_not_found", facts={"id": device.device_id})
    entry = Entry(action="claim_code_withdrawn", subject=f"device:{device.device_id}", unit_id=device.unit_id)
    await audit.record(connection, entry, actor=actor, origin=origin, at=now)


async def enrol(database: Database, issuer: Issuer, *, code: str, request: str, origin: str, now: datetime) -> Enrolled:
    """The certificate for whoever holds a claim code and the key of the request.

    Raises `Unauthenticated` for a code that is wrong, over or used, which look alike from outside; `Invalid` for a
    request that cannot be certified; `TooManyAttempts` while an address has guessed too often.
    """
    csr = _parsed(request)  # before the code: a clumsy request does not cost the code
    keys = {Scope.ENROLMENT: throttle.network_of(origin)}
    async with database.transaction() as connection:
        await _demand_patience(connection, keys, now=now)
        # Counted before it is judged and taken back when it was right, so that many at once do not slip through.
        await account_store.count_failure(connection, keys, at=now)
    async with database.transaction() as connection:
        outcome = await _claimed(connection, issuer, code, csr, origin=origin, now=now)
        if isinstance(outcome, Enrolled):
            await account_store.take_back_failure(connection, keys)
            return outcome
    log.warning("enrolment_refused", extra={"origin": origin, "reason": outcome.reason, "device": outcome.device_id})
    if outcome.device_id is not None:
        await _note_refusal(database, outcome, origin=origin, now=now)
    raise Unauthenticated("claim_code_not_valid")


async def renew(
    database: Database, issuer: Issuer, *, present: str, request: str, proof: bytes, origin: str, now: datetime
) -> Enrolled:
    """The certificate that follows the `present` one, for whoever holds the keys of both.

    Raises `Unauthenticated` when the present one is not ours, over, revoked, or its key did not sign; `Conflict` when it
    was renewed already with another key; `Invalid` for a request that cannot be certified; `TooManyAttempts` when it was
    issued only a moment ago.
    """
    csr, certificate = _parsed(request), _parsed_certificate(present)
    async with database.transaction() as connection:
        if not issuer.has_signed(certificate) or not renewals.is_proven(csr, proof, certificate):
            log.warning("renewal_refused", extra={"origin": origin, "reason": "not_proven"})
            raise Unauthenticated("renewal_not_proven")
        held = await enrolment_store.certificate_for_update(
            connection, certificates.serial_as_stored(certificate.serial_number)
        )
        if held is None or held.is_retired or held.revoked_at is not None or held.not_after <= now:
            log.warning(
                "renewal_refused", extra={"origin": origin, "reason": "not_good", "device": held and held.device_id}
            )
            raise Unauthenticated("certificate_not_good")
        following = await enrolment_store.certificate_that_renews(connection, held.serial)
        if following is not None:
            if following.public_key != _fingerprint(csr) or following.revoked_at is not None:
                raise Conflict("certificate_renewed_already", facts={"id": held.device_id})
            return _as_issued(following)
        if now - held.issued_at < RENEWALS_APART:
            wait = held.issued_at + RENEWALS_APART - now
            raise TooManyAttempts("renewed_too_soon", retry_after_s=int(wait.total_seconds()) + 1)
        await _demand_own_key(connection, held, csr, origin=origin)
        fresh = _certified(issuer, held.device_id, csr, now=now)
        await _record(connection, issuer, held, fresh, origin="renewal", renews=held.serial, now=now)
        entry = Entry(
            action="certificate_renewed",
            subject=f"device:{held.device_id}",
            unit_id=held.unit_id,
            after={**_facts(fresh), "renews": held.serial.hex()},
        )
        await audit.record(connection, entry, actor=None, origin=origin, at=now)
    return Enrolled(device_id=held.device_id, certificate=fresh)


async def revoke(
    connection: Connection, device: Device, *, reason: str, actor: Actor | None, origin: str | None, now: datetime
) -> int:
    """Revoke every certificate of the device that is still good, and its unused claim code; returns how many.

    It takes effect when the list that names them is in force at the broker. Raises `Conflict` when there is nothing.
    """
    had_code = await enrolment_store.delete_claim(connection, device.device_no)
    serials = await enrolment_store.revoke(connection, device.device_no, reason=reason, by=actor, at=now)
    if not serials and not had_code:
        raise Conflict("no_certificate_to_revoke", facts={"id": device.device_id})
    entry = Entry(
        action="certificate_revoked",
        subject=f"device:{device.device_id}",
        unit_id=device.unit_id,
        after={"reason": reason, "serials": [serial.hex() for serial in serials]},
    )
    await audit.record(connection, entry, actor=actor, origin=origin, at=now)
    log.warning("certificate_revoked", extra={"device": device.device_id, "reason": reason, "count": len(serials)})
    return len(serials)


# --- details ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    reason: str
    device_id: DeviceId | None = None
    unit_id: UnitId | None = None


async def _claimed(
    connection: Connection,
    issuer: Issuer,
    code: str,
    csr: x509.CertificateSigningRequest,
    *,
    origin: str,
    now: datetime,
) -> Enrolled | _Refused:
    stored = claims.stored_form(code)
    claim = await enrolment_store.claim_by_code(connection, stored) if stored is not None else None
    if claim is None or stored is None or not hmac.compare_digest(stored, claim.code_hash):
        return _Refused(reason="unknown_code")
    refused = _Refused(reason="device_retired", device_id=claim.device_id, unit_id=claim.unit_id)
    if claim.is_retired:
        return refused
    if now >= claim.expires_at:
        return replace(refused, reason="code_expired")
    public_key = _fingerprint(csr)
    if claim.used_at is not None:
        before = await enrolment_store.certificate_over(connection, claim.device_no, public_key)
        if claim.used_for != public_key or before is None or before.revoked_at is not None:
            return replace(refused, reason="code_used")
        return _as_issued(before)
    await _demand_own_key(connection, claim, csr, origin=origin)
    certificate = _certified(issuer, claim.device_id, csr, now=now)
    old = await enrolment_store.revoke(connection, claim.device_no, reason="replaced", by=None, at=now)
    await enrolment_store.use_claim(connection, claim.device_no, public_key, at=now)
    await _record(connection, issuer, claim, certificate, origin="claim", renews=None, now=now)
    entry = Entry(
        action="device_enrolled",
        subject=f"device:{claim.device_id}",
        unit_id=claim.unit_id,
        after={**_facts(certificate), "replaced": [serial.hex() for serial in old]},
    )
    await audit.record(connection, entry, actor=None, origin=origin, at=now)
    return Enrolled(device_id=claim.device_id, certificate=certificate)


async def _demand_own_key(
    connection: Connection, device: Claim | Issued, csr: x509.CertificateSigningRequest, *, origin: str
) -> None:
    """A key belongs to one device: with one that was copied, whoever opens one of them speaks for all. Raises `Invalid`."""
    other = await enrolment_store.other_holder(connection, device.device_no, _fingerprint(csr))
    if other is not None:
        facts = {"origin": origin, "reason": "key_of_another_device", "device": device.device_id, "other": other}
        log.warning("certificate_refused", extra=facts)
        raise Invalid(Fault("csr", "csr_key_of_another_device"))


async def _demand_patience(connection: Connection, keys: Mapping[Scope, str], *, now: datetime) -> None:
    counted = await account_store.failures(connection, keys)
    wait = max((throttle.wait(scope, *each, now=now) for scope, each in counted.items()), default=timedelta(0))
    if wait > timedelta(0):
        raise TooManyAttempts("too_many_enrolments", retry_after_s=int(wait.total_seconds()) + 1)


async def _note_refusal(database: Database, refused: _Refused, *, origin: str, now: datetime) -> None:
    """A code that was right once and is not any more: somebody has read a label."""
    async with database.transaction() as connection:
        entry = Entry(
            action="enrolment_refused",
            subject=f"device:{refused.device_id}",
            unit_id=refused.unit_id,
            after={"reason": refused.reason},
        )
        await audit.record(connection, entry, actor=None, origin=origin, at=now)


async def _record(
    connection: Connection,
    issuer: Issuer,
    device: Claim | Issued,
    certificate: x509.Certificate,
    *,
    origin: str,
    renews: bytes | None,
    now: datetime,
) -> None:
    await enrolment_store.add_certificate(
        connection,
        serial=certificates.serial_as_stored(certificate.serial_number),
        device_no=device.device_no,
        issuer_key=issuer.key_id,
        public_key=_fingerprint(certificate),
        certificate=certificate.public_bytes(serialization.Encoding.DER),
        origin=origin,
        issued_at=now,
        not_after=certificate.not_valid_after_utc,
        renews=renews,
    )


def _certified(
    issuer: Issuer, device_id: DeviceId, csr: x509.CertificateSigningRequest, *, now: datetime
) -> x509.Certificate:
    try:
        return issuer.certify(device_id, csr, now=now)
    except CertificateRefused as error:
        raise Invalid(Fault("csr", CSR_FAULTS[error.reason])) from error


def _parsed(request: str) -> x509.CertificateSigningRequest:
    """The request, good to be certified. Raises `Invalid`."""
    try:
        return certificates.proven_request(request.encode("utf-8", "replace"))
    except CertificateRefused as error:
        raise Invalid(Fault("csr", CSR_FAULTS[error.reason])) from error


def _parsed_certificate(text: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode("utf-8", "replace"))
    except ValueError as error:
        raise Invalid(Fault("certificate", "not_a_certificate")) from error


def _as_issued(issued: Issued) -> Enrolled:
    return Enrolled(device_id=issued.device_id, certificate=x509.load_der_x509_certificate(issued.certificate))


def _fingerprint(holder: x509.CertificateSigningRequest | x509.Certificate) -> bytes:
    """SHA-256 of the public key."""
    encoded = holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()


def _facts(certificate: x509.Certificate) -> dict[str, str]:
    return {"serial": f"{certificate.serial_number:x}", "not_after": certificate.not_valid_after_utc.isoformat()}
