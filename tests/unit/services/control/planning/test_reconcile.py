from __future__ import annotations

import itertools
import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import MissReason, PlayOutcome, RefusalReason
from schemas.fields import PlayReference, PlaySource
from schemas.limits import INT64_MAX
from services.control.planning.reconcile import (
    PATIENCE,
    VERDICT_WITHIN,
    Circumstances,
    Ended,
    Evidence,
    Expected,
    NotPlayed,
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
SHA = b"\x01" * 32
EXPECTED = Expected(starts_at=START, ends_at=END, latest_start_at=START + LENGTH / 2, media_sha256=SHA)
ALERT = PlayReference(source=PlaySource.ALERT, id=number(9, 1))
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


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [(reason, Outcome.REFUSED if reason is MissReason.UNSUPPORTED else Outcome.MISSED) for reason in MissReason],
)
def test_a_miss_says_why(reason: MissReason, outcome: Outcome) -> None:
    verdict = check([a_miss(reason, ALERT)], outcome, reason.name.lower())
    assert verdict.cut_by == ALERT


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


def test_a_gateways_word_is_evidence_of_its_own_class() -> None:
    verdict = check([an_end(standing=Standing.GATEWAY)], Outcome.PLAYED)
    assert verdict.evidence is Evidence.GATEWAY


def test_the_devices_own_word_outweighs_the_gateways() -> None:
    verdict = check([an_end(standing=Standing.GATEWAY), a_miss(MissReason.SILENCED)], Outcome.MISSED, "silenced")
    assert verdict.evidence is Evidence.DEVICE


def test_a_strangers_word_counts_for_nothing() -> None:
    check([an_end(standing=Standing.FOREIGN)], Outcome.UNKNOWN, Reason.NO_REPORT)


def test_silence_waits_for_patience_and_no_longer() -> None:
    assert weigh(EXPECTED, [], HEALTHY, now=OVERDUE - SECOND) is None
    assert weigh(EXPECTED, [a_start()], HEALTHY, now=OVERDUE - SECOND) is None
    check([], Outcome.UNKNOWN, Reason.NO_REPORT)
    check([a_start()], Outcome.UNKNOWN, Reason.NO_END_REPORTED)
    assert PATIENCE < VERDICT_WITHIN


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
        Outcome.UNKNOWN,
        Reason.OFFLINE,
        id="offline_since_before_the_plan",
    ),
    pytest.param(
        Circumstances(last_heard_at=OVERDUE, issued_at=START - LENGTH, has_plan=False),
        Outcome.UNKNOWN,
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
        Outcome.UNKNOWN,
        Reason.NEVER_HEARD,
        id="never_heard",
    ),
    pytest.param(
        Circumstances(last_heard_at=OVERDUE, issued_at=None, has_plan=False),
        Outcome.UNKNOWN,
        Reason.NOT_ISSUED,
        id="no_plan_was_signed",
    ),
    pytest.param(
        Circumstances(last_heard_at=OVERDUE, issued_at=START, has_plan=True, is_clock_trusted=False),
        Outcome.UNKNOWN,
        Reason.CLOCK_UNTRUSTED,
        id="clock_not_trusted",
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
)
some_instants = st.integers(-600, 3600).map(lambda seconds: START + seconds * SECOND)


@given(reports=some_reports, circumstances=some_circumstances)
def test_every_emission_has_a_verdict_in_time(reports: list[Report], circumstances: Circumstances) -> None:
    assert weigh(EXPECTED, reports, circumstances, now=END + VERDICT_WITHIN) is not None


@given(reports=some_reports, circumstances=some_circumstances, now=some_instants, seed=st.integers())
def test_the_order_of_reports_does_not_matter(
    reports: list[Report], circumstances: Circumstances, now: datetime, seed: int
) -> None:
    shuffled = random.Random(seed).sample(reports, len(reports))
    assert weigh(EXPECTED, shuffled, circumstances, now=now) == weigh(EXPECTED, reports, circumstances, now=now)


@given(reports=some_reports, circumstances=some_circumstances)
def test_only_counted_words_prove_sound(reports: list[Report], circumstances: Circumstances) -> None:
    verdict = weigh(EXPECTED, reports, circumstances, now=OVERDUE)
    assert verdict is not None
    own = any(report.standing is Standing.DEVICE for report in reports)
    if verdict.outcome in {Outcome.PLAYED, Outcome.LATE, Outcome.CUT}:
        assert verdict.evidence is (Evidence.DEVICE if own else Evidence.GATEWAY)
    if all(report.standing is Standing.FOREIGN for report in reports):
        assert verdict == weigh(EXPECTED, [], circumstances, now=OVERDUE)
