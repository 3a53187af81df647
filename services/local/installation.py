"""`./loa installation`: what a real installation needs before its first start, and what has to be renewed later.

Two folders, kept apart. The *authority* makes devices and services: both certificate authorities and the root signing
key. It belongs on a machine that is not reachable from outside. The *site* is what the servers get: passwords, the
certificates of broker and services, the signed key set, the broker's configuration. Nothing in it can make another
signing key, and devices only through the authority of enrolment, whose key is encrypted and which can be given up
without touching a device that was certified offline.

Doing it again keeps what is still good and renews the rest, so the same command belongs into a weekly job. It reads
`broker_config/`, so it runs from a checkout, not from an installed wheel.
"""

import base64
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName
from services.control.trust.keyring import KeyringError, parse_key_set
from services.control.trust.secret_box import KEY_BYTES
from services.local import broker, key_files, key_sets, pki
from services.local.directories import make_passable
from services.local.key_files import KeyLocked
from services.local.pki import Pki

# The ports of MQTT over TLS; clients of the service listener are our own (Settings.broker.port).
DEVICE_PORT = 8883
SERVICE_PORT = 8884
DATABASE_OWNER = "loa_owner"
DATABASE = "loa"

# A save of the plans of a province takes a quarter of a second, in which the broker does nothing else.
AUTOSAVE = timedelta(seconds=60)
# How often the broker tells of its own numbers; ingest reads what was dropped from them.
SYS_INTERVAL = timedelta(seconds=10)

# Keys that control signs with, and the files with what they are encrypted with.
ENCRYPTED = {"platform.key": "platform_key_passphrase", "issuing-ca.key": "issuing_ca_passphrase"}


class InstallationRefused(Exception):
    """What was asked for cannot be done; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Whose the files of a site are (user and group id); None leaves them to whoever runs this."""

    services: tuple[int, int] | None = None
    broker: tuple[int, int] | None = None
    database: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What differs between running in containers and on a host."""

    broker_aliases: tuple[str, ...]
    database: str
    owners: Owners


# Numbers of the images' users: deploy/Dockerfile, eclipse-mosquitto, timescale/timescaledb (Alpine's postgres). The
# broker's group is that of our services, so that ingest can read its log.
IN_CONTAINERS = Surroundings(
    broker_aliases=("broker",),
    database="database:5432",
    owners=Owners(services=(10001, 10001), broker=(1883, 10001), database=(70, 70)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One installation as it was asked for."""

    site: Path
    authority: Path
    broker_names: tuple[str, ...]
    surroundings: Surroundings
    database: str
    device_connections: int
    logs_refusals: bool
    passphrase: bytes | None = field(default=None, repr=False)  # of the authority


def prepare(request: Request, *, now: datetime) -> None:
    """Make or renew both folders.

    Raises `InstallationRefused`, `KeyLocked` and `PkiDamaged`; what was there is then as it was, or renewed in part.
    """
    names = (*request.broker_names, *request.surroundings.broker_aliases, *pki.BROKER_NAMES)
    # Every name once, in order: the first is also the certificate's common name.
    authority = pki.prepare(
        request.authority, now=now, broker_names=tuple(dict.fromkeys(names)), passphrase=request.passphrase
    )
    keys = key_sets.current(authority, now=now)
    owners = request.surroundings.owners
    make_passable(request.site)  # the broker has to get through to its own folder
    _own_folder(request.site / "secrets", None)
    _own_folder(request.site / "broker", owners.broker)
    certificates = _own_folder(request.site / "broker" / "certificates", owners.broker)
    for name, content in _broker_files(request, authority).items():
        _place(request.site / "broker" / name, content, owners.broker)
    for name, content in _broker_certificates(authority).items():
        _place(certificates / name, content, owners.broker)
    _place_secrets(request, authority, keys)


def issue_devices(
    authority: Path,
    folder: Path,
    devices: Sequence[tuple[DeviceId, DeviceKind]],
    *,
    passphrase: bytes | None = None,
    now: datetime,
) -> None:
    """Write certificate and key of each device, what it has to trust, and a manifest for the simulator."""
    infrastructure = existing(authority, passphrase)
    issued = pki.issue_devices(infrastructure, [device for device, _ in devices], now=now)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for device, identity in issued.items():
        _place(folder / f"{device}.pem", identity.certificate.read_bytes(), None)
        _place(folder / f"{device}.key", identity.key.read_bytes(), None)
    root = key_sets.root_public_key(infrastructure).hex()
    _place(folder / "broker-ca.pem", infrastructure.service_ca.read_bytes(), None)
    _place(folder / "root-public-key.hex", f"{root}\n".encode(), None)
    _place(folder / "fleet.json", _manifest(root, devices).encode(), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """When one file of a site stops being good."""

    path: Path
    at: datetime


def expiries(site: Path) -> tuple[Expiry, ...]:
    """When each certificate, revocation list and key set of a site ends, the next one first.

    Raises `InstallationRefused` when there is none: a check that looks at nothing must not pass.
    """
    found = tuple(sorted(_expiries(site), key=lambda each: (each.at, each.path)))
    if not found:
        raise InstallationRefused(f"there is no certificate below {site}")
    return found


# --- what goes where ---------------------------------------------------------------------------------------------------


def _place_secrets(request: Request, authority: Pki, keys: bytes) -> None:
    folder = request.site / "secrets"
    owners = request.surroundings.owners
    owner = _password(folder / "database_owner_password", owners.database)
    ingest = _password(folder / "ingest_database_password", owners.services)
    control = _password(folder / "control_database_password", owners.services)
    _password(folder / "shared_group", owners.services)
    _secret_keys(folder / "secret_keys", owners.services)
    texts = {
        "migrate_database_url": _url(DATABASE_OWNER, owner, request),
        "ingest_database_url": _url("loa_ingest", ingest, request),
        "control_database_url": _url("loa_control", control, request),
    }
    for name, text in texts.items():
        _place(folder / name, f"{text}\n".encode(), owners.services)
    for service in ServiceName:
        identity = authority.service(service)
        # The broker's health check connects as the monitor, from inside the broker's container.
        to = owners.broker if service is ServiceName.MONITOR else owners.services
        _place(folder / f"{service.value}.pem", identity.certificate.read_bytes(), to)
        _place(folder / f"{service.value}.key", identity.key.read_bytes(), to)
    _place_issuing_authority(folder, authority, owners)
    _place(folder / "service-ca.pem", authority.service_ca.read_bytes(), owners.services)
    _place_encrypted(folder, "platform.key", authority.platform_signing_key, authority, owners)
    _place(folder / "keys.cose", keys, owners.services)


def _place_issuing_authority(folder: Path, authority: Pki, owners: Owners) -> None:
    """The authority that control certifies devices with."""
    _place(folder / "issuing-ca.pem", authority.issuing_ca.read_bytes(), owners.services)
    _place_encrypted(folder, "issuing-ca.key", authority.issuing_ca_key, authority, owners)
    _place(folder / "root.pub", authority.root_public_key.read_bytes(), owners.services)


def _place_encrypted(folder: Path, name: str, key: Path, authority: Pki, owners: Owners) -> None:
    """A key of the authority that control needs, under a passphrase of the site, which may be kept elsewhere."""
    passphrase = _password(folder / ENCRYPTED[name], owners.services).encode()
    opened, place = key_files.load(key, authority.passphrase), folder / name
    encrypted = key_files.pem(opened, passphrase)
    try:
        held = place.read_bytes()
        if key_files.is_encrypted(held) and key_files.load(place, passphrase).public_key() == opened.public_key():
            encrypted = held  # each encryption is another text; this one is still good
    except (FileNotFoundError, KeyLocked, ValueError):
        pass
    _place(place, encrypted, owners.services)


def _broker_files(request: Request, authority: Pki) -> dict[str, bytes]:
    template = (broker.CONFIGURATION / "mosquitto.conf.template").read_text("utf-8")
    values = {
        "DEVICE_PORT": str(DEVICE_PORT),
        "SERVICE_PORT": str(SERVICE_PORT),
        "BIND": "",  # every address, IPv4 and IPv6
        "DEVICE_CONNECTIONS": str(request.device_connections),
        "AUTOSAVE_SECONDS": str(round(AUTOSAVE.total_seconds())),
        "QUEUED_MESSAGES": str(broker.QUEUED_MESSAGES),
        "SYS_SECONDS": str(round(SYS_INTERVAL.total_seconds())),
        # The file is for ingest, which counts refusals in it; standard output is for people.
        "LOG_DEST": "stdout\nlog_dest file log/mosquitto.log",
        "LOG_DENIED_PUBLISHES": "log_type debug" if request.logs_refusals else "",
    }
    return {
        "mosquitto.conf": broker.render(template, values).encode(),
        "access.acl": broker.access_rules(authority),
        "follow-lists": (broker.CONFIGURATION / "follow-lists").read_bytes(),
    }


def _broker_certificates(authority: Pki) -> dict[str, bytes]:
    files = {
        "device-ca.crl": authority.device_crl,
        "service-ca.pem": authority.service_ca,
        "service-ca.crl": authority.service_crl,
        "broker.key": authority.broker.key,
        "broker.pem": authority.broker.certificate,
    }
    return {
        "device-ca.pem": broker.device_authorities(authority),
        **{name: path.read_bytes() for name, path in files.items()},
    }


def _url(user: str, password: str, request: Request) -> str:
    return f"postgresql://{user}:{password}@{request.database}/{DATABASE}"


def _password(path: Path, owner: tuple[int, int] | None) -> str:
    """The password in `path`, drawn now if there is none. Letters, digits, - and _: it stands in URLs and topics."""
    text = path.read_text("ascii").strip() if path.exists() else ""
    if not text:
        text = secrets.token_urlsafe(24)
    _place(path, f"{text}\n".encode(), owner)
    return text


def _secret_keys(path: Path, owner: tuple[int, int] | None) -> None:
    """The keys that seal secrets of authenticator apps, with one drawn now if there is none; others are put in by hand."""
    content = path.read_bytes() if path.exists() else base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"
    _place(path, content, owner)


def _own_folder(path: Path, owner: tuple[int, int] | None) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner is not None:
        os.chown(path, *owner)
    return path


def _place(path: Path, content: bytes, owner: tuple[int, int] | None) -> None:
    """Replace `path` whole with a file that only `owner` can read; a broker reading it sees the old or the new."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(descriptor, *owner)
        file.write(content)
    fresh.replace(path)


# --- details ---------------------------------------------------------------------------------------------------------------


def existing(authority: Path, passphrase: bytes | None = None) -> Pki:
    """The authority in a folder; raises `InstallationRefused` when there is none."""
    infrastructure = Pki(authority, passphrase)
    if not infrastructure.device_ca_key.exists():
        raise InstallationRefused(f"{authority} holds no authority; `./loa installation prepare` makes one")
    return infrastructure


def _manifest(root: str, devices: Sequence[tuple[DeviceId, DeviceKind]]) -> str:
    entries = [
        {"id": str(device), "kind": kind.name.lower(), "certificate": f"{device}.pem", "key": f"{device}.key"}
        for device, kind in devices
    ]
    return json.dumps({"version": 1, "root_public_key": root, "devices": entries}, indent=1) + "\n"


def _expiries(site: Path) -> Iterator[Expiry]:
    for path in site.rglob("*.pem"):
        yield Expiry(path=path, at=x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc)
    for path in site.rglob("*.crl"):
        ends = x509.load_pem_x509_crl(path.read_bytes()).next_update_utc
        yield Expiry(path=path, at=ends or datetime.max.replace(tzinfo=UTC))
    for path in site.rglob("keys.cose"):
        try:
            yield Expiry(path=path, at=parse_key_set(path.read_bytes(), source=str(path)).valid_until)
        except KeyringError as error:
            raise InstallationRefused(str(error)) from error
