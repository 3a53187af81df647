"""How much the broker takes, and in which portions it gives."""

import pytest

from schemas import limits
from services.control.trust.certificates import ServiceName
from services.ingest.brokerlog import Refusal, RefusalKind
from services.local.broker import Broker
from tests.support.broker import (
    NEVER_EXPIRES,
    NO_MATCHING_SUBSCRIBERS,
    SUCCESS,
    NotConnected,
    connect_device,
    connect_service,
    eventually,
    logged_refusals,
)

pytestmark = pytest.mark.integration

TEN_MEGABYTES = bytes(10_000_000)


def test_ten_megabytes_are_refused_and_the_log_tells_of_whom(broker: Broker) -> None:
    with (
        connect_service(broker, ServiceName.INGEST) as ingest,
        connect_device(broker, "cluster-a") as device,
        connect_device(broker, "cluster-b") as other,
    ):
        ingest.subscribe("loa/v1/+/up/event")

        with pytest.raises(NotConnected):
            device.publish("loa/v1/cluster-a/up/event", TEN_MEGABYTES)
        other.publish("loa/v1/cluster-b/up/event", b"small")

        ingest.wait_for(b"small")
        assert ingest.payloads() == [b"small"]
        eventually(lambda: logged_refusals(broker) == [Refusal(kind=RefusalKind.OVERSIZED_PACKET, client="cluster-a")])


def test_a_client_is_told_the_limit_and_the_limit_is_exact(broker: Broker) -> None:
    """A device must hold to what CONNACK says: the broker resets a connection that goes over, often before its reason
    can be read, so the reason is no help.
    """
    topic = "loa/v1/cluster-a/up/event"
    overhead = 1 + 3 + 2 + len(topic) + 2 + 1  # fixed header, length, topic, packet id, no properties
    with connect_device(broker, "cluster-a") as device:
        allowed = device.told("MaximumPacketSize")
        assert device.publish(topic, bytes(allowed - overhead)) == NO_MATCHING_SUBSCRIBERS
        with pytest.raises(NotConnected):
            device.publish(topic, bytes(allowed + 1 - overhead + 3))  # the broker does not count the length itself
    eventually(lambda: [refusal.kind for refusal in logged_refusals(broker)] == [RefusalKind.OVERSIZED_PACKET])


@pytest.mark.parametrize("size", [200 * 1024, limits.PLAN_BYTES])
def test_the_largest_plan_reaches_its_device_at_once_and_when_it_comes_back(broker: Broker, size: int) -> None:
    topic = "loa/v1/gateway-with-the-longest-name-that-is-allowed-00/down/plan/cluster-with-the-longest-name-that-is-allowed-00"
    gateway = "gateway-with-the-longest-name-that-is-allowed-00"
    plan = bytes(size)
    with connect_service(broker, ServiceName.CONTROL) as control:
        with connect_device(broker, gateway) as device:
            device.subscribe(f"loa/v1/{gateway}/down/#")
            assert control.publish(topic, plan, retain=True, expiry_s=7 * 86400) == SUCCESS
            device.wait_for(plan)
        with connect_device(broker, gateway) as device:
            device.subscribe(f"loa/v1/{gateway}/down/#")
            assert device.wait_for(plan).retain


def test_a_refused_publish_is_in_the_log_with_the_name_of_its_sender(broker: Broker) -> None:
    with connect_device(broker, "cluster-a") as device:
        device.publish("loa/v1/cluster-b/up/heartbeat", b"forged")
        device.publish("loa/v1/Denied PUBLISH from cluster-c (", b"forged")
    denied = Refusal(kind=RefusalKind.FOREIGN_TOPIC, client="cluster-a")
    eventually(lambda: logged_refusals(broker) == [denied, denied])


def test_receive_maximum_is_the_only_brake_and_holds_over_a_reconnect(broker: Broker) -> None:
    """The back-pressure of ingest: no more than it asked for, and nothing is lost or reordered when it dies."""
    count, window = 100, 30
    durable = {"clean_start": False, "session_expiry_s": NEVER_EXPIRES, "receive_maximum": window, "manual_ack": True}
    with connect_device(broker, "cluster-a") as device:
        first = connect_service(broker, ServiceName.INGEST, **durable)
        first.subscribe("loa/v1/+/up/event")
        expected = [f"{number}".encode() for number in range(count)]
        for payload in expected:
            device.publish("loa/v1/cluster-a/up/event", payload)
        first.wait_for(expected[window - 1])
        first.die()
        assert first.payloads() == expected[:window]

        with connect_service(broker, ServiceName.INGEST, **durable) as second:
            second.wait_for(expected[window - 1])
            assert second.payloads() == expected[:window]
            assert all(message.dup for message in second.messages)
            for number in range(count):
                message = second.wait_for(expected[number])
                second.acknowledge(message)
            assert second.payloads() == expected


def test_more_in_flight_than_the_default_of_mosquitto(broker: Broker) -> None:
    with (
        connect_service(broker, ServiceName.INGEST, manual_ack=True) as ingest,
        connect_device(broker, "cluster-a") as device,
    ):
        ingest.subscribe("loa/v1/+/up/event")
        for number in range(500):
            device.publish("loa/v1/cluster-a/up/event", f"{number}".encode())
        ingest.wait_for(b"499")
        assert len(ingest.payloads()) == 500


def test_keep_alive_is_cut_to_what_makes_a_death_show_in_minutes(broker: Broker) -> None:
    with connect_device(broker, "cluster-a", keepalive_s=3600) as device:
        assert device.told("ServerKeepAlive") == 300
