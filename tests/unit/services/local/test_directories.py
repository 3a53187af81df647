"""Who may pass through which folders."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.directories import is_reachable, make_passable, temporary_directory

OTHER = 54_321  # a user and group id that owns nothing here


@pytest.fixture
def way() -> Iterator[Path]:
    """`outer/inner/file`, below a temporary directory that others may enter."""
    with temporary_directory("loa-test-") as folder:
        folder.chmod(0o755)
        inner = folder / "outer" / "inner"
        inner.mkdir(parents=True)
        for each in (inner, inner.parent):
            each.chmod(0o711)
        yield inner / "file"


def test_open_way_is_reachable_and_one_closed_folder_ends_it(way: Path) -> None:
    assert is_reachable(way, OTHER, OTHER)
    way.parent.parent.chmod(0o700)
    assert not is_reachable(way, OTHER, OTHER)


def test_owner_and_group_go_by_their_own_bits(way: Path) -> None:
    way.parent.chmod(0o710)
    status = way.parent.stat()

    assert is_reachable(way, os.getuid(), OTHER)
    assert is_reachable(way, OTHER, status.st_gid)
    assert not is_reachable(way, OTHER, OTHER)

    # Closed to the owner although open to others: the first that fits decides, as in the kernel.
    way.parent.chmod(0o011)
    assert not is_reachable(way, status.st_uid, OTHER)
    way.parent.chmod(0o700)


def test_passable_folder_can_be_crossed_but_not_listed(tmp_path: Path) -> None:
    made = make_passable(tmp_path / "a" / "b")

    assert stat.S_IMODE(made.stat().st_mode) == 0o711


def test_temporary_directory_is_gone_afterwards_and_never_listable_by_others() -> None:
    with temporary_directory("loa-test-") as folder:
        (folder / "file").touch()
        assert stat.S_IMODE(folder.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    assert not folder.exists()
