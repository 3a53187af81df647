"""Why something sounds on a device at an instant: what lost to it, by what, and what never came that far."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import Level, ResumePolicy
from schemas.orders import Rank
from services.control.planning import timeline
from services.control.planning.explanation import Explanation, Standing, explain
from services.control.planning.model import DeviceNo, Problem, ProblemKind, Slot
from tests.support.planning import DAY, broadcast_id, unit_id
from tests.support.programmes import SIX, a_slot, programme, second

PRIORITY, EMERGENCY = Level.PRIORITY, Level.EMERGENCY
PATH = (unit_id(1), unit_id(10), unit_id(11))


def explained(at: float, *slots: Slot, **about: object) -> Explanation:
    values: dict[str, object] = {"day": DAY, "device_no": DeviceNo(1), "path": PATH}
    return explain(programme(*slots), second(at), **(values | about))  # type: ignore[arg-type]


def number(slot: Slot | None) -> int | None:
    return None if slot is None else slot.broadcast_id.int & 0xFFFF


def losers(found: Explanation) -> list[tuple[int | None, Standing, int | None, str | None, float | None]]:
    return [
        (
            number(loser.slot),
            loser.standing,
            number(loser.by),
            loser.decided_by,
            None if loser.goes_on_at is None else (loser.goes_on_at - SIX).total_seconds(),
        )
        for loser in found.losers
    ]


def test_what_sounds_alone_has_beaten_nobody() -> None:
    found = explained(5, a_slot(1, 0, 10), a_slot(2, 20, 30))

    assert found.on_air is not None
    assert (found.on_air.slot, found.on_air.since, found.on_air.until) == (a_slot(1, 0, 10), SIX, second(10))
    assert found.losers == ()
    assert found.previous is None
    assert found.next is not None
    assert (number(found.next.slot), found.next.begins_at, found.next.is_resumption) == (2, second(20), False)


def test_silence_between_two_items_names_both() -> None:
    found = explained(15, a_slot(1, 0, 10), a_slot(2, 20, 30))

    assert found.on_air is None
    assert found.previous is not None
    assert found.next is not None
    assert (number(found.previous.slot), number(found.next.slot)) == (1, 2)


@pytest.mark.parametrize(
    ("at", "slots", "winner", "expected"),
    [
        pytest.param(
            15,
            [a_slot(1, 0, 30), a_slot(2, 10, 20, level=PRIORITY)],
            2,
            [(1, Standing.INTERRUPTED, 2, "level", 20)],
            id="interrupted_and_goes_on",
        ),
        pytest.param(
            25, [a_slot(1, 0, 30), a_slot(2, 10, 20, level=PRIORITY)], 1, [], id="has_gone_on_and_the_other_is_over"
        ),
        pytest.param(
            15,
            [a_slot(1, 0, 30, resume=ResumePolicy.DROP), a_slot(2, 10, 20, level=PRIORITY)],
            2,
            [(1, Standing.CUT, 2, "level", None)],
            id="cut_for_good",
        ),
        pytest.param(
            25,
            [
                a_slot(1, 0, 30, resume=ResumePolicy.DROP, level=PRIORITY),
                a_slot(2, 10, 20, level=EMERGENCY),
                a_slot(3, 22, 28),
            ],
            3,
            [(1, Standing.CUT, 2, "level", None)],
            id="lost_to_what_is_over_and_not_to_the_lower_one_now",
        ),
        pytest.param(
            5,
            [a_slot(1, 0, 30), a_slot(2, 0, 10, rank=Rank(level=Level.NORMAL, issuer_depth=1, issued_at_ms=0))],
            2,
            [(1, Standing.WAITS, 2, "issuer_depth", 10)],
            id="joins_in_progress_later",
        ),
        pytest.param(
            5,
            [a_slot(1, 0, 10), a_slot(2, 0, 10)],
            1,
            [(2, Standing.MISSED, 1, "identity", None)],
            id="tie_by_identity",
        ),
        pytest.param(
            5,
            [
                a_slot(1, 0, 10),
                a_slot(2, 0, 10, rank=Rank(level=Level.NORMAL, live=True, issuer_depth=2, issued_at_ms=0)),
            ],
            2,
            [(1, Standing.MISSED, 2, "live", None)],
            id="live",
        ),
        pytest.param(
            5,
            [
                a_slot(1, 0, 10, rank=Rank(level=PRIORITY, issuer_depth=2, issued_at_ms=0, place=2)),
                a_slot(2, 0, 10, rank=Rank(level=PRIORITY, issuer_depth=2, issued_at_ms=0, place=1)),
                a_slot(3, 0, 10),
            ],
            2,
            [(1, Standing.MISSED, 2, "place", None), (3, Standing.MISSED, 2, "level", None)],
            id="the_units_own_order_then_the_level",
        ),
        pytest.param(
            35,
            [a_slot(1, 0, 30, resume=ResumePolicy.RESTART, latest=25), a_slot(2, 10, 20, level=PRIORITY)],
            1,
            [],
            id="restarted_beyond_its_slot",
        ),
    ],
)
def test_losers_are_named_with_what_decided(
    at: float, slots: list[Slot], winner: int | None, expected: list[tuple[object, ...]]
) -> None:
    found = explained(at, *slots)

    assert number(None if found.on_air is None else found.on_air.slot) == winner
    assert losers(found) == expected


def test_content_that_is_not_on_the_device_is_no_contender() -> None:
    found = explained(5, a_slot(1, 0, 10), a_slot(9, 0, 10, level=EMERGENCY), absent={bytes([9]) * 32})

    assert found.on_air is not None
    assert number(found.on_air.slot) == 1
    assert losers(found) == [(9, Standing.ABSENT, None, None, None)]


def test_what_goes_on_is_next_as_a_resumption() -> None:
    found = explained(15, a_slot(1, 0, 30), a_slot(2, 10, 20, level=PRIORITY))

    assert found.next is not None
    assert (number(found.next.slot), found.next.begins_at, found.next.is_resumption) == (1, second(20), True)
    assert found.previous is not None
    assert number(found.previous.slot) == 1


def a_problem(kind: ProblemKind, n: int = 1, *, at: float | None = 0, **facts: object) -> Problem:
    values: dict[str, object] = {"local_day": DAY, "occurrence_at": None if at is None else second(at)}
    return Problem(kind=kind, broadcast_id=broadcast_id(n), **(values | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("problem", "is_told"),
    [
        pytest.param(a_problem(ProblemKind.QUIET_HOURS, unit_id=unit_id(10)), True, id="policy_above"),
        pytest.param(a_problem(ProblemKind.QUIET_HOURS, unit_id=unit_id(12)), False, id="policy_of_a_neighbour"),
        pytest.param(a_problem(ProblemKind.OFFER_PENDING, unit_id=unit_id(21)), False, id="offered_to_another"),
        pytest.param(a_problem(ProblemKind.DAY_FULL, at=-50), True, id="would_still_sound"),
        pytest.param(a_problem(ProblemKind.DAY_FULL, at=-61), False, id="would_be_over"),
        pytest.param(a_problem(ProblemKind.DAY_FULL, at=6), False, id="would_not_have_begun"),
        pytest.param(a_problem(ProblemKind.DAY_FULL, 2, at=-3_600), True, id="of_unknown_length"),
        pytest.param(
            a_problem(ProblemKind.BAD_RECURRENCE, at=None, local_day=None, detail="FREQ"),
            True,
            id="the_whole_broadcast",
        ),
        pytest.param(a_problem(ProblemKind.UNKNOWN_SESSION, at=None, detail="toi"), True, id="all_of_the_day"),
        pytest.param(
            a_problem(ProblemKind.UNKNOWN_SESSION, at=None, local_day=DAY + timedelta(days=1)), False, id="another_day"
        ),
        pytest.param(
            a_problem(ProblemKind.GROUP_CLOSED, detail=str(unit_id(12))), True, id="ids_of_others_are_no_unit"
        ),
        pytest.param(a_problem(ProblemKind.CANNOT_PLAY, device_no=DeviceNo(1)), True, id="this_device"),
        pytest.param(a_problem(ProblemKind.CANNOT_PLAY, device_no=DeviceNo(2)), False, id="another_device"),
    ],
)
def test_what_never_came_into_the_programme_is_told_where_it_concerns_the_device(
    problem: Problem, is_told: bool
) -> None:
    found = explained(5, problems=[problem], lengths={broadcast_id(1): timedelta(seconds=60)})

    assert (*found.refused, *found.offered) == ((problem,) if is_told else ())


def test_refused_offered_and_noted_are_told_apart_and_in_order() -> None:
    awaiting = a_problem(ProblemKind.AWAITING_APPROVAL, 5)
    pending = a_problem(ProblemKind.OFFER_PENDING, 2, unit_id=unit_id(11))
    declined = a_problem(ProblemKind.OFFER_DECLINED, 1, unit_id=unit_id(11))
    quiet = a_problem(ProblemKind.QUIET_HOURS, 3, unit_id=unit_id(1))
    shortened = a_problem(ProblemKind.SHORTENED, 4)

    found = explained(5, problems=[awaiting, shortened, quiet, pending, declined])

    assert found.offered == (declined, pending, awaiting)
    assert found.refused == (quiet,)
    assert found.noted == (shortened,)


some_slots = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.integers(1, 20),
        st.sampled_from(Level),
        st.sampled_from(ResumePolicy),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=6,
).map(
    lambda drawn: programme(
        *(
            a_slot(n, begin, begin + length, latest=begin + latest, level=level, resume=resume)
            for n, (begin, length, level, resume, latest) in enumerate(drawn)
        )
    )
)


@given(slots=some_slots, at=st.integers(0, 60))
def test_everything_that_wants_the_instant_is_named_once(slots: tuple[Slot, ...], at: int) -> None:
    found = explained(at, *slots)

    sounding = [number(found.on_air.slot)] if found.on_air is not None else []
    named = [*sounding, *(number(loser.slot) for loser in found.losers)]
    assert len(named) == len(set(named))
    assert {number(slot) for slot in slots if slot.starts_at <= second(at) < slot.ends_at} <= set(named)
    for loser in found.losers:
        assert loser.by is not None
        ranks = timeline.Ranks()
        assert ranks.of(loser.by) < ranks.of(loser.slot)
        assert (loser.goes_on_at is not None) == (loser.standing in {Standing.WAITS, Standing.INTERRUPTED})
