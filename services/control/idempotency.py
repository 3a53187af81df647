"""The same request sent twice because its answer was lost: it is carried out once and answered twice alike.

The client names what it asks for with a key of its own (`Idempotency-Key`, as drafted by the IETF's HTTP API working
group). The key is remembered in the transaction that carries the request out, so there is never one without the other;
two at once wait for each other. What was refused is not remembered: nothing was done, and it may be sent again, mended,
under the same key.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.control import idempotency_store
from services.control.errors import Fault, Invalid
from services.control.idempotency_store import Given
from services.shared.database.pool import Connection

# A client that has had no answer for two days asks a person.
KEPT = timedelta(hours=48)
# Each request that brings a key drops some that are older: more than it adds, so they never pile up.
_DROPPED_AT_ONCE = 10
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A client's name for a request, and a digest of what it asks for."""

    account_id: uuid.UUID
    key: str
    digest: bytes


def key_of(header: str, *, account_id: uuid.UUID, operation: str, body: Any) -> Key:
    """The key that a request brings, with or without the quotes of a structured field. Raises `Invalid`."""
    text = header.strip()
    text = text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text
    if not _KEY.fullmatch(text):
        raise Invalid(Fault("Idempotency-Key", "bad_idempotency_key"))
    asked = json.dumps([operation, body], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Key(account_id=account_id, key=text, digest=hashlib.sha256(asked.encode()).digest())


async def answered(connection: Connection, key: Key, *, now: datetime) -> Any | None:
    """What was answered to this very request before; None: it was not carried out."""
    found = await idempotency_store.given(connection, key.account_id, key.key, since=now - KEPT)
    return found.answer if found is not None and found.digest == key.digest else None


async def once(
    connection: Connection, key: Key, carry_out: Callable[[], Awaitable[Any]], *, now: datetime
) -> tuple[Any, bool]:
    """Carry the request out, or find what was answered before; the answer, and whether it is the one of before.

    Raises `Invalid` when the key was used for something else.
    """
    await idempotency_store.lock(connection, key.account_id, key.key)
    found = await idempotency_store.given(connection, key.account_id, key.key, since=now - KEPT)
    if found is not None:
        if found.digest != key.digest:
            raise Invalid(Fault("Idempotency-Key", "idempotency_key_reused"), code="idempotency_key_reused")
        return found.answer, True
    answer = await carry_out()
    await idempotency_store.remember(
        connection, key.account_id, key.key, Given(digest=key.digest, answer=answer), at=now
    )
    await idempotency_store.forget(connection, before=now - KEPT, at_most=_DROPPED_AT_ONCE)
    return answer, False
