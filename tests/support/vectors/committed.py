"""The golden vectors as they are committed, and a reader that knows only what stands beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from schemas import codec, device_signing, signing
from schemas.errors import SignatureError, SignatureReason
from schemas.orders import Order
from schemas.readings import Reading
from schemas.shapes import Message
from tests.support.make_vectors import DIRECTORY

COMMITTED = {path.name: path.read_bytes() for path in DIRECTORY.iterdir() if path.suffix in {".cbor", ".json"}}


def index(name: str) -> Any:
    return json.loads(COMMITTED[name])


KEYS = {name: (bytes.fromhex(key["kid"]), bytes.fromhex(key["public_key"])) for name, key in index("keys.json").items()}
TOLERATED = index("tolerated.json")
MALFORMED = index("malformed.json")
GOLDEN = sorted(
    name for name in COMMITTED if name.endswith(".cbor") and not name.startswith(("tolerated_", "malformed_"))
)

UNSIGNED: dict[str, Callable[[bytes], Message]] = {
    "heartbeat": codec.decode_heartbeat,
    "reading": codec.decode_reading,
    "event": codec.decode_envelope,
    "event_body": codec.decode_event,
    "presence": codec.decode_presence,
    "receipt": codec.decode_receipt,
}
SIGNED: dict[str, type[Order]] = {
    media_type.removeprefix("application/loa-").removesuffix("+cbor"): cls
    for cls, media_type in signing.MEDIA_TYPES.items()
}
DEVICE_SIGNED: dict[str, str] = {
    "signed_reading": device_signing.READING,
    "signed_event_body": device_signing.EVENT,
}


def read(message: str, payload: bytes) -> Message:
    """Return `payload` as a vendor's device would read it, knowing only the public keys beside the vectors."""
    if message in UNSIGNED:
        return UNSIGNED[message](payload)
    if message in DEVICE_SIGNED:
        who = index("keys.json")["device"]
        sealed = device_signing.unseal(DEVICE_SIGNED[message], payload, who["device"])
        if sealed.kid != bytes.fromhex(who["kid"]):
            raise SignatureError(SignatureReason.UNKNOWN_KEY)
        public_key = load_der_public_key(bytes.fromhex(who["public_key"]))
        assert isinstance(public_key, EllipticCurvePublicKey)
        sealed.verify(public_key)
        if message == "signed_reading":
            return codec.decode(Reading, sealed.payload, deterministic=True)
        return codec.decode_event(sealed.payload, deterministic=True)
    kid, public = KEYS["root" if message == "keys" else "platform"]
    return signing.verify(SIGNED[message], payload, {kid: Ed25519PublicKey.from_public_bytes(public)})


def kind(file: str) -> str:
    name = file.split("_v1")[0]
    return "heartbeat" if name.startswith("heartbeat") else name
