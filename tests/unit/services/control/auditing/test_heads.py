"""Signed heads: believed under keys that are given, in their time, and not otherwise."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import codec, signing
from schemas.keys import SigningKey, key_id
from services.control.auditing import heads
from services.control.auditing.heads import MEDIA_TYPE, HeadError
from services.control.planning.model import to_ms

NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)
HASH = bytes(range(32))


def announced(private: Ed25519PrivateKey, *, until: datetime = NOW + timedelta(days=1)) -> SigningKey:
    raw = private.public_key().public_bytes_raw()
    return SigningKey(
        kid=key_id(raw), public_key=raw, not_before_ms=to_ms(NOW - timedelta(days=1)), not_after_ms=to_ms(until)
    )


def test_a_head_says_what_was_signed_also_as_a_line() -> None:
    private = Ed25519PrivateKey.generate()
    made = heads.sign(4711, HASH, private, now=NOW)
    assert heads.opened(heads.message_in(made.as_line()), [announced(private)]) == made
    line = json.loads(made.as_line())
    assert (line["head"], line["hash"], line["key"]) == (4711, HASH.hex(), made.kid.hex())


def test_only_the_message_counts_not_what_stands_beside_it() -> None:
    private = Ed25519PrivateKey.generate()
    line = json.loads(heads.sign(4711, HASH, private, now=NOW).as_line()) | {"head": 1, "hash": "00"}
    assert heads.opened(heads.message_in(json.dumps(line)), [announced(private)]).number == 4711


def test_a_head_by_somebody_else_altered_or_out_of_its_key_s_time_is_refused() -> None:
    private, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    made = heads.sign(4711, HASH, private, now=NOW)
    with pytest.raises(HeadError, match="not signed by a key of the key sets"):
        heads.opened(made.message, [announced(other)])
    impostor = announced(other).model_copy(update={"kid": made.kid})
    with pytest.raises(HeadError, match="signature"):
        heads.opened(made.message, [impostor])
    altered = made.message.replace(HASH, bytes(32))
    with pytest.raises(HeadError, match="signature"):
        heads.opened(altered, [announced(private)])
    with pytest.raises(HeadError, match="window"):
        heads.opened(made.message, [announced(private, until=NOW)])


def test_what_was_signed_as_something_else_is_no_head() -> None:
    private = Ed25519PrivateKey.generate()
    payload = codec.dumps({0: 1, 1: 5, 2: HASH, 3: to_ms(NOW)})
    plan = signing.seal(payload, media_type="application/loa-plan+cbor", key=private)
    with pytest.raises(HeadError, match="not signed"):
        heads.opened(plan, [announced(private)])
    shapeless = signing.seal(codec.dumps({0: 1, 1: "5", 2: HASH, 3: 0}), media_type=MEDIA_TYPE, key=private)
    for message in (shapeless, b"", b"\x00", codec.dumps([b"", {}, b"\xff", b""]), codec.dumps([1, 2, 3])):
        with pytest.raises(HeadError):
            heads.opened(message, [announced(private)])


@pytest.mark.parametrize("line", ["", "nothing", "[]", "{}", '{"message": 5}', '{"message": "%%"}'])
def test_a_line_without_a_message_is_refused(line: str) -> None:
    with pytest.raises(HeadError):
        heads.message_in(line)


def test_the_message_is_what_every_other_order_is() -> None:
    made = heads.sign(1, HASH, Ed25519PrivateKey.generate(), now=NOW)
    parts = codec.loads(made.message, size_limit=1024, deterministic=True)
    assert isinstance(parts, list)
    assert len(parts) == 4
    assert base64.b64decode(str(made.facts["message"])) == made.message
