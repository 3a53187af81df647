"""The MQTT session, as bytes in and bytes out; packets are made and read with the codec alone."""

from __future__ import annotations

import itertools

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.session import INFLIGHT, WAITING, Answered, Happening, Message, Opened, Session, SessionFailed, Taken

TOPIC = "loa/v1/loa-0001/up/event"


def packets(data: bytes) -> list[mqtt5.Packet]:
    found = []
    view = memoryview(data)
    while view:
        packet, length = mqtt5.read(view)
        found.append(packet)
        view = view[length:]
    return found


def a_session() -> Session:
    return Session("loa-0001", ("loa/v1/loa-0001/down/#",), keep_alive_s=60)


def opened(**connack: int) -> Session:
    session = a_session()
    session.connect("loa/v1/loa-0001/presence", b"will")
    list(session.receive(mqtt5.ConnAckPacket(**connack).write()))  # type: ignore[arg-type]
    session.take()
    return session


def acknowledge(session: Session, *ids: int, code: int = 0) -> list[Happening]:
    codes = {0: mqtt5.PubAckReasonCode.SUCCESS, 135: mqtt5.PubAckReasonCode.NOT_AUTHORIZED}
    return list(session.receive(b"".join(mqtt5.PubAckPacket(each, reason_code=codes[code]).write() for each in ids)))


def test_connects_clean_with_its_will_retained() -> None:
    session = a_session()
    session.connect("loa/v1/loa-0001/presence", b"will")
    (connect,) = packets(session.take())
    assert isinstance(connect, mqtt5.ConnectPacket)
    assert (connect.client_id, connect.clean_start, connect.session_expiry_interval) == ("loa-0001", True, 0)
    assert connect.will is not None
    assert (connect.will.topic, connect.will.payload, connect.will.retain) == (
        "loa/v1/loa-0001/presence",
        b"will",
        True,
    )


def test_subscribes_as_soon_as_it_is_let_in() -> None:
    session = a_session()
    session.connect("t", b"")
    session.take()
    assert list(session.receive(mqtt5.ConnAckPacket().write())) == [Opened()]
    (subscribe,) = packets(session.take())
    assert isinstance(subscribe, mqtt5.SubscribePacket)
    assert [each.pattern for each in subscribe.topic_filters] == ["loa/v1/loa-0001/down/#"]


def test_keep_alive_is_the_brokers_word() -> None:
    assert opened(server_keep_alive=7).keep_alive_s == 7


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED), id="refused"),
        pytest.param(
            mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER), id="thrown_out"
        ),
        pytest.param(mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]), id="subscription_refused"),
        pytest.param(mqtt5.PingReqPacket(), id="what_only_clients_send"),
    ],
)
def test_gives_up_when_told(packet: mqtt5.ConnAckPacket) -> None:
    with pytest.raises(SessionFailed):
        list(opened().receive(packet.write()))


def test_gives_up_on_garbage() -> None:
    with pytest.raises(SessionFailed):
        list(opened().receive(b"\x30\xff\xff\xff\xff\xff"))


class TestPublishing:
    def sent(self, session: Session) -> list[mqtt5.PublishPacket]:
        return [each for each in packets(session.take()) if isinstance(each, mqtt5.PublishPacket)]

    def test_nothing_without_a_connection(self) -> None:
        assert a_session().publish(TOPIC, b"x") is Taken.NOT_NOW

    def test_within_the_brokers_receive_maximum(self) -> None:
        session = opened(receive_max=3)
        for index in range(5):
            assert session.publish(TOPIC, b"%d" % index) is Taken.YES
        first = self.sent(session)
        assert [each.payload for each in first] == [b"0", b"1", b"2"]
        assert len({each.packet_id for each in first}) == 3
        assert not session.is_idle

        assert acknowledge(session, first[1].packet_id or 0) == [Answered(TOPIC, 0)]
        assert [each.payload for each in self.sent(session)] == [b"3"]

    def test_queue_is_bounded(self) -> None:
        session = opened()
        for _ in range(INFLIGHT + WAITING):
            assert session.publish(TOPIC, b"x") is Taken.YES
        assert session.publish(TOPIC, b"x") is Taken.NOT_NOW

    def test_ids_in_use_are_not_given_again(self) -> None:
        session = opened()
        session.publish(TOPIC, b"stays")
        (stays,) = self.sent(session)
        for _ in range(70_000):
            session.publish(TOPIC, b"x")
            (each,) = self.sent(session)
            assert each.packet_id != stays.packet_id
            acknowledge(session, each.packet_id or 0)

    def test_what_the_broker_never_takes_is_said_at_once(self) -> None:
        session = opened(max_packet_size=100)
        assert session.publish(TOPIC, b"x" * 100) is Taken.TOO_LARGE
        assert session.publish(TOPIC, b"x" * 10) is Taken.YES
        assert len(self.sent(session)) == 1

    def test_refusal_is_told(self) -> None:
        session = opened()
        session.publish(TOPIC, b"x")
        (each,) = self.sent(session)
        assert acknowledge(session, each.packet_id or 0, code=135) == [Answered(TOPIC, 135)]

    def test_lost_connection_takes_everything_with_it(self) -> None:
        session = opened(receive_max=1)
        session.publish(TOPIC, b"1")
        session.publish(TOPIC, b"2")
        session.connect("t", b"")
        assert session.is_idle
        assert [type(each) for each in packets(session.take())] == [mqtt5.ConnectPacket]


def test_message_is_acknowledged_only_when_it_was_taken_in() -> None:
    session = opened()
    packet = mqtt5.PublishPacket("t", b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=9)
    (message,) = session.receive(packet.write())
    assert message == Message("t", b"x", 9)
    assert session.take() == b""
    assert isinstance(message, Message)
    session.acknowledge(message)
    (ack,) = packets(session.take())
    assert isinstance(ack, mqtt5.PubAckPacket)
    assert ack.packet_id == 9


def test_ping_is_answered() -> None:
    session = opened()
    session.ping()
    assert session.is_ping_unanswered
    assert list(session.receive(mqtt5.PingRespPacket().write())) == []
    assert not session.is_ping_unanswered


@given(cuts=st.lists(st.integers(0, 400), max_size=8), sizes=st.lists(st.integers(0, 120), min_size=1, max_size=5))
def test_bytes_may_come_in_any_pieces(cuts: list[int], sizes: list[int]) -> None:
    stream = b"".join(
        mqtt5.PublishPacket("t", bytes(size), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1 + index).write()
        for index, size in enumerate(sizes)
    )
    session = opened()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    got = [happening for begin, end in itertools.pairwise(edges) for happening in session.receive(stream[begin:end])]
    assert got == [Message("t", bytes(size), 1 + index) for index, size in enumerate(sizes)]


def test_listens_to_units_as_they_change_and_again_after_every_connection() -> None:
    session = opened()
    session.listen(frozenset({"a", "b"}))
    session.listen(frozenset({"b", "c"}), anew=frozenset({"b"}))
    first, second, third = packets(session.take())
    assert isinstance(first, mqtt5.SubscribePacket)
    assert [each.pattern for each in first.topic_filters] == ["a", "b"]
    assert isinstance(second, mqtt5.SubscribePacket)
    assert [each.pattern for each in second.topic_filters] == ["b", "c"]
    assert isinstance(third, mqtt5.UnsubscribePacket)
    assert third.patterns == ["a"]
    assert (
        list(session.receive(mqtt5.UnsubAckPacket(third.packet_id, [mqtt5.UnsubAckReasonCode.SUCCESS]).write())) == []
    )

    session.disconnected()
    session.listen(frozenset({"c"}))
    session.connect("t", b"")
    list(session.receive(mqtt5.ConnAckPacket().write()))
    (again,) = [each for each in packets(session.take()) if isinstance(each, mqtt5.SubscribePacket)]
    assert [each.pattern for each in again.topic_filters] == ["loa/v1/loa-0001/down/#", "c"]
