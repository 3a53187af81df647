"""What devices say is not signed, so whoever has taken over the broker says it in their place, and is believed.

These tests do it, to show what that comes to and where it ends: the broker, ingest, the database and control are real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas import codec
from schemas.alerts import Purpose
from schemas.events import AlertHandled, AlertResult, PlayStarted
from schemas.fields import ClockState, PlayReference, PlaySource
from schemas.identifiers import DeviceId
from schemas.readings import Reading, Sample
from schemas.topics import Uplink, UplinkKind
from services.control import alerts
from services.control.alerting import alert_store, reach_store
from services.control.alerting.keeper import AlertKeeper
from services.control.alerting.model import Alert, AlertDraft, AlertText, AudienceWish
from services.control.alerting.reach import PATIENCE
from services.control.alerts import By
from services.control.metrics import ControlMetrics
from services.control.security.events import of_audit
from services.local.broker import Broker
from services.shared.clock import utc_now
from services.shared.database.pool import connect
from tests.integration.control.test_alert_lane import a_lane
from tests.integration.ingest.support import Bench, enveloped, now_ms
from tests.support.attacker import Attacker, keep_alerts_back, take_over
from tests.support.broker import broker as broker
from tests.support.broker import pki as pki
from tests.support.control import some_metrics
from tests.support.control_api import ZONE, Api, add_device, an_api
from tests.support.database import TestDatabase
from tests.support.sensing import Case, a_watcher, watched

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MINUTE_MS = 60_000
SYNCHRONISED = ClockState.SYNCHRONISED


@dataclass(slots=True)
class Ground:
    """Control with its database, ingest, and the attacker between them and the devices."""

    api: Api
    bench: Bench
    attacker: Attacker

    def say(self, device: str, kind: UplinkKind, payload: bytes) -> None:
        """Say something in a device's place."""
        name = DeviceId(device)
        self.attacker.publish(Uplink(principal=name, kind=kind, device=name), payload)


@pytest.fixture
def attacker(broker: Broker) -> Iterator[Attacker]:
    with take_over(broker) as found:
        yield found


@pytest_asyncio.fixture
async def ground(database: TestDatabase, tmp_path: Path, broker: Broker, attacker: Attacker) -> AsyncIterator[Ground]:
    async with an_api(database, tmp_path) as api, connect(database.owner, application="test") as owner:
        api.clock.now = utc_now() - timedelta(minutes=10)
        yield Ground(api, Bench(broker, database.ingest, owner, {}), attacker)


async def an_alert(api: Api) -> Alert:
    """An alert for the boards of a commune, of which the broker has been told nothing yet."""
    now = utc_now()
    draft = AlertDraft(
        unit_id=api.units["11"],
        event="Lũ",
        texts=(AlertText(language="vi", headline="Lũ"),),
        audience=replace(AudienceWish.of_units(api.units["11"]), kinds=("board",)),
        valid_until=now + timedelta(hours=1),
    )
    async with api.database.transaction() as connection:
        tree = await api.services.directory.tree(connection, now=now)
        return await alerts.issue(connection, draft, by=By(tree=tree), keyring=api.services.keyring, now=now)


async def reasons(api: Api, keeper: AlertKeeper, alert: Alert) -> dict[str, str]:
    """Whom it reached, as an officer reads it."""
    now = utc_now()
    await keeper.keep_once(now=now)
    while await keeper.follow_once(now=now):
        pass
    async with api.database.connection() as connection:
        stored = await alert_store.alert(connection, alert.alert_id)
        found = await reach_store.reach(connection, stored, list(api.units.values()), now=now)
    return {str(each.device_id): each.reason for each in found.devices}


async def test_forged_words_make_an_alert_that_was_kept_back_look_as_if_it_had_been_heard(ground: Ground) -> None:
    api = ground.api
    victim, other = await add_device(api, "11", "board"), await add_device(api, "11", "board")
    keeper = AlertKeeper(
        api.database,
        time_zone=ZONE,
        keyring=api.services.keyring,
        metrics=some_metrics(),
        wake_alerts=lambda: None,
    )
    async with ground.bench.ingest():
        alert = await an_alert(api)  # and no lane: nobody hears it
        assert await reasons(api, keeper, alert) == {victim: "never_heard", other: "never_heard"}
        at_ms = now_ms()
        forged = (
            AlertHandled(
                device_at_ms=at_ms,
                clock=SYNCHRONISED,
                alert_id=alert.alert_id,
                alert_version=1,
                purpose=Purpose.ALERT,
                result=AlertResult.TAKEN,
            ),
            PlayStarted(
                device_at_ms=at_ms,
                clock=SYNCHRONISED,
                reference=PlayReference(source=PlaySource.ALERT, id=alert.alert_id, occurrence_at_ms=at_ms, item=0),
                started_at_ms=at_ms,
            ),
        )
        for sequence, event in enumerate(forged, start=1):
            ground.say(victim, UplinkKind.EVENT, enveloped(sequence, codec.encode(event)))
        await ground.bench.until_events(2)

        # It is believed of the device that was spoken for, and of no other one.
        assert await reasons(api, keeper, alert) == {victim: "reached", other: "never_heard"}


async def test_an_alert_that_the_broker_keeps_back_shows_as_not_reached_within_seconds_and_is_alarmed(
    ground: Ground, database: TestDatabase, broker: Broker
) -> None:
    api, registry = ground.api, CollectorRegistry()
    victim = await add_device(api, "11", "board")
    keeper = AlertKeeper(
        api.database,
        time_zone=ZONE,
        keyring=api.services.keyring,
        metrics=ControlMetrics(registry),
        wake_alerts=lambda: None,
    )
    async with ground.bench.ingest(), a_lane(database, broker):
        device = await ground.bench.device(victim)
        await asyncio.to_thread(device.subscribe, f"loa/v1/area/{api.units['11']}/alert/+")
        keep_alerts_back(broker)
        assert await asyncio.to_thread(device.publish, f"loa/v1/{victim}/up/event", enveloped(1)) == 0
        await ground.bench.until_events(1)
        alert = await an_alert(api)
        await ground.bench.eventually(
            "SELECT published_at FROM control.alert_versions", lambda rows: rows[0]["published_at"] is not None
        )

        now = alert.issued_at + PATIENCE + timedelta(seconds=1)
        await keeper.keep_once(now=now)
        async with api.database.connection() as connection:
            found = await reach_store.reach(connection, alert, list(api.units.values()), now=now)
        assert [(each.device_id, each.reason) for each in found.devices] == [(victim, "no_answer")]
        assert registry.get_sample_value("control_alert_unreached_devices", {"reason": "no_answer"}) == 1
        assert device.messages == []


def forge_flood(ground: Ground, sensor: str) -> None:
    """Three minutes of a river above its threshold."""
    now = now_ms()
    for ago in (3, 2, 1, 0):
        reading = Reading(
            device_at_ms=now - ago * MINUTE_MS,
            clock=SYNCHRONISED,
            samples=(Sample(quantity="water_level", value=4.5, unit="m"),),
        )
        ground.say(sensor, UplinkKind.READING, codec.encode(reading))


async def rows_of(ground: Ground, sensor: str) -> None:
    await ground.bench.eventually(
        "SELECT count(*) FROM telemetry.readings r JOIN control.devices d USING (device_no) WHERE d.device_id = $1",
        lambda rows: rows[0][0] == 4,
        sensor,
    )


@pytest.mark.parametrize("is_authorised", [False, True], ids=["as_it_comes", "two_officers_allowed_it"])
async def test_forged_readings_sound_only_what_two_officers_have_authorised_and_not_unnoticed(
    ground: Ground, is_authorised: bool
) -> None:
    api = ground.api
    case = await Case.of(api)
    officers = await case.authorised() if is_authorised else ()
    metrics = CollectorRegistry()
    async with ground.bench.ingest():
        forge_flood(ground, case.sensor)
        await rows_of(ground, case.sensor)
    api.clock.now = utc_now()
    watcher = a_watcher(api, ControlMetrics(metrics))
    await watched(api, watcher)

    released = metrics.get_sample_value("control_issued_alerts_total", {"purpose": "automatic_release"})
    signed = await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'")
    state = await api.fetchval("SELECT state FROM control.alerts")
    if not is_authorised:
        assert (state, signed, released) == ("proposed", 0, 0)
        return
    # A false alarm, on the ground and in the words that the two have read: it is paged, on record, and told to the SOC.
    assert (state, signed, released) == ("in_force", 1, 1)
    facts = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_released_automatically'")
    assert facts["officers"] == [each.login for each in officers]
    assert of_audit("alert_released_automatically", at=api.clock.now, facts={}) is not None
