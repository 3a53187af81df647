"""The receipt ledger's arithmetic."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from services.ingest import ledger
from services.ingest.ledger import NOTHING, Ranges


@pytest.mark.parametrize(
    ("ranges", "sequence", "grown"),
    [
        pytest.param(NOTHING, 1, ((1, 1),), id="first"),
        pytest.param(NOTHING, 7, ((7, 7),), id="first_with_a_gap_before"),
        pytest.param(((1, 4),), 5, ((1, 5),), id="next"),
        pytest.param(((1, 4),), 6, ((1, 4), (6, 6)), id="after_a_gap"),
        pytest.param(((2, 4),), 1, ((1, 4),), id="before"),
        pytest.param(((1, 4), (6, 9)), 5, ((1, 9),), id="closes_a_gap"),
        pytest.param(((1, 1), (9, 9)), 5, ((1, 1), (5, 5), (9, 9)), id="in_the_middle_of_a_gap"),
    ],
)
def test_a_number_is_entered(ranges: Ranges, sequence: int, grown: Ranges) -> None:
    assert not ledger.contains(ranges, sequence)
    assert ledger.entered(ranges, sequence) == grown
    assert ledger.contains(grown, sequence)


@given(st.lists(st.integers(1, 60)))
def test_the_ledger_holds_what_was_entered_in_whatever_order(sequences: list[int]) -> None:
    ranges = NOTHING
    for sequence in sequences:
        if not ledger.contains(ranges, sequence):
            ranges = ledger.entered(ranges, sequence)
    assert [each for each in range(1, 62) if ledger.contains(ranges, each)] == sorted(set(sequences))
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(ranges))


@given(st.sets(st.integers(1, 400), min_size=1), st.binary(min_size=8, max_size=8))
def test_a_receipt_covers_what_is_in_the_ledger_and_nothing_else(sequences: set[int], journal: bytes) -> None:
    ranges = NOTHING
    for sequence in sequences:
        ranges = ledger.entered(ranges, sequence)
    receipt = codec.decode_receipt(codec.encode(ledger.receipt(int.from_bytes(journal, "big", signed=True), ranges)))
    assert receipt.journal == journal
    covered = {sequence for sequence in range(1, 402) if receipt.covers(sequence)}
    # At most the lowest ranges are named; the rest follows in later receipts.
    assert covered <= sequences
    assert covered == sequences or len(ranges) > 64
