"""One gateway of the load: a session with everything it will say made and encrypted before anything is measured.

In a province a million devices and thousands of gateways encrypt with processors of their own; here they would use up
those of the platform. What crosses the wire is the same to the byte: TLS gives every record a number, and so it can be
made long before it is sent, as long as nothing else is said in between. (Hence no ping, and no DISCONNECT at the end.)
Sending is one system call for as many messages as are due.

Each packet is a TLS record of its own, as most MQTT libraries make it. Many in one record would spare the broker work,
and have it serve publishers more often than subscribers: it reads one record of each connection in turn.
"""

import array
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Self

import mqtt5

from schemas.identifiers import DeviceId
from schemas.topics import downlink_filters
from services.local.bench.packets import Answers, UnexpectedPacket

CHUNK = 32  # messages that are sent, and whose time is noted, together
KEEPALIVE_S = 300
CONNECT_TIMEOUT_S = 10.0

_READ_AT_ONCE = 256 * 1024
_HUNG_UP = "the broker hung up"


class Wire:
    """A TLS connection whose records are made apart from when they are sent. Raises `OSError` when it is lost."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Shake hands on a connection that blocks."""
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        is_agreed = False
        while not is_agreed:
            try:
                self._tls.do_handshake()
                is_agreed = True
            except ssl.SSLWantReadError:
                pass
            connection.sendall(self._outgoing.read())
            if not is_agreed:
                self._incoming.write(_some(connection))

    def seal(self, packets: Iterable[bytes]) -> bytes:
        """Return the records, one for each packet, to be sent behind all records made before."""
        for packet in packets:
            self._tls.write(packet)
        return self._outgoing.read()

    def receive(self) -> bytes:
        """Return what has arrived, of a connection that does not block b"" too."""
        try:
            self._incoming.write(_some(self._connection))
        except BlockingIOError:
            return b""
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_READ_AT_ONCE):  # a record, however much is asked for
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts)
        if parts:
            return b"".join(parts)  # among it, perhaps, why it hangs up
        raise ConnectionError(_HUNG_UP)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(_READ_AT_ONCE)
    if not data:
        raise ConnectionError(_HUNG_UP)
    return data


class Gateway:
    """A session that publishes chunks: `promise` says how many, `push` has the kernel take what it will of them."""

    def __init__(self, connection: socket.socket, wire: Wire, in_flight: int) -> None:
        """`in_flight` is how many messages may be without the broker's acknowledgement. See `connect`."""
        self.answers = Answers()
        self.sent = 0  # chunks
        self.promised = 0  # chunks; sent, or as good as
        self.sent_at = array.array("d")  # monotonic seconds, by chunk
        self._connection = connection
        self._wire = wire
        self._in_flight = in_flight
        self._records = bytearray()
        self._ends = array.array("q")  # where each chunk ends in there
        self._position = 0

    @classmethod
    def connect(
        cls, gateway_id: DeviceId, host: str, port: int, *, ca_file: str, certificate: tuple[str, str], in_flight: int
    ) -> Self:
        """Introduce a gateway, and ask for its downlinks as any does. Raises `OSError` and `UnexpectedPacket`."""
        context = ssl.create_default_context(cafile=ca_file)
        context.load_cert_chain(*certificate)
        connection = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = Wire(connection, context, host)
            _introduce(gateway_id, connection, wire)
            connection.setblocking(False)
        except BaseException:
            connection.close()
            raise
        return cls(connection, wire, in_flight)

    def prepare(self, packets: Sequence[bytes]) -> None:
        """Add a chunk to what will be said."""
        assert len(packets) == CHUNK
        self._records += self._wire.seal(packets)
        self._ends.append(len(self._records))

    @property
    def unacknowledged(self) -> int:
        """Messages promised that the broker has not answered."""
        return self.promised * CHUNK - self.answers.acknowledged

    @property
    def is_exhausted(self) -> bool:
        """Whether everything made has been sent."""
        return self.sent == len(self._ends)

    def may_promise(self) -> bool:
        """Whether there is one more chunk, and the broker not too far behind for it."""
        return self.promised < len(self._ends) and self.unacknowledged + CHUNK <= self._in_flight

    def promise(self) -> None:
        """Have the next chunk sent."""
        self.promised += 1

    def push(self) -> None:
        """Send as much of what is promised as the broker's side has room for. Raises `OSError`."""
        if self.sent == self.promised:
            return
        with memoryview(self._records)[self._position : self._ends[self.promised - 1]] as due:
            try:
                self._position += self._connection.send(due)
            except BlockingIOError:
                return
        now = time.monotonic()
        while self.sent < self.promised and self._ends[self.sent] <= self._position:
            self.sent_at.append(now)
            self.sent += 1

    def hear(self) -> None:
        """Count what has been answered. Raises `OSError` and `UnexpectedPacket`."""
        self.answers.feed(self._wire.receive())

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _introduce(gateway_id: DeviceId, connection: socket.socket, wire: Wire) -> None:
    connect = mqtt5.ConnectPacket(client_id=gateway_id, clean_start=True, keep_alive=KEEPALIVE_S)
    filters = [mqtt5.TopicFilter(each, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for each in downlink_filters(gateway_id)]
    connection.sendall(wire.seal((connect.write(), mqtt5.SubscribePacket(1, filters).write())))
    greeting = b""
    while True:
        greeting += wire.receive()
        while len(greeting) >= 2 and len(greeting) >= 2 + greeting[1]:
            packet, size = mqtt5.read(memoryview(greeting))
            greeting = greeting[size:]
            if isinstance(packet, mqtt5.SubAckPacket):
                return  # nothing else comes before the first PUBLISH
            if not isinstance(packet, mqtt5.ConnAckPacket) or packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                raise UnexpectedPacket(f"{packet} for an answer to CONNECT")
