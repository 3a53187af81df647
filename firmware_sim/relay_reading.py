"""Reading a relay source from the province's relay point: which list is believed, what to fetch, what sounds now (R-21).

Pure: bytes and instants in, values out; `relay_tuner` does what they say. The rules are those of `schemas/README.md`,
section "Relays": at the instant `now` of its clock a device sounds the instant `now` - `delay_ms` of the source, so that
clusters are in step whenever they got their segments. A segment sounds only if it stands in a list that is signed, for
this source and not out of date, and if its bytes have the hash and the size that stand there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from firmware_sim import trust
from firmware_sim.clock import Moment
from firmware_sim.trust import Refusal, Trust
from schemas.events import RefusalReason
from schemas.plans import RelayReference
from schemas.relays import RelayState, Segment, SegmentList

FETCHES_AT_ONCE = 2
FIRST_ASK_MS = 2_000  # between two asks while there is no list yet
UNREACHABLE_ASK_MS = 10_000  # while the relay point cannot be reached; at most so, while it cannot reach the source
RETRY_MS = 1_000  # between two attempts to fetch a segment: its time comes soon or not at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a device knows of one source. Sequence numbers name segments; `ready` ones are at hand, verified, decoded."""

    source: RelayReference
    phase: float  # in [0, 1): spreads the asking of a fleet
    newest: SegmentList | None = None
    ready: frozenset[int] = frozenset()
    fetching: frozenset[int] = frozenset()
    retry_at_ms: Mapping[int, int] = field(default_factory=dict)  # uptime
    is_asking: bool = False
    ask_at_ms: int = 0  # uptime
    trouble: str = "nothing was heard of it yet"


def asked(reading: Reading) -> Reading:
    """The reading while an answer of the relay point is under way."""
    return replace(reading, is_asking=True)


def listed(reading: Reading, message: bytes, known: Trust, *, now: Moment) -> tuple[Reading, Refusal | None]:
    """The reading after a list came in, and why it was not believed, if so."""
    verdict = _judge(reading, message, known, now=now)
    if isinstance(verdict, Refusal):
        trouble = f"its list was refused: {verdict.reason.name.lower()}"
        return _answered(replace(reading, trouble=trouble), FIRST_ASK_MS, now=now), verdict
    named = {segment.sequence for segment in verdict.segments}
    taken = replace(
        reading,
        newest=verdict,
        ready=reading.ready & named,
        fetching=reading.fetching & named,
        retry_at_ms={number: at_ms for number, at_ms in reading.retry_at_ms.items() if number in named},
        trouble=_TROUBLES[verdict.state],
    )
    is_out = verdict.state is RelayState.UNREACHABLE
    # Often enough to know of its return before its first sound is due: everybody is back in step then.
    away_ms = max(verdict.segment_ms, min(UNREACHABLE_ASK_MS, verdict.delay_ms // 2))
    return _answered(taken, away_ms if is_out else verdict.segment_ms, now=now), None


def unchanged(reading: Reading, *, now: Moment) -> Reading:
    """The reading after the relay point had nothing newer."""
    return _answered(reading, FIRST_ASK_MS if reading.newest is None else reading.newest.segment_ms, now=now)


def unanswered(reading: Reading, detail: str, *, is_reachable: bool, now: Moment) -> Reading:
    """The reading after an ask that brought no list: refused by a relay point that is there, or never answered."""
    wait_ms = FIRST_ASK_MS if is_reachable else UNREACHABLE_ASK_MS
    return _answered(replace(reading, trouble=detail), wait_ms, now=now)


_TROUBLES = {
    RelayState.ON_AIR: "the segment of this moment is not there",
    RelayState.SILENT: "the source is silent",
    RelayState.UNREACHABLE: "the relay point does not reach the source",
}


def _answered(reading: Reading, interval_ms: int, *, now: Moment) -> Reading:
    """Ask again at the next instant of the device's own grid, so that a fleet does not ask at once."""
    phase_ms = round(reading.phase * interval_ms)
    due_ms = (now.uptime_ms - phase_ms) // interval_ms * interval_ms + interval_ms + phase_ms
    return replace(reading, is_asking=False, ask_at_ms=due_ms)


def _judge(reading: Reading, message: bytes, known: Trust, *, now: Moment) -> SegmentList | Refusal:
    """The list in `message` if it is signed, of this source, not older than the last one, and of now."""
    segments = trust.verify_segments(message, known)
    if isinstance(segments, Refusal):
        return segments
    if segments.source_id != reading.source.source_id:
        return Refusal(reason=RefusalReason.FOREIGN_AUDIENCE, detail=f"of {segments.source_id}")
    if reading.newest is not None and segments.issued_at_ms < reading.newest.issued_at_ms:
        return Refusal(reason=RefusalReason.REPLAYED, detail=f"issued {segments.issued_at_ms}")
    return trust.out_of_window(segments, None, known, now=now) or segments


# --- segments --------------------------------------------------------------------------------------------------------


def begin_fetch(reading: Reading, *, now: Moment) -> tuple[Reading, tuple[Segment, ...]]:
    """The segments to fetch now: those that are still to sound, the first to sound first. Silence is not fetched."""
    if reading.newest is None or not _is_current(reading.newest, now):
        return reading, ()
    position_ms = _position_ms(reading.newest, now)
    room = FETCHES_AT_ONCE - len(reading.fetching)
    begun = [
        segment
        for segment in reading.newest.segments
        if segment.ends_at_ms > position_ms
        and not segment.silent
        and segment.sequence not in reading.ready
        and segment.sequence not in reading.fetching
        and reading.retry_at_ms.get(segment.sequence, 0) <= now.uptime_ms
    ][: max(0, room)]
    if not begun:
        return reading, ()
    return replace(reading, fetching=reading.fetching | {segment.sequence for segment in begun}), tuple(begun)


def fetched(reading: Reading, segment: Segment) -> Reading:
    """The reading with one more segment at hand, if it is still of use."""
    if segment.sequence not in reading.fetching:
        return reading
    return replace(reading, fetching=reading.fetching - {segment.sequence}, ready=reading.ready | {segment.sequence})


def failed(reading: Reading, segment: Segment, detail: str, *, now: Moment) -> Reading:
    """The reading after a segment did not come in, or not as it was signed."""
    return replace(
        reading,
        fetching=reading.fetching - {segment.sequence},
        retry_at_ms={**reading.retry_at_ms, segment.sequence: now.uptime_ms + RETRY_MS},
        trouble=detail,
    )


def position_ms(reading: Reading, *, now: Moment) -> int | None:
    """Which instant of the source sounds now; None without a list."""
    return None if reading.newest is None else _position_ms(reading.newest, now)


def at_position(reading: Reading, *, now: Moment) -> Segment | None:
    """The segment that sounds now; None when the source is silent, for whatever reason."""
    if reading.newest is None or not _is_current(reading.newest, now):
        return None
    position = _position_ms(reading.newest, now)
    return next(
        (
            segment
            for segment in reading.newest.segments
            if segment.starts_at_ms <= position < segment.ends_at_ms
            and not segment.silent
            and segment.sequence in reading.ready
        ),
        None,
    )


def next_look_ms(reading: Reading, *, now: Moment) -> int | None:
    """Milliseconds until something changes by itself, at least 1; None while everything waits for an answer."""
    waits: list[int] = [] if reading.is_asking else [reading.ask_at_ms - now.uptime_ms]
    if reading.newest is not None and _is_current(reading.newest, now):
        position = _position_ms(reading.newest, now)
        waits.append(reading.newest.valid_until_ms - now.at_ms)
        borders = (at_ms for each in reading.newest.segments for at_ms in (each.starts_at_ms, each.ends_at_ms))
        waits.extend(border - position for border in borders if border > position)
        if len(reading.fetching) < FETCHES_AT_ONCE:
            waits.extend(at_ms - now.uptime_ms for at_ms in reading.retry_at_ms.values() if at_ms > now.uptime_ms)
    return max(1, min(waits)) if waits else None


def _position_ms(segments: SegmentList, now: Moment) -> int:
    return now.at_ms - segments.delay_ms


def _is_current(segments: SegmentList, now: Moment) -> bool:
    return segments.valid_until_ms > now.at_ms
