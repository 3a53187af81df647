"""Whoever sets a device's clock back, or takes its battery out, does not bring yesterday back: the floor under the clock is
the newest thing it has seen signed, and it survives on flash.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.alerts import AlertContent
from schemas.events import AlertHandled, Booted, MediaStored, PlayEnded, PlayStarted, Refused
from schemas.fields import ClockState
from schemas.identifiers import AlertId, UnitId
from schemas.topics import AreaAlert, DownlinkKind
from services.local.broker import Broker
from tests.integration.attacks.conftest import down
from tests.integration.firmware.centre import Centre, a_centre, make_sound, now_ms
from tests.support.attacker import Attacker, take_over
from tests.support.broker import broker, pki
from tests.unit.firmware_sim.builders import DAY, MINUTE, PROVINCE, a_plan, an_alert, an_emission, signed

__all__ = ["broker", "pki"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CLUSTER = "loa-0001"
YESTERDAY, HEARD, TODAY = (uuid.uuid5(PROVINCE, name) for name in ("yesterday", "heard", "today"))

SET_BACK = f"""
description = "Somebody has set every clock back by a day, and they believe in themselves."
[clocks]
behind_ms = {DAY}
"""
DEAD = """
description = "No clock has a battery, and no network tells them the time."
[clocks]
unsynchronised_share = 1.0
"""


@pytest.fixture
def attacker(broker: Broker) -> Iterator[Attacker]:
    with take_over(broker) as mallory:
        yield mallory


@pytest.fixture
def centre(broker: Broker, attacker: Attacker, tmp_path: Path) -> Iterator[Centre]:
    with a_centre(broker, tmp_path) as running:
        yield running


@pytest.mark.parametrize("scenario", [pytest.param(SET_BACK, id="set_back"), pytest.param(DEAD, id="dead")])
def test_an_alert_of_yesterday_does_not_sound(centre: Centre, attacker: Attacker, scenario: str) -> None:
    sound, file = centre.folder / "siren.mp3", centre.folder / "scenario.toml"
    make_sound(sound, seconds=0.5)
    file.write_text(scenario)
    siren = centre.media.offer(sound)
    contents = AlertContent(language="vi", headline="Lũ quét", media=siren)
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER, membership=(PROVINCE,), alert_media=(siren,))
    simulator = centre.start()
    centre.wait(CLUSTER, MediaStored)
    heard = an_alert(contents, alert_id=HEARD, at_ms=now_ms(), valid_for_ms=1_000)
    centre.alert(PROVINCE, heard, expires_s=1)
    centre.wait(CLUSTER, PlayEnded)
    assert simulator.stop() == 0

    # By the device's own clock this is the very moment of yesterday's alert and plan.
    simulator = centre.start(SIM_SCENARIO=str(file))
    centre.wait(CLUSTER, Booted, count=2)
    now = now_ms()
    yesterday = an_alert(contents, alert_id=YESTERDAY, at_ms=now - DAY, valid_for_ms=10 * MINUTE)
    emission = an_emission(at_ms=now - DAY + 500, duration_ms=60_000, media=siren.sha256)
    plan = a_plan(emission, device=CLUSTER, at_ms=now - DAY, valid_for_ms=DAY // 2, files=(siren,))
    for alert in (yesterday, heard):
        attacker.publish(AreaAlert(UnitId(PROVINCE), AlertId(alert.alert_id)), signed(alert))
    attacker.publish(down(CLUSTER, DownlinkKind.PLAN), signed(plan))
    refused = centre.wait(CLUSTER, Refused, count=2)
    assert sorted((each.refused.name, each.reason.name) for each in refused) == [
        ("ALERT", "EXPIRED"),
        ("PLAN", "EXPIRED"),
    ]

    # What is issued now is above the floor: it sounds, although the device does not know the time.
    centre.alert(PROVINCE, an_alert(contents, alert_id=TODAY, at_ms=now_ms()))
    centre.wait(CLUSTER, PlayEnded, count=2)
    assert [each.reference.id for each in centre.told(CLUSTER).of(PlayStarted)] == [HEARD, TODAY]
    assert {each.alert_id for each in centre.told(CLUSTER).of(AlertHandled)} == {HEARD, TODAY}
    (_, second) = centre.told(CLUSTER).of(Booted)
    assert second.device_at_ms < now_ms() - DAY // 2 or second.clock is ClockState.UNSYNCHRONISED
