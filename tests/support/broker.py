"""A real Mosquitto with the real configuration, and an independent MQTT 5 client (paho) to try it with.

The fixtures are cheap (a broker is up in a tenth of a second), so every test has its own and may kill, restart and
misconfigure it. A folder of tests gets them by importing `pki` and `broker` into its `conftest.py`.

Nothing here sleeps: everything waits for what it is told about, with a deadline. That something does *not* arrive is
shown by sending something afterwards on the same path that does.
"""

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName, certificate_pem, key_pem, new_key, parse_authority
from services.ingest.brokerlog import Refusal, parse_line
from services.local.broker import Broker, Options
from services.local.directories import temporary_directory
from services.local.pki import Identity, Pki, issue_devices, prepare
from services.shared.clock import utc_now

DEADLINE_S = 15.0

# Reason codes of MQTT 5 that the tests speak of.
SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87

NEVER_EXPIRES = 0xFFFFFFFF

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` (starting or stopping a broker) from a test that is not asynchronous itself."""
    # Not `asyncio.run`, which would also take away the loop that pytest-asyncio keeps for asynchronous tests.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; fails when it does not in time."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, f"waited {DEADLINE_S:g} s in vain"
        time.sleep(0.02)  # between two looks at something that cannot tell us


@pytest.fixture
def pki() -> Iterator[Pki]:
    """Certificates of this test's own."""
    with temporary_directory() as directory:
        yield prepare(directory / "pki", now=utc_now())


@pytest.fixture
def broker(pki: Pki) -> Iterator[Broker]:
    """A running broker of this test's own, with the configuration we ship."""
    with broker_for(pki) as running:
        yield running


@contextmanager
def broker_for(pki: Pki, options: Options | None = None) -> Iterator[Broker]:
    """A running broker beside the folder of `pki`."""
    running = Broker(pki.directory.with_name("broker"), pki, options)
    try:
        run(running.start())
        yield running
    finally:
        run(running.stop())


def device_identity(pki: Pki, device_id: str) -> Identity:
    """A certificate for that device, as our own authority issues it."""
    parsed = DeviceId.parse(device_id)
    return issue_devices(pki, [parsed], now=utc_now())[parsed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes when the client dies."""

    topic: str
    payload: bytes
    retain: bool = True


class NotConnected(Exception):
    """The broker did not let the client in; `reason` is its reason code when it gave one."""

    def __init__(self, cause: object) -> None:
        super().__init__(str(cause))
        self.reason = cause.value if isinstance(cause, ReasonCode) else None


class MqttClient:
    """One MQTT 5 connection. Network errors end it; it never reconnects by itself."""

    def __init__(
        self,
        port: int,
        pki: Pki,
        identity: Identity | None,
        *,
        host: str = "localhost",
        client_id: str,
        clean_start: bool = True,
        session_expiry_s: int = 0,
        will: Will | None = None,
        receive_maximum: int | None = None,
        manual_ack: bool = False,
        keepalive_s: int = 60,
    ) -> None:
        self.messages: list[mqtt.MQTTMessage] = []
        self.session_present = False
        self.disconnected: ReasonCode | None = None
        self._told: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._connected: ReasonCode | None = None
        self._acks: dict[int, ReasonCode] = {}
        self._subacks: dict[int, list[ReasonCode]] = {}
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        context = ssl.create_default_context(cafile=str(pki.service_ca))
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.key)
        self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        if will:
            self._client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_expiry_s
        if receive_maximum is not None:
            properties.ReceiveMaximum = receive_maximum
        try:
            self._client.connect(host, port, keepalive=keepalive_s, clean_start=clean_start, properties=properties)
        except OSError as error:  # includes failed handshakes
            self._let_go()
            raise NotConnected(error) from error
        self._client.loop_start()
        try:
            # With TLS 1.3 the server judges our certificate after the handshake has succeeded on our side.
            self._wait(lambda: self._connected is not None or self.disconnected is not None, "a CONNACK")
            self._raise_unless_let_in()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def told(self, name: str) -> int:
        """Return a property of the CONNACK, by its paho name."""
        return int(self._told[name])

    def close(self) -> None:
        """Disconnect as a well-behaved client does."""
        self._client.disconnect()
        self._let_go()

    def die(self) -> None:
        """End the connection without a word, as a power cut does; the broker then publishes the will."""
        connection = self._client.socket()
        assert connection is not None, "it is not connected"
        with socket.socket(fileno=os.dup(connection.fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)
        self.wait_until_disconnected()
        self._let_go()

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None, **more: Any
    ) -> int:
        """Publish at QoS 1, with `more` properties by their paho names; returns the reason code of the acknowledgement.

        When the broker disconnects us instead, its reason code, or None inside `NotConnected` when it gave none.
        """
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        for name, value in more.items():
            setattr(properties, name, value)
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        self._wait(lambda: sent.mid in self._acks or self.disconnected is not None, "a PUBACK")
        if sent.mid not in self._acks:
            raise NotConnected(self.disconnected)
        return self._acks[sent.mid].value

    def subscribe(self, topic_filter: str, *, retain_handling: int = 0) -> int:
        """Subscribe at QoS 1; returns the reason code (the granted QoS, or a refusal)."""
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=retain_handling)
        _, mid = self._client.subscribe(topic_filter, options=options)
        assert mid is not None
        self._wait(lambda: mid in self._subacks, "a SUBACK")
        return self._subacks[mid][0].value

    def acknowledge(self, message: mqtt.MQTTMessage) -> None:
        """Acknowledge `message`, for a client made with `manual_ack`."""
        self._client.ack(message.mid, message.qos)

    def payloads(self, topic: str | None = None) -> list[bytes]:
        """What has arrived so far, in order."""
        with self._changed:
            return [bytes(message.payload) for message in self.messages if topic in (None, message.topic)]

    def wait_for(self, payload: bytes) -> mqtt.MQTTMessage:
        """Return the first message with that payload, waiting for it if need be."""
        return self.wait_for_message(lambda message: message.payload == payload, f"a message {payload[:40]!r}")

    def wait_for_message(self, wanted: Callable[[mqtt.MQTTMessage], bool], what: str) -> mqtt.MQTTMessage:
        """Return the first message that `wanted` says yes to, waiting for it if need be."""
        self._wait(lambda: any(map(wanted, self.messages)) or self.disconnected is not None, what)
        with self._changed:
            for message in self.messages:
                if wanted(message):
                    return message
        raise NotConnected(self.disconnected)

    def wait_until_disconnected(self) -> ReasonCode:
        """Return the reason with which the connection ended."""
        self._wait(lambda: self.disconnected is not None, "the end of the connection")
        assert self.disconnected is not None
        return self.disconnected

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, DEADLINE_S):
                raise AssertionError(f"waited {DEADLINE_S:g} s in vain for {what}")

    def _let_go(self) -> None:
        self._client.loop_stop()
        # paho leaves its sockets to the garbage collector, which complains about them.
        self._client._reset_sockets()

    def _raise_unless_let_in(self) -> None:
        if self._connected is None:
            raise NotConnected(self.disconnected)
        if self._connected.is_failure:
            raise NotConnected(self._connected)

    def _on_connect(
        self, _client: mqtt.Client, _data: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        with self._changed:
            self._connected = reason
            self.session_present = flags.session_present
            self._told = vars(properties)
            self._changed.notify_all()

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: mqtt.DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        with self._changed:
            self.disconnected = reason
            self._changed.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def _on_publish(self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        with self._changed:
            self._acks[mid] = reason
            self._changed.notify_all()

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        with self._changed:
            self._subacks[mid] = reasons
            self._changed.notify_all()


def logged_refusals(broker: Broker) -> list[Refusal]:
    """What the broker's log says it has refused so far."""
    lines = broker.log.read_text("utf-8", "replace").splitlines()
    return [refusal for refusal in map(parse_line, lines) if refusal is not None]


def mint(
    pki: Pki,
    common_name: str,
    *,
    authority: str = "device-ca",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Identity:
    """A client certificate made by hand with an authority's key (`device-ca`, `service-ca`, or `self` for its own).

    It has whatever name and life is asked for, which our own functions would refuse.
    """
    now = utc_now()
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    if authority == "self":
        issuer, signer = subject, key
    else:
        ca = parse_authority(
            (pki.directory / f"{authority}.pem").read_bytes(), (pki.directory / f"{authority}.key").read_bytes()
        )
        issuer, signer = ca.certificate.subject, ca.key
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - timedelta(hours=1))
        .not_valid_after(not_after or now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    folder = pki.directory / f"minted-{certificate.serial_number:x}"
    folder.mkdir()
    identity = Identity(folder / "certificate.pem", folder / "certificate.key")
    identity.certificate.write_bytes(certificate_pem(certificate))
    identity.key.write_bytes(key_pem(key))
    return identity


def connect_device(broker: Broker, device_id: str, **options: Any) -> MqttClient:
    """Connect as that device, with a certificate our authority has issued to it."""
    identity = device_identity(broker.pki, device_id)
    return MqttClient(broker.device_port, broker.pki, identity, **{"client_id": device_id, **options})


def connect_service(broker: Broker, service: ServiceName, **options: Any) -> MqttClient:
    """Connect as one of our services; the client id is `<service>:1` unless given."""
    identity = broker.pki.service(service)
    return MqttClient(broker.service_port, broker.pki, identity, **{"client_id": f"{service.value}:1", **options})
