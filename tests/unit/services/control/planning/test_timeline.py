"""What really sounds on a device: situations by hand, and generated plans played by the simulator's own playback."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim import agenda, contenders, playback
from firmware_sim.clock import Moment
from firmware_sim.programme import Directive, Ended, Figures, Missed, Programme, Scene, Start, Stop
from schemas.events import PlayOutcome
from schemas.fields import ClockState, DeviceKind, Level, PlayReference, ResumePolicy
from schemas.orders import Rank
from schemas.plans import ContentKind, Plan
from services.control.orders import media_references, wire_emission
from services.control.planning import timeline
from services.control.planning.model import Slot, SlotKey, from_ms, to_ms
from services.control.planning.timeline import START_GRACE_MS, Fate, Sounding, sounding
from tests.support.planning import a_media
from tests.support.programmes import SIX, a_slot, programme

NORMAL, PRIORITY, EMERGENCY = Level
RESUME, RESTART, DROP = ResumePolicy


def written(told: Sequence[Sounding]) -> dict[int, str]:
    """`cut+ 0-10 20-30 by 2`: fate (+ when resumed), seconds after six, and who was in the way."""
    return {each.slot.broadcast_id.int & 0xFFFF: _written(each) for each in told}


def _written(each: Sounding) -> str:
    parts = " ".join(f"{(begin - SIX).total_seconds():g}-{(end - SIX).total_seconds():g}" for begin, end in each.parts)
    by = "" if each.by is None else f"by {each.by.broadcast_id.int & 0xFFFF}"
    return " ".join(word for word in (f"{each.fate}{'+' if each.is_resumed else ''}", parts, by) if word)


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([a_slot(1, 0, 10)], {1: "whole 0-10"}, id="alone"),
        pytest.param([a_slot(1, 0, 10), a_slot(2, 10, 20)], {1: "whole 0-10", 2: "whole 10-20"}, id="seam"),
        pytest.param(
            [a_slot(1, 0, 30), a_slot(2, 10, 20, level=PRIORITY)],
            {1: "cut+ 0-10 20-30 by 2", 2: "whole 10-20"},
            id="cut_and_resumed",
        ),
        pytest.param(
            [a_slot(1, 0, 15), a_slot(2, 10, 20, level=PRIORITY)],
            {1: "cut 0-10 by 2", 2: "whole 10-20"},
            id="cut_and_over_before_it_could_resume",
        ),
        pytest.param(
            [a_slot(1, 0, 30, resume=DROP), a_slot(2, 10, 20, level=PRIORITY)],
            {1: "cut 0-10 by 2", 2: "whole 10-20"},
            id="dropped",
        ),
        pytest.param(
            [a_slot(1, 0, 30, resume=RESTART, latest=25), a_slot(2, 10, 20, level=PRIORITY)],
            {1: "moved 0-10 20-50 by 2", 2: "whole 10-20"},
            id="restarted",
        ),
        pytest.param(
            [a_slot(1, 0, 30, resume=RESTART), a_slot(2, 10, 20, level=PRIORITY)],
            {1: "cut 0-10 by 2", 2: "whole 10-20"},
            id="too_late_to_restart",
        ),
        pytest.param(
            [
                a_slot(1, 0, 30, resume=RESTART, latest=25),
                a_slot(2, 10, 20, level=PRIORITY),
                a_slot(3, 45, 60, resume=RESTART),
            ],
            {1: "moved 0-10 20-50 by 2", 2: "whole 10-20", 3: "late 50-60 by 1"},
            id="restart_runs_into_the_next",
        ),
        pytest.param(
            [
                a_slot(1, 0, 30, resume=RESTART, latest=25),
                a_slot(2, 10, 20, level=PRIORITY),
                a_slot(3, 40, 60, level=PRIORITY),
            ],
            {1: "cut 0-10 20-40 by 3", 2: "whole 10-20", 3: "whole 40-60"},
            id="cut_again_after_its_restart",
        ),
        pytest.param(
            [a_slot(1, 5, 30), a_slot(2, 0, 10, level=PRIORITY)],
            {1: "late 10-30 by 2", 2: "whole 0-10"},
            id="joins_in_progress",
        ),
        pytest.param(
            [a_slot(1, 5, 11), a_slot(2, 0, 10, level=PRIORITY)],
            {1: "missed by 2", 2: "whole 0-10"},
            id="patience_is_over",
        ),
        pytest.param(
            [a_slot(1, 5, 30, latest=9.95), a_slot(2, 0, 10, level=PRIORITY)],
            {1: "late 10-30 by 2", 2: "whole 0-10"},
            id="a_timer_may_be_late",
        ),
        pytest.param(
            [a_slot(1, 5, 30, latest=9.949), a_slot(2, 0, 10, level=PRIORITY)],
            {1: "missed by 2", 2: "whole 0-10"},
            id="but_not_later",
        ),
        pytest.param(
            [a_slot(1, 0, 60), a_slot(2, 10, 50, level=PRIORITY), a_slot(3, 20, 30, level=EMERGENCY)],
            {1: "cut+ 0-10 50-60 by 2", 2: "cut+ 10-20 30-50 by 3", 3: "whole 20-30"},
            id="one_within_the_other",
        ),
        pytest.param(
            [a_slot(1, 0, 30), a_slot(2, 5, 10, level=PRIORITY), a_slot(3, 15, 20, level=EMERGENCY)],
            {1: "cut+ 0-5 10-15 20-30 by 3", 2: "whole 5-10", 3: "whole 15-20"},
            id="cut_twice",
        ),
        pytest.param(
            [a_slot(1, 0, 10), a_slot(2, 0, 10)],
            {1: "whole 0-10", 2: "missed by 1"},
            id="identity_breaks_the_tie",
        ),
        pytest.param(
            [a_slot(2, 0, 10), a_slot(1, 5, 20)],
            {2: "cut 0-5 by 1", 1: "whole 5-20"},
            id="who_came_first_has_no_right_to_stay",
        ),
        pytest.param(
            [a_slot(1, 0, 30), a_slot(2, 10, 40, level=PRIORITY), a_slot(3, 38, 50)],
            {1: "cut 0-10 by 2", 2: "whole 10-40", 3: "late 40-50 by 2"},
            id="chain",
        ),
    ],
)
def test_what_becomes_of_slots(slots: list[Slot], expected: dict[int, str]) -> None:
    assert written(sounding(programme(*slots))) == expected


def test_content_that_is_not_there_silences_nothing_else() -> None:
    alert = a_slot(2, 10, 20, level=EMERGENCY, media=a_media(3600, 9))
    others = (a_slot(1, 0, 30), a_slot(3, 30, 40))

    told = sounding(programme(alert, *others), absent={bytes([9]) * 32})

    assert written(told) == {1: "whole 0-30", 2: "missed", 3: "whole 30-40"}
    assert written(sounding(programme(alert), absent={bytes([9]) * 32})) == {2: "missed"}


def test_a_relay_goes_on_where_its_source_is_whatever_its_policy() -> None:
    relay = a_slot(1, 0, 30, resume=RESTART, latest=25)
    relay = _as(relay, ContentKind.RELAY)

    assert written(sounding(programme(relay, a_slot(2, 10, 20, level=PRIORITY))))[1] == "cut+ 0-10 20-30 by 2"


def _as(slot: Slot, content: ContentKind) -> Slot:
    return replace(slot, content=content)


def test_the_tie_break_is_named() -> None:
    assert timeline.decided_by(a_slot(1, 0, 10, level=PRIORITY), a_slot(2, 0, 10)) == "level"
    assert timeline.decided_by(a_slot(1, 0, 10), a_slot(2, 0, 10)) == "identity"


# --- the laws, and the device ----------------------------------------------------------------------------------------

# Slots of an eighth of a second and more, close enough together that a timer's grace matters too.
TICK_MS = 25

some_ranks = st.builds(
    Rank,
    level=st.sampled_from(Level),
    live=st.booleans(),
    severity=st.integers(0, 1),
    issuer_depth=st.integers(0, 1),
    issued_at_ms=st.integers(0, 1),
    place=st.none() | st.integers(127, 129),
)


@st.composite
def some_slot(draw: st.DrawFn, n: int) -> Slot:
    begins = draw(st.integers(0, 20)) * TICK_MS
    length = draw(st.integers(1, 16)) * TICK_MS
    latest = draw(st.sampled_from([0, length // 2, length, 2 * length, draw(st.integers(0, 500))]))
    return a_slot(
        n % 4,
        begins / 1000,
        (begins + length) / 1000,
        latest=(begins + latest) / 1000,
        resume=draw(st.sampled_from(ResumePolicy)),
        item=n,
        media=a_media(3600, n % 3 + 1),
        rank=draw(some_ranks),
    )


@st.composite
def some_programme(draw: st.DrawFn) -> tuple[Slot, ...]:
    return programme(*(draw(some_slot(n)) for n in range(draw(st.integers(1, 7)))))


@given(slots=some_programme(), absent=st.sets(st.sampled_from([bytes([n]) * 32 for n in (1, 2, 3)]), max_size=1))
@settings(max_examples=400)
def test_devices_do_what_the_timeline_says(slots: tuple[Slot, ...], absent: set[bytes]) -> None:
    told = {each.slot.key: each for each in sounding(slots, absent=absent)}
    device = played(slots, absent)

    assert {key: each.fate for key, each in told.items()} == {key: fate for key, (fate, *_) in device.items()}
    for key, (fate, parts, by, is_complete) in device.items():
        expected = told[key]
        assert [(to_ms(begin), to_ms(end)) for begin, end in expected.parts] == parts
        if fate in {Fate.CUT, Fate.MOVED, Fate.MISSED}:
            assert by == (None if expected.by is None else timeline.contender(expected.by).reference)
        assert expected.is_resumed == (fate is Fate.CUT and is_complete)


@given(slots=some_programme())
def test_soundings_never_overlap_and_every_slot_has_one_fate(slots: tuple[Slot, ...]) -> None:
    told = sounding(slots)

    assert [each.slot for each in told] == list(slots)
    parts = sorted(part for each in told for part in each.parts)
    assert all(begin < end for begin, end in parts)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(parts))
    for each in told:
        length = each.slot.ends_at - each.slot.starts_at
        assert (each.fate is Fate.WHOLE) == (each.parts == ((each.slot.starts_at, each.slot.ends_at),))
        assert (each.fate is Fate.MISSED) == (not each.parts)
        assert (each.by is None) == (each.fate is Fate.WHOLE)
        assert each.by is not each.slot
        assert each.fate is not Fate.MOVED or each.parts[-1][1] - each.parts[-1][0] == length
        assert not each.is_resumed or each.fate is Fate.CUT


@given(slots=some_programme())
def test_silence_only_where_nothing_could_sound(slots: tuple[Slot, ...]) -> None:
    """Where a slot has just begun something sounds: arbitration never leaves the air empty."""
    parts = [part for each in sounding(slots) for part in each.parts]
    for slot in slots:
        assert any(begin <= slot.starts_at < end for begin, end in parts)


@given(slots=some_programme(), others=some_programme())
def test_what_lies_apart_does_not_matter(slots: tuple[Slot, ...], others: tuple[Slot, ...]) -> None:
    """Programmes that do not touch are told as if each were alone, with the ranks of both known before."""
    later = tuple(_later(slot) for slot in others)
    ranks = timeline.Ranks()

    assert sounding((*slots, *later), ranks=ranks) == (*sounding(slots, ranks=ranks), *sounding(later, ranks=ranks))


def _later(slot: Slot) -> Slot:
    minute = timedelta(minutes=1)
    return replace(
        slot,
        occurrence_at=slot.occurrence_at + minute,
        starts_at=slot.starts_at + minute,
        ends_at=slot.ends_at + minute,
        latest_start_at=slot.latest_start_at + minute,
    )


def test_the_grace_is_the_devices_own() -> None:
    assert START_GRACE_MS == contenders.START_GRACE_MS


Outcome = tuple[Fate, list[tuple[int, int]], PlayReference | None, bool]


def played(slots: tuple[Slot, ...], absent: set[bytes]) -> dict[SlotKey, Outcome]:
    """What the simulator's playback does with a plan of these slots, whose player is never late."""
    begin_ms = to_ms(SIX) - 1_000
    plan = Plan(
        device="loa-0001",
        serial=1,
        issued_at_ms=begin_ms,
        valid_from_ms=begin_ms,
        valid_until_ms=begin_ms + 86_400_000,
        emissions=tuple(wire_emission(slot) for slot in slots),
        media=media_references(slots),
    )
    scene = Scene(
        kind=DeviceKind.CLUSTER,
        is_clock_trusted=True,
        trusted_since_ms=begin_ms,
        is_silenced=False,
        volume_percent=50,
        volume_cap_percent=100,
        stored={slot.media.sha256: 1 for slot in slots if slot.media is not None and slot.media.sha256 not in absent},
        corrupt=frozenset(),
    )
    stage = Stage(begin_ms)
    stage.take(playback.adopt(Programme(), plan, accepted_at_ms=begin_ms, now=stage.now))
    end_ms = begin_ms + 60_000
    while stage.at_ms < end_ms:
        while stage.take(playback.conduct(stage.programme, scene, now=stage.now)):
            pass
        wait_ms = agenda.next_look_ms(stage.programme, scene, now=stage.now)
        stage.at_ms += max(1, end_ms if wait_ms is None else wait_ms)
    by_reference = {timeline.contender(slot).reference: slot for slot in slots}
    outcomes: dict[SlotKey, Outcome] = {}
    for reference, slot in by_reference.items():
        parts = stage.parts.get(reference, [])
        (verdict,) = stage.verdicts[reference]
        by = verdict.by if isinstance(verdict, Missed) else verdict.play.cut_by
        is_complete = isinstance(verdict, Ended) and verdict.outcome is PlayOutcome.COMPLETED
        outcomes[slot.key] = (_fate(verdict, slot), parts, by, is_complete)
    return outcomes


def _fate(verdict: Ended | Missed, slot: Slot) -> Fate:
    if isinstance(verdict, Missed):
        return Fate.MISSED
    play = verdict.play
    if verdict.outcome is PlayOutcome.COMPLETED and play.shifted_ms:
        return Fate.MOVED
    if verdict.outcome is PlayOutcome.CUT or play.interruptions:
        return Fate.CUT
    return Fate.WHOLE if play.started_at_ms == to_ms(slot.starts_at) else Fate.LATE


class Stage:
    """Time, the programme of a device, and a player that begins and ends the moment it is told to."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self.began_ms = at_ms
        self.programme = Programme()
        self.open: dict[int, tuple[PlayReference, int]] = {}
        self.parts: dict[PlayReference, list[tuple[int, int]]] = {}
        self.verdicts: dict[PlayReference, list[Ended | Missed]] = {}

    @property
    def now(self) -> Moment:
        return Moment(at_ms=self.at_ms, clock=ClockState.SYNCHRONISED, uptime_ms=self.at_ms - self.began_ms)

    def take(self, outcome: tuple[Programme, tuple[Directive, ...]]) -> bool:
        """Carry out what the playback asks for; return whether it asked for anything."""
        self.programme, directives = outcome
        for directive in directives:
            match directive:
                case Start(play=play):
                    assert play.token is not None
                    self.open[play.token] = (play.reference, self.at_ms)
                    self.take(playback.begun(self.programme, play.token, at_ms=self.at_ms))
                case Stop(token=token):
                    reference, begun_ms = self.open.pop(token)
                    self.parts.setdefault(reference, []).append((begun_ms, self.at_ms))
                    figures = Figures(sounded_ms=self.at_ms - begun_ms)
                    self.take(playback.stopped(self.programme, token, figures, now=self.now))
                case Ended(play=play):
                    self.verdicts.setdefault(play.reference, []).append(directive)
                case Missed(reference=reference):
                    self.verdicts.setdefault(reference, []).append(directive)
                case _:
                    pass
        return bool(directives)


def test_every_slot_is_looked_at_a_bounded_number_of_times() -> None:
    """A day of the worst kind, in which everything overlaps: still a part per slot and cut, not a part per pair."""
    slots = programme(*(a_slot(n % 7, n, n + 40, level=Level(n % 3), item=n % 200) for n in range(1_000)))

    told = sounding(slots)

    assert sum(len(each.parts) for each in told) <= 2 * len(slots)
    assert Counter(each.fate for each in told).total() == len(slots)
    assert {from_ms(to_ms(begin)) for each in told for begin, _ in each.parts} == {
        begin for each in told for begin, _ in each.parts
    }
