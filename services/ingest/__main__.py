"""`python -m services.ingest [--check]`."""

import sys
from datetime import timedelta

import uvloop

from services.ingest import app
from services.ingest.settings import Settings
from services.shared.lifecycle import run_program

# Above what `stop_deadline` may be set to, twice (leaving the subscription, then committing), and some goodbye.
STOP_DEADLINE = timedelta(seconds=130)

if __name__ == "__main__":
    sys.exit(
        run_program(
            "services.ingest",
            Settings,
            app.run,
            sys.argv[1:],
            stop_deadline=STOP_DEADLINE,
            loop_factory=uvloop.new_event_loop,
        )
    )
