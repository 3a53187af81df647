"""A private public-key infrastructure in one folder, for running everything on one machine.

It is what a province would keep apart: both certificate authorities, the broker's and the services' certificates, the
revocation lists and the two Ed25519 keys that plans are signed with. Preparing it again keeps what is still good and
renews what is near its end, so a data folder that lay unused for a year starts as well as a new one.

Folders are 0700 and every file is 0600: the folder belongs to whoever runs the platform. The broker, which may run as
somebody else, is given copies of what it needs (`services.local.broker`). With a passphrase, the keys that make devices,
services and key sets (`Pki.authority_keys`) are encrypted besides (`services.local.key_files`).

Nothing here knows the time; `now` is an argument.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from schemas.identifiers import DeviceId
from services.control.trust import certificates
from services.control.trust.certificates import Authority, Revocation, ServiceName, ServiceUser
from services.local import key_files
from services.local.key_files import write_private

BROKER_NAMES = ("localhost", "127.0.0.1", "::1")

CRL_VALIDITY = timedelta(days=30)
"""How long the broker accepts anybody without a new list; `prepare` replaces a list in the second half of its life."""


class PkiDamaged(Exception):
    """A file that cannot be made anew without losing what it said; the message names it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Pki:
    """Where everything is; the files exist once `prepare` has returned. `passphrase` opens the keys of the authority."""

    directory: Path
    passphrase: bytes | None = field(default=None, repr=False)

    @property
    def device_ca(self) -> Path:
        """The certificate that the broker's device listener trusts."""
        return self.directory / "device-ca.pem"

    @property
    def device_ca_key(self) -> Path:
        """What device certificates are signed with."""
        return self.directory / "device-ca.key"

    @property
    def device_crl(self) -> Path:
        """Device certificates that are no longer good."""
        return self.directory / "device-ca.crl"

    @property
    def issuing_ca(self) -> Path:
        """The certificate of the authority for devices that enrol, which control is given."""
        return self.directory / "issuing-ca.pem"

    @property
    def issuing_ca_key(self) -> Path:
        """What control signs certificates of devices with."""
        return self.directory / "issuing-ca.key"

    @property
    def issuing_crl(self) -> Path:
        """Where a control on the same machine writes its list of revoked certificates."""
        return self.directory / "issuing-ca.crl"

    @property
    def service_ca(self) -> Path:
        """The certificate that the broker's service listener and every client that talks to the broker trust."""
        return self.directory / "service-ca.pem"

    @property
    def service_ca_key(self) -> Path:
        """What service and server certificates are signed with."""
        return self.directory / "service-ca.key"

    @property
    def service_crl(self) -> Path:
        """Service certificates that are no longer good."""
        return self.directory / "service-ca.crl"

    @property
    def broker(self) -> Identity:
        """The broker's server certificate."""
        return _identity(self.directory, "broker")

    def service(self, name: ServiceName) -> Identity:
        """The client certificate of one of our services."""
        return _identity(self.directory / "services", name.value)

    def service_user(self, name: ServiceName) -> ServiceUser:
        """The user name of one of our services, which the broker's access list has to name."""
        certificate = x509.load_pem_x509_certificate(self.service(name).certificate.read_bytes())
        return ServiceUser.parse(certificates.common_name(certificate))

    def device(self, device_id: DeviceId) -> Identity:
        """The client certificate of a device; exists once `issue_devices` has been asked for it."""
        return _identity(self.directory / "devices", device_id)

    @property
    def root_signing_key(self) -> Path:
        """Ed25519 key that signs `keys` messages; devices are provisioned with `root_public_key`."""
        return self.directory / "signing" / "root.key"

    @property
    def root_public_key(self) -> Path:
        """What a device is provisioned with, PEM (SubjectPublicKeyInfo)."""
        return self.directory / "signing" / "root.pub"

    @property
    def platform_signing_key(self) -> Path:
        """Ed25519 key that signs plans, configuration, commands and alerts."""
        return self.directory / "signing" / "platform.key"

    @property
    def platform_public_key(self) -> Path:
        """What a `keys` message carries, here as PEM (SubjectPublicKeyInfo)."""
        return self.directory / "signing" / "platform.pub"

    @property
    def authority_keys(self) -> tuple[Path, ...]:
        """The keys that everything else rests on, which are worth a passphrase."""
        return (
            self.device_ca_key,
            self.issuing_ca_key,
            self.service_ca_key,
            self.root_signing_key,
            self.platform_signing_key,
        )


def prepare(
    directory: Path, *, now: datetime, broker_names: Sequence[str] = BROKER_NAMES, passphrase: bytes | None = None
) -> Pki:
    """Return the infrastructure in `directory`, made or renewed as needed.

    `broker_names` are the host names and addresses the broker is reached by; a certificate that lacks one is replaced.
    An authority too old to outlive a fresh service certificate is replaced, and with it everything it has signed. Keys of
    the authority that are made now are encrypted with `passphrase`; raises `KeyLocked` where those there are need another.
    """
    pki = Pki(directory, passphrase)
    for folder in (directory, directory / "services", directory / "devices", directory / "signing"):
        _make_private_directory(folder)

    device_ca, _, service_ca = (
        _ensure_authority(certificate, key, make, passphrase, now=now)
        for certificate, key, make in (
            (pki.device_ca, pki.device_ca_key, certificates.make_device_ca),
            (pki.issuing_ca, pki.issuing_ca_key, certificates.make_issuing_ca),
            (pki.service_ca, pki.service_ca_key, certificates.make_service_ca),
        )
    )
    _ensure_crl(pki.device_crl, device_ca, now=now)
    _ensure_crl(pki.service_crl, service_ca, now=now)

    if not _is_good(pki.broker, service_ca, now=now) or not _answers_to(pki.broker, broker_names):
        key = certificates.new_key()
        certificate = certificates.issue_server_certificate(service_ca, broker_names, key.public_key(), now=now)
        _write_identity(pki.broker, certificate, certificates.key_pem(key))
    for name in ServiceName:
        user = _service_user(pki.service(name), service_ca)
        if user is None or not _is_good(pki.service(name), service_ca, now=now):
            key = certificates.new_key()
            user = user or ServiceUser.new(name)
            certificate = certificates.issue_service_certificate(service_ca, user, key.public_key(), now=now)
            _write_identity(pki.service(name), certificate, certificates.key_pem(key))

    ensure_signing_key(pki.root_signing_key, pki.root_public_key, passphrase)
    ensure_signing_key(pki.platform_signing_key, pki.platform_public_key, passphrase)
    return pki


def issue_devices(pki: Pki, device_ids: Iterable[DeviceId], *, now: datetime) -> Mapping[DeviceId, Identity]:
    """Return a certificate for each of `device_ids`, made now unless a good one is already there."""
    ca = _load_authority(pki.device_ca, pki.device_ca_key, pki.passphrase)
    identities = {device_id: pki.device(device_id) for device_id in device_ids}
    for device_id, identity in identities.items():
        if not _is_good(identity, ca, now=now):
            key = certificates.new_key()
            certificate = certificates.issue_device_certificate(ca, device_id, key.public_key(), now=now)
            _write_identity(identity, certificate, certificates.key_pem(key))
    return identities


def revoke(pki: Pki, device_id: DeviceId, *, now: datetime) -> None:
    """Put the current certificate of `device_id` on the device revocation list; the broker has to reload it.

    Raises OSError when the device has no certificate here.
    """
    serial = x509.load_pem_x509_certificate(pki.device(device_id).certificate.read_bytes()).serial_number
    ca = _load_authority(pki.device_ca, pki.device_ca_key, pki.passphrase)
    _replace_crl(pki.device_crl, ca, [Revocation(serial=serial, revoked_at=now)], now=now)


def _identity(folder: Path, name: str) -> Identity:
    return Identity(folder / f"{name}.pem", folder / f"{name}.key")


def _ensure_authority(
    certificate: Path, key: Path, make: Callable[..., Authority], passphrase: bytes | None, *, now: datetime
) -> Authority:
    try:
        authority = _load_authority(certificate, key, passphrase)
    except (FileNotFoundError, ValueError):
        pass  # never made, or interrupted between its two files: without its key it is of no use
    else:
        if authority.certificate.not_valid_after_utc - now > certificates.DEVICE_VALIDITY:
            return authority
    authority = make(now=now)
    write_private(key, key_files.pem(authority.key, passphrase))
    write_private(certificate, certificates.certificate_pem(authority.certificate))
    return authority


def _load_authority(certificate: Path, key: Path, passphrase: bytes | None) -> Authority:
    # A passphrase that does not fit is no reason to make another authority: `KeyLocked` is not caught on the way.
    opened = key_files.load(key, passphrase)
    return certificates.parse_authority(certificate.read_bytes(), key_files.pem(opened, None))


def _ensure_crl(path: Path, ca: Authority, *, now: datetime) -> None:
    crl = _load_crl(path, ca)
    if crl is None or crl.next_update_utc is None or crl.next_update_utc - now < CRL_VALIDITY / 2:
        _replace_crl(path, ca, [], now=now)


def _replace_crl(path: Path, ca: Authority, added: Iterable[Revocation], *, now: datetime) -> None:
    """Write a list with everything on the old one and `added`."""
    crl = _load_crl(path, ca)
    entries: dict[int, Revocation] = {}
    number = 1
    if crl is not None:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        for old in crl:
            entries[old.serial_number] = Revocation(serial=old.serial_number, revoked_at=old.revocation_date_utc)
    for new in added:
        entries.setdefault(new.serial, new)
    replacement = certificates.make_crl(ca, entries.values(), now=now, next_update=now + CRL_VALIDITY, number=number)
    write_private(path, certificates.crl_pem(replacement))


def _load_crl(path: Path, ca: Authority) -> x509.CertificateRevocationList | None:
    """Return the list in `path`, or None when there is none or another authority signed it.

    A damaged list is not replaced: a new one would let everybody in again whom the old one had shut out.
    """
    try:
        crl = x509.load_pem_x509_crl(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PkiDamaged(f"{path} is not a revocation list; restore it, or delete it to revoke nothing") from error
    return crl if crl.is_signature_valid(ca.key.public_key()) else None


def _is_good(identity: Identity, ca: Authority, *, now: datetime) -> bool:
    """Whether `identity` is whole, was signed by `ca` and has more than a third of its life before it."""
    try:
        certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
        key = serialization.load_pem_private_key(identity.key.read_bytes(), password=None)
        certificate.verify_directly_issued_by(ca.certificate)
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return key.public_key() == certificate.public_key() and certificate.not_valid_after_utc - now > life / 3


def _service_user(identity: Identity, ca: Authority) -> ServiceUser | None:
    """Return the name in a certificate of `ca`, expired or not: a renewed one keeps it. None when there is none."""
    try:
        certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
        certificate.verify_directly_issued_by(ca.certificate)
        return ServiceUser.parse(certificates.common_name(certificate))
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return None


def _answers_to(identity: Identity, names: Sequence[str]) -> bool:
    """Whether a client that connects to any of `names` would accept the certificate."""
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return set(names) <= {str(each.value) for each in alternatives}


def _write_identity(identity: Identity, certificate: x509.Certificate, key: bytes) -> None:
    write_private(identity.key, key)
    write_private(identity.certificate, certificates.certificate_pem(certificate))


def ensure_signing_key(private: Path, public: Path, passphrase: bytes | None = None) -> None:
    """Make an Ed25519 key pair unless both halves are there. Raises `KeyLocked` when the passphrase does not open it."""
    if private.exists() and public.exists():
        load_signing_key(private, passphrase)
        return
    key = ed25519.Ed25519PrivateKey.generate()
    write_private(private, key_files.pem(key, passphrase))
    write_private(
        public,
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def load_signing_key(path: Path, passphrase: bytes | None = None) -> ed25519.Ed25519PrivateKey:
    """Return an Ed25519 key. Raises `KeyLocked`, and `PkiDamaged` when it is another kind of key or none."""
    try:
        key = key_files.load(path, passphrase)
    except ValueError as error:
        raise PkiDamaged(f"{path} is not a private key; restore it") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise PkiDamaged(f"{path} is not an Ed25519 key; restore it")
    return key


def _make_private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
