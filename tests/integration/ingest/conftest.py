"""Ingest between a real broker and a real database, with an independent client (paho) in the part of the devices."""

from collections.abc import AsyncIterator

import pytest_asyncio

from services.local.broker import Broker
from tests.integration.ingest.support import Bench, a_bench
from tests.support.broker import broker as broker
from tests.support.broker import pki as pki
from tests.support.database import TestDatabase


@pytest_asyncio.fixture
async def bench(database: TestDatabase, broker: Broker) -> AsyncIterator[Bench]:
    """A broker, a migrated database with a small registry, and the means to run ingest between them."""
    async with a_bench(database.ingest, database.owner, broker) as made:
        yield made
