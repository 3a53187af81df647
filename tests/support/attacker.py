"""Somebody who holds the broker: a client that may read and write every topic, and what can be made of genuine messages
without the keys of the platform.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cbor2

from schemas import topics
from schemas.topics import Topic
from services.local.broker import Broker
from tests.support.broker import MqttClient, eventually, mint

NAME = "mallory:1"
EVERYTHING = f"\nuser {NAME}\ntopic readwrite #\ntopic read $SYS/#\n"
REFUSED = 128  # reason codes from here on (OASIS MQTT 5.0, 2.4); 16 says that nobody listens there
HMAC_256 = 5  # COSE algorithm; "none" does not exist, a MAC whose key everybody knows would do


class Attacker:
    """An account with full rights at the broker, and therefore with everything that was ever said over it."""

    def __init__(self, client: MqttClient) -> None:
        self._client = client

    def publish(self, topic: Topic, payload: bytes, *, retain: bool | None = None, **properties: Any) -> None:
        """Say something in the platform's place; the broker takes it."""
        kept = topics.is_retained(topic) if retain is None else retain
        self.publish_anywhere(topics.format_topic(topic), payload, retain=kept, **properties)

    def publish_anywhere(self, topic: str, payload: bytes, *, retain: bool = False, **properties: Any) -> None:
        """Say something on a topic that need not be one of ours."""
        assert self._client.publish(topic, payload, retain=retain, **properties) < REFUSED


@contextmanager
def take_over(broker: Broker) -> Iterator[Attacker]:
    """Give the attacker the broker: its access list names one more account, which may do everything."""
    rules = broker.directory / "own" / "access.acl"
    _rule_by(broker, rules.read_text() + EVERYTHING)
    identity = mint(broker.pki, NAME, authority="service-ca")
    with MqttClient(broker.service_port, broker.pki, identity, client_id=NAME) as client:
        yield Attacker(client)


def keep_alerts_back(broker: Broker) -> None:
    """From now on the broker takes alerts from the platform, and gives them to no device: neither by area nor by command."""
    rules = (broker.directory / "own" / "access.acl").read_text()
    kept = [each for each in rules.splitlines() if not each.startswith("pattern read")]
    _rule_by(broker, "\n".join(kept) + "\n")


def _rule_by(broker: Broker, rules: str) -> None:
    position = broker.log.stat().st_size
    (broker.directory / "own" / "access.acl").write_text(rules)
    os.kill(broker.process.pid, signal.SIGHUP)
    eventually(lambda: b"Reloading config." in broker.log.read_bytes()[position:])


def altered(message: bytes) -> bytes:
    """A genuine message with one bit of what it says the other way round."""
    protected, unprotected, payload, signature = cbor2.loads(message)
    flipped = bytearray(payload)
    flipped[-1] ^= 1
    return cbor2.dumps([protected, unprotected, bytes(flipped), signature], canonical=True)


def unsigned(message: bytes) -> bytes:
    """What a genuine message says, without the signature around it."""
    return bytes(cbor2.loads(message)[2])


def emptied(message: bytes) -> bytes:
    """A genuine message whose signature is no bytes long."""
    protected, unprotected, payload, _ = cbor2.loads(message)
    return cbor2.dumps([protected, unprotected, payload, b""], canonical=True)


def downgraded(message: bytes) -> bytes:
    """A genuine message that says it was made with an algorithm for which a device might hold a key everybody knows."""
    protected, unprotected, payload, signature = cbor2.loads(message)
    header = cbor2.loads(protected) | {1: HMAC_256}
    return cbor2.dumps([cbor2.dumps(header, canonical=True), unprotected, payload, signature], canonical=True)
