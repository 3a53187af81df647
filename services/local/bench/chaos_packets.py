"""Byte streams cut into the packets of MQTT 5 and the messages of PostgreSQL, for whoever stands between two parties. Pure.

Reads only what a witness has to know, and by its own means: neither ingest's parser nor the codec it uses, so that a fault
in one of them is not shared.
"""

from typing import NamedTuple

PUBLISH, PUBACK = 3, 4
RECEIVE_MAXIMUM_UNSAID = 65_535  # MQTT 5, section 3.1.2.11.3

_RECEIVE_MAXIMUM = 0x21
# Properties of CONNECT (section 3.1.2.11) and how many bytes their values have; the others have a length of their own.
_FIXED = {0x11: 4, _RECEIVE_MAXIMUM: 2, 0x27: 4, 0x22: 2, 0x19: 1, 0x17: 1}


class Packet(NamedTuple):
    """One MQTT packet: its first byte, and everything behind its length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """The packet type, 1 to 15."""
        return self.first >> 4


class Published(NamedTuple):
    """What a PUBLISH says."""

    topic: str
    payload: bytes
    packet_id: int | None  # None at QoS 0


class Acknowledged(NamedTuple):
    """What a PUBACK says."""

    packet_id: int
    reason: int


class Greeting(NamedTuple):
    """What a CONNECT says of its session."""

    client_id: str
    receive_maximum: int


class Packets:
    """Cuts what one side of an MQTT connection sends, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that are whole now. Raises `ValueError` for a length of more than four bytes."""
        data = self._tail + data if self._tail else data
        found: list[Packet] = []
        start, end = 0, len(data)
        while (length := _variable(data, start + 1)) is not None and sum(length) <= end:
            body, size = length
            found.append(Packet(data[start], data[body : body + size]))
            start = body + size
        self._tail = data[start:]
        return found


def read_publish(packet: Packet) -> Published:
    """Return what a whole PUBLISH says."""
    body = packet.body
    at = 2 + int.from_bytes(body[:2], "big")
    topic = body[2:at].decode()
    packet_id = None
    if packet.first & 0x06:
        packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
    return Published(topic, body[_properties(body, at)[1] :], packet_id)


def read_puback(packet: Packet) -> Acknowledged:
    """Return what a whole PUBACK says; without a reason it is success."""
    return Acknowledged(int.from_bytes(packet.body[:2], "big"), packet.body[2] if len(packet.body) > 2 else 0)


def read_connect(packet: Packet) -> Greeting:
    """Return what a whole CONNECT says."""
    body = packet.body
    at = 2 + int.from_bytes(body[:2], "big") + 1 + 1 + 2  # protocol name, version, flags, keep-alive
    at, end = _properties(body, at)
    receive_maximum = RECEIVE_MAXIMUM_UNSAID
    while at < end:
        name, at = body[at], at + 1
        if name == _RECEIVE_MAXIMUM:
            receive_maximum = int.from_bytes(body[at : at + 2], "big")
        width = _FIXED.get(name)
        if width is None:
            break  # texts and bytes: ingest sends none, and what we look for has been seen or is not there
        at += width
    client = end + 2
    return Greeting(body[client : client + int.from_bytes(body[end:client], "big")].decode(), receive_maximum)


def _variable(data: bytes, start: int) -> tuple[int, int] | None:
    """Where what a variable byte integer announces begins, and how long it is; None while it has not arrived."""
    value = shift = 0
    for position in range(start, min(start + 4, len(data))):
        value |= (data[position] & 0x7F) << shift
        if data[position] < 0x80:
            return position + 1, value
        shift += 7
    if len(data) >= start + 4:
        raise ValueError("a length of more than four bytes")
    return None


def _properties(body: bytes, start: int) -> tuple[int, int]:
    """Where the properties in a whole packet begin and end."""
    length = _variable(body, start)
    if length is None:
        raise ValueError("a packet that ends before its properties")
    return length[0], sum(length)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------

COPY_DATA = ord("d")
_READY = ord("Z")
_IDLE = ord("I")
_NO_ENCRYPTION = b"N"  # one byte without a length, the answer to a request for encryption
_REQUEST_BYTES = 16  # the longest request that may come before the startup message
_HEAD_BYTES = 5  # type and length


class FromClient:
    """Tells which messages a client of PostgreSQL sends (protocol 3, without TLS)."""

    def __init__(self) -> None:
        self.application = ""  # the name it gives itself
        self._greeting: bytes | None = b""
        self._messages = _Messages()

    def feed(self, data: bytes) -> set[int]:
        """Return the types of the messages that begin in `data`."""
        if self._greeting is None:
            return {kind for kind, _ in self._messages.feed(data)}
        # Requests for encryption and the startup message have a length and no type; the startup message is the longer.
        self._greeting += data
        while len(self._greeting) >= 4:
            size = int.from_bytes(self._greeting[:4], "big")
            if len(self._greeting) < size:
                break
            rest = self._greeting[size:]
            if size > _REQUEST_BYTES:
                self.application = _application(self._greeting[8:size])
                self._greeting = None
                return self.feed(rest)
            self._greeting = rest
        return set()


def _application(startup: bytes) -> str:
    words = startup.split(b"\0")
    names = dict(zip(words[::2], words[1::2], strict=False))
    return names.get(b"application_name", b"").decode()


class FromServer:
    """Tells whether a session of PostgreSQL is inside a transaction, from what the server sends."""

    def __init__(self) -> None:
        self.is_in_transaction = False
        self._is_first = True
        self._messages = _Messages()

    def feed(self, data: bytes) -> None:
        """Note what `data` says."""
        if self._is_first:
            self._is_first = False
            data = data.removeprefix(_NO_ENCRYPTION)
        for kind, status in self._messages.feed(data):
            if kind == _READY:
                self.is_in_transaction = status != _IDLE


class _Messages:
    """Cuts a stream of typed messages, without keeping what they hold."""

    def __init__(self) -> None:
        self._head = b""
        self._skip = 0

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """Return type and first byte (0 where there is none) of each message that has begun."""
        data = self._head + data
        found: list[tuple[int, int]] = []
        at = min(self._skip, len(data))
        self._skip -= at
        while len(data) - at >= _HEAD_BYTES:
            size = 1 + int.from_bytes(data[at + 1 : at + _HEAD_BYTES], "big")
            if size > _HEAD_BYTES and len(data) - at == _HEAD_BYTES:
                break
            found.append((data[at], data[at + _HEAD_BYTES] if size > _HEAD_BYTES else 0))
            there = min(size, len(data) - at)
            self._skip = size - there
            at += there
        self._head = data[at:]
        return found
