"""COSE_Sign1 (RFC 9052 section 4.2) with Ed25519 (RFC 9053 section 2.2), as plans, commands and alerts are signed.

The untagged array [protected, unprotected, payload, signature]. Protected header: 1 (alg) = -8 (EdDSA), 4 (kid) = first
8 bytes of SHA-256 over the public key, 16 (typ, RFC 9596) = media type of the payload; unprotected header empty. The
type is signed, so a plan can never be passed off as a command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas import codec
from schemas.alerts import Alert
from schemas.commands import Command
from schemas.configuration import Configuration
from schemas.errors import DecodeError, EncodeError, SignatureError, SignatureReason
from schemas.keys import KeySet
from schemas.orders import Order
from schemas.plans import Plan

OrderT = TypeVar("OrderT", bound=Order)

MEDIA_TYPES: Mapping[type[Order], str] = {
    Plan: "application/loa-plan+cbor",
    Configuration: "application/loa-configuration+cbor",
    KeySet: "application/loa-keys+cbor",
    Command: "application/loa-command+cbor",
    Alert: "application/loa-alert+cbor",
}

OVERHEAD_BYTES = 160  # protected header, array, byte-string heads and 64 bytes of signature, rounded up

_ALG, _KID, _TYP = 1, 4, 16
_EDDSA = -8


def key_id(key: Ed25519PublicKey) -> bytes:
    """Return the 8-byte id under which devices know `key`."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()[:8]


def sign(order: Order, key: Ed25519PrivateKey) -> bytes:
    """Return `order` as a signed message; raises `EncodeError` when it is too large for its kind."""
    payload = codec.encode(order)
    header = {_ALG: _EDDSA, _KID: key_id(key.public_key()), _TYP: MEDIA_TYPES[type(order)]}
    protected = codec.dumps(header)
    signature = key.sign(_to_be_signed(protected, payload))
    message = codec.dumps([protected, {}, payload, signature])
    if len(message) > order.SIZE_LIMIT + OVERHEAD_BYTES:
        raise EncodeError(f"signed {type(order).__name__} of {len(message)} bytes")
    return message


def verify(cls: type[OrderT], message: bytes, keyring: Mapping[bytes, Ed25519PublicKey]) -> OrderT:
    """Return the order inside `message` if a key of `keyring` (by key id) signed it as a `cls`.

    Raises `SignatureError`. Audience, window and serial are the receiver's to judge: only it knows who and when it is.
    """
    protected, payload, signature = _parts(message, cls.SIZE_LIMIT + OVERHEAD_BYTES)
    header = _header(protected)
    if header.get(_ALG) != _EDDSA:
        raise SignatureError(SignatureReason.DOWNGRADED_ALGORITHM, f"algorithm {header.get(_ALG)!r}"[:80])
    if header.get(_TYP) != MEDIA_TYPES[cls]:
        raise SignatureError(SignatureReason.WRONG_TYPE, f"expected {MEDIA_TYPES[cls]}")
    kid = header.get(_KID)
    key = keyring.get(kid) if isinstance(kid, bytes) else None
    if key is None:
        raise SignatureError(SignatureReason.UNKNOWN_KEY, kid.hex()[:32] if isinstance(kid, bytes) else "")
    if header.keys() != {_ALG, _KID, _TYP}:
        raise SignatureError(SignatureReason.MALFORMED, "unexpected protected header")
    try:
        key.verify(signature, _to_be_signed(protected, payload))
    except InvalidSignature:
        raise SignatureError(SignatureReason.BAD_SIGNATURE) from None
    try:
        return codec.decode(cls, payload, deterministic=True)
    except DecodeError as error:
        raise SignatureError(SignatureReason.MALFORMED, str(error)) from error


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure of RFC 9052 section 4.4, with empty external data."""
    return codec.dumps(["Signature1", protected, b"", payload])


def _parts(message: bytes, size_limit: int) -> tuple[bytes, bytes, bytes]:
    try:
        data = codec.loads(message, size_limit=size_limit, deterministic=True)
    except DecodeError as error:
        raise SignatureError(SignatureReason.MALFORMED, str(error)) from error
    match data:
        case [bytes() as protected, {**rest}, bytes() as payload, bytes() as signature] if not rest:
            return protected, payload, signature
    raise SignatureError(SignatureReason.MALFORMED, "not a COSE_Sign1 array")


def _header(protected: bytes) -> dict[Any, Any]:
    try:
        header = codec.loads(protected, size_limit=256, deterministic=True)
    except DecodeError as error:
        raise SignatureError(SignatureReason.MALFORMED, f"protected header: {error}") from error
    if not isinstance(header, dict):
        raise SignatureError(SignatureReason.MALFORMED, "protected header is not a map")
    return header
