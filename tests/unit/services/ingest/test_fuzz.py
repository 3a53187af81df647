"""Whatever a device may send: a verdict for each message, once, the same on both ways, and never more in hand than came."""

import asyncio
import copy
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.errors import DecodeReason
from schemas.fields import DeviceKind
from schemas.readings import UNITS
from services.ingest.admission import (
    Cleared,
    Event,
    Heartbeat,
    Presence,
    Quarantined,
    Reading,
    Reason,
    Verdict,
    judge,
)
from services.ingest.batch import PAYLOAD_KEPT_BYTES, Taken, assemble
from services.ingest.batching import BatchLimits
from services.ingest.forms import MOST_FORMS, MOST_MASKS
from services.ingest.intake import Intake, IntakeLimits
from services.ingest.metrics import Metrics
from services.ingest.mqtt import SessionOptions, _Connection
from services.ingest.registry import Registry, pack
from services.ingest.stamps import TimeWindow, instant
from services.shared.settings import BrokerSettings
from tests.support import hostile
from tests.support.copy_rows import cells, values
from tests.support.vectors.world import T

# The codec panics over a topic that is not UTF-8, having printed what it found.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NOW = instant(T) + timedelta(seconds=1)
REGISTRY = Registry(
    [
        (b"cluster-1", pack(DeviceKind.CLUSTER, 1, 1)),
        (b"board-1", pack(DeviceKind.BOARD, 2, 2)),
        (b"gateway-1", pack(DeviceKind.GATEWAY, 3, 3)),
        (b"sensor-1", pack(DeviceKind.SENSOR, 4, 3)),
        (b"sensor-2", pack(DeviceKind.SENSOR, 5, 5)),
    ]
)
SPEAKERS = ("cluster-1", "board-1", "gateway-1", "sensor-2", "nobody-1")
REASONS = {*Reason, *DecodeReason}
HONEST = hostile.honest()
EDGES = hostile.edges()
SENSOR = HONEST["heartbeat_sensor_v1_solar.cbor"][1]


def speaker(payload: bytes) -> str:
    """Return a registered device that may send this: of its own kind where it is a heartbeat."""
    kind = DeviceKind(cbor2.loads(payload)[3]).name.lower()
    return next(name for name in SPEAKERS if name.startswith(kind))


def topic_of(name: str) -> str:
    kind, payload = HONEST[name]
    principal = speaker(payload) if kind == "heartbeat" else "cluster-1"
    return f"loa/v1/{principal}/{hostile.LEVELS[kind]}"


def verdict_on(topic: str, payload: bytes, *, is_retained: bool = False, now: Any = NOW) -> Verdict:
    return judge(topic, payload, is_retained=is_retained, registry=REGISTRY, now=now, window=TimeWindow())


def refused(topic: str, payload: bytes) -> str:
    verdict = verdict_on(topic, payload)
    assert isinstance(verdict, Quarantined)
    return verdict.reason


@st.composite
def topics(draw: st.DrawFn, kind: str) -> str:
    """Mostly the topic such a message belongs on, of somebody."""
    level = hostile.LEVELS[draw(st.sampled_from(sorted(hostile.LEVELS))) if draw(st.integers(0, 5)) == 0 else kind]
    match draw(st.integers(0, 8)):
        case 0:
            return draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
        case 1:
            return f"loa/v1/gateway-1/{level}/sensor-1"
        case 2:
            return f"loa/v1/gateway-1/{level}/{draw(st.text(st.characters(exclude_categories=['Cs']), max_size=60))}"
        case _:
            return f"loa/v1/{draw(st.sampled_from(SPEAKERS))}/{level}"


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes]:
    kind, payload = draw(st.sampled_from([*HONEST.values(), *HONEST.values(), *EDGES.values()]))
    if payload in (each[1] for each in HONEST.values()):
        payload = draw(hostile.payloads(payload))
    return draw(topics(kind)), payload


def settles_once(taken: list[Taken]) -> None:
    """Each of them is admitted, quarantined with reason and bytes, or a clearing; and never two of these."""
    batch = assemble(taken, now=NOW)
    assert batch.taken == len(taken)
    assert batch.admitted.total() + batch.quarantined.total() + batch.cleared == len(taken)
    assert sum(each.messages for each in batch.inmates.values()) == batch.quarantined.total()
    for inmate in batch.inmates.values():
        assert inmate.reason in REASONS
        assert len(inmate.payload) == min(inmate.size, PAYLOAD_KEPT_BYTES)
    kept = {each.payload for each in batch.inmates.values()}
    for message in taken:
        if isinstance(message.verdict, Quarantined):
            assert message.payload[:PAYLOAD_KEPT_BYTES] in kept


# --- one message -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HONEST)
def test_golden_uplinks_are_admitted(name: str) -> None:
    assert isinstance(verdict_on(topic_of(name), HONEST[name][1]), Heartbeat | Reading | Event | Presence)


@settings(max_examples=600)
@given(messages(), st.booleans())
def test_whatever_is_sent_has_one_verdict(message: tuple[str, bytes], is_retained: bool) -> None:
    topic, payload = message
    verdict = verdict_on(topic, payload, is_retained=is_retained)
    taken = Taken(
        topic=topic,
        payload=payload,
        is_retained=is_retained,
        packet_id=1,
        connection=1,
        received_at=NOW,
        verdict=verdict,
    )
    settles_once([taken])
    if is_retained and "/up/" in topic and payload:
        assert isinstance(verdict, Quarantined)


@pytest.mark.parametrize("payload", hostile.BOMBS.values(), ids=hostile.BOMBS)
@pytest.mark.parametrize("kind", hostile.LEVELS)
def test_a_few_bytes_that_speak_of_billions_cost_no_memory(kind: str, payload: bytes) -> None:
    topic = f"loa/v1/cluster-1/{hostile.LEVELS[kind]}"
    tracemalloc.start()
    try:
        verdict = verdict_on(topic, payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(verdict, Quarantined | Cleared)
    assert peak < 200_000


# --- versions --------------------------------------------------------------------------------------------------------


def changed(name: str, change: Callable[[dict[Any, Any]], None], *, in_body: bool = False) -> bytes:
    """Return a golden uplink with a change to its map, or to that of the event it envelops."""
    data = cbor2.loads(HONEST[name][1])
    if in_body:
        body = cbor2.loads(data[3])
        change(body)
        data[3] = cbor2.dumps(body)
    else:
        change(data)
    return cbor2.dumps(data)


@settings(max_examples=150)
@given(st.sampled_from(sorted(HONEST)), hostile.MINOR_KEYS, hostile.PLAIN_VALUES, st.data())
def test_fields_of_a_newer_minor_version_change_nothing(name: str, key: int, value: Any, data: st.DataObject) -> None:
    def grow(message: dict[Any, Any]) -> None:
        maps = [each for each in hostile.containers(message) if isinstance(each, dict)]
        data.draw(st.sampled_from(maps))[key] = copy.deepcopy(value)

    is_event = HONEST[name][0] == "event"
    newer = changed(name, grow, in_body=is_event and data.draw(st.booleans()))

    assert verdict_on(topic_of(name), newer) == verdict_on(topic_of(name), HONEST[name][1])


@settings(max_examples=100)
@given(st.sampled_from(sorted(HONEST)), hostile.CRITICAL_KEYS, hostile.PLAIN_VALUES, st.data())
def test_a_critical_field_nobody_knows_is_refused(name: str, key: int, value: Any, data: st.DataObject) -> None:
    def grow(message: dict[Any, Any]) -> None:
        maps = [each for each in hostile.containers(message) if isinstance(each, dict)]
        data.draw(st.sampled_from(maps))[key] = copy.deepcopy(value)

    is_event = HONEST[name][0] == "event"
    assert refused(topic_of(name), changed(name, grow, in_body=is_event and data.draw(st.booleans()))) == (
        "critical_field"
    )


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(HONEST)),
    st.integers(-(2**64), 2**64 - 1).filter(lambda version: version != 1),
    st.dictionaries(st.integers(1, 300), hostile.PLAIN_VALUES, max_size=4),
    st.booleans(),
)
def test_another_major_version_is_refused_whatever_else_it_says(
    name: str, version: int, other: dict[int, Any], in_body: bool
) -> None:
    in_body = in_body and HONEST[name][0] == "event"

    def renew(message: dict[Any, Any]) -> None:
        message.clear()
        message.update({0: version, **other})

    verdict = verdict_on(topic_of(name), changed(name, renew, in_body=in_body))
    assert isinstance(verdict, Quarantined)
    assert verdict.reason == "unsupported_version"
    assert (verdict.numbered is not None) == in_body  # the envelope could be read, so the number counts as received


@given(
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["cm", "in", "degF", "K", "Pa", "", "m\0", "M", "x" * 300]) | st.text(max_size=9),
    st.floats(-1e12, 1e12),
)
def test_a_known_quantity_in_another_unit_is_refused(quantity: str, unit: str, value: float) -> None:
    def measure(message: dict[Any, Any]) -> None:
        message[3] = [{0: quantity, 1: value, 2: unit}]

    try:
        payload = changed("reading_v1_weather.cbor", measure)
    except UnicodeEncodeError:
        return
    verdict = verdict_on("loa/v1/cluster-1/up/reading", payload)
    if unit == UNITS[quantity]:
        assert isinstance(verdict, Reading)
    else:
        assert isinstance(verdict, Quarantined)
        assert verdict.reason == "invalid_value"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e13, -1e300])
def test_a_value_that_is_none_is_refused(value: float) -> None:
    payload = changed("reading_v1_weather.cbor", lambda message: message[3][1].update({1: value}))
    assert refused("loa/v1/cluster-1/up/reading", payload) == "invalid_value"


# --- a stream of bytes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """One PUBLISH as it is put on the network."""

    topic: bytes
    payload: bytes
    flags: int = 2  # QoS 1
    properties: bytes = b""

    @property
    def is_readable(self) -> bool:
        """Whether the codec can read it: the topic is a text, and there are no properties that exist nowhere."""
        if not self.topic:
            return False
        try:
            self.topic.decode()
        except UnicodeDecodeError:
            return False
        return self.properties != _NO_PROPERTY

    def packet(self, packet_id: int) -> bytes:
        """Return it as bytes."""
        body = len(self.topic).to_bytes(2, "big") + self.topic + packet_id.to_bytes(2, "big")
        body += bytes([len(self.properties)]) + self.properties + self.payload
        length, head = len(body), bytearray([0x30 | self.flags])
        while True:
            length, low = length >> 7, length & 0x7F
            head.append(low | (0x80 if length else 0))
            if not length:
                return bytes(head) + body


_NO_PROPERTY = b"\x7f\x00"
_CONTENT_TYPE = b"\x03\x00\x01x"
_BAD_TEXT = [
    b"loa/v1/\xff\xfe/up/heartbeat",
    b"loa/v1/\xed\xa0\x80/up/event",
    b"\xc0\xaf",
    b"loa/v1/cluster-1/presence\xf5",
]


@st.composite
def publishes(draw: st.DrawFn, says: st.SearchStrategy[bytes]) -> Sent:
    """What sensors say among everything else, so that the express way is taken and left again and again."""
    flags = draw(st.sampled_from([2, 2, 2, 2, 2, 2, 3, 10]))  # first delivery; retained; delivered again
    properties = draw(st.sampled_from([b""] * 8 + [_CONTENT_TYPE, _NO_PROPERTY]))
    if draw(st.booleans()):
        return Sent(draw(st.sampled_from(_SENSORS)), draw(says), flags, properties)
    topic, payload = draw(messages())
    bad = draw(st.sampled_from(_BAD_TEXT)) if draw(st.integers(0, 9)) == 0 else None
    return Sent(topic.encode() if bad is None else bad, payload, flags, properties)


_SENSORS = [b"loa/v1/gateway-1/up/heartbeat/sensor-1", b"loa/v1/sensor-2/up/heartbeat"]
_TIMES = [T, T + 900, T - 119_000, T - 130_000, T + 400_000, 0, 4_102_444_800_000, 4_102_444_800_001, 2**53, 2**63]
_NUMBERS = [0, 100, 101, 255, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]


@dataclass(frozen=True, slots=True)
class Shape:
    """A sensor's sentence: all is fixed but its numbers, which are as wide as the largest of them."""

    clock: int
    keys: tuple[int, ...]
    power: bool

    def says(self, at_ms: int, numbers: list[int]) -> bytes:
        """Return the heartbeat with these numbers in it."""
        wide = [b"\x1b" + number.to_bytes(8, "big") for number in (at_ms, *numbers)]
        head = bytes([0xA0 | 6 + len(self.keys) + self.power, 0, 1, 1]) + wide[0] + bytes([2, self.clock, 3, 2])
        body = head + b"\x04\x631.0\x05" + wide[1]
        if self.power:
            body += b"\x07\xa2\x00\x02\x01" + wide[2]
        return body + b"".join(cbor2.dumps(key) + value for key, value in zip(self.keys, wide[3:], strict=False))


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Sent], list[Sent]]:
    """Honest heartbeats of a few shapes, which teach; then these shapes with other numbers, among everything else."""
    keys = st.sets(st.sampled_from([8, 9, 11, 100])).map(lambda keys: tuple(sorted(keys)))
    shapes = draw(st.lists(st.builds(Shape, st.integers(0, 2), keys, st.booleans()), min_size=1, max_size=2))
    teaching = [Sent(topic, shape.says(T, [7] * 6)) for shape in shapes for topic in _SENSORS]
    numbers = st.just([7] * 6) | st.lists(
        st.sampled_from(_NUMBERS[:2]) | st.sampled_from(_NUMBERS), min_size=6, max_size=6
    )
    says = st.builds(Shape.says, st.sampled_from(shapes), st.sampled_from(_TIMES), numbers)
    says |= hostile.payloads(SENSOR)
    return teaching, draw(st.lists(publishes(says), min_size=6, max_size=20))


class Line(asyncio.Transport):
    """The operating system's end of a connection."""

    is_aborted = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True


FILE = Path(__file__)  # has to be there; nobody opens it
OPTIONS = SessionOptions(
    broker=BrokerSettings.model_construct(host="nowhere", port=1, ca_file=FILE, cert_file=FILE, key_file=FILE),
    client_id="ingest:1",
    subscriptions=(),
    receive_maximum=100,
)


def a_connection() -> tuple[_Connection, Intake, Line]:
    intake = Intake(
        REGISTRY,
        lane="bulk",
        limits=IntakeLimits(batch=BatchLimits(size=1_000, age_s=60), messages=10_000, bytes=10_000_000),
        window=TimeWindow(),
        clock=lambda: NOW,
        metrics=Metrics(),
        states_per_s=1_000,
    )
    connection = _Connection(OPTIONS, intake, 1, lambda: None)
    line = Line()
    connection.connection_made(line)
    return connection, intake, line


def in_chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut `data` into chunks of these sizes, again and again."""
    chunks: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(data[at : at + size])
        at += size
    return chunks


_DOUBTS = Shape(clock=2, keys=(8,), power=False)
_LATE = _DOUBTS.says(4_102_444_800_001, [7] * 6)  # the first instant after what the contract has


@settings(max_examples=100)
@example(([Sent(_SENSORS[0], _DOUBTS.says(T, [7] * 6))], [Sent(_SENSORS[0], _LATE)]), [1 << 20])
@given(streams(), st.lists(st.integers(1, 400), min_size=1, max_size=5) | st.just([1 << 20]))
async def test_a_stream_cut_anywhere_is_settled_message_by_message_as_if_each_came_alone(
    stream_of: tuple[list[Sent], list[Sent]], sizes: list[int]
) -> None:
    connection, intake, line = a_connection()
    sent = [*stream_of[0], *stream_of[1]]
    packets = [each.packet(packet_id) for packet_id, each in enumerate(sent, start=1)]
    stream = b"".join(packets)
    longest = max(map(len, packets))

    lesson = sum(map(len, packets[: len(stream_of[0])]))
    for chunk in (stream[:lesson], *in_chunks(stream[lesson:], sizes)):
        connection.data_received(chunk)
        assert len(connection._tail) < longest
        assert intake._bytes_in_hand <= len(stream)

    assert connection.bug is None
    assert not line.is_aborted
    assert connection._tail == b""
    part = intake._cut()
    express = part.express
    known = intake.ordinary(express)
    assert sum(len(data) for data in {id(each.data): each.data for each in express.chunks}.values()) <= 2 * len(stream)
    assert len(intake._express._forms) <= MOST_FORMS
    assert all(len(masks) <= MOST_MASKS for masks in intake._express._forms.by_length.values())

    # Each of them once, in its order, with its own bytes.
    by_id = {message.packet_id: message for message in (*part.messages, *known)}
    assert len(by_id) == len(part) == len(sent)
    assert [message.packet_id for message in known] == express.packet_ids.get(1, [])
    for packet_id, each in enumerate(sent, start=1):
        message = by_id[packet_id]
        if each.is_readable:
            topic, is_retained = each.topic.decode(), bool(each.flags & 1)
            assert (message.topic, message.payload, message.is_retained) == (topic, each.payload, is_retained)
            assert message.verdict == verdict_on(topic, each.payload, is_retained=is_retained, now=message.received_at)
        else:
            assert message.payload == packets[packet_id - 1]
            assert isinstance(message.verdict, Quarantined)
            assert message.verdict.reason == "malformed_packet"

    # What went the express way has become the rows of the ordinary way.
    for row, message in zip(express.rows, known, strict=True):
        assert isinstance(message.verdict, Heartbeat)
        assert values(row) == message.verdict.row
    rows = {tuple(cells(row)): message for row, message in zip(express.rows, known, strict=True)}
    for state in express.states:
        *same, principal = cells(state)
        verdict = rows[tuple(same)].verdict
        assert isinstance(verdict, Heartbeat)
        assert principal == verdict.device.principal.encode()
    settles_once([*part.messages, *known])


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=80) | publishes(st.just(SENSOR)).map(lambda each: each.packet(5)[:40]), max_size=6))
async def test_bytes_that_are_no_mqtt_end_the_connection_at_worst(chunks: list[bytes]) -> None:
    connection, intake, line = a_connection()
    for chunk in chunks:
        if line.is_aborted:
            break
        connection.data_received(chunk)
    assert connection.bug is None
    assert len(connection._tail) <= sum(map(len, chunks))
    settles_once(list(intake._cut().messages))
