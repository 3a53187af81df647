"""Packets put together by hand, and answers counted in whatever pieces they arrive."""

import mqtt5
import pytest

from services.local.bench.packets import Answers, UnexpectedPacket, publish


@pytest.mark.parametrize("size", [0, 1, 100, 110, 111, 112, 16_300, 16_400])
def test_a_publish_is_what_the_codec_writes(size: int) -> None:
    topic = "loa/v1/gateway-1/up/heartbeat/sensor-1"
    expected = mqtt5.PublishPacket(topic, b"x" * size, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=42)

    assert publish(topic.encode(), b"x" * size, number=41) == expected.write()


def acknowledged(first: int, last: int) -> bytes:
    return b"".join(mqtt5.PubAckPacket(number).write() for number in range(first, last + 1))


@pytest.mark.parametrize("piece", [1, 3, 4, 7, 4_000])
def test_acknowledgements_are_counted_however_they_arrive(piece: int) -> None:
    answers = Answers()
    data = acknowledged(1, 500)

    for start in range(0, len(data), piece):
        answers.feed(data[start : start + piece])

    assert (answers.acknowledged, answers.unheard, answers.refused) == (500, 0, 0)


@pytest.mark.parametrize("piece", [1, 5, 4_000])
def test_what_nobody_heard_and_what_was_refused_is_told_apart(piece: int) -> None:
    answers = Answers()
    data = b"".join(
        (
            acknowledged(1, 2),
            mqtt5.PubAckPacket(3, reason_code=mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS).write(),
            mqtt5.PubAckPacket(4, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED).write(),
            mqtt5.PublishPacket("loa/v1/gateway-1/down/receipt/sensor-1", b"r" * 300).write(),
            mqtt5.PingRespPacket().write(),
            acknowledged(5, 5),
        )
    )

    for start in range(0, len(data), piece):
        answers.feed(data[start : start + piece])

    assert (answers.acknowledged, answers.unheard, answers.refused, answers.received) == (5, 1, 1, 1)


def test_bytes_that_only_look_like_acknowledgements_are_not_counted() -> None:
    answers = Answers()

    # A message for us of which every fourth byte, and the one behind it, are those of a PUBACK.
    answers.feed(b"\x30\x0a" + b"\x00\x01t\x00" + b"\x40\x02\x00\x01\x40\x02")

    assert (answers.acknowledged, answers.received) == (0, 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER).write(), id="thrown_out"
        ),
        pytest.param(b"\x90\x04\x00\x01\x00\x01", id="suback_nobody_asked_for"),
        pytest.param(b"\x30\xff\xff\x7f" + b"x" * 100, id="too_long"),
    ],
)
def test_anything_else_ends_the_run(data: bytes) -> None:
    with pytest.raises(UnexpectedPacket):
        Answers().feed(data)
