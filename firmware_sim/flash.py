"""A device's flash: one folder per device with its orders, notes, journal and media.

Durability. Everything is handed to the operating system before the device acts on it, so killing this process at any
instant (`kill -9`) loses nothing and reuses no event number. Whether it also survives a power cut of the machine the
simulator runs on is a setting (`SIM_FSYNC`): with it every write waits for the disk, as a vendor's firmware would;
without it (the default) a fleet of hundreds does not keep one disk busy with thousands of syncs a minute. After a power
cut of the machine without it, delete the data folder: new flash, new journals.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
import zlib
from pathlib import Path

from firmware_sim import journal, memory
from firmware_sim.journal import Entry, Journal
from schemas.receipts import Receipt

COMPACT_ABOVE_BYTES = 64 * 1024

_JOURNAL = "journal"
_ALIVE = "alive"
_MEDIA = "media"
_PART = ".part"

_HEAD = struct.Struct(">II")  # length and checksum of what follows
_GENERATION = struct.Struct(">Q")


class Flash:
    """The folder of one device. Every method is a few system calls on small files."""

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self._folder = folder
        self._fsync = fsync
        self._generations: dict[str, int] = {}
        self.media_folder = folder / _MEDIA
        self.media_folder.mkdir(parents=True, exist_ok=True)
        self._media_name = str(self.media_folder)

    # --- memory ------------------------------------------------------------------------------------------------------

    def recollect(self) -> memory.Recollection:
        """What the device finds when it starts."""
        return memory.Recollection(
            files={name: content for name in memory.FILES if (content := self._load(name)) is not None},
            media=self._media(),
            last_up_at_ms=self._last_alive(),
        )

    def save(self, name: str, content: bytes | None) -> None:
        """Replace a file whole, or delete it."""
        if content is None:
            for slot in range(2):
                self._slot(name, slot).unlink(missing_ok=True)
            return
        generation = self._generations.get(name, 0) + 1
        self._generations[name] = generation
        body = _GENERATION.pack(generation) + content
        self._overwrite(self._slot(name, generation % 2), _HEAD.pack(len(body), zlib.crc32(body)) + body)

    def note_alive(self, at_ms: int) -> None:
        """Write down the time; whatever becomes of a torn write, it has twenty digits or counts as nothing."""
        self._overwrite(self._folder / _ALIVE, b"%020d" % at_ms)

    def _last_alive(self) -> int | None:
        content = self._read(_ALIVE)
        return int(content) if content is not None and len(content) == 20 and content.isdigit() else None

    def _load(self, name: str) -> bytes | None:
        """The newest sound slot of a file."""
        newest = max(filter(None, (_sound_slot(self._read(f"{name}.{slot}")) for slot in range(2))), default=None)
        self._generations[name] = 0 if newest is None else newest[0]
        return None if newest is None else newest[1]

    def _slot(self, name: str, slot: int) -> Path:
        return self._folder / f"{name}.{slot}"

    def _overwrite(self, path: Path, content: bytes) -> None:
        """Write over the beginning of a file, which keeps whatever lies behind."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, content, 0)
            if self._fsync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    # --- journal -----------------------------------------------------------------------------------------------------

    def open_journal(self) -> Journal:
        """The journal on flash without its torn tail, or a new one with a new id."""
        content = self._read(_JOURNAL)
        replayed = None if content is None else journal.replay(content)
        if content is None or replayed is None:
            fresh = Journal(secrets.token_bytes(journal.ID_BYTES))
            self._replace(_JOURNAL, journal.header(fresh.id))
            return fresh
        if replayed.sound_bytes < len(content):
            os.truncate(self._folder / _JOURNAL, replayed.sound_bytes)
        return replayed.journal

    def write_event(self, entry: Entry) -> None:
        """Append one event; only then may it be published. Raises `OSError` when the disk takes it not, or not whole."""
        self._append(journal.entry_record(entry))

    def write_receipt(self, kept: Journal, receipt: Receipt) -> None:
        """Append a receipt, or write the whole journal anew when most of the file is of no use any more."""
        if self._journal_bytes() > COMPACT_ABOVE_BYTES and len(kept.entries) * 256 < COMPACT_ABOVE_BYTES:
            self._replace(_JOURNAL, journal.compacted(kept))
        else:
            self._append(journal.receipt_record(kept, receipt))

    def _journal_bytes(self) -> int:
        return (self._folder / _JOURNAL).stat().st_size

    def _append(self, record: bytes) -> None:
        # Opened for each append: a file handle held by each of ten thousand devices would exhaust the process's limit.
        descriptor = os.open(self._folder / _JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            sound_bytes = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, record) != len(record):
                    raise OSError(errno.ENOSPC, "the disk took only part of a record")
            except OSError:
                # Half a record would hide everything written after it.
                os.ftruncate(descriptor, sound_bytes)
                raise
            if self._fsync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    # --- media -------------------------------------------------------------------------------------------------------

    def media_file(self, sha256: bytes) -> Path:
        """Where a verified file lies."""
        return Path(self.media_name(sha256))

    def media_name(self, sha256: bytes) -> str:
        """The same as a name, for who is in a hurry."""
        return f"{self._media_name}/{sha256.hex()}"

    def media_part(self, sha256: bytes) -> Path:
        """Where a file lies while it comes in."""
        return self.media_folder / (sha256.hex() + _PART)

    def delete_media(self, sha256: bytes) -> None:
        """Make room."""
        self.media_file(sha256).unlink(missing_ok=True)

    def _media(self) -> dict[bytes, int]:
        """Complete files; they were verified when they got their name. Other names are none of ours."""
        found: dict[bytes, int] = {}
        for entry in os.scandir(self.media_folder):
            if len(entry.name) == 64 and not entry.name.endswith(_PART):
                try:
                    found[bytes.fromhex(entry.name)] = entry.stat().st_size
                except ValueError:
                    continue
        return found

    # --- files -------------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _replace(self, name: str, content: bytes) -> None:
        """Write beside and rename over: after a crash the file is the old one or the new one."""
        path = self._folder / name
        beside = self._folder / f".{name}.new"
        with beside.open("wb") as file:
            file.write(content)
            if self._fsync:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
        if self._fsync:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _sound_slot(content: bytes | None) -> tuple[int, bytes] | None:
    """The generation and content of a slot; None when it is empty, cut short or damaged."""
    if content is None or len(content) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack_from(content)
    body = content[_HEAD.size : _HEAD.size + length]
    if length < _GENERATION.size or len(body) != length or zlib.crc32(body) != checksum:
        return None
    (generation,) = _GENERATION.unpack_from(body)
    return generation, body[_GENERATION.size :]
