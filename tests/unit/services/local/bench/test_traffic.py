"""What is sent is what devices send: real packets, real messages, each once; and every row leads back to its message."""

import itertools
from collections.abc import Iterator

import mqtt5
import pytest

from schemas import codec, topics
from schemas.events import PlayEnded
from schemas.fields import DeviceKind
from schemas.topics import UplinkKind
from services.local.bench.population import FEWEST, Population
from services.local.bench.traffic import PER_MS, Profile, Traffic, speaks

BASE_MS = 1_900_000_000_123
TURN = FEWEST // 4  # messages of a gateway until every device of its has spoken


def a_traffic(profile: Profile = Profile.MIXED) -> Traffic:
    return Traffic(population=Population.of(FEWEST, profile.mix), profile=profile, base_ms=BASE_MS)


def sent(traffic: Traffic, gateway: int, numbers: range) -> Iterator[mqtt5.PublishPacket]:
    """What an independent codec reads from the bytes."""
    for data in traffic.packets(gateway, numbers):
        packet, size = mqtt5.read(memoryview(data))
        assert isinstance(packet, mqtt5.PublishPacket)
        assert size == len(data)
        assert packet.write() == data
        yield packet


@pytest.mark.parametrize("profile", Profile)
def test_packets_are_what_a_codec_writes(profile: Profile) -> None:
    packets = list(sent(a_traffic(profile), 2, range(100, 200)))

    assert [packet.packet_id for packet in packets] == list(range(101, 201))
    assert all(packet.qos == mqtt5.QoS.AT_LEAST_ONCE for packet in packets)
    assert not any(packet.retain or packet.duplicate for packet in packets)


def test_packet_ids_start_again_behind_the_last() -> None:
    assert [packet.packet_id for packet in sent(a_traffic(), 0, range(65_533, 65_537))] == [65_534, 65_535, 1, 2]


@pytest.mark.parametrize("profile", Profile)
def test_messages_are_what_the_codec_encodes(profile: Profile) -> None:
    traffic = a_traffic(profile)
    numbers = range(TURN - 50, TURN + 250)

    for number, packet in zip(numbers, sent(traffic, 1, numbers), strict=True):
        index = traffic.index(number)
        topic = topics.parse_topic(packet.topic)
        assert isinstance(topic, topics.Uplink)
        assert topic.principal == traffic.population.gateway_id(1)
        assert topic.device == traffic.population.device_id(1, index)
        assert topic.kind is speaks(profile, index)
        match topic.kind:
            case UplinkKind.HEARTBEAT:
                heartbeat = codec.decode_heartbeat(packet.payload)
                assert heartbeat.kind is traffic.population.kind(index)
                assert heartbeat.device_at_ms == traffic.at_ms(number)
                assert codec.encode(heartbeat) == packet.payload
            case UplinkKind.READING:
                reading = codec.decode_reading(packet.payload)
                assert reading.device_at_ms == traffic.at_ms(number)
                assert codec.encode(reading) == packet.payload
            case UplinkKind.EVENT:
                envelope = codec.decode_envelope(packet.payload)
                event = codec.decode_event(envelope.body)
                assert isinstance(event, PlayEnded)
                assert event.device_at_ms == traffic.at_ms(number)
                assert envelope.sequence == 1 + number // TURN
                assert codec.encode(envelope) == packet.payload


def test_an_event_is_longer_when_its_number_is() -> None:
    traffic = a_traffic()
    number = next(each for each in range(300 * TURN, 301 * TURN) if traffic.index(each) == 9)

    (packet,) = sent(traffic, 0, range(number, number + 1))

    assert codec.decode_envelope(packet.payload).sequence == 301


def test_events_are_those_of_clusters() -> None:
    traffic = a_traffic(Profile.MIXED)
    kinds = {
        traffic.population.kind(index) for index in range(TURN) if speaks(Profile.MIXED, index) is UplinkKind.EVENT
    }

    assert kinds == {DeviceKind.CLUSTER}


def test_every_device_speaks_once_before_one_speaks_again() -> None:
    traffic = a_traffic()

    first, second = ([traffic.index(number + turn * TURN) for number in range(TURN)] for turn in (0, 1))

    assert sorted(first) == list(range(TURN))
    assert first == second


def test_neighbours_in_time_are_far_apart_in_the_registry() -> None:
    traffic = Traffic(population=Population.of(2_800_000), profile=Profile.HEARTBEATS, base_ms=BASE_MS)
    indexes = [traffic.index(number) for number in range(1_000)]

    assert min(abs(one - other) for one, other in itertools.pairwise(indexes)) > 100_000


def test_device_time_moves_on() -> None:
    traffic = a_traffic()

    assert traffic.at_ms(0) == BASE_MS
    assert traffic.at_ms(PER_MS - 1) == BASE_MS
    assert traffic.at_ms(1_000 * PER_MS) == BASE_MS + 1_000


@pytest.mark.parametrize("devices", [FEWEST, 4_160, 2_800_000])
def test_a_device_and_its_time_lead_back_to_the_message(devices: int) -> None:
    traffic = Traffic(population=Population.of(devices), profile=Profile.HEARTBEATS, base_ms=BASE_MS)
    per_gateway = traffic.population.per_gateway

    for number in (0, 1, PER_MS, 999, per_gateway - 1, per_gateway, 3 * per_gateway + 7):
        assert traffic.number_at(traffic.index(number), traffic.at_ms(number)) == number


@pytest.mark.parametrize("late_ms", [-1, 1, TURN // PER_MS + 1])
def test_a_time_at_which_a_device_said_nothing_leads_nowhere(late_ms: int) -> None:
    traffic = a_traffic()

    assert traffic.number_at(traffic.index(5), traffic.at_ms(5) + late_ms) is None


def test_an_event_leads_back_to_its_message() -> None:
    traffic = a_traffic()
    number = next(each for each in range(2 * TURN, 3 * TURN) if speaks(Profile.MIXED, traffic.index(each)) == "event")
    index = traffic.index(number)
    (packet,) = sent(traffic, 3, range(number, number + 1))
    envelope = codec.decode_envelope(packet.payload)
    journal = int.from_bytes(envelope.journal, "big", signed=True)

    assert traffic.number_in_journal(index, journal, envelope.sequence) == number
    assert traffic.number_in_journal(index, journal + 1, envelope.sequence) is None
    assert traffic.number_in_journal(index, journal, 0) is None
