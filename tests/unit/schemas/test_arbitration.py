"""One total order: whoever asks, in whatever order, gets the same winner. The rules themselves stand in the vectors."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from schemas import arbitration
from schemas.arbitration import Contender
from schemas.fields import Level, PlayReference
from schemas.orders import Rank
from tests.support import strategies


def few(rank: Rank) -> Rank:
    """Narrow a rank to few values, so that ties of every depth are common."""
    return rank.model_copy(
        update={
            "severity": rank.severity % 2,
            "issuer_depth": rank.issuer_depth % 2,
            "issued_at_ms": rank.issued_at_ms % 2,
        }
    )


REFERENCES = strategies.records(PlayReference)
CONTENDERS = st.builds(Contender, REFERENCES, strategies.records(Rank) | strategies.records(Rank).map(few))
FIELD = st.lists(CONTENDERS, min_size=1, max_size=8, unique_by=lambda one: one.reference)


@given(FIELD, st.randoms())
def test_any_order_of_asking_has_the_same_winner(contenders: list[Contender], dice: random.Random) -> None:
    best = arbitration.winner(contenders)
    dice.shuffle(contenders)
    assert arbitration.winner(contenders) == best


@given(CONTENDERS, CONTENDERS)
def test_of_two_plays_exactly_one_precedes(one: Contender, other: Contender) -> None:
    first, second = arbitration.precedence(one), arbitration.precedence(other)
    if one.reference == other.reference:
        return
    assert (first < second) != (second < first)


@given(CONTENDERS, CONTENDERS, CONTENDERS)
def test_precedence_is_transitive(a: Contender, b: Contender, c: Contender) -> None:
    first, second, third = sorted((a, b, c), key=arbitration.precedence)
    assert arbitration.winner([first, second]) == first
    assert arbitration.precedence(first) <= arbitration.precedence(second) <= arbitration.precedence(third)
    assert arbitration.precedence(first) <= arbitration.precedence(third)


@given(FIELD)
def test_a_winner_beats_each_of_the_others_alone(contenders: list[Contender]) -> None:
    best = arbitration.winner(contenders)
    assert best is not None
    assert all(arbitration.winner([best, other]) == best for other in contenders)


@given(FIELD)
def test_who_has_lost_does_not_matter(contenders: list[Contender]) -> None:
    best = arbitration.winner(contenders)
    assert arbitration.winner([one for one in contenders if one == best]) == best
    assert arbitration.winner(contenders[: contenders.index(best) + 1] if best else []) == best


@given(FIELD)
def test_nothing_normal_sounds_over_an_emergency(contenders: list[Contender]) -> None:
    best = arbitration.winner(contenders)
    assert best is not None
    if any(one.rank.level is Level.EMERGENCY for one in contenders):
        assert best.rank.level is Level.EMERGENCY
    elif any(one.rank.live for one in contenders):
        assert best.rank.live


def test_nobody_wins_an_empty_field() -> None:
    assert arbitration.winner([]) is None
