"""The forecast says what ingest would: both are asked about the same uplinks, honest, mangled and random."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from schemas import device_signing
from schemas.errors import DecodeReason
from schemas.fields import DeviceKind
from services.control.quarantine_forecast import Known, Reason, forecast
from services.ingest import admission
from services.ingest.admission import Cleared, Quarantined, judge
from services.ingest.stamps import TimeWindow
from tests.support import ingest_builders as build

WINDOW = TimeWindow()
REGISTRY = build.a_registry()
REGISTRY.keys.hold([1], build.keys_of(build.DEVICE_KEY), now=build.NOW)
KNOWN = {
    "cluster-1": Known(
        kind=DeviceKind.CLUSTER,
        principals=frozenset({"cluster-1"}),
        keys={device_signing.key_id(build.DEVICE_KEY.public_key()): build.DEVICE_KEY.public_key()},
    ),
    "gateway-1": Known(kind=DeviceKind.GATEWAY, principals=frozenset({"gateway-1"})),
    "sensor-1": Known(kind=DeviceKind.SENSOR, principals=frozenset({"gateway-1"})),
}
PRINCIPALS = ("cluster-1", "gateway-1", "sensor-1", "nobody-1", "x")
TOPICS = [
    *(f"loa/v1/{name}/up/{kind}" for name in PRINCIPALS for kind in ("heartbeat", "reading", "event", "alarm")),
    *(f"loa/v1/{name}/up/event/{device}" for name in PRINCIPALS for device in ("sensor-1", "cluster-1", "nobody-2")),
    *(f"loa/v1/{name}/presence" for name in PRINCIPALS),
    "loa/v1/cluster-1/down/plan",
    "loa/v2/cluster-1/up/event",
    "",
    "loa/v1/area/0198f3c2-5e00-7000-8000-000000000001/alert/0198f3c2-5e00-7000-8000-000000000002",
]
VECTORS = [path.read_bytes() for path in sorted((Path(schemas.__file__).parent / "vectors").glob("*.cbor"))]
SIGNED_BODY = device_signing.seal(
    build.event_body(), device="cluster-1", media_type=device_signing.EVENT, key=build.DEVICE_KEY
)
HONEST = [
    build.heartbeat(),
    build.reading(),
    build.event(),
    build.presence(),
    build.event(body=b"\xa1\x00\x02"),
    build.signed_reading(),
    build.signed_reading(key=build.GATEWAY_KEY),
    build.signed_reading(device="sensor-1"),
    build.event(1, SIGNED_BODY),
    build.event(1, SIGNED_BODY[:-1] + b"x"),
    build.event(1, build.signed_reading()),
    device_signing.seal(
        b"\xa1\x00\x02", device="cluster-1", media_type="application/loa-reading+cbor", key=build.DEVICE_KEY
    ),
]


def agree(topic: str, payload: bytes) -> None:
    said = forecast(topic, payload, registry=KNOWN)
    done = judge(topic, payload, is_retained=False, registry=REGISTRY, now=build.NOW, window=WINDOW)
    if isinstance(done, Cleared):
        return  # an empty presence: nothing that quarantine would hold
    assert said.reason == (done.reason if isinstance(done, Quarantined) else None), (topic, payload.hex(), said, done)
    if isinstance(done, Quarantined) and said.reason != "unknown_topic":
        assert said.detail in done.detail


@pytest.mark.parametrize("topic", TOPICS)
def test_it_says_what_admission_says(topic: str) -> None:
    for payload in (*HONEST, *VECTORS):
        agree(topic, payload)


@given(st.sampled_from(TOPICS), st.binary(max_size=300))
def test_it_agrees_about_any_bytes(topic: str, payload: bytes) -> None:
    agree(topic, payload)


@given(st.sampled_from(TOPICS), st.sampled_from(HONEST + VECTORS), st.integers(0, 400), st.integers(1, 255))
def test_it_agrees_about_damaged_messages(topic: str, payload: bytes, place: int, damage: int) -> None:
    if payload:
        mangled = bytearray(payload)
        mangled[place % len(payload)] ^= damage
        agree(topic, bytes(mangled))


def test_its_words_are_those_of_ingest() -> None:
    assert {each.value for each in Reason} == {each.value for each in (*admission.Reason, *DecodeReason)}
