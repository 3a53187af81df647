"""What the platform says became of the month's emissions: the real weighing of the real reports, and whether it is right.

`services.control.reconciler` and the queries of its store are done here with lists: which reports are about which
emission, and what is known of a device apart from them. The verdicts are `reconcile.weigh`'s own. Each emission is weighed
when its time is up and again when everything has arrived.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schemas import codec, wire
from schemas.events import (
    Booted,
    MessageKind,
    PlanAccepted,
    PlayEnded,
    PlayMissed,
    PlayStarted,
    PowerChanged,
    RefusalReason,
    Refused,
)
from schemas.fields import ClockState
from schemas.identifiers import BroadcastId
from services.control.planning.changes import EmissionKey
from services.control.planning.model import from_ms, to_ms
from services.control.planning.reconcile import (
    PATIENCE,
    Circumstances,
    Expected,
    Outage,
    Outcome,
    Reason,
    Report,
    Standing,
    Verdict,
    weigh,
)
from services.control.planning.reports import PowerReport, read_power, read_report
from services.control.reconciler import EXPLAINS
from services.ingest import stamps
from services.ingest.stamps import TimeSource, TimeWindow
from services.local.bench.month_device import Story
from services.local.bench.month_facts import MINUTE, Key, Site, Span
from services.local.bench.month_office import Downlink, Row

# What a verdict of "unknown" may rest on where something was wrong with the device: it could not be told, so it played
# what an older plan held; it could not tell; or it did not know the time.
_HONEST = frozenset({Reason.OFFLINE, Reason.NO_PLAN, Reason.CLOCK_UNTRUSTED, Reason.OUTSIDE_SLOT, Reason.WRONG_MEDIA})


@dataclass(slots=True)
class Proof:
    """Verdicts counted by outcome and by reason, and those that nothing bears out."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    unexplained: Counter[str] = field(default_factory=Counter)
    revised: int = 0  # by reports that came later
    examples: list[str] = field(default_factory=list)

    def add(self, other: Proof) -> None:
        """Count another's as well."""
        self.outcomes.update(other.outcomes)
        self.reasons.update(other.reasons)
        self.unexplained.update(other.unexplained)
        self.revised += other.revised
        self.examples += other.examples


@dataclass(frozen=True, slots=True, kw_only=True)
class _Power:
    at: datetime
    received_ms: int
    told: PowerReport


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    at: datetime
    received_ms: int
    serial: int | None
    refusal: RefusalReason | None

    def holds(self, plan: Downlink) -> bool:
        """Whether it is about this plan or a later one."""
        return self.serial is not None and self.serial >= plan.serial


def prove(site: Site, rows: Mapping[EmissionKey, Row], downlinks: Sequence[Downlink], story: Story) -> Proof:
    """Weigh every emission of a device that still stands on record."""
    read = _read(story)
    told = _Told(downlinks, read, story)
    sounded: dict[Key, int] = defaultdict(int)
    for sound in story.sounded:
        sounded[sound.key] += sound.to_ms - sound.from_ms
    proof = Proof()
    for key, row in rows.items():
        if row.is_withdrawn:
            continue
        if row.is_lapsed:
            proof.outcomes[Outcome.MISSED] += 1
            proof.reasons[f"{Outcome.MISSED}: {Reason.PLANNED_TOO_LATE}"] += 1
            continue
        expected = Expected(
            starts_at=row.slot.starts_at,
            ends_at=row.slot.ends_at,
            latest_start_at=row.slot.latest_start_at,
            media_sha256=row.slot.media.sha256 if row.slot.media is not None else None,
            is_stopped=row.stopped_at is not None,
            is_relay=row.slot.relay is not None,
        )
        received = read.reports.get((key[0], to_ms(key[1]), key[2]), [])
        first, last = _verdicts(expected, received, told, row)
        proof.revised += first is None or last is None or first.outcome is not last.outcome
        silent = sounded.get((key[0], to_ms(key[1]), key[2]), 0) == 0
        doubt = _doubt(first, last, row, told, site, story, is_silent=silent)
        if last is not None:
            proof.outcomes[last.outcome] += 1
            if last.reason is not None:
                proof.reasons[f"{last.outcome}: {last.reason}"] += 1
        if doubt is not None:
            proof.unexplained[doubt] += 1
            proof.examples.append(f"{doubt}: {site.name}, {key[0]}, {key[1].isoformat()}, item {key[2]}")
    proof.examples = proof.examples[:3]
    return proof


def _verdicts(
    expected: Expected, received: Sequence[_Received], told: _Told, row: Row
) -> tuple[Verdict | None, Verdict | None]:
    """What is said within the time that is promised, and what is said in the end.

    An emission is weighed with every report about it and when its time is up; one that nobody reported also when its
    device has told something that may explain the silence.
    """
    due_ms = to_ms(expected.ends_at + PATIENCE)
    early = [each for each in received if each[0] <= due_ms]
    first = _weighed(expected, early, told, row, at_ms=early[-1][0]) if early else None
    if first is None:
        first = _weighed(expected, early, told, row, at_ms=due_ms)
    if len(early) < len(received):
        return first, _weighed(expected, received, told, row, at_ms=received[-1][0])
    explained_ms = told.explained_ms(after_ms=due_ms, before_ms=to_ms(expected.starts_at + EXPLAINS))
    if received or explained_ms is None:
        return first, first
    return first, _weighed(expected, received, told, row, at_ms=explained_ms)


def _weighed(expected: Expected, received: Sequence[_Received], told: _Told, row: Row, *, at_ms: int) -> Verdict | None:
    return weigh(expected, [report for _, report in received], told.of(row, now_ms=at_ms), now=from_ms(at_ms))


def _doubt(
    first: Verdict | None, last: Verdict | None, row: Row, told: _Told, site: Site, story: Story, *, is_silent: bool
) -> str | None:
    """Why a verdict explains nothing, or says what was not so."""
    if first is None or last is None:
        return "no verdict"
    if last.outcome in {Outcome.PLAYED, Outcome.LATE} and is_silent:
        return "played, they say, and nothing sounded"
    if last.outcome in {Outcome.MISSED, Outcome.REFUSED} and not is_silent and not _counts_as_nothing(last, row):
        return "missed, they say, and something sounded"
    if last.outcome is not Outcome.UNKNOWN:
        return None
    if last.reason not in _HONEST:
        return f"unknown: {last.reason}"
    issued_ms = told.issued_ms(row)
    if issued_ms is None or not _had_trouble(site, story, (issued_ms, to_ms(row.slot.ends_at) + MINUTE)):
        return f"unknown: {last.reason}, and nothing was wrong with the device"
    return None


def _counts_as_nothing(verdict: Verdict, row: Row) -> bool:
    """Whether what sounded began too late to count, or was not the source of a relay."""
    return verdict.reason == Reason.TOO_LATE or (row.slot.relay is not None and verdict.reason == Reason.SOURCE_SILENT)


def _had_trouble(site: Site, story: Story, span: Span) -> bool:
    """Whether the device was without power, network or a right clock at some time of a span."""
    from_ms, to_ms_ = span
    troubles = [*site.luck.offline, *((down.from_ms, down.to_ms) for down in site.luck.downs)]
    if any(begins < to_ms_ and from_ms < ends for begins, ends in troubles):
        return True
    clock = story.clock
    pieces = range(max(0, clock.piece(from_ms)), clock.piece(to_ms_) + 1)
    return any(clock.is_off[piece] or clock.state[piece] != 0 for piece in pieces)


# --- what arrived ----------------------------------------------------------------------------------------------------

_WINDOW = TimeWindow()
_Received = tuple[int, Report]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What ingest stored of a device, as the proof reads it."""

    reports: Mapping[tuple[BroadcastId, int, int], Sequence[_Received]]
    answers: Sequence[_Answer]
    power: Sequence[_Power]


def _read(story: Story) -> _Read:
    """The reports about each emission, and what the device said to plans and of its power."""
    reports: dict[tuple[BroadcastId, int, int], list[_Received]] = defaultdict(list)
    answers: list[_Answer] = []
    power: list[_Power] = []
    for number, arrived in enumerate(story.arrived, start=1):
        event = codec.decode_event(arrived.body)
        stamp = stamps.stamp(event.device_at_ms, event.clock, now=from_ms(arrived.at_ms), window=_WINDOW)
        is_clock_trusted = event.clock is not ClockState.UNSYNCHRONISED and stamp.source is TimeSource.DEVICE
        match event:
            case PlayStarted() | PlayEnded() | PlayMissed():
                reference = event.reference
                if reference.occurrence_at_ms is None or reference.item is None:
                    continue  # ordered by a command
                report = read_report(
                    event.type.name.lower(),
                    wire.to_json(event),
                    event_no=number,
                    standing=Standing.DEVICE,
                    is_clock_trusted=is_clock_trusted,
                )
                assert report is not None
                key = (BroadcastId(reference.id), reference.occurrence_at_ms, reference.item)
                reports[key].append((arrived.at_ms, report))
            case PlanAccepted(serial=serial):
                answers.append(_Answer(at=stamp.at, received_ms=arrived.at_ms, serial=serial, refusal=None))
            case Refused(refused=MessageKind.PLAN, reason=reason, serial=serial):
                answers.append(_Answer(at=stamp.at, received_ms=arrived.at_ms, serial=serial, refusal=reason))
            case Booted() | PowerChanged() if is_clock_trusted:
                told = read_power(event.type.name.lower(), wire.to_json(event))
                assert told is not None
                power.append(_Power(at=stamp.at, received_ms=arrived.at_ms, told=told))
            case _:
                pass
    return _Read(reports=reports, answers=answers, power=sorted(power, key=lambda each: each.at))


class _Told:
    """What the platform knows of one device apart from its reports, at any instant."""

    def __init__(self, downlinks: Sequence[Downlink], read: _Read, story: Story) -> None:
        self._plans = [each for each in downlinks if each.sent.is_plan]
        self._answers = read.answers
        self._power = read.power
        self._heard = sorted(story.heard, key=lambda each: each.at_ms)
        self._heard_at = [each.at_ms for each in self._heard]
        self._spoke_at = sorted(each.at_ms for each in story.arrived)
        told_at = [answer.received_ms for answer in read.answers] + [power.received_ms for power in read.power]
        self._explained_at = sorted(told_at)

    def issued_ms(self, row: Row) -> int | None:
        """When the first plan that holds an emission was signed."""
        held = self._held(row)
        return None if held is None else held.sent.issued_ms

    def explained_ms(self, *, after_ms: int, before_ms: int) -> int | None:
        """When the device last told something, between two instants, that may explain why it said nothing else."""
        place = bisect_right(self._explained_at, before_ms)
        return self._explained_at[place - 1] if place and self._explained_at[place - 1] > after_ms else None

    def of(self, row: Row, *, now_ms: int) -> Circumstances:
        """The circumstances of an emission."""
        held = self._held(row)
        place = bisect_right(self._heard_at, now_ms)
        beat = self._heard[place - 1] if place else None
        spoke = bisect_right(self._spoke_at, now_ms)
        last_ms = max(beat.at_ms if beat else 0, self._spoke_at[spoke - 1] if spoke else 0)
        has_plan, refusal = False, None
        if held is not None:
            answers = [each for each in self._answers if each.received_ms <= now_ms]
            taken = [each.at < row.slot.ends_at for each in answers if each.refusal is None and each.holds(held)]
            # A heartbeat of today says nothing about then, when the plan is known to have been taken only afterwards.
            shown = beat is not None and beat.plan_serial is not None and beat.plan_serial >= held.serial
            has_plan = any(taken) or (shown and all(taken))
            refused = [
                each.refusal
                for each in answers
                if each.refusal is not None and from_ms(held.sent.issued_ms) <= each.at < row.slot.ends_at
            ]
            refusal = refused[-1] if refused else None
        is_clock_trusted = True
        if beat is not None:
            stamp = stamps.stamp(beat.device_at_ms, beat.clock, now=from_ms(beat.at_ms), window=_WINDOW)
            is_clock_trusted = beat.clock is not ClockState.UNSYNCHRONISED and stamp.source is TimeSource.DEVICE
        outage, is_without_mains = self._outage(row, now_ms=now_ms)
        return Circumstances(
            last_heard_at=from_ms(last_ms) if last_ms else None,
            issued_at=from_ms(held.sent.issued_ms) if held is not None else None,
            has_plan=has_plan,
            refusal=refusal,
            is_clock_trusted=is_clock_trusted,
            outage=outage,
            is_without_mains=is_without_mains,
        )

    def _outage(self, row: Row, *, now_ms: int) -> tuple[Outage | None, bool]:
        """The first outage that touches a slot, and whether mains were away at its end, as far as was told."""
        known = [each for each in self._power if each.received_ms <= now_ms]
        before = [each for each in known if each.at < row.slot.ends_at]
        is_without_mains = bool(before) and not before[-1].told.is_boot and not before[-1].told.is_mains
        for index, each in enumerate(known):
            up_until = each.told.up_until
            if (
                each.told.is_boot
                and up_until is not None
                and up_until < row.slot.ends_at
                and each.at > row.slot.starts_at
            ):
                was = known[index - 1].told if index else None
                is_of_mains = each.told.is_mains or (was is not None and not was.is_boot and not was.is_mains)
                return Outage(since=up_until, until=each.at, is_mains=is_of_mains), is_without_mains
        return None, is_without_mains

    def _held(self, row: Row) -> Downlink | None:
        """The first plan that held an emission: signed after it took its present form, and reaching as far."""
        planned_ms, starts_ms, ends_ms = (
            to_ms(each) for each in (row.planned_at, row.slot.starts_at, row.slot.ends_at)
        )
        return next(
            (
                each
                for each in self._plans
                if planned_ms <= each.sent.issued_ms < ends_ms and each.sent.valid_until_ms > starts_ms
            ),
            None,
        )
