"""Parts of control with a real database; those that publish also with a real broker."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.control.trust.keyring import Keyring
from tests.support.broker import broker as broker
from tests.support.broker import pki as pki
from tests.support.control import Province, a_keyring, a_province
from tests.support.database import TestDatabase


@pytest_asyncio.fixture
async def province(database: TestDatabase) -> AsyncIterator[Province]:
    """A small province in a database of this test's own."""
    async with a_province(database) as made:
        yield made


@pytest.fixture
def keyring() -> Keyring:
    """Keys of this test's own."""
    return a_keyring()
