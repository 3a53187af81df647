"""`python -m firmware_sim`: run a simulated fleet until SIGTERM or SIGINT.

    --check   validate settings, manifest and scenario, print the settings as JSON, and exit
    --help    this text and every setting

Settings come from the environment. Exit status: 0 stopped in order, 1 a bug, 2 unusable settings.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
import time
from pathlib import Path

import uvloop

from firmware_sim import runner, settings
from firmware_sim.errors import InvalidInput
from firmware_sim.settings import LogSettings, Settings

# Thousands of devices are millions of objects, next to none of them garbage in cycles. With Python's own thresholds (700, 10,
# 10) looking for some stopped a fleet of 500 for 130 ms at a time, and one of 5,000 for ten times as long.
GARBAGE_THRESHOLDS = (20_000, 20, 100)

EXIT_OK, EXIT_BUG, EXIT_BAD_SETTINGS = 0, 1, 2


def main(arguments: list[str]) -> int:
    """Do what the command line says; returns the exit status."""
    if arguments not in ([], ["--check"]):
        is_help = arguments in (["--help"], ["-h"])
        sys.stdout.write(_help()) if is_help else sys.stderr.write(f"unknown arguments {arguments}; try --help\n")
        return EXIT_OK if is_help else EXIT_BAD_SETTINGS
    try:
        loaded = settings.load()
        stations = runner.load_stations(loaded.manifest)
        runner.load_scenario(loaded.scenario)
        runner.demand_office(loaded, stations)
    except InvalidInput as error:
        return _complain(error)
    if arguments:
        sys.stdout.write(settings.printable(loaded) + "\n")
        sys.stderr.write(
            f"{len(stations)} sessions, {sum(len(each.children) for each in stations)} devices behind them\n"
        )
        return EXIT_OK
    _configure_logging(loaded.log)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        with (
            runner.alone_with(loaded.data),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner,
        ):
            loop_runner.run(_run(loaded))
    except InvalidInput as error:
        return _complain(error)
    return EXIT_OK


def _complain(error: InvalidInput) -> int:
    sys.stderr.writelines(f"{line}\n" for line in error.problems)
    return EXIT_BAD_SETTINGS


async def _run(loaded: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await runner.run(loaded, stop)


def _help() -> str:
    lines = [__doc__ or "", "Settings:"]
    lines += [f"  {name:32} {description}" for name, description in settings.descriptions(Settings, "SIM_")]
    scenarios = ", ".join(sorted(Path(each).stem for each in runner.SCENARIOS.glob("*.toml")))
    return "\n".join([*lines, "", f"Named scenarios: {scenarios}", ""])


# --- logging ---------------------------------------------------------------------------------------------------------

_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "taskName"}


class _Json(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the facts given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": "firmware_sim",
            "logger": record.name,
            "event": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Plain(logging.Formatter):
    """One line for people."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{key}={value}" for key, value in record.__dict__.items() if key not in _STANDARD)
        line = f"{record.levelname.lower():7} {record.getMessage()} {facts}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _configure_logging(chosen: LogSettings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if chosen.format == "json" else _Plain())
    logging.basicConfig(level=chosen.level.upper(), handlers=[handler], force=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
