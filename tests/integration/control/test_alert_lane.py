"""The alert lane between a real database and a real broker: at once, before everything else, and never lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from schemas import signing
from schemas.alerts import Alert, Purpose
from schemas.fields import Level
from services.control import alerts, unit_store
from services.control.alerting import alert_store
from services.control.alerting.lane import run_alert_lane
from services.control.alerting.model import Alert as Issued
from services.control.alerting.model import AlertDraft, AlertText, AudienceWish, Severity
from services.control.alerts import By
from services.control.delivery import outbox
from services.control.delivery.outbox import Part
from services.control.planning.recurrence import local_day
from services.control.trust.certificates import ServiceName
from services.control.trust.keyring import Keyring
from services.control.units import UnitTree
from services.local.broker import Broker
from services.shared.clock import utc_now
from services.shared.database.pool import open_database
from services.shared.settings import BrokerSettings
from tests.support.broker import MqttClient, connect_device
from tests.support.control import LOCAL, Province, eventually, quick_delivery, some_metrics, verifier
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

T = TypeVar("T")
HOUR = timedelta(hours=1)


def as_control(broker: Broker) -> BrokerSettings:
    identity = broker.pki.service(ServiceName.CONTROL)
    return BrokerSettings(
        host="localhost",
        port=broker.service_port,
        ca_file=broker.pki.service_ca,
        cert_file=identity.certificate,
        key_file=identity.key,
        keepalive=timedelta(seconds=5),
    )


@asynccontextmanager
async def a_lane(database: TestDatabase, broker: Broker, **changes: Any) -> AsyncIterator[asyncio.Event]:
    """A lane at work, as in a process of its own; gives what wakes it."""
    wake = asyncio.Event()
    async with open_database(database.control, application="lane") as pool, asyncio.TaskGroup() as group:
        task = group.create_task(
            run_alert_lane(
                pool,
                listening=database.control,
                broker=as_control(broker),
                settings=quick_delivery(**changes),
                metrics=some_metrics(),
                wake=wake,
            )
        )
        try:
            yield wake
        finally:
            task.cancel()


async def off_loop(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def tree_of(province: Province) -> UnitTree:
    async with province.control.connection() as connection:
        return (await unit_store.load_units(connection)).on(local_day(utc_now(), LOCAL))


def a_draft(province: Province, unit: str = "a", *, lasts: timedelta = HOUR, **changes: Any) -> AlertDraft:
    values: dict[str, Any] = {
        "unit_id": province.units[unit],
        "event": "Lũ",
        "severity": Severity.EXTREME,
        "texts": (AlertText(language="vi", headline="Lũ khẩn cấp"),),
        "audience": AudienceWish(areas=AudienceWish.of_units(province.units[unit]).areas, kinds=("board",)),
        "valid_until": utc_now() + lasts,
    }
    return AlertDraft(**(values | changes))


async def issued(province: Province, keyring: Keyring, draft: AlertDraft) -> Issued:
    by = By(tree=await tree_of(province))
    async with province.control.transaction() as connection:
        return await alerts.issue(connection, draft, by=by, keyring=keyring, now=utc_now())


async def ended(province: Province, keyring: Keyring, alert: Issued) -> Issued:
    by = By(tree=await tree_of(province))
    async with province.control.transaction() as connection:
        locked = await alert_store.alert_for_update(connection, alert.alert_id)
        return await alerts.cancel(connection, locked, by=by, keyring=keyring, now=utc_now())


def heard(device: MqttClient, keyring: Keyring, alert_id: uuid.UUID, version: int) -> tuple[Alert, Any]:
    """A version of an alert, once the device has it, verified by somebody who knows only the keys."""

    def read(message: Any) -> Alert | None:
        if not message.topic.endswith(str(alert_id)) or not message.payload:
            return None
        return signing.verify(Alert, bytes(message.payload), verifier(keyring))

    def is_it(message: Any) -> bool:
        found = read(message)
        return found is not None and found.alert_version == version

    message = device.wait_for_message(is_it, f"version {version} of {alert_id}")
    found = read(message)
    assert found is not None
    return found, message


async def outbox_empty(province: Province) -> bool:
    return bool(await province.value("SELECT count(*) = 0 FROM control.outbox WHERE kind = 'alert'"))


def listening(broker: Broker, province: Province, unit: str, device_id: str = "loa-0001") -> MqttClient:
    device = connect_device(broker, device_id).__enter__()
    device.subscribe(f"loa/v1/area/{province.units[unit]}/alert/+")
    return device


async def test_an_alert_is_heard_at_once_and_retained_for_who_comes_back_within_its_time(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    device = await off_loop(lambda: listening(broker, province, "a"))
    async with a_lane(database, broker):
        alert = await issued(province, keyring, a_draft(province))
        found, _ = await off_loop(lambda: heard(device, keyring, alert.alert_id, 1))
        await eventually(lambda: outbox_empty(province), what="an empty outbox")
        late = await off_loop(lambda: listening(broker, province, "a", "loa-0002"))
        _, kept = await off_loop(lambda: heard(late, keyring, alert.alert_id, 1))

        assert (found.purpose, found.rank.level, found.rank.severity) == (Purpose.ALERT, Level.EMERGENCY, 4)
        assert kept.retain
        assert 0 < kept.properties.MessageExpiryInterval <= HOUR.total_seconds()
        assert await province.value("SELECT published_at IS NOT NULL FROM control.alert_versions")

        await ended(province, keyring, alert)
        cancel, _ = await off_loop(lambda: heard(late, keyring, alert.alert_id, 2))
        assert cancel.purpose is Purpose.CANCEL
        assert cancel.valid_until_ms == found.valid_until_ms
    for each in (device, late):
        await off_loop(each.close)


async def test_ten_thousand_plans_in_the_outbox_do_not_stand_before_an_alert(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.execute(
        """
        INSERT INTO control.outbox (topic, payload, is_retained, kind, serial, created_at, dispatch_at)
        SELECT 'loa/v1/loa-' || n || '/down/plan', '\\x00', true, 'plan', 1, now(), now() - interval '1 hour'
          FROM generate_series(1, 10000) AS n
        """
    )
    device = await off_loop(lambda: listening(broker, province, "a"))
    async with a_lane(database, broker):
        alert = await issued(province, keyring, a_draft(province))
        await off_loop(lambda: heard(device, keyring, alert.alert_id, 1))
    # The lane takes alerts and nothing else, and the dispatcher nothing but the rest.
    assert await province.value("SELECT count(*) FROM control.outbox WHERE kind = 'plan'") == 10_000
    await off_loop(device.close)


async def test_a_broker_that_lost_everything_is_given_again_what_holds(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    async with a_lane(database, broker):
        alert = await issued(province, keyring, a_draft(province))
        over = await issued(province, keyring, a_draft(province, lasts=timedelta(seconds=11)))
        await eventually(lambda: outbox_empty(province), what="an empty outbox")
        await province.execute(
            "UPDATE control.alerts SET state = 'expired', ended_at = now() WHERE alert_id = $1", over.alert_id
        )

        await broker.kill()
        broker.database.unlink(missing_ok=True)
        await broker.start()

        device = await off_loop(lambda: listening(broker, province, "a"))
        await off_loop(lambda: heard(device, keyring, alert.alert_id, 1))
        assert not [each for each in await off_loop(device.payloads) if str(over.alert_id).encode() in each]
        await off_loop(device.close)


async def test_what_a_killed_lane_had_taken_is_sent_by_another_one(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    alert = await issued(province, keyring, a_draft(province))
    async with province.control.connection() as connection:
        taken = await outbox.claim(
            connection,
            by="control:dead",
            lease=timedelta(seconds=1),
            limit=10,
            part=Part.ALERTS,
            now=utc_now(),
        )
    assert [each.serial for each in taken] == [1]

    device = await off_loop(lambda: listening(broker, province, "a"))
    async with a_lane(database, broker):
        await off_loop(lambda: heard(device, keyring, alert.alert_id, 1))
        await eventually(lambda: outbox_empty(province), what="an empty outbox")
    await off_loop(device.close)


async def test_two_emergencies_from_two_levels_are_both_there_and_ranked(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    device = await off_loop(lambda: listening(broker, province, "a"))
    await off_loop(lambda: device.subscribe(f"loa/v1/area/{province.units['p']}/alert/+"))
    async with a_lane(database, broker), a_lane(database, broker):
        below, above = await asyncio.gather(
            issued(province, keyring, a_draft(province, "a")), issued(province, keyring, a_draft(province, "p"))
        )
        low, _ = await off_loop(lambda: heard(device, keyring, below.alert_id, 1))
        high, _ = await off_loop(lambda: heard(device, keyring, above.alert_id, 1))

    assert (high.rank.issuer_depth, low.rank.issuer_depth) == (0, 1)
    assert high.rank.severity == low.rank.severity
    await off_loop(device.close)
