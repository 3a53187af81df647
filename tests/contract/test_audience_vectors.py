"""Whom an audience addresses: the committed table, asked of the contract's rule and of a simulated device."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from firmware_sim import device, inputs, memory
from firmware_sim.clock import Moment
from firmware_sim.effects import Record
from firmware_sim.state import Rhythm
from schemas import wire
from schemas.alerts import Area, Audience, Circle, Purpose
from schemas.audience import addresses
from schemas.configuration import Ownership, Position
from schemas.events import AlertHandled, BootReason, Refused
from schemas.fields import ClockState, DeviceKind
from schemas.identifiers import DeviceId
from schemas.topics import DownlinkKind
from tests.support.vectors.committed import index
from tests.unit.firmware_sim.builders import T0, a_configuration, a_key_set, a_profile, an_alert, signed

TABLE = index("audience_v1.json")
DEVICES = TABLE["devices"]
NOW = Moment(at_ms=T0, clock=ClockState.SYNCHRONISED, uptime_ms=10_000)

every_audience = pytest.mark.parametrize("case", TABLE["audiences"], ids=lambda case: case["name"])


def audience_of(data: dict[str, Any]) -> Audience:
    """The audience as somebody reads it who knows only the file."""
    return Audience(
        areas=tuple(
            Area(
                units=units(area["units"]),
                polygons=tuple(tuple(Position(**corner) for corner in ring) for ring in area.get("polygons", ())),
                circles=tuple(
                    Circle(centre=Position(**circle["centre"]), radius_m=circle["radius_m"])
                    for circle in area.get("circles", ())
                ),
            )
            for area in data.get("areas", ())
        ),
        devices=tuple(data.get("devices", ())),
        except_units=units(data.get("except_units", ())),
        except_devices=tuple(data.get("except_devices", ())),
        kinds=tuple(DeviceKind[name.upper()] for name in data.get("kinds", ())),
        ownerships=tuple(Ownership[name.upper()] for name in data.get("ownerships", ())),
    )


def units(texts: list[str]) -> tuple[uuid.UUID, ...]:
    return tuple(map(uuid.UUID, texts))


def facts(data: dict[str, Any]) -> dict[str, Any]:
    """What decides of a device."""
    return {
        "ownership": Ownership[data["ownership"].upper()],
        "membership": units(data["membership"]),
        "position": None if data["position"] is None else Position(**data["position"]),
    }


def hears(data: dict[str, Any], audience: Audience) -> bool:
    """Whether a simulated device that was configured like this does anything about a signed test for the audience."""
    name = DeviceId.parse(data["device"])
    profile = a_profile(DeviceKind[data["kind"].upper()], device=name)
    nothing = memory.Recollection(files={}, media={}, last_up_at_ms=None)
    state, _ = device.boot(profile, Rhythm(), nothing, reason=BootReason.POWER_ON, now=NOW)
    configuration = a_configuration(device=name).model_copy(update=facts(data))
    alert = an_alert(purpose=Purpose.SILENT_TEST, audience=audience)
    told: list[object] = []
    for happened in (
        inputs.Received(kind=DownlinkKind.KEYS, payload=signed(a_key_set())),
        inputs.Received(kind=DownlinkKind.CONFIG, payload=signed(configuration)),
        inputs.AlertReceived(payload=signed(alert)),
    ):
        state, wanted = device.step(state, happened, now=NOW)
        told += [each.event for each in wanted if isinstance(each, Record)]
    assert not any(isinstance(event, Refused) for event in told)
    return any(isinstance(event, AlertHandled) for event in told)


def test_the_table_is_read_as_it_was_written() -> None:
    for case in TABLE["audiences"]:
        assert wire.to_json(audience_of(case["audience"])) == case["audience"]


def test_every_device_is_addressed_by_something_and_spared_by_something() -> None:
    for data in DEVICES:
        assert {data["device"] in case["addressed"] for case in TABLE["audiences"]} == {True, False}


@every_audience
def test_the_rule_addresses_whom_the_table_states(case: dict[str, Any]) -> None:
    audience = audience_of(case["audience"])
    addressed = [
        data["device"]
        for data in DEVICES
        if addresses(audience, device=data["device"], kind=DeviceKind[data["kind"].upper()], **facts(data))
    ]
    assert sorted(addressed) == case["addressed"]


@every_audience
def test_simulated_devices_hear_what_the_table_states(case: dict[str, Any]) -> None:
    audience = audience_of(case["audience"])
    assert sorted(data["device"] for data in DEVICES if hears(data, audience)) == case["addressed"]
