"""Fixtures of tests that run the whole platform."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.directories import temporary_directory


@pytest.fixture
def passable_tmp() -> Iterator[Path]:
    """A folder that the database's and the broker's users can pass through when the tests run as root."""
    with temporary_directory("loa-system-") as path:
        yield path
