"""Devices that live through everything: they connect again, send on, and repeat each event until its receipt.

Gateways of one sort send heartbeats at QoS 1, each with a device time of its own, and forget them: what the broker did not
take is gone, as on a real device. Gateways of the other sort number events in the journals of the devices behind them and
keep each until a receipt covers it; sooner than a real device, which waits 15 s, they send it again.
"""

import asyncio
import itertools
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import mqtt5

from schemas import codec, events
from schemas.fields import ClockState, PowerSource
from schemas.identifiers import DeviceId
from schemas.topics import Downlink, Uplink, UplinkKind, downlink_filters, format_topic, parse_topic
from services.local.bench import packets
from services.local.bench.chaos_ledger import Heartbeats, Journal, JournalKey, Ledger
from services.local.bench.chaos_packets import PUBACK, PUBLISH, Packets, read_puback, read_publish
from services.local.bench.traffic import Traffic
from services.shared.clock import utc_now

KEEPALIVE_S = 300
CONNECT_TIMEOUT_S = 3.0
RECONNECT_S = 0.15
TICK_S = 0.02
IN_FLIGHT = 1_000  # heartbeats of one gateway that the broker has not answered
WINDOW = 32  # events of one journal published and not receipted, as on a real device
REPEAT_S = 2.0

_NO_SUBSCRIBER = 0x10
_FIRST_REFUSAL = 0x80
_CONNACK, _SUBACK = 2, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where and how devices connect; the port may change."""

    host: str
    port: int
    ca_file: str


class Connection(asyncio.Protocol):
    """One connection of a gateway, greeted and subscribed once `accepted` is done."""

    def __init__(self, client_id: str, speaker: "Speaker") -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.is_writable = True
        self._client_id = client_id
        self._speaker = speaker
        self._packets = Packets()
        self._transport: asyncio.Transport

    def write(self, parts: Sequence[bytes]) -> None:
        """Send packets, each in a TLS record of its own."""
        self._transport.writelines(parts)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves."""
        self._transport = cast("asyncio.Transport", transport)
        connect = mqtt5.ConnectPacket(client_id=self._client_id, clean_start=True, keep_alive=KEEPALIVE_S)
        filters = [
            mqtt5.TopicFilter(each, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
            for each in downlink_filters(DeviceId(self._client_id))
        ]
        self._transport.write(connect.write() + mqtt5.SubscribePacket(1, filters).write())

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        if not self.lost.done():
            self.lost.set_result(None)
        if not self.accepted.done():
            self.accepted.set_exception(exc or ConnectionResetError("the broker hung up"))

    def pause_writing(self) -> None:
        """The broker reads slowly."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """The broker has caught up."""
        self.is_writable = True

    def data_received(self, data: bytes) -> None:
        """Hand over answers and messages."""
        for packet in self._packets.feed(data):
            if packet.kind == PUBACK:
                said = read_puback(packet)
                self._speaker.answered(said.packet_id, said.reason)
            elif packet.kind == PUBLISH:
                published = read_publish(packet)
                self._speaker.told(published.topic, published.payload)
            elif packet.kind == _SUBACK and not self.accepted.done():
                self.accepted.set_result(None)
            elif packet.kind == _CONNACK and packet.body[1] >= _FIRST_REFUSAL:
                self.abort()


class Speaker:
    """A gateway: keeps a connection for as long as it lives, and says on it what there is to say."""

    def __init__(self, gateway_id: DeviceId, door: Callable[[], Door], certificate: tuple[str, str]) -> None:
        self.is_connected = False
        self._gateway_id = gateway_id
        self._door = door
        self._certificate = certificate
        self._is_silent = False

    async def run(self) -> None:
        """Speak until cancelled."""
        context = ssl.create_default_context(cafile=self._door().ca_file)
        context.load_cert_chain(*self._certificate)
        while True:
            connection = await self._connect(context)
            if connection is not None:
                self.is_connected = True
                self.greeted()
                try:
                    while not connection.lost.done():
                        if connection.is_writable:
                            self.speak(connection, now=time.monotonic())
                        await asyncio.sleep(TICK_S)
                finally:
                    self.is_connected = False
                    connection.abort()
            await asyncio.sleep(RECONNECT_S)

    async def _connect(self, context: ssl.SSLContext) -> Connection | None:
        door = self._door()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._gateway_id, self), door.host, door.port, ssl=context
                )
                await connection.accepted
        except (OSError, TimeoutError):
            if connection is not None:
                connection.abort()
            return None
        return connection

    def say_no_more(self) -> None:
        """Say nothing new until `say_on`."""
        self._is_silent = True

    def say_on(self) -> None:
        """Say new things again."""
        self._is_silent = False

    def greeted(self) -> None:
        """A new connection stands."""

    def speak(self, connection: Connection, *, now: float) -> None:
        """Say what there is to say now."""

    def answered(self, packet_id: int, reason: int) -> None:
        """The broker has answered a PUBLISH."""

    def told(self, topic: str, payload: bytes) -> None:
        """A message came."""


# --- heartbeats ------------------------------------------------------------------------------------------------------


class HeartbeatSpeaker(Speaker):
    """Sends the heartbeats of one gateway of a `Traffic`, so many a second."""

    def __init__(
        self,
        gateway: int,
        traffic: Traffic,
        ledger: Ledger,
        rate: float,
        door: Callable[[], Door],
        certificate: tuple[str, str],
    ) -> None:
        super().__init__(traffic.population.gateway_id(gateway), door, certificate)
        self._gateway = gateway
        self._traffic = traffic
        self._ledger = ledger
        self._book: Heartbeats = ledger.heartbeats[gateway]
        self._rate = rate
        self._unanswered: dict[int, int] = {}  # numbers by packet id
        self._owed = 0.0
        self._looked_at = 0.0

    def greeted(self) -> None:
        """What was not answered on the connection before never will be."""
        self._unanswered.clear()
        self._looked_at = time.monotonic()

    def speak(self, connection: Connection, *, now: float) -> None:
        """Send what is due."""
        self._owed = min(self._owed + (now - self._looked_at) * self._rate, self._rate)
        self._looked_at = now
        count = min(int(self._owed), IN_FLIGHT - len(self._unanswered))
        if count <= 0 or self._is_silent:
            return
        self._owed -= count
        numbers = range(self._book.sent, self._book.sent + count)
        self._unanswered.update((_id_of(number), number) for number in numbers)
        self._book.send(count)
        connection.write(self._traffic.packets(self._gateway, numbers))

    def answered(self, packet_id: int, reason: int) -> None:
        """Note that the broker has it."""
        number = self._unanswered.pop(packet_id, None)
        if number is not None and reason < _FIRST_REFUSAL:
            self._ledger.taken(self._gateway, number, unheard=reason == _NO_SUBSCRIBER, at=time.monotonic())


def _id_of(number: int) -> int:
    return int.from_bytes(packets.packet_id(number), "big")


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Waiting:
    """An event that is not receipted."""

    payload: bytes
    first_sent_at: float | None = None
    due_at: float = 0.0


@dataclass(slots=True)
class _Device:
    """A device behind a gateway, and its journal."""

    topic: bytes
    journal_id: bytes
    journal: Journal
    waiting: dict[int, _Waiting] = field(default_factory=dict)  # by sequence number


class EventSpeaker(Speaker):
    """Numbers events for the devices behind one gateway, so many a second in all, and repeats them until receipted."""

    def __init__(
        self,
        gateway_id: DeviceId,
        devices: Sequence[tuple[DeviceId, JournalKey]],
        ledger: Ledger,
        rate: float,
        door: Callable[[], Door],
        certificate: tuple[str, str],
        *,
        repeat_s: float = REPEAT_S,
    ) -> None:
        super().__init__(gateway_id, door, certificate)
        self._repeat_s = repeat_s
        self._ledger = ledger
        self._rate = rate
        self._devices = {
            name: _Device(
                format_topic(Uplink(gateway_id, UplinkKind.EVENT, name)).encode(),
                key[1].to_bytes(8, "big", signed=True),
                ledger.journals.setdefault(key, Journal()),
            )
            for name, key in devices
        }
        self._journals = {key: self._devices[name] for name, key in devices}
        self.receipted_after_s: list[tuple[float, float]] = []  # when first sent, and how long until its receipt
        self._turns = itertools.cycle(self._devices.values())
        self._ids = itertools.cycle(range(1, packets.PACKET_IDS + 1))
        self._owed = 0.0
        self._looked_at = time.monotonic()

    @property
    def waiting(self) -> int:
        """Events not receipted."""
        return sum(len(device.waiting) for device in self._devices.values())

    def waited_s(self, begin: float, end: float) -> list[float]:
        """Return how long each event first sent within a span waited for its receipt; so far, where it still does."""
        now = time.monotonic()
        still = [
            now - each.first_sent_at
            for device in self._devices.values()
            for each in device.waiting.values()
            if each.first_sent_at is not None and begin <= each.first_sent_at <= end
        ]
        return still + [took_s for sent_at, took_s in self.receipted_after_s if begin <= sent_at <= end]

    def has_receipts(self, through: Mapping[JournalKey, int]) -> bool:
        """Whether all events up to these sequence numbers are receipted."""
        return not any(
            sequence <= through[key] for key, device in self._journals.items() for sequence in device.waiting
        )

    def greeted(self) -> None:
        """Everything not receipted is due at once."""
        for device in self._devices.values():
            for each in device.waiting.values():
                each.due_at = 0.0

    def speak(self, connection: Connection, *, now: float) -> None:
        """Write down what has happened meanwhile, and send what is due."""
        if self._is_silent:
            self._looked_at = now
        else:
            self._happen(now)
        due = []
        for device in self._devices.values():
            for _, each in zip(range(WINDOW), device.waiting.values(), strict=False):
                if each.due_at <= now:
                    each.due_at = now + self._repeat_s
                    each.first_sent_at = each.first_sent_at or now
                    due.append(
                        b"".join(
                            (
                                packets.head(device.topic, len(each.payload)),
                                next(self._ids).to_bytes(2, "big"),
                                b"\x00",
                                each.payload,
                            )
                        )
                    )
        if due:
            connection.write(due)

    def _happen(self, now: float) -> None:
        self._owed += (now - self._looked_at) * self._rate
        self._looked_at = now
        device_at_ms = round(utc_now().timestamp() * 1000)
        while self._owed >= 1:
            self._owed -= 1
            device = next(self._turns)
            sequence = device.journal.send()
            body = codec.encode(
                events.PowerChanged(
                    device_at_ms=device_at_ms,
                    clock=ClockState.SYNCHRONISED,
                    source=PowerSource.MAINS if sequence % 2 else PowerSource.BATTERY,
                    battery_percent=sequence % 101,
                )
            )
            envelope = events.EventEnvelope(journal=device.journal_id, sequence=sequence, body=body)
            device.waiting[sequence] = _Waiting(codec.encode(envelope))

    def answered(self, packet_id: int, reason: int) -> None:  # noqa: ARG002 - events are known by their journals
        """That the broker has it lets no device forget an event."""
        if reason < _FIRST_REFUSAL and reason != _NO_SUBSCRIBER:
            self._ledger.events_taken += 1

    def told(self, topic: str, payload: bytes) -> None:
        """Forget what a receipt covers."""
        parsed = parse_topic(topic)
        device = self._devices.get(parsed.device) if isinstance(parsed, Downlink) else None
        if device is None:
            return
        receipt = codec.decode_receipt(payload)
        if receipt.journal != device.journal_id:
            return
        now = time.monotonic()
        for sequence in [each for each in device.waiting if receipt.covers(each)]:
            sent_at = device.waiting.pop(sequence).first_sent_at
            if sent_at is not None:
                self.receipted_after_s.append((sent_at, now - sent_at))
