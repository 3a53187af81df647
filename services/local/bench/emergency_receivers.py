"""Simple receivers: sessions like those of devices that only note when a message came. A process:
`python -m services.local.bench.emergency_receivers`.

They are what the broker's own fan-out is measured with: TLS with a certificate each, MQTT 5, the same number of
subscriptions, QoS 1, acknowledged. Nothing is decoded or played. Nothing is verified either, unless the board says so: then
each checks the signature of the bytes it got as a device does, and notes when it was found good.
"""

import asyncio
import json
import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, cast

import mqtt5
import uvloop

from firmware_sim import trust
from firmware_sim.connector import Endpoint, Identity, tls_context
from firmware_sim.trust import Held, Refusal, Trust
from schemas.identifiers import DeviceId
from schemas.topics import downlink_filters
from services.local.bench.usage import allow_files
from services.shared.clock import utc_now

KEEPALIVE_S = 240
PING_EVERY_S = 100.0
HANDSHAKES = 32  # at once, as a fleet does
CONNECT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a process of receivers is told, as a JSON file."""

    host: str
    port: int
    ca_file: str
    identities: Sequence[tuple[str, str, str]]  # name, certificate, key
    filters: Sequence[str]  # of each session, besides those of its own downlinks
    board: str
    root: str  # the public key that devices are provisioned with, in hexadecimals
    keys: str  # the signed set of keys they are sent, in hexadecimals

    def write(self, path: Path) -> None:
        """Write them down."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what was written down."""
        return cls(**json.loads(path.read_text()))


_READY, _VERIFYING, _FIRST = 0, 1, 2  # slots of the board


class Board:
    """What came when, shared with whoever measures: by receiver, microseconds since 1970 of the last message, 0: none."""

    def __init__(self, slots: memoryview) -> None:
        self._slots = slots

    @property
    def ready(self) -> int:
        """How many have subscribed."""
        return int(self._slots[_READY])

    def subscribed(self) -> None:
        """One more has."""
        self._slots[_READY] += 1

    @property
    def is_verifying(self) -> bool:
        """Whether a message counts only once its signature was found good."""
        return bool(self._slots[_VERIFYING])

    @is_verifying.setter
    def is_verifying(self, wanted: bool) -> None:
        self._slots[_VERIFYING] = wanted

    def came(self, which: int, at_us: int) -> None:
        """A message for a receiver is there."""
        self._slots[_FIRST + which] = at_us

    def since(self, at_us: int) -> list[int]:
        """Return the times of all receivers that something has come to since."""
        return [each for each in self._slots[_FIRST:] if each >= at_us]


@contextmanager
def open_board(path: Path, receivers: int) -> Iterator[Board]:
    """The board in the file `path`, empty when it is new."""
    size = 8 * (_FIRST + receivers)
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as shared, memoryview(shared) as raw, raw.cast("q") as slots:
            yield Board(slots)


class Receiver(asyncio.Protocol):
    """One session."""

    def __init__(self, which: int, name: str, filters: Sequence[str], board: Board, believed: Trust) -> None:
        self._which = which
        self._name = name
        self._filters = filters
        self._board = board
        self._believed = believed
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(mqtt5.ConnectPacket(self._name, clean_start=True, keep_alive=KEEPALIVE_S).write())

    def data_received(self, data: bytes) -> None:
        """Note when a message came, and acknowledge it."""
        at_us = now_us()
        assert self._transport is not None
        self._rest += data
        while self._rest:
            with memoryview(self._rest) as view:
                try:
                    packet, length = mqtt5.read(view)
                except IndexError:
                    return
            del self._rest[:length]
            match packet:
                case mqtt5.PublishPacket():
                    self._note(packet.payload, at_us)
                    if packet.packet_id is not None:
                        self._transport.write(mqtt5.PubAckPacket(packet.packet_id).write())
                case mqtt5.ConnAckPacket():
                    wanted = [mqtt5.TopicFilter(each, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for each in self._filters]
                    self._transport.write(mqtt5.SubscribePacket(1, wanted).write())
                case mqtt5.SubAckPacket():
                    self._board.subscribed()
                    self.subscribed.set_result(None)
                case _:
                    pass

    def _note(self, payload: bytes, at_us: int) -> None:
        """Write down when the message came, or when it was found genuine; one that is not never came."""
        if not self._board.is_verifying:
            self._board.came(self._which, at_us)
        elif not isinstance(trust.verify_alert(payload, self._believed), Refusal):
            self._board.came(self._which, now_us())

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits for it learns that it is over."""
        if not self.lost.done():
            self.lost.set_exception(exc or ConnectionError(f"{self._name}: the broker hung up"))

    def ping(self) -> None:
        """Say that we are there."""
        assert self._transport is not None
        self._transport.write(mqtt5.PingReqPacket().write())


async def receive(orders: Orders, board: Board) -> None:
    """Connect everybody and receive for ever. Raises what ended a session, or kept one from beginning."""
    gate = asyncio.Semaphore(HANDSHAKES)
    endpoint = Endpoint(
        host=orders.host,
        port=orders.port,
        ca_file=Path(orders.ca_file),
        keepalive_s=KEEPALIVE_S,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        backoff_base_ms=1,
        backoff_cap_ms=1,
    )
    loop, believed = asyncio.get_running_loop(), _believed(orders)

    async def connect(which: int, name: str, certificate: str, key: str) -> Receiver:
        context = tls_context(endpoint, Identity(client_id=name, certificate=Path(certificate), key=Path(key)))
        filters = (*downlink_filters(DeviceId(name)), *orders.filters)
        async with gate, asyncio.timeout(CONNECT_TIMEOUT_S):
            _, receiver = await loop.create_connection(
                lambda: Receiver(which, name, filters, board, believed),
                orders.host,
                orders.port,
                ssl=context,
                server_hostname=orders.host,
            )
            await receiver.subscribed
        return receiver

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(connect(which, *each)) for which, each in enumerate(orders.identities)]
    receivers = [task.result() for task in tasks]
    while True:
        done, _ = await asyncio.wait(
            [each.lost for each in receivers], timeout=PING_EVERY_S, return_when=asyncio.FIRST_COMPLETED
        )
        for lost in done:
            lost.result()
        for each in receivers:
            each.ping()


def _believed(orders: Orders) -> Trust:
    """Whom a device believes that was sent these keys."""
    raw, root = bytes.fromhex(orders.keys), bytes.fromhex(orders.root)
    keys = trust.verify_keys(raw, root)
    assert not isinstance(keys, Refusal), keys
    return Trust(root=root, keys=Held(raw=raw, order=keys))


def now_us() -> int:
    """The machine's clock, as it is written on the board."""
    return round(utc_now().timestamp() * 1_000_000)


def main(path: str) -> None:
    """Follow the orders in the file `path`."""
    orders = Orders.read(Path(path))
    allow_files(len(orders.identities) + 64)
    with (
        open_board(Path(orders.board), len(orders.identities)) as board,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(receive(orders, board))


if __name__ == "__main__":
    main(sys.argv[1])
