"""One total order: whoever asks, in whatever order, gets the same winner. The rules themselves stand in the vectors."""

from __future__ import annotations

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import arbitration
from schemas.arbitration import Contender
from schemas.fields import Level, PlayReference, PlaySource
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


# --- tie-breaks, one by one: the first of each pair wins, and by which criterion ---------------------------------------


def a_contender(n: int = 1, *, at: int = 0, item: int = 0, **rank: object) -> Contender:
    reference = PlayReference(source=PlaySource.EMISSION, id=uuid.UUID(int=n), occurrence_at_ms=at, item=item)
    values: dict[str, object] = {"level": Level.NORMAL, "severity": 0, "issuer_depth": 2, "issued_at_ms": 1_000}
    return Contender(reference=reference, rank=Rank(**(values | rank)))  # type: ignore[arg-type]


def an_order(source: PlaySource, n: int = 1) -> Contender:
    rank = Rank(level=Level.NORMAL, severity=0, issuer_depth=2, issued_at_ms=1_000)
    return Contender(reference=PlayReference(source=source, id=uuid.UUID(int=n)), rank=rank)


@pytest.mark.parametrize(
    ("first", "second", "criterion"),
    [
        pytest.param(a_contender(2, level=Level.PRIORITY), a_contender(1), "level", id="level"),
        pytest.param(a_contender(2, live=True), a_contender(1, level=Level.PRIORITY), "live", id="live_over_priority"),
        pytest.param(
            a_contender(2, level=Level.EMERGENCY), a_contender(1, live=True), "level", id="emergency_over_live"
        ),
        pytest.param(
            a_contender(2, level=Level.PRIORITY, place=1),
            a_contender(1, level=Level.PRIORITY, place=2, severity=4),
            "place",
            id="place_before_severity",
        ),
        pytest.param(
            a_contender(2, level=Level.PRIORITY, place=0),
            a_contender(1, level=Level.PRIORITY),
            "place",
            id="the_first_place_is_a_place",
        ),
        pytest.param(
            a_contender(2, level=Level.EMERGENCY, place=9, severity=1),
            a_contender(1, level=Level.EMERGENCY, place=1),
            "severity",
            id="nobody_orders_emergencies",
        ),
        pytest.param(
            a_contender(2, live=True, level=Level.PRIORITY, place=9, severity=1),
            a_contender(1, live=True, level=Level.PRIORITY, place=1),
            "severity",
            id="nobody_orders_what_is_live",
        ),
        pytest.param(a_contender(2, severity=1, issuer_depth=3), a_contender(1), "severity", id="severity"),
        pytest.param(
            a_contender(2, issuer_depth=1, issued_at_ms=2_000), a_contender(1), "issuer_depth", id="nearer_to_the_root"
        ),
        pytest.param(a_contender(2, issued_at_ms=999), a_contender(1), "issued_at_ms", id="issued_earlier"),
        pytest.param(a_contender(1, at=9), a_contender(2), "identity", id="smaller_id"),
        pytest.param(a_contender(at=1, item=9), a_contender(at=2), "identity", id="earlier_occurrence"),
        pytest.param(a_contender(item=1), a_contender(item=2), "identity", id="earlier_item"),
        pytest.param(an_order(PlaySource.COMMAND), an_order(PlaySource.FALLBACK), "identity", id="smaller_source"),
    ],
)
def test_a_tie_is_broken_by_the_first_criterion_that_differs(
    first: Contender, second: Contender, criterion: str
) -> None:
    assert arbitration.winner([second, first]) == arbitration.winner([first, second]) == first
    assert arbitration.decided_by(first, second) == arbitration.decided_by(second, first) == criterion
