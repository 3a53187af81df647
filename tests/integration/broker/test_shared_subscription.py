"""The shared subscription that ingest lives on, and devices that try to get a share."""

import secrets

import pytest

from schemas.topics import shared, uplink_filters
from services.control.trust.certificates import ServiceName
from services.local.broker import Broker
from tests.support.broker import NEVER_EXPIRES, MqttClient, connect_device, connect_service, run

pytestmark = pytest.mark.integration

EVENTS = "loa/v1/+/up/event"
COUNT = 20


def publish_events(device: MqttClient, name: str) -> list[bytes]:
    payloads = [f"{name} {number}".encode() for number in range(COUNT)]
    for payload in payloads:
        device.publish("loa/v1/cluster-a/up/event", payload)
    return payloads


def test_a_thief_who_guesses_the_group_gets_nothing_but_ingest_loses(broker: Broker) -> None:
    """Why the group's name is a secret: Mosquitto does not check SUBSCRIBE, and deals a share to whoever joined."""
    with (
        connect_service(broker, ServiceName.INGEST) as ingest,
        connect_device(broker, "cluster-a") as device,
        connect_device(broker, "thief") as thief,
    ):
        ingest.subscribe(shared("ingest", EVENTS))
        thief.subscribe(shared("ingest", EVENTS))

        publish_events(device, "stolen")
        thief.close()
        device.publish("loa/v1/cluster-a/up/event", b"after")

        ingest.wait_for(b"after")
        assert thief.payloads() == []
        assert len(ingest.payloads()) == COUNT // 2 + 1


def test_a_thief_who_does_not_know_the_group_takes_nothing(broker: Broker) -> None:
    group = secrets.token_urlsafe(16)
    with (
        connect_service(broker, ServiceName.INGEST) as ingest,
        connect_device(broker, "cluster-a") as device,
        connect_device(broker, "thief") as thief,
    ):
        ingest.subscribe(shared(group, EVENTS))
        for guess in ("ingest", group[:-1], f"{group}x", group.swapcase()):
            thief.subscribe(shared(guess, EVENTS))
            thief.subscribe(shared(guess, "loa/v1/+/up/#"))
            thief.subscribe(shared(guess, "#"))

        expected = publish_events(device, "kept")

        ingest.wait_for(expected[-1])
        assert ingest.payloads() == expected
        assert thief.payloads() == []


def test_replicas_share_what_comes_and_a_stranded_one_keeps_its_part(broker: Broker) -> None:
    durable = {"clean_start": False, "session_expiry_s": NEVER_EXPIRES}
    with connect_device(broker, "cluster-a") as device:
        first = connect_service(broker, ServiceName.INGEST, client_id="ingest:1", **durable)
        second = connect_service(broker, ServiceName.INGEST, client_id="ingest:2", **durable)
        for replica in (first, second):
            for topic_filter in uplink_filters():
                replica.subscribe(shared("group", topic_filter))
        both = publish_events(device, "both")
        first.wait_for(both[-2])
        second.wait_for(both[-1])
        assert sorted(first.payloads() + second.payloads()) == sorted(both)

        # Nobody takes over for a replica that is gone: what is dealt to it waits for it.
        second.die()
        later = publish_events(device, "later")
        first.wait_for(later[-2])
        with connect_service(broker, ServiceName.INGEST, client_id="ingest:2", **durable) as second:
            assert second.session_present
            second.wait_for(later[-1])
            # (An acknowledgement it did not get out any more may bring its last message a second time.)
            assert (set(first.payloads()) | set(second.payloads())) & set(later) == set(later)
            # Without subscribing again, as long as the broker has not been restarted.
            more = publish_events(device, "more")
            second.wait_for(more[-1])
        first.close()


def test_ingest_subscribes_again_after_the_broker_has_restarted_and_misses_nothing_queued(broker: Broker) -> None:
    """Mosquitto before 2.0.12 forgets shared subscriptions when it restarts, though it says the session is present."""
    durable = {"clean_start": False, "session_expiry_s": NEVER_EXPIRES}
    group = shared("group", EVENTS)
    with connect_device(broker, "cluster-a") as device:
        ingest = connect_service(broker, ServiceName.INGEST, **durable)
        ingest.subscribe(group)
        ingest.die()
        queued = publish_events(device, "queued")
    run(broker.stop())
    run(broker.start())

    with (
        connect_service(broker, ServiceName.INGEST, **durable) as ingest,
        connect_device(broker, "cluster-a") as device,
    ):
        assert ingest.session_present
        ingest.subscribe(group)
        fresh = publish_events(device, "fresh")
        ingest.wait_for(fresh[-1])
        assert ingest.payloads() == queued + fresh
