"""Keys of the authority under a passphrase: never made anew because somebody mistyped, never half changed."""

import io
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.local import installation, installation_verbs, key_files, key_sets, pki
from services.local.key_files import KeyLocked, Source
from services.local.pki import Pki
from services.shared.clock import utc_now
from tests.unit.services.local.test_installation import a_request

NOW = datetime(2026, 5, 1, tzinfo=UTC)
OLD, NEW = b"mot tram linh mot ngon nen", b"hai tram linh hai ngon nen"
DEVICE = (DeviceId.parse("loa-0001"), DeviceKind.CLUSTER)


def an_authority(folder: Path, passphrase: bytes | None = OLD) -> Pki:
    made = pki.prepare(folder / "authority", now=NOW, passphrase=passphrase)
    key_sets.current(made, now=NOW)
    return made


def contents(authority: Pki) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in authority.directory.rglob("*") if path.is_file()}


def test_every_key_of_the_authority_is_encrypted_and_any_tool_opens_it(tmp_path: Path) -> None:
    authority = an_authority(tmp_path)
    for path in authority.authority_keys:
        content = path.read_bytes()
        assert key_files.is_encrypted(content)
        assert path.stat().st_mode & 0o077 == 0
        with pytest.raises(ValueError, match="password"):
            load_pem_private_key(content, password=b"another one, quite long")
        opened = subprocess.run(
            ["openssl", "pkey", "-in", path, "-passin", f"pass:{OLD.decode()}", "-noout"],
            capture_output=True,
            check=False,
        )
        assert opened.returncode == 0, opened.stderr


def test_the_same_passphrase_does_everything_an_authority_does(tmp_path: Path) -> None:
    first = contents(an_authority(tmp_path))
    authority = an_authority(tmp_path)
    assert contents(authority) == first
    pki.issue_devices(authority, [DEVICE[0]], now=NOW)
    pki.revoke(authority, DEVICE[0], now=NOW)
    key_sets.replace(authority, distrust=False, now=NOW)
    assert key_files.is_encrypted(authority.platform_signing_key.read_bytes())


@pytest.mark.parametrize("passphrase", [None, b"something else entirely"])
def test_a_passphrase_that_is_missing_or_wrong_changes_nothing(tmp_path: Path, passphrase: bytes | None) -> None:
    authority = an_authority(tmp_path)
    before = contents(authority)
    wrong = Pki(authority.directory, passphrase)
    for use in (
        lambda: pki.prepare(authority.directory, now=NOW, passphrase=passphrase),
        lambda: key_sets.replace(wrong, distrust=True, now=NOW),
        lambda: key_sets.current(wrong, now=NOW),
        lambda: pki.issue_devices(wrong, [DEVICE[0]], now=NOW),
        lambda: key_files.change_passphrase(authority.authority_keys, old=passphrase, new=NEW),
    ):
        with pytest.raises(KeyLocked, match=r"encrypted"):
            use()
    assert contents(authority) == before


def test_an_authority_from_before_is_encrypted_in_place_and_opened_again(tmp_path: Path) -> None:
    authority = an_authority(tmp_path, None)
    roots = authority.root_public_key.read_bytes()
    assert key_files.change_passphrase(authority.authority_keys, old=None, new=OLD) == 5
    assert an_authority(tmp_path).root_public_key.read_bytes() == roots
    key_files.change_passphrase(authority.authority_keys, old=OLD, new=None)
    an_authority(tmp_path, None)


def test_a_change_that_was_interrupted_is_finished_by_the_same_again(tmp_path: Path) -> None:
    authority = an_authority(tmp_path)
    key_files.change_passphrase(authority.authority_keys[:2], old=OLD, new=NEW)
    with pytest.raises(KeyLocked):
        an_authority(tmp_path)
    key_files.change_passphrase(authority.authority_keys, old=OLD, new=NEW)
    an_authority(tmp_path, NEW)


def test_stronger_stretching_by_openssl_is_read_as_well(tmp_path: Path) -> None:
    authority = an_authority(tmp_path)
    root = authority.root_signing_key
    passphrase = f"pass:{OLD.decode()}"
    made = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-scrypt", "-in", root, "-passin", passphrase, "-passout", passphrase],
        capture_output=True,
        check=True,
    )
    root.write_bytes(made.stdout)
    assert key_sets.root_public_key(authority)


def test_control_gets_its_two_keys_under_passphrases_of_the_site(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)
    secrets = request.site / "secrets"
    passphrases = set()
    for name, secret in installation.ENCRYPTED.items():
        passphrase = (secrets / secret).read_bytes().strip()
        passphrases.add(passphrase)
        key_files.load(secrets / name, passphrase)
        with pytest.raises(KeyLocked):
            key_files.load(secrets / name, None)
    assert len(passphrases) == 2


# --- where it comes from ---------------------------------------------------------------------------------------------


def test_it_is_the_first_line_of_a_file_or_a_descriptor(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(OLD + b"\r\nsecond line\n")
    assert Source(file=tmp_path / "p").read() == OLD
    reading, writing = os.pipe()
    os.write(writing, OLD + b"\n")
    os.close(writing)
    assert Source(descriptor=reading).read() == OLD
    os.close(reading)


@pytest.mark.parametrize(
    ("content", "is_new", "complaint"),
    [
        (b"", False, "holds no passphrase"),
        (b"\n", True, "holds no passphrase"),
        (b"short", True, "16 are needed"),
        (b"x" * 2_000, False, "is longer than"),
    ],
)
def test_what_is_no_passphrase_is_refused_by_name(tmp_path: Path, content: bytes, is_new: bool, complaint: str) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(KeyLocked, match=complaint):
        Source(file=tmp_path / "p", is_new=is_new).read()


def test_a_descriptor_that_is_not_open_is_named() -> None:
    with pytest.raises(KeyLocked, match="descriptor 987 cannot be read"):
        Source(descriptor=987).read()


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert Source().read() is None


# --- the verbs -------------------------------------------------------------------------------------------------------


def test_the_verbs_take_it_and_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = an_authority(tmp_path)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(OLD)
    new.write_bytes(NEW)
    where = ["--authority", str(authority.directory)]

    assert installation_verbs.main(["signing-key", *where, "--passphrase-file", str(new)]) == 1
    assert "this is not the passphrase" in capsys.readouterr().err
    assert installation_verbs.main(["devices", str(tmp_path / "d"), *where, "a-1:cluster"]) == 1
    assert "give its passphrase (--passphrase-file" in capsys.readouterr().err
    assert installation_verbs.main(["signing-key", *where, "--passphrase-file", str(old)]) == 0
    change = ["passphrase", *where, "--passphrase-file", str(old)]
    assert installation_verbs.main(change) == 1
    assert "no new passphrase" in capsys.readouterr().err
    assert installation_verbs.main([*change, "--new-passphrase-file", str(new)]) == 0
    assert "5 keys are encrypted with the new passphrase" in capsys.readouterr().out
    assert installation_verbs.main(["revoke", *where, "--passphrase-file", str(old), "a-1"]) == 1


def test_check_tells_keys_that_are_open_or_not_encrypted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=utc_now())
    check = ["check", str(request.site), "--authority", str(request.authority)]
    assert installation_verbs.main(check) == 1
    told = capsys.readouterr().out
    for path in Pki(request.authority).authority_keys:
        assert f"not encrypted:  {path}\n" in told
    assert "site/secrets" not in "".join(line for line in told.splitlines() if line.startswith(("not", "open")))

    key_files.change_passphrase(Pki(request.authority).authority_keys, old=None, new=OLD)
    assert installation_verbs.main(check) == 0
    key = request.site / "secrets" / "ingest.key"
    key.chmod(0o640)
    assert installation_verbs.main(check) == 1
    assert f"open to others: {key} (chmod go= {key})" in capsys.readouterr().out
    key.chmod(0o400)
    (request.site / "secrets" / "platform.key").chmod(0o600)
    (request.site / "secrets" / "platform.key").write_bytes(key_files.pem(_any_key(), None))
    assert installation_verbs.main(check[:2]) == 1


def _any_key() -> key_files.PrivateKey:
    return Ed25519PrivateKey.generate()
