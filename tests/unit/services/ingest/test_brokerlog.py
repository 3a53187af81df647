"""Lines as Mosquitto 2.0.11 wrote them; that it still writes them so is tested in tests/integration/broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.brokerlog import LONGEST_LINE, Refusal, RefusalKind, parse_line

REFUSALS = {
    "2026-11-20T22:19:01+0000: Client cluster-a disconnected due to oversize packet.": (
        RefusalKind.OVERSIZED_PACKET,
        "cluster-a",
    ),
    "1795212894: Client cluster-a disconnected due to oversize packet.": (RefusalKind.OVERSIZED_PACKET, "cluster-a"),
    "Client cluster-a disconnected due to oversize payload.": (RefusalKind.OVERSIZED_PACKET, "cluster-a"),
    "2026-11-20T21:56:00: Denied PUBLISH from dev001 (d0, q1, r0, m2, 'loa/v1/dev002/up/heartbeat', ... (1 bytes))": (
        RefusalKind.FOREIGN_TOPIC,
        "dev001",
    ),
    "2026-11-20T22:32:11: Client cluster-a [::1:41234] disconnected: oversize packet.": (
        RefusalKind.OVERSIZED_PACKET,
        "cluster-a",
    ),
    "2026-11-20T22:32:11: Client cluster-a [10.1.2.3:41234] disconnected: protocol error.": (
        RefusalKind.MALFORMED,
        "cluster-a",
    ),
    "2026-11-20T22:32:11+0000: Client cl-c disconnected due to malformed packet.": (RefusalKind.MALFORMED, "cl-c"),
    "2026-11-20T22:32:11+0000: Client <unknown> disconnected due to protocol error.": (RefusalKind.MALFORMED, None),
    "2026-11-20T22:32:08+0000: OpenSSL Error[0]: error:0A000086:SSL routines::certificate verify failed": (
        RefusalKind.UNTRUSTED_CERTIFICATE,
        None,
    ),
    "2026-11-20T23:00:01+0000: OpenSSL Error while trying to get the error[0]: error:0A000086:SSL routines::certificate"
    " verify failed": (RefusalKind.UNTRUSTED_CERTIFICATE, None),
    "2026-11-20T22:32:08+0000: Client connection from 127.0.0.1 failed: error:0A000086:SSL routines::certificate verify"
    " failed.": (RefusalKind.UNTRUSTED_CERTIFICATE, None),
    "2026-11-20T22:32:09+0000: OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not return a certificate": (
        RefusalKind.UNTRUSTED_CERTIFICATE,
        None,
    ),
    "2026-11-20T22:32:10+0000: Client connection from ::1 failed: error:0A000102:SSL routines::unsupported protocol.": (
        RefusalKind.FAILED_HANDSHAKE,
        None,
    ),
    "2026-11-20T22:32:10+0000: OpenSSL Error[0]: error:0A000418:SSL routines::tlsv1 alert unknown ca": (
        RefusalKind.FAILED_HANDSHAKE,
        None,
    ),
    "2026-11-20T22:32:10+0000: Client connection from 10.1.2.3 denied: max_connections exceeded.": (
        RefusalKind.CONNECTION_LIMIT,
        None,
    ),
    "2026-11-20T22:32:10+0000: Outgoing messages are being dropped for client ingest:1.": (
        RefusalKind.FULL_QUEUE,
        "ingest:1",
    ),
    "2026-11-20T22:32:11+0000: Client cl-d already connected, closing old connection.": (
        RefusalKind.TAKEN_OVER,
        "cl-d",
    ),
    "2026-11-20T22:32:10+0000: Dropping too large outgoing PUBLISH for cluster-a (262144 bytes)": (
        RefusalKind.UNDELIVERABLE,
        "cluster-a",
    ),
}

NOTHING_REFUSED = [
    "",
    "2026-11-20T22:32:11+0000: New connection from 127.0.0.1:49052 on port 18481.",
    "2026-11-20T22:32:11+0000: OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading",
    "2026-11-20T22:32:11+0000: Client <unknown> disconnected: Protocol error.",
    "2026-11-20T22:32:11+0000: Client cluster-a disconnected.",
    "2026-11-20T22:32:11+0000: Client cluster-a closed its connection.",
    "2026-11-20T22:32:11+0000: Client cluster-a has exceeded timeout, disconnecting.",
    "2026-11-20T21:56:00: Received PUBLISH from dev001 (d0, q1, r0, m2, 'Denied PUBLISH from x (', ... (1 bytes))",
    # What a client chose: topics it subscribed to, and a topic that quotes a refusal of somebody else.
    "2026-11-20T21:56:00: \tClient cluster-b disconnected due to oversize packet. (QoS 1)",
    "2026-11-20T21:56:00: dev001 1 Client cluster-b disconnected due to oversize packet.",
]


@pytest.mark.parametrize(("line", "expected"), REFUSALS.items())
def test_a_refusal_is_told_from_its_line(line: str, expected: tuple[RefusalKind, str | None]) -> None:
    kind, client = expected
    assert parse_line(line) == Refusal(kind=kind, client=client)
    assert parse_line(f"{line}\n") == Refusal(kind=kind, client=client)


@pytest.mark.parametrize("line", NOTHING_REFUSED)
def test_everything_else_is_no_refusal(line: str) -> None:
    assert parse_line(line) is None


def test_a_very_long_topic_does_not_hide_the_refusal() -> None:
    line = f"2026-11-20T21:56:00: Denied PUBLISH from dev001 (d0, q1, r0, m2, '{'x' * 70_000}', ... (1 bytes))"
    assert parse_line(line) == Refusal(kind=RefusalKind.FOREIGN_TOPIC, client="dev001")


@given(st.text(max_size=2 * LONGEST_LINE))
def test_any_text_has_an_answer(line: str) -> None:
    parse_line(line)


@given(st.sampled_from([*REFUSALS, *NOTHING_REFUSED]), st.integers(min_value=0, max_value=200))
def test_a_line_cut_short_has_an_answer(line: str, length: int) -> None:
    parse_line(line[:length])
