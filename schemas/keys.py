"""Platform signing keys, announced to devices under the root key they were provisioned with."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas import limits
from schemas.fields import Instant, Serial
from schemas.orders import Order
from schemas.wire import Key, Record

KeyId = Annotated[bytes, Field(min_length=8, max_length=8)]


class SigningKey(Record):
    """An Ed25519 public key and the half-open window in which orders it signed may have been issued."""

    kid: Annotated[KeyId, Key(0)]
    public_key: Annotated[bytes, Key(1), Field(min_length=32, max_length=32)]
    not_before_ms: Annotated[Instant, Key(2)]
    not_after_ms: Annotated[Instant, Key(3)]


class KeySet(Order):
    """All keys a device may believe from now on, signed by the root key; replaces the earlier set as a whole."""

    SIZE_LIMIT: ClassVar[int] = limits.KEYS_BYTES

    serial: Annotated[Serial, Key(2)]
    keys: Annotated[tuple[SigningKey, ...], Key(10), Field(max_length=16)] = ()
