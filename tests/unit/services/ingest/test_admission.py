"""Admission as a table: topic and bytes in, verdict out."""

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, device_signing, readings
from schemas.fields import ClockState, DeviceKind
from schemas.readings import Sample
from services.ingest import admission
from services.ingest.admission import Cleared, Quarantined, Verdict, judge
from services.ingest.registry import Registry, Row, pack
from services.ingest.rows import EVENT_COLUMNS, HEARTBEAT_COLUMNS, READING_COLUMNS, Signature
from services.ingest.stamps import TimeWindow
from tests.support.ingest_builders import (
    BEHIND,
    DEVICE_KEY,
    GATEWAY_KEY,
    NOW,
    NOW_MS,
    a_registry,
    a_signing_registry,
    event,
    event_body,
    heartbeat,
    keys_of,
    presence,
    reading,
    signed_reading,
)

OWN = "loa/v1/cluster-1"
GATEWAYS = "loa/v1/gateway-1"


def verdict_on(topic: str, payload: bytes, *, is_retained: bool = False, registry: Registry | None = None) -> Verdict:
    return judge(
        topic,
        payload,
        is_retained=is_retained,
        registry=registry or a_registry(),
        now=NOW,
        window=TimeWindow(),
    )


@pytest.mark.parametrize(
    ("topic", "payload", "kind"),
    [
        pytest.param(f"{OWN}/up/heartbeat", heartbeat(), admission.Heartbeat, id="heartbeat"),
        pytest.param(f"{GATEWAYS}/up/reading/sensor-1", reading(), admission.Reading, id="reading_by_gateway"),
        pytest.param(f"{OWN}/up/reading", reading(), admission.Reading, id="reading_of_any_kind_of_device"),
        pytest.param(f"{OWN}/up/event", event(), admission.Event, id="event"),
        pytest.param(f"{OWN}/presence", presence(), admission.Presence, id="presence"),
    ],
)
def test_honest_uplinks_are_admitted(topic: str, payload: bytes, kind: type) -> None:
    assert isinstance(verdict_on(topic, payload), kind)


@pytest.mark.parametrize(
    ("topic", "payload", "reason", "principal", "device"),
    [
        pytest.param("loa/v2/cluster-1/up/heartbeat", b"", "unknown_topic", "cluster-1", None, id="other_version"),
        pytest.param("loa/v1/Cluster/up/heartbeat", b"", "unknown_topic", "Cluster", None, id="ungrammatical_name"),
        pytest.param(f"{OWN}/up/heartbeat/cluster-1", b"", "unknown_topic", "cluster-1", None, id="names_itself"),
        pytest.param(f"{OWN}/down/plan", b"", "unknown_topic", "cluster-1", None, id="downlink"),
        pytest.param("loa", b"", "unknown_topic", "", None, id="no_principal_at_all"),
        pytest.param(
            "loa/v1/nobody/up/heartbeat", heartbeat(), "unknown_principal", "nobody", "nobody", id="unregistered"
        ),
        pytest.param(
            "loa/v1/nobody/up/heartbeat/sensor-1", heartbeat(), "unknown_principal", "nobody", "sensor-1", id="stranger"
        ),
        pytest.param("loa/v1/nobody/presence", presence(), "unknown_principal", "nobody", "nobody", id="presence"),
        pytest.param(
            f"{GATEWAYS}/up/heartbeat/nobody", heartbeat(), "unknown_device", "gateway-1", "nobody", id="unknown_behind"
        ),
        pytest.param(
            f"{OWN}/up/reading/sensor-1", reading(), "not_allowed", "cluster-1", "sensor-1", id="somebody_elses_device"
        ),
        pytest.param(
            "loa/v1/sensor-1/up/reading", reading(), "not_allowed", "sensor-1", "sensor-1", id="own_word_of_assigned"
        ),
        pytest.param(f"{GATEWAYS}/up/heartbeat", heartbeat(), "wrong_kind", "gateway-1", "gateway-1", id="wrong_kind"),
        pytest.param(f"{OWN}/up/heartbeat", b"", "truncated", "cluster-1", "cluster-1", id="empty"),
        pytest.param(f"{OWN}/up/heartbeat", b"\xff", "not_cbor", "cluster-1", "cluster-1", id="garbage"),
        pytest.param(
            f"{OWN}/up/heartbeat", heartbeat() + b"\x00", "trailing_bytes", "cluster-1", "cluster-1", id="tail"
        ),
        pytest.param(f"{OWN}/up/heartbeat", bytes(5_000), "too_large", "cluster-1", "cluster-1", id="too_large"),
        pytest.param(
            f"{OWN}/up/event", event_body(), "wrong_type", "cluster-1", "cluster-1", id="event_without_envelope"
        ),
    ],
)
def test_everything_else_is_quarantined_with_its_reason(
    topic: str, payload: bytes, reason: str, principal: str, device: str | None
) -> None:
    verdict = verdict_on(topic, payload)
    assert isinstance(verdict, Quarantined)
    assert (verdict.reason, verdict.principal, verdict.device_id) == (reason, principal, device)
    assert verdict.numbered is None


def test_an_unreadable_body_leaves_the_event_its_number() -> None:
    verdict = verdict_on(f"{OWN}/up/event", event(9, b"\xff"))
    assert isinstance(verdict, Quarantined)
    assert verdict.reason == "not_cbor"
    assert verdict.numbered is not None
    assert (verdict.numbered.device.device_no, verdict.numbered.sequence) == (1, 9)
    assert verdict.numbered.journal == -(2**63) + 1  # sixty-four bits, signed and big-endian


@pytest.mark.parametrize(
    ("payload", "reason", "is_numbered"),
    [
        pytest.param(event(), "retained", True, id="event"),
        pytest.param(event(1, b"\xff"), "not_cbor", True, id="unreadable_event"),
        pytest.param(b"\xff", "not_cbor", False, id="garbage"),
    ],
)
def test_a_retained_uplink_is_refused_and_to_be_cleared(payload: bytes, reason: str, is_numbered: bool) -> None:
    verdict = verdict_on(f"{OWN}/up/event", payload, is_retained=True)
    assert isinstance(verdict, Quarantined)
    assert (verdict.reason, verdict.must_clear, verdict.numbered is not None) == (reason, True, is_numbered)


def test_a_retained_message_under_a_name_nobody_can_have_is_to_be_cleared_too() -> None:
    verdict = verdict_on(f"{OWN}/up/heartbeat/NOBODY", heartbeat(), is_retained=True)
    assert isinstance(verdict, Quarantined)
    assert (verdict.reason, verdict.must_clear) == ("unknown_topic", True)


def test_presence_is_meant_to_be_retained() -> None:
    assert isinstance(verdict_on(f"{OWN}/presence", presence(), is_retained=True), admission.Presence)


def test_an_empty_retained_message_is_a_clearing() -> None:
    assert verdict_on(f"{OWN}/up/heartbeat", b"", is_retained=True) == Cleared()
    assert verdict_on(f"{OWN}/presence", b"") == Cleared()


def test_a_principal_counts_only_while_it_is_registered_itself() -> None:
    registry = Registry((BEHIND,))  # its gateway is retired
    verdict = verdict_on(f"{GATEWAYS}/up/reading/sensor-1", reading(), registry=registry)
    assert isinstance(verdict, Quarantined)
    assert verdict.reason == "unknown_principal"


def test_rows_have_the_columns_they_are_copied_to() -> None:
    beat = verdict_on(f"{OWN}/up/heartbeat", heartbeat())
    assert isinstance(beat, admission.Heartbeat)
    assert dict(zip(HEARTBEAT_COLUMNS, beat.row, strict=True))["volume_percent"] == 40
    samples = verdict_on(f"{GATEWAYS}/up/reading/sensor-1", reading())
    assert isinstance(samples, admission.Reading)
    row = dict(zip(READING_COLUMNS, samples.rows[0][1], strict=True))
    assert (row["device_no"], row["principal_no"], row["quantity"]) == (3, 2, "rainfall")
    happened = verdict_on(f"{OWN}/up/event", event(4))
    assert isinstance(happened, admission.Event)
    row = dict(zip(EVENT_COLUMNS, happened.row, strict=True))
    assert (row["principal_no"], row["sequence"], row["kind"]) == (None, 4, "play_started")


@given(
    topic=st.one_of(
        st.text(max_size=60),
        st.sampled_from(
            [f"{OWN}/up/heartbeat", f"{OWN}/up/event", f"{OWN}/presence", f"{GATEWAYS}/up/reading/sensor-1"]
        ),
    ),
    payload=st.one_of(
        st.binary(max_size=200),
        st.sampled_from([heartbeat(), event(), reading(), presence()]).flatmap(
            lambda honest: st.tuples(st.integers(0, len(honest) - 1), st.integers(0, 255)).map(
                lambda flip: honest[: flip[0]] + bytes([flip[1]]) + honest[flip[0] + 1 :]
            )
        ),
    ),
    is_retained=st.booleans(),
)
def test_there_is_a_verdict_for_any_topic_and_any_bytes(topic: str, payload: bytes, is_retained: bool) -> None:
    verdict = verdict_on(topic, payload, is_retained=is_retained)
    if isinstance(verdict, Quarantined):
        assert verdict.reason


# --- the registry ----------------------------------------------------------------------------------------------------


def test_a_fresher_look_replaces_all_that_was_known_of_a_device() -> None:
    registry = a_registry()
    other: Row = (b"gateway-2", pack(DeviceKind.GATEWAY, 4, 4))
    moved: Row = (b"sensor-1", pack(DeviceKind.SENSOR, 3, 4))
    registry.merge(["sensor-1", "gateway-2", "gone-1"], [moved, other])
    assert registry.find("gateway-1", "sensor-1") is None
    found = registry.find("gateway-2", "sensor-1")
    assert found is not None
    assert found.speaker_no == 4
    assert not registry.knows("gone-1")
    assert registry.find("cluster-1", "cluster-1") is not None
    registry.merge(["cluster-1"], [])
    assert not registry.knows("cluster-1")
    assert len(registry) == 3


def test_two_gateways_may_speak_for_one_device_while_it_is_handed_over() -> None:
    registry = a_registry((b"sensor-1", pack(DeviceKind.SENSOR, 3, 1)))
    assert {registry.find(name, "sensor-1") is not None for name in ("gateway-1", "cluster-1")} == {True}
    found = registry.find("cluster-1", "sensor-1")
    assert found is not None
    assert found.principal_no == 1


# --- what a device signs ---------------------------------------------------------------------------------------------

MINUTE_MS = 60_000


def signed_verdict(payload: bytes, *, topic: str = f"{OWN}/up/reading", registry: Registry | None = None) -> Verdict:
    return verdict_on(topic, payload, registry=registry or a_signing_registry())


def signatures(verdict: Verdict) -> list[Signature | None]:
    assert isinstance(verdict, admission.Reading)
    rows = [dict(zip(READING_COLUMNS, row, strict=True)) for _, row in verdict.rows]
    kids = {row["signer"] for row in rows}
    assert kids == {None if rows[0]["signature"] is None else device_signing.key_id(DEVICE_KEY.public_key())}
    return [row["signature"] for row in rows]


def test_what_its_device_has_signed_is_verified_and_what_nobody_has_is_admitted() -> None:
    assert signatures(signed_verdict(signed_reading())) == [Signature.VERIFIED]
    assert signatures(signed_verdict(reading())) == [None]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"device_at_ms": NOW_MS - 5 * MINUTE_MS}, Signature.VERIFIED, id="as_late_as_may_be"),
        pytest.param({"device_at_ms": NOW_MS - 5 * MINUTE_MS - 1}, Signature.UNTIMELY, id="later"),
        pytest.param({"device_at_ms": NOW_MS - 24 * 60 * MINUTE_MS}, Signature.UNTIMELY, id="recorded_yesterday"),
        pytest.param({"device_at_ms": NOW_MS + 5 * MINUTE_MS}, Signature.VERIFIED, id="a_clock_a_little_ahead"),
        pytest.param({"device_at_ms": NOW_MS + 6 * MINUTE_MS}, Signature.UNTIMELY, id="a_clock_far_ahead"),
        pytest.param({"device_at_ms": NOW_MS - 400 * 24 * 60 * MINUTE_MS}, Signature.UNTIMELY, id="last_year"),
        pytest.param({"clock": ClockState.HOLDOVER}, Signature.VERIFIED, id="a_clock_that_runs_on"),
        pytest.param({"clock": ClockState.UNSYNCHRONISED}, Signature.UNTIMELY, id="a_clock_it_does_not_believe"),
    ],
)
def test_a_right_signature_says_that_it_was_said_and_only_a_fresh_time_that_it_is_so_now(
    changes: dict[str, Any], expected: Signature
) -> None:
    assert signatures(signed_verdict(signed_reading(**changes))) == [expected]


def test_samples_are_as_good_as_their_message_unless_their_own_time_is_absurd() -> None:
    def sample(at_ms: int) -> Sample:
        return Sample(quantity="rainfall", value=1.0, unit="mm", at_ms=at_ms)

    verdict = signed_verdict(signed_reading(sample(NOW_MS - 30 * MINUTE_MS), sample(NOW_MS + 9 * MINUTE_MS)))
    assert signatures(verdict) == [Signature.VERIFIED, Signature.UNTIMELY]


OTHER_KEY = ec.derive_private_key(13, ec.SECP256R1())
UNORDERED = cbor2.dumps(dict(reversed(cbor2.loads(reading()).items())))
TYP = device_signing.MEDIA_TYPES[readings.Reading]


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        pytest.param(signed_reading(key=OTHER_KEY), "unknown_key", "is in no good certificate", id="a_stranger_s_key"),
        pytest.param(signed_reading(key=GATEWAY_KEY), "unknown_key", "no good certificate", id="another_device_s_key"),
        pytest.param(
            signed_reading(device="gateway-1", key=GATEWAY_KEY), "bad_signature", "foreign_device", id="another_s_word"
        ),
        pytest.param(
            signed_reading().replace(b"rainfall", b"rainfalk"), "bad_signature", "bad_signature", id="altered"
        ),
        pytest.param(
            signed_reading(media_type="application/loa-event+cbor"), "bad_signature", "wrong_type", id="another_kind"
        ),
        pytest.param(b"\x98\x04" + signed_reading()[1:], "bad_signature", "malformed", id="not_deterministic_outside"),
        pytest.param(
            device_signing.seal(UNORDERED, device="cluster-1", media_type=TYP, key=DEVICE_KEY),
            "not_deterministic",
            "",
            id="not_deterministic_inside",
        ),
        pytest.param(
            device_signing.seal(b"\xa1\x00\x02", device="cluster-1", media_type=TYP, key=DEVICE_KEY),
            "unsupported_version",
            "",
            id="signed_nonsense",
        ),
        pytest.param(codec.dumps([1, 2, 3, 4]), "bad_signature", "malformed", id="no_signature_at_all"),
        pytest.param(codec.dumps([b"", {}, bytes(4_096), b""]), "bad_signature", "too_large", id="too_large"),
    ],
)
def test_what_claims_to_be_signed_and_is_not_is_quarantined(payload: bytes, reason: str, detail: str) -> None:
    verdict = signed_verdict(payload)
    assert isinstance(verdict, Quarantined)
    assert (verdict.reason, verdict.device_id) == (reason, "cluster-1")
    assert detail in verdict.detail


def test_a_signature_holds_for_one_device_on_whatever_way_it_comes() -> None:
    behind = signed_reading(device="sensor-1")
    through = f"{GATEWAYS}/up/reading/sensor-1"
    verdict = signed_verdict(behind, topic=through)
    assert isinstance(verdict, Quarantined)
    assert verdict.reason == "unknown_key"  # what stands behind a gateway has no key, and the gateway's is not its own
    registry = a_signing_registry()
    registry.keys.hold(
        [3], keys_of(DEVICE_KEY, device_no=3), now=NOW
    )  # unless it enrolled before it came to stand there
    assert signatures(signed_verdict(behind, topic=through, registry=registry)) == [Signature.VERIFIED]


def test_a_key_counts_until_its_certificate_runs_out() -> None:
    registry = a_registry()
    registry.keys.hold([1], keys_of(DEVICE_KEY, not_after=NOW), now=NOW)
    verdict = signed_verdict(signed_reading(), registry=registry)
    assert isinstance(verdict, Quarantined)
    assert verdict.reason == "unknown_key"


def test_heartbeats_are_not_signed_and_of_an_event_its_body_is() -> None:
    for kind in ("heartbeat", "event"):
        verdict = signed_verdict(signed_reading(), topic=f"{OWN}/up/{kind}")
        assert isinstance(verdict, Quarantined)
        assert verdict.reason == "wrong_type"


def signed_event(
    *, device: str = "cluster-1", key: ec.EllipticCurvePrivateKey = DEVICE_KEY, typ: str = device_signing.EVENT
) -> bytes:
    return event(9, device_signing.seal(event_body(), device=device, media_type=typ, key=key))


@pytest.mark.parametrize("payload", [event(9), signed_event()], ids=["plain", "signed"])
def test_who_signed_an_event_stands_beside_it(payload: bytes) -> None:
    verdict = signed_verdict(payload, topic=f"{OWN}/up/event")
    assert isinstance(verdict, admission.Event)
    row = dict(zip(EVENT_COLUMNS, verdict.row, strict=True))
    assert row["signer"] == (None if payload == event(9) else device_signing.key_id(DEVICE_KEY.public_key()))
    assert (row["kind"], row["sequence"]) == ("play_started", 9)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(signed_event(key=OTHER_KEY), "unknown_key", id="a_stranger_s_key"),
        pytest.param(signed_event(device="gateway-1", key=GATEWAY_KEY), "bad_signature", id="another_s_word"),
        pytest.param(signed_event(typ=device_signing.READING), "bad_signature", id="another_kind"),
        pytest.param(event(9, signed_reading()), "bad_signature", id="what_it_measured"),
        pytest.param(event(9, codec.dumps([1, 2, 3, 4])), "bad_signature", id="no_signature_at_all"),
    ],
)
def test_an_event_that_is_signed_wrongly_keeps_its_number(payload: bytes, reason: str) -> None:
    verdict = signed_verdict(payload, topic=f"{OWN}/up/event")
    assert isinstance(verdict, Quarantined)
    assert verdict.reason == reason
    assert verdict.numbered is not None
    assert verdict.numbered.sequence == 9
