"""The MQTT session against a broker that can be told to misbehave in ways Mosquitto does not."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import mqtt5
import pytest

from services.control.trust.certificates import ServiceName
from services.ingest.frames import Unreadable
from services.ingest.mqtt import Session, SessionOptions, Subscription
from services.local.pki import Pki
from services.shared.settings import BrokerSettings
from tests.integration.ingest.support import eventually

pytestmark = pytest.mark.integration

TOPIC = "loa/v1/cluster-1/up/heartbeat"


def publish(packet_id: int, payload: bytes = b"x") -> bytes:
    return mqtt5.PublishPacket(TOPIC, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


@dataclass
class ScriptedBroker:
    """Accepts what the session asks for, unless told otherwise, and lets a test write what it likes."""

    port: int = 0
    refuses_subscriptions: bool = False
    connections: int = 0
    received: list[mqtt5.Packet] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    writer: asyncio.StreamWriter | None = None
    is_silent: bool = False
    redelivers: bytes = b""  # written at once after CONNACK, as a broker does that has unacknowledged messages for us

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        buffer = b""
        try:
            while data := await reader.read(65536):
                buffer += data
                while buffer:
                    try:
                        packet, size = mqtt5.read(memoryview(buffer))
                    except IndexError:
                        break
                    buffer = buffer[size:]
                    self.received.append(packet)
                    self.answer(packet, writer)
        except OSError:
            pass
        finally:
            writer.close()

    def answer(self, packet: mqtt5.Packet, writer: asyncio.StreamWriter) -> None:
        match packet:
            case mqtt5.ConnectPacket():
                writer.write(mqtt5.ConnAckPacket(session_present=True).write() + self.redelivers)
            case mqtt5.SubscribePacket():
                if self.is_silent:
                    return
                code = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
                if self.refuses_subscriptions:
                    code = mqtt5.SubAckReasonCode.NOT_AUTHORIZED
                writer.write(mqtt5.SubAckPacket(packet.packet_id, [code] * len(packet.topic_filters)).write())
                self.writer = writer
            case mqtt5.PubAckPacket():
                self.acknowledged.append(packet.packet_id)
            case mqtt5.PingReqPacket():
                if not self.is_silent:
                    writer.write(mqtt5.PingRespPacket().write())
            case mqtt5.DisconnectPacket():
                writer.close()

    def send(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)


class Recorder:
    """A receiver that keeps what it is handed."""

    def __init__(self) -> None:
        self.chunks: list[list[bytes]] = []
        self.unreadable: list[Unreadable] = []
        self.connection = 0

    @property
    def payloads(self) -> list[bytes]:
        return [payload for chunk in self.chunks for payload in chunk]

    def take_known(self, _data: bytes, start: int, *, connection: int) -> int:
        self.connection = connection
        return start

    def take(self, publishes: Sequence[mqtt5.PublishPacket], *, connection: int) -> None:
        self.chunks.append([packet.payload for packet in publishes])
        self.connection = connection

    def take_unreadable(self, packet: Unreadable, *, connection: int) -> None:
        self.unreadable.append(packet)


@dataclass(frozen=True, slots=True)
class Stage:
    broker: ScriptedBroker
    session: Session
    receiver: Recorder

    async def connections(self, count: int) -> None:
        """Return at the broker's connection of that number."""

        async def ask() -> int:
            return self.broker.connections

        await eventually(ask, lambda number: number >= count, what=f"connection {count}")

    async def payloads(self, *wanted: bytes) -> None:
        """Return when exactly these have been handed over."""

        async def ask() -> list[bytes]:
            return self.receiver.payloads

        await eventually(ask, lambda got: got == list(wanted), what="the payloads")


@asynccontextmanager
async def a_stage(pki: Pki, *, keepalive: timedelta = timedelta(seconds=30)) -> AsyncIterator[Stage]:
    broker = ScriptedBroker()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.service_ca))
    context.load_cert_chain(pki.broker.certificate, pki.broker.key)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0, ssl=context)
    broker.port = server.sockets[0].getsockname()[1]
    identity = pki.service(ServiceName.INGEST)
    receiver = Recorder()
    session = Session(
        SessionOptions(
            broker=BrokerSettings(
                host="localhost",
                port=broker.port,
                ca_file=pki.service_ca,
                cert_file=identity.certificate,
                key_file=identity.key,
                keepalive=keepalive,
            ),
            client_id="ingest:1",
            subscriptions=(
                Subscription(topic_filter="$share/secret/a/+"),
                Subscription(topic_filter="b/+", retained_first=True),
            ),
            receive_maximum=100,
            backoff_shortest=timedelta(milliseconds=10),
            backoff_longest=timedelta(milliseconds=50),
        ),
        receiver,
    )
    async with server, asyncio.TaskGroup() as tasks:
        tasks.create_task(session.run())
        await connected(session)
        try:
            yield Stage(broker, session, receiver)
        finally:
            await session.close()


async def connected(session: Session) -> None:
    async def ask() -> bool:
        return session.is_connected

    await eventually(ask, bool, what="a connection")


async def disconnected(session: Session) -> None:
    async def ask() -> bool:
        return not session.is_connected

    await eventually(ask, bool, what="the end of the connection")


async def filled(recorded: list[bytes] | list[int] | list[Unreadable], count: int) -> None:
    async def ask() -> int:
        return len(recorded)

    await eventually(ask, lambda length: length >= count, what=f"{count} of them")


async def test_packets_cut_anywhere_are_put_together(pki: Pki) -> None:
    async with a_stage(pki) as stage:
        stream = b"".join(publish(number, bytes([number]) * 40) for number in range(1, 21))
        for start in range(0, len(stream), 7):
            stage.broker.send(stream[start : start + 7])
            await asyncio.sleep(0)
        await stage.payloads(*(bytes([number]) * 40 for number in range(1, 21)))


# Told not to lose its temper: the codec panics over text that is not UTF-8, and Python hears of it besides.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(publish(2).replace(b"loa/v1/", b"loa/\xff1/"), id="topic_not_utf8"),
        pytest.param(b"\x32\x09\x00\x03a/b\x00\x02\x01\x7f", id="properties_cut_short"),
        pytest.param(b"\x32\x0a\x00\x03a/b\x00\x02\x02\x7f\x00", id="unknown_property"),
    ],
)
async def test_a_packet_the_codec_cannot_read_is_handed_over_and_the_next_one_too(pki: Pki, poison: bytes) -> None:
    async with a_stage(pki) as stage:
        stage.broker.send(publish(1, b"before") + poison + publish(3, b"after"))
        await filled(stage.receiver.unreadable, 1)
        await stage.payloads(b"before", b"after")
        (unreadable,) = stage.receiver.unreadable
        assert (unreadable.packet_id, unreadable.payload) == (2, poison)
        stage.session.acknowledge([1, 2, 3], connection=1)
        await filled(stage.broker.acknowledged, 3)
        assert stage.broker.acknowledged == [1, 2, 3]


@pytest.mark.parametrize(
    "nonsense",
    [b"\x30\xff\xff\xff\xff\xff", b"\x00\x00", mqtt5.PubRelPacket(1).write(), b"\xe0\x01\x8e"],
    ids=["no_length", "no_packet_type", "out_of_place", "session_taken_over"],
)
async def test_after_nonsense_the_session_begins_a_new_connection(pki: Pki, nonsense: bytes) -> None:
    async with a_stage(pki) as stage:
        stage.broker.send(nonsense)
        await stage.connections(2)
        await connected(stage.session)
        stage.broker.send(publish(1))
        await stage.payloads(b"x")


async def test_what_came_over_an_earlier_connection_is_not_acknowledged_on_this_one(pki: Pki) -> None:
    async with a_stage(pki) as stage:
        assert stage.broker.writer is not None
        stage.broker.writer.close()
        await stage.connections(2)
        await connected(stage.session)
        stage.session.acknowledge([1], connection=1)
        stage.session.acknowledge([2], connection=2)
        await filled(stage.broker.acknowledged, 1)
        assert stage.broker.acknowledged == [2]


async def test_a_broker_that_falls_silent_is_left(pki: Pki) -> None:
    async with a_stage(pki, keepalive=timedelta(seconds=1)) as stage:
        stage.broker.is_silent = True
        await stage.connections(2)


async def test_the_session_asks_for_what_it_needs(pki: Pki) -> None:
    async with a_stage(pki) as stage:
        connect, subscribe = stage.broker.received[:2]
    assert isinstance(connect, mqtt5.ConnectPacket)
    assert not connect.clean_start
    assert connect.session_expiry_interval == 0xFFFFFFFF
    assert connect.receive_max == 100
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    shared, presence = subscribe.topic_filters
    assert shared.retain_as_published
    assert not presence.retain_as_published  # the flag tells what the broker had kept
    assert shared.max_qos == presence.max_qos == mqtt5.QoS.AT_LEAST_ONCE
    assert isinstance(stage.broker.received[-1], mqtt5.DisconnectPacket)


async def test_refused_subscriptions_are_no_connection_and_the_secret_is_not_logged(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_stage(pki) as stage:
        stage.broker.refuses_subscriptions = True
        assert stage.broker.writer is not None
        stage.broker.writer.close()
        await stage.connections(4)
        assert not stage.session.is_connected
        stage.broker.refuses_subscriptions = False
        await connected(stage.session)
    told = [str(vars(record)) for record in caplog.records]
    assert any("SUBACK 135" in each for each in told)
    assert not any("secret" in each for each in told)


async def test_while_paused_nothing_is_taken_and_the_connection_lives_on(pki: Pki) -> None:
    async with a_stage(pki, keepalive=timedelta(seconds=1)) as stage:
        stage.session.pause()
        stage.broker.send(publish(1))
        pings = sum(isinstance(packet, mqtt5.PingReqPacket) for packet in stage.broker.received)

        async def more_pings() -> int:
            return sum(isinstance(packet, mqtt5.PingReqPacket) for packet in stage.broker.received) - pings

        await eventually(more_pings, lambda count: count >= 4)  # well past the keep-alive
        assert stage.receiver.payloads == []
        stage.session.resume()
        await stage.payloads(b"x")
        assert stage.broker.connections == 1


async def test_what_is_delivered_again_before_the_subscriptions_stand_is_acknowledged(pki: Pki) -> None:
    async with a_stage(pki) as stage:
        stage.broker.is_silent = True
        stage.broker.redelivers = publish(1)
        assert stage.broker.writer is not None
        stage.broker.writer.close()
        await stage.payloads(b"x")
        assert not stage.session.is_connected
        stage.session.acknowledge([1], connection=stage.receiver.connection)
        await filled(stage.broker.acknowledged, 1)


async def test_with_full_hands_the_session_does_not_come_back_for_more(pki: Pki) -> None:
    async with a_stage(pki) as stage:
        stage.broker.redelivers = publish(1)
        stage.session.pause()
        assert stage.broker.writer is not None
        # A reset: a proper end would have to be read, and nothing is read now.
        connection = stage.broker.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stage.broker.writer.transport.abort()
        await disconnected(stage.session)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # ten times the longest wait between two attempts
                await stage.connections(2)
        stage.session.resume()
        await stage.payloads(b"x")


async def test_a_session_that_is_not_connected_cannot_leave(pki: Pki) -> None:
    async with a_stage(pki) as stage:
        stage.broker.refuses_subscriptions = True
        assert stage.broker.writer is not None
        stage.broker.writer.close()
        await disconnected(stage.session)
        with pytest.raises(ConnectionError):
            await stage.session.unsubscribe()
