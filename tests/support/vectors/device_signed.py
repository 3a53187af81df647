"""What a device signs, and what passes for it and is not."""

from __future__ import annotations

import functools
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from schemas import codec, device_signing, wire
from schemas.identifiers import DeviceId
from schemas.readings import Reading
from schemas.shapes import Message
from schemas.signing import to_be_signed
from tests.support.vectors.uplinks import messages
from tests.support.vectors.world import CLUSTER, DEVICE_KEY, FOREIGN_DEVICE_KEY, SENSOR

# What alerts are proven by; all other events are signed alike.
_EVENTS = ("event_body_v1_alert_handled", "event_body_v1_alert_started")


@functools.cache
def device_signed() -> dict[str, tuple[Message, bytes]]:
    """Return every message that devices sign, with its signed form, by the name of its vector."""
    found: dict[str, tuple[Message, bytes]] = {}
    for name, message in messages().items():
        if isinstance(message, Reading) or name in _EVENTS:
            found[f"signed_{name}"] = (message, signed(message))
    return found


def signed(message: Message) -> bytes:
    return device_signing.sign(message, DeviceId(SENSOR), DEVICE_KEY)


def impostors() -> dict[str, tuple[bytes, str]]:
    """Return what is refused in the place of a signed reading, with the reason, by the name of its vector."""
    message, good = device_signed()["signed_reading_v1_water_level"]
    protected, _, payload, signature = cbor2.loads(good)
    header = cbor2.loads(protected)
    typ = device_signing.MEDIA_TYPES[Reading]

    def with_header(changed: Any) -> bytes:
        head = codec.dumps(changed)
        made = DEVICE_KEY.sign(to_be_signed(head, payload), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(made)
        return codec.dumps([head, {}, payload, r.to_bytes(32, "big") + s.to_bytes(32, "big")])

    def sealed(content: bytes, *, device: str = SENSOR, key: ec.EllipticCurvePrivateKey = DEVICE_KEY) -> bytes:
        return device_signing.seal(content, device=device, media_type=typ, key=key)

    unordered = cbor2.dumps(dict(reversed(wire.to_wire(message).items())))
    return {
        "flipped_bit": (good.replace(b"water_level", b"water_levem"), "bad_signature"),
        "zero_signature": (codec.dumps([protected, {}, payload, bytes(64)]), "bad_signature"),
        "short_signature": (codec.dumps([protected, {}, payload, signature[:63]]), "bad_signature"),
        "foreign_key": (sealed(payload, key=FOREIGN_DEVICE_KEY), "unknown_key"),
        "other_device": (sealed(payload, device=CLUSTER), "foreign_device"),
        "no_device": (with_header({1: -7, 4: header[4], 16: typ}), "foreign_device"),
        "other_type": (with_header({**header, 16: "application/loa-event+cbor"}), "wrong_type"),
        "eddsa": (with_header({**header, 1: -8}), "downgraded_algorithm"),
        "no_algorithm": (with_header({4: header[4], 15: header[15], 16: typ}), "downgraded_algorithm"),
        "crit_header": (with_header({**header, 2: [99], 99: 0}), "malformed"),
        "unprotected_header": (codec.dumps([protected, {4: b"x"}, payload, signature]), "malformed"),
        "cose_tag": (b"\xd2" + good, "malformed"),
        "long_head": (b"\x98\x04" + good[1:], "malformed"),
        "not_signed": (payload, "malformed"),
        "payload_key_order": (sealed(unordered), "not_deterministic"),
    }
