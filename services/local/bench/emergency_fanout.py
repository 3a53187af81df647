"""The broker alone: the same signed bytes, fanned out to as many simple receivers as there are devices.

Measured in two ways on the same sessions. `raw`: receivers verify nothing, so it is what broker and sessions take.
`verified`: each verifies the signature of the bytes it got, as every device must, so it is what is left for the platform to
be measured by on a machine whose few processors do the devices' arithmetic as well.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from schemas.identifiers import DeviceId
from services.control.delivery import connection as delivery
from services.local import key_sets
from services.local.bench import emergency_receivers, usage
from services.local.bench.emergency_receivers import Board, now_us, open_board
from services.local.bench.emergency_site import EmergencySite
from services.local.bench.measurement import BenchFailed
from services.local.bench.reporting import say, until_true
from services.local.bench.statistics import percentile, percentiles, rounded
from services.local.broker import RESERVED_DESCRIPTORS
from services.local.pki import Identity, issue_devices
from services.local.processes import ManagedProcess
from services.shared.clock import utc_now

SERVICES_CONNECTIONS = 40  # of ingest and control, at most
WITHIN = timedelta(seconds=30)
KEPT = timedelta(seconds=60)  # how long the broker retains what is fanned out

WAYS = (_RAW, _VERIFIED) = ("raw", "verified")


@dataclass(frozen=True, slots=True)
class Receivers:
    """Sessions that only note when a message came."""

    unit: uuid.UUID  # an area nobody else listens to
    boards: tuple[Board, ...]
    processes: tuple[ManagedProcess, ...]
    count: int

    @property
    def ready(self) -> int:
        """How many listen."""
        for process in self.processes:
            if process.returncode is not None:
                raise BenchFailed(f"{process.name} ended{process.tail()}")
        return sum(board.ready for board in self.boards)

    def take(self, way: str) -> None:
        """Have them take what comes from now on in this way."""
        for board in self.boards:
            board.is_verifying = way == _VERIFIED

    def since(self, at_us: int) -> list[int]:
        """When a message came to each that one has come to since."""
        return [each for board in self.boards for each in board.since(at_us)]


@dataclass(slots=True)
class Fanout:
    """What the rounds took, by way."""

    site: EmergencySite
    took_ms: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    received: dict[str, list[int]] = field(default_factory=lambda: {way: [] for way in WAYS})

    async def measure(self, receivers: Receivers, message: bytes, *, number: int) -> None:
        """One round each way. They take turns in being the first, which comes when devices have just been at work."""
        for way in WAYS if number % 2 else reversed(WAYS):
            receivers.take(way)
            came_ms = await self._round(receivers, message)
            self.took_ms[way] += came_ms
            self.received[way].append(len(came_ms))
            p99_ms = rounded(percentile(came_ms, 99))
            say(f"the broker alone, {way}: p99 {p99_ms} ms, {len(came_ms)} of {receivers.count}")

    async def _round(self, receivers: Receivers, message: bytes) -> list[float]:
        """Publish as control does, retained and expiring; how many milliseconds it took to each receiver, ascending."""
        async with delivery.connected(
            self.site.broker_settings(),
            client_id=f"control:bench-{uuid.uuid4().hex[:8]}",
            inflight=1,
            publish_timeout=WITHIN,
        ) as connection:
            now = utc_now()
            published_us = now_us()
            await connection.publish(
                f"loa/v1/area/{receivers.unit}/alert/{uuid.uuid4()}",
                message,
                is_retained=True,
                expires_at=now + KEPT,
                now=now,
            )
            try:
                await until_true(
                    lambda: len(receivers.since(published_us)) >= receivers.count, WITHIN, "every receiver has it"
                )
            except BenchFailed as error:
                say(str(error))  # who has not is missing in the report's count
        return sorted((each - published_us) / 1_000 for each in receivers.since(published_us))

    def summary(self) -> dict[str, Any]:
        """What the report says about it."""
        found: dict[str, Any] = {}
        for way in WAYS:
            took = percentiles(sorted(self.took_ms[way]))
            found |= {f"{way}_fanout_p50_ms": took["p50_ms"], f"{way}_fanout_p99_ms": took["p99_ms"]}
            found[f"{way}_received"] = min(self.received[way], default=None)
        return found


def have_room_beside(clusters: int) -> bool:
    """Whether the broker may hold the sessions of receivers and of devices at once."""
    return 2 * clusters + RESERVED_DESCRIPTORS + SERVICES_CONNECTIONS <= usage.open_files()


@asynccontextmanager
async def receivers(site: EmergencySite, *, processes: int, beside: bool) -> AsyncIterator[Receivers]:
    """As many simple receivers as there are devices; `beside` them, with names of their own, or in their place."""
    place, unit = site.platform, uuid.uuid4()
    names = [DeviceId(f"raw-{each}" if beside else each) for each in site.devices]
    identities = issue_devices(place.pki, names, now=utc_now())
    boards: list[Board] = []
    started: list[ManagedProcess] = []
    with ExitStack() as open_boards:
        async with AsyncExitStack() as stack:
            for which in range(processes):
                part = names[which::processes]
                orders, board = place.data / f"receivers-{which}.json", place.data / f"receivers-{which}.board"
                emergency_receivers.Orders(
                    host=place.broker.host,
                    port=place.broker.device_port,
                    ca_file=str(place.pki.service_ca),
                    identities=[_paths(each, identities[each]) for each in part],
                    # A device hears its commune, its district and its province.
                    filters=[f"loa/v1/area/{each}/alert/+" for each in (uuid.uuid4(), uuid.uuid4(), unit)],
                    board=str(board),
                    root=key_sets.root_public_key(place.pki).hex(),
                    keys=key_sets.current(place.pki, now=utc_now()).hex(),
                ).write(orders)
                boards.append(open_boards.enter_context(open_board(board, len(part))))
                process = await stack.enter_async_context(
                    place.module(f"receivers-{which}", emergency_receivers.__name__, str(orders))
                )
                started.append(process)
            yield Receivers(unit, tuple(boards), tuple(started), len(names))


def _paths(name: str, identity: Identity) -> tuple[str, str, str]:
    return name, str(identity.certificate), str(identity.key)
