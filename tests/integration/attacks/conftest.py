"""A fleet under one broker that somebody has taken over: one for all tests of this folder, a device for each."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.events import MediaStored, PlayEnded, PlayStarted, Refused
from schemas.identifiers import AlertId, DeviceId, UnitId
from schemas.orders import MediaReference
from schemas.topics import AreaAlert, Downlink, DownlinkKind, Topic
from services.local.directories import temporary_directory
from services.local.pki import prepare
from services.shared.clock import utc_now
from tests.integration.firmware.centre import Centre, Simulator, a_centre, make_sound, now_ms
from tests.support.attacker import Attacker, take_over
from tests.support.broker import broker_for
from tests.unit.firmware_sim.builders import PLATFORM as PLATFORM
from tests.unit.firmware_sim.builders import (
    PROVINCE,
    STRANGER,
    a_configuration,
    a_key,
    a_key_set,
    announced,
    signed,
)

WITHDRAWN = a_key(4)  # it was announced once, and then stolen
DEVICES = ("ke-hoach", "cau-hinh", "khoa", "lenh", "bao-dong", "tat-tieng", "hai-ban", "doi-cho", "bom-thu")


@dataclass
class Stage:
    """The platform's side, the fleet, and the attacker."""

    centre: Centre
    simulator: Simulator
    attacker: Attacker
    siren: MediaReference
    first_keys: bytes  # the key set before one key was withdrawn
    _decoded: int = field(default=0)

    def hush(self) -> None:
        """From here on nothing may sound, until `is_hushed` is asked."""
        self._decoded = int(str(self.simulator.status()["samples_decoded"]))

    @property
    def is_hushed(self) -> bool:
        """Whether no device has decoded a single sample since `hush`."""
        return int(str(self.simulator.status()["samples_decoded"])) == self._decoded

    def attack(self, device: str, kind: DownlinkKind, messages: list[bytes]) -> None:
        for each in messages:
            self.attacker.publish(down(device, kind), each)

    def refusals(self, device: str, *, count: int) -> list[tuple[str, str]]:
        """What a device's journal says it has refused, once there are so many."""
        told = self.centre.wait(device, Refused, count=count)
        return sorted((each.refused.name, each.reason.name) for each in told)

    def plays(self, device: str, *, count: int) -> list[uuid.UUID]:
        """The ids of what has sounded to its end, once there is so much; nothing else has begun."""
        self.centre.wait(device, PlayEnded, count=count)
        return [each.reference.id for each in self.centre.told(device).of(PlayStarted)]


def down(device: str, kind: DownlinkKind) -> Downlink:
    return Downlink(DeviceId(device), kind, DeviceId(device))


def area(unit: uuid.UUID, alert_id: uuid.UUID) -> Topic:
    return AreaAlert(UnitId(unit), AlertId(alert_id))


def ground(device: str) -> uuid.UUID:
    """Each device has a commune to itself."""
    return uuid.uuid5(PROVINCE, device)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with (
        temporary_directory() as directory,
        broker_for(prepare(directory / "pki", now=utc_now())) as broker,
        take_over(broker) as attacker,
        tempfile.TemporaryDirectory() as folder,
        a_centre(broker, Path(folder)) as centre,
    ):
        sound = centre.folder / "siren.mp3"
        make_sound(sound, seconds=0.5)
        siren = centre.media.offer(sound)
        centre.provision(dict.fromkeys(DEVICES, "cluster"))
        begin_ms = now_ms() - 10_000
        first = signed(a_key_set(announced(PLATFORM), announced(WITHDRAWN), serial=1, at_ms=begin_ms))
        second = signed(a_key_set(announced(PLATFORM), serial=2, at_ms=begin_ms + 5_000))
        for device in DEVICES:
            centre.send(device, DownlinkKind.KEYS, second)
            configuration = a_configuration(
                device=device,
                serial=5,
                at_ms=begin_ms,
                heartbeat_s=1,
                media_base_url=centre.media.url,
                membership=(PROVINCE, ground(device)),
                alert_media=(siren,),
            )
            centre.send(device, DownlinkKind.CONFIG, signed(configuration))
        simulator = centre.start()
        for device in DEVICES:
            centre.wait(device, MediaStored)
        yield Stage(centre, simulator, attacker, siren, first)


__all__ = ["PLATFORM", "STRANGER", "WITHDRAWN", "Stage", "area", "down", "ground", "stage"]
