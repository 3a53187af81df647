"""Platform signing keys, announced to devices under the root key they were provisioned with."""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.fields import Instant, Serial
from schemas.orders import Order
from schemas.shapes import Key, Record

KeyId = Annotated[bytes, Field(min_length=8, max_length=8)]


def key_id(public_key: bytes) -> bytes:
    """Return the id of a raw Ed25519 public key: the first 8 bytes of its SHA-256."""
    return hashlib.sha256(public_key).digest()[:8]


class SigningKey(Record):
    """An Ed25519 public key and the half-open window in which orders it signed may have been issued.

    `kid` is the first 8 bytes of the SHA-256 of `public_key`, so that no set can give one key the name of another.
    """

    kid: Annotated[KeyId, Key(0)]
    public_key: Annotated[bytes, Key(1), Field(min_length=32, max_length=32)]
    not_before_ms: Annotated[Instant, Key(2)]
    not_after_ms: Annotated[Instant, Key(3)]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.kid != key_id(self.public_key):
            raise ValueError("kid is not the first 8 bytes of SHA-256 over public_key")
        if self.not_after_ms <= self.not_before_ms:
            raise ValueError("not_after_ms must lie after not_before_ms")
        return self


class KeySet(Order):
    """All keys a device may believe from now on, signed by the root key; replaces the earlier set as a whole.

    A set without a key of the earlier one says that it was stolen. Then the device forgets what that key signed, and with
    it the serials, versions of alerts and times it knows only from there: a thief's last word would be the highest there is.
    """

    SIZE_LIMIT: ClassVar[int] = limits.KEYS_BYTES

    serial: Annotated[Serial, Key(2)]
    keys: Annotated[tuple[SigningKey, ...], Key(10), Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _each_key_stands_once(self) -> Self:
        if len({key.kid for key in self.keys}) != len(self.keys):
            raise ValueError("two keys share a kid")
        return self
