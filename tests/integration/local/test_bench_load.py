"""A bench's load between a real broker and an independent client: every message there, as made, and answers counted."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import mqtt5
import pytest

from services.control.trust.certificates import ServiceName
from services.local.bench.gateway import CHUNK, Gateway
from services.local.bench.generator import Load
from services.local.bench.packets import UnexpectedPacket
from services.local.bench.population import FEWEST, Population
from services.local.bench.scoreboard import NO_LIMIT, Scoreboard, Slot, State, open_scoreboard
from services.local.bench.traffic import Profile, Traffic
from services.local.broker import Broker
from services.local.pki import Pki
from tests.support.broker import MqttClient, device_identity, eventually, run

pytestmark = pytest.mark.integration

POPULATION = Population.of(FEWEST, Profile.MIXED.mix)
TRAFFIC = Traffic(population=POPULATION, profile=Profile.MIXED, base_ms=1_900_000_000_000)
CHUNKS = 20

Connect = Callable[..., Gateway]


@pytest.fixture
def connect(pki: Pki, broker: Broker) -> Iterator[Connect]:
    made: list[Gateway] = []

    def one(which: int, *, in_flight: int = 2_000, chunks: int = CHUNKS) -> Gateway:
        identity = device_identity(pki, POPULATION.gateway_id(which))
        gateway = Gateway.connect(
            POPULATION.gateway_id(which),
            broker.host,
            broker.device_port,
            ca_file=str(pki.service_ca),
            certificate=(str(identity.certificate), str(identity.key)),
            in_flight=in_flight,
        )
        made.append(gateway)
        for first in range(0, chunks * CHUNK, CHUNK):
            gateway.prepare(TRAFFIC.packets(which, range(first, first + CHUNK)))
        return gateway

    yield one
    for gateway in made:
        gateway.close()


@pytest.fixture
def listener(pki: Pki, broker: Broker) -> Iterator[MqttClient]:
    identity = pki.service(ServiceName.INGEST)
    with MqttClient(broker.service_port, pki, identity, client_id="ingest:test") as client:
        client.subscribe("loa/v1/+/up/#")
        yield client


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Scoreboard]:
    with open_scoreboard(tmp_path / "board") as made:
        yield made


def made(which: int, count: int) -> list[tuple[str, bytes]]:
    packets = (mqtt5.read(memoryview(data))[0] for data in TRAFFIC.packets(which, range(count)))
    return [(packet.topic, bytes(packet.payload)) for packet in packets if isinstance(packet, mqtt5.PublishPacket)]


def test_everything_made_arrives_in_order_and_is_acknowledged(connect: Connect, listener: MqttClient) -> None:
    gateway = connect(1)
    total = CHUNKS * CHUNK
    while gateway.may_promise():
        gateway.promise()

    def is_answered() -> bool:
        gateway.push()
        gateway.hear()
        return gateway.unacknowledged == 0

    eventually(is_answered)
    eventually(lambda: len(listener.messages) == total)

    assert [(message.topic, message.payload) for message in listener.messages] == made(1, total)
    assert (gateway.answers.acknowledged, gateway.answers.unheard, gateway.answers.refused) == (total, 0, 0)
    assert len(gateway.sent_at) == CHUNKS
    assert list(gateway.sent_at) == sorted(gateway.sent_at)
    assert gateway.is_exhausted


def test_no_more_is_promised_than_may_be_unanswered(connect: Connect, listener: MqttClient) -> None:
    gateway = connect(0, in_flight=2 * CHUNK)

    gateway.promise()
    assert gateway.may_promise()
    gateway.promise()
    assert not gateway.may_promise()

    def may_go_on() -> bool:
        gateway.push()
        gateway.hear()
        return gateway.may_promise()

    eventually(may_go_on)


def test_gateways_take_turns_and_stop_when_told(connect: Connect, listener: MqttClient, board: Scoreboard) -> None:
    gateways = [connect(which) for which in range(4)]
    board[Slot.GO], board[Slot.ALLOWED] = 1, 6 * CHUNK + CHUNK - 1

    thread = threading.Thread(target=Load(board, gateways).run)
    thread.start()
    eventually(lambda: board[Slot.ACKNOWLEDGED] == 6 * CHUNK)
    board[Slot.GO] = 2
    thread.join()

    assert [gateway.sent for gateway in gateways] == [2, 2, 1, 1]
    assert (board[Slot.SENT], board[Slot.REFUSED]) == (6 * CHUNK, 0)
    assert board[Slot.HELD_NS] > 0


def test_a_load_says_when_it_has_nothing_left(connect: Connect, listener: MqttClient, board: Scoreboard) -> None:
    load = Load(board, [connect(which, chunks=3) for which in range(2)])
    board[Slot.GO], board[Slot.ALLOWED] = 1, NO_LIMIT

    thread = threading.Thread(target=load.run)
    thread.start()
    eventually(lambda: board[Slot.STATE] == State.EXHAUSTED)
    board[Slot.GO] = 2
    thread.join()

    assert board[Slot.ACKNOWLEDGED] == 6 * CHUNK


def test_a_broker_that_goes_away_ends_the_load(connect: Connect, broker: Broker) -> None:
    gateway = connect(0)
    run(broker.stop())

    def is_noticed() -> bool:
        try:
            gateway.hear()
        except (UnexpectedPacket, OSError):
            return True
        return False

    eventually(is_noticed)
    with pytest.raises(OSError, match="hung up"):
        gateway.hear()


def test_messages_nobody_takes_are_counted_as_such(connect: Connect) -> None:
    gateway = connect(0, chunks=1)
    gateway.promise()

    def is_answered() -> bool:
        gateway.push()
        gateway.hear()
        return gateway.unacknowledged == 0

    eventually(is_answered)
    assert gateway.answers.unheard == CHUNK
