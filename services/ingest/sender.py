"""What ingest says back: receipts to devices, and the clearing of retained uplinks at the broker.

Both may be lost without harm (a device repeats what was not receipted, and is answered again), so they go out at QoS 0
and nothing is kept over a restart. Receipts of one journal are coalesced: the newest says everything.
"""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

from schemas import codec
from schemas.identifiers import DeviceId
from schemas.topics import Downlink, DownlinkKind, format_topic
from services.ingest import ledger
from services.ingest.metrics import Metrics
from services.ingest.store import Journal

MOST_WAITING = 100_000  # journals; with the broker away for long the oldest go, and their devices ask again


class Publisher(Protocol):
    """The session's publishing side."""

    def publish(
        self, topic: str, payload: bytes, *, is_retained: bool = False, expires_after: timedelta | None = None
    ) -> bool:
        """Publish, or say that it cannot be done now."""


class Sender:
    """Sends what has been handed over, at most every `interval` and whenever the session can write again."""

    def __init__(self, publisher: Publisher, *, interval: timedelta, expiry: timedelta, metrics: Metrics) -> None:
        self._publisher = publisher
        self._interval = interval
        self._expiry = expiry
        self._metrics = metrics
        self._journals: dict[tuple[int, int, int], Journal] = {}
        self._topics: dict[str, None] = {}
        self._wake = asyncio.Event()

    def receipt(self, journals: Iterable[Journal]) -> None:
        """Tell the devices of these journals what is committed."""
        for journal in journals:
            key = (journal.device.device_no, journal.device.speaker_no, journal.journal)
            self._journals.pop(key, None)
            self._journals[key] = journal
        while len(self._journals) > MOST_WAITING:
            del self._journals[next(iter(self._journals))]
        self.wake()

    def clear(self, topic: str) -> None:
        """Clear the retained message of a topic."""
        if len(self._topics) < MOST_WAITING:
            self._topics[topic] = None
        self.wake()

    def wake(self) -> None:
        """Try to send; called by the session when it can write."""
        if self._journals or self._topics:
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.send()
            await asyncio.sleep(self._interval.total_seconds())

    def send(self) -> None:
        """Send what waits, as far as the session takes it."""
        while self._topics:
            topic = next(iter(self._topics))
            if not self._publisher.publish(topic, b"", is_retained=True):
                return
            del self._topics[topic]
            self._metrics.retained_cleared.inc()
        while self._journals:
            key, journal = next(iter(self._journals.items()))
            topic = format_topic(
                Downlink(DeviceId(journal.device.principal), DownlinkKind.RECEIPT, DeviceId(journal.device.device_id))
            )
            payload = codec.encode(ledger.receipt(journal.journal, journal.received))
            if not self._publisher.publish(topic, payload, expires_after=self._expiry):
                return
            del self._journals[key]
            self._metrics.receipts.inc()
