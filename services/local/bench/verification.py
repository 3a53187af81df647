"""Afterwards: every stored row looked up in the ledger of what was sent, and how long each message took."""

import array
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from schemas.topics import UplinkKind
from services.local.bench import store
from services.local.bench.gateway import CHUNK
from services.local.bench.generator import read_sent_times
from services.local.bench.ledger import Comparison, Ledger
from services.local.bench.measurement import Generator, Window
from services.local.bench.scoreboard import Slot
from services.local.bench.site import Site
from services.local.bench.statistics import percentile
from services.local.bench.traffic import Traffic, rows_of

if TYPE_CHECKING:
    from services.local.bench.store import Record

# Of so many messages one is timed; all are looked up.
TIMED_EVERY = 8

_LOW_HALF = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction of ingest committed, and when we heard of it (monotonic seconds)."""

    at: float
    heartbeats: int
    readings: int
    events: int
    quarantined: int
    tx: int | None = None  # the low half of its transaction's number, where it says so

    @classmethod
    def parse(cls, at: float, payload: str) -> Self:
        """Return what a `telemetry_committed` says."""
        counts: Mapping[str, int] = json.loads(payload)
        return cls(
            at=at,
            heartbeats=counts["heartbeats"],
            readings=counts["readings"],
            events=counts["events"],
            quarantined=counts["quarantined"],
            tx=counts["tx"] & _LOW_HALF if "tx" in counts else None,
        )

    @property
    def rows(self) -> int:
        """Rows of telemetry."""
        return self.heartbeats + self.readings + self.events

    @property
    def messages(self) -> int:
        """Messages it settled."""
        return self.heartbeats + self.readings // rows_of(UplinkKind.READING) + self.events + self.quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What there is, against what was sent."""

    stored: int  # distinct keys, counted by the database
    comparison: Comparison
    full_ms: Mapping[str, float | None]  # percentiles of publish to commit, under the full load
    paced_ms: Mapping[str, float | None]  # and under a paced one
    unpaired: tuple[int, int] | None = None  # commits told of and transactions found, where they differ

    @property
    def warnings(self) -> list[str]:
        """Why nothing could be timed."""
        if self.unpaired is None:
            return []
        told, found = self.unpaired
        return [
            f"ingest told of {told} commits, and rows are of {found} transactions: who belongs to whom cannot be told,"
            " so nothing says how long messages took"
        ]

    @property
    def problems(self) -> list[str]:
        """Where the two ways of counting disagree."""
        counted = self.comparison.complete + self.comparison.foreign
        if self.stored != counted and not self.comparison.lost:
            return [f"the database counts {self.stored} keys, the ledger {counted}"]
        return []


async def verify(site: Site, load: Generator, batches: Sequence[Batch], *, full: Window, paced: Window) -> Verified:
    """Look up every row. The generator has stopped, and everything that will be stored is."""
    sent_times = read_sent_times(load.ledger)
    traffic = Traffic(population=site.population, profile=site.profile, base_ms=load.board[Slot.BASE_MS])
    ledger = Ledger(traffic, [CHUNK * len(of_gateway) for of_gateway in sent_times])
    timing = Timing(sent_times)
    has_sensors = await site.owner.fetchval(store.HAS_SENSOR_HEARTBEATS)
    sensors = ((UplinkKind.HEARTBEAT, store.SENSOR_HEARTBEATS),) if has_sensors else ()
    for kind, query in (
        (UplinkKind.HEARTBEAT, store.HEARTBEATS),
        *sensors,
        (UplinkKind.READING, store.READINGS),
        (UplinkKind.EVENT, store.EVENTS),
    ):
        async for rows in store.rows(site.owner, query):
            _enter(kind, rows, ledger, timing)
    committed = [batch for batch in batches if batch.rows]
    return Verified(
        stored=await site.owner.fetchval(store.COUNT_STORED_WITH_SENSORS if has_sensors else store.COUNT_STORED),
        comparison=ledger.compare(),
        full_ms=_percentiles(timing.latencies_ms(committed, full)),
        paced_ms=_percentiles(timing.latencies_ms(committed, paced)),
        unpaired=timing.unpaired(committed),
    )


def _enter(kind: UplinkKind, rows: "Sequence[Record]", ledger: Ledger, timing: "Timing") -> None:
    for row in rows:
        if kind is UplinkKind.EVENT:
            message = ledger.enter_event(row["device_no"], row["journal"], row["sequence"])
        else:
            message = ledger.enter_timed(kind, row["device_no"], row["at_ms"])
        timing.note(row["tx"], message)


@dataclass(slots=True)
class Timing:
    """Pairs rows with the commits that stored them, by transaction.

    Where notifications do not name theirs, they are taken in order: transactions are numbered as they begin to write, and
    notifications come as they commit, which with one writer is the same order.
    """

    sent_times: "Sequence[array.array[float]]"  # by gateway and chunk
    _transactions: set[int] = field(default_factory=set)
    _timed: list[tuple[int, float]] = field(default_factory=list)  # transaction, sent at

    def note(self, tx: int, message: tuple[int, int] | None) -> None:
        """Take down a row of a message (gateway and number), stored by a transaction."""
        self._transactions.add(tx)
        if message is not None and message[1] % TIMED_EVERY == 0:
            self._timed.append((tx, self.sent_times[message[0]][message[1] // CHUNK]))

    def unpaired(self, committed: Sequence[Batch]) -> tuple[int, int] | None:
        """Return how many commits and transactions there are, where there is not one of them for each of those."""
        counts = len(committed), len(self._transactions)
        return None if counts[0] == counts[1] else counts

    def latencies_ms(self, committed: Sequence[Batch], window: Window) -> list[float]:
        """Return how long each message sent within the window took, ascending.

        `committed` are the commits that stored rows, in order. Nothing where there is not one of them for each
        transaction: then who belongs to whom cannot be told.
        """
        if self.unpaired(committed) is not None:
            return []
        at = {batch.tx: batch.at for batch in committed if batch.tx is not None}
        if at.keys() != self._transactions:
            at = dict(zip(sorted(self._transactions), (batch.at for batch in committed), strict=True))
        return sorted((at[tx] - sent_at) * 1000 for tx, sent_at in self._timed if window.begin <= sent_at <= window.end)


def _percentiles(latencies: Sequence[float]) -> dict[str, float | None]:
    found = {f"p{each}": percentile(latencies, each) for each in (50, 99)}
    return {name: None if value is None else round(value, 1) for name, value in found.items()}
