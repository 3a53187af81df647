"""MQTT 5 packets as the generator needs them: PUBLISH at QoS 1 put together from parts, and answers counted. Pure.

A codec that builds an object for each message and each answer would cost the generator as much as ingest has to spend.
"""

PUBLISH_QOS_1 = 0x32
PUBACK = 0x40
_PUBLISH, _PUBACK, _PINGRESP, _DISCONNECT = 3, 4, 13, 14
_NO_SUBSCRIBER = 0x10  # PUBACK: taken, and given to nobody
_FIRST_REFUSAL = 0x80

PACKET_IDS = 65_535  # 1 to this


class UnexpectedPacket(Exception):
    """The broker said something that a publisher with good manners is never told."""


def packet_id(number: int) -> bytes:
    """Return the packet id of a connection's message with this number, counted from 0."""
    return (1 + number % PACKET_IDS).to_bytes(2, "big")


def head(topic: bytes, payload_size: int) -> bytes:
    """Return everything of a PUBLISH up to and including its topic; packet id, one zero byte and the payload follow."""
    return (
        bytes([PUBLISH_QOS_1])
        + _variable_length(2 + len(topic) + 2 + 1 + payload_size)
        + len(topic).to_bytes(2, "big")
        + topic
    )


def publish(topic: bytes, payload: bytes, *, number: int) -> bytes:
    """Return a whole PUBLISH without properties."""
    return b"".join((head(topic, len(payload)), packet_id(number), b"\x00", payload))


def _variable_length(length: int) -> bytes:
    encoded = bytearray()
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


class Answers:
    """Counts what a broker answers a publisher, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.unheard = 0  # of these: taken by the broker and given to nobody
        self.refused = 0
        self.received = 0  # messages for us, QoS 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Count the packets in `data`. Raises `UnexpectedPacket`."""
        # Nearly always nothing but successful acknowledgements, four bytes each; these two comparisons are one pass in C.
        count = len(data) // 4
        if not self._tail and len(data) == 4 * count and data[::4] == b"\x40" * count and data[1::4] == b"\x02" * count:
            self.acknowledged += count
            return
        self._tail = self._scan(self._tail + data)

    def _scan(self, data: bytes) -> bytes:
        """Count packet by packet; returns the beginning of one whose end has not arrived."""
        start, end = 0, len(data)
        while start + 2 <= end:
            length, body = data[start + 1], start + 2
            if length >= 0x80:
                if body == end:
                    break
                length, body = length & 0x7F | data[body] << 7, body + 1
                if length >= 0x80 << 7:
                    raise UnexpectedPacket(f"a packet of more than {0x80 << 7} bytes")
            if body + length > end:
                break
            self._count(data[start] >> 4, data[body : body + length])
            start = body + length
        return data[start:]

    def _count(self, kind: int, body: bytes) -> None:
        if kind == _PUBACK:
            reason = body[2] if len(body) > 2 else 0
            self.acknowledged += 1
            self.unheard += reason == _NO_SUBSCRIBER
            self.refused += reason >= _FIRST_REFUSAL
        elif kind == _PUBLISH:
            self.received += 1
        elif kind == _DISCONNECT:
            raise UnexpectedPacket(f"DISCONNECT with reason {body[0] if body else 0:#x}")
        elif kind != _PINGRESP:
            raise UnexpectedPacket(f"a packet of type {kind}")
