"""Messages are paired with the commits that stored them."""

import array
import dataclasses
from pathlib import Path

import pytest

from services.local.bench.gateway import CHUNK
from services.local.bench.generator import Orders, read_sent_times, write_sent_times
from services.local.bench.ledger import Ledger
from services.local.bench.measurement import Window
from services.local.bench.population import FEWEST, Population
from services.local.bench.traffic import Profile, Traffic
from services.local.bench.verification import TIMED_EVERY, Batch, Timing, Verified


def a_window(begin: float, end: float) -> Window:
    return Window(
        begin=begin,
        end=end,
        taken=0,
        cpu_s={},
        busy_share=0.0,
        others_share=0.0,
        held_share=0.0,
    )


TRAFFIC = Traffic(population=Population.of(FEWEST, Profile.MIXED.mix), profile=Profile.MIXED, base_ms=0)
ALWAYS = a_window(0.0, 100.0)


def commits(*at: float) -> list[Batch]:
    return [Batch(at=each, heartbeats=1, readings=0, events=0, quarantined=0) for each in at]


def a_timing() -> Timing:
    """Two gateways; the chunks of the first were sent at 10 s and 11 s, that of the second at 10.5 s."""
    return Timing([array.array("d", [10.0, 11.0]), array.array("d", [10.5])])


def test_the_older_transaction_is_the_earlier_commit() -> None:
    timing = a_timing()
    timing.note(3, (0, 0))
    timing.note(3, (1, 0))
    timing.note(7, (0, CHUNK))

    assert timing.latencies_ms(commits(12.0, 13.0), ALWAYS) == pytest.approx([1_500, 2_000, 2_000])


def test_a_commit_that_names_its_transaction_is_taken_at_its_word() -> None:
    timing = a_timing()
    timing.note(3, (0, 0))
    timing.note(7, (0, CHUNK))
    news = '{"heartbeats":1,"readings":0,"events":0,"quarantined":0,"tx":%d}'

    committed = [Batch.parse(12.0, news % 7), Batch.parse(13.0, news % (2**32 + 3))]

    assert timing.latencies_ms(committed, ALWAYS) == pytest.approx([1_000, 3_000])


def test_only_messages_sent_within_the_window_are_timed() -> None:
    timing = a_timing()
    timing.note(7, (0, 0))
    timing.note(7, (1, 0))
    timing.note(7, (0, CHUNK))

    assert timing.latencies_ms(commits(12.0), a_window(10.2, 10.8)) == pytest.approx([1_500])


def test_rows_nobody_sent_and_those_between_are_not_timed() -> None:
    timing = a_timing()
    timing.note(7, None)
    timing.note(7, (0, TIMED_EVERY - 1))

    assert timing.latencies_ms(commits(12.0), ALWAYS) == []


def test_nothing_is_timed_when_commits_and_transactions_do_not_match() -> None:
    timing = a_timing()
    timing.note(7, (0, 0))

    assert timing.latencies_ms(commits(12.0, 13.0), ALWAYS) == []
    assert timing.unpaired(commits(12.0, 13.0)) == (2, 1)
    assert timing.unpaired(commits(12.0)) is None


def test_that_nothing_was_timed_is_told() -> None:
    verified = Verified(stored=0, comparison=Ledger(TRAFFIC, []).compare(), full_ms={}, paced_ms={})

    (warning,) = dataclasses.replace(verified, unpaired=(2, 1)).warnings

    assert verified.warnings == []
    assert "2 commits" in warning
    assert "1 transactions" in warning


def test_a_notification_counts_messages_not_rows() -> None:
    payload = '{"heartbeats":10,"readings":6,"events":2,"presences":1,"quarantined":4}'

    batch = Batch.parse(5.0, payload)

    assert (batch.rows, batch.messages) == (18, 19)


def test_sent_times_come_back_as_they_were_left(tmp_path: Path) -> None:
    times = [array.array("d", [1.5, 2.5]), array.array("d"), array.array("d", [3.5])]
    write_sent_times(tmp_path / "sent", times)

    assert read_sent_times(tmp_path / "sent") == times


def test_orders_come_back_as_they_were_left(tmp_path: Path) -> None:
    orders = Orders(
        host="127.0.0.1", port=18_000, ca_file="ca.pem", certificates=[("a.pem", "a.key")], devices=4_000,
        profile="mixed", messages=CHUNK, in_flight=2_000, scoreboard="board", ledger="sent",
    )  # fmt: skip
    orders.write(tmp_path / "orders.json")

    assert Orders.read(tmp_path / "orders.json") == orders
