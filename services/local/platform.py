"""The whole platform on one machine: database, broker, ingest, control and a fleet, each a real process.

Used by the demonstration and by the system tests. A `Platform` knows where everything is and which settings each part
gets; starting and stopping a part is a context, so that whatever happens nothing is left running.
"""

import base64
import json
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.control.trust.certificates import ServiceName
from services.control.trust.secret_box import KEY_BYTES
from services.local import key_sets
from services.local.broker import Broker, running_broker
from services.local.directories import make_passable
from services.local.pki import Pki
from services.local.pki import prepare as prepare_pki
from services.local.postgres import EmbeddedPostgres, embedded_postgres
from services.local.processes import ManagedProcess, running
from services.shared.clock import utc_now
from services.shared.database.migrate import MigrateSettings, migrate

TOP = Path(__file__).resolve().parents[2]
DATABASE = "loa"
IPV4, IPV6 = "127.0.0.1", "::1"
READY_DEADLINE = timedelta(seconds=240)
HTTP_PORT = 8480  # used when it is free, so that the address stays the same from one start to the next


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is drawn at random on the first start of a data folder and kept in a file only its owner can read."""

    ingest_database_password: str
    control_database_password: str
    shared_group: str
    administrator_password: str
    officer_password: str
    approver_password: str
    operator_password: str


def load_secrets(path: Path) -> Secrets:
    """The secrets kept in `path`; those that are not there yet are drawn and written first."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    if not kept.keys() >= Secrets.__dataclass_fields__.keys():
        drawn = {name: secrets.token_urlsafe(15) for name in Secrets.__dataclass_fields__} | kept
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(drawn, indent=1) + "\n")
        draft.replace(path)
        kept = drawn
    return Secrets(**kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Database and broker are up and migrated; the services can be started.

    `address` is the one by which everything reaches everything, of IPv4 or IPv6.
    """

    data: Path
    secrets: Secrets
    pki: Pki
    postgres: EmbeddedPostgres
    broker: Broker
    http_port: int
    address: str = IPV4

    @property
    def url(self) -> str:
        """Where control answers."""
        return self._url(self.http_port)

    def _url(self, port: int) -> str:
        return f"http://[{self.address}]:{port}" if ":" in self.address else f"http://{self.address}:{port}"

    @asynccontextmanager
    async def ingest(
        self, replica: str = "ingest:1", *, health_port: int = 0, **extra: str
    ) -> AsyncIterator[ManagedProcess]:
        """A running ingest that is subscribed and can store; health and metrics on `health_port`, or on a free port."""
        identity = self.pki.service(ServiceName.INGEST)
        port = health_port or free_port()
        environment = {
            "INGEST_DATABASE__URL": self.postgres.dsn(
                DATABASE, user="loa_ingest", password=self.secrets.ingest_database_password
            ),
            **self._broker_settings("INGEST_", identity.certificate, identity.key),
            "INGEST_REPLICA": replica,
            "INGEST_SHARED_GROUP": self.secrets.shared_group,
            "INGEST_HEALTH__HOST": self.address,
            "INGEST_HEALTH__PORT": str(port),
            "INGEST_BROKER_LOG": str(self.broker.log),
            **extra,
        }
        async with self._part("ingest", "services.ingest", environment) as process:
            await process.wait_ready(f"{self._url(port)}/readyz", deadline=READY_DEADLINE)
            yield process

    @asynccontextmanager
    async def control(self, **extra: str) -> AsyncIterator[ManagedProcess]:
        """A running control that answers and can publish."""
        async with self._part("control", "services.control", {**self.control_settings(), **extra}) as process:
            await process.wait_ready(f"{self.url}/readyz", deadline=READY_DEADLINE)
            yield process

    def control_settings(self) -> dict[str, str]:
        """Settings of control, as its command-line verbs need them too."""
        identity = self.pki.service(ServiceName.CONTROL)
        return {
            "CONTROL_DATABASE__URL": self.postgres.dsn(
                DATABASE, user="loa_control", password=self.secrets.control_database_password
            ),
            **self._broker_settings("CONTROL_", identity.certificate, identity.key),
            "CONTROL_HTTP__PORT": str(self.http_port),
            **({} if self.address == IPV4 else {"CONTROL_HTTP__HOSTS": json.dumps([self.address])}),
            "CONTROL_MEDIA__DIRECTORY": str(self.data / "media"),
            "CONTROL_MEDIA__BASE_URL": self.url,
            "CONTROL_SESSIONS__SECRET_KEYS_FILE": str(self._secret_keys()),
            "CONTROL_SIGNING__KEY_FILE": str(self.pki.platform_signing_key),
            "CONTROL_SIGNING__KEYS_FILE": str(key_sets.path(self.pki)),
            "CONTROL_ENROLMENT__CA_FILE": str(self.pki.issuing_ca),
            "CONTROL_ENROLMENT__CA_KEY_FILE": str(self.pki.issuing_ca_key),
            "CONTROL_ENROLMENT__ROOT_KEY_FILE": str(self.pki.root_public_key),
            "CONTROL_ENROLMENT__LIST_FILE": str(self.pki.issuing_crl),
            "CONTROL_ENROLMENT__BROKER_HOST": self.address,
            "CONTROL_ENROLMENT__BROKER_PORT": str(self.broker.device_port),
        }

    def _secret_keys(self) -> Path:
        """The file with the key that seals secrets of authenticator apps; drawn when it is first asked for."""
        path = self.data / "secret-keys"
        if not path.exists():
            draft = path.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_text(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n")
            draft.replace(path)
        return path

    @asynccontextmanager
    async def fleet(
        self,
        manifest: Path,
        settings: Mapping[str, str] | None = None,
        *,
        name: str = "fleet",
        folder: str = "devices",
        status_port: int = 0,
    ) -> AsyncIterator[ManagedProcess]:
        """The simulated devices of `manifest`; ready when their process answers, connected soon after.

        `folder` is where their memory lies: two fleets need two. How they are doing is told at `/status` on
        `status_port`, or on a free port.
        """
        port = status_port or free_port()
        environment = {
            "SIM_MANIFEST": str(manifest),
            "SIM_DATA": str(self.data / folder),
            "SIM_BROKER__HOST": self.address,
            "SIM_BROKER__PORT": str(self.broker.device_port),
            "SIM_BROKER__CA_FILE": str(self.pki.service_ca),
            "SIM_STATUS__HOST": self.address,
            "SIM_STATUS__PORT": str(port),
            **(settings or {}),
        }
        async with self._part(name, "firmware_sim", environment) as process:
            await process.wait_ready(f"{self._url(port)}/healthz", deadline=READY_DEADLINE)
            yield process

    @asynccontextmanager
    async def module(self, name: str, module: str, *arguments: str) -> AsyncIterator[ManagedProcess]:
        """Any other module of ours, as a process beside the platform."""
        async with self._part(name, module, {}, *arguments) as process:
            yield process

    def _broker_settings(self, prefix: str, certificate: Path, key: Path) -> dict[str, str]:
        return {
            f"{prefix}BROKER__HOST": self.address,
            f"{prefix}BROKER__PORT": str(self.broker.service_port),
            f"{prefix}BROKER__CA_FILE": str(self.pki.service_ca),
            f"{prefix}BROKER__CERT_FILE": str(certificate),
            f"{prefix}BROKER__KEY_FILE": str(key),
        }

    @asynccontextmanager
    async def _part(
        self, name: str, module: str, settings: Mapping[str, str], *arguments: str
    ) -> AsyncIterator[ManagedProcess]:
        async with running(
            name,
            [sys.executable, "-m", module, *arguments],
            log=self.data / "logs" / f"{name}.log",
            env=inherited_environment() | dict(settings),
            cwd=TOP,
        ) as process:
            yield process


@asynccontextmanager
async def platform(data: Path, *, http_port: int | None = None, address: str = IPV4) -> AsyncIterator[Platform]:
    """Database and broker over the folder `data`, made on first use, kept afterwards, stopped at the end."""
    make_passable(data)
    (data / "logs").mkdir(exist_ok=True)
    drawn = load_secrets(data / "secrets.json")
    now = utc_now()
    pki = prepare_pki(data / "pki", now=now)
    key_sets.current(pki, now=now)
    async with embedded_postgres(data / "postgres") as postgres:
        await _migrate(postgres, drawn)
        async with running_broker(data / "broker", pki) as broker:
            yield Platform(
                data=data,
                secrets=drawn,
                pki=pki,
                postgres=postgres,
                broker=broker,
                http_port=http_port or free_port(HTTP_PORT),
                address=address,
            )


async def _migrate(postgres: EmbeddedPostgres, drawn: Secrets) -> None:
    await postgres.ensure_database(DATABASE)
    await migrate(
        MigrateSettings.model_validate(
            {
                "database": {"url": postgres.dsn(DATABASE)},
                "ingest_password": drawn.ingest_database_password,
                "control_password": drawn.control_database_password,
            }
        )
    )


def free_port(preferred: int = 0) -> int:
    """A TCP port nobody listens on at this moment: `preferred` where that is possible."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free TCP port on 127.0.0.1")


def inherited_environment() -> dict[str, str]:
    """Our environment without settings meant for other parts, so that a stray variable cannot change the platform."""
    prefixes = ("INGEST_", "CONTROL_", "SIM_", "MIGRATE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
