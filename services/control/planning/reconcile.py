"""What became of one emission: planned against reported. Pure; every verdict says on what and why.

A verdict rests on reports of the device itself where there are any, else on those of the gateway it is assigned to,
which are evidence of their own class: a bridge knows what it sent, not what sounded (R-28). Reports of anybody else
count for nothing.

Reports come late, twice or in any order; weighing is a function of the set of reports, so it is simply done again
whenever one more arrives. Without a final report there is no verdict until `PATIENCE` after the end of the slot, or after
the latest end of what may have begun anew; then the circumstances speak. What is known to have been impossible is *missed*: no plan was signed, the device never fetched
the one that was, or had no power. Everything else is *unknown*: a device that has its plan plays it with the uplink
down, so while it is out of reach nobody can say, and its journal will. Whatever comes later only refines: a report never
takes the place of one that says more (the device's word before its gateway's, a credible end before a doubtful one).

Of a relay only what came from its source counts as sounded; what the fallback filled in is told beside it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from schemas.events import MissReason, PlayOutcome, RefusalReason
from schemas.fields import PlayReference

# An emission was played when this share of it sounded, or all but this little (never more than half of it): a decoder's
# padding or one dropped frame must not turn a bulletin into a failure.
SOUNDED_SHARE = 0.95
SOUNDED_SLACK = timedelta(seconds=1)
# Begun later than this it is late: the next speaker down the road is by then audibly out of step.
START_TOLERANCE = timedelta(seconds=2)
# How long an emission that is over waits for the device's word. The promise is a verdict within 15 minutes.
PATIENCE = timedelta(minutes=10)
VERDICT_WITHIN = timedelta(minutes=15)
# Silent for so long before its slot, a device is not just offline: somebody has to go and look.
LONG_SILENCE = timedelta(days=3)
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
    SOURCE_SILENT = "source_silent"  # of a relay: too little came from its source
    MAINS_LOST = "mains_lost"
    POWERED_OFF = "powered_off"  # down, and not for want of mains
    SILENCED = "silenced"
    PLANNED_TOO_LATE = "planned_too_late"
    NEVER_HEARD = "never_heard"
    OFFLINE = "offline"  # not heard since
    LONG_SILENT = "long_silent"  # not heard for days
    NOT_ISSUED = "not_issued"  # no plan that held it was signed in time
    NO_PLAN = "no_plan"  # was heard, but did not accept the plan that held it
    NO_REPORT = "no_report"  # had the plan, was heard afterwards, said nothing
    NO_END_REPORTED = "no_end_reported"
    CLOCK_UNTRUSTED = "clock_untrusted"
    OUTSIDE_SLOT = "outside_slot"  # says it played at another time
    WRONG_MEDIA = "wrong_media"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was planned. `may_restart`: if it is cut, it begins anew until its latest start, for its whole length."""

    starts_at: datetime
    ends_at: datetime
    latest_start_at: datetime
    media_sha256: bytes | None = None
    is_stopped: bool = False
    is_relay: bool = False
    may_restart: bool = False

    def over_at(self, *, has_begun: bool) -> datetime:
        """When it is over at the latest. What has not begun in time joins in progress, and ends with its slot."""
        if not (has_begun and self.may_restart):
            return self.ends_at
        return self.ends_at + (self.latest_start_at - self.starts_at)


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
    """The play is over.

    `sounded` is what the device claims, over all parts; `samples` is what the claim rests on; `fallback` is how much of
    `sounded` was not the source of a relay.
    """

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
    fallback: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPlayed(_Report):
    """The device says it did not play at all."""

    reason: MissReason
    cut_by: PlayReference | None = None


Report = Started | Ended | NotPlayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The device was down from its last sign of life before a start until that start, by its own word.

    `is_mains`: for want of mains, and not because somebody or a watchdog restarted it.
    """

    since: datetime
    until: datetime
    is_mains: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of the device apart from its word about this emission.

    `issued_at` is when the first plan that held the emission was signed; `has_plan` whether the device accepted such a
    plan in time; `refusal` why not, and `refused_by` whose word that is. `outage` is one that touches the slot;
    `is_without_mains` whether mains were lost, and not reported back, by the end of the slot.
    """

    last_heard_at: datetime | None
    issued_at: datetime | None
    has_plan: bool
    refusal: RefusalReason | None = None
    refused_by: Standing = Standing.DEVICE
    is_clock_trusted: bool = True
    outage: Outage | None = None
    is_without_mains: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an emission.

    `late_by`: how long after its slot it began, if audibly. `is_resumed`: of what something cut into, whether it went on
    afterwards. `sounded` holds everything that was heard, `fallback` how much of that was not a relay's source.
    """

    outcome: Outcome
    reason: str | None = None
    evidence: Evidence | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    sounded: timedelta | None = None
    late_by: timedelta | None = None
    cut_by: PlayReference | None = None
    is_resumed: bool | None = None
    fallback: timedelta | None = None

    def __post_init__(self) -> None:
        if self.outcome in {Outcome.PLAYED, Outcome.LATE, Outcome.CUT} and self.evidence is None:
            raise ValueError(f"{self.outcome} rests on somebody's word")
        if (self.reason is None) != (self.outcome in {Outcome.PLAYED, Outcome.LATE}):
            raise ValueError("exactly what was not simply played has a reason")
        if self.outcome is Outcome.LATE and self.late_by is None:
            raise ValueError("what is late is late by something")


def weigh(
    expected: Expected, reports: Iterable[Report], circumstances: Circumstances, *, now: datetime
) -> Verdict | None:
    """Return what became of the emission by all that is known at `now`, or None while it is too early to say."""
    counted = _counted(reports)
    impossible = _impossible(expected, circumstances)
    if impossible is not None and _outweighs(impossible, counted):
        return impossible if now >= expected.ends_at + PATIENCE else None
    ended = _best_end(expected, counted)
    missed = _first_miss(counted)
    started = _first_start(counted)
    if ended is not None and (missed is None or _doubt(expected, ended) is None):
        return _weigh_ended(expected, ended, circumstances)
    if missed is not None:
        return _weigh_missed(expected, missed, started, circumstances)
    if now < expected.over_at(has_begun=started is not None) + PATIENCE:
        return None
    if started is not None:
        return _weigh_begun(expected, started, circumstances)
    return _weigh_silence(expected, circumstances)


def began(reports: Iterable[Report]) -> datetime | None:
    """Return since when the emission sounds, by the reports that count, if it has begun."""
    started = _first_start(_counted(reports))
    return started.started_at if started is not None else None


def _counted(reports: Iterable[Report]) -> Sequence[Report]:
    """The reports that count: the device's own, else its gateway's."""
    known = tuple(reports)
    own = [report for report in known if report.standing is Standing.DEVICE]
    return own or [report for report in known if report.standing is Standing.GATEWAY]


# What is chosen among several reports depends on what they say, never on which came first.


def _first_start(reports: Sequence[Report]) -> Started | None:
    starts = [report for report in reports if isinstance(report, Started)]
    return min(starts, key=lambda start: (not start.is_clock_trusted, start.started_at), default=None)


def _first_miss(reports: Sequence[Report]) -> NotPlayed | None:
    misses = [report for report in reports if isinstance(report, NotPlayed)]
    return min(misses, key=lambda miss: (miss.reason, _order(miss.cut_by)), default=None)


def _best_end(expected: Expected, reports: Sequence[Report]) -> Ended | None:
    """The end that lies last, because an earlier one was followed by a resumption; a credible one before a doubtful."""
    ends = [report for report in reports if isinstance(report, Ended)]
    return max(
        ends,
        key=lambda end: (
            _doubt(expected, end) is None,
            end.is_clock_trusted,
            end.ended_at,
            _proven(end),
            end.started_at,
            end.outcome,
            end.interruptions,
            end.fallback,
            -1 if end.volume_percent is None else end.volume_percent,
            _order(end.cut_by),
            end.media_sha256 or b"",
        ),
        default=None,
    )


def _order(reference: PlayReference | None) -> tuple[bytes, int, int]:
    """As arbitration orders references; nobody first."""
    if reference is None:
        return (b"", 0, 0)
    return (
        reference.id.bytes + bytes([reference.source]),
        reference.occurrence_at_ms or 0,
        reference.item or 0,
    )


def _evidence(standing: Standing) -> Evidence:
    return Evidence.DEVICE if standing is Standing.DEVICE else Evidence.GATEWAY


def _late_by(expected: Expected, started_at: datetime) -> timedelta | None:
    """How long after its slot it began, if anybody hears the difference."""
    lateness = started_at - expected.starts_at
    return lateness if lateness > START_TOLERANCE else None


def _weigh_ended(expected: Expected, ended: Ended, circumstances: Circumstances) -> Verdict:
    heard = _proven(ended)
    fallback = min(ended.fallback, heard) if expected.is_relay else timedelta(0)
    sounded = heard - fallback
    late_by = _late_by(expected, ended.started_at)
    is_in_time = ended.started_at <= expected.latest_start_at + START_TOLERANCE
    # Who joins late cannot play what is over; that it was late is said by the outcome.
    length = expected.ends_at - max(ended.started_at, expected.starts_at)
    reason: str | None = None
    if (doubt := _doubt(expected, ended)) is not None:
        outcome, reason = Outcome.UNKNOWN, doubt
    elif ended.volume_percent == 0:
        outcome, reason = Outcome.MISSED, Reason.SILENCED
    elif is_in_time and _is_enough(sounded, length):
        outcome = Outcome.PLAYED if late_by is None else Outcome.LATE
    else:
        outcome = Outcome.CUT if sounded > timedelta(0) or _was_cut_off(ended) else Outcome.MISSED
        if not is_in_time:
            reason = Reason.TOO_LATE
        elif _is_enough(heard, length):
            reason = Reason.SOURCE_SILENT
        else:
            reason = _why_short(expected, ended, circumstances)
    return Verdict(
        outcome=outcome,
        reason=reason,
        evidence=_evidence(ended.standing),
        started_at=ended.started_at,
        ended_at=ended.ended_at,
        sounded=heard,
        late_by=late_by,
        cut_by=ended.cut_by,
        is_resumed=_is_resumed(ended),
        fallback=fallback if expected.is_relay else None,
    )


def _was_cut_off(ended: Ended) -> bool:
    """Whether it sounded and lost its power: how much is not known then, because nothing was written down in time."""
    return ended.outcome is PlayOutcome.FAILED and ended.interruptions > 0


def _is_resumed(ended: Ended) -> bool | None:
    if not ended.interruptions and ended.cut_by is None and ended.outcome is not PlayOutcome.CUT:
        return None
    return ended.outcome not in {PlayOutcome.CUT, PlayOutcome.FAILED}


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


def _why_short(expected: Expected, ended: Ended, circumstances: Circumstances) -> Reason:
    match ended.outcome:
        case PlayOutcome.CUT:
            return Reason.OUTRANKED
        case PlayOutcome.FAILED:
            # A player that was cut off from its power has not failed.
            return Reason.PLAYER_FAILED if circumstances.outage is None else _why_down(circumstances.outage)
        case PlayOutcome.STOPPED:
            return Reason.TAKEN_BACK if expected.is_stopped else Reason.STOPPED
        case PlayOutcome.COMPLETED:
            return Reason.INTERRUPTED if ended.interruptions or ended.cut_by is not None else Reason.SHORT
        case _:
            assert_never(ended.outcome)


def _why_down(outage: Outage) -> Reason:
    return Reason.MAINS_LOST if outage.is_mains else Reason.POWERED_OFF


def _weigh_missed(
    expected: Expected, missed: NotPlayed, started: Started | None, circumstances: Circumstances
) -> Verdict:
    if started is not None:  # began, and then the device lost it: power went, say
        outcome = Outcome.CUT
    elif missed.reason is MissReason.UNSUPPORTED:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.MISSED
    reason = missed.reason.name.lower()
    if missed.reason is MissReason.POWERED_OFF and circumstances.outage is not None:
        reason = _why_down(circumstances.outage)
    return Verdict(
        outcome=outcome,
        reason=reason,
        evidence=_evidence(missed.standing),
        started_at=started.started_at if started is not None else None,
        late_by=_late_by(expected, started.started_at) if started is not None else None,
        cut_by=missed.cut_by,
        is_resumed=False if started is not None else None,
    )


def _weigh_begun(expected: Expected, started: Started, circumstances: Circumstances) -> Verdict:
    """It began, and nobody said how it ended."""
    outage = circumstances.outage
    ended_at: datetime | None
    if outage is not None and started.started_at < outage.until and outage.until >= expected.ends_at:
        # What a device writes down of being alive may be older than its last sound.
        outcome, reason, ended_at = Outcome.CUT, _why_down(outage), max(outage.since, started.started_at)
    else:
        outcome, reason, ended_at = Outcome.UNKNOWN, Reason.NO_END_REPORTED, None
    return Verdict(
        outcome=outcome,
        reason=reason,
        evidence=_evidence(started.standing),
        started_at=started.started_at,
        ended_at=ended_at,
        late_by=_late_by(expected, started.started_at),
        is_resumed=False if outcome is Outcome.CUT else None,
    )


def _impossible(expected: Expected, circumstances: Circumstances) -> Verdict | None:
    """What somebody said that rules the emission out: its plan was refused, or the device had no power."""
    if not circumstances.has_plan and circumstances.refusal is not None:
        return Verdict(
            outcome=Outcome.REFUSED,
            reason=circumstances.refusal.name.lower(),
            evidence=_evidence(circumstances.refused_by),
        )
    outage = circumstances.outage
    if outage is not None and outage.since <= expected.starts_at and outage.until > expected.latest_start_at:
        return Verdict(outcome=Outcome.MISSED, reason=_why_down(outage), evidence=Evidence.DEVICE)
    return None


def _outweighs(impossible: Verdict, reports: Sequence[Report]) -> bool:
    """Whether nobody said more about the emission: nobody at all, or a gateway against the device's own word."""
    return not reports or (impossible.evidence is Evidence.DEVICE and reports[0].standing is Standing.GATEWAY)


def _weigh_silence(expected: Expected, circumstances: Circumstances) -> Verdict:
    """Nobody said anything about this emission: say what is known of the device instead."""
    reason, is_certain = _why_silent(expected, circumstances)
    return Verdict(outcome=Outcome.MISSED if is_certain else Outcome.UNKNOWN, reason=reason)


def _why_silent(expected: Expected, circumstances: Circumstances) -> tuple[Reason, bool]:
    """The reason, and whether it is certain that nothing of the emission sounded."""
    heard_at = circumstances.last_heard_at
    if circumstances.issued_at is None:
        return Reason.NOT_ISSUED, True
    if not circumstances.has_plan:
        if heard_at is None:
            return Reason.NEVER_HEARD, True
        if heard_at < circumstances.issued_at:
            return Reason.OFFLINE, True
        # Heard after the last moment to begin, it told of an older plan; before that it may have fetched it still.
        return Reason.NO_PLAN, heard_at > expected.latest_start_at
    if heard_at is None:
        return Reason.NEVER_HEARD, False
    if heard_at >= expected.ends_at:
        if expected.is_stopped:
            # What sounds when it is taken back is told of; what a device could not begin until then leaves no word.
            return Reason.TAKEN_BACK, True
        return Reason.NO_REPORT if circumstances.is_clock_trusted else Reason.CLOCK_UNTRUSTED, False
    if circumstances.is_without_mains:
        return Reason.MAINS_LOST, False
    return Reason.LONG_SILENT if heard_at < expected.starts_at - LONG_SILENCE else Reason.OFFLINE, False
