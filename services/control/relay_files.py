"""Segments of relays on disk, each under the SHA-256 of its bytes, and the signed list of each source beside them.

They live in the media directory, which all replicas share, so any of them can hand out what one of them relays. Nothing
here is kept: a segment is of no use a minute after it sounded, and a torn file only costs two seconds of sound.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import uuid
from datetime import datetime, timedelta
from pathlib import Path

# Beyond the time a list is valid and a device may lag: who still asks then has missed it.
KEPT_FOR = timedelta(minutes=2)
_LIST = "list"


class RelayFiles:
    """The store below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "relays"

    async def add_segment(self, source_id: uuid.UUID, content: bytes) -> bytes:
        """Store a segment and return its SHA-256. Raises OSError."""
        return await asyncio.to_thread(self._add_segment, source_id, content)

    async def put_list(self, source_id: uuid.UUID, message: bytes) -> None:
        """Replace the list of a source. Raises OSError."""
        await asyncio.to_thread(self._write, self._of(source_id) / _LIST, message)

    async def read_list(self, source_id: uuid.UUID, *, not_before: datetime) -> bytes | None:
        """The list of a source, unless it was last written before that instant."""
        return await asyncio.to_thread(self._read, self._of(source_id) / _LIST, not_before.timestamp())

    async def read_segment(self, source_id: uuid.UUID, sha256: bytes) -> bytes | None:
        """The bytes of a segment, if it is still there."""
        return await asyncio.to_thread(self._read, self._of(source_id) / sha256.hex(), 0.0)

    async def sweep(self, *, now: datetime) -> None:
        """Remove what nobody can want any more, of every source, whoever wrote it."""
        await asyncio.to_thread(self._sweep, (now - KEPT_FOR).timestamp())

    async def clear(self, source_id: uuid.UUID) -> None:
        """Remove everything of a source: it is not relayed any more."""
        await asyncio.to_thread(shutil.rmtree, self._of(source_id), ignore_errors=True)

    def _of(self, source_id: uuid.UUID) -> Path:
        return self._directory / str(source_id)

    def _add_segment(self, source_id: uuid.UUID, content: bytes) -> bytes:
        sha256 = hashlib.sha256(content).digest()
        # Also when it is there: two stretches of silence are one file, and its age is that of the newer one.
        self._write(self._of(source_id) / sha256.hex(), content)
        return sha256

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _read(self, path: Path, not_before: float) -> bytes | None:
        try:
            return path.read_bytes() if path.stat().st_mtime >= not_before else None
        except FileNotFoundError:
            return None

    def _sweep(self, before: float) -> None:
        if not self._directory.is_dir():
            return
        for folder in self._directory.iterdir():
            if folder.is_dir():
                _sweep_folder(folder, before)


def _sweep_folder(folder: Path, before: float) -> None:
    for path in folder.iterdir():
        # Another replica may sweep too.
        try:
            if path.stat().st_mtime < before:
                path.unlink()
        except FileNotFoundError:
            continue
