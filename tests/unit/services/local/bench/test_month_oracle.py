"""The oracle: it stands alone, it states the rules, and it sees what is wrong."""

import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from services.local.bench import month_oracle
from services.local.bench.month_facts import (
    DAY,
    DROP,
    EMERGENCY,
    HOUR,
    MINUTE,
    NORMAL,
    PRIORITY,
    RESTART,
    RESUME,
    SECOND,
    UNSYNCHRONISED,
    Ask,
    Came,
    Clock,
    Decision,
    Down,
    Key,
    Luck,
    Month,
    Part,
    Sent,
    Site,
    Sound,
    Source,
    Speech,
    StandBy,
    Stocked,
    Tuned,
)

TOP = Path(__file__).parents[5]
BEGAN_MS = 1_772_298_000_000
ISSUED_MS = BEGAN_MS - HOUR
CLIPS = (10 * MINUTE, 2 * MINUTE, 10 * MINUTE)
NEWS, SIREN, OTHER = range(3)


def test_it_shares_nothing_with_what_it_judges() -> None:
    code = (
        "import sys, services.local.bench.month_oracle;"
        "print([name for name in sys.modules if name.startswith(('schemas', 'services.control', 'services.ingest',"
        " 'firmware_sim'))])"
    )

    found = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def an_ask(
    number: int,
    *,
    clip: int = NEWS,
    at_ms: int = HOUR,
    level: int = NORMAL,
    depth: int = 2,
    resume: int = RESUME,
    asked_ms: int = ISSUED_MS - HOUR,
    until_ms: int | None = None,
) -> Ask:
    return Ask(
        broadcast=uuid.UUID(int=number),
        unit="commune",
        depth=depth,
        level=level,
        resume=resume,
        days=range(1),
        times_ms=(at_ms,),
        parts=(Part(number=0, clip=clip, length_ms=CLIPS[clip]),),
        units=("commune",),
        asked_ms=asked_ms,
        until_ms=until_ms,
    )


def sounds_of(
    *asks: Ask,
    luck: Luck | None = None,
    clock: Clock | None = None,
    clips: tuple[int, ...] = (NEWS, SIREN, OTHER),
    came: tuple[Came, ...] = (),
    plan_ms: int = ISSUED_MS,
    plan_ends_ms: int = BEGAN_MS + 100 * HOUR,
    decisions: tuple[Decision, ...] = (),
    places: dict[tuple[str, uuid.UUID], int] | None = None,
    quiet: dict[str, tuple[int, int]] | None = None,
    stand_by: StandBy | None = None,
    tuned: tuple[Tuned, ...] = (),
    sources: tuple[Source, ...] = (),
) -> list[tuple[int, int, int, int]]:
    """What may sound: number of the ask, from and to in seconds of its hour, and the position in the clip."""
    month = Month(began_ms=BEGAN_MS, days=1, seed=1, units=(), sites=(), asks=asks, speeches=(), clips=CLIPS)
    month = replace(
        month, decisions=decisions, places=places or {}, quiet=quiet or {}, stand_by=stand_by, sources=sources
    )
    site = Site(number=1, path=("province", "district", "commune"), luck=luck or Luck())
    plan = Sent(at_ms=plan_ms, issued_ms=plan_ms, valid_until_ms=plan_ends_ms, is_plan=True)
    opinion = month_oracle.opine(
        month,
        site,
        clock or right_clock(),
        sent=(plan,),
        came=(Came(at_ms=plan_ms + 1, sent=plan), *came),
        stocked=tuple(Stocked(at_ms=ISSUED_MS, clip=clip, is_there=True) for clip in clips),
        tuned=tuned,
        since_ms=ISSUED_MS - HOUR,
        until_ms=BEGAN_MS + 5 * HOUR,
    )
    hour_ms = BEGAN_MS + HOUR
    return [
        (
            each.key[0].int,
            (each.from_ms - hour_ms) // SECOND,
            (each.to_ms - hour_ms) // SECOND,
            each.position_ms // SECOND,
        )
        for each in opinion.sounds
    ]


def right_clock() -> Clock:
    clock = Clock(speed=1.0)
    clock.begin(ISSUED_MS - HOUR, ISSUED_MS - HOUR, 0, is_off=False, set_ms=ISSUED_MS - HOUR)
    return clock


SIREN_AT = HOUR + MINUTE


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        (RESUME, [(1, 0, 60, 0), (2, 60, 180, 0), (1, 180, 600, 180)]),
        (RESTART, [(1, 0, 60, 0), (2, 60, 180, 0), (1, 180, 780, 0)]),
        (DROP, [(1, 0, 60, 0), (2, 60, 180, 0)]),
    ],
)
def test_what_was_cut_goes_on_as_its_policy_says(resume: int, expected: list[tuple[int, ...]]) -> None:
    assert sounds_of(an_ask(1, resume=resume), an_ask(2, clip=SIREN, at_ms=SIREN_AT, level=EMERGENCY)) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (an_ask(9, level=EMERGENCY, depth=2), an_ask(1, clip=OTHER, level=PRIORITY, depth=0)),
        (an_ask(9, level=PRIORITY, depth=2), an_ask(1, clip=OTHER, level=NORMAL, depth=0)),
        (an_ask(9, depth=0), an_ask(1, clip=OTHER, depth=1)),
        (an_ask(9, asked_ms=ISSUED_MS - 2 * HOUR), an_ask(1, clip=OTHER, asked_ms=ISSUED_MS - HOUR)),
        (an_ask(1), an_ask(9, clip=OTHER)),
    ],
    ids=["emergency", "priority", "issuer_higher_up", "asked_for_earlier", "smaller_id"],
)
def test_the_first_in_order_sounds(one: Ask, other: Ask) -> None:
    assert sounds_of(one, other) == sounds_of(other, one) == [(one.broadcast.int, 0, 600, 0)]


def test_what_nobody_has_silences_nobody() -> None:
    siren = an_ask(2, clip=SIREN, level=EMERGENCY, at_ms=SIREN_AT)
    assert sounds_of(an_ask(1), siren, clips=(NEWS,)) == [(1, 0, 600, 0)]


@pytest.mark.parametrize(("off_s", "expected"), [(60, [(1, 0, 30, 0), (1, 90, 600, 90)]), (900, [(1, 0, 30, 0)])])
def test_after_a_power_cut_it_joins_in_progress(off_s: int, expected: list[tuple[int, ...]]) -> None:
    at_ms = BEGAN_MS + HOUR + 30 * SECOND
    luck = Luck(downs=(Down(from_ms=at_ms, to_ms=at_ms + off_s * SECOND),))
    assert sounds_of(an_ask(1, resume=DROP), luck=luck) == expected


@pytest.mark.parametrize(("told_s", "expected"), [(299, [(1, 299, 600, 299)]), (301, [])])
def test_half_way_through_is_the_latest_start(told_s: int, expected: list[tuple[int, ...]]) -> None:
    assert sounds_of(an_ask(1), plan_ms=BEGAN_MS + HOUR + told_s * SECOND) == expected


def test_without_the_time_nothing_planned_sounds_and_what_is_ordered_does() -> None:
    clock = right_clock()
    at_ms = BEGAN_MS + HOUR - MINUTE
    clock.begin(at_ms, 0, UNSYNCHRONISED, is_off=False, set_ms=ISSUED_MS)
    ordered_ms = BEGAN_MS + HOUR + MINUTE
    speech = Speech(
        order=uuid.UUID(int=5), devices=(1,), at_ms=ordered_ms, valid_ms=MINUTE, clip=SIREN,
        length_ms=CLIPS[SIREN], level=NORMAL, depth=2,
    )  # fmt: skip
    sent = Sent(at_ms=ordered_ms, issued_ms=ordered_ms, valid_until_ms=ordered_ms + MINUTE, speech=speech)

    assert sounds_of(an_ask(1), clock=clock, came=(Came(at_ms=ordered_ms, sent=sent),)) == [(5, 60, 180, 0)]


def test_live_comes_after_every_emergency_and_before_priority() -> None:
    ordered_ms = BEGAN_MS + HOUR
    speech = Speech(
        order=uuid.UUID(int=5), devices=(1,), at_ms=ordered_ms, valid_ms=MINUTE, clip=SIREN,
        length_ms=CLIPS[SIREN], level=NORMAL, depth=2,
    )  # fmt: skip
    came = (Came(at_ms=ordered_ms, sent=Sent(
        at_ms=ordered_ms, issued_ms=ordered_ms, valid_until_ms=ordered_ms + MINUTE, speech=speech,
    )),)  # fmt: skip

    assert sounds_of(an_ask(1, level=PRIORITY, depth=0), came=came)[0][0] == 5
    assert [number for number, *_ in sounds_of(an_ask(1, level=EMERGENCY), came=came)] == [1]


def test_silence_by_order_stops_what_sounds_for_good() -> None:
    hushed_ms, freed_ms = (BEGAN_MS + HOUR + at_s * SECOND for at_s in (60, 120))
    came = tuple(
        Came(at_ms=at_ms, sent=Sent(at_ms=at_ms, issued_ms=at_ms, valid_until_ms=at_ms + HOUR, is_hush=is_hush))
        for at_ms, is_hush in ((hushed_ms, True), (freed_ms, False))
    )
    other = an_ask(2, clip=OTHER, at_ms=HOUR + 100 * SECOND)
    assert sounds_of(an_ask(1), other, came=came) == [(1, 0, 60, 0), (2, 120, 700, 20)]


@pytest.mark.parametrize(
    ("back_ms", "expected"),
    [(5_900, [(1, 0, 600, 0)]), (35_000, [(1, 0, 5, 0), (1, 35, 635, 0)])],
    ids=["a_second_before_its_start", "half_a_minute_before_its_start"],
)
def test_a_clock_set_back_before_the_start_of_what_sounds(back_ms: int, expected: list[tuple[int, ...]]) -> None:
    clock = right_clock()
    at_ms = BEGAN_MS + HOUR + 5 * SECOND
    clock.begin(at_ms, at_ms - back_ms, 0, is_off=False, set_ms=at_ms)
    assert sounds_of(an_ask(1), clock=clock) == expected


FROM_ABOVE = replace(an_ask(1, depth=1), unit="district", units=("district",))


def said(at_ms: int, *, is_accepted: bool) -> Decision:
    return Decision(broadcast=uuid.UUID(int=1), unit="commune", at_ms=at_ms, is_accepted=is_accepted)


@pytest.mark.parametrize(
    ("decisions", "sounds"),
    [
        ((), False),
        ((said(ISSUED_MS - 2, is_accepted=True),), True),
        ((said(ISSUED_MS - 2, is_accepted=False),), False),
        ((said(ISSUED_MS - 1, is_accepted=False), said(ISSUED_MS - 2, is_accepted=True)), False),
        ((said(ISSUED_MS + 1, is_accepted=True),), False),
    ],
    ids=["undecided", "accepted", "declined", "taken_back", "accepted_after_the_plan"],
)
def test_normal_content_from_above_sounds_where_it_was_accepted(decisions: tuple[Decision, ...], sounds: bool) -> None:
    assert bool(sounds_of(FROM_ABOVE, decisions=decisions)) is sounds


def test_priority_from_above_enters_and_the_commune_orders_it() -> None:
    one, other = (replace(FROM_ABOVE, level=PRIORITY), replace(an_ask(2, clip=OTHER, depth=0, level=PRIORITY)))
    assert sounds_of(one, other)[0][0] == 2
    places = {("commune", one.broadcast): 1, ("commune", other.broadcast): 2}
    assert sounds_of(one, other, places=places)[0][0] == 1


def test_the_graver_emergency_goes_first_however_late_it_was_asked_for() -> None:
    lesser, graver = (
        an_ask(1, level=EMERGENCY, asked_ms=ISSUED_MS - 2 * HOUR),
        replace(an_ask(2, clip=OTHER, level=EMERGENCY), severity=3),
    )
    assert sounds_of(lesser, graver) == [(2, 0, 600, 0)]


@pytest.mark.parametrize(("level", "sounds"), [(NORMAL, False), (PRIORITY, False), (EMERGENCY, True)])
@pytest.mark.parametrize("quiet", [(22 * HOUR, 2 * HOUR), (HOUR + 5 * MINUTE, HOUR + 6 * MINUTE)])
def test_quiet_hours_are_passed_by_emergencies_alone(level: int, sounds: bool, quiet: tuple[int, int]) -> None:
    assert bool(sounds_of(an_ask(1, level=level), quiet={"province": quiet})) is sounds


@pytest.mark.parametrize(
    ("limit", "told_s", "expected"),
    [
        ({"expires_ms": BEGAN_MS + HOUR}, -60, []),
        ({"expires_ms": BEGAN_MS + HOUR + 1}, -60, [(1, 0, 600, 0)]),  # what has begun goes on
        ({"expires_ms": BEGAN_MS + HOUR + 100 * SECOND}, 99, [(1, 99, 600, 99)]),
        ({"expires_ms": BEGAN_MS + HOUR + 100 * SECOND}, 101, []),
    ],
    ids=["expired_by_then", "expires_right_after", "joined_before", "not_joined_after"],
)
def test_nothing_begins_once_it_has_expired(
    limit: dict[str, int], told_s: int, expected: list[tuple[int, ...]]
) -> None:
    ask = an_ask(1)
    stale = replace(ask, parts=(replace(ask.parts[0], **limit), Part(number=1, clip=SIREN, length_ms=CLIPS[SIREN])))
    found = sounds_of(stale, plan_ms=BEGAN_MS + HOUR + told_s * SECOND)
    assert [each for each in found if each[2] - each[1] > 120] == expected
    if not expected and told_s < 0:
        assert found == [(1, 0, 120, 0)]  # what comes after it moves up


@pytest.mark.parametrize(
    ("most", "asked_ms", "times"), [(0, 0, 0), (1, 0, 1), (2, 0, 2), (1, 40 * MINUTE, 1), (3, 0, 3)]
)
def test_what_may_be_played_so_often_is_in_the_first_occurrences_since_it_was_asked_for(
    most: int, asked_ms: int, times: int
) -> None:
    ask = an_ask(1, clip=SIREN, asked_ms=BEGAN_MS + asked_ms)
    times_ms = (30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR)
    counted = replace(ask, times_ms=times_ms, parts=(replace(ask.parts[0], most=most),))
    found = [from_s // 60 for _, from_s, _, _ in sounds_of(counted, plan_ms=BEGAN_MS + max(asked_ms, 1))]
    assert found == [at_ms // MINUTE - 60 for at_ms in times_ms if at_ms >= asked_ms][:times]


def test_patience_is_how_late_an_item_may_begin() -> None:
    ask = replace(an_ask(1), patience_ms=MINUTE)
    assert sounds_of(ask, plan_ms=BEGAN_MS + HOUR + 59 * SECOND) == [(1, 59, 600, 59)]
    assert sounds_of(ask, plan_ms=BEGAN_MS + HOUR + 61 * SECOND) == []


def test_when_the_plan_has_run_out_a_notice_stands_in_for_it() -> None:
    at_ms = (BEGAN_MS + HOUR) % DAY
    stand_by = StandBy(order=uuid.UUID(int=7), clip=SIREN, times_ms=(at_ms,))
    assert sounds_of(stand_by=stand_by) == []
    assert sounds_of(stand_by=stand_by, plan_ends_ms=BEGAN_MS) == [(7, 0, 120, 0)]
    speech = Speech(
        order=uuid.UUID(int=5), devices=(1,), at_ms=BEGAN_MS + HOUR + MINUTE, valid_ms=MINUTE, clip=OTHER,
        length_ms=SECOND, level=NORMAL, depth=2,
    )  # fmt: skip
    sent = Sent(at_ms=speech.at_ms, issued_ms=speech.at_ms, valid_until_ms=speech.at_ms + MINUTE, speech=speech)
    came = (Came(at_ms=speech.at_ms, sent=sent),)
    assert sounds_of(stand_by=stand_by, plan_ends_ms=BEGAN_MS, came=came) == [(7, 0, 60, 0), (5, 60, 61, 0)]


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        (None, [(1, 0, 60, 0), (1, 180, 600, 0)]),
        (SIREN, [(1, 0, 60, 0), (1, 60, 120, 60), (1, 120, 180, 0), (1, 180, 600, 0)]),
    ],
    ids=["nothing_fills_in", "a_clip_fills_in_where_it_would_be_by_now"],
)
def test_a_source_that_gives_nothing(fallback: int | None, expected: list[tuple[int, ...]]) -> None:
    source = Source(number=0, source=uuid.UUID(int=3), silent=(), fallback=fallback)
    relay = replace(an_ask(1), parts=(Part(number=0, clip=None, length_ms=10 * MINUTE, source=0),))
    tuned = tuple(
        Tuned(at_ms=BEGAN_MS + HOUR + at_s * SECOND, source=0, is_heard=is_heard)
        for at_s, is_heard in ((-5, True), (60, False), (180, True))
    )
    assert sounds_of(relay, sources=(source,), tuned=tuned) == expected
    other = an_ask(2, clip=OTHER, depth=3)  # would be silenced by a relay that sounds
    heard = [number for number, *_ in sounds_of(relay, other, sources=(source,), tuned=tuned[:0])]
    assert heard == ([2] if fallback is None else [1] * 5)


# --- changes that should have been sent ------------------------------------------------------------------------------


def unsent_after(*sent_ms: int) -> int:
    changed_ms = BEGAN_MS - 10 * MINUTE
    month = Month(
        began_ms=BEGAN_MS, days=1, seed=1, units=(), sites=(), speeches=(), clips=CLIPS,
        asks=(an_ask(1, until_ms=changed_ms), an_ask(1, clip=OTHER, asked_ms=changed_ms)),
    )  # fmt: skip
    plans = tuple(
        Sent(at_ms=at_ms, issued_ms=at_ms, valid_until_ms=BEGAN_MS + 100 * HOUR, is_plan=True) for at_ms in sent_ms
    )
    site = Site(number=1, path=("commune",), luck=Luck())
    return month_oracle.opine(
        month,
        site,
        right_clock(),
        sent=plans,
        came=(),
        stocked=(),
        tuned=(),
        since_ms=ISSUED_MS,
        until_ms=BEGAN_MS + HOUR,
    ).unsent


def test_a_change_nobody_was_told_of_is_found() -> None:
    assert unsent_after(ISSUED_MS) == 1
    assert unsent_after(ISSUED_MS, BEGAN_MS - 10 * MINUTE + 5 * SECOND) == 0


def test_a_plan_that_runs_out_before_the_next_one_is_found() -> None:
    assert unsent_after(ISSUED_MS, BEGAN_MS - 10 * MINUTE, BEGAN_MS + 60 * HOUR) == 1


# --- judging ---------------------------------------------------------------------------------------------------------


def a_sound(number: int, from_s: float, to_s: float, *, clip: int = NEWS, position_s: float = 0) -> Sound:
    key: Key = (uuid.UUID(int=number), 0, 0)
    return Sound(
        key=key,
        clip=clip,
        position_ms=round(position_s * SECOND),
        from_ms=round(from_s * SECOND),
        to_ms=round(to_s * SECOND),
    )


RIGHT = [a_sound(1, 10, 70), a_sound(2, 70, 100)]


@pytest.mark.parametrize(
    ("sounded", "wrong"),
    [
        ([a_sound(1, 10.02, 70), a_sound(2, 70.02, 100)], []),
        ([a_sound(2, 70, 100)], [(10, 70)]),
        ([*RIGHT, a_sound(3, 200, 230)], [(200, 230)]),
        ([a_sound(1, 10, 100)], [(70, 100)]),
        ([a_sound(1, 10, 70, position_s=5), a_sound(2, 70, 100)], [(10, 70)]),
        ([a_sound(1, 10, 70, clip=SIREN), a_sound(2, 70, 100)], [(10, 70)]),
        ([a_sound(1, 11, 70, position_s=1), a_sound(2, 70, 100)], [(10, 11)]),
    ],
    ids=["in_time", "silent", "out_of_nowhere", "not_cut", "another_place", "another_clip", "a_second_late"],
)
def test_what_sounded_is_held_against_what_may_sound(sounded: list[Sound], wrong: list[tuple[int, int]]) -> None:
    found = month_oracle.judge(RIGHT, sounded)
    assert [(each.from_ms // SECOND, each.to_ms // SECOND) for each in found] == wrong
