"""A witness between ingest and the broker: who knows what ingest acknowledged without asking ingest.

It ends ingest's TLS with the broker's certificate and begins its own to the broker with ingest's, both of which the bench
owns. So it reads every PUBLISH the broker delivers and every PUBACK that ingest answers, with a parser of its own, and
passes both on unchanged. A message counts as acknowledged when the PUBACK reaches the witness, also when it never gets to
the broker: ingest has given its word by then.
"""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from services.local.bench.chaos_gate import Gate
from services.local.bench.chaos_packets import (
    PUBACK,
    PUBLISH,
    Packet,
    Packets,
    read_connect,
    read_puback,
    read_publish,
)
from services.local.pki import Identity, Pki

CHUNK_BYTES = 262_144
CONNECT_TIMEOUT_S = 5.0
_CONNECT = 1
_FIRST_REFUSAL = 0x80


class Listener(Protocol):
    """Who is told."""

    def delivered(self, topic: str, payload: bytes) -> None:
        """The broker gave ingest a message, perhaps not for the first time."""

    def acknowledged(self, topic: str, payload: bytes, *, session: str) -> None:
        """Ingest acknowledged that message on the session of that client id."""


@dataclass(slots=True)
class Session:
    """What is known of one of ingest's sessions, over all its connections."""

    client_id: str
    receive_maximum: int
    most_in_hand: int = 0


class Witness(Gate["_Exchange"]):
    """A relay on a port of its own to the broker's listener for services."""

    def __init__(self, pki: Pki, ingest: Identity, listener: Listener) -> None:
        super().__init__(tls=_server_context(pki), chunk_bytes=CHUNK_BYTES)
        self.acknowledged_nothing = 0  # PUBACKs for what was not delivered over that connection, or was answered before
        self.sessions: dict[str, Session] = {}  # by client id
        self.listener = listener
        self._towards_broker = ssl.create_default_context(cafile=pki.service_ca)
        self._towards_broker.load_cert_chain(ingest.certificate, ingest.key)

    @property
    def in_hand(self) -> int:
        """Messages delivered and not acknowledged over the connections there are."""
        return sum(each.in_hand for each in self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.target is None:
            writer.transport.abort()
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                there, to_there = await asyncio.open_connection(
                    *self.target, ssl=self._towards_broker, limit=CHUNK_BYTES
                )
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        exchange = _Exchange(self, writer, to_there)
        self._open.add(exchange)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, exchange.from_ingest, to_there, exchange))
                tasks.create_task(self._pass_on(there, exchange.from_broker, writer, exchange))
        finally:
            self._open.discard(exchange)
            exchange.end()

    async def _pass_on(
        self, reader: asyncio.StreamReader, side: "_Side", writer: asyncio.StreamWriter, exchange: "_Exchange"
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                side.hear(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            exchange.end()

    # --- what the exchanges tell ---

    def greeted(self, client_id: str, receive_maximum: int) -> Session:
        """Return what is known of this session."""
        return self.sessions.setdefault(client_id, Session(client_id, receive_maximum))

    def heard_delivery(self, topic: str, payload: bytes) -> None:
        """Pass it on."""
        self.listener.delivered(topic, payload)

    def heard_acknowledgement(self, topic: str, payload: bytes, session: Session | None) -> None:
        """Pass it on."""
        self.listener.acknowledged(topic, payload, session="" if session is None else session.client_id)


class _Side(Protocol):
    def hear(self, data: bytes) -> None: ...


class _Exchange:
    """One connection: what was delivered over it and is not acknowledged."""

    def __init__(self, witness: Witness, ingest: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self.in_hand = 0
        # By packet id, oldest first: Mosquitto up to 2.0.12 sends on regardless of the Receive Maximum, and has been seen
        # to have 65,535 messages under way and to begin anew with its packet ids.
        self._delivered: dict[int, deque[tuple[str, bytes]]] = {}
        self.from_broker = _FromBroker(self, witness)
        self.from_ingest = _FromIngest(self, witness)
        self.session: Session | None = None
        self._writers = (ingest, broker)

    def end(self) -> None:
        """End both sides, without what is still to be sent."""
        for writer in self._writers:
            writer.transport.abort()

    def deliver(self, packet_id: int, message: tuple[str, bytes]) -> None:
        """Note a message that ingest has yet to acknowledge."""
        self._delivered.setdefault(packet_id, deque()).append(message)
        self.in_hand += 1
        if self.session is not None:
            self.session.most_in_hand = max(self.session.most_in_hand, self.in_hand)

    def take_back(self, packet_id: int) -> tuple[str, bytes] | None:
        """Return the message that an acknowledgement is for, None when there is none."""
        waiting = self._delivered.get(packet_id)
        if not waiting:
            return None
        self.in_hand -= 1
        return waiting.popleft()


class _FromBroker:
    def __init__(self, exchange: _Exchange, witness: Witness) -> None:
        self._exchange = exchange
        self._witness = witness
        self._packets = Packets()

    def hear(self, data: bytes) -> None:
        for packet in self._packets.feed(data):
            if packet.kind == PUBLISH:
                published = read_publish(packet)
                if published.packet_id is not None:
                    self._exchange.deliver(published.packet_id, (published.topic, published.payload))
                self._witness.heard_delivery(published.topic, published.payload)


class _FromIngest:
    def __init__(self, exchange: _Exchange, witness: Witness) -> None:
        self._exchange = exchange
        self._witness = witness
        self._packets = Packets()

    def hear(self, data: bytes) -> None:
        for packet in self._packets.feed(data):
            if packet.kind == PUBACK:
                self._hear_puback(packet)
            elif packet.kind == _CONNECT:
                greeting = read_connect(packet)
                self._exchange.session = self._witness.greeted(greeting.client_id, greeting.receive_maximum)

    def _hear_puback(self, packet: Packet) -> None:
        said = read_puback(packet)
        message = self._exchange.take_back(said.packet_id)
        if message is None:
            self._witness.acknowledged_nothing += 1
        elif said.reason < _FIRST_REFUSAL:
            self._witness.heard_acknowledgement(*message, self._exchange.session)


def _server_context(pki: Pki) -> ssl.SSLContext:
    """As the broker's own listener: its certificate, and only who has one of the services' authority is let in."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.service_ca))
    context.load_cert_chain(pki.broker.certificate, pki.broker.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
