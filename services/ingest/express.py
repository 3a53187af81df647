"""The hot loop: from bytes off the network to rows for COPY, for what comes in thousands a second.

That is heartbeats of sensors (2.8 million of them, one a minute, are 46,700 messages a second), and of these the ordinary
ones: first delivery at QoS 1, not retained, no properties, of a registered sensor by whoever may speak for it, in a form
known by heart (`forms`), with a time that is fresh. Everything else is left to the codec and `admission.judge`, whose
verdict on an express message would be the same (a test holds the two together). Nothing is decided here that is not
decided there, only sooner.

Measured: 1.6 µs a message for this loop, 2.4 with 2 million devices (the registry is larger than any cache), against 25 µs
by the ordinary way.
"""

import struct
from array import array
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.errors import InvalidTopic
from schemas.fields import DeviceKind
from schemas.topics import Uplink, UplinkKind, parse_topic
from services.ingest.forms import LATEST_AT_MS, POSTGRES_EPOCH_US, Forms, microseconds, text_cell
from services.ingest.registry import KIND_MASK, NUMBER_MASK, NUMBER_SHIFT, SPEAKER_SHIFT, Registry
from services.ingest.rows import SENSOR_COLUMNS
from services.ingest.stamps import OLD, TimeWindow

# PUBLISH, QoS 1, neither DUP nor RETAIN (MQTT 5, section 3.3.1).
_FIRST_DELIVERY = 0x32
_MOST_TOPICS = 200_000  # of gateways, and of devices with a session of their own; about 200 bytes each
_FORGET_EVERY_S = 60
_LESSONS_A_SECOND = 200  # 70 µs each; whoever says something new each time gets no more of our time than this
_SOME_MORE = 10_000  # devices; a number beyond costs one message the express way

# The first cells of a row: how many there are; at, received_at, device_at, device_no, principal_no. A length of -1 is NULL.
_OWN, _OWN_RECEIVED = struct.Struct(">hiqiqiiii"), struct.Struct(">hiqiqiqiii")
_BEHIND, _BEHIND_RECEIVED = struct.Struct(">hiqiqiiiii"), struct.Struct(">hiqiqiqiiii")
_COLUMNS = len(SENSOR_COLUMNS)
_STATE_COLUMNS = struct.pack(">h", _COLUMNS + 1)

# What a message that is not express after all breaks out of the loop by: an argument out of bounds (no cell for it, no
# room in its column), a packet that has not arrived in full.
_NOT_EXPRESS = (KeyError, IndexError, struct.error)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages as they came, should their rows be refused after all: bytes, and where in them each packet begins."""

    data: bytes
    starts: list[int]
    received_at: datetime  # of the first; each is a microsecond later than the one before
    connection: int


@dataclass(slots=True)
class ExpressRows:
    """Express messages that wait for their batch, as COPY rows."""

    rows: list[bytes] = field(default_factory=list)  # of SENSOR_COLUMNS
    states: list[bytes] = field(default_factory=list)  # the same rows with the principal's name, where a state is due
    state_numbers: list[int] = field(default_factory=list)  # the devices of `states`
    packet_ids: dict[int, list[int]] = field(default_factory=dict)  # by connection
    chunks: list[Chunk] = field(default_factory=list)
    bytes: int = 0  # of payloads
    latest: int = 0  # time of a device among the last, ms since 1970; 0 where no clock was believed

    def __len__(self) -> int:
        return len(self.rows)


class Express:
    """Takes what it knows by heart. One per session; not shared between threads."""

    def __init__(self, registry: Registry, *, window: TimeWindow, states_per_s: int) -> None:
        self._registry = registry
        self._forms = Forms()
        self._ahead_ms = window.ahead // timedelta(milliseconds=1)
        self._behind_ms = min(window.behind, OLD) // timedelta(milliseconds=1)
        self._states = StateTimes(per_second=states_per_s)
        # Who publishes on a topic, by the topic up to the device or, of devices that speak for themselves, by all of it.
        self._gateways: dict[bytes, bytes] = {}
        self._themselves: dict[bytes, bytes] = {}
        self._forgotten_at = 0
        self._lessons = (0, 0)  # the second, and how often something was learnt in it
        self.waiting = ExpressRows()

    def cut(self) -> ExpressRows:
        """Return what waits, and begin anew."""
        waiting, self.waiting = self.waiting, ExpressRows()
        return waiting

    def take(self, data: bytes, start: int, *, connection: int, now: datetime) -> int:
        """Take messages from `start` on, up to the first packet that is none of ours; return where that one begins."""
        # Every name used below once per message is a local one: a fifth of the time.
        entries, by_length = self._registry.entries, self._forms.by_length
        gateways, themselves = self._gateways, self._themselves
        if not by_length:
            return start  # nothing has been learnt, and of a lane without heartbeats nothing will be
        waiting = self.waiting
        rows, packet_ids = waiting.rows, waiting.packet_ids.setdefault(connection, [])
        starts: list[int] = []
        now_us = microseconds(now)
        now_ms = (now_us + POSTGRES_EPOCH_US) // 1000
        earliest, latest = now_ms - self._behind_ms, now_ms + self._ahead_ms
        states = self._states
        written, conditions, seconds, every = states.at(now_ms // 1000, self._registry)
        size, payload_bytes, spoke_at = len(data), 0, 0
        try:
            while start < size and data[start] == _FIRST_DELIVERY:
                # The fixed header: a length of one or two bytes (a heartbeat has no more than 1,024).
                length, body = data[start + 1], start + 2
                if length >= 0x80:
                    if data[body] >= 0x80:
                        break
                    length += (data[body] - 1) << 7
                    body += 1
                end = body + length
                payload_at = body + (data[body] << 8) + data[body + 1] + 5
                if end > size or payload_at > end or data[payload_at - 1]:  # properties
                    break
                # Who speaks for whom.
                topic = data[body + 2 : payload_at - 3]
                head, _, device = topic.rpartition(b"/")
                speaker = gateways.get(head)
                if speaker is None:
                    speaker = device = themselves[topic]
                entry = entries[device]
                speaker_no = entries[speaker] >> NUMBER_SHIFT & NUMBER_MASK
                if entry >> SPEAKER_SHIFT != speaker_no or entry & KIND_MASK != DeviceKind.SENSOR:
                    break
                # What it says (`Forms.find`).
                payload = data[payload_at:end]
                number = int.from_bytes(payload, "big")
                for mask, forms in by_length.get(end - payload_at, ()):
                    form = forms.get(number & mask)
                    if form is not None:
                        break
                else:
                    break
                arguments = form.arguments(payload)
                # When: fresh, so no hour that is over gets a row, and its device's state is older than this.
                at = arguments[0]
                received_us = now_us + len(starts)
                at_us = at * 1000 - POSTGRES_EPOCH_US
                device_no = entry >> NUMBER_SHIFT & NUMBER_MASK
                if form.believes_its_clock:
                    if not earliest <= at <= latest:
                        break
                    spoke_at = at
                    lead = (
                        _OWN.pack(_COLUMNS, 8, at_us, 8, received_us, -1, 4, device_no, -1)
                        if speaker_no == device_no
                        else _BEHIND.pack(_COLUMNS, 8, at_us, 8, received_us, -1, 4, device_no, 4, speaker_no)
                    )
                else:
                    if at > LATEST_AT_MS:
                        break
                    lead = (
                        _OWN_RECEIVED.pack(_COLUMNS, 8, received_us, 8, received_us, 8, at_us, 4, device_no, -1)
                        if speaker_no == device_no
                        else _BEHIND_RECEIVED.pack(
                            _COLUMNS, 8, received_us, 8, received_us, 8, at_us, 4, device_no, 4, speaker_no
                        )
                    )
                cells = [lead, *form.cells]
                for index, (place, cell) in enumerate(form.changing, start=1):
                    cells[place] = cell(arguments[index])
                row = b"".join(cells)
                # Whether its state is to be written, too (`StateTimes`).
                condition = form.condition
                if seconds - written[device_no] >= every or condition != conditions[device_no] != 0:
                    written[device_no] = seconds
                    waiting.states.append(_STATE_COLUMNS + row[2:] + text_cell(speaker.decode()))
                    waiting.state_numbers.append(device_no)
                conditions[device_no] = condition
                # From here on nothing can fail: a message is taken whole or not at all.
                rows.append(row)
                packet_ids.append(data[payload_at - 3] << 8 | data[payload_at - 2])
                starts.append(start)
                payload_bytes += end - payload_at
                start = end
        except _NOT_EXPRESS:
            pass
        if starts:
            waiting.chunks.append(Chunk(data, starts, now, connection))
            waiting.bytes += payload_bytes
            waiting.latest = spoke_at or waiting.latest
        return start

    def learn(self, topic: str, payload: bytes, device_no: int, *, now: datetime) -> None:
        """Learn of a heartbeat that was admitted the ordinary way, so that the next like it is express."""
        self._states.make_room(device_no)
        self._states.is_due(device_no)
        seconds = int(now.timestamp())
        lessons = self._lessons[1] + 1 if self._lessons[0] == seconds else 1
        self._lessons = (seconds, lessons)
        if lessons > _LESSONS_A_SECOND:
            return
        if self._forms.is_full:
            if seconds - self._forgotten_at < _FORGET_EVERY_S:
                return
            self._forgotten_at = seconds
            self._forms.forget()
        try:
            uplink = parse_topic(topic)
        except InvalidTopic:
            return
        if isinstance(uplink, Uplink) and uplink.kind is UplinkKind.HEARTBEAT:
            if self._forms.find(payload) is None:
                self._forms.learn(payload)
            if uplink.device == uplink.principal:
                known, key = self._themselves, topic.encode()
            else:
                known, key = self._gateways, topic.encode().rpartition(b"/")[0]
            if len(known) < _MOST_TOPICS:
                known[key] = uplink.principal.encode()


class StateTimes:
    """When each sensor's state was last written: so seldom that all of them together stay within `per_second`.

    A state is an update somewhere in a table of millions of rows, the dearest thing a heartbeat can cost (15 to 25 µs of
    database and up to 4 KiB of WAL, against 2 µs for the heartbeat itself). Small fleets have every heartbeat's.
    """

    def __init__(self, *, per_second: int) -> None:
        self._per_second = per_second
        self._every = 0
        self._began_at: int | None = None
        self._written = array("i")  # seconds since we began; 4 bytes a device
        self._conditions = bytearray()  # 0: not heard yet

    def at(self, now_s: int, registry: Registry) -> tuple["array[int]", bytearray, int, int]:
        """Return when states were written and the conditions seen, both by device number; this second; the interval."""
        every = registry.count(DeviceKind.SENSOR) // self._per_second
        if self._began_at is None or every != self._every:
            self._began_at, self._every = now_s, every
            self._written, self._conditions = array("i"), bytearray()
            self.make_room(len(registry))
        return self._written, self._conditions, max(0, now_s - self._began_at), every

    def is_due(self, device_no: int) -> None:
        """Have the next state written: what was said meanwhile the ordinary way has been, and may be over."""
        self._written[device_no] = -(2**30)

    def make_room(self, device_no: int) -> None:
        """Give a place to devices of numbers up to this one and some more.

        As if they had been written at some time in the interval before we began: what begins with a start, or with an
        import, shall not be all at once.
        """
        missing = device_no + 1 + _SOME_MORE - len(self._written)
        if device_no >= len(self._written):
            every = self._every
            period = array("i", [-((number * 7919) % every) for number in range(every)] if every else [-1])
            self._written.extend((period * (missing // len(period) + 1))[:missing])
            self._conditions.extend(bytes(missing))
