"""Follows the broker's log and tells of every refusal in it, for as long as it runs.

The log may not be there yet, may be emptied or replaced under the reader (log rotation), and grows with what strangers
send; so it is read in portions, a line may be any length, and what was written before we came is not counted again. A
line lost to a rotation is a count lost, never an error.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Self

from services.ingest.brokerlog import LONGEST_LINE, Refusal, parse_line

log = logging.getLogger(__name__)

POLL_EVERY = timedelta(milliseconds=500)
PORTION_BYTES = 256 * 1024  # read without giving others a turn


async def follow(path: Path, tell: Callable[[Refusal], None], *, poll_every: timedelta = POLL_EVERY) -> None:
    """Call `tell` for each refusal written to `path` from now on; runs until cancelled."""
    with Tail(path) as tail:
        while True:
            if not tail.read(tell):
                await asyncio.sleep(poll_every.total_seconds())
            else:
                await asyncio.sleep(0)


class Tail:
    """The open log, what has been read of it, and the unfinished line at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._line = b""
        self._complained = False
        self._open(at_end=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, tell: Callable[[Refusal], None]) -> bool:
        """Tell of the next portion; returns whether there was one."""
        if self._file is None:
            self._open(at_end=False)
        if self._file is None:
            return False
        portion = self._file.read(PORTION_BYTES)
        if not portion:
            if self._was_replaced():
                self._close()
            return False
        *lines, rest = (self._line + portion).split(b"\n")
        # Of a line without end only the beginning is of interest.
        self._line = rest[: 4 * LONGEST_LINE]
        for line in lines:
            refusal = parse_line(line.decode("utf-8", "replace"))
            if refusal is not None:
                tell(refusal)
        return True

    def _open(self, *, at_end: bool) -> None:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            if not self._complained:
                log.warning("broker_log_unreadable", extra={"path": str(self._path), "error": str(error)})
                self._complained = True
            return
        self._complained = False
        self._line = b""
        if at_end:
            self._file.seek(0, os.SEEK_END)

    def _was_replaced(self) -> bool:
        assert self._file is not None
        ours = os.fstat(self._file.fileno())
        try:
            named = self._path.stat()
        except OSError:
            return False  # between the two steps of a rotation; there is still time
        return (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino) or named.st_size < self._file.tell()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
