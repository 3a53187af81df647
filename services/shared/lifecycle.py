"""From `python -m services.x` to an exit status: settings, logging, stop signals and a deadline.

SIGINT and SIGTERM ask for a graceful stop; what has not ended by the deadline is cancelled. A second signal cancels at
once. Bugs are not caught: they end the process with a traceback and a non-zero status, and whoever supervises it
starts it again.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from pydantic_settings import BaseSettings

from services.shared import observability, settings
from services.shared.database.errors import DatabaseOutdated, DatabaseRefused, DatabaseUnavailable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_SETTINGS = 2
EXIT_FORCED = 3  # stopped, but not within the deadline

STOP_DEADLINE = timedelta(seconds=20)

log = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class CannotStart(Exception):
    """What was given is not what the program needs; the message names the setting and the mend."""


def run_program(
    name: str,
    settings_class: type[SettingsT],
    run: Callable[[SettingsT, asyncio.Event], Awaitable[None]],
    arguments: Sequence[str],
    *,
    stop_deadline: timedelta = STOP_DEADLINE,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Be the `main` of a deployable: `run(settings, stop)` until it returns or `stop` is set and it has wound up.

    `--check` validates the settings, prints them with secrets masked and does nothing else. Settings that do not hold
    end with `EXIT_BAD_SETTINGS` and one line for each problem. A `log` group in the settings sets up logging.
    So does what `run` raises as `CannotStart`; a database that is away or refuses us at the start ends with `EXIT_FAILED`
    and one line. Returns the exit status.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description="Settings come from the environment:",
        epilog=describe(settings_class),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="validate the settings, print them masked, and exit")
    options = parser.parse_args(list(arguments))
    try:
        loaded = settings.load(settings_class)
    except settings.SettingsError as error:
        return _refuse(name, error.lines, EXIT_BAD_SETTINGS)
    if options.check:
        print(settings.masked(loaded))  # noqa: T201 - the output asked for
        return EXIT_OK
    observability.configure_logging(getattr(loaded, "log", None) or settings.LogSettings(), service=name)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(run_until_stopped(lambda stop: run(loaded, stop), deadline=stop_deadline))
    except CannotStart as error:
        return _refuse(name, [str(error)], EXIT_BAD_SETTINGS)
    except (DatabaseOutdated, DatabaseRefused, DatabaseUnavailable) as error:
        # Not from inside the services: what fails there comes as a group, and is looked at with its traceback.
        return _refuse(name, [f"{settings.prefix(settings_class)}DATABASE__URL: {error}"], EXIT_FAILED)
    except BaseExceptionGroup as group:
        found, rest = group.split(CannotStart)
        if found is None or rest is not None:
            raise
        return _refuse(name, [str(each) for each in _leaves(found)], EXIT_BAD_SETTINGS)


def _refuse(name: str, lines: Iterable[str], status: int) -> int:
    for line in lines:
        print(f"{name}: {line}", file=sys.stderr)  # noqa: T201 - for whoever started it
    return status


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


async def run_until_stopped(run: Callable[[asyncio.Event], Awaitable[None]], *, deadline: timedelta) -> int:
    """Run until `run` returns; a signal sets the event it was given and starts the deadline.

    Returns the exit status; what `run` raises passes through.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    try:
        async with limit:

            def on_signal(received: signal.Signals) -> None:
                if stop.is_set():
                    log.warning("stop_forced", extra={"signal": received.name})
                    limit.reschedule(loop.time())
                    return
                log.info("stop_requested", extra={"signal": received.name})
                stop.set()
                limit.reschedule(loop.time() + deadline.total_seconds())

            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, on_signal, number)
            try:
                await run(stop)
            finally:
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.remove_signal_handler(number)
    except TimeoutError:
        if not limit.expired():
            raise
        log.error("stop_deadline_passed", extra={"deadline_s": deadline.total_seconds()})  # noqa: TRY400 - no news in a traceback
        return EXIT_FORCED
    return EXIT_OK


def describe(settings_class: type[BaseSettings]) -> str:
    """Every setting with its meaning and default, for `--help`."""
    lines = ["settings:"]
    for setting in settings.setting_names(settings_class):
        default = "required" if setting.is_required else f"default: {setting.default or 'unset'}"
        lines.append(f"  {setting.variable} ({default})\n      {setting.description}")
    return "\n".join(lines)
