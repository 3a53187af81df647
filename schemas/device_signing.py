"""COSE_Sign1 (RFC 9052 section 4.2) with ES256 (RFC 9053 section 2.1), as a device signs what it says.

The untagged array [protected, unprotected, payload, signature], in the place of the plain payload and on the same topic.
Protected header: 1 (alg) = -7 (ES256), 4 (kid) = first 8 bytes of SHA-256 over the key's SubjectPublicKeyInfo (DER), 15
(CWT claims, RFC 9597) = {2 (sub): the device's id}, 16 (typ, RFC 9596) = media type of the payload; unprotected header
empty. The key is the one in the device's certificate (P-256). Device, kind and, inside the payload, the device's own time
are signed, so that what was said is nobody else's, nothing else, and not said at another time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas import codec, limits
from schemas.errors import EncodeError, SignatureError, SignatureReason
from schemas.events import EVENTS
from schemas.identifiers import DeviceId
from schemas.readings import Reading
from schemas.shapes import Message
from schemas.signing import read_header, take_apart, to_be_signed

READING = "application/loa-reading+cbor"  # in the place of the payload
EVENT = "application/loa-event+cbor"  # in the place of the body inside an envelope, which stays as it is
MEDIA_TYPES: Mapping[type[Message], str] = {Reading: READING, **dict.fromkeys(EVENTS.values(), EVENT)}

KEY_ID_BYTES = 8

_ALG, _KID, _CLAIMS, _TYP = 1, 4, 15, 16
_SUBJECT = 2
_ES256 = -7
_ECDSA = ec.ECDSA(hashes.SHA256())
_DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)  # RFC 6979: no bad dice can give the key away
_COORDINATE_BYTES = 32
_ARRAY = 4  # major type


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the 8-byte id by which a signature names its key."""
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()[:KEY_ID_BYTES]


def is_signed(payload: bytes) -> bool:
    """Whether a payload claims to be signed: an array, where what is not signed is a map."""
    return payload[:1] != b"" and payload[0] >> 5 == _ARRAY


def sign(message: Message, device: DeviceId, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return `message` as signed by `device`; raises `EncodeError` when it is too large for its kind, signature included."""
    signed = seal(codec.encode(message), device=device, media_type=MEDIA_TYPES[type(message)], key=key)
    if len(signed) > message.SIZE_LIMIT:
        raise EncodeError(f"{type(message).__name__} of {len(signed)} bytes when signed, limit {message.SIZE_LIMIT}")
    return signed


def seal(payload: bytes, *, device: str, media_type: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return `payload`, already encoded, signed as `media_type` by `device`. Nothing is checked: `sign` is for messages."""
    protected = protected_header(key_id(key.public_key()), device, media_type)
    r, s = decode_dss_signature(key.sign(to_be_signed(protected, payload), _DETERMINISTIC))
    signature = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
    return codec.dumps([protected, {}, payload, signature])


@functools.lru_cache(maxsize=1_024)
def protected_header(kid: bytes, device: str, media_type: str) -> bytes:
    """Return the one protected header that a message of `media_type` by `device` with key `kid` may have."""
    return codec.dumps({_ALG: _ES256, _KID: kid, _CLAIMS: {_SUBJECT: device}, _TYP: media_type})


@dataclass(frozen=True, slots=True)
class Sealed:
    """A message taken apart that claims to be signed by the device it names; nothing of it is believed yet."""

    kid: bytes
    payload: bytes
    _signature: bytes
    _signed: bytes

    def verify(self, key: ec.EllipticCurvePublicKey) -> None:
        """Raise `SignatureError` unless the holder of `key` signed it. What it says is decoded, strictly, afterwards."""
        r, s = self._signature[:_COORDINATE_BYTES], self._signature[_COORDINATE_BYTES:]
        try:
            key.verify(encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")), self._signed, _ECDSA)
        except InvalidSignature:
            raise SignatureError(SignatureReason.BAD_SIGNATURE) from None


def unseal(media_type: str, message: bytes, device: str) -> Sealed:
    """Take apart what should be of `media_type` and signed by `device`. Raises `SignatureError`, by nothing but the bytes."""
    protected, payload, signature = take_apart(message, size_limit=limits.UPLINK_BYTES)
    kid = _judged(read_header(protected), media_type, device)
    if protected != protected_header(kid, device, media_type):
        raise SignatureError(SignatureReason.MALFORMED, "unexpected protected header")
    if len(signature) != 2 * _COORDINATE_BYTES:
        raise SignatureError(SignatureReason.BAD_SIGNATURE, f"{len(signature)} bytes")
    return Sealed(kid, payload, signature, to_be_signed(protected, payload))


def _judged(header: dict[Any, Any], media_type: str, device: str) -> bytes:
    """The key id. Each check only picks the reason: an exact comparison follows."""
    if header.get(_ALG) != _ES256:
        raise SignatureError(SignatureReason.DOWNGRADED_ALGORITHM, f"algorithm {header.get(_ALG)!r}"[:80])
    if header.get(_TYP) != media_type:
        raise SignatureError(SignatureReason.WRONG_TYPE, f"expected {media_type}")
    claims = header.get(_CLAIMS)
    subject = claims.get(_SUBJECT) if isinstance(claims, dict) else None
    if subject != device:
        raise SignatureError(SignatureReason.FOREIGN_DEVICE, f"signed by {subject!r}"[:80])
    kid = header.get(_KID)
    if not isinstance(kid, bytes) or len(kid) != KEY_ID_BYTES:
        raise SignatureError(SignatureReason.UNKNOWN_KEY, f"key ids have {KEY_ID_BYTES} bytes")
    return kid
