"""Follows the broker's log and counts what it says was refused: those messages never reach ingest."""

import asyncio
import io
import logging
import os
from datetime import timedelta
from pathlib import Path

from services.ingest import brokerlog
from services.ingest.metrics import Metrics

POLL = timedelta(seconds=1)
READ_AT_ONCE = 256 * 1024  # bytes; a flood is read over several polls, the event loop runs in between

log = logging.getLogger(__name__)


async def follow_log(path: Path, metrics: Metrics) -> None:
    """Count refusals written to `path` from now on, until cancelled. The file may come late, shrink or be replaced."""
    follower = LogFollower(path)
    while True:
        try:
            lines = follower.new_lines()
        except OSError as error:
            log.warning("broker_log_unreadable", extra={"reason": str(error)})
            lines = []
        for line in lines:
            refusal = brokerlog.parse_line(line)
            if refusal is not None:
                metrics.broker_refusals.labels(kind=refusal.kind.value).inc()
                log.info("broker_refused", extra={"kind": refusal.kind.value, "client": refusal.client})
        await asyncio.sleep(POLL.total_seconds() if not lines else 0)


class LogFollower:
    """Reads what is appended to a file, whole lines at a time, beginning at the end it had when first seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._position = 0
        self._begun = b""

    def new_lines(self) -> list[str]:
        """Return the lines completed since the last call. Raises `OSError`, but not for a file that is not there."""
        try:
            with self._path.open("rb") as file:
                return self._read(file)
        except FileNotFoundError:
            if self._inode is None:
                self._inode = 0  # it was not there at the start, so all of it will be new
            return []

    def _read(self, file: io.BufferedReader) -> list[str]:
        status = os.fstat(file.fileno())
        if self._inode is None:
            self._position = status.st_size
        elif status.st_ino != self._inode or status.st_size < self._position:
            self._position = 0
            self._begun = b""
        self._inode = status.st_ino
        file.seek(self._position)
        data = file.read(READ_AT_ONCE)
        self._position += len(data)
        *lines, self._begun = (self._begun + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]
