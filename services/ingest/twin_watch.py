"""Looks for two devices that use one certificate: cheaply at all of them, closely at those that connect again and again.

Two devices of one name throw each other out at the broker, so each comes back within seconds, and every coming back is a
presence report. Who reports often is suspected, and only then is what it says compared (`twins`). A device on a bad line
is suspected too, and cleared.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from services.ingest import twin_store
from services.ingest.admission import Event, Presence
from services.ingest.batch import Taken
from services.ingest.metrics import Metrics
from services.ingest.twins import judge
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Database

LOOK_EVERY = timedelta(seconds=10)
# Connections within one to two spans of this length that make a suspect.
SPAN = timedelta(minutes=5)
SUSPECT_FROM = 6
EVIDENCE = timedelta(minutes=30)

MOST_COUNTED = 200_000  # devices counted in a span; a whole province may come back at once
MOST_SUSPECTS = 200  # looked at in a turn, the liveliest first
MOST_EVENTS = 10_000  # of suspects, remembered to be compared with what comes under the same number

log = logging.getLogger(__name__)


class TwinWatch:
    """Is shown what is committed, and looks into what is odd about it."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime], metrics: Metrics) -> None:
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._turned_at = self._loop.time()
        self._connections: Counter[int] = Counter()
        self._connections_before: Counter[int] = Counter()
        self._suspects: frozenset[int] = frozenset()
        self._events: dict[tuple[int, int, int], bytes] = {}
        self._clashes: Counter[int] = Counter()
        self._reported: set[int] = set()

    def note(self, messages: Iterable[Taken]) -> None:
        """Take note of committed messages. Costs something for connections and for suspects only."""
        for message in messages:
            match message.verdict:
                case Presence(device, _, _, True) if not message.is_retained:
                    if device.device_no in self._connections or len(self._connections) < MOST_COUNTED:
                        self._connections[device.device_no] += 1
                case Event(numbered) if self._suspects and numbered.device.device_no in self._suspects:
                    if numbered.device.principal_no is None:
                        self._compare((numbered.device.device_no, numbered.journal, numbered.sequence), message.payload)
                case _:
                    pass

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            try:
                await self.round()
            except DatabaseError as error:
                log.warning("twins_not_looked_for", extra={"reason": str(error)})
            await asyncio.sleep(LOOK_EVERY.total_seconds())

    async def round(self) -> None:
        """See who is suspected now, and look into it. Raises the errors of `services.shared.database.errors`."""
        self._turn()
        await self._look()

    def _compare(self, number: tuple[int, int, int], payload: bytes) -> None:
        digest = hashlib.sha256(payload).digest()
        known = self._events.setdefault(number, digest)
        if known != digest:
            self._clashes[number[0]] += 1
        while len(self._events) > MOST_EVENTS:
            del self._events[next(iter(self._events))]

    def _turn(self) -> None:
        """Begin a new span when it is time, and see who is suspected now; of others nothing is held against them."""
        if self._loop.time() - self._turned_at >= SPAN.total_seconds():
            self._turned_at = self._loop.time()
            self._connections_before, self._connections = self._connections, Counter()
        lively = Counter(
            {
                device_no: count + self._connections_before[device_no]
                for device_no, count in (self._connections_before | self._connections).items()
                if self._connections[device_no] + self._connections_before[device_no] >= SUSPECT_FROM
            }
        )
        self._suspects = frozenset(device_no for device_no, _ in lively.most_common(MOST_SUSPECTS))
        self._events = {number: digest for number, digest in self._events.items() if number[0] in self._suspects}
        self._clashes = Counter({each: count for each, count in self._clashes.items() if each in self._suspects})
        if not self._suspects:
            self._reported.clear()

    async def _look(self) -> None:
        now = self._clock()
        async with self._database.connection() as connection:
            for device_no in sorted(self._suspects):
                beats, notes = await twin_store.evidence(connection, device_no, since=now - EVIDENCE)
                verdict = judge(beats, notes, self._clashes[device_no])
                if verdict is None:
                    continue
                await twin_store.report(connection, device_no, verdict, now=now)
                if device_no not in self._reported:
                    self._reported.add(device_no)
                    log.warning(
                        "certificate_shared",
                        extra={"device_no": device_no, "proof": verdict.proof.value, "detail": verdict.detail},
                    )
            shared = await twin_store.count(connection, since=now - twin_store.FRESH)
        self._metrics.certificates_shared.set(shared)
        self._metrics.lively_devices.set(len(self._suspects))
