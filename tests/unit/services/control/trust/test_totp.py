"""One-time codes against the vectors of RFC 6238 and RFC 4226, and secrets that only their key and owner open."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from services.control.trust import totp
from services.control.trust.secret_box import SecretBox, SecretNotReadable, load_box

SECRET = b"12345678901234567890"
OLD, NEW = bytes(32), bytes([1] * 32)


def instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_111_111_111, "14050471"),
        (1_234_567_890, "89005924"),
        (2_000_000_000, "69279037"),
        (20_000_000_000, "65353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    assert totp.code_at(SECRET, totp.step_at(instant(seconds)), digits=8) == code
    assert totp.step_of(SECRET, code[2:], now=instant(seconds)) == seconds // 30


def test_codes_are_those_of_rfc_4226() -> None:
    expected = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [totp.code_at(SECRET, step) for step in range(10)] == expected


@pytest.mark.parametrize(("aside", "counts"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_code_of_the_step_before_or_after_counts(aside: int, counts: bool) -> None:
    now = instant(1_234_567_890)
    step = totp.step_at(now) + aside
    assert totp.step_of(SECRET, totp.code_at(SECRET, step), now=now) == (step if counts else None)


@pytest.mark.parametrize("given", ["", "28708", "2870822", "٢٨٧٠٨٢", "28708x", "-28708", "²87082", "\0" * 6])
def test_what_is_no_code_counts_for_nothing(given: str) -> None:
    assert totp.step_of(SECRET, given, now=instant(45)) is None


def test_a_code_may_be_typed_in_groups() -> None:
    assert totp.step_of(SECRET, " 287 082 ", now=instant(59)) == 1


def test_the_address_says_all_an_app_needs() -> None:
    parts = urlsplit(totp.address(SECRET, login="lê&văn/a", issuer="Loa"))
    assert (parts.scheme, parts.netloc, unquote(parts.path)) == ("otpauth", "totp", "/Loa:lê&văn/a")
    facts = parse_qs(parts.query)
    assert base64.b32decode(facts["secret"][0]) == SECRET
    assert (facts["algorithm"], facts["digits"], facts["period"], facts["issuer"]) == (["SHA1"], ["6"], ["30"], ["Loa"])


def test_a_sealed_secret_opens_for_its_owner_only() -> None:
    box = SecretBox([NEW])
    sealed = box.seal(SECRET, owner=b"a")
    assert SECRET not in sealed
    assert sealed != box.seal(SECRET, owner=b"a")
    assert box.open(sealed, owner=b"a") == SECRET
    with pytest.raises(SecretNotReadable):
        box.open(sealed, owner=b"b")


def test_every_changed_byte_and_every_cut_is_found() -> None:
    box = SecretBox([NEW])
    sealed = box.seal(SECRET, owner=b"a")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for each in [*changed, *(sealed[:end] for end in range(len(sealed)))]:
        with pytest.raises(SecretNotReadable):
            box.open(each, owner=b"a")


def test_a_new_key_is_put_before_the_old_one(tmp_path: Path) -> None:
    sealed = SecretBox([OLD]).seal(SECRET, owner=b"a")
    path = tmp_path / "keys"
    path.write_text("\n".join(base64.b64encode(key).decode() for key in (NEW, OLD)))
    both = load_box(path)
    assert both.open(sealed, owner=b"a") == SECRET
    renewed = both.seal(SECRET, owner=b"a")
    assert SecretBox([NEW]).open(renewed, owner=b"a") == SECRET
    with pytest.raises(SecretNotReadable):
        SecretBox([OLD]).open(renewed, owner=b"a")


@pytest.mark.parametrize("content", ["", "not base64!", base64.b64encode(bytes(31)).decode(), "khóa"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(ValueError, match="holds no keys"):
        load_box(path)
