"""Framing by hand, for packets the codec refuses."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.frames import LONGEST_PACKET, packet_size, salvage

PUBLISH = mqtt5.PublishPacket("loa/v1/a/up/event", b"x" * 200, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=77).write()


@given(st.integers(0, len(PUBLISH) + 20))
def test_a_packet_is_as_long_as_it_says(available: int) -> None:
    view = memoryview((PUBLISH + PUBLISH)[:available])
    assert packet_size(view) == (len(PUBLISH) if available >= 3 else None)


@pytest.mark.parametrize(
    "begin",
    [b"\x30\xff\xff\xff\xff\x01", b"\x30" + b"\xff\xff\xff\x7f"],
    ids=["five_byte_length", "longer_than_any_packet"],
)
def test_a_length_that_is_none_is_refused(begin: bytes) -> None:
    with pytest.raises(ValueError, match="packet"):
        packet_size(memoryview(begin))
    assert LONGEST_PACKET > 327_680


def test_an_unreadable_publish_can_still_be_acknowledged_and_kept() -> None:
    broken = PUBLISH.replace(b"loa/v1/a/", b"loa/v1/\xff/")
    salvaged = salvage(broken, "a codec's complaint")
    assert salvaged is not None
    assert salvaged.packet_id == 77
    assert salvaged.topic == "loa/v1/�/up/event"
    assert salvaged.payload == broken
    assert not salvaged.is_retained


def test_other_packets_are_not_salvaged() -> None:
    assert salvage(mqtt5.PingRespPacket().write(), "") is None


@given(st.binary(min_size=2, max_size=40))
def test_salvaging_never_fails(packet: bytes) -> None:
    salvage(b"\x32" + bytes([len(packet)]) + packet, "")
