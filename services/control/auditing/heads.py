"""Signed heads: how far the chain of the audit had come, in the platform's own hand, to be kept where nobody here can write.

A head is a COSE_Sign1 like everything the platform signs, of a type of its own. As a line of JSON it says the same once
more for people; only the message counts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas import codec, signing
from schemas.errors import DecodeError
from schemas.keys import SigningKey
from services.control.errors import ControlError
from services.control.planning.model import from_ms, to_ms

MEDIA_TYPE = "application/loa-audit-head+cbor"
_SIZE_LIMIT = 1024
_VERSION, _NUMBER, _HASH, _SIGNED_AT = 0, 1, 2, 3


class HeadError(ControlError):
    """What was given is no signed head of ours; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The chain had `number` links, the last with this hash, at this instant; signed by the key `kid`."""

    number: int
    hash: bytes
    signed_at: datetime
    kid: bytes
    message: bytes

    @property
    def facts(self) -> dict[str, object]:
        """The head for people, and the message."""
        return {
            "head": self.number,
            "hash": self.hash.hex(),
            "signed_at": self.signed_at.isoformat(),
            "key": self.kid.hex(),
            "message": base64.b64encode(self.message).decode(),
        }

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps(self.facts)


def sign(number: int, link_hash: bytes, key: Ed25519PrivateKey, *, now: datetime) -> Head:
    """Sign that the chain ends here now."""
    signed_at = from_ms(to_ms(now))
    payload = codec.dumps({_VERSION: 1, _NUMBER: number, _HASH: link_hash, _SIGNED_AT: to_ms(now)})
    return Head(
        number=number,
        hash=link_hash,
        signed_at=signed_at,
        kid=signing.key_id(key.public_key()),
        message=signing.seal(payload, media_type=MEDIA_TYPE, key=key),
    )


def opened(message: bytes, keys: Iterable[SigningKey]) -> Head:
    """Return what a head says, signed by one of these keys while it was valid; raises `HeadError`."""
    try:
        parts = codec.loads(message, size_limit=_SIZE_LIMIT, deterministic=True)
        match parts:
            case [bytes() as protected, {**rest}, bytes() as payload, bytes() as signature] if not rest:
                said = codec.loads(payload, size_limit=_SIZE_LIMIT, deterministic=True)
            case _:
                raise HeadError("not a COSE_Sign1 message")
    except DecodeError as error:
        raise HeadError(str(error)) from error
    match said:
        case {0: 1, 1: int() as number, 2: bytes() as link_hash, 3: int() as signed_at_ms} if len(said) == 4:
            pass
        case _:
            raise HeadError("not a head of an audit")
    for key in keys:
        if protected != signing.protected_header(key.kid, MEDIA_TYPE):
            continue
        try:
            public = Ed25519PublicKey.from_public_bytes(key.public_key)
            public.verify(signature, signing.to_be_signed(protected, payload))
        except InvalidSignature:
            raise HeadError(f"the signature over head {number} is not by key {key.kid.hex()}") from None
        if not key.not_before_ms <= signed_at_ms < key.not_after_ms:
            raise HeadError(f"head {number} was signed outside the window of key {key.kid.hex()}")
        return Head(number=number, hash=link_hash, signed_at=from_ms(signed_at_ms), kid=key.kid, message=message)
    raise HeadError(f"head {number} is not signed by a key of the key sets given")


def message_in(line: str) -> bytes:
    """The signed message in a line of JSON; raises `HeadError`."""
    try:
        return base64.b64decode(json.loads(line)["message"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise HeadError(f"no line that holds a head: {line[:80]!r}") from error
