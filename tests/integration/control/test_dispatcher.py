"""The dispatcher between a real database and a real broker, listened to by an independent client (paho)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from schemas import signing
from schemas.identifiers import DeviceId
from schemas.keys import KeySet
from schemas.plans import Plan
from schemas.topics import Downlink, DownlinkKind, format_topic
from services.control.delivery import outbox
from services.control.delivery.connection import BrokerUnreachable, PublishRefused, connected
from services.control.delivery.dispatcher import Dispatcher, run_dispatcher
from services.control.delivery.outbox import Publish
from services.control.trust.certificates import ServiceName
from services.control.trust.keyring import Keyring, load_keyring
from services.local import key_sets
from services.local.broker import Broker
from services.local.pki import load_signing_key
from services.shared.clock import utc_now
from services.shared.database.pool import open_database
from services.shared.settings import BrokerSettings
from tests.support.broker import MqttClient, connect_device
from tests.support.control import Province, a_planner, eventually, quick_delivery, some_metrics, verifier
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

T = TypeVar("T")
SECOND = timedelta(seconds=1)


@pytest.fixture
def keyring(broker: Broker) -> Keyring:
    """The keys of the same private infrastructure as the broker's certificates."""
    key_sets.current(broker.pki, now=utc_now())
    return load_keyring(broker.pki.platform_signing_key, key_sets.path(broker.pki))


def as_control(broker: Broker, service: ServiceName = ServiceName.CONTROL) -> BrokerSettings:
    identity = broker.pki.service(service)
    return BrokerSettings(
        host="localhost",
        port=broker.service_port,
        ca_file=broker.pki.service_ca,
        cert_file=identity.certificate,
        key_file=identity.key,
        keepalive=timedelta(seconds=5),
    )


@asynccontextmanager
async def dispatching(database: TestDatabase, broker: Broker, **changes: Any) -> AsyncIterator[None]:
    """A dispatcher at work, with a pool of its own, as in a process of its own."""
    async with open_database(database.control, application="dispatcher") as pool, asyncio.TaskGroup() as group:
        task = group.create_task(
            run_dispatcher(
                pool,
                listening=database.control,
                broker=as_control(broker),
                settings=quick_delivery(**changes),
                metrics=some_metrics(),
            )
        )
        try:
            yield
        finally:
            task.cancel()


async def off_loop(work: Callable[[], T]) -> T:
    """What paho's client waits for, waited for beside the event loop the dispatcher runs in."""
    return await asyncio.to_thread(work)


async def settle(province: Province, keyring: Keyring) -> None:
    planner = a_planner(province.control, keyring)
    await planner.turn()


async def outbox_empty(province: Province) -> bool:
    return bool(await province.value("SELECT count(*) = 0 FROM control.outbox"))


def topic(device_id: str, kind: DownlinkKind = DownlinkKind.PLAN) -> str:
    return format_topic(Downlink(principal=DeviceId(device_id), kind=kind, device=DeviceId(device_id)))


def held_plan(device: MqttClient, keyring: Keyring, device_id: str, serial: int) -> Plan:
    """The plan of a serial, once the device has it; verified by somebody who knows only the keys."""

    def is_it(message: Any) -> bool:
        return (
            message.topic == topic(device_id)
            and bool(message.payload)
            and signing.verify(Plan, bytes(message.payload), verifier(keyring)).serial == serial
        )

    message = device.wait_for_message(is_it, f"plan {serial} of {device_id}")
    return signing.verify(Plan, bytes(message.payload), verifier(keyring))


async def test_a_device_that_connects_finds_its_keys_and_its_signed_plan(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    await province.device("loa-0002", "b1")
    broadcast = await province.broadcast("a", [await province.bulletin(seconds=30)])
    await settle(province, keyring)
    async with dispatching(database, broker):
        await eventually(lambda: outbox_empty(province), what="an empty outbox")

    def look() -> tuple[Plan, KeySet, Any]:
        with connect_device(broker, "loa-0001") as device:
            device.subscribe("loa/v1/loa-0001/down/#")
            plan = held_plan(device, keyring, "loa-0001", 1)
            keys = device.wait_for_message(lambda m: m.topic == topic("loa-0001", DownlinkKind.KEYS), "keys")
            root = load_signing_key(broker.pki.root_signing_key).public_key()
            plan_message = device.wait_for_message(lambda m: m.topic == topic("loa-0001"), "plan")
            return plan, signing.verify(KeySet, bytes(keys.payload), {signing.key_id(root): root}), plan_message

    plan, keys, message = await off_loop(look)
    assert [emission.broadcast_id for emission in plan.emissions] == [broadcast]
    assert keyring.kid in {key.kid for key in keys.keys}
    assert message.retain
    # The broker forgets the plan when it ends.
    assert 0 < message.properties.MessageExpiryInterval <= timedelta(days=8).total_seconds()
    issued = await province.rows("SELECT kind, published_at FROM control.issued_orders ORDER BY device_no, kind")
    assert len(issued) == 6
    assert all(row["published_at"] is not None for row in issued)


async def test_a_change_reaches_a_connected_device_and_leaves_others_alone(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    await province.device("loa-0002", "b1")
    await settle(province, keyring)
    async with dispatching(database, broker):
        await eventually(lambda: outbox_empty(province), what="an empty outbox")
        first, second = await off_loop(lambda: [connect_device(broker, each) for each in ("loa-0001", "loa-0002")])
        try:
            await off_loop(lambda: [each.subscribe("loa/v1/+/down/plan") for each in (first, second)])
            await off_loop(lambda: held_plan(first, keyring, "loa-0001", 1))
            await off_loop(lambda: held_plan(second, keyring, "loa-0002", 1))

            broadcast = await province.broadcast("a", [await province.bulletin()])
            await settle(province, keyring)
            plan = await off_loop(lambda: held_plan(first, keyring, "loa-0001", 2))
            assert [emission.broadcast_id for emission in plan.emissions] == [broadcast]

            await province.withdraw(broadcast)
            await settle(province, keyring)
            assert (await off_loop(lambda: held_plan(first, keyring, "loa-0001", 3))).emissions == ()

            # The other one's next plan is its second: nothing was sent to it in between.
            await province.broadcast("b", [await province.bulletin()])
            await settle(province, keyring)
            await off_loop(lambda: held_plan(second, keyring, "loa-0002", 2))
            assert len(second.payloads(topic("loa-0002"))) == 2
        finally:
            await off_loop(first.close)
            await off_loop(second.close)


async def test_the_broker_may_be_away(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    async with dispatching(database, broker):
        await settle(province, keyring)
        await eventually(lambda: outbox_empty(province), what="an empty outbox")

        await broker.kill()
        await province.broadcast("p", [await province.bulletin()])
        await settle(province, keyring)
        assert not await outbox_empty(province)
        await broker.start()
        await eventually(lambda: outbox_empty(province), what="an empty outbox after the broker came back")

    def look() -> Plan:
        with connect_device(broker, "loa-0001") as device:
            device.subscribe("loa/v1/loa-0001/down/plan")
            return held_plan(device, keyring, "loa-0001", 2)

    assert len((await off_loop(look)).emissions) == 1


async def test_two_dispatchers_share_the_work(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    # Nobody but a device may read plans, so one gateway listens for forty devices behind it.
    await province.device("gw-1", "a", "gateway")
    for number in range(40):
        await province.device(f"loa-{number:04}", "a1", gateway="gw-1")
    gateway = await off_loop(lambda: connect_device(broker, "gw-1"))
    try:
        await off_loop(lambda: gateway.subscribe("loa/v1/gw-1/down/#"))
        async with dispatching(database, broker, batch=5), dispatching(database, broker, batch=5):
            await settle(province, keyring)
            await eventually(lambda: outbox_empty(province), what="an empty outbox")

        def plans() -> list[str]:
            return sorted(message.topic for message in gateway.messages if "/down/plan/" in message.topic)

        await eventually(lambda: asyncio.sleep(0, len(plans()) >= 40), what="forty plans")
        # Each exactly once: with nobody dying there is no reason for a second time.
        assert plans() == [f"loa/v1/gw-1/down/plan/loa-{number:04}" for number in range(40)]
    finally:
        await off_loop(gateway.close)


async def test_killed_between_publish_and_mark_it_is_sent_twice_and_never_lost(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    await province.execute("DELETE FROM control.outbox WHERE kind <> 'plan'")

    class Killed(BaseException):
        """Nothing of the dispatcher runs after this."""

    dispatcher = Dispatcher(
        province.control, broker=as_control(broker), settings=quick_delivery(lease=2 * SECOND), metrics=some_metrics()
    )

    async def die(*_: object) -> None:
        raise Killed

    dispatcher._settle = die  # type: ignore[method-assign,assignment]
    device = await off_loop(lambda: connect_device(broker, "loa-0001"))
    try:
        await off_loop(lambda: device.subscribe("loa/v1/loa-0001/down/plan"))
        async with connected(
            as_control(broker), client_id="control:doomed", inflight=1, publish_timeout=5 * SECOND
        ) as connection:
            with pytest.raises(Killed):
                await dispatcher.send_once(connection)
        await off_loop(lambda: held_plan(device, keyring, "loa-0001", 1))
        assert not await outbox_empty(province)

        # The lease of the dead one runs out, and somebody else does it again.
        async with dispatching(database, broker):
            await eventually(lambda: outbox_empty(province), what="an empty outbox")
        await eventually(
            lambda: asyncio.sleep(0, len(device.payloads(topic("loa-0001"))) == 2), what="the plan a second time"
        )
        assert len(set(device.payloads(topic("loa-0001")))) == 1
    finally:
        await off_loop(device.close)


async def test_a_stopped_dispatcher_gives_back_what_it_has(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    dispatcher = Dispatcher(
        province.control, broker=as_control(broker), settings=quick_delivery(lease=600 * SECOND), metrics=some_metrics()
    )
    has_begun = asyncio.Event()

    class Stuck:
        async def publish(self, *_: object, **__: object) -> None:
            has_begun.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(dispatcher.send_once(Stuck()))  # type: ignore[arg-type]
        await has_begun.wait()
        task.cancel()

    async with province.control.connection() as connection:
        again = await outbox.claim(connection, by="two", lease=SECOND, limit=10, now=utc_now())
    assert len(again) == 3


async def test_a_publish_the_broker_refuses_is_kept_and_tried_again(
    province: Province, database: TestDatabase, broker: Broker
) -> None:
    # The monitor may read everything and publish nothing: what it publishes is refused with a reason code.
    async with connected(
        as_control(broker, ServiceName.MONITOR), client_id="monitor:2", inflight=1, publish_timeout=5 * SECOND
    ) as connection:
        with pytest.raises(PublishRefused) as refused:
            await connection.publish(topic("loa-0001"), b"x", is_retained=True, expires_at=None, now=utc_now())
    assert refused.value.code == 0x87

    plan_topic = Downlink(principal=DeviceId("loa-0001"), kind=DownlinkKind.PLAN, device=DeviceId("loa-0001"))
    async with province.control.transaction() as database_connection:
        await outbox.enqueue(database_connection, [Publish(topic=plan_topic, payload=b"x", kind="plan")], at=utc_now())
    dispatcher = Dispatcher(
        province.control,
        broker=as_control(broker, ServiceName.MONITOR),
        settings=quick_delivery(),
        metrics=some_metrics(),
    )
    async with connected(
        as_control(broker, ServiceName.MONITOR), client_id="monitor:2", inflight=1, publish_timeout=5 * SECOND
    ) as connection:
        assert not await dispatcher.send_once(connection)
    (row,) = await province.rows("SELECT attempts, last_error, leased_until, dispatch_at FROM control.outbox")
    assert (row["attempts"], row["leased_until"]) == (1, None)
    assert "0x87" in row["last_error"]
    assert row["dispatch_at"] > utc_now()


# paho leaves a socket whose handshake failed to the garbage collector, which closes it at once, with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_never_answers_is_unreachable_and_leaves_nothing_running(broker: Broker) -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        silent = as_control(broker).model_copy(update={"port": port, "connect_timeout": SECOND})

        async def connect() -> None:
            async with connected(silent, client_id="control:x", inflight=1, publish_timeout=SECOND):
                raise AssertionError("nobody has answered")

        with pytest.raises(BrokerUnreachable):
            await connect()

        # A stop while connecting: what the connecting thread still opens is closed again.
        async with asyncio.TaskGroup() as group:
            task = group.create_task(connect())
            await eventually(lambda: asyncio.sleep(0, len(writers) == 2), what="a second connection")
            task.cancel()
        assert task.cancelled()
        for writer in writers:
            writer.close()


async def test_a_message_too_large_for_the_wire_is_given_up_and_does_not_stop_others(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    poison = Downlink(principal=DeviceId("loa-0002"), kind=DownlinkKind.PLAN, device=DeviceId("loa-0002"))
    async with province.control.transaction() as connection:
        await outbox.enqueue(connection, [Publish(topic=poison, payload=b"x" * 400_000, kind="plan")], at=utc_now())
    await settle(province, keyring)
    async with dispatching(database, broker):
        await eventually(lambda: outbox_empty(province), what="an empty outbox")


# --- the cache check -------------------------------------------------------------------------------------------------


async def published(province: Province, *, minutes: float) -> None:
    """As if everything had been published a while ago."""
    await province.execute("DELETE FROM control.outbox")
    await province.execute(
        "UPDATE control.issued_orders SET published_at = $1, issued_at = $1",
        utc_now() - timedelta(minutes=minutes),
    )


def a_dispatcher(province: Province, broker: Broker, **changes: Any) -> Dispatcher:
    return Dispatcher(
        province.control, broker=as_control(broker), settings=quick_delivery(**changes), metrics=some_metrics()
    )


async def requeued(province: Province) -> list[str]:
    rows = await province.rows("DELETE FROM control.outbox RETURNING topic")
    return sorted(row["topic"] for row in rows)


async def test_what_a_device_does_not_show_is_sent_again(province: Province, broker: Broker, keyring: Keyring) -> None:
    await province.device("loa-0001", "a1")
    await province.device("loa-0002", "a1")
    await settle(province, keyring)
    await published(province, minutes=10)
    await province.heard("loa-0001", plan_serial=None, config_serial=1)
    await province.heard("loa-0002", plan_serial=1, config_serial=1)
    dispatcher = a_dispatcher(province, broker)

    await dispatcher.compare_once()

    # With the plan go the keys, without which it would not be believed.
    assert await requeued(province) == [topic("loa-0001", DownlinkKind.KEYS), topic("loa-0001")]
    await dispatcher.compare_once()
    assert await requeued(province) == []


async def test_a_device_is_given_time(province: Province, broker: Broker, keyring: Keyring) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    await published(province, minutes=1)
    await province.heard("loa-0001")

    await a_dispatcher(province, broker, republish_after=timedelta(minutes=2)).compare_once()

    assert await requeued(province) == []


async def test_a_device_not_heard_since_is_left_alone(province: Province, broker: Broker, keyring: Keyring) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    await published(province, minutes=10)
    await province.heard("loa-0001", at=utc_now() - timedelta(minutes=20))

    await a_dispatcher(province, broker).compare_once()

    assert await requeued(province) == []


async def test_sending_again_is_damped(province: Province, broker: Broker, keyring: Keyring) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    await province.execute("UPDATE control.issued_orders SET republications = 3 WHERE kind = 'plan'")
    await published(province, minutes=15)  # after three attempts the wait is 8 x 2 minutes
    await province.heard("loa-0001", config_serial=1)
    dispatcher = a_dispatcher(province, broker, republish_after=timedelta(minutes=2))

    await dispatcher.compare_once()
    assert await requeued(province) == []

    await published(province, minutes=17)
    await dispatcher.compare_once()
    assert topic("loa-0001") in await requeued(province)


async def test_a_device_behind_a_gateway_is_sent_to_again_with_the_gateways_keys(
    province: Province, broker: Broker, keyring: Keyring
) -> None:
    await province.device("gw-1", "a", "gateway")
    await province.device("loa-0001", "a1", gateway="gw-1")
    await settle(province, keyring)
    await published(province, minutes=10)
    await province.heard("loa-0001", plan_serial=None, config_serial=1, principal="gw-1")

    await a_dispatcher(province, broker).compare_once()

    assert await requeued(province) == ["loa/v1/gw-1/down/keys", "loa/v1/gw-1/down/plan/loa-0001"]


async def test_a_serial_behind_a_devices_own_is_raised_above_it(
    province: Province, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    await published(province, minutes=10)
    await province.heard("loa-0001", plan_serial=41, config_serial=1)  # our database is yesterday's

    await a_dispatcher(province, broker).compare_once()
    await settle(province, keyring)

    assert await province.value("SELECT serial FROM control.issued_orders WHERE kind = 'plan'") == 42
    assert topic("loa-0001") in await requeued(province)


async def test_a_device_cannot_wear_out_the_counter(province: Province, broker: Broker, keyring: Keyring) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    await published(province, minutes=10)
    await province.heard("loa-0001", plan_serial=2**63 - 1, config_serial=1)

    await a_dispatcher(province, broker).compare_once()
    await settle(province, keyring)

    assert await province.value("SELECT serial FROM control.issued_orders WHERE kind = 'plan'") == 1


async def test_a_broker_that_lost_its_retained_messages_is_filled_again(
    province: Province, database: TestDatabase, broker: Broker, keyring: Keyring
) -> None:
    await province.device("loa-0001", "a1")
    await settle(province, keyring)
    async with dispatching(database, broker, republish_after=SECOND):
        await eventually(lambda: outbox_empty(province), what="an empty outbox")

        def clear() -> None:
            identity = broker.pki.service(ServiceName.CONTROL)
            with MqttClient(broker.service_port, broker.pki, identity, client_id="control:test") as client:
                for kind in (DownlinkKind.PLAN, DownlinkKind.KEYS, DownlinkKind.CONFIG):
                    client.publish(topic("loa-0001", kind), b"", retain=True)

        await off_loop(clear)
        device = await off_loop(lambda: connect_device(broker, "loa-0001"))
        try:
            await off_loop(lambda: device.subscribe("loa/v1/loa-0001/down/#"))
            assert device.payloads() == []

            async def heartbeat_until_here() -> bool:
                await province.heard("loa-0001", plan_serial=None, config_serial=None)
                return len(device.payloads()) >= 3

            await eventually(heartbeat_until_here, what="keys, configuration and plan again")
            await off_loop(lambda: held_plan(device, keyring, "loa-0001", 1))
        finally:
            await off_loop(device.close)
