"""Whoever has taken over the broker says things in devices' places: what that comes to, and where it ends.

What sensors measure is signed, and what is not makes nothing sound by itself. What devices say of alerts is believed of
them, and told apart by whether they have signed it. The broker, ingest, the database and control are real.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from schemas import codec, device_signing
from schemas.alerts import Purpose
from schemas.events import AlertHandled, AlertResult, Event, PlayStarted
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
from services.control.security.reporter import SecurityLog
from services.control.security.sinks import FileSink
from services.control.trust.certificates import new_key
from services.local.broker import Broker
from services.shared.clock import utc_now
from services.shared.database.pool import connect
from tests.integration.control.test_alert_lane import a_lane
from tests.integration.ingest.support import Bench, enveloped, now_ms
from tests.support import attacker as attacks
from tests.support.attacker import Attacker, keep_alerts_back, take_over
from tests.support.broker import broker as broker
from tests.support.broker import pki as pki
from tests.support.control import some_metrics
from tests.support.control_api import ZONE, Api, add_device, an_api
from tests.support.database import TestDatabase
from tests.support.device_keys import certify, revoke
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


async def reached(api: Api, keeper: AlertKeeper, alert: Alert) -> dict[str, tuple[str, bool]]:
    """Whom it reached, as an officer reads it: the reason, and whether that is a word which the device has signed."""
    now = utc_now()
    await keeper.keep_once(now=now)
    while await keeper.follow_once(now=now):
        pass
    async with api.database.connection() as connection:
        stored = await alert_store.alert(connection, alert.alert_id)
        found = await reach_store.reach(connection, stored, list(api.units.values()), now=now)
    return {str(each.device_id): (each.reason, each.is_signed) for each in found.devices}


def heard(alert: Alert, *, version: int = 1) -> tuple[Event, ...]:
    """What a device says that takes up a version of an alert and begins to sound it."""
    at_ms = now_ms()
    return (
        AlertHandled(
            device_at_ms=at_ms,
            clock=SYNCHRONISED,
            alert_id=alert.alert_id,
            alert_version=version,
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


async def test_forged_words_make_a_kept_back_alert_look_heard_and_never_by_a_signed_word(ground: Ground) -> None:
    api = ground.api
    victim, other, honest = [await add_device(api, "11", "board") for _ in range(3)]
    async with api.database.connection() as connection:
        keys = {each: await certify(connection, each, now=api.clock.now) for each in (victim, other, honest)}
    keeper = AlertKeeper(
        api.database,
        time_zone=ZONE,
        keyring=api.services.keyring,
        metrics=some_metrics(),
        wake_alerts=lambda: None,
    )

    def say(device: str, *bodies: bytes, first: int = 1) -> None:
        for sequence, body in enumerate(bodies, start=first):
            ground.say(device, UplinkKind.EVENT, enveloped(sequence, body))

    def signed(event: Event, device: str, by: str | None = None) -> bytes:
        return device_signing.sign(event, DeviceId(device), keys[by or device])

    async with ground.bench.ingest():
        alert = await an_alert(api)  # and no lane: nobody hears it
        unheard = ("never_heard", False)
        assert await reached(api, keeper, alert) == {victim: unheard, other: unheard, honest: unheard}
        words = heard(alert)
        say(victim, *map(codec.encode, words))
        say(honest, *(signed(each, honest) for each in words))
        # In the other one's name, with keys of the wrong device, and as the other one's: put away, and it counts nothing.
        say(other, *(signed(each, other, victim) for each in words), *(signed(each, victim) for each in words))
        await ground.bench.until_events(4)
        await ground.bench.quarantined("unknown_key", messages=2)
        await ground.bench.quarantined("bad_signature", messages=2)

        # Unsigned words are believed of the device that was spoken for, and told apart from those that it has signed.
        assert await reached(api, keeper, alert) == {
            victim: ("reached", False),
            other: unheard,
            honest: ("reached", True),
        }

        # What it has signed of one version is no word about another, whatever is said between the two.
        say(honest, codec.encode(heard(alert, version=2)[0]), signed(heard(alert)[1], honest), first=3)
        await ground.bench.until_events(6)
        await reached(api, keeper, alert)
        assert await api.fetchval(
            "SELECT (given_version, signed_given_version) = (2, 1) FROM control.alert_reach JOIN control.devices"
            " USING (device_no) WHERE device_id = $1",
            honest,
        )


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


def flood(*, ended: float = 0) -> list[Reading]:
    """Three minutes of a river above its threshold, until so many minutes ago."""
    now = now_ms() - round(ended * MINUTE_MS)
    return [
        Reading(
            device_at_ms=now - ago * MINUTE_MS,
            clock=SYNCHRONISED,
            samples=(Sample(quantity="water_level", value=4.5, unit="m"),),
        )
        for ago in (3, 2, 1, 0)
    ]


async def said(ground: Ground, sensor: str, payloads: list[bytes], *, stored: int) -> None:
    """Say it in the sensor's place, and wait until ingest has stored so much of it and put the rest away."""
    for payload in payloads:
        ground.say(sensor, UplinkKind.READING, payload)
    await ground.bench.eventually(
        "SELECT (SELECT count(*) FROM telemetry.readings r JOIN control.devices d USING (device_no)"
        "         WHERE d.device_id = $1) AS stored,"
        "       (SELECT coalesce(sum(messages), 0) FROM telemetry.quarantine WHERE device = $1) AS put_away",
        lambda rows: tuple(rows[0]) == (stored, len(payloads) - stored),
        sensor,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the rule's alert: its state, how many were signed for devices, how many by nobody's hand."""

    state: str | None
    signed: int
    released: float | None


async def outcome(ground: Ground) -> Outcome:
    api, metrics = ground.api, CollectorRegistry()
    api.clock.now = utc_now()
    await watched(api, a_watcher(api, ControlMetrics(metrics)))
    return Outcome(
        state=await api.fetchval("SELECT state FROM control.alerts"),
        signed=await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'"),
        released=metrics.get_sample_value("control_issued_alerts_total", {"purpose": "automatic_release"}),
    )


async def security_events(api: Api, path: Path) -> list[dict[str, Any]]:
    """What a place that security events are sent to is told of all that has happened."""
    (channel,) = SecurityLog([FileSink(path)])._channels
    await channel.follow_once(api.database, now=utc_now() - timedelta(hours=1))
    while await channel.follow_once(api.database, now=utc_now() + timedelta(minutes=1)):
        pass
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def allow(case: Case) -> None:
    """Two officers let what the rule proposes be released without asking."""
    await case.authorised()


@pytest.mark.parametrize("is_authorised", [False, True], ids=["as_it_comes", "two_officers_allowed_it"])
async def test_forged_readings_are_proposed_to_a_person_and_sound_nothing(ground: Ground, is_authorised: bool) -> None:
    case = await Case.of(ground.api)
    if is_authorised:
        await allow(case)
    async with ground.bench.ingest():
        await said(ground, case.sensor, [codec.encode(each) for each in flood()], stored=4)
    assert await outcome(ground) == Outcome(state="proposed", signed=0, released=0)


def altered(genuine: bytes) -> bytes:
    """A calm river made a flood: the bytes of its level, in what the sensor signed."""
    calm, high = (codec.dumps(each)[1:] for each in (1.5, 4.5))
    assert genuine.count(calm) == 1
    return genuine.replace(calm, high)


FORGERIES = (
    "own_key",
    "key_of_another_sensor",
    "word_of_another_sensor",
    "altered",
    "downgraded",
    "emptied",
    "untyped",
)


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_forged_signatures_fire_nothing_and_are_told(ground: Ground, tmp_path: Path, forgery: str) -> None:
    api, case = ground.api, await Case.of(ground.api)
    await allow(case)
    other = await add_device(api, "11", "sensor")
    async with api.database.connection() as connection:
        other_key = await certify(connection, other, now=api.clock.now)

    def forged(message: Reading) -> bytes:
        me = DeviceId(case.sensor)
        genuine = device_signing.sign(message, me, case.key)
        match forgery:
            case "own_key":
                return device_signing.sign(message, me, new_key())
            case "key_of_another_sensor":
                return device_signing.sign(message, me, other_key)
            case "word_of_another_sensor":
                return device_signing.sign(message, DeviceId(other), other_key)
            case "altered":
                calm = message.samples[0].model_copy(update={"value": 1.5})
                spoken = message.model_copy(update={"samples": (calm,)})
                return altered(device_signing.sign(spoken, me, case.key))
            case "downgraded":
                return attacks.downgraded(genuine)
            case "emptied":
                return attacks.emptied(genuine)
            case _:
                typ = "application/loa-event+cbor"
                return device_signing.seal(codec.encode(message), device=me, media_type=typ, key=case.key)

    path = tmp_path / "events.jsonl"
    assert await security_events(api, path) == []
    async with ground.bench.ingest():
        await said(ground, case.sensor, [forged(each) for each in flood()], stored=0)
    assert await outcome(ground) == Outcome(state=None, signed=0, released=0)
    told = [each for each in await security_events(api, path) if each["event"] == "UPLINK_SIGNATURE_WRONG"]
    assert [each["device"] for each in told] == [case.sensor] * 4
    reason = "unknown_key" if forgery in ("own_key", "key_of_another_sensor") else "bad_signature"
    assert {each["reason"] for each in told} == {reason}


async def test_readings_that_were_kept_back_are_said_again_too_late_to_sound_anything(ground: Ground) -> None:
    case = await Case.of(ground.api, silent_after_s=1_800)
    await allow(case)
    recorded = [device_signing.sign(each, DeviceId(case.sensor), case.key) for each in flood(ended=6)]
    async with ground.bench.ingest():
        await said(ground, case.sensor, recorded, stored=4)
        assert await outcome(ground) == Outcome(state="proposed", signed=0, released=0)


async def test_what_the_sensor_itself_has_signed_sounds_on_whatever_way_it_comes(ground: Ground) -> None:
    """What the tests above differ from: the broker, whoever holds it, only carries it."""
    api = ground.api
    case = await Case.of(api)
    officers = await case.authorised()
    genuine = [device_signing.sign(each, DeviceId(case.sensor), case.key) for each in flood()]
    async with ground.bench.ingest():
        await said(ground, case.sensor, genuine, stored=4)
    assert await outcome(ground) == Outcome(state="in_force", signed=1, released=1)
    facts = await api.fetchval("SELECT after FROM control.audit WHERE action = 'alert_released_automatically'")
    assert facts["officers"] == [each.login for each in officers]
    assert of_audit("alert_released_automatically", at=api.clock.now, facts={}) is not None


async def test_a_stolen_key_is_worth_nothing_from_the_moment_its_certificate_is_revoked(ground: Ground) -> None:
    api, case = ground.api, await Case.of(ground.api)
    await allow(case)
    readings = flood()
    by_thief = [device_signing.sign(each, DeviceId(case.sensor), case.key) for each in readings]
    async with ground.bench.ingest():
        await said(ground, case.sensor, by_thief[:3], stored=3)  # so that ingest holds the key
        async with api.database.connection() as connection:
            await revoke(connection, case.key, reason="stolen")
        ground.say(case.sensor, UplinkKind.READING, by_thief[3])
        # Whether this one came before or after ingest was told, the rule hears that the key is bad.
        await ground.bench.eventually(
            "SELECT (SELECT count(*) FROM telemetry.readings) + (SELECT count(*) FROM telemetry.quarantine)",
            lambda rows: rows[0][0] == 4,
        )
        await said_unsigned(ground, case.sensor, readings[3])
    assert await outcome(ground) == Outcome(state="proposed", signed=0, released=0)


async def said_unsigned(ground: Ground, sensor: str, reading: Reading) -> None:
    """Make sure that the rule is raised, whatever the signatures are worth."""
    ground.say(sensor, UplinkKind.READING, codec.encode(reading))
    await ground.bench.eventually("SELECT count(*) FROM telemetry.readings", lambda rows: rows[0][0] == 4)
