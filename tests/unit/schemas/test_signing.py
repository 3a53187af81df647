"""Nothing that was not signed as what it claims to be, by a key the receiver trusts, is believed."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings

from schemas import codec, keys, signing, wire
from schemas.errors import SignatureError, SignatureReason
from schemas.orders import Order
from schemas.plans import Plan
from tests.support import strategies
from tests.support.vectors.downlinks import KEY_SET, orders, signed
from tests.support.vectors.world import DAY, FOREIGN_KEY, NEXT_PLATFORM_KEY, PLATFORM_KEY, ROOT_KEY, T

PLAN = orders()["plan_v1_day"]
SIGNED_PLAN = signed(PLAN)


def ring(*trusted: Ed25519PrivateKey) -> dict[bytes, Ed25519PublicKey]:
    return {signing.key_id(key.public_key()): key.public_key() for key in trusted}


RING = ring(PLATFORM_KEY)


def reason_of(message: bytes, cls: type[Order] = Plan) -> SignatureReason:
    with pytest.raises(SignatureError) as refusal:
        signing.verify(cls, message, RING)
    return refusal.value.reason


@pytest.mark.parametrize("cls", strategies.ORDERS)
def test_what_is_signed_is_believed(cls: type[Order]) -> None:
    @settings(max_examples=15)
    @given(strategies.messages(cls))
    def holds(order: Order) -> None:
        message = signing.sign(order, PLATFORM_KEY)
        assert signing.verify(cls, message, RING) == order
        assert signing.sign(order, PLATFORM_KEY) == message
        assert len(message) <= len(codec.encode(order)) + signing.OVERHEAD_BYTES

    holds()


# --- published examples ------------------------------------------------------------------------------------------------

# github.com/cose-wg/Examples, eddsa-examples/eddsa-sig-01.json: key, Sig_structure and signature of RFC 8152's authors.
EXAMPLE_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
EXAMPLE_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
EXAMPLE_MESSAGE = bytes.fromhex(
    "d28445a201270300a10442313154546869732069732074686520636f6e74656e742e58407142fd2ff96d56db85bee905a76ba1d0b7321a95c8"
    "c4d3607c5781932b7afb8711497dfa751bf40b58b3bcc32300b1487f3db34085eef013bf08f4a44d6fef0d"
)
EXAMPLE_SIG_STRUCTURE = bytes.fromhex(
    "846a5369676e61747572653145a2012703004054546869732069732074686520636f6e74656e742e"
)


def test_the_signed_structure_is_that_of_the_published_example() -> None:
    protected, _, payload, signature = cbor2.loads(EXAMPLE_MESSAGE).value
    assert signing.to_be_signed(protected, payload) == EXAMPLE_SIG_STRUCTURE
    key = Ed25519PrivateKey.from_private_bytes(EXAMPLE_SEED)
    assert key.sign(signing.to_be_signed(protected, payload)) == signature
    key.public_key().verify(signature, signing.to_be_signed(protected, payload))
    assert signing.key_id(key.public_key()) == keys.key_id(EXAMPLE_PUBLIC)


def test_our_header_is_the_published_one_with_our_labels() -> None:
    protected, *_ = cbor2.loads(EXAMPLE_MESSAGE).value
    example, ours = cbor2.loads(protected), cbor2.loads(signing.protected_header(bytes(8), "a/b"))
    assert example[1] == ours[1] == -8  # alg: EdDSA
    assert ours == {1: -8, 4: bytes(8), 16: "a/b"}


def test_the_published_example_is_no_order() -> None:
    keyring = {b"11": Ed25519PublicKey.from_public_bytes(EXAMPLE_PUBLIC)}
    with pytest.raises(SignatureError):
        signing.verify(Plan, EXAMPLE_MESSAGE, keyring)


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["command_v1_stop", "keys_v1_rotation", "plan_v1_empty", "alert_v1_cancel"])
def test_no_bit_can_be_flipped(name: str) -> None:
    order = orders()[name]
    message = signed(order)
    keyring = ring(PLATFORM_KEY, ROOT_KEY)
    assert signing.verify(type(order), message, keyring) == order
    for place in range(len(message)):
        for bit in range(8):
            flipped = bytearray(message)
            flipped[place] ^= 1 << bit
            with pytest.raises(SignatureError):
                signing.verify(type(order), bytes(flipped), keyring)


@pytest.mark.parametrize("length", [0, 1, 10, -64, -1])
def test_a_part_of_a_message_is_no_message(length: int) -> None:
    assert reason_of(SIGNED_PLAN[:length]) is SignatureReason.MALFORMED


@pytest.mark.parametrize("name", sorted(orders()))
@pytest.mark.parametrize("cls", strategies.ORDERS)
def test_an_order_is_believed_as_what_it_was_signed_as_only(cls: type[Order], name: str) -> None:
    order = orders()[name]
    message = signing.sign(order, PLATFORM_KEY)
    if cls is type(order):
        signing.verify(cls, message, RING)
    else:
        assert reason_of(message, cls) is SignatureReason.WRONG_TYPE


def test_a_payload_of_one_type_signed_as_another_is_read_as_the_other_or_refused() -> None:
    command = codec.encode(orders()["command_v1_stop"])
    message = signing.seal(command, media_type=signing.MEDIA_TYPES[Plan], key=PLATFORM_KEY)
    assert reason_of(message) is SignatureReason.MALFORMED


@pytest.mark.parametrize("keyring", [{}, ring(FOREIGN_KEY), ring(ROOT_KEY, NEXT_PLATFORM_KEY)])
def test_a_key_the_receiver_does_not_know_signs_nothing(keyring: dict[bytes, Ed25519PublicKey]) -> None:
    with pytest.raises(SignatureError) as refusal:
        signing.verify(Plan, SIGNED_PLAN, keyring)
    assert refusal.value.reason is SignatureReason.UNKNOWN_KEY


def test_a_known_key_s_id_does_not_help_a_foreign_key() -> None:
    kid = signing.key_id(PLATFORM_KEY.public_key())
    protected = signing.protected_header(kid, signing.MEDIA_TYPES[Plan])
    payload = codec.encode(PLAN)
    signature = FOREIGN_KEY.sign(signing.to_be_signed(protected, payload))
    assert reason_of(codec.dumps([protected, {}, payload, signature])) is SignatureReason.BAD_SIGNATURE


def with_header(header: Any, *, encoded: bytes | None = None) -> bytes:
    """Return the plan under another protected header, honestly signed by the platform's key."""
    protected = codec.dumps(header) if encoded is None else encoded
    payload = codec.encode(PLAN)
    signature = PLATFORM_KEY.sign(signing.to_be_signed(protected, payload))
    return codec.dumps([protected, {}, payload, signature])


KID = signing.key_id(PLATFORM_KEY.public_key())
TYP = signing.MEDIA_TYPES[Plan]
HEADER: dict[Any, Any] = {1: -8, 4: KID, 16: TYP}


def test_the_header_of_the_table_below_is_right_before_it_is_changed() -> None:
    assert signing.verify(Plan, with_header(HEADER), RING) == PLAN


@pytest.mark.parametrize(
    ("name", "header", "reason"),
    [
        ("no algorithm", {4: KID, 16: TYP}, SignatureReason.DOWNGRADED_ALGORITHM),
        ("ES256", {**HEADER, 1: -7}, SignatureReason.DOWNGRADED_ALGORITHM),
        ("HMAC, whose key would be the public key", {**HEADER, 1: 5}, SignatureReason.DOWNGRADED_ALGORITHM),
        ("none", {**HEADER, 1: 0}, SignatureReason.DOWNGRADED_ALGORITHM),
        ("null", {**HEADER, 1: None}, SignatureReason.DOWNGRADED_ALGORITHM),
        ("the algorithm's name", {**HEADER, 1: "EdDSA"}, SignatureReason.DOWNGRADED_ALGORITHM),
        ("Ed25519's newer number", {**HEADER, 1: -19}, SignatureReason.DOWNGRADED_ALGORITHM),
        ("the algorithm as a float", {**HEADER, 1: -8.0}, SignatureReason.MALFORMED),
        ("no type", {1: -8, 4: KID}, SignatureReason.WRONG_TYPE),
        ("another type", {**HEADER, 16: "application/loa-command+cbor"}, SignatureReason.WRONG_TYPE),
        ("the type in capitals", {**HEADER, 16: TYP.upper()}, SignatureReason.WRONG_TYPE),
        ("the type as bytes", {**HEADER, 16: TYP.encode()}, SignatureReason.WRONG_TYPE),
        ("no key id", {1: -8, 16: TYP}, SignatureReason.UNKNOWN_KEY),
        ("a key id as text", {**HEADER, 4: KID.hex()}, SignatureReason.UNKNOWN_KEY),
        ("a key id as an array", {**HEADER, 4: [KID]}, SignatureReason.UNKNOWN_KEY),
        ("a longer key id", {**HEADER, 4: KID + b"\0"}, SignatureReason.UNKNOWN_KEY),
        ("a critical header", {**HEADER, 2: [99], 99: 1}, SignatureReason.MALFORMED),
        ("any further header", {**HEADER, 3: 0}, SignatureReason.MALFORMED),
        ("an array", [1, -8], SignatureReason.MALFORMED),
        ("a number", 1, SignatureReason.MALFORMED),
        ("a header too large", {**HEADER, 99: bytes(300)}, SignatureReason.MALFORMED),
    ],
)
def test_a_protected_header_is_exactly_ours(name: str, header: Any, reason: SignatureReason) -> None:
    assert reason_of(with_header(header)) is reason


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xa0\x00",
        codec.dumps(HEADER) + b"\x00",
        cbor2.dumps({16: TYP, 4: KID, 1: -8}),
        b"\xbf" + codec.dumps(HEADER)[1:] + b"\xff",
        b"\xb8\x03" + codec.dumps(HEADER)[1:],
        b"\xc1" + codec.dumps(HEADER),
    ],
)
def test_a_protected_header_has_one_encoding(encoded: bytes) -> None:
    refused = with_header(None, encoded=encoded)
    assert reason_of(refused) in {SignatureReason.MALFORMED, SignatureReason.DOWNGRADED_ALGORITHM}


PROTECTED, _UNPROTECTED, PAYLOAD, SIGNATURE = cbor2.loads(SIGNED_PLAN)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unprotected header not empty", [PROTECTED, {4: KID}, PAYLOAD, SIGNATURE]),
        ("unprotected header with an algorithm", [PROTECTED, {1: -8}, PAYLOAD, SIGNATURE]),
        ("unprotected header missing", [PROTECTED, PAYLOAD, SIGNATURE]),
        ("unprotected header an array", [PROTECTED, [], PAYLOAD, SIGNATURE]),
        ("five parts", [PROTECTED, {}, PAYLOAD, SIGNATURE, b""]),
        ("detached payload", [PROTECTED, {}, None, SIGNATURE]),
        ("payload a map", [PROTECTED, {}, cbor2.loads(PAYLOAD), SIGNATURE]),
        ("protected header a map", [cbor2.loads(PROTECTED), {}, PAYLOAD, SIGNATURE]),
        ("signature a text", [PROTECTED, {}, PAYLOAD, "x" * 64]),
        ("a map", {0: PROTECTED}),
        ("a COSE_Sign", [PROTECTED, {}, PAYLOAD, [[PROTECTED, {}, SIGNATURE]]]),
        ("nothing signed", cbor2.loads(PAYLOAD)),
    ],
)
def test_a_message_is_four_parts(name: str, message: Any) -> None:
    assert reason_of(codec.dumps(message)) is SignatureReason.MALFORMED


@pytest.mark.parametrize("tag", [18, 98, 24, 55_799])
def test_a_tagged_message_is_refused(tag: int) -> None:
    assert reason_of(cbor2.dumps(cbor2.CBORTag(tag, cbor2.loads(SIGNED_PLAN)))) is SignatureReason.MALFORMED


@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    signature = (SIGNATURE * 2)[:length]
    assert reason_of(codec.dumps([PROTECTED, {}, PAYLOAD, signature])) is SignatureReason.BAD_SIGNATURE


def test_the_other_root_of_a_signature_is_refused() -> None:
    # Ed25519 without the check S < L has a second valid signature for every message (RFC 8032 section 5.1.7).
    order_of_the_group = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(SIGNATURE[32:], "little") + order_of_the_group
    malleated = SIGNATURE[:32] + s.to_bytes(32, "little")
    assert reason_of(codec.dumps([PROTECTED, {}, PAYLOAD, malleated])) is SignatureReason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "payload",
    [
        cbor2.dumps(dict(reversed(wire.to_wire(PLAN).items()))),
        PAYLOAD + b"\x00",
        PAYLOAD[:-1],
        b"",
        codec.dumps({**wire.to_wire(PLAN), 128: 0}),
        codec.dumps({**wire.to_wire(PLAN), 0: 2}),
    ],
)
def test_a_signature_does_not_make_a_bad_payload_good(payload: bytes) -> None:
    assert reason_of(signing.seal(payload, media_type=TYP, key=PLATFORM_KEY)) is SignatureReason.MALFORMED


@pytest.mark.parametrize("cls", strategies.ORDERS)
def test_a_signed_message_may_be_as_large_as_its_limit(cls: type[Order]) -> None:
    order = next(order for order in orders().values() if type(order) is cls)
    room = cls.SIZE_LIMIT - len(codec.encode(order)) - 2 - 5
    fits = codec.dumps({**wire.to_wire(order), 127: bytes(room)})
    media_type = signing.MEDIA_TYPES[cls]
    assert cls.SIZE_LIMIT - 4 <= len(fits) <= cls.SIZE_LIMIT
    assert signing.verify(cls, signing.seal(fits, media_type=media_type, key=PLATFORM_KEY), RING) == order
    too_large = codec.dumps({**wire.to_wire(order), 127: bytes(room + 5)})
    assert reason_of(signing.seal(too_large, media_type=media_type, key=PLATFORM_KEY), cls) is SignatureReason.MALFORMED


# --- key sets ----------------------------------------------------------------------------------------------------------


def issued(at_ms: int) -> Order:
    return PLAN.model_copy(update={"issued_at_ms": at_ms})


@pytest.mark.parametrize(
    ("key", "at_ms", "is_believed"),
    [
        (PLATFORM_KEY, T - 100 * DAY, True),
        (PLATFORM_KEY, T - 100 * DAY - 1, False),
        (PLATFORM_KEY, T + 265 * DAY - 1, True),
        (PLATFORM_KEY, T + 265 * DAY, False),
        (NEXT_PLATFORM_KEY, T, False),
        (NEXT_PLATFORM_KEY, T + 200 * DAY, True),
        (FOREIGN_KEY, T, False),
        (ROOT_KEY, T, False),
    ],
)
def test_a_key_signs_what_is_issued_inside_its_window(key: Ed25519PrivateKey, at_ms: int, is_believed: bool) -> None:
    order = issued(at_ms)
    message = signing.sign(order, key)
    if is_believed:
        assert signing.verify_under(Plan, message, KEY_SET) == order
    else:
        with pytest.raises(SignatureError) as refusal:
            signing.verify_under(Plan, message, KEY_SET)
        assert refusal.value.reason is SignatureReason.UNKNOWN_KEY
