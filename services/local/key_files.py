"""Private keys as files: PKCS 8 in PEM (RFC 5958), for X.509 and Ed25519 signing keys (RFC 8410) alike.

Where there is a passphrase, they are encrypted (PBES2 of RFC 8018: AES-256, PBKDF2). Our library stretches a passphrase
by 2,048 rounds only, so its length has to make up for it; what `openssl pkcs8 -topk8 -scrypt` has written is read as well.
"""

import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, load_pem_private_key

from services.control.trust.certificates import encryption

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

SHORTEST = 16  # characters of a passphrase: what is drawn should have 96 bits and more
LONGEST = 1_024


class KeyLocked(Exception):
    """A key cannot be opened, or a passphrase cannot be used; the message names the file and what to do."""


def is_encrypted(content: bytes) -> bool:
    """Whether a PEM text is an encrypted private key."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in content


def is_private_key(content: bytes) -> bool:
    """Whether a PEM text is a private key, encrypted or not."""
    return b"PRIVATE KEY-----" in content


def load(path: Path, passphrase: bytes | None) -> PrivateKey:
    """Return the key in a file; a passphrase is used where it is encrypted.

    Raises OSError, `KeyLocked` when it stays closed, and ValueError when it is no key of ours.
    """
    content = path.read_bytes()
    if not is_encrypted(content):
        key = load_pem_private_key(content, password=None)
    elif passphrase is None:
        raise KeyLocked(f"{path} is encrypted: give its passphrase (--passphrase-file, --passphrase-fd, or a terminal)")
    else:
        try:
            key = load_pem_private_key(content, password=passphrase)
        except ValueError:
            raise KeyLocked(
                f"{path}: this is not the passphrase it is encrypted with, or the file is damaged"
            ) from None
    if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise ValueError(f"{path} is neither an elliptic-curve key nor an Ed25519 key")
    return key


def pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Return the key as it is kept."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption(passphrase))


def change_passphrase(paths: Iterable[Path], *, old: bytes | None, new: bytes | None) -> int:
    """Encrypt keys with another passphrase, or with none; returns how many.

    All are opened before the first is written, each is replaced whole, and one that has the new passphrase already is
    left: interrupted half-way, the same again finishes it. Raises as `load` does; then nothing is changed.
    """
    opened = {path: _load_with_either(path, old, new) for path in paths}
    for path, key in opened.items():
        write_private(path, pem(key, new))
    return len(opened)


def _load_with_either(path: Path, old: bytes | None, new: bytes | None) -> PrivateKey:
    try:
        return load(path, old)
    except KeyLocked:
        if new is None:
            raise
        try:
            return load(path, new)
        except KeyLocked:
            pass
        raise


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` whole: a reader sees the old content or the new, and nobody else sees either."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


# --- where a passphrase comes from -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a passphrase is to be read: a file (a systemd credential is one), an open descriptor, or a terminal."""

    file: Path | None = None
    descriptor: int | None = None
    prompt: str = "Passphrase of the authority: "
    is_new: bool = False  # asked for twice, and held to a length

    def read(self) -> bytes | None:
        """The passphrase; None where nobody gave one, at a terminal by an empty line. Raises `KeyLocked`."""
        if self.file is not None:
            return self._fit(_first_line(self.file.read_bytes()), str(self.file))
        if self.descriptor is not None:
            try:
                with open(self.descriptor, "rb", closefd=False) as stream:
                    return self._fit(_first_line(stream.read(LONGEST + 2)), f"descriptor {self.descriptor}")
            except OSError as error:
                raise KeyLocked(f"descriptor {self.descriptor} cannot be read: {error.strerror}") from None
        if not sys.stdin.isatty():
            return None
        text = getpass(self.prompt)
        if self.is_new and text and getpass("The same once more: ") != text:
            raise KeyLocked("the two are not the same; nothing was changed")
        return self._fit(text.encode(), "it") if text else None

    def _fit(self, passphrase: bytes, where: str) -> bytes:
        if not passphrase:
            raise KeyLocked(f"{where} holds no passphrase")
        if len(passphrase) > LONGEST:
            raise KeyLocked(f"{where} is longer than {LONGEST} bytes: is it a passphrase?")
        if self.is_new and len(passphrase) < SHORTEST:
            raise KeyLocked(f"{where} has {len(passphrase)} bytes, {SHORTEST} are needed: openssl rand -base64 24")
        return passphrase


def _first_line(content: bytes) -> bytes:
    return content.partition(b"\n")[0].rstrip(b"\r")


# --- how they are kept -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A private key below a folder, and how it lies there."""

    path: Path
    is_encrypted: bool
    is_open: bool  # others than its owner may read or change it


def kept_below(folder: Path) -> tuple[Kept, ...]:
    """Every private key below a folder, by name."""
    found = []
    for path in sorted(folder.rglob("*.key")):
        content = path.read_bytes()
        if is_private_key(content):
            mode = stat.S_IMODE(path.stat().st_mode)
            found.append(Kept(path=path, is_encrypted=is_encrypted(content), is_open=bool(mode & 0o077)))
    return tuple(found)
