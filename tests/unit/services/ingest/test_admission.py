"""Admission as a table: topic and bytes in, verdict out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import DeviceKind
from services.ingest import admission
from services.ingest.admission import Cleared, Quarantined, Verdict, judge
from services.ingest.registry import Registry, Row, pack
from services.ingest.rows import EVENT_COLUMNS, HEARTBEAT_COLUMNS, READING_COLUMNS
from services.ingest.stamps import TimeWindow
from tests.support.ingest_builders import (
    BEHIND,
    NOW,
    a_registry,
    event,
    event_body,
    heartbeat,
    presence,
    reading,
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
