"""Heads as files of their own, in a directory that lies elsewhere: another machine's, or one that is only appended to."""

from __future__ import annotations

import os
from pathlib import Path

from services.control.auditing.heads import Head


def write(directory: Path, head: Head) -> Path:
    """Write a head, whole or not at all; one that is there already is left alone. Raises OSError."""
    path = directory / f"loa-audit-head-{head.number:012}.json"
    if path.exists():
        return path
    partial = directory / f".{path.name}.{os.getpid()}"
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(head.as_line() + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
