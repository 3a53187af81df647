"""What a receiver accepts besides the golden vectors, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cbor2

from schemas import codec, signing, wire
from schemas.commands import Command
from schemas.plans import Plan
from tests.support.vectors.device_signed import impostors
from tests.support.vectors.downlinks import KEY_SET, orders, signed
from tests.support.vectors.uplinks import messages
from tests.support.vectors.world import (
    FOREIGN_KEY,
    PLATFORM_KEY,
    T,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerated:
    """Bytes a receiver accepts although our encoder would not make them; they mean the same as `like`."""

    payload: bytes
    like: str
    why: str


def tolerated() -> dict[str, Tolerated]:
    """Return what a receiver has to accept besides the golden vectors."""
    minimal = wire.to_wire(messages()["heartbeat_cluster_v1_minimal"])
    level = wire.to_wire(messages()["reading_v1_water_level"])
    order = wire.to_wire(orders()["command_v1_stop"])
    return {
        "tolerated_v1_unknown_field": Tolerated(
            payload=codec.dumps({**minimal, 127: {0: [None, "?", 1.5]}}),
            like="heartbeat_cluster_v1_minimal",
            why="field 127 belongs to a newer minor version and is not critical",
        ),
        "tolerated_v1_key_order": Tolerated(
            payload=cbor2.dumps(dict(reversed(minimal.items()))),
            like="heartbeat_cluster_v1_minimal",
            why="an unsigned message may have its fields in any order",
        ),
        "tolerated_v1_long_integer": Tolerated(
            payload=codec.dumps(minimal).replace(b"\x05\x0c", b"\x05\x19\x00\x0c"),
            like="heartbeat_cluster_v1_minimal",
            why="an unsigned message may use a longer head than it needs (uptime_s)",
        ),
        "tolerated_v1_wide_float": Tolerated(
            payload=codec.dumps(level).replace(bytes.fromhex("f94280"), bytes.fromhex("fb400a000000000000")),
            like="reading_v1_water_level",
            why="an unsigned message may use a wider float than it needs",
        ),
        "tolerated_v1_signed_unknown_field": Tolerated(
            payload=signing.seal(
                codec.dumps({**order, 100: 1}), media_type=signing.MEDIA_TYPES[Command], key=PLATFORM_KEY
            ),
            like="command_v1_stop",
            why="field 100 belongs to a newer minor version and is not critical, in a signed message too",
        ),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """Bytes that are not the message `as_message` names, why, and where."""

    payload: bytes
    as_message: str
    reason: str
    field: str = ""


def malformed() -> dict[str, Malformed]:
    """Return what every receiver refuses, with the reason ours gives."""
    return {**_malformed_bytes(), **_malformed_fields(), **_malformed_orders(), **_impostors()}


def _impostors() -> dict[str, Malformed]:
    return {
        f"malformed_signed_reading_{name}": Malformed(payload=payload, as_message="signed_reading", reason=reason)
        for name, (payload, reason) in impostors().items()
    }


def _malformed_bytes() -> dict[str, Malformed]:
    good = codec.encode(messages()["heartbeat_cluster_v1_minimal"])
    plain = wire.to_wire(messages()["heartbeat_cluster_v1_minimal"])
    head = good[1:]  # the fields behind the map's head (a7)

    def heartbeat(payload: bytes, reason: str, field: str = "") -> Malformed:
        return Malformed(payload=payload, as_message="heartbeat", reason=reason, field=field)

    return {
        "malformed_empty": heartbeat(b"", "truncated"),
        "malformed_truncated": heartbeat(good[:-1], "truncated"),
        "malformed_huge_array": heartbeat(bytes.fromhex("9bffffffffffffffff"), "truncated"),
        "malformed_not_cbor": heartbeat(bytes.fromhex("1c"), "not_cbor"),
        "malformed_json": heartbeat(b'{"volume":50}', "truncated"),
        "malformed_invalid_utf8": heartbeat(good.replace(b"1.0.0", b"1.0.\xff"), "not_cbor"),
        "malformed_tag": heartbeat(bytes.fromhex("d9d9f7") + good, "forbidden_tag"),
        "malformed_bignum": heartbeat(good.replace(b"\x05\x0c", b"\x05\xc2\x41\x0c"), "forbidden_tag"),
        "malformed_duplicate_key": heartbeat(b"\xa8" + head + b"\x05\x0c", "duplicate_key"),
        "malformed_indefinite_map": heartbeat(b"\xbf" + head + b"\xff", "indefinite_length"),
        "malformed_indefinite_text": heartbeat(good.replace(b"\x651.0.0", b"\x7f\x651.0.0\xff"), "indefinite_length"),
        "malformed_trailing_byte": heartbeat(good + b"\x00", "trailing_bytes"),
        "malformed_too_deep": heartbeat(codec.dumps({**plain, 100: [[[[[[[[0]]]]]]]]}), "too_deep"),
        "malformed_too_large": heartbeat(codec.dumps({**plain, 100: bytes(1_024)}), "too_large"),
        "malformed_not_a_map": heartbeat(codec.dumps([1, T]), "wrong_type"),
        "malformed_text_key": heartbeat(codec.dumps({**plain, "x": 1}), "wrong_type"),
    }


def _malformed_fields() -> dict[str, Malformed]:
    plain = wire.to_wire(messages()["heartbeat_cluster_v1_minimal"])
    reading = wire.to_wire(messages()["reading_v1_water_level"])
    event = wire.to_wire(messages()["event_body_v1_play_started"])
    envelope = wire.to_wire(messages()["event_v1_booted"])
    receipt = wire.to_wire(messages()["receipt_v1_gaps"])

    def case(as_message: str, data: dict[Any, Any], reason: str, field: str = "") -> Malformed:
        kept = {key: value for key, value in data.items() if value is not _ABSENT}
        return Malformed(payload=codec.dumps(kept), as_message=as_message, reason=reason, field=field)

    def sample(**changes: Any) -> dict[Any, Any]:
        numbers = {"quantity": 0, "value": 1, "unit": 2, "quality": 3, "at_ms": 4}
        return {**reading, 3: [{**reading[3][0], **{numbers[name]: value for name, value in changes.items()}}]}

    return {
        "malformed_no_version": case("heartbeat", {**plain, 0: _ABSENT}, "missing_field", "version"),
        "malformed_version_2": case("heartbeat", {**plain, 0: 2}, "unsupported_version", "version"),
        "malformed_version_true": case("heartbeat", {**plain, 0: True}, "wrong_type", "version"),
        "malformed_critical_field": case("heartbeat", {**plain, 128: 0}, "critical_field"),
        "malformed_no_kind": case("heartbeat", {**plain, 3: _ABSENT}, "missing_field", "kind"),
        "malformed_unknown_kind": case("heartbeat", {**plain, 3: 4}, "invalid_value", "kind"),
        "malformed_missing_field": case("heartbeat", {**plain, 20: _ABSENT}, "missing_field", "volume_percent"),
        "malformed_null_field": case("heartbeat", {**plain, 20: None}, "wrong_type", "volume_percent"),
        "malformed_boolean_as_integer": case("heartbeat", {**plain, 20: True}, "wrong_type", "volume_percent"),
        "malformed_float_as_integer": case("heartbeat", {**plain, 20: 50.0}, "wrong_type", "volume_percent"),
        "malformed_out_of_range": case("heartbeat", {**plain, 20: 101}, "invalid_value", "volume_percent"),
        "malformed_negative": case("heartbeat", {**plain, 5: -1}, "invalid_value", "uptime_s"),
        "malformed_unknown_enumeration": case("heartbeat", {**plain, 2: 9}, "invalid_value", "clock"),
        "malformed_empty_text": case("heartbeat", {**plain, 4: ""}, "invalid_value", "firmware"),
        "malformed_text_too_long": case("heartbeat", {**plain, 4: "x" * 49}, "invalid_value", "firmware"),
        "malformed_nul_in_text": case("heartbeat", {**plain, 12: "a\0b"}, "invalid_value", "last_error"),
        "malformed_text_for_bytes": case("event", {**envelope, 1: "8 octets"}, "wrong_type", "journal"),
        "malformed_nested_wrong_type": case("heartbeat", {**plain, 6: {0: "4G"}}, "wrong_type", "network.type"),
        "malformed_nested_critical": case("heartbeat", {**plain, 6: {0: 1, 200: 0}}, "critical_field", "network"),
        "malformed_instant_after_2100": case(
            "heartbeat", {**plain, 1: 4_102_444_800_001}, "invalid_value", "device_at_ms"
        ),
        "malformed_no_samples": case("reading", {**reading, 3: []}, "invalid_value", "samples"),
        "malformed_nan": case("reading", sample(value=float("nan")), "invalid_value", "samples.0.value"),
        "malformed_infinity": case("reading", sample(value=float("inf")), "invalid_value", "samples.0.value"),
        "malformed_unit": case("reading", sample(unit="cm"), "invalid_value", "samples.0"),
        "malformed_journal_length": case("event", {**envelope, 1: bytes(7)}, "invalid_value", "journal"),
        "malformed_sequence_0": case("event", {**envelope, 2: 0}, "invalid_value", "sequence"),
        "malformed_unknown_event": case("event_body", {**event, 3: 99}, "invalid_value", "type"),
        "malformed_hash_length": case("event_body", {**event, 12: bytes(31)}, "invalid_value", "media"),
        "malformed_uuid_length": case(
            "event_body", {**event, 10: {**event[10], 1: bytes(15)}}, "invalid_value", "reference.id"
        ),
        "malformed_reference_without_item": case(
            "event_body", {**event, 10: {0: 0, 1: bytes(16), 2: T}}, "invalid_value", "reference"
        ),
        "malformed_receipt_ranges_touch": case(
            "receipt", {**receipt, 3: [{0: 12, 1: 13}, {0: 14, 1: 15}]}, "invalid_value"
        ),
        "malformed_presence_number": case(
            "presence", {0: 1, 1: 2**63, 2: True, 3: T, 4: 0}, "invalid_value", "connection_number"
        ),
    }


_ABSENT = object()


def _malformed_orders() -> dict[str, Malformed]:
    plan, command = orders()["plan_v1_day"], orders()["command_v1_stop"]
    good = signed(plan)
    protected, _, payload, signature = codec.loads(good, size_limit=len(good))

    def order(payload: bytes, reason: str, as_message: str = "plan") -> Malformed:
        return Malformed(payload=payload, as_message=as_message, reason=reason)

    def sealed(data: Any, *, encoded: bytes | None = None) -> bytes:
        content = codec.dumps(data) if encoded is None else encoded
        return signing.seal(content, media_type=signing.MEDIA_TYPES[Plan], key=PLATFORM_KEY)

    def with_header(header: Any) -> bytes:
        changed = codec.dumps(header)
        return codec.dumps([changed, {}, payload, PLATFORM_KEY.sign(signing.to_be_signed(changed, payload))])

    header = codec.loads(protected, size_limit=len(protected))
    fields_of_plan = wire.to_wire(plan)
    return {
        "malformed_plan_not_signed": order(payload, "malformed"),
        "malformed_plan_flipped_bit": order(good.replace("Bản".encode(), "Bạn".encode()), "bad_signature"),
        "malformed_plan_zero_signature": order(codec.dumps([protected, {}, payload, bytes(64)]), "bad_signature"),
        "malformed_plan_short_signature": order(codec.dumps([protected, {}, payload, signature[:63]]), "bad_signature"),
        "malformed_plan_foreign_key": order(signing.sign(plan, FOREIGN_KEY), "unknown_key"),
        "malformed_plan_es256": order(with_header({**header, 1: -7}), "downgraded_algorithm"),
        "malformed_plan_no_algorithm": order(with_header({4: header[4], 16: header[16]}), "downgraded_algorithm"),
        "malformed_plan_is_a_command": order(signed(command), "wrong_type"),
        "malformed_plan_no_type": order(with_header({1: -8, 4: header[4]}), "wrong_type"),
        "malformed_plan_crit_header": order(with_header({**header, 2: [99], 99: 0}), "malformed"),
        "malformed_plan_unprotected_header": order(
            codec.dumps([protected, {4: b"x"}, payload, signature]), "malformed"
        ),
        "malformed_plan_cose_tag": order(b"\xd2" + good, "malformed"),
        "malformed_plan_detached": order(codec.dumps([protected, {}, None, signature]), "malformed"),
        "malformed_plan_trailing_byte": order(good + b"\x00", "malformed"),
        "malformed_plan_long_head": order(b"\x98\x04" + good[1:], "malformed"),
        "malformed_plan_payload_key_order": order(
            sealed(None, encoded=cbor2.dumps(dict(reversed(fields_of_plan.items())))), "malformed"
        ),
        "malformed_plan_critical_field": order(sealed({**fields_of_plan, 128: 0}), "malformed"),
        "malformed_plan_empty_window": order(sealed({**fields_of_plan, 5: fields_of_plan[4]}), "malformed"),
        "malformed_plan_unsorted": order(
            sealed({**fields_of_plan, 10: list(reversed(fields_of_plan[10]))}), "malformed"
        ),
        "malformed_plan_unlisted_media": order(sealed({**fields_of_plan, 11: []}), "malformed"),
        "malformed_keys_by_platform_key": order(signing.sign(KEY_SET, PLATFORM_KEY), "unknown_key", "keys"),
    }
