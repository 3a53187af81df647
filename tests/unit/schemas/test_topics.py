"""The topic grammar: what is formatted is parsed back, and nothing else is a topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.errors import InvalidTopic
from schemas.identifiers import AlertId, DeviceId, UnitId, parse_uuid
from schemas.topics import AreaAlert, Downlink, DownlinkKind, Presence, Topic, Uplink, UplinkKind
from tests.support.strategies import device_ids

LOA, GATEWAY = DeviceId("cum-loa-1"), DeviceId("cau-noi-1")
UNIT, ALERT = "0198f3c2-5e00-7000-8000-000000000001", "0198f3c2-5e00-7000-8000-000000000007"

TABLE: list[tuple[str, Topic]] = [
    ("loa/v1/cum-loa-1/up/heartbeat", Uplink(LOA, UplinkKind.HEARTBEAT, LOA)),
    ("loa/v1/cum-loa-1/up/reading", Uplink(LOA, UplinkKind.READING, LOA)),
    ("loa/v1/cum-loa-1/up/event", Uplink(LOA, UplinkKind.EVENT, LOA)),
    ("loa/v1/cau-noi-1/up/event/cum-loa-1", Uplink(GATEWAY, UplinkKind.EVENT, LOA)),
    ("loa/v1/cum-loa-1/presence", Presence(LOA)),
    ("loa/v1/cum-loa-1/down/plan", Downlink(LOA, DownlinkKind.PLAN, LOA)),
    ("loa/v1/cum-loa-1/down/config", Downlink(LOA, DownlinkKind.CONFIG, LOA)),
    ("loa/v1/cum-loa-1/down/keys", Downlink(LOA, DownlinkKind.KEYS, LOA)),
    ("loa/v1/cum-loa-1/down/command", Downlink(LOA, DownlinkKind.COMMAND, LOA)),
    ("loa/v1/cum-loa-1/down/receipt", Downlink(LOA, DownlinkKind.RECEIPT, LOA)),
    ("loa/v1/cau-noi-1/down/plan/cum-loa-1", Downlink(GATEWAY, DownlinkKind.PLAN, LOA)),
    (f"loa/v1/area/{UNIT}/alert/{ALERT}", AreaAlert(UnitId(parse_uuid(UNIT)), AlertId(parse_uuid(ALERT)))),
]

ANY_TOPIC: st.SearchStrategy[Topic] = st.one_of(
    st.builds(Uplink, device_ids(), st.sampled_from(UplinkKind), device_ids()),
    st.builds(Downlink, device_ids(), st.sampled_from(DownlinkKind), device_ids()),
    st.builds(Presence, device_ids()),
    st.builds(AreaAlert, st.uuids().map(UnitId), st.uuids().map(AlertId)),
)


@pytest.mark.parametrize(("text", "topic"), TABLE, ids=[text for text, _ in TABLE])
def test_a_topic_is_written_and_read(text: str, topic: Topic) -> None:
    assert topics.format_topic(topic) == text
    assert topics.parse_topic(text) == topic


@given(ANY_TOPIC)
def test_what_is_formatted_parses_back(topic: Topic) -> None:
    text = topics.format_topic(topic)
    assert topics.parse_topic(text) == topic
    assert not set(text) & set("+#$\0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "loa",
        "loa/v1",
        "loa/v1/",
        "loa/v1/cum-loa-1",
        "loa/v1/cum-loa-1/",
        "loa/v2/cum-loa-1/up/heartbeat",
        "loa/V1/cum-loa-1/up/heartbeat",
        "Loa/v1/cum-loa-1/up/heartbeat",
        "/loa/v1/cum-loa-1/up/heartbeat",
        "loa/v1/cum-loa-1/up/heartbeat/",
        "loa//v1/cum-loa-1/up/heartbeat",
        "loa/v1//up/heartbeat",
        "loa/v1/cum-loa-1//heartbeat",
        "loa/v1/cum-loa-1/up/",
        "loa/v1/cum-loa-1/up",
        "loa/v1/cum-loa-1/up/plan",
        "loa/v1/cum-loa-1/down/heartbeat",
        "loa/v1/cum-loa-1/down/alert",
        "loa/v1/cum-loa-1/up/presence",
        "loa/v1/cum-loa-1/up/HEARTBEAT",
        "loa/v1/cum-loa-1/sideways/heartbeat",
        "loa/v1/cum-loa-1/presence/",
        "loa/v1/cum-loa-1/presence/cum-loa-2",
        "loa/v1/cum-loa-1/up/event/cum-loa-2/more",
        "loa/v1/cum-loa-1/up/event/cum-loa-1",  # itself, as if it were behind itself
        "loa/v1/cum-loa-1/up/event/",
        "loa/v1/cum-loa-1/up/event/X",
        "loa/v1/cum-loa-1/up/event/ingest",
        "loa/v1/area/up/heartbeat",
        "loa/v1/area/presence",
        "loa/v1/ingest/up/heartbeat",
        "loa/v1/control/down/plan",
        "loa/v1/+/up/heartbeat",
        "loa/v1/#",
        "loa/v1/cum-loa-1/up/+",
        "loa/v1/cum-loa-1/up/heartbeat/#",
        "loa/v1/cum-loa-1/up/heartbeat#",
        "$SYS/broker/uptime",
        "$share/group/loa/v1/cum-loa-1/up/heartbeat",
        "loa/v1/$SYS/up/heartbeat",
        "loa/v1/cụm-loa/up/heartbeat",
        "loa/v1/cum-loa-1\0/up/heartbeat",
        "loa/v1/cum-loa-1/up/heartbeat\0",
        "loa/v1/cum-loa-1/up/heartbeat\n",
        "loa/v1/cum-loa-1 /up/heartbeat",
        "loa/v1/../up/heartbeat",
        "loa/v1/cum-loa-1/up/heartbeat " + "x" * 70_000,
        f"loa/v1/area/{UNIT}/alert",
        f"loa/v1/area/{UNIT}/alert/",
        f"loa/v1/area/{UNIT}/alert/{ALERT}/",
        f"loa/v1/area/{UNIT}/alert/1",
        f"loa/v1/area/{UNIT.upper()}/alert/{ALERT}",
        f"loa/v1/area/{UNIT.replace('-', '')}/alert/{ALERT}",
        f"loa/v1/area/{UNIT}/plan/{ALERT}",
        f"loa/v1/area/+/alert/{ALERT}",
        f"loa/v1/cum-loa-1/{UNIT}/alert/{ALERT}",
    ],
)
def test_anything_else_is_no_topic(text: str) -> None:
    with pytest.raises(InvalidTopic) as refusal:
        topics.parse_topic(text)
    assert len(str(refusal.value)) < 1_000


LEVELS = st.sampled_from(
    [
        "loa",
        "v1",
        "area",
        "up",
        "down",
        "alert",
        "presence",
        "plan",
        "heartbeat",
        "cum-loa-1",
        UNIT,
        "+",
        "#",
        "",
        "$SYS",
    ]
)


@given(st.lists(LEVELS | st.text(max_size=5), max_size=7).map("/".join))
def test_whatever_parses_is_formatted_to_the_same_text(text: str) -> None:
    try:
        topic = topics.parse_topic(text)
    except InvalidTopic:
        return
    assert topics.format_topic(topic) == text


def matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT filter matches a topic (MQTT 5 section 4.7), written apart from the code under test."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[: len(wanted) - 1]
    return len(wanted) == len(levels) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))


@given(ANY_TOPIC)
def test_ingest_hears_every_uplink_once_and_nothing_else(topic: Topic) -> None:
    heard = [one for one in topics.uplink_filters() if matches(one, topics.format_topic(topic))]
    assert len(heard) == (1 if isinstance(topic, Uplink | Presence) else 0)


@given(device_ids(), ANY_TOPIC)
def test_a_principal_hears_its_own_downlinks_and_nothing_else(principal: DeviceId, topic: Topic) -> None:
    def hears(principal: DeviceId) -> bool:
        return any(matches(one, topics.format_topic(topic)) for one in topics.downlink_filters(principal))

    assert hears(principal) == (isinstance(topic, Downlink) and topic.principal == principal)
    if isinstance(topic, Downlink):
        assert hears(topic.principal)


@given(st.uuids(), ANY_TOPIC)
def test_an_area_filter_takes_the_alerts_of_its_unit(unit: UnitId, topic: Topic) -> None:
    assert matches(topics.area_filter(unit), topics.format_topic(topic)) == (
        isinstance(topic, AreaAlert) and topic.unit == unit
    )
    own = AreaAlert(unit, AlertId(unit))
    assert matches(topics.area_filter(unit), topics.format_topic(own))


@pytest.mark.parametrize(("text", "topic"), TABLE, ids=[text for text, _ in TABLE])
def test_what_a_late_subscriber_must_learn_is_retained(text: str, topic: Topic) -> None:
    assert topics.is_retained(topic) == any(word in text for word in ("presence", "plan", "config", "keys", "alert"))


@pytest.mark.parametrize(("text", "topic"), TABLE, ids=[text for text, _ in TABLE])
def test_everything_but_a_receipt_is_delivered_at_least_once(text: str, topic: Topic) -> None:
    assert topics.qos(topic) == (0 if text.endswith("down/receipt") else 1)


def test_a_shared_filter_names_its_group() -> None:
    assert topics.shared("s3cret", "loa/v1/+/presence") == "$share/s3cret/loa/v1/+/presence"


@pytest.mark.parametrize("group", ["", "a/b", "+", "a#", "a\0"])
def test_a_group_name_is_one_level(group: str) -> None:
    with pytest.raises(InvalidTopic):
        topics.shared(group, "loa/v1/+/presence")
