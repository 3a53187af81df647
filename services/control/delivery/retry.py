"""What to do with a message the broker did not take. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=5)
DOUBLINGS = 20  # beyond these the longest wait has long been reached; keeps the arithmetic small


class Failure(enum.StrEnum):
    """How a publish failed."""

    DISCONNECTED = "disconnected"  # the connection went; the message may or may not have arrived
    TIMED_OUT = "timed_out"  # the broker did not confirm in time
    REFUSED = "refused"  # the broker confirmed that it did not take it: rights, quota
    TOO_LARGE = "too_large"  # it would make the broker end the connection, for every message in flight


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again, not before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It cannot be published, or would be worthless by then."""

    reason: str


def decide(failure: Failure, attempts: int, *, expires_at: datetime | None, now: datetime) -> RetryAt | GiveUp:
    """Return what to do after the `attempts`-th attempt (from 1) failed.

    A lost connection is nobody's fault and is waited for elsewhere, so the message is due again at once.
    """
    if failure is Failure.TOO_LARGE:
        return GiveUp(failure.value)
    wait = timedelta(0)
    if failure is not Failure.DISCONNECTED:
        wait = min(FIRST_WAIT * 2 ** min(attempts - 1, DOUBLINGS), LONGEST_WAIT)
    if expires_at is not None and now + wait >= expires_at:
        return GiveUp("expired")
    return RetryAt(now + wait)
