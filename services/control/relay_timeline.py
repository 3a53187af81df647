"""From a live source's samples to segments with a place in time, and what was heard in them. Pure.

The samples are the clock while a source keeps pace: segment follows segment without a gap, however unevenly the network
delivers. Only when the two clocks have drifted apart, or the source paused, does a segment begin where time really is,
and the gap is there for everybody to see.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas import limits
from schemas.relays import RelayState, Segment, SegmentList

# How far the samples may fall behind the clock. Less than what the start-up delay of devices leaves; more than a mobile
# network's pauses, after which the rest comes at once.
MAX_LATE_MS = 1_500
LEVEL_MS = 100  # one level is measured over this much sound
SILENCE_DBFS = -120.0  # of digital silence, whose level has no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a segment lies, and how long to wait before it is handed out: the source may be ahead of the clock."""

    starts_at_ms: int
    wait_ms: int


def place(previous_end_ms: int | None, *, now_ms: int, duration_ms: int) -> Placed:
    """The place of a segment whose last sample has just been read at `now_ms`.

    A source that sends faster than it sounds (what a server has buffered comes at once) is made to wait, which stops it
    by the network's own back-pressure.
    """
    begins = now_ms - duration_ms if previous_end_ms is None else previous_end_ms
    late = now_ms - (begins + duration_ms)
    if late > MAX_LATE_MS or late < -duration_ms - MAX_LATE_MS:  # the second: our own clock was set back
        return Placed(starts_at_ms=now_ms - duration_ms, wait_ms=0)
    return Placed(starts_at_ms=begins, wait_ms=max(0, -late))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """What counts as silence for a source: nothing above `silence_dbfs` for `silence_after_ms`."""

    silence_dbfs: float
    silence_after_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What has been heard of a source so far."""

    since_ms: int  # when listening began
    last_sound_ms: int | None = None  # end of the newest piece above the threshold
    is_silent: bool = False


def hear(heard: Heard, levels_dbfs: Sequence[float], rule: Listening, *, starts_at_ms: int) -> Heard:
    """What has been heard once this segment is over; one level for every `LEVEL_MS` of it.

    Silent is a segment without any sound that ends when the silence has lasted as long as it may.
    """
    sounding = [index for index, level in enumerate(levels_dbfs) if level > rule.silence_dbfs]
    if sounding:
        last = starts_at_ms + (sounding[-1] + 1) * LEVEL_MS
        return replace(heard, last_sound_ms=last, is_silent=False)
    ends = starts_at_ms + len(levels_dbfs) * LEVEL_MS
    quiet_since = heard.since_ms if heard.last_sound_ms is None else max(heard.last_sound_ms, heard.since_ms)
    return replace(heard, is_silent=ends - quiet_since >= rule.silence_after_ms)


def shown(segments: Sequence[Segment], newest: Segment, *, keep: int) -> tuple[Segment, ...]:
    """The segments to list once `newest` is there. What a clock that was set back has overtaken is left out."""
    earlier = (each for each in segments if each.ends_at_ms <= newest.starts_at_ms)
    return (*earlier, newest)[-min(keep, limits.MAX_SEGMENTS) :]


def kept(*, delay_ms: int, segment_ms: int) -> int:
    """How many segments a list names: those a device still needs at its position, and some for who comes late."""
    return min(limits.MAX_SEGMENTS, -(-delay_ms // segment_ms) + 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How lists of segments are made: constant for a relay point."""

    segment_ms: int
    delay_ms: int
    valid_ms: int


def segment_list(
    source_id: uuid.UUID, state: RelayState, segments: Sequence[Segment], form: Form, *, now_ms: int
) -> SegmentList:
    """The list as it is to be signed at `now_ms`. Segments nobody can need any more are left out."""
    oldest = now_ms - form.delay_ms - form.valid_ms
    return SegmentList(
        issued_at_ms=now_ms,
        valid_from_ms=now_ms,
        valid_until_ms=now_ms + form.valid_ms,
        source_id=source_id,
        state=state,
        segment_ms=form.segment_ms,
        delay_ms=form.delay_ms,
        segments=tuple(each for each in segments if each.ends_at_ms > oldest),
    )
