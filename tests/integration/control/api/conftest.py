"""The API over a real database, called in process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.control_api import Api, an_api
from tests.support.database import TestDatabase


@pytest_asyncio.fixture
async def api(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Api]:
    """The application with a small tree of units."""
    async with an_api(database, tmp_path) as made:
        yield made
