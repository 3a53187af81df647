"""The verbs of `./loa`: `python -m services.local VERB [ARG ...]`, inside the environment the launcher made.

A part of the platform is run by becoming it (`exec`), so that signals and exit status are its own.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

PARTS = {
    "ingest": "services.ingest",
    "control": "services.control",
    "audit": "services.control.auditing",
    "sim": "firmware_sim",
    "migrate": "services.shared.database.migrate",
    "drain": "services.ingest.drain",
}

# Imported only when asked for: a verb must not pay for, or fail with, what another one needs.
TOOLS = {
    "demo": ("services.local.demo", "main"),
    "installation": ("services.local.installation_verbs", "main"),
    "cap": ("services.local.cap", "main"),
    "quarantine": ("services.local.quarantine", "main"),
    "test": ("services.local.checks", "test"),
    "bench": ("services.local.bench.command", "main"),
    "lint": ("services.local.checks", "lint"),
    "lock": ("services.local.checks", "lock"),
}


def main(arguments: Sequence[str]) -> int:
    """Run one verb; returns its exit status."""
    if not arguments or arguments[0] not in PARTS.keys() | TOOLS.keys():
        print(f"usage: ./loa {{{'|'.join([*TOOLS, *PARTS])}}} [ARG ...]", file=sys.stderr)
        return 2
    verb, rest = arguments[0], list(arguments[1:])
    if verb in PARTS:
        os.execv(sys.executable, [sys.executable, "-m", PARTS[verb], *rest])  # noqa: S606 - ourselves, no shell
    module, function = TOOLS[verb]
    run: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return run(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
