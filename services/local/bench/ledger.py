"""What was sent against what is stored, message by message. Pure.

Which messages there were follows from `Traffic` and how many each gateway has sent; a byte for each counts its rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.topics import UplinkKind
from services.local.bench.traffic import Traffic, rows_of, speaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How the two differ; all zero but `sent` and `complete` is what should be."""

    sent: int
    complete: int  # messages with every row, once or more often
    lost: int  # messages with a row missing
    duplicates: int  # rows that are there more than once
    foreign: int  # rows nobody sent


class Ledger:
    """Counts the rows of each message of a run."""

    def __init__(self, traffic: Traffic, sent: Sequence[int]) -> None:
        """`sent` is the number of messages of each gateway."""
        self._traffic = traffic
        self._rows = [bytearray(count) for count in sent]
        self._foreign = 0

    def enter_timed(self, kind: UplinkKind, device_no: int, at_ms: int) -> tuple[int, int] | None:
        """Count a row of heartbeats or readings; returns the gateway and number of its message, None if nobody sent it."""
        place = self._traffic.population.place(device_no)
        number = None if place is None else self._traffic.number_at(place[1], at_ms)
        return self._enter(kind, place, number)

    def enter_event(self, device_no: int, journal: int, sequence: int) -> tuple[int, int] | None:
        """Count a row of events, in the same way."""
        place = self._traffic.population.place(device_no)
        number = None if place is None else self._traffic.number_in_journal(place[1], journal, sequence)
        return self._enter(UplinkKind.EVENT, place, number)

    def _enter(self, kind: UplinkKind, place: tuple[int, int] | None, number: int | None) -> tuple[int, int] | None:
        if place is not None and number is not None:
            gateway, index = place
            rows = self._rows[gateway]
            if number < len(rows) and speaks(self._traffic.profile, index) is kind:
                rows[number] = min(255, rows[number] + 1)
                return gateway, number
        self._foreign += 1
        return None

    def compare(self) -> Comparison:
        """Return how what was entered differs from what was sent."""
        sent = complete = duplicates = 0
        for rows in self._rows:
            sent += len(rows)
            for wanted, numbers in self._by_rows_wanted(rows):
                complete += sum(count >= wanted for count in numbers)
                duplicates += sum(count - wanted for count in numbers if count > wanted)
        return Comparison(
            sent=sent, complete=complete, lost=sent - complete, duplicates=duplicates, foreign=self._foreign
        )

    def _by_rows_wanted(self, rows: bytearray) -> Iterable[tuple[int, Iterable[int]]]:
        """Return the counts, grouped by how many rows each message should have."""
        traffic = self._traffic
        wanted = [rows_of(speaks(traffic.profile, index)) for index in range(traffic.population.per_gateway)]
        if set(wanted) == {1}:
            return [(1, rows)]
        groups: dict[int, bytearray] = {}
        for number, count in enumerate(rows):
            groups.setdefault(wanted[traffic.index(number)], bytearray()).append(count)
        return groups.items()
