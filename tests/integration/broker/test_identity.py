"""Who gets in, as whom, and what that lets them do."""

from datetime import timedelta

import pytest

from schemas.errors import InvalidIdentifier
from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName
from services.local.broker import Broker, has_ipv6_loopback
from services.local.pki import Pki, issue_devices
from services.shared.clock import utc_now
from tests.support.broker import (
    NOT_AUTHORIZED,
    SUCCESS,
    MqttClient,
    NotConnected,
    Will,
    connect_device,
    connect_service,
    device_identity,
    mint,
)

pytestmark = pytest.mark.integration

UPLINKS = "loa/v1/+/up/+"


def test_a_device_publishes_on_its_own_topics_only(broker: Broker) -> None:
    with connect_service(broker, ServiceName.INGEST) as ingest, connect_device(broker, "cluster-a") as device:
        ingest.subscribe(UPLINKS)

        refused = device.publish("loa/v1/cluster-b/up/heartbeat", b"forged")
        accepted = device.publish("loa/v1/cluster-a/up/heartbeat", b"own")

        assert (refused, accepted) == (NOT_AUTHORIZED, SUCCESS)
        ingest.wait_for(b"own")
        assert ingest.payloads() == [b"own"]


@pytest.mark.parametrize(
    "topic",
    [
        "loa/v1/cluster-b/presence",
        "loa/v1/cluster-a/down/plan",
        "loa/v1/area/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a11/alert/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a12",
        "loa/v1/cluster-a/up/unheard-of",
        "loa/v1/cluster-a/up/event/cluster-b/deeper",
        "loa/v1/cluster-a",
        "$SYS/broker/uptime",
        "anything",
    ],
)
def test_a_device_cannot_publish_anywhere_else(broker: Broker, topic: str) -> None:
    with connect_device(broker, "cluster-a") as device:
        assert device.publish(topic, b"x") == NOT_AUTHORIZED


def test_a_device_does_not_receive_what_is_meant_for_another(broker: Broker) -> None:
    with connect_service(broker, ServiceName.CONTROL) as control, connect_device(broker, "cluster-a") as device:
        # The broker grants every subscription; the rules are applied to each message.
        for topic_filter in ("loa/v1/cluster-b/down/#", "loa/v1/+/down/#", "#", "loa/v1/cluster-a/down/#"):
            device.subscribe(topic_filter)

        control.publish("loa/v1/cluster-b/down/plan", b"another's", retain=True)
        control.publish("loa/v1/cluster-a/down/plan", b"own", retain=True)

        device.wait_for(b"own")
        assert set(device.payloads()) == {b"own"}


def test_a_device_does_not_receive_what_another_retained_before_it_came(broker: Broker) -> None:
    with connect_service(broker, ServiceName.CONTROL) as control:
        control.publish("loa/v1/cluster-b/down/plan", b"another's", retain=True)
        control.publish("loa/v1/cluster-a/down/plan", b"own", retain=True)

    with connect_device(broker, "cluster-a") as device:
        device.subscribe("loa/v1/+/down/#")
        device.subscribe("loa/v1/cluster-a/down/plan")
        device.wait_for(b"own")
        assert set(device.payloads()) == {b"own"}


def test_a_device_does_not_see_uplinks_presence_or_the_brokers_numbers(broker: Broker) -> None:
    with (
        connect_service(broker, ServiceName.CONTROL) as control,
        connect_device(broker, "cluster-a") as device,
        connect_device(broker, "cluster-b") as other,
    ):
        for topic_filter in ("loa/v1/+/up/#", "loa/v1/+/presence", "$SYS/#"):
            device.subscribe(topic_filter)
        device.subscribe("loa/v1/cluster-a/down/command")

        other.publish("loa/v1/cluster-b/up/heartbeat", b"another's")
        other.publish("loa/v1/cluster-b/presence", b"another's", retain=True)
        control.publish("loa/v1/cluster-a/down/command", b"own")

        device.wait_for(b"own")
        assert device.payloads() == [b"own"]


def test_every_device_receives_alerts(broker: Broker) -> None:
    topic = "loa/v1/area/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a11/alert/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a12"
    with connect_service(broker, ServiceName.CONTROL) as control, connect_device(broker, "cluster-a") as device:
        device.subscribe("loa/v1/area/7d0a7cb2-1d1c-4f0e-9f33-2b8a0c6f0a11/alert/+")
        assert control.publish(topic, b"flood", retain=True, expiry_s=60) == SUCCESS
        assert device.wait_for(b"flood").topic == topic


@pytest.mark.parametrize("stolen", ["ingest:1", "ingest", "cluster-b"])
def test_a_device_cannot_take_anothers_client_id(broker: Broker, stolen: str) -> None:
    with (
        connect_service(broker, ServiceName.INGEST) as ingest,
        connect_device(broker, "cluster-b") as other,
        connect_device(broker, "cluster-a", client_id=stolen) as thief,
    ):
        ingest.subscribe(UPLINKS)
        assert thief.publish("loa/v1/cluster-a/up/event", b"still myself") == SUCCESS
        assert other.publish("loa/v1/cluster-b/up/event", b"still here") == SUCCESS
        ingest.wait_for(b"still here")
        assert ingest.payloads() == [b"still myself", b"still here"]


@pytest.mark.parametrize("name", ["ingest", "control", "monitor", "area", "ingest:1"])
def test_our_authority_does_not_give_a_device_a_name_of_ours(pki: Pki, name: str) -> None:
    with pytest.raises(InvalidIdentifier):
        issue_devices(pki, [DeviceId(name)], now=utc_now())
    assert not pki.device(DeviceId(name)).certificate.exists()


@pytest.mark.parametrize("name", ["ingest", "ingest:1", f"ingest:{'0' * 32}"])
def test_a_device_certificate_named_like_ingest_has_no_rights_of_ingest(broker: Broker, pki: Pki, name: str) -> None:
    impostor = mint(pki, name)

    with pytest.raises(NotConnected):
        MqttClient(broker.service_port, pki, impostor, client_id="ingest:2")

    with (
        connect_service(broker, ServiceName.INGEST, client_id="ingest:7") as ingest,
        connect_device(broker, "cluster-a") as device,
        # What a stolen device CA could do at the door it can reach: be a device of that name, no more.
        MqttClient(broker.device_port, pki, impostor, client_id="ingest:7") as fake,
    ):
        ingest.subscribe(UPLINKS)
        fake.subscribe("loa/v1/+/up/#")
        fake.subscribe("loa/v1/cluster-a/down/#")
        assert fake.publish("loa/v1/cluster-a/down/receipt", b"false receipt") == NOT_AUTHORIZED
        assert fake.publish("loa/v1/cluster-a/down/plan", b"false plan") == NOT_AUTHORIZED
        device.publish("loa/v1/cluster-a/up/event", b"event")
        ingest.wait_for(b"event")
        fake.publish(f"loa/v1/{name}/up/event", b"as a device")
        ingest.wait_for(b"as a device")
        assert fake.payloads() == []


def test_the_random_part_of_its_name_is_what_keeps_a_stolen_device_authority_out(broker: Broker, pki: Pki) -> None:
    """The rules cannot tell the doors apart; only somebody who knows the whole name could pass for the service."""
    with (
        MqttClient(broker.device_port, pki, mint(pki, pki.service_user(ServiceName.INGEST)), client_id="x") as informed,
        connect_device(broker, "cluster-a") as device,
    ):
        informed.subscribe(UPLINKS)
        device.publish("loa/v1/cluster-a/up/event", b"event")
        informed.wait_for(b"event")


def test_services_and_devices_use_different_doors(broker: Broker, pki: Pki) -> None:
    with pytest.raises(NotConnected):
        MqttClient(broker.service_port, pki, device_identity(pki, "cluster-a"), client_id="cluster-a")
    with pytest.raises(NotConnected):
        MqttClient(broker.device_port, pki, pki.service(ServiceName.CONTROL), client_id="control:1")
    with pytest.raises(NotConnected):
        MqttClient(broker.device_port, pki, pki.broker, client_id="broker")


def test_nobody_comes_in_without_a_certificate(broker: Broker, pki: Pki) -> None:
    for port in (broker.device_port, broker.service_port):
        with pytest.raises(NotConnected):
            MqttClient(port, pki, None, client_id="anonymous")


def test_a_certificate_must_be_ours_and_in_force(broker: Broker, pki: Pki) -> None:
    now = utc_now()
    worthless = {
        "self-signed": mint(pki, "cluster-a", authority="self"),
        "expired": mint(pki, "cluster-a", not_before=now - timedelta(days=2), not_after=now - timedelta(seconds=1)),
        "not yet valid": mint(
            pki, "cluster-a", not_before=now + timedelta(hours=1), not_after=now + timedelta(hours=2)
        ),
    }
    for identity in worthless.values():
        with pytest.raises(NotConnected):
            MqttClient(broker.device_port, pki, identity, client_id="cluster-a")
    with MqttClient(broker.device_port, pki, mint(pki, "cluster-a"), client_id="cluster-a") as device:
        assert device.publish("loa/v1/cluster-a/up/event", b"x") != NOT_AUTHORIZED


@pytest.mark.parametrize("name", ["+", "#", "cluster-a/up/event", "a+b"])
def test_a_certificate_name_with_meaning_in_a_topic_opens_nothing(broker: Broker, pki: Pki, name: str) -> None:
    with (
        connect_service(broker, ServiceName.CONTROL) as control,
        connect_device(broker, "cluster-a") as device,
        MqttClient(broker.device_port, pki, mint(pki, name), client_id="x") as impostor,
    ):
        device.subscribe("loa/v1/cluster-a/down/command")
        for topic_filter in ("#", "loa/v1/+/down/#", "loa/v1/cluster-a/#"):
            impostor.subscribe(topic_filter)
        assert impostor.publish("loa/v1/cluster-a/up/event", b"x") == NOT_AUTHORIZED
        control.publish("loa/v1/cluster-a/down/command", b"secret")
        device.wait_for(b"secret")
        assert impostor.payloads() == []


def test_death_publishes_the_will_and_a_goodbye_does_not(broker: Broker) -> None:
    topic = "loa/v1/cluster-a/presence"
    with connect_service(broker, ServiceName.INGEST) as ingest:
        ingest.subscribe("loa/v1/+/presence")

        polite = connect_device(broker, "cluster-a", will=Will(topic=topic, payload=b"offline 1"))
        polite.publish(topic, b"online 1", retain=True)
        polite.close()
        dying = connect_device(broker, "cluster-a", will=Will(topic=topic, payload=b"offline 2"))
        dying.publish(topic, b"online 2", retain=True)
        dying.die()

        ingest.wait_for(b"offline 2")
        assert ingest.payloads() == [b"online 1", b"online 2", b"offline 2"]


def test_a_will_on_anothers_topic_is_not_published(broker: Broker) -> None:
    with connect_service(broker, ServiceName.INGEST) as ingest, connect_device(broker, "cluster-c") as witness:
        ingest.subscribe("loa/v1/+/presence")
        # The broker looks at a will's topic when it publishes it, not when it is announced.
        thief = connect_device(
            broker, "cluster-a", will=Will(topic="loa/v1/cluster-b/presence", payload=b"slander", retain=True)
        )
        thief.die()
        witness.publish("loa/v1/cluster-c/presence", b"online", retain=True)

        ingest.wait_for(b"online")
        assert ingest.payloads() == [b"online"]


def test_services_do_only_what_is_theirs(broker: Broker) -> None:
    with (
        connect_service(broker, ServiceName.INGEST) as ingest,
        connect_service(broker, ServiceName.CONTROL) as control,
        connect_service(broker, ServiceName.MONITOR) as monitor,
        connect_device(broker, "cluster-a") as device,
    ):
        for service in (control, monitor):
            service.subscribe("loa/v1/#")
        monitor.subscribe("$SYS/broker/version")
        ingest.subscribe(UPLINKS)
        device.publish("loa/v1/cluster-a/up/event", b"event")
        ingest.wait_for(b"event")

        assert ingest.publish("loa/v1/cluster-a/down/plan", b"x") == NOT_AUTHORIZED
        assert control.publish("loa/v1/cluster-a/down/receipt", b"x") == NOT_AUTHORIZED
        assert control.publish("loa/v1/cluster-a/up/event", b"x") == NOT_AUTHORIZED
        assert monitor.publish("loa/v1/cluster-a/down/command", b"x") == NOT_AUTHORIZED
        assert control.payloads() == []
        monitor.wait_for_message(lambda message: message.topic == "$SYS/broker/version", "the broker's version")
        assert monitor.payloads("loa/v1/cluster-a/up/event") == []


def test_ingest_clears_a_retained_uplink(broker: Broker) -> None:
    topic = "loa/v1/cluster-a/up/heartbeat"
    with connect_device(broker, "cluster-a") as device, connect_service(broker, ServiceName.INGEST) as ingest:
        device.publish(topic, b"left behind", retain=True)
        ingest.subscribe(topic)
        assert ingest.wait_for(b"left behind").retain
        assert ingest.publish(topic, b"", retain=True) == SUCCESS

    with connect_service(broker, ServiceName.INGEST) as again, connect_device(broker, "cluster-a") as device:
        again.subscribe(topic)
        device.publish(topic, b"fresh")
        again.wait_for(b"fresh")
        assert again.payloads() == [b"fresh"]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6")),
    ],
)
def test_the_broker_answers_on_every_loopback_address_under_that_name(broker: Broker, pki: Pki, host: str) -> None:
    with MqttClient(
        broker.device_port, pki, device_identity(pki, "cluster-a"), client_id="cluster-a", host=host
    ) as device:
        assert device.publish("loa/v1/cluster-a/presence", b"x", retain=True) != NOT_AUTHORIZED
