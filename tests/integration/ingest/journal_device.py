"""A device as the contract wants one, in a thread and on an independent client: it numbers its events and repeats them
until they are receipted, whatever breaks meanwhile.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from schemas import codec
from schemas.errors import DecodeError
from schemas.receipts import Receipt
from services.local.broker import Broker
from tests.integration.ingest.support import enveloped
from tests.support.broker import MqttClient, NotConnected, connect_device

REPEAT_AFTER_S = 0.5
PATIENCE_S = 60.0


class JournalDevice:
    """One device with a journal of `count` events."""

    def __init__(self, broker: Broker, device_id: str, *, journal: bytes, count: int) -> None:
        self._broker = broker
        self._device_id = device_id
        self._journal = journal
        self.unreceipted = set(range(1, count + 1))
        self.sent = 0  # publishes the broker acknowledged, repetitions included
        self._given_up = threading.Event()
        self._executor = ThreadPoolExecutor(1)

    def start(self) -> "Future[None]":
        """Begin; the future is done when everything is receipted, and fails when that takes too long."""
        return self._executor.submit(self._live)

    def close(self) -> None:
        """Stop trying."""
        self._given_up.set()
        self._executor.shutdown()

    def _live(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while self.unreceipted and not self._given_up.is_set():
            assert time.monotonic() < until, f"{len(self.unreceipted)} events were never receipted"
            try:
                with connect_device(self._broker, self._device_id) as client:
                    client.subscribe(f"loa/v1/{self._device_id}/down/#")
                    self._talk(client, until)
            except (NotConnected, OSError, AssertionError):
                # The broker is away, or went away in the middle; it is asked again for as long as there is patience.
                self._given_up.wait(0.1)

    def _talk(self, client: MqttClient, until: float) -> None:
        topic = f"loa/v1/{self._device_id}/up/event"
        while self.unreceipted and not self._given_up.is_set() and time.monotonic() < until:
            for sequence in sorted(self.unreceipted)[:50]:
                client.publish(topic, enveloped(sequence, journal=self._journal))
                self.sent += 1
            wait_until = time.monotonic() + REPEAT_AFTER_S
            while self.unreceipted and time.monotonic() < wait_until:
                if self._read_receipts(client):
                    break
                self._given_up.wait(0.02)

    def _read_receipts(self, client: MqttClient) -> bool:
        before = len(self.unreceipted)
        for payload in client.payloads(f"loa/v1/{self._device_id}/down/receipt"):
            try:
                receipt: Receipt = codec.decode_receipt(payload)
            except DecodeError as error:
                raise RuntimeError("ingest sent a receipt nobody can read") from error
            if receipt.journal == self._journal:
                self.unreceipted = {each for each in self.unreceipted if not receipt.covers(each)}
        return len(self.unreceipted) < before
