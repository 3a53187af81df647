"""System users of our own, made once on a machine.

`useradd` of Debian 12 does not keep others out while it looks for a free number: of three at once each writes a user of
its own over the others', and whoever asked in between holds a number that belongs to nobody. So one of ours at a time.
"""

import fcntl
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# Always there, and there is one of it on a machine, whatever checkouts and users there are.
LOCK = "/etc"


class NoSystemUser(Exception):
    """The user is missing and could not be made; the message is `useradd`'s."""


def system_user(name: str) -> tuple[int, int]:
    """User and group id of a system user without home and shell, made when missing; needs root to make one.

    Raises NoSystemUser.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        with _one_at_a_time():
            entry = _find_or_make(name)
    return entry.pw_uid, entry.pw_gid


def _find_or_make(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        made = subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise NoSystemUser(made.stderr.strip() or f"useradd ended with {made.returncode}") from None


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    folder = os.open(LOCK, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
