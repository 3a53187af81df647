"""What every bench does about its report: tell of progress, end in time, and say what went wrong instead of falling over."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from services.local.bench.measurement import BenchFailed
from services.local.broker import BrokerFailed
from services.local.postgres import PostgresFailed
from services.local.processes import ProcessFailed
from services.shared.database.errors import DatabaseError
from services.shared.database.migrate import MigrationError

Report = dict[str, Any]

LOOK_EVERY_S = 0.5
TELL_EVERY_S = 10


@asynccontextmanager
async def reported(report: Report, *, deadline: timedelta, mend: str = "") -> AsyncIterator[None]:
    """The measuring itself: what goes wrong inside stands in the report's `problems`; `mend` says what helps a late one."""
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            yield
    except TimeoutError:
        report["problems"].append(f"not finished after {deadline.total_seconds():g} s{mend}")
    except (BenchFailed, BrokerFailed, PostgresFailed, ProcessFailed, MigrationError) as error:
        report["problems"].append(str(error))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseError) as error:
        report["problems"].append(f"{type(error).__name__}: {error}")


def say(text: str) -> None:
    """Tell whoever waits; standard output is for the report."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


async def until(
    condition: Callable[[], Awaitable[bool]],
    within: timedelta,
    what: str,
    *,
    progress: Callable[[], str] | None = None,
) -> None:
    """Return when the condition holds; raises `BenchFailed` when that takes too long."""
    deadline, told_at = time.monotonic() + within.total_seconds(), time.monotonic()
    while not await condition():
        now = time.monotonic()
        if now > deadline:
            raise BenchFailed(f"waited {within.total_seconds():g} s in vain until {what}")
        if progress is not None and now - told_at > TELL_EVERY_S:
            told_at = now
            say(progress())
        await asyncio.sleep(LOOK_EVERY_S)


async def until_true(
    condition: Callable[[], bool], within: timedelta, what: str, *, progress: Callable[[], str] | None = None
) -> None:
    """Return when what can be seen without asking anybody holds; raises `BenchFailed` when that takes too long."""

    async def holds() -> bool:
        return condition()

    await until(holds, within, what, progress=progress)
