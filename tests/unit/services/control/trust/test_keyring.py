from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from schemas import signing
from schemas.plans import Plan
from services.control.planning.model import to_ms
from services.control.trust.keyring import KeyringError, load_keyring, parse_key_set
from tests.support.control import a_keyring
from tests.support.planning import local

NOW = local("2026-09-07 05:30")


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def files(tmp_path: Path, key: bytes, keys: bytes) -> tuple[Path, Path]:
    (tmp_path / "platform.key").write_bytes(key)
    (tmp_path / "keys.cose").write_bytes(keys)
    return tmp_path / "platform.key", tmp_path / "keys.cose"


def test_a_keyring_signs_what_devices_believe(tmp_path: Path) -> None:
    root = ed25519.Ed25519PrivateKey.generate()
    made = a_keyring(root)

    loaded = load_keyring(*files(tmp_path, pem(made.private_key), made.announced.message))

    assert loaded.announced == made.announced
    assert loaded.announced.root_kid == signing.key_id(root.public_key())
    order = Plan(
        device="loa-0001",
        serial=1,
        issued_at_ms=to_ms(NOW),
        valid_from_ms=to_ms(NOW),
        valid_until_ms=to_ms(NOW) + 1,
    )
    keyring = {loaded.kid: made.private_key.public_key()}
    assert signing.verify(Plan, loaded.sign(order), keyring) == order


@pytest.mark.parametrize(
    ("key", "keys", "words"),
    [
        pytest.param(b"nonsense", None, "platform.key", id="no_key"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256R1())), None, "Ed25519", id="another_kind_of_key"),
        pytest.param(
            pem(ed25519.Ed25519PrivateKey.generate()), None, "does not announce", id="a_key_nobody_was_told_of"
        ),
        pytest.param(None, b"", "keys.cose", id="empty_set"),
        pytest.param(None, b"\x84\x40\xa0\x40\x40", "keys.cose", id="an_array_of_nothing"),
        pytest.param(None, b"\x83\x40\xa0\x40", "COSE_Sign1", id="not_a_signed_message"),
    ],
)
def test_unfit_files_are_named(tmp_path: Path, key: bytes | None, keys: bytes | None, words: str) -> None:
    made = a_keyring()
    with pytest.raises(KeyringError, match=words):
        load_keyring(
            *files(
                tmp_path,
                pem(made.private_key) if key is None else key,
                made.announced.message if keys is None else keys,
            )
        )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match=r"keys\.cose"):
        load_keyring(tmp_path / "platform.key", tmp_path / "keys.cose")


def test_a_plan_is_no_key_set() -> None:
    made = a_keyring()
    plan = Plan(device="loa-0001", serial=1, issued_at_ms=0, valid_from_ms=0, valid_until_ms=1)
    with pytest.raises(KeyringError):
        parse_key_set(made.sign(plan), source="test")


@pytest.mark.parametrize(
    ("is_encrypted", "passphrase", "words"),
    [
        (True, "the right one", None),
        (False, None, None),
        (True, None, "is encrypted: CONTROL_SIGNING__KEY_PASSPHRASE_FILE has to name"),
        (True, "another one", "is CONTROL_SIGNING__KEY_PASSPHRASE the one"),
        (False, "the right one", "is not encrypted, although"),
    ],
)
def test_an_encrypted_key_opens_with_its_passphrase_only(
    tmp_path: Path, is_encrypted: bool, passphrase: str | None, words: str | None
) -> None:
    made = a_keyring()
    how = BestAvailableEncryption(b"the right one") if is_encrypted else NoEncryption()
    key = made.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
    paths = files(tmp_path, key, made.announced.message)
    if words is None:
        assert load_keyring(*paths, passphrase).kid == made.kid
        return
    with pytest.raises(KeyringError, match=words) as refused:
        load_keyring(*paths, passphrase)
    assert "right one" not in str(refused.value)
