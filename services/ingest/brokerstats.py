"""What the broker says of itself below `$SYS`, and what became of its count of dropped messages since it was last read.

The count is the broker's own and begins anew with it, so a number alone says nothing: it belongs to one life of the
broker, told by when that began. Mosquitto 2.0.11 publishes a number only when it has changed, keeps it for a minute and
then lets it go; the uptime always changes and comes with every round. Checked against a running one by a test.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

UPTIME = "$SYS/broker/uptime"
DROPPED = "$SYS/broker/publish/messages/dropped"
STORED = "$SYS/broker/store/messages/count"
STORED_BYTES = "$SYS/broker/store/messages/bytes"
RETAINED = "$SYS/broker/retained messages/count"
CONNECTED = "$SYS/broker/clients/connected"
DISCONNECTED = "$SYS/broker/clients/disconnected"
HEAP = "$SYS/broker/heap/current"

# What ingest may read and does; the access list names the same.
TOPICS = (UPTIME, DROPPED, STORED, STORED_BYTES, RETAINED, CONNECTED, DISCONNECTED, HEAP)

# Two beginnings this near are one: a kept uptime is up to a round old, and clocks are put right.
SAME_LIFE = timedelta(seconds=30)

_LONGEST = 18  # digits; above what a broker counts in a lifetime, within what the database holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Drops:
    """What the broker had dropped when it was last looked at."""

    broker_began_at: datetime
    count: int


def number(payload: bytes) -> int | None:
    """Return the number a value begins with (`42`, `42 seconds`), None for anything else."""
    digits = payload.split(b" ", 1)[0]
    if not digits.isdigit() or len(digits) > _LONGEST:
        return None
    return int(digits)


def began_at(uptime_s: int, *, now: datetime) -> datetime:
    """Return when the broker began that has now been running for so long; as early as dates go if it cannot be said."""
    try:
        return now - timedelta(seconds=uptime_s)
    except OverflowError:
        return datetime.min.replace(tzinfo=now.tzinfo)


def newly_dropped(before: Drops | None, now: Drops, *, is_old: bool) -> int:
    """Return how many messages were dropped between two looks.

    `is_old` says that the number was kept by the broker, not told just now: with nothing to compare it with, it is
    nobody's news. A number of another life of the broker, or one that fell, counts from nothing.
    """
    if before is None:
        return 0 if is_old else now.count
    if abs(now.broker_began_at - before.broker_began_at) > SAME_LIFE or now.count < before.count:
        return now.count
    return now.count - before.count


def waiting(stored: int | None, retained: int | None) -> int | None:
    """Return how many messages wait at the broker, for whomever; None while that is not known.

    The broker has no number for one client's queue. It has one for all messages it holds, the retained ones among them;
    what is left is on its way or waiting, and nearly all of that is ingest's.
    """
    if stored is None or retained is None:
        return None
    return max(0, stored - retained)
