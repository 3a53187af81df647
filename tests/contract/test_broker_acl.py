"""The broker's access rules and `schemas.topics` say the same, in both directions.

Two readings: the rules are exactly the lines that the topic grammar asks for; and an evaluator of them (written here
from mosquitto.conf(5), not from the grammar) answers every who-may-do-what question about sample topics of every kind.
"""

import itertools
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pytest

from schemas import limits
from schemas.identifiers import AlertId, DeviceId, UnitId
from schemas.topics import (
    AreaAlert,
    Downlink,
    DownlinkKind,
    Presence,
    Topic,
    Uplink,
    UplinkKind,
    area_filter,
    downlink_filters,
    format_topic,
    uplink_filters,
)
from services.control.trust.certificates import ServiceName

CONFIGURATION = Path(__file__).resolve().parents[2] / "broker_config"

Access = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an access list: whom it is for (None: whoever connects), what it allows and where."""

    user: str | None
    access: Access
    topic: str


def rules(name: str) -> list[Rule]:
    """The rules in a file; fails on a line that is neither rule, user, comment nor empty."""
    user: str | None = None
    found = []
    for line in (CONFIGURATION / name).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("user "):
            user = line.removeprefix("user ")
            continue
        match = re.fullmatch(r"(pattern|topic) (read|write) (\S+)", line)
        assert match, f"{name}: {line!r} is not understood"
        if match[1] == "topic":
            assert user is not None, f"{name}: {line!r} is for anonymous clients, and there are none"
        access: Access = "read" if match[2] == "read" else "write"
        found.append(Rule(user if match[1] == "topic" else None, access, match[3]))
    return found


def own(topic_filter: str) -> str:
    """A filter over all principals as the pattern for one: its first `+` stands for the principal."""
    return topic_filter.replace("/+/", "/%u/", 1)


ANY_DEVICE = DeviceId.parse("any-device")
ANY_UNIT = UnitId(uuid.UUID("7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a11"))


def downlinks(*kinds: DownlinkKind) -> set[str]:
    """Filters over the downlinks of those kinds, of every principal and every device behind one."""
    return {
        format_topic(Downlink(ANY_DEVICE, kind, device)).replace(ANY_DEVICE, "+").replace("device-behind", "+")
        for kind in kinds
        for device in (ANY_DEVICE, DeviceId.parse("device-behind"))
    }


EVERY_ALERT = area_filter(ANY_UNIT).replace(str(ANY_UNIT), "+")


def test_device_rules_are_the_grammar_and_nothing_else() -> None:
    assert set(rules("device.acl")) == {
        *(Rule(None, "write", own(topic_filter)) for topic_filter in uplink_filters()),
        *(Rule(None, "read", topic_filter.replace(ANY_DEVICE, "%u")) for topic_filter in downlink_filters(ANY_DEVICE)),
        Rule(None, "read", EVERY_ALERT),
    }


def test_service_rules_are_the_grammar_and_nothing_else() -> None:
    presence = format_topic(Presence(ANY_DEVICE)).replace(ANY_DEVICE, "+")
    by_control = downlinks(*(kind for kind in DownlinkKind if kind is not DownlinkKind.RECEIPT))
    assert set(rules("service.acl")) == {
        *(Rule("ingest", "read", topic_filter) for topic_filter in uplink_filters()),
        *(Rule("ingest", "write", topic_filter) for topic_filter in uplink_filters() if topic_filter != presence),
        *(Rule("ingest", "write", topic_filter) for topic_filter in downlinks(DownlinkKind.RECEIPT)),
        *(Rule("control", "write", topic_filter) for topic_filter in by_control),
        Rule("control", "write", EVERY_ALERT),
        Rule("monitor", "read", "$SYS/#"),
    }


def test_every_service_with_a_certificate_has_rules() -> None:
    assert {rule.user for rule in rules("service.acl")} == set(ServiceName)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT topic filter covers a topic (MQTT 5, section 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def allowed(name: str, user: str, access: Access, topic: str) -> bool:
    """What the broker answers somebody who came in through the listener of that file."""
    return any(
        rule.access == access and rule.user in (None, user) and matches(rule.topic.replace("%u", user), topic)
        for rule in rules(name)
    )


CLUSTER, OTHER, GATEWAY = (DeviceId.parse(name) for name in ("cluster-a", "cluster-b", "gateway-a"))


def sample_topics() -> Iterator[Topic]:
    for principal, device in ((CLUSTER, CLUSTER), (OTHER, OTHER), (GATEWAY, GATEWAY), (GATEWAY, CLUSTER)):
        yield from (Uplink(principal, kind, device) for kind in UplinkKind)
        yield from (Downlink(principal, kind, device) for kind in DownlinkKind)
        yield Presence(principal)
    yield AreaAlert(ANY_UNIT, AlertId(uuid.UUID("7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a12")))


def may_device(device: DeviceId, access: Access, topic: Topic) -> bool:
    """What the architecture promises a device."""
    match topic:
        case Uplink(principal) | Presence(principal):
            return access == "write" and principal == device
        case Downlink(principal):
            return access == "read" and principal == device
        case AreaAlert():
            return access == "read"


def may_service(service: str, access: Access, topic: Topic) -> bool:
    """What the architecture promises a service."""
    match service, topic:
        case "ingest", Uplink():
            return True  # writing is how it clears a retained one
        case "ingest", Presence():
            return access == "read"
        case "ingest", Downlink(_, DownlinkKind.RECEIPT):
            return access == "write"
        case "control", Downlink(_, kind):
            return access == "write" and kind is not DownlinkKind.RECEIPT
        case "control", AreaAlert():
            return access == "write"
        case _:
            return False


@pytest.mark.parametrize(
    ("device", "access", "topic"), [*itertools.product((CLUSTER, GATEWAY), get_args(Access), sample_topics())], ids=str
)
def test_a_device_may_do_what_is_promised(device: DeviceId, access: Access, topic: Topic) -> None:
    assert allowed("device.acl", device, access, format_topic(topic)) == may_device(device, access, topic)


@pytest.mark.parametrize(
    ("service", "access", "topic"), [*itertools.product(ServiceName, get_args(Access), sample_topics())], ids=str
)
def test_a_service_may_do_what_is_promised(service: str, access: Access, topic: Topic) -> None:
    assert allowed("service.acl", service, access, format_topic(topic)) == may_service(service, access, topic)


@pytest.mark.parametrize(
    "topic",
    ["loa/v2/cluster-a/up/event", "loa/v1/cluster-a/up", "loa/v1/cluster-a/up/event/a/b", "loa/v1/cluster-a/up/other",
     "loa/v1/cluster-a", "cluster-a/up/event", "$SYS/broker/uptime", "$SYS/broker/connection/cluster-a/state"],
)  # fmt: skip
def test_nobody_writes_outside_the_grammar(topic: str) -> None:
    assert not allowed("device.acl", CLUSTER, "write", topic)
    assert not any(allowed("service.acl", service, "write", topic) for service in ServiceName)


def option(name: str) -> int:
    template = (CONFIGURATION / "mosquitto.conf.template").read_text()
    values = re.findall(rf"^{name} (\d+)$", template, re.MULTILINE)
    assert len(values) == 1, f"{name} is set {len(values)} times"
    return int(values[0])


def test_the_broker_takes_every_legal_message_and_not_much_more() -> None:
    largest = max(limits.UPLINK_BYTES, limits.DOWNLINK_BYTES)
    longest_topic = 2 * 48 + len("loa/v1//down/command/")
    properties = 64
    assert largest + longest_topic + properties < option("max_packet_size") < 2 * largest


def test_options_that_would_undo_the_rules_are_absent() -> None:
    settings = [
        line for line in (CONFIGURATION / "mosquitto.conf.template").read_text().splitlines() if line and line[0] != "#"
    ]
    names = {line.split()[0] for line in settings}
    # A finite expiry of sessions turns reloading into a crash; plugins and passwords would open a second way in.
    assert names.isdisjoint({"persistent_client_expiration", "plugin", "auth_plugin", "password_file", "capath"})
    assert settings.count("allow_anonymous false") == settings.count("require_certificate true") == 2
    assert settings[0] == "per_listener_settings true"
