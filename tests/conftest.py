"""Fixtures every kind of test may use; fixtures of one kind live in the folder of that kind."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import pytest_asyncio

from tests.support.database import TestDatabase, TestServer, test_server

# Properties are judged by their truth, not by their speed: a busy machine must not fail them.
hypothesis.settings.register_profile("loa", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("loa")


# The files that take longest for the few tests they have: begun last, one of them would go on alone at the end.
_FIRST = ("tests/system/", "tests/integration/firmware/", "tests/integration/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several workers share the files, the long ones come first; alone, what is quickest to fail does."""
    if hasattr(config, "workerinput"):
        items.sort(
            key=lambda item: next((n for n, each in enumerate(_FIRST) if item.nodeid.startswith(each)), len(_FIRST))
        )


@pytest.fixture(scope="session")
def database_server() -> Iterator[TestServer]:
    """A real PostgreSQL, started when the first test asks for it."""
    with test_server() as server:
        yield server


@pytest_asyncio.fixture
async def database(database_server: TestServer) -> AsyncIterator[TestDatabase]:
    """A database of this test's own, fully migrated."""
    made = await database_server.make_migrated()
    yield made
    await database_server.drop(made)


@pytest_asyncio.fixture
async def empty_database(database_server: TestServer) -> AsyncIterator[TestDatabase]:
    """A database of this test's own, without anything in it."""
    made = await database_server.make()
    yield made
    await database_server.drop(made)


@pytest_asyncio.fixture
async def _no_tasks_left() -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"the test left tasks running: {', '.join(sorted(map(repr, left)))}"


@pytest.fixture(autouse=True)
def _leave_no_tasks(request: pytest.FixtureRequest) -> None:
    """A test that leaves asyncio tasks behind fails: somewhere a task has no owner."""
    if isinstance(request.node, pytest.Function) and asyncio.iscoroutinefunction(request.node.obj):
        # Asked for first, so torn down last: after the fixtures that own tasks have ended them.
        request.getfixturevalue("_no_tasks_left")
