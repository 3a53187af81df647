"""X.509 certificates of devices, services and the broker: what Loa signs, and nothing it was merely asked to sign.

Two authorities, so that a name can only mean one thing. The *device CA* signs device certificates, whose common name is
the device id and therefore the MQTT user name, the client id and the topic level the broker lets the device use. The
*service CA* signs the broker's server certificate and the client certificates of our own services. Each broker listener
trusts exactly one of them.

Control decides the subject. Of a certificate signing request only the public key and the proof that its sender holds the
private key are used; the name and the extensions it asks for are ignored, because a device that could choose its name
could choose to be another device.

The broker has one access list for both listeners (DECISIONS.md says why), so its rules cannot tell through which door
somebody came. Therefore a service's name is one that the device CA does not sign, because of its colon, and that whoever
has stolen the device CA cannot guess: see `ServiceUser`.

Everything here is computed from its arguments, except keys and serial numbers, which are random. The instant is an
argument. Certificates carry what OpenSSL's strict checks (X509_V_FLAG_X509_STRICT, the default of Python 3.13) ask for:
key identifiers on both sides, critical basic constraints and key usage.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.identifiers import DeviceId

# A device whose clock is behind must still accept a server certificate issued a moment ago, and the broker a CRL.
BACKDATE = timedelta(days=1)
CA_VALIDITY = timedelta(days=3650)  # devices are provisioned with the service CA and stay in the field for years
DEVICE_VALIDITY = timedelta(days=397)
SERVICE_VALIDITY = timedelta(days=90)


class ServiceName(enum.StrEnum):
    """Which of our services."""

    INGEST = "ingest"
    CONTROL = "control"
    MONITOR = "monitor"


class ServiceUser(str):
    """User name of a service at the broker, and common name of its certificate: `ingest:` and 32 hexadecimal digits."""

    __slots__ = ()

    @classmethod
    def new(cls, service: ServiceName) -> Self:
        """Return a fresh name for `service`; nobody can guess it who has not seen a certificate or the access list."""
        return cls(f"{service.value}:{secrets.token_hex(16)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a service's user name; raises `ValueError`."""
        if not _SERVICE_USER.fullmatch(text):
            raise ValueError(f"{text[:64]!r} is not the user name of a service")
        return cls(text)

    @property
    def service(self) -> ServiceName:
        """Whose name it is."""
        return ServiceName(self.partition(":")[0])


_SERVICE_USER = re.compile(rf"(?:{'|'.join(ServiceName)}):[0-9a-f]{{32}}", re.ASCII)


class RefusalReason(enum.StrEnum):
    """Why a request for a certificate was refused."""

    MALFORMED = "malformed"
    NO_PROOF_OF_POSSESSION = "no_proof_of_possession"
    UNSUPPORTED_KEY = "unsupported_key"


class CertificateRefused(Exception):
    """A certificate was asked for with a request or key that cannot be certified."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority: its own certificate and the key it signs with."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One entry of a revocation list."""

    serial: int
    revoked_at: datetime


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key, the only kind we certify: small handshakes on devices, known to every TLS stack."""
    return ec.generate_private_key(ec.SECP256R1())


def make_device_ca(*, now: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> Authority:
    """Return a new authority for device certificates."""
    return _make_ca("Loa device CA", now=now, key=key or new_key())


def make_issuing_ca(*, now: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> Authority:
    """Return a new authority for devices that enrol: the one that control may hold, so that the other stays offline."""
    return _make_ca("Loa enrolment CA", now=now, key=key or new_key())


def make_service_ca(*, now: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> Authority:
    """Return a new authority for the broker and our services."""
    return _make_ca("Loa service CA", now=now, key=key or new_key())


def issue_device_certificate(
    ca: Authority,
    device_id: DeviceId,
    proof: x509.CertificateSigningRequest | ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    valid_for: timedelta = DEVICE_VALIDITY,
) -> x509.Certificate:
    """Return the certificate of `device_id` over the key in `proof`, good for connecting to the broker and nothing else.

    Raises `CertificateRefused` when a request is not signed by its own key or the key is not P-256, and
    `InvalidIdentifier` when the id is reserved or malformed. The id is checked here again although its type promises it:
    this signature is what the broker's access rules rest on.
    """
    name = DeviceId.parse(device_id)
    return _issue(
        ca,
        common_name=str(name),
        public_key=_proven_key(proof),
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        now=now,
        valid_for=valid_for,
    )


def issue_canary(
    ca: Authority, number: int, public_key: ec.EllipticCurvePublicKey, *, now: datetime, valid_for: timedelta
) -> x509.Certificate:
    """Return a certificate to be put on revocation list `number`: who refuses it as revoked has that list in force.

    Its name holds a colon, so it is no device's.
    """
    return _issue(
        ca,
        common_name=f"canary:{number}",
        public_key=_proven_key(public_key),
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        now=now,
        valid_for=valid_for,
    )


def issue_service_certificate(
    ca: Authority,
    user: ServiceUser,
    public_key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    valid_for: timedelta = SERVICE_VALIDITY,
) -> x509.Certificate:
    """Return the client certificate of one of our services; raises `ValueError` when `user` is no service's name."""
    return _issue(
        ca,
        common_name=ServiceUser.parse(user),
        public_key=_proven_key(public_key),
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        now=now,
        valid_for=valid_for,
    )


def issue_server_certificate(
    ca: Authority,
    names: Sequence[str],
    public_key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    valid_for: timedelta = SERVICE_VALIDITY,
) -> x509.Certificate:
    """Return a server certificate for `names` (host names and IP addresses); the first one is also its common name."""
    return _issue(
        ca,
        common_name=names[0],
        public_key=_proven_key(public_key),
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        now=now,
        valid_for=valid_for,
        names=names,
    )


def make_crl(
    ca: Authority,
    revoked: Iterable[Revocation],
    *,
    now: datetime,
    next_update: datetime,
    number: int,
) -> x509.CertificateRevocationList:
    """Return the list of certificates of `ca` that are no longer good.

    Past `next_update` the broker refuses every new connection, not only revoked ones, so whoever publishes a list also
    has to replace it in time. `number` grows with every list (RFC 5280, 5.2.3).
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(_seconds(now - BACKDATE))
        .next_update(_seconds(next_update))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for entry in sorted(revoked, key=lambda entry: entry.serial):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(entry.serial)
            .revocation_date(_seconds(entry.revoked_at))
            .build()
        )
    return builder.sign(ca.key, hashes.SHA256())


def parse_csr(data: bytes) -> x509.CertificateSigningRequest:
    """Return the signing request in `data`, PEM or DER; raises `CertificateRefused`."""
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_csr(data)
        return x509.load_der_x509_csr(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateRefused(RefusalReason.MALFORMED, "not a certificate signing request") from error


def proven_request(data: bytes) -> x509.CertificateSigningRequest:
    """Return the request in `data` if its own P-256 key has signed it; raises `CertificateRefused`."""
    request = parse_csr(data)
    _proven_key(request)
    return request


def common_name(certificate: x509.Certificate) -> str:
    """Return the name the broker will know the holder of `certificate` by; raises `ValueError` when it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise ValueError("the certificate's subject has no single common name")
    return names[0].value


def serial_as_stored(number: int) -> bytes:
    """Return a serial number as it is stored: big-endian, as short as can be."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return `certificate` in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def crl_pem(crl: x509.CertificateRevocationList) -> bytes:
    """Return `crl` in PEM."""
    return crl.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return `key` in PEM (PKCS 8), encrypted with `passphrase`; without one, the file's mode has to protect it."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption(passphrase))


def encryption(passphrase: bytes | None) -> serialization.KeySerializationEncryption:
    """How a private key is written: encrypted, where there is a passphrase."""
    return serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()


def parse_authority(certificate: bytes, key: bytes, passphrase: bytes | None = None) -> Authority:
    """Return the authority written as two PEM texts.

    Raises `ValueError` when they do not belong together or the passphrase is missing, wrong or not needed.
    """
    parsed_certificate = x509.load_pem_x509_certificate(certificate)
    try:
        parsed_key = serialization.load_pem_private_key(key, password=passphrase)
    except TypeError as error:  # encrypted and no passphrase given, or the other way round
        raise ValueError(str(error)) from error
    if not isinstance(parsed_key, ec.EllipticCurvePrivateKey):
        raise ValueError("an authority signs with an elliptic-curve key")
    if parsed_key.public_key() != parsed_certificate.public_key():
        raise ValueError("the key is not the one in the authority's certificate")
    return Authority(certificate=parsed_certificate, key=parsed_key)


def _make_ca(common_name: str, *, now: datetime, key: ec.EllipticCurvePrivateKey) -> Authority:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_seconds(now - BACKDATE))
        .not_valid_after(_seconds(now + CA_VALIDITY))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate=certificate, key=key)


def _issue(
    ca: Authority,
    *,
    common_name: str,
    public_key: ec.EllipticCurvePublicKey,
    usage: x509.ObjectIdentifier,
    now: datetime,
    valid_for: timedelta,
    names: Sequence[str] = (),
) -> x509.Certificate:
    # A leaf that outlives its authority fails at a moment nobody has in the calendar.
    not_after = min(_seconds(now + valid_for), ca.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(ca.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_seconds(now - BACKDATE))
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), False)
    return builder.sign(ca.key, hashes.SHA256())


def _proven_key(proof: x509.CertificateSigningRequest | ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
    key: object = proof
    if isinstance(proof, x509.CertificateSigningRequest):
        try:
            proven, key = proof.is_signature_valid, proof.public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise CertificateRefused(RefusalReason.UNSUPPORTED_KEY, "expected a P-256 key") from error
        if not proven:
            raise CertificateRefused(RefusalReason.NO_PROOF_OF_POSSESSION, "the request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateRefused(RefusalReason.UNSUPPORTED_KEY, "expected a P-256 key")
    return key


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _seconds(instant: datetime) -> datetime:
    """Return `instant` in UTC as X.509 can carry it: whole seconds."""
    return instant.astimezone(UTC).replace(microsecond=0)
