"""The keys under which devices believe us: our own signing key, and the key set that announces it.

The platform signs plans, configurations, commands and alerts. Devices believe it because the root key, which never
comes near a server, has signed a key set that lists it. That key set is a file; it is published as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from schemas import codec, limits, signing
from schemas.errors import DecodeError, SignatureError
from schemas.keys import KeySet
from schemas.orders import Order
from services.control.errors import ControlError
from services.control.planning.model import from_ms, to_ms

COSE_KID = 4  # header parameter of RFC 9052, section 3.1
COSE_TYP = 16  # header parameter of RFC 9596


class KeyringError(ControlError):
    """The signing key or the key set cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedKeys:
    """The key set as it is published, and what it says of itself. Its signature is for devices to check.

    `root_kid` is the id of the key that signed it.
    """

    message: bytes
    root_kid: bytes
    serial: int
    valid_until: datetime
    content: KeySet


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """What control signs with and what it announces."""

    private_key: Ed25519PrivateKey
    announced: AnnouncedKeys

    @property
    def kid(self) -> bytes:
        """The id under which devices know our key."""
        return signing.key_id(self.private_key.public_key())

    def may_sign(self, *, now: datetime) -> bool:
        """Whether devices would believe what is signed at this moment."""
        at_ms = to_ms(now)
        ours = (key for key in self.announced.content.keys if key.kid == self.kid)
        return any(key.not_before_ms <= at_ms < key.not_after_ms for key in ours)

    def is_believed(self, cls: type[Order], message: bytes) -> bool:
        """Whether devices that hold the announced key set believe a message: its key is listed, and was valid then."""
        try:
            signing.verify_under(cls, message, self.announced.content)
        except SignatureError:
            return False
        return True

    def sign(self, order: Order) -> bytes:
        """Return `order` as a signed message; raises `EncodeError` when it is too large for its kind."""
        return signing.sign(order, self.private_key)


def load_keyring(key_file: Path, keys_file: Path, passphrase: str | None = None) -> Keyring:
    """Return the keys in two files, of which the first may be encrypted.

    Raises `KeyringError`, also when the key set does not announce the key: devices would refuse every word.
    """
    try:
        key, message = key_file.read_bytes(), keys_file.read_bytes()
    except OSError as error:
        raise KeyringError(f"{key_file}, {keys_file}: {error}") from error
    private_key = _opened(key, passphrase, source=key_file)
    keyring = Keyring(private_key=private_key, announced=parse_key_set(message, source=str(keys_file)))
    if keyring.kid not in {key.kid for key in keyring.announced.content.keys}:
        raise KeyringError(f"{keys_file} does not announce the key in {key_file}: devices would believe nothing")
    return keyring


def _opened(key: bytes, passphrase: str | None, *, source: Path) -> Ed25519PrivateKey:
    is_encrypted = b"ENCRYPTED" in key.partition(b"\n")[0]
    if is_encrypted and passphrase is None:
        raise KeyringError(f"{source} is encrypted: CONTROL_SIGNING__KEY_PASSPHRASE_FILE has to name its passphrase")
    if passphrase is not None and not is_encrypted:
        raise KeyringError(f"{source} is not encrypted, although CONTROL_SIGNING__KEY_PASSPHRASE is set")
    try:
        private_key = load_pem_private_key(key, password=None if passphrase is None else passphrase.encode())
    except ValueError as error:
        hint = ": is CONTROL_SIGNING__KEY_PASSPHRASE the one it is encrypted with?" if is_encrypted else f": {error}"
        raise KeyringError(f"{source} cannot be opened{hint}") from error
    if not isinstance(private_key, Ed25519PrivateKey):
        raise KeyringError(f"{source}: not an Ed25519 key")
    return private_key


def parse_key_set(message: bytes, *, source: str) -> AnnouncedKeys:
    """Return what a signed key set says, without checking its signature; raises `KeyringError`."""
    try:
        parts = codec.loads(message, size_limit=limits.KEYS_BYTES + signing.OVERHEAD_BYTES, deterministic=True)
        match parts:
            case [bytes() as protected, {**rest}, bytes() as payload, bytes()] if not rest:
                content = codec.decode(KeySet, payload, deterministic=True)
                header = codec.loads(protected, size_limit=len(protected), deterministic=True)
            case _:
                raise KeyringError(f"{source}: not a COSE_Sign1 message")
    except DecodeError as error:
        raise KeyringError(f"{source}: not a signed key set ({error})") from error
    root_kid = header.get(COSE_KID) if isinstance(header, dict) else None
    if not isinstance(root_kid, bytes) or header.get(COSE_TYP) != signing.MEDIA_TYPES[KeySet]:
        raise KeyringError(f"{source}: not a signed key set")
    return AnnouncedKeys(
        message=message,
        root_kid=root_kid,
        serial=content.serial,
        valid_until=from_ms(content.valid_until_ms),
        content=content,
    )
