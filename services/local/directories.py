"""Directories that programs running as somebody else can reach.

Started by root, the database and the broker run as unprivileged users. They need to *pass through* every folder above
their own, which a folder made by `tempfile.mkdtemp` (0700) or a home such as `/root` does not allow. No folder we did
not make is ever opened up; where the way is closed, a place under `STATE` is used instead.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATE = Path("/var/lib/loa")
"""Where root keeps what others must reach but whose natural place they cannot reach."""

PASSABLE = 0o711


def make_passable(path: Path) -> Path:
    """The folder, made if need be, that others may pass through but not list."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(PASSABLE)
    return path


def state_directory(*names: str) -> Path:
    """A folder below `STATE`, passable all the way. For root only."""
    path = STATE
    make_passable(path)
    for name in names:
        path = path / name
        make_passable(path)
    return path


def is_reachable(path: Path, uid: int, gid: int) -> bool:
    """Whether a user of no further groups may pass through every folder above `path`.

    Goes by owner and mode bits; access lists are not looked at.
    """
    for folder in path.resolve().parents:
        status = folder.stat()
        if status.st_uid == uid:
            needed = stat.S_IXUSR
        elif status.st_gid == gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


@contextmanager
def temporary_directory(prefix: str = "loa-", *, within: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed at the end; for root it is passable, otherwise private."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        if os.geteuid() == 0:
            path.chmod(PASSABLE)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
