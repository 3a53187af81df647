"""The same seed breaks the same things in the same order, and every kind has its turn."""

from collections import Counter
from itertools import islice

from services.local.bench.chaos_schedule import NEEDS_OWN_SERVER, ROUND, Kind, schedule

IN_A_ROUND = sum(ROUND.values())


def test_a_seed_can_be_played_again() -> None:
    assert list(islice(schedule(7), 200)) == list(islice(schedule(7), 200))
    assert list(islice(schedule(7), 50)) != list(islice(schedule(8), 50))


def test_every_kind_comes_in_every_round() -> None:
    kinds = Counter(fault.kind for fault in islice(schedule(1), 3 * IN_A_ROUND))

    assert kinds == {kind: 3 * times for kind, times in ROUND.items()}


def test_thirty_faults_hold_every_kind() -> None:
    for seed in range(50):
        assert {fault.kind for fault in islice(schedule(seed), 30)} == set(Kind)


def test_what_cannot_be_done_here_is_left_out() -> None:
    kinds = {fault.kind for fault in islice(schedule(1, without=NEEDS_OWN_SERVER), 100)}

    assert kinds == set(Kind) - NEEDS_OWN_SERVER


def test_faults_befall_both_replicas_and_some_come_on_top_of_another() -> None:
    faults = list(islice(schedule(1), 200))

    assert {fault.replica for fault in faults} == {0, 1}
    assert {fault.is_followed for fault in faults} == {True, False}
