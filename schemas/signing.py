"""COSE_Sign1 (RFC 9052 section 4.2) with Ed25519 (RFC 9053 section 2.2), as all orders are signed.

The untagged array [protected, unprotected, payload, signature]. Protected header: 1 (alg) = -8 (EdDSA), 4 (kid) = first
8 bytes of SHA-256 over the public key, 16 (typ, RFC 9596) = media type of the payload; unprotected header empty. The
type is signed, so a plan can never be passed off as a command.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas import codec, keys
from schemas.alerts import Alert
from schemas.commands import Command
from schemas.configuration import Configuration
from schemas.errors import DecodeError, SignatureError, SignatureReason
from schemas.keys import KeySet
from schemas.orders import Order
from schemas.plans import Plan
from schemas.relays import SegmentList

OrderT = TypeVar("OrderT", bound=Order)

MEDIA_TYPES: Mapping[type[Order], str] = {
    Plan: "application/loa-plan+cbor",
    Configuration: "application/loa-configuration+cbor",
    KeySet: "application/loa-keys+cbor",
    Command: "application/loa-command+cbor",
    Alert: "application/loa-alert+cbor",
    SegmentList: "application/loa-segments+cbor",
}

OVERHEAD_BYTES = 160  # protected header, array, byte-string heads and 64 bytes of signature, rounded up

_ALG, _KID, _TYP = 1, 4, 16
_EDDSA = -8


def key_id(key: Ed25519PublicKey) -> bytes:
    """Return the 8-byte id under which devices know `key`."""
    return keys.key_id(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def sign(order: Order, key: Ed25519PrivateKey) -> bytes:
    """Return `order` as a signed message; raises `EncodeError` when it is too large for its kind."""
    return seal(codec.encode(order), media_type=MEDIA_TYPES[type(order)], key=key)


def verify(cls: type[OrderT], message: bytes, keyring: Mapping[bytes, Ed25519PublicKey]) -> OrderT:
    """Return the order inside `message` if a key of `keyring` (by key id) signed it as a `cls`.

    Raises `SignatureError`. Audience, window and serial are the receiver's to judge: only it knows who and when it is.
    """
    sealed = unseal(cls, message)
    if (key := keyring.get(sealed.kid)) is None:
        raise _unknown(sealed)
    return _open(cls, sealed, key, strictly)


def strictly(cls: type[OrderT], payload: bytes) -> OrderT:
    """Return the order in the payload of a signed message; raises `DecodeError`."""
    return codec.decode(cls, payload, deterministic=True)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A signed message taken apart; nothing of it is believed yet."""

    kid: bytes
    protected: bytes
    payload: bytes
    signature: bytes
    signed: bytes  # what the signature is over


class Verifier(Protocol):
    """A public key that can judge signatures, as `Ed25519PublicKey` does."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise `InvalidSignature` unless this key signed `data`."""


def verify_under(
    cls: type[OrderT],
    message: bytes,
    key_set: KeySet,
    *,
    verifier: Callable[[bytes], Verifier] | None = None,
    unsealed: Callable[[type[Order], bytes], Sealed] | None = None,
    decode: Callable[[type[OrderT], bytes], OrderT] = strictly,
) -> OrderT:
    """Return the order inside `message` if a key of `key_set` signed it as a `cls`, issued while that key was valid.

    Raises `SignatureError`; a key outside its window is an unknown key. Whoever reads the same bytes again and again may
    give an `unsealed` and a `decode` that remember: the signature is checked in between, every time. `verifier` makes a
    key that can judge signatures out of a raw one, where another implementation of Ed25519 is to do so.
    """
    sealed = (unsealed or unseal)(cls, message)
    key = next((each for each in key_set.keys if each.kid == sealed.kid), None)
    if key is None:
        raise _unknown(sealed)
    order = _open(cls, sealed, (verifier or _public_key)(key.public_key), decode)
    if not key.not_before_ms <= order.issued_at_ms < key.not_after_ms:
        raise SignatureError(SignatureReason.UNKNOWN_KEY, f"{sealed.kid.hex()}: issued outside the window of its key")
    return order


@functools.lru_cache(maxsize=64)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


def unseal(cls: type[Order], message: bytes) -> Sealed:
    """Take a message apart that should be a signed `cls`; raises `SignatureError`. Depends on nothing but the bytes."""
    protected, payload, signature = take_apart(message, size_limit=cls.SIZE_LIMIT + OVERHEAD_BYTES)
    header = read_header(protected)
    # Each check before the signature's own only picks the reason: an exact comparison follows below.
    if header.get(_ALG) != _EDDSA:
        raise SignatureError(SignatureReason.DOWNGRADED_ALGORITHM, f"algorithm {header.get(_ALG)!r}"[:80])
    if header.get(_TYP) != MEDIA_TYPES[cls]:
        raise SignatureError(SignatureReason.WRONG_TYPE, f"expected {MEDIA_TYPES[cls]}")
    kid = header.get(_KID)
    if not isinstance(kid, bytes):
        raise SignatureError(SignatureReason.UNKNOWN_KEY)
    return Sealed(kid, protected, payload, signature, to_be_signed(protected, payload))


def _unknown(sealed: Sealed) -> SignatureError:
    return SignatureError(SignatureReason.UNKNOWN_KEY, sealed.kid.hex()[:32])


def _open(
    cls: type[OrderT],
    sealed: Sealed,
    key: Verifier,
    decode: Callable[[type[OrderT], bytes], OrderT],
) -> OrderT:
    if sealed.protected != protected_header(sealed.kid, MEDIA_TYPES[cls]):
        raise SignatureError(SignatureReason.MALFORMED, "unexpected protected header")
    try:
        key.verify(sealed.signature, sealed.signed)
    except InvalidSignature:
        raise SignatureError(SignatureReason.BAD_SIGNATURE) from None
    try:
        return decode(cls, sealed.payload)
    except DecodeError as error:
        raise SignatureError(SignatureReason.MALFORMED, str(error)) from error


def seal(payload: bytes, *, media_type: str, key: Ed25519PrivateKey) -> bytes:
    """Return `payload`, already encoded, signed as `media_type`. Nothing is checked: `sign` is for orders."""
    protected = protected_header(key_id(key.public_key()), media_type)
    signature = key.sign(to_be_signed(protected, payload))
    return codec.dumps([protected, {}, payload, signature])


@functools.lru_cache(maxsize=64)
def protected_header(kid: bytes, media_type: str) -> bytes:
    """Return the one protected header an order of `media_type` by key `kid` may have."""
    return codec.dumps({_ALG: _EDDSA, _KID: kid, _TYP: media_type})


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure of RFC 9052 section 4.4, with empty external data."""
    return codec.dumps(["Signature1", protected, b"", payload])


def take_apart(message: bytes, *, size_limit: int) -> tuple[bytes, bytes, bytes]:
    """Return protected header, payload and signature of a COSE_Sign1 as we write it; raises `SignatureError`."""
    try:
        data = codec.loads(message, size_limit=size_limit, deterministic=True)
    except DecodeError as error:
        raise SignatureError(SignatureReason.MALFORMED, str(error)) from error
    match data:
        case [bytes() as protected, {**rest}, bytes() as payload, bytes() as signature] if not rest:
            return protected, payload, signature
    raise SignatureError(SignatureReason.MALFORMED, "not a COSE_Sign1 array")


def read_header(protected: bytes) -> dict[Any, Any]:
    """Return what a protected header says; raises `SignatureError`."""
    try:
        header = codec.loads(protected, size_limit=256, deterministic=True)
    except DecodeError as error:
        raise SignatureError(SignatureReason.MALFORMED, f"protected header: {error}") from error
    if not isinstance(header, dict):
        raise SignatureError(SignatureReason.MALFORMED, "protected header is not a map")
    return header
