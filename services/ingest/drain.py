"""`python -m services.ingest.drain REPLICA`: have a replica leave for good, and lose nothing that waits for it.

One that runs is asked to leave, through its row in the database, and does it itself: it takes no more of what comes,
stores what the broker still holds for it, ends its session and then itself. One that is stopped, or gone with its
machine, cannot: this process then becomes it, with its client id, for as long as that takes.

It may be interrupted and repeated at will. What has not been stored has not been acknowledged, and waits at the broker.
"""

import argparse
import asyncio
import enum
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

import uvloop
from pydantic import TypeAdapter, ValidationError

from services.ingest import app, replica_store
from services.ingest.replica_store import Replica
from services.ingest.replicas import GONE_AFTER
from services.ingest.settings import REPLICA_PATTERN, Settings
from services.shared import observability, settings
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Database, open_database
from services.shared.lifecycle import EXIT_BAD_SETTINGS, EXIT_FAILED, EXIT_OK, describe, run_until_stopped
from services.shared.settings import Duration

LOOK_EVERY = timedelta(milliseconds=500)
WITHIN = timedelta(minutes=10)
# Above what an ingest takes to stop, which this one is when it is interrupted.
STOP_DEADLINE = timedelta(seconds=130)


class Standing(enum.StrEnum):
    """How a replica was found. Stable words: scripts read them."""

    RUNNING = "running"
    STOPPED = "stopped"
    SILENT = "silent"
    LEFT = "left"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of it. `session_known` is None where the replica left by itself."""

    replica: str
    found: Standing
    left: bool
    drained: int | None
    session_known: bool | None
    seconds: float


def standing(replica: Replica | None) -> Standing:
    """Return how a replica stands whose row is this."""
    if replica is None:
        return Standing.UNKNOWN
    if replica.has_left:
        return Standing.LEFT
    if replica.is_stopped:
        return Standing.STOPPED
    return Standing.SILENT if replica.silent_for > GONE_AFTER else Standing.RUNNING


async def drain(chosen: Settings, stop: asyncio.Event, *, within: timedelta) -> Report:
    """Have the replica of these settings leave; `left` says whether it did before `stop` and in time.

    Raises the errors of `services.shared.database.errors` when the database cannot be asked to begin with.
    """
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    found = Standing.UNKNOWN
    limit = loop.call_later(within.total_seconds(), stop.set)
    try:
        async with open_database(chosen.database, application=f"drain {chosen.replica}") as database:
            found = standing(await _find(database, chosen.replica))
            last = await _asked(database, chosen.replica, stop) if found is Standing.RUNNING else None
        if last is not None and last.has_left:
            left, drained, known = True, last.drained, None
        elif stop.is_set():
            left, drained, known = False, None, None
        else:
            done = await app.leave(chosen, stop)
            left, drained, known = (True, done.drained, done.was_known) if done else (False, None, None)
    finally:
        limit.cancel()
    return Report(
        replica=chosen.replica,
        found=found,
        left=left,
        drained=drained,
        session_known=known,
        seconds=round(loop.time() - began_at, 1),
    )


async def _asked(database: Database, replica: str, stop: asyncio.Event) -> Replica | None:
    """Ask a running replica to leave; return its row when it has, or when it is not there to do it, or when `stop` is set."""
    async with database.connection() as connection:
        await replica_store.ask_to_leave(connection, replica)
    while True:
        last = await _find(database, replica)
        if standing(last) is not Standing.RUNNING or stop.is_set():
            return last
        try:
            async with asyncio.timeout(LOOK_EVERY.total_seconds()):
                await stop.wait()
        except TimeoutError:
            pass


async def _find(database: Database, replica: str) -> Replica | None:
    async with database.connection() as connection:
        return await replica_store.find(connection, replica)


# --- the verb --------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Run `./loa drain …`: the report on standard output as JSON; status 0 when the replica has left, otherwise 1."""
    options = parser().parse_args(list(arguments))
    try:
        loaded = settings.load(Settings)
    except settings.SettingsError as error:
        for line in error.lines:
            print(f"drain: {line}", file=sys.stderr)  # noqa: T201 - for the person who ran it
        return EXIT_BAD_SETTINGS
    chosen = loaded.model_copy(update={"replica": options.replica})
    observability.configure_logging(loaded.log, service="services.ingest.drain")
    reports: list[Report] = []

    async def run(stop: asyncio.Event) -> None:
        reports.append(await drain(chosen, stop, within=options.within))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(run_until_stopped(run, deadline=STOP_DEADLINE))
    except DatabaseError as error:
        print(f"drain: {type(error).__name__}: {error}; nothing is lost, run it again", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    for report in reports:
        print(json.dumps(asdict(report)))  # noqa: T201 - the output asked for
        if not report.left:
            print("drain: not done; nothing is lost, run it again", file=sys.stderr)  # noqa: T201
            return EXIT_FAILED
    return status or (EXIT_OK if reports else EXIT_FAILED)


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    whole = argparse.ArgumentParser(
        prog="./loa drain",
        description="Have a replica of ingest leave for good. Settings come from the environment, as those of ingest:",
        epilog=describe(Settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("replica", type=_replica, metavar="REPLICA", help="its name, INGEST_REPLICA: such as ingest:2")
    whole.add_argument(
        "--within", type=_duration, default=WITHIN, metavar="DURATION", help="how long it may take (default 10m)"
    )
    return whole


def _replica(text: str) -> str:
    if re.fullmatch(REPLICA_PATTERN, text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no replica's name; one is ingest:NAME, such as ingest:2")
    return text


def _duration(text: str) -> timedelta:
    try:
        span: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90s, 10m or 2h") from None
    return span


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
