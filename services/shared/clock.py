"""The one place that reads the wall clock.

Everything else takes the instant as an argument, so that a test chooses it; ruff refuses the other ways of asking.
"""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)
