"""The naive scripts store what ingest stores."""

from datetime import UTC, datetime

import aiomqtt
import mqtt5
import pytest

from schemas.topics import UplinkKind
from services.local.bench import naive
from services.local.bench.population import FEWEST, Population
from services.local.bench.traffic import Profile, Traffic, speaks

TRAFFIC = Traffic(population=Population.of(FEWEST, Profile.MIXED.mix), profile=Profile.MIXED, base_ms=1_900_000_000_123)
AT = datetime.fromtimestamp(1_900_000_000.123, UTC)


def a_message(kind: UplinkKind) -> aiomqtt.Message:
    number = next(each for each in range(1_000) if speaks(Profile.MIXED, TRAFFIC.index(each)) is kind)
    packet, _ = mqtt5.read(memoryview(TRAFFIC.packets(0, range(number, number + 1))[0]))
    assert isinstance(packet, mqtt5.PublishPacket)
    return aiomqtt.Message(packet.topic, bytes(packet.payload), qos=1, retain=False, mid=1, properties=None)


def test_a_heartbeat_becomes_a_row() -> None:
    statement, values = naive.row_of(a_message(UplinkKind.HEARTBEAT))

    assert statement is naive.INSERT_HEARTBEAT
    assert len(values) == 18
    assert str(values[0]).startswith("bench-")
    assert isinstance(values[1], datetime)
    assert abs((values[1] - AT).total_seconds()) < 1
    assert values[4] in {"2.4.1", "1.9.0", "0.7.3"}


@pytest.mark.parametrize("kind", [UplinkKind.READING, UplinkKind.EVENT])
def test_another_message_is_kept_whole(kind: UplinkKind) -> None:
    statement, (device_id, at, uplink, body) = naive.row_of(a_message(kind))

    assert statement is naive.INSERT_OTHER
    assert str(device_id).startswith("bench-")
    assert isinstance(at, datetime)
    assert abs((at - AT).total_seconds()) < 1
    assert uplink == kind
    assert str(body).startswith("{")
