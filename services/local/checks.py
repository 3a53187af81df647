"""`./loa test`, `./loa lint` and `./loa lock`: the tools of development, run the same way on a laptop and in CI."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent

# One worker for each core up to this many; each has a database server of its own.
MAX_WORKERS = 4

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff check", ("ruff", "check", "--quiet", ".")),
    ("ruff format", ("ruff", "format", "--quiet", "--check", ".")),
    ("mypy", ("mypy", "--no-error-summary")),
    ("import contracts", ("lint-imports", "--no-logo")),
)

# `--no-emit-index-url` and no header or annotations: a locked file names packages and hashes, and no host.
COMPILE = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
           "--no-emit-index-url", "--no-header", "--no-annotate")  # fmt: skip


def lint(arguments: Sequence[str]) -> int:
    """Style, types and import contracts; returns 0 when all hold."""
    if _asks_for_help(arguments):
        return _help("lint: style (ruff), types (mypy) and import contracts (import-linter); takes no arguments")
    if arguments:
        _say(f"lint takes no arguments, and not {' '.join(arguments)}")
        return 2
    return 1 if _failed_steps() else 0


def test(arguments: Sequence[str]) -> int:
    """Everything `lint` does, then all tests; arguments go to pytest. Returns 0 when all hold."""
    if _asks_for_help(arguments):
        return _help("test [ARG ...]: what lint does, then pytest with ARGs (./loa test tests/unit -k topics)")
    failed = _failed_steps()
    if failed:
        _say(f"FAILED before the tests: {', '.join(failed)}")
    status = _run(("pytest", "--quiet", *_parallel(arguments), *arguments))
    if failed:
        _say(f"FAILED besides the tests: {', '.join(failed)} (output above)")
    return status or (1 if failed else 0)


def lock(arguments: Sequence[str]) -> int:
    """Resolve the requirements files anew; with `--upgrade`, to the newest versions."""
    if _asks_for_help(arguments):
        return _help("lock [--upgrade]: write requirements*.txt from pyproject.toml; --upgrade takes newest versions")
    outputs = (
        ("requirements.txt", ("--extra", "local", "pyproject.toml")),
        ("requirements-dev.txt", ("--group", "dev", "--constraint", "requirements.txt")),
        ("requirements-bootstrap.txt", ("--group", "bootstrap")),
    )
    return max(_run((*COMPILE, *arguments, *source, "--output-file", name)) for name, source in outputs)


def _failed_steps() -> list[str]:
    failed = []
    for name, command in STEPS:
        _say(name)
        if _run(command):
            failed.append(name)
    return failed


def _parallel(arguments: Sequence[str]) -> tuple[str, ...]:
    """Workers for a whole run; none for a chosen test or debugger, whose output should be seen as it comes."""
    if any(argument.startswith(("-n", "-s", "--pdb", "-p", "--collect-only", "--co")) for argument in arguments):
        return ()
    # Tests of real parts wait much of their time: one worker more than cores computes meanwhile. A file's tests stay
    # together, as what its fixtures start is started once; tests/conftest.py says in which order.
    workers = min((os.cpu_count() or 1) + 1, MAX_WORKERS)
    return ("-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder")


def _run(command: Sequence[str]) -> int:
    sys.stdout.flush()
    return subprocess.run([TOOLS / command[0], *command[1:]], cwd=TOP, check=False).returncode


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return bool(arguments) and arguments[0] in {"-h", "--help"}


def _help(text: str) -> int:
    print(f"./loa {text}")
    return 0


def _say(text: str) -> None:
    print(f"== {text}", flush=True)
