"""A real Mosquitto of our own, configured by `broker_config/`, on this machine's loopback.

* Everything it needs is copied into a folder of its own, which it is started in and addresses relatively. So it needs no
  way through the folders above, and may run as another user.
* Mosquitto should not be root. Started by root it runs as the account its package brings (`mosquitto`, otherwise
  `nobody`), and that account owns the folder and the copy of the broker's key in it.
* Its ports are chosen once and kept, so that devices find it again.
* It ends when we end: the kernel asks it to, and it saves its state first.
"""

import asyncio
import contextlib
import json
import logging
import os
import pwd
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.control.trust.certificates import ServiceName
from services.local import processes
from services.local.pki import Pki
from services.local.processes import ManagedProcess, ProcessFailed

log = logging.getLogger(__name__)

CONFIGURATION = Path(__file__).resolve().parents[2] / "broker_config"
PROGRAM = "mosquitto"
ACCOUNTS = ("mosquitto", "nobody")
HOST = "127.0.0.1"

# Below the range the kernel takes source ports from (32768 on): a port kept for the next start must not be in use by
# somebody's outgoing connection just then.
PORTS = range(18_000, 32_000)
START_ATTEMPTS = 5

READY_DEADLINE = timedelta(seconds=30)
STOP_GRACE = timedelta(seconds=20)
SIGNAL_DEADLINE = timedelta(seconds=20)
PREDECESSOR_DEADLINE = timedelta(seconds=15)
PROBE_TIMEOUT = timedelta(seconds=5)
POLL_EVERY_S = 0.02
FOLLOW_EVERY_S = 0.5  # between two looks at the list of revoked certificates

# Files of its own, its log and the services' connections; the rest of the open files may be devices.
RESERVED_DESCRIPTORS = 128

# Messages that may wait for one client; a province's (see the template).
QUEUED_MESSAGES = 1_000_000

LOG_LIMIT_BYTES = 64 * 2**20
TRIM_EVERY = timedelta(minutes=1)
LOG_TAIL_CHARACTERS = 2000

# MQTT 5: clean start, keep-alive 10 s, no properties, client id "monitor:ready"; and a normal disconnect.
_CONNECT = b"\x10\x1a\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x0dmonitor:ready"
_DISCONNECT = b"\xe0\x00"

# A connection is an open file, and the usual soft limit of 1024 would end the province at 1024 devices.
_WITH_ALL_DESCRIPTORS = ("/bin/sh", "-c", 'ulimit -S -n "$(ulimit -H -n)"; exec "$@"', "sh")

_PLACEHOLDER = re.compile(r"\$\{([A-Z_]+)\}")


class BrokerFailed(Exception):
    """The broker cannot be started here or did not do what it was told; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may differ from one local broker to another."""

    autosave: timedelta = timedelta(seconds=5)  # a few MiB take milliseconds
    logs_denied_publishes: bool = True  # a local network is small enough; see the template
    queued_messages: int = QUEUED_MESSAGES
    sys_interval: timedelta = timedelta(seconds=2)


def render(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with every placeholder filled in.

    Raises `BrokerFailed` when a placeholder has no value or a value no placeholder.
    """
    wanted = set(_PLACEHOLDER.findall(template))
    if wanted != values.keys():
        odd = ", ".join(sorted(wanted ^ values.keys()))
        raise BrokerFailed(f"a template of the broker's configuration and its values do not fit: {odd}")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def access_rules(pki: Pki) -> bytes:
    """Return the broker's access list, with the names that the services' certificates in `pki` have."""
    template = (CONFIGURATION / "access.acl.template").read_text("utf-8")
    return render(template, {name.name: pki.service_user(name) for name in ServiceName}).encode()


def device_authorities(pki: Pki) -> bytes:
    """Return the certificates of whoever may certify devices: the factory's authority and that of enrolment."""
    return pki.device_ca.read_bytes() + pki.issuing_ca.read_bytes()


class Broker:
    """One Mosquitto and its folder. `start` and `stop` may alternate; state and ports stay."""

    def __init__(self, directory: Path, pki: Pki, options: Options | None = None) -> None:
        self.directory = directory.absolute()
        self.pki = pki
        self.host = HOST
        self._options = options or Options()
        self._account = _account()
        self._ports: tuple[int, int] | None = None
        self._process: ManagedProcess | None = None
        self._followed: tuple[int, int] | None = None

    @property
    def device_port(self) -> int:
        """Where devices connect; known once it has been started."""
        return self._known_ports()[0]

    @property
    def service_port(self) -> int:
        """Where our services connect; known once it has been started."""
        return self._known_ports()[1]

    @property
    def log(self) -> Path:
        """Mosquitto's own log."""
        return self._own / "mosquitto.log"

    @property
    def database(self) -> Path:
        """What it saves."""
        return self._own / "mosquitto.db"

    @property
    def process(self) -> ManagedProcess:
        """The running process."""
        if self._process is None:
            raise BrokerFailed("the broker has not been started")
        return self._process

    async def start(self) -> None:
        """Start it and return when a service can connect; raises `BrokerFailed`."""
        if self._process is not None and self._process.returncode is None:
            raise BrokerFailed("the broker is running already")
        program = _find_program()
        self._make_folders()
        for attempt in range(1, START_ATTEMPTS + 1):
            self._ports = await self._choose_ports()
            self._write_configuration()
            self._process = processes.start(
                "mosquitto",
                [*_WITH_ALL_DESCRIPTORS, program, "-c", "mosquitto.conf"],
                log=self._output,
                cwd=self._own,
                env={"TZ": "UTC"},
                death_signal=signal.SIGTERM,  # it saves its state when asked to end
                user=self._account,
            )
            try:
                await self._process.wait_ready(self._lets_in, deadline=READY_DEADLINE)
            except ProcessFailed as error:
                told = self._told()
                await self.stop()
                # Between looking for a free port and using it somebody else may have taken it.
                if attempt == START_ATTEMPTS or "Address already in use" not in told:
                    raise BrokerFailed(f"{error}{_indented(told)}") from None
                self._ports_file.unlink(missing_ok=True)
            except BaseException:
                self._process.kill()
                raise
            else:
                return

    async def stop(self) -> None:
        """Ask it to save its state and end; does nothing when it has ended already."""
        if self._process is not None:
            await self._process.stop(grace=STOP_GRACE)

    async def kill(self) -> None:
        """End it as a power cut would: nothing is saved."""
        self.process.kill()
        await self.process.wait()

    async def save(self) -> None:
        """Have it save its state now, and return when that is done."""
        before = _version_of(self.database)
        self._signal(signal.SIGUSR1)
        await self._until(lambda: _version_of(self.database) != before)

    async def reload(self) -> None:
        """Bring revocation lists, certificates and access rules up to date, without ending any connection.

        Saves first, because a session with a finite expiry that is offline now makes Mosquitto crash later
        (`broker_config/README.md`). Raises `BrokerFailed` when it ends or cannot load one of the files.
        """
        await self.save()
        self._write_configuration()
        position = self.log.stat().st_size
        self._signal(signal.SIGHUP)
        await self._until(lambda: b"Reloading config." in self._log_since(position))
        # It serves nobody before it has finished reloading, and by then it has said what it could not load.
        await self._wait(self._lets_in)
        complaints = [
            line
            for line in self._log_since(position).decode("utf-8", "replace").splitlines()
            if "Error: Unable" in line
        ]
        if complaints:
            raise BrokerFailed(f"the broker could not load what it was given{_indented(*complaints)}")

    def trim_log(self, *, limit: int = LOG_LIMIT_BYTES) -> None:
        """Empty its log when it has grown beyond `limit` bytes; what was in it is gone."""
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            if os.fstat(descriptor).st_size > limit:
                os.ftruncate(descriptor, 0)  # it appends, so it goes on at the new end
        finally:
            os.close(descriptor)

    @property
    def _own(self) -> Path:
        """The folder that belongs to the account it runs as, and to nobody else."""
        return self.directory / "own"

    @property
    def _output(self) -> Path:
        """What it says before it has opened its log."""
        return self.directory / "mosquitto.out"

    @property
    def _ports_file(self) -> Path:
        return self.directory / "ports.json"

    def _followed_list(self) -> bytes:
        """What control has revoked; nothing before its first list, and then nobody who enrolled is let in."""
        try:
            return self.pki.issuing_crl.read_bytes()
        except FileNotFoundError:
            return b""

    def has_news(self) -> bool:
        """Whether control has written another list than the one in use."""
        return _version_of(self.pki.issuing_crl) != self._followed

    def _known_ports(self) -> tuple[int, int]:
        if self._ports is None:
            raise BrokerFailed("the broker has no ports before it is started")
        return self._ports

    def _make_folders(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        for folder in (self._own, self._own / "certificates"):
            folder.mkdir(mode=0o700, exist_ok=True)
            with _opened(folder) as descriptor:
                os.fchmod(descriptor, 0o700)
                if self._account:
                    os.fchown(descriptor, *self._account)
        if self.log.exists():
            self.log.replace(self.log.with_name("mosquitto.log.1"))
        self._output.unlink(missing_ok=True)

    def _write_configuration(self) -> None:
        device_port, service_port = self._known_ports()
        self._followed = _version_of(self.pki.issuing_crl)
        values = {
            "DEVICE_PORT": str(device_port),
            "SERVICE_PORT": str(service_port),
            "BIND": "bind_interface lo" if has_ipv6_loopback() else "bind_interface lo\nsocket_domain ipv4",
            "DEVICE_CONNECTIONS": str(max(1, _open_files_limit() - RESERVED_DESCRIPTORS)),
            "AUTOSAVE_SECONDS": str(max(1, round(self._options.autosave.total_seconds()))),
            "QUEUED_MESSAGES": str(self._options.queued_messages),
            "SYS_SECONDS": str(max(1, round(self._options.sys_interval.total_seconds()))),
            "LOG_DEST": f"file {self.log.name}",
            "LOG_DENIED_PUBLISHES": "log_type debug" if self._options.logs_denied_publishes else "",
        }
        template = (CONFIGURATION / "mosquitto.conf.template").read_text("utf-8")
        files = {
            "mosquitto.conf": render(template, values).encode(),
            "access.acl": access_rules(self.pki),
            "certificates/device-ca.pem": device_authorities(self.pki),
            "certificates/device-ca.crl": self.pki.device_crl.read_bytes() + self._followed_list(),
            "certificates/service-ca.pem": self.pki.service_ca.read_bytes(),
            "certificates/service-ca.crl": self.pki.service_crl.read_bytes(),
            "certificates/broker.key": self.pki.broker.key.read_bytes(),
            "certificates/broker.pem": self.pki.broker.certificate.read_bytes(),
        }
        _check(files)
        for name, content in files.items():
            _write_for(self._account, self._own / name, content)

    async def _choose_ports(self) -> tuple[int, int]:
        """Return the ports of the last start, or free ones, which are kept for the next."""
        if self._ports_file.exists():
            device_port, service_port = json.loads(self._ports_file.read_text())
            loop = asyncio.get_running_loop()
            # A broker whose parent was killed may still be saving.
            until = loop.time() + PREDECESSOR_DEADLINE.total_seconds()
            while loop.time() < until:
                if _is_free(device_port) and _is_free(service_port):
                    return device_port, service_port
                await asyncio.sleep(POLL_EVERY_S)
        device_port, service_port = _free_ports(2)
        self._ports_file.write_text(json.dumps([device_port, service_port]))
        return device_port, service_port

    async def _lets_in(self) -> bool:
        """Whether one of our services can connect: the whole way through TLS, both certificates and MQTT."""
        identity = self.pki.service(ServiceName.MONITOR)
        context = ssl.create_default_context(cafile=self.pki.service_ca)
        context.load_cert_chain(identity.certificate, identity.key)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT.total_seconds()):
                reader, writer = await asyncio.open_connection(HOST, self.service_port, ssl=context)
                try:
                    writer.write(_CONNECT)
                    connack = await reader.readexactly(4)
                    writer.write(_DISCONNECT)
                    await writer.drain()
                finally:
                    writer.transport.abort()  # no waiting for its goodbye
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return False
        return connack[0] == 0x20 and connack[3] == 0

    def _signal(self, number: signal.Signals) -> None:
        if self.process.returncode is not None:
            raise BrokerFailed(f"the broker has ended with status {self.process.returncode}{_indented(self._told())}")
        os.kill(self.process.pid, number)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async def ask() -> bool:
            return condition()

        await self._wait(ask)

    async def _wait(self, probe: Callable[[], Awaitable[bool]]) -> None:
        try:
            await self.process.wait_ready(probe, deadline=SIGNAL_DEADLINE)
        except ProcessFailed as error:
            raise BrokerFailed(f"{error}{_indented(self._told())}") from None

    def _told(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-LOG_TAIL_CHARACTERS:] if self.log.exists() else ""

    def _log_since(self, position: int) -> bytes:
        with self.log.open("rb") as file:
            file.seek(position)
            return file.read()


@asynccontextmanager
async def running_broker(directory: Path, pki: Pki, options: Options | None = None) -> AsyncIterator[Broker]:
    """A broker that runs inside the block, with a log that stays small; its state is kept for the next time.

    Raises `BrokerFailed` when it cannot be started.
    """
    broker = Broker(directory, pki, options)
    loop = asyncio.get_running_loop()
    tending: asyncio.Handle | None = None
    following: asyncio.Task[None] | None = None

    def tend() -> None:
        nonlocal tending
        broker.trim_log()
        tending = loop.call_later(TRIM_EVERY.total_seconds(), tend)

    try:
        await broker.start()
        tend()
        following = loop.create_task(_follow(broker))
        yield broker
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
        if tending is not None:
            tending.cancel()
        await broker.stop()


async def _follow(broker: Broker) -> None:
    """Take up each list of revoked certificates that control writes; what cannot be loaded is told and left."""
    while True:
        await asyncio.sleep(FOLLOW_EVERY_S)
        if broker.has_news():
            try:
                await broker.reload()
            except BrokerFailed as error:
                log.warning("revocation_list_not_taken_up", extra={"reason": str(error)})


def installed_version() -> tuple[int, ...]:
    """Return the version of the Mosquitto that would be started; raises `BrokerFailed` when there is none."""
    said = subprocess.run([_find_program(), "-h"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        raise BrokerFailed(f"cannot tell the version of mosquitto from: {said[:200]!r}")
    return tuple(int(part) for part in match.groups())


def _find_program() -> str:
    # An ordinary user's PATH on Debian has no sbin.
    program = shutil.which(PROGRAM, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin")
    if program is None:
        raise BrokerFailed("mosquitto is not installed; please install it: apt-get install mosquitto")
    return program


def _account() -> tuple[int, int] | None:
    """User and group id Mosquitto runs as; None for our own, when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise BrokerFailed(f"mosquitto should not run as root, and there is no account {' or '.join(ACCOUNTS)}")


def _check(files: Mapping[str, bytes]) -> None:
    """Raise `BrokerFailed` for a file that Mosquitto would not be able to read.

    It must not even be tried: told to reload a list it cannot parse, it goes on with no list at all.
    """
    loaders: Mapping[str, Callable[[bytes], object]] = {
        ".crl": _load_lists,
        ".pem": x509.load_pem_x509_certificate,
        ".key": lambda content: serialization.load_pem_private_key(content, password=None),
    }
    for name, content in files.items():
        loader = loaders.get(Path(name).suffix)
        try:
            if loader is not None:
                loader(content)
        except ValueError as error:
            raise BrokerFailed(f"{name} is damaged; the broker goes on with what it has") from error


def _load_lists(content: bytes) -> list[x509.CertificateRevocationList]:
    """Every list in `content`; raises `ValueError`."""
    end = b"-----END X509 CRL-----"
    lists = [part + end for part in content.split(end)[:-1]]
    if not lists or content.split(end)[-1].strip():
        raise ValueError("no revocation list")
    return [x509.load_pem_x509_crl(each) for each in lists]


def _write_for(account: tuple[int, int] | None, path: Path, content: bytes) -> None:
    """Replace `path` whole with a file that only `account` (or we) can read."""
    fresh = path.name + ".new"
    with _opened(path.parent) as folder:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            if account:
                os.fchown(descriptor, *account)
            file.write(content)
        os.replace(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of `folder`, which may belong to a less trusted account: nothing it has put there is followed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise BrokerFailed(f"{folder} is not the folder it should be ({error.strerror}); remove it") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _version_of(path: Path) -> tuple[int, int] | None:
    """What changes whenever `path` is replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _open_files_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def has_ipv6_loopback() -> bool:
    """Whether this machine can be reached by itself over IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            return found
        if _is_free(port):
            found.append(port)
    raise BrokerFailed(f"there are no free ports between {PORTS.start} and {PORTS.stop - 1}")


def _is_free(port: int) -> bool:
    addresses = [(socket.AF_INET, "127.0.0.1")]
    if has_ipv6_loopback():
        addresses.append((socket.AF_INET6, "::1"))
    for family, address in addresses:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As Mosquitto does: connections of a broker that has ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def _indented(*texts: str) -> str:
    return "".join(f"\n    {line}" for text in texts for line in text.splitlines())
