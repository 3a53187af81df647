"""MQTT 5 framing by hand, for the packets the codec cannot read.

The codec reads whole packets fast and strictly. Two things it leaves open: whether bytes it refuses are a packet that is
still arriving or one that never will be readable, and what to acknowledge of the latter. Without an answer a single
packet the broker lets through and the codec does not would be redelivered for ever and stop the stream.
"""

from dataclasses import dataclass

# Far above what the broker lets through (broker_config: max_packet_size); a length beyond it is a lost frame boundary.
LONGEST_PACKET = 4 * 1024 * 1024

_PUBLISH = 3
_RETAIN = 0x01


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A PUBLISH the codec refused, as far as its fixed parts could be read. `payload` is the whole packet."""

    topic: str
    payload: bytes
    packet_id: int | None
    is_retained: bool
    problem: str


def packet_size(view: memoryview) -> int | None:
    """Return the size of the packet that `view` begins with, None while too little of it is there to say.

    Raises `ValueError` for a length that is none, or is beyond `LONGEST_PACKET`.
    """
    length = shift = 0
    for position, byte in enumerate(view[1:5], start=2):
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            if length > LONGEST_PACKET:
                raise ValueError(f"a packet of {length} bytes")
            return position + length
        shift += 7
    if len(view) >= 5:
        raise ValueError("a packet length of more than four bytes")
    return None


def salvage(packet: bytes, problem: str) -> Unreadable | None:
    """Return what can be said of an unreadable packet if it is a PUBLISH, None for any other."""
    if packet[0] >> 4 != _PUBLISH:
        return None
    qos = packet[0] >> 1 & 3
    start = 1
    while packet[start] >= 0x80:
        start += 1
    start += 1
    topic_end = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    has_id = qos > 0 and topic_end + 2 <= len(packet)
    return Unreadable(
        topic=packet[start + 2 : topic_end].decode("utf-8", "replace"),
        payload=packet,
        packet_id=int.from_bytes(packet[topic_end : topic_end + 2], "big") if has_id else None,
        is_retained=bool(packet[0] & _RETAIN),
        problem=problem[:200],
    )
