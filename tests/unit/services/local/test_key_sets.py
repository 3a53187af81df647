"""Which platform keys devices are told to believe, as keys are renewed, replaced and stolen."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas import signing
from schemas.configuration import Configuration
from schemas.errors import SignatureError
from schemas.identifiers import DeviceId
from schemas.keys import KeySet
from services.local import key_sets, pki
from services.local.pki import Pki, PkiDamaged

NOW = datetime(2026, 5, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


def ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


@pytest.fixture
def authority(tmp_path: Path) -> Pki:
    return pki.prepare(tmp_path / "authority", now=NOW)


def read(authority: Pki, message: bytes) -> KeySet:
    root = Ed25519PublicKey.from_public_bytes(key_sets.root_public_key(authority))
    return signing.verify(KeySet, message, {signing.key_id(root): root})


def an_order(authority: Pki, *, at: datetime) -> bytes:
    key = serialization.load_pem_private_key(authority.platform_signing_key.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    order = Configuration(
        issued_at_ms=ms(at),
        valid_from_ms=ms(at),
        valid_until_ms=ms(at + YEAR),
        device=DeviceId.parse("loa-0001"),
        serial=1,
        volume_percent=60,
        volume_cap_percent=80,
        heartbeat_interval_s=60,
    )
    return signing.sign(order, key)


def believes(key_set: KeySet, order: bytes) -> bool:
    try:
        signing.verify_under(Configuration, order, key_set)
    except SignatureError:
        return False
    return True


def test_set_lets_devices_believe_the_platform_key(authority: Pki) -> None:
    key_set = read(authority, key_sets.current(authority, now=NOW))

    assert believes(key_set, an_order(authority, at=NOW))


def test_set_stays_the_same_until_half_of_its_life_is_over(authority: Pki) -> None:
    first = key_sets.current(authority, now=NOW)

    assert key_sets.current(authority, now=NOW + key_sets.VALIDITY / 2) == first


def test_renewed_set_is_newer_and_still_believes_what_was_signed_before(authority: Pki) -> None:
    first = read(authority, key_sets.current(authority, now=NOW))
    order = an_order(authority, at=NOW)

    later = NOW + key_sets.VALIDITY / 2 + timedelta(seconds=1)
    renewed = read(authority, key_sets.current(authority, now=later))

    assert renewed.serial == first.serial + 1
    assert believes(renewed, order)
    assert believes(renewed, an_order(authority, at=later))


def test_replaced_key_is_believed_for_what_it_signed_and_no_longer_for_new_orders(authority: Pki) -> None:
    key_sets.current(authority, now=NOW)
    before = an_order(authority, at=NOW)
    after = an_order(authority, at=NOW + key_sets.OVERLAP)

    key_sets.replace(authority, distrust=False, now=NOW)
    key_set = read(authority, key_sets.current(authority, now=NOW))

    assert believes(key_set, before)
    assert not believes(key_set, after)
    assert believes(key_set, an_order(authority, at=NOW + key_sets.OVERLAP))


def test_stolen_key_is_believed_for_nothing(authority: Pki) -> None:
    first = read(authority, key_sets.current(authority, now=NOW))
    order = an_order(authority, at=NOW)

    key_sets.replace(authority, distrust=True, now=NOW)
    key_set = read(authority, key_sets.current(authority, now=NOW))

    assert not believes(key_set, order)
    assert key_set.serial == first.serial + 1


def test_key_lost_from_the_folder_is_announced_anew(authority: Pki) -> None:
    first = read(authority, key_sets.current(authority, now=NOW))
    authority.platform_signing_key.unlink()
    pki.prepare(authority.directory, now=NOW)

    second = read(authority, key_sets.current(authority, now=NOW))

    assert {key.kid for key in first.keys} < {key.kid for key in second.keys}
    assert believes(second, an_order(authority, at=NOW))


def test_many_replacements_never_make_a_set_too_large(authority: Pki) -> None:
    for days in range(20):
        key_sets.replace(authority, distrust=False, now=NOW + timedelta(days=days))

    assert len(read(authority, key_sets.current(authority, now=NOW + timedelta(days=20))).keys) == key_sets.CAPACITY


def test_set_of_another_root_is_not_overwritten(authority: Pki) -> None:
    key_sets.current(authority, now=NOW)
    authority.root_signing_key.unlink()
    pki.prepare(authority.directory, now=NOW)

    with pytest.raises(PkiDamaged, match=r"keys\.cose was not signed by .*root\.key; restore both"):
        key_sets.current(authority, now=NOW)
