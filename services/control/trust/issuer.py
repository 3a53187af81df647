"""The authority that control may hold to certify devices which enrol, and what it tells them besides.

Its key comes by setting only, encrypted with a passphrase from elsewhere. It is not the authority that a factory's
devices are certified by: that one stays offline, and outlives a theft of this one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas import signing
from schemas.errors import SignatureError
from schemas.identifiers import DeviceId
from schemas.keys import KeySet
from services.control.engine_settings import EnrolmentSettings
from services.control.errors import ControlError
from services.control.trust import certificates
from services.control.trust.certificates import Authority
from services.control.trust.keyring import Keyring

log = logging.getLogger(__name__)


class IssuerError(ControlError):
    """The authority, or what devices are to be told, cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Certifies devices, and knows what an enrolled device has to be told."""

    authority: Authority
    root_public_key: bytes
    broker_host: str
    broker_port: int
    broker_ca: str
    validity: timedelta

    @property
    def key_id(self) -> bytes:
        """The authority's key identifier."""
        return x509.SubjectKeyIdentifier.from_public_key(self.authority.key.public_key()).digest

    @property
    def chain(self) -> str:
        """The authority's certificate, PEM."""
        return certificates.certificate_pem(self.authority.certificate).decode("ascii")

    def certify(
        self, device_id: DeviceId, request: x509.CertificateSigningRequest, *, now: datetime
    ) -> x509.Certificate:
        """Return a certificate of `device_id` over the request's key; raises `CertificateRefused`."""
        return certificates.issue_device_certificate(
            self.authority, device_id, request, now=now, valid_for=self.validity
        )

    def has_signed(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate is one of this authority."""
        try:
            certificate.verify_directly_issued_by(self.authority.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def load_issuer(settings: EnrolmentSettings, *, keyring: Keyring, broker_ca_file: Path) -> Issuer | None:
    """Return the authority of the settings, or None when there is none.

    Raises `IssuerError`, also when the root key is not the one that signed the key set devices are given.
    """
    if settings.ca_file is None or settings.ca_key_file is None or settings.root_key_file is None:
        return None
    passphrase = settings.ca_key_passphrase.get_secret_value().encode() if settings.ca_key_passphrase else None
    try:
        authority = certificates.parse_authority(
            settings.ca_file.read_bytes(), settings.ca_key_file.read_bytes(), passphrase
        )
    except (OSError, TypeError, ValueError) as error:
        raise IssuerError(
            f"CONTROL_ENROLMENT__CA_FILE {settings.ca_file} and …__CA_KEY_FILE {settings.ca_key_file} are no authority that"
            f" can be opened ({error}): is CONTROL_ENROLMENT__CA_KEY_PASSPHRASE the one the key is encrypted with?"
        ) from error
    if passphrase is None:
        log.warning("issuing_key_not_encrypted", extra={"file": str(settings.ca_key_file)})
    try:
        root = serialization.load_pem_public_key(settings.root_key_file.read_bytes())
        broker_ca = broker_ca_file.read_text("ascii")
    except (OSError, ValueError) as error:
        raise IssuerError(
            f"CONTROL_ENROLMENT__ROOT_KEY_FILE {settings.root_key_file} or CONTROL_BROKER__CA_FILE {broker_ca_file}"
            f" cannot be read: {error}"
        ) from error
    if not isinstance(root, Ed25519PublicKey):
        raise IssuerError(f"CONTROL_ENROLMENT__ROOT_KEY_FILE {settings.root_key_file}: not an Ed25519 key")
    try:
        signing.verify(KeySet, keyring.announced.message, {signing.key_id(root): root})
    except SignatureError as error:
        raise IssuerError(
            f"CONTROL_ENROLMENT__ROOT_KEY_FILE {settings.root_key_file} did not sign the key set that devices are given"
            " (CONTROL_SIGNING__KEYS_FILE): both come from one `./loa installation prepare`"
        ) from error
    return Issuer(
        authority=authority,
        root_public_key=root.public_bytes_raw(),
        broker_host=settings.broker_host,
        broker_port=settings.broker_port,
        broker_ca=broker_ca,
        validity=settings.certificate_validity,
    )
