"""Two who have the same file open see the same counters."""

from pathlib import Path

from services.local.bench.scoreboard import NO_LIMIT, Slot, open_scoreboard


def test_what_one_writes_the_other_reads(tmp_path: Path) -> None:
    with open_scoreboard(tmp_path / "board") as ours, open_scoreboard(tmp_path / "board") as theirs:
        ours[Slot.ALLOWED] = NO_LIMIT
        theirs[Slot.SENT] = 17

        assert theirs[Slot.ALLOWED] == NO_LIMIT
        assert [ours[slot] for slot in (Slot.SENT, Slot.STATE, Slot.GO)] == [17, 0, 0]


def test_counters_outlive_whoever_opens_them_first(tmp_path: Path) -> None:
    with open_scoreboard(tmp_path / "board") as first:
        first[Slot.HELD_NS] = 5
    with open_scoreboard(tmp_path / "board") as second:
        assert second[Slot.HELD_NS] == 5
