"""What devices sign: one encoding, the device and the kind inside the signature, everything else refused by name."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, device_signing
from schemas.errors import EncodeError, SignatureError, SignatureReason
from schemas.fields import ClockState
from schemas.identifiers import DeviceId
from schemas.readings import Reading, Sample
from schemas.signing import to_be_signed

ME, OTHER = DeviceId("tram-do-01"), DeviceId("tram-do-02")
KEY = ec.derive_private_key(7, ec.SECP256R1())
FOREIGN = ec.derive_private_key(8, ec.SECP256R1())
TYP = device_signing.MEDIA_TYPES[Reading]
KID = device_signing.key_id(KEY.public_key())
READING = Reading(
    device_at_ms=1_763_589_600_000,
    clock=ClockState.SYNCHRONISED,
    samples=(Sample(quantity="water_level", value=4.5, unit="m"),),
)
PAYLOAD = codec.encode(READING)
SIGNED = device_signing.sign(READING, ME, KEY)
HEADER = {1: -7, 4: KID, 15: {2: ME}, 16: TYP}


def opened(message: bytes, *, device: str = ME, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    sealed = device_signing.unseal(device_signing.READING, message, device)
    sealed.verify(key.public_key())
    return sealed.payload


def reason_of(message: bytes, **who: Any) -> SignatureReason:
    with pytest.raises(SignatureError) as refusal:
        opened(message, **who)
    return refusal.value.reason


def with_header(header: Any, *, encoded: bytes | None = None) -> bytes:
    """Signed rightly by the device's own key, under another protected header."""
    protected = codec.dumps(header) if encoded is None else encoded
    r, s = decode_dss_signature(KEY.sign(to_be_signed(protected, PAYLOAD), ec.ECDSA(hashes.SHA256())))
    return codec.dumps([protected, {}, PAYLOAD, r.to_bytes(32, "big") + s.to_bytes(32, "big")])


def test_what_was_signed_is_read_and_costs_little() -> None:
    assert opened(SIGNED) == PAYLOAD
    assert device_signing.is_signed(SIGNED)
    assert not device_signing.is_signed(PAYLOAD)
    assert not device_signing.is_signed(b"")
    assert len(SIGNED) - len(PAYLOAD) < 150
    assert opened(with_header(HEADER)) == PAYLOAD  # what the other cases differ from


def test_signing_again_gives_the_same_bytes() -> None:
    assert device_signing.sign(READING, ME, KEY) == SIGNED


def test_nobody_else_s_word_and_nobody_else_s_key() -> None:
    assert reason_of(SIGNED, device=OTHER) is SignatureReason.FOREIGN_DEVICE
    assert reason_of(SIGNED, key=FOREIGN) is SignatureReason.BAD_SIGNATURE
    forged = device_signing.sign(READING, ME, FOREIGN)
    assert device_signing.unseal(device_signing.READING, forged, ME).kid != KID


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param({**HEADER, 1: -8}, SignatureReason.DOWNGRADED_ALGORITHM, id="the_platform_s_algorithm"),
        pytest.param({**HEADER, 1: 5}, SignatureReason.DOWNGRADED_ALGORITHM, id="hmac_by_the_public_key"),
        pytest.param({**HEADER, 1: 0}, SignatureReason.DOWNGRADED_ALGORITHM, id="none"),
        pytest.param({**HEADER, 1: "ES256"}, SignatureReason.DOWNGRADED_ALGORITHM, id="its_name"),
        pytest.param({**HEADER, 1: -7.0}, SignatureReason.MALFORMED, id="as_a_float"),
        pytest.param({4: KID, 15: {2: ME}, 16: TYP}, SignatureReason.DOWNGRADED_ALGORITHM, id="no_algorithm"),
        pytest.param({**HEADER, 16: "application/loa-event+cbor"}, SignatureReason.WRONG_TYPE, id="another_kind"),
        pytest.param({**HEADER, 16: "application/loa-plan+cbor"}, SignatureReason.WRONG_TYPE, id="an_order"),
        pytest.param({1: -7, 4: KID, 15: {2: ME}}, SignatureReason.WRONG_TYPE, id="no_kind"),
        pytest.param({**HEADER, 15: {2: OTHER}}, SignatureReason.FOREIGN_DEVICE, id="another_device"),
        pytest.param({**HEADER, 15: {}}, SignatureReason.FOREIGN_DEVICE, id="no_device"),
        pytest.param({**HEADER, 15: ME}, SignatureReason.FOREIGN_DEVICE, id="a_device_without_claims"),
        pytest.param({**HEADER, 15: {2: ME, 1: "x"}}, SignatureReason.MALFORMED, id="more_claims"),
        pytest.param({1: -7, 15: {2: ME}, 16: TYP}, SignatureReason.UNKNOWN_KEY, id="no_key_id"),
        pytest.param({**HEADER, 4: KID[:7]}, SignatureReason.UNKNOWN_KEY, id="a_short_key_id"),
        pytest.param({**HEADER, 2: [99], 99: 0}, SignatureReason.MALFORMED, id="a_critical_header"),
        pytest.param([HEADER], SignatureReason.MALFORMED, id="no_map"),
    ],
)
def test_a_header_that_says_anything_else_is_refused_although_the_signature_is_right(
    header: Any, reason: SignatureReason
) -> None:
    assert reason_of(with_header(header)) is reason


def test_only_deterministic_encoding_is_signed() -> None:
    protected, _, payload, signature = cbor2.loads(SIGNED)
    assert reason_of(b"\x98\x04" + SIGNED[1:]) is SignatureReason.MALFORMED  # a longer head than it needs
    assert reason_of(b"\xd2" + SIGNED) is SignatureReason.MALFORMED  # tagged
    assert reason_of(SIGNED + b"\0") is SignatureReason.MALFORMED
    backwards = cbor2.dumps(dict(reversed(HEADER.items())))
    assert reason_of(with_header(None, encoded=backwards)) is SignatureReason.MALFORMED
    assert reason_of(codec.dumps([protected, {4: KID}, payload, signature])) is SignatureReason.MALFORMED
    assert reason_of(codec.dumps([protected, {}, None, signature])) is SignatureReason.MALFORMED
    assert reason_of(codec.dumps([protected, {}, payload])) is SignatureReason.MALFORMED


@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65)])
def test_a_signature_that_is_none_is_refused(signature: bytes) -> None:
    protected, _, payload, _ = cbor2.loads(SIGNED)
    assert reason_of(codec.dumps([protected, {}, payload, signature])) is SignatureReason.BAD_SIGNATURE


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_byte_of_it_can_be_another(place: int, damage: int) -> None:
    mangled = bytearray(SIGNED)
    mangled[place] ^= damage
    with pytest.raises(SignatureError):
        opened(bytes(mangled))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read_and_nothing_else_happens(message: bytes) -> None:
    with pytest.raises(SignatureError):
        opened(message)


def test_what_does_not_fit_with_its_signature_is_not_sent() -> None:
    samples = (Sample(quantity="q" * 32, value=1.1, unit="u" * 24, at_ms=1_763_589_600_000),) * 32
    many = READING.model_copy(update={"samples": samples})
    assert len(device_signing.sign(many, ME, KEY)) <= Reading.SIZE_LIMIT  # the largest there is
    long_name = DeviceId("x" * 48)
    assert len(device_signing.sign(many, long_name, KEY)) <= Reading.SIZE_LIMIT


def test_a_message_that_is_too_large_is_refused_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reading, "SIZE_LIMIT", len(PAYLOAD) + 10)
    with pytest.raises(EncodeError, match="when signed"):
        device_signing.sign(READING, ME, KEY)
