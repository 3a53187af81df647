"""Test keys, names and instants the golden vectors share. The keys are for these files only: their seeds are public."""

from __future__ import annotations

import hashlib
import uuid

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.fields import ClockState, Level, PlayReference, PlaySource
from schemas.orders import MediaReference, Rank


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"Loa golden vectors: {name}".encode()).digest())


ROOT_KEY = key("root key")
PLATFORM_KEY = key("platform key")
NEXT_PLATFORM_KEY = key("next platform key")
FOREIGN_KEY = key("a key no device knows")


def device_key(name: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key as a device makes it; its number is below the order of the curve."""
    return ec.derive_private_key(
        int.from_bytes(hashlib.sha256(f"Loa golden vectors: {name}".encode()).digest()) >> 8, ec.SECP256R1()
    )


DEVICE_KEY = device_key("device key")
FOREIGN_DEVICE_KEY = device_key("the key of another device")


def encoded(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


DAY = 86_400_000
T = 1_763_589_600_000  # 2025-11-19T22:00:00Z, five in the morning in Bắc Giang
SYNC = ClockState.SYNCHRONISED
CLUSTER, BOARD, SENSOR = "cum-loa-0142", "bang-led-07", "tram-do-03"
MEDIA = hashlib.sha256(b"ban tin sang").digest()
IMAGE = hashlib.sha256(b"ap phich").digest()
JOURNAL = bytes.fromhex("8f1d2c3b4a596877")


def an_id(number: int) -> uuid.UUID:
    return uuid.UUID(f"0198f3c2-5e00-7000-8000-{number:012x}")


PROVINCE, DISTRICT, COMMUNE, BROADCAST, BULLETIN, COMMAND, ALERT, EARLIER_ALERT = map(an_id, range(1, 9))
SECOND_BROADCAST = an_id(20)

EMISSION = PlayReference(source=PlaySource.EMISSION, id=BROADCAST, occurrence_at_ms=T, item=0)
BY_ALERT = PlayReference(source=PlaySource.ALERT, id=ALERT, occurrence_at_ms=T + 30_000, item=0)
BY_COMMAND = PlayReference(source=PlaySource.COMMAND, id=COMMAND)
NORMAL = Rank(level=Level.NORMAL, issuer_depth=2, issued_at_ms=T - DAY)
EMERGENCY = Rank(level=Level.EMERGENCY, severity=4, issuer_depth=0, issued_at_ms=T)
AUDIO_FILE = MediaReference(
    sha256=MEDIA, size=482_113, mime="audio/ogg", path=f"media/{MEDIA.hex()}", duration_ms=60_000
)
