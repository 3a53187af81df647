"""The composition of control: opens resources in order, then runs everything in one TaskGroup until asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from services.control.alerting.keeper import run_alert_keeper
from services.control.alerting.lane import run_alert_lane
from services.control.alerting.outfitter import run_alert_outfitter
from services.control.alerting.prompter import run_alert_prompter
from services.control.alerting.renderer import Renderer
from services.control.alerting.sounds import Workshop
from services.control.alerting.speaker import run_alert_speaker
from services.control.alerting.tester import run_alert_tester
from services.control.api.app import create_api
from services.control.api.context import Services
from services.control.api.rates import RateLimit
from services.control.auditing.sealer import run_sealer
from services.control.delivery.dispatcher import run_dispatcher
from services.control.forgetter import run_forgetter
from services.control.measurement import Limits
from services.control.measurer import Measurer
from services.control.media_files import MediaFiles
from services.control.metrics import ControlMetrics
from services.control.passwords import Passwords
from services.control.patient_protocol import MAX_HEAD_BYTES, patient
from services.control.planner import run_planner
from services.control.quarantine_keeper import run_quarantine_keeper
from services.control.reconciler import run_reconciler
from services.control.relay_files import RelayFiles
from services.control.relay_point import run_relay_point
from services.control.security.reporter import SecurityLog, make_security_log
from services.control.sensing.watcher import run_watcher
from services.control.settings import ControlSettings, HttpSettings, MediaSettings
from services.control.trust.issuer import Issuer, load_issuer
from services.control.trust.keyring import Keyring, load_keyring
from services.control.trust.revoker import run_revoker
from services.control.trust.secret_box import load_box
from services.control.unit_directory import UnitDirectory
from services.shared import garbage
from services.shared.clock import utc_now
from services.shared.database.pool import Database, open_database
from services.shared.database.schema_version import demand_current
from services.shared.lifecycle import CannotStart

log = logging.getLogger(__name__)

_BACKLOG = 2048
# An address family this machine does not have is no reason not to serve the others.
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


async def run(settings: ControlSettings, stop: asyncio.Event) -> None:
    """Serve, plan, deliver and prove until `stop` is set; what ends by itself ends the process."""
    passphrase = settings.signing.key_passphrase
    keyring = load_keyring(
        settings.signing.key_file,
        settings.signing.keys_file,
        None if passphrase is None else passphrase.get_secret_value(),
    )
    issuer = load_issuer(settings.enrolment, keyring=keyring, broker_ca_file=settings.broker.ca_file)
    registry = CollectorRegistry()
    metrics = ControlMetrics(registry)
    alerts_due = asyncio.Event()
    security = make_security_log(settings.security_log, metrics)
    async with open_database(settings.database, application="control") as database:
        async with database.connection() as connection:
            await demand_current(connection)
        services = make_services(
            settings,
            database,
            registry=registry,
            broker_is_connected=lambda: bool(registry.get_sample_value("control_broker_connected")),
            clock=utc_now,
            issuer=issuer,
            keyring=keyring,
            wake_alerts=alerts_due.set,
            security=security,
        )
        garbage.settle()
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(
                    run_planner(
                        database,
                        listening=settings.database,
                        settings=settings.planning,
                        keyring=keyring,
                        media_base_url=settings.media.base_url,
                        time_zone=settings.policy.time_zone,
                        metrics=metrics,
                    )
                ),
                group.create_task(
                    run_dispatcher(
                        database,
                        listening=settings.database,
                        broker=settings.broker,
                        settings=settings.delivery,
                        metrics=metrics,
                    )
                ),
                group.create_task(
                    run_alert_lane(
                        database,
                        listening=settings.database,
                        broker=settings.broker,
                        settings=settings.delivery,
                        metrics=metrics,
                        wake=alerts_due,
                    )
                ),
                group.create_task(
                    run_alert_keeper(
                        database,
                        listening=settings.database,
                        time_zone=ZoneInfo(settings.policy.time_zone),
                        keyring=keyring,
                        metrics=metrics,
                        wake_alerts=alerts_due.set,
                    )
                ),
                group.create_task(
                    run_alert_prompter(database, keyring=keyring, metrics=metrics, wake_alerts=alerts_due.set)
                ),
                group.create_task(
                    run_alert_outfitter(
                        database,
                        workshop=services.workshop,
                        time_zone=ZoneInfo(settings.policy.time_zone),
                        prepares=settings.policy.prepares_alerts,
                        metrics=metrics,
                    )
                ),
                *(
                    [
                        group.create_task(
                            run_alert_speaker(
                                database,
                                workshop=services.workshop,
                                time_zone=ZoneInfo(settings.policy.time_zone),
                                keyring=keyring,
                                metrics=metrics,
                                wake_alerts=alerts_due.set,
                            )
                        )
                    ]
                    if settings.policy.speaks_cap
                    else []
                ),
                group.create_task(
                    run_alert_tester(
                        database,
                        time_zone=ZoneInfo(settings.policy.time_zone),
                        keyring=keyring,
                        metrics=metrics,
                        wake_alerts=alerts_due.set,
                    )
                ),
                group.create_task(
                    run_reconciler(database, listening=settings.database, settings=settings.proof, metrics=metrics)
                ),
                group.create_task(
                    run_watcher(
                        database,
                        listening=settings.database,
                        settings=settings.sensing,
                        time_zone=ZoneInfo(settings.policy.time_zone),
                        keyring=keyring,
                        metrics=metrics,
                        wake_alerts=alerts_due.set,
                    )
                ),
                *(
                    [
                        group.create_task(
                            run_revoker(
                                database,
                                listening=settings.database,
                                broker=settings.broker,
                                settings=settings.enrolment,
                                issuer=issuer,
                                metrics=metrics,
                            )
                        )
                    ]
                    if issuer is not None
                    else []
                ),
                group.create_task(run_quarantine_keeper(database, metrics=metrics)),
                group.create_task(security.run(database, metrics)),
                group.create_task(run_sealer(database, settings=settings.audit, keyring=keyring, metrics=metrics)),
                group.create_task(run_forgetter(database, metrics=metrics)),
                group.create_task(
                    run_relay_point(
                        database,
                        files=services.relay_files,
                        settings=settings.relays,
                        keyring=keyring,
                        metrics=metrics,
                    )
                ),
            ]
            async with _served(create_api(services, metrics), settings.http_as_reached):
                await stop.wait()
            # Requests under way are answered; what the loops have claimed falls back to others when its lease ends.
            for loop in loops:
                loop.cancel()
        await security.close()


def make_services(
    settings: ControlSettings,
    database: Database,
    *,
    registry: CollectorRegistry,
    broker_is_connected: Callable[[], bool],
    clock: Callable[[], datetime],
    keyring: Keyring,
    wake_alerts: Callable[[], None],
    passwords: Passwords | None = None,
    issuer: Issuer | None = None,
    security: SecurityLog | None = None,
) -> Services:
    """The parts routes stand on."""
    files = MediaFiles(settings.media.directory)
    try:
        files.prepare(now=clock())
    except OSError as error:
        raise CannotStart(
            f"CONTROL_MEDIA__DIRECTORY: {error.filename}: {error.strerror}; name a folder that this user may write to"
        ) from error
    limits = measuring_limits(settings.media)
    measurer = Measurer(limits)
    return Services(
        database=database,
        directory=UnitDirectory(ZoneInfo(settings.policy.time_zone)),
        passwords=passwords or Passwords(),
        files=files,
        relay_files=RelayFiles(settings.media.directory),
        measurer=measurer,
        workshop=Workshop(renderer=Renderer(limits), measurer=measurer, files=files),
        http=settings.http_as_reached,
        media=settings.media,
        relays=settings.relays,
        enrolment=settings.enrolment,
        issuer=issuer,
        sessions=settings.sessions,
        policy=settings.policy,
        sensing=settings.sensing,
        secret_box=load_box(keys) if (keys := settings.sessions.secret_keys_file) else None,
        horizon_days=settings.planning.horizon_days,
        registry=registry,
        broker_is_connected=broker_is_connected,
        clock=clock,
        keyring=keyring,
        wake_alerts=wake_alerts,
        security=security or SecurityLog(),
        account_rates=RateLimit(settings.http.account_requests_per_minute),
    )


def measuring_limits(media: MediaSettings) -> Limits:
    """How much a file may be and cost."""
    return Limits(
        max_duration_s=int(media.max_duration.total_seconds()),
        max_film_s=int(media.max_film.total_seconds()),
        max_cpu_s=max(1, int(media.measuring_cpu.total_seconds())),
        max_memory_mib=media.measuring_memory_mib,
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@asynccontextmanager
async def _served(api: FastAPI, settings: HttpSettings) -> AsyncIterator[None]:
    """Serve inside the block; raises `CannotStart` where the addresses are not to be had."""
    try:
        sockets = listening_sockets(settings.hosts, settings.port)
    except OSError as error:
        where = " or ".join(settings.hosts)
        raise CannotStart(f"CONTROL_HTTP__PORT: {settings.port} on {where}: {error.strerror or error}") from error
    async with serving(api, settings, sockets=sockets):
        yield


@asynccontextmanager
async def serving(
    api: FastAPI, settings: HttpSettings, *, sockets: list[socket.socket] | None = None
) -> AsyncIterator[tuple[str, ...]]:
    """Serve inside the block, on IPv4 and IPv6; at its end answer what is under way and close.

    Gives the addresses. Raises OSError when none of them can be listened on. `sockets` are ones that listen already.
    """
    sockets = sockets or listening_sockets(settings.hosts, settings.port)
    addresses = tuple(_address(each) for each in sockets)
    server = _Server(
        uvicorn.Config(
            api,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            backlog=_BACKLOG,
            http=patient(settings.head_wait),
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            # A client that says nothing more does not hold a connection for ever.
            timeout_keep_alive=30,
            timeout_graceful_shutdown=max(1, int(settings.stop_timeout.total_seconds())),
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            ssl_certfile=settings.cert_file,
            ssl_keyfile=settings.key_file,
        )
    )
    async with asyncio.TaskGroup() as group:
        serve = group.create_task(server.serve(sockets=sockets))
        while not server.started and not serve.done():
            await asyncio.sleep(0.01)
        log.info("http_serving", extra={"addresses": list(addresses)})
        try:
            yield addresses
        finally:
            server.should_exit = True


def listening_sockets(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """A listening socket per address, all on one port.

    With port 0 the first decides it. Raises OSError when an address is taken, or when none can be listened on.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
        try:
            sockets.append(_listening(family, host, chosen))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                for opened in sockets:
                    opened.close()
                raise
            missing = error
            log.warning("address_not_available", extra={"address": host, "reason": str(error)})
    if not sockets:
        raise missing or OSError("no address to listen on")
    return sockets


def _listening(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
