"""What every bench does about its report: tell of progress, end in time, and say what went wrong instead of falling over."""

import asyncio
import sys
from collections.abc import AsyncIterator
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
