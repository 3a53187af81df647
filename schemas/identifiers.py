"""Identifiers: parsed once at the edge, trusted afterwards.

A device id is at the same time the common name of the device's certificate, its MQTT user name and its client id, so
its grammar admits nothing that means something in a topic, a path, an ACL or a distinguished name.
"""

from __future__ import annotations

import re
import uuid
from typing import NewType, Self

from schemas.errors import InvalidIdentifier

UnitId = NewType("UnitId", uuid.UUID)
BroadcastId = NewType("BroadcastId", uuid.UUID)
BulletinId = NewType("BulletinId", uuid.UUID)
AlertId = NewType("AlertId", uuid.UUID)
CommandId = NewType("CommandId", uuid.UUID)

DEVICE_ID_PATTERN = r"[a-z0-9][a-z0-9-]{1,46}[a-z0-9]"
_DEVICE_ID = re.compile(DEVICE_ID_PATTERN, re.ASCII)

# Names of our own services and of topic levels: a device called "ingest" could otherwise be mistaken for the service.
RESERVED = frozenset(
    {"area", "ingest", "control", "monitor", "broker", "admin", "root", "loa", "up", "down", "presence"}
)


class DeviceId(str):
    """Name of a device or gateway: 3 to 48 characters of a–z, 0–9 and inner hyphens, none of `RESERVED`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a device id; raises `InvalidIdentifier` naming the rule it breaks."""
        if text in RESERVED:
            raise InvalidIdentifier(f"device id {text!r} is reserved")
        if not _DEVICE_ID.fullmatch(text):
            raise InvalidIdentifier(
                f"device id {text[:64]!r}: expected 3 to 48 characters of a-z, 0-9 and inner hyphens"
            )
        return cls(text)


def parse_uuid(text: str) -> uuid.UUID:
    """Return the UUID written in canonical lower-case form; raises `InvalidIdentifier`."""
    try:
        value = uuid.UUID(text)
    except ValueError:
        raise InvalidIdentifier(f"{text[:64]!r} is not a UUID") from None
    if str(value) != text:
        raise InvalidIdentifier(f"{text[:64]!r} is not a UUID in canonical form")
    return value
