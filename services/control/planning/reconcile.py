"""What became of one emission: planned against reported. Pure; every verdict says on what and why.

A verdict rests on reports of the device itself where there are any, else on those of the gateway it is assigned to,
which are evidence of their own class: a bridge knows what it sent, not what sounded (R-28). Reports of anybody else
count for nothing.

Reports come late, twice or in any order; weighing is a function of the set of reports, so it is simply done again
whenever one more arrives. Without a final report there is no verdict until `PATIENCE` after the end of the slot; then
the verdict is *unknown*, with the reason that the circumstances give.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar, assert_never

from schemas.events import MissReason, PlayOutcome, RefusalReason
from schemas.fields import PlayReference

# An emission was played when this share of it sounded, or all but this little (never more than half of it): a decoder's
# padding or one dropped frame must not turn a bulletin into a failure.
SOUNDED_SHARE = 0.95
SOUNDED_SLACK = timedelta(seconds=1)
# Begun later than this it is late: the next speaker down the road is by then audibly out of step.
START_TOLERANCE = timedelta(seconds=2)
# How long after its slot an emission waits for the device's word. The promise is a verdict within 15 minutes.
PATIENCE = timedelta(minutes=10)
VERDICT_WITHIN = timedelta(minutes=15)
_MILLISECOND = timedelta(milliseconds=1)


class Outcome(enum.StrEnum):
    """How an emission ended; exactly one."""

    PLAYED = "played"
    LATE = "late"
    CUT = "cut"
    MISSED = "missed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Evidence(enum.StrEnum):
    """Whose word a verdict rests on."""

    DEVICE = "device"
    GATEWAY = "gateway"


class Standing(enum.StrEnum):
    """Who sent a report about a device."""

    DEVICE = "device"
    GATEWAY = "gateway"  # the gateway the device was assigned to at that time
    FOREIGN = "foreign"  # anybody else


class Reason(enum.StrEnum):
    """Why, where neither `MissReason` nor `RefusalReason` says it. Stable words, like theirs in lower case."""

    OUTRANKED = "outranked"
    INTERRUPTED = "interrupted"  # cut, resumed, and too little left
    SHORT = "short"  # reported complete, but too little of it sounded
    PLAYER_FAILED = "player_failed"
    STOPPED = "stopped"
    TOO_LATE = "too_late"  # joined after the latest start
    TAKEN_BACK = "taken_back"  # withdrawn while it sounded
    SILENCED = "silenced"
    PLANNED_TOO_LATE = "planned_too_late"
    NEVER_HEARD = "never_heard"
    OFFLINE = "offline"  # not heard since
    NOT_ISSUED = "not_issued"  # no plan that held it was signed in time
    NO_PLAN = "no_plan"  # was heard, but did not accept the plan that held it
    NO_REPORT = "no_report"  # had the plan, was heard afterwards, said nothing
    NO_END_REPORTED = "no_end_reported"
    CLOCK_UNTRUSTED = "clock_untrusted"
    OUTSIDE_SLOT = "outside_slot"  # says it played at another time
    WRONG_MEDIA = "wrong_media"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was planned."""

    starts_at: datetime
    ends_at: datetime
    latest_start_at: datetime
    media_sha256: bytes | None = None
    is_stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    event_no: int
    standing: Standing
    is_clock_trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(_Report):
    """The first sample left the decoder."""

    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(_Report):
    """The play is over. `sounded` is what the device claims, over all parts; `samples` is what the claim rests on."""

    started_at: datetime
    ended_at: datetime
    outcome: PlayOutcome
    sounded: timedelta
    samples: int | None = None
    sample_rate_hz: int | None = None
    media_sha256: bytes | None = None
    volume_percent: int | None = None
    cut_by: PlayReference | None = None
    interruptions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPlayed(_Report):
    """The device says it did not play at all."""

    reason: MissReason
    cut_by: PlayReference | None = None


Report = Started | Ended | NotPlayed
ReportT = TypeVar("ReportT", Started, NotPlayed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of the device apart from its word about this emission.

    `issued_at` is when the first plan that held the emission was signed; `has_plan` whether the device accepted such a
    plan in time; `refusal` why not, and `refused_by` whose word that is.
    """

    last_heard_at: datetime | None
    issued_at: datetime | None
    has_plan: bool
    refusal: RefusalReason | None = None
    refused_by: Standing = Standing.DEVICE
    is_clock_trusted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an emission."""

    outcome: Outcome
    reason: str | None = None
    evidence: Evidence | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    sounded: timedelta | None = None
    cut_by: PlayReference | None = None

    def __post_init__(self) -> None:
        if self.outcome in {Outcome.PLAYED, Outcome.LATE, Outcome.CUT} and self.evidence is None:
            raise ValueError(f"{self.outcome} rests on somebody's word")
        if (self.reason is None) != (self.outcome in {Outcome.PLAYED, Outcome.LATE}):
            raise ValueError("exactly what was not simply played has a reason")


def weigh(
    expected: Expected, reports: Iterable[Report], circumstances: Circumstances, *, now: datetime
) -> Verdict | None:
    """Return what became of the emission by all that is known at `now`, or None while it is too early to say."""
    counted = _counted(reports)
    ended = _last_end(counted)
    if ended is not None:
        return _weigh_ended(expected, ended)
    missed = _last(counted, NotPlayed)
    started = _last(counted, Started)
    if missed is not None:
        return _weigh_missed(missed, started)
    if now < expected.ends_at + PATIENCE:
        return None
    if started is not None:
        return Verdict(
            outcome=Outcome.UNKNOWN,
            reason=Reason.NO_END_REPORTED,
            evidence=_evidence(started.standing),
            started_at=started.started_at,
        )
    return _weigh_silence(expected, circumstances)


def began(reports: Iterable[Report]) -> datetime | None:
    """Return since when the emission sounds, by the reports that count, if it has begun."""
    started = _last(_counted(reports), Started)
    return started.started_at if started is not None else None


def _counted(reports: Iterable[Report]) -> Sequence[Report]:
    """The reports that count: the device's own, else its gateway's."""
    known = sorted(reports, key=lambda report: report.event_no)
    own = [report for report in known if report.standing is Standing.DEVICE]
    return own or [report for report in known if report.standing is Standing.GATEWAY]


def _last(reports: Sequence[Report], kind: type[ReportT]) -> ReportT | None:
    """The report of a kind that was stored last."""
    return next((report for report in reversed(reports) if isinstance(report, kind)), None)


def _last_end(reports: Sequence[Report]) -> Ended | None:
    """The end that lies last, whenever it was sent: an earlier one was followed by a resumption."""
    ends = [report for report in reports if isinstance(report, Ended)]
    return max(ends, key=lambda report: (report.ended_at, report.event_no), default=None)


def _evidence(standing: Standing) -> Evidence:
    return Evidence.DEVICE if standing is Standing.DEVICE else Evidence.GATEWAY


def _weigh_ended(expected: Expected, ended: Ended) -> Verdict:
    sounded = _proven(ended)
    if (doubt := _doubt(expected, ended)) is not None:
        return _verdict(Outcome.UNKNOWN, doubt, ended, sounded)
    if ended.volume_percent == 0:
        return _verdict(Outcome.MISSED, Reason.SILENCED, ended, sounded)
    # Who joins late cannot play what is over; that it was late is said by the outcome.
    lateness = max(ended.started_at - expected.starts_at, timedelta(0))
    is_in_time = ended.started_at <= expected.latest_start_at + START_TOLERANCE
    if is_in_time and _is_enough(sounded, expected.ends_at - expected.starts_at - lateness):
        return _verdict(Outcome.LATE if lateness > START_TOLERANCE else Outcome.PLAYED, None, ended, sounded)
    outcome = Outcome.CUT if sounded > timedelta(0) else Outcome.MISSED
    return _verdict(outcome, _why_short(expected, ended) if is_in_time else Reason.TOO_LATE, ended, sounded)


def _proven(ended: Ended) -> timedelta:
    """What sounded, as far as the decoded samples bear the claim out."""
    if ended.samples is None or ended.sample_rate_hz is None:
        return ended.sounded
    # In whole milliseconds: a device may claim more samples than a span of time can hold.
    borne_out = ended.samples * 1000 // ended.sample_rate_hz
    return min(ended.sounded, timedelta(milliseconds=min(borne_out, ended.sounded // _MILLISECOND)))


def _doubt(expected: Expected, ended: Ended) -> Reason | None:
    """Why the report cannot be held against the plan."""
    if not ended.is_clock_trusted:
        return Reason.CLOCK_UNTRUSTED
    if not expected.starts_at - START_TOLERANCE <= ended.started_at < expected.ends_at:
        return Reason.OUTSIDE_SLOT
    if None not in (expected.media_sha256, ended.media_sha256) and expected.media_sha256 != ended.media_sha256:
        return Reason.WRONG_MEDIA
    return None


def _is_enough(sounded: timedelta, length: timedelta) -> bool:
    return sounded >= length * SOUNDED_SHARE or length - sounded <= min(SOUNDED_SLACK, length / 2)


def _why_short(expected: Expected, ended: Ended) -> Reason:
    match ended.outcome:
        case PlayOutcome.CUT:
            return Reason.OUTRANKED
        case PlayOutcome.FAILED:
            return Reason.PLAYER_FAILED
        case PlayOutcome.STOPPED:
            return Reason.TAKEN_BACK if expected.is_stopped else Reason.STOPPED
        case PlayOutcome.COMPLETED:
            return Reason.INTERRUPTED if ended.interruptions or ended.cut_by is not None else Reason.SHORT
        case _:
            assert_never(ended.outcome)


def _verdict(outcome: Outcome, reason: Reason | None, ended: Ended, sounded: timedelta) -> Verdict:
    return Verdict(
        outcome=outcome,
        reason=reason,
        evidence=_evidence(ended.standing),
        started_at=ended.started_at,
        ended_at=ended.ended_at,
        sounded=sounded,
        cut_by=ended.cut_by,
    )


def _weigh_missed(missed: NotPlayed, started: Started | None) -> Verdict:
    if started is not None:  # began, and then the device lost it: power went, say
        outcome = Outcome.CUT
    elif missed.reason is MissReason.UNSUPPORTED:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.MISSED
    return Verdict(
        outcome=outcome,
        reason=missed.reason.name.lower(),
        evidence=_evidence(missed.standing),
        started_at=started.started_at if started is not None else None,
        cut_by=missed.cut_by,
    )


def _weigh_silence(expected: Expected, circumstances: Circumstances) -> Verdict:
    """Nobody said anything about this emission: say what is known of the device instead."""
    if not circumstances.has_plan and circumstances.refusal is not None:
        return Verdict(
            outcome=Outcome.REFUSED,
            reason=circumstances.refusal.name.lower(),
            evidence=_evidence(circumstances.refused_by),
        )
    return Verdict(outcome=Outcome.UNKNOWN, reason=_why_silent(expected, circumstances))


def _why_silent(expected: Expected, circumstances: Circumstances) -> Reason:
    heard_at = circumstances.last_heard_at
    if circumstances.issued_at is None:
        return Reason.NOT_ISSUED
    if heard_at is None:
        return Reason.NEVER_HEARD
    if not circumstances.has_plan:
        return Reason.OFFLINE if heard_at < circumstances.issued_at else Reason.NO_PLAN
    if heard_at < expected.ends_at:
        return Reason.OFFLINE
    return Reason.NO_REPORT if circumstances.is_clock_trusted else Reason.CLOCK_UNTRUSTED
