"""Secrets the database keeps but cannot read: AES-256-GCM under a key given from outside, bound to whose they are."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_NAME_BYTES = 8


class SecretNotReadable(Exception):
    """No key at hand opens what was sealed: the key is gone, or the bytes were changed or moved to somebody else."""


class SecretBox:
    """Seals with the first key; opens with any, so that a new key can be put in front of the old one."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a key has {KEY_BYTES} bytes, and one is needed")
        self._keys = {_name(key): AESGCM(key) for key in keys}
        self._first = _name(keys[0])

    def seal(self, secret: bytes, *, owner: bytes) -> bytes:
        """The secret as it may be stored; opens for the same owner only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._first + nonce + self._keys[self._first].encrypt(nonce, secret, owner)

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the newest key."""
        return sealed[:_NAME_BYTES] == self._first

    def open(self, sealed: bytes, *, owner: bytes) -> bytes:
        """The secret again. Raises `SecretNotReadable`."""
        name, rest = sealed[:_NAME_BYTES], sealed[_NAME_BYTES:]
        try:
            return self._keys[name].decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], owner)
        except (KeyError, InvalidTag, ValueError) as error:
            raise SecretNotReadable from error


def _name(key: bytes) -> bytes:
    return hashlib.sha256(b"loa secret key\n" + key).digest()[:_NAME_BYTES]


def load_box(path: Path) -> SecretBox:
    """A box with the keys of a file: base64, one a line, the newest first. Raises ValueError when they are none."""
    try:
        return SecretBox([base64.b64decode(line, validate=True) for line in path.read_text("ascii").split()])
    except ValueError:
        raise ValueError(f"{path} holds no keys: expected {KEY_BYTES} bytes as base64 on each line") from None
