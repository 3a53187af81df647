"""The event journal: numbered, kept until receipted, repeated with backoff (promise 2 of the platform).

`Journal` is what a device knows of its own events; `replay` reads it back from the bytes of its file and `…_record`
writes the bytes to append. No I/O and no clock here; `flash` does the writing.

An event gets its number when it is recorded, and numbers have no gaps: an event that turns out to be too large for the
broker is replaced under its number by a small one that says so, because a hole would stall the platform's ledger for
ever. An event is forgotten only on a receipt.

File: an 8-byte magic, then records of `length u32 | crc32 u32 | payload`, all numbers big-endian. The first byte of a
payload is its type: J (journal id), E (sequence u64, body), R (everything through u64 is receipted), X (first u64, last
u64 receipted). A record that is cut short or whose checksum is wrong ends the file: it is a torn tail, and the events
in it were never published, because an event is written before it is sent.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from firmware_sim import backoff
from schemas.receipts import Receipt

MAGIC = b"LOAJRNL1"
ID_BYTES = 8

CAPACITY = 20_000  # events; at 150 bytes each about 3 MB, a year of a busy cluster without any uplink
WINDOW = 32  # events published and not yet receipted
REPEAT_BASE_MS = 15_000  # a receipt follows a commit within a second or two; sooner would only be noise
REPEAT_CAP_MS = 600_000

_HEAD = struct.Struct(">II")
_U64 = struct.Struct(">Q")
_SPAN = struct.Struct(">QQ")
_MAX_RECORD = 1 << 16


@dataclass(slots=True)
class Entry:
    """One event waiting for its receipt. `due_ms` is the uptime from which it may be published (again)."""

    sequence: int
    body: bytes
    attempts: int = 0
    due_ms: int = 0


@dataclass(slots=True)
class Journal:
    """The unreceipted events of one device, oldest first."""

    id: bytes
    next_sequence: int = 1
    entries: OrderedDict[int, Entry] = field(default_factory=OrderedDict)

    def append(self, body: bytes) -> Entry | None:
        """Number `body` and keep it; None when the journal is full."""
        if len(self.entries) >= CAPACITY:
            return None
        entry = Entry(self.next_sequence, body)
        self.entries[entry.sequence] = entry
        self.next_sequence += 1
        return entry

    def take_back(self, entry: Entry) -> None:
        """Undo `append` of the newest entry, which could not be written: its number goes to the next one."""
        assert entry.sequence == self.next_sequence - 1
        del self.entries[entry.sequence]
        self.next_sequence -= 1

    def due(self, *, uptime_ms: int) -> list[Entry]:
        """The events to publish now: the oldest `WINDOW` unreceipted ones, as far as their time has come."""
        return [entry for entry in self._window() if entry.due_ms <= uptime_ms]

    def next_due_ms(self, *, uptime_ms: int) -> int | None:
        """Milliseconds until `due` has something; None when everything is receipted."""
        if not self.entries:
            return None
        return max(0, min(entry.due_ms for entry in self._window()) - uptime_ms)

    def published(self, entry: Entry, *, uptime_ms: int, draw: float) -> None:
        """Note one attempt: the next one comes later than the last."""
        entry.attempts += 1
        entry.due_ms = uptime_ms + backoff.delay_ms(
            entry.attempts, base_ms=REPEAT_BASE_MS, cap_ms=REPEAT_CAP_MS, draw=draw
        )

    def reconnected(self) -> None:
        """Begin anew after a connection was lost: what was under way may be gone, and waiting longer helps nobody."""
        for entry in self._window():
            entry.attempts = 0
            entry.due_ms = 0

    def acknowledge(self, receipt: Receipt) -> bool:
        """Forget what `receipt` covers; whether that was anything. A receipt for another journal covers nothing."""
        if receipt.journal != self.id or not self.entries:
            return False
        highest = receipt.ranges[-1].last if receipt.ranges else receipt.through
        covered = []
        for sequence in self.entries:
            if sequence > highest:
                break
            if receipt.covers(sequence):
                covered.append(sequence)
        for sequence in covered:
            del self.entries[sequence]
        return bool(covered)

    def _window(self) -> Iterable[Entry]:
        entries = iter(self.entries.values())
        return [entry for _, entry in zip(range(WINDOW), entries, strict=False)]


# --- the file --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a journal file holds: the journal, and how many of its bytes are sound."""

    journal: Journal
    sound_bytes: int


def replay(content: bytes) -> Replayed | None:
    """Read a journal back; None when not even its id can be read: that flash is new."""
    if not content.startswith(MAGIC):
        return None
    journal: Journal | None = None
    at = len(MAGIC)
    while (payload := _record_at(content, at)) is not None:
        if journal is None:
            if payload[:1] != b"J" or len(payload) != 1 + ID_BYTES:
                return None
            journal = Journal(payload[1:])
        else:
            _apply(journal, payload)
        at += _HEAD.size + len(payload)
    return None if journal is None else Replayed(journal, at)


def _record_at(content: bytes, at: int) -> bytes | None:
    if len(content) < at + _HEAD.size:
        return None
    length, checksum = _HEAD.unpack_from(content, at)
    payload = content[at + _HEAD.size : at + _HEAD.size + length]
    if not 0 < length <= _MAX_RECORD or len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    return payload


def _apply(journal: Journal, payload: bytes) -> None:
    """Take over one record. Checksums have vouched for it, so anything odd is a bug and raises."""
    kind, rest = payload[:1], payload[1:]
    if kind == b"E":
        (sequence,) = _U64.unpack_from(rest)
        journal.entries[sequence] = Entry(sequence, rest[_U64.size :])
        journal.next_sequence = max(journal.next_sequence, sequence + 1)
    elif kind == b"R":
        (through,) = _U64.unpack(rest)
        for sequence in [each for each in journal.entries if each <= through]:
            del journal.entries[sequence]
        journal.next_sequence = max(journal.next_sequence, through + 1)
    elif kind == b"X":
        first, last = _SPAN.unpack(rest)
        for sequence in [each for each in journal.entries if first <= each <= last]:
            del journal.entries[sequence]
    else:
        raise ValueError(f"journal record of unknown type {kind!r}")


def header(journal_id: bytes) -> bytes:
    """The beginning of a journal file."""
    return MAGIC + _record(b"J" + journal_id)


def entry_record(entry: Entry) -> bytes:
    """The record of one event; a later record of the same number replaces an earlier one."""
    return _record(b"E" + _U64.pack(entry.sequence) + entry.body)


def receipt_record(journal: Journal, receipt: Receipt) -> bytes:
    """The records of one receipt, as far as it speaks of numbers this journal has given."""
    highest = journal.next_sequence - 1
    spans = b"".join(
        _record(b"X" + _SPAN.pack(span.first, min(span.last, highest)))
        for span in receipt.ranges
        if span.first <= highest
    )
    return _record(b"R" + _U64.pack(min(receipt.through, highest))) + spans


def compacted(journal: Journal) -> bytes:
    """A whole file that holds only what is still needed. The number to go on with survives without any event."""
    oldest = next(iter(journal.entries), journal.next_sequence)
    entries = b"".join(entry_record(entry) for entry in journal.entries.values())
    # Everything below the oldest entry is receipted; higher receipted numbers are holes between the entries, and the
    # highest number ever given is held by a receipt of its own when its event is gone.
    floor = _record(b"R" + _U64.pack(oldest - 1))
    return header(journal.id) + floor + entries + _last_number(journal)


def _last_number(journal: Journal) -> bytes:
    """A record that keeps `next_sequence` when the newest event is receipted and an older one is not."""
    last = journal.next_sequence - 1
    if not journal.entries or last in journal.entries:
        return b""
    # An empty event under the last number, receipted at once: the number counts and nothing is left of it.
    return _record(b"E" + _U64.pack(last)) + _record(b"X" + _SPAN.pack(last, last))


def _record(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
