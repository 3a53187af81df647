"""What is still there after the broker was stopped, and after it was killed."""

import pytest

from services.control.trust.certificates import ServiceName
from services.local.broker import Broker
from tests.support.broker import (
    NEVER_EXPIRES,
    NO_MATCHING_SUBSCRIBERS,
    SUCCESS,
    Will,
    connect_device,
    connect_service,
    eventually,
    run,
)

pytestmark = pytest.mark.integration

PLAN = "loa/v1/cluster-a/down/plan"
PRESENCE = "loa/v1/cluster-a/presence"


def publish_plan(broker: Broker, plan: bytes) -> None:
    with connect_service(broker, ServiceName.CONTROL) as control:
        assert control.publish(PLAN, plan, retain=True, expiry_s=7 * 86400) in (SUCCESS, NO_MATCHING_SUBSCRIBERS)


def received_plan(broker: Broker) -> bytes:
    """The plan a device gets when it subscribes; `end` when there is none."""
    with connect_device(broker, "cluster-a") as device, connect_service(broker, ServiceName.CONTROL) as control:
        device.subscribe("loa/v1/cluster-a/down/#")
        control.publish("loa/v1/cluster-a/down/command", b"end")
        device.wait_for(b"end")
        return device.payloads()[0]


def test_a_plan_survives_a_restart(broker: Broker) -> None:
    publish_plan(broker, b"plan 1")
    run(broker.stop())
    run(broker.start())
    assert received_plan(broker) == b"plan 1"


def test_a_plan_survives_a_power_cut_once_it_has_been_saved(broker: Broker) -> None:
    publish_plan(broker, b"plan 1")
    run(broker.save())
    run(broker.kill())
    run(broker.start())
    assert received_plan(broker) == b"plan 1"


def test_what_was_retained_after_the_last_save_is_gone_with_the_power(broker: Broker) -> None:
    """Why retained messages are a cache, and control compares serials and publishes again."""
    publish_plan(broker, b"plan 1")
    run(broker.save())
    publish_plan(broker, b"plan 2")
    run(broker.kill())
    run(broker.start())
    assert received_plan(broker) == b"plan 1"


def test_events_queued_for_ingest_survive_a_restart(broker: Broker) -> None:
    durable = {"clean_start": False, "session_expiry_s": NEVER_EXPIRES}
    with connect_device(broker, "cluster-a") as device:
        ingest = connect_service(broker, ServiceName.INGEST, **durable)
        ingest.subscribe("loa/v1/+/up/event")
        ingest.die()
        for number in range(10):
            device.publish("loa/v1/cluster-a/up/event", f"{number}".encode())
    run(broker.stop())
    run(broker.start())
    with connect_service(broker, ServiceName.INGEST, **durable) as ingest:
        assert ingest.session_present
        ingest.wait_for(b"9")
        assert ingest.payloads() == [f"{number}".encode() for number in range(10)]


def test_a_stop_publishes_every_will_and_a_power_cut_none(broker: Broker) -> None:
    """After a power cut a retained "online" may speak of a device that is not: only its next heartbeat tells."""
    will = Will(topic=PRESENCE, payload=b"offline")

    def presence_after(end: str) -> bytes:
        device = connect_device(broker, "cluster-a", will=will)
        device.publish(PRESENCE, b"online", retain=True)
        run(broker.save())
        run(broker.stop() if end == "stop" else broker.kill())
        device.wait_until_disconnected()
        device.close()
        run(broker.start())
        with connect_service(broker, ServiceName.INGEST) as ingest:
            ingest.subscribe("loa/v1/+/presence")
            return bytes(ingest.wait_for_message(lambda message: message.topic == PRESENCE, "presence").payload)

    assert presence_after("stop") == b"offline"
    assert presence_after("power cut") == b"online"


def test_an_expired_alert_is_not_delivered_any_more(broker: Broker) -> None:
    area = "loa/v1/area/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a11/alert"
    with connect_service(broker, ServiceName.CONTROL) as control:
        control.publish(f"{area}/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a12", b"over", retain=True, expiry_s=1)
        control.publish(f"{area}/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a13", b"in force", retain=True, expiry_s=600)

        def received() -> list[bytes]:
            with connect_device(broker, "cluster-a") as device:
                device.subscribe(f"{area}/+")
                device.wait_for(b"in force")
                device.subscribe("loa/v1/cluster-a/down/command")
                control.publish("loa/v1/cluster-a/down/command", b"end")
                device.wait_for(b"end")
                return device.payloads()

        eventually(lambda: received() == [b"in force", b"end"])
