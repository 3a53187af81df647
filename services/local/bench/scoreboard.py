"""Counters that two processes share: a small file mapped into both.

Each slot has one writer. An aligned eight-byte integer is written and read whole on every machine we run on, so nothing
is locked, and reading a counter two hundred times a second costs nobody anything.
"""

import enum
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_LIMIT = 2**62


class State(enum.IntEnum):
    """How far a generator is."""

    PREPARING = 0
    READY = 1  # connected, every message made
    SENDING = 2
    EXHAUSTED = 3  # every message made has been sent
    DONE = 4  # told to stop, everything sent is acknowledged


class Slot(enum.IntEnum):
    """What is shared."""

    STATE = 0  # the generator's; the rest down to GO too
    BASE_MS = 1  # device time of the first message
    SENT = 2
    ACKNOWLEDGED = 3
    UNHEARD = 4
    REFUSED = 5
    HELD_NS = 6  # how long it could have sent and was not allowed to
    GO = 7  # whoever measures: 0 wait, 1 send, 2 stop; the rest too
    ALLOWED = 8  # how many may have been sent


class Scoreboard:
    """The shared counters."""

    def __init__(self, slots: memoryview) -> None:
        self._slots = slots

    def __getitem__(self, slot: Slot) -> int:
        return int(self._slots[slot])

    def __setitem__(self, slot: Slot, value: int) -> None:
        self._slots[slot] = value


@contextmanager
def open_scoreboard(path: Path) -> Iterator[Scoreboard]:
    """The counters in the file `path`, all zero when it is new."""
    size = 8 * len(Slot)
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)  # which lengthens with zeros, and leaves what is there
        with mmap.mmap(file.fileno(), size) as shared, memoryview(shared) as raw, raw.cast("q") as slots:
            yield Scoreboard(slots)
