"""What a factory and an installer put into the simulated devices: keys, certificates and the root's public key."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.identifiers import DeviceId
from services.local import key_sets
from services.local.pki import Pki, issue_devices
from services.local.province import DeviceSpec

RIVER_QUANTITIES = ("water_level", "rainfall")
LORA_QUANTITIES = ("air_temperature", "relative_humidity")


def equip(pki: Pki, devices: Sequence[DeviceSpec], manifest: Path, *, now: datetime) -> None:
    """Issue a certificate to every device that connects by itself, and write the fleet manifest for the simulator."""
    connecting = [device for device in devices if device.gateway is None]
    identities = issue_devices(pki, [DeviceId.parse(device.device_id) for device in connecting], now=now)
    entries = []
    for device in connecting:
        identity = identities[DeviceId(device.device_id)]
        entry = _entry(device) | {"certificate": str(identity.certificate), "key": str(identity.key)}
        if children := [_entry(child) for child in devices if child.gateway == device.device_id]:
            entry["children"] = children
        entries.append(entry)
    document = {"version": 1, "root_public_key": key_sets.root_public_key(pki).hex(), "devices": entries}
    draft = manifest.with_suffix(".new")
    draft.write_text(json.dumps(document, indent=1) + "\n")
    draft.replace(manifest)


def _entry(device: DeviceSpec) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": device.device_id,
        "kind": device.kind,
        "position": {"latitude": device.latitude, "longitude": device.longitude},
    }
    if device.kind == "sensor":
        entry["quantities"] = list(LORA_QUANTITIES if device.gateway else RIVER_QUANTITIES)
    return entry


def registrations(devices: Iterable[DeviceSpec], unit_ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same devices as control's registry takes them; `unit_ids` maps unit codes to ids."""
    return [
        {
            "device_id": device.device_id,
            "kind": device.kind,
            "unit_id": unit_ids[device.unit_code],
            "name": device.name,
            "technology": device.technology,
            "latitude": device.latitude,
            "longitude": device.longitude,
            "gateway_id": device.gateway,
        }
        for device in devices
    ]
