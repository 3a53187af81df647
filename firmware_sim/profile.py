"""What a device is from the factory and the installer: its name, kind, root key and hardware."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from firmware_sim.physics import Flood
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId

FIRMWARE = "loa-sim 1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One device. `principal` is who holds its MQTT session: the device itself, or the gateway before it."""

    id: DeviceId
    kind: DeviceKind
    principal: DeviceId
    root_public_key: bytes
    firmware: str = FIRMWARE
    quantities: tuple[str, ...] = ()
    children: int = 0  # devices behind a gateway
    flood: Flood | None = None  # where its river rises

    @property
    def phase(self) -> float:
        """A number in [0, 1) of this device alone: spreads heartbeats and retries over their interval."""
        return zlib.crc32(self.id.encode()) / 2**32
