"""A batch of judged uplinks, sorted into what each table gets. Pure: the store writes it in one transaction."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from schemas.fields import DeviceKind
from services.ingest.admission import Cleared, Event, Heartbeat, Numbered, Presence, Quarantined, Reading, Verdict
from services.ingest.express import ExpressRows
from services.ingest.registry import Registered
from services.ingest.rows import HeardKind, Row
from services.ingest.stamps import OLD, Stamp, TimeSource

PAYLOAD_KEPT_BYTES = 8_192  # above every honest uplink (schemas.limits.UPLINK_BYTES)
DETAIL_KEPT_CHARACTERS = 500
TOPIC_KEPT_CHARACTERS = 256
NAME_KEPT_CHARACTERS = 64

CLOCK_ABSURD = "clock_absurd"  # counted beside the reasons of quarantine; the message itself is admitted

Digest = tuple[str, bytes]  # principal, SHA-256 of the payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One uplink as taken from the broker, with what was made of it. `packet_id` is None where nothing is owed (QoS 0).

    `connection` numbers the network connection it came over: an acknowledgement is only worth something there.
    """

    topic: str
    payload: bytes
    is_retained: bool
    packet_id: int | None
    connection: int
    received_at: datetime
    verdict: Verdict


@dataclass(slots=True)
class Part:
    """Messages that are settled together: a batch as it was cut, or a piece of one.

    `may_be_stored` where some of its express rows may be in the database already: after a commit whose outcome nobody knows.
    """

    messages: Sequence[Taken]
    express: ExpressRows = field(default_factory=ExpressRows)
    may_be_stored: bool = False

    def __len__(self) -> int:
        return len(self.messages) + len(self.express)

    @property
    def bytes(self) -> int:
        """What it counts for among the bytes in hand."""
        return sum(len(message.payload) for message in self.messages) + self.express.bytes


@dataclass(slots=True)
class Inmate:
    """What goes to quarantine: all messages of a batch with the same bytes from the same principal."""

    principal: str
    device_id: str | None
    topic: str
    reason: str
    detail: str
    payload: bytes  # the first PAYLOAD_KEPT_BYTES
    size: int
    is_numbered: bool
    first_seen_at: datetime
    last_seen_at: datetime
    messages: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One event for the ledger: with its row, or with the digest under which its bytes go to quarantine."""

    numbered: Numbered
    row: Row | None
    digest: Digest | None


@dataclass(slots=True)
class Tally:
    """Messages and bytes counted against a principal for one reason."""

    messages: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Batch:
    """Everything one transaction writes."""

    # Heartbeat rows, each with its principal at the end: sensors' apart, of SENSOR_COLUMNS.
    heartbeats: list[Row] = field(default_factory=list)
    sensor_heartbeats: list[Row] = field(default_factory=list)
    readings: list[Row] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    presences: list[Presence] = field(default_factory=list)
    heard: dict[int, tuple[Registered, HeardKind, datetime]] = field(default_factory=dict)
    inmates: dict[Digest, Inmate] = field(default_factory=dict)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)  # by principal and reason
    late_hours: set[datetime] = field(default_factory=set)
    late_sensor_hours: set[tuple[datetime, int]] = field(default_factory=set)  # hour and device
    admitted: Counter[str] = field(default_factory=Counter)  # messages, by kind
    clock_refused: int = 0
    cleared: int = 0
    taken: int = 0

    @property
    def quarantined(self) -> Counter[str]:
        """Messages not admitted, by reason."""
        counts: Counter[str] = Counter()
        for (_, reason), tally in self.tallies.items():
            if reason != CLOCK_ABSURD:
                counts[reason] += tally.messages
        return counts


def assemble(messages: Iterable[Taken], *, now: datetime) -> Batch:
    """Return the messages as one batch, written at `now`. Order of arrival is kept within each table."""
    batch = Batch()
    this_hour = _hour(now)
    for message in messages:
        batch.taken += 1
        verdict = message.verdict
        match verdict:
            case Heartbeat(device, stamp, row):
                rows = batch.sensor_heartbeats if device.kind is DeviceKind.SENSOR else batch.heartbeats
                rows.append((*row, device.principal))
                if device.kind is not DeviceKind.SENSOR:
                    _note_hour(batch, stamp, this_hour)
                elif stamp.at < this_hour:
                    batch.late_sensor_hours.add((_hour(stamp.at), device.device_no))
                if stamp.received_at - stamp.at > OLD:
                    _hear(batch, device, HeardKind.HEARTBEAT, stamp)
            case Reading(device, stamp, samples):
                for sample_stamp, row in samples:
                    batch.readings.append(row)
                    _note_hour(batch, sample_stamp, this_hour)
                _hear(batch, device, HeardKind.READING, stamp)
            case Event(numbered, stamp, row):
                batch.entries.append(Entry(numbered, row, None))
                _hear(batch, numbered.device, HeardKind.EVENT, stamp)
            case Presence(device, stamp, _, online):
                batch.presences.append(verdict)
                # That it went offline is the broker's word, not the device's; and what the broker has kept is old news.
                if online and not message.is_retained:
                    _hear(batch, device, HeardKind.PRESENCE, stamp)
            case Quarantined():
                _quarantine(batch, message, verdict)
                continue
            case Cleared():
                batch.cleared += 1
                continue
            case _:
                assert_never(verdict)
        batch.admitted[type(verdict).__name__.lower()] += 1
        if stamp.source is TimeSource.CLOCK_ABSURD:
            batch.clock_refused += 1
            _count(batch, verdict.device.principal, CLOCK_ABSURD, message.payload)
    return batch


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _note_hour(batch: Batch, stamp: Stamp, this_hour: datetime) -> None:
    if stamp.at < this_hour:
        batch.late_hours.add(_hour(stamp.at))


def _hear(batch: Batch, device: Registered, kind: HeardKind, stamp: Stamp) -> None:
    known = batch.heard.get(device.device_no)
    if known is None or known[2] <= stamp.received_at:
        batch.heard[device.device_no] = (device, kind, stamp.received_at)


def _quarantine(batch: Batch, message: Taken, verdict: Quarantined) -> None:
    principal = _clean(verdict.principal, NAME_KEPT_CHARACTERS)
    digest = (principal, hashlib.sha256(message.payload).digest())
    if verdict.numbered is not None:
        batch.entries.append(Entry(verdict.numbered, None, digest))
    _count(batch, principal, verdict.reason, message.payload)
    inmate = batch.inmates.get(digest)
    if inmate is not None:
        inmate.messages += 1
        inmate.last_seen_at = message.received_at
        return
    batch.inmates[digest] = Inmate(
        principal=principal,
        device_id=None if verdict.device_id is None else _clean(verdict.device_id, NAME_KEPT_CHARACTERS),
        topic=_clean(message.topic, TOPIC_KEPT_CHARACTERS),
        reason=verdict.reason,
        detail=_clean(verdict.detail, DETAIL_KEPT_CHARACTERS),
        payload=message.payload[:PAYLOAD_KEPT_BYTES],
        size=len(message.payload),
        is_numbered=verdict.numbered is not None,
        first_seen_at=message.received_at,
        last_seen_at=message.received_at,
    )


def _count(batch: Batch, principal: str, reason: str, payload: bytes) -> None:
    tally = batch.tallies.setdefault((principal, reason), Tally())
    tally.messages += 1
    tally.bytes += len(payload)


def _clean(text: str, limit: int) -> str:
    """Return `text` as PostgreSQL can hold it: no NUL, no lone surrogates, not too long."""
    return text[:limit].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
