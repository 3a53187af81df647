from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import MissReason, PlayOutcome, RefusalReason
from schemas.fields import PlayReference, PlaySource
from schemas.limits import INT64_MAX
from services.control.planning.reconcile import (
    LONG_SILENCE,
    PATIENCE,
    VERDICT_WITHIN,
    Circumstances,
    Ended,
    Evidence,
    Expected,
    NotPlayed,
    Outage,
    Outcome,
    Reason,
    Report,
    Standing,
    Started,
    Verdict,
    weigh,
)
from tests.support.planning import local, number

START = local("2026-09-07 05:30")
LENGTH = timedelta(minutes=3)
END = START + LENGTH
OVERDUE = END + PATIENCE
SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
SHA = b"\x01" * 32
EXPECTED = Expected(starts_at=START, ends_at=END, latest_start_at=START + LENGTH / 2, media_sha256=SHA)
ALERT = PlayReference(source=PlaySource.ALERT, id=number(9, 1), occurrence_at_ms=0, item=0)
DARK = Outage(since=START - SECOND, until=END + SECOND, is_mains=True)
HEALTHY = Circumstances(last_heard_at=OVERDUE, issued_at=START - timedelta(days=1), has_plan=True)

_numbers = itertools.count(1)


def an_end(sounded: timedelta = LENGTH, after: timedelta = timedelta(0), **changes: object) -> Ended:
    """The device played `sounded` of it, beginning `after` the slot."""
    values: dict[str, object] = {
        "event_no": next(_numbers),
        "standing": Standing.DEVICE,
        "is_clock_trusted": True,
        "started_at": START + after,
        "ended_at": START + after + sounded,
        "outcome": PlayOutcome.COMPLETED,
        "sounded": sounded,
        "media_sha256": SHA,
        "volume_percent": 40,
    }
    return Ended(**(values | changes))  # type: ignore[arg-type]


def a_start(after: timedelta = timedelta(0), standing: Standing = Standing.DEVICE) -> Started:
    return Started(event_no=next(_numbers), standing=standing, is_clock_trusted=True, started_at=START + after)


def a_miss(reason: MissReason = MissReason.MEDIA_MISSING, cut_by: PlayReference | None = None) -> NotPlayed:
    return NotPlayed(
        event_no=next(_numbers), standing=Standing.DEVICE, is_clock_trusted=True, reason=reason, cut_by=cut_by
    )


def check(
    reports: list[Report], outcome: Outcome, reason: str | None = None, *, expected: Expected = EXPECTED
) -> Verdict:
    verdict = weigh(expected, reports, HEALTHY, now=OVERDUE)
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    return verdict


PLAYS = [
    pytest.param(an_end(), Outcome.PLAYED, None, id="all_of_it"),
    pytest.param(an_end(LENGTH * 0.95), Outcome.PLAYED, None, id="ninety_five_percent"),
    pytest.param(an_end(LENGTH * 0.949), Outcome.CUT, Reason.SHORT, id="just_below"),
    pytest.param(
        an_end(after=2 * SECOND, sounded=LENGTH - 2 * SECOND), Outcome.PLAYED, None, id="two_seconds_is_on_time"
    ),
    pytest.param(an_end(after=2.001 * SECOND), Outcome.LATE, None, id="later_than_that_is_late"),
    pytest.param(an_end(after=60 * SECOND, sounded=LENGTH - 60 * SECOND), Outcome.LATE, None, id="joined_in_progress"),
    pytest.param(
        an_end(after=60 * SECOND, sounded=30 * SECOND),
        Outcome.CUT,
        Reason.SHORT,
        id="joined_and_then_not_all_of_the_rest",
    ),
    pytest.param(
        an_end(after=170 * SECOND, sounded=10 * SECOND),
        Outcome.CUT,
        Reason.TOO_LATE,
        id="joined_after_the_latest_start",
    ),
    pytest.param(an_end(after=-SECOND), Outcome.PLAYED, None, id="a_little_early"),
    pytest.param(an_end(after=-5 * SECOND), Outcome.UNKNOWN, Reason.OUTSIDE_SLOT, id="too_early"),
    pytest.param(an_end(after=LENGTH), Outcome.UNKNOWN, Reason.OUTSIDE_SLOT, id="after_the_slot"),
    pytest.param(
        an_end(60 * SECOND, outcome=PlayOutcome.CUT, cut_by=ALERT), Outcome.CUT, Reason.OUTRANKED, id="cut_by_an_alert"
    ),
    pytest.param(
        an_end(timedelta(0), outcome=PlayOutcome.CUT, cut_by=ALERT), Outcome.MISSED, Reason.OUTRANKED, id="cut_at_once"
    ),
    pytest.param(
        an_end(LENGTH - 0.5 * SECOND, outcome=PlayOutcome.CUT), Outcome.PLAYED, None, id="cut_at_its_very_end"
    ),
    pytest.param(
        an_end(LENGTH / 2, interruptions=1, cut_by=ALERT), Outcome.CUT, Reason.INTERRUPTED, id="cut_and_resumed"
    ),
    pytest.param(
        an_end(60 * SECOND, outcome=PlayOutcome.FAILED), Outcome.CUT, Reason.PLAYER_FAILED, id="player_gave_up"
    ),
    pytest.param(an_end(60 * SECOND, outcome=PlayOutcome.STOPPED), Outcome.CUT, Reason.STOPPED, id="stopped"),
    pytest.param(an_end(volume_percent=0), Outcome.MISSED, Reason.SILENCED, id="at_volume_zero_nothing_sounds"),
    pytest.param(an_end(media_sha256=b"\x02" * 32), Outcome.UNKNOWN, Reason.WRONG_MEDIA, id="another_file"),
    pytest.param(an_end(is_clock_trusted=False), Outcome.UNKNOWN, Reason.CLOCK_UNTRUSTED, id="clock_not_trusted"),
    pytest.param(
        an_end(samples=8000 * 60, sample_rate_hz=8000),
        Outcome.CUT,
        Reason.SHORT,
        id="samples_do_not_bear_the_claim_out",
    ),
    pytest.param(an_end(samples=8000 * 180, sample_rate_hz=8000), Outcome.PLAYED, None, id="samples_bear_it_out"),
    pytest.param(
        an_end(samples=INT64_MAX, sample_rate_hz=1), Outcome.PLAYED, None, id="more_samples_than_time_can_hold"
    ),
    pytest.param(an_end(after=-2 * SECOND), Outcome.PLAYED, None, id="as_early_as_is_tolerated"),
    pytest.param(an_end(after=-2 * SECOND - MS), Outcome.UNKNOWN, Reason.OUTSIDE_SLOT, id="earlier_than_that"),
    pytest.param(an_end(88 * SECOND, after=92 * SECOND), Outcome.LATE, None, id="joined_as_late_as_is_tolerated"),
    pytest.param(an_end(88 * SECOND, after=92 * SECOND + MS), Outcome.CUT, Reason.TOO_LATE, id="later_than_that"),
    pytest.param(an_end(MS, after=LENGTH - MS), Outcome.CUT, Reason.TOO_LATE, id="in_the_last_moment_of_the_slot"),
    pytest.param(
        an_end(timedelta(0), outcome=PlayOutcome.FAILED), Outcome.MISSED, Reason.PLAYER_FAILED, id="never_got_going"
    ),
]


@pytest.mark.parametrize(("report", "outcome", "reason"), PLAYS)
def test_an_end_is_a_verdict(report: Ended, outcome: Outcome, reason: str | None) -> None:
    verdict = check([report], outcome, reason)
    assert verdict.evidence is Evidence.DEVICE
    assert verdict.cut_by == report.cut_by


def test_a_second_of_sound_is_not_played_by_silence() -> None:
    # The slack of one second must not swallow a one-second jingle whole.
    jingle = Expected(starts_at=START, ends_at=START + SECOND, latest_start_at=START + SECOND / 2)
    check([an_end(timedelta(0))], Outcome.MISSED, Reason.SHORT, expected=jingle)


@pytest.mark.parametrize(("length", "enough"), [(10, 9 * SECOND), (1, SECOND / 2), (100, 95 * SECOND)])
def test_how_little_may_be_missing(length: int, enough: timedelta) -> None:
    """A twentieth, or a second, but never more than half of it."""
    short = Expected(starts_at=START, ends_at=START + length * SECOND, latest_start_at=START + length * SECOND / 2)
    check([an_end(enough)], Outcome.PLAYED, expected=short)
    check([an_end(enough - MS)], Outcome.CUT, Reason.SHORT, expected=short)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [(reason, Outcome.REFUSED if reason is MissReason.UNSUPPORTED else Outcome.MISSED) for reason in MissReason],
)
def test_a_miss_says_why(reason: MissReason, outcome: Outcome) -> None:
    verdict = check([a_miss(reason, ALERT)], outcome, reason.name.lower())
    assert verdict.cut_by == ALERT


def test_of_what_is_said_to_have_cut_it_the_first_by_the_order_of_arbitration_counts() -> None:
    nine, ten = (ALERT.model_copy(update={"occurrence_at_ms": ms}) for ms in (9, 10))
    misses: list[Report] = [a_miss(MissReason.OUTRANKED, each) for each in (ten, nine)]
    assert check(misses, Outcome.MISSED, "outranked").cut_by == nine


def test_begun_and_then_lost_is_cut() -> None:
    verdict = check([a_start(), a_miss(MissReason.POWERED_OFF)], Outcome.CUT, "powered_off")
    assert verdict.started_at == START


def test_the_later_end_counts_whatever_came_last() -> None:
    whole = an_end(interruptions=1, cut_by=ALERT)
    part = an_end(60 * SECOND, outcome=PlayOutcome.CUT, cut_by=ALERT)
    check([whole, part], Outcome.PLAYED)


def test_taken_back_while_it_sounded() -> None:
    stopped = Expected(
        starts_at=START, ends_at=END, latest_start_at=START + LENGTH / 2, media_sha256=SHA, is_stopped=True
    )
    check([an_end(60 * SECOND, outcome=PlayOutcome.STOPPED)], Outcome.CUT, Reason.TAKEN_BACK, expected=stopped)


def test_what_was_taken_back_before_the_device_could_begin_it_leaves_no_word() -> None:
    stopped = replace(EXPECTED, is_stopped=True)
    verdict = weigh(stopped, [], HEALTHY, now=OVERDUE)
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.MISSED, Reason.TAKEN_BACK)


def test_a_gateways_word_is_evidence_of_its_own_class() -> None:
    verdict = check([an_end(standing=Standing.GATEWAY)], Outcome.PLAYED)
    assert verdict.evidence is Evidence.GATEWAY


def test_the_devices_own_word_outweighs_the_gateways() -> None:
    verdict = check([an_end(standing=Standing.GATEWAY), a_miss(MissReason.SILENCED)], Outcome.MISSED, "silenced")
    assert verdict.evidence is Evidence.DEVICE


def test_a_strangers_word_counts_for_nothing() -> None:
    check([an_end(standing=Standing.FOREIGN)], Outcome.UNKNOWN, Reason.NO_REPORT)


def test_late_is_late_by_a_span() -> None:
    verdict = check([an_end(after=7 * SECOND, sounded=LENGTH - 7 * SECOND)], Outcome.LATE)
    assert verdict.late_by == 7 * SECOND
    assert check([an_end(after=SECOND, sounded=LENGTH - SECOND)], Outcome.PLAYED).late_by is None
    assert check([an_end(60 * SECOND, after=7 * SECOND)], Outcome.CUT, Reason.SHORT).late_by == 7 * SECOND


@pytest.mark.parametrize(
    ("report", "is_resumed"),
    [
        (an_end(), None),
        (an_end(60 * SECOND), None),
        (an_end(60 * SECOND, outcome=PlayOutcome.CUT, cut_by=ALERT), False),
        (an_end(60 * SECOND, interruptions=1, cut_by=ALERT), True),
        (an_end(interruptions=1, cut_by=ALERT), True),  # begun anew after it, and so played whole
        (an_end(60 * SECOND, interruptions=1, outcome=PlayOutcome.FAILED), False),
    ],
)
def test_what_was_cut_says_by_what_and_whether_it_went_on(report: Ended, is_resumed: bool | None) -> None:
    verdict = weigh(EXPECTED, [report], HEALTHY, now=OVERDUE)
    assert verdict is not None
    assert verdict.is_resumed is is_resumed
    assert verdict.cut_by == report.cut_by


RELAY = replace(EXPECTED, media_sha256=None, is_relay=True)


@pytest.mark.parametrize(
    ("fallback", "outcome", "reason"),
    [
        (timedelta(0), Outcome.PLAYED, None),
        (5 * SECOND, Outcome.PLAYED, None),  # within what may be missing
        (60 * SECOND, Outcome.CUT, Reason.SOURCE_SILENT),
        (LENGTH, Outcome.MISSED, Reason.SOURCE_SILENT),
        (2 * LENGTH, Outcome.MISSED, Reason.SOURCE_SILENT),
    ],
)
def test_what_the_fallback_filled_in_was_not_relayed(
    fallback: timedelta, outcome: Outcome, reason: Reason | None
) -> None:
    verdict = check([an_end(media_sha256=None, fallback=fallback)], outcome, reason, expected=RELAY)
    assert (verdict.sounded, verdict.fallback) == (LENGTH, min(fallback, LENGTH))


def test_a_relay_that_was_cut_short_while_the_fallback_sounded_was_cut() -> None:
    report = an_end(60 * SECOND, media_sha256=None, fallback=10 * SECOND, outcome=PlayOutcome.CUT, cut_by=ALERT)
    check([report], Outcome.CUT, Reason.OUTRANKED, expected=RELAY)


def weighed(reports: list[Report], circumstances: Circumstances) -> tuple[Outcome, str | None]:
    verdict = weigh(EXPECTED, reports, circumstances, now=OVERDUE)
    assert verdict is not None
    return verdict.outcome, verdict.reason


def test_a_player_that_lost_its_power_has_not_failed() -> None:
    ended = an_end(60 * SECOND, outcome=PlayOutcome.FAILED, interruptions=1)
    assert weighed([ended], HEALTHY) == (Outcome.CUT, Reason.PLAYER_FAILED)
    assert weighed([ended], replace(HEALTHY, outage=DARK)) == (Outcome.CUT, Reason.MAINS_LOST)
    cut_off = an_end(timedelta(0), outcome=PlayOutcome.FAILED, interruptions=1)
    assert weighed([cut_off], replace(HEALTHY, outage=DARK)) == (Outcome.CUT, Reason.MAINS_LOST)
    missed = a_miss(MissReason.POWERED_OFF)
    assert weighed([missed], HEALTHY) == (Outcome.MISSED, "powered_off")
    assert weighed([missed], replace(HEALTHY, outage=DARK)) == (Outcome.MISSED, Reason.MAINS_LOST)
    assert weighed([a_start()], replace(HEALTHY, outage=DARK)) == (Outcome.CUT, Reason.MAINS_LOST)


def test_power_that_went_in_the_slot_ends_what_had_begun() -> None:
    def begun(outage: Outage) -> Verdict | None:
        return weigh(EXPECTED, [a_start(SECOND)], replace(HEALTHY, outage=outage), now=OVERDUE)

    # What a device writes down of being alive may be older than its last sound.
    assert (cut := begun(DARK)) is not None
    assert (cut.outcome, cut.ended_at) == (Outcome.CUT, START + SECOND)
    assert (cut := begun(replace(DARK, since=START + 9 * SECOND, until=END))) is not None
    assert (cut.outcome, cut.ended_at) == (Outcome.CUT, START + 9 * SECOND)
    assert (back := begun(replace(DARK, until=END - MS))) is not None
    assert (back.outcome, back.reason) == (Outcome.UNKNOWN, Reason.NO_END_REPORTED)


def test_what_was_impossible_is_said_when_patience_is_over() -> None:
    dark = replace(HEALTHY, outage=DARK)
    assert weigh(EXPECTED, [], dark, now=OVERDUE - MS) is None
    assert weigh(EXPECTED, [], dark, now=OVERDUE) is not None


def test_silence_waits_for_patience_and_no_longer() -> None:
    assert weigh(EXPECTED, [], HEALTHY, now=OVERDUE - SECOND) is None
    assert weigh(EXPECTED, [a_start()], HEALTHY, now=OVERDUE - SECOND) is None
    check([], Outcome.UNKNOWN, Reason.NO_REPORT)
    check([a_start()], Outcome.UNKNOWN, Reason.NO_END_REPORTED)
    assert PATIENCE < VERDICT_WITHIN


LATEST = EXPECTED.latest_start_at
ISSUED = START - timedelta(days=1)
SILENCES = [
    pytest.param(HEALTHY, Outcome.UNKNOWN, Reason.NO_REPORT, id="had_it_and_said_nothing"),
    pytest.param(
        Circumstances(last_heard_at=START - SECOND, issued_at=START - LENGTH, has_plan=True),
        Outcome.UNKNOWN,
        Reason.OFFLINE,
        id="offline_in_the_slot",
    ),
    pytest.param(
        Circumstances(last_heard_at=START - 2 * LENGTH, issued_at=START - LENGTH, has_plan=False),
        Outcome.MISSED,
        Reason.OFFLINE,
        id="offline_since_before_the_plan",
    ),
    pytest.param(
        Circumstances(last_heard_at=OVERDUE, issued_at=START - LENGTH, has_plan=False),
        Outcome.MISSED,
        Reason.NO_PLAN,
        id="never_accepted_the_plan",
    ),
    pytest.param(
        Circumstances(
            last_heard_at=OVERDUE, issued_at=START - LENGTH, has_plan=False, refusal=RefusalReason.BAD_SIGNATURE
        ),
        Outcome.REFUSED,
        "bad_signature",
        id="refused_the_plan",
    ),
    pytest.param(
        Circumstances(
            last_heard_at=OVERDUE, issued_at=START - LENGTH, has_plan=True, refusal=RefusalReason.BAD_SIGNATURE
        ),
        Outcome.UNKNOWN,
        Reason.NO_REPORT,
        id="refused_one_plan_and_accepted_another",
    ),
    pytest.param(
        Circumstances(last_heard_at=None, issued_at=START, has_plan=False),
        Outcome.MISSED,
        Reason.NEVER_HEARD,
        id="never_heard",
    ),
    pytest.param(
        Circumstances(last_heard_at=OVERDUE, issued_at=None, has_plan=False),
        Outcome.MISSED,
        Reason.NOT_ISSUED,
        id="no_plan_was_signed",
    ),
    pytest.param(
        Circumstances(last_heard_at=OVERDUE, issued_at=START, has_plan=True, is_clock_trusted=False),
        Outcome.UNKNOWN,
        Reason.CLOCK_UNTRUSTED,
        id="clock_not_trusted",
    ),
    pytest.param(
        Circumstances(last_heard_at=START - SECOND, issued_at=START - LENGTH, has_plan=False),
        Outcome.UNKNOWN,
        Reason.NO_PLAN,
        id="it_may_have_fetched_the_plan_in_the_last_moment",
    ),
    pytest.param(
        Circumstances(last_heard_at=START - LONG_SILENCE - SECOND, issued_at=START - timedelta(days=5), has_plan=True),
        Outcome.UNKNOWN,
        Reason.LONG_SILENT,
        id="not_heard_for_days_but_it_has_its_plan",
    ),
    pytest.param(
        Circumstances(last_heard_at=START - SECOND, issued_at=START - LENGTH, has_plan=True, is_without_mains=True),
        Outcome.UNKNOWN,
        Reason.MAINS_LOST,
        id="mains_went_and_then_it_fell_silent",
    ),
    pytest.param(replace(HEALTHY, outage=DARK), Outcome.MISSED, Reason.MAINS_LOST, id="had_no_mains_in_the_slot"),
    pytest.param(
        replace(HEALTHY, outage=replace(DARK, is_mains=False)),
        Outcome.MISSED,
        Reason.POWERED_OFF,
        id="was_restarted_in_the_slot",
    ),
    pytest.param(
        replace(HEALTHY, outage=replace(DARK, until=START + SECOND)),
        Outcome.UNKNOWN,
        Reason.NO_REPORT,
        id="was_back_in_time",
    ),
    *(
        pytest.param(replace(HEALTHY, outage=replace(DARK, since=since, until=until)), outcome, reason, id=name)
        for since, until, outcome, reason, name in (
            (START, LATEST + MS, Outcome.MISSED, Reason.MAINS_LOST, "down_from_the_beginning_to_the_latest_start"),
            (START, LATEST, Outcome.UNKNOWN, Reason.NO_REPORT, "back_at_the_latest_start"),
            (START + MS, END + MS, Outcome.UNKNOWN, Reason.NO_REPORT, "was_up_at_the_beginning"),
        )
    ),
    *(
        pytest.param(
            Circumstances(last_heard_at=heard_at, issued_at=ISSUED, has_plan=has_plan), outcome, reason, id=name
        )
        for heard_at, has_plan, outcome, reason, name in (
            (ISSUED - MS, False, Outcome.MISSED, Reason.OFFLINE, "last_heard_before_the_plan"),
            (ISSUED, False, Outcome.UNKNOWN, Reason.NO_PLAN, "last_heard_as_the_plan_was_signed"),
            (LATEST, False, Outcome.UNKNOWN, Reason.NO_PLAN, "without_it_at_the_latest_start"),
            (LATEST + MS, False, Outcome.MISSED, Reason.NO_PLAN, "without_it_after_the_latest_start"),
            (END, True, Outcome.UNKNOWN, Reason.NO_REPORT, "heard_at_the_end_of_the_slot"),
            (END - MS, True, Outcome.UNKNOWN, Reason.OFFLINE, "last_heard_before_the_end"),
            (START - LONG_SILENCE, True, Outcome.UNKNOWN, Reason.OFFLINE, "silent_for_three_days"),
            (START - LONG_SILENCE - MS, True, Outcome.UNKNOWN, Reason.LONG_SILENT, "silent_for_longer"),
        )
    ),
]


@pytest.mark.parametrize(("circumstances", "outcome", "reason"), SILENCES)
def test_silence_is_explained_by_circumstances(circumstances: Circumstances, outcome: Outcome, reason: str) -> None:
    verdict = weigh(EXPECTED, [], circumstances, now=OVERDUE)
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


# --- laws ------------------------------------------------------------------------------------------------------------

some_ends = st.builds(
    an_end,
    st.integers(0, 400).map(lambda seconds: seconds * SECOND),
    st.integers(-30, 400).map(lambda seconds: seconds * SECOND),
    standing=st.sampled_from(Standing),
    is_clock_trusted=st.booleans(),
    outcome=st.sampled_from(PlayOutcome),
    samples=st.one_of(st.none(), st.integers(0, 8000 * 400)),
    sample_rate_hz=st.one_of(st.none(), st.just(8000)),
    interruptions=st.integers(0, 2),
    volume_percent=st.one_of(st.none(), st.integers(0, 100)),
)
some_reports = st.lists(
    st.one_of(some_ends, st.builds(a_miss, st.sampled_from(MissReason)), st.builds(a_start)), max_size=4
)
some_circumstances = st.builds(
    Circumstances,
    last_heard_at=st.one_of(st.none(), st.sampled_from([START - LENGTH, END, OVERDUE])),
    issued_at=st.one_of(st.none(), st.just(START - LENGTH)),
    has_plan=st.booleans(),
    refusal=st.one_of(st.none(), st.sampled_from(RefusalReason)),
    is_clock_trusted=st.booleans(),
    is_without_mains=st.booleans(),
)
some_instants = st.integers(-600, 3600).map(lambda seconds: START + seconds * SECOND)


def test_what_may_have_begun_anew_is_waited_for() -> None:
    """Cut, and begun anew at the latest start: it sounds until a slot's length after that."""
    may_restart = replace(EXPECTED, may_restart=True)
    latest_end = END + LENGTH / 2
    assert weigh(may_restart, [a_start()], HEALTHY, now=latest_end + PATIENCE - MS) is None
    verdict = weigh(may_restart, [a_start()], HEALTHY, now=latest_end + PATIENCE)
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.UNKNOWN, Reason.NO_END_REPORTED)
    # What has not begun cannot begin anew, and what goes on where it was ends with its slot.
    assert weigh(may_restart, [], HEALTHY, now=OVERDUE) is not None
    assert weigh(EXPECTED, [a_start()], HEALTHY, now=OVERDUE) is not None


@given(reports=some_reports, circumstances=some_circumstances)
def test_every_emission_has_a_verdict_in_time(reports: list[Report], circumstances: Circumstances) -> None:
    assert weigh(EXPECTED, reports, circumstances, now=END + VERDICT_WITHIN) is not None


@given(reports=some_reports, circumstances=some_circumstances, now=some_instants, seed=st.integers())
def test_the_order_of_reports_does_not_matter(
    reports: list[Report], circumstances: Circumstances, now: datetime, seed: int
) -> None:
    # Neither the order in which they are looked at, nor that in which they came.
    numbers = random.Random(seed).sample(range(len(reports)), len(reports))
    shuffled = [replace(reports[at], event_no=place) for place, at in enumerate(numbers)]
    assert weigh(EXPECTED, shuffled, circumstances, now=now) == weigh(EXPECTED, reports, circumstances, now=now)


@pytest.mark.parametrize(
    "differing",
    [
        [{"after": -3 * SECOND, "is_clock_trusted": False}, {"after": -3 * SECOND, "is_clock_trusted": True}],
        [{"volume_percent": None}, {"volume_percent": 0}],
    ],
    ids=["clock", "volume"],
)
def test_of_ends_that_differ_in_one_thing_the_same_counts_whichever_came_first(
    differing: list[dict[str, Any]],
) -> None:
    one, other = (an_end(**each) for each in differing)
    nothing = Circumstances(last_heard_at=None, issued_at=None, has_plan=False)

    assert weigh(EXPECTED, [one, other], nothing, now=OVERDUE) == weigh(EXPECTED, [other, one], nothing, now=OVERDUE)


@given(reports=some_reports, circumstances=some_circumstances)
def test_only_counted_words_prove_sound(reports: list[Report], circumstances: Circumstances) -> None:
    verdict = weigh(EXPECTED, reports, circumstances, now=OVERDUE)
    assert verdict is not None
    own = any(report.standing is Standing.DEVICE for report in reports)
    if verdict.outcome in {Outcome.PLAYED, Outcome.LATE, Outcome.CUT}:
        assert verdict.evidence is (Evidence.DEVICE if own else Evidence.GATEWAY)
    if all(report.standing is Standing.FOREIGN for report in reports):
        assert verdict == weigh(EXPECTED, [], circumstances, now=OVERDUE)


@given(reports=some_reports, more=some_reports, circumstances=some_circumstances)
def test_later_reports_only_refine(reports: list[Report], more: list[Report], circumstances: Circumstances) -> None:
    before = weigh(EXPECTED, reports, circumstances, now=OVERDUE)
    after = weigh(EXPECTED, [*reports, *more], circumstances, now=OVERDUE)
    assert before is not None
    assert after is not None
    worth = {None: 0, Evidence.GATEWAY: 1, Evidence.DEVICE: 2}
    assert worth[after.evidence] >= worth[before.evidence]
    # Whoever refused the plan and then reports a play, however doubtful, has not simply refused it.
    is_settled = before.evidence is not None and before.outcome not in {Outcome.UNKNOWN, Outcome.REFUSED}
    if is_settled and before.evidence is after.evidence:
        assert after.outcome is not Outcome.UNKNOWN


@given(reports=some_reports, circumstances=some_circumstances)
def test_a_verdict_says_everything_about_its_kind(reports: list[Report], circumstances: Circumstances) -> None:
    verdict = weigh(EXPECTED, reports, circumstances, now=OVERDUE)
    assert verdict is not None
    assert (verdict.reason is None) == (verdict.outcome in {Outcome.PLAYED, Outcome.LATE})
    assert verdict.outcome is not Outcome.LATE or (verdict.late_by is not None and verdict.late_by > 2 * SECOND)
    assert verdict.outcome is not Outcome.PLAYED or verdict.late_by is None
    assert verdict.outcome not in {Outcome.PLAYED, Outcome.LATE} or (verdict.sounded or timedelta(0)) > timedelta(0)
