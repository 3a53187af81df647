"""The client side of an MQTT 5 session (OASIS MQTT 5.0), without any I/O: bytes in, bytes and happenings out.

Lean on purpose: QoS 1 only, no topic aliases, no user properties, one dictionary and one queue per device, so that one
process can hold ten thousand of them. The `mqtt5` codec turns packets into bytes; the rules of the session are here:
packet ids, the broker's Receive Maximum and Maximum Packet Size, and acknowledging a message only when the device says
that it has taken it in.

A session lives as long as its connection (Clean Start, Session Expiry 0). Nothing needs more: orders are retained, the
journal repeats events until the platform's receipt, commands are sent again by whoever wants them done; and Mosquitto
2.0 crashes when it re-reads its revocation list while a session with a finite expiry is offline.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import mqtt5

from firmware_sim.errors import SimulatorError
from schemas import limits

RECEIVE_MAXIMUM = 32  # downlinks under way at once; a device is a small computer
INFLIGHT = 64  # uplinks under way at once, unless the broker allows less
WAITING = 1_000  # uplinks queued behind them

# Room for the fixed header, a topic and properties around the largest payload.
PACKET_BYTES = limits.DOWNLINK_BYTES + 1_024

# Reason codes from here on are failures. (The codec's codes cannot be ordered, their numbers can.)
REFUSED = 128

_NONE_FREE = "no packet id is free"
_MAX_PACKET_ID = 65_535


class SessionFailed(SimulatorError):
    """The connection is of no more use: the broker refused it, ended it or broke the protocol."""


class Taken(enum.Enum):
    """What became of a publish."""

    YES = 0
    NOT_NOW = 1  # the queue is full or there is no connection
    TOO_LARGE = 2  # the broker will never take it


@dataclass(frozen=True, slots=True)
class Opened:
    """The broker accepted the connection."""


@dataclass(frozen=True, slots=True)
class Message:
    """A downlink; to be acknowledged by `Session.acknowledge` once it has been taken in."""

    topic: str
    payload: bytes
    packet_id: int | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The broker has answered a publish. `reason` is a PUBACK reason code; 16 means that nobody was subscribed."""

    topic: str
    reason: int


Happening = Opened | Message | Answered


class Session:
    """One device's session, anew with every connection."""

    __slots__ = (
        "_buffer",
        "_filters",
        "_inflight",
        "_is_open",
        "_last_id",
        "_limit",
        "_listening",
        "_out",
        "_packet_limit",
        "_waiting",
        "client_id",
        "is_ping_unanswered",
        "keep_alive_s",
    )

    def __init__(self, client_id: str, filters: tuple[str, ...], *, keep_alive_s: int) -> None:
        self.client_id = client_id
        self.keep_alive_s = keep_alive_s
        self.is_ping_unanswered = False
        self._filters = filters
        self._listening: frozenset[str] = frozenset()
        self._inflight: dict[int, str] = {}  # packet id → topic
        self._waiting: deque[tuple[str, bytes, bool]] = deque()
        self._limit = INFLIGHT
        self._packet_limit = PACKET_BYTES
        self._last_id = 0
        self._is_open = False
        self._buffer = bytearray()
        self._out = bytearray()

    # --- what the device wants ---------------------------------------------------------------------------------------

    def connect(self, will_topic: str, will_payload: bytes) -> None:
        """Begin a connection, with a retained last will."""
        self.disconnected()
        packet = mqtt5.ConnectPacket(
            self.client_id,
            clean_start=True,
            will=mqtt5.Will(will_topic, payload=will_payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=True),
            keep_alive=self.keep_alive_s,
            receive_max=RECEIVE_MAXIMUM,
            max_packet_size=PACKET_BYTES,
        )
        self._out += packet.write()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> Taken:
        """Send a message with QoS 1, now or as soon as the broker's Receive Maximum lets it."""
        if not self._is_open or len(self._waiting) >= WAITING:
            return Taken.NOT_NOW
        if len(payload) + len(topic) + 16 > self._packet_limit:
            return Taken.TOO_LARGE
        self._waiting.append((topic, payload, retain))
        self._send_waiting()
        return Taken.YES

    def listen(self, filters: frozenset[str], *, anew: frozenset[str] = frozenset()) -> None:
        """Subscribe to these filters besides the session's own, and to no others.

        Those `anew` are subscribed to again even if they were before: the broker then sends what is retained again.
        """
        gained, lost = (filters - self._listening) | (anew & filters), self._listening - filters
        self._listening = filters
        if self._is_open and gained:
            self._subscribe(sorted(gained))
        if self._is_open and lost:
            self._out += mqtt5.UnsubscribePacket(self._free_id(), sorted(lost)).write()

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message was taken in."""
        if self._is_open and message.packet_id is not None:
            self._out += mqtt5.PubAckPacket(message.packet_id).write()

    def ping(self) -> None:
        """Ask the broker for a sign of life."""
        self.is_ping_unanswered = True
        self._out += mqtt5.PingReqPacket().write()

    def disconnect(self) -> None:
        """Take leave; the broker then forgets the last will."""
        if self._is_open:
            self._out += mqtt5.DisconnectPacket().write()
            self._is_open = False

    def disconnected(self) -> None:
        """The connection is gone, and what was under way with it; the journal brings events again."""
        self._is_open = False
        self.is_ping_unanswered = False
        self._buffer.clear()
        self._out.clear()
        self._waiting.clear()
        self._inflight.clear()

    def take(self) -> bytes:
        """The bytes to write to the broker since the last call."""
        out = bytes(self._out)
        self._out.clear()
        return out

    @property
    def is_idle(self) -> bool:
        """Whether everything published has been answered."""
        return not self._inflight and not self._waiting

    # --- what the broker says ----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[Happening]:
        """Take in bytes from the broker; raises `SessionFailed` when the connection is to be given up."""
        self._buffer += data
        while self._buffer:
            # A view pins the buffer, so it is released before the buffer is cut.
            with memoryview(self._buffer) as view:
                try:
                    packet, length = mqtt5.read(view)
                except IndexError:
                    break  # not all of it is here yet
                except ValueError as error:
                    raise SessionFailed(f"malformed packet: {error}") from None
            del self._buffer[:length]
            happening = self._read(packet)
            if happening is not None:
                yield happening
        if len(self._buffer) > PACKET_BYTES:
            raise SessionFailed("packet above our Maximum Packet Size")

    def _read(self, packet: mqtt5.Packet) -> Happening | None:
        match packet:
            case mqtt5.PublishPacket():
                return Message(packet.topic, packet.payload, packet.packet_id)
            case mqtt5.PubAckPacket():
                return self._answered(packet)
            case mqtt5.PingRespPacket():
                self.is_ping_unanswered = False
            case mqtt5.ConnAckPacket():
                return self._opened(packet)
            case mqtt5.SubAckPacket():
                refused = [int(code) for code in packet.reason_codes if int(code) >= REFUSED]
                if refused:
                    raise SessionFailed(f"subscription refused: {refused}")
            case mqtt5.UnsubAckPacket():
                pass  # what is not to be heard any more is not addressed to this device either
            case mqtt5.DisconnectPacket():
                raise SessionFailed(f"broker disconnected: {packet.reason_code.name}")
            case _:
                raise SessionFailed(f"unexpected {type(packet).__name__}")
        return None

    def _opened(self, packet: mqtt5.ConnAckPacket) -> Opened:
        if int(packet.reason_code) >= REFUSED:
            raise SessionFailed(f"broker refused the connection: {packet.reason_code.name}")
        self._is_open = True
        self._limit = min(INFLIGHT, packet.receive_max)
        self._packet_limit = packet.max_packet_size or PACKET_BYTES
        if packet.server_keep_alive is not None:
            self.keep_alive_s = packet.server_keep_alive
        self._subscribe([*self._filters, *sorted(self._listening)])
        return Opened()

    def _subscribe(self, filters: list[str]) -> None:
        wanted = [mqtt5.TopicFilter(each, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for each in filters]
        self._out += mqtt5.SubscribePacket(self._free_id(), wanted).write()

    def _answered(self, packet: mqtt5.PubAckPacket) -> Answered | None:
        topic = self._inflight.pop(packet.packet_id, None)
        self._send_waiting()
        return None if topic is None else Answered(topic, int(packet.reason_code))

    def _send_waiting(self) -> None:
        while self._waiting and len(self._inflight) < self._limit:
            topic, payload, retain = self._waiting.popleft()
            packet_id = self._free_id()
            packet = mqtt5.PublishPacket(
                topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=retain, packet_id=packet_id
            )
            self._inflight[packet_id] = topic
            self._out += packet.write()

    def _free_id(self) -> int:
        for _ in range(_MAX_PACKET_ID):
            self._last_id = self._last_id % _MAX_PACKET_ID + 1
            if self._last_id not in self._inflight:
                return self._last_id
        raise AssertionError(_NONE_FREE)
