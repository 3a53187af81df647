"""What was sent, what became of it on the way, and what is stored: the ledger of a bench that breaks things. Pure.

Heartbeats are the messages of a `Traffic`, known by gateway and number. Events are known by device, journal and sequence.
Instants are seconds on the bench's monotonic clock.

A heartbeat may rightly be missing only if ingest never acknowledged it, and if the broker either never took it, or lost
it where a broker loses: it told the device that nobody was subscribed, or it crashed after it took it and before it saved,
or it dropped it from a full queue. Every other one that is missing is `unexplained`, whoever was to blame.
"""

import enum
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cbor2

from services.local.bench.population import DIGITS
from services.local.bench.traffic import Traffic

# Keys of the wire contract, held to `schemas` by a test: this side reads bytes without the decoder that ingest uses.
DEVICE_AT_KEY = 1  # of a heartbeat
JOURNAL_KEY, SEQUENCE_KEY = 1, 2  # of an event's envelope

MOST_COUNTED = 255  # copies of one row

JournalKey = tuple[int, int]  # device_no; journal as the database holds it


class Loss(enum.StrEnum):
    """Where a broker loses what it has taken."""

    CRASH = "crash"  # after its last save
    FULL_QUEUE = "full_queue"


@dataclass(frozen=True, slots=True)
class Outage:
    """A span in which what the broker took may be gone: from its last save to its start again, or with a full queue."""

    loss: Loss
    begin: float
    end: float


class Heartbeats:
    """The heartbeats of one gateway, by number."""

    def __init__(self) -> None:
        self.taken_at = array("d")  # by the broker; 0 where it never said so
        self.unheard = bytearray()  # 1: taken by the broker and given to nobody, as it said
        self.acknowledged = bytearray()  # 1: by ingest
        self.delivered = bytearray()
        self.stored = bytearray()  # rows

    @property
    def sent(self) -> int:
        """How many there are."""
        return len(self.unheard)

    def send(self, count: int) -> None:
        """Note that the next `count` have been sent."""
        self.taken_at.extend([0.0] * count)
        for each in (self.unheard, self.acknowledged, self.delivered, self.stored):
            each.extend(bytes(count))


class Journal:
    """The events of one device, by sequence number less one."""

    def __init__(self) -> None:
        self.acknowledged = bytearray()
        self.stored = bytearray()

    @property
    def sent(self) -> int:
        """How many there are."""
        return len(self.stored)

    def send(self) -> int:
        """Note one more; returns its sequence number."""
        self.acknowledged.append(0)
        self.stored.append(0)
        return len(self.stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How what is stored differs from what was sent."""

    events_sent: int
    events_stored: int
    events_lost: int
    events_duplicated: int
    acked_events_missing: int
    heartbeats_sent: int
    heartbeats_taken: int  # by the broker, as it told the devices
    heartbeats_stored: int
    heartbeats_duplicated: int
    acked_heartbeats_missing: int
    unheard: int  # taken by the broker, which told the device that nobody was subscribed, and not stored
    lost: Mapping[Loss, int]  # taken by the broker in one of its outages, and not stored
    unexplained: int  # taken by the broker and not stored, for no such reason
    foreign: int  # rows nobody sent


@dataclass(slots=True)
class Watch:
    """Waits for messages that were sent after some instant to be acknowledged, on every one of some sessions."""

    heartbeats: Sequence[int]  # by gateway: numbers from here on are new
    events: dict[JournalKey, int]  # sequence numbers above this are new
    silent: set[str]  # sessions on which nothing new has been acknowledged
    heartbeat: bool = False
    event: bool = False

    @property
    def is_done(self) -> bool:
        """Whether a new heartbeat and a new event have been acknowledged, and something new on every session."""
        return self.heartbeat and self.event and not self.silent


@dataclass(slots=True)
class Ledger:
    """Takes down what devices, witness and database say."""

    traffic: Traffic
    heartbeats: list[Heartbeats]
    journals: dict[JournalKey, Journal]
    event_devices: dict[str, int]  # numbers by name
    foreign: int = 0
    events_delivered: int = 0  # PUBLISHes, repetitions included
    events_taken: int = 0  # by the broker, likewise
    watch: Watch | None = None
    outages: list[Outage] = field(default_factory=list)
    last_delivered_at: float = 0.0
    last_acknowledged_at: float = 0.0

    # --- what the devices say ---

    def taken(self, gateway: int, number: int, *, unheard: bool, at: float) -> None:
        """The broker answered a heartbeat."""
        book = self.heartbeats[gateway]
        book.taken_at[number] = at
        book.unheard[number] = unheard

    # --- what the witness says ---

    def note_delivered(self, topic: str, payload: bytes, *, at: float) -> None:
        """The broker gave a message to ingest."""
        self.last_delivered_at = at
        place = self._heartbeat(topic, payload)
        if place is not None:
            self.heartbeats[place[0]].delivered[place[1]] = 1
        elif self._event(topic, payload) is not None:
            self.events_delivered += 1

    def note_acknowledged(self, topic: str, payload: bytes, *, at: float, session: str) -> None:
        """Ingest acknowledged a message on one of its sessions."""
        self.last_acknowledged_at = at
        watch = self.watch
        place = self._heartbeat(topic, payload)
        if place is not None:
            gateway, number = place
            self.heartbeats[gateway].acknowledged[number] = 1
            if watch is not None and number >= watch.heartbeats[gateway]:
                watch.heartbeat = True
                watch.silent.discard(session)
            return
        event = self._event(topic, payload)
        if event is not None:
            key, sequence = event
            self.journals[key].acknowledged[sequence - 1] = 1
            if watch is not None and sequence > watch.events[key]:
                watch.event = True
                watch.silent.discard(session)

    def begin_watch(self, sessions: Iterable[str]) -> Watch:
        """Return a watch for messages sent from now on, over all these sessions; the one before is forgotten."""
        self.watch = Watch(
            heartbeats=[book.sent for book in self.heartbeats],
            events={key: journal.sent for key, journal in self.journals.items()},
            silent=set(sessions),
        )
        return self.watch

    def _heartbeat(self, topic: str, payload: bytes) -> tuple[int, int] | None:
        levels = topic.split("/")
        if levels[-2] != "heartbeat":
            return None
        gateway, index = divmod(int(levels[-1][-DIGITS:]), self.traffic.population.per_gateway)
        number = self.traffic.number_at(index, cbor2.loads(payload)[DEVICE_AT_KEY])
        return None if number is None else (gateway, number)

    def _event(self, topic: str, payload: bytes) -> tuple[JournalKey, int] | None:
        levels = topic.split("/")
        if levels[-2] != "event" or levels[-1] not in self.event_devices:
            return None
        envelope = cbor2.loads(payload)
        journal = int.from_bytes(envelope[JOURNAL_KEY], "big", signed=True)
        return (self.event_devices[levels[-1]], journal), envelope[SEQUENCE_KEY]

    # --- what the database says ---

    def enter_heartbeat(self, device_no: int, at_ms: int) -> None:
        """Count a row."""
        place = self.traffic.population.place(device_no)
        number = None if place is None else self.traffic.number_at(place[1], at_ms)
        if place is None or number is None or number >= self.heartbeats[place[0]].sent:
            self.foreign += 1
            return
        _count(self.heartbeats[place[0]].stored, number)

    def enter_event(self, device_no: int, journal: int, sequence: int) -> None:
        """Count a row."""
        book = self.journals.get((device_no, journal))
        if book is None or not 1 <= sequence <= book.sent:
            self.foreign += 1
            return
        _count(book.stored, sequence - 1)

    # --- the result ---

    def compare(self) -> Comparison:
        """Return how what was entered differs from what was sent."""
        journals, books = self.journals.values(), self.heartbeats
        missing = [
            (at, unheard)
            for book in books
            for at, unheard, acknowledged, stored in zip(
                book.taken_at, book.unheard, book.acknowledged, book.stored, strict=True
            )
            if at and not stored and not acknowledged  # what ingest acknowledged is excused by nothing
        ]
        lost = Counter(self._loss(at) for at, unheard in missing if not unheard)
        return Comparison(
            events_sent=sum(journal.sent for journal in journals),
            events_stored=sum(_present(journal.stored) for journal in journals),
            events_lost=sum(journal.sent - _present(journal.stored) for journal in journals),
            events_duplicated=sum(_surplus(journal.stored) for journal in journals),
            acked_events_missing=sum(_missing(journal.acknowledged, journal.stored) for journal in journals),
            heartbeats_sent=sum(book.sent for book in books),
            heartbeats_taken=sum(sum(map(bool, book.taken_at)) for book in books),
            heartbeats_stored=sum(_present(book.stored) for book in books),
            heartbeats_duplicated=sum(_surplus(book.stored) for book in books),
            acked_heartbeats_missing=sum(_missing(book.acknowledged, book.stored) for book in books),
            unheard=sum(unheard for _, unheard in missing),
            lost={loss: lost[loss] for loss in Loss},
            unexplained=lost[None],
            foreign=self.foreign,
        )

    def _loss(self, at: float) -> Loss | None:
        return next((outage.loss for outage in self.outages if outage.begin <= at <= outage.end), None)

    def undelivered(self) -> int:
        """Messages the broker took from devices, had somebody to give them to, and never gave to ingest."""
        heartbeats = sum(
            1
            for book in self.heartbeats
            for at, unheard, delivered in zip(book.taken_at, book.unheard, book.delivered, strict=True)
            if at and not unheard and not delivered
        )
        return heartbeats + self.events_taken - self.events_delivered


def _count(rows: bytearray, index: int) -> None:
    rows[index] = min(MOST_COUNTED, rows[index] + 1)


def _present(rows: bytearray) -> int:
    return len(rows) - rows.count(0)


def _surplus(rows: bytearray) -> int:
    return sum(count - 1 for count in rows if count > 1)


def _missing(acknowledged: bytearray, stored: bytearray) -> int:
    return sum(1 for wanted, rows in zip(acknowledged, stored, strict=True) if wanted and not rows)
