"""Which events of a journal have been received, as ranges: duplicates fall out, and receipts are read off.

The arithmetic of the receipt ledger; `store` keeps the ranges in the table `telemetry.journals` and locks them.
"""

import bisect
from dataclasses import dataclass

from schemas import limits
from schemas.receipts import Receipt, SequenceRange

# (first, last), both included; ascending, apart by at least one missing number.
Ranges = tuple[tuple[int, int], ...]

NOTHING: Ranges = ()


def contains(ranges: Ranges, sequence: int) -> bool:
    """Whether the event with this number has been received."""
    place = bisect.bisect_right(ranges, sequence, key=_first) - 1
    return place >= 0 and sequence <= ranges[place][1]


def entered(ranges: Ranges, sequence: int) -> Ranges:
    """Return `ranges` with `sequence`, which they do not contain."""
    place = bisect.bisect_right(ranges, sequence, key=_first)
    first = last = sequence
    head, tail = ranges[:place], ranges[place:]
    if head and head[-1][1] == sequence - 1:
        first = head[-1][0]
        head = head[:-1]
    if tail and tail[0][0] == sequence + 1:
        last = tail[0][1]
        tail = tail[1:]
    return (*head, (first, last), *tail)


def _first(span: tuple[int, int]) -> int:
    return span[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLimits:
    """What one device may make us remember. Beyond it an event is not taken: it comes again, once the gaps are filled."""

    journals_a_day: int = 16  # a journal is new when the flash is new; a loop of that is a broken device
    ranges: int = 256  # gaps within one journal; honest devices send in order and have none


def receipt(journal: int, ranges: Ranges) -> Receipt:
    """Return what the platform may promise of a journal whose committed numbers are `ranges`."""
    through, above = (ranges[0][1], ranges[1:]) if ranges and ranges[0][0] == 1 else (0, ranges)
    return Receipt(
        journal=journal.to_bytes(8, "big", signed=True),
        through=through,
        ranges=tuple(SequenceRange(first=first, last=last) for first, last in above[: limits.MAX_RECEIPT_RANGES]),
    )
