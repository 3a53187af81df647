"""Topic grammar: the only place where topic levels are joined or split.

    loa/v1/{principal}/up/{heartbeat|reading|event}[/{device}]
    loa/v1/{principal}/presence
    loa/v1/{principal}/down/{plan|config|keys|command|receipt}[/{device}]
    loa/v1/area/{unit_id}/alert/{alert_id}

The last level of an uplink or downlink is present exactly when a gateway speaks for another device.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from typing import assert_never

from schemas.errors import InvalidIdentifier, InvalidTopic
from schemas.identifiers import AlertId, DeviceId, UnitId, parse_uuid

PREFIX = "loa/v1"


class UplinkKind(enum.StrEnum):
    """What a device sends."""

    HEARTBEAT = "heartbeat"
    READING = "reading"
    EVENT = "event"


class DownlinkKind(enum.StrEnum):
    """What the platform sends to one device."""

    PLAN = "plan"
    CONFIG = "config"
    KEYS = "keys"
    COMMAND = "command"
    RECEIPT = "receipt"


QOS = 1  # of everything but receipts: delivered at least once, so every receiver removes duplicates itself

RETAINED_DOWNLINKS = frozenset({DownlinkKind.PLAN, DownlinkKind.CONFIG, DownlinkKind.KEYS})


@dataclass(frozen=True, slots=True)
class Uplink:
    """A message of `device`, sent by `principal` (the device itself, or its gateway)."""

    principal: DeviceId
    kind: UplinkKind
    device: DeviceId


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether `principal` is connected; retained, and the will of its session."""

    principal: DeviceId


@dataclass(frozen=True, slots=True)
class Downlink:
    """A message for `device`, delivered to the session of `principal`."""

    principal: DeviceId
    kind: DownlinkKind
    device: DeviceId


@dataclass(frozen=True, slots=True)
class AreaAlert:
    """An alert for every device below `unit`."""

    unit: UnitId
    alert: AlertId


Topic = Uplink | Presence | Downlink | AreaAlert


def format_topic(topic: Topic) -> str:
    """Return the topic string of `topic`."""
    match topic:
        case Uplink(principal, kind, device):
            return f"{PREFIX}/{principal}/up/{kind.value}" + ("" if device == principal else f"/{device}")
        case Presence(principal):
            return f"{PREFIX}/{principal}/presence"
        case Downlink(principal, kind, device):
            return f"{PREFIX}/{principal}/down/{kind.value}" + ("" if device == principal else f"/{device}")
        case AreaAlert(unit, alert):
            return f"{PREFIX}/area/{unit}/alert/{alert}"
        case _:
            assert_never(topic)


def parse_topic(text: str) -> Topic:
    """Return the topic written in `text`; raises `InvalidTopic` for everything that `format_topic` cannot produce."""
    levels = text.split("/")
    try:
        match levels:
            case ["loa", "v1", "area", unit, "alert", alert]:
                return AreaAlert(UnitId(parse_uuid(unit)), AlertId(parse_uuid(alert)))
            case ["loa", "v1", principal, "presence"]:
                return Presence(DeviceId.parse(principal))
            # A principal does not name itself as the device behind it.
            case ["loa", "v1", principal, ("up" | "down") as direction, kind, *rest] if len(rest) <= 1 and rest != [
                principal
            ]:
                parsed = DeviceId.parse(principal)
                device = DeviceId.parse(rest[0]) if rest else parsed
                if direction == "up":
                    return Uplink(parsed, UplinkKind(kind), device)
                return Downlink(parsed, DownlinkKind(kind), device)
    except InvalidIdentifier as error:
        raise InvalidTopic(f"{text[:200]!r}: {error}") from None
    except ValueError:
        raise InvalidTopic(f"{text[:200]!r}: unknown kind") from None
    raise InvalidTopic(f"{text[:200]!r} is not a topic of version 1")


def qos(topic: Topic) -> int:
    """Return the quality of service messages on `topic` are published with.

    A receipt may be lost: the device repeats what was not receipted and is answered again.
    """
    return 0 if isinstance(topic, Downlink) and topic.kind is DownlinkKind.RECEIPT else QOS


def is_retained(topic: Topic) -> bool:
    """Whether messages on `topic` are published with the retain flag; on every other topic it is an error."""
    match topic:
        case Uplink():
            return False
        case Presence() | AreaAlert():
            return True
        case Downlink(kind=kind):
            return kind in RETAINED_DOWNLINKS
        case _:
            assert_never(topic)


def uplink_filters() -> tuple[str, ...]:
    """Return the filters that together cover every uplink and presence topic; used by ingest."""
    return (*(each for kind in UplinkKind for each in kind_filters(kind)), presence_filter())


def kind_filters(kind: UplinkKind) -> tuple[str, ...]:
    """Return the filters that together cover every uplink topic of a kind."""
    return (f"{PREFIX}/+/up/{kind.value}", f"{PREFIX}/+/up/{kind.value}/+")


def presence_filter() -> str:
    """Return the filter for the presence of every principal, the only one among the uplinks that is retained."""
    return f"{PREFIX}/+/presence"


def downlink_filters(principal: DeviceId) -> tuple[str, ...]:
    """Return the filters a principal subscribes to for its own downlinks and those of the devices behind it."""
    return (f"{PREFIX}/{principal}/down/#",)


def area_filter(unit: uuid.UUID) -> str:
    """Return the filter for every alert addressed to `unit` itself."""
    return f"{PREFIX}/area/{unit}/alert/+"


def shared(group: str, topic_filter: str) -> str:
    """Return the shared-subscription form of `topic_filter` (MQTT 5, section 4.8.2).

    Raises `InvalidTopic` when `group` is not one non-empty topic level without wildcards.
    """
    if not group or set(group) & set("/+#\0"):
        raise InvalidTopic("the name of a shared group is one topic level without wildcards")
    return f"$share/{group}/{topic_filter}"
