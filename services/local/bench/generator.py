"""The load: gateways that publish as fast as they are allowed to. A process: `python -m services.local.bench.generator`.

All messages are made before anything is measured. Then each gateway, over its own TLS session with its own certificate,
writes chunks of packets as long as two bounds allow: how many of its messages the broker has not acknowledged (a device's
manners), and how many may have been sent in all (`Slot.ALLOWED`, moved on by whoever measures, so that the load follows
what is being taken instead of drowning it). When each chunk was written is kept for the end.

Each packet is a TLS record of its own, as any MQTT library makes it. Many in one record would spare the broker work, and
have it serve publishers more often than subscribers: it reads one record of each connection in turn.
"""

import array
import asyncio
import gc
import json
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, cast

import mqtt5
import uvloop

from schemas.identifiers import DeviceId
from schemas.topics import downlink_filters
from services.local.bench.packets import Answers, UnexpectedPacket
from services.local.bench.population import Population
from services.local.bench.scoreboard import Scoreboard, Slot, State, open_scoreboard
from services.local.bench.traffic import Profile, Traffic
from services.shared.clock import utc_now

CHUNK = 32  # messages to a write
LOOK_EVERY_S = 0.005  # at what others may have changed
KEEPALIVE_S = 300
CONNECT_TIMEOUT_S = 10.0
LAST_ANSWERS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a generator is told, as a JSON file."""

    host: str
    port: int
    ca_file: str
    certificates: Sequence[tuple[str, str]]  # by gateway: certificate and key
    devices: int
    profile: str
    messages: int  # made for each gateway; a multiple of CHUNK
    in_flight: int  # of one gateway, not acknowledged by the broker
    scoreboard: str
    ledger: str  # where to leave the times of sending

    def write(self, path: Path) -> None:
        """Write them down."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what was written down."""
        written = json.loads(path.read_text())
        return cls(**written | {"certificates": [(certificate, key) for certificate, key in written["certificates"]]})


class Gateway(asyncio.Protocol):
    """One session that publishes chunks."""

    def __init__(
        self, gateway_id: DeviceId, chunks: Sequence[Sequence[bytes]], in_flight: int, may_go_on: Callable[[], None]
    ) -> None:
        """`may_go_on` is called when the broker has answered or taken something."""
        self.answers = Answers()
        self.sent = 0  # chunks
        self.sent_at = array.array("d")  # monotonic seconds, by chunk
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: Exception | None = None
        self._gateway_id = gateway_id
        self._chunks = chunks
        self._in_flight = in_flight
        self._may_go_on = may_go_on
        self._transport: asyncio.Transport
        self._is_writable = True
        self._greeting = b""

    @property
    def unacknowledged(self) -> int:
        """Messages sent that the broker has not answered."""
        return self.sent * CHUNK - self.answers.acknowledged

    @property
    def is_exhausted(self) -> bool:
        """Whether everything made has been sent."""
        return self.sent == len(self._chunks)

    def may_send(self) -> bool:
        """Whether a chunk can go out now."""
        return self._is_writable and not self.is_exhausted and self.unacknowledged + CHUNK <= self._in_flight

    def send(self) -> None:
        """Write the next chunk."""
        self._transport.writelines(self._chunks[self.sent])
        self.sent_at.append(time.monotonic())
        self.sent += 1

    def goodbye(self) -> None:
        """Disconnect."""
        self._transport.write(mqtt5.DisconnectPacket().write())
        self._transport.close()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves, and ask for our downlinks as any gateway does."""
        self._transport = cast("asyncio.Transport", transport)
        connect = mqtt5.ConnectPacket(client_id=self._gateway_id, clean_start=True, keep_alive=KEEPALIVE_S)
        downlinks = [
            mqtt5.TopicFilter(each, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for each in downlink_filters(self._gateway_id)
        ]
        self._transport.write(connect.write() + mqtt5.SubscribePacket(1, downlinks).write())

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember why."""
        self._fail(exc or ConnectionError("the broker hung up"))

    def pause_writing(self) -> None:
        """The broker reads slowly."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """The broker has caught up."""
        self._is_writable = True
        self._may_go_on()

    def data_received(self, data: bytes) -> None:
        """Count answers."""
        try:
            if not self.accepted.done():
                self._greet(data)
                return
            self.answers.feed(data)
        except UnexpectedPacket as problem:
            self._fail(problem)
        else:
            self._may_go_on()

    def _greet(self, data: bytes) -> None:
        """Take CONNACK and SUBACK; nothing else comes before the first PUBLISH."""
        self._greeting += data
        while len(self._greeting) >= 2 and len(self._greeting) >= 2 + self._greeting[1]:
            packet, size = mqtt5.read(memoryview(self._greeting))
            self._greeting = self._greeting[size:]
            if isinstance(packet, mqtt5.SubAckPacket):
                self.accepted.set_result(None)
            elif not isinstance(packet, mqtt5.ConnAckPacket) or packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                raise UnexpectedPacket(f"{packet} for an answer to CONNECT")

    def _fail(self, problem: Exception) -> None:
        self.lost = self.lost or problem
        if not self.accepted.done():
            self.accepted.set_exception(problem)
        self._transport.abort()


class Load:
    """All gateways together, and what they may send."""

    def __init__(self, board: Scoreboard) -> None:
        self.gateways: list[Gateway] = []
        self._board = board
        self._sent = 0
        self._allowed = 0

    def go_on(self) -> None:
        """Send what may be sent now, the gateways taking turns."""
        was_sent = True
        while was_sent and self._sent + CHUNK <= self._allowed:
            was_sent = False
            for gateway in self.gateways:
                if gateway.may_send() and self._sent + CHUNK <= self._allowed:
                    gateway.send()
                    self._sent += CHUNK
                    was_sent = True

    async def run(self) -> None:
        """Send until told to stop, or until there is nothing left. Raises what ended a session."""
        board, looked_at = self._board, time.monotonic_ns()
        while board[Slot.GO] == 1:
            self._allowed = board[Slot.ALLOWED]
            self.go_on()
            now = time.monotonic_ns()
            if self._sent + CHUNK > self._allowed:
                board[Slot.HELD_NS] += now - looked_at
            looked_at = now
            self.tell()
            if all(gateway.is_exhausted for gateway in self.gateways):
                board[Slot.STATE] = State.EXHAUSTED
            await asyncio.sleep(LOOK_EVERY_S)
        self._allowed = 0
        await self._last_answers()

    def tell(self) -> None:
        """Make known how far we are. Raises what ended a session."""
        for gateway in self.gateways:
            if gateway.lost is not None:
                raise gateway.lost
        board, answers = self._board, [gateway.answers for gateway in self.gateways]
        board[Slot.SENT] = self._sent
        board[Slot.ACKNOWLEDGED] = sum(each.acknowledged for each in answers)
        board[Slot.UNHEARD] = sum(each.unheard for each in answers)
        board[Slot.REFUSED] = sum(each.refused for each in answers)

    async def _last_answers(self) -> None:
        until = time.monotonic() + LAST_ANSWERS_S
        while any(gateway.unacknowledged for gateway in self.gateways) and time.monotonic() < until:
            await asyncio.sleep(LOOK_EVERY_S)
            self.tell()
        self.tell()


async def run(orders: Orders, board: Scoreboard) -> None:
    """Make the messages, wait for the word, send. Raises what ended a session."""
    profile = Profile(orders.profile)
    population = Population.of(orders.devices, profile.mix)
    base_ms = round(utc_now().timestamp() * 1000)
    traffic = Traffic(population=population, profile=profile, base_ms=base_ms)
    load = Load(board)
    for which in range(population.gateways):
        chunks = [traffic.packets(which, range(first, first + CHUNK)) for first in range(0, orders.messages, CHUNK)]
        load.gateways.append(Gateway(population.gateway_id(which), chunks, orders.in_flight, load.go_on))
    board[Slot.BASE_MS] = base_ms
    gc.disable()  # nothing below makes cycles, and a collection would look at every chunk
    for gateway, certificate in zip(load.gateways, orders.certificates, strict=True):
        await _connect(gateway, orders, certificate)
    board[Slot.STATE] = State.READY
    while board[Slot.GO] == 0:
        await asyncio.sleep(LOOK_EVERY_S)
    board[Slot.STATE] = State.SENDING
    await load.run()
    write_sent_times(Path(orders.ledger), [gateway.sent_at for gateway in load.gateways])
    board[Slot.STATE] = State.DONE
    for gateway in load.gateways:
        gateway.goodbye()


async def _connect(gateway: Gateway, orders: Orders, certificate: tuple[str, str]) -> None:
    context = ssl.create_default_context(cafile=orders.ca_file)
    context.load_cert_chain(*certificate)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        await asyncio.get_running_loop().create_connection(lambda: gateway, orders.host, orders.port, ssl=context)
        await gateway.accepted


def write_sent_times(path: Path, times: "Sequence[array.array[float]]") -> None:
    """Keep, by gateway, when each chunk was written."""
    with path.open("wb") as file:
        for of_gateway in times:
            array.array("q", [len(of_gateway)]).tofile(file)
            of_gateway.tofile(file)


def read_sent_times(path: Path) -> "list[array.array[float]]":
    """Return, by gateway, when each chunk was written (monotonic seconds)."""
    times = []
    with path.open("rb") as file:
        while header := file.read(8):
            of_gateway = array.array("d")
            of_gateway.fromfile(file, array.array("q", header)[0])
            times.append(of_gateway)
    return times


def main(path: str) -> None:
    """Follow the orders in the file `path`."""
    orders = Orders.read(Path(path))
    with ExitStack() as stack:
        board = stack.enter_context(open_scoreboard(Path(orders.scoreboard)))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(run(orders, board))


if __name__ == "__main__":
    main(sys.argv[1])
