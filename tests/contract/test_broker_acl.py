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
from schemas.errors import InvalidIdentifier
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
from services.control.trust.certificates import ServiceName, ServiceUser
from services.ingest import brokerstats

CONFIGURATION = Path(__file__).resolve().parents[2] / "broker_config"

Access = Literal["read", "write"]


USERS = {name: ServiceUser.new(name) for name in ServiceName}


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the access list: whom it is for (None: everybody), what it allows and where."""

    service: ServiceName | None
    access: Access
    topic: str


def read_rules() -> list[Rule]:
    """The rules; fails on a line that is neither rule, user, comment nor empty."""
    template = (CONFIGURATION / "access.acl.template").read_text()
    service: ServiceName | None = None
    found = []
    for line in template.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("user "):
            match = re.fullmatch(r"user \$\{([A-Z]+)\}", line)
            assert match, f"{line!r}: services are named by placeholders"
            service = ServiceName[match[1]]
            continue
        match = re.fullmatch(r"(pattern|topic) (read|write) (\S.*\S)", line)
        assert match, f"{line!r} is not understood"
        if match[1] == "topic":
            assert service is not None, f"{line!r} is for anonymous clients, and there are none"
        access: Access = "read" if match[2] == "read" else "write"
        # Patterns are for everybody, also below a user.
        found.append(Rule(service if match[1] == "topic" else None, access, match[3]))
    return found


RULES = read_rules()


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


def test_the_rules_are_the_grammar_and_nothing_else() -> None:
    presence = format_topic(Presence(ANY_DEVICE)).replace(ANY_DEVICE, "+")
    by_control = downlinks(*(kind for kind in DownlinkKind if kind is not DownlinkKind.RECEIPT))
    expected = {
        *(Rule(None, "write", own(topic_filter)) for topic_filter in uplink_filters()),
        *(Rule(None, "read", topic_filter.replace(ANY_DEVICE, "%u")) for topic_filter in downlink_filters(ANY_DEVICE)),
        Rule(None, "read", EVERY_ALERT),
        *(Rule(ServiceName.INGEST, "read", each) for each in uplink_filters()),
        *(Rule(ServiceName.INGEST, "write", each) for each in uplink_filters() if each != presence),
        *(Rule(ServiceName.INGEST, "write", each) for each in downlinks(DownlinkKind.RECEIPT)),
        *(Rule(ServiceName.INGEST, "read", each) for each in brokerstats.TOPICS),
        *(Rule(ServiceName.CONTROL, "write", each) for each in by_control),
        Rule(ServiceName.CONTROL, "write", EVERY_ALERT),
        Rule(ServiceName.MONITOR, "read", "$SYS/#"),
    }
    assert set(RULES) == expected
    assert len(RULES) == len(expected), "a rule stands twice"


def test_no_service_has_the_name_of_a_device() -> None:
    for user in USERS.values():
        with pytest.raises(InvalidIdentifier):
            DeviceId.parse(user)


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


def allowed(user: str, access: Access, topic: str) -> bool:
    """What the broker answers whoever has a certificate of that name."""
    services = {None, *(name for name, each in USERS.items() if each == user)}
    return any(
        rule.access == access and rule.service in services and matches(rule.topic.replace("%u", user), topic)
        for rule in RULES
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


def may_service(service: ServiceName, access: Access, topic: Topic) -> bool:
    """What the architecture promises a service."""
    if isinstance(topic, AreaAlert) and access == "read":
        return True  # alerts are for everybody
    match service, topic:
        case ServiceName.INGEST, Uplink():
            return True  # writing is how it clears a retained one
        case ServiceName.INGEST, Presence():
            return access == "read"
        case ServiceName.INGEST, Downlink(_, DownlinkKind.RECEIPT):
            return access == "write"
        case ServiceName.CONTROL, Downlink(_, kind):
            return access == "write" and kind is not DownlinkKind.RECEIPT
        case ServiceName.CONTROL, AreaAlert():
            return access == "write"
        case _:
            return False


@pytest.mark.parametrize(
    ("device", "access", "topic"), [*itertools.product((CLUSTER, GATEWAY), get_args(Access), sample_topics())], ids=str
)
def test_a_device_may_do_what_is_promised(device: DeviceId, access: Access, topic: Topic) -> None:
    assert allowed(device, access, format_topic(topic)) == may_device(device, access, topic)


@pytest.mark.parametrize(
    ("service", "access", "topic"), [*itertools.product(ServiceName, get_args(Access), sample_topics())], ids=str
)
def test_a_service_may_do_what_is_promised(service: ServiceName, access: Access, topic: Topic) -> None:
    assert allowed(USERS[service], access, format_topic(topic)) == may_service(service, access, topic)


@pytest.mark.parametrize(
    "topic",
    ["loa/v2/cluster-a/up/event", "loa/v1/cluster-a/up", "loa/v1/cluster-a/up/event/a/b", "loa/v1/cluster-a/up/other",
     "loa/v1/cluster-a", "cluster-a/up/event", "$SYS/broker/uptime", "$SYS/broker/connection/cluster-a/state"],
)  # fmt: skip
def test_nobody_writes_outside_the_grammar(topic: str) -> None:
    assert not allowed(CLUSTER, "write", topic)
    assert not any(allowed(user, "write", topic) for user in USERS.values())


@pytest.mark.parametrize("topic", [*brokerstats.TOPICS, "$SYS/broker/version", "$SYS/broker/log/N"])
def test_the_broker_tells_of_itself_to_ingest_what_it_counts_to_the_monitor_all_and_to_nobody_else(topic: str) -> None:
    readers = {name for name, user in USERS.items() if allowed(user, "read", topic)}

    assert readers == {ServiceName.MONITOR} | ({ServiceName.INGEST} if topic in brokerstats.TOPICS else set())
    assert not any(allowed(device, "read", topic) for device in (CLUSTER, GATEWAY))


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
    assert names.isdisjoint({"per_listener_settings"}), "the access list is for both listeners"
    assert settings.count("allow_anonymous false") == 1
    assert settings.count("require_certificate true") == settings.count("use_identity_as_username true") == 2
    assert sum(line.startswith("listener ") for line in settings) == 2
