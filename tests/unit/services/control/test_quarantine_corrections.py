"""A correction mends the form of a message: never who sent it, never the number of an event."""

from __future__ import annotations

from typing import Any

import pytest

from schemas import codec
from services.control.errors import Invalid
from services.control.quarantine_corrections import Copy, Edit, corrected
from services.control.quarantine_notation import described
from tests.support import ingest_builders as build

HEARTBEATS, EVENTS = "loa/v1/cluster-1/up/heartbeat", "loa/v1/cluster-1/up/event"


def with_version(payload: bytes, version: int) -> bytes:
    data = codec.loads(payload, size_limit=4_096)
    data[0] = version
    return codec.dumps(data)


def correct(original: Copy, *, is_cut: bool = False, principal: str = "cluster-1", **edit: Any) -> Copy:
    return corrected(original, Edit(**edit), principal=principal, is_cut=is_cut)


def fault(original: Copy, **edit: Any) -> tuple[str, str]:
    with pytest.raises(Invalid) as caught:
        correct(original, **edit)
    (only,) = caught.value.faults
    return only.field, only.code


def test_the_version_of_a_heartbeat_is_set() -> None:
    sent = build.heartbeat()
    assert correct(Copy(topic=HEARTBEATS, payload=with_version(sent, 2)), version=1).payload == sent


def test_the_version_of_an_event_is_set_in_its_body_too() -> None:
    sent = build.event(5)
    mangled = with_version(build.event(5, with_version(build.event_body(), 3)), 2)
    assert correct(Copy(topic=EVENTS, payload=mangled), version=1).payload == sent


def test_the_device_is_set_behind_the_same_principal() -> None:
    original = Copy(topic="loa/v1/gateway-1/up/event/sensro-1", payload=build.event())
    made = correct(original, device_id="sensor-1", principal="gateway-1")
    assert made == Copy(topic="loa/v1/gateway-1/up/event/sensor-1", payload=original.payload)
    assert correct(original, device_id="gateway-1", principal="gateway-1").topic == "loa/v1/gateway-1/up/event"


def test_topic_and_payload_may_be_given_as_a_whole() -> None:
    original = Copy(topic="loa/v1/cluster-1/up/beat", payload=b"\xff")
    sent = build.heartbeat()
    assert correct(original, topic=HEARTBEATS, payload_hex=sent.hex(" ")).payload == sent
    made = correct(original, topic=HEARTBEATS, payload_diagnostic=described(sent))
    assert made == Copy(topic=HEARTBEATS, payload=sent)


def test_bytes_that_were_cut_can_only_be_replaced() -> None:
    cut = Copy(topic=HEARTBEATS, payload=bytes(8_192))
    sent = build.heartbeat()
    assert correct(cut, is_cut=True, payload_hex=sent.hex()).payload == sent
    assert fault(cut, is_cut=True, version=1) == ("payload_hex", "payload_was_cut")
    assert fault(cut, is_cut=True, device_id="cluster-2") == ("payload_hex", "payload_was_cut")


HONEST = Copy(topic=HEARTBEATS, payload=build.heartbeat())
OTHER = build.heartbeat(uptime_s=9).hex()


@pytest.mark.parametrize(
    ("edit", "field", "code"),
    [
        ({}, "", "correction_changes_nothing"),
        ({"version": 1}, "", "correction_changes_nothing"),
        ({"device_id": "cluster-2", "topic": HEARTBEATS}, "topic", "only_one_of_two"),
        ({"version": 1, "payload_hex": "00"}, "payload_hex", "only_one_of_two"),
        ({"payload_hex": "00", "payload_diagnostic": "0"}, "payload_diagnostic", "only_one_of_two"),
        ({"device_id": "Cụm 1"}, "device_id", "bad_device_id"),
        ({"device_id": "a/../b"}, "device_id", "bad_device_id"),
        ({"topic": "loa/v1/cluster-2/up/heartbeat"}, "topic", "principal_changed"),
        ({"topic": "loa/v1/cluster-1/down/plan"}, "topic", "not_an_uplink_topic"),
        ({"topic": "loa/v1/cluster-1/up/#"}, "topic", "not_an_uplink_topic"),
        ({"topic": "x"}, "topic", "not_an_uplink_topic"),
        ({"payload_hex": "0"}, "payload_hex", "not_hex"),
        ({"payload_hex": "zz"}, "payload_hex", "not_hex"),
        ({"payload_diagnostic": "{0: "}, "payload_diagnostic", "not_diagnostic_notation"),
        ({"payload_hex": "a0"}, "payload_hex.kind", "payload_refused"),
        ({"payload_diagnostic": "{0: 1, 3: 0}"}, "payload_diagnostic.device_at_ms", "payload_refused"),
        ({"payload_diagnostic": "{0: 2}"}, "payload_diagnostic.version", "payload_refused"),
        ({"payload_hex": "00" * 2_000}, "payload_hex", "payload_refused"),
        ({"topic": "loa/v1/cluster-1/up/reading"}, "payload.samples", "payload_refused"),
    ],
)
def test_what_is_wrong_is_named(edit: dict[str, Any], field: str, code: str) -> None:
    assert fault(HONEST, **edit) == (field, code)


def test_a_payload_without_a_version_cannot_be_given_one() -> None:
    assert fault(Copy(topic=HEARTBEATS, payload=b"\xff"), version=1) == ("version", "payload_is_no_map")
    assert fault(Copy(topic=HEARTBEATS, payload=b"\x01"), version=1) == ("version", "payload_is_no_map")


@pytest.mark.parametrize(
    "original",
    [build.event(6), b"\xff", build.heartbeat(), b"", build.event(7)[:-1]],
    ids=["another number", "unreadable", "no event", "empty", "truncated"],
)
def test_an_event_keeps_its_number_or_is_not_corrected(original: bytes) -> None:
    assert fault(Copy(topic=EVENTS, payload=original), payload_hex=build.event(7).hex()) == (
        "payload_hex",
        "event_number_changed",
    )


def test_the_body_of_an_event_may_be_mended() -> None:
    broken = Copy(topic=EVENTS, payload=build.event(7, b"\xa1\x00\x01"))
    assert correct(broken, payload_hex=build.event(7).hex()).payload == build.event(7)
