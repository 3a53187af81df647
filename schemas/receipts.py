"""Receipts: the platform's word that events are committed. The only thing that lets a device forget an event."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.events import JournalId, Sequence
from schemas.fields import Serial, Version
from schemas.shapes import Key, Message, Record


class SequenceRange(Record):
    """Sequence numbers `first` to `last`, both included."""

    first: Annotated[Sequence, Key(0)]
    last: Annotated[Sequence, Key(1)]


class Receipt(Message):
    """Every event of `journal` up to and including `through`, and those in `ranges`, is committed.

    `through` is 0 when event 1 has not arrived yet. A receipt is a statement about everything, not a difference: a
    device may lose one and act on the next. `ranges` lie above `through + 1`, ascending and apart; at most the
    lowest 64 are named, the rest follows in later receipts.
    """

    SIZE_LIMIT: ClassVar[int] = limits.RECEIPT_BYTES

    version: Version = 1
    journal: Annotated[JournalId, Key(1)]
    through: Annotated[Serial, Key(2)]
    ranges: Annotated[tuple[SequenceRange, ...], Key(3), Field(max_length=limits.MAX_RECEIPT_RANGES)] = ()

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        floor = self.through
        for span in self.ranges:
            if span.first <= floor + 1 or span.last < span.first:
                raise ValueError("ranges must ascend, lie apart and above `through`")
            floor = span.last
        return self

    def covers(self, sequence: int) -> bool:
        """Whether the event with this sequence number is committed."""
        return sequence <= self.through or any(span.first <= sequence <= span.last for span in self.ranges)
