"""Whoever stands between two parties reads what passes, however it is cut into pieces."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.bench.chaos_packets import (
    COPY_DATA,
    PUBACK,
    PUBLISH,
    FromClient,
    FromServer,
    Packet,
    Packets,
    read_connect,
    read_puback,
    read_publish,
)

CUTS = st.lists(st.integers(min_value=1, max_value=400), max_size=40)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    found, at = [], 0
    for cut in cuts:
        found.append(data[at : at + cut])
        at += cut
    return [*found, data[at:]]


def whole(data: bytes) -> Packet:
    (packet,) = Packets().feed(data)
    return packet


# --- MQTT ------------------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.sampled_from([0, 1, 127, 128, 16_383, 20_000]), max_size=6), cuts=CUTS)
def test_packets_come_out_whole_however_they_arrive(sizes: list[int], cuts: list[int]) -> None:
    sent = [
        mqtt5.PublishPacket(
            "loa/v1/a/up/event", bytes([each % 251]) * each, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1 + number
        )
        for number, each in enumerate(sizes)
    ]
    stream = b"".join(packet.write() for packet in sent)
    packets = Packets()

    found = [packet for piece in pieces(stream, cuts) for packet in packets.feed(piece)]

    assert [packet.kind for packet in found] == [PUBLISH] * len(sent)
    assert [read_publish(packet) for packet in found] == [(each.topic, each.payload, each.packet_id) for each in sent]


def test_a_message_of_quality_0_has_no_packet_id_and_properties_are_no_payload() -> None:
    packet = mqtt5.PublishPacket("a/b", b"payload", message_expiry_interval=600, user_properties=[("name", "x" * 200)])

    assert read_publish(whole(packet.write())) == ("a/b", b"payload", None)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\x40\x02\x12\x34", (0x1234, 0)),
        (b"\x40\x03\x00\x01\x10", (1, 0x10)),
        (b"\x40\x04\x00\x01\x87\x00", (1, 0x87)),
    ],
)
def test_an_acknowledgement_without_a_reason_is_success(raw: bytes, said: tuple[int, int]) -> None:
    packet = whole(raw)

    assert packet.kind == PUBACK
    assert read_puback(packet) == said


@pytest.mark.parametrize("receive_maximum", [20_000, 65_535])
def test_a_greeting_names_the_session_and_how_much_it_takes(receive_maximum: int) -> None:
    connect = mqtt5.ConnectPacket(
        client_id="ingest:1",
        clean_start=False,
        keep_alive=30,
        session_expiry_interval=0xFFFF_FFFF,
        receive_max=receive_maximum,
    )

    assert read_connect(whole(connect.write())) == ("ingest:1", receive_maximum)


def test_a_greeting_that_names_no_bound_has_the_largest() -> None:
    connect = b"\x10\x0e\x00\x04MQTT\x05\x00\x00\x1e\x00\x00\x01a"

    assert read_connect(whole(connect)) == ("a", 65_535)


def test_a_length_that_does_not_end_is_refused() -> None:
    with pytest.raises(ValueError, match="four bytes"):
        Packets().feed(b"\x30\xff\xff\xff\xff\x01")


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (4 + len(body)).to_bytes(4, "big") + body


def startup(application: str) -> bytes:
    body = b"\x00\x03\x00\x00user\x00x\x00application_name\x00" + application.encode() + b"\x00\x00"
    return (4 + len(body)).to_bytes(4, "big") + body


NO_TLS = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")


@given(cuts=CUTS)
def test_a_copy_is_noticed_in_what_a_client_sends(cuts: list[int]) -> None:
    client = FromClient()
    stream = (
        NO_TLS + startup("ingest ingest:1") + message(b"Q", b"COPY\x00") + message(b"d", b"row" * 500) + message(b"c")
    )

    seen = set().union(*(client.feed(piece) for piece in pieces(stream, cuts)))

    assert seen == {ord("Q"), COPY_DATA, ord("c")}
    assert client.application == "ingest ingest:1"


def test_what_a_row_holds_is_not_taken_for_a_message() -> None:
    client = FromClient()
    client.feed(startup("x"))

    assert client.feed(message(b"Q", message(b"d", b"inside"))) == {ord("Q")}


@pytest.mark.parametrize(("status", "is_inside"), [(b"I", False), (b"T", True), (b"E", True)])
def test_a_transaction_is_noticed_in_what_a_server_sends(status: bytes, is_inside: bool) -> None:
    server = FromServer()
    for byte in (
        b"N" + message(b"R", bytes(4)) + message(b"Z", b"I") + message(b"C", b"BEGIN\x00") + message(b"Z", status)
    ):
        server.feed(bytes([byte]))

    assert server.is_in_transaction is is_inside
