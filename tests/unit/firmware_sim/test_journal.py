"""The journal: numbers without gaps, nothing forgotten before its receipt, nothing lost to a torn tail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim import journal
from firmware_sim.flash import Flash
from firmware_sim.journal import REPEAT_BASE_MS, WINDOW, Entry, Journal, replay
from schemas.receipts import Receipt, SequenceRange

ID = b"journal1"


def receipt(through: int, *spans: tuple[int, int], of: bytes = ID) -> Receipt:
    ranges = tuple(SequenceRange(first=first, last=last) for first, last in spans)
    return Receipt(journal=of, through=through, ranges=ranges)


def filled(count: int) -> Journal:
    kept = Journal(ID)
    for number in range(1, count + 1):
        kept.append(b"event %d" % number)
    return kept


def numbers(kept: Journal) -> list[int]:
    return list(kept.entries)


class TestReceipts:
    @pytest.mark.parametrize(
        ("told", "left"),
        [
            pytest.param(receipt(0), [1, 2, 3, 4, 5], id="nothing_committed"),
            pytest.param(receipt(3), [4, 5], id="up_to"),
            pytest.param(receipt(1, (3, 4)), [2, 5], id="with_a_hole"),
            pytest.param(receipt(99), [], id="more_than_there_is"),
            pytest.param(receipt(5, of=b"another1"), [1, 2, 3, 4, 5], id="of_another_journal"),
        ],
    )
    def test_free_what_they_cover(self, told: Receipt, left: list[int]) -> None:
        kept = filled(5)
        assert kept.acknowledge(told) is (left != [1, 2, 3, 4, 5])
        assert numbers(kept) == left
        assert kept.append(b"next") == Entry(6, b"next")

    def test_forged_for_numbers_never_given_do_not_use_them_up(self) -> None:
        kept = filled(2)
        kept.acknowledge(receipt(2**62))
        content = journal.header(ID) + journal.receipt_record(kept, receipt(2**62))
        replayed = replay(content)
        assert replayed is not None
        assert replayed.journal.next_sequence == 3


class TestPublishing:
    def test_oldest_first_within_the_window(self) -> None:
        kept = filled(WINDOW + 10)
        assert [entry.sequence for entry in kept.due(uptime_ms=0)] == list(range(1, WINDOW + 1))
        kept.acknowledge(receipt(4))
        assert kept.due(uptime_ms=0)[-1].sequence == WINDOW + 4

    def test_repeated_ever_more_rarely_until_receipted(self) -> None:
        kept = filled(1)
        waits = []
        uptime_ms = 0
        for _ in range(10):
            (entry,) = kept.due(uptime_ms=uptime_ms)
            kept.published(entry, uptime_ms=uptime_ms, draw=0.5)
            wait_ms = kept.next_due_ms(uptime_ms=uptime_ms)
            assert wait_ms is not None
            assert kept.due(uptime_ms=uptime_ms + wait_ms - 1) == []
            waits.append(wait_ms)
            uptime_ms += wait_ms
        assert waits[0] >= REPEAT_BASE_MS / 2
        assert waits == sorted(waits)
        assert waits[-1] == waits[-2] == 450_000
        kept.acknowledge(receipt(1))
        assert kept.next_due_ms(uptime_ms=uptime_ms) is None

    def test_reconnection_starts_over(self) -> None:
        kept = filled(3)
        for entry in kept.due(uptime_ms=0):
            kept.published(entry, uptime_ms=0, draw=0.5)
        kept.reconnected()
        assert len(kept.due(uptime_ms=1)) == 3

    def test_full_journal_takes_no_more_and_gives_no_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal, "CAPACITY", 2)
        kept = filled(2)
        assert kept.append(b"third") is None
        kept.acknowledge(receipt(1))
        third = kept.append(b"third")
        assert third is not None
        assert third.sequence == 3

    def test_event_that_could_not_be_written_gives_its_number_back(self) -> None:
        kept = filled(1)
        entry = kept.append(b"lost")
        assert entry is not None
        kept.take_back(entry)
        assert kept.append(b"second") == Entry(2, b"second")


# --- the file --------------------------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40).map(lambda body: ("event", body)),
        st.integers(0, 30).map(lambda through: ("receipt", through)),
        st.tuples(st.integers(0, 10), st.integers(1, 5), st.integers(0, 5)).map(lambda span: ("hole", span)),
        st.just(("compact", None)),
        st.just(("replace", b"too large")),
    ),
    max_size=30,
)


def written(operations: list[tuple[str, object]]) -> tuple[Journal, list[bytes]]:
    """What a device with these operations has in memory, and the file it has written, in the pieces it wrote."""
    kept, pieces = Journal(ID), [journal.header(ID)]
    for what, value in operations:
        match what, value:
            case "event", bytes(body):
                entry = kept.append(body)
                assert entry is not None
                pieces.append(journal.entry_record(entry))
            case "replace", bytes(body) if kept.entries:
                entry = next(iter(kept.entries.values()))
                entry.body = body
                pieces.append(journal.entry_record(entry))
            case "receipt", int(through):
                told = receipt(through)
                kept.acknowledge(told)
                pieces.append(journal.receipt_record(kept, told))
            case "hole", (int(through), int(gap), int(more)):
                told = receipt(through, (through + 1 + gap, through + 1 + gap + more))
                kept.acknowledge(told)
                pieces.append(journal.receipt_record(kept, told))
            case "compact", _:
                pieces = [journal.compacted(kept)]
    return kept, pieces


@settings(max_examples=300, deadline=None)
@given(operations=OPERATIONS)
def test_file_says_what_memory_knows(operations: list[tuple[str, object]]) -> None:
    kept, pieces = written(operations)
    content = b"".join(pieces)
    replayed = replay(content)
    assert replayed is not None
    assert replayed.sound_bytes == len(content)
    assert replayed.journal.id == ID
    assert replayed.journal.next_sequence == kept.next_sequence
    assert {each.sequence: each.body for each in replayed.journal.entries.values()} == {
        each.sequence: each.body for each in kept.entries.values()
    }
    assert numbers(replayed.journal) == sorted(numbers(replayed.journal))


@settings(max_examples=200, deadline=None)
@given(
    operations=OPERATIONS.map(lambda each: [(what, value) for what, value in each if what != "hole"]), data=st.data()
)
def test_torn_tail_costs_only_what_was_being_written(operations: list[tuple[str, object]], data: st.DataObject) -> None:
    """Cut anywhere, or garbled from anywhere on: the file reads as it did before the record that was hit.

    (Receipts with ranges are left out: they are several records, of which the first ones may be whole.)
    """
    _, pieces = written(operations)
    content = b"".join(pieces)
    cut = data.draw(st.integers(len(pieces[0]), len(content)))
    tail = data.draw(st.one_of(st.just(b""), st.binary(max_size=20)))
    torn = content[:cut] + tail
    # What is written over the cut may happen to be what stood there: that much is not torn.
    pairs = zip(torn, content, strict=False)
    intact = next((at for at, (is_, was) in enumerate(pairs) if is_ != was), min(len(torn), len(content)))
    sound = 0
    for piece in pieces:
        if sound + len(piece) > intact:
            break
        sound += len(piece)

    replayed, whole = replay(torn), replay(content[:sound])

    assert replayed is not None
    assert whole is not None
    assert replayed.journal == whole.journal
    assert replayed.sound_bytes == sound


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"LOAJRNL", id="cut_in_its_first_word"),
        pytest.param(b"something else entirely", id="not_a_journal"),
        pytest.param(journal.header(ID)[:-1], id="cut_in_its_id"),
        pytest.param(journal.MAGIC + journal.entry_record(Entry(1, b"x")), id="no_id_at_all"),
    ],
)
def test_what_has_no_id_is_new_flash(content: bytes) -> None:
    assert replay(content) is None


# --- on flash --------------------------------------------------------------------------------------------------------


def test_new_flash_has_a_new_random_id(tmp_path: Path) -> None:
    ids = {Flash(tmp_path / name).open_journal().id for name in ("a", "b", "c")}
    assert len(ids) == 3
    assert Flash(tmp_path / "a").open_journal().id in ids


def test_torn_tail_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    flash = Flash(tmp_path)
    kept = flash.open_journal()
    for body in (b"first", b"second"):
        entry = kept.append(body)
        assert entry is not None
        flash.write_event(entry)
    with (tmp_path / "journal").open("ab") as file:
        file.write(b"\x00\x00\x01")

    again = flash.open_journal()
    entry = again.append(b"third")
    assert entry == Entry(3, b"third")
    flash.write_event(entry)

    assert [each.body for each in flash.open_journal().entries.values()] == [b"first", b"second", b"third"]


def test_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    flash = Flash(tmp_path)
    kept = flash.open_journal()
    for number in range(1, 2_001):
        entry = kept.append(b"x" * 150)
        assert entry is not None
        flash.write_event(entry)
        told = receipt(number, of=kept.id)
        kept.acknowledge(told)
        flash.write_receipt(kept, told)
    assert (tmp_path / "journal").stat().st_size < 70_000
    again = flash.open_journal()
    assert (again.id, again.next_sequence, len(again.entries)) == (kept.id, 2_001, 0)


SLOTS: list[Callable[[Path], object]] = [
    lambda folder: (folder / "notes.1").unlink(),
    lambda folder: (folder / "notes.1").write_bytes((folder / "notes.1").read_bytes()[:-1]),
    lambda folder: (folder / "notes.1").write_bytes(b"\xff" * 30),
]


@pytest.mark.parametrize("damage", SLOTS, ids=["gone", "cut_short", "garbled"])
def test_damaged_slot_leaves_the_one_before(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    flash = Flash(tmp_path)
    flash.recollect()
    for content in (b"one", b"two", b"three, which is longer"):
        flash.save("notes", content)
    assert Flash(tmp_path).recollect().files == {"notes": b"three, which is longer"}
    damage(tmp_path)
    reopened = Flash(tmp_path)
    assert reopened.recollect().files == {"notes": b"two"}
    reopened.save("notes", b"4")
    assert Flash(tmp_path).recollect().files == {"notes": b"4"}


def test_deleted_file_is_gone(tmp_path: Path) -> None:
    flash = Flash(tmp_path)
    flash.save("plan", b"one")
    flash.save("plan", b"two")
    flash.save("plan", None)
    assert Flash(tmp_path).recollect().files == {}


def test_only_complete_media_are_found(tmp_path: Path) -> None:
    flash = Flash(tmp_path)
    whole, half = b"\x01" * 32, b"\x02" * 32
    flash.media_file(whole).write_bytes(b"abc")
    flash.media_part(half).write_bytes(b"ab")
    (flash.media_folder / "notes.txt").write_bytes(b"x")
    assert flash.recollect().media == {whole: 3}


def test_last_sign_of_life(tmp_path: Path) -> None:
    flash = Flash(tmp_path)
    assert flash.recollect().last_up_at_ms is None
    flash.note_alive(1_790_000_000_000)
    flash.note_alive(1_790_000_000_001)
    assert Flash(tmp_path).recollect().last_up_at_ms == 1_790_000_000_001
