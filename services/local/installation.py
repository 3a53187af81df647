"""`./loa installation`: what a real installation needs before its first start, and what has to be renewed later.

Two folders, kept apart. The *authority* makes devices and services: both certificate authorities and the root signing
key. It belongs on a machine that is not reachable from outside. The *site* is what the servers get: passwords, the
certificates of broker and services, the signed key set, the broker's configuration. Nothing in it can make another
signing key, and devices only through the authority of enrolment, whose key is encrypted and which can be given up
without touching a device that was certified offline.

Doing it again keeps what is still good and renews the rest, so the same command belongs into a weekly job. It reads
`broker_config/`, so it runs from a checkout, not from an installed wheel.
"""

import argparse
import json
import os
import pwd
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from schemas.errors import InvalidIdentifier
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName, key_pem, parse_authority
from services.local import broker, key_sets, pki
from services.local.directories import make_passable
from services.local.pki import Pki, PkiDamaged
from services.shared.clock import utc_now

# The ports of MQTT over TLS; clients of the service listener are our own (Settings.broker.port).
DEVICE_PORT = 8883
SERVICE_PORT = 8884
DATABASE_OWNER = "loa_owner"
DATABASE = "loa"

# A save of the plans of a province takes a quarter of a second, in which the broker does nothing else.
AUTOSAVE = timedelta(seconds=60)
# How often the broker tells of its own numbers; ingest reads what was dropped from them.
SYS_INTERVAL = timedelta(seconds=10)

WARN_BEFORE = timedelta(days=14)

_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*|[0-9a-f:.]{2,45}", re.ASCII)


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


def prepare(request: Request, *, now: datetime) -> None:
    """Make or renew both folders.

    Raises `InstallationRefused` and `PkiDamaged`; what was there is then as it was, or renewed in part.
    """
    names = (*request.broker_names, *request.surroundings.broker_aliases, *pki.BROKER_NAMES)
    # Every name once, in order: the first is also the certificate's common name.
    authority = pki.prepare(request.authority, now=now, broker_names=tuple(dict.fromkeys(names)))
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
    authority: Path, folder: Path, devices: Sequence[tuple[DeviceId, DeviceKind]], *, now: datetime
) -> None:
    """Write certificate and key of each device, what it has to trust, and a manifest for the simulator."""
    infrastructure = _existing(authority)
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
    """When each certificate and revocation list of a site ends, the next one first.

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
    _place_issuing_authority(folder, authority, owners.services)
    _place(folder / "service-ca.pem", authority.service_ca.read_bytes(), owners.services)
    _place(folder / "platform.key", authority.platform_signing_key.read_bytes(), owners.services)
    _place(folder / "keys.cose", keys, owners.services)


def _place_issuing_authority(folder: Path, authority: Pki, owner: tuple[int, int] | None) -> None:
    """The authority that control certifies devices with, its key encrypted; the passphrase may be kept elsewhere."""
    passphrase = _password(folder / "issuing_ca_passphrase", owner).encode()
    certificate, key = authority.issuing_ca.read_bytes(), authority.issuing_ca_key.read_bytes()
    opened, place = parse_authority(certificate, key), folder / "issuing-ca.key"
    encrypted = key_pem(opened.key, passphrase)
    try:
        if parse_authority(certificate, place.read_bytes(), passphrase).key.public_key() == opened.key.public_key():
            encrypted = place.read_bytes()  # each encryption is another text; this one is still good
    except (FileNotFoundError, ValueError):
        pass
    _place(folder / "issuing-ca.pem", certificate, owner)
    _place(place, encrypted, owner)
    _place(folder / "root.pub", authority.root_public_key.read_bytes(), owner)


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


def _existing(authority: Path) -> Pki:
    infrastructure = Pki(authority)
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


# --- the verb --------------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Run `./loa installation …`; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (InstallationRefused, PkiDamaged, broker.BrokerFailed, OSError) as error:
        print(f"installation: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    whole = argparse.ArgumentParser(prog="./loa installation", description=(__doc__ or "").partition("\n")[0])
    verbs = whole.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser(
        "prepare", help="make or renew authority and site; the same again renews what is near its end"
    )
    verb.add_argument("site", type=Path, help="folder for what the servers get, such as /etc/loa")
    _authority_option(verb)
    verb.add_argument(
        "--for", dest="surroundings", choices=("containers", "host"), required=True, help="who will read the files"
    )
    verb.add_argument(
        "--broker-name",
        dest="broker_names",
        action="append",
        required=True,
        type=_host_name,
        help="host name or address by which devices reach the broker; may be repeated",
    )
    verb.add_argument("--database", help="HOST:PORT of the database (default: as in compose.yaml, or 127.0.0.1:5432)")
    verb.add_argument(
        "--device-connections", type=int, default=20_000, help="devices connected at once (default 20000)"
    )
    verb.add_argument(
        "--log-refusals",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="have the broker log each publish it denies, for ingest to count; about 1 KB of log for every message",
    )
    verb.set_defaults(run=_run_prepare)

    verb = verbs.add_parser("devices", help="certificates for devices, and a manifest for the simulator")
    verb.add_argument("folder", type=Path, help="where to write them")
    _authority_option(verb)
    verb.add_argument("devices", nargs="+", type=_device, metavar="ID:KIND", help="such as loa-0001:cluster")
    verb.set_defaults(run=_run_devices)

    verb = verbs.add_parser("revoke", help="put a device's certificate on the revocation list; then prepare and reload")
    _authority_option(verb)
    verb.add_argument("device", type=_device_id, metavar="ID")
    verb.set_defaults(run=_run_revoke)

    verb = verbs.add_parser(
        "signing-key", help="replace the key that plans are signed with; then prepare and restart control"
    )
    _authority_option(verb)
    verb.add_argument(
        "--distrust", action="store_true", help="the old key was stolen: devices shall forget what it has signed"
    )
    verb.set_defaults(run=_run_signing_key)

    verb = verbs.add_parser("check", help="when certificates and revocation lists end; status 1 when one ends soon")
    verb.add_argument("site", type=Path)
    verb.add_argument(
        "--days", type=int, default=WARN_BEFORE.days, help=f"what soon means (default {WARN_BEFORE.days})"
    )
    verb.set_defaults(run=_run_check)
    return whole


def _authority_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--authority", type=Path, required=True, help="folder that can make devices; keep it offline")


def _host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no host name or address, in lower case")
    return text


def _device_id(text: str) -> DeviceId:
    try:
        return DeviceId.parse(text)
    except InvalidIdentifier as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _device(text: str) -> tuple[DeviceId, DeviceKind]:
    name, _, kind = text.partition(":")
    if kind.upper() not in DeviceKind.__members__:
        raise argparse.ArgumentTypeError(f"{text!r}: expected ID:KIND with cluster, board, sensor or gateway")
    return _device_id(name), DeviceKind[kind.upper()]


def _run_prepare(options: argparse.Namespace) -> int:
    surroundings = IN_CONTAINERS if options.surroundings == "containers" else _on_this_host()
    if surroundings.owners != Owners() and os.geteuid() != 0:
        raise InstallationRefused("the files belong to other users: run this as root (sudo ./loa installation …)")
    request = Request(
        site=options.site,
        authority=options.authority,
        broker_names=tuple(options.broker_names),
        surroundings=surroundings,
        database=options.database or surroundings.database,
        device_connections=options.device_connections,
        logs_refusals=options.log_refusals,
    )
    prepare(request, now=utc_now())
    ending = expiries(options.site)[0]
    print(f"{options.site} is ready; {ending.path.name} ends first, on {ending.at:%Y-%m-%d}: run this again before")
    print(f"keep {options.authority} offline: who has it can make devices and signing keys")
    return 0


def _on_this_host() -> Surroundings:
    """Services get their files from systemd, which reads them as root; the broker reads its own."""
    try:
        entry = pwd.getpwnam("mosquitto")
    except KeyError:
        raise InstallationRefused("there is no user mosquitto; please install it: apt-get install mosquitto") from None
    return Surroundings(
        broker_aliases=(),
        database="127.0.0.1:5432",
        owners=Owners(services=(0, 0), broker=(entry.pw_uid, entry.pw_gid), database=(0, 0)),
    )


def _run_devices(options: argparse.Namespace) -> int:
    issue_devices(options.authority, options.folder, options.devices, now=utc_now())
    print(f"{len(options.devices)} devices are in {options.folder}; delete the keys here once they are on the devices")
    return 0


def _run_revoke(options: argparse.Namespace) -> int:
    pki.revoke(_existing(options.authority), options.device, now=utc_now())
    print("revoked; now `./loa installation prepare` and reload the broker, and remove the device in control")
    return 0


def _run_signing_key(options: argparse.Namespace) -> int:
    key_sets.replace(_existing(options.authority), distrust=options.distrust, now=utc_now())
    print("replaced; now `./loa installation prepare` and restart control")
    return 0


def _run_check(options: argparse.Namespace) -> int:
    now = utc_now()
    soon = False
    for each in expiries(options.site):
        days = (each.at - now).days
        soon = soon or days < options.days
        print(f"{days:5d} days  {each.at:%Y-%m-%d}  {each.path}")
    return 1 if soon else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
