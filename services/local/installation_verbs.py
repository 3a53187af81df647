"""The verbs of `./loa installation`: what they are called with, and what they say. What they do is `installation`'s."""

import argparse
import os
import pwd
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from schemas.errors import InvalidIdentifier
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.local import broker, installation, key_files, key_sets, pki
from services.local.installation import IN_CONTAINERS, InstallationRefused, Owners, Request, Surroundings
from services.local.key_files import KeyLocked, Source
from services.local.pki import Pki, PkiDamaged
from services.shared.clock import utc_now

WARN_BEFORE = timedelta(days=14)

_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*|[0-9a-f:.]{2,45}", re.ASCII)


def main(arguments: Sequence[str]) -> int:
    """Run `./loa installation …`; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (InstallationRefused, KeyLocked, PkiDamaged, broker.BrokerFailed) as error:
        print(f"installation: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"installation: {error.filename}: {error.strerror}" if error.filename else f"installation: {error}",
            file=sys.stderr,
        )
    return 1


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    whole = argparse.ArgumentParser(
        prog="./loa installation", description=(installation.__doc__ or "").partition("\n")[0]
    )
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

    verb = verbs.add_parser("passphrase", help="encrypt the keys of the authority with another passphrase")
    _authority_option(verb)
    new = verb.add_mutually_exclusive_group()
    new.add_argument(
        "--new-passphrase-file", type=Path, metavar="FILE", help="first line of a file (default: a terminal)"
    )
    new.add_argument("--new-passphrase-fd", type=int, metavar="N", help="an open descriptor")
    new.add_argument("--none", action="store_true", help="keep the keys unencrypted")
    verb.set_defaults(run=_run_passphrase)

    verb = verbs.add_parser(
        "check", help="when certificates and lists end, and how keys are kept; status 1 when something is to be done"
    )
    verb.add_argument("site", type=Path)
    verb.add_argument("--authority", type=Path, help="look at the keys in this folder as well")
    verb.add_argument(
        "--days", type=int, default=WARN_BEFORE.days, help=f"what soon means (default {WARN_BEFORE.days})"
    )
    verb.set_defaults(run=_run_check)
    return whole


def _authority_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--authority", type=Path, required=True, help="folder that can make devices; keep it offline")
    given = verb.add_mutually_exclusive_group()
    given.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="what its keys are encrypted with (default: a terminal asks)",
    )
    given.add_argument("--passphrase-fd", type=int, metavar="N", help="the same, from an open descriptor")


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
        passphrase=_passphrase(options),
    )
    installation.prepare(request, now=utc_now())
    ending = installation.expiries(options.site)[0]
    print(f"{options.site} is ready; {ending.path.name} ends first, on {ending.at:%Y-%m-%d}: run this again before")
    print(f"keep {options.authority} offline: who has it can make devices and signing keys")
    if any(not key_files.is_encrypted(each.read_bytes()) for each in Pki(options.authority).authority_keys):
        print(f"its keys are not encrypted: `./loa installation passphrase --authority {options.authority}`")
    return 0


def _passphrase(options: argparse.Namespace) -> bytes | None:
    """What opens the keys of the authority, or what its first ones are to be encrypted with; asked for if need be."""
    keys = [each for each in Pki(options.authority).authority_keys if each.exists()]
    is_given = options.passphrase_file is not None or options.passphrase_fd is not None
    if keys and not is_given and not any(key_files.is_encrypted(each.read_bytes()) for each in keys):
        return None
    prompt = "Passphrase of the authority: " if keys else "Passphrase for the keys of the new authority (empty: none): "
    return Source(file=options.passphrase_file, descriptor=options.passphrase_fd, prompt=prompt, is_new=not keys).read()


def _authority(options: argparse.Namespace) -> Pki:
    installation.existing(options.authority)
    return Pki(options.authority, _passphrase(options))


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
    authority = _authority(options)
    installation.issue_devices(
        authority.directory, options.folder, options.devices, passphrase=authority.passphrase, now=utc_now()
    )
    print(f"{len(options.devices)} devices are in {options.folder}; delete the keys here once they are on the devices")
    return 0


def _run_revoke(options: argparse.Namespace) -> int:
    authority = _authority(options)
    if not authority.device(options.device).certificate.exists():
        raise InstallationRefused(
            f"{options.device} has no certificate of this authority; what a device fetched with a claim code is revoked in"
            f" control: POST /api/v1/devices/{options.device}/certificate/revoke"
        )
    pki.revoke(authority, options.device, now=utc_now())
    print("revoked; now `./loa installation prepare` and reload the broker, and remove the device in control")
    return 0


def _run_signing_key(options: argparse.Namespace) -> int:
    key_sets.replace(_authority(options), distrust=options.distrust, now=utc_now())
    print("replaced; now `./loa installation prepare` and restart control")
    return 0


def _run_passphrase(options: argparse.Namespace) -> int:
    authority = _authority(options)
    new = None
    if not options.none:
        prompt = "New passphrase: "
        new = Source(
            file=options.new_passphrase_file, descriptor=options.new_passphrase_fd, prompt=prompt, is_new=True
        ).read()
        if new is None:
            raise KeyLocked("no new passphrase: --new-passphrase-file, --new-passphrase-fd, a terminal, or --none")
    count = key_files.change_passphrase(authority.authority_keys, old=authority.passphrase, new=new)
    print(f"{count} keys are {'encrypted with the new passphrase' if new else 'not encrypted any more'}")
    return 0


def _run_check(options: argparse.Namespace) -> int:
    now = utc_now()
    is_well = True
    for each in installation.expiries(options.site):
        days = (each.at - now).days
        is_well = is_well and days >= options.days
        print(f"{days:5d} days  {each.at:%Y-%m-%d}  {each.path}")
    for complaint in _complaints(options.site, options.authority):
        is_well = False
        print(complaint)
    return 0 if is_well else 1


def _complaints(site: Path, authority: Path | None) -> Iterator[str]:
    """What is wrong with how private keys are kept."""
    # Broker and services read their own keys at every start; control's two are worth more than one machine.
    needed = {site / "secrets" / name for name in installation.ENCRYPTED}
    found = key_files.kept_below(site)
    if authority is not None:
        needed |= set(installation.existing(authority).authority_keys)
        found += key_files.kept_below(authority)
    for each in found:
        if each.is_open:
            yield f"open to others: {each.path} (chmod go= {each.path})"
        if each.path in needed and not each.is_encrypted:
            yield f"not encrypted:  {each.path}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
