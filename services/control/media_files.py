"""Sounds, pictures and films on disk, each under the SHA-256 of its bytes; nothing of a user's file name ever becomes a path.

A file appears under its name whole or not at all: it is written beside, synced and renamed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from services.control.errors import TooLarge

CHUNK = 256 * 1024
_ABANDONED_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A file that was taken in and has no name yet."""

    path: Path
    sha256: bytes
    size: int


class MediaFiles:
    """The content-addressed store below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._staging = directory / "staging"

    def prepare(self, *, now: datetime) -> None:
        """Make the directories, and clear away what a process that is no more left unfinished.

        Another replica may be taking a file in just now, so only what is a day old goes.
        """
        self._staging.mkdir(parents=True, exist_ok=True)
        for leftover in self._staging.iterdir():
            if leftover.stat().st_mtime < (now - _ABANDONED_AFTER).timestamp():
                leftover.unlink(missing_ok=True)

    def path(self, sha256: bytes) -> Path:
        """Where the file of that name lies, if it does."""
        name = sha256.hex()
        return self._directory / name[:2] / name

    async def stage(self, source: BinaryIO, *, limit: int) -> Staged:
        """Copy a file in. Raises `TooLarge` beyond `limit` bytes."""
        return await asyncio.to_thread(self._stage, source, limit)

    async def commit(self, staged: Staged) -> bool:
        """Give the file its name, durably; returns False when the same bytes were there already."""
        return await asyncio.to_thread(self._commit, staged)

    async def discard(self, staged: Staged) -> None:
        """Remove a staged file; one that has its name already is left alone."""
        await asyncio.to_thread(staged.path.unlink, missing_ok=True)

    def _stage(self, source: BinaryIO, limit: int) -> Staged:
        handle, name = tempfile.mkstemp(dir=self._staging)
        path = Path(name)
        digest = hashlib.sha256()
        size = 0
        try:
            with os.fdopen(handle, "wb") as file:
                while chunk := source.read(CHUNK):
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge("media_too_large", facts={"limit": limit // (1024 * 1024)})
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Staged(path=path, sha256=digest.digest(), size=size)

    def _commit(self, staged: Staged) -> bool:
        final = self.path(staged.sha256)
        if final.exists():
            staged.path.unlink(missing_ok=True)
            return False
        final.parent.mkdir(exist_ok=True)
        staged.path.chmod(0o640)
        staged.path.rename(final)
        for directory in (final.parent, self._directory):
            _sync(directory)
        return True


async def chunks(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    """Bytes [`start`, `end`) of a file, read off the event loop."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, start)
        left = end - start
        while left > 0:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, left))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk
    finally:
        file.close()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
