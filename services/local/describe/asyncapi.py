"""The contract as an AsyncAPI 3 document, from the point of view of a device.

The schemas describe messages by field names, as the JSON twins of the golden vectors do; `x-cbor-key` is the key a field
has on the wire and `x-cddl-rule` the rule of `contract.cddl` that says it exactly. Addresses come from `schemas.topics`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, assert_never, cast

import yaml

from schemas import topics
from schemas.events import EventEnvelope
from schemas.identifiers import DEVICE_ID_PATTERN, AlertId, DeviceId, UnitId
from schemas.shapes import (
    Array,
    Boolean,
    Bytes,
    Constant,
    Enumeration,
    FieldShape,
    Integer,
    Map,
    Number,
    Record,
    Text,
    Uuid,
    WireType,
    shape_of,
)
from schemas.topics import DownlinkKind, UplinkKind
from services.local.describe import catalogue
from services.local.describe.catalogue import Entry, dashed

Json = dict[str, Any]

_DESCRIPTION = """\
What a loudspeaker cluster, LED board, sensor or gateway sends and receives over MQTT 5.

Payloads are CBOR maps with unsigned integer keys (contract.cddl); the schemas here describe their JSON twins. Plans,
configurations, key sets, commands and alerts are signed: COSE_Sign1 (RFC 9052) with Ed25519 around the CBOR. So is a list
of segments (`segment-list`), which has no channel: a device reads it over HTTPS. A device that has enrolled signs its readings
(`signed-reading`) and the bodies of its events, with ES256 and the key of its certificate. README.md beside this file says what
neither document can: the promises, the order of checks, how to read a relay, and the rules for clocks.
"""

_PRINCIPAL = DeviceId("{principal}")
_DEVICE = DeviceId("{device}")

_PARAMETERS: dict[str, Json] = {
    "principal": {
        "description": "Who authenticates to the broker: the common name of its certificate, its user name and client id. "
        f"{DEVICE_ID_PATTERN}"
    },
    "device": {"description": "A device behind the gateway that is the principal; the same grammar."},
    "unit_id": {"description": "UUID of an administrative unit, in canonical lower-case form."},
    "alert_id": {"description": "UUID of the alert, in canonical lower-case form."},
}

_BY_NAME = {entry.name: entry for entry in (*catalogue.UNSIGNED, *catalogue.DEVICE_SIGNED, *catalogue.SIGNED)}
_BY_DOWNLINK = {
    DownlinkKind.PLAN: "plan",
    DownlinkKind.CONFIG: "configuration",
    DownlinkKind.KEYS: "keys",
    DownlinkKind.COMMAND: "command",
    DownlinkKind.RECEIPT: "receipt",
}
_EXPIRING = {
    DownlinkKind.COMMAND: "Seconds until valid_until_ms.",
    DownlinkKind.RECEIPT: "A later receipt says the same and more, so an old one need not be kept.",
}


@dataclass(frozen=True, slots=True)
class _Channel:
    name: str
    topic: topics.Topic
    entry: Entry
    title: str
    action: str  # what a device does
    expiry: str | None = None


def document() -> str:
    """Return the whole document as YAML."""
    channels = _channels()
    tree: Json = {
        "asyncapi": "3.0.0",
        "info": {"title": "Loa: devices and platform", "version": "1.0.0", "description": _DESCRIPTION},
        "defaultContentType": "application/cbor",
        "servers": {"broker": _server()},
        "channels": {channel.name: _channel(channel) for channel in channels},
        "operations": {_operation_name(channel): _operation(channel) for channel in channels},
        "components": {
            "parameters": _PARAMETERS,
            "messages": _messages(),
            "schemas": _schemas(),
            "securitySchemes": {
                "certificate": {"type": "X509", "description": "The device's own certificate; no passwords."}
            },
        },
    }
    header = "# Made from the message classes by `python -m services.local.describe`; a test compares it, so do not edit it.\n"
    return header + yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no aliases, and long texts as blocks."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _server() -> Json:
    return {
        "host": "broker.example:8883",
        "protocol": "secure-mqtt",
        "protocolVersion": "5.0",
        "description": "TLS with the device's certificate; the broker's is verified against the service CA.",
        "security": [{"$ref": "#/components/securitySchemes/certificate"}],
        "bindings": {
            "mqtt": {
                "clientId": "{principal}",
                "cleanSession": True,
                "sessionExpiryInterval": 0,
                "lastWill": {
                    "topic": topics.format_topic(topics.Presence(_PRINCIPAL)),
                    "qos": topics.qos(topics.Presence(_PRINCIPAL)),
                    "retain": True,
                    "message": "presence with online false and this connection's number",
                },
                "bindingVersion": "0.2.0",
            }
        },
    }


def _channels() -> tuple[_Channel, ...]:
    found = []
    for kind in UplinkKind:
        entry = _BY_NAME[kind.value]
        title = f"{kind.value.capitalize()}s"
        found.append(_Channel(kind.value, topics.Uplink(_PRINCIPAL, kind, _PRINCIPAL), entry, title, "send"))
        behind = topics.Uplink(_PRINCIPAL, kind, _DEVICE)
        found.append(_Channel(f"{kind.value}-through-gateway", behind, entry, f"{title} of a device behind it", "send"))
    presence = topics.Presence(_PRINCIPAL)
    found.append(_Channel("presence", presence, _BY_NAME["presence"], "Whether the principal is connected", "send"))
    for downlink in DownlinkKind:
        name, expiry = _BY_DOWNLINK[downlink], _EXPIRING.get(downlink)
        own = topics.Downlink(_PRINCIPAL, downlink, _PRINCIPAL)
        behind_it = topics.Downlink(_PRINCIPAL, downlink, _DEVICE)
        title = name.capitalize()
        found.append(_Channel(name, own, _BY_NAME[name], title, "receive", expiry))
        through = f"{title} for a device behind it"
        found.append(_Channel(f"{name}-through-gateway", behind_it, _BY_NAME[name], through, "receive", expiry))
    area = topics.AreaAlert(cast("UnitId", "{unit_id}"), cast("AlertId", "{alert_id}"))
    title = "Alerts for every device below a unit"
    found.append(_Channel("alert", area, _BY_NAME["alert"], title, "receive", "Seconds until valid_until_ms."))
    return tuple(found)


def _channel(channel: _Channel) -> Json:
    address = topics.format_topic(channel.topic)
    return {
        "address": address,
        "title": channel.title,
        "parameters": {
            name: {"$ref": f"#/components/parameters/{name}"} for name in _PARAMETERS if f"{{{name}}}" in address
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(channel.entry)},
    }


def _operation_name(channel: _Channel) -> str:
    return f"{channel.action}-{channel.name}"


def _operation(channel: _Channel) -> Json:
    binding: Json = {"qos": topics.qos(channel.topic), "retain": topics.is_retained(channel.topic)}
    if channel.expiry:
        binding["messageExpiryInterval"] = {"type": "integer", "minimum": 1, "description": channel.expiry}
    return {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "title": channel.title,
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{name}"} for name in _message_names(channel.entry)],
        "bindings": {"mqtt": {**binding, "bindingVersion": "0.2.0"}},
    }


def _message_name(entry: Entry, cls: type[Record]) -> str:
    return entry.name if entry in catalogue.DEVICE_SIGNED else dashed(cls.__name__)


def _message_names(entry: Entry) -> list[str]:
    """What may come on a channel for this kind: plain, or signed by a device."""
    signed = _BY_NAME.get(f"signed-{entry.name}")
    kinds = (entry,) if signed is None else (entry, signed)
    return [_message_name(each, cls) for each in kinds for cls in each.classes]


def _messages() -> Json:
    return {_message_name(entry, cls): _message(entry, cls) for entry in _BY_NAME.values() for cls in entry.classes}


def _message(entry: Entry, cls: type[Record]) -> Json:
    content = "application/cbor" if entry.media_type is None else 'application/cose; cose-type="cose-sign1"'
    return {
        "name": _message_name(entry, cls),
        "title": catalogue.promise(cls).partition("\n")[0],
        "contentType": content,
        "payload": {"$ref": f"#/components/schemas/{cls.__name__}"},
        **({"x-cose-typ": entry.media_type} if entry.media_type else {}),
        "x-cddl-rule": f"{entry.name}-message",
        "x-maximum-bytes": entry.size_limit,
    }


def _schemas() -> Json:
    records: dict[type[Record | enum.IntEnum], None] = dict.fromkeys(catalogue.message_classes())
    records.update(dict.fromkeys(catalogue.parts()))
    return {item.__name__: _enumeration(item) if issubclass(item, enum.IntEnum) else _record(item) for item in records}


def _record(cls: type[Record]) -> Json:
    fields = shape_of(cls).fields
    schema: Json = {
        "type": "object",
        "description": catalogue.promise(cls),
        "x-cddl-rule": dashed(cls.__name__),
        "properties": {field.name: _property(cls, field) for field in fields},
    }
    if required := [field.name for field in fields if field.required]:
        schema["required"] = required
    return schema


def _property(cls: type[Record], field: FieldShape) -> Json:
    schema = {"x-cbor-key": field.key, **_schema(field.type)}
    if field.default is not None and field.default != ():
        default = field.default
        schema["x-when-absent"] = default.name.lower() if isinstance(default, enum.IntEnum) else default
    if cls is EventEnvelope and field.name == "body":
        bodies = [{"$ref": f"#/components/schemas/{body.__name__}"} for body in catalogue.EVENT_BODIES.classes]
        schema |= {"contentMediaType": "application/cbor", "x-cbor-content": {"oneOf": bodies}}
        # Or the same signed by the device: COSE_Sign1 of this type around it.
        schema["x-cose-typ"] = catalogue.SIGNED_BODIES.media_type
    return schema


def _enumeration(members: type[enum.IntEnum]) -> Json:
    return {
        "type": "string",
        "description": catalogue.promise(members),
        "enum": [member.name.lower() for member in members],
        "x-cddl-rule": dashed(members.__name__),
        "x-cbor-values": {member.name.lower(): member.value for member in members},
    }


def _schema(value: WireType) -> Json:
    match value:
        case Integer(low, high):
            return {"type": "integer", "minimum": low, "maximum": high}
        case Number(low, high):
            return {"type": "number", "minimum": low, "maximum": high}
        case Boolean():
            return {"type": "boolean"}
        case Text(low, high, pattern):
            schema: Json = {"type": "string", "pattern": pattern}
            return schema if high is None else {**schema, "minLength": low, "maxLength": high}
        case Bytes(low, high):
            return {"type": "string", "contentEncoding": "base16", "minLength": 2 * low, "maxLength": 2 * high}
        case Uuid():
            return {"type": "string", "format": "uuid"}
        case Enumeration(members):
            # `allOf`, because draft 7 ignores what stands beside a reference, and the field's key does.
            return {"allOf": [{"$ref": f"#/components/schemas/{members.__name__}"}]}
        case Constant(enum.IntEnum() as member):
            return {"const": member.name.lower(), "x-cbor-value": int(member)}
        case Constant(number):
            return {"const": number}
        case Array(item, low, high):
            return {"type": "array", "items": _schema(item), "minItems": low, "maxItems": high}
        case Map(cls):
            return {"allOf": [{"$ref": f"#/components/schemas/{cls.__name__}"}]}
        case _:
            assert_never(value)
