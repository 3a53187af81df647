"""The key set that tells devices which platform keys to believe, signed by the root key they were provisioned with.

It is made where the root key is, as a file, `signing/keys.cose` of the authority; control only hands it on. Each new
set has the serial after the last one, so the file is also the memory: without it devices would refuse the next set.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import signing
from schemas.errors import SignatureError
from schemas.keys import KeySet, SigningKey, key_id
from services.local import pki
from services.local.key_files import write_private
from services.local.pki import Pki, PkiDamaged

# A set is signed anew in the second half, so a device may be switched off for a year.
VALIDITY = timedelta(days=730)
# Devices whose clock is behind must still believe what was signed a moment ago.
BACKDATE = timedelta(days=1)
# How long new orders of a replaced key are believed: until control has been restarted with the new one. What it signed
# before stays believed, or every device would fall silent until its next plan arrives.
OVERLAP = timedelta(days=1)
# Keys of a set (schemas.keys.KeySet.keys); the oldest goes first.
CAPACITY = 16


def path(infrastructure: Pki) -> Path:
    """Where the signed set is kept."""
    return infrastructure.directory / "signing" / "keys.cose"


def current(infrastructure: Pki, *, now: datetime) -> bytes:
    """The signed set, made now when there is none, it is old, or it lacks the platform key.

    Raises `PkiDamaged` when the file was not signed by this root key.
    """
    held = _read(infrastructure)
    platform = key_id(_public(_platform(infrastructure)))
    if held is None or platform not in {key.kid for key in held.keys} or held.valid_until_ms < _ms(now + VALIDITY / 2):
        others = () if held is None else tuple(key for key in held.keys if key.kid != platform)
        _write(infrastructure, others, after=held, now=now)
    return path(infrastructure).read_bytes()


def replace(infrastructure: Pki, *, distrust: bool, now: datetime) -> None:
    """Make a new platform signing key and the set that announces it.

    The old keys stay listed, for what they have signed so far; with `distrust` they go, and devices stop believing, and
    playing, whatever they signed.
    """
    _root(infrastructure)  # nothing is replaced that could not be announced
    held = _read(infrastructure)
    infrastructure.platform_signing_key.unlink(missing_ok=True)
    pki.ensure_signing_key(
        infrastructure.platform_signing_key, infrastructure.platform_public_key, infrastructure.passphrase
    )
    kept = () if distrust or held is None else tuple(_ending(key, now=now) for key in held.keys)
    _write(infrastructure, kept[: CAPACITY - 1], after=held, now=now)


def root_public_key(infrastructure: Pki) -> bytes:
    """What a device is provisioned with: the raw public half of the root key, 32 bytes."""
    return _public(_root(infrastructure))


def _read(infrastructure: Pki) -> KeySet | None:
    file = path(infrastructure)
    if not file.exists():
        return None
    root = _root(infrastructure).public_key()
    try:
        return signing.verify(KeySet, file.read_bytes(), {signing.key_id(root): root})
    except SignatureError as error:
        raise PkiDamaged(f"{file} was not signed by {infrastructure.root_signing_key}; restore both") from error


def _write(infrastructure: Pki, others: Iterable[SigningKey], *, after: KeySet | None, now: datetime) -> None:
    """Sign a set of the platform key and `others`, which takes the place of `after`."""
    platform = _public(_platform(infrastructure))
    announced = {key.kid: key.not_before_ms for key in after.keys} if after else {}
    first = SigningKey(
        kid=key_id(platform),
        public_key=platform,
        # What it signed under the last set must stay believed under this one.
        not_before_ms=announced.get(key_id(platform), _ms(now - BACKDATE)),
        not_after_ms=_ms(now + VALIDITY),
    )
    keys = KeySet(
        issued_at_ms=_ms(now),
        valid_from_ms=_ms(now - BACKDATE),
        valid_until_ms=_ms(now + VALIDITY),
        serial=(after.serial if after else 0) + 1,
        keys=(first, *others),
    )
    write_private(path(infrastructure), signing.sign(keys, _root(infrastructure)))


def _ending(key: SigningKey, *, now: datetime) -> SigningKey:
    return key.model_copy(update={"not_after_ms": min(key.not_after_ms, _ms(now + OVERLAP))})


def _root(infrastructure: Pki) -> Ed25519PrivateKey:
    return pki.load_signing_key(infrastructure.root_signing_key, infrastructure.passphrase)


def _platform(infrastructure: Pki) -> Ed25519PrivateKey:
    return pki.load_signing_key(infrastructure.platform_signing_key, infrastructure.passphrase)


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
